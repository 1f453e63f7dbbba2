//! Numbers as tokens, so that a server which compares texts can be asked for an interval.
//!
//! A filter field has to be named in Atlas's index, and which attributes a record has is not known when that is made. So numbers lie
//! among the tokens of the one field that is named: a number's 64 bits, in an order that is that of numbers, are 16 hexadecimal digits, and a
//! record has each beginning of them as a token. An interval is a set of such beginnings: at most 15 of each length at either end.

/// The bits of a number, greater where the number is.
fn ordered(number: f64) -> u64 {
    // Negative zero is zero.
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// What all tokens of the numbers of a field (see [`number_field`](super::super::query::number_field)) begin with.
fn start(field: &str) -> String {
    format!("X{}Xo", field.strip_prefix('n').unwrap_or(field))
}

/// The tokens of a number.
pub(super) fn number_tokens(field: &str, number: f64) -> Vec<String> {
    let (start, digits) = (start(field), format!("{:016x}", ordered(number)));
    (1..=16).map(|length| format!("{start}{}", &digits[..length])).collect()
}

/// Tokens of which a number between these bounds has one and no other number any; each bound with whether it is included.
pub(super) fn interval_tokens(field: &str, low: Option<(f64, bool)>, high: Option<(f64, bool)>) -> Vec<String> {
    // Infinities are no numbers of JSON, so neither end is one and there is always a next.
    let low = low.map_or(0, |(low, included)| ordered(low) + u64::from(!included));
    let high = high.map_or(u64::MAX, |(high, included)| ordered(high) - u64::from(!included));
    let mut tokens = Vec::new();
    if low <= high {
        cover(&start(field), 0, 0, (low, high), &mut tokens);
    }
    tokens
}

/// The longest blocks between the bounds that begin with the `depth` digits of `first`.
fn cover(start: &str, first: u64, depth: u32, bounds: (u64, u64), tokens: &mut Vec<String>) {
    let shift = 60 - 4 * depth;
    for digit in 0..16 {
        let from = first | digit << shift;
        let to = from | ((1 << shift) - 1);
        if to < bounds.0 || from > bounds.1 {
            continue;
        }
        if bounds.0 <= from && to <= bounds.1 {
            tokens.push(format!("{start}{}", &format!("{from:016x}")[..depth as usize + 1]));
        } else {
            cover(start, from, depth + 1, bounds, tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers() -> impl Strategy<Value = f64> {
        prop_oneof![
            (-4i32..5).prop_map(f64::from),
            prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL | prop::num::f64::NEGATIVE,
            Just(f64::MAX),
            Just(f64::MIN),
            Just(-0.0),
        ]
    }

    fn bounds() -> impl Strategy<Value = Option<(f64, bool)>> {
        prop::option::of((numbers(), any::<bool>()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn a_number_has_a_token_of_the_interval_just_if_it_lies_there(number in numbers(), low in bounds(), high in bounds()) {
            let within = low.is_none_or(|(low, included)| number > low || included && number == low)
                && high.is_none_or(|(high, included)| number < high || included && number == high);
            let (has, asked) = (number_tokens("nyear", number), interval_tokens("nyear", low, high));
            prop_assert!(asked.len() <= 2 * 15 * 16, "{} tokens", asked.len());
            prop_assert_eq!(has.iter().any(|token| asked.contains(token)), within, "{:?}", asked);
        }
    }

    #[test]
    fn tokens_by_hand() {
        let tokens = number_tokens("nyear", 2.0);
        assert_eq!(
            (tokens.len(), tokens[0].as_str(), tokens[15].as_str()),
            (16, "XyearXoc", "XyearXoc000000000000000")
        );
        // Two and more: those that begin with c, d, e or f.
        assert_eq!(interval_tokens("nyear", Some((2.0, true)), None), ["XyearXoc", "XyearXod", "XyearXoe", "XyearXof"]);
        assert!(interval_tokens("n", Some((2.0, false)), Some((2.0, true))).is_empty());
        assert!(interval_tokens("n", Some((3.0, true)), Some((2.0, true))).is_empty());
    }
}
