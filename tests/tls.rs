//! TLS to Postgres: whatever `sslmode` asks for it, the server's certificate is checked in full.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use host_embedded::Embedded;
use host_queue::connect::Database;
use nix::unistd::{Gid, Uid, chown};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::harness::process::{finish, host_command};
use crate::harness::server::{connect, scratch_dir};
use crate::harness::watchdog::quit_with_us;

/// Who signs, with a key that nobody keeps.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server of the test's own.
struct Server {
    embedded: Embedded,
    dir: PathBuf,
    port: String,
    password: String,
}

impl Server {
    async fn start() -> Self {
        let dir = scratch_dir();
        let embedded = Embedded::start(&dir).await.expect("a server");
        quit_with_us(embedded.pid());
        let (_, port) = embedded.url().rsplit_once("port=").unwrap();
        let described = embedded.describe();
        let (_, password) = described.rsplit_once("password in ").unwrap();
        let password = std::fs::read_to_string(password.trim_end_matches(')')).unwrap();
        let port = port.to_owned();
        Self { embedded, dir, port, password: password.trim().to_owned() }
    }

    /// Has it speak TLS, with a certificate for `localhost`.
    async fn speak_tls(&self, ca: &CertifiedIssuer<'_, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, ca).unwrap();
        let data = self.embedded.place().join("data");
        let owner = std::fs::metadata(&data).unwrap();
        let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        for (name, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())]
        {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
        let admin = connect(self.embedded.url()).await;
        admin.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        crate::harness::wait_until("it has read its configuration", async || {
            let on = connect(self.embedded.url()).await.query_one("SHOW ssl", &[]).await.unwrap();
            on.get::<_, &str>(0) == "on"
        })
        .await;
    }

    fn url(&self, host: &str, query: &str) -> String {
        format!("postgres://postgres:{}@{host}:{}/postgres?{query}", self.password, self.port)
    }

    fn root(&self, name: &str, ca: &CertifiedIssuer<'_, KeyPair>) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, ca.pem()).unwrap();
        path.display().to_string()
    }

    /// The one line that a command ends with, which does not have the password.
    async fn refusal(&self, host: &str, query: &str) -> String {
        let url = self.url(host, query);
        let text = finish(host_command(&["status", "--database-url", &url])).await.error(3);
        assert!(!text.contains(&self.password), "{text}");
        assert!(text.contains(&format!("@{host}:{}/", self.port)), "{text}");
        text
    }
}

#[tokio::test]
async fn a_connection_that_asks_for_tls_has_it_and_knows_whom_it_speaks_to() {
    let server = Server::start().await;
    let modes = ["require", "verify-ca", "verify-full"];
    let ca = authority("ours");
    let root = server.root("root.pem", &ca);
    for mode in modes {
        let query = format!("sslmode={mode}&sslrootcert={root}");
        let text = server.refusal("localhost", &query).await;
        assert!(text.contains("does not speak TLS") && text.contains("ssl = on"), "{text}");
    }

    server.speak_tls(&ca).await;
    let strange = server.root("strange.pem", &authority("theirs"));
    // One of the same name, which is another's.
    let forged = server.root("forged.pem", &authority("ours"));
    for mode in modes {
        let query = format!("sslmode={mode}&sslrootcert={root}");
        let url = server.url("localhost", &query);
        let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let client = Database::new(&url, 1).unwrap().get().await.unwrap();
        assert!(client.query_one(encrypted, &[]).await.unwrap().get::<_, bool>(0), "{mode}");

        let text = server.refusal("127.0.0.1", &query).await;
        assert!(text.contains("127.0.0.1") && text.contains("localhost"), "{text}");
        for root in [&strange, &forged] {
            let query = format!("sslmode={mode}&sslrootcert={root}");
            let text = server.refusal("localhost", &query).await;
            assert!(text.contains("not signed by an authority that this machine trusts"), "{text}");
        }
    }
    // The machine's own roots, when the URL names none.
    let with_roots = async |roots: &Path| {
        let url = server.url("localhost", "sslmode=require");
        let mut command = host_command(&["migrate", "--database-url", &url]);
        command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
        finish(command).await
    };
    with_roots(Path::new(&root)).await.ok();
    let text = with_roots(Path::new(&strange)).await.error(3);
    assert!(text.contains("sslrootcert=FILE"), "{text}");
    // A host does not try for ever what no waiting mends.
    let url = server.url("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={root}"));
    let text = finish(host_command(&["serve", "--database-url", &url])).await.error(3);
    assert!(text.contains("the server's certificate will not do"), "{text}");
    assert!(server.embedded.stop_if_last().await.unwrap());
}
