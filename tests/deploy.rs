//! What ships around the program: the container's tree, manifests, the unit, completions
//! and manual pages. What needs a tool that is absent says so and is skipped.

#[path = "support/python.rs"]
mod python;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use prompt_cascade::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use support::{cascade, client, root, shown};

/// Libraries on the base image, gcr.io/distroless/cc-debian12.
const ON_THE_BASE: [&str; 6] =
    ["ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libc.so.6", "libgcc_s.so.1", "libm.so.6", "libstdc++.so.6"];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

/// A tool's output; none where it is absent, which is said.
fn tool(command: &mut Command) -> Option<Output> {
    let output = command.output();
    if output.is_err() {
        eprintln!("SKIPPED: {} is absent, so what it checks was not checked", command.get_program().display());
    }
    output.ok()
}

/// Files that a source is made with.
fn included(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            included(&path, found);
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for name in text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let place = path.parent().expect("a folder").join(name);
            found.insert(place.canonicalize().unwrap_or_else(|e| panic!("{}: {e}", place.display())));
        }
    }
}

#[test]
fn the_container_is_built_of_files_that_are_there_and_get_in() {
    let containerfile = read("Containerfile");
    let mut copied = Vec::new();
    for line in
        containerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        copied.extend(words[..words.len() - 1].iter().map(|word| (*word).to_owned()));
    }
    assert!(copied.len() >= 5, "{copied:?}");
    let ignored = read(".containerignore");
    assert_eq!(ignored, read(".dockerignore"), "podman and docker read one each");
    for path in &copied {
        assert!(root().join(path).exists(), "{path}");
        assert!(ignored.lines().any(|line| line == format!("!{path}")), "{path} does not get in");
    }
    let mut needed = BTreeSet::new();
    included(&root().join("src"), &mut needed);
    assert!(needed.len() > 5, "{needed:?}");
    for path in needed {
        let path = path.strip_prefix(root().canonicalize().expect("ours")).expect("a file of ours").to_owned();
        assert!(copied.iter().any(|folder| path.starts_with(folder)), "{} does not get in", path.display());
    }
    for bench in read("Cargo.toml").split("[[bench]]").skip(1).filter_map(|text| text.split('"').nth(1)) {
        assert!(containerfile.contains(&format!("benches/{bench}.rs")), "Cargo.toml names {bench}");
    }
    // What it is started with is understood.
    let start = containerfile.lines().find_map(|line| line.strip_prefix("CMD ")).expect("a command");
    let words: Vec<String> = serde_json::from_str(start).expect("a list of words");
    let output = cascade().args(&words).arg("--help").output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_runs_with_no_more_than_is_in_the_container() {
    let program = env!("CARGO_BIN_EXE_cascade");
    let Some(listed) = tool(Command::new("ldd").arg(program)) else { return };
    let tree = tempfile::tempdir().expect("a folder");
    for word in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let name = Path::new(word).file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(ON_THE_BASE.contains(&name), "{name} is not on the base image");
        let place = tree.path().join(word.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("made");
        std::fs::copy(word, place).expect("copied");
    }
    std::fs::copy(program, tree.path().join("cascade")).expect("copied");
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let mut child = Command::new("chroot")
        .arg(tree.path())
        .args(["/cascade", "serve", "--listen", &free, "--log-json"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chroot");
    let clock = SystemClock::start();
    let body = json!({"model": "cascade", "messages": [{"role": "user", "content": "What is 17 + 26?"}]}).to_string();
    let answered = loop {
        if let Ok(back) = client().post(format!("http://{free}/v1/chat/completions")).body(body.clone()).send().await {
            break Some(back.status().as_u16());
        }
        if child.try_wait().expect("a state").is_some() || clock.now() > Duration::from_secs(10) {
            break None;
        }
        clock.sleep(Duration::from_millis(50)).await;
    };
    let _ = child.kill();
    let told = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&told.stderr);
    if answered.is_none() && told.contains("Operation not permitted") {
        eprintln!("SKIPPED: no right to chroot, so the container's tree was not run");
        return;
    }
    assert_eq!(answered, Some(200), "{told}");
}

/// The manifests as `kubectl apply -k` would send them.
fn rendered() -> Option<String> {
    let output = tool(Command::new("kubectl").args(["kustomize", "deploy/kubernetes"]).current_dir(root()))?;
    assert!(output.status.success(), "{}", shown(&output));
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

fn manifest(rendered: &str, kind: &str) -> Value {
    let found = rendered.split("\n---\n").find(|text| text.lines().any(|line| line == format!("kind: {kind}")));
    let text = found.unwrap_or_else(|| panic!("no {kind}"));
    let read = prompt_cascade::policy::Policy::yaml_as_json("manifest", text);
    read.unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_manifests_fit_together_and_start_what_there_is() {
    let Some(rendered) = rendered() else { return };
    let deployment = manifest(&rendered, "Deployment");
    let pod = &deployment["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    let container = &pod["spec"]["containers"][0];
    let ports: Vec<&str> =
        container["ports"].as_array().expect("ports").iter().filter_map(|port| port["name"].as_str()).collect();
    for (kind, selector) in [
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
    ] {
        assert_eq!(manifest(&rendered, kind).pointer(selector), Some(labels), "{kind}");
    }
    let scaled = manifest(&rendered, "HorizontalPodAutoscaler");
    assert_eq!(scaled["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["path"], "/healthz");
        assert!(ports.contains(&get["port"].as_str().expect("a name")), "{get}");
    }
    // The arguments are understood, and there is time to stop.
    let arguments: Vec<&str> = container["args"].as_array().expect("args").iter().filter_map(Value::as_str).collect();
    let output = cascade().args(&arguments).arg("--help").output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
    let drain: u64 = arguments.iter().find_map(|one| one.strip_prefix("--drain=")?.parse().ok()).expect("--drain");
    let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a pause");
    assert!(pod["spec"]["terminationGracePeriodSeconds"].as_u64() > Some(drain + pause));
    // The policy is one, and is where it is looked for.
    let map = manifest(&rendered, "ConfigMap");
    let volume = &pod["spec"]["volumes"][0]["configMap"]["name"];
    assert_eq!(volume, &map["metadata"]["name"]);
    let place =
        format!("--policy={}/policy.yaml", container["volumeMounts"][0]["mountPath"].as_str().expect("a place"));
    assert!(arguments.contains(&place.as_str()), "{place}");
    let output = cascade().args(["check", "--no-env", "deploy/kubernetes/policy.yaml"]).output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
}

#[test]
fn the_manifests_are_what_kubernetes_takes() {
    let Some(rendered) = rendered() else { return };
    let not_done = "manifests were not held against its schemas";
    let Some(venv) = python::environment("kubernetes-validate==1.37.0", not_done) else { return };
    let program = venv.join("bin/kubernetes-validate");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rendered.yaml");
    std::fs::write(&path, &rendered).expect("written");
    let output = Command::new(program).arg("--strict").arg(&path).output().expect("it runs");
    let told = shown(&output);
    assert!(output.status.success() && told.matches(" passed for resource ").count() == 7, "{told}");
}

#[test]
fn systemd_takes_the_unit() {
    let unit = read("deploy/prompt-cascade.service");
    for line in unit.lines().filter_map(|line| line.split_once("=/usr/local/bin/cascade ")) {
        let output = cascade().args(line.1.split_whitespace()).arg("--help").output().expect("it runs");
        assert!(output.status.success(), "{}", shown(&output));
    }
    // As it would be once it is installed.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prompt-cascade.service");
    let installed =
        unit.replace("/usr/local/bin/cascade", env!("CARGO_BIN_EXE_cascade")).replace("Documentation=", "#");
    std::fs::write(&path, installed).expect("written");
    let Some(output) = tool(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path)) else { return };
    assert!(output.status.success() && output.stderr.is_empty(), "{}", shown(&output));
    let rated =
        Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(&path).output();
    let rated = rated.expect("it runs");
    assert!(rated.status.success(), "{}", shown(&rated));
}

#[test]
fn shells_complete_commands_and_pages_are_written() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = cascade().args(["completions", shell]).output().expect("it runs");
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && script.contains("litellm-config"), "{shell}: {script}");
    }
    // What bash offers after `cascade de`.
    let ask = r#"eval "$("$0" completions bash)"; COMP_WORDS=(cascade de); COMP_CWORD=1; _cascade cascade de ""; echo "${COMPREPLY[@]}""#;
    if let Some(output) = tool(Command::new("bash").args(["-c", ask, env!("CARGO_BIN_EXE_cascade")])) {
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "demo", "{}", shown(&output));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = cascade().arg("man").arg(folder.path()).output().expect("it runs");
    assert!(output.status.success(), "{}", shown(&output));
    let page = std::fs::read_to_string(folder.path().join("cascade-serve.1")).expect("a page");
    assert!(page.contains(".TH cascade-serve") || page.contains(".TH \"cascade-serve\""), "{page}");
    assert!(page.contains("\\-\\-admin"), "{page}");
    let output = cascade().args(["man", "/proc/nowhere"]).output().expect("it runs");
    assert!(shown(&output).contains("cannot write to /proc/nowhere"), "{}", shown(&output));
}
