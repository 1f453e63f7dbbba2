//! Room for what a product lays out anew each time: on lines of a cache, kept for the next.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use super::panels::Line;
use super::tile::COLUMNS;

/// Rooms that are kept: two products that overlap need two each.
const KEPT: usize = 4;
/// Lines of a room beyond which it is not kept: 64 MiB.
const MOST: usize = 1 << 20;

/// Rooms that wait to be used again.
#[derive(Default)]
pub(crate) struct Scratch(Mutex<Vec<Vec<Line>>>);

impl Scratch {
    /// So many lines of any content: whoever takes them writes what is read.
    pub(crate) fn lines(&self, count: usize) -> Room<'_> {
        let mut lines = if count > 0 { self.with(|rooms| take(rooms, count)) } else { Vec::new() };
        if lines.len() < count {
            // Nothing to copy to where there is more room.
            lines.clear();
            lines.resize(count, Line([0.0; COLUMNS]));
        }
        // What is read before it was written shows in tests.
        #[cfg(any(test, debug_assertions))]
        lines[..count].fill(Line([f32::NAN; COLUMNS]));
        Room { home: self, lines, count }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Vec<Vec<Line>>) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The smallest that is large enough, or else the largest.
fn take(rooms: &mut Vec<Vec<Line>>, count: usize) -> Vec<Line> {
    let order = |lines: &Vec<Line>| (lines.len() < count, lines.len().abs_diff(count));
    let best = (0..rooms.len()).min_by_key(|index| order(&rooms[*index]));
    best.map_or_else(Vec::new, |index| rooms.swap_remove(index))
}

/// Lines that go back to where they came from.
pub(crate) struct Room<'a> {
    home: &'a Scratch,
    lines: Vec<Line>,
    count: usize,
}

impl Deref for Room<'_> {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        &self.lines[..self.count]
    }
}

impl DerefMut for Room<'_> {
    fn deref_mut(&mut self) -> &mut [Line] {
        &mut self.lines[..self.count]
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() || lines.len() > MOST {
            return;
        }
        self.home.with(|rooms| {
            if rooms.len() == KEPT {
                let smallest = (0..KEPT).min_by_key(|index| rooms[*index].len());
                smallest.into_iter().for_each(|index| drop(rooms.swap_remove(index)));
            }
            rooms.push(lines);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_used_again_and_few_are_kept() {
        let scratch = Scratch::default();
        let at = |count: usize| scratch.lines(count).as_ptr();
        let (large, small) = (scratch.lines(100), scratch.lines(10));
        let (large_at, small_at) = (large.as_ptr(), small.as_ptr());
        assert_eq!((large.len(), small.len()), (100, 10));
        drop((large, small));
        assert_eq!((at(7), at(10), at(11), at(100)), (small_at, small_at, large_at, large_at));
        // Too small: the largest grows.
        assert_eq!(scratch.lines(200).len(), 200);
        assert_eq!((at(10), at(0) == small_at), (small_at, false));
        drop((0..10).map(|i| scratch.lines(20 + i)).collect::<Vec<_>>());
        let kept = |scratch: &Scratch| scratch.with(|rooms| rooms.iter().map(Vec::len).collect::<Vec<_>>());
        assert!(kept(&scratch).len() == KEPT && kept(&scratch).contains(&200));
        drop(scratch.lines(MOST + 1));
        assert!(kept(&scratch).iter().all(|lines| *lines <= MOST));
    }
}
