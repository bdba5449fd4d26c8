//! From what stands in a file to what is wanted, and back from what there is to what stands in a
//! file. Pure: components are read elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::entries::{CronEntry, HandlerEntry, QueueEntry};
use super::values::{Choice, Size, Written};
use crate::error::CommandError;
use host_core::cron::{HEADERS, Missed, Schedule};
use host_core::deployment::digest::Digest;
use host_core::limits::{BACKOFF_CAP_DEFAULT, BACKOFF_DEFAULT};
use host_core::message::lane::{LaneCount, Lanes};
use host_core::policy::queue_limits::{PerInterval, QueueLimits, Rate};
use host_core::policy::queue_settings::QueueSettings;
use host_core::policy::retry::Backoff;
use host_core::policy::unique::Unique;
use host_queue::catalog::Settings;
use host_queue::cron::EntrySettings;

/// A component, as a file names it.
#[derive(Clone, Debug)]
pub(crate) enum ComponentSource {
    /// In a file.
    File(PathBuf),
    /// In the database.
    Stored(Digest),
}

impl QueueEntry {
    /// The queue's settings.
    pub(crate) fn wanted(&self) -> Result<QueueSettings, String> {
        let mut queue = QueueSettings::default();
        set(&mut queue.payload_type, self.payload.as_ref().map(|w| w.0.0));
        set(&mut queue.payload_bytes_max, self.max_bytes.as_ref().map(|w| w.0.0));
        set(&mut queue.policy.max_attempts, self.max_attempts);
        queue.policy.backoff = self.wanted_backoff()?;
        set(&mut queue.rotate_bytes, self.rotate_size.as_ref().map(|w| w.0.0));
        set(&mut queue.rotate_age, time(self.rotate_age.as_ref()));
        queue.keep = time(self.keep.as_ref());
        set(&mut queue.wake_up, self.wake_up);
        queue.lanes = self.wanted_lanes()?;
        queue.unique = match (time(self.unique.as_ref()), &self.on_duplicate) {
            (Some(window), given) => {
                let on_duplicate = given.as_ref().map(|w| w.0.0).unwrap_or_default();
                Some(Unique { window, on_duplicate })
            }
            (None, Some(_)) => return Err("on-duplicate is for a queue with unique".to_owned()),
            (None, None) => None,
        };
        queue.limits = self.wanted_limits()?;
        queue.check().map_err(|error| error.to_string())?;
        if queue.lanes.ordered().is_some() && queue.limits != QueueLimits::default() {
            return Err("an ordered queue takes no limits yet".to_owned());
        }
        Ok(queue)
    }

    fn wanted_backoff(&self) -> Result<Backoff, String> {
        let (base, cap) = (time(self.backoff.as_ref()), time(self.backoff_cap.as_ref()));
        match &self.delays {
            Some(_) if base.is_some() || cap.is_some() => {
                Err("give delays, or backoff and backoff-cap".to_owned())
            }
            Some(delays) => Ok(Backoff::Delays(delays.iter().map(|d| d.0.into()).collect())),
            None => Ok(Backoff::Exponential {
                base: base.unwrap_or(BACKOFF_DEFAULT),
                cap: cap.unwrap_or(BACKOFF_CAP_DEFAULT),
            }),
        }
    }

    fn wanted_lanes(&self) -> Result<Lanes, String> {
        let lanes = |what: &str, n: Option<u16>| {
            n.map(|n| n.to_string().parse().map(|LaneCount(n)| n))
                .transpose()
                .map_err(|error: String| format!("{what}: {error}"))
        };
        let priorities = self.priorities.unwrap_or_default();
        let (ordered, keyed) = (lanes("ordered", self.ordered)?, lanes("per-key", self.per_key)?);
        if usize::from(priorities) + ordered.iter().count() + keyed.iter().count() > 1 {
            return Err("priorities, ordered and per-key exclude each other".to_owned());
        }
        Ok(Lanes::of(priorities, ordered, keyed))
    }

    fn wanted_limits(&self) -> Result<QueueLimits, String> {
        let rate = match (&self.rate, self.burst) {
            (Some(Written(PerInterval { count, interval })), burst) => {
                Some(Rate { count: *count, interval: *interval, burst: burst.unwrap_or(*count) })
            }
            (None, Some(_)) => return Err("burst is for a queue with a rate".to_owned()),
            (None, None) => None,
        };
        Ok(QueueLimits { fleet_concurrency: self.fleet_concurrency, rate })
    }

    /// The entry of a queue, with what differs from the default.
    pub(crate) fn of(queue: &QueueSettings) -> Self {
        let default = QueueSettings::default();
        let (backoff, backoff_cap, delays) = match &queue.policy.backoff {
            Backoff::Exponential { base, cap } => (
                differs(*base, BACKOFF_DEFAULT).map(written),
                differs(*cap, BACKOFF_CAP_DEFAULT).map(written),
                None,
            ),
            Backoff::Delays(delays) => {
                (None, None, Some(delays.iter().map(|d| written(*d)).collect()))
            }
        };
        let size = |is, default| differs(is, default).map(|bytes| Written(Size(bytes)));
        let rate = queue.limits.rate;
        Self {
            payload: differs(queue.payload_type, default.payload_type).map(choice),
            max_bytes: size(queue.payload_bytes_max, default.payload_bytes_max),
            max_attempts: differs(queue.policy.max_attempts, default.policy.max_attempts),
            backoff,
            backoff_cap,
            delays,
            rotate_size: size(queue.rotate_bytes, default.rotate_bytes),
            rotate_age: differs(queue.rotate_age, default.rotate_age).map(written),
            keep: queue.keep.map(written),
            wake_up: differs(queue.wake_up, default.wake_up),
            priorities: queue.lanes.by_priority().then_some(true),
            ordered: queue.lanes.ordered(),
            per_key: queue.lanes.keyed(),
            unique: queue.unique.map(|u| written(u.window)),
            on_duplicate: queue.unique.map(|u| choice(u.on_duplicate)),
            fleet_concurrency: queue.limits.fleet_concurrency,
            rate: rate.map(|r| Written(PerInterval { count: r.count, interval: r.interval })),
            burst: rate.and_then(|r| differs(r.burst, r.count)),
            handlers: BTreeMap::default(),
        }
    }
}

impl HandlerEntry {
    /// How it is run. The batch size is given, or up to the component.
    pub(crate) fn wanted(&self) -> Result<Settings, String> {
        let mut settings = Settings::default();
        let bytes = |size: &Option<Written<Size>>| size.as_ref().map(|w| w.0.0);
        let limits = &mut settings.limits;
        set(&mut limits.timeout, time(self.timeout.as_ref()));
        set(&mut limits.cpu, time(self.cpu.as_ref()));
        set(&mut limits.memory_bytes, bytes(&self.memory));
        set(&mut limits.log_bytes, bytes(&self.log_bytes));
        set(&mut limits.follow_ups, self.follow_ups);
        set(&mut limits.follow_up_bytes, bytes(&self.follow_up_bytes));
        set(&mut limits.http_requests, self.http_requests);
        set(&mut limits.http_bytes, bytes(&self.http_bytes));
        set(&mut settings.isolation, self.isolation.as_ref().map(|w| w.0.0));
        set(&mut settings.concurrency, self.concurrency);
        settings.batch_size = self.batch_size;
        settings.config.clone_from(&self.config);
        settings.http = self.http.iter().map(|w| w.0.clone()).collect();
        settings.secrets = self.secrets.iter().map(|w| w.0.clone()).collect();
        host_server::deploy::check_settings(&settings).map_err(|error| error.to_string())?;
        Ok(settings)
    }

    /// Where its component is.
    pub(crate) fn source(&self) -> Result<ComponentSource, &'static str> {
        match (&self.file, &self.sha256) {
            (Some(file), None) => Ok(ComponentSource::File(file.clone())),
            (None, Some(Written(sha256))) => Ok(ComponentSource::Stored(sha256.clone())),
            _ => Err("give its component: file, or sha256 of one that the database has"),
        }
    }

    /// The entry of a handler, with what differs from the default.
    pub(crate) fn of(settings: &Settings, source: ComponentSource) -> Self {
        let default = Settings::default();
        let (limits, usual) = (&settings.limits, &default.limits);
        let size = |is, default| differs(is, default).map(|bytes| Written(Size(bytes)));
        let (file, sha256) = match source {
            ComponentSource::File(file) => (Some(file), None),
            ComponentSource::Stored(sha256) => (None, Some(Written(sha256))),
        };
        Self {
            file,
            sha256,
            timeout: differs(limits.timeout, usual.timeout).map(written),
            cpu: differs(limits.cpu, usual.cpu).map(written),
            memory: size(limits.memory_bytes, usual.memory_bytes),
            isolation: differs(settings.isolation, default.isolation).map(choice),
            batch_size: settings.batch_size,
            concurrency: differs(settings.concurrency, default.concurrency),
            log_bytes: size(limits.log_bytes, usual.log_bytes),
            follow_ups: differs(limits.follow_ups, usual.follow_ups),
            follow_up_bytes: size(limits.follow_up_bytes, usual.follow_up_bytes),
            http_requests: differs(limits.http_requests, usual.http_requests),
            http_bytes: size(limits.http_bytes, usual.http_bytes),
            http: settings.http.iter().cloned().map(Written).collect(),
            secrets: settings.secrets.iter().cloned().map(Written).collect(),
            config: settings.config.clone(),
        }
    }
}

impl CronEntry {
    /// The entry. That its payload fits its queue is to be seen.
    pub(crate) fn wanted(&self) -> Result<(EntrySettings, Schedule), String> {
        let zone = self.time_zone.as_deref().unwrap_or("UTC");
        let schedule = Schedule::parse(&self.schedule, zone).map_err(|error| error.to_string())?;
        let payload = match (&self.payload, &self.payload_hex) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(text)) => {
                hex::decode(text).map_err(|error| format!("payload-hex: {error}"))?
            }
            _ => return Err("give its payload, or payload-hex".to_owned()),
        };
        if let Some(name) = HEADERS.iter().find(|name| self.headers.contains_key(**name)) {
            return Err(format!("the header {name:?} is set by each firing"));
        }
        let settings = EntrySettings {
            queue: self.queue.clone(),
            schedule: self.schedule.clone(),
            time_zone: schedule.time_zone().to_owned(),
            missed: self.missed.as_ref().map_or(Missed::One, |w| w.0.0).name().to_owned(),
            payload,
            headers: self.headers.clone(),
        };
        Ok((settings, schedule))
    }

    /// The entry as a file has it.
    pub(crate) fn of(settings: &EntrySettings) -> Result<Self, CommandError> {
        let missed: Choice<Missed> = settings.missed.parse().map_err(CommandError::failed)?;
        let (payload, payload_hex) = match String::from_utf8(settings.payload.clone()) {
            Ok(text) => (Some(text), None),
            Err(_) => (None, Some(hex::encode(&settings.payload))),
        };
        Ok(Self {
            schedule: settings.schedule.clone(),
            time_zone: (settings.time_zone != "UTC").then(|| settings.time_zone.clone()),
            queue: settings.queue.clone(),
            payload,
            payload_hex,
            missed: (missed.0 != Missed::One).then_some(Written(missed)),
            headers: settings.headers.clone(),
        })
    }
}

/// A key of an entry that stands nowhere yet.
pub(crate) fn key(name: &str) -> Spanned<String> {
    Spanned::new(0..0, name.to_owned())
}

fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

fn time(given: Option<&Written<humantime::Duration>>) -> Option<Duration> {
    given.map(|w| w.0.into())
}

fn written(time: Duration) -> Written<humantime::Duration> {
    Written(time.into())
}

const fn choice<T>(value: T) -> Written<Choice<T>> {
    Written(Choice(value))
}

fn differs<T: PartialEq + Copy>(is: T, default: T) -> Option<T> {
    (is != default).then_some(is)
}
