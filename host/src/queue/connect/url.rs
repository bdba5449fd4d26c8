//! The database URL: checked, and shown without its password. Adds to what the Postgres crate reads
//! `sslmode=verify-ca` and `verify-full`, and `sslrootcert`. Never connects.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::queue::error::{QueueError, SQLSTATE_CANNOT_CONNECT};

/// What a URL says.
pub struct DatabaseUrl {
    /// For the Postgres crate; hosts, `target_session_attrs` and the rest as given.
    pub config: Config,
    /// How to encrypt, if the URL asks for it. The certificate is always checked then.
    pub tls: Option<MakeRustlsConnect>,
    /// The URL without its password.
    pub shown: String,
}

impl DatabaseUrl {
    /// Reads a URL. An error names it without its password.
    pub fn parse(url: &str) -> Result<Self, QueueError> {
        let shown = without_password(url);
        let fail = |why: String| QueueError::Refused {
            sqlstate: SQLSTATE_CANNOT_CONNECT.to_owned(),
            message: format!("the database URL {shown:?} is not valid: {why}"),
            hint: Some("it looks like postgres://user:password@server:5432/database".to_owned()),
        };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(fail("it does not start with postgres://".to_owned()));
        }
        let (plain, root) = translate(url);
        let mut config: Config = plain.parse().map_err(|e: tokio_postgres::Error| {
            fail(match std::error::Error::source(&e) {
                Some(cause) => cause.to_string(),
                None => e.to_string(),
            })
        })?;
        if config.get_hosts().is_empty() {
            return Err(fail("it names no server".to_owned()));
        }
        let tls = if config.get_ssl_mode() == SslMode::Require {
            Some(connector(root.as_deref().map(Path::new)).map_err(fail)?)
        } else {
            // `prefer` promises nothing, so it does not fail on a certificate that cannot be checked.
            config.ssl_mode(SslMode::Disable);
            None
        };
        Ok(Self { config, tls, shown })
    }
}

/// The URL as the Postgres crate reads it, and the file of `sslrootcert`.
fn translate(url: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut root = None;
    let parameters: Vec<&str> = query
        .split('&')
        .filter_map(|parameter| match parameter.split_once('=') {
            Some(("sslmode", "verify-ca" | "verify-full")) => Some("sslmode=require"),
            Some(("sslrootcert", file)) => {
                root = Some(file.replace("%2F", "/").replace("%2f", "/"));
                None
            }
            _ => Some(parameter),
        })
        .collect();
    (format!("{base}?{}", parameters.join("&")), root.filter(|file| file != "system"))
}

fn connector(root: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = root {
        let named = |e: &dyn std::fmt::Display| format!("sslrootcert {}: {e}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|e| named(&e))? {
            let certificate = certificate.map_err(|e| named(&e))?;
            roots.add(certificate).map_err(|e| named(&e))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err("sslmode asks for a checked certificate, but there is no root certificate: \
                    install ca-certificates or name a file with sslrootcert"
            .to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The URL with `***` for its password, wherever it stands.
#[must_use]
pub fn without_password(url: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(b, q)| (b, Some(q)));
    let start = base.find("://").map_or(0, |at| at + 3);
    let mut shown = match base[start..].rsplit_once('@') {
        Some((credentials, rest)) => match credentials.split_once(':') {
            Some((user, _)) => format!("{}{user}:***@{rest}", &base[..start]),
            None => base.to_owned(),
        },
        None => base.to_owned(),
    };
    if let Some(query) = query {
        let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
            Some((key @ ("password" | "sslpassword"), _)) => format!("{key}=***"),
            _ => parameter.to_owned(),
        });
        shown.push('?');
        shown.push_str(&parameters.collect::<Vec<_>>().join("&"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::TargetSessionAttrs;

    fn refusal(url: &str) -> String {
        match DatabaseUrl::parse(url) {
            Ok(_) => panic!("accepted {url}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("postgres://u:s3cret@h/d", "postgres://u:***@h/d"),
            ("postgres://u:s3:cr@et@h/d?a=b", "postgres://u:***@h/d?a=b"),
            ("postgres://u@h/d?password=s3cret&a=b", "postgres://u@h/d?password=***&a=b"),
            ("postgres://h/d", "postgres://h/d"),
            ("u:s3cret@h", "u:***@h"),
        ] {
            assert_eq!(without_password(url), shown);
        }
        assert!(!refusal("postgres://u:s3cret@h:port/d").contains("s3cret"));
    }

    #[test]
    fn several_hosts_and_session_attributes_are_kept() {
        let url = "postgres://a:1,b:2/d?target_session_attrs=read-write";
        let config = DatabaseUrl::parse(url).map(|u| u.config).unwrap();
        assert_eq!(config.get_hosts().len(), 2);
        assert_eq!(config.get_ports(), [1, 2]);
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn tls_is_used_when_asked_for() {
        assert!(DatabaseUrl::parse("postgres://h/d").unwrap().tls.is_none());
        assert!(DatabaseUrl::parse("postgres://h/d?sslmode=prefer").unwrap().tls.is_none());
        let text = refusal("postgres://h/d?sslmode=verify-full&sslrootcert=/no/such.pem");
        assert!(text.contains("sslrootcert /no/such.pem"), "{text}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, why) in [
            ("mysql://h/d", "does not start with postgres://"),
            ("postgres:///d", "names no server"),
            ("postgres://h/d?sslmode=maybe", "sslmode"),
            ("postgres://h/d?colour=red", "colour"),
        ] {
            let text = refusal(url);
            assert!(text.contains(why) && text.contains(url), "{text}");
        }
    }
}
