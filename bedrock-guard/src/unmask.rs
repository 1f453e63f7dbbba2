//! Masks taken back while an answer arrives.

use std::collections::BTreeMap;

use bedrock_core::{ContentBlockDelta, Error, EventStream, StreamEvent};
use futures::{StreamExt, stream};

use crate::vault::Vault;

/// [`Vault::unmask`] of a text that comes in pieces: what is given out, joined, is the whole text unmasked.
///
/// What may become a pseudonym waits, which is less than the longest that the vault has given out: some twenty characters, and the name of a custom pattern.
///
/// ```
/// # use std::sync::Arc;
/// # use bedrock_core::{ApplyGuardrailRequest, Guardrail as _};
/// # use bedrock_guard::{Guardrail, Vault};
/// # let guardrail = Guardrail::from_json(include_str!("../../examples/data/guardrail.json"))?;
/// let vault = Arc::new(Vault::new());
/// let masked = guardrail.with_vault(vault.clone()).apply_blocking(&ApplyGuardrailRequest::input("Ask ada@example.org first."))?;
/// let masked = masked.outputs[0].text.as_deref().unwrap_or_default();
/// let mut unmasker = vault.unmasker();
/// assert_eq!(unmasker.push(&masked[..9]), "Ask ");
/// assert_eq!(unmasker.push(&masked[9..]), "ada@example.org first.");
/// assert_eq!(unmasker.finish(), "");
/// # Ok::<(), bedrock_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Unmasker<'v> {
    vault: &'v Vault,
    held: String,
}

impl<'v> Unmasker<'v> {
    pub(crate) fn new(vault: &'v Vault) -> Self {
        Self { vault, held: String::new() }
    }

    /// Takes a piece, and gives out what is certain now.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let mut out = String::with_capacity(self.held.len());
        let rest = self.vault.unmask_most(&self.held, &mut out);
        self.held = rest.to_owned();
        out
    }

    /// What still waits, which is no pseudonym.
    pub fn finish(self) -> String {
        self.held
    }
}

impl Vault {
    /// Takes masks back in a text that comes in pieces.
    pub fn unmasker(&self) -> Unmasker<'_> {
        Unmasker::new(self)
    }

    /// The events of an answer with the values in its text. The inputs of tool calls stay as they are: pieces of JSON, to which
    /// [`unmask_json`](Self::unmask_json) does it once they are whole. So does reasoning, for which a signature may vouch.
    pub fn unmask_stream<'a>(&'a self, events: EventStream<'a>) -> EventStream<'a> {
        let mut open = BTreeMap::new();
        events.flat_map(move |event| stream::iter(self.step(&mut open, event))).boxed()
    }

    fn step<'v>(
        &'v self,
        open: &mut BTreeMap<u32, Unmasker<'v>>,
        event: Result<StreamEvent, Error>,
    ) -> Vec<Result<StreamEvent, Error>> {
        let rest = |(index, unmasker): (u32, Unmasker<'_>)| {
            Some(unmasker.finish()).filter(|text| !text.is_empty()).map(|text| Ok(StreamEvent::text(index, text)))
        };
        let mut out = Vec::new();
        match event {
            Ok(StreamEvent::ContentBlockDelta(mut event)) => {
                if let ContentBlockDelta::Text(text) = &mut event.delta
                    && !text.is_empty()
                {
                    *text = open.entry(event.content_block_index).or_insert_with(|| self.unmasker()).push(text);
                    if text.is_empty() {
                        return out;
                    }
                }
                out.push(Ok(StreamEvent::ContentBlockDelta(event)));
            }
            Ok(StreamEvent::ContentBlockStop(stop)) => {
                out.extend(open.remove_entry(&stop.content_block_index).and_then(rest));
                out.push(Ok(StreamEvent::ContentBlockStop(stop)));
            }
            // Blocks that a model has not ended lose nothing.
            Ok(StreamEvent::MessageStop(stop)) => {
                out.extend(std::mem::take(open).into_iter().filter_map(rest));
                out.push(Ok(StreamEvent::MessageStop(stop)));
            }
            other => out.push(other),
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            parts in prop::collection::vec("[{}a_1]{0,6}|N|M|\\PC{0,3}", 0..8), cuts in prop::collection::vec(0usize..12, 0..20),
        ) {
            let vault = Vault::new();
            let names = [vault.pseudonym("a", "{a_1"), vault.pseudonym("{a}", "value")];
            let text = parts.concat().replace('N', &names[0]).replace('M', &names[1]);
            let longest = names.iter().map(String::len).max().unwrap();
            let (mut unmasker, mut out, mut rest) = (vault.unmasker(), String::new(), text.as_str());
            for cut in cuts {
                let cut = rest.floor_char_boundary(cut);
                out += &unmasker.push(&rest[..cut]);
                rest = &rest[cut..];
                prop_assert!(unmasker.held.len() < longest);
            }
            out += &unmasker.push(rest);
            out += &unmasker.finish();
            prop_assert_eq!(out, vault.unmask(&text));
        }
    }
}
