//! What a scraper reads, in Prometheus' text format.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::ErrorCounter;

use super::exposition::Exposition;
use super::recorder::Counts;
use super::{Gateway, Occupancy, SpanCounts};
use crate::clock::Clock;
use crate::shared::Shared;
use crate::upstream::{Holding, NamedBreaker, Standing, Upstream};

/// How often the policy was read again while serving.
#[derive(Debug, Default)]
pub struct Reloads {
    /// It came into force.
    pub done: AtomicU64,
    /// It had a fault, and the one before stayed.
    pub failed: AtomicU64,
}

/// All of it.
pub(super) fn text<U: Upstream, C: Clock>(gateway: &Gateway<U, C>) -> String {
    gateway.meters.text()
        + &build()
        + &reloads(&gateway.reloads)
        + &breakers(gateway)
        + &holdings(gateway)
        + &drift(gateway)
        + &room(gateway.room.occupancy())
        + &shared(gateway.shared.as_deref())
        + &lost(gateway)
}

fn build() -> String {
    const NAME: &str = "cascade_build_info";
    let version = env!("CARGO_PKG_VERSION");
    format!("# HELP {NAME} The program\n# TYPE {NAME} gauge\n{NAME}{{version=\"{version}\"}} 1\n")
}

fn reloads(reloads: &Reloads) -> String {
    const NAME: &str = "cascade_reloads_total";
    let rows = [("success", &reloads.done), ("failure", &reloads.failed)];
    let help = format!("# HELP {NAME} Times the policy was read again\n# TYPE {NAME} counter\n");
    rows.iter().fold(help, |text, (result, count)| {
        text + &format!("{NAME}{{result=\"{result}\"}} {}\n", count.load(Ordering::Relaxed))
    })
}

fn breakers<U, C: Clock>(gateway: &Gateway<U, C>) -> String {
    const NAME: &str = "cascade_breaker_state";
    let help = format!("# HELP {NAME} 0 closed, 1 half open, 2 open: left alone\n# TYPE {NAME} gauge\n");
    gateway.breakers.iter().fold(help, |text, NamedBreaker { tier, upstream, breaker, .. }| {
        let value = match breaker.standing(gateway.clock.now()) {
            Standing::Closed => 0,
            Standing::HalfOpen => 1,
            Standing::Open => 2,
        };
        // A name has no quotes in it.
        text + &format!("{NAME}{{tier=\"{tier}\",upstream=\"{upstream}\"}} {value}\n")
    })
}

/// What each tier's cache and limits hold.
fn holdings<U: Upstream, C: Clock>(gateway: &Gateway<U, C>) -> String {
    let policy = gateway.cascade.policy();
    let each: Vec<(&str, Holding)> =
        policy.tiers.iter().map(|tier| (tier.name.as_str(), gateway.cascade.holding(tier))).collect();
    let mut out = Exposition::default();
    let family = |out: &mut Exposition, name, help, pick: fn(&Holding) -> Option<u64>| {
        out.family(name, "gauge", help);
        for (tier, holding) in &each {
            pick(holding).into_iter().for_each(|value| out.sample(&[("tier", tier)], value));
        }
    };
    family(&mut out, "cascade_cache_entries", "Answers in a tier's cache", |h| h.cached);
    family(&mut out, "cascade_cache_bytes", "Bytes in a tier's cache", |h| Some(h.cache_bytes?.0));
    family(&mut out, "cascade_cache_capacity_bytes", "Bytes a tier's cache may hold", |h| Some(h.cache_bytes?.1));
    let kinds = |holding: &Holding| {
        [("requests", holding.requests), ("tokens", holding.tokens), ("concurrent", holding.concurrent)]
    };
    for (name, help, pick) in [
        (
            "cascade_limit_left",
            "What a tier's limits would let through now",
            (|(left, _)| left) as fn((u64, u64)) -> u64,
        ),
        ("cascade_limit_burst", "The most they let through at once", |(_, all)| all),
    ] {
        out.family(name, "gauge", help);
        for (tier, holding) in &each {
            for (kind, room) in kinds(holding) {
                room.into_iter().for_each(|room| out.sample(&[("tier", tier), ("kind", kind)], pick(room)));
            }
        }
    }
    out.text
}

fn drift<U: Upstream, C: Clock>(gateway: &Gateway<U, C>) -> String {
    let Some(status) = gateway.cascade.drift_status() else { return String::new() };
    #[expect(clippy::cast_precision_loss, reason = "counts, shown")]
    rows(&[
        ("cascade_drift_compared_total", "counter", "Prompts compared with the largest tier", status.compared as f64),
        ("cascade_drift_dropped_total", "counter", "Samples let go: too many in flight", status.dropped as f64),
        ("cascade_drift_failed_total", "counter", "Samples the largest tier did not answer", status.failed as f64),
        ("cascade_drift_alarms_total", "counter", "Times the calibration no longer held", status.alarms as f64),
        ("cascade_drift_wealth", "gauge", "Evidence of drift; 1 / (1 - confidence) raises the alarm", status.wealth),
        (
            "cascade_policy_point",
            "gauge",
            "The point of the path in force; 0 is the largest tier alone",
            status.point as f64,
        ),
    ])
}

fn room(occupancy: Occupancy) -> String {
    let Occupancy { connections, bytes, turned_away, shed } = occupancy;
    #[expect(clippy::cast_precision_loss, reason = "counts, shown")]
    rows(&[
        ("cascade_connections", "gauge", "Connections of clients", connections as f64),
        ("cascade_held_bytes", "gauge", "What requests in flight are taken to hold", bytes as f64),
        ("cascade_connections_refused_total", "counter", "Connections there was no room for", turned_away as f64),
        ("cascade_requests_shed_total", "counter", "Requests there was no room for", shed as f64),
    ])
}

/// How it stands with what replicas share; nothing where they share nothing.
fn shared(shared: Option<&Shared>) -> String {
    let Some(shared) = shared else { return String::new() };
    let counts = shared.counts();
    let mut out = Exposition::default();
    out.family("cascade_shared_state_up", "gauge", "Whether what replicas share could be reached");
    out.sample(&[], u8::from(shared.is_up()));
    out.family(
        "cascade_shared_state_requests_total",
        "counter",
        "Times the shared state was asked, or would have been",
    );
    for (result, count) in [("answered", &counts.answered), ("failed", &counts.failed), ("skipped", &counts.skipped)] {
        out.count(&[("result", result)], count);
    }
    out.family("cascade_shared_answers_total", "counter", "Answers looked for among those of other replicas");
    for (result, count) in [("hit", &counts.hits), ("miss", &counts.misses)] {
        out.count(&[("result", result)], count);
    }
    out.text
}

fn lost<U, C: Clock>(gateway: &Gateway<U, C>) -> String {
    let traces = gateway.audience.traces.as_ref().map_or(0, |traces| traces.dropped());
    let of = |pick: fn(&Counts) -> &AtomicU64| {
        gateway.recorder.as_ref().map_or(0, |recorder| pick(recorder.counts()).load(Ordering::Relaxed))
    };
    let [written, dropped, failed] = [of(|c| &c.written), of(|c| &c.dropped), of(|c| &c.failed)];
    let spans = |pick: fn(&SpanCounts) -> &AtomicU64| {
        gateway.audience.spans.as_ref().map_or(0, |spans| pick(spans.counts()).load(Ordering::Relaxed))
    };
    let [sent, refused, let_go] = [spans(|c| &c.exported), spans(|c| &c.failed), spans(|c| &c.dropped)];
    let lines = gateway.log.as_ref().map_or(0, ErrorCounter::dropped_lines);
    #[expect(clippy::cast_precision_loss, reason = "counts, shown")]
    rows(&[
        ("cascade_exchanges_recorded_total", "counter", "Prompts written down", written as f64),
        (
            "cascade_exchanges_dropped_total",
            "counter",
            "Prompts not written down: no room, or no answer",
            dropped as f64,
        ),
        ("cascade_exchanges_failed_total", "counter", "Prompts that could not be written down", failed as f64),
        ("cascade_traces_dropped_total", "counter", "Traces let go: the disk is too slow", traces as f64),
        ("cascade_spans_exported_total", "counter", "Spans that OpenTelemetry's collector has", sent as f64),
        ("cascade_spans_failed_total", "counter", "Spans the collector did not take", refused as f64),
        ("cascade_spans_dropped_total", "counter", "Spans let go: the collector is too slow", let_go as f64),
        ("cascade_log_lines_dropped_total", "counter", "Lines let go: nobody reads standard error", lines as f64),
    ])
}

/// Name, kind, help and value of each.
fn rows(rows: &[(&str, &str, &str, f64)]) -> String {
    rows.iter().fold(String::new(), |text, (name, kind, help, value)| {
        text + &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
    })
}
