//! What operators look at: the listener, and the page in a real browser. Pictures of it
//! are kept in target/screenshots.

mod support;

#[path = "support/browser.rs"]
mod browser;

use std::path::PathBuf;

use browser::Browser;
use http::StatusCode;
use serde_json::{Value, json};
use support::{Served, client, root};

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";
/// A model's name that would do something where it were taken for markup.
const MARKUP: &str = "<img src=x onerror=document.title=1>";

/// The demo's ladder for whatever model is named, with a limit to look at.
fn policy(folder: &std::path::Path) -> PathBuf {
    let demo = std::fs::read_to_string(root().join("policies/demo.yaml")).expect("readable");
    let open = demo
        .replace("routes:\n", "routes:\n  - { when: { model: \"<*\" }, start_at: ada }\n")
        .replace("    model: davinci-demo\n", "    model: davinci-demo\n    limits: { requests_per_minute: 600 }\n");
    let path = folder.join("policy.yaml");
    std::fs::write(&path, open).expect("written");
    path
}

async fn ask(served: &Served, model: &str, question: &str) {
    let body = json!({"model": model, "messages": [{"role": "user", "content": question}]});
    let sent = client().post(format!("{}/v1/chat/completions", served.url)).body(body.to_string()).send().await;
    let back = sent.expect("a response");
    assert_eq!(back.status(), 200, "{:?}", back.text().await);
}

async fn fetched(url: &str) -> String {
    client().get(url).send().await.expect("a response").text().await.expect("text")
}

/// A gateway that has been asked, and where its page is.
async fn busy(folder: &std::path::Path) -> (Served, String) {
    let (served, metrics) = Served::start_with_metrics(&policy(folder));
    for question in ["What is the capital of Australia?", "What is 17 + 26?", "What is the capital of Australia?"] {
        ask(&served, "cascade", question).await;
    }
    ask(&served, MARKUP, "What is 17 + 26?").await;
    (served, metrics.replace("/metrics", ""))
}

/// The same in a window so large, once all of it is shown.
async fn looked_at(width: u32, height: u32, folder: &std::path::Path) -> Option<(Browser, Served, String)> {
    let browser = Browser::open(width, height).await?;
    let (served, admin) = busy(folder).await;
    browser.go(&admin).await;
    browser.until("document.querySelectorAll('#recent tbody tr').length === 4").await;
    Some((browser, served, admin))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_tells_local_browsers_and_nobody_elses_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let (served, admin) = busy(folder.path()).await;
    let get = async |path: &str| client().get(format!("{admin}{path}")).send().await.expect("a response");

    let recent = async |query: &str| -> Value {
        serde_json::from_slice(&get(&format!("/recent{query}")).await.bytes().await.expect("a body")).expect("JSON")
    };
    let told = recent("").await;
    assert_eq!((told["next"].as_u64(), told["requests"].as_array().map(Vec::len)), (Some(4), Some(4)), "{told}");
    assert!(told["ledger"].as_str().is_some_and(|ledger| ledger.starts_with("4 requests, ")), "{told}");
    let last = &told["requests"][3];
    assert_eq!((last["model"].as_str(), last["question"].as_str()), (Some(MARKUP), Some("")), "{last}");
    assert!(last["at_ms"].as_u64() > Some(1_700_000_000_000), "{last}");
    assert_eq!(recent("?after=4").await["requests"], json!([]));
    assert!(get("/policy").await.text().await.expect("text").contains("davinci-demo"));
    for (path, status) in [("/", 200), ("/page.js", 200), ("/page.css", 200), ("/healthz", 200), ("/v1/models", 404)] {
        let back = get(path).await;
        assert_eq!(back.status(), status, "{path}");
        let rules = back.headers()["content-security-policy"].to_str().expect("ascii");
        assert!(rules.starts_with("default-src 'none'"), "{path}: {rules}");
        assert!(back.headers().get("access-control-allow-origin").is_none(), "{path}");
    }
    let metrics = get("/metrics").await.text().await.expect("text");
    for sample in
        ["cascade_cache_entries{tier=\"ada\"} ", "cascade_limit_burst{tier=\"davinci\",kind=\"requests\"} 600"]
    {
        assert!(metrics.contains(sample), "{sample}\n{metrics}");
    }
    // A name that leads here for a moment would make another site's page one of ours.
    let elsewhere = client().get(format!("{admin}/recent")).header("host", "rebound.example").send().await;
    assert_eq!(elsewhere.expect("a response").status(), StatusCode::MISDIRECTED_REQUEST);
    // Words in a header that are no trace's are nobody's business.
    let body = json!({"model": "cascade", "messages": [{"role": "user", "content": "What is 17 + 26?"}]});
    let sent = client().post(format!("{}/v1/chat/completions", served.url)).body(body.to_string());
    sent.header("traceparent", "my secret diary").send().await.expect("a response");
    assert!(!fetched(&format!("{admin}/recent")).await.contains("diary"));
    let posted = client().post(format!("{admin}/policy")).body("name: mine").send().await;
    assert_eq!(posted.expect("a response").status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_door_for_clients_opens_none_to_the_dashboard() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let _served = Served::start_as(None, &[], &["--public", "--admin", &free.to_string()]);
    let elsewhere = client().get(format!("http://{free}/recent")).header("host", "rebound.example").send().await;
    assert_eq!(elsewhere.expect("a response").status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_what_happened_and_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((browser, served, admin)) = looked_at(1280, 1000, folder.path()).await else { return };
    let text = async |selector: &str| {
        let told = browser.value(&format!("document.querySelector('{selector}').innerText")).await;
        told.as_str().expect("text").to_owned()
    };
    // What the page says is what the metrics say.
    let metrics = client().get(format!("{admin}/metrics")).send().await.expect("metrics").text().await.expect("text");
    let sum = |start: &str| -> f64 {
        let samples = metrics.lines().filter(|line| line.starts_with(start));
        samples.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")).sum()
    };
    let tiles = text("#tiles").await;
    assert!(tiles.contains("Requests\n4\n"), "{tiles}");
    // Two of four were answered by a cache, and stand apart.
    let spent = format!("Spent\n${}", shown_usd(sum("cascade_compared_cost_usd_total{from=\"model\"}")));
    assert!(tiles.contains(&spent), "{spent}\n{tiles}");
    let tiers = text("#tiers").await;
    assert!(["ada", "babbage", "curie", "davinci"].iter().all(|tier| tiers.contains(tier)), "{tiers}");
    let why = text("#escalations").await;
    assert!(why.contains("ada → babbage\tits score was too low"), "{why}");
    assert!(text("#held").await.contains("600 of 600 left"));
    assert!(text("#ledger").await.starts_with("4 requests, "));
    assert_eq!(browser.value("document.querySelectorAll('#scores svg').length > 0").await, json!(true));
    // A client's words are text.
    assert!(text("#recent").await.contains(MARKUP));
    assert_eq!(browser.value("[document.images.length, document.title]").await, json!([0, "cascade"]));

    // By keyboard: to the last requests, open the first, close it; where one was before.
    browser.press(TAB).await;
    assert_eq!(browser.value("document.activeElement.className").await, json!("skip"));
    browser.press(ENTER).await;
    let on_a_request = "document.activeElement.matches('#recent button')";
    for _ in 0..3 {
        browser.press(TAB).await;
        if browser.value(on_a_request).await == json!(true) {
            break;
        }
    }
    assert_eq!(browser.value(on_a_request).await, json!(true));
    browser.press(ENTER).await;
    browser.until("document.querySelector('#explain').open").await;
    let told = text("#explain").await;
    assert!(told.contains("to reach") && told.contains("for the last tier alone"), "{told}");
    browser.picture("explain").await;
    // It keeps looking, and the reader stays where he is.
    ask(&served, "cascade", "What is 17 + 26?").await;
    browser.until("document.querySelectorAll('#recent tbody tr').length === 5").await;
    browser.press(ESCAPE).await;
    browser.until("!document.querySelector('#explain').open").await;
    assert_eq!(browser.value(on_a_request).await, json!(true));
    ask(&served, "cascade", "What is 17 + 26?").await;
    browser.until("document.querySelectorAll('#recent tbody tr').length === 6").await;
    assert_eq!(browser.value(on_a_request).await, json!(true));
    let told: Value = serde_json::from_str(&fetched(&format!("{admin}/recent")).await).expect("JSON");
    let compared = &told["savings"]["compared"];
    let [spent, alone] = ["served_usd", "baseline_usd"].map(|name| compared[name].as_f64().expect("dollars"));
    let spent = spent + compared["rejected_usd"].as_f64().expect("dollars");
    let saved = format!("Saved\n{:.1}%", 100.0 * (1.0 - spent / alone));
    assert!(text("#tiles").await.contains(&saved), "{saved}\n{}", text("#tiles").await);
    browser.value("document.querySelector('#pause').click()").await;
    ask(&served, "cascade", "What is 17 + 26?").await;
    browser.until("document.querySelector('#state').innerText === 'paused'").await;
    assert_eq!(browser.value("document.querySelectorAll('#recent tbody tr').length").await, json!(6));
    browser.value("document.querySelector('#pause').click()").await;
    browser.until("document.querySelectorAll('#recent tbody tr').length === 7").await;
    browser.value("document.querySelector('#policy').open = true").await;
    assert!(text("#policy pre").await.contains("davinci-demo"));
    // Nothing comes from elsewhere.
    let from = browser.value("performance.getEntriesByType('resource').map((one) => new URL(one.name).origin)").await;
    assert!(from.as_array().is_some_and(|all| all.len() > 3 && all.iter().all(|one| *one == json!(admin))), "{from}");
    assert_eq!(browser.complaints().await, json!([]));
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        browser.picture(scheme).await;
        let weak = browser.value(WEAK).await;
        assert_eq!(weak, json!([]), "hard to read in {scheme}");
    }
    served.stop();
    browser.until("document.querySelector('#state').innerText.startsWith('the gateway does not answer')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fits_on_a_phone() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((browser, _served, _)) = looked_at(390, 844, folder.path()).await else { return };
    assert_eq!(browser.value("[document.documentElement.scrollWidth, innerWidth]").await, json!([390, 390]));
    let small =
        "[...document.querySelectorAll('button')].filter((one) => one.offsetParent && one.offsetHeight < 44).length";
    assert_eq!(browser.value(small).await, json!(0), "a thumb hits nothing smaller than 44 pixels");
    browser.value("document.querySelector('#recent button').click()").await;
    browser.until("document.querySelector('#explain').open").await;
    let fits = "document.querySelector('#explain').getBoundingClientRect().right <= innerWidth";
    assert_eq!(browser.value(fits).await, json!(true));
    browser.picture("phone-explain").await;
    browser.value("document.querySelector('#explain').close()").await;
    browser.picture("phone").await;
}

/// Texts whose contrast with what is behind them is below 4.5, as WCAG's AA asks.
const WEAK: &str = r"(() => {
  const seen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => { seen.clearRect(0, 0, 1, 1); seen.fillStyle = colour; seen.fillRect(0, 0, 1, 1); return seen.getImageData(0, 0, 1, 1).data; };
  const light = (colour) => { const [r, g, b] = [...rgb(colour)].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (one) => { for (; one; one = one.parentElement) { const c = getComputedStyle(one).backgroundColor; if (rgb(c)[3] === 255) return c; } return 'white'; };
  return [...document.querySelectorAll('body *')].filter((one) => [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && one.checkVisibility()).map((one) => {
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    return [one.textContent.slice(0, 40), (a + 0.05) / (b + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5);
})()";

/// Three digits that count, as the page writes dollars.
fn shown_usd(value: f64) -> String {
    let places =
        (0..30).find(|places| value * 10f64.powi(*places) >= 100.0).and_then(|places| usize::try_from(places).ok());
    format!("{value:.*}", places.expect("a dollar or less"))
}
