//! Tests of how an answer of an engine ends. A good end has a finish reason, any other end is an
//! error.

use std::sync::Arc;

use crate::raw::{RawEngine, Step, json, piece, stream_end, stream_head};
use futures_util::StreamExt;
use loggia_backend::http::Client;
use loggia_backend::openai::OpenAi;
use loggia_backend::{Backend, BackendError, ChatCall, CompletionCall, Event, Reply};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, FinishReason};
use serde_json::{Value, json};

/// The result of an answer: the text of each choice, the usage, and the error that ended it.
#[derive(Debug, Default)]
struct Told {
    choices: Vec<ChunkChoice>,
    usage: Option<CompletionUsage>,
    error: Option<BackendError>,
}

impl Told {
    fn text(&self) -> String {
        self.choices
            .iter()
            .filter_map(|choice| choice.delta.content.clone())
            .collect()
    }

    /// The finish reasons in the order of arrival, one per choice.
    fn ends(&self) -> Vec<(u32, FinishReason)> {
        self.choices
            .iter()
            .filter_map(|choice| Some((choice.index, choice.finish_reason?)))
            .collect()
    }
}

async fn told(reply: Result<Reply, BackendError>) -> Told {
    let mut told = Told::default();
    let mut events = match reply {
        Ok(reply) => reply.events,
        Err(error) => {
            return Told {
                error: Some(error),
                ..told
            };
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Chunk(chunk)) => told.choices.extend(chunk.choices),
            Ok(Event::Usage(usage)) => told.usage = Some(usage),
            Ok(_) => {}
            Err(error) => told.error = Some(error),
        }
    }
    told
}

fn chat(more: &Value) -> ChatCall {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let request = Arc::new(serde_json::from_value(request).unwrap());
    ChatCall::new("chatcmpl-1", request)
}

fn completion(more: &Value) -> CompletionCall {
    let mut request = json!({"model": "m", "prompt": "Hi"});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let request = Arc::new(serde_json::from_value(request).unwrap());
    CompletionCall::new("cmpl-1", request)
}

async fn engine(steps: Vec<Step>) -> (RawEngine, OpenAi) {
    let engine = RawEngine::start([steps]).await;
    let backend = OpenAi::new("gpu", Client::default(), engine.url.parse().unwrap(), None);
    (engine, backend)
}

/// The bytes of a stream with these events.
fn frames(events: &[&str]) -> String {
    let mut text = String::new();
    for event in events {
        text.extend(["data: ", event, "\n\n"]);
    }
    text
}

async fn streamed(events: &[&str], more: Value) -> Told {
    let (_engine, backend) = engine(vec![stream_head(), piece(frames(events)), stream_end()]).await;
    let mut asked = more;
    asked["stream"] = json!(true);
    told(backend.start(chat(&asked).into()).await).await
}

async fn whole(answer: &str, more: Value) -> Told {
    let (_engine, backend) = engine(json("200 OK", answer)).await;
    told(backend.start(chat(&more).into()).await).await
}

fn cut_short() -> BackendError {
    BackendError::CutShort {
        backend: "gpu".to_owned(),
    }
}

const HELLO: &str = r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;
const CALL: &str = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#;
const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

#[tokio::test]
async fn a_stream_that_ends_well_has_one_reason_whatever_the_engine_sent() {
    use FinishReason::{ContentFilter, FunctionCall, Length, Stop, ToolCalls};
    let reason = |reason: Value| {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string()
    };
    let said = |more: Value| {
        let mut chunk: Value = serde_json::from_str(HELLO).unwrap();
        chunk["choices"][0]
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        chunk.to_string()
    };
    let function =
        r#"{"choices":[{"index":0,"delta":{"function_call":{"name":"f","arguments":"{}"}}}]}"#;
    let null = reason(json!(null));
    for (events, expected) in [
        (vec![HELLO, STOP, "[DONE]"], Stop),
        (vec![HELLO, STOP], Stop),
        (vec![HELLO, STOP, USAGE], Stop),
        (vec![HELLO, "[DONE]"], Stop),
        (vec![HELLO, " [DONE] "], Stop),
        (vec![HELLO, USAGE, "[DONE]"], Stop),
        (vec![HELLO, &null, "[DONE]"], Stop),
        (vec![HELLO, STOP, STOP, USAGE, "[DONE]"], Stop),
        (vec![CALL, "[DONE]"], ToolCalls),
        (vec![CALL, STOP, "[DONE]"], ToolCalls),
        (vec![CALL, STOP, USAGE], ToolCalls),
        (vec![HELLO, CALL, &null, "[DONE]"], ToolCalls),
        (vec![function, STOP, "[DONE]"], FunctionCall),
        (vec![function, "[DONE]"], FunctionCall),
        (
            vec![&said(json!({"finish_reason": "stop"})), "[DONE]"],
            Stop,
        ),
        // Invalid or late data after the end does not affect the answer.
        (
            vec![HELLO, STOP, "{\"choices\":[],\"usage\":{\"prompt_tok"],
            Stop,
        ),
        (vec![HELLO, STOP, "garbage", "[DONE]"], Stop),
        (vec![HELLO, STOP, HELLO, "[DONE]"], Stop),
    ] {
        let told = streamed(&events, json!({})).await;
        assert_eq!(
            (told.ends(), &told.error),
            (vec![(0, expected)], &None),
            "{events:?}"
        );
        assert!(["Hi", ""].contains(&&*told.text()), "{events:?}");
        if events.contains(&USAGE) {
            assert_eq!(
                told.usage.map(|usage| usage.total_tokens),
                Some(5),
                "{events:?}"
            );
        }
    }
    for (word, without, with_calls) in [
        (json!("eos"), Stop, ToolCalls),
        (json!("eos_token"), Stop, ToolCalls),
        (json!("end_turn"), Stop, ToolCalls),
        (json!("tool_calls"), Stop, ToolCalls),
        (json!("tool_use"), Stop, ToolCalls),
        (json!("function_call"), Stop, ToolCalls),
        (json!("whatever comes next year"), Stop, ToolCalls),
        (json!(1), Stop, ToolCalls),
        (json!({"type": "stop"}), Stop, ToolCalls),
        (json!(""), Stop, ToolCalls),
        (json!("null"), Stop, ToolCalls),
        (json!(false), Stop, ToolCalls),
        (json!("length"), Length, Length),
        (json!("max_tokens"), Length, Length),
        (json!("content_filter"), ContentFilter, ContentFilter),
    ] {
        for (first, expected) in [(HELLO, without), (CALL, with_calls)] {
            let told = streamed(&[first, &reason(word.clone()), "[DONE]"], json!({})).await;
            assert_eq!(
                (told.ends(), told.error),
                (vec![(0, expected)], None),
                "{word} after {first}"
            );
        }
    }
}

#[tokio::test]
async fn a_stream_that_does_not_end_well_is_an_error_and_has_no_reason() {
    for events in [
        vec![HELLO],
        vec![CALL],
        vec![HELLO, USAGE],
        vec![
            HELLO,
            "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x",
        ],
        vec![HELLO, "garbage", "[DONE]"],
        vec![HELLO, r#"{"error":{"message":"out of memory"}}"#, "[DONE]"],
        vec![
            HELLO,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}"#,
            "[DONE]",
        ],
        // A call without a function name.
        vec![
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#,
            "[DONE]",
        ],
        vec![],
    ] {
        let told = streamed(&events, json!({})).await;
        assert!(
            told.error.is_some() && told.ends().is_empty(),
            "{events:?} {told:?}"
        );
    }
    let broken = vec![
        stream_head(),
        piece(format!("data: {HELLO}\n\n")),
        Step::Close,
    ];
    let (_engine, backend) = engine(broken).await;
    let told = told(backend.start(chat(&json!({"stream": true})).into()).await).await;
    assert_eq!(
        (told.text(), told.error),
        ("Hi".to_owned(), Some(cut_short()))
    );
}

#[tokio::test]
async fn each_of_several_choices_ends_with_a_reason_of_its_own() {
    let said =
        |index: u32| format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"Hi"}}}}]}}"#);
    let called = CALL.replace("\"index\":0", "\"index\":1");
    let two = json!({"n": 2});
    let told = streamed(&[&said(0), &called, "[DONE]"], two.clone()).await;
    assert_eq!(
        (told.ends(), told.error),
        (
            vec![(0, FinishReason::Stop), (1, FinishReason::ToolCalls)],
            None
        )
    );
    let told = streamed(&[&said(0), &called, STOP, "[DONE]"], two.clone()).await;
    assert_eq!(
        (told.ends(), told.error),
        (
            vec![(0, FinishReason::Stop), (1, FinishReason::ToolCalls)],
            None
        )
    );
    let told = streamed(&[&said(0), &called, STOP], two.clone()).await;
    assert_eq!(
        (told.ends(), told.error),
        (vec![(0, FinishReason::Stop)], Some(cut_short())),
        "the second never ended"
    );
    let told = streamed(&[&said(0), "[DONE]"], two).await;
    assert_eq!(
        told.ends(),
        [(0, FinishReason::Stop)],
        "a choice that never came is none; the door tells of it"
    );
}

#[tokio::test]
async fn a_whole_answer_has_a_reason_whatever_the_engine_sent() {
    use FinishReason::{FunctionCall, Length, Stop, ToolCalls};
    let text = json!({"role": "assistant", "content": "Hi"});
    let calls = json!({"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]});
    let older = json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": null}});
    let empty =
        json!({"role": "assistant", "content": "Hi", "tool_calls": [], "function_call": null});
    for (message, reason, expected) in [
        (&text, Some(json!("stop")), Stop),
        (&text, Some(json!(null)), Stop),
        (&text, None, Stop),
        (&text, Some(json!("tool_calls")), Stop),
        (&text, Some(json!("eos")), Stop),
        (&text, Some(json!("length")), Length),
        (&calls, Some(json!("stop")), ToolCalls),
        (&calls, Some(json!(null)), ToolCalls),
        (&calls, None, ToolCalls),
        (&calls, Some(json!("function_call")), ToolCalls),
        (&calls, Some(json!("eos")), ToolCalls),
        (&calls, Some(json!("length")), Length),
        (&older, Some(json!("stop")), FunctionCall),
        (&older, None, FunctionCall),
        (&empty, Some(json!("stop")), Stop),
    ] {
        let mut choice = json!({"message": message});
        if let Some(reason) = &reason {
            choice["finish_reason"] = reason.clone();
        }
        let told = whole(&json!({"choices": [choice]}).to_string(), json!({})).await;
        assert_eq!(
            (told.ends(), told.error),
            (vec![(0, expected)], None),
            "{message} {reason:?}"
        );
        let delta = &told.choices[0].delta;
        if let Some(calls) = &delta.tool_calls {
            let function = calls[0].function.clone().unwrap();
            assert_eq!(function.arguments.as_deref(), Some("{\"a\":1}"));
            assert_eq!(
                (calls[0].id.as_deref(), calls[0].kind.as_deref()),
                (Some("call_1_0"), Some("function"))
            );
        }
        if let Some(function) = &delta.function_call {
            assert_eq!(function.arguments.as_deref(), Some(""));
        }
    }
}

#[tokio::test]
async fn two_calls_of_a_whole_answer_have_ids_that_differ() {
    let call = |at: &str| json!({"id": "call_0", "type": "function", "function": {"name": "f", "arguments": at}});
    let message = json!({"role": "assistant", "content": null, "tool_calls": [call("1"), call("2"), call("2")]});
    let answer = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]});
    let told = whole(&answer.to_string(), json!({})).await;
    let calls = told.choices[0].delta.tool_calls.clone().unwrap();
    let ids: Vec<_> = calls
        .iter()
        .map(|call| (call.index, call.id.as_deref().unwrap()))
        .collect();
    assert_eq!(ids, [(0, "call_0"), (1, "call_1_1"), (2, "call_1_2")]);
}

#[tokio::test]
async fn calls_in_odd_shapes_are_read() {
    let piece =
        |call: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": call}}]}).to_string();
    for calls in [
        json!([{"index": "0", "id": 7, "type": null, "function": {"name": "f", "arguments": {"a": 1}}}]),
        json!([{"id": "7", "name": "f", "arguments": "{\"a\":1}"}]),
        json!({"index": 0.0, "id": "7", "function": {"name": "f", "arguments": "{\"a\":1}"}}),
        json!([null, {"id": "7", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]),
    ] {
        let told = streamed(&[&piece(calls.clone()), "[DONE]"], json!({})).await;
        let made = told.choices[0].delta.tool_calls.clone().unwrap_or_default();
        let made = serde_json::to_value(made).unwrap();
        let expected = json!([{"index": 0, "id": "7", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]);
        assert_eq!(made, expected, "{calls}");
    }
    for nothing in [
        json!(null),
        json!([]),
        json!([null]),
        json!("none"),
        json!([{}]),
    ] {
        let told = streamed(&[&piece(nothing.clone()), HELLO, "[DONE]"], json!({})).await;
        assert!(
            told.choices
                .iter()
                .all(|choice| choice.delta.tool_calls.is_none()),
            "{nothing}"
        );
        assert_eq!(told.ends(), [(0, FinishReason::Stop)], "{nothing}");
    }
}

#[tokio::test]
async fn chunks_that_lack_what_nobody_needs_or_say_it_elsewhere_are_read() {
    for (events, text) in [
        (
            vec!["{}", r#"{"choices":null}"#, HELLO, STOP, "[DONE]"],
            "Hi",
        ),
        (vec![r#"{"choices":[{"delta":null}]}"#, HELLO, STOP], "Hi"),
        (
            vec![
                r#"{"choices":[{"delta":{"role":"model","content":null}}]}"#,
                HELLO,
                STOP,
            ],
            "Hi",
        ),
        (
            vec![
                r#"{"choices":[{"message":{"role":"assistant","content":"Hi"}}]}"#,
                STOP,
            ],
            "Hi",
        ),
        (
            vec![
                r#"{"id":null,"object":7,"created":"now","model":null,"choices":[{"delta":{"content":"Hi"}}]}"#,
                STOP,
            ],
            "Hi",
        ),
        (vec!["", HELLO, STOP], "Hi"),
    ] {
        let told = streamed(&events, json!({})).await;
        assert_eq!(
            (told.text().as_str(), told.ends(), told.error),
            (text, vec![(0, FinishReason::Stop)], None),
            "{events:?}"
        );
    }
    let counts = r#"{"prompt_tokens":3.0,"completion_tokens":2}"#;
    for events in [
        vec![format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"Hi"}},"finish_reason":"stop","usage":{counts}}}]}}"#
        )],
        vec![format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"Hi"}},"finish_reason":"stop"}}],"usage":{counts}}}"#
        )],
        vec![
            format!(r#"{{"usage":{counts}}}"#),
            HELLO.to_owned(),
            STOP.to_owned(),
        ],
    ] {
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let told = streamed(&events, json!({})).await;
        assert_eq!(
            told.usage.map(|usage| usage.total_tokens),
            Some(5),
            "{events:?}"
        );
        assert!(
            told.choices.iter().all(|choice| choice.extra.is_empty()),
            "it is told once, beside the choices"
        );
    }
}

#[tokio::test]
async fn the_older_completions_end_with_a_reason_too() {
    for (events, expected) in [
        (
            vec![r#"{"choices":[{"index":0,"text":"Hi"}]}"#, "[DONE]"],
            Ok(FinishReason::Stop),
        ),
        (
            vec![
                r#"{"choices":[{"text":"Hi","finish_reason":null}]}"#,
                "[DONE]",
            ],
            Ok(FinishReason::Stop),
        ),
        (
            vec![r#"{"choices":[{"text":"Hi","finish_reason":"eos"}]}"#],
            Ok(FinishReason::Stop),
        ),
        (
            vec![r#"{"choices":[{"text":"Hi","finish_reason":"max_tokens"}]}"#],
            Ok(FinishReason::Length),
        ),
        (
            vec![
                r#"{"choices":[{"text":null}]}"#,
                r#"{"choices":[{"text":"Hi"}]}"#,
                "[DONE]",
            ],
            Ok(FinishReason::Stop),
        ),
        (vec![r#"{"choices":[{"text":"Hi"}]}"#], Err(())),
    ] {
        let (_engine, backend) =
            engine(vec![stream_head(), piece(frames(&events)), stream_end()]).await;
        let told = told(
            backend
                .start(completion(&json!({"stream": true})).into())
                .await,
        )
        .await;
        assert_eq!(told.text(), "Hi");
        assert_eq!(told.error.is_some(), expected.is_err(), "{events:?}");
        assert_eq!(
            told.ends(),
            expected.map(|reason| vec![(0, reason)]).unwrap_or_default(),
            "{events:?}"
        );
    }
    for (choice, expected) in [
        (json!({"text": "Hi"}), FinishReason::Stop),
        (
            json!({"text": "Hi", "finish_reason": null}),
            FinishReason::Stop,
        ),
        (
            json!({"text": "Hi", "finish_reason": "length"}),
            FinishReason::Length,
        ),
    ] {
        let (_engine, backend) =
            engine(json("200 OK", &json!({"choices": [choice]}).to_string())).await;
        let told = told(backend.start(completion(&json!({})).into()).await).await;
        assert_eq!(
            (told.text().as_str(), told.ends(), told.error),
            ("Hi", vec![(0, expected)], None),
            "{choice}"
        );
    }
}
