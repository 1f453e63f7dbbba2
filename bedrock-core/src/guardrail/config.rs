//! How a guardrail is configured: the body of `CreateGuardrail`.

use serde::{Deserialize, Serialize};

use crate::wire::label;

label! {
    /// What to do about a finding. The service has one enum a policy; only sensitive information can be
    /// [`Anonymize`](Self::Anonymize)d.
    pub enum GuardrailConfigAction {
        /// Replace the whole content by the configured message.
        Block = "BLOCK",
        /// Replace the match by a mask: the kind or the pattern's name in braces.
        Anonymize = "ANONYMIZE",
        /// Only report it.
        None = "NONE",
    }

    /// How sure a filter is, and how easily it acts. A filter of strength `High` acts on confidence `Low` and above, `Medium` on
    /// `Medium` and above, `Low` on `High` alone, `None` never.
    pub enum GuardrailStrength {
        /// Not at all.
        None = "NONE",
        /// A little.
        Low = "LOW",
        /// Middling.
        Medium = "MEDIUM",
        /// Much.
        High = "HIGH",
    }

    /// Kind of a topic.
    pub enum GuardrailTopicType {
        /// Not to be talked about.
        Deny = "DENY",
    }

    /// Category of harmful content.
    pub enum GuardrailContentFilterType {
        /// Sexual content.
        Sexual = "SEXUAL",
        /// Violence.
        Violence = "VIOLENCE",
        /// Hate against a group.
        Hate = "HATE",
        /// Insults against a person.
        Insults = "INSULTS",
        /// Crime and other misconduct.
        Misconduct = "MISCONDUCT",
        /// Attempts to overrule the instructions of the model. Input only.
        PromptAttack = "PROMPT_ATTACK",
    }

    /// What a filter looks at.
    pub enum GuardrailModality {
        /// Text.
        Text = "TEXT",
        /// Pictures.
        Image = "IMAGE",
    }

    /// Which generation of a filter.
    pub enum GuardrailTierName {
        /// Fast, for English, French and Spanish.
        Classic = "CLASSIC",
        /// Better, for many languages.
        Standard = "STANDARD",
    }

    /// A list of words that comes with the service.
    pub enum GuardrailManagedWordsType {
        /// Profanity.
        Profanity = "PROFANITY",
    }

    /// What grounding is checked.
    pub enum GuardrailContextualGroundingFilterType {
        /// Whether the answer follows from the source.
        Grounding = "GROUNDING",
        /// Whether the answer concerns the question.
        Relevance = "RELEVANCE",
    }

    /// Kind of personal data or secret.
    pub enum GuardrailPiiEntityType {
        /// Postal address.
        Address = "ADDRESS",
        /// Age of a person.
        Age = "AGE",
        /// AWS access key id.
        AwsAccessKey = "AWS_ACCESS_KEY",
        /// AWS secret key.
        AwsSecretKey = "AWS_SECRET_KEY",
        /// Canadian health service number.
        CaHealthNumber = "CA_HEALTH_NUMBER",
        /// Canadian social insurance number.
        CaSocialInsuranceNumber = "CA_SOCIAL_INSURANCE_NUMBER",
        /// Verification code of a payment card.
        CreditDebitCardCvv = "CREDIT_DEBIT_CARD_CVV",
        /// Expiry date of a payment card.
        CreditDebitCardExpiry = "CREDIT_DEBIT_CARD_EXPIRY",
        /// Number of a payment card.
        CreditDebitCardNumber = "CREDIT_DEBIT_CARD_NUMBER",
        /// Number of a driving licence.
        DriverId = "DRIVER_ID",
        /// E-mail address.
        Email = "EMAIL",
        /// IBAN.
        InternationalBankAccountNumber = "INTERNATIONAL_BANK_ACCOUNT_NUMBER",
        /// IP address.
        IpAddress = "IP_ADDRESS",
        /// Licence plate.
        LicensePlate = "LICENSE_PLATE",
        /// MAC address.
        MacAddress = "MAC_ADDRESS",
        /// Name of a person.
        Name = "NAME",
        /// Password.
        Password = "PASSWORD",
        /// Telephone number.
        Phone = "PHONE",
        /// Personal identification number.
        Pin = "PIN",
        /// Bank identifier code.
        SwiftCode = "SWIFT_CODE",
        /// British health service number.
        UkNationalHealthServiceNumber = "UK_NATIONAL_HEALTH_SERVICE_NUMBER",
        /// British national insurance number.
        UkNationalInsuranceNumber = "UK_NATIONAL_INSURANCE_NUMBER",
        /// British taxpayer reference.
        UkUniqueTaxpayerReferenceNumber = "UK_UNIQUE_TAXPAYER_REFERENCE_NUMBER",
        /// Web address.
        Url = "URL",
        /// Login or handle.
        Username = "USERNAME",
        /// US bank account number.
        UsBankAccountNumber = "US_BANK_ACCOUNT_NUMBER",
        /// US bank routing number.
        UsBankRoutingNumber = "US_BANK_ROUTING_NUMBER",
        /// US individual taxpayer number.
        UsIndividualTaxIdentificationNumber = "US_INDIVIDUAL_TAX_IDENTIFICATION_NUMBER",
        /// US passport number.
        UsPassportNumber = "US_PASSPORT_NUMBER",
        /// US social security number.
        UsSocialSecurityNumber = "US_SOCIAL_SECURITY_NUMBER",
        /// Vehicle identification number.
        VehicleIdentificationNumber = "VEHICLE_IDENTIFICATION_NUMBER",
    }
}

/// A guardrail: the body of `CreateGuardrail`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateGuardrailRequest {
    /// 1–50 ASCII letters, digits, `-` or `_`.
    pub name: String,
    /// For people, 1–200 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Denied topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_policy_config: Option<GuardrailTopicPolicyConfig>,
    /// Harmful content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_policy_config: Option<GuardrailContentPolicyConfig>,
    /// Words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word_policy_config: Option<GuardrailWordPolicyConfig>,
    /// Sensitive information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitive_information_policy_config: Option<GuardrailSensitiveInformationPolicyConfig>,
    /// Grounding and relevance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contextual_grounding_policy_config: Option<GuardrailContextualGroundingPolicyConfig>,
    /// Formal logic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automated_reasoning_policy_config: Option<GuardrailAutomatedReasoningPolicyConfig>,
    /// Where the guardrail may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_region_config: Option<GuardrailCrossRegionConfig>,
    /// What the caller sees instead of an answer when the request is blocked, 1–500 characters.
    pub blocked_input_messaging: String,
    /// What the caller sees instead of an answer that is blocked, 1–500 characters.
    pub blocked_outputs_messaging: String,
    /// Key that encrypts the guardrail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key_id: Option<String>,
    /// Labels, at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Makes a repeated request harmless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_request_token: Option<String>,
}

impl CreateGuardrailRequest {
    /// A guardrail without policies.
    pub fn new(
        name: impl Into<String>,
        blocked_input_messaging: impl Into<String>,
        blocked_outputs_messaging: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            blocked_input_messaging: blocked_input_messaging.into(),
            blocked_outputs_messaging: blocked_outputs_messaging.into(),
            ..Self::default()
        }
    }
}

/// A label of a resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tag {
    /// 1–128 characters.
    pub key: String,
    /// At most 256 characters.
    pub value: String,
}

/// Denied topics, 1–30.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailTopicPolicyConfig {
    /// The topics.
    pub topics_config: Vec<GuardrailTopicConfig>,
    /// Which generation of the filter. Default: classic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_config: Option<GuardrailTierConfig>,
}

/// One denied topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailTopicConfig {
    /// 1–100 ASCII letters, digits, spaces or `-_!?.`.
    pub name: String,
    /// What it is, in 1–200 characters.
    pub definition: String,
    /// Sentences about it, at most 5 of at most 100 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: GuardrailTopicType,
    /// What to do about it in a request. Default: block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_action: Option<GuardrailConfigAction>,
    /// What to do about it in an answer. Default: block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_action: Option<GuardrailConfigAction>,
    /// Whether requests are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_enabled: Option<bool>,
    /// Whether answers are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_enabled: Option<bool>,
}

/// Which generation of a filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailTierConfig {
    /// The generation.
    pub tier_name: GuardrailTierName,
}

/// Harmful content: at most one filter a category.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailContentPolicyConfig {
    /// The filters.
    pub filters_config: Vec<GuardrailContentFilterConfig>,
    /// Which generation of the filters. Default: classic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_config: Option<GuardrailTierConfig>,
}

/// One category of harmful content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailContentFilterConfig {
    /// The category.
    #[serde(rename = "type")]
    pub kind: GuardrailContentFilterType,
    /// How easily it acts on requests.
    pub input_strength: GuardrailStrength,
    /// How easily it acts on answers.
    pub output_strength: GuardrailStrength,
    /// What it looks at in requests. Default: text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_modalities: Vec<GuardrailModality>,
    /// What it looks at in answers. Default: text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_modalities: Vec<GuardrailModality>,
    /// What to do about a request. Default: block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_action: Option<GuardrailConfigAction>,
    /// What to do about an answer. Default: block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_action: Option<GuardrailConfigAction>,
    /// Whether requests are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_enabled: Option<bool>,
    /// Whether answers are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_enabled: Option<bool>,
}

/// Words and phrases.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailWordPolicyConfig {
    /// The guardrail's own, at most 10,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words_config: Vec<GuardrailWordConfig>,
    /// Lists that come with the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managed_word_lists_config: Vec<GuardrailManagedWordsConfig>,
}

/// One word or phrase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailWordConfig {
    /// 1–100 characters.
    pub text: String,
    /// What to do about it in a request. Default: block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_action: Option<GuardrailConfigAction>,
    /// What to do about it in an answer. Default: block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_action: Option<GuardrailConfigAction>,
    /// Whether requests are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_enabled: Option<bool>,
    /// Whether answers are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_enabled: Option<bool>,
}

/// One list of words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailManagedWordsConfig {
    /// The list.
    #[serde(rename = "type")]
    pub kind: GuardrailManagedWordsType,
    /// What to do about a word in a request. Default: block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_action: Option<GuardrailConfigAction>,
    /// What to do about a word in an answer. Default: block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_action: Option<GuardrailConfigAction>,
    /// Whether requests are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_enabled: Option<bool>,
    /// Whether answers are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_enabled: Option<bool>,
}

/// Sensitive information.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailSensitiveInformationPolicyConfig {
    /// Built-in kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pii_entities_config: Vec<GuardrailPiiEntityConfig>,
    /// The guardrail's own patterns, at most 30.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regexes_config: Vec<GuardrailRegexConfig>,
}

/// One built-in kind of sensitive information.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailPiiEntityConfig {
    /// The kind.
    #[serde(rename = "type")]
    pub kind: GuardrailPiiEntityType,
    /// What to do about it where the side has no action of its own.
    pub action: GuardrailConfigAction,
    /// What to do about it in a request. Default: `action`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_action: Option<GuardrailConfigAction>,
    /// What to do about it in an answer. Default: `action`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_action: Option<GuardrailConfigAction>,
    /// Whether requests are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_enabled: Option<bool>,
    /// Whether answers are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_enabled: Option<bool>,
}

/// One pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailRegexConfig {
    /// 1–100 characters; the mask shows it in braces.
    pub name: String,
    /// For people, 1–1,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A regular expression, 1–500 characters.
    pub pattern: String,
    /// What to do about a match where the side has no action of its own.
    pub action: GuardrailConfigAction,
    /// What to do about a match in a request. Default: `action`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_action: Option<GuardrailConfigAction>,
    /// What to do about a match in an answer. Default: `action`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_action: Option<GuardrailConfigAction>,
    /// Whether requests are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_enabled: Option<bool>,
    /// Whether answers are looked at. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_enabled: Option<bool>,
}

/// Grounding and relevance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailContextualGroundingPolicyConfig {
    /// The filters.
    pub filters_config: Vec<GuardrailContextualGroundingFilterConfig>,
    /// Which generation of the filters. Default: classic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_config: Option<GuardrailTierConfig>,
}

/// One threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailContextualGroundingFilterConfig {
    /// What is scored.
    #[serde(rename = "type")]
    pub kind: GuardrailContextualGroundingFilterType,
    /// A score below it is acted on; 0 or more and less than 1.
    pub threshold: f64,
    /// What to do. Default: block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<GuardrailConfigAction>,
    /// Whether it is scored. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Formal logic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailAutomatedReasoningPolicyConfig {
    /// ARNs of one or two policies.
    pub policies: Vec<String>,
    /// Least confidence of a translation, 0–1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_threshold: Option<f64>,
}

/// Where a guardrail may run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardrailCrossRegionConfig {
    /// Id or ARN of the profile, 15–2,048 characters.
    pub guardrail_profile_identifier: String,
}

/// The answer of `CreateGuardrail`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateGuardrailResponse {
    /// The new guardrail's id: at most 64 lower-case letters and digits.
    pub guardrail_id: String,
    /// Its ARN.
    pub guardrail_arn: String,
    /// `DRAFT`.
    pub version: String,
    /// When it was made, in ISO 8601.
    pub created_at: String,
}
