//! Text with a form: names, patterns, base URLs and secrets.
//!
//! Invariant: a secret is shown only as it was written in the file, `${VAR}`.

use std::fmt;

use regex::Regex;
use serde_json::{Value, json};

use super::shape::{Reader, Shape};
use super::yaml::{Data, Node};

impl Shape for String {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "text")?;
        if text.is_empty() {
            reader.refuse(&node.span, "empty text", "write something, or leave the key out")
        } else {
            Some(text)
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self::new())
    }
    fn schema() -> Value {
        json!({"type": "string", "minLength": 1})
    }
    fn node(&self) -> Node {
        Node::text(self)
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
    fn stand_in() -> Option<Self> {
        Some(Self(String::new()))
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
        let text = reader.text(node, "a base URL")?;
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
    fn stand_in() -> Option<Self> {
        Some(Self(String::new()))
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
    /// The value of this variable, by which it is shown.
    #[must_use]
    pub fn of_variable(name: &str, value: String) -> Self {
        Self { value, written: format!("${{{name}}}") }
    }

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
            return reader.refuse_secret(&node.span);
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
