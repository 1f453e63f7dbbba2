//! Doors for the fuzz targets to what is private. Only cargo-fuzz builds it (`--cfg fuzzing`); it is no part of the interface.
#![allow(missing_docs)]

use std::sync::LazyLock;

use crate::error::Error;
use crate::generate::{Constraint, Constraints};
use crate::tokenizer::Tokenizer;
use crate::tool_use::{CallParser, CallPiece, CallSyntax};

/// What an answer in these pieces is, pieces of one kind joined.
pub fn calls(syntax: u8, pieces: &[&str]) -> String {
    let all = [
        CallSyntax::Hermes,
        CallSyntax::Llama,
        CallSyntax::Mistral,
        CallSyntax::MistralArgs,
        CallSyntax::CommandR,
        CallSyntax::CommandA,
        CallSyntax::ToolCall,
        CallSyntax::Json,
    ];
    let mut parser = CallParser::new(all[usize::from(syntax) % all.len()], vec!["f".into(), "get_weather".into()]);
    let mut found: Vec<CallPiece> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    let (last, outcome) = parser.finish();
    found.extend(last);
    let mut joined: Vec<CallPiece> = Vec::new();
    for piece in found {
        match (joined.last_mut(), piece) {
            (Some(CallPiece::Text(text)), CallPiece::Text(more))
            | (Some(CallPiece::Input(text)), CallPiece::Input(more)) => text.push_str(&more),
            (_, piece) => joined.push(piece),
        }
    }
    format!("{joined:?} {outcome:?}")
}

/// Chooses up to 24 tokens that a constraint allows.
pub fn constrain(constraint: &Constraint, tokenizer: &Tokenizer, choice: usize) -> Result<(), Error> {
    static CONSTRAINTS: LazyLock<Constraints> = LazyLock::new(Constraints::default);
    let mut masking = CONSTRAINTS.compile(constraint, tokenizer, 24)?;
    let logits = vec![0.0; tokenizer.id_limit()];
    for step in 0..24 {
        let masked = masking.apply(&logits)?;
        let allowed: Vec<usize> = (0..masked.len()).filter(|id| masked[*id] == 0.0).collect();
        let id = masking.settle(allowed[(choice + 7 * step) % allowed.len()] as u32, 23 - step);
        if tokenizer.special_tokens().is_end(id) {
            break;
        }
        masking.advance(id);
    }
    Ok(())
}
