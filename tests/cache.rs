//! The cache of a tier, in simulated time: what is remembered, for how long,
//! and how often the upstream is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use prompt_cascade::answer::Answer;
use prompt_cascade::clock::{Clock, ManualClock};
use prompt_cascade::openai::Endpoint;
use prompt_cascade::policy::{Outside, Policy, Tier};
use prompt_cascade::prompt::Prompt;
use prompt_cascade::trace::{CacheUse, Failure};
use prompt_cascade::upstream::{Cached, Delivery, Reply, Said, Upstream};

/// Counts how often it is asked; fails the first time if told to.
struct Counting {
    asked: Arc<AtomicUsize>,
    fails_first: bool,
    clock: ManualClock,
}

impl Upstream for Counting {
    async fn ask(&self, _: &Tier, _: &Prompt, _: Delivery) -> Result<Reply, Failure> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        self.clock.sleep(Duration::from_secs(1)).await;
        if self.fails_first && number == 0 {
            return Err(Failure::Unreachable("for the test".to_owned()));
        }
        let body =
            format!(r#"{{"choices":[{{"index":0,"message":{{"content":"{number}"}},"finish_reason":"stop"}}]}}"#);
        Ok(Reply::live(Said::Whole(Arc::new(Answer::from_body(Endpoint::Chat, body.into()).expect("an answer")))))
    }
}

struct Setup {
    cached: Cached<Counting, ManualClock>,
    policy: Policy,
    clock: ManualClock,
    asked: Arc<AtomicUsize>,
}

fn setup(cache: &str, fails_first: bool) -> Setup {
    let source = format!(
        "name: p\nupstreams: {{ u: {{ fixtures: embedded }} }}\ntiers:\n  \
         - {{ name: a, model: m, upstream: u, cache: {cache}, accept: {{ gates: [not_empty] }} }}\n  \
         - {{ name: b, model: m, upstream: u, cache: {cache} }}\n"
    );
    let policy = Policy::parse("p", &source, Outside::none()).unwrap_or_else(|p| panic!("{p}")).0;
    let (clock, asked) = (ManualClock::default(), Arc::new(AtomicUsize::new(0)));
    let inner = Counting { asked: asked.clone(), fails_first, clock: clock.clone() };
    Setup { cached: Cached::new(inner, &policy, clock.clone()).evicting_at_once(), policy, clock, asked }
}

fn prompt(body: &str) -> Prompt {
    Prompt::parse(Endpoint::Chat, body.to_owned().into()).expect(body)
}

fn cold(content: &str) -> Prompt {
    prompt(&format!(r#"{{"model":"x","temperature":0,"messages":[{{"content":"{content}"}}]}}"#))
}

impl Setup {
    /// Asks the tier `tier`, letting simulated time pass as it must.
    fn ask(&self, tier: usize, prompt: &Prompt) -> (CacheUse, String) {
        self.ask_all(&[(tier, prompt)]).remove(0).expect("an answer")
    }

    fn ask_all(&self, questions: &[(usize, &Prompt)]) -> Vec<Result<(CacheUse, String), Failure>> {
        let all = join_all(questions.iter().map(|(tier, prompt)| async {
            let reply = self.cached.ask(&self.policy.tiers[*tier], prompt, Delivery::Hold).await?;
            let Said::Whole(answer) = reply.said else { panic!("a whole answer") };
            Ok((reply.cache, answer.choices[0].text.clone()))
        }));
        let mut all = Box::pin(all);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..100 {
            if let std::task::Poll::Ready(answers) = all.as_mut().poll(&mut context) {
                return answers;
            }
            if let Some(due) = self.clock.next_due() {
                self.clock.advance_to(due);
            }
        }
        panic!("it never answers");
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn an_answer_is_forgotten_exactly_when_its_time_is_up() {
    let s = setup("{ ttl: 10s }", false);
    let p = cold("q");
    assert_eq!(s.ask(0, &p), (CacheUse::Miss, "0".to_owned()));
    let stored_at = s.clock.now();
    s.clock.advance_to(stored_at + Duration::from_nanos(9_999_999_999));
    assert_eq!(s.ask(0, &p), (CacheUse::Hit, "0".to_owned()));
    s.clock.advance_to(stored_at + Duration::from_secs(10));
    assert_eq!(s.ask(0, &p), (CacheUse::Miss, "1".to_owned()));
}

#[test]
fn equal_prompts_in_flight_are_asked_once() {
    let s = setup("{}", false);
    let p = cold("q");
    let answers = s.ask_all(&[(0, &p), (0, &p), (0, &p)]);
    let uses: Vec<CacheUse> = answers.into_iter().map(|a| a.expect("an answer").0).collect();
    assert_eq!(uses, [CacheUse::Miss, CacheUse::Coalesced, CacheUse::Coalesced]);
    assert_eq!(s.asked(), 1);
}

#[test]
fn a_failure_is_shared_by_those_who_wait_and_then_forgotten() {
    let s = setup("{}", true);
    let p = cold("q");
    let answers = s.ask_all(&[(0, &p), (0, &p)]);
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert_eq!(s.ask(0, &p).0, CacheUse::Miss);
    assert_eq!(s.asked(), 2);
}

#[test]
fn tiers_and_different_prompts_do_not_share() {
    let s = setup("{}", false);
    for (tier, p) in [
        (0, cold("q")),
        (1, cold("q")),
        (0, cold("r")),
        (0, prompt(r#"{"model":"x","temperature":0,"messages":[{"content":"q"}],"seed":1}"#)),
        (0, prompt(r#"{"model":"x","temperature":0,"messages":[{"content":"q"}],"max_tokens":5}"#)),
    ] {
        assert_eq!(s.ask(tier, &p).0, CacheUse::Miss, "{:?}", p.body());
    }
    for other in [
        r#"{"model":"x","temperature":0,"messages":[{"content":"q","content":"r"}]}"#,
        r#"{"model":"x","temperature":0,"messages":[{"content":"r","content":"q"}]}"#,
    ] {
        assert_eq!(s.ask(0, &prompt(other)).0, CacheUse::Miss, "a name given twice is another prompt: {other}");
    }
    for same in [
        r#"{"model":"y","temperature":0,"messages":[{"content":"q"}]}"#,
        r#"{"messages":[ {"content":"\u0071"} ],"temperature":0,"model":"x","stream":true,"user":"me"}"#,
    ] {
        assert_eq!(s.ask(0, &prompt(same)).0, CacheUse::Hit, "{same}");
    }
}

#[test]
fn sampled_answers_are_remembered_only_where_the_policy_says_so() {
    let warm = prompt(r#"{"model":"x","messages":[{"content":"q"}]}"#);
    let s = setup("{}", false);
    assert_eq!(s.ask(0, &warm).0, CacheUse::Bypass);
    assert_eq!(s.ask(0, &warm).0, CacheUse::Bypass);
    let s = setup("{ sampled: true }", false);
    assert_eq!(s.ask(0, &warm).0, CacheUse::Miss);
    assert_eq!(s.ask(0, &warm).0, CacheUse::Hit);
}

#[test]
fn capacity_is_in_bytes_and_the_oldest_answers_go_first() {
    let s = setup("{ capacity: 8KiB }", false);
    let prompts: Vec<Prompt> = (0..100).map(|n| cold(&n.to_string())).collect();
    for p in &prompts {
        assert_eq!(s.ask(0, p).0, CacheUse::Miss);
    }
    let kept: Vec<usize> = (0..100).filter(|n| s.ask(0, &prompts[*n]).0 == CacheUse::Hit).collect();
    assert!(kept.is_empty(), "asking in the same order finds each just evicted: {kept:?}");
    assert_eq!(s.ask(0, &prompts[99]).0, CacheUse::Hit);
}
