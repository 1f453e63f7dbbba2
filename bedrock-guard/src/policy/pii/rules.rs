//! The kinds that have a written form: one table, one row a form.
//!
//! Scores say how sure the form alone is, for a reader who sees nothing else:
//! - 0.85 and more: check digits or an unmistakable form;
//! - 0.5 to 0.8: a form that little else has; reported as it is;
//! - below 0.5: digits that could be many things; reported only with a cue word before them, or alone in the text.

use bedrock_core::GuardrailPiiEntityType as Kind;

use super::marks::Anchor;
use super::rule::Judgement::{Part, Score, Shape};
use super::rule::{Judgement, Match, Near, Rule};
use super::{checksum, lists, tld};

const NO_CUES: &[&str] = &[];

pub(crate) const RULES: &[Rule] = &[
    // --- network -------------------------------------------------------------------------------------------------
    Rule {
        kind: Kind::Email,
        // RFC 5322 without quoted local parts and comments.
        pattern: r"(?i)(?u:[a-z0-9\u{c0}-\u{1fff}\u{2c00}-\u{2dff}\u{3040}-\u{d7ff}!#$%&'*+/=?^_`{|}~.-]){1,64}@(?:(?u:[a-z0-9\u{c0}-\u{1fff}\u{2c00}-\u{2dff}\u{3040}-\u{d7ff}-]){1,63}\.){1,8}(?:xn--[a-z0-9-]{1,59}|[a-z]{2,24}|(?u:[\u{c0}-\u{1fff}\u{2c00}-\u{2dff}\u{3040}-\u{d7ff}]){2,24})",
        anchor: Anchor::At,
        near: Near::Anything,
        base: 0.0,
        alone: 0.0,
        cues: NO_CUES,
        judge: email,
    },
    Rule {
        kind: Kind::Url,
        pattern: r#"(?i)\b(?:https?|ftps?|sftp|wss?|s3|ldaps?|ssh|file)://(?u:[^\s<>"'`\\{}|^])+"#,
        anchor: Anchor::Scheme,
        near: Near::Anything,
        base: 0.95,
        alone: 0.0,
        cues: NO_CUES,
        judge: url,
    },
    Rule {
        kind: Kind::Url,
        pattern: r#"(?i)(?:(?u:[a-z0-9\u{c0}-\u{1fff}\u{2c00}-\u{2dff}\u{3040}-\u{d7ff}-]){1,63}\.){1,8}(?:xn--[a-z0-9-]{1,59}|[a-z]{2,24})(?::[0-9]{1,5})?(?:[/?#](?u:[a-z0-9\u{c0}-\u{1fff}\u{2c00}-\u{2dff}\u{3040}-\u{d7ff}._~:/?#@!$&()*+,;=%\[\]-]){0,200})?"#,
        anchor: Anchor::Dot,
        near: Near::Anything,
        base: 0.6,
        alone: 0.0,
        cues: NO_CUES,
        judge: domain,
    },
    Rule {
        kind: Kind::IpAddress,
        pattern: r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}",
        anchor: Anchor::Digits(4),
        near: Near::Anything,
        base: 0.8,
        alone: 0.0,
        cues: &["ip", "ipv4", "host", "server", "address", "subnet", "gateway", "dns", "client"],
        judge: ipv4,
    },
    Rule {
        kind: Kind::IpAddress,
        pattern: r"(?i)[0-9a-f:][0-9a-f:.]{1,60}",
        anchor: Anchor::Colon,
        near: Near::Anything,
        base: 0.9,
        alone: 0.0,
        cues: NO_CUES,
        judge: ipv6,
    },
    Rule {
        kind: Kind::MacAddress,
        pattern: r"(?i)\b[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}\b",
        anchor: Anchor::Joint,
        near: Near::Anything,
        base: 0.9,
        alone: 0.0,
        cues: NO_CUES,
        judge: mac,
    },
    Rule {
        kind: Kind::MacAddress,
        pattern: r"(?i)\b[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}\b",
        anchor: Anchor::Dot,
        near: Near::Anything,
        base: 0.85,
        alone: 0.0,
        cues: NO_CUES,
        judge: mac,
    },
    Rule {
        kind: Kind::Username,
        pattern: r#"(?i)\b(?:user[ _-]?names?|user[ _-]?id|login(?:[ _-]?(?:name|id))?|log[ -]?in (?:name|id)|screen[ _-]?name|nick[ _-]?name|handle|account[ _-]?name|username)(?: (?:on|for|at) [a-z]{2,20})?(?:\s{0,2}[:=]\s{0,2}|\s(?:is|as|was)\s(?:now\s)?)["'`@]{0,2}(?P<v>(?u:[a-z0-9\u{c0}-\u{1fff}\u{2c00}-\u{2dff}\u{3040}-\u{d7ff}_])(?u:[a-z0-9\u{c0}-\u{1fff}\u{2c00}-\u{2dff}\u{3040}-\u{d7ff}._@-]){1,62}(?u:[a-z0-9\u{c0}-\u{1fff}\u{2c00}-\u{2dff}\u{3040}-\u{d7ff}_]))"#,
        anchor: Anchor::Word,
        near: Near::Words(&["user", "login", "log in", "log-in", "screen", "nick", "handle", "account"]),
        base: 0.8,
        alone: 0.0,
        cues: NO_CUES,
        judge: username,
    },
    Rule {
        kind: Kind::Username,
        pattern: r"(?i)@[a-z_][a-z0-9_.]{1,29}[a-z0-9_]\b",
        anchor: Anchor::At,
        near: Near::Anything,
        base: 0.6,
        alone: 0.0,
        cues: NO_CUES,
        judge: handle,
    },
    Rule {
        kind: Kind::Password,
        pattern: r#"(?i)\b(?:pass[ _-]?(?:word|code|phrase|wd)|passwd|pwd|pass|kennwort|passwort|contraseña|mot de passe)(?:\s{0,2}[:=]\s{0,2}|\s(?:is|was|to|are)(?: now)?[: ]\s{0,2})(?P<v>(?u:[^\s]){3,64})"#,
        anchor: Anchor::Word,
        near: Near::Words(&["pass", "pwd", "kennwort", "contraseña", "mot de passe"]),
        base: 0.8,
        alone: 0.0,
        cues: NO_CUES,
        judge: password,
    },
    Rule {
        kind: Kind::AwsAccessKey,
        pattern: r"\b(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AIPA|ANPA|ANVA|APKA|AROA|ASCA)[A-Z0-9]{16}\b",
        anchor: Anchor::Capitals,
        near: Near::Anything,
        base: 0.95,
        alone: 0.0,
        cues: NO_CUES,
        judge: shape,
    },
    Rule {
        kind: Kind::AwsSecretKey,
        pattern: r"[A-Za-z0-9/+]{40}",
        anchor: Anchor::Digits(1),
        near: Near::Cue,
        base: 0.4,
        alone: 0.6,
        cues: &["secret", "aws", "key", "credential"],
        judge: aws_secret,
    },
    // --- payment -------------------------------------------------------------------------------------------------
    Rule {
        kind: Kind::CreditDebitCardNumber,
        pattern: r"\b[0-9](?:[ -]?[0-9]){11,18}\b",
        anchor: Anchor::Digits(12),
        near: Near::Anything,
        base: 0.3,
        alone: 0.6,
        cues: &[
            "card",
            "credit",
            "debit",
            "visa",
            "mastercard",
            "amex",
            "american express",
            "discover",
            "jcb",
            "diners",
            "payment",
            "cc",
        ],
        judge: card,
    },
    Rule {
        kind: Kind::CreditDebitCardNumber,
        pattern: r"(?i)\b(?:ending|ends|end)(?:\s(?:in|with|on))?(?:\s?:)?\s(?:digits\s)?(?P<v>[0-9]{4})\b",
        anchor: Anchor::Digits(4),
        near: Near::Words(&["end"]),
        base: 0.2,
        alone: 0.0,
        cues: &["card", "visa", "mastercard", "amex", "credit", "debit"],
        judge: shape,
    },
    Rule {
        kind: Kind::CreditDebitCardNumber,
        pattern: r"(?i)\blast (?:4|four)(?: digits)?(?: (?:of|on) (?:my|the|your|his|her|our|their)(?: [a-z]{2,12}){0,2} card)?(?: number)?(?: (?:is|are|was|were))?\s?:?\s?(?P<v>[0-9]{4})\b",
        anchor: Anchor::Digits(4),
        near: Near::Words(&["last"]),
        base: 0.45,
        alone: 0.0,
        cues: &["card", "visa", "mastercard", "amex", "credit", "debit"],
        judge: last_four,
    },
    Rule {
        kind: Kind::CreditDebitCardCvv,
        pattern: r"(?i)\b(?:cvv2?|cvc2?|cvn2?|cid|csc|card (?:security|verification)(?: (?:code|value|number))?|security (?:code|number)|verification (?:code|value))(?:\s?\([a-z0-9/ ]{2,12}\))?(?:\s(?:code|number|no\.?|#|on [a-z ]{2,20}))?(?:\s(?:is|was|of))?\s{0,2}[:=#-]?\s{0,2}(?P<v>[0-9]{3,4})\b",
        anchor: Anchor::Digits(3),
        near: Near::Words(&["cvv", "cvc", "cvn", "cid", "csc", "card", "security", "verification"]),
        base: 0.85,
        alone: 0.0,
        cues: NO_CUES,
        judge: shape,
    },
    Rule {
        kind: Kind::CreditDebitCardExpiry,
        pattern: r"\b(?:0[1-9]|1[0-2])\s?[/-]\s?(?:20)?[0-9]{2}\b",
        anchor: Anchor::Digits(3),
        near: Near::Cue,
        base: 0.2,
        alone: 0.6,
        cues: &["exp", "expiry", "expires", "expiration", "expiring", "valid", "thru", "through", "card", "good until"],
        judge: expiry,
    },
    Rule {
        kind: Kind::CreditDebitCardExpiry,
        pattern: r"(?i)\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?,?\s(?:20)?[0-9]{2}\b",
        anchor: Anchor::Digits(2),
        near: Near::Cue,
        base: 0.1,
        alone: 0.0,
        cues: &[
            "exp",
            "expiry",
            "expires",
            "expiration",
            "expiring",
            "valid thru",
            "valid until",
            "valid through",
            "good thru",
        ],
        judge: shape,
    },
    Rule {
        kind: Kind::Pin,
        pattern: r"(?i)\b(?:pin|p\.i\.n\.|personal identification number)(?:[ -]?(?:code|number|no\.?|#))?(?: (?:for|of|on|to) (?:my|the|your|his|her|our|this)(?: [a-z]{2,12}){1,3})?(?:\s(?:is|was|as|to|now|of))?\s{0,2}[:=#-]?\s{0,2}(?P<v>[0-9]{4,6})\b",
        anchor: Anchor::Digits(4),
        near: Near::Words(&["pin", "p.i.n.", "personal"]),
        base: 0.85,
        alone: 0.0,
        cues: NO_CUES,
        judge: shape,
    },
    Rule {
        kind: Kind::InternationalBankAccountNumber,
        pattern: r"(?i)\b[a-z]{2}[0-9]{2}(?:[ -]?[a-z0-9]){11,30}\b",
        anchor: Anchor::Paired,
        near: Near::Anything,
        base: 0.95,
        alone: 0.0,
        cues: NO_CUES,
        judge: iban,
    },
    Rule {
        kind: Kind::SwiftCode,
        pattern: r"\b[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\b",
        anchor: Anchor::Capitals,
        near: Near::Anything,
        base: 0.2,
        alone: 0.55,
        cues: &["swift", "bic", "bank identifier", "iban", "wire"],
        judge: swift,
    },
    Rule {
        kind: Kind::UsBankAccountNumber,
        pattern: r"\b[0-9](?:[ -]?[0-9]){7,16}\b",
        anchor: Anchor::Digits(8),
        near: Near::Cue,
        base: 0.1,
        alone: 0.0,
        cues: &["account", "acct", "a/c", "bank", "savings", "checking", "chequing", "deposit"],
        judge: bank_account,
    },
    Rule {
        kind: Kind::UsBankRoutingNumber,
        pattern: r"\b[0-9]{4}-?[0-9]{4}-?[0-9]\b",
        anchor: Anchor::Digits(9),
        near: Near::Anything,
        base: 0.3,
        alone: 0.5,
        cues: &["routing", "aba", "rtn", "transit", "bank"],
        judge: routing,
    },
    // --- people and states ---------------------------------------------------------------------------------------
    Rule {
        kind: Kind::Phone,
        // International: +, country, groups.
        pattern: r"(?:\+|\b00)[1-9][0-9]{0,2}(?:[ .-]{0,2}(?:\([0-9]{1,5}\)|[0-9]{1,12})){1,7}(?:\s{0,2}(?:ext\.?|x|extension)\s{0,2}[0-9]{1,6})?\b",
        anchor: Anchor::Digits(7),
        near: Near::Anything,
        base: 0.85,
        alone: 0.0,
        cues: NO_CUES,
        judge: phone_international,
    },
    Rule {
        kind: Kind::Phone,
        // North American, with separators.
        pattern: r"(?i)(?:\b(?:1|91)[ .-]?)?(?:\([2-9][0-9]{2}\)[ .-]{0,2}|\b[2-9][0-9]{2}[ ./-])[2-9][0-9]{2}[ .-]?[0-9]{4}(?:\s{0,2}(?:ext\.?|x|extension)\s{0,2}[0-9]{1,6})?\b",
        anchor: Anchor::Digits(10),
        near: Near::Anything,
        base: 0.75,
        alone: 0.0,
        cues: PHONE_CUES,
        judge: phone_separated,
    },
    Rule {
        kind: Kind::Phone,
        // National with a trunk 0, or an area code in parentheses.
        pattern: r"(?:\(0?[0-9]{1,5}\)[ ./-]{0,2}|\b0[0-9]{1,5}(?:[ ./-]|\b))(?:[0-9]{1,8}[ ./-]{0,2}){1,6}\b",
        anchor: Anchor::Digits(7),
        near: Near::Anything,
        base: 0.5,
        alone: 0.6,
        cues: PHONE_CUES,
        judge: phone_national,
    },
    Rule {
        kind: Kind::Phone,
        // Other groupings, and digits without any.
        pattern: r"\b[0-9]{1,4}(?:[ .-][0-9]{2,6}){1,5}\b|\b[0-9]{7,15}\b",
        anchor: Anchor::Digits(7),
        near: Near::Anything,
        base: 0.1,
        alone: 0.0,
        cues: PHONE_CUES,
        judge: phone_loose,
    },
    Rule {
        kind: Kind::UsSocialSecurityNumber,
        pattern: r"\b[0-9]{3}[-. ]?[0-9]{2}[-. ]?[0-9]{4}\b",
        anchor: Anchor::Digits(9),
        near: Near::Anything,
        base: 0.2,
        alone: 0.55,
        cues: &["ssn", "social security", "social sec", "ss#", "ss number", "soc sec", "ssns"],
        judge: ssn,
    },
    Rule {
        kind: Kind::UsIndividualTaxIdentificationNumber,
        pattern: r"\b9[0-9]{2}[- ]?(?:5[0-9]|6[0-5]|7[0-9]|8[0-8]|9[0-24-9])[- ]?[0-9]{4}\b",
        anchor: Anchor::Digits(9),
        near: Near::Anything,
        base: 0.3,
        alone: 0.58,
        cues: &["itin", "individual taxpayer", "individual tax", "tax id", "taxpayer", "tax identification", "tin"],
        judge: itin,
    },
    Rule {
        kind: Kind::UsPassportNumber,
        pattern: r"(?i)\b(?:[a-z][0-9]{8}|[0-9]{9}|[a-z]{1,2}[0-9]{6,7})\b",
        anchor: Anchor::Digits(6),
        near: Near::Cue,
        base: 0.1,
        alone: 0.5,
        cues: &["passport", "travel document"],
        judge: no_separators_around,
    },
    Rule {
        kind: Kind::UsPassportNumber,
        pattern: r"\b[A-Z][0-9]{8}\b",
        anchor: Anchor::Digits(8),
        near: Near::Cue,
        base: 0.2,
        alone: 0.52,
        cues: NO_CUES,
        judge: no_separators_around,
    },
    Rule {
        kind: Kind::DriverId,
        // State forms of the United States: 1 or 2 letters and digits, digits, or groups with hyphens.
        pattern: r"(?i)\b(?:[a-z][0-9]{3,14}|[a-z]{2}[0-9]{2,7}[a-z]?|[0-9]{7,12}|[a-z][0-9]{3}(?:-[0-9]{3,4}){2,3}(?:-[0-9]{1,3})?|[0-9]{2}-[0-9]{3}-[0-9]{4}|[a-z]{1,3}[-*][0-9]{2,6}(?:-[0-9]{2,6}){0,3})\b",
        anchor: Anchor::Digits(4),
        near: Near::Cue,
        base: 0.1,
        alone: 0.0,
        cues: &["driver", "drivers", "driving", "license", "licence", "lic", "permit", "dl", "dl#", "dmv"],
        judge: driver,
    },
    Rule {
        kind: Kind::DriverId,
        pattern: r"(?i)\b[a-z][0-9]{7,12}\b",
        anchor: Anchor::Digits(7),
        near: Near::Cue,
        base: 0.1,
        alone: 0.5,
        cues: NO_CUES,
        judge: driver,
    },
    Rule {
        kind: Kind::DriverId,
        // Great Britain: name, birth date, initials.
        pattern: r"(?i)\b[a-z][a-z9]{4}[0-9]{6}[a-z9]{2}[a-z0-9][a-z0-9]{2}\b",
        anchor: Anchor::Led,
        near: Near::Anything,
        base: 0.5,
        alone: 0.0,
        cues: &["driver", "driving", "licence", "license"],
        judge: driver_gb,
    },
    Rule {
        kind: Kind::LicensePlate,
        // Great Britain since 2001: AB51 ABC.
        pattern: r"(?i)\b[a-hj-pr-y]{2}[0-9]{2}[ -]?[a-hj-pr-z]{3}\b",
        anchor: Anchor::Paired,
        near: Near::Anything,
        base: 0.55,
        alone: 0.6,
        cues: PLATE_CUES,
        judge: plate_gb_current,
    },
    Rule {
        kind: Kind::LicensePlate,
        // Great Britain before 2001: A123 ABC and ABC 123D.
        pattern: r"(?i)\b(?:[a-hj-npr-tv-y][0-9]{1,3}[ -]?[a-hj-pr-y][a-hj-z]{2}|[a-hj-pr-y][a-hj-z]{2}[ -]?[0-9]{1,3}[a-hj-npr-tv-y])\b",
        anchor: Anchor::Digits(1),
        near: Near::Cue,
        base: 0.25,
        alone: 0.52,
        cues: PLATE_CUES,
        judge: capitals,
    },
    Rule {
        kind: Kind::LicensePlate,
        pattern: r"(?i)\b[a-z0-9]{1,4}[ -]?[a-z0-9]{2,5}\b",
        anchor: Anchor::Digits(1),
        near: Near::Cue,
        base: 0.1,
        alone: 0.0,
        cues: PLATE_CUES,
        judge: plate,
    },
    Rule {
        kind: Kind::VehicleIdentificationNumber,
        pattern: r"(?i)\b[a-hj-npr-z0-9]{17}\b",
        anchor: Anchor::Digits(1),
        near: Near::Anything,
        base: 0.2,
        alone: 0.55,
        cues: &["vin", "vehicle", "chassis", "car"],
        judge: vin,
    },
    Rule {
        kind: Kind::CaHealthNumber,
        pattern: r"(?i)\b[0-9]{4}[- ]?[0-9]{3}[- ]?[0-9]{3}\b(?:[- ]?[a-z]{2}\b)?",
        anchor: Anchor::Digits(10),
        near: Near::Anything,
        base: 0.15,
        alone: 0.0,
        cues: &["health card", "health number", "health insurance", "ohip", "hcn", "hc#", "phn", "health"],
        judge: health_ca,
    },
    Rule {
        kind: Kind::CaSocialInsuranceNumber,
        pattern: r"\b[1-79][0-9]{2}[- ]?[0-9]{3}[- ]?[0-9]{3}\b",
        anchor: Anchor::Digits(9),
        near: Near::Anything,
        base: 0.25,
        alone: 0.56,
        cues: &["sin", "social insurance", "insurance number", "sin#"],
        judge: sin,
    },
    Rule {
        kind: Kind::UkNationalHealthServiceNumber,
        pattern: r"\b[0-9]{3}[- ]?[0-9]{3}[- ]?[0-9]{4}\b",
        anchor: Anchor::Digits(10),
        near: Near::Anything,
        base: 0.3,
        alone: 0.57,
        cues: &["nhs", "national health", "health service", "patient"],
        judge: nhs,
    },
    Rule {
        kind: Kind::UkNationalInsuranceNumber,
        pattern: r"(?i)\b[a-ceghj-prtw-z][a-ceghj-nprtw-z][ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[a-d]\b",
        anchor: Anchor::Digits(6),
        near: Near::Anything,
        base: 0.85,
        alone: 0.0,
        cues: NO_CUES,
        judge: nino,
    },
    Rule {
        kind: Kind::UkUniqueTaxpayerReferenceNumber,
        pattern: r"(?i)\b[0-9]{5}[ -]?[0-9]{5}k?\b",
        anchor: Anchor::Digits(10),
        near: Near::Cue,
        base: 0.25,
        alone: 0.51,
        cues: &["utr", "unique taxpayer", "taxpayer", "self assessment", "self-assessment", "hmrc", "tax reference"],
        judge: utr,
    },
    // --- parts of addresses that stand alone; whole addresses are read by a grammar -------------------------------
    Rule {
        kind: Kind::Address,
        pattern: r"(?i)\b(?:p\.?\s?o\.?\s?box|post(?:al)?\s?box|postbox|postboks|postfach|apartado(?: de correos)?|casilla)\s(?:no\.?\s)?[0-9]{1,7}\b",
        anchor: Anchor::Digits(1),
        near: Near::Words(&["box", "obox", "pobox", "post", "apartado", "casilla"]),
        base: 0.8,
        alone: 0.0,
        cues: ADDRESS_CUES,
        judge: shape,
    },
    Rule {
        kind: Kind::Address,
        // Military post of the United States.
        pattern: r"(?i)\b(?:(?:psc|cmr|unit|uss)\s[a-z0-9]{1,12},?\s(?:box\s[0-9]{1,6},?\s{0,3})?)?[adf]po,?\s{1,2}a[aep],?\s{1,2}[0-9]{5}(?:-[0-9]{4})?\b",
        anchor: Anchor::Digits(5),
        near: Near::Words(&["apo", "fpo", "dpo"]),
        base: 0.9,
        alone: 0.0,
        cues: ADDRESS_CUES,
        judge: shape,
    },
    Rule {
        kind: Kind::Address,
        pattern: r"\b[A-Z]{2},?\s{1,2}[0-9]{5}(?:-[0-9]{4})?\b",
        anchor: Anchor::Digits(5),
        near: Near::Anything,
        base: 0.65,
        alone: 0.0,
        cues: ADDRESS_CUES,
        judge: state_and_zip,
    },
    Rule {
        kind: Kind::Address,
        // Postcode of the United Kingdom.
        pattern: r"\b(?:GIR ?0AA|[A-PR-UWYZ](?:[0-9]{1,2}|[A-HK-Y][0-9](?:[0-9]|[ABEHMNPRV-Y])?|[0-9][A-HJKPS-UW])\s?[0-9][ABD-HJLNP-UW-Z]{2})\b",
        anchor: Anchor::Inward,
        near: Near::Anything,
        base: 0.55,
        alone: 0.0,
        cues: ADDRESS_CUES,
        judge: postcode_gb,
    },
    Rule {
        kind: Kind::Address,
        pattern: r"(?i)\b(?:apt|apartment|suite|ste|flat)\.?\s?(?:no\.?\s?|#\s?)?[0-9]{1,5}[a-z]?\b",
        anchor: Anchor::Digits(1),
        near: Near::Words(&["apt", "apartment", "suite", "ste", "flat"]),
        base: 0.55,
        alone: 0.0,
        cues: ADDRESS_CUES,
        judge: shape,
    },
    Rule {
        kind: Kind::Address,
        pattern: r"(?i)\b(?:zip|postal|post)[ -]?(?:code)?\s?(?:is|was|:)?\s?(?P<v>[0-9]{4,6}(?:-[0-9]{4})?)\b",
        anchor: Anchor::Digits(4),
        near: Near::Words(&["zip", "post"]),
        base: 0.55,
        alone: 0.0,
        cues: ADDRESS_CUES,
        judge: shape,
    },
    // --- age -----------------------------------------------------------------------------------------------------
    Rule {
        kind: Kind::Age,
        pattern: r"(?i)\b(?P<v>(?:1[0-4][0-9]|[1-9]?[0-9])(?:[ -]{1,2}(?:and a half[ -])?(?:years?|yrs?|months?|mos?|weeks?|days?)|[ -]?(?:y/?o|y\.o\.)))(?:[ -]{1,2}olds?\b|\b)(?:\s(?:of|ago|experience|later|from|in|for|before|after|warranty|contract)\b)?",
        anchor: Anchor::Aged,
        near: Near::Anything,
        base: 0.0,
        alone: 0.0,
        cues: NO_CUES,
        judge: age,
    },
    Rule {
        kind: Kind::Age,
        pattern: r"(?i)\b(?:aged?|ages|turned|turning|turns)(?:\s(?:just|about|around|nearly|almost|only|of|is|was|will be))?\s?[:=]?\s?(?P<v>1[0-4][0-9]|[1-9]?[0-9])\b(?:\s?(?:%|percent|degrees|pages?|times|points?|to one)|[.,:/-][0-9])?",
        anchor: Anchor::Digits(1),
        near: Near::Words(&["age", "turn"]),
        base: 0.7,
        alone: 0.0,
        cues: NO_CUES,
        judge: age_cued,
    },
    Rule {
        kind: Kind::Age,
        pattern: r"(?i)\b(?:(?:i|he|she|who|they|you)(?:\s(?:just|only|now|already))?(?:'m|’m|'s|’s|\sam|\sis|\swas|\swere|\sare|'re|’re)(?:\s(?:now|only|just|about|almost|nearly|already|over))?|when (?:he|she|i|they) (?:was|were)|at the age of|at age)\s(?P<v>[1-9][0-9]?|1[0-4][0-9])(?:\s(?:and|but|when|now|years?|this|next|so|who)\b|\s?[.!?;)](?:\s|$)|,\s)",
        anchor: Anchor::Told,
        near: Near::Anything,
        base: 0.6,
        alone: 0.0,
        cues: NO_CUES,
        judge: shape,
    },
];

#[rustfmt::skip]
const PHONE_CUES: &[&str] = &[
    "phone", "tel", "telephone", "call", "mobile", "cell", "fax", "pager", "reach", "ring", "dial", "text", "sms",
    "whatsapp", "contact", "hotline", "number is", "desk", "landline", "answering at", "messages to",
];
const PLATE_CUES: &[&str] = &[
    "plate",
    "plates",
    "registration",
    "reg",
    "tag",
    "licence plate",
    "license plate",
    "number plate",
    "vehicle",
    "vrn",
];

#[rustfmt::skip]
pub(crate) const ADDRESS_CUES: &[&str] = &[
    "address", "addresses", "lives", "live at", "located", "residence", "reside", "residing", "deliver", "delivered",
    "ship", "shipped", "sent to", "send", "meet", "meeting", "office", "offices", "moved to", "where", "street",
    "billing", "home", "corner",
];

fn shape(_: &Match<'_>) -> Option<Judgement> {
    Some(Shape)
}

/// No digit group before it that it would be a part of.
fn no_separators_around(found: &Match<'_>) -> Option<Judgement> {
    (!found.continues_left(&['-', '.', '/'])).then_some(Shape)
}

fn capitals(found: &Match<'_>) -> Option<Judgement> {
    if found.continues_left(&['-', '.']) {
        return None;
    }
    if found.text().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Some(Score(0.05));
    }
    Some(Shape)
}

fn email(found: &Match<'_>) -> Option<Judgement> {
    let text = found.text();
    if found.after().is_some_and(|next| next.is_ascii_alphanumeric() || next == '_') {
        return None;
    }
    // Scripts without blanks put the word before right in front of an address.
    let ascii = text.rfind(|c: char| c >= '\u{2e80}').map_or(0, |at| text.ceil_char_boundary(at + 1));
    let ascii = if text[ascii..].starts_with('@') || !text[ascii..].contains('@') { 0 } else { ascii };
    // Quotes and brackets around an address are not part of it; neither are leading dots.
    let rest = &text[ascii..];
    let cut =
        ascii + rest.len() - rest.trim_start_matches(['.', '\'', '`', '{', '|', '}', '/', '=', '*', '&', '?']).len();
    let (local, domain) = text[cut..].split_once('@')?;
    if local.is_empty()
        || local.ends_with('.')
        || local.contains("..")
        || domain.contains("-.")
        || domain.contains(".-")
    {
        return None;
    }
    let top = domain.rsplit('.').next()?;
    let known = tld::is_known(top) || top.starts_with("xn--") || !top.is_ascii();
    Some(Part(found.span.start + cut..found.span.end, if known { 0.95 } else { 0.7 }))
}

/// Cuts what a sentence puts behind an address.
fn trim_url(text: &str) -> &str {
    let mut text = text;
    loop {
        let shorter = text.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*', '’', '”', '»', '…']);
        let shorter = match shorter.chars().next_back() {
            Some(')') if shorter.matches('(').count() < shorter.matches(')').count() => &shorter[..shorter.len() - 1],
            Some(']') if shorter.matches('[').count() < shorter.matches(']').count() => &shorter[..shorter.len() - 1],
            _ => shorter,
        };
        if shorter.len() == text.len() {
            return text;
        }
        text = shorter;
    }
}

fn url(found: &Match<'_>) -> Option<Judgement> {
    let trimmed = trim_url(found.text());
    let host = trimmed.split_once("://")?.1;
    (!host.is_empty()).then(|| Part(found.span.start..found.span.start + trimmed.len(), 0.95))
}

/// A name without a scheme: `www.`, or a top-level domain that is no word and no file extension.
fn domain(found: &Match<'_>) -> Option<Judgement> {
    if found
        .before()
        .is_some_and(|c| c.is_alphanumeric() || matches!(c, '@' | '/' | '\\' | '_' | '-' | '.' | '=' | '%'))
    {
        return None;
    }
    let trimmed = trim_url(found.text());
    let host = trimmed.split(['/', '?', '#', ':']).next()?;
    let path = trimmed.len() > host.len();
    if !path && found.after().is_some_and(|c| c.is_alphanumeric() || matches!(c, '@' | '_' | '(' | '-')) {
        return None;
    }
    let mut labels = host.rsplit('.');
    let top = labels.next()?;
    let rest: Vec<&str> = labels.collect();
    if rest.iter().any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-')) {
        return None;
    }
    let www = rest.last().is_some_and(|label| label.eq_ignore_ascii_case("www"));
    if !tld::is_known(top) || (www && rest.len() < 2) {
        return None;
    }
    // "sentence.It", "e.g.in": a capital after the dot or one-letter labels are punctuation, not a name.
    let mixed = top.bytes().any(|b| b.is_ascii_uppercase()) && host.bytes().any(|b| b.is_ascii_lowercase());
    let score = if www {
        0.9
    } else if mixed
        || rest.iter().all(|label| label.len() == 1)
        || rest.iter().all(|l| l.bytes().all(|b| b.is_ascii_digit()))
    {
        return None;
    } else if tld::is_ambiguous(top) && !path {
        if rest.len() < 2 {
            return None;
        }
        0.5
    } else if path {
        0.8
    } else {
        0.6
    };
    Some(Part(found.span.start..found.span.start + trimmed.len(), score))
}

fn ipv4(found: &Match<'_>) -> Option<Judgement> {
    let neighbour = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if neighbour(found.before()) || neighbour(found.after()) || found.continues_left(&['.', ':']) {
        return None;
    }
    let octets: Option<Vec<u8>> = found
        .text()
        .split('.')
        .map(|octet| if octet.len() > 1 && octet.starts_with('0') { None } else { octet.parse().ok() })
        .collect();
    octets?;
    let left = found.window.look_behind(found.span.start, 12).to_ascii_lowercase();
    let version = left.trim_end().ends_with("version") || left.trim_end().ends_with("release") || left.ends_with(" v");
    Some(if version { Score(0.3) } else { Shape })
}

fn ipv6(found: &Match<'_>) -> Option<Judgement> {
    let text = found.text();
    if !text.contains(':') || text.bytes().filter(|byte| *byte == b':').count() < 2 {
        return None;
    }
    if found.before().is_some_and(|c| c.is_alphanumeric() || matches!(c, ':' | '_' | '.')) {
        return None;
    }
    // The sentence's own dot or colon is not part of the address.
    let mut candidate = text.trim_end_matches('.');
    if candidate.ends_with(':') && !candidate.ends_with("::") {
        candidate = &candidate[..candidate.len() - 1];
    }
    if candidate.len() == text.len() && found.after().is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let address: std::net::Ipv6Addr = candidate.parse().ok()?;
    let span = found.span.start..found.span.start + candidate.len();
    // "::" between words is an operator; alone or in front of a prefix length it is the unspecified address.
    if address.is_unspecified() && found.before().is_some_and(|c| !c.is_whitespace() && c != '=') {
        return None;
    }
    Some(Part(span, if candidate.len() < 5 { 0.6 } else { 0.95 }))
}

fn mac(found: &Match<'_>) -> Option<Judgement> {
    let separators = found.separators();
    let bytes = found.alphanumerics();
    if separators.windows(2).any(|pair| pair[0] != pair[1])
        || bytes.iter().all(|byte| *byte == bytes[0])
        || matches!(found.after(), Some(':'))
        || matches!(found.before(), Some(':' | '.'))
        || found.continues_left(&['-'])
    {
        return None;
    }
    Some(Shape)
}

/// Values that a sentence about logins has, rather than a login.
#[rustfmt::skip]
const NOT_A_VALUE: &[&str] = &[
    "required", "incorrect", "correct", "invalid", "valid", "wrong", "not", "the", "too", "and", "for", "with",
    "reset", "expired", "changed", "missing", "empty", "case", "already", "taken", "unavailable", "available",
    "protected", "stored", "never", "always", "your", "you", "that", "this", "what", "null", "none", "true", "false",
    "my", "his", "her", "their", "our", "a", "an", "to", "of", "weak", "strong", "hashed", "encrypted", "set", "being",
    "in", "on", "at", "it", "sent", "asked", "must", "should", "same", "different", "visible", "hidden", "unique",
    "displayed", "shown", "longer", "short", "long", "only", "also", "now", "still",
];

fn username(found: &Match<'_>) -> Option<Judgement> {
    let text = found.text();
    if NOT_A_VALUE.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return None;
    }
    Some(Shape)
}

fn handle(found: &Match<'_>) -> Option<Judgement> {
    if found
        .before()
        .is_some_and(|c| !c.is_whitespace() && !matches!(c, '(' | '"' | '\'' | ',' | ':' | '[' | '/' | '“'))
    {
        return None;
    }
    let text = found.text().trim_start_matches('@');
    const CODE: &[&str] = &[
        "media",
        "import",
        "property",
        "override",
        "param",
        "return",
        "returns",
        "test",
        "font-face",
        "keyframes",
        "deprecated",
    ];
    if CODE.contains(&text) || text.contains("..") || matches!(found.after(), Some('(' | '@')) {
        return None;
    }
    Some(Part(found.span.start..found.span.end, 0.6))
}

fn password(found: &Match<'_>) -> Option<Judgement> {
    let text = found.text();
    let quoted = text.starts_with(['"', '\'', '`', '“', '‘']);
    let open = text.len() - text.trim_start_matches(['"', '\'', '`', '“', '‘']).len();
    let mut value = text[open..].trim_end_matches(['"', '\'', '`', '”', '’']);
    if value.len() == text.len() - open {
        // Without quotes the sentence's own sign goes; inside quotes it is part of the secret.
        value = value.trim_end_matches(['.', ',', ';', ')', ']', '}', '"', '\'', '`']);
    }
    let bare = value.trim_end_matches(['.', ',', ';', '!', '?']);
    if value.len() < 3 || NOT_A_VALUE.iter().any(|word| bare.eq_ignore_ascii_case(word)) {
        return None;
    }
    let assigned = found.window.look_behind(found.span.start, 4).trim_end().ends_with([':', '=']);
    let mixed = value.bytes().any(|b| b.is_ascii_digit())
        || bare.bytes().any(|b| b.is_ascii_punctuation() && !matches!(b, b'-' | b'\''))
        || value.bytes().skip(1).any(|b| b.is_ascii_uppercase());
    if !(assigned || quoted || mixed) {
        return None;
    }
    let start = found.span.start + open;
    Some(Part(start..start + value.len(), if mixed { 0.9 } else { 0.7 }))
}

fn aws_secret(found: &Match<'_>) -> Option<Judgement> {
    let outside =
        |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '+' | '=' | '_' | '-'));
    let assigned = found.before() == Some('=');
    if (outside(found.before()) && !assigned) || outside(found.after()) {
        return None;
    }
    let bytes = found.text().as_bytes();
    let has = |class: fn(&u8) -> bool| bytes.iter().any(class);
    // A hash in hexadecimal or a path has fewer classes of characters, or less disorder, than random base64.
    if !(has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit))
        || checksum::entropy(bytes) < 4.0
    {
        return None;
    }
    Some(Shape)
}

fn card(found: &Match<'_>) -> Option<Judgement> {
    let digits = found.digits();
    if found.continues_left(&['-', '.', '+', '/'])
        || matches!(found.before(), Some('+' | '_'))
        || !checksum::luhn(&digits)
    {
        return None;
    }
    if digits.iter().all(|digit| *digit == digits[0]) {
        return None;
    }
    let mut separators = found.separators();
    separators.dedup();
    // A minus sign: a number of a program.
    let negative = separators.is_empty()
        && found.before() == Some('-')
        && !found.window.text[..found.span.start - 1].ends_with(char::is_alphanumeric);
    if negative {
        return None;
    }
    let prefix =
        |length: usize| digits[..length].iter().fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    // ISO/IEC 7812 ranges of the networks with the lengths that they issue.
    let issued = match digits.len() {
        13 => prefix(1) == 4,
        14 => matches!(prefix(2), 36 | 38 | 39) || matches!(prefix(3), 300..=305 | 309),
        15 => matches!(prefix(2), 34 | 37) || prefix(1) == 1 || matches!(prefix(4), 2131 | 1800 | 2014 | 2149),
        16 => {
            matches!(prefix(1), 4)
                || matches!(prefix(2), 50..=65 | 67 | 36 | 38 | 39 | 81..=82)
                || matches!(prefix(4), 2221..=2720 | 3528..=3589 | 2200..=2204 | 9792)
        }
        12 | 17..=19 => {
            matches!(prefix(2), 50 | 56..=69) || prefix(1) == 4 || matches!(prefix(4), 3528..=3589 | 8100..=8171)
        }
        _ => false,
    };
    Some(match (issued, separators.len()) {
        (true, 0 | 1) => Score(if digits.len() == 12 { 0.45 } else { 0.9 }),
        (true, _) => Score(0.6),
        (false, 0 | 1) => Score(0.4),
        (false, _) => Score(0.2),
    })
}

fn last_four(found: &Match<'_>) -> Option<Judgement> {
    let left = found.window.look_behind(found.span.start, 60).to_ascii_lowercase();
    let other = ["ssn", "social", "phone", "account"].iter().any(|word| left.contains(word));
    Some(if other { Score(0.0) } else { Score(if left.contains("card") { 0.7 } else { 0.45 }) })
}

fn expiry(found: &Match<'_>) -> Option<Judgement> {
    (!found.continues_left(&['/', '-', '.']) && !matches!(found.after(), Some('/' | '-'))).then_some(Shape)
}

fn iban(found: &Match<'_>) -> Option<Judgement> {
    let text = found.text();
    let bytes = text.as_bytes();
    if !(bytes[0].is_ascii_uppercase() && bytes[1].is_ascii_uppercase()) && bytes.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let country = [bytes[0].to_ascii_uppercase(), bytes[1].to_ascii_uppercase()];
    let length = checksum::iban_length(country)?;
    // The expression may have run into the next words: the country says where the number ends.
    let mut taken = 0;
    let end = bytes.iter().position(|byte| {
        taken += usize::from(byte.is_ascii_alphanumeric());
        taken == length
    })? + 1;
    if bytes.get(end).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let value: Vec<u8> = bytes[..end].iter().copied().filter(u8::is_ascii_alphanumeric).collect();
    if value.iter().any(u8::is_ascii_lowercase) && value.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    checksum::iban_mod97(&value).then(|| Part(found.span.start..found.span.start + end, 1.0))
}

fn swift(found: &Match<'_>) -> Option<Judgement> {
    let bytes = found.text().as_bytes();
    if !checksum::is_country([bytes[4], bytes[5]]) {
        return None;
    }
    let code = bytes[6..].iter().any(u8::is_ascii_digit) || (bytes.len() == 11 && bytes.ends_with(b"XXX"));
    Some(if code { Score(0.6) } else { Shape })
}

fn bank_account(found: &Match<'_>) -> Option<Judgement> {
    (!found.continues_left(&['-', '.', '/']) && !matches!(found.before(), Some('+' | '$' | '€' | '£'))).then_some(Shape)
}

fn routing(found: &Match<'_>) -> Option<Judgement> {
    let separators = found.separators();
    if found.continues_left(&['-', '.', '/']) || separators.len() == 1 || !checksum::aba(&found.digits()) {
        return None;
    }
    Some(if separators.len() == 2 { Score(0.6) } else { Shape })
}

fn phone_neighbours(found: &Match<'_>) -> bool {
    found.continues_left(&['-', '.', '/', ':', ','])
        || found.before().is_some_and(|c| c.is_alphanumeric() || matches!(c, '$' | '€' | '£' | '#' | '_' | '='))
        || found.after().is_some_and(|c| c.is_alphanumeric() || matches!(c, '%' | '_' | '$' | '€'))
}

fn phone_international(found: &Match<'_>) -> Option<Judgement> {
    let count = found.digits().len();
    let zeros = found.text().starts_with("00");
    if phone_neighbours(found) || !(7..=17).contains(&count) {
        return None;
    }
    Some(if zeros { Score(0.6) } else { Shape })
}

fn phone_separated(found: &Match<'_>) -> Option<Judgement> {
    (!phone_neighbours(found)).then_some(Shape)
}

fn phone_national(found: &Match<'_>) -> Option<Judgement> {
    let text = found.text().trim_end_matches([' ', '.', '/', '-']);
    let cut = found.text().len() - text.len();
    let found = &Match { window: found.window, span: found.span.start..found.span.end - cut, end: found.end };
    let count = text.bytes().filter(u8::is_ascii_digit).count();
    let parts = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).count();
    if phone_neighbours(found) || !(7..=12).contains(&count) || looks_like_date(text) {
        return None;
    }
    let parentheses = text.starts_with('(');
    let score = match (parentheses, parts) {
        (true, _) => 0.65,
        (false, 1) => 0.3,
        (false, _) if count >= 9 => 0.6,
        _ => 0.45,
    };
    Some(Part(found.span.start..found.span.start + text.len(), score))
}

fn phone_loose(found: &Match<'_>) -> Option<Judgement> {
    let text = found.text();
    let digits = found.digits();
    if phone_neighbours(found) || !(7..=15).contains(&digits.len()) || looks_like_date(text) {
        return None;
    }
    let mut separators = found.separators();
    let groups = separators.len() + 1;
    separators.dedup();
    let even = groups >= 4 && separators.len() == 1 && text.split([' ', '.', '-']).all(|group| group.len() == 2);
    Some(if even { Score(0.5) } else { Score(if groups >= 3 { 0.2 } else { 0.1 }) })
}

/// `2007-01-17`, `17.01.2007`, `17/01/07` and the like.
fn looks_like_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['-', '.', '/', ' ']).collect();
    let number = |part: &str| part.parse::<u32>().unwrap_or(u32::MAX);
    if parts.len() < 3 {
        return false;
    }
    let (a, b, c) = (number(parts[0]), number(parts[1]), number(parts[2]));
    let year = |y: u32, part: &str| part.len() == 4 && (1800..=2199).contains(&y);
    (parts[0].len() == 4 && year(a, parts[0]) && (1..=12).contains(&b) && (1..=31).contains(&c))
        || (parts[2].len() == 4 && year(c, parts[2]) && (1..=31).contains(&a) && (1..=31).contains(&b))
        || (parts.len() == 3 && parts.iter().all(|p| p.len() <= 2) && (1..=31).contains(&a) && (1..=31).contains(&b))
}

fn ssn(found: &Match<'_>) -> Option<Judgement> {
    let digits = found.digits();
    let separators = found.separators();
    if found.continues_left(&['-', '.', '/'])
        || matches!(found.before(), Some('+' | '$' | '#' | '_'))
        || separators.windows(2).any(|pair| pair[0] != pair[1])
    {
        return None;
    }
    let known_fake: &[&[u8]] = &[b"123456789", b"987654320", b"078051120", b"219099999"];
    if digits.starts_with(b"000")
        || digits.starts_with(b"666")
        || digits[0] == b'9'
        || &digits[3..5] == b"00"
        || &digits[5..] == b"0000"
        || digits.iter().all(|digit| *digit == digits[0])
        || known_fake.contains(&digits.as_slice())
    {
        return None;
    }
    Some(match (separators.len(), separators.first()) {
        (2, Some(b'-')) => Score(0.85),
        (2, _) => Score(0.6),
        _ => Shape,
    })
}

fn itin(found: &Match<'_>) -> Option<Judgement> {
    let separators = found.separators();
    if found.continues_left(&['-', '.', '/']) || separators.windows(2).any(|pair| pair[0] != pair[1]) {
        return None;
    }
    Some(match separators.len() {
        2 => Score(0.85),
        1 => Score(0.52),
        _ => Shape,
    })
}

fn driver(found: &Match<'_>) -> Option<Judgement> {
    (!found.continues_left(&['-', '.', '/']) && found.digits().len() >= 4).then_some(Shape)
}

fn driver_gb(found: &Match<'_>) -> Option<Judgement> {
    let bytes = found.alphanumerics();
    // Five of the surname (9 fills), decade, month (+50 for women), day, year, two initials (9 fills), check.
    let letters_then_nines = |part: &[u8]| !part.iter().skip_while(|b| b.is_ascii_alphabetic()).any(|b| *b != b'9');
    let number = |at: usize| u32::from(bytes[at] - b'0') * 10 + u32::from(bytes[at + 1] - b'0');
    let month = number(6) % 50;
    if bytes.len() != 16
        || !letters_then_nines(&bytes[..5])
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&number(8))
    {
        return None;
    }
    Some(Score(0.9))
}

fn plate_gb_current(found: &Match<'_>) -> Option<Judgement> {
    let bytes = found.alphanumerics();
    let age = (bytes[2] - b'0') * 10 + (bytes[3] - b'0');
    // 02 to 29 in March, plus 50 in September.
    if !matches!(age, 2..=29 | 51..=79) {
        return None;
    }
    Some(if found.text().bytes().any(|byte| byte.is_ascii_lowercase()) { Score(0.2) } else { Shape })
}

fn plate(found: &Match<'_>) -> Option<Judgement> {
    let bytes = found.alphanumerics();
    let letters = bytes.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let lower = found.text().bytes().any(|b| b.is_ascii_lowercase());
    if !(5..=8).contains(&bytes.len())
        || letters == 0
        || letters == bytes.len()
        || lower
        || found.continues_left(&['-', '.', '/'])
    {
        return None;
    }
    Some(Shape)
}

fn vin(found: &Match<'_>) -> Option<Judgement> {
    let bytes = found.alphanumerics();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let mixed =
        found.text().bytes().any(|b| b.is_ascii_lowercase()) && found.text().bytes().any(|b| b.is_ascii_uppercase());
    if letters == 0 || letters == bytes.len() || mixed {
        return None;
    }
    // The last four are digits (ISO 3779): one name of seventeen letters and digits in eleven has a right check digit.
    let serial = bytes[13..].iter().all(u8::is_ascii_digit);
    Some(if serial && checksum::vin(&bytes) { Score(0.9) } else { Shape })
}

fn health_ca(found: &Match<'_>) -> Option<Judgement> {
    let digits = found.digits();
    if found.continues_left(&['-', '.', '/']) || digits.len() != 10 || digits.iter().all(|d| *d == digits[0]) {
        return None;
    }
    let version = found.text().ends_with(|c: char| c.is_ascii_alphabetic());
    let grouped = found.text().bytes().filter(|byte| matches!(byte, b' ' | b'-')).count() >= 2;
    Some(match (checksum::luhn(&digits), grouped, version) {
        (true, true, true) => Score(0.85),
        (true, true, false) => Score(0.6),
        (true, false, true) => Score(0.5),
        (false, true, true) => Score(0.4),
        _ => Shape,
    })
}

fn sin(found: &Match<'_>) -> Option<Judgement> {
    let digits = found.digits();
    let separators = found.separators();
    if found.continues_left(&['-', '.', '/'])
        || separators.len() == 1
        || separators.windows(2).any(|pair| pair[0] != pair[1])
        || digits.iter().all(|digit| *digit == digits[0])
        || !checksum::luhn(&digits)
    {
        return None;
    }
    Some(if separators.len() == 2 { Score(0.6) } else { Shape })
}

fn nhs(found: &Match<'_>) -> Option<Judgement> {
    let separators = found.separators();
    if found.continues_left(&['-', '.', '/', '+'])
        || separators.len() == 1
        || separators.windows(2).any(|pair| pair[0] != pair[1])
        || !checksum::nhs(&found.digits())
    {
        return None;
    }
    Some(match separators.first() {
        Some(b' ') => Score(0.7),
        // North American telephone numbers look the same; one in eleven of them passes the check.
        Some(_) => Score(0.55),
        None => Shape,
    })
}

fn nino(found: &Match<'_>) -> Option<Judgement> {
    let bytes = found.alphanumerics();
    const NEVER: &[&[u8]] = &[b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"];
    (!NEVER.contains(&&bytes[..2])).then_some(Shape)
}

fn utr(found: &Match<'_>) -> Option<Judgement> {
    (!found.continues_left(&['-', '.', '/']) && checksum::utr(&found.digits())).then_some(Shape)
}

fn state_and_zip(found: &Match<'_>) -> Option<Judgement> {
    lists::is_state_code(&found.text()[..2]).then_some(Shape)
}

fn postcode_gb(found: &Match<'_>) -> Option<Judgement> {
    Some(if found.separators().is_empty() { Score(0.3) } else { Shape })
}

fn age(found: &Match<'_>) -> Option<Judgement> {
    let text = found.text().to_ascii_lowercase();
    let tail = found.tail().trim_start_matches([' ', '-']).to_ascii_lowercase();
    if found.continues_left(&['.', ',', '-', '/', '$']) {
        return None;
    }
    let short = text.ends_with("yo") || text.ends_with("y/o") || text.ends_with("y.o.");
    if short || tail.starts_with("old") {
        return Some(Score(0.9));
    }
    // "I am 40 years", but not "40 years of experience".
    let left = found.window.look_behind(found.span.start, 16).to_ascii_lowercase();
    const SUBJECTS: &[&str] = &[
        "i am ", "i'm ", "he is ", "she is ", "he's ", "she's ", "he was ", "she was ", "aged ", "age of ", "age: ",
        "age ", "is only ", "turned ",
    ];
    (tail.is_empty() && SUBJECTS.iter().any(|subject| left.ends_with(subject))).then_some(Score(0.75))
}

fn age_cued(found: &Match<'_>) -> Option<Judgement> {
    found.tail().is_empty().then_some(Shape)
}
