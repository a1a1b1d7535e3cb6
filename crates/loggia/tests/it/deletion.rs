//! `DELETE /v1/models/{id}` for embedded models: which can be deleted, and by whom.

#![cfg(all(unix, feature = "embedded"))]
use crate::support::served::Served;
use crate::support::{Program, tiny};
use serde_json::json;

/// A program with two models in its model folder, `pulled` and `second`, and one outside of it.
fn program() -> Program {
    let program = Program::new();
    for name in ["pulled", "second"] {
        program.write(&format!("{name}.gguf"), tiny::gguf());
        program.run(&["pull", &format!("{name}.gguf")]).succeeded();
        // The model folder has its own copy now.
        std::fs::remove_file(program.path(&format!("{name}.gguf"))).unwrap();
    }
    program.write("own.gguf", tiny::gguf());
    program
}

const SMALL: [&str; 4] = ["--context", "64", "--threads", "1"];

fn serve(program: Program, arguments: &[&str]) -> Served {
    Served::start(program, &[&SMALL[..], arguments].concat())
}

fn delete(served: &Served, id: &str) -> (u16, serde_json::Value) {
    served.ask("DELETE", &format!("/v1/models/{id}"), "")
}

#[test]
fn a_pulled_model_goes_with_its_file_and_a_file_given_by_its_path_stays() {
    let program = program();
    let (stored, own) = (program.model("pulled.gguf"), program.path("own.gguf"));
    let served = serve(
        program,
        &[
            "--model",
            "pulled",
            "--model",
            "second",
            "--model",
            own.to_str().unwrap(),
        ],
    );
    let chat = json!({"model": "pulled", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(served.post("/v1/chat/completions", &chat).0, 200);
    assert_eq!(delete(&served, "nope").0, 404);

    let (status, said) = delete(&served, "pulled");
    assert_eq!(
        (status, &said),
        (
            200,
            &json!({"id": "pulled", "object": "model", "deleted": true})
        )
    );
    assert!(!stored.exists());
    assert_eq!(served.models(), ["second", "own"]);
    let (status, said) = served.post("/v1/chat/completions", &chat);
    assert_eq!(
        (status, &said["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    assert_eq!(delete(&served, "pulled").0, 404, "once");

    let (status, said) = delete(&served, "own");
    assert_eq!(
        (status, &said["error"]["code"]),
        (403, &json!("model_not_deletable")),
        "{said}"
    );
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .contains("by path"),
        "{said}"
    );
    assert!(own.exists());
    let chat =
        json!({"model": "own", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(
        served.post("/v1/chat/completions", &chat).0,
        200,
        "it goes on"
    );

    assert_eq!(delete(&served, "embedded%2Fsecond").0, 200);
    assert_eq!(served.models(), ["own"]);
}

#[test]
fn what_others_need_and_what_is_only_a_name_is_not_deleted() {
    let program = program();
    program.write("adapter.gguf", tiny::adapter());
    let arguments = [
        "--model",
        "pulled",
        "--lora",
        "tuned=pulled+adapter.gguf",
        "--alias",
        "fast=pulled",
    ];
    let stored = program.model("pulled.gguf");
    let served = serve(program, &arguments);
    for (id, status, code, word) in [
        ("pulled", 409, "model_in_use", "`tuned`"),
        ("tuned", 403, "model_not_deletable", "LoRA adapter"),
        ("fast", 403, "model_not_deletable", "`pulled`"),
    ] {
        let (found, said) = delete(&served, id);
        assert_eq!(
            (found, &said["error"]["code"]),
            (status, &json!(code)),
            "{id}: {said}"
        );
        assert!(
            said["error"]["message"].as_str().unwrap().contains(word),
            "{said}"
        );
    }
    assert!(stored.exists());
    assert_eq!(served.models(), ["pulled", "tuned", "fast"]);
}

#[test]
fn a_folder_that_is_linked_into_the_store_keeps_its_files() {
    let program = program();
    program.write("elsewhere/linked.gguf", tiny::gguf());
    let (elsewhere, link) = (program.path("elsewhere"), program.model("more"));
    std::os::unix::fs::symlink(&elsewhere, link).unwrap();
    let served = serve(program, &["--model", "more/linked"]);
    let (status, said) = delete(&served, "more/linked");
    assert_eq!(
        (status, &said["error"]["code"]),
        (403, &json!("model_not_deletable")),
        "{said}"
    );
    assert!(elsewhere.join("linked.gguf").exists());
    assert_eq!(served.models(), ["more/linked"]);
}

#[test]
fn with_keys_only_one_that_may_deletes() {
    let program = program()
        .with("LOGGIA_KEY_ALICE", "sk-of-alice-0123456789")
        .with("LOGGIA_KEY_BOB", "sk-of-bob-0123456789");
    let file = "[[key]]\nname = \"alice\"\n[[key]]\nname = \"bob\"\nmay_delete_models = true\n";
    program.write("loggia.toml", file);
    let stored = program.model("pulled.gguf");
    let served = serve(program, &["--config", "loggia.toml", "--model", "pulled"]);
    let delete = |key: &str| served.ask("DELETE", "/v1/models/pulled", key);
    assert_eq!(delete("").0, 401);
    let (status, said) = delete("authorization: Bearer sk-of-alice-0123456789\r\n");
    assert_eq!(
        (status, &said["error"]["code"]),
        (403, &json!("insufficient_permissions")),
        "{said}"
    );
    assert!(stored.exists());
    assert_eq!(
        delete("authorization: Bearer sk-of-bob-0123456789\r\n").0,
        200
    );
    assert!(!stored.exists());
}

#[test]
fn a_server_without_keys_that_others_reach_deletes_nothing() {
    let program = program();
    let stored = program.model("pulled.gguf");
    let served = Served::start_at(
        program,
        "0.0.0.0:0",
        &[&SMALL[..], &["--model", "pulled", "--require-key=false"]].concat(),
    );
    let (status, said) = delete(&served, "pulled");
    assert_eq!(
        (status, &said["error"]["code"]),
        (403, &json!("insufficient_permissions")),
        "{said}"
    );
    assert!(stored.exists());
}
