//! Answers that one replica remembers for all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::answer::{Answer, Choice, Marks, Payload, Usage};

/// An answer larger than this is remembered by its replica alone: it would take the time
/// of others to hand around.
const LARGEST: usize = 1 << 20;

/// An answer, and how old it is.
#[derive(Debug)]
pub struct Kept {
    /// What was said.
    pub answer: Arc<Answer>,
    /// Since when.
    pub age: Duration,
}

/// An answer on its way, in postcard's format.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    /// For how many milliseconds it may be remembered in all.
    ttl_ms: u64,
    is_whole: bool,
    #[serde(borrow)]
    parts: Vec<&'a str>,
    choices: Vec<Choice>,
    usage: Option<Usage>,
    logprobs_at: Vec<(usize, usize)>,
    marks: Marks,
    headers: Vec<(&'a str, &'a str)>,
}

impl Shared {
    /// The answer that a replica remembered under this key.
    pub async fn recall(&self, key: &[u8; 32]) -> Option<Kept> {
        let key = self.answer_key(key);
        let get = async {
            let mut both = redis::pipe();
            both.get(&key).pttl(&key).query_async(&mut self.link()?).await
        };
        let (bytes, left): (Option<Vec<u8>>, i64) = self.ask(get).await?;
        // What another version has packed is none.
        let kept = bytes.and_then(|bytes| unpack(&bytes, u64::try_from(left).ok()?));
        let count = if kept.is_some() { &self.counts.hits } else { &self.counts.misses };
        count.fetch_add(1, Ordering::Relaxed);
        kept
    }

    /// Remembers an answer for all replicas, beside the request.
    pub fn remember(self: &Arc<Self>, key: &[u8; 32], answer: &Answer, ttl: Duration) {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let Some(packed) = pack(answer, ttl).filter(|packed| packed.len() <= LARGEST) else { return };
        let mut set = redis::cmd("SET");
        set.arg(self.answer_key(key)).arg(packed).arg("PX").arg(ttl);
        self.beside(set);
    }

    /// Forgets an answer for all replicas, beside the request.
    pub fn forget(self: &Arc<Self>, key: &[u8; 32]) {
        let mut forget = redis::cmd("UNLINK");
        forget.arg(self.answer_key(key));
        self.beside(forget);
    }

    fn beside(self: &Arc<Self>, command: redis::Cmd) {
        let Ok(place) = self.beside.clone().try_acquire_owned() else {
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let shared = self.clone();
        tokio::spawn(async move {
            shared.ask(async { command.exec_async(&mut shared.link()?).await }).await;
            drop(place);
        });
    }

    fn answer_key(&self, key: &[u8; 32]) -> String {
        // Another format gets another number.
        self.key("answer1", &blake3::Hash::from_bytes(*key).to_hex())
    }
}

/// None of an answer that is not text, which no API has.
fn pack(answer: &Answer, ttl_ms: u64) -> Option<Vec<u8>> {
    let (is_whole, parts) = match &answer.payload {
        Payload::Whole(body) => (true, std::slice::from_ref(body)),
        Payload::Frames(frames) => (false, frames.as_slice()),
    };
    let packed = Packed {
        ttl_ms,
        is_whole,
        parts: parts.iter().map(|part| std::str::from_utf8(part).ok()).collect::<Option<_>>()?,
        choices: answer.choices.clone(),
        usage: answer.usage,
        logprobs_at: answer.logprobs_at.iter().map(|range| (range.start, range.end)).collect(),
        marks: answer.marks.clone(),
        headers: answer
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect(),
    };
    postcard::to_stdvec(&packed).ok()
}

fn unpack(bytes: &[u8], left_ms: u64) -> Option<Kept> {
    let packed: Packed<'_> = postcard::from_bytes(bytes).ok()?;
    let own = |part: &&str| Bytes::copy_from_slice(part.as_bytes());
    let payload = match packed.parts.as_slice() {
        [body] if packed.is_whole => {
            let length = body.len();
            if packed.logprobs_at.iter().any(|(start, end)| start > end || *end > length) {
                return None;
            }
            Payload::Whole(own(body))
        }
        _ if packed.is_whole => return None,
        frames => Payload::Frames(frames.iter().map(own).collect()),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in packed.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    let answer = Answer {
        payload,
        choices: packed.choices,
        usage: packed.usage,
        logprobs_at: packed.logprobs_at.into_iter().map(|(start, end)| start..end).collect(),
        marks: packed.marks,
        headers,
    };
    (!answer.choices.is_empty())
        .then(|| Kept { answer: Arc::new(answer), age: Duration::from_millis(packed.ttl_ms.saturating_sub(left_ms)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::Endpoint;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let body = r#"{"choices":[{"index":0,"message":{"content":"Hi","tool_calls":[{"id":"x","function":
            {"name":"f","arguments":"{\"a\":1}"}}]},"logprobs":{"content":[{"token":"Hi","logprob":-0.5}]},
            "finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
        let mut whole = Answer::from_body(Endpoint::Chat, body.into()).expect("an answer");
        whole.headers.append("x-request-id", HeaderValue::from_static("abc"));
        whole.marks.insert("p_true".to_owned(), 0.25);
        let frames = ["{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}"; 3].map(Bytes::from);
        let flowed = Answer::from_frames(Endpoint::Chat, frames.to_vec()).expect("an answer");
        for answer in [whole, flowed] {
            let packed = pack(&answer, 60_000).expect("text");
            let kept = unpack(&packed, 15_000).expect("the same");
            assert_eq!(kept.age, Duration::from_secs(45));
            assert_eq!(format!("{:?}", kept.answer), format!("{answer:?}"));
            for end in 0..packed.len() {
                assert!(unpack(&packed[..end], 0).is_none(), "cut at {end}");
            }
        }
    }
}
