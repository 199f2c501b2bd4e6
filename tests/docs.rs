//! The docs say what the program does: what can be generated is, and what is shown is
//! tried. `UPDATE_README=1 cargo test --test docs` writes the generated parts.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;
use support::{cascade, root, shown};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

/// The README and every page of docs/.
fn pages() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(root().join("docs")).expect("docs");
    let pages =
        folder.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    let mut pages: Vec<PathBuf> = pages.chain([root().join("README.md")]).collect();
    pages.sort();
    let named = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("readable");
        (path.strip_prefix(root()).expect("ours").display().to_string(), text)
    };
    pages.into_iter().map(named).collect()
}

/// Blocks of code in this language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let start = format!("```{language}\n");
    page.split(start.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Checks the part of a page between two marks, or writes it.
fn generated(page: &str, mark: &str, wanted: &str) {
    let text = read(page);
    let [open, close] = [format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->")];
    let (start, end) = (text.find(&open).expect("its mark") + open.len(), text.find(&close).expect("its end"));
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(root().join(page), format!("{}{wanted}{}", &text[..start], &text[end..])).expect("written");
    } else {
        assert!(text[start..end] == *wanted, "run: UPDATE_README=1 cargo test --test docs");
    }
}

fn output(arguments: &[&str]) -> String {
    let output = cascade().args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn every_command_is_in_the_docs_with_every_option() {
    fn add(path: &[&str], out: &mut String) {
        let help = output(&[path, &["--help"]].concat());
        if !path.is_empty() {
            let _ = write!(out, "## cascade {}\n\n```text\n{}\n```\n\n", path.join(" "), help.trim_end());
        }
        let listed = help.split("Commands:\n").nth(1).unwrap_or_default().lines();
        for line in listed.take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().expect("a name");
            if name != "help" {
                add(&[path, &[name]].concat(), out);
            }
        }
    }
    let mut wanted = String::new();
    add(&[], &mut wanted);
    assert!(wanted.matches("## cascade ").count() > 12, "{wanted}");
    generated("docs/commands.md", "commands", &wanted);
}

/// What a value may be, in a few words.
fn kind(schema: &Value) -> String {
    let bound = |name: &str| schema[name].as_f64();
    let words = |all: &Value| -> Vec<String> {
        all.as_array().into_iter().flatten().map(|word| format!("`{}`", word.as_str().unwrap_or("?"))).collect()
    };
    if let Some(one) = schema["const"].as_str() {
        return format!("`{one}`");
    }
    if schema["enum"].is_array() {
        return words(&schema["enum"]).join(", ");
    }
    if let Some(each) = schema["oneOf"].as_array() {
        let mut each: Vec<String> = each.iter().map(kind).filter(|kind| !kind.is_empty()).collect();
        each.dedup();
        return each.join(", or ");
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", kind(&schema["items"])).trim_end_matches(" of ").to_owned(),
        Some("object") if schema["additionalProperties"].is_object() => "names, each with".to_owned(),
        Some("object") => "keys, below".to_owned(),
        Some("string") => match (schema["pattern"].as_str(), schema["format"].as_str()) {
            (_, Some("regex")) => "regular expression".to_owned(),
            (Some(pattern), _) if pattern.contains("ms|s") => "time, such as `10s`".to_owned(),
            _ => "text".to_owned(),
        },
        Some("boolean") => "`true` or `false`".to_owned(),
        Some(number) => {
            let number = if number == "integer" { "whole number" } else { "number" };
            match (bound("minimum"), bound("maximum").filter(|most| *most < 1e9)) {
                (Some(least), Some(most)) => format!("{number}, {least} to {most}"),
                (Some(least), None) => format!("{number}, {least} or more"),
                (None, _) => number.to_owned(),
            }
        }
        None if schema["pattern"].is_string() => "size, such as `64MiB`".to_owned(),
        None => String::new(),
    }
}

/// A row for each key below a schema.
fn rows(schema: &Value, path: &str, out: &mut BTreeSet<(String, String)>) {
    for (name, key) in schema["properties"].as_object().into_iter().flatten() {
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let about = key["description"].as_str().unwrap_or_default().replace("\n ", " ").replace('|', "\\|");
        let default = match &key["default"] {
            Value::Null | Value::Object(_) => String::new(),
            // No bound at all.
            number if number.as_u64() == Some(u64::MAX) => String::new(),
            default => format!(
                "`{}`",
                default.to_string().trim_matches('"').replace("\",\"", ", ").replace("[\"", "[").replace("\"]", "]")
            ),
        };
        // What has no words of its own is one of several forms.
        let is_form = schema["description"].is_null();
        let is_needed = !is_form && schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let default = if is_needed { "needed".to_owned() } else { default };
        let row = format!("| `{here}` | {} | {default} | {about} |\n", kind(key).replace('|', "\\|"));
        out.insert((here.clone(), row));
        below(key, &here, out);
    }
}

fn below(schema: &Value, path: &str, out: &mut BTreeSet<(String, String)>) {
    rows(schema, path, out);
    for one in schema["oneOf"].as_array().into_iter().flatten() {
        // A list of what may also stand alone says nothing new.
        if one["type"] != "array" {
            below(one, path, out);
        }
    }
    if schema["items"].is_object() {
        below(&schema["items"], &format!("{path}[]"), out);
    }
    if schema["additionalProperties"].is_object() {
        below(&schema["additionalProperties"], &format!("{path}.NAME"), out);
    }
}

#[test]
fn every_key_of_a_policy_is_in_the_docs() {
    let schema: Value = serde_json::from_str(&output(&["schema"])).expect("JSON");
    let mut all = BTreeSet::new();
    rows(&schema, "", &mut all);
    assert!(all.len() > 90, "{}", all.len());
    let rows: String = all.into_iter().map(|(_, row)| row).collect();
    generated("docs/policy.md", "keys", &format!("| key | value | default | |\n|---|---|---|---|\n{rows}"));
}

/// Every `x-cascade-...` in a text.
fn headers(text: &str) -> BTreeSet<String> {
    let each = text.split("x-cascade-").skip(1);
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect::<String>();
    each.map(|rest| format!("x-cascade-{}", name(rest).trim_end_matches('-'))).collect()
}

#[test]
fn every_header_is_in_the_docs_and_no_other() {
    let source: String = std::fs::read_dir(root().join("src/gateway"))
        .expect("source")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| std::fs::read_to_string(path).expect("readable"))
        .collect();
    let shown = headers(&read("docs/wire.md"));
    assert!(shown.len() > 12, "{shown:?}");
    assert_eq!(headers(&source), shown);
}

#[test]
fn every_policy_shown_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = 0;
    for (page, text) in pages() {
        for (number, policy) in
            blocks(&text, "yaml").into_iter().enumerate().filter(|(_, text)| text.contains("tiers:"))
        {
            let path = folder.path().join(format!("{number}.yaml"));
            std::fs::write(&path, policy).expect("written");
            let output = cascade().args(["check", "--no-env"]).arg(&path).output().expect("it runs");
            assert!(output.status.success(), "{page}: {}", shown(&output));
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn every_command_shown_is_understood() {
    let mut seen = 0;
    for (page, text) in pages() {
        for line in blocks(&text, "sh").into_iter().flat_map(str::lines) {
            let line = line.split(" #").next().unwrap_or_default();
            let starts =
                ["run --release -- ", "release/cascade "].map(|start| line.split_once(start).map(|(_, rest)| rest));
            let plain =
                line.strip_prefix("cascade ").or_else(|| Some(line.strip_prefix("OTEL_")?.split_once("cascade ")?.1));
            let Some(command) = starts.into_iter().flatten().next().or(plain) else { continue };
            let command = command.split(" > ").next().unwrap_or_default().trim();
            let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_matches('\'')).collect();
            // What stands before is read, and refused where it is unknown.
            let output = cascade().args(&words).arg("--help").output().expect("it runs");
            assert!(output.status.success(), "{page}: {command}\n{}", shown(&output));
            seen += 1;
        }
    }
    assert!(seen >= 25, "{seen}");
}

#[test]
fn every_link_leads_somewhere() {
    for (page, text) in pages() {
        let folder = root().join(&page).parent().expect("a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            let is_ours = !target.contains("://") && !target.is_empty();
            assert!(!is_ours || folder.join(target).exists(), "{page}: {target}");
        }
    }
}
