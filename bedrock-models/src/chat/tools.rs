//! The tools of a request.

use bedrock_core::{ConverseRequest, ToolChoice, ToolDefinition, ToolInputSchema};
use serde_json::{Value, json};

use crate::generate::Constraint;
use crate::tokenizer::Tokenizer;
use crate::tool_use::{CallParser, CallSyntax, Choice, GrammarTool, grammar};

/// What a request says about tools, and how its model writes calls.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    syntax: CallSyntax,
    tools: Vec<GrammarTool>,
    /// Which of them are strict.
    strict: Vec<bool>,
    choice: ToolChoice,
    /// The schema of the answer's text, if it has one.
    output: Option<Value>,
}

impl Tools {
    /// None if the request has no tools.
    pub(super) fn of(request: &ConverseRequest, syntax: Option<CallSyntax>, output: Option<Value>) -> Option<Self> {
        let (config, syntax) = (request.tool_config.as_ref()?, syntax?);
        let mut found = Self {
            syntax,
            tools: Vec::new(),
            strict: Vec::new(),
            choice: config.tool_choice.clone().unwrap_or(ToolChoice::Auto {}),
            output,
        };
        for tool in &config.tools {
            // Tools of other kinds were refused with the prompt.
            let ToolDefinition::ToolSpec(tool) = tool else { continue };
            let schema = match &tool.input_schema {
                ToolInputSchema::Json(schema) => schema.clone(),
                _ => continue,
            };
            found.tools.push(GrammarTool { name: tool.name.clone(), schema });
            found.strict.push(tool.strict == Some(true));
        }
        Some(found)
    }

    /// What finds calls in the answer.
    pub(super) fn parser(&self) -> CallParser {
        CallParser::new(self.syntax, self.tools.iter().map(|tool| tool.name.clone()).collect())
    }

    /// Special tokens that belong to calls.
    pub(super) fn marks(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let ids = self.syntax.marks().filter_map(|mark| tokenizer.token_to_id(mark));
        ids.filter(|id| tokenizer.is_special(*id)).collect()
    }

    /// What the answer must conform to: nothing, if calls are free and so is the text.
    pub(super) fn constraint(&self, tokenizer: &Tokenizer) -> Option<Constraint> {
        let choice = match &self.choice {
            ToolChoice::Tool(tool) => Choice::One(tool.name.clone()),
            ToolChoice::Any {} => Choice::Any,
            _ if self.strict.contains(&true) || self.output.is_some() => Choice::Auto(self.output.clone()),
            _ => return None,
        };
        Some(grammar(self.syntax, &self.tools, &choice, tokenizer))
    }

    /// The same with any object as the input of each tool that is not strict. None if that changes nothing.
    pub(super) fn looser(&self) -> Option<Self> {
        let mut looser = self.clone();
        let loose = looser.tools.iter_mut().zip(&self.strict).filter(|(_, strict)| !**strict);
        loose.for_each(|(tool, _)| tool.schema = json!({ "type": "object" }));
        (looser.tools != self.tools).then_some(looser)
    }
}
