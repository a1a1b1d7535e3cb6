//! [`Board`]: the states of the nodes, and the choice of a node for a call. No I/O; the caller
//! gives the time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::breaker::{Breaker, Standing};
use super::prefixes::{Beginnings, Prefixes};

/// How many calls more a node may have in flight than another and still get a call, because the
/// model is loaded there.
const WORTH_OF_LOADED: usize = 4;

/// How many calls more a node may have in flight than another and still get a call, because it has
/// computed the beginning of the conversation.
const WORTH_OF_BEGINNING: usize = 2;

/// The states of the nodes.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// By their numbers, which are never used again.
    nodes: BTreeMap<usize, Node>,
    /// The number of the next node.
    next: usize,
    pub(super) prefixes: Prefixes,
    /// The number of choices so far.
    choices: u64,
}

#[derive(Debug, Default)]
struct Node {
    in_flight: usize,
    breaker: Breaker,
    /// The models that the node has. `None` if the node has not reported them yet.
    models: Option<HashSet<String>>,
    /// The models that are loaded. `None` if the node does not report them.
    loaded: Option<HashSet<String>>,
    /// The number of the last choice that fell on the node.
    chosen: u64,
    /// Whether it gets no more calls, and is removed when those in flight have ended.
    is_draining: bool,
}

/// The result of a call, as evidence about its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The node answered, or refused the request.
    Answered,
    /// The node failed.
    Failed,
    /// The node cannot be reached.
    Away,
    /// The call shows nothing about the node.
    Unknown,
}

impl Board {
    /// Adds a node. Returns its number.
    pub(super) fn add(&mut self) -> usize {
        let at = self.next;
        self.next += 1;
        self.nodes.insert(at, Node::default());
        at
    }

    /// Lets a node end its calls and get no more. Returns whether it has none, and is removed now.
    pub(super) fn drain(&mut self, at: usize) -> bool {
        if let Some(node) = self.nodes.get_mut(&at) {
            node.is_draining = true;
        }
        self.remove_if_drained(at)
    }

    /// Removes a node.
    pub(super) fn remove(&mut self, at: usize) {
        self.nodes.remove(&at);
    }

    fn remove_if_drained(&mut self, at: usize) -> bool {
        let node = self.nodes.get(&at);
        let is_drained = node.is_some_and(|node| node.is_draining && node.in_flight == 0);
        if is_drained {
            self.nodes.remove(&at);
        }
        is_drained
    }

    /// Chooses the node for a call and counts it. `None` if no node may be used that is not in
    /// `tried`.
    ///
    /// Of the nodes that have the model, the one with the least calls in flight, unless another has
    /// only a few more and has the model loaded or the beginning of the conversation.
    pub(super) fn choose(
        &mut self,
        model: &str,
        beginnings: &Beginnings,
        tried: &[usize],
    ) -> Option<usize> {
        let beginning = self.prefixes.node(beginnings);
        let some_has = self.usable(model).any(|(_, node)| node.has(model));
        let cost = |(at, node): &(usize, &Node)| {
            let mut calls = node.in_flight;
            if !node.has_loaded(model) {
                calls += WORTH_OF_LOADED;
            }
            if beginning != Some(*at) {
                calls += WORTH_OF_BEGINNING;
            }
            // A node on trial gets the next call, so that it is used again soon.
            let standing = match node.breaker.standing() {
                Standing::OnTrial => (false, false),
                standing => (true, standing != Standing::Up),
            };
            (standing, calls, node.chosen)
        };
        let (at, _) = self
            .usable(model)
            .filter(|(at, _)| !tried.contains(at))
            .filter(|(_, node)| !some_has || node.has(model))
            .min_by_key(cost)?;
        self.choices += 1;
        let node = self.nodes.get_mut(&at)?;
        node.chosen = self.choices;
        node.in_flight += 1;
        node.breaker.begin();
        Some(at)
    }

    /// Returns the nodes that may be used for this model: those that have it, and those whose
    /// models are unknown; or all nodes if there is no such node.
    fn usable(&self, model: &str) -> impl Iterator<Item = (usize, &Node)> {
        let up = |node: &Node| !node.is_draining && node.breaker.standing() != Standing::Down;
        let may_have = |node: &Node| node.models.is_none() || node.has(model);
        let some_may = self.nodes.values().any(|node| up(node) && may_have(node));
        let nodes = self.nodes.iter().map(|(at, node)| (*at, node));
        nodes.filter(move |(_, node)| up(node) && (!some_may || may_have(node)))
    }

    /// Returns the nodes in the order in which facts about a model are asked: always the same, so
    /// that a node's answer is in its cache.
    pub(super) fn in_order(&self, model: &str) -> Vec<usize> {
        let nodes = self.nodes.iter().filter(|(_, node)| !node.is_draining);
        let mut order: Vec<_> = nodes
            .map(|(at, node)| {
                let is_down = node.breaker.standing() == Standing::Down;
                (is_down, Reverse(node.has(model)), *at)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, at)| at).collect()
    }

    /// Notes the result of a call. Returns whether the node is no longer used.
    pub(super) fn note(&mut self, at: usize, outcome: Outcome, now: Instant) -> bool {
        let Some(node) = self.nodes.get_mut(&at) else {
            return false;
        };
        match outcome {
            Outcome::Answered => node.breaker.answered(),
            Outcome::Failed => return node.breaker.failed(now),
            Outcome::Away => return node.breaker.went_away(now),
            Outcome::Unknown => node.breaker.abandon(),
        }
        false
    }

    /// Notes that a node answered a call for this model, whose conversation it now has.
    pub(super) fn begun(&mut self, at: usize, model: &str, beginnings: &Beginnings) {
        let Some(node) = self.nodes.get_mut(&at) else {
            return;
        };
        node.breaker.answered();
        if let Some(loaded) = &mut node.loaded
            && !loaded.contains(model)
        {
            loaded.insert(model.to_owned());
        }
        self.prefixes.remember(beginnings, at);
    }

    /// Notes that a call has ended. Returns whether it was the last one of a node that is drained,
    /// which is removed now.
    pub(super) fn ended(&mut self, at: usize) -> bool {
        if let Some(node) = self.nodes.get_mut(&at) {
            node.in_flight = node.in_flight.saturating_sub(1);
        }
        self.remove_if_drained(at)
    }

    /// Notes the models that a node listed: it answers.
    pub(super) fn listed(&mut self, at: usize, models: HashSet<String>, now: Instant) {
        if let Some(node) = self.nodes.get_mut(&at) {
            node.models = Some(models);
            node.breaker.probed(now);
        }
    }

    /// Notes the models that are loaded at a node.
    pub(super) fn loaded(&mut self, at: usize, models: Option<HashSet<String>>) {
        if let Some(node) = self.nodes.get_mut(&at) {
            node.loaded = models;
        }
    }

    /// Returns the number of calls in flight at a node.
    pub(super) fn in_flight(&self, at: usize) -> usize {
        self.nodes.get(&at).map_or(0, |node| node.in_flight)
    }

    /// Returns whether a node gets no more calls, for good.
    pub(super) fn is_draining(&self, at: usize) -> bool {
        self.nodes.get(&at).is_some_and(|node| node.is_draining)
    }

    /// Returns whether a node is not used until it answers again.
    pub(super) fn is_down(&self, at: usize) -> bool {
        let standing = self.nodes.get(&at).map(|node| node.breaker.standing());
        standing == Some(Standing::Down)
    }

    /// Returns whether a node is not removed.
    pub(super) fn has(&self, at: usize) -> bool {
        self.nodes.contains_key(&at)
    }
}

impl Node {
    fn has(&self, model: &str) -> bool {
        self.models
            .as_ref()
            .is_some_and(|models| models.contains(model))
    }

    fn has_loaded(&self, model: &str) -> bool {
        self.loaded
            .as_ref()
            .is_some_and(|loaded| loaded.contains(model))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn models(names: &[&str]) -> HashSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn board(lists: &[&[&str]]) -> Board {
        let mut board = Board::default();
        for list in lists {
            let at = board.add();
            board.listed(at, models(list), Instant::now());
        }
        board
    }

    fn choose(board: &mut Board) -> Option<usize> {
        board.choose("m", &Beginnings::default(), &[])
    }

    #[test]
    fn calls_go_to_the_nodes_in_turn() {
        let mut board = board(&[&["m"], &["m"], &["m"]]);
        let mut chosen: Vec<_> = (0..6).filter_map(|_| choose(&mut board)).collect();
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn calls_go_only_to_nodes_that_have_the_model() {
        let mut board = board(&[&["other"], &["m"]]);
        for _ in 0..5 {
            assert_eq!(choose(&mut board), Some(1));
        }
        assert_eq!(board.choose("m", &Beginnings::default(), &[1]), None);
        assert!(
            board.choose("none", &Beginnings::default(), &[]).is_some(),
            "a node refuses it in its own words"
        );
    }

    #[test]
    fn a_call_goes_where_the_model_is_loaded_until_that_node_has_much_more_to_do() {
        let mut board = board(&[&["m"], &["m"]]);
        board.loaded(0, Some(models(&[])));
        board.loaded(1, Some(models(&["m"])));
        for _ in 0..WORTH_OF_LOADED {
            assert_eq!(choose(&mut board), Some(1));
        }
        assert_eq!(choose(&mut board), Some(0));
    }

    #[test]
    fn a_node_that_is_down_gets_nothing_and_one_call_when_it_is_back() {
        let now = Instant::now();
        let mut board = board(&[&["m"], &["m"]]);
        assert!(board.note(0, Outcome::Away, now));
        assert_eq!(
            (0..3).map(|_| choose(&mut board)).collect::<Vec<_>>(),
            [Some(1); 3]
        );
        board.listed(0, models(&["m"]), now);
        assert_eq!(choose(&mut board), Some(0));
        assert_eq!(choose(&mut board), Some(1), "it is being tried");
        board.begun(0, "m", &Beginnings::default());
        assert_eq!(choose(&mut board), Some(0));
        board.note(0, Outcome::Away, now);
        board.note(1, Outcome::Away, now);
        assert_eq!(choose(&mut board), None);
    }

    #[test]
    fn a_node_that_is_drained_gets_no_call_and_is_removed_after_its_last() {
        let mut board = board(&[&["m"], &["m"]]);
        let chosen = [choose(&mut board), choose(&mut board)];
        assert_eq!(chosen, [Some(0), Some(1)]);
        assert!(!board.drain(0), "a call is in flight");
        assert_eq!(choose(&mut board), Some(1));
        assert_eq!(board.in_order("m"), [1]);
        assert!(board.is_draining(0) && board.ended(0));
        assert!(!board.has(0) && !board.ended(0));
        assert_eq!(board.add(), 2, "no number is used again");
        assert!(board.drain(2), "no call is in flight");
        board.remove(1);
        assert_eq!(choose(&mut board), None);
        board.begun(1, "m", &Beginnings::default());
        assert!(!board.note(1, Outcome::Away, Instant::now()), "it is gone");
    }

    proptest! {
        /// Whatever happens, no call is given to a node that is down or was tried, calls in flight
        /// are counted, and the nodes' calls differ by no more than the leans are worth.
        #[test]
        fn choices_are_balanced(steps in prop::collection::vec((0_u8..6, 0_usize..3), 0..100)) {
            let now = Instant::now();
            let mut board = board(&[&["m"], &["m"], &["m"]]);
            let mut running: Vec<usize> = Vec::new();
            for (step, at) in steps {
                match step {
                    0..=2 => {
                        let up: Vec<usize> = (0..3).filter(|&at| !board.is_down(at)).collect();
                        let fewest = up.iter().filter(|&&other| other != at)
                            .map(|&at| board.nodes[&at].in_flight).min();
                        let chosen = board.choose("m", &Beginnings::default(), &[at]);
                        prop_assert_eq!(chosen.is_none(), fewest.is_none());
                        if let Some(chosen) = chosen {
                            prop_assert!(chosen != at && up.contains(&chosen));
                            let node = &board.nodes[&chosen];
                            if node.breaker.standing() == Standing::Up && up.iter().all(|&at| board.nodes[&at].breaker.standing() == Standing::Up) {
                                prop_assert!(node.in_flight - 1 <= fewest.unwrap_or(0) + WORTH_OF_LOADED + WORTH_OF_BEGINNING);
                            }
                            running.push(chosen);
                        }
                    }
                    3 => if let Some(at) = running.pop() {
                        board.begun(at, "m", &Beginnings::default());
                        board.ended(at);
                    },
                    4 => { board.note(at, Outcome::Away, now); }
                    _ => board.listed(at, models(&["m"]), now),
                }
                for at in 0..3 {
                    let here = running.iter().filter(|&&node| node == at).count();
                    prop_assert_eq!(board.nodes[&at].in_flight, here);
                }
            }
        }
    }
}
