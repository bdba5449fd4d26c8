//! What libpq takes from the environment for what a URL leaves open: the variables `PG…`, and the
//! file of passwords. Service files are not read. Never connects.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// Variables, and the parameters of a URL that they stand for. Those of hosts and ports go by
/// another way.
const PARAMETERS: [(&str, &str); 8] = [
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGDATABASE", "dbname"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGOPTIONS", "options"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
];

/// The variables of a process, as far as they matter here.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process.
    pub(crate) fn of_process() -> Self {
        let wanted = PARAMETERS.iter().map(|(name, _)| *name);
        let wanted = wanted.chain(["PGHOST", "PGPORT", "PGPASSFILE", "HOME"]);
        let set = wanted.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        Self(set.collect())
    }

    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The server that the environment names.
    pub(crate) fn host(&self) -> Option<&str> {
        self.get("PGHOST")
    }

    /// A URL with what the environment adds to it.
    pub(crate) fn complete(&self, url: &str) -> String {
        let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
        let (user, rest) = match rest.split_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (servers, rest) = rest.split_at(end);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let has = |key: &str| query.split('&').any(|p| p.split('=').next() == Some(key));
        let port = self.get("PGPORT");
        let with_port = |server: &str| match port {
            Some(port) if !after_bracket(server).contains(':') => format!("{server}:{port}"),
            _ => server.to_owned(),
        };
        let mut parameters: Vec<String> =
            query.split('&').filter(|p| !p.is_empty()).map(str::to_owned).collect();
        let mut add = |key: &str, value: &str| {
            parameters.push(format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        };
        let given = |key: &str| match key {
            "user" => user.is_some_and(|user| !user.is_empty()),
            "password" => user.is_some_and(|user| user.contains(':')),
            "dbname" => path.len() > 1,
            _ => false,
        };
        // TLS is for the network: of a socket, libpq does not ask for it either.
        let server = if servers.is_empty() && !has("host") { self.host() } else { Some(query) };
        let by_socket = server.is_some_and(|server| {
            ["host=/", "host=%2F", "host=%2f"].iter().any(|host| server.contains(host))
                || server.starts_with('/')
        });
        for (variable, key) in PARAMETERS {
            let fits = !(has(key) || given(key) || by_socket && key.starts_with("ssl"));
            if let Some(value) = self.get(variable).filter(|_| fits) {
                add(key, value);
            }
        }
        if servers.is_empty() {
            let hosts = self.host().filter(|_| !has("host") && !has("hostaddr"));
            hosts.into_iter().flat_map(|hosts| hosts.split(',')).for_each(|host| add("host", host));
            if let Some(port) = port.filter(|_| !has("port")) {
                add("port", port);
            }
        }
        let servers: Vec<_> = servers.split(',').filter(|s| !s.is_empty()).map(with_port).collect();
        let (user, at) = user.map_or(("", ""), |user| (user, "@"));
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("{scheme}://{user}{at}{}{path}{mark}{}", servers.join(","), parameters.join("&"))
    }

    /// The password that the file of passwords has for a server, a database and a user.
    pub(crate) fn password_for(&self, config: &Config) -> Option<String> {
        let path = match self.get("PGPASSFILE") {
            Some(path) => PathBuf::from(path),
            None => Path::new(self.get("HOME")?).join(".pgpass"),
        };
        let mode = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(
                "{} is ignored: others can read it; chmod 600 closes it",
                path.display()
            );
            return None;
        }
        let user = config.get_user().map_or_else(system_user, |user| Some(user.to_owned()))?;
        let database = config.get_dbname().unwrap_or(&user);
        let text = fs::read_to_string(&path).ok()?;
        config.get_hosts().iter().enumerate().find_map(|(i, host)| {
            let host = match host {
                Host::Tcp(name) => Cow::from(name),
                Host::Unix(path) => path.to_string_lossy(),
            };
            let port = config.get_ports().get(i).or(config.get_ports().first());
            let port = port.unwrap_or(&5432).to_string();
            password_in(&text, [&host, &port, database, &user])
        })
    }
}

/// What follows an IPv6 address in brackets, which has colons of its own.
fn after_bracket(server: &str) -> &str {
    server.rsplit_once(']').map_or(server, |(_, rest)| rest)
}

fn system_user() -> Option<String> {
    User::from_uid(geteuid()).ok().flatten().map(|user| user.name)
}

/// The password in the first line that fits a host, a port, a database and a user.
fn password_in(text: &str, wanted: [&str; 4]) -> Option<String> {
    // Sockets in the folder that a server has unless it is told otherwise.
    let by_socket = matches!(wanted[0], "/tmp" | "/var/run/postgresql" | "/run/postgresql");
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [of @ .., password] = fields.get(..5)? else { return None };
        let fits = |(i, (field, wanted)): (usize, (&String, &str))| {
            field == "*" || field == wanted || i == 0 && by_socket && field == "localhost"
        };
        of.iter().zip(wanted).enumerate().all(fits).then(|| password.clone())
    })
}

/// The fields of a line, between colons; a backslash takes a colon or backslash as it is.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, fields.last_mut()) {
            (':', _) => fields.push(String::new()),
            ('\\', Some(field)) => field.extend(chars.next()),
            (c, Some(field)) => field.push(c),
            (_, None) => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_leaves_open_is_taken_from_the_environment() {
        let env = Environment::of(&[
            ("PGHOST", "a.example,/run/pg"),
            ("PGPORT", "7"),
            ("PGUSER", "me"),
            ("PGPASSWORD", "a b?"),
            ("PGDATABASE", ""),
        ]);
        for (url, completed) in [
            (
                "postgres://",
                "postgres://?user=me&password=a%20b%3F&host=a%2Eexample&host=%2Frun%2Fpg&port=7",
            ),
            ("postgres://u:p@h/d?sslmode=disable", "postgres://u:p@h:7/d?sslmode=disable"),
            ("postgres://u@[::1],h:8/d", "postgres://u@[::1]:7,h:8/d?password=a%20b%3F"),
            ("postgres:///d?host=x&user=u", "postgres:///d?host=x&user=u&password=a%20b%3F&port=7"),
        ] {
            assert_eq!(env.complete(url), completed);
        }
        assert_eq!(Environment::default().complete("postgres://u:a?b@h/d"), "postgres://u:a?b@h/d");
    }

    #[test]
    fn the_file_of_passwords_is_read_as_libpq_reads_it() {
        let text = "# a comment:5432:*:*:no\nh:1:d:u:first\nh:*:*:u:a\\:b\\\\:c\n*:*:*:o\n\
                    localhost:*:*:*:socket\n";
        let of = |host, port, user| password_in(text, [host, port, "d", user]);
        assert_eq!(of("h", "1", "u").as_deref(), Some("first"));
        assert_eq!(of("h", "2", "u").as_deref(), Some("a:b\\"));
        assert_eq!(of("/tmp", "1", "u").as_deref(), Some("socket"));
        assert_eq!(of("h", "1", "o"), None, "a line without a password");
    }

    #[test]
    fn a_file_of_passwords_that_others_can_read_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".pgpass");
        fs::write(&file, "*:*:*:*:secret\n").unwrap();
        let env = Environment::of(&[("HOME", folder.path().to_str().unwrap())]);
        let config: Config = "postgres://u@h/d".parse().unwrap();
        for (mode, found) in [(0o600, Some("secret")), (0o640, None)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(env.password_for(&config).as_deref(), found, "{mode:o}");
        }
    }
}
