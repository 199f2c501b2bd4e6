//! Replicas that share limits, money, keys, answers and failures through a real Redis.

#[path = "support/redis.rs"]
mod redis;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use prompt_cascade::clock::{Clock as _, SystemClock};
use redis::Redis;
use serde_json::{Value, json};
use support::{Fake, Served, cascade, client, completion, response, shown};

const WORKERS: usize = 24;

/// A policy of one tier.
fn policy(folder: &Path, base_url: &str, tier: &str, rest: &str) -> PathBuf {
    let path = folder.join("policy.yaml");
    let text = format!(
        r#"name: shared
upstreams: {{ up: {{ base_url: "{base_url}", breaker: {{ failures: 5, open_for: 30s }} }} }}
tiers: [{{ name: one, model: m, upstream: up, price: {{ input: 1000, output: 1000 }}, retries: {{ times: 0 }}, {tier} }}]
{rest}
"#
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn replicas<const N: usize>(policy: &Path, redis: &Redis) -> [Served; N] {
    std::array::from_fn(|_| Served::start_as(Some(policy), &[], &["--redis", &redis.url(), "--quiet"]))
}

fn ask(text: &str) -> String {
    json!({"model": "one", "messages": [{"role": "user", "content": text}], "max_tokens": 1000}).to_string()
}

/// A request that is sent and whose answer nobody may live to see.
fn begin(served: &Served, body: String) -> impl Future<Output = ()> + Send + 'static {
    let sent = client().post(format!("{}/v1/chat/completions", served.url)).body(body).send();
    async move { drop(sent.await) }
}

async fn send(served: &Served, key: Option<&str>, body: String) -> reqwest::Response {
    let ask = client().post(format!("{}/v1/chat/completions", served.url)).body(body);
    let ask = if let Some(key) = key { ask.bearer_auth(key) } else { ask };
    ask.send().await.expect("a response")
}

fn cache_of(response: &reqwest::Response) -> &str {
    response.headers().get("x-cascade-cache").map_or("", |value| value.to_str().expect("ascii"))
}

async fn code(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or_default();
    (status, body["error"]["code"].clone())
}

/// Waits until something holds.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let clock = SystemClock::start();
    while !holds().await {
        assert!(clock.now() < Duration::from_secs(10), "{what}: not in 10 s");
        clock.sleep(Duration::from_millis(50)).await;
    }
}

/// How many were answered in that time, of as many as could be sent to all in turn.
async fn answered(replicas: &[Served], time: Duration) -> (Vec<usize>, Duration) {
    let clock = SystemClock::start();
    let counts: Vec<AtomicUsize> = replicas.iter().map(|_| AtomicUsize::new(0)).collect();
    stream::iter(0..WORKERS)
        .for_each_concurrent(WORKERS, |worker| {
            let counts = &counts;
            async move {
                let client = client();
                let mut turn = worker;
                while clock.now() < time {
                    turn += 1;
                    let url = format!("{}/v1/chat/completions", replicas[turn % replicas.len()].url);
                    let back = client.post(url).body(ask("hi")).send().await.expect("a response");
                    let status = back.status().as_u16();
                    back.bytes().await.expect("a body");
                    match status {
                        200 => _ = counts[turn % replicas.len()].fetch_add(1, Ordering::Relaxed),
                        // Whoever is refused comes back soon, though not at once.
                        429 => clock.sleep(Duration::from_millis(10)).await,
                        other => panic!("{other}"),
                    }
                }
            }
        })
        .await;
    (counts.into_iter().map(AtomicUsize::into_inner).collect(), clock.now())
}

/// An answer for which the upstream counts so many tokens.
fn counted(input: u64, output: u64) -> String {
    let mut answer = completion("yes", &[-0.01]);
    answer["usage"] = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    answer.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_for_all_replicas_together() {
    let Some(redis) = Redis::start().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    // 6,000 requests a minute; or 600,000 tokens, of which each answer turns out to use 500
    // where about 1,010 were taken at first.
    for (limit, burst, a_second) in [
        ("requests_per_minute: 6000, burst: 50", 50.0, 100.0),
        ("tokens_per_minute: 600000", 600_000.0 / 500.0, 10_000.0 / 500.0),
    ] {
        let fake = Fake::start(|_| response(200, "application/json", counted(100, 400))).await;
        let limits = format!("limits: {{ {limit}, when_full: refuse }}");
        let policy = policy(folder.path(), &fake.base_url, &limits, "");
        let replicas: [Served; 3] = replicas(&policy, &redis);
        let (each, time) = answered(&replicas, Duration::from_secs(6)).await;
        let sum: usize = each.iter().sum();
        let wanted = burst + a_second * time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let share = sum as f64 / wanted;
        println!("{limit}: {each:?} in {time:?}, {share:.4} of what is let through");
        assert!((0.98..=1.02).contains(&share), "{limit}: {each:?} of {wanted}");
        assert!(each.iter().all(|count| *count > sum / 6), "{each:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_in_flight_are_counted_together() {
    let Some(redis) = Redis::start().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = {
        let (now, most, is_slow) = (now.clone(), most.clone(), is_slow.clone());
        Router::new().fallback(move || {
            let (now, most, is_slow) = (now.clone(), most.clone(), is_slow.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let time = if is_slow.load(Ordering::SeqCst) { 60_000 } else { 40 };
                SystemClock::start().sleep(Duration::from_millis(time)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Response::new(Body::from(completion("yes", &[-0.01]).to_string()))
            }
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, slow).await });

    let policy = policy(folder.path(), &base_url, "limits: { concurrent: 6, when_full: { wait: { up_to: 20s } } }", "");
    let url = redis.url();
    let (replicas, metrics): (Vec<Served>, Vec<String>) =
        (0..3).map(|_| Served::start_with_metrics_as(&policy, &["--redis", &url, "--quiet"])).unzip();
    let (each, time) = answered(&replicas, Duration::from_secs(3)).await;
    let sum: usize = each.iter().sum();
    let mut late = 0;
    for metrics in &metrics {
        let text = client().get(metrics).send().await.expect("metrics").text().await.expect("text");
        let name = "cascade_shared_state_requests_total{result=\"failed\"} ";
        let count = text.lines().find_map(|line| line.strip_prefix(name)?.parse::<usize>().ok());
        late += count.expect("it is counted");
    }
    println!("{each:?} in {time:?}, {most:?} in flight at most, {late} times late");
    // Where the machine is too slow for an answer in 50 ms, a replica goes by its own bound.
    assert!((5..=6 + late).contains(&most.load(Ordering::SeqCst)), "{most:?} in flight");
    // Six at a time, 40 ms each, would be 150 a second.
    assert!(sum > 150, "{each:?} in {time:?}");

    // One that is killed holds its places for ten seconds, and no longer.
    let [first, second, _] = replicas.as_slice() else { panic!("three") };
    is_slow.store(true, Ordering::SeqCst);
    let held: Vec<_> = (0..6).map(|_| tokio::spawn(begin(first, ask("hi")))).collect();
    until("its places are taken", async || now.load(Ordering::SeqCst) == 6).await;
    first.signal("KILL");
    is_slow.store(false, Ordering::SeqCst);
    let clock = SystemClock::start();
    let back = send(second, None, ask("hi")).await;
    let waited = clock.now();
    println!("the places of one that was killed were free after {waited:?}");
    assert_eq!(back.status().as_u16(), 200);
    assert!((Duration::from_secs(5)..Duration::from_secs(15)).contains(&waited), "{waited:?}");
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_and_keys_are_known_to_all() {
    let Some(mut redis) = Redis::start().await else { return };
    let url = redis.url();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("keys.json"), r#"{"keys": []}"#).expect("written");
    let keys = |arguments: &[&str]| {
        let output = cascade().arg("keys").args(arguments).args(["--redis", &url]).output().expect("it runs");
        assert!(output.status.success(), "{}", shown(&output));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    // A thousand dollars a million tokens: half a dollar an answer.
    let fake = Fake::start(|_| response(200, "application/json", counted(100, 400))).await;
    let policy = policy(folder.path(), &fake.base_url, "", "keys: keys.json");
    let at_first: [Served; 3] = replicas(&policy, &redis);
    assert_eq!(send(&at_first[0], Some("pck_070707070707_00"), ask("hi")).await.status().as_u16(), 401);

    let key = keys(&["create", "alice", "--dollars-per-month", "20"]);
    assert!(key.starts_with("pck_"));
    for served in &at_first {
        let knows = async || code(send(served, Some(&key), "{}".to_owned()).await).await.0 == 400;
        until("a new key is known", knows).await;
    }
    let mut paid = 0;
    let refused = loop {
        let (status, code) = code(send(&at_first[paid % 3], Some(&key), ask("hi")).await).await;
        if status != 200 {
            break (status, code);
        }
        paid += 1;
        assert!(paid < 60, "never refused");
    };
    assert_eq!(refused, (429, "insufficient_quota".into()));
    // What is in flight is not known yet.
    assert!((40..=42).contains(&paid), "{paid} answers for 20 dollars");
    let dollars = format!("${:.4} in ", f64::from(u32::try_from(paid).expect("few")) / 2.0);
    let listed = async || keys(&["list"]).contains(&dollars);
    until(&format!("{dollars} is what all know, {}", keys(&["list"])), listed).await;

    // Those that come after know of it, though they have no file.
    drop(at_first);
    let _ = std::fs::remove_file(folder.path().join("keys.json.spent"));
    let [later] = replicas(&policy, &redis);
    assert_eq!(code(send(&later, Some(&key), ask("hi")).await).await, (429, "insufficient_quota".into()));

    let other = keys(&["create", "bob", "--requests-per-minute", "3"]);
    let [one_more] = replicas(&policy, &redis);
    until("a new key is known", async || send(&later, Some(&other), "{}".to_owned()).await.status() != 401).await;
    let mut statuses = Vec::new();
    for n in 0..6 {
        statuses.push(send([&later, &one_more][n % 2], Some(&other), ask("hi")).await.status().as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "one was taken already: {statuses:?}");

    // A server that has lost them gets them back.
    redis.kill();
    let still = code(send(&later, Some(&key), ask("hi")).await).await;
    assert_eq!(still, (429, "insufficient_quota".into()), "what was learned is known without it");
    redis.restart().await;
    until("they are put back", async || redis.count("cascade:keys:*") == 2).await;
    until("they are known", async || send(&later, Some(&other), "{}".to_owned()).await.status() != 401).await;
    assert!(keys(&["list"]).contains("bob"));

    let id = &other["pck_".len()..][..12];
    keys(&["revoke", id]);
    for served in [&later, &one_more] {
        let is_out = async || send(served, Some(&other), ask("hi")).await.status().as_u16() == 401;
        until("it opens nothing any more", is_out).await;
    }
    assert!(keys(&["list"]).contains("revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_was_told_the_others_remember() {
    let Some(redis) = Redis::start().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    let fake = Fake::start(move |seen| {
        let number = counts.fetch_add(1, Ordering::SeqCst) + 1;
        if seen.body.windows(13).any(|w| w == b"\"stream\":true") {
            let frame = |delta: Value, end: Value| {
                json!({"choices": [{"index": 0, "delta": delta, "finish_reason": end}]}).to_string()
            };
            let frames =
                [frame(json!({"content": "Hi"}), Value::Null), frame(json!({}), json!("stop")), "[DONE]".to_owned()];
            return response(200, "text/event-stream", support::sse(&frames.each_ref().map(String::as_str)));
        }
        response(200, "application/json", completion(&format!("answer {number}"), &[-0.01]).to_string())
    })
    .await;
    let policy = policy(folder.path(), &fake.base_url, "cache: { ttl: 1h, sampled: true }", "");
    let [first, second]: [Served; 2] = replicas(&policy, &redis);
    let stream = json!({"model": "one", "stream": true, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    for (n, body) in [ask("hi"), stream].into_iter().enumerate() {
        let told = send(&first, None, body.clone()).await;
        assert_eq!(cache_of(&told), "miss");
        let told = told.text().await.expect("a body");
        until("it is there", async || redis.count("cascade:answer1:*") == n + 1).await;
        let again = send(&second, None, body.clone()).await;
        assert_eq!(cache_of(&again), "hit");
        assert_eq!(again.text().await.expect("a body"), told);
        assert_eq!(asked.load(Ordering::SeqCst), n + 1);
    }
    // It outlives who was told.
    drop(first);
    let [third] = replicas(&policy, &redis);
    assert_eq!(cache_of(&send(&third, None, ask("hi")).await), "hit");
    // Asked anew, it is another answer for all that do not remember the old one.
    let anew = client().post(format!("{}/v1/chat/completions", third.url)).body(ask("hi"));
    let anew = anew.header("cache-control", "no-cache").send().await.expect("a response");
    let anew = anew.text().await.expect("a body");
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert!(anew.contains("\"answer 3\""), "{anew}");
    let [fourth] = replicas(&policy, &redis);
    let has_heard = async || {
        let told = send(&fourth, None, ask("hi")).await;
        cache_of(&told) == "hit" && told.text().await.expect("a body") == anew
    };
    until("others have the new one", has_heard).await;
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_one_is_left_alone_by_the_others_sooner() {
    let Some(redis) = Redis::start().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    let fake = Fake::start(move |_| {
        counts.fetch_add(1, Ordering::SeqCst);
        response(500, "application/json", r#"{"error": {"message": "no"}}"#.to_owned())
    })
    .await;
    let failing = policy(folder.path(), &fake.base_url, "", "");
    let [first, second]: [Served; 2] = replicas(&failing, &redis);
    for _ in 0..7 {
        send(&first, None, ask("hi")).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 5, "its breaker is open");
    until("it is told", async || redis.count("cascade:hint:open:*") == 1).await;
    SystemClock::start().sleep(Duration::from_millis(2500)).await;
    for _ in 0..3 {
        send(&second, None, ask("hi")).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 6, "one failure was enough");

    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    let fake = Fake::start(move |_| {
        counts.fetch_add(1, Ordering::SeqCst);
        let mut busy = response(429, "application/json", r#"{"error": {"message": "slow down"}}"#.to_owned());
        busy.headers_mut().insert("retry-after", "20".parse().expect("ascii"));
        busy
    })
    .await;
    let busy = policy(folder.path(), &fake.base_url, "", "");
    let [first, second]: [Served; 2] = replicas(&busy, &redis);
    send(&first, None, ask("hi")).await;
    until("it is told", async || redis.count("cascade:hint:pause:*") == 1).await;
    SystemClock::start().sleep(Duration::from_millis(2500)).await;
    let told = send(&second, None, ask("hi")).await;
    assert_eq!(told.status().as_u16(), 429);
    let wait: u64 = told.headers()["retry-after"].to_str().expect("ascii").parse().expect("seconds");
    assert!((15..=18).contains(&wait), "{wait}");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "what one was told holds for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_fails_and_nothing_is_lost_where_it_is_killed_under_load() {
    let Some(mut redis) = Redis::start().await else { return };
    let url = redis.url();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    let made = cascade().args(["keys", "create", "alice", "--file"]).arg(file).output().expect("it runs");
    let key = String::from_utf8(made.stdout).expect("UTF-8").trim().to_owned();
    let fake = Fake::start(|_| response(200, "application/json", counted(100, 400))).await;
    let tier = "limits: { requests_per_minute: 600000, concurrent: 1000 }, cache: { sampled: true }";
    let policy = policy(folder.path(), &fake.base_url, tier, "keys: keys.json");
    let admin = |_| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let served = Served::start_as(Some(&policy), &[], &["--redis", &url, "--quiet", "--admin", &free.to_string()]);
        (served, format!("http://{free}/metrics"))
    };
    let replicas: [(Served, String); 3] = std::array::from_fn(admin);
    let is_up = async || {
        let mut all = Vec::new();
        for (_, metrics) in &replicas {
            let text = client().get(metrics).send().await.expect("metrics").text().await.expect("text");
            all.push(text.contains("cascade_shared_state_up 1\n"));
        }
        all
    };
    let clock = SystemClock::start();
    let (count, slowest) = (AtomicUsize::new(0), AtomicU64::new(0));
    let ends = AtomicBool::new(false);
    let load = stream::iter(0..8).for_each_concurrent(8, |worker| {
        let (count, slowest, ends, replicas, key) = (&count, &slowest, &ends, &replicas, &key);
        async move {
            let client = client();
            let mut turn = worker;
            while !ends.load(Ordering::Relaxed) {
                turn += 1;
                let url = format!("{}/v1/chat/completions", replicas[turn % 3].0.url);
                let body = ask(&format!("{worker} {turn}"));
                let began = clock.now();
                let back = client.post(url).bearer_auth(key).body(body).send().await.expect("a response");
                let status = back.status().as_u16();
                let said = back.text().await.expect("a body");
                assert_eq!(status, 200, "{said}");
                let took = clock.now().saturating_sub(began);
                slowest.fetch_max(u64::try_from(took.as_millis()).expect("short"), Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
                clock.sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let chaos = async {
        let pause = |ms| clock.sleep(Duration::from_millis(ms));
        until("it is found", async || is_up().await == [true; 3]).await;
        redis.kill();
        pause(1000).await;
        until("it is missed", async || is_up().await == [false; 3]).await;
        redis.restart().await;
        until("it is found again", async || is_up().await == [true; 3]).await;
        pause(500).await;
        // One that hangs is worse than one that is gone.
        redis.signal("STOP");
        pause(1000).await;
        until("it is missed", async || is_up().await == [false; 3]).await;
        redis.signal("CONT");
        until("it is found again", async || is_up().await == [true; 3]).await;
        // One that takes nothing any more is as good as gone.
        redis.configure("maxmemory", "1");
        until("it is missed", async || is_up().await == [false; 3]).await;
        pause(1000).await;
        assert_eq!(is_up().await, [false; 3]);
        redis.configure("maxmemory", "0");
        until("it is found again", async || is_up().await == [true; 3]).await;
        pause(500).await;
        ends.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, chaos);
    let (count, slowest) = (count.into_inner(), slowest.into_inner());
    println!("{count} answered, the slowest in {slowest} ms");
    // Three round trips of a request may each find out by themselves, and the machine is slow.
    assert!(slowest < 1000, "{slowest} ms");

    // All that was spent is known to all, though what was there was lost on the way.
    let wanted = format!("{} 0\n", count as u64 * 500_000_000);
    let spent = || {
        let hash = format!("cascade:spent:{}:{}", SystemClock::start().month(), &key["pck_".len()..][..12]);
        let spent = Command::new("redis-cli").args(["-u", &url, "HGET", &hash, "="]).output().expect("redis-cli");
        String::from_utf8(spent.stdout).expect("UTF-8")
    };
    SystemClock::start().sleep(Duration::from_secs(1)).await;
    assert_eq!(spent(), wanted, "billionths of a dollar, and answers of unknown cost");
    for (served, _) in replicas {
        let log = served.stop();
        let times = |what: &str| log.matches(what).count();
        // Once for each of the three; a slow machine may miss it once more.
        let (gone, back) = (times("out of reach"), times("the shared state answers"));
        assert!((3..8).contains(&gone) && (3..8).contains(&back), "{log}");
        assert!(log.contains("OOM"), "{log}");
    }
}

#[test]
fn an_address_that_is_none_is_refused_and_not_repeated() {
    let run =
        |url: &str| cascade().args(["serve", "--listen", "127.0.0.1:0", "--redis", url]).output().expect("it runs");
    for url in ["nonsense", "http://secret@127.0.0.1", "redis://:secret@host:port"] {
        let output = run(url);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("redis://:password@host:6379/0"), "{url}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
