//! Sums of parts of a recording as sums of all of it.
//!
//! Invariant: merged, shards in any order and files in theirs say what the whole would
//! have said.

use std::collections::BTreeMap;

use super::tally::{Labels, Tally, TierTally};

impl Tally {
    /// Adds what was added to another, of other prompts under the same policy.
    pub fn merge(&mut self, other: Self) {
        // Named one by one, so that none is forgotten.
        let Self {
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
            (&mut self.prompts, prompts),
            (&mut self.unanswered, unanswered),
            (&mut self.stand_ins, stand_ins),
            (&mut self.not_recorded, not_recorded),
            (&mut self.escalated, escalated),
            (&mut self.priced, priced),
            (&mut self.estimated, estimated),
            (&mut self.labels_held, labels_held),
            (&mut self.unjudged, unjudged),
        ] {
            *sum += more;
        }
        self.cost = self.cost + cost;
        self.baseline = self.baseline + baseline;
        labels(&mut self.quality, quality);
        labels(&mut self.baseline_quality, baseline_quality);
        if let (Some(mine), Some(theirs)) = (&mut self.latency, latency) {
            // Resizes as it must.
            let _ = mine.add(theirs);
        }
        self.tiers.iter_mut().zip(tiers).for_each(|(mine, theirs)| tier(mine, theirs));
        self.gathered.merge(gathered);
    }
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
