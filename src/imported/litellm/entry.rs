//! An entry of `model_list`: one model at one place.

use serde_json::Value;

use super::providers::Provider;
use super::section::Section;
use super::{Converter, Deployment, Group, Place, free_name, is_plain};

/// What stands where a server wants no key, and a library wants one.
const NO_KEYS: [&str; 11] = [
    "",
    "none",
    "null",
    "empty",
    "fake",
    "dummy",
    "fake-api-key",
    "not-needed",
    "no-key",
    "sk-none",
    "sk-no-key-required",
];

impl Converter {
    pub(super) fn entry(&mut self, whole: &Value) {
        let entry = Section::of(whole);
        let Some(name) = entry.text("model_name") else {
            return self.note("an entry of model_list without a `model_name` is left out");
        };
        let mut parameters = whole["litellm_params"].clone();
        if let Some(credential) = parameters["litellm_credential_name"].as_str() {
            let Some(values) = self.credentials.get(credential) else {
                return self.note(&format!("`{name}` is left out: there is no credential `{credential}`"));
            };
            for (key, value) in values.as_object().into_iter().flatten() {
                parameters[key.as_str()] = value.clone();
            }
        }
        match self.deployment(name, &entry, &parameters, &whole["model_info"]) {
            Ok(Some(deployment)) => match self.groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.deployments.push(deployment),
                None => self.groups.push(Group { name: name.to_owned(), deployments: vec![deployment] }),
            },
            Ok(None) => {}
            Err(why) => self.note(&format!("`{name}` is left out: {why}")),
        }
    }

    /// A deployment; none where it takes the names that nobody listed.
    fn deployment(
        &mut self,
        name: &str,
        entry: &Section<'_>,
        parameters: &Value,
        info: &Value,
    ) -> Result<Option<Deployment>, String> {
        let (parameters, info) = (Section::of(parameters), Section::of(info));
        let mode = info.text("mode").unwrap_or("chat");
        let asked = parameters.text("model").ok_or("it names no `model`")?;
        if !["chat", "completion", "responses"].contains(&mode) {
            let model = asked.split_once('/').map_or(asked, |(_, model)| model);
            return Err(format!(
                "it answers no chats ({mode}); clients that name `{model}` reach it where `passthrough:` goes to its upstream"
            ));
        }
        if asked.starts_with("os.environ/") {
            return Err("which model it is stands in a variable".to_owned());
        }
        let given = ["base_url", "api_base"].iter().find_map(|key| parameters.text(key));
        let (provider, model) = Provider::of(parameters.text("custom_llm_provider"), asked, given.is_some())?;
        if !is_plain(name) || !is_plain(model) {
            return Err("its name has such characters".to_owned());
        }
        let place = self.place(name, provider, &parameters, given)?;
        if name.contains('*') {
            if name != "*" || model != "*" || asked == "*" || self.catch_all.is_some() {
                return Err("a tier is one model, and names that nobody listed go to one upstream".to_owned());
            }
            self.catch_all = Some(place);
            return Ok(None);
        }
        let either = |key: &str| parameters.number(key).or_else(|| info.number(key));
        let cost = |key: &str| either(key).map(|usd| usd * 1e6).filter(|usd| *usd < 1e6);
        let halves = (cost("input_cost_per_token"), cost("output_cost_per_token"));
        if halves.0.is_some() != halves.1.is_some() {
            self.note(&format!("`{name}` has the price of prompts or of answers only: it counts as none"));
        }
        let cached = cost("cache_read_input_token_cost");
        let limit = |key: &str| parameters.whole(key).or_else(|| entry.whole(key));
        let deployment = Deployment {
            place,
            model: model.to_owned(),
            weight: parameters.number("weight"),
            requests: limit("rpm"),
            tokens: limit("tpm"),
            concurrent: limit("max_parallel_requests"),
            order: either("order"),
            price: halves.0.zip(halves.1).map(|(input, output)| (input, cached, output)),
        };
        // Our own clients try again as the policy says, and ask one version of an API.
        parameters.pass(&["litellm_credential_name", "max_retries", "api_version"]);
        info.pass(&["id", "base_model", "db_model", "description"]);
        entry.pass(&["litellm_params", "model_info"]);
        for key in parameters.left().into_iter().chain(info.left()).chain(entry.left()) {
            self.note(&format!("`{key}` of `{name}` is not taken over"));
        }
        Ok(Some(deployment))
    }

    /// Where a deployment is asked, and with which key.
    fn place(
        &mut self,
        name: &str,
        provider: &Provider,
        parameters: &Section<'_>,
        given: Option<&str>,
    ) -> Result<Place, String> {
        let base_url = match given {
            Some(given) if given.starts_with("os.environ/") => {
                let variable = self.variable(given)?;
                let base_url = provider.base_of(&format!("${{{variable}}}"));
                if let Some((_, rest)) = base_url.split_once('}').filter(|(_, rest)| !rest.is_empty()) {
                    self.note(&format!("`{variable}` must hold its place without `{rest}`"));
                }
                base_url
            }
            Some(given) if is_base_url(given) => provider.base_of(given),
            Some(_) => return Err("its `api_base` is no URL of http or https alone".to_owned()),
            None => provider.base_url.ok_or("it needs an `api_base`")?.to_owned(),
        };
        let is_its_own = provider.base_url == Some(base_url.as_str());
        let variable = match parameters.text("api_key") {
            Some(given) if given.starts_with("os.environ/") => Some(self.variable(given)?),
            Some(given) if NO_KEYS.iter().any(|word| given.eq_ignore_ascii_case(word)) => None,
            Some(literal) => Some(self.variable_of(literal, name, provider.variable.filter(|_| is_its_own))),
            None => provider.variable.map(|name| self.variable(name)).transpose()?,
        };
        let [timeout, first_byte] = ["timeout", "stream_timeout"].map(|key| parameters.seconds(key));
        Ok(Place { name: provider.prefixes[0].to_owned(), base_url, variable, timeout, first_byte })
    }

    /// The variable that is really meant.
    fn variable(&self, given: &str) -> Result<String, String> {
        let name = given.strip_prefix("os.environ/").unwrap_or(given);
        let name = self.variables.get(name).map_or(name, String::as_str);
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_name { Ok(name.to_owned()) } else { Err("it names a variable that cannot be one".to_owned()) }
    }

    /// A variable for a key that stands in the file: each key has one of its own, and that
    /// of a provider is for its own place only.
    fn variable_of(&mut self, literal: &str, group: &str, usual: Option<&str>) -> String {
        if let Some((_, known)) = self.literals.iter().find(|(known, _)| known == literal) {
            return known.clone();
        }
        let upper: String =
            group.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        // A variable's name has no dash in it.
        let is_taken = |name: &str| self.literals.iter().any(|(_, taken)| *taken == name.replace('-', "_"));
        let usual = usual.filter(|name| !is_taken(name)).map(str::to_owned);
        let name = usual.unwrap_or_else(|| free_name(&format!("KEY_OF_{upper}"), is_taken).replace('-', "_"));
        self.note(&format!("the key of `{group}` stands in the file, and is not copied: set {name}"));
        self.literals.push((literal.to_owned(), name.clone()));
        name
    }
}

/// Whether it is a URL, and no more than that: neither a key nor a query in it.
fn is_base_url(text: &str) -> bool {
    let place = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    place.is_some_and(|place| is_plain(place) && !place.starts_with('/') && !place.contains(['@', '?', '#', ' ']))
}
