//! Any bytes as the body of a chat request, through the whole of `OpenAiLayer`, to an Ollama that
//! accepts every request.
//!
//! Every part runs: fields are handled, schemas are walked, calls are emulated, the request is
//! translated, and the answer is encoded. Whatever the request is, the answer or the error must
//! have OpenAI's format and must not be a 500, and the request to Ollama must be JSON that does not
//! allow truncation.
#![no_main]

mod layered;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|body: &[u8]| {
    let (head, body) = layered::post("/v1/chat/completions", body);
    if head.status != 200 {
        assert!(head.status.is_client_error(), "{}", head.status);
        let error: Value = serde_json::from_slice(&body).expect("an error is JSON");
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert!(
            error["error"]["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
    } else if head.headers["content-type"] == "text/event-stream" {
        assert!(
            body.ends_with(b"data: [DONE]\n\n"),
            "{}",
            String::from_utf8_lossy(&body)
        );
    } else {
        let answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
        assert_eq!(answer["object"], "chat.completion");
    }
});
