//! Names that refer to something else in the file.

use super::containers::At;
use super::problem::{Problem, did_you_mean};

/// The place of a name among the known ones.
pub(super) fn refer<'a>(
    name: &At<String>,
    what: &str,
    known: impl Iterator<Item = &'a str>,
    problems: &mut Vec<Problem>,
) -> Option<usize> {
    let known: Vec<&str> = known.collect();
    let found = known.iter().position(|k| *k == name.value);
    // An empty name stands in for one that is wrong already.
    if found.is_none() && !name.value.is_empty() {
        let help = did_you_mean(&name.value, known.iter().copied())
            .map_or(format!("those there are: {}", known.join(", ")), |meant| format!("did you mean `{meant}`?"));
        problems.push(Problem::new(name.at.clone(), format!("there is no {what} `{}`", name.value)).help(help));
    }
    found
}
