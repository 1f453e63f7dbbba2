//! Finding chunks by their words: BM25 (k1 = 1.2, b = 0.75) through tantivy.
//!
//! The index is kept in memory and made from the store when the first query needs it. On disk it would be one more set
//! of files to verify, to keep in step with the store and (one day) to encrypt; made anew it is never wrong.

use std::sync::{Mutex, PoisonError};

use tantivy::collector::{FilterCollector, TopDocs};
use tantivy::query::{BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, Stemmer, TextAnalyzer, Token, TokenStream, Tokenizer,
};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term};
use unicode_segmentation::UnicodeSegmentation;

use super::id_ranges::IdRanges;
use crate::Error;

/// Memory for words that are not written out yet, the least tantivy takes.
const WRITER_BYTES: usize = 15_000_000;

/// Most different words of a query that are looked for.
const MAX_QUERY_WORDS: usize = 256;

/// Longest word that is indexed, in bytes.
const MAX_WORD_BYTES: usize = 128;

const ANALYZER: &str = "words";

pub(crate) struct KeywordIndex {
    index: Index,
    writer: Mutex<IndexWriter>,
    reader: IndexReader,
    id: Field,
    text: Field,
}

impl std::fmt::Debug for KeywordIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeywordIndex").finish_non_exhaustive()
    }
}

fn failed(error: tantivy::TantivyError) -> Error {
    Error::Keyword { source: Box::new(error) }
}

impl KeywordIndex {
    pub(crate) fn new() -> Result<Self, Error> {
        let mut schema = Schema::builder();
        let id = schema.add_u64_field("id", NumericOptions::from(INDEXED | FAST));
        let words = TextFieldIndexing::default().set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqs);
        let text = schema.add_text_field("text", TextOptions::default().set_indexing_options(words));
        let index = Index::create_in_ram(schema.build());
        index.tokenizers().register(ANALYZER, analyzer());
        let writer = index.writer_with_num_threads(1, WRITER_BYTES).map_err(failed)?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(failed)?;
        Ok(Self { index, writer: Mutex::new(writer), reader, id, text })
    }

    /// Puts chunks in and takes chunks out; seen by searches when this returns.
    pub(crate) fn apply<'a>(
        &self,
        inserted: impl IntoIterator<Item = (u64, &'a str)>,
        removed: impl IntoIterator<Item = u64>,
    ) -> Result<(), Error> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for id in removed {
            writer.delete_term(Term::from_field_u64(self.id, id));
        }
        for (id, text) in inserted {
            // It may be there already: the index is made from a store that has what is only now announced.
            writer.delete_term(Term::from_field_u64(self.id, id));
            let mut document = TantivyDocument::default();
            document.add_u64(self.id, id);
            document.add_text(self.text, text);
            writer.add_document(document).map_err(failed)?;
        }
        writer.commit().map_err(failed)?;
        self.reader.reload().map_err(failed)
    }

    /// The `k` chunks whose words fit best, with their BM25 scores (above 0, without upper bound); ties by id.
    pub(crate) fn search(&self, query: &str, k: usize, allowed: Option<&IdRanges>) -> Result<Vec<(u64, f32)>, Error> {
        let mut words = Vec::new();
        let mut analyzer = self.index.tokenizer_for_field(self.text).map_err(failed)?;
        let mut stream = analyzer.token_stream(query);
        while let Some(token) = stream.next() {
            let term = Term::from_field_text(self.text, &token.text);
            if words.len() < MAX_QUERY_WORDS && !words.contains(&term) {
                words.push(term);
            }
        }
        if words.is_empty() || k == 0 {
            return Ok(Vec::new());
        }
        let clauses = words
            .into_iter()
            .map(|term| (Occur::Should, Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs)) as Box<dyn Query>))
            .collect();
        let query = BooleanQuery::new(clauses);
        let searcher = self.reader.searcher();
        let best = TopDocs::with_limit(k).order_by_score();
        let found = match allowed {
            None => searcher.search(&query, &best),
            Some(allowed) => {
                let allowed = allowed.clone();
                let passes = move |id: u64| allowed.contains(id);
                searcher.search(&query, &FilterCollector::new("id".to_owned(), passes, best))
            }
        };
        let mut results = Vec::new();
        for (score, address) in found.map_err(failed)? {
            let ids = searcher.segment_reader(address.segment_ord).fast_fields().u64("id").map_err(failed)?;
            if let Some(id) = ids.first(address.doc_id) {
                results.push((id, score));
            }
        }
        results.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Ok(results)
    }
}

/// Words of UAX #29 in lower case, without accents on Latin letters, reduced to their English stems. (Words of other
/// languages pass the English stemmer nearly unchanged; in text and query alike, which is what counts.)
fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(UnicodeWords)
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(Stemmer::new(Language::English))
        .build()
}

/// Splits at Unicode's word boundaries, so that scripts without spaces have words too.
#[derive(Clone, Debug, Default)]
struct UnicodeWords;

struct Words {
    tokens: std::vec::IntoIter<Token>,
    current: Token,
}

impl Tokenizer for UnicodeWords {
    type TokenStream<'a> = Words;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Words {
        let tokens: Vec<Token> = text
            .unicode_word_indices()
            .filter(|(_, word)| word.len() <= MAX_WORD_BYTES)
            .enumerate()
            .map(|(position, (offset_from, word))| Token {
                offset_from,
                offset_to: offset_from + word.len(),
                position,
                text: word.replace('’', "'"),
                position_length: 1,
            })
            .collect();
        Words { tokens: tokens.into_iter(), current: Token::default() }
    }
}

impl TokenStream for Words {
    fn advance(&mut self) -> bool {
        match self.tokens.next() {
            Some(token) => {
                self.current = token;
                true
            }
            None => false,
        }
    }

    fn token(&self) -> &Token {
        &self.current
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(found: Vec<(u64, f32)>) -> Vec<u64> {
        found.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn words_are_found_changed_and_removed() {
        let index = KeywordIndex::new().unwrap();
        let texts =
            [(1, "The cats are sleeping."), (2, "A dog sleeps; dogs bark."), (3, "東京 is Tokyo"), (4, "Naïve Bayes")];
        index.apply(texts, []).unwrap();
        let search = |query: &str| ids(index.search(query, 10, None).unwrap());
        assert_eq!(search("cat"), [1]);
        assert_eq!(search("sleep dog"), [2, 1]);
        assert_eq!(search("東"), [3]);
        assert_eq!(search("naive"), [4]);
        assert_eq!(search("AND \"( ~ nothing:"), [0u64; 0]);
        assert_eq!(search(""), [0u64; 0]);
        index.apply([(5, "cat")], [1]).unwrap();
        assert_eq!(search("cats"), [5]);
    }

    #[test]
    fn filters_apply_inside_the_search() {
        let index = KeywordIndex::new().unwrap();
        let texts: Vec<(u64, String)> =
            (0..200).map(|id| (id, format!("word {}", "word ".repeat(id as usize % 5)))).collect();
        index.apply(texts.iter().map(|(id, text)| (*id, text.as_str())), []).unwrap();
        let allowed = IdRanges::new(vec![150..151, 3..5]);
        assert_eq!(allowed.len(), 3);
        let mut found = ids(index.search("word", 3, Some(&allowed)).unwrap());
        found.sort_unstable();
        assert_eq!(found, [3, 4, 150]);
    }
}
