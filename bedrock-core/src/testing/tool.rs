//! A tool that plays a script.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::error::Error;
use crate::model::BoxFuture;
use crate::tool::{Tool, ToolAnswer, ToolCall, ToolSpecification};

/// Gives its answers one after another, the last one again and again, and remembers what it was asked. Inputs that are
/// no JSON object are refused.
#[derive(Debug)]
pub struct ScriptedTool {
    spec: ToolSpecification,
    answers: Mutex<VecDeque<ToolAnswer>>,
    calls: Mutex<Vec<ToolCall>>,
}

impl ScriptedTool {
    /// A tool of this name that takes any object. Without answers it returns control.
    pub fn new(name: impl Into<String>, answers: impl IntoIterator<Item = impl Into<ToolAnswer>>) -> Self {
        Self {
            spec: ToolSpecification::new(name, "Plays a script.", json!({"type": "object"})),
            answers: Mutex::new(answers.into_iter().map(Into::into).collect()),
            calls: Mutex::default(),
        }
    }

    /// The calls so far, in order; those that were refused included.
    pub fn calls(&self) -> Vec<ToolCall> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tool for ScriptedTool {
    fn spec(&self) -> ToolSpecification {
        self.spec.clone()
    }

    fn call<'a>(&'a self, call: &'a ToolCall) -> BoxFuture<'a, Result<ToolAnswer, Error>> {
        Box::pin(async move {
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call.clone());
            if !call.input.is_object() {
                return Err(Error::validation("the input is no object"));
            }
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            Ok(next.unwrap_or(ToolAnswer::ReturnControl))
        })
    }
}
