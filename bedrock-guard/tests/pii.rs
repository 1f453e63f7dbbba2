//! One table: what each kind of personal data looks like, and what looks like it and is not.

use bedrock_core::GuardrailPiiEntityType as Kind;
use bedrock_guard::{KINDS, PiiRecognizer};

/// Texts with the finding in double brackets. All kinds are looked for at once.
#[rustfmt::skip]
const FOUND: &[(Kind, &str)] = &[
    (Kind::Address, "I live at [[221B Baker Street, London]]."),
    (Kind::Address, "Ship it to [[1600 Amphitheatre Parkway, Mountain View, CA 94043]] please"),
    (Kind::Address, "Meet me at [[12 rue de la Paix]]"),
    (Kind::Address, "Write to [[P.O. Box 1234]]"),
    (Kind::Address, "my address is [[742 evergreen terrace]]"),
    (Kind::Address, "It is on the [[corner of 5th Avenue and Main Street]]"),
    (Kind::Address, "The office is at [[Hauptstraße 17]]"),
    (Kind::Age, "I am [[40 years]] old."),
    (Kind::Age, "a [[79 year]] old female"),
    (Kind::Age, "Patient: male, [[31 y/o]]."),
    (Kind::Age, "aged [[63]]"),
    (Kind::AwsAccessKey, "id [[AKIAIOSFODNN7EXAMPLE]]"),
    (Kind::AwsSecretKey, "aws_secret_access_key = [[wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY]]"),
    (Kind::CaHealthNumber, "Ontario health card [[9876-543-217]]"),
    (Kind::CaSocialInsuranceNumber, "SIN [[130-692-544]]"),
    (Kind::CreditDebitCardCvv, "cvv: [[123]]"),
    (Kind::CreditDebitCardCvv, "the security code is [[4321]]"),
    (Kind::CreditDebitCardExpiry, "card expires [[12/27]]"),
    (Kind::CreditDebitCardExpiry, "valid thru [[Jan 2027]]"),
    (Kind::CreditDebitCardNumber, "pay with [[4111 1111 1111 1111]] now"),
    (Kind::CreditDebitCardNumber, "[[378282246310005]]"),
    (Kind::CreditDebitCardNumber, "my visa card ending in [[4242]]"),
    (Kind::DriverId, "driver's license number [[D1234567]]"),
    (Kind::DriverId, "licence [[MORGA607054SM9IJ]]"),
    (Kind::Email, "mail <[[ada.lovelace+x@mail.example.co.uk]]>."),
    (Kind::Email, "邮箱是[[ada@example.org]]。"),
    (Kind::InternationalBankAccountNumber, "to [[GB82 WEST 1234 5698 7654 32]] today"),
    (Kind::InternationalBankAccountNumber, "[[DE89370400440532013000]]"),
    (Kind::IpAddress, "from [[192.168.1.17]]."),
    (Kind::IpAddress, "ping [[2001:db8::8a2e:370:7334]]"),
    (Kind::LicensePlate, "license plate [[7ABC123]]"),
    (Kind::LicensePlate, "My car reg is [[AB51 ABC]]"),
    (Kind::MacAddress, "[[00:1A:2B:3C:4D:5E]]"),
    (Kind::Name, "My name is [[Zbigniew Kowalczyk]]."),
    (Kind::Name, "Please ask Dr. [[Mary O'Brien]]!"),
    (Kind::Name, "[[John Smith]] asked for it"),
    (Kind::Name, "call me [[ishmael]]"),
    (Kind::Name, "[[Ludwig van Beethoven]] wrote it"),
    (Kind::Name, "Yesterday [[Thorvik Qasselund]] told reporters that he would resign."),
    (Kind::Name, "[[Ozgulbek]]'s mother lives in Hamburg."),
    (Kind::Name, "Please remove [[Nwakaego Iweala]] from the mailing list."),
    (Kind::Name, "I gave [[Brzezna]] the keys."),
    (Kind::Password, "password: [[hunter2!]]"),
    (Kind::Password, "my pwd is \"[[tr0ub4dor&3]]\""),
    (Kind::Phone, "call [[(415) 555-0132]]"),
    (Kind::Phone, "Fax: [[+49 30 1234567]]"),
    (Kind::Phone, "ring me on [[020 7946 0958]]"),
    (Kind::Pin, "my PIN is [[4821]]"),
    (Kind::SwiftCode, "SWIFT code [[DEUTDEFF]]"),
    (Kind::UkNationalHealthServiceNumber, "NHS number [[943 476 5919]]"),
    (Kind::UkNationalInsuranceNumber, "NI [[AB 12 34 56 C]]"),
    (Kind::UkUniqueTaxpayerReferenceNumber, "UTR [[1123456789]]"),
    (Kind::Url, "see [[https://example.com/a?b=(c)]]."),
    (Kind::Url, "see [[www.example.org]], or"),
    (Kind::Url, "see [[example.com/path]]"),
    (Kind::Username, "username: [[ada_l]]"),
    (Kind::Username, "follow [[@ada_lovelace]]"),
    (Kind::UsBankAccountNumber, "bank account [[1234567890]]"),
    (Kind::UsBankRoutingNumber, "routing number [[111000025]]"),
    (Kind::UsIndividualTaxIdentificationNumber, "ITIN [[912-70-1234]]"),
    (Kind::UsPassportNumber, "passport [[C12345678]]"),
    (Kind::UsSocialSecurityNumber, "ssn [[536-90-4399]]"),
    (Kind::UsSocialSecurityNumber, "[[536904399]]"),
    (Kind::VehicleIdentificationNumber, "VIN [[1M8GDM9AXKP042788]]"),
];

/// Texts in which the kind must not be found, even if nothing else is looked for.
#[rustfmt::skip]
const NOT_FOUND: &[(Kind, &str)] = &[
    (Kind::Address, "I have 25 apples and 3 pears."),
    (Kind::Address, "In 1989 the Berlin Wall fell; 40 people came."),
    (Kind::Age, "40 years of experience"),
    (Kind::Age, "20 years ago"),
    (Kind::AwsAccessKey, "AKIAIOSFODNN7EXAMPLEX"),
    (Kind::AwsSecretKey, "secret da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    (Kind::CaHealthNumber, "order 1234567890"),
    (Kind::CaSocialInsuranceNumber, "SIN 130-692-545"),
    (Kind::CreditDebitCardCvv, "in 2024"),
    (Kind::CreditDebitCardExpiry, "on page 12/27"),
    (Kind::CreditDebitCardNumber, "card 4111 1111 1111 1112"),
    (Kind::DriverId, "flight LH400"),
    (Kind::Email, "ada@example"),
    (Kind::Email, "@example.org"),
    (Kind::InternationalBankAccountNumber, "GB82 WEST 1234 5698 7654 33"),
    (Kind::IpAddress, "section 1.2.3"),
    (Kind::IpAddress, "std::vec::Vec"),
    (Kind::IpAddress, "at 12:34:56"),
    (Kind::LicensePlate, "flight AB 1234 and room B52"),
    (Kind::MacAddress, "10:2F:33-AC-29-C3"),
    (Kind::Name, "The weather is fine today. Is it not?"),
    (Kind::Name, "We moved to Paris in April."),
    (Kind::Name, "Stanford University and Apple Inc"),
    (Kind::Name, "I'm Dutch."),
    (Kind::Name, "Call (415) 555-0132."),
    (Kind::Name, "May I ask a question? Will it rain? Mark the answers."),
    (Kind::Name, "Zygomatic arches differ. Install Kubernetes on Ubuntu."),
    (Kind::Name, "impl Serialize for Vec<Value> {}"),
    (Kind::Password, "The password is required."),
    (Kind::Password, "Your password was changed yesterday"),
    (Kind::Phone, "on 2007-01-17"),
    (Kind::Phone, "it cost $4155550132"),
    (Kind::Pin, "pin the note"),
    (Kind::SwiftCode, "CUSTOMER ACCOUNTS"),
    (Kind::UkNationalHealthServiceNumber, "943 476 5918"),
    (Kind::UkNationalInsuranceNumber, "BG 12 34 56 A"),
    (Kind::UkUniqueTaxpayerReferenceNumber, "UTR 2123456789"),
    (Kind::Url, "see main.rs and README.md"),
    (Kind::Url, "It ended.The next began"),
    (Kind::Username, "the login is required"),
    (Kind::UsBankAccountNumber, "1234567890 people"),
    (Kind::UsBankRoutingNumber, "routing number 111000026"),
    (Kind::UsIndividualTaxIdentificationNumber, "ITIN 911-89-1234"),
    (Kind::UsPassportNumber, "passport of 2019"),
    (Kind::UsSocialSecurityNumber, "ssn 666-90-4399"),
    (Kind::UsSocialSecurityNumber, "ssn 536-00-4399"),
    (Kind::VehicleIdentificationNumber, "ABCDEFGHJKLMNPRST"),
];

#[test]
fn every_kind_is_found_where_it_stands() {
    let recognizer = PiiRecognizer::all();
    let mut wrong = Vec::new();
    for (kind, marked) in FOUND {
        let text = marked.replace("[[", "").replace("]]", "");
        let start = marked.find("[[").unwrap();
        let end = marked.find("]]").unwrap() - 2;
        let found = recognizer.find(&text);
        if !found.iter().any(|finding| finding.kind == *kind && finding.span == (start..end)) {
            let found: Vec<_> = found.iter().map(|f| (f.kind.as_str(), &text[f.span.clone()], f.score)).collect();
            wrong.push(format!("{} {marked}: {found:?}", kind.as_str()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(KINDS.iter().all(|kind| FOUND.iter().any(|(known, _)| known == kind)), "every kind has an example");
}

#[test]
fn look_alikes_are_left_alone() {
    let mut wrong = Vec::new();
    for (kind, text) in NOT_FOUND {
        for finding in PiiRecognizer::new([kind.clone()]).find(text) {
            wrong.push(format!("{} {text}: {:?} {}", kind.as_str(), &text[finding.span.clone()], finding.score));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(KINDS.iter().all(|kind| NOT_FOUND.iter().any(|(known, _)| known == kind)), "every kind has a look-alike");
}

#[test]
fn long_and_hostile_texts_take_linear_time() {
    let recognizer = PiiRecognizer::all();
    for piece in [
        "a.",
        "1-",
        "@a",
        "::",
        "A ",
        "1 ",
        "http://",
        "x@x.",
        "AB12",
        "-",
        "{",
        "corner of ",
        "password is ",
        "é",
        "(1)",
        "9",
    ] {
        let text = piece.repeat(60_000 / piece.len());
        let start = std::time::Instant::now();
        recognizer.find(&text);
        assert!(start.elapsed().as_secs() < 20, "{piece:?} took {:?}", start.elapsed());
    }
}

#[test]
fn a_unit_after_a_cue_does_not_hide_its_street() {
    let text = "Billing address: Sara Schwarz\n    28245 Puruntie 82 Apt. 595\n   LAPPEENRANTA";
    let found = PiiRecognizer::new([Kind::Address]).find(text);
    assert_eq!(found.iter().map(|found| &text[found.span.clone()]).collect::<Vec<_>>(), ["28245 Puruntie 82 Apt. 595"]);
}
