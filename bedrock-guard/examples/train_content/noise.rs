//! Texts as people write them who type in haste or hide.

pub(crate) use bedrock_guard::train::Random;

/// Letters swapped, dropped or replaced by digits, blanks dropped or put in.
pub(crate) fn noisy(text: &str, random: &mut Random) -> String {
    let mut out: Vec<char> = text.chars().collect();
    if out.len() < 6 {
        return text.to_owned();
    }
    let kind = random.below(6);
    if kind == 5 {
        let word = text.split(' ').max_by_key(|word| word.len()).unwrap_or(text);
        return text.replacen(word, &word.chars().map(String::from).collect::<Vec<_>>().join(" "), 1);
    }
    if kind == 2 {
        for c in &mut out {
            if random.chance(0.5) {
                *c = match c.to_ascii_lowercase() {
                    'a' => '4',
                    'e' => '3',
                    'i' => '1',
                    'o' => '0',
                    's' => '5',
                    't' => '7',
                    _ => *c,
                };
            }
        }
        return out.into_iter().collect();
    }
    for _ in 0..1 + out.len() / 35 {
        let at = 1 + random.below(out.len() - 2);
        match kind {
            0 if out[at].is_alphabetic() && out[at + 1].is_alphabetic() => out.swap(at, at + 1),
            1 if out[at].is_alphabetic() => drop(out.remove(at)),
            3 => {
                let blanks: Vec<usize> = (1..out.len()).filter(|at| out[*at] == ' ').collect();
                if !blanks.is_empty() {
                    out.remove(blanks[random.below(blanks.len())]);
                }
            }
            4 => out.insert(at, ' '),
            _ => {}
        }
    }
    out.into_iter().collect()
}
