//! Parallel requests do not disturb each other. Each test uses the default model.

use std::time::{Duration, Instant};

use crate::support::{ask, call, long_text, next_text, open, read};
use futures_util::StreamExt;
use futures_util::future::join_all;
use loggia_backend::{Backend, BackendError, Event};
use loggia_wire::openai::FinishReason;
use serde_json::json;

/// The time limit of a test that hangs; no test takes that long.
const LONG: Duration = Duration::from_mins(2);

/// An answer that continues until the context ends: the token that ends answers is forbidden.
fn endless(text: &str) -> loggia_backend::ChatCall {
    call(
        text,
        json!({"temperature": 0, "logit_bias": {"0": -100, "2": -100}}),
    )
}

#[tokio::test]
async fn streams_go_on_while_a_long_prompt_is_read() {
    let llama = open(|_| ());
    let mut stream = llama
        .start(endless("Tell me a story.").into())
        .await
        .unwrap()
        .events;
    next_text(&mut stream).await;
    let mut newcomer = llama
        .start(call(&long_text("Read this:", 2000), json!({"max_tokens": 3})).into())
        .await
        .unwrap()
        .events;
    let read_newcomer = next_text(&mut newcomer);
    tokio::pin!(read_newcomer);
    let mut meanwhile = 0;
    tokio::time::timeout(LONG, async {
        loop {
            tokio::select! {
                biased;
                _ = &mut read_newcomer => break,
                _ = next_text(&mut stream) => meanwhile += 1,
            }
        }
    })
    .await
    .expect("the newcomer is answered");
    // 2,000 tokens in pieces of 64 take 32 steps, and each step gives the other stream a token.
    assert!(meanwhile >= 25, "{meanwhile} tokens came meanwhile");
}

#[tokio::test]
async fn a_reader_that_stalls_changes_no_other_stream() {
    let llama = open(|options| options.reader_buffer = 2);
    let mut stalled = llama
        .start(endless("Tell me a story.").into())
        .await
        .unwrap()
        .events;
    next_text(&mut stalled).await;
    let others = (0..3).map(|i| {
        ask(
            &llama,
            call(&format!("Count to {i}."), json!({"max_tokens": 40})),
        )
    });
    let answers = tokio::time::timeout(LONG, join_all(others))
        .await
        .expect("the others go on");
    assert!(
        answers
            .iter()
            .all(|whole| whole.finish.is_some() && whole.error.is_none())
    );
    // The stalled stream continues where it stopped, without losing anything.
    tokio::time::timeout(LONG, async {
        for _ in 0..10 {
            next_text(&mut stalled).await;
        }
    })
    .await
    .expect("the stalled one goes on when it reads again");
}

#[tokio::test]
async fn what_a_stalled_reader_gets_in_the_end_is_what_it_would_have_got() {
    let llama = open(|options| {
        options.reader_buffer = 2;
        options.parallel = 1;
    });
    let question = || {
        call(
            "Tell me a story.",
            json!({"temperature": 0, "max_tokens": 30}),
        )
    };
    let usual = ask(&llama, question()).await;
    let mut events = llama.start(question().into()).await.unwrap().events;
    let mut slow = next_text(&mut events).await;
    // This is long enough for the engine to fill both places of the stream's buffer and to find no
    // room.
    tokio::time::sleep(Duration::from_millis(300)).await;
    slow.push_str(&read(events).await.text);
    assert_eq!(slow, usual.text);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    let llama = open(|options| options.parallel = 1);
    let mut leaving = llama
        .start(endless("Tell me a story.").into())
        .await
        .unwrap()
        .events;
    next_text(&mut leaving).await;
    drop(leaving);
    let next = tokio::time::timeout(LONG, ask(&llama, call("Hi", json!({"max_tokens": 3}))))
        .await
        .expect("the slot is free");
    assert_eq!(next.finish, Some(FinishReason::Length));
}

#[tokio::test]
async fn a_client_that_leaves_while_its_prompt_is_read_frees_its_slot_within_a_step() {
    let llama = open(|options| options.parallel = 1);
    let prompt = long_text("Read this:", 3000);
    let began = Instant::now();
    let whole = ask(&llama, call(&prompt, json!({"max_tokens": 1}))).await;
    let to_read_it_all = began.elapsed();
    assert_eq!(whole.finish, Some(FinishReason::Length));

    let mut leaving = llama
        .start(call(&long_text("Now this:", 3000), json!({})).into())
        .await
        .unwrap()
        .events;
    assert!(matches!(leaving.next().await, Some(Ok(Event::Waiting(_)))));
    let began = Instant::now();
    drop(leaving);
    ask(&llama, call("Hi", json!({"max_tokens": 1}))).await;
    assert!(
        began.elapsed() < to_read_it_all / 2,
        "{:?} against {to_read_it_all:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_is_never_begun() {
    let llama = open(|options| {
        options.parallel = 1;
        options.queue = Some(1);
    });
    let mut busy = llama
        .start(endless("Tell me a story.").into())
        .await
        .unwrap()
        .events;
    next_text(&mut busy).await;
    let waiting = llama
        .start(call("I wait.", json!({})).into())
        .await
        .unwrap();
    let refused = llama
        .start(call("I am one too many.", json!({})).into())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, BackendError::Busy { retry_after: Some(after) } if after >= Duration::from_secs(1))
    );
    drop(waiting);
    // The place of the dropped request is free immediately.
    let next = llama
        .start(call("And I?", json!({"max_tokens": 2})).into())
        .await
        .unwrap();
    drop(busy);
    assert!(
        tokio::time::timeout(LONG, read(next.events))
            .await
            .unwrap()
            .finish
            .is_some()
    );
}

#[tokio::test]
async fn eight_at_once_get_the_greedy_answers_that_each_gets_alone() {
    let llama = open(|options| options.parallel = 8);
    let questions = [
        "France", "Italy", "Spain", "Japan", "Germany", "Russia", "Greece", "China",
    ];
    let question = |land: &str| {
        call(
            &format!("What is the capital of {land}?"),
            json!({"temperature": 0, "max_tokens": 6}),
        )
    };
    let together = join_all(questions.iter().map(|land| ask(&llama, question(land)))).await;
    for (land, whole) in questions.iter().zip(together) {
        assert_eq!(ask(&llama, question(land)).await.text, whole.text, "{land}");
    }
}

#[tokio::test]
async fn a_beginning_that_eight_share_is_read_once() {
    let llama = open(|options| options.parallel = 8);
    let shared = long_text("You answer in one word.", 600);
    let question = |i: usize| {
        let messages = json!([{"role": "system", "content": shared}, {"role": "user", "content": format!("{i}?")}]);
        crate::support::call_with(messages, json!({"max_tokens": 2}))
    };
    let answers = join_all((0..8).map(|i| ask(&llama, question(i)))).await;
    let read: u64 = answers
        .iter()
        .map(|whole| whole.usage().prompt_tokens - whole.cached())
        .sum();
    let prompt = answers[0].usage().prompt_tokens;
    assert!(
        read < prompt + 8 * 40,
        "{read} tokens were read for 8 prompts of {prompt}"
    );
}

#[tokio::test]
async fn when_the_engine_goes_its_streams_end_with_an_error() {
    let llama = open(|_| ());
    let mut events = llama
        .start(endless("Tell me a story.").into())
        .await
        .unwrap()
        .events;
    next_text(&mut events).await;
    drop(llama);
    let whole = tokio::time::timeout(LONG, read(events)).await.unwrap();
    assert!(
        matches!(whole.error, Some(BackendError::CutShort { .. })),
        "{whole:?}"
    );
}
