//! The models that a guardrail asks, and the guardrail that is built with them.

use std::fmt;
use std::sync::Arc;

use bedrock_core::{
    BoxFuture, CreateGuardrailRequest, EmbeddingModel, Error, GuardrailContentFilterConfig, GuardrailModality,
    GuardrailTierName, TextClassifier,
};

use crate::classifier::{ContentClassifier, GroundingJudge};
use crate::examine::embed;
use crate::guardrail::{Guardrail, read_config};
use crate::picture::ImageContentClassifier;
use crate::policy::content::{category, standard};
use crate::policy::grounding::aligned::Aligner;
use crate::policy::topic::Topics;
use crate::policy::topic_judge::TopicJudge;
use crate::policy::word::Matching;

/// Models, as far as there are any.
#[derive(Clone, Default)]
pub(crate) struct Models {
    pub(crate) embedder: Option<Arc<dyn EmbeddingModel>>,
    pub(crate) classifier: Option<Arc<ContentClassifier>>,
    pub(crate) image_classifier: Option<Arc<ImageContentClassifier>>,
    pub(crate) judge: Option<GroundingJudge>,
    /// The embedder, if there is a grounding check, and it is the one that check was trained with.
    pub(crate) aligner: Option<Aligner>,
    /// What counts as a word of the word filter.
    pub(crate) words: Matching,
    pub(crate) topic_judge: Option<TopicJudge>,
    /// Embedded when the guardrail is built.
    pub(crate) topics: Option<Arc<Topics>>,
}

impl Models {
    /// # Errors
    /// [`Error::Validation`] if there is none; `why` says who needs it.
    pub(crate) fn embedder(&self, why: &str) -> Result<Arc<dyn EmbeddingModel>, Error> {
        self.embedder.clone().ok_or_else(|| {
            Error::validation(format!("{why} an embedding model: build with Guardrail::builder(…).embedder(…)"))
        })
    }

    /// # Errors
    /// [`Error::Validation`] if nobody knows the topics.
    pub(crate) fn topics(&self) -> Result<Arc<Topics>, Error> {
        let topics = self.topics.clone();
        topics.ok_or_else(|| {
            Error::validation("topicPolicyConfig: denied topics need an embedding model or a judge: build with Guardrail::builder(…).embedder(…) or .topic_judge(…)")
        })
    }

    /// Who judges the pictures of a filter; `None` for a filter of texts alone. `index` is that of the filter.
    ///
    /// # Errors
    /// [`Error::Validation`] if there is none, or if it knows nothing of the filter's category.
    pub(crate) fn image_classifier(
        &self,
        index: usize,
        filter: &GuardrailContentFilterConfig,
    ) -> Result<Option<&ImageContentClassifier>, Error> {
        if !filter.input_modalities.iter().chain(&filter.output_modalities).any(|m| *m == GuardrailModality::Image) {
            return Ok(None);
        }
        let path = format!("contentPolicyConfig.filtersConfig.{index}");
        let Some(classifier) = &self.image_classifier else {
            return Err(Error::validation(format!(
                "{path}: filters of pictures need a model that sees: build with Guardrail::builder(…).image_classifier(…)"
            )));
        };
        if !category(&filter.kind).is_some_and(|category| classifier.map().categories()[category]) {
            let kind = filter.kind.as_str();
            return Err(Error::validation(format!("{path}: no label of the image classifier stands for {kind}")));
        }
        Ok(Some(classifier))
    }
}

/// Builds a guardrail that asks models. Made by [`Guardrail::builder`].
///
/// ```
/// use bedrock_core::testing::HashEmbedder;
/// use bedrock_core::{ApplyGuardrailRequest, Guardrail as _};
/// use bedrock_guard::Guardrail;
///
/// let json = r#"{
///     "name": "bank",
///     "blockedInputMessaging": "I can't help with that.",
///     "blockedOutputsMessaging": "I can't say that.",
///     "topicPolicyConfig": {"topicsConfig": [{
///         "name": "Investment advice",
///         "definition": "Recommendations about which stocks, funds or bonds to buy or sell",
///         "examples": ["Which stocks should I buy?", "Is this fund a good investment?"],
///         "type": "DENY"
///     }]}
/// }"#;
/// // A stand-in for a sentence encoder: it knows words, not what they mean.
/// let guardrail = Guardrail::builder_from_json(json)?.embedder(HashEmbedder::default()).build_blocking()?;
/// assert!(guardrail.apply_blocking(&ApplyGuardrailRequest::input("Tell me which stocks I should buy!"))?.blocked());
/// assert!(!guardrail.apply_blocking(&ApplyGuardrailRequest::input("When does the branch open?"))?.blocked());
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[must_use]
pub struct GuardrailBuilder {
    config: CreateGuardrailRequest,
    models: Models,
    identity: Option<(String, String)>,
}

impl fmt::Debug for GuardrailBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardrailBuilder").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl Guardrail {
    /// Begins a guardrail that asks models: content filters of tier `STANDARD` and denied topics need an
    /// [`embedder`](GuardrailBuilder::embedder) (topics a [`judge`](GuardrailBuilder::topic_judge) at least), other models may replace what is built in.
    pub fn builder(config: CreateGuardrailRequest) -> GuardrailBuilder {
        GuardrailBuilder { config, models: Models::default(), identity: None }
    }

    /// The same from the JSON body of a `CreateGuardrail` request.
    ///
    /// # Errors
    /// [`Error::Validation`] for text that is no such body; see [`Guardrail::from_json`].
    pub fn builder_from_json(json: &str) -> Result<GuardrailBuilder, Error> {
        Ok(Self::builder(read_config(json)?))
    }
}

impl GuardrailBuilder {
    /// Whether the configuration can't be built without an [`embedder`](Self::embedder).
    pub fn needs_embedder(&self) -> bool {
        (self.config.topic_policy_config.is_some() && self.models.topic_judge.is_none()) || is_standard(&self.config)
    }

    /// Whether the configuration judges better with an [`embedder`](Self::embedder): it needs one, has denied topics, or checks whether sources support answers.
    pub fn uses_embedder(&self) -> bool {
        self.needs_embedder()
            || self.config.topic_policy_config.is_some()
            || (self.config.contextual_grounding_policy_config.is_some() && self.models.judge.is_none())
    }

    /// The sentence encoder of tier `STANDARD`, of denied topics and of the check `GROUNDING`. The tier takes all-MiniLM-L6-v2, however it is run; topics take
    /// any. With all-MiniLM-L6-v2 `GROUNDING` holds each word of an answer against the source; with another, or none, it goes by shared words.
    pub fn embedder(mut self, model: impl EmbeddingModel + 'static) -> Self {
        self.models.embedder = Some(Arc::new(model));
        self
    }

    /// A classifier in place of the built-in content filters of the categories that it judges.
    pub fn classifier(mut self, classifier: ContentClassifier) -> Self {
        self.models.classifier = Some(Arc::new(classifier));
        self
    }

    /// The classifier that content filters of pictures ask: those with `IMAGE` among their modalities, on the side (input or output) that has it. Nothing is built in, so
    /// without one such a guardrail is refused. PNG and JPEG of at most 4 MiB are judged, 20 in a request; what else is a picture can't be judged:
    /// [`apply`](bedrock_core::Guardrail::apply) refuses it, and in messages [`OnFailure`](crate::OnFailure) says what happens.
    ///
    /// ```
    /// use bedrock_core::{
    ///     ApplyGuardrailRequest, BoxFuture, Error, Guardrail as _, GuardrailContentBlock, GuardrailContentSource,
    ///     GuardrailImageBlock, GuardrailImageFormat, GuardrailImageSource, LabelScore,
    /// };
    /// use bedrock_guard::{Guardrail, ImageClassifier, ImageContentClassifier};
    ///
    /// /// Stands in for a network that looks at pixels: it takes large files to be violent.
    /// struct BySize;
    ///
    /// impl ImageClassifier for BySize {
    ///     fn classify<'a>(
    ///         &'a self,
    ///         _format: &'a GuardrailImageFormat,
    ///         bytes: &'a [u8],
    ///     ) -> BoxFuture<'a, Result<Vec<LabelScore>, Error>> {
    ///         let score = if bytes.len() > 100 { 0.95 } else { 0.02 };
    ///         Box::pin(async move { Ok(vec![LabelScore { label: "VIOLENCE".to_owned(), score }]) })
    ///     }
    /// }
    ///
    /// let json = r#"{
    ///     "name": "album",
    ///     "blockedInputMessaging": "I can't look at that.",
    ///     "blockedOutputsMessaging": "I can't show that.",
    ///     "contentPolicyConfig": {"filtersConfig": [{
    ///         "type": "VIOLENCE", "inputStrength": "HIGH", "outputStrength": "NONE", "inputModalities": ["TEXT", "IMAGE"]
    ///     }]}
    /// }"#;
    /// let classifier = ImageContentClassifier::new(BySize);
    /// let guardrail = Guardrail::builder_from_json(json)?.image_classifier(classifier).build_blocking()?;
    /// let picture = |bytes: usize| {
    ///     let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    ///     file.resize(bytes, 0);
    ///     let source = GuardrailImageSource::Bytes(file.into());
    ///     let block = GuardrailContentBlock::Image(GuardrailImageBlock { format: GuardrailImageFormat::Png, source });
    ///     ApplyGuardrailRequest::new(GuardrailContentSource::Input, [block])
    /// };
    /// assert!(guardrail.apply_blocking(&picture(200))?.blocked());
    /// assert!(!guardrail.apply_blocking(&picture(50))?.blocked());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn image_classifier(mut self, classifier: ImageContentClassifier) -> Self {
        self.models.image_classifier = Some(Arc::new(classifier));
        self
    }

    /// A classifier of pairs (passage, sentence) in place of the built-in check `GROUNDING`; `label` is the one that says that the passage
    /// supports the sentence: `entailment` of models of natural language inference. A response has the mean score of its
    /// sentences, a sentence that of the best of three passages of the source.
    pub fn grounding_judge(mut self, model: impl TextClassifier + 'static, label: impl Into<String>) -> Self {
        self.models.judge = Some(GroundingJudge { model: Arc::new(model), label: label.into() });
        self
    }

    /// A second opinion about denied topics where similarity leaves doubt, or, without an [`embedder`](Self::embedder), the only one: see [`TopicJudge`].
    ///
    /// ```
    /// use bedrock_core::testing::{Reply, ScriptedModel};
    /// use bedrock_core::{ApplyGuardrailRequest, Guardrail as _};
    /// use bedrock_guard::{Guardrail, TopicJudge};
    ///
    /// let json = r#"{
    ///     "name": "bank",
    ///     "blockedInputMessaging": "I can't help with that.",
    ///     "blockedOutputsMessaging": "I can't say that.",
    ///     "topicPolicyConfig": {"topicsConfig": [{
    ///         "name": "Investment advice", "definition": "Recommendations about which stocks to buy or sell", "type": "DENY"
    ///     }]}
    /// }"#;
    /// // A stand-in for a chat model.
    /// let model = ScriptedModel::new([Reply::text(r#"{"answer": "yes"}"#), Reply::text(r#"{"answer": "no"}"#)]);
    /// let builder = Guardrail::builder_from_json(json)?.topic_judge(TopicJudge::chat(model, "any"));
    /// let guardrail = builder.build_blocking()?;
    /// assert!(guardrail.apply_blocking(&ApplyGuardrailRequest::input("What should I put my savings in?"))?.blocked());
    /// assert!(!guardrail.apply_blocking(&ApplyGuardrailRequest::input("When does the branch open?"))?.blocked());
    /// # Ok::<(), bedrock_core::Error>(())
    /// ```
    pub fn topic_judge(mut self, judge: TopicJudge) -> Self {
        self.models.topic_judge = Some(judge);
        self
    }

    /// The id (lower-case letters and digits) and version (`DRAFT` or a number) of the guardrail.
    pub fn identity(mut self, id: impl Into<String>, version: impl Into<String>) -> Self {
        self.identity = Some((id.into(), version.into()));
        self
    }

    /// Whether the word filter finds English inflections of its words too: `stab` finds "stabs", "stabbed", "stabbing". Default: no.
    pub fn word_inflections(mut self, yes: bool) -> Self {
        self.models.words.inflections = yes;
        self
    }

    /// Whether the word filter sees through disguises: accents, letters of other scripts that look alike, digits and signs in place of letters
    /// (`s3cret`), letters set apart (`s e c r e t`, `s.e.c.r.e.t`). Default: no. Letters that are drawn out or left out hide a word still.
    pub fn word_disguises(mut self, yes: bool) -> Self {
        self.models.words.disguises = yes;
        self
    }

    /// Compiles the guardrail; embeds its topics.
    ///
    /// # Errors
    /// As [`Guardrail::new`]; also [`Error::Validation`] if the configuration needs an embedding model and there is none, if that of tier `STANDARD` is
    /// not the one its filters were trained on, or if the map of a classifier makes no sense; and what the models fail with.
    pub fn build(mut self) -> BoxFuture<'static, Result<Guardrail, Error>> {
        Box::pin(async move {
            // The rules of the service first: no model is asked about a configuration that breaks them.
            crate::guardrail::validate(&self.config)?;
            if let Some(classifier) = &self.models.classifier {
                classifier.map().validate()?;
            }
            if let Some(classifier) = &self.models.image_classifier {
                classifier.map().validate()?;
            }
            if let Some(judge) = &self.models.topic_judge {
                judge.validate()?;
            }
            if is_standard(&self.config) {
                let embedder = self.models.embedder("contentPolicyConfig.tierConfig.tierName: tier STANDARD needs")?;
                let probe = embed(embedder.as_ref(), vec![standard::PROBE.to_owned()]).await?;
                if !standard::head().knows(&probe[0]) {
                    let id = embedder.info().model_id;
                    return Err(Error::validation(format!(
                        "contentPolicyConfig.tierConfig.tierName: STANDARD was trained on all-MiniLM-L6-v2, and {id:?} is another model"
                    )));
                }
            }
            if let (Some(embedder), Some(_)) = (&self.models.embedder, &self.config.contextual_grounding_policy_config)
            {
                let probe = embed(embedder.as_ref(), vec![standard::PROBE.to_owned()]).await?;
                self.models.aligner = standard::head().knows(&probe[0]).then(|| Aligner(embedder.clone()));
            }
            if let Some(policy) = &self.config.topic_policy_config {
                let (embedder, judge) = (self.models.embedder.clone(), self.models.topic_judge.clone());
                if embedder.is_some() || judge.is_some() {
                    self.models.topics = Some(Arc::new(Topics::new(&policy.topics_config, embedder, judge).await?));
                }
                self.models.topics()?;
            }
            let guardrail = Guardrail::compile(self.config, self.models)?;
            Ok(match self.identity {
                Some((id, version)) => guardrail.with_identity(id, version),
                None => guardrail,
            })
        })
    }

    /// [`build`](Self::build) for callers without an async runtime: blocks the thread until the guardrail is there.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_blocking(self) -> Result<Guardrail, Error> {
        futures::executor::block_on(self.build())
    }
}

/// Whether content is filtered by tier `STANDARD`.
pub(crate) fn is_standard(config: &CreateGuardrailRequest) -> bool {
    let tier = config.content_policy_config.as_ref().and_then(|policy| policy.tier_config.as_ref());
    tier.is_some_and(|tier| tier.tier_name == GuardrailTierName::Standard)
}

#[cfg(test)]
mod tests {
    use bedrock_core::testing::HashEmbedder;
    use bedrock_core::{
        ApplyGuardrailRequest, EmbedRequest, EmbedResponse, EmbeddingModelInfo, Guardrail as _, GuardrailContentBlock,
        GuardrailContentQualifier, GuardrailContentSource, TokenStates,
    };
    use serde_json::json;

    use super::*;
    use crate::policy::grounding::aligned::tests::Words;

    /// Knows the probe as all-MiniLM-L6-v2 does, and words of everything else.
    struct Pretender(HashEmbedder, Option<Words>);

    impl EmbeddingModel for Pretender {
        fn embed<'a>(&'a self, request: &'a EmbedRequest) -> BoxFuture<'a, Result<EmbedResponse, Error>> {
            Box::pin(async move {
                let mut response = self.0.embed(request).await?;
                for (input, vector) in request.inputs.iter().zip(&mut response.embeddings) {
                    if input == standard::PROBE {
                        vector.clone_from(&standard::head().probe);
                    }
                }
                Ok(response)
            })
        }

        fn info(&self) -> EmbeddingModelInfo {
            self.0.info()
        }

        fn count_tokens(&self, text: &str) -> Result<usize, Error> {
            self.0.count_tokens(text)
        }

        fn token_states<'a>(&'a self, texts: &'a [String]) -> BoxFuture<'a, Result<Option<Vec<TokenStates>>, Error>> {
            match &self.1 {
                Some(words) => words.token_states(texts),
                None => Box::pin(async { Ok(None) }),
            }
        }
    }

    fn config(policy: serde_json::Value) -> CreateGuardrailRequest {
        let mut all = json!({"name": "g", "blockedInputMessaging": "no", "blockedOutputsMessaging": "no"});
        all.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn standard_tier() -> CreateGuardrailRequest {
        let filter = |kind: &str| json!({"type": kind, "inputStrength": "HIGH", "outputStrength": "HIGH"});
        let filters = [filter("HATE"), filter("INSULTS"), filter("VIOLENCE")];
        config(json!({"contentPolicyConfig": {"filtersConfig": filters, "tierConfig": {"tierName": "STANDARD"}}}))
    }

    #[test]
    fn the_tier_takes_its_encoder_alone() {
        let refused = |result: Result<Guardrail, Error>| match result {
            Err(Error::Validation { message }) => message,
            other => panic!("{other:?}"),
        };
        let message = refused(Guardrail::new(standard_tier()));
        assert!(message.contains("tierName") && message.contains("embedder"), "{message}");
        let message = refused(Guardrail::builder(standard_tier()).build_blocking());
        assert!(message.contains("embedder"), "{message}");
        for dimensions in [standard::DIMENSIONS, 256] {
            let other = HashEmbedder::new(dimensions);
            let message = refused(Guardrail::builder(standard_tier()).embedder(other).build_blocking());
            assert!(message.contains("hash-embedder"), "{message}");
        }
    }

    #[test]
    fn the_tier_judges_with_classic_and_the_embedding() {
        let guardrail = Guardrail::builder(standard_tier())
            .embedder(Pretender(HashEmbedder::new(standard::DIMENSIONS), None))
            .build_blocking()
            .unwrap();
        let insult = "You are a stupid, pathetic idiot and nobody likes you.";
        assert!(guardrail.apply_blocking(&ApplyGuardrailRequest::input(insult)).unwrap().blocked());
        let scores_of = |text: &str| {
            let request = ApplyGuardrailRequest::new(GuardrailContentSource::Input, [text]);
            guardrail.scores_blocking(&request).unwrap()
        };
        // The vectors of this encoder mean nothing, so a filter at its strongest may take a calm text for anything; but not for certain.
        let calm = scores_of("The train to the coast leaves at nine.");
        assert!(calm.iter().all(|score| score.score < 0.5), "{calm:?}");
        // The scores are those of the tier: what CLASSIC says, moved by the head.
        let scores = scores_of(insult);
        let classic = crate::policy::content::scores(insult);
        assert_eq!(scores.len(), classic.len() + crate::AttackKind::ALL.len());
        assert!(scores.iter().zip(classic).any(|(score, classic)| (score.score - classic).abs() > 1e-3));
    }

    #[test]
    fn grounding_goes_by_states_where_its_encoder_gives_them() {
        let filters = json!([{"type": "GROUNDING", "threshold": 0.5}]);
        let grounded =
            || Guardrail::builder(config(json!({"contextualGroundingPolicyConfig": {"filtersConfig": filters}})));
        assert!(grounded().uses_embedder() && !grounded().needs_embedder());
        let mut request =
            ApplyGuardrailRequest::new(GuardrailContentSource::Output, ["Crayons were not made in 1903."]);
        let source = "Crayola made its first crayons in 1903.";
        request.content.push(GuardrailContentBlock::text(source, [GuardrailContentQualifier::GroundingSource]));
        let score = |builder: GuardrailBuilder| builder.build_blocking().unwrap().scores_blocking(&request).unwrap();
        let by_words = score(grounded());
        let other = |states| Pretender(HashEmbedder::new(standard::DIMENSIONS), states);
        assert_ne!(score(grounded().embedder(other(Some(Words::default())))), by_words);
        // Without states, and by another encoder, the check is as it was.
        assert_eq!(score(grounded().embedder(other(None))), by_words);
        assert_eq!(score(grounded().embedder(HashEmbedder::default())), by_words);
    }

    #[test]
    fn a_long_piece_costs_a_part_of_it() {
        let long = "The weather was fine and the harbour was full of small boats. ".repeat(6)
            + "You are a stupid, pathetic idiot. "
            + &"Nobody was in a hurry to leave the island. ".repeat(4);
        let unit = standard::worst_unit(&long);
        assert!(unit.len() <= 100 && unit.contains("idiot"), "{unit}");
        assert_eq!(standard::worst_unit("short"), "short");
        assert_eq!(standard::units(&long).concat(), long);
    }
}
