//! Forced text: the tokens that must come next are those of the model's tokenizer, and allowed.

use serde_json::json;

use super::*;

/// Divides a text as the tokenizer of this test does: into the longest tokens.
fn longest(text: &str) -> Vec<Token> {
    let (mut rest, mut tokens) = (text, Vec::new());
    while let Some(&byte) = rest.as_bytes().first() {
        let word = LONGER.iter().zip(FIRST_LONGER..);
        let word = word.filter(|(word, _)| rest.starts_with(**word));
        let (token, length) = word
            .max_by_key(|(word, _)| word.len())
            .map_or((Token::from(byte), 1), |(word, token)| (token, word.len()));
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default();
    }
    tokens
}

/// The grammars of a model whose tokenizer is known.
fn forcing() -> Grammars {
    let vocabulary = Vocabulary::new(words(), Some(Box::new(longest)));
    Grammars::new(vocabulary.unwrap()).unwrap()
}

fn accept(constraint: &mut AnswerConstraint, tokens: &[Token]) {
    for &token in tokens {
        constraint.accept(token).unwrap();
    }
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"abcab": {"type": "boolean"}}, "required": ["abcab"], "additionalProperties": false})
}

#[test]
fn forced_text_has_the_tokens_of_the_tokenizer_but_for_those_that_could_be_longer() {
    let grammars = forcing();
    let mut constraint = of_schema(&grammars, &schema()).unwrap();
    // `{` may also be a part of `{"`.
    assert_eq!(constraint.forced(), [0; 0]);
    accept(&mut constraint, &longest("{\""));
    // The quote at the end may also be a part of `": `.
    assert_eq!(constraint.forced(), longest("abcab"));
    accept(&mut constraint, &longest("abcab"));
    assert_eq!(constraint.forced(), [0; 0]);
    assert_eq!(
        allowed(&mut constraint),
        [Token::from(b'"'), longest("\": ")[0]]
    );
    accept(&mut constraint, &longest("\": t"));
    // The model has begun the word itself, so it is not the token `true`.
    assert_eq!(constraint.forced(), longest("rue"));
    accept(&mut constraint, &longest("rue}"));
    assert!(constraint.is_over());
}

#[test]
fn a_choice_that_is_not_the_forced_token_ends_the_forced_text() {
    let grammars = forcing();
    let mut constraint = of_schema(&grammars, &schema()).unwrap();
    accept(&mut constraint, &longest("{\""));
    assert_eq!(constraint.forced(), longest("abcab"));
    accept(&mut constraint, &[Token::from(b'a')]);
    assert_eq!(constraint.forced(), longest("bcab"));
}

#[test]
fn gbnf_forces_text_too() {
    let grammars = forcing();
    let source = Source::Gbnf("root ::= \"xabc\" (\"12\" | \"1x\") \"}}\"".to_owned());
    let beginning = Beginning {
        reasoning: None,
        begins: Begins::Text,
        trigger: None,
    };
    let grammar = compile(&grammars, source).unwrap();
    let mut constraint = AnswerConstraint::new(grammars.vocabulary(), grammar, beginning);
    assert_eq!(constraint.forced(), longest("xabc"));
    accept(&mut constraint, &longest("xabc"));
    assert_eq!(constraint.forced(), [0; 0]);
    accept(&mut constraint, &longest("12"));
    assert_eq!(constraint.forced(), longest("}}"));
    accept(&mut constraint, &longest("}}"));
    assert!(constraint.is_over());
}

/// An answer with forced tokens, and otherwise the last allowed token. Each forced token must be
/// among those that the same grammar allows without the tokenizer.
fn follow(mut constraint: AnswerConstraint, mut free: AnswerConstraint) -> (String, usize) {
    let (mut text, mut forced) = (Vec::new(), 0);
    for _ in 0..400 {
        if constraint.is_over() {
            break;
        }
        let token = if let Some(&token) = constraint.forced().first() {
            forced += 1;
            token
        } else {
            let allowed = allowed(&mut constraint);
            assert!(allowed.iter().all(|&token| is_allowed(&mut free, token)));
            *allowed.iter().rfind(|token| **token != LINES).unwrap()
        };
        assert!(is_allowed(&mut free, token), "{token}");
        constraint.accept(token).unwrap();
        free.accept(token).unwrap();
        assert_eq!(constraint.is_over(), free.is_over());
        text.extend_from_slice(&words().tokens[token as usize]);
    }
    (String::from_utf8_lossy(&text).into_owned(), forced)
}

fn is_allowed(constraint: &mut AnswerConstraint, token: Token) -> bool {
    allowed(constraint).contains(&token)
}

#[test]
fn whatever_is_forced_is_allowed() {
    let (own, without) = (forcing(), grammars());
    let schemas = [
        schema(),
        json!({"type": "object", "properties": {"kind": {"const": "größe"}, "name": {"enum": ["é", "è", "ê"]}, "n": {"type": "null"}},
            "required": ["kind", "name", "n"], "additionalProperties": false}),
        json!({"type": "array", "items": {"enum": ["abab", "abba"]}, "minItems": 3, "maxItems": 3}),
        json!({"type": "object", "properties": {"<tool_call>": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["<tool_call>"], "additionalProperties": false}),
    ];
    for schema in schemas {
        let (text, forced) = follow(
            of_schema(&own, &schema).unwrap(),
            of_schema(&without, &schema).unwrap(),
        );
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        assert!(forced > 0, "{text}");
    }
}
