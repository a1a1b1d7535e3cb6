//! A bounded number of snapshots in memory. The least recently used ones are evicted for new ones,
//! unless that would always evict the snapshot that is needed next. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Snapshot;
use crate::Token;
use crate::engine::generation::Scope;

/// The snapshots.
pub(in crate::engine) struct Pool {
    entries: Vec<Entry>,
    bytes: usize,
    /// The maximum number of bytes.
    most: usize,
    /// Counts the uses of snapshots, to order them in time.
    clock: u64,
    /// The tokens of evicted snapshots, the latest last.
    evicted: VecDeque<(Scope, Vec<Token>)>,
    /// The number of recent conversations that went on after their snapshot had been removed, minus
    /// those that found their snapshot. It is between 0 and [`MOST_REGRETS`].
    regrets: u32,
    /// Counts the evicted snapshots.
    evictions: u64,
}

/// The number of regrets from which on more conversations go on in turn than fit in the pool. The
/// least recently used one is then the one that goes on next.
const MANY_REGRETS: u32 = 4;
const MOST_REGRETS: u32 = 8;

/// With many regrets, the latest snapshot is evicted; only every fourth time it is the least
/// recently used one, so that conversations that have ended do not stay forever.
const OLDEST_EVERY: u64 = 4;

/// The maximum number of remembered tokens of evicted snapshots.
const MOST_EVICTED_TOKENS: usize = 1 << 20;

struct Entry {
    snapshot: Arc<Snapshot>,
    importance: Importance,
    last_used: u64,
}

/// How early a snapshot is removed to make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) enum Importance {
    /// The end of a conversation that went on differently in its slot: an edited question, or
    /// reasoning that the next turn leaves out. It is removed first.
    Branch,
    Conversation,
}

/// A snapshot that has the beginning of a prompt.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Found {
    pub(in crate::engine) snapshot: Arc<Snapshot>,
    /// The number of the snapshot's tokens that the prompt can use.
    pub(in crate::engine) usable: usize,
}

impl Pool {
    /// Creates an empty pool for at most this number of bytes.
    pub(in crate::engine) fn new(most: usize) -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
            most,
            clock: 0,
            evicted: VecDeque::new(),
            regrets: 0,
            evictions: 0,
        }
    }

    /// The maximum number of bytes.
    pub(in crate::engine) fn most(&self) -> usize {
        self.most
    }

    /// Finds the snapshot of this scope with the longest usable beginning. `usable` returns how
    /// many of a snapshot's tokens the prompt can use.
    pub(in crate::engine) fn find(
        &self,
        scope: &Scope,
        usable: impl Fn(&[Token]) -> usize,
    ) -> Option<Found> {
        let of_scope = self
            .entries
            .iter()
            .map(|entry| &entry.snapshot)
            .filter(|snapshot| snapshot.scope == *scope);
        let with_beginning = of_scope.map(|snapshot| (usable(&snapshot.tokens), snapshot));
        let (usable, snapshot) = with_beginning
            .filter(|&(usable, snapshot)| usable > 0 && usable >= snapshot.cut_from)
            // Of those with the same beginning, the shortest is the fastest to restore.
            .max_by_key(|&(usable, snapshot)| (usable, usize::MAX - snapshot.tokens.len()))?;
        Some(Found {
            snapshot: Arc::clone(snapshot),
            usable,
        })
    }

    /// Records that a request found no snapshot. `usable` returns how many tokens of a snapshot the
    /// prompt could have used; `rest` is the number of tokens that it may lack.
    pub(in crate::engine) fn missed(
        &mut self,
        scope: &Scope,
        rest: usize,
        usable: impl Fn(&[Token]) -> usize,
    ) {
        let goes_on = |(of, tokens): &(Scope, Vec<Token>)| {
            of == scope && usable(tokens) + rest >= tokens.len()
        };
        if let Some(at) = self.evicted.iter().rposition(goes_on) {
            self.evicted.remove(at);
            self.regrets = (self.regrets + 1).min(MOST_REGRETS);
        }
    }

    /// Records that a snapshot is restored. If a slot will have all of it, except for `rest` tokens
    /// or less, it is removed: the slot's content is kept again when the slot is taken.
    pub(in crate::engine) fn restored(&mut self, found: &Found, rest: usize) {
        let Some(at) = self.position(&found.snapshot) else {
            return;
        };
        if found.usable + rest >= found.snapshot.tokens.len() {
            self.regrets = self.regrets.saturating_sub(1);
            self.remove(at);
        } else {
            self.touch(at);
        }
    }

    /// Removes a snapshot that cannot be restored.
    pub(in crate::engine) fn forget(&mut self, snapshot: &Arc<Snapshot>) {
        if let Some(at) = self.position(snapshot) {
            self.remove(at);
        }
    }

    /// Whether a sequence with these tokens can be restored as a whole. If so, that counts as a
    /// use.
    pub(in crate::engine) fn holds(&mut self, tokens: &[Token], scope: &Scope) -> bool {
        let holds = |entry: &Entry| {
            let snapshot = &entry.snapshot;
            snapshot.scope == *scope
                && snapshot.cut_from <= tokens.len()
                && snapshot.tokens.starts_with(tokens)
        };
        let at = self.entries.iter().position(holds);
        at.inspect(|&at| self.touch(at)).is_some()
    }

    /// Adds a snapshot. Removes those that are part of it, and then others until there is room.
    /// Returns `false` if it is larger than the pool.
    pub(in crate::engine) fn insert(
        &mut self,
        snapshot: Arc<Snapshot>,
        importance: Importance,
    ) -> bool {
        if snapshot.bytes() > self.most {
            return false;
        }
        self.entries.retain(|entry| {
            let stays = !entry.snapshot.is_part_of(&snapshot);
            if !stays {
                self.bytes -= entry.snapshot.bytes();
            }
            stays
        });
        while self.bytes + snapshot.bytes() > self.most {
            let Some(at) = self.next_to_make_room() else {
                break;
            };
            self.evict(at);
        }
        self.clock += 1;
        self.bytes += snapshot.bytes();
        self.entries.push(Entry {
            snapshot,
            importance,
            last_used: self.clock,
        });
        true
    }

    fn next_to_make_room(&self) -> Option<usize> {
        let takes_latest =
            self.regrets >= MANY_REGRETS && !self.evictions.is_multiple_of(OLDEST_EVERY);
        let order = |entry: &Entry| {
            let age = if takes_latest {
                u64::MAX - entry.last_used
            } else {
                entry.last_used
            };
            (entry.importance, age)
        };
        let entries = self.entries.iter().enumerate();
        entries
            .min_by_key(|(_, entry)| order(entry))
            .map(|(at, _)| at)
    }

    fn evict(&mut self, at: usize) {
        self.evictions += 1;
        let Snapshot { scope, tokens, .. } = &*self.entries[at].snapshot;
        self.evicted.push_back((scope.clone(), tokens.clone()));
        self.remove(at);
        let count = |evicted: &VecDeque<(Scope, Vec<Token>)>| -> usize {
            evicted.iter().map(|(_, tokens)| tokens.len()).sum()
        };
        while count(&self.evicted) > MOST_EVICTED_TOKENS {
            self.evicted.pop_front();
        }
    }

    fn position(&self, snapshot: &Arc<Snapshot>) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| Arc::ptr_eq(&entry.snapshot, snapshot))
    }

    fn touch(&mut self, at: usize) {
        self.clock += 1;
        self.entries[at].last_used = self.clock;
        self.entries[at].importance = Importance::Conversation;
    }

    fn remove(&mut self, at: usize) {
        let entry = self.entries.swap_remove(at);
        self.bytes -= entry.snapshot.bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::slots::common_prefix;
    use super::*;

    /// A snapshot of these tokens with a state of 96 bytes.
    fn snapshot(tokens: &[Token]) -> Snapshot {
        Snapshot {
            tokens: tokens.to_vec(),
            scope: None,
            cut_from: 0,
            state: vec![0; 100 - 4].into(),
        }
    }

    fn of(tokens: &[Token]) -> Arc<Snapshot> {
        Arc::new(snapshot(tokens))
    }

    fn pool(most: usize, all: &[&[Token]]) -> Pool {
        let mut pool = Pool::new(most);
        for tokens in all {
            pool.insert(of(tokens), Importance::Conversation);
        }
        pool
    }

    /// The tokens of the snapshot for this prompt, and how many are usable.
    fn found(pool: &Pool, prompt: &[Token]) -> Option<(Vec<Token>, usize)> {
        let found = pool.find(&None, |tokens| common_prefix(tokens, prompt))?;
        Some((found.snapshot.tokens.clone(), found.usable))
    }

    fn all(pool: &Pool) -> Vec<Vec<Token>> {
        let mut all: Vec<_> = pool
            .entries
            .iter()
            .map(|entry| entry.snapshot.tokens.clone())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn the_longest_beginning_is_found_and_of_the_same_the_shortest() {
        let pool = pool(1000, &[&[1, 2, 9, 9], &[1, 2, 3, 4], &[1, 2, 8], &[7]]);
        assert_eq!(found(&pool, &[1, 2, 3, 5]), Some((vec![1, 2, 3, 4], 3)));
        assert_eq!(found(&pool, &[1, 2, 5]), Some((vec![1, 2, 8], 2)));
        assert_eq!(found(&pool, &[5]), None);
    }

    #[test]
    fn what_is_the_beginning_of_another_is_dropped() {
        let mut pool = pool(1000, &[&[1, 2], &[1, 2, 3], &[1, 4]]);
        assert_eq!(all(&pool), [vec![1, 2, 3], vec![1, 4]]);
        assert!(pool.holds(&[1, 2], &None) && !pool.holds(&[1, 2, 4], &None));
    }

    #[test]
    fn what_cannot_be_cut_is_found_as_a_whole_and_replaces_nothing() {
        let whole = |tokens: &[Token]| {
            Arc::new(Snapshot {
                cut_from: tokens.len(),
                ..snapshot(tokens)
            })
        };
        let mut pool = Pool::new(1000);
        for tokens in [&[1, 2][..], &[1, 2, 3], &[1, 2, 3]] {
            pool.insert(whole(tokens), Importance::Conversation);
        }
        assert_eq!(all(&pool), [vec![1, 2], vec![1, 2, 3]]);
        assert_eq!(found(&pool, &[1, 2, 4]), Some((vec![1, 2], 2)));
        assert_eq!(found(&pool, &[1, 2, 3, 4]), Some((vec![1, 2, 3], 3)));
        assert_eq!(found(&pool, &[1, 4]), None);
        assert!(pool.holds(&[1, 2], &None) && !pool.holds(&[1], &None));
    }

    #[test]
    fn a_scope_has_its_own() {
        let mut pool = pool(1000, &[]);
        let bob: Scope = Some("bob".into());
        for scope in [bob.clone(), None] {
            pool.insert(
                Arc::new(Snapshot {
                    scope,
                    ..snapshot(&[1, 2])
                }),
                Importance::Conversation,
            );
        }
        assert_eq!(pool.entries.len(), 2, "neither is a part of the other");
        let found = |scope| pool.find(scope, <[u32]>::len);
        assert_eq!(found(&bob).unwrap().snapshot.scope, bob);
        assert_eq!(found(&None).unwrap().snapshot.scope, None);
        assert!(found(&Some("eve".into())).is_none());
    }

    #[test]
    fn the_least_recently_used_makes_room_and_a_branch_first_of_all() {
        let mut pool = pool(310, &[&[1], &[2], &[3]]);
        assert!(pool.holds(&[1], &None));
        pool.insert(of(&[4]), Importance::Branch);
        assert_eq!(all(&pool), [[1], [3], [4]]);
        pool.insert(of(&[5]), Importance::Conversation);
        assert_eq!(all(&pool), [[1], [3], [5]]);
        pool.insert(of(&[6]), Importance::Conversation);
        assert_eq!(all(&pool), [[1], [5], [6]]);
        assert_eq!(pool.bytes, 300);
    }

    /// Lets conversations go on in turn, as the engine does, and returns how many were found in the
    /// last of these rounds. Each has a snapshot of 100 bytes.
    fn found_in_turn(
        pool: &mut Pool,
        conversations: std::ops::Range<Token>,
        rounds: usize,
    ) -> usize {
        let mut hits = 0;
        for _ in 0..rounds {
            hits = 0;
            for conversation in conversations.clone() {
                let shared = |tokens: &[Token]| common_prefix(tokens, &[conversation]);
                match pool.find(&None, shared) {
                    Some(found) => {
                        hits += 1;
                        pool.restored(&found, 0);
                    }
                    None => pool.missed(&None, 0, shared),
                }
                pool.insert(of(&[conversation]), Importance::Conversation);
            }
        }
        hits
    }

    #[test]
    fn of_more_conversations_in_turn_than_there_is_room_for_most_of_the_room_is_useful() {
        let mut pool = pool(4500, &[]);
        // The least recently used one would always be the one that goes on next.
        assert!(found_in_turn(&mut pool, 0..64, 10) > 30);
        // Conversations that have ended do not stay in the way of others.
        assert_eq!(found_in_turn(&mut pool, 100..130, 20), 30);
        assert_eq!(found_in_turn(&mut pool, 200..245, 40), 45);
    }

    #[test]
    fn what_is_larger_than_the_pool_is_not_kept_and_removes_nothing() {
        let mut pool = pool(210, &[&[1], &[2]]);
        let large = Snapshot {
            state: vec![0; 300].into(),
            ..snapshot(&[3])
        };
        pool.insert(Arc::new(large), Importance::Conversation);
        assert_eq!(all(&pool), [[1], [2]]);
    }

    #[test]
    fn what_a_slot_has_taken_over_is_removed_and_a_shared_beginning_stays() {
        let mut pool = pool(1000, &[&[1, 2, 3, 4], &[5, 6, 7, 8, 9, 9]]);
        let find = |pool: &Pool, prompt: &[Token]| {
            pool.find(&None, |tokens| common_prefix(tokens, prompt))
                .unwrap()
        };
        let shared = find(&pool, &[5, 6, 7]);
        pool.restored(&shared, 2);
        assert_eq!(all(&pool).len(), 2);
        let whole = find(&pool, &[1, 2, 3, 5]);
        pool.restored(&whole, 1);
        assert_eq!(all(&pool), [[5, 6, 7, 8, 9, 9]]);
        pool.restored(&whole, 1);
        pool.forget(&shared.snapshot);
        assert_eq!((all(&pool).len(), pool.bytes), (0, 0));
    }
}
