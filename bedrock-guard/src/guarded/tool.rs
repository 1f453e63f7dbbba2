//! A guarded tool.

use std::time::Instant;

use bedrock_core::{
    BoxFuture, Error, GuardrailContentSource, Tool, ToolAnswer, ToolCall, ToolResultContentBlock, ToolSpecification,
};

use super::judge::Judge;
use super::{Guarded, OnFailure};

impl<T: Tool> Tool for Guarded<T> {
    fn spec(&self) -> ToolSpecification {
        self.model.spec()
    }

    fn call<'a>(&'a self, call: &'a ToolCall) -> BoxFuture<'a, Result<ToolAnswer, Error>> {
        Box::pin(async move {
            let mut call = call.clone();
            let started = Instant::now();
            let side = self.guardrail.side(&GuardrailContentSource::Output);
            let mut judge = Judge::new(side, self.on_failure == OnFailure::Open);
            judge.json(&mut call.input).await?;
            judge.record(&self.guardrail, started);
            if judge.blocked() {
                return Ok(self.refused(&GuardrailContentSource::Output));
            }
            if let Some(vault) = side.vault().filter(|_| self.unmask_calls) {
                vault.unmask_json(&mut call.input);
            }
            let (content, kind): (_, fn(Vec<ToolResultContentBlock>) -> ToolAnswer) = match self.model.call(&call).await
            {
                Ok(ToolAnswer::ReturnControl) => return Ok(ToolAnswer::ReturnControl),
                Ok(ToolAnswer::Done(content)) => (content, ToolAnswer::Done),
                Ok(ToolAnswer::Failed(content)) => (content, ToolAnswer::Failed),
                Ok(_) => return Ok(ToolAnswer::failed("an answer of a kind that the guardrail can't judge")),
                // Words for the model, which may repeat what the call had in it.
                Err(Error::Validation { message }) => (vec![ToolResultContentBlock::Text(message)], ToolAnswer::Failed),
                Err(error) => return Err(error),
            };
            self.judge_answer(content, kind).await
        })
    }
}

impl<T: Tool> Guarded<T> {
    /// What a tool answered, with masks and as an answer of this kind; or the answer in its place.
    ///
    /// # Errors
    /// Those of the models that are asked.
    async fn judge_answer(
        &self,
        mut content: Vec<ToolResultContentBlock>,
        kind: fn(Vec<ToolResultContentBlock>) -> ToolAnswer,
    ) -> Result<ToolAnswer, Error> {
        let started = Instant::now();
        let source = GuardrailContentSource::Input;
        let mut judge = Judge::new(self.guardrail.side(&source), self.on_failure == OnFailure::Open);
        judge.third_party = true;
        let judged = judge.tool_result(&mut content, || "what the tool answered".to_owned()).await;
        judge.record(&self.guardrail, started);
        match judged {
            Err(Error::Validation { message }) => Ok(ToolAnswer::failed(message)),
            Err(error) => Err(error),
            Ok(()) if judge.blocked() => Ok(self.refused(&source)),
            Ok(()) => Ok(kind(content)),
        }
    }

    fn refused(&self, source: &GuardrailContentSource) -> ToolAnswer {
        ToolAnswer::failed(self.guardrail.blocked_message(source))
    }
}
