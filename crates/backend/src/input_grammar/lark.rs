//! Reads a grammar in Lark: rules, terminals and directives.

use std::collections::HashSet;

use serde_json::Value;

use super::GrammarError;
use super::common;
use super::tokens::{Kind, Pattern, Place, Token, split};

/// How deep brackets may be nested. llguidance refuses more.
const DEEPEST: usize = 24;

/// A grammar.
#[derive(Debug, Default)]
pub(super) struct Lark {
    pub(super) definitions: Vec<Definition>,
    /// The terminals of `%ignore`.
    pub(super) ignored: Vec<Node>,
    /// Whether an ignored terminal may stand only once between two others.
    pub(super) ignores_once: bool,
}

/// A rule or a terminal.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) is_terminal: bool,
    pub(super) body: Node,
    pub(super) ending: Ending,
}

/// Where the text of a rule ends.
#[derive(Debug, Default)]
pub(super) enum Ending {
    /// The text ends as late as possible.
    #[default]
    Greedy,
    /// The text ends as early as possible.
    Lazy,
    /// Behind the first text that matches this.
    Suffix(Node),
}

/// A part of a definition.
#[derive(Debug)]
pub(super) enum Node {
    Any(Vec<Node>),
    /// All of these, for one text. In terminals only.
    All(Vec<Node>),
    Sequence(Vec<Node>),
    Repeat {
        node: Box<Node>,
        least: u32,
        most: Option<u32>,
    },
    /// Any text that the node does not match. The node follows the rules of terminals.
    Not(Box<Node>),
    Name(Name),
    Text {
        value: String,
        ignores_case: bool,
    },
    /// The characters between two, inclusive.
    Range(char, char),
    Pattern(Pattern, Place),
}

/// A name of a rule or terminal, where it is used.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) place: Place,
}

/// Reads a definition.
pub(super) fn read(definition: &str) -> Result<Lark, GrammarError> {
    let mut reader = Reader {
        tokens: split(definition)?,
        at: 0,
        depth: 0,
        names: HashSet::new(),
        lark: Lark::default(),
    };
    while reader.skip_newlines() {
        reader.item()?;
    }
    Ok(reader.lark)
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    /// The number of open brackets.
    depth: usize,
    /// The defined names.
    names: HashSet<String>,
    lark: Lark,
}

impl Reader {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    /// The place of the next token.
    fn place(&self) -> Place {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or_else(Place::default, |token| token.place)
    }

    fn next(&mut self) -> Option<Kind> {
        let kind = self.peek().cloned();
        self.at += 1;
        kind
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Some(Kind::Sign(it)) if *it == sign)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_it = self.is_sign(sign);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: &str) -> Result<(), GrammarError> {
        if self.takes(sign) {
            return Ok(());
        }
        Err(self.place().invalid(format!("expected '{sign}'")))
    }

    /// Skips newlines. Returns whether any token is left.
    fn skip_newlines(&mut self) -> bool {
        while self.peek() == Some(&Kind::Newline) {
            self.at += 1;
        }
        self.peek().is_some()
    }

    fn item(&mut self) -> Result<(), GrammarError> {
        // `?` and `!` only shape Lark's parse tree, which is not used.
        while self.takes("?") || self.takes("!") {}
        let place = self.place();
        match self.next() {
            Some(Kind::Rule(name)) => self.definition(name, false, place),
            Some(Kind::Terminal(name)) => self.definition(name, true, place),
            Some(Kind::Directive(name)) if name == "ignore" => {
                let ignored = self.any()?;
                self.lark.ignored.push(ignored);
                self.end_of_item()
            }
            Some(Kind::Directive(_)) => self.import(place),
            Some(Kind::Options(options)) => self.options(&options, place),
            _ => Err(place.invalid("expected a rule, a terminal or a directive")),
        }
    }

    fn end_of_item(&self) -> Result<(), GrammarError> {
        match self.peek() {
            None | Some(Kind::Newline) => Ok(()),
            Some(_) => Err(self.place().invalid("expected the end of the line")),
        }
    }

    fn definition(
        &mut self,
        name: String,
        is_terminal: bool,
        place: Place,
    ) -> Result<(), GrammarError> {
        if self.is_sign("{") {
            return Err(place.invalid("templates are not supported"));
        }
        if self.is_sign(".") {
            return Err(place.invalid("priorities are not supported"));
        }
        let ending = if self.is_sign("[") && !is_terminal {
            self.attributes()?
        } else {
            Ending::Greedy
        };
        self.expect(":")?;
        let body = self.any()?;
        self.end_of_item()?;
        self.define(name, is_terminal, body, ending, place)
    }

    fn define(
        &mut self,
        name: String,
        is_terminal: bool,
        body: Node,
        ending: Ending,
        place: Place,
    ) -> Result<(), GrammarError> {
        if !self.names.insert(name.clone()) {
            return Err(place.invalid(format!("'{name}' is defined twice")));
        }
        self.lark.definitions.push(Definition {
            name,
            is_terminal,
            body,
            ending,
        });
        Ok(())
    }

    /// `[lazy]`, `[suffix="…"]`; `[capture]` has no effect on what may be written.
    fn attributes(&mut self) -> Result<Ending, GrammarError> {
        self.expect("[")?;
        let mut ending = Ending::Greedy;
        while !self.takes("]") {
            let place = self.place();
            let Some(Kind::Rule(name)) = self.next() else {
                return Err(place.invalid("expected the name of an attribute"));
            };
            match name.as_str() {
                "lazy" => ending = Ending::Lazy,
                "suffix" => {
                    self.expect("=")?;
                    ending = Ending::Suffix(self.value()?);
                }
                "capture" => {
                    if self.takes("=") {
                        self.value()?;
                    }
                }
                "stop" | "stop_capture" | "max_tokens" | "temperature" => {
                    let message = format!("the attribute '{name}' is not supported");
                    return Err(place.unsupported(message));
                }
                _ => return Err(place.invalid(format!("unknown attribute '{name}'"))),
            }
            if !self.takes(",") && !self.is_sign("]") {
                return Err(self.place().invalid("expected ',' or ']'"));
            }
        }
        Ok(ending)
    }

    fn options(&mut self, options: &Value, place: Place) -> Result<(), GrammarError> {
        let Value::Object(options) = options else {
            return Err(place.invalid("'%llguidance' needs a JSON object"));
        };
        let is_set = |name: &str| options.get(name) == Some(&Value::Bool(true));
        if is_set("allow_invalid_utf8") {
            return Err(place.unsupported("'allow_invalid_utf8' is not supported"));
        }
        self.lark.ignores_once |= is_set("ignore_once");
        Ok(())
    }

    /// `%import common.NAME`, `%import common.NAME -> OWN`, `%import common (ONE, OTHER)`.
    fn import(&mut self, place: Place) -> Result<(), GrammarError> {
        let library = self.next();
        if library != Some(Kind::Rule("common".to_owned())) {
            return Err(place.invalid("only terminals of 'common' can be imported"));
        }
        if self.takes("(") {
            loop {
                let name = self.terminal()?;
                self.define_common(&name, name.clone(), place)?;
                if !self.takes(",") {
                    break;
                }
            }
            self.expect(")")?;
        } else {
            self.expect(".")?;
            let name = self.terminal()?;
            let own = if self.takes("->") {
                self.terminal()?
            } else {
                name.clone()
            };
            self.define_common(&name, own, place)?;
        }
        self.end_of_item()
    }

    fn terminal(&mut self) -> Result<String, GrammarError> {
        let place = self.place();
        match self.next() {
            Some(Kind::Terminal(name)) => Ok(name),
            _ => Err(place.invalid("expected the name of a terminal")),
        }
    }

    fn define_common(&mut self, name: &str, own: String, place: Place) -> Result<(), GrammarError> {
        let source = common::terminal(name)
            .ok_or_else(|| place.invalid(format!("'common' has no terminal '{name}'")))?;
        let pattern = Pattern {
            source: source.to_owned(),
            flags: String::new(),
        };
        let body = Node::Pattern(pattern, place);
        self.define(own, true, body, Ending::Greedy, place)
    }

    /// Parses alternatives.
    fn any(&mut self) -> Result<Node, GrammarError> {
        if self.depth == DEEPEST {
            return Err(self.place().unsupported("brackets are nested too deeply"));
        }
        self.depth += 1;
        let mut all = vec![self.alternative()?];
        while self.takes_bar() {
            all.push(self.alternative()?);
        }
        self.depth -= 1;
        Ok(only(all, Node::Any))
    }

    /// Whether there is another alternative, perhaps on a following line.
    fn takes_bar(&mut self) -> bool {
        let before = self.at;
        self.skip_newlines();
        if self.takes("|") {
            return true;
        }
        self.at = before;
        false
    }

    fn alternative(&mut self) -> Result<Node, GrammarError> {
        let mut all = vec![self.sequence()?];
        while self.takes("&") {
            all.push(self.sequence()?);
        }
        if self.takes("->") {
            let place = self.place();
            if !matches!(self.next(), Some(Kind::Rule(_))) {
                return Err(place.invalid("expected the name of an alias"));
            }
        }
        Ok(only(all, Node::All))
    }

    fn sequence(&mut self) -> Result<Node, GrammarError> {
        let mut all = Vec::new();
        loop {
            match self.peek() {
                None | Some(Kind::Newline | Kind::Sign("|" | "&" | "->" | ")" | "]")) => break,
                Some(_) => all.push(self.repeated()?),
            }
        }
        Ok(only(all, Node::Sequence))
    }

    /// Parses an atom and its repetition.
    fn repeated(&mut self) -> Result<Node, GrammarError> {
        let node = self.atom()?;
        let place = self.place();
        let (least, most) = if self.takes("*") {
            (0, None)
        } else if self.takes("+") {
            (1, None)
        } else if self.takes("?") {
            (0, Some(1))
        } else if self.is_repeat() {
            self.at += 1;
            let least = self.number()?;
            let most = if self.takes("..") {
                self.number()?
            } else {
                least
            };
            (least, Some(most))
        } else if self.takes("{") {
            let least = if self.is_sign(",") { 0 } else { self.number()? };
            let most = if !self.takes(",") {
                Some(least)
            } else if self.is_sign("}") {
                None
            } else {
                Some(self.number()?)
            };
            self.expect("}")?;
            (least, most)
        } else {
            return Ok(node);
        };
        if most.is_some_and(|most| most < least || most == 0) {
            return Err(place.invalid("the numbers of a repetition are not a range"));
        }
        Ok(Node::Repeat {
            node: Box::new(node),
            least,
            most,
        })
    }

    /// Whether a tilde stands for a repetition here, and not for a complement.
    fn is_repeat(&self) -> bool {
        let next = self.tokens.get(self.at + 1).map(|token| &token.kind);
        self.is_sign("~") && matches!(next, Some(Kind::Number(_)))
    }

    fn number(&mut self) -> Result<u32, GrammarError> {
        let place = self.place();
        match self.next() {
            Some(Kind::Number(number)) => Ok(number),
            _ => Err(place.invalid("expected a number")),
        }
    }

    fn atom(&mut self) -> Result<Node, GrammarError> {
        if self.takes("~") {
            return Ok(Node::Not(Box::new(self.plain_atom()?)));
        }
        self.plain_atom()
    }

    fn plain_atom(&mut self) -> Result<Node, GrammarError> {
        if self.takes("(") {
            let node = self.any()?;
            self.expect(")")?;
            return Ok(node);
        }
        if self.takes("[") {
            let node = self.any()?;
            self.expect("]")?;
            return Ok(Node::Repeat {
                node: Box::new(node),
                least: 0,
                most: Some(1),
            });
        }
        self.value()
    }

    fn value(&mut self) -> Result<Node, GrammarError> {
        let place = self.place();
        match self.next() {
            Some(Kind::Text {
                value,
                ignores_case: false,
            }) if self.takes("..") => self.range(&value, place),
            Some(Kind::Text {
                value,
                ignores_case,
            }) => Ok(Node::Text {
                value,
                ignores_case,
            }),
            Some(Kind::Pattern(pattern)) => Ok(Node::Pattern(pattern, place)),
            Some(Kind::Rule(text) | Kind::Terminal(text)) => self.name(text, place),
            _ => Err(place.invalid("expected a name, a string or a regular expression")),
        }
    }

    fn range(&mut self, first: &str, place: Place) -> Result<Node, GrammarError> {
        let invalid = || place.invalid("a range needs one character on each side, in order");
        let Some(Kind::Text {
            value: last,
            ignores_case: false,
        }) = self.next()
        else {
            return Err(invalid());
        };
        let one = |text: &str| {
            let mut all = text.chars();
            all.next().filter(|_| all.next().is_none())
        };
        match (one(first), one(&last)) {
            (Some(first), Some(last)) if first <= last => Ok(Node::Range(first, last)),
            _ => Err(invalid()),
        }
    }

    fn name(&mut self, text: String, place: Place) -> Result<Node, GrammarError> {
        // `name{2}` and `name{,2}` are repetitions, `name{other}` is a template.
        let next = self.tokens.get(self.at + 1).map(|token| &token.kind);
        if self.is_sign("{") && !matches!(next, Some(Kind::Number(_) | Kind::Sign(","))) {
            return Err(place.invalid("templates are not supported"));
        }
        Ok(Node::Name(Name { text, place }))
    }
}

/// The only node, or all together.
fn only(mut nodes: Vec<Node>, all: impl FnOnce(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(node) if nodes.is_empty() => node,
        Some(node) => {
            nodes.push(node);
            all(nodes)
        }
        None => all(nodes),
    }
}
