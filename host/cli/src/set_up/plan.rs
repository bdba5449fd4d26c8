//! What a file wants changed: one step for each queue, handler and cron entry that differs. Refuses
//! whatever cannot be, before anything changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::file::SetUpFile;
use super::wanted::ComponentSource;
use crate::error::CommandError;
use crate::queue::differs::{self, differences};
use crate::{component_file, settings};
use host_core::cron::Schedule;
use host_core::deployment::digest::Digest;
use host_core::id::HandlerId;
use host_core::name::{CronName, HandlerName, QueueName};
use host_core::policy::queue_settings::QueueSettings;
use host_queue::catalog::{Catalog, Settings};
use host_queue::cron::EntrySettings;

/// All that a file wants.
pub(crate) struct Wanted {
    pub(crate) queues: Vec<WantedQueue>,
    pub(crate) handlers: Vec<WantedHandler>,
    pub(crate) cron: Vec<WantedCron>,
}

/// A queue that a file wants.
pub(crate) struct WantedQueue {
    at: std::ops::Range<usize>,
    name: QueueName,
    settings: QueueSettings,
}

/// A handler that a file wants.
pub(crate) struct WantedHandler {
    pub(crate) at: std::ops::Range<usize>,
    pub(crate) queue: QueueName,
    pub(crate) name: HandlerName,
    pub(crate) sha256: Digest,
    /// Its bytes, if the file says where they are.
    pub(crate) wasm: Option<Vec<u8>>,
    pub(crate) settings: Settings,
}

/// A cron entry that a file wants.
pub(crate) struct WantedCron {
    pub(crate) name: CronName,
    pub(crate) settings: EntrySettings,
    pub(crate) schedule: Schedule,
}

/// A step, for people and for machines.
pub(crate) struct Step {
    verb: &'static str,
    kind: &'static str,
    name: String,
    details: Vec<String>,
    pub(crate) change: Planned,
}

/// What a step changes.
pub(crate) enum Planned {
    CreateQueue {
        name: QueueName,
        settings: QueueSettings,
    },
    ChangeQueue {
        name: QueueName,
        before: QueueSettings,
        wanted: QueueSettings,
    },
    /// The handler's number in the list of those that are wanted.
    Deploy(usize),
    /// The entry's number, and whether it is paused.
    PutCron(usize, bool),
    RemoveCron(String),
    RemoveHandler(HandlerId),
    DropQueue(QueueName),
}

/// What a database has.
pub(crate) struct Present<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) cron: &'a BTreeMap<String, (EntrySettings, bool)>,
}

impl Wanted {
    /// From a file. Reads the components.
    pub(crate) async fn of(file: &SetUpFile) -> Result<Self, CommandError> {
        let mut wanted = Self { queues: Vec::new(), handlers: Vec::new(), cron: Vec::new() };
        for (key, entry) in &file.entries.queues {
            let at = |error: &dyn std::fmt::Display| {
                file.error(key.span(), format!("queue {}: {error}", key.get_ref()))
            };
            let name: QueueName = key.get_ref().parse().map_err(|error| at(&error))?;
            let settings = entry.wanted().map_err(|error| at(&error))?;
            wanted.queues.push(WantedQueue { at: key.span(), name: name.clone(), settings });
            for (key, entry) in &entry.handlers {
                let at = |error: &dyn std::fmt::Display| {
                    let named = format!("handler {name}/{}: {error}", key.get_ref());
                    file.error(key.span(), named)
                };
                let handler = key.get_ref().parse().map_err(|error| at(&error))?;
                let settings = entry.wanted().map_err(|error| at(&error))?;
                let (sha256, wasm) = match entry.source().map_err(|error| at(&error))? {
                    ComponentSource::Stored(sha256) => (sha256, None),
                    ComponentSource::File(path) => {
                        let wasm = component_file::read(&file.resolve(&path)).await;
                        let wasm = wasm.map_err(|error| at(&error))?;
                        (Digest::of(&wasm), Some(wasm))
                    }
                };
                let (queue, name) = (name.clone(), handler);
                let at = key.span();
                wanted.handlers.push(WantedHandler { at, queue, name, sha256, wasm, settings });
            }
        }
        Ok(wanted)
    }

    /// Adds the cron entries. A payload has to fit its queue, in the file or in the database.
    pub(crate) fn with_cron(
        mut self,
        file: &SetUpFile,
        catalog: &Catalog,
    ) -> Result<Self, CommandError> {
        for (key, entry) in &file.entries.cron {
            let at = |error: &dyn std::fmt::Display| {
                file.error(key.span(), format!("cron entry {}: {error}", key.get_ref()))
            };
            let name: CronName = key.get_ref().parse().map_err(|error| at(&error))?;
            let (settings, schedule) = entry.wanted().map_err(|error| at(&error))?;
            let in_file = self.queues.iter().find(|q| q.name.as_str() == settings.queue);
            let in_file = in_file.map(|q| &q.settings);
            let queue = in_file.or_else(|| catalog.queue(&settings.queue).map(|q| &q.settings));
            let queue = queue.ok_or_else(|| at(&format!("no queue {:?}", settings.queue)))?;
            let bytes = queue.payload_type.check(&settings.payload).map_err(|error| at(&error))?;
            if bytes > queue.payload_bytes_max {
                return Err(at(&format!(
                    "its payload has {bytes} bytes, and queue {} takes {}",
                    settings.queue, queue.payload_bytes_max
                )));
            }
            self.cron.push(WantedCron { name, settings, schedule });
        }
        Ok(self)
    }

    /// The steps from what there is, in the order of the file.
    pub(crate) fn steps(
        &self,
        file: &SetUpFile,
        present: &Present<'_>,
    ) -> Result<Vec<Step>, CommandError> {
        let mut steps = Vec::new();
        for queue in &self.queues {
            steps.extend(queue.step(file, present.catalog)?);
            for (n, handler) in self.handlers.iter().enumerate() {
                if handler.queue == queue.name {
                    steps.extend(handler.step(n, present.catalog));
                }
            }
        }
        for (n, entry) in self.cron.iter().enumerate() {
            steps.extend(entry.step(n, present.cron));
        }
        Ok(steps)
    }

    /// The steps that remove what the file does not have.
    pub(crate) fn removals(&self, present: &Present<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let gone = |kind, name: String, change| Step {
            verb: "remove",
            kind,
            name,
            details: Vec::new(),
            change,
        };
        for name in present.cron.keys() {
            if !self.cron.iter().any(|entry| entry.name.as_str() == name) {
                steps.push(gone("cron", name.clone(), Planned::RemoveCron(name.clone())));
            }
        }
        for queue in &present.catalog.queues {
            if !self.queues.iter().any(|wanted| wanted.name == queue.name) {
                let change = Planned::DropQueue(queue.name.clone());
                steps.push(gone("queue", queue.name.to_string(), change));
                continue;
            }
            for there in present.catalog.deployments.iter().filter(|d| d.queue == queue.id) {
                let is_there = |h: &&WantedHandler| h.queue == queue.name && h.name == there.name;
                if !self.handlers.iter().any(|h| is_there(&h)) {
                    let name = format!("{}/{}", queue.name, there.name);
                    steps.push(gone("handler", name, Planned::RemoveHandler(there.handler)));
                }
            }
        }
        steps
    }
}

impl WantedQueue {
    fn step(&self, file: &SetUpFile, catalog: &Catalog) -> Result<Option<Step>, CommandError> {
        let Self { at, name, settings } = self;
        let step = |verb, details, change| Step {
            verb,
            kind: "queue",
            name: name.to_string(),
            details,
            change,
        };
        let Some(queue) = catalog.queue(name.as_str()) else {
            let details = differs::values(&differences(&QueueSettings::default(), settings));
            let change = Planned::CreateQueue { name: name.clone(), settings: settings.clone() };
            return Ok(Some(step("create", details, change)));
        };
        let all = differences(&queue.settings, settings);
        if let Some(fixed) = all.iter().find(|d| d.is_fixed()) {
            return Err(file.error(
                at.clone(),
                format!(
                    "queue {name}: {}, and cannot change once it exists: write another queue into the file, \
                     let producers use that, and drop {name} once it is empty",
                    fixed.phrase()
                ),
            ));
        }
        let change = Planned::ChangeQueue {
            name: name.clone(),
            before: queue.settings.clone(),
            wanted: settings.clone(),
        };
        Ok((!all.is_empty()).then(|| step("change", differs::lines(&all), change)))
    }
}

impl WantedHandler {
    /// As people write it.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.queue, self.name)
    }

    fn step(&self, n: usize, catalog: &Catalog) -> Option<Step> {
        let queue = catalog.queue(self.queue.as_str());
        let there = queue.and_then(|q| catalog.deployment(q.id, self.name.as_str()));
        let details = match there.map(|there| (&there.sha256, &there.settings)) {
            None => {
                let mut lines = vec![format!("component  {}", self.sha256.short())];
                lines.extend(settings::lines_given(&self.settings));
                lines
            }
            Some((sha256, Err(_))) => {
                let component = settings::component_change(sha256, &self.sha256);
                let mut lines: Vec<String> = settings::change_lines(component.as_slice(), |_| None);
                lines.push("settings   unreadable -> those of the file".to_owned());
                lines
            }
            Some((sha256, Ok(before))) => {
                let component = settings::component_change(sha256, &self.sha256);
                let all: Vec<_> = component
                    .into_iter()
                    .chain(settings::changes(before, &self.settings))
                    .collect();
                if all.is_empty() {
                    return None;
                }
                settings::change_lines(&all, |_| None)
            }
        };
        let (kind, name, change) = ("handler", self.label(), Planned::Deploy(n));
        Some(Step { verb: "deploy", kind, name, details, change })
    }
}

impl WantedCron {
    fn step(&self, n: usize, there: &BTreeMap<String, (EntrySettings, bool)>) -> Option<Step> {
        let there = there.get(self.name.as_str());
        let (verb, paused, details) = match there {
            None => ("add", false, Vec::new()),
            Some((before, _)) if *before == self.settings => return None,
            Some((before, paused)) => ("replace", *paused, self.lines(before)),
        };
        let (kind, name) = ("cron", self.name.to_string());
        Some(Step { verb, kind, name, details, change: Planned::PutCron(n, paused) })
    }

    fn lines(&self, before: &EntrySettings) -> Vec<String> {
        let EntrySettings { queue, schedule, time_zone, missed, payload, headers } = &self.settings;
        let text = |name: &'static str, is: &str, wanted: &str| {
            (is != wanted).then(|| format!("{name}  {is} -> {wanted}"))
        };
        let differs =
            |name: &'static str, differs: bool| differs.then(|| format!("{name}  differs"));
        [
            text("queue", &before.queue, queue),
            text("schedule", &before.schedule, schedule),
            text("time-zone", &before.time_zone, time_zone),
            text("missed", &before.missed, missed),
            differs("payload", before.payload != *payload),
            differs("headers", before.headers != *headers),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Step {
    /// What it is about: "queue emails".
    pub(crate) fn subject(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    /// For people: a line, and one for each detail.
    pub(crate) fn text(&self) -> String {
        let details: Vec<String> = self.details.iter().map(|d| format!("    {d}\n")).collect();
        format!("{} {}\n{}", self.verb, self.subject(), details.concat())
    }

    /// For machines.
    pub(crate) fn json(&self) -> Value {
        json!({
            "action": self.verb,
            "kind": self.kind,
            "name": self.name,
            "details": self.details,
        })
    }
}
