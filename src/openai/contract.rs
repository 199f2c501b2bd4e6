//! What a request demands of the form of its answer: the tools that may be
//! called, and the schema that JSON must fit.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The demands of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contract {
    /// The schema that a JSON answer must fit, if one is given.
    pub schema: Option<Value>,
    /// The tools offered, by name, with the schema of their arguments.
    pub tools: BTreeMap<String, Option<Value>>,
    /// Whether a tool of unknown shape is offered too, so that any name and any
    /// arguments may be right.
    pub has_unknown_tools: bool,
    /// Whether a tool must be called.
    pub must_call: bool,
}

#[derive(Deserialize)]
struct ChoiceShape {
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize)]
struct ToolShape {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    function: Option<FunctionShape>,
    /// A legacy function has its name and parameters here.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    parameters: Option<Value>,
}

#[derive(Deserialize)]
struct FunctionShape {
    name: String,
    #[serde(default)]
    parameters: Option<Value>,
}

#[derive(Default, Deserialize)]
struct FormatShape {
    #[serde(default)]
    json_schema: Option<SchemaShape>,
    /// Responses have it all in `text.format`.
    #[serde(default)]
    format: Option<SchemaShape>,
}

#[derive(Deserialize)]
struct SchemaShape {
    #[serde(default)]
    schema: Option<Value>,
}

impl Contract {
    /// Reads the demands from the raw fields; what cannot be read demands nothing.
    #[must_use]
    pub fn read(tools: Option<&str>, tool_choice: Option<&str>, response_format: Option<&str>) -> Self {
        let offered: Vec<&RawValue> = tools.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let mut contract = Self { has_unknown_tools: offered.is_empty() && tools.is_some(), ..Self::default() };
        for raw in offered {
            match serde_json::from_str::<ToolShape>(raw.get()) {
                // A custom tool takes any text.
                Ok(tool) if tool.kind.as_deref().is_none_or(|kind| kind == "function") => {
                    match (tool.function, tool.name) {
                        (Some(function), _) => _ = contract.tools.insert(function.name, function.parameters),
                        (None, Some(name)) => _ = contract.tools.insert(name, tool.parameters),
                        (None, None) => contract.has_unknown_tools = true,
                    }
                }
                _ => contract.has_unknown_tools = true,
            }
        }
        let format: FormatShape = response_format.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        contract.schema = format.json_schema.or(format.format).and_then(|s| s.schema);
        contract.must_call = tool_choice.is_some_and(|raw| {
            // A word, or an object that names the tool to be called.
            raw == "\"required\""
                || serde_json::from_str::<ChoiceShape>(raw).is_ok_and(|c| matches!(&*c.kind, "function" | "custom"))
        });
        contract
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tools_schemas_and_choices_are_read() {
        let tools = r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"name":"old"}]"#;
        let format = r#"{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"array"}}}"#;
        let contract = Contract::read(Some(tools), Some("\"required\""), Some(format));
        assert_eq!(contract.tools["f"], Some(json!({"type": "object"})));
        assert_eq!(contract.tools["old"], None);
        assert_eq!(contract.schema, Some(json!({"type": "array"})));
        assert!(contract.must_call);
        let named = Contract::read(None, Some(r#"{"type":"function","function":{"name":"f"}}"#), None);
        assert!(named.must_call);
        let allowed = r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}"#;
        let unread = Contract { has_unknown_tools: true, ..Contract::default() };
        assert_eq!(Contract::read(Some("5"), Some(allowed), Some("[]")), unread, "what cannot be read demands nothing");
        assert!(Contract::read(Some(r#"[{"type":"custom","name":"c"}]"#), None, None).has_unknown_tools);
        assert_eq!(Contract::read(None, Some("\"auto\""), None), Contract::default());
    }
}
