//! Parses GBNF: `name ::= "text" [a-z]* (other | .)? more{2,5}`. Errors have a line and a column.

use std::collections::HashMap;

use thiserror::Error;

use super::rules::{Alternative, Class, Element, Rules, class};

/// An error in a grammar, and its position.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} at line {line}, column {column}")]
pub(in crate::grammar) struct Wrong {
    line: usize,
    column: usize,
    what: String,
}

/// The maximum number of elements that repetitions may expand to.
const MOST_ELEMENTS: usize = 100_000;

/// The maximum nesting of parentheses.
const DEEPEST: usize = 100;

/// Parses a text into rules.
pub(in crate::grammar) fn read(text: &str) -> Result<Rules, Wrong> {
    let mut reader = Reader {
        text,
        at: 0,
        rules: Vec::new(),
        names: HashMap::new(),
        wanted: Vec::new(),
        elements: 0,
    };
    reader.grammar()?;
    reader.check()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// `None` for a rule that was referenced but is not defined yet.
    rules: Vec<Option<Vec<Alternative>>>,
    names: HashMap<&'a str, usize>,
    /// The position of the first reference to each rule.
    wanted: Vec<usize>,
    elements: usize,
}

type Read<T> = Result<T, Wrong>;

impl<'a> Reader<'a> {
    fn grammar(&mut self) -> Read<()> {
        self.spaces(true);
        while self.at < self.text.len() {
            let start = self.at;
            let name = self
                .name()
                .ok_or_else(|| self.wrong("expected the name of a rule"))?;
            let rule = self.rule_of(name, start);
            self.spaces(false);
            self.expect("::=")?;
            self.spaces(true);
            let alternatives = self.alternatives(0)?;
            if self.rules[rule].replace(alternatives).is_some() {
                return Err(self.wrong_at(start, format!("the rule '{name}' is written twice")));
            }
            match self.peek() {
                None => {}
                Some('\n' | '\r') => self.spaces(true),
                Some(other) => {
                    return Err(self.wrong(&format!("unexpected '{}'", other.escape_default())));
                }
            }
        }
        Ok(())
    }

    /// Checks that every referenced rule is defined, and that none is left-recursive.
    fn check(self) -> Read<Rules> {
        if let Some(missing) = self.rules.iter().position(Option::is_none) {
            let what = format!("{} is not written anywhere", self.name_of(missing));
            return Err(self.wrong_at(self.wanted[missing], what));
        }
        let Some(&root) = self.names.get("root") else {
            return Err(self.wrong_at(
                0,
                "there is no rule 'root', with which a grammar begins".to_owned(),
            ));
        };
        let rules = Rules {
            rules: self.rules.iter().flatten().cloned().collect(),
            root,
        };
        if let Some(rule) = rules.left_recursive() {
            let name = self.name_of(rule);
            let what =
                format!("{name} begins with itself, or repeats what may be empty: left recursion");
            return Err(self.wrong_at(self.wanted[rule], what));
        }
        Ok(rules)
    }

    /// The name of a rule, for errors. Rules of repetitions and parentheses have no name.
    fn name_of(&self, rule: usize) -> String {
        let named = self.names.iter().find(|(_, number)| **number == rule);
        named.map_or_else(
            || "what stands there".to_owned(),
            |(name, _)| format!("the rule '{name}'"),
        )
    }

    fn alternatives(&mut self, depth: usize) -> Read<Vec<Alternative>> {
        if depth > DEEPEST {
            return Err(self.wrong("parentheses are nested too deeply"));
        }
        let mut all = vec![self.sequence(depth)?];
        while self.peek() == Some('|') {
            self.at += 1;
            self.spaces(true);
            all.push(self.sequence(depth)?);
        }
        Ok(all)
    }

    fn sequence(&mut self, depth: usize) -> Read<Alternative> {
        let mut sequence = Vec::new();
        loop {
            let start = self.at;
            let part = match self.peek() {
                Some('"') => self.string()?,
                Some('[') => vec![Element::Char(self.class()?)],
                Some('.') => {
                    self.at += 1;
                    vec![Element::Char(class(Vec::new(), true))]
                }
                Some('(') => {
                    self.at += 1;
                    self.spaces(true);
                    let alternatives = self.alternatives(depth + 1)?;
                    self.expect(")")?;
                    vec![self.new_rule(alternatives, start)]
                }
                Some(c) if is_of_name(c) => {
                    let name = self.name().unwrap_or_default();
                    vec![Element::Rule(self.rule_of(name, start))]
                }
                Some(c @ ('<' | '!')) => {
                    return Err(self.wrong(&format!("tokens ('{c}…') cannot be named here")));
                }
                Some('*' | '+' | '?' | '{') => return Err(self.wrong("there is nothing to repeat")),
                _ => return Ok(sequence),
            };
            let part = self.repeated(part, start)?;
            sequence.extend(part);
            self.count(1)?;
            self.spaces(depth > 0);
        }
    }

    fn repeated(&mut self, part: Alternative, start: usize) -> Read<Alternative> {
        let (length, (least, most)) = match self.peek() {
            Some('*') => (1, (0, None)),
            Some('+') => (1, (1, None)),
            Some('?') => (1, (0, Some(1))),
            Some('{') => self.times()?,
            _ => return Ok(part),
        };
        self.at += length;
        self.count(part.len().saturating_mul(least.max(most.unwrap_or(0))))?;
        let mut all: Alternative = (0..least).flat_map(|_| part.iter().cloned()).collect();
        match most {
            None => {
                let again = self.rules.len();
                let more: Alternative = part.into_iter().chain([Element::Rule(again)]).collect();
                all.push(self.new_rule(vec![more, Vec::new()], start));
            }
            Some(most) => {
                let mut rest = None;
                for _ in least..most {
                    let more: Alternative = part.iter().cloned().chain(rest).collect();
                    rest = Some(self.new_rule(vec![more, Vec::new()], start));
                }
                all.extend(rest);
            }
        }
        Ok(all)
    }

    /// Parses a repetition: `{2}`, `{2,}` or `{2,5}`. Returns its length and its bounds.
    fn times(&self) -> Read<(usize, (usize, Option<usize>))> {
        let start = self.at;
        let length = self.text[start..]
            .find('}')
            .ok_or_else(|| self.wrong("'{' is not closed"))?;
        let inside = &self.text[start + 1..start + length];
        let number = |text: &str| {
            text.trim()
                .parse::<usize>()
                .ok()
                .filter(|&number| number <= MOST_ELEMENTS)
        };
        let times = match inside.split_once(',') {
            None => number(inside).map(|times| (times, Some(times))),
            Some((least, most)) if most.trim().is_empty() => {
                number(least).map(|least| (least, None))
            }
            Some((least, most)) => number(least)
                .zip(number(most))
                .map(|(least, most)| (least, Some(most))),
        };
        let times = times.filter(|(least, most)| most.is_none_or(|most| *least <= most));
        let times = times.ok_or_else(|| self.wrong("this is no number of times"))?;
        Ok((length + 1, times))
    }

    fn string(&mut self) -> Read<Alternative> {
        let start = self.at;
        self.at += 1;
        let mut elements = Vec::new();
        loop {
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(elements);
                }
                None | Some('\n') => {
                    return Err(self.wrong_at(start, "'\"' is not closed".to_owned()));
                }
                Some(_) => {
                    let c = self.character()?;
                    self.count(1)?;
                    elements.push(Element::Char(class(vec![(c, c)], false)));
                }
            }
        }
    }

    fn class(&mut self) -> Read<Class> {
        let start = self.at;
        self.at += 1;
        let negated = self.peek() == Some('^');
        self.at += usize::from(negated);
        let mut ranges = Vec::new();
        loop {
            match self.peek() {
                Some(']') => {
                    self.at += 1;
                    break;
                }
                None | Some('\n') => {
                    return Err(self.wrong_at(start, "'[' is not closed".to_owned()));
                }
                Some(_) => {}
            }
            let from = self.character()?;
            let is_range = self.peek() == Some('-') && !self.text[self.at + 1..].starts_with(']');
            self.at += usize::from(is_range);
            let to = if is_range { self.character()? } else { from };
            if from > to {
                return Err(self.wrong("the range ends before it begins"));
            }
            ranges.push((from, to));
        }
        let class = class(ranges, negated);
        if class.is_empty() {
            Err(self.wrong_at(start, "no character is in this class".to_owned()))
        } else {
            Ok(class)
        }
    }

    fn character(&mut self) -> Read<u32> {
        let c = self
            .peek()
            .ok_or_else(|| self.wrong("the grammar ends here"))?;
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c.into());
        }
        let escaped = self
            .peek()
            .ok_or_else(|| self.wrong("the grammar ends here"))?;
        self.at += escaped.len_utf8();
        match escaped {
            't' => Ok(9),
            'n' => Ok(10),
            'r' => Ok(13),
            '\\' | '"' | '[' | ']' | '-' | '^' => Ok(escaped.into()),
            'x' => self.hex(2),
            'u' => self.hex(4),
            'U' => self.hex(8),
            _ => Err(self.wrong(&format!("'\\{}' means nothing", escaped.escape_default()))),
        }
    }

    fn hex(&mut self, digits: usize) -> Read<u32> {
        let text = self
            .text
            .get(self.at..self.at + digits)
            .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = text
            .and_then(|text| u32::from_str_radix(text, 16).ok())
            .filter(|&value| value <= 0x10_ffff);
        let value = value
            .ok_or_else(|| self.wrong(&format!("expected the {digits} digits of a character")))?;
        self.at += digits;
        Ok(value)
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
        self.at += end;
        (end > 0).then(|| &rest[..end])
    }

    fn rule_of(&mut self, name: &'a str, at: usize) -> usize {
        if let Some(&known) = self.names.get(name) {
            return known;
        }
        self.rules.push(None);
        self.wanted.push(at);
        self.names.insert(name, self.rules.len() - 1);
        self.rules.len() - 1
    }

    fn new_rule(&mut self, alternatives: Vec<Alternative>, at: usize) -> Element {
        self.rules.push(Some(alternatives));
        self.wanted.push(at);
        Element::Rule(self.rules.len() - 1)
    }

    fn count(&mut self, more: usize) -> Read<()> {
        self.elements = self.elements.saturating_add(more);
        if self.elements > MOST_ELEMENTS {
            Err(self.wrong("the grammar is too large"))
        } else {
            Ok(())
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn expect(&mut self, wanted: &str) -> Read<()> {
        if !self.text[self.at..].starts_with(wanted) {
            return Err(self.wrong(&format!("expected '{wanted}'")));
        }
        self.at += wanted.len();
        Ok(())
    }

    /// Skips spaces and comments.
    fn spaces(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                '#' => {
                    self.at += self.text[self.at..]
                        .find(['\n', '\r'])
                        .unwrap_or(self.text.len() - self.at);
                }
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if lines => self.at += 1,
                _ => return,
            }
        }
    }

    fn wrong(&self, what: &str) -> Wrong {
        self.wrong_at(self.at, what.to_owned())
    }

    fn wrong_at(&self, at: usize, what: String) -> Wrong {
        let before = &self.text[..at];
        let line = before.rfind('\n').map_or(0, |end| end + 1);
        Wrong {
            line: before.matches('\n').count() + 1,
            column: before[line..].chars().count() + 1,
            what,
        }
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}
