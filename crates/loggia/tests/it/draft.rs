//! Draft models, tested with the whole program.

#![cfg(all(unix, feature = "embedded"))]
use crate::support::Program;
use crate::support::served::Served;
use crate::support::tiny;
use serde_json::{Value, json};

/// The tiny model, and one with another vocabulary.
fn program() -> Program {
    let program = Program::new()
        .with("LOGGIA_THREADS", "1")
        .with("LOGGIA_CONTEXT", "256");
    program.write("tiny.gguf", tiny::gguf());
    let mut other = tiny::gguf();
    let at = other
        .windows(5)
        .position(|window| window == b"<unk>")
        .unwrap();
    other[at + 1..at + 4].copy_from_slice(b"who");
    program.write("other.gguf", other);
    program
}

fn with_draft(draft: &str) -> String {
    format!(
        "models = [\"tiny.gguf\"]\n[per_model.tiny]\ndraft = \"{draft}\"\ndraft_always = true\n"
    )
}

fn answer(served: &Served, fields: &Value) -> (Value, Value, Value) {
    let mut body = json!({
        "model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 60, "logit_bias": {"2": -100}
    });
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let (status, mut answer) = served.post("/v1/chat/completions", &body);
    assert_eq!(status, 200, "{answer}");
    (
        answer["choices"].take(),
        answer["usage"].take(),
        answer["system_fingerprint"].take(),
    )
}

#[test]
fn a_draft_changes_neither_answers_nor_usage_nor_the_fingerprint() {
    let plain = Served::start(program(), &["--model", "tiny.gguf"]);
    let program = program();
    program.write("loggia.toml", with_draft("tiny.gguf"));
    let drafting = Served::start(program, &["--config", "loggia.toml"]);
    for fields in [
        json!({"temperature": 0}),
        json!({"temperature": 0.1, "seed": 4}),
        json!({"temperature": 1, "seed": 4}),
    ] {
        assert_eq!(
            answer(&plain, &fields),
            answer(&drafting, &fields),
            "{fields}"
        );
    }
}

#[test]
fn a_draft_of_another_vocabulary_or_for_nobody_is_an_error_at_the_start() {
    let program = program();
    let run = |file: &str| {
        program.write("loggia.toml", file);
        program.run(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--config",
            "loggia.toml",
        ])
    };
    run(&with_draft("other.gguf")).failed_saying(&[
        "cannot be the draft model of this model: token 0 has a different text in it",
    ]);
    run(&with_draft("nothing.gguf")).failed_saying(&["there is no file", "nothing.gguf"]);
    run(&with_draft("elsewhere:7b")).failed_saying(&["there is no model `elsewhere:7b`"]);
    run("models = [\"tiny.gguf\"]\n[per_model.mine]\ndraft = \"tiny.gguf\"\n").failed_saying(&[
        "per_model.mine: it has a `draft`, but there is no embedded model with this name",
    ]);
    run("models = [\"tiny.gguf\"]\n[per_model.mine]\ncache_type_v = \"q8_0\"\n").failed_saying(&[
        "per_model.mine: it has a `cache_type_v`, but there is no embedded model with this name",
    ]);
    run("models = [\"tiny.gguf\"]\n[per_model.tiny]\ncache_type_k = \"q8_0\"\n")
        .failed_saying(&["per_model.tiny: cache_type_k = q8_0 cannot be used with this model"]);
    run("models = [\"tiny.gguf\"]\n[per_model.tiny]\ncache_type_k = \"q5_1\"\n")
        .failed_saying(&["cache_type_k", "q5_1"]);
    run("models = [\"tiny.gguf\"]\n[per_model.tiny]\ndraft_tokens = 3\n")
        .failed_saying(&["need `draft`, the name of the draft model"]);
    run(&format!("{}draft_tokens = 40\n", with_draft("tiny.gguf")))
        .failed_saying(&["it must be from 1 to 16"]);
    run(&format!("memory = \"64KiB\"\n{}", with_draft("tiny.gguf")))
        .failed_saying(&["for its draft", "64.0 KiB may be used"]);
}
