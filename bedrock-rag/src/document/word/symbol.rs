//! Characters of the Symbol and Wingdings fonts, which documents use by their place in the font.

/// The character at a place (0x20 to 0xFF, with or without the 0xF000 that Word adds) of a font, as Unicode.
pub(super) fn symbol(font: &str, code: u32) -> Option<char> {
    let code = if (0xF000..=0xF0FF).contains(&code) { code - 0xF000 } else { code };
    let font = font.to_ascii_lowercase();
    if font.starts_with("symbol") {
        return u8::try_from(code).ok().and_then(symbol_font);
    }
    if font.starts_with("wingdings") || font.starts_with("webdings") {
        return Some(match code {
            0x4A => '☺',
            0xA8 => '☐',
            0xFB | 0xFD | 0x78 => '☒',
            0xFC | 0xFE => '☑',
            0xDF | 0xE7 => '←',
            0xE0 | 0xE8 => '→',
            0xE1 | 0xE9 => '↑',
            0xE2 | 0xEA => '↓',
            _ => '•',
        });
    }
    char::from_u32(code).filter(|character| !character.is_control())
}

/// The Symbol font's own encoding (Adobe's table): Greek where Latin letters are, mathematics above.
fn symbol_font(code: u8) -> Option<char> {
    const LETTERS: &str = "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ";
    const SMALL: &str = "αβχδεφγηιϕκλμνοπθρστυϖωξψζ";
    const HIGH: &str = "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑";
    Some(match code {
        b'A'..=b'Z' => LETTERS.chars().nth(usize::from(code - b'A'))?,
        b'a'..=b'z' => SMALL.chars().nth(usize::from(code - b'a'))?,
        0xA0..=0xE5 => HIGH.chars().nth(usize::from(code - 0xA0))?,
        0xF1 => '〉',
        0xF2 => '∫',
        0x22 => '∀',
        0x24 => '∃',
        0x27 => '∋',
        0x2A => '∗',
        0x2D => '−',
        0x40 => '≅',
        0x5C => '∴',
        0x5E => '⊥',
        0x7E => '∼',
        0x20..=0x7D => char::from(code),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_characters() {
        assert_eq!(symbol("Symbol", 0xF061), Some('α'));
        assert_eq!(symbol("Symbol", b'W'.into()), Some('Ω'));
        assert_eq!(symbol("Symbol", 0xA3), Some('≤'));
        assert_eq!(symbol("Symbol", 0xE5), Some('∑'));
        assert_eq!(symbol("Symbol", 0xD6), Some('√'));
        assert_eq!(symbol("Wingdings", 0xF0FC), Some('☑'));
        assert_eq!(symbol("Arial", 0xE9), Some('é'));
        assert_eq!(symbol("Arial", 7), None);
    }
}
