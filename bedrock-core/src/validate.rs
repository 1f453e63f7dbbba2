//! The limits of the service: ranges, lengths, character sets, and the rules of a conversation.
//!
//! All of them stand here, in the order of the request's fields, so that they can be compared with the service's model
//! side by side. What differs from model to model (context length, which media) is the model's to check.

use std::collections::BTreeSet;
use std::fmt;

use crate::citation::SearchResultBlock;
use crate::error::Error;
use crate::guardrail::{
    ApplyGuardrailRequest, CreateGuardrailRequest, GuardrailConfigAction, GuardrailConfiguration,
    GuardrailContentBlock, GuardrailContentFilterType, GuardrailImageSource, GuardrailStrength,
};
use crate::inference::{ConverseRequest, InferenceConfiguration, OutputFormatStructure};
use crate::media::{AudioSource, DocumentBlock, DocumentSource, ImageBlock, ImageSource, S3Location, VideoSource};
use crate::message::{CachePointBlock, ContentBlock, Message, Role, SystemContentBlock};
use crate::retrieve::{KnowledgeBaseGuardrailConfiguration, RetrievalFilter, RetrieveRequest};
use crate::retrieve_and_generate::RetrieveAndGenerateRequest;
use crate::tool::{
    ToolChoice, ToolConfiguration, ToolDefinition, ToolReference, ToolResultBlock, ToolResultContentBlock, ToolUseBlock,
};

type Checked = Result<(), Error>;

/// Most pictures in the user's turns of a request.
const IMAGES: usize = 20;
/// Bytes of a picture: 3.75 MiB.
const IMAGE_BYTES: usize = 3_932_160;
/// Most documents in the user's turns of a request.
const DOCUMENTS: usize = 5;
/// Bytes of a document: 4.5 MiB.
const DOCUMENT_BYTES: usize = 4_718_592;
/// Levels of nested filters; the service has one or two, a parser's stack more.
const FILTER_DEPTH: usize = 16;

/// Where in a request a value stands. Written as a path only when something is wrong with it.
#[derive(Clone, Copy)]
enum At<'a> {
    Root,
    Field(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    fn field(&'a self, name: &'a str) -> At<'a> {
        At::Field(self, name)
    }

    fn index(&'a self, index: usize) -> At<'a> {
        At::Index(self, index)
    }

    fn refuse(&self, why: impl fmt::Display) -> Checked {
        Err(Error::validation(format!("{self} {why}")))
    }

    /// Characters, not bytes, as the service counts.
    fn length(&self, text: &str, least: usize, most: usize) -> Checked {
        // A text of at most `most` bytes has at most `most` characters: most texts are decided without counting.
        if least <= 1 && !text.is_empty() && text.len() <= most {
            return Ok(());
        }
        let characters = text.chars().count();
        if characters < least || characters > most {
            return self.refuse(format_args!("has {characters} characters; it must have {least} to {most}"));
        }
        Ok(())
    }

    fn size(&self, size: usize, least: usize, most: usize) -> Checked {
        if size < least || size > most {
            return self.refuse(format_args!("has {size} entries; it must have {least} to {most}"));
        }
        Ok(())
    }

    fn range(&self, value: Option<f64>, least: f64, most: f64) -> Checked {
        match value {
            // A NaN is in no range.
            Some(value) if !(least..=most).contains(&value) => {
                self.refuse(format_args!("is {value}; it must be from {least} to {most}"))
            }
            _ => Ok(()),
        }
    }

    fn count(&self, value: Option<u32>, least: u32, most: u32) -> Checked {
        match value {
            Some(value) if !(least..=most).contains(&value) => {
                self.refuse(format_args!("is {value}; it must be from {least} to {most}"))
            }
            _ => Ok(()),
        }
    }

    fn characters(&self, text: &str, allowed: impl Fn(char) -> bool, what: &str) -> Checked {
        match text.chars().find(|&character| !allowed(character)) {
            Some(character) => self.refuse(format_args!("has the character {character:?}; allowed are {what}")),
            None => Ok(()),
        }
    }

    fn known(&self, known: bool, label: &dyn fmt::Display) -> Checked {
        if known { Ok(()) } else { self.refuse(format_args!("is {:?}, which is not known", label.to_string())) }
    }
}

/// `at.known(label)` for labels of any type.
macro_rules! known {
    ($at:expr, $label:expr) => {
        $at.known($label.is_known(), &$label)?
    };
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the request"),
            Self::Field(At::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}.{index}"),
        }
    }
}

fn is_tool_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-')
}

fn tool_name(at: &At<'_>, name: &str) -> Checked {
    at.length(name, 1, 64)?;
    at.characters(name, is_tool_character, "ASCII letters, digits, _ and -")
}

fn tool_use_id(at: &At<'_>, id: &str) -> Checked {
    at.length(id, 1, 64)?;
    at.characters(
        id,
        |character| is_tool_character(character) || matches!(character, '.' | ':'),
        "ASCII letters, digits, _ . : and -",
    )
}

/// `DRAFT` or a number from 1 of at most eight digits.
fn guardrail_version(at: &At<'_>, version: &str) -> Checked {
    let number = (1..=8).contains(&version.len())
        && version.bytes().all(|byte| byte.is_ascii_digit())
        && !version.starts_with('0');
    if number || version == "DRAFT" {
        return Ok(());
    }
    at.refuse(format_args!("is {version:?}; it must be DRAFT or a number from 1"))
}

fn s3_location(at: &At<'_>, location: &S3Location) -> Checked {
    let uri = at.field("uri");
    uri.length(&location.uri, 1, 1024)?;
    let bucket = location.uri.strip_prefix("s3://").map(|rest| rest.split('/').next().unwrap_or(rest));
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let well_formed = bucket.is_some_and(|bucket| {
        let bytes = bucket.as_bytes();
        (3..=63).contains(&bytes.len())
            && edge(bytes.first().copied())
            && edge(bytes.last().copied())
            && bytes.iter().all(|&byte| edge(Some(byte)) || matches!(byte, b'.' | b'-'))
    });
    if !well_formed {
        return uri.refuse(format_args!("is {:?}; it must be s3://bucket/key", location.uri));
    }
    match &location.bucket_owner {
        Some(owner) if owner.len() != 12 || !owner.bytes().all(|byte| byte.is_ascii_digit()) => {
            at.field("bucketOwner").refuse("must have 12 digits")
        }
        _ => Ok(()),
    }
}

fn bytes(at: &At<'_>, bytes: &[u8], most: usize) -> Checked {
    if bytes.is_empty() {
        return at.refuse("is empty");
    }
    if bytes.len() > most {
        return at.refuse(format_args!("has {} bytes; at most {most} are allowed", bytes.len()));
    }
    Ok(())
}

impl ConverseRequest {
    /// Checks the limits of the service and the rules of a conversation:
    ///
    /// - lengths, ranges, character sets and numbers of entries of every field; no label that is not known;
    /// - the first turn that is not `system` is the user's; user and assistant alternate; no turn is empty, no text blank;
    /// - pictures, documents, video, sound and guarded content stand in the user's turns, reasoning, citations and
    ///   tool calls in the model's; a document comes with a text;
    /// - each call of a tool by the model is answered in the user's next turn, each answer belongs to a call, and a
    ///   conversation with calls has a `toolConfig`.
    ///
    /// A last turn of the model is allowed: it is a beginning for the model to continue.
    ///
    /// # Errors
    /// [`Error::Validation`] with the path of the first field that breaks a rule, such as
    /// `messages.0.content.1.document.name`.
    pub fn validate(&self) -> Result<(), Error> {
        let at = At::Root;
        if !self.model_id.is_empty() {
            at.field("modelId").length(&self.model_id, 1, 2048)?;
        }
        conversation(&at.field("messages"), &self.messages, self.tool_config.is_some())?;
        for (index, block) in self.system.iter().enumerate() {
            let system = at.field("system");
            let at = system.index(index);
            match block {
                SystemContentBlock::Text(text) => blank(&at.field("text"), text)?,
                SystemContentBlock::GuardContent(block) => guard_content(&at.field("guardContent"), block)?,
                SystemContentBlock::CachePoint(block) => cache_point(&at.field("cachePoint"), block)?,
            }
        }
        if let Some(config) = &self.inference_config {
            inference(&at.field("inferenceConfig"), config)?;
        }
        if let Some(config) = &self.tool_config {
            tools(&at.field("toolConfig"), config)?;
        }
        if let Some(config) = &self.guardrail_config {
            guardrail(&at.field("guardrailConfig"), config)?;
        }
        if let Some(fields) = &self.additional_model_request_fields
            && !fields.is_object()
        {
            at.field("additionalModelRequestFields").refuse("must be an object")?;
        }
        let paths = at.field("additionalModelResponseFieldPaths");
        paths.size(self.additional_model_response_field_paths.len(), 0, 10)?;
        for (index, path) in self.additional_model_response_field_paths.iter().enumerate() {
            let at = paths.index(index);
            at.length(path, 1, 256)?;
            if !path.starts_with('/') {
                at.refuse("must be a JSON pointer, which begins with /")?;
            }
        }
        let metadata = at.field("requestMetadata");
        metadata.size(self.request_metadata.len(), 0, 16)?;
        let allowed = |character: char| {
            character.is_ascii_alphanumeric() || character.is_whitespace() || ":_@$#=/+,-.".contains(character)
        };
        for (key, value) in &self.request_metadata {
            let at = metadata.field(key);
            at.length(key, 1, 256)?;
            at.length(value, 0, 256)?;
            for text in [key, value] {
                at.characters(text, allowed, "letters, digits, spaces and :_@$#=/+,-.")?;
            }
        }
        if let Some(latency) = self.performance_config.as_ref().and_then(|config| config.latency.as_ref()) {
            known!(at.field("performanceConfig").field("latency"), latency);
        }
        if let Some(tier) = &self.service_tier {
            known!(at.field("serviceTier").field("type"), tier.kind);
        }
        if let Some(config) = &self.output_config {
            let at = at.field("outputConfig");
            if let Some(effort) = &config.effort {
                at.field("effort").length(effort, 0, 16)?;
            }
            if let Some(format) = &config.text_format {
                let at = at.field("textFormat");
                known!(at.field("type"), format.kind);
                let OutputFormatStructure::JsonSchema(definition) = &format.structure;
                if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&definition.schema) {
                    at.field("structure.jsonSchema.schema").refuse(format_args!("is not JSON: {error}"))?;
                }
            }
        }
        Ok(())
    }
}

fn inference(at: &At<'_>, config: &InferenceConfiguration) -> Checked {
    at.field("maxTokens").count(config.max_tokens, 1, i32::MAX as u32)?;
    at.field("temperature").range(config.temperature, 0.0, 1.0)?;
    at.field("topP").range(config.top_p, 0.0, 1.0)?;
    let stops = at.field("stopSequences");
    stops.size(config.stop_sequences.len(), 0, 2500)?;
    for (index, stop) in config.stop_sequences.iter().enumerate() {
        stops.index(index).length(stop, 1, usize::MAX)?;
    }
    Ok(())
}

fn tools(at: &At<'_>, config: &ToolConfiguration) -> Checked {
    let list = at.field("tools");
    list.size(config.tools.len(), 1, usize::MAX)?;
    let mut names = BTreeSet::new();
    for (index, tool) in config.tools.iter().enumerate() {
        let at = list.index(index);
        let name = match tool {
            ToolDefinition::ToolSpec(tool) => {
                let at = at.field("toolSpec");
                tool_name(&at.field("name"), &tool.name)?;
                if let Some(description) = &tool.description {
                    at.field("description").length(description, 1, usize::MAX)?;
                }
                let crate::tool::ToolInputSchema::Json(schema) = &tool.input_schema;
                if !schema.is_object() {
                    at.field("inputSchema").field("json").refuse("must be an object")?;
                }
                &tool.name
            }
            ToolDefinition::SystemTool(tool) => {
                tool_name(&at.field("systemTool").field("name"), &tool.name)?;
                &tool.name
            }
            ToolDefinition::CachePoint(block) => {
                cache_point(&at.field("cachePoint"), block)?;
                continue;
            }
        };
        if !names.insert(name.as_str()) {
            at.refuse(format_args!("is a second tool of the name {name:?}"))?;
        }
    }
    if let Some(ToolChoice::Tool(choice)) = &config.tool_choice {
        let at = at.field("toolChoice");
        let at = at.field("tool");
        let at = at.field("name");
        tool_name(&at, &choice.name)?;
        if !names.contains(choice.name.as_str()) {
            at.refuse(format_args!("is {:?}, which is none of the tools", choice.name))?;
        }
    }
    Ok(())
}

fn guardrail(at: &At<'_>, config: &GuardrailConfiguration) -> Checked {
    if let Some(identifier) = &config.guardrail_identifier {
        at.field("guardrailIdentifier").length(identifier, 0, 2048)?;
    }
    if let Some(version) = &config.guardrail_version
        && !version.is_empty()
    {
        guardrail_version(&at.field("guardrailVersion"), version)?;
    }
    if let Some(trace) = &config.trace {
        known!(at.field("trace"), trace);
    }
    if let Some(mode) = &config.stream_processing_mode {
        known!(at.field("streamProcessingMode"), mode);
    }
    Ok(())
}

/// Turns, their order, and the pairing of calls and answers of tools.
fn conversation(at: &At<'_>, messages: &[Message], has_tools: bool) -> Checked {
    let mut last: Option<&Role> = None;
    let mut open_calls: Vec<&str> = Vec::new();
    let (mut images, mut documents) = (0, 0);
    for (index, message) in messages.iter().enumerate() {
        let at = at.index(index);
        known!(at.field("role"), message.role);
        match (last, &message.role) {
            (_, Role::System) => {}
            (None, Role::Assistant) => at.field("role").refuse("is assistant; a conversation begins with the user")?,
            (Some(last), role) if last == role => {
                at.field("role").refuse(format_args!("is {role} twice in a row; user and assistant must alternate"))?
            }
            (_, role) => last = Some(role),
        }
        let content = at.field("content");
        if message.content.is_empty() {
            content.refuse("is empty")?;
        }
        let mut answered = BTreeSet::new();
        let mut calls = Vec::new();
        let mut text = false;
        let mut document = None;
        for (index, block) in message.content.iter().enumerate() {
            let at = content.index(index);
            let at = at.field(block.kind());
            speaker(&at, block, &message.role)?;
            content_block(&at, block)?;
            match block {
                ContentBlock::Text(_) => text = true,
                ContentBlock::GuardContent(GuardrailContentBlock::Text(_)) => text = true,
                ContentBlock::Image(_) => images += 1,
                ContentBlock::Document(_) => {
                    documents += 1;
                    document = document.or(Some(index));
                }
                ContentBlock::ToolUse(call) => {
                    if !has_tools {
                        at.refuse("needs a toolConfig")?;
                    }
                    if call.kind.is_none() {
                        calls.push(call.tool_use_id.as_str());
                    }
                }
                ContentBlock::ToolResult(result) => {
                    if !has_tools {
                        at.refuse("needs a toolConfig")?;
                    }
                    let id = result.tool_use_id.as_str();
                    if message.role == Role::User {
                        if !open_calls.contains(&id) {
                            at.field("toolUseId")
                                .refuse(format_args!("is {id:?}, which is no toolUse of the turn before"))?;
                        }
                        if !answered.insert(id) {
                            at.field("toolUseId").refuse(format_args!("is {id:?}, which is answered already"))?;
                        }
                    }
                }
                _ => {}
            }
        }
        if images > IMAGES {
            content.refuse(format_args!("brings the pictures to {images}; at most {IMAGES} are allowed"))?;
        }
        if documents > DOCUMENTS {
            content.refuse(format_args!("brings the documents to {documents}; at most {DOCUMENTS} are allowed"))?;
        }
        if let Some(document) = document
            && !text
        {
            content.index(document).field("document").refuse("needs a text block beside it")?;
        }
        match message.role {
            Role::User => {
                if let Some(id) = open_calls.iter().find(|id| !answered.contains(**id)) {
                    content.refuse(format_args!("lacks the toolResult of {id:?}"))?;
                }
                open_calls.clear();
            }
            Role::Assistant => {
                if let Some(id) = first_double(&calls) {
                    content.refuse(format_args!("has two toolUse blocks of the toolUseId {id:?}"))?;
                }
                open_calls = calls;
            }
            _ => {}
        }
    }
    Ok(())
}

fn first_double<'a>(ids: &[&'a str]) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    ids.iter().find(|id| !seen.insert(**id)).copied()
}

/// Which role may say which block.
fn speaker(at: &At<'_>, block: &ContentBlock, role: &Role) -> Checked {
    let allowed = match block {
        ContentBlock::Text(_)
        | ContentBlock::CachePoint(_)
        | ContentBlock::ToolAddition(_)
        | ContentBlock::ToolRemoval(_) => true,
        ContentBlock::GuardContent(_) => *role != Role::Assistant,
        // The model may have made pictures, and a tool of the serving side is answered in the model's own turn.
        ContentBlock::Image(_) | ContentBlock::ToolResult(_) | ContentBlock::Audio(_) => *role != Role::System,
        ContentBlock::Document(_) | ContentBlock::Video(_) | ContentBlock::SearchResult(_) => *role == Role::User,
        ContentBlock::ToolUse(_) | ContentBlock::ReasoningContent(_) | ContentBlock::CitationsContent(_) => {
            *role == Role::Assistant
        }
    };
    if allowed { Ok(()) } else { at.refuse(format_args!("can't stand in a turn of the {role}")) }
}

fn blank(at: &At<'_>, text: &str) -> Checked {
    if text.trim().is_empty() { at.refuse("is blank") } else { Ok(()) }
}

fn content_block(at: &At<'_>, block: &ContentBlock) -> Checked {
    match block {
        ContentBlock::Text(text) => blank(at, text),
        ContentBlock::Image(block) => image(at, block),
        ContentBlock::Document(block) => document(at, block),
        ContentBlock::Video(block) => {
            known!(at.field("format"), block.format);
            video(&at.field("source"), &block.source)
        }
        ContentBlock::Audio(block) => {
            known!(at.field("format"), block.format);
            let at = at.field("source");
            match &block.source {
                AudioSource::Bytes(blob) => bytes(&at.field("bytes"), blob.as_bytes(), usize::MAX),
                AudioSource::S3Location(location) => s3_location(&at.field("s3Location"), location),
            }
        }
        ContentBlock::ToolUse(block) => tool_use(at, block),
        ContentBlock::ToolResult(block) => tool_result(at, block),
        ContentBlock::GuardContent(block) => guard_content(at, block),
        ContentBlock::CachePoint(block) => cache_point(at, block),
        ContentBlock::SearchResult(block) => search_result(at, block),
        ContentBlock::ToolAddition(block) => tool_reference(&at.field("tool"), &block.tool),
        ContentBlock::ToolRemoval(block) => tool_reference(&at.field("tool"), &block.tool),
        ContentBlock::ReasoningContent(_) | ContentBlock::CitationsContent(_) => Ok(()),
    }
}

fn image(at: &At<'_>, block: &ImageBlock) -> Checked {
    known!(at.field("format"), block.format);
    let at = at.field("source");
    match &block.source {
        ImageSource::Bytes(blob) => bytes(&at.field("bytes"), blob.as_bytes(), IMAGE_BYTES),
        ImageSource::S3Location(location) => s3_location(&at.field("s3Location"), location),
    }
}

fn video(at: &At<'_>, source: &VideoSource) -> Checked {
    match source {
        VideoSource::Bytes(blob) => bytes(&at.field("bytes"), blob.as_bytes(), usize::MAX),
        VideoSource::S3Location(location) => s3_location(&at.field("s3Location"), location),
    }
}

fn document(at: &At<'_>, block: &DocumentBlock) -> Checked {
    if let Some(format) = &block.format {
        known!(at.field("format"), format);
    }
    let name = at.field("name");
    name.length(&block.name, 1, 200)?;
    let allowed = |character: char| character.is_ascii_alphanumeric() || " -()[]".contains(character);
    name.characters(&block.name, allowed, "ASCII letters, digits, single spaces, hyphens, ( ) and [ ]")?;
    if block.name.contains("  ") {
        name.refuse("has two spaces in a row")?;
    }
    let at = at.field("source");
    match &block.source {
        DocumentSource::Bytes(blob) => {
            if block.format.is_none() {
                at.field("bytes").refuse("needs a format")?;
            }
            bytes(&at.field("bytes"), blob.as_bytes(), DOCUMENT_BYTES)
        }
        DocumentSource::S3Location(location) => s3_location(&at.field("s3Location"), location),
        DocumentSource::Text(_) => Ok(()),
        DocumentSource::Content(pieces) => at.field("content").size(pieces.len(), 1, usize::MAX),
    }
}

fn tool_use(at: &At<'_>, block: &ToolUseBlock) -> Checked {
    tool_use_id(&at.field("toolUseId"), &block.tool_use_id)?;
    tool_name(&at.field("name"), &block.name)?;
    if let Some(kind) = &block.kind {
        known!(at.field("type"), kind);
    }
    Ok(())
}

fn tool_result(at: &At<'_>, block: &ToolResultBlock) -> Checked {
    tool_use_id(&at.field("toolUseId"), &block.tool_use_id)?;
    if let Some(status) = &block.status {
        known!(at.field("status"), status);
    }
    for (index, part) in block.content.iter().enumerate() {
        let content = at.field("content");
        let at = content.index(index);
        match part {
            ToolResultContentBlock::Json(_) | ToolResultContentBlock::Text(_) => {}
            ToolResultContentBlock::Image(block) => image(&at.field("image"), block)?,
            ToolResultContentBlock::Document(block) => document(&at.field("document"), block)?,
            ToolResultContentBlock::Video(block) => {
                let at = at.field("video");
                known!(at.field("format"), block.format);
                video(&at.field("source"), &block.source)?;
            }
            ToolResultContentBlock::SearchResult(block) => search_result(&at.field("searchResult"), block)?,
        }
    }
    Ok(())
}

fn search_result(at: &At<'_>, block: &SearchResultBlock) -> Checked {
    at.field("content").size(block.content.len(), 1, usize::MAX)
}

fn tool_reference(at: &At<'_>, tool: &ToolReference) -> Checked {
    for (name, value, most) in
        [("type", &tool.kind, 64), ("name", &tool.name, 128), ("serverName", &tool.server_name, 128)]
    {
        if let Some(value) = value {
            at.field(name).length(value, 1, most)?;
        }
    }
    Ok(())
}

fn cache_point(at: &At<'_>, block: &CachePointBlock) -> Checked {
    known!(at.field("type"), block.kind);
    if let Some(ttl) = &block.ttl {
        known!(at.field("ttl"), ttl);
    }
    Ok(())
}

fn guard_content(at: &At<'_>, block: &GuardrailContentBlock) -> Checked {
    match block {
        GuardrailContentBlock::Text(block) => {
            let list = at.field("text");
            let list = list.field("qualifiers");
            for (index, qualifier) in block.qualifiers.iter().enumerate() {
                known!(list.index(index), qualifier);
            }
        }
        GuardrailContentBlock::Image(block) => {
            let at = at.field("image");
            known!(at.field("format"), block.format);
            let GuardrailImageSource::Bytes(blob) = &block.source;
            bytes(&at.field("source.bytes"), blob.as_bytes(), usize::MAX)?;
        }
    }
    Ok(())
}

impl ApplyGuardrailRequest {
    /// Checks the limits of the service.
    ///
    /// # Errors
    /// [`Error::Validation`] with the path of the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Error> {
        let at = At::Root;
        at.field("guardrailIdentifier").length(&self.guardrail_identifier, 0, 2048)?;
        if !self.guardrail_version.is_empty() {
            guardrail_version(&at.field("guardrailVersion"), &self.guardrail_version)?;
        }
        known!(at.field("source"), self.source);
        if let Some(scope) = &self.output_scope {
            known!(at.field("outputScope"), scope);
        }
        let content = at.field("content");
        for (index, block) in self.content.iter().enumerate() {
            guard_content(&content.index(index), block)?;
        }
        Ok(())
    }
}

/// The two actions and nothing that masks.
fn block_or_none(at: &At<'_>, actions: [(&str, &Option<GuardrailConfigAction>); 2]) -> Checked {
    for (name, action) in actions {
        let Some(action) = action else { continue };
        known!(at.field(name), action);
        if *action == GuardrailConfigAction::Anonymize {
            at.field(name).refuse("is ANONYMIZE; only sensitive information can be masked")?;
        }
    }
    Ok(())
}

fn known_actions(at: &At<'_>, actions: [(&str, Option<&GuardrailConfigAction>); 3]) -> Checked {
    for (name, action) in actions {
        if let Some(action) = action {
            known!(at.field(name), action);
        }
    }
    Ok(())
}

impl CreateGuardrailRequest {
    /// Checks the limits of the service. That patterns are regular expressions is the guardrail's to check.
    ///
    /// # Errors
    /// [`Error::Validation`] with the path of the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Error> {
        let at = At::Root;
        let name = at.field("name");
        name.length(&self.name, 1, 50)?;
        name.characters(&self.name, is_tool_character, "ASCII letters, digits, _ and -")?;
        if let Some(description) = &self.description {
            at.field("description").length(description, 1, 200)?;
        }
        at.field("blockedInputMessaging").length(&self.blocked_input_messaging, 1, 500)?;
        at.field("blockedOutputsMessaging").length(&self.blocked_outputs_messaging, 1, 500)?;
        if let Some(policy) = &self.topic_policy_config {
            let list = at.field("topicPolicyConfig");
            if let Some(tier) = &policy.tier_config {
                known!(list.field("tierConfig.tierName"), tier.tier_name);
            }
            let list = list.field("topicsConfig");
            list.size(policy.topics_config.len(), 1, 30)?;
            for (index, topic) in policy.topics_config.iter().enumerate() {
                let at = list.index(index);
                let name = at.field("name");
                name.length(&topic.name, 1, 100)?;
                let allowed = |character: char| is_tool_character(character) || " !?.".contains(character);
                name.characters(&topic.name, allowed, "ASCII letters, digits, spaces and -_!?.")?;
                // 200 on the classic tier, 1,000 on the standard one.
                at.field("definition").length(&topic.definition, 1, 1000)?;
                let examples = at.field("examples");
                examples.size(topic.examples.len(), 0, 5)?;
                for (index, example) in topic.examples.iter().enumerate() {
                    examples.index(index).length(example, 1, 100)?;
                }
                known!(at.field("type"), topic.kind);
                block_or_none(&at, [("inputAction", &topic.input_action), ("outputAction", &topic.output_action)])?;
            }
        }
        if let Some(policy) = &self.content_policy_config {
            let list = at.field("contentPolicyConfig");
            if let Some(tier) = &policy.tier_config {
                known!(list.field("tierConfig.tierName"), tier.tier_name);
            }
            let list = list.field("filtersConfig");
            list.size(policy.filters_config.len(), 1, 6)?;
            let mut seen = BTreeSet::new();
            for (index, filter) in policy.filters_config.iter().enumerate() {
                let at = list.index(index);
                known!(at.field("type"), filter.kind);
                if !seen.insert(&filter.kind) {
                    at.refuse(format_args!("is a second filter of {}", filter.kind))?;
                }
                known!(at.field("inputStrength"), filter.input_strength);
                known!(at.field("outputStrength"), filter.output_strength);
                if filter.kind == GuardrailContentFilterType::PromptAttack
                    && filter.output_strength != GuardrailStrength::None
                {
                    at.field("outputStrength").refuse("must be NONE: an answer is no prompt attack")?;
                }
                for (name, modalities) in
                    [("inputModalities", &filter.input_modalities), ("outputModalities", &filter.output_modalities)]
                {
                    let list = at.field(name);
                    list.size(modalities.len(), 0, 2)?;
                    for (index, modality) in modalities.iter().enumerate() {
                        known!(list.index(index), modality);
                    }
                }
                block_or_none(&at, [("inputAction", &filter.input_action), ("outputAction", &filter.output_action)])?;
            }
        }
        if let Some(policy) = &self.word_policy_config {
            let policy_at = at.field("wordPolicyConfig");
            let list = policy_at.field("wordsConfig");
            list.size(policy.words_config.len(), 0, 10_000)?;
            for (index, word) in policy.words_config.iter().enumerate() {
                let at = list.index(index);
                at.field("text").length(&word.text, 1, 100)?;
                blank(&at.field("text"), &word.text)?;
                block_or_none(&at, [("inputAction", &word.input_action), ("outputAction", &word.output_action)])?;
            }
            let list = policy_at.field("managedWordListsConfig");
            for (index, words) in policy.managed_word_lists_config.iter().enumerate() {
                let at = list.index(index);
                known!(at.field("type"), words.kind);
                block_or_none(&at, [("inputAction", &words.input_action), ("outputAction", &words.output_action)])?;
            }
        }
        if let Some(policy) = &self.sensitive_information_policy_config {
            let policy_at = at.field("sensitiveInformationPolicyConfig");
            let list = policy_at.field("piiEntitiesConfig");
            let mut seen = BTreeSet::new();
            for (index, entity) in policy.pii_entities_config.iter().enumerate() {
                let at = list.index(index);
                known!(at.field("type"), entity.kind);
                if !seen.insert(&entity.kind) {
                    at.refuse(format_args!("is a second entry of {}", entity.kind))?;
                }
                known_actions(
                    &at,
                    [
                        ("action", Some(&entity.action)),
                        ("inputAction", entity.input_action.as_ref()),
                        ("outputAction", entity.output_action.as_ref()),
                    ],
                )?;
            }
            let list = policy_at.field("regexesConfig");
            list.size(policy.regexes_config.len(), 0, 30)?;
            for (index, regex) in policy.regexes_config.iter().enumerate() {
                let at = list.index(index);
                at.field("name").length(&regex.name, 1, 100)?;
                if let Some(description) = &regex.description {
                    at.field("description").length(description, 1, 1000)?;
                }
                at.field("pattern").length(&regex.pattern, 1, 500)?;
                known_actions(
                    &at,
                    [
                        ("action", Some(&regex.action)),
                        ("inputAction", regex.input_action.as_ref()),
                        ("outputAction", regex.output_action.as_ref()),
                    ],
                )?;
            }
        }
        if let Some(policy) = &self.contextual_grounding_policy_config {
            let list = at.field("contextualGroundingPolicyConfig");
            if let Some(tier) = &policy.tier_config {
                known!(list.field("tierConfig.tierName"), tier.tier_name);
            }
            let list = list.field("filtersConfig");
            list.size(policy.filters_config.len(), 1, 2)?;
            for (index, filter) in policy.filters_config.iter().enumerate() {
                let at = list.index(index);
                known!(at.field("type"), filter.kind);
                at.field("threshold").range(Some(filter.threshold), 0.0, 0.99)?;
                block_or_none(&at, [("action", &filter.action), ("action", &None)])?;
            }
        }
        if let Some(policy) = &self.automated_reasoning_policy_config {
            let at = at.field("automatedReasoningPolicyConfig");
            at.field("policies").size(policy.policies.len(), 1, 2)?;
            at.field("confidenceThreshold").range(policy.confidence_threshold, 0.0, 1.0)?;
        }
        if let Some(config) = &self.cross_region_config {
            at.field("crossRegionConfig.guardrailProfileIdentifier").length(
                &config.guardrail_profile_identifier,
                15,
                2048,
            )?;
        }
        at.field("tags").size(self.tags.len(), 0, 200)
    }
}

fn filter(at: &At<'_>, condition: &RetrievalFilter, depth: usize) -> Checked {
    let attribute = match condition {
        RetrievalFilter::AndAll(all) | RetrievalFilter::OrAll(all) => {
            if depth == 0 {
                return at.refuse(format_args!("is nested more than {FILTER_DEPTH} levels deep"));
            }
            let list = at.field(if matches!(condition, RetrievalFilter::AndAll(_)) { "andAll" } else { "orAll" });
            list.size(all.len(), 2, usize::MAX)?;
            for (index, condition) in all.iter().enumerate() {
                filter(&list.index(index), condition, depth - 1)?;
            }
            return Ok(());
        }
        RetrievalFilter::Equals(attribute)
        | RetrievalFilter::NotEquals(attribute)
        | RetrievalFilter::ListContains(attribute) => attribute,
        RetrievalFilter::GreaterThan(attribute)
        | RetrievalFilter::GreaterThanOrEquals(attribute)
        | RetrievalFilter::LessThan(attribute)
        | RetrievalFilter::LessThanOrEquals(attribute) => {
            if !attribute.value.is_number() {
                at.refuse("compares with what is no number")?;
            }
            attribute
        }
        RetrievalFilter::In(attribute) | RetrievalFilter::NotIn(attribute) => {
            if !attribute.value.is_array() {
                at.refuse("needs a list to look in")?;
            }
            attribute
        }
        RetrievalFilter::StartsWith(attribute) | RetrievalFilter::StringContains(attribute) => {
            if !attribute.value.is_string() {
                at.refuse("needs a text to look for")?;
            }
            attribute
        }
    };
    at.field("key").length(&attribute.key, 1, 100)
}

impl RetrievalFilter {
    /// Checks the limits of the service: names, types of values, nesting.
    ///
    /// # Errors
    /// [`Error::Validation`] with the path of the first condition that breaks a rule.
    pub fn validate(&self) -> Result<(), Error> {
        filter(&At::Root.field("filter"), self, FILTER_DEPTH)
    }
}

fn knowledge_base_guardrail(at: &At<'_>, config: &KnowledgeBaseGuardrailConfiguration) -> Checked {
    at.field("guardrailId").length(&config.guardrail_id, 0, 64)?;
    guardrail_version(&at.field("guardrailVersion"), &config.guardrail_version)
}

fn retrieval(at: &At<'_>, config: &crate::retrieve::KnowledgeBaseRetrievalConfiguration) -> Checked {
    if let Some(config) = &config.vector_search_configuration {
        let at = at.field("vectorSearchConfiguration");
        if let Some(condition) = &config.filter {
            filter(&at.field("filter"), condition, FILTER_DEPTH)?;
        }
        at.field("numberOfResults").count(config.number_of_results, 1, 100)?;
        if let Some(search_type) = &config.override_search_type {
            known!(at.field("overrideSearchType"), search_type);
        }
        if let Some(config) = &config.implicit_filter_configuration {
            let at = at.field("implicitFilterConfiguration");
            at.field("metadataAttributes").size(config.metadata_attributes.len(), 1, 25)?;
            at.field("modelArn").length(&config.model_arn, 1, 2048)?;
        }
        if let Some(config) = &config.reranking_configuration {
            reranking(&at.field("rerankingConfiguration"), config)?;
        }
    }
    if let Some(config) = &config.managed_search_configuration {
        let at = at.field("managedSearchConfiguration");
        if let Some(condition) = &config.filter {
            filter(&at.field("filter"), condition, FILTER_DEPTH)?;
        }
        at.field("numberOfResults").count(config.number_of_results, 1, 100)?;
        if let Some(config) = &config.reranking_configuration {
            reranking(&at.field("rerankingConfiguration"), config)?;
        }
        if let Some(model_type) = &config.reranking_model_type {
            known!(at.field("rerankingModelType"), model_type);
        }
    }
    Ok(())
}

fn reranking(at: &At<'_>, config: &crate::retrieve::RerankingConfiguration) -> Checked {
    known!(at.field("type"), config.kind);
    let Some(config) = &config.bedrock_reranking_configuration else { return Ok(()) };
    let at = at.field("bedrockRerankingConfiguration");
    at.field("numberOfRerankedResults").count(config.number_of_reranked_results, 1, 100)?;
    at.field("modelConfiguration.modelArn").length(&config.model_configuration.model_arn, 1, 2048)
}

impl RetrieveRequest {
    /// Checks the limits of the service. A knowledge base's id may be shorter than the service's ten characters here.
    ///
    /// # Errors
    /// [`Error::Validation`] with the path of the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Error> {
        let at = At::Root;
        at.field("knowledgeBaseId").length(&self.knowledge_base_id, 0, 2048)?;
        let query = at.field("retrievalQuery");
        if let Some(kind) = &self.retrieval_query.kind {
            known!(query.field("type"), kind);
        }
        match (&self.retrieval_query.text, &self.retrieval_query.image) {
            (None, None) => query.refuse("has neither a text nor an image")?,
            (Some(_), Some(_)) => query.refuse("has both a text and an image")?,
            (Some(text), None) => {
                query.field("text").length(text, 0, 20_000)?;
                blank(&query.field("text"), text)?;
            }
            (None, Some(image)) => {
                let at = query.field("image");
                known!(at.field("format"), image.format);
                bytes(&at.field("inlineContent"), image.inline_content.as_bytes(), 5_242_880)?;
            }
        }
        if let Some(config) = &self.retrieval_configuration {
            retrieval(&at.field("retrievalConfiguration"), config)?;
        }
        if let Some(config) = &self.guardrail_configuration {
            knowledge_base_guardrail(&at.field("guardrailConfiguration"), config)?;
        }
        if let Some(token) = &self.next_token {
            at.field("nextToken").length(token, 1, 2048)?;
        }
        Ok(())
    }
}

impl RetrieveAndGenerateRequest {
    /// Checks the limits of the service. A knowledge base's id may have other characters than the service's here.
    ///
    /// # Errors
    /// [`Error::Validation`] with the path of the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Error> {
        let at = At::Root;
        let text = at.field("input.text");
        text.length(&self.input.text, 0, 1000)?;
        blank(&text, &self.input.text)?;
        if let Some(session) = &self.session_id {
            let at = at.field("sessionId");
            at.length(session, 2, 100)?;
            let allowed = |character: char| is_tool_character(character) || matches!(character, '.' | ':');
            at.characters(session, allowed, "ASCII letters, digits, _ . : and -")?;
        }
        let Some(config) = &self.retrieve_and_generate_configuration else { return Ok(()) };
        let at = at.field("retrieveAndGenerateConfiguration");
        known!(at.field("type"), config.kind);
        if let Some(config) = &config.knowledge_base_configuration {
            let at = at.field("knowledgeBaseConfiguration");
            at.field("modelArn").length(&config.model_arn, 1, 2048)?;
            if let Some(config) = &config.retrieval_configuration {
                retrieval(&at.field("retrievalConfiguration"), config)?;
            }
            if let Some(config) = &config.generation_configuration {
                generation(&at.field("generationConfiguration"), config)?;
            }
            if let Some(config) = &config.orchestration_configuration {
                let at = at.field("orchestrationConfiguration");
                prompt_template(&at, config.prompt_template.as_ref())?;
                text_inference(&at, config.inference_config.as_ref())?;
                if let Some(config) = &config.query_transformation_configuration {
                    known!(at.field("queryTransformationConfiguration.type"), config.kind);
                }
            }
        }
        if let Some(config) = &config.external_sources_configuration {
            let at = at.field("externalSourcesConfiguration");
            at.field("modelArn").length(&config.model_arn, 1, 2048)?;
            at.field("sources").size(config.sources.len(), 1, 1)?;
            for source in &config.sources {
                known!(at.field("sources.0.sourceType"), source.source_type);
                if let Some(location) = &source.s3_location {
                    s3_location(&at.field("sources.0.s3Location"), location)?;
                }
                if let Some(document) = &source.byte_content {
                    let at = at.field("sources.0.byteContent");
                    at.field("identifier").length(&document.identifier, 1, 1024)?;
                    bytes(&at.field("data"), document.data.as_bytes(), 10_485_760)?;
                }
            }
            if let Some(config) = &config.generation_configuration {
                generation(&at.field("generationConfiguration"), config)?;
            }
        }
        Ok(())
    }
}

fn generation(at: &At<'_>, config: &crate::retrieve_and_generate::GenerationConfiguration) -> Checked {
    prompt_template(at, config.prompt_template.as_ref())?;
    text_inference(at, config.inference_config.as_ref())?;
    match &config.guardrail_configuration {
        Some(config) => knowledge_base_guardrail(&at.field("guardrailConfiguration"), config),
        None => Ok(()),
    }
}

fn prompt_template(at: &At<'_>, template: Option<&crate::retrieve_and_generate::PromptTemplate>) -> Checked {
    match template.and_then(|template| template.text_prompt_template.as_ref()) {
        Some(text) => at.field("promptTemplate.textPromptTemplate").length(text, 1, 4000),
        None => Ok(()),
    }
}

fn text_inference(at: &At<'_>, config: Option<&crate::retrieve_and_generate::InferenceConfig>) -> Checked {
    let Some(config) = config.and_then(|config| config.text_inference_config.as_ref()) else { return Ok(()) };
    let at = at.field("inferenceConfig.textInferenceConfig");
    at.field("maxTokens").count(config.max_tokens, 0, 65_536)?;
    at.field("temperature").range(config.temperature, 0.0, 1.0)?;
    at.field("topP").range(config.top_p, 0.0, 1.0)?;
    at.field("stopSequences").size(config.stop_sequences.len(), 0, 4)
}
