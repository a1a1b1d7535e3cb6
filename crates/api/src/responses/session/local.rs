//! [`Local`]: the responses of one session that are not stored, so that the session can continue
//! them. They are in memory only, and end with the session.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::Item;

/// The maximum number of responses of a session that can be continued.
const MOST_RESPONSES: usize = 256;

/// The maximum number of bytes of the unstored responses of all sessions together.
const MOST_BYTES_OF_ALL: usize = 256 << 20;

/// The bytes of the unstored responses of all sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget(Arc<AtomicUsize>);

/// The responses of one session that are not stored.
#[derive(Debug)]
pub(crate) struct Local {
    budget: Budget,
    most_bytes: usize,
    used: Arc<AtomicUsize>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    turns: HashMap<String, Entry>,
    /// The ids, oldest first.
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Entry {
    turn: Arc<Turn>,
    lane: Option<Arc<str>>,
}

/// One response: the one that it continues, and its own items.
#[derive(Debug)]
struct Turn {
    previous: Previous,
    items: Vec<Item>,
    bytes: usize,
    budget: Budget,
    used: Arc<AtomicUsize>,
}

/// The response that another one continues.
#[derive(Clone, Debug)]
pub(crate) struct Previous(Before);

#[derive(Clone, Debug)]
enum Before {
    Nothing,
    Stored(String),
    Local(Arc<Turn>),
}

/// The items before a response that continues an unstored one.
pub(crate) struct Found {
    /// The stored response that the first unstored one continues.
    pub(crate) stored: Option<String>,
    pub(crate) items: Vec<Item>,
}

impl Local {
    /// Creates the memory of a session, with room for `most_bytes`.
    pub(crate) fn new(budget: Budget, most_bytes: usize) -> Self {
        Self {
            budget,
            most_bytes,
            used: Arc::default(),
            kept: Mutex::default(),
        }
    }

    /// Returns the response with this id as the predecessor of another one.
    pub(crate) fn previous(&self, id: Option<&str>) -> Previous {
        let Some(id) = id else {
            return Previous(Before::Nothing);
        };
        Previous(match self.lock().turns.get(id) {
            Some(kept) => Before::Local(Arc::clone(&kept.turn)),
            None => Before::Stored(id.to_owned()),
        })
    }

    /// Whether this response is kept here.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.lock().turns.contains_key(id)
    }

    /// Returns the items of this response and of those that it continues.
    pub(crate) fn find(&self, id: &str) -> Option<Found> {
        let mut turn = Arc::clone(&self.lock().turns.get(id)?.turn);
        let mut turns = Vec::new();
        let stored = loop {
            turns.push(Arc::clone(&turn));
            turn = match &turn.previous.0 {
                Before::Nothing => break None,
                Before::Stored(id) => break Some(id.clone()),
                Before::Local(before) => Arc::clone(before),
            };
        };
        let items = turns.iter().rev().flat_map(|turn| &turn.items).cloned();
        Some(Found {
            stored,
            items: items.collect(),
        })
    }

    /// Keeps a response. The oldest ones are removed to make room.
    pub(crate) fn keep(
        &self,
        id: String,
        lane: Option<Arc<str>>,
        previous: Previous,
        items: Vec<Item>,
    ) {
        let bytes = items
            .iter()
            .map(|item| item.body.len() + item.id.len() + size_of::<Item>())
            .sum();
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.0.fetch_add(bytes, Ordering::Relaxed);
        let turn = Arc::new(Turn {
            previous,
            items,
            bytes,
            budget: self.budget.clone(),
            used: Arc::clone(&self.used),
        });
        let mut kept = self.lock();
        kept.order.push_back(id.clone());
        kept.turns.insert(id, Entry { turn, lane });
        while kept.order.len() > MOST_RESPONSES || self.is_full() {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            kept.turns.remove(&oldest);
        }
    }

    /// Forgets a response that a response of the same lane failed to continue.
    pub(crate) fn evict(&self, id: &str, lane: Option<&Arc<str>>) {
        let mut kept = self.lock();
        if kept
            .turns
            .get(id)
            .is_some_and(|kept| kept.lane.as_ref() == lane)
        {
            kept.turns.remove(id);
            kept.order.retain(|other| other != id);
        }
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.most_bytes
            || self.budget.0.load(Ordering::Relaxed) > MOST_BYTES_OF_ALL
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
        // One by one: a long chain would drop itself recursively.
        let mut before = std::mem::replace(&mut self.previous.0, Before::Nothing);
        while let Before::Local(turn) = before {
            let Some(mut turn) = Arc::into_inner(turn) else {
                return;
            };
            before = std::mem::replace(&mut turn.previous.0, Before::Nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Side;

    fn item(id: &str, length: usize) -> Item {
        Item {
            id: id.to_owned(),
            body: "x".repeat(length),
            side: Side::Input,
        }
    }

    fn keep(local: &Local, id: &str, previous: Option<&str>, length: usize) {
        let previous = local.previous(previous);
        local.keep(id.to_owned(), None, previous, vec![item(id, length)]);
    }

    fn ids(local: &Local, id: &str) -> Option<Vec<String>> {
        let found = local.find(id)?;
        Some(found.items.into_iter().map(|item| item.id).collect())
    }

    #[test]
    fn a_response_has_the_items_of_those_before_it_oldest_first() {
        let local = Local::new(Budget::default(), 1 << 20);
        keep(&local, "a", None, 1);
        keep(&local, "b", Some("a"), 1);
        keep(&local, "c", Some("a"), 1);
        assert_eq!(ids(&local, "b"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(ids(&local, "c"), Some(vec!["a".into(), "c".into()]));
        assert_eq!(ids(&local, "d"), None);
        keep(&local, "d", Some("elsewhere"), 1);
        let found = local.find("d").expect("it is kept");
        assert_eq!(found.stored.as_deref(), Some("elsewhere"));
    }

    #[test]
    fn the_oldest_responses_make_room_and_those_that_continue_them_stay_whole() {
        let local = Local::new(Budget::default(), 3000);
        keep(&local, "a", None, 1000);
        keep(&local, "b", Some("a"), 1000);
        keep(&local, "c", None, 500);
        assert!(local.has("a") && ids(&local, "b").is_some_and(|ids| ids.len() == 2));
        keep(&local, "d", None, 1000);
        assert!(!local.has("a") && !local.has("b") && local.has("c") && local.has("d"));
        keep(&local, "e", None, 4000);
        assert!(["c", "d", "e"].iter().all(|id| !local.has(id)));
        assert_eq!(local.used.load(Ordering::Relaxed), 0);
        assert_eq!(local.budget.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_a_failure_in_the_same_lane_evicts() {
        let local = Local::new(Budget::default(), 1 << 20);
        let lane: Option<Arc<str>> = Some("a".into());
        let nothing = local.previous(None);
        local.keep("x".to_owned(), lane.clone(), nothing, Vec::new());
        local.evict("x", None);
        assert!(local.has("x"));
        local.evict("x", lane.as_ref());
        assert!(!local.has("x"));
    }

    #[test]
    fn a_long_chain_is_dropped_without_recursion() {
        let local = Local::new(Budget::default(), usize::MAX);
        keep(&local, "0", None, 1);
        for number in 1..200_000 {
            let before = (number - 1).to_string();
            keep(&local, &number.to_string(), Some(&before), 1);
        }
        let used = Arc::clone(&local.used);
        assert!(used.load(Ordering::Relaxed) >= 200_000);
        drop(local);
        assert_eq!(used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_sessions_share_a_budget() {
        let budget = Budget::default();
        let one = Local::new(budget.clone(), usize::MAX);
        let two = Local::new(budget.clone(), usize::MAX);
        keep(&one, "a", None, 100);
        keep(&two, "b", None, MOST_BYTES_OF_ALL);
        assert!(one.has("a") && !two.has("b"));
        drop((one, two));
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
