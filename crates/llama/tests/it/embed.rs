//! Embeddings on a real model: all-MiniLM-L6-v2, compared with vectors that were computed from its
//! published weights without llama.cpp.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::support::minilm::{Minilm, path as model};
use loggia_backend::{
    Ability, Backend, BackendError, ChatCall, EmbeddingCall, Embeddings, WorkKind,
};
use loggia_llama::{Forecast, LlamaEmbedder, LlamaOptions, LoadError};
use serde_json::{Value, json};

/// A chat model.
fn chat_model() -> PathBuf {
    let beside = || {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../.loggia/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    };
    std::env::var_os("LOGGIA_TEST_MODEL").map_or_else(beside, PathBuf::from)
}

fn options() -> LlamaOptions {
    LlamaOptions {
        threads: Some(1),
        ..LlamaOptions::new(model(), "all-minilm")
    }
}

fn open() -> LlamaEmbedder {
    LlamaEmbedder::open(&options()).unwrap()
}

fn call(fields: &Value) -> EmbeddingCall {
    let mut request = json!({"model": "all-minilm"});
    request
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    EmbeddingCall::new(
        "embd-test",
        Arc::new(serde_json::from_value(request).unwrap()),
    )
}

async fn embed(engine: &LlamaEmbedder, fields: Value) -> Result<Embeddings, BackendError> {
    engine.embed(call(&fields)).await
}

/// The text, the tokens and the vector of each reference.
fn references() -> Vec<(String, Vec<u32>, Vec<f32>)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/embeddings/all-minilm-l6-v2.json"
    );
    let all: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let of = |one: Value, name: &str| one[name].clone();
    all.into_iter()
        .map(|one| {
            let text = of(one.clone(), "text").as_str().unwrap().to_owned();
            let tokens = serde_json::from_value(of(one.clone(), "tokens")).unwrap();
            (
                text,
                tokens,
                serde_json::from_value(of(one, "embedding")).unwrap(),
            )
        })
        .collect()
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    product(one, other) / (product(one, one).sqrt() * product(other, other).sqrt())
}

#[tokio::test]
async fn vectors_are_those_of_the_published_weights_one_by_one_and_many_at_once() {
    let engine = open();
    let references = references();
    let texts: Vec<&str> = references.iter().map(|(text, ..)| text.as_str()).collect();
    let together = embed(&engine, json!({"input": texts})).await.unwrap();
    let counted: usize = references.iter().map(|(_, tokens, _)| tokens.len()).sum();
    assert_eq!(together.prompt_tokens, counted as u64);
    for ((text, tokens, vector), among_others) in references.iter().zip(&together.vectors) {
        assert!(
            cosine(vector, among_others) > 0.9999,
            "{text}: {}",
            cosine(vector, among_others)
        );
        let alone = embed(&engine, json!({"input": text})).await.unwrap();
        assert!(cosine(vector, &alone.vectors[0]) > 0.9999, "{text}");
        let of_tokens = embed(&engine, json!({"input": tokens})).await.unwrap();
        assert_eq!(of_tokens.vectors, alone.vectors, "the same tokens: {text}");
        let length: f32 = alone.vectors[0].iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

#[tokio::test]
async fn fewer_dimensions_are_the_first_of_the_whole_vector_and_more_are_refused() {
    let engine = open();
    let whole = embed(&engine, json!({"input": "a cat"}))
        .await
        .unwrap()
        .vectors
        .remove(0);
    let short = embed(&engine, json!({"input": "a cat", "dimensions": 16}))
        .await
        .unwrap()
        .vectors
        .remove(0);
    assert_eq!((whole.len(), short.len()), (384, 16));
    assert!(cosine(&whole[..16], &short) > 0.999_999);
    assert!((cosine(&short, &short) - 1.0).abs() < 1e-5);
    let refused = embed(&engine, json!({"input": "a cat", "dimensions": 385}))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, BackendError::InvalidRequest { param: Some(param), .. } if param == "dimensions")
    );
}

#[tokio::test]
async fn an_input_that_is_too_long_is_named_with_both_numbers_and_one_that_just_fits_is_read() {
    let engine = open();
    let words = |count: usize| "cat ".repeat(count);
    // Two special tokens are put around each text.
    assert_eq!(
        embed(&engine, json!({"input": words(510)}))
            .await
            .unwrap()
            .prompt_tokens,
        512
    );
    let refused = embed(&engine, json!({"input": ["a cat", words(511)]}))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        BackendError::InputTooLong {
            index: Some(1),
            tokens: Some(513),
            most: Some(512)
        }
    );
    let refused = embed(&engine, json!({"input": words(100_000)}))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        BackendError::InputTooLong {
            index: Some(0),
            tokens: Some(100_002),
            most: Some(512)
        }
    );
    let refused = embed(&engine, json!({"input": vec![1; 513]}))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        BackendError::InputTooLong {
            index: Some(0),
            tokens: Some(513),
            most: Some(512)
        }
    );
}

#[tokio::test]
async fn tokens_outside_the_vocabulary_are_refused_before_the_engine_sees_them() {
    let engine = open();
    for unknown in [30_522_u32, u32::MAX] {
        let refused = embed(&engine, json!({"input": [[101, 102], [unknown]]}))
            .await
            .unwrap_err();
        assert!(
            matches!(&refused, BackendError::InvalidRequest { param: Some(param), .. } if param == "input[1]")
        );
    }
    assert!(embed(&engine, json!({"input": [30_521]})).await.is_ok());
}

#[tokio::test]
async fn what_reads_like_a_control_token_in_a_text_is_text() {
    let engine = open();
    let written = embed(&engine, json!({"input": "a [SEP] cat"}))
        .await
        .unwrap();
    assert!(written.prompt_tokens > 5, "{}", written.prompt_tokens);
}

#[tokio::test]
async fn two_thousand_inputs_come_in_their_order_and_a_single_one_need_not_wait_for_them() {
    let engine = Arc::new(open());
    let many: Vec<String> = (0..2048).map(|number| format!("number {number}")).collect();
    let crowd = {
        let (engine, many) = (Arc::clone(&engine), many.clone());
        tokio::spawn(async move { embed(&engine, json!({"input": many})).await.unwrap() })
    };
    // The single request arrives while the others are in progress.
    tokio::task::yield_now().await;
    let single = embed(&engine, json!({"input": "number 7"})).await.unwrap();
    assert!(!crowd.is_finished(), "the single one was first");
    let crowd = crowd.await.unwrap();
    assert_eq!(crowd.vectors.len(), 2048);
    assert!(cosine(&crowd.vectors[7], &single.vectors[0]) > 0.9999);
    let last = embed(&engine, json!({"input": many[2047]})).await.unwrap();
    assert!(cosine(&crowd.vectors[2047], &last.vectors[0]) > 0.9999);
}

#[tokio::test]
async fn past_the_queue_a_request_is_refused_at_once_and_who_leaves_makes_room() {
    let engine = Arc::new(
        LlamaEmbedder::open(&LlamaOptions {
            parallel: 1,
            queue: Some(1),
            ..options()
        })
        .unwrap(),
    );
    let long = || call(&json!({"input": vec!["cat ".repeat(500); 2000]}));
    let ask = || {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.embed(long()).await })
    };
    let (one, two) = (ask(), ask());
    let busy = loop {
        match tokio::time::timeout(
            Duration::from_secs(30),
            embed(&engine, json!({"input": "a cat"})),
        )
        .await
        .unwrap()
        {
            Err(error) => break error,
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert!(
        matches!(
            busy,
            BackendError::Busy {
                retry_after: Some(_)
            }
        ),
        "{busy:?}"
    );
    one.abort();
    two.abort();
    // The two million tokens of these inputs would take minutes.
    let answered = async {
        while embed(&engine, json!({"input": "a cat"})).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answered)
        .await
        .unwrap();
}

#[tokio::test]
async fn it_says_what_it_is_and_holds_no_chats() {
    let engine = loggia_llama::open(&options()).unwrap();
    let card = engine.models().await.unwrap().remove(0);
    assert_eq!(card.extra["capabilities"], json!(["embedding"]));
    assert_eq!(
        (
            &card.extra["context_length"],
            &card.extra["embedding_length"]
        ),
        (&json!(512), &json!(384))
    );
    assert_eq!(card.extra["pooling"], "mean");
    let abilities = engine.abilities("all-minilm").await.unwrap();
    assert!(
        abilities.has(Ability::Embeddings)
            && abilities.has(Ability::TokenPrompts)
            && !abilities.has(Ability::Chat)
    );
    let request = json!({"model": "all-minilm", "messages": [{"role": "user", "content": "Hi"}]});
    let request = Arc::new(serde_json::from_value(request).unwrap());
    let chat = ChatCall::new("chatcmpl-1", request);
    assert_eq!(
        engine.start(chat.into()).await.err(),
        Some(BackendError::Unsupported {
            work: WorkKind::Chat
        })
    );
    assert_eq!(engine.ready().await, Ok(()));
}

#[tokio::test]
async fn a_chat_model_makes_no_embeddings_and_is_opened_as_what_it_is() {
    let options = LlamaOptions {
        threads: Some(1),
        context: Some(64),
        ..LlamaOptions::new(chat_model(), "smollm2")
    };
    assert!(matches!(
        LlamaEmbedder::open(&options),
        Err(LoadError::Kind { .. })
    ));
    let engine = loggia_llama::open(&options).unwrap();
    let abilities = engine.abilities("smollm2").await.unwrap();
    assert!(abilities.has(Ability::Chat) && !abilities.has(Ability::Embeddings));
    let refused = engine
        .embed(call(&json!({"input": "a cat"})))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        BackendError::Unsupported {
            work: WorkKind::Embeddings
        }
    );
}

#[test]
fn an_encoder_that_does_not_state_its_pooling_and_a_reranker_without_a_head_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = Minilm::read();
    for (pooling, reason) in [
        (
            4,
            "without a head: the tensor \"cls.output.weight\" is missing",
        ),
        (0, "its header does not state the pooling"),
        (9, "its pooling type 9 is unknown"),
    ] {
        let path = folder.path().join(format!("{pooling}.gguf"));
        std::fs::write(&path, model.with(pooling, &[])).unwrap();
        let refused = loggia_llama::open(&LlamaOptions { path, ..options() })
            .err()
            .unwrap();
        assert!(refused.to_string().contains(reason), "{refused}");
    }
}

/// The chat model's file with a header that sets pooling by the last token, as in embedding models
/// that were made from decoders.
fn pooling_decoder(folder: &Path) -> PathBuf {
    let file = std::fs::read(chat_model()).unwrap();
    let key = |name: &str| [&(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
    let number = |number: u32| number.to_le_bytes().to_vec();
    // A number (type 4), and a string (type 8).
    let mut entries = [
        key("llama.pooling_type"),
        number(4),
        number(3),
        key("general.comment"),
        number(8),
    ]
    .concat();
    // The padding to a multiple of the alignment, so that the rest of the file stays in place.
    let rest = 32 - (entries.len() + 8) % 32;
    entries.extend((rest as u64).to_le_bytes());
    entries.extend(vec![b'x'; rest]);
    let count = u64::from_le_bytes(file[16..24].try_into().unwrap()) + 2;
    let path = folder.join("pooling.gguf");
    std::fs::write(
        &path,
        [&file[..16], &count.to_le_bytes(), &entries, &file[24..]].concat(),
    )
    .unwrap();
    path
}

#[tokio::test]
async fn a_decoder_that_pools_gives_an_input_the_same_vector_alone_and_among_others() {
    let folder = tempfile::tempdir().unwrap();
    let options = LlamaOptions {
        context: Some(256),
        ..LlamaOptions {
            path: pooling_decoder(folder.path()),
            ..options()
        }
    };
    let engine = LlamaEmbedder::open(&options).unwrap();
    assert_eq!(engine.models().await.unwrap()[0].extra["pooling"], "last");
    let texts = [
        "a cat",
        "a dog sleeps on the mat",
        "def f(x): return x",
        "a cat",
    ];
    let together = embed(&engine, json!({"input": texts}))
        .await
        .unwrap()
        .vectors;
    assert!(
        cosine(&together[0], &together[3]) > 0.999_9,
        "the same text twice"
    );
    assert!(
        cosine(&together[0], &together[2]) < 0.99,
        "another text: {}",
        cosine(&together[0], &together[2])
    );
    for (text, among_others) in texts.iter().zip(&together) {
        let alone = embed(&engine, json!({"input": text}))
            .await
            .unwrap()
            .vectors
            .remove(0);
        assert!(
            cosine(&alone, among_others) > 0.999,
            "{text}: {}",
            cosine(&alone, among_others)
        );
    }
    let forecast = Forecast::of(&options).unwrap();
    assert!(
        forecast.cache > 0 && forecast.context == 256,
        "it keeps keys and values while it reads"
    );
}

#[test]
fn the_memory_of_an_embedding_model_is_foreseen() {
    let forecast = Forecast::of(&options()).unwrap();
    assert_eq!(
        (forecast.cache, forecast.context),
        (0, 512),
        "an encoder keeps nothing, and reads what it was trained to"
    );
    let mib = forecast.bytes() >> 20;
    assert!((45..80).contains(&mib), "{mib} MiB");
    let longer = LlamaOptions {
        context: Some(8192),
        ..options()
    };
    assert_eq!(
        Forecast::of(&longer).unwrap().context,
        512,
        "there is no position after the last"
    );
}
