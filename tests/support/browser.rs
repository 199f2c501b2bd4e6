//! A real browser without a window, by the protocol of `WebDriver`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prompt_cascade::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::support::client;

/// One window; browser and driver end with it.
pub struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    /// Opens a window so large; none where the driver is absent, which is said.
    pub async fn open(width: u32, height: u32) -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={free}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(driver) = driver else {
            eprintln!("SKIPPED: chromedriver (Debian's package chromium-driver) is absent, so no browser looked");
            return None;
        };
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{free}/session") };
        // Chromium takes no window narrower than 500 pixels, but a telephone's screen.
        let phone = json!({"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1.0, "touch": true}});
        let mut options = json!({"args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
            format!("--window-size={width},{height}")]});
        if width < 500 {
            options["mobileEmulation"] = phone;
        }
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"}}}});
        let clock = SystemClock::start();
        let id = loop {
            let asked = client().post(&browser.session).body(wanted.to_string()).send().await;
            match asked {
                Ok(told) => {
                    let told = read(told).await;
                    break told["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
                }
                Err(error) => assert!(clock.now() < Duration::from_secs(20), "{error}"),
            }
            clock.sleep(Duration::from_millis(100)).await;
        };
        browser.session = format!("{}/{id}", browser.session);
        Some(browser)
    }

    async fn command(&self, path: &str, body: Value) -> Value {
        let sent = client().post(format!("{}/{path}", self.session)).body(body.to_string()).send().await;
        let mut told = read(sent.expect("the driver")).await;
        assert!(told["value"]["error"].is_null(), "{path} {body}: {told}");
        told["value"].take()
    }

    pub async fn go(&self, url: &str) {
        self.command("url", json!({"url": url})).await;
    }

    /// What an expression of JavaScript is.
    pub async fn value(&self, expression: &str) -> Value {
        self.command("execute/sync", json!({"script": format!("return {expression}"), "args": []})).await
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        let clock = SystemClock::start();
        while self.value(expression).await != json!(true) {
            let shown = self.value("document.body.innerText").await;
            assert!(clock.now() < Duration::from_secs(20), "never: {expression}\n{shown}");
            clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// Presses a key; `\u{e004}` is Tab, `\u{e007}` Enter, `\u{e00c}` Escape.
    pub async fn press(&self, key: &str) {
        let actions = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.command("actions", json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]})).await;
    }

    /// `dark` or `light`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let body = json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}});
        self.command("goog/cdp/execute", body).await;
    }

    /// What the page has complained of.
    pub async fn complaints(&self) -> Value {
        self.command("se/log", json!({"type": "browser"})).await
    }

    /// Keeps a picture below `target/`, to be looked at.
    pub async fn picture(&self, name: &str) {
        let whole = json!({"cmd": "Page.captureScreenshot", "params": {"captureBeyondViewport": true}});
        let told = self.command("goog/cdp/execute", whole).await;
        let bytes = decoded(told["data"].as_str().expect("a picture"));
        let folder = crate::support::root().join("target/screenshots");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{name}.png")), bytes).expect("written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser where it is asked to, not where it is killed.
        let _ = Command::new("kill").args(["-TERM", &self.driver.id().to_string()]).status();
        let _ = self.driver.wait();
    }
}

async fn read(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON")
}

/// The bytes of base64.
fn decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() * 3 / 4), 0u32, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        bits = bits << 6 | u32::try_from(digit).expect("below 64");
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).expect("a byte"));
        }
    }
    bytes
}
