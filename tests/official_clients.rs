//! The official clients, unmodified, from their registries, over a real socket.

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::{Served, root, shown};

/// Python with the clients installed, made once below `target/`. Without
/// Python or the registry the test says so and is skipped, but not in CI.
fn python() -> Option<PathBuf> {
    let folder = root().join("target/clients/python");
    let (python, done) = (folder.join("bin/python"), folder.join("installed"));
    let wanted = std::fs::read_to_string(root().join("tests/clients/requirements.txt")).expect("requirements.txt");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Some(python);
    }
    let run = |program: PathBuf, arguments: &[&str]| {
        let run = Command::new(program).args(arguments).current_dir(root()).stdin(Stdio::null()).output();
        run.map_err(|e| e.to_string()).and_then(|o| if o.status.success() { Ok(()) } else { Err(shown(&o)) })
    };
    let made = run("python3".into(), &["-m", "venv", "target/clients/python"]).and_then(|()| {
        run(python.clone(), &["-m", "pip", "install", "--quiet", "-r", "tests/clients/requirements.txt"])
    });
    if let Err(why) = made {
        assert!(std::env::var_os("CI").is_none(), "the Python clients could not be installed: {why}");
        eprintln!("SKIPPED: the Python clients could not be installed: {why}");
        return None;
    }
    std::fs::write(done, wanted).expect("written");
    Some(python)
}

#[test]
fn openai_python() {
    let Some(python) = python() else { return };
    let served = Served::start(None);
    let script = root().join("tests/clients/openai_python.py");
    let output = Command::new(python).arg(script).arg(format!("{}/v1", served.url)).output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
    print!("{}", String::from_utf8_lossy(&output.stdout));
}
