//! A filter that a person writes, as in `error ~ 'timeout' and attempt >= 3 and died_at > now-1h`.
//! Here it becomes a predicate that can only compare. Never does I/O, and never becomes SQL:
//! Postgres gets it as the value of a parameter, in its language for predicates on JSON.

use std::time::{Duration, SystemTime};

use crate::format;

/// Parentheses and `not` within one another, at most.
const DEPTH_MAX: usize = 50;

/// What can be compared, and as what.
const FIELDS: [(&str, Kind); 8] = [
    ("id", Kind::Number),
    ("message", Kind::Number),
    ("handler", Kind::Text),
    ("reason", Kind::Text),
    ("error", Kind::Text),
    ("attempt", Kind::Number),
    ("died_at", Kind::Time),
    ("enqueued_at", Kind::Time),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Time,
}

/// A predicate on dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

/// Why a filter cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of the filter: {what}")]
pub struct FilterError {
    /// Where, in characters from 1.
    column: usize,
    /// What is wrong there, and what to do.
    what: String,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// What is wrong, and in which column.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut parser = Parser { tokens: tokens(text)?, next: 0 };
        let predicate = parser.any(0)?;
        match parser.peek() {
            Token::End => Ok(Self(predicate)),
            other => {
                Err(parser
                    .wrong(format!("{other} is unexpected: join conditions with `and` or `or`")))
            }
        }
    }

    /// The filter that lets one reason through, as it is called in SQL.
    #[must_use]
    pub fn reason(name: &str) -> Self {
        Self(format!("$.reason == {}", quoted(name)))
    }

    /// What both let through.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self(format!("({}) && ({})", self.0, other.0))
    }

    /// For Postgres, as its `jsonpath`. Times are seconds since 1970; `$now` is the present.
    #[must_use]
    pub fn jsonpath(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Symbol(&'static str),
    End,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => write!(f, "{word:?}"),
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::Symbol(symbol) => write!(f, "`{symbol}`"),
            Self::End => f.write_str("its end"),
        }
    }
}

/// Those that begin with another stand before it.
const SYMBOLS: [&str; 12] = ["!=", "!~", "<=", ">=", "<>", "=", "~", "<", ">", "(", ")", "-"];

/// The tokens and their columns; the end is one.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let column = text[..text.len() - rest.len()].chars().count() + 1;
        let token = if let Some(symbol) = SYMBOLS.into_iter().find(|s| rest.starts_with(s)) {
            rest = &rest[symbol.len()..];
            Token::Symbol(symbol)
        } else if rest.starts_with('\'') {
            let (value, after) = text_literal(rest).ok_or_else(|| FilterError {
                column,
                what: "this text is not closed: end it with '".to_owned(),
            })?;
            rest = after;
            Token::Text(value)
        } else {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            match rest.chars().next() {
                None => {
                    tokens.push((column, Token::End));
                    return Ok(tokens);
                }
                Some(c) if end == 0 => {
                    let what = format!("unexpected {c:?}; write texts 'like this'");
                    return Err(FilterError { column, what });
                }
                Some(_) => {
                    let word = rest[..end].to_owned();
                    rest = &rest[end..];
                    Token::Word(word)
                }
            }
        };
        tokens.push((column, token));
    }
}

/// A text in quotes, of which two stand for one, and what comes after it.
fn text_literal(from: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = &from[1..];
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        // The end stays.
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn took_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        self.next += usize::from(is);
        is
    }

    fn wrong(&self, what: String) -> FilterError {
        FilterError { column: self.tokens[self.next].0, what }
    }

    fn any(&mut self, depth: usize) -> Result<String, FilterError> {
        let mut parts = vec![self.all(depth)?];
        while self.took_word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(parts.join(" || "))
    }

    fn all(&mut self, depth: usize) -> Result<String, FilterError> {
        let mut parts = vec![self.one(depth)?];
        while self.took_word("and") {
            parts.push(self.one(depth)?);
        }
        Ok(parts.join(" && "))
    }

    fn one(&mut self, depth: usize) -> Result<String, FilterError> {
        if depth > DEPTH_MAX {
            return Err(self.wrong(format!("more than {DEPTH_MAX} levels of parentheses")));
        }
        if self.took_word("not") {
            return Ok(format!("!({})", self.one(depth + 1)?));
        }
        if *self.peek() == Token::Symbol("(") {
            self.take();
            let inner = self.any(depth + 1)?;
            if *self.peek() != Token::Symbol(")") {
                return Err(self.wrong(format!("a `)` is missing before {}", self.peek())));
            }
            self.take();
            return Ok(format!("({inner})"));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<String, FilterError> {
        let names = || FIELDS.map(|(name, _)| name).join(", ");
        let field = FIELDS.into_iter().find(|(name, _)| self.is_word(name));
        let Some((name, kind)) = field else {
            let what = format!("{} is no field: use one of {}", self.peek(), names());
            return Err(self.wrong(what));
        };
        self.take();
        let operator = match (self.peek(), kind) {
            (Token::Symbol("="), Kind::Text | Kind::Number) => "==",
            (Token::Symbol("!=" | "<>"), Kind::Text | Kind::Number) => "!=",
            (Token::Symbol(s @ ("<" | "<=" | ">" | ">=")), Kind::Number | Kind::Time)
            | (Token::Symbol(s @ ("~" | "!~")), Kind::Text) => s,
            (other, kind) => {
                let known = match kind {
                    Kind::Text => "=, !=, ~ or !~",
                    Kind::Number => "=, !=, <, <=, > or >=",
                    Kind::Time => "<, <=, > or >=",
                };
                return Err(self.wrong(format!("after {name} comes {known}, not {other}")));
            }
        };
        self.take();
        let value = match kind {
            Kind::Text => self.text()?,
            Kind::Number => self.number()?,
            Kind::Time => self.time()?,
        };
        Ok(match operator {
            "~" => format!("$.{name} like_regex {value}"),
            "!~" => format!("!($.{name} like_regex {value})"),
            operator => format!("$.{name} {operator} {value}"),
        })
    }

    fn text(&mut self) -> Result<String, FilterError> {
        match self.peek() {
            Token::Text(text) if text.contains('\0') => {
                Err(self.wrong("Postgres has no text with a NUL character".to_owned()))
            }
            Token::Text(text) => {
                let value = quoted(text);
                self.take();
                Ok(value)
            }
            other => Err(self.wrong(format!("{other} is no text: write it 'like this'"))),
        }
    }

    fn number(&mut self) -> Result<String, FilterError> {
        match self.peek() {
            Token::Word(word) if word.parse::<u64>().is_ok() => {
                let value = word.clone();
                self.take();
                Ok(value)
            }
            other => Err(self.wrong(format!("{other} is no whole number"))),
        }
    }

    /// `now`, `now-1h30m`, or a moment in quotes.
    fn time(&mut self) -> Result<String, FilterError> {
        if self.took_word("now") {
            if *self.peek() != Token::Symbol("-") {
                return Ok("$now".to_owned());
            }
            self.take();
            let span = match self.peek() {
                Token::Word(word) => humantime::parse_duration(word).ok(),
                _ => None,
            };
            let Some(span) = span else {
                let what = format!("{} is not a time span: write it as 1h or 1h30m", self.peek());
                return Err(self.wrong(what));
            };
            self.take();
            return Ok(format!("($now - {})", seconds(span)));
        }
        let moment = match self.peek() {
            Token::Text(text) => format::parse_time(text).ok(),
            _ => None,
        };
        let since = moment.and_then(|m| m.duration_since(SystemTime::UNIX_EPOCH).ok());
        let Some(since) = since else {
            return Err(self.wrong(format!(
                "{} is not a time: write it as now, now-1h or '2030-01-31 08:00:00'",
                self.peek()
            )));
        };
        self.take();
        Ok(seconds(since))
    }
}

fn seconds(span: Duration) -> String {
    format!("{}.{:06}", span.as_secs(), span.subsec_micros())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> String {
        Filter::parse(text).expect(text).jsonpath().to_owned()
    }

    fn wrong(text: &str) -> String {
        Filter::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn a_filter_becomes_a_predicate() {
        assert_eq!(
            path("error ~ 'timeout' and attempt >= 3 and died_at > now-1h"),
            "$.error like_regex \"timeout\" && $.attempt >= 3 && $.died_at > ($now - 3600.000000)"
        );
        assert_eq!(
            path(
                "not (handler='a' OR reason !~ 'it''s \"x\"') and enqueued_at<'1970-01-01 00:01:00'"
            ),
            "!(($.handler == \"a\" || !($.reason like_regex \"it's \\\"x\\\"\"))) && $.enqueued_at < 60.000000"
        );
        let both = Filter::reason("rejected").and(&Filter::parse("id=1 or id=2").unwrap());
        assert_eq!(both.jsonpath(), "($.reason == \"rejected\") && ($.id == 1 || $.id == 2)");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_column() {
        for (text, why) in [
            ("", "column 1 of the filter: its end is no field: use one of id, message, handler,"),
            ("eror = 'x'", "column 1 of the filter: \"eror\" is no field"),
            (
                "error = timeout",
                "column 9 of the filter: \"timeout\" is no text: write it 'like this'",
            ),
            ("error > 'x'", "column 7 of the filter: after error comes =, !=, ~ or !~, not `>`"),
            ("attempt = 'x'", "column 11 of the filter: the text \"x\" is no whole number"),
            ("died_at = now", "column 9 of the filter: after died_at comes <, <=, > or >="),
            ("died_at > now-1x", "column 15 of the filter: \"1x\" is not a time span"),
            ("died_at > yesterday", "column 11 of the filter: \"yesterday\" is not a time"),
            ("(id = 1", "column 8 of the filter: a `)` is missing before its end"),
            (
                "id = 1 id = 2",
                "column 8 of the filter: \"id\" is unexpected: join conditions with `and` or `or`",
            ),
            ("error = 'x", "column 9 of the filter: this text is not closed"),
            ("é = 1; DROP", "column 6 of the filter: unexpected ';'"),
        ] {
            let text = wrong(text);
            assert!(text.starts_with(why), "{text}");
        }
        assert!(wrong(&"(".repeat(10_000)).contains("50 levels"));
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_makes_it_panic(text in "[a-z_'()=~<>! 0-9éx-]{0,60}") {
            let _ = Filter::parse(&text);
        }

        #[test]
        fn a_text_stays_one_text(text in "[^\0]{0,40}") {
            let literal = text.replace('\'', "''");
            let made = path(&format!("error = '{literal}'"));
            let value: String = serde_json::from_str(made.strip_prefix("$.error == ").unwrap()).unwrap();
            prop_assert_eq!(value, text);
        }
    }
}
