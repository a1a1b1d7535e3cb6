//! Compiles grammars. Each is compiled once, with limits on size and steps, on a separate thread
//! and never on the engine's.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};

use super::cache::Cache;
use super::compiled::Grammar;
use super::ends::Ends;
use super::gbnf;
use super::inputs::{InputParser, QUOTES, Tries};
use super::machine::{Guided, Machine, Reading};
use super::part::{Part, PartText};
use super::source::Source;
use super::vocabulary::Vocabulary;

/// The maximum size of a grammar's text in bytes.
const LONGEST_SOURCE: usize = 256 << 10;

/// The maximum number of references in one schema. Following a reference takes stack memory.
const MOST_REFERENCES: usize = 2000;

/// The stack size of the compiling thread. Schemas are nested, and the compiler is recursive.
const STACK: usize = 64 << 20;

/// The maximum number of symbols in a grammar.
const MOST_SYMBOLS: usize = 200_000;

/// The maximum number of lexer states of one answer. Each takes some KiB.
const MOST_STATES: usize = 50_000;

/// The message for a grammar that no answer satisfies.
const UNSATISFIABLE: &str = "nothing satisfies it";

/// Why a grammar could not be compiled, for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CompileError {
    /// The path of the request field at fault. Empty if the cause is not in the request.
    pub(crate) param: String,
    pub(crate) message: String,
    /// Whether no engine could use the grammar.
    pub(crate) is_invalid: bool,
}

/// The parts of a model that compiling needs.
struct Compiler {
    vocabulary: Arc<Vocabulary>,
    factory: ParserFactory,
    /// Initialized with the first grammar of a custom tool.
    tries: OnceLock<Result<Arc<Tries>, String>>,
}

impl Compiler {
    fn tries(&self) -> Result<Arc<Tries>, String> {
        let make = || Tries::of(&self.vocabulary).map(Arc::new);
        self.tries.get_or_init(make).clone()
    }
}

/// Compiles and caches the grammars of one model.
pub(crate) struct Grammars {
    compiler: Arc<Compiler>,
    cache: Arc<Mutex<Cache>>,
    /// Allows one compilation at a time, because compiling takes processor time from other
    /// requests.
    turn: Arc<Semaphore>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars")
            .field("vocabulary", self.vocabulary())
            .finish_non_exhaustive()
    }
}

impl Grammars {
    /// Creates the compiler for a vocabulary. This takes some milliseconds.
    pub(crate) fn new(vocabulary: Vocabulary) -> Result<Self, String> {
        let mut factory =
            ParserFactory::new_simple(vocabulary.env()).map_err(|error| error.to_string())?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.max_grammar_size = MOST_SYMBOLS;
        limits.max_lexer_states = MOST_STATES;
        Ok(Self {
            compiler: Arc::new(Compiler {
                vocabulary: Arc::new(vocabulary),
                factory,
                tries: OnceLock::new(),
            }),
            cache: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.compiler.vocabulary
    }

    /// Returns the grammar of a source, from the cache or newly compiled.
    pub(crate) async fn compile(&self, source: Source) -> Result<Grammar, CompileError> {
        if let Some(known) = self.known(&source) {
            return Ok(known);
        }
        let broken = || CompileError {
            param: String::new(),
            message: "the grammar could not be compiled".to_owned(),
            is_invalid: false,
        };
        let turn = Arc::clone(&self.turn)
            .acquire_owned()
            .await
            .map_err(|_| broken())?;
        if let Some(known) = self.known(&source) {
            return Ok(known);
        }
        let (tell, told) = oneshot::channel();
        let (compiler, cache) = (Arc::clone(&self.compiler), Arc::clone(&self.cache));
        let work = move || {
            let result = compile(&compiler, &source);
            if let Ok(grammar) = &result {
                lock(&cache).put(source, grammar.clone());
            }
            drop(turn);
            let _ = tell.send(result);
        };
        // A panic ends the thread and closes the channel, which is reported as an error.
        let thread = std::thread::Builder::new()
            .name("loggia-grammar".to_owned())
            .stack_size(STACK)
            .spawn(work);
        thread.map_err(|_| broken())?;
        told.await.map_err(|_| broken())?
    }

    fn known(&self, source: &Source) -> Option<Grammar> {
        lock(&self.cache).get(source)
    }

    #[cfg(test)]
    pub(super) fn cached(&self) -> usize {
        lock(&self.cache).len()
    }
}

fn lock(cache: &Mutex<Cache>) -> std::sync::MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

fn compile(compiler: &Compiler, source: &Source) -> Result<Grammar, CompileError> {
    let Compiler {
        factory,
        vocabulary,
        ..
    } = compiler;
    let param = match source {
        Source::Gbnf(_) => "grammar",
        Source::Guided { values, .. } => {
            let largest = values.iter().max_by_key(|value| value.size());
            largest.map_or("", |value| value.param.as_str())
        }
    };
    let refused = |message: String| CompileError {
        param: param.to_owned(),
        message,
        is_invalid: false,
    };
    if source.size() > LONGEST_SOURCE {
        return Err(refused("it is too large".to_owned()));
    }
    let mut machine = match source {
        Source::Guided {
            rules,
            values,
            scope,
        } => {
            let matcher = guided(compiler, rules, values)?;
            let (ends, vocabulary) = (Ends::new(*scope), Arc::clone(vocabulary));
            Machine::Guided(Box::new(Guided {
                matcher,
                ends,
                vocabulary,
            }))
        }
        Source::Gbnf(text) => {
            let rules = gbnf::read(text).map_err(|error| refused(error.to_string()))?;
            Machine::Gbnf(Box::new(gbnf::Machine::new(rules, Arc::clone(vocabulary))))
        }
    };
    // This detects grammars that nothing can satisfy, and does the work for the first token once
    // for all answers.
    machine.allowed().map_err(|_| match source {
        Source::Guided { values, .. } => at_fault(factory, values, UNSATISFIABLE),
        Source::Gbnf(_) => refused(UNSATISFIABLE.to_owned()),
    })?;
    Ok(Grammar::new(machine))
}

fn guided(compiler: &Compiler, rules: &str, values: &[Part]) -> Result<Reading, CompileError> {
    let factory = &compiler.factory;
    let mut grammars = vec![GrammarWithLexer::from_lark(rules.to_owned())];
    for value in values {
        grammars.push(alone(value)?);
    }
    let has_inputs = values.iter().any(Part::is_input);
    if has_inputs {
        grammars.extend(QUOTES.map(|(name, rules)| GrammarWithLexer {
            name: Some(name.to_owned()),
            ..GrammarWithLexer::from_lark(rules.to_owned())
        }));
    }
    // The mask of the first token does not depend on the input of a custom tool, which begins
    // later.
    let mut inputs = values.iter().filter(|value| value.is_input());
    if let Some(refused) = inputs.find_map(|input| fault(factory, input)) {
        return Err(refused);
    }
    let parser = factory.create_parser(TopLevelGrammar {
        grammars,
        max_tokens: None,
    });
    let parser = parser.map_err(|error| at_fault(factory, values, &error.to_string()))?;
    if !has_inputs {
        return Ok(Reading::Plain(Box::new(Matcher::new(Ok(parser)))));
    }
    let tries = compiler.tries().map_err(|message| CompileError {
        param: String::new(),
        message,
        is_invalid: false,
    })?;
    Ok(Reading::Inputs(Box::new(InputParser::new(
        parser.parser,
        tries,
    ))))
}

/// The grammar of a part.
fn alone(part: &Part) -> Result<GrammarWithLexer, CompileError> {
    let refused = |message: &str| CompileError {
        param: part.param.clone(),
        message: message.to_owned(),
        is_invalid: false,
    };
    let grammar = match &part.text {
        PartText::Rules(rules) => GrammarWithLexer::from_lark(rules.clone()),
        PartText::Schema(schema) => {
            if schema.matches("\"$ref\"").count() > MOST_REFERENCES {
                return Err(refused("it has too many references"));
            }
            let schema: Value =
                serde_json::from_str(schema).map_err(|_| refused("it is nested too deeply"))?;
            GrammarWithLexer::from_json_schema(schema)
        }
    };
    Ok(GrammarWithLexer {
        name: Some(part.name.clone()),
        ..grammar
    })
}

/// The error of one part, found by compiling it alone.
fn fault(factory: &ParserFactory, part: &Part) -> Option<CompileError> {
    let grammar = match alone(part) {
        Ok(grammar) => TopLevelGrammar::from_grammar(grammar),
        Err(refused) => return Some(refused),
    };
    let message = match factory.create_parser(grammar) {
        Err(error) => plain(&error.to_string()),
        Ok(parser) => {
            let mut matcher = Matcher::new(Ok(parser));
            matcher.compute_mask().err()?;
            UNSATISFIABLE.to_owned()
        }
    };
    Some(CompileError {
        param: part.param.clone(),
        message,
        is_invalid: false,
    })
}

/// Finds the part at fault by compiling each one alone.
fn at_fault(factory: &ParserFactory, values: &[Part], message: &str) -> CompileError {
    let at_fault = values.iter().find_map(|value| fault(factory, value));
    let param = values
        .first()
        .map(|value| value.param.clone())
        .unwrap_or_default();
    at_fault.unwrap_or_else(|| CompileError {
        param,
        message: plain(message),
        is_invalid: false,
    })
}

/// Returns llguidance's message in one line, without its advice for developers.
fn plain(message: &str) -> String {
    let message = message.replace(
        "Enable 'coerce_one_of' option to approximate oneOf with anyOf",
        "unless only one can match",
    );
    let words: Vec<&str> = message
        .split_whitespace()
        .filter(|word| *word != "<non-verbose/>")
        .collect();
    words.join(" ").chars().take(300).collect()
}
