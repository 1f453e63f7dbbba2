//! Short ways on from where a parser stands, byte by byte.
//!
//! llguidance asks for masks from what it calls a bias computer, and lends it the parser to try bytes on. This one tries bytes too, but
//! in order of what they cost, until the lexeme under way may end: not all that may come next, but what ends soonest.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::mem::{discriminant, take};
use std::sync::{Mutex, MutexGuard, PoisonError};

use llguidance::derivre::StateID;
use llguidance::earley::{BiasComputer, ParserRecognizer};
use llguidance::toktrie::{Recognizer, SimpleVob, TokEnv, TokTrie};

/// Bytes that one search tries, at most.
const MAX_TRIES: usize = 1 << 19;

/// Bytes to the end of a lexeme, and what they cost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) cost: u32,
    pub(super) bytes: Vec<u8>,
}

/// How many ways to find, what was found, and bytes tried.
#[derive(Default)]
struct Search {
    most: usize,
    found: Vec<Way>,
    tries: usize,
}

/// Finds [`Way`]s instead of masks. What it answers as a mask is the first token of the best.
pub(super) struct Ways {
    vocabulary: TokEnv,
    search: Mutex<Search>,
}

impl Ways {
    pub(super) fn new(vocabulary: TokEnv) -> Self {
        Self { vocabulary, search: Mutex::default() }
    }

    /// How many the next search looks for.
    pub(super) fn look_for(&self, most: usize) {
        *self.search() = Search { most, ..Search::default() };
    }

    /// What the last search found, the best first, and how many bytes it tried.
    pub(super) fn take(&self) -> (Vec<Way>, usize) {
        let mut search = self.search();
        (take(&mut search.found), search.tries)
    }

    fn search(&self) -> MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BiasComputer for Ways {
    fn compute_bias(&self, parser: &mut ParserRecognizer<'_>, start: &[u8]) -> SimpleVob {
        let mut search = self.search();
        parser.trie_started("ways");
        match start {
            [] => search.find(parser),
            // These bytes must come, and the parser has them already.
            _ => search.found = vec![Way { cost: 0, bytes: start.to_vec() }],
        }
        parser.trie_finished();
        let trie = self.trie();
        let mut mask = trie.alloc_token_set();
        let first = search.found.first().and_then(|way| trie.greedy_tokenize(&way.bytes).first().copied());
        first.into_iter().for_each(|id| mask.allow_token(id));
        mask
    }

    fn trie(&self) -> &TokTrie {
        self.vocabulary.tok_trie()
    }
}

/// What white space costs where it stands between lexemes: more of it may always follow, so it is not taken while there is another way.
const WHITE_SPACE: u32 = 1 << 20;

/// What a byte costs as the first of a way, or later: more if it opens what must be closed, or announces more to come, and most if it is
/// only half of something, an escape or a character.
fn cost(byte: u8, is_first: bool) -> u32 {
    match byte {
        b' ' | b'\t' | b'\n' | b'\r' if is_first => WHITE_SPACE,
        b'\\' | 0x80.. => 1000,
        b'{' | b'[' | b'(' | b'<' => 20,
        b',' => 12,
        _ => 2,
    }
}

/// All bytes, those first that look best where several will do.
fn bytes() -> impl Iterator<Item = u8> {
    (b'a'..=b'z').chain(0..b'a').chain(b'z' + 1..=u8::MAX)
}

impl Search {
    /// Dijkstra's algorithm over the states of the lexer.
    fn find(&mut self, parser: &mut ParserRecognizer<'_>) {
        let may_end = |parser: &mut ParserRecognizer<'_>, state| !parser.lexer_mut().try_lexeme_end(state).is_error();
        let origin = parser.lexer_state();
        // Where the lexeme may end already, only what ends it brings us on.
        let is_over = may_end(parser, origin);
        // To each state, and to each end from each state: the next lexeme begins alike after different ones.
        let mut best: HashMap<(Option<StateID>, StateID), u32> = HashMap::from([((None, origin), 0)]);
        let mut queue = BinaryHeap::from([Reverse((Way { cost: 0, bytes: Vec::new() }, false))]);
        let mut pushed: Vec<u8> = Vec::new();
        while let Some(Reverse((way, is_end))) = queue.pop() {
            let is_late = self.found.first().is_some_and(|best| way.cost >= best.cost + WHITE_SPACE / 2);
            if is_late || self.found.len() >= self.most {
                break;
            }
            if is_end {
                self.found.push(way);
                continue;
            }
            let same = pushed.iter().zip(&way.bytes).take_while(|(a, b)| a == b).count();
            parser.pop_bytes(pushed.len() - same);
            self.tries += way.bytes.len() - same + 256;
            if self.tries > MAX_TRIES || !way.bytes[same..].iter().all(|byte| parser.try_push_byte(*byte)) {
                break;
            }
            pushed.clone_from(&way.bytes);
            let from = parser.lexer_state();
            for byte in bytes() {
                let ends = ends_lexeme(parser, from, byte);
                if !parser.try_push_byte(byte) {
                    continue;
                }
                let state = parser.lexer_state();
                parser.pop_bytes(1);
                let is_end = ends || !is_over && may_end(parser, state);
                let total = way.cost + cost(byte, way.bytes.is_empty());
                let known = best.entry((is_end.then_some(from), state)).or_insert(u32::MAX);
                if total < *known {
                    *known = total;
                    let bytes = [&way.bytes[..], &[byte]].concat();
                    queue.push(Reverse((Way { cost: total, bytes }, is_end)));
                }
            }
        }
    }
}

/// Whether a byte ends the lexeme under way, with itself or before itself.
fn ends_lexeme(parser: &mut ParserRecognizer<'_>, state: StateID, byte: u8) -> bool {
    let lexer = parser.lexer_mut();
    // The type of these results has no name outside its crate.
    let end = discriminant(&lexer.force_lexeme_end(state));
    discriminant(&lexer.advance(state, byte, false, &None)) == end
}
