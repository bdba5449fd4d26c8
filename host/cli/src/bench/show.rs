//! How a benchmark's report is printed. Never measures.

use crate::error::CommandError;
use crate::show::{self, Column};
use host_bench::report::{EnqueueRates, Report, SweepRates};

/// Prints a report: a table, or one line of JSON; and what the hosts complained of.
pub(crate) fn print(report: &Report, json: bool) -> Result<(), CommandError> {
    if json {
        println!("{}", serde_json::to_string(report).map_err(anyhow::Error::from)?);
    } else {
        for (what, value) in lines(report) {
            println!("{what:<28} {value}");
        }
        if let Some(rates) = &report.enqueue {
            print!("\n{}", enqueue_table(rates));
        }
        if let Some(rates) = &report.sweep {
            print!("\n{}", sweep_table(rates));
        }
    }
    for complaint in &report.complaints {
        eprintln!("warning: a host says: {complaint}");
    }
    Ok(())
}

/// The figures that there are, for people.
fn lines(report: &Report) -> Vec<(&'static str, String)> {
    let number = |value: Option<f64>| value.map(|v| format!("{v}"));
    let whole = |value: Option<i64>| value.map(|v| v.to_string());
    let ms = |value: Option<f64>| value.map(|v| format!("{v} ms"));
    let bytes = |value: Option<u64>| value.map(crate::show::bytes);
    let all = [
        ("messages", report.messages.map(|n| n.to_string())),
        ("seconds", number(report.seconds)),
        ("messages per second", number(report.messages_per_second.map(f64::round))),
        ("copied in per second", number(report.copy_in_per_second.map(f64::round))),
        ("read out per second", number(report.read_out_per_second.map(f64::round))),
        ("share of copying in", number(report.share_of_copy_in)),
        ("share of reading out", number(report.share_of_read_out)),
        ("lost", Some(report.lost.to_string())),
        ("duplicated", Some(report.duplicated.to_string())),
        ("updates, log tables", whole(report.updates)),
        ("deletes, log tables", whole(report.deletes)),
        ("dead rows, log tables", whole(report.dead_tuples)),
        ("WAL bytes per message", number(report.wal_bytes_per_message)),
        ("and of a row copied in", number(report.bare_wal_bytes_per_message)),
        ("commits per message", number(report.commits_per_message)),
        ("messages per lease", number(report.messages_per_lease)),
        ("rotations", whole(report.rotations)),
        ("on disk at most", bytes(report.disk_bytes_max)),
        ("commit to start, p50", ms(report.p50_ms)),
        ("commit to start, p99", ms(report.p99_ms)),
        ("commit to start, p99.9", ms(report.p999_ms)),
        ("commit to start, max", ms(report.max_ms)),
        ("due to start, p50", ms(report.due_to_start_p50_ms)),
        ("due to start, p99", ms(report.due_to_start_p99_ms)),
        ("due to commit, p50", ms(report.enqueue_p50_ms)),
        ("due to commit, p99", ms(report.enqueue_p99_ms)),
        ("last rate / first rate", number(report.last_to_first)),
        ("host CPU s per million", number(report.host_cpu_seconds_per_million)),
        ("Postgres CPU s per million", number(report.postgres_cpu_seconds_per_million)),
        ("host memory at most", bytes(report.host_peak_rss_bytes)),
    ];
    all.into_iter().filter_map(|(what, value)| Some((what, value?))).collect()
}

fn enqueue_table(rates: &[EnqueueRates]) -> String {
    let columns = [
        Column::Left("BESIDE"),
        Column::Left("HOW"),
        Column::Right("ROWS EACH"),
        Column::Right("BARE/S"),
        Column::Right("QUEUE/S"),
        Column::Right("NO WAKE-UP/S"),
        Column::Right("OF BARE"),
        Column::Right("OF NO WAKE-UP"),
    ];
    let row = |r: &EnqueueRates| {
        vec![
            r.beside.to_owned(),
            r.method.to_owned(),
            r.rows.to_string(),
            format!("{:.0}", r.bare_per_second),
            format!("{:.0}", r.queue_per_second),
            format!("{:.0}", r.queue_without_wake_up_per_second),
            format!("{:.2}", r.share_of_bare),
            format!("{:.2}", r.share_of_without_wake_up),
        ]
    };
    show::table(&columns, rates.iter().map(row))
}

fn sweep_table(rates: &SweepRates) -> String {
    let titles: Vec<_> =
        rates.columns.iter().map(|value| format!("{} {value}", rates.across)).collect();
    let first = [Column::Left(rates.down)];
    let columns: Vec<_> =
        first.into_iter().chain(titles.iter().map(|title| Column::Right(title))).collect();
    let rows = rates.rows.iter().zip(&rates.messages_per_second).map(|(value, rates)| {
        let rates = rates.iter().map(|rate| format!("{rate:.0}"));
        [value.to_string()].into_iter().chain(rates).collect()
    });
    show::table(&columns, rows)
}
