//! Passes over JSON values without building anything, in a few instructions a byte: most
//! of an answer is logprobs that are only to be found, added up and cut out.
//!
//! Invariant: what is passed over is JSON, as far as brackets, quotes and commas go;
//! where it is not, there is nothing to be had, and serde says what is wrong.

/// Values may stand in values so deep.
const MAX_DEPTH: usize = 64;

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where it stands, in bytes.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next byte that is no space; the cursor stands on it.
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Passes over this byte.
    pub fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Passes over a string; what stands between its quotes, as written.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            self.plain();
            match *self.bytes.get(self.at)? {
                b'"' => {
                    let inside = &self.bytes[start..self.at];
                    self.at += 1;
                    return Some(inside);
                }
                b'\\' => self.at += 2,
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
    }

    /// Passes over eight bytes of a string at a time, up to its end or anything else that
    /// is more than a character, or to the last few bytes.
    fn plain(&mut self) {
        while let Some(eight) = self.bytes[self.at.min(self.bytes.len())..].first_chunk() {
            let special = specials(u64::from_le_bytes(*eight));
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    /// Passes over a number; its bytes.
    fn digits(&mut self) -> Option<&'a [u8]> {
        let sign = usize::from(self.peek()? == b'-');
        let start = self.at;
        let is_start = self.bytes.get(start + sign).is_some_and(u8::is_ascii_digit);
        while self.bytes.get(self.at).is_some_and(|byte| IN_NUMBER[*byte as usize]) {
            self.at += 1;
        }
        is_start.then(|| &self.bytes[start..self.at])
    }

    /// Passes over a word that stands as it is.
    pub fn word(&mut self, word: &[u8]) -> Option<()> {
        let is_it = self.bytes.get(self.at..)?.starts_with(word);
        is_it.then(|| self.at += word.len())
    }

    /// Passes over a number.
    pub fn number(&mut self) -> Option<f64> {
        let digits = self.digits()?;
        short_number(digits)
            .or_else(|| std::str::from_utf8(digits).ok()?.parse().ok().filter(|number: &f64| number.is_finite()))
    }

    /// Passes over a whole number, 0 or more.
    pub fn whole(&mut self) -> Option<usize> {
        std::str::from_utf8(self.digits()?).ok()?.parse().ok()
    }

    /// Whether a `null` stands here; passes over it if so.
    pub fn null(&mut self) -> Option<bool> {
        Some(self.peek()? == b'n' && self.word(b"null").is_some())
    }

    /// Passes over a value of any kind.
    pub fn skip(&mut self) -> Option<()> {
        self.skip_within(MAX_DEPTH)
    }

    fn skip_within(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' => self.each_member(|cursor, _| cursor.skip_within(depth)),
            b'[' => self.whole_numbers().or_else(|| self.each_item(|cursor| cursor.skip_within(depth))),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.digits().map(|_| ()),
        }
    }

    /// Passes over a list of whole numbers without spaces, as a token's bytes are written;
    /// stands still before any other.
    pub fn whole_numbers(&mut self) -> Option<()> {
        let mut at = self.at;
        if *self.bytes.get(at)? != b'[' {
            return None;
        }
        loop {
            let start = at + 1;
            at = start + self.bytes.get(start..)?.iter().position(|byte| !byte.is_ascii_digit())?;
            match self.bytes[at] {
                b',' if at > start => {}
                b']' if at > start => {
                    self.at = at + 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Passes over an object. `read` gets each name, as written, and passes over its
    /// value.
    pub fn each_member(&mut self, mut read: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        self.until(b'}', |cursor| {
            let name = cursor.string()?;
            cursor.expect(b':')?;
            read(cursor, name)
        })
    }

    /// Passes over a list. `read` passes over each item.
    pub fn each_item(&mut self, read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        self.until(b']', read)
    }

    /// Passes over what stands between commas, up to `end` and over that.
    fn until(&mut self, end: u8, mut read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let mut is_over = self.peek()? == end;
        while !is_over {
            read(self)?;
            is_over = self.peek()? == end;
            if !is_over {
                self.expect(b',')?;
            }
        }
        self.expect(end)
    }
}

/// Which bytes stand in numbers.
const IN_NUMBER: [bool; 256] = {
    let (mut table, bytes, mut at) = ([false; 256], b"0123456789-+.eE", 0);
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
};

/// The high bit of each byte that is a quote, a backslash or a control character; right up
/// to the lowest of them.
fn specials(eight: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    // Where a byte is less than `bound`, at most 128.
    let below = |bytes: u64, bound: u64| bytes.wrapping_sub(EACH * bound) & !bytes & (EACH << 7);
    let is = |byte: u8| below(eight ^ (EACH * u64::from(byte)), 1);
    is(b'"') | is(b'\\') | below(eight, 0x20)
}

/// A number without an exponent and of few enough digits that it is the quotient of two
/// numbers that are exact, which is then the nearest one, too (Clinger 1990).
fn short_number(digits: &[u8]) -> Option<f64> {
    const TENS: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ];
    let (is_negative, unsigned) = match digits {
        [b'-', unsigned @ ..] => (true, unsigned),
        _ => (false, digits),
    };
    let (mut whole, mut decimals) = (0u64, None);
    for byte in unsigned {
        match byte {
            b'0'..=b'9' if whole < (1 << 53) / 10 => {
                whole = whole * 10 + u64::from(byte - b'0');
                decimals = decimals.map(|decimals| decimals + 1);
            }
            b'.' if decimals.is_none() => decimals = Some(0usize),
            _ => return None,
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "less than 2^53")]
    let number = whole as f64 / TENS.get(decimals.unwrap_or(0))?;
    Some(if is_negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn end(text: &str) -> Option<usize> {
        let mut cursor = Cursor::new(text.as_bytes(), 0);
        cursor.skip().map(|()| cursor.at())
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_is_passed_over_to_its_end(value in values(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("JSON");
            prop_assert_eq!(end(&text), Some(text.len()));
            // With more behind it, and with its end missing.
            let more = format!("{text},\"x\":1}}");
            prop_assert_eq!(end(&more), Some(text.len()));
            if text.ends_with(['}', ']', '"']) {
                prop_assert_eq!(end(&text[..text.len() - 1]), None);
            }
        }
    }

    proptest! {
        #[test]
        fn a_number_is_the_nearest_one(text in "-?[0-9]{1,20}(\\.[0-9]{1,24})?", number: f64) {
            for text in [text, number.to_string()].iter().filter(|text| text.parse::<f64>().is_ok_and(f64::is_finite)) {
                let read = Cursor::new(text.as_bytes(), 0).number().map(f64::to_bits);
                prop_assert_eq!(read, text.parse().ok().map(f64::to_bits), "{}", text);
            }
        }
    }

    #[test]
    fn what_is_no_value_is_not_passed_over() {
        let deep = "[".repeat(100);
        for text in
            ["", "{", "{\"a\"}", "{\"a\":}", "[1,]", "[1 2]", "nul", "+1", "-inf", "-", "nan", "\"a\nb\"", "}", &deep]
        {
            assert_eq!(end(text), None, "{text}");
        }
    }
}
