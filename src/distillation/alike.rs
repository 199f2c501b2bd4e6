//! Questions that are nearly the same, by the runs of words they share.
//!
//! Min-hashing finds candidates (Broder 1997), the share of common runs decides. Runs that
//! very many questions have are a template's and tell nothing.

use std::collections::HashMap;

use crate::statistics::count;

/// Words in a run.
const RUN: usize = 3;
/// Hashes of one question, and how many make a band: questions that share four fifths of
/// their runs have a band in common all but always.
const HASHES: usize = 64;
const BAND: usize = 4;
/// A run in more questions than this, and in more than one of twenty, is a template's.
const COMMON: u32 = 10;

/// A question to be compared.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// What must be the same.
    context: [u8; 32],
    /// Numbers, which must be the same too: 17 + 26 is not 17 + 27.
    numbers: Vec<String>,
    /// Hashed runs of words, each once, rising.
    runs: Vec<u64>,
}

impl Item {
    pub fn new(context: [u8; 32], text: &str) -> Self {
        // A sign is a word: 12 + 7 is not 12 - 7, nor C++ C#.
        let is_sign = |c: char| !c.is_alphanumeric() && !c.is_whitespace() && !".,;:!?'\"()".contains(c);
        let spaced: String = text
            .chars()
            .flat_map(|c| if is_sign(c) { [' ', c, ' '] } else { ['\0', c, '\0'] })
            .filter(|c| *c != '\0')
            .collect();
        let words: Vec<String> = spaced
            .split(|c: char| !c.is_alphanumeric() && !is_sign(c))
            .filter(|w| !w.is_empty())
            .map(str::to_lowercase)
            .collect();
        let hash = |run: &[String]| {
            let mut hasher = blake3::Hasher::new();
            run.iter().for_each(|word| _ = hasher.update(word.as_bytes()).update(b" "));
            crate::outcomes::number(hasher.finalize().as_bytes())
        };
        let mut runs: Vec<u64> =
            if words.len() < RUN { vec![hash(&words)] } else { words.windows(RUN).map(hash).collect() };
        runs.sort_unstable();
        runs.dedup();
        let numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).map(str::to_owned);
        Self { context, numbers: numbers.collect(), runs }
    }
}

/// Which items are nearly what one before them is that stays: at least `least` of their
/// runs are common to both.
pub(super) fn near_duplicates(items: &[Item], least: f64) -> Vec<bool> {
    let mut in_items: HashMap<u64, u32> = HashMap::new();
    items.iter().flat_map(|item| &item.runs).for_each(|run| *in_items.entry(*run).or_default() += 1);
    let is_common = |run: &u64| in_items[run] > COMMON && f64::from(in_items[run]) > count(items.len()) / 20.0;
    let own = |item: &Item| -> Vec<u64> {
        let own: Vec<u64> = item.runs.iter().filter(|run| !is_common(run)).copied().collect();
        if own.is_empty() { item.runs.clone() } else { own }
    };
    let own: Vec<Vec<u64>> = items.iter().map(own).collect();
    let mut bands: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    let mut is_near = vec![false; items.len()];
    for (at, item) in items.iter().enumerate() {
        let keys: Vec<(usize, u64)> = band_keys(&own[at]).into_iter().enumerate().collect();
        let same = |other: &usize| {
            let other_item = &items[*other];
            item.context == other_item.context
                && item.numbers == other_item.numbers
                && likeness(&own[at], &own[*other]) >= least
        };
        is_near[at] = keys.iter().filter_map(|key| bands.get(key)).flatten().any(same);
        if !is_near[at] {
            keys.into_iter().for_each(|key| bands.entry(key).or_default().push(at));
        }
    }
    is_near
}

fn band_keys(runs: &[u64]) -> Vec<u64> {
    // Different mixes of one hash stand for different permutations.
    let mixed = |run: u64, seed: u64| {
        let mut x = (run ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^= x >> 33;
        x.wrapping_mul(0xc4ce_b9fe_1a85_ec53)
    };
    let least = |seed: usize| runs.iter().map(|run| mixed(*run, seed as u64 + 1)).min().unwrap_or(0);
    let hashes: Vec<u64> = (0..HASHES).map(least).collect();
    hashes.chunks(BAND).map(|band| band.iter().fold(0, |key: u64, hash| mixed(key.rotate_left(7) ^ hash, 99))).collect()
}

/// The share of all runs of both that both have (Jaccard 1901); both rise.
fn likeness(a: &[u64], b: &[u64]) -> f64 {
    let common = a.iter().filter(|run| b.binary_search(run).is_ok()).count();
    count(common) / count(a.len() + b.len() - common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(texts: &[&str]) -> Vec<bool> {
        near_duplicates(&texts.iter().map(|text| Item::new([0; 32], text)).collect::<Vec<_>>(), 0.6)
    }

    #[test]
    fn a_word_changed_is_near_and_a_number_changed_is_not() {
        let long = "please tell me in a few plain words what the capital of the country of Peru is called today";
        let other = long.replace("plain", "simple");
        let counted = format!("{long} 17");
        let recounted = format!("{long} 18");
        assert_eq!(near(&[long, &other, &counted, &recounted]), [false, true, false, false]);
        assert_eq!(near(&["yes", "no", "Yes!"]), [false, false, true]);
        assert_eq!(near(&["12 + 7", "12 - 7", "What is C++?", "What is C#?"]), [false; 4]);
    }

    #[test]
    fn what_all_questions_share_makes_none_alike() {
        let template = "answer the following multiple choice question think step by step and end with the answer is";
        let animals = ["a cat", "the dog", "some horse", "my newt", "that owl", "one eel", "a bat"];
        let texts: Vec<String> = animals
            .iter()
            .flat_map(|a| [format!("{template} {a} sits"), format!("{template} {a} runs fast")])
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        assert!(near(&texts).iter().all(|near| !near), "{:?}", near(&texts));
    }

    #[test]
    fn another_context_is_another_question() {
        let items = [Item::new([0; 32], "the same words here"), Item::new([1; 32], "the same words here")];
        assert_eq!(near_duplicates(&items, 0.5), [false, false]);
    }
}
