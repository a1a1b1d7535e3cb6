//! `echo` with `logprobs`: the log-probabilities of a prompt's own tokens. The tests use the
//! default model, and compare with the values that llama.cpp computes for the same tokens without
//! Loggia's engine.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::support::family;
use crate::support::{Whole, ask, call as chat, completion, model, next_text, open, read};
use futures_util::StreamExt;
use futures_util::future::join_all;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use loggia_backend::{Backend, BackendError, CompletionCall, Event};
use loggia_llama::Llama;
use loggia_wire::openai::{FinishReason, TokenLogprob};
use serde_json::{Value, json};

/// The time limit of a test that hangs; no test takes that long.
const LONG: Duration = Duration::from_mins(2);

/// `Once upon a time`.
const ONCE: [u32; 4] = [6403, 1980, 253, 655];

fn call(fields: &Value) -> CompletionCall {
    completion(
        &json!({"max_tokens": 1, "echo": true, "logprobs": 3}),
        fields,
    )
}

async fn complete(llama: &Llama, fields: Value) -> Whole {
    crate::support::complete(llama, call(&fields)).await
}

/// Several texts of one request, each with its log-probabilities.
async fn complete_several(llama: &Llama, fields: Value) -> Vec<(String, Vec<TokenLogprob>)> {
    let call = call(&fields);
    let mut all = vec![(String::new(), Vec::new()); call.work.choices()];
    let mut events = llama.start(call.into()).await.unwrap().events;
    while let Some(event) = events.next().await {
        if let Event::Chunk(chunk) = event.unwrap() {
            for choice in chunk.choices {
                let (text, logprobs) = &mut all[choice.index as usize];
                text.push_str(choice.delta.content.as_deref().unwrap_or_default());
                logprobs.extend(
                    choice
                        .logprobs
                        .and_then(|logprobs| logprobs.content)
                        .unwrap_or_default(),
                );
            }
        }
    }
    all
}

/// A text of some hundred tokens, more than are scored in one step.
fn long_text(head: &str) -> String {
    format!(
        "{head} {}",
        "The keeper of the lighthouse wrote down what the sea had brought. ".repeat(20)
    )
}

fn joined(logprobs: &[TokenLogprob]) -> String {
    logprobs.iter().map(|token| token.token.as_str()).collect()
}

fn assert_close(one: &[TokenLogprob], other: &[TokenLogprob]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one.token, other.token);
        assert!(
            (one.logprob - other.logprob).abs() < 0.05,
            "{one:?} {other:?}"
        );
    }
}

/// The logarithm of each token's probability after the tokens before it. The first token has none.
fn as_llama_cpp_has_it(tokens: &[u32]) -> Vec<f64> {
    // Dropping the backend would shut llama.cpp down for the engines of other tests.
    let backend = ManuallyDrop::new(LlamaBackend::init().unwrap_or(LlamaBackend {}));
    let model =
        LlamaModel::load_from_file(&backend, model(), &LlamaModelParams::default()).unwrap();
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(1024))
        .with_n_threads(1);
    let mut context = model.new_context(&backend, params).unwrap();
    let mut found = Vec::new();
    // The same number of tokens per step as in the engine, because other numbers change the order
    // of the sums.
    for (piece, place) in tokens.chunks(64).zip((0..).step_by(64)) {
        let mut batch = LlamaBatch::new(64, 1);
        for (position, &token) in (0..).zip(piece) {
            batch
                .add(
                    LlamaToken(token.cast_signed()),
                    place + position,
                    &[0],
                    true,
                )
                .unwrap();
        }
        context.decode(&mut batch).unwrap();
        let rows = usize::try_from(place).unwrap()..tokens.len() - 1;
        for (row, place) in (0..64).zip(rows) {
            let logits = context.get_logits_ith(row);
            let all: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            found.push(f64::from(logits[tokens[place + 1] as usize]) - all.ln());
        }
    }
    found
}

#[tokio::test]
async fn the_log_probabilities_of_a_prompt_are_what_llama_cpp_computes_for_it() {
    let llama = open(|_| ());
    let text = long_text("Once upon a time");
    // The prompt is sent as token ids, so that both sides compute the same tokens.
    let whole = complete(&llama, json!({"prompt": ONCE.repeat(40)})).await;
    let expected = as_llama_cpp_has_it(&ONCE.repeat(40));
    let prompt = &whole.logprobs[1..160];
    assert_eq!(expected.len(), prompt.len());
    for (expected, token) in expected.iter().zip(prompt) {
        assert!(
            (expected - token.logprob).abs() < 1e-3,
            "{expected} {token:?}"
        );
    }
    // A text is scored with the same tokens with which it is read.
    let whole = complete(&llama, json!({"prompt": text})).await;
    assert_eq!(joined(&whole.logprobs), whole.text);
    assert!(whole.text.starts_with(&text));
}

#[tokio::test]
async fn each_token_of_a_prompt_is_as_likely_as_when_it_is_the_next_one_after_those_before_it() {
    let llama = open(|_| ());
    let tokens = [&ONCE[..], &[28, 665, 436, 253, 5, 2, 40_000]].concat();
    let whole = complete(&llama, json!({"prompt": tokens, "logprobs": 5})).await;
    assert_eq!(whole.logprobs.len(), tokens.len() + 1);
    for (place, &token) in tokens.iter().enumerate().skip(1) {
        let fields = json!({"prompt": tokens[..place], "echo": false, "logprobs": 5, "logit_bias": {token.to_string(): 100}});
        let alone = complete(&llama, fields).await.logprobs.remove(0);
        let scored = &whole.logprobs[place];
        assert!(
            (scored.logprob - alone.logprob).abs() < 0.05,
            "{scored:?} {alone:?}"
        );
        let likeliest = |token: &TokenLogprob| token.top_logprobs[0].token.clone();
        assert_eq!(likeliest(scored), likeliest(&alone));
        assert_eq!(scored.top_logprobs.len(), 5);
    }
}

#[tokio::test]
async fn the_first_token_of_a_prompt_has_no_probability_and_every_other_has_one() {
    let llama = open(|_| ());
    let whole = complete(&llama, json!({"prompt": "Once upon a time"})).await;
    let logprobs: Vec<f64> = whole.logprobs.iter().map(|token| token.logprob).collect();
    assert_eq!(
        logprobs[0].to_bits(),
        (-9999.0_f64).to_bits(),
        "what the door shows as null"
    );
    assert!(whole.logprobs[0].top_logprobs.is_empty());
    assert!(
        logprobs[1..]
            .iter()
            .all(|&logprob| logprob <= 0.0 && logprob > -100.0),
        "{logprobs:?}"
    );
    assert_eq!(
        (joined(&whole.logprobs), whole.logprobs.len()),
        (whole.text, 5)
    );
}

#[tokio::test]
async fn what_is_cached_of_a_prompt_is_scored_anew() {
    let llama = open(|_| ());
    let text = long_text("Cached:");
    let first = complete(&llama, json!({"prompt": text})).await;
    let unscored = complete(&llama, json!({"prompt": text, "echo": false})).await;
    assert!(
        unscored.cached() > 100,
        "what was scored is there for others: {unscored:?}"
    );
    let again = complete(&llama, json!({"prompt": text})).await;
    assert_eq!((again.cached(), &again.text), (0, &first.text));
    assert_close(&again.logprobs, &first.logprobs);
}

#[tokio::test]
async fn nothing_is_generated_where_no_tokens_are_asked_for() {
    let llama = open(|_| ());
    let scored = complete(
        &llama,
        json!({"prompt": "Once upon a time", "max_tokens": 0}),
    )
    .await;
    assert_eq!(
        (scored.text.as_str(), scored.finish),
        ("Once upon a time", Some(FinishReason::Length))
    );
    assert_eq!(
        (
            scored.logprobs.len(),
            scored.usage().prompt_tokens,
            scored.usage().completion_tokens
        ),
        (4, 4, 0)
    );
    let one_more = complete(&llama, json!({"prompt": "Once upon a time"})).await;
    assert_close(&scored.logprobs, &one_more.logprobs[..4]);
    for (fields, text) in [
        (json!({"echo": false, "logprobs": null}), ""),
        (json!({"logprobs": null}), "Once upon a time"),
    ] {
        let mut asked = json!({"prompt": "Once upon a time", "max_tokens": 0});
        asked
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let whole = complete(&llama, asked).await;
        assert_eq!(
            (whole.text.as_str(), whole.finish, whole.logprobs.len()),
            (text, Some(FinishReason::Length), 0)
        );
    }
    let nothing = complete(&llama, json!({"prompt": "", "max_tokens": 0})).await;
    assert_eq!(
        (nothing.text.as_str(), nothing.finish),
        ("", Some(FinishReason::Length))
    );
}

#[tokio::test]
async fn a_prompt_as_long_as_the_context_can_be_scored_and_not_continued() {
    let llama = open(|options| options.context = Some(64));
    let scored = complete(&llama, json!({"prompt": vec![28_u32; 64], "max_tokens": 0})).await;
    assert_eq!((scored.error, scored.logprobs.len()), (None, 64));
    let refused = |length: usize, max_tokens: u32| json!({"prompt": vec![28_u32; length], "max_tokens": max_tokens});
    for (length, max_tokens) in [(64, 1), (65, 0)] {
        let expected = BackendError::ContextLengthExceeded {
            prompt_tokens: Some(length as u64),
            context: Some(64),
        };
        assert_eq!(
            complete(&llama, refused(length, max_tokens)).await.error,
            Some(expected)
        );
    }
}

#[tokio::test]
async fn the_token_that_ends_a_text_is_the_last_of_its_log_probabilities() {
    let llama = open(|_| ());
    // Tools that score texts request one token, and drop it.
    let ends = json!({"prompt": "Once upon a time", "logit_bias": {"2": 100}});
    let whole = complete(&llama, ends).await;
    assert_eq!(
        (whole.text.as_str(), whole.finish),
        ("Once upon a time", Some(FinishReason::Stop))
    );
    assert_eq!(
        (whole.logprobs.len(), whole.usage().completion_tokens),
        (5, 0)
    );
    assert_eq!(whole.logprobs[4].token, "<|im_end|>");
    // A chat has no such entry, because the token's text is not part of the answer.
    let fields = json!({"logit_bias": {"2": 100}, "logprobs": true, "temperature": 0});
    assert_eq!(ask(&llama, chat("Hello", fields)).await.logprobs, []);
}

#[tokio::test]
async fn special_tokens_that_might_have_come_are_written_out() {
    let llama = open(|_| ());
    let fields = json!({"max_tokens": 30, "temperature": 0, "logprobs": true, "top_logprobs": 20});
    let answer = ask(&llama, chat("Say hello.", fields)).await;
    let texts: Vec<_> = answer
        .logprobs
        .iter()
        .flat_map(|token| &token.top_logprobs)
        .map(|top| &top.token)
        .collect();
    assert!(
        texts.iter().any(|text| *text == "<|im_end|>") && texts.iter().all(|text| !text.is_empty()),
        "{texts:?}"
    );
}

#[tokio::test]
async fn stop_strings_and_special_tokens_within_a_prompt_are_scored_like_the_rest() {
    let llama = open(|_| ());
    let text = "Once upon a time<|im_end|>\nOnce";
    let whole = complete(
        &llama,
        json!({"prompt": text, "stop": ["upon", "\n"], "max_tokens": 4}),
    )
    .await;
    assert!(
        whole.text.starts_with(text) && joined(&whole.logprobs).starts_with(text),
        "{whole:?}"
    );
    assert!(
        whole
            .logprobs
            .iter()
            .any(|token| token.token == "<|im_end|>")
    );
}

#[tokio::test]
async fn characters_that_straddle_tokens_are_whole_in_the_text_and_in_parts_in_the_tokens() {
    let llama = open(|_| ());
    let text = "né — 🦀 終わり ".repeat(12);
    let mut events = llama
        .start(call(&json!({"prompt": text, "max_tokens": 0})).into())
        .await
        .unwrap()
        .events;
    let (mut told, mut bytes) = (String::new(), Vec::new());
    while let Some(event) = events.next().await {
        let Event::Chunk(chunk) = event.unwrap() else {
            continue;
        };
        for choice in chunk.choices {
            told.push_str(choice.delta.content.as_deref().unwrap_or_default());
            let tokens = choice
                .logprobs
                .and_then(|logprobs| logprobs.content)
                .unwrap_or_default();
            bytes.extend(tokens.into_iter().flat_map(|token| token.bytes.unwrap()));
        }
    }
    assert_eq!(told, text);
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

#[tokio::test]
async fn every_text_of_a_prompt_has_its_log_probabilities_which_are_computed_once() {
    let llama = open(|_| ());
    let text = long_text("Several:");
    let one = complete(&llama, json!({"prompt": text, "max_tokens": 6})).await;
    let fields = json!({"prompt": text, "max_tokens": 6, "n": 3, "temperature": 1.0, "seed": 5});
    let several = complete_several(&llama, fields).await;
    let own = usize::try_from(one.usage().prompt_tokens).unwrap();
    for (told, logprobs) in &several {
        assert!(told.starts_with(&text), "{told}");
        assert_close(&logprobs[..own], &one.logprobs[..own]);
        assert_eq!(&joined(logprobs), told);
    }
    assert_ne!(several[0].0, several[1].0);
    let ended = complete_several(&llama, json!({"prompt": text, "max_tokens": 0, "n": 2})).await;
    assert!(
        ended
            .iter()
            .all(|(told, logprobs)| *told == text && logprobs.len() == own)
    );
}

#[tokio::test]
async fn a_stream_goes_on_while_a_prompt_is_scored() {
    let llama = open(|_| ());
    let endless = json!({"temperature": 0, "logit_bias": {"0": -100, "2": -100}});
    let mut stream = llama
        .start(chat("Tell me a story.", endless).into())
        .await
        .unwrap()
        .events;
    next_text(&mut stream).await;
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(100);
    let scored = complete(&llama, json!({"prompt": text, "max_tokens": 0}));
    tokio::pin!(scored);
    let mut meanwhile = 0;
    let scored = tokio::time::timeout(LONG, async {
        loop {
            tokio::select! {
                biased;
                scored = &mut scored => break scored,
                _ = next_text(&mut stream) => meanwhile += 1,
            }
        }
    });
    assert_eq!(scored.await.expect("it is scored").text, text);
    // 1,000 tokens in pieces of 64 take 16 steps, and each step gives the other stream a token.
    assert!(meanwhile >= 12, "{meanwhile} tokens came meanwhile");
}

#[tokio::test]
async fn who_does_not_read_his_scores_holds_nobody_up_and_misses_nothing() {
    let llama = open(|options| options.reader_buffer = 2);
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(60);
    let mut stalled = llama
        .start(call(&json!({"prompt": text, "max_tokens": 0})).into())
        .await
        .unwrap()
        .events;
    // One piece has arrived, and the rest is more than the buffer has room for.
    next_text(&mut stalled).await;
    let others = (0..2).map(|_| {
        complete(
            &llama,
            json!({"prompt": text, "echo": false, "max_tokens": 3}),
        )
    });
    let others = tokio::time::timeout(LONG, join_all(others))
        .await
        .expect("the others go on");
    assert!(
        others
            .iter()
            .all(|whole| whole.error.is_none() && whole.finish.is_some()),
        "{others:?}"
    );
    let rest = tokio::time::timeout(LONG, read(stalled))
        .await
        .expect("the stalled one goes on when it reads again");
    let all = complete(&llama, json!({"prompt": text, "max_tokens": 0})).await;
    assert!(
        rest.text.len() < text.len() && text.ends_with(&rest.text),
        "{rest:?}"
    );
    assert_close(
        &rest.logprobs,
        &all.logprobs[all.logprobs.len() - rest.logprobs.len()..],
    );
}

#[tokio::test]
async fn who_leaves_while_his_prompt_is_scored_gives_his_place_back() {
    let llama = open(|options| {
        options.parallel = 1;
        options.reader_buffer = 2;
    });
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(100);
    let mut leaving = llama
        .start(call(&json!({"prompt": text})).into())
        .await
        .unwrap()
        .events;
    next_text(&mut leaving).await;
    drop(leaving);
    let next = tokio::time::timeout(
        LONG,
        complete(&llama, json!({"prompt": "Once upon a time"})),
    )
    .await;
    assert_eq!(next.expect("the place is free").logprobs.len(), 5);
}

#[tokio::test]
async fn models_that_keep_a_state_score_a_prompt_as_they_read_it_token_by_token() {
    for family in family::ALL {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("family.gguf");
        std::fs::write(&path, family::gguf(family)).unwrap();
        let llama = open(|options| options.path = path);
        let tokens: Vec<u32> = (0..120)
            .map(|at| 3 + u32::from(b'a') + at * 7 % 26)
            .collect();
        let scored = complete(
            &llama,
            json!({"prompt": tokens, "logprobs": 0, "max_tokens": 0}),
        )
        .await;
        assert_eq!(
            (scored.error.as_ref(), scored.logprobs.len()),
            (None, 120),
            "{family:?}"
        );
        for place in [1, 63, 64, 65, 119] {
            let bias = json!({tokens[place].to_string(): 100});
            let fields = json!({"prompt": tokens[..place], "echo": false, "logprobs": 0, "logit_bias": bias});
            let alone = complete(&llama, fields).await.logprobs.remove(0);
            assert!(
                (alone.logprob - scored.logprobs[place].logprob).abs() < 0.05,
                "{family:?} {place}: {alone:?}"
            );
        }
    }
}
