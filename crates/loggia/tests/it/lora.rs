//! LoRA adapters as models with their own names, tested with the whole program.

#![cfg(all(unix, feature = "embedded"))]

use std::io::{BufRead as _, BufReader};

use crate::support::Program;
use crate::support::served::Served;
use crate::support::tiny::{self, Chance};
use serde_json::{Value, json};

/// A folder with the tiny model and an adapter for it.
fn program() -> Program {
    let program = Program::new()
        .with("LOGGIA_THREADS", "1")
        .with("LOGGIA_CONTEXT", "128");
    program.write("tiny.gguf", tiny::gguf());
    program.write("adapter.gguf", tiny::adapter());
    program
}

/// A greedy answer: the log-probabilities of each token and of the most likely alternatives.
fn answer(served: &Served, model: &str) -> (Value, Value) {
    let body = json!({
        "model": model, "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 30,
        "logprobs": true, "top_logprobs": 3, "logit_bias": {"2": -100}
    });
    let (status, mut answer) = served.post("/v1/chat/completions", &body);
    assert_eq!((status, &answer["model"]), (200, &json!(model)), "{answer}");
    (
        answer["choices"][0]["logprobs"].take(),
        answer["system_fingerprint"].take(),
    )
}

#[test]
fn an_adapter_of_scale_0_changes_nothing_and_a_strong_one_everything() {
    let lora = |name: &str, scale: &str| format!("{name}=tiny.gguf+adapter.gguf@{scale}");
    let flags = [lora("none", "0"), lora("strong", "40"), lora("again", "40")];
    // Guessed tokens are computed in one step with the chosen ones, which rounds the
    // log-probabilities differently.
    let mut arguments = vec!["--model", "tiny.gguf", "--lookup=false"];
    arguments.extend(flags.iter().flat_map(|flag| ["--lora", flag]));
    let served = Served::start(program(), &arguments);
    let [base, none, strong, again] =
        ["tiny", "none", "strong", "again"].map(|model| answer(&served, model));
    assert_eq!(base.0, none.0);
    assert_ne!(base.0, strong.0);
    assert_eq!(strong.0, again.0);
    // Other weights have another fingerprint, and the same weights have the same.
    assert!(
        base.1 != none.1 && base.1 != strong.1 && none.1 != strong.1,
        "{} {} {}",
        base.1,
        none.1,
        strong.1
    );
    assert_eq!(strong.1, again.1);
}

#[test]
fn models_with_adapters_are_listed_with_their_base() {
    let program = program();
    program.write(
        "loggia.toml",
        "[lora.tuned]\nbase = \"tiny.gguf\"\nfile = \"adapter.gguf\"\nscale = 0.5\n",
    );
    let served = Served::start(program, &["--config", "loggia.toml"]);
    let (_, listed) = served.get("/v1/models");
    assert_eq!(
        listed["data"].as_array().unwrap().len(),
        1,
        "the base is not served under its own name: {listed}"
    );
    let (_, card) = served.get("/v1/models/tuned");
    assert_eq!(listed["data"][0], card);
    assert_eq!(
        (&card["id"], &card["base"], &card["architecture"]),
        (&json!("tuned"), &json!("tiny"), &json!("llama"))
    );
    let body = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(served.post("/v1/chat/completions", &body).0, 404);
}

#[test]
fn an_adapter_that_does_not_go_with_its_model_is_an_error_before_anything_is_loaded() {
    let program = program();
    let run = |flag: &str| program.run(&["serve", "--listen", "127.0.0.1:0", "--lora", flag]);
    run("tuned=tiny.gguf+tiny.gguf")
        .failed_saying(&["lora.tuned: ", "its general.type is not \"adapter\""]);
    run("tuned=adapter.gguf+adapter.gguf").failed_saying(&["it is an adapter and not a model"]);
    run("tuned=tiny.gguf+nothing.gguf").failed_saying(&["there is no file nothing.gguf"]);
    run("tuned=other:7b+adapter.gguf").failed_saying(&["there is no model `other:7b`"]);
    let text = |bytes: &[u8], from: &str, to: &str| {
        let at = bytes
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .unwrap();
        let mut bytes = bytes.to_vec();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    program.write("other.gguf", text(&tiny::adapter(), "llama", "gemma"));
    run("tuned=tiny.gguf+other.gguf").failed_saying(&[
        "made for the architecture \"gemma\"",
        "the model's architecture is \"llama\"",
    ]);
    program.write(
        "deeper.gguf",
        text(
            &tiny::adapter(),
            "blk.0.attn_q.weight.lora_a",
            "blk.7.attn_q.weight.lora_a",
        ),
    );
    run("tuned=tiny.gguf+deeper.gguf").failed_saying(&["lora.tuned: "]);
    let checked = program.run(&["check", "--lora", "tuned=tiny.gguf+deeper.gguf"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let alike = program.run(&[
        "serve",
        "--model",
        "tiny.gguf",
        "--lora",
        "tiny=tiny.gguf+adapter.gguf",
    ]);
    alike.failed_saying(&["two configured models have the name `tiny`"]);
}

#[test]
fn a_hundred_damaged_adapters_are_served_or_refused_and_end_nothing_else() {
    let program = program().with("LOGGIA_LOG", "error");
    let whole = tiny::adapter();
    let mut chance = Chance(0x10ad);
    let (mut loaded, mut refused) = (0, 0);
    for number in 0..100 {
        let mut file = whole.clone();
        // The header is more than a third of the file.
        let header = file.len() / 3;
        chance.damage(&mut file, header);
        program.write("damaged.gguf", file);
        let flags = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--lora",
            "tuned=tiny.gguf+damaged.gguf",
        ];
        let mut running = program.start(&flags);
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        if lines.any(|line| line.unwrap() == "try it:") {
            loaded += 1;
            continue;
        }
        refused += 1;
        let code = running.0.wait().unwrap().code();
        let log = running.log();
        assert_eq!(code, Some(1), "file {number}: {log}");
        assert!(log.contains("damaged.gguf"), "file {number}: {log}");
        // Everything that would make llama.cpp abort is detected before.
        assert!(!log.contains("its process ended"), "file {number}: {log}");
    }
    assert!(
        loaded > 10 && refused > 10,
        "{loaded} loaded, {refused} refused: the damage is too great or too small"
    );
}
