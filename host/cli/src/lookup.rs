//! From what a user wrote to what there is: queues, handlers, versions. Never changes anything.

use crate::context::CommandContext;
use crate::error::CommandError;
use host_core::deployment::secret::SecretName;
use host_queue::admin::deployments::Version;
use host_queue::admin::secrets::SecretInfo;
use host_queue::catalog::{self, Catalog, Deployment, Queue};
use host_queue::connect::Pooled;
use host_queue::error::QueueError;
use host_queue::migrate::{self, Migrations};

/// A connection to a database that has this host's schema.
pub(crate) async fn client(context: &CommandContext) -> Result<Pooled, CommandError> {
    Ok(client_and(context, async |_| Ok(())).await?.0)
}

/// The same, and the answer to a question that is asked in the same round trip as the schema's
/// version. It changes nothing.
pub(crate) async fn client_and<T>(
    context: &CommandContext,
    question: impl AsyncFnOnce(&Pooled) -> Result<T, QueueError>,
) -> Result<(Pooled, T), CommandError> {
    let client = context.database.get().await?;
    match migrate::check_and(&client, &Migrations::embedded()?, question(&client)).await? {
        Ok(answer) => Ok((client, answer?)),
        Err(state) => Err(CommandError::schema(state)),
    }
}

/// The same with the question what there is.
pub(crate) async fn client_and_catalog(
    context: &CommandContext,
) -> Result<(Pooled, Catalog), CommandError> {
    client_and(context, async |client| catalog::load(client).await).await
}

/// The queue of that name.
pub(crate) fn queue<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Queue, CommandError> {
    let known = catalog.queues.iter().map(|q| q.name.as_str());
    catalog.queue(name).ok_or_else(|| CommandError::unknown("queue", name, known))
}

/// The secret of that name.
pub(crate) fn secret<'a>(
    known: &'a [SecretInfo],
    name: &SecretName,
) -> Result<&'a SecretInfo, CommandError> {
    let names = known.iter().map(|secret| &*secret.name);
    let found = known.iter().find(|secret| secret.name == name.as_str());
    found.ok_or_else(|| CommandError::unknown("secret", name.as_str(), names))
}

/// A handler as it is written: `emails/audit`, or `emails` for `emails/default`.
pub(crate) fn handler<'a>(
    catalog: &'a Catalog,
    written: &str,
) -> Result<(&'a Queue, &'a Deployment), CommandError> {
    let (of, name) = written.split_once('/').unwrap_or((written, "default"));
    let queue = queue(catalog, of)?;
    Ok((queue, handler_of(catalog, queue, name)?))
}

/// A queue's handler of that name.
pub(crate) fn handler_of<'a>(
    catalog: &'a Catalog,
    queue: &Queue,
    name: &str,
) -> Result<&'a Deployment, CommandError> {
    let on_queue = catalog.deployments.iter().filter(|d| d.queue == queue.id);
    let known = on_queue.map(|d| d.name.as_str());
    let unknown =
        || CommandError::unknown(&format!("handler on queue {}:", queue.name), name, known);
    catalog.deployment(queue.id, name).ok_or_else(unknown)
}

/// The version of that number, of a handler that is written `name`.
pub(crate) fn version<'a>(
    versions: &'a [Version],
    number: i32,
    name: &str,
) -> Result<&'a Version, CommandError> {
    let nearest = versions.iter().map(|v| v.deployed.version).min_by_key(|v| v.abs_diff(number));
    versions.iter().find(|v| v.deployed.version == number).ok_or_else(|| {
        CommandError::usage(format!(
            "{name} has no version {number}; the nearest is {}",
            nearest.unwrap_or_default()
        ))
    })
}
