//! API keys: what the server knows about a client by its key, and how the API uses it.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use loggia_api::{Caller, ModelPolicy, Policy, Strictness};
use serde_json::{Value, json};

use crate::support::{Answer, Scripted, hello, layered, post, recording, send};

fn ollama() -> Scripted {
    let show = recording("server/show");
    let tags = recording("server/tags");
    Scripted::default()
        .on("/api/show", show.0, [show.1])
        .on("/api/tags", tags.0, [tags.1])
        .recorded("chat/whole")
}

fn caller(strictness: Option<Strictness>, models: Option<&[&str]>) -> Caller {
    let models = models.map(|models| {
        models
            .iter()
            .map(|model| model.parse().expect("a pattern"))
            .collect::<Arc<[_]>>()
    });
    Caller {
        name: "alice".into(),
        strictness,
        models,
        may_delete_models: false,
        may_have_priority: false,
    }
}

async fn ask(caller: Caller, policy: Policy, mut request: Request<Full<Bytes>>) -> Answer {
    request.extensions_mut().insert(caller);
    send(&layered(&ollama(), policy), request).await
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).expect("a request")
}

#[tokio::test]
async fn a_callers_strictness_is_stronger_than_its_models_and_that_than_the_servers() {
    let hint = || {
        post(
            "/v1/chat/completions",
            hello(json!({"prompt_cache_key": "a"})).to_string(),
        )
    };
    let refused = || {
        post(
            "/v1/chat/completions",
            hello(json!({"grammar": "root ::= \"a\""})).to_string(),
        )
    };
    let model = |strictness| {
        let its = ModelPolicy {
            strictness: Some(strictness),
            ..ModelPolicy::default()
        };
        Policy {
            models: [("smollm2:135m".to_owned(), its)].into(),
            ..Policy::default()
        }
    };
    let server = |strictness| Policy {
        strictness,
        ..Policy::default()
    };
    for (its_own, policy, of_a_hint, of_what_changes_the_answer) in [
        (None, server(Strictness::Strict), 400, 400),
        (None, model(Strictness::Lenient), 200, 200),
        (
            Some(Strictness::Strict),
            model(Strictness::Lenient),
            400,
            400,
        ),
        (
            Some(Strictness::Lenient),
            model(Strictness::Strict),
            200,
            200,
        ),
        (
            Some(Strictness::Plain),
            server(Strictness::Strict),
            200,
            400,
        ),
    ] {
        let answer = ask(caller(its_own, None), policy.clone(), hint()).await;
        assert_eq!(answer.status(), of_a_hint, "{its_own:?}: {}", answer.text());
        let answer = ask(caller(its_own, None), policy, refused()).await;
        assert_eq!(
            answer.status(),
            of_what_changes_the_answer,
            "{its_own:?}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_model_that_a_caller_may_not_use_is_not_there() {
    let body = |stream: bool| hello(json!({"stream": stream})).to_string();
    for stream in [false, true] {
        let chat = || post("/v1/chat/completions", body(stream));
        let let_in = ask(
            caller(None, Some(&["other", "smol*"])),
            Policy::default(),
            chat(),
        )
        .await;
        assert_eq!(let_in.status(), 200, "{}", let_in.text());
        // The message is the same as for a model that does not exist.
        let kept_out = ask(caller(None, Some(&["other"])), Policy::default(), chat()).await;
        let error = &kept_out.json()["error"];
        assert_eq!(
            (kept_out.status(), &error["code"]),
            (404, &json!("model_not_found"))
        );
        let message =
            "the model `smollm2:135m` does not exist; GET /v1/models lists the available models";
        assert_eq!(error["message"], message);
    }
    for (models, status) in [(&["other"], 404), (&["smol*"], 200)] {
        let body = json!({"model": "smollm2:135m", "input": "Hi"}).to_string();
        let count = post("/v1/responses/input_tokens", body);
        let count = ask(caller(None, Some(models)), Policy::default(), count).await;
        assert_eq!(count.status(), status, "{}", count.text());
    }
    let one = ask(
        caller(None, Some(&["other"])),
        Policy::default(),
        get("/v1/models/smollm2:135m"),
    )
    .await;
    assert_eq!(
        (one.status(), &one.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    let one = ask(
        caller(None, Some(&["*"])),
        Policy::default(),
        get("/v1/models/smollm2:135m"),
    )
    .await;
    assert_eq!(one.status(), 200, "{}", one.text());
}

#[tokio::test]
async fn the_list_has_only_what_a_caller_may_use() {
    let ids = |answer: &Answer| -> Vec<String> {
        let list: Value = answer.json();
        let data = list["data"].as_array().expect("a list");
        data.iter()
            .map(|model| model["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    let all = ids(&ask(caller(None, None), Policy::default(), get("/v1/models")).await);
    assert!(
        all.len() > 1 && all.contains(&"smollm2:135m".to_owned()),
        "{all:?}"
    );
    let some = ids(&ask(
        caller(None, Some(&["smollm2:135m"])),
        Policy::default(),
        get("/v1/models"),
    )
    .await);
    assert_eq!(some, ["smollm2:135m"]);
    let none = ids(&ask(
        caller(None, Some(&[])),
        Policy::default(),
        get("/v1/models"),
    )
    .await);
    assert!(none.is_empty(), "{none:?}");
}

#[tokio::test]
async fn a_mistyped_model_is_answered_with_the_one_that_was_meant_among_those_that_the_caller_may_use()
 {
    let gone = recording("server/show-missing");
    let tags = r#"{"models":[{"name":"smollm2:135m"},{"name":"smollm2-secret:135m"},{"name":"qwen3:4b"}]}"#;
    let ollama = Scripted::default()
        .on("/api/show", gone.0, [gone.1])
        .on("/api/tags", 200, [tags]);
    let message = async |asked: &str, models: Option<&[&str]>| {
        let chat =
            json!({"model": asked, "messages": [{"role": "user", "content": "Hello"}]}).to_string();
        let mut messages = Vec::new();
        for mut request in [
            post("/v1/chat/completions", chat),
            get(&format!("/v1/models/{asked}")),
        ] {
            request.extensions_mut().insert(caller(None, models));
            let answer = send(&layered(&ollama, Policy::default()), request).await;
            let error = &answer.json()["error"];
            assert_eq!(
                (answer.status(), &error["code"]),
                (404, &json!("model_not_found")),
                "{error}"
            );
            messages.push(error["message"].as_str().expect("a text").to_owned());
        }
        assert_eq!(messages[0], messages[1]);
        messages.remove(0)
    };
    let unknown = |asked: &str| {
        format!("the model `{asked}` does not exist; GET /v1/models lists the available models")
    };
    for asked in ["smolm2:135m", "SmolLM2", "smollm2-135m"] {
        let meant = format!("{}. Did you mean `smollm2:135m`?", unknown(asked));
        assert_eq!(message(asked, None).await, meant);
        assert_eq!(message(asked, Some(&["smollm2:*"])).await, meant);
        assert_eq!(
            message(asked, Some(&["qwen*"])).await,
            unknown(asked),
            "it may not use that"
        );
    }
    assert_eq!(
        message("smollm2-secre:135m", Some(&["smollm2*135m"])).await,
        format!(
            "{}. Did you mean `smollm2-secret:135m`?",
            unknown("smollm2-secre:135m")
        )
    );
    assert_eq!(
        message("smollm2-secre:135m", Some(&["smollm2:*"])).await,
        format!(
            "{}. Did you mean `smollm2:135m`?",
            unknown("smollm2-secre:135m")
        )
    );
    assert_eq!(
        message("gpt-4o", None).await,
        unknown("gpt-4o"),
        "nothing is like it"
    );
}
