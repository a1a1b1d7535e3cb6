//! Text completions: a plain text, token ids, several texts for one prompt. They use the default
//! model; the expected results are those of llama.cpp's own server for the same prompts.
#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

use crate::support::{Whole, completion, open};
use loggia_backend::{Ability, Backend, BackendError, CompletionCall};
use loggia_llama::Llama;
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

/// `Once upon a time`.
const ONCE: [u32; 4] = [6403, 1980, 253, 655];

fn call(fields: &Value) -> CompletionCall {
    completion(&json!({"max_tokens": 24}), fields)
}

async fn complete(llama: &Llama, fields: Value) -> Whole {
    crate::support::complete(llama, call(&fields)).await
}

async fn refused(llama: &Llama, fields: Value) -> (String, String) {
    match complete(llama, fields).await.error {
        Some(BackendError::InvalidRequest { param, message, .. }) => (param.unwrap(), message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_text_is_continued_without_a_template_as_llama_cpps_server_does() {
    let llama = open(|_| ());
    let whole = complete(&llama, json!({"prompt": "Once upon a time"})).await;
    let expected = ", the city of New Haven was a thriving metropolis, with towering skyscrapers and bustling streets. \
        But as the years went by";
    assert_eq!(
        (whole.text.as_str(), whole.finish),
        (expected, Some(FinishReason::Length))
    );
    assert_eq!(
        (whole.usage().prompt_tokens, whole.usage().completion_tokens),
        (4, 24)
    );
    // A special token that is written out is parsed as that token.
    let whole = complete(
        &llama,
        json!({"prompt": "The capital of France is<|im_end|>", "max_tokens": 12}),
    )
    .await;
    assert_eq!(whole.text, "\nassistant\nThe capital of France is Paris.");
    assert_eq!(whole.usage().prompt_tokens, 6);
}

#[tokio::test]
async fn token_ids_are_taken_as_they_are_and_checked_against_the_vocabulary() {
    let llama = open(|_| ());
    let of_text = complete(&llama, json!({"prompt": "Once upon a time"})).await;
    for prompt in [json!(ONCE), json!([ONCE])] {
        let of_tokens = complete(&llama, json!({"prompt": prompt})).await;
        assert_eq!(
            (of_tokens.text.as_str(), of_tokens.usage().prompt_tokens),
            (of_text.text.as_str(), 4)
        );
    }
    let (param, message) = refused(&llama, json!({"prompt": [6403, 49152]})).await;
    assert_eq!(param, "prompt");
    assert!(
        message.contains("49152 is not a token of this model; its tokens are 0 to 49151"),
        "{message}"
    );
}

#[tokio::test]
async fn without_a_prompt_a_text_begins_with_the_token_that_begins_one() {
    let llama = open(|_| ());
    for prompt in [json!(null), json!("")] {
        let whole = complete(&llama, json!({"prompt": prompt})).await;
        assert_eq!(
            (whole.error.as_ref(), whole.usage().prompt_tokens),
            (None, 1),
            "{whole:?}"
        );
    }
}

#[tokio::test]
async fn what_was_asked_for_is_echoed_before_the_text_token_ids_as_text() {
    let llama = open(|_| ());
    let of_text = complete(
        &llama,
        json!({"prompt": "Once upon a time", "echo": true, "max_tokens": 3}),
    )
    .await;
    assert!(
        of_text.text.starts_with("Once upon a time, the"),
        "{}",
        of_text.text
    );
    let mut tokens = vec![1];
    tokens.extend(ONCE);
    let of_tokens = complete(
        &llama,
        json!({"prompt": tokens, "echo": true, "max_tokens": 3}),
    )
    .await;
    assert!(
        of_tokens.text.starts_with("<|im_start|>Once upon a time"),
        "{}",
        of_tokens.text
    );
}

#[tokio::test]
async fn stop_strings_biases_and_log_probabilities_are_as_in_a_chat() {
    let llama = open(|_| ());
    let fields = json!({"prompt": "Once upon a time", "stop": " thriving", "logprobs": 2});
    let whole = complete(&llama, fields).await;
    assert_eq!(
        (whole.text.as_str(), whole.finish),
        (", the city of New Haven was a", Some(FinishReason::Stop))
    );
    let said: String = whole
        .logprobs
        .iter()
        .map(|token| token.token.as_str())
        .collect();
    assert_eq!(said, whole.text);
    assert!(
        whole
            .logprobs
            .iter()
            .all(|token| token.top_logprobs.len() == 2 && token.logprob <= 0.0)
    );
    let biased = complete(
        &llama,
        json!({"prompt": "Once upon a time", "logit_bias": {"28": -100}}),
    )
    .await;
    assert!(!biased.text.starts_with(','), "{}", biased.text);
}

#[tokio::test]
async fn a_grammar_holds_a_completion() {
    let llama = open(|_| ());
    let fields =
        json!({"prompt": "Is the sky blue? Answer:", "grammar": "root ::= \" yes\" | \" no\""});
    let whole = complete(&llama, fields).await;
    assert!([" yes", " no"].contains(&whole.text.as_str()), "{whole:?}");
    assert_eq!(whole.finish, Some(FinishReason::Stop));
}

#[tokio::test]
async fn a_text_that_does_not_fit_is_refused_with_both_numbers() {
    let llama = open(|options| options.context = Some(64));
    let refused = complete(&llama, json!({"prompt": vec![28_u32; 100]}))
        .await
        .error;
    assert_eq!(
        refused,
        Some(BackendError::ContextLengthExceeded {
            prompt_tokens: Some(100),
            context: Some(64)
        })
    );
    let refused = complete(&llama, json!({"prompt": "long ".repeat(100_000)}))
        .await
        .error;
    assert_eq!(
        refused,
        Some(BackendError::ContextLengthExceeded {
            prompt_tokens: None,
            context: Some(64)
        })
    );
}

#[tokio::test]
async fn a_model_without_the_tokens_fills_nothing_in() {
    let llama = open(|_| ());
    assert!(
        !llama
            .abilities("smollm2")
            .await
            .unwrap()
            .has(Ability::FillInTheMiddle)
    );
    let (param, message) = refused(&llama, json!({"prompt": "a", "suffix": "b"})).await;
    assert_eq!(param, "suffix");
    assert!(
        message.contains("not trained to fill in the middle"),
        "{message}"
    );
}
