//! [`Line`]: who runs, who waits, and whose turn is next. No I/O, no clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::Priority;

/// The name of an API key. `None` for requests without a key.
pub(super) type Owner = Option<Arc<str>>;

/// The number of keys without requests whose tokens are remembered.
const REMEMBERED: usize = 4096;

/// A line before a backend. The next turn is that of a request of the highest priority, and of
/// those, one of the key that was served the fewest tokens.
#[derive(Debug)]
pub(super) struct Line {
    /// The maximum number of requests that run at the same time.
    at_once: usize,
    /// The maximum number of requests that wait.
    places: usize,
    running: usize,
    waiting: usize,
    keys: HashMap<Owner, Key>,
}

/// A request that enters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entrant {
    pub(super) owner: Owner,
    pub(super) priority: Priority,
    /// A number that grows with each request.
    pub(super) number: u64,
}

/// The requests of a key.
#[derive(Debug, Default)]
struct Key {
    /// The tokens that this key was served while other keys were served too.
    served: u64,
    running: usize,
    /// The numbers of the waiting requests, by their priority.
    waiting: [VecDeque<u64>; Priority::COUNT],
}

/// The result for a request that enters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    Runs,
    Waits,
    /// The request waits, and this other request of a lower priority is refused instead.
    WaitsInsteadOf(u64),
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

    /// Changes how many requests run at once and wait. Those that run or wait already stay.
    pub(super) fn resize(&mut self, at_once: usize, places: usize) {
        self.at_once = at_once;
        self.places = places;
    }

    /// Lets a request enter. `cost` is the number of tokens of its prompt.
    pub(super) fn enter(&mut self, entrant: &Entrant, cost: u64) -> Entered {
        let runs = self.running < self.at_once;
        let mut entered = if runs { Entered::Runs } else { Entered::Waits };
        if !runs && self.waiting >= self.places {
            let Some(number) = self.turn_out_below(entrant.priority) else {
                return Entered::Full;
            };
            entered = Entered::WaitsInsteadOf(number);
        }
        // A key that comes back does not catch up on the tokens that others were served in the
        // meantime.
        let busy = self.keys.values().filter(|key| key.is_busy());
        let fewest = busy.map(|key| key.served).min().unwrap_or(0);
        let key = self.keys.entry(entrant.owner.clone()).or_default();
        if !key.is_busy() {
            key.served = key.served.max(fewest);
        }
        if runs {
            self.running += 1;
            key.running += 1;
            key.served += cost;
        } else {
            self.waiting += 1;
            key.waiting[entrant.priority as usize].push_back(entrant.number);
        }
        entered
    }

    /// Removes a waiting request to make room for one of this priority: the last request among
    /// those of the lowest priority below it. Returns its number.
    fn turn_out_below(&mut self, priority: Priority) -> Option<u64> {
        let below = Priority::ALL.into_iter().rev();
        for lower in below.take_while(|lower| *lower < priority) {
            let lines = self
                .keys
                .values_mut()
                .map(|key| &mut key.waiting[lower as usize]);
            if let Some(line) = lines.max_by_key(|line| line.back().copied())
                && let Some(number) = line.pop_back()
            {
                self.waiting -= 1;
                return Some(number);
            }
        }
        None
    }

    /// Removes a waiting request.
    pub(super) fn leave(&mut self, entrant: &Entrant) {
        if let Some(key) = self.keys.get_mut(&entrant.owner)
            && let line = &mut key.waiting[entrant.priority as usize]
            && let Some(at) = line.iter().position(|&other| other == entrant.number)
        {
            line.remove(at);
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
        if self.running >= self.at_once || self.waiting == 0 {
            return None;
        }
        Priority::ALL
            .into_iter()
            .find_map(|priority| self.next_of(priority))
    }

    fn next_of(&mut self, priority: Priority) -> Option<(Owner, u64)> {
        let (owner, key) = self
            .keys
            .iter_mut()
            .filter(|(_, key)| !key.waiting[priority as usize].is_empty())
            .min_by_key(|(_, key)| (key.served, key.waiting[priority as usize].front().copied()))?;
        let number = key.waiting[priority as usize].pop_front()?;
        key.running += 1;
        self.running += 1;
        self.waiting -= 1;
        Some((owner.clone(), number))
    }

    /// Returns how many requests run, and how many wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.running, self.waiting)
    }

    /// Adds the tokens of the prompt of a request that runs now.
    pub(super) fn charge(&mut self, owner: &Owner, cost: u64) {
        if let Some(key) = self.keys.get_mut(owner) {
            key.served += cost;
        }
    }

    /// Returns the place of a request that waits: 1 has the next turn. An estimate, as if all
    /// requests were equally long and no other came.
    pub(super) fn place(&self, entrant: &Entrant) -> Option<usize> {
        let at = entrant.priority as usize;
        let own = self.keys.get(&entrant.owner)?;
        let before = own.waiting[at]
            .iter()
            .position(|&other| other == entrant.number)?;
        let others = self.keys.iter().map(|(owner, key)| {
            let above: usize = key.waiting[at + 1..].iter().map(VecDeque::len).sum();
            let turns = if *owner == entrant.owner {
                before
            } else {
                // Until then, the other key has as many turns, and one more if its turn is first.
                let first = |key: &Key| (key.served, key.waiting[at].front().copied());
                let more = usize::from(first(key) < first(own));
                key.waiting[at].len().min(before + more)
            };
            above + turns
        });
        Some(1 + others.sum::<usize>())
    }
}

impl Key {
    fn is_busy(&self) -> bool {
        self.running > 0 || self.waiting.iter().any(|line| !line.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(name: &str) -> Owner {
        (name != "nobody").then(|| name.into())
    }

    fn of(priority: Priority, owner: &Owner, number: u64) -> Entrant {
        Entrant {
            owner: owner.clone(),
            priority,
            number,
        }
    }

    fn usual(owner: &Owner, number: u64) -> Entrant {
        of(Priority::Default, owner, number)
    }

    #[test]
    fn a_greedy_key_waits_for_those_who_were_served_less() {
        let mut line = Line::new(1, 100);
        let (greedy, modest) = (owner("greedy"), owner("modest"));
        assert_eq!(line.enter(&usual(&greedy, 0), 10), Entered::Runs);
        for number in 1..50 {
            assert_eq!(line.enter(&usual(&greedy, number), 10), Entered::Waits);
        }
        assert_eq!(line.enter(&usual(&modest, 50), 10), Entered::Waits);
        line.end(&greedy, 100);
        assert_eq!(line.place(&usual(&modest, 50)), Some(1));
        assert_eq!(line.place(&usual(&greedy, 1)), Some(2));
        assert_eq!(line.place(&usual(&greedy, 49)), Some(50));
        assert_eq!(line.next(), Some((modest.clone(), 50)));
        assert_eq!(line.next(), None, "one runs at once");
        line.end(&modest, 10);
        assert_eq!(line.next(), Some((greedy.clone(), 1)));
        assert_eq!(line.place(&usual(&greedy, 1)), None, "it runs");
    }

    #[test]
    fn a_key_that_comes_back_does_not_take_all_turns() {
        let mut line = Line::new(1, 100);
        let (old, new) = (owner("old"), owner("new"));
        line.enter(&usual(&old, 0), 1);
        line.end(&old, 1_000_000);
        line.enter(&usual(&old, 1), 1);
        for number in 2..5 {
            line.enter(&usual(&old, number), 1);
            line.enter(&usual(&new, number + 10), 1);
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
        assert_eq!(line.enter(&usual(&key, 0), 1), Entered::Runs);
        assert_eq!(line.enter(&usual(&key, 1), 1), Entered::Waits);
        assert_eq!(line.enter(&usual(&key, 2), 1), Entered::Full);
        line.leave(&usual(&key, 1));
        assert_eq!(line.enter(&usual(&key, 3), 1), Entered::Waits);
    }

    #[test]
    fn a_higher_priority_is_first_whatever_its_key_was_served() {
        use Priority::{Background, Default, Flex, High};
        let mut line = Line::new(1, 100);
        let (one, other) = (owner("one"), owner("other"));
        line.enter(&usual(&one, 0), 1000);
        let entrants = [(Background, 1), (Flex, 2), (Default, 3), (High, 4)];
        for (priority, number) in entrants {
            line.enter(&of(priority, &one, number), 1);
            line.enter(&of(priority, &other, number + 10), 1);
        }
        line.end(&one, 5);
        let places = entrants.map(|(priority, number)| line.place(&of(priority, &one, number)));
        assert_eq!(places, [Some(8), Some(6), Some(4), Some(2)]);
        let mut turns = Vec::new();
        while let Some((owner, number)) = line.next() {
            turns.push(number);
            line.end(&owner, 1);
        }
        assert_eq!(turns, [14, 4, 13, 3, 12, 2, 11, 1]);
    }

    #[test]
    fn in_a_full_line_the_last_of_the_lowest_priority_makes_room() {
        use Priority::{Background, Default, Flex, High};
        let mut line = Line::new(1, 3);
        let key = owner("k");
        line.enter(&usual(&key, 0), 1);
        line.enter(&of(Flex, &key, 1), 1);
        line.enter(&of(Background, &key, 2), 1);
        line.enter(&of(Background, &owner("other"), 3), 1);
        let mut enter = |priority, number| line.enter(&of(priority, &key, number), 1);
        assert_eq!(enter(Background, 4), Entered::Full);
        assert_eq!(enter(Default, 5), Entered::WaitsInsteadOf(3));
        assert_eq!(enter(Flex, 6), Entered::WaitsInsteadOf(2));
        assert_eq!(enter(Flex, 7), Entered::Full);
        assert_eq!(enter(High, 8), Entered::WaitsInsteadOf(6));
        assert_eq!(enter(High, 9), Entered::WaitsInsteadOf(1));
        assert_eq!(enter(High, 10), Entered::WaitsInsteadOf(5));
        assert_eq!(enter(High, 11), Entered::Full);
    }

    proptest! {
        /// In any sequence of events: no more requests run and wait than allowed, none waits while
        /// there is room, and the next one to run has the first place.
        #[test]
        fn bounds_hold(steps in prop::collection::vec((0_u8..4, 0_u8..4, 0_usize..4), 0..200)) {
            let mut line = Line::new(3, 5);
            let (mut running, mut waiting): (Vec<Owner>, Vec<Entrant>) = Default::default();
            for (number, (step, key, priority)) in (0_u64..).zip(steps) {
                let key = owner(&key.to_string());
                let entrant = of(Priority::ALL[priority], &key, number);
                match step {
                    0 | 1 => match line.enter(&entrant, 5) {
                        Entered::Runs => running.push(key),
                        Entered::Waits => waiting.push(entrant),
                        Entered::WaitsInsteadOf(other) => {
                            let lowest = waiting.iter().map(|one| one.priority).min();
                            waiting.retain(|one| one.number != other || Some(one.priority) != lowest);
                            waiting.push(entrant);
                        }
                        Entered::Full => {
                            prop_assert_eq!(waiting.len(), 5);
                            prop_assert!(waiting.iter().all(|one| one.priority >= entrant.priority));
                        }
                    },
                    2 => if let Some(entrant) = waiting.pop() { line.leave(&entrant); },
                    _ => if let Some(key) = running.pop() { line.end(&key, 7); },
                }
                let mut places: Vec<_> = waiting.iter().map(|one| line.place(one)).collect();
                while let Some((owner, number)) = line.next() {
                    let at = waiting.iter().position(|one| one.owner == owner && one.number == number);
                    prop_assert!(at.is_some());
                    let at = at.unwrap_or_default();
                    let first = places.iter().min().copied().flatten();
                    prop_assert_eq!((places[at], first), (Some(1), Some(1)));
                    let ran = waiting.remove(at);
                    prop_assert!(waiting.iter().all(|one| one.priority <= ran.priority));
                    running.push(owner);
                    places = waiting.iter().map(|one| line.place(one)).collect();
                }
                prop_assert!(places.iter().all(|place| place.is_some_and(|place| place <= waiting.len())));
                prop_assert_eq!((line.running, line.waiting), (running.len(), waiting.len()));
                prop_assert!(running.len() <= 3 && waiting.len() <= 5);
                prop_assert!(waiting.is_empty() || running.len() == 3);
            }
        }
    }
}
