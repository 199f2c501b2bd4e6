//! Shapes: the one declaration of each part of the policy file, from which
//! come its reader, its JSON Schema, its list of known keys and its printing
//! with every default.
//!
//! Invariant: reading never stops at the first problem.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use super::problem::{Problem, did_you_mean};
use super::yaml::{Data, Node};
use crate::openai::envelope::looks_secret;

/// Something that can be read from a policy file.
pub trait Shape: Sized {
    /// Reads a value; notes what is wrong and returns none if it cannot.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;
    /// The value where the key is left out; none where it must be given.
    fn absent() -> Option<Self> {
        None
    }
    /// A value to go on with where the one written is wrong, so that problems
    /// further on are seen too. A policy with a stand-in is never used.
    fn stand_in() -> Option<Self> {
        None
    }
    /// The JSON Schema (2020-12) of the value.
    fn schema() -> Value;
    /// The value as YAML.
    fn node(&self) -> Node;
}

/// Looks a variable of the environment up.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a file that a policy names; says in words why it cannot.
pub type Files<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// What a policy needs from outside.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Fills `${VAR}`.
    pub variables: Variables<'a>,
    /// Whether a variable that is not set is a problem. Commands that ask nobody
    /// do not mind; it stays as written.
    pub demands_variables: bool,
    /// Whether even those that are set stay as written, for writing the policy
    /// again.
    pub keeps_variables: bool,
    /// Reads files by their path from the policy.
    pub files: Files<'a>,
}

impl Outside<'_> {
    /// Nothing: no variable is set, none is demanded, no file can be read.
    #[must_use]
    pub fn none() -> Self {
        Self {
            variables: &|_| None,
            demands_variables: false,
            keeps_variables: false,
            files: &|_| Err("no file can be read here".to_owned()),
        }
    }
}

/// A shorter value of a variable is no secret, and would be found where it is not meant.
const MIN_SECRET: usize = 8;

/// Gathers problems while shapes are read.
pub struct Reader<'a> {
    /// What is wrong so far.
    pub problems: Vec<Problem>,
    outside: Outside<'a>,
    /// The texts of all files read, which count for the policy's digest.
    pub texts: Vec<String>,
    /// Values of variables, each with how it was written.
    filled: Vec<(String, String)>,
}

impl<'a> Reader<'a> {
    /// Nothing read yet.
    #[must_use]
    pub fn new(outside: Outside<'a>) -> Self {
        Self { problems: Vec::new(), outside, texts: Vec::new(), filled: Vec::new() }
    }

    /// The text of a file that the policy names.
    ///
    /// # Errors
    /// In words, where it cannot be read.
    pub fn file(&mut self, path: &str) -> Result<String, String> {
        let text = (self.outside.files)(path)?;
        self.texts.push(text.clone());
        Ok(text)
    }

    /// Notes a problem; returns none so that callers can end with it.
    pub fn refuse<T>(&mut self, at: &Range<usize>, what: impl Into<String>, help: impl Into<String>) -> Option<T> {
        self.problems.push(Problem::new(at.clone(), what).help(help));
        None
    }

    /// Notes a secret that is written into the file; none of it is shown.
    pub fn refuse_secret<T>(&mut self, at: &Range<usize>) -> Option<T> {
        let help = "put it into the environment and write \"${OPENAI_API_KEY}\" here";
        self.problems.push(Problem::new(at.clone(), "a secret in a policy file").help(help).secret());
        None
    }

    /// What is wrong, in words without the values of variables: any may be a key.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut telling = self.filled;
        telling.retain(|(value, _)| value.len() >= MIN_SECRET);
        // One may be the beginning of another.
        telling.sort_by_key(|(value, _)| Reverse(value.len()));
        let mut problems = self.problems;
        for problem in &mut problems {
            for (value, written) in &telling {
                problem.what = problem.what.replace(value, written);
                problem.help = problem.help.take().map(|help| help.replace(value, written));
            }
        }
        problems
    }

    /// The text of a single value with its `${VAR}` filled in.
    pub fn scalar(&mut self, node: &Node, wanted: &str) -> Option<String> {
        match &node.data {
            Data::Scalar { text, .. } if !node.is_null() => self.fill(text, &node.span),
            _ => self.refuse(
                &node.span,
                format!("expected {wanted}, found {}", node.kind()),
                format!("write {wanted} here"),
            ),
        }
    }

    /// The same, but variables stay as written where the policy is to be written
    /// again: for what is text in any case.
    pub fn text(&mut self, node: &Node, wanted: &str) -> Option<String> {
        match &node.data {
            Data::Scalar { text, .. } if self.outside.keeps_variables && !node.is_null() => Some(text.clone()),
            _ => self.scalar(node, wanted),
        }
    }

    fn fill(&mut self, text: &str, at: &Range<usize>) -> Option<String> {
        let default = text.split_once(":-").map_or("", |(_, default)| default);
        if (!text.contains("${") || looks_secret(default)) && (looks_secret(text) || text.starts_with("Bearer ")) {
            return self.refuse_secret(at);
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(end) = rest[start..].find('}').map(|n| start + n) else {
                return self.refuse(at, "`${` without `}`", "write \"${NAME}\" or \"${NAME:-default}\"");
            };
            let inside = &rest[start + 2..end];
            let (name, default) = inside.split_once(":-").map_or((inside, None), |(n, d)| (n, Some(d)));
            let written = || rest[start..=end].to_owned();
            let set = match (self.outside.variables)(name).filter(|v| !v.is_empty()) {
                Some(value) => Some(value),
                None => default.map(str::to_owned),
            };
            let as_written = || (!self.outside.demands_variables).then(written);
            let Some(value) = set.or_else(as_written) else {
                return self.refuse(
                    at,
                    format!("the environment variable {name} is not set"),
                    format!("export {name}=..., or give a default: \"${{{name}:-...}}\""),
                );
            };
            out.push_str(&rest[..start]);
            out.push_str(&value);
            self.filled.push((value, rest[start..=end].to_owned()));
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Some(out)
    }

    /// The entries of a mapping whose keys must be among `known`.
    pub fn fields<'n>(&mut self, node: &'n Node, known: &[&str]) -> Option<BTreeMap<&'n str, &'n Node>> {
        let Data::Map(entries) = &node.data else {
            let keys = known.join(", ");
            return self.refuse(
                &node.span,
                format!("expected a mapping, found {}", node.kind()),
                format!("its keys are {keys}"),
            );
        };
        let mut fields = BTreeMap::new();
        for (key, value) in entries {
            let Data::Scalar { text, .. } = &key.data else {
                self.refuse::<()>(&key.span, "a key must be a word", format!("the keys here are {}", known.join(", ")));
                continue;
            };
            if !known.contains(&&**text) {
                let help = match did_you_mean(text, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the keys here are {}", known.join(", ")),
                };
                self.refuse::<()>(&key.span, format!("unknown key `{text}`"), help);
            } else if fields.insert(&**text, value).is_some() {
                self.refuse::<()>(&key.span, format!("`{text}` is given twice"), "keep one of them");
            }
        }
        Some(fields)
    }

    /// The value of one key, its default where it is left out.
    pub fn field<T: Shape>(
        &mut self,
        fields: &BTreeMap<&str, &Node>,
        name: &str,
        default: Option<T>,
        at: &Range<usize>,
    ) -> Option<T> {
        let read = match fields.get(name) {
            Some(node) => T::read(node, self),
            None => default.or_else(T::absent).or_else(|| {
                let help = format!("add `{name}:`");
                self.refuse(at, format!("`{name}` is missing"), help)
            }),
        };
        read.or_else(T::stand_in)
    }
}

/// A word out of a closed list.
macro_rules! words {
    ($(#[doc = $doc:literal])+ pub enum $name:ident { $($(#[doc = $wdoc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $wdoc])+ $variant,)+ }
        impl Shape for $name {
            fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
                let words = [$($word),+];
                match reader.scalar(node, &format!("one of {}", words.join(", ")))?.as_str() {
                    $($word => Some(Self::$variant),)+
                    other => {
                        let help = crate::policy::problem::did_you_mean(other, words)
                            .map_or(format!("write one of {}", words.join(", ")), |meant| format!("did you mean `{meant}`?"));
                        reader.refuse(&node.span, format!("`{other}` is not one of {}", words.join(", ")), help)
                    }
                }
            }
            fn stand_in() -> Option<Self> {
                [$(Self::$variant),+].first().copied()
            }
            fn schema() -> serde_json::Value {
                serde_json::json!({"enum": [$($word),+]})
            }
            fn node(&self) -> Node { Node::plain(match self { $(Self::$variant => $word,)+ }) }
        }
    };
}

/// A mapping with known keys. A key is required unless its type says what
/// leaving it out means, or a default follows `=`.
macro_rules! shape {
    ($(#[doc = $doc:literal])+ pub struct $name:ident {
        $($(#[doc = $fdoc:literal])+ $field:ident: $type:ty $(= $default:expr)?,)+
    }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub struct $name { $($(#[doc = $fdoc])+ pub $field: $type,)+ }
        impl Shape for $name {
            fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
                let fields = reader.fields(node, &[$(stringify!($field)),+])?;
                $(let $field = reader.field::<$type>(&fields, stringify!($field), shape!(@default $($default)?), &node.span);)+
                Some(Self { $($field: $field?),+ })
            }
            fn stand_in() -> Option<Self> {
                $(let $field: Option<$type> = shape!(@default $($default)?);)+
                Some(Self { $($field: $field.or_else(<$type as Shape>::absent).or_else(<$type as Shape>::stand_in)?),+ })
            }
            fn schema() -> serde_json::Value {
                let mut properties = serde_json::Map::new();
                let mut required: Vec<&str> = Vec::new();
                $({
                    let mut of_field = <$type as Shape>::schema();
                    of_field["description"] = concat!($($fdoc, "\n"),+).trim().into();
                    let default: Option<$type> = shape!(@default $($default)?);
                    match default {
                        Some(default) => of_field["default"] = $crate::policy::shape::as_json(&default.node()),
                        None if <$type as Shape>::absent().is_none() => required.push(stringify!($field)),
                        None => {}
                    }
                    properties.insert(stringify!($field).into(), of_field);
                })+
                serde_json::json!({"type": "object", "description": concat!($($doc, "\n"),+).trim(),
                    "properties": properties, "required": required, "additionalProperties": false})
            }
            fn node(&self) -> Node {
                Node::map(vec![$((stringify!($field), self.$field.node())),+])
            }
        }
    };
    (@default) => { None };
    (@default $default:expr) => { Some($default) };
}

pub(super) use {shape, words};

/// A value of the tree as JSON, for the schema's defaults.
#[must_use]
pub fn as_json(node: &Node) -> Value {
    match &node.data {
        Data::Scalar { .. } if node.is_null() => Value::Null,
        Data::Scalar { text, plain: true } => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
        Data::Scalar { text, plain: false } => text.as_str().into(),
        Data::Seq(items) => items.iter().map(as_json).collect(),
        Data::Map(entries) => {
            let entries = entries.iter().filter(|(_, v)| !v.is_null());
            entries
                .filter_map(|(k, v)| Some((as_json(k).as_str()?.to_owned(), as_json(v))))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
    }
}
