//! Packing sentences into chunks.

use std::ops::Range;

use super::sentence::{characters, sentences, trim, words};
use super::{Chunk, CountTokens};
use crate::Error;
use crate::document::Document;

/// Text that packing keeps together, and its tokens (at least one, so that packing always ends).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) range: Range<usize>,
    pub(super) tokens: usize,
    /// The head of the table whose row this is.
    pub(super) head: Option<Head>,
}

/// Rows that say what a table's columns are, and their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    start: usize,
    end: usize,
    tokens: usize,
}

/// Bytes a token that a sentence must have before it is taken to be too long without counting. Far beyond any real
/// text; it keeps endless "sentences" (base64, minified code) away from the tokenizer.
const MAX_BYTES_PER_TOKEN: usize = 64;

/// The document's sentences as units of at most `max_tokens`; the ones that are larger in pieces.
pub(super) fn units(document: &Document, counter: &dyn CountTokens, max_tokens: usize) -> Result<Vec<Unit>, Error> {
    let mut units = Vec::new();
    let mut tables = document.tables.iter().peekable();
    let mut head: Option<(usize, Option<Head>)> = None;
    for sentence in sentences(document) {
        while tables.next_if(|table| table.range.end <= sentence.start).is_some() {}
        let first = units.len();
        push_within(&document.text, sentence.clone(), counter, max_tokens, &mut units)?;
        let Some(table) = tables.peek().filter(|table| table.head.end <= sentence.start && !table.head.is_empty())
        else {
            continue;
        };
        // Counted once a table.
        let counted = match head {
            Some((of, counted)) if of == table.head.start => counted,
            _ => head_of(&document.text, table.head.clone(), counter, max_tokens)?,
        };
        head = Some((table.head.start, counted));
        for unit in &mut units[first..] {
            unit.head = counted;
        }
    }
    Ok(units)
}

/// A table's head, unless saying it again would take more than half of a chunk.
fn head_of(
    text: &str,
    range: Range<usize>,
    counter: &dyn CountTokens,
    max_tokens: usize,
) -> Result<Option<Head>, Error> {
    let counted = counted(text, range.clone(), counter, max_tokens / 2)?;
    Ok(counted.map(|unit| Head { start: range.start, end: range.end, tokens: unit.tokens }))
}

fn push_within(
    text: &str,
    sentence: Range<usize>,
    counter: &dyn CountTokens,
    max_tokens: usize,
    units: &mut Vec<Unit>,
) -> Result<(), Error> {
    match counted(text, sentence.clone(), counter, max_tokens)? {
        Some(unit) => units.push(unit),
        None => split_sentence(text, sentence, counter, max_tokens, units)?,
    }
    Ok(())
}

/// The range as a unit, unless it is larger than `max_tokens`.
fn counted(
    text: &str,
    range: Range<usize>,
    counter: &dyn CountTokens,
    max_tokens: usize,
) -> Result<Option<Unit>, Error> {
    if range.len() > max_tokens.saturating_mul(MAX_BYTES_PER_TOKEN).max(1024) {
        return Ok(None);
    }
    let tokens = counter.count(&text[range.clone()])?.max(1);
    Ok((tokens <= max_tokens).then_some(Unit { range, tokens, head: None }))
}

/// Cuts a sentence that is too large: into its lines where they fit, else into words, else between characters.
fn split_sentence(
    text: &str,
    sentence: Range<usize>,
    counter: &dyn CountTokens,
    max_tokens: usize,
    units: &mut Vec<Unit>,
) -> Result<(), Error> {
    let mut at = sentence.start;
    for line in text[sentence].split_inclusive('\n') {
        let range = trim(text, at..at + line.len());
        at += line.len();
        if range.is_empty() {
            continue;
        }
        if let Some(unit) = counted(text, range.clone(), counter, max_tokens)? {
            units.push(unit);
            continue;
        }
        for word in words(text, range) {
            let mut pending = vec![word];
            while let Some(piece) = pending.pop() {
                let piece = trim(text, piece);
                if piece.is_empty() {
                    continue;
                }
                let tokens = counter.count(&text[piece.clone()])?.max(1);
                let half = characters(text, piece.clone(), piece.len().div_ceil(2));
                if tokens <= max_tokens || half.len() < 2 {
                    units.push(Unit { range: piece, tokens, head: None });
                } else {
                    pending.extend(half.into_iter().rev());
                }
            }
        }
    }
    Ok(())
}

/// Tokens of the head that a chunk says again when it begins with this unit: none if both don't fit.
fn lead(unit: &Unit, max_tokens: usize) -> usize {
    let tokens = unit.head.map_or(0, |head| head.tokens);
    if tokens * 2 <= max_tokens && tokens + unit.tokens <= max_tokens { tokens } else { 0 }
}

/// Greedy packing: as many units as fit, then back by as many as the overlap allows. Ranges are indices of `units`.
pub(super) fn pack(units: &[Unit], max_tokens: usize, overlap_tokens: usize) -> Vec<Range<usize>> {
    let mut packs = Vec::new();
    let mut start = 0;
    while start < units.len() {
        let mut tokens = lead(&units[start], max_tokens) + units[start].tokens;
        let mut end = start + 1;
        while end < units.len() && tokens + units[end].tokens <= max_tokens {
            tokens += units[end].tokens;
            end += 1;
        }
        packs.push(start..end);
        if end == units.len() {
            break;
        }
        // The overlap must leave room for the first unit that is new, or the next chunk would bring nothing.
        let mut shared = 0;
        let mut next = end;
        while next > start + 1 {
            let more = shared + units[next - 1].tokens;
            if more > overlap_tokens || lead(&units[next - 1], max_tokens) + more + units[end].tokens > max_tokens {
                break;
            }
            shared = more;
            next -= 1;
        }
        start = next;
    }
    packs
}

pub(super) fn to_chunk(
    units: &[Unit],
    pack: Range<usize>,
    max_tokens: usize,
    index: usize,
    parent: Option<usize>,
) -> Chunk {
    let units = &units[pack];
    let lead = units.first().map_or(0, |first| lead(first, max_tokens));
    let head = units.first().and_then(|first| first.head).filter(|_| lead > 0);
    Chunk {
        index,
        parent,
        tokens: lead + units.iter().map(|unit| unit.tokens).sum::<usize>(),
        start: units.first().map_or(0, |unit| unit.range.start),
        end: units.last().map_or(0, |unit| unit.range.end),
        head: head.map(|head| head.start..head.end),
    }
}

pub(super) fn fixed(
    document: &Document,
    counter: &dyn CountTokens,
    max_tokens: usize,
    overlap_tokens: usize,
) -> Result<Vec<Chunk>, Error> {
    let units = units(document, counter, max_tokens)?;
    let packs = pack(&units, max_tokens, overlap_tokens);
    Ok(packs.into_iter().enumerate().map(|(index, pack)| to_chunk(&units, pack, max_tokens, index, None)).collect())
}

pub(super) fn hierarchical(
    document: &Document,
    counter: &dyn CountTokens,
    parent_tokens: usize,
    child_tokens: usize,
    overlap_tokens: usize,
) -> Result<Vec<Chunk>, Error> {
    let parents = units(document, counter, parent_tokens)?;
    let mut chunks = Vec::new();
    for pack_of_parent in pack(&parents, parent_tokens, overlap_tokens) {
        let parent = chunks.len();
        chunks.push(to_chunk(&parents, pack_of_parent.clone(), parent_tokens, parent, None));
        let mut children = Vec::new();
        for unit in &parents[pack_of_parent] {
            if unit.tokens <= child_tokens {
                children.push(unit.clone());
            } else {
                split_sentence(&document.text, unit.range.clone(), counter, child_tokens, &mut children)?;
            }
        }
        for pack_of_children in pack(&children, child_tokens, overlap_tokens) {
            chunks.push(to_chunk(&children, pack_of_children, child_tokens, chunks.len(), Some(parent)));
        }
    }
    Ok(chunks)
}

/// The document as one chunk.
pub(super) fn whole(document: &Document, counter: &dyn CountTokens) -> Result<Vec<Chunk>, Error> {
    let range = trim(&document.text, 0..document.text.len());
    if range.is_empty() {
        return Ok(Vec::new());
    }
    // Counted in sentences all the same, so that a tokenizer never meets megabytes at once.
    let units = units(document, counter, super::MAX_TOKENS)?;
    let tokens = units.iter().map(|unit| unit.tokens).sum();
    Ok(vec![Chunk { index: 0, parent: None, tokens, start: range.start, end: range.end, head: None }])
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::super::sentence::blank;
    use super::super::{Chunking, WordCounter};
    use super::*;
    use crate::document::LineEnds;

    /// What the module documentation promises.
    fn check_laws(document: &Document, chunks: &[Chunk], max_tokens: usize, overlap: usize) {
        let text = &document.text;
        let mut covered = vec![false; text.len()];
        for (index, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk.index, index);
            let slice = chunk.text(document);
            assert_eq!(slice.trim_matches(blank), slice);
            assert!(!slice.is_empty());
            assert!(chunk.tokens <= max_tokens || slice.chars().count() == 1, "{} > {max_tokens}", chunk.tokens);
            covered[chunk.start..chunk.end].fill(true);
        }
        for (at, character) in text.char_indices() {
            assert!(covered[at] || blank(character), "{character:?} at {at} is in no chunk");
        }
        for pair in chunks.windows(2) {
            assert!(pair[0].start < pair[1].start && pair[0].end < pair[1].end, "chunks go forward");
            if pair[1].start < pair[0].end {
                let shared = WordCounter.count(&text[pair[1].start..pair[0].end]).unwrap();
                assert!(shared <= overlap, "{shared} shared, {overlap} allowed");
            }
        }
    }

    fn chunk(document: &Document, strategy: &str) -> Vec<Chunk> {
        strategy.parse::<Chunking>().unwrap().chunk_blocking(document, &WordCounter).unwrap()
    }

    proptest! {
        #[test]
        fn laws_hold_for_generated_text(
            text in "([a-zA-Z]{1,12}|[0-9]{1,4}|\\.|\\. |! |\n|\n\n|, |  |é|漢字|。|🦀|\u{feff}|# |- |\t| ){0,400}",
            max_tokens in 1usize..60,
            percent in 0usize..100,
            hard: bool,
        ) {
            let line_ends = if hard { LineEnds::Hard } else { LineEnds::Soft };
            let document = Document { line_ends, ..Document::from_text(text) };
            let overlap = max_tokens * percent / 100;
            let chunks = chunk(&document, &format!("fixed:{max_tokens}:{percent}"));
            check_laws(&document, &chunks, max_tokens, overlap);
            // A sentence that fits is inside some chunk whole.
            for sentence in sentences(&document) {
                let fits = WordCounter.count(&document.text[sentence.clone()]).unwrap() <= max_tokens
                    && sentence.len() <= 1024;
                let whole = chunks.iter().any(|c| c.start <= sentence.start && sentence.end <= c.end);
                prop_assert!(!fits || whole);
            }
        }

        #[test]
        fn laws_hold_for_hierarchies(
            text in "([a-z]{1,12}|\\. |\n\n|, | ){0,400}",
            parent in 2usize..80,
            child_share in 1usize..100,
            overlap_share in 0usize..100,
        ) {
            let child = (parent * child_share / 100).max(1);
            let overlap = (child * overlap_share / 100).min(child - 1);
            let document = Document::from_text(text);
            let chunks = chunk(&document, &format!("hierarchical:{parent}:{child}:{overlap}"));
            let renumber = |chunks: Vec<&Chunk>| -> Vec<Chunk> {
                chunks.into_iter().enumerate().map(|(index, c)| Chunk { index, ..c.clone() }).collect()
            };
            let parents = renumber(chunks.iter().filter(|c| c.parent.is_none()).collect());
            check_laws(&document, &parents, parent, overlap);
            for upper in chunks.iter().filter(|c| c.parent.is_none()) {
                let children = renumber(chunks.iter().filter(|c| c.parent == Some(upper.index)).collect());
                prop_assert!(!children.is_empty());
                prop_assert_eq!(children[0].start, upper.start);
                prop_assert_eq!(children[children.len() - 1].end, upper.end);
                prop_assert!(children.iter().all(|c| c.tokens <= child));
            }
        }

        /// The greedy packer against the obvious slow version of its first law: each pack takes all that fits.
        #[test]
        fn packs_are_maximal(tokens in prop::collection::vec(1usize..20, 0..60), max in 20usize..50, overlap in 0usize..19) {
            let units: Vec<Unit> = tokens.iter().map(|&tokens| Unit { range: 0..0, tokens, head: None }).collect();
            let packs = pack(&units, max, overlap);
            let sum = |range: Range<usize>| tokens[range].iter().sum::<usize>();
            for pair in packs.windows(2) {
                prop_assert!(sum(pair[0].start..pair[0].end + 1) > max, "one more would have fitted");
                prop_assert!(sum(pair[1].start..pair[0].end) <= overlap);
                prop_assert!(pair[1].end > pair[0].end);
            }
            prop_assert_eq!(packs.last().map_or(0, |last| last.end), units.len());
        }
    }

    #[test]
    fn short_documents_are_one_chunk_and_long_ones_overlap_by_sentences() {
        let short = Document::from_text("One. Two. Three.");
        assert_eq!(chunk(&short, "default").len(), 1);
        let long: String = (0..100).map(|n| format!("Sentence number {n} has eight words in it. ")).collect();
        let document = Document::from_text(long);
        let chunks = chunk(&document, "default");
        check_laws(&document, &chunks, 200, 40);
        assert!(chunks.windows(2).all(|pair| pair[1].start < pair[0].end), "neighbours overlap");
        assert!(chunks.iter().all(|chunk| chunk.text(&document).ends_with('.')));
        assert_eq!(chunk(&document, "none").len(), 1);
        assert!(chunk(&Document::from_text(" \n\u{feff} "), "none").is_empty());
    }

    #[test]
    fn a_chunk_that_goes_on_with_a_table_says_its_head_again() {
        let rows: String = (0..50).map(|n| format!("| item {n} | {n} euro |\n")).collect();
        let text = format!("Before.\n\n| Name | Price |\n|---|---|\n{rows}\nAfter.");
        let head = text.find("| Name").unwrap()..text.find("\n| item 0").unwrap();
        let table = crate::document::Table { range: head.start..text.find("\n\nAfter").unwrap(), head: head.clone() };
        let document = Document { tables: vec![table], ..Document::from_text(text.clone()) };
        for strategy in ["fixed:60:20", "hierarchical:150:60:10"] {
            let chunks = chunk(&document, strategy);
            assert!(chunks.len() > 5);
            for chunk in &chunks {
                let within = chunk.start > head.end && chunk.start < document.tables[0].range.end;
                assert_eq!(chunk.head, within.then(|| head.clone()), "{}", chunk.text(&document));
                assert_eq!(chunk.text(&document), &text[chunk.start..chunk.end]);
                let passage = chunk.passage(&document);
                assert_eq!(passage.contains("| Name | Price |"), within || chunk.start < head.end);
                assert!(chunk.tokens <= if chunk.parent.is_none() && strategy != "fixed:60:20" { 150 } else { 60 });
                assert!(WordCounter.count(&passage).unwrap() <= chunk.tokens);
            }
        }
        check_laws(&document, &chunk(&document, "fixed:60:20"), 60, 12);
        // A head that would take more than half of a chunk is said once.
        assert!(chunk(&document, "fixed:20:0").iter().all(|chunk| chunk.head.is_none()));
    }

    #[test]
    fn a_too_long_sentence_breaks_at_lines_then_words() {
        let document = Document::from_text("alpha beta\ngamma delta epsilon zeta eta\ntheta");
        let chunks = chunk(&document, "fixed:3:0");
        let texts: Vec<_> = chunks.iter().map(|c| c.text(&document)).collect();
        assert_eq!(texts, ["alpha beta\ngamma", "delta epsilon zeta", "eta\ntheta"]);
    }

    #[test]
    fn tokens_are_counted_once_a_sentence_and_time_is_linear() {
        struct Recording(AtomicUsize, AtomicUsize);
        impl CountTokens for Recording {
            fn count(&self, text: &str) -> Result<usize, Error> {
                self.0.fetch_add(text.len(), Ordering::Relaxed);
                self.1.fetch_max(text.len(), Ordering::Relaxed);
                WordCounter.count(text)
            }
        }
        let text = "A plain sentence of some words, like many others. ".repeat(40_000);
        let document = Document::from_text(text);
        let counter = Recording(AtomicUsize::new(0), AtomicUsize::new(0));
        let started = Instant::now();
        Chunking::Default.chunk_blocking(&document, &counter).unwrap();
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        assert!(counter.0.into_inner() <= document.text.len(), "each byte is counted once");

        // Two megabytes without a space or a full stop: no tokenizer ever sees more than a word's worth of it.
        let blob = Document::from_text("QUJD".repeat(500_000));
        let counter = Recording(AtomicUsize::new(0), AtomicUsize::new(0));
        Chunking::Default.chunk_blocking(&blob, &counter).unwrap();
        assert!(counter.1.into_inner() <= 200 * MAX_BYTES_PER_TOKEN);
    }
}
