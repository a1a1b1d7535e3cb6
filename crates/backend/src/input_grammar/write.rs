//! Writes a grammar in llguidance's dialect of Lark.
//!
//! Names are replaced by numbers, and definitions without use are left out.

use std::fmt::Write as _;

use super::GrammarError;
use super::lark::{Definition, Ending, Lark, Node};
use super::pattern::Patterns;
use super::reach::Reach;
use super::tokens::Pattern;

/// The largest number of a repetition that llguidance reads.
const MOST_TIMES: u32 = i32::MAX.unsigned_abs();

/// Writes a grammar in Lark.
pub(super) fn lark(lark: &Lark) -> Result<String, GrammarError> {
    let mut writer = Writer {
        lark,
        reach: Reach::of(lark)?,
        patterns: Patterns::new(),
        lifted: Vec::new(),
    };
    let mut text = String::new();
    if lark.ignores_once {
        text.push_str("%llguidance {\"ignore_once\": true}\n");
    }
    for node in &lark.ignored {
        text.push_str("%ignore ");
        writer.node(node, Context::TERMINAL, &mut text)?;
        text.push('\n');
    }
    for (index, definition) in lark.definitions.iter().enumerate() {
        if writer.reach.has(index) {
            writer.definition(index, definition, &mut text)?;
        }
    }
    for lifted in &writer.lifted {
        text.push_str(lifted);
    }
    Ok(text)
}

/// Writes a grammar that is one regular expression.
pub(super) fn regex(source: &str) -> Result<String, GrammarError> {
    let pattern = Pattern {
        source: with_escaped_slashes(source),
        flags: String::new(),
    };
    Patterns::new().check(&pattern)?;
    let mut text = "start: ".to_owned();
    pattern_into(&pattern, &mut text);
    text.push('\n');
    Ok(text)
}

/// A regular expression without a slash that would end it.
fn with_escaped_slashes(source: &str) -> String {
    let (mut written, mut escaped) = (String::with_capacity(source.len()), false);
    for character in source.chars() {
        if character == '/' && !escaped {
            written.push('\\');
        }
        written.push(character);
        escaped = character == '\\' && !escaped;
    }
    written
}

fn pattern_into(pattern: &Pattern, text: &mut String) {
    // Two slashes begin a comment.
    if pattern.source.is_empty() {
        text.push_str("\"\"");
    } else {
        text.extend(["/", &pattern.source, "/", &pattern.flags]);
    }
}

/// Where a node stands.
#[derive(Clone, Copy)]
struct Context {
    in_terminal: bool,
    /// An operand that binds at least as tightly needs no brackets.
    level: Level,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Any,
    All,
    Sequence,
    Repeat,
    Atom,
}

impl Context {
    const TERMINAL: Self = Self {
        in_terminal: true,
        level: Level::Any,
    };

    fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }
}

struct Writer<'a> {
    lark: &'a Lark,
    reach: Reach<'a>,
    patterns: Patterns,
    /// Terminals that stand for complements in rules.
    lifted: Vec<String>,
}

impl Writer<'_> {
    fn definition(
        &mut self,
        index: usize,
        definition: &Definition,
        text: &mut String,
    ) -> Result<(), GrammarError> {
        self.name_into(index, text);
        let mut in_terminal = definition.is_terminal;
        match &definition.ending {
            Ending::Greedy => {}
            Ending::Lazy => {
                text.push_str("[lazy]");
                in_terminal = true;
            }
            Ending::Suffix(suffix) => {
                text.push_str("[suffix=");
                self.node(suffix, Context::TERMINAL.at(Level::Atom), text)?;
                text.push(']');
                in_terminal = true;
            }
        }
        text.push_str(": ");
        let context = Context {
            in_terminal,
            level: Level::Any,
        };
        self.node(&definition.body, context, text)?;
        text.push('\n');
        Ok(())
    }

    fn name_into(&self, index: usize, text: &mut String) {
        let definition = &self.lark.definitions[index];
        let _ = if definition.name == "start" {
            text.write_str("start")
        } else if definition.is_terminal {
            write!(text, "T{index}")
        } else {
            write!(text, "r{index}")
        };
    }

    fn node(
        &mut self,
        node: &Node,
        context: Context,
        text: &mut String,
    ) -> Result<(), GrammarError> {
        match node {
            Node::Any(all) => {
                let useful = all.iter().filter(|node| self.reach.can_match(node));
                self.list(&useful.collect::<Vec<_>>(), Level::Any, context, text)
            }
            Node::All(_) if !context.in_terminal => Err(GrammarError::invalid(
                "'&' can only be used in terminals, whose names are in upper case",
            )),
            Node::All(all) => self.list(&all.iter().collect::<Vec<_>>(), Level::All, context, text),
            Node::Sequence(all) if all.is_empty() => {
                text.push_str("\"\"");
                Ok(())
            }
            Node::Sequence(all) => self.list(
                &all.iter().collect::<Vec<_>>(),
                Level::Sequence,
                context,
                text,
            ),
            Node::Repeat { node, .. } if !self.reach.can_match(node) => {
                text.push_str("\"\"");
                Ok(())
            }
            Node::Repeat { node, least, most } => self.repeat(node, (*least, *most), context, text),
            Node::Not(node) => self.not(node, context, text),
            Node::Name(name) => {
                if let Some(index) = self.reach.index(&name.text) {
                    self.name_into(index, text);
                }
                Ok(())
            }
            Node::Text {
                value,
                ignores_case,
            } => {
                text.push_str(&string(value));
                text.push_str(if *ignores_case { "i" } else { "" });
                Ok(())
            }
            Node::Range(first, last) => {
                let (first, last) = (u32::from(*first), u32::from(*last));
                let _ = write!(text, r"/[\x{{{first:x}}}-\x{{{last:x}}}]/");
                Ok(())
            }
            Node::Pattern(pattern, place) => {
                pattern_into(pattern, text);
                self.patterns.check(pattern).map_err(|error| match error {
                    GrammarError::Invalid(message) => place.invalid(message),
                    GrammarError::Unsupported(message) => place.unsupported(message),
                })
            }
        }
    }

    fn list(
        &mut self,
        all: &[&Node],
        level: Level,
        context: Context,
        text: &mut String,
    ) -> Result<(), GrammarError> {
        let (between, tighter) = match level {
            Level::Any => (" | ", Level::All),
            Level::All => (" & ", Level::Sequence),
            _ => (" ", Level::Repeat),
        };
        let has_brackets = context.level > level;
        text.push_str(if has_brackets { "(" } else { "" });
        for (at, node) in all.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { between });
            self.node(node, context.at(tighter), text)?;
        }
        text.push_str(if has_brackets { ")" } else { "" });
        Ok(())
    }

    fn repeat(
        &mut self,
        node: &Node,
        (least, most): (u32, Option<u32>),
        context: Context,
        text: &mut String,
    ) -> Result<(), GrammarError> {
        if least > MOST_TIMES || most.is_some_and(|most| most > MOST_TIMES) {
            return Err(GrammarError::unsupported("a repetition is too long"));
        }
        let has_brackets = context.level > Level::Repeat;
        text.push_str(if has_brackets { "(" } else { "" });
        self.node(node, context.at(Level::Atom), text)?;
        let _ = match (least, most) {
            (0, None) => text.write_str("*"),
            (1, None) => text.write_str("+"),
            (0, Some(1)) => text.write_str("?"),
            (least, None) => write!(text, "{{{least},}}"),
            (least, Some(most)) => write!(text, "{{{least},{most}}}"),
        };
        text.push_str(if has_brackets { ")" } else { "" });
        Ok(())
    }

    /// Any other text. Bytes that are not UTF-8 are not among them.
    fn not(
        &mut self,
        node: &Node,
        context: Context,
        text: &mut String,
    ) -> Result<(), GrammarError> {
        let mut terminal = "(~".to_owned();
        self.node(node, Context::TERMINAL.at(Level::Atom), &mut terminal)?;
        terminal.push_str(" & /(?s:.*)/)");
        if context.in_terminal {
            text.push_str(&terminal);
            return Ok(());
        }
        let name = format!("NOT{}", self.lifted.len());
        text.push_str(&name);
        self.lifted.push(format!("{name}: {terminal}\n"));
        Ok(())
    }
}

/// A string as llguidance reads it: that of JSON, but for one more control character.
fn string(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}
