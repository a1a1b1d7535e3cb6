//! `POST /v1/rerank`: by a reranking model, or by the cosine of embeddings.

use std::sync::Arc;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use loggia_api::{Door, Policy, Strictness};
use loggia_backend::{
    Abilities, Ability, AbilitySet, Backend, BackendError, Call, EmbeddingCall, Embeddings, Reply,
    RerankCall, Reranked, ServedBy,
};
use loggia_wire::openai::{Model, OnePrompt};
use serde_json::{Value, json};

/// A backend with a model for each way to rerank, and one for none.
struct Models;

impl Backend for Models {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let can: &[Ability] = match model {
            "ranks" | "chats" => &[],
            "embeds" => &[Ability::Embeddings],
            _ => {
                let error = BackendError::model_not_found(model);
                return Box::pin(std::future::ready(Err(error)));
            }
        };
        let abilities = Abilities {
            can: AbilitySet::of(can),
            ..Abilities::default()
        };
        Box::pin(std::future::ready(Ok(Arc::new(abilities))))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move { Err(call.work.unsupported()) })
    }

    /// The score of a document is its length.
    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        let documents = call.work.documents.iter();
        let scores = documents.map(|text| f64::from(u32::try_from(text.len()).expect("short")));
        let ranked = (call.work.model == "ranks").then(|| Reranked {
            served_by: ServedBy::new("gpu", "ranks"),
            scores: scores.collect(),
            prompt_tokens: 5,
        });
        Box::pin(async move { Ok(ranked) })
    }

    /// A vector has the number of each vowel `a` and `e`.
    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        let count = |text: &str, letter| {
            f32::from(u16::try_from(text.matches(letter).count()).expect("short"))
        };
        let vectors = call.work.input.each().map(|one| match one {
            OnePrompt::Text(text) => vec![count(text, 'a'), count(text, 'e')],
            OnePrompt::Tokens(_) => Vec::new(),
        });
        let made = Embeddings {
            served_by: ServedBy::new("gpu", "embeds"),
            vectors: vectors.collect(),
            prompt_tokens: 7,
        };
        Box::pin(async move { Ok(made) })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(vec![Model::new("ranks", 0, "tests")]) })
    }
}

async fn ask(path: &str, policy: Policy, body: Value) -> (u16, HeaderMap, Value) {
    let door = Door::new(Arc::new(Models), policy);
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(body.to_string())));
    let answer = door.serve(request.expect("a request")).await;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let json = serde_json::from_slice(&body).expect("JSON");
    (head.status.as_u16(), head.headers, json)
}

#[tokio::test]
async fn a_reranking_model_orders_the_documents() {
    for path in ["/v1/rerank", "/rerank"] {
        let body = json!({"model": "ranks", "query": "q", "documents": ["aa", {"text": "aaaa", "id": 3}, "aaa"], "top_n": 2, "return_documents": true});
        let (status, headers, answer) = ask(path, Policy::default(), body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(headers["x-loggia-reranked-by"], "model");
        let expected = json!([
            {"index": 1, "relevance_score": 4.0, "document": {"text": "aaaa"}},
            {"index": 2, "relevance_score": 3.0, "document": {"text": "aaa"}},
        ]);
        assert_eq!(answer["results"], expected);
        assert_eq!(answer["model"], "ranks");
        let usage = json!({"prompt_tokens": 5, "total_tokens": 5});
        assert_eq!(answer["usage"], usage);
    }
}

#[tokio::test]
async fn an_embedding_model_reranks_by_cosine_and_the_header_says_so() {
    let body = json!({"model": "embeds", "query": "a", "documents": ["e", "aaa", "ae", "x"]});
    let (status, headers, answer) = ask("/v1/rerank", Policy::default(), body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(headers["x-loggia-reranked-by"], "embeddings");
    let results = answer["results"].as_array().expect("results");
    let found: Vec<String> = results
        .iter()
        .map(|one| {
            format!(
                "{} {:.3}",
                one["index"],
                one["relevance_score"].as_f64().expect("a score")
            )
        })
        .collect();
    assert_eq!(found, ["1 1.000", "2 0.707", "0 0.000", "3 0.000"]);
    assert_eq!(results[0].get("document"), None);
}

#[tokio::test]
async fn what_cannot_be_reranked_is_refused_with_its_place() {
    let valid = json!({"model": "embeds", "query": "a", "documents": ["b"]});
    for (fields, status, param) in [
        (json!({"model": "chats"}), 400, "model"),
        // As at OpenAI, this error has no `param`.
        (json!({"model": "other"}), 404, ""),
        (json!({"query": ""}), 400, "query"),
        (json!({"query": 3}), 400, "query"),
        (json!({"documents": null}), 400, "documents"),
        (json!({"documents": []}), 400, "documents"),
        (json!({"documents": "b"}), 400, "documents"),
        (
            json!({"documents": ["b", {"title": "c"}]}),
            400,
            "documents[1]",
        ),
        (json!({"documents": ["b", ""]}), 400, "documents[1]"),
        (json!({"top_n": 0}), 400, "top_n"),
    ] {
        let mut body = valid.clone();
        let object = body.as_object_mut().expect("an object");
        object.extend(fields.as_object().expect("fields").clone());
        let (got, _, answer) = ask("/v1/rerank", Policy::default(), body).await;
        let place = answer["error"]["param"].as_str().unwrap_or_default();
        assert_eq!((got, place), (status, param), "{fields}: {answer}");
    }
    let mut unknown = valid;
    unknown["colour"] = json!("blue");
    let (_, headers, _) = ask("/v1/rerank", Policy::default(), unknown.clone()).await;
    assert_eq!(headers["x-loggia-ignored"], "colour");
    let strict = Policy {
        strictness: Strictness::Strict,
        ..Policy::default()
    };
    let (status, _, answer) = ask("/v1/rerank", strict, unknown).await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("colour")));
}
