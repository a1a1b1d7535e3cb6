//! Tracks the places in the rules that a text can have reached, each with the place to return to
//! after its rule.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::rules::{Element, Rules, meets};

/// The number of a position in the grammar together with the position to return to.
pub(super) type Place = u32;

/// The end of the grammar.
pub(super) const END: Place = 0;

/// The point before an element of an alternative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Point {
    rule: u32,
    alternative: u32,
    element: u32,
    /// The place to continue at after the rule.
    back: Place,
}

/// All places that were reached, each once.
#[derive(Clone)]
pub(super) struct Places {
    rules: Arc<Rules>,
    points: Vec<Point>,
    known: HashMap<Point, Place>,
}

/// The maximum number of places that one answer may reach.
pub(super) const MOST_PLACES: usize = 200_000;

/// The maximum number of simultaneous places: a grammar that needs more has too many ways to parse
/// the same text.
const MOST_AT_ONCE: usize = 500;

impl Places {
    pub(super) fn new(rules: Rules) -> Self {
        let end = Point {
            rule: u32::MAX,
            alternative: 0,
            element: 0,
            back: END,
        };
        Self {
            rules: Arc::new(rules),
            points: vec![end],
            known: HashMap::new(),
        }
    }

    /// Returns the places before the first character. Returns `None` if there are too many.
    pub(super) fn first(&mut self) -> Option<Vec<Place>> {
        let mut found = HashSet::new();
        self.enter(self.rules.root, END, &mut found)?;
        Some(sorted(found))
    }

    /// Returns the places after a character. Returns `None` if there are too many.
    pub(super) fn after(&mut self, places: &[Place], character: u32) -> Option<Vec<Place>> {
        let mut found = HashSet::new();
        for &place in places {
            if self.fits(place, character, character) {
                let point = self.points[place as usize];
                self.resolve(
                    Point {
                        element: point.element + 1,
                        ..point
                    },
                    &mut found,
                )?;
            }
        }
        Some(sorted(found))
    }

    /// Whether any character from `from` to `to` may follow.
    pub(super) fn any(&self, places: &[Place], from: u32, to: u32) -> bool {
        places.iter().any(|&place| self.fits(place, from, to))
    }

    fn fits(&self, place: Place, from: u32, to: u32) -> bool {
        matches!(self.element(self.points[place as usize]), Some(Element::Char(class)) if meets(class, from, to))
    }

    fn element(&self, point: Point) -> Option<&Element> {
        let rule = self.rules.rules.get(point.rule as usize)?;
        rule.get(point.alternative as usize)?
            .get(point.element as usize)
    }

    /// Enters a rule: adds the beginnings of its alternatives.
    fn enter(&mut self, rule: usize, back: Place, found: &mut HashSet<Place>) -> Option<()> {
        let rules = Arc::clone(&self.rules);
        let rule_number = u32::try_from(rule).ok()?;
        let mut pending: Vec<Point> = Vec::new();
        for alternative in 0..u32::try_from(rules.rules.get(rule)?.len()).ok()? {
            pending.push(Point {
                rule: rule_number,
                alternative,
                element: 0,
                back,
            });
        }
        self.resolve_all(pending, found)
    }

    fn resolve(&mut self, point: Point, found: &mut HashSet<Place>) -> Option<()> {
        self.resolve_all(vec![point], found)
    }

    /// Follows the steps that need no character, until every place is before a character.
    fn resolve_all(&mut self, mut pending: Vec<Point>, found: &mut HashSet<Place>) -> Option<()> {
        let rules = Arc::clone(&self.rules);
        let mut seen: HashSet<Point> = pending.iter().copied().collect();
        while let Some(point) = pending.pop() {
            let alternative = rules
                .rules
                .get(point.rule as usize)?
                .get(point.alternative as usize)?;
            let next = match alternative.get(point.element as usize) {
                None if point.back == END => {
                    found.insert(END);
                    continue;
                }
                None => vec![self.points[point.back as usize]],
                Some(Element::Char(_)) => {
                    let place = self.number(point)?;
                    found.insert(place);
                    if found.len() > MOST_AT_ONCE {
                        return None;
                    }
                    continue;
                }
                Some(&Element::Rule(inner)) => {
                    // After the last element of a rule, no place in it has to be returned to.
                    let is_last = point.element as usize + 1 == alternative.len();
                    let after = Point {
                        element: point.element + 1,
                        ..point
                    };
                    let back = if is_last {
                        point.back
                    } else {
                        self.number(after)?
                    };
                    let rule = u32::try_from(inner).ok()?;
                    let count = u32::try_from(rules.rules.get(inner)?.len()).ok()?;
                    (0..count)
                        .map(|alternative| Point {
                            rule,
                            alternative,
                            element: 0,
                            back,
                        })
                        .collect()
                }
            };
            if seen.len() > MOST_AT_ONCE * 16 {
                return None;
            }
            pending.extend(next.into_iter().filter(|point| seen.insert(*point)));
        }
        Some(())
    }

    fn number(&mut self, point: Point) -> Option<Place> {
        if let Some(&known) = self.known.get(&point) {
            return Some(known);
        }
        let number = Place::try_from(self.points.len())
            .ok()
            .filter(|_| self.points.len() < MOST_PLACES)?;
        self.points.push(point);
        self.known.insert(point, number);
        Some(number)
    }
}

fn sorted(found: HashSet<Place>) -> Vec<Place> {
    let mut places: Vec<Place> = found.into_iter().collect();
    places.sort_unstable();
    places
}
