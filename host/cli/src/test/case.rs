//! A case: the file, and how it compares with what happened. Never runs anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use similar::TextDiff;

use super::outcome::Happened;
use crate::error::CommandError;
use host_core::deployment::secret::SecretName;

/// What a case may expect something of.
const FIELDS: [&str; 4] = ["verdict", "result", "follow_ups", "log"];

/// A message, and what is to come of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The file's name, unless the case says another.
    #[serde(default)]
    pub name: String,
    pub message: Given,
    /// Beside what the command line gives.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Values of secrets; the handler is granted these.
    #[serde(default, deserialize_with = "secrets")]
    pub secrets: BTreeMap<SecretName, String>,
    /// What is left out may be anything. A log line has to occur in a line of the guest's, in this
    /// order.
    #[serde(default)]
    pub expect: Expected,
    #[serde(skip)]
    pub file: PathBuf,
}

/// What the handler is called with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Given {
    /// The payload as JSON.
    pub payload: Option<Value>,
    /// Instead: the payload as it is.
    pub text: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub attempt: u32,
    pub id: i64,
    pub queue: String,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            payload: None,
            text: None,
            headers: BTreeMap::new(),
            attempt: 1,
            id: 1,
            queue: "test".to_owned(),
        }
    }
}

impl Given {
    /// The payload. `None`: the case has not one, but none or two.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.payload, &self.text) {
            (Some(value), None) => Some(value.to_string().into_bytes()),
            (None, Some(text)) => Some(text.clone().into_bytes()),
            _ => None,
        }
    }
}

/// What is to happen: the fields of [`Happened::json`] that the case speaks of.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Expected(Map<String, Value>);

impl Expected {
    /// Refuses what no call can have come to.
    fn check(&self) -> Result<(), String> {
        if let Some(field) = self.0.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            return Err(format!("unknown field `{field}` of expect: use {}", FIELDS.join(", ")));
        }
        match self.0.get("log") {
            Some(log) if texts(log).is_none() => Err("log is a list of texts".to_owned()),
            _ => Ok(()),
        }
    }
}

fn texts(list: &Value) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|text| Some(text.as_str()?.to_owned())).collect()
}

fn secrets<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<SecretName, String>, D::Error> {
    let named: BTreeMap<String, String> = BTreeMap::deserialize(deserializer)?;
    let parsed = named.into_iter().map(|(name, value)| Ok((name.parse()?, value)));
    parsed
        .collect::<Result<_, _>>()
        .map_err(|e: host_core::deployment::secret::SecretNameError| serde::de::Error::custom(e))
}

impl Case {
    /// Reads a file.
    pub(super) fn read(file: &Path) -> Result<Self, CommandError> {
        let named = |why: String| CommandError::usage(format!("{}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|e| named(e.to_string()))?;
        let mut case: Self = serde_json::from_str(&text).map_err(|e| named(e.to_string()))?;
        if case.message.bytes().is_none() {
            return Err(named("give the message either `payload` or `text`".to_owned()));
        }
        case.expect.check().map_err(named)?;
        if case.name.is_empty() {
            case.name = file.display().to_string();
        }
        file.clone_into(&mut case.file);
        Ok(case)
    }

    /// Whether anything may come of it.
    pub(super) fn expects_nothing(&self) -> bool {
        self.expect.0.is_empty()
    }

    /// What differs, line by line; empty if nothing does.
    pub(super) fn difference(&self, happened: &Happened) -> String {
        let (expected, actual) = (self.expected_json(happened), self.actual_json(happened));
        if expected == actual {
            return String::new();
        }
        let (expected, actual) = (pretty(&expected), pretty(&actual));
        let diff = TextDiff::from_lines(&expected, &actual);
        let unified = diff.unified_diff().context_radius(3).missing_newline_hint(false).to_string();
        let lines = unified.lines().filter(|line| !line.starts_with("@@"));
        lines.flat_map(|line| ["    ", line, "\n"]).collect()
    }

    /// What is expected; the log as it is, if it says what it has to.
    fn expected_json(&self, happened: &Happened) -> Value {
        let mut fields = self.expect.0.clone();
        if let Some(log) = fields.get_mut("log")
            && texts(log).is_some_and(|texts| happened.says(&texts))
        {
            *log = happened.log.clone().into();
        }
        Value::Object(fields)
    }

    /// What happened, as far as the case speaks of it.
    fn actual_json(&self, happened: &Happened) -> Value {
        let mut all = happened.json();
        if let Some(fields) = all.as_object_mut() {
            fields.retain(|name, _| self.expect.0.contains_key(name));
        }
        all
    }

    /// Writes a case of what was given and what happened.
    pub(super) fn save(&self, file: &Path, happened: &Happened) -> Result<(), CommandError> {
        let Given { text, headers, attempt, .. } = &self.message;
        let mut message = Map::new();
        let text = text.clone().unwrap_or_default();
        match serde_json::from_str::<Value>(&text) {
            Ok(payload) => message.insert("payload".to_owned(), payload),
            Err(_) => message.insert("text".to_owned(), text.into()),
        };
        if !headers.is_empty() {
            message.insert("headers".to_owned(), json!(headers));
        }
        if *attempt != 1 {
            message.insert("attempt".to_owned(), json!(attempt));
        }
        let value = json!({ "message": message, "expect": happened.json() });
        super::write(file, &format!("{}\n", pretty(&value)))
    }

    /// Writes what happened into the file: the fields that the case speaks of, or all.
    pub(super) fn update(&self, happened: &Happened) -> Result<(), CommandError> {
        let named = |why: String| CommandError::failed(format!("{}: {why}", self.file.display()));
        let text = std::fs::read_to_string(&self.file).map_err(|e| named(e.to_string()))?;
        let mut value: Value = serde_json::from_str(&text).map_err(|e| named(e.to_string()))?;
        let all = self.expects_nothing();
        value["expect"] = if all { happened.json() } else { self.actual_json(happened) };
        super::write(&self.file, &format!("{}\n", pretty(&value)))
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
