//! A guarded chat model: the way in, and the call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bedrock_core::{
    BoxFuture, ChatModel, ContentBlock, ConverseRequest, ConverseResponse, Error, EventStream, GuardrailContentBlock,
    GuardrailContentSource, GuardrailImageFormat, GuardrailImageSource, GuardrailStreamProcessingMode, GuardrailTrace,
    ImageBlock, ImageFormat, Role, StreamEvent, SystemContentBlock, ToolDefinition, collect,
};
use futures::{StreamExt, stream};

use crate::guardrail::{is_guarded, is_source};
use crate::picture::Picture;
use crate::relay::Relay;

use super::answer::Output;
use super::judge::Judge;
use super::{Guarded, Mode, OnFailure};

/// A request as the model shall see it, and what was found in it.
struct Input<'s> {
    request: ConverseRequest,
    judge: Judge<'s>,
}

impl<M: ChatModel> Guarded<M> {
    fn mode(&self, request: &ConverseRequest) -> Result<Mode, Error> {
        let config = request.guardrail_config.clone().unwrap_or_default();
        self.guardrail.answers_to(config.guardrail_identifier.as_deref(), config.guardrail_version.as_deref())?;
        let trace = config.trace.as_ref().unwrap_or(&self.trace);
        Ok(Mode {
            trace: matches!(trace, GuardrailTrace::Enabled | GuardrailTrace::EnabledFull),
            full: *trace == GuardrailTrace::EnabledFull,
            sync: config.stream_processing_mode != Some(GuardrailStreamProcessingMode::Async),
        })
    }

    /// The request as the model shall see it. Nothing is recorded.
    async fn judge_input(&self, request: &ConverseRequest) -> Result<Input<'_>, Error> {
        let mut request = request.clone();
        request.guardrail_config = None;
        let is_tagged = |block: &ContentBlock| matches!(block, ContentBlock::GuardContent(_));
        let restricted = request.messages.iter().any(|message| message.content.iter().any(is_tagged))
            || request.system.iter().any(|block| matches!(block, SystemContentBlock::GuardContent(_)));
        let side = self.guardrail.side(&GuardrailContentSource::Input);
        let mut judge = Judge::new(side, self.on_failure == OnFailure::Open);
        for (turn, message) in request.messages.iter_mut().enumerate() {
            for (index, block) in message.content.iter_mut().enumerate() {
                let path = || format!("messages.{turn}.content.{index}");
                let judged = message.role == Role::User && !restricted;
                judge.third_party = matches!(
                    block,
                    ContentBlock::Document(_) | ContentBlock::SearchResult(_) | ContentBlock::ToolResult(_)
                );
                match block {
                    ContentBlock::Text(text) if judged => judge.text(text).await?,
                    ContentBlock::Text(text) => judge.skip(text),
                    ContentBlock::Document(document) if judged => judge.document(document, path).await?,
                    ContentBlock::SearchResult(result) if judged => judge.search_result(result).await?,
                    ContentBlock::Image(image) if judged => {
                        let why = judge.picture(Picture::of(&image.format, &image.source)).await?;
                        judge.unread(path, "a picture", why)?;
                    }
                    ContentBlock::Image(_) => judge.images += 1,
                    ContentBlock::ToolResult(result) => judge.tool_result(&mut result.content, path).await?,
                    ContentBlock::GuardContent(content) => match guarded_content(&mut judge, content, path).await? {
                        Some(Plain::Text(text)) => *block = ContentBlock::Text(text),
                        Some(Plain::Image(image)) => *block = ContentBlock::Image(image),
                        None => {
                            return Err(Error::validation(format!("{}: unknown kind of guarded content", path())));
                        }
                    },
                    _ => {}
                }
            }
        }
        for (index, block) in request.system.iter_mut().enumerate() {
            match block {
                SystemContentBlock::Text(text) => judge.skip(text),
                SystemContentBlock::GuardContent(content) => {
                    match guarded_content(&mut judge, content, || format!("system.{index}")).await? {
                        Some(Plain::Text(text)) => *block = SystemContentBlock::Text(text),
                        // A picture can stand in the instructions as guarded content only, so it stays.
                        Some(Plain::Image(_)) => {}
                        None => {
                            return Err(Error::validation(format!("system.{index}: unknown kind of guarded content")));
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(config) = request.tool_config.as_mut().filter(|_| self.judge_tools) {
            judge.third_party = true;
            for tool in &mut config.tools {
                if let ToolDefinition::ToolSpec(spec) = tool {
                    judge.tool_specification(spec).await?;
                }
            }
        }
        Ok(Input { request, judge })
    }

    /// Begins an answer. `blocked` is set if the answer was blocked.
    async fn begin<'a>(
        &'a self,
        request: &'a ConverseRequest,
        blocked: Arc<AtomicBool>,
    ) -> Result<EventStream<'a>, Error> {
        let started = Instant::now();
        let mode = self.mode(request)?;
        request.validate()?;
        let Input { request: inner, judge } = self.judge_input(request).await?;
        judge.record(&self.guardrail, started);
        let (is_blocked, is_masked) = (judge.blocked(), judge.masked());
        let assessment = judge.assessment(&self.guardrail, mode, started, true);
        let mut output = Output::new(self, mode, started, judge.material);
        output.trace.input_assessment.insert(self.guardrail.id().to_owned(), assessment);
        if is_blocked || is_masked {
            output.reason = Some(if is_blocked { "Guardrail blocked." } else { "Guardrail masked." });
        }
        if is_blocked {
            blocked.store(true, Ordering::Release);
            let message = self.guardrail.blocked_message(&GuardrailContentSource::Input).to_owned();
            let mut events = vec![StreamEvent::message_start()];
            events.extend(output.refusal(message));
            return Ok(stream::iter(events.into_iter().map(Ok)).boxed());
        }
        let mut relay = Relay::new(|sender| {
            Box::pin(async move {
                let mut events = self.model.converse_stream(&inner).await?;
                // The stream has begun: from here on failures are items of it.
                sender.send([None]).await;
                while let Some(event) = events.next().await {
                    let out = output.push(event?).await;
                    let over = output.blocked;
                    if over {
                        // Stops the model before the reader has read the rest.
                        drop(std::mem::replace(&mut events, stream::empty().boxed()));
                        blocked.store(true, Ordering::Release);
                    }
                    sender.send(out.into_iter().map(Some)).await;
                    if over {
                        break;
                    }
                }
                Ok(())
            })
        });
        match relay.next().await {
            Some(Err(error)) => Err(error),
            _ => Ok(relay.filter_map(|event| async move { event.transpose() }).boxed()),
        }
    }
}

enum Plain {
    Text(String),
    Image(ImageBlock),
}

/// Judges guarded content at this place of the request, and answers with what the model gets instead.
async fn guarded_content(
    judge: &mut Judge<'_>,
    content: &mut GuardrailContentBlock,
    path: impl Fn() -> String,
) -> Result<Option<Plain>, Error> {
    judge.material.add(content);
    Ok(match content {
        GuardrailContentBlock::Text(block) => {
            if is_guarded(block) {
                judge.third_party = is_source(block);
                judge.text(&mut block.text).await?;
            } else {
                judge.skip(&block.text);
            }
            Some(Plain::Text(std::mem::take(&mut block.text)))
        }
        GuardrailContentBlock::Image(block) => {
            let why = judge.picture(Picture::of_guarded(block)).await?;
            judge.unread(path, "a picture", why)?;
            let format = match &block.format {
                GuardrailImageFormat::Png => ImageFormat::Png,
                GuardrailImageFormat::Jpeg => ImageFormat::Jpeg,
                _ => return Ok(None),
            };
            match &block.source {
                GuardrailImageSource::Bytes(bytes) => Some(Plain::Image(ImageBlock::new(format, bytes.0.clone()))),
                _ => None,
            }
        }
        _ => None,
    })
}

impl<M: ChatModel> ChatModel for Guarded<M> {
    fn converse_stream<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<EventStream<'a>, Error>> {
        Box::pin(self.begin(request, Arc::default()))
    }

    fn converse<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<ConverseResponse, Error>> {
        Box::pin(async move {
            let blocked = Arc::new(AtomicBool::new(false));
            // A whole answer is never given out before it is judged, so the mode of streams does not matter.
            let mut request = request.clone();
            if let Some(config) = &mut request.guardrail_config {
                config.stream_processing_mode = None;
            }
            let mut response = collect(self.begin(&request, blocked.clone()).await?).await?;
            if blocked.load(Ordering::Acquire)
                && let bedrock_core::ConverseOutput::Message(message) = &mut response.output
            {
                // The last block is the message in place of the answer.
                message.content.drain(..message.content.len().saturating_sub(1));
            }
            Ok(response)
        })
    }

    fn count_tokens<'a>(&'a self, request: &'a ConverseRequest) -> BoxFuture<'a, Result<u32, Error>> {
        Box::pin(async move {
            self.mode(request)?;
            request.validate()?;
            let input = self.judge_input(request).await?;
            if input.judge.blocked() { Ok(0) } else { self.model.count_tokens(&input.request).await }
        })
    }
}
