//! What the client sent against what the upstream got, and back, for each kind
//! of request: by JSON pointer, byte by byte, and header by header, each against
//! a short list of allowed edits.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::{END, Fake, ROLE, Served, USAGE, WORD, response, sse, two_tiers};

/// The places at which two values differ: pointer, what was, what is.
fn diff(was: &Value, is: &Value, at: &str, found: &mut BTreeMap<String, (Value, Value)>) {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            for name in was.keys().chain(is.keys()) {
                let missing = Value::from("(not there)");
                diff(
                    was.get(name).unwrap_or(&missing),
                    is.get(name).unwrap_or(&missing),
                    &format!("{at}/{name}"),
                    found,
                );
            }
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            was.iter().zip(is).enumerate().for_each(|(i, (was, is))| diff(was, is, &format!("{at}/{i}"), found));
        }
        _ if was != is => _ = found.insert(at.to_owned(), (was.clone(), is.clone())),
        _ => {}
    }
}

fn edits(was: &str, is: &str) -> Vec<String> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let mut found = BTreeMap::new();
    diff(&parse(was), &parse(is), "", &mut found);
    found.into_iter().map(|(at, (was, is))| format!("{at}: {was} -> {is}")).collect()
}

/// Fields that no gateway knows, numbers that a rebuilt body would lose, odd
/// spacing, escapes.
const ODD: &str = r#""seed":18446744073709551617,  "a":1.0,"b" : 1e2 ,"c":{"z":1,"a":[ ]},"d":"\u00e9\/""#;

struct Kind {
    path: &'static str,
    /// With `ODD` in its place.
    body: String,
    /// What the upstream gets that the client did not write.
    edits: &'static [&'static str],
    /// The same in bytes: each of these texts is put for the other.
    bytes: &'static [(&'static str, &'static str)],
    answer: String,
    content_type: &'static str,
    /// What the client gets that the upstream did not write, in bytes.
    back: Vec<(&'static str, &'static str)>,
}

#[expect(clippy::too_many_lines, reason = "a table, a row for each kind")]
fn kinds() -> Vec<Kind> {
    let logprobs = r#"{"content":[{"token":"hi","logprob":-0.01}]}"#;
    let chat = format!(
        r#"{{ "id":"x","big":18446744073709551617, "choices":[{{"index":0,"message":{{"role":"assistant","content":"hi"}},"logprobs": {logprobs},"finish_reason":"stop"}}],"one":1.0}}"#
    );
    let stream = sse(&[ROLE, WORD, END, USAGE, "[DONE]"]);
    let legacy = r#"{"object":"text_completion", "choices":[{"text":" pain","index":0,"logprobs":{"token_logprobs":[-0.01]},"finish_reason":"stop"}]}"#;
    let responses = r#"{"object":"response","status":"completed", "output":[{"type":"message","content":[{"type":"output_text","text":"hi","logprobs":[{"token":"hi","logprob":-0.01}]}]}],"x":1.0}"#;
    let tool = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},"logprobs":{"content":[{"token":"x","logprob":-0.1}]},"finish_reason":"tool_calls"}]}"#;
    let whole = |path, body: String, edits, bytes, answer: &str, back| Kind {
        path,
        body,
        edits,
        bytes,
        answer: answer.to_owned(),
        content_type: "application/json",
        back,
    };
    vec![
        whole(
            "/v1/chat/completions",
            format!(r#"{{ {ODD}, "model":"two", "messages":[{{"role":"user","content":"hi"}}] }}"#),
            &[r#"/logprobs: "(not there)" -> true"#, r#"/model: "two" -> "small-model""#],
            &[("{ \"seed\"", "{\"logprobs\":true, \"seed\""), ("\"two\"", "\"small-model\"")],
            &chat,
            vec![(r#"{"content":[{"token":"hi","logprob":-0.01}]}"#, "null")],
        ),
        whole(
            "/v1/chat/completions",
            format!(r#"{{{ODD},"model":"two","logprobs" : true,"top_logprobs":3,"n":1,"messages":[]}}"#),
            &[r#"/model: "two" -> "small-model""#],
            &[("\"two\"", "\"small-model\"")],
            &chat,
            vec![],
        ),
        whole(
            "/v1/chat/completions",
            format!(
                r#"{{{ODD},"model":"large","messages":[],"response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{{}}}}}}}}"#
            ),
            &[r#"/model: "large" -> "large-model""#],
            &[("\"large\"", "\"large-model\"")],
            &chat,
            vec![],
        ),
        whole(
            "/v1/chat/completions",
            format!(
                r#"{{{ODD},"model":"two","tools":[{{"type":"function","function":{{"name":"f","strict":true,"parameters":{{"type":"object"}}}}}}],"messages":[]}}"#
            ),
            &[r#"/logprobs: "(not there)" -> true"#, r#"/model: "two" -> "small-model""#],
            &[("{\"seed\"", "{\"logprobs\":true,\"seed\""), ("\"two\"", "\"small-model\"")],
            tool,
            vec![(r#"{"content":[{"token":"x","logprob":-0.1}]}"#, "null")],
        ),
        Kind {
            path: "/v1/chat/completions",
            body: format!(r#"{{{ODD},"model":"two","stream":true,"stream_options":{{ }},"messages":[]}}"#),
            edits: &[
                r#"/logprobs: "(not there)" -> true"#,
                r#"/model: "two" -> "small-model""#,
                r#"/stream_options/include_usage: "(not there)" -> true"#,
            ],
            bytes: &[
                ("{\"seed\"", "{\"logprobs\":true,\"seed\""),
                ("\"two\"", "\"small-model\""),
                ("\"stream_options\":{ }", "\"stream_options\":{\"include_usage\":true}"),
            ],
            answer: stream.clone(),
            content_type: "text/event-stream",
            back: vec![
                (r#"{"content":[{"token":"hi","logprob":-0.01}]}"#, "null"),
                (
                    "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}}\n\n",
                    "",
                ),
            ],
        },
        Kind {
            path: "/v1/chat/completions",
            body: format!(
                r#"{{{ODD},"model":"large","stream":true,"stream_options":{{"include_usage":true,"x":1.0}},"messages":[]}}"#
            ),
            edits: &[r#"/model: "large" -> "large-model""#],
            bytes: &[("\"large\"", "\"large-model\"")],
            answer: stream,
            content_type: "text/event-stream",
            back: vec![],
        },
        whole(
            "/v1/completions",
            format!(r#"{{{ODD},"model":"two","prompt":"a\nb"}}"#),
            &[r#"/logprobs: "(not there)" -> 5"#, r#"/model: "two" -> "small-model""#],
            &[("{\"seed\"", "{\"logprobs\":5,\"seed\""), ("\"two\"", "\"small-model\"")],
            legacy,
            vec![(r#"{"token_logprobs":[-0.01]}"#, "null")],
        ),
        whole(
            "/v1/responses",
            format!(
                r#"{{{ODD},"model":"two","store":false,"include":[ "x" ],"input":[{{"role":"user","content":"hi"}}]}}"#
            ),
            &[r#"/include: ["x"] -> ["message.output_text.logprobs","x"]"#, r#"/model: "two" -> "small-model""#],
            &[("[ \"x\" ]", "[\"message.output_text.logprobs\",\"x\"]"), ("\"two\"", "\"small-model\"")],
            responses,
            vec![(r#"[{"token":"hi","logprob":-0.01}]"#, "[]")],
        ),
        whole(
            "/v1/responses",
            format!(r#"{{{ODD},"model":"two","input":"kept by the provider"}}"#),
            &[r#"/model: "two" -> "large-model""#],
            &[("\"two\"", "\"large-model\"")],
            responses,
            vec![],
        ),
    ]
}

fn replaced(text: &str, edits: &[(&str, &str)]) -> String {
    edits.iter().fold(text.to_owned(), |text, (was, is)| {
        assert_eq!(text.matches(was).count(), 1, "{was} stands once in {text}");
        text.replacen(was, is, 1)
    })
}

#[tokio::test]
async fn only_the_allowed_edits_are_made_to_bodies() {
    for kind in kinds() {
        let (answer, content_type) = (kind.answer.clone(), kind.content_type);
        let fake = Fake::start(move |_| response(200, content_type, answer.clone())).await;
        let folder = tempfile::tempdir().expect("a folder");
        let served = Served::start(Some(&two_tiers(folder.path(), &fake.base_url, "")));
        let request = support::client().post(format!("{}{}", served.url, kind.path)).body(kind.body.clone());
        let back = request.send().await.expect("a response");
        assert_eq!(back.status(), 200, "{}", kind.body);
        let got = back.text().await.expect("a body");
        let seen = fake.seen();
        assert_eq!(seen.len(), 1, "asked once: {}", kind.body);
        let sent = String::from_utf8(seen[0].body.to_vec()).expect("utf-8");
        assert_eq!(edits(&kind.body, &sent), kind.edits, "there, by pointer");
        assert_eq!(sent, replaced(&kind.body, kind.bytes), "there, byte by byte");
        assert_eq!(got, replaced(&kind.answer, &kind.back), "back, byte by byte");
        println!(
            "{} {:?}: {} edits there, {} back",
            kind.path,
            &kind.body[kind.body.len() - 30..],
            kind.edits.len(),
            kind.back.len()
        );
    }
    assert!(
        edits(r#"{"a":1}"#, r#"{"a":1,"b":2}"#).contains(&r#"/b: "(not there)" -> 2"#.to_owned()),
        "a field too many would be seen"
    );
}

#[tokio::test]
async fn only_the_allowed_edits_are_made_to_headers() {
    let fake = Fake::start(|_| {
        let mut answer = response(200, "application/json", support::completion("hi", &[-0.01]).to_string());
        for (name, value) in [
            ("x-request-id", "up"),
            ("openai-version", "2020-10-01"),
            ("openai-processing-ms", "7"),
            ("x-ratelimit-limit-requests", "9"),
            ("server", "s"),
            ("set-cookie", "c"),
        ] {
            answer.headers_mut().insert(name, value.parse().expect("ascii"));
        }
        answer
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(Some(&two_tiers(folder.path(), &fake.base_url, "")));
    let sent = [
        ("authorization", "Bearer the-clients-own"),
        ("openai-organization", "org"),
        ("openai-project", "proj"),
        ("openai-beta", "x=v2"),
        ("idempotency-key", "k"),
        ("x-client-request-id", "c1"),
        ("user-agent", "OpenAI/Python 3.54.0"),
        ("x-stainless-lang", "python"),
        ("x-stainless-retry-count", "1"),
        ("x-cascade-session", "s"),
        ("cookie", "c"),
        ("x-forwarded-for", "10.0.0.1"),
        ("accept-encoding", "gzip"),
    ];
    let mut request = support::client().post(format!("{}/v1/chat/completions", served.url));
    for (name, value) in sent {
        request = request.header(name, value);
    }
    let back = request.body(r#"{"model":"two","messages":[]}"#).send().await.expect("a response");
    let seen = fake.seen().remove(0).headers;
    let got: BTreeMap<&str, &str> = seen.iter().map(|(n, v)| (n.as_str(), v.to_str().expect("ascii"))).collect();
    let host =
        fake.base_url.strip_prefix("http://").and_then(|h| h.strip_suffix("/v1")).expect("an address").to_owned();
    let wanted = BTreeMap::from([
        ("accept", "*/*"),
        ("accept-encoding", "identity"),
        ("authorization", "Bearer sk-test-0123456789abcdef"),
        ("content-length", "53"),
        ("content-type", "application/json"),
        ("host", host.as_str()),
        // One key for each tier, or the second tier would be given the first one's answer.
        ("idempotency-key", "k-small"),
        ("openai-beta", "x=v2"),
        ("openai-organization", "org"),
        ("openai-project", "proj"),
        ("user-agent", "OpenAI/Python 3.54.0"),
        ("x-client-request-id", "c1"),
        ("x-stainless-lang", "python"),
        ("x-stainless-retry-count", "1"),
    ]);
    assert_eq!(got, wanted);
    let names: Vec<&str> = back.headers().keys().map(http::HeaderName::as_str).collect();
    let mut names: Vec<&str> = names.into_iter().filter(|n| !n.starts_with("x-cascade-")).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "content-length",
            "content-type",
            "date",
            "openai-processing-ms",
            "openai-version",
            "x-ratelimit-limit-requests",
            "x-request-id"
        ]
    );
    assert_eq!(back.headers()["x-cascade-upstream-request-id"], "up");
}
