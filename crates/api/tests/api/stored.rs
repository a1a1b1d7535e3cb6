//! Stored objects and their owners: chats with `store: true`, conversations and their items.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use loggia_api::store::{
    Change, ChunkSearch, Claimed, Count, Filter, FoundChunk, Item, Kind, Listed, Metadata, Object,
    ObjectRef, Owner, Page, Side, StoreError,
};
use loggia_api::{Caller, Door, MemoryStore, Policy, Store};
use loggia_backend::ollama::Ollama;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{Answer, Scripted, hello, plain_model, strict};

/// A door with a store, in front of a model that answers with a recording.
struct StoredDoor {
    door: Door,
    inner: Scripted,
}

impl StoredDoor {
    fn new(inner: Scripted, store: Arc<dyn Store>) -> Self {
        Self::with_policy(inner, store, Policy::default())
    }

    fn with_policy(inner: Scripted, store: Arc<dyn Store>, policy: Policy) -> Self {
        let backend = Arc::new(Ollama::new("ollama", inner.clone()));
        let door = Door::new(backend, policy).with_store(store);
        Self { door, inner }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        self.ask_as(None, method, path, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, body).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, Value::Null).await
    }

    async fn chat(&self, more: Value) -> Answer {
        self.post("/v1/chat/completions", hello(more)).await
    }

    async fn ask_as(&self, key: Option<&str>, method: Method, path: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
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
        let head = Response::from_parts(parts, ());
        Answer { head, body }
    }
}

/// A web page can make its own host name resolve to this machine, and its GET requests have no
/// origin.
#[tokio::test]
async fn without_a_key_stored_objects_are_not_served_under_a_host_name_of_a_stranger() {
    let door = StoredDoor::new(Scripted::default(), memory());
    let made = door.post("/v1/conversations", json!({})).await.json();
    let path = format!("/v1/conversations/{}", made["id"].as_str().expect("an id"));
    for (host, key, status) in [
        ("127.0.0.1:11435", None, 200),
        ("localhost", None, 200),
        ("gpu-box.local:80", None, 200),
        ("page.example", None, 403),
        ("page.example", Some("alice"), 404),
    ] {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = path.parse().expect("a path");
        let value = host.parse().expect("a header");
        request.headers_mut().insert(http::header::HOST, value);
        if let Some(name) = key {
            request.extensions_mut().insert(Caller {
                name: name.into(),
                strictness: None,
                models: None,
                may_delete_models: false,
                may_have_priority: false,
            });
        }
        let answer = door.door.serve(request).await;
        assert_eq!(answer.status(), status, "{host} {key:?}");
    }
}

fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let page = answer.json();
    let ids: Vec<String> = page["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(id)
        .collect();
    assert_eq!(page["object"], "list");
    let ends = (page["first_id"].as_str(), page["last_id"].as_str());
    let end = |id: Option<&String>| Some(id.map_or(String::new(), String::clone));
    let expected = (end(ids.first()), end(ids.last()));
    assert_eq!(ends, (expected.0.as_deref(), expected.1.as_deref()));
    ids
}

fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}

fn refused(answer: &Answer, status: u16, param: Option<&str>) -> Value {
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status(), error["param"].as_str()),
        (status, param),
        "{error}"
    );
    error
}

#[tokio::test]
async fn a_chat_with_store_is_retrieved_listed_changed_and_deleted() {
    let door = StoredDoor::new(plain_model(), memory());
    let answer = door
        .chat(json!({"store": true, "metadata": {"topic": "a b"}}))
        .await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, None)
    );
    let sent = door.inner.last_chat();
    assert!(
        sent.get("store").or(sent.get("metadata")).is_none(),
        "{sent}"
    );

    let mut expected = answer.json();
    let path = format!("/v1/chat/completions/{}", id(&expected));
    expected["metadata"] = json!({"topic": "a b"});
    let found = door.get(&path).await;
    assert_eq!((found.status(), found.json()), (200, expected.clone()));
    let listed = door.get("/v1/chat/completions").await.json();
    assert_eq!(
        (&listed["data"][0], &listed["has_more"]),
        (&expected, &json!(false))
    );

    let changed = door.post(&path, json!({"metadata": {"topic": "c"}})).await;
    expected["metadata"] = json!({"topic": "c"});
    assert_eq!((changed.status(), changed.json()), (200, expected.clone()));
    assert_eq!(door.get(&path).await.json(), expected);
    let cleared = door.post(&path, json!({"metadata": null})).await;
    assert_eq!(cleared.json()["metadata"], json!({}));

    let deleted = door.delete(&path).await;
    let gone = json!({"object": "chat.completion.deleted", "id": id(&expected), "deleted": true});
    assert_eq!((deleted.status(), deleted.json()), (200, gone));
    for answer in [
        door.get(&path).await,
        door.delete(&path).await,
        door.get(&format!("{path}/messages")).await,
        door.post(&path, json!({"metadata": {}})).await,
    ] {
        let error = refused(&answer, 404, None);
        let message = format!("Chat completion with id '{}' not found.", id(&expected));
        assert_eq!(
            (&error["message"], &error["type"]),
            (&json!(message), &json!("invalid_request_error"))
        );
    }
    assert!(ids(&door.get("/v1/chat/completions").await).is_empty());
}

#[tokio::test]
async fn a_stream_is_stored_as_the_whole_answer_would_be() {
    let door = StoredDoor::new(plain_model().recorded("chat/stream"), memory());
    let answer = door.chat(json!({"store": true, "stream": true})).await;
    assert_eq!(answer.events().last(), Some(&"[DONE]"));
    let chunks = answer.chunks();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    let found = door
        .get(&format!("/v1/chat/completions/{}", id(&chunks[0])))
        .await
        .json();
    assert!(!text.is_empty());
    assert_eq!(found["choices"][0]["message"]["content"], json!(text));
    assert_eq!(found["object"], "chat.completion");
    for field in ["id", "created", "model", "system_fingerprint"] {
        assert_eq!(found[field], chunks[0][field], "{field}");
    }
    assert!(found["usage"]["total_tokens"].as_u64() > Some(0));
}

#[tokio::test]
async fn nothing_is_stored_unless_the_client_asks_for_it() {
    let door = StoredDoor::new(plain_model(), memory());
    for more in [
        json!({}),
        json!({"store": false}),
        json!({"store": null}),
        json!({"store": false, "stream": true}),
    ] {
        assert_eq!(door.chat(more).await.status(), 200);
    }
    assert!(ids(&door.get("/v1/chat/completions").await).is_empty());
    // Without `store`, metadata has no effect.
    let labelled = door.chat(json!({"metadata": {"a": "b"}})).await;
    assert_eq!(labelled.header("x-loggia-ignored"), Some("metadata"));
}

#[tokio::test]
async fn messages_are_listed_as_the_client_sent_them() {
    let door = StoredDoor::new(plain_model(), memory());
    let image =
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
    let parts = json!([{"type": "text", "text": "What is it?"}, image]);
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts, "name": "alice"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
    ]);
    let answer = door
        .chat(json!({"store": true, "messages": messages}))
        .await;
    // The model cannot see, so the picture is replaced by a note.
    let ignored = answer.header("x-loggia-ignored").unwrap_or_default();
    assert!(ignored.contains("image_url"), "{ignored}");
    let completion = id(&answer.json());
    let path = format!("/v1/chat/completions/{completion}/messages");
    let listed = door.get(&path).await.json();
    let none = Value::Null;
    assert_eq!(
        listed["data"],
        json!([
            {"id": format!("{completion}-0"), "role": "system", "content": "Be brief.", "refusal": none, "content_parts": none},
            {"id": format!("{completion}-1"), "role": "user", "content": none, "refusal": none, "content_parts": parts, "name": "alice"},
            {"id": format!("{completion}-2"), "role": "assistant", "content": none, "refusal": none, "content_parts": none,
                "tool_calls": messages[2]["tool_calls"]},
            {"id": format!("{completion}-3"), "role": "tool", "content": "4", "refusal": none, "content_parts": none, "tool_call_id": "c"},
        ])
    );
    let part = door
        .get(&format!("{path}?limit=2&after={completion}-0&order=asc"))
        .await;
    assert_eq!(
        ids(&part),
        [format!("{completion}-1"), format!("{completion}-2")]
    );
    assert_eq!(part.json()["has_more"], true);
    let lost = door.get(&format!("{path}?after=lost")).await;
    assert_eq!(
        refused(&lost, 404, Some("after"))["message"],
        "Message with id 'lost' not found."
    );
}

#[tokio::test]
async fn lists_have_pages_an_order_and_filters() {
    let door = StoredDoor::new(plain_model(), memory());
    let mut stored = Vec::new();
    for topic in ["x", "y", "x y&z"] {
        let more = json!({"store": true, "metadata": {"the topic": topic}});
        stored.push(id(&door.chat(more).await.json()));
    }
    let list = async |query: &str| ids(&door.get(&format!("/v1/chat/completions{query}")).await);
    let reversed: Vec<String> = stored.iter().rev().cloned().collect();
    assert_eq!(list("").await, stored);
    assert_eq!(list("?after=&order=&limit=").await, stored);
    assert_eq!(list("?order=desc").await, reversed);
    assert_eq!(list("?limit=2").await, stored[..2]);
    assert_eq!(
        list(&format!("?limit=2&after={}", stored[1])).await,
        stored[2..]
    );
    assert_eq!(list("?limit=0").await, Vec::<String>::new());
    assert_eq!(list("?model=smollm2:135m").await, stored);
    assert_eq!(list("?model=other").await, Vec::<String>::new());
    assert_eq!(list("?metadata[the%20topic]=x").await, stored[..1]);
    assert_eq!(list("?metadata%5Bthe+topic%5D=x+y%26z").await, stored[2..]);
    for (query, param, code) in [
        ("?limit=-1", "limit", "integer_below_min_value"),
        ("?limit=101", "limit", "integer_above_max_value"),
        ("?limit=many", "limit", "invalid_type"),
        ("?order=up", "order", "invalid_value"),
    ] {
        let answer = door.get(&format!("/v1/chat/completions{query}")).await;
        assert_eq!(refused(&answer, 400, Some(param))["code"], code);
    }
    let answer = door.get("/v1/chat/completions?after=lost").await;
    refused(&answer, 404, Some("after"));
}

#[tokio::test]
async fn labels_are_within_openais_limits() {
    let door = StoredDoor::new(plain_model(), memory());
    let many: Value = (0..17)
        .map(|n| (n.to_string(), json!("")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let kept = door.chat(json!({"store": true})).await;
    let chat = format!("/v1/chat/completions/{}", id(&kept.json()));
    for (metadata, param) in [
        (many, "metadata"),
        (json!({"k".repeat(65): ""}), "metadata"),
        (json!({"k": "v".repeat(513)}), "metadata.k"),
        (json!({"k": 7}), "metadata.k"),
        (json!({"k": ["v"]}), "metadata.k"),
        (json!(7), "metadata"),
    ] {
        let body = json!({"metadata": metadata});
        let asked = door.inner.chats().len();
        refused(
            &door
                .chat(json!({"store": true, "metadata": metadata}))
                .await,
            400,
            Some(param),
        );
        assert_eq!(door.inner.chats().len(), asked, "no model is asked");
        refused(&door.post(&chat, body.clone()).await, 400, Some(param));
        refused(
            &door.post("/v1/conversations", body).await,
            400,
            Some(param),
        );
    }
    refused(&door.post(&chat, json!({})).await, 400, Some("metadata"));
}

#[tokio::test]
async fn each_key_sees_its_own_objects_only() {
    let door = StoredDoor::new(plain_model(), memory());
    let keys = [None, Some("alice"), Some("bob")];
    let mut paths = Vec::new();
    for key in keys {
        let body = hello(json!({"store": true}));
        let chat = door
            .ask_as(key, Method::POST, "/v1/chat/completions", body)
            .await;
        let items = json!({"items": [{"role": "user", "content": "Hi", "id": "msg_1"}]});
        let conversation = door
            .ask_as(key, Method::POST, "/v1/conversations", items)
            .await;
        paths.push((
            format!("/v1/chat/completions/{}", id(&chat.json())),
            format!("/v1/conversations/{}", id(&conversation.json())),
        ));
    }
    for (index, key) in keys.into_iter().enumerate() {
        let listed = door
            .ask_as(key, Method::GET, "/v1/chat/completions", Value::Null)
            .await;
        assert_eq!(ids(&listed).len(), 1);
        for (place, (chat, conversation)) in paths.iter().enumerate() {
            let expected = if place == index { 200 } else { 404 };
            for path in [
                chat.clone(),
                format!("{chat}/messages"),
                conversation.clone(),
                format!("{conversation}/items"),
                format!("{conversation}/items/msg_1"),
            ] {
                let found = door.ask_as(key, Method::GET, &path, Value::Null).await;
                assert_eq!(found.status(), expected, "{key:?} {path}");
            }
            if place != index {
                let item = json!({"items": [{"role": "user", "content": "x"}]});
                for (method, path, body) in [
                    (Method::DELETE, chat.clone(), Value::Null),
                    (Method::DELETE, conversation.clone(), Value::Null),
                    (
                        Method::DELETE,
                        format!("{conversation}/items/msg_1"),
                        Value::Null,
                    ),
                    (Method::POST, chat.clone(), json!({"metadata": {}})),
                    (Method::POST, conversation.clone(), json!({"metadata": {}})),
                    (Method::POST, format!("{conversation}/items"), item),
                ] {
                    let answer = door.ask_as(key, method, &path, body).await;
                    assert_eq!(answer.status(), 404, "{key:?} {path}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_conversation_is_created_read_changed_and_deleted() {
    let door = StoredDoor::new(plain_model(), memory());
    let created = door
        .post(
            "/v1/conversations",
            json!({"metadata": {"a": "b"}, "items": []}),
        )
        .await;
    let conversation = created.json();
    let path = format!("/v1/conversations/{}", id(&conversation));
    assert!(
        id(&conversation).starts_with("conv_") && conversation["created_at"].as_u64() > Some(0)
    );
    let fields = (&conversation["object"], &conversation["metadata"]);
    assert_eq!(fields, (&json!("conversation"), &json!({"a": "b"})));
    assert_eq!(door.get(&path).await.json(), conversation);
    let changed = door.post(&path, json!({"metadata": {}})).await.json();
    assert_eq!(changed["metadata"], json!({}));
    // The body is optional.
    assert_eq!(
        door.post("/v1/conversations", Value::Null).await.status(),
        200
    );
    let deleted = door.delete(&path).await.json();
    let gone = json!({"object": "conversation.deleted", "id": id(&conversation), "deleted": true});
    assert_eq!(deleted, gone);
    for answer in [
        door.get(&path).await,
        door.delete(&path).await,
        door.post(&path, json!({"metadata": {}})).await,
        door.get(&format!("{path}/items")).await,
        door.get(&format!("{path}/items/x")).await,
        door.delete(&format!("{path}/items/x")).await,
        door.post(&format!("{path}/items"), json!({"items": []}))
            .await,
    ] {
        let message = format!("Conversation with id '{}' not found.", id(&conversation));
        assert_eq!(refused(&answer, 404, None)["message"], json!(message));
    }
}

#[tokio::test]
async fn items_are_added_listed_and_deleted() {
    let door = StoredDoor::new(plain_model(), memory());
    let first = json!({"items": [{"role": "user", "content": "one"}]});
    let conversation = door.post("/v1/conversations", first).await.json();
    let path = format!("/v1/conversations/{}/items", id(&conversation));
    let more = json!({"items": [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_1"},
    ]});
    let added = door
        .post(
            &format!("{path}?include[]=message.output_text.logprobs"),
            more.clone(),
        )
        .await;
    let added_ids = ids(&added);
    assert_eq!((added_ids.len(), added_ids[1].as_str()), (2, "fc_1"));
    assert_eq!(added.json()["has_more"], false);

    let all = ids(&door.get(&format!("{path}?order=asc")).await);
    assert_eq!(all[1..], added_ids[..]);
    let newest_first: Vec<String> = all.iter().rev().cloned().collect();
    assert_eq!(
        ids(&door.get(&path).await),
        newest_first,
        "the default order"
    );
    let part = door
        .get(&format!(
            "{path}?limit=1&after=fc_1&include=reasoning.encrypted_content"
        ))
        .await;
    assert_eq!(ids(&part), [added_ids[0].clone()]);
    assert_eq!(part.json()["has_more"], true);

    let one = door.get(&format!("{path}/fc_1")).await.json();
    let call = json!({"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"});
    assert_eq!(one, call);
    let twice = door.post(&path, json!({"items": [more["items"][1]]})).await;
    assert!(
        refused(&twice, 400, Some("items"))["message"]
            .as_str()
            .is_some_and(|message| message.contains("fc_1"))
    );
    assert_eq!(
        door.delete(&format!("{path}/fc_1")).await.json(),
        conversation
    );
    let gone = door.get(&format!("{path}/fc_1")).await;
    assert_eq!(
        refused(&gone, 404, None)["message"],
        "Item with id 'fc_1' not found."
    );
    assert_eq!(ids(&door.get(&format!("{path}?order=asc")).await), all[..2]);

    refused(
        &door.get(&format!("{path}?include[]=banana")).await,
        400,
        Some("include[0]"),
    );
    refused(
        &door.get(&format!("{path}?after=lost")).await,
        404,
        Some("after"),
    );
    refused(&door.post(&path, json!({})).await, 400, Some("items"));
    refused(
        &door.post(&path, json!({"items": [{"role": "user"}]})).await,
        400,
        Some("items[0].content"),
    );
}

#[tokio::test]
async fn fields_that_openai_does_not_have_are_named_or_refused() {
    let body = json!({"metadata": {}, "colour": "red"});
    let door = StoredDoor::new(plain_model(), memory());
    let created = door.post("/v1/conversations", body.clone()).await;
    assert_eq!(
        (created.status(), created.header("x-loggia-ignored")),
        (200, Some("colour"))
    );
    let door = StoredDoor::with_policy(plain_model(), memory(), strict());
    refused(
        &door.post("/v1/conversations", body).await,
        400,
        Some("colour"),
    );
    let stored = door
        .chat(json!({"store": true, "metadata": {"a": "b"}}))
        .await;
    assert_eq!(
        stored.status(),
        200,
        "a door with a store honours both: {}",
        stored.text()
    );
}

#[tokio::test]
async fn without_a_store_there_are_no_such_routes_and_store_has_no_effect() {
    let inner = plain_model();
    let door = Door::new(
        Arc::new(Ollama::new("ollama", inner.clone())),
        Policy::default(),
    );
    let door = StoredDoor { door, inner };
    let answer = door
        .chat(json!({"store": true, "metadata": {"a": "b"}}))
        .await;
    assert_eq!(answer.header("x-loggia-ignored"), Some("metadata, store"));
    let list = door.get("/v1/chat/completions").await;
    assert_eq!((list.status(), list.header("allow")), (405, Some("POST")));
    for path in [
        "/v1/conversations",
        "/v1/conversations/conv_1/items",
        "/v1/chat/completions/x/messages",
    ] {
        let answer = door.get(path).await;
        assert_eq!(refused(&answer, 404, None)["code"], "unknown_url");
    }
}

/// A store that waits before it stores, or that does not work at all.
struct FailingStore {
    inner: MemoryStore,
    ready: Result<(), StoreError>,
    create: Result<(), StoreError>,
    gate: Semaphore,
}

impl FailingStore {
    fn new(ready: Result<(), StoreError>, create: Result<(), StoreError>) -> Arc<Self> {
        let inner = MemoryStore::new();
        let gate = Semaphore::new(1000);
        Arc::new(Self {
            inner,
            ready,
            create,
            gate,
        })
    }
}

fn down() -> StoreError {
    StoreError::Unavailable {
        cause: "secret cause".to_owned(),
    }
}

impl Store for FailingStore {
    fn claim<'a>(
        &'a self,
        kind: Kind,
        holder: &'a str,
        time: Duration,
    ) -> BoxFuture<'a, Result<Option<Claimed>, StoreError>> {
        self.inner.claim(kind, holder, time)
    }

    fn content_bytes<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.inner.content_bytes(owner)
    }

    fn counts<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Count>, StoreError>> {
        self.inner.counts(owner, kind, filter, name)
    }

    fn search<'a>(
        &'a self,
        at: ObjectRef<'a>,
        search: &'a ChunkSearch,
    ) -> BoxFuture<'a, Result<Vec<FoundChunk>, StoreError>> {
        self.inner.search(at, search)
    }

    fn existing<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        self.inner.existing(ids)
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { self.ready.clone() })
    }

    fn object<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>> {
        self.inner.object(at)
    }

    fn object_with_items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
    ) -> BoxFuture<'a, Result<(Object, Vec<Item>), StoreError>> {
        self.inner.object_with_items(at, side)
    }

    fn objects<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Object>, StoreError>> {
        Box::pin(async move {
            self.ready.clone()?;
            self.inner.objects(owner, kind, filter, page).await
        })
    }

    fn set_metadata<'a>(
        &'a self,
        _: ObjectRef<'a>,
        _: Metadata,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async { Err(down()) })
    }

    fn delete<'a>(&'a self, _: ObjectRef<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Err(down()) })
    }

    fn write<'a>(
        &'a self,
        owner: &'a Owner,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            if !matches!(changes.first(), Some(Change::Create { .. })) {
                return Err(StoreError::Full);
            }
            self.gate.acquire().await.expect("open").forget();
            self.create.clone()?;
            self.inner.write(owner, changes).await
        })
    }

    fn items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Item>, StoreError>> {
        self.inner.items(at, side, page)
    }

    fn chain<'a>(&'a self, _: ObjectRef<'a>) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        Box::pin(async { Err(down()) })
    }

    fn find_items<'a>(
        &'a self,
        _: &'a Owner,
        _: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        Box::pin(async { Err(down()) })
    }

    fn item<'a>(&'a self, _: ObjectRef<'a>, _: &'a str) -> BoxFuture<'a, Result<Item, StoreError>> {
        Box::pin(async { Err(down()) })
    }

    fn delete_item<'a>(
        &'a self,
        _: ObjectRef<'a>,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async { Err(down()) })
    }
}

/// Asserts a 503 that tells the client when to retry, and does not show the cause.
fn unavailable(answer: &Answer, code: &str) {
    let error = refused(answer, 503, None);
    assert_eq!(
        (&error["code"], &error["type"]),
        (&json!(code), &json!("server_error"))
    );
    assert!(answer.header("retry-after").is_some() && !answer.text().contains("secret"));
}

#[tokio::test]
async fn a_store_that_does_not_work_is_a_503_before_any_model_is_asked() {
    let door = StoredDoor::new(plain_model(), FailingStore::new(Err(down()), Ok(())));
    for stream in [false, true] {
        unavailable(
            &door.chat(json!({"store": true, "stream": stream})).await,
            "store_unavailable",
        );
    }
    assert!(door.inner.chats().is_empty());
    assert_eq!(
        door.chat(json!({})).await.status(),
        200,
        "whoever stores nothing is served"
    );
    unavailable(&door.get("/v1/chat/completions").await, "store_unavailable");
    let body = json!({"metadata": {}});
    unavailable(
        &door.post("/v1/conversations/c", body).await,
        "store_unavailable",
    );
    unavailable(
        &door.delete("/v1/conversations/c").await,
        "store_unavailable",
    );
    unavailable(
        &door.get("/v1/conversations/c/items/i").await,
        "store_unavailable",
    );
    unavailable(
        &door.delete("/v1/conversations/c/items/i").await,
        "store_unavailable",
    );
    unavailable(
        &door
            .post("/v1/conversations/c/items", json!({"items": []}))
            .await,
        "store_full",
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_an_error_and_never_a_silent_loss() {
    for (error, code) in [
        (down(), "store_unavailable"),
        (StoreError::Full, "store_full"),
    ] {
        let failing = || FailingStore::new(Ok(()), Err(error.clone()));
        let door = StoredDoor::new(plain_model(), failing());
        unavailable(&door.chat(json!({"store": true})).await, code);
        unavailable(&door.post("/v1/conversations", json!({})).await, code);
        let door = StoredDoor::new(plain_model().recorded("chat/stream"), failing());
        let answer = door.chat(json!({"store": true, "stream": true})).await;
        let (last, before) = answer
            .chunks()
            .split_last()
            .map(|(last, rest)| (last.clone(), rest.to_vec()))
            .expect("events");
        assert_eq!(last["error"]["code"], json!(code), "the last event");
        assert!(
            before
                .iter()
                .any(|chunk| chunk["choices"][0]["finish_reason"] == "stop")
        );
        assert!(!answer.text().contains("[DONE]") && !answer.text().contains("secret"));
        assert!(ids(&door.get("/v1/chat/completions").await).is_empty());
    }
}

#[tokio::test]
async fn the_text_of_a_stream_leaves_before_it_is_stored_and_its_last_event_after() {
    let store = FailingStore::new(Ok(()), Ok(()));
    store.gate.forget_permits(1000);
    let door = StoredDoor::new(plain_model().recorded("chat/stream"), store.clone());
    let body = hello(json!({"store": true, "stream": true})).to_string();
    let request = Request::post("/v1/chat/completions").body(Full::new(Bytes::from(body)));
    let response = door.door.serve(request.expect("a request")).await;
    let mut frames = response.into_body().into_data_stream();
    let mut text = String::new();
    while let Some(Some(Ok(frame))) = frames.next().now_or_never() {
        text.push_str(std::str::from_utf8(&frame).expect("UTF-8"));
    }
    assert!(
        text.contains(r#""finish_reason":"stop""#) && !text.contains("[DONE]"),
        "{text}"
    );
    assert!(ids(&door.get("/v1/chat/completions").await).is_empty());
    store.gate.add_permits(1);
    let rest = frames.next().await.expect("an event").expect("an event");
    assert_eq!(&rest[..], b"data: [DONE]\n\n");
    assert!(frames.next().await.is_none());
    assert_eq!(ids(&door.get("/v1/chat/completions").await).len(), 1);
}

#[tokio::test]
async fn an_answer_that_was_cut_short_is_not_stored() {
    let line = json!({"message": {"content": "half"}, "done": false}).to_string() + "\n";
    let line = line + r#"{"error": "the runner has stopped"}"# + "\n";
    for stream in [false, true] {
        let inner = plain_model().on("/api/chat", 200, [line.clone()]);
        let door = StoredDoor::new(inner, memory());
        let answer = door.chat(json!({"store": true, "stream": stream})).await;
        assert!(answer.text().contains(r#""error""#), "{}", answer.text());
        assert!(ids(&door.get("/v1/chat/completions").await).is_empty());
    }
}

#[tokio::test]
async fn a_response_that_cannot_be_stored_is_an_error() {
    let ask = json!({"model": "m", "input": "Hi"});
    for (error, code) in [
        (down(), "store_unavailable"),
        (StoreError::Full, "store_full"),
    ] {
        let stand = StoredDoor::new(plain_model(), FailingStore::new(Ok(()), Err(error)));
        unavailable(&stand.post("/v1/responses", ask.clone()).await, code);
        let mut streamed = ask.clone();
        streamed["stream"] = json!(true);
        let stream = stand.post("/v1/responses", streamed).await;
        assert_eq!(stream.status(), 200);
        let last = stream.text().trim_end().rsplit("\n\n").next();
        let last = last.expect("an event");
        assert!(last.starts_with("event: response.failed"), "{last}");
        assert!(last.contains("server_error") && !last.contains("secret"));
        assert!(!stream.text().contains("response.completed"));
        let mut unstored = ask.clone();
        unstored["store"] = json!(false);
        assert_eq!(stand.post("/v1/responses", unstored).await.status(), 200);
    }
}
