//! How many tokens a prompt and its answer took: as the upstream counted
//! them, else estimated, and the estimate says that it is one.

use std::num::NonZeroU32;

use crate::answer::{Answer, Usage};
use crate::prompt::Prompt;

/// Bytes of UTF-8 text per token, a common average for English.
const BYTES_PER_TOKEN: usize = 4;
/// Tokens of an answer of unknown bound, until they are counted.
const ANSWER: u64 = 512;

/// Token counts of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens of the prompt, those in `cached_input` among them.
    pub input: u64,
    /// Tokens of the prompt that the provider had cached.
    pub cached_input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// True where the upstream gave no `usage` and text was measured instead.
    pub estimated: bool,
}

/// Tokens of `prompt` and `answer`: from `usage`, else one per four bytes of
/// text, each rounded up.
#[must_use]
pub fn count(prompt: &Prompt, answer: &Answer) -> Tokens {
    answer.usage.and_then(of_usage).unwrap_or_else(|| Tokens {
        input: estimate_prompt(prompt),
        cached_input: 0,
        output: of_bytes(answer.text_bytes()),
        estimated: true,
    })
}

/// Tokens as an upstream counted them; none where it left a count out.
#[must_use]
pub fn of_usage(usage: Usage) -> Option<Tokens> {
    let (input, output) = (usage.prompt_tokens?, usage.completion_tokens?);
    Some(Tokens { input, cached_input: usage.cached_tokens.unwrap_or(0).min(input), output, estimated: false })
}

/// Estimated tokens of a prompt: its texts and tool definitions.
#[must_use]
pub fn estimate_prompt(prompt: &Prompt) -> u64 {
    of_bytes(prompt.text_bytes())
}

/// The most tokens that a prompt is taken to cost until they are counted: its own by
/// estimate, and as many as it allows each of its answers.
#[must_use]
pub fn at_most(prompt: &Prompt) -> NonZeroU32 {
    let asked = prompt.asked();
    let answers = asked.max_tokens.unwrap_or(ANSWER).saturating_mul(asked.n.max(1));
    let sum = estimate_prompt(prompt).saturating_add(answers);
    NonZeroU32::new(u32::try_from(sum).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
}

/// Estimated tokens of so many bytes of text.
#[must_use]
pub fn of_bytes(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}
