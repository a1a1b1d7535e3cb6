//! Measures the cost of a grammar with a model's own vocabulary. It is run by hand, and
//! `docs/engine.md` has the figures: `LOGGIA_TEST_MODEL=FILE cargo test --release -p loggia-llama
//! --lib what_a_grammar_costs -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::model::Model;
use crate::options::LlamaOptions;

const ARGUMENTS: &str = r#"{"name": "Ada Lovelace", "born": 1815, "fields": ["mathematics", "poetry"], "note": "She wrote the first program, long before there was a machine to run it."}"#;

#[test]
#[ignore = "a measurement, and it needs a model"]
fn what_a_grammar_costs() {
    let path = std::env::var("LOGGIA_TEST_MODEL").unwrap();
    let model = Model::load(&LlamaOptions::new(path, "x")).unwrap();
    let began = Instant::now();
    let words = model.words();
    println!(
        "{} tokens read in {:?}",
        words.tokens.len(),
        began.elapsed()
    );
    let began = Instant::now();
    let grammars = Grammars::new(Vocabulary::new(words, None).unwrap()).unwrap();
    println!("the trie takes {:?}", began.elapsed());
    let object = json!({"type": "object", "properties": {"name": {"type": "string"}, "born": {"type": "integer"},
        "fields": {"type": "array", "items": {"type": "string"}}, "note": {"type": "string", "maxLength": 200}},
        "required": ["name", "born", "fields", "note"], "additionalProperties": false});
    let gbnf = "root ::= \"{\" pair (\", \" pair)* \"}\"\npair ::= string \": \" value\nvalue ::= string | [0-9]+ | \"[\" value (\", \" value)* \"]\"\nstring ::= \"\\\"\" [^\"\\\\]* \"\\\"\"";
    for (name, source) in [
        ("a schema", schema_source(&grammars, &object)),
        (
            "any object",
            schema_source(&grammars, &json!({"type": "object"})),
        ),
        ("gbnf", Source::Gbnf(gbnf.to_owned())),
    ] {
        let began = Instant::now();
        let grammar = compile(&grammars, source).unwrap();
        let compiled = began.elapsed();
        let beginning = Beginning {
            reasoning: None,
            begins: Begins::Text,
            trigger: None,
        };
        let began = Instant::now();
        let constraint = AnswerConstraint::new(grammars.vocabulary(), grammar, beginning);
        println!(
            "{name}: compiled in {compiled:?}, begun in {:?}",
            began.elapsed()
        );
        for round in ["the first time", "again"] {
            steps(&model, constraint.clone(), round);
        }
    }
}

fn schema_source(grammars: &Grammars, schema: &Value) -> Source {
    let writer = Writer {
        syntax: &plain_syntax(),
        vocabulary: grammars.vocabulary(),
    };
    writer.answer(Part::new("value", "x", schema), None)
}

fn steps(model: &Model, mut constraint: AnswerConstraint, round: &str) {
    let tokens = model
        .llama
        .vocab()
        .tokenize(ARGUMENTS.as_bytes(), false, false);
    let mut row = vec![0.0; model.facts.vocabulary];
    let mut times: Vec<Duration> = Vec::new();
    for token in &tokens {
        row.fill(0.0);
        let began = Instant::now();
        constraint.mask(&mut row).unwrap();
        constraint.accept(token.0.cast_unsigned()).unwrap();
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>() / u32::try_from(times.len()).unwrap();
    println!(
        "  {round}: {} tokens, mean {mean:?}, median {:?}, most {:?}",
        times.len(),
        times[times.len() / 2],
        times.last().unwrap()
    );
}
