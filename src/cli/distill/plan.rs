//! `cascade distill plan`: what teaching a tier would save, and when it pays.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::kept::Cost;
use super::taken::{Class, Taken, dollars, share};
use crate::distillation::{Assumed, Forecast, Learned, Lessons, Range, Way, Ways, forecast, taught, teacher_of};
use crate::exchange::Exchange;
use crate::outcomes::{group_of, number};
use crate::policy::Policy;
use crate::price::{Price, Usd};
use crate::replay::Replay;
use crate::report::words::{dollars as usd, money, number as estimate, percent, table};
use crate::trace::{Failure, Outcome, Trace};

/// Prompts of which intervals are made; past that, those with the lowest hashes.
const SAMPLED: usize = 10_000;
const DAY_MS: f64 = 86_400_000.0;

#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    taken: Taken,
    /// Shares of the hard prompts that the student is taken to learn: at least, likely, at most
    #[arg(long, value_name = "LEAST,LIKELY,MOST", default_value = "0.3,0.5,0.7", value_parser = shares)]
    learns: Shares,
    /// Dollars per million tokens of training
    #[arg(long, value_name = "USD", value_parser = dollars)]
    training_price: Option<f64>,
    /// How often each row is seen in training
    #[arg(long, default_value = "3", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    epochs: u32,
    /// What the trained student costs, dollars per million tokens; as now if left out
    #[arg(long, value_name = "INPUT,OUTPUT", value_parser = prices)]
    student_price: Option<Prices>,
    /// What a quantised or local variant of the student costs, dollars per million tokens: it
    /// is taken to answer as the student does now; half as much if left out
    #[arg(long, value_name = "INPUT,OUTPUT", value_parser = prices)]
    variant_price: Option<Prices>,
    /// What the variant costs a day, whatever it is asked: a machine of one's own
    #[arg(long, value_name = "USD", default_value = "0", value_parser = dollars)]
    variant_per_day: f64,
    /// Prompts a day; from the times of arrival if left out
    #[arg(long, value_name = "N", value_parser = dollars)]
    per_day: Option<f64>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
struct Shares([f64; 3]);

fn shares(text: &str) -> Result<Shares, String> {
    let read: Vec<f64> = text.split(',').map(share).collect::<Result<_, _>>()?;
    let read: [f64; 3] = read.try_into().map_err(|_| "three shares: 0.3,0.5,0.7")?;
    if read.is_sorted() { Ok(Shares(read)) } else { Err("the least share first, the most last".to_owned()) }
}

#[derive(Clone, Copy, Debug)]
struct Prices(f64, f64);

fn prices(text: &str) -> Result<Prices, String> {
    let (input, output) = text.split_once(',').ok_or("two prices: of input and of output, 0.10,0.40")?;
    Ok(Prices(dollars(input)?, dollars(output)?))
}

impl Prices {
    fn price(self) -> Option<Price> {
        let [input, output] = [self.0, self.1].map(Usd::from_dollars);
        Some(Price { input: input?, cached_input: input?, output: output? })
    }
}

/// One way of doing it, each exchange by itself.
struct Runner {
    student: usize,
    replay: Replay,
}

impl Runner {
    fn of(policy: Policy, student: usize) -> Self {
        Self { student, replay: Replay::new(Arc::new(policy)) }
    }

    fn way(&mut self, exchange: Arc<Exchange>) -> Option<Way> {
        let mut done = Vec::new();
        self.replay.push(exchange, &mut done);
        self.replay.finish(&mut done);
        way(&done.pop()?.trace, self.student)
    }
}

/// None where what would have become of it, or what it costs, is not known.
fn way(trace: &Trace, student: usize) -> Option<Way> {
    if trace.attempts.iter().any(|a| matches!(a.outcome, Outcome::Failed(Failure::NotRecorded))) {
        return None;
    }
    Some(Way {
        cost: trace.cost().usd?.dollars(),
        // What nobody answers is worth nothing.
        quality: trace.served().map_or(Some(0.0), |served| served.quality),
        went_on: trace.attempts.iter().any(|attempt| attempt.tier > student),
    })
}

/// What was gathered.
struct Gathered {
    /// By hash.
    prompts: BTreeMap<(u64, u64), Ways>,
    read: u64,
    left_out: u64,
    lessons: Lessons,
}

impl Plan {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let class = self.taken.class()?;
        let student = &class.policy.tiers[class.student];
        if student.price.is_none() && self.student_price.is_none() {
            eprintln!("cascade: {} has no price: costs are those that were recorded", student.name);
        }
        let (gathered, spanned_ms) = self.gather(&class)?;
        self.taken.check_labels(gathered.lessons.labelled)?;
        let training = Cost::of(gathered.lessons.training_tokens(), self.epochs, self.training_price);
        #[expect(clippy::cast_precision_loss, reason = "a number of prompts")]
        let recorded = spanned_ms.filter(|ms| *ms > 0.0).map(|ms| gathered.read as f64 / ms * DAY_MS);
        let assumed = Assumed {
            learned: self.learns.0,
            training_usd: training.usd,
            per_day: self.per_day.filter(|n| *n > 0.0).or(recorded),
            variant_per_day: self.variant_per_day,
        };
        let prompts: Vec<Ways> = gathered.prompts.into_values().collect();
        let Some(told) = forecast(&prompts, assumed) else {
            bail!("of {} prompts none has an answer and a price for every tier that is asked", gathered.read);
        };
        if told.hard == 0 {
            bail!("no answer of {} is rejected and a larger tier's accepted: there is nothing to teach", student.name);
        }
        if self.json {
            let json =
                json!({"student": student.name, "training": training, "left_out": gathered.left_out, "forecast": told});
            super::super::print(&format!("{json:#}\n"))?;
        } else {
            super::super::print(&self.text(&class, &told, &training, gathered.left_out))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn gather(&self, class: &Class) -> anyhow::Result<(Gathered, Option<f64>)> {
        let (policy, student) = (&class.policy, class.student);
        let wanted = self.taken.wanted(class)?;
        let priced = |price: Option<Price>| {
            let mut other = Policy::clone(policy);
            other.tiers[student].price = price.or(other.tiers[student].price);
            other
        };
        let halved = policy.tiers[student].price.map(|p| Price {
            input: half(p.input),
            cached_input: half(p.cached_input),
            output: half(p.output),
        });
        let mut after = Runner::of(priced(self.student_price.and_then(Prices::price)), student);
        let mut without = Runner::of(policy.without_tier(student), student);
        let variant = self.variant_price.and_then(Prices::price).or(halved);
        let mut variant = variant.map(|price| Runner::of(priced(Some(price)), student));
        let mut gathered = Gathered { prompts: BTreeMap::new(), read: 0, left_out: 0, lessons: Lessons::default() };
        let read = self.taken.replay(policy, |replayed| {
            gathered.read += 1;
            gathered.lessons.add(policy, &wanted, &replayed);
            let exchange = &replayed.exchange;
            let teacher = teacher_of(&replayed.trace, student);
            let learned = teacher.and_then(|teacher| taught(exchange, &policy.tiers[student], &policy.tiers[teacher]));
            let ways = (|| {
                Some(Ways {
                    group: group_of(exchange),
                    now: way(&replayed.trace, student)?,
                    unlearned: after.way(exchange.clone())?,
                    learned: match learned {
                        Some(learned) => Some(after.way(Arc::new(learned))?),
                        None => None,
                    },
                    without: without.way(exchange.clone()),
                    variant: variant.as_mut().and_then(|variant| variant.way(exchange.clone())),
                })
            })();
            let Some(ways) = ways else {
                gathered.left_out += 1;
                return;
            };
            let key = number(blake3::hash(exchange.id.as_bytes()).as_bytes());
            gathered.prompts.insert((key, replayed.number), ways);
            if gathered.prompts.len() > SAMPLED {
                gathered.prompts.pop_last();
            }
        })?;
        gathered.lessons.settle(false, Some(0.8));
        Ok((gathered, read.spanned_ms))
    }

    fn text(&self, class: &Class, told: &Forecast, training: &Cost, left_out: u64) -> String {
        let student = &self.taken.student;
        let mut out = format!(
            "prompts   {}, {} of them ({}) hard for {student}: rejected, and answered by a larger tier\n",
            told.prompts,
            told.hard,
            percent(told.hard_share())
        );
        if left_out > 0 {
            let _ = writeln!(out, "left out  {left_out}: an answer or a price is not known");
        }
        let _ = writeln!(
            out,
            "now       {} a prompt, {} go on from {student}",
            money(&told.now.cost),
            percent(told.now.went_on.value)
        );
        let _ = match &told.now.quality {
            Some(quality) => writeln!(out, "quality   {} (labels: {})", estimate(quality), self.taken.labels),
            None => writeln!(
                out,
                "quality   unknown: served answers have no labels (--labels says where to take them from)"
            ),
        };
        let _ = writeln!(out, "training  {}", training.words());
        let rate = told.assumptions.per_day;
        let _ = match (rate, self.per_day) {
            (Some(n), Some(_)) => writeln!(out, "rate      {n:.0} prompts a day, as told"),
            (Some(n), None) => writeln!(out, "rate      {n:.0} prompts a day, as recorded"),
            (None, _) => writeln!(out, "rate      unknown: the exchanges do not say when they arrived (--per-day)"),
        };
        let _ = writeln!(
            out,
            "assumed   of the hard prompts {student} learns {} at least, {} likely, {} at most; there it says what its \
             teacher said, everywhere else what it says now{}; the policy's thresholds stay (calibrating again may do more)\n",
            percent(told.assumptions.learned[0]),
            percent(told.assumptions.learned[1]),
            percent(told.assumptions.learned[2]),
            if self.student_price.is_some() { "" } else { ", for the price it has now" }
        );
        out.push_str(&ways_table(student, told));
        out.push_str("\nwhat share of the hard prompts is learned\n");
        let rows = told.curve.iter().map(|l| {
            vec![
                percent(l.share),
                usd(l.after.cost.value),
                usd(l.after.saved.value),
                percent(l.after.went_on.value),
                pays(l, rate),
            ]
        });
        out.push_str(&table(&["learned", "cost a prompt $", "saved $", "go on", "pays after"], rows.collect()));
        out.push_str("\ndollars spent after so many prompts, training among them\n");
        let learned = told.assumptions.learned.map(percent);
        let mut header = vec!["prompts".to_owned(), "as now".to_owned()];
        header.extend(learned.iter().map(|share| format!("{share} learned")));
        header.extend(told.without.as_ref().map(|_| format!("without {student}")));
        header.extend(told.variant.as_ref().map(|_| format!("{student}'s variant")));
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let row = |n: f64| {
            let spent = told.spent(n).into_iter().map(|usd_spent| usd_spent.map_or("n/a".to_owned(), usd));
            std::iter::once(format!("{n:.0}")).chain(spent).collect()
        };
        out.push_str(&table(&header, [1e3, 1e4, 1e5, 1e6, 1e7].into_iter().map(row).collect()));
        let teachers: Vec<&str> = class.policy.tiers[class.student + 1..].iter().map(|t| t.name.as_str()).collect();
        let _ = writeln!(
            out,
            "\nnext      cascade distill export ... --student {student} -o out/ (teachers: {})",
            teachers.join(", ")
        );
        out
    }
}

fn half(usd: Usd) -> Usd {
    Usd::from_dollars(usd.dollars() / 2.0).unwrap_or(usd)
}

/// As now, at the shares assumed, without the tier, with the variant.
fn ways_table(student: &str, told: &Forecast) -> String {
    let row = |name: String, range: &Range, pays_after: String| {
        let quality = range.quality.as_ref().map_or("n/a".to_owned(), estimate);
        vec![name, money(&range.cost), percent(range.went_on.value), quality, money(&range.saved), pays_after]
    };
    let rate = told.assumptions.per_day;
    let mut rows = vec![row("as now".to_owned(), &told.now, String::new())];
    rows.extend(
        told.assumed.iter().map(|l| row(format!("{student} learns {}", percent(l.share)), &l.after, pays(l, rate))),
    );
    if let Some(without) = &told.without {
        rows.push(row(format!("without {student}"), without, "at once".to_owned()));
    }
    if let Some(variant) = &told.variant {
        let fixed = told.assumptions.variant_per_day;
        let standing = if fixed > 0.0 { format!("besides ${fixed:.2} a day") } else { "at once".to_owned() };
        rows.push(row(format!("{student}'s variant"), variant, standing));
    }
    for row in &mut rows {
        if row[4].starts_with("$-") {
            "never".clone_into(&mut row[5]);
        }
    }
    table(&["", "cost a prompt", "go on", "quality", "saved a prompt", "pays after"], rows)
}

/// `1200 prompts [900, 2000], 3.4 days`.
fn pays(learned: &Learned, per_day: Option<f64>) -> String {
    let [value, low, high] = learned.pays_after;
    let Some(value) = value else {
        return if learned.after.saved.value > 0.0 { "training's price is not known" } else { "never" }.to_owned();
    };
    let end = |n: Option<f64>| n.map_or("never".to_owned(), |n| format!("{n:.0}"));
    let time = per_day.map(|rate| value / rate).map_or(String::new(), |days| {
        if days < 1.0 { format!(", {:.1} hours", days * 24.0) } else { format!(", {days:.1} days") }
    });
    let interval =
        if learned.after.saved.interval.is_some() { format!(" [{}, {}]", end(low), end(high)) } else { String::new() };
    format!("{value:.0} prompts{interval}{time}")
}
