//! The database URL: completed from the environment, checked, and shown without its password. Adds
//! to what the Postgres crate reads `sslmode=verify-ca` and `verify-full`, and `sslrootcert`. Never
//! connects.

use std::path::Path;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::environment::Environment;
use super::hidden::{strip_password, without_password};
use crate::error::{QueueError, SQLSTATE_CANNOT_CONNECT};

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
    /// Reads a URL; what it leaves open is taken from the environment. An error names it without
    /// its password.
    pub fn parse(url: &str) -> Result<Self, QueueError> {
        Self::parse_in(url, &Environment::of_process())
    }

    fn parse_in(url: &str, environment: &Environment) -> Result<Self, QueueError> {
        let mut shown = without_password(url);
        let fail = |why: String| QueueError::Refused {
            sqlstate: SQLSTATE_CANNOT_CONNECT.to_owned(),
            message: format!("the database URL {:?} is not valid: {why}", without_password(url)),
            hint: Some("it looks like postgres://user:password@server:5432/database".to_owned()),
        };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(fail("it does not start with postgres://".to_owned()));
        }
        if url.matches('@').count() > 1 {
            // Half a password could be taken for the server's name, and be shown.
            return Err(fail(
                "it has more than one @; write an @ in the user or password as %40".to_owned(),
            ));
        }
        let complete = environment.complete(url);
        if let Some(mode @ ("prefer" | "allow")) = sslmode(&complete) {
            return Err(fail(format!(
                "sslmode={mode} promises no encryption: write sslmode=require, which verifies the server too, \
                 or sslmode=disable"
            )));
        }
        let (plain, root) = translate(&complete);
        let mut config: Config = plain.parse().map_err(|e: tokio_postgres::Error| {
            let why =
                std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            fail(if why.contains("`service") {
                format!("{why}; service files are not read")
            } else {
                why
            })
        })?;
        if config.get_hosts().is_empty() {
            return Err(fail("it names no server, and neither does PGHOST".to_owned()));
        }
        let alone = translate(url).0.parse::<Config>();
        let names_none = alone.is_ok_and(|config| config.get_hosts().is_empty());
        if let Some(host) = environment.host().filter(|_| names_none) {
            shown = format!("{shown} and PGHOST={host}");
        }
        if config.get_password().is_none()
            && let Some(password) = environment.password_for(&config)
        {
            config.password(password);
        }
        let tls = if config.get_ssl_mode() == SslMode::Require {
            Some(connector(root.as_deref().map(Path::new)).map_err(fail)?)
        } else {
            // The Postgres crate's own default is `prefer`.
            config.ssl_mode(SslMode::Disable);
            None
        };
        Ok(Self { config, tls, shown })
    }
}

/// A URL as psql takes it among its arguments, which everybody on the machine can read; and the
/// password, for PGPASSWORD.
pub fn for_psql(url: &str) -> Result<(String, Option<Vec<u8>>), QueueError> {
    let config = DatabaseUrl::parse(url)?.config;
    Ok((strip_password(url), config.get_password().map(<[u8]>::to_vec)))
}

/// The `sslmode` that a URL asks for.
fn sslmode(url: &str) -> Option<&str> {
    let query = &url[url.find('@').unwrap_or(0)..];
    query.split(['?', '&']).find_map(|parameter| parameter.strip_prefix("sslmode="))
}

/// The URL as the Postgres crate reads it, and the file of `sslrootcert`.
fn translate(url: &str) -> (String, Option<String>) {
    // A password may have a question mark.
    let from = url.find('@').unwrap_or(0);
    let Some(mark) = url[from..].find('?').map(|at| from + at) else {
        return (url.to_owned(), None);
    };
    let (base, query) = (&url[..mark], &url[mark + 1..]);
    let mut root = None;
    let parameters: Vec<&str> = query
        .split('&')
        .filter_map(|parameter| match parameter.split_once('=') {
            Some(("sslmode", mode)) => match &*percent_decode_str(mode).decode_utf8_lossy() {
                "verify-ca" | "verify-full" => Some("sslmode=require"),
                _ => Some(parameter),
            },
            Some(("sslrootcert", file)) => {
                root = Some(percent_decode_str(file).decode_utf8_lossy().into_owned());
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::TargetSessionAttrs;

    fn refusal(url: &str) -> String {
        match DatabaseUrl::parse_in(url, &Environment::default()) {
            Ok(_) => panic!("accepted {url}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn an_error_shows_no_password() {
        for url in [
            "postgres://u:s3cret@h:port/d",
            "postgres://u:x?s3cret@h/d?colour=red",
            "postgres://u:x@s3cret?y=z@h/d",
            "postgres://u:x/s3cret@@h/d",
            "postgres://u@h/d?password=s3cret&sslmode=maybe",
            "host=h password=s3cret",
            "postgres://u:s3cret",
            "postgres://u:s3cret/d",
            "postgresql:u:s3cret",
            "u:s3cret",
        ] {
            assert!(!refusal(url).contains("s3cret"), "{}", refusal(url));
        }
    }

    #[test]
    fn the_environment_completes_a_url() {
        let env = Environment::of(&[
            ("PGHOST", "db.example"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "/no/such.pem"),
        ]);
        let text = DatabaseUrl::parse_in("postgres://u:p?w@/d", &env).err().unwrap().to_string();
        assert!(text.contains("sslrootcert /no/such.pem"), "{text}");
        let env = Environment::of(&[("PGHOST", "db.example"), ("PGPASSWORD", "s3cret")]);
        let url = DatabaseUrl::parse_in("postgres://u@/d", &env).unwrap();
        assert_eq!(url.config.get_password(), Some("s3cret".as_bytes()));
        assert_eq!(url.shown, "postgres://u@/d and PGHOST=db.example");
        let url = DatabaseUrl::parse_in("postgres://u:p?w@h/d", &env).unwrap();
        assert_eq!(
            (url.config.get_password(), url.shown.as_str()),
            (Some("p?w".as_bytes()), "postgres://u:***@h/d")
        );
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
        assert!(DatabaseUrl::parse("postgres://h/d?sslmode=disable").unwrap().tls.is_none());
        for mode in ["prefer", "allow"] {
            let text = refusal(&format!("postgres://u@h/d?a=b&sslmode={mode}"));
            let why = format!("sslmode={mode} promises no encryption: write sslmode=require");
            assert!(text.contains(&why), "{text}");
        }
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
            ("postgres://h/d?service=mine", "service files are not read"),
        ] {
            let text = refusal(url);
            assert!(text.contains(why) && text.contains(url), "{text}");
        }
    }
}
