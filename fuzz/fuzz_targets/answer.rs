//! What is read of an answer in quick passes is what a JSON parser reads.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prompt_cascade::answer::Answer;
use prompt_cascade::openai::Endpoint;
use prompt_cascade::openai::convert::{Unasked, strip_frame};
use prompt_cascade::openai::glance::Glance;
use serde_json::Value;

/// The logprobs of one choice, as [`prompt_cascade::openai::chunk::token_logprobs`] reads them.
fn logprobs(choice: &Value) -> Option<Vec<f64>> {
    let all = &choice["logprobs"];
    if let Some(content) = all.get("content").filter(|content| !content.is_null()) {
        return content.as_array()?.iter().map(|token| token.get("logprob")?.as_f64()).collect();
    }
    let legacy = all.get("token_logprobs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Some(legacy.iter().filter_map(Value::as_f64).collect())
}

fuzz_target!(|body: &[u8]| {
    let bytes = Bytes::copy_from_slice(body);
    let value = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
    let answer = Answer::from_body(Endpoint::Chat, bytes.clone());
    if let (Some(value), Ok(answer)) = (&value, &answer) {
        let choices = value["choices"].as_array().expect("an answer has choices");
        // With one choice its place is certain.
        if let ([choice], [read]) = (&choices[..], &answer.choices[..])
            && let Some(wanted) = logprobs(choice)
        {
            assert!(read.logprobs.iter().map(|p| p.to_bits()).eq(wanted.iter().map(|p| p.to_bits())), "{:?} {wanted:?}", read.logprobs);
        }
    }
    if let (Some(value), Some(seen)) = (&value, Glance::at(body)) {
        assert_eq!(seen.is_error, value.get("error").is_some_and(|error| !error.is_null()));
        assert_eq!(seen.usage.map(|usage| usage.is_null), value.get("usage").map(Value::is_null));
    }
    if let (Some(mut value), Some(left)) = (value, strip_frame(Endpoint::Chat, &bytes, Unasked { usage: true, logprobs: false })) {
        let mut left: Value = serde_json::from_slice(&left).expect("it is JSON still");
        for value in [&mut value, &mut left] {
            value.as_object_mut().expect("an object").remove("usage");
        }
        assert_eq!(left, value);
    }
});
