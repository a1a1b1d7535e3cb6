//! Hostile or huge schemas cause an error and do not end the process.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::*;

#[test]
fn a_grammar_is_compiled_once_and_those_unused_for_longest_go() {
    let grammars = grammars();
    for number in 0..100 {
        of_schema(&grammars, &json!({"const": number})).unwrap();
        of_schema(&grammars, &json!({"const": 0})).unwrap();
    }
    assert_eq!(grammars.cached(), 64);
}

#[test]
fn chains_of_references_end_in_an_answer() {
    for length in [500, 5000] {
        let mut all: Map<String, Value> = (0..length)
            .map(|i| {
                (
                    format!("a{i}"),
                    json!({"$ref": format!("#/$defs/a{}", i + 1)}),
                )
            })
            .collect();
        all.insert(format!("a{length}"), json!({"type": "integer"}));
        let constraint = of_schema(&grammars(), &json!({"$ref": "#/$defs/a0", "$defs": all}));
        assert_eq!(constraint.is_ok(), length == 500, "{:?}", constraint.err());
    }
}

#[test]
fn schemas_that_would_take_for_ever_are_cut_short() {
    let several = |number: usize| -> Value {
        (0..number)
            .map(|i| json!({"properties": {format!("p{i}"): {"type": "integer"}}}))
            .collect()
    };
    let hostile = [
        json!({"allOf": vec![json!({"anyOf": several(30)}); 8]}),
        json!({"type": "string", "pattern": "^((a{1,200}){1,200}){1,200}$", "minLength": 100_000}),
        json!({"type": "string", "pattern": "(a|b)*c.{200}d.{200}(e|f)*"}),
        json!({"type": "array", "items": {"type": "string", "maxLength": 1_000_000_000}, "minItems": 1_000_000_000}),
        json!({"enum": (0..20_000).map(|i| format!("value number {i}")).collect::<Vec<_>>()}),
        json!({"type": "object", "patternProperties": {"a.*b.*c": {}, "x.*y.*z": {}}}),
    ];
    for schema in hostile {
        let began = Instant::now();
        let _ = of_schema(&grammars(), &schema);
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:.80}",
            schema.to_string()
        );
    }
}

#[test]
fn a_vocabulary_that_cannot_be_held_is_none_and_no_panic() {
    let words = |tokens: Vec<Vec<u8>>| Words {
        tokens,
        ..Words::default()
    };
    let vocabulary = |words| Vocabulary::new(words, None);
    assert!(vocabulary(words(Vec::new())).is_none());
    assert!(vocabulary(words(vec![vec![b'x'; 900]; 10_000])).is_none());
    assert!(vocabulary(words(vec![vec![b'x'; 5000], b"a".to_vec(), b"a".to_vec()])).is_some());
    assert!(
        vocabulary(Words {
            ends: vec![7],
            ..words(vec![b"a".to_vec()])
        })
        .is_none()
    );
}
