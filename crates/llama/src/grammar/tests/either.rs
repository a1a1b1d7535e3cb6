//! A response format, reasoning and tools in one request. After its unconstrained reasoning, an
//! answer is a value of the schema or a call, in the syntax of each family. Everything that the
//! grammar allows is parsed as what it is.

use loggia_wire::openai::FunctionDefinition;
use serde_json::{Value, json};

use super::calls::{FAMILIES, functions, read_as};
use super::*;
use crate::syntax::Parsed;

/// Every family that is recognized by its template, and the models whose prompt describes the
/// tools.
fn families() -> impl Iterator<Item = (Syntax, String, bool)> {
    let known = FAMILIES.into_iter().map(|(template, call)| {
        let syntax = Syntax::of(&format!("{template} <think>"), |_| false);
        (syntax, call.to_owned(), template.contains("<|channel|>"))
    });
    let told =
        "<tool_call>{\"name\": \"time\", \"arguments\": {\"zone\":\"CET\"}}</tool_call>".to_owned();
    known.chain([(
        Syntax::of("<think>", |_| false).with_described_tools(),
        told,
        false,
    )])
}

fn chain() -> Value {
    json!({"$ref": "#/$defs/link", "$defs": {"link": {"type": "object", "additionalProperties": false, "required": ["n", "next"],
        "properties": {"n": {"type": "integer"}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/link"}]}}}}})
}

fn constraint(syntax: Syntax) -> AnswerConstraint {
    let (grammars, functions) = (grammars(), functions());
    let functions: Vec<&FunctionDefinition> = functions.iter().collect();
    let writer = Writer {
        syntax: &syntax,
        vocabulary: grammars.vocabulary(),
    };
    let calls = Calls {
        functions: &functions,
        several: true,
        all_strict: true,
    };
    let source = writer.answer(Part::new("value", "the.schema", &chain()), Some(calls));
    let beginning = Beginning {
        reasoning: syntax.reasoning(),
        begins: Begins::Text,
        trigger: None,
    };
    AnswerConstraint::new(
        grammars.vocabulary(),
        compile(&grammars, source).unwrap(),
        beginning,
    )
}

#[test]
fn after_free_reasoning_an_answer_is_a_value_of_the_schema_or_a_call_in_each_familys_syntax() {
    let value = r#"{"n": 1, "next": {"n": 2, "next": null}}"#;
    for (syntax, call, has_channels) in families() {
        let (thought, head) = if has_channels {
            (
                "<|channel|>analysis<|message|>{\"n\": \"x\"}<|end|><|start|>assistant",
                "<|channel|>final<|message|>",
            )
        } else {
            ("<think>{\"n\": \"x\"}</think>\n\n", "")
        };
        let reasoned = Parsed::Reasoning("{\"n\": \"x\"}".to_owned());
        let called = [
            Parsed::CallBegun {
                index: 0,
                name: "time".to_owned(),
            },
            Parsed::CallArguments {
                index: 0,
                more: "{\"zone\":\"CET\"}".to_owned(),
            },
        ];
        for (before, first) in [("", None), (thought, Some(reasoned))] {
            let of_value = format!("{before}{head}{value}");
            assert!(
                may_be(constraint(syntax), &of_value),
                "{of_value} {call} {:?}",
                goes_along(&mut constraint(syntax), &of_value)
            );
            let said: Vec<Parsed> = first
                .iter()
                .cloned()
                .chain([Parsed::Text(value.to_owned())])
                .collect();
            assert_eq!(joined(read_as(syntax, &of_value)), said, "{of_value}");
            let of_call = format!("{before}{call}");
            assert!(
                may_be(constraint(syntax), &of_call),
                "{of_call} {:?}",
                goes_along(&mut constraint(syntax), &of_call)
            );
            let said: Vec<Parsed> = first.iter().cloned().chain(called.clone()).collect();
            assert_eq!(joined(read_as(syntax, &of_call)), said, "{of_call}");
            for wrong in [
                of_value.replace("\"n\": 2", "\"n\": null"),
                of_value.replace(", \"next\": null", ""),
                format!("{of_value}{call}"),
                of_call.replace("CET", "PST"),
                of_call.replace("time", "date"),
                format!("{before}{head}Hello"),
                before.to_owned(),
            ] {
                assert!(!may_be(constraint(syntax), &wrong), "{wrong}");
            }
        }
    }
}

#[test]
fn a_call_that_is_an_object_keeps_to_what_its_schema_refers_to() {
    let function: FunctionDefinition = serde_json::from_value(json!({"name": "plan", "parameters": {
        "$id": "https://example.com/plan", "properties": {"const": {"$ref": "#/$defs/day"}, "next": {"$ref": "#"}}, "additionalProperties": false,
        "$defs": {"day": {"enum": ["Monday", {"$ref": "#/$defs/day"}]}}}}))
    .unwrap();
    let grammars = grammars();
    let syntax = Syntax::of("tools", |_| false);
    let writer = Writer {
        syntax: &syntax,
        vocabulary: grammars.vocabulary(),
    };
    let calls = Calls {
        functions: &[&function],
        several: false,
        all_strict: true,
    };
    let value = Part::new("value", "the.schema", &json!({"type": "integer"}));
    let grammar = compile(&grammars, writer.answer(value, Some(calls))).unwrap();
    let beginning = Beginning {
        reasoning: None,
        begins: Begins::Text,
        trigger: None,
    };
    let constraint = AnswerConstraint::new(grammars.vocabulary(), grammar, beginning);
    let call = |arguments: &str| format!("{{\"name\": \"plan\", \"arguments\": {arguments}}}");
    for right in [
        r#"{"const": "Monday"}"#,
        r##"{"const": {"$ref": "#/$defs/day"}}"##,
        r#"{"next": {"const": "Monday"}}"#,
    ] {
        assert!(may_be(constraint.clone(), &call(right)), "{right}");
    }
    for wrong in [r#"{"const": "Sunday"}"#, r#"{"next": {"const": 1}}"#, "7"] {
        assert!(!may_be(constraint.clone(), &call(wrong)), "{wrong}");
    }
}

/// Merges consecutive texts into one.
fn joined(said: Vec<Parsed>) -> Vec<Parsed> {
    let mut all: Vec<Parsed> = Vec::new();
    for one in said {
        match (all.last_mut(), one) {
            (Some(Parsed::Text(before)), Parsed::Text(more))
            | (Some(Parsed::Reasoning(before)), Parsed::Reasoning(more)) => {
                before.push_str(&more);
            }
            (_, one) => all.push(one),
        }
    }
    all
}
