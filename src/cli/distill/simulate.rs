//! `cascade distill simulate`: a student that has learned, without training it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::taken::{Taken, share};
use crate::distillation::{learned, taught_line, teacher_of};
use crate::recording::{Lines, files};

#[derive(Debug, Args)]
pub(super) struct Simulate {
    #[command(flatten)]
    taken: Taken,
    /// The share of hard prompts that it has learned: there it says what its teacher said
    #[arg(long, default_value = "0.5", value_name = "SHARE", value_parser = share)]
    learns: f64,
    /// The file of exchanges to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

impl Simulate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let paths = files(&self.taken.exchanges)?;
        let whole = |path: &Path| path.canonicalize().ok();
        if paths.iter().any(|path| path.as_os_str() == "-") {
            bail!("standard input cannot be read twice: give files");
        }
        if self.output.exists() && paths.iter().any(|path| whole(path) == whole(&self.output)) {
            bail!("{} is among the exchanges that are read", self.output.display());
        }
        if self.output.exists() && !self.force {
            bail!("{} is there already; --force writes over it", self.output.display());
        }
        let class = self.taken.class()?;
        let student = self.taken.tier(&class.policy)?;
        let (mut teachers, mut prompts, mut hard) = (HashMap::new(), 0u64, 0u64);
        self.taken.replay(&class.policy, |replayed| {
            prompts += 1;
            let Some(teacher) = teacher_of(&replayed.trace, class.student) else { return };
            hard += 1;
            if learned(&replayed.exchange, self.learns) {
                teachers.insert(replayed.number, teacher);
            }
        })?;
        let file = File::create(&self.output).with_context(|| format!("cannot write {}", self.output.display()))?;
        let mut out = BufWriter::new(file);
        let mut number = 0u64;
        for path in paths {
            let mut lines = Lines::open(&path)?;
            // Broken ones were told of when they were read first.
            while let Some(line) = lines.next() {
                if line.is_err() {
                    continue;
                }
                let teacher = teachers.get(&number).map(|teacher| &class.policy.tiers[*teacher]);
                match teacher.and_then(|teacher| taught_line(&lines.text, student, teacher)) {
                    Some(line) => writeln!(out, "{line}")?,
                    None => out.write_all(&lines.text).and_then(|()| out.write_all(b"\n"))?,
                }
                number += 1;
            }
        }
        out.flush()?;
        super::super::print(&format!(
            "{prompts} exchanges written to {}, {hard} of them hard for {}, which has learned {}\n",
            self.output.display(),
            student.name,
            teachers.len()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
