//! When a grammar begins: after the reasoning, which is unconstrained, or with the first token.

use serde_json::json;

use super::*;

fn after_reasoning(template: &str, begins: Begins) -> AnswerConstraint {
    let grammars = grammars();
    let syntax = Syntax::of(template, |_| false);
    let writer = Writer {
        syntax: &syntax,
        vocabulary: grammars.vocabulary(),
    };
    let source = writer.answer(
        Part::new("value", "the.schema", &json!({"type": "integer"})),
        None,
    );
    let beginning = Beginning {
        reasoning: syntax.reasoning(),
        begins,
        trigger: None,
    };
    AnswerConstraint::new(
        grammars.vocabulary(),
        compile(&grammars, source).unwrap(),
        beginning,
    )
}

#[test]
fn reasoning_is_free_and_the_answer_after_it_is_held() {
    let begun = || after_reasoning("<think>", Begins::Reasoning);
    assert!(may_be(begun(), "Hm, {\"x\": 7.</think>7"));
    assert!(may_be(begun(), "Hm.</think>\n\n7") && may_be(begun(), "</think>\n7"));
    assert!(!may_be(begun(), "Hm.</think>seven") && !may_be(begun(), "Hm.</think>\n\n\n7"));
    assert!(
        !may_be(begun(), "no end") && !allowed(&mut begun()).contains(&END),
        "reasoning is no answer"
    );
}

#[test]
fn a_model_may_begin_to_reason_by_itself_or_not() {
    let open = || after_reasoning("<think>", Begins::Text);
    assert!(may_be(open(), "7") && may_be(open(), "<think>Hm</think>7"));
    assert!(
        !may_be(open(), "Hm</think>7")
            && !may_be(open(), "<think>Hm</think>x")
            && !may_be(open(), "7<think>")
    );
}

#[test]
fn tags_that_are_several_tokens_are_tags_too() {
    let spelled = |text: &str| text.bytes().map(Token::from).collect::<Vec<_>>();
    let mut constraint = after_reasoning("<think>", Begins::Text);
    for token in spelled("<think>a < b</thi") {
        assert!(allowed(&mut constraint).contains(&token));
        constraint.accept(token).unwrap();
    }
    for token in spelled("nk") {
        constraint.accept(token).unwrap();
    }
    let crossing = FIRST_LONGER + 6;
    assert!(
        !allowed(&mut constraint).contains(&crossing),
        "a token that ends the tag and goes beyond it"
    );
    constraint.accept(Token::from(b'>')).unwrap();
    assert!(
        !allowed(&mut constraint).contains(&Token::from(b'x'))
            && allowed(&mut constraint).contains(&Token::from(b'7'))
    );
}

#[test]
fn harmonys_answer_is_a_message_of_its_own() {
    let open = || after_reasoning("<|channel|> <|message|>", Begins::Text);
    let reasoned =
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>7";
    assert!(may_be(open(), reasoned) && may_be(open(), "<|channel|>final<|message|>7"));
    assert!(!may_be(open(), "<|channel|>final<|message|>x") && !may_be(open(), "7"));
    assert!(!may_be(open(), "<|channel|>analysis<|message|>Hm.<|end|>7"));
}
