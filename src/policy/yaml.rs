//! YAML text as a tree that remembers where each value stands, and back.
//!
//! Invariant: spans are byte ranges of the source; order of keys is kept.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use super::problem::Problem;

/// A YAML value and where it stands.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Bytes of the source; empty for a value that was not read from one.
    pub span: Range<usize>,
    /// The value.
    pub data: Data,
}

/// The three kinds of YAML values.
#[derive(Clone, Debug)]
pub enum Data {
    /// Text; `plain` when written without quotes, so that it may be a number.
    Scalar {
        /// The text without its quotes.
        text: String,
        /// Whether it stood without quotes.
        plain: bool,
    },
    /// A list.
    Seq(Vec<Node>),
    /// Keys and values in the order they are written.
    Map(Vec<(Node, Node)>),
}

impl Default for Data {
    fn default() -> Self {
        Self::Scalar { text: String::new(), plain: true }
    }
}

impl Node {
    /// A value without quotes: a number, a word, a duration.
    #[must_use]
    pub fn plain(text: impl std::fmt::Display) -> Self {
        Self { data: Data::Scalar { text: text.to_string(), plain: true }, ..Self::default() }
    }

    /// Text, quoted where YAML would read it as something else.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { data: Data::Scalar { text: text.to_owned(), plain: false }, ..Self::default() }
    }

    /// A list.
    #[must_use]
    pub fn seq(items: Vec<Self>) -> Self {
        Self { data: Data::Seq(items), ..Self::default() }
    }

    /// A mapping.
    #[must_use]
    pub fn map(entries: Vec<(&str, Self)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (Self::plain(key), value)).collect();
        Self { data: Data::Map(entries), ..Self::default() }
    }

    /// True for a value that is there but says nothing, as in `key:`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null"))
    }

    /// What kind of value this is, in words for a person.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.data {
            _ if self.is_null() => "nothing",
            Data::Scalar { .. } => "a single value",
            Data::Seq(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }
}

/// Reads one document as JSON, as readers of YAML 1.1 do: what stands without quotes and
/// is a number, yes, no or nothing is that, and `<<` takes over what another map says.
///
/// # Errors
/// As of [`parse`].
pub fn value(source: &str) -> Result<Value, Problem> {
    fn of(node: &Node) -> Value {
        match &node.data {
            Data::Scalar { text, plain: true } => match text.as_str() {
                "" | "~" | "null" | "Null" | "NULL" => Value::Null,
                "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
                "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Value::Bool(false),
                text => text.parse::<serde_json::Number>().map_or_else(|_| Value::from(text), Value::Number),
            },
            Data::Scalar { text, plain: false } => Value::from(text.as_str()),
            Data::Seq(items) => items.iter().map(of).collect(),
            Data::Map(entries) => {
                let key = |key: &Node| match &key.data {
                    Data::Scalar { text, .. } => text.clone(),
                    Data::Seq(_) | Data::Map(_) => String::new(),
                };
                let (merged, own): (Vec<_>, Vec<_>) =
                    entries.iter().map(|(name, value)| (key(name), of(value))).partition(|(name, _)| name == "<<");
                let mut all = Map::new();
                // The first of several counts, and what stands here before them.
                for (_, maps) in merged {
                    let maps = if let Value::Array(maps) = maps { maps } else { vec![maps] };
                    for (name, value) in maps.into_iter().rev().filter_map(|map| map.as_object().cloned()).flatten() {
                        all.insert(name, value);
                    }
                }
                all.extend(own);
                Value::Object(all)
            }
        }
    }
    parse(source).map(|node| of(&node))
}

/// More values than any real policy; aliases of aliases get here in no time.
const MAX_VALUES: usize = 200_000;

/// Deeper than any real policy, and far from the end of the stack.
const MAX_DEPTH: usize = 64;

/// Reads one document.
///
/// # Errors
/// When the text is not YAML, holds several documents, or unfolds without end.
pub fn parse(source: &str) -> Result<Node, Problem> {
    let mut reader = TreeReader {
        events: Parser::new_from_str(source),
        bytes: source.char_indices().map(|(at, _)| at).chain([source.len()]).collect(),
        anchors: HashMap::new(),
        left: MAX_VALUES,
    };
    let mut document = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => break,
            _ if document.is_some() => {
                return Err(Problem::new(reader.range(span), "a second YAML document").help("keep one policy per file"));
            }
            event => document = Some(reader.value(event, span, 0)?),
        }
    }
    Ok(document.unwrap_or_default())
}

struct TreeReader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// The byte at which each character starts.
    bytes: Vec<usize>,
    anchors: HashMap<usize, Node>,
    left: usize,
}

impl<'a> TreeReader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Problem> {
        match self.events.next_event() {
            None => Ok(None),
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(error)) => {
                let at = error.marker().index();
                Err(Problem::new(self.byte(at)..self.byte(at + 1), format!("not YAML: {}", error.info())))
            }
        }
    }

    fn byte(&self, index: usize) -> usize {
        self.bytes[index.min(self.bytes.len() - 1)]
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }

    fn spend(&mut self, values: usize, at: Range<usize>) -> Result<(), Problem> {
        self.left = self.left.checked_sub(values).ok_or_else(|| Problem::new(at, "too many values"))?;
        Ok(())
    }

    fn value(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let start = self.range(span);
        if depth > MAX_DEPTH {
            return Err(Problem::new(start, format!("values within values more than {MAX_DEPTH} deep")));
        }
        self.spend(1, start.clone())?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let data = Data::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                (Node { span: start, data }, anchor)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let mut node = node.ok_or_else(|| Problem::new(start.clone(), "an alias within its own anchor"))?;
                self.spend(count(&node), start.clone())?;
                node.span = start;
                (node, 0)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                let end = loop {
                    match self.next()? {
                        Some((Event::SequenceEnd, span)) => break self.range(span).end,
                        Some((event, span)) => items.push(self.value(event, span, depth + 1)?),
                        None => break start.end,
                    }
                };
                (Node { span: start.start..end, data: Data::Seq(items) }, anchor)
            }
            Event::MappingStart(anchor, _) => {
                let mut entries = Vec::new();
                let end = loop {
                    match self.next()? {
                        Some((Event::MappingEnd, span)) => break self.range(span).end,
                        Some((event, span)) => {
                            let key = self.value(event, span, depth + 1)?;
                            let Some((event, span)) = self.next()? else { break start.end };
                            entries.push((key, self.value(event, span, depth + 1)?));
                        }
                        None => break start.end,
                    }
                };
                (Node { span: start.start..end, data: Data::Map(entries) }, anchor)
            }
            _ => (Node { span: start, ..Node::default() }, 0),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.data {
        Data::Scalar { .. } => 0,
        Data::Seq(items) => items.iter().map(count).sum(),
        Data::Map(entries) => entries.iter().map(|(_, value)| 1 + count(value)).sum::<usize>(),
    }
}

/// The tree as YAML text; short mappings and lists on one line.
#[must_use]
pub fn print(node: &Node) -> String {
    let mut out = String::new();
    print_block(node, 0, &mut out);
    out
}

const SHORT: usize = 88;

fn print_block(node: &Node, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match &node.data {
        Data::Map(entries) => {
            for (key, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
                let flow = flow(value);
                let nested = matches!(&value.data, Data::Map(m) if !m.is_empty())
                    || matches!(&value.data, Data::Seq(s) if !s.is_empty());
                if nested && (indent == 0 || flow.len() + indent > SHORT) {
                    let _ = writeln!(out, "{pad}{}:", super::yaml::flow(key));
                    print_block(value, indent + 2, out);
                } else {
                    let _ = writeln!(out, "{pad}{}: {flow}", super::yaml::flow(key));
                }
            }
        }
        Data::Seq(items) => {
            for item in items {
                let line = flow(item);
                if line.len() + indent <= SHORT || matches!(item.data, Data::Scalar { .. }) {
                    let _ = writeln!(out, "{pad}- {line}");
                    continue;
                }
                let mut block = String::new();
                print_block(item, indent + 2, &mut block);
                let _ = write!(out, "{pad}- {}", block.trim_start());
            }
        }
        Data::Scalar { .. } => _ = writeln!(out, "{pad}{}", flow(node)),
    }
}

fn flow(node: &Node) -> String {
    match &node.data {
        Data::Scalar { text, plain: true } => text.clone(),
        // A word needs no quotes; anything else is a JSON string, which is YAML too.
        Data::Scalar { text, plain: false } if is_word(text) => text.clone(),
        Data::Scalar { text, plain: false } => serde_json::Value::from(text.as_str()).to_string(),
        Data::Seq(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Data::Map(entries) => {
            let entries =
                entries.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| format!("{}: {}", flow(k), flow(v)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

fn is_word(text: &str) -> bool {
    !matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off")
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}
