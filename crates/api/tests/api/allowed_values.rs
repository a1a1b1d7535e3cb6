//! Optional fields such as `service_tier` and `user`: a strict server refuses words, lengths and
//! formats that OpenAI's specification does not allow. Other servers list the field as ignored.

use loggia_api::{Policy, Strictness};
use serde_json::{Map, Value, json};

use crate::support::{chat, hello, plain_model, strict};

/// Asserts that a strict server refuses these fields with a 400, and that any other server lists
/// them as ignored.
async fn strict_refuses(cases: Vec<(Value, &str, &str)>) {
    for (fields, param, code) in cases {
        let answer = chat(&plain_model(), strict(), hello(fields.clone())).await;
        let error = &answer.json()["error"];
        let found = (answer.status(), &error["param"], &error["code"]);
        assert_eq!(
            found,
            (400, &json!(param), &json!(code)),
            "{fields}: {error}"
        );
        for strictness in [Strictness::Plain, Strictness::Lenient] {
            let policy = Policy {
                strictness,
                ..Policy::default()
            };
            let answer = chat(&plain_model(), policy, hello(fields.clone())).await;
            let named = answer
                .header("x-loggia-ignored")
                .unwrap_or_default()
                .to_owned();
            assert!(
                answer.status() == 200 && is_about(&named, param),
                "{fields}: {named:?}: {}",
                answer.text()
            );
        }
    }
}

/// Returns whether one of the names is the field's own, or that of a field that contains it.
fn is_about(names: &str, param: &str) -> bool {
    let place = |name: &str| name.replace(|letter: char| letter.is_ascii_digit(), "");
    names
        .split(", ")
        .any(|name| place(param).starts_with(&place(name)))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is what every caller has"
)]
fn user(part: Value) -> Value {
    json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]})
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn a_word_that_the_specification_does_not_have_is_named_and_strict_refuses_it_with_those_it_has()
 {
    let image = |detail: Value| {
        user(
            json!({"type": "image_url", "image_url": {"url": "https://a.example/a.png", "detail": detail}}),
        )
    };
    let sound = |format: Value| {
        user(json!({"type": "input_audio", "input_audio": {"data": "AA==", "format": format}}))
    };
    let mark =
        |mark: Value| user(json!({"type": "text", "text": "y", "prompt_cache_breakpoint": mark}));
    let search = |fields: Value| json!({"web_search_options": fields});
    let moderation = |policy: Value| json!({"moderation": {"model": "m", "policy": policy}});
    let audio = |format: &str| json!({"modalities": ["audio"], "audio": {"voice": "alloy", "format": format}});
    strict_refuses(vec![
        (
            json!({"service_tier": "gold"}),
            "service_tier",
            "invalid_value",
        ),
        (json!({"verbosity": "chatty"}), "verbosity", "invalid_value"),
        (json!({"verbosity": ""}), "verbosity", "invalid_value"),
        (
            json!({"reasoning_effort": "enormous"}),
            "reasoning_effort",
            "invalid_value",
        ),
        (
            json!({"prompt_cache_retention": "1h"}),
            "prompt_cache_retention",
            "invalid_value",
        ),
        (json!({"think": "nonsense"}), "think", "invalid_value"),
        (
            json!({"prompt_cache_options": {"ttl": "1h"}}),
            "prompt_cache_options.ttl",
            "invalid_value",
        ),
        (
            json!({"prompt_cache_options": {"mode": "x"}}),
            "prompt_cache_options.mode",
            "invalid_value",
        ),
        (
            json!({"modalities": ["text", "video"]}),
            "modalities[1]",
            "invalid_value",
        ),
        (
            json!({"tools": [{"type": "banana"}]}),
            "tools[0].type",
            "invalid_value",
        ),
        (
            json!({"prediction": {"type": "x", "content": "x"}}),
            "prediction.type",
            "invalid_value",
        ),
        (
            json!({"prediction": {"type": "content", "content": [{"type": "image", "text": "x"}]}}),
            "prediction.content[0].type",
            "invalid_value",
        ),
        (audio("ogg"), "audio.format", "invalid_value"),
        (
            search(json!({"search_context_size": "huge"})),
            "web_search_options.search_context_size",
            "invalid_value",
        ),
        (
            search(json!({"user_location": {"type": "exact", "approximate": {}}})),
            "web_search_options.user_location.type",
            "invalid_value",
        ),
        (
            moderation(json!({"input": {"mode": "x"}})),
            "moderation.policy.input.mode",
            "invalid_value",
        ),
        (
            image(json!("closely")),
            "messages[0].content[1].image_url.detail",
            "invalid_value",
        ),
        (
            sound(json!("ogg")),
            "messages[0].content[1].input_audio.format",
            "invalid_value",
        ),
        (
            mark(json!({"mode": "x"})),
            "messages[0].content[1].prompt_cache_breakpoint.mode",
            "invalid_value",
        ),
        (
            mark(json!({"mode": "explicit", "ttl": "1h"})),
            "messages[0].content[1].prompt_cache_breakpoint.ttl",
            "invalid_value",
        ),
    ])
    .await;
    for (fields, known) in [
        (
            json!({"verbosity": "chatty"}),
            "Supported values are: 'low', 'medium', 'high'.",
        ),
        (
            json!({"response_format": {"type": "yaml"}}),
            "Supported values are: 'text', 'json_object', 'json_schema'.",
        ),
    ] {
        let message =
            chat(&plain_model(), strict(), hello(fields)).await.json()["error"]["message"]
                .to_string();
        assert!(message.contains(known), "{message}");
    }
}

#[tokio::test]
async fn what_is_longer_than_the_specification_allows_is_named_and_strict_refuses_it() {
    let metadata = |entries: Vec<(String, Value)>| json!({"metadata": entries.into_iter().collect::<Map<_, _>>()});
    let many = (0..17)
        .map(|index| (index.to_string(), json!("x")))
        .collect();
    strict_refuses(vec![
        (
            json!({"safety_identifier": "é".repeat(129)}),
            "safety_identifier",
            "string_above_max_length",
        ),
        (metadata(many), "metadata", "object_above_max_properties"),
        (
            metadata(vec![("é".repeat(65), json!("x"))]),
            "metadata",
            "property_name_above_max_length",
        ),
        (
            metadata(vec![("a".to_owned(), json!("é".repeat(513)))]),
            "metadata.a",
            "string_above_max_length",
        ),
    ])
    .await;
    let largest = (0..16)
        .map(|index| (format!("{index:é>64}"), json!("é".repeat(512))))
        .collect();
    let fields = [
        metadata(largest),
        json!({"safety_identifier": "é".repeat(128)}),
    ];
    for (named, fields) in ["metadata", "safety_identifier"].into_iter().zip(fields) {
        let answer = chat(&plain_model(), Policy::default(), hello(fields)).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, Some(named)),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn what_is_of_another_type_within_a_hint_is_named_and_strict_refuses_it_with_its_place() {
    let prediction = |fields: Value| json!({"prediction": fields});
    strict_refuses(vec![
        (json!({"metadata": {"a": 1}}), "metadata.a", "invalid_type"),
        (json!({"prediction": "x"}), "prediction", "invalid_type"),
        (json!({"audio": "alloy"}), "audio", "invalid_type"),
        (json!({"prompt_cache_options": {"ttl": 30}}), "prompt_cache_options.ttl", "invalid_type"),
        (prediction(json!({})), "prediction.type", "missing_required_parameter"),
        (prediction(json!({"type": "content"})), "prediction.content", "missing_required_parameter"),
        (prediction(json!({"type": "content", "content": 7})), "prediction.content", "invalid_type"),
        (prediction(json!({"type": "content", "content": ["x"]})), "prediction.content[0]", "invalid_type"),
        (
            prediction(json!({"type": "content", "content": [{"type": "text"}]})),
            "prediction.content[0].text",
            "missing_required_parameter",
        ),
        (json!({"audio": {"format": "wav"}}), "audio.voice", "missing_required_parameter"),
        (json!({"audio": {"voice": "v"}}), "audio.format", "missing_required_parameter"),
        (json!({"audio": {"format": "wav", "voice": {}}}), "audio.voice.id", "missing_required_parameter"),
        (json!({"audio": {"format": "wav", "voice": 7}}), "audio.voice", "invalid_type"),
        (json!({"web_search_options": {"user_location": "here"}}), "web_search_options.user_location", "invalid_type"),
        (
            json!({"web_search_options": {"user_location": {"type": "approximate", "approximate": {"city": 1}}}}),
            "web_search_options.user_location.approximate.city",
            "invalid_type",
        ),
        (json!({"moderation": {}}), "moderation.model", "missing_required_parameter"),
        (
            json!({"moderation": {"model": "m", "policy": {"output": {}}}}),
            "moderation.policy.output.mode",
            "missing_required_parameter",
        ),
        (
            user(json!({"type": "text", "text": "y", "prompt_cache_breakpoint": true})),
            "messages[0].content[1].prompt_cache_breakpoint",
            "invalid_type",
        ),
        (
            json!({"messages": [{"role": "assistant", "audio": {}}, {"role": "user", "content": "x"}]}),
            "messages[0].audio.id",
            "missing_required_parameter",
        ),
    ])
    .await;
}
