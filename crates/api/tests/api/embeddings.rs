//! `POST /v1/embeddings`, from bytes to bytes, over recorded answers of a real Ollama.

use crate::support::{Answer, Scripted, chat, hello, layered, post, recording, send};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loggia_api::{Caller, Ceilings, ModelPolicy, Policy, Strictness};
use serde_json::{Value, json};

const MODEL: &str = "all-minilm:22m";

/// An Ollama with an embedding model. It answers `/api/embed` with a recording.
fn ollama(name: &str) -> Scripted {
    let (status, answer) = recording(&format!("embed/{name}"));
    let scripted = Scripted::default().on("/api/show", 200, [recording("server/show-embedding").1]);
    scripted.on("/api/embed", status, [answer])
}

async fn embed(inner: &Scripted, policy: Policy, fields: Value) -> Answer {
    let mut body = json!({"model": MODEL});
    body.as_object_mut()
        .expect("an object")
        .extend(fields.as_object().expect("fields").clone());
    send(
        &layered(inner, policy),
        post("/v1/embeddings", body.to_string()),
    )
    .await
}

/// The JSON of each request to `/api/embed`.
fn asked(inner: &Scripted) -> Vec<Value> {
    let seen = inner.seen.lock().expect("no panic");
    let asked = seen
        .iter()
        .filter(|(head, _)| head.uri().path() == "/api/embed");
    asked
        .map(|(_, body)| serde_json::from_slice(body).expect("JSON"))
        .collect()
}

fn refused(answer: &Answer, status: u16, param: &str, code: &str) {
    let error = answer.json()["error"].clone();
    assert_eq!(answer.status(), status, "{error}");
    let code = if code.is_empty() {
        Value::Null
    } else {
        json!(code)
    };
    assert_eq!(
        (&error["param"], &error["code"], &error["type"]),
        (&json!(param), &code, &json!("invalid_request_error"))
    );
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("an array")
        .iter()
        .map(|number| number.as_f64().expect("a number"))
        .collect()
}

#[tokio::test]
async fn texts_become_vectors_in_their_order_under_the_name_that_was_asked_for() {
    let inner = ollama("array");
    let answer = embed(
        &inner,
        Policy::default(),
        json!({"input": ["a cat", "a dog"]}),
    )
    .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.header("x-loggia-served-by"),
        Some("ollama; model=all-minilm:22m")
    );
    let list = answer.json();
    let keys: Vec<&String> = list.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["object", "data", "model", "usage"]);
    assert_eq!(
        (&list["object"], &list["model"]),
        (&json!("list"), &json!(MODEL))
    );
    let recorded: Value = serde_json::from_slice(&recording("embed/array").1).expect("JSON");
    let count = &recorded["prompt_eval_count"];
    assert_eq!(
        list["usage"],
        json!({"prompt_tokens": count, "total_tokens": count})
    );
    for (index, item) in list["data"]
        .as_array()
        .expect("an array")
        .iter()
        .enumerate()
    {
        assert_eq!(
            (&item["object"], &item["index"]),
            (&json!("embedding"), &json!(index))
        );
        assert_eq!(
            item["embedding"], recorded["embeddings"][index],
            "to the last digit"
        );
    }
    let sent = json!({"model": MODEL, "input": ["a cat", "a dog"], "truncate": false});
    assert_eq!(asked(&inner), [sent], "nothing is ever cut");
}

#[tokio::test]
async fn one_text_is_a_list_of_one() {
    let inner = ollama("string");
    let list = embed(&inner, Policy::default(), json!({"input": "a cat"}))
        .await
        .json();
    assert_eq!(list["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(asked(&inner)[0]["input"], json!(["a cat"]));
}

#[tokio::test]
async fn base64_is_made_by_the_door_of_little_endian_singles() {
    let inner = ollama("string");
    let list = embed(
        &inner,
        Policy::default(),
        json!({"input": "a cat", "encoding_format": "base64"}),
    )
    .await
    .json();
    let bytes = STANDARD
        .decode(list["data"][0]["embedding"].as_str().expect("a string"))
        .expect("base64");
    let singles: Vec<f32> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|single| f32::from_le_bytes(*single))
        .collect();
    let recorded: Value = serde_json::from_slice(&recording("embed/string").1).expect("JSON");
    #[expect(clippy::cast_possible_truncation, reason = "singles were recorded")]
    let expected: Vec<f32> = numbers(&recorded["embeddings"][0])
        .iter()
        .map(|&number| number as f32)
        .collect();
    assert_eq!(singles, expected);
    assert_eq!(
        asked(&inner)[0].get("encoding_format"),
        None,
        "Ollama knows none"
    );
}

#[tokio::test]
async fn dimensions_reach_ollama_and_more_than_the_model_makes_are_refused() {
    let inner = ollama("dimensions");
    let list = embed(
        &inner,
        Policy::default(),
        json!({"input": "a cat", "dimensions": 16}),
    )
    .await
    .json();
    assert_eq!(numbers(&list["data"][0]["embedding"]).len(), 16);
    assert_eq!(asked(&inner)[0]["dimensions"], 16);
    // Ollama silently ignores a number that is too large.
    let answer = embed(
        &ollama("dimensions-too-many"),
        Policy::default(),
        json!({"input": "a cat", "dimensions": 4096}),
    )
    .await;
    refused(&answer, 400, "dimensions", "integer_above_max_value");
    assert!(answer.text().contains("<= 384"), "{}", answer.text());
    for wrong in [0, -1] {
        let answer = embed(
            &inner,
            Policy::default(),
            json!({"input": "a cat", "dimensions": wrong}),
        )
        .await;
        refused(&answer, 400, "dimensions", "integer_below_min_value");
    }
}

#[tokio::test]
async fn an_ollama_that_knows_no_dimensions_has_its_vectors_cut_and_scaled_as_a_newer_one_would() {
    let older = embed(
        &ollama("string"),
        Policy::default(),
        json!({"input": "a cat", "dimensions": 16}),
    )
    .await
    .json();
    let newer = embed(
        &ollama("dimensions"),
        Policy::default(),
        json!({"input": "a cat", "dimensions": 16}),
    )
    .await
    .json();
    let (older, newer) = (
        numbers(&older["data"][0]["embedding"]),
        numbers(&newer["data"][0]["embedding"]),
    );
    assert!(
        older
            .iter()
            .zip(&newer)
            .all(|(one, other)| (one - other).abs() < 1e-6),
        "{older:?} {newer:?}"
    );
}

#[tokio::test]
async fn tokens_are_refused_by_name_where_the_engine_takes_texts_alone() {
    for tokens in [json!([101, 102]), json!([[101, 102], [103]])] {
        let inner = ollama("string");
        let answer = embed(&inner, Policy::default(), json!({"input": tokens})).await;
        refused(&answer, 400, "input", "unsupported_value");
        let lenient = Policy {
            strictness: Strictness::Lenient,
            ..Policy::default()
        };
        refused(
            &embed(&inner, lenient, json!({"input": tokens})).await,
            400,
            "input",
            "unsupported_value",
        );
        assert!(asked(&inner).is_empty());
    }
}

#[tokio::test]
async fn an_input_that_is_empty_missing_or_of_another_shape_is_a_400_that_names_its_place() {
    for (fields, param, code) in [
        (json!({"input": ""}), "input", "empty_string"),
        (json!({"input": []}), "input", "empty_array"),
        (json!({"input": [[]]}), "input", "empty_array"),
        (json!({"input": ["a", ""]}), "input[1]", "empty_string"),
        (json!({"input": [[1], []]}), "input[1]", "empty_array"),
        (json!({}), "input", "missing_required_parameter"),
        (json!({"input": null}), "input", "invalid_type"),
        (json!({"input": 5}), "input", "invalid_type"),
        (json!({"input": ["a", 5]}), "input[1]", "invalid_type"),
        (json!({"input": [[1], "a"]}), "input[1]", "invalid_type"),
        (
            json!({"input": "a", "encoding_format": "int8"}),
            "encoding_format",
            "invalid_value",
        ),
        (
            json!({"input": "a", "dimensions": "16"}),
            "dimensions",
            "invalid_type",
        ),
        (
            json!({"input": "a", "model": null}),
            "model",
            "invalid_type",
        ),
    ] {
        let inner = ollama("string");
        let answer = embed(&inner, Policy::default(), fields.clone()).await;
        assert_eq!(
            answer.json()["error"]["param"],
            param,
            "{fields}: {}",
            answer.text()
        );
        refused(&answer, 400, param, code);
        assert!(asked(&inner).is_empty());
    }
}

#[tokio::test]
async fn more_inputs_than_the_ceiling_are_a_400_that_names_both_numbers() {
    let many = json!({"input": vec!["a"; 2049]});
    let answer = embed(&ollama("array"), Policy::default(), many).await;
    refused(&answer, 400, "input", "array_above_max_length");
    assert!(
        answer.text().contains("2048") && answer.text().contains("2049"),
        "{}",
        answer.text()
    );
    let ceilings = Ceilings {
        inputs: 1,
        ..Ceilings::default()
    };
    let answer = embed(
        &ollama("array"),
        Policy {
            ceilings,
            ..Policy::default()
        },
        json!({"input": ["a", "b"]}),
    )
    .await;
    refused(&answer, 400, "input", "array_above_max_length");
}

#[tokio::test]
async fn an_input_that_is_too_long_is_named_and_nothing_is_cut() {
    let inner = ollama("too-long-truncate-false");
    let answer = embed(
        &inner,
        Policy::default(),
        json!({"input": "cat ".repeat(1000)}),
    )
    .await;
    refused(&answer, 400, "input[0]", "context_length_exceeded");
    // Ollama does not report which of several inputs is too long, so the longest is tried alone.
    let inner = ollama("too-long-truncate-false");
    let answer = embed(
        &inner,
        Policy::default(),
        json!({"input": ["a cat", "cat ".repeat(1000), "a dog"]}),
    )
    .await;
    refused(&answer, 400, "input[1]", "context_length_exceeded");
    assert!(
        asked(&inner)
            .iter()
            .all(|request| request["truncate"] == false)
    );
    assert_eq!(asked(&inner).len(), 2);
}

#[tokio::test]
async fn the_longest_input_decides_which_context_ollama_is_asked_for() {
    let mut show: Value =
        serde_json::from_slice(&recording("server/show-embedding").1).expect("JSON");
    show["model_info"]["bert.context_length"] = json!(8192);
    for (letters, size) in [(100, None), (10_000, Some(8192))] {
        let inner = ollama("array").on("/api/show", 200, [show.to_string()]);
        embed(
            &inner,
            Policy::default(),
            json!({"input": ["a".repeat(letters), "b".to_owned()]}),
        )
        .await;
        assert_eq!(asked(&inner)[0]["options"]["num_ctx"].as_u64(), size);
    }
}

#[tokio::test]
async fn a_model_that_makes_no_embeddings_is_a_403_as_openai_has_it() {
    let chats = Scripted::default().on("/api/show", 200, [recording("server/show").1]);
    let answer = embed(&chats, Policy::default(), json!({"input": "a cat"})).await;
    refused(&answer, 403, "model", "");
    assert!(
        answer
            .text()
            .contains("You are not allowed to generate embeddings from this model"),
        "{}",
        answer.text()
    );
    // If Ollama does not report the model's abilities, the request is sent anyway.
    let silent = ollama("chat-model").on("/api/show", 404, ["404 page not found"]);
    refused(
        &embed(&silent, Policy::default(), json!({"input": "a cat"})).await,
        403,
        "model",
        "",
    );
}

#[tokio::test]
async fn a_chat_with_an_embedding_model_is_a_404_as_openai_has_it() {
    let inner = ollama("string");
    let answer = chat(
        &inner,
        Policy::default(),
        hello(json!({"tools": [], "seed": 1})),
    )
    .await;
    refused(&answer, 404, "model", "");
    assert!(
        answer.text().contains("This is not a chat model"),
        "{}",
        answer.text()
    );
    assert!(inner.chats().is_empty());
    let silent = Scripted::default().recorded("chat/embedding-model");
    refused(
        &chat(&silent, Policy::default(), hello(json!({}))).await,
        404,
        "model",
        "",
    );
}

#[tokio::test]
async fn an_older_completion_with_an_embedding_model_is_a_404_too() {
    let inner = ollama("string");
    let body = json!({"model": MODEL, "prompt": "Once"}).to_string();
    let answer = send(
        &layered(&inner, Policy::default()),
        post("/v1/completions", body),
    )
    .await;
    refused(&answer, 404, "model", "");
    assert!(
        answer.text().contains("v1/completions endpoint"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_callers_strictness_and_models_hold_for_embeddings_too() {
    let asked_by = async |strictness, models: Option<&[&str]>| {
        let pattern = |one: &&str| one.parse().expect("a pattern");
        let models = models.map(|models| models.iter().map(pattern).collect());
        let body = json!({"model": MODEL, "input": "a cat", "user": "u-1"}).to_string();
        let mut request = post("/v1/embeddings", body);
        request.extensions_mut().insert(Caller {
            name: "alice".into(),
            strictness,
            models,
            may_delete_models: false,
            may_have_priority: false,
        });
        send(&layered(&ollama("string"), Policy::default()), request).await
    };
    refused(
        &asked_by(Some(Strictness::Strict), None).await,
        400,
        "user",
        "unsupported_parameter",
    );
    assert_eq!(asked_by(None, Some(&["all-*"])).await.status(), 200);
    let answer = asked_by(None, Some(&["gpt-*"])).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
}

#[tokio::test]
async fn a_model_that_is_not_there_is_a_404() {
    let (status, missing) = recording("server/show-missing");
    let inner = ollama("model-missing").on("/api/show", status, [missing]);
    let answer = embed(&inner, Policy::default(), json!({"input": "a cat"})).await;
    assert_eq!(
        (answer.status(), &answer.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
}

#[tokio::test]
async fn the_label_for_a_user_and_unknown_fields_are_named_and_strict_refuses_them() {
    let fields = json!({"input": "a cat", "user": "u-1", "input_type": "query"});
    let answer = embed(&ollama("string"), Policy::default(), fields).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("user, input_type"))
    );
    let strict = || Policy {
        strictness: Strictness::Strict,
        ..Policy::default()
    };
    let answer = embed(
        &ollama("string"),
        strict(),
        json!({"input": "a cat", "user": "u-1"}),
    )
    .await;
    refused(&answer, 400, "user", "unsupported_parameter");
    let answer = embed(
        &ollama("string"),
        strict(),
        json!({"input": "a cat", "input_type": "query"}),
    )
    .await;
    refused(&answer, 400, "input_type", "unknown_parameter");
}

#[tokio::test]
async fn keep_alive_reaches_ollama_and_no_client_makes_it_cut() {
    let inner = ollama("string");
    let fields = json!({"input": "a cat", "keep_alive": "5m", "truncate": true});
    let answer = embed(&inner, Policy::default(), fields).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("truncate"))
    );
    assert_eq!(
        (
            &asked(&inner)[0]["keep_alive"],
            &asked(&inner)[0]["truncate"]
        ),
        (&json!("5m"), &json!(false))
    );
    let answer = embed(
        &inner,
        Policy::default(),
        json!({"input": "a cat", "keep_alive": []}),
    )
    .await;
    refused(&answer, 400, "keep_alive", "invalid_type");
}

#[tokio::test]
async fn options_of_the_client_and_of_the_configuration_reach_ollama() {
    let inner = ollama("string");
    let policy = || {
        let Value::Object(options) = json!({"num_ctx": 2048, "num_thread": 2}) else {
            unreachable!()
        };
        let its = ModelPolicy {
            options,
            ..ModelPolicy::default()
        };
        Policy {
            models: [(MODEL.to_owned(), its)].into(),
            ..Policy::default()
        }
    };
    embed(&inner, policy(), json!({"input": "a cat"})).await;
    assert_eq!(
        asked(&inner)[0]["options"],
        json!({"num_ctx": 2048, "num_thread": 2})
    );
    let answer = embed(
        &inner,
        policy(),
        json!({"input": "a cat", "options": {"num_ctx": 512, "nmu_ctx": 1}}),
    )
    .await;
    assert_eq!(
        asked(&inner)[1]["options"],
        json!({"num_ctx": 512, "nmu_ctx": 1, "num_thread": 2})
    );
    assert_eq!(answer.header("x-loggia-ignored"), Some("options.nmu_ctx"));
    let answer = embed(&inner, policy(), json!({"input": "a cat", "options": []})).await;
    refused(&answer, 400, "options", "invalid_type");
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_502_and_no_wrong_vectors() {
    // Ollama returns no vector for an empty text (`embed/empty-string`), and may return one for two
    // texts.
    for (name, input) in [
        ("empty-string", json!("\u{200b}")),
        ("string", json!(["a cat", "a dog"])),
    ] {
        let answer = embed(&ollama(name), Policy::default(), json!({"input": input})).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["code"]),
            (502, &json!("backend_bad_answer"))
        );
    }
}

#[tokio::test]
async fn another_method_is_a_405_and_a_body_that_is_too_large_a_413() {
    let service = layered(
        &ollama("string"),
        Policy {
            body_limit: 100,
            ..Policy::default()
        },
    );
    let get = http::Request::get("/v1/embeddings")
        .body(http_body_util::Full::default())
        .expect("a request");
    assert_eq!(send(&service, get).await.status(), 405);
    let large = json!({"model": MODEL, "input": "a".repeat(100)}).to_string();
    assert_eq!(
        send(&service, post("/v1/embeddings", large)).await.status(),
        413
    );
}
