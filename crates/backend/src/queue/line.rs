//! [`Line`]: who runs, who waits, and whose turn is next. No I/O, no clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The name of an API key. `None` for requests without a key.
pub(super) type Owner = Option<Arc<str>>;

/// The number of keys without requests whose tokens are remembered.
const REMEMBERED: usize = 4096;

/// A line before a backend. The next turn is that of the key that was served the fewest tokens.
#[derive(Debug)]
pub(super) struct Line {
    /// The most requests that run at once, and that wait.
    at_once: usize,
    places: usize,
    running: usize,
    waiting: usize,
    keys: HashMap<Owner, Key>,
}

/// The requests of a key.
#[derive(Debug, Default)]
struct Key {
    /// The tokens that it was served while other keys were served too.
    served: u64,
    running: usize,
    waiting: VecDeque<u64>,
}

/// The result for a request that enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    Runs,
    Waits,
    /// There is no place left.
    Full,
}

impl Line {
    pub(super) fn new(at_once: usize, places: usize) -> Self {
        Self {
            at_once,
            places,
            running: 0,
            waiting: 0,
            keys: HashMap::new(),
        }
    }

    /// Lets a request with this number enter. `cost` is the number of tokens of its prompt.
    pub(super) fn enter(&mut self, owner: &Owner, number: u64, cost: u64) -> Entered {
        let runs = self.running < self.at_once;
        if !runs && self.waiting >= self.places {
            return Entered::Full;
        }
        // A key that comes back does not catch up on the tokens that others were served meanwhile.
        let busy = self.keys.values().filter(|key| key.is_busy());
        let fewest = busy.map(|key| key.served).min().unwrap_or(0);
        let key = self.keys.entry(owner.clone()).or_default();
        if !key.is_busy() {
            key.served = key.served.max(fewest);
        }
        if runs {
            self.running += 1;
            key.running += 1;
            key.served += cost;
            Entered::Runs
        } else {
            self.waiting += 1;
            key.waiting.push_back(number);
            Entered::Waits
        }
    }

    /// A request that waits leaves.
    pub(super) fn leave(&mut self, owner: &Owner, number: u64) {
        if let Some(key) = self.keys.get_mut(owner)
            && let Some(at) = key.waiting.iter().position(|&other| other == number)
        {
            key.waiting.remove(at);
            self.waiting -= 1;
        }
    }

    /// A request that ran has ended, after more tokens than its prompt has.
    pub(super) fn end(&mut self, owner: &Owner, more: u64) {
        self.running = self.running.saturating_sub(1);
        if let Some(key) = self.keys.get_mut(owner) {
            key.running = key.running.saturating_sub(1);
            key.served += more;
        }
        if self.keys.len() > REMEMBERED {
            self.keys.retain(|_, key| key.is_busy());
        }
    }

    /// Lets the next request run, if there is room. Its cost is added by [`charge`](Self::charge).
    pub(super) fn next(&mut self) -> Option<(Owner, u64)> {
        if self.running >= self.at_once {
            return None;
        }
        let waiting = self
            .keys
            .iter_mut()
            .filter(|(_, key)| !key.waiting.is_empty());
        let (owner, key) =
            waiting.min_by_key(|(_, key)| (key.served, key.waiting.front().copied()))?;
        let number = key.waiting.pop_front()?;
        key.running += 1;
        self.running += 1;
        self.waiting -= 1;
        Some((owner.clone(), number))
    }

    /// Adds the tokens of the prompt of a request that runs now.
    pub(super) fn charge(&mut self, owner: &Owner, cost: u64) {
        if let Some(key) = self.keys.get_mut(owner) {
            key.served += cost;
        }
    }
}

impl Key {
    fn is_busy(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(name: &str) -> Owner {
        (name != "nobody").then(|| name.into())
    }

    #[test]
    fn a_greedy_key_waits_for_those_who_were_served_less() {
        let mut line = Line::new(1, 100);
        let (greedy, modest) = (owner("greedy"), owner("modest"));
        assert_eq!(line.enter(&greedy, 0, 10), Entered::Runs);
        for number in 1..50 {
            assert_eq!(line.enter(&greedy, number, 10), Entered::Waits);
        }
        assert_eq!(line.enter(&modest, 50, 10), Entered::Waits);
        line.end(&greedy, 100);
        assert_eq!(line.next(), Some((modest.clone(), 50)));
        assert_eq!(line.next(), None, "one runs at once");
        line.end(&modest, 10);
        assert_eq!(line.next(), Some((greedy, 1)));
    }

    #[test]
    fn a_key_that_comes_back_does_not_take_all_turns() {
        let mut line = Line::new(1, 100);
        let (old, new) = (owner("old"), owner("new"));
        line.enter(&old, 0, 1);
        line.end(&old, 1_000_000);
        line.enter(&old, 1, 1);
        for number in 2..5 {
            line.enter(&old, number, 1);
            line.enter(&new, number + 10, 1);
        }
        let mut turns = Vec::new();
        line.end(&old, 10);
        while let Some((owner, _)) = line.next() {
            line.charge(&owner, 1);
            turns.push(owner == new);
            line.end(&owner, 20);
        }
        assert_eq!(turns, [true, false, true, false, true, false]);
    }

    #[test]
    fn a_full_line_takes_nobody() {
        let mut line = Line::new(1, 1);
        let key = owner("k");
        assert_eq!(line.enter(&key, 0, 1), Entered::Runs);
        assert_eq!(line.enter(&key, 1, 1), Entered::Waits);
        assert_eq!(line.enter(&key, 2, 1), Entered::Full);
        line.leave(&key, 1);
        assert_eq!(line.enter(&key, 3, 1), Entered::Waits);
    }

    proptest! {
        /// Whatever happens, no more run and wait than may, and none waits while there is room.
        #[test]
        fn bounds_hold(steps in prop::collection::vec((0_u8..4, 0_u8..4), 0..200)) {
            let mut line = Line::new(3, 5);
            let (mut running, mut waiting): (Vec<Owner>, Vec<(Owner, u64)>) = Default::default();
            for (number, (step, key)) in (0_u64..).zip(steps) {
                let key = owner(&key.to_string());
                match step {
                    0 | 1 => match line.enter(&key, number, 5) {
                        Entered::Runs => running.push(key),
                        Entered::Waits => waiting.push((key, number)),
                        Entered::Full => prop_assert_eq!(waiting.len(), 5),
                    },
                    2 => if let Some((key, number)) = waiting.pop() { line.leave(&key, number); },
                    _ => if let Some(key) = running.pop() { line.end(&key, 7); },
                }
                while let Some(next) = line.next() {
                    let at = waiting.iter().position(|one| *one == next);
                    prop_assert!(at.is_some());
                    waiting.remove(at.unwrap_or_default());
                    running.push(next.0);
                }
                prop_assert_eq!((line.running, line.waiting), (running.len(), waiting.len()));
                prop_assert!(running.len() <= 3 && waiting.len() <= 5);
                prop_assert!(waiting.is_empty() || running.len() == 3);
            }
        }
    }
}
