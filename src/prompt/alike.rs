//! What of a prompt may be put in other words and still ask the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use blake3::Hasher;
use serde_json::value::RawValue;

use super::Prompt;
use crate::openai::Endpoint;
use crate::openai::canonical::feed_member;
use crate::openai::chunk::content_text;

/// A question that another may be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The last message's text.
    pub text: String,
    /// A key of all else, which must be the same: fields, earlier messages, and the
    /// numbers in the question. 17 + 26 is not 17 + 27, however alike they sound.
    pub rest: [u8; 32],
}

/// A longer text is not compared with others, in bytes.
const LONGEST: usize = 32 << 10;

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Whether a message holds text and nothing else: no picture, no file, nothing yet to
/// come.
fn is_text(content: &RawValue) -> bool {
    if content.get().starts_with('"') {
        return true;
    }
    let parts: Vec<Members<'_>> = serde_json::from_str(content.get()).unwrap_or_default();
    let is_text = |part: &Members<'_>| {
        part.len() == 2 && part.contains_key("text") && part.get("type").is_some_and(|kind| kind.get() == "\"text\"")
    };
    !parts.is_empty() && parts.iter().all(is_text)
}

impl Prompt {
    /// The question, where one that is like it may have the same answer: only at
    /// temperature 0, for texts, and where nothing is called.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        let may = self.endpoint == Endpoint::Chat
            && self.temperature <= 0.0
            && !(self.has_tools || self.is_kept_upstream || self.is_ours);
        if !may {
            return None;
        }
        let messages: Vec<&RawValue> = serde_json::from_str(self.content()).ok()?;
        let (last, earlier) = messages.split_last()?;
        let mut last: Members<'_> = serde_json::from_str(last.get()).ok()?;
        let content = last.remove("content")?;
        if last.get("role")?.get() != "\"user\"" || !is_text(content) {
            return None;
        }
        let text = content_text(content);
        if text.trim().is_empty() || text.len() > LONGEST {
            return None;
        }
        let mut hasher = Hasher::new();
        let counts = |name: &str| name != self.content_field() && !Self::NOT_IN_KEY.contains(&name);
        let fields = self.fields.iter(&self.body).filter(|(name, _)| counts(name));
        fields.for_each(|(name, value)| feed_member(&mut hasher, name, value));
        earlier.iter().for_each(|message| feed_member(&mut hasher, "message", message.get()));
        last.iter().for_each(|(name, value)| feed_member(&mut hasher, name, value.get()));
        for number in text.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty()) {
            hasher.update(number.as_bytes());
            hasher.update(b" ");
        }
        Some(Question { text: text.into_owned(), rest: hasher.finalize().into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(body: &str) -> Option<Question> {
        Prompt::parse(Endpoint::Chat, body.to_owned().into()).expect("a prompt").question()
    }

    fn asks(text: &str, more: &str) -> Option<Question> {
        question(&format!(r#"{{"model":"m","temperature":0{more},"messages":[{{"role":"user","content":"{text}"}}]}}"#))
    }

    #[test]
    fn all_but_the_words_of_the_last_message_must_be_the_same() {
        let one = asks("What is the capital of Peru?", "").expect("a question");
        let other = asks("Which city is Peru's capital?", r#","user":"u","stream":true"#).expect("a question");
        assert_eq!(one.rest, other.rest);
        assert_ne!(one.text, other.text);
        assert_ne!(asks("17 + 26?", "").expect("one").rest, asks("17 + 27?", "").expect("one").rest);
        assert_ne!(one.rest, asks("What is the capital of Peru?", r#","max_tokens":5"#).expect("one").rest);
        let after = |system: &str| {
            question(&format!(
                r#"{{"model":"m","temperature":0,"messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"hi"}}]}}"#
            ))
        };
        assert_ne!(after("be brief").expect("one").rest, after("be long").expect("one").rest);
    }

    #[test]
    fn what_is_drawn_by_chance_or_calls_tools_is_like_nothing() {
        let warm = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        assert_eq!(question(warm), None, "the API's default temperature is 1");
        assert_eq!(asks("hi", r#","tools":[{"type":"function","function":{"name":"f"}}]"#), None);
        let picture = r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#;
        assert_eq!(question(picture), None);
        let file = |id: &str| {
            question(&format!(
                r#"{{"model":"m","temperature":0,"messages":[{{"role":"user","content":[{{"type":"text","text":"Sum it up"}},{{"type":"file","file":{{"file_id":"{id}"}}}}]}}]}}"#
            ))
        };
        assert_eq!(file("A"), None);
        let named = |name: &str| {
            question(&format!(
                r#"{{"model":"m","temperature":0,"messages":[{{"role":"user","name":"{name}","content":[{{"type":"text","text":"Who am I?"}}]}}]}}"#
            ))
        };
        assert_ne!(named("alice").expect("one").rest, named("bob").expect("one").rest);
        let answered = r#"{"model":"m","temperature":0,"messages":[{"role":"assistant","content":"hi"}]}"#;
        assert_eq!(question(answered), None);
    }
}
