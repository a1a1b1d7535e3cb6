//! A grammar as rules: what `read` makes and `machine` walks. A repetition is a rule of its own.

/// A class of characters: ranges without gaps or overlaps, in order.
pub(super) type Class = Vec<(u32, u32)>;

/// A part of an alternative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Element {
    /// One character of a class.
    Char(Class),
    /// What a rule says.
    Rule(usize),
}

/// One way to satisfy a rule: its elements one after the other.
pub(super) type Alternative = Vec<Element>;

/// All rules; each is its alternatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::grammar) struct Rules {
    pub(super) rules: Vec<Vec<Alternative>>,
    pub(super) root: usize,
}

/// The last character there is.
const LAST: u32 = 0x10_ffff;

/// The characters of these ranges, or all others: in order, and without surrogates, which no text
/// has.
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

/// Whether a class has a character from `from` to `to`.
pub(super) fn meets(class: &Class, from: u32, to: u32) -> bool {
    class
        .iter()
        .any(|&(first, last)| first <= to && from <= last)
}

impl Rules {
    /// A rule that would have to satisfy itself before its first character: no way through it can
    /// be found.
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

    /// Which rules nothing satisfies.
    fn nullable(&self) -> Vec<bool> {
        // Of each alternative that consists of rules alone, how many of them are not known to be
        // nullable; and who waits for whom.
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

/// A rule that is come to again on the way from this one. Walks without recursion: there may be a
/// hundred thousand rules in a row.
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
