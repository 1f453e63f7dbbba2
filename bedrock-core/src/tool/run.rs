//! What runs a tool.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::executor::block_on;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ToolResultBlock, ToolResultContentBlock, ToolResultStatus, ToolSpecification, ToolUseBlock};
use crate::error::Error;
use crate::model::BoxFuture;

/// Something that a model may call: a function of this program, an HTTP operation, a knowledge base, another agent.
///
/// # Contract
/// - The input is the model's and so, in the end, may be anybody's: it may break the schema. Then the tool does nothing and gives
///   [`Error::Validation`], whose message is shown to the model, so that it can try again. It never panics.
/// - What a tool may do is decided by [`ToolCall::attributes`], which the application sets, and never by the input.
/// - Dropping the future stops the work, where the work can be stopped. Whoever calls bounds the time and the number of calls.
///
/// `testing::check_tool` (feature `testing`) checks what can be checked from outside.
pub trait Tool: Send + Sync {
    /// What the model is told about the tool. The same each time.
    fn spec(&self) -> ToolSpecification;

    /// Runs the tool.
    ///
    /// # Errors
    /// [`Error::Validation`] for an input that does not fit, in words for the model. Every other variant means that the tool
    /// itself is broken or out of reach, which is told to whoever runs the conversation and not to the model.
    fn call<'a>(&'a self, call: &'a ToolCall) -> BoxFuture<'a, Result<ToolAnswer, Error>>;

    /// [`Tool::call`] for callers without an async runtime: blocks the thread until the answer is there.
    ///
    /// # Errors
    /// As [`Tool::call`].
    fn call_blocking(&self, call: &ToolCall) -> Result<ToolAnswer, Error> {
        block_on(self.call(call))
    }
}

/// One call of a tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolCall {
    /// Name of this call, unique in the conversation: a tool that must not act twice can remember it.
    pub tool_use_id: String,
    /// The model's input. Not to be trusted.
    pub input: Value,
    /// What the application knows and the model does not choose, such as who asks: the attributes of the session.
    pub attributes: BTreeMap<String, String>,
}

impl ToolCall {
    /// A call with this input, without a name or attributes.
    pub fn new(input: Value) -> Self {
        Self { input, ..Self::default() }
    }

    /// The same with an attribute more.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }

    /// Reads the input as `T`.
    ///
    /// # Errors
    /// [`Error::Validation`] with words for the model if it does not fit.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(&self.input).map_err(|error| Error::validation(format!("the input does not fit: {error}")))
    }
}

impl From<&ToolUseBlock> for ToolCall {
    fn from(block: &ToolUseBlock) -> Self {
        Self { tool_use_id: block.tool_use_id.clone(), input: block.input.clone(), attributes: BTreeMap::new() }
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ToolAnswer {
    /// The tool did its work. What it found, for the model; may be empty.
    Done(Vec<ToolResultContentBlock>),
    /// The tool understood the call and could not do it ("no such order"). Why, for the model.
    Failed(Vec<ToolResultContentBlock>),
    /// Whoever asked runs the tool: the turn ends with the call, and goes on when its result is handed in.
    ReturnControl,
}

impl ToolAnswer {
    /// A success with one block, often just text.
    pub fn done(content: impl Into<ToolResultContentBlock>) -> Self {
        Self::Done(vec![content.into()])
    }

    /// A failure, in words that help the model to try otherwise.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(vec![ToolResultContentBlock::Text(message.into())])
    }

    /// The block that tells the model; `None` if there is nothing to tell yet, because control is returned.
    pub fn into_block(self, tool_use_id: impl Into<String>) -> Option<ToolResultBlock> {
        let (content, status) = match self {
            Self::Done(content) => (content, ToolResultStatus::Success),
            Self::Failed(content) => (content, ToolResultStatus::Error),
            Self::ReturnControl => return None,
        };
        Some(ToolResultBlock { tool_use_id: tool_use_id.into(), content, status: Some(status), kind: None })
    }
}

impl<T: Into<ToolResultContentBlock>> From<T> for ToolAnswer {
    /// A success.
    fn from(content: T) -> Self {
        Self::done(content)
    }
}

type Function = dyn Fn(ToolCall) -> BoxFuture<'static, Result<ToolAnswer, Error>> + Send + Sync;

/// A tool made of a closure.
///
/// ```
/// use bedrock_core::{FunctionTool, Tool, ToolCall, ToolAnswer, ToolSpecification};
/// use serde_json::json;
///
/// #[derive(serde::Deserialize)]
/// struct Sum { a: i64, b: i64 }
///
/// let schema = json!({"type": "object", "required": ["a", "b"],
///     "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}});
/// let tool = FunctionTool::new(ToolSpecification::new("add", "Adds two numbers.", schema), |call| {
///     let Sum { a, b } = call.parse()?;
///     Ok(a.checked_add(b).map_or(ToolAnswer::failed("too large"), |sum| json!({"sum": sum}).into()))
/// });
/// assert_eq!(tool.call_blocking(&ToolCall::new(json!({"a": 2, "b": 3})))?, json!({"sum": 5}).into());
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Clone)]
pub struct FunctionTool {
    spec: ToolSpecification,
    function: Arc<Function>,
}

impl FunctionTool {
    /// A tool whose work is short: the closure runs on the thread that polls the call.
    pub fn new<A: Into<ToolAnswer>>(
        spec: ToolSpecification,
        function: impl Fn(&ToolCall) -> Result<A, Error> + Send + Sync + 'static,
    ) -> Self {
        let function = Arc::new(function);
        Self::future(spec, move |call| {
            let function = function.clone();
            // Not before the future is polled: a call that is dropped at once does nothing.
            async move { function(&call) }
        })
    }

    /// A tool that waits for something.
    pub fn future<A, F>(spec: ToolSpecification, function: impl Fn(ToolCall) -> F + Send + Sync + 'static) -> Self
    where
        A: Into<ToolAnswer>,
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        let function = Arc::new(function);
        let function: Arc<Function> = Arc::new(move |call| {
            let function = function.clone();
            Box::pin(async move { Ok(function(call).await?.into()) })
        });
        Self { spec, function }
    }

    /// A tool that whoever asked runs: every call returns control.
    pub fn return_control(spec: ToolSpecification) -> Self {
        Self::new(spec, |_| Ok(ToolAnswer::ReturnControl))
    }
}

impl fmt::Debug for FunctionTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionTool").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Tool for FunctionTool {
    fn spec(&self) -> ToolSpecification {
        self.spec.clone()
    }

    fn call<'a>(&'a self, call: &'a ToolCall) -> BoxFuture<'a, Result<ToolAnswer, Error>> {
        (self.function)(call.clone())
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: Tool + ?Sized> Tool for $pointer<T> {
            fn spec(&self) -> ToolSpecification {
                (**self).spec()
            }
            fn call<'a>(&'a self, call: &'a ToolCall) -> BoxFuture<'a, Result<ToolAnswer, Error>> {
                (**self).call(call)
            }
        }
    )*};
}
forward!(Arc, Box);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;

    fn spec() -> ToolSpecification {
        ToolSpecification::new("greet", "Greets.", json!({"type": "object"}))
    }

    #[test]
    fn an_input_that_does_not_fit_is_told_in_words() {
        #[derive(Debug, serde::Deserialize)]
        struct Input {
            name: String,
        }
        let tool = FunctionTool::new(spec(), |call| Ok(format!("Hello, {}.", call.parse::<Input>()?.name)));
        let answer = tool.call_blocking(&ToolCall::new(json!({"name": "Ann"}))).unwrap();
        assert_eq!(answer, ToolAnswer::done("Hello, Ann."));
        match tool.call_blocking(&ToolCall::new(json!({"nom": "Ann"}))) {
            Err(Error::Validation { message }) => assert!(message.contains("`name`"), "{message}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn attributes_reach_the_tool_and_are_not_the_models() {
        let tool = FunctionTool::future(spec(), |call: ToolCall| async move {
            Ok(call.attributes.get("user").cloned().unwrap_or_default())
        });
        let call = ToolCall::new(json!({"user": "mallory"})).attribute("user", "ann");
        assert_eq!(tool.call_blocking(&call).unwrap(), ToolAnswer::done("ann"));
    }

    #[test]
    fn a_call_that_is_dropped_does_nothing() {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let tool = FunctionTool::new(spec(), move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
            Ok("done")
        });
        let call = ToolCall::default();
        drop(tool.call(&call));
        assert_eq!(count.load(Ordering::SeqCst), 0);
        tool.call_blocking(&call).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_answer_becomes_a_block_with_its_status() {
        let block = ToolAnswer::done("fine").into_block("t1").unwrap();
        assert_eq!((block.tool_use_id.as_str(), block.status), ("t1", Some(ToolResultStatus::Success)));
        let block = ToolAnswer::failed("no such order").into_block("t1").unwrap();
        assert_eq!(block, ToolResultBlock::error("t1", "no such order"));
        assert_eq!(ToolAnswer::ReturnControl.into_block("t1"), None);
    }

    #[test]
    fn a_pointer_is_the_tool() {
        let tools: Vec<Arc<dyn Tool>> = vec![Arc::new(Box::new(FunctionTool::return_control(spec())))];
        assert_eq!(tools[0].spec(), spec());
        assert_eq!(tools[0].call_blocking(&ToolCall::default()).unwrap(), ToolAnswer::ReturnControl);
    }
}
