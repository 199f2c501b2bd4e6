//! `GET /v1/models`: the names a client may use as `model`.

use axum::extract::{Path, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::{ApiError, Gateway, passthrough};
use crate::clock::Clock;
use crate::policy::{Policy, UnknownModel, did_you_mean};

fn object(name: &str) -> Value {
    // When a model was made is not known here; the field must be a number.
    json!({"id": name, "object": "model", "created": 0, "owned_by": "prompt-cascade"})
}

fn answer(body: &Value) -> Response {
    let mut response = body.to_string().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// All of them.
pub(super) fn list(policy: &Policy) -> Response {
    let data: Vec<Value> = policy.model_names().map(object).collect();
    answer(&json!({"object": "list", "data": data}))
}

/// One of them; one that is not known is looked for where unknown models go.
pub(super) async fn one<U, C: Clock>(gateway: &Gateway<U, C>, Path(name): Path<String>, request: Request) -> Response {
    let policy = &*gateway.cascade.policy();
    if policy.model_names().any(|known| known == name) {
        return answer(&object(&name));
    }
    if let Some(passage) = gateway.passage_of_unknown_models() {
        return passthrough::pass(passage, request).await;
    }
    let meant = did_you_mean(&name, policy.model_names()).map(str::to_owned);
    ApiError::unknown_model(&UnknownModel { model: name, meant }, policy).into_response()
}
