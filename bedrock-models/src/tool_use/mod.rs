//! Tools: how a model is told of them, and how its calls are read.
//!
//! Models write a call in the syntax that they were trained on, which their chat template shows ([`CallSyntax`]).
//! A [`CallParser`] finds calls in the answer as it is generated. Models whose template knows no tools are told of them in the system
//! prompt (`prompt`), with the syntax that most others use. Where calls must not be malformed, the syntax becomes a
//! grammar (`grammar`) that the answer is constrained to.

mod call;
mod grammar;
mod parse;
mod prompt;
mod scan;

pub(crate) use grammar::{Choice, GrammarTool, grammar};
pub(crate) use parse::{CallOutcome, CallParser, CallPiece};
pub(crate) use prompt::in_words;

/// How a model writes calls of tools.
///
/// In each form a call is a JSON object with the tool's name and its arguments; forms differ in what stands around it. Names of the fields
/// are read in every spelling, whatever the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallSyntax {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes, Qwen 2.5 and 3, and models that are told in words.
    Hermes,
    /// `{"name": …, "parameters": …}` as the whole answer, or after `<|python_tag|>`: Llama 3.
    Llama,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}]`: Mistral until 2024.
    Mistral,
    /// `[TOOL_CALLS]name[ARGS]{…}`: Mistral since then.
    MistralArgs,
    /// ``Action: ```json [{"tool_name": …, "parameters": …}] ``` ``: Command R.
    CommandR,
    /// `<|START_ACTION|>[{"tool_name": …, "parameters": …}]<|END_ACTION|>`: Command R7B and Command A.
    CommandA,
    /// `<|tool_call|>[{"name": …, "arguments": …}]<|/tool_call|>`: Granite and Phi 4, of which the first leaves the end out.
    ToolCall,
    /// `{"name": …, "arguments": …}` as the whole answer: templates that show tools and no syntax known here.
    Json,
}

/// The words around calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words {
    /// Begins calls; empty where they only begin an answer.
    pub(crate) open: &'static str,
    /// Ends calls; empty where nothing does.
    pub(crate) close: &'static str,
    /// Whether a bare object at the beginning of the answer is a call.
    pub(crate) bare: bool,
    /// The field of the tool's name.
    pub(crate) name: &'static str,
    /// The field of its input.
    pub(crate) arguments: &'static str,
}

/// Between the name and the input of [`CallSyntax::MistralArgs`].
pub(crate) const ARGS: &str = "[ARGS]";

/// Between the name and an id, if the model writes one, in the same form.
pub(crate) const CALL_ID: &str = "[CALL_ID]";

impl CallSyntax {
    /// The syntax that the source of a chat template shows. None if it is one that cannot be read here.
    pub(crate) fn of_template(source: &str) -> Option<Self> {
        let has = |mark: &str| source.contains(mark);
        // Calls as XML.
        if has("<function=") {
            return None;
        }
        Some(if has("[TOOL_CALLS]") {
            if has(ARGS) { Self::MistralArgs } else { Self::Mistral }
        } else if has("<|START_ACTION|>") {
            Self::CommandA
        } else if has("Action: ```json") || has("Action:```json") {
            Self::CommandR
        } else if has("<tool_call>") {
            Self::Hermes
        } else if has("<|tool_call|>") {
            Self::ToolCall
        } else if has("<|python_tag|>") || has("<|start_header_id|>") {
            Self::Llama
        } else {
            Self::Json
        })
    }

    pub(crate) fn words(self) -> Words {
        let words = |open, close| Words { open, close, bare: false, name: "name", arguments: "arguments" };
        match self {
            Self::Hermes => words("<tool_call>", "</tool_call>"),
            Self::Llama => Words { bare: true, arguments: "parameters", ..words("<|python_tag|>", "") },
            Self::Mistral | Self::MistralArgs => words("[TOOL_CALLS]", ""),
            Self::CommandR => Words { name: "tool_name", arguments: "parameters", ..words("Action: ```json", "```") },
            Self::CommandA => {
                Words { name: "tool_name", arguments: "parameters", ..words("<|START_ACTION|>", "<|END_ACTION|>") }
            }
            Self::ToolCall => words("<|tool_call|>", "<|/tool_call|>"),
            Self::Json => Words { bare: true, ..words("", "") },
        }
    }

    /// Texts that the parser must see even where the vocabulary has them as special tokens, which answers leave out.
    pub(crate) fn marks(self) -> impl Iterator<Item = &'static str> {
        let Words { open, close, .. } = self.words();
        let args = if self == Self::MistralArgs { [ARGS, CALL_ID] } else { [""; 2] };
        [open, close].into_iter().chain(args).filter(|mark| !mark.is_empty())
    }
}
