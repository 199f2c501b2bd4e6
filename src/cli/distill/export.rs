//! `cascade distill export`: training files from what a tier failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use regex::Regex;
use serde_json::json;

use super::kept::{Cost, FileOf, MANIFEST, Manifest, Named, digest, write};
use super::taken::{Taken, dollars, share};
use crate::distillation::{Format, Legacy, Lesson, Lessons, Set};

/// Providers take no file with fewer rows.
const FEWEST_ROWS: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    taken: Taken,
    /// The folder to write
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// Write over an export that is there
    #[arg(long)]
    force: bool,
    /// Forms of rows, several with commas
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["chat", "legacy", "dpo", "preference"])]
    format: Vec<Format>,
    /// The share of accepted answers that is taught too, so that they are not forgotten
    #[arg(long, default_value = "0.3", value_name = "SHARE", value_parser = share)]
    replay: f64,
    /// The share of conversations kept for validation
    #[arg(long, default_value = "0.1", value_name = "SHARE", value_parser = share)]
    valid: f64,
    /// Questions that share so much of their words are asked once; 1 leaves them all
    #[arg(long, default_value = "0.8", value_name = "SHARE", value_parser = share)]
    near: f64,
    /// How far two answers' scores must lie apart to be a pair
    #[arg(long, default_value = "0.1", value_name = "GAP", value_parser = share)]
    gap: f64,
    /// An answer with a lower label is wrong, and not taught
    #[arg(long, default_value = "0.5", value_name = "LABEL", value_parser = share)]
    least_label: f64,
    /// Strip examples before the question: the student learns to do without them
    #[arg(long)]
    internalise: bool,
    /// Leave out what matches, beside what looks like a key and what `record: redact` names
    #[arg(long, value_name = "PATTERN")]
    redact: Vec<Regex>,
    /// What a chat's legacy prompt ends with
    #[arg(long, default_value = " ->", value_name = "TEXT")]
    separator: String,
    /// What a legacy completion ends with; a line end unless told
    #[arg(long, default_value = "\n", hide_default_value = true, value_name = "TEXT")]
    stop: String,
    /// How often each row will be seen, for the estimate
    #[arg(long, default_value = "3", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    epochs: u32,
    /// Dollars per million tokens of training, for the estimate
    #[arg(long, value_name = "USD", value_parser = dollars)]
    training_price: Option<f64>,
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let class = self.taken.class()?;
        let mut wanted = self.taken.wanted(&class)?;
        (wanted.replay, wanted.valid, wanted.gap) = (self.replay, self.valid, self.gap);
        wanted.least_label = self.least_label;
        wanted.redaction.patterns.extend(self.redact.iter().cloned());
        if self.output.join(MANIFEST).exists() && !self.force {
            bail!("{} holds an export already; --force writes over it", self.output.display());
        }
        let mut lessons = Lessons::default();
        let read = self.taken.replay(&class.policy, |replayed| lessons.add(&class.policy, &wanted, &replayed))?;
        self.taken.check_labels(lessons.labelled)?;
        lessons.settle(self.internalise, Some(self.near).filter(|near| *near < 1.0));
        if lessons.of(Set::Hard).0 == 0 {
            bail!(
                "the hard set is empty: no answer of {} was rejected and a larger tier's accepted in its stead\n{}\n\
                 (is the policy's `accept` strict enough to reject what is wrong? a calibrated one learns that)",
                self.taken.student,
                counts(&lessons, read.broken)
            );
        }
        std::fs::create_dir_all(&self.output).with_context(|| format!("cannot make {}", self.output.display()))?;
        // Until the new one is whole there is none.
        remove(&self.output.join(MANIFEST))?;
        remove(&self.output.join("job.json"))?;
        let files = self.write_files(&lessons)?;
        let student = &class.policy.tiers[class.student];
        let mut teachers = BTreeMap::<String, usize>::new();
        lessons.rows.iter().for_each(|lesson| *teachers.entry(lesson.teacher.model.clone()).or_default() += 1);
        let manifest = Manifest {
            made_by: format!("cascade distill export {}", env!("CARGO_PKG_VERSION")),
            policy: class.policy.name.clone(),
            digest: class.policy.digest.clone(),
            student: Named { tier: student.name.clone(), model: student.model.clone() },
            kept_out_by_seed: wanted.tested_by,
            labels: self.taken.labels.to_string(),
            exchanges: lessons.read,
            broken_lines: read.broken,
            left_out: lessons.left.iter().map(|(why, n)| (why.to_string(), *n)).collect(),
            hard: lessons.of(Set::Hard).0,
            replay: lessons.of(Set::Replay).0,
            pairs: lessons.rows.iter().filter(|lesson| lesson.worse.is_some()).count(),
            training: Cost::of(lessons.training_tokens(), self.epochs, self.training_price),
            licence_note: licence_note(&teachers, &student.model),
            teachers,
            files,
        };
        write(&self.output.join(MANIFEST), &(serde_json::to_string_pretty(&manifest)? + "\n"))?;
        super::super::print(&self.summary(&lessons, &manifest))?;
        Ok(ExitCode::SUCCESS)
    }

    fn write_files(&self, lessons: &Lessons) -> anyhow::Result<Vec<FileOf>> {
        let legacy = Legacy { separator: self.separator.clone(), stop: self.stop.clone() };
        let mut files = Vec::new();
        for format in Format::ALL {
            for split in ["train", "valid"] {
                let (mut rows, mut metas, mut count) = (String::new(), String::new(), 0);
                if self.format.contains(&format) {
                    for lesson in lessons.rows.iter().filter(|lesson| lesson.is_valid == (split == "valid")) {
                        let Some(row) = format.row(lesson, &legacy) else { continue };
                        let _ = writeln!(rows, "{row}");
                        let _ = writeln!(metas, "{}", meta(lesson));
                        count += 1;
                    }
                }
                let name = format!("{}.{split}.jsonl", format.word());
                let path = self.output.join(&name);
                let meta = self.output.join(format!("{}.{split}.meta.jsonl", format.word()));
                if count == 0 {
                    // Of an export before.
                    remove(&path)?;
                    remove(&meta)?;
                    continue;
                }
                write(&path, &rows)?;
                write(&meta, &metas)?;
                files.push(FileOf {
                    name,
                    format: format.word().to_owned(),
                    split: split.to_owned(),
                    rows: count,
                    bytes: rows.len() as u64,
                    digest: digest(rows.as_bytes()),
                });
            }
        }
        Ok(files)
    }

    fn summary(&self, lessons: &Lessons, manifest: &Manifest) -> String {
        let mut out = counts(lessons, manifest.broken_lines);
        let _ = writeln!(out, "pairs     {}", manifest.pairs);
        for file in &manifest.files {
            let _ = writeln!(out, "file      {}: {} rows", self.output.join(&file.name).display(), file.rows);
        }
        let _ = writeln!(out, "training  {}", manifest.training.words());
        let trained = lessons.rows.iter().filter(|lesson| !lesson.is_valid).count();
        if trained < FEWEST_ROWS {
            let _ = writeln!(
                out,
                "warning   {trained} rows to train on: providers take {FEWEST_ROWS} at least, 50 to 100 are good"
            );
        }
        if self.internalise {
            let stripped = lessons.rows.iter().filter(|lesson| lesson.stripped > 0).count();
            let _ = writeln!(out, "stripped  examples before {stripped} questions: ask the trained model without them");
        }
        let redacted = lessons.rows.iter().filter(|lesson| lesson.is_redacted).count();
        if redacted > 0 {
            let _ = writeln!(out, "redacted  something in {redacted} rows");
        }
        let _ = writeln!(out, "licence   {}", manifest.licence_note);
        out
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Where every exchange went; the lines add up to all of them.
fn counts(lessons: &Lessons, broken: u64) -> String {
    let mut out = format!("exchanges {}\n", lessons.read);
    for (name, set) in [("hard", Set::Hard), ("replay", Set::Replay)] {
        let (rows, valid) = lessons.of(set);
        let _ = writeln!(out, "{name:<9} {rows}: {} to train on, {valid} for validation", rows - valid);
    }
    lessons.left.iter().for_each(|(why, n)| _ = writeln!(out, "left out  {n}: {why}"));
    if broken > 0 {
        let _ = writeln!(out, "broken lines skipped: {broken}");
    }
    out
}

fn meta(lesson: &Lesson) -> serde_json::Value {
    json!({"id": lesson.id, "set": lesson.set, "group": format!("{:016x}", lesson.group),
        "split": if lesson.is_valid { "valid" } else { "train" },
        "student": lesson.student, "teacher": lesson.teacher,
        "tokens": {"prompt": lesson.tokens.input, "answer": lesson.tokens.output, "estimated": lesson.tokens.estimated},
        "examples_stripped": lesson.stripped, "redacted": lesson.is_redacted})
}

fn licence_note(teachers: &BTreeMap<String, usize>, student: &str) -> String {
    let others: Vec<&str> = teachers.keys().map(String::as_str).filter(|model| *model != student).collect();
    format!(
        "the rows hold answers of {}: many licences and terms of use forbid training other models on a model's answers; \
         read those of each before you train {student} on them",
        others.join(", ")
    )
}
