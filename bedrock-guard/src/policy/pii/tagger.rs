//! A small learned tagger for runs of capitalised words: which of them are the name of a person?
//!
//! A linear-chain conditional random field (Lafferty et al. 2001) over hashed features: the words and their parts, the lists they are on,
//! what the grammar thinks of them (`name.rs`), and the words around the run. Each run is judged by itself, so a stream is judged as a
//! whole text is, and text without capitals costs nothing. Weights and how they were made: `data/NAMES_CARD.md`.

use std::cell::Cell;
use std::sync::LazyLock;

use super::marks::Marks;
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
/// Bytes of the table, and two behind it.
const ROWS: usize = (CLASSES << BITS) + 2;
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
    /// Rows of six weights more 128, and two bytes behind the last: one load of eight each.
    rows: Box<[u8; ROWS]>,
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
        let rows: Box<[u8]> = file[HEADER..].iter().chain(&[0, 0]).map(|weight| weight ^ 0x80).collect();
        let rows = rows.try_into().ok()?;
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
    /// What is surely below `least` may be told as 0.
    pub(crate) fn judge<'t>(&self, seen: &Seen<'_, 't>, least: f32, sums: &mut Sums<'t>, out: &mut Vec<(f32, bool)>) {
        out.clear();
        let words = seen.parts.len();
        let mut local = [[0.0f32; CLASSES]; MAX];
        for (word, local) in local.iter_mut().enumerate().take(words) {
            let sums = sums.of(self, seen, word).sums();
            *local = std::array::from_fn(|class| f32::from(sums[class]) * self.step);
        }
        if words == 1 && self.is_below(&local[0], least) {
            return out.push((0.0, false));
        }
        let chances = likely(&self.starts, &self.follows, &local[..words]);
        for chance in &chances[..words] {
            let name = (chance[FIRST] + chance[NEXT]).clamp(1e-6, 1.0 - 1e-6);
            let logit = (name / (1.0 - name)).ln() - self.odds;
            out.push((1.0 / (1.0 + (-logit).exp()), chance[FIRST] > chance[NEXT]));
        }
    }

    /// The sum of the weights of some of a word's features.
    fn sum<const WHICH: u8>(&self, seen: &Seen<'_, '_>, word: usize) -> Sum {
        let mut sum = Sum::default();
        seen.some_features::<WHICH>(word, false, |row| {
            let at = CLASSES * (row as usize & ((1 << BITS) - 1));
            sum.add(self.rows[at..].first_chunk().map_or(0, |row| u64::from_le_bytes(*row)));
        });
        sum
    }

    /// The sum of the weights of all features of a word, one after the other.
    #[cfg(test)]
    pub(super) fn sum_all(&self, seen: &Seen<'_, '_>, word: usize) -> [i16; CLASSES] {
        let mut sums = [0; CLASSES];
        seen.features(word, false, |row| {
            let row = &self.rows[CLASSES * row as usize..][..CLASSES];
            sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += i16::from(*weight) - 128);
        });
        sums
    }

    /// Whether a word alone in its run is surely below a score: by the greatest scores of its classes, without their exponents.
    fn is_below(&self, local: &[f32; CLASSES], least: f32) -> bool {
        if !(0.02..=0.98).contains(&least) {
            return false;
        }
        let scores: [f32; CLASSES] = std::array::from_fn(|class| local[class] + self.starts[class]);
        let (mut name, mut other) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for (class, score) in scores.iter().enumerate() {
            let most = if matches!(class, FIRST | NEXT) { &mut name } else { &mut other };
            *most = most.max(*score);
        }
        // The odds are at most those of two such names against one such other, and cut off where the chance is nearly 0.
        let odds = (name - other).max(-12.0) + std::f32::consts::LN_2;
        odds - self.odds < (least / (1.0 - least)).ln() - 0.01
    }
}

/// Features of the word itself, whatever stands around it.
const WORD: u8 = 0;
/// Of [`Seen::place`].
const PLACE: u8 = 1;
/// Of [`Seen::around`].
const AROUND: u8 = 2;
/// Of [`Seen::signs`].
const SIGNS: u8 = 3;
/// Of [`Seen::before`].
const BEFORE: u8 = 4;
/// Of [`Seen::after`].
const AFTER: u8 = 5;
/// The others.
const REST: u8 = 6;
#[cfg(any(test, feature = "train"))]
const ALL: u8 = 7;

/// The sum of rows of the table, three classes in each number, and the rows above them in both.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    even: u64,
    odd: u64,
}

impl Sum {
    const THREE: u64 = 0x00ff_00ff_00ff;
    const ONE: u64 = 1 << 48;

    fn add(&mut self, row: u64) {
        self.even += row & Self::THREE | Self::ONE;
        self.odd += row >> 8 & Self::THREE | Self::ONE;
    }

    fn join(&mut self, other: Self) {
        (self.even, self.odd) = (self.even + other.even, self.odd + other.odd);
    }

    pub(super) fn sums(self) -> [i16; CLASSES] {
        // Each row adds 128 to each class.
        let offset = 128 * (self.even >> 48) as i16;
        std::array::from_fn(|class| {
            let three = if class % 2 == 0 { self.even } else { self.odd };
            (three >> (16 * (class / 2)) & 0xffff) as i16 - offset
        })
    }
}

/// Sums that were asked for before in a text: names come again and again, and the same few things stand around them.
#[derive(Debug)]
pub(crate) struct Sums<'t> {
    words: Box<[(&'t str, u8, Sum)]>,
    places: Box<[(u64, Sum)]>,
    arounds: Box<[(u64, Sum)]>,
    signs: Box<[([u64; 2], Sum)]>,
    befores: Box<[([u64; 2], Sum)]>,
    afters: Box<[([u64; 2], Sum)]>,
}

impl<'t> Sums<'t> {
    /// With room for so many words, a power of two.
    pub(super) fn new(room: usize) -> Self {
        let keyed = |room: usize| vec![(u64::MAX, Sum::default()); room].into_boxed_slice();
        let paired = |room: usize| vec![([u64::MAX; 2], Sum::default()); room].into_boxed_slice();
        Self {
            words: vec![("", 0, Sum::default()); room].into_boxed_slice(),
            places: keyed(room.min(256)),
            arounds: keyed(room.min(1024)),
            signs: paired(room.min(1024)),
            befores: paired(room),
            afters: paired(room),
        }
    }

    pub(super) fn of(&mut self, tagger: &Tagger, seen: &Seen<'_, 't>, word: usize) -> Sum {
        // First what is fetched from afar, so that it comes while the others are looked up.
        let mut sum = tagger.sum::<REST>(seen, word);
        let part = &seen.parts[word];
        let flags = u8::from(part.particle) << 1 | u8::from(part.possessive);
        let known = &mut self.words[part.hash as usize & (self.words.len() - 1)];
        // A word that is remembered is the very same text.
        if !std::ptr::eq(known.0, part.text) && known.0 != part.text || known.1 != flags {
            *known = (part.text, flags, tagger.sum::<WORD>(seen, word));
        }
        sum.join(known.2);
        let slot = |key: u64, size: usize| (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & (size - 1);
        let keyed = |table: &mut [(u64, Sum)], key: u64, make: fn(&Tagger, &Seen<'_, 't>, usize) -> Sum| {
            let known = &mut table[slot(key, table.len())];
            if known.0 != key {
                *known = (key, make(tagger, seen, word));
            }
            known.1
        };
        sum.join(keyed(&mut self.places, seen.place(word), Tagger::sum::<PLACE>));
        sum.join(keyed(&mut self.arounds, seen.around(word), Tagger::sum::<AROUND>));
        let paired = |table: &mut [([u64; 2], Sum)], key: [u64; 2], make: fn(&Tagger, &Seen<'_, 't>, usize) -> Sum| {
            let known = &mut table[slot(key[0].rotate_left(32) ^ key[1], table.len())];
            if known.0 != key {
                *known = (key, make(tagger, seen, word));
            }
            known.1
        };
        sum.join(paired(&mut self.signs, seen.signs(word), Tagger::sum::<SIGNS>));
        sum.join(paired(&mut self.befores, seen.before(word), Tagger::sum::<BEFORE>));
        sum.join(paired(&mut self.afters, seen.after(word), Tagger::sum::<AFTER>));
        sum
    }
}

/// Words of the longest run.
pub(super) const MAX: usize = 8;

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
    let (mut forward, mut own) = ([[0.0f32; CLASSES]; MAX], [[0.0f32; CLASSES]; MAX]);
    for word in 0..words {
        let here = scaled(if word == 0 { std::array::from_fn(|c| local[0][c] + starts[c]) } else { local[word] });
        own[word] = here;
        let mut before = [if word == 0 { 1.0 } else { 0.0f32 }; CLASSES];
        if word > 0 {
            for (from, steps) in forward[word - 1].iter().zip(steps) {
                before.iter_mut().zip(steps).for_each(|(before, step)| *before += from * step);
            }
        }
        let product: [f32; CLASSES] = std::array::from_fn(|class| here[class] * before[class]);
        let sum: f32 = product.iter().sum();
        forward[word] = product.map(|value| value / sum.max(f32::MIN_POSITIVE));
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
            let local = own[word];
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
    pub(super) fn new(
        window: &Window<'t>,
        parts: &'p [Part<'t>],
        noted: &mut Option<Noted<'_>>,
        touched: &Cell<bool>,
    ) -> Self {
        let start = parts[0].start;
        let (left, left_sign, left_capital) = behind(window, start);
        let (right, right_sign, right_capital) = ahead(window, parts[parts.len() - 1].token_end, touched);
        let (code, german) = match noted {
            Some(noted) => (noted.codes.before(start, LEFT, 0), noted.german.before(start, GERMAN_LEFT, 4)),
            None => (code_signs(window, start), german_words(window, start)),
        };
        Self {
            parts,
            opinions: [0; MAX],
            left,
            right,
            left_sign,
            right_sign,
            left_capital,
            right_capital,
            code,
            german,
            cue: 0,
            named: false,
            masked: right_sign >> 16 & 0xff == u64::from(b'{')
                || code > 0 && after_mask(window.look_behind(start, LEFT)) > 0,
        }
    }

    /// What the features of kind [`PLACE`] depend on: the word's lists and form, its place in the run, the language.
    fn place(&self, word: usize) -> u64 {
        let (part, after) = (&self.parts[word], self.parts.len() - 1 - word);
        let place = (word.min(3) << 2 | after.min(3)) as u64;
        ((part.traits << 16 | part.form) << 4 | place) << 4 | self.code << 2 | self.german
    }

    /// What those of kind [`AROUND`] depend on: the word's lists, its place in the run, what the grammar says of it, signs and cues before the run.
    fn around(&self, word: usize) -> u64 {
        let (part, after) = (&self.parts[word], self.parts.len() - 1 - word);
        let place = (word.min(3) << 2 | after.min(3)) as u64;
        let capitals = u64::from(self.left_capital) << 1 | u64::from(self.right_capital);
        let before = self.left_sign_class() << 5 | u64::from(self.named) << 4 | u64::from(self.cue) << 2 | capitals;
        ((part.traits << 4 | place) << 16 | before) << 8 | u64::from(self.opinions[word])
    }

    /// What those of kind [`SIGNS`] depend on: the word's lists, its place in the run and the signs around the run.
    fn signs(&self, word: usize) -> [u64; 2] {
        let (from_left, from_right) = self.distances(word);
        [self.left_sign << 32 | self.parts[word].traits << 4 | from_left << 2 | from_right, self.right_sign]
    }

    /// What those of kind [`BEFORE`] depend on: the word's lists, its place in the run, the word before the run and the language.
    fn before(&self, word: usize) -> [u64; 2] {
        [self.left[0], (self.parts[word].traits << 2 | self.distances(word).0) << 2 | self.german]
    }

    /// What those of kind [`AFTER`] depend on: the same with the word behind the run.
    fn after(&self, word: usize) -> [u64; 2] {
        [self.right[0], (self.parts[word].traits << 2 | self.distances(word).1) << 2 | self.german]
    }

    /// Words of the run before a word and behind it, two being many.
    fn distances(&self, word: usize) -> (u64, u64) {
        (word.min(2) as u64, (self.parts.len() - 1 - word).min(2) as u64)
    }

    /// The rows of a word. With `forget`, as if no list and no weight knew the word itself: from that names nobody has listed are learned.
    #[cfg(any(test, feature = "train"))]
    pub(crate) fn features(&self, word: usize, forget: bool, emit: impl FnMut(u32)) {
        self.some_features::<ALL>(word, forget, emit);
    }

    #[inline]
    fn some_features<const WHICH: u8>(&self, word: usize, forget: bool, mut emit: impl FnMut(u32)) {
        let parts = self.parts;
        let part = &parts[word];
        let count = parts.len();
        let lists = |index: usize| if forget { parts[index].traits(true) } else { parts[index].traits };
        let own = lists(word);
        let form = part.form;
        let (before, after) = (
            if word > 0 { lists(word - 1) } else { 1 << 20 },
            if word + 1 < count { lists(word + 1) } else { 1 << 20 },
        );
        let place = (word.min(3) << 4 | (count - 1 - word).min(3)) as u64;
        let (from_left, from_right) = self.distances(word);
        let mut kind = 0u64;
        let mut put = |which: u8, first: u64, second: u64| {
            kind += 1;
            if WHICH > REST || which == WHICH {
                let mixed = mix(mix(mix(0x51, kind), first), second);
                emit((mixed >> (64 - BITS)) as u32);
            }
        };
        let (first, last) = (word == 0, word + 1 == count);
        put(WORD, 0, 0);
        put(WORD, own, 0);
        put(WORD, own, form);
        put(PLACE, form, place);
        put(PLACE, own, place);
        put(if first { PLACE } else { REST }, before, own);
        put(if last { PLACE } else { REST }, own, after);
        put(if first && last { PLACE } else { REST }, mix(before, own), after);
        let begins = self.left_sign_class();
        put(AROUND, own, begins << 8 | from_left);
        put(SIGNS, self.left_sign, from_left);
        put(SIGNS, self.right_sign, from_right);
        put(SIGNS, own, self.right_sign << 8 | from_right);
        put(BEFORE, self.left[0], from_left);
        put(REST, mix(self.left[0], self.left[1]), from_left);
        put(REST, self.left[1], from_left);
        put(BEFORE, self.left[0], own << 4 | from_left);
        put(AFTER, self.right[0], from_right);
        put(REST, mix(self.right[0], self.right[1]), from_right);
        put(REST, self.right[1], from_right);
        put(AFTER, self.right[0], own << 4 | from_right);
        put(REST, mix(self.left[0], self.right[0]), from_left << 2 | from_right);
        put(AROUND, u64::from(self.left_capital) << 1 | u64::from(self.right_capital), place);
        put(AROUND, u64::from(self.cue) << 8 | begins, place);
        put(AROUND, u64::from(self.cue), own << 4 | from_left);
        put(if first { PLACE } else { REST }, if word > 0 { parts[word - 1].hash } else { 1 }, own);
        put(if last { PLACE } else { REST }, if word + 1 < count { parts[word + 1].hash } else { 1 }, own);
        put(AROUND, u64::from(self.named), own << 8 | place);
        put(PLACE, self.code, 0);
        put(PLACE, self.code, own);
        put(PLACE, self.code, form);
        put(PLACE, self.german, own);
        put(PLACE, self.german, place);
        put(BEFORE, self.german, self.left[0]);
        put(AFTER, self.german, self.right[0]);
        let opinion = if forget { 255 } else { u64::from(self.opinions[word]) };
        put(AROUND, opinion, 0);
        put(AROUND, opinion, place);
        put(AROUND, opinion, own);
        put(AROUND, opinion, begins << 8 | u64::from(self.left_capital));
        // The word and its parts.
        put(WORD, if forget { 0 } else { part.hash }, 0);
        put(REST, if forget { 0 } else { part.hash }, from_left << 2 | from_right);
        if WHICH != WORD && WHICH <= REST {
            return;
        }
        let lower = part.lower();
        let bytes = lower.bytes();
        for length in 1..=4usize {
            let (head, tail) = if bytes.len() > length {
                (gram(&bytes[..length]), gram(&bytes[bytes.len() - length..]))
            } else {
                (0, 0)
            };
            put(WORD, head, length as u64);
            put(WORD, tail, length as u64);
            if length == 3 {
                put(WORD, tail, own);
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

/// What stands for a byte of ASCII in a hash.
static HASHED: [u8; 128] = {
    let mut hashed = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        hashed[byte] = if (byte as u8).is_ascii_digit() { b'0' } else { (byte as u8).to_ascii_lowercase() };
        byte += 1;
    }
    hashed
};

/// A word without regard to capitals; numbers by their length.
pub(super) fn hash(word: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut plain = 0;
    for byte in word.as_bytes() {
        let Some(hashed) = HASHED.get(usize::from(*byte)) else { break };
        add(*hashed);
        plain += 1;
    }
    for character in word[plain..].chars() {
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
    behind_ascii(left).unwrap_or_else(|| behind_any(left))
}

/// What a byte of ASCII is to the words before a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Word,
    Blank,
    Sign,
    /// A sign that what stands before it has nothing to say.
    Bar,
    Other,
}

static BEHIND: [Behind; 256] = {
    let mut classes = [Behind::Other; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'\'' => Behind::Word,
            b' ' | b'\t'..=b'\r' => Behind::Blank,
            b';' | b'}' | b'|' => Behind::Bar,
            _ => Behind::Sign,
        };
        byte += 1;
    }
    classes
};

/// The same as [`behind_any`] of what is ASCII as far as it is looked at.
fn behind_ascii(left: &str) -> Option<([u64; 2], u64, bool)> {
    let bytes = left.as_bytes();
    let class = |end: usize| end.checked_sub(1).map(|at| BEHIND[usize::from(bytes[at])]);
    let gap = |mut end: usize| {
        let (mut first, mut last, mut lines, mut blank, mut bar) = (None, None, false, false, false);
        let whole = end;
        loop {
            match class(end) {
                None | Some(Behind::Word) => break,
                Some(Behind::Other) => return None,
                Some(Behind::Blank) => (blank, lines) = (true, lines || bytes[end - 1] == b'\n'),
                Some(sign) => {
                    bar |= sign == Behind::Bar;
                    first = Some(u64::from(bytes[end - 1]));
                    last = last.or(first);
                }
            }
            end -= 1;
        }
        let second = last.unwrap_or(0) << 16;
        let sign = match first {
            _ if lines => u64::from(b'\n') | second,
            Some(first) => first | second,
            None => u64::from(b' ') * u64::from(end < whole),
        };
        Some((end, sign | u64::from(blank) << 8, bar))
    };
    let word = |end: usize| {
        let mut start = end;
        loop {
            match class(start) {
                Some(Behind::Word) => start -= 1,
                Some(Behind::Other) => return None,
                _ => return Some(start),
            }
        }
    };
    let hashed = |word: &str| if word.is_empty() { 0 } else { hash(word) };
    let (end, sign, bar) = gap(bytes.len())?;
    let end = if bar { 0 } else { end };
    let start = word(end)?;
    let first = &left[start..end];
    let (end, other, bar) = gap(start)?;
    let stops = matches!(other as u8, b'.' | b'!' | b'?' | b'\n') || bar;
    let second = if stops { "" } else { &left[word(end)?..end] };
    Some(([hashed(first), hashed(second)], sign, first.starts_with(|c: char| c.is_ascii_uppercase())))
}

fn behind_any(left: &str) -> ([u64; 2], u64, bool) {
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

/// Signs that programs have and prose has not.
pub(super) const fn is_code(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b';' | b'=' | b'&' | b'<' | b'>' | b'_' | b'[' | b']' | b'`' | b'|')
}

fn code_signs(window: &Window<'_>, at: usize) -> u64 {
    window.look_behind(at, LEFT).bytes().filter(|byte| is_code(*byte)).take(3).count() as u64
}

/// Bytes of the context in which German is looked for.
const GERMAN_LEFT: usize = 160;

/// Small words of German and the blank behind them.
pub(super) const GERMAN: [&[u8; 4]; 13] = [
    b"der ", b"die ", b"das ", b"und ", b"den ", b"dem ", b"ein ", b"ist ", b"mit ", b"von ", b"auf ", b"zur ", b"zum ",
];

/// A small word of German and the blank behind it.
pub(super) fn is_german(four: &[u8]) -> bool {
    GERMAN.iter().any(|word| *word == four)
}

fn german_words(window: &Window<'_>, at: usize) -> u64 {
    let left = window.look_behind(at, GERMAN_LEFT).as_bytes();
    left.windows(5).filter(|five| five[0] == b' ' && is_german(&five[1..])).take(3).count() as u64
}

/// The same for texts that have marks.
#[derive(Debug)]
pub(super) struct Noted<'m> {
    codes: Trail<'m>,
    german: Trail<'m>,
}

impl<'m> Noted<'m> {
    pub(super) fn new(marks: &'m Marks) -> Self {
        Self { codes: Trail { places: &marks.codes, passed: 0 }, german: Trail { places: &marks.german, passed: 0 } }
    }
}

/// Places in order, which are asked for from left to right.
#[derive(Debug)]
struct Trail<'m> {
    places: &'m [u32],
    passed: usize,
}

impl Trail<'_> {
    /// How many, but three at most, lie within `reach` bytes before `at`, with `more` bytes behind them.
    fn before(&mut self, at: usize, reach: usize, more: usize) -> u64 {
        while self.places.get(self.passed).is_some_and(|place| *place as usize + more < at) {
            self.passed += 1;
        }
        let near = self.places[..self.passed].iter().rev().take(3);
        near.take_while(|place| **place as usize + reach >= at).count() as u64
    }
}

/// The two words behind a place on the same line, and the sign between.
fn ahead(window: &Window<'_>, at: usize, touched: &Cell<bool>) -> ([u64; 2], u64, bool) {
    ahead_ascii(window.text, at).unwrap_or_else(|| ahead_any(window, at, touched))
}

/// The same as [`ahead_any`] of what is ASCII, without signs inside words and not at the end of the text.
fn ahead_ascii(text: &str, mut at: usize) -> Option<([u64; 2], u64, bool)> {
    let bytes = text.as_bytes();
    let (mut words, mut count, mut sign, mut blank, mut capital) = ([0; 2], 0, 0, 0, false);
    for _ in 0..6 {
        let start = at;
        let byte = *bytes.get(at)?;
        let run = |is: fn(&u8) -> bool| bytes[start..].iter().take(100).take_while(|byte| is(byte)).count();
        let class = match BEHIND[usize::from(byte)] {
            Behind::Word if byte == b'\'' => Behind::Sign,
            class => class,
        };
        at += match class {
            Behind::Blank => run(|byte| BEHIND[usize::from(*byte)] == Behind::Blank),
            Behind::Word if byte.is_ascii_digit() => run(u8::is_ascii_alphanumeric),
            Behind::Word => run(u8::is_ascii_alphabetic),
            Behind::Sign | Behind::Bar => 1,
            Behind::Other => return None,
        };
        // What may go on, or be joined to more, is for the other way.
        let next = *bytes.get(at)?;
        let joins = !next.is_ascii() || byte.is_ascii_alphabetic() && matches!(next, b'\'' | b'-');
        if joins || at - start >= 100 {
            return None;
        }
        match class {
            Behind::Blank if bytes[start..at].iter().any(|byte| !matches!(byte, b' ' | b'\t')) => {
                if count == 0 && sign == 0 {
                    sign = u64::from(b'\n');
                }
                break;
            }
            Behind::Blank => blank |= u64::from(count == 0) << 8,
            Behind::Word => {
                if count == 0 {
                    capital = byte.is_ascii_uppercase();
                }
                words[count] = hash(&text[start..at]);
                count += 1;
                if count == 2 {
                    break;
                }
            }
            _ => {
                if count == 0 && sign < 1 << 16 {
                    sign = sign << 16 | u64::from(byte);
                }
                if matches!(byte, b';' | b'{' | b'|') || count > 0 && matches!(byte, b'.' | b'!' | b'?') {
                    break;
                }
            }
        }
    }
    Some((words, sign << 16 | blank, capital))
}

fn ahead_any(window: &Window<'_>, at: usize, touched: &Cell<bool>) -> ([u64; 2], u64, bool) {
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

    proptest::proptest! {
        #[test]
        fn the_short_ways_to_look_around_see_the_same(
            text in "[a-cA-C0-9 ',.;|}{!\\-\n\t\0é’\u{a0}]{0,40}|[a-z]{90,140} x", at in 0usize..40, complete in proptest::bool::ANY,
        ) {
            let at = text.ceil_char_boundary(at.min(text.len()));
            if let Some(seen) = behind_ascii(&text[..at]) {
                proptest::prop_assert_eq!(seen, behind_any(&text[..at]), "{:?} before {}", text, at);
            }
            let touched = Cell::new(false);
            if let Some(seen) = ahead_ascii(&text, at) {
                let all = ahead_any(&Window { complete, ..Window::growing(&text) }, at, &touched);
                proptest::prop_assert_eq!((seen, false), (all, touched.get()), "{:?} from {}", text, at);
            }
        }

        #[test]
        fn what_is_told_to_be_below_a_score_is(local in proptest::array::uniform6(-9f32..9.0), least in 0f32..1.0) {
            let tagger = tagger();
            if tagger.is_below(&local, least) {
                let chance = likely(&tagger.starts, &tagger.follows, &[local])[0];
                let name = f64::from(chance[FIRST] + chance[NEXT]).clamp(1e-6, 1.0 - 1e-6);
                let logit = (name / (1.0 - name)).ln() - f64::from(tagger.odds);
                proptest::prop_assert!(1.0 / (1.0 + (-logit).exp()) < f64::from(least));
            }
        }
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
