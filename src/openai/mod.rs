//! Wire shapes of the OpenAI-compatible API, read as little as possible.
//!
//! Invariant: a body is never rebuilt from a parsed form. What must change is
//! spliced ([`splice`]); everything else travels byte for byte.

pub mod canonical;
pub mod chunk;
pub mod contract;
pub mod convert;
pub mod envelope;
pub mod glance;
pub mod logprobs;
pub mod pace;
pub mod request;
pub mod responses;
mod scan;
pub mod splice;
pub mod sse;
pub mod turn;

use std::fmt;

/// The endpoints that are cascaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`, the legacy one.
    Completions,
    /// `POST /v1/responses`.
    Responses,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Completions, Self::Responses];

    /// The path under the API's base URL, with a leading slash.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Responses => "/responses",
        }
    }

    /// The endpoint of a request path, with or without `/v1`.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        match path.strip_prefix("/v1").unwrap_or(path) {
            "/chat/completions" => Some(Self::Chat),
            "/completions" => Some(Self::Completions),
            "/responses" => Some(Self::Responses),
            _ => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/v1{}", self.path())
    }
}
