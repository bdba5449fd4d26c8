//! `host status`.

use clap::Args;
use serde_json::{Value, json};

use crate::context::CommandContext;
use crate::error::CommandError;
use crate::global::Global;
use crate::show::{self, Column};
use crate::{cron as entries, lookup};
use host_core::diagnosis::facts::Failing;
use host_queue::cron;
use host_queue::inspect::failing;
use host_queue::inspect::{self, COUNT_MAX, Lag, ListedSession, QueueStatus};

/// Show queues, handlers, cron entries and hosts, and obstacles
///
/// In SQL: SELECT * FROM host.status(), host.sessions() and host.handlers().
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  host status --json | jq '.queues[] | select(.dead > 0) | .name'")]
pub(crate) struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    /// Does it.
    pub(crate) async fn run(self, global: &Global) -> Result<(), CommandError> {
        crate::context::with(global, async |context: &CommandContext| {
            let (client, (glance, handlers, sessions, cron, failing)) =
                lookup::client_and(context, async |client| {
                    let handlers = inspect::handlers(client);
                    let (sessions, cron) = (inspect::sessions(client), cron::list(client));
                    let failing = failing::handlers(client);
                    tokio::try_join!(inspect::glance(client), handlers, sessions, cron, failing)
                })
                .await?;
            let queues = inspect::status(&context.database, &client, glance).await?;
            if self.json {
                println!(
                    "{}",
                    json!({
                        "counted_up_to": COUNT_MAX,
                        "queues": queues.iter().map(queue_json).collect::<Value>(),
                        "handlers": handlers.iter().filter(|h| h.in_force)
                            .map(super::handlers::version_json).collect::<Value>(),
                        "failing": failing,
                        "cron": cron.iter().map(entries::entry_json).collect::<Value>(),
                        "hosts": sessions.iter().map(session_json).collect::<Value>(),
                    })
                );
                return Ok(());
            }
            print!("{}", queues_text(&queues));
            for Failing { queue, handler, version, calls, failed, error, .. } in &failing {
                let calls = show::plural(*calls as usize, "message");
                let error = show::one_line(error);
                println!(
                    "! {queue}/{handler} v{version}: {failed} of {calls} failed in the last 5 minutes: {error}"
                );
            }
            for handler in handlers.iter().filter(|h| h.in_force) {
                for failure in &handler.failed_on {
                    println!(
                        "! {}/{} v{}: cannot run on {}",
                        handler.queue,
                        handler.handler,
                        handler.version,
                        show::one_line(failure)
                    );
                }
            }
            print!("{}\n{}", entries::troubles(&cron), sessions_text(&sessions));
            Ok(())
        })
        .await
    }
}

/// A queue's numbers for machines.
pub(crate) fn queue_json(q: &QueueStatus) -> Value {
    let number = |n: u64| (!q.locked).then_some(n);
    json!({
        "name": q.name,
        "paused": q.paused,
        "locked": q.locked,
        "waiting": number(q.waiting),
        "in_flight": number(q.in_flight),
        "scheduled": number(q.scheduled),
        "dead": number(q.dead),
        "settled_last_minute": number(q.last_minute),
        "bytes": number(q.bytes),
        "handlers": q.handlers,
        "held_up_by": q.held,
        "lag": q.lag.iter().map(lag_json).collect::<Value>(),
    })
}

fn lag_json(l: &Lag) -> Value {
    let mut lag = json!({
        "handler": l.handler,
        "version": l.version,
        "paused": l.paused,
        "waiting": l.waiting,
        "in_flight": l.in_flight,
        "limited": l.limited,
        "refused": l.refused,
    });
    // Only a queue that keeps order has lanes to hold.
    if let Some(held) = &l.held {
        lag["held_lanes"] = held.lanes.into();
        lag["held_until"] = json!(held.until);
    }
    lag
}

/// A queue's handlers: of several, how much each has before it.
pub(crate) fn handlers_text(q: &QueueStatus) -> String {
    let one = |l: &Lag| {
        let waiting = (q.lag.len() > 1 && l.waiting > 0)
            .then(|| format!("{} waiting", show::count(l.waiting)));
        let paused = l.paused.then(|| "paused".to_owned());
        let held = l.held.as_ref().and_then(|held| {
            let until = held.until.as_ref()?;
            Some(format!("{} held until {until}", show::plural(held.lanes as usize, "lane")))
        });
        let limited = l.limited.as_ref().map(|why| format!("limited: {why}"));
        let notes: Vec<String> =
            paused.into_iter().chain(waiting).chain(held).chain(limited).collect();
        let name = format!("{} v{}", l.handler, l.version);
        if notes.is_empty() { name } else { format!("{name} ({})", notes.join(", ")) }
    };
    q.lag.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn session_json(s: &ListedSession) -> Value {
    json!({
        "session": s.id.get(),
        "host": s.host,
        "pid": s.pid,
        "version": s.version,
        "started_at": show::time(s.started_at),
        "connected": s.connected,
        "beat_age_ms": s.beat_age.map(|age| age.as_millis() as u64),
        "late": s.late,
    })
}

fn queues_text(queues: &[QueueStatus]) -> String {
    if queues.is_empty() {
        return "No queues yet: make one with `host queue create NAME`\n".into();
    }
    let columns = [
        Column::Left("QUEUE"),
        Column::Right("WAITING"),
        Column::Right("IN FLIGHT"),
        Column::Right("SCHEDULED"),
        Column::Right("DEAD"),
        Column::Right("PER MINUTE"),
        Column::Right("ON DISK"),
        Column::Left("HANDLERS"),
    ];
    let rows = queues.iter().map(|q| {
        let handlers = if q.lag.is_empty() { "none yet".to_owned() } else { handlers_text(q) };
        let known = |number: String| if q.locked { "?".to_owned() } else { number };
        vec![
            q.name.clone(),
            known(show::count(q.waiting)),
            known(q.in_flight.to_string()),
            known(show::count(q.scheduled)),
            known(show::count(q.dead)),
            known(q.last_minute.to_string()),
            known(show::bytes(q.bytes)),
            if q.paused { format!("{handlers} (queue paused)") } else { handlers },
        ]
    });
    let held = queues.iter().flat_map(|queue| {
        queue
            .held
            .iter()
            .map(|why| format!("! {}: rotation waits for {}\n", queue.name, show::one_line(why)))
    });
    let refused = queues.iter().flat_map(|queue| {
        let lags = queue.lag.iter().filter(|lag| lag.refused > 0);
        lags.map(|lag| {
            let messages = show::plural(lag.refused as usize, "message");
            format!(
                "! {}/{}: {messages} refused by the database, see `host doctor`\n",
                queue.name, lag.handler
            )
        })
    });
    let locked = queues
        .iter()
        .filter(|queue| queue.locked)
        .map(|queue| format!("! {}: its tables are locked, see `host doctor`\n", queue.name));
    show::table(&columns, rows)
        + &locked.collect::<String>()
        + &held.collect::<String>()
        + &refused.collect::<String>()
}

fn sessions_text(sessions: &[ListedSession]) -> String {
    if sessions.is_empty() {
        return "No host is running: start one with `host serve`\n".into();
    }
    let columns = [
        Column::Left("HOST"),
        Column::Right("PID"),
        Column::Left("VERSION"),
        Column::Left("UP SINCE"),
        Column::Left("LAST BEAT"),
    ];
    let rows = sessions.iter().map(|s| {
        let beat = s.beat_age.map_or("none yet".to_owned(), |a| show::duration(a) + " ago");
        vec![
            s.host.clone(),
            s.pid.to_string(),
            s.version.clone(),
            show::time(s.started_at),
            if s.connected { beat } else { format!("{beat}, not connected") },
        ]
    });
    let late = sessions.iter().filter_map(|s| {
        let late = s.late.as_ref()?;
        Some(format!("! {}/{}: {late}\n", s.host, s.pid))
    });
    show::table(&columns, rows) + &late.collect::<String>()
}
