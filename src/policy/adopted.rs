//! A policy's text with another model for one tier: a few bytes changed, all else, comments
//! too, as it was.

use std::ops::Range;

use super::problem::Problem;
use super::yaml::{self, Data, Node};
use super::{Outside, Policy, Problems, Tier};
use crate::openai::splice::Splice;
use crate::price::Usd;

/// What changes.
#[derive(Clone, Copy, Debug)]
pub struct Adopted<'a> {
    /// The tier, by name.
    pub tier: &'a str,
    /// Its model from now on.
    pub model: &'a str,
    /// Its price of input and output from now on, dollars per million tokens; none: as it was.
    pub price: Option<(Usd, Usd)>,
    /// The file of the calibration from now on; none: as it was.
    pub calibration: Option<&'a str>,
}

/// Why it cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CannotAdopt {
    /// What is wrong with the policy.
    #[error("{0}")]
    Policy(Problems),
    /// In words.
    #[error("{0}")]
    Shape(String),
}

impl Policy {
    /// The text of this policy with what is adopted. Checked by reading it again, `outside`
    /// with the new calibration's file in it: nothing else has changed.
    ///
    /// # Errors
    /// Where the text is no policy, or gives the tier's model in a way that cannot be changed in
    /// one place.
    pub fn adopting(&self, source: &str, adopted: Adopted<'_>, outside: Outside<'_>) -> Result<String, CannotAdopt> {
        let problems = |problem: Problem| CannotAdopt::Policy(Problems::new("policy", source, vec![problem]));
        let tree = yaml::parse(source).map_err(problems)?;
        let shape = |what: String| CannotAdopt::Shape(what);
        let tier = tier_node(&tree, adopted.tier)
            .ok_or_else(|| shape(format!("cannot find where the policy gives {} its model", adopted.tier)))?;
        let model = entry(tier, "model")
            .ok_or_else(|| shape(format!("cannot find where the policy gives {} its model", adopted.tier)))?;
        let mut edits = vec![(model.1.span.clone(), quoted(adopted.model))];
        if let Some((input, output)) = adopted.price {
            edits.extend(price_edits(source, tier, &model.0.span, &model.1.span, (input, output)));
        }
        if let (Some(name), Some((_, place))) = (adopted.calibration, entry(&tree, "optimal_stopping")) {
            edits.push((place.span.clone(), quoted(name)));
        }
        // What is put in at one place stands after what is put there instead.
        edits.sort_by_key(|(span, _)| (span.start, span.end));
        let mut splice = Splice::default();
        edits.into_iter().for_each(|(span, text)| splice.replace(span, text));
        let text = String::from_utf8_lossy(&splice.apply(source.as_bytes())).into_owned();
        let (read, _) = Self::parse("policy", &text, outside).map_err(CannotAdopt::Policy)?;
        let is_as_meant = |(before, after): (&Tier, &Tier)| {
            let is_it = before.name == adopted.tier;
            let model = if is_it { adopted.model } else { &before.model };
            let given = adopted.price.filter(|_| is_it);
            let is_price = match given {
                Some(given) => after.price.is_some_and(|price| (price.input, price.output) == given),
                None => after.price == before.price,
            };
            before.name == after.name && after.model == model && is_price
        };
        if read.tiers.len() == self.tiers.len() && self.tiers.iter().zip(&read.tiers).all(is_as_meant) {
            Ok(text)
        } else {
            Err(shape(format!(
                "the model or price of {} stands for something else too (an alias?): write {} there by hand",
                adopted.tier, adopted.model
            )))
        }
    }
}

fn entry<'n>(node: &'n Node, name: &str) -> Option<(&'n Node, &'n Node)> {
    let Data::Map(entries) = &node.data else { return None };
    let is_it = |key: &Node| matches!(&key.data, Data::Scalar { text, .. } if text == name);
    entries.iter().find(|(key, _)| is_it(key)).map(|(key, value)| (key, value))
}

fn tier_node<'n>(tree: &'n Node, name: &str) -> Option<&'n Node> {
    let Data::Seq(tiers) = &entry(tree, "tiers")?.1.data else { return None };
    tiers.iter().find(|tier| {
        matches!(entry(tier, "name").map(|(_, name)| &name.data), Some(Data::Scalar { text, .. }) if text == name)
    })
}

/// In quotes, which YAML reads as JSON does: names of models have colons.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn price_edits(
    source: &str,
    tier: &Node,
    key: &Range<usize>,
    model: &Range<usize>,
    (input, output): (Usd, Usd),
) -> Vec<(Range<usize>, String)> {
    let Some((_, price)) = entry(tier, "price") else {
        let text = format!("price: {{ input: {input}, output: {output} }}");
        let is_flow = source[tier.span.start..].starts_with('{');
        let column = key.start - source[..key.start].rfind('\n').map_or(0, |at| at + 1);
        let before = if is_flow { ", ".to_owned() } else { format!("\n{}", " ".repeat(column)) };
        return vec![(model.end..model.end, format!("{before}{text}"))];
    };
    let of = [("input", input), ("cached_input", input), ("output", output)];
    of.into_iter().filter_map(|(name, usd)| Some((entry(price, name)?.1.span.clone(), usd.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "# mine\nname: p\nupstreams: { u: { fixtures: embedded } }\ntiers:\n  - name: small\n    model: small-1 # the first\n    upstream: u\n    accept: {}\n  - { name: large, model: large-1, upstream: u, price: { input: 1, output: 2 } }\n";

    fn adopting(source: &str, tier: &str, price: Option<(f64, f64)>) -> Result<String, CannotAdopt> {
        let policy = Policy::parse("p", source, Outside::none()).expect("a policy").0;
        let usd = |usd: f64| Usd::from_dollars(usd).expect("finite");
        let price = price.map(|(input, output)| (usd(input), usd(output)));
        policy.adopting(source, Adopted { tier, model: "ft:x:1", price, calibration: None }, Outside::none())
    }

    #[test]
    fn a_few_bytes_change() {
        assert_eq!(adopting(BLOCK, "small", None).expect("written"), BLOCK.replace("small-1", "\"ft:x:1\""));
        let large = adopting(BLOCK, "large", Some((3.0, 0.5))).expect("written");
        assert_eq!(
            large,
            BLOCK.replace("large-1", "\"ft:x:1\"").replace("input: 1, output: 2", "input: 3.00, output: 0.50")
        );
        // A price where there was none.
        let small = adopting(BLOCK, "small", Some((3.0, 0.5))).expect("written");
        assert!(
            small.contains("    model: \"ft:x:1\"\n    price: { input: 3.00, output: 0.50 } # the first\n"),
            "{small}"
        );
    }

    #[test]
    fn what_cannot_be_changed_in_one_place_is_told() {
        let aliased = BLOCK.replace("small-1", "&m same").replace("large-1", "*m");
        let why = adopting(&aliased, "small", None).expect_err("an alias").to_string();
        assert!(why.contains("by hand") || why.contains("anchor"), "{why}");
        let priced = BLOCK
            .replace("    accept: {}", "    price: &p { input: 1, output: 2 }\n    accept: {}")
            .replace("price: { input: 1, output: 2 } }", "price: *p }");
        let why = adopting(&priced, "small", Some((3.0, 4.0))).expect_err("an alias").to_string();
        assert!(why.contains("by hand"), "{why}");
    }
}
