//! Calibrated policies: what `cascade calibrate` writes, and that serving, replaying
//! and calibrating are the same rule.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prompt_cascade::calibration::{Fitted, Labelled, Target, Wanted, calibrate};
use prompt_cascade::exchange::Exchange;
use prompt_cascade::outcomes::Row;
use prompt_cascade::policy::{Outside, Policy};
use prompt_cascade::recording::load;
use prompt_cascade::replay::{Replay, Replayed};
use prompt_cascade::stopping::{Stopping, all_states};
use prompt_cascade::trace::{Outcome, Trace};
use support::{cascade, root, shown};

/// Fixtures that need no tools, so that no conversation is bound to a tier.
const PLAIN: [&str; 7] = ["arithmetic", "code", "extraction", "facts", "few_shot", "refusals", "truncation"];

fn exchanges() -> Vec<Exchange> {
    let folder = root().join("fixtures");
    let all = PLAIN.iter().flat_map(|name| {
        load(&folder.join(format!("{name}.jsonl")).display().to_string()).unwrap_or_else(|e| panic!("{e}"))
    });
    all.map(|exchange| Exchange { arrived_ms: None, ..exchange }).collect()
}

fn policy_file() -> PathBuf {
    root().join("tests/policies/traffic.yaml")
}

fn policy_of(source: &str, calibration: &str) -> Policy {
    let files = |_: &str| Ok(calibration.to_owned());
    Policy::parse("tuned", source, Outside { files: &files, ..Outside::none() }).unwrap_or_else(|p| panic!("{p}")).0
}

fn base() -> (String, Policy) {
    let source = std::fs::read_to_string(policy_file()).expect("readable");
    let policy = policy_of(&source, "");
    (source, policy)
}

/// A calibration of the fixtures at the point of this place, and its policy.
fn tuned(rows: &[Row], place: usize) -> Policy {
    let (source, policy) = base();
    let wanted = Wanted { target: Target::MaxLoss(0.1), delta: 0.2, seed: 3 };
    let mut stopping = calibrate(&policy, rows, &wanted, "recorded").expect("enough").stopping;
    stopping.in_force = place.min(stopping.points.len() - 1);
    let text = Policy::calibrated(&source, "tuned.json", &|_| None).unwrap_or_else(|p| panic!("{p}"));
    policy_of(&text, &serde_json::to_string(&stopping).expect("json"))
}

fn rows(policy: &Policy, exchanges: &[Exchange]) -> Vec<Row> {
    exchanges.iter().map(|e| Row::of(policy, e).unwrap_or_else(|why| panic!("{}: {why}", e.id))).collect()
}

fn replayed(policy: &Policy, exchanges: Vec<Exchange>) -> Vec<Replayed> {
    let mut replay = Replay::new(Arc::new(policy.clone()));
    let mut done = Vec::new();
    exchanges.into_iter().for_each(|exchange| replay.push(Arc::new(exchange), &mut done));
    replay.finish(&mut done);
    done.sort_by_key(|one| one.number);
    done
}

/// Tiers asked, with the scores' bits, and the tier served.
fn way(trace: &Trace) -> (Vec<(usize, String)>, Option<usize>) {
    let step = |attempt: &prompt_cascade::trace::Attempt| match &attempt.outcome {
        Outcome::Answered { verdict, .. } => (attempt.tier, format!("{verdict:?}")),
        other => (attempt.tier, format!("{other}")),
    };
    (trace.attempts.iter().map(step).collect(), trace.served().map(|a| a.tier))
}

#[test]
fn the_engine_goes_the_way_that_was_calibrated() {
    let (_, plain) = base();
    let mut all = exchanges();
    // Some tiers failed when this was recorded.
    for (at, exchange) in all.iter_mut().enumerate().filter(|(at, _)| at % 7 == 0) {
        let tier = ["ada", "babbage", "curie"][at % 3];
        exchange.answers.get_mut(tier).expect("recorded").status = 429;
    }
    let rows = rows(&plain, &all);
    let mut ways = std::collections::HashSet::new();
    for place in [0, 4, 9, 15, 25, 99] {
        let policy = tuned(&rows, place);
        let stopping = policy.stopping.clone().expect("calibrated");
        let chance = all_states(4).enumerate().map(|(at, (tier, _))| {
            let of =
                |row: &Row| if row.refused[tier] { 0.0 } else { stopping.states[at].score.chance(&row.features[at]) };
            rows.iter().map(of).collect()
        });
        let easiness = stopping.prompts.as_ref().map(|m| rows.iter().map(|r| m.at(&r.prompt, &r.grams)).collect());
        let refs: Vec<&Row> = rows.iter().collect();
        let labelled = Labelled::new(&refs, 4, chance.collect(), easiness);
        for (row, one) in replayed(&policy, all.clone()).iter().enumerate() {
            let walked = labelled.walk(stopping.point(), row);
            let asked = one.trace.attempts.iter().fold(0, |bits, attempt| bits | 1 << attempt.tier);
            assert_eq!(one.trace.served().map(|a| a.tier), Some(walked.tier), "{} at {place}", one.exchange.id);
            assert_eq!(asked, walked.asked, "{} at {place}", one.exchange.id);
            let cost = one.trace.cost().usd.expect("priced").dollars();
            assert!((cost - walked.cost).abs() < 1e-12, "{}: {cost} {}", one.exchange.id, walked.cost);
            ways.insert(asked);
        }
    }
    assert!(ways.iter().any(|asked| *asked != 0b1000 && asked & (asked + 1) != 0), "some tier is skipped: {ways:?}");
    assert!(ways.len() > 4, "many ways are gone: {ways:?}");
}

#[test]
fn labels_references_and_other_lines_never_change_a_score() {
    let (_, plain) = base();
    let all = exchanges();
    let policy = tuned(&rows(&plain, &all), 12);
    let truth: Vec<_> = replayed(&policy, all.clone()).iter().map(|one| way(&one.trace)).collect();
    assert!(truth.iter().any(|(steps, _)| steps.iter().any(|(_, verdict)| verdict.contains("Score"))));
    let mut leaked = all.clone();
    for (at, exchange) in leaked.iter_mut().enumerate() {
        exchange.reference = Some(format!("another {at}"));
        exchange.task = None;
        exchange.answers.values_mut().for_each(|answer| answer.quality = answer.quality.map(|q| 1.0 - q));
    }
    assert_eq!(replayed(&policy, leaked).iter().map(|one| way(&one.trace)).collect::<Vec<_>>(), truth);
    let alone: Vec<_> = all.iter().map(|exchange| way(&replayed(&policy, vec![exchange.clone()])[0].trace)).collect();
    assert_eq!(alone, truth, "without the other lines");
    let mut backwards: Vec<_> =
        replayed(&policy, all.iter().rev().cloned().collect()).iter().map(|one| way(&one.trace)).collect();
    backwards.reverse();
    assert_eq!(backwards, truth);
}

#[test]
fn scores_on_unseen_rows_come_from_models_that_have_not_seen_them() {
    let (_, plain) = base();
    let rows = rows(&plain, &exchanges());
    let fit = |rows: &[Row]| {
        let refs: Vec<&Row> = rows.iter().collect();
        Fitted::on(&refs, 4).scores
    };
    let before = fit(&rows);
    // Turning the labels of one group over must not move that group's own scores.
    let moved = |at: usize| {
        let (mut changed, group) = (rows.clone(), rows[at].group);
        changed.iter_mut().filter(|r| r.group == group).for_each(|r| r.quality.iter_mut().for_each(|q| *q = 1.0 - *q));
        let after = fit(&changed);
        // Where two kinds of features are as good, one group may decide between them.
        (before.chosen[0].by == after.chosen[0].by).then(|| (before.chances[0][at] - after.chances[0][at]).abs())
    };
    let moved = [5, 20, 35, 50].into_iter().find_map(moved).expect("one group decides nothing");
    // Only the map to chances, of two numbers, may move, and little.
    assert!(moved < 0.05, "{moved}");
}

fn run(arguments: &[&str], output: Option<&Path>) -> String {
    let mut command = cascade();
    command.arg("calibrate").args(arguments);
    if let Some(output) = output {
        command.arg("--output").arg(output);
    }
    let text = shown(&command.output().expect("runs"));
    output.map_or(text.clone(), |path| text.replace(&path.parent().expect("a folder").display().to_string(), "DIR"))
}

const POLICY: &str = "tests/policies/traffic.yaml";

#[test]
fn calibrate_writes_a_policy_that_checks_and_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    let tuned = folder.path().join("tuned.yaml");
    let arguments = ["fixtures", "--policy", POLICY, "--max-loss", "0.2", "--confidence", "0.8"];
    let first = run(&arguments, Some(&tuned));
    insta::assert_snapshot!("calibrate_the_fixtures", first);
    let (yaml, json) = (std::fs::read_to_string(&tuned), std::fs::read_to_string(tuned.with_extension("json")));
    let (yaml, json) = (yaml.expect("written"), json.expect("written beside it"));
    assert!(yaml.contains("optimal_stopping: tuned.json") && !yaml.contains("at_least"), "{yaml}");
    let certificate = Stopping::read(&json).expect("sound").certificate;
    assert!(!certificate.uncertified && certificate.p_value <= 0.2 && certificate.rows + certificate.fitted_rows > 80);
    assert_eq!(run(&arguments, Some(&tuned)), first, "the same again");
    assert_eq!(std::fs::read_to_string(tuned.with_extension("json")).expect("written"), json);
    let check = cascade().arg("check").arg(&tuned).output().expect("runs");
    assert!(check.status.success(), "{}", shown(&check));
    let report = cascade().args(["replay", "fixtures", "--json", "--policy"]).arg(&tuned).output().expect("runs");
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["study"]["is_calibrated"], true);
    assert_eq!(report["study"]["certificate"]["data"], certificate.data.as_str());
    assert!(report["study"]["quality"]["interval"]["low"].is_number());
}

#[test]
fn what_cannot_be_promised_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let tuned = folder.path().join("strict.yaml");
    let text = run(&["fixtures", "--policy", POLICY, "--max-loss", "0.001"], Some(&tuned));
    assert!(text.starts_with("exit code: 1\n") && text.contains("UNCERTIFIED"), "{text}");
    let json = std::fs::read_to_string(tuned.with_extension("json")).expect("written");
    let stopping = Stopping::read(&json).expect("sound");
    assert!(stopping.certificate.uncertified && stopping.in_force == 0);
    let report = cascade().args(["replay", "fixtures/facts.jsonl", "--policy"]).arg(&tuned).output().expect("runs");
    assert!(shown(&report).contains("saved 0.0%"), "the largest tier always answers: {}", shown(&report));
}

#[test]
fn bad_input_is_told_plainly() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let unlabelled = std::fs::read_to_string(root().join("fixtures/facts.jsonl")).expect("readable");
    let unlabelled = write("unlabelled.jsonl", &unlabelled.replace("\"quality\"", "\"qualities\""));
    let source = std::fs::read_to_string(policy_file()).expect("readable");
    let one = source
        .lines()
        .filter(|l| !l.contains("name: ada") && !l.contains("name: babbage") && !l.contains("name: curie"));
    let one = write("one.yaml", &one.collect::<Vec<_>>().join("\n"));
    for (arguments, why) in [
        (vec![unlabelled.as_str(), "--policy", POLICY, "--keep", "0.9"], "left out  14: a tier's answer has no label"),
        (
            vec!["fixtures", "--policy", one.as_str(), "--keep", "0.9"],
            "the policy has one tier: there is nothing to decide",
        ),
        (vec!["fixtures", "--policy", POLICY], "required arguments were not provided"),
        (vec!["fixtures", "--policy", POLICY, "--keep", "1.5"], "a number between 0 and 1"),
        (vec!["fixtures", "--policy", POLICY, "--keep", "0.9", "--labels", "guess"], "one of recorded, exact"),
        (vec!["fixtures", "--policy", POLICY, "--keep", "0.9", "--max-loss", "0.1"], "cannot be used with"),
    ] {
        let text = run(&arguments, None);
        assert!(text.contains(why) && !text.starts_with("exit code: 0"), "{arguments:?}: {text}");
    }
    // A calibration for other tiers, one that is broken, one that is not there.
    let tuned = folder.path().join("tuned.yaml");
    run(&["fixtures", "--policy", POLICY, "--max-loss", "0.2", "--confidence", "0.8"], Some(&tuned));
    let yaml = std::fs::read_to_string(&tuned).expect("written");
    for (text, why) in [
        (yaml.replace("model: curie", "model: curie-2"), "tuned.json was made for other tiers: ada (ada)"),
        (yaml.replace("tuned.json", "gone.json"), "cannot use gone.json: No such file"),
        (yaml.replace("tuned.json", "tuned.yaml"), "cannot use tuned.yaml: not a calibration"),
        (yaml.replace("unscored: escalate", "at_least: 0.5"), "beside `optimal_stopping`, which decides instead"),
    ] {
        let path = write("wrong.yaml", &text);
        let check = cascade().arg("check").arg(path).output().expect("runs");
        assert!(shown(&check).contains(why) && !check.status.success(), "{why}: {}", shown(&check));
    }
}
