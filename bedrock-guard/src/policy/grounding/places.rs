//! Where in a source the words of a response are found: numbers that stand beside others there, order, denials, and what else the source could mean.
//! What an encoder's states say of single words is [`super::alignment`].
#![cfg_attr(not(feature = "train"), allow(unreachable_pub, reason = "what trains the line reaches it"))]

use super::alignment::{LAYERS, Pairs, Seen};
use super::evidence::Word;

/// Numbers about a word that is a number.
pub(super) const NUMBERS: usize = 9;
/// Numbers about a word: of numbers, of order, of denials, of the next best word, of the way back, of its neighbours.
const OTHERS: usize = 6;
const WORD: usize = NUMBERS + 5 * OTHERS;
/// Numbers about a claim: of all words, of those that say something, of those of them that the source lacks the mean; of all the least and the most.
pub const PLACES: usize = 5 * WORD;
/// Layers whose cosines are averaged: those that see a word's neighbours.
const LATER: std::ops::Range<usize> = 2..LAYERS;
/// Layers in which the way back is looked at by itself.
const BACK: [usize; 3] = [0, 3, 6];

/// Cosines of a claim's words with those of a source, averaged over layers, and the nearest both ways.
struct Nearest {
    width: usize,
    /// `[claim][source]`
    cosines: Vec<f32>,
    /// For each word of the claim the nearest of the source.
    there: Vec<usize>,
    /// For each word of the source the nearest of the claim.
    back: Vec<usize>,
}

impl Nearest {
    fn new(pairs: &Pairs, layers: std::ops::Range<usize>) -> Self {
        let (count, width) = (layers.len() as f32, pairs.source);
        let mut cosines = vec![0.0; pairs.claim * width];
        for layer in layers {
            for (word, sums) in cosines.chunks_exact_mut(width).enumerate() {
                sums.iter_mut().zip(pairs.row(layer, word)).for_each(|(sum, cosine)| *sum += cosine / count);
            }
        }
        let there = cosines.chunks_exact(width).map(|row| most(row.iter().copied())).collect();
        let back = (0..width).map(|at| most(cosines.iter().skip(at).step_by(width).copied())).collect();
        Self { width, cosines, there, back }
    }

    fn at(&self, word: usize, place: usize) -> f32 {
        self.cosines[word * self.width + place]
    }

    /// The nearest in a stretch of the source, if it holds a word.
    fn best(&self, word: usize, stretch: std::ops::Range<usize>) -> Option<f32> {
        stretch.map(|place| self.at(word, place)).reduce(f32::max)
    }
}

/// The index of the first of the largest.
fn most(values: impl Iterator<Item = f32>) -> usize {
    values.enumerate().fold((0, f32::NEG_INFINITY), |best, (at, x)| if x > best.1 { (at, x) } else { best }).0
}

/// The words at most so far before and behind one.
fn around(at: usize, far: usize, count: usize) -> std::ops::Range<usize> {
    at.saturating_sub(far)..(at + far + 1).min(count)
}

fn flag(yes: bool) -> f32 {
    f32::from(u8::from(yes))
}

/// The value of a word that is a plain number.
fn value(word: &Word) -> Option<f64> {
    let plain = word.stem.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| word.stem.parse().ok()).flatten()
}

/// [`PLACES`] numbers about a claim; no number if either text has no word.
pub(crate) fn places(source: &Seen, claim: &Seen, pairs: &Pairs) -> Vec<f32> {
    let (there, words) = (source.words(), claim.words());
    if there.is_empty() || words.is_empty() {
        return Vec::new();
    }
    let near = Nearest::new(pairs, LATER);
    let known: Vec<bool> = (0..words.len()).map(|word| pairs.same(word).contains(&true)).collect();
    let shared: Vec<bool> =
        (0..there.len()).map(|place| (0..words.len()).any(|word| pairs.same(word)[place])).collect();
    let values = values(there);
    let mut rows: Vec<Vec<f32>> = words.iter().map(|word| numbers(word, &values).to_vec()).collect();
    order(words, &near, &mut rows);
    denials(words, there, &known, &near, &mut rows);
    for (word, row) in rows.iter_mut().enumerate() {
        // The best of other words.
        let same = pairs.same(word);
        let other = |place: usize| if same[place] { -1.0 } else { near.at(word, place) };
        let rival = most((0..there.len()).map(other));
        let seen = &there[rival];
        let behind = near.at(word, near.there[word]) - other(rival);
        row.extend([other(rival), flag(seen.number), flag(seen.name), flag(seen.content), flag(shared[rival]), behind]);
    }
    way_back(&near, pairs, &mut rows);
    neighbours(words, pairs, &near, &mut rows);
    pool(words, &known, &rows)
}

/// The plain numbers of a text, in their order.
pub(super) fn values(words: &[Word]) -> Vec<f64> {
    let mut values: Vec<f64> = words.iter().filter_map(value).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Whether the source has this number, and what others it has.
pub(super) fn numbers(word: &Word, values: &[f64]) -> [f32; NUMBERS] {
    let mut out = [0.0; NUMBERS];
    if !word.number {
        return out;
    }
    out[0] = flag(values.is_empty());
    let Some(own) = value(word).filter(|_| !values.is_empty()) else { return out };
    let digits = |value: f64| value.max(1.0).log10().floor();
    let alike: Vec<f64> = values.iter().copied().filter(|value| digits(*value) == digits(own)).collect();
    let there = values.contains(&own);
    let ratio = values.iter().map(|value| ((value + 1.0) / (own + 1.0)).ln().abs()).fold(2.0, f64::min);
    let has = |wanted: f64| values.binary_search_by(|value| value.total_cmp(&wanted)).is_ok();
    out[1] = ratio as f32;
    out[2] = flag(there);
    out[3] = flag(!alike.is_empty() && !alike.contains(&own));
    // The difference of two others, such as years.
    out[4] = flag(!there && values.iter().any(|value| has(value + own)));
    out[5] = flag(values.iter().any(|value| *value > own));
    out[6] = flag(values.iter().any(|value| *value < own));
    out[7] = flag(alike.iter().any(|value| *value > own));
    out[8] = flag(alike.iter().any(|value| *value < own));
    out
}

/// How the places of words follow each other.
fn order(words: &[Word], near: &Nearest, rows: &mut [Vec<f32>]) {
    let of = |some: &dyn Fn(&Word) -> bool| -> Vec<usize> {
        let mut places: Vec<usize> = (0..words.len()).filter(|at| some(&words[*at])).map(|at| near.there[at]).collect();
        places.sort_unstable();
        places
    };
    let mut places = of(&|word| word.content);
    if places.is_empty() {
        places = of(&|_| true);
    }
    let middle = (places[(places.len() - 1) / 2] + places[places.len() / 2]) as f32 / 2.0;
    let mut last: Option<usize> = None;
    for (word, row) in rows.iter_mut().enumerate() {
        let place = near.there[word] as f32;
        row.extend(last.map_or([0.0; 3], |last| {
            let (step, own) = (place - near.there[last] as f32, (word - last) as f32);
            [step.clamp(-10.0, 10.0) / 5.0, (step - own).abs().min(10.0) / 5.0, flag(step < 0.0)]
        }));
        let whole = (words.len() - 1).max(1) as f32;
        row.extend([(place - middle).abs().min(20.0) / 10.0, place / near.width as f32, word as f32 / whole]);
        if words[word].content {
            last = Some(word);
        }
    }
}

/// Denials, and words that say how far something holds, here and there.
fn denials(words: &[Word], there: &[Word], known: &[bool], near: &Nearest, rows: &mut [Vec<f32>]) {
    for (at, row) in rows.iter_mut().enumerate() {
        let (here, there) = (&words[around(at, 3, words.len())], &there[around(near.there[at], 4, there.len())]);
        let denied = |words: &[Word]| words.iter().any(|word| word.negates);
        let bounded = |words: &[Word]| words.iter().any(|word| word.bounds);
        row.extend([flag(denied(there)), flag(denied(here)), flag(denied(there) != denied(here))]);
        row.extend([flag(bounded(there)), flag(bounded(here)), flag(words[at].bounds && !known[at])]);
    }
}

/// Whether the nearest word of the source has this one for its nearest.
fn way_back(near: &Nearest, pairs: &Pairs, rows: &mut [Vec<f32>]) {
    let alone: Vec<Nearest> = BACK.iter().map(|layer| Nearest::new(pairs, *layer..layer + 1)).collect();
    for (word, row) in rows.iter_mut().enumerate() {
        let place = near.there[word];
        let back = near.back[place];
        row.extend([
            flag(back == word),
            near.at(back, place) - near.at(word, place),
            back.abs_diff(word).min(8) as f32 / 4.0,
        ]);
        row.extend(alone.iter().map(|near| flag(near.back[near.there[word]] == word)));
    }
}

/// Whether what surrounds a word surrounds its place too.
fn neighbours(words: &[Word], pairs: &Pairs, near: &Nearest, rows: &mut [Vec<f32>]) {
    let mean = |values: &[f32], of_none: f32| {
        if values.is_empty() { of_none } else { values.iter().sum::<f32>() / values.len() as f32 }
    };
    for (at, row) in rows.iter_mut().enumerate() {
        let place = near.there[at];
        let stretch = around(place, 4, near.width);
        let others: Vec<usize> = around(at, 3, words.len()).filter(|other| *other != at).collect();
        let best = |other: usize| near.best(other, stretch.clone()).unwrap_or(0.0);
        let all: Vec<f32> = others.iter().map(|other| best(*other)).collect();
        let saying = || others.iter().copied().filter(|other| words[*other].content);
        let found: Vec<f32> = saying().map(|other| flag(pairs.same(other)[stretch.clone()].contains(&true))).collect();
        let content: Vec<f32> = saying().map(best).collect();
        let (least, none) =
            (all.iter().copied().reduce(f32::min).unwrap_or(0.0), if all.is_empty() { 0.0 } else { 0.5 });
        let before = if at > 0 { near.best(at - 1, place.saturating_sub(3)..place) } else { None };
        let behind = if at + 1 < words.len() {
            near.best(at + 1, place + 1..(place + 4).min(near.width).max(place + 1))
        } else {
            None
        };
        row.extend([mean(&all, 0.0), least, mean(&found, none), mean(&content, none)]);
        row.extend([before.unwrap_or(0.0), behind.unwrap_or(0.0)]);
    }
}

/// Means, least and most over the words.
fn pool(words: &[Word], known: &[bool], rows: &[Vec<f32>]) -> Vec<f32> {
    let mean = |some: &dyn Fn(usize) -> bool| -> Option<Vec<f32>> {
        let chosen: Vec<&Vec<f32>> = (0..rows.len()).filter(|at| some(*at)).map(|at| &rows[at]).collect();
        let of = |at| chosen.iter().map(|row| row[at]).sum::<f32>() / chosen.len() as f32;
        (!chosen.is_empty()).then(|| (0..WORD).map(of).collect())
    };
    let all = mean(&|_| true).unwrap_or_default();
    let content = mean(&|at| words[at].content).unwrap_or_else(|| all.clone());
    let strange = mean(&|at| words[at].content && !known[at]).unwrap_or_else(|| vec![0.0; WORD]);
    let of = |choose: fn(f32, f32) -> f32| -> Vec<f32> {
        (0..WORD).map(|at| rows.iter().map(|row| row[at]).fold(rows[0][at], choose)).collect()
    };
    [all, content, strange, of(f32::min), of(f32::max)].concat()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bedrock_core::EmbeddingModel;
    use futures::executor::block_on;

    use super::super::aligned::tests::Words;
    use super::super::aligned::{head, read};
    use super::super::evidence::sentences;
    use super::*;

    const SOURCE: &str = "Crayola began as a pigment company in 1885. It did not make crayons until 1903.";
    /// Where the groups of numbers about a word begin.
    const ORDER: usize = NUMBERS;
    const DENIALS: usize = NUMBERS + OTHERS;
    const RIVAL: usize = NUMBERS + 2 * OTHERS;
    const BACK_AT: usize = NUMBERS + 3 * OTHERS;
    const NEAR: usize = NUMBERS + 4 * OTHERS;
    /// Where the means, the least and the most begin.
    const ALL: usize = 0;
    const LEAST: usize = 3 * WORD;
    const MOST: usize = 4 * WORD;

    fn of(source: &str, claim: &str) -> Vec<f32> {
        let encoder: Arc<dyn EmbeddingModel> = Arc::new(Words::default());
        let axes = &head().axes;
        let parts = block_on(read(&encoder, source, claim, axes)).unwrap().unwrap().inputs(axes);
        parts.into_iter().next().map(|part| part.places).unwrap_or_default()
    }

    #[test]
    fn a_copy_is_found_in_its_order_and_back() {
        let copy = of(SOURCE, "Crayola began as a pigment company");
        assert_eq!(copy.len(), PLACES);
        assert_eq!(copy[MOST + ORDER + 2], 0.0, "no step back");
        assert_eq!(copy[LEAST + BACK_AT], 1.0, "each is the nearest of its nearest");
        assert_eq!(copy[LEAST + NEAR + 2], 1.0, "neighbours are there");
        assert!(copy[3 * WORD - WORD..3 * WORD].iter().all(|x| *x == 0.0), "nothing that it says is strange");
        let turned = of(SOURCE, "company pigment began Crayola");
        assert_eq!((turned[MOST + ORDER + 2], turned[LEAST + ORDER]), (1.0, -0.6));
    }

    #[test]
    fn numbers_stand_beside_those_of_the_source() {
        let values = [1885.0, 1903.0];
        let of = |text: &str, values: &[f64]| numbers(&sentences(text)[0].words[0], values);
        assert_eq!(of("1903", &values), [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        let wrong = of("1893", &values);
        assert!(wrong[1] > 0.0 && wrong[1] < 0.01);
        assert_eq!(wrong[2..], [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(of("18", &values)[2..], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0], "years between");
        assert_eq!(of("5", &[]), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(of("5th", &values), [0.0; NUMBERS]);
        assert_eq!(of("pigment", &values), [0.0; NUMBERS]);
    }

    #[test]
    fn denials_are_seen_on_both_sides() {
        let denials = |claim: &str| of(SOURCE, claim)[MOST + DENIALS..][..OTHERS].to_vec();
        assert_eq!(denials("It did make crayons"), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(denials("It did not make crayons"), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(denials("First pigment")[4..], [1.0, 1.0]);
    }

    #[test]
    fn the_next_best_is_another_word() {
        let rival = &of("Pigment", "Pigment")[ALL + RIVAL..][..OTHERS];
        assert!(rival[0] == -1.0 && (rival[5] - 2.0).abs() < 1e-3, "there is none: {rival:?}");
        let rival = &of("Pigment Rome", "Pigment")[ALL + RIVAL..][..OTHERS];
        assert!(rival[0] < 0.9 && rival[5] > 0.1, "{rival:?}");
        assert_eq!(rival[1..5], [0.0, 1.0, 1.0, 0.0], "a name that the claim has not");
    }

    #[test]
    fn what_has_no_words_has_no_numbers() {
        assert!(of("...", "Pigment").is_empty() && of("Pigment", "?!").is_empty());
    }
}
