//! One side of a guardrail, compiled: what to look for in texts that go to a model, or come from one, and what to do about it.

use std::ops::Range;
use std::sync::Arc;

use bedrock_core::{
    CreateGuardrailRequest, Error, GuardrailAssessment, GuardrailConfigAction, GuardrailContentFilter,
    GuardrailContentPolicyAssessment, GuardrailContentSource, GuardrailContextualGroundingFilter,
    GuardrailContextualGroundingPolicyAssessment, GuardrailCustomWord, GuardrailManagedWord, GuardrailManagedWordsType,
    GuardrailModality, GuardrailPiiEntityFilter, GuardrailPiiEntityType, GuardrailPolicyAction, GuardrailRegexFilter,
    GuardrailSensitiveInformationPolicyAssessment, GuardrailStrength, GuardrailTierName, GuardrailTopic,
    GuardrailTopicPolicyAssessment, GuardrailTopicType, GuardrailUsage, GuardrailWordPolicyAssessment,
};

use crate::classifier::GroundingJudge;
use crate::detect::{Detector, resolve};
use crate::examine::Examiner;
use crate::models::Models;
use crate::picture::{ImageContentClassifier, Picture};
use crate::policy::content::attack::AttackScores;
use crate::policy::content::classic::classic;
use crate::policy::content::{self, ContentRecognizer, standard};
use crate::policy::grounding::aligned::Aligner;
use crate::policy::grounding::{self, Material};
use crate::policy::pii::{self, KINDS};
use crate::policy::regex::RegexRecognizer;
use crate::policy::topic;
use crate::policy::word::{WordRecognizer, profanity};
use crate::scan::{Candidate, Label, Recognizer, Window};
use crate::vault::Vault;

/// What is done about a finding, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// Nothing, not even a report: a learned filter is less sure than its strength asks for.
    Ignore,
    Report,
    Mask,
    Block,
}

impl Action {
    fn of(action: &GuardrailConfigAction) -> Self {
        match action {
            GuardrailConfigAction::Block => Self::Block,
            GuardrailConfigAction::Anonymize => Self::Mask,
            _ => Self::Report,
        }
    }

    fn label(self) -> GuardrailPolicyAction {
        match self {
            Self::Block => GuardrailPolicyAction::Blocked,
            Self::Mask => GuardrailPolicyAction::Anonymized,
            Self::Report | Self::Ignore => GuardrailPolicyAction::None,
        }
    }
}

/// A finding and what is done about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    /// Bytes of the text that was judged.
    pub(crate) span: Range<usize>,
    pub(crate) label: Label,
    pub(crate) score: f32,
    pub(crate) action: Action,
    /// The characters.
    pub(crate) matched: String,
    /// Whether they are known to stand in what somebody else than the user wrote.
    pub(crate) third_party: bool,
}

impl Finding {
    pub(crate) fn is_attack(&self) -> bool {
        self.label == Label::Content(content::PROMPT_ATTACK as u8)
    }

    /// Of a prompt attack: how much of its score is of each kind.
    pub(crate) fn attack(&self) -> Option<AttackScores> {
        let scores = self.is_attack().then(|| AttackScores::of(&self.matched, self.score))?;
        Some(if self.third_party { scores.by_third_party() } else { scores })
    }
}

/// A content filter that is switched on.
#[derive(Debug, Clone)]
struct ContentFilter {
    strength: GuardrailStrength,
    action: Action,
    /// Scores from which confidence is low, medium and high.
    steps: [f32; 3],
}

/// One side of a guardrail.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) source: GuardrailContentSource,
    detector: Arc<Detector>,
    kinds: Vec<(u8, Action)>,
    regexes: Vec<Option<Action>>,
    /// Name and pattern of each regex of the configuration.
    regex_names: Vec<(String, String)>,
    words: Vec<Option<Action>>,
    profanity: Option<Action>,
    /// Each content filter of texts that is switched on.
    content: [Option<ContentFilter>; content::CATEGORIES],
    /// Each content filter of pictures that is switched on.
    pictures: [Option<ContentFilter>; content::CATEGORIES],
    /// Who judges pictures, if there is such a filter.
    image_classifier: Option<Arc<ImageContentClassifier>>,
    /// Name and, if it is switched on, action of each topic.
    topics: Vec<(String, Option<Action>)>,
    /// What models are asked.
    examiners: Vec<Examiner>,
    judge: Option<GroundingJudge>,
    aligner: Option<Aligner>,
    /// Threshold and action of each grounding check; answers alone are checked.
    grounding: [Option<(f64, Action)>; 2],
    /// What keeps the values behind the masks.
    vault: Option<Arc<Vault>>,
}

/// The action of one entry on one side; `None` if the entry is switched off there.
fn side_action(
    source: &GuardrailContentSource,
    (input_enabled, output_enabled): (Option<bool>, Option<bool>),
    (input, output): (&Option<GuardrailConfigAction>, &Option<GuardrailConfigAction>),
    default: &GuardrailConfigAction,
) -> Option<Action> {
    let (enabled, action) = match source {
        GuardrailContentSource::Input => (input_enabled, input),
        _ => (output_enabled, output),
    };
    enabled.unwrap_or(true).then(|| Action::of(action.as_ref().unwrap_or(default)))
}

impl Side {
    /// # Errors
    /// [`Error::Validation`] for a pattern or list that does not compile, and for a policy whose model is not among `models`.
    pub(crate) fn new(
        config: &CreateGuardrailRequest,
        source: GuardrailContentSource,
        models: &Models,
    ) -> Result<Self, Error> {
        let mut recognizers: Vec<Box<dyn Recognizer>> = Vec::new();
        let (mut kinds, mut regexes, mut regex_names) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(policy) = &config.sensitive_information_policy_config {
            for entity in &policy.pii_entities_config {
                let enabled = (entity.input_enabled, entity.output_enabled);
                if let Some(action) =
                    side_action(&source, enabled, (&entity.input_action, &entity.output_action), &entity.action)
                    && let Some(kind) = KINDS.iter().position(|kind| *kind == entity.kind)
                {
                    kinds.push((kind as u8, action));
                }
            }
            for (index, regex) in policy.regexes_config.iter().enumerate() {
                let action = side_action(
                    &source,
                    (regex.input_enabled, regex.output_enabled),
                    (&regex.input_action, &regex.output_action),
                    &regex.action,
                );
                if action.is_some() {
                    let recognizer =
                        RegexRecognizer::new(&regex.pattern, Label::Regex(index as u16)).map_err(|error| {
                            Error::validation(format!(
                                "sensitiveInformationPolicyConfig.regexesConfig.{index}.pattern: {error}"
                            ))
                        })?;
                    recognizers.push(Box::new(recognizer));
                }
                regexes.push(action);
                regex_names.push((regex.name.clone(), regex.pattern.clone()));
            }
        }
        let wanted: Vec<GuardrailPiiEntityType> =
            kinds.iter().map(|(kind, _)| KINDS[usize::from(*kind)].clone()).collect();
        recognizers.extend(pii::recognizers(&wanted, pii::THRESHOLD));

        let (mut words, mut profane) = (Vec::new(), None);
        if let Some(policy) = &config.word_policy_config {
            let block = GuardrailConfigAction::Block;
            for word in &policy.words_config {
                let enabled = (word.input_enabled, word.output_enabled);
                words.push(side_action(&source, enabled, (&word.input_action, &word.output_action), &block));
            }
            for list in &policy.managed_word_lists_config {
                let enabled = (list.input_enabled, list.output_enabled);
                profane = profane.or(side_action(&source, enabled, (&list.input_action, &list.output_action), &block));
            }
            let custom = policy.words_config.iter().zip(&words).enumerate();
            let custom = custom
                .filter(|(_, (_, action))| action.is_some())
                .map(|(index, (word, _))| (word.text.as_str(), Label::Word(index as u16)));
            let managed = profanity().filter(|_| profane.is_some()).map(|word| (word, Label::Profanity));
            let list: Vec<_> = custom.chain(managed).collect();
            if !list.is_empty() {
                let words = WordRecognizer::new(list, models.words)
                    .map_err(|error| Error::validation(format!("wordPolicyConfig.wordsConfig: {error}")))?;
                recognizers.push(Box::new(words));
            }
        }
        let mut examiners = Vec::new();
        let mut filters: [Option<ContentFilter>; content::CATEGORIES] = Default::default();
        let mut pictures: [Option<ContentFilter>; content::CATEGORIES] = Default::default();
        let tier = config.content_policy_config.as_ref().and_then(|policy| policy.tier_config.as_ref());
        let is_standard = tier.is_some_and(|tier| tier.tier_name == GuardrailTierName::Standard);
        let outside = models.classifier.as_ref().map(|classifier| classifier.map().categories()).unwrap_or_default();
        for (index, filter) in config.content_policy_config.iter().flat_map(|policy| &policy.filters_config).enumerate()
        {
            let seer = models.image_classifier(index, filter)?;
            let (strength, modalities) = match source {
                GuardrailContentSource::Input => (&filter.input_strength, &filter.input_modalities),
                _ => (&filter.output_strength, &filter.output_modalities),
            };
            let enabled = (filter.input_enabled, filter.output_enabled);
            let actions = (&filter.input_action, &filter.output_action);
            let action = side_action(&source, enabled, actions, &GuardrailConfigAction::Block);
            if let (Some(category), Some(action)) = (content::category(&filter.kind), action)
                && *strength != GuardrailStrength::None
            {
                let steps = match &models.classifier {
                    Some(classifier) if outside[category] => classifier.map().steps,
                    _ if is_standard => standard::head().score_steps(category),
                    _ => classic().steps(category),
                };
                let filter = |steps| Some(ContentFilter { strength: strength.clone(), action, steps });
                if modalities.is_empty() || modalities.contains(&GuardrailModality::Text) {
                    filters[category] = filter(steps);
                }
                if let Some(seer) = seer.filter(|_| modalities.contains(&GuardrailModality::Image)) {
                    pictures[category] = filter(seer.map().steps);
                }
            }
        }
        let image_classifier = models.image_classifier.clone().filter(|_| pictures.iter().any(Option::is_some));
        let wanted: [bool; content::CATEGORIES] =
            std::array::from_fn(|category| filters[category].is_some() && !outside[category]);
        if let Some(classifier) = &models.classifier
            && filters.iter().zip(outside).any(|(filter, outside)| filter.is_some() && outside)
        {
            examiners.push(Examiner::Classifier(classifier.clone(), outside));
        }
        if wanted.contains(&true) {
            if is_standard {
                let embedder = models.embedder("contentPolicyConfig.tierConfig.tierName: tier STANDARD needs")?;
                examiners.push(Examiner::Standard(embedder, wanted));
            } else {
                recognizers.push(Box::new(ContentRecognizer { wanted }));
            }
        }
        let mut topics = Vec::new();
        if let Some(policy) = &config.topic_policy_config {
            for topic in &policy.topics_config {
                let enabled = (topic.input_enabled, topic.output_enabled);
                let actions = (&topic.input_action, &topic.output_action);
                let action = side_action(&source, enabled, actions, &GuardrailConfigAction::Block);
                topics.push((topic.name.clone(), action));
            }
            if topics.iter().any(|(_, action)| action.is_some()) {
                examiners.push(Examiner::Topics(models.topics()?));
            }
        }
        let mut checks = [None; 2];
        for filter in config.contextual_grounding_policy_config.iter().flat_map(|policy| &policy.filters_config) {
            if let Some(index) = grounding::TYPES.iter().position(|kind| *kind == filter.kind)
                && source == GuardrailContentSource::Output
                && filter.enabled.unwrap_or(true)
            {
                let action = Action::of(filter.action.as_ref().unwrap_or(&GuardrailConfigAction::Block));
                checks[index] = Some((filter.threshold, action));
            }
        }
        if !recognizers.is_empty() {
            let names = KINDS
                .iter()
                .map(GuardrailPiiEntityType::as_str)
                .chain(regex_names.iter().map(|(name, _)| name.as_str()));
            let masks = RegexRecognizer::masks(names).map_err(|error| {
                Error::validation(format!("sensitiveInformationPolicyConfig.regexesConfig: {error}"))
            })?;
            recognizers.push(Box::new(masks));
        }
        Ok(Self {
            source,
            detector: Arc::new(Detector::new(recognizers)),
            kinds,
            regexes,
            regex_names,
            words,
            profanity: profane,
            content: filters,
            pictures,
            image_classifier,
            topics,
            examiners,
            judge: models.judge.clone(),
            aligner: models.aligner.clone(),
            grounding: checks,
            vault: None,
        })
    }

    /// The same side with pseudonyms in place of masks.
    pub(crate) fn with_vault(&self, vault: Arc<Vault>) -> Self {
        Self { vault: Some(vault), ..self.clone() }
    }

    /// What takes its masks back, if they are pseudonyms.
    pub(crate) fn vault(&self) -> Option<&Vault> {
        self.vault.as_deref()
    }

    pub(crate) fn examiners(&self) -> &[Examiner] {
        &self.examiners
    }

    /// The score from which on a model's finding is one: one that is not even of low confidence is none.
    pub(crate) fn least(&self, label: Label) -> Option<f32> {
        match label {
            Label::Content(category) => self.content[usize::from(category)].as_ref().map(|filter| filter.steps[0]),
            Label::Topic(index) => self.topics.get(usize::from(index))?.1.map(|_| topic::DENIED),
            _ => None,
        }
    }

    pub(crate) fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Whether there is anything to look for in texts.
    pub(crate) fn is_empty(&self) -> bool {
        self.detector.len() == 0 && self.examiners.is_empty() && !self.checks_grounding()
    }

    /// Whether whole answers are held against a source or a query.
    pub(crate) fn checks_grounding(&self) -> bool {
        self.grounding.iter().any(Option::is_some)
    }

    /// Findings of the grounding checks, also of those that are passed.
    ///
    /// # Errors
    /// [`Error::Validation`] if a text is longer than may be checked; what a judge fails with.
    pub(crate) async fn ground(&self, material: &Material, text: &str) -> Result<Vec<Finding>, Error> {
        if !self.checks_grounding() || text.is_empty() {
            return Ok(Vec::new());
        }
        let scores = material.scores(text, self.judge.as_ref(), self.aligner.as_ref()).await?;
        let mut findings = Vec::new();
        for (index, (check, score)) in self.grounding.iter().zip(scores).enumerate() {
            if let (Some((threshold, action)), Some(score)) = (check, score) {
                let action = if f64::from(score) < *threshold { *action } else { Action::Ignore };
                let label = Label::Grounding(index as u8);
                findings.push(Finding {
                    span: 0..text.len(),
                    label,
                    score,
                    action,
                    matched: String::new(),
                    third_party: false,
                });
            }
        }
        Ok(findings)
    }

    /// Whether pictures are judged.
    pub(crate) fn judges_pictures(&self) -> bool {
        self.image_classifier.is_some()
    }

    /// Findings of a picture.
    ///
    /// # Errors
    /// Those of the model.
    pub(crate) async fn judge_picture(&self, picture: &Picture<'_>) -> Result<Vec<Finding>, Error> {
        let Some(classifier) = &self.image_classifier else { return Ok(Vec::new()) };
        let wanted = std::array::from_fn(|category| self.pictures[category].is_some());
        let scores = classifier.scores(picture, wanted).await?;
        let found = (0..content::CATEGORIES).filter(|category| wanted[*category]).filter_map(|category| {
            let (label, score) = (Label::Picture(category as u8), scores[category]);
            let action = self.action(label, score)?;
            Some(Finding { span: 0..0, label, score, action, matched: String::new(), third_party: false })
        });
        Ok(found.collect())
    }

    /// The filter of a content category, of texts or of pictures.
    fn filter(&self, label: Label) -> Option<(usize, &ContentFilter)> {
        let (filters, category) = match label {
            Label::Content(category) => (&self.content, usize::from(category)),
            Label::Picture(category) => (&self.pictures, usize::from(category)),
            _ => return None,
        };
        Some((category, filters.get(category)?.as_ref()?))
    }

    fn action(&self, label: Label, score: f32) -> Option<Action> {
        match label {
            Label::Mask => None,
            Label::Pii(kind) => self.kinds.iter().find(|(known, _)| *known == kind).map(|(_, action)| *action),
            Label::Regex(index) => self.regexes.get(usize::from(index)).copied().flatten(),
            Label::Word(index) => self.words.get(usize::from(index)).copied().flatten(),
            Label::Profanity => self.profanity,
            Label::Grounding(_) => None,
            Label::Content(_) | Label::Picture(_) => {
                let (_, filter) = self.filter(label)?;
                let sure = content::confidence(&filter.steps, score) >= content::least_confidence(&filter.strength);
                Some(if sure { filter.action } else { Action::Ignore })
            }
            Label::Topic(index) => self.topics.get(usize::from(index))?.1,
        }
    }

    /// The candidates that stay, with what is done about them.
    pub(crate) fn decide(&self, text: &str, candidates: Vec<Candidate>) -> Vec<Finding> {
        resolve(candidates)
            .into_iter()
            .filter_map(|Candidate { span, label, score }| {
                let action = self.action(label, score)?;
                let matched = text[span.clone()].to_owned();
                Some(Finding { span, label, score: score.min(1.0), action, matched, third_party: false })
            })
            .collect()
    }

    /// Findings of a whole text.
    ///
    /// # Errors
    /// Those of the models that are asked.
    pub(crate) async fn judge(&self, text: &str) -> Result<Vec<Finding>, Error> {
        let mut found = self.detector.detect(Window::whole(text));
        for examiner in &self.examiners {
            examiner.advance(Window::whole(text), 0, |label| self.least(label), &mut 0, &mut found).await?;
        }
        Ok(self.decide(text, found))
    }

    /// Findings of a whole text, as far as no model from outside has to be asked.
    pub(crate) fn judge_at_once(&self, text: &str) -> Vec<Finding> {
        let found = self.detector.detect(Window::whole(text));
        self.decide(text, found)
    }

    /// What stands in place of a value.
    fn mask_of(&self, label: Label, value: &str) -> String {
        let name = match label {
            Label::Pii(kind) => KINDS[usize::from(kind)].as_str(),
            Label::Regex(index) => self.regex_names.get(usize::from(index)).map_or("", |(name, _)| name.as_str()),
            Label::Mask | Label::Word(_) | Label::Profanity => return String::new(),
            Label::Content(_) | Label::Picture(_) | Label::Topic(_) | Label::Grounding(_) => return String::new(),
        };
        match &self.vault {
            Some(vault) => vault.pseudonym(name, value),
            None => format!("{{{name}}}"),
        }
    }

    /// `text[range]` with masks. Masks that overlap melt into one, which has the name of the strongest finding: the highest
    /// score, then the longest, then a built-in kind before a pattern.
    pub(crate) fn mask(&self, text: &str, range: Range<usize>, findings: &[Finding]) -> String {
        let mut out = String::with_capacity(range.len());
        let mut at = range.start;
        let mut group: Option<(Range<usize>, &Finding)> = None;
        let masked =
            findings.iter().filter(|finding| finding.action == Action::Mask && finding.span.start >= range.start);
        let close = |out: &mut String, at: &mut usize, group: Option<(Range<usize>, &Finding)>| {
            if let Some((span, best)) = group {
                out.push_str(&text[*at..span.start]);
                out.push_str(&self.mask_of(best.label, &text[span.clone()]));
                *at = span.end;
            }
        };
        for finding in masked {
            match &mut group {
                Some((span, best)) if finding.span.start < span.end => {
                    span.end = span.end.max(finding.span.end);
                    let key = |f: &Finding| (f.score, f.span.len());
                    if key(finding) > key(best) || (key(finding) == key(best) && finding.label < best.label) {
                        *best = finding;
                    }
                }
                _ => close(&mut out, &mut at, group.replace((finding.span.clone(), finding))),
            }
        }
        close(&mut out, &mut at, group);
        out.push_str(&text[at..range.end]);
        out
    }

    /// The findings in the service's shape. With `full`, kinds that were looked for and not found are listed too.
    pub(crate) fn assessment<'f>(
        &self,
        findings: impl IntoIterator<Item = &'f Finding>,
        full: bool,
        masks: bool,
    ) -> GuardrailAssessment {
        let mut words = GuardrailWordPolicyAssessment::default();
        let mut sensitive = GuardrailSensitiveInformationPolicyAssessment::default();
        let mut checks = Vec::new();
        let mut topics: Vec<GuardrailTopic> = Vec::new();
        let mut worst = [(0, Action::Ignore); content::CATEGORIES];
        for finding in findings {
            let matched = finding.matched.clone();
            let action = match finding.action {
                Action::Mask if !masks => GuardrailPolicyAction::None,
                action => action.label(),
            };
            let detected = Some(true);
            match finding.label {
                Label::Mask => {}
                Label::Grounding(index) => {
                    let index = usize::from(index);
                    let Some((threshold, _)) = self.grounding[index] else { continue };
                    checks.push(GuardrailContextualGroundingFilter {
                        kind: grounding::TYPES[index].clone(),
                        threshold,
                        score: (f64::from(finding.score) * 1e4).round() / 1e4,
                        action,
                        detected: Some(finding.action != Action::Ignore),
                    });
                }
                Label::Topic(index) => {
                    let Some((name, _)) = self.topics.get(usize::from(index)) else { continue };
                    if !topics.iter().any(|topic| topic.name == *name) {
                        let kind = GuardrailTopicType::Deny;
                        topics.push(GuardrailTopic { name: name.clone(), kind, action, detected });
                    }
                }
                Label::Content(_) | Label::Picture(_) => {
                    let Some((category, filter)) = self.filter(finding.label) else { continue };
                    let sure = content::confidence(&filter.steps, finding.score);
                    worst[category] = worst[category].max((sure, finding.action));
                }
                Label::Pii(kind) => sensitive.pii_entities.push(GuardrailPiiEntityFilter {
                    matched,
                    kind: KINDS[usize::from(kind)].clone(),
                    action,
                    detected,
                }),
                Label::Regex(index) => {
                    let (name, regex) = self.regex_names.get(usize::from(index)).cloned().unwrap_or_default();
                    sensitive.regexes.push(GuardrailRegexFilter {
                        name: Some(name),
                        matched: Some(matched),
                        regex: Some(regex),
                        action,
                        detected,
                    });
                }
                Label::Word(_) => {
                    if !words.custom_words.iter().any(|word| word.matched == matched) {
                        words.custom_words.push(GuardrailCustomWord { matched, action, detected });
                    }
                }
                Label::Profanity => {
                    if !words.managed_word_lists.iter().any(|word| word.matched == matched) {
                        let kind = GuardrailManagedWordsType::Profanity;
                        words.managed_word_lists.push(GuardrailManagedWord { matched, kind, action, detected });
                    }
                }
            }
        }
        if full {
            for (kind, _) in &self.kinds {
                let kind = &KINDS[usize::from(*kind)];
                if !sensitive.pii_entities.iter().any(|entity| entity.kind == *kind) {
                    sensitive.pii_entities.push(GuardrailPiiEntityFilter {
                        matched: String::new(),
                        kind: kind.clone(),
                        action: GuardrailPolicyAction::None,
                        detected: Some(false),
                    });
                }
            }
        }
        if full {
            for (name, _) in self.topics.iter().filter(|(_, action)| action.is_some()) {
                if !topics.iter().any(|topic| topic.name == *name) {
                    topics.push(GuardrailTopic {
                        name: name.clone(),
                        kind: GuardrailTopicType::Deny,
                        action: GuardrailPolicyAction::None,
                        detected: Some(false),
                    });
                }
            }
        }
        let content = self.content_assessment(worst, full);
        let words_found = !words.custom_words.is_empty() || !words.managed_word_lists.is_empty();
        let sensitive_found = !sensitive.pii_entities.is_empty() || !sensitive.regexes.is_empty();
        GuardrailAssessment {
            topic_policy: (!topics.is_empty()).then_some(GuardrailTopicPolicyAssessment { topics }),
            content_policy: (!content.filters.is_empty()).then_some(content),
            contextual_grounding_policy: (!checks.is_empty())
                .then_some(GuardrailContextualGroundingPolicyAssessment { filters: checks }),
            word_policy: words_found.then_some(words),
            sensitive_information_policy: sensitive_found.then_some(sensitive),
            ..GuardrailAssessment::default()
        }
    }

    /// One entry for each filter that acts, or with `full` for each that is switched on. `worst` is how sure each is, of texts and pictures alike.
    fn content_assessment(
        &self,
        worst: [(u8, Action); content::CATEGORIES],
        full: bool,
    ) -> GuardrailContentPolicyAssessment {
        let mut filters = Vec::new();
        for (category, (texts, pictures)) in self.content.iter().zip(&self.pictures).enumerate() {
            // One filter of the configuration, so of one strength.
            let Some(ContentFilter { strength, .. }) = texts.as_ref().or(pictures.as_ref()) else { continue };
            let (sure, action) = worst[category];
            let detected = action != Action::Ignore;
            if detected || full {
                filters.push(GuardrailContentFilter {
                    kind: content::TYPES[category].clone(),
                    confidence: content::confidence_name(sure),
                    filter_strength: Some(strength.clone()),
                    action: action.label(),
                    detected: Some(detected),
                });
            }
        }
        GuardrailContentPolicyAssessment { filters }
    }

    /// Text units (of up to 1,000 characters) that judging so many characters counts, by policy, and so many pictures.
    pub(crate) fn usage(&self, characters: usize, pictures: u32) -> GuardrailUsage {
        let units = u32::try_from(characters.div_ceil(1000)).unwrap_or(u32::MAX);
        let if_any = |any: bool| if any { units } else { 0 };
        GuardrailUsage {
            topic_policy_units: if_any(self.topics.iter().any(|(_, action)| action.is_some())),
            content_policy_units: if_any(self.content.iter().any(Option::is_some)),
            contextual_grounding_policy_units: if_any(self.checks_grounding()),
            word_policy_units: if_any(self.profanity.is_some() || self.words.iter().any(Option::is_some)),
            sensitive_information_policy_units: if_any(!self.kinds.is_empty()),
            sensitive_information_policy_free_units: if_any(self.regexes.iter().any(Option::is_some)),
            content_policy_image_units: (pictures > 0).then_some(pictures),
            ..GuardrailUsage::default()
        }
    }
}
