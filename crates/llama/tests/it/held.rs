//! Constrained answers, by a model so small that it would not produce the form alone: at
//! temperature 1, several in parallel.

use crate::support::shape;
use crate::support::{Whole, ask, ask_choices, call, open};
use futures_util::StreamExt;
use futures_util::future::join_all;
use loggia_backend::{Backend, BackendError, Event};
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

fn json_schema(schema: &Value) -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}})
}

/// A tool for each of these names, with a schema for its arguments.
fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"], "additionalProperties": false});
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": "Says the weather", "parameters": parameters}});
    json!([tool("forecast"), tool("history")])
}

fn called(whole: &Whole) -> (String, Value) {
    let functions = || whole.calls.iter().filter_map(|call| call.function.as_ref());
    let name = functions()
        .filter_map(|function| function.name.as_deref())
        .collect();
    let arguments: String = functions()
        .filter_map(|function| function.arguments.as_deref())
        .collect();
    (
        name,
        serde_json::from_str(&arguments)
            .unwrap_or_else(|_| panic!("no JSON: {arguments}: {whole:?}")),
    )
}

fn keeps_to_parameters(arguments: &Value) -> bool {
    let parameters = &tools()[0]["function"]["parameters"];
    shape::keeps(parameters, parameters, arguments)
}

#[tokio::test]
async fn answers_keep_to_their_schemas_at_temperature_1_side_by_side() {
    let llama = open(|_| ());
    let ask_for = |(question, schema): (&'static str, Value)| {
        let llama = &llama;
        async move {
            let fields = json!({"response_format": json_schema(&schema), "temperature": 1, "max_tokens": 400, "n": 2});
            let whole = ask_choices(llama, call(question, fields)).await;
            for text in whole {
                let value: Value =
                    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
                assert!(
                    shape::keeps(&schema, &schema, &value),
                    "{value} does not keep to {schema}"
                );
            }
        }
    };
    // As many requests as the queue accepts.
    for some in shape::schemas().chunks(6) {
        join_all(some.iter().cloned().map(ask_for)).await;
    }
}

#[tokio::test]
async fn a_json_object_is_one_and_its_deltas_leave_as_they_are_generated() {
    let llama = open(|_| ());
    let fields =
        json!({"response_format": {"type": "json_object"}, "temperature": 0, "max_tokens": 300});
    let question = "Repeat: {\"city\": \"Rome\", \"country\": \"Italy\"}";
    let mut events = llama
        .start(call(question, fields).into())
        .await
        .unwrap()
        .events;
    let mut deltas = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Chunk(chunk) = event.unwrap() {
            deltas.extend(
                chunk
                    .choices
                    .into_iter()
                    .filter_map(|choice| choice.delta.content),
            );
        }
    }
    assert!(deltas.len() > 5, "{deltas:?}");
    assert!(
        serde_json::from_str::<Value>(&deltas.concat())
            .unwrap()
            .is_object()
    );
}

#[tokio::test]
async fn a_limit_of_tokens_still_cuts() {
    let llama = open(|_| ());
    // No valid value ends within three tokens. For `json_object`, one in a hundred does: `{}`.
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["city"],
        "properties": {"city": {"type": "string", "minLength": 20}}
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "city", "strict": true, "schema": schema}});
    let fields = json!({"response_format": format, "max_tokens": 3});
    assert_eq!(
        ask(&llama, call("Describe Rome in JSON.", fields))
            .await
            .finish,
        Some(FinishReason::Length)
    );
}

#[tokio::test]
async fn log_probabilities_are_of_the_model_and_not_of_the_grammar() {
    let llama = open(|_| ());
    let fields = json!({"response_format": json_schema(&json!({"const": "zebra"})), "logprobs": true, "temperature": 0});
    let whole = ask(&llama, call("Say hello.", fields)).await;
    assert_eq!(whole.text, "\"zebra\"");
    assert!(
        whole.logprobs.iter().map(|one| one.logprob).sum::<f64>() < -3.0,
        "{:?}",
        whole.logprobs
    );
}

#[tokio::test]
async fn a_call_that_must_be_made_is_made_by_a_model_that_knows_nothing_of_tools() {
    let llama = open(|_| ());
    for (choice, stream) in [
        (json!("required"), true),
        (json!("required"), false),
        (
            json!({"type": "function", "function": {"name": "history"}}),
            true,
        ),
    ] {
        let fields =
            json!({"tools": tools(), "tool_choice": choice, "stream": stream, "max_tokens": 200});
        let whole = ask(
            &llama,
            call("How is the weather in Rome this week?", fields),
        )
        .await;
        let (name, arguments) = called(&whole);
        assert!(keeps_to_parameters(&arguments), "{whole:?}");
        assert!(
            if choice == "required" {
                name == "forecast" || name == "history"
            } else {
                name == "history"
            },
            "{name}"
        );
        assert_eq!(
            (whole.text.as_str(), whole.finish),
            ("", Some(FinishReason::ToolCalls))
        );
    }
}

#[tokio::test]
async fn a_call_that_must_be_made_is_in_the_models_own_syntax_where_it_has_one() {
    let template = "{% for tool in tools or [] %}{{ tool | tojson }} <tool_call>{% endfor %}\
        {% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
    let llama = open(|options| options.chat_template = Some(template.to_owned()));
    let fields = json!({"tools": tools(), "tool_choice": "required", "parallel_tool_calls": false, "max_tokens": 200});
    let whole = ask(&llama, call("How is the weather in Oslo?", fields)).await;
    assert!(
        keeps_to_parameters(&called(&whole).1) && whole.finish == Some(FinishReason::ToolCalls),
        "{whole:?}"
    );
}

#[tokio::test]
async fn reasoning_stays_free_before_an_answer_that_is_held() {
    let template = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
        <|im_start|>assistant\n{% if enable_thinking %}<think>\nI think of a</think>{% endif %}";
    let llama = open(|options| options.chat_template = Some(template.to_owned()));
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    for effort in ["none", "low"] {
        let fields = json!({"response_format": json_schema(&schema), "reasoning_effort": effort, "max_tokens": 300});
        let whole = ask(&llama, call("How many legs has a dog?", fields)).await;
        let is_valid = || {
            serde_json::from_str::<Value>(&whole.text)
                .is_ok_and(|value| shape::keeps(&schema, &schema, &value))
        };
        // A small model may reason until the limit; then there is no answer.
        assert!(
            is_valid() || whole.text.is_empty() && whole.finish == Some(FinishReason::Length),
            "{whole:?}"
        );
    }
}

#[tokio::test]
async fn a_grammar_of_the_clients_own_holds() {
    let llama = open(|_| ());
    let fields = json!({"grammar": "root ::= \"The sum is \" [0-9]+ \".\"", "max_tokens": 40});
    let whole = ask(&llama, call("What is 2 + 3?", fields)).await;
    let number = whole
        .text
        .strip_prefix("The sum is ")
        .and_then(|rest| rest.strip_suffix('.'));
    assert!(
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())),
        "{whole:?}"
    );
    assert_eq!(whole.finish, Some(FinishReason::Stop));
}

#[tokio::test]
async fn what_cannot_be_held_is_refused_before_anything_is_generated() {
    let llama = open(|_| ());
    let unheld = json!({"type": "object", "properties": {"a": {"type": "string", "format": "uri", "minLength": 2500}}});
    let unheld = json!({"type": "function", "function": {"name": "f", "strict": true, "parameters": unheld}});
    let tool = json!({"type": "function", "function": {"name": "g"}});
    for (fields, param, says) in [
        (
            json!({"tools": [tool, unheld], "tool_choice": "required"}),
            "tools[1].function.parameters",
            "is empty",
        ),
        (
            json!({"grammar": "root ::= [a-z"}),
            "grammar",
            "'[' is not closed at line 1, column 10",
        ),
        (
            json!({"grammar": "root ::= root \"a\""}),
            "grammar",
            "left recursion",
        ),
        (json!({"grammar": 5}), "grammar", "must be a string"),
        (
            json!({"grammar": "root ::= \"a\"", "response_format": {"type": "json_object"}}),
            "grammar",
            "exclude",
        ),
        (
            json!({"response_format": json_schema(&json!({"type": "string", "format": "uri", "minLength": 2500}))}),
            "response_format.json_schema.schema",
            "is empty",
        ),
        (
            json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "other"}}}),
            "tool_choice",
            "not among",
        ),
    ] {
        let whole = ask(&llama, call("x", fields)).await;
        let Some(BackendError::InvalidRequest {
            message,
            param: Some(field),
            ..
        }) = &whole.error
        else {
            panic!("{whole:?}")
        };
        assert!(
            field == param && message.contains(says),
            "{field}: {message}"
        );
    }
}

#[tokio::test]
async fn a_form_that_turns_out_too_complex_is_the_requests_fault_and_its_field_is_named() {
    let llama = open(|_| ());
    let ambiguous = "root ::= a a a a a a a a a a a a\na ::= b | b b | \"\"\nb ::= [a-z] a | [a-y]";
    let nested = json!({"type": "string", "pattern": "^(?:(?:[a-z]{1,60}){1,60}b){1,60}$"});
    let schema = json_schema(&nested);
    let function = json!({"name": "note", "parameters": {"type": "object", "properties": {"text": nested}, "required": ["text"]}});
    let tools = json!([{"type": "function", "function": function}]);
    for (field, fields) in [
        ("grammar", json!({"grammar": ambiguous})),
        ("response_format", json!({"response_format": schema})),
        ("tools", json!({"tools": tools, "tool_choice": "required"})),
    ] {
        let mut all = json!({"max_tokens": 40, "temperature": 0});
        all.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        match ask(&llama, call("hi", all)).await.error {
            Some(BackendError::InvalidRequest { param, message, .. }) => {
                assert_eq!(param.as_deref(), Some(field), "{message}");
            }
            other => panic!("{field}: {other:?}"),
        }
    }
}

/// A URL of at least this many characters: above some length it is too complex to compile.
fn long_link() -> serde_json::Value {
    json!({"type": "object", "properties": {
        "link": {"type": "string", "format": "uri", "minLength": 2500},
        "short": {"type": "string", "maxLength": 3}
    }, "required": ["short"]})
}

#[tokio::test]
async fn a_schema_that_is_too_complex_loses_what_makes_it_so_unless_it_is_strict() {
    let llama = open(|_| ());
    let format = |strict: bool, schema: serde_json::Value| {
        json!({"temperature": 0, "max_tokens": 60, "response_format": {"type": "json_schema",
            "json_schema": {"name": "s", "strict": strict, "schema": schema}}})
    };
    let field = "response_format.json_schema.schema";
    let values: Vec<_> = (0..2500).map(|_| json!({"$ref": "#/$defs/a"})).collect();
    let references = json!({"type": "object", "properties": {"all": {"anyOf": values}}, "$defs": {"a": {"type": "string"}}});
    for (schema, ignored) in [
        (long_link(), format!("{field}#/properties/link/minLength")),
        (references, field.to_owned()),
    ] {
        let reply = llama
            .start(call("Hi", format(false, schema.clone())).into())
            .await
            .unwrap();
        assert_eq!(reply.served_by.ignored, [ignored]);
        let text = crate::support::read(reply.events).await.text;
        assert!(text.starts_with('{'), "{text}");

        let mut by_server = call("Hi", format(false, schema.clone()));
        by_server.head.strict = true;
        for refused in [by_server, call("Hi", format(true, schema))] {
            match ask(&llama, refused).await.error {
                Some(BackendError::InvalidRequest { param, code, .. }) => {
                    assert_eq!(param.as_deref(), Some(field));
                    assert_eq!(code.as_deref(), Some("invalid_json_schema"));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn of_several_tools_the_one_that_is_too_complex_loses_its_bounds_alone() {
    let llama = open(|_| ());
    let tool = |name: &str, strict: bool, parameters: serde_json::Value| json!({"type": "function", "function": {"name": name, "strict": strict, "parameters": parameters}});
    let plain = json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]});
    let asked = |strict: bool| {
        let tools = json!([
            tool("plain", false, plain.clone()),
            tool("odd", strict, long_link())
        ]);
        call(
            "Hi",
            json!({"temperature": 0, "max_tokens": 60, "tools": tools, "tool_choice": "required"}),
        )
    };
    let reply = llama.start(asked(false).into()).await.unwrap();
    let named = "tools[1].function.parameters#/properties/link/minLength";
    assert_eq!(reply.served_by.ignored, [named]);
    assert!(!crate::support::read(reply.events).await.calls.is_empty());
    match ask(&llama, asked(true)).await.error {
        Some(BackendError::InvalidRequest { param, .. }) => {
            assert_eq!(param.as_deref(), Some("tools[1].function.parameters"));
        }
        other => panic!("{other:?}"),
    }
}
