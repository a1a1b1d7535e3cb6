//! Any bytes as the lines of an answer of Ollama: events or an error, no panic, and no event after
//! the last line.
#![no_main]

use std::collections::VecDeque;

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
    let mut events = VecDeque::new();
    let mut lines = Lines::new(1 << 16);
    lines.push(Bytes::copy_from_slice(body));
    while let Ok(Some(line)) = lines.next_line() {
        let done = answer.is_done();
        let before = events.len();
        if answer.push(&line, &mut events).is_err() {
            return;
        }
        assert!(
            !done || events.len() == before,
            "an event after the last line"
        );
    }
    assert_eq!(answer.finish(&mut events).is_ok(), answer.is_done());
});
