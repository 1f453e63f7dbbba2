//! Check digits: the arithmetic that tells a real identifier from digits that merely look like one.
//!
//! Every function takes the bare characters (separators already removed) and answers whether the check holds. Wrong
//! lengths and foreign characters answer `false`.

/// Luhn's mod 10 (ISO/IEC 7812-1 annex B): payment cards, the Canadian SIN, Ontario health numbers.
pub(crate) fn luhn(digits: &[u8]) -> bool {
    if digits.len() < 2 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(digit - b'0') << (place % 2);
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// ISO 7064 mod 97-10 over an IBAN as written (country first); letters of either case count 10..=35.
pub(crate) fn iban_mod97(iban: &[u8]) -> bool {
    if iban.len() < 5 {
        return false;
    }
    let mut remainder = 0u32;
    for &character in iban[4..].iter().chain(&iban[..4]) {
        let value = match character {
            b'0'..=b'9' => u32::from(character - b'0'),
            b'A'..=b'Z' => u32::from(character - b'A') + 10,
            b'a'..=b'z' => u32::from(character - b'a') + 10,
            _ => return false,
        };
        remainder = (remainder * if value > 9 { 100 } else { 10 } + value) % 97;
    }
    remainder == 1
}

/// ISO 3779 / 49 CFR 565: position 9 of a vehicle identification number, weights 8 7 6 5 4 3 2 10 0 9 8 7 6 5 4 3 2.
pub(crate) fn vin(vin: &[u8]) -> bool {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    if vin.len() != 17 {
        return false;
    }
    let mut sum = 0;
    for (&character, weight) in vin.iter().zip(WEIGHTS) {
        let value = match character.to_ascii_uppercase() {
            digit @ b'0'..=b'9' => digit - b'0',
            letter @ b'A'..=b'H' => letter - b'A' + 1,
            letter @ b'J'..=b'N' => letter - b'J' + 1,
            b'P' => 7,
            b'R' => 9,
            letter @ b'S'..=b'Z' => letter - b'S' + 2,
            _ => return false,
        };
        sum += u32::from(value) * weight;
    }
    match sum % 11 {
        10 => vin[8].eq_ignore_ascii_case(&b'X'),
        rest => vin[8] == b'0' + rest as u8,
    }
}

/// American Bankers Association routing number: 3 7 1 weights, and a first pair that the Federal Reserve has assigned.
pub(crate) fn aba(digits: &[u8]) -> bool {
    if digits.len() != 9 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = digits.iter().zip([3, 7, 1].into_iter().cycle()).map(|(d, w)| u32::from(d - b'0') * w).sum();
    let district = (digits[0] - b'0') * 10 + (digits[1] - b'0');
    sum.is_multiple_of(10) && matches!(district, 0..=12 | 21..=32 | 61..=72 | 80) && digits.iter().any(|d| *d != b'0')
}

/// NHS number of England, Wales and the Isle of Man: weights 10..=2, 11 minus the sum mod 11; 10 is never issued.
pub(crate) fn nhs(digits: &[u8]) -> bool {
    if digits.len() != 10 || !digits.iter().all(u8::is_ascii_digit) || digits.iter().all(|d| *d == digits[0]) {
        return false;
    }
    let sum: u32 = digits[..9].iter().zip((2..=10).rev()).map(|(d, w)| u32::from(d - b'0') * w).sum();
    let check = (11 - sum % 11) % 11;
    check != 10 && u32::from(digits[9] - b'0') == check
}

/// United Kingdom unique taxpayer reference: the first digit checks the other nine (weights 6 7 8 9 10 5 4 3 2).
pub(crate) fn utr(digits: &[u8]) -> bool {
    const CHECK: [u8; 11] = *b"21987654321";
    if digits.len() != 10 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: usize = digits[1..].iter().zip([6, 7, 8, 9, 10, 5, 4, 3, 2]).map(|(d, w)| usize::from(d - b'0') * w).sum();
    digits[0] == CHECK[sum % 11]
}

/// Shannon entropy in bits per byte: random secrets of 40 base64 characters lie near 4.7, words and paths below 4.
pub(crate) fn entropy(bytes: &[u8]) -> f32 {
    let mut counts = [0u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f32;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = *count as f32 / total;
            -share * share.log2()
        })
        .sum()
}

/// Length of an IBAN of this country (two capitals), from the SWIFT IBAN registry; `None`: the country issues none.
pub(crate) fn iban_length(country: [u8; 2]) -> Option<usize> {
    const LENGTHS: &[(&[u8; 2], usize)] = &[
        (b"AD", 24),
        (b"AE", 23),
        (b"AL", 28),
        (b"AT", 20),
        (b"AZ", 28),
        (b"BA", 20),
        (b"BE", 16),
        (b"BG", 22),
        (b"BH", 22),
        (b"BI", 27),
        (b"BR", 29),
        (b"BY", 28),
        (b"CH", 21),
        (b"CR", 22),
        (b"CY", 28),
        (b"CZ", 24),
        (b"DE", 22),
        (b"DJ", 27),
        (b"DK", 18),
        (b"DO", 28),
        (b"EE", 20),
        (b"EG", 29),
        (b"ES", 24),
        (b"FI", 18),
        (b"FK", 18),
        (b"FO", 18),
        (b"FR", 27),
        (b"GB", 22),
        (b"GE", 22),
        (b"GI", 23),
        (b"GL", 18),
        (b"GR", 27),
        (b"GT", 28),
        (b"HN", 28),
        (b"HR", 21),
        (b"HU", 28),
        (b"IE", 22),
        (b"IL", 23),
        (b"IQ", 23),
        (b"IS", 26),
        (b"IT", 27),
        (b"JO", 30),
        (b"KW", 30),
        (b"KZ", 20),
        (b"LB", 28),
        (b"LC", 32),
        (b"LI", 21),
        (b"LT", 20),
        (b"LU", 20),
        (b"LV", 21),
        (b"LY", 25),
        (b"MC", 27),
        (b"MD", 24),
        (b"ME", 22),
        (b"MK", 19),
        (b"MN", 20),
        (b"MR", 27),
        (b"MT", 31),
        (b"MU", 30),
        (b"NI", 28),
        (b"NL", 18),
        (b"NO", 15),
        (b"OM", 23),
        (b"PK", 24),
        (b"PL", 28),
        (b"PS", 29),
        (b"PT", 25),
        (b"QA", 29),
        (b"RO", 24),
        (b"RS", 22),
        (b"RU", 33),
        (b"SA", 24),
        (b"SC", 31),
        (b"SD", 18),
        (b"SE", 24),
        (b"SI", 19),
        (b"SK", 24),
        (b"SM", 27),
        (b"SO", 23),
        (b"ST", 25),
        (b"SV", 28),
        (b"TL", 23),
        (b"TN", 24),
        (b"TR", 26),
        (b"UA", 29),
        (b"VA", 22),
        (b"VG", 24),
        (b"XK", 20),
        (b"YE", 30),
    ];
    LENGTHS.binary_search_by(|entry| entry.0.cmp(&country)).ok().map(|at| LENGTHS[at].1)
}

/// Whether two capitals are an ISO 3166-1 alpha-2 code (and `XK`, which banks use for Kosovo).
pub(crate) fn is_country(code: [u8; 2]) -> bool {
    const CODES: &[u8] = b"ADAEAFAGAIALAMAOAQARASATAUAWAXAZBABBBDBEBFBGBHBIBJBLBMBNBOBQBRBSBTBVBWBYBZCACCCDCFCGCHCICK\
        CLCMCNCOCRCUCVCWCXCYCZDEDJDKDMDODZECEEEGEHERESETFIFJFKFMFOFRGAGBGDGEGFGGGHGIGLGMGNGPGQGRGSGTGUGWGYHKHMHNHRHT\
        HUIDIEILIMINIOIQIRISITJEJMJOJPKEKGKHKIKMKNKPKRKWKYKZLALBLCLILKLRLSLTLULVLYMAMCMDMEMFMGMHMKMLMMMNMOMPMQMRMSMT\
        MUMVMWMXMYMZNANCNENFNGNINLNONPNRNUNZOMPAPEPFPGPHPKPLPMPNPRPSPTPWPYQARERORSRURWSASBSCSDSESGSHSISJSKSLSMSNSOSR\
        SSSTSVSXSYSZTCTDTFTGTHTJTKTLTMTNTOTRTTTVTWTZUAUGUMUSUYUZVAVCVEVGVIVNVUWFWSXKYEYTZAZMZW";
    CODES.as_chunks::<2>().0.binary_search(&code).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_examples_hold_and_a_changed_digit_does_not() {
        assert!(luhn(b"4111111111111111") && !luhn(b"4111111111111112") && !luhn(b"4"));
        assert!(iban_mod97(b"GB82WEST12345698765432") && !iban_mod97(b"GB82WEST12345698765431"));
        assert!(vin(b"1M8GDM9AXKP042788") && !vin(b"1M8GDM9A1KP042788") && !vin(b"IM8GDM9AXKP042788"));
        assert!(aba(b"111000025") && !aba(b"111000026") && !aba(b"000000000"));
        assert!(nhs(b"9434765919") && !nhs(b"9434765918") && !nhs(b"0000000000"));
        assert!(utr(b"1123456789") && !utr(b"2123456789"));
    }

    #[test]
    fn any_single_wrong_digit_breaks_a_card_and_an_nhs_number() {
        for (number, check) in
            [(b"4012888888881881".as_slice(), luhn as fn(&[u8]) -> bool), (b"4010232137".as_slice(), nhs)]
        {
            assert!(check(number));
            for place in 0..number.len() {
                for digit in b'0'..=b'9' {
                    let mut wrong = number.to_vec();
                    wrong[place] = digit;
                    assert_eq!(check(&wrong), digit == number[place], "{place} {digit}");
                }
            }
        }
    }

    #[test]
    fn tables_are_sorted_so_that_binary_search_finds_every_entry() {
        assert_eq!(iban_length(*b"AD"), Some(24));
        assert_eq!(iban_length(*b"YE"), Some(30));
        assert_eq!(iban_length(*b"NO"), Some(15));
        assert_eq!(iban_length(*b"US"), None);
        for code in [b"AD", b"US", b"GB", b"DE", b"ZW", b"XK"] {
            assert!(is_country(*code));
        }
        assert!(!is_country(*b"UK") && !is_country(*b"ZZ"));
    }

    #[test]
    fn random_looking_text_has_more_entropy_than_words() {
        assert!(entropy(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY") > 4.0);
        assert!(entropy(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa") < 0.1);
    }
}
