//! Packages of Python's index, each in an environment of its own below target/.

use std::path::PathBuf;
use std::process::Command;

/// The environment with `package`, such as `duckdb==2.0.0`; none where it cannot be had,
/// which is said, with what was `not_done` therefore.
pub fn environment(package: &str, not_done: &str) -> Option<PathBuf> {
    // One test at a time: the others find it there.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = package.split("==").next().unwrap_or(package);
    let venv = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target").join(name);
    if venv.join("installed").exists() {
        return Some(venv);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).output();
    let mut pip = Command::new(venv.join("bin/python"));
    let installed = pip.args(["-m", "pip", "install", "--quiet", package]).output();
    if made.is_ok_and(|made| made.status.success()) && installed.is_ok_and(|installed| installed.status.success()) {
        std::fs::write(venv.join("installed"), package).expect("written");
        return Some(venv);
    }
    eprintln!("SKIPPED: {package} could not be had from PyPI, so {not_done}");
    None
}
