//! Names that lead to where nobody meant a guest to go: requests to each, by the system's own
//! resolver, which is given a file of hosts in a mount namespace of the test's own.

use std::process::Command;

use serde_json::json;

use super::http::{fetch, granted};
use crate::harness::web::{Web, answer};

/// Addresses that no name may lead to: metadata of clouds, link-local, nobody's, everybody's, and
/// all of these in other forms.
const NEVER: &str = "169.254.169.254 169.254.170.2 169.254.42.42 169.254.0.23 100.100.100.200 100.96.0.96 100.80.80.80 \
    168.63.129.16 192.80.8.124 192.0.0.192 0.0.0.0 224.0.0.1 255.255.255.255 \
    fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42 fd00:a9fe:a9fe::1 fe80::a9fe:a9fe ff02::1 :: \
    ::ffff:169.254.169.254 ::169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1 2001::1";
/// Those of private networks and of this machine.
const PRIVATE: &str = "127.0.0.1 127.1.2.3 10.0.0.1 172.16.0.1 192.168.0.1 100.64.0.1 198.18.0.1 ::1 fd12::1 \
    ::ffff:127.0.0.1 64:ff9b::7f00:1";

/// `n0.never.test` and so on.
fn names<'a>(addresses: &'a str, kind: &'a str) -> impl Iterator<Item = (&'a str, String)> {
    let numbered = addresses.split_whitespace().enumerate();
    numbered.map(move |(n, address)| (address, format!("n{n}.{kind}.test")))
}

#[test]
fn names_lead_to_no_address_that_is_not_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    let named = names(NEVER, "never").chain(names(PRIVATE, "private"));
    let mut lines: Vec<String> = named.map(|(address, name)| format!("{address} {name}")).collect();
    // One bad address spoils a name.
    for address in ["127.0.0.1", "169.254.169.254"] {
        lines.push(format!("{address} both.test"));
    }
    lines.push("127.0.0.1 xn--mnchen-3ya.test\n".to_owned());
    std::fs::write(&hosts, lines.join("\n")).unwrap();
    let script = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    let mut run = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        run.args(["--user", "--map-root-user"]);
    }
    run.args(["--mount", "sh", "-c", &script, "sh"]).arg(std::env::current_exe().unwrap());
    run.args(["--ignored", "--exact", "--nocapture", "sandbox::ssrf::requests_by_name"]);
    let done = run.output().expect("unshare of util-linux");
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "it needs the file of hosts that `names_lead_to_no_address_that_is_not_theirs` makes"]
async fn requests_by_name() {
    let web = Web::start(|_| answer("200 OK", "", "hello")).await;
    let port = web.port;
    let ask = async |name: &str, private: &str| {
        let url = format!("http://{name}:{port}");
        fetch(granted(&[format!("{url} {private}")]), &url, json!({"patience_ms": 300})).await
    };
    for (address, name) in names(NEVER, "never") {
        for private in ["", "private"] {
            assert_eq!(ask(&name, private).await, "DestinationIpProhibited", "{address} {private}");
        }
    }
    for (address, name) in names(PRIVATE, "private") {
        assert_eq!(ask(&name, "").await, "DestinationIpProhibited", "{address}");
        let said = ask(&name, "private").await;
        assert_ne!(said, "DestinationIpProhibited", "{address}");
    }
    assert_eq!(ask("both.test", "private").await, "DestinationIpProhibited");
    let before = web.received().len();
    assert!(before > 0, "some of the private ones are this machine");
    assert_eq!(ask("xn--mnchen-3ya.test", "private").await, "200 hello");
    assert_eq!(ask("XN--MNCHEN-3YA.test", "private").await, "200 hello");
    // An address in a name's clothes is none.
    for name in ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1."] {
        let url = format!("http://{name}:{port}");
        let wildcard = granted(&[format!("http://*:{port} private")]);
        let said = fetch(wildcard, &url, json!({"patience_ms": 300})).await;
        assert!(["HttpRequestUriInvalid", "HttpRequestDenied"].contains(&&*said), "{name}: {said}");
    }
    assert_eq!(web.received().len(), before + 2);
}
