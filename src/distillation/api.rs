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

use super::job::{Event, Job, Training};
use crate::clock::{Clock, SystemClock};
use crate::openai::envelope::excerpt;
use crate::openai::pace;
use crate::upstream::{Probe, Told};

/// Tries of what may succeed later, and the wait before the second, which doubles.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);
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
    has_more: Option<bool>,
}

#[derive(Deserialize)]
struct File {
    id: String,
    #[serde(default)]
    filename: String,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    status: String,
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
        let is_it = |file: &File| {
            file.filename == name
                && !matches!(file.status.as_str(), "error" | "deleted")
                && (file.bytes == 0 || file.bytes == content.len() as u64)
        };
        let send = || self.probe.upload("/files", name, content.clone(), &[("purpose", "fine-tune")]);
        self.made("/files?purpose=fine-tune&", is_it, send, true).await.map(|file| file.id)
    }

    /// The job that trains on this file, started if there is none that goes on or has succeeded.
    ///
    /// # Errors
    /// When the API refuses, or cannot be reached.
    pub async fn start(&self, training: &Training<'_>) -> Result<Job, Refused> {
        let method = training.method.word();
        let hyperparameters = training.epochs.map_or(json!({}), |epochs| json!({"n_epochs": epochs}));
        let mut body = json!({"model": training.model, "training_file": training.training_file,
            "method": {"type": method, method: {"hyperparameters": hyperparameters}}});
        for (name, value) in [("validation_file", training.validation_file), ("suffix", training.suffix)] {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        let body = body.to_string();
        self.made(
            "/fine_tuning/jobs?",
            |job| training.is(job),
            || self.probe.post("/fine_tuning/jobs", body.clone()),
            false,
        )
        .await
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
            let entries = page.data.len();
            let last = page.data.last().map(|entry| format!("&after={}", entry.id()));
            if let Some(found) = page.data.into_iter().find(|entry| is_it(entry)) {
                return Ok(Some(found));
            }
            // Some leave out whether there are more.
            match last.filter(|_| page.has_more.unwrap_or(entries >= PAGE)) {
                Some(last) => after = last,
                None => return Ok(None),
            }
        }
        Err(Refused::Unreached(format!("more than {PAGES} pages of {path}: what is there already cannot be told")))
    }

    /// What is in a list, else what is made: looked for before each try, since the answer
    /// to one that succeeded may have been lost. What costs money is not asked for again
    /// unless the API says that nothing was done; it is only looked for again.
    async fn made<T: DeserializeOwned + HasId, F: Future<Output = Result<Told, String>>>(
        &self,
        path: &str,
        is_it: impl Fn(&T) -> bool,
        ask: impl Fn() -> F,
        is_free: bool,
    ) -> Result<T, Refused> {
        let (mut tries, mut lost) = (1, None::<Failed>);
        loop {
            if let Some(there) = self.find(path, &is_it).await? {
                return Ok(there);
            }
            if let Some(failed) = lost.clone() {
                self.wait_after(failed, &mut tries).await?;
                continue;
            }
            match read(ask().await) {
                Err(failed) if !is_free && failed.may_have_been_done() => lost = Some(failed),
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
#[derive(Clone)]
struct Failed {
    why: Refused,
    wait: Wait,
}

impl Failed {
    /// Whether the API may have done what was asked: no answer came, or one of something
    /// before it.
    fn may_have_been_done(&self) -> bool {
        !matches!(self.why, Refused::Said { status: 400..=407 | 409..=499, .. })
    }
}

/// Whether another try may succeed.
#[derive(Clone, Copy)]
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
