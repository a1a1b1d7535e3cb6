//! Any bytes as the body of a chat request, under both profiles: the request is refused, or it is
//! parsed, can be translated for Ollama, and serializes to the same request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loggia_api::{Policy, parse_chat};
use loggia_backend::Profile;
use loggia_backend::ollama::chat_request;
use loggia_wire::openai::ChatCompletionRequest;

fuzz_target!(|body: &[u8]| {
    for profile in [Profile::Openai, Profile::Original] {
        let policy = Policy {
            profile,
            ..Policy::default()
        };
        let Ok((request, profile)) = parse_chat(body, &policy) else {
            continue;
        };
        let written = serde_json::to_vec(&request).expect("what was read can be written");
        let mut again: ChatCompletionRequest =
            serde_json::from_slice(&written).expect("what was written can be read");
        again.keep_long_numbers(&written);
        assert_eq!(again, *request);
        if let Ok(translated) = chat_request(&request, profile) {
            serde_json::to_vec(&translated).expect("what is sent can be written");
        }
    }
});
