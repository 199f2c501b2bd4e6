//! The HTTP client of one live upstream, and what every request to it shares.

use std::time::Duration;

use http::HeaderValue;
use reqwest::Client;

use crate::policy::{Secret, Timeouts};

/// Shorter than the 5 s after which vLLM and uvicorn hang up, so that a
/// connection about to be closed is not used again.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// Why a client for an upstream could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// The key holds what no header can carry.
    #[error("the api_key of {0} cannot be sent in a header")]
    Key(String),
    /// The base URL is none for requests.
    #[error("{0} is no URL that can be asked")]
    Url(String),
    /// The TLS or HTTP client would not start.
    #[error("no HTTP client for {upstream}: {source}")]
    Client {
        /// Its base URL.
        upstream: String,
        /// Why.
        source: reqwest::Error,
    },
}

/// Bytes of an error that are looked at.
pub(super) const MAX_ERROR: usize = 64 << 10;

/// A client that follows no redirect, goes by the proxy that the environment names
/// (`HTTPS_PROXY`, `NO_PROXY`...), and leaves bodies compressed as they are.
pub(super) fn client(base_url: &str, timeouts: Timeouts) -> Result<Client, CannotStart> {
    // Fails only where a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Client::builder()
        .http1_only()
        .connect_timeout(timeouts.connect)
        .pool_idle_timeout(POOL_IDLE)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none());
    if base_url.starts_with("http://") {
        // Without the system's certificates, which a bare machine may not have.
        client = client.tls_certs_only([]);
    }
    client.build().map_err(|source| CannotStart::Client { upstream: base_url.to_owned(), source })
}

/// The key that an upstream asks for.
#[derive(Clone, Debug)]
pub(super) struct Key(HeaderValue);

const SCHEME: &str = "Bearer ";

impl Key {
    /// Marked so that nothing prints it.
    pub fn new(base_url: &str, key: &Secret) -> Result<Self, CannotStart> {
        let value = HeaderValue::from_str(&format!("{SCHEME}{}", key.expose()));
        let mut value = value.map_err(|_| CannotStart::Key(base_url.to_owned()))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// The `Authorization` header.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// To be hidden wherever an upstream repeats it.
    pub fn secret(&self) -> &[u8] {
        &self.0.as_bytes()[SCHEME.len()..]
    }
}

/// The cause at the bottom, which says most in fewest words; the layers above
/// repeat the URL.
pub(super) fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
