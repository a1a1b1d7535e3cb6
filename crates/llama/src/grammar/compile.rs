//! Compiles grammars: each once, with limits on size and steps, and on a separate thread, never on
//! the engine's.

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};

use super::cache::Cache;
use super::compiled::Grammar;
use super::ends::Ends;
use super::gbnf;
use super::machine::{Guided, Machine};
use super::source::{Part, Source};
use super::vocabulary::Vocabulary;

/// The maximum size of a grammar's text in bytes.
const LONGEST_SOURCE: usize = 256 << 10;

/// The maximum number of references in one schema: following one takes room on the stack.
const MOST_REFERENCES: usize = 2000;

/// The stack of the compiling thread. Schemas are nested, and compiling recurses.
const STACK: usize = 64 << 20;

/// The maximum number of symbols in a grammar.
const MOST_SYMBOLS: usize = 200_000;

/// The maximum number of lexer states of one answer: some KiB each.
const MOST_STATES: usize = 50_000;

/// Why a grammar could not be compiled, for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The request field at fault; empty if the cause is not in the request.
    pub(crate) param: String,
    pub(crate) message: String,
}

/// Compiles and caches the grammars of one model.
pub(crate) struct Grammars {
    vocabulary: Arc<Vocabulary>,
    factory: Arc<ParserFactory>,
    cache: Arc<Mutex<Cache>>,
    /// Only one grammar is compiled at a time, because compiling takes time from other requests.
    turn: Arc<Semaphore>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars")
            .field("vocabulary", &self.vocabulary)
            .finish_non_exhaustive()
    }
}

impl Grammars {
    /// Prepares compiling for a vocabulary. Takes some milliseconds.
    pub(crate) fn new(vocabulary: Vocabulary) -> Result<Self, String> {
        let mut factory =
            ParserFactory::new_simple(vocabulary.env()).map_err(|error| error.to_string())?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.max_grammar_size = MOST_SYMBOLS;
        limits.max_lexer_states = MOST_STATES;
        Ok(Self {
            vocabulary: Arc::new(vocabulary),
            factory: Arc::new(factory),
            cache: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// Returns the grammar of a source, from the cache or newly compiled.
    pub(crate) async fn compile(&self, source: Source) -> Result<Grammar, Refused> {
        if let Some(known) = self.known(&source) {
            return Ok(known);
        }
        let broken = || Refused {
            param: String::new(),
            message: "the grammar could not be compiled".to_owned(),
        };
        let turn = Arc::clone(&self.turn)
            .acquire_owned()
            .await
            .map_err(|_| broken())?;
        if let Some(known) = self.known(&source) {
            return Ok(known);
        }
        let (tell, told) = oneshot::channel();
        let (factory, vocabulary, cache) = (
            Arc::clone(&self.factory),
            Arc::clone(&self.vocabulary),
            Arc::clone(&self.cache),
        );
        let work = move || {
            let compiled = compile(&factory, &vocabulary, &source);
            if let Ok(grammar) = &compiled {
                lock(&cache).put(source, grammar.clone());
            }
            drop(turn);
            let _ = tell.send(compiled);
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

fn compile(
    factory: &ParserFactory,
    vocabulary: &Arc<Vocabulary>,
    source: &Source,
) -> Result<Grammar, Refused> {
    let param = match source {
        Source::Gbnf(_) => "grammar",
        Source::Guided { values, .. } => values.first().map_or("", |value| value.param.as_str()),
    };
    let refused = |message: String| Refused {
        param: param.to_owned(),
        message,
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
            let matcher = guided(factory, rules, values)?;
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
    machine
        .allowed()
        .map_err(|_| refused("nothing satisfies it".to_owned()))?;
    Ok(Grammar::new(machine))
}

fn guided(factory: &ParserFactory, rules: &str, values: &[Part]) -> Result<Matcher, Refused> {
    let mut grammars = vec![GrammarWithLexer::from_lark(rules.to_owned())];
    for value in values {
        grammars.push(json_value(value)?);
    }
    let parser = factory.create_parser(TopLevelGrammar {
        grammars,
        max_tokens: None,
    });
    let parser = parser.map_err(|error| at_fault(factory, values, &error.to_string()))?;
    Ok(Matcher::new(Ok(parser)))
}

fn json_value(value: &Part) -> Result<GrammarWithLexer, Refused> {
    let refused = |message: &str| Refused {
        param: value.param.clone(),
        message: message.to_owned(),
    };
    if value.schema.matches("\"$ref\"").count() > MOST_REFERENCES {
        return Err(refused("it has too many references"));
    }
    let schema: Value =
        serde_json::from_str(&value.schema).map_err(|_| refused("it is nested too deeply"))?;
    Ok(GrammarWithLexer {
        name: Some(value.name.clone()),
        ..GrammarWithLexer::from_json_schema(schema)
    })
}

/// Finds the schema at fault by compiling each one alone.
fn at_fault(factory: &ParserFactory, values: &[Part], message: &str) -> Refused {
    let alone = values.iter().find_map(|value| {
        let grammar = TopLevelGrammar::from_grammar(json_value(value).ok()?);
        let error = factory.create_parser(grammar).err()?;
        Some(Refused {
            param: value.param.clone(),
            message: plain(&error.to_string()),
        })
    });
    let param = values
        .first()
        .map(|value| value.param.clone())
        .unwrap_or_default();
    alone.unwrap_or_else(|| Refused {
        param,
        message: plain(message),
    })
}

/// llguidance's message in one line, without its advice for developers.
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
