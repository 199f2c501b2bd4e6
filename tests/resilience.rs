//! What becomes of a prompt where upstreams fail: retries, failover, breakers, and
//! the best answer so far.

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use prompt_cascade::answer::Answer;
use prompt_cascade::clock::{Clock, ManualClock};
use prompt_cascade::openai::Endpoint;
use prompt_cascade::policy::{BreakerRule, Outside, Policy, Tier};
use prompt_cascade::prompt::Prompt;
use prompt_cascade::trace::{Failure, Phase};
use prompt_cascade::upstream::{Balanced, Breaker, Delivery, Reply, Said, Standing, Upstream};
use proptest::prelude::*;
use support::{Fake, Served, client, completion, response};

/// An upstream that fails as often as it is told to, and notes what it was asked.
#[derive(Clone)]
struct Flaky {
    name: &'static str,
    failures: Arc<Mutex<Vec<Failure>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Upstream for Flaky {
    async fn ask(&self, tier: &Tier, _: &Prompt, _: Delivery) -> Result<Reply, Failure> {
        self.asked.lock().expect("no panic").push(format!("{}:{}", self.name, tier.model));
        if let Some(failure) = self.failures.lock().expect("no panic").pop() {
            return Err(failure);
        }
        let answer = Answer::from_body(Endpoint::Chat, completion("x", &[]).to_string().into()).expect("an answer");
        Ok(Reply::live(Said::Whole(answer.into())))
    }
}

fn policy(tier: &str) -> Policy {
    let source = format!(
        "name: p\nupstreams: {{ a: {{ fixtures: embedded, breaker: {{ failures: 3, open_for: 10s }} }}, b: {{ fixtures: embedded }} }}\ntiers:\n  - {{ name: t, model: m, {tier} }}\n"
    );
    Policy::parse("p", &source, Outside::none()).unwrap_or_else(|p| panic!("{p}")).0
}

struct Setup {
    policy: Policy,
    clock: ManualClock,
    balanced: Balanced<Flaky, ManualClock>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Two upstreams of one tier that fail like this, the last failure first.
fn setup(tier: &str, failures: [&[Failure]; 2]) -> Setup {
    let (policy, clock, asked) = (policy(tier), ManualClock::default(), Arc::default());
    let flaky = |name, failures: &[Failure]| Flaky {
        name,
        failures: Arc::new(Mutex::new(failures.to_vec())),
        asked: Arc::clone(&asked),
    };
    let origins = vec![flaky("a", failures[0]), flaky("b", failures[1])];
    let balanced = Balanced::new(origins, &policy, clock.clone(), &[]);
    Setup { policy, clock, balanced, asked }
}

impl Setup {
    /// Asks, all waits taken; says how long they were.
    fn ask_with(&self, prompt: &str, delivery: Delivery) -> (Result<(), Failure>, Duration) {
        let prompt = Prompt::parse(Endpoint::Chat, prompt.to_owned().into()).expect("a prompt");
        let began = self.clock.now();
        let mut asked = Box::pin(self.balanced.ask(&self.policy.tiers[0], &prompt, delivery));
        loop {
            if let Some(done) = asked.as_mut().now_or_never() {
                return (done.map(|_| ()), self.clock.now().saturating_sub(began));
            }
            self.clock.advance_to(self.clock.next_due().expect("it waits for time only"));
        }
    }

    fn ask(&self, delivery: Delivery) -> (Result<(), Failure>, Duration) {
        self.ask_with(r#"{"model":"p","messages":[]}"#, delivery)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }
}

fn refused(status: u16, retry_after_ms: Option<u64>) -> Failure {
    Failure::Refused { status, body: Bytes::new(), retry_after: retry_after_ms.map(Duration::from_millis) }
}

fn down() -> Failure {
    Failure::Unreachable("down".to_owned())
}

#[test]
fn what_is_served_whatever_it_says_is_tried_again_after_growing_waits() {
    let s = setup("upstream: a", [&[refused(502, None), down()], &[]]);
    let (done, waited) = s.ask(Delivery::Flow);
    assert_eq!(done, Ok(()));
    assert_eq!(s.asked(), ["a:m", "a:m", "a:m"]);
    // 125 to 250 ms, then 250 to 500 ms.
    assert!((375..=750).contains(&waited.as_millis()), "{waited:?}");

    let s = setup("upstream: a", [&[down()], &[]]);
    assert_eq!(s.ask(Delivery::Hold), (Err(down()), Duration::ZERO), "a larger tier is there to be asked");
    let s = setup("upstream: a, retries: { times: 1, backoff: 10ms }", [&[down()], &[]]);
    assert_eq!(s.ask(Delivery::Hold).0, Ok(()));
}

#[test]
fn an_upstream_is_given_the_time_it_asks_for_or_is_not_tried_again() {
    let s = setup("upstream: a", [&[refused(429, Some(3000))], &[]]);
    assert_eq!(s.ask(Delivery::Flow), (Ok(()), Duration::from_secs(3)));
    let s = setup("upstream: a", [&[refused(429, Some(5000))], &[]]);
    assert_eq!(s.ask(Delivery::Flow), (Err(refused(429, Some(5000))), Duration::ZERO));
}

#[test]
fn a_pause_is_the_upstreams_that_asked_for_it_and_not_its_neighbours() {
    let s = setup("upstream: [{ name: a, weight: 1 }, { name: b, weight: 0 }]", [&[refused(429, Some(30_000))], &[]]);
    assert_eq!(s.ask(Delivery::Hold), (Ok(()), Duration::ZERO));
    assert_eq!(s.ask(Delivery::Hold), (Ok(()), Duration::ZERO));
    assert_eq!(s.asked(), ["a:m", "b:m", "b:m"], "a is left alone though nobody was refused");
    s.clock.advance_to(Duration::from_secs(30));
    assert_eq!(s.ask(Delivery::Hold), (Ok(()), Duration::ZERO));
    assert_eq!(s.asked(), ["a:m"]);
}

#[test]
fn what_is_wrong_with_one_upstream_need_not_be_with_another() {
    let took_its_time = Failure::TimedOut { phase: Phase::FirstByte, bound: Duration::from_secs(5) };
    for failure in [refused(401, None), refused(403, None), refused(404, None), took_its_time] {
        let s =
            setup("upstream: [{ name: a, weight: 1 }, { name: b, weight: 0 }]", [std::slice::from_ref(&failure), &[]]);
        assert_eq!(s.ask(Delivery::Hold), (Ok(()), Duration::ZERO), "{failure}");
        assert_eq!(s.asked(), ["a:m", "b:m"]);
    }
    // What is wrong with the prompt is wrong everywhere.
    let s = setup("upstream: [{ name: a, weight: 1 }, { name: b, weight: 0 }]", [&[refused(400, None)], &[]]);
    assert_eq!(s.ask(Delivery::Hold).0, Err(refused(400, None)));
    assert_eq!(s.asked(), ["a:m"]);
}

#[test]
fn nobody_waits_for_a_quota_that_is_used_up() {
    let body = Bytes::from_static(br#"{"error":{"message":"no money left","code": "insufficient_quota"}}"#);
    let failure = Failure::Refused { status: 429, body, retry_after: None };
    let s = setup("upstream: a", [std::slice::from_ref(&failure), &[]]);
    assert_eq!(s.ask(Delivery::Flow), (Err(failure), Duration::ZERO));
    assert_eq!(s.asked(), ["a:m"]);
}

#[test]
fn only_what_is_safe_is_tried_again() {
    let took_its_time = Failure::TimedOut { phase: Phase::WholeAnswer, bound: Duration::from_secs(5) };
    for failure in [refused(400, None), refused(404, None), refused(401, None), took_its_time] {
        let s = setup("upstream: a", [std::slice::from_ref(&failure), &[]]);
        assert_eq!(s.ask(Delivery::Flow), (Err(failure), Duration::ZERO));
        assert_eq!(s.asked(), ["a:m"]);
    }
    // What the provider keeps may be there already, unless nothing was done.
    let kept = r#"{"model":"p","store":true,"messages":[]}"#;
    let connect = Failure::TimedOut { phase: Phase::Connect, bound: Duration::from_secs(5) };
    for (failure, times) in [(down(), 1), (refused(500, None), 1), (refused(503, None), 2), (connect, 2)] {
        let s = setup("upstream: a", [std::slice::from_ref(&failure), &[]]);
        assert_eq!(s.ask_with(kept, Delivery::Flow).0.is_ok(), times == 2, "{failure}");
        assert_eq!(s.asked().len(), times, "{failure}");
    }
}

#[test]
fn another_upstream_is_asked_at_once_under_its_own_name_for_the_model() {
    let two = "upstream: [{ name: a }, { name: b, weight: 0, model: other }]";
    let s = setup(two, [&[down()], &[]]);
    assert_eq!(s.ask(Delivery::Hold), (Ok(()), Duration::ZERO));
    assert_eq!(s.asked(), ["a:m", "b:other"]);
    assert_eq!(s.ask(Delivery::Hold), (Ok(()), Duration::ZERO));
    assert_eq!(s.asked(), ["a:m"], "one of weight 0 only stands in");
    let s = setup(two, [&[refused(400, None)], &[]]);
    assert!(s.ask(Delivery::Hold).0.is_err());
    assert_eq!(s.asked(), ["a:m"], "a bad request is bad everywhere");
}

#[test]
fn prompts_are_shared_out_by_weight() {
    let s = setup("upstream: [{ name: a, weight: 3 }, { name: b, weight: 1 }]", [&[], &[]]);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..4000 {
        assert_eq!(s.ask(Delivery::Hold).0, Ok(()));
        *counts.entry(s.asked().remove(0)).or_default() += 1;
    }
    // Six standard deviations of a share of 3 in 4: four are left once in 16,000 runs.
    assert!((2835..=3165).contains(&counts["a:m"]), "{counts:?}");
}

#[test]
fn an_upstream_that_keeps_failing_is_left_alone_and_then_tried_by_one() {
    let s = setup("upstream: a, retries: { times: 0 }", [&[down(), down(), down(), down()], &[]]);
    for _ in 0..3 {
        assert_eq!(s.ask(Delivery::Flow).0, Err(down()));
    }
    let open = |seconds| Err(Failure::Open { retry_after: Duration::from_secs(seconds) });
    assert_eq!(s.ask(Delivery::Flow).0, open(10));
    s.clock.advance_to(Duration::from_secs(10));
    assert_eq!(s.ask(Delivery::Flow).0, Err(down()), "one tries it");
    assert_eq!(s.ask(Delivery::Flow).0, open(10));
    s.clock.advance_to(Duration::from_secs(20));
    assert_eq!(s.ask(Delivery::Flow).0, Ok(()));
    assert_eq!(s.ask(Delivery::Flow).0, Ok(()));
    assert_eq!(s.asked().len(), 6);
    assert_eq!(s.balanced.breakers()[0].breaker.standing(s.clock.now()), Standing::Closed);
}

proptest! {
    /// Against the plainest model: times of failures in a row, and one try in each
    /// span that it is open for.
    #[test]
    fn a_breaker_opens_closes_and_lets_one_try(
        limit in 1u32..5,
        open_for in 1u64..20,
        steps in proptest::collection::vec((0u64..10, any::<bool>(), any::<bool>()), 1..200),
    ) {
        let rule = BreakerRule { failures: NonZeroU32::new(limit).expect("above 0"), open_for: Duration::from_secs(open_for) };
        let breaker = Breaker::new(rule);
        let (mut now, mut in_a_row, mut shut_until) = (0, 0, None::<u64>);
        for (seconds, fails, is_given_up) in steps {
            now += seconds;
            let time = Duration::from_secs(now);
            let wanted = match shut_until {
                Some(until) if now < until => Err(Duration::from_secs(until - now)),
                _ => Ok(()),
            };
            prop_assert_eq!(breaker.enter(time), wanted);
            if wanted.is_err() {
                prop_assert!(breaker.standing(time) != Standing::Closed);
                continue;
            }
            if shut_until.is_some() {
                shut_until = Some(now + open_for);
            }
            // A client that is gone: nothing is noted, and nothing is held.
            if is_given_up {
                continue;
            }
            breaker.note(time, fails);
            in_a_row = if fails { in_a_row + 1 } else { 0 };
            if !fails {
                shut_until = None;
            } else if shut_until.is_some() || in_a_row >= limit {
                shut_until = Some(now + open_for);
                in_a_row = 0;
            }
            prop_assert_eq!(breaker.standing(time) == Standing::Closed, shut_until.is_none());
        }
    }
}

/// A policy of two tiers whose larger one fails, over a real socket.
async fn larger_fails(extra: &str) -> (Served, Fake, tempfile::TempDir) {
    let fake = Fake::start(|seen| match seen.json()["model"].as_str() {
        Some("small-model") => response(200, "application/json", completion("perhaps", &[-1.0]).to_string()),
        _ => response(500, "text/plain", "broken"),
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = support::two_tiers(folder.path(), &fake.base_url, ", retries: { times: 1, backoff: 1ms }");
    support::append(&policy, extra);
    (Served::start(Some(&policy)), fake, folder)
}

#[tokio::test]
async fn the_best_answer_so_far_stands_in_and_says_so() {
    for (extra, status) in [("", 200), ("when_all_fail: error\n", 502)] {
        let (served, fake, _folder) = larger_fails(extra).await;
        for stream in [false, true] {
            let body = format!(r#"{{"model":"two","stream":{stream},"messages":[]}}"#);
            let ask = client().post(format!("{}/v1/chat/completions", served.url)).body(body);
            let back = ask.send().await.expect("a response");
            assert_eq!(back.status(), status);
            let headers = back.headers().clone();
            let text = back.text().await.expect("a body");
            if status == 200 {
                assert_eq!(headers["x-cascade-stand-in"], "true");
                assert_eq!(headers["x-cascade-tier"], "small");
                assert_eq!(headers["x-cascade-attempts"], "small:rejected(0.36<0.70),large:failed(refused 500)");
                assert!(text.contains("perhaps"), "{text}");
            } else {
                assert_eq!(headers["x-should-retry"], "false");
            }
        }
        assert_eq!(fake.models(), ["small-model", "large-model", "large-model"].repeat(2));
    }
}

#[tokio::test]
async fn breakers_are_among_the_metrics() {
    let calls = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |_| {
        calls.fetch_add(1, Ordering::Relaxed);
        response(500, "text/plain", "broken")
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let policy = support::two_tiers(folder.path(), &fake.base_url, ", retries: { times: 5, backoff: 1ms }");
    let (served, metrics) = Served::start_with_metrics(&policy);
    let ask = client().post(format!("{}/v1/chat/completions", served.url)).body(r#"{"model":"large","messages":[]}"#);
    let back = ask.send().await.expect("a response");
    // The fifth failure opens it, and the wait for its end is longer than the policy has.
    assert_eq!((back.status().as_u16(), fake.models().len()), (503, 5));
    assert_eq!(back.headers()["x-should-retry"], "true");
    let text = client().get(metrics).send().await.expect("metrics").text().await.expect("a body");
    assert!(text.contains("cascade_breaker_state{tier=\"small\",upstream=\"up\"} 0\n"), "{text}");
    assert!(text.contains("cascade_breaker_state{tier=\"large\",upstream=\"up\"} 2\n"), "{text}");
}
