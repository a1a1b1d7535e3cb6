//! Calls in the syntax of each family: a grammar allows only calls, and everything that it allows
//! is parsed as calls.

use loggia_wire::openai::{FunctionDefinition, Tool};
use serde_json::json;

use super::*;
use crate::syntax::{CallRelease, Offered, Parsed, Reader, Watch};

/// Minimal templates, each with only the features by which a family is recognized, and a call in
/// the family's syntax.
pub(super) const FAMILIES: [(&str, &str); 10] = [
    (
        "tools <tool_call>",
        "<tool_call>\n{\"name\": \"time\", \"arguments\": {\"zone\":\"CET\"}}\n</tool_call>",
    ),
    (
        "tools <|python_tag|>",
        "{\"name\": \"time\", \"parameters\": {\"zone\":\"CET\"}}",
    ),
    (
        "tools [TOOL_CALLS]",
        "[TOOL_CALLS][{\"name\": \"time\", \"arguments\": {\"zone\":\"CET\"}}]",
    ),
    (
        "tools [TOOL_CALLS] [ARGS]",
        "[TOOL_CALLS]time[ARGS]{\"zone\":\"CET\"}",
    ),
    (
        "tools ```tool_code",
        "```tool_code\n{\"name\": \"time\", \"arguments\": {\"zone\":\"CET\"}}\n```",
    ),
    (
        "tools <|tool_call|>",
        "<|tool_call|>[{\"name\": \"time\", \"arguments\": {\"zone\":\"CET\"}}]<|/tool_call|>",
    ),
    (
        "tools <｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>time<｜tool▁sep｜>{\"zone\":\"CET\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        "tools <｜tool▁calls▁begin｜> ```json",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n```json\n{\"zone\":\"CET\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        "tools <|channel|> <|message|>",
        "<|channel|>commentary to=functions.time <|constrain|>json<|message|>{\"zone\":\"CET\"}",
    ),
    (
        "tools",
        "{\"name\": \"time\", \"arguments\": {\"zone\":\"CET\"}}",
    ),
];

pub(super) fn functions() -> Vec<FunctionDefinition> {
    serde_json::from_value(json!([
        {"name": "time", "parameters": {"type": "object", "properties": {"zone": {"enum": ["CET", "UTC"]}}, "required": ["zone"],
            "additionalProperties": false}},
        {"name": "timer", "strict": true, "parameters": {"properties": {"s": {"type": "integer"}}, "required": ["s"],
            "additionalProperties": false}},
        {"name": "stop"}
    ]))
    .unwrap()
}

/// An answer that must consist of calls.
fn forced(template: &str, several: bool) -> AnswerConstraint {
    let (grammars, functions) = (grammars(), functions());
    let functions: Vec<&FunctionDefinition> = functions.iter().collect();
    let syntax = Syntax::of(template, |_| false);
    let writer = Writer {
        syntax: &syntax,
        vocabulary: grammars.vocabulary(),
    };
    let grammar = compile(
        &grammars,
        writer.calls(Calls {
            functions: &functions,
            several,
            all_strict: true,
        }),
    )
    .unwrap();
    let beginning = Beginning {
        reasoning: syntax.reasoning(),
        begins: Begins::Text,
        trigger: None,
    };
    AnswerConstraint::new(grammars.vocabulary(), grammar, beginning)
}

fn read(template: &str, text: &str) -> Vec<Parsed> {
    read_as(Syntax::of(template, |_| false), text)
}

pub(super) fn read_as(syntax: Syntax, text: &str) -> Vec<Parsed> {
    let tools: Vec<Tool> = functions()
        .into_iter()
        .map(|f| serde_json::from_value(json!({"type": "function", "function": f})).unwrap())
        .collect();
    let mut reader = Reader::new(
        syntax,
        Arc::new(Offered::of(&tools)),
        Begins::Text,
        CallRelease::Complete,
    );
    let mut said: Vec<Parsed> = reader.push(text).collect();
    said.extend(reader.finish());
    said
}

#[test]
fn each_family_must_call_and_what_it_writes_is_read_as_a_call() {
    for (template, call) in FAMILIES {
        assert!(
            may_be(forced(template, false), call),
            "{template}: {:?}",
            goes_along(&mut forced(template, false), call)
        );
        for wrong in [
            call.replace("CET", "PST"),
            call.replace("time", "date"),
            "Hello".to_owned(),
            String::new(),
        ] {
            assert!(
                !may_be(forced(template, false), &wrong),
                "{template}: {wrong}"
            );
        }
        let expected = [
            Parsed::CallBegun {
                index: 0,
                name: "time".to_owned(),
            },
            Parsed::CallArguments {
                index: 0,
                more: "{\"zone\":\"CET\"}".to_owned(),
            },
        ];
        assert_eq!(read(template, call), expected, "{template}");
    }
}

#[test]
fn several_calls_come_only_where_they_may() {
    let one = FAMILIES[0].1;
    let two = format!(
        "{one}\n{}",
        one.replace(
            "{\"name\": \"time\", \"arguments\": {\"zone\":\"CET\"}}",
            "{\"name\": \"stop\", \"arguments\": {}}"
        )
    );
    assert!(
        may_be(forced("tools <tool_call>", true), &two)
            && !may_be(forced("tools <tool_call>", false), &two)
    );
    assert_eq!(read("tools <tool_call>", &two).len(), 4);
    let listed = "[TOOL_CALLS][{\"name\": \"stop\", \"arguments\": {}}, {\"name\": \"timer\", \"arguments\": {\"s\":5}}]";
    assert!(may_be(forced("tools [TOOL_CALLS]", true), listed));
    assert_eq!(read("tools [TOOL_CALLS]", listed).len(), 4);
}

#[test]
fn arguments_are_an_object_whatever_the_schema_leaves_open() {
    let call = |arguments: &str| format!("{{\"name\": \"stop\", \"arguments\": {arguments}}}");
    // A function without parameters is called with an empty object.
    assert!(
        may_be(forced("tools", false), &call("{}"))
            && !may_be(forced("tools", false), &call("{\"why\":[1]}"))
    );
    assert!(
        !may_be(forced("tools", false), &call("[1]"))
            && !may_be(forced("tools", false), &call("\"x\""))
    );
}

#[test]
fn an_answer_may_be_a_value_or_a_call_where_both_may_come() {
    let (grammars, functions) = (grammars(), functions());
    let functions: Vec<&FunctionDefinition> = functions.iter().collect();
    let syntax = Syntax::of("tools <tool_call>", |_| false);
    let writer = Writer {
        syntax: &syntax,
        vocabulary: grammars.vocabulary(),
    };
    let value = Part::new("value", "the.schema", &json!({"type": "integer"}));
    let calls = Calls {
        functions: &functions,
        several: false,
        all_strict: false,
    };
    let grammar = compile(&grammars, writer.answer(value, Some(calls))).unwrap();
    let beginning = Beginning {
        reasoning: None,
        begins: Begins::Text,
        trigger: None,
    };
    let constraint = AnswerConstraint::new(grammars.vocabulary(), grammar, beginning);
    assert!(
        may_be(constraint.clone(), "12")
            && may_be(constraint.clone(), FAMILIES[0].1)
            && !may_be(constraint, "x")
    );
}

/// The constraint of a model that may make calls, whose `strict` functions follow their schemas.
fn may_call() -> AnswerConstraint {
    let (grammars, functions) = (grammars(), functions());
    let functions: Vec<&FunctionDefinition> = functions.iter().collect();
    let syntax = Syntax::of("tools <tool_call> <think>", |_| false);
    let writer = Writer {
        syntax: &syntax,
        vocabulary: grammars.vocabulary(),
    };
    let Some(Watch::Mark(trigger)) = syntax.watch() else {
        panic!("no marker")
    };
    let calls = Calls {
        functions: &functions,
        several: true,
        all_strict: false,
    };
    let grammar = compile(&grammars, writer.rest_of_calls(calls, trigger.mark)).unwrap();
    let beginning = Beginning {
        reasoning: syntax.reasoning(),
        begins: Begins::Text,
        trigger: Some(trigger),
    };
    AnswerConstraint::new(grammars.vocabulary(), grammar, beginning)
}

#[test]
fn a_call_that_need_not_be_made_is_held_from_its_marker_on() {
    let timer = |seconds: &str| {
        format!(
            "<tool_call>\n{{\"name\": \"timer\", \"arguments\": {{\"s\":{seconds}}}}}\n</tool_call>"
        )
    };
    assert!(may_be(may_call(), "Just text, < and } and all."));
    for before in [
        "",
        "I set it: ",
        "<think>a <tool_call> thought of</think>\n",
        "<",
    ] {
        assert!(
            may_be(may_call(), &format!("{before}{}", timer("5"))),
            "{before}"
        );
        assert!(
            !may_be(may_call(), &format!("{before}{}", timer("\"5\""))),
            "{before}"
        );
    }
    assert!(may_be(
        may_call(),
        &format!("{}\nand\n{} done", timer("5"), timer("6"))
    ));
    assert!(!may_be(
        may_call(),
        &format!("{}{}", timer("5"), timer("x"))
    ));
    // For functions that are not strict, any object is valid.
    assert!(may_be(
        may_call(),
        "<tool_call>\n{\"name\": \"time\", \"arguments\": {\"zone\":\"PST\"}}\n</tool_call>"
    ));
    // The other form of a call, which no grammar covers, is forbidden from its first token.
    assert!(goes_along(&mut may_call(), "x<function=").is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_allowed_never_leads_to_where_nothing_is(
        family in 0..FAMILIES.len(), draws in proptest::collection::vec(0..10_000_usize, 400)
    ) {
        let mut constraint = forced(FAMILIES[family].0, true);
        let mut text = Vec::new();
        for draw in draws {
            if constraint.is_over() {
                break;
            }
            let mut row = vec![0.0; 256 + 2 + MARKERS.len() + LONGER.len()];
            proptest::prop_assert!(constraint.mask(&mut row).is_ok(), "after {}", String::from_utf8_lossy(&text));
            let next: Vec<Token> = (0..).zip(&row).filter(|(_, logit)| logit.is_finite()).map(|(token, _)| token).collect();
            // Closing characters get a higher probability, because otherwise no text would ever
            // end.
            let closes = |token: &Token| grammar_word(*token).chars().all(|c| "}]\", \n".contains(c));
            let closers: Vec<Token> = next.iter().copied().filter(closes).collect();
            let from = if draw % 2 == 0 && !closers.is_empty() { &closers } else { &next };
            let token = from[draw / 2 % from.len()];
            if constraint.accept(token).is_err() || token == END || token == OTHER_END {
                break;
            }
            text.extend_from_slice(grammar_word(token).as_bytes());
        }
    }
}

/// A token's text, for the message of a failed test.
fn grammar_word(token: Token) -> String {
    match token {
        0..=255 => char::from(u8::try_from(token).unwrap()).to_string(),
        _ if token >= FIRST_LONGER => LONGER[(token - FIRST_LONGER) as usize].to_owned(),
        _ if token >= FIRST_MARKER => MARKERS[(token - FIRST_MARKER) as usize].to_owned(),
        _ => String::new(),
    }
}
