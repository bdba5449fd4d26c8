//! Secrets: their names, their values, and how to keep them out of what people read. Never does
//! I/O.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// A line of a value that is shorter is not hidden: it would be found in all sorts of text.
const HIDDEN_BYTES_MIN: usize = 8;

/// The name of a secret: 1 to 64 letters, digits, `_`, `-` and `.`, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretName(Arc<str>);

/// Why a text is no name of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a secret's name: use {NAME_BYTES_MAX} or fewer letters, digits, underscores, hyphens and dots, beginning with a letter"
)]
pub struct SecretNameError(String);

/// A secret's value. Nothing that prints it shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// Why a value cannot be kept. Does not show it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing in it.
    #[error("the value is empty")]
    Empty,
    /// More bytes than are kept.
    #[error("the value has {0} bytes and at most {VALUE_BYTES_MAX} are kept")]
    TooLong(usize),
    /// Postgres could not store it.
    #[error("the value is not UTF-8 text without NUL characters; encode it, as with base64")]
    NotText,
}

/// All secrets that some deployment is granted, as they are now. Swapped when one changes.
pub type Secrets = Arc<ArcSwap<HashMap<SecretName, Secret>>>;

impl FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(name: &str) -> Result<Self, SecretNameError> {
        let sound = name.len() <= NAME_BYTES_MAX
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if sound { Ok(Self(name.into())) } else { Err(SecretNameError(name.to_owned())) }
    }
}

impl SecretName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Secret {
    /// A value as it came from a file or a pipe; the end of its last line is not part of it.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SecretError> {
        let mut text = String::from_utf8(bytes).map_err(|_| SecretError::NotText)?;
        let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        text.truncate(line.map_or(text.len(), str::len));
        match text.len() {
            0 => Err(SecretError::Empty),
            bytes if bytes > VALUE_BYTES_MAX => Err(SecretError::TooLong(bytes)),
            _ if text.contains('\0') => Err(SecretError::NotText),
            _ => Ok(Self(text.into())),
        }
    }

    /// The value as the database keeps it.
    #[must_use]
    pub fn from_stored(value: String) -> Self {
        Self(value.into())
    }

    /// The value, for who is granted it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The text with `***` for each line of a secret's value.
#[must_use]
pub fn hide<'a>(text: &'a str, secrets: &[Secret]) -> Cow<'a, str> {
    let mut found: Vec<_> = hidden_lines(secrets).filter(|line| text.contains(line)).collect();
    // One may be the beginning of another, whose rest would stay.
    found.sort_unstable_by_key(|line| Reverse(line.len()));
    let hide_line = |shown: Cow<'a, str>, line| shown.replace(line, "***").into();
    found.into_iter().fold(Cow::Borrowed(text), hide_line)
}

/// Like [`hide`], of a text of which no more than `bytes_max` bytes matter: it costs no more if it
/// is longer.
#[must_use]
pub fn hide_in_beginning<'a>(text: &'a str, secrets: &[Secret], bytes_max: usize) -> Cow<'a, str> {
    let longest = longest_hidden(secrets);
    let end = text.floor_char_boundary(bytes_max.saturating_add(longest));
    if end == text.len() {
        return hide(text, secrets);
    }
    let mut shown = hide(&text[..end], secrets).into_owned();
    // Where a secret was cut, its beginning is not known for one.
    shown.truncate(shown.floor_char_boundary(shown.len().saturating_sub(longest)));
    shown.push('…');
    shown.into()
}

/// The length of the longest line that is hidden, in bytes.
#[must_use]
pub fn longest_hidden(secrets: &[Secret]) -> usize {
    hidden_lines(secrets).map(str::len).max().unwrap_or(0)
}

/// Where to cut a text at `at` or before, so that neither part has half of a secret. Where one
/// begins the text, the cut is behind it. The text goes on for [`longest_hidden`] bytes after `at`,
/// or ends.
#[must_use]
pub fn cut_beside(text: &[u8], secrets: &[Secret], at: usize) -> usize {
    let mut cut = at;
    while let Some((begin, _)) = secret_across(text, secrets, cut) {
        cut = begin;
    }
    if cut == 0 {
        cut = at;
        while let Some((_, end)) = secret_across(text, secrets, cut) {
            cut = end;
        }
    }
    cut
}

/// The place of a secret that begins before `at` and ends after it.
fn secret_across(text: &[u8], secrets: &[Secret], at: usize) -> Option<(usize, usize)> {
    hidden_lines(secrets).find_map(|line| {
        let mut begins = (at + 1).saturating_sub(line.len())..at;
        let begin = begins.find(|begin| text[*begin..].starts_with(line.as_bytes()))?;
        Some((begin, begin + line.len()))
    })
}

fn hidden_lines(secrets: &[Secret]) -> impl Iterator<Item = &str> {
    let lines = secrets.iter().flat_map(|secret| secret.reveal().lines());
    lines.filter(|line| line.len() >= HIDDEN_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> Secret {
        Secret::from_bytes(value.into()).unwrap()
    }

    #[test]
    fn values_are_taken_as_files_have_them() {
        assert_eq!(secret("a b\n").reveal(), "a b");
        assert_eq!(secret("a\r\n").reveal(), "a");
        assert_eq!(secret("a\n\n").reveal(), "a\n");
        let refused = |bytes: &[u8]| Secret::from_bytes(bytes.to_vec()).unwrap_err();
        assert_eq!(refused(b"\n"), SecretError::Empty);
        assert_eq!(refused(b"\xff"), SecretError::NotText);
        assert_eq!(refused(b"a\0b"), SecretError::NotText);
        assert_eq!(refused(&vec![b'a'; VALUE_BYTES_MAX + 1]), SecretError::TooLong(65_537));
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", Some(secret("hunter22"))), "Some(***)");
        let secrets = [secret("hunter22"), secret("short"), secret("line one\nline two")];
        assert_eq!(hide("key=hunter22; hunter22", &secrets), "key=***; ***");
        assert_eq!(hide("line two, short", &secrets), "***, short");
        assert!(matches!(hide("nothing", &secrets), Cow::Borrowed("nothing")));
    }

    #[test]
    fn a_secret_within_another_does_not_spare_the_rest() {
        let secrets = [secret("abcdefgh"), secret("abcdefgh-rest"), secret("12345678\nabcdefgh-")];
        assert_eq!(hide("abcdefgh-rest abcdefgh-r abcdefgh", &secrets), "*** ***r ***");
    }

    #[test]
    fn of_a_long_text_the_beginning_is_shown_without_secrets() {
        let secrets = [secret("abcdefghij")];
        let shown = |text: &str| hide_in_beginning(text, &secrets, 12).into_owned();
        assert_eq!(
            shown("12 abcdefghij 345678"),
            "12 abcdefghij 345678".replace("abcdefghij", "***")
        );
        // Wherever the cut is, and however much shorter the text became before it.
        for before in 0..40 {
            let text = "x".repeat(before) + &"abcdefghij".repeat(4);
            let shown = shown(&text);
            assert!(!shown.contains('a'), "{shown}");
            assert!(shown.len() <= 12 + "…".len(), "{shown}");
        }
        let shown = hide_in_beginning(&"é".repeat(20), &[], 5).into_owned();
        assert_eq!(shown, "éé…");
    }

    #[test]
    fn no_cut_goes_through_a_secret() {
        let secrets = [secret("abcdefghij"), secret("hijklmnop")];
        for before in 0..60 {
            for value in ["abcdefghij", "abcdefghijklmnop", "abcdefghijabcdefghij"] {
                let text = "x".repeat(before) + value + &"y".repeat(40);
                let cut = cut_beside(text.as_bytes(), &secrets, 30);
                let (left, right) = text.split_at(cut);
                let shown = format!("{} {}", hide(left, &secrets), hide(right, &secrets));
                assert!(!shown.contains("ab") && !shown.contains("ij"), "{shown}");
                assert!(cut > 0 && (cut <= 30 || before == 0), "{cut}");
            }
        }
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "STRIPE_KEY", "a.b-c9"] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in ["", "9a", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }
}
