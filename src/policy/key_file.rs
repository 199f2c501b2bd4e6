//! The file of clients' keys as a policy names it.

use std::sync::Arc;

use serde_json::Value;

use super::shape::{Reader, Shape};
use super::yaml::Node;
use crate::keys::KeyFile;

/// The file that `cascade keys` keeps: its path, and what it says.
#[derive(Clone, Debug)]
pub struct KeysAt {
    /// From the policy.
    pub path: String,
    /// None where it could not be read, which was noted.
    pub read: Option<Arc<KeyFile>>,
}

impl Shape for KeysAt {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let path = String::read(node, reader)?;
        match reader.file(&path).and_then(|text| KeyFile::read(&text).map_err(|why| why.to_string())) {
            Ok(file) => Some(Self { path, read: Some(Arc::new(file)) }),
            Err(why) => reader.refuse(
                &node.span,
                format!("cannot use {path}: {why}"),
                "name a file that `cascade keys create` made, by its path from this policy",
            ),
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self { path: String::new(), read: None })
    }
    fn schema() -> Value {
        String::schema()
    }
    fn node(&self) -> Node {
        Node::text(&self.path)
    }
}
