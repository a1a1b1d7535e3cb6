//! Tests with llama-server as the engine: the properties that Loggia reads from it, and the fields
//! that Loggia sends in place of those that it would ignore.

use std::sync::Arc;

use crate::raw::{RawEngine, Step, json, piece, stream_end, stream_head};
use futures_util::StreamExt;
use loggia_backend::conversation::Change;
use loggia_backend::http::Client;
use loggia_backend::openai::OpenAi;
use loggia_backend::{
    Abilities, Ability, Backend, BackendError, ChatCall, CompletionCall, Event, Reply, SchemaEngine,
};
use loggia_wire::openai::ChatCompletionRequest;
use serde_json::{Value, json};

const LIST: &str = r#"{"object":"list","data":[{"id":"a b","object":"model","created":1,"owned_by":"llamacpp","meta":{"n_vocab":100}}]}"#;

fn props(tools: bool, template: &str) -> Vec<Step> {
    let caps = json!({"supports_tools": tools, "supports_tool_calls": tools, "supports_reasoning_effort": false});
    let props = json!({"modalities": {"vision": false, "audio": true}, "chat_template_caps": caps, "chat_template": template});
    json("200 OK", &props.to_string())
}

async fn behind(answers: impl IntoIterator<Item = Vec<Step>>) -> (RawEngine, OpenAi) {
    let engine = RawEngine::start([json("200 OK", LIST)].into_iter().chain(answers)).await;
    let backend = OpenAi::new("gpu", Client::default(), engine.url.parse().unwrap(), None);
    (engine, backend)
}

async fn abilities(answers: impl IntoIterator<Item = Vec<Step>>) -> Arc<Abilities> {
    behind(answers).await.1.abilities("a b").await.unwrap()
}

/// Returns the request that the server gets for a chat with these fields. `tools` says whether its
/// template supports tools.
async fn sent(tools: bool, fields: Value) -> Value {
    answered(tools, fields).await.1
}

/// Like [`sent`], but returns the reply too.
async fn answered(tools: bool, fields: Value) -> (Reply, Value) {
    let answer = json!({"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}]});
    let (engine, backend) = behind([props(tools, ""), json("200 OK", &answer.to_string())]).await;
    backend.abilities("a b").await.unwrap();
    let reply = backend.start(chat(&fields).into()).await.unwrap();
    (
        reply,
        serde_json::from_str(engine.bodies().last().unwrap()).unwrap(),
    )
}

fn chat(fields: &Value) -> ChatCall {
    let mut request = json!({"model": "a b", "messages": [{"role": "user", "content": "Hi"}]});
    request
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let request = Arc::new(serde_json::from_value(request).unwrap());
    ChatCall::new("chatcmpl-1", request)
}

#[tokio::test]
async fn what_llama_server_passes_over_is_not_among_its_abilities() {
    let can = abilities([props(true, "{% if enable_thinking %}")]).await;
    let lacks = [
        Ability::HostedFields,
        Ability::UnknownFields,
        Ability::ToolChoice,
        Ability::SeveralChoices,
        Ability::SeveralPrompts,
        Ability::EngineOptions,
        Ability::KeepAlive,
        Ability::Files,
        Ability::Images,
        Ability::Echo,
        Ability::FillInTheMiddle,
    ];
    assert_eq!(lacks.map(|ability| can.has(ability)), [false; 11]);
    let has = [
        Ability::Tools,
        Ability::StrictTools,
        Ability::JsonSchema,
        Ability::Grammar,
        Ability::Audio,
        Ability::Reasoning,
        Ability::Chat,
    ];
    assert_eq!(has.map(|ability| can.has(ability)), [true; 7]);
    assert_eq!(can.schemas, SchemaEngine::LlamaCpp);
    let reads = can.chat_fields().unwrap();
    assert!(
        ["messages", "functions", "min_p", "chat_template_kwargs"]
            .iter()
            .all(|field| reads.contains(*field))
    );
    assert!(
        !["web_search_options", "user", "num_ctx"]
            .iter()
            .any(|field| reads.contains(*field))
    );
}

#[tokio::test]
async fn what_its_template_knows_decides_on_strict_tools_and_reasoning() {
    let plain = abilities([props(false, "{{ messages }}")]).await;
    assert!(
        !plain.has(Ability::StrictTools)
            && !plain.has(Ability::Reasoning)
            && plain.has(Ability::Tools)
    );
}

#[tokio::test]
async fn a_server_that_tells_no_properties_is_asked_as_it_is() {
    let can = abilities([json("404 Not Found", "{}")]).await;
    assert!(
        can.has(Ability::Images) && can.has(Ability::Reasoning) && !can.has(Ability::ToolChoice)
    );
}

#[tokio::test]
async fn the_context_is_that_of_a_slot_and_not_that_of_the_training() {
    let list = r#"{"object":"list","data":[{"id":"a b","object":"model","owned_by":"llamacpp","meta":{"n_ctx_train":131072}}]}"#;
    for (settings, context) in [
        (
            json!({"default_generation_settings": {"n_ctx": 4096}}),
            4096,
        ),
        (
            json!({"default_generation_settings": {"n_ctx": 0}}),
            131_072,
        ),
        (json!({}), 131_072),
    ] {
        let answers = [json("200 OK", list), json("200 OK", &settings.to_string())];
        let engine = RawEngine::start(answers).await;
        let backend = OpenAi::new("gpu", Client::default(), engine.url.parse().unwrap(), None);
        let can = backend.abilities("a b").await.unwrap();
        assert_eq!(can.context_length, Some(context), "{settings}");
    }
}

#[tokio::test]
async fn its_properties_are_asked_for_once_by_the_models_name() {
    let (engine, backend) = behind([props(true, "")]).await;
    for _ in 0..3 {
        backend.abilities("a b").await.unwrap();
    }
    let requests = engine.requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests[1].starts_with("GET /props?model=a+b&autoload=false HTTP/1.1\r\n"),
        "{}",
        requests[1]
    );
}

#[tokio::test]
async fn tools_are_told_in_words_where_its_template_knows_none() {
    let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    let told = sent(false, tools.clone()).await;
    assert!(
        told.get("tools").is_none() && told["messages"][0]["role"] == "system",
        "{told}"
    );
    assert!(
        told["messages"][0]["content"]
            .as_str()
            .unwrap()
            .contains("- f: "),
        "{told}"
    );
    assert_eq!(
        sent(true, tools.clone()).await["tools"][0]["function"]["name"],
        "f"
    );
}

#[tokio::test]
async fn every_function_reaches_it_with_a_description_and_parameters() {
    let free = json!({"type": "object"});
    let tools = json!([{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g", "parameters": free}}]);
    let sent = sent(true, json!({"tools": tools})).await;
    let none = json!({"type": "object", "properties": {}});
    assert_eq!(
        sent["tools"][0]["function"],
        json!({"name": "f", "description": "", "parameters": none})
    );
    // With `properties`, the schema would forbid arguments that the function accepts.
    assert_eq!(
        sent["tools"][1]["function"],
        json!({"name": "g", "description": "", "parameters": free})
    );
}

#[tokio::test]
async fn arguments_of_earlier_calls_reach_it_as_objects() {
    for (arguments, object, changed) in [
        ("{\"x\": 1}", "{\"x\": 1}", 0),
        ("", "{}", 0),
        ("null", "{}", 0),
        ("{\"x\": \"Once", "{\"x\": \"Once\"}", 1),
        ("Paris", "{\"arguments\": \"Paris\"}", 1),
        (
            "{\"id\": 25227143063332189585438",
            "{\"id\": 25227143063332189585438}",
            1,
        ),
    ] {
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}});
        let messages = json!([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "y"}]);
        let (reply, sent) = answered(true, json!({"messages": messages})).await;
        assert_eq!(reply.served_by.changed.len(), changed, "{arguments}");
        assert_eq!(
            sent["messages"][1]["tool_calls"][0]["function"]["arguments"], object,
            "{arguments}"
        );
    }
}

#[tokio::test]
async fn tools_beside_a_response_format_are_one_schema_whatever_its_template_knows() {
    let fields = json!({"tools": [{"type": "function", "function": {"name": "f"}}], "response_format": {"type": "json_object"}});
    for knows_tools in [true, false] {
        let asked = sent(knows_tools, fields.clone()).await;
        assert!(asked.get("tools").is_none(), "{asked}");
        assert_eq!(
            asked["response_format"]["json_schema"]["name"],
            "call_or_answer"
        );
    }
}

#[tokio::test]
async fn earlier_calls_are_written_out_where_its_template_shows_none() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let fields = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "3"}]});
    let asked = sent(false, fields.clone()).await;
    assert_eq!(
        asked["messages"][1]["content"],
        "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"
    );
    assert_eq!(
        asked["messages"][2],
        json!({"role": "user", "content": "Result of f:\n3"})
    );
    assert_eq!(
        sent(true, fields.clone()).await["messages"][2]["role"],
        "tool"
    );
}

#[tokio::test]
async fn a_refusal_is_what_the_assistant_said() {
    let fields = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": null, "refusal": "No."},
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]},
        {"role": "user", "content": "Hi"}]});
    let asked = sent(true, fields).await;
    assert_eq!(
        asked["messages"][1],
        json!({"role": "assistant", "content": "No."})
    );
    assert_eq!(
        asked["messages"][3]["content"],
        json!([{"type": "text", "text": "Never."}])
    );
}

#[tokio::test]
async fn a_beginning_that_it_repeats_in_a_complete_answer_is_removed() {
    // The answer of this engine is "Hi".
    for (last, text) in [
        (json!({"role": "assistant", "content": "H"}), "i"),
        (
            json!({"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}),
            "",
        ),
        (json!({"role": "assistant", "content": "Ho"}), "Hi"),
        (json!({"role": "user", "content": "H"}), "Hi"),
    ] {
        let messages = json!([{"role": "user", "content": "x"}, last]);
        let (mut reply, _) = answered(true, json!({ "messages": messages })).await;
        let Ok(Some(Event::Chunk(chunk))) = reply.first_word().await else {
            panic!("no chunk");
        };
        let said = chunk.choices[0].delta.content.as_deref();
        assert_eq!(said.unwrap_or_default(), text, "{messages}");
    }
}

#[tokio::test]
async fn a_token_that_its_model_does_not_have_is_refused_by_name() {
    let (engine, backend) = behind([props(true, "")]).await;
    backend.abilities("a b").await.unwrap();
    let refused = backend
        .start(chat(&json!({"logit_bias": {"99": 1, "100": 1}})).into())
        .await
        .err();
    let Some(BackendError::InvalidRequest { param, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(param.as_deref(), Some("logit_bias.100"));
    let request = Arc::new(
        serde_json::from_value(json!({"model": "a b", "prompt": "x", "logit_bias": {"x": 1}}))
            .unwrap(),
    );
    let call = CompletionCall::new("cmpl-1", request);
    assert!(matches!(
        backend.start(call.into()).await,
        Err(BackendError::InvalidRequest { .. })
    ));
    assert_eq!(engine.requests().len(), 2, "neither was asked");
}

const MISREAD: &str = r#"{"error":{"code":500,"message":"The model produced output that does not match the expected peg-native format","type":"server_error"}}"#;

/// Returns the deltas of the answer to a chat with one tool, and the number of requests.
async fn called(answer: Vec<Step>) -> (Vec<Value>, usize) {
    let call = json!({"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant",
        "content": "{\"name\": \"f\", \"arguments\": {}}"}}]});
    let (engine, backend) =
        behind([props(true, ""), answer, json("200 OK", &call.to_string())]).await;
    backend.abilities("a b").await.unwrap();
    let fields =
        json!({"stream": true, "tools": [{"type": "function", "function": {"name": "f"}}]});
    let mut events = backend.start(chat(&fields).into()).await.unwrap().events;
    let mut deltas = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Chunk(chunk)) => deltas.push(json!(chunk.choices[0].delta)),
            Ok(_) => {}
            Err(error) => deltas.push(json!(error.kind())),
        }
    }
    (deltas, engine.bodies().len() - 2)
}

#[tokio::test]
async fn a_call_that_llama_server_cannot_read_is_asked_for_again_held_to_its_schema() {
    let chunk = |delta: Value| {
        format!(
            "data: {}\n\n",
            json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
        )
    };
    let broken = |delta: Value| {
        let text = format!("{}data: {MISREAD}\n\n", chunk(delta));
        vec![stream_head(), piece(&text), stream_end()]
    };
    let (deltas, requests) = called(json("500 Internal Server Error", MISREAD)).await;
    assert!(
        requests == 2 && deltas[0]["tool_calls"][0]["function"]["name"] == "f",
        "{deltas:?}"
    );
    let (deltas, requests) = called(broken(json!({"content": "I call:"}))).await;
    assert!(
        requests == 2 && deltas[0]["content"] == "I call:",
        "{deltas:?}"
    );
    assert_eq!(
        deltas.last().unwrap()["tool_calls"][0]["function"],
        json!({"name": "f", "arguments": "{}"})
    );
    let begun = json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]});
    let (deltas, requests) = called(broken(begun)).await;
    assert!(
        requests == 1 && deltas.last().unwrap() == "engine",
        "a call is never begun twice: {deltas:?}"
    );
}

#[tokio::test]
async fn an_engine_that_describes_its_api_reads_what_it_describes() {
    let list =
        r#"{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"vllm"}]}"#;
    let description = json!({"components": {"schemas": {"ChatCompletionRequest": {"properties": {"messages": {}, "tools": {}, "top_k": {}}}}}});
    let engine = RawEngine::start([
        json("200 OK", list),
        json("200 OK", &description.to_string()),
    ])
    .await;
    let backend = OpenAi::new("gpu", Client::default(), engine.url.parse().unwrap(), None);
    let can = backend.abilities("m").await.unwrap();
    assert!(engine.requests()[1].starts_with("GET /openapi.json HTTP/1.1\r\n"));
    let reads = can.chat_fields().unwrap();
    assert!(reads.contains("top_k") && reads.contains("functions") && !reads.contains("metadata"));
    assert!(can.has(Ability::HostedFields) && can.completion_fields().is_none());
}

/// llama-server's answer if the model's template refuses the conversation.
fn template_refuses(status: &str) -> Vec<Step> {
    let message = "\n------------\nWhile executing CallExpression at line 85, column 32 in source:\n..raise..\nError: Jinja Exception: System message must be at the beginning.";
    json(
        status,
        &json!({"error": {"code": 500, "message": message, "type": "server_error"}}).to_string(),
    )
}

fn hi() -> Vec<Step> {
    let answer = json!({"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}]});
    json("200 OK", &answer.to_string())
}

#[tokio::test]
async fn a_conversation_that_its_template_refuses_is_asked_again_in_a_plainer_form() {
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let messages = json!([
        message("system", "S"),
        message("user", "a"),
        message("system", "T"),
        message("user", "b")
    ]);
    for status in ["500 Internal Server Error", "400 Bad Request"] {
        let (engine, backend) = behind([props(true, ""), template_refuses(status), hi()]).await;
        backend.abilities("a b").await.unwrap();
        let reply = backend
            .start(chat(&json!({"messages": messages})).into())
            .await
            .unwrap();
        assert_eq!(
            reply.served_by.changed,
            [Change::SystemMoved, Change::Merged]
        );
        let sent: Value = serde_json::from_str(engine.bodies().last().unwrap()).unwrap();
        assert_eq!(
            sent["messages"],
            json!([message("system", "S\n\nT"), message("user", "a\n\nb")])
        );
    }
}

#[tokio::test]
async fn what_its_template_refuses_in_any_form_is_a_400_about_the_messages() {
    let refusals =
        || std::iter::repeat_with(|| template_refuses("500 Internal Server Error")).take(3);
    for messages in [
        json!([{"role": "user", "content": "a"}]),
        json!([{"role": "system", "content": "S"}, {"role": "assistant", "content": "a"}]),
    ] {
        let (_engine, backend) = behind([props(true, "")].into_iter().chain(refusals())).await;
        backend.abilities("a b").await.unwrap();
        let error = backend
            .start(chat(&json!({"messages": messages})).into())
            .await
            .unwrap_err();
        let expected = "This model's chat template refuses these messages: System message must be at the beginning.";
        let BackendError::InvalidRequest { message, param, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(
            (message.as_str(), param.as_deref()),
            (expected, Some("messages"))
        );
    }
}

/// A boolean in place of a schema, in one of many tools, would make the server refuse the whole
/// request.
#[tokio::test]
async fn tools_that_it_would_refuse_to_read_are_written_so_that_it_reads_them() {
    let tool = |parameters: Value| json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}});
    let plain = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let odd = json!({"type": "object", "properties": {"a": {"type": "string", "title": "A"}, "b": true, "c": {"$ref": "#"}}});
    let sent = sent(true, json!({"tools": [tool(plain.clone()), tool(odd)]})).await;
    assert_eq!(sent["tools"][0], tool(plain));
    let properties = &sent["tools"][1]["function"]["parameters"]["properties"];
    assert_eq!(
        (&properties["a"], &properties["b"], &properties["c"]["type"]),
        (
            &json!({"type": "string", "title": "A"}),
            &json!({}),
            &json!("object")
        )
    );
}

#[tokio::test]
async fn a_schema_that_it_cannot_read_is_a_400_about_the_field_that_has_it() {
    let words = "Unable to generate parser for this template. Automatic parser generation failed: JSON schema error at #/properties/a: unrecognized type x";
    let refusal =
        json!({"error": {"code": 400, "message": words, "type": "invalid_request_error"}});
    let schema = json!({"type": "object", "properties": {"a": {"type": "x"}}});
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
    let format = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
    for (fields, field) in [
        (json!({"tools": tools}), "tools"),
        (json!({"response_format": format}), "response_format"),
    ] {
        let refused = json("400 Bad Request", &refusal.to_string());
        let (_, backend) = behind([props(true, ""), refused]).await;
        backend.abilities("a b").await.unwrap();
        match backend.start(chat(&fields).into()).await {
            Err(BackendError::InvalidRequest { param, .. }) => {
                assert_eq!(param.as_deref(), Some(field));
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

#[tokio::test]
async fn numbers_in_a_tools_schema_reach_it_with_all_their_digits() {
    let parameters = r#"{"type":"object","properties":{"a":{"enum":[25227143063332189585438,0.1234567890123456789]}}}"#;
    let request = format!(
        r#"{{"model":"a b","messages":[{{"role":"user","content":"Hi"}}],"tools":[{{"type":"function",
            "function":{{"name":"f","description":"d","parameters":{parameters}}}}}]}}"#
    );
    let mut work: ChatCompletionRequest = serde_json::from_str(&request).unwrap();
    work.keep_long_numbers(request.as_bytes());
    let (engine, backend) = behind([props(true, ""), hi()]).await;
    backend.abilities("a b").await.unwrap();
    let call = ChatCall::new("chatcmpl-1", Arc::new(work));
    backend.start(call.into()).await.unwrap();
    let sent = engine.bodies().pop().unwrap();
    assert!(sent.contains(parameters), "{sent}");
}

/// A template that looks for instructions in the first message only. The server's rendering of the
/// trial conversation shows that later instructions are dropped.
#[tokio::test]
async fn later_instructions_join_the_first_ones_where_its_template_leaves_them_out() {
    let looks_first = "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}";
    let conversation = json!({"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Well?"},
    ]});
    let question = "<trial of a question>";
    for (template, rendered, moved) in [
        (looks_first, Some(json!({"prompt": question})), true),
        (
            looks_first,
            Some(json!({"prompt": format!("<trial of a system message>{question}")})),
            false,
        ),
        (looks_first, Some(json!({"error": "refused"})), false),
        // This template reads every message, so there is no trial.
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            None,
            false,
        ),
    ] {
        let rendered = rendered.map(|rendered| json("200 OK", &rendered.to_string()));
        let answers = [Some(props(true, template)), rendered, Some(hi())];
        let (engine, backend) = behind(answers.into_iter().flatten()).await;
        backend.abilities("a b").await.unwrap();
        let reply = backend.start(chat(&conversation).into()).await.unwrap();
        let sent: Value = serde_json::from_str(engine.bodies().last().unwrap()).unwrap();
        let roles: Vec<&str> = sent["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["role"].as_str().unwrap())
            .collect();
        if moved {
            assert_eq!(roles[..2], ["system", "user"], "{roles:?}");
            assert!(!roles[1..].contains(&"system"), "{roles:?}");
            let text = sent["messages"][0]["content"].to_string();
            assert!(
                text.contains("Be brief.") && text.contains("Be kind."),
                "{text}"
            );
        } else {
            assert_eq!(roles, ["system", "user", "system", "user"]);
        }
        let expected = if moved {
            vec![Change::SystemMoved]
        } else {
            Vec::new()
        };
        assert_eq!(reply.served_by.changed, expected);
    }
}
