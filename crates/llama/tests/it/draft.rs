//! Speculative decoding only changes the speed of an answer. The tests use the default model with
//! two draft models: the model itself (whose draft tokens are accepted) and a copy with its layers
//! in another order (whose draft tokens are mostly rejected).

#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::support::family::{self, Family};
use crate::support::{Whole, agree, ask, call, model, next_text, open, read};
use loggia_backend::{Backend, ChatCall};
use loggia_llama::{Draft, Llama, LlamaOptions};
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

/// A small context is enough for these tests, in which several engines run at the same time.
const CONTEXT: u32 = 512;

/// The model without a draft model.
fn plain() -> Llama {
    open(|options| options.context = Some(CONTEXT))
}

/// The model with a draft model that always drafts.
fn drafting(path: &Path, change: impl FnOnce(&mut LlamaOptions)) -> Llama {
    open(|options| {
        options.context = Some(CONTEXT);
        options.draft = Some(Draft {
            path: path.to_owned(),
            tokens: 5,
            always: true,
        });
        change(options);
    })
}

/// A copy of the model's file with its first ten layers in reverse order: it has the same
/// vocabulary and generates nonsense.
fn garbled() -> &'static Path {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let make = || {
        let mut bytes = std::fs::read(model()).unwrap();
        // The tensor names are in the header, and those of each layer have the same form:
        // `blk.3.attn_q.weight`.
        let header = bytes.len().min(8 << 20);
        for at in 0..header - 6 {
            if bytes[at..].starts_with(b"blk.") && bytes[at + 5] == b'.' {
                bytes[at + 4] = b'0' + b'9' - bytes[at + 4];
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("garbled.gguf");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    };
    &FILE.get_or_init(make).1
}

fn story(fields: &Value) -> ChatCall {
    call("Tell me a story of a fox and a crow.", fields.clone())
}

/// An answer without the values of its log-probabilities, because tokens that are verified together
/// are summed in another order.
fn said(whole: &Whole) -> (Whole, Vec<String>) {
    let tokens = whole
        .logprobs
        .iter()
        .map(|logprob| logprob.token.clone())
        .collect();
    (
        Whole {
            logprobs: Vec::new(),
            ..whole.clone()
        },
        tokens,
    )
}

/// Sends the same requests with each draft model and without one. The answers must be the same to
/// the last token.
async fn compare(requests: &[Value]) {
    let plain = plain();
    let right = drafting(&model(), |_| ());
    let wrong = drafting(garbled(), |_| ());
    for fields in requests {
        let usual = ask(&plain, story(fields)).await;
        assert!(usual.error.is_none() && usual.finish.is_some(), "{usual:?}");
        for drafting in [&right, &wrong] {
            let whole = ask(drafting, story(fields)).await;
            assert_eq!(said(&whole), said(&usual), "{fields}");
            for (own, its) in whole.logprobs.iter().zip(&usual.logprobs) {
                assert!((own.logprob - its.logprob).abs() < 0.01, "{own:?} {its:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_greedy_answer_is_the_same_with_a_draft() {
    compare(&[
        json!({"temperature": 0, "max_tokens": 60}),
        json!({"temperature": 0, "max_tokens": 1}),
        json!({"temperature": 0, "max_tokens": 40, "logprobs": true, "top_logprobs": 2}),
        json!({"temperature": 0, "max_tokens": 40, "frequency_penalty": 1.0, "repeat_penalty": 1.2}),
        json!({"temperature": 0, "max_tokens": 60, "stop": ["fox", "the "]}),
    ])
    .await;
}

#[tokio::test]
async fn a_drawn_answer_with_a_seed_is_the_same_with_a_draft() {
    compare(&[
        json!({"temperature": 1, "seed": 7, "max_tokens": 50}),
        json!({"temperature": 1, "seed": 8, "max_tokens": 50, "top_p": 0.9, "logprobs": true}),
        json!({"temperature": 0.6, "seed": 9, "max_tokens": 50, "top_k": 20, "presence_penalty": 0.5}),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_that_is_held_to_a_schema_is_the_same_with_a_draft() {
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["title", "animals", "pages"],
        "properties": {
            "title": {"type": "string", "maxLength": 30},
            "animals": {"type": "array", "items": {"enum": ["fox", "crow"]}, "maxItems": 3},
            "pages": {"type": "integer", "minimum": 1, "maximum": 99}
        }
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "story", "strict": true, "schema": schema}});
    let fields = json!({"temperature": 1, "seed": 3, "max_tokens": 120, "response_format": format});
    compare(&[
        fields.clone(),
        json!({"temperature": 0, "max_tokens": 120, "response_format": format}),
    ])
    .await;
    let whole = ask(&drafting(&model(), |_| ()), story(&fields)).await;
    let value: Value = serde_json::from_str(&whole.text).expect(&whole.text);
    assert!(
        value["title"].is_string() && value["pages"].is_number(),
        "{value}"
    );
}

#[tokio::test]
async fn several_at_once_and_the_next_turn_are_the_same_with_a_draft() {
    let greedy = json!({"temperature": 0, "max_tokens": 30, "logprobs": true, "top_logprobs": 3});
    let questions = [
        "Count to twenty.",
        "Name the months.",
        "Name the days of the week.",
        "Say hello.",
    ];
    let plain = plain();
    for drafting in [drafting(&model(), |_| ()), drafting(garbled(), |_| ())] {
        let together = questions.map(|question| ask(&drafting, call(question, greedy.clone())));
        let together = futures_util::future::join_all(together).await;
        for (question, whole) in questions.iter().zip(&together) {
            agree(whole, &ask(&plain, call(question, greedy.clone())).await);
        }
        // Rejected draft tokens are not in the cache that the next turn continues from.
        let turn = json!([
            {"role": "user", "content": questions[0]}, {"role": "assistant", "content": together[0].text},
            {"role": "user", "content": "And now backwards."}
        ]);
        let next = ask(
            &drafting,
            crate::support::call_with(turn.clone(), greedy.clone()),
        )
        .await;
        assert!(next.cached() > 30, "{next:?}");
        agree(
            &next,
            &ask(&plain, crate::support::call_with(turn, greedy.clone())).await,
        );
        let hello = json!({"temperature": 0, "n": 3, "max_tokens": 8, "logit_bias": {"0": -100, "2": -100}});
        let choices = ask(&drafting, call("Say hello.", hello)).await;
        assert_eq!(
            (choices.error.is_none(), choices.usage().completion_tokens),
            (true, 24),
            "{choices:?}"
        );
    }
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_of_what_was_guessed() {
    let plain = plain();
    let drafting = drafting(&model(), |options| options.reader_buffer = 3);
    let fields = json!({"temperature": 0, "max_tokens": 40});
    let usual = ask(&plain, story(&fields)).await;
    let mut events = drafting.start(story(&fields).into()).await.unwrap().events;
    let mut slow = next_text(&mut events).await;
    // This is long enough for the engine to fill all places of the stream's buffer and to find no
    // room.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let rest = read(events).await;
    slow.push_str(&rest.text);
    assert_eq!(
        (slow, rest.finish, rest.usage),
        (usual.text, usual.finish, usual.usage)
    );
}

#[tokio::test]
async fn an_answer_ends_where_the_context_ends_with_a_draft_too() {
    let small = |options: &mut LlamaOptions| options.context = Some(64);
    let fields = json!({"temperature": 0, "logit_bias": {"0": -100, "2": -100}});
    let usual = ask(&open(small), story(&fields)).await;
    let whole = ask(&drafting(&model(), small), story(&fields)).await;
    assert_eq!(whole, usual);
    assert_eq!(
        (whole.finish, whole.usage().total_tokens),
        (Some(FinishReason::Length), 64)
    );
}

#[tokio::test]
async fn whether_a_draft_pays_is_measured_and_changes_no_word() {
    let plain = plain();
    let measured = drafting(&model(), |options| {
        options.draft.as_mut().unwrap().always = false;
    });
    // The answer is longer than the trials of both modes.
    let fields = json!({"temperature": 0, "max_tokens": 150, "logit_bias": {"0": -100, "2": -100}});
    assert_eq!(
        ask(&measured, story(&fields)).await,
        ask(&plain, story(&fields)).await
    );
    let seeded = json!({"temperature": 1, "seed": 5, "max_tokens": 40});
    assert_eq!(
        ask(&measured, story(&seeded)).await,
        ask(&plain, story(&seeded)).await
    );
}

#[test]
fn a_draft_that_makes_no_sense_is_refused() {
    let open = |draft: Draft| {
        let mut options = LlamaOptions::new(model(), "smollm2");
        options.draft = Some(draft);
        Llama::open(&options).unwrap_err().to_string()
    };
    let none = open(Draft {
        path: "nothing.gguf".into(),
        tokens: 4,
        always: false,
    });
    assert!(none.contains("cannot read nothing.gguf"), "{none}");
    let many = open(Draft {
        path: model(),
        tokens: 17,
        always: false,
    });
    assert!(many.contains("it must be from 1 to 16"), "{many}");
}

fn family(folder: &Path, family: Family) -> PathBuf {
    let path = folder.join(format!("{family:?}.gguf"));
    std::fs::write(&path, family::gguf(family)).unwrap();
    path
}

#[test]
fn a_model_that_keeps_a_state_can_have_no_draft_and_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let open = |model: Family, draft: Family| {
        let mut options = LlamaOptions::new(family(folder.path(), model), "family");
        options.draft = Some(Draft {
            path: family(folder.path(), draft),
            tokens: 4,
            always: true,
        });
        Llama::open(&options)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    for keeps_a_state in [Family::Recurrent, Family::Hybrid] {
        let as_model = open(keeps_a_state, Family::SlidingWindow).unwrap_err();
        assert!(
            as_model.contains("this model does not support a draft model: it keeps one state"),
            "{as_model}"
        );
        let as_draft = open(Family::SlidingWindow, keeps_a_state).unwrap_err();
        assert!(
            as_draft.contains("cannot be the draft model of this model: it keeps one state"),
            "{as_draft}"
        );
    }
    assert_eq!(open(Family::SlidingWindow, Family::SlidingWindow), Ok(()));
}

#[tokio::test]
async fn what_somebody_who_left_had_guessed_is_nobodys() {
    let (plain, drafting) = (plain(), drafting(garbled(), |options| options.parallel = 1));
    let fields = json!({"temperature": 0, "max_tokens": 30});
    let mut left = drafting
        .start(story(&json!({"temperature": 0})).into())
        .await
        .unwrap()
        .events;
    next_text(&mut left).await;
    drop(left);
    // This request begins with the prompt of the client that left.
    let usual = ask(&plain, story(&fields)).await;
    let whole = ask(&drafting, story(&fields)).await;
    assert!(whole.error.is_none() && whole.cached() > 0, "{whole:?}");
    assert_eq!(whole.text, usual.text);
}
