//! The limits of a tier: exact in simulated time, kept over a real socket.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use http::HeaderMap;
use prompt_cascade::answer::Answer;
use prompt_cascade::clock::{Clock, ManualClock};
use prompt_cascade::openai::Endpoint;
use prompt_cascade::policy::{Outside, Policy, RateRule, Tier};
use prompt_cascade::prompt::Prompt;
use prompt_cascade::rate::Rate;
use prompt_cascade::trace::{Bound, Failure};
use prompt_cascade::upstream::{Balanced, Delivery, Flow, Limited, Reply, Said, Upstream};
use proptest::prelude::*;
use std::num::NonZeroU32;

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

/// An upstream that makes of each prompt what a test says, after a second.
struct Scripted<F>(ManualClock, F);

impl<F: Fn() -> Result<Said, Failure> + Send + Sync + 'static> Upstream for Scripted<F> {
    async fn ask(&self, _: &Tier, _: &Prompt, _: Delivery) -> Result<Reply, Failure> {
        self.0.sleep(Duration::from_secs(1)).await;
        self.1().map(Reply::live)
    }
}

/// An answer that counts 10 tokens of prompt and 5 of answer.
fn counted() -> Answer {
    Answer::from_body(Endpoint::Chat, support::completion("x", &[]).to_string().into()).expect("an answer")
}

/// A prompt of about 0 tokens whose answer has at most 90.
fn bounded() -> Prompt {
    Prompt::parse(Endpoint::Chat, r#"{"model":"p","max_tokens":90,"messages":[]}"#.into()).expect("a prompt")
}

/// What becomes of a prompt that is asked now and given a second's time.
fn ask_for_a_second<U: Upstream>(
    limited: &Limited<U, ManualClock>,
    policy: &Policy,
    clock: &ManualClock,
) -> Result<Said, Failure> {
    let prompt = bounded();
    let asked = limited.ask(&policy.tiers[0], &prompt, Delivery::Flow);
    let mut asked = std::pin::pin!(asked);
    if let Some(done) = asked.as_mut().now_or_never() {
        return done.map(|reply| reply.said);
    }
    clock.advance_to(clock.now() + Duration::from_secs(1));
    asked.now_or_never().expect("a second has passed").map(|reply| reply.said)
}

fn why(result: Result<Said, Failure>) -> Option<(Bound, Duration)> {
    match result {
        Ok(_) => None,
        Err(Failure::Limited { by, retry_after }) => Some((by, retry_after)),
        Err(other) => panic!("{other}"),
    }
}

/// Whether it is let through now, else when to try again.
fn ask(limited: &Limited<Always, ManualClock>, policy: &Policy) -> Result<(), Duration> {
    match limited.ask(&policy.tiers[0], &prompt(), Delivery::Hold).now_or_never().expect("it never waits") {
        Ok(_) => Ok(()),
        Err(Failure::Limited { retry_after, .. }) => Err(retry_after),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_place_is_free_again_exactly_when_it_was_said() {
    let (policy, clock) = (policy("{ requests_per_minute: 60, burst: 2 }"), ManualClock::default());
    let limited = Limited::new(Always, &policy, &clock, None);
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
        let limited = Limited::new(Always, &policy, &clock, None);
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
            assert!(text.contains("small: its limit of requests per minute is reached; try again in "), "{text}");
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

proptest! {
    /// The same bucket, of amounts that are put right afterwards.
    #[test]
    fn what_was_taken_is_put_right_exactly(
        rate in 1u32..5000,
        burst in 1u32..200,
        steps in proptest::collection::vec((0u64..3_000_000_000, 1u32..300, 0u64..400), 1..200),
    ) {
        let rule = RateRule { per_minute: NonZeroU32::new(rate).expect("above 0"), burst: NonZeroU32::new(burst).expect("above 0") };
        let clock = ManualClock::default();
        // A bucket begins full; governor counts from its first use, at a time above 0.
        clock.advance_to(Duration::from_secs(1));
        let limiter = Rate::new(rule, &clock);
        let cost = i128::try_from(rule.period().as_nanos()).expect("small");
        let full = cost * i128::from(burst);
        let (mut level, mut then) = (full, clock.now());
        for (step, amount, used) in steps {
            clock.advance_to(clock.now() + Duration::from_nanos(step));
            level = full.min(level + i128::try_from(clock.now().saturating_sub(then).as_nanos()).expect("small"));
            then = clock.now();
            let amount = NonZeroU32::new(amount).expect("above 0");
            let taken = i128::from(amount.min(rule.burst).get());
            match limiter.take(amount) {
                Ok((got, left)) => {
                    prop_assert!(level >= taken * cost, "{level} is too little for {taken}");
                    level -= taken * cost;
                    prop_assert_eq!(i128::from(got.get()), taken);
                    prop_assert_eq!(i128::from(left), level / cost);
                    limiter.put_right(got, used);
                    let used = i128::from(used).min(taken + i128::from(burst));
                    level = full.min(level + (taken - used) * cost);
                }
                Err(wait) => {
                    prop_assert!(level < taken * cost, "{level} is enough for {taken}");
                    prop_assert_eq!(i128::try_from(wait.as_nanos()).expect("small"), taken * cost - level);
                }
            }
        }
    }
}

#[tokio::test]
async fn tokens_are_taken_by_estimate_and_put_right_by_what_is_counted() {
    let (policy, clock) = (policy("{ tokens_per_minute: 100 }"), ManualClock::default());
    let limited = Limited::new(Scripted(clock.clone(), || Ok(Said::Whole(counted().into()))), &policy, &clock, None);
    // 90 are taken and 15 used: 85 are left, and one more comes back in the second it takes.
    assert!(why(ask_for_a_second(&limited, &policy, &clock)).is_none());
    let after = |tokens: u64| Duration::from_millis(tokens * 600);
    assert_eq!(
        why(ask_for_a_second(&limited, &policy, &clock)),
        Some((Bound::Tokens, after(5).saturating_sub(Duration::from_secs(1))))
    );
    clock.advance_to(clock.now() + after(5));
    assert!(why(ask_for_a_second(&limited, &policy, &clock)).is_none());
}

#[tokio::test]
async fn a_failure_gives_its_tokens_back() {
    let (policy, clock) = (policy("{ tokens_per_minute: 100 }"), ManualClock::default());
    let fails = || Err(Failure::Unreachable("down".to_owned()));
    let limited = Limited::new(Scripted(clock.clone(), fails), &policy, &clock, None);
    for _ in 0..20 {
        let failed = ask_for_a_second(&limited, &policy, &clock);
        assert!(matches!(failed, Err(Failure::Unreachable(_))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_flow_holds_its_permit_and_counts_at_its_end() {
    let (policy, clock) = (policy("{ concurrent: 1, tokens_per_minute: 100 }"), ManualClock::default());
    let frames = || {
        let frames = [
            r#"{"choices":[{"index":0,"delta":{"content":"x"}}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#,
        ];
        let frames = stream::iter(frames.map(|frame| Ok(frame.into()))).boxed();
        Ok(Said::Flow(Flow { frames, headers: HeaderMap::new() }))
    };
    let limited = Limited::new(Scripted(clock.clone(), frames), &policy, &clock, None);
    let Ok(Said::Flow(mut flow)) = ask_for_a_second(&limited, &policy, &clock) else { panic!("no flow") };
    assert!(flow.frames.next().await.is_some());
    let second = Duration::from_secs(1);
    assert_eq!(why(ask_for_a_second(&limited, &policy, &clock)), Some((Bound::Concurrent, second)));
    assert!(flow.frames.next().await.is_some());
    assert!(flow.frames.next().await.is_none());
    drop(flow);
    // 15 of 100 were used: 90 are there again after 3 s.
    clock.advance_to(clock.now() + Duration::from_secs(3));
    let Ok(Said::Flow(flow)) = ask_for_a_second(&limited, &policy, &clock) else { panic!("no flow") };
    // One that nobody reads to its end gives its permit back, and keeps the estimate.
    drop(flow);
    assert!(matches!(why(ask_for_a_second(&limited, &policy, &clock)), Some((Bound::Tokens, _))));
}

#[tokio::test]
async fn who_waits_goes_on_when_there_is_a_place_or_the_wait_is_over() {
    let (policy, clock) = (policy("{ concurrent: 1, when_full: { wait: { up_to: 2500ms } } }"), ManualClock::default());
    let limited = Limited::new(Scripted(clock.clone(), || Ok(Said::Whole(counted().into()))), &policy, &clock, None);
    let prompt = bounded();
    let asked = (0..5).map(|number| {
        let asked = limited.ask(&policy.tiers[0], &prompt, Delivery::Hold);
        asked.map(move |done| {
            format!("{number} {}", done.map_or_else(|failure| failure.to_string(), |_| "answered".to_owned()))
        })
    });
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut done = Vec::new();
    for half_seconds in 0..8 {
        clock.advance_to(Duration::from_millis(500 * half_seconds));
        while let Some(Some(one)) = asked.next().now_or_never() {
            done.push(format!("{:.1} s: {one}", clock.now().as_secs_f64()));
        }
    }
    let full = "its limit of concurrent requests is reached; try again in 1.0 s";
    assert_eq!(
        done,
        [
            "1.0 s: 0 answered".to_owned(),
            "2.0 s: 1 answered".to_owned(),
            format!("2.5 s: 3 {full}"),
            format!("2.5 s: 4 {full}"),
            "3.0 s: 2 answered".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_tier_is_left_alone_when_its_upstream_asks_for_it() {
    let (policy, clock) = (policy("{ requests_per_minute: 6000 }"), ManualClock::default());
    let refused = || {
        let retry_after = Some(Duration::from_secs(30));
        Err(Failure::Refused { status: 429, body: bytes::Bytes::new(), retry_after })
    };
    let balanced = |script| Balanced::new(vec![Scripted(clock.clone(), script)], &policy, clock.clone(), &[]);
    let limited = Limited::new(balanced(refused), &policy, &clock, None);
    assert!(matches!(ask_for_a_second(&limited, &policy, &clock), Err(Failure::Refused { .. })));
    assert_eq!(why(ask_for_a_second(&limited, &policy, &clock)), Some((Bound::Pause, Duration::from_secs(30))));

    // Who is kept out takes nothing of the tier's own rate.
    for _ in 0..200 {
        assert!(matches!(why(ask_for_a_second(&limited, &policy, &clock)), Some((Bound::Pause, _))));
    }

    let used_up = || {
        let mut answer = counted();
        answer.headers.insert("x-ratelimit-remaining-tokens", "0".parse().expect("ascii"));
        answer.headers.insert("x-ratelimit-reset-tokens", "6s".parse().expect("ascii"));
        Ok(Said::Whole(answer.into()))
    };
    let balanced = |script| Balanced::new(vec![Scripted(clock.clone(), script)], &policy, clock.clone(), &[]);
    let limited = Limited::new(balanced(used_up), &policy, &clock, None);
    assert!(why(ask_for_a_second(&limited, &policy, &clock)).is_none(), "it has answered before it is full");
    assert_eq!(why(ask_for_a_second(&limited, &policy, &clock)), Some((Bound::Pause, Duration::from_secs(6))));
}

#[tokio::test]
async fn a_full_tier_that_refuses_keeps_the_larger_ones_unasked() {
    let fake = support::Fake::start(|_| {
        support::response(200, "application/json", support::completion("x", &[-0.01]).to_string())
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let limits = ", limits: { requests_per_minute: 1, when_full: refuse }";
    let served = support::Served::start(Some(&support::two_tiers(folder.path(), &fake.base_url, limits)));
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let ask = support::client().post(format!("{}/v1/chat/completions", served.url));
        statuses.push(ask.body(r#"{"model":"two","messages":[]}"#).send().await.expect("a response").status().as_u16());
    }
    assert_eq!(statuses, [200, 429]);
    assert_eq!(fake.models(), ["small-model"]);
}

#[test]
fn a_replay_ends_though_a_wait_was_longer_than_it_took() {
    use prompt_cascade::exchange::Exchange;
    use prompt_cascade::replay::Replay;
    let policy = policy("{ concurrent: 1, when_full: { wait: { up_to: 60s } } }");
    let mut replay = Replay::new(Arc::new(policy));
    let mut done = Vec::new();
    for (number, arrived_ms) in [0, 0, 120_000].into_iter().enumerate() {
        let line = serde_json::json!({"id": number.to_string(), "arrived_ms": arrived_ms, "path": "/v1/chat/completions",
            "request": {"model": "p", "messages": [{"role": "user", "content": number.to_string()}]},
            "answers": {"a": {"status": 200, "elapsed_ms": 1000.0, "body": support::completion("x", &[])}}});
        let exchange = Exchange::parse(&line.to_string().into()).expect("an exchange");
        replay.push(Arc::new(exchange), &mut done);
    }
    replay.finish(&mut done);
    let took: Vec<u128> = done.iter().map(|replayed| replayed.trace.elapsed.as_millis()).collect();
    assert_eq!(took, [1000, 2000, 1000]);
}
