//! Asks an API about itself: for `cascade init` and `cascade doctor`, off any client's path.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use reqwest::Client;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;

use super::client::{CannotStart, Key, client, innermost};
use crate::openai::envelope::{excerpt, hidden};
use crate::policy::{Secret, Timeouts};

/// The most bytes of an answer that are read.
const MAX_BODY: usize = 8 << 20;
/// Shorter keys are dummies, in bytes.
const MIN_SECRET: usize = 8;
/// How long a file may take.
const UPLOAD: Duration = Duration::from_mins(30);

/// One API.
#[derive(Debug)]
pub struct Probe {
    client: Client,
    base_url: String,
    key: Option<Key>,
}

/// What it said.
#[derive(Debug)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Probe {
    /// For the API at `base_url`.
    ///
    /// # Errors
    /// When the key cannot be a header, or no client can be made.
    pub fn new(base_url: &str, key: Option<&Secret>, connect: Duration) -> Result<Self, CannotStart> {
        let total = Duration::from_mins(1);
        let timeouts = Timeouts { connect, first_byte: total, idle: total, total };
        let key = key.map(|key| Key::new(base_url, key)).transpose()?;
        Ok(Self { client: client(base_url, timeouts)?, base_url: base_url.to_owned(), key })
    }

    /// The models that it lists.
    ///
    /// # Errors
    /// Why it lists none, in words.
    pub async fn models(&self) -> Result<Vec<String>, String> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
        }
        let told = self.send(self.client.get(format!("{}/models", self.base_url))).await?;
        if told.status != 200 {
            return Err(format!("status {}: {}", told.status, excerpt(&told.body)));
        }
        let list: List = serde_json::from_slice(&told.body).map_err(|error| format!("no list of models: {error}"))?;
        Ok(list.data.into_iter().map(|model| model.id).collect())
    }

    /// What is at `path`, which begins with a slash.
    ///
    /// # Errors
    /// Why it says nothing, in words.
    pub async fn get(&self, path: &str) -> Result<Told, String> {
        self.send(self.client.get(format!("{}{path}", self.base_url))).await
    }

    /// What it says to a body sent to `path`, which begins with a slash.
    ///
    /// # Errors
    /// Why it says nothing, in words.
    pub async fn post(&self, path: &str, body: String) -> Result<Told, String> {
        let request = self.client.post(format!("{}{path}", self.base_url));
        self.send(request.header(header::CONTENT_TYPE, "application/json").body(body)).await
    }

    /// What it says to a file sent to `path` as a form, beside these fields.
    ///
    /// # Errors
    /// Why it says nothing, in words.
    pub async fn upload(&self, path: &str, name: &str, file: Bytes, fields: &[(&str, &str)]) -> Result<Told, String> {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let form = fields.fold(Form::new(), |form, (name, value)| form.text(name, value));
        let part = Part::stream(file).file_name(name.to_owned());
        let part = part.mime_str("application/jsonl").map_err(|error| error.to_string())?;
        let request = self.client.post(format!("{}{path}", self.base_url));
        self.send_within(UPLOAD, request.multipart(form.part("file", part))).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Told, String> {
        self.send_within(Duration::from_mins(1), request).await
    }

    async fn send_within(&self, bound: Duration, mut request: reqwest::RequestBuilder) -> Result<Told, String> {
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key.header());
        }
        let sent = request.timeout(bound).send().await;
        let mut response = sent.map_err(|error| format!("no answer: {}", innermost(&error)))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| format!("broke off: {}", innermost(&error)))? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_BODY {
                return Err(format!("more than {MAX_BODY} bytes"));
            }
        }
        // Some repeat it in their errors; a dummy is a word like any other.
        let is_told = |key: &&Key| !(200..300).contains(&status) && key.secret().len() >= MIN_SECRET;
        let body = self.key.iter().filter(is_told).fold(body.into(), |body, key| hidden(body, key.secret()));
        Ok(Told { status, headers, body })
    }
}
