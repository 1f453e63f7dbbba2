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
            match self.model.call(&call).await {
                Ok(ToolAnswer::ReturnControl) => Ok(ToolAnswer::ReturnControl),
                Ok(ToolAnswer::Done(content)) => Ok(match self.judge_answer(content).await? {
                    Ok(content) => ToolAnswer::Done(content),
                    Err(instead) => instead,
                }),
                Ok(ToolAnswer::Failed(content)) => Ok(match self.judge_answer(content).await? {
                    Ok(content) => ToolAnswer::Failed(content),
                    Err(instead) => instead,
                }),
                Ok(_) => Ok(ToolAnswer::failed("an answer of a kind that the guardrail can't judge")),
                // Words for the model, which may repeat what the call had in it.
                Err(Error::Validation { message }) => {
                    Ok(match self.judge_answer(vec![ToolResultContentBlock::Text(message)]).await? {
                        Ok(content) => ToolAnswer::Failed(content),
                        Err(instead) => instead,
                    })
                }
                Err(error) => Err(error),
            }
        })
    }
}

impl<T: Tool> Guarded<T> {
    /// What a tool answered, with masks, or the answer in its place.
    ///
    /// # Errors
    /// Those of the models that are asked.
    async fn judge_answer(
        &self,
        mut content: Vec<ToolResultContentBlock>,
    ) -> Result<Result<Vec<ToolResultContentBlock>, ToolAnswer>, Error> {
        let started = Instant::now();
        let source = GuardrailContentSource::Input;
        let mut judge = Judge::new(self.guardrail.side(&source), self.on_failure == OnFailure::Open);
        judge.third_party = true;
        let judged = judge.tool_result(&mut content, || "what the tool answered".to_owned()).await;
        judge.record(&self.guardrail, started);
        match judged {
            Err(Error::Validation { message }) => Ok(Err(ToolAnswer::failed(message))),
            Err(error) => Err(error),
            Ok(()) if judge.blocked() => Ok(Err(self.refused(&source))),
            Ok(()) => Ok(Ok(content)),
        }
    }

    fn refused(&self, source: &GuardrailContentSource) -> ToolAnswer {
        ToolAnswer::failed(self.guardrail.blocked_message(source))
    }
}
