//! Judging the parts of a request or answer one after the other.

use std::time::Instant;

use bedrock_core::{
    Blob, DocumentBlock, DocumentContentBlock, DocumentFormat, DocumentSource, Error, GuardrailAssessment,
    SearchResultBlock, ToolInputSchema, ToolResultContentBlock, ToolSpecification,
};
use serde_json::Value;

use crate::assess::{Action, Finding, Side};
use crate::guardrail::{Guardrail, Judged, coverage};
use crate::json;
use crate::picture::{PICTURES, Picture};
use crate::policy::grounding::Material;

use super::Mode;

/// Judges one text after the other and remembers what was found.
pub(super) struct Judge<'s> {
    pub(super) side: &'s Side,
    /// Whether text passes that a model fails to judge.
    pub(super) lenient: bool,
    pub(super) findings: Vec<Finding>,
    /// Whether what is judged now was written by somebody else than the user: attacks in it are indirect.
    pub(super) third_party: bool,
    pub(super) judged: Judged,
    /// All characters and pictures there were.
    pub(super) total: usize,
    pub(super) images: u32,
    /// Pictures that the classifier was asked about.
    asked: usize,
    /// What an answer is held against.
    pub(super) material: Material,
}

impl<'s> Judge<'s> {
    /// Nothing judged yet, and nothing to hold an answer against.
    pub(super) fn new(side: &'s Side, lenient: bool) -> Self {
        Self {
            side,
            lenient,
            findings: Vec::new(),
            third_party: false,
            judged: Judged::default(),
            total: 0,
            images: 0,
            asked: 0,
            material: Material::default(),
        }
    }

    /// Whether something passes that can't be judged.
    ///
    /// # Errors
    /// [`Error::Validation`] with the place of it and the reason, if it does not.
    pub(super) fn unread(&self, path: impl Fn() -> String, what: &str, why: Result<(), String>) -> Result<(), Error> {
        match why {
            Err(why) if !self.lenient => {
                Err(Error::validation(format!("{}: the guardrail can't judge {what}, which {why}", path())))
            }
            _ => Ok(()),
        }
    }

    /// What a model is told of a tool.
    ///
    /// # Errors
    /// Those of the models that are asked.
    pub(super) async fn tool_specification(&mut self, spec: &mut ToolSpecification) -> Result<(), Error> {
        if let Some(description) = &mut spec.description {
            self.text(description).await?;
        }
        let ToolInputSchema::Json(schema) = &mut spec.input_schema else { return Ok(()) };
        let (mut rest, mut told) = (vec![schema], Vec::new());
        while let Some(value) = rest.pop() {
            match value {
                Value::Array(items) => rest.extend(items),
                Value::Object(members) => {
                    for (name, member) in members {
                        let tells = member.is_string() && (name == "description" || name == "title");
                        if tells { &mut told } else { &mut rest }.push(member);
                    }
                }
                _ => {}
            }
        }
        for value in told {
            if let Value::String(text) = value {
                self.text(text).await?;
            }
        }
        Ok(())
    }

    /// What a tool answered.
    ///
    /// # Errors
    /// Those of the models that are asked, and as [`unread`](Self::unread).
    pub(super) async fn tool_result(
        &mut self,
        content: &mut [ToolResultContentBlock],
        path: impl Fn() -> String,
    ) -> Result<(), Error> {
        for content in content {
            match content {
                ToolResultContentBlock::Json(value) => self.json(value).await?,
                ToolResultContentBlock::Text(text) => self.text(text).await?,
                ToolResultContentBlock::Document(document) => self.document(document, &path).await?,
                ToolResultContentBlock::SearchResult(result) => self.search_result(result).await?,
                ToolResultContentBlock::Image(image) => {
                    let why = self.picture(Picture::of(&image.format, &image.source)).await?;
                    self.unread(&path, "a picture", why)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Findings of a text. A model that fails to judge is an error or, if failures are open, finds nothing.
    pub(super) async fn find(&self, text: &str) -> Result<Vec<Finding>, Error> {
        match self.side.judge(text).await {
            Err(_) if self.lenient => Ok(self.side.judge_at_once(text)),
            found => found,
        }
    }

    pub(super) async fn text(&mut self, text: &mut String) -> Result<(), Error> {
        let characters = text.chars().count();
        self.judged.characters += characters;
        self.total += characters;
        let found = self.find(text).await?;
        if found.iter().any(|finding| finding.action == Action::Mask) {
            *text = self.side.mask(text, 0..text.len(), &found);
        }
        self.keep(found);
        Ok(())
    }

    pub(super) fn skip(&mut self, text: &str) {
        self.total += text.chars().count();
    }

    /// A text and its name, which says what the text may be: see [`json::judge_named`].
    pub(super) async fn named(&mut self, name: &str, text: &mut String) -> Result<(), Error> {
        let characters = text.chars().count();
        self.judged.characters += characters;
        self.total += characters;
        let found = json::judge_named(self.side, name, text, self.lenient).await?;
        self.keep(found);
        Ok(())
    }

    pub(super) async fn json(&mut self, value: &mut Value) -> Result<(), Error> {
        let characters = value.to_string().chars().count();
        self.judged.characters += characters;
        self.total += characters;
        let found = self.find_json(value).await?;
        self.keep(found);
        Ok(())
    }

    pub(super) fn keep(&mut self, found: Vec<Finding>) {
        let third_party = self.third_party;
        self.findings.extend(found.into_iter().map(|finding| Finding { third_party, ..finding }));
    }

    /// Findings of a value, which has the masks afterwards.
    pub(super) async fn find_json(&self, value: &mut Value) -> Result<Vec<Finding>, Error> {
        json::judge(self.side, value, self.lenient).await
    }

    pub(super) async fn search_result(&mut self, result: &mut SearchResultBlock) -> Result<(), Error> {
        self.text(&mut result.title).await?;
        for piece in &mut result.content {
            self.text(&mut piece.text).await?;
        }
        Ok(())
    }

    /// A document, at this place of the request.
    ///
    /// # Errors
    /// Those of the models that are asked, and as [`unread`](Self::unread).
    pub(super) async fn document(
        &mut self,
        document: &mut DocumentBlock,
        path: impl Fn() -> String,
    ) -> Result<(), Error> {
        let why = self.text_of(document).await?;
        if self.side.is_empty() {
            return Ok(());
        }
        self.unread(path, &format!("document {:?}", document.name), why)
    }

    /// Answers why the document can't be judged, if it can't.
    async fn text_of(&mut self, document: &mut DocumentBlock) -> Result<Result<(), String>, Error> {
        if let Some(context) = &mut document.context {
            self.text(context).await?;
        }
        match &mut document.source {
            DocumentSource::Text(text) => self.text(text).await?,
            DocumentSource::Content(pieces) => {
                for piece in pieces {
                    match piece {
                        DocumentContentBlock::Text(text) => self.text(text).await?,
                        _ => return Ok(Err("has a piece that is no text".to_owned())),
                    }
                }
            }
            DocumentSource::Bytes(bytes) => {
                let textual = matches!(
                    document.format,
                    None | Some(DocumentFormat::Txt | DocumentFormat::Md | DocumentFormat::Csv | DocumentFormat::Html)
                );
                let text = if textual { String::from_utf8(bytes.0.clone()).ok() } else { None };
                let Some(mut text) = text else {
                    let format = document.format.as_ref().map_or("unknown", DocumentFormat::as_str);
                    return Ok(Err(format!("is no UTF-8 text (format {format})")));
                };
                self.text(&mut text).await?;
                *bytes = Blob(text.into_bytes());
            }
            _ => return Ok(Err("lies elsewhere".to_owned())),
        }
        Ok(Ok(()))
    }

    /// Answers why the picture can't be judged, if it can't and a filter is about pictures.
    ///
    /// # Errors
    /// Those of the model that is asked.
    pub(super) async fn picture(&mut self, picture: Result<Picture<'_>, String>) -> Result<Result<(), String>, Error> {
        self.images = self.images.saturating_add(1);
        if !self.side.judges_pictures() {
            return Ok(Ok(()));
        }
        let picture = match picture {
            Ok(_) if self.asked == PICTURES => return Ok(Err(format!("comes after the {PICTURES} that are judged"))),
            Ok(picture) => picture,
            Err(why) => return Ok(Err(why)),
        };
        self.asked += 1;
        match self.side.judge_picture(&picture).await {
            Ok(found) => {
                self.judged.pictures += 1;
                self.findings.extend(found);
            }
            Err(_) if self.lenient => {}
            Err(error) => return Err(error),
        }
        Ok(Ok(()))
    }

    pub(super) fn assessment(
        &self,
        guardrail: &Guardrail,
        mode: Mode,
        started: Instant,
        masks: bool,
    ) -> GuardrailAssessment {
        let coverage = coverage(self.judged, self.total, self.images);
        let assessment = self.side.assessment(&self.findings, mode.full, masks);
        guardrail.complete(assessment, &self.side.source, coverage, started)
    }

    pub(super) fn record(&self, guardrail: &Guardrail, started: Instant) {
        guardrail.record(&self.side.source, &self.findings, self.judged, started);
    }

    pub(super) fn blocked(&self) -> bool {
        self.blocked_since(0)
    }

    /// Whether one of the findings from this number on blocks.
    pub(super) fn blocked_since(&self, first: usize) -> bool {
        self.findings[first..].iter().any(|finding| finding.action == Action::Block)
    }

    pub(super) fn masked(&self) -> bool {
        self.findings.iter().any(|finding| finding.action == Action::Mask)
    }
}
