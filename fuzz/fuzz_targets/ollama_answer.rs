//! Any bytes as the lines of an answer of Ollama: events or an error, no panic, and no event after
//! the last line.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use loggia_backend::Profile;
use loggia_backend::ollama::AnswerTranslator;
use loggia_wire::frame::Lines;

fuzz_target!(|body: &[u8]| {
    let mut answer = AnswerTranslator::new(
        "chatcmpl-x",
        "ollama".into(),
        Profile::Openai,
        body.len() % 2 == 0,
    );
    let mut lines = Lines::new(1 << 16);
    lines.push(Bytes::copy_from_slice(body));
    while let Ok(Some(line)) = lines.next_line() {
        let done = answer.is_done();
        match answer.push(&line) {
            Ok(events) => assert!(!done || events.count() == 0, "an event after the last line"),
            Err(_) => return,
        }
    }
    assert_eq!(answer.finish().is_ok(), answer.is_done());
});
