//! Token ids that have a role.

/// The special tokens of a model, and those that end a generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Stands for what the vocabulary cannot express.
    pub unk: Option<u32>,
    /// Fills a batch up.
    pub pad: Option<u32>,
    /// Separates two texts.
    pub sep: Option<u32>,
    /// Its vector stands for the whole text, in encoders.
    pub cls: Option<u32>,
    /// Stands for a hidden word, in encoders.
    pub mask: Option<u32>,
    /// Ids that end a generation, ascending: end of text, and end of turn or of message where the model has them.
    pub ends: Vec<u32>,
    /// Whether begin-of-text is added to a text.
    pub add_bos: bool,
    /// Whether end-of-text is added to a text.
    pub add_eos: bool,
}

impl SpecialTokens {
    /// Whether this token ends a generation.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    pub(super) fn insert_end(&mut self, id: u32) {
        if let Err(place) = self.ends.binary_search(&id) {
            self.ends.insert(place, id);
        }
    }
}
