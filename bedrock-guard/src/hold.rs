//! Text that waits until it is safe: one growing text under one side of a guardrail.

use crate::assess::{Action, Finding, Side};
use crate::scan::{Candidate, LOOK_BEHIND, Window};

/// A growing text. What comes out is, joined, what masking the whole text at once gives.
#[derive(Debug)]
pub(crate) struct Hold<'s> {
    side: &'s Side,
    /// Left context that was given out already, then what waits.
    window: String,
    /// Bytes of the window that were given out.
    released: usize,
    /// Bytes of the whole text before the window.
    dropped: usize,
    /// Bytes that came since the last scan.
    fresh: usize,
    frontiers: Vec<usize>,
    /// The same for what models are asked.
    examined: Vec<usize>,
    /// What was spent on limited questions, for each that is asked.
    spent: Vec<usize>,
    /// Whether text passes that a model fails to judge.
    lenient: bool,
    /// Found, but not decided: something that overlaps may still come.
    pending: Vec<Candidate>,
    /// Bytes that may wait.
    limit: usize,
    /// Nothing is given out before the end.
    whole: bool,
}

/// What a step gave.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Released {
    /// Text with masks. Empty if something blocks.
    pub(crate) text: String,
    /// The findings in it; spans are bytes of the whole text.
    pub(crate) findings: Vec<Finding>,
    /// More waits than may.
    pub(crate) overflow: bool,
    /// A model failed to judge. Nothing was given out.
    pub(crate) failed: bool,
}

impl Released {
    pub(crate) fn blocked(&self) -> bool {
        self.findings.iter().any(|finding| finding.action == Action::Block)
    }
}

impl<'s> Hold<'s> {
    /// At most `limit` bytes wait.
    pub(crate) fn new(side: &'s Side, limit: usize) -> Self {
        Self {
            side,
            window: String::new(),
            released: 0,
            dropped: 0,
            fresh: 0,
            frontiers: vec![0; side.detector().len()],
            examined: vec![0; side.examiners().len()],
            spent: vec![0; side.examiners().len()],
            lenient: false,
            pending: Vec::new(),
            limit,
            whole: false,
        }
    }

    /// Nothing is given out before the text is whole.
    pub(crate) fn whole(side: &'s Side, limit: usize) -> Self {
        Self { whole: true, ..Self::new(side, limit) }
    }

    /// The same hold; with `yes`, text passes that a model fails to judge.
    pub(crate) fn lenient(mut self, yes: bool) -> Self {
        self.lenient = yes;
        self
    }

    /// All the text so far, if it is given out as a whole.
    pub(crate) fn text(&self) -> Option<&str> {
        self.whole.then_some(self.window.as_str())
    }

    /// More text.
    pub(crate) async fn push(&mut self, text: &str) -> Released {
        self.window.push_str(text);
        self.fresh += text.len();
        let held = self.window.len() - self.released;
        // Each scan looks at all that waits. To scan only once a sixteenth of that is new keeps the cost of long holds linear
        // and changes when text is given out, not which.
        if self.whole || self.fresh * 16 < held {
            return Released { overflow: held > self.limit, ..Released::default() };
        }
        self.step(false).await
    }

    /// No more text will come: everything is decided.
    pub(crate) async fn finish(&mut self) -> Released {
        self.step(true).await
    }

    /// Decides everything as if the text ended here, but goes on after it. What spans this place is missed.
    pub(crate) async fn cut(&mut self) -> Released {
        let released = self.step(true).await;
        self.frontiers.fill(self.window.len());
        self.examined.fill(self.window.len());
        self.whole = false;
        released
    }

    async fn step(&mut self, complete: bool) -> Released {
        self.fresh = 0;
        let window = Window { complete, ..Window::growing(&self.window) };
        let mut safe = self.side.detector().advance(window, &mut self.frontiers, &mut self.pending);
        let states = self.examined.iter_mut().zip(&mut self.spent);
        for (examiner, (frontier, spent)) in self.side.examiners().iter().zip(states) {
            let least = |label| self.side.least(label);
            match examiner.advance(window, *frontier, least, spent, &mut self.pending).await {
                Ok(next) => *frontier = next,
                Err(_) if self.lenient => *frontier = self.window.len(),
                Err(_) => return Released { failed: true, ..Released::default() },
            }
            safe = safe.min(*frontier);
        }
        if complete {
            safe = self.window.len();
        }
        // Nothing is given out up to the middle of something that was found. What can't become a mask or be displaced is decided
        // where it begins.
        while let Some(start) = self
            .pending
            .iter()
            .filter(|c| !c.label.is_learned() && c.span.start < safe && c.span.end > safe)
            .map(|c| c.span.start)
            .min()
        {
            safe = start;
        }
        let (settled, pending) = std::mem::take(&mut self.pending).into_iter().partition(|c| c.span.start < safe);
        self.pending = pending;
        let mut findings = self.side.decide(&self.window, settled);
        let mut released = Released::default();
        if !findings.iter().any(|finding| finding.action == Action::Block) {
            released.text = self.side.mask(&self.window, self.released..safe, &findings);
        }
        for finding in &mut findings {
            finding.span = finding.span.start + self.dropped..finding.span.end + self.dropped;
        }
        released.findings = findings;
        released.overflow = !complete && self.window.len() - safe > self.limit;
        self.released = safe;
        self.forget();
        released
    }

    /// Drops text that nobody looks at any more.
    fn forget(&mut self) {
        let keep = self.released.saturating_sub(2 * LOOK_BEHIND);
        if keep < 4096 {
            return;
        }
        let cut = self.window.floor_char_boundary(keep);
        self.window.drain(..cut);
        self.dropped += cut;
        self.released -= cut;
        for frontier in self.frontiers.iter_mut().chain(&mut self.examined) {
            *frontier -= cut;
        }
        for candidate in &mut self.pending {
            candidate.span = candidate.span.start - cut..candidate.span.end - cut;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use bedrock_core::testing::{HashEmbedder, KeywordClassifier};
    use bedrock_core::{CreateGuardrailRequest, GuardrailContentFilterType, GuardrailContentSource};
    use futures::executor::block_on;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::classifier::ContentClassifier;
    use crate::models::Models;
    use crate::policy::pii::KINDS;
    use crate::policy::topic::Topics;
    use crate::vault::Vault;

    fn side(config: serde_json::Value) -> Side {
        let mut all = json!({"name": "g", "blockedInputMessaging": "no", "blockedOutputsMessaging": "no"});
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let config: CreateGuardrailRequest = serde_json::from_value(all).unwrap();
        Side::new(&config, GuardrailContentSource::Output, &Models::default()).unwrap()
    }

    /// Every kind masked, patterns with everything that is hard to stream, and words that are only reported.
    static MASKING: LazyLock<Side> = LazyLock::new(|| {
        let entities: Vec<_> = KINDS.iter().map(|kind| json!({"type": kind, "action": "ANONYMIZE"})).collect();
        side(json!({
            "sensitiveInformationPolicyConfig": {
                "piiEntitiesConfig": entities,
                "regexesConfig": [
                    {"name": "ticket", "pattern": r"\bTCK-\d{2,6}\b", "action": "ANONYMIZE"},
                    {"name": "quoted", "pattern": r#""[^"\n]*""#, "action": "ANONYMIZE"},
                    {"name": "lazy", "pattern": r"(?s)<a>.*?</a>", "action": "ANONYMIZE"},
                    {"name": "last line", "pattern": r"(?m)^end$", "action": "NONE"},
                ]},
            "wordPolicyConfig": {
                "wordsConfig": [{"text": "project x", "outputAction": "NONE"}],
                "managedWordListsConfig": [{"type": "PROFANITY", "outputAction": "NONE"}]},
        }))
    });

    static BLOCKING: LazyLock<Side> = LazyLock::new(|| {
        side(json!({
            "sensitiveInformationPolicyConfig": {"piiEntitiesConfig": [
                {"type": "EMAIL", "action": "BLOCK"}, {"type": "PHONE", "action": "ANONYMIZE"}, {"type": "NAME", "action": "BLOCK"}]},
            "wordPolicyConfig": {"wordsConfig": [{"text": "project x"}], "managedWordListsConfig": [{"type": "PROFANITY"}]},
        }))
    });

    static FILTERING: LazyLock<Side> = LazyLock::new(|| {
        let filter = |kind: &str| json!({"type": kind, "inputStrength": "NONE", "outputStrength": "HIGH"});
        side(json!({
            "contentPolicyConfig": {"filtersConfig": [filter("HATE"), filter("INSULTS"), filter("VIOLENCE")]},
            "sensitiveInformationPolicyConfig": {"piiEntitiesConfig": [{"type": "PHONE", "action": "ANONYMIZE"}]},
        }))
    });

    /// The same, reported only.
    static REPORTING: LazyLock<Side> = LazyLock::new(|| {
        let filter = |kind: &str| json!({"type": kind, "inputStrength": "NONE", "outputStrength": "HIGH", "outputAction": "NONE"});
        side(json!({
            "contentPolicyConfig": {"filtersConfig": [filter("HATE"), filter("INSULTS"), filter("VIOLENCE")]},
            "sensitiveInformationPolicyConfig": {"piiEntitiesConfig": [{"type": "PHONE", "action": "ANONYMIZE"}]},
        }))
    });

    /// The same by models: a topic, and a classifier for one category.
    static ASKING: LazyLock<Side> = LazyLock::new(|| {
        let filter = |kind: &str| json!({"type": kind, "inputStrength": "NONE", "outputStrength": "HIGH", "outputAction": "NONE"});
        let topic = json!({"name": "Trains", "definition": "When trains leave", "examples": ["The train leaves at nine"], "type": "DENY", "outputAction": "NONE"});
        let config = json!({
            "name": "g", "blockedInputMessaging": "no", "blockedOutputsMessaging": "no",
            "topicPolicyConfig": {"topicsConfig": [topic]},
            "contentPolicyConfig": {"filtersConfig": [filter("HATE"), filter("INSULTS")]},
            "sensitiveInformationPolicyConfig": {"piiEntitiesConfig": [{"type": "PHONE", "action": "ANONYMIZE"}]},
        });
        let config: CreateGuardrailRequest = serde_json::from_value(config).unwrap();
        let embedder = Arc::new(HashEmbedder::default());
        let topics =
            Topics::new(&config.topic_policy_config.as_ref().unwrap().topics_config, Some(embedder.clone()), None);
        let classifier = ContentClassifier::new(KeywordClassifier::new([("insult", "idiot stupid pathetic")]));
        let models = Models {
            topics: Some(Arc::new(block_on(topics).unwrap())),
            embedder: Some(embedder),
            classifier: Some(Arc::new(classifier.label("insult", GuardrailContentFilterType::Insults))),
            ..Models::default()
        };
        Side::new(&config, GuardrailContentSource::Output, &models).unwrap()
    });

    /// Long texts of harmless and harmful sentences.
    fn prose() -> impl Strategy<Value = String> {
        let sentence = prop_oneof![
            6 => Just("The train to the coast leaves at nine, and the tickets are sold on board. "),
            2 => Just("Call (415) 555-0132 if you are late.\n"),
            1 => Just("You are a stupid, pathetic idiot and I will kill you! "),
            1 => Just("All immigrants are vermin. "),
        ];
        prop::collection::vec(sentence, 0..60).prop_map(|sentences| sentences.concat())
    }

    /// Pieces that are found, that nearly are, and that change what stands beside them.
    #[rustfmt::skip]
    const PIECES: &[&str] = &[
        "ada@example.org", "ada@example", "4111 1111 1111 1111", "4111 1111 1111", "my ssn is", "078-05-1123",
        "078051123", "John Smith", "Dr. Mary O'Brien", "my name is", "kim van der Berg", "john", "22 Baker Street",
        "221B Baker Street, London", "12 rue de la Paix", "Apt. 5", "CO 80202", "call me", "(415) 555-0132",
        "+49 30 1234567", "555-0132", "192.168.1.1", "2001:db8::1", "::", "00:1A:2B:3C:4D:5E",
        "https://example.com/a?b=c", "www.example", "example.com", "password:", "hunter2!", "is", "PIN 1234",
        "GB82 WEST 1234 5698 7654 32", "AKIAIOSFODNN7EXAMPLE", "40 years", "old", "of age", "12/27", "expires",
        "card ending in 1234", "BD62 XYZ", "1M8GDM9AXKP042788", "401 023 2137", "AB 12 34 56 C", "{EMAIL}", "{NAM",
        "TCK-12", "TCK-1234567", "\"quoted", "text\"", "<a>", "</a>", "end", "project", "x", "X", "shit", "shitake",
        "é", "ü", "日本", "😀", "İ", "-", ".", ",", ":", "'", "’s", "\n", "\n\n", " ", "  ", "\t", "1", "12", "123", "@",
        "the", "corner of", "and", "Main", "St.", "DEUTDEFF", "swift", "user: bob", "username: bob_42",
    ];

    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            8 => prop::sample::select(PIECES).prop_map(str::to_owned),
            1 => "\\PC{0,6}",
            1 => "[a-zA-Z0-9 .@-]{0,8}",
        ];
        let glue = prop_oneof![4 => Just(" "), 1 => Just(""), 1 => Just("\n"), 1 => Just(", ")];
        prop::collection::vec((piece, glue), 0..14)
            .prop_map(|pieces| pieces.into_iter().map(|(piece, glue)| piece + glue).collect())
    }

    fn chunks(text: &str, sizes: &[usize]) -> Vec<String> {
        let characters: Vec<char> = text.chars().collect();
        let (mut at, mut turn, mut chunks) = (0, 0, Vec::new());
        while at < characters.len() {
            let size = sizes[turn % sizes.len()].max(1);
            chunks.push(characters[at..(at + size).min(characters.len())].iter().collect());
            (at, turn) = (at + size, turn + 1);
        }
        chunks
    }

    fn stream(side: &Side, chunks: &[String]) -> (String, Vec<Finding>, bool) {
        let mut hold = Hold::new(side, 1 << 20);
        let (mut text, mut findings) = (String::new(), Vec::new());
        let steps = chunks.iter().map(Some).chain([None]);
        for chunk in steps {
            let released = match chunk {
                Some(chunk) => block_on(hold.push(chunk)),
                None => block_on(hold.finish()),
            };
            assert!(!released.overflow);
            let blocked = released.blocked();
            findings.extend(released.findings);
            if blocked {
                return (text, findings, true);
            }
            text.push_str(&released.text);
        }
        (text, findings, false)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn streamed_masks_are_the_masks_of_the_whole(text in texts(), sizes in prop::collection::vec(1usize..12, 1..4)) {
            let whole = block_on(MASKING.judge(&text)).unwrap();
            let masked = MASKING.mask(&text, 0..text.len(), &whole);
            for chunks in [chunks(&text, &[1]), chunks(&text, &sizes)] {
                let (streamed, findings, _) = stream(&MASKING, &chunks);
                prop_assert_eq!(&streamed, &masked, "{:?}", text);
                prop_assert_eq!(&findings, &whole, "{:?}", text);
            }
        }

        #[test]
        fn streamed_pseudonyms_are_those_of_the_whole_and_can_be_taken_back(
            text in texts(), sizes in prop::collection::vec(1usize..12, 1..4), room in prop_oneof![3 => Just(10_000), 1 => 0usize..4],
        ) {
            let vault = Arc::new(Vault::bounded(room, 1 << 20));
            let side = MASKING.with_vault(vault.clone());
            // The stream comes first, so that it draws the pseudonyms.
            let (streamed, ..) = stream(&side, &chunks(&text, &sizes));
            let masked = side.mask(&text, 0..text.len(), &block_on(side.judge(&text)).unwrap());
            prop_assert_eq!(&streamed, &masked, "{:?}", text);
            prop_assert!(vault.len() <= room);
            if room == 10_000 {
                prop_assert_eq!(vault.unmask(&streamed), text);
            }
        }

        #[test]
        fn pseudonyms_that_are_masked_again_stay(pieces in prop::collection::vec(prop::sample::select(PIECES), 1..4)) {
            let side = MASKING.with_vault(Arc::default());
            let text = pieces.join(" ; ");
            let once = side.mask(&text, 0..text.len(), &block_on(side.judge(&text)).unwrap());
            let twice = side.mask(&once, 0..once.len(), &block_on(side.judge(&once)).unwrap());
            prop_assert_eq!(once, twice, "{:?}", text);
        }

        #[test]
        fn nothing_of_a_blocked_match_is_given_out(text in texts(), sizes in prop::collection::vec(1usize..12, 1..4)) {
            let whole = block_on(BLOCKING.judge(&text)).unwrap();
            let first = whole.iter().filter(|f| f.action == Action::Block).map(|f| f.span.start).min();
            let (streamed, _, blocked) = stream(&BLOCKING, &chunks(&text, &sizes));
            prop_assert_eq!(blocked, first.is_some(), "{:?}", text);
            // What was given out is a beginning of the masked text before the first match.
            let before = BLOCKING.mask(&text, 0..first.unwrap_or(text.len()), &whole.iter().filter(|f| f.action == Action::Mask && f.span.end <= first.unwrap_or(text.len())).cloned().collect::<Vec<_>>());
            prop_assert!(before.starts_with(&streamed), "{:?}: {:?} of {:?}", text, streamed, before);
        }

        #[test]
        fn what_filters_report_is_what_they_report_of_the_whole(text in prose(), sizes in prop::collection::vec(1usize..90, 1..4)) {
            let mut whole = block_on(REPORTING.judge(&text)).unwrap();
            let masked = REPORTING.mask(&text, 0..text.len(), &whole);
            let (streamed, mut findings, _) = stream(&REPORTING, &chunks(&text, &sizes));
            prop_assert_eq!(&streamed, &masked);
            // Learned findings are decided where they begin, so they may come before a mask that begins earlier and ends later.
            let key = |finding: &Finding| (finding.span.start, finding.span.end, finding.label);
            whole.sort_by_key(key);
            findings.sort_by_key(key);
            prop_assert_eq!(findings, whole);
        }

        #[test]
        fn what_models_report_is_what_they_report_of_the_whole(text in prose(), sizes in prop::collection::vec(1usize..90, 1..4)) {
            let mut whole = block_on(ASKING.judge(&text)).unwrap();
            let masked = ASKING.mask(&text, 0..text.len(), &whole);
            let (streamed, mut findings, _) = stream(&ASKING, &chunks(&text, &sizes));
            prop_assert_eq!(&streamed, &masked);
            let key = |finding: &Finding| (finding.span.start, finding.span.end, finding.label);
            whole.sort_by_key(key);
            findings.sort_by_key(key);
            prop_assert_eq!(findings, whole);
        }

        #[test]
        fn nothing_of_a_piece_that_a_filter_blocks_is_given_out(text in prose(), sizes in prop::collection::vec(1usize..90, 1..4)) {
            let whole = block_on(FILTERING.judge(&text)).unwrap();
            let first = whole.iter().filter(|f| f.action == Action::Block).map(|f| f.span.start).min();
            let (streamed, _, blocked) = stream(&FILTERING, &chunks(&text, &sizes));
            prop_assert_eq!(blocked, first.is_some());
            let masks: Vec<_> = whole.iter().filter(|f| f.action == Action::Mask && f.span.end <= first.unwrap_or(text.len())).cloned().collect();
            let before = FILTERING.mask(&text, 0..first.unwrap_or(text.len()), &masks);
            prop_assert!(before.starts_with(&streamed));
        }

        #[test]
        fn masking_masked_text_changes_nothing(pieces in prop::collection::vec(prop::sample::select(PIECES), 1..4)) {
            let text = pieces.join(" ; ");
            let once = MASKING.mask(&text, 0..text.len(), &block_on(MASKING.judge(&text)).unwrap());
            let twice = MASKING.mask(&once, 0..once.len(), &block_on(MASKING.judge(&once)).unwrap());
            prop_assert_eq!(once, twice, "{:?}", text);
        }

        #[test]
        fn any_text_at_all_is_judged_between_characters(text in "\\PC{0,60}|[\\x00-\\x7f]{0,60}") {
            let mut end = 0;
            for finding in block_on(MASKING.judge(&text)).unwrap() {
                prop_assert!(text.is_char_boundary(finding.span.start) && text.is_char_boundary(finding.span.end));
                prop_assert!(!finding.span.is_empty() && finding.span.end <= text.len());
                prop_assert!((0.0..=1.0).contains(&finding.score));
                if matches!(finding.label, crate::scan::Label::Pii(_)) {
                    prop_assert!(finding.span.start >= end, "no overlaps among personal data");
                    end = finding.span.end;
                }
            }
        }
    }

    #[test]
    fn prose_hardly_waits() {
        let text = "The service keeps a copy of every file that you open, and the copy is removed when the last reader closes it. \
            Nobody needs to remember where it was, because the index knows.";
        let mut hold = Hold::new(&MASKING, 1 << 20);
        let mut most = 0;
        for character in text.chars() {
            block_on(hold.push(character.encode_utf8(&mut [0; 4])));
            most = most.max(hold.window.len() - hold.released);
        }
        assert!(most <= 40, "{most} bytes waited");
    }

    #[test]
    fn filters_hold_back_no_more_than_a_piece() {
        let mut hold = Hold::new(&REPORTING, 1 << 20);
        let mut most = 0;
        for turn in 0..400 {
            block_on(hold.push(if turn % 7 == 0 {
                "All immigrants are vermin. "
            } else {
                "The train leaves at nine. "
            }));
            most = most.max(hold.window.len() - hold.released);
        }
        // A piece, and what came since the last scan.
        let bound = crate::policy::content::window::MOST * 17 / 16 + 64;
        assert!(most <= bound, "{most} bytes waited");
    }

    #[test]
    fn long_streams_forget_what_is_behind_them() {
        let mut hold = Hold::new(&MASKING, 1 << 20);
        let mut out = String::new();
        for turn in 0..2000 {
            out.push_str(&block_on(hold.push(&format!("line {turn} to ada{turn}@example.org\n"))).text);
            assert!(hold.window.len() < 16 << 10, "{}", hold.window.len());
        }
        out.push_str(&block_on(hold.finish()).text);
        assert_eq!(out.matches("{EMAIL}").count(), 2000);
        assert!(!out.contains('@'));
    }

    #[test]
    fn more_than_may_wait_is_reported() {
        let mut hold = Hold::new(&MASKING, 100);
        let mut overflow = block_on(hold.push("<a>")).overflow;
        for _ in 0..60 {
            overflow |= block_on(hold.push("abc ")).overflow;
        }
        assert!(overflow);
    }
}
