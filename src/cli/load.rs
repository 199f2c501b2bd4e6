//! Reads a policy file for a command, and shows what is wrong with it.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::policy::{Outside, Policy};

/// The embedded demo policy.
pub(super) const DEMO: (&str, &str) = ("policies/demo.yaml", include_str!("../../policies/demo.yaml"));

/// The policy in `path`, the demo's where there is none, with the variables of
/// the environment filled in. Warnings are printed.
///
/// # Errors
/// When it cannot be read, and with every problem it has.
pub(super) fn policy(path: Option<&Path>, demands_variables: bool) -> anyhow::Result<Policy> {
    let (name, source) = match path {
        Some(path) => {
            let source =
                std::fs::read_to_string(path).with_context(|| format!("cannot read the policy {}", path.display()))?;
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
        files: &|path| std::fs::read_to_string(folder.join(path)).map_err(|e| e.to_string()),
    };
    match Policy::parse(&name, &source, outside) {
        Ok((policy, warnings)) => {
            if warnings.warnings_and_errors().0 > 0 {
                eprintln!("{}\n", warnings.render(colour));
            }
            Ok(policy)
        }
        Err(problems) => {
            let (_, errors) = problems.warnings_and_errors();
            let count = if errors == 1 { "1 problem".to_owned() } else { format!("{errors} problems") };
            Err(anyhow!("{count} in the policy {name}\n\n{}", problems.render(colour)))
        }
    }
}
