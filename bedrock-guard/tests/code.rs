//! Source code is full of numbers, and none of them may pass for a number with check digits.

use std::path::{Path, PathBuf};

use bedrock_core::GuardrailPiiEntityType as Kind;
use bedrock_guard::PiiRecognizer;

/// The kinds that have check digits.
const CHECKED: [Kind; 8] = [
    Kind::CreditDebitCardNumber,
    Kind::InternationalBankAccountNumber,
    Kind::VehicleIdentificationNumber,
    Kind::CaSocialInsuranceNumber,
    Kind::CaHealthNumber,
    Kind::UkNationalHealthServiceNumber,
    Kind::UkUniqueTaxpayerReferenceNumber,
    Kind::UsBankRoutingNumber,
];

fn assert_nothing_is_found(recognizer: &PiiRecognizer, name: &str, code: &str) {
    if let Some(finding) = recognizer.find(code).first() {
        panic!("{name}: {} {:?} {}", finding.kind.as_str(), &code[finding.span.clone()], finding.score);
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_sources_of_this_workspace_have_no_checked_numbers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    // Not this crate: its tests are full of them.
    for entry in std::fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("bedrock-") && name != "bedrock-guard" && folder.join("src").is_dir() {
            sources(&folder.join("src"), &mut files);
        }
    }
    let (recognizer, mut bytes) = (PiiRecognizer::new(CHECKED), 0);
    for file in files {
        let code = std::fs::read_to_string(&file).unwrap();
        bytes += code.len();
        assert_nothing_is_found(&recognizer, &file.display().to_string(), &code);
    }
    assert!(bytes > 1_000_000, "only {bytes} bytes");
}
