//! Values with a unit or a range: durations, sizes, shares, dollars, counts.
//!
//! Invariant: a value out of its range does not exist.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};

use super::shape::{Reader, Shape};
use super::yaml::Node;
use crate::price::Usd;

impl Shape for bool {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match reader.scalar(node, "true or false")?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            other => reader.refuse(&node.span, format!("`{other}` is neither true nor false"), "write true or false"),
        }
    }
    fn stand_in() -> Option<Self> {
        Some(false)
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
    fn stand_in() -> Option<Self> {
        Some(Self(1.0))
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
    fn stand_in() -> Option<Self> {
        Some(Self::ZERO)
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
    fn stand_in() -> Option<Self> {
        Some(Self::MIN)
    }
    fn schema() -> Value {
        json!({"type": "integer", "minimum": 1, "maximum": u32::MAX})
    }
    fn node(&self) -> Node {
        Node::plain(self)
    }
}

/// A whole number of 0 to a thousand: tries, weights.
impl Shape for u32 {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.scalar(node, "a whole number from 0 to 1000")?;
        text.parse().ok().filter(|n| *n <= 1000).or_else(|| {
            reader.refuse(&node.span, format!("`{text}` is not a whole number from 0 to 1000"), "write digits only")
        })
    }
    fn stand_in() -> Option<Self> {
        Some(0)
    }
    fn schema() -> Value {
        json!({"type": "integer", "minimum": 0, "maximum": 1000})
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
    fn stand_in() -> Option<Self> {
        Some(0)
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

/// A year: longer ones are typing errors, and clocks overflow.
const MAX_DURATION: Duration = Duration::from_hours(24 * 366);

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
            Some(Ok(time)) if !time.is_zero() && time <= MAX_DURATION => Some(time),
            _ => reader.refuse(
                &node.span,
                format!("`{text}` is not a duration"),
                "write a number above 0 and its unit, a year at most: 500ms, 30s, 5m, 1h, 7d",
            ),
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self::from_secs(1))
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
    fn stand_in() -> Option<Self> {
        Some(Self(1))
    }
    fn schema() -> Value {
        json!({"type": ["string", "integer"], "pattern": r"^[0-9._]+\s*(GiB|MiB|KiB|GB|MB|KB|kB|B)?$"})
    }
    fn node(&self) -> Node {
        let whole = Self::UNITS.iter().find(|(_, size)| self.0.is_multiple_of(*size));
        Node::plain(whole.map_or(self.0.to_string(), |(name, size)| format!("{}{name}", self.0 / size)))
    }
}
