//! `cascade keys`: makes, lists and revokes the keys of clients.

use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};

use super::key_place::Place;
use super::replicas::SharedAt;
use crate::keys::{Key, Override};

#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and print it, once
    Create(Create),
    /// List keys, their bounds and what they have spent
    List(At),
    /// Take a key back; what is in flight ends
    Revoke {
        /// Its id
        id: String,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Args)]
struct At {
    /// The file of keys, which a policy names as `keys:`; else `keys.json`
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Without a file: where replicas share keys
    #[command(flatten)]
    shared: SharedAt,
}

#[derive(Debug, Args)]
struct Create {
    /// Whose it is
    name: String,
    #[command(flatten)]
    at: At,
    /// A model that may be named; again for more. Left out: all, and whatever passes through
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Requests per minute
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<NonZeroU32>,
    /// Tokens per minute, of prompts and answers
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<NonZeroU32>,
    /// Dollars a calendar month
    #[arg(long, value_name = "USD")]
    dollars_per_month: Option<f64>,
    /// What it may say in headers: bypass (the cache), tiers (the smallest and largest)
    #[arg(long, value_delimiter = ',', value_name = "OVERRIDE")]
    may: Vec<Override>,
}

impl At {
    fn open(self) -> anyhow::Result<Place> {
        if self.file.is_none()
            && let Some(place) = Place::shared(&self.shared)?
        {
            return Ok(place);
        }
        Ok(Place::File(self.file.unwrap_or_else(|| "keys.json".into())))
    }
}

impl Keys {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Create(create) => create.run()?,
            Command::List(at) => list(&at.open()?)?,
            Command::Revoke { id, at } => revoke(&at.open()?, &id)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Create {
    fn run(self) -> anyhow::Result<()> {
        if self.dollars_per_month.is_some_and(|dollars| !(dollars > 0.0 && dollars < 1e12)) {
            bail!("--dollars-per-month must be above 0");
        }
        let place = self.at.open()?;
        let mut random = [0; 38];
        getrandom::fill(&mut random).map_err(|e| anyhow!("no random bytes: {e}"))?;
        let (key, text) = Key::make(&self.name, &random);
        let key = Key {
            models: (!self.models.is_empty()).then_some(self.models),
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            dollars_per_month: self.dollars_per_month,
            may: self.may,
            ..key
        };
        place.put(key)?;
        super::print(&format!("{text}\n"))?;
        eprintln!("cascade: this is the only time that the key is shown; {place} has its hash");
        Ok(())
    }
}

fn list(place: &Place) -> anyhow::Result<()> {
    let file = place.keys()?;
    let spent = place.spent(&file)?;
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["id", "name", "models", "a minute", "a month", "spent", "may", ""]);
    for key in &file.keys {
        let rates = [(key.requests_per_minute, "requests"), (key.tokens_per_minute, "tokens")];
        let rates: Vec<String> = rates.iter().filter_map(|(rate, of)| Some(format!("{} {of}", (*rate)?))).collect();
        table.add_row([
            key.id.clone(),
            key.name.clone(),
            key.models.as_ref().map_or("all".to_owned(), |models| models.join(", ")),
            rates.join(", "),
            key.dollars_per_month.map_or(String::new(), |dollars| format!("${dollars}")),
            spent.get(&key.id).map_or(String::new(), ToString::to_string),
            key.may.iter().map(|may| format!("{may:?}").to_lowercase()).collect::<Vec<_>>().join(", "),
            if key.is_revoked { "revoked".to_owned() } else { String::new() },
        ]);
    }
    super::print(&format!("{}\n", table.trim_fmt()))
}

fn revoke(place: &Place, id: &str) -> anyhow::Result<()> {
    let key = place.keys()?.keys.into_iter().find(|key| key.id == id);
    let key = key.with_context(|| format!("there is no key {id} in {place}"))?;
    place.put(Key { is_revoked: true, ..key })
}

/// The file in which a gateway keeps what was spent with the keys of `path`.
pub(super) fn spent_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".spent");
    name.into()
}

/// Writes a file whole or not at all, for its owner's eyes.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let written = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
