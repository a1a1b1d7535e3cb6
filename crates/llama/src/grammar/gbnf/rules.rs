//! A grammar as rules: `read` builds them and `machine` walks them. A repetition is a separate
//! rule.

/// A class of characters: ranges in ascending order that neither touch nor overlap.
pub(super) type Class = Vec<(u32, u32)>;

/// A part of an alternative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Element {
    /// One character of a class.
    Char(Class),
    /// A reference to a rule.
    Rule(usize),
}

/// One way to satisfy a rule: a sequence of elements.
pub(super) type Alternative = Vec<Element>;

/// All rules, each with its alternatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::grammar) struct Rules {
    pub(super) rules: Vec<Vec<Alternative>>,
    pub(super) root: usize,
}

/// The last code point of Unicode.
const LAST: u32 = 0x10_ffff;

/// The characters in these ranges, or all others if `negated`: in order, and without surrogates,
/// which are never part of a text.
pub(super) fn class(mut ranges: Vec<(u32, u32)>, negated: bool) -> Class {
    ranges.sort_unstable();
    let mut merged: Class = Vec::new();
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = (*end).max(to),
            _ => merged.push((from, to)),
        }
    }
    let positive = if negated { complement(&merged) } else { merged };
    let without_surrogates = positive
        .into_iter()
        .flat_map(|(from, to)| [(from, to.min(0xd7ff)), (from.max(0xe000), to)]);
    without_surrogates.filter(|(from, to)| from <= to).collect()
}

fn complement(ranges: &Class) -> Class {
    let mut others = Vec::new();
    let mut next = 0;
    for &(from, to) in ranges {
        if from > next {
            others.push((next, from - 1));
        }
        next = to.saturating_add(1);
    }
    if next <= LAST {
        others.push((next, LAST));
    }
    others
}

/// Whether a class contains a character from `from` to `to`.
pub(super) fn meets(class: &Class, from: u32, to: u32) -> bool {
    class
        .iter()
        .any(|&(first, last)| first <= to && from <= last)
}

impl Rules {
    /// A left-recursive rule, if there is one: it refers to itself before its first character, so
    /// no text can be parsed with it.
    pub(super) fn left_recursive(&self) -> Option<usize> {
        let nullable = self.nullable();
        let firsts: Vec<Vec<usize>> = self
            .rules
            .iter()
            .map(|rule| first_rules(rule, &nullable))
            .collect();
        let mut done = vec![false; self.rules.len()];
        (0..self.rules.len()).find_map(|start| circle(start, &firsts, &mut done))
    }

    /// Which rules match the empty text.
    fn nullable(&self) -> Vec<bool> {
        // For each alternative that consists of rules only: how many of these are not yet known to
        // be nullable, and which alternatives wait for which rule.
        let mut missing = Vec::new();
        let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); self.rules.len()];
        let mut found: Vec<usize> = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            for alternative in rule {
                if alternative.is_empty() {
                    found.push(number);
                }
                if alternative
                    .iter()
                    .all(|element| matches!(element, Element::Rule(_)))
                {
                    for element in alternative {
                        let Element::Rule(inner) = element else {
                            continue;
                        };
                        waiting[*inner].push(missing.len());
                    }
                    missing.push((number, alternative.len()));
                }
            }
        }
        let mut nullable = vec![false; self.rules.len()];
        while let Some(rule) = found.pop() {
            if std::mem::replace(&mut nullable[rule], true) {
                continue;
            }
            for &alternative in &waiting[rule] {
                let (of_rule, left) = &mut missing[alternative];
                *left -= 1;
                if *left == 0 {
                    found.push(*of_rule);
                }
            }
        }
        nullable
    }
}

/// The rules that may be entered before any character.
fn first_rules(rule: &[Alternative], nullable: &[bool]) -> Vec<usize> {
    let mut found = Vec::new();
    for alternative in rule {
        for element in alternative {
            let Element::Rule(inner) = element else { break };
            found.push(*inner);
            if !nullable[*inner] {
                break;
            }
        }
    }
    found
}

/// A rule that is reached again on the way from this one. It does not recurse, because a chain may
/// have a hundred thousand rules.
fn circle(start: usize, firsts: &[Vec<usize>], done: &mut [bool]) -> Option<usize> {
    let mut on_path = std::collections::HashSet::from([start]);
    let mut path = vec![(start, 0)];
    while let Some((rule, next)) = path.last_mut() {
        if done[*rule] || *next >= firsts[*rule].len() {
            done[*rule] = true;
            on_path.remove(rule);
            path.pop();
            continue;
        }
        let inner = firsts[*rule][*next];
        *next += 1;
        if !done[inner] {
            if !on_path.insert(inner) {
                return Some(inner);
            }
            path.push((inner, 0));
        }
    }
    None
}
