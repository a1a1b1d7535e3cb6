//! Ollama's own fields in OpenAI requests: forwarded, listed as ignored, or refused.

use crate::support::{Scripted, chat, hello, plain_model, strict};
use loggia_api::Policy;
use serde_json::json;

#[tokio::test]
async fn ollamas_own_fields_are_passed_on() {
    let inner = Scripted::default().recorded("chat/whole-thinking");
    let own = json!({"options": {"num_gpu": 1}, "temperature": 0.5, "keep_alive": "5m", "think": true,
        "num_ctx": 2048, "top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1});
    let answer = chat(&inner, strict(), hello(own)).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, None),
        "{}",
        answer.text()
    );
    let sent = inner.last_chat();
    assert_eq!(
        (&sent["keep_alive"], &sent["think"]),
        (&json!("5m"), &json!(true))
    );
    let options = json!({"num_gpu": 1, "temperature": 0.5, "num_ctx": 2048, "top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1});
    assert_eq!(sent["options"], options);
}

#[tokio::test]
async fn an_option_beside_its_own_field_that_says_otherwise_is_named_and_strict_refuses_it() {
    let inner = plain_model();
    let both = json!({"temperature": 0.5, "top_k": 5, "max_tokens": 3, "options": {"temperature": 9, "top_k": 7, "num_predict": 4, "top_p": 0.5}});
    let answer = chat(&inner, Policy::default(), hello(both.clone())).await;
    let ignored = "options.temperature, options.num_predict, options.top_k";
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some(ignored)),
        "{}",
        answer.text()
    );
    assert_eq!(
        inner.last_chat()["options"],
        json!({"temperature": 0.5, "top_k": 5, "num_predict": 3, "top_p": 0.5})
    );
    let error = chat(&inner, strict(), hello(both)).await.json()["error"].clone();
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!("options.temperature"), &json!("invalid_value"))
    );
    let the_same =
        json!({"temperature": 1, "stop": "a", "options": {"temperature": 1.0, "stop": ["a"]}});
    assert_eq!(chat(&inner, strict(), hello(the_same)).await.status(), 200);
}

#[tokio::test]
async fn an_option_that_ollama_does_not_know_is_named_and_strict_refuses_it() {
    let inner = plain_model();
    let fields = json!({"options": {"wobble": 1, "num_gpu": 1}});
    let answer = chat(&inner, Policy::default(), hello(fields.clone())).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("options.wobble"))
    );
    assert_eq!(
        inner.last_chat()["options"],
        json!({"wobble": 1, "num_gpu": 1}),
        "a newer Ollama may know it"
    );
    let error = chat(&inner, strict(), hello(fields)).await.json()["error"].clone();
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!("options.wobble"), &json!("unknown_parameter"))
    );
}

#[tokio::test]
async fn null_is_not_said_in_ollamas_fields_either() {
    let inner = plain_model();
    let nothing = json!({"options": {"wobble": null, "seed": null, "top_p": 0.5}, "keep_alive": null, "think": null, "num_ctx": null,
        "top_k": null, "min_p": null, "repeat_penalty": null});
    let answer = chat(&inner, strict(), hello(nothing)).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, None),
        "{}",
        answer.text()
    );
    let sent = inner.last_chat();
    assert_eq!(sent["options"], json!({"top_p": 0.5}));
    assert_eq!((sent.get("keep_alive"), sent.get("think")), (None, None));
    assert_eq!(
        chat(&inner, strict(), hello(json!({"options": null})))
            .await
            .status(),
        200
    );
    assert!(
        inner.last_chat()["options"]
            .as_object()
            .is_none_or(serde_json::Map::is_empty)
    );
}
