//! Images and sounds: the default model with a projector with random weights. The text of the
//! answers is meaningless. The tests check that it is the same for the same image, differs for
//! another image, and that tokens are counted.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a failure here fails the test, and tests pass `json!` values directly"
)]

use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::projector::{self, Kind};
use crate::support::{Whole, ask, call, call_with, model, next_text, open};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use image::{ImageFormat, Rgb, RgbImage};
use loggia_backend::{Ability, Backend, BackendError, ChatCall, Event};
use loggia_llama::{Forecast, Llama, LlamaOptions, LoadError};
use serde_json::{Value, json};

/// The embedding length of the default model.
const MODEL_WIDTH: u64 = 576;

fn write(folder: &Path, kind: Kind) -> std::path::PathBuf {
    let path = folder.join("mmproj-random.gguf");
    std::fs::write(&path, projector::gguf(kind, MODEL_WIDTH)).unwrap();
    path
}

fn open_with(kind: Kind, change: impl FnOnce(&mut LlamaOptions)) -> Llama {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), kind);
    open(|options| {
        options.mmproj = Some(path);
        change(options);
    })
}

/// An image with stripes; a higher number makes them lighter.
fn png(light: u8) -> Vec<u8> {
    png_of(light, 80, 60)
}

fn png_of(light: u8, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = RgbImage::from_fn(width, height, |x, y| {
        Rgb([
            light,
            if x % 16 < 8 { 255 } else { 0 },
            u8::try_from(y % 256).unwrap(),
        ])
    });
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn image(bytes: &[u8]) -> Value {
    json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", STANDARD.encode(bytes))}})
}

/// A tone of half a second.
fn wav(hertz: f32) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for at in 0_u16..4000 {
        let wave = (f32::from(at) * hertz * std::f32::consts::TAU / 8000.0).sin() * 20_000.0;
        #[expect(clippy::cast_possible_truncation, reason = "it is within 16 bits")]
        writer.write_sample(wave as i16).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

fn sound(bytes: &[u8]) -> Value {
    json!({"type": "input_audio", "input_audio": {"data": STANDARD.encode(bytes), "format": "wav"}})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn about(parts: Value) -> ChatCall {
    // The answer ends at its maximum length. Otherwise the model could end it at once, because the
    // image is meaningless to it.
    let ends = json!({"0": -100, "2": -100});
    let fields = json!({"temperature": 0, "max_tokens": 8, "logprobs": true, "top_logprobs": 5, "logit_bias": ends});
    call_with(json!([{"role": "user", "content": parts}]), fields)
}

fn look(light: u8) -> ChatCall {
    about(json!([
        text("What is in "),
        image(&png(light)),
        text(" this picture?")
    ]))
}

/// The most probable first tokens, which differ between two images.
fn first(whole: &Whole) -> Vec<(String, f64)> {
    assert_eq!(whole.error, None);
    whole.logprobs[0]
        .top_logprobs
        .iter()
        .map(|top| (top.token.clone(), top.logprob))
        .collect()
}

fn refusal(whole: &Whole) -> (String, String, String) {
    match whole.error.clone() {
        Some(BackendError::InvalidRequest {
            message,
            param,
            code,
        }) => (message, param.unwrap(), code.unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_same_picture_is_answered_alike_and_another_otherwise() {
    let llama = open_with(Kind::SeesAndHears, |_| ());
    let (one, other) = (ask(&llama, look(0)).await, ask(&llama, look(250)).await);
    assert_ne!(first(&one), first(&other));
    // A picture of 8 × 4 tiles of 28 pixels: 32 rows in 8 positions. Another picture before it
    // shifts the positions of all that follows.
    assert_eq!(ask(&llama, look(0)).await.text, one.text);
    let fresh = ask(&open_with(Kind::SeesAndHears, |_| ()), look(0)).await;
    assert_eq!(
        (fresh.text.clone(), first(&fresh)),
        (one.text.clone(), first(&one))
    );
}

#[tokio::test]
async fn a_picture_counts_as_the_tokens_that_it_takes() {
    let llama = open_with(Kind::SeesAndHears, |_| ());
    let with = ask(&llama, look(0)).await;
    // The text before and the text after the image are tokenized separately.
    let without = [" What is in ", " this picture?"].map(str::len);
    assert!(without.iter().all(|&length| length > 0));
    let beside = ask(
        &llama,
        about(json!([text("What is in "), text(" this picture?")])),
    )
    .await;
    let more = with.usage().prompt_tokens - beside.usage().prompt_tokens;
    assert!(
        (16..=18).contains(&more),
        "{more} more tokens than without the picture, which has 16 rows"
    );
}

#[tokio::test]
async fn the_prompt_of_a_picture_or_a_sound_is_counted_without_an_answer() {
    let hear = || {
        about(json!([
            text("What is this?"),
            sound(&wav(200.0)),
            text("Say it.")
        ]))
    };
    for kind in [Kind::SeesAndHears, Kind::SeesAllAtOnce] {
        let llama = open_with(kind, |_| ());
        let is_seen_only = kind == Kind::SeesAllAtOnce;
        for call in [look(0), hear()]
            .into_iter()
            .take(2 - usize::from(is_seen_only))
        {
            let before = llama.count_tokens(call.clone()).await.unwrap();
            let whole = ask(&llama, call.clone()).await;
            assert_eq!(before.input_tokens, whole.usage().prompt_tokens);
            // From the rows in the cache.
            assert_eq!(llama.count_tokens(call).await, Ok(before));
        }
    }
    let blind = open(|_| ()).count_tokens(look(0)).await.unwrap_err();
    assert_eq!(Some(blind), ask(&open(|_| ()), look(0)).await.error);
}

#[tokio::test]
async fn the_next_turn_reads_neither_the_picture_nor_what_came_before_again() {
    let llama = open_with(Kind::SeesAndHears, |_| ());
    let one = ask(&llama, look(0)).await;
    let parts = json!([text("What is in "), image(&png(0)), text(" this picture?")]);
    let turn = |parts: Value| {
        let messages = json!([
            {"role": "user", "content": parts},
            {"role": "assistant", "content": one.text},
            {"role": "user", "content": "And?"}
        ]);
        call_with(messages, json!({"temperature": 0, "max_tokens": 4}))
    };
    let next = ask(&llama, turn(parts)).await;
    assert_eq!(next.error, None);
    assert!(
        next.cached() >= one.usage().prompt_tokens,
        "{} of {}",
        next.cached(),
        one.usage().prompt_tokens
    );
    // With another image in its place, only the tokens before the image are found in the cache.
    let other = json!([text("What is in "), image(&png(90)), text(" this picture?")]);
    let before = next.cached();
    let next = ask(&llama, turn(other)).await;
    assert!(next.cached() < before - 16, "{} cached", next.cached());
}

#[tokio::test]
async fn a_sound_is_heard() {
    let llama = open_with(Kind::SeesAndHears, |_| ());
    let hear = |hertz| {
        about(json!([
            text("What do you hear?"),
            sound(&wav(hertz)),
            text("Say it.")
        ]))
    };
    let (low, high) = (
        ask(&llama, hear(200.0)).await,
        ask(&llama, hear(3000.0)).await,
    );
    assert_ne!(first(&low), first(&high));
    assert!(low.usage().prompt_tokens > 375, "{:?}", low.usage());
    assert_eq!(ask(&llama, hear(200.0)).await.text, low.text);
}

#[tokio::test]
async fn rows_that_see_each_other_are_read_in_one_step_however_small_steps_are() {
    let llama = open_with(Kind::SeesAllAtOnce, |options| {
        (options.piece, options.batch) = (4, 8);
    });
    let (one, other) = (ask(&llama, look(0)).await, ask(&llama, look(250)).await);
    assert_ne!(first(&one), first(&other));
    assert_eq!(ask(&llama, look(0)).await.text, one.text);
}

#[tokio::test]
async fn a_picture_read_in_pieces_is_the_same_picture() {
    let whole = ask(&open_with(Kind::SeesAndHears, |_| ()), look(0)).await;
    let pieces = ask(
        &open_with(Kind::SeesAndHears, |options| {
            (options.piece, options.batch) = (3, 5);
        }),
        look(0),
    )
    .await;
    let apart = first(&whole)
        .iter()
        .zip(first(&pieces))
        .map(|(a, b)| (a.1 - b.1).abs())
        .fold(0.0, f64::max);
    assert!(apart < 0.1, "{apart}");
}

#[tokio::test]
async fn several_pictures_and_several_choices_are_read_once() {
    let llama = open_with(Kind::SeesAndHears, |_| ());
    let parts = json!([
        image(&png(0)),
        text(" or "),
        image(&png(90)),
        text(" or "),
        image(&png(0)),
        text("?")
    ]);
    let whole = ask(
        &llama,
        call_with(
            json!([{"role": "user", "content": parts}]),
            json!({"n": 3, "max_tokens": 3}),
        ),
    )
    .await;
    assert_eq!(whole.error, None);
    assert!(whole.usage().prompt_tokens > 3 * 16);
    assert_eq!(whole.usage().completion_tokens, 9);
}

#[tokio::test]
async fn streams_go_on_while_others_show_pictures() {
    let llama = open_with(Kind::SeesAndHears, |options| options.context = Some(2048));
    let endless = json!({"max_tokens": 120, "logit_bias": {"0": -100, "2": -100}});
    let mut events = llama
        .start(call("Tell me a long story.", endless).into())
        .await
        .unwrap()
        .events;
    next_text(&mut events).await;
    let watching = async {
        let (mut longest, mut last) = (Duration::ZERO, Instant::now());
        while let Some(event) = events.next().await {
            if matches!(event.unwrap(), Event::Chunk(_)) {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
        }
        longest
    };
    let looking = async {
        let parts: Vec<Value> = (0..12)
            .flat_map(|light| [image(&png(light * 20)), text(" ")])
            .collect();
        ask(&llama, about(Value::from(parts))).await
    };
    let (longest, seen) = tokio::join!(watching, looking);
    assert_eq!(seen.error, None);
    assert!(longest < Duration::from_secs(5), "a pause of {longest:?}");
}

#[tokio::test]
async fn what_is_no_picture_or_sound_is_refused_at_its_place() {
    let llama = open_with(Kind::SeesAndHears, |_| ());
    let mut cut = png(0);
    cut.truncate(60);
    let (message, param, code) =
        refusal(&ask(&llama, about(json!([text("See"), image(&cut)]))).await);
    assert_eq!(
        (param.as_str(), code.as_str()),
        ("messages[0].content[1].image_url.url", "invalid_image_url")
    );
    assert_eq!(
        message,
        "The image cannot be used: it is damaged or truncated."
    );
    let (message, param, code) =
        refusal(&ask(&llama, about(json!([sound(b"RIFF"), text("Hear")]))).await);
    assert_eq!(
        (param.as_str(), code.as_str()),
        (
            "messages[0].content[0].input_audio.data",
            "invalid_input_audio"
        )
    );
    assert_eq!(
        message,
        "The sound cannot be used: it is not a WAV file, or it uses an unsupported feature."
    );
    // The engine still answers after these errors.
    assert_eq!(ask(&llama, look(0)).await.error, None);
}

#[tokio::test]
async fn pictures_that_do_not_fit_the_context_are_refused_with_both_numbers() {
    let about_two = || about(json!([image(&png(0)), image(&png(90)), text("Compare.")]));
    let fits = ask(&open_with(Kind::SeesAndHears, |_| ()), about_two())
        .await
        .usage()
        .prompt_tokens;
    let context = u32::try_from(fits).unwrap() - 10;
    match ask(
        &open_with(Kind::SeesAndHears, |options| {
            options.context = Some(context);
        }),
        about_two(),
    )
    .await
    .error
    {
        Some(BackendError::ContextLengthExceeded {
            prompt_tokens: Some(tokens),
            context: Some(most),
        }) => {
            assert_eq!((tokens, most), (fits, u64::from(context)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_picture_of_any_shape_is_read() {
    for kind in [Kind::SeesAndHears, Kind::SeesAllAtOnce, Kind::SeesTiles] {
        let llama = open_with(kind, |_| ());
        for (width, height) in [
            (1, 1),
            (1, 200),
            (200, 1),
            (57, 56),
            (3, 599),
            (4000, 20),
            (700, 1500),
        ] {
            let whole = ask(
                &llama,
                about(json!([image(&png_of(9, width, height)), text("?")])),
            )
            .await;
            assert_eq!(
                whole.error, None,
                "{width} × {height} for one that {kind:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_picture_of_several_parts_is_read_and_found_again_part_by_part() {
    let llama = open_with(Kind::SeesTiles, |_| ());
    let show = |width, height| {
        about(json!([
            text("See "),
            image(&png_of(9, width, height)),
            text("?")
        ]))
    };
    let (square, wide) = (
        ask(&llama, show(50, 50)).await,
        ask(&llama, show(900, 300)).await,
    );
    // At least three tiles, and the whole image, with four rows each.
    assert!(
        wide.usage().prompt_tokens >= square.usage().prompt_tokens + 12,
        "{square:?} {wide:?}"
    );
    let again = ask(&llama, show(900, 300)).await;
    assert_eq!(again.text, wide.text);
    assert_eq!(again.cached() + 1, again.usage().prompt_tokens);
}

#[tokio::test]
async fn an_answer_about_a_picture_has_the_form_that_is_asked_for() {
    let llama = open_with(Kind::SeesAndHears, |_| ());
    let messages = || json!([{"role": "user", "content": [text("What is this?"), image(&png(0))]}]);
    let schema = json!({
        "type": "object", "properties": {"dark": {"type": "boolean"}}, "required": ["dark"], "additionalProperties": false
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "seen", "schema": schema, "strict": true}});
    let whole = ask(
        &llama,
        call_with(messages(), json!({"response_format": format})),
    )
    .await;
    let seen: Value = serde_json::from_str(&whole.text).unwrap();
    assert!(seen["dark"].is_boolean(), "{seen}");
    let tools = json!([{"type": "function", "function": {"name": "tell", "parameters": schema}}]);
    let whole = ask(
        &llama,
        call_with(
            messages(),
            json!({"tools": tools, "tool_choice": "required"}),
        ),
    )
    .await;
    assert_eq!((whole.error, whole.calls.is_empty()), (None, false));
}

#[tokio::test]
async fn choices_about_a_picture_are_what_one_would_be() {
    let llama = open_with(Kind::SeesAndHears, |_| ());
    let fields = |n| json!({"temperature": 0, "max_completion_tokens": 6, "n": n});
    let messages =
        || json!([{"role": "user", "content": [image(&png(40)), text("What is this?")]}]);
    let one = ask(&llama, call_with(messages(), fields(1))).await;
    let three = ask(&llama, call_with(messages(), fields(3))).await;
    assert_eq!(three.usage().prompt_tokens, one.usage().prompt_tokens);
    assert_eq!(
        three.usage().completion_tokens,
        3 * one.usage().completion_tokens
    );
    assert_eq!(three.text.len(), 3 * one.text.len());
}

#[tokio::test]
async fn those_who_leave_while_their_pictures_are_looked_at_hold_nobody_up() {
    let llama = open_with(Kind::SeesAndHears, |options| {
        (options.parallel, options.queue) = (1, Some(2));
    });
    for light in 0..60 {
        // The request may be at any stage: decoding, waiting for the projector, or being encoded.
        let wait = Duration::from_micros(u64::from(light) * 150);
        let _ = tokio::time::timeout(wait, llama.start(look(light).into())).await;
    }
    assert_eq!(ask(&llama, look(200)).await.error, None);
}

#[tokio::test]
async fn more_than_may_wait_are_told_to_come_back() {
    let llama = open_with(Kind::SeesAndHears, |options| {
        (options.parallel, options.queue) = (1, Some(1));
    });
    let asked = (0..8_u8).map(|light| ask(&llama, look(light * 30)));
    let errors: Vec<_> = futures_util::future::join_all(asked)
        .await
        .into_iter()
        .filter_map(|whole| whole.error)
        .collect();
    assert!(!errors.is_empty() && errors.len() <= 7, "{errors:?}");
    assert!(
        errors.iter().all(|error| matches!(
            error,
            BackendError::Busy {
                retry_after: Some(_)
            }
        )),
        "{errors:?}"
    );
    assert_eq!(ask(&llama, look(200)).await.error, None);
}

#[tokio::test]
async fn what_a_projector_takes_none_of_is_refused_at_its_place() {
    let deaf = ask(
        &open_with(Kind::SeesAllAtOnce, |_| ()),
        about(json!([text("Hear"), sound(&wav(200.0))])),
    )
    .await;
    let (message, param, code) = refusal(&deaf);
    assert_eq!(
        (param.as_str(), code.as_str()),
        (
            "messages[0].content[1].input_audio.data",
            "unsupported_parameter"
        )
    );
    assert_eq!(message, "This model's projector does not accept sounds.");
    let (message, param, code) = refusal(&ask(&open_with(Kind::Hears, |_| ()), look(0)).await);
    assert_eq!(
        (param.as_str(), code.as_str()),
        (
            "messages[0].content[1].image_url.url",
            "unsupported_parameter"
        )
    );
    assert_eq!(message, "This model's projector does not accept images.");
}

#[tokio::test]
async fn a_model_says_whether_it_sees_and_hears() {
    for (kind, sees, hears) in [
        (Kind::SeesAndHears, true, true),
        (Kind::SeesAllAtOnce, true, false),
        (Kind::Hears, false, true),
    ] {
        let llama = open_with(kind, |_| ());
        let can = llama.abilities("smollm2").await.unwrap();
        assert_eq!(
            (can.has(Ability::Images), can.has(Ability::Audio)),
            (sees, hears),
            "{kind:?}"
        );
        let card = llama.models().await.unwrap().remove(0);
        let capabilities = card.extra["capabilities"].as_array().unwrap().clone();
        assert_eq!(capabilities.contains(&json!("vision")), sees);
        assert_eq!(capabilities.contains(&json!("audio")), hears);
    }
    let blind = open(|_| ());
    let can = blind.abilities("smollm2").await.unwrap();
    assert!(!can.has(Ability::Images) && !can.has(Ability::Audio));
    let (_, param, code) = refusal(&ask(&blind, look(0)).await);
    assert_eq!(
        (param.as_str(), code.as_str()),
        (
            "messages[0].content[1].image_url.url",
            "unsupported_parameter"
        )
    );
}

#[tokio::test]
async fn another_projector_is_another_model_to_a_fingerprint() {
    let with = open_with(Kind::SeesAndHears, |_| ())
        .start(look(0).into())
        .await
        .unwrap()
        .served_by;
    let other = open_with(Kind::SeesAllAtOnce, |_| ())
        .start(look(0).into())
        .await
        .unwrap()
        .served_by;
    let without = open(|_| ())
        .start(call("Hi", json!({})).into())
        .await
        .unwrap()
        .served_by;
    assert!(with.fingerprint != other.fingerprint && with.fingerprint != without.fingerprint);
}

#[test]
fn a_projector_for_another_model_and_what_is_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("mmproj.gguf");
    std::fs::write(&other, projector::gguf(Kind::SeesAndHears, 64)).unwrap();
    let open = |mmproj: &Path| {
        let mut options = LlamaOptions::new(model(), "m");
        options.mmproj = Some(mmproj.to_owned());
        Llama::open(&options)
    };
    assert!(matches!(open(&other), Err(LoadError::Projector { .. })));
    let error = open(&model()).unwrap_err().to_string();
    assert!(
        error.contains("it is not a projector: its architecture is \"llama\""),
        "{error}"
    );
    std::fs::write(&other, projector::gguf(Kind::SeesByTurns, MODEL_WIDTH)).unwrap();
    let error = open(&other).unwrap_err().to_string();
    assert!(
        error.contains("projectors of the type hunyuanvl are not supported"),
        "{error}"
    );
    std::fs::write(&other, projector::gguf(Kind::SeesAmongMarks, MODEL_WIDTH)).unwrap();
    assert!(
        matches!(open(&other), Err(LoadError::Projector { .. })),
        "the model has none of the tokens that it wants"
    );
}

#[test]
fn a_forecast_counts_the_projector() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), Kind::SeesAndHears);
    let mut options = LlamaOptions::new(model(), "m");
    let without = Forecast::of(&options).unwrap();
    options.mmproj = Some(path.clone());
    let with = Forecast::of(&options).unwrap();
    assert!(with.projector > std::fs::metadata(path).unwrap().len());
    assert_eq!(with.bytes() - without.bytes(), with.projector);
}
