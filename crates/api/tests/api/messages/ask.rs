//! The fields of a request, messages and blocks, as the chat that they become.

use loggia_api::Strictness;
use serde_json::{Value, json};

use super::stand_in::{
    KINDS, Kind, StandIn, chat_of, hi, ignored, message, refusal, refusal_under,
};

/// Returns the messages of the chat that these messages become.
async fn messages(messages: Value) -> Value {
    chat_of(json!({ "messages": messages })).await["messages"].clone()
}

#[tokio::test]
async fn sampling_fields_reach_every_kind_of_engine() {
    let asked = json!({"max_tokens": 40, "temperature": 0.5, "top_p": 0.9, "stop_sequences": ["x", "y"], "seed": 7,
        "presence_penalty": 0.5, "frequency_penalty": 0.25,
        "thinking": {"type": "enabled", "budget_tokens": 20}});
    for kind in KINDS {
        let (_, engine) = message(StandIn::hello().of(kind), &hi(asked.clone())).await;
        let chat = engine.asked();
        for (field, value) in [
            ("max_completion_tokens", json!(40)),
            ("temperature", json!(0.5)),
            ("top_p", json!(0.9)),
            ("seed", json!(7)),
            ("presence_penalty", json!(0.5)),
            ("frequency_penalty", json!(0.25)),
            ("stop", json!(["x", "y"])),
            ("reasoning_effort", json!("low")),
            ("max_tokens", Value::Null),
        ] {
            assert_eq!(chat[field], value, "{field} of {kind:?}");
        }
    }
    assert_eq!(chat_of(json!({"top_k": 5})).await["top_k"], 5);
    let named = hi(json!({"top_k": 5}));
    assert_eq!(ignored(Kind::Ollama, &named).await, "");
    assert_eq!(ignored(Kind::Embedded, &named).await, "top_k");
}

#[tokio::test]
async fn there_may_be_more_stop_sequences_than_in_a_chat() {
    let many: Vec<String> = (0..20).map(|number| format!("stop {number}")).collect();
    let chat = chat_of(json!({ "stop_sequences": many })).await;
    assert_eq!(chat["stop"].as_array().expect("a list").len(), 20);
}

#[tokio::test]
async fn the_system_prompt_is_the_first_message() {
    let user = json!({"role": "user", "content": "Hi"});
    let blocks = json!([{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind.",
        "cache_control": {"type": "ephemeral"}}]);
    for (system, text) in [
        (json!("Be brief."), "Be brief."),
        (blocks, "Be brief.\n\nBe kind."),
    ] {
        assert_eq!(
            chat_of(json!({ "system": system })).await["messages"],
            json!([{"role": "system", "content": text}, user])
        );
    }
    let label = "x-anthropic-billing-header: cc_version=2.1.332.93d; cc_entrypoint=cli;";
    let labelled =
        json!({"system": [{"type": "text", "text": label}, {"type": "text", "text": "Be brief."}]});
    let chat = chat_of(labelled.clone()).await;
    assert_eq!(chat["messages"][0]["content"], "Be brief.");
    assert_eq!(
        ignored(Kind::Embedded, &hi(labelled)).await,
        "x-anthropic-billing-header"
    );
    for nothing in [json!(""), json!([])] {
        let chat = chat_of(json!({ "system": nothing })).await;
        assert_eq!(chat["messages"], json!([user]));
    }
}

#[tokio::test]
async fn system_messages_stay_where_they_are() {
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    assert_eq!(
        messages(json!([
            {"role": "user", "content": "a"},
            {"role": "system", "content": "b"},
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": text("d")},
            {"role": "system", "content": text("e")}
        ]))
        .await,
        json!([
            {"role": "user", "content": "a"},
            {"role": "system", "content": "b"},
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": "d"},
            {"role": "system", "content": "e"}
        ])
    );
}

#[tokio::test]
async fn a_system_message_for_one_turn_is_left_out_after_it() {
    let hint =
        |text: &str| json!({"role": "system", "content": text, "clear_at": "next_user_message"});
    assert_eq!(
        messages(json!([
            {"role": "user", "content": "a"}, hint("b"),
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": "d"}, hint("e")
        ]))
        .await,
        json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": "d"},
            {"role": "system", "content": "e"}
        ])
    );
}

#[tokio::test]
async fn blocks_of_text_are_paragraphs_of_a_user_and_one_text_of_the_model() {
    let two = json!([{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "text", "text": "b"}]);
    assert_eq!(
        messages(json!([
            {"role": "user", "content": two},
            {"role": "assistant", "content": two},
            {"role": "user", "content": "c"}
        ]))
        .await,
        json!([
            {"role": "user", "content": "a\n\nb"},
            {"role": "assistant", "content": "ab"},
            {"role": "user", "content": "c"}
        ])
    );
}

#[tokio::test]
async fn neighbouring_messages_of_the_model_are_one() {
    assert_eq!(
        messages(json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "assistant", "content": "c"},
            {"role": "assistant", "content": []},
            {"role": "user", "content": "d"}
        ]))
        .await,
        json!([
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "bc"},
            {"role": "user", "content": "d"}
        ])
    );
}

#[tokio::test]
async fn images_come_as_data_and_by_address() {
    let source = json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="});
    let content = json!([
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": source},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    ]);
    let asked = json!([{"role": "user", "content": content}]);
    assert_eq!(
        messages(asked).await[0]["content"],
        json!([
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        ])
    );
}

#[tokio::test]
async fn documents_are_text_or_files() {
    let content = json!([
        {"type": "document", "title": "Notes", "context": "From May.",
            "source": {"type": "text", "media_type": "text/plain", "data": "Buy milk."}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Inner."}]}},
        {"type": "search_result", "title": "A", "source": "https://a", "content": [{"type": "text", "text": "Found."}]},
        {"type": "text", "text": "Well?"}
    ]);
    let asked = json!([{"role": "user", "content": content}]);
    assert_eq!(
        messages(asked).await[0]["content"],
        "<document title=\"Notes\">\n\nFrom May.\n\nBuy milk.\n\n</document>\n\n<document>\n\nInner.\n\n</document>\n\n\
         <search_result title=\"A\" source=\"https://a\">\n\nFound.\n\n</search_result>\n\nWell?"
    );
    let pdf = json!({"type": "document", "title": "a.pdf",
        "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}});
    let asked = json!([{"role": "user", "content": [pdf]}]);
    assert_eq!(
        messages(asked.clone()).await[0]["content"][0],
        json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}})
    );
    let named = hi(json!({ "messages": asked }));
    let listed = ignored(Kind::Embedded, &named).await;
    assert_eq!(listed, "messages[].content[].document");
}

#[tokio::test]
async fn files_that_are_named_where_there_are_none_are_refused() {
    for (kind, source, field) in [
        ("image", json!({"type": "file", "file_id": "f"}), "file_id"),
        (
            "document",
            json!({"type": "file", "file_id": "f"}),
            "file_id",
        ),
        (
            "document",
            json!({"type": "url", "url": "https://a/b.pdf"}),
            "url",
        ),
        (
            "image",
            json!({"type": "base64", "media_type": "image/png"}),
            "data",
        ),
        ("image", json!({"type": "floppy"}), "type"),
        ("document", json!({"type": "floppy"}), "type"),
    ] {
        let content = json!([{"type": kind, "source": source}]);
        let asked = hi(json!({"messages": [{"role": "user", "content": content}]}));
        let (status, error, message) = refusal(&asked).await;
        assert_eq!((status, error.as_str()), (400, "invalid_request_error"));
        let place = format!("messages[0].content[0].source.{field}");
        assert!(message.contains(&place), "{message}");
    }
}

#[tokio::test]
async fn a_turn_of_the_model_is_one_message_and_results_follow_it() {
    let call =
        |id: &str, input: Value| json!({"type": "tool_use", "id": id, "name": "f", "input": input});
    let asked = json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Look.", "signature": "S1"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "One moment."},
            call("toolu_1", json!({"a": 1})),
            call("toolu_2", json!({}))
        ]},
        {"role": "system", "content": "Hurry."},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": "two", "is_error": true},
            {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": false,
                "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "more"}]},
            {"type": "text", "text": "And?"}
        ]},
        {"role": "assistant", "content": [{"type": "text", "text": "Sunny."}]},
        {"role": "user", "content": "Thanks."}
    ]);
    let called = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    assert_eq!(
        messages(asked.clone()).await,
        json!([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "One moment.", "reasoning_content": "Look.",
                "tool_calls": [called("toolu_1", "{\"a\":1}"), called("toolu_2", "{}")]},
            {"role": "tool", "content": "one\n\nmore", "tool_call_id": "toolu_1"},
            {"role": "tool", "content": "Error: two", "tool_call_id": "toolu_2"},
            {"role": "system", "content": "Hurry."},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "Sunny."},
            {"role": "user", "content": "Thanks."}
        ])
    );
    let listed = ignored(Kind::Embedded, &hi(json!({ "messages": asked }))).await;
    assert_eq!(listed, "messages[].content[].redacted_thinking");
}

#[tokio::test]
async fn numbers_in_the_input_of_a_call_keep_their_digits() {
    let body = r#"{"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"n": 123456789012345678901234567890}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]}"#;
    let engine = std::sync::Arc::new(StandIn::hello());
    let answer = super::stand_in::send(
        &engine,
        loggia_api::Policy::default(),
        http::Method::POST,
        "/v1/messages",
        &[],
        body.to_owned(),
    )
    .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(
        engine.asked()["messages"][1]["tool_calls"][0]["function"]["arguments"],
        r#"{"n": 123456789012345678901234567890}"#
    );
}

#[tokio::test]
async fn an_image_in_a_result_is_shown_after_it() {
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}});
    let linked =
        json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}});
    let part = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let shown = part("data:image/png;base64,iVBORw0KGgo=");
    let fetched = part("https://example.com/a.png");
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [image, linked]});
    let asked = |content: Value| {
        json!([
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Read", "input": {"file_path": "a.png"}}]},
            {"role": "user", "content": content}
        ])
    };
    let alone = messages(asked(json!([result]))).await;
    assert_eq!(
        alone[2],
        json!({"role": "tool", "content": "", "tool_call_id": "t"})
    );
    assert_eq!(
        alone[3],
        json!({"role": "user", "content": [shown, fetched]})
    );
    let with_text = messages(asked(json!([result, {"type": "text", "text": "Well?"}]))).await;
    assert_eq!(
        with_text[3],
        json!({"role": "user", "content": [shown, fetched, {"type": "text", "text": "Well?"}]})
    );
    assert_eq!(with_text.as_array().expect("a list").len(), 4);
}

#[tokio::test]
async fn a_call_and_its_result_are_refused_without_the_other() {
    let user = json!({"role": "user", "content": "a"});
    let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "x"});
    let results = |results: &[Value]| json!({"role": "user", "content": results});
    for (messages, words) in [
        (json!([user, call]), "without `tool_result` blocks"),
        (json!([user, call, user]), "without `tool_result` blocks"),
        (
            json!([user, results(&[result("toolu_1")])]),
            "unexpected `tool_use_id`",
        ),
        (
            json!([user, call, results(&[result("toolu_2")])]),
            "unexpected `tool_use_id`",
        ),
        (
            json!([user, call, results(&[result("toolu_1"), result("toolu_1")])]),
            "multiple `tool_result` blocks",
        ),
        (
            json!([user, call, results(&[result("toolu_1")]), call]),
            "without `tool_result` blocks",
        ),
    ] {
        let (status, kind, message) = refusal(&hi(json!({ "messages": messages }))).await;
        assert_eq!((status, kind.as_str()), (400, "invalid_request_error"));
        assert!(message.contains(words), "{message}");
        assert!(message.starts_with("messages["), "{message}");
    }
    // An id may come again in a later turn: engines number the calls of each turn from the start.
    let again = json!([
        user,
        call,
        results(&[result("toolu_1")]),
        call,
        results(&[result("toolu_1")])
    ]);
    let chat = messages(again).await;
    assert_eq!(chat.as_array().expect("a list").len(), 5);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of wrong requests")]
async fn roles_blocks_and_fields_that_are_wrong_are_named() {
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    for (more, words) in [
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role",
        ),
        (json!({"messages": []}), "messages"),
        (
            json!({"messages": [{"role": "user"}]}),
            "messages[0].content",
        ),
        (
            json!({ "messages": user(json!([{"type": "hologram"}])) }),
            "messages[0].content[0].type",
        ),
        (
            json!({ "messages": user(json!([{"type": "text"}])) }),
            "messages[0].content[0].text",
        ),
        (
            json!({ "messages": user(json!([{"text": "x"}])) }),
            "messages[0].content[0].type",
        ),
        (json!({ "messages": user(json!(5)) }), "messages[0].content"),
        (
            json!({ "messages": user(json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}}])) }),
            "'assistant'",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": [{"type": "image", "source": {}}]}]}),
            "'user'",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "x"}]}]}),
            "messages[0].content[0].input",
        ),
        (
            json!({"messages": [{"role": "system", "content": [{"type": "image", "source": {}}]}]}),
            "messages[0].content[0].type",
        ),
        (
            json!({"system": [{"type": "text", "text": "a"}, {"type": "text"}]}),
            "system[1].text",
        ),
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": "x"}), "max_tokens"),
        (json!({"model": ""}), "model"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"top_p": -1}), "top_p"),
        (json!({"thinking": {"type": "deep"}}), "thinking.type"),
        (
            json!({"thinking": {"type": "enabled"}}),
            "thinking.budget_tokens",
        ),
        (
            json!({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": 5}]}}),
            "context_management.edits[0].keep",
        ),
        (
            json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919",
                "trigger": {"type": "moon"}}]}}),
            "context_management.edits[0].trigger.type",
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 101}}),
            "'max_tokens' (100) must be greater than 'thinking.budget_tokens' (101)",
        ),
        (
            json!({"output_config": {"effort": "heroic"}}),
            "output_config.effort",
        ),
        (
            json!({"output_config": {"format": {"type": "xml"}}}),
            "output_config.format.type",
        ),
        (
            json!({"output_config": {"format": {"type": "json_schema"}}}),
            "output_config.format.schema",
        ),
        (
            json!({"output_format": {"type": "json_schema", "schema": 5}}),
            "output_format.schema",
        ),
        (json!({"thread": {"type": "fork"}}), "thread.type"),
        (json!({"thread": 5}), "thread"),
        (
            json!({"thread": {"type": "continue"}}),
            "thread.previous_message_id",
        ),
        (
            json!({"compaction": {"type": "shorten"}}),
            "compaction.type",
        ),
    ] {
        let (status, kind, message) = refusal(&hi(more.clone())).await;
        assert_eq!(
            (status, kind.as_str()),
            (400, "invalid_request_error"),
            "{more}"
        );
        assert!(message.contains(words), "{more}: {message}");
    }
}

#[tokio::test]
async fn reasoning_is_off_unless_the_client_asks_for_it() {
    let effort = |kind: Kind, more: Value| async move {
        let (_, engine) = message(StandIn::hello().of(kind), &hi(more)).await;
        engine.asked()["reasoning_effort"].clone()
    };
    for kind in [Kind::Embedded, Kind::Ollama] {
        assert_eq!(effort(kind, json!({})).await, "none", "{kind:?}");
    }
    // The engine may refuse the value.
    assert_eq!(effort(Kind::OpenAi, json!({})).await, Value::Null);
    for (more, level) in [
        (json!({"thinking": {"type": "disabled"}}), json!("none")),
        (
            json!({"thinking": {"type": "between_tools"}}),
            json!("none"),
        ),
        (
            json!({"thinking": {"type": "adaptive", "display": "omitted"}}),
            Value::Null,
        ),
        (
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
            json!("high"),
        ),
        (json!({"output_config": {"effort": "max"}}), json!("max")),
        (
            json!({"max_tokens": 40_000, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
            json!("low"),
        ),
        (
            json!({"max_tokens": 40_000, "thinking": {"type": "enabled", "budget_tokens": 10_000}}),
            json!("medium"),
        ),
        (
            json!({"max_tokens": 40_000, "thinking": {"type": "enabled", "budget_tokens": 31_999}}),
            json!("high"),
        ),
        (
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "messages": [
                {"role": "user", "content": "a"},
                {"role": "system", "output_config": {"effort": "low"}}
            ]}),
            json!("low"),
        ),
    ] {
        for kind in KINDS {
            assert_eq!(
                effort(kind, more.clone()).await,
                level,
                "{more} of {kind:?}"
            );
        }
    }
    let budget = hi(json!({"thinking": {"type": "enabled", "budget_tokens": 50}}));
    let listed = ignored(Kind::Ollama, &budget).await;
    assert_eq!(listed, "thinking.budget_tokens");
}

#[tokio::test]
async fn a_schema_of_the_answer_reaches_every_kind_of_engine() {
    let schema = json!({"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "schema": schema});
    for more in [
        json!({"output_config": {"effort": "high", "format": format}}),
        json!({ "output_format": format }),
    ] {
        for kind in KINDS {
            let (_, engine) = message(StandIn::hello().of(kind), &hi(more.clone())).await;
            let asked = engine.asked()["response_format"].clone();
            assert_eq!(asked["type"], "json_schema", "{kind:?}");
            assert_eq!(asked["json_schema"]["schema"], schema, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn hints_and_labels_are_named_where_they_have_no_effect() {
    for (more, listed) in [
        (json!({"metadata": {"user_id": "u"}}), "metadata.user_id"),
        (json!({"metadata": {"user_id": null}}), ""),
        (json!({"metadata": {}}), ""),
        (json!({"metadata": {"team": "a"}}), "metadata.team"),
        (
            json!({"cache_control": {"type": "ephemeral"}}),
            "cache_control",
        ),
        (json!({"service_tier": "auto"}), ""),
        (json!({"service_tier": "priority"}), "service_tier"),
        (json!({"speed": "standard"}), ""),
        (json!({"speed": "fast"}), "speed"),
        (json!({"container": "c_1"}), "container"),
        (json!({"mcp_servers": []}), ""),
        (
            json!({"mcp_servers": [{"type": "url", "url": "https://a", "name": "a"}]}),
            "mcp_servers",
        ),
        (json!({"inference_geo": "eu"}), "inference_geo"),
        (json!({"fallbacks": "default"}), "fallbacks"),
        (
            json!({"fallback_credit_token": "t"}),
            "fallback_credit_token",
        ),
        (
            json!({"billing_policy": {"type": "billing_policy"}}),
            "billing_policy",
        ),
        (json!({"user_profile_id": "u"}), "user_profile_id"),
        (json!({"workspace_id": "w"}), "workspace_id"),
        (
            json!({"safeguards": [{"type": "dangerous_tool_use"}]}),
            "safeguards",
        ),
        (
            json!({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}),
            "",
        ),
        (
            json!({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": {"type": "all"}}]}}),
            "",
        ),
        (
            json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "compact_20260112"}]}}),
            "",
        ),
        (
            json!({"context_management": {"edits": [{"type": "forget_20300101"}]}}),
            "context_management.edits[].forget_20300101",
        ),
        (
            json!({"output_config": {"task_budget": {}}}),
            "output_config.task_budget",
        ),
        (
            json!({"response_format": {"type": "json_object"}, "n": 2, "stop": "x"}),
            "n, stop, response_format",
        ),
        (json!({"hologram": 1}), "hologram"),
        (
            json!({"system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}),
            "system[].cache_control",
        ),
    ] {
        let asked = hi(more.clone());
        assert_eq!(ignored(Kind::Embedded, &asked).await, listed, "{more}");
        let strict = refusal_under_strict(&asked).await;
        assert_eq!(strict, !listed.is_empty(), "{more}");
    }
}

/// Returns whether a strict server refuses a request.
async fn refusal_under_strict(asked: &Value) -> bool {
    let engine = std::sync::Arc::new(StandIn::hello().of(Kind::Embedded));
    let policy = loggia_api::Policy {
        strictness: Strictness::Strict,
        ..loggia_api::Policy::default()
    };
    let answer = super::stand_in::ask(&engine, policy, asked).await;
    assert!(matches!(answer.status(), 200 | 400), "{}", answer.text());
    answer.status() == 400
}

#[tokio::test]
async fn what_a_strict_server_refuses_has_the_clients_name() {
    let schema = json!({"type": "object"});
    let asked = hi(json!({"tools": [{"name": "f", "input_schema": schema, "strict": true}]}));
    let (status, _, text) = refusal_under(Strictness::Strict, Kind::Ollama, &asked).await;
    assert_eq!(status, 400);
    assert!(text.contains("'tools[].strict'"), "{text}");
}
