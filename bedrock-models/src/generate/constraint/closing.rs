//! A way to the end, kept at hand from the first token to the last.
//!
//! An answer under a constraint may have fewer tokens left than it needs: the model goes on with a text, a number, one more item. So
//! after each token a *closing* is known, tokens that complete the text and end it, and a token after which none is found that fits into
//! what is left is replaced by the first token of the one that is known. The law: if a closing of the empty answer fits, so
//! does one of every beginning, and the answer ends by itself.
//!
//! It costs little because a closing is hardly ever looked for. A token that it begins with leaves its rest; most others (more
//! of a text) leave all of it or a part, which the parser confirms. Only where something is opened is the way back to the known
//! closing searched.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokenId};
use llguidance::{Matcher, TokenParser};

use super::ways::{Way, Ways};

/// Tokens of a closing. Longer ones are not looked for, so none is needed while more than these are left.
const MAX_TOKENS: usize = 512;

/// How many ways are tried at each step where the first does not end in time.
const WAYS: usize = 32;

/// How many tokens of the known closing the answer may have gone past when it comes back to it.
const PASSED: usize = 16;

/// What searches may cost, in units of the parser's work (some 100 ns): all at once, and again with each token. A search that has used
/// it up finds nothing.
const MAX_WORK: u64 = 2_000_000;
const WORK_PER_TOKEN: u64 = 20_000;

/// What a way by a special token costs, in the terms of other ways.
const SPECIAL: u32 = 20;

/// What a step costs beside what the parser counts.
const STEP: u64 = 1_000;

/// A parser that follows the answer, apart from the one that computes masks: what goes wrong here ends no answer.
pub(super) struct Closer {
    matcher: Matcher,
    ways: Arc<Ways>,
    vocabulary: TokEnv,
    /// From where the answer is, the end token included.
    closing: Option<Vec<TokenId>>,
    work: u64,
    /// Tokens until the next search, after one that found nothing, and how many it was last time.
    pause: usize,
    last_pause: usize,
}

impl Closer {
    /// `parser`: one at the beginning, with a lexer of its own.
    pub(super) fn new(mut parser: TokenParser) -> Self {
        let vocabulary = parser.token_env.clone();
        let ways = Arc::new(Ways::new(vocabulary.clone()));
        parser.bias_computer = ways.clone();
        let matcher = Matcher::new(Ok(parser));
        Self { matcher, ways, vocabulary, closing: None, work: MAX_WORK, pause: 0, last_pause: 1 }
    }

    /// Looks for a closing of the empty answer, of at most `left` tokens.
    pub(super) fn begin(&mut self, left: usize) {
        if left <= MAX_TOKENS {
            self.closing = self.search(self.matcher.clone(), &[], left);
        }
    }

    /// The token to take where `id` was chosen and `left` may follow it: `id` itself, unless there would be no end.
    pub(super) fn settle(&mut self, id: TokenId, left: usize) -> TokenId {
        self.work = MAX_WORK.min(self.work + WORK_PER_TOKEN);
        if self.is_end(id) || self.matcher.is_error() {
            return id;
        }
        let known = self.closing.take().unwrap_or_default();
        if left > MAX_TOKENS {
            self.take(id, None);
            return id;
        }
        let rest = match known.split_first() {
            Some((first, rest)) if *first == id => Some(rest),
            _ => rejoin(&mut self.matcher, &[id], &known, left),
        };
        if let Some(rest) = rest.filter(|rest| rest.len() <= left) {
            self.take(id, Some(rest.to_vec()));
            return id;
        }
        let mut after = self.matcher.clone();
        let closing = match after.consume_token(id) {
            Ok(()) => self.look(after, &known, left),
            Err(_) => None,
        };
        match known.split_first() {
            Some((first, rest)) if closing.is_none() && rest.len() <= left => {
                self.take(*first, Some(rest.to_vec()));
                *first
            }
            _ => {
                self.take(id, closing);
                id
            }
        }
    }

    fn take(&mut self, id: TokenId, closing: Option<Vec<TokenId>>) {
        let is_taken = self.is_end(id) || self.matcher.consume_token(id).is_ok();
        self.closing = closing.filter(|_| is_taken);
    }

    /// [`search`](Self::search), less and less often while it finds nothing.
    fn look(&mut self, matcher: Matcher, known: &[TokenId], left: usize) -> Option<Vec<TokenId>> {
        if known.is_empty() && self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let found = self.search(matcher, known, left);
        (self.pause, self.last_pause) = if found.is_some() { (0, 1) } else { (self.last_pause, self.last_pause * 2) };
        found
    }

    /// The way to the end, or to where a part of `known` leads there, in at most `left` tokens.
    fn search(&mut self, matcher: Matcher, known: &[TokenId], left: usize) -> Option<Vec<TokenId>> {
        let most = left.min(MAX_TOKENS);
        let start = Path { matcher, tokens: Vec::new(), cost: 0 };
        let first = self.follow(start.clone(), known, most);
        // Where one is known, another that is hard to find is not needed.
        if first.is_some() || !known.is_empty() {
            return first;
        }
        let mut path = start;
        loop {
            let (ways, _) = self.step(path, known, WAYS)?;
            let mut best: Option<(usize, u32, Path)> = None;
            for way in ways {
                let bound = best.as_ref().map_or(MAX_TOKENS, |best| best.0);
                let end = self.follow(way.clone(), known, bound);
                let length = end.as_ref().map_or(MAX_TOKENS + 1, Vec::len);
                if length <= most {
                    return end;
                }
                if best.as_ref().is_none_or(|best| (length, way.cost) < (best.0, best.1)) {
                    best = Some((length, way.cost, way));
                }
            }
            path = best?.2;
        }
    }

    /// From a path to its end in at most `most` tokens, step by step the way that costs least.
    fn follow(&mut self, mut path: Path, known: &[TokenId], most: usize) -> Option<Vec<TokenId>> {
        loop {
            let (ways, end) = self.step(path, known, 1)?;
            if end.is_some() {
                return end.filter(|end| end.len() <= most);
            }
            path = ways.into_iter().next().filter(|path| path.tokens.len() < most)?;
        }
    }

    /// The `most` best ways in which a path goes on, or its tokens to the end if it is there. None if the work is used up.
    fn step(&mut self, mut path: Path, known: &[TokenId], most: usize) -> Option<(Vec<Path>, Option<Vec<TokenId>>)> {
        self.work = self.work.checked_sub(STEP)?;
        if !path.tokens.is_empty()
            && let Some(rest) = rejoin(&mut path.matcher, &[], known, known.len())
        {
            return Some((Vec::new(), Some([&path.tokens[..], rest].concat())));
        }
        let forced = path.matcher.compute_ff_tokens();
        if !forced.is_empty() {
            return Some((path.with(&forced, 0).into_iter().collect(), None));
        }
        self.ways.look_for(most);
        path.matcher.invalidate_bias_cache();
        let mask = path.matcher.compute_mask_or_eos().ok()?;
        let (ways, tries) = self.ways.take();
        let counted = path.matcher.last_step_stats().map_or(0, |stats| stats.lexer_cost + 100 * stats.all_items as u64);
        self.work = self.work.saturating_sub(tries as u64 / 5 + counted);
        let trie = self.vocabulary.tok_trie();
        if mask.is_allowed(trie.eos_token()) {
            return Some((Vec::new(), Some([&path.tokens[..], &[trie.eos_token()]].concat())));
        }
        let texts = ways.iter().filter_map(|Way { cost, bytes }| {
            let ids = trie.greedy_tokenize(bytes);
            (trie.decode_raw(&ids) == *bytes).then_some((ids, *cost))
        });
        let special = mask.iter().filter(|id| trie.is_special_token(*id)).map(|id| (vec![id], SPECIAL));
        let next = texts.chain(special).take(most).filter_map(|(ids, cost)| path.clone().with(&ids, cost));
        Some((next.collect(), None))
    }

    fn is_end(&self, id: TokenId) -> bool {
        self.vocabulary.tok_trie().eos_tokens().contains(&id)
    }
}

/// An end of `known`, of at most `left` tokens, that completes the text after `ids`.
fn rejoin<'k>(matcher: &mut Matcher, ids: &[TokenId], known: &'k [TokenId], left: usize) -> Option<&'k [TokenId]> {
    let first = known.len().saturating_sub(left);
    let ends = (first..known.len()).take(PASSED).map(|start| &known[start..]);
    let mut tokens = ids.to_vec();
    ends.into_iter().find(|end| {
        tokens.truncate(ids.len());
        tokens.extend_from_slice(end);
        matcher.validate_tokens(&tokens).is_ok_and(|valid| valid == tokens.len())
    })
}

/// A beginning of a closing, and the parser behind it.
#[derive(Clone)]
struct Path {
    matcher: Matcher,
    tokens: Vec<TokenId>,
    cost: u32,
}

impl Path {
    fn with(mut self, ids: &[TokenId], cost: u32) -> Option<Self> {
        self.matcher.consume_tokens(ids).ok()?;
        self.tokens.extend_from_slice(ids);
        self.cost += cost;
        Some(self)
    }
}
