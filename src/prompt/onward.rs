//! The body for an upstream, and a list of prompts as prompts of their own.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use http::HeaderValue;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Prompt;
use crate::openai::Endpoint;
use crate::openai::request::{include_usage, with_logprobs};
use crate::openai::splice::Splice;

impl Prompt {
    /// The body for an upstream: `model` in place of the client's, and with
    /// logprobs and usage where the cascade needs what the client did not ask.
    #[must_use]
    pub fn body_for(&self, model: &str, want_logprobs: bool) -> Bytes {
        let mut splice = Splice::default();
        if let Some(span) = self.fields.span("model").filter(|_| model != self.model) {
            splice.replace(span, serde_json::to_vec(model).unwrap_or_default());
        }
        let start = self.body.iter().position(|&b| b == b'{').map_or(0, |at| at + 1);
        let mut set = |name: &str, value: String| match self.fields.span(name) {
            Some(span) => splice.replace(span, value),
            None => splice.replace(start..start, format!("\"{name}\":{value},")),
        };
        if want_logprobs && !self.asks_logprobs {
            match self.endpoint {
                Endpoint::Chat => set("logprobs", "true".to_owned()),
                Endpoint::Completions => set("logprobs", "5".to_owned()),
                Endpoint::Responses => set("include", with_logprobs(self.raw("include").unwrap_or("[]"))),
            }
        }
        if self.stream && !self.asks_usage {
            set("stream_options", include_usage(self.raw("stream_options").unwrap_or("{}")).0);
        }
        if splice.is_empty() { self.body.clone() } else { splice.apply(&self.body).into() }
    }

    /// The texts of a legacy list of prompts as they are written; none where there
    /// is one prompt, or its answer is streamed.
    ///
    /// # Errors
    /// When there are more than [`MAX_LIST`] of them.
    pub fn list(&self) -> Result<Option<Vec<&RawValue>>, TooMany> {
        if self.endpoint != Endpoint::Completions || self.stream || !self.content().starts_with('[') {
            return Ok(None);
        }
        let Ok(Bounded(list)) = serde_json::from_str(self.content()) else { return Ok(None) };
        if list.len() > MAX_LIST {
            return Err(TooMany);
        }
        Ok(Some(list).filter(|list| list.len() > 1 && list.iter().all(|raw| raw.get().starts_with('"'))))
    }

    /// One text of a list as a request of its own.
    #[must_use]
    pub fn one_of_list(&self, number: usize, text: &RawValue) -> Option<Self> {
        let mut splice = Splice::default();
        splice.replace(self.fields.span("prompt")?, text.get());
        let mut one = Self::parse(self.endpoint, splice.apply(&self.body).into()).ok()?;
        (one.headers, one.session, one.tenant) = (self.headers.clone(), self.session.clone(), self.tenant.clone());
        one.freshness = self.freshness;
        // One key for several bodies would be a conflict.
        if let Some(key) = one.headers.get_mut("idempotency-key") {
            let of_number = [key.as_bytes(), format!("-{number}").as_bytes()].concat();
            *key = HeaderValue::from_bytes(&of_number).ok()?;
        }
        Some(one)
    }
}

/// The most prompts of one list.
pub const MAX_LIST: usize = 128;

/// A list of more prompts than [`MAX_LIST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The items of a list, of which no more are read than tell that it is too long.
struct Bounded<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Bounded<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Items<'a> {
            type Value = Bounded<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Bounded<'a>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    if list.len() <= MAX_LIST {
                        list.push(item);
                    }
                }
                Ok(Bounded(list))
            }
        }
        from.deserialize_seq(Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Prompt {
        Prompt::parse(Endpoint::Chat, Bytes::copy_from_slice(body.as_bytes())).expect(body)
    }

    #[test]
    fn only_the_model_and_what_we_need_change() {
        let p = chat(r#"{ "seed":18446744073709551617, "x":1.0,  "model" : "cascade","messages":[]}"#);
        assert_eq!(
            p.body_for("gpt", false),
            r#"{ "seed":18446744073709551617, "x":1.0,  "model" : "gpt","messages":[]}"#
        );
        assert_eq!(
            p.body_for("cascade", true),
            r#"{"logprobs":true, "seed":18446744073709551617, "x":1.0,  "model" : "cascade","messages":[]}"#
        );
        assert_eq!(p.body_for("cascade", false).as_ptr(), p.body().as_ptr(), "nothing to change, nothing copied");
    }

    #[test]
    fn a_value_the_client_gave_is_changed_where_it_stands() {
        for (given, sent) in [
            (r#""logprobs":null"#, r#""logprobs":true"#),
            (r#""logprobs":false"#, r#""logprobs":true"#),
            (r#""logprobs":true"#, r#""logprobs":true"#),
        ] {
            let p = chat(&format!(r#"{{"model":"m","messages":[],{given}}}"#));
            assert_eq!(p.body_for("m", true), format!(r#"{{"model":"m","messages":[],{sent}}}"#));
        }
        for (given, sent) in [
            ("null", r#"{"include_usage":true}"#),
            ("{ }", r#"{"include_usage":true}"#),
            (r#"{"a":1}"#, r#"{"include_usage":true,"a":1}"#),
            (r#"{"include_usage": false}"#, r#"{"include_usage": true}"#),
            (r#"{"include_usage": true}"#, r#"{"include_usage": true}"#),
        ] {
            let p = chat(&format!(r#"{{"model":"m","stream":true,"stream_options":{given},"messages":[]}}"#));
            let want = format!(r#"{{"model":"m","stream":true,"stream_options":{sent},"messages":[]}}"#);
            assert_eq!(p.body_for("m", false), want);
        }
    }

    #[test]
    fn a_list_of_texts_is_as_many_prompts() {
        let list = |prompt: &str, rest: &str| {
            let body = format!(r#"{{"model":"m","prompt":{prompt},"x":1.0{rest}}}"#);
            Prompt::parse(Endpoint::Completions, body.into()).expect("a prompt")
        };
        let two = list(r#"["a", "\u00e9"]"#, "");
        let texts = two.list().expect("few").expect("two");
        let bodies: Vec<Prompt> = texts.iter().enumerate().filter_map(|(n, text)| two.one_of_list(n, text)).collect();
        let bodies: Vec<&Bytes> = bodies.iter().map(Prompt::body).collect();
        assert_eq!(bodies, [r#"{"model":"m","prompt":"a","x":1.0}"#, r#"{"model":"m","prompt":"\u00e9","x":1.0}"#]);
        for (prompt, rest) in [("\"a\"", ""), (r#"["a"]"#, ""), ("[1,2]", ""), (r#"["a","b"]"#, r#","stream":true"#)] {
            assert!(list(prompt, rest).list().expect("few").is_none(), "{prompt}{rest}");
        }
        let many = format!("[{}]", ["\"\""; 129].join(","));
        assert_eq!(list(&many, "").list().expect_err("many"), TooMany);
    }
}
