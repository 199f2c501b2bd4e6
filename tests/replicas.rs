//! Three replicas behind nginx under load: one is killed, one reads another policy.

mod support;

use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use prompt_cascade::clock::{Clock as _, SystemClock};
use support::{Served, client, completion, two_tiers};

const WORKERS: usize = 16;
const SECONDS: u64 = 6;

/// An upstream that takes its time, so that something is in flight at any moment.
async fn slow() -> String {
    let app = Router::new().fallback(|| async {
        SystemClock::start().sleep(Duration::from_millis(40)).await;
        Response::new(Body::from(completion("yes", &[-0.01]).to_string()))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// nginx before these; none where it is absent, which is said.
fn nginx(folder: &std::path::Path, port: u16, replicas: &[&str]) -> Option<Nginx> {
    let server = |url: &&str| format!("server {} max_fails=1 fail_timeout=2s;", url.trim_start_matches("http://"));
    let servers = replicas.iter().map(server).collect::<Vec<_>>().join(" ");
    let at = folder.display();
    let conf = format!(
        "daemon off; pid {at}/pid; error_log {at}/error.log; worker_processes 1; events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;
  upstream cascade {{ {servers} }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://cascade; proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 120s; }} }} }}"
    );
    let path = folder.join("nginx.conf");
    std::fs::write(&path, conf).expect("written");
    let child = Command::new("nginx").arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if child.is_err() {
        eprintln!("SKIPPED: nginx (Debian's package nginx-light) is absent, so replicas were not tried behind it");
    }
    child.ok().map(Nginx)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_who_was_in_flight_on_a_killed_replica_notices() {
    let folder = tempfile::tempdir().expect("a folder");
    let upstream = slow().await;
    let policy = two_tiers(folder.path(), &upstream, "");
    let mut replicas: Vec<Served> = (0..3).map(|_| Served::start_as(Some(&policy), &[], &["--quiet"])).collect();
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let urls: Vec<&str> = replicas.iter().map(|one| one.url.as_str()).collect();
    let Some(_nginx) = nginx(folder.path(), port, &urls) else { return };
    let url = format!("http://127.0.0.1:{port}/v1/chat/completions");
    let clock = SystemClock::start();
    while client().get(format!("http://127.0.0.1:{port}/healthz")).send().await.is_err() {
        assert!(clock.now() < Duration::from_secs(10), "nginx does not answer");
        clock.sleep(Duration::from_millis(50)).await;
    }

    let clock = SystemClock::start();
    let (answered, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let digests = Mutex::new(std::collections::BTreeSet::new());
    let load = stream::iter(0..WORKERS).for_each_concurrent(WORKERS, async |worker| {
        let client = client();
        let mut number = 0;
        while clock.now() < Duration::from_secs(SECONDS) {
            number += 1;
            let body = serde_json::json!({"model": "two", "messages": [{"role": "user", "content": format!("{worker} {number}")}]});
            let began = clock.now();
            match client.post(&url).body(body.to_string()).send().await {
                Ok(back) if back.status() == 200 => {
                    let digest = back.headers()["x-cascade-policy"].to_str().expect("ascii").to_owned();
                    digests.lock().expect("no panic").insert(digest);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                other => failed.lock().expect("no panic").push((began, other.map(|back| back.status()))),
            }
        }
    });
    let events = async {
        clock.sleep(Duration::from_secs(2)).await;
        let killed = clock.now();
        // As a machine that is gone: no farewell to anybody.
        drop(replicas.remove(0));
        clock.sleep(Duration::from_millis(1500)).await;
        let text = std::fs::read_to_string(&policy).expect("readable");
        std::fs::write(&policy, text.replace("at_least: 0.7", "at_least: 0.6")).expect("written");
        replicas[0].signal("HUP");
        killed
    };
    let ((), killed) = tokio::join!(load, events);
    let (answered, failed) = (answered.load(Ordering::Relaxed), failed.into_inner().expect("no panic"));
    println!("{answered} answered, {} of those in flight on the killed replica failed", failed.len());
    assert!(answered > 500, "{answered}");
    assert!(failed.len() <= WORKERS, "{failed:?}");
    assert!(failed.iter().all(|(began, _)| *began <= killed), "{failed:?}");
    assert_eq!(digests.into_inner().expect("no panic").len(), 2, "before and after the reload");
}
