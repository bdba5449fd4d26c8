//! What a new version's settings are made from, and what that changes. Never stores anything.

use serde_json::{Value, json};

use super::flags::Flags;
use crate::error::CommandError;
use crate::{lookup, settings};
use host_queue::admin::deployments::Version;
use host_queue::catalog::Settings;

/// What settings are made from.
pub(crate) struct Base {
    /// The settings.
    pub(crate) settings: Settings,
    /// The version whose they are; `None`: they are the defaults.
    pub(crate) version: Option<i32>,
}

/// The settings of a version.
///
/// # Errors
/// If they cannot be read.
fn settings_of(version: &Version, label: &str) -> Result<Settings, CommandError> {
    version.settings.clone().map_err(|error| {
        CommandError::failed(format!("version {} of {label}: {error}", version.deployed.version))
    })
}

impl Flags {
    /// The version that the flags name, else the newest one; the defaults for a new handler, and
    /// with `--reset`. `label` is the handler's.
    pub(crate) fn base(&self, versions: &[Version], label: &str) -> Result<Base, CommandError> {
        let from = match self.settings_of {
            Some(version) => Some(lookup::version(versions, version, label)?),
            None => versions.first().filter(|_| !self.reset),
        };
        let Some(version) = from else {
            return Ok(Base { settings: Settings::default(), version: None });
        };
        let settings = settings_of(version, label)?;
        Ok(Base { settings, version: Some(version.deployed.version) })
    }
}

/// Where the settings of a new version came from, and what they change of those that were in force.
pub(crate) struct Made<'a> {
    base: &'a Base,
    before: Option<&'a Version>,
    changes: Vec<settings::Change>,
}

impl<'a> Made<'a> {
    /// `before` was in force, if anything was.
    pub(crate) fn new(base: &'a Base, before: Option<&'a Version>, after: &Settings) -> Self {
        let readable = before.and_then(|before| before.settings.as_ref().ok());
        let changes = readable.map(|before| settings::changes(before, after)).unwrap_or_default();
        Self { base, before, changes }
    }

    /// For people; nothing for a first version.
    pub(crate) fn text(&self) -> String {
        let Some(before) = self.before else { return String::new() };
        let from = self
            .base
            .version
            .map_or_else(|| "Default settings".to_owned(), |n| format!("Settings of v{n}"));
        let is_same = self.base.version == Some(before.deployed.version);
        let against = match before.deployed.version {
            _ if is_same => String::new(),
            version => format!(" against v{version}, which was in force"),
        };
        if before.settings.is_err() {
            return format!("{from}; those of v{} cannot be read\n", before.deployed.version);
        }
        if self.changes.is_empty() {
            return format!("{from}, unchanged{against}\n");
        }
        let note = |change: &settings::Change| {
            (!is_same).then(|| match self.base.version {
                _ if !change.leads_to(&self.base.settings) => "given".to_owned(),
                Some(version) => format!("from v{version}"),
                None => "default".to_owned(),
            })
        };
        let lines = settings::change_lines(&self.changes, note);
        let lines: Vec<String> = lines.iter().map(|line| format!("  {line}\n")).collect();
        let lines = lines.concat();
        format!("{from}, changed{against}:\n{lines}")
    }

    /// For machines, put into `more`.
    pub(crate) fn json(&self, more: &mut Value) {
        more["settings_of"] = json!(self.base.version);
        more["version_before"] = json!(self.before.map(|before| before.deployed.version));
        more["changes"] = settings::changes_json(&self.changes);
    }
}
