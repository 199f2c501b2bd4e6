//! Conditions on a report, for a build that must fail when a policy gets worse.

use std::fmt;
use std::str::FromStr;

use super::Report;
use crate::policy::did_you_mean;

/// A condition such as `quality<-0.01`, `cost>+5%` or `policy.quality<0.9`.
///
/// With two policies a bare metric means the difference, policy less the one
/// compared against, in percent of the latter where a `%` follows; with the
/// prefix `policy.` it means the policy's own value.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    written: String,
    metric: String,
    own_value: bool,
    operator: Operator,
    bound: f64,
    in_percent: bool,
}

/// How a metric is held against its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let at = written.find(['<', '>']).ok_or("write a metric, < or >, and a number: quality<-0.01")?;
        let (metric, rest) = written.split_at(at);
        let (operator, bound) = match rest.as_bytes() {
            [b'<', b'=', ..] => (Operator::AtMost, &rest[2..]),
            [b'>', b'=', ..] => (Operator::AtLeast, &rest[2..]),
            [b'<', ..] => (Operator::Below, &rest[1..]),
            _ => (Operator::Above, &rest[1..]),
        };
        let metric = metric.trim();
        let (own_value, metric) = metric.strip_prefix("policy.").map_or((false, metric), |m| (true, m));
        if !Report::METRICS.contains(&metric) {
            let meant = did_you_mean(metric, Report::METRICS).map_or(String::new(), |m| format!("; did you mean {m}?"));
            return Err(format!("there is no metric `{metric}`{meant} The metrics are {}", Report::METRICS.join(", ")));
        }
        let bound = bound.trim();
        let (bound, in_percent) = bound.strip_suffix('%').map_or((bound, false), |b| (b, true));
        if in_percent && own_value {
            return Err("a percentage compares two policies; leave `policy.` or `%` out".to_owned());
        }
        let bound = bound.trim().parse::<f64>().ok().filter(|b| b.is_finite());
        Ok(Self {
            bound: bound.ok_or_else(|| format!("`{rest}` does not end in a number"))?,
            written: written.to_owned(),
            metric: metric.to_owned(),
            own_value,
            operator,
            in_percent,
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Condition {
    /// Whether it holds for this value of its metric.
    #[must_use]
    pub fn is_met_by(&self, value: f64) -> bool {
        match self.operator {
            Operator::Below => value < self.bound,
            Operator::AtMost => value <= self.bound,
            Operator::Above => value > self.bound,
            Operator::AtLeast => value >= self.bound,
        }
    }

    /// The value held against the bound.
    ///
    /// # Errors
    /// When the metric is unknown, or was taken over other prompts than the one it
    /// is compared to.
    pub fn value(&self, report: &Report, against: Option<&Report>) -> Result<f64, String> {
        let of = |r: &Report| {
            let why = || format!("{} is unknown under {}: {}", self.metric, r.policy, why_unknown(&self.metric, r));
            r.metric(&self.metric).ok_or_else(why)
        };
        let own = of(report)?;
        match against {
            Some(other) if !self.own_value => {
                let labels = |r: &Report| r.quality.as_ref().map(|q| q.prompts);
                if self.metric == "quality" && labels(report) != labels(other) {
                    return Err("the two policies serve different numbers of labelled answers".to_owned());
                }
                let other = of(other)?;
                match self.in_percent {
                    false => Ok(own - other),
                    true if other == 0.0 => {
                        Err(format!("{} is 0 under the other policy, which has no percentage", self.metric))
                    }
                    true => Ok((own - other) / other.abs() * 100.0),
                }
            }
            _ => Ok(own),
        }
    }

    /// Whether it only makes sense with two policies.
    #[must_use]
    pub fn needs_two(&self) -> bool {
        self.in_percent
    }
}

fn why_unknown(metric: &str, report: &Report) -> String {
    match metric {
        "quality" => "no served answer has a label".to_owned(),
        "cost" | "savings" if report.cost.unpriced > 0 => {
            format!("the cost of {} prompts is not known; a price or an answer is missing", report.cost.unpriced)
        }
        "cost" | "savings" | "escalated" | "unanswered" => "there are no prompts".to_owned(),
        _ => "no exchange says how long answers took".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_says_why() {
        let why = |text: &str| text.parse::<Condition>().expect_err(text);
        assert!(why("quality").starts_with("write a metric"));
        assert!(why("qualty<0").contains("did you mean quality?"));
        assert_eq!(why("cost>cheap"), "`>cheap` does not end in a number");
        assert!(why("policy.cost>5%").contains("compares two policies"));
        assert!("cost >= +5%".parse::<Condition>().is_ok());
    }
}
