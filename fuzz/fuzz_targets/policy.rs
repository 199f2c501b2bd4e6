//! Any text is a policy or a list of problems that can be drawn.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prompt_cascade::policy::{Outside, Policy};

fn outside() -> Outside<'static> {
    Outside { variables: &|name| Some(format!("value-of-{name}")), demands_variables: true, ..Outside::none() }
}

fuzz_target!(|text: &str| {
    match Policy::parse("fuzzed.yaml", text, outside()) {
        Ok((policy, warnings)) => {
            let _ = warnings.render(true);
            assert!(!policy.tiers.is_empty());
            let again = Policy::parse("effective.yaml", &policy.effective, outside());
            let (again, _) = again.unwrap_or_else(|problems| panic!("{problems}\n{}", policy.effective));
            assert_eq!(again.effective, policy.effective);
        }
        Err(problems) => {
            assert!(problems.warnings_and_errors().1 > 0);
            let _ = problems.render(false);
        }
    }
});
