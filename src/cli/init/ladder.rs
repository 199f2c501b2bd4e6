//! A ladder of the models that were found, as a policy with comments.

use std::fmt::Write as _;

/// Where models are, and which.
#[derive(Debug)]
pub(super) struct Place {
    /// Its name in the policy.
    pub name: &'static str,
    /// The variable of its key; none on this machine.
    pub variable: Option<&'static str>,
    pub base_url: String,
    /// Its models, or why they are not known.
    pub models: Result<Vec<String>, String>,
}

/// A model that may be a tier.
#[derive(Clone, Debug, PartialEq)]
struct Rung {
    place: &'static str,
    model: String,
    price: Option<&'static str>,
}

/// OpenAI's ladder, smallest first, with list prices of November 2026 in dollars per
/// million tokens; the same as in `policies/classic.yaml`.
const OPENAI: [(&str, &str); 3] = [
    ("gpt-4.1-nano", "{ input: 0.10, cached_input: 0.025, output: 0.40 }"),
    ("gpt-4.1-mini", "{ input: 0.40, cached_input: 0.10, output: 1.60 }"),
    ("gpt-4.1", "{ input: 2.00, cached_input: 0.50, output: 8.00 }"),
];
const FREE: &str = "{ input: 0, output: 0 } # electricity is not counted";
/// The names of ladders of one to four tiers.
const NAMES: [&[&str]; 4] =
    [&["davinci"], &["ada", "davinci"], &["ada", "curie", "davinci"], &["ada", "babbage", "curie", "davinci"]];

/// Billions of parameters that a name tells: `qwen2.5:14b`, `llama-3.1-8b-instant`.
fn size_in(name: &str) -> Option<f64> {
    let name = name.to_ascii_lowercase();
    let parts = name.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
    parts.filter_map(|part| part.strip_suffix('b')?.parse::<f64>().ok()).filter(|size| *size > 0.0).reduce(f64::max)
}

/// Whether a model may be one that answers chats, by its name.
fn may_chat(name: &str) -> bool {
    const OTHERS: [&str; 12] = [
        "embed",
        "whisper",
        "tts",
        "audio",
        "image",
        "moderation",
        "guard",
        "rerank",
        "vision",
        "dall",
        "realtime",
        "transcribe",
    ];
    // Whatever a server lists goes into the policy: no quotes, no variables.
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte));
    let name = name.to_ascii_lowercase();
    is_plain && !OTHERS.iter().any(|other| name.contains(other))
}

/// At most `most` of a place's models whose size is known: the smallest, the largest, and
/// what lies between.
fn rungs(place: &Place, most: usize) -> Vec<Rung> {
    let rung = |model: &str, price| Rung { place: place.name, model: model.to_owned(), price };
    if place.base_url == "https://api.openai.com/v1" {
        let listed =
            |model: &str| place.models.as_ref().map_or(true, |models| models.iter().any(|known| known == model));
        let ladder = OPENAI.iter().filter(|(model, _)| listed(model));
        return spread(ladder.map(|(model, price)| rung(model, Some(*price))).collect(), most);
    }
    let models = place.models.as_deref().unwrap_or_default();
    let sized = models.iter().filter(|model| may_chat(model)).filter_map(|model| Some((model, size_in(model)?)));
    let mut all: Vec<(&String, f64)> = sized.collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(b.0)));
    all.dedup_by(|b, a| b.1.total_cmp(&a.1).is_eq());
    let price = place.variable.is_none().then_some(FREE);
    spread(all.into_iter().map(|(model, _)| rung(model, price)).collect(), most)
}

/// At most `most` of them: the last, the first, and what lies between.
fn spread(all: Vec<Rung>, most: usize) -> Vec<Rung> {
    if all.len() <= most {
        return all;
    }
    let picked = |at: usize| if most < 2 { all.len() - 1 } else { at * (all.len() - 1) / (most - 1) };
    (0..most).map(|at| all[picked(at)].clone()).collect()
}

/// A policy with comments, in one of which places without a rung are told; none where no
/// place has one.
pub(super) fn policy(places: &[Place]) -> Option<String> {
    let (local, hosted): (Vec<&Place>, Vec<&Place>) = places.iter().partition(|place| place.variable.is_none());
    let local: Vec<Rung> = local.iter().flat_map(|place| rungs(place, 2)).take(2).collect();
    let most = 4 - local.len();
    let found = hosted.iter().map(|place| rungs(place, most.min(3))).find(|rungs| !rungs.is_empty());
    let rungs = [local, found.unwrap_or_default()].concat();
    if rungs.is_empty() {
        return None;
    }
    let mut out = String::from(
        "# Made by `cascade init` of what it found. The thresholds are starting points: record\n\
         # some traffic (below), replay it, and calibrate, before you trust them.\n\
         name: mine\n\nupstreams:\n",
    );
    for place in places {
        let is_used = rungs.iter().any(|rung| rung.place == place.name);
        let mark = if is_used { "" } else { "# " };
        let key = place.variable.map_or(String::new(), |variable| format!(", api_key: \"${{{variable}}}\""));
        let _ = writeln!(out, "  {mark}{}: {{ base_url: \"{}\"{key} }}", place.name, place.base_url);
        if let (false, Err(why)) = (is_used, &place.models) {
            let _ = writeln!(out, "  #   its models are not known: {}", why.replace(['\n', '\r'], " "));
        }
    }
    out.push_str("\ntiers: # smallest first; prices in dollars per million tokens\n");
    for (at, (rung, name)) in rungs.iter().zip(NAMES[rungs.len().clamp(1, 4) - 1]).enumerate() {
        let _ = write!(out, "  - name: {name}\n    model: \"{}\"\n    upstream: {}\n", rung.model, rung.place);
        match rung.price {
            Some(price) => _ = writeln!(out, "    price: {price}"),
            None => out.push_str("    # price: { input: ..., output: ... } # without it costs are unknown\n"),
        }
        out.push_str("    cache: { capacity: 64MiB, ttl: 1h }\n");
        let score = if at == 0 {
            "{ confidence: { quantile: 0.1 } }"
        } else {
            "[{ confidence: { quantile: 0.1 } }, agreement]"
        };
        if at + 1 < rungs.len() {
            let _ = write!(
                out,
                "    accept: # the default gates, and how sure its tokens were\n      score: {score}\n      at_least: {}\n",
                ["0.75", "0.68", "0.6"][at.min(2)]
            );
        }
    }
    if let Some(place) = hosted.iter().find(|place| rungs.iter().any(|rung| rung.place == place.name)) {
        let _ = write!(out, "\npassthrough: {{ upstream: {} }} # files, images, audio, batches, ...\n", place.name);
    }
    out.push_str(
        "\n# What is asked and answered, written down for `cascade replay` and `cascade calibrate`;\n\
         # two of a hundred prompts are asked of every tier:\n\
         # record: { to: recordings, every_tier: 0.02 }\n",
    );
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Outside, Policy};

    fn place(name: &'static str, variable: Option<&'static str>, base_url: &str, models: &[&str]) -> Place {
        let models = Ok(models.iter().map(|model| (*model).to_owned()).collect());
        Place { name, variable, base_url: base_url.to_owned(), models }
    }

    fn tiers(places: &[Place]) -> Vec<(String, String)> {
        let text = policy(places).expect("a ladder");
        let known = |_: &str| Some("sk-test-0123456789abcdef".to_owned());
        let read = Policy::parse("p", &text, Outside { variables: &known, ..Outside::none() });
        let policy = read.unwrap_or_else(|problems| panic!("{problems}\n{text}")).0;
        policy.tiers.into_iter().map(|tier| (tier.name, tier.model)).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn small_models_of_this_machine_stand_before_hosted_ones() {
        let ollama = || {
            let models = ["qwen2.5:14b", "llama3.2:3b", "nomic-embed-text", "qwen2.5:7b"];
            place("ollama", None, "http://127.0.0.1:11434/v1", &models)
        };
        let openai = || {
            let models = ["gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "whisper-1"];
            place("openai", Some("OPENAI_API_KEY"), "https://api.openai.com/v1", &models)
        };
        // Four tiers are enough, and the largest is the one that matters.
        let both =
            [("ada", "llama3.2:3b"), ("babbage", "qwen2.5:14b"), ("curie", "gpt-4.1-nano"), ("davinci", "gpt-4.1")];
        assert_eq!(tiers(&[ollama(), openai()]), pairs(&both));
        assert_eq!(tiers(&[ollama()]), pairs(&[("ada", "llama3.2:3b"), ("davinci", "qwen2.5:14b")]));
        assert_eq!(
            tiers(&[openai()]),
            pairs(&[("ada", "gpt-4.1-nano"), ("curie", "gpt-4.1-mini"), ("davinci", "gpt-4.1")])
        );
    }

    #[test]
    fn sizes_are_read_from_names() {
        for (name, size) in [
            ("qwen2.5:14b", Some(14.0)),
            ("meta-llama/Llama-3.1-8B-Instruct", Some(8.0)),
            ("qwen2.5-0.5b-instruct", Some(0.5)),
            ("gpt-4.1", None),
            ("b", None),
        ] {
            assert_eq!(size_in(name), size, "{name}");
        }
    }

    #[test]
    fn a_place_whose_models_are_not_known_is_told_in_a_comment() {
        let groq = Place {
            models: Err("status 401".to_owned()),
            ..place("groq", Some("GROQ_API_KEY"), "https://api.groq.com/openai/v1", &[])
        };
        assert_eq!(policy(std::slice::from_ref(&groq)), None);
        let openai = place("openai", Some("OPENAI_API_KEY"), "https://api.openai.com/v1", &["gpt-4.1", "gpt-4.1-mini"]);
        let text = policy(&[openai, groq]).expect("a ladder");
        assert!(text.contains("  # groq: {") && text.contains("not known: status 401"), "{text}");
    }
}
