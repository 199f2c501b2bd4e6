//! What several tests need: the program as a process, a fake upstream over a
//! real socket, and a place for files.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A folder beside the project with recorded traffic, where it is present.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = root().join("../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is absent, so this test over recorded traffic did not run", path.display());
    None
}

/// The program, ready to be given arguments, with no keys in its environment.
pub fn cascade() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cascade"));
    command.current_dir(root());
    // Whoever runs the tests has keys, proxies and collectors of his own.
    let is_own = |name: &str| {
        let name = name.to_ascii_uppercase();
        name.ends_with("_API_KEY")
            || name.ends_with("_PROXY")
            || name.starts_with("OTEL_")
            || name == "OPENAI_BASE_URL"
            || name == "CASCADE_REDIS"
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_own) {
            command.env_remove(name);
        }
    }
    command
}

/// Exit code, standard output and standard error, as one text.
pub fn shown(output: &Output) -> String {
    format!(
        "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
        output.status.code().map_or("none".to_owned(), |c| c.to_string()),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A running `cascade serve`; it is stopped when dropped.
pub struct Served {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

impl Served {
    /// Serves a policy (the demo without one) on a free port.
    pub fn start(policy: Option<&Path>) -> Self {
        Self::start_with(policy, &[])
    }

    /// Serves a policy with metrics; says where they are.
    pub fn start_with_metrics(policy: &Path) -> (Self, String) {
        Self::start_with_metrics_as(policy, &[])
    }

    /// The same, with more arguments.
    pub fn start_with_metrics_as(policy: &Path, arguments: &[&str]) -> (Self, String) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let served = Self::start_as(Some(policy), &[], &[&["--admin", &free.to_string()], arguments].concat());
        (served, format!("http://{free}/metrics"))
    }

    /// Serves a policy with these variables in its environment.
    pub fn start_with(policy: Option<&Path>, variables: &[(&str, &str)]) -> Self {
        Self::start_as(policy, variables, &[])
    }

    /// Serves a policy with these variables and arguments.
    pub fn start_as(policy: Option<&Path>, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = cascade();
        command.args(["serve", "--listen", "127.0.0.1:0"]).env("TEST_KEY", "sk-test-0123456789abcdef");
        command.envs(variables.iter().copied()).args(arguments);
        if let Some(policy) = policy {
            command.arg("--policy").arg(policy);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut first).expect("a first line");
        let url = first.split_once("listening on ").and_then(|(_, rest)| rest.split_once("/v1,"));
        let Some((url, _)) = url else {
            let output = child.wait_with_output().expect("it ends");
            panic!("not the line of a listening server: {first:?}\n{}", shown(&output));
        };
        let url = url.to_owned();
        Self { child, url }
    }

    /// Its own resident memory, in KiB: without the pages of its program, of which each machine keeps as many as it likes.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("RssAnon");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("Linux").count()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill").success());
    }

    /// Asks it to stop and returns what it wrote to standard error.
    pub fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().expect("stderr");
        std::io::Read::read_to_string(&mut pipe, &mut stderr).expect("utf-8");
        assert!(self.child.wait().expect("it stops").success());
        stderr
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a fake upstream was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: http::Method,
    pub path: String,
    /// The path with its query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// A fake upstream on a real socket; it lives as long as the runtime.
pub struct Fake {
    pub base_url: String,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Answers every request with what `answer` makes of it.
    pub async fn start(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = seen.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let (answer, noted) = (answer.clone(), noted.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.expect("a body");
                let (path, target) = (head.uri.path().to_owned(), head.uri.to_string());
                let one = Seen { method: head.method, path, target, headers: head.headers, body };
                let response = answer(&one);
                noted.lock().expect("no panic before").push(one);
                response
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { base_url, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic before").clone()
    }

    /// The models it was asked for, in order.
    pub fn models(&self) -> Vec<String> {
        self.seen().iter().map(|s| s.json()["model"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// A chat completion with this text and these logprobs.
pub fn completion(text: &str, logprobs: &[f64]) -> serde_json::Value {
    let tokens: Vec<_> = logprobs.iter().map(|l| serde_json::json!({"token": "t", "logprob": l})).collect();
    let logprobs = if tokens.is_empty() { serde_json::Value::Null } else { serde_json::json!({"content": tokens}) };
    serde_json::json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "upstream-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": logprobs, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}})
}

/// Adds to a policy file.
pub fn append(policy: &Path, text: &str) {
    let before = std::fs::read_to_string(policy).expect("readable");
    std::fs::write(policy, before + text).expect("written");
}

/// A response with this status, content type and body.
pub fn response(status: u16, content_type: &str, body: impl Into<Body>) -> Response {
    Response::builder().status(status).header("content-type", content_type).body(body.into()).expect("a response")
}

/// A policy of two live tiers, written to a file; `extra` goes into each tier.
pub fn two_tiers(folder: &Path, base_url: &str, extra: &str) -> PathBuf {
    let path = folder.join("policy.yaml");
    let text = format!(
        r#"name: two
upstreams: {{ up: {{ base_url: "{base_url}", api_key: "${{TEST_KEY}}", timeouts: {{ connect: 500ms, first_byte: 2s, idle: 1s, total: 5s }} }} }}
tiers:
  - {{ name: small, model: small-model, upstream: up, price: {{ input: 1, output: 1 }}, accept: {{ score: confidence, at_least: 0.7 }}{extra} }}
  - {{ name: large, model: large-model, upstream: up, price: {{ input: 10, output: 10 }}{extra} }}
"#
    );
    std::fs::write(&path, text).expect("written");
    path
}

/// A client for plain HTTP.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([]).build().expect("a client")
}

/// Events of a stream.
pub fn sse(events: &[&str]) -> String {
    events.iter().fold(String::new(), |text, event| text + "data: " + event + "\n\n")
}

pub const ROLE: &str =
    r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
pub const WORD: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"logprobs":{"content":[{"token":"hi","logprob":-0.01}]},"finish_reason":null}]}"#;
pub const END: &str = r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
pub const USAGE: &str = r#"{"id":"c","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#;
