//! A configuration of `LiteLLM`'s proxy as a policy.
//!
//! Invariant: no key is copied, and whatever is not taken over is said.

mod entry;
mod providers;
mod section;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use section::Section;

/// A policy, and what a person has to know about it.
#[derive(Debug)]
pub struct Converted {
    /// The policy as YAML, with comments.
    pub policy: String,
    /// What was not taken over, or works otherwise, each a sentence.
    pub notes: Vec<String>,
}

/// One model at one place.
#[derive(Clone, Debug)]
struct Deployment {
    place: Place,
    model: String,
    weight: Option<f64>,
    requests: Option<u64>,
    tokens: Option<u64>,
    concurrent: Option<u64>,
    order: Option<f64>,
    /// Dollars per million tokens: of prompts, of those that are cached, of answers.
    price: Option<(f64, Option<f64>, f64)>,
}

/// Where models are asked: an upstream of the policy.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    name: String,
    base_url: String,
    /// The variable with the key.
    variable: Option<String>,
    /// Seconds for an answer.
    timeout: Option<f64>,
    /// Seconds until it begins.
    first_byte: Option<f64>,
}

/// Deployments that clients know by one name: a tier.
#[derive(Debug)]
struct Group {
    name: String,
    deployments: Vec<Deployment>,
}

#[derive(Default)]
struct Converter {
    groups: Vec<Group>,
    /// Where names go that nobody listed.
    catch_all: Option<Place>,
    /// Variables that stand for others.
    variables: BTreeMap<String, String>,
    /// Keys that stand in the file, and the variables in their place.
    literals: Vec<(String, String)>,
    credentials: BTreeMap<String, Value>,
    notes: BTreeSet<String>,
}

/// The parts that say how all models are asked.
struct Settings<'a> {
    router: Section<'a>,
    all: Section<'a>,
    cache: Section<'a>,
}

impl<'a> Settings<'a> {
    /// The router's own word counts.
    fn either<T>(&self, read: impl Fn(&Section<'a>) -> Option<T>) -> Option<T> {
        let [router, all] = [&self.router, &self.all].map(read);
        router.or(all)
    }
}

/// Makes a policy of configurations, each as its YAML says, taken together.
///
/// # Errors
/// Where no model of theirs can be asked by OpenAI's API; the reasons, in words.
pub fn policy(configurations: &[Value]) -> Result<Converted, String> {
    let merged = merged(configurations);
    let whole = Section::of(&merged);
    let mut all = Converter::default();
    for (name, value) in whole.any("environment_variables").and_then(Value::as_object).into_iter().flatten() {
        if let Some(other) = value.as_str().and_then(|value| value.strip_prefix("os.environ/")) {
            all.variables.insert(name.clone(), other.to_owned());
        } else {
            let what = "of environment_variables is not copied: set it, where the policy names it";
            all.note(&format!("`{name}` {what}"));
        }
    }
    for credential in whole.any("credential_list").and_then(Value::as_array).into_iter().flatten() {
        if let Some(name) = credential["credential_name"].as_str() {
            all.credentials.insert(name.to_owned(), credential["credential_values"].clone());
        }
    }
    for entry in whole.any("model_list").and_then(Value::as_array).into_iter().flatten() {
        all.entry(entry);
    }
    if all.groups.is_empty() {
        let why: Vec<String> = all.notes.into_iter().collect();
        let why = if why.is_empty() { "there is no `model_list` with a model".to_owned() } else { why.join("; ") };
        return Err(format!("no tier can be made of it: {why}"));
    }
    let of = |key: &str| whole.any(key).unwrap_or(&Value::Null);
    let (router, litellm, general) = (of("router_settings"), of("litellm_settings"), of("general_settings"));
    let settings = Settings {
        router: Section::of(router),
        all: Section::of(litellm),
        cache: Section::of(&litellm["cache_params"]),
    };
    all.sort();
    let policy = all.text(&settings);
    let general = Section::of(general);
    if general.any("master_key").is_some() {
        all.note("clients had a master key: make keys with `cascade keys create`, and name their file as `keys:`");
    }
    if whole.any("include").is_some() {
        all.note("`include` is not followed: give the files it names on the command line too");
    }
    settings.all.pass(&["cache_params", "set_verbose"]);
    if settings.router.text("routing_strategy") == Some("simple-shuffle") {
        settings.router.pass(&["routing_strategy"]);
    } else if settings.router.any("routing_strategy").is_some() {
        all.note("`routing_strategy` of router_settings is not taken over: upstreams of a tier are asked by weight");
    }
    let sections = [
        (&whole, ""),
        (&settings.router, " of router_settings"),
        (&settings.all, " of litellm_settings"),
        (&general, " of general_settings"),
    ];
    for (section, of) in sections {
        section.left().into_iter().for_each(|key| all.note(&format!("`{key}`{of} is not taken over")));
    }
    Ok(Converted { policy, notes: all.notes.into_iter().collect() })
}

/// Configurations as one: lists one after the other, of settings the last word.
fn merged(configurations: &[Value]) -> Value {
    let mut all = Map::new();
    for (name, value) in configurations.iter().filter_map(Value::as_object).flatten() {
        match (all.get_mut(name), value) {
            (Some(Value::Array(before)), Value::Array(more)) => before.extend(more.iter().cloned()),
            (Some(Value::Object(before)), Value::Object(more)) => before.extend(more.clone()),
            (_, Value::Null) => {}
            _ => _ = all.insert(name.clone(), value.clone()),
        }
    }
    Value::Object(all)
}

impl Converter {
    /// Notes a sentence; what came from the file ends no line and moves no cursor.
    fn note(&mut self, what: &str) {
        self.notes.insert(what.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect());
    }

    /// Smallest first, by price where all are known.
    fn sort(&mut self) {
        let of = |group: &Group| {
            let prices = group.deployments.iter().filter_map(|one| one.price);
            prices.map(|(input, _, output)| input + output).reduce(f64::max)
        };
        let unknown: Vec<String> =
            self.groups.iter().filter(|group| of(group).is_none()).map(|group| format!("`{}`", group.name)).collect();
        if unknown.is_empty() {
            self.groups.sort_by(|a, b| of(a).unwrap_or(0.0).total_cmp(&of(b).unwrap_or(0.0)));
        } else {
            self.note(&format!(
                "{} without a price in the file: tiers stand in its order; put the smallest first, and add prices",
                unknown.join(", ")
            ));
        }
    }
}

/// The first free one of `first`, `first-2`, `first-3`...
fn free_name(first: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{first}-{number}"));
    std::iter::once(first.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default()
}

/// Whether a text may stand between quotes as it is: it ends nothing and names no
/// variable.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\' | '$'))
}
