//! Finds the definitions that `start` and `%ignore` use, and checks every name in them.

use std::collections::HashMap;

use super::GrammarError;
use super::lark::{Definition, Ending, Lark, Name, Node};

/// The maximum depth of definitions within definitions, with their brackets: llguidance recurses.
const DEEPEST: usize = 1000;

/// The maximum number of definitions that are used.
const MOST_DEFINITIONS: usize = 2000;

/// Which definitions are used.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    by_name: HashMap<&'a str, usize>,
    /// The definitions that are used and that some text matches: not `a: "x" a`.
    is_useful: Vec<bool>,
}

impl<'a> Reach<'a> {
    /// Follows the names from `start` on.
    pub(super) fn of(lark: &'a Lark) -> Result<Self, GrammarError> {
        let named = lark.definitions.iter().zip(0..);
        let by_name: HashMap<&str, usize> =
            named.map(|(it, index)| (it.name.as_str(), index)).collect();
        let start = by_name.get("start");
        let start = *start.ok_or_else(|| GrammarError::invalid("there is no rule 'start'"))?;
        let mut walk = Walk {
            lark,
            by_name: &by_name,
            states: vec![State::Unseen; lark.definitions.len()],
            open: Vec::new(),
            done: Vec::new(),
        };
        let mut ignored = Vec::new();
        for node in &lark.ignored {
            collect(node, 0, true, &mut ignored);
        }
        for used in ignored {
            let index = walk.resolve(&used)?;
            walk.from(index)?;
        }
        walk.from(start)?;
        let reach = Self {
            is_useful: useful(lark, &by_name, &walk.done),
            by_name,
        };
        if !reach.has(start) {
            return Err(GrammarError::invalid("no text matches the rule 'start'"));
        }
        Ok(reach)
    }

    /// The index of a definition.
    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Whether a definition is used, and some text matches it.
    pub(super) fn has(&self, index: usize) -> bool {
        self.is_useful.get(index) == Some(&true)
    }

    /// Whether some text matches a node.
    pub(super) fn can_match(&self, node: &Node) -> bool {
        can_match(node, &self.by_name, &self.is_useful)
    }
}

/// Finds the definitions that some text matches. `used` are the definitions to look at, each after
/// most of those that it uses.
fn useful(lark: &Lark, by_name: &HashMap<&str, usize>, used: &[usize]) -> Vec<bool> {
    let mut is_useful = vec![false; lark.definitions.len()];
    loop {
        let mut has_changed = false;
        for &index in used {
            let definition = &lark.definitions[index];
            if !is_useful[index]
                && (definition.is_terminal || can_match(&definition.body, by_name, &is_useful))
            {
                is_useful[index] = true;
                has_changed = true;
            }
        }
        if !has_changed {
            return is_useful;
        }
    }
}

fn can_match(node: &Node, by_name: &HashMap<&str, usize>, is_useful: &[bool]) -> bool {
    let can = |node: &Node| can_match(node, by_name, is_useful);
    match node {
        Node::Any(all) => all.iter().any(can),
        Node::All(all) | Node::Sequence(all) => all.iter().all(can),
        Node::Repeat { node, least, .. } => *least == 0 || can(node),
        Node::Name(name) => by_name
            .get(name.text.as_str())
            .is_some_and(|index| is_useful[*index]),
        Node::Not(_) | Node::Text { .. } | Node::Range(..) | Node::Pattern(..) => true,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unseen,
    Open,
    Done,
}

/// A name that a definition uses.
struct Used<'a> {
    name: &'a Name,
    /// The number of brackets around the name.
    nesting: usize,
    /// Whether the name must be a terminal.
    in_terminal: bool,
}

/// A definition whose names are being followed.
struct Open<'a> {
    index: usize,
    used: std::vec::IntoIter<Used<'a>>,
    depth: usize,
}

struct Walk<'a, 'w> {
    lark: &'a Lark,
    by_name: &'w HashMap<&'a str, usize>,
    states: Vec<State>,
    open: Vec<Open<'a>>,
    /// The definitions that have been followed.
    done: Vec<usize>,
}

impl Walk<'_, '_> {
    fn from(&mut self, index: usize) -> Result<(), GrammarError> {
        if self.states[index] == State::Unseen {
            self.enter(index, 0);
        }
        while let Some(open) = self.open.last_mut() {
            let (depth, index) = (open.depth, open.index);
            let Some(used) = open.used.next() else {
                self.states[index] = State::Done;
                self.done.push(index);
                if self.done.len() > MOST_DEFINITIONS {
                    let message = format!("it uses more than {MOST_DEFINITIONS} definitions");
                    return Err(GrammarError::unsupported(message));
                }
                self.open.pop();
                continue;
            };
            let next = self.resolve(&used)?;
            match self.states[next] {
                State::Unseen => {
                    let depth = depth + used.nesting + 1;
                    if depth > DEEPEST {
                        let message = "its definitions refer to one another too deeply";
                        return Err(used.name.place.unsupported(message));
                    }
                    self.enter(next, depth);
                }
                State::Open if self.lark.definitions[next].is_terminal => {
                    let message = format!("the terminal '{}' contains itself", used.name.text);
                    return Err(used.name.place.invalid(message));
                }
                State::Open | State::Done => {}
            }
        }
        Ok(())
    }

    fn enter(&mut self, index: usize, depth: usize) {
        self.states[index] = State::Open;
        self.open.push(Open {
            index,
            used: used_by(&self.lark.definitions[index]).into_iter(),
            depth,
        });
    }

    fn resolve(&self, used: &Used<'_>) -> Result<usize, GrammarError> {
        let Name { text, place } = used.name;
        let Some(index) = self.by_name.get(text.as_str()) else {
            return Err(place.invalid(format!("'{text}' is not defined")));
        };
        if used.in_terminal && !self.lark.definitions[*index].is_terminal {
            return Err(place.invalid(format!("a terminal cannot use the rule '{text}'")));
        }
        Ok(*index)
    }
}

fn used_by(definition: &Definition) -> Vec<Used<'_>> {
    let mut used = Vec::new();
    // A rule with an ending is one text.
    let is_terminal = definition.is_terminal || !matches!(definition.ending, Ending::Greedy);
    collect(&definition.body, 0, is_terminal, &mut used);
    if let Ending::Suffix(node) = &definition.ending {
        collect(node, 0, true, &mut used);
    }
    used
}

fn collect<'a>(node: &'a Node, nesting: usize, in_terminal: bool, used: &mut Vec<Used<'a>>) {
    match node {
        Node::Any(all) | Node::All(all) | Node::Sequence(all) => {
            for one in all {
                collect(one, nesting + 1, in_terminal, used);
            }
        }
        Node::Repeat { node, .. } => collect(node, nesting + 1, in_terminal, used),
        Node::Not(node) => collect(node, nesting + 1, true, used),
        Node::Name(name) => used.push(Used {
            name,
            nesting,
            in_terminal,
        }),
        Node::Text { .. } | Node::Range(..) | Node::Pattern(..) => {}
    }
}
