//! Where a request is answered, by its path.
//!
//! Invariant: nobody is answered without a key where keys are asked for, nor after a
//! panic by a reset connection, whichever way a request takes.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowMethods, CorsLayer};

use super::keyring::Holder;
use super::meters::{Meters, Way};
use super::{ApiError, Gateway, Keyring, completion, embeddings, models, passthrough};
use crate::clock::Clock;
use crate::openai::Endpoint;
use crate::upstream::Upstream;

/// Where requests go: completions straight to where they are answered, where nothing
/// stands between, and all else by axum's table.
#[derive(Clone)]
pub struct Routes {
    straight: Option<Arc<dyn Straight>>,
    others: Router,
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").field("others", &self.others).finish_non_exhaustive()
    }
}

/// Answers completions; hides which gateway does.
trait Straight: Send + Sync {
    fn answer(&self, endpoint: Endpoint, request: Request<Incoming>) -> Answering;
}

/// A response on its way.
pub(super) type Answering = BoxFuture<'static, Result<Response, Infallible>>;

impl From<Router> for Routes {
    fn from(others: Router) -> Self {
        Self { straight: None, others }
    }
}

impl Routes {
    pub(super) fn answer(&self, request: Request<Incoming>) -> Answering {
        if let Some(straight) = self.straight.as_ref().filter(|_| request.method() == Method::POST)
            && let Some(endpoint) = Endpoint::from_path(request.uri().path())
        {
            return straight.answer(endpoint, request);
        }
        Box::pin(TowerToHyperService::new(self.others.clone()).call(request))
    }
}

/// The routes of a gateway.
pub fn routes<U: Upstream, C: Clock>(gateway: &Arc<Gateway<U, C>>) -> Routes {
    // Pages of other origins are told so by a layer of the table.
    let is_straight = gateway.cascade.policy().cors.is_empty();
    let straight = is_straight.then(|| Arc::new(gateway.clone()) as Arc<dyn Straight>);
    Routes { straight, others: router(gateway) }
}

impl<U: Upstream, C: Clock> Straight for Arc<Gateway<U, C>> {
    fn answer(&self, endpoint: Endpoint, request: Request<Incoming>) -> Answering {
        let gateway = self.clone();
        let answered = async move {
            let holder = match &gateway.keyring {
                Some(keyring) => match keyring.admit(request.headers()).await {
                    Ok(holder) => Some(holder),
                    Err(error) => return refused(&gateway.meters, Way::Cascaded(endpoint), error),
                },
                None => None,
            };
            completion::answer(gateway, endpoint, request.map(Body::new), holder).await
        };
        let answered = AssertUnwindSafe(answered).catch_unwind();
        Box::pin(answered.map(|response| Ok(response.unwrap_or_else(|_| ApiError::internal().into_response()))))
    }
}

/// All routes, each with and without `/v1`.
fn router<U: Upstream, C: Clock>(gateway: &Arc<Gateway<U, C>>) -> Router {
    let completion = |endpoint: Endpoint| {
        let gateway = gateway.clone();
        post(move |request: Request| {
            let holder = request.extensions().get::<Arc<Holder<C>>>().cloned();
            completion::answer(gateway.clone(), endpoint, request, holder)
        })
    };
    let all_models = {
        let gateway = gateway.clone();
        get(move || async move { models::list(&gateway.cascade.policy()) })
    };
    let one_model = {
        let gateway = gateway.clone();
        get(move |path, request| async move { models::one(&gateway, path, request).await })
    };
    let mut router = Router::new();
    for prefix in ["/v1", ""] {
        for endpoint in Endpoint::ALL {
            router = router.route(&format!("{prefix}{}", endpoint.path()), completion(endpoint));
        }
        router = router
            .route(&format!("{prefix}/models"), all_models.clone())
            .route(&format!("{prefix}/models/{{*model}}"), one_model.clone());
    }
    if gateway.embeddings.is_some() {
        for path in ["/v1/embeddings", "/embeddings"] {
            let gateway = gateway.clone();
            router = router
                .route(path, post(move |request: Request| async move { embeddings::answer(&gateway, request).await }));
        }
    }
    let has_passage = gateway.passage.is_some();
    let cors = cors(&gateway.cascade.policy().cors);
    let anything_else = {
        let gateway = gateway.clone();
        move |request: Request| async move { passthrough::answer(&gateway, request).await }
    };
    router = router.fallback(anything_else.clone());
    router = if has_passage {
        // `GET /v1/chat/completions` lists stored ones; only the upstream knows.
        router.method_not_allowed_fallback(anything_else)
    } else {
        router.method_not_allowed_fallback(|request: Request| async move {
            ApiError::method_not_allowed(request.method(), request.uri().path()).into_response()
        })
    };
    let router = match &gateway.keyring {
        Some(keyring) => {
            let (keyring, meters) = (keyring.clone(), gateway.meters.clone());
            router.layer(from_fn(move |request: Request, next: Next| {
                admit(keyring.clone(), meters.clone(), request, next)
            }))
        }
        None => router,
    };
    let router = router.route("/healthz", get(|| async { "ok\n" }));
    // A fault of ours is one client's error and no reset connection.
    let router = router.layer(CatchPanicLayer::custom(|_| ApiError::internal().into_response()));
    match cors {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// Lets a request on with its holder, or says why not.
async fn admit<C: Clock>(keyring: Arc<Keyring<C>>, meters: Arc<Meters>, mut request: Request, next: Next) -> Response {
    // Browsers ask without a key whether they may call.
    if request.method() != Method::OPTIONS {
        match keyring.admit(request.headers()).await {
            Ok(holder) => _ = request.extensions_mut().insert(holder),
            Err(error) => {
                let way = Endpoint::from_path(request.uri().path()).map_or(Way::Passed, Way::Cascaded);
                return refused(&meters, way, error);
            }
        }
    }
    next.run(request).await
}

/// Counts a request that was let in by nobody.
fn refused(meters: &Meters, way: Way, error: ApiError) -> Response {
    meters.request(way, error.status());
    error.into_response()
}

/// What pages of these origins may do; none where no origin is invited.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let cors =
        CorsLayer::new().allow_methods(AllowMethods::mirror_request()).allow_headers(AllowHeaders::mirror_request());
    (!origins.is_empty()).then(|| cors.allow_origin(origins).expose_headers(tower_http::cors::Any))
}
