//! The older completions over a service that speaks Ollama: each field of the request, and the
//! format of the answer (`docs/dialects.md`, part 6).
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use http_body_util::Full;
use loggia_api::{Ceilings, Policy, Strictness};
use serde_json::{Value, json};

use crate::support::{Answer, Scripted, layered, post, recording, send, strict};

/// An Ollama that answers `/api/generate` with a recording, and has the model of `server/show`.
fn recorded(name: &str) -> Scripted {
    let (status, show) = recording("server/show");
    let (answer, body) = recording(name);
    Scripted::default()
        .on("/api/show", status, [show])
        .on("/api/generate", answer, [body])
}

/// An Ollama whose model has a template for filling a gap.
fn inserting() -> Scripted {
    let show = json!({"capabilities": ["completion", "insert"], "model_info": {}}).to_string();
    recorded("generate/raw-whole").on("/api/show", 200, [show])
}

async fn complete(inner: &Scripted, policy: Policy, more: Value) -> Answer {
    let mut body = json!({"model": "smollm2:135m", "prompt": "Once upon a time"});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    send(
        &layered(inner, policy),
        post("/v1/completions", body.to_string()),
    )
    .await
}

async fn of(name: &str, more: Value) -> Answer {
    complete(&recorded(name), Policy::default(), more).await
}

/// The JSON of each request to `/api/generate`.
fn sent(inner: &Scripted) -> Vec<Value> {
    let seen = inner.seen.lock().unwrap();
    let generated = seen
        .iter()
        .filter(|(head, _)| head.uri().path() == "/api/generate");
    generated
        .map(|(_, body)| serde_json::from_slice(body).unwrap())
        .collect()
}

fn refused(answer: &Answer, param: &str, code: &str) {
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status(), &error["param"], &error["code"]),
        (400, &json!(param), &json!(code)),
        "{error}"
    );
}

#[tokio::test]
async fn a_whole_completion_has_openais_shape() {
    let answer = of("generate/raw-whole", json!({"max_tokens": 8})).await;
    let completion = answer.json();
    assert_eq!(answer.status(), 200, "{completion}");
    assert_eq!(
        answer.header("x-loggia-served-by"),
        Some("ollama; model=smollm2:135m")
    );
    let id = completion["id"].as_str().unwrap();
    assert!(id.starts_with("cmpl-") && id.len() == 34, "{id}");
    assert_eq!(
        (&completion["object"], &completion["model"]),
        (&json!("text_completion"), &json!("smollm2:135m"))
    );
    assert_eq!(completion["created"], 1_795_365_753);
    let text = ", the city of New Haven was a";
    assert_eq!(
        completion["choices"],
        json!([{"text": text, "index": 0, "logprobs": null, "finish_reason": "length"}])
    );
    let usage = &completion["usage"];
    assert_eq!(
        (
            &usage["prompt_tokens"],
            &usage["completion_tokens"],
            &usage["total_tokens"]
        ),
        (&json!(4), &json!(8), &json!(12))
    );
}

#[tokio::test]
async fn a_streamed_completion_ends_with_a_chunk_of_empty_text_then_usage_then_done() {
    let fields = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = of("generate/raw-stream", fields).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.events().last(), Some(&"[DONE]"));
    let mut chunks = answer.chunks();
    let usage = chunks.pop().unwrap();
    assert_eq!(
        (&usage["choices"], &usage["usage"]["total_tokens"]),
        (&json!([]), &json!(12))
    );
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["usage"].is_null() && chunk["object"] == "text_completion")
    );
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["id"] == usage["id"] && chunk["created"] == usage["created"])
    );
    let end = chunks.pop().unwrap();
    assert_eq!(
        end["choices"],
        json!([{"text": "", "index": 0, "logprobs": null, "finish_reason": "length"}])
    );
    let text: String = chunks
        .iter()
        .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, ", the city of New Haven was a");
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["choices"][0]["finish_reason"].is_null())
    );
}

#[tokio::test]
async fn log_probabilities_of_a_completion_have_the_older_shape() {
    let answer = of("generate/raw-logprobs", json!({"logprobs": 2}))
        .await
        .json();
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(
        (&logprobs["tokens"], &logprobs["text_offset"]),
        (&json!([",", " the"]), &json!([0, 1]))
    );
    assert_eq!(
        logprobs["token_logprobs"],
        json!([-0.066_217_891_871_929_17, -1.787_211_894_989_013_7])
    );
    let second = json!({" the": -1.787_211_894_989_013_7, " I": -2.165_123_462_677_002});
    assert_eq!(logprobs["top_logprobs"][1], second);
}

#[tokio::test]
async fn a_prompt_is_sent_raw_and_never_cut() {
    let inner = recorded("generate/raw-whole");
    let fields = json!({
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.25, "seed": 3, "stop": ["x", ""], "presence_penalty": 1, "frequency_penalty": -1,
        "logprobs": 3, "keep_alive": "5m", "top_k": 5, "options": {"min_p": 0.5}
    });
    let answer = complete(&inner, Policy::default(), fields).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, None),
        "{}",
        answer.text()
    );
    let options = json!({
        "num_predict": 9, "temperature": 0.5, "top_p": 0.25, "seed": 3, "stop": ["x"], "presence_penalty": 1.0, "frequency_penalty": -1.0,
        "top_k": 5, "min_p": 0.5
    });
    let expected = json!({
        "model": "smollm2:135m", "prompt": "Once upon a time", "raw": true, "stream": false, "options": options, "keep_alive": "5m",
        "truncate": false, "shift": false, "logprobs": true, "top_logprobs": 3
    });
    assert_eq!(sent(&inner), [expected]);
}

#[tokio::test]
async fn without_max_tokens_a_completion_has_16_unless_options_say_otherwise() {
    for (fields, most) in [
        (json!({}), 16),
        (json!({"options": {"num_predict": 5}}), 5),
        (json!({"max_tokens": 2}), 2),
    ] {
        let inner = recorded("generate/raw-whole");
        complete(&inner, Policy::default(), fields).await;
        assert_eq!(sent(&inner)[0]["options"]["num_predict"], most);
    }
}

#[tokio::test]
async fn a_suffix_goes_to_models_that_insert_without_raw_and_is_refused_elsewhere() {
    let inner = inserting();
    assert_eq!(
        complete(&inner, Policy::default(), json!({"suffix": "The end."}))
            .await
            .status(),
        200
    );
    let sent = &sent(&inner)[0];
    assert_eq!(
        (&sent["suffix"], sent.get("raw")),
        (&json!("The end."), None)
    );
    refused(
        &of("generate/raw-whole", json!({"suffix": "The end."})).await,
        "suffix",
        "unsupported_parameter",
    );
    assert_eq!(
        of("generate/raw-whole", json!({"suffix": ""}))
            .await
            .status(),
        200,
        "an empty one asks for nothing"
    );
}

#[tokio::test]
async fn several_prompts_and_choices_are_calls_numbered_prompt_by_prompt_and_counted_together() {
    let inner = recorded("generate/raw-whole");
    let answer = complete(
        &inner,
        Policy::default(),
        json!({"prompt": ["a", "b", "c"], "n": 2, "seed": 5}),
    )
    .await
    .json();
    let indexes: Vec<_> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["index"].clone())
        .collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4, 5]);
    let asked: Vec<_> = sent(&inner)
        .iter()
        .map(|sent| (sent["prompt"].clone(), sent["options"]["seed"].clone()))
        .collect();
    let expected = [("a", 5), ("a", 6), ("b", 5), ("b", 6), ("c", 5), ("c", 6)];
    assert_eq!(
        asked,
        expected.map(|(prompt, seed)| (json!(prompt), json!(seed)))
    );
    // 4 tokens of each prompt, 8 of each text.
    let usage = &answer["usage"];
    assert_eq!(
        (
            &usage["prompt_tokens"],
            &usage["completion_tokens"],
            &usage["total_tokens"]
        ),
        (&json!(12), &json!(48), &json!(60))
    );
}

#[tokio::test]
async fn several_prompts_stream_side_by_side_and_each_ends_once() {
    let answer = of(
        "generate/raw-stream",
        json!({"prompt": ["a", "b"], "stream": true}),
    )
    .await;
    assert_eq!(answer.events().last(), Some(&"[DONE]"));
    for index in 0..2 {
        let chunks = answer.chunks();
        let own: Vec<_> = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .filter(|choice| choice["index"] == index)
            .collect();
        let text: String = own
            .iter()
            .map(|choice| choice["text"].as_str().unwrap())
            .collect();
        assert_eq!(text, ", the city of New Haven was a");
        assert_eq!(
            own.iter()
                .filter(|choice| choice["finish_reason"] == "length")
                .count(),
            1
        );
    }
}

#[tokio::test]
async fn the_best_of_several_by_mean_log_probability_are_given() {
    let line = |text: &str, logprob: f64| {
        let logprobs = json!([{"token": text, "logprob": logprob, "bytes": text.as_bytes()}]);
        json!({"model": "m", "created_at": "2026-01-02T03:04:05Z", "response": text, "done": true, "done_reason": "stop",
            "prompt_eval_count": 4, "eval_count": 1, "logprobs": logprobs})
        .to_string()
    };
    let inner = recorded("generate/raw-whole")
        .on("/api/generate", 200, [line("worse", -2.0)])
        .first("/api/generate", 200, [line("better", -1.0)]);
    let answer = complete(&inner, Policy::default(), json!({"best_of": 3, "n": 1}))
        .await
        .json();
    assert_eq!(
        answer["choices"],
        json!([{"text": "better", "index": 0, "logprobs": null, "finish_reason": "stop"}])
    );
    // The usage counts all candidates, also those that are not returned.
    assert_eq!(
        (
            &answer["usage"]["prompt_tokens"],
            &answer["usage"]["completion_tokens"]
        ),
        (&json!(4), &json!(3))
    );
    assert!(
        sent(&inner).iter().all(|sent| sent["logprobs"] == true),
        "{:?}",
        sent(&inner)
    );
    refused(
        &of("generate/raw-whole", json!({"best_of": 1, "n": 2})).await,
        "best_of",
        "invalid_value",
    );
    refused(
        &of("generate/raw-stream", json!({"best_of": 2, "stream": true})).await,
        "best_of",
        "invalid_value",
    );
}

#[tokio::test]
async fn an_echoed_prompt_stands_before_its_text() {
    let answer = of(
        "generate/raw-whole",
        json!({"echo": true, "prompt": ["One", "Two"]}),
    )
    .await
    .json();
    let texts: Vec<_> = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        texts,
        [
            "One, the city of New Haven was a",
            "Two, the city of New Haven was a"
        ]
    );
    let streamed = of("generate/raw-stream", json!({"echo": true, "stream": true})).await;
    let text: String = streamed
        .chunks()
        .iter()
        .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, "Once upon a time, the city of New Haven was a");
}

#[tokio::test]
async fn what_a_completion_cannot_do_without_is_refused_by_name() {
    for (param, fields) in [
        ("prompt", json!({"prompt": [1, 2]})),
        ("prompt", json!({"prompt": [[1], [2]]})),
        ("max_tokens", json!({"max_tokens": 0})),
        ("grammar", json!({"grammar": "root ::= \"a\""})),
    ] {
        refused(
            &of("generate/raw-whole", fields).await,
            param,
            "unsupported_parameter",
        );
    }
    for prompt in [json!(""), json!(null)] {
        refused(
            &of("generate/raw-whole", json!({"prompt": prompt})).await,
            "prompt",
            "invalid_value",
        );
    }
}

#[tokio::test]
async fn what_ollama_cannot_do_of_a_completion_is_dropped_and_named_and_strict_refuses_it() {
    for (param, named, fields) in [
        ("echo", "logprobs", json!({"echo": true, "logprobs": 1})),
        ("logit_bias", "logit_bias", json!({"logit_bias": {"5": 1}})),
    ] {
        let answer = of("generate/raw-whole", fields.clone()).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, Some(named)),
            "{}",
            answer.text()
        );
        let answer = complete(&recorded("generate/raw-whole"), strict(), fields).await;
        refused(&answer, param, "unsupported_parameter");
    }
}

#[tokio::test]
async fn lenient_drops_a_limit_of_no_tokens_where_the_model_must_write_some() {
    let policy = Policy {
        strictness: Strictness::Lenient,
        ..Policy::default()
    };
    let none = json!({"max_tokens": 0});
    let answer = complete(&recorded("generate/raw-whole"), policy, none).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("max_tokens"))
    );
}

#[tokio::test]
async fn lenient_drops_the_stream_options_of_a_completion_that_does_not_stream() {
    let fields = json!({"stream_options": {"include_usage": true}});
    refused(
        &of("generate/raw-whole", fields.clone()).await,
        "stream_options",
        "invalid_value",
    );
    let policy = Policy {
        strictness: Strictness::Lenient,
        ..Policy::default()
    };
    let answer = complete(&recorded("generate/raw-whole"), policy, fields).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("stream_options"))
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_completion_is_told_with_its_place() {
    for (fields, param, code) in [
        (json!({"prompt": []}), "prompt", "empty_array"),
        (json!({"prompt": [[1], []]}), "prompt[1]", "empty_array"),
        (json!({"prompt": 5}), "prompt", "invalid_type"),
        (json!({"prompt": ["a", 1]}), "prompt[1]", "invalid_type"),
        (
            json!({"logprobs": 6}),
            "logprobs",
            "integer_above_max_value",
        ),
        (json!({"logprobs": true}), "logprobs", "invalid_type"),
        (
            json!({"max_tokens": -1}),
            "max_tokens",
            "integer_below_min_value",
        ),
        (
            json!({"temperature": 3}),
            "temperature",
            "decimal_above_max_value",
        ),
        (json!({"best_of": 21}), "best_of", "integer_above_max_value"),
        (
            json!({"stream_options": {}}),
            "stream_options",
            "invalid_value",
        ),
        (
            json!({"stop": ["a", "b", "c", "d", "e"]}),
            "stop",
            "array_above_max_length",
        ),
        (json!({"n": 17}), "n", "above_server_limit"),
        (json!({"best_of": 17}), "best_of", "above_server_limit"),
        (
            json!({"prompt": vec!["a"; 129]}),
            "prompt",
            "array_above_max_length",
        ),
    ] {
        refused(&of("generate/raw-whole", fields).await, param, code);
    }
    let no_model = send(
        &layered(&Scripted::default(), Policy::default()),
        post("/v1/completions", "{\"prompt\": \"a\"}"),
    )
    .await;
    refused(&no_model, "model", "missing_required_parameter");
    let policy = Policy {
        ceilings: Ceilings {
            prompts: 2,
            ..Ceilings::default()
        },
        ..Policy::default()
    };
    let answer = complete(
        &recorded("generate/raw-whole"),
        policy,
        json!({"prompt": ["a", "b", "c"]}),
    )
    .await;
    refused(&answer, "prompt", "array_above_max_length");
}

#[tokio::test]
async fn what_has_no_effect_on_a_completion_is_named_and_strict_refuses_it() {
    for (name, fields) in [
        ("user", json!({"user": "u"})),
        (
            "stream_options.include_obfuscation",
            json!({"stream": true, "stream_options": {"include_obfuscation": true}}),
        ),
        ("think", json!({"think": true})),
        ("messages", json!({"messages": []})),
        ("options.mirostat", json!({"options": {"mirostat": 1}})),
        (
            "options.top_k",
            json!({"top_k": 5, "options": {"top_k": 7}}),
        ),
        (
            "options.num_predict",
            json!({"max_tokens": 5, "options": {"num_predict": 7, "top_k": 7}}),
        ),
    ] {
        let answer = of("generate/raw-stream", fields.clone()).await;
        assert_eq!(
            answer.header("x-loggia-ignored"),
            Some(name),
            "{}",
            answer.text()
        );
        let policy = Policy {
            strictness: Strictness::Strict,
            ..Policy::default()
        };
        let answer = complete(&recorded("generate/raw-stream"), policy, fields).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]["param"]),
            (400, &json!(name))
        );
    }
    let policy = Policy {
        strictness: Strictness::Lenient,
        ..Policy::default()
    };
    let answer = complete(
        &recorded("generate/raw-whole"),
        policy,
        json!({"suffix": "x", "logit_bias": {"1": 1}}),
    )
    .await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("suffix, logit_bias"))
    );
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_told_in_the_words_of_a_completion() {
    let (status, body) = recording("chat/overflow-truncate-false");
    let (_, show) = recording("server/show");
    let inner =
        Scripted::default()
            .on("/api/show", 200, [show])
            .on("/api/generate", status, [body]);
    let error = complete(
        &inner,
        Policy::default(),
        json!({"options": {"num_ctx": 512}}),
    )
    .await
    .json()["error"]
        .clone();
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!("prompt"), &json!("context_length_exceeded"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("your prompt resulted in 1210 tokens") && !message.contains("messages"),
        "{message}"
    );
}

#[tokio::test]
async fn an_error_in_a_streamed_completion_is_one_event_and_the_end() {
    let lines = [
        json!({"model": "m", "created_at": "2026-01-02T03:04:05Z", "response": "a", "done": false})
            .to_string()
            + "\n",
        json!({"error": "an error was encountered while running the model: unexpected EOF"})
            .to_string()
            + "\n",
    ];
    let inner = recorded("generate/raw-stream").on("/api/generate", 200, lines);
    let answer = complete(&inner, Policy::default(), json!({"stream": true})).await;
    let chunks = answer.chunks();
    assert_eq!(chunks[0]["choices"][0]["text"], "a");
    assert!(
        chunks.last().unwrap()["error"]["message"].is_string()
            && !answer.events().contains(&"[DONE]")
    );
    // If one prompt fails, the whole request fails.
    let answer = complete(&inner, Policy::default(), json!({"prompt": ["a", "b"]})).await;
    assert_eq!(answer.status(), 500, "{}", answer.text());
}

#[tokio::test]
async fn another_method_is_a_405() {
    let request = http::Request::get("/v1/completions")
        .body(Full::default())
        .unwrap();
    let answer = send(&layered(&Scripted::default(), Policy::default()), request).await;
    assert_eq!(
        (answer.status(), answer.header("allow")),
        (405, Some("POST"))
    );
}
