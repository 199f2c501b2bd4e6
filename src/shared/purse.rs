//! What was spent with keys.
//!
//! Invariant: each replica tells all that it has spent, never how much more: told twice it
//! counts once, and what the shared state has lost it is told again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::price::Usd;

/// Keys in one word.
const MOST: usize = 500;
/// For how long a month is kept, in seconds.
pub(super) const KEPT: u32 = 70 * 24 * 3600;

/// Money, in billionths of a dollar, and answers of unknown cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Billionths of a dollar.
    pub billionths: u64,
    /// Answers whose cost is not among them.
    pub unknown: u64,
}

impl Sum {
    /// Of one answer.
    #[must_use]
    pub fn of(cost: Option<Usd>) -> Self {
        let billionths = |cost: Usd| u64::try_from((cost.picodollars() + 500) / 1000).unwrap_or(0);
        match cost {
            Some(cost) => Self { billionths: billionths(cost), unknown: 0 },
            None => Self { billionths: 0, unknown: 1 },
        }
    }

    /// Of so many dollars.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, and saturating")]
    pub fn of_dollars(dollars: f64, unknown: u64) -> Self {
        Self { billionths: (dollars * 1e9).round() as u64, unknown }
    }

    /// In dollars.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "of 9 million dollars a billionth is known")]
    pub fn dollars(self) -> f64 {
        self.billionths as f64 / 1e9
    }

    pub(super) fn read(text: &str) -> Self {
        let (billionths, unknown) = text.split_once(' ').unwrap_or(("0", "0"));
        Self { billionths: billionths.parse().unwrap_or(0), unknown: unknown.parse().unwrap_or(0) }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            billionths: self.billionths.saturating_add(other.billionths),
            unknown: self.unknown.saturating_add(other.unknown),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            billionths: self.billionths.saturating_sub(other.billionths),
            unknown: self.unknown.saturating_sub(other.unknown),
        }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { billionths: self.billionths.max(other.billionths), unknown: self.unknown.max(other.unknown) }
    }
}

/// What this replica knows of what was spent.
#[derive(Debug, Default)]
pub struct Purse(Mutex<Accounts>);

/// By month and key.
type Accounts = BTreeMap<(String, String), Account>;

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Spent before this replica began.
    before: Sum,
    /// Spent by this replica.
    own: Sum,
    /// Of that, what others know.
    heard: Sum,
    /// Spent by all replicas, as far as that is known.
    all: Sum,
    /// Whether it is to be told.
    is_news: bool,
}

/// What is told at once, of one month.
#[derive(Debug)]
pub(super) struct Word {
    pub month: String,
    /// Id, own and before.
    pub keys: Vec<(String, Sum, Sum)>,
}

impl Account {
    fn spent(&self) -> Sum {
        self.all.plus(self.own.minus(self.heard)).max(self.before.plus(self.own))
    }
}

impl Purse {
    fn accounts(&self) -> std::sync::MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that so much more was spent in a month; `before` is what was spent in it
    /// before anything was noted.
    pub fn spend(&self, month: &str, id: &str, before: Sum, more: Sum) {
        let mut accounts = self.accounts();
        let key = (month.to_owned(), id.to_owned());
        if !accounts.contains_key(&key) {
            // Of months that are over nothing is asked any more.
            accounts.retain(|(of, _), account| of == month || account.is_news);
        }
        let account = accounts.entry(key).or_default();
        if account.own == Sum::default() {
            account.before = before;
        }
        account.own = account.own.plus(more);
        account.is_news = true;
    }

    /// Notes what all replicas have spent; returns that with what is not told yet.
    pub fn learn(&self, month: &str, id: &str, all: Sum) -> Sum {
        let mut accounts = self.accounts();
        let account = accounts.entry((month.to_owned(), id.to_owned())).or_default();
        account.all = account.all.max(all);
        account.spent()
    }

    /// What is known to be spent in a month.
    #[must_use]
    pub fn spent(&self, month: &str, id: &str) -> Sum {
        self.accounts().get(&(month.to_owned(), id.to_owned())).map_or(Sum::default(), Account::spent)
    }

    /// Whether something is not told.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.accounts().values().any(|account| account.is_news)
    }

    /// Everything is to be told again: what was heard may be forgotten.
    pub(super) fn tell_again(&self) {
        // Of what others have spent others tell.
        let own = |account: &&mut Account| account.own != Sum::default();
        self.accounts().values_mut().filter(own).for_each(|account| account.is_news = true);
    }

    /// What is to be told next.
    pub(super) fn word(&self) -> Option<Word> {
        let accounts = self.accounts();
        let month = accounts.iter().find(|(_, account)| account.is_news)?.0.0.clone();
        let news = accounts.iter().filter(|((of, _), account)| *of == month && account.is_news);
        let keys = news.take(MOST).map(|((_, id), account)| (id.clone(), account.own, account.before)).collect();
        Some(Word { month, keys })
    }

    /// A word was heard, and these are the sums of all.
    pub(super) fn heard(&self, word: &Word, sums: &[String]) {
        let mut accounts = self.accounts();
        for ((id, own, _), sum) in word.keys.iter().zip(sums) {
            if let Some(account) = accounts.get_mut(&(word.month.clone(), id.clone())) {
                account.all = account.all.max(Sum::read(sum));
                account.heard = *own;
                account.is_news = account.own != *own;
            }
        }
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.billionths, self.unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(billionths: u64) -> Sum {
        Sum { billionths, unknown: 0 }
    }

    #[test]
    fn what_is_spent_is_known_at_once_and_told_whole() {
        let purse = Purse::default();
        purse.spend("Nov 2026", "a", sum(100), sum(5));
        purse.spend("Nov 2026", "a", sum(105), sum(6));
        assert_eq!((purse.spent("Nov 2026", "a"), purse.spent("Dec 2026", "a")), (sum(111), sum(0)));
        let word = purse.word().expect("something to tell");
        assert_eq!(word.keys, [("a".to_owned(), sum(11), sum(100))]);
        purse.spend("Nov 2026", "a", sum(111), sum(7));
        // Others have spent 1000 meanwhile.
        purse.heard(&word, &["1111 0".to_owned()]);
        assert_eq!(purse.spent("Nov 2026", "a"), sum(1118));
        let word = purse.word().expect("what came after");
        assert_eq!(word.keys, [("a".to_owned(), sum(18), sum(100))]);
        purse.heard(&word, &["1118 0".to_owned()]);
        assert!(purse.word().is_none() && !purse.owes());
        purse.tell_again();
        assert_eq!(purse.word().expect("all of it").keys, word.keys);
        assert_eq!(purse.spent("Nov 2026", "a"), sum(1118));
    }

    #[test]
    fn a_month_is_told_to_its_end() {
        let purse = Purse::default();
        purse.spend("Nov 2026", "a", sum(0), sum(5));
        purse.spend("Dec 2026", "a", sum(0), Sum::of(None));
        let months = [(); 2].map(|()| {
            let word = purse.word().expect("a word");
            purse.heard(&word, &["0 1".to_owned()]);
            word.month
        });
        assert_eq!(months, ["Dec 2026", "Nov 2026"]);
        assert_eq!(purse.spent("Dec 2026", "a"), Sum { billionths: 0, unknown: 1 });
    }

    #[test]
    fn a_learned_sum_never_takes_back() {
        let purse = Purse::default();
        assert_eq!(purse.learn("Nov 2026", "a", sum(9)), sum(9));
        purse.spend("Nov 2026", "a", sum(9), sum(1));
        assert_eq!(purse.learn("Nov 2026", "a", sum(3)), sum(10));
        assert_eq!(purse.learn("Nov 2026", "b", sum(7)), sum(7));
        assert_eq!(purse.spent("Nov 2026", "b"), sum(7), "others have spent it");
        assert_eq!(Sum::read("nonsense"), sum(0));
        assert_eq!(Sum::of(Usd::from_dollars(0.000_000_001_6)), sum(2));
    }
}
