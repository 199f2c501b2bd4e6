//! The way through for everything that is not cascaded: any path, any method,
//! any body, streamed both ways and never held whole.
//!
//! Invariant: nothing of a body is read. Of the headers only those change that
//! belong to a connection, to this gateway, or to the caller's own key.

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::{Client, Response};

use super::client::{CannotStart, authorization, client, innermost};
use crate::clock::Clock;
use crate::policy::{Secret, Timeouts};
use crate::trace::{Failure, Phase};

/// Where everything else goes.
#[derive(Debug)]
pub struct Passage<C> {
    client: Client,
    clock: C,
    timeouts: Timeouts,
    base_url: String,
    authorization: Option<HeaderValue>,
}

impl<C: Clock> Passage<C> {
    /// A way to the API at `base_url`.
    ///
    /// # Errors
    /// When the key cannot be a header, or no TLS client can be made.
    pub fn new(base_url: &str, key: Option<&Secret>, timeouts: Timeouts, clock: C) -> Result<Self, CannotStart> {
        Ok(Self {
            client: client(base_url, timeouts)?,
            clock,
            timeouts,
            base_url: base_url.to_owned(),
            authorization: authorization(base_url, key)?,
        })
    }

    /// Sends a request on. `path` begins with a slash, has no `/v1`, and may
    /// end with a query. An error status is a response like any other.
    ///
    /// # Errors
    /// When there is no connection, or no response in time once the body is sent.
    pub async fn send<S, E>(
        &self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Option<S>,
    ) -> Result<Response, Failure>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let mut onward = onward(headers);
        if let Some(key) = &self.authorization {
            onward.insert(header::AUTHORIZATION, key.clone());
        }
        let mut request = self.client.request(method, format!("{}{path}", self.base_url)).headers(onward);
        let has_body = body.is_some();
        if let Some(body) = body {
            request = request.body(reqwest::Body::wrap_stream(body.map_err(Into::into)));
        }
        // An upload takes as long as its sender takes, so the time for the first
        // byte of the answer binds only where there is nothing to upload.
        let bound = if has_body { self.timeouts.total } else { self.timeouts.first_byte };
        let sent = self.clock.within(bound, request.send()).await;
        sent.ok_or(Failure::TimedOut { phase: Phase::FirstByte, bound })?.map_err(|error| {
            if error.is_timeout() {
                return Failure::TimedOut { phase: Phase::Connect, bound: self.timeouts.connect };
            }
            Failure::Unreachable(innermost(&error))
        })
    }
}

/// Headers of one connection, which end where it ends (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// The headers that go on past this hop, those named by `Connection` left out.
#[must_use]
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<&str> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let goes_on = |name: &HeaderName| {
        !HOP_BY_HOP.contains(name) && !named.iter().any(|other| other.eq_ignore_ascii_case(name.as_str()))
    };
    headers.iter().filter(|(name, _)| goes_on(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A request's headers for the upstream. An upgrade is asked for anew where the
/// client asked for one.
fn onward(headers: &HeaderMap) -> HeaderMap {
    let mut onward = end_to_end(headers);
    for name in [header::HOST, header::AUTHORIZATION, header::EXPECT] {
        onward.remove(name);
    }
    let ours: Vec<HeaderName> = onward.keys().filter(|n| n.as_str().starts_with("x-cascade-")).cloned().collect();
    ours.iter().for_each(|name| _ = onward.remove(name));
    if let Some(protocol) = headers.get(header::UPGRADE) {
        onward.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        onward.insert(header::UPGRADE, protocol.clone());
    }
    onward
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connections_own_headers_and_the_callers_key_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "gateway"),
            ("authorization", "Bearer x"),
            ("connection", "keep-alive, X-Mine"),
            ("keep-alive", "5"),
            ("x-mine", "1"),
            ("transfer-encoding", "chunked"),
            ("x-cascade-session", "s"),
            ("content-type", "multipart/form-data; boundary=b"),
            ("openai-beta", "assistants=v2"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let onward = onward(&headers);
        let mut names: Vec<&str> = onward.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "openai-beta"]);
    }
}
