//! The official clients, unmodified, from their registries, over real sockets.
//!
//! They are installed once below `target/clients/`. Where that cannot be done a
//! test says so and is skipped, but not in CI.

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use support::{Served, root, shown};

/// One installation at a time.
static INSTALLING: Mutex<()> = Mutex::new(());

fn run(program: PathBuf, arguments: &[&str], folder: PathBuf) -> Result<(), String> {
    let run = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    run.map_err(|e| e.to_string()).and_then(|o| if o.status.success() { Ok(()) } else { Err(shown(&o)) })
}

/// Installs into `folder` unless what is `wanted` is there already.
fn installed(folder: PathBuf, wanted: &str, install: impl FnOnce(PathBuf) -> Result<(), String>) -> Option<PathBuf> {
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let done = folder.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|was| was == wanted) {
        return Some(folder);
    }
    std::fs::create_dir_all(&folder).expect("a folder");
    if let Err(why) = install(folder.clone()) {
        assert!(std::env::var_os("CI").is_none(), "the clients could not be installed: {why}");
        eprintln!("SKIPPED: the clients could not be installed: {why}");
        return None;
    }
    std::fs::write(done, wanted).expect("written");
    Some(folder)
}

fn scripts(name: &str) -> PathBuf {
    root().join("tests/clients").join(name)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Python with the clients installed.
fn python() -> Option<PathBuf> {
    let wanted = text(&scripts("requirements.txt"));
    let folder = installed(root().join("target/clients/python"), &wanted, |folder| {
        run("python3".into(), &["-m", "venv", "."], folder.clone())?;
        let requirements = scripts("requirements.txt");
        let requirements = requirements.to_str().ok_or("a path that is not UTF-8")?;
        run(folder.join("bin/python"), &["-m", "pip", "install", "--quiet", "-r", requirements], folder)
    })?;
    Some(folder.join("bin/python"))
}

/// A folder with the Node clients installed and the scripts beside them.
fn node() -> Option<PathBuf> {
    let wanted = text(&scripts("package-lock.json"));
    let copy = |folder: &PathBuf, names: &[&str]| {
        names
            .iter()
            .try_for_each(|name| std::fs::copy(scripts(name), folder.join(name)).map(|_| ()).map_err(|e| e.to_string()))
    };
    let folder = installed(root().join("target/clients/node"), &wanted, |folder| {
        copy(&folder, &["package.json", "package-lock.json", ".npmrc"])?;
        run("npm".into(), &["ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
    })?;
    copy(&folder, &["checks.mjs", "openai_node.mjs", "vercel_ai.mjs"]).expect("copied");
    Some(folder)
}

/// The fake provider of `upstream.py`; it is stopped when dropped.
struct Provider {
    child: Child,
    base_url: String,
}

impl Provider {
    fn start() -> Self {
        let mut command = Command::new("python3");
        command.arg("-B").arg(scripts("upstream.py")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python3 starts");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut first).expect("a first line");
        let base_url = first.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{first:?}")).to_owned();
        Self { child, base_url }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a script against a gateway in front of the fake provider.
fn check(mut command: Command) {
    let provider = Provider::start();
    let served = Served::start_with(Some(&scripts("policy.yaml")), &[("UPSTREAM", &provider.base_url)]);
    let output = command.arg(format!("{}/v1", served.url)).arg(&provider.base_url).output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

fn check_python(script: &str) {
    let Some(python) = python() else { return };
    let mut command = Command::new(python);
    command.arg("-B").arg(scripts(script));
    check(command);
}

fn check_node(script: &str) {
    let Some(folder) = node() else { return };
    let mut command = Command::new("node");
    command.arg(script).current_dir(folder);
    check(command);
}

#[test]
fn openai_python_against_the_demo() {
    let Some(python) = python() else { return };
    let served = Served::start(None);
    let mut command = Command::new(python);
    let output =
        command.arg("-B").arg(scripts("openai_python.py")).arg(format!("{}/v1", served.url)).output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn openai_python() {
    check_python("openai_python_wire.py");
}

#[test]
fn openai_python_responses() {
    check_python("openai_python_responses.py");
}

#[test]
fn langchain_openai() {
    check_python("langchain_openai.py");
}

#[test]
fn llm_command_line() {
    check_python("llm_cli.py");
}

#[test]
fn openai_node() {
    check_node("openai_node.mjs");
}

#[test]
fn vercel_ai_sdk() {
    check_node("vercel_ai.mjs");
}
