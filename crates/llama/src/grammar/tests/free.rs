//! Optional calls, in syntaxes where no marker begins a call: everything that is allowed as text is
//! parsed as text, and everything that is parsed as a call follows its schema.

use loggia_wire::openai::FunctionDefinition;

use super::calls::{functions, read_as};
use super::*;
use crate::syntax::{Parsed, Watch};

const LLAMA: &str = "tools <|python_tag|>";
const HARMONY: &str = "tools <|channel|> <|message|>";

fn syntax(template: &str) -> Syntax {
    Syntax::of(template, |_| true).watched()
}

/// The constraint of an answer of text or calls. `timer` is strict and the other functions are not.
fn constraint(template: &str, several: bool) -> AnswerConstraint {
    let (grammars, functions) = (grammars(), functions());
    let functions: Vec<&FunctionDefinition> = functions.iter().collect();
    let syntax = syntax(template);
    assert_eq!(syntax.watch(), Some(Watch::Whole));
    let writer = Writer {
        syntax: &syntax,
        vocabulary: grammars.vocabulary(),
    };
    let source = text_or_calls(
        writer,
        Calls {
            functions: &functions,
            several,
            all_strict: false,
        },
    );
    let beginning = Beginning {
        reasoning: None,
        begins: Begins::Text,
        trigger: None,
    };
    AnswerConstraint::new(
        grammars.vocabulary(),
        compile(&grammars, source).unwrap(),
        beginning,
    )
}

/// The parsed output of an answer; `None` if the grammar does not allow it.
fn said(template: &str, text: &str) -> Option<Vec<Parsed>> {
    may_be(constraint(template, true), text).then(|| read_as(syntax(template), text))
}

fn call(index: u32, name: &str, arguments: &str) -> [Parsed; 2] {
    [
        Parsed::CallBegun {
            index,
            name: name.to_owned(),
        },
        Parsed::CallArguments {
            index,
            more: arguments.to_owned(),
        },
    ]
}

fn text(text: &str) -> Parsed {
    Parsed::Text(text.to_owned())
}

#[test]
fn llama_calls_with_an_object_that_keeps_to_its_schema_and_any_other_text_is_free() {
    for written in [
        r#"{"name": "timer", "parameters": {"s":5}}"#,
        r#" {"name": "timer", "arguments": {"s":5}}"#,
        "{\n  \"name\": \"timer\",\n  \"parameters\": {\"s\":5}\n}",
        r#"<|python_tag|>{"name": "timer", "parameters": {"s":5}}"#,
    ] {
        assert_eq!(
            said(LLAMA, written),
            Some(call(0, "timer", r#"{"s":5}"#).to_vec()),
            "{written}"
        );
    }
    for broken in [
        r#"{"name": "timer", "parameters": {"s":"5"}}"#,
        r#"{"name": "timer"}"#,
        r#"{"name": "timer", "s": 5}"#,
    ] {
        assert_eq!(said(LLAMA, broken), None, "{broken}");
    }
    let two =
        r#"{"name": "timer", "parameters": {"s":5}}; {"name": "stop", "parameters": {"any":[1]}}"#;
    assert_eq!(
        said(LLAMA, two),
        Some(
            [
                call(0, "timer", r#"{"s":5}"#),
                call(1, "stop", r#"{"any":[1]}"#)
            ]
            .concat()
        )
    );
    assert!(!may_be(constraint(LLAMA, false), two));
    for free in [
        "Hello, {\"name\": \"timer\"} is how.",
        "{}",
        "{x}",
        r#"{"answer": 4, "name": "timer"}"#,
        r#"{"type": "function", "name": "timer", "parameters": {"s":"x"}}"#,
        r#"{"name": "Ada", "parameters": {}}"#,
        r#"{"name": "timers"}"#,
        r#"{"name": {"first": "timer"}}"#,
        "{'a': 'dict'}",
        "  { \"names\": 1}",
    ] {
        assert_eq!(said(LLAMA, free), Some(vec![text(free)]), "{free}");
    }
    assert_eq!(said(LLAMA, ""), Some(vec![]));
    for hidden in [
        r#"{"n\u0061me": "timer"}"#,
        r#"{'name': "timer", "parameters": {}}"#,
        "x <|python_tag|>{\"name\": \"timer\"}",
    ] {
        assert_eq!(said(LLAMA, hidden), None, "{hidden}");
    }
}

#[test]
fn harmony_calls_with_a_message_that_keeps_to_its_schema_and_any_other_message_is_free() {
    let thought = "<|channel|>analysis<|message|>Set {it}: \"5\".<|end|><|start|>assistant";
    let reasoned = Parsed::Reasoning("Set {it}: \"5\".".to_owned());
    for header in [
        "<|channel|>commentary to=functions.timer <|constrain|>json<|message|>",
        "<|channel|>commentary to=functions.timer<|message|>",
        " to=functions.timer<|channel|>commentary json<|message|>",
    ] {
        let written = format!("{thought}{header}{{\"s\":5}}");
        let expected = [
            vec![reasoned.clone()],
            call(0, "timer", r#"{"s":5}"#).to_vec(),
        ]
        .concat();
        assert_eq!(said(HARMONY, &written), Some(expected), "{header}");
        assert_eq!(
            said(HARMONY, &written.replace('5', "\"5\"")),
            None,
            "{header}"
        );
        assert_eq!(
            said(HARMONY, &format!("{header}{{\"s\":\"5\"}}")),
            None,
            "{header}"
        );
        assert_eq!(
            said(HARMONY, &header.replace("timer", "nobody")),
            None,
            "{header}"
        );
    }
    let preamble = "<|channel|>commentary<|message|>I set it.<|end|><|start|>assistant<|channel|>commentary to=functions.stop <|constrain|>json<|message|>{\"any\":1}";
    let expected = [
        vec![text("I set it.")],
        call(0, "stop", r#"{"any":1}"#).to_vec(),
    ]
    .concat();
    assert_eq!(said(HARMONY, preamble), Some(expected));
    let answer =
        format!("{thought}<|channel|>final<|message|>Done, {{\"s\": 5}} to=functions.timer it is.");
    assert_eq!(
        said(HARMONY, &answer),
        Some(vec![
            reasoned,
            text("Done, {\"s\": 5} to=functions.timer it is.")
        ])
    );
}

#[test]
fn free_text_costs_little_for_each_token() {
    for (template, begin) in [
        (LLAMA, "Hello "),
        (HARMONY, "<|channel|>final<|message|>Hello "),
    ] {
        let mut constraint = constraint(template, true);
        goes_along(&mut constraint, begin).unwrap();
        let began = std::time::Instant::now();
        for _ in 0..200 {
            assert!(goes_along(&mut constraint, "and on").is_ok());
        }
        let each = began.elapsed() / 1200;
        assert!(
            each < std::time::Duration::from_millis(20),
            "{template}: {each:?}"
        );
    }
}
