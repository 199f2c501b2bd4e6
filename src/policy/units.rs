//! Values with a unit or a range: durations, sizes, shares, dollars, counts,
//! names, patterns and secrets.
//!
//! Invariant: a value out of its range does not exist.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use regex::Regex;
use serde_json::{Value, json};

use super::shape::{Reader, Shape};
use super::yaml::{Data, Node};
use crate::price::Usd;

impl Shape for String {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "text")?;
        if text.is_empty() {
            reader.refuse(&node.span, "empty text", "write something, or leave the key out")
        } else {
            Some(text)
        }
    }
    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }
    fn node(&self) -> Node {
        Node::text(self)
    }
}

impl Shape for bool {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match reader.scalar(node, "true or false")?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            other => reader.refuse(&node.span, format!("`{other}` is neither true nor false"), "write true or false"),
        }
    }
    fn schema() -> Value {
        json!({"type": "boolean"})
    }
    fn node(&self) -> Node {
        Node::plain(self)
    }
}

/// A number that must lie in a range, else the problem says which.
fn number(node: &Node, reader: &mut Reader<'_>, wanted: &str, fits: impl Fn(f64) -> bool) -> Option<f64> {
    let text = reader.scalar(node, wanted)?;
    match text.parse::<f64>() {
        Ok(value) if fits(value) => Some(value),
        _ => reader.refuse(&node.span, format!("`{text}` is not {wanted}"), format!("write {wanted}")),
    }
}

/// A number in 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl Shape for Share {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        number(node, reader, "a number from 0 to 1", |v| (0.0..=1.0).contains(&v)).map(Self)
    }
    fn schema() -> Value {
        json!({"type": "number", "minimum": 0, "maximum": 1})
    }
    fn node(&self) -> Node {
        Node::plain(self.0)
    }
}

/// An amount of dollars, 0 or more.
impl Shape for Usd {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let dollars = number(node, reader, "an amount of dollars, 0 or more", |v| (0.0..1e9).contains(&v))?;
        Usd::from_dollars(dollars)
    }
    fn schema() -> Value {
        json!({"type": "number", "minimum": 0})
    }
    fn node(&self) -> Node {
        Node::plain(self)
    }
}

/// A whole number of 1 or more.
impl Shape for NonZeroU32 {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a whole number, 1 or more")?;
        text.replace('_', "").parse().ok().or_else(|| {
            reader.refuse(
                &node.span,
                format!("`{text}` is not a whole number, 1 or more"),
                "leave the key out where nothing is limited",
            )
        })
    }
    fn schema() -> Value {
        json!({"type": "integer", "minimum": 1, "maximum": u32::MAX})
    }
    fn node(&self) -> Node {
        Node::plain(self)
    }
}

/// A whole number of 0 or more.
impl Shape for usize {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a whole number")?;
        text.replace('_', "")
            .parse()
            .ok()
            .or_else(|| reader.refuse(&node.span, format!("`{text}` is not a whole number"), "write digits only"))
    }
    fn schema() -> Value {
        json!({"type": "integer", "minimum": 0})
    }
    fn node(&self) -> Node {
        Node::plain(self)
    }
}

/// Splits `64MiB` into the number and the unit.
fn with_unit(text: &str) -> Option<(f64, &str)> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: f64 = text[..digits].trim().replace('_', "").parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some((number, text[digits..].trim()))
}

/// A span of time with its unit: `500ms`, `30s`, `5m`, `1h`, `7d`.
impl Shape for Duration {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a duration such as 30s")?;
        let seconds = with_unit(&text).and_then(|(number, unit)| {
            let unit = match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
            Some(number * unit)
        });
        match seconds.map(Duration::try_from_secs_f64) {
            Some(Ok(time)) if !time.is_zero() => Some(time),
            _ => reader.refuse(
                &node.span,
                format!("`{text}` is not a duration"),
                "write a number above 0 and its unit: 500ms, 30s, 5m, 1h, 7d",
            ),
        }
    }
    fn schema() -> Value {
        json!({"type": "string", "pattern": r"^[0-9._]+\s*(ms|s|m|min|h|d)$"})
    }
    fn node(&self) -> Node {
        let ms = self.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let whole = units.iter().find(|(size, _)| ms > 0 && ms.is_multiple_of(*size));
        Node::plain(whole.map_or(format!("{ms}ms"), |(size, unit)| format!("{}{unit}", ms / size)))
    }
}

/// A size in bytes with its unit: `4096`, `64KiB`, `10MB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl ByteSize {
    const UNITS: [(&'static str, u64); 8] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1000),
        ("kB", 1000),
        ("B", 1),
    ];
}

impl Shape for ByteSize {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a size such as 64MiB")?;
        let bytes = with_unit(&text).and_then(|(number, unit)| {
            let unit = if unit.is_empty() { 1 } else { Self::UNITS.iter().find(|(name, _)| *name == unit)?.1 };
            #[expect(clippy::cast_precision_loss, reason = "units are small powers")]
            let bytes = number * unit as f64;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "in range by the check before it"
            )]
            (1.0..9e15).contains(&bytes).then_some(bytes as u64)
        });
        match bytes {
            Some(bytes) => Some(Self(bytes)),
            None => reader.refuse(
                &node.span,
                format!("`{text}` is not a size"),
                "write a number and its unit: 64KiB, 10MB, 1GiB",
            ),
        }
    }
    fn schema() -> Value {
        json!({"type": ["string", "integer"], "pattern": r"^[0-9._]+\s*(GiB|MiB|KiB|GB|MB|KB|kB|B)?$"})
    }
    fn node(&self) -> Node {
        let whole = Self::UNITS.iter().find(|(_, size)| self.0.is_multiple_of(*size));
        Node::plain(whole.map_or(self.0.to_string(), |(name, size)| format!("{}{name}", self.0 / size)))
    }
}

/// A name: letters, digits, `-`, `_`, `.`, `/` and `:`, as in model names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

impl Shape for Name {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a name")?;
        let fits = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:".contains(c));
        // Names go into headers and metric labels as they are.
        if fits {
            Some(Self(text))
        } else {
            reader.refuse(&node.span, format!("`{text}` is not a name"), "use letters, digits and - _ . / : only")
        }
    }
    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[A-Za-z0-9._/:-]+$"})
    }
    fn node(&self) -> Node {
        Node::text(&self.0)
    }
}

/// A regular expression, compiled once.
impl Shape for Regex {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a regular expression")?;
        Regex::new(&text)
            .map_err(|e| {
                let why = e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                reader.refuse::<()>(
                    &node.span,
                    format!("not a regular expression: {why}"),
                    "the syntax is that of docs.rs/regex; quote it with '...' in YAML",
                );
            })
            .ok()
    }
    fn schema() -> Value {
        json!({"type": "string", "format": "regex"})
    }
    fn node(&self) -> Node {
        Node::text(self.as_str())
    }
}

/// A base URL, `http` or `https`, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(pub String);

impl Shape for BaseUrl {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a base URL")?;
        let uri = text.parse::<http::Uri>().ok();
        let whole = uri
            .filter(|u| matches!(u.scheme_str(), Some("http" | "https")) && u.host().is_some() && u.query().is_none());
        match whole {
            Some(uri) if uri.authority().is_some_and(|a| !a.as_str().contains('@')) => {
                Some(Self(text.trim_end_matches('/').to_owned()))
            }
            // Left as written: a variable that nothing is asked through.
            _ if text.contains("${") => Some(Self(text)),
            _ => reader.refuse(
                &node.span,
                format!("`{text}` is not a base URL"),
                "write one such as https://api.openai.com/v1, without user, password or query",
            ),
        }
    }
    fn schema() -> Value {
        json!({"type": "string", "pattern": r"^(https?://|\$\{)"})
    }
    fn node(&self) -> Node {
        Node::text(&self.0)
    }
}

/// A secret, given as `${VAR}`. Shown only as it was written in the file.
#[derive(Clone)]
pub struct Secret {
    value: String,
    written: String,
}

impl Secret {
    /// The secret itself; only for the header it goes into.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.written)
    }
}

impl Shape for Secret {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let value = reader.scalar(node, "\"${VARIABLE}\"")?;
        let Data::Scalar { text, .. } = &node.data else { return None };
        if !(text.starts_with("${") && text.ends_with('}')) {
            return reader.refuse(
                &node.span,
                "a secret in a policy file",
                "put it into the environment and write \"${OPENAI_API_KEY}\" here",
            );
        }
        if value.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
            return reader.refuse(
                &node.span,
                format!("the value of {text} has characters no header can carry"),
                "is there a line break at its end?",
            );
        }
        Some(Self { value, written: text.clone() })
    }
    fn schema() -> Value {
        json!({"type": "string", "pattern": r"^\$\{.+\}$"})
    }
    fn node(&self) -> Node {
        Node::text(&self.written)
    }
}
