//! Everything that is not cascaded, sent through untouched: files, images,
//! audio, batches, assistants, paths nobody knows yet, WebSockets.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::keyring::Holder;
use super::listen::Stay;
use super::meters::Way;
use super::{ApiError, Gateway};
use crate::clock::Clock;
use crate::upstream::{Passage, end_to_end};

/// Answers a request that no route of ours takes.
pub(super) async fn answer<U, C: Clock>(gateway: &Gateway<U, C>, request: Request) -> Response {
    let id = gateway.request_ids.next();
    let holder = request.extensions().get::<Arc<Holder<C>>>().cloned();
    if let Some(holder) = holder.as_ref().filter(|_| gateway.passage.is_some()) {
        if let Err(error) = holder.may_pass() {
            return error.into_response();
        }
        // Nobody here knows what it costs.
        gateway.keyring.iter().for_each(|keyring| keyring.charge(holder, None));
    }
    let mut response = match (&gateway.passage, request.method()) {
        // Browsers ask before they call; nobody is invited across origins.
        (_, &Method::OPTIONS) => StatusCode::NO_CONTENT.into_response(),
        (Some(passage), _) => pass(passage, request).await,
        (None, _) => ApiError::unknown_url(request.method(), request.uri().path()).into_response(),
    };
    gateway.meters.request(Way::Passed, response.status());
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-cascade-request-id", id.clone());
        response.headers_mut().entry("x-request-id").or_insert(id);
    }
    response
}

/// Sends a request on and its answer back, both as they come.
pub(super) async fn pass<C: Clock>(passage: &Passage<C>, mut request: Request) -> Response {
    let may_pass = !matches!(*request.method(), Method::CONNECT | Method::TRACE);
    let Some(path) = onward_path(request.uri()).filter(|_| may_pass) else {
        return ApiError::odd_path().into_response();
    };
    // Taken before the body is: the client's side of an upgrade.
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.filter(|_| is_websocket(&request)).zip(request.extensions_mut().remove::<Stay>());
    let (head, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let body = has_body.then(|| body.into_data_stream());
    let theirs = match passage.send(head.method, &path, &head.headers, upgrade.is_some(), body).await {
        Ok(theirs) => theirs,
        Err(failure) => return ApiError::of_failure(&failure, failure.to_string(), "").into_response(),
    };
    let status = theirs.status();
    let headers = end_to_end(theirs.headers());
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) = (status, upgrade) {
        let (ours, stay) = upgrade;
        return switch(theirs, ours, stay, headers);
    }
    let mut response = Response::new(Body::from_stream(passage.pieces(theirs)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The path and query below the base URL; none where the path would lead out of
/// it once its dots are resolved, as URL parsers do.
fn onward_path(uri: &http::Uri) -> Option<String> {
    let path = uri.path();
    let is_dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if !path.starts_with('/') || path.contains('\\') || path.split('/').any(is_dots) {
        return None;
    }
    let whole = uri.path_and_query().map_or(path, http::uri::PathAndQuery::as_str);
    Some(whole.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(whole).to_owned())
}

/// Whether this asks for a WebSocket, the one protocol that is switched to: any
/// other would be a way past the gateway.
fn is_websocket<B>(request: &http::Request<B>) -> bool {
    let is = |name, word: &str| {
        let value = request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("");
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    request.method() == Method::GET && is(header::UPGRADE, "websocket") && is(header::CONNECTION, "upgrade")
}

/// Joins both sides of an upgraded connection until either ends; it stays for as long.
fn switch(theirs: reqwest::Response, ours: OnUpgrade, stay: Stay, mut headers: HeaderMap) -> Response {
    if let Some(protocol) = theirs.headers().get(header::UPGRADE) {
        headers.insert(header::UPGRADE, protocol.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    tokio::spawn(async move {
        let (Ok(ours), Ok(mut theirs)) = tokio::join!(ours, theirs.upgrade()) else { return };
        // A connection that breaks off ends the other one too.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut theirs).await;
        drop(stay);
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    *response.headers_mut() = headers;
    response
}
