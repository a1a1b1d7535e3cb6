//! Tools of every type: what the model is offered, and the items that its calls become.

use std::sync::Arc;

use loggia_api::{Policy, Strictness};
use loggia_wire::openai::{FinishReason, GrammarSyntax};
use serde_json::{Value, json};

use super::stand_in::{
    KINDS, Kind, StandIn, ask, ask_text, call, hi, ignored, refusal, refusal_under, response,
};

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is what most callers have"
)]
fn with(tools: Value) -> Value {
    hi(json!({ "tools": tools }))
}

/// Returns the item that a call of this function becomes, with these tools.
async fn item(tools: Value, function: &str, arguments: &[&str]) -> Value {
    let said = call(0, "call_1", function, arguments);
    let engine = StandIn::says(&said, FinishReason::ToolCalls);
    let (response, _) = response(engine, &with(tools)).await;
    assert_eq!(response["status"], "completed");
    response["output"][0].clone()
}

#[tokio::test]
async fn a_function_is_called_with_its_arguments_piece_by_piece() {
    let tools = json!([{"type": "function", "name": "f", "description": "d", "strict": null, "parameters": {"type": "object"}}]);
    for kind in KINDS {
        let said = call(0, "call_1", "f", &["{\"a\"", ": 1}"]);
        let engine = StandIn::says(&said, FinishReason::ToolCalls).of(kind);
        let (response, engine) = response(engine, &with(tools.clone())).await;
        assert_eq!(
            response["output"],
            json!([{"type": "function_call", "id": "fc_", "status": "completed", "call_id": "call_1", "name": "f",
                "arguments": "{\"a\": 1}"}])
        );
        assert_eq!(
            engine.asked()["tools"],
            json!([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}])
        );
    }
}

#[tokio::test]
async fn several_calls_are_items_one_after_the_other() {
    let mut said = vec![json!({"content": "Both."})];
    said.extend(call(0, "call_1", "f", &["{}"]));
    said.extend(call(1, "call_2", "f", &[]));
    let tools = json!([{"type": "function", "name": "f", "parameters": null}]);
    let engine = StandIn::says(&said, FinishReason::ToolCalls);
    let (response, _) = response(engine, &with(tools)).await;
    let output = response["output"].as_array().expect("a list");
    let ids: Vec<&Value> = output.iter().map(|item| &item["call_id"]).collect();
    assert_eq!(ids, [&Value::Null, &json!("call_1"), &json!("call_2")]);
    assert_eq!(output[2]["arguments"], "");
}

#[tokio::test]
async fn a_custom_tool_takes_text() {
    let tools = json!([{"type": "custom", "name": "patch", "description": "Patches."}]);
    let arguments = ["{\"input\": \"*** Begin", " Patch\\n+é\"}"];
    assert_eq!(
        item(tools.clone(), "patch", &arguments).await,
        json!({"type": "custom_tool_call", "id": "ctc_", "status": "completed", "call_id": "call_1", "name": "patch",
            "input": "*** Begin Patch\n+é"})
    );
    for (arguments, input) in [
        ("{\"patch\": \"a\"}", "a"),
        ("\"a\"", "a"),
        ("not JSON", "not JSON"),
        ("{\"a\": 1}", "{\"a\": 1}"),
    ] {
        let item = item(tools.clone(), "patch", &[arguments]).await;
        assert_eq!(item["input"], input, "{arguments}");
    }
    let (_, engine) = response(StandIn::hello(), &with(tools)).await;
    let function = &engine.asked()["tools"][0]["function"];
    assert_eq!(function["description"], "Patches.");
    assert_eq!(function["parameters"]["required"], json!(["input"]));
}

fn with_grammar(syntax: &str, definition: &str) -> Value {
    let format = json!({"type": "grammar", "syntax": syntax, "definition": definition});
    json!([{"type": "function", "name": "f"},
        {"type": "custom", "name": "patch", "description": "Patches.", "format": format}])
}

#[tokio::test]
async fn the_grammar_of_a_custom_tool_is_shown_and_enforced_where_the_engine_can() {
    let tools = with_grammar("lark", "start: \"x\"+");
    let (_, engine) = response(StandIn::hello().of(Kind::Embedded), &with(tools.clone())).await;
    let request = engine.request();
    let function = request.tools.unwrap()[1].function.clone().unwrap();
    assert!(function.description.is_some_and(|text| {
        text.ends_with("\n\nThe input keeps to this grammar (lark):\nstart: \"x\"+")
    }));
    let grammar = function.input_grammar.unwrap();
    assert_eq!(
        (grammar.syntax, grammar.definition.as_str()),
        (GrammarSyntax::Lark, "start: \"x\"+")
    );
    assert_eq!(ignored(Kind::Embedded, &with(tools.clone())).await, "");
    let mut forced = with(tools.clone());
    forced["tool_choice"] = json!({"type": "custom", "name": "patch"});
    assert_eq!(ignored(Kind::Embedded, &forced).await, "");
    forced["tool_choice"] = json!({"type": "function", "name": "f"});
    assert_eq!(ignored(Kind::Ollama, &forced).await, "");
    for kind in [Kind::Ollama, Kind::OpenAi] {
        let (_, engine) = response(StandIn::hello().of(kind), &with(tools.clone())).await;
        let functions = engine.request().tools.unwrap();
        let function = functions[1].function.as_ref().unwrap();
        assert_eq!(function.input_grammar, None);
        assert!(
            function
                .description
                .as_ref()
                .unwrap()
                .contains("start: \"x\"+")
        );
        assert_eq!(ignored(kind, &with(tools.clone())).await, "tools[].format");
        let strict = refusal_under(Strictness::Strict, kind, &with(tools.clone())).await;
        assert_eq!((strict.0, strict.2.as_str()), (400, "tools[].format"));
    }
    for format in [json!({"type": "text"}), Value::Null] {
        let text = json!([{"type": "custom", "name": "patch", "format": format}]);
        assert_eq!(ignored(Kind::Ollama, &with(text)).await, "");
    }
}

#[tokio::test]
async fn a_format_that_is_none_or_a_broken_grammar_is_refused_for_every_engine() {
    let invalid = "invalid_value";
    for (format, code, param) in [
        (json!("text"), "invalid_type", ""),
        (json!({}), "missing_required_parameter", ".type"),
        (json!({"type": "json"}), invalid, ".type"),
        (
            json!({"type": "grammar", "definition": "start: \"a\""}),
            "missing_required_parameter",
            ".syntax",
        ),
        (
            json!({"type": "grammar", "syntax": "gbnf", "definition": "root ::= \"a\""}),
            invalid,
            ".syntax",
        ),
        (
            json!({"type": "grammar", "syntax": "lark"}),
            "missing_required_parameter",
            ".definition",
        ),
        (
            json!({"type": "grammar", "syntax": "lark", "definition": 1}),
            "invalid_type",
            ".definition",
        ),
        (
            json!({"type": "grammar", "syntax": "lark", "definition": "start: nothing"}),
            invalid,
            ".definition",
        ),
        (
            json!({"type": "grammar", "syntax": "regex", "definition": "a("}),
            invalid,
            ".definition",
        ),
    ] {
        let tool = json!({"type": "custom", "name": "patch", "format": format});
        let tools = json!([{"type": "function", "name": "f"}, {"type": "namespace", "name": "n", "tools": [tool]}]);
        for kind in KINDS {
            for strictness in [Strictness::Strict, Strictness::Plain, Strictness::Lenient] {
                assert_eq!(
                    refusal_under(strictness, kind, &with(tools.clone())).await,
                    (
                        400,
                        code.to_owned(),
                        format!("tools[1].tools[0].format{param}")
                    ),
                    "{format}"
                );
            }
        }
    }
    let broken = with(with_grammar("lark", "start: \"a\" | b"));
    let answer = ask(&Arc::new(StandIn::hello()), Policy::default(), &broken).await;
    assert_eq!(
        answer.json()["error"]["message"],
        "Invalid grammar for 'tools[1].format.definition': line 1, column 14: 'b' is not defined."
    );
}

#[tokio::test]
async fn the_tools_of_a_namespace_have_longer_names_and_come_back_apart() {
    let inner =
        |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object"}});
    let tools = json!([
        {"type": "namespace", "name": "agents", "tools": [inner("close"), {"type": "custom", "name": "tell"}]},
        inner("close")
    ]);
    let (_, engine) = response(StandIn::hello(), &with(tools.clone())).await;
    let offered = engine.asked()["tools"].clone();
    let names: Vec<&Value> = offered
        .as_array()
        .into_iter()
        .flatten()
        .map(|tool| &tool["function"]["name"])
        .collect();
    assert_eq!(names, ["agents__close", "agents__tell", "close"]);
    let closed = item(tools.clone(), "agents__close", &["{}"]).await;
    assert_eq!(
        (&closed["name"], &closed["namespace"]),
        (&json!("close"), &json!("agents"))
    );
    let plain = item(tools.clone(), "close", &["{}"]).await;
    assert_eq!(plain.get("namespace"), None);
    let told = item(tools.clone(), "agents__tell", &["{\"input\": \"x\"}"]).await;
    assert_eq!(
        (&told["type"], &told["namespace"]),
        (&json!("custom_tool_call"), &json!("agents"))
    );

    // The same call, sent back in the next request.
    let mut again = with(tools);
    again["input"] = json!([
        {"type": "function_call", "call_id": "call_1", "name": "close", "namespace": "agents", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "ok"}
    ]);
    let (_, engine) = response(StandIn::hello(), &again).await;
    let earlier = &engine.asked()["messages"][0]["tool_calls"][0]["function"];
    assert_eq!(earlier["name"], "agents__close");
}

#[tokio::test]
async fn names_that_would_be_the_same_are_kept_apart() {
    let long = "n".repeat(60);
    let inner =
        json!([{"type": "function", "name": "tool_a"}, {"type": "function", "name": "tool_b"}]);
    let tools = json!([
        {"type": "namespace", "name": long, "tools": inner},
        {"type": "function", "name": "apply_patch"}, {"type": "apply_patch"}
    ]);
    let (_, engine) = response(StandIn::hello(), &with(tools.clone())).await;
    let offered = engine.asked()["tools"].clone();
    let names: Vec<&str> = offered
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .collect();
    assert_eq!(names.len(), 4);
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 4, "{names:?}");
    assert!(names.iter().all(|name| name.len() <= 64), "{names:?}");
    let second = item(tools, names[1], &["{}"]).await;
    assert_eq!(
        (&second["name"], &second["namespace"]),
        (&json!("tool_b"), &json!(long))
    );
}

#[tokio::test]
async fn tools_that_the_client_runs_come_back_as_the_items_it_knows() {
    let tools = json!([{"type": "local_shell"}, {"type": "shell", "environment": {"type": "local"}}, {"type": "apply_patch"},
        {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}]);
    for (function, arguments, expected) in [
        (
            "local_shell",
            "{\"command\": [\"ls\"], \"working_directory\": \"/tmp\"}",
            json!({"type": "local_shell_call", "id": "lsh_", "status": "completed", "call_id": "call_1",
                "action": {"type": "exec", "command": ["ls"], "env": {}, "working_directory": "/tmp"}}),
        ),
        (
            "shell",
            "{\"commands\": [\"ls -l\"], \"timeout_ms\": 5}",
            json!({"type": "shell_call", "id": "sh_", "status": "completed", "call_id": "call_1",
                "action": {"commands": ["ls -l"], "timeout_ms": 5, "max_output_length": null},
                "environment": {"type": "local"}}),
        ),
        (
            "apply_patch",
            "{\"type\": \"create_file\", \"path\": \"a\", \"diff\": \"+x\"}",
            json!({"type": "apply_patch_call", "id": "apc_", "status": "completed", "call_id": "call_1",
                "operation": {"type": "create_file", "path": "a", "diff": "+x"}}),
        ),
        (
            "tool_search",
            "{\"query\": \"mail\"}",
            json!({"type": "tool_search_call", "id": "tsc_", "status": "completed", "call_id": "call_1",
                "execution": "client", "arguments": {"query": "mail"}}),
        ),
        (
            "shell",
            "{\"commands\": 5}",
            json!({"type": "function_call", "id": "fc_", "status": "completed", "call_id": "call_1", "name": "shell",
                "arguments": "{\"commands\": 5}"}),
        ),
    ] {
        assert_eq!(item(tools.clone(), function, &[arguments]).await, expected);
    }
}

#[tokio::test]
async fn calls_and_outputs_of_the_clients_tools_are_read_back() {
    let mut asked =
        with(json!([{"type": "local_shell"}, {"type": "shell"}, {"type": "apply_patch"}]));
    asked["input"] = json!([
        {"type": "local_shell_call", "id": "lsh_1", "call_id": "call_1", "status": "completed",
            "action": {"type": "exec", "command": ["ls"], "env": {}, "user": null}},
        {"type": "local_shell_call_output", "id": "call_1", "output": "a.txt"},
        {"type": "shell_call", "call_id": "call_2", "action": {"commands": ["ls"], "timeout_ms": null}},
        {"type": "shell_call_output", "call_id": "call_2", "output": [{"stdout": "b", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]},
        {"type": "apply_patch_call", "call_id": "call_3", "status": "completed", "operation": {"type": "delete_file", "path": "a"}},
        {"type": "apply_patch_call_output", "call_id": "call_3", "status": "failed", "output": "no such file"}
    ]);
    let (_, engine) = response(StandIn::hello(), &asked).await;
    let messages = engine.asked()["messages"].clone();
    let function = |at: usize| &messages[at]["tool_calls"][0]["function"];
    assert_eq!(
        function(0),
        &json!({"name": "local_shell", "arguments": "{\"command\":[\"ls\"],\"env\":{}}"})
    );
    assert_eq!(messages[1]["content"], "a.txt");
    assert_eq!(
        function(2),
        &json!({"name": "shell", "arguments": "{\"commands\":[\"ls\"]}"})
    );
    assert!(
        messages[3]["content"]
            .as_str()
            .is_some_and(|text| text.contains("\"stdout\":\"b\""))
    );
    assert_eq!(function(4)["name"], "apply_patch");
    assert_eq!(messages[5]["content"], "failed: no such file");
}

#[tokio::test]
async fn tools_that_a_search_found_can_be_called() {
    let found = json!([{"type": "namespace", "name": "agents", "tools": [
        {"type": "function", "name": "spawn", "defer_loading": true, "parameters": {"type": "object"}}]}]);
    let mut asked = with(json!([{"type": "tool_search", "execution": "client"}]));
    asked["input"] = json!([
        {"type": "tool_search_call", "call_id": "call_1", "execution": "client", "arguments": {"query": "spawn"}, "status": "completed"},
        {"type": "tool_search_output", "call_id": "call_1", "status": "completed", "execution": "client", "tools": found}
    ]);
    let said = call(0, "call_2", "agents__spawn", &["{}"]);
    let engine = StandIn::says(&said, FinishReason::ToolCalls);
    let (response, engine) = response(engine, &asked).await;
    assert_eq!(
        (
            &response["output"][0]["name"],
            &response["output"][0]["namespace"]
        ),
        (&json!("spawn"), &json!("agents"))
    );
    let chat = engine.asked();
    assert_eq!(chat["tools"][1]["function"]["name"], "agents__spawn");
    assert_eq!(
        chat["messages"][1]["content"],
        "These tools can be called now: spawn."
    );
}

#[tokio::test]
async fn hosted_tools_are_left_out_and_named_and_refused_where_they_are_the_only_choice() {
    let tools = json!([{"type": "web_search"}, {"type": "image_generation"}, {"type": "function", "name": "f"},
        {"type": "shell", "environment": {"type": "container_auto"}}, {"type": "tool_search"}]);
    for kind in KINDS {
        assert_eq!(
            ignored(kind, &with(tools.clone())).await,
            "tools[].web_search, tools[].image_generation, tools[].shell, tools[].tool_search"
        );
    }
    let mut only = with(tools.clone());
    only["tool_choice"] = json!({"type": "web_search"});
    assert_eq!(
        refusal(&only).await,
        (
            400,
            "invalid_value".to_owned(),
            "tool_choice.type".to_owned()
        )
    );
    let strict = refusal_under(Strictness::Strict, Kind::Ollama, &with(tools)).await;
    assert_eq!(strict.2, "tools[].web_search");
    // No tool is left, and the choice requires none.
    let auto = hi(json!({"tools": [{"type": "web_search"}], "tool_choice": "auto"}));
    assert_eq!(ignored(Kind::Ollama, &auto).await, "tools[].web_search");
}

#[tokio::test]
async fn a_choice_of_a_tool_is_the_choice_of_its_function() {
    let tools = json!([{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}, {"type": "local_shell"},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g"}]}]);
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    for (choice, expected) in [
        (json!("none"), json!("none")),
        (json!("auto"), Value::Null),
        (json!("required"), json!("required")),
        (json!({"type": "function", "name": "f"}), function("f")),
        (json!({"type": "function", "name": "g"}), function("n__g")),
        (
            json!({"type": "custom", "name": "patch"}),
            function("patch"),
        ),
        (json!({"type": "local_shell"}), function("local_shell")),
        (
            json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}]}),
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("f"), function("patch")]}}),
        ),
    ] {
        let mut asked = with(tools.clone());
        asked["tool_choice"] = choice.clone();
        let engine = StandIn::says(&call(0, "call_1", "f", &["{}"]), FinishReason::ToolCalls);
        let (response, engine) = response(engine, &asked).await;
        assert_eq!(engine.asked()["tool_choice"], expected, "{choice}");
        assert_eq!(response["tool_choice"], choice);
    }
    let mut unknown = with(tools);
    unknown["tool_choice"] = json!({"type": "function", "name": "h"});
    assert_eq!(refusal(&unknown).await.2, "tool_choice");
}

#[tokio::test]
async fn async_tools_say_so_on_their_calls() {
    let tools = json!([{"type": "function", "name": "f", "async": true}]);
    assert_eq!(item(tools, "f", &["{}"]).await["async"], json!(true));
}

#[tokio::test]
async fn a_call_that_is_cut_is_incomplete() {
    let tools = json!([{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}, {"type": "shell"}]);
    for (function, kind) in [
        ("f", "function_call"),
        ("patch", "custom_tool_call"),
        ("shell", "function_call"),
    ] {
        let said = call(0, "call_1", function, &["{\"inp"]);
        let engine = StandIn::says(&said, FinishReason::Length);
        let (response, _) = response(engine, &with(tools.clone())).await;
        assert_eq!(response["status"], "incomplete");
        let item = &response["output"][0];
        assert_eq!(
            (&item["type"], &item["status"]),
            (&json!(kind), &json!("incomplete"))
        );
    }
}

#[tokio::test]
async fn numbers_in_a_tools_schema_keep_all_their_digits() {
    let number = "12345678901234567890.1234567890123456789";
    let tool = |name: &str| {
        json!({"type": "function", "name": name,
            "parameters": {"type": "object", "properties": {"n": {"maximum": 5, "title": "N"}}}})
    };
    let tools = json!([
        {"type": "custom", "name": "patch"},
        {"type": "web_search"},
        tool("f"),
        {"type": "namespace", "name": "n", "tools": [tool("g")]}
    ]);
    let found = json!({"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [tool("h")]});
    let search =
        json!({"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {}});
    let mut body = with(tools);
    body["input"] = json!([{"role": "user", "content": "Hi"}, search, found]);
    let text = body
        .to_string()
        .replace("\"maximum\":5", &format!("\"maximum\":{number}"));
    let engine = Arc::new(StandIn::hello());
    let answer = ask_text("/v1/responses", &engine, Policy::default(), text).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let functions = engine.request().tools.unwrap();
    let written: Vec<String> = functions
        .iter()
        .map(|tool| serde_json::to_string(tool).unwrap())
        .collect();
    assert_eq!(written.len(), 4);
    for (function, has_number) in written.iter().zip([false, true, true, true]) {
        assert_eq!(
            function.contains(&format!("\"maximum\":{number},")),
            has_number,
            "{function}"
        );
    }
}
