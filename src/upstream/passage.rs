//! The way through for everything that is not cascaded: any path, any method,
//! any body, streamed both ways and never held whole.
//!
//! Invariant: nothing of a body is read. Of the headers only those change that
//! belong to a connection, to this gateway, or to the caller's own key.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use reqwest::{Client, Response};
use tokio::sync::oneshot;

use super::client::{CannotStart, Key, MAX_ERROR, client, innermost};
use crate::clock::Clock;
use crate::openai::envelope::hidden;
use crate::policy::{Secret, Timeouts};
use crate::trace::{Failure, Phase};

/// Where everything else goes.
#[derive(Debug)]
pub struct Passage<C> {
    client: Client,
    clock: C,
    timeouts: Timeouts,
    base_url: String,
    key: Option<Key>,
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
            key: key.map(|key| Key::new(base_url, key)).transpose()?,
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
        upgrades: bool,
        body: Option<S>,
    ) -> Result<Response, Failure>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let mut onward = onward(headers, upgrades);
        if let Some(key) = &self.key {
            onward.insert(header::AUTHORIZATION, key.header());
        }
        let mut request = self.client.request(method, format!("{}{path}", self.base_url)).headers(onward);
        // An upload takes as long as its sender takes; the upstream's time
        // begins when it has all of it.
        let (uploaded, is_uploaded) = oneshot::channel::<()>();
        match body {
            Some(body) => {
                let held = stream::unfold(uploaded, |_dropped_at_the_end| async { None });
                let uploading = body.map_err(Into::into).chain(held);
                request = request.body(reqwest::Body::wrap_stream(uploading));
            }
            None => drop(uploaded),
        }
        let (clock, bound) = (self.clock.clone(), self.timeouts.first_byte);
        let out_of_time = pin!(async move {
            let _ = is_uploaded.await;
            clock.sleep(bound).await;
        });
        match select(pin!(request.send()), out_of_time).await {
            Either::Left((sent, _)) => sent.map_err(|error| {
                if error.is_timeout() {
                    return Failure::TimedOut { phase: Phase::Connect, bound: self.timeouts.connect };
                }
                Failure::Unreachable(innermost(&error))
            }),
            Either::Right(_) => Err(Failure::TimedOut { phase: Phase::FirstByte, bound }),
        }
    }

    /// The body of a response as it comes; an error's beginning with stars where it
    /// repeats the key. What is passed through may well be
    /// silent for a while, but not for longer than a whole answer may take.
    pub fn pieces(&self, response: Response) -> BoxStream<'static, Result<Bytes, Failure>> {
        let key = self.key.clone().filter(|_| response.status().as_u16() >= 400);
        let mut pieces = self.untouched(response);
        let Some(key) = key else { return pieces };
        let beginning = async move {
            let (mut beginning, mut end) = (BytesMut::new(), None);
            while beginning.len() < MAX_ERROR && end.is_none() {
                match pieces.next().await {
                    Some(Ok(piece)) => beginning.extend_from_slice(&piece),
                    other => end = Some(other),
                }
            }
            let rest = match end {
                Some(None) => stream::empty().boxed(),
                Some(Some(failed)) => stream::once(async { failed }).boxed(),
                None => pieces,
            };
            stream::once(async move { Ok(hidden(beginning.freeze(), key.secret())) }).chain(rest)
        };
        stream::once(beginning).flatten().boxed()
    }

    fn untouched(&self, response: Response) -> BoxStream<'static, Result<Bytes, Failure>> {
        let (clock, bound) = (self.clock.clone(), self.timeouts.total);
        let state = (response.bytes_stream().boxed(), 0usize);
        stream::try_unfold(state, move |(mut body, received)| {
            let clock = clock.clone();
            async move {
                match clock.within(bound, body.next()).await {
                    None => Err(Failure::TimedOut { phase: Phase::NextPiece, bound }),
                    Some(None) => Ok(None),
                    Some(Some(Err(_))) => Err(Failure::Cut { received }),
                    Some(Some(Ok(piece))) => {
                        let received = received + piece.len();
                        Ok(Some((piece, (body, received))))
                    }
                }
            }
        })
        .boxed()
    }
}

/// Headers of one connection, which end where it ends (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Headers in which a caller may carry a key or a session of its own, and those
/// that were for us.
const CALLERS_OWN: [HeaderName; 7] = [
    header::HOST,
    header::AUTHORIZATION,
    header::EXPECT,
    header::COOKIE,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
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

/// A request's headers for the upstream. An upgrade is asked for anew.
fn onward(headers: &HeaderMap, upgrades: bool) -> HeaderMap {
    let mut onward = end_to_end(headers);
    CALLERS_OWN.iter().for_each(|name| _ = onward.remove(name));
    let ours: Vec<HeaderName> = onward.keys().filter(|n| n.as_str().starts_with("x-cascade-")).cloned().collect();
    ours.iter().for_each(|name| _ = onward.remove(name));
    // Browsers, which can set no header, carry their key in a subprotocol.
    if let Some(protocols) = onward.remove(header::SEC_WEBSOCKET_PROTOCOL) {
        let listed = protocols.to_str().unwrap_or("").split(',').map(str::trim);
        let kept: Vec<&str> = listed.filter(|p| !p.is_empty() && !p.starts_with("openai-insecure-api-key.")).collect();
        if let (false, Ok(kept)) = (kept.is_empty(), HeaderValue::try_from(kept.join(", "))) {
            onward.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
        }
    }
    if upgrades {
        onward.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        onward.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
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
            ("cookie", "c"),
            ("api-key", "k"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-x"),
            ("content-type", "multipart/form-data; boundary=b"),
            ("openai-beta", "assistants=v2"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let onward = onward(&headers, false);
        let mut names: Vec<&str> = onward.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "openai-beta", "sec-websocket-protocol"]);
        assert_eq!(onward["sec-websocket-protocol"], "realtime");
    }
}
