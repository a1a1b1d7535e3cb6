//! Pictures and sounds, tested with the whole program: finding projectors, and damaged ones.

#![cfg(all(unix, feature = "embedded"))]

#[path = "../../../llama/tests/it/support/projector.rs"]
mod projector;

use std::io::{BufRead as _, BufReader};

use crate::support::Program;
use crate::support::gguf;
use crate::support::served::Served;
use crate::support::tiny::{self, Chance};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use projector::Kind;
use serde_json::{Value, json};

/// One red pixel as PNG, and one blue.
const RED: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
const BLUE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYPgPAAEDAQAIicLsAAAAAElFTkSuQmCC";

/// A program with the tiny model, and a projector in the same folder.
fn program() -> Program {
    let program = Program::new()
        .with("LOGGIA_THREADS", "1")
        .with("LOGGIA_CONTEXT", "512");
    program.write("tiny.gguf", tiny::gguf());
    program.write("mmproj-tiny.gguf", projector::gguf(Kind::SeesAndHears, 32));
    program
}

fn about(model: &str, parts: &Value) -> Value {
    json!({
        "model": model, "messages": [{"role": "user", "content": parts}], "temperature": 0, "max_tokens": 3,
        "logprobs": true, "top_logprobs": 3, "logit_bias": {"2": -100}
    })
}

fn image(base64: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{base64}")}})
}

fn look(served: &Served, model: &str, base64: &str) -> (u16, Value) {
    served.post(
        "/v1/chat/completions",
        &about(
            model,
            &json!([{"type": "text", "text": "see"}, image(base64)]),
        ),
    )
}

#[test]
fn a_model_sees_and_hears_with_the_projector_beside_it() {
    let served = Served::start(program(), &["--model", "tiny.gguf"]);
    let (_, card) = served.get("/v1/models/tiny");
    let can = card["capabilities"].as_array().unwrap();
    assert!(
        can.contains(&json!("vision")) && can.contains(&json!("audio")),
        "{card}"
    );
    let (status, red) = look(&served, "tiny", RED);
    assert_eq!(status, 200, "{red}");
    let (_, blue) = look(&served, "tiny", BLUE);
    assert_ne!(
        red["choices"][0]["logprobs"],
        blue["choices"][0]["logprobs"]
    );
    let (_, again) = look(&served, "tiny", RED);
    assert_eq!(
        red["choices"][0]["logprobs"]["content"][0]["token"],
        again["choices"][0]["logprobs"]["content"][0]["token"]
    );
    assert!(
        again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64() >= Some(16),
        "{again}"
    );
    let (_, without) = served.post(
        "/v1/chat/completions",
        &about("tiny", &json!([{"type": "text", "text": "see"}])),
    );
    let tokens = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(&red) >= tokens(&without) + 16, "{red} {without}");
}

#[test]
fn what_is_no_picture_is_a_400_at_its_place() {
    let served = Served::start(program(), &["--model", "tiny.gguf"]);
    let (status, refused) = look(&served, "tiny", "iVBORw0KGgo=");
    assert_eq!(
        (status, &refused["error"]["code"]),
        (400, &json!("invalid_image_url")),
        "{refused}"
    );
    assert_eq!(
        refused["error"]["param"],
        "messages[0].content[1].image_url.url"
    );
    let sound = json!([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}]);
    let (status, refused) = served.post("/v1/chat/completions", &about("tiny", &sound));
    assert_eq!(
        (status, &refused["error"]["code"]),
        (400, &json!("invalid_input_audio")),
        "{refused}"
    );
    assert_eq!(
        refused["error"]["param"],
        "messages[0].content[0].input_audio.data"
    );
}

/// A picture with one colour, as PNG in base64.
fn plain(width: u32, height: u32, color: [u8; 3]) -> String {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let written = image::RgbImage::from_pixel(width, height, image::Rgb(color))
        .write_to(&mut bytes, image::ImageFormat::Png);
    assert!(written.is_ok(), "{written:?}");
    STANDARD.encode(bytes.into_inner())
}

#[test]
fn a_model_that_knows_places_in_a_picture_reads_it_in_fewer_positions_than_rows() {
    let program = || {
        let program = Program::new()
            .with("LOGGIA_THREADS", "1")
            .with("LOGGIA_CONTEXT", "512");
        program.write("places.gguf", tiny::of_places());
        program.write("mmproj-places.gguf", projector::gguf(Kind::SeesPlaces, 32));
        program
    };
    // A picture of 8 × 4 tiles of 28 pixels: 32 rows in 8 positions. Another picture before it
    // shifts what follows.
    let picture = image(&plain(224, 112, [200, 0, 0]));
    let first =
        json!([picture, {"type": "text", "text": "see"}, image(&plain(112, 112, [0, 0, 200]))]);
    let turn = |served: &Served, more: bool| {
        let mut messages = json!([{"role": "user", "content": first}]);
        if more {
            let next =
                json!([{"type": "text", "text": "and"}, picture, {"type": "text", "text": "?"}]);
            messages
                .as_array_mut()
                .unwrap()
                .push(json!({"role": "user", "content": next}));
        }
        let mut body = about("places", &json!([]));
        body["messages"] = messages;
        let (status, answer) = served.post("/v1/chat/completions", &body);
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let served = Served::start(program(), &["--model", "places.gguf"]);
    let before = turn(&served, false);
    let warm = turn(&served, true);
    let cold = turn(&Served::start(program(), &["--model", "places.gguf"]), true);
    let cached = warm["usage"]["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap();
    assert!(cached >= 32 + 16, "{warm}");
    assert!(before["usage"]["prompt_tokens"].as_u64() < warm["usage"]["prompt_tokens"].as_u64());
    // Cached or computed again: the numbers are equal up to rounding.
    let first_of =
        |answer: &Value| answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"].clone();
    for (warm, cold) in first_of(&warm)
        .as_array()
        .unwrap()
        .iter()
        .zip(first_of(&cold).as_array().unwrap())
    {
        assert_eq!(warm["token"], cold["token"]);
        let apart = warm["logprob"].as_f64().unwrap() - cold["logprob"].as_f64().unwrap();
        assert!(apart.abs() < 0.01, "{warm} {cold}");
    }
}

#[test]
fn a_projector_is_named_for_its_model_and_none_is_taken_where_that_is_said() {
    let program = program();
    program.write("blind/other.gguf", tiny::gguf());
    let flags = [
        "--model",
        "tiny.gguf",
        "--model",
        "blind/other.gguf",
        "--mmproj",
        "tiny=none",
        "--mmproj",
        "other=mmproj-tiny.gguf",
    ];
    let served = Served::start(program, &flags);
    // A model without vision gets a note about the picture, which has the same number of tokens for
    // every picture.
    let tokens = |model: &str| {
        let (status, answer) = look(&served, model, RED);
        assert_eq!(status, 200, "{answer}");
        answer["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    assert_ne!(tokens("tiny"), tokens("other"));
}

#[test]
fn a_projector_that_cannot_be_meant_or_used_is_an_error_at_the_start() {
    let program = program();
    program.write("blind/other.gguf", tiny::gguf());
    program.write("wrong.gguf", projector::gguf(Kind::SeesAndHears, 64));
    let run = |flags: &[&str]| {
        program.run(
            &[
                &["serve", "--listen", "127.0.0.1:0", "--model", "tiny.gguf"],
                flags,
            ]
            .concat(),
        )
    };
    run(&["--mmproj", "nobody=mmproj-tiny.gguf"])
        .failed_saying(&["there is no embedded model `nobody`"]);
    run(&["--mmproj", "nothing.gguf"]).failed_saying(&["there is no file nothing.gguf"]);
    run(&[
        "--model",
        "blind/other.gguf",
        "--mmproj",
        "mmproj-tiny.gguf",
    ])
    .failed_saying(&["write the name of the model, too"]);
    run(&["--mmproj", "tiny.gguf"])
        .failed_saying(&["it is not a projector: its architecture is \"llama\""]);
    run(&["--mmproj", "wrong.gguf"])
        .failed_saying(&["cannot load the projector", "made for another model"]);
}

#[test]
fn forty_damaged_projectors_end_nothing_but_their_own_model() {
    let program = program().with("LOGGIA_LOG", "error");
    let whole = projector::gguf(Kind::SeesAndHears, 32);
    let mut chance = Chance(0x0e7e);
    let (mut loaded, mut refused) = (0, 0);
    for number in 0..40 {
        let mut file = whole.clone();
        // The first kilobytes are metadata and names.
        let header = 4096;
        chance.damage(&mut file, header);
        program.write("damaged.gguf", file);
        let flags = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--model",
            "tiny.gguf",
            "--mmproj",
            "damaged.gguf",
        ];
        let mut running = program.start(&flags);
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        let first = lines.next();
        let is_up = lines.any(|line| line.unwrap() == "try it:");
        if !is_up {
            refused += 1;
            let code = running.0.wait().unwrap().code();
            let log = running.log();
            // The program reports the error and ends normally, even if llama.cpp aborted the
            // model's process.
            assert_eq!(code, Some(1), "file {number}: {log}");
            continue;
        }
        loaded += 1;
        let served = Served::at(running, &first.unwrap().unwrap());
        // Whatever happens to the picture, text requests are answered afterwards.
        let (status, answer) = look(&served, "tiny", RED);
        assert!(
            matches!(status, 200 | 400 | 500..=503),
            "file {number}: {answer}"
        );
        crate::support::eventually("texts are answered", || {
            let text = about("tiny", &json!([{"type": "text", "text": "hi"}]));
            served.post("/v1/chat/completions", &text).0 == 200
        });
    }
    assert!(
        loaded > 5 && refused > 5,
        "{loaded} loaded, {refused} refused: the damage is too great or too small"
    );
}
