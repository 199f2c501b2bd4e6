//! Reads a policy file for a command, and shows what is wrong with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};

use crate::policy::{Outside, Policy};

/// The embedded demo policy.
pub(super) const DEMO: (&str, &str) = ("policies/demo.yaml", include_str!("../../policies/demo.yaml"));

/// A policy, and the content of every file that it was read from.
#[derive(Clone)]
pub(super) struct Loaded {
    pub policy: Arc<Policy>,
    pub content: Content,
    /// What may not be meant, as text; empty where there is nothing.
    pub warnings: String,
}

/// Files by path, each with its content; none where it cannot be read.
pub(super) type Content = BTreeMap<PathBuf, Option<String>>;

/// What is in the policy's file now, and in the others that `known` names.
pub(super) fn content(path: &Path, known: &Content) -> Content {
    let others = known.keys().map(PathBuf::as_path).filter(|other| *other != path);
    let all = std::iter::once(path).chain(others);
    all.map(|path| (path.to_owned(), std::fs::read_to_string(path).ok())).collect()
}

/// The policy in `path`, the demo's where there is none, with the variables of
/// the environment filled in. Warnings are printed.
///
/// # Errors
/// When it cannot be read, and with every problem it has.
pub(super) fn policy(path: Option<&Path>, demands_variables: bool) -> anyhow::Result<Policy> {
    load(path, demands_variables).map(|loaded| Arc::unwrap_or_clone(loaded.policy))
}

/// The same, with what was read.
///
/// # Errors
/// As of [`policy`].
pub(super) fn load(path: Option<&Path>, demands_variables: bool) -> anyhow::Result<Loaded> {
    let loaded = load_noting(path, demands_variables, &RefCell::default())?;
    if !loaded.warnings.is_empty() {
        // Whoever reads standard error may be gone.
        let _ = writeln!(std::io::stderr(), "{}\n", loaded.warnings);
    }
    Ok(loaded)
}

/// The same, with nothing printed; what was read is noted though it has a fault.
///
/// # Errors
/// As of [`policy`].
pub(super) fn load_noting(
    path: Option<&Path>,
    demands_variables: bool,
    read: &RefCell<Content>,
) -> anyhow::Result<Loaded> {
    let note = |path: PathBuf, text: &std::io::Result<String>| {
        read.borrow_mut().insert(path, text.as_ref().ok().cloned());
    };
    let (name, source) = match path {
        Some(path) => {
            let source = std::fs::read_to_string(path);
            note(path.to_owned(), &source);
            let source = source.with_context(|| format!("cannot read the policy {}", path.display()))?;
            (path.display().to_string(), source)
        }
        None => (DEMO.0.to_owned(), DEMO.1.to_owned()),
    };
    let colour = std::io::stderr().is_terminal();
    let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
    let outside = Outside {
        variables: &|name| std::env::var(name).ok(),
        demands_variables,
        keeps_variables: false,
        files: &|path| {
            let text = std::fs::read_to_string(folder.join(path));
            note(folder.join(path), &text);
            text.map_err(|e| e.to_string())
        },
    };
    match Policy::parse(&name, &source, outside) {
        Ok((policy, warnings)) => {
            Ok(Loaded { policy: Arc::new(policy), content: read.borrow().clone(), warnings: warnings.render(colour) })
        }
        Err(problems) => {
            let (_, errors) = problems.warnings_and_errors();
            let count = if errors == 1 { "1 problem".to_owned() } else { format!("{errors} problems") };
            Err(anyhow!("{count} in the policy {name}\n\n{}", problems.render(colour)))
        }
    }
}
