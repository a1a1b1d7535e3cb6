//! Data that is not an image, in every dialect.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use loggia_api::{Door, Policy};
use loggia_backend::ollama::Ollama;
use serde_json::{Value, json};

use crate::support::{Scripted, plain_model};

/// `hi` in base64, and the beginning of a PNG.
const TEXT: &str = "aGk=";
const PNG: &str = "iVBORw0KGgo=";

fn door() -> (Door, Scripted) {
    let inner = plain_model();
    let backend = Arc::new(Ollama::new("ollama", inner.clone()));
    (Door::new(backend, Policy::default()), inner)
}

async fn post(door: &Door, path: &str, body: &Value) -> (u16, Value) {
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(body.to_string())));
    let answer = door.serve(request.expect("a request")).await;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body");
    let json = serde_json::from_slice(&body.to_bytes());
    (status, json.expect("JSON"))
}

fn url(data: &str) -> String {
    format!("data:image/png;base64,{data}")
}

/// A chat with a text before the image, which is a part of its type or a file.
fn chat(part: &Value) -> Value {
    let parts = json!([{"type": "text", "text": "a"}, part]);
    json!({"model": "m", "messages": [{"role": "user", "content": "b"}, {"role": "user", "content": parts}]})
}

fn response(image: &str) -> [Value; 2] {
    let parts = json!([{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": url(image)}]);
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": parts});
    [
        json!([{"role": "user", "content": parts}]),
        json!([{"role": "user", "content": "b"}, call, output]),
    ]
    .map(|input| json!({"model": "m", "input": input, "store": false}))
}

/// Messages with the block in each place that can have one, and the block's place.
fn messages(block: &Value) -> [(&'static str, Value); 3] {
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, block]);
    let calls = json!([{"type": "tool_use", "id": "c", "name": "f", "input": {}}]);
    let result = json!([{"type": "tool_result", "tool_use_id": "c", "content": parts}]);
    let document = json!([{"type": "document", "source": {"type": "content", "content": parts}}]);
    [
        ("messages[0].content[2]", json!([{"role": "user", "content": parts}])),
        (
            "messages[2].content[0].content[2]",
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": calls}, {"role": "user", "content": result}]),
        ),
        (
            "messages[0].content[0].source.content[2]",
            json!([{"role": "user", "content": document}]),
        ),
    ]
    .map(|(place, messages)| {
        (place, json!({"model": "m", "max_tokens": 9, "messages": messages}))
    })
}

fn image(media_type: &str, data: &str) -> Value {
    let source = json!({"type": "base64", "media_type": media_type, "data": data});
    json!({"type": "image", "source": source})
}

#[tokio::test]
async fn data_that_is_not_an_image_is_refused_at_its_place_in_every_dialect() {
    let (door, inner) = door();
    for data in [TEXT, "", "?"] {
        let image_part = json!({"type": "image_url", "image_url": {"url": url(data)}});
        let (status, answer) = post(&door, "/v1/chat/completions", &chat(&image_part)).await;
        let error = &answer["error"];
        assert_eq!(
            (status, &error["type"], &error["code"], &error["param"]),
            (
                400,
                &json!("invalid_request_error"),
                &json!("invalid_image_url"),
                &json!("messages[1].content[1].image_url.url")
            ),
            "{data}: {answer}"
        );
        let places = [
            "input[0].content[1].image_url",
            "input[2].output[1].image_url",
        ];
        for (asked, place) in response(data).iter().zip(places) {
            let (status, answer) = post(&door, "/v1/responses", asked).await;
            let error = &answer["error"];
            assert_eq!(
                (status, &error["code"], &error["param"]),
                (400, &json!("invalid_image_url"), &json!(place)),
                "{asked}: {answer}"
            );
        }
        for path in ["/v1/messages", "/v1/messages/count_tokens"] {
            for (place, asked) in messages(&image("image/png", data)) {
                let (status, answer) = post(&door, path, &asked).await;
                let error = &answer["error"];
                assert_eq!(
                    (status, &answer["type"], &error["type"]),
                    (400, &json!("error"), &json!("invalid_request_error")),
                    "{asked}: {answer}"
                );
                let message = error["message"].as_str().expect("a message");
                assert!(
                    message.contains(&format!("{place}.source.data")),
                    "{message}"
                );
            }
        }
    }
    let file = json!({"type": "file", "file": {"file_data": url(TEXT)}});
    let (status, answer) = post(&door, "/v1/chat/completions", &chat(&file)).await;
    let place = "messages[1].content[1].file.file_data";
    assert_eq!((status, &answer["error"]["param"]), (400, &json!(place)));
    let parts = json!([{"type": "image_url", "image_url": {"url": url(TEXT)}}]);
    let asked = json!({"model": "m", "input": parts});
    let (status, answer) = post(&door, "/v1/moderations", &asked).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("invalid_image_url"))
    );
    assert!(inner.chats().is_empty());
}

#[tokio::test]
async fn the_error_of_a_backend_about_an_image_has_its_place_in_the_request() {
    let show = json!({"capabilities": ["completion", "vision"], "model_info": {}, "details": {}});
    let inner = Scripted::default().on("/api/show", 200, [show.to_string()]);
    // It fetches no images.
    let door = Door::new(Arc::new(Ollama::new("ollama", inner)), Policy::default());
    let url = "https://images.example/a.png";
    let block = json!([
        {"type": "text", "text": "a"},
        {"type": "image", "source": {"type": "url", "url": url}}
    ]);
    let message = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": block}
    ]});
    let (status, answer) = post(&door, "/v1/messages", &message).await;
    let text = answer["error"]["message"].as_str().expect("a message");
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("messages[2].content[1].source"), "{text}");
    let parts = json!([
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": url}
    ]);
    let input = json!([{"role": "user", "content": "b"}, {"role": "user", "content": parts}]);
    let asked = json!({"model": "m", "input": input, "store": false});
    let (status, answer) = post(&door, "/v1/responses", &asked).await;
    assert_eq!(
        (status, &answer["error"]["param"]),
        (400, &json!("input[1].content[1].image_url"))
    );
}

#[tokio::test]
async fn a_message_names_the_media_type_of_its_image() {
    let (door, _) = door();
    for (media_type, reason) in [
        ("image/gif", "but the image appears to be a image/png image"),
        ("image/bmp", "image/bmp"),
    ] {
        for (place, asked) in messages(&image(media_type, PNG)) {
            let (status, answer) = post(&door, "/v1/messages", &asked).await;
            let message = answer["error"]["message"].as_str().expect("a message");
            assert_eq!(status, 400, "{message}");
            let place = format!("{place}.source.media_type");
            assert!(
                message.contains(&place) && message.contains(reason),
                "{message}"
            );
        }
    }
    for (_, asked) in messages(&image("image/png", PNG)) {
        assert_eq!(post(&door, "/v1/messages", &asked).await.0, 200);
    }
    // OpenAI's API does not compare them.
    let gif =
        json!({"type": "image_url", "image_url": {"url": format!("data:image/gif;base64,{PNG}")}});
    assert_eq!(
        post(&door, "/v1/chat/completions", &chat(&gif)).await.0,
        200
    );
}
