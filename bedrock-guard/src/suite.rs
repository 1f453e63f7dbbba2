//! Test suites: what a guardrail shall do about which texts, whether it does, and where disguises get past it.

use bedrock_core::{
    ApplyGuardrailRequest, Error, Guardrail as _, GuardrailAssessment, GuardrailContentBlock,
    GuardrailContentQualifier, GuardrailContentSource, GuardrailPolicyAction,
};
use serde::{Deserialize, Serialize};

use crate::guardrail::{Guardrail, Judged};
use crate::record::Intervention;

/// Cases of the largest suite.
const MOST_CASES: usize = 1_000_000;

/// One text and what shall happen to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Case {
    /// Its name in reports; the number of its line if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The text.
    pub text: String,
    /// Whether it goes to a model or comes from one.
    #[serde(default = "input")]
    pub source: GuardrailContentSource,
    /// What an answer is held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grounding_source: Option<String>,
    /// What was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The strongest thing that shall be done: `NONE`, `ANONYMIZED` or `BLOCKED`.
    pub expect: GuardrailPolicyAction,
    /// Kinds that shall be among the findings: `EMAIL`, `HATE`, the name of a pattern or topic, `customWord`, `PROFANITY`, `GROUNDING` …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

fn input() -> GuardrailContentSource {
    GuardrailContentSource::Input
}

impl Case {
    /// A text that goes to a model.
    pub fn new(text: impl Into<String>, expect: GuardrailPolicyAction) -> Self {
        Self {
            id: String::new(),
            text: text.into(),
            source: input(),
            grounding_source: None,
            query: None,
            expect,
            findings: Vec::new(),
        }
    }
}

/// How a text may be disguised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Mutation {
    /// All letters large.
    Capitals,
    /// Digits in place of letters: `h4t3`.
    Leetspeak,
    /// Characters that cannot be seen between letters.
    ZeroWidth,
    /// Letters of other scripts that look alike.
    Homoglyphs,
    /// Blanks between the letters of the longest word.
    Spaced,
    /// Every third letter in full width.
    FullWidth,
    /// Two letters of the longest word in each other's place.
    Misspelt,
    /// In the midst of harmless text.
    Buried,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Capitals,
        Self::Leetspeak,
        Self::ZeroWidth,
        Self::Homoglyphs,
        Self::Spaced,
        Self::FullWidth,
        Self::Misspelt,
        Self::Buried,
    ];

    /// The text in disguise; the same text if there is nothing to disguise.
    pub fn apply(self, text: &str) -> String {
        let each = |change: &dyn Fn(char) -> char| text.chars().map(change).collect::<String>();
        let longest = text.split_whitespace().rev().max_by_key(|word| word.len()).unwrap_or_default();
        match self {
            Self::Capitals => text.to_uppercase(),
            Self::Leetspeak => each(&|c| match c.to_ascii_lowercase() {
                'a' => '4',
                'e' => '3',
                'i' => '1',
                'o' => '0',
                _ => c,
            }),
            Self::ZeroWidth => {
                let mut out = String::with_capacity(text.len() * 2);
                let mut letter = false;
                for c in text.chars() {
                    if letter && c.is_alphabetic() {
                        out.push('\u{200b}');
                    }
                    letter = c.is_alphabetic();
                    out.push(c);
                }
                out
            }
            Self::Homoglyphs => each(&|c| match c {
                'a' => 'а',
                'c' => 'с',
                'e' => 'е',
                'i' => 'і',
                'o' => 'о',
                'p' => 'р',
                _ => c,
            }),
            Self::Spaced => {
                let spaced: Vec<String> = longest.chars().map(String::from).collect();
                text.replacen(longest, &spaced.join(" "), 1)
            }
            Self::FullWidth => text
                .chars()
                .enumerate()
                .map(|(at, c)| match c {
                    '!'..='~' if at % 3 == 0 => char::from_u32(c as u32 + 0xfee0).unwrap_or(c),
                    _ => c,
                })
                .collect(),
            Self::Misspelt => {
                let mut letters: Vec<char> = longest.chars().collect();
                if letters.len() > 3 {
                    let middle = letters.len() / 2;
                    letters.swap(middle - 1, middle);
                }
                text.replacen(longest, &letters.into_iter().collect::<String>(), 1)
            }
            Self::Buried => format!(
                "The library opens at nine on weekdays. {text} Please bring your card, and return what you borrowed by Friday."
            ),
        }
    }
}

/// What a guardrail did about a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Outcome {
    /// The case.
    pub id: String,
    /// What should have been done.
    pub expected: GuardrailPolicyAction,
    /// The strongest thing that was done.
    pub action: GuardrailPolicyAction,
    /// What was found, `policy/kind`, each once.
    pub findings: Vec<String>,
    /// Whether the action is the one expected and all expected findings are there.
    pub passed: bool,
    /// Disguises behind which less was done than about the text itself.
    pub holes: Vec<Mutation>,
}

/// What a guardrail did about a suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// The guardrail's id and version.
    pub guardrail: (String, String),
    /// In the order of the suite.
    pub outcomes: Vec<Outcome>,
    /// What the guardrail is configured to find and no case made it find, `policy/kind`.
    pub uncovered: Vec<String>,
}

impl Report {
    /// Cases that passed.
    pub fn passed(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.passed).count()
    }

    /// Cases of which another guardrail, or another version, makes something else: index, this action and the other.
    /// Compare reports of the same suite.
    pub fn differences(&self, other: &Self) -> Vec<(usize, GuardrailPolicyAction, GuardrailPolicyAction)> {
        let pairs = self.outcomes.iter().zip(&other.outcomes).enumerate();
        let differ = pairs.filter(|(_, (one, other))| one.action != other.action || one.passed != other.passed);
        differ.map(|(index, (one, other))| (index, one.action.clone(), other.action.clone())).collect()
    }
}

/// Cases that are run together.
///
/// ```
/// use bedrock_guard::Guardrail;
/// use bedrock_guard::suite::{Mutation, Suite};
///
/// let suite = Suite::from_jsonl(
///     r#"{"text": "Mail ada@example.org", "expect": "ANONYMIZED", "findings": ["EMAIL"]}
///        {"text": "When do you open?", "expect": "NONE"}"#,
/// )?;
/// let guardrail = Guardrail::from_json(include_str!("../../examples/data/guardrail.json"))?;
/// let report = suite.run_blocking(&guardrail, &[Mutation::ZeroWidth])?;
/// assert_eq!(report.passed(), 2);
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suite {
    /// In order.
    pub cases: Vec<Case>,
}

impl Suite {
    /// Reads one case a line: the fields of [`Case`]. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`Error::Validation`] with the number of the first line that is no case; for an action that is none of the three; for a million lines and more.
    pub fn from_jsonl(text: &str) -> Result<Self, Error> {
        let mut suite = Self::default();
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |what: String| Error::validation(format!("line {number}: {what}"));
            let case = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
            suite.push(case, number).map_err(fail)?;
        }
        Ok(suite)
    }

    /// Reads tables `[[case]]` with the fields of [`Case`]; a case without an `id` is called by its number, from 1.
    ///
    /// ```
    /// let suite = bedrock_guard::suite::Suite::from_toml(
    ///     r#"
    ///     [[case]]
    ///     text = "Mail ada@example.org"
    ///     expect = "ANONYMIZED"
    ///     findings = ["EMAIL"]
    ///     "#,
    /// )?;
    /// assert_eq!(suite.cases[0].findings, ["EMAIL"]);
    /// # Ok::<(), bedrock_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`] with line and column of what is no TOML or no case; with the number of a case that [`from_jsonl`](Self::from_jsonl) would refuse.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Cases {
            #[serde(default)]
            case: Vec<Case>,
        }
        let Cases { case } = toml::from_str(text).map_err(|error| Error::validation(error.to_string()))?;
        let mut suite = Self::default();
        for (number, case) in (1..).zip(case) {
            suite.push(case, number).map_err(|what| Error::validation(format!("case {number}: {what}")))?;
        }
        Ok(suite)
    }

    /// Adds a case, or says what is wrong with it.
    fn push(&mut self, mut case: Case, number: usize) -> Result<(), String> {
        if strength(&case.expect).is_none() {
            return Err("expect must be NONE, ANONYMIZED or BLOCKED".to_owned());
        }
        if !matches!(case.source, GuardrailContentSource::Input | GuardrailContentSource::Output) {
            return Err("source must be INPUT or OUTPUT".to_owned());
        }
        if case.id.is_empty() {
            case.id = number.to_string();
        }
        if self.cases.len() == MOST_CASES {
            return Err(format!("more than {MOST_CASES} cases"));
        }
        self.cases.push(case);
        Ok(())
    }

    /// Runs all cases, and disguises those texts that the guardrail did something about.
    ///
    /// # Errors
    /// What the guardrail fails with.
    pub async fn run(&self, guardrail: &Guardrail, mutations: &[Mutation]) -> Result<Report, Error> {
        let mut outcomes = Vec::with_capacity(self.cases.len());
        for case in &self.cases {
            let (action, findings) = judge(guardrail, case, &case.text).await?;
            let found = |wanted: &String| {
                findings.iter().any(|finding| finding.split_once('/').is_some_and(|(_, kind)| kind == wanted))
            };
            let passed = action == case.expect && case.findings.iter().all(found);
            let mut holes = Vec::new();
            if strength(&action) > Some(0) {
                for mutation in mutations {
                    let (disguised, _) = judge(guardrail, case, &mutation.apply(&case.text)).await?;
                    if strength(&disguised) < strength(&action) {
                        holes.push(*mutation);
                    }
                }
            }
            let (id, expected) = (case.id.clone(), case.expect.clone());
            outcomes.push(Outcome { id, expected, action, findings, passed, holes });
        }
        let mut uncovered = configured(guardrail);
        uncovered.retain(|kind| !outcomes.iter().any(|outcome| outcome.findings.contains(kind)));
        Ok(Report { guardrail: (guardrail.id().to_owned(), guardrail.version().to_owned()), outcomes, uncovered })
    }

    /// [`run`](Self::run) for callers without an async runtime: blocks the thread until all cases are judged.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_blocking(&self, guardrail: &Guardrail, mutations: &[Mutation]) -> Result<Report, Error> {
        futures::executor::block_on(self.run(guardrail, mutations))
    }
}

/// How strong an action is; `None` for one that this version does not know.
fn strength(action: &GuardrailPolicyAction) -> Option<u8> {
    match action {
        GuardrailPolicyAction::None => Some(0),
        GuardrailPolicyAction::Anonymized => Some(1),
        GuardrailPolicyAction::Blocked => Some(2),
        _ => None,
    }
}

/// The strongest action, and the kinds that were found.
async fn judge(guardrail: &Guardrail, case: &Case, text: &str) -> Result<(GuardrailPolicyAction, Vec<String>), Error> {
    let mut request = ApplyGuardrailRequest::new(case.source.clone(), [text]);
    let material = [
        (&case.grounding_source, GuardrailContentQualifier::GroundingSource),
        (&case.query, GuardrailContentQualifier::Query),
    ];
    for (text, qualifier) in material {
        request.content.extend(text.as_ref().map(|text| GuardrailContentBlock::text(text, [qualifier])));
    }
    let verdict = guardrail.apply(&request).await?;
    let assessment = verdict.assessments.into_iter().next().unwrap_or_else(GuardrailAssessment::default);
    let record =
        Intervention::new("", "", &case.source, &assessment, None, Judged::default(), std::time::Duration::ZERO);
    let mut findings: Vec<String> = Vec::new();
    for finding in &record.findings {
        let name = format!("{}/{}", finding.policy, finding.kind);
        if !findings.contains(&name) {
            findings.push(name);
        }
    }
    Ok((record.action, findings))
}

/// What a guardrail is told to find.
fn configured(guardrail: &Guardrail) -> Vec<String> {
    let config = guardrail.config();
    let mut kinds = Vec::new();
    let mut add = |policy: &str, kind: &str| kinds.push(format!("{policy}/{kind}"));
    for topic in config.topic_policy_config.iter().flat_map(|policy| &policy.topics_config) {
        add("topicPolicy", &topic.name);
    }
    for filter in config.content_policy_config.iter().flat_map(|policy| &policy.filters_config) {
        add("contentPolicy", filter.kind.as_str());
    }
    for filter in config.contextual_grounding_policy_config.iter().flat_map(|policy| &policy.filters_config) {
        add("contextualGroundingPolicy", filter.kind.as_str());
    }
    if let Some(policy) = &config.sensitive_information_policy_config {
        policy.pii_entities_config.iter().for_each(|entity| add("sensitiveInformationPolicy", entity.kind.as_str()));
        policy.regexes_config.iter().for_each(|regex| add("sensitiveInformationPolicy", &regex.name));
    }
    if let Some(policy) = &config.word_policy_config {
        if !policy.words_config.is_empty() {
            add("wordPolicy", "customWord");
        }
        policy.managed_word_lists_config.iter().for_each(|list| add("wordPolicy", list.kind.as_str()));
    }
    kinds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn guardrail(words: &[&str]) -> Guardrail {
        let words: Vec<_> = words.iter().map(|word| json!({"text": word})).collect();
        let config = json!({
            "name": "g", "blockedInputMessaging": "no", "blockedOutputsMessaging": "no",
            "wordPolicyConfig": {"wordsConfig": words, "managedWordListsConfig": [{"type": "PROFANITY"}]},
            "sensitiveInformationPolicyConfig": {"piiEntitiesConfig": [{"type": "EMAIL", "action": "ANONYMIZE"}]},
        });
        Guardrail::from_json(&config.to_string()).unwrap()
    }

    fn suite() -> Suite {
        let lines = [
            json!({"id": "word", "text": "the secret recipe", "expect": "BLOCKED", "findings": ["customWord"]}),
            json!({"text": "mail ada@example.org", "expect": "ANONYMIZED", "findings": ["EMAIL"]}),
            json!({"text": "nothing at all", "expect": "NONE"}),
            json!({"text": "nothing at all", "expect": "BLOCKED", "source": "OUTPUT"}),
            json!({"text": "mail ada@example.org", "expect": "ANONYMIZED", "findings": ["PHONE"]}),
        ];
        Suite::from_jsonl(&lines.map(|line| line.to_string()).join("\n\n# a note\n")).unwrap()
    }

    #[cfg(feature = "toml")]
    #[test]
    fn tables_are_the_cases_that_lines_are() {
        let tables = r#"
            [[case]]
            id = "word"
            text = "the secret recipe"
            expect = "BLOCKED"
            findings = ["customWord"]
            [[case]] # Without a name.
            text = """mail ada@example.org"""
            expect = "ANONYMIZED"
            findings = ["EMAIL"]
            [[case]]
            text = "nothing at all"
            expect = "NONE"
        "#;
        let lines = Suite { cases: suite().cases[..3].to_vec() };
        let mut tables = Suite::from_toml(tables).unwrap();
        assert_eq!([&*tables.cases[1].id, &*tables.cases[2].id], ["2", "3"]);
        tables.cases.iter_mut().zip(&lines.cases).for_each(|(table, line)| table.id.clone_from(&line.id));
        assert_eq!(tables, lines);
        assert_eq!(Suite::from_toml("").unwrap(), Suite::default());
        let deep = format!("case = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        for (text, what) in [
            ("[[case]]\ntext = 'x'\nexpect = 'MAYBE'", "case 1: expect must be"),
            ("[[case]]\ntext = 'x'\nexpect = 'NONE'\nsource = 'BOTH'", "case 1: source must be"),
            ("[[case]]\ntext = 'x'\nexpect = 'NONE'\nexpected = 'NONE'", "expected"),
            ("[[cases]]\ntext = 'x'\nexpect = 'NONE'", "cases"),
            ("[[case]]\ntext = 'x", "line 2"),
            (&deep, ""),
        ] {
            let error = Suite::from_toml(text).unwrap_err();
            assert!(matches!(error, Error::Validation { .. }) && error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn cases_pass_if_action_and_findings_are_as_expected() {
        let report = suite().run_blocking(&guardrail(&["secret"]), &[]).unwrap();
        let passed: Vec<bool> = report.outcomes.iter().map(|outcome| outcome.passed).collect();
        assert_eq!(passed, [true, true, true, false, false]);
        assert_eq!(report.outcomes[0].id, "word");
        assert_eq!(report.outcomes[1].findings, ["sensitiveInformationPolicy/EMAIL"]);
        assert_eq!(report.uncovered, ["wordPolicy/PROFANITY"]);
    }

    #[test]
    fn disguises_that_get_past_are_holes() {
        let config = guardrail(&["secret"]).config().clone();
        let plain = suite().run_blocking(&guardrail(&["secret"]), &Mutation::ALL).unwrap();
        assert_eq!(
            plain.outcomes[0].holes,
            [Mutation::Leetspeak, Mutation::Homoglyphs, Mutation::Spaced, Mutation::FullWidth, Mutation::Misspelt]
        );
        assert!(plain.outcomes[2].holes.is_empty());
        let sees = Guardrail::builder(config).word_disguises(true).build_blocking().unwrap();
        let seen = suite().run_blocking(&sees, &Mutation::ALL).unwrap();
        assert_eq!(seen.outcomes[0].holes, [Mutation::Misspelt]);
    }

    #[test]
    fn versions_are_compared_case_by_case() {
        let (one, other) = (guardrail(&["secret"]), guardrail(&["recipe", "nothing"]));
        let (one, other) = (suite().run_blocking(&one, &[]).unwrap(), suite().run_blocking(&other, &[]).unwrap());
        let changed: Vec<usize> = one.differences(&other).into_iter().map(|(index, ..)| index).collect();
        assert_eq!(changed, [2, 3]);
        assert!(one.differences(&one).is_empty());
    }

    #[test]
    fn lines_that_are_no_case_are_refused_by_number() {
        for (text, line) in [
            ("{\"text\": \"a\", \"expect\": \"NONE\"}\n{}", "line 2"),
            ("{\"text\": \"a\", \"expect\": \"LOUD\"}", "line 1"),
            ("{\"text\": \"a\", \"expect\": \"NONE\", \"expects\": 1}", "line 1"),
            ("nonsense", "line 1"),
        ] {
            let Err(Error::Validation { message }) = Suite::from_jsonl(text) else { panic!("{text} is a suite") };
            assert!(message.contains(line), "{message}");
        }
    }
}
