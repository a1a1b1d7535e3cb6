//! Models that do not cache each token separately: with one state for all tokens, with states and
//! tokens, or with sliding windows. Their caches are reused where possible, and the answer is
//! always the same as without a cache.

#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

use crate::support::family::{self, Family};
use crate::support::{Whole, ask, ask_choices, call_with, open};
use futures_util::future::join_all;
use loggia_backend::ChatCall;
use loggia_llama::{Forecast, Llama, LlamaOptions};
use serde_json::json;

fn open_family(family: Family) -> Llama {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("family.gguf");
    std::fs::write(&path, family::gguf(family)).unwrap();
    open(|options| {
        options.path = path;
        options.parallel = 4;
    })
}

fn keeps_a_state(family: Family) -> bool {
    family != Family::SlidingWindow
}

/// The answer to these messages, with a token for each byte: the most probable bytes after them.
fn of(messages: &[&str]) -> ChatCall {
    with(messages, 1)
}

fn with(messages: &[&str], n: u32) -> ChatCall {
    let messages: Vec<_> = messages
        .iter()
        .zip(["user", "assistant"].into_iter().cycle())
        .map(|(text, role)| json!({"role": role, "content": text}))
        .collect();
    let fields = json!({"temperature": 0, "max_tokens": 24, "grammar": "root ::= [a-z]{24}", "n": n, "logprobs": true});
    call_with(json!(messages), fields)
}

async fn anew(family: Family, messages: &[&str]) -> Whole {
    let whole = ask(&open_family(family), of(messages)).await;
    assert_eq!(whole.error, None, "{family:?}");
    assert_eq!(
        (whole.cached(), whole.text.len()),
        (0, 24),
        "{family:?} {whole:?}"
    );
    whole
}

/// A text that is longer than a window, and than the minimum length for a copy.
fn long(head: &str) -> String {
    format!(
        "{head} {}",
        "a quick brown fox jumps over a lazy dog ".repeat(8)
    )
}

#[tokio::test]
async fn what_these_models_say_depends_on_what_was_read_long_before() {
    for family in family::ALL {
        let how_likely =
            async |word: &str| anew(family, &[&long(&word.repeat(40))]).await.logprobs[0].logprob;
        let (one, two) = (how_likely("one ").await, how_likely("two ").await);
        assert!((one - two).abs() > 1e-4, "{family:?}: {one} {two}");
    }
}

#[tokio::test]
async fn a_chats_next_turn_goes_on_from_what_was_read() {
    for family in family::ALL {
        let (llama, first) = (open_family(family), long("one"));
        let answer = ask(&llama, of(&[&first])).await;
        let second = [&first[..], &answer.text, "and then"];
        let whole = ask(&llama, of(&second)).await;
        assert_eq!(whole.text, anew(family, &second).await.text, "{family:?}");
        // The cache has everything except the last byte of the answer, which was generated but
        // never read by the model.
        assert_eq!(
            whole.cached(),
            answer.usage().total_tokens - 1,
            "{family:?} {:?}",
            whole.usage()
        );
    }
}

#[tokio::test]
async fn a_prompt_that_turns_off_halfway_is_not_mixed_up_with_what_was_read() {
    for family in family::ALL {
        let (llama, first) = (open_family(family), long("two"));
        ask(&llama, of(&[&first])).await;
        let other = format!("{}another end", &first[..150]);
        let whole = ask(&llama, of(&[&other])).await;
        assert_eq!(whole.text, anew(family, &[&other]).await.text, "{family:?}");
        assert_eq!(
            whole.cached() > 140,
            !keeps_a_state(family),
            "{family:?} {:?}",
            whole.usage()
        );
    }
}

/// A cache that cannot be truncated can only be copied before its reader has passed the common
/// beginning; a later request has to read the beginning itself. Therefore the test makes several
/// attempts.
#[tokio::test]
async fn a_beginning_that_comes_four_times_at_once_is_read_once() {
    for family in family::ALL {
        let prompts: Vec<String> = (0..4)
            .map(|i| format!("{}{i} asks", long(&"three ".repeat(140))))
            .collect();
        let mut reads = Vec::new();
        while reads.len() < 10 && !reads.iter().any(|&read| read < 1800) {
            let llama = open_family(family);
            let answers = join_all(prompts.iter().map(|prompt| ask(&llama, of(&[prompt])))).await;
            for (prompt, whole) in prompts.iter().zip(&answers) {
                assert_eq!(whole.error, None, "{family:?}");
                assert_eq!(whole.text, anew(family, &[prompt]).await.text, "{family:?}");
                assert!(
                    whole.usage().prompt_tokens > 1500,
                    "{family:?} {:?}",
                    whole.usage()
                );
            }
            reads.push(
                answers
                    .iter()
                    .map(|whole| whole.usage().prompt_tokens - whole.cached())
                    .sum::<u64>(),
            );
        }
        assert!(
            reads.iter().any(|&read| read < 1800),
            "{family:?}: {reads:?} tokens were read for 4 prompts of 1,600"
        );
    }
}

#[tokio::test]
async fn several_choices_each_say_what_one_does() {
    for family in family::ALL {
        let prompt = long("four");
        let choices = ask_choices(&open_family(family), with(&[&prompt], 3)).await;
        assert_eq!(
            choices,
            vec![anew(family, &[&prompt]).await.text; 3],
            "{family:?}"
        );
    }
}

#[test]
fn a_models_state_is_forecast_and_no_tokens_that_it_does_not_keep() {
    let folder = tempfile::tempdir().unwrap();
    let cache = |family: Family, context: u32| {
        let path = folder.path().join("family.gguf");
        std::fs::write(&path, family::gguf(family)).unwrap();
        let mut options = LlamaOptions::new(path, "family");
        options.context = Some(context);
        Forecast::of(&options).unwrap().cache
    };
    // Six layers, each with 64 states of 8 numbers and a convolution over 4 tokens, for each of
    // four sequences.
    assert_eq!(cache(Family::Recurrent, 512), 6 * 64 * (8 + 4) * 4 * 4);
    assert_eq!(
        cache(Family::Recurrent, 2048),
        cache(Family::Recurrent, 512)
    );
    assert_eq!(
        cache(Family::SlidingWindow, 2048),
        4 * cache(Family::SlidingWindow, 512)
    );
}
