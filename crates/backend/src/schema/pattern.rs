//! Decides which patterns llama.cpp's converter turns into a grammar that matches exactly the same
//! text within a JSON string.
//!
//! Other patterns give a grammar for any string, or for one with a quotation mark in it, which is
//! invalid JSON. Checked against build 11549.

use std::iter::Peekable;
use std::str::Chars;

/// The maximum repetition count. llama.cpp's grammars refuse or ignore larger ones.
pub(super) const MOST_TIMES: u64 = 1999;

/// The characters that can be escaped with a backslash.
const ESCAPED: &str = "^$.[]()|{}*+?-";

/// Returns whether the grammar matches exactly the strings that match this pattern as a whole.
pub(super) fn is_held(pattern: &str) -> bool {
    let inner = pattern
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix('$'));
    inner.is_some_and(|inner| {
        Reader {
            rest: inner.chars().peekable(),
        }
        .reads_all()
    })
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    fn reads_all(mut self) -> bool {
        let mut open = 0_u32;
        // Whether the preceding element can be repeated.
        let mut repeatable = false;
        while let Some(c) = self.rest.next() {
            let goes_on = match c {
                '(' => {
                    open += 1;
                    repeatable = false;
                    // `(?:…)`, `(?=…)` and similar groups.
                    self.rest.peek() != Some(&'?')
                }
                ')' => {
                    repeatable = true;
                    let closes = open > 0;
                    open = open.saturating_sub(1);
                    closes
                }
                '|' => {
                    repeatable = false;
                    true
                }
                '*' | '+' | '?' => std::mem::take(&mut repeatable),
                '{' => std::mem::take(&mut repeatable) && self.count(),
                '[' => {
                    repeatable = true;
                    self.class()
                }
                '\\' => {
                    repeatable = true;
                    self.rest.next().is_some_and(|c| ESCAPED.contains(c))
                }
                '^' | '$' | '.' | ']' | '}' | '"' => false,
                c if c.is_ascii() => {
                    repeatable = true;
                    !c.is_ascii_control()
                }
                _ => {
                    repeatable = false;
                    true
                }
            };
            if !goes_on {
                return false;
            }
        }
        open == 0
    }

    /// Parses the rest of a count after `{`.
    fn count(&mut self) -> bool {
        let text: String = self.rest.by_ref().take_while(|c| *c != '}').collect();
        let number = |text: &str| {
            text.parse::<u64>()
                .ok()
                .filter(|times| *times <= MOST_TIMES)
        };
        match text.split_once(',') {
            None => number(&text).is_some(),
            Some((least, "")) => number(least).is_some(),
            Some((least, most)) => number(least)
                .zip(number(most))
                .is_some_and(|(least, most)| least <= most),
        }
    }

    /// Parses the rest of a character class after `[`. Negated classes are not supported, because
    /// they contain the quotation mark.
    fn class(&mut self) -> bool {
        let mut before = None;
        let mut is_range = false;
        let mut empty = true;
        while let Some(c) = self.rest.next() {
            let c = match c {
                ']' => return !empty,
                '^' if empty => return false,
                '\\' => match self.rest.next() {
                    Some(c @ (']' | '-')) => c,
                    _ => return false,
                },
                '-' if before.is_some() && !is_range && self.rest.peek() != Some(&']') => {
                    is_range = true;
                    continue;
                }
                '[' | '"' => return false,
                c if c.is_ascii_control() => return false,
                c => c,
            };
            empty = false;
            if is_range {
                let from = before.take().unwrap_or(c);
                if from > c
                    || ['"', '\\']
                        .iter()
                        .any(|unwritable| (from..=c).contains(unwritable))
                {
                    return false;
                }
                is_range = false;
            } else {
                before = Some(c);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_llama_cpp_holds_are_told_from_those_that_become_any_string() {
        for held in [
            "^[0-9]{4}-[0-9]{2}$",
            "^(a|b)*$",
            "^#?([a-f0-9]{6}|[a-f0-9]{3})$",
            r"^-?[0-9]+(\.[0-9]+)?$",
            "^[A-Za-z_][A-Za-z0-9_]{2,}$",
            "^/x y$",
            r"^\$[a\-b]$",
            "^$",
            "^()|a$",
            "^é$",
            "^[à-ü]+$",
            "^[+-]$",
        ] {
            assert!(is_held(held), "{held}");
        }
        for not in [
            "a",
            "^a",
            "a$",
            r"^a\d+$",
            r"^\w+$",
            r"^[\d]$",
            "^a$|^b$",
            "^(?:a|b)$",
            "^(?=a)a$",
            "^a+?$",
            "^a**$",
            r"^(a)\1$",
            "^.+$",
            "^[^a]$",
            "^[\"]$",
            "^\"$",
            "^[ -~]$",
            "^[A-z]$",
            "^[[:alpha:]]$",
            r"^a\/b$",
            "^a{3,2}$",
            "^a{2000}$",
            "^a{x}$",
            "^a{,3}$",
            "^(a$",
            "^a)$",
            r"^x\$",
            "^é+$",
            "^[]$",
            "^[a$",
            "^*$",
            "^{$",
            "^]$",
        ] {
            assert!(!is_held(not), "{not}");
        }
    }
}
