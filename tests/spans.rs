//! Spans as a collector of OpenTelemetry's gets them.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prompt_cascade::clock::{Clock as _, SystemClock};
use prost::Message as _;
use serde_json::{Value, json};
use support::{Fake, Seen, Served, client, response};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

async fn ask(served: &Served, stream: bool, traceparent: &str) {
    let body = json!({"model": "cascade", "stream": stream,
        "messages": [{"role": "user", "content": "What is the capital of Australia?"}]});
    let sent = client().post(format!("{}/v1/chat/completions", served.url)).body(body.to_string());
    let back = sent.header("traceparent", traceparent).send().await.expect("a response");
    assert_eq!(back.status(), 200);
    back.bytes().await.expect("a body");
}

/// A gateway whose spans go to this collector, and where its metrics are.
fn serve(collector: &Fake) -> (Served, String) {
    let endpoint = collector.base_url.trim_end_matches("/v1");
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let served = Served::start_as(None, &variables, &["--admin", &free, "--quiet"]);
    (served, format!("http://{free}/metrics"))
}

/// Spans by their own ids, from the bodies that a collector was sent.
fn spans(seen: &[Seen]) -> Vec<Value> {
    let mut all = Vec::new();
    for one in seen {
        let request = ExportTraceServiceRequest::decode(one.body.clone()).expect("protobuf");
        let body = serde_json::to_value(request).expect("JSON");
        for resource in body["resourceSpans"].as_array().expect("resources") {
            let named = resource["resource"]["attributes"].to_string();
            assert!(named.contains("\"prompt-cascade\""), "{named}");
            for scope in resource["scopeSpans"].as_array().expect("scopes") {
                all.extend(scope["spans"].as_array().expect("spans").iter().cloned());
            }
        }
    }
    all
}

fn attributes(span: &Value) -> BTreeMap<String, Value> {
    let each = span["attributes"].as_array().expect("attributes").iter();
    let value = |pair: &Value| pair["value"].as_object().and_then(|value| value.values().next().cloned());
    each.map(|pair| (pair["key"].as_str().expect("a key").to_owned(), value(pair).expect("a value"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_span_for_each_request_and_below_it_one_for_each_tier() {
    let collector = Fake::start(|_| response(200, "application/x-protobuf", "")).await;
    let (served, _) = serve(&collector);
    let clock = SystemClock::start();
    let began = clock.since_1970();
    ask(&served, false, &format!("00-{TRACE}-{PARENT}-01")).await;
    ask(&served, true, "nonsense").await;
    // A client that is not sampled decides for us, too.
    ask(&served, false, &format!("00-{TRACE}-{PARENT}-00")).await;
    // At the end what still waits is sent.
    served.stop();
    let seen = collector.seen();
    assert!(seen.iter().all(|seen| seen.path == "/v1/traces"));
    assert!(!seen.iter().any(|seen| String::from_utf8_lossy(&seen.body).contains("Australia")));
    let spans = spans(&seen);
    let roots: Vec<&Value> = spans.iter().filter(|span| span["name"] == "POST /v1/chat/completions").collect();
    assert_eq!((roots.len(), spans.len()), (2, 8), "{spans:#?}");
    let root = roots.iter().find(|span| span["traceId"] == TRACE).expect("that of the client's trace");
    assert_eq!((&root["parentSpanId"], &root["kind"]), (&json!(PARENT), &json!(2)));
    let told = attributes(root);
    assert_eq!((&told["cascade.tier"], &told["http.route"]), (&json!("curie"), &json!("/v1/chat/completions")));

    let mut below: Vec<&Value> = spans.iter().filter(|span| span["parentSpanId"] == root["spanId"]).collect();
    below.sort_by_key(|span| span["startTimeUnixNano"].as_str().map(str::to_owned));
    let names: Vec<&str> = below.iter().filter_map(|span| span["name"].as_str()).collect();
    assert_eq!(names, ["chat ada-demo", "chat babbage-demo", "chat curie-demo"]);
    let nanos = |span: &Value, key: &str| span[key].as_str().and_then(|n| n.parse::<u64>().ok()).expect("a time");
    let (start, end) = ("startTimeUnixNano", "endTimeUnixNano");
    for pair in below.windows(2) {
        assert!(nanos(pair[0], end) <= nanos(pair[1], start), "{pair:?}");
    }
    assert!(nanos(root, start) <= nanos(below[0], start) && nanos(below[2], end) <= nanos(root, end));
    // A millisecond is what is known of when it came; the demo's tiers take their time.
    let [began, over] = [began, clock.since_1970()].map(|time| u64::try_from(time.as_nanos()).expect("a time"));
    assert!(nanos(root, start) + 1_000_000 >= began && nanos(root, end) <= over + 1_000_000);
    assert!(below.iter().all(|span| nanos(span, end) - nanos(span, start) > 20_000_000), "{below:#?}");
    assert_eq!(told["http.response.status_code"], "200");
    let first = attributes(below[0]);
    assert_eq!(below[0]["kind"], 3);
    assert_eq!(first["gen_ai.operation.name"], "chat");
    assert_eq!(first["gen_ai.provider.name"], "openai");
    assert_eq!(first["gen_ai.request.model"], "ada-demo");
    assert_eq!(first["cascade.outcome"], "rejected(0.50<0.90)");
    assert!(first.contains_key("gen_ai.usage.input_tokens") && first.contains_key("cascade.score"), "{first:?}");
    // What a cache answers is no call to anybody.
    let other = roots.iter().find(|span| span["traceId"] != TRACE).expect("the other");
    let ours: Vec<&Value> = spans.iter().filter(|span| span["parentSpanId"] == other["spanId"]).collect();
    assert_eq!(ours.len(), 3, "{spans:#?}");
    for span in ours {
        assert_eq!(span["kind"], 1);
        assert!(!attributes(span).keys().any(|key| key.starts_with("gen_ai")), "{span:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_refuses_is_counted_and_costs_no_answer() {
    let collector = Fake::start(|_| response(400, "text/plain", "no")).await;
    let (served, metrics) = serve(&collector);
    ask(&served, false, "").await;
    let clock = SystemClock::start();
    loop {
        let text = client().get(&metrics).send().await.expect("metrics").text().await.expect("text");
        if text.contains("cascade_spans_failed_total 4") {
            break;
        }
        assert!(clock.now() < Duration::from_secs(10), "{text}");
        clock.sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_said_before_anything_is_served() {
    let output = support::cascade()
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .output()
        .expect("it runs");
    let told = support::shown(&output);
    assert!(told.starts_with("exit code: 1") && told.contains("known is `http/protobuf` alone"), "{told}");
}
