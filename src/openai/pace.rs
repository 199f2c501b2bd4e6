//! What an upstream says about its own limits: when to come back, and whether
//! anything is left.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// No pause asked for is kept longer than this: past it the word is taken for a
/// mistake, and asking again tells.
const LONGEST: Duration = Duration::from_mins(10);

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

/// When to come back: `retry-after-ms`, else `Retry-After` in seconds or as a date,
/// which counts from the response's own `Date`.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |text: &str| text.parse::<f64>().ok();
    let after = text(headers, header::RETRY_AFTER.as_str());
    let seconds = text(headers, "retry-after-ms").and_then(number).map(|ms| ms / 1000.0);
    if let Some(seconds) = seconds.or_else(|| number(after?)) {
        return Duration::try_from_secs_f64(seconds).ok().map(|time| time.min(LONGEST));
    }
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let (then, now): (SystemTime, _) = (date(after?)?, date(text(headers, header::DATE.as_str())?)?);
    // A date that has passed says: now.
    Some(then.duration_since(now).unwrap_or_default().min(LONGEST))
}

/// How long to leave the upstream alone though it has answered: the longest reset of
/// what has nothing left, by `x-ratelimit-remaining-*` and `x-ratelimit-reset-*`.
#[must_use]
pub fn nothing_left_for(headers: &HeaderMap) -> Option<Duration> {
    let of = |remaining: &str, reset: &str| {
        let is_used_up = text(headers, remaining)?.parse::<f64>().ok()? <= 0.0;
        let reset = span(text(headers, reset)?)?;
        is_used_up.then_some(reset.min(LONGEST))
    };
    let requests = of("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests");
    requests.max(of("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")).filter(|pause| !pause.is_zero())
}

/// A time as these headers write it: `1s`, `6m0s`, `120ms`, or seconds as a number.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, ms) in [("1s", 1000), ("6m0s", 360_000), ("120ms", 120), ("1.5", 1500), ("1h1m1s", 3_661_000)] {
            assert_eq!(span(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "1x", "-1s", "1s1", "NaN", "1e400", "é1s", "9e18s"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn a_retry_may_be_told_in_three_ways() {
        let told = |pairs: &[_]| retry_after(&headers(pairs));
        assert_eq!(told(&[("retry-after", "3"), ("retry-after-ms", "250")]), Some(Duration::from_millis(250)));
        assert_eq!(told(&[("retry-after", " 3 ")]), Some(Duration::from_secs(3)));
        let date = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(told(&[date, ("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")]), Some(Duration::from_secs(30)));
        assert_eq!(told(&[date, ("retry-after", "Wed, 21 Oct 2015 07:27:30 GMT")]), Some(Duration::ZERO));
        assert_eq!(told(&[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")]), None);
        assert_eq!(told(&[("retry-after", "18446744073709549568")]), Some(LONGEST));
        assert_eq!(told(&[("retry-after", "-1")]), None);
        assert_eq!(told(&[("retry-after", "soon")]), None);
    }

    #[test]
    fn only_what_has_nothing_left_makes_a_pause() {
        let told = |pairs: &[_]| nothing_left_for(&headers(pairs));
        let requests = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "8.64s")];
        assert_eq!(told(&requests), Some(Duration::from_millis(8640)));
        let both =
            [requests[0], requests[1], ("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")];
        assert_eq!(told(&both), Some(Duration::from_mins(6)));
        assert_eq!(told(&[("x-ratelimit-remaining-requests", "1"), requests[1]]), None);
        assert_eq!(told(&requests[..1]), None);
        assert_eq!(told(&[requests[0], ("x-ratelimit-reset-requests", "300h")]), Some(LONGEST));
    }
}
