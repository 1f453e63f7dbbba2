//! Keys and values of prompts that were computed before, found by what a prompt begins with.
//!
//! A radix tree whose edges are blocks of 64 tokens; a node holds one page of every layer. Sequences share the pages by reference count.
//! The end of a prompt rarely fills its last block: such a block is a leaf, and a sequence that continues it, or only
//! begins like some block, copies the page with its first write. Only prompts are kept: what a sequence decoded was
//! computed by other products, and an answer must be the same with the tree and without it. Nothing is shared between requests of different
//! adapters: their keys and values differ.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::arch::Cache;
use crate::kernels::page::{PAGE, Page};
use crate::layers::LayerCache;

const ROOT: usize = 0;

/// The tree.
pub(super) struct Prefixes {
    /// The root and all blocks; those in `vacant` are unused.
    nodes: Vec<Node>,
    vacant: Vec<usize>,
    /// Counts uses, to know the least recent.
    clock: u64,
}

#[derive(Default)]
struct Node {
    parent: usize,
    /// Of the requests whose keys and values these are: that of the parent, but for the root.
    adapter: Option<usize>,
    /// As many as a page has positions; fewer in a leaf.
    tokens: Vec<u32>,
    /// Of every layer.
    pages: Vec<Page>,
    children: Vec<usize>,
    used: u64,
}

impl Node {
    fn is_shared(&self) -> bool {
        self.pages.first().is_some_and(Page::is_shared)
    }
}

/// What [`Prefixes::keep`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Pages that the sequence held alone and the tree holds now.
    pub(super) pages: usize,
    /// Tokens that the tree did not know before.
    pub(super) tokens: usize,
}

impl Prefixes {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()], vacant: Vec::new(), clock: 0 }
    }

    /// Pages held, each of all layers.
    pub(super) fn pages(&self) -> usize {
        self.nodes.len() - 1 - self.vacant.len()
    }

    /// Pages that no sequence shares. A sequence shares all blocks on its way, so whatever lies below these is
    /// unshared as well, and all of them can be evicted.
    pub(super) fn evictable(&self) -> usize {
        self.nodes.iter().skip(1).filter(|node| !node.pages.is_empty() && !node.is_shared()).count()
    }

    /// Continues `caches`, which hold a beginning of `prompt`, with the pages of the whole blocks that follow there.
    /// Returns how many. Does nothing inside of a block.
    ///
    /// The last token of a prompt is never taken from the tree: its logits are wanted.
    pub(super) fn attach(&mut self, adapter: Option<usize>, prompt: &[u32], caches: &mut [Cache]) -> usize {
        let held = caches[0].len;
        if !held.is_multiple_of(PAGE) {
            return 0;
        }
        self.clock += 1;
        let known = &prompt[..prompt.len() - 1];
        let (mut node, mut end) = (ROOT, 0);
        while let Some(block) = known.get(end..end + PAGE)
            && let Some(child) = self.child(node, adapter, block)
        {
            if end >= held {
                self.append(child, PAGE, caches);
            }
            self.nodes[child].used = self.clock;
            (node, end) = (child, end + PAGE);
        }
        (caches[0].len - held) / PAGE
    }

    /// Continues `caches` with the beginning of the next block, as far as some block begins like it. The page is the sequence's own as
    /// soon as it is written to.
    pub(super) fn attach_part(&mut self, adapter: Option<usize>, prompt: &[u32], caches: &mut [Cache]) {
        let (held, known) = (caches[0].len, &prompt[..prompt.len() - 1]);
        let Some(rest) = known.get(held..).filter(|_| held.is_multiple_of(PAGE)) else { return };
        let mut node = ROOT;
        for block in known[..held].chunks(PAGE) {
            let Some(child) = self.child(node, adapter, block) else { return };
            node = child;
        }
        if let Some((child, common)) = self.nearest(node, adapter, rest) {
            self.clock += 1;
            self.nodes[child].used = self.clock;
            self.append(child, common, caches);
        }
    }

    /// Remembers that `caches` hold `tokens`, a prompt or a beginning of it. Where the tree has a block already, the sequence takes the
    /// tree's page for its own, whose numbers are the same.
    pub(super) fn keep(&mut self, adapter: Option<usize>, tokens: &[u32], caches: &mut [Cache]) -> Kept {
        self.clock += 1;
        let (mut node, mut kept) = (ROOT, Kept::default());
        for (index, block) in tokens.chunks(PAGE).enumerate() {
            if let Some(child) = self.child(node, adapter, block) {
                node = child;
                kept.pages += usize::from(self.replace(child, index, caches));
            } else if block.len() < PAGE
                && self.nearest(node, adapter, block).is_some_and(|(_, common)| common == block.len())
            {
                break;
            } else {
                let pages: Option<Vec<Page>> = layers(caches).map(|layer| pages(layer)?.get(index).cloned()).collect();
                // A device without pages.
                let Some(pages) = pages else { break };
                self.drop_beginnings(node, adapter, block);
                node = self.add(Node { parent: node, adapter, tokens: block.to_vec(), pages, ..Node::default() });
                kept.pages += 1;
                kept.tokens += block.len();
            }
            self.nodes[node].used = self.clock;
        }
        kept
    }

    /// Drops up to `count` pages that no sequence shares, the least recently used first; returns how many.
    pub(super) fn evict(&mut self, count: usize) -> usize {
        let is_leaf = |node: &Node| !node.pages.is_empty() && node.children.is_empty() && !node.is_shared();
        let leaves = self.nodes.iter().enumerate().skip(1).filter(|(_, node)| is_leaf(node));
        let mut leaves: BinaryHeap<_> = leaves.map(|(index, node)| Reverse((node.used, index))).collect();
        let mut evicted = 0;
        while evicted < count
            && let Some(Reverse((_, index))) = leaves.pop()
        {
            let parent = self.nodes[index].parent;
            self.remove(index);
            evicted += 1;
            if parent != ROOT && is_leaf(&self.nodes[parent]) {
                leaves.push(Reverse((self.nodes[parent].used, parent)));
            }
        }
        evicted
    }

    /// The children of a node that are of an adapter.
    fn children(&self, node: usize, adapter: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        self.nodes[node].children.iter().copied().filter(move |child| self.nodes[*child].adapter == adapter)
    }

    fn child(&self, node: usize, adapter: Option<usize>, block: &[u32]) -> Option<usize> {
        self.children(node, adapter).find(|child| self.nodes[*child].tokens == block)
    }

    /// The child that has the longest beginning in common with `tokens`, and how long that is.
    fn nearest(&self, node: usize, adapter: Option<usize>, tokens: &[u32]) -> Option<(usize, usize)> {
        let common = |child: usize| self.nodes[child].tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.children(node, adapter)
            .map(|child| (child, common(child)))
            .max_by_key(|(_, common)| *common)
            .filter(|(_, common)| *common > 0)
    }

    /// Gives the caches a share of the next page, of which `positions` count.
    fn append(&self, node: usize, positions: usize, caches: &mut [Cache]) {
        for (layer, page) in layers(caches).zip(&self.nodes[node].pages) {
            match layer {
                LayerCache::Pages(pages) => pages.push(page.clone()),
                empty => *empty = LayerCache::Pages(vec![page.clone()]),
            }
        }
        caches.iter_mut().for_each(|cache| cache.len += positions);
    }

    /// Replaces the page `index` of the caches by that of the node; false if it is that already.
    fn replace(&self, node: usize, index: usize, caches: &mut [Cache]) -> bool {
        let mut replaced = false;
        for (layer, page) in layers(caches).zip(&self.nodes[node].pages) {
            if let LayerCache::Pages(pages) = layer
                && let Some(own) = pages.get_mut(index)
                && !own.is_same(page)
            {
                *own = page.clone();
                replaced = true;
            }
        }
        replaced
    }

    /// Drops leaves that hold no more than a beginning of `block`, which takes their place.
    fn drop_beginnings(&mut self, node: usize, adapter: Option<usize>, block: &[u32]) {
        let is_beginning = |child: &usize| {
            let child = &self.nodes[*child];
            block.starts_with(&child.tokens) && !child.is_shared()
        };
        let shorter: Vec<usize> = self.children(node, adapter).filter(is_beginning).collect();
        shorter.into_iter().for_each(|child| self.remove(child));
    }

    fn add(&mut self, node: Node) -> usize {
        let (parent, index) = (node.parent, self.vacant.pop().unwrap_or(self.nodes.len()));
        if index == self.nodes.len() {
            self.nodes.push(node);
        } else {
            self.nodes[index] = node;
        }
        self.nodes[parent].children.push(index);
        index
    }

    /// Removes a leaf.
    fn remove(&mut self, index: usize) {
        let parent = self.nodes[index].parent;
        self.nodes[parent].children.retain(|child| *child != index);
        self.nodes[index] = Node::default();
        self.vacant.push(index);
    }
}

/// The layers of all caches of a sequence.
fn layers(caches: &mut [Cache]) -> impl Iterator<Item = &mut LayerCache> {
    caches.iter_mut().flat_map(|cache| &mut cache.layers)
}

fn pages(layer: &LayerCache) -> Option<&Vec<Page>> {
    match layer {
        LayerCache::Pages(pages) => Some(pages),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::CacheType;
    use crate::kernels::attention::Heads;

    const HEADS: Heads = Heads { queries: 1, keys: 1, dim: 1, scale: 1.0 };

    /// Appends positions as a model would, whose keys are the tokens, and others with an adapter.
    fn compute(adapter: Option<usize>, tokens: &[u32], caches: &mut [Cache]) {
        for cache in caches {
            for (position, token) in tokens.iter().enumerate().skip(cache.len) {
                for layer in &mut cache.layers {
                    if !matches!(layer, LayerCache::Pages(_)) {
                        *layer = LayerCache::Pages(Vec::new());
                    }
                    let LayerCache::Pages(pages) = layer else { unreachable!() };
                    if position / PAGE == pages.len() {
                        pages.push(Page::new(HEADS, CacheType::F32));
                    }
                    pages[position / PAGE].write(HEADS, position % PAGE, &[key(adapter, *token)], &[0.0]);
                }
            }
            cache.len = tokens.len();
        }
    }

    fn key(adapter: Option<usize>, token: u32) -> f32 {
        token as f32 + adapter.map_or(0.0, |adapter| 1000.0 * (adapter + 1) as f32)
    }

    fn holds(adapter: Option<usize>, tokens: &[u32], caches: &[Cache]) -> bool {
        caches.iter().flat_map(|cache| &cache.layers).all(|layer| {
            let pages = pages(layer).unwrap();
            tokens.iter().enumerate().all(|(i, token)| pages[i / PAGE].key(i % PAGE) == key(adapter, *token))
        })
    }

    fn caches() -> Vec<Cache> {
        vec![Cache::new(2), Cache::new(1)]
    }

    /// Prompts that have much in common.
    fn prompt() -> impl Strategy<Value = Vec<u32>> {
        (0u32..3, 0usize..4, 0u32..2, 1usize..100).prop_map(|(first, blocks, second, rest)| {
            let shared = std::iter::repeat_n(first, blocks * PAGE - blocks * 3);
            shared.chain(std::iter::repeat_n(second + 10, rest)).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_attached_is_what_was_computed_and_pages_are_counted(
            steps in prop::collection::vec((prompt(), prop::option::of(0usize..2), any::<bool>(), 0usize..4), 1..40)
        ) {
            let mut tree = Prefixes::new();
            let mut running: Vec<(Option<usize>, Vec<u32>, Vec<Cache>)> = Vec::new();
            for (prompt, adapter, ends, evict) in steps {
                let mut caches = caches();
                let whole = tree.attach(adapter, &prompt, &mut caches);
                prop_assert_eq!(caches[0].len, whole * PAGE);
                tree.attach_part(adapter, &prompt, &mut caches);
                let cached = caches[0].len;
                prop_assert!(cached < prompt.len() && cached / PAGE == whole);
                if cached > 0 {
                    prop_assert!(holds(adapter, &prompt[..cached], &caches));
                }
                compute(adapter, &prompt, &mut caches);
                let end = if ends { prompt.len() } else { prompt.len() / PAGE * PAGE };
                let before = tree.pages();
                let kept = tree.keep(adapter, &prompt[..end], &mut caches);
                prop_assert!(kept.pages <= prompt.len().div_ceil(PAGE) - whole);
                prop_assert!(tree.pages() <= before + kept.pages);
                // A second look finds all but the last token.
                if ends {
                    let mut again = self::caches();
                    tree.attach(adapter, &prompt, &mut again);
                    tree.attach_part(adapter, &prompt, &mut again);
                    prop_assert_eq!(again[0].len, prompt.len() - 1);
                } else {
                    // What is decoded after the prompt is the sequence's own.
                    compute(adapter, &[&prompt[..], &[77; 70]].concat(), &mut caches);
                    running.push((adapter, prompt, caches));
                }
                let (evictable, before) = (tree.evictable(), tree.pages());
                let evicted = tree.evict(evict);
                prop_assert_eq!(evicted, evict.min(evictable));
                prop_assert_eq!(tree.pages(), before - evicted);
                if running.len() > 3 {
                    running.remove(0);
                }
                for (adapter, prompt, caches) in &running {
                    prop_assert!(holds(*adapter, prompt, caches));
                }
            }
            drop(running);
            let all = tree.pages();
            prop_assert_eq!(tree.evict(usize::MAX), all);
            prop_assert_eq!(tree.pages(), 0);
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_shared_pages_stay() {
        let mut tree = Prefixes::new();
        let prompts: Vec<Vec<u32>> = (0..3).map(|i| vec![i; 2 * PAGE + 1]).collect();
        for prompt in &prompts {
            let mut caches = caches();
            compute(None, prompt, &mut caches);
            assert_eq!(tree.keep(None, &prompt[..2 * PAGE], &mut caches), Kept { pages: 2, tokens: 2 * PAGE });
        }
        let mut user = caches();
        assert_eq!(tree.attach(None, &prompts[0], &mut user), 2);
        drop(std::mem::replace(&mut user, caches()));
        assert_eq!(tree.attach(None, &prompts[1], &mut user), 2);
        // The third is the least recently used, its end before its beginning.
        assert_eq!((tree.evictable(), tree.evict(1)), (4, 1));
        let found = |tree: &mut Prefixes, i: usize| tree.attach(None, &prompts[i], &mut caches());
        assert_eq!(found(&mut tree, 2), 1);
        assert_eq!(tree.evict(usize::MAX), 3);
        assert_eq!([0, 1, 2].map(|i| found(&mut tree, i)), [0, 2, 0]);
    }
}
