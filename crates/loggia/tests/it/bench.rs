//! `loggia bench` as a process, with a tiny model, and with a second server.

#![cfg(feature = "embedded")]
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::served::Served;
use crate::support::{Program, tiny};

const FIGURES: [&str; 3] = [
    "prompt_tokens_per_second",
    "answer_tokens_per_second",
    "first_token_ms",
];

fn with_a_model() -> Program {
    let program = Program::new();
    program.write("tiny.gguf", tiny::gguf());
    program
}

#[test]
fn a_model_is_measured_beside_another_server() {
    let other = Served::start(with_a_model(), &["--model", "tiny.gguf"]);
    let url = format!("http://{}", other.address);
    let program = with_a_model();
    let arguments = ["bench", "tiny.gguf", "--against", &url, "--json", "--time"];
    let measured = |seconds: u64| -> Value {
        let begun = Instant::now();
        let time = format!("{seconds}s");
        let run = program
            .run(&[&arguments[..], &[&time]].concat())
            .succeeded();
        // The measurement may take half as long again, and the time to load the model.
        let most = Duration::from_secs(seconds * 3 / 2 + 34);
        assert!(begun.elapsed() < most, "{run:?}");
        serde_json::from_str(&run.out).unwrap()
    };
    let mut json = measured(4);
    // On a busy machine, four seconds can be too short for all figures, and the report says so.
    if json.to_string().contains("there was not enough time") {
        json = measured(40);
    }
    assert!(json["rounds"].as_u64() >= Some(1), "{json}");
    assert_eq!(json["parallel"], 4);
    let servers = json["servers"].as_array().unwrap();
    assert_eq!(servers.len(), 2);
    for server in servers {
        for figure in FIGURES {
            for at_once in ["1", "4", "8"] {
                let figure = server[figure][at_once].as_f64();
                assert!(figure.is_some_and(|figure| figure > 0.0), "{json}");
            }
        }
        assert!(
            server["structured_answer_ms"].as_f64() > Some(0.0),
            "{json}"
        );
        assert_eq!(server["failures"], serde_json::json!([]));
    }
    assert_eq!(servers[0]["url"], Value::Null);
    // The program and the process of its engine.
    assert!(servers[0]["memory_bytes"].as_u64() > Some(10 << 20));
    assert_eq!(servers[1]["url"], url);
    assert_eq!(servers[1]["memory_bytes"], Value::Null);
}

#[test]
fn the_table_names_the_model_and_its_settings() {
    let program = with_a_model();
    let arguments = ["bench", "tiny.gguf", "--parallel", "2", "--threads", "1"];
    let run = program.run(&[&arguments[..], &["--time", "1s"]].concat());
    let run = run.succeeded();
    let first = run.out.lines().next().unwrap();
    assert!(first.starts_with("Loggia: tiny, context "), "{run:?}");
    assert!(
        first.ends_with(" tokens, 2 requests at once, 1 thread"),
        "{run:?}"
    );
    assert!(
        run.out.contains("\nanswers, tokens/s           8 "),
        "{run:?}"
    );
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let program = with_a_model();
    let away = ["bench", "tiny.gguf", "--against", "http://127.0.0.1:9"];
    program.run(&away).failed_saying(&["http://127.0.0.1:9"]);
    let no_time = ["bench", "tiny.gguf", "--time", "0s"];
    program.run(&no_time).failed_saying(&["raise --time"]);
    program.write("embeds.gguf", tiny::embedding());
    program
        .run(&["bench", "embeds.gguf"])
        .failed_saying(&["embeds cannot answer"]);
}
