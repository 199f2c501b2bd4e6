//! Every error a client can see, and the one place where a failure becomes an
//! HTTP status.
//!
//! Invariant: OpenAI's shape, all four keys. Both OpenAI SDKs retry 408, 409,
//! 429 and 5xx twice, so `x-should-retry` says whether that can help.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use crate::answer::NotAnAnswer;
use crate::openai::envelope::ErrorBody;
use crate::policy::{Policy, UnknownModel};
use crate::prompt::{MAX_LIST, NotAPrompt};
use crate::trace::{Failure, Outcome, Trace};

/// An error as a client gets it.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    body: Body,
    /// Where waiting helps.
    retry_after: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Body {
    Ours(ErrorBody),
    /// The upstream's own error, already in OpenAI's shape.
    Theirs(Bytes),
}

const INVALID: &str = "invalid_request_error";
const UPSTREAM: &str = "upstream_error";
/// OpenAI's SDKs do not wait longer than this for a retry.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

impl ApiError {
    fn ours(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: String) -> Self {
        let body = Body::Ours(ErrorBody { message, kind, param: None, code });
        Self { status, body, retry_after: None }
    }

    fn param(mut self, param: &str) -> Self {
        if let Body::Ours(body) = &mut self.body {
            body.param = Some(param.to_owned());
        }
        self
    }

    /// No such path.
    #[must_use]
    pub fn unknown_url(method: &Method, path: &str) -> Self {
        Self::ours(
            StatusCode::NOT_FOUND,
            INVALID,
            Some("unknown_url"),
            format!("Unknown request URL: {method} {path}."),
        )
    }

    /// The path is there, but not for this method.
    #[must_use]
    pub fn method_not_allowed(method: &Method, path: &str) -> Self {
        let message = format!("Not allowed to {method} on {path}.");
        Self::ours(StatusCode::METHOD_NOT_ALLOWED, INVALID, Some("method_not_supported"), message)
    }

    /// The request brings no key.
    #[must_use]
    pub fn no_key() -> Self {
        let message = "You did not provide an API key. Send it as: Authorization: Bearer YOUR_KEY.".to_owned();
        Self::ours(StatusCode::UNAUTHORIZED, INVALID, Some("invalid_api_key"), message)
    }

    /// The request's key is not known, or revoked.
    #[must_use]
    pub fn wrong_key() -> Self {
        let message = "Incorrect API key provided. The keys here are those that `cascade keys` made.".to_owned();
        Self::ours(StatusCode::UNAUTHORIZED, INVALID, Some("invalid_api_key"), message)
    }

    /// The key does not open this.
    #[must_use]
    pub fn key_may_not(what: &str) -> Self {
        Self::ours(StatusCode::FORBIDDEN, INVALID, Some("key_not_allowed"), format!("This key may not {what}."))
    }

    /// The key's dollars of this month are spent.
    #[must_use]
    pub fn out_of_money(dollars: f64) -> Self {
        let message = format!("This key has spent its ${dollars} of this month.");
        Self::ours(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", Some("insufficient_quota"), message)
    }

    /// The key's own limit is reached.
    #[must_use]
    pub fn key_is_limited(of: &'static str, retry_after: Duration) -> Self {
        let message = format!("This key's limit of {of} per minute is reached.");
        let mut error = Self::ours(StatusCode::TOO_MANY_REQUESTS, of, Some("rate_limit_exceeded"), message);
        error.retry_after = Some(retry_after);
        error
    }

    /// A header names a tier that is not there, or leaves none to ask.
    #[must_use]
    pub fn no_such_tiers(what: String) -> Self {
        Self::ours(StatusCode::BAD_REQUEST, INVALID, Some("invalid_tier"), what)
    }

    /// The body is larger than is read.
    #[must_use]
    pub fn too_large(bound: usize) -> Self {
        let message = format!("The request body is larger than {bound} bytes.");
        Self::ours(StatusCode::PAYLOAD_TOO_LARGE, INVALID, Some("request_too_large"), message)
    }

    /// The body broke off, or is compressed.
    #[must_use]
    pub fn unreadable(what: &str) -> Self {
        Self::ours(StatusCode::BAD_REQUEST, INVALID, None, what.to_owned())
    }

    /// The body is compressed in a way that is not read.
    #[must_use]
    pub fn unsupported_encoding() -> Self {
        let message = "Compressed request bodies are not read here; send the body without Content-Encoding.".to_owned();
        Self::ours(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, Some("unsupported_content_encoding"), message)
    }

    /// A fault of ours.
    #[must_use]
    pub fn internal() -> Self {
        let message = "The gateway failed; this is a fault of its own, and its log says more.".to_owned();
        Self::ours(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, message)
    }

    /// There is no room for more at the moment.
    #[must_use]
    pub fn overloaded() -> Self {
        let message = "The gateway has no room for more at the moment; try again.".to_owned();
        let mut error = Self::ours(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("overloaded"), message);
        error.retry_after = Some(Duration::from_secs(1));
        error
    }

    /// A list of more prompts than are taken at once.
    #[must_use]
    pub fn too_many_prompts() -> Self {
        let message = format!("`prompt` is a list of more than {MAX_LIST} prompts; send several requests.");
        Self::ours(StatusCode::BAD_REQUEST, INVALID, None, message).param("prompt")
    }

    /// The path leads out of what is passed through.
    #[must_use]
    pub fn odd_path() -> Self {
        let message = "The path has `.` or `..` in it, or is none.".to_owned();
        Self::ours(StatusCode::BAD_REQUEST, INVALID, Some("invalid_path"), message)
    }

    /// The client's own time for an answer is up.
    #[must_use]
    pub fn out_of_patience() -> Self {
        let message = "There was no answer within the time that x-stainless-read-timeout gives.".to_owned();
        Self::ours(StatusCode::GATEWAY_TIMEOUT, UPSTREAM, Some("client_timeout"), message)
    }

    /// The answer cannot be turned into the shape that the client asked for.
    #[must_use]
    pub fn unreadable_answer() -> Self {
        let message = "The answer was streamed in frames that do not make up a whole body.".to_owned();
        Self::ours(StatusCode::BAD_GATEWAY, UPSTREAM, Some("upstream_malformed"), message)
    }

    /// The model is not one of the policy's.
    #[must_use]
    pub fn unknown_model(unknown: &UnknownModel, policy: &Policy) -> Self {
        let names: Vec<&str> = policy.model_names().collect();
        let meant = unknown.meant.as_ref().map_or(String::new(), |m| format!(" Did you mean `{m}`?"));
        let asked: String = unknown.model.chars().take(100).collect();
        let message = format!("The model `{asked}` does not exist.{meant} The models here are {}.", names.join(", "));
        Self::ours(StatusCode::NOT_FOUND, INVALID, Some("model_not_found"), message).param("model")
    }

    /// Every tier of the ladder failed. What the last one said decides the
    /// status; what all of them said is in the message.
    #[must_use]
    pub fn exhausted(policy: &Policy, trace: &Trace, not_recorded_hint: &str) -> Self {
        let failure = trace.attempts.iter().rev().find_map(|a| match &a.outcome {
            Outcome::Failed(failure) => Some(failure),
            Outcome::Answered { .. } | Outcome::Flowing { .. } => None,
        });
        let Some(failure) = failure else {
            return Self::ours(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, "no tier was asked".to_owned());
        };
        let said: Vec<String> = trace
            .attempts
            .iter()
            .map(|attempt| {
                let tier = &policy.tiers[attempt.tier].name;
                match &attempt.outcome {
                    // What it says about our key is for the log only.
                    Outcome::Failed(failure @ Failure::Refused { status, .. }) if !matches!(status, 401 | 403) => {
                        let said = failure.upstream_said();
                        let colon = if said.is_empty() { "" } else { ": " };
                        format!("{tier}: {failure}{colon}{said}")
                    }
                    Outcome::Failed(failure) => format!("{tier}: {failure}"),
                    answered => format!("{tier}: {answered}"),
                }
            })
            .collect();
        let said = said.join("; ");
        let message = format!("No tier gave an answer that could be served: {}.", said.trim_end_matches('.'));
        Self::of_failure(failure, message, not_recorded_hint)
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The one map from a failure to a status; `message` says what happened.
    #[must_use]
    pub fn of_failure(failure: &Failure, message: String, not_recorded_hint: &str) -> Self {
        let upstream = |status, code| Self::ours(status, UPSTREAM, Some(code), message.clone());
        match failure {
            Failure::Limited { retry_after, .. } => {
                let mut error =
                    Self::ours(StatusCode::TOO_MANY_REQUESTS, "requests", Some("rate_limit_exceeded"), message);
                error.retry_after = Some(*retry_after);
                error
            }
            Failure::Refused { status: 401 | 403, .. } => {
                // Passed on, it would read as if the client's own key were wrong.
                upstream(StatusCode::BAD_GATEWAY, "upstream_authentication")
            }
            Failure::Refused { status, body, retry_after } => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
                let mut error = if status.is_client_error() && is_envelope(body) {
                    Self { status, body: Body::Theirs(body.clone()), retry_after: None }
                } else if status == StatusCode::TOO_MANY_REQUESTS {
                    Self::ours(status, "requests", Some("rate_limit_exceeded"), message)
                } else if status.is_client_error() {
                    Self::ours(status, INVALID, None, message)
                } else {
                    upstream(StatusCode::BAD_GATEWAY, "upstream_failed")
                };
                if status == StatusCode::TOO_MANY_REQUESTS && !failure.is_out_of_quota() {
                    error.retry_after = Some(retry_after.unwrap_or(Duration::from_secs(1)));
                }
                error
            }
            Failure::Open { retry_after } => {
                let mut error = upstream(StatusCode::SERVICE_UNAVAILABLE, "upstream_unavailable");
                error.retry_after = Some(*retry_after);
                error
            }
            Failure::TimedOut { .. } => upstream(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
            Failure::Unreachable(_) => upstream(StatusCode::BAD_GATEWAY, "upstream_unreachable"),
            Failure::Cut { .. } | Failure::TooLarge { .. } | Failure::Malformed { .. } => {
                upstream(StatusCode::BAD_GATEWAY, "upstream_malformed")
            }
            Failure::NotRecorded => {
                let message = format!("No answer is recorded for this prompt. {not_recorded_hint}");
                Self::ours(StatusCode::NOT_FOUND, INVALID, Some("not_recorded"), message)
            }
        }
    }

    /// The data of an error frame, for a failure after the first byte.
    #[must_use]
    pub fn frame(failure: &Failure) -> String {
        ErrorBody {
            message: match failure {
                Failure::Malformed { why: NotAnAnswer::Error(said), .. } => format!("The upstream broke off: {said}"),
                _ => format!("The stream broke off: {failure}."),
            },
            kind: UPSTREAM,
            param: None,
            code: Some("stream_interrupted"),
        }
        .to_json()
    }
}

impl From<NotAPrompt> for ApiError {
    fn from(why: NotAPrompt) -> Self {
        let error = Self::ours(StatusCode::BAD_REQUEST, INVALID, None, why.to_string());
        match why {
            NotAPrompt::Missing(field) => error.param(field),
            NotAPrompt::Json(_) => error,
        }
    }
}

fn is_envelope(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Envelope {
        #[expect(dead_code, reason = "only its presence counts")]
        error: serde_json::Map<String, serde_json::Value>,
    }
    serde_json::from_slice::<Envelope>(body).is_ok()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = match self.body {
            Body::Ours(body) => Bytes::from(body.to_json()),
            Body::Theirs(body) => body,
        };
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let should_retry = if let Some(wait) = self.retry_after {
            let wait = wait.min(MAX_RETRY_AFTER);
            headers.insert("retry-after-ms", HeaderValue::from(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
            "true"
        } else {
            "false"
        };
        headers.insert("x-should-retry", HeaderValue::from_static(should_retry));
        response
    }
}
