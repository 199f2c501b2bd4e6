//! The limit of a tier: exact in simulated time, kept over a real socket.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use prompt_cascade::answer::Answer;
use prompt_cascade::clock::{Clock, ManualClock};
use prompt_cascade::openai::Endpoint;
use prompt_cascade::policy::{Outside, Policy, Tier};
use prompt_cascade::prompt::Prompt;
use prompt_cascade::trace::Failure;
use prompt_cascade::upstream::{Delivery, Limited, Reply, Said, Upstream};
use proptest::prelude::*;

struct Always;

impl Upstream for Always {
    async fn ask(&self, _: &Tier, _: &Prompt, _: Delivery) -> Result<Reply, Failure> {
        let body = r#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}"#;
        Ok(Reply::live(Said::Whole(Arc::new(Answer::from_body(Endpoint::Chat, body.into()).expect("an answer")))))
    }
}

fn policy(limits: &str) -> Policy {
    let source = format!(
        "name: p\nupstreams: {{ u: {{ fixtures: embedded }} }}\ntiers:\n  - {{ name: a, model: m, upstream: u, limits: {limits} }}\n"
    );
    Policy::parse("p", &source, Outside::none()).unwrap_or_else(|p| panic!("{p}")).0
}

fn prompt() -> Prompt {
    Prompt::parse(Endpoint::Chat, r#"{"model":"p","messages":[]}"#.into()).expect("a prompt")
}

/// Whether it is let through now, else when to try again.
fn ask(limited: &Limited<Always, ManualClock>, policy: &Policy) -> Result<(), Duration> {
    match limited.ask(&policy.tiers[0], &prompt(), Delivery::Hold).now_or_never().expect("it never waits") {
        Ok(_) => Ok(()),
        Err(Failure::Limited { retry_after }) => Err(retry_after),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_place_is_free_again_exactly_when_it_was_said() {
    let (policy, clock) = (policy("{ requests_per_minute: 60, burst: 2 }"), ManualClock::default());
    let limited = Limited::new(Always, &policy, &clock);
    assert_eq!(ask(&limited, &policy), Ok(()));
    assert_eq!(ask(&limited, &policy), Ok(()));
    assert_eq!(ask(&limited, &policy), Err(Duration::from_secs(1)));
    clock.advance_to(Duration::from_nanos(999_999_999));
    assert_eq!(ask(&limited, &policy), Err(Duration::from_nanos(1)));
    clock.advance_to(Duration::from_secs(1));
    assert_eq!(ask(&limited, &policy), Ok(()));
    assert_eq!(ask(&limited, &policy), Err(Duration::from_secs(1)));
}

proptest! {
    /// A bucket that holds `burst` and fills at the rate, in whole nanoseconds:
    /// the plainest model there is, step by step the same as the limiter.
    #[test]
    fn the_limiter_is_a_bucket(rate in 1u32..5000, burst in 1u32..50, steps in proptest::collection::vec(0u64..3_000_000_000, 1..200)) {
        let policy = policy(&format!("{{ requests_per_minute: {rate}, burst: {burst} }}"));
        let clock = ManualClock::default();
        let limited = Limited::new(Always, &policy, &clock);
        let cost = (Duration::from_mins(1) / rate).as_nanos();
        let full = cost * u128::from(burst);
        let (mut level, mut then) = (full, 0u128);
        for step in steps {
            clock.advance_to(clock.now() + Duration::from_nanos(step));
            let now = clock.now().as_nanos();
            level = full.min(level + (now - then));
            then = now;
            let expected = level >= cost;
            if expected {
                level -= cost;
            }
            prop_assert_eq!(ask(&limited, &policy).is_ok(), expected, "at {} ns", now);
        }
    }
}

#[tokio::test]
async fn over_its_limit_a_tier_escalates_and_the_last_says_when_to_come_back() {
    let fake = support::Fake::start(|_| {
        let mut answer = support::response(200, "application/json", support::completion("x", &[-0.01]).to_string());
        answer.headers_mut().insert("x-ratelimit-remaining-requests", "1".parse().expect("ascii"));
        answer
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = support::two_tiers(folder.path(), &fake.base_url, ", limits: { requests_per_minute: 1, burst: 3 }");
    let served = support::Served::start(Some(&policy));
    let client = support::client();
    let (mut tiers, mut left) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let body = r#"{"model":"two","messages":[]}"#;
        let response =
            client.post(format!("{}/v1/chat/completions", served.url)).body(body).send().await.expect("a response");
        let tier = response.headers().get("x-cascade-tier").map(|t| t.to_str().expect("ascii").to_owned());
        let remaining = response.headers().get("x-ratelimit-remaining-requests");
        left.extend(remaining.map(|n| n.to_str().expect("ascii").to_owned()));
        if tier.is_none() {
            assert_eq!(response.status(), 429);
            let wait: u64 = response.headers()["retry-after"].to_str().expect("ascii").parse().expect("seconds");
            assert!((50..=60).contains(&wait), "{wait}");
            assert_eq!(response.headers()["x-should-retry"], "true");
            let text = response.text().await.expect("a body");
            assert!(text.contains(r#""code":"rate_limit_exceeded""#), "{text}");
            assert!(text.contains("small: its limit is reached; a place is free in "), "{text}");
        }
        tiers.push(tier.unwrap_or("none".to_owned()));
    }
    // The upstream says 1 all along: ours is told where it is tighter.
    assert_eq!(left, ["1", "1", "0", "1", "1", "0"]);
    assert_eq!(tiers, ["small", "small", "small", "large", "large", "large", "none"]);
    assert_eq!(
        fake.models(),
        ["small-model", "small-model", "small-model", "large-model", "large-model", "large-model"]
    );
}
