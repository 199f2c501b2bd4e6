//! What a scraper reads: in Prometheus' format, and as docs/metrics.md says.

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Served, append, cascade, client, root, shown};

/// What a gateway shows that has answered one prompt whole, one streamed, and refused one.
async fn scraped() -> String {
    let (served, metrics) = Served::start_with_metrics(&root().join("policies/demo.yaml"));
    for (model, stream) in [("cascade", false), ("cascade", true), ("nobody", false)] {
        let body = json!({"model": model, "stream": stream,
            "messages": [{"role": "user", "content": "What is the capital of Australia?"}]});
        let url = format!("{}/v1/chat/completions", served.url);
        let response = client().post(url).body(body.to_string()).send().await.expect("a response");
        response.bytes().await.expect("a body");
    }
    client().get(metrics).send().await.expect("metrics").text().await.expect("text")
}

fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(&format!("{sample} ")));
    let line = line.unwrap_or_else(|| panic!("no {sample} in\n{text}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_counted() {
    let text = scraped().await;
    let is = |sample: &str, wanted: f64| assert!((value(&text, sample) - wanted).abs() < 1e-12, "{sample}\n{text}");
    is("cascade_requests_total{route=\"chat_completions\",status_class=\"2xx\"}", 2.0);
    is("cascade_requests_total{route=\"chat_completions\",status_class=\"4xx\"}", 1.0);
    // Two tiers are unsure of it, each time; the second time by their caches where they have one.
    is("cascade_attempts_total{tier=\"ada\",result=\"rejected\"}", 2.0);
    is("cascade_escalations_total{from=\"ada\",to=\"babbage\",reason=\"score\"}", 2.0);
    is("cascade_attempts_total{tier=\"curie\",result=\"accepted\"}", 2.0);
    is("cascade_score_count{tier=\"ada\"}", 2.0);
    is("cascade_score_bucket{tier=\"ada\",le=\"0.45\"}", 0.0);
    is("cascade_score_bucket{tier=\"ada\",le=\"0.55\"}", 2.0);
    is("cascade_unpriced_total", 0.0);
    is("cascade_overhead_seconds_count", 2.0);
    let spent = ["served", "rejected"].map(|kind| {
        let of = |tier: &str| value(&text, &format!("cascade_cost_usd_total{{tier=\"{tier}\",kind=\"{kind}\"}}"));
        ["ada", "babbage", "curie", "davinci"].map(of).iter().sum::<f64>()
    });
    assert!(spent.iter().all(|usd| *usd > 0.0), "{text}");
    let baseline = value(&text, "cascade_baseline_cost_usd_total{from=\"model\"}");
    assert!(baseline > spent.iter().sum::<f64>(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_own_checker_has_nothing_to_say() {
    let text = scraped().await;
    let checker = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut checker) = checker else {
        eprintln!(
            "SKIPPED: promtool (Debian's package prometheus) is absent, so the metrics' text was not checked by it"
        );
        return;
    };
    checker.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("it reads");
    let output = checker.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{}", shown(&output));
}

/// What a gateway shows that has all there is: limits, and a calibration that is watched.
async fn everything() -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let [limited, tuned] = ["limited.yaml", "tuned.yaml"].map(|name| folder.path().join(name));
    let demo = std::fs::read_to_string(root().join("policies/demo.yaml")).expect("readable");
    let limits = "    model: davinci-demo\n    limits: { requests_per_minute: 600 }\n";
    std::fs::write(&limited, demo.replace("    model: davinci-demo\n", limits)).expect("written");
    let calibrated = cascade()
        .args(["calibrate", "fixtures", "--max-loss", "0.25", "--confidence", "0.8", "--policy"])
        .arg(&limited)
        .arg("-o")
        .arg(&tuned)
        .output()
        .expect("it runs");
    assert!(calibrated.status.success(), "{}", shown(&calibrated));
    append(&tuned, "drift: {}\n");
    // Nobody listens there, which is shown too.
    let (_served, metrics) = Served::start_with_metrics_as(&tuned, &["--redis", "redis://127.0.0.1:1"]);
    client().get(metrics).send().await.expect("metrics").text().await.expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_metric_is_in_the_docs() {
    let (some, all) = (scraped().await, everything().await);
    let named = |text: &str| text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert!(named(&all) > named(&some));
    // Escalations have samples once there was one.
    let text = all + &some;
    let kinds: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut seen = std::collections::HashSet::new();
    let families = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let rows = families.filter(|(name, _)| seen.insert(*name)).map(|(name, help)| {
        let kind = kinds.iter().find(|(known, _)| *known == name).expect("a type").1;
        let sample = text
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name}_bucket{{")));
        let labels = sample.and_then(|line| Some(line.split_once('{')?.1.split_once('}')?.0)).unwrap_or_default();
        let labels: Vec<&str> = labels
            .split(',')
            .filter_map(|label| label.split_once('='))
            .map(|(name, _)| name)
            .filter(|name| *name != "le")
            .collect();
        format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "))
    });
    let table = format!("| metric | kind | labels | what |\n|---|---|---|---|\n{}", rows.collect::<String>());
    let path = root().join("docs/metrics.md");
    let page = std::fs::read_to_string(&path).expect("docs/metrics.md");
    let (start, end) = ("<!-- metrics -->\n", "<!-- /metrics -->");
    let (before, rest) = page.split_once(start).expect("its start");
    let (known, after) = rest.split_once(end).expect("its end");
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, [before, start, &table, end, after].concat()).expect("written");
        return;
    }
    assert!(known == table, "run: UPDATE_README=1 cargo test --test metrics");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_asks_for_metrics_that_there_are() {
    let text = scraped().await;
    let page = std::fs::read_to_string(root().join("docs/grafana.json")).expect("docs/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let asked: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        .map(|target| target["expr"].as_str().expect("a query"))
        .collect();
    assert!(asked.len() > 15);
    for name in asked.iter().flat_map(|query| query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))) {
        let family = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(!name.starts_with("cascade_") || text.contains(&format!("# TYPE {family} ")), "no {name}");
    }
}
