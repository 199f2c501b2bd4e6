//! How a histogram of times is written down: each value with its count.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[expect(clippy::ref_option, reason = "serde hands it over like this")]
pub(super) fn serialize<S: Serializer>(times: &Option<Histogram<u64>>, to: S) -> Result<S::Ok, S::Error> {
    let each = |times: &Histogram<u64>| -> Vec<(u64, u64)> {
        times.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    };
    times.as_ref().map(each).serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Histogram<u64>>, D::Error> {
    let Some(each) = Option::<Vec<(u64, u64)>>::deserialize(from)? else { return Ok(None) };
    let mut times = Histogram::new(3).map_err(serde::de::Error::custom)?;
    for (value, count) in each {
        times.record_n(value, count).map_err(serde::de::Error::custom)?;
    }
    Ok(Some(times))
}
