//! Splits a grammar in Lark into tokens.

use serde_json::Value;

use super::GrammarError;

/// A token, and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

/// A line and a column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Default for Place {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl Place {
    /// The error at this place.
    pub(super) fn invalid(self, message: impl std::fmt::Display) -> GrammarError {
        GrammarError::Invalid(format!(
            "line {}, column {}: {message}",
            self.line, self.column
        ))
    }

    pub(super) fn unsupported(self, message: impl std::fmt::Display) -> GrammarError {
        GrammarError::Unsupported(format!(
            "line {}, column {}: {message}",
            self.line, self.column
        ))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A lower-case name.
    Rule(String),
    /// An upper-case name.
    Terminal(String),
    Text {
        value: String,
        ignores_case: bool,
    },
    Pattern(Pattern),
    Number(u32),
    /// Punctuation: one character, `->` or `..`.
    Sign(&'static str),
    /// `%ignore`, `%import`, …
    Directive(String),
    /// `%llguidance` with its options.
    Options(Value),
    Newline,
}

/// A regular expression and its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) source: String,
    pub(super) flags: String,
}

/// The signs of the language. Longer ones are first, because the first match is taken.
const SIGNS: [&str; 19] = [
    "->", "..", ":", "|", "(", ")", "[", "]", "{", "}", "~", "&", ".", ",", "=", "*", "+", "?", "!",
];

/// Splits a definition.
pub(super) fn split(definition: &str) -> Result<Vec<Token>, GrammarError> {
    let mut reader = Reader {
        rest: definition,
        place: Place::default(),
    };
    let mut tokens = Vec::new();
    while let Some(token) = reader.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Reader<'a> {
    rest: &'a str,
    place: Place,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<Token>, GrammarError> {
        self.skip_blanks();
        let place = self.place;
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        let kind = match first {
            '\n' => {
                self.take(1);
                Kind::Newline
            }
            '"' => self.text()?,
            '/' => self.pattern()?,
            '%' => self.directive()?,
            '0'..='9' => self.number()?,
            'a'..='z' | 'A'..='Z' | '_' => self.name()?,
            '<' => return Err(place.unsupported("special tokens are not supported")),
            '@' => return Err(place.unsupported("references to other grammars are not supported")),
            ':' if self.rest.starts_with("::") => {
                return Err(place.unsupported("rules with parameters are not supported"));
            }
            _ => {
                let sign = SIGNS.iter().find(|sign| self.rest.starts_with(**sign));
                let sign = sign.ok_or_else(|| place.invalid(format!("unexpected {first:?}")))?;
                self.take(sign.len());
                Kind::Sign(sign)
            }
        };
        Ok(Some(Token { kind, place }))
    }

    /// Takes this number of bytes.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        for character in taken.chars() {
            if character == '\n' {
                self.place.line += 1;
                self.place.column = 1;
            } else {
                self.place.column += 1;
            }
        }
        taken
    }

    /// Skips spaces and comments, but not the end of the line.
    fn skip_blanks(&mut self) {
        loop {
            let length = if self.rest.starts_with("//") || self.rest.starts_with('#') {
                self.rest.find('\n').unwrap_or(self.rest.len())
            } else {
                let is_blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\u{feff}');
                self.rest.len() - self.rest.trim_start_matches(is_blank).len()
            };
            if length == 0 {
                return;
            }
            self.take(length);
        }
    }

    fn name(&mut self) -> Result<Kind, GrammarError> {
        let place = self.place;
        let is_part = |(at, c): &(usize, char)| {
            let is_arrow = || self.rest[*at..].starts_with("->");
            c.is_ascii_alphanumeric() || *c == '_' || *c == '-' && !is_arrow()
        };
        let length = self.rest.char_indices().take_while(is_part).count();
        let name = self.take(length).to_owned();
        let bytes = name.as_bytes();
        let is_lower = bytes.iter().any(u8::is_ascii_lowercase);
        let is_upper = bytes.iter().any(u8::is_ascii_uppercase);
        match (is_lower, is_upper) {
            (true, false) => Ok(Kind::Rule(name)),
            (false, true) => Ok(Kind::Terminal(name)),
            _ => Err(place.invalid(format!(
                "the name '{name}' must be in lower case (a rule) or in upper case (a terminal)"
            ))),
        }
    }

    fn number(&mut self) -> Result<Kind, GrammarError> {
        let place = self.place;
        let is_digit = |c: char| c.is_ascii_digit();
        let length = self.rest.len() - self.rest.trim_start_matches(is_digit).len();
        let number = self.take(length).parse();
        number
            .map(Kind::Number)
            .map_err(|_| place.invalid("the number is too large"))
    }

    /// The end of a literal that begins here, behind its closing delimiter. A backslash escapes the
    /// next character.
    fn end_of(&self, delimiter: char) -> Option<usize> {
        let mut escaped = false;
        for (at, character) in self.rest.char_indices().skip(1) {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if character == delimiter => return Some(at + 1),
                _ => {}
            }
        }
        None
    }

    fn text(&mut self) -> Result<Kind, GrammarError> {
        let place = self.place;
        let end = self.end_of('"');
        let end = end.ok_or_else(|| place.invalid("the string does not end"))?;
        let value = serde_json::from_str(&with_json_escapes(self.take(end)))
            .map_err(|_| place.invalid("the string has a line break or an unknown escape"))?;
        let ignores_case = self.rest.starts_with('i');
        self.take(usize::from(ignores_case));
        Ok(Kind::Text {
            value,
            ignores_case,
        })
    }

    fn pattern(&mut self) -> Result<Kind, GrammarError> {
        let place = self.place;
        let end = self.end_of('/');
        let end = end.ok_or_else(|| place.invalid("the regular expression does not end"))?;
        let source = self.take(end);
        let is_flag = |c: char| "imsluxn".contains(c);
        let length = self.rest.len() - self.rest.trim_start_matches(is_flag).len();
        let flags = self.take(length).to_owned();
        if let Some(flag) = flags.chars().find(|flag| "ln".contains(*flag)) {
            return Err(place.invalid(format!("the flag '{flag}' is not supported")));
        }
        Ok(Kind::Pattern(Pattern {
            source: source[1..source.len() - 1].to_owned(),
            flags,
        }))
    }

    fn directive(&mut self) -> Result<Kind, GrammarError> {
        let place = self.place;
        let is_letter = |c: char| c.is_ascii_lowercase();
        let length = self.rest.len() - self.rest[1..].trim_start_matches(is_letter).len();
        let name = self.take(length)[1..].to_owned();
        match name.as_str() {
            "ignore" | "import" => Ok(Kind::Directive(name)),
            "declare" | "override" | "extend" => {
                Err(place.invalid(format!("'%{name}' is not supported")))
            }
            "json" | "regex" | "lark" | "if" => {
                Err(place.unsupported(format!("'%{name}' is not supported")))
            }
            "llguidance" => {
                let mut values = serde_json::Deserializer::from_str(self.rest).into_iter();
                let Some(Ok(options)) = values.next() else {
                    return Err(place.invalid("'%llguidance' needs a JSON object"));
                };
                let length = values.byte_offset();
                self.take(length);
                Ok(Kind::Options(options))
            }
            _ => Err(place.invalid(format!("unknown directive '%{name}'"))),
        }
    }
}

/// A string with `\x41` as JSON has it: `\u0041`.
fn with_json_escapes(text: &str) -> String {
    let (mut written, mut escaped) = (String::with_capacity(text.len()), false);
    for character in text.chars() {
        if escaped && character == 'x' {
            written.push_str("u00");
        } else {
            written.push(character);
        }
        escaped = character == '\\' && !escaped;
    }
    written
}
