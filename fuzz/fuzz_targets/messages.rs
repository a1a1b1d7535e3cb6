//! Any bytes as the body of a request of Anthropic's API, through the whole of `OpenAiLayer`.
//!
//! Whatever the request is, the answer or the error must have Anthropic's format and must not be a
//! 500, a stream must have its end, and a request that can be read can be written and read again.
#![no_main]

mod layered;

use libfuzzer_sys::fuzz_target;
use loggia_wire::anthropic::MessagesRequest;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<MessagesRequest>(body) {
        let written = serde_json::to_vec(&request).expect("what was read can be written");
        let again = serde_json::from_slice(&written);
        assert_eq!(request, again.expect("what was written can be read"));
    }
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        let (head, body) = layered::post(path, body);
        if head.status == 200 && head.headers["content-type"] == "text/event-stream" {
            assert!(
                body.starts_with(b"event: message_start\n")
                    && body
                        .ends_with(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
                "{}",
                String::from_utf8_lossy(&body)
            );
            continue;
        }
        let answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
        if head.status == 200 {
            let is_count = path.ends_with("count_tokens") && answer["input_tokens"].is_u64();
            assert!(is_count || answer["type"] == "message", "{answer}");
        } else {
            assert!(head.status.is_client_error(), "{}: {answer}", head.status);
            assert_eq!(answer["type"], "error");
            let error = &answer["error"];
            assert_eq!(error["type"], "invalid_request_error", "{answer}");
            assert!(
                error["message"]
                    .as_str()
                    .is_some_and(|message| !message.is_empty())
            );
        }
    }
});
