//! A small learned tagger for runs of capitalised words: which of them are the name of a person?
//!
//! A linear-chain conditional random field (Lafferty et al. 2001) over hashed features: the words and their parts, the lists they are on,
//! what the grammar thinks of them (`name.rs`), and the words around the run. Each run is judged by itself, so a stream is judged as a
//! whole text is, and text without capitals costs nothing. Weights and how they were made: `data/NAMES_CARD.md`.

use std::cell::Cell;
use std::sync::LazyLock;

use super::name::Part;
use super::rule::after_mask;
use crate::scan::{Cursor, TokenKind, Window};

/// Not part of a name, first word of a person's name, another word of it, place, organisation, other thing with a name.
pub(crate) const CLASSES: usize = 6;
pub(crate) const FIRST: usize = 1;
pub(crate) const NEXT: usize = 2;

/// Rows of the table of weights: two to this.
pub(crate) const BITS: u32 = 18;

const FILE: &[u8] = include_bytes!("../../../data/names.bin");
const MAGIC: &[u8; 4] = b"BGN1";
/// Numbers before the table: the weight of one step, the odds, a start for each class, a step for each pair of classes.
const NUMBERS: usize = 2 + CLASSES + CLASSES * CLASSES;
const HEADER: usize = 4 + 4 * NUMBERS;
/// Bytes of the context that are looked at.
const LEFT: usize = 60;

static TAGGER: LazyLock<Tagger> = LazyLock::new(|| Tagger::read(FILE).expect("a test reads the committed file"));

/// The committed model.
pub(crate) fn tagger() -> &'static Tagger {
    &TAGGER
}

/// Weights.
#[derive(Debug, Clone)]
pub(crate) struct Tagger {
    /// What a stored weight of 1 stands for.
    step: f32,
    /// The logarithm of the odds from which a word is taken for part of a name.
    odds: f32,
    starts: [f32; CLASSES],
    /// Exponents of the steps between classes.
    follows: [[f32; CLASSES]; CLASSES],
    /// Rows of eight, of which two are nothing: one load each.
    rows: Box<[[i8; 8]]>,
}

impl Tagger {
    /// `None` if the file is not one of this version.
    pub(crate) fn read(file: &[u8]) -> Option<Self> {
        if file.len() != HEADER + (CLASSES << BITS) || file[..4] != *MAGIC {
            return None;
        }
        let number = |index: usize| {
            let at = 4 + 4 * index;
            f32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]])
        };
        let starts = std::array::from_fn(|class| number(2 + class));
        let follows = std::array::from_fn(|from| std::array::from_fn(|to| number(2 + CLASSES * (1 + from) + to)));
        let follows = exponents(&follows);
        let (step, odds) = (number(0), number(1));
        let row = |row: &[u8]| std::array::from_fn(|class| row.get(class).map_or(0, |weight| *weight as i8));
        let rows = file[HEADER..].chunks_exact(CLASSES).map(row).collect();
        Some(Self { step, odds, starts, follows, rows })
    }

    /// The file of these weights.
    #[cfg(feature = "train")]
    pub(crate) fn write(
        odds: f32,
        starts: [f32; CLASSES],
        follows: [[f32; CLASSES]; CLASSES],
        rows: &[[f32; CLASSES]],
    ) -> Vec<u8> {
        // The few weights beyond this are cut: one that is twice as coarse would cost more.
        let mut sizes: Vec<f32> = rows.iter().flatten().map(|weight| weight.abs()).collect();
        sizes.sort_unstable_by(f32::total_cmp);
        let most = sizes.get(sizes.len() - 1 - sizes.len() / 20_000).copied().unwrap_or(0.0).max(1e-6);
        let step = most / 127.0;
        let mut file = MAGIC.to_vec();
        for number in [step, odds].into_iter().chain(starts).chain(follows.into_iter().flatten()) {
            file.extend(number.to_le_bytes());
        }
        file.extend(rows.iter().flatten().map(|weight| (weight / step).round().clamp(-127.0, 127.0) as i8 as u8));
        file
    }

    /// How sure it is that each word of a run belongs to a name, 0..=1 with 0.5 where it is taken for one; and how likely it begins one.
    pub(crate) fn judge(&self, seen: &Seen<'_, '_>, out: &mut Vec<(f32, bool)>) {
        out.clear();
        let words = seen.parts.len();
        let mut local = [[0.0f32; CLASSES]; MAX];
        for (word, local) in local.iter_mut().enumerate().take(words) {
            // First the places, then the rows, which the processor then fetches side by side.
            let (mut places, mut count) = ([0u32; MAX_ROWS], 0);
            seen.features(word, false, |row| {
                if let Some(place) = places.get_mut(count) {
                    *place = row;
                    count += 1;
                }
            });
            let mut sums = [0i16; 8];
            for place in &places[..count] {
                let row = &self.rows[*place as usize & ((1 << BITS) - 1)];
                sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += i16::from(*weight));
            }
            *local = std::array::from_fn(|class| f32::from(sums[class]) * self.step);
        }
        let chances = likely(&self.starts, &self.follows, &local[..words]);
        for chance in &chances[..words] {
            let name = (chance[FIRST] + chance[NEXT]).clamp(1e-6, 1.0 - 1e-6);
            let logit = (name / (1.0 - name)).ln() - self.odds;
            out.push((1.0 / (1.0 + (-logit).exp()), chance[FIRST] > chance[NEXT]));
        }
    }
}

/// Words of the longest run.
pub(super) const MAX: usize = 8;
/// Rows of a word, at most.
const MAX_ROWS: usize = 96;

fn exponents(follows: &[[f32; CLASSES]; CLASSES]) -> [[f32; CLASSES]; CLASSES] {
    follows.map(|row| row.map(|score| score.clamp(-30.0, 30.0).exp()))
}

/// The chance of each class at each word, given the scores of classes at words and of steps between classes.
#[cfg(any(test, feature = "train"))]
pub(crate) fn chances(
    starts: &[f32; CLASSES],
    follows: &[[f32; CLASSES]; CLASSES],
    local: &[[f32; CLASSES]],
) -> [[f32; CLASSES]; MAX] {
    likely(starts, &exponents(follows), local)
}

/// The same, given the exponents of steps.
fn likely(
    starts: &[f32; CLASSES],
    steps: &[[f32; CLASSES]; CLASSES],
    local: &[[f32; CLASSES]],
) -> [[f32; CLASSES]; MAX] {
    let words = local.len();
    // Likelihoods, scaled at each word: forwards times backwards, normalised, are the chances.
    let scaled = |scores: [f32; CLASSES]| {
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scores.map(|score| (score - most).max(-60.0).exp())
    };
    let mut forward = [[0.0f32; CLASSES]; MAX];
    for word in 0..words {
        let here = scaled(if word == 0 { std::array::from_fn(|c| local[0][c] + starts[c]) } else { local[word] });
        let mut sum = 0.0;
        for class in 0..CLASSES {
            let before = if word == 0 {
                1.0
            } else {
                (0..CLASSES).map(|from| forward[word - 1][from] * steps[from][class]).sum::<f32>()
            };
            forward[word][class] = here[class] * before;
            sum += forward[word][class];
        }
        forward[word].iter_mut().for_each(|value| *value /= sum.max(f32::MIN_POSITIVE));
    }
    let mut backward = [1.0f32; CLASSES];
    for word in (0..words).rev() {
        let mut sum = 0.0;
        let here = std::array::from_fn::<f32, CLASSES, _>(|class| {
            let product = forward[word][class] * backward[class];
            sum += product;
            product
        });
        forward[word] = here.map(|product| product / sum.max(f32::MIN_POSITIVE));
        if word > 0 {
            let local = scaled(local[word]);
            let mut most = f32::MIN_POSITIVE;
            let before = std::array::from_fn::<f32, CLASSES, _>(|from| {
                let value: f32 = (0..CLASSES).map(|to| steps[from][to] * local[to] * backward[to]).sum();
                most = most.max(value);
                value
            });
            backward = before.map(|value| value / most);
        }
    }
    forward
}

/// A run and what stands around it.
#[derive(Debug)]
pub(crate) struct Seen<'p, 't> {
    pub(super) parts: &'p [Part<'t>],
    /// What the grammar says of each word: 0, or more the surer it is; odd where a name begins.
    pub(super) opinions: [u8; MAX],
    /// Hashes of the two words before, the nearer first, and of the two behind; 0 for none.
    left: [u64; 2],
    right: [u64; 2],
    /// The sign between, and whether there is a blank or a break too.
    left_sign: u64,
    right_sign: u64,
    left_capital: bool,
    right_capital: bool,
    /// Signs before it that programs have and prose has not; three are many.
    code: u64,
    /// Small words of German before it, in which every noun has a capital; three are many.
    german: u64,
    /// 2: words stand before it that hardly stand before anything but a name; 1: words that may.
    pub(super) cue: u8,
    /// Whether the first word stood beside a capitalised word a little before.
    pub(super) named: bool,
    /// Whether a mask stands near, which says less than what it hides said.
    pub(super) masked: bool,
}

impl<'p, 't> Seen<'p, 't> {
    pub(super) fn new(window: &Window<'t>, parts: &'p [Part<'t>], touched: &Cell<bool>) -> Self {
        let (left, left_sign, left_capital) = behind(window, parts[0].start);
        let (right, right_sign, right_capital) = ahead(window, parts[parts.len() - 1].token_end, touched);
        Self {
            parts,
            opinions: [0; MAX],
            left,
            right,
            left_sign,
            right_sign,
            left_capital,
            right_capital,
            code: code_signs(window, parts[0].start),
            german: german_words(window, parts[0].start),
            cue: 0,
            named: false,
            masked: right_sign >> 16 & 0xff == u64::from(b'{')
                || after_mask(window.look_behind(parts[0].start, LEFT)) > 0,
        }
    }

    /// The rows of a word. With `forget`, as if no list and no weight knew the word itself: from that names nobody has listed are learned.
    pub(crate) fn features(&self, word: usize, forget: bool, mut emit: impl FnMut(u32)) {
        let parts = self.parts;
        let part = &parts[word];
        let count = parts.len();
        let lists = |index: usize| parts[index].traits(forget);
        let own = lists(word);
        let form = part.form;
        let (before, after) = (
            if word > 0 { lists(word - 1) } else { 1 << 20 },
            if word + 1 < count { lists(word + 1) } else { 1 << 20 },
        );
        let bytes = part.lower.as_bytes();
        let place = (word.min(3) << 4 | (count - 1 - word).min(3)) as u64;
        let (from_left, from_right) = (word.min(2) as u64, (count - 1 - word).min(2) as u64);
        let mut kind = 0u64;
        let mut put = |first: u64, second: u64| {
            kind += 1;
            let mixed = mix(mix(mix(0x51, kind), first), second);
            emit((mixed >> (64 - BITS)) as u32);
        };
        put(0, 0);
        put(own, 0);
        put(own, form);
        put(form, place);
        put(own, place);
        put(before, own);
        put(own, after);
        put(mix(before, own), after);
        let begins = self.left_sign_class();
        put(own, begins << 8 | from_left);
        put(self.left_sign, from_left);
        put(self.right_sign, from_right);
        put(own, self.right_sign << 8 | from_right);
        put(self.left[0], from_left);
        put(mix(self.left[0], self.left[1]), from_left);
        put(self.left[1], from_left);
        put(self.left[0], own << 4 | from_left);
        put(self.right[0], from_right);
        put(mix(self.right[0], self.right[1]), from_right);
        put(self.right[1], from_right);
        put(self.right[0], own << 4 | from_right);
        put(mix(self.left[0], self.right[0]), from_left << 2 | from_right);
        put(u64::from(self.left_capital) << 1 | u64::from(self.right_capital), place);
        put(u64::from(self.cue) << 8 | begins, place);
        put(u64::from(self.cue), own << 4 | from_left);
        put(if word > 0 { parts[word - 1].hash } else { 1 }, own);
        put(if word + 1 < count { parts[word + 1].hash } else { 1 }, own);
        put(u64::from(self.named), own << 8 | place);
        put(self.code, 0);
        put(self.code, own);
        put(self.code, form);
        put(self.german, own);
        put(self.german, place);
        put(self.german, self.left[0]);
        put(self.german, self.right[0]);
        let opinion = if forget { 255 } else { u64::from(self.opinions[word]) };
        put(opinion, 0);
        put(opinion, place);
        put(opinion, own);
        put(opinion, begins << 8 | u64::from(self.left_capital));
        // The word and its parts.
        put(if forget { 0 } else { part.hash }, 0);
        put(if forget { 0 } else { part.hash }, from_left << 2 | from_right);
        for length in 1..=4usize {
            let (head, tail) = if bytes.len() > length {
                (gram(&bytes[..length]), gram(&bytes[bytes.len() - length..]))
            } else {
                (0, 0)
            };
            put(head, length as u64);
            put(tail, length as u64);
            if length == 3 {
                put(tail, own);
            }
        }
        for window in bytes.windows(3).take(20) {
            emit((mix(mix(0x93, gram(window)), 0) >> (64 - BITS)) as u32);
        }
    }

    fn left_sign_class(&self) -> u64 {
        match self.left_sign as u8 {
            0 | b'\n' => 1,
            b'.' | b'!' | b'?' => 2,
            b':' => 3,
            b'"' | b'(' | b'>' | b'*' => 4,
            b'@' | b'#' | b'_' | b'/' | b'$' => 5,
            b' ' => 6,
            b',' => 7,
            _ => 8,
        }
    }
}

fn gram(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |sum, byte| sum << 8 | u64::from(*byte))
}

fn mix(hash: u64, more: u64) -> u64 {
    (hash ^ more).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A word without regard to capitals; numbers by their length.
pub(super) fn hash(word: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for character in word.chars() {
        match character {
            '0'..='9' => add(b'0'),
            '’' => add(b'\''),
            _ if character.is_ascii() => add(character.to_ascii_lowercase() as u8),
            _ => {
                for small in character.to_lowercase() {
                    let mut bytes = [0; 4];
                    small.encode_utf8(&mut bytes).bytes().for_each(&mut add);
                }
            }
        }
    }
    hash | 1
}

/// The two words before a place, and the sign between.
fn behind(window: &Window<'_>, at: usize) -> ([u64; 2], u64, bool) {
    let left = window.look_behind(at, LEFT);
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’');
    let gap = |text: &str| {
        let trimmed = text.trim_end_matches(|c| !is_word(c));
        let between = &text[trimmed.len()..];
        let sign = if between.contains('\n') { Some('\n') } else { between.chars().find(|c| !c.is_whitespace()) };
        let blank = between.contains(char::is_whitespace);
        let second = between.chars().rev().find(|c| !c.is_whitespace()).map_or(0, |c| c as u64 & 0xff);
        let sign = match sign {
            Some(sign) => sign as u64 & 0xff | second << 16,
            None if between.is_empty() => 0,
            None => u64::from(b' '),
        };
        (trimmed.len(), sign | u64::from(blank) << 8)
    };
    let (end, sign) = gap(left);
    // What a mask or a semicolon is between has nothing to say.
    let left = if left[end..].contains([';', '}', '|']) { "" } else { &left[..end] };
    let first = &left[left.trim_end_matches(is_word).len()..];
    let rest = &left[..left.len() - first.len()];
    let (end, other) = gap(rest);
    // A word before a stop says little.
    let stops = matches!(other as u8, b'.' | b'!' | b'?' | b'\n') || rest[end..].contains([';', '}', '|']);
    let second = if stops { "" } else { &rest[..end] };
    let second = &second[second.trim_end_matches(is_word).len()..];
    let hashed = |word: &str| if word.is_empty() { 0 } else { hash(word) };
    ([hashed(first), hashed(second)], sign, first.starts_with(char::is_uppercase))
}

fn code_signs(window: &Window<'_>, at: usize) -> u64 {
    let left = window.look_behind(at, LEFT).bytes();
    let signs =
        left.filter(|b| matches!(b, b'{' | b'}' | b';' | b'=' | b'&' | b'<' | b'>' | b'_' | b'[' | b']' | b'`' | b'|'));
    signs.take(3).count() as u64
}

fn german_words(window: &Window<'_>, at: usize) -> u64 {
    let left = window.look_behind(at, 160).as_bytes();
    let is_one = |four: &[u8]| {
        matches!(
            four,
            b"der "
                | b"die "
                | b"das "
                | b"und "
                | b"den "
                | b"dem "
                | b"ein "
                | b"ist "
                | b"mit "
                | b"von "
                | b"auf "
                | b"zur "
                | b"zum "
        )
    };
    left.windows(5).filter(|five| five[0] == b' ' && is_one(&five[1..])).take(3).count() as u64
}

/// The two words behind a place on the same line, and the sign between.
fn ahead(window: &Window<'_>, at: usize, touched: &Cell<bool>) -> ([u64; 2], u64, bool) {
    let mut cursor = Cursor::new(window, at, touched);
    let (mut words, mut count, mut sign, mut blank, mut capital) = ([0; 2], 0, 0, 0, false);
    for _ in 0..6 {
        let Some(token) = cursor.next() else { break };
        match token.kind {
            TokenKind::Blank => blank |= u64::from(count == 0) << 8,
            TokenKind::Break => {
                if count == 0 && sign == 0 {
                    sign = u64::from(b'\n');
                }
                break;
            }
            TokenKind::Sign => {
                if count == 0 && sign < 1 << 16 {
                    sign = sign << 16 | token.text.chars().next().map_or(0, |c| c as u64 & 0xff);
                }
                if matches!(token.text, ";" | "{" | "|") || count > 0 && matches!(token.text, "." | "!" | "?") {
                    break;
                }
            }
            TokenKind::Word | TokenKind::Number => {
                if count == 0 {
                    capital = token.is_capitalized();
                }
                words[count] = hash(token.text);
                count += 1;
                if count == 2 {
                    break;
                }
            }
        }
    }
    (words, sign << 16 | blank, capital)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_of_this_version() {
        assert!(Tagger::read(FILE).is_some());
        assert!(Tagger::read(&FILE[1..]).is_none());
    }

    #[test]
    fn chances_are_those_of_all_ways_through_the_classes() {
        let mut seed = 7u64;
        let mut number = || {
            seed = mix(seed, 3);
            (seed >> 40) as f32 / (1u64 << 23) as f32 * 3.0 - 3.0
        };
        for words in 1..=4usize {
            let starts: [f32; CLASSES] = std::array::from_fn(|_| number());
            let follows: [[f32; CLASSES]; CLASSES] = std::array::from_fn(|_| std::array::from_fn(|_| number()));
            let local: Vec<[f32; CLASSES]> = (0..words).map(|_| std::array::from_fn(|_| number())).collect();
            let (mut sums, mut all) = (vec![[0.0f64; CLASSES]; words], 0.0f64);
            for way in 0..CLASSES.pow(words as u32) {
                let classes: Vec<usize> = (0..words).map(|word| way / CLASSES.pow(word as u32) % CLASSES).collect();
                let mut score = starts[classes[0]];
                for word in 0..words {
                    score += local[word][classes[word]];
                    score += if word > 0 { follows[classes[word - 1]][classes[word]] } else { 0.0 };
                }
                let likely = f64::from(score).exp();
                all += likely;
                classes.iter().enumerate().for_each(|(word, class)| sums[word][*class] += likely);
            }
            let fast = chances(&starts, &follows, &local);
            for (word, sums) in sums.iter().enumerate() {
                for (class, sum) in sums.iter().enumerate() {
                    assert!((f64::from(fast[word][class]) - sum / all).abs() < 1e-4);
                }
            }
        }
    }
}
