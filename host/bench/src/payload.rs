//! The messages of a benchmark. Pure.

/// The JSON of message `n`, of so many bytes as a producer writes it if its number leaves room.
#[must_use]
pub(crate) fn payload(n: u64, bytes: usize) -> String {
    let mut text = format!("{{\"n\":{n},\"to\":\"");
    let rest = bytes.saturating_sub(text.len() + 2);
    text.extend("ada@example.com/".chars().cycle().take(rest));
    text.push_str("\"}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_size_that_was_asked_for() {
        assert_eq!(payload(7, 45).len(), 45);
        assert_eq!(payload(123_456_789, 1_000).len(), 1_000);
        let text = payload(7, 45);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["n"], 7);
        assert_eq!(payload(7, 0), r#"{"n":7,"to":""}"#);
    }
}
