//! A part of a configuration that knows what was read of it.
//!
//! Invariant: what was not read, or could not be, can be told.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

/// A map; what is read of it is noted.
pub(super) struct Section<'a> {
    value: &'a Value,
    read: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Section<'a> {
    pub fn of(value: &'a Value) -> Self {
        Self { value, read: RefCell::default() }
    }

    /// What stands there, as it was read by `read`; none where that could not be.
    pub fn as_read<T>(&self, key: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let (key, value) = self.value.as_object()?.get_key_value(key)?;
        let found = read(value)?;
        self.read.borrow_mut().insert(key);
        Some(found)
    }

    pub fn any(&self, key: &str) -> Option<&'a Value> {
        self.as_read(key, Some).filter(|value| !value.is_null())
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.as_read(key, Value::as_str)
    }

    /// 0 or more.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.as_read(key, number)
    }

    /// Seconds; 0 means that there is no bound, and so does nothing.
    pub fn seconds(&self, key: &str) -> Option<f64> {
        self.number(key).filter(|seconds| *seconds > 0.0)
    }

    /// 1 or more.
    pub fn whole(&self, key: &str) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held within its range")]
        self.number(key).filter(|number| *number >= 1.0).map(|number| number.min(4e9) as u64)
    }

    pub fn is_true(&self, key: &str) -> bool {
        let is = |value: &Value| value.as_bool().or_else(|| value.as_str()?.to_ascii_lowercase().parse().ok());
        self.as_read(key, is).unwrap_or(false)
    }

    /// Passes over what means nothing here.
    pub fn pass(&self, keys: &[&str]) {
        keys.iter().for_each(|key| _ = self.any(key));
    }

    /// What was not read, with something in it.
    pub fn left(&self) -> Vec<&'a str> {
        let all = self.value.as_object().into_iter().flatten();
        let read = self.read.borrow();
        all.filter(|(key, value)| !value.is_null() && !read.contains(key.as_str()))
            .map(|(key, _)| key.as_str())
            .collect()
    }
}

/// A number of 0 or more, also where YAML 1.1 and 1.2 differ: `1e-05`, `1_000`.
fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().replace('_', "").parse().ok())?;
    (number.is_finite() && number >= 0.0).then_some(number)
}
