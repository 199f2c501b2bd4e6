//! Sums that an answer works out, worked out again: `3 * 12 = 36`.

/// How many equations of a text hold, and how many do not: one or more numbers
/// joined by `+ - * / x × ÷`, an equals sign, a number. Units, dollar signs and
/// white space may stand between; percentages and powers are not understood.
#[must_use]
pub fn check(text: &str) -> (usize, usize) {
    const NEAR: f64 = 0.006;
    let (mut right, mut wrong) = (0, 0);
    let mut from = 0;
    for (equals, _) in text.match_indices('=') {
        let left = left_of(&text[from..equals]);
        from = equals + 1;
        let Some((value, is_sum)) = left else { continue };
        let Some(claimed) = first_number(&text[from..]) else { continue };
        if !is_sum {
            continue;
        }
        // Written answers are rounded, to a hundredth most often.
        let is_near = (value - claimed).abs() <= NEAR.max(claimed.abs() * 1e-3);
        if is_near { right += 1 } else { wrong += 1 }
    }
    (right, wrong)
}

/// The value of the expression that a text ends in, and whether it is more than
/// a number; none where it ends in none.
fn left_of(text: &str) -> Option<(f64, bool)> {
    // Right to left: number, operator, number, ...
    let mut terms: Vec<(u8, f64)> = Vec::new();
    let mut rest = text.trim_end();
    loop {
        let (before, number) = last_number(rest)?;
        rest = before.trim_end_matches(['$', '€', '£', ' ', '(']);
        let operator = rest.chars().next_back();
        let operator = match operator {
            Some('+') => b'+',
            Some('-' | '−' | '–') => b'-',
            Some('*' | '×' | 'x' | 'X') => b'*',
            Some('/' | '÷') => b'/',
            _ => {
                terms.push((b'+', number));
                break;
            }
        };
        rest = rest[..rest.len() - rest.chars().next_back().map_or(0, char::len_utf8)].trim_end_matches([' ', ')']);
        if last_number(rest).is_none() {
            terms.push((if operator == b'-' { b'-' } else { b'+' }, number));
            break;
        }
        terms.push((operator, number));
        if terms.len() > 16 {
            return None;
        }
    }
    terms.reverse();
    let is_sum = terms.len() > 1;
    let (mut total, mut product) = (0.0, 0.0);
    for (operator, number) in terms {
        match operator {
            b'*' => product *= number,
            b'/' => product /= number,
            b'-' => {
                total += product;
                product = -number;
            }
            _ => {
                total += product;
                product = number;
            }
        }
    }
    Some((total + product, is_sum))
}

/// The number a text ends in, letters of a unit after it allowed, and what
/// stands before it.
fn last_number(text: &str) -> Option<(&str, f64)> {
    let bare = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ' || c == ')');
    let start = bare.bytes().rposition(|b| !(b.is_ascii_digit() || b == b'.' || b == b',')).map_or(0, |at| at + 1);
    // What may be cut in two is no boundary of characters.
    let digits = bare.get(start..)?;
    let (number, _) = crate::prompt::numbers(digits).next()?;
    Some((&bare[..start], number))
}

fn first_number(text: &str) -> Option<f64> {
    let text = text.trim_start_matches([' ', '$', '€', '£', '<']);
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest.trim_start_matches('$')));
    text.as_bytes().first().filter(|b| b.is_ascii_digit())?;
    let (number, end) = crate::prompt::numbers(text).next()?;
    // `3 * 4 = 3 * 2 * 2`: what follows is no result yet.
    let goes_on = text[end..].trim_start().starts_with(['+', '*', '/', '×', '÷']);
    (!goes_on).then_some(sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_worked_out_again() {
        for (text, right, wrong) in [
            ("3 * 12 = 36 and 2 x 80 = $160.", 2, 0),
            ("204 + 160 + 330 = 694", 1, 0),
            ("10 - 2 * 3 = 4", 1, 0),
            ("7 * 8 = 54", 0, 1),
            ("x = 5", 0, 0),
            ("5 apples + 3 pears = 8", 1, 0),
            ("1 / 3 = 0.33", 1, 0),
            ("$68 x 36 = $<<68*36=2448>>2448", 1, 0),
            ("1,000 + 1 = 1001", 1, 0),
            ("3 - 5 = -2", 1, 0),
            ("a = b == c", 0, 0),
            ("é5 + 1 = 6", 1, 0),
            ("", 0, 0),
        ] {
            assert_eq!(check(text), (right, wrong), "{text}");
        }
    }
}
