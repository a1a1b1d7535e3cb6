//! A door with a store: responses that continue others, conversations, and the routes of stored
//! responses.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use loggia_api::store::{Kind, ObjectRef, Owner};
use loggia_api::{Caller, Door, McpClient, MemoryStore, Policy, Store, Strictness};
use loggia_backend::Backend;
use loggia_backend::emulate::Emulate;
use loggia_seal::Keys;
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::faulty_store::FaultyStore;
use super::stand_in::{StandIn, call, hi};
use super::state_machine::checked;
use crate::support::Answer;

/// A door with a store and with keys, before an engine.
pub(super) struct Stand {
    pub(super) door: Door,
    pub(super) engine: Arc<StandIn>,
    pub(super) store: Arc<MemoryStore>,
}

impl Stand {
    pub(super) fn new(engine: StandIn) -> Self {
        Self::with_keys(engine, Keys::random())
    }

    pub(super) fn with_keys(engine: StandIn, keys: Keys) -> Self {
        Self::under(Policy::default(), engine, keys)
    }

    fn under(policy: Policy, engine: StandIn, keys: Keys) -> Self {
        let engine = Arc::new(engine);
        let store = Arc::new(MemoryStore::new());
        let backend = Emulate::new(Arc::clone(&engine) as Arc<dyn Backend>);
        let door = Door::new(Arc::new(backend), policy).with_keys(Arc::new(keys));
        Self {
            door: door.with_store(Arc::clone(&store) as Arc<dyn Store>),
            engine,
            store,
        }
    }

    /// A second server with the same store and the same engine.
    pub(super) fn second_server(&self) -> Self {
        let backend = Arc::clone(&self.engine) as Arc<dyn Backend>;
        let door = Door::new(backend, Policy::default());
        Self {
            door: door.with_store(Arc::clone(&self.store) as Arc<dyn Store>),
            engine: Arc::clone(&self.engine),
            store: Arc::clone(&self.store),
        }
    }

    pub(super) async fn ask_as(
        &self,
        key: Option<&str>,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Answer {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path");
        if let Some(name) = key {
            request.extensions_mut().insert(Caller {
                name: name.into(),
                strictness: None,
                models: None,
                may_delete_models: false,
                may_have_priority: false,
            });
        }
        let (parts, body) = self.door.serve(request).await.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Answer {
            head: http::Response::from_parts(parts, ()),
            body,
        }
    }

    /// Returns this door with a client for MCP servers.
    pub(super) fn with_mcp(mut self, mcp: Arc<dyn McpClient>) -> Self {
        self.door = self.door.with_mcp(mcp);
        self
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask_as(None, Method::POST, path, body).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask_as(None, Method::GET, path, &Value::Null).await
    }

    /// Creates a response.
    pub(super) async fn respond(&self, more: Value) -> Value {
        let answer = self.post("/v1/responses", &hi(more)).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()
    }

    /// Fetches a response.
    pub(super) async fn fetched(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/responses/{id}")).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()
    }

    /// Returns the roles and texts of the last request to the engine.
    pub(super) fn asked(&self) -> Vec<(String, String)> {
        let asked = self.engine.asked();
        let messages = asked["messages"].as_array().expect("messages").iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        messages
            .map(|message| (text(&message["role"]), text(&message["content"])))
            .collect()
    }
}

pub(super) fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}

pub(super) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    pairs.iter().map(owned).collect()
}

pub(super) fn refused(answer: &Answer) -> (u16, String, String) {
    let error = answer.json()["error"].clone();
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (answer.status(), text("code"), text("param"))
}

#[tokio::test]
async fn a_response_is_stored_unless_the_client_says_no() {
    let stand = Stand::new(StandIn::hello());
    for more in [json!({}), json!({"store": null}), json!({"store": true})] {
        let mut made = stand.respond(more).await;
        assert_eq!(made["store"], true);
        let fetched = stand.fetched(&id(&made)).await;
        // The same object; the order of the fields does not matter.
        assert_eq!(fetched, made.take());
    }
    let made = stand.respond(json!({"store": false})).await;
    assert_eq!(made["store"], false);
    let path = format!("/v1/responses/{}", id(&made));
    assert_eq!(stand.get(&path).await.status(), 404);
}

#[tokio::test]
async fn a_stream_is_stored_before_its_last_event() {
    let stand = Stand::new(StandIn::hello());
    let answer = stand
        .post("/v1/responses", &hi(json!({"stream": true})))
        .await;
    let end = checked(answer.text());
    assert_eq!(stand.fetched(&id(&end)).await, end);
}

#[tokio::test]
async fn a_turn_sees_all_turns_before_it_but_not_their_instructions() {
    let stand = Stand::new(StandIn::hello());
    let first = stand
        .respond(json!({"input": "one", "instructions": "Be brief."}))
        .await;
    let previous =
        json!({"input": [{"role": "user", "content": "two"}], "previous_response_id": id(&first)});
    let second = stand.respond(previous).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let third = json!({"input": "three", "previous_response_id": id(&second), "instructions": "Be long.", "store": false});
    stand.respond(third).await;
    assert_eq!(
        stand.asked(),
        pairs(&[
            ("system", "Be long."),
            ("user", "one"),
            ("assistant", "Hello!"),
            ("user", "two"),
            ("assistant", "Hello!"),
            ("user", "three"),
        ])
    );
    // Two turns can continue the same response.
    let fork = json!({"input": "other", "previous_response_id": id(&first)});
    stand.respond(fork).await;
    assert_eq!(
        stand.asked(),
        pairs(&[("user", "one"), ("assistant", "Hello!"), ("user", "other")])
    );
}

#[tokio::test]
async fn an_output_goes_to_the_call_of_the_turn_before() {
    let calls = call(0, "call_1", "add", &["{\"a\":1}"]);
    let stand = Stand::new(StandIn::says(&calls, FinishReason::ToolCalls));
    let tools = json!([{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": false}]);
    let first = stand.respond(json!({"tools": tools})).await;
    let output = json!([{"type": "function_call_output", "call_id": "call_1", "output": "2"}]);
    stand
        .respond(json!({"input": output, "previous_response_id": id(&first), "tools": tools}))
        .await;
    let asked = stand.engine.asked();
    assert_eq!(asked["messages"][1]["tool_calls"][0]["id"], "call_1");
    assert_eq!(
        asked["messages"][2],
        json!({"role": "tool", "tool_call_id": "call_1", "content": "2"})
    );
    // OpenAI refuses a turn with a call but no output.
    let without = hi(json!({"input": "and?", "previous_response_id": id(&first), "tools": tools}));
    let answer = stand.post("/v1/responses", &without).await;
    assert_eq!(
        refused(&answer),
        (400, "invalid_value".to_owned(), "input".to_owned())
    );
}

#[tokio::test]
async fn a_call_that_was_cut_short_is_not_part_of_the_next_turn() {
    let calls = call(0, "call_1", "add", &["{\"a\":"]);
    let stand = Stand::new(StandIn::says(&calls, FinishReason::Length));
    let tools = json!([{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": false}]);
    let first = stand.respond(json!({"tools": tools})).await;
    assert_eq!(first["status"], "incomplete");
    stand
        .respond(json!({"input": "again", "previous_response_id": id(&first), "tools": tools}))
        .await;
    assert_eq!(stand.asked(), pairs(&[("user", "Hi"), ("user", "again")]));
}

#[tokio::test]
async fn references_to_items_of_earlier_responses_are_read() {
    let thinks = [
        json!({"reasoning_content": "Hm."}),
        json!({"content": "Hello"}),
    ];
    let stand = Stand::new(StandIn::says(&thinks, FinishReason::Stop));
    let first = stand.respond(json!({})).await;
    let items = json!([
        {"role": "user", "content": "Hi"},
        {"type": "item_reference", "id": first["output"][0]["id"]},
        {"id": first["output"][1]["id"]},
        {"role": "user", "content": "more"}
    ]);
    let second = stand.respond(json!({ "input": items })).await;
    let asked = stand.engine.asked();
    assert_eq!(asked["messages"][1]["content"], "Hello");
    assert_eq!(asked["messages"][1]["reasoning_content"], "Hm.");
    // The items are stored unchanged, so the next turn has them too.
    let path = format!("/v1/responses/{}/input_items?order=asc", id(&second));
    let listed = stand.get(&path).await.json();
    let types: Vec<&str> = listed["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["type"].as_str())
        .collect();
    assert_eq!(types, ["message", "reasoning", "message", "message"]);
    let unknown = hi(json!({"input": [{"type": "item_reference", "id": "msg_unknown"}]}));
    assert_eq!(
        refused(&stand.post("/v1/responses", &unknown).await),
        (404, "item_not_found".to_owned(), "input[0].id".to_owned())
    );
}

#[tokio::test]
async fn a_reference_to_an_item_that_the_model_reads_anyway_adds_nothing() {
    let stand = Stand::new(StandIn::hello());
    let first = stand.respond(json!({})).await;
    let expected = [("user", "Hi"), ("assistant", "Hello!"), ("user", "more")];
    let again = |response: &Value| {
        let reference = json!({"type": "item_reference", "id": response["output"][0]["id"]});
        json!([{"role": "user", "content": "more"}, reference])
    };
    let body = json!({"previous_response_id": id(&first), "input": again(&first)});
    stand.respond(body).await;
    assert_eq!(stand.asked(), pairs(&expected));

    let conversation = id(&stand.post("/v1/conversations", &json!({})).await.json());
    let first = stand.respond(json!({ "conversation": conversation })).await;
    let body = json!({"conversation": conversation, "input": again(&first)});
    stand.respond(body).await;
    assert_eq!(stand.asked(), pairs(&expected));
    let path = format!("/v1/conversations/{conversation}/items");
    let items = stand.get(&path).await.json();
    assert_eq!(items["data"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn a_conversation_grows_with_each_turn() {
    let stand = Stand::new(StandIn::hello());
    let made = stand
        .post(
            "/v1/conversations",
            &json!({"items": [{"role": "user", "content": "before"}]}),
        )
        .await
        .json();
    let conversation = id(&made);
    for named in [json!(conversation), json!({"id": conversation})] {
        let response = stand.respond(json!({ "conversation": named })).await;
        assert_eq!(response["conversation"], json!({"id": conversation}));
        assert_eq!(response["previous_response_id"], Value::Null);
    }
    let unstored = json!({"conversation": conversation, "store": false});
    let last = stand.respond(unstored).await;
    assert_eq!(
        stand.asked(),
        pairs(&[
            ("user", "before"),
            ("user", "Hi"),
            ("assistant", "Hello!"),
            ("user", "Hi"),
            ("assistant", "Hello!"),
            ("user", "Hi"),
        ])
    );
    let path = format!("/v1/conversations/{conversation}/items");
    let listed = stand.get(&path).await.json();
    assert_eq!(listed["data"].as_array().expect("a list").len(), 7);
    assert_eq!(listed["data"][0]["id"], last["output"][0]["id"]);
    assert_eq!(
        stand
            .get(&format!("/v1/responses/{}", id(&last)))
            .await
            .status(),
        404
    );
}

/// The model gets the items of the conversation at that time, without later ones.
#[tokio::test]
async fn a_response_of_a_conversation_can_be_continued_by_its_id() {
    let stand = Stand::new(StandIn::hello());
    let conversation = id(&stand.post("/v1/conversations", &json!({})).await.json());
    stand
        .respond(json!({"input": "one", "conversation": conversation}))
        .await;
    let second = stand
        .respond(json!({"input": "two", "conversation": conversation}))
        .await;
    stand
        .respond(json!({"input": "three", "conversation": conversation}))
        .await;
    let mut expected = vec![
        ("user", "one"),
        ("assistant", "Hello!"),
        ("user", "two"),
        ("assistant", "Hello!"),
    ];
    // However often it is continued, nothing is lost.
    let mut last = id(&second);
    for aside in ["aside", "further aside", "last aside"] {
        let body = json!({"input": aside, "previous_response_id": last});
        last = id(&stand.respond(body).await);
        expected.push(("user", aside));
        assert_eq!(stand.asked(), pairs(&expected));
        expected.push(("assistant", "Hello!"));
    }
}

#[tokio::test]
async fn a_conversation_that_a_turn_holds_is_locked_and_free_afterwards() {
    let gate = Arc::new(Semaphore::new(0));
    let stand = Arc::new(Stand::new(StandIn::hello().behind(&gate)));
    let conversation = id(&stand.post("/v1/conversations", &json!({})).await.json());
    let body = hi(json!({ "conversation": conversation }));
    let first = {
        let (stand, body) = (Arc::clone(&stand), body.clone());
        tokio::spawn(async move { stand.post("/v1/responses", &body).await })
    };
    while stand.engine.came() == 0 {
        tokio::task::yield_now().await;
    }
    let locked = stand.post("/v1/responses", &body).await;
    assert_eq!(
        refused(&locked),
        (
            400,
            "conversation_locked".to_owned(),
            "conversation".to_owned()
        )
    );
    gate.add_permits(1);
    assert_eq!(first.await.expect("no panic").status(), 200);
    gate.add_permits(1);
    stand.respond(json!({ "conversation": conversation })).await;

    // A turn that fails ends its hold too.
    let failing = hi(json!({"conversation": conversation, "temperature": "hot"}));
    assert_eq!(stand.post("/v1/responses", &failing).await.status(), 400);
    let odd = hi(
        json!({"conversation": conversation, "input": [{"type": "function_call_output", "call_id": "x", "output": ""}]}),
    );
    assert_eq!(stand.post("/v1/responses", &odd).await.status(), 400);
    tokio::task::yield_now().await;
    gate.add_permits(1);
    stand.respond(json!({ "conversation": conversation })).await;
}

#[tokio::test]
async fn an_item_that_the_conversation_has_is_refused_before_the_model_works() {
    let stand = Stand::new(StandIn::hello());
    let item = json!({"type": "message", "id": "msg_1", "role": "user", "content": "a"});
    let conversation = id(&stand
        .post("/v1/conversations", &json!({ "items": [item] }))
        .await
        .json());
    for input in [
        json!([item]),
        json!([{"role": "user", "content": "x", "id": "m"}, {"role": "user", "content": "x", "id": "m"}]),
    ] {
        let body = hi(json!({"conversation": conversation, "input": input}));
        let answer = stand.post("/v1/responses", &body).await;
        assert_eq!(
            (answer.status(), refused(&answer).2.as_str()),
            (400, "input")
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn unknown_and_foreign_ids_are_not_found() {
    let stand = Stand::new(StandIn::hello());
    let made = id(&stand.respond(json!({})).await);
    let conversation = id(&stand.post("/v1/conversations", &json!({})).await.json());
    for (key, previous, conv) in [
        (Some("other"), made.as_str(), conversation.as_str()),
        (None, "resp_unknown", "conv_unknown"),
    ] {
        let body = hi(json!({ "previous_response_id": previous }));
        let answer = stand
            .ask_as(key, Method::POST, "/v1/responses", &body)
            .await;
        let expected = (
            404,
            "previous_response_not_found".to_owned(),
            "previous_response_id".to_owned(),
        );
        assert_eq!(refused(&answer), expected);
        assert_eq!(
            answer.json()["error"]["message"],
            format!("Previous response with id '{previous}' not found.")
        );
        let body = hi(json!({ "conversation": conv }));
        let answer = stand
            .ask_as(key, Method::POST, "/v1/responses", &body)
            .await;
        assert_eq!(
            refused(&answer),
            (
                404,
                "conversation_not_found".to_owned(),
                "conversation".to_owned()
            )
        );
        for (method, path) in [
            (Method::GET, format!("/v1/responses/{previous}")),
            (Method::GET, format!("/v1/responses/{previous}?stream=true")),
            (Method::DELETE, format!("/v1/responses/{previous}")),
            (Method::POST, format!("/v1/responses/{previous}/cancel")),
            (Method::GET, format!("/v1/responses/{previous}/input_items")),
        ] {
            let answer = stand.ask_as(key, method, &path, &Value::Null).await;
            assert_eq!(answer.status(), 404, "{path}");
        }
    }
    assert_eq!(
        stand.get(&format!("/v1/responses/{made}")).await.status(),
        200
    );
}

#[tokio::test]
async fn a_deleted_response_is_gone_and_nothing_goes_on_from_it() {
    let stand = Stand::new(StandIn::hello());
    let first = id(&stand.respond(json!({})).await);
    let second = id(&stand.respond(json!({"previous_response_id": first})).await);
    let path = format!("/v1/responses/{first}");
    let deleted = stand
        .ask_as(None, Method::DELETE, &path, &Value::Null)
        .await;
    assert_eq!(
        deleted.json(),
        json!({"id": first, "object": "response", "deleted": true})
    );
    assert_eq!(stand.get(&path).await.status(), 404);
    let body = hi(json!({"previous_response_id": second}));
    let answer = stand.post("/v1/responses", &body).await;
    assert_eq!(refused(&answer).1, "previous_response_not_found");
    assert!(answer.text().contains(&first), "{}", answer.text());
}

#[tokio::test]
async fn input_items_are_listed_in_pages_newest_first() {
    let stand = Stand::new(StandIn::hello());
    let items: Vec<Value> = (0..5)
        .map(|number| json!({"role": "user", "content": number.to_string(), "id": format!("msg_{number}")}))
        .collect();
    let made = id(&stand.respond(json!({ "input": items })).await);
    let ids = |answer: Answer| -> (Vec<String>, bool) {
        let page = answer.json();
        let data = page["data"].as_array().expect("a list").iter();
        (data.map(id).collect(), page["has_more"] == true)
    };
    let path = format!("/v1/responses/{made}/input_items");
    let (all, more) = ids(stand.get(&path).await);
    assert_eq!(
        (all.join(" "), more),
        ("msg_4 msg_3 msg_2 msg_1 msg_0".to_owned(), false)
    );
    let part = stand.get(&format!("{path}?limit=2&after=msg_3")).await;
    assert_eq!(
        part.json()["data"][0]["content"][0],
        json!({"type": "input_text", "text": "2"})
    );
    let (part, more) = ids(part);
    assert_eq!((part.join(" "), more), ("msg_2 msg_1".to_owned(), true));
    let (first, _) = ids(stand.get(&format!("{path}?order=asc&limit=1&after=")).await);
    assert_eq!(first, ["msg_0"]);
    assert_eq!(
        refused(&stand.get(&format!("{path}?after=msg_9")).await).0,
        404
    );
    let wrong = stand.get(&format!("{path}?include[]=nothing")).await;
    assert_eq!(
        (wrong.status(), refused(&wrong).2.as_str()),
        (400, "include[0]")
    );
}

#[tokio::test]
async fn an_output_that_a_conversation_has_already_may_come_again() {
    let stand = Stand::new(StandIn::hello());
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let output =
        |text: &str| json!({"type": "function_call_output", "call_id": "c", "output": text});
    let user = json!({"role": "user", "content": "Hi"});
    let items = json!({"items": [user, call, output("4")]});
    let made = stand.post("/v1/conversations", &items).await.json();
    let again = |text: &str| {
        let input = json!([user, output(text)]);
        json!({"model": "m", "conversation": id(&made), "input": input})
    };
    let answer = stand.post("/v1/responses", &again("4")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let expected = [
        ("user", "Hi"),
        ("assistant", ""),
        ("tool", "4"),
        ("user", "Hi"),
    ];
    assert_eq!(stand.asked(), pairs(&expected));
    let answer = stand.post("/v1/responses", &again("5")).await;
    assert_eq!(refused(&answer).0, 400);
}

#[tokio::test]
async fn starting_after_has_no_effect_without_a_stream() {
    let stand = Stand::new(StandIn::hello());
    let response = stand.respond(json!({})).await;
    let path = format!(
        "/v1/responses/{}?stream=false&starting_after=0",
        id(&response)
    );
    assert_eq!(stand.get(&path).await.json(), response);
}

#[tokio::test]
async fn starting_after_leaves_out_every_number_up_to_the_largest() {
    let stand = Stand::new(StandIn::hello());
    let response = stand.respond(json!({})).await;
    let path = format!("/v1/responses/{}?stream=true", id(&response));
    let whole = stand.get(&path).await;
    let all = whole.text();
    let events: Vec<&str> = all.split_inclusive("\n\n").collect();
    for last in (0..=events.len()).chain([usize::MAX - 1, usize::MAX]) {
        let answer = stand.get(&format!("{path}&starting_after={last}")).await;
        assert_eq!(answer.status(), 200, "{last}");
        let rest = events.iter().skip(last.saturating_add(1));
        assert_eq!(answer.text(), rest.copied().collect::<String>(), "{last}");
    }
}

#[tokio::test]
async fn lenient_completes_what_a_request_lacks_and_drops_what_it_has_too_much() {
    let policy = Policy {
        strictness: Strictness::Lenient,
        ..Policy::default()
    };
    let stand = Stand::under(policy, StandIn::hello(), Keys::random());
    for body in [json!({}), json!({"model": null})] {
        let answer = stand.post("/v1/responses", &body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(answer.json()["model"], "m");
        assert_eq!(stand.asked(), pairs(&[("user", "")]));
    }
    let earlier = id(&stand.respond(json!({})).await);
    let made = stand.post("/v1/conversations", &json!({})).await.json();
    let conversation = id(&made);
    let both = json!({"model": "m", "conversation": conversation, "previous_response_id": earlier,
        "prompt": {"id": "pmpt_1"}, "input": "And now?"});
    let answer = stand.post("/v1/responses", &both).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(
        answer.header("x-loggia-ignored"),
        Some("prompt, previous_response_id")
    );
    assert_eq!(stand.asked(), pairs(&[("user", "And now?")]));
    let answer = stand.post("/v1/responses/compact", &json!({})).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());

    let stand = Stand::new(StandIn::hello());
    for (body, param) in [
        (json!({"input": "Hi"}), "model"),
        (json!({"model": "m"}), "input"),
        (hi(json!({"prompt": {"id": "pmpt_1"}})), "prompt"),
        (
            hi(json!({"conversation": "conv_1", "previous_response_id": "resp_1"})),
            "previous_response_id",
        ),
    ] {
        let answer = stand.post("/v1/responses", &body).await;
        assert_eq!(refused(&answer).0, 400);
        assert_eq!(answer.json()["error"]["param"], param);
    }
}

#[tokio::test]
async fn a_stored_response_can_be_read_as_a_stream() {
    let mut deltas = vec![
        json!({"reasoning_content": "Hm."}),
        json!({"content": "Hello"}),
    ];
    deltas.extend(call(0, "call_1", "add", &["{\"a\":1}"]));
    let stand = Stand::new(StandIn::says(&deltas, FinishReason::ToolCalls));
    for reasoning in [json!({}), json!({"summary": "auto"})] {
        let tools = json!([{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": false}]);
        let made = stand
            .respond(json!({"tools": tools, "reasoning": reasoning}))
            .await;
        assert_eq!(made["output"].as_array().map(Vec::len), Some(3));
        let stream = stand
            .get(&format!("/v1/responses/{}?stream=true", id(&made)))
            .await;
        assert_eq!(stream.header("content-type"), Some("text/event-stream"));
        assert_eq!(checked(stream.text()), made);
        let rest = stand
            .get(&format!(
                "/v1/responses/{}?stream=true&starting_after=3",
                id(&made)
            ))
            .await;
        assert!(stream.text().ends_with(rest.text()));
        assert!(rest.text().contains("\"sequence_number\":4"));
        assert!(!rest.text().contains("\"sequence_number\":3}"));
    }
}

/// A web page can make its own host name resolve to this machine.
#[tokio::test]
async fn without_a_key_no_page_of_a_stranger_reads_what_is_stored() {
    let stand = Stand::new(StandIn::hello());
    let made = id(&stand.respond(json!({})).await);
    let body = hi(json!({ "previous_response_id": made }));
    for (host, status) in [("localhost:8080", 200), ("page.example", 403)] {
        let request = Request::post("/v1/responses")
            .header("host", host)
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        assert_eq!(stand.door.serve(request).await.status(), status, "{host}");
    }
}

#[tokio::test]
async fn without_a_key_a_stranger_refers_to_no_stored_item_but_sends_items_with_ids() {
    let stand = Stand::new(StandIn::hello());
    let made = stand.respond(json!({})).await;
    let stored = &made["output"][0]["id"];
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"});
    let output =
        json!({"type": "function_call_output", "id": "fco_1", "call_id": "c", "output": "4"});
    for (input, status) in [
        (json!([{"type": "item_reference", "id": stored}]), 403),
        (json!([{"id": stored}]), 403),
        // A reference is one with any other field too.
        (
            json!([{"type": "item_reference", "id": stored, "role": "user"}]),
            403,
        ),
        (json!([call, output]), 200),
        (
            json!([{"type": "message", "id": "msg_1", "role": "user", "content": "Hi"}]),
            200,
        ),
    ] {
        let body = hi(json!({"input": input, "store": false}));
        let request = Request::post("/v1/responses")
            .header("host", "page.example")
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        assert_eq!(stand.door.serve(request).await.status(), status, "{input}");
    }
}

#[tokio::test]
async fn a_count_includes_what_a_request_brings_back_and_changes_nothing() {
    let stand = Stand::new(StandIn::hello());
    let count = async |body: Value| {
        let answer = stand.post("/v1/responses/input_tokens", &body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()["input_tokens"].as_u64().expect("a number")
    };
    let first = stand.respond(json!({"input": "one two three"})).await;
    let next = json!({"model": "m", "input": "four", "previous_response_id": first["id"]});
    // Four tokens for the first message, two for the answer, two for the next message.
    assert_eq!(count(next).await, 8);

    let items = json!([{"type": "message", "role": "user", "content": "a b"}]);
    let created = stand
        .post("/v1/conversations", &json!({ "items": items }))
        .await;
    let conversation = created.json()["id"].clone();
    let next = json!({"model": "m", "input": "c", "conversation": conversation, "store": true});
    assert_eq!(count(next.clone()).await, 5);
    assert_eq!(count(next).await, 5);
    let path = format!(
        "/v1/conversations/{}/items",
        conversation.as_str().expect("an id")
    );
    let kept = stand.get(&path).await.json();
    assert_eq!(kept["data"].as_array().expect("a list").len(), 1);
    let unknown = json!({"model": "m", "input": "c", "conversation": "conv_none"});
    let refused = stand.post("/v1/responses/input_tokens", &unknown).await;
    assert_eq!(refused.status(), 404);
}

#[tokio::test]
async fn what_was_brought_back_is_dropped_first_and_named_by_its_field() {
    let stand = Stand::new(StandIn::hello().with_context(1000));
    let long = "word ".repeat(700);
    let first = stand.respond(json!({ "input": long })).await;
    let next = json!({"model": "m", "input": "And now?", "previous_response_id": first["id"],
        "truncation": "auto", "max_output_tokens": 400});
    let answer = stand.post("/v1/responses", &next).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(
        answer.header("x-loggia-truncated"),
        Some("previous_response_id")
    );
    let asked = stand.engine.asked();
    let last = asked["messages"]
        .as_array()
        .expect("a list")
        .last()
        .cloned();
    assert_eq!(last, Some(json!({"role": "user", "content": "And now?"})));
    assert!(!asked.to_string().contains("word"), "{asked}");
    // The whole input is stored anyway.
    let path = format!(
        "/v1/responses/{}",
        answer.json()["id"].as_str().expect("an id")
    );
    assert_eq!(stand.get(&path).await.json()["truncation"], "auto");
    let third =
        json!({"model": "m", "input": "Go on.", "previous_response_id": answer.json()["id"]});
    let count = stand.post("/v1/responses/input_tokens", &third).await;
    assert!(count.json()["input_tokens"].as_u64().expect("a number") > 700);
}

#[tokio::test]
async fn a_conversation_that_is_deleted_during_a_turn_is_not_found() {
    for stream in [false, true] {
        let gate = Arc::new(Semaphore::new(0));
        let stand = Arc::new(Stand::new(StandIn::hello().behind(&gate)));
        let conversation = id(&stand.post("/v1/conversations", &json!({})).await.json());
        let body = hi(json!({ "conversation": conversation, "stream": stream }));
        let turn = {
            let stand = Arc::clone(&stand);
            tokio::spawn(async move { stand.post("/v1/responses", &body).await })
        };
        while stand.engine.came() == 0 {
            tokio::task::yield_now().await;
        }
        let path = format!("/v1/conversations/{conversation}");
        let deleted = stand.ask_as(None, Method::DELETE, &path, &Value::Null);
        assert_eq!(deleted.await.status(), 200);
        gate.add_permits(1);
        let answer = turn.await.expect("no panic");
        if stream {
            let last = answer.text().trim_end().rsplit("\n\n").next();
            let last = last.unwrap_or_default();
            assert!(last.starts_with("event: response.failed"), "{last}");
            assert!(
                last.contains(&format!("'{conversation}' not found")),
                "{last}"
            );
        } else {
            let (code, param) = ("conversation_not_found", "conversation");
            let expected = (404, code.to_owned(), param.to_owned());
            assert_eq!(refused(&answer), expected);
        }
    }
}

/// Returns whether an object is held, and its body.
pub(super) async fn kept(stand: &Stand, kind: Kind, id: &str) -> (bool, String) {
    let owner = &Owner::NOBODY;
    let object = stand.store.object(ObjectRef { owner, kind, id }).await;
    let object = object.expect("it exists");
    (object.is_held, object.body)
}

#[tokio::test]
async fn a_client_that_leaves_while_its_conversation_is_being_locked_leaves_no_lock() {
    let mut stand = Stand::new(StandIn::hello());
    let conversation = id(&stand.post("/v1/conversations", &json!({})).await.json());
    let late = FaultyStore::before(&mut stand);
    late.written.forget_permits(usize::MAX);
    let stand = Arc::new(stand);
    let body = hi(json!({ "conversation": conversation }));
    let turn = {
        let stand = Arc::clone(&stand);
        tokio::spawn(async move { stand.post("/v1/responses", &body).await })
    };
    while !kept(&stand, Kind::Conversation, &conversation).await.0 {
        tokio::task::yield_now().await;
    }
    turn.abort();
    assert!(turn.await.is_err_and(|error| error.is_cancelled()));
    late.written.add_permits(1000);
    let released = async {
        while kept(&stand, Kind::Conversation, &conversation).await.0 {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(5), released).await;
    in_time.expect("the lock is gone before its time runs out");
}
