//! Whatever an upstream says of its limits, the pause is no longer than it may be.
#![no_main]

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use prompt_cascade::openai::pace;

const NAMES: [&str; 7] = [
    "retry-after",
    "date",
    "retry-after-ms",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
];

fuzz_target!(|text: &[u8]| {
    let mut headers = HeaderMap::new();
    for (name, value) in NAMES.into_iter().zip(text.split(|&byte| byte == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    let longest = Duration::from_secs(600);
    assert!(pace::retry_after(&headers).is_none_or(|pause| pause <= longest));
    assert!(pace::nothing_left_for(&headers).is_none_or(|pause| pause <= longest));
});
