//! Files and fine-tuning jobs at an OpenAI-compatible API.
//!
//! Invariant: what may be there already is looked for before it is made, so that a step
//! broken off can be done again and nothing is paid for twice.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::job::{Event, Job, Method, Standing, Training};
use crate::clock::{Clock, SystemClock};
use crate::openai::envelope::excerpt;
use crate::openai::pace;
use crate::upstream::{Probe, Told};

/// Tries of what may succeed later, and the wait before the second, which doubles.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait that an API may ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Entries of one page of a list, and pages that are looked at.
const PAGE: usize = 100;
const PAGES: usize = 20;

/// Why a step of a job did not succeed, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No answer, or one that means nothing, after every try.
    #[error("{0}")]
    Unreached(String),
    /// The API said no.
    #[error("the API refuses, status {status}: {said}")]
    Said {
        /// The HTTP status.
        status: u16,
        /// Its own words.
        said: String,
    },
}

#[derive(Deserialize)]
struct List<T> {
    data: Vec<T>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct File {
    id: String,
    #[serde(default)]
    filename: String,
    #[serde(default)]
    bytes: u64,
}

trait HasId {
    fn id(&self) -> &str;
}

impl HasId for File {
    fn id(&self) -> &str {
        &self.id
    }
}

impl HasId for Job {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The API of files and jobs.
#[derive(Debug)]
pub struct Api {
    probe: Probe,
    clock: SystemClock,
}

impl Api {
    /// At this API.
    #[must_use]
    pub fn new(probe: Probe, clock: SystemClock) -> Self {
        Self { probe, clock }
    }

    /// The id of a file of this name and content, sent there if it is not there yet. Names
    /// must tell contents apart.
    ///
    /// # Errors
    /// When the API refuses, or cannot be reached.
    pub async fn file(&self, name: &str, content: &Bytes) -> Result<String, Refused> {
        let is_it = |file: &File| file.filename == name && (file.bytes == 0 || file.bytes == content.len() as u64);
        let send = || self.probe.upload("/files", name, content.clone(), &[("purpose", "fine-tune")]);
        self.made("/files?purpose=fine-tune&", is_it, send).await.map(|file| file.id)
    }

    /// The job that trains on this file, started if there is none that goes on or has succeeded.
    ///
    /// # Errors
    /// When the API refuses, or cannot be reached.
    pub async fn start(&self, training: &Training<'_>) -> Result<Job, Refused> {
        let is_it = |job: &Job| {
            let is_lost = matches!(job.status, Standing::Failed | Standing::Cancelled);
            job.training_file == training.training_file && !is_lost
        };
        let method = match training.method {
            Method::Supervised => "supervised",
            Method::Dpo => "dpo",
        };
        let hyperparameters = training.epochs.map_or(json!({}), |epochs| json!({"n_epochs": epochs}));
        let mut body = json!({"model": training.model, "training_file": training.training_file,
            "method": {"type": method, method: {"hyperparameters": hyperparameters}}});
        for (name, value) in [("validation_file", training.validation_file), ("suffix", training.suffix)] {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        let body = body.to_string();
        self.made("/fine_tuning/jobs?", is_it, || self.probe.post("/fine_tuning/jobs", body.clone())).await
    }

    /// The job of this id.
    ///
    /// # Errors
    /// When the API refuses, or cannot be reached.
    pub async fn job(&self, id: &str) -> Result<Job, Refused> {
        self.get(&format!("/fine_tuning/jobs/{id}")).await
    }

    /// What happened to a job last, the newest first.
    ///
    /// # Errors
    /// When the API refuses, or cannot be reached.
    pub async fn events(&self, id: &str) -> Result<Vec<Event>, Refused> {
        let list: List<Event> = self.get(&format!("/fine_tuning/jobs/{id}/events?limit=50")).await?;
        Ok(list.data)
    }

    /// The first entry of a list that is the one, over its pages.
    async fn find<T: DeserializeOwned + HasId>(
        &self,
        path: &str,
        is_it: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, Refused> {
        let mut after = String::new();
        for _ in 0..PAGES {
            let page: List<T> = self.get(&format!("{path}limit={PAGE}{after}")).await?;
            let last = page.data.last().map(|entry| format!("&after={}", entry.id()));
            if let Some(found) = page.data.into_iter().find(|entry| is_it(entry)) {
                return Ok(Some(found));
            }
            match last.filter(|_| page.has_more) {
                Some(last) => after = last,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What is in a list, else what is made: looked for before each try, since the answer
    /// to one that succeeded may have been lost.
    async fn made<T: DeserializeOwned + HasId, F: Future<Output = Result<Told, String>>>(
        &self,
        path: &str,
        is_it: impl Fn(&T) -> bool,
        ask: impl Fn() -> F,
    ) -> Result<T, Refused> {
        let mut tries = 1;
        loop {
            if let Some(there) = self.find(path, &is_it).await? {
                return Ok(there);
            }
            match read(ask().await) {
                Err(failed) => self.wait_after(failed, &mut tries).await?,
                Ok(made) => return Ok(made),
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refused> {
        let mut tries = 1;
        loop {
            match read(self.probe.get(path).await) {
                Err(failed) => self.wait_after(failed, &mut tries).await?,
                Ok(read) => return Ok(read),
            }
        }
    }

    /// Waits where another try may succeed.
    async fn wait_after(&self, failed: Failed, tries: &mut u32) -> Result<(), Refused> {
        let wait = match failed.wait {
            Wait::Some if *tries < TRIES => FIRST_WAIT * (1 << (*tries - 1)),
            Wait::For(wait) if *tries < TRIES => wait.min(LONGEST_WAIT),
            _ => return Err(failed.why),
        };
        self.clock.sleep(wait).await;
        *tries += 1;
        Ok(())
    }
}

/// A try that failed.
struct Failed {
    why: Refused,
    wait: Wait,
}

/// Whether another try may succeed.
enum Wait {
    /// It will not.
    No,
    /// After a while.
    Some,
    /// After as long as the API asks.
    For(Duration),
}

fn read<T: DeserializeOwned>(told: Result<Told, String>) -> Result<T, Failed> {
    let told = told.map_err(|why| Failed { why: Refused::Unreached(why), wait: Wait::Some })?;
    let said = || excerpt(&told.body);
    if (200..300).contains(&told.status) {
        return serde_json::from_slice(&told.body).map_err(|error| {
            let why = Refused::Unreached(format!("an answer of another shape ({error}): {}", said()));
            Failed { why, wait: Wait::No }
        });
    }
    let wait = match told.status {
        408 | 429 | 500..=599 => pace::retry_after(&told.headers).map_or(Wait::Some, Wait::For),
        _ => Wait::No,
    };
    Err(Failed { why: Refused::Said { status: told.status, said: said() }, wait })
}
