//! GROUNDING with an encoder: small networks that read what [`super::alignment`] says of each word of a response, a line over what [`super::places`] says
//! of where the words are found, and the evidence without an encoder.
//! Weights and how they were made: `data/GROUNDING_CARD.md`.
#![cfg_attr(not(feature = "train"), allow(unreachable_pub, reason = "what trains the networks reaches it"))]

use std::fmt;
use std::sync::{Arc, LazyLock};

use bedrock_core::{EmbeddingModel, Error};

use super::alignment::{Axes, DIRECTIONS, INPUTS, LAYERS, Pairs, SEEN, Seen, WIDTH, dot, inputs};
use super::claim::{passages, shared};
use super::evidence::{self, SUPPORT};
use super::places::{PLACES, places};

const FILE: &[u8] = include_bytes!("../../../data/alignment.bin");
/// The first bytes of the file: its version.
const MAGIC: &[u8] = b"GRA2";
/// Units of each hidden layer.
pub const UNITS: usize = 24;
/// Units that read the evidence.
pub const EVIDENCE_UNITS: usize = 8;
/// Bytes of a passage of the source or the response, which the encoder reads at once: within its 256 tokens in English.
const PASSAGE: usize = 900;
/// Bytes of the part of a response that is scored at once, about the longest of those that the networks were trained on.
const PART: usize = 400;
/// Most passages of a source; of more, those that share most words with the response.
const PASSAGES: usize = 8;
/// What the line weighs beside the networks.
const LINE: f32 = 0.6;
/// What the evidence weighs, and the least that it can say: where words are missing the networks know more.
const SUPPORTED: f32 = 0.8;
const LEAST: f32 = -1.0;
/// Hidden units of the network over the evidence alone.
pub const SUPPORT_UNITS: usize = 12;
/// The farthest that an input is from its mean, in standard deviations.
const FAR: f32 = 6.0;

static HEAD: LazyLock<Head> = LazyLock::new(|| Head::read(FILE).expect("a test reads the committed file"));

/// The committed networks.
pub(crate) fn head() -> &'static Head {
    &HEAD
}

/// What is taken off and divided by to bring numbers to mean 0 and deviation 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scale {
    /// Of each number.
    pub mean: Vec<f32>,
    /// Of each number, above 0.
    pub deviation: Vec<f32>,
}

impl Scale {
    /// Scales rows in place.
    pub fn apply(&self, numbers: &mut [f32]) {
        for row in numbers.chunks_exact_mut(self.mean.len()) {
            for ((x, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *x = ((*x - mean) / deviation).clamp(-FAR, FAR);
            }
        }
    }
}

/// A part of a response as the networks read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// [`INPUTS`] numbers about each word, at least one.
    pub words: Vec<f32>,
    /// [`PLACES`] numbers.
    pub places: Vec<f32>,
}

/// Axes of the states, scales of the inputs, and what reads them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Head {
    /// Of the states.
    pub axes: Axes,
    /// Of the numbers about words.
    pub words: Scale,
    /// Of the evidence.
    pub evidence: Scale,
    /// Of the numbers about places.
    pub places: Scale,
    /// A weight for each number about places, and what is added.
    pub line: Vec<f32>,
    /// [`SUPPORT_UNITS`] units over the evidence, as [`support`] reads them.
    pub support: Vec<f32>,
    /// At least one; their logits are averaged.
    pub networks: Vec<Network>,
}

/// The logit of a network of one hidden layer over the evidence (scaled): for each unit its inputs' weights, its bias, its weight in the output; then
/// the bias of the output.
pub fn support(numbers: &[f32], evidence: &[f32]) -> f32 {
    super::head::logit(numbers, evidence)
}

/// Where the weights of a network lie.
pub mod at {
    use super::{EVIDENCE_UNITS, INPUTS, SUPPORT, UNITS};

    /// First layer: for each unit its inputs' weights.
    pub const WORD: usize = 0;
    /// Biases of the first layer.
    pub const WORD_BIAS: usize = UNITS * INPUTS;
    /// Second: for each unit the units of the word before, the word and the word after.
    pub const NEAR: usize = WORD_BIAS + UNITS;
    /// Biases of the second layer.
    pub const NEAR_BIAS: usize = NEAR + UNITS * 3 * UNITS;
    /// What a word weighs in the second of the two means.
    pub const WEIGHT: usize = NEAR_BIAS + UNITS;
    /// What reads the evidence.
    pub const EVIDENCE: usize = WEIGHT + UNITS;
    /// Biases of what reads the evidence.
    pub const EVIDENCE_BIAS: usize = EVIDENCE + EVIDENCE_UNITS * SUPPORT;
    /// The output: both means and the units of the evidence.
    pub const OUTPUT: usize = EVIDENCE_BIAS + EVIDENCE_UNITS;
    /// Bias of the output.
    pub const OUTPUT_BIAS: usize = OUTPUT + 2 * UNITS + EVIDENCE_UNITS;
    /// Numbers of a network.
    pub const ALL: usize = OUTPUT_BIAS + 1;
}

/// Two layers over the words, the second of which sees a word's neighbours, the mean of its units and a mean by weights, beside units over the evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// [`at::ALL`] numbers.
    pub numbers: Vec<f32>,
}

impl Network {
    /// The logit of a claim with these words (scaled, [`INPUTS`] each, at least one) and this evidence (scaled).
    pub fn logit(&self, words: &[f32], evidence: &[f32]) -> f32 {
        let n = &self.numbers;
        let first: Vec<f32> = words
            .chunks_exact(INPUTS)
            .flat_map(|word| {
                (0..UNITS).map(move |unit| {
                    (dot(&n[at::WORD + unit * INPUTS..][..INPUTS], word) + n[at::WORD_BIAS + unit]).max(0.0)
                })
            })
            .collect();
        let count = first.len() / UNITS;
        let (mut mean, mut chosen, mut total) = ([0.0f32; UNITS], [0.0f32; UNITS], 0.0f32);
        for word in 0..count {
            let mut units = [0.0f32; UNITS];
            for (unit, value) in units.iter_mut().enumerate() {
                *value = n[at::NEAR_BIAS + unit];
                for (place, weights) in n[at::NEAR + unit * 3 * UNITS..][..3 * UNITS].chunks_exact(UNITS).enumerate() {
                    if let Some(other) = (word + place).checked_sub(1).filter(|other| *other < count) {
                        *value += dot(weights, &first[other * UNITS..][..UNITS]);
                    }
                }
                *value = value.max(0.0);
            }
            // Bounded, so that no weight overflows.
            let weight = dot(&n[at::WEIGHT..][..UNITS], &units).clamp(-30.0, 30.0).exp();
            total += weight;
            for ((mean, chosen), value) in mean.iter_mut().zip(&mut chosen).zip(units) {
                *mean += value / count as f32;
                *chosen += value * weight;
            }
        }
        chosen.iter_mut().for_each(|value| *value /= total);
        let output = &n[at::OUTPUT..];
        let mut logit = n[at::OUTPUT_BIAS] + dot(&output[..UNITS], &mean) + dot(&output[UNITS..][..UNITS], &chosen);
        for unit in 0..EVIDENCE_UNITS {
            let sum = dot(&n[at::EVIDENCE + unit * SUPPORT..][..SUPPORT], evidence) + n[at::EVIDENCE_BIAS + unit];
            logit += output[2 * UNITS + unit] * sum.tanh();
        }
        logit
    }
}

impl Head {
    /// `None` if the bytes are not of this version or hold what is no number.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let numbers = bytes.strip_prefix(MAGIC)?;
        let (words, rest) = numbers.as_chunks::<4>();
        let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        if !rest.is_empty() || !numbers.iter().all(|number| number.is_finite()) {
            return None;
        }
        let mut rest = numbers.as_slice();
        let mut take = |count: usize| rest.split_off(..count).map(<[f32]>::to_vec);
        let axes = Axes { means: take(LAYERS * WIDTH)?, directions: take(SEEN.len() * DIRECTIONS * WIDTH)? };
        let words = Scale { mean: take(INPUTS)?, deviation: take(INPUTS)? };
        let evidence = Scale { mean: take(SUPPORT)?, deviation: take(SUPPORT)? };
        let places = Scale { mean: take(PLACES)?, deviation: take(PLACES)? };
        let (line, support) = (take(PLACES + 1)?, take(SUPPORT_UNITS * (SUPPORT + 2) + 1)?);
        let whole = !rest.is_empty() && rest.len().is_multiple_of(at::ALL);
        let above = |scale: &Scale| scale.deviation.iter().all(|deviation| *deviation > 0.0);
        let sound = [&words, &evidence, &places].into_iter().all(above);
        let networks = rest.chunks_exact(at::ALL).map(|numbers| Network { numbers: numbers.to_vec() }).collect();
        (whole && sound).then_some(Self { axes, words, evidence, places, line, support, networks })
    }

    /// What [`Head::read`] reads.
    #[cfg(any(test, feature = "train"))]
    pub fn write(&self) -> Vec<u8> {
        let scales = [&self.words, &self.evidence, &self.places].into_iter();
        let scales = scales.flat_map(|scale| [&scale.mean, &scale.deviation]);
        let parts = [&self.axes.means, &self.axes.directions].into_iter().chain(scales);
        let parts = parts.chain([&self.line, &self.support]);
        let numbers = parts.chain(self.networks.iter().map(|network| &network.numbers)).flatten();
        MAGIC.iter().copied().chain(numbers.flat_map(|number| number.to_le_bytes())).collect()
    }

    /// Brings the numbers about a part to the scales.
    pub fn scale(&self, part: &mut Part) {
        self.words.apply(&mut part.words);
        self.places.apply(&mut part.places);
    }

    /// The logit of a part of a response and of the evidence, all scaled.
    pub fn logit(&self, part: &Part, evidence: &[f32]) -> f32 {
        let sum: f32 = self.networks.iter().map(|network| network.logit(&part.words, evidence)).sum();
        let line = dot(&self.line[..PLACES], &part.places) + self.line[PLACES];
        let supported = support(&self.support, evidence).max(LEAST);
        sum / self.networks.len() as f32 + LINE * line + SUPPORTED * supported
    }
}

/// A source, and a response in parts, as the encoder sees them.
#[derive(Debug)]
pub struct Read {
    source: Seen,
    parts: Vec<Seen>,
}

impl Read {
    /// The parts of the response that have words against the source, if it has some; not scaled yet.
    pub fn inputs(&self, axes: &Axes) -> Vec<Part> {
        let parts = self.parts.iter().map(|part| {
            let pairs = Pairs::new(&self.source, part);
            Part { words: inputs(&self.source, part, &pairs, axes), places: places(&self.source, part, &pairs) }
        });
        parts.filter(|part| !part.words.is_empty()).collect()
    }

    /// The parts of the response.
    #[cfg(feature = "train")]
    pub fn parts(&self) -> &[Seen] {
        &self.parts
    }
}

/// Asks the encoder. `None` if it gives no states, or those of another shape.
///
/// # Errors
/// What the encoder fails with.
pub async fn read(
    encoder: &Arc<dyn EmbeddingModel>,
    source: &str,
    response: &str,
    axes: &Axes,
) -> Result<Option<Read>, Error> {
    let mut of_source = passages(source, PASSAGE);
    if of_source.len() > PASSAGES {
        let mut order: Vec<usize> = (0..of_source.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(shared(of_source[*index], response)));
        order.truncate(PASSAGES);
        order.sort_unstable();
        of_source = order.into_iter().map(|index| of_source[index]).collect();
    }
    let parts = passages(response, PART);
    let texts: Vec<String> = of_source.iter().chain(&parts).map(|text| (*text).to_owned()).collect();
    let Some(states) = encoder.token_states(&texts).await? else { return Ok(None) };
    if states.len() != texts.len() {
        return Err(Error::validation("the embedding model of the guardrail did not read every text"));
    }
    let seen: Option<Vec<Seen>> =
        texts.iter().zip(&states).map(|(text, states)| Seen::new(text, states, axes)).collect();
    Ok(seen.map(|mut seen| {
        let parts = seen.split_off(of_source.len());
        Read { source: Seen::join(seen), parts }
    }))
}

/// The encoder whose states the committed networks read.
#[derive(Clone)]
pub(crate) struct Aligner(pub(crate) Arc<dyn EmbeddingModel>);

impl fmt::Debug for Aligner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Aligner").finish_non_exhaustive()
    }
}

impl Aligner {
    /// Likelihood that the source supports the response, 0..=1: that of its parts on average. `None` where there is nothing to align.
    ///
    /// # Errors
    /// What the encoder fails with.
    pub(crate) async fn score(&self, source: &str, query: &str, response: &str) -> Result<Option<f32>, Error> {
        let head = head();
        let Some(read) = read(&self.0, source, response, &head.axes).await? else { return Ok(None) };
        let mut evidence = evidence::support(source, query, response);
        head.evidence.apply(&mut evidence);
        let mut logits = Vec::new();
        for mut part in read.inputs(&head.axes) {
            head.scale(&mut part);
            logits.push(head.logit(&part, &evidence));
        }
        let mean = logits.iter().sum::<f32>() / logits.len() as f32;
        Ok((!logits.is_empty()).then(|| 1.0 / (1.0 + (-mean).exp())))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use bedrock_core::{BoxFuture, EmbedRequest, EmbedResponse, EmbeddingModelInfo, TokenStates};
    use futures::executor::block_on;

    use super::*;

    /// Sees each word the same everywhere, and remembers how many texts it was asked about.
    #[derive(Default)]
    pub(crate) struct Words {
        asked: Mutex<usize>,
        /// Layers that it leaves out.
        fewer: usize,
    }

    impl EmbeddingModel for Words {
        fn embed<'a>(&'a self, _: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, Error>> {
            unreachable!("the check asks for states")
        }

        fn info(&self) -> EmbeddingModelInfo {
            unreachable!("the check asks for states")
        }

        fn count_tokens(&self, text: &str) -> Result<usize, Error> {
            Ok(text.split(' ').count())
        }

        fn token_states<'a>(&'a self, texts: &'a [String]) -> BoxFuture<'a, Result<Option<Vec<TokenStates>>, Error>> {
            *self.asked.lock().unwrap() += texts.len();
            let all = texts.iter().map(|text| {
                let mut states = TokenStates { spans: Vec::new(), layers: vec![Vec::new(); LAYERS - self.fewer] };
                for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
                    let start = word.as_ptr() as usize - text.as_ptr() as usize;
                    states.spans.push(start..start + word.len());
                    for (layer, values) in states.layers.iter_mut().enumerate() {
                        let seed =
                            word.bytes().fold(layer as u32 + 7, |seed, byte| seed.wrapping_mul(31) + u32::from(byte));
                        values.extend((0..WIDTH as u32).map(|at| {
                            (seed.wrapping_add(at).wrapping_mul(2_654_435_761) >> 16) as f32 / 32768.0 - 1.0
                        }));
                    }
                }
                states
            });
            let all = Some(all.collect());
            Box::pin(async move { Ok(all) })
        }
    }

    fn words(fewer: usize) -> (Arc<Words>, Arc<dyn EmbeddingModel>) {
        let words = Arc::new(Words { fewer, ..Words::default() });
        (words.clone(), words)
    }

    const SOURCE: &str = "Crayola began as a pigment company in 1885. It did not make crayons until 1903.";

    #[test]
    fn the_committed_file_is_read_and_small() {
        let head = Head::read(FILE).expect("a file of this version");
        assert!(FILE.len() < 300_000 && !head.networks.is_empty());
        assert_eq!(head.write(), FILE);
    }

    #[test]
    fn what_is_no_file_of_this_version_is_refused() {
        assert!(Head::read(&FILE[..FILE.len() - 1]).is_none());
        assert!(Head::read(&FILE[..FILE.len() - 4]).is_none());
        assert!(Head::read(&FILE[1..]).is_none());
        assert!(Head::read(MAGIC).is_none());
        let mut broken = FILE.to_vec();
        let end = broken.len();
        broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(Head::read(&broken).is_none());
    }

    #[test]
    fn a_network_by_hand() {
        let mut numbers = vec![0.0; at::ALL];
        // Unit 3 of the first layer reads the first input, unit 5 of the second reads it from the word before, the output reads both means of that.
        numbers[at::WORD + 3 * INPUTS] = 2.0;
        numbers[at::NEAR + 5 * 3 * UNITS + 3] = 1.0;
        numbers[at::WEIGHT + 5] = 1.0;
        numbers[at::OUTPUT + 5] = 10.0;
        numbers[at::OUTPUT + UNITS + 5] = 1.0;
        numbers[at::EVIDENCE + 1] = 0.5;
        numbers[at::OUTPUT + 2 * UNITS] = 3.0;
        numbers[at::OUTPUT_BIAS] = 0.25;
        let network = Network { numbers };
        let mut words = vec![0.0; 2 * INPUTS];
        words[0] = 0.5;
        let mut evidence = [0.0; SUPPORT];
        evidence[1] = 1.0;
        // The second word has 1, the first 0.
        let share = 1f32.exp() / (1.0 + 1f32.exp());
        let expected = 10.0 * 0.5 + share + 3.0 * 0.5f32.tanh() + 0.25;
        assert!((network.logit(&words, &evidence) - expected).abs() < 1e-5);
    }

    #[test]
    fn each_word_finds_itself_whatever_the_order_of_sentences() {
        let (_, encoder) = words(0);
        let axes = &head().axes;
        let of = |source: &str| {
            let read = block_on(read(&encoder, source, "Crayola did make crayons in 1885, not soap", axes)).unwrap();
            let parts = read.unwrap().inputs(axes);
            parts.into_iter().flat_map(|part| part.words).collect::<Vec<_>>()
        };
        let (there, back) =
            (of(SOURCE), of("It did not make crayons until 1903. Crayola began as a pigment company in 1885."));
        assert_eq!(there.len(), 8 * INPUTS);
        assert_eq!(there, back);
        // Known, and nearest to itself in the first layer; soap is neither.
        for (index, word) in there.chunks_exact(INPUTS).enumerate() {
            assert_eq!((word[3] == 1.0, word[8] > 0.999), (index < 7, index < 7), "{index}");
        }
    }

    #[test]
    fn an_encoder_of_another_shape_is_not_asked_for_a_score() {
        let score = |fewer, source, response| block_on(Aligner(words(fewer).1).score(source, "", response)).unwrap();
        assert!(score(0, SOURCE, "Crayola makes crayons.").is_some_and(|score| (0.0..=1.0).contains(&score)));
        assert!(score(1, SOURCE, "Crayola makes crayons.").is_none());
        assert!(score(0, SOURCE, "?!").is_none());
        assert!(score(0, "...", "Crayola makes crayons.").is_none());
    }

    #[test]
    fn a_long_source_is_read_where_it_shares_words() {
        let (asked, encoder) = words(0);
        let long = format!("{}{SOURCE} {}", "Boats leave. ".repeat(3000), "Trains come. ".repeat(3000));
        let response = "Crayola began as a pigment company.";
        let read = block_on(read(&encoder, &long, response, &head().axes)).unwrap().unwrap();
        assert_eq!(*asked.asked.lock().unwrap(), PASSAGES + 1);
        let words: Vec<f32> = read.inputs(&head().axes).into_iter().flat_map(|part| part.words).collect();
        assert!(words.chunks_exact(INPUTS).all(|word| word[3] == 1.0));
    }
}
