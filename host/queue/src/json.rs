//! JSON out of the database, read leniently. A jsonb can hold what `serde_json` refuses: numbers
//! beyond a double, and nesting deeper than 128. One such value must not spoil the rest of an
//! answer.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::error::QueueError;
use host_core::message::Headers;

type SqlError = Box<dyn Error + Sync + Send>;

/// The bytes of a jsonb as it travels, without its version. Of any other type: all.
pub(super) fn bytes<'a>(ty: &Type, raw: &'a [u8]) -> Result<&'a [u8], SqlError> {
    if *ty != Type::JSONB {
        return Ok(raw);
    }
    match raw.split_first() {
        // See jsonb_send in Postgres's src/backend/utils/adt/jsonb.c.
        Some((1, text)) => Ok(text),
        version => Err(format!("jsonb of an unknown version: {version:?}").into()),
    }
}

/// JSON text, not parsed.
pub(super) struct Text<'a>(pub(super) &'a str);

impl<'a> FromSql<'a> for Text<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, SqlError> {
        Ok(Self(std::str::from_utf8(bytes(ty, raw)?)?))
    }

    fn accepts(ty: &Type) -> bool {
        [Type::JSONB, Type::JSON].contains(ty)
    }
}

/// A column of JSON that somebody else has filled, for people. A part that `serde_json` refuses is
/// its JSON text.
pub(super) fn optional(row: &Row, column: &str) -> Result<Option<Value>, QueueError> {
    Ok(row.try_get::<_, Option<Text<'_>>>(column)?.map(|Text(text)| lenient(text)))
}

fn lenient(text: &str) -> Value {
    let part =
        |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or_else(|_| Value::from(raw.get()));
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    if let Ok(object) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
        return object.into_iter().map(|(key, raw)| (key, part(raw))).collect();
    }
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(array) => array.into_iter().map(part).collect(),
        Err(_) => Value::from(text),
    }
}

/// The headers of a message. A value that is a JSON string comes as its text, any other as JSON
/// text.
pub(super) struct HeadersColumn(pub(super) Headers);

impl<'a> FromSql<'a> for HeadersColumn {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, SqlError> {
        Ok(serde_json::from_slice(bytes(ty, raw)?)?)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

impl<'de> Deserialize<'de> for HeadersColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = HeadersColumn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeadersColumn, A::Error> {
                let mut headers = Headers::default();
                while let Some((key, raw)) = map.next_entry::<String, &RawValue>()? {
                    match serde_json::from_str::<String>(raw.get()) {
                        Ok(text) => headers.push(&key, &text),
                        Err(_) => headers.push(&key, raw.get()),
                    }
                }
                Ok(HeadersColumn(headers))
            }

            // JSON's null is no headers, as SQL's is.
            fn visit_unit<E>(self) -> Result<HeadersColumn, E> {
                Ok(HeadersColumn(Headers::default()))
            }
        }
        deserializer.deserialize_any(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deeper than `serde_json` goes.
    fn deep() -> String {
        format!("{}{}", "[".repeat(1_000), "]".repeat(1_000))
    }

    #[test]
    fn headers_are_read_whatever_their_values_are() {
        let deep = deep();
        let text = format!(
            r#"{{"a": "x\ny", "b": 1e400, "c": {deep}, "d": null, "e": {{"n": 1.10}}, "\u00e9": ""}}"#
        );
        let HeadersColumn(headers) = serde_json::from_str(&text).unwrap();
        let expected = [
            ("a", "x\ny"),
            ("b", "1e400"),
            ("c", deep.as_str()),
            ("d", "null"),
            ("e", r#"{"n": 1.10}"#),
            ("é", ""),
        ];
        assert!(headers.iter().eq(expected), "{headers:?}");
        let HeadersColumn(none) = serde_json::from_str("null").unwrap();
        assert_eq!(none.iter().count(), 0);
        for wrong in ["[1]", "1", "true", r#""x""#] {
            assert!(serde_json::from_str::<HeadersColumn>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_the_library_refuses_is_text_and_its_neighbours_are_not() {
        let deep = deep();
        let object = lenient(&format!(r#"{{"a": 5, "b": 1e400, "c": {deep}}}"#));
        assert_eq!(object["a"], 5);
        assert_eq!((&object["b"], &object["c"]), (&Value::from("1e400"), &Value::from(deep)));
        assert_eq!(lenient("[1, 1e400]"), serde_json::json!([1, "1e400"]));
        assert_eq!(lenient("1e400"), "1e400");
    }
}
