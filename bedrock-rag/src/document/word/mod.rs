//! Word documents, old and new, and Rich Text.

mod block;
pub(super) mod doc;
pub(super) mod docx;
mod label;
mod numbering;
pub(super) mod rtf;
mod styles;
mod symbol;
