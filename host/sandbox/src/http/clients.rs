//! The clients of one version of a handler: one for public servers, and one for private ones. And
//! whom they trust.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;

use super::connector::{Connector, Resolver};
use super::peers::PeerThreads;
use super::pool::Client;
use crate::error::SandboxError;
use host_core::deployment::grant::Reach;

/// Names that one version of a handler looks up at once. A look-up holds a thread, which a slow
/// resolver keeps for longer than any request waits.
const LOOKUPS_MAX: usize = 16;
/// The clients of one version of a handler: a connection that was made for one is nobody else's.
pub(crate) struct Clients {
    public: Client,
    private: Client,
}

impl Clients {
    /// Without connections yet; `keeps` them when they are idle.
    pub(crate) fn new(tls: &Arc<ClientConfig>, threads: &Arc<PeerThreads>, keeps: bool) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let client = |reach| {
            let resolver = Resolver { reach, lookups: lookups.clone() };
            Client::new(Connector::new(resolver, tls.clone()), threads.clone(), keeps)
        };
        Self { public: client(Reach::Public), private: client(Reach::Private) }
    }

    /// The one whose names may lead so far.
    pub(super) fn reaching(&self, reach: Reach) -> Client {
        match reach {
            Reach::Public => self.public.clone(),
            Reach::Private => self.private.clone(),
        }
    }
}

/// Whom to trust. Read from the system once, when a handler first needs it.
#[derive(Default)]
pub(crate) struct Tls(OnceLock<Arc<ClientConfig>>);

impl Tls {
    /// Reads files: call it on a thread that may block. `required`: having no root certificates is
    /// an error.
    pub(crate) fn config(&self, required: bool) -> Result<Arc<ClientConfig>, SandboxError> {
        if let Some(config) = self.0.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() && required {
            return Err(SandboxError::Roots);
        }
        let found = !roots.is_empty();
        let config =
            ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .map_err(|error| SandboxError::Engine(error.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let config = Arc::new(config);
        // Certificates may be installed yet.
        Ok(if found { self.0.get_or_init(|| config).clone() } else { config })
    }
}
