//! What was read of a configuration, as the text of a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{Converter, Deployment, Group, Place, Settings, free_name, is_plain};

/// Places of groups, and of those that stand in for them.
type Fallbacks = BTreeMap<usize, BTreeSet<usize>>;

impl Converter {
    pub(super) fn text(&mut self, settings: &Settings<'_>) -> String {
        let fallbacks = self.fallbacks(settings);
        let names = self.names(&fallbacks);
        let aliases = settings.either(|part| part.as_read("model_group_alias", Value::as_object));
        // Clients name it for the whole ladder: nothing else has its name.
        let ladder = free_name("cascade", |name| {
            names.iter().any(|tier| tier == name)
                || self.groups.iter().any(|group| group.name == name)
                || aliases.is_some_and(|aliases| aliases.contains_key(name))
        });
        let mut out = format!(
            "# Made by `cascade import litellm-config`. Clients that name one of the models get that\n\
             # tier, as before; those that name `{ladder}` get the smallest that answers well enough.\n\
             # The thresholds are starting points: record, replay and calibrate before you trust them.\n\
             name: {ladder}\n"
        );
        let timeout = settings.all.seconds("request_timeout");
        let timeout = timeout.or(settings.either(|part| part.seconds("timeout")));
        let places = self.places(timeout, settings.router.seconds("stream_timeout"));
        out.push_str("\nupstreams:\n");
        let fails = settings.either(|part| part.number("allowed_fails"));
        let cooldown = settings.either(|part| part.seconds("cooldown_time"));
        let breaker = match (fails, cooldown) {
            (None, None) => String::new(),
            (fails, time) => {
                // It opened with the first failure above those that are allowed.
                let fails = fails.map_or(String::new(), |n| format!("failures: {}, ", n.min(1e6).floor() + 1.0));
                format!(", breaker: {{ {fails}open_for: {} }}", duration(time.unwrap_or(5.0)))
            }
        };
        for Place { name, base_url, variable, timeout, first_byte } in &places {
            let key = variable.as_ref().map_or(String::new(), |name| format!(", api_key: \"${{{name}}}\""));
            let times = [("total", timeout), ("first_byte", first_byte)];
            let times: Vec<String> =
                times.iter().filter_map(|(name, time)| Some(format!("{name}: {}", duration((**time)?)))).collect();
            let times =
                if times.is_empty() { String::new() } else { format!(", timeouts: {{ {} }}", times.join(", ")) };
            let _ = writeln!(out, "  {name}: {{ base_url: \"{base_url}\"{key}{times}{breaker} }}");
        }
        let retries = settings.either(|part| part.number("num_retries")).map(|times| times.floor().min(10.0));
        let cache = self.cache(settings);
        out.push_str("\ntiers: # smallest first; prices in dollars per million tokens\n");
        let groups = std::mem::take(&mut self.groups);
        for (at, (group, name)) in groups.iter().zip(&names).enumerate() {
            out.push_str(&self.tier(group, name));
            if let Some(times) = retries {
                let _ = writeln!(out, "    retries: {{ times: {times} }}");
            }
            out.push_str(&cache);
            if at + 1 < groups.len() {
                let score = if at == 0 {
                    "{ confidence: { quantile: 0.1 } }"
                } else {
                    "[{ confidence: { quantile: 0.1 } }, agreement]"
                };
                let _ = write!(
                    out,
                    "    accept:\n      score: {score}\n      at_least: {}\n",
                    ["0.75", "0.68", "0.6"][at.min(2)]
                );
            }
        }
        let routes = self.routes(&groups, &names, &fallbacks, aliases);
        if !routes.is_empty() {
            let _ = write!(out, "\nroutes: # the first that matches wins\n{routes}");
        }
        let unlisted = self.catch_all.as_ref();
        let through = unlisted.or_else(|| places.iter().find(|place| place.base_url == "https://api.openai.com/v1"));
        if let Some(Place { name, .. }) = through {
            let unknown = if unlisted.is_some() { ", unknown_models: true" } else { "" };
            let _ = write!(
                out,
                "\npassthrough: {{ upstream: {name}{unknown} }} # files, images, audio, embeddings, batches, ...\n"
            );
        }
        out
    }

    /// The upstreams; each deployment is told which is its own. One tier names an upstream
    /// once: two models of a group at the same place are asked by two names of it.
    fn places(&mut self, timeout: Option<f64>, first_byte: Option<f64>) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        let mut find = |place: &mut Place, taken: &[String]| {
            place.timeout = place.timeout.or(timeout);
            // The whole of it bounds its beginning.
            place.first_byte =
                place.first_byte.or(first_byte).filter(|time| place.timeout.is_none_or(|all| *time < all));
            let same = |known: &&Place| Place { name: known.name.clone(), ..place.clone() } == **known;
            if let Some(known) = places.iter().filter(same).find(|known| !taken.contains(&known.name)) {
                place.name.clone_from(&known.name);
                return;
            }
            place.name = free_name(&place.name, |name| places.iter().any(|known| known.name == name));
            places.push(place.clone());
        };
        for group in &mut self.groups {
            let mut taken = Vec::new();
            for deployment in &mut group.deployments {
                find(&mut deployment.place, &taken);
                taken.push(deployment.place.name.clone());
            }
        }
        if let Some(place) = &mut self.catch_all {
            // How long it may take does not matter for what passes through.
            let is_same = |known: &&Place| known.base_url == place.base_url && known.variable == place.variable;
            let same = self.groups.iter().flat_map(|group| &group.deployments).map(|one| &one.place).find(is_same);
            match same {
                Some(known) => *place = known.clone(),
                None => find(place, &[]),
            }
        }
        places
    }

    fn tier(&mut self, group: &Group, name: &str) -> String {
        let all = &group.deployments;
        let mut out = format!("  - name: \"{name}\"\n    model: \"{}\"\n", all[0].model);
        if let [one] = &all[..] {
            let _ = writeln!(out, "    upstream: {}", one.place.name);
        } else {
            let each = all.iter().zip(weights(all)).map(|(one, weight)| {
                let model =
                    if one.model == all[0].model { String::new() } else { format!(", model: \"{}\"", one.model) };
                format!("{{ name: {}, weight: {weight}{model} }}", one.place.name)
            });
            let _ = writeln!(out, "    upstream: [{}]", each.collect::<Vec<_>>().join(", "));
        }
        let mut prices: Vec<_> = all.iter().filter_map(|one| one.price).collect();
        prices.sort_by(|a, b| (a.0 + a.2).total_cmp(&(b.0 + b.2)));
        prices.dedup();
        if prices.len() > 1 {
            self.note(&format!(
                "deployments of `{}` have different prices: the highest counts for all of them",
                group.name
            ));
        }
        match prices.last() {
            Some((input, cached, output)) => {
                let cached = cached.map_or(String::new(), |usd| format!("cached_input: {}, ", rounded(usd)));
                let _ =
                    writeln!(out, "    price: {{ input: {}, {cached}output: {} }}", rounded(*input), rounded(*output));
            }
            None => out.push_str("    # price: { input: ..., output: ... } # without it costs are unknown\n"),
        }
        let sum = |pick: fn(&Deployment) -> Option<u64>| {
            all.iter().map(pick).sum::<Option<u64>>().map(|sum| sum.min(4_000_000_000))
        };
        let limits = [
            ("requests_per_minute", sum(|one| one.requests)),
            ("tokens_per_minute", sum(|one| one.tokens)),
            ("concurrent", sum(|one| one.concurrent)),
        ];
        let limits: Vec<String> =
            limits.iter().filter_map(|(name, limit)| Some(format!("{name}: {}", (*limit)?))).collect();
        if !limits.is_empty() {
            self.note("rpm and tpm are kept here, added up over a group; LiteLLM's usual routing only weighs by them");
            let _ = writeln!(out, "    limits: {{ {} }}", limits.join(", "));
        }
        out
    }

    /// The cache of each tier.
    fn cache(&mut self, settings: &Settings<'_>) -> String {
        let rules = &settings.cache;
        if !settings.all.is_true("cache") {
            return String::new();
        }
        let is_of_chats = |kinds: &Vec<Value>| kinds.iter().any(|kind| kind == "acompletion" || kind == "completion");
        let is_other =
            rules.any("supported_call_types").and_then(Value::as_array).is_some_and(|kinds| !is_of_chats(kinds));
        if rules.text("mode") == Some("default_off") || is_other {
            self.note("chats were cached for those only who asked for it, or not at all: no tier has a cache; `cache: { ttl: 10m }` gives it one");
            return String::new();
        }
        if rules.text("type") != Some("local") {
            self.note("the cache is in the gateway's own memory, each tier's apart");
        }
        let names = ["default_in_memory_ttl", "default_in_redis_ttl", "ttl"];
        let seconds = names.iter().find_map(|name| rules.seconds(name));
        format!("    cache: {{ capacity: 64MiB, ttl: {}, sampled: true }}\n", duration(seconds.unwrap_or(600.0)))
    }

    /// Larger groups that stand in for smaller ones, by their places.
    fn fallbacks(&mut self, settings: &Settings<'_>) -> Fallbacks {
        let mut found = Fallbacks::new();
        let Some(listed) = settings.either(|part| part.as_read("fallbacks", Value::as_array)) else { return found };
        for (from, targets) in listed.iter().filter_map(Value::as_object).flatten() {
            let Some(targets) = targets.as_array() else {
                self.note(&format!("the fallbacks of `{from}` are left out: they are no list"));
                continue;
            };
            for to in targets {
                let place = |name: &str| self.groups.iter().position(|group| group.name == name);
                let why = match place(from).zip(to.as_str().and_then(place)) {
                    Some((from, to)) if from < to => {
                        found.entry(from).or_default().insert(to);
                        continue;
                    }
                    Some(_) => "a ladder goes from smaller to larger",
                    None => "one of them is no tier here",
                };
                let to = to.as_str().map_or_else(|| to.to_string(), str::to_owned);
                self.note(&format!("the fallback from `{from}` to `{to}` is left out: {why}"));
            }
        }
        if !found.is_empty() {
            self.note("fallbacks are ladders now: the larger tier is asked where the smaller one fails, and also where its answer is not good enough");
        }
        found
    }

    /// Names of the tiers. A tier's name pins it: one that others stand in for has a name
    /// of its own, so that its group's is free for the ladder.
    fn names(&self, fallbacks: &Fallbacks) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            let plain = tier_name(&group.name);
            let first = if fallbacks.contains_key(&at) { format!("{plain}-only") } else { plain };
            let name = free_name(&first, |name| {
                let others = self.groups.iter().filter(|other| other.name != group.name);
                names.iter().any(|tier| tier == name) || others.map(|other| &other.name).any(|other| other == name)
            });
            names.push(name);
        }
        names
    }

    fn routes(
        &mut self,
        groups: &[Group],
        names: &[String],
        fallbacks: &Fallbacks,
        aliases: Option<&Map<String, Value>>,
    ) -> String {
        let mut out = String::new();
        let route = |model: &str, at: usize| {
            let ladder = std::iter::once(&at).chain(fallbacks.get(&at).into_iter().flatten());
            let ladder: Vec<String> = ladder.map(|at| format!("\"{}\"", names[*at])).collect();
            format!("  - {{ when: {{ model: \"{model}\" }}, tiers: [{}] }}\n", ladder.join(", "))
        };
        for (at, (group, name)) in groups.iter().zip(names).enumerate() {
            if group.name != *name {
                out.push_str(&route(&group.name, at));
            }
        }
        for (alias, target) in aliases.into_iter().flatten() {
            let target = target.as_str().or_else(|| target["model"].as_str()).unwrap_or_default();
            let is_taken = names.contains(alias) || groups.iter().any(|group| group.name == *alias);
            let why = match groups.iter().position(|group| group.name == target) {
                Some(_) if is_taken => "a model has this name".to_owned(),
                Some(_) if !is_plain(alias) || alias.contains('*') => "a name with such characters".to_owned(),
                Some(at) => {
                    out.push_str(&route(alias, at));
                    continue;
                }
                None => format!("`{target}` is no tier here"),
            };
            self.note(&format!("the alias `{alias}` is left out: {why}"));
        }
        out
    }
}

/// Who is asked how often: by `weight`, else by rpm, else by tpm, as the usual routing
/// does; those of a later `order` only where the others fail.
fn weights(all: &[Deployment]) -> Vec<u64> {
    let first = all.iter().filter_map(|one| one.order).reduce(f64::min);
    let is_first = |one: &&Deployment| first.is_none() || one.order == first;
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let picks: [fn(&Deployment) -> Option<f64>; 3] =
        [|one| one.weight, |one| one.requests.map(|n| n as f64), |one| one.tokens.map(|n| n as f64)];
    let pick = picks.into_iter().find(|pick| all.iter().filter(is_first).any(|one| pick(one).is_some_and(|n| n > 0.0)));
    let weight = |one: &Deployment| pick.map_or(1.0, |pick| pick(one).unwrap_or(0.0));
    let raw: Vec<f64> = all.iter().map(|one| if is_first(&one) { weight(one) } else { 0.0 }).collect();
    let most = raw.iter().copied().fold(0.0, f64::max);
    // As they are where they are small whole numbers, else in hundredths of the largest.
    let is_plain = raw.iter().all(|weight| weight.fract() == 0.0 && *weight <= 1000.0);
    let scale = if is_plain { 1.0 } else { 100.0 / most };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000")]
    raw.iter().map(|weight| if *weight > 0.0 { (weight * scale).round().max(1.0) as u64 } else { 0 }).collect()
}

/// A group's name as a tier's: letters, digits and - _ . / : only.
fn tier_name(group: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "-_./:".contains(c) { c } else { '-' };
    group.chars().map(kept).collect()
}

/// Without the dust of a multiplication.
fn rounded(usd: f64) -> f64 {
    (usd * 1e6).round() / 1e6
}

/// As a policy writes it, to the millisecond.
fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held within a year")]
    let all = (seconds.clamp(0.001, 3e7) * 1000.0).round() as u64;
    if all.is_multiple_of(1000) { format!("{}s", all / 1000) } else { format!("{all}ms") }
}
