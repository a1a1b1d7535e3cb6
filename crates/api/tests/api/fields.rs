//! The treatment of each field: honoured, emulated, listed as ignored, or refused
//! (`docs/dialects.md`, parts 2 and 3).

use crate::support::{Answer, Scripted, chat, hello, plain_model};
use loggia_api::{ModelPolicy, Policy, Strictness};
use serde_json::{Value, json};

fn with(strictness: Strictness) -> Policy {
    Policy {
        strictness,
        ..Policy::default()
    }
}

fn refused(answer: &Answer, param: &str) {
    let error = answer.json()["error"].clone();
    assert_eq!(answer.status(), 400, "{error}");
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!(param), &json!("unsupported_parameter"))
    );
}

fn user(part: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": [part]}]})
}

/// Fields that Ollama cannot honour for a plain model, with their names in `x-loggia-ignored`.
fn without_effect() -> Vec<(&'static str, Value)> {
    let image = user(
        &json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}),
    );
    let sound =
        user(&json!({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}));
    let file = user(&json!({"type": "file", "file": {"file_id": "file-1"}}));
    let aloud =
        json!([{"role": "assistant", "audio": {"id": "a"}}, {"role": "user", "content": "x"}]);
    let hosted = |tool: Value| json!({"tools": [tool]});
    vec![
        (
            "tools[].type",
            json!({"tools": [{"type": "image_generation"}], "tool_choice": "none"}),
        ),
        (
            "tools[].type, tool_choice",
            json!({"tools": [{"type": "web_search"}], "tool_choice": "auto"}),
        ),
        (
            "tools[].type",
            hosted(
                json!({"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}),
            ),
        ),
        (
            "tools[].type",
            hosted(
                json!({"type": "mcp", "server_label": "s", "server_url": "https://mcp.example"}),
            ),
        ),
        (
            "tools[].type",
            hosted(json!({"type": "banana", "function": 7})),
        ),
        ("logit_bias", json!({"logit_bias": {"5": 1}})),
        ("reasoning_effort", json!({"reasoning_effort": "high"})),
        ("reasoning_effort", json!({"reasoning_effort": "enormous"})),
        ("messages[].content[].image_url", image),
        ("messages[].content[].input_audio", sound),
        ("messages[].content[].file", file),
        ("messages[].audio", json!({"messages": aloud})),
        ("modalities", json!({"modalities": ["text", "audio"]})),
        (
            "audio, modalities",
            json!({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}),
        ),
        ("web_search_options", json!({"web_search_options": {}})),
        (
            "moderation",
            json!({"moderation": {"model": "omni-moderation-latest"}}),
        ),
        ("think", json!({"think": true})),
    ]
}

#[tokio::test]
async fn what_the_model_cannot_do_is_dropped_and_named_and_strict_refuses_it() {
    for (names, fields) in without_effect() {
        for strictness in [Strictness::Plain, Strictness::Lenient] {
            let inner = plain_model();
            let answer = chat(&inner, with(strictness), hello(fields.clone())).await;
            assert_eq!(
                (answer.status(), answer.header("x-loggia-ignored")),
                (200, Some(names)),
                "{}",
                answer.text()
            );
            let sent = inner.last_chat();
            for gone in ["tools", "think", "format", "logit_bias"] {
                assert_eq!(sent.get(gone), None, "{names}");
            }
            assert_eq!(
                sent["messages"]
                    .as_array()
                    .and_then(|messages| messages[0].get("images")),
                None,
                "{names}"
            );
        }
        let answer = chat(
            &plain_model(),
            with(Strictness::Strict),
            hello(fields.clone()),
        )
        .await;
        let error = answer.json()["error"].clone();
        let first = names.split([',', '[', '.']).next();
        let param = error["param"]
            .as_str()
            .and_then(|param| param.split(['[', '.']).next().map(str::to_owned));
        assert_eq!(
            (answer.status(), param.as_deref()),
            (400, first),
            "{fields}: {error}"
        );
    }
}

/// Fields that protect the client from a wrong answer. By default they are refused, not dropped.
fn guarantees() -> Vec<(&'static str, Value)> {
    let tools = json!([{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}]);
    let hosted = json!([{"type": "web_search"}]);
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "web_search"}]}});
    vec![
        ("grammar", json!({"grammar": "root ::= \"a\""})),
        (
            "tool_choice.type",
            json!({"tools": tools, "tool_choice": {"type": "web_search"}}),
        ),
        (
            "tool_choice.type",
            json!({"tools": hosted, "tool_choice": {"type": "web_search"}}),
        ),
        (
            "tool_choice",
            json!({"tools": hosted, "tool_choice": "required"}),
        ),
        (
            "tool_choice",
            json!({"tools": tools, "tool_choice": allowed}),
        ),
        ("tool_choice", json!({"tool_choice": "required"})),
        (
            "tool_choice",
            json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ),
        ("function_call", json!({"function_call": {"name": "f"}})),
        (
            "functions",
            json!({"tools": tools, "functions": [{"name": "f"}]}),
        ),
        (
            "stream_options",
            json!({"stream_options": {"include_usage": true}}),
        ),
    ]
}

#[tokio::test]
async fn what_the_client_asked_to_be_protected_from_is_refused_and_dropped_by_lenient_alone() {
    for (param, fields) in guarantees() {
        let answer = chat(&plain_model(), Policy::default(), hello(fields.clone())).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status(), &error["param"]),
            (400, &json!(param)),
            "{fields}: {error}"
        );
        let inner = plain_model();
        let answer = chat(&inner, with(Strictness::Lenient), hello(fields.clone())).await;
        let field = param.split('.').next().expect("a name");
        let named = answer.header("x-loggia-ignored").unwrap_or_default();
        let is_named = named.split(", ").any(|name| name == field);
        assert!(
            answer.status() == 200 && is_named,
            "{fields}: {named}: {}",
            answer.text()
        );
        assert_eq!(
            inner.last_chat().get("format"),
            None,
            "{fields}: no call is forced"
        );
    }
}

#[tokio::test]
async fn functions_beside_a_tool_of_another_type_are_offered() {
    let function = json!({"type": "function", "function": {"name": "f", "description": null, "parameters": null, "strict": null}});
    let search = json!({"type": "web_search"});
    let allowed = |mode: &str| {
        json!({"type": "allowed_tools", "allowed_tools": {"mode": mode,
        "tools": [search, {"type": "function", "function": {"name": "f"}}]}})
    };
    let (status, show) = crate::support::recording("server/show-tools");
    for (choice, named) in [
        (json!("auto"), "tools[].type"),
        (
            allowed("auto"),
            "tools[].type, tool_choice.allowed_tools.tools",
        ),
        (
            allowed("required"),
            "tools[].type, tool_choice.allowed_tools.tools",
        ),
        (json!("required"), "tools[].type"),
    ] {
        let inner = Scripted::default().on("/api/show", status, [show.clone()]);
        let inner = inner.recorded("chat/whole-call-forced-by-format");
        let fields = json!({"tools": [search, function], "tool_choice": choice});
        let answer = chat(&inner, Policy::default(), hello(fields)).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, Some(named)),
            "{}",
            answer.text()
        );
        let sent = inner.last_chat();
        assert_eq!(
            sent.get("tools").is_some(),
            sent.get("format").is_none(),
            "{choice}"
        );
    }
}

#[tokio::test]
async fn a_choice_without_tools_asks_for_nothing() {
    for (fields, named) in [
        (json!({"tool_choice": "auto"}), Some("tool_choice")),
        (
            json!({"tools": [], "tool_choice": "auto", "parallel_tool_calls": false}),
            Some("tool_choice"),
        ),
        (json!({"tools": null, "tool_choice": "none"}), None),
        (json!({"function_call": "auto"}), Some("function_call")),
        (json!({"functions": [], "function_call": "none"}), None),
    ] {
        let answer = chat(&plain_model(), Policy::default(), hello(fields.clone())).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, named),
            "{fields}"
        );
        assert_eq!(
            chat(&plain_model(), with(Strictness::Strict), hello(fields))
                .await
                .status(),
            400
        );
    }
}

#[tokio::test]
async fn a_part_that_the_model_cannot_take_is_replaced_by_a_note() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let sound =
        json!({"type": "input_audio", "input_audio": {"data": "no base64", "format": "ogg"}});
    let pdf = json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}});
    let unnamed = json!({"type": "file", "file": {"file_id": "file-1"}});
    let unseen = "[An image was attached here, but this model cannot see images.]";
    for (parts, said) in [
        (
            json!([image("data:image/png;base64,iVBORw0KGgo=")]),
            unseen.to_owned(),
        ),
        (
            json!([
                text("See"),
                image("https://images.example/a.png"),
                text("this")
            ]),
            format!("See\n\n{unseen}\n\nthis"),
        ),
        (
            json!([sound]),
            "[A sound was attached here, but this model cannot hear sounds.]".to_owned(),
        ),
        (
            json!([text("x"), pdf]),
            "x\n\n[The file \"a.pdf\" was attached here, but this model cannot read it.]"
                .to_owned(),
        ),
        (
            json!([unnamed]),
            "[The file was attached here, but this model cannot read it.]".to_owned(),
        ),
    ] {
        let inner = plain_model();
        let messages = json!([{"role": "user", "content": parts}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"}]);
        let answer = chat(
            &inner,
            Policy::default(),
            hello(json!({"messages": messages})),
        )
        .await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(inner.last_chat()["messages"][0]["content"], json!(said));
    }
}

#[tokio::test]
async fn an_earlier_call_of_a_custom_tool_is_one_of_a_function() {
    let call =
        json!({"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls -l \"a\""}});
    let messages = json!([{"role": "assistant", "content": null, "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "x"}]);
    let inner = Scripted::default().recorded("chat/whole");
    let answer = chat(
        &inner,
        Policy::default(),
        hello(json!({"messages": messages})),
    )
    .await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, None),
        "{}",
        answer.text()
    );
    let called = inner.last_chat()["messages"][0]["tool_calls"][0]["function"].clone();
    assert_eq!(
        called,
        json!({"index": 0, "name": "sh", "arguments": {"input": "ls -l \"a\""}})
    );
}

#[tokio::test]
async fn hints_and_labels_are_named_and_strict_refuses_them() {
    for (param, fields) in [
        ("user", json!({"user": "u"})),
        ("safety_identifier", json!({"safety_identifier": "s"})),
        ("metadata", json!({"metadata": {"a": "b"}})),
        ("store", json!({"store": true})),
        ("service_tier", json!({"service_tier": "flex"})),
        ("prompt_cache_key", json!({"prompt_cache_key": "k"})),
        (
            "prompt_cache_retention",
            json!({"prompt_cache_retention": "24h"}),
        ),
        ("prompt_cache_options", json!({"prompt_cache_options": {}})),
        (
            "prediction",
            json!({"prediction": {"type": "content", "content": "x"}}),
        ),
        ("verbosity", json!({"verbosity": "low"})),
        (
            "messages[].name",
            json!({"messages": [{"role": "user", "name": "n", "content": "x"}]}),
        ),
        (
            "messages[].content[].prompt_cache_breakpoint",
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}]}]}),
        ),
        (
            "stream_options.include_obfuscation",
            json!({"stream": true, "stream_options": {"include_obfuscation": true}}),
        ),
    ] {
        let answer = chat(&plain_model(), Policy::default(), hello(fields.clone())).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, Some(param)),
            "{}",
            answer.text()
        );
        refused(
            &chat(&plain_model(), with(Strictness::Strict), hello(fields)).await,
            param,
        );
    }
}

#[tokio::test]
async fn strict_is_a_hint_where_calls_may_be_left_and_nothing_holds_them() {
    let tools = json!([{"type": "function", "function": {"name": "f", "strict": true}}]);
    let (status, show) = crate::support::recording("server/show-tools");
    let model = || {
        Scripted::default()
            .on("/api/show", status, [show.clone()])
            .recorded("chat/whole")
    };
    let named = Some("tools[].function.strict");
    let functions = json!({"functions": [{"name": "f", "strict": true}]});
    let answer = chat(&model(), Policy::default(), hello(functions)).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("functions[].strict"))
    );
    for (choice, ignored) in [("auto", named), ("none", None), ("required", None)] {
        let fields = json!({"tools": tools, "tool_choice": choice});
        let answer = chat(&model(), Policy::default(), hello(fields)).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, ignored),
            "{choice}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_field_that_asks_for_nothing_is_no_ground_for_anything() {
    for fields in [
        json!({"n": 1, "logit_bias": {}, "modalities": ["text"], "tools": []}),
        json!({"reasoning_effort": "none", "service_tier": "auto", "verbosity": "medium", "store": false, "metadata": {}}),
        json!({"response_format": {"type": "text"}, "logprobs": false, "parallel_tool_calls": false, "stop": null, "n": null}),
        json!({"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"}),
        json!({"grammar": ""}),
    ] {
        let answer = chat(
            &plain_model(),
            with(Strictness::Strict),
            hello(fields.clone()),
        )
        .await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, None),
            "{fields}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_voice_without_sound_is_named_and_no_ground_for_a_refusal() {
    let fields = json!({"modalities": ["text"], "audio": {"voice": "v", "format": "wav"}});
    for strictness in [Strictness::Plain, Strictness::Strict, Strictness::Lenient] {
        let answer = chat(&plain_model(), with(strictness), hello(fields.clone())).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, Some("audio")),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn an_unknown_field_is_named_and_strict_refuses_it() {
    let typo = json!({"temperatur": 1});
    let answer = chat(&plain_model(), Policy::default(), hello(typo.clone())).await;
    assert_eq!(answer.header("x-loggia-ignored"), Some("temperatur"));
    let answer = chat(&plain_model(), with(Strictness::Strict), hello(typo)).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["code"]),
        (400, &json!("unknown_parameter"))
    );
}

#[tokio::test]
async fn an_unknown_field_inside_another_is_named_with_its_place() {
    let cached = json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}});
    let fields = json!({"messages": [{"role": "user", "content": [cached, cached], "mood": "glad"}],
        "stream": true, "stream_options": {"continuous_usage_stats": true}});
    let answer = chat(&plain_model(), Policy::default(), hello(fields)).await;
    let ignored = "messages[].content[].cache_control, messages[].mood, stream_options.continuous_usage_stats";
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some(ignored))
    );
}

#[tokio::test]
async fn a_model_can_have_a_strictness_and_options_of_its_own() {
    let inner = plain_model();
    let options = json!({"num_ctx": 16384, "top_k": 7, "seed": 3})
        .as_object()
        .unwrap()
        .clone();
    let its = ModelPolicy {
        strictness: Some(Strictness::Strict),
        options,
        ..ModelPolicy::default()
    };
    let policy = Policy {
        models: [("smollm2:135m".to_owned(), its)].into(),
        ..Policy::default()
    };
    let said = json!({"options": {"num_ctx": 2048}, "top_k": 5});
    assert_eq!(
        chat(&inner, policy.clone(), hello(said)).await.status(),
        200
    );
    assert_eq!(
        inner.last_chat()["options"],
        json!({"num_ctx": 2048, "top_k": 5, "seed": 3}),
        "the request is stronger"
    );
    assert_eq!(
        chat(&inner, policy.clone(), hello(json!({})))
            .await
            .status(),
        200
    );
    assert_eq!(
        inner.last_chat()["options"],
        json!({"num_ctx": 16384, "top_k": 7, "seed": 3})
    );
    assert_eq!(
        chat(&inner, policy.clone(), hello(json!({"store": true})))
            .await
            .status(),
        400,
        "strict"
    );
    let other = Policy {
        models: [("another".to_owned(), policy.models["smollm2:135m"].clone())].into(),
        ..Policy::default()
    };
    assert_eq!(
        chat(&inner, other, hello(json!({"store": true})))
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn reasoning_effort_is_think() {
    for (effort, think) in [
        ("none", json!(false)),
        ("minimal", json!("low")),
        ("high", json!("high")),
        ("xhigh", json!("max")),
    ] {
        let inner = Scripted::default().recorded("chat/whole-thinking");
        let message = chat(
            &inner,
            Policy::default(),
            hello(json!({"reasoning_effort": effort})),
        )
        .await
        .json();
        assert_eq!(inner.last_chat()["think"], think);
        let message = &message["choices"][0]["message"];
        assert!(
            message["reasoning_content"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert_eq!(message["reasoning_content"], message["reasoning"]);
    }
}

#[tokio::test]
async fn roles_and_parts_become_ollamas() {
    let inner = Scripted::default().recorded("chat/whole");
    let messages = json!([
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
        {"role": "assistant", "content": "so", "reasoning_content": "hm"}]);
    let answer = chat(
        &inner,
        Policy::default(),
        hello(json!({"messages": messages})),
    )
    .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let expected = json!([
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab", "images": ["iVBORw0KGgo="]},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}]},
        {"role": "tool", "content": "42", "tool_name": "f", "tool_call_id": "c1"},
        {"role": "assistant", "content": "so", "thinking": "hm"}]);
    assert_eq!(inner.last_chat()["messages"], expected);
}

#[tokio::test]
async fn streamed_calls_have_ids_names_and_rising_indexes() {
    let inner = Scripted::default().recorded("chat/stream-two-tool-calls");
    let weather = json!({"name": "get_weather", "description": "", "parameters": {"type": "object", "properties": {}}});
    let tools = json!([{"type": "function", "function": weather}]);
    let chunks = chat(
        &inner,
        Policy::default(),
        hello(json!({"stream": true, "tools": tools})),
    )
    .await
    .chunks();
    assert_eq!(inner.last_chat()["tools"], tools);
    let calls: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0))
        .collect();
    let indexes: Vec<&Value> = calls.iter().map(|call| &call["index"]).collect();
    assert_eq!(indexes, [&json!(0), &json!(1)]);
    assert!(
        calls
            .iter()
            .all(|call| call["id"].is_string() && call["type"] == "function")
    );
    assert_eq!(
        calls[1]["function"],
        json!({"name": "get_weather", "arguments": "{\"city\":\"Lyon\"}"})
    );
    assert_eq!(
        chunks.last().expect("chunks")["choices"][0]["finish_reason"],
        "tool_calls"
    );

    let single = json!({"stream": true, "tools": tools, "parallel_tool_calls": false});
    let chunks = chat(&inner, Policy::default(), hello(single))
        .await
        .chunks();
    assert_eq!(
        chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["delta"].get("tool_calls").is_some())
            .count(),
        1
    );
}

#[tokio::test]
async fn a_call_that_must_be_made_is_held_to_a_schema_and_comes_back_as_a_call() {
    let (status, show) = crate::support::recording("server/show");
    let inner = Scripted::default()
        .on("/api/show", status, [show])
        .recorded("chat/whole-call-forced-by-format");
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}]);
    for choice in [
        json!("required"),
        json!({"type": "function", "function": {"name": "get_weather"}}),
    ] {
        let answer = chat(
            &inner,
            Policy::default(),
            hello(json!({"tools": tools, "tool_choice": choice})),
        )
        .await;
        let choice = answer.json()["choices"][0].clone();
        assert_eq!(
            (&choice["finish_reason"], &choice["message"]["content"]),
            (&json!("tool_calls"), &Value::Null)
        );
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!(call["function"]["name"], "get_weather");
        let arguments: Value =
            serde_json::from_str(call["function"]["arguments"].as_str().expect("a string"))
                .expect("JSON");
        assert_eq!(arguments, json!({"city": "Paris"}));
        let sent = inner.last_chat();
        assert_eq!(
            (
                sent.get("tools"),
                &sent["format"]["properties"]["arguments"]
            ),
            (None, &parameters)
        );
    }
    let functions = json!({"functions": [{"name": "get_weather", "parameters": parameters}], "function_call": {"name": "get_weather"}});
    let choice = chat(&inner, Policy::default(), hello(functions))
        .await
        .json()["choices"][0]
        .clone();
    assert_eq!(
        (
            &choice["finish_reason"],
            &choice["message"]["function_call"]["name"]
        ),
        (&json!("function_call"), &json!("get_weather"))
    );
    let nobody =
        json!({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "other"}}});
    assert_eq!(
        chat(&inner, Policy::default(), hello(nobody))
            .await
            .status(),
        400
    );
}

#[tokio::test]
async fn several_choices_are_several_calls_with_seeds_of_their_own() {
    let inner = Scripted::default().recorded("chat/whole");
    let answer = chat(&inner, Policy::default(), hello(json!({"n": 3, "seed": 5})))
        .await
        .json();
    let indexes: Vec<_> = answer["choices"]
        .as_array()
        .expect("choices")
        .iter()
        .map(|choice| choice["index"].clone())
        .collect();
    assert_eq!(indexes, [0, 1, 2]);
    assert_eq!(
        (
            &answer["usage"]["prompt_tokens"],
            &answer["usage"]["completion_tokens"]
        ),
        (&json!(16), &json!(24))
    );
    assert_eq!(answer["usage"]["total_tokens"], 40);
    let mut seeds: Vec<Value> = inner
        .chats()
        .iter()
        .map(|chat| chat["options"]["seed"].clone())
        .collect();
    seeds.sort_unstable_by_key(Value::as_i64);
    assert_eq!(seeds, [5, 6, 7]);

    let inner = Scripted::default().recorded("chat/stream");
    let chunks = chat(
        &inner,
        Policy::default(),
        hello(json!({"n": 2, "stream": true})),
    )
    .await
    .chunks();
    for index in 0..2 {
        let of: Vec<&Value> = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .filter(|choice| choice["index"] == index)
            .collect();
        let text: String = of
            .iter()
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, "The capital of France is Paris.");
        assert_eq!(
            of.iter()
                .filter(|choice| choice["delta"].get("role").is_some())
                .count(),
            1
        );
        assert_eq!(of.last().expect("choices")["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn log_probabilities_come_with_bytes() {
    let inner = Scripted::default().recorded("chat/whole-logprobs");
    let answer = chat(
        &inner,
        Policy::default(),
        hello(json!({"logprobs": true, "top_logprobs": 2})),
    )
    .await
    .json();
    let first = &answer["choices"][0]["logprobs"]["content"][0];
    assert_eq!(
        (&first["token"], &first["bytes"]),
        (&json!("The"), &json!([84, 104, 101]))
    );
    assert_eq!(first["top_logprobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (
            &inner.last_chat()["logprobs"],
            &inner.last_chat()["top_logprobs"]
        ),
        (&json!(true), &json!(2))
    );
    let alone = chat(&inner, Policy::default(), hello(json!({"top_logprobs": 2}))).await;
    assert_eq!(
        (alone.status(), &alone.json()["error"]["param"]),
        (400, &json!("top_logprobs"))
    );
}

#[tokio::test]
async fn a_number_out_of_range_is_a_400_with_its_name() {
    for (param, fields) in [
        ("temperature", json!({"temperature": 2.5})),
        ("top_p", json!({"top_p": -0.1})),
        ("presence_penalty", json!({"presence_penalty": 3})),
        ("frequency_penalty", json!({"frequency_penalty": -3})),
        ("n", json!({"n": 0})),
        (
            "top_logprobs",
            json!({"logprobs": true, "top_logprobs": 21}),
        ),
        ("logit_bias.5", json!({"logit_bias": {"5": 101}})),
        ("max_tokens", json!({"max_tokens": -1})),
        ("seed", json!({"seed": 1.5})),
    ] {
        let answer = chat(&Scripted::default(), Policy::default(), hello(fields)).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["param"]),
            (400, &json!(param)),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_call_that_ollama_swallows_is_asked_for_again_held_to_its_schema() {
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]);
    for (swallowed, stream) in [
        ("chat/whole-broken-tool-call", false),
        ("chat/stream-broken-tool-call", true),
    ] {
        let again = if stream {
            "chat/stream-format-schema"
        } else {
            "chat/whole-call-forced-by-format"
        };
        let inner = Scripted::default().recorded(again).first(
            "/api/chat",
            200,
            [crate::support::recording(swallowed).1],
        );
        let answer = chat(
            &inner,
            Policy::default(),
            hello(json!({"tools": tools, "stream": stream})),
        )
        .await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let chats = inner.chats();
        assert_eq!(
            (chats.len(), chats[0].get("format"), chats[1].get("tools")),
            (2, None, None)
        );
        assert_eq!(
            chats[1]["format"]["properties"]["name"],
            json!({"const": "get_weather"})
        );
        if stream {
            // The recorded second answer is not a call (as if the token limit had cut one), so the
            // client gets its text.
            let text: String = answer
                .chunks()
                .iter()
                .filter_map(|chunk| {
                    chunk["choices"][0]["delta"]["content"]
                        .as_str()
                        .map(str::to_owned)
                })
                .collect();
            assert!(text.starts_with('{'), "{text}");
        } else {
            let call = answer.json()["choices"][0]["message"]["tool_calls"][0].clone();
            assert_eq!(call["function"]["name"], "get_weather");
            assert_eq!(
                answer.json()["usage"]["completion_tokens"],
                28 + 31,
                "what was swallowed was generated too"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_of_nothing_is_not_asked_for_again() {
    let line = r#"{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":5,"eval_count":1}"#;
    let inner = Scripted::default().on("/api/chat", 200, [line]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let answer = chat(&inner, Policy::default(), hello(json!({"tools": tools})))
        .await
        .json();
    assert_eq!(
        (
            inner.chats().len(),
            &answer["choices"][0]["message"]["content"]
        ),
        (1, &json!(""))
    );
    assert_eq!(answer["usage"]["total_tokens"], 6);
}

#[tokio::test]
async fn a_keyword_that_the_engine_cannot_enforce_is_named_and_refused_where_it_is_strict() {
    let schema = json!({"type": "object", "properties": {"tags": {"type": "array", "items": {}, "uniqueItems": true}}});
    let format = |strict: bool| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": strict, "schema": schema}}});
    let function = |strict: bool| json!({"name": "f", "strict": strict, "parameters": schema});
    let tools = |strict: bool| json!({"tools": [{"type": "function", "function": function(strict)}], "tool_choice": "required"});
    let functions =
        |strict: bool| json!({"functions": [function(strict)], "function_call": {"name": "f"}});
    let cases: [(&str, &dyn Fn(bool) -> Value); 3] = [
        ("response_format.json_schema.schema", &format),
        ("tools[0].function.parameters", &tools),
        ("functions[0].parameters", &functions),
    ];
    for (param, fields) in cases {
        let ignored = format!("{param}#/properties/tags/uniqueItems");
        for (strictness, strict) in [
            (Strictness::Plain, false),
            (Strictness::Lenient, false),
            (Strictness::Lenient, true),
        ] {
            let inner = plain_model();
            let answer = chat(&inner, with(strictness), hello(fields(strict))).await;
            assert_eq!(
                (answer.status(), answer.header("x-loggia-ignored")),
                (200, Some(ignored.as_str())),
                "{}",
                answer.text()
            );
            let asked = inner.last_chat();
            assert!(
                !asked["format"].to_string().contains("uniqueItems"),
                "{asked}"
            );
        }
        for (strictness, strict) in [(Strictness::Plain, true), (Strictness::Strict, false)] {
            let answer = chat(&plain_model(), with(strictness), hello(fields(strict))).await;
            let error = answer.json()["error"].clone();
            assert_eq!((answer.status(), &error["param"]), (400, &json!(param)));
            let message = error["message"].as_str().expect("a message");
            assert!(
                message.contains("'uniqueItems'") && message.contains("/properties/tags"),
                "{message}"
            );
        }
    }
}

/// Tool lists like those of GitHub's and Notion's MCP servers.
fn pages(strict: bool) -> Value {
    json!({"type": "function", "function": {"name": "list_pages", "strict": strict, "parameters": {
        "type": "object", "properties": {
            "page": {"type": "number", "minimum": 1}, "per_page": {"type": "number", "minimum": 1, "maximum": 100},
            "since": {"type": "string", "format": "uri"}, "meta": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {}},
            "id": {"type": "integer", "minimum": -9_007_199_254_740_991_i64, "maximum": 9_007_199_254_740_991_i64},
            "parent": {"anyOf": [{"properties": {"page_id": {"type": "string"}}, "required": ["page_id"]}, {"$ref": "#/$defs/base"}]}},
        "$defs": {"base": {"properties": {"base_id": {"type": "string"}}, "required": ["base_id"]}}, "$schema": "http://json-schema.org/draft-07/schema#"}}})
}

#[tokio::test]
async fn one_tool_among_many_refuses_itself_alone() {
    let time = json!({"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}});
    let by_name = |name: &str| json!({"type": "function", "function": {"name": name}});
    let auto = json!({"tools": [time, pages(false)]});
    assert_eq!(
        chat(&plain_model(), Policy::default(), hello(auto))
            .await
            .status(),
        200
    );
    for (choice, is_held) in [
        (json!("required"), true),
        (by_name("list_pages"), true),
        (by_name("get_time"), false),
    ] {
        let asked = json!({"tools": [time, pages(false)], "tool_choice": choice});
        let answer = chat(&plain_model(), Policy::default(), hello(asked)).await;
        let ignored = answer.header("x-loggia-ignored").unwrap_or_default();
        let is_named = ignored.contains("tools[1].function.parameters#/properties/page/minimum");
        assert_eq!(
            (answer.status(), is_named),
            (200, is_held),
            "{choice} {ignored}"
        );
        let names_more = ["propertyNames", "/id/", "parent"]
            .iter()
            .any(|held| ignored.contains(held));
        assert!(!names_more, "{ignored}");
    }
    let inner = plain_model();
    let asked = json!({"tools": [pages(true), time], "tool_choice": "required"});
    let answer = chat(&inner, Policy::default(), hello(asked)).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("tools[0]")),
        "{}",
        answer.text()
    );
    assert!(!inner.last_chat().to_string().contains("list_pages"));
    for asked in [
        json!({"tools": [pages(true), time], "tool_choice": by_name("list_pages")}),
        json!({"tools": [pages(true)], "tool_choice": "required"}),
    ] {
        let answer = chat(&plain_model(), Policy::default(), hello(asked)).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["param"]),
            (400, &json!("tools[0].function.parameters"))
        );
    }
}

#[tokio::test]
async fn a_long_list_of_tools_with_much_that_is_dropped_is_served() {
    let tools: Vec<Value> = (0..117)
        .map(|number| {
            let mut tool = pages(false);
            tool["function"]["name"] = json!(format!("list_{number}"));
            tool
        })
        .collect();
    let answer = chat(
        &plain_model(),
        Policy::default(),
        hello(json!({"tools": tools, "tool_choice": "required"})),
    )
    .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[tokio::test]
async fn a_reference_that_leads_nowhere_is_a_400_about_its_own_schema() {
    let schema = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": schema}});
    for (param, asked) in [
        (
            "tools[0].function.parameters",
            json!({"tools": [tool], "tool_choice": "required"}),
        ),
        (
            "response_format.json_schema.schema",
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}),
        ),
    ] {
        let answer = chat(&plain_model(), Policy::default(), hello(asked)).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status(), &error["param"]), (400, &json!(param)));
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| message.contains("not in the schema")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn each_ceiling_is_a_400_that_names_field_and_number() {
    let message = json!({"role": "user", "content": "x"});
    let image =
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let mut deep = json!({"type": "string"});
    for _ in 0..40 {
        deep = json!({"type": "array", "items": deep});
    }
    let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    let biases: serde_json::Map<String, Value> = (0..301)
        .map(|token| (token.to_string(), json!(1)))
        .collect();
    for (param, number, fields) in [
        ("n", "16", json!({"n": 17})),
        ("messages", "4096", json!({"messages": vec![message; 4097]})),
        (
            "messages",
            "64",
            json!({"messages": [{"role": "user", "content": vec![image; 65]}]}),
        ),
        ("tools", "128", json!({"tools": vec![tool; 129]})),
        ("logit_bias", "300", json!({"logit_bias": biases})),
        ("stop", "512", json!({"stop": "x".repeat(513)})),
        ("response_format.json_schema.schema", "32", schema(deep)),
        (
            "response_format.json_schema.schema",
            "262144",
            schema(json!({"description": "x".repeat(300_000)})),
        ),
    ] {
        let answer = chat(&Scripted::default(), Policy::default(), hello(fields)).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status(), &error["param"]),
            (400, &json!(param)),
            "{error}"
        );
        assert!(
            error["message"]
                .as_str()
                .expect("a message")
                .contains(number),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_answer_without_a_limit_gets_the_servers() {
    let mut policy = Policy::default();
    policy.ceilings.answer_tokens = Some(50);
    let inner = plain_model();
    chat(&inner, policy.clone(), hello(json!({}))).await;
    assert_eq!(inner.last_chat()["options"]["num_predict"], 50);
    chat(&inner, policy.clone(), hello(json!({"max_tokens": 7}))).await;
    assert_eq!(inner.last_chat()["options"]["num_predict"], 7);
    let in_options = hello(json!({"options": {"num_predict": 9}}));
    chat(&inner, policy.clone(), in_options).await;
    assert_eq!(inner.last_chat()["options"]["num_predict"], 9);
    let mut configured = ModelPolicy::default();
    configured
        .options
        .insert("num_predict".to_owned(), 11.into());
    policy.models.insert("smollm2:135m".to_owned(), configured);
    chat(&inner, policy, hello(json!({}))).await;
    assert_eq!(inner.last_chat()["options"]["num_predict"], 11);
}

#[tokio::test]
async fn a_limit_below_1_is_refused_and_dropped_by_lenient_alone() {
    for (strictness, is_served) in [
        (Strictness::Strict, false),
        (Strictness::Plain, false),
        (Strictness::Lenient, true),
    ] {
        for param in ["max_tokens", "max_completion_tokens"] {
            for limit in [0, -1, i64::MIN] {
                let inner = plain_model();
                let answer = chat(&inner, with(strictness), hello(json!({param: limit}))).await;
                if is_served {
                    assert_eq!(
                        (answer.status(), answer.header("x-loggia-ignored")),
                        (200, Some(param))
                    );
                    assert_eq!(inner.last_chat()["options"].get("num_predict"), None);
                } else {
                    let error = answer.json()["error"].clone();
                    assert_eq!((answer.status(), &error["param"]), (400, &json!(param)));
                    assert_eq!(error["code"], "integer_below_min_value");
                }
            }
        }
    }
}
