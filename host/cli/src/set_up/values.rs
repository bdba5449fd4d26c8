//! How single values are written in the file. Each reads what it writes.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use host_core::cron::Missed;
use host_core::limits::Isolation;
use host_core::message::PayloadType;
use host_core::policy::unique::OnDuplicate;

/// A value that is written as a text: a time, a grant, a digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Written<T>(pub(crate) T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl<T: fmt::Display> Serialize for Written<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

/// A number of bytes: "1MiB". Written to the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<ByteSize>().map(|size| Self(size.as_u64()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let unit = units.into_iter().find(|(bytes, _)| self.0 > 0 && self.0.is_multiple_of(*bytes));
        let (bytes, name) = unit.unwrap_or((1, "B"));
        write!(f, "{}{name}", self.0 / bytes)
    }
}

/// One of a few values, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice<T>(pub(crate) T);

/// What can be chosen from.
pub(crate) trait Choices: Copy + 'static {
    /// All of them.
    const EACH: &'static [Self];

    /// As it is written.
    fn called(self) -> &'static str;
}

macro_rules! choices {
    ($type:ty, $each:expr, $name:ident) => {
        impl Choices for $type {
            const EACH: &'static [Self] = &$each;

            fn called(self) -> &'static str {
                self.$name()
            }
        }
    };
}

choices!(PayloadType, Self::ALL, sql_name);
choices!(OnDuplicate, Self::ALL, name);
choices!(Missed, Self::ALL, name);
choices!(Isolation, [Self::Message, Self::Batch], name);

impl<T: Choices> FromStr for Choice<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = T::EACH.iter().find(|value| value.called() == text);
        found.map(|value| Self(*value)).ok_or_else(|| {
            let known: Vec<&str> = T::EACH.iter().map(|value| value.called()).collect();
            format!("{text:?} is not one of {}", known.join(", "))
        })
    }
}

impl<T: Choices> fmt::Display for Choice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.called())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_written_to_the_byte() {
        for bytes in [0, 1, 1000, 1023, 1024, 1 << 20, (1 << 20) + 1, 3 << 29, 64 << 20, 1 << 40] {
            let text = Size(bytes).to_string();
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }
}
