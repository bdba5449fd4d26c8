//! What Postgres makes of JSON: what it refuses although it is JSON, and how long it is when it is
//! written out again. A follow-up that Postgres refuses at its settlement would cost all attempts
//! of the message that enqueued it.
//!
//! Source: `json_lex_string`, `set_var_from_str` and `make_result` in Postgres's
//! `src/backend/utils/adt/`.

use std::iter::Peekable;
use std::str::Bytes;

/// The deepest nesting that is let through. Postgres's own bound is the size of its stack, some
/// thousands.
const DEPTH_MAX: usize = 1_000;
/// The most digits of a numeric before the point, and after it.
const DIGITS_BEFORE_POINT_MAX: i64 = 131_072;
const DIGITS_AFTER_POINT_MAX: i64 = 16_383;
/// Postgres refuses an exponent from here on, even that of zero.
const EXPONENT_END: i64 = i32::MAX as i64 / 2;

/// Says why Postgres refuses `text` as `json`, if it does.
///
/// # Errors
/// What is wrong, in words for the handler's author.
pub(super) fn check_json(text: &str) -> Result<(), String> {
    serde_json::from_str::<&serde_json::value::RawValue>(text)
        .map_err(|error| format!("not JSON: {error}"))?;
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
    }
    Ok(())
}

/// The bytes of `text` when it comes out of a `jsonb`. If an object names a key twice, it is an
/// upper bound.
///
/// # Errors
/// Why Postgres refuses it, in words for the handler's author.
pub(super) fn jsonb_bytes(text: &str) -> Result<u64, String> {
    check_json(text)?;
    let mut bytes = text.bytes().peekable();
    let mut written = 0;
    while let Some(&byte) = bytes.peek() {
        if byte == b'-' || byte.is_ascii_digit() {
            written += number(&mut bytes)?;
            continue;
        }
        bytes.next();
        written += match byte {
            b'"' => 2 + string(&mut bytes)?,
            // With a space behind it.
            b',' | b':' => 2,
            b' ' | b'\t' | b'\n' | b'\r' => 0,
            _ => 1,
        };
    }
    Ok(written)
}

/// The bytes of an object of these texts when it comes out of a `jsonb`.
pub(super) fn object_bytes<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
    let quoted = |text: &str| 2 + text.chars().map(written_char).sum::<u64>() as usize;
    // `: ` in each, `, ` after each but the last, and the braces.
    pairs.map(|(key, value)| quoted(key) + quoted(value) + 4).sum::<usize>().max(2)
}

/// What a character of a string takes.
const fn written_char(c: char) -> u64 {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => c.len_utf8() as u64,
    }
}

/// A string up to its closing quote.
fn string(bytes: &mut Peekable<Bytes<'_>>) -> Result<u64, String> {
    let mut written = 0;
    let mut high = None;
    loop {
        let byte = bytes.next().unwrap_or(b'"');
        let escape = (byte == b'\\').then(|| bytes.next().unwrap_or(b'"'));
        let unit = (escape == Some(b'u')).then(|| hexadecimal(bytes));
        if let Some(high) = high.take() {
            if !unit.is_some_and(|unit| (0xdc00..0xe000).contains(&unit)) {
                return Err(lone(high));
            }
            // All such characters are of four bytes.
            written += 4;
            continue;
        }
        written += match (unit, escape, byte) {
            (Some(0), ..) => return Err("Postgres cannot store \\u0000 in a jsonb".into()),
            (Some(unit @ 0xd800..=0xdbff), ..) => {
                high = Some(unit);
                0
            }
            (Some(unit), ..) => match char::from_u32(unit) {
                Some(c) => written_char(c),
                None => return Err(lone(unit)),
            },
            (None, Some(b'/'), _) => 1,
            (None, Some(_), _) => 2,
            (None, None, b'"') => return Ok(written),
            // A byte of a longer character, or one that needs no escape.
            (None, None, _) => 1,
        };
    }
}

fn lone(unit: u32) -> String {
    format!("\\u{unit:04x} is half of a surrogate pair, which Postgres cannot store")
}

fn hexadecimal(bytes: &mut Peekable<Bytes<'_>>) -> u32 {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0);
    bytes.take(4).fold(0, |unit, byte| unit << 4 | digit(byte))
}

/// A number, as Postgres writes a numeric.
fn number(bytes: &mut Peekable<Bytes<'_>>) -> Result<u64, String> {
    let is_of_number = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
    let mut text = String::new();
    while let Some(byte) = bytes.next_if(is_of_number) {
        text.push(char::from(byte));
    }
    numeric_bytes(&text).ok_or_else(|| {
        let shown = if text.len() > 40 { format!("{}…", &text[..40]) } else { text };
        format!("the number {shown} is out of the range that Postgres can store")
    })
}

fn numeric_bytes(text: &str) -> Option<u64> {
    let is_negative = text.starts_with('-');
    let (mantissa, exponent) = text.trim_start_matches('-').split_once(['e', 'E']).unzip();
    let mantissa = mantissa.unwrap_or_else(|| text.trim_start_matches('-'));
    let exponent = match exponent {
        Some(text) => text.trim_start_matches('+').parse::<i64>().ok()?,
        None => 0,
    };
    if exponent.abs() >= EXPONENT_END {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let after_point = (fraction.len() as i64 - exponent).max(0);
    if after_point > DIGITS_AFTER_POINT_MAX {
        return None;
    }
    let first = whole.bytes().chain(fraction.bytes()).position(|digit| digit != b'0');
    let before_point = first.map_or(0, |first| whole.len() as i64 - first as i64 + exponent);
    if before_point > DIGITS_BEFORE_POINT_MAX {
        return None;
    }
    let sign = i64::from(is_negative && first.is_some());
    let fraction = if after_point > 0 { after_point + 1 } else { 0 };
    Some((sign + before_point.max(1) + fraction).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_jsonb_refuses_is_named() {
        let why = |text: &str| jsonb_bytes(text).unwrap_err();
        assert!(why("{").starts_with("not JSON: "));
        assert_eq!(why(r#"["\u0000"]"#), "Postgres cannot store \\u0000 in a jsonb");
        for lone in
            [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\n""#, r#""\ud83d\ud83d""#]
        {
            assert!(why(lone).contains("half of a surrogate pair"), "{lone}");
        }
        for far in ["1e999999", "[-1e131072]", "1e-16384", "0e1073741823", "1e99999999999999999999"]
        {
            assert!(why(far).contains("out of the range that Postgres can store"), "{far}");
        }
        let deep = |n| "[".repeat(n) + &"]".repeat(n);
        assert!(why(&deep(1_001)).contains("deeper than 1000"));
        assert_eq!(jsonb_bytes(&deep(1_000)), Ok(2_000));
    }

    #[test]
    fn what_it_writes_is_counted() {
        for (text, written) in [
            (r#"{"a":1,"b":[true,null]}"#, r#"{"a": 1, "b": [true, null]}"#),
            (" [ 1e3 , -0.0, -1.50E1 ] ", "[1000, 0.0, -15.0]"),
            (r#""\u00e9\/\u001f\ud83d\ude00\"\b[""#, r#""é/\u001f😀\"\b[""#),
            ("1.5e-3", "0.0015"),
            ("0e-3", "0.000"),
            ("{}", "{}"),
        ] {
            assert_eq!(jsonb_bytes(text), Ok(written.len() as u64), "{text}");
        }
        let pairs = [("a", "x\ny"), ("b\"", "\u{1}")];
        assert_eq!(object_bytes(pairs.into_iter()), r#"{"a": "x\ny", "b\"": "\u0001"}"#.len());
        assert_eq!(object_bytes(std::iter::empty()), 2);
    }
}
