//! The account: what became of every message, and why any was handed on. Kept in the database by
//! triggers, in the transactions that it is about; read when all faults of a deck are over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::fault_kinds::Kind;
use super::world::{Hit, World};
use crate::harness::wait_until;

/// Tables of the test's own, and the triggers that fill them: the logs go with their leaves.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS public.sent (number bigint, fate text);
    CREATE TABLE IF NOT EXISTS public.removed (number bigint, handler text);
    CREATE TABLE IF NOT EXISTS public.leased (id bigint, handler int, session int, seq bigint, messages int, leased_at timestamptz, txid bigint);
    CREATE TABLE IF NOT EXISTS public.settled (lease bigint, session int, seq int, revoked boolean, rest int, settled_at timestamptz, txid bigint);
    CREATE OR REPLACE FUNCTION public.leased() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.leased VALUES (NEW.id, NEW.handler_id, NEW.session_id, NEW.seq,
            coalesce(host.positions(NEW.positions), NEW.row_count), NEW.leased_at, txid_current());
        RETURN NULL;
    END $$;
    CREATE OR REPLACE FUNCTION public.settled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.settled SELECT NEW.lease_id, l.session_id, NEW.seq, NEW.revoked, NEW.rest, NEW.settled_at, txid_current()
            FROM host.work__lease l WHERE l.id = NEW.lease_id;
        RETURN NULL;
    END $$;
    CREATE OR REPLACE TRIGGER account AFTER INSERT ON host.work__lease
        FOR EACH ROW WHEN (NEW.row_count > 0) EXECUTE FUNCTION public.leased();
    CREATE OR REPLACE TRIGGER account AFTER INSERT ON host.work__settlement
        FOR EACH ROW EXECUTE FUNCTION public.settled()";

/// Deletes some dead letters, and notes which.
pub const PURGE: &str = "
    WITH chosen AS MATERIALIZED (
        SELECT d.id, d.payload ->> 'text' AS number, h.name FROM host.work__dead_letter d
        JOIN host.handler h ON h.id = d.handler_id ORDER BY random() LIMIT 5
    ), gone AS (
        SELECT c.number, c.name, host.work__dead_purge(ARRAY[c.id], NULL) FROM chosen c
    )
    INSERT INTO public.removed SELECT g.number::bigint, g.name FROM gone g";

/// What became of each message at each handler.
const FATES: &str = "
    SELECT split_part(payload, ' ', 1)::bigint AS number, split_part(split_part(payload, ' ', 2), '-', 1) AS handler, 'done' AS fate
        FROM queue.sink WHERE payload NOT LIKE '-%'
    UNION ALL SELECT (d.payload ->> 'text')::bigint, h.name, d.reason
        FROM host.work__dead_letter d JOIN host.handler h ON h.id = d.handler_id
    UNION ALL SELECT number, handler, 'removed' FROM public.removed";

/// What one deck came to.
#[derive(Default)]
pub struct Totals {
    messages: i64,
    follow_ups: i64,
    dead: i64,
    leases: i64,
    handed_on: i64,
    messages_handed_on: i64,
    sessions_lost: i64,
    faults: BTreeMap<Kind, u32>,
}

/// Longer than a fault silences a host without being held for dead, and it is noticed: with the
/// time that all are given when Postgres has begun anew.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// From what a fault does to when it is seen.
const A_MOMENT: Duration = Duration::from_secs(1);

/// Waits until every message has come to an end.
pub async fn wait_done(world: &World) {
    let open =
        format!("(SELECT count(*) * 2 FROM public.sent) - (SELECT count(*) FROM ({FATES}) f)");
    wait_until("every message has come to an end", async || world.number(&open).await <= 0).await;
    let in_hand = "SELECT sum(waiting + in_flight + scheduled) FROM host.queue_status('work')";
    wait_until("nothing is in hand", async || world.number(in_hand).await == 0).await;
}

/// Fails unless every message has come to exactly the end that it had to, at each handler, and
/// every lease that was handed on had a reason. `acknowledged`: what producers know to be
/// committed.
pub async fn check(world: &World, acknowledged: &[i64], totals: &mut Totals) {
    let mut complaints = Vec::new();
    let mut none = async |what: &str, sql: &str| {
        let found = texts(world, sql).await;
        if !found.is_empty() {
            complaints.push(format!("{what}:\n  {}", found.join("\n  ")));
        }
    };
    none("not exactly what it had to come to", &format!("
        WITH wanted AS (SELECT s.number, h.handler, s.fate FROM public.sent s CROSS JOIN (VALUES ('default'), ('audit')) h (handler)),
        got AS (SELECT number, handler, array_agg(fate) AS fates FROM ({FATES}) f GROUP BY 1, 2)
        SELECT format('%s at %s: wanted %s, got %s', number, handler, wanted.fate, fates)
        FROM wanted FULL JOIN got USING (number, handler)
        WHERE (ARRAY[wanted.fate] = fates OR ARRAY['poison'] = fates OR (ARRAY['removed'] = fates AND wanted.fate <> 'done')) IS NOT TRUE
        LIMIT 20")).await;
    none("more than once, of a passing queue", "
        SELECT payload FROM queue.sink WHERE payload LIKE '-%' GROUP BY 1 HAVING count(*) > 1 LIMIT 20").await;
    none("two versions in one call", "
        SELECT payload FROM queue.sink WHERE split_part(payload, ' ', 2) <> split_part(payload, ' ', 3) LIMIT 20").await;
    none("an attempt that was made twice, or not at all", "
        SELECT format('%s: %s', payload ->> 'text', attempts) FROM (
            SELECT payload, (SELECT array_agg((e ->> 'attempt')::int) FROM jsonb_array_elements(history) e) AS attempts
            FROM host.work__dead_letter WHERE reason = 'attempts used up') d
        WHERE array_to_string(attempts, ' ') !~ '^(1 2 3 ?)+$' LIMIT 20").await;
    none(
        "settled after it was handed on",
        "
        SELECT format('lease %s of session %s', s.lease, s.session) FROM public.settled r
        JOIN public.settled s ON s.lease = r.lease AND s.seq > r.seq WHERE r.revoked LIMIT 20",
    )
    .await;
    let committed: BTreeSet<i64> = numbers(world, "SELECT number FROM public.sent").await;
    let forgotten: Vec<_> =
        acknowledged.iter().filter(|n| !committed.contains(n)).take(20).collect();
    if !forgotten.is_empty() {
        complaints.push(format!("Postgres has forgotten what it acknowledged: {forgotten:?}"));
    }
    complaints.extend(unexplained(world).await);
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    totals.add(world).await;
}

impl Totals {
    async fn add(&mut self, world: &World) {
        let n = async |sql: &str| world.number(sql).await;
        self.messages += n("SELECT count(*) FROM public.sent").await;
        self.follow_ups += n("SELECT count(*) FROM queue.sink").await;
        self.dead += n("SELECT count(*) FROM host.work__dead_letter").await;
        self.leases += n("SELECT count(*) FROM public.leased WHERE seq >= 0").await;
        self.handed_on += n("SELECT count(*) FROM public.settled WHERE revoked").await;
        self.messages_handed_on +=
            n("SELECT coalesce(sum(messages), 0) FROM public.leased l WHERE seq >= 0
            AND EXISTS (SELECT FROM public.settled s WHERE s.revoked AND s.txid = l.txid)")
            .await;
        self.sessions_lost = n("SELECT count(*) FROM host.session WHERE lost").await;
        // All of it: sessions that ended in an earlier deck have to be explained by it again.
        self.faults.clear();
        for hit in world.journal.lock().expect("the journal").iter() {
            *self.faults.entry(hit.kind).or_default() += 1;
        }
    }

    /// For people.
    pub fn report(&self) -> String {
        let Self { messages, follow_ups, dead, leases, handed_on, messages_handed_on, .. } = self;
        let faults: Vec<String> = self.faults.iter().map(|(k, n)| format!("{k:?} {n}")).collect();
        format!(
            "{messages} messages, {follow_ups} follow-ups, {dead} dead letters, {leases} leases; \
             {} sessions lost, {handed_on} leases handed on with {messages_handed_on} messages\n\
             {} faults: {}",
            self.sessions_lost,
            self.faults.values().sum::<u32>(),
            faults.join(", ")
        )
    }
}

/// A session as it ended.
struct Ended {
    host: String,
    at: SystemTime,
    lost: bool,
}

/// What no fault explains: sessions that ended, and leases that were handed on.
async fn unexplained(world: &World) -> Vec<String> {
    let rows = world.patiently(async |client| {
        client
            .query(
                "SELECT id, host_name, ended_at, lost FROM host.session WHERE ended_at IS NOT NULL",
                &[],
            )
            .await
    });
    let sessions: BTreeMap<i32, Ended> = rows
        .await
        .iter()
        .map(|r| (r.get(0), Ended { host: r.get(1), at: r.get(2), lost: r.get(3) }))
        .collect();
    let journal = world.journal.lock().expect("the journal").clone();
    let befell = |host: &str, from: SystemTime, to: SystemTime, may: fn(Kind) -> bool| {
        journal.iter().any(|hit: &Hit| {
            may(hit.kind)
                && hit.host.as_deref().is_none_or(|whom| whom == host)
                && hit.begun <= to
                && hit.over.is_none_or(|over| over >= from)
        })
    };
    let ever = SystemTime::UNIX_EPOCH;
    // What silences a host without a lock for two seconds may be another fault, or a busy machine.
    // Or it never knew of the session: the reply to its beginning was lost.
    let silenced = |e: &Ended| befell(&e.host, e.at - SILENCE_MAX, e.at, Kind::takes_the_lock);
    let reason_to_end = |e: &Ended, leased_at: SystemTime| {
        if e.lost {
            befell(&e.host, ever, e.at, Kind::may_lose_a_session) || silenced(e)
        } else {
            // Or it did not know that it had the lease.
            befell(&e.host, ever, e.at, Kind::may_end_a_session)
                || befell(&e.host, leased_at - A_MOMENT, e.at, Kind::may_lose_a_reply)
        }
    };
    let mut complaints: Vec<String> = sessions
        .iter()
        .filter(|(_, e)| e.lost && !reason_to_end(e, e.at))
        .map(|(id, e)| format!("session {id} of {} was held for dead for no reason", e.host))
        .collect();

    let handed_on = "SELECT r.lease, r.session, n.session, l.leased_at, r.settled_at, s.host_name
        FROM public.settled r
        JOIN public.leased l ON l.id = r.lease
        JOIN host.session s ON s.id = r.session
        LEFT JOIN public.leased n ON n.txid = r.txid AND n.seq >= 0
        WHERE r.revoked";
    for r in world.patiently(async |client| client.query(handed_on, &[]).await).await {
        let (lease, session): (i64, i32) = (r.get(0), r.get(1));
        let heir: Option<i32> = r.get(2);
        let (from, to): (SystemTime, SystemTime) = (r.get(3), r.get(4));
        let host: String = r.get(5);
        let explained = match sessions.get(&session).filter(|e| e.at <= to) {
            Some(ended) => reason_to_end(ended, from),
            None => {
                heir == Some(session) && befell(&host, from - A_MOMENT, to, Kind::may_lose_a_reply)
            }
        };
        if !explained {
            complaints.push(format!(
                "lease {lease} of session {session} ({host}) went to {heir:?} for no reason"
            ));
        }
    }
    complaints
}

async fn texts(world: &World, sql: &str) -> Vec<String> {
    let rows = world.patiently(async |client| client.query(sql, &[]).await).await;
    rows.iter().map(|row| row.get(0)).collect()
}

async fn numbers(world: &World, sql: &str) -> BTreeSet<i64> {
    let rows = world.patiently(async |client| client.query(sql, &[]).await).await;
    rows.iter().map(|row| row.get(0)).collect()
}
