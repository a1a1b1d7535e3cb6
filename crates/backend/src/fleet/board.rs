//! [`Board`]: the states of the nodes, and the choice of a node for a call. No I/O; the caller
//! gives the time.

use std::cmp::Reverse;
use std::collections::HashSet;
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
#[derive(Debug)]
pub(super) struct Board {
    nodes: Vec<Node>,
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
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: std::iter::repeat_with(Node::default).take(nodes).collect(),
            prefixes: Prefixes::default(),
            choices: 0,
        }
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
        let some_has = self.usable(model).any(|at| self.nodes[at].has(model));
        let cost = |at: &usize| {
            let node = &self.nodes[*at];
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
        let at = self
            .usable(model)
            .filter(|at| !tried.contains(at))
            .filter(|at| !some_has || self.nodes[*at].has(model))
            .min_by_key(cost)?;
        self.choices += 1;
        let node = &mut self.nodes[at];
        node.chosen = self.choices;
        node.in_flight += 1;
        node.breaker.begin();
        Some(at)
    }

    /// Returns the nodes that may be used for this model: those that have it, and those whose
    /// models are unknown; or all nodes if there is no such node.
    fn usable(&self, model: &str) -> impl Iterator<Item = usize> {
        let up = |node: &Node| node.breaker.standing() != Standing::Down;
        let may_have = |node: &Node| node.models.is_none() || node.has(model);
        let some_may = self.nodes.iter().any(|node| up(node) && may_have(node));
        (0..self.nodes.len()).filter(move |&at| {
            let node = &self.nodes[at];
            up(node) && (!some_may || may_have(node))
        })
    }

    /// Returns the nodes in the order in which facts about a model are asked: always the same, so
    /// that a node's answer is in its cache.
    pub(super) fn in_order(&self, model: &str) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|&at| {
            let node = &self.nodes[at];
            (
                node.breaker.standing() == Standing::Down,
                Reverse(node.has(model)),
                at,
            )
        });
        order
    }

    /// Notes the result of a call. Returns whether the node is no longer used.
    pub(super) fn note(&mut self, at: usize, outcome: Outcome, now: Instant) -> bool {
        let breaker = &mut self.nodes[at].breaker;
        match outcome {
            Outcome::Answered => breaker.answered(),
            Outcome::Failed => return breaker.failed(now),
            Outcome::Away => return breaker.went_away(now),
            Outcome::Unknown => breaker.abandon(),
        }
        false
    }

    /// Notes that a node answered a call for this model, whose conversation it now has.
    pub(super) fn begun(&mut self, at: usize, model: &str, beginnings: &Beginnings) {
        let node = &mut self.nodes[at];
        node.breaker.answered();
        if let Some(loaded) = &mut node.loaded
            && !loaded.contains(model)
        {
            loaded.insert(model.to_owned());
        }
        self.prefixes.remember(beginnings, at);
    }

    /// Notes that a call has ended.
    pub(super) fn ended(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.in_flight = node.in_flight.saturating_sub(1);
    }

    /// Notes the models that a node listed: it answers.
    pub(super) fn listed(&mut self, at: usize, models: HashSet<String>, now: Instant) {
        let node = &mut self.nodes[at];
        node.models = Some(models);
        node.breaker.probed(now);
    }

    /// Notes the models that are loaded at a node.
    pub(super) fn loaded(&mut self, at: usize, models: Option<HashSet<String>>) {
        self.nodes[at].loaded = models;
    }

    /// Returns the number of calls in flight at a node.
    pub(super) fn in_flight(&self, at: usize) -> usize {
        self.nodes[at].in_flight
    }

    pub(super) fn is_down(&self, at: usize) -> bool {
        self.nodes[at].breaker.standing() == Standing::Down
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
        let mut board = Board::new(lists.len());
        for (at, list) in lists.iter().enumerate() {
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
                            .map(|&at| board.nodes[at].in_flight).min();
                        let chosen = board.choose("m", &Beginnings::default(), &[at]);
                        prop_assert_eq!(chosen.is_none(), fewest.is_none());
                        if let Some(chosen) = chosen {
                            prop_assert!(chosen != at && up.contains(&chosen));
                            let node = &board.nodes[chosen];
                            if node.breaker.standing() == Standing::Up && up.iter().all(|&at| board.nodes[at].breaker.standing() == Standing::Up) {
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
                    prop_assert_eq!(board.nodes[at].in_flight, here);
                }
            }
        }
    }
}
