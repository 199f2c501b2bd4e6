//! Shapes made of shapes: with their place, left out, in lists, by name.

use std::ops::Range;

use serde_json::{Value, json};

use super::shape::{Reader, Shape};
use super::yaml::{Data, Node};

/// A value together with its place, for checks that come after reading.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands, in bytes of the source.
    pub at: Range<usize>,
}

impl<T: Shape> Shape for At<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { value: T::read(node, reader).or_else(T::stand_in)?, at: node.span.clone() })
    }
    fn absent() -> Option<Self> {
        Some(Self { value: T::absent()?, at: 0..0 })
    }
    fn stand_in() -> Option<Self> {
        Some(Self { value: T::stand_in()?, at: 0..0 })
    }
    fn schema() -> Value {
        T::schema()
    }
    fn node(&self) -> Node {
        self.value.node()
    }
}

impl<T: Shape> Shape for Option<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(node, reader).or_else(T::stand_in).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn stand_in() -> Option<Self> {
        Some(None)
    }
    fn schema() -> Value {
        T::schema()
    }
    fn node(&self) -> Node {
        self.as_ref().map_or_else(Node::default, Shape::node)
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Data::Seq(items) = &node.data else {
            return reader.refuse(
                &node.span,
                format!("expected a list, found {}", node.kind()),
                "write `- ` before each item, or [a, b]",
            );
        };
        items.iter().map(|item| T::read(item, reader).or_else(T::stand_in)).collect()
    }
    fn stand_in() -> Option<Self> {
        Some(Self::new())
    }
    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }
    fn node(&self) -> Node {
        Node::seq(self.iter().map(Shape::node).collect())
    }
}

/// A mapping from names that the user chooses, in the order written.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(At<String>, T)>);

impl<T: Shape> Shape for Named<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Data::Map(entries) = &node.data else {
            return reader.refuse(
                &node.span,
                format!("expected a mapping, found {}", node.kind()),
                "write `name: {...}`",
            );
        };
        let mut read: Vec<(At<String>, T)> = Vec::new();
        for (key, value) in entries {
            let name = At::<String>::read(key, reader)?;
            let value = T::read(value, reader).or_else(T::stand_in)?;
            if read.iter().any(|(known, _)| known.value == name.value) {
                reader.refuse::<()>(&key.span, "this name is given twice", "keep one of them");
            }
            read.push((name, value));
        }
        Some(Self(read))
    }
    fn stand_in() -> Option<Self> {
        Some(Self(Vec::new()))
    }
    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": T::schema()})
    }
    fn node(&self) -> Node {
        Node::map(self.0.iter().map(|(name, value)| (name.value.as_str(), value.node())).collect())
    }
}
