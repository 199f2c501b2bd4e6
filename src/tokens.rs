//! How many tokens a prompt and its answer took: as the upstream counted
//! them, else estimated, and the estimate says that it is one.

use crate::answer::Answer;
use crate::prompt::Prompt;

/// Bytes of UTF-8 text per token, a common average for English.
const BYTES_PER_TOKEN: usize = 4;

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
    match &answer.usage {
        Some(usage) => Tokens {
            input: usage.prompt_tokens,
            cached_input: usage.cached_tokens(),
            output: usage.completion_tokens,
            estimated: false,
        },
        None => Tokens {
            input: estimate_prompt(prompt),
            cached_input: 0,
            output: of_bytes(answer.text_bytes()),
            estimated: true,
        },
    }
}

/// Estimated tokens of a prompt's text.
#[must_use]
pub fn estimate_prompt(prompt: &Prompt) -> u64 {
    of_bytes(prompt.texts().iter().map(|text| text.len()).sum())
}

fn of_bytes(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}
