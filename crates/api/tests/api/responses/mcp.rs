//! Tools of MCP servers, which the server calls while it makes a response.

use std::sync::{Arc, Mutex};

use futures_core::future::BoxFuture;
use loggia_api::mcp::{McpClient, McpError, McpServer, McpTool};
use loggia_wire::openai::FinishReason;
use serde_json::{Map, Value, json};

use super::memory::{Stand, id, refused};
use super::stand_in::{StandIn, call, hi};
use super::state_machine::checked;

/// Two tools that return their arguments, and one that fails.
#[derive(Default)]
struct Echo {
    lists: Mutex<Vec<McpServer>>,
    calls: Mutex<Vec<(String, Value)>>,
    is_down: bool,
}

impl McpClient for Echo {
    fn list_tools<'a>(
        &'a self,
        server: &'a McpServer,
    ) -> BoxFuture<'a, Result<Vec<McpTool>, McpError>> {
        self.lists.lock().expect("no panic").push(server.clone());
        let tool = |name: &str, is_read_only: bool| McpTool {
            name: name.to_owned(),
            description: Some(format!("Says {name}.")),
            input_schema: json!({"type": "object", "properties": {"text": {"type": "string"}}}),
            annotations: Some(json!({"readOnlyHint": is_read_only})),
        };
        let listed = if self.is_down {
            Err(McpError::Http {
                status: 503,
                message: "The server answered with status 503.".to_owned(),
            })
        } else {
            Ok(vec![
                tool("read", true),
                tool("write", false),
                tool("fail", true),
            ])
        };
        Box::pin(std::future::ready(listed))
    }

    fn call_tool<'a>(
        &'a self,
        _: &'a McpServer,
        tool: &'a str,
        arguments: Map<String, Value>,
    ) -> BoxFuture<'a, Result<String, McpError>> {
        let mut calls = self.calls.lock().expect("no panic");
        calls.push((tool.to_owned(), Value::Object(arguments.clone())));
        let result = if tool == "fail" {
            Err(McpError::Tool {
                message: "no such page".to_owned(),
            })
        } else {
            Ok(format!(
                "{tool}: {}",
                arguments
                    .get("text")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            ))
        };
        Box::pin(std::future::ready(result))
    }
}

/// A tool that names the server, with more fields.
fn docs(more: &Value) -> Value {
    let mut tool =
        json!({"type": "mcp", "server_label": "docs", "server_url": "https://mcp.example/mcp"});
    let fields = tool.as_object_mut().expect("an object");
    fields.extend(more.as_object().cloned().unwrap_or_default());
    tool
}

fn calls_then_says(function: &str, arguments: &str, text: &str) -> StandIn {
    let calls = call(0, "call_1", function, &[arguments]);
    StandIn::says(&calls, FinishReason::ToolCalls)
        .then(&[json!({ "content": text })], FinishReason::Stop)
}

fn types(response: &Value) -> Vec<&str> {
    let output = response["output"].as_array().expect("a list").iter();
    output.filter_map(|item| item["type"].as_str()).collect()
}

#[tokio::test]
async fn a_tool_of_a_server_is_called_and_the_model_goes_on() {
    let never = docs(&json!({"require_approval": "never"}));
    for stream in [false, true] {
        let mcp = Arc::new(Echo::default());
        let engine = calls_then_says("docs__read", r#"{"text":"a"}"#, "It says a.");
        let stand = Stand::new(engine).with_mcp(Arc::clone(&mcp) as Arc<dyn McpClient>);
        let body = hi(json!({"tools": [never], "stream": stream}));
        let answer = stand.post("/v1/responses", &body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(answer.header("x-loggia-ignored"), None);
        let response = if stream {
            checked(answer.text())
        } else {
            answer.json()
        };
        assert_eq!(types(&response), ["mcp_list_tools", "mcp_call", "message"]);
        let listed = &response["output"][0];
        assert_eq!(
            (
                &listed["server_label"],
                listed["tools"].as_array().map(Vec::len)
            ),
            (&json!("docs"), Some(3))
        );
        let made = &response["output"][1];
        assert_eq!(
            (
                &made["name"],
                &made["arguments"],
                &made["output"],
                &made["status"],
                &made["error"]
            ),
            (
                &json!("read"),
                &json!(r#"{"text":"a"}"#),
                &json!("read: a"),
                &json!("completed"),
                &Value::Null
            )
        );
        assert_eq!(response["output"][2]["content"][0]["text"], "It says a.");
        assert_eq!(response["usage"]["input_tokens"], 40, "both answers count");
        let asked = stand.engine.asked();
        let messages = asked["messages"].as_array().expect("messages");
        assert_eq!(
            messages[1]["tool_calls"][0]["function"]["name"],
            "docs__read"
        );
        assert_eq!(messages[2]["content"], "read: a");
        assert_eq!(mcp.calls.lock().expect("no panic").len(), 1);
        assert_eq!(stand.fetched(&id(&response)).await, response);
    }
}

#[tokio::test]
async fn without_a_word_of_the_client_a_call_has_to_be_allowed() {
    for (approve, told) in [
        (true, "write: a"),
        (false, "The user did not allow this call: no"),
    ] {
        let mcp = Arc::new(Echo::default());
        let engine = calls_then_says("docs__write", r#"{"text":"a"}"#, "Done.");
        let stand = Stand::new(engine).with_mcp(Arc::clone(&mcp) as Arc<dyn McpClient>);
        let tools = json!([docs(&json!({}))]);
        let first = stand.respond(json!({ "tools": tools })).await;
        assert_eq!(types(&first), ["mcp_list_tools", "mcp_approval_request"]);
        assert_eq!(first["status"], "completed");
        assert!(mcp.calls.lock().expect("no panic").is_empty());
        let request = id(&first["output"][1]);
        assert!(request.starts_with("mcpr_"));
        let answer = json!({"type": "mcp_approval_response", "approval_request_id": request, "approve": approve, "reason": "no"});
        let body = hi(
            json!({"input": [answer], "previous_response_id": id(&first), "tools": tools, "stream": true}),
        );
        let second = checked(stand.post("/v1/responses", &body).await.text());
        let expected: &[&str] = if approve {
            &["mcp_call", "message"]
        } else {
            &["message"]
        };
        assert_eq!(types(&second), expected);
        if approve {
            assert_eq!(second["output"][0]["approval_request_id"], request.as_str());
        }
        let asked = stand.engine.asked();
        assert_eq!(asked["messages"][2]["content"], told);
        // The list of the first response is used again, and the call is not made again.
        stand
            .respond(json!({"input": "more", "previous_response_id": id(&second), "tools": tools}))
            .await;
        assert_eq!(mcp.lists.lock().expect("no panic").len(), 1);
        assert_eq!(
            mcp.calls.lock().expect("no panic").len(),
            usize::from(approve)
        );
    }
}

#[tokio::test]
async fn filters_say_which_tools_there_are_and_which_need_nobody() {
    let read_only = json!({"require_approval": {"never": {"read_only": true}}, "allowed_tools": ["read", "write"]});
    let named = json!({"require_approval": {"always": {"tool_names": ["write"]}}, "allowed_tools": {"tool_names": ["read", "write"]}});
    for policy in [read_only, named] {
        for (function, asks) in [("docs__read", false), ("docs__write", true)] {
            let engine = calls_then_says(function, "{}", "Done.");
            let stand = Stand::new(engine).with_mcp(Arc::new(Echo::default()));
            let response = stand.respond(json!({"tools": [docs(&policy)]})).await;
            assert_eq!(
                types(&response).contains(&"mcp_approval_request"),
                asks,
                "{policy} {function}"
            );
            assert_eq!(
                response["output"][0]["tools"].as_array().map(Vec::len),
                Some(2)
            );
        }
    }
}

#[tokio::test]
async fn a_tool_that_fails_is_shown_and_told_to_the_model() {
    let engine = calls_then_says("docs__fail", "", "It failed.");
    let stand = Stand::new(engine).with_mcp(Arc::new(Echo::default()));
    let never = docs(&json!({"require_approval": "never"}));
    let body = hi(json!({"tools": [never], "stream": true}));
    let response = checked(stand.post("/v1/responses", &body).await.text());
    let made = &response["output"][1];
    assert_eq!(
        (&made["status"], &made["error"]["type"]),
        (&json!("failed"), &json!("mcp_tool_execution_error"))
    );
    let told = stand.engine.asked()["messages"][2]["content"].clone();
    assert_eq!(told, "The call failed: no such page");
}

#[tokio::test]
async fn a_server_whose_tools_cannot_be_listed_is_an_error_before_the_model_works() {
    let mcp = Echo {
        is_down: true,
        ..Echo::default()
    };
    let stand = Stand::new(StandIn::hello()).with_mcp(Arc::new(mcp));
    let answer = stand
        .post("/v1/responses", &hi(json!({"tools": [docs(&json!({}))]})))
        .await;
    assert_eq!(
        refused(&answer),
        (
            424,
            "mcp_list_tools_failed".to_owned(),
            "tools[0]".to_owned()
        )
    );
    assert!(
        answer
            .text()
            .contains("'docs'. The server answered with status 503."),
        "{}",
        answer.text()
    );
    assert_eq!(stand.engine.came(), 0);
}

#[tokio::test]
async fn tokens_and_headers_are_sent_to_the_server_and_not_repeated() {
    let mcp = Arc::new(Echo::default());
    let stand = Stand::new(StandIn::hello()).with_mcp(Arc::clone(&mcp) as Arc<dyn McpClient>);
    let secret = docs(&json!({"authorization": "token-1", "headers": {"x-key": "token-2"}}));
    let response = stand.respond(json!({"tools": [secret]})).await;
    let server = mcp.lists.lock().expect("no panic")[0].clone();
    assert_eq!(server.authorization.as_deref(), Some("token-1"));
    assert_eq!(server.headers, [("x-key".to_owned(), "token-2".to_owned())]);
    assert_eq!(
        response["tools"][0]["headers"],
        json!({"x-key": "<redacted>"})
    );
    for shown in [&response, &stand.fetched(&id(&response)).await] {
        assert!(!shown.to_string().contains("token-"), "{shown}");
    }
    assert!(!format!("{server:?}").contains("token-"));
}

#[tokio::test]
async fn a_model_that_calls_for_ever_is_stopped() {
    let calls = call(0, "call_1", "docs__read", &[r#"{"text":"a"}"#]);
    let never = docs(&json!({"require_approval": "never"}));
    let stand = Stand::new(
        StandIn::says(&calls, FinishReason::ToolCalls)
            .then(&calls, FinishReason::ToolCalls)
            .then(&[json!({"content": "Enough."})], FinishReason::Stop),
    )
    .with_mcp(Arc::new(Echo::default()));
    let response = stand
        .respond(json!({"tools": [never], "max_tool_calls": 2}))
        .await;
    assert_eq!(
        types(&response),
        ["mcp_list_tools", "mcp_call", "mcp_call", "message"]
    );
    assert_eq!(stand.engine.asked().get("tools"), None);
}

#[tokio::test]
async fn a_call_of_the_clients_ends_the_response_after_those_of_the_server() {
    let mut calls = call(0, "call_1", "docs__read", &[r#"{"text":"a"}"#]);
    calls.extend(call(1, "call_2", "add", &[r#"{"a":1}"#]));
    let stand = Stand::new(StandIn::says(&calls, FinishReason::ToolCalls))
        .with_mcp(Arc::new(Echo::default()));
    let add = json!({"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": false});
    let never = docs(&json!({"require_approval": "never"}));
    let body = hi(json!({"tools": [never, add], "stream": true}));
    let response = checked(stand.post("/v1/responses", &body).await.text());
    let mut found = types(&response);
    found.sort_unstable();
    assert_eq!(found, ["function_call", "mcp_call", "mcp_list_tools"]);
    assert_eq!(stand.engine.came(), 1);
    // The next turn has the results of both.
    let output = json!([{"type": "function_call_output", "call_id": "call_2", "output": "2"}]);
    stand
        .respond(
            json!({"input": output, "previous_response_id": id(&response), "tools": [never, add]}),
        )
        .await;
    let told = stand.engine.asked().to_string();
    assert!(
        told.contains("read: a") && told.contains("call_2"),
        "{told}"
    );
}

#[tokio::test]
async fn a_choice_of_a_server_or_of_one_of_its_tools_is_one_of_functions() {
    for (choice, expected) in [
        (
            json!({"type": "mcp", "server_label": "docs", "name": "read"}),
            json!({"type": "function", "function": {"name": "docs__read"}}),
        ),
        (
            json!({"type": "mcp", "server_label": "docs"}),
            json!("required"),
        ),
    ] {
        let stand = Stand::new(StandIn::hello()).with_mcp(Arc::new(Echo::default()));
        let only = docs(&json!({"allowed_tools": ["read"]}));
        stand
            .respond(json!({"tools": [only], "tool_choice": choice}))
            .await;
        let asked = stand.engine.asked()["tool_choice"].clone();
        let is_expected = asked == expected || asked["type"] == "allowed_tools";
        assert!(is_expected, "{asked}");
    }
}

#[tokio::test]
async fn tools_that_name_no_server_are_refused_with_their_place() {
    let stand = Stand::new(StandIn::hello()).with_mcp(Arc::new(Echo::default()));
    for (tool, code, param) in [
        (
            json!({"type": "mcp"}),
            "missing_required_parameter",
            "tools[0].server_label",
        ),
        (
            json!({"type": "mcp", "server_label": "d"}),
            "missing_required_parameter",
            "tools[0].server_url",
        ),
        (
            json!({"type": "mcp", "server_label": "d", "connector_id": "connector_gmail"}),
            "unsupported_parameter",
            "tools[0].connector_id",
        ),
        (
            json!({"type": "mcp", "server_label": 7}),
            "invalid_type",
            "tools[0].server_label",
        ),
        (
            docs(&json!({"require_approval": "sometimes"})),
            "invalid_value",
            "tools[0].require_approval",
        ),
        (
            docs(&json!({"headers": 7})),
            "invalid_type",
            "tools[0].headers",
        ),
    ] {
        let answer = stand
            .post("/v1/responses", &hi(json!({"tools": [tool]})))
            .await;
        assert_eq!(
            refused(&answer),
            (400, code.to_owned(), param.to_owned()),
            "{tool}"
        );
    }
}

#[tokio::test]
async fn two_servers_with_one_label_are_refused() {
    let mcp = Arc::new(Echo::default());
    let stand = Stand::new(StandIn::hello()).with_mcp(Arc::clone(&mcp) as Arc<dyn McpClient>);
    let other = docs(&json!({"server_url": "https://other.example/mcp"}));
    let body = hi(json!({"tools": [docs(&json!({})), other]}));
    let answer = stand.post("/v1/responses", &body).await;
    let place = "tools[1].server_label".to_owned();
    assert_eq!(refused(&answer), (400, "invalid_value".to_owned(), place));
    assert!(mcp.lists.lock().expect("no panic").is_empty());
}

/// A stand whose first response asks for the approval of a call of `write`. Returns the server,
/// that response, and the approval.
async fn waits_for_approval() -> (Arc<Echo>, Stand, Value, Value) {
    let mcp = Arc::new(Echo::default());
    let engine = calls_then_says("docs__write", r#"{"text":"a"}"#, "Done.");
    let stand = Stand::new(engine).with_mcp(Arc::clone(&mcp) as Arc<dyn McpClient>);
    let tools = json!([docs(&json!({}))]);
    let first = stand.respond(json!({ "tools": tools })).await;
    let request = id(&first["output"][1]);
    let approval =
        json!({"type": "mcp_approval_response", "approval_request_id": request, "approve": true});
    (mcp, stand, first, approval)
}

#[tokio::test]
async fn an_approved_call_that_the_request_does_not_offer_is_refused() {
    let (mcp, stand, first, approval) = waits_for_approval().await;
    let only_read = docs(&json!({"allowed_tools": ["read"]}));
    let other = docs(&json!({"server_label": "other"}));
    for tools in [json!([]), json!([only_read]), json!([other])] {
        let body =
            hi(json!({"input": [approval], "previous_response_id": id(&first), "tools": tools}));
        let answer = stand.post("/v1/responses", &body).await;
        let expected = (400, "invalid_value".to_owned(), "input[0]".to_owned());
        assert_eq!(refused(&answer), expected, "{tools}");
    }
    assert!(mcp.calls.lock().expect("no panic").is_empty());
    assert_eq!(stand.engine.came(), 1, "the model was not asked");
    // A call can be denied without its server.
    let mut denial = approval;
    denial["approve"] = json!(false);
    let body = json!({"input": [denial], "previous_response_id": id(&first)});
    assert_eq!(types(&stand.respond(body).await), ["message"]);
}

#[tokio::test]
async fn an_approval_that_answers_nothing_is_refused() {
    let (_, stand, first, approval) = waits_for_approval().await;
    let tools = json!([docs(&json!({}))]);
    for (field, value, code) in [
        ("approve", Value::Null, "missing_required_parameter"),
        ("approve", json!("yes"), "invalid_type"),
        (
            "approval_request_id",
            Value::Null,
            "missing_required_parameter",
        ),
        ("approval_request_id", json!("mcpr_1"), "invalid_value"),
    ] {
        let mut approval = approval.clone();
        approval[field] = value;
        let body =
            hi(json!({"input": [approval], "previous_response_id": id(&first), "tools": tools}));
        let answer = stand.post("/v1/responses", &body).await;
        let expected = (400, code.to_owned(), format!("input[0].{field}"));
        assert_eq!(refused(&answer), expected, "{approval}");
    }
}

#[tokio::test]
async fn a_summary_is_made_without_the_servers_and_is_the_only_item() {
    for is_down in [false, true] {
        let mcp = Arc::new(Echo {
            is_down,
            ..Echo::default()
        });
        let stand = Stand::new(StandIn::hello()).with_mcp(Arc::clone(&mcp) as Arc<dyn McpClient>);
        let story = json!({"role": "user", "content": "a long story"});
        let trigger = json!({"type": "compaction_trigger"});
        let tools = json!([docs(&json!({"require_approval": "never"}))]);
        let choice = json!({"type": "mcp", "server_label": "docs"});
        for (path, input) in [
            ("/v1/responses", json!([story, trigger])),
            ("/v1/responses/compact", json!([story])),
        ] {
            let body = json!({"model": "m", "tools": tools, "tool_choice": choice, "input": input});
            let answer = stand.post(path, &body).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            assert_eq!(answer.header("x-loggia-ignored"), None);
            assert_eq!(types(&answer.json()), ["compaction"], "{path}");
        }
        assert!(mcp.lists.lock().expect("no panic").is_empty());
    }
}

#[tokio::test]
async fn a_summary_that_would_lose_an_approval_is_refused() {
    let (mcp, stand, first, approval) = waits_for_approval().await;
    let input = json!([approval, {"type": "compaction_trigger"}]);
    let body = hi(
        json!({"input": input, "previous_response_id": id(&first), "tools": [docs(&json!({}))]}),
    );
    let answer = stand.post("/v1/responses", &body).await;
    let expected = (400, "invalid_value".to_owned(), "input[0]".to_owned());
    assert_eq!(refused(&answer), expected);
    assert!(mcp.calls.lock().expect("no panic").is_empty());
}
