//! The error body of the OpenAI API: `{"error":{message,type,param,code}}`.
//!
//! Invariant: all four keys are always there; `param` and `code` may be null.

use serde::Serialize;

/// The inside of an error body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// One sentence for a person: what is wrong and what to do.
    pub message: String,
    /// The class of error, `invalid_request_error` for one.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The request field at fault, if one is.
    pub param: Option<String>,
    /// A word for programs, `model_not_found` for one.
    pub code: Option<&'static str>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a ErrorBody,
}

impl ErrorBody {
    /// The body as sent to a client.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Envelope { error: self }).unwrap_or_default()
    }
}
