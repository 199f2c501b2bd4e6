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

impl Method {
    /// As the API calls it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Supervised => "supervised",
            Self::Dpo => "dpo",
        }
    }
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
    #[serde(alias = "canceled")]
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
    /// How it learns; none where the API does not say.
    #[serde(default)]
    pub method: Option<How>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Fault>,
}

/// How a job learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// `supervised`, `dpo`...
    #[serde(rename = "type", default)]
    pub kind: String,
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

impl Training<'_> {
    /// Whether a job is this one, going on or done: on the same rows, from the same model,
    /// which an API may call by its dated name.
    #[must_use]
    pub fn is(&self, job: &Job) -> bool {
        !matches!(job.status, Standing::Failed | Standing::Cancelled)
            && job.training_file == self.training_file
            && is_model(&job.model, self.model)
            && job.method.as_ref().is_none_or(|how| how.kind.is_empty() || how.kind == self.method.word())
    }
}

/// Whether an API means this model: by its name, by that and a date, or by none.
fn is_model(told: &str, asked: &str) -> bool {
    let is_date = |rest: &str| rest.starts_with('-') && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    told.is_empty() || told.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || is_date(rest))
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
    fn a_model_is_known_by_its_dated_name_and_not_by_a_longer_one() {
        assert!(is_model("gpt-4.1-nano-2025-04-14", "gpt-4.1-nano") && is_model("", "x") && is_model("x", "x"));
        assert!(!is_model("gpt-4.1-mini-2025-04-14", "gpt-4.1") && !is_model("gpt-4o-mini", "gpt-4o"));
    }

    #[test]
    fn a_word_that_is_not_known_is_not_the_end() {
        let standing = |word: &str| serde_json::from_str::<Standing>(word).expect(word);
        assert!(
            standing("\"cancelled\"").is_over()
                && standing("\"canceled\"").is_over()
                && !standing("\"running\"").is_over()
        );
        assert_eq!(standing("\"pausing\""), Standing::Other("pausing".to_owned()));
    }
}
