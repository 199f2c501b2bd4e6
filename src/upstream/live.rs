//! An OpenAI-compatible API over HTTP, by reqwest.
//!
//! Invariant: whatever an upstream sends, this returns an answer or a
//! [`Failure`] with its numbers, within the policy's timeouts and bounds.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, Stream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::{Client, Response, Url};

use super::client::{CannotStart, Key, MAX_ERROR, client, innermost};
use super::{Delivery, Flow, Reply, Said, Upstream};
use crate::answer::{Answer, Progress};
use crate::clock::Clock;
use crate::openai::{Endpoint, pace, sse};
use crate::policy::{Secret, Tier, Timeouts};
use crate::prompt::Prompt;
use crate::trace::{Failure, Phase};

/// The most bytes of one answer that are read.
const MAX_ANSWER: usize = 32 << 20;
/// One live upstream.
#[derive(Debug)]
pub struct Live<C> {
    client: Client,
    clock: C,
    timeouts: Timeouts,
    urls: HashMap<&'static str, Url>,
    key: Option<Key>,
}

impl<C: Clock> Live<C> {
    /// A client for the API at `base_url`.
    ///
    /// # Errors
    /// When the key cannot be a header, or no TLS client can be made.
    pub fn new(base_url: &str, key: Option<&Secret>, timeouts: Timeouts, clock: C) -> Result<Self, CannotStart> {
        let url = |endpoint: Endpoint| {
            let url = Url::parse(&format!("{base_url}{}", endpoint.path()));
            url.map(|url| (endpoint.path(), url)).map_err(|_| CannotStart::Url(base_url.to_owned()))
        };
        Ok(Self {
            client: client(base_url, timeouts)?,
            clock,
            timeouts,
            urls: Endpoint::ALL.into_iter().map(url).collect::<Result<_, _>>()?,
            key: key.map(|key| Key::new(base_url, key)).transpose()?,
        })
    }

    async fn send(&self, tier: &Tier, prompt: &Prompt) -> Result<Response, Failure> {
        let body = prompt.body_for(&tier.model, tier.needs_logprobs());
        let mut headers = prompt.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Compressed frames could not be read as they come.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // One key for several tiers' bodies would be a conflict, or worse, give
        // the draft of one tier for the answer of another.
        if let Some(key) = headers.get_mut("idempotency-key") {
            let of_tier = [key.as_bytes(), b"-", tier.name.as_bytes()].concat();
            if let Ok(of_tier) = HeaderValue::from_bytes(&of_tier) {
                *key = of_tier;
            }
        }
        if let Some(key) = &self.key {
            headers.insert(header::AUTHORIZATION, key.header());
        }
        let sent = self.client.post(self.urls[prompt.endpoint.path()].clone()).headers(headers).body(body).send();
        // A whole answer's head comes when all of it is there.
        let bound = if prompt.stream { self.timeouts.first_byte } else { self.timeouts.total };
        let response = self.clock.within(bound, sent).await;
        response.ok_or(Failure::TimedOut { phase: Phase::FirstByte, bound })?.map_err(|error| {
            if error.is_timeout() {
                return Failure::TimedOut { phase: Phase::Connect, bound: self.timeouts.connect };
            }
            Failure::Unreachable(innermost(&error))
        })
    }

    /// The pieces of a body, each within the idle timeout, all by `deadline`.
    fn pieces(&self, response: Response, deadline: Duration) -> BoxStream<'static, Result<Bytes, Failure>> {
        let (clock, Timeouts { idle, total, .. }) = (self.clock.clone(), self.timeouts);
        let state = (response.bytes_stream().boxed(), 0usize);
        let pieces = stream::try_unfold(state, move |(mut body, received)| {
            let clock = clock.clone();
            async move {
                let left = deadline.saturating_sub(clock.now());
                match clock.within(idle.min(left), body.next()).await {
                    None if left < idle => Err(Failure::TimedOut { phase: Phase::WholeAnswer, bound: total }),
                    None => Err(Failure::TimedOut { phase: Phase::NextPiece, bound: idle }),
                    Some(None) => Ok(None),
                    Some(Some(Err(_))) => Err(Failure::Cut { received }),
                    Some(Some(Ok(piece))) => {
                        let received = received + piece.len();
                        if received > MAX_ANSWER {
                            return Err(Failure::TooLarge { bound: MAX_ANSWER });
                        }
                        Ok(Some((piece, (body, received))))
                    }
                }
            }
        });
        pieces.boxed()
    }

    async fn ask_in_time(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let deadline = self.clock.now() + self.timeouts.total;
        let response = self.send(tier, prompt).await?;
        let status = response.status().as_u16();
        let headers = kept(response.headers());
        if !(200..300).contains(&status) {
            let retry_after = pace::retry_after(response.headers());
            let body = beginning(self.pieces(response, deadline)).await;
            return Err(Failure::Refused { status, body, retry_after });
        }
        let content_type =
            response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let pieces = self.pieces(response, deadline);
        let malformed = |why| Failure::Malformed { content_type: named(&content_type), why };
        let read = if content_type.starts_with("text/event-stream") {
            let frames = frames(prompt.endpoint, pieces, self.clock.clone()).map_err(hiding(self.key.clone()));
            if delivery != Delivery::Hold && prompt.stream {
                return Ok(Reply::live(Said::Flow(Flow { frames: first_frame_checked(frames).await?, headers })));
            }
            Answer::from_frames(prompt.endpoint, frames.try_collect().await?)
        } else {
            Answer::from_body(prompt.endpoint, gather(pieces).await?)
        };
        let mut answer = read.map_err(malformed)?;
        answer.headers = headers;
        Ok(Reply::live(Said::Whole(answer.into())))
    }
}

impl<C: Clock> Upstream for Live<C> {
    async fn ask(&self, tier: &Tier, prompt: &Prompt, delivery: Delivery) -> Result<Reply, Failure> {
        let bound = self.timeouts.total;
        let asked = self.clock.within(bound, self.ask_in_time(tier, prompt, delivery)).await;
        asked.unwrap_or(Err(Failure::TimedOut { phase: Phase::WholeAnswer, bound })).map_err(hiding(self.key.clone()))
    }
}

/// Hides the key in what a failure says.
fn hiding(key: Option<Key>) -> impl Fn(Failure) -> Failure + Send + 'static {
    move |failure| key.iter().fold(failure, |failure, key| failure.hiding(key.secret()))
}

async fn gather(mut pieces: BoxStream<'static, Result<Bytes, Failure>>) -> Result<Bytes, Failure> {
    let Some(first) = pieces.try_next().await? else { return Ok(Bytes::new()) };
    let Some(second) = pieces.try_next().await? else { return Ok(first) };
    let mut whole = BytesMut::from(&first[..]);
    whole.extend_from_slice(&second);
    while let Some(piece) = pieces.try_next().await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// The first bytes of an error's body, as much as may be wanted of it.
async fn beginning(mut pieces: BoxStream<'static, Result<Bytes, Failure>>) -> Bytes {
    let mut beginning = BytesMut::new();
    while let (true, Some(Ok(piece))) = (beginning.len() < MAX_ERROR, pieces.next().await) {
        beginning.extend_from_slice(&piece[..piece.len().min(MAX_ERROR - beginning.len())]);
    }
    beginning.freeze()
}

/// The events of a body. A body that ends before `[DONE]` and before every
/// choice has said why it ended was cut.
fn frames<C: Clock>(
    endpoint: Endpoint,
    pieces: BoxStream<'static, Result<Bytes, Failure>>,
    clock: C,
) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
    struct Reading<C> {
        clock: C,
        pieces: BoxStream<'static, Result<Bytes, Failure>>,
        splitter: sse::Splitter,
        progress: Progress,
        received: usize,
        is_over: bool,
    }
    let reading = Reading {
        clock,
        pieces,
        splitter: sse::Splitter::default(),
        progress: Progress::new(endpoint),
        received: 0,
        is_over: false,
    };
    stream::try_unfold(reading, |mut reading| async move {
        loop {
            let event = if reading.is_over { reading.splitter.finish() } else { reading.splitter.next_event() };
            match event {
                Some(data) if &data[..] == sse::DONE => {
                    to_the_end(reading.pieces, reading.clock);
                    return Ok(None);
                }
                Some(data) => {
                    // An error in mid-stream is a failure.
                    let malformed = |why| Failure::Malformed { content_type: "an event stream".to_owned(), why };
                    reading.progress.note(&data).map_err(malformed)?;
                    return Ok(Some((data, reading)));
                }
                None if reading.is_over && reading.progress.is_finished() => return Ok(None),
                None if reading.is_over => return Err(Failure::Cut { received: reading.received }),
                None => match reading.pieces.try_next().await? {
                    Some(piece) => {
                        reading.received += piece.len();
                        reading.splitter.push(&piece).map_err(|_| Failure::TooLarge { bound: sse::MAX_EVENT })?;
                    }
                    None => reading.is_over = true,
                },
            }
        }
    })
}

/// Reads what comes after the last event, which is nothing but the end of the body: with
/// that unread, the connection could not be used again. Nobody waits for it.
fn to_the_end<C: Clock>(mut pieces: BoxStream<'static, Result<Bytes, Failure>>, clock: C) {
    const TIME: Duration = Duration::from_secs(1);
    if pieces.next().now_or_never().is_none() {
        tokio::spawn(async move { clock.within(TIME, pieces.next()).await.is_some() });
    }
}

/// Waits for the first frame, so that an upstream that fails at once can still
/// be answered with an error status.
async fn first_frame_checked(
    frames: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
    let mut frames = Box::pin(frames);
    let first = frames.next().await.unwrap_or(Err(Failure::Cut { received: 0 }))?;
    Ok(stream::once(async { Ok(first) }).chain(frames).boxed())
}

/// The response headers that a client may see.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let is_kept = |name: &HeaderName| {
        let name = name.as_str();
        name == "x-request-id" || name.starts_with("openai-") || name.starts_with("x-ratelimit-")
    };
    headers.iter().filter(|(name, _)| is_kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn named(content_type: &str) -> String {
    let kind = content_type.split(';').next().unwrap_or("").trim();
    if kind.is_empty() { "a body of unknown type".to_owned() } else { kind.to_owned() }
}
