//! The command line as a user sees it: exit code, standard output and
//! standard error together.

mod support;

use support::{cascade, shown};

fn run(arguments: &[&str]) -> String {
    shown(&cascade().args(arguments).output().expect("it runs"))
}

#[test]
fn replay_of_the_fixtures() {
    insta::assert_snapshot!(run(&["replay", "fixtures"]));
}

#[test]
fn replay_of_one_file_as_json() {
    insta::assert_snapshot!(run(&["replay", "fixtures/facts.jsonl", "--json"]));
}

#[test]
fn replay_against_another_policy() {
    insta::assert_snapshot!(run(&[
        "replay",
        "fixtures/facts.jsonl",
        "--against",
        "tests/policies/top_only.yaml",
        "--changes",
        "3"
    ]));
}

#[test]
fn check_says_what_a_policy_is() {
    insta::assert_snapshot!(run(&["check", "--no-env", "policies/classic.yaml", "policies/demo.yaml"]));
}

#[test]
fn check_names_a_missing_variable() {
    insta::assert_snapshot!(run(&["check", "policies/classic.yaml"]));
}

#[test]
fn check_runs_the_tests_of_a_policy() {
    insta::assert_snapshot!(run(&["check", "tests/policies/failing_test.yaml"]));
}

#[test]
fn check_writes_a_policy_out_with_every_default() {
    insta::assert_snapshot!(run(&["check", "--no-env", "--effective", "policies/local-first.yaml"]));
}

#[test]
fn a_public_address_must_be_meant() {
    insta::assert_snapshot!(run(&["serve", "--listen", "0.0.0.0:0"]));
}

#[test]
fn files_that_are_not_there() {
    let text = [run(&["replay", "no/such.jsonl"]), run(&["replay", "src"]), run(&["check", "no/such.yaml"])].join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn wrong_command_lines_exit_with_2() {
    for arguments in
        [&["replay"][..], &["nonsense"], &["replay", "fixtures", "--changes", "many"], &["serve", "--listen", "here"]]
    {
        assert!(run(arguments).starts_with("exit code: 2\n"), "{arguments:?}: {}", run(arguments));
    }
    assert!(run(&["--help"]).starts_with("exit code: 0\n"));
    assert!(run(&["--version"]).starts_with("exit code: 0\n"));
}
