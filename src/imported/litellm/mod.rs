//! A configuration of `LiteLLM`'s proxy as a policy.
//!
//! Invariant: no key is copied, and whatever is not taken over is said.

mod providers;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use providers::Provider;

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
    credentials: BTreeMap<String, Value>,
    notes: BTreeSet<String>,
}

/// Makes a policy of configurations, each as its YAML says, taken together.
///
/// # Errors
/// Where no model of theirs can be asked by OpenAI's API; the reasons, in words.
pub fn policy(configurations: &[Value]) -> Result<Converted, String> {
    let mut all = Converter::default();
    let each = |name: &str| configurations.iter().filter_map(|one| one.get(name)).cloned().collect::<Vec<Value>>();
    for (name, value) in each("environment_variables").iter().filter_map(Value::as_object).flatten() {
        match value.as_str().and_then(|value| value.strip_prefix("os.environ/")) {
            Some(other) => _ = all.variables.insert(name.clone(), other.to_owned()),
            None => all.note(format!("`{name}` of environment_variables is not copied: set it where the gateway runs")),
        }
    }
    for credential in each("credential_list").iter().filter_map(Value::as_array).flatten() {
        if let Some(name) = credential["credential_name"].as_str() {
            all.credentials.insert(name.to_owned(), credential["credential_values"].clone());
        }
    }
    let models = each("model_list");
    for entry in models.iter().filter_map(Value::as_array).flatten() {
        all.entry(entry);
    }
    if all.groups.is_empty() {
        let why: Vec<String> = all.notes.into_iter().collect();
        let why = if why.is_empty() { "there is no `model_list` with a model".to_owned() } else { why.join("; ") };
        return Err(format!("no tier can be made of it: {why}"));
    }
    let of = |section: &str, name: &str| {
        let found = configurations.iter().rev().find_map(|one| one.get(section)?.get(name));
        found.filter(|value| !value.is_null()).cloned()
    };
    // The router's own word counts.
    let setting = |name: &str| of("router_settings", name).or_else(|| of("litellm_settings", name));
    all.sort();
    let policy = all.text(&setting, &of);
    all.left(configurations);
    Ok(Converted { policy, notes: all.notes.into_iter().collect() })
}

/// Parameters of a deployment that are taken over, or mean nothing here.
const PARAMETERS: [&str; 21] = [
    "model",
    "api_base",
    "base_url",
    "api_key",
    "custom_llm_provider",
    "litellm_credential_name",
    "weight",
    "rpm",
    "tpm",
    "max_parallel_requests",
    "order",
    "timeout",
    "stream_timeout",
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "api_version",
    "organization",
    "drop_params",
    "max_retries",
    "cache_creation_input_token_cost",
];

/// A number, also where YAML 1.1 makes a text of it, as of `1e-05`.
fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held within its range")]
fn whole(value: &Value) -> Option<u64> {
    number(value).filter(|number| *number >= 1.0).map(|number| number.min(4e9) as u64)
}

impl Converter {
    fn note(&mut self, what: String) {
        self.notes.insert(what);
    }

    fn entry(&mut self, entry: &Value) {
        let Some(name) = entry["model_name"].as_str() else {
            return self.note("an entry of model_list without a `model_name` is left out".to_owned());
        };
        let mode = entry["model_info"]["mode"].as_str().unwrap_or("chat");
        if !["chat", "completion", "responses"].contains(&mode) {
            return self.note(format!("`{name}` answers no chats ({mode}): it is reached by `passthrough:` only"));
        }
        let mut parameters = entry["litellm_params"].clone();
        if let Some(values) = parameters["litellm_credential_name"].as_str().and_then(|name| self.credentials.get(name))
        {
            for (key, value) in values.as_object().into_iter().flatten() {
                parameters[key.as_str()] = value.clone();
            }
        }
        let Some(asked) = parameters["model"].as_str() else {
            return self.note(format!("`{name}` names no `model`, and is left out"));
        };
        let (provider, model) = match Provider::of(parameters["custom_llm_provider"].as_str(), asked) {
            Ok(found) => found,
            Err(why) => return self.note(format!("`{name}` is left out: {why}")),
        };
        if let Some(odd) = [name, model].into_iter().find(|text| !is_plain(text)) {
            return self.note(format!("`{}` is left out: a name with such characters", odd.escape_debug()));
        }
        let Some(place) = self.place(provider, &parameters) else {
            return self.note(format!("`{name}` is left out: `{asked}` needs an `api_base` that is a plain URL"));
        };
        if name.contains('*') {
            if name == "*" && model == "*" && self.catch_all.is_none() {
                self.catch_all = Some(place);
            } else {
                self.note(format!("the pattern `{name}` is left out: a tier is one model, and names that nobody listed go to one upstream"));
            }
            return;
        }
        let either =
            |key: &str| Some(&parameters[key]).filter(|value| !value.is_null()).or(entry["model_info"].get(key));
        let cost = |key: &str| either(key).and_then(number).map(|usd| usd * 1e6);
        let price = cost("input_cost_per_token").zip(cost("output_cost_per_token"));
        let limit = |key: &str| whole(&parameters[key]).or_else(|| whole(&entry[key]));
        let deployment = Deployment {
            place,
            model: model.to_owned(),
            weight: number(&parameters["weight"]),
            requests: limit("rpm"),
            tokens: limit("tpm"),
            concurrent: limit("max_parallel_requests"),
            order: either("order").and_then(number),
            price: price.map(|(input, output)| (input, cost("cache_read_input_token_cost"), output)),
        };
        let left: Vec<&String> = parameters
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
            .filter(|key| !PARAMETERS.contains(&key.as_str()))
            .collect();
        for key in left {
            self.notes
                .insert(format!("`{key}` of `{name}` is not taken over: what clients ask goes on as they wrote it"));
        }
        match self.groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.deployments.push(deployment),
            None => self.groups.push(Group { name: name.to_owned(), deployments: vec![deployment] }),
        }
    }

    /// Where a deployment is asked; none where that is not said.
    fn place(&mut self, provider: &Provider, parameters: &Value) -> Option<Place> {
        let given = ["base_url", "api_base"].iter().find_map(|key| parameters[*key].as_str());
        let base_url = match given {
            Some(given) if given.starts_with("os.environ/") => format!("${{{}}}", self.variable(given)),
            Some(given) if is_plain(given) => provider.base_of(given),
            Some(_) => return None,
            None => provider.base_url?.to_owned(),
        };
        let variable = match parameters["api_key"].as_str() {
            Some(given) if given.starts_with("os.environ/") => Some(self.variable(given)),
            Some(given) if ["none", "fake", "dummy", ""].iter().any(|word| given.eq_ignore_ascii_case(word)) => None,
            Some(_) => {
                let name = provider.variable.unwrap_or("API_KEY").to_owned();
                self.note(format!("a key that stands in the file is not copied: set {name}"));
                Some(name)
            }
            None => provider.variable.map(|name| self.variable(name)),
        };
        let timeout = number(&parameters["timeout"]);
        Some(Place { name: provider.prefixes[0].to_owned(), base_url, variable, timeout })
    }

    /// The variable that is really meant.
    fn variable(&self, given: &str) -> String {
        let name = given.strip_prefix("os.environ/").unwrap_or(given);
        let name = self.variables.get(name).map_or(name, String::as_str);
        name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    }

    /// Smallest first, by price where all are known.
    fn sort(&mut self) {
        let of = |group: &Group| {
            group
                .deployments
                .iter()
                .filter_map(|one| one.price)
                .map(|(input, _, output)| input + output)
                .reduce(f64::max)
        };
        let unknown: Vec<String> =
            self.groups.iter().filter(|group| of(group).is_none()).map(|group| format!("`{}`", group.name)).collect();
        if unknown.is_empty() {
            self.groups.sort_by(|a, b| of(a).unwrap_or(0.0).total_cmp(&of(b).unwrap_or(0.0)));
        } else {
            self.note(format!(
                "{} without a price in the file: tiers stand in its order; put the smallest first, and add prices",
                unknown.join(", ")
            ));
        }
    }

    /// Notes what of the settings is not taken over.
    fn left(&mut self, configurations: &[Value]) {
        const TAKEN: [(&str, &[&str]); 4] = [
            (
                "router_settings",
                &[
                    "num_retries",
                    "timeout",
                    "allowed_fails",
                    "cooldown_time",
                    "fallbacks",
                    "model_group_alias",
                    "routing_strategy",
                ],
            ),
            (
                "litellm_settings",
                &[
                    "num_retries",
                    "request_timeout",
                    "allowed_fails",
                    "cooldown_time",
                    "fallbacks",
                    "cache",
                    "cache_params",
                    "drop_params",
                    "set_verbose",
                ],
            ),
            ("general_settings", &["master_key"]),
            (
                "",
                &[
                    "model_list",
                    "router_settings",
                    "litellm_settings",
                    "general_settings",
                    "environment_variables",
                    "credential_list",
                    "include",
                ],
            ),
        ];
        for configuration in configurations {
            for (section, taken) in TAKEN {
                let found = if section.is_empty() { configuration } else { &configuration[section] };
                for (key, _) in
                    found.as_object().into_iter().flatten().filter(|(key, _)| !taken.contains(&key.as_str()))
                {
                    let of = if section.is_empty() { String::new() } else { format!(" of {section}") };
                    self.note(format!("`{key}`{of} is not taken over"));
                }
            }
            if !configuration["general_settings"]["master_key"].is_null() {
                self.note(
                    "clients had a master key: make keys with `cascade keys create`, and name their file as `keys:`"
                        .to_owned(),
                );
            }
            if !configuration["include"].is_null() {
                self.note("`include` is not followed: give the files it names on the command line too".to_owned());
            }
        }
    }
}

/// Whether a text may stand between quotes as it is: it ends nothing and names no
/// variable.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\' | '$'))
}
