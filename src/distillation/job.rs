//! A fine-tuning job as an OpenAI-compatible API tells it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How rows are learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// From the right answer
    Supervised,
    /// From pairs of a better and a worse answer
    Dpo,
}

/// What is to be trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Training<'a> {
    /// The model to begin with.
    pub model: &'a str,
    /// The file of rows, by its id there.
    pub training_file: &'a str,
    /// The file of rows kept for validation.
    pub validation_file: Option<&'a str>,
    /// How.
    pub method: Method,
    /// How often each row is seen; none: the provider chooses.
    pub epochs: Option<u32>,
    /// What the model's name ends with.
    pub suffix: Option<&'a str>,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Files are looked at.
    ValidatingFiles,
    /// It waits.
    Queued,
    /// It runs.
    Running,
    /// There is a model.
    Succeeded,
    /// There is none.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// A word of this API's own: not over.
    #[serde(untagged)]
    Other(String),
}

impl Standing {
    /// Whether nothing more will become of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job as the API tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: Standing,
    /// The model it began with.
    #[serde(default)]
    pub model: String,
    /// The model that was made.
    #[serde(default)]
    pub fine_tuned_model: Option<String>,
    /// Tokens that are paid for.
    #[serde(default)]
    pub trained_tokens: Option<u64>,
    /// When it will be done, in seconds since 1970.
    #[serde(default)]
    pub estimated_finish: Option<u64>,
    /// Its file of rows.
    #[serde(default)]
    pub training_file: String,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Fault>,
}

/// Why a job failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// In words; none where it did not.
    #[serde(default)]
    pub message: Option<String>,
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Event {
    /// In words.
    #[serde(default)]
    pub message: String,
    /// Numbers, where it has some.
    #[serde(default)]
    data: Option<Value>,
}

impl Event {
    /// The step it tells of, of how many: from its numbers, else from `Step 10/100: ...`.
    #[must_use]
    pub fn step(&self) -> Option<(u64, u64)> {
        let number = |name: &str| self.data.as_ref()?.get(name)?.as_u64();
        number("step").zip(number("total_steps")).or_else(|| {
            let (step, of) = self.message.strip_prefix("Step ")?.split_once(':')?.0.split_once('/')?;
            Some((step.trim().parse().ok()?, of.trim().parse().ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_its_step() {
        let step = |text: &str| serde_json::from_str::<Event>(text).expect(text).step();
        assert_eq!(step(r#"{"message":"Step 10/100: training loss=0.12"}"#), Some((10, 100)));
        assert_eq!(step(r#"{"message":"x","data":{"step":3,"total_steps":9,"train_loss":1.5}}"#), Some((3, 9)));
        assert_eq!(step(r#"{"message":"Created fine-tuning job","data":{}}"#), None);
    }

    #[test]
    fn a_word_that_is_not_known_is_not_the_end() {
        let standing = |word: &str| serde_json::from_str::<Standing>(word).expect(word);
        assert!(standing("\"cancelled\"").is_over() && !standing("\"running\"").is_over());
        assert_eq!(standing("\"pausing\""), Standing::Other("pausing".to_owned()));
    }
}
