//! The invariants of ARCHITECTURE.md, checked against the source.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|e| e == "rs") {
            found.push(entry);
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The source without its tests, which may use anything.
fn without_tests(path: &Path) -> String {
    text(path).split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// The modules in the order of the map.
fn map() -> Vec<String> {
    let lib = text(&root().join("src/lib.rs"));
    lib.lines().filter_map(|l| Some(l.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned())).collect()
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let src = root().join("src");
    let folder = src.join(module);
    if folder.is_dir() { sources(&folder) } else { vec![src.join(format!("{module}.rs"))] }
}

#[test]
fn a_module_uses_only_modules_above_it_in_the_map() {
    let map = map();
    assert!(map.len() > 10, "the map is in src/lib.rs");
    for (place, module) in map.iter().enumerate() {
        let above: HashSet<&String> = map[..place].iter().collect();
        for file in files_of(module) {
            for used in without_tests(&file).split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let allowed = used == *module || above.contains(&used);
                assert!(
                    allowed || used.is_empty(),
                    "{} uses crate::{used}, which is not above {module}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn every_source_file_is_in_the_map() {
    let mapped: HashSet<PathBuf> = map().iter().flat_map(|m| files_of(m)).collect();
    for file in sources(&root().join("src")) {
        let is_root = file.ends_with("src/lib.rs") || file.ends_with("src/main.rs");
        assert!(is_root || mapped.contains(&file), "{} is not in the map of src/lib.rs", file.display());
    }
}

#[test]
fn pure_modules_do_no_input_or_output_and_know_no_time() {
    const PURE: [&str; 17] = [
        "openai",
        "prompt",
        "answer",
        "tokens",
        "price",
        "statistics",
        "scoring",
        "stopping",
        "policy",
        "trace",
        "decision",
        "exchange",
        "labels",
        "outcomes",
        "calibration",
        "report",
        "lib",
    ];
    const IMPURE: [&str; 9] =
        ["std::fs", "std::net", "std::env", "std::io", "std::process", "tokio", "reqwest", "async fn", "Instant"];
    for module in PURE.iter().filter(|m| **m != "lib") {
        for file in files_of(module) {
            let text = without_tests(&file);
            for word in IMPURE {
                assert!(!text.contains(word), "{} is pure and has `{word}`", file.display());
            }
        }
    }
}

#[test]
fn files_are_small_and_say_what_they_are() {
    for file in sources(&root().join("src")) {
        let text = text(&file);
        let lines = text.lines().count();
        assert!(lines <= 350, "{} has {lines} lines; split it by idea", file.display());
        let opens_well = text.starts_with("//!") || text.starts_with("#![doc");
        assert!(opens_well, "{} does not open with //!", file.display());
        let name = file.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
        let says_nothing = ["util", "utils", "common", "core", "types", "helpers", "helper", "manager", "misc"];
        assert!(!says_nothing.contains(&name), "{} has a name that explains nothing", file.display());
    }
}

#[test]
fn the_architecture_note_is_short_and_names_every_module() {
    let note = text(&root().join("ARCHITECTURE.md"));
    assert!(note.lines().count() <= 100, "ARCHITECTURE.md has {} lines", note.lines().count());
    for module in map() {
        assert!(note.contains(&format!("`{module}`")), "ARCHITECTURE.md does not name `{module}`");
    }
}
