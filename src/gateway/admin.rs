//! What an operator looks at, on a listener of its own: the dashboard, and what it is
//! made from.
//!
//! Invariant: nothing can be changed here, nothing told is of a prompt's or an
//! answer's text, and a page of another site cannot read it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};

use super::{Gateway, metrics};
use crate::clock::Clock;
use crate::upstream::Upstream;

/// Which names a browser may know the listener by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Addresses and `localhost`: a name that somebody else's server answers for could
    /// be made to lead here.
    Local,
    /// Any.
    Any,
}

/// Files of the page: path, type, content.
const FILES: [(&str, &str, &str); 3] = [
    ("/", "text/html; charset=utf-8", include_str!("dashboard/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("dashboard/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("dashboard/page.js")),
];

/// The page has its own files, and nothing from elsewhere.
const PAGE_RULES: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
];

/// The dashboard, `/metrics`, `/recent`, `/policy` and `/healthz`.
pub fn admin_router<U: Upstream, C: Clock>(gateway: &Arc<Gateway<U, C>>, hosts: Hosts) -> Router {
    let metrics = {
        let gateway = gateway.clone();
        get(move || async move {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::text(&gateway)).into_response()
        })
    };
    let recent = {
        let gateway = gateway.clone();
        get(move |request: Request| async move { recent(&gateway, request.uri().query()) })
    };
    let policy = {
        let gateway = gateway.clone();
        get(move || async move { gateway.cascade.policy().effective.clone() })
    };
    let mut router = Router::new();
    for (path, kind, content) in FILES {
        router = router.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], content) }));
    }
    router
        .route("/metrics", metrics)
        .route("/recent", recent)
        .route("/policy", policy)
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(from_fn(move |request: Request, next: Next| guarded(hosts, request, next)))
}

/// The last requests as JSON: with `after=N`, those that were noted after the first N.
fn recent<U: Upstream, C: Clock>(gateway: &Gateway<U, C>, query: Option<&str>) -> Response {
    let after = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("after=")?.parse().ok()));
    let Some(recent) = &gateway.audience.recent else { return StatusCode::NOT_FOUND.into_response() };
    let policy = gateway.cascade.policy();
    match serde_json::to_string(&recent.since(&policy.digest, after.unwrap_or(0))) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn guarded(hosts: Hosts, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if hosts == Hosts::Local && !is_local(host) {
        let why = "this listener is called by an address or as localhost; --public allows other names\n";
        return (StatusCode::MISDIRECTED_REQUEST, why).into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in PAGE_RULES {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a `Host` is an address or `localhost`, with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_local_names_are_not() {
        for host in
            ["", "127.0.0.1:9090", "127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:9090", "[::1]", "10.0.0.7:80"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example", "evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
