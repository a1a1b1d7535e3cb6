//! Tools as functions, choices, and which tools the model sees.

use serde_json::{Value, json};

use super::stand_in::{KINDS, Kind, StandIn, call, chat_of, hi, ignored, message, refusal};
use loggia_wire::openai::FinishReason;

/// Returns the names of the functions of a chat.
fn names(chat: &Value) -> Vec<&str> {
    let tools = chat["tools"].as_array().into_iter().flatten();
    tools
        .map(|tool| tool["function"]["name"].as_str().expect("a name"))
        .collect()
}

fn tool(name: &str) -> Value {
    json!({"name": name, "description": "d", "input_schema": {"type": "object", "properties": {}}})
}

fn deferred(name: &str) -> Value {
    let mut tool = tool(name);
    tool["defer_loading"] = json!(true);
    tool
}

#[tokio::test]
async fn a_custom_tool_is_a_function() {
    let schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "properties": {"n": {"type": "integer", "maximum": 9_007_199_254_740_991_i64}}, "additionalProperties": false});
    let tool = json!({"type": "custom", "name": "f", "description": "Counts.", "input_schema": schema, "strict": true,
        "eager_input_streaming": true, "allowed_callers": ["direct"]});
    for kind in KINDS {
        let (_, engine) = message(StandIn::hello().of(kind), &hi(json!({"tools": [tool]}))).await;
        let chat = engine.asked();
        let function = &chat["tools"][0]["function"];
        assert_eq!(function["name"], "f", "{kind:?}");
        assert_eq!(function["description"], "Counts.", "{kind:?}");
        assert_eq!(function["parameters"], schema, "{kind:?}");
        assert_eq!(function["strict"], true, "{kind:?}");
    }
}

#[tokio::test]
async fn examples_of_inputs_are_shown_to_the_model() {
    let mut tool = tool("f");
    tool["input_examples"] = json!([{"a": 1}, {"a": 2}]);
    let chat = chat_of(json!({"tools": [tool]})).await;
    assert_eq!(
        chat["tools"][0]["function"]["description"],
        "d\n\nExamples of its input:\n{\"a\":1}\n{\"a\":2}"
    );
}

#[tokio::test]
async fn tools_that_the_client_runs_are_functions_with_their_input() {
    let tools = json!([
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 1000},
        {"type": "memory_20250818", "name": "memory"},
        {"type": "computer_20250124", "name": "computer", "display_width_px": 800, "display_height_px": 600}
    ]);
    let chat = chat_of(json!({ "tools": tools })).await;
    assert_eq!(
        names(&chat),
        ["bash", "str_replace_based_edit_tool", "memory", "computer"]
    );
    for (index, field) in [(0, "command"), (1, "old_str"), (2, "path"), (3, "action")] {
        let parameters = &chat["tools"][index]["function"]["parameters"];
        assert!(parameters["properties"][field].is_object(), "{parameters}");
    }
    let screen = chat["tools"][3]["function"]["description"].to_string();
    assert!(screen.contains("800 x 600"), "{screen}");
    let named = hi(json!({ "tools": tools }));
    assert_eq!(
        ignored(Kind::Embedded, &named).await,
        "tools[].max_characters"
    );
    let engine = StandIn::says(
        &call(0, "c", "bash", &["{\"command\":\"ls\"}"]),
        FinishReason::ToolCalls,
    );
    let (message, _) = message(engine, &named).await;
    assert_eq!(
        message["content"][0],
        json!({"type": "tool_use", "id": "c", "name": "bash", "input": {"command": "ls"}})
    );
}

#[tokio::test]
async fn tools_that_a_server_runs_are_left_out_and_named() {
    let tools = json!([
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"type": "computer_toolset_20260801"},
        {"type": "mcp_toolset", "mcp_server_name": "a"},
        {"name": "f", "input_schema": {"type": "object"}, "allowed_callers": ["code_execution_20250825"]},
        {"name": "g", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
    ]);
    let asked = json!({ "tools": tools });
    assert_eq!(names(&chat_of(asked.clone()).await), ["g"]);
    assert_eq!(
        ignored(Kind::Embedded, &hi(asked)).await,
        "tools[].web_search_20250305, tools[].code_execution_20250825, tools[].computer_toolset_20260801, \
         tools[].mcp_toolset, tools[].allowed_callers, tools[].cache_control"
    );
}

#[tokio::test]
async fn a_long_name_is_shortened_for_the_model_and_comes_back() {
    let long = format!("mcp__{}__do", "x".repeat(100));
    let asked = hi(json!({"tools": [tool(&long)], "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": long, "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]}
    ]}));
    let (_, engine) = message(StandIn::hello(), &asked).await;
    let chat = engine.asked();
    let short = names(&chat)[0].to_owned();
    assert!(short.len() <= 64, "{short}");
    assert_eq!(
        chat["messages"][1]["tool_calls"][0]["function"]["name"],
        short
    );
    let engine = StandIn::says(&call(0, "c", &short, &["{}"]), FinishReason::ToolCalls);
    let (message, _) = message(engine, &asked).await;
    assert_eq!(message["content"][0]["name"], long);
}

#[tokio::test]
async fn choices_are_those_of_a_chat() {
    let tools = json!([tool("f"), tool("g")]);
    for (choice, becomes, parallel) in [
        (json!({"type": "auto"}), Value::Null, Value::Null),
        (
            json!({"type": "auto", "disable_parallel_tool_use": true}),
            Value::Null,
            json!(false),
        ),
        (
            json!({"type": "auto", "disable_parallel_tool_use": false}),
            Value::Null,
            Value::Null,
        ),
        (json!({"type": "any"}), json!("required"), Value::Null),
        (json!({"type": "none"}), json!("none"), Value::Null),
        (
            json!({"type": "tool", "name": "g", "disable_parallel_tool_use": true}),
            json!({"type": "function", "function": {"name": "g"}}),
            json!(false),
        ),
    ] {
        let chat = chat_of(json!({"tools": tools, "tool_choice": choice})).await;
        assert_eq!(chat["tool_choice"], becomes, "{choice}");
        assert_eq!(chat["parallel_tool_calls"], parallel, "{choice}");
    }
    for choice in [json!({"type": "auto"}), json!({"type": "none"})] {
        chat_of(json!({ "tool_choice": choice })).await;
    }
    for (tools, choice) in [
        (json!([tool("f")]), json!({"type": "tool", "name": "h"})),
        (json!([tool("f")]), json!({"type": "tool"})),
        (json!([tool("f")]), json!({"type": "required"})),
        (json!([]), json!({"type": "any"})),
    ] {
        let asked = hi(json!({"tools": tools, "tool_choice": choice}));
        let (status, kind, text) = refusal(&asked).await;
        assert_eq!((status, kind.as_str()), (400, "invalid_request_error"));
        assert!(text.contains("tool_choice"), "{text}");
    }
    let single = hi(
        json!({"tools": [tool("f")], "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
    );
    assert_eq!(
        ignored(Kind::Ollama, &single).await,
        "tool_choice.disable_parallel_tool_use"
    );
}

#[tokio::test]
async fn tools_that_cannot_be_read_are_refused_by_name() {
    let long = "x".repeat(129);
    for (tools, field) in [
        (
            json!([{"input_schema": {"type": "object"}}]),
            "tools[0].name",
        ),
        (json!([{"name": "f"}]), "tools[0].input_schema"),
        (
            json!([{"name": "f", "input_schema": 5}]),
            "tools[0].input_schema",
        ),
        (json!([tool("a b")]), "tools[0].name"),
        (json!([tool("")]), "tools[0].name"),
        (json!([tool(&long)]), "tools[0].name"),
        (json!([tool("f"), tool("f")]), "tools[1].name"),
        (json!(5), "tools"),
    ] {
        let (status, kind, text) = refusal(&hi(json!({ "tools": tools }))).await;
        assert_eq!((status, kind.as_str()), (400, "invalid_request_error"));
        assert!(text.contains(field), "{field}: {text}");
    }
}

#[tokio::test]
async fn a_deferred_tool_is_shown_once_the_conversation_names_it() {
    let tools = json!([
        deferred("later"),
        tool("search"),
        deferred("never"),
        tool("now")
    ]);
    let shown = |messages: Value| {
        let tools = tools.clone();
        async move { names(&chat_of(json!({"tools": tools, "messages": messages})).await).join(" ") }
    };
    let user = json!({"role": "user", "content": "a"});
    assert_eq!(shown(json!([user])).await, "search now");
    let searched = json!({"role": "assistant", "content": [
        {"type": "tool_use", "id": "t", "name": "search", "input": {"query": "select:later"}}]});
    let found = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t",
        "content": [{"type": "tool_reference", "tool_name": "later"}]}]});
    assert_eq!(
        shown(json!([user, searched, found])).await,
        "search now later"
    );
    // A search by Anthropic's servers.
    let by_server = json!({"role": "assistant", "content": [{"type": "tool_search_tool_result", "tool_use_id": "s",
        "content": {"type": "tool_search_tool_search_result",
            "tool_references": [{"type": "tool_reference", "tool_name": "later"}]}}]});
    assert_eq!(
        shown(json!([user, by_server, user])).await,
        "search now later"
    );
    // The tool was called before.
    let called = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "later", "input": {}}]});
    let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]});
    assert_eq!(
        shown(json!([user, called, result])).await,
        "search now later"
    );
    let text = chat_of(json!({"tools": tools, "messages": [user, searched, found]})).await;
    assert_eq!(
        text["messages"][2]["content"],
        "The tool later can be called now."
    );
    let must = json!({"tools": tools, "tool_choice": {"type": "tool", "name": "never"}});
    assert_eq!(names(&chat_of(must).await), ["search", "now", "never"]);
}

#[tokio::test]
async fn all_tools_are_shown_where_a_server_should_search_for_them() {
    let tools = json!([{"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}, deferred("later")]);
    let asked = json!({ "tools": tools });
    assert_eq!(names(&chat_of(asked.clone()).await), ["later"]);
    assert_eq!(
        ignored(Kind::Embedded, &hi(asked)).await,
        "tools[].tool_search_tool_bm25_20251119"
    );
}

#[tokio::test]
async fn tools_are_added_and_withdrawn_in_the_conversation() {
    let user = json!({"role": "user", "content": "a"});
    let add = |name: &str| json!({"type": "tool_addition", "tool": {"type": "tool_reference", "name": name}});
    let remove = |name: &str| json!({"type": "tool_removal", "tool": {"type": "tool_reference", "name": name}});
    let define = json!({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool("new")}});
    let system = |blocks: Value| json!({"role": "system", "content": blocks});
    for (blocks, shown) in [
        (json!([add("later")]), "f later"),
        (json!([remove("f")]), ""),
        (json!([remove("f"), add("f")]), "f"),
        (json!([define]), "f new"),
        (json!([define, remove("new")]), "f"),
    ] {
        let asked = json!({"tools": [tool("f"), deferred("later")], "messages": [user, system(blocks.clone())]});
        let chat = chat_of(asked).await;
        assert_eq!(names(&chat).join(" "), shown, "{blocks}");
        assert_eq!(chat["messages"].as_array().expect("a list").len(), 1);
    }
}
