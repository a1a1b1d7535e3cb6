//! How much a model should reason, in every field that clients use for it
//! (`crates/api/src/admit/reasoning.rs`).

use crate::support::{Answer, Scripted, chat, hello, plain_model, strict};
use loggia_api::Policy;
use serde_json::{Value, json};

fn thinking() -> Scripted {
    Scripted::default().recorded("chat/whole-thinking")
}

/// Returns the answer, and the `think` of the request to Ollama.
async fn asked(fields: Value) -> (Answer, Option<Value>) {
    let inner = thinking();
    let answer = chat(&inner, Policy::default(), hello(fields)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let think = inner.last_chat().get("think").cloned();
    (answer, think)
}

#[tokio::test]
async fn every_clients_word_for_no_reasoning_is_that_of_openai() {
    for fields in [
        json!({"reasoning_effort": "none"}),
        json!({"think": false}),
        json!({"enable_thinking": false}),
        json!({"thinking": false}),
        json!({"thinking": {"type": "disabled"}}),
        json!({"reasoning": {"effort": "none"}}),
        json!({"reasoning": {"enabled": false}}),
        json!({"chat_template_kwargs": {"enable_thinking": false}}),
        json!({"chat_template_kwargs": {"thinking": false}}),
        json!({"chat_template_kwargs": {"reasoning_effort": "none"}}),
        json!({"chat_template_kwargs": {"enable_thinking": false, "thinking": false}, "reasoning_effort": "none"}),
    ] {
        let (answer, think) = asked(fields.clone()).await;
        assert_eq!(
            (think, answer.header("x-loggia-ignored")),
            (Some(json!(false)), None),
            "{fields}"
        );
        // A model that does not reason needs no switch, so even a strict server accepts the field.
        let plain = plain_model();
        let answer = chat(&plain, strict(), hello(fields.clone())).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, None),
            "{fields}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn every_clients_word_for_reasoning_is_that_of_openai() {
    for (fields, think) in [
        (json!({"think": true}), json!(true)),
        (json!({"enable_thinking": true}), json!(true)),
        (json!({"thinking": {"type": "enabled"}}), json!(true)),
        (json!({"reasoning": {"enabled": true}}), json!(true)),
        (
            json!({"chat_template_kwargs": {"enable_thinking": true}}),
            json!(true),
        ),
        (json!({"think": "max"}), json!("max")),
        (
            json!({"reasoning": {"effort": "high", "enabled": true}}),
            json!("high"),
        ),
        (
            json!({"chat_template_kwargs": {"reasoning_effort": "low"}}),
            json!("low"),
        ),
        (
            json!({"enable_thinking": true, "reasoning_effort": "low"}),
            json!("low"),
        ),
    ] {
        let (answer, asked) = asked(fields.clone()).await;
        assert_eq!(
            (asked, answer.header("x-loggia-ignored")),
            (Some(think), None),
            "{fields}"
        );
    }
}

#[tokio::test]
async fn what_is_said_otherwise_in_a_weaker_word_is_named() {
    for (fields, think, named) in [
        (
            json!({"think": "low", "reasoning_effort": "high"}),
            json!("low"),
            "reasoning_effort",
        ),
        (
            json!({"reasoning_effort": "none", "enable_thinking": true}),
            json!(false),
            "enable_thinking",
        ),
        (
            json!({"enable_thinking": false, "chat_template_kwargs": {"enable_thinking": true}}),
            json!(false),
            "chat_template_kwargs.enable_thinking",
        ),
        (
            json!({"reasoning": {"effort": "low", "max_tokens": 5}, "thinking": {"type": "disabled", "budget_tokens": 9}}),
            json!("low"),
            "reasoning.max_tokens, thinking.budget_tokens, thinking",
        ),
    ] {
        let (answer, asked) = asked(fields.clone()).await;
        assert_eq!(
            (asked, answer.header("x-loggia-ignored")),
            (Some(think), Some(named)),
            "{fields}"
        );
        assert_eq!(
            chat(&thinking(), strict(), hello(fields)).await.status(),
            400,
            "{named}"
        );
    }
}

#[tokio::test]
async fn what_says_nothing_of_reasoning_is_named_or_asks_for_nothing() {
    for (fields, named) in [
        (
            json!({"reasoning_effort": "enormous"}),
            Some("reasoning_effort"),
        ),
        (json!({"think": "nonsense"}), Some("think")),
        (json!({"enable_thinking": "no"}), Some("enable_thinking")),
        (
            json!({"thinking": {"type": "banana"}}),
            Some("thinking.type"),
        ),
        (json!({"thinking": 5}), Some("thinking")),
        (json!({"reasoning": "low"}), Some("reasoning")),
        (
            json!({"reasoning": {"effort": "enormous"}}),
            Some("reasoning.effort"),
        ),
        (
            json!({"chat_template_kwargs": 7}),
            Some("chat_template_kwargs"),
        ),
        (
            json!({"chat_template_kwargs": {"date": "today"}}),
            Some("chat_template_kwargs.date"),
        ),
        (
            json!({"thinking": {"type": "adaptive"}, "reasoning": {"effort": null}}),
            None,
        ),
        (
            json!({"chat_template_kwargs": {}, "enable_thinking": null, "thinking": null, "reasoning": null}),
            None,
        ),
    ] {
        let (answer, think) = asked(fields.clone()).await;
        assert_eq!(
            (think, answer.header("x-loggia-ignored")),
            (None, named),
            "{fields}"
        );
    }
}

#[tokio::test]
async fn reasoning_that_the_model_cannot_do_is_named_by_the_word_that_asked_for_it() {
    for (fields, named) in [
        (json!({"enable_thinking": true}), "enable_thinking"),
        (json!({"reasoning": {"effort": "low"}}), "reasoning.effort"),
        (
            json!({"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": true}}),
            "reasoning_effort, chat_template_kwargs.enable_thinking",
        ),
    ] {
        let inner = plain_model();
        let answer = chat(&inner, Policy::default(), hello(fields.clone())).await;
        assert_eq!(
            (answer.status(), answer.header("x-loggia-ignored")),
            (200, Some(named)),
            "{}",
            answer.text()
        );
        assert_eq!(inner.last_chat().get("think"), None);
        assert_eq!(
            chat(&plain_model(), strict(), hello(fields)).await.status(),
            400,
            "{named}"
        );
    }
}
