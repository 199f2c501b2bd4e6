//! Sums of parts of a recording as sums of all of it.
//!
//! Invariant: merged, shards in any order and files in theirs say what the whole would
//! have said.

use std::collections::BTreeMap;

use super::tally::{Labels, Tally, TierTally};

pub(super) fn tally(into: &mut Tally, other: Tally) {
    // Named one by one, so that none is forgotten.
    let Tally {
        prompts,
        unanswered,
        stand_ins,
        not_recorded,
        escalated,
        priced,
        estimated,
        cost,
        baseline,
        quality,
        baseline_quality,
        labels_held,
        unjudged,
        latency,
        tiers,
        gathered,
        labels: _,
    } = other;
    for (sum, more) in [
        (&mut into.prompts, prompts),
        (&mut into.unanswered, unanswered),
        (&mut into.stand_ins, stand_ins),
        (&mut into.not_recorded, not_recorded),
        (&mut into.escalated, escalated),
        (&mut into.priced, priced),
        (&mut into.estimated, estimated),
        (&mut into.labels_held, labels_held),
        (&mut into.unjudged, unjudged),
    ] {
        *sum += more;
    }
    into.cost = into.cost + cost;
    into.baseline = into.baseline + baseline;
    labels(&mut into.quality, quality);
    labels(&mut into.baseline_quality, baseline_quality);
    if let (Some(mine), Some(theirs)) = (&mut into.latency, latency) {
        // Resizes as it must.
        let _ = mine.add(theirs);
    }
    into.tiers.iter_mut().zip(tiers).for_each(|(mine, theirs)| tier(mine, theirs));
    into.gathered.merge(gathered);
}

fn tier(into: &mut TierTally, other: TierTally) {
    let TierTally {
        asked,
        accepted,
        escalated_by,
        limited,
        failed,
        cache_hits,
        coalesced,
        cost,
        input_tokens,
        output_tokens,
        alone_quality,
        alone_cost,
        alone_priced,
    } = other;
    for (sum, more) in [
        (&mut into.asked, asked),
        (&mut into.accepted, accepted),
        (&mut into.limited, limited),
        (&mut into.cache_hits, cache_hits),
        (&mut into.coalesced, coalesced),
        (&mut into.input_tokens, input_tokens),
        (&mut into.output_tokens, output_tokens),
        (&mut into.alone_priced, alone_priced),
    ] {
        *sum += more;
    }
    counts(&mut into.escalated_by, escalated_by);
    counts(&mut into.failed, failed);
    into.cost = into.cost + cost;
    into.alone_cost = into.alone_cost + alone_cost;
    labels(&mut into.alone_quality, alone_quality);
}

fn labels(into: &mut Labels, other: Labels) {
    into.sum += other.sum;
    into.count += other.count;
}

fn counts(into: &mut BTreeMap<String, u64>, other: BTreeMap<String, u64>) {
    for (name, count) in other {
        *into.entry(name).or_default() += count;
    }
}
