//! `GET /v1/models`: the names a client may use as `model`.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::ApiError;
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

/// One of them.
pub(super) fn one(policy: &Policy, Path(name): Path<String>) -> Response {
    if policy.model_names().any(|known| known == name) {
        return answer(&object(&name));
    }
    let meant = did_you_mean(&name, policy.model_names()).map(str::to_owned);
    ApiError::unknown_model(&UnknownModel { model: name, meant }, policy).into_response()
}
