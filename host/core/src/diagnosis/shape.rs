//! The tables that a queue should have, and how those of one differ. Never looks for itself.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::Finding;

/// What `host.shape` says of new queues of every kind, as `tests/shape.rs` writes it: of each line
/// the kinds that have it, and the line.
const EXPECTED: &str = include_str!("shape.txt");

/// What the tables of a queue depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind<'a> {
    /// `plain`, `priorities`, `ordered` or `keyed`.
    pub lanes: &'a str,
    /// It keeps what is settled, or has done so.
    pub history: bool,
    /// It takes unique keys.
    pub takes_keys: bool,
}

/// How a queue differs from a new one of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What it lacks.
    pub missing: Vec<String>,
    /// What it has beyond that.
    pub added: Vec<String>,
}

impl Kind<'_> {
    fn has(&self, kinds: &str) -> bool {
        match kinds {
            "all" => true,
            "history" => self.history,
            "unique" => self.takes_keys,
            lanes => lanes.split(',').any(|lanes| lanes == self.lanes),
        }
    }

    fn lines(&self) -> BTreeSet<&'static str> {
        let lines = EXPECTED.lines().filter_map(|line| line.split_once('|'));
        lines.filter(|(kinds, _)| self.has(kinds)).map(|(_, line)| line).collect()
    }

    /// A digest of what a new queue of this kind has, in hex.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for line in self.lines() {
            digest.update(line);
            digest.update("\n");
        }
        hex::encode(digest.finalize())
    }

    /// The `lines` of a queue that differ from those of a new queue of its kind.
    #[must_use]
    pub fn compare(&self, lines: &[String]) -> Difference {
        let expected = self.lines();
        let there: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
        let owned = |line: &&str| (*line).to_owned();
        Difference {
            missing: expected.difference(&there).map(owned).collect(),
            added: there.difference(&expected).map(owned).collect(),
        }
    }
}

/// The findings about one queue, whose `changed` functions are named with how they are changed.
#[must_use]
pub fn findings(
    queue: &str,
    difference: &Difference,
    changed: &[(String, String)],
) -> Vec<Finding> {
    let named = |lines: &[String]| lines.iter().map(|line| line.replace("{q}", queue)).collect();
    let mut missing: Vec<String> = named(&whole(&difference.missing));
    let mut added: Vec<String> = named(&whole(&difference.added));
    for line in &mut missing {
        // A table that is there, and not a partition.
        let Some((table, _)) = line.split_once(" FOR VALUES ") else { continue };
        if let Some(detached) = added.iter().position(|there| there == table) {
            added.remove(detached);
            *line = line.replacen("table ", ATTACHED, 1);
        }
    }
    for (function, how) in changed {
        match how.as_str() {
            "added" => added.push(format!("function {function}")),
            "changed" => missing.push(format!("the release's function {function}")),
            _ => missing.push(format!("function {function}")),
        }
    }
    let mut findings = Vec::new();
    if !missing.is_empty() {
        findings.push(Finding::Damaged { queue: queue.to_owned(), missing });
    }
    if !added.is_empty() {
        findings.push(Finding::Extended { queue: queue.to_owned(), added });
    }
    findings
}

/// How the line of a partition begins that is there, and not attached.
const ATTACHED: &str = "attached, the partition ";

/// Without what belongs to a table or view that is among the lines itself.
fn whole(lines: &[String]) -> Vec<String> {
    let relation = |line: &String| {
        let rest = line.strip_prefix("table ").or_else(|| line.strip_prefix("view "))?;
        rest.split(' ').next().map(str::to_owned)
    };
    let relations: Vec<String> = lines.iter().filter_map(relation).collect();
    let of = |word: &str, relation: &String| {
        word.strip_prefix(relation.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let belongs = |line: &String| {
        line.split(' ').any(|word| relations.iter().any(|relation| of(word, relation)))
    };
    lines.iter().filter(|line| relation(line).is_some() || !belongs(line)).cloned().collect()
}

impl Finding {
    /// Whether a queue lacks something, so that a look at it may fail.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// What puts back what is missing, as far as a statement can.
pub(super) fn remedy(queue: &str, missing: &[String]) -> String {
    let index = |line: &String| Some(format!("{};", line.strip_prefix("index: ")?));
    let mut steps: Vec<String> = missing.iter().filter_map(index).collect();
    let remade = ["function ", "the release's function ", "trigger ", "view "];
    let is_remade = |line: &&String| remade.iter().any(|word| line.starts_with(word));
    if missing.iter().any(|line| is_remade(&line)) {
        steps.push(format!("SELECT host.apply_queue_functions('{queue}');"));
    }
    let attach: Vec<_> = missing.iter().map(|line| attachment(line)).collect();
    steps.extend(attach.iter().flatten().cloned());
    let rest = missing.iter().zip(&attach).filter(|(_, attach)| attach.is_none());
    if rest.map(|(line, _)| line).any(|line| !is_remade(&line) && !line.starts_with("index: ")) {
        steps.push(
            "put the rest back as migrations/queue/tables.sql has it, or restore a backup".into(),
        );
    }
    format!("as the owner: {}", steps.join(" "))
}

/// The statement that attaches a line's partition, if it is detached.
fn attachment(line: &str) -> Option<String> {
    let (partition, bound) = line.strip_prefix(ATTACHED)?.split_once(" FOR VALUES IN ")?;
    let whole = partition.rsplit_once('_')?.0;
    // Messages are partitions of the queue's own table, all others of a namesake.
    let whole = match whole.strip_suffix("__message") {
        Some(queue) => queue.replacen("host.", "queue.", 1),
        None => whole.to_owned(),
    };
    Some(format!("ALTER TABLE {whole} ATTACH PARTITION {partition} FOR VALUES IN {bound};"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Kind<'static> = Kind { lanes: "plain", history: false, takes_keys: false };

    fn lines(kind: &Kind<'_>) -> Vec<String> {
        kind.lines().into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn kinds_differ_and_each_is_like_itself() {
        let mut digests = BTreeSet::new();
        for lanes in ["plain", "priorities", "ordered", "keyed"] {
            for (history, takes_keys) in [(false, false), (true, false), (false, true)] {
                let kind = Kind { lanes, history, takes_keys };
                assert_eq!(kind.compare(&lines(&kind)), Difference::default());
                assert!(digests.insert(kind.digest()), "{kind:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_is_named_and_what_puts_it_back() {
        let index = "index: CREATE INDEX ON queue.{q} USING btree (txid, id)";
        let mut there = lines(&PLAIN);
        there.retain(|line| line != index);
        there.push("column queue.{q}.mine text".into());
        let difference = PLAIN.compare(&there);
        let changed = [("host.emails__wake()".to_owned(), "changed".to_owned())];
        let found = findings("emails", &difference, &changed);
        let [Finding::Damaged { missing, .. }, Finding::Extended { added, .. }] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(added, &["column queue.emails.mine text"]);
        assert_eq!(
            remedy("emails", missing),
            "as the owner: CREATE INDEX ON queue.emails USING btree (txid, id); \
             SELECT host.apply_queue_functions('emails');"
        );
        let table = [
            "table host.{q}__lease",
            "column host.{q}__lease.id bigint",
            "column host.{q}__lease_0.x",
        ];
        assert_eq!(whole(&table.map(str::to_owned)), [table[0], table[2]]);
        for (partition, whole) in [
            ("host.emails__message_2", "queue.emails"),
            ("host.emails__schedule_2", "host.emails__schedule"),
        ] {
            let there = partition.replace("emails", "{q}");
            let line = format!("table {there} FOR VALUES IN ('2')");
            let difference =
                Difference { missing: vec![line], added: vec![format!("table {there}")] };
            let found = findings("emails", &difference, &[]);
            let [Finding::Damaged { missing: line, .. }] = &found[..] else { panic!("{found:?}") };
            let attach =
                format!("ALTER TABLE {whole} ATTACH PARTITION {partition} FOR VALUES IN ('2');");
            assert_eq!(remedy("emails", line), format!("as the owner: {attach}"));
        }
        let column = ["column host.emails__lease.tat timestamp with time zone".to_owned()];
        assert!(remedy("emails", &column).contains("restore a backup"));
    }
}
