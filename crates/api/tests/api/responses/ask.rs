//! The fields of a request for a response, and its input items: the chat that they are translated
//! to.

use loggia_api::Strictness;
use serde_json::{Value, json};

use super::stand_in::{KINDS, Kind, StandIn, hi, ignored, refusal, refusal_under, response};

/// The messages that these input items are translated to.
async fn messages(items: Value) -> Value {
    let (_, engine) = response(StandIn::hello(), &hi(json!({ "input": items }))).await;
    engine.asked()["messages"].clone()
}

#[tokio::test]
async fn sampling_fields_reach_every_kind_of_engine() {
    let asked = json!({"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 40, "seed": 7, "stop": "x",
        "reasoning": {"effort": "low"}});
    for kind in KINDS {
        let (_, engine) = response(StandIn::hello().of(kind), &hi(asked.clone())).await;
        let chat = engine.asked();
        for (field, value) in [
            ("temperature", json!(0.5)),
            ("top_p", json!(0.9)),
            ("max_completion_tokens", json!(40)),
            ("seed", json!(7)),
            ("stop", json!(["x"])),
            ("reasoning_effort", json!("low")),
        ] {
            assert_eq!(chat[field], value, "{field} of {kind:?}");
        }
        assert_eq!(chat["metadata"], Value::Null);
    }
}

#[tokio::test]
async fn instructions_are_a_system_message_before_a_text() {
    let (_, engine) = response(StandIn::hello(), &hi(json!({"instructions": "Be brief."}))).await;
    assert_eq!(
        engine.asked()["messages"],
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    );
    assert_eq!(
        messages(json!("")).await,
        json!([{"role": "user", "content": ""}]),
        "Codex asks this to warm up"
    );
}

#[tokio::test]
async fn messages_of_every_role_come_with_and_without_a_type() {
    let items = json!([
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "a"}], "id": "msg_1"},
        {"role": "system", "content": "b"},
        {"role": "user", "content": [{"type": "input_text", "text": "c"}, {"type": "input_text", "text": "d"}]},
        {"type": "message", "role": "assistant", "status": "completed", "id": "msg_2", "phase": "final_answer",
            "content": [{"type": "output_text", "text": "e", "annotations": [], "logprobs": []}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "f"}]},
        {"role": "user", "content": "g"}
    ]);
    assert_eq!(
        messages(items).await,
        json!([
            {"role": "developer", "content": "a"},
            {"role": "system", "content": "b"},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
            {"role": "assistant", "content": "e"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "f"}]},
            {"role": "user", "content": "g"}
        ])
    );
}

#[tokio::test]
async fn images_sounds_and_files_are_parts() {
    let image = "data:image/png;base64,iVBORw0KGgo=";
    let items = json!([{"role": "user", "content": [
        {"type": "input_image", "image_url": image, "detail": "low"},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}
    ]}]);
    let content = messages(items).await[0]["content"].clone();
    assert_eq!(
        content[0],
        json!({"type": "image_url", "image_url": {"url": image, "detail": "low"}})
    );
    assert_eq!(
        content[1],
        json!({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}})
    );
    assert_eq!(content[2]["type"], "file");
    let named = json!({"input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}]}]});
    assert_eq!(
        ignored(Kind::Ollama, &hi(named)).await,
        "input[].content[].input_audio"
    );
}

#[tokio::test]
async fn a_turn_of_the_assistants_is_one_message_and_outputs_follow_it() {
    let items = json!([
        {"role": "user", "content": "Weather?"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Look."}], "content": null},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "One moment."}]},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{\"a\":1}", "status": "completed"},
        {"type": "function_call", "call_id": "call_2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_2", "output": "two"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "one"}]},
        {"type": "message", "role": "assistant", "content": "Sunny."}
    ]);
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    assert_eq!(
        messages(items).await,
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "One moment.", "reasoning_content": "Look.",
                "tool_calls": [call("call_1", "{\"a\":1}"), call("call_2", "{}")]},
            {"role": "tool", "content": "one", "tool_call_id": "call_1"},
            {"role": "tool", "content": "two", "tool_call_id": "call_2"},
            {"role": "assistant", "content": "Sunny."}
        ])
    );
}

#[tokio::test]
async fn an_image_that_a_call_gave_is_shown_after_its_output() {
    let image = "data:image/png;base64,iVBORw0KGgo=";
    let items = json!([
        {"type": "function_call", "call_id": "call_1", "name": "view_image", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_image", "image_url": image}]}
    ]);
    let messages = messages(items).await;
    assert_eq!(
        messages[1],
        json!({"role": "tool", "content": "", "tool_call_id": "call_1"})
    );
    assert_eq!(
        messages[2],
        json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]})
    );
}

#[tokio::test]
async fn outputs_without_an_id_answer_the_call_of_their_name_or_the_next_one() {
    let call = |id: &str, name: &str| json!({"type": "function_call", "call_id": id, "name": name, "arguments": "{}"});
    let items = json!([
        call("call_1", "f"), call("call_2", "g"),
        {"type": "function_call_output", "name": "g", "output": "g's"},
        {"type": "function_call_output", "output": "f's"}
    ]);
    let messages = messages(items).await;
    assert_eq!(
        (&messages[1]["content"], &messages[2]["content"]),
        (&json!("f's"), &json!("g's"))
    );
    let ambiguous = json!({"input": [call("call_1", "f"), call("call_2", "f"),
        {"type": "function_call_output", "name": "f", "output": "whose?"}]});
    assert_eq!(refusal(&hi(ambiguous)).await.2, "input");
}

#[tokio::test]
async fn a_call_without_its_output_and_an_output_without_its_call_are_refused() {
    let call =
        json!({"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "call_2", "output": "x"});
    for items in [json!([call]), json!([output]), json!([call, output])] {
        let refused = refusal(&hi(json!({"input": items}))).await;
        assert_eq!(
            refused,
            (400, "invalid_value".to_owned(), "input".to_owned())
        );
    }
    let mut later = call.clone();
    later["async"] = json!(true);
    let messages = messages(json!([later, {"role": "user", "content": "And?"}])).await;
    assert_eq!(messages[1]["role"], "tool");
    assert_eq!(messages[2], json!({"role": "user", "content": "And?"}));
}

#[tokio::test]
async fn items_that_mean_nothing_here_are_dropped_and_named() {
    let items = json!([
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "ENC"},
        {"type": "item_of_next_year", "content": 5, "output": {"a": 1}},
        {"type": "compaction_trigger"},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_smell"}]}
    ]);
    assert_eq!(
        ignored(Kind::Ollama, &hi(json!({"input": items}))).await,
        "input[].compaction, input[].web_search_call, input[].encrypted_content, input[].item_of_next_year, \
         input[].compaction_trigger, input[].content[].input_smell"
    );
    let nothing = json!({"input": [{"type": "compaction", "encrypted_content": "x"}]});
    assert_eq!(refusal(&hi(nothing)).await.2, "input");
}

#[tokio::test]
async fn the_last_change_of_the_configuration_holds() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let items = json!([
        {"role": "user", "content": "a"},
        {"type": "configuration_update", "reasoning": {"effort": "high"}},
        {"type": "configuration_update", "reasoning": {"effort": "low"}, "text": {"format": {"type": "json_schema", "name": "s", "schema": schema}}}
    ]);
    let asked = hi(json!({"input": items, "reasoning": {"effort": "medium", "summary": "auto"}}));
    let (response, engine) = response(StandIn::hello(), &asked).await;
    let chat = engine.asked();
    assert_eq!(chat["reasoning_effort"], "low");
    assert_eq!(chat["response_format"]["json_schema"]["name"], "s");
    assert_eq!(
        response["reasoning"],
        json!({"effort": "low", "summary": "auto"})
    );
}

#[tokio::test]
async fn formats_stand_beside_their_type() {
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "s", "strict": true, "schema": schema});
    for kind in KINDS {
        let asked = hi(json!({"text": {"format": format}}));
        let (answer, engine) = response(StandIn::hello().of(kind), &asked).await;
        assert_eq!(
            engine.asked()["response_format"],
            json!({"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": schema}})
        );
        assert_eq!(answer["text"]["format"], format);
    }
    let (_, engine) = response(
        StandIn::hello(),
        &hi(json!({"text": {"format": {"type": "json_object"}}})),
    )
    .await;
    assert_eq!(
        engine.asked()["response_format"],
        json!({"type": "json_object"})
    );
    let (_, engine) = response(
        StandIn::hello(),
        &hi(json!({"text": {"format": {"type": "text"}}})),
    )
    .await;
    assert_eq!(engine.asked()["response_format"], json!({"type": "text"}));
}

/// Asserts that each request is refused with this code and `param`.
async fn assert_refused(cases: &[(Value, &str, &str)]) {
    for (more, code, param) in cases {
        let expected = (400, (*code).to_owned(), (*param).to_owned());
        assert_eq!(refusal(&hi(more.clone())).await, expected, "{more}");
    }
}

#[tokio::test]
async fn errors_name_the_fields_of_a_response() {
    let format = |format: Value| json!({"text": {"format": format}});
    assert_refused(&[
        (
            json!({"input": null}),
            "missing_required_parameter",
            "input",
        ),
        (json!({"input": []}), "empty_array", "input"),
        (json!({"input": 5}), "invalid_type", "input"),
        (json!({"model": ""}), "missing_required_parameter", "model"),
        (
            json!({"temperature": 3}),
            "decimal_above_max_value",
            "temperature",
        ),
        (
            json!({"max_output_tokens": 0}),
            "integer_below_min_value",
            "max_output_tokens",
        ),
        (
            json!({"max_output_tokens": "x"}),
            "invalid_type",
            "max_output_tokens",
        ),
        (
            json!({"top_logprobs": 21}),
            "integer_above_max_value",
            "top_logprobs",
        ),
        (json!({"truncation": "some"}), "invalid_value", "truncation"),
        (
            format(json!({"type": "xml"})),
            "invalid_value",
            "text.format.type",
        ),
        (
            format(json!({"type": "json_schema", "schema": {}})),
            "missing_required_parameter",
            "text.format.name",
        ),
        (
            format(json!({"type": "json_schema", "name": "a b", "schema": {}})),
            "invalid_value",
            "text.format.name",
        ),
        (
            format(json!({"type": "json_schema", "name": "s"})),
            "missing_required_parameter",
            "text.format.schema",
        ),
    ])
    .await;
}

#[tokio::test]
async fn errors_name_the_item_or_the_tool_at_fault() {
    let item = |item: Value| json!({"input": [item]});
    let content = |content: Value| json!({"input": [{"role": "user", "content": content}]});
    let tool = |tool: Value| json!({"tools": [tool]});
    let inner = json!([{"type": "function", "name": "f", "parameters": 5}]);
    assert_refused(&[
        (
            item(json!({"role": "tool", "content": "x"})),
            "invalid_value",
            "input[0].role",
        ),
        (
            item(json!({"type": "message", "content": "x"})),
            "missing_required_parameter",
            "input[0].role",
        ),
        (
            item(json!({"role": "user"})),
            "missing_required_parameter",
            "input[0].content",
        ),
        (
            item(json!({"type": "function_call", "call_id": "c", "arguments": "{}"})),
            "missing_required_parameter",
            "input[0].name",
        ),
        (
            content(json!([{"type": "input_text"}])),
            "missing_required_parameter",
            "input[0].content[0].text",
        ),
        (
            content(json!([{"type": "input_text", "text": 5}])),
            "invalid_type",
            "input[0].content[0].text",
        ),
        (
            content(json!([{"text": "x"}])),
            "missing_required_parameter",
            "input[0].content[0].type",
        ),
        (content(json!(5)), "invalid_type", "input[0].content"),
        (
            tool(json!({"type": "function"})),
            "missing_required_parameter",
            "tools[0].name",
        ),
        (
            tool(json!({"type": "function", "name": "a b"})),
            "invalid_value",
            "tools[0].name",
        ),
        (
            tool(json!({"type": "namespace", "name": "n", "tools": inner})),
            "invalid_type",
            "tools[0].tools[0].parameters",
        ),
        (
            json!({"tool_choice": "some"}),
            "invalid_value",
            "tool_choice",
        ),
        (
            json!({"tool_choice": "required"}),
            "invalid_value",
            "tool_choice",
        ),
    ])
    .await;
}

#[tokio::test]
async fn hints_and_labels_are_named_where_they_have_no_effect() {
    let asked = json!({"max_tool_calls": 3, "truncation": "auto", "client_metadata": {"a": "b"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"], "reasoning": {"context": "all_turns"},
        "text": {"verbosity": "low"}, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k",
        "service_tier": "flex", "metadata": {"a": "b"}, "messages": [], "made_up": 1});
    assert_eq!(
        ignored(Kind::Ollama, &hi(asked.clone())).await,
        "max_tool_calls, client_metadata, include.reasoning.encrypted_content, reasoning.context, \
         messages, user, safety_identifier, prompt_cache_key, service_tier, text.verbosity, made_up, truncation"
    );
    let refused = refusal_under(Strictness::Strict, Kind::Ollama, &hi(asked)).await;
    assert_eq!(
        refused,
        (
            400,
            "unsupported_parameter".to_owned(),
            "max_tool_calls".to_owned()
        )
    );
}

#[tokio::test]
async fn more_items_or_tools_than_a_server_takes_are_refused_at_once() {
    let items: Vec<Value> = (0..4097)
        .map(|index| json!({"type": "function_call", "call_id": format!("call_{index}"), "name": "f", "arguments": "{}"}))
        .collect();
    let inner: Vec<Value> = (0..200)
        .map(|index| json!({"type": "function", "name": format!("f{index}")}))
        .collect();
    let namespace = json!({"type": "namespace", "name": "n", "tools": inner});
    let found = json!([{"role": "user", "content": "a"}, {"type": "additional_tools", "role": "developer", "tools": inner}]);
    assert_refused(&[
        (json!({"input": items}), "array_above_max_length", "input"),
        (
            json!({"tools": [namespace]}),
            "array_above_max_length",
            "tools",
        ),
        (
            json!({"input": found}),
            "array_above_max_length",
            "input[1].tools",
        ),
    ])
    .await;
}

#[tokio::test]
async fn many_names_without_effect_are_listed_once_each_and_at_once() {
    let mut item = json!({"type": "message", "role": "user", "content": "a"});
    let fields = item.as_object_mut().expect("an object");
    for index in 0..100_000 {
        fields.insert(format!("made_up_{index}"), Value::Null);
    }
    let started = std::time::Instant::now();
    let named = ignored(Kind::Ollama, &hi(json!({"input": [item, item]}))).await;
    assert!(named.ends_with("more)") && named.len() < 3000, "{named}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
