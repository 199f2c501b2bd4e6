//! What is wrong with a policy file, shown the way a compiler would.
//!
//! Invariant: every problem is reported, not just the first, each with its
//! place in the file and, where there is one, the remedy.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::openai::envelope::looks_secret;

/// One thing wrong, or worth knowing, in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, in bytes of the source.
    pub at: Range<usize>,
    /// What, in one line.
    pub what: String,
    /// What to do about it.
    pub help: Option<String>,
    /// True where the policy can be used all the same.
    pub is_warning: bool,
    /// Whether what stands there must not be shown.
    pub is_secret: bool,
}

impl Problem {
    /// A problem that keeps the policy from being used.
    #[must_use]
    pub fn new(at: Range<usize>, what: impl Into<String>) -> Self {
        Self { at, what: what.into(), help: None, is_warning: false, is_secret: false }
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What stands there must not be shown.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// A hint that does not keep the policy from being used.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.is_warning = true;
        self
    }
}

/// A source with asterisks in the place of what looks like a key, as many, so that
/// places stay: problems end up in logs.
fn masked(source: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_*.".contains(c);
    let mut out = source.to_owned();
    let mut star = |range: Range<usize>| {
        // As many bytes, so that every place stays where it is.
        out.replace_range(range.clone(), &"*".repeat(range.len()));
    };
    let mut at = 0;
    for part in source.split_inclusive(|c: char| !is_part(c)) {
        if looks_secret(part) {
            star(at..at + part.trim_end_matches(|c: char| !is_part(c)).len());
        }
        at += part.len();
    }
    // What stands for a key is one, whatever it looks like.
    for (at, name) in source.match_indices("api_key") {
        let value = source[at + name.len()..].trim_start_matches(|c: char| " \t:\"'".contains(c));
        let start = source.len() - value.len();
        let end = value.find(|c: char| c.is_whitespace() || "\"',}#".contains(c)).unwrap_or(value.len());
        if !value.starts_with("${") {
            star(start..start + end);
        }
    }
    out
}

/// All problems of one file, in order of place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    path: String,
    source: String,
    all: Vec<Problem>,
}

impl Problems {
    /// The problems of the file `path` whose text is `source`.
    #[must_use]
    pub fn new(path: &str, source: &str, mut all: Vec<Problem>) -> Self {
        all.sort_by(|a, b| (a.at.start, &a.what).cmp(&(b.at.start, &b.what)));
        all.dedup();
        let mut source = masked(source);
        for Problem { at, .. } in all.iter().filter(|problem| problem.is_secret) {
            let starred =
                source[at.clone()].chars().map(|c| if c == '\n' { "\n".to_owned() } else { "*".repeat(c.len_utf8()) });
            let starred: String = starred.collect();
            source.replace_range(at.clone(), &starred);
        }
        Self { path: path.to_owned(), source, all }
    }

    /// How many of them are warnings, and how many are not.
    #[must_use]
    pub fn warnings_and_errors(&self) -> (usize, usize) {
        let warnings = self.all.iter().filter(|p| p.is_warning).count();
        (warnings, self.all.len() - warnings)
    }

    /// As text for a person, in colour on a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let shown: Vec<String> = self.all.iter().map(|p| renderer.render(&[self.group(p)])).collect();
        shown.join("\n\n")
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = if problem.is_warning { Level::WARNING } else { Level::ERROR };
        let title = level.primary_title(problem.what.as_str());
        let snippet = Snippet::source(self.source.as_str())
            .path(self.path.as_str())
            .annotation(AnnotationKind::Primary.span(self.one_line(&problem.at)));
        let group = title.element(snippet);
        match &problem.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }

    /// The range within the source, cut at the end of its first line: whole
    /// blocks need not be drawn.
    fn one_line(&self, at: &Range<usize>) -> Range<usize> {
        let start = at.start.min(self.source.len());
        let line_end = self.source[start..].find('\n').map_or(self.source.len(), |n| start + n);
        start..at.end.clamp(start, line_end)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// The known word nearest to `word`, if one is near enough to be meant.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody means a name by a word of that length, and comparing takes its square.
    if word.len() > 128 {
        return None;
    }
    let distance = |other: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &other.to_lowercase());
    let nearest = known.into_iter().map(|k| (distance(k), k)).min()?;
    (nearest.0 <= 1 + word.chars().count() / 4).then_some(nearest.1)
}
