//! What a deployment grants of the network: to which servers its guests may send HTTP requests, and
//! by which methods. Pure; never resolves a name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub mod address;

/// Requests by some methods, or any, to one server or to all whose names end alike.
///
/// As text: `[METHOD,…] SCHEME://HOST[:PORT] [private]`, as in `POST https://api.example.com`,
/// `https://*.example.com` or `http://billing.internal:8080 private`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGrant {
    /// Empty: any.
    methods: Vec<String>,
    scheme: Scheme,
    host: Host,
    port: u16,
    /// The name may lead to addresses of a private network.
    private: bool,
}

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// The servers of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// Any name.
    Any,
    /// Names that end with a dot and this.
    Below(String),
    Name(String),
    /// An address that the operator wrote out: meant, wherever it leads.
    Address(IpAddr),
}

/// Where a request is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    scheme: Scheme,
    host: TargetHost,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TargetHost {
    Name(String),
    Address(IpAddr),
}

/// Which addresses the name of a granted request may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Those of the internet.
    Public,
    /// Those of private networks and of this machine as well.
    Private,
}

/// Why a text is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{grant:?} is not an HTTP grant: {what}; write it as 'POST,GET https://api.example.com'")]
pub struct GrantError {
    grant: String,
    what: String,
}

/// What would open a tunnel, past everything that is checked.
const TUNNEL: &str = "CONNECT";

/// Whether one of the grants covers a request, and where its name may then lead.
#[must_use]
pub fn permit(grants: &[HttpGrant], method: &str, target: &Target) -> Option<Reach> {
    let covering = grants.iter().filter(|grant| grant.covers(method, target));
    covering.map(|grant| if grant.private { Reach::Private } else { Reach::Public }).max()
}

impl HttpGrant {
    fn covers(&self, method: &str, target: &Target) -> bool {
        let host = match (&self.host, &target.host) {
            (Host::Any, TargetHost::Name(_)) => true,
            (Host::Below(end), TargetHost::Name(name)) => {
                name.strip_suffix(end.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            (Host::Name(granted), TargetHost::Name(name)) => granted == name,
            (Host::Address(granted), TargetHost::Address(address)) => granted == address,
            _ => false,
        };
        host && method != TUNNEL
            && (self.methods.is_empty() || self.methods.iter().any(|granted| granted == method))
            && (self.scheme, self.port) == (target.scheme, target.port)
    }

    /// Whether it covers servers that it does not name, however many.
    #[must_use]
    pub const fn is_wildcard(&self) -> bool {
        matches!(self.host, Host::Any | Host::Below(_))
    }

    /// Whether its requests go over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }
}

impl Target {
    /// From the parts of a request's URL. `None`: that is no host.
    #[must_use]
    pub fn new(scheme: Scheme, host: &str, port: Option<u16>) -> Option<Self> {
        let host = match parse_address(host) {
            Some(address) => TargetHost::Address(address),
            None => TargetHost::Name(parse_name(host).ok()?),
        };
        Some(Self { scheme, host, port: port.unwrap_or(scheme.default_port()) })
    }
}

impl Scheme {
    /// The name in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The scheme of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Http, Self::Https].into_iter().find(|scheme| scheme.name() == name)
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl FromStr for HttpGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        parse(text).map_err(|what| GrantError { grant: text.to_owned(), what })
    }
}

fn parse(text: &str) -> Result<HttpGrant, String> {
    let mut words = text.split_whitespace().peekable();
    let methods = words.next_if(|word| !word.contains("://"));
    let url = words.next().ok_or("it names no server")?;
    let methods = methods.into_iter().flat_map(|all| all.split(',')).map(parse_method);
    let methods = methods.collect::<Result<_, _>>()?;
    let (scheme, server) = url.split_once("://").ok_or_else(|| format!("{url:?} is no URL"))?;
    let scheme =
        Scheme::from_name(scheme).ok_or_else(|| format!("{scheme:?} is not http or https"))?;
    let server = server.strip_suffix('/').unwrap_or(server);
    if server.contains(['/', '?', '#']) {
        return Err("a grant covers a whole server: leave the path out".into());
    }
    if server.contains('@') {
        return Err("a grant has no user or password: see `host secret`".into());
    }
    let (host, port) = split_port(server)?;
    let host = parse_host(host)?;
    let private = match words.next() {
        None => false,
        Some("private") if matches!(host, Host::Address(_)) => {
            return Err("a literal IP address needs no \"private\"".into());
        }
        Some("private") => true,
        Some(word) => return Err(format!("{word:?} after the URL is not \"private\"")),
    };
    if let Some(word) = words.next() {
        return Err(format!("{word:?} is one word too many"));
    }
    Ok(HttpGrant { methods, scheme, host, port: port.unwrap_or(scheme.default_port()), private })
}

fn parse_method(method: &str) -> Result<String, String> {
    if method == TUNNEL {
        return Err("CONNECT would open a tunnel past every check".into());
    }
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        return Err(format!("{method:?} is not a method, such as GET or POST"));
    }
    Ok(method.to_owned())
}

/// Into host and port; an IPv6 address stands in brackets.
fn split_port(server: &str) -> Result<(&str, Option<u16>), String> {
    let after_address = server.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = server[after_address..].rfind(':') else { return Ok((server, None)) };
    let (host, port) = server.split_at(after_address + colon);
    let number = port[1..].parse().ok().filter(|port| *port > 0);
    Ok((host, Some(number.ok_or_else(|| format!("{:?} is not a port", &port[1..]))?)))
}

fn parse_host(host: &str) -> Result<Host, String> {
    if host == "*" {
        return Ok(Host::Any);
    }
    if let Some(end) = host.strip_prefix("*.") {
        return parse_name(end).map(Host::Below);
    }
    let Some(address) = parse_address(host) else { return parse_name(host).map(Host::Name) };
    if address.is_unspecified() || address.is_multicast() || address == Ipv4Addr::BROADCAST {
        return Err(format!("no server has the address {address}"));
    }
    Ok(Host::Address(address))
}

/// An address that is written out as standards have it, not in the ways that old libraries take as
/// well.
fn parse_address(host: &str) -> Option<IpAddr> {
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match in_brackets {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(|v6| v6.to_canonical()),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn parse_name(name: &str) -> Result<String, String> {
    if !name.is_ascii() {
        return Err(format!("write {name:?} as DNS does, beginning with xn--"));
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(format!("{name:?} is not the name of a server"));
    }
    // Such as 127.1 or 2130706433, which resolvers take for addresses.
    if name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit())) {
        return Err(format!("{name:?} is neither a name nor an IPv4 address"));
    }
    Ok(name.to_ascii_lowercase())
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            write!(f, "{} ", self.methods.join(","))?;
        }
        write!(f, "{}://", self.scheme.name())?;
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Below(end) => write!(f, "*.{end}")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        if self.private { f.write_str(" private") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> HttpGrant {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    fn permits(grants: &[&str], method: &str, url: &str) -> Option<Reach> {
        let grants: Vec<_> = grants.iter().map(|text| grant(text)).collect();
        let (scheme, server) = url.split_once("://").unwrap();
        let (host, port) = split_port(server).unwrap();
        let target = Target::new(Scheme::from_name(scheme).unwrap(), host, port)?;
        permit(&grants, method, &target)
    }

    #[test]
    fn a_grant_is_written_as_it_is_read() {
        for (text, shown) in [
            ("https://API.example.com/", "https://api.example.com"),
            (" POST,GET   https://a.b:443", "POST,GET https://a.b"),
            ("http://*.a.b:8080 private", "http://*.a.b:8080 private"),
            ("https://*", "https://*"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[::ffff:10.0.0.1]", "http://10.0.0.1"),
        ] {
            assert_eq!(grant(text).to_string(), shown);
            assert_eq!(grant(shown), grant(text));
        }
    }

    #[test]
    fn what_is_wrong_with_a_grant_is_said() {
        for (text, what) in [
            ("", "it names no server"),
            ("POST", "it names no server"),
            ("api.example.com", "it names no server"),
            ("GET https:/a", "\"https:/a\" is no URL"),
            ("ftp://a", "\"ftp\" is not http or https"),
            ("https://a/v1", "leave the path out"),
            ("https://a?x", "leave the path out"),
            ("https://u:p@a", "a grant has no user or password"),
            ("post https://a", "\"post\" is not a method"),
            ("GET,,POST https://a", "\"\" is not a method"),
            ("CONNECT https://a", "tunnel"),
            ("https://a:0", "\"0\" is not a port"),
            ("https://a:65536", "\"65536\" is not a port"),
            ("https://a:", "\"\" is not a port"),
            ("https://", "\"\" is not the name of a server"),
            ("https://a..b", "is not the name of a server"),
            ("https://a.b.", "is not the name of a server"),
            ("https://a.*.b", "is not the name of a server"),
            ("https://[::1", "is not"),
            ("https://ä.de", "xn--"),
            ("http://127.1", "neither a name nor an IPv4 address"),
            ("http://2130706433", "neither a name nor an IPv4 address"),
            ("http://0x7f000001", "neither a name nor an IPv4 address"),
            ("http://0.0.0.0", "no server has the address"),
            ("http://[ff02::1]", "no server has the address"),
            ("http://10.0.0.1 private", "needs no \"private\""),
            ("http://a public", "is not \"private\""),
            ("http://a private x", "one word too many"),
        ] {
            let error = text.parse::<HttpGrant>().expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
            assert!(error.starts_with(&format!("{text:?} is not an HTTP grant")), "{error}");
        }
    }

    #[test]
    fn a_grant_covers_what_it_says_and_no_more() {
        use Reach::{Private, Public};
        let one = ["POST https://api.example.com"];
        assert_eq!(permits(&one, "POST", "https://api.example.com"), Some(Public));
        assert_eq!(permits(&one, "POST", "https://API.EXAMPLE.COM:443"), Some(Public));
        for (method, url) in [
            ("GET", "https://api.example.com"),
            ("post", "https://api.example.com"),
            ("POST", "http://api.example.com"),
            ("POST", "http://api.example.com:443"),
            ("POST", "https://api.example.com:8443"),
            ("POST", "https://example.com"),
            ("POST", "https://api.example.com.evil.org"),
            ("POST", "https://evilapi.example.com"),
            ("POST", "https://api.example.com."),
        ] {
            assert_eq!(permits(&one, method, url), None, "{method} {url}");
        }
        let below = ["https://*.example.com"];
        assert_eq!(permits(&below, "GET", "https://a.b.example.com"), Some(Public));
        assert_eq!(permits(&below, "GET", "https://example.com"), None);
        assert_eq!(permits(&below, "GET", "https://evilexample.com"), None);
        let any = ["http://*"];
        assert_eq!(permits(&any, "PURGE", "http://a"), Some(Public));
        assert_eq!(permits(&any, "CONNECT", "http://a"), None);
        assert_eq!(permits(&any, "GET", "http://127.0.0.1"), None);
        assert_eq!(permits(&any, "GET", "http://127.1"), None);
        let address = ["http://127.0.0.1:8080"];
        assert_eq!(permits(&address, "GET", "http://127.0.0.1:8080"), Some(Public));
        assert_eq!(permits(&address, "GET", "http://[::ffff:127.0.0.1]:8080"), Some(Public));
        assert_eq!(permits(&address, "GET", "http://localhost:8080"), None);
        let both = ["http://a", "GET http://a private"];
        assert_eq!(permits(&both, "GET", "http://a"), Some(Private));
        assert_eq!(permits(&both, "POST", "http://a"), Some(Public));
    }
}
