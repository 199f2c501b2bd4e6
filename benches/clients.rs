//! What the HTTP client costs, by how low it stands: reqwest as it is used, the pooling
//! client of hyper-util under it, and hyper's own connections, read and written by the task
//! that asks. CPU time of this process a request, 64 requests at a time:
//!
//!     PATH/TO/mock-upstream --port 9100 --default size=1024 &
//!     cargo bench --bench clients -- http://127.0.0.1:9100/v1/embeddings

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

const AT_A_TIME: usize = 64;
const EACH: usize = 400;
const ROUNDS: usize = 3;
const BODY: &str = r#"{"model":"m","input":"some text to be embedded"}"#;

fn request(url: &str) -> Request<Full<Bytes>> {
    let request = Request::post(url).header(header::CONTENT_TYPE, "application/json");
    request.body(Full::from(BODY)).expect("a request")
}

/// Microseconds of CPU of this process.
fn spent() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    // A hundred ticks a second, on all that Linux runs on.
    (ticks(11) + ticks(12)) * 10_000.0
}

/// Runs a loop of requests in 64 tasks; microseconds a request.
async fn measure<F: Future<Output = ()> + Send + 'static>(work: impl Fn() -> F) -> f64 {
    let before = spent();
    let tasks: Vec<_> = (0..AT_A_TIME).map(|_| tokio::spawn(work())).collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let requests = (AT_A_TIME * EACH) as f64;
    (spent() - before) / requests
}

async fn by_reqwest(client: reqwest::Client, url: reqwest::Url) {
    for _ in 0..EACH {
        let sent = client.post(url.clone()).header(header::CONTENT_TYPE, "application/json").body(BODY).send();
        let body = sent.await.expect("an answer").bytes().await.expect("a body");
        assert!(!body.is_empty());
    }
}

async fn by_pool(client: Client<HttpConnector, Full<Bytes>>, url: String) {
    for _ in 0..EACH {
        let response = client.request(request(&url)).await.expect("an answer");
        assert!(!response.into_body().collect().await.expect("a body").to_bytes().is_empty());
    }
}

async fn by_connection(url: String) {
    let address = url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    let socket = TcpStream::connect(&address).await.expect("a connection");
    socket.set_nodelay(true).expect("a socket");
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.expect("a connection");
    let asking = async {
        for _ in 0..EACH {
            let mut request = request(&url);
            request.headers_mut().insert(header::HOST, address.parse().expect("a host"));
            let response = sender.send_request(request).await.expect("an answer");
            assert!(!response.into_body().collect().await.expect("a body").to_bytes().is_empty());
        }
    };
    tokio::select! {
        () = asking => {}
        ended = connection => ended.expect("a connection"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Some(url) = std::env::args().skip(1).find(|argument| argument.starts_with("http://")) else {
        println!("skipped: no URL of an upstream was given, see benches/clients.rs");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let reqwest = reqwest::Client::builder().tls_certs_only([]).tcp_nodelay(true).http1_only();
    let reqwest = reqwest.redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool = Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(4)).build(connector);
    for _ in 0..ROUNDS {
        let parsed: reqwest::Url = url.parse().expect("a URL");
        let each = [
            ("reqwest", measure(|| by_reqwest(reqwest.clone(), parsed.clone())).await),
            ("hyper-util's pool", measure(|| by_pool(pool.clone(), url.clone())).await),
            ("hyper's connections", measure(|| by_connection(url.clone())).await),
        ];
        let shown = each.map(|(name, cost)| format!("{name} {cost:.1} us ({:.2})", cost / each[2].1));
        println!("{}", shown.join(", "));
    }
}
