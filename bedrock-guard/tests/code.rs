//! Source code is full of numbers, and none of them may pass for a number with check digits.

mod random;

use std::path::{Path, PathBuf};

use bedrock_core::GuardrailPiiEntityType as Kind;
use bedrock_guard::PiiRecognizer;
use random::Random;

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

/// A line of the number-heavy kinds of code: tables, hashes, identifiers, times, versions, addresses.
fn line(random: &mut Random) -> String {
    let (a, b, c) = (random.next(), random.next(), random.next());
    let (small, time) = (a % 100_000, 1_600_000_000 + b % 200_000_000);
    match random.below(16) {
        0 => format!("const K{small}: u64 = {a:#018x};\n"),
        1 => format!(
            "    [{:.7}, {:.12}, -{:.17}, {:e}],\n",
            a as f64 / 1e19,
            b as f64 / 1e19,
            c as f64 / 1e19,
            a as f64 / 1e19
        ),
        2 => format!("    {}, {}, {}, {},\n", a as u32, b as u32, c as u32, (a >> 32) as u32),
        3 => format!("assert_eq!(hash(&data[{small}]), {a}u64);\n"),
        4 => format!("commit {a:016x}{b:016x}{:08x}\n", c as u32),
        5 => {
            format!("id = \"{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}\"\n", a as u32, b as u16, c & 0xfff, b >> 52, c >> 16)
        }
        6 => format!("let seen_at = {time}; // {}.{}.{}\n", a % 20, b % 100, c % 1000),
        7 => format!("{{\"timestamp\": {time}{:03}, \"size\": {small}, \"line\": {}}},\n", c % 1000, b % 5000),
        8 => format!("x{small} += {}i64 << {};\n", a as i64, b % 64),
        9 => format!("#define REG_{small} 0x{:08X} /* {:#034b} */\n", a as u32, b as u32),
        10 => format!("seed = {}_{:03}_{:03}_{:03};\n", a % 1000, b % 1000, c % 1000, small % 1000),
        11 => format!(
            "version = \"{}.{}.{}-rc.{}\" # sha256:{a:016x}{b:016x}{c:016x}{:016x}\n",
            a % 9,
            b % 99,
            c % 999,
            small,
            random.next()
        ),
        12 => format!("  (i32.const {}) (i64.const -{})\n", a as i32, b >> 1),
        13 => {
            format!("mov ${:#x}, %rax ; {:04x}: {:02x} {:02x} {:02x}\n", a as u32, b as u16, a & 255, b & 255, c & 255)
        }
        14 => format!("m{:016x}E, _ZN{}core3fmt{}Arguments17h{a:016x}E\n", b, a % 20, b % 20),
        _ => format!(
            "2024-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z [{small}] pid={} took {}us\n",
            1 + a % 12,
            1 + b % 28,
            c % 24,
            a % 60,
            b % 60,
            c % 1_000_000,
            a % 65_536,
            b % 10_000_000
        ),
    }
}

#[test]
fn a_megabyte_of_made_up_code_has_no_checked_numbers() {
    let mut random = Random(7);
    let mut code = String::new();
    while code.len() < 1 << 20 {
        code.push_str(&line(&mut random));
    }
    assert_nothing_is_found(&PiiRecognizer::new(CHECKED), "made up", &code);
    // The same code with a number that is one.
    let card = format!("{code}let card = \"4111 1111 1111 1111\";\n");
    assert_eq!(PiiRecognizer::new(CHECKED).find(&card).len(), 1);
}
