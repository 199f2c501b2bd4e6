//! The plots of the page, drawn as SVG within it.
//!
//! Invariant: nothing is told by colour alone: lines have dashes, marks have
//! shapes, bars have numbers, and every picture says in words what it shows.

use std::fmt::Write as _;

use super::axis::Axis;
use super::escaped;
use super::numbers::{decimal, estimate, known, served_by, short, usd};
use crate::report::study::{Estimate, Ranking, Study};
use crate::report::words::percent;
use crate::statistics::count;
use crate::statistics::curve::Point;

// The colours of Okabe & Ito (2008), which colour-blind eyes tell apart. Lines
// take those that stand out from white and from black alike.
const BLUE: &str = "#0072B2";
const VERMILION: &str = "#D55E00";
const GREEN: &str = "#009E73";
const PURPLE: &str = "#CC79A7";

/// Fills of bars, smallest tier first, each with the colour of its text.
const FILLS: [(&str, &str); 7] = [
    ("#56B4E9", "#000"),
    ("#E69F00", "#000"),
    (GREEN, "#000"),
    ("#F0E442", "#000"),
    (BLUE, "#fff"),
    (VERMILION, "#000"),
    (PURPLE, "#000"),
];

/// What one can get for what one pays.
pub(super) fn cost_and_quality(study: &Study) -> String {
    let frame = Frame::of(study);
    let mut picture = frame.grid("dollars per prompt", "quality", |tick| format!("${}", short(tick, 12)));
    let mut keys = String::new();
    for line in lines(study).iter().filter(|line| !line.corners.is_empty()) {
        let (color, dash) = (line.color, line.dash);
        picture.push_str(&frame.line(line));
        let sample = format!(r#"<path class="line" d="M1 7H31" stroke="{color}" stroke-dasharray="{dash}"/>"#);
        keys.push_str(&key(&sample, line.words));
    }
    for point in &study.curve {
        picture.push_str(&ring(frame.place(point)));
    }
    if !study.curve.is_empty() {
        keys.push_str(&key(&ring((16.0, 7.0)), "the policy with other thresholds, or another price of money"));
    }
    for single in &study.singles {
        picture.push_str(&diamond(frame.place(single)));
    }
    picture.push_str(&frame.names(study));
    if !study.singles.is_empty() {
        keys.push_str(&key(&diamond((16.0, 7.0)), "a tier alone"));
    }
    picture.push_str(&frame.policy(study));
    keys.push_str(&key(&disc((16.0, 7.0)), "the policy, and where it lies 95 times in 100"));
    let title = "Cost against quality";
    let caption = format!("<ul class=\"keys\">{keys}</ul>");
    figure("cost-quality", (600.0, 420.0), title, &cost_and_quality_in_words(study, &frame), &picture, &caption)
}

fn cost_and_quality_in_words(study: &Study, frame: &Frame) -> String {
    let scale = if frame.x.is_logarithmic { ", on a logarithmic scale" } else { "" };
    let mut words = format!(
        "Dollars per prompt from left to right{scale}, quality from bottom to top. The policy has quality {} at {}.",
        estimate(&study.quality, decimal),
        estimate(&study.cost, usd)
    );
    for (tier, single) in study.tiers.iter().zip(&study.singles) {
        let _ = write!(words, " {tier} alone has {} at {}.", decimal(single.quality), usd(single.cost));
    }
    words
}

/// A line through the corners of a hull.
struct Line<'a> {
    words: &'static str,
    corners: &'a [Point],
    color: &'static str,
    dash: &'static str,
}

fn lines(study: &Study) -> [Line<'_>; 3] {
    [
        Line { words: "zero router: tiers by a coin", corners: &study.zero_router, color: VERMILION, dash: "7 4" },
        Line { words: "router oracle: knows every label", corners: &study.oracle_hull, color: GREEN, dash: "2 3" },
        Line { words: "what the policy can reach", corners: &study.hull, color: BLUE, dash: "none" },
    ]
}

/// Where numbers lie in a plot.
struct Frame {
    x: Axis,
    y: Axis,
}

impl Frame {
    /// With room for all that is drawn of a study.
    fn of(study: &Study) -> Self {
        let lines = study.curve.iter().chain(&study.hull).chain(&study.zero_router).chain(&study.oracle_hull);
        let points: Vec<Point> = lines.chain(&study.singles).copied().collect();
        let costs: Vec<f64> = points.iter().map(|p| p.cost).chain(range(&study.cost)).collect();
        let qualities: Vec<f64> = points.iter().map(|p| p.quality).chain(range(&study.quality)).collect();
        Self { x: Axis::of_costs(&costs, 64.0, 588.0), y: Axis::of_qualities(&qualities, 366.0, 12.0) }
    }

    fn place(&self, point: &Point) -> (f64, f64) {
        (self.x.at(point.cost), self.y.at(point.quality))
    }

    /// Lines to read numbers by, the numbers, and what they are.
    fn grid(&self, across: &str, up: &str, show_across: impl Fn(f64) -> String) -> String {
        const TICK: &str = r#"class="tick""#;
        let (left, right, bottom, top) = (self.x.start, self.x.end, self.y.start, self.y.end);
        let mut svg = String::new();
        for tick in self.x.ticks() {
            let at = self.x.at(tick);
            let _ = write!(svg, r#"<path class="grid" d="M{at:.1} {bottom:.1}V{top:.1}"/>"#);
            svg.push_str(&text(TICK, (at, bottom + 19.0), "middle", &show_across(tick)));
        }
        for tick in self.y.ticks() {
            let at = self.y.at(tick);
            let _ = write!(svg, r#"<path class="grid" d="M{left:.1} {at:.1}H{right:.1}"/>"#);
            svg.push_str(&text(TICK, (left - 8.0, at + 5.0), "end", &short(tick, 12)));
        }
        svg.push_str(&text("", (f64::midpoint(left, right), bottom + 42.0), "middle", across));
        let turned = format!("transform=\"translate(16 {:.1}) rotate(-90)\"", f64::midpoint(bottom, top));
        svg + &text(&turned, (0.0, 0.0), "middle", up)
    }

    /// What can be reached between two corners is straight in dollars; it is
    /// bent where dollars are laid out by factors.
    fn line(&self, line: &Line<'_>) -> String {
        let steps: u32 = if self.x.is_logarithmic { 24 } else { 1 };
        let (color, dash) = (line.color, line.dash);
        let (mut places, mut corners) = (String::new(), String::new());
        for (at, corner) in line.corners.iter().enumerate() {
            let before = at.checked_sub(1).map_or(corner, |before| &line.corners[before]);
            for step in 1..=steps {
                // Closer together at the cheap end, where the bend is sharpest.
                let part = (f64::from(step) / f64::from(steps)).powi(2);
                let cost = before.cost + part * (corner.cost - before.cost);
                let quality = before.quality + part * (corner.quality - before.quality);
                let (x, y) = self.place(&Point { cost, quality });
                let _ = write!(places, "{x:.1},{y:.1} ");
            }
            let (x, y) = self.place(corner);
            let _ = write!(corners, r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.5" fill="{color}"/>"#);
        }
        let places = places.trim_end();
        format!(r#"<polyline class="line" points="{places}" stroke="{color}" stroke-dasharray="{dash}"/>{corners}"#)
    }

    /// The tiers' names beside their marks, moved up or down until none covers
    /// another.
    fn names(&self, study: &Study) -> String {
        const LINE: f64 = 15.0;
        const LETTER: f64 = 7.5;
        let mut taken: Vec<(f64, f64, f64)> = Vec::new();
        let mut svg = String::new();
        for (tier, single) in study.tiers.iter().zip(&study.singles) {
            let (x, y) = self.place(single);
            let width = count(tier.chars().count()) * LETTER;
            let is_before = x + 11.0 + width > self.x.end;
            let (at, left, anchor) =
                if is_before { (x - 11.0, x - 11.0 - width, "end") } else { (x + 11.0, x + 11.0, "start") };
            let is_free = |base: &f64| {
                let meets = |(from, to, other): &(f64, f64, f64)| {
                    *from < left + width && left < *to && (other - base).abs() < LINE
                };
                (self.y.end + LINE..self.y.start).contains(base) && !taken.iter().any(meets)
            };
            let base = [5.0, -10.0, 20.0, -25.0, 35.0].map(|off| y + off).into_iter().find(is_free).unwrap_or(y + 5.0);
            taken.push((left, left + width, base));
            svg.push_str(&text(r#"class="name""#, (at, base), anchor, tier));
        }
        svg
    }

    /// The policy's point with a bar for each interval.
    fn policy(&self, study: &Study) -> String {
        let place = self.place(&Point { cost: study.cost.value, quality: study.quality.value });
        let (x, y) = place;
        let [_, left, right] = range(&study.cost).map(|cost| self.x.at(cost));
        let [_, bottom, top] = range(&study.quality).map(|quality| self.y.at(quality));
        let bars = format!("M{left:.1} {y:.1}H{right:.1}M{x:.1} {bottom:.1}V{top:.1}");
        format!(r#"<path class="interval" d="{bars}"/>{}"#, disc(place))
    }
}

/// The value and both ends of its interval.
fn range(estimate: &Estimate) -> [f64; 3] {
    let ends = estimate.interval.map_or((estimate.value, estimate.value), |interval| (interval.low, interval.high));
    [estimate.value, ends.0, ends.1]
}

fn ring((x, y): (f64, f64)) -> String {
    format!(r#"<circle class="ring" cx="{x:.1}" cy="{y:.1}" r="4" stroke="{BLUE}"/>"#)
}

fn disc((x, y): (f64, f64)) -> String {
    format!(r#"<circle class="disc" cx="{x:.1}" cy="{y:.1}" r="6" fill="{BLUE}"/>"#)
}

fn diamond((x, y): (f64, f64)) -> String {
    let top = y - 6.0;
    format!(r#"<path class="mark" d="M{x:.1} {top:.1}l6 6l-6 6l-6 -6z" fill="{PURPLE}"/>"#)
}

/// Whether scores mean what they say: one tier's, against its labels.
pub(super) fn reliability(tier: &str, ranking: &Ranking) -> String {
    const MOST: f64 = 9.0;
    let frame = Frame { x: Axis::of_unit(56.0, 308.0), y: Axis::of_unit(266.0, 14.0) };
    let mut picture = frame.grid("mean score", "mean label", |tick| short(tick, 12));
    let (left, right, bottom, top) = (frame.x.start, frame.x.end, frame.y.start, frame.y.end);
    let diagonal = format!("M{left:.1} {bottom:.1}L{right:.1} {top:.1}");
    let _ = write!(picture, r#"<path class="diagonal" d="{diagonal}"/>"#);
    let most = count(ranking.bins.iter().map(|bin| bin.answers).max().unwrap_or(1).max(1));
    for bin in &ranking.bins {
        let (x, y) = (frame.x.at(bin.score), frame.y.at(bin.label));
        let radius = (MOST * (count(bin.answers) / most).sqrt()).max(2.0);
        let _ = write!(picture, r#"<circle class="bin" cx="{x:.1}" cy="{y:.1}" r="{radius:.1}" fill="{BLUE}"/>"#);
    }
    let bins: Vec<String> = ranking
        .bins
        .iter()
        .map(|bin| format!("score {}: label {}, answers {}", decimal(bin.score), decimal(bin.label), bin.answers))
        .collect();
    let words = format!("Mean label by mean score; honest scores lie on the diagonal. {}.", bins.join("; "));
    let (ece, brier) = (known(ranking.calibration_error, decimal), known(ranking.brier, decimal));
    let title = format!("{tier}: ECE {ece}, Brier {brier}");
    let caption = format!("<p class=\"title\">{}</p>", escaped(&title));
    figure(&format!("reliability-{}", ranking.tier), (320.0, 320.0), &title, &words, &picture, &caption)
}

/// Which tier answered, for all prompts and by task.
pub(super) fn tier_mix(study: &Study) -> String {
    const WIDTH: f64 = 600.0;
    const ROW: f64 = 54.0;
    let tasks = study.tasks.iter().map(|task| (task.task.as_str(), &task.served_share));
    let rows: Vec<(&str, &Vec<f64>)> =
        std::iter::once(("all prompts", &study.served_share)).chain(tasks).filter(|(_, s)| !s.is_empty()).collect();
    if rows.is_empty() {
        return String::new();
    }
    let (mut picture, mut words, mut height) = (String::new(), String::new(), 0.0);
    for (name, shares) in rows {
        picture.push_str(&text("", (0.0, height + 16.0), "start", name));
        picture.push_str(&bar(shares, height + 22.0, WIDTH));
        let _ = write!(words, "{name}: {}. ", served_by(&study.tiers, shares));
        height += ROW;
    }
    let keys: String = study.tiers.iter().enumerate().map(|(tier, name)| tier_key(tier, name)).collect();
    let caption = format!("<ul class=\"keys\">{keys}</ul>");
    figure("tier-mix", (WIDTH, height), "Who answered", words.trim_end(), &picture, &caption)
}

/// One bar, a part per tier.
fn bar(shares: &[f64], top: f64, length: f64) -> String {
    let (mut svg, mut left) = (String::new(), 0.0);
    for (tier, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let (fill, ink) = FILLS[tier % FILLS.len()];
        let (width, number) = (share * length, tier + 1);
        let size = format!(r#"y="{top:.1}" width="{width:.1}" height="24""#);
        let _ = write!(svg, r#"<rect class="part" x="{left:.1}" {size} fill="{fill}"/>"#);
        let words = match width {
            wide if wide >= 84.0 => format!("{number}: {}", percent(*share)),
            narrow if narrow >= 14.0 => number.to_string(),
            _ => String::new(),
        };
        svg.push_str(&text(&format!(r#"fill="{ink}""#), (left + width / 2.0, top + 17.0), "middle", &words));
        left += width;
    }
    svg
}

fn tier_key(tier: usize, name: &str) -> String {
    let (fill, ink) = FILLS[tier % FILLS.len()];
    let part = format!(r#"<rect class="part" x="1" y="0" width="30" height="14" fill="{fill}"/>"#);
    let number = text(&format!(r#"fill="{ink}""#), (16.0, 12.0), "middle", &(tier + 1).to_string());
    key(&(part + &number), name)
}

/// Words in a picture; `look` is attributes.
fn text(look: &str, (x, y): (f64, f64), anchor: &str, words: &str) -> String {
    format!(r#"<text {look} x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#, escaped(words))
}

/// One line of a legend.
fn key(sample: &str, words: &str) -> String {
    format!(r#"<li><svg viewBox="0 0 32 14" aria-hidden="true">{sample}</svg>{}</li>"#, escaped(words))
}

/// A picture with its name and its words, for those who do not see it.
fn figure(id: &str, size: (f64, f64), title: &str, words: &str, picture: &str, caption: &str) -> String {
    let ((width, height), title, words) = (size, escaped(title), escaped(words));
    format!(
        r#"<figure id="{id}"><div class="scroll" role="group" aria-label="{title}" tabindex="0">
<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{id}-title {id}-words">
<title id="{id}-title">{title}</title><desc id="{id}-words">{words}</desc>{picture}</svg></div>
<figcaption>{caption}</figcaption></figure>
"#
    )
}
