//! What an export keeps beside its rows: what they are, and how far their training is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::distillation::{Job, Method};

pub(super) const MANIFEST: &str = "manifest.json";
const STATE: &str = "job.json";

/// What an export is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub made_by: String,
    /// The policy's name and digest.
    pub policy: String,
    pub digest: String,
    pub student: Named,
    /// Rows by the model whose answers they hold.
    pub teachers: BTreeMap<String, usize>,
    /// The seed that keeps prompts for certificates; none: none were kept out.
    pub kept_out_by_seed: Option<u64>,
    pub labels: String,
    pub exchanges: u64,
    pub broken_lines: u64,
    /// Exchanges by why they are no row.
    pub left_out: BTreeMap<String, u64>,
    pub hard: usize,
    pub replay: usize,
    pub pairs: usize,
    pub files: Vec<FileOf>,
    pub training: Cost,
    pub licence_note: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Named {
    pub tier: String,
    pub model: String,
}

/// One file of rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FileOf {
    pub name: String,
    pub format: String,
    pub split: String,
    pub rows: usize,
    pub bytes: u64,
    /// Sixteen hex digits of its content's BLAKE3.
    pub digest: String,
}

/// What training would cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Of the rows trained on, each counted once.
    pub tokens: u64,
    /// Whether some were estimated from texts.
    pub tokens_estimated: bool,
    pub epochs: u32,
    /// Dollars per million tokens.
    pub price: Option<f64>,
    pub usd: Option<f64>,
}

impl Cost {
    pub fn of((tokens, tokens_estimated): (u64, bool), epochs: u32, price: Option<f64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a number of tokens")]
        let usd = price.map(|price| tokens as f64 * f64::from(epochs) * price / 1e6);
        Self { tokens, tokens_estimated, epochs, price, usd }
    }

    /// In a line.
    pub fn words(&self) -> String {
        let about = if self.tokens_estimated { "about " } else { "" };
        let usd =
            self.usd.map_or("its price is not known: give --training-price".to_owned(), |usd| format!("${usd:.2}"));
        format!("{about}{} tokens, {} epochs: {usd}", self.tokens, self.epochs)
    }
}

/// How far training is; each step is written down once it is done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The base URL of the API.
    pub at: String,
    /// The model to begin with.
    pub model: String,
    /// The digest of the rows trained on.
    #[serde(default)]
    pub rows: String,
    pub method: Option<Method>,
    pub training_file: Option<String>,
    pub validation_file: Option<String>,
    pub job: Option<Job>,
}

impl Manifest {
    /// Reads that of an export.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{} is no export: cannot read {}; `cascade distill export` makes one",
                folder.display(),
                path.display()
            )
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} is no manifest", path.display()))
    }
}

impl State {
    /// Where training of an export stands; none where it was not begun.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(STATE);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                Ok(Some(serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes it down, whole or not at all.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(STATE);
        write(&path, &(serde_json::to_string_pretty(self)? + "\n"))
    }
}

/// Writes a file whole or not at all; one that is there keeps its permissions, and a link
/// stays one.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let before = path.metadata().map(|there| there.permissions());
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let put = || {
        std::fs::write(&partial, text)?;
        before.ok().map_or(Ok(()), |permissions| std::fs::set_permissions(&partial, permissions))?;
        std::fs::rename(&partial, path)
    };
    put().with_context(|| format!("cannot write {}", path.display()))
}

/// Sixteen hex digits of a content.
pub(super) fn digest(content: &[u8]) -> String {
    blake3::hash(content).to_hex()[..16].to_owned()
}
