//! The body for an upstream, and a list of prompts as prompts of their own.

use bytes::Bytes;
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

    /// The prompts of a legacy list of texts, each as a request of its own; none
    /// where there is one prompt, or its answer is streamed.
    #[must_use]
    pub fn each(&self) -> Option<Vec<Self>> {
        let span = self.fields.span("prompt").filter(|_| self.endpoint == Endpoint::Completions && !self.stream)?;
        let list: Vec<&RawValue> = serde_json::from_str(self.content()).ok()?;
        if list.len() < 2 || !list.iter().all(|raw| raw.get().starts_with('"')) {
            return None;
        }
        let one = |raw: &&RawValue| {
            let mut splice = Splice::default();
            splice.replace(span.clone(), raw.get());
            let mut one = Self::parse(self.endpoint, splice.apply(&self.body).into()).ok()?;
            (one.headers, one.session) = (self.headers.clone(), self.session.clone());
            Some(one)
        };
        list.iter().map(one).collect()
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
        let each = list(r#"["a", "\u00e9"]"#, "").each().expect("two");
        let bodies: Vec<&Bytes> = each.iter().map(Prompt::body).collect();
        assert_eq!(bodies, [r#"{"model":"m","prompt":"a","x":1.0}"#, r#"{"model":"m","prompt":"\u00e9","x":1.0}"#]);
        for (prompt, rest) in [("\"a\"", ""), (r#"["a"]"#, ""), ("[1,2]", ""), (r#"["a","b"]"#, r#","stream":true"#)] {
            assert!(list(prompt, rest).each().is_none(), "{prompt}{rest}");
        }
    }
}
