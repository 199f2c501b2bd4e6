//! Everything that is not cascaded, sent through untouched: files, images,
//! audio, batches, assistants, paths nobody knows yet, WebSockets.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{ApiError, Gateway};
use crate::clock::Clock;
use crate::upstream::{Passage, end_to_end};

/// Answers a request that no route of ours takes.
pub(super) async fn answer<U, C: Clock>(gateway: &Gateway<U, C>, request: Request) -> Response {
    let id = gateway.request_ids.next();
    let mut response = match (&gateway.passage, request.method()) {
        // Browsers ask before they call; nobody is invited across origins.
        (_, &Method::OPTIONS) => StatusCode::NO_CONTENT.into_response(),
        (Some(passage), _) => pass(passage, request).await,
        (None, _) => ApiError::unknown_url(request.method(), request.uri().path()).into_response(),
    };
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-cascade-request-id", id.clone());
        response.headers_mut().entry("x-request-id").or_insert(id);
    }
    response
}

/// Sends a request on and its answer back, both as they come.
pub(super) async fn pass<C: Clock>(passage: &Passage<C>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let path = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path).to_owned();
    // Taken before the body is: the client's side of an upgrade.
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (head, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let body = has_body.then(|| body.into_data_stream());
    let theirs = match passage.send(head.method, &path, &head.headers, body).await {
        Ok(theirs) => theirs,
        Err(failure) => return ApiError::of_failure(&failure, failure.to_string(), "").into_response(),
    };
    let status = theirs.status();
    let headers = end_to_end(theirs.headers());
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) = (status, upgrade) {
        return switch(theirs, upgrade, headers);
    }
    let mut response = Response::new(Body::from_stream(theirs.bytes_stream()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Joins both sides of an upgraded connection until either ends.
fn switch(theirs: reqwest::Response, ours: OnUpgrade, mut headers: HeaderMap) -> Response {
    if let Some(protocol) = theirs.headers().get(header::UPGRADE) {
        headers.insert(header::UPGRADE, protocol.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    tokio::spawn(async move {
        let (Ok(ours), Ok(mut theirs)) = tokio::join!(ours, theirs.upgrade()) else { return };
        // A connection that breaks off ends the other one too.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut theirs).await;
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    *response.headers_mut() = headers;
    response
}
