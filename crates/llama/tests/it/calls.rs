//! Tools and reasoning on a real model. It is small and was not trained for either: earlier turns
//! show it the form, and only the form is tested.

use crate::support::{Whole, ask, call, call_with, open};
use loggia_backend::{Ability, Backend, ChatCall};
use loggia_llama::Llama;
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

/// The default model's template with support for tools and reasoning.
const TEMPLATE: &str = "{% if tools %}<|im_start|>system\nYou call tools.{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}<|im_end|>\n{% endif %}\
    {% for message in messages %}<|im_start|>{{ message.role }}\n\
    {% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>\n{% endif %}{{ message.content }}\
    {% for call in message.tool_calls or [] %}<tool_call>{\"name\": \"{{ call.function.name }}\", \"arguments\": {{ call.function.arguments | tojson }}}</tool_call>{% endfor %}\
    <|im_end|>\n{% endfor %}<|im_start|>assistant\n{% if enable_thinking %}<think>{% endif %}";

fn with_tools() -> Llama {
    open(|options| options.chat_template = Some(TEMPLATE.to_owned()))
}

/// A question about the weather, after four others that were answered with calls.
fn weather(fields: &Value) -> ChatCall {
    let mut messages = Vec::new();
    for city in ["Rome", "Berlin", "Madrid", "Oslo"] {
        let arguments = json!({"city": city}).to_string();
        messages.push(json!({"role": "user", "content": format!("Weather in {city}?")}));
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}]}));
    }
    messages.push(json!({"role": "user", "content": "Weather in Paris?"}));
    let mut all = json!({"temperature": 0, "max_tokens": 60, "tools": [{"type": "function", "function": {
        "name": "get_weather", "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]});
    for (name, value) in fields.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    call_with(Value::from(messages), all)
}

/// The name and the arguments of the first call.
fn called(whole: &Whole) -> (String, String) {
    let functions = || whole.calls.iter().filter_map(|call| call.function.as_ref());
    (
        functions()
            .filter_map(|function| function.name.as_deref())
            .collect(),
        functions()
            .filter_map(|function| function.arguments.as_deref())
            .collect(),
    )
}

#[tokio::test]
async fn what_a_model_writes_as_a_call_is_one() {
    let llama = with_tools();
    for stream in [true, false] {
        let whole = ask(
            &llama,
            weather(&json!({"stream": stream, "parallel_tool_calls": false})),
        )
        .await;
        assert_eq!(
            called(&whole),
            ("get_weather".to_owned(), r#"{"city":"Paris"}"#.to_owned()),
            "{whole:?}"
        );
        assert_eq!(whole.calls[0].id.as_deref(), Some("call_test_0"));
        assert_eq!(
            (whole.finish, whole.text.as_str()),
            (Some(FinishReason::ToolCalls), "")
        );
    }
}

#[tokio::test]
async fn a_call_that_the_length_cuts_is_text() {
    let llama = with_tools();
    let whole = ask(&llama, weather(&json!({"stream": false, "max_tokens": 12}))).await;
    assert!(
        whole.calls.is_empty() && whole.text.starts_with("<tool_call>"),
        "{whole:?}"
    );
    assert_eq!(whole.finish, Some(FinishReason::Length));
}

#[tokio::test]
async fn tools_that_may_not_be_called_are_not_told_of() {
    let llama = with_tools();
    let none = ask(&llama, weather(&json!({"tool_choice": "none"}))).await;
    let offered = ask(&llama, weather(&json!({}))).await;
    assert!(
        none.calls.is_empty() && none.usage().prompt_tokens + 30 < offered.usage().prompt_tokens,
        "{none:?}"
    );
}

#[tokio::test]
async fn thoughts_that_the_prompt_opened_are_reasoning() {
    let llama = with_tools();
    let whole = ask(
        &llama,
        call(
            "What is 2 + 2?",
            json!({"reasoning_effort": "low", "max_tokens": 20, "temperature": 0}),
        ),
    )
    .await;
    assert!(
        !whole.reasoning.is_empty() && whole.text.is_empty(),
        "{whole:?}"
    );
    let details = whole.usage().completion_tokens_details.clone().unwrap();
    assert_eq!(
        (details.reasoning_tokens, whole.usage().completion_tokens),
        (20, 20)
    );
    let none = ask(
        &llama,
        call(
            "What is 2 + 2?",
            json!({"reasoning_effort": "none", "max_tokens": 20}),
        ),
    )
    .await;
    assert!(
        none.reasoning.is_empty() && !none.text.is_empty(),
        "{none:?}"
    );
}

#[tokio::test]
async fn a_model_can_do_what_its_template_speaks_of() {
    let can = |llama: &Llama| {
        let abilities = futures_util::FutureExt::now_or_never(llama.abilities("smollm2"))
            .unwrap()
            .unwrap();
        [Ability::Tools, Ability::SingleToolCall, Ability::Reasoning]
            .map(|ability| abilities.has(ability))
    };
    assert_eq!(can(&with_tools()), [true; 3]);
    // The template does not support tools, so the prompt describes them.
    assert_eq!(can(&open(|_| ())), [true, true, false]);
}

#[tokio::test]
async fn a_model_whose_template_knows_nothing_of_tools_is_told_of_them_and_may_call() {
    let llama = open(|_| ());
    for stream in [true, false] {
        let whole = ask(&llama, weather(&json!({"stream": stream}))).await;
        assert_eq!(
            called(&whole),
            ("get_weather".to_owned(), r#"{"city":"Paris"}"#.to_owned()),
            "{whole:?}"
        );
        assert_eq!(
            (whole.finish, whole.text.as_str()),
            (Some(FinishReason::ToolCalls), "")
        );
    }
    let none = ask(
        &llama,
        weather(&json!({"tool_choice": "none", "temperature": 0})),
    )
    .await;
    assert!(none.calls.is_empty() && none.finish.is_some(), "{none:?}");
    let free = call(
        "Say hello.",
        json!({"tools": weather(&json!({})).work.tools, "temperature": 0, "max_tokens": 30}),
    );
    let free = ask(&llama, free).await;
    assert!(!free.text.is_empty() && free.calls.is_empty(), "{free:?}");
}

#[tokio::test]
async fn whatever_a_told_model_calls_keeps_to_the_schema() {
    let llama = open(|_| ());
    let parameters = json!({"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"], "additionalProperties": false});
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}]);
    let mut calls = 0;
    for seed in 0..8 {
        let whole = ask(
            &llama,
            weather(&json!({"tools": tools, "temperature": 1, "seed": seed, "max_tokens": 80})),
        )
        .await;
        if whole.finish == Some(FinishReason::ToolCalls) {
            calls += 1;
            let (name, arguments) = called(&whole);
            let arguments: Value = serde_json::from_str(&arguments).unwrap();
            assert!(
                name == "get_weather"
                    && ["Rome", "Oslo"].contains(&arguments["city"].as_str().unwrap()),
                "{whole:?}"
            );
            assert!(
                (1..=9).contains(&arguments["days"].as_i64().unwrap()),
                "{whole:?}"
            );
        } else {
            assert!(
                !whole.text.contains("<tool_call>{\"name\": \"get_weather\"")
                    || whole.finish == Some(FinishReason::Length),
                "{whole:?}"
            );
        }
    }
    assert!(calls > 0, "it never called");
}
