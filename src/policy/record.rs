//! The `record:` of a policy: which prompts are written down, and what of them is not.

use std::num::NonZeroU64;
use std::path::PathBuf;

use regex::Regex;

use super::containers::At;
use super::problem::Problem;
use super::shape::{Reader, Shape, shape};
use super::units::{ByteSize, Share};
use super::yaml::Node;

/// Which prompts are written down as exchanges, and what of them is not.
#[derive(Clone, Debug)]
pub struct RecordRule {
    /// The folder, by its path from the policy.
    pub to: PathBuf,
    /// The share of prompts, above 0.
    pub share: f64,
    /// The share of prompts that every tier is asked, off the client's path.
    pub every_tier: f64,
    /// Bytes of lines after which another file is begun.
    pub rotate: NonZeroU64,
    /// What is starred out of texts.
    pub redact: Vec<Regex>,
    /// Where files that are full become tables, by its path from the policy.
    pub tables: Option<PathBuf>,
}

impl RecordRule {
    /// Whether both say the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let patterns = |rule: &Self| rule.redact.iter().map(ToString::to_string).collect::<Vec<_>>();
        let shares = |rule: &Self| [rule.share.to_bits(), rule.every_tier.to_bits(), rule.rotate.get()];
        self.to == other.to
            && self.tables == other.tables
            && shares(self) == shares(other)
            && patterns(self) == patterns(other)
    }
}

shape! {
    /// Prompts and answers are written down as exchanges, for `replay` and `calibrate`.
    pub struct RecordFile {
        /// The folder, by its path from this policy; it is made if it is not there.
        to: String,
        /// The share of prompts that is written down.
        share: Share = Share(1.0),
        /// The share of prompts that every tier is asked, whatever it costs, while the
        /// client is served as usual; they are written down too.
        every_tier: Share = Share(0.0),
        /// So many bytes of lines to a file, before they are compressed.
        rotate: ByteSize = ByteSize(256 << 20),
        /// Regular expressions: what they match in a text is left out. What looks like a
        /// provider's key always is.
        redact: Vec<Regex> = Vec::new(),
        /// Another folder, where each file that is full, and each night at 00:00 UTC, is
        /// written as tables in Parquet too, by date; see `cascade export`.
        tables: Option<String>,
    }
}

/// Notes what records nothing.
pub(super) fn rule(file: &At<RecordFile>, problems: &mut Vec<Problem>) -> Option<RecordRule> {
    let RecordFile { to, share, every_tier, rotate, redact, tables } = &file.value;
    let rotate = NonZeroU64::new(rotate.0);
    if to.is_empty() || share.0 <= 0.0 && every_tier.0 <= 0.0 || rotate.is_none() {
        problems.push(
            Problem::new(file.at.clone(), "nothing would be recorded")
                .help("name a folder, and a share above 0: record: { to: recordings, share: 1 }"),
        );
        return None;
    }
    Some(RecordRule {
        to: PathBuf::from(to),
        share: share.0,
        every_tier: every_tier.0,
        rotate: rotate?,
        redact: redact.clone(),
        tables: tables.as_ref().map(PathBuf::from),
    })
}
