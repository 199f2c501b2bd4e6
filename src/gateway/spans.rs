//! Requests as OpenTelemetry's spans, told once they have ended: one of the server, and
//! below it one for each tier asked, by the conventions for generative AI.
//!
//! Invariant: a collector that is slow or gone costs spans, never time; each span is
//! exported, failed or dropped, and counted as that. No text of a prompt or an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanExporter, SpanProcessor,
};

use crate::explanation::{Explanation, Told};

/// What is wrong with a stream that the upstream broke off.
const BROKEN: &str = "stream_interrupted";

/// How long what waits may take to be sent at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// What became of spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    waiting: AtomicUsize,
    /// The collector has them.
    pub exported: AtomicU64,
    /// The collector did not take them.
    pub failed: AtomicU64,
    /// More waited than may.
    pub dropped: AtomicU64,
}

/// Sends spans to the collector that the environment names.
#[derive(Debug)]
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    counts: Arc<SpanCounts>,
    /// What clients speak.
    scheme: &'static str,
}

/// The first of these variables that is set to something.
fn variable(names: [&str; 2]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

impl Spans {
    /// Begins to, where `OTEL_EXPORTER_OTLP_ENDPOINT` (or that of traces) is set, as the
    /// other variables of OpenTelemetry say. Not to be called on the runtime.
    ///
    /// # Errors
    /// Where they say what cannot be.
    pub fn of_environment(is_tls: bool) -> anyhow::Result<Option<Self>> {
        use opentelemetry_otlp as otlp;
        let is = |name: &str, word: &str| std::env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case(word));
        let endpoint = variable([otlp::OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, otlp::OTEL_EXPORTER_OTLP_ENDPOINT]);
        let Some(endpoint) = endpoint else { return Ok(None) };
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let protocol = variable([otlp::OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, otlp::OTEL_EXPORTER_OTLP_PROTOCOL]);
        if let Some(other) = protocol.filter(|name| name != "http/protobuf") {
            bail!("OTEL_EXPORTER_OTLP_PROTOCOL is `{other}`; known is `http/protobuf` alone");
        }
        let timeout = variable([otlp::OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, otlp::OTEL_EXPORTER_OTLP_TIMEOUT]);
        let timeout = timeout.and_then(|ms| ms.parse().ok()).map_or(Duration::from_secs(10), Duration::from_millis);
        // Fails only where a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client =
            reqwest::blocking::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
        if endpoint.starts_with("http://") {
            // Without the system's certificates, which a bare machine may not have.
            client = client.tls_certs_only([]);
        }
        let exporter = otlp::SpanExporter::builder().with_http().with_http_client(client.build()?);
        let exporter = exporter.with_protocol(Protocol::HttpBinary).with_timeout(timeout).build();
        let exporter = exporter.with_context(|| format!("cannot send spans to {endpoint}"))?;
        Ok(Some(Self::to(exporter, if is_tls { "https" } else { "http" })))
    }

    fn to(exporter: impl SpanExporter + 'static, scheme: &'static str) -> Self {
        use opentelemetry_sdk::trace::{OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT};
        let counts = Arc::new(SpanCounts::default());
        let capacity = std::env::var(OTEL_BSP_MAX_QUEUE_SIZE).ok().and_then(|value| value.parse().ok());
        let capacity = capacity.unwrap_or(OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT).max(1);
        let inner = BatchSpanProcessor::builder(Counted { inner: exporter, counts: counts.clone() })
            .with_batch_config(BatchConfigBuilder::default().with_max_queue_size(capacity).build())
            .build();
        let named = Resource::builder().build().get(&Key::from("service.name"));
        let mut resource = Resource::builder();
        if named.is_none_or(|name| name.as_str().starts_with("unknown_service")) {
            resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_span_processor(Bounded { inner, capacity, counts: counts.clone() })
            .build();
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(env!("CARGO_PKG_VERSION"));
        let tracer = provider.tracer_with_scope(scope.build());
        Self { provider, tracer, counts, scheme }
    }

    /// What became of spans so far.
    pub(super) fn counts(&self) -> &SpanCounts {
        &self.counts
    }

    /// Tells of a request that ended at this time since 1970.
    pub(super) fn note(&self, told: &Explanation, ended: Duration) {
        let at = |ms: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(ms.max(0.0) / 1000.0);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact")]
        let start_ms = told.at_ms.unwrap_or_default() as f64;
        let end = SystemTime::UNIX_EPOCH + ended;
        let parent = told.traceparent.as_deref().and_then(remote_parent);
        let parent = parent.map_or(Context::new(), |parent| Context::new().with_remote_span_context(parent));
        let route = format!("/v1{}", told.endpoint);
        let mut root = self
            .tracer
            .span_builder(format!("POST {route}"))
            .with_kind(SpanKind::Server)
            .with_start_time(at(start_ms))
            .with_attributes([
                KeyValue::new("http.request.method", "POST"),
                KeyValue::new("http.route", route),
                KeyValue::new("url.scheme", self.scheme),
                KeyValue::new("gen_ai.request.model", told.model.clone()),
            ])
            .start_with_context(&self.tracer, &parent);
        if !root.is_recording() {
            return;
        }
        let own = [("cascade.request_id", &told.id), ("cascade.policy", &told.policy)];
        own.into_iter().for_each(|(name, value)| root.set_attribute(KeyValue::new(name, value.clone())));
        let costs = [("cascade.cost_usd", told.cost_usd), ("cascade.baseline_cost_usd", told.baseline_usd)];
        costs.into_iter().for_each(|(name, usd)| set(&mut root, name, usd));
        set(&mut root, "cascade.tier", told.served.clone());
        set(&mut root, "cascade.is_less", told.is_less.then_some(true));
        set(&mut root, "http.response.status_code", told.status.map(i64::from));
        if told.status.is_some_and(|status| status >= 500) || told.is_broken {
            root.set_attribute(KeyValue::new("error.type", if told.is_broken { BROKEN } else { "every_tier_failed" }));
            root.set_status(Status::error(""));
        }
        let within = Context::new().with_remote_span_context(root.span_context().clone());
        let mut from = start_ms;
        for attempt in &told.attempts {
            let until = from + attempt.elapsed_ms;
            let flowed = attempt.outcome.starts_with("flowing");
            self.attempt(told, attempt, &within, at(from), if flowed { end } else { at(until).min(end) });
            from = until;
        }
        root.end_with_timestamp(end);
    }

    fn attempt(&self, told: &Explanation, attempt: &Told, within: &Context, start: SystemTime, end: SystemTime) {
        let operation = if told.endpoint == "/completions" { "text_completion" } else { "chat" };
        let failed = attempt.outcome.strip_prefix("failed(").map(|rest| rest.trim_end_matches(')'));
        // What a cache of ours answers is no call, nor is what our limits keep back.
        let is_cached = matches!(attempt.cache.as_str(), "hit" | "coalesced" | "similar");
        let is_ours = is_cached || matches!(failed, Some("limited" | "open"));
        let name = if is_ours { format!("cascade {}", attempt.tier) } else { format!("{operation} {}", attempt.model) };
        let call = [
            KeyValue::new("gen_ai.operation.name", operation),
            // The API that is spoken, whoever answers by it.
            KeyValue::new("gen_ai.provider.name", "openai"),
            KeyValue::new("gen_ai.request.model", attempt.model.clone()),
        ];
        let mut span = self
            .tracer
            .span_builder(name)
            .with_kind(if is_ours { SpanKind::Internal } else { SpanKind::Client })
            .with_start_time(start)
            .with_attributes(call.into_iter().filter(|_| !is_ours).chain([
                KeyValue::new("cascade.tier", attempt.tier.clone()),
                KeyValue::new("cascade.outcome", attempt.outcome.clone()),
                KeyValue::new("cascade.cache", attempt.cache.clone()),
            ]))
            .start_with_context(&self.tracer, within);
        let tokens = [
            ("gen_ai.usage.input_tokens", attempt.input_tokens),
            ("gen_ai.usage.output_tokens", attempt.output_tokens),
        ];
        set(&mut span, "cascade.score", attempt.score);
        set(&mut span, "cascade.threshold", attempt.threshold);
        set(&mut span, "cascade.cost_usd", attempt.cost_usd);
        for (name, count) in tokens {
            set(&mut span, name, count.filter(|_| !is_ours).and_then(|count| i64::try_from(count).ok()));
        }
        let is_broken = told.is_broken && attempt.outcome.starts_with("flowing");
        // The status where there was one: `refused 429`.
        let failed = failed.map(|why| why.trim_start_matches("refused ").to_owned());
        if let Some(why) = failed.or(is_broken.then(|| BROKEN.to_owned())) {
            span.set_attribute(KeyValue::new("error.type", why));
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(end);
    }

    /// Sends what waits, for two seconds at most. Not to be called on the runtime.
    pub fn end(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FAREWELL) {
            tracing::warn!("some spans were not sent: {error}");
        }
    }
}

fn set(span: &mut opentelemetry_sdk::trace::Span, name: &'static str, value: Option<impl Into<opentelemetry::Value>>) {
    if let Some(value) = value {
        span.set_attribute(KeyValue::new(name, value));
    }
}

/// Who a `traceparent` of version 00 names; none where it is malformed.
fn remote_parent(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let mut hex = |digits: usize| {
        let is = |part: &&str| {
            part.len() == digits && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        parts.next().filter(is)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    // Later versions may say more.
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let parent = SpanContext::new(trace, span, flags, true, TraceState::default());
    parent.is_valid().then_some(parent)
}

/// Counts what is exported.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    counts: Arc<SpanCounts>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.inner.export(batch).await;
        self.counts.waiting.fetch_sub(count, Ordering::Relaxed);
        let of = if result.is_ok() { &self.counts.exported } else { &self.counts.failed };
        of.fetch_add(count as u64, Ordering::Relaxed);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Lets no more wait than may, and counts the others: the inner one drops unseen.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    capacity: usize,
    counts: Arc<SpanCounts>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_as_w3c_writes_it() {
        let read = |text: &str| remote_parent(text).map(|parent| (parent.trace_id().to_string(), parent.is_sampled()));
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(read(&format!("00-{trace}-00f067aa0ba902b7-01")), Some((trace.to_owned(), true)));
        assert_eq!(read(&format!("00-{trace}-00f067aa0ba902b7-00")), Some((trace.to_owned(), false)));
        assert_eq!(read(&format!("01-{trace}-00f067aa0ba902b7-01-more")), Some((trace.to_owned(), true)));
        for wrong in [
            "",
            "00-1-1-01",
            &format!("ff-{trace}-00f067aa0ba902b7-01"),
            &format!("00-{trace}-0000000000000000-01"),
            &format!("00-{trace}-00f067aa0ba902b7-01-more"),
            &format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
