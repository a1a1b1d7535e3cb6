//! Reranking models: their scores, compared with scores that the tests compute from embeddings and the
//! weights of the head, and what is refused.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::PathBuf;
use std::sync::Arc;

use crate::support::family::{self, Family};
use crate::support::gguf::{array, lots, number, put_text, text, value};
use crate::support::minilm::Minilm;
use crate::support::reranker::{BEGIN, END, Reranker, WIDTH, of_bert_head, product, retyped};
use loggia_backend::{
    Ability, Backend, BackendError, ChatCall, EmbeddingCall, Rerank, RerankCall, Reranked, WorkKind,
};
use loggia_llama::{
    Draft, Forecast, LlamaEmbedder, LlamaOptions, LlamaReranker, LoadError, Lora, ModelKind,
};
use serde_json::{Value, json};

/// A model's file in a folder of its own.
struct Stored {
    _folder: tempfile::TempDir,
    options: LlamaOptions,
}

fn stored(file: &[u8]) -> Stored {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, file).unwrap();
    let options = LlamaOptions {
        threads: Some(1),
        ..LlamaOptions::new(path, "m")
    };
    Stored {
        _folder: folder,
        options,
    }
}

fn open(file: &[u8]) -> LlamaReranker {
    LlamaReranker::open(&stored(file).options).unwrap()
}

/// Why a file is not opened.
fn refusal(file: &[u8]) -> Option<String> {
    let refused = loggia_llama::open(&stored(file).options);
    refused.err().map(|error| error.to_string())
}

async fn rerank(
    engine: &dyn Backend,
    query: &str,
    documents: &[&str],
) -> Result<Reranked, BackendError> {
    let work = Rerank {
        model: "m".to_owned(),
        query: query.to_owned(),
        documents: documents.iter().map(|&text| text.to_owned()).collect(),
    };
    let ranked = engine.rerank(RerankCall::new("rerank-test", work)).await?;
    Ok(ranked.expect("the model reranks"))
}

/// The vectors of inputs of tokens, in the directions that llama.cpp computes and of this length.
async fn vectors(embedder: &LlamaEmbedder, inputs: &[Vec<u32>], length: f64) -> Vec<Vec<f64>> {
    let request = json!({"model": "m", "input": inputs});
    let request = Arc::new(serde_json::from_value(request).unwrap());
    let made = embedder.embed(EmbeddingCall::new("embd-test", request));
    let long = |vector: Vec<f32>| vector.into_iter().map(|x| f64::from(x) * length).collect();
    made.await.unwrap().vectors.into_iter().map(long).collect()
}

/// The tokens of a text in the vocabulary of bytes. The tokenizer writes spaces as `▁`.
fn bytes(text: &str) -> Vec<u32> {
    let text = text.replace(' ', "\u{2581}");
    text.bytes().map(|byte| 3 + u32::from(byte)).collect()
}

fn close(one: &[f64], other: &[f64], most: f64) -> bool {
    let differences = one
        .iter()
        .zip(other)
        .map(|(one, other)| (one - other).abs());
    one.len() == other.len() && differences.fold(0.0, f64::max) < most
}

const DOCUMENTS: [&str; 4] = ["a cat", "", "a dog sleeps on the mat", "</s>a {query}"];

#[tokio::test]
async fn scores_are_those_of_berts_head_over_the_first_token_one_by_one_and_together() {
    let model = Reranker::bert();
    let engine = open(&model.file());
    let pair = |document: &&str| {
        let (query, document) = (bytes("cat?"), bytes(document));
        [&[BEGIN][..], &query, &[END], &document, &[END]].concat()
    };
    let pairs: Vec<_> = DOCUMENTS.iter().map(pair).collect();
    let embedder = LlamaEmbedder::open(&stored(&model.clone().embedder(2).file()).options).unwrap();
    // The last norm of the model gives each vector the length √256.
    let vectors = vectors(&embedder, &pairs, 16.0).await;
    let weights = |name| model.weights(name).to_vec();
    let expected = vectors.iter().map(|vector| of_bert_head(&weights, vector));
    let expected: Vec<f64> = expected.collect();
    let ranked = rerank(&engine, "cat?", &DOCUMENTS).await.unwrap();
    assert!(
        close(&ranked.scores, &expected, 1e-4),
        "{ranked:?} {expected:?}"
    );
    assert!((expected[0] - expected[2]).abs() > 0.01, "{expected:?}");
    let counted: usize = pairs.iter().map(Vec::len).sum();
    assert_eq!(ranked.prompt_tokens, counted as u64);
    for (document, score) in DOCUMENTS.iter().zip(&ranked.scores) {
        let alone = rerank(&engine, "cat?", &[document]).await.unwrap();
        assert!(
            close(&alone.scores, &[*score], 1e-3),
            "{document}: {alone:?} {score}"
        );
    }
}

#[tokio::test]
async fn scores_are_the_first_probability_of_qwen3s_head_in_its_template() {
    let model = Reranker::qwen3();
    let engine = open(&model.file());
    let pair = |document: &&str| {
        let (query, document) = (bytes("Q: cat{document}"), bytes(&format!("D: {document}")));
        [&[BEGIN][..], &query, &[END], &document, &[END]].concat()
    };
    let pairs: Vec<_> = DOCUMENTS.iter().map(pair).collect();
    let embedder = LlamaEmbedder::open(&stored(&model.clone().embedder(3).file()).options).unwrap();
    let vectors = vectors(&embedder, &pairs, 16.0).await;
    let head = model.weights("cls.output.weight");
    let probability = |vector: &Vec<f64>| {
        let outputs = product(head, vector);
        1.0 / (1.0 + (outputs[1] - outputs[0]).exp())
    };
    let expected: Vec<f64> = vectors.iter().map(probability).collect();
    let ranked = rerank(&engine, "cat{document}", &DOCUMENTS).await.unwrap();
    assert!(
        close(&ranked.scores, &expected, 1e-4),
        "{ranked:?} {expected:?}"
    );
    assert!((expected[0] - expected[1]).abs() > 0.01, "{expected:?}");
    let counted: usize = pairs.iter().map(Vec::len).sum();
    assert_eq!(ranked.prompt_tokens, counted as u64);
}

/// The tokens of each text of the reference embeddings, without those around it.
fn references() -> Vec<(String, Vec<u32>)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/embeddings/all-minilm-l6-v2.json"
    );
    let all: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let read = |one: Value| {
        let tokens: Vec<u32> = serde_json::from_value(one["tokens"].clone()).unwrap();
        let inner = tokens[1..tokens.len() - 1].to_vec();
        (one["text"].as_str().unwrap().to_owned(), inner)
    };
    all.into_iter().map(read).collect()
}

/// A head for all-MiniLM: a layer, its bias, and an output with its bias.
fn head() -> [(&'static str, [u64; 2], Vec<f32>); 4] {
    let mut drawn = lots(5);
    let mut draw = |count: usize| (0..count).map(|_| 0.2 * drawn()).collect();
    [
        ("cls.weight", [384, 384], draw(384 * 384)),
        ("cls.bias", [384, 1], draw(384)),
        ("cls.output.weight", [384, 1], draw(384)),
        ("cls.output.bias", [1, 1], draw(1)),
    ]
}

/// all-MiniLM as a reranking model.
fn minilm(model: &Minilm) -> Vec<u8> {
    let head = head();
    let tensors = head.iter().map(|(name, shape, weights)| {
        let dimensions = if name.ends_with("bias") { 1 } else { 2 };
        (*name, &shape[..dimensions], &weights[..])
    });
    model.with(4, &tensors.collect::<Vec<_>>())
}

/// How long the model's vector in this direction is: the vector is `norm · z + bias`, where the numbers
/// `z` have the mean 0 and the variance 1.
fn length(direction: &[f64], norm: &[f32], bias: &[f32]) -> f64 {
    let (mut squares, mut products, mut rest) = (0.0, 0.0, -384.0);
    for ((x, norm), bias) in direction.iter().zip(norm).zip(bias) {
        let (x, bias) = (x / f64::from(*norm), f64::from(*bias) / f64::from(*norm));
        squares += x * x;
        products += x * bias;
        rest += bias * bias;
    }
    (products + (products * products - squares * rest).sqrt()) / squares
}

#[tokio::test]
async fn a_reranker_of_all_minilm_scores_as_its_weights_say() {
    let model = Minilm::read();
    let engine = open(&minilm(&model));
    let references = references();
    let (query, of_query) = &references[0];
    let pair = |(_, document): &(_, Vec<u32>)| [&[101][..], of_query, &[102], document].concat();
    let pairs: Vec<_> = references.iter().map(pair).collect();
    let embedder = LlamaEmbedder::open(&stored(&model.with(2, &[])).options).unwrap();
    let norm = model.weights("blk.5.layer_output_norm.weight");
    let bias = model.weights("blk.5.layer_output_norm.bias");
    let head = head();
    let weights = |name| {
        let found = head.iter().find(|(its, ..)| *its == name);
        found.unwrap().2.clone()
    };
    let expected = |direction: Vec<f64>| {
        let length = length(&direction, &norm, &bias);
        let vector: Vec<f64> = direction.iter().map(|x| x * length).collect();
        of_bert_head(&weights, &vector)
    };
    let directions = vectors(&embedder, &pairs, 1.0).await;
    let expected: Vec<f64> = directions.into_iter().map(expected).collect();
    let documents: Vec<&str> = references.iter().map(|(text, _)| text.as_str()).collect();
    let ranked = rerank(&engine, query, &documents).await.unwrap();
    assert!(
        close(&ranked.scores, &expected, 1e-4),
        "{ranked:?} {expected:?}"
    );
    let counted: usize = pairs.iter().map(Vec::len).sum();
    assert_eq!(ranked.prompt_tokens, counted as u64);
    let forecast = Forecast::of(&stored(&minilm(&model)).options).unwrap();
    assert_eq!((forecast.kind, forecast.cache), (ModelKind::Reranking, 0));
    let mib = forecast.bytes() >> 20;
    assert!((45..80).contains(&mib), "{mib} MiB");
}

#[tokio::test]
async fn many_documents_come_in_their_order() {
    let engine = open(&Reranker::bert().file());
    let documents: Vec<String> = (0..200).map(|number| format!("number {number}")).collect();
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    let all = rerank(&engine, "q", &documents).await.unwrap();
    assert_eq!(all.scores.len(), 200);
    for at in [0, 7, 63, 64, 199] {
        let alone = rerank(&engine, "q", &documents[at..=at]).await.unwrap();
        let score = &all.scores[at..=at];
        assert!(
            close(&alone.scores, score, 1e-3),
            "{at}: {alone:?} {score:?}"
        );
    }
}

#[tokio::test]
async fn a_document_that_is_too_long_is_named_with_both_numbers_and_so_is_the_query() {
    let too_long = |index, tokens| {
        Err(BackendError::InputTooLong {
            index: Some(index),
            tokens: Some(tokens),
            most: Some(64),
        })
    };
    for model in [Reranker::bert(), Reranker::qwen3()] {
        let engine = open(&model.file());
        let empty = rerank(&engine, "q", &[""]).await.unwrap().prompt_tokens;
        let fits = "x".repeat(64 - usize::try_from(empty).unwrap());
        let fitting = rerank(&engine, "q", &["a", &fits]).await.unwrap();
        assert_eq!(fitting.prompt_tokens, empty + 1 + 64);
        let refused = rerank(&engine, "q", &["a", &format!("{fits}x")]).await;
        assert_eq!(refused, too_long(2, 65));
        let refused = rerank(&engine, &"x".repeat(100_000), &vec!["a"; 2000]).await;
        assert_eq!(refused, too_long(0, empty + 99_999));
    }
}

#[tokio::test]
async fn a_reranking_model_says_what_it_is_and_does_nothing_else() {
    let file = stored(&Reranker::bert().file());
    let engine = loggia_llama::open(&file.options).unwrap();
    let card = engine.models().await.unwrap().remove(0);
    assert_eq!(card.extra["capabilities"], json!(["rerank"]));
    assert_eq!(card.extra["context_length"], 64);
    assert_eq!(card.extra["pooling"], "rank");
    assert_eq!(card.extra["architecture"], "bert");
    let abilities = engine.abilities("m").await.unwrap();
    assert!(!abilities.has(Ability::Chat) && !abilities.has(Ability::Embeddings));
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    let chat = ChatCall::new("1", Arc::new(serde_json::from_value(request).unwrap()));
    let unsupported = |work| Some(BackendError::Unsupported { work });
    let refused = engine.start(chat.into()).await.err();
    assert_eq!(refused, unsupported(WorkKind::Chat));
    let request = serde_json::from_value(json!({"model": "m", "input": "Hi"})).unwrap();
    let refused = engine.embed(EmbeddingCall::new("1", Arc::new(request)));
    assert_eq!(refused.await.err(), unsupported(WorkKind::Embeddings));
    let work = Rerank {
        model: "other".to_owned(),
        query: "q".to_owned(),
        documents: vec!["d".to_owned()],
    };
    let refused = engine.rerank(RerankCall::new("1", work)).await;
    assert_eq!(refused, Err(BackendError::model_not_found("other")));
    assert_eq!(engine.ready().await, Ok(()));
    let forecast = Forecast::of(&file.options).unwrap();
    assert_eq!(
        (forecast.kind, forecast.context),
        (ModelKind::Reranking, 64)
    );
}

#[tokio::test]
async fn other_models_do_not_rerank_and_a_reranking_model_makes_no_embeddings() {
    let embedder = stored(&Reranker::bert().embedder(1).file());
    let refused = LlamaReranker::open(&embedder.options).err();
    let refused = refused.map(|error| error.to_string()).unwrap();
    assert!(
        refused.ends_with("it is not a reranking model"),
        "{refused}"
    );
    let engine = loggia_llama::open(&embedder.options).unwrap();
    let work = Rerank {
        model: "m".to_owned(),
        query: "q".to_owned(),
        documents: vec!["d".to_owned()],
    };
    assert_eq!(engine.rerank(RerankCall::new("1", work)).await, Ok(None));
    let reranker = stored(&Reranker::bert().file());
    let refused = LlamaEmbedder::open(&reranker.options).err().unwrap();
    assert!(matches!(refused, LoadError::Kind { .. }), "{refused}");
    let (lora, draft) = (PathBuf::from("a.gguf"), PathBuf::from("d.gguf"));
    let lora = Lora {
        path: lora,
        scale: 1.0,
    };
    let adapted = LlamaOptions {
        lora: Some(lora),
        ..reranker.options.clone()
    };
    let draft = Draft {
        path: draft,
        tokens: 4,
        always: true,
    };
    let drafted = LlamaOptions {
        draft: Some(draft),
        ..reranker.options.clone()
    };
    for (options, what) in [(adapted, "LoRA adapters"), (drafted, "draft models")] {
        let refused = LlamaReranker::open(&options).err().unwrap().to_string();
        let reason = format!("{what} are not supported for embedding and reranking models");
        assert!(refused.ends_with(&reason), "{refused}");
    }
}

#[tokio::test]
async fn a_score_that_is_no_number_is_an_error() {
    let mut model = Reranker::bert();
    for (name, weights) in &mut model.head {
        if *name == "cls.output.bias" {
            weights[0] = f32::NAN;
        }
    }
    let failed = rerank(&open(&model.file()), "q", &["d"]).await;
    assert!(
        matches!(failed, Err(BackendError::BadAnswer { .. })),
        "{failed:?}"
    );
}

#[test]
fn a_model_without_a_usable_head_is_refused_and_the_reason_names_the_tensor() {
    let (bert, qwen3) = (Reranker::bert, Reranker::qwen3);
    let labels = |count: u8| {
        let mut labels = Vec::new();
        for label in 0..count {
            put_text(&mut labels, &label.to_string());
        }
        array(8, usize::from(count), labels)
    };
    let length = WIDTH as u64;
    for (model, reason) in [
        (
            bert().without("cls.output.weight"),
            "without a head: the tensor \"cls.output.weight\" is missing",
        ),
        (
            bert().shaped("cls.output.weight", &[length, 2]),
            "\"cls.output.weight\" of its head has the shape [256, 2, 1, 1] instead of [256, 1, 1, 1]",
        ),
        (
            bert().shaped("cls.weight", &[length, 1]),
            "\"cls.weight\" of its head has the shape",
        ),
        (
            bert().shaped("cls.output.bias", &[2]),
            "\"cls.output.bias\" of its head has the shape",
        ),
        (
            bert().with("bert.classifier.output_labels", labels(3)),
            "\"cls.output.weight\" of its head has the shape",
        ),
        (
            qwen3().without("cls.output.weight"),
            "the tensor \"cls.output.weight\" is missing",
        ),
        (
            qwen3().without("qwen3.classifier.output_labels"),
            "whose scores would all be 1",
        ),
        (
            qwen3().with("tokenizer.chat_template.rerank", text("<s>{query}")),
            "its template `rerank` has no {document}",
        ),
        (
            qwen3().with(
                "tokenizer.chat_template.rerank",
                text(&format!("{{document}}{}", "{query}".repeat(5))),
            ),
            "its template `rerank` has {query} too often",
        ),
        (
            qwen3().without("tokenizer.chat_template.rerank"),
            "neither a template `rerank` nor a token between query and document",
        ),
        (
            bert().with("tokenizer.ggml.add_eos_token", value(7, &[0])),
            "neither a template `rerank` nor a token between query and document",
        ),
        (
            bert().with("tokenizer.ggml.add_sep_token", value(7, &[1])),
            "whose vocabulary has no SEP token",
        ),
    ] {
        let refused = refusal(&model.file()).unwrap_or_default();
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
    // llama.cpp has no head for this architecture.
    let gemma = family::gguf_with(
        Family::SlidingWindow,
        &[("gemma3.pooling_type".to_owned(), number(4))],
    );
    let refused = refusal(&gemma).unwrap_or_default();
    assert!(
        refused.contains("llama.cpp has no reranking for its architecture, `gemma3`"),
        "{refused}"
    );
}

/// llama.cpp ends the process if it cannot compute with a type.
#[tokio::test]
async fn a_head_of_any_type_is_computed_or_refused_by_its_name() {
    let model = Reranker::bert();
    let head = model
        .tensors
        .iter()
        .filter(|(name, _)| name.starts_with("cls."));
    let mut computed = Vec::new();
    for (name, shape) in head {
        // The last tensor may have another size without moving others.
        let sound = model.clone().shaped(name, shape).file();
        for kind in 0..48 {
            let mut file = sound.clone();
            retyped(&mut file, name, kind);
            match loggia_llama::open(&stored(&file).options) {
                Ok(engine) => {
                    // The bytes of some types may be weights that are not numbers.
                    let _ = rerank(&*engine, "q", &["d"]).await;
                    computed.push((name, kind));
                }
                Err(error) => assert!(error.to_string().contains(name), "{name} {kind}: {error}"),
            }
        }
    }
    let of = |name: &str| computed.iter().filter(|(its, _)| *its == name).count();
    let counts = (of("cls.bias"), of("cls.output.bias"));
    assert_eq!(counts, (1, 1), "only 32-bit floats are added: {computed:?}");
    // F32, F16, BF16, and the quantized types.
    assert_eq!(of("cls.weight"), of("cls.output.weight"), "{computed:?}");
    assert!(of("cls.weight") > 20, "{computed:?}");
}
