//! Tier STANDARD: small networks over embeddings and what CLASSIC says of texts it was not trained on.

use std::collections::HashMap;

use bedrock_guard::train::{CATEGORIES, DIMENSIONS, Head, Network, badness, pieces, prompt, units};

use crate::grammar::Grammar;
use crate::items::{Item, Labels, folds};
use crate::linear::Linear;
use crate::noise::{Random, noisy};

/// Logits that one model of CLASSIC has for all units of an item, and for its pieces.
pub(crate) type Heard = Vec<([f32; CATEGORIES], usize)>;

/// Embeddings by the text that was embedded.
pub(crate) type Vectors = HashMap<String, Vec<f32>>;

/// Where sentences of `requests.txt` and `attacks.txt` are from.
pub(crate) const REQUESTS: &str = "requests";
/// Where those of `records.txt` are from.
pub(crate) const RECORDS: &str = "records";

/// A sentence of the grammar.
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) labels: Labels,
    pub(crate) origin: &'static str,
}

/// Sentences of the grammar to learn from: those of each half of it, some of them with misspellings.
pub(crate) fn sentences(grammar: &Grammar, plan: &Plan) -> [Vec<Said>; 2] {
    [false, true].map(|half| {
        let mut random = Random(7 + u64::from(half));
        let grammar = grammar.half(half);
        // Those about groups of people say what hate is, and the others what the rest is: what else they are is learned better from texts that people wrote.
        let groups = grammar.sentences(&mut random, plan.sentences, 0).into_iter();
        let groups = groups.filter(|(_, labels)| labels[0].is_some()).map(|said| (said, "grammar", [true, false]));
        let requests = grammar.requests(plan.sentences, 0).into_iter().map(|said| (said, REQUESTS, [false, true]));
        let records = grammar.records(plan.sentences, 0).into_iter().map(|said| (said, RECORDS, [false, true]));
        let said = groups.chain(requests).chain(records).map(|((text, labels), origin, says)| {
            let labels = std::array::from_fn(|category| labels[category].filter(|_| says[usize::from(category > 0)]));
            Said { text, labels, origin }
        });
        let mut all: Vec<Said> = said.collect();
        for said in &mut all {
            if random.chance(0.15) {
                said.text = noisy(&said.text, &mut random);
            }
        }
        all
    })
}

/// All texts that have to be embedded, in order, each once.
pub(crate) fn prompts(items: &[Item], said: &[Vec<Said>; 2]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let texts = items.iter().map(|item| item.text.as_str());
    let texts = texts.chain(said.iter().flatten().map(|said| said.text.as_str()));
    let all = texts.flat_map(pieces).flat_map(units).map(prompt);
    all.filter(|text| seen.insert(text.clone())).collect()
}

/// For each piece of a text the logits of CLASSIC and which of its units is the worst.
pub(crate) fn hear(model: &Linear, text: &str) -> Heard {
    let piece = |piece: &str| {
        let units = units(piece);
        let mut worst = (0, f32::NEG_INFINITY);
        if units.len() > 1 {
            for (index, unit) in units.iter().enumerate() {
                let badness = badness(&model.piece(unit));
                if badness > worst.1 {
                    worst = (index, badness);
                }
            }
        }
        (model.piece(piece), worst.0)
    };
    pieces(text).into_iter().map(piece).collect()
}

/// A text to learn from.
pub(crate) struct Lesson<'t> {
    pub(crate) text: &'t str,
    pub(crate) labels: Labels,
    pub(crate) weight: f32,
    /// What CLASSIC says that had not seen it.
    pub(crate) heard: &'t Heard,
    /// Where it is from.
    pub(crate) origin: &'t str,
}

/// A piece to learn from.
struct Sample {
    inputs: Vec<f32>,
    labels: Labels,
    weight: f32,
    /// Index of its source.
    source: usize,
}

/// How many harmless and harmful texts of each category a source has.
type Known = [[f32; 2]; CATEGORIES];

/// Texts of a source that count in full in a category; more of them count together as so many.
const FULL: f32 = 300.0;

/// What texts of a source count in each category.
fn balance(known: &Known) -> [f32; CATEGORIES] {
    known.map(|[no, yes]| FULL / (no + yes).max(FULL))
}

/// Whether a source has enough of both to have a share of harmful texts at all.
fn has_share(known: &Known) -> [bool; CATEGORIES] {
    known.map(|[no, yes]| yes.min(no) >= 10.0 && yes.min(no) >= 0.02 * (yes + no))
}

pub(crate) struct Plan {
    pub(crate) hidden: usize,
    pub(crate) networks: usize,
    pub(crate) epochs: usize,
    pub(crate) rate: f32,
    pub(crate) decay: f32,
    pub(crate) drop: f32,
    /// Rounds of sentences of each half of the grammar.
    pub(crate) sentences: usize,
    /// What a sentence counts, before all that were said are balanced as one source.
    pub(crate) said: f32,
    /// The same of sentences of `requests.txt` and `attacks.txt`, which are balanced as another source.
    pub(crate) requests: f32,
    /// The same of those of `records.txt`.
    pub(crate) records: f32,
    /// Share of the texts of which CLASSIC says nothing, so that embeddings learn to do without.
    pub(crate) deaf: f32,
    /// How fast the offset of a source is learned, against weights. A source calls more or less harmful than others do: that is learned as an offset of
    /// its own, which is then forgotten, so that the weights do not learn to tell sources apart by what they talk about.
    pub(crate) offset: f32,
    /// What a sentence of HateCheck counts.
    pub(crate) functions: f32,
    /// Share of a verdict that is what CLASSIC says of the category, as it says it.
    pub(crate) classic: f32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            hidden: 32,
            networks: 6,
            epochs: 8,
            rate: 1e-3,
            decay: 0.02,
            drop: 0.3,
            sentences: 200,
            said: 8.0,
            requests: 4.0,
            records: 4.0,
            deaf: 0.2,
            offset: 3.0,
            functions: 1.0,
            classic: 0.4,
        }
    }
}

/// The inputs of a text, a row for each piece.
pub(crate) fn inputs(text: &str, heard: &Heard, vectors: &Vectors) -> Vec<Vec<f32>> {
    let of = |(piece, (logits, unit)): (&str, &([f32; CATEGORIES], usize))| {
        let text = prompt(units(piece)[*unit]);
        Network::inputs(logits, vectors.get(&text).expect("all were embedded"))
    };
    pieces(text).into_iter().zip(heard).map(of).collect()
}

/// The worst of the pieces.
pub(crate) fn logits(networks: &[Network], text: &str, heard: &Heard, vectors: &Vectors) -> [f32; CATEGORIES] {
    let mut worst = [f32::NEG_INFINITY; CATEGORIES];
    for inputs in inputs(text, heard, vectors) {
        let mut sums = [0.0; CATEGORIES];
        for network in networks {
            let logits = network.output(&network.hidden(&inputs), &inputs);
            sums.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += logit / networks.len() as f32);
        }
        worst.iter_mut().zip(sums).for_each(|(worst, logit)| *worst = worst.max(logit));
    }
    worst
}

/// Trains on texts that CLASSIC had not seen when it was heard.
pub(crate) fn train(lessons: &[Lesson<'_>], vectors: &Vectors, plan: &Plan) -> Vec<Network> {
    let (mut samples, mut sources, mut known) = (Vec::new(), HashMap::new(), Vec::<Known>::new());
    for Lesson { text, labels, weight, heard, origin } in lessons {
        let source = *sources.entry(*origin).or_insert(known.len());
        if source == known.len() {
            known.push(Known::default());
        }
        for (known, label) in known[source].iter_mut().zip(labels) {
            if let Some(yes) = label {
                known[usize::from(*yes)] += 1.0;
            }
        }
        let rows = inputs(text, heard, vectors);
        let weight = weight / (rows.len() as f32).sqrt();
        samples.extend(rows.into_iter().map(|inputs| Sample { inputs, labels: *labels, weight, source }));
    }
    // A category counts as much as any other, however few know it.
    let mut pieces = [0.0f32; CATEGORIES];
    for sample in &samples {
        pieces.iter_mut().zip(sample.labels).for_each(|(pieces, label)| *pieces += f32::from(label.is_some()));
    }
    let most = pieces.iter().copied().fold(1.0, f32::max);
    let scale = pieces.map(|pieces| (most / pieces.max(1.0)).sqrt());
    let (samples, known) = (&samples, &known);
    let networks: Vec<Network> = std::thread::scope(|scope| {
        let one = |seed: usize| scope.spawn(move || one(samples, scale, known, plan, seed as u64 + 1));
        let threads: Vec<_> = (0..plan.networks).map(one).collect();
        threads.into_iter().map(|thread| thread.join().expect("training does not panic")).collect()
    });
    networks.into_iter().map(|network| blended(network, plan)).collect()
}

/// The network's verdict and that of CLASSIC, weighed. A network learns how much each source of its texts is to be trusted, and is wrong about that where a
/// text is of another; CLASSIC knows words alone, and they mean much the same everywhere.
fn blended(mut network: Network, plan: &Plan) -> Network {
    for (category, row) in network.output.chunks_exact_mut(plan.hidden + CATEGORIES + 1).enumerate() {
        row.iter_mut().for_each(|weight| *weight *= 1.0 - plan.classic);
        row[plan.hidden + category] += plan.classic * Network::SCALE;
    }
    network
}

/// Weights with Adam's moments.
struct Learned {
    values: Vec<f32>,
    slopes: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Learned {
    fn new(values: Vec<f32>) -> Self {
        let none = vec![0.0; values.len()];
        Self { slopes: none.clone(), first: none.clone(), second: none, values }
    }

    fn step(&mut self, rate: f32, decay: f32, turn: i32) {
        let (one, two) = (1.0 - 0.9f32.powi(turn), 1.0 - 0.999f32.powi(turn));
        for index in 0..self.values.len() {
            let slope = std::mem::take(&mut self.slopes[index]);
            self.first[index] = 0.9 * self.first[index] + 0.1 * slope;
            self.second[index] = 0.999 * self.second[index] + 0.001 * slope * slope;
            let step = self.first[index] / one / ((self.second[index] / two).sqrt() + 1e-8);
            self.values[index] -= rate * (step + decay * self.values[index]);
        }
    }
}

const BATCH: usize = 32;

fn one(samples: &[Sample], scale: [f32; CATEGORIES], known: &[Known], plan: &Plan, seed: u64) -> Network {
    let mut offsets = Learned::new(vec![0.0; known.len() * CATEGORIES]);
    let (balances, shares): (Vec<_>, Vec<_>) = known.iter().map(|known| (balance(known), has_share(known))).unzip();
    let mut random = Random(seed);
    let inputs = DIMENSIONS + CATEGORIES;
    let mut uniform = |count: usize, width: f32| -> Vec<f32> {
        (0..count).map(|_| (random.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0) * width).collect()
    };
    let mut hidden = Learned::new(uniform(plan.hidden * (inputs + 1), 1.5 / (inputs as f32).sqrt()));
    let row = plan.hidden + CATEGORIES + 1;
    let mut output = Learned::new(uniform(CATEGORIES * row, 0.1));
    // To begin with, what CLASSIC says.
    for category in 0..CATEGORIES {
        output.values[category * row + plan.hidden + category] = 2.0;
    }
    let mut order: Vec<usize> = (0..samples.len()).collect();
    let mut turn = 0;
    let mut network = Network { hidden: hidden.values.clone(), output: output.values.clone() };
    for epoch in 0..plan.epochs {
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
        let rate = plan.rate * (1.0 - epoch as f32 / plan.epochs as f32);
        for batch in order.chunks(BATCH) {
            for index in batch {
                let sample = &samples[*index];
                let mut input = sample.inputs.clone();
                if random.chance(plan.deaf) {
                    input[DIMENSIONS..].fill(0.0);
                }
                let mut layer = network.hidden(&input);
                let kept: Vec<f32> = layer
                    .iter()
                    .map(|_| if random.chance(plan.drop) { 0.0 } else { 1.0 / (1.0 - plan.drop) })
                    .collect();
                layer.iter_mut().zip(&kept).for_each(|(value, kept)| *value *= kept);
                let logits = network.output(&layer, &input);
                let mut back = vec![0.0; plan.hidden];
                for category in 0..CATEGORIES {
                    let Some(yes) = sample.labels[category] else { continue };
                    let right = f32::from(u8::from(yes));
                    let at = sample.source * CATEGORIES + category;
                    let logit = logits[category] + offsets.values[at];
                    let weight = sample.weight * scale[category] * balances[sample.source][category];
                    let slope = (1.0 / (1.0 + (-logit).exp()) - right) * weight / BATCH as f32;
                    if shares[sample.source][category] {
                        offsets.slopes[at] += slope;
                    }
                    let slopes = &mut output.slopes[category * row..][..row];
                    let values = layer.iter().chain(&input[DIMENSIONS..]).chain(&[1.0]);
                    slopes.iter_mut().zip(values).for_each(|(s, value)| *s += slope * value);
                    let weights = &network.output[category * row..][..plan.hidden];
                    back.iter_mut().zip(weights).for_each(|(back, weight)| *back += slope * weight);
                }
                for unit in 0..plan.hidden {
                    let slope = back[unit] * kept[unit];
                    if layer[unit] > 0.0 && slope != 0.0 {
                        let slopes = &mut hidden.slopes[unit * (inputs + 1)..][..=inputs];
                        slopes.iter_mut().zip(&input).for_each(|(s, input)| *s += slope * input);
                        slopes[inputs] += slope;
                    }
                }
            }
            turn += 1;
            hidden.step(rate, plan.decay, turn);
            output.step(rate, plan.decay / 10.0, turn);
            offsets.step(rate * plan.offset, 0.0, turn);
            network.hidden.copy_from_slice(&hidden.values);
            network.output.copy_from_slice(&output.values);
        }
    }
    network
}

/// What each item's CLASSIC says that has seen neither the item's fold nor `without`; with `without` none, only the first.
pub(crate) struct Heards {
    /// By the lower and the higher of two folds that were left out; the item's own is one of them. Equal: that one alone.
    by: HashMap<(u64, u64), HashMap<usize, Heard>>,
    /// By the fold that was left out: what is said of the sentences of each half by a model that knows the other half.
    said: HashMap<u64, [Vec<Heard>; 2]>,
    folds: u64,
}

impl Heards {
    /// `trained` makes a model without some folds and, if it is told, with one half of the grammar alone.
    pub(crate) fn new(
        items: &[Item],
        sentences: &[Vec<Said>; 2],
        trained: impl Fn(&[u64], Option<bool>) -> Linear,
    ) -> Self {
        let (mut by, mut said, folds) = (HashMap::new(), HashMap::new(), folds(items));
        // No item is of the last: nothing is left out.
        for fold in 0..=folds {
            let of = |half: usize| {
                let model = trained(&[fold], Some(half == 0));
                sentences[half].iter().map(|said| hear(&model, &said.text)).collect()
            };
            said.insert(fold, [of(0), of(1)]);
        }
        for low in 0..folds {
            for high in low..folds {
                let model = trained(&[low, high], None);
                let of = items.iter().enumerate().filter(|(_, item)| item.fold == low || item.fold == high);
                by.insert((low, high), of.map(|(index, item)| (index, hear(&model, &item.text))).collect());
            }
            eprintln!("CLASSIC without fold {low}: done");
        }
        Self { by, said, folds }
    }

    /// For the sentences of each half; with `None`, no fold was left out.
    pub(crate) fn said(&self, without: Option<u64>) -> &[Vec<Heard>; 2] {
        &self.said[&without.unwrap_or(self.folds)]
    }

    pub(crate) fn of(&self, index: usize, fold: u64, without: u64) -> &Heard {
        &self.by[&(fold.min(without), fold.max(without))][&index]
    }
}

/// The head with its thresholds.
pub(crate) fn head(networks: Vec<Network>, steps: [[f32; 3]; CATEGORIES], probe: Vec<f32>) -> Head {
    Head { steps, probe, networks }
}
