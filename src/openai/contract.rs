//! What a request demands of the form of its answer: the tools that may be
//! called, and the schema that JSON must fit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The demands of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contract {
    /// The schema that a JSON answer must fit, if one is given.
    pub schema: Option<Value>,
    /// The tools offered, by name, with the schema of their arguments.
    pub tools: BTreeMap<String, Option<Value>>,
    /// Whether a tool must be called.
    pub must_call: bool,
}

#[derive(Deserialize)]
struct ToolShape {
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
        let tools: Vec<ToolShape> = tools.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let format: FormatShape = response_format.and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default();
        let choice: Option<Cow<'_, str>> = tool_choice.and_then(|raw| serde_json::from_str(raw).ok());
        // An object names the tool that must be called; so does no other word than this.
        let must_call = match choice {
            Some(word) => word == "required",
            None => tool_choice.is_some_and(|raw| raw.starts_with('{') && raw.contains("\"function\"")),
        };
        let tools = tools.into_iter().filter_map(|tool| match tool.function {
            Some(function) => Some((function.name, function.parameters)),
            None => Some((tool.name?, tool.parameters)),
        });
        Self { schema: format.json_schema.or(format.format).and_then(|s| s.schema), tools: tools.collect(), must_call }
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
        assert_eq!(Contract::read(Some("5"), Some("\"auto\""), Some("[]")), Contract::default());
    }
}
