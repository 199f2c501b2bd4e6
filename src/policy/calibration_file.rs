//! The file of a calibration as a policy names it, and whether it fits the policy.

use std::sync::Arc;

use serde_json::Value;

use super::acceptance::AcceptFile;
use super::containers::At;
use super::file::PolicyFile;
use super::problem::Problem;
use super::shape::{Reader, Shape};
use super::yaml::{self, Node};
use crate::scoring::Scorer;
use crate::stopping::Stopping;

/// The file that `cascade calibrate` wrote: its path, and what it says.
#[derive(Clone, Debug)]
pub struct CalibrationFile {
    path: String,
    /// None where it could not be read, which was noted.
    pub read: Option<Arc<Stopping>>,
}

impl CalibrationFile {
    /// A file by its path from the policy, not read.
    pub(super) fn at(path: &str) -> Self {
        Self { path: path.to_owned(), read: None }
    }
}

impl Shape for CalibrationFile {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let path = String::read(node, reader)?;
        let read = reader.file(&path).and_then(|text| Stopping::read(&text));
        match read {
            Ok(stopping) => Some(Self { path, read: Some(Arc::new(stopping)) }),
            Err(why) => reader.refuse(
                &node.span,
                format!("cannot use {path}: {why}"),
                "name a file that `cascade calibrate` wrote, by its path from this policy",
            ),
        }
    }
    fn stand_in() -> Option<Self> {
        Some(Self { path: String::new(), read: None })
    }
    fn schema() -> Value {
        String::schema()
    }
    fn node(&self) -> Node {
        Node::text(&self.path)
    }
}

/// A digest of the gates of all tiers and the answer pattern: what learned scores
/// rest on besides the models.
pub(super) fn what_scores_rest_on(policy: &PolicyFile) -> String {
    let mut digest = blake3::Hasher::new();
    for tier in &policy.tiers.value {
        let gates = tier.accept.as_ref().map(|accept| accept.value.gates.node());
        let gates = gates.or_else(|| Some(AcceptFile::stand_in()?.gates.node()));
        gates.iter().for_each(|node| _ = digest.update(yaml::print(node).as_bytes()));
        digest.update(b"\n");
    }
    digest.update(policy.answer_pattern.as_ref().map_or("", |pattern| pattern.as_str()).as_bytes());
    digest.finalize().to_hex()[..12].to_owned()
}

/// Notes where a calibration was made for other tiers than the policy's.
pub(super) fn fits(at: &At<CalibrationFile>, policy: &PolicyFile, problems: &mut Vec<Problem>) -> bool {
    let Some(stopping) = &at.value.read else { return false };
    let wanted = stopping.tiers.iter().map(|t| (t.name.as_str(), t.model.as_str()));
    let there = policy.tiers.value.iter().map(|t| (t.name.value.0.as_str(), t.model.as_str()));
    if wanted.clone().eq(there) {
        if stopping.made_with == what_scores_rest_on(policy) {
            return true;
        }
        let what = format!("{} was made with other gates, or another `answer_pattern`", at.value.path);
        problems.push(
            Problem::new(at.at.clone(), what).help("calibrate again, or undo the change: its promise does not hold"),
        );
        return false;
    }
    let list: Vec<String> = wanted.map(|(name, model)| format!("{name} ({model})")).collect();
    let what = format!("{} was made for other tiers: {}", at.value.path, list.join(", "));
    problems
        .push(Problem::new(at.at.clone(), what).help("calibrate again: scores of one model mean nothing for another"));
    false
}

/// The learned scores of one tier.
pub(super) fn learned(stopping: &Stopping, tier: usize) -> Scorer {
    Scorer::Learned((0..1u32 << tier).map(|after| stopping.score(tier, after).clone()).collect())
}
