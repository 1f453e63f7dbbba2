//! Chat templates: a conversation as the text that a model was trained on.
//!
//! Templates are Jinja programs that come with the model, written against transformers: its settings (`trim_blocks`,
//! `lstrip_blocks`, loop controls), its functions (`raise_exception`, `strftime_now`), its `tojson`, and Python's
//! methods and way of printing values. All of that is provided here, so that a template gives the same text.
//!
//! A template is also code from a stranger. It runs on a thread of its own with a limit on steps, time, memory and depth, and it
//! can reach nothing but its input: a hostile one gives an error.

mod clock;
mod conversation;
mod python;
mod sandbox;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bedrock_core::ConverseRequest;
use serde_json::{Map, Value, json};

pub(crate) use conversation::letters;
pub use conversation::{Conversation, messages_for_template};

use crate::error::Error;
use crate::tokenizer::{read_bounded, read_json};
use crate::tool_use::{CallSyntax, in_words};
use crate::weights::Metadata;

/// The longest template that is read. Published ones are below 100 kB.
const MAX_TEMPLATE_BYTES: u64 = 512 << 10;

/// The name of the template that is used if none is named.
const DEFAULT: &str = "default";

/// The name of the template that is used for requests with tools, if the model has one of that name.
const TOOL_USE: &str = "tool_use";

/// The chat templates of a model.
///
/// ```
/// use bedrock_models::chat_template::{ChatTemplate, TemplateInput};
/// use serde_json::json;
///
/// let template = ChatTemplate::new(
///     "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
/// )?;
/// let messages = [json!({"role": "user", "content": "Hello "})];
/// let input = TemplateInput { messages: &messages, add_generation_prompt: true, ..TemplateInput::default() };
/// assert_eq!(template.render(&input)?, "<|user|>Hello\n<|assistant|>");
/// # Ok::<(), bedrock_models::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    path: PathBuf,
    /// Sources by name.
    templates: BTreeMap<String, String>,
    /// Variables such as `bos_token`.
    variables: BTreeMap<String, String>,
}

/// What a template is rendered with.
#[derive(Debug, Clone, Copy, Default)]
pub struct TemplateInput<'a> {
    /// The messages, as transformers takes them: objects with `role`, `content` and, for tools, `tool_calls` and so on.
    pub messages: &'a [Value],
    /// The tools, as objects with `type: function`.
    pub tools: Option<&'a [Value]>,
    /// Documents for templates that take them.
    pub documents: Option<&'a [Value]>,
    /// End with the beginning of the model's answer.
    pub add_generation_prompt: bool,
    /// Further variables. They win over all others.
    pub variables: Option<&'a Map<String, Value>>,
    /// The template's name. None: `tool_use` if there are tools and such a template, else `default`.
    pub template: Option<&'a str>,
    /// The time that `strftime_now` sees, in UTC. None: the present.
    pub now: Option<SystemTime>,
}

impl ChatTemplate {
    /// A model's only template.
    ///
    /// # Errors
    /// [`Error::TemplateSyntax`] if it cannot be parsed, [`Error::TemplateLimit`] if it is too long or nested too deeply.
    pub fn new(source: impl Into<String>) -> Result<Self, Error> {
        let templates = BTreeMap::from([(DEFAULT.to_string(), source.into())]);
        Self::checked(PathBuf::from("template"), templates, BTreeMap::new())
    }

    /// The templates of a Hugging Face folder: `chat_template.jinja`, files in `additional_chat_templates`, and
    /// `chat_template` in `tokenizer_config.json` (text, or a list of name and text). A file wins over the entry of the
    /// same name. Special tokens of `tokenizer_config.json` and `special_tokens_map.json` become variables.
    ///
    /// # Errors
    /// [`Error::NoChatTemplate`] if there is none, [`Error::Read`], [`Error::FileTooLarge`], [`Error::Malformed`] for
    /// files that cannot be used, and those of [`new`](Self::new).
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let config_path = folder.join("tokenizer_config.json");
        let config = read_json(&config_path)?.unwrap_or_default();
        let malformed = |reason: &str| Error::Malformed { path: config_path.clone(), reason: reason.to_string() };
        let mut templates = BTreeMap::new();
        match &config["chat_template"] {
            Value::Null => {}
            Value::String(source) => {
                templates.insert(DEFAULT.to_string(), source.clone());
            }
            Value::Array(list) => {
                for entry in list {
                    let (Some(name), Some(source)) = (entry["name"].as_str(), entry["template"].as_str()) else {
                        return Err(malformed("an entry of chat_template has no name or no template"));
                    };
                    templates.insert(name.to_string(), source.to_string());
                }
            }
            _ => return Err(malformed("chat_template is neither text nor a list")),
        }
        let read = |path: &Path| -> Result<String, Error> {
            String::from_utf8(read_bounded(path, MAX_TEMPLATE_BYTES)?)
                .map_err(|_| Error::Malformed { path: path.to_path_buf(), reason: "not UTF-8".into() })
        };
        let file = folder.join("chat_template.jinja");
        if file.is_file() {
            templates.insert(DEFAULT.to_string(), read(&file)?);
        }
        let more = folder.join("additional_chat_templates");
        if let Ok(entries) = std::fs::read_dir(&more) {
            for entry in entries.flatten().take(64) {
                let path = entry.path();
                let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jinja"));
                if let Some(name) = name {
                    templates.insert(name.to_string(), read(&path)?);
                }
            }
        }
        let map = read_json(&folder.join("special_tokens_map.json"))?.unwrap_or_default();
        let mut variables = BTreeMap::new();
        for file in [&map, &config] {
            for (key, value) in file.as_object().into_iter().flatten().filter(|(key, _)| key.ends_with("_token")) {
                if let Some(text) = value.as_str().or_else(|| value["content"].as_str()) {
                    variables.insert(key.clone(), text.to_string());
                }
            }
        }
        Self::checked(folder.to_path_buf(), templates, variables)
    }

    /// The templates of a GGUF file: `tokenizer.chat_template` and `tokenizer.chat_template.NAME`. The special tokens that the
    /// file names become variables.
    ///
    /// # Errors
    /// [`Error::NoChatTemplate`] if there is none, [`Error::MetadataType`], and those of [`new`](Self::new).
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, Error> {
        const KEY: &str = "tokenizer.chat_template";
        let mut templates = BTreeMap::new();
        for (key, _) in metadata.iter().filter(|(key, _)| key.starts_with(KEY)) {
            let name = match key[KEY.len()..].strip_prefix('.') {
                Some(name) => name,
                None if key == KEY => DEFAULT,
                None => continue,
            };
            templates.insert(name.to_string(), metadata.required::<&str>(key)?.to_string());
        }
        let tokens: &[String] = metadata.optional("tokenizer.ggml.tokens")?.unwrap_or_default();
        let mut variables = BTreeMap::new();
        for (role, key) in [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
            ("sep_token", "seperator"),
            ("cls_token", "cls"),
            ("mask_token", "mask"),
        ] {
            let id = metadata.optional::<i64>(&format!("tokenizer.ggml.{key}_token_id"))?;
            if let Some(text) = id.and_then(|id| usize::try_from(id).ok()).and_then(|id| tokens.get(id)) {
                variables.insert(role.to_string(), text.clone());
            }
        }
        Self::checked(metadata.path().to_path_buf(), templates, variables)
    }

    fn checked(
        path: PathBuf,
        templates: BTreeMap<String, String>,
        variables: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        if templates.is_empty() {
            return Err(Error::NoChatTemplate { path, name: None });
        }
        let template = Self { path, templates, variables };
        for (name, source) in &template.templates {
            let origin = template.origin(name);
            if source.len() as u64 > MAX_TEMPLATE_BYTES {
                return Err(Error::TemplateLimit { origin, limit: format!("length of {MAX_TEMPLATE_BYTES} bytes") });
            }
            sandbox::check(&origin, source)?;
        }
        Ok(template)
    }

    /// Sets a special token, such as `bos_token`, that templates see as a variable.
    #[must_use]
    pub fn with_token(mut self, role: impl Into<String>, text: impl Into<String>) -> Self {
        self.variables.insert(role.into(), text.into());
        self
    }

    /// The names of the templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }

    /// The source of a template.
    pub fn source(&self, name: &str) -> Option<&str> {
        self.templates.get(name).map(String::as_str)
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`Error::TemplateRefused`] with the template's own words if it calls `raise_exception`,
    /// [`Error::TemplateFailed`] if it fails otherwise, [`Error::TemplateLimit`] if it wants too much,
    /// [`Error::NoChatTemplate`] if the one named does not exist.
    pub fn render(&self, input: &TemplateInput<'_>) -> Result<String, Error> {
        let (name, source) = self.chosen(input.template, input.tools.is_some())?;
        let mut variables = Map::new();
        for (key, text) in &self.variables {
            variables.insert(key.clone(), json!(text));
        }
        variables.insert("messages".into(), json!(input.messages));
        variables.insert("tools".into(), json!(input.tools));
        variables.insert("documents".into(), json!(input.documents));
        variables.insert("add_generation_prompt".into(), json!(input.add_generation_prompt));
        for (key, value) in input.variables.into_iter().flatten() {
            variables.insert(key.clone(), value.clone());
        }
        let now = input.now.unwrap_or_else(SystemTime::now);
        sandbox::run(&self.origin(name), source, Value::Object(variables), now)
    }

    /// Renders a request, ending with the beginning of the model's answer.
    ///
    /// Nothing of the request is dropped silently. What a template leaves out is found by changing it: if that makes no
    /// difference to the text, the request is refused.
    ///
    /// Two things are moved instead. The system prompt, if the template raises an exception about it, is put before the
    /// first user message with an empty line between, as users of such models do by hand. And tools, their calls and
    /// results, if the template does not know them, are told in words: tools in the system prompt, the others where they were said.
    ///
    /// # Errors
    /// [`Error::UnsupportedContent`] for content that is no text or that the template leaves out, and those of
    /// [`render`](Self::render).
    pub fn render_request(&self, request: &ConverseRequest) -> Result<String, Error> {
        Ok(self.render_turns(request)?.0)
    }

    /// Renders a request, and says how the model will write calls if it has tools.
    pub(crate) fn render_turns(&self, request: &ConverseRequest) -> Result<(String, Option<CallSyntax>), Error> {
        let Conversation { mut messages, tools } = messages_for_template(request)?;
        let tools = tools.as_deref();
        if tools.is_none() && !conversation::has_calls(&messages) {
            return Ok((self.render_whole(messages, None)?, None));
        }
        let told = in_words(&messages, tools.unwrap_or_default());
        let Some(syntax) = CallSyntax::of_template(self.chosen(None, tools.is_some())?.1) else {
            return Ok((self.render_whole(told, None)?, Some(CallSyntax::Hermes)));
        };
        if matches!(syntax, CallSyntax::Mistral | CallSyntax::MistralArgs) {
            conversation::shorten_call_ids(&mut messages);
        }
        let split = conversation::one_call_a_turn(&messages);
        let refusal = match self.render_whole(messages, tools) {
            Ok(text) => return Ok((text, Some(syntax))),
            Err(
                refusal @ (Error::TemplateRefused { .. }
                | Error::TemplateFailed { .. }
                | Error::UnsupportedContent { .. }),
            ) => refusal,
            Err(error) => return Err(error),
        };
        if let Some(Ok(text)) = split.map(|messages| self.render_whole(messages, tools)) {
            return Ok((text, Some(syntax)));
        }
        // If words do not help, tools were not the matter.
        self.render_whole(told, None).map(|text| (text, Some(CallSyntax::Hermes))).map_err(|_| refusal)
    }

    /// Renders messages and tools, and checks that nothing is left out.
    fn render_whole(&self, mut messages: Vec<Value>, tools: Option<&[Value]>) -> Result<String, Error> {
        let render = |messages: &[Value], tools: Option<&[Value]>| {
            self.render(&TemplateInput { messages, tools, add_generation_prompt: true, ..TemplateInput::default() })
        };
        let text = match render(&messages, tools) {
            Err(refusal @ Error::TemplateRefused { .. }) => {
                let Some(folded) = conversation::fold_system(&messages) else { return Err(refusal) };
                match render(&folded, tools) {
                    Ok(text) => {
                        messages = folded;
                        text
                    }
                    // The exception was not about the system prompt.
                    Err(_) => return Err(refusal),
                }
            }
            other => other?,
        };
        let makes_no_difference = |other: Result<String, Error>| other.is_ok_and(|other| other == text);
        let unsupported = |field: &str, what: &str| Error::UnsupportedContent {
            field: field.to_string(),
            reason: format!("the model's chat template leaves {what} out"),
        };
        let other_tools = tools.map(conversation::other_tools);
        if tools.is_some() && makes_no_difference(render(&messages, other_tools.as_deref())) {
            return Err(unsupported("toolConfig.tools", "tools"));
        }
        for (field, what, changed) in conversation::variations(&messages) {
            if makes_no_difference(render(&changed, tools)) {
                return Err(unsupported(field, what));
            }
        }
        Ok(text)
    }

    /// Name and source of the template of this name, or of the one to use if none is named.
    fn chosen(&self, name: Option<&str>, with_tools: bool) -> Result<(&String, &String), Error> {
        let found = match name {
            Some(name) => self.templates.get_key_value(name),
            None => {
                let tools = self.templates.get_key_value(TOOL_USE).filter(|_| with_tools);
                let only = || self.templates.iter().next().filter(|_| self.templates.len() == 1);
                tools.or_else(|| self.templates.get_key_value(DEFAULT)).or_else(only)
            }
        };
        found.ok_or_else(|| Error::NoChatTemplate { path: self.path.clone(), name: name.map(str::to_string) })
    }

    fn origin(&self, name: &str) -> String {
        match name {
            DEFAULT => self.path.display().to_string(),
            name => format!("{} ({name})", self.path.display()),
        }
    }
}
