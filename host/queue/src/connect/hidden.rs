//! Keeping passwords out of sight, also those in URLs that cannot be read. Where it is not clear
//! what belongs to the password, too much is hidden. Never fails.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::percent_decode_str;

/// The URL with `***` for its password, wherever it stands.
#[must_use]
pub(crate) fn without_password(url: &str) -> String {
    let mut shown = String::new();
    let mut end = 0;
    for span in spans(url) {
        // One password's end may be another's beginning, by different readings.
        if span.start >= end {
            shown.push_str(&url[end..span.start]);
            shown.push_str("***");
        }
        end = end.max(span.end);
    }
    shown.push_str(&url[end..]);
    shown
}

/// A URL that has been read, without its password altogether.
pub(crate) fn strip_password(url: &str) -> String {
    let (base, query) = match url.split_once('@') {
        Some((user, rest)) => {
            let at = user.find("://").map_or(0, |at| at + 3);
            let user = user[at..].find(':').map_or(user, |colon| &user[..at + colon]);
            let (base, query) = rest.split_once('?').unwrap_or((rest, ""));
            (format!("{user}@{base}"), query)
        }
        None => url.split_once('?').map_or((url.to_owned(), ""), |(b, q)| (b.to_owned(), q)),
    };
    let kept: Vec<&str> = query.split('&').filter(|p| !p.is_empty() && !is_password(p)).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    format!("{base}{mark}{}", kept.join("&"))
}

/// Where passwords may be, by where they begin.
fn spans(url: &str) -> Vec<Range<usize>> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let before_at = url.rfind('@').filter(|at| *at >= start);
    let of_user = match before_at {
        Some(at) => url[start..at].find(':').map(|colon| start + colon + 1..at),
        None => after_ports(url, start).map(|at| at..url.len()),
    };
    let ends_key = |c: char| matches!(c, '?' | '&' | ';') || c.is_whitespace();
    let keys = std::iter::once(0).chain(url.match_indices(ends_key).map(|(at, c)| at + c.len()));
    let of_parameters = keys.filter(|at| is_password(&url[*at..])).filter_map(|at| {
        let value = at + url[at..].find('=')? + 1;
        let next = url[value..].match_indices('&').find(|(at, _)| {
            let (key, rest) = url[value + at + 1..].split_once('=').unwrap_or_default();
            !rest.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        });
        Some(value..next.map_or(url.len(), |(at, _)| value + at))
    });
    let mut spans: Vec<_> = of_user.into_iter().chain(of_parameters).collect();
    spans.sort_by_key(|span| span.start);
    spans
}

/// Without an @, `user:password` reads like `server:port`: where what should be a port begins that
/// is none.
fn after_ports(url: &str, start: usize) -> Option<usize> {
    let ends = |c: char| matches!(c, '/' | '?') || c.is_whitespace();
    let end = url[start..].find(ends).map_or(url.len(), |at| start + at);
    let mut at = start;
    for server in url[start..end].split(',') {
        // An address of IPv6 has colons in brackets.
        let from = server.find(']').map_or(0, |bracket| bracket + 1);
        if let Some(colon) = server[from..].find(':').map(|colon| from + colon)
            && server[colon + 1..].parse::<u16>().is_err()
        {
            return Some(at + colon + 1);
        }
        at += server.len() + 1;
    }
    None
}

/// Whether a parameter `key=value` is a password.
fn is_password(parameter: &str) -> bool {
    let Some((key, _)) = parameter.split_once('=') else { return false };
    let key: Cow<'_, str> = percent_decode_str(key.trim_end()).decode_utf8_lossy();
    key.to_lowercase().ends_with("password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("postgres://u:s3cret@h/d", "postgres://u:***@h/d"),
            ("postgres://u:s3:cr@et@h/d?a=b", "postgres://u:***@h/d?a=b"),
            ("postgres://u@h/d?password=s3cret&a=b", "postgres://u@h/d?password=***&a=b"),
            ("postgres://h/d", "postgres://h/d"),
            ("u:s3cret@h", "u:***@h"),
            ("postgres://u:s3?cret@h/d", "postgres://u:***@h/d"),
            ("postgres://u:s3/c#ret@h/d?a=b", "postgres://u:***@h/d?a=b"),
            ("postgres://u:s3@c?a=b&ret@h/d", "postgres://u:***@h/d"),
            ("postgres://me@corp:s3cret@h/d", "postgres://me@corp:***@h/d"),
            ("postgres://h:1/d?password=s3@cret", "postgres://h:***"),
            ("postgres://h/d?p%61ssword=s3&cret", "postgres://h/d?p%61ssword=***"),
            ("postgres://h/d?sslpassword=s3cret", "postgres://h/d?sslpassword=***"),
            ("host=h password=s3 cret", "host=h password=***"),
            ("postgres://u:s3cret", "postgres://u:***"),
            ("postgres://u:s3cret/d?a=b", "postgres://u:***"),
            ("postgres://u:5432s3/cret", "postgres://u:***"),
            ("postgres://a:1,u:99999,b:2", "postgres://a:1,u:***"),
            ("postgres://a:1,[::1]:5432/d", "postgres://a:1,[::1]:5432/d"),
            ("postgres://[::1]:s3cret/d", "postgres://[::1]:***"),
            ("postgres:u:s3cret", "postgres:***"),
            ("u:s3cret", "u:***"),
            (
                "jdbc:postgresql://h/d?user=u&Password=s3cret",
                "jdbc:postgresql://h/d?user=u&Password=***",
            ),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn a_password_can_be_taken_out() {
        for (url, stripped) in [
            ("postgres://u:s3?cret@h/d?a=b", "postgres://u@h/d?a=b"),
            ("postgres://u@h/d?password=s3cret", "postgres://u@h/d"),
            ("postgres://u@h/d?a=b&password=s3cret&c=d", "postgres://u@h/d?a=b&c=d"),
            ("postgres:///d?host=/tmp", "postgres:///d?host=/tmp"),
        ] {
            assert_eq!(strip_password(url), stripped);
        }
    }
}
