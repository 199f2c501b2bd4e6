//! What teaching a tier would save, under assumptions that are told.
//!
//! Each prompt is replayed as it is, and with the teacher's answer in the student's mouth.
//! How many of the hard prompts a student learns is not known before it is trained: that
//! share is assumed, and the rest follows.

use serde::Serialize;

use crate::report::study::Estimate;
use crate::statistics::count;
use crate::statistics::resample::{Interval, bootstrap};

const DRAWS: usize = 1000;
const SEED: u64 = 9;

/// What one prompt comes to in one way of doing it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// Dollars.
    pub cost: f64,
    /// The label served, 0..=1, where it is known.
    pub quality: Option<f64>,
    /// Whether a larger tier than the student was asked.
    pub went_on: bool,
}

/// One prompt in all ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ways {
    /// Prompts of one group are drawn together.
    pub group: u64,
    /// As it is.
    pub now: Way,
    /// After training, where the student has not learned this one: at its price then.
    pub unlearned: Way,
    /// Where it has; none where there is nothing to learn: it is not rejected.
    pub learned: Option<Way>,
    /// Without the student's tier; none where what would be asked is not recorded.
    pub without: Option<Way>,
    /// With another model of the same answers at another price.
    pub variant: Option<Way>,
}

/// What is assumed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assumed {
    /// Shares of the hard prompts that the student learns: at least, likely, at most.
    pub learned: [f64; 3],
    /// Dollars for training, paid once; none where no price is known.
    pub training_usd: Option<f64>,
    /// Prompts a day; none where neither recorded nor told.
    pub per_day: Option<f64>,
    /// Dollars a day that the variant costs whatever it is asked.
    pub variant_per_day: f64,
}

/// Cost and quality of a prompt, on average.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Dollars.
    pub cost: Estimate,
    /// Label; none where labels are not known.
    pub quality: Option<Estimate>,
    /// The share of prompts for which more than the student was asked.
    pub went_on: Estimate,
    /// Dollars less than now.
    pub saved: Estimate,
}

/// A student that has learned some share.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learned {
    /// Of the hard prompts.
    pub share: f64,
    /// What a prompt comes to then.
    pub after: Range,
    /// Prompts until training is paid back: by what is saved on average, and by the ends of
    /// its interval, none: never; all as the first where there is no interval.
    pub pays_after: [Option<f64>; 3],
}

/// What teaching a tier would save.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Prompts replayed.
    pub prompts: usize,
    /// Of these the hard ones: rejected, and answered by a teacher.
    pub hard: usize,
    /// As it is.
    pub now: Range,
    /// At each share from 0 to 1.
    pub curve: Vec<Learned>,
    /// At the shares assumed.
    pub assumed: Vec<Learned>,
    /// Without the tier; none unless it is recorded for every prompt what would be asked.
    pub without: Option<Range>,
    /// With the variant, its dollars a day left out.
    pub variant: Option<Range>,
    /// What it rests on.
    pub assumptions: Assumed,
}

/// The forecast over replayed prompts; none of none.
#[must_use]
pub fn forecast(prompts: &[Ways], assumed: Assumed) -> Option<Forecast> {
    if prompts.is_empty() {
        return None;
    }
    let steps: Vec<f64> = (0..=10).map(|tenth| f64::from(tenth) / 10.0).collect();
    let all: Vec<f64> = steps.iter().chain(&assumed.learned).copied().collect();
    // Prompts whose labels are known in all ways, so that one quality can be held against another.
    let is_labelled: Vec<bool> = prompts.iter().map(is_labelled).collect();
    let fixed: [Pick; 3] = [|p| p.now, |p| p.without.unwrap_or(p.now), |p| p.variant.unwrap_or(p.now)];
    let groups: Vec<u64> = prompts.iter().map(|p| p.group).collect();
    let mut random = fastrand::Rng::with_seed(SEED);
    let drawn = bootstrap(&groups, DRAWS, SEED, |weights| {
        let mut numbers = Vec::with_capacity(4 * (fixed.len() + all.len()));
        let now = means(prompts, weights, &is_labelled, fixed[0]);
        for pick in fixed {
            numbers.extend(told(means(prompts, weights, &is_labelled, pick), now));
        }
        for share in &all {
            let has_learned: Vec<bool> = prompts.iter().map(|_| random.f64() < *share).collect();
            let mut at = 0;
            let pick = |p: &Ways| {
                at += 1;
                if has_learned[at - 1] { p.learned.unwrap_or(p.unlearned) } else { p.unlearned }
            };
            numbers.extend(told(means(prompts, weights, &is_labelled, pick), now));
        }
        numbers
    });
    let ones = vec![1; prompts.len()];
    let now = means(prompts, &ones, &is_labelled, fixed[0]);
    let has_labels = is_labelled.iter().any(|known| *known);
    let range = |place: usize, values: [Option<f64>; 4]| {
        let estimate = |at: usize| Estimate {
            value: values[at].unwrap_or(f64::NAN),
            interval: drawn.get(4 * place + at).copied().flatten(),
        };
        Range { cost: estimate(0), quality: has_labels.then(|| estimate(1)), went_on: estimate(2), saved: estimate(3) }
    };
    let of = |place: usize| range(place, told(means(prompts, &ones, &is_labelled, fixed[place]), now));
    let learned = |(at, share): (usize, &f64)| {
        // On average over which are learned.
        let [none, every] = [0.0, 1.0].map(|whole| {
            let pick = |p: &Ways| if whole > 0.0 { p.learned.unwrap_or(p.unlearned) } else { p.unlearned };
            told(means(prompts, &ones, &is_labelled, pick), now)
        });
        let between = |at: usize| Some(none[at]? + share * (every[at]? - none[at]?));
        let after = range(fixed.len() + at, [between(0), between(1), between(2), between(3)]);
        let pays = |saved: f64| assumed.training_usd.filter(|_| saved > 0.0).map(|usd| usd / saved);
        let value = after.saved.value;
        let Interval { low, high } = after.saved.interval.unwrap_or(Interval { low: value, high: value });
        Learned { share: *share, pays_after: [pays(after.saved.value), pays(high), pays(low)], after }
    };
    let mut curve: Vec<Learned> = all.iter().enumerate().map(learned).collect();
    let at_assumed = curve.split_off(steps.len());
    Some(Forecast {
        prompts: prompts.len(),
        hard: prompts.iter().filter(|p| p.learned.is_some()).count(),
        now: of(0),
        without: prompts.iter().all(|p| p.without.is_some()).then(|| of(1)),
        variant: prompts.iter().all(|p| p.variant.is_some()).then(|| of(2)),
        curve,
        assumed: at_assumed,
        assumptions: assumed,
    })
}

type Pick = fn(&Ways) -> Way;

fn is_labelled(prompt: &Ways) -> bool {
    let ways = [Some(prompt.now), Some(prompt.unlearned), prompt.learned, prompt.without, prompt.variant];
    ways.into_iter().flatten().all(|way| way.quality.is_some())
}

/// Mean cost, label and share that went on; prompts counted `weights` times.
fn means(prompts: &[Ways], weights: &[u32], labelled: &[bool], mut pick: impl FnMut(&Ways) -> Way) -> [Option<f64>; 3] {
    let (mut total, mut known) = (0.0, 0.0);
    let mut sums = [0.0; 3];
    for ((prompt, times), labelled) in prompts.iter().zip(weights).zip(labelled) {
        let (way, times) = (pick(prompt), f64::from(*times));
        total += times;
        sums[0] += times * way.cost;
        sums[2] += times * f64::from(u8::from(way.went_on));
        if let Some(quality) = way.quality.filter(|_| *labelled) {
            known += times;
            sums[1] += times * quality;
        }
    }
    let mean = |sum: f64, of: f64| (of > 0.0).then(|| sum / of);
    [mean(sums[0], total), mean(sums[1], known), mean(sums[2], total)]
}

/// With what is saved against now.
fn told([cost, quality, went_on]: [Option<f64>; 3], now: [Option<f64>; 3]) -> [Option<f64>; 4] {
    [cost, quality, went_on, now[0].zip(cost).map(|(now, cost)| now - cost)]
}

impl Forecast {
    /// Dollars spent after so many prompts, training among them: as it is, at the shares
    /// assumed, without the tier, with the variant.
    #[must_use]
    pub fn spent(&self, prompts: f64) -> Vec<Option<f64>> {
        let assumed = self.assumed.iter().map(|l| Some(self.assumptions.training_usd? + prompts * l.after.cost.value));
        let days = self.assumptions.per_day.map(|per_day| prompts / per_day);
        let fixed = self.assumptions.variant_per_day;
        let standing = if fixed > 0.0 { days.map(|days| days * fixed) } else { Some(0.0) };
        let variant = self.variant.as_ref().map(|v| Some(standing? + prompts * v.cost.value));
        std::iter::once(Some(prompts * self.now.cost.value))
            .chain(assumed)
            .chain(self.without.iter().map(|without| Some(prompts * without.cost.value)))
            .chain(variant)
            .collect()
    }

    /// Hard prompts among all, 0..=1.
    #[must_use]
    pub fn hard_share(&self) -> f64 {
        count(self.hard) / count(self.prompts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(cost: f64, quality: f64, went_on: bool) -> Way {
        Way { cost, quality: Some(quality), went_on }
    }

    /// Four prompts of ten are hard: 11 dollars now, 1 once learned.
    fn prompts() -> Vec<Ways> {
        let prompt = |at: u64| {
            let is_hard = at % 10 < 4;
            let now = if is_hard { way(11.0, 1.0, true) } else { way(1.0, 1.0, false) };
            let learned = is_hard.then_some(way(1.0, 1.0, false));
            Ways { group: at, now, unlearned: now, learned, without: Some(way(10.0, 1.0, true)), variant: None }
        };
        (0..200).map(prompt).collect()
    }

    #[test]
    fn what_is_saved_grows_with_what_is_learned_and_pays_training_back() {
        let assumed = Assumed {
            learned: [0.25, 0.5, 0.75],
            training_usd: Some(400.0),
            per_day: Some(100.0),
            variant_per_day: 0.0,
        };
        let told = forecast(&prompts(), assumed).expect("prompts");
        // By hand: now 0.4 * 11 + 0.6 * 1 = 5; half learned 0.2 * 11 + 0.8 * 1 = 3.
        let half = &told.assumed[1];
        assert!((told.now.cost.value - 5.0).abs() < 1e-9 && (half.after.cost.value - 3.0).abs() < 1e-9);
        assert!((half.pays_after[0].expect("it pays") - 200.0).abs() < 1e-9);
        let Interval { low, high } = half.after.cost.interval.expect("enough groups");
        assert!(low < 3.0 && 3.0 < high && high - low < 1.6, "{low} {high}");
        assert!((told.curve[10].after.went_on.value).abs() < 1e-9 && told.curve[0].pays_after == [None; 3]);
        assert!((told.without.as_ref().expect("recorded").saved.value + 5.0).abs() < 1e-9, "dearer without it");
        assert_eq!(told.spent(1000.0)[2].map(f64::round), Some(3400.0));
        assert!((told.hard_share() - 0.4).abs() < 1e-9);
    }

    #[test]
    fn without_labels_quality_is_unknown_and_cost_is_not() {
        let mut prompts = prompts();
        prompts.iter_mut().for_each(|p| p.now.quality = None);
        let assumed = Assumed { learned: [0.3, 0.5, 0.7], training_usd: None, per_day: None, variant_per_day: 0.0 };
        let told = forecast(&prompts, assumed.clone()).expect("prompts");
        assert!(told.now.quality.is_none() && told.assumed[0].pays_after == [None; 3]);
        assert_eq!(forecast(&[], assumed), None);
    }
}
