//! What something was at earlier moments, so that a read can be stale.

use std::collections::VecDeque;

/// How far back a stale read can look, in milliseconds.
pub const MAX_STALENESS_MS: u64 = 60_000;

/// How many versions of one thing are kept, however fast it changes.
const MAX_VERSIONS: usize = 64;

/// A value and its earlier versions, each with the time since when it held.
#[derive(Clone, Debug)]
pub struct Versions<T> {
    newest: (u64, T),
    /// Oldest first.
    older: VecDeque<(u64, T)>,
    /// Whether versions were dropped: then the oldest one kept stands for all before it.
    dropped: bool,
}

impl<T> Versions<T> {
    pub fn new(at_ms: u64, value: T) -> Versions<T> {
        Versions { newest: (at_ms, value), older: VecDeque::new(), dropped: false }
    }

    pub fn push(&mut self, at_ms: u64, value: T) {
        let before = std::mem::replace(&mut self.newest, (at_ms, value));
        self.older.push_back(before);
        // The one that held when the horizon was passed is still needed.
        let horizon_ms = at_ms.saturating_sub(MAX_STALENESS_MS);
        while self.older.get(1).is_some_and(|(since, _)| *since <= horizon_ms) || self.older.len() > MAX_VERSIONS {
            self.older.pop_front();
            self.dropped = true;
        }
    }

    /// Forgets what was before, as if it had always been so.
    pub fn settle(&mut self) {
        self.newest.0 = 0;
        self.older.clear();
        self.dropped = false;
    }

    pub fn newest(&self) -> &T {
        &self.newest.1
    }

    /// What held at a moment, and whether that is still so. `None`: it did not exist yet.
    pub fn at(&self, at_ms: u64) -> Option<(&T, bool)> {
        if self.newest.0 <= at_ms {
            return Some((&self.newest.1, true));
        }
        let held = self.older.iter().rev().find(|(since, _)| *since <= at_ms);
        let oldest = if self.dropped { self.older.front() } else { None };
        held.or(oldest).map(|(_, value)| (value, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_held_at_each_moment() {
        let mut it = Versions::new(10, 'a');
        it.push(20, 'b');
        it.push(20, 'c');
        it.push(30, 'd');
        let at = |ms| it.at(ms).map(|(value, fresh)| (*value, fresh));
        assert_eq!(at(9), None);
        assert_eq!(at(19), Some(('a', false)));
        assert_eq!(at(20), Some(('c', false)));
        assert_eq!(at(30), Some(('d', true)));
        assert_eq!(*it.newest(), 'd');
    }

    #[test]
    fn keeps_the_horizon_and_no_more() {
        let mut it = Versions::new(0, 0);
        for ms in (5_000..=600_000).step_by(5_000) {
            it.push(ms, ms);
        }
        assert!(it.older.len() <= 14, "{}", it.older.len());
        assert_eq!(it.at(600_000 - MAX_STALENESS_MS), Some((&540_000, false)));
        assert_eq!(it.at(0), Some((&540_000, false)), "what was dropped is stood for by the oldest");
        for _ in 0..1_000 {
            it.push(600_001, 1);
        }
        assert!(it.older.len() <= MAX_VERSIONS);
    }
}
