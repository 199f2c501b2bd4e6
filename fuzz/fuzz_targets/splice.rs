//! The body sent on is JSON, and differs from the client's in what was to be changed only.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prompt_cascade::openai::Endpoint;
use prompt_cascade::prompt::Prompt;
use serde_json::Value;

const CHANGED: [&str; 4] = ["model", "logprobs", "stream_options", "include"];

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (endpoint, wants, body) = input;
    let endpoint = Endpoint::ALL[usize::from(endpoint) % Endpoint::ALL.len()];
    let Ok(prompt) = Prompt::parse(endpoint, Bytes::copy_from_slice(body)) else { return };
    let onward = prompt.body_for("another \"model\"", wants);
    // Numbers keep their digits, and what serde_json itself does not read is left aside.
    let Ok(Value::Object(mut before)) = serde_json::from_slice::<Value>(body) else { return };
    let Ok(Value::Object(mut after)) = serde_json::from_slice::<Value>(&onward) else {
        panic!("no longer JSON: {}", String::from_utf8_lossy(&onward))
    };
    assert_eq!(after["model"], "another \"model\"");
    if wants && endpoint == Endpoint::Chat {
        assert_eq!(after["logprobs"], true);
    }
    for name in CHANGED {
        before.remove(name);
        after.remove(name);
    }
    assert_eq!(before, after);
});
