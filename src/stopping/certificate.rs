//! What a calibration promises, and on what grounds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a calibration promises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// True where nothing could be promised and the largest tier always answers.
    pub uncertified: bool,
    /// What is promised, in words.
    pub promise: String,
    /// The bound on the loss, or on dollars.
    pub bound: f64,
    /// The chance that the promise does not hold.
    pub delta: f64,
    /// Labelled rows it was tested on; others than those it was fitted to.
    pub rows: usize,
    /// Rows it was fitted to.
    pub fitted_rows: usize,
    /// The test.
    pub method: Method,
    /// Its p-value for the point in force; 1 where nothing passed.
    pub p_value: f64,
    /// Where the labels come from.
    pub labels: String,
    /// A hash of the rows.
    pub data: String,
    /// The seed of the split.
    pub seed: u64,
}

/// How a promise was tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The exact binomial test of losses of 0 and 1.
    ClopperPearson,
    /// By the mean of losses in 0..=1.
    HoeffdingBentkus,
    /// By betting on signed losses.
    Betting,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClopperPearson => "Clopper-Pearson",
            Self::HoeffdingBentkus => "Hoeffding-Bentkus",
            Self::Betting => "betting",
        })
    }
}
