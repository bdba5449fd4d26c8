//! A sweep: the rate of `steady` over two things that vary, as a table and as a drawing.

use std::fmt::Write as _;
use std::time::Duration;

use crate::error::BenchError;
use crate::measure;
use crate::options::{Options, Request};
use crate::report::{Report, SweepRates};

/// A cell of the drawing, in pixels.
const CELL: (usize, usize) = (90, 40);
/// What is left and above of the cells.
const MARGIN: (usize, usize) = (110, 70);

/// Runs it: `steady` for each pair, each on a queue of its own. The report's other figures are of
/// all of them together, as far as they add up.
pub(crate) async fn run(request: Request<'_>) -> Result<Report, BenchError> {
    let [across, down] = request.options.axes.clone();
    let mut all = Report::default();
    let mut rates = Vec::new();
    for row in &down.values {
        let mut of_row = Vec::new();
        for column in &across.values {
            let mut options = Options { baseline: false, ..request.options.clone() };
            down.varied.set(&mut options, *row);
            across.varied.set(&mut options, *column);
            let one = Request { options: &options, ..request };
            let report = Box::pin(measure::run(one)).await?;
            of_row.push(report.messages_per_second.unwrap_or_default());
            all = total(all, report);
        }
        rates.push(of_row);
    }
    all.sweep = Some(SweepRates {
        across: across.varied.name(),
        columns: across.values,
        down: down.varied.name(),
        rows: down.values,
        messages_per_second: rates,
    });
    Ok(all)
}

/// What a run adds to those before.
fn total(all: Report, run: Report) -> Report {
    let add = |a: Option<i64>, b: Option<i64>| Some(a.unwrap_or_default() + b.unwrap_or_default());
    let seconds = all.seconds.unwrap_or_default() + run.seconds.unwrap_or_default();
    let mut complaints = all.complaints;
    complaints.extend(run.complaints);
    Report {
        workload: run.workload,
        messages: Some(all.messages.unwrap_or_default() + run.messages.unwrap_or_default()),
        seconds: Some(seconds),
        committed: all.committed + run.committed,
        delivered: all.delivered + run.delivered,
        lost: all.lost + run.lost,
        duplicated: all.duplicated + run.duplicated,
        updates: add(all.updates, run.updates),
        deletes: add(all.deletes, run.deletes),
        dead_tuples: all.dead_tuples.max(run.dead_tuples),
        host_peak_rss_bytes: all.host_peak_rss_bytes.max(run.host_peak_rss_bytes),
        complaints,
        producers: run.producers,
        hosts: run.hosts,
        isolation: run.isolation,
        payload_bytes: run.payload_bytes,
        batch: run.batch,
        rate: run.rate,
        interference: run.interference,
        synchronous_commit: run.synchronous_commit,
        wake_up: run.wake_up,
        postgres: run.postgres,
        cores: run.cores,
        ..Report::default()
    }
}

/// Draws it: the darker, the faster.
#[must_use]
pub fn svg(rates: &SweepRates, each: Duration) -> String {
    let SweepRates { across, columns, down, rows, messages_per_second } = rates;
    let fastest = messages_per_second.iter().flatten().copied().fold(1.0, f64::max);
    let (width, height) =
        (MARGIN.0 + columns.len() * CELL.0 + 10, MARGIN.1 + rows.len() * CELL.1 + 10);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\" text-anchor=\"middle\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut text = |x: usize, y: usize, fill: &str, text: &str| {
        writeln!(svg, "<text x=\"{x}\" y=\"{y}\" fill=\"{fill}\">{text}</text>")
            .expect("writing to a String cannot fail");
    };
    let seconds = each.as_secs();
    text(width / 2, 20, "black", &format!("messages per second, {seconds} s each"));
    text(MARGIN.0 / 2, MARGIN.1 - 10, "black", &format!("{down} \u{2193} {across} \u{2192}"));
    for (value, n) in columns.iter().zip(0..) {
        text(MARGIN.0 + n * CELL.0 + CELL.0 / 2, MARGIN.1 - 10, "black", &value.to_string());
    }
    for (value, n) in rows.iter().zip(0..) {
        text(MARGIN.0 / 2, MARGIN.1 + n * CELL.1 + CELL.1 / 2 + 5, "black", &value.to_string());
    }
    for (rates, row) in messages_per_second.iter().zip(0..) {
        for (rate, column) in rates.iter().zip(0..) {
            let (x, y) = (MARGIN.0 + column * CELL.0, MARGIN.1 + row * CELL.1);
            let lightness = 95.0 - 60.0 * rate / fastest;
            let (w, h) = CELL;
            writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" stroke=\"white\" \
                 fill=\"hsl(210,60%,{lightness:.0}%)\"/>\n\
                 <text x=\"{}\" y=\"{}\" fill=\"{}\">{rate:.0}</text>",
                x + w / 2,
                y + h / 2 + 5,
                if lightness < 60.0 { "white" } else { "black" },
            )
            .expect("writing to a String cannot fail");
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawing_has_a_cell_for_each_pair_and_the_fastest_is_darkest() {
        let rates = SweepRates {
            across: "producers",
            columns: vec![1, 2],
            down: "hosts",
            rows: vec![1],
            messages_per_second: vec![vec![100.0, 200.4]],
        };
        let svg = svg(&rates, Duration::from_secs(5));
        assert_eq!(svg.matches("stroke=\"white\"").count(), 2);
        assert!(svg.contains("hsl(210,60%,65%)") && svg.contains("hsl(210,60%,35%)"), "{svg}");
        assert!(svg.contains(">100</text>") && svg.contains(">200</text>"), "{svg}");
    }
}
