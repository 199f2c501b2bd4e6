//! Any line is an exchange whose answers can be read, converted and judged, or is none.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use prompt_cascade::answer::Payload;
use prompt_cascade::exchange::Exchange;
use prompt_cascade::openai::convert;

fuzz_target!(|line: &[u8]| {
    let Ok(exchange) = Exchange::parse(&Bytes::copy_from_slice(line)) else { return };
    let endpoint = exchange.prompt.endpoint;
    let _ = (exchange.prompt.texts(), exchange.prompt.contract(), exchange.prompt.list());
    for recorded in exchange.answers.values() {
        let _ = (recorded.label_or_failure(), recorded.usage());
        let Ok(answer) = recorded.answer(endpoint) else { continue };
        match &answer.payload {
            Payload::Whole(body) => {
                let frames = convert::to_frames(endpoint, body, true);
                let _ = convert::to_body(endpoint, &frames);
                let _ = convert::strip_body(endpoint, body, &answer.logprobs_at);
            }
            Payload::Frames(frames) => drop(convert::to_body(endpoint, frames)),
        }
    }
});
