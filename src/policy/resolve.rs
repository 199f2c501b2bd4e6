//! From the file as written to a policy that cannot be wrong: references,
//! and the rules that join several keys.

use std::ops::Range;

use super::acceptance::AcceptFile;
use super::containers::At;
use super::file::{DriftFile, EmbeddingsCacheFile, PassthroughFile, PolicyFile, UpstreamFile};
use super::problem::Problem;
use super::reference::refer;
use super::shape::Shape;
use super::{
    Accept, Budget, CacheRule, Check, DriftRule, Passthrough, Policy, PolicyTest, RetryRule, Route, StreamMode, Tier,
    Timeouts, Unscored, UpstreamKind, UpstreamPlace, budget, caches, calibration_file, ladder, limits, record, routing,
    scorers, upstreams, yaml,
};
use crate::price::Price;
use crate::scoring::{Score, Scorer};

/// Notes what is wrong; none where too much is missing to go on.
pub(super) fn resolve(file: &PolicyFile, read: &[String], problems: &mut Vec<Problem>) -> Option<Policy> {
    if file.tiers.value.is_empty() {
        if !file.tiers.at.is_empty() {
            problems.push(
                Problem::new(file.tiers.at.clone(), "a policy needs at least one tier").help("add one under `tiers:`"),
            );
        }
        return None;
    }
    let upstreams: Vec<_> = file.upstreams.0.iter().map(|(name, up)| upstream(name, up, problems)).collect();
    let tiers: Vec<_> = (0..file.tiers.value.len()).map(|index| tier(file, index, problems)).collect();
    distinct_names(file, problems);
    unused_upstreams(file, problems);
    let routes: Vec<_> = file.routes.iter().map(|r| routing::route(&r.value, file, problems)).collect();
    routing::unreachable_routes(file, problems);
    let passthrough = file.passthrough.as_ref().map(|p| passthrough(p, file, problems));
    let tests: Vec<_> = file.tests.iter().map(|t| test(&t.value, file, problems)).collect();
    let routes: Vec<Route> = routes.into_iter().collect::<Option<_>>()?;
    let stopping = file.optimal_stopping.as_ref().filter(|given| calibration_file::fits(given, file, problems));
    if let Some(given) = &file.optimal_stopping {
        streams_that_are_judged(file.stream.mode, &given.at, problems);
        file.budget.iter().for_each(|budget| budget::beside_a_calibration(budget, problems));
    }
    let effective = yaml::print(&file.node());
    let mut digest = blake3::Hasher::new();
    digest.update(effective.as_bytes());
    read.iter().for_each(|text| _ = digest.update(text.as_bytes()));
    Some(Policy {
        name: file.name.0.clone(),
        upstreams: upstreams.into_iter().collect::<Option<_>>()?,
        ladders: ladder::Ladders::new(file.tiers.value.len(), &routes, file.named_tier),
        tiers: tiers.into_iter().collect::<Option<_>>()?,
        routes,
        passthrough: match passthrough {
            Some(resolved) => Some(resolved?),
            None => None,
        },
        keys: file.keys.clone(),
        cors: file.cors.iter().filter_map(|origin| origin_of(origin, problems)).collect(),
        budget: file.budget.as_ref().map_or(Budget::default(), |budget| (&budget.value).into()),
        when_all_fail: file.when_all_fail,
        stream: file.stream.mode,
        keep_alive: file.stream.keep_alive,
        conversation_stay: file.conversations.as_ref().map(|c| c.stay),
        tests: tests.into_iter().collect::<Option<_>>()?,
        answer_pattern: file.answer_pattern.clone(),
        stopping: stopping.and_then(|given| given.value.read.clone()),
        drift: file.drift.as_ref().and_then(|drift| drift_rule(drift, file, problems)),
        record: file.record.as_ref().and_then(|given| record::rule(given, problems)),
        what_scores_rest_on: calibration_file::what_scores_rest_on(file),
        digest: digest.finalize().to_hex()[..12].to_owned(),
        effective,
    })
}

fn upstream(name: &At<String>, file: &UpstreamFile, problems: &mut Vec<Problem>) -> Option<UpstreamPlace> {
    let kind = match (&file.base_url, &file.fixtures) {
        (Some(base_url), None) => {
            let super::file::TimeoutsFile { connect, first_byte, idle, total } = file.timeouts;
            UpstreamKind::Live {
                base_url: base_url.value.0.clone(),
                api_key: file.api_key.as_ref().map(|k| k.value.clone()),
                timeouts: Timeouts { connect, first_byte, idle, total },
            }
        }
        (None, Some(fixtures)) => {
            if let Some(key) = &file.api_key {
                problems.push(Problem::new(key.at.clone(), "recorded exchanges need no key").help("remove `api_key`"));
            }
            UpstreamKind::Fixtures(fixtures.value.clone())
        }
        (None, None) => {
            let what = format!("upstream `{}` leads nowhere", name.value);
            problems.push(Problem::new(name.at.clone(), what).help("give it a `base_url`, or `fixtures`"));
            return None;
        }
        (Some(_), Some(fixtures)) => {
            let what = format!("upstream `{}` is both live and recorded", name.value);
            problems.push(Problem::new(fixtures.at.clone(), what).help("keep `base_url` or `fixtures`"));
            return None;
        }
    };
    Some(UpstreamPlace { name: name.value.clone(), kind, breaker: (&file.breaker).into() })
}

/// An origin as browsers write it: scheme, host, port, and nothing after.
fn origin_of(written: &At<String>, problems: &mut Vec<Problem>) -> Option<String> {
    let host = written.value.strip_prefix("https://").or_else(|| written.value.strip_prefix("http://"));
    if host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
    }) {
        return Some(written.value.clone());
    }
    let what = format!("`{}` is not an origin", written.value);
    problems.push(Problem::new(written.at.clone(), what).help("write scheme, host and port only: https://app.example"));
    None
}

fn passthrough(file: &PassthroughFile, policy: &PolicyFile, problems: &mut Vec<Problem>) -> Option<Passthrough> {
    let known = policy.upstreams.0.iter().map(|(name, _)| name.value.as_str());
    let upstream = refer(&file.upstream, "upstream", known, problems)?;
    if policy.upstreams.0[upstream].1.base_url.is_none() {
        let what = format!("`{}` answers from recorded exchanges: nothing can pass through it", file.upstream.value);
        problems.push(Problem::new(file.upstream.at.clone(), what).help("name an upstream with a `base_url`"));
    }
    let remembered = |c: &EmbeddingsCacheFile| CacheRule {
        capacity: c.capacity.0,
        ttl: c.ttl,
        sampled: true,
        shared: true,
        for_smaller: false,
    };
    let embeddings_cache = file.embeddings_cache.as_ref().map(remembered);
    Some(Passthrough { upstream, unknown_models: file.unknown_models, embeddings_cache })
}

fn tier(file: &PolicyFile, index: usize, problems: &mut Vec<Problem>) -> Option<Tier> {
    let tier = &file.tiers.value[index];
    let name = &tier.name.value.0;
    let is_last = index + 1 == file.tiers.value.len();
    let known = || file.upstreams.0.iter().map(|(name, _)| name.value.as_str());
    let upstreams = upstreams::shares(&tier.upstream, || known().collect(), problems);
    if tier.price.is_none() {
        let what = format!("tier `{name}` has no price, so its costs will be unknown");
        problems.push(
            Problem::new(tier.name.at.clone(), what)
                .help("add `price: { input: ..., output: ... }` in dollars per million tokens")
                .warning(),
        );
    }
    let accept = match (&tier.accept, is_last) {
        (None, true) => Some(Accept::Always),
        (Some(accept), true) => {
            let what = format!("`{name}` is the last tier: it is always served, so `accept` has no meaning");
            problems.push(Problem::new(accept.at.clone(), what).help("remove `accept`, or add a larger tier after it"));
            None
        }
        (accept, false) if file.optimal_stopping.is_some() => calibrated(file, index, accept.as_ref(), problems),
        (Some(accept), false) => check(accept, file, index, problems),
        (None, false) => {
            unreachable(&tier.name.at, name, &larger(file, index), "it has no `accept`", problems);
            None
        }
    };
    Some(Tier {
        index,
        name: name.clone(),
        model: tier.model.clone(),
        upstreams: upstreams?,
        retries: RetryRule::of(tier.retries.as_ref()),
        price: tier.price.as_ref().map(|p| Price {
            input: p.input,
            cached_input: p.cached_input.unwrap_or(p.input),
            output: p.output,
        }),
        cache: tier.cache.as_ref().map(caches::rule),
        similar: tier.cache.as_ref().and_then(|c| c.similar.as_ref()).and_then(|s| caches::similar(s, file, problems)),
        limit: tier.limits.as_ref().map(|l| limits::limit(l, problems)),
        can: tier.can.clone(),
        context_tokens: tier.context_tokens.map(|n| n as u64),
        accept: accept?,
    })
}

fn larger(file: &PolicyFile, index: usize) -> String {
    let names: Vec<_> = file.tiers.value[index + 1..].iter().map(|t| format!("`{}`", t.name.value.0)).collect();
    names.join(", ")
}

fn unreachable(at: &Range<usize>, name: &str, larger: &str, why: &str, problems: &mut Vec<Problem>) {
    let what = format!("`{name}` takes every answer ({why}), so {larger} can never be asked");
    problems.push(
        Problem::new(at.clone(), what)
            .help("say what makes its answers good enough: accept: { score: confidence, at_least: 0.7 }"),
    );
}

fn drift_rule(drift: &At<DriftFile>, file: &PolicyFile, problems: &mut Vec<Problem>) -> Option<DriftRule> {
    let (share, confidence) = (drift.value.share.0, drift.value.confidence.0);
    if file.optimal_stopping.is_none() {
        problems.push(
            Problem::new(drift.at.clone(), "`drift` without `optimal_stopping`: there is no calibration to watch")
                .help("remove `drift`, or calibrate: cascade calibrate"),
        );
    }
    if share > 0.0 && confidence > 0.0 && confidence < 1.0 {
        return Some(DriftRule { share, confidence });
    }
    problems.push(
        Problem::new(drift.at.clone(), "a share of 0, or a confidence of 0 or 1, watches nothing")
            .help("write drift: { share: 0.01, confidence: 0.95 }"),
    );
    None
}

/// A promise holds for answers that are judged whole.
fn streams_that_are_judged(mode: StreamMode, at: &Range<usize>, problems: &mut Vec<Problem>) {
    match mode {
        StreamMode::Hold => {}
        StreamMode::Direct => problems.push(
            Problem::new(
                at.clone(),
                "`stream: direct` serves streamed answers unjudged, whatever the calibration says",
            )
            .help("write `stream: { mode: hold }`"),
        ),
        StreamMode::Prefix(_) => problems.push(
            Problem::new(at.clone(), "a calibrated policy judges whole answers: `prefix` means `hold` here")
                .help("write `stream: { mode: hold }`")
                .warning(),
        ),
    }
}

/// The check of a tier where a calibration decides: its gates, and the learned
/// score.
fn calibrated(
    policy: &PolicyFile,
    index: usize,
    accept: Option<&At<AcceptFile>>,
    problems: &mut Vec<Problem>,
) -> Option<Accept> {
    let file = accept.map_or_else(AcceptFile::stand_in, |accept| Some(accept.value.clone()))?;
    if let Some(accept) = accept.filter(|a| a.value.score.is_some() || a.value.at_least.is_some()) {
        problems.push(
            Problem::new(accept.at.clone(), "a score or a threshold beside `optimal_stopping`, which decides instead")
                .help("keep only `gates` here, or remove `optimal_stopping`"),
        );
    }
    let stopping = policy.optimal_stopping.as_ref()?.value.read.as_ref()?;
    let is_known = index + 1 < stopping.tiers.len();
    Some(Accept::Checked(Check {
        gates: file.gates,
        scorers: if is_known { vec![calibration_file::learned(stopping, index)] } else { Vec::new() },
        at_least: Score::new(0.0)?,
        unscored: file.unscored,
    }))
}

fn check(accept: &At<AcceptFile>, policy: &PolicyFile, index: usize, problems: &mut Vec<Problem>) -> Option<Accept> {
    let (file, tier, larger) = (&accept.value, &policy.tiers.value[index], &larger(policy, index));
    let written = file.score.as_ref().map_or(&[][..], |s| &s.0);
    let scorers: Vec<_> = written.iter().map(|s| scorers::scorer(s, index, policy, problems)).collect();
    scorers::judges_make_sense(written, &accept.at, problems);
    let scorers: Vec<Scorer> = scorers.into_iter().collect::<Option<_>>()?;
    match (&file.at_least, written) {
        (None, [_, ..]) => {
            problems.push(
                Problem::new(accept.at.clone(), "a score without a threshold")
                    .help("add `at_least:` with a number from 0 to 1"),
            );
            return None;
        }
        (Some(at_least), []) => {
            problems.push(
                Problem::new(at_least.at.clone(), "a threshold without a score")
                    .help("add `score:`, `confidence` for one"),
            );
            return None;
        }
        (at_least, _) => {
            let lets_all_through = at_least.as_ref().is_none_or(|s| s.value.0 == 0.0);
            if file.gates.is_empty() && lets_all_through {
                unreachable(&accept.at, &tier.name.value.0, larger, "no gate, and no score above 0 to reach", problems);
                return None;
            }
        }
    }
    let by_agreement_alone = scorers.iter().all(|s| *s == Scorer::Agreement) && !scorers.is_empty();
    if index == 0 && by_agreement_alone && file.unscored == Unscored::Escalate {
        let what = format!("`{}` is the smallest tier: there is nothing it could agree with", tier.name.value.0);
        let help = "it would be asked every time and never served; use another score, or `unscored: accept`";
        problems.push(Problem::new(accept.at.clone(), what).help(help).warning());
    }
    Some(Accept::Checked(Check {
        gates: file.gates.clone(),
        scorers,
        at_least: Score::new(file.at_least.as_ref().map_or(0.0, |s| s.value.0))?,
        unscored: file.unscored,
    }))
}

fn distinct_names(file: &PolicyFile, problems: &mut Vec<Problem>) {
    for (at, tier) in file.tiers.value.iter().enumerate() {
        let name = &tier.name.value;
        if name.0.is_empty() {
            continue;
        }
        if file.tiers.value[..at].iter().any(|t| t.name.value == *name) {
            problems.push(
                Problem::new(tier.name.at.clone(), format!("two tiers are called `{}`", name.0))
                    .help("give each a name of its own"),
            );
        }
        if *name == file.name {
            let what = format!("tier `{}` has the name of the policy", name.0);
            problems.push(
                Problem::new(tier.name.at.clone(), what).help("a client's `model` could mean either: rename one"),
            );
        }
    }
}

fn unused_upstreams(file: &PolicyFile, problems: &mut Vec<Problem>) {
    for (name, _) in &file.upstreams.0 {
        let passes = file.passthrough.as_ref().is_some_and(|p| p.upstream.value == name.value);
        let embeds = caches::embeds(&name.value, file);
        if !passes
            && !embeds
            && file.tiers.value.iter().all(|t| t.upstream.0.iter().all(|share| share.name.value != name.value))
        {
            problems.push(
                Problem::new(name.at.clone(), format!("no tier uses the upstream `{}`", name.value))
                    .help("remove it, or name it in a tier's `upstream:`")
                    .warning(),
            );
        }
    }
}

fn test(file: &super::file::TestFile, policy: &PolicyFile, problems: &mut Vec<Problem>) -> Option<PolicyTest> {
    let tier = refer(&file.tier, "tier", policy.tiers.value.iter().map(|t| t.name.value.0.as_str()), problems)?;
    Some(PolicyTest {
        answer: file.answer.clone(),
        finish_reason: file.finish_reason.clone(),
        tier,
        expect: file.expect,
    })
}
