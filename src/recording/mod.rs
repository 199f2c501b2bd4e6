//! Exchange files: read line by line, and the lines that are written.
//!
//! Invariant: a broken line is named by file and line; it is passed over only
//! where the caller says so, and then it is counted.

mod redaction;
mod tables;
mod written;

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::exchange::{Exchange, NotAnExchange};

pub use redaction::Redaction;
pub use tables::{NoTables, Rows, Tables, name_of, tabulate};
pub use written::{Heard, Word};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 64 << 20;

/// Why exchanges could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CannotRead {
    /// A file or folder.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A folder without any.
    #[error("there is no .jsonl or .jsonl.zst file in {0}")]
    Empty(String),
    /// A line that is no exchange.
    #[error("{path}:{line}: {why}")]
    Line {
        /// The file.
        path: String,
        /// The line, the first one being 1.
        line: u64,
        /// What is wrong with it.
        why: NotAnExchange,
    },
    /// A line longer than is read.
    #[error("{path}:{line}: longer than {MAX_LINE} bytes")]
    TooLong {
        /// The file.
        path: String,
        /// The line.
        line: u64,
    },
}

impl CannotRead {
    /// Whether the fault is one line's, so that the next can be read.
    #[must_use]
    pub fn is_one_line(&self) -> bool {
        matches!(self, Self::Line { .. })
    }
}

/// The files meant by `paths`: `-` is standard input, a folder stands for its
/// `.jsonl` and `.jsonl.zst` files in order of name.
///
/// # Errors
/// When a folder cannot be read or holds none.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CannotRead> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |source| CannotRead::File { path: path.display().to_string(), source };
        let entries = std::fs::read_dir(path).map_err(failed)?;
        let entries = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let is = |path: &Path, extension: &str| path.extension().is_some_and(|found| found == extension);
        let holds_lines = |path: &PathBuf| {
            is(path, "jsonl") || is(path, "zst") && path.file_stem().is_some_and(|stem| is(Path::new(stem), "jsonl"))
        };
        let mut found: Vec<PathBuf> = entries.into_iter().filter(holds_lines).collect();
        if found.is_empty() {
            return Err(CannotRead::Empty(path.display().to_string()));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

/// Exchanges of one file in order; empty lines are passed over.
pub struct Lines {
    name: String,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    /// Bytes read so far.
    pub read: u64,
    /// The line that was read last, as it is.
    pub text: Bytes,
}

impl Lines {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, CannotRead> {
        let name = path.display().to_string();
        if name == "-" {
            return Ok(Self::of("standard input", Box::new(BufReader::with_capacity(1 << 20, std::io::stdin()))));
        }
        let failed = |source| CannotRead::File { path: name.clone(), source };
        let file = File::open(path).map_err(failed)?;
        let reader: Box<dyn BufRead + Send> = if is_compressed(path) {
            let text = zstd::Decoder::new(file).map_err(failed)?;
            Box::new(BufReader::with_capacity(1 << 20, text))
        } else {
            Box::new(BufReader::with_capacity(1 << 20, file))
        };
        Ok(Self::of(&name, reader))
    }

    /// Reads from text in memory, called `name`.
    #[must_use]
    pub fn of(name: &str, reader: Box<dyn BufRead + Send>) -> Self {
        Self { name: name.to_owned(), reader, line: 0, read: 0, text: Bytes::new() }
    }
}

impl Iterator for Lines {
    type Item = Result<Exchange, CannotRead>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut text = Vec::new();
            let taken = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut text);
            let (path, line) = (self.name.clone(), self.line + 1);
            match taken {
                Ok(0) => return None,
                Ok(n) if n as u64 == MAX_LINE && text.last() != Some(&b'\n') => {
                    return Some(Err(CannotRead::TooLong { path, line }));
                }
                Ok(n) => self.read += n as u64,
                // One that is still written, or was not ended, holds what was flushed; after
                // that a part of a line at most.
                Err(source) if source.kind() == ErrorKind::UnexpectedEof => return None,
                Err(source) => return Some(Err(CannotRead::File { path, source })),
            }
            self.line = line;
            while text.last().is_some_and(u8::is_ascii_whitespace) {
                text.pop();
            }
            if text.is_empty() {
                continue;
            }
            self.text = Bytes::from(text);
            return Some(Exchange::parse(&self.text).map_err(|why| CannotRead::Line { path, line, why }));
        }
    }
}

/// Whether a file is compressed, by its name.
fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// The lines of a file as text, empty ones left out; for files that hold something
/// else than exchanges.
///
/// # Errors
/// When it cannot be opened.
pub fn lines_of_text(path: &Path) -> Result<impl Iterator<Item = Result<String, CannotRead>>, CannotRead> {
    let name = path.display().to_string();
    let failed = move |source| CannotRead::File { path: name.clone(), source };
    let file = File::open(path).map_err(&failed)?;
    let reader: Box<dyn Read> =
        if is_compressed(path) { Box::new(zstd::Decoder::new(file).map_err(&failed)?) } else { Box::new(file) };
    let lines = BufReader::new(reader).lines().filter(|line| !matches!(line, Ok(text) if text.trim().is_empty()));
    Ok(lines.map(move |line| line.map_err(&failed)))
}

/// The project's own fixtures, by name: the demo answers from them.
pub const EMBEDDED: [(&str, &str); 10] = [
    ("arithmetic.jsonl", include_str!("../../fixtures/arithmetic.jsonl")),
    ("code.jsonl", include_str!("../../fixtures/code.jsonl")),
    ("extraction.jsonl", include_str!("../../fixtures/extraction.jsonl")),
    ("facts.jsonl", include_str!("../../fixtures/facts.jsonl")),
    ("few_shot.jsonl", include_str!("../../fixtures/few_shot.jsonl")),
    ("long_form.jsonl", include_str!("../../fixtures/long_form.jsonl")),
    ("multi_turn.jsonl", include_str!("../../fixtures/multi_turn.jsonl")),
    ("refusals.jsonl", include_str!("../../fixtures/refusals.jsonl")),
    ("tools.jsonl", include_str!("../../fixtures/tools.jsonl")),
    ("truncation.jsonl", include_str!("../../fixtures/truncation.jsonl")),
];

/// All exchanges that `place` of a policy's `fixtures:` stands for.
///
/// # Errors
/// When a file cannot be read, or at the first broken line.
pub fn load(place: &str) -> Result<Vec<Exchange>, CannotRead> {
    if place == "embedded" {
        return EMBEDDED.iter().flat_map(|(name, text)| Lines::of(name, Box::new(text.as_bytes()))).collect();
    }
    let mut all = Vec::new();
    for file in files(&[PathBuf::from(place)])? {
        for exchange in Lines::open(&file)? {
            all.push(exchange?);
        }
    }
    Ok(all)
}
