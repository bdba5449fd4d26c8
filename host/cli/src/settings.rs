//! A version's settings: in words, as JSON, and what differs between two. Never decides one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::show;
use host_core::deployment::digest::Digest;
use host_queue::admin::deployments::Version;
use host_queue::catalog::Settings;

/// Characters of a value that a difference shows.
const VALUE_CHARS_MAX: usize = 40;

/// A setting, named as the flag and as the column are.
#[derive(Clone, Debug, PartialEq)]
struct Field {
    flag: String,
    column: String,
    value: Shown,
}

#[derive(Clone, Debug, PartialEq)]
enum Shown {
    Time(Duration),
    Bytes(u64),
    Count(u32),
    Word(String),
    Text(String),
    List(Vec<String>),
    Nothing,
}

impl Shown {
    fn json(&self) -> Value {
        match self {
            Self::Time(time) => json!(time.as_millis() as u64),
            Self::Bytes(bytes) => json!(bytes),
            Self::Count(count) => json!(count),
            Self::Word(text) | Self::Text(text) => json!(text),
            Self::List(texts) => json!(texts),
            Self::Nothing => Value::Null,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Time(time) => show::duration(*time),
            Self::Bytes(bytes) => show::bytes(*bytes),
            Self::Count(count) => count.to_string(),
            Self::Word(word) => word.clone(),
            // As JSON has it: one line, whatever it holds.
            Self::Text(text) => json!(text).to_string(),
            Self::List(texts) if !texts.is_empty() => texts.join(", "),
            Self::List(_) | Self::Nothing => "none".to_owned(),
        }
    }
}

/// All settings, in the order of `host deploy --help`.
fn fields(settings: &Settings) -> Vec<Field> {
    let limits = &settings.limits;
    let field = |flag: &str, column: &str, value| Field {
        flag: flag.to_owned(),
        column: column.to_owned(),
        value,
    };
    let http = settings.http.iter().map(ToString::to_string).collect();
    let secrets = settings.secrets.iter().map(ToString::to_string).collect();
    let mut fields = vec![
        field("timeout", "timeout_ms", Shown::Time(limits.timeout)),
        field("cpu", "cpu_ms", Shown::Time(limits.cpu)),
        field("memory", "memory_bytes", Shown::Bytes(limits.memory_bytes)),
        field("isolation", "isolation", Shown::Word(settings.isolation.name().to_owned())),
        field("batch-size", "batch_size", settings.batch_size.map_or(Shown::Nothing, Shown::Count)),
        field("concurrency", "concurrency", Shown::Count(settings.concurrency)),
        field("log-bytes", "log_bytes", Shown::Bytes(limits.log_bytes)),
        field("follow-ups", "follow_ups", Shown::Count(limits.follow_ups)),
        field("follow-up-bytes", "follow_up_bytes", Shown::Bytes(limits.follow_up_bytes)),
        field("http", "http", Shown::List(http)),
        field("secret", "secrets", Shown::List(secrets)),
        field("http-requests", "http_requests", Shown::Count(limits.http_requests)),
        field("http-bytes", "http_bytes", Shown::Bytes(limits.http_bytes)),
    ];
    fields.extend(settings.config.iter().map(|(key, value)| Field {
        flag: format!("config {key}"),
        column: format!("config.{key}"),
        value: Shown::Text(value.clone()),
    }));
    fields
}

/// All settings, one on a line, each after its flag.
pub(crate) fn lines(settings: &Settings) -> Vec<String> {
    let fields = fields(settings);
    let width = fields.iter().map(|f| f.flag.chars().count()).max().unwrap_or_default();
    fields.iter().map(|f| format!("{:width$}  {}", f.flag, f.value.words())).collect()
}

/// The settings that are not the default, one on a line, each after its flag.
pub(crate) fn lines_given(settings: &Settings) -> Vec<String> {
    let default = fields(&Settings::default());
    let given: Vec<Field> = fields(settings).into_iter().filter(|f| !default.contains(f)).collect();
    let width = given.iter().map(|f| f.flag.chars().count()).max().unwrap_or_default();
    let value = |f: &Field| show::line(&f.value.words(), VALUE_CHARS_MAX);
    given.iter().map(|f| format!("{:width$}  {}", f.flag, value(f))).collect()
}

/// All settings, for machines: named and measured as the columns of `host.handler_version` are.
pub(crate) fn json(settings: &Settings) -> Value {
    let plain = fields(settings).into_iter().filter(|f| !f.column.starts_with("config."));
    let mut all: Map<_, _> = plain.map(|f| (f.column, f.value.json())).collect();
    all.insert("config".to_owned(), json!(settings.config));
    Value::Object(all)
}

/// What differs between two versions of a handler.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    flag: String,
    column: String,
    before: Shown,
    after: Shown,
}

impl Change {
    /// For machines.
    fn json(&self) -> Value {
        json!({ "before": self.before.json(), "after": self.after.json() })
    }
}

/// What differs between two settings, in the order of `host deploy --help`.
pub(crate) fn changes(before: &Settings, after: &Settings) -> Vec<Change> {
    let (before, after) = (fields(before), fields(after));
    let mut values: BTreeMap<String, Shown> =
        before.iter().map(|f| (f.column.clone(), f.value.clone())).collect();
    let mut changes = Vec::new();
    for field in after {
        let before = values.remove(&field.column).unwrap_or(Shown::Nothing);
        if before != field.value {
            let Field { flag, column, value } = field;
            changes.push(Change { flag, column, before, after: value });
        }
    }
    // What is left in the map is config that is gone.
    let gone = before.into_iter().filter(|f| values.contains_key(&f.column));
    changes.extend(gone.map(|f| Change {
        flag: f.flag,
        column: f.column,
        before: f.value,
        after: Shown::Nothing,
    }));
    changes
}

/// What differs between two components, if they are two.
pub(crate) fn component_change(before: &Digest, after: &Digest) -> Option<Change> {
    (before != after).then(|| Change {
        flag: "component".to_owned(),
        column: "sha256".to_owned(),
        before: Shown::Word(before.short().to_owned()),
        after: Shown::Word(after.short().to_owned()),
    })
}

/// What differs between two versions: the component, and the settings where both can be read.
pub(crate) fn changes_between(before: &Version, after: &Version) -> Vec<Change> {
    let mut all = Vec::new();
    all.extend(component_change(&before.sha256, &after.sha256));
    if let (Ok(before), Ok(after)) = (&before.settings, &after.settings) {
        all.extend(changes(before, after));
    }
    all
}

/// Differences, one on a line: `timeout  5s -> 10s`. `note` says more of a setting, by its change.
pub(crate) fn change_lines(
    changes: &[Change],
    note: impl Fn(&Change) -> Option<String>,
) -> Vec<String> {
    let width = changes.iter().map(|c| c.flag.chars().count()).max().unwrap_or_default();
    let cut = |value: &Shown| show::line(&value.words(), VALUE_CHARS_MAX);
    let line = |change: &Change| {
        let note = note(change).map_or_else(String::new, |note| format!(" ({note})"));
        format!("{:width$}  {} -> {}{note}", change.flag, cut(&change.before), cut(&change.after))
    };
    changes.iter().map(line).collect()
}

/// Differences, for machines.
pub(crate) fn changes_json(changes: &[Change]) -> Value {
    changes
        .iter()
        .map(|change| (change.column.clone(), change.json()))
        .collect::<Map<_, _>>()
        .into()
}

impl Change {
    /// Whether the value that it leads to is the one in `settings`.
    pub(crate) fn leads_to(&self, settings: &Settings) -> bool {
        let there = fields(settings).into_iter().find(|f| f.column == self.column);
        there.map_or(Shown::Nothing, |f| f.value) == self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(config: &[(&str, &str)]) -> Settings {
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings { config, ..Settings::default() }
    }

    #[test]
    fn a_difference_names_what_is_new_changed_and_gone() {
        let before = with(&[("gone", "1"), ("kept", "2"), ("other", "3")]);
        let mut after = with(&[("kept", "2"), ("new", "a\nb"), ("other", "4")]);
        after.limits.timeout = Duration::from_secs(5);
        let changes = changes(&before, &after);
        let lines = change_lines(&changes, |c| c.leads_to(&after).then(|| "given".to_owned()));
        assert_eq!(
            lines,
            [
                "timeout       30s -> 5s (given)",
                "config new    none -> \"a\\nb\" (given)",
                "config other  \"3\" -> \"4\" (given)",
                "config gone   \"1\" -> none (given)",
            ]
        );
        let json = changes_json(&changes);
        assert_eq!(json["timeout_ms"], json!({ "before": 30_000, "after": 5_000 }));
        assert_eq!(json["config.gone"], json!({ "before": "1", "after": null }));
    }

    #[test]
    fn every_setting_is_shown_once() {
        let settings = with(&[("a", "1")]);
        assert_eq!(lines(&settings).len(), json(&settings).as_object().unwrap().len());
        assert_eq!(json(&settings)["config"], json!({ "a": "1" }));
    }
}
