//! Whether a JSON value fits a JSON Schema, for the part of the language that
//! structured outputs and tools are written in.
//!
//! Nothing is compiled: schemas come with requests, and most are met once. A
//! keyword that is not known here (`pattern`, `format`, remote references) is
//! not checked, so that a good answer is never rejected for it.

use std::cell::Cell;

use serde_json::{Map, Value};

/// As much work as any honest check needs; a schema that branches into itself
/// would take for ever. Past it, nothing is held against an answer.
const MAX_STEPS: usize = 100_000;

/// References into references, and values into values, no deeper than this.
const MAX_DEPTH: usize = 64;

/// Whether `value` fits `schema` (JSON Schema 2020-12, validation vocabulary).
#[must_use]
pub fn fits(schema: &Value, value: &Value) -> bool {
    Checking { root: schema, steps: Cell::new(MAX_STEPS) }.fits(schema, value, 0)
}

/// One check, with what is left of the work it may take.
struct Checking<'a> {
    root: &'a Value,
    steps: Cell<usize>,
}

impl Checking<'_> {
    /// Whether `steps` more may be taken.
    fn may_go_on(&self, steps: usize) -> bool {
        let left = self.steps.get().checked_sub(steps);
        self.steps.set(left.unwrap_or(0));
        left.is_some()
    }

    fn fits(&self, schema: &Value, value: &Value, depth: usize) -> bool {
        match schema {
            Value::Bool(anything) => *anything,
            Value::Object(schema) if depth < MAX_DEPTH && self.may_go_on(1) => self.fits_object(schema, value, depth),
            _ => true,
        }
    }

    fn fits_object(&self, schema: &Map<String, Value>, value: &Value, depth: usize) -> bool {
        let within = |part: &Value, value: &Value| self.fits(part, value, depth + 1);
        let list = |name: &str| schema.get(name).and_then(Value::as_array);
        if let Some(place) = schema.get("$ref").and_then(Value::as_str)
            && let Some(referred) = place.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))
            && !within(referred, value)
        {
            return false;
        }
        schema.get("type").is_none_or(|kinds| is_of_type(kinds, value))
            && list("enum").is_none_or(|values| !self.may_go_on(values.len()) || values.iter().any(|v| same(v, value)))
            && schema.get("const").is_none_or(|only| same(only, value))
            && list("allOf").is_none_or(|parts| parts.iter().all(|part| within(part, value)))
            && list("anyOf").is_none_or(|parts| parts.iter().any(|part| within(part, value)))
            && list("oneOf").is_none_or(|parts| parts.iter().filter(|part| within(part, value)).count() == 1)
            && schema.get("not").is_none_or(|part| !within(part, value))
            && match value {
                Value::Object(members) => object_fits(schema, members, &within),
                Value::Array(items) => array_fits(schema, items, &within),
                #[expect(clippy::cast_precision_loss, reason = "a length of text")]
                Value::String(text) => in_bounds(schema, text.chars().count() as f64, ["minLength", "maxLength"]),
                Value::Number(number) => number_fits(schema, number.as_f64().unwrap_or(f64::NAN)),
                Value::Bool(_) | Value::Null => true,
            }
    }
}

fn is_of_type(kinds: &Value, value: &Value) -> bool {
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        // 1.0 is an integer too.
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        _ => true,
    };
    match kinds {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

/// Equal as JSON Schema has it: 1 and 1.0 are the same number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => one == other,
    }
}

fn object_fits(
    schema: &Map<String, Value>,
    members: &Map<String, Value>,
    within: &impl Fn(&Value, &Value) -> bool,
) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required = schema.get("required").and_then(Value::as_array);
    required.is_none_or(|names| names.iter().filter_map(Value::as_str).all(|name| members.contains_key(name)))
        && members.iter().all(|(name, value)| match properties.and_then(|p| p.get(name)) {
            Some(part) => within(part, value),
            // By pattern it might be allowed, and patterns are not checked.
            None if schema.contains_key("patternProperties") => true,
            None => schema.get("additionalProperties").is_none_or(|part| within(part, value)),
        })
        && in_bounds(schema, count(members.len()), ["minProperties", "maxProperties"])
}

fn array_fits(schema: &Map<String, Value>, items: &[Value], within: &impl Fn(&Value, &Value) -> bool) -> bool {
    let first = schema.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    items.iter().zip(first).all(|(item, part)| within(part, item))
        && schema.get("items").is_none_or(|part| items.iter().skip(first.len()).all(|item| within(part, item)))
        && in_bounds(schema, count(items.len()), ["minItems", "maxItems"])
}

fn number_fits(schema: &Map<String, Value>, number: f64) -> bool {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    in_bounds(schema, number, ["minimum", "maximum"])
        && bound("exclusiveMinimum").is_none_or(|least| number > least)
        && bound("exclusiveMaximum").is_none_or(|most| number < most)
        && bound("multipleOf").is_none_or(|step| step <= 0.0 || (number / step - (number / step).round()).abs() < 1e-9)
}

fn in_bounds(schema: &Map<String, Value>, measure: f64, [least, most]: [&str; 2]) -> bool {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    bound(least).is_none_or(|least| measure >= least) && bound(most).is_none_or(|most| measure <= most)
}

#[expect(clippy::cast_precision_loss, reason = "a count of members")]
fn count(members: usize) -> f64 {
    members as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_keyword_says_yes_and_no() {
        for (schema, good, bad) in [
            (json!({"type": "integer"}), json!(1.0), json!(1.5)),
            (json!({"type": ["string", "null"]}), json!(null), json!(1)),
            (json!({"enum": ["a", 1]}), json!(1.0), json!("b")),
            (json!({"const": {"a": 1}}), json!({"a": 1}), json!({"a": 2})),
            (json!({"properties": {"a": {"type": "string"}}}), json!({"a": "x", "b": 1}), json!({"a": 1})),
            (json!({"required": ["a"]}), json!({"a": null}), json!({})),
            (json!({"properties": {"a": {}}, "additionalProperties": false}), json!({"a": 1}), json!({"a": 1, "b": 1})),
            (json!({"additionalProperties": {"type": "number"}}), json!({"a": 1}), json!({"a": "x"})),
            (json!({"items": {"type": "number"}}), json!([1, 2]), json!([1, "x"])),
            (json!({"prefixItems": [{"type": "string"}], "items": false}), json!(["x"]), json!(["x", 1])),
            (json!({"minItems": 1, "maxItems": 2}), json!([1]), json!([])),
            (json!({"minLength": 2}), json!("äö"), json!("ä")),
            (json!({"minimum": 0, "exclusiveMaximum": 10}), json!(0), json!(10)),
            (json!({"multipleOf": 0.1}), json!(0.3), json!(0.35)),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!(null), json!(1)),
            (json!({"oneOf": [{"minimum": 0}, {"maximum": 5}]}), json!(7), json!(3)),
            (json!({"allOf": [{"minimum": 0}, {"maximum": 5}]}), json!(3), json!(7)),
            (json!({"not": {"type": "null"}}), json!(1), json!(null)),
            (json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "number"}}}), json!(1), json!("x")),
            (json!(true), json!(1), json!(1)),
        ] {
            assert!(fits(&schema, &good), "{schema} takes {good}");
            assert!(fits(&schema, &bad) == (good == bad), "{schema} refuses {bad}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let list = json!({"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]});
        assert!(fits(&list, &json!({"next": {"next": null}})));
        assert!(!fits(&list, &json!({"next": {"nxt": null}})));
        assert!(fits(&json!({"$ref": "#"}), &json!(1)), "round and round says nothing");
        let branching = json!({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": vec![json!({"$ref": "#/$defs/a"}); 10]}}});
        assert!(fits(&branching, &json!(1)), "and so does branching without end");
    }

    #[test]
    fn what_is_not_known_is_not_held_against_an_answer() {
        for schema in
            [json!({"pattern": "^a"}), json!({"$ref": "https://x.example/s"}), json!({"type": "date"}), json!(7)]
        {
            assert!(fits(&schema, &json!("b")), "{schema}");
        }
    }
}
