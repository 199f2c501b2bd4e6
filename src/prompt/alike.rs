//! What of a prompt may be put in other words and still ask the same.

use std::borrow::Cow;

use blake3::Hasher;
use serde::Deserialize;
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

impl Prompt {
    /// The question, where one that is like it may have the same answer: only at
    /// temperature 0, for texts, and where nothing is called.
    #[must_use]
    pub fn question(&self) -> Option<Question> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow)]
            role: Cow<'a, str>,
            #[serde(borrow)]
            content: &'a RawValue,
        }
        let may =
            self.endpoint == Endpoint::Chat && self.temperature <= 0.0 && !self.has_tools && !self.is_kept_upstream;
        if !may || self.has_media() {
            return None;
        }
        let messages: Vec<&RawValue> = serde_json::from_str(self.content()).ok()?;
        let (last, earlier) = messages.split_last()?;
        let last: Message<'_> = serde_json::from_str(last.get()).ok()?;
        let text = content_text(last.content);
        if last.role != "user" || text.trim().is_empty() {
            return None;
        }
        let mut hasher = Hasher::new();
        let counts = |name: &str| name != self.content_field() && !Self::NOT_IN_KEY.contains(&name);
        let fields = self.fields.iter(&self.body).filter(|(name, _)| counts(name));
        fields.for_each(|(name, value)| feed_member(&mut hasher, name, value));
        earlier.iter().for_each(|message| feed_member(&mut hasher, "message", message.get()));
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
        let answered = r#"{"model":"m","temperature":0,"messages":[{"role":"assistant","content":"hi"}]}"#;
        assert_eq!(question(answered), None);
    }
}
