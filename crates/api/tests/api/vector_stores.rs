//! Vector stores: files in, chunks and search results out.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use loggia_api::store::{Change, Kind, ObjectRef, Owner};
use loggia_api::{Caller, Door, FileLimits, MemoryBlobs, MemoryStore, Policy, Store};
use loggia_backend::{
    Abilities, Ability, AbilitySet, Backend, BackendError, Call, Chunk, EmbeddingCall, Embeddings,
    Event, Reply, ServedBy, Work,
};
use loggia_wire::openai::{ChunkChoice, FinishReason, Model, OnePrompt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::documents::Reader;
use crate::responses::stand_in::{call, delta};
use crate::responses::state_machine::checked;

/// Computes vectors from words: texts with the same words are similar.
struct Words {
    /// The maximum number of words of an input.
    context: AtomicUsize,
    is_away: AtomicBool,
    /// How many calls there were.
    calls: AtomicUsize,
    /// The answers to chats, in their order.
    answers: Mutex<VecDeque<Result<Vec<Event>, BackendError>>>,
    /// The chats, as JSON.
    chats: Mutex<Vec<Value>>,
}

/// The length of the vectors. Words share numbers, but not those of these tests.
const DIMENSIONS: usize = 997;

impl Words {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            context: AtomicUsize::new(usize::MAX),
            is_away: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            answers: Mutex::default(),
            chats: Mutex::default(),
        })
    }

    fn vectors(&self, call: &EmbeddingCall) -> Result<Embeddings, BackendError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.is_away.load(Ordering::Relaxed) {
            return Err(BackendError::Busy { retry_after: None });
        }
        let (mut vectors, mut prompt_tokens) = (Vec::new(), 0);
        for (index, one) in call.work.input.each().enumerate() {
            let OnePrompt::Text(text) = one else {
                panic!("a text");
            };
            let lower = text.to_lowercase();
            let words: Vec<&str> = lower.split(|one: char| !one.is_alphanumeric()).collect();
            let most = self.context.load(Ordering::Relaxed);
            if words.len() > most {
                return Err(BackendError::InputTooLong {
                    index: Some(index),
                    tokens: Some(words.len() as u64),
                    most: Some(most as u64),
                });
            }
            prompt_tokens += words.len() as u64;
            let mut vector = vec![0.0; DIMENSIONS];
            for word in words.iter().filter(|word| !word.is_empty()) {
                let hash = word.bytes().fold(7_usize, |hash, byte| {
                    hash.wrapping_mul(31).wrapping_add(usize::from(byte))
                });
                vector[hash % DIMENSIONS] += 1.0;
            }
            vectors.push(vector);
        }
        Ok(Embeddings {
            served_by: ServedBy::new("words", "words"),
            vectors,
            prompt_tokens,
        })
    }
}

impl Backend for Words {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let can = AbilitySet::of(&[Ability::Tools, Ability::ToolChoice]);
        let abilities = Abilities {
            can,
            ..Abilities::default()
        };
        Box::pin(async { Ok(Arc::new(abilities)) })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let Work::Chat(chat) = &call.work else {
            panic!("a chat");
        };
        let chat = serde_json::to_value(&**chat).expect("JSON");
        self.chats.lock().expect("no panic").push(chat);
        let answer = self.answers.lock().expect("no panic").pop_front();
        let reply = answer.expect("an answer").map(|events| Reply {
            served_by: ServedBy::new("words", "words"),
            events: stream::iter(events.into_iter().map(Ok)).boxed(),
        });
        Box::pin(async move { reply })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async {
            Ok(vec![
                Model::new("words", 0, "tests"),
                Model::new("chat", 0, "tests"),
            ])
        })
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move { self.vectors(&call) })
    }
}

struct VectorDoor {
    door: Door,
    words: Arc<Words>,
    store: Arc<MemoryStore>,
}

impl VectorDoor {
    fn new() -> Self {
        Self::with(Policy {
            embedding_model: Some("words".to_owned()),
            ..Policy::default()
        })
    }

    fn with(policy: Policy) -> Self {
        let (words, store) = (Words::new(), Arc::new(MemoryStore::new()));
        let door = Door::new(words.clone(), policy)
            .with_store(store.clone())
            .with_blobs(Arc::new(MemoryBlobs::default()))
            .with_documents(Arc::new(Reader::default()));
        Self { door, words, store }
    }

    fn work(&self) -> JoinHandle<()> {
        tokio::spawn(self.door.clone().work_on_vector_stores())
    }

    async fn send(&self, key: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path");
        self.answer(key, request).await
    }

    async fn answer(&self, key: &str, mut request: Request<Full<Bytes>>) -> (u16, Value) {
        request.extensions_mut().insert(Caller {
            name: key.into(),
            strictness: None,
            // The model of the vectors is not among those that the key may use.
            models: Some(["chat".parse().expect("a pattern")].into()),
            may_delete_models: false,
            may_have_priority: false,
        });
        let answer = self.door.serve(request).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body");
        (
            status,
            serde_json::from_slice(&body.to_bytes()).expect("JSON"),
        )
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send("a", Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.send("a", Method::POST, path, body).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn refused(&self, path: &str, body: Value) -> (u16, Value) {
        let (status, body) = self.send("a", Method::POST, path, body).await;
        (status, body["error"].clone())
    }

    async fn file_of(&self, key: &str, name: &str, content: &[u8]) -> String {
        let head = format!(
            "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n\
            --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n"
        );
        let form = [head.as_bytes(), content, b"\r\n--x--\r\n"].concat();
        let request = Request::post("/v1/files")
            .header("content-type", "multipart/form-data; boundary=x")
            .body(Full::new(Bytes::from(form)))
            .expect("a request");
        let (status, file) = self.answer(key, request).await;
        assert_eq!(status, 200, "{file}");
        file["id"].as_str().expect("an id").to_owned()
    }

    async fn file(&self, name: &str, text: &str) -> String {
        self.file_of("a", name, text.as_bytes()).await
    }

    /// Creates a vector store with files.
    async fn vector_store(&self, files: &[&str]) -> String {
        let store = self
            .post("/v1/vector_stores", json!({"file_ids": files}))
            .await;
        store["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until no file of a vector store is being read, and returns it.
    async fn settled(&self, id: &str) -> Value {
        loop {
            let store = self.get(&format!("/v1/vector_stores/{id}")).await;
            if store["status"] != "in_progress" {
                return store;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn search(&self, id: &str, body: Value) -> Value {
        self.post(&format!("/v1/vector_stores/{id}/search"), body)
            .await
    }

    async fn found(&self, id: &str, body: Value) -> Vec<String> {
        names(&self.search(id, body).await)
    }
}

/// The names of the files of results.
fn names(page: &Value) -> Vec<String> {
    let results = page["data"].as_array().expect("results").iter();
    let name = |result: &Value| result["filename"].as_str().expect("a name").to_owned();
    results.map(name).collect()
}

fn without_times(mut value: Value) -> Value {
    for name in ["id", "created_at", "last_active_at"] {
        assert!(
            value
                .as_object_mut()
                .expect("an object")
                .remove(name)
                .is_some()
        );
    }
    value
}

#[tokio::test]
async fn a_vector_store_is_created_changed_listed_and_deleted() {
    let door = VectorDoor::new();
    let body = json!({"name": "papers", "description": "of 2026", "metadata": {"a": "b"},
        "expires_after": {"anchor": "last_active_at", "days": 7}});
    let created = door.post("/v1/vector_stores", body).await;
    let id = created["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("vs_"));
    let expires = created["last_active_at"].as_u64().expect("a time") + 7 * 24 * 3600;
    let counts = json!({"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0});
    let expected = json!({"object": "vector_store", "name": "papers", "description": "of 2026",
        "usage_bytes": 0, "file_counts": counts, "status": "completed", "metadata": {"a": "b"},
        "expires_after": {"anchor": "last_active_at", "days": 7}, "expires_at": expires});
    assert_eq!(without_times(created.clone()), expected);
    let path = format!("/v1/vector_stores/{id}");
    assert_eq!(door.get(&path).await, created);
    let changed = door
        .post(&path, json!({"name": "books", "metadata": {"c": "d"}}))
        .await;
    assert_eq!(
        (&changed["name"], &changed["metadata"]),
        (&json!("books"), &json!({"c": "d"}))
    );
    assert_eq!(changed["expires_after"]["days"], 7);
    let changed = door.post(&path, json!({"expires_after": null})).await;
    assert_eq!(
        (&changed["expires_at"], &changed["name"]),
        (&Value::Null, &json!("books"))
    );
    let second = door.vector_store(&[]).await;
    let third = door.vector_store(&[]).await;
    let ids = async |query: &str| {
        let list = door.get(&format!("/v1/vector_stores{query}")).await;
        let stores = list["data"].as_array().expect("a list").iter();
        let ids: Vec<String> = stores
            .map(|one| one["id"].as_str().expect("an id").to_owned())
            .collect();
        (ids, list["has_more"] == true)
    };
    let [id, second, third] = [&id, &second, &third].map(String::clone);
    assert_eq!(
        ids("").await,
        (vec![third.clone(), second.clone(), id.clone()], false)
    );
    assert_eq!(ids("?limit=1").await, (vec![third.clone()], true));
    assert_eq!(
        ids(&format!("?after={third}&limit=1")).await,
        (vec![second.clone()], true)
    );
    assert_eq!(
        ids(&format!("?before={id}&limit=1")).await,
        (vec![second.clone()], true)
    );
    assert_eq!(
        ids(&format!("?before={id}&order=desc")).await.0,
        [third.clone(), second.clone()]
    );
    assert_eq!(ids("?order=asc").await.0, [id.clone(), second, third]);
    let (status, deleted) = door.send("a", Method::DELETE, &path, Value::Null).await;
    let expected = json!({"id": id, "object": "vector_store.deleted", "deleted": true});
    assert_eq!((status, deleted), (200, expected));
    assert_eq!(door.send("a", Method::GET, &path, Value::Null).await.0, 404);
    assert_eq!(ids("").await.0.len(), 2);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a file from its upload to its end")]
async fn files_are_read_in_the_background_and_their_chunks_are_found() {
    let door = VectorDoor::new();
    let cats = door
        .file("cats.txt", "Cats purr and sleep in the sun.")
        .await;
    let page =
        "<html><body><h1>Dogs</h1><script>cats</script><p>Dogs bark &amp; run.</p></body></html>";
    let dogs = door.file("dogs.html", page).await;
    let picture = door.file_of("a", "a.png", b"\x89PNG\r\n\x1a\n\x00").await;
    let empty = door.file("empty.txt", " \n ").await;
    let id = door
        .vector_store(&[&cats, &dogs, &picture, &empty, &cats])
        .await;
    let path = format!("/v1/vector_stores/{id}");
    let begun = door.get(&path).await;
    assert_eq!(
        (&begun["status"], &begun["file_counts"]["in_progress"]),
        (&json!("in_progress"), &json!(4))
    );
    assert_eq!(door.found(&id, json!({"query": "cats"})).await, [""; 0]);
    let _work = door.work();
    let ended = door.settled(&id).await;
    let counts = json!({"in_progress": 0, "completed": 2, "failed": 2, "cancelled": 0, "total": 4});
    assert_eq!(
        (&ended["status"], &ended["file_counts"]),
        (&json!("completed"), &counts)
    );
    let file = door.get(&format!("{path}/files/{cats}")).await;
    let sizes = json!({"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}});
    let usage = 31 + DIMENSIONS * 4;
    let created = file["created_at"].clone();
    assert_eq!(
        file,
        json!({"id": cats, "object": "vector_store.file", "usage_bytes": usage,
        "created_at": created, "vector_store_id": id, "status": "completed", "last_error": null,
        "chunking_strategy": sizes, "attributes": {}})
    );
    assert!(ended["usage_bytes"].as_u64() > Some(usage as u64));
    for (file, code) in [(&picture, "unsupported_file"), (&empty, "invalid_file")] {
        let failed = door.get(&format!("{path}/files/{file}")).await;
        assert_eq!(
            (&failed["status"], &failed["last_error"]["code"]),
            (&json!("failed"), &json!(code))
        );
        assert!(failed["last_error"]["message"].is_string());
    }
    let content = door.get(&format!("{path}/files/{dogs}/content")).await;
    let text = "\nDogs\nDogs bark & run.\n";
    assert_eq!(
        content,
        json!({"object": "vector_store.file_content.page", "has_more": false,
        "next_page": null, "data": [{"type": "text", "text": text}]})
    );
    let page = door.search(&id, json!({"query": "cats that purr"})).await;
    let first = page["data"][0].clone();
    let score = first["score"].as_f64().expect("a score");
    assert!(0.3 < score && score < 1.0, "{score}");
    assert_eq!(
        first,
        json!({"file_id": cats, "filename": "cats.txt", "score": score,
        "attributes": {}, "content": [{"type": "text", "text": "Cats purr and sleep in the sun."}]})
    );
    assert_eq!(page["object"], "vector_store.search_results.page");
    assert_eq!(page["search_query"], json!(["cats that purr"]));
    assert_eq!(
        door.found(
            &id,
            json!({"query": ["barking dogs"], "max_num_results": 1})
        )
        .await,
        ["dogs.html"]
    );
    let both = door.found(&id, json!({"query": ["cats", "dogs"]})).await;
    assert_eq!(both.len(), 2);
    let strict =
        json!({"query": "cats", "ranking_options": {"ranker": "none", "score_threshold": 0.2}});
    assert_eq!(door.found(&id, strict).await, ["cats.txt"]);
    let listed = async |filter: &str| {
        let list = door
            .get(&format!("{path}/files?filter={filter}&order=asc"))
            .await;
        list["data"].as_array().expect("a list").len()
    };
    assert_eq!(
        (
            listed("completed").await,
            listed("failed").await,
            listed("in_progress").await
        ),
        (2, 2, 0)
    );
    let list = door
        .get(&format!("{path}/files?order=asc&limit=1&after={cats}"))
        .await;
    assert_eq!(
        (&list["data"][0]["id"], &list["has_more"]),
        (&json!(dogs), &json!(true))
    );
    // A file leaves the vector store, and the file itself stays.
    let file = format!("{path}/files/{cats}");
    let (status, deleted) = door.send("a", Method::DELETE, &file, Value::Null).await;
    assert_eq!(
        (status, deleted),
        (
            200,
            json!({"id": cats, "object": "vector_store.file.deleted", "deleted": true})
        )
    );
    assert_eq!(
        door.found(&id, json!({"query": "cats"})).await,
        ["dogs.html"]
    );
    door.get(&format!("/v1/files/{cats}")).await;
    // A deleted file is removed from its vector stores.
    let file = format!("/v1/files/{dogs}");
    assert_eq!(
        door.send("a", Method::DELETE, &file, Value::Null).await.0,
        200
    );
    assert_eq!(door.found(&id, json!({"query": "dogs"})).await, [""; 0]);
}

#[tokio::test]
async fn pdfs_are_found_by_their_text() {
    let door = VectorDoor::new();
    let read = door.file("a.pdf", "%PDF-1.7 whales sing").await;
    let scan = door.file("b.pdf", "%PDF-1.3").await;
    let id = door.vector_store(&[&read, &scan]).await;
    let _work = door.work();
    door.settled(&id).await;
    assert_eq!(door.found(&id, json!({"query": "whales"})).await, ["a.pdf"]);
    let path = format!("{}/files", path_of(&id));
    let content = door.get(&format!("{path}/{read}/content")).await;
    assert_eq!(content["data"][0]["text"], "whales sing");
    let failed = door.get(&format!("{path}/{scan}")).await;
    let error =
        json!({"code": "unsupported_file", "message": "The PDF cannot be read: it is damaged."});
    assert_eq!(
        (&failed["status"], &failed["last_error"]),
        (&json!("failed"), &error)
    );
}

#[tokio::test]
async fn attributes_select_files() {
    let door = VectorDoor::new();
    let id = door.vector_store(&[]).await;
    let path = format!("/v1/vector_stores/{id}/files");
    let _work = door.work();
    for (name, year, open) in [("old.txt", 2001, true), ("new.txt", 2024, false)] {
        let file = door.file(name, "the same text about cats").await;
        let body = json!({"file_id": file, "attributes": {"year": year, "open": open}});
        let added = door.post(&path, body).await;
        assert_eq!(added["attributes"], json!({"year": year, "open": open}));
    }
    door.settled(&id).await;
    let found = async |filters: Value| {
        let found = door
            .search(&id, json!({"query": "cats", "filters": filters}))
            .await;
        names(&found)
    };
    let new = json!({"type": "gte", "key": "year", "value": 2020});
    let open = json!({"type": "eq", "key": "open", "value": true});
    assert_eq!(found(new.clone()).await, ["new.txt"]);
    assert_eq!(found(open.clone()).await, ["old.txt"]);
    assert_eq!(
        found(json!({"type": "and", "filters": [new, open]})).await,
        [""; 0]
    );
    assert_eq!(
        found(json!({"type": "or", "filters": [new, open]}))
            .await
            .len(),
        2
    );
    assert_eq!(
        found(json!({"type": "in", "key": "year", "value": [2001, 2002]})).await,
        ["old.txt"]
    );
    let list = door.get(&path).await;
    let file = list["data"][0]["id"].as_str().expect("an id");
    let changed = door
        .post(
            &format!("{path}/{file}"),
            json!({"attributes": {"year": 1999}}),
        )
        .await;
    assert_eq!(
        (&changed["attributes"], &changed["status"]),
        (&json!({"year": 1999}), &json!("completed"))
    );
    assert_eq!(
        found(json!({"type": "lt", "key": "year", "value": 2000})).await,
        ["new.txt"]
    );
    let page = door
        .search(
            &id,
            json!({"query": "cats", "filters": {"type": "eq", "key": "year", "value": 1999}}),
        )
        .await;
    assert_eq!(page["data"][0]["attributes"], json!({"year": 1999}));
}

#[tokio::test]
async fn batches_add_files_together_and_can_be_cancelled() {
    let door = VectorDoor::new();
    let id = door.vector_store(&[]).await;
    let path = format!("/v1/vector_stores/{id}/file_batches");
    let one = door.file("one.txt", "one cat").await;
    let two = door.file("two.txt", "two dogs").await;
    let body = json!({"file_ids": [one, two], "attributes": {"a": 1}});
    let batch = door.post(&path, body).await;
    let batch_id = batch["id"].as_str().expect("an id");
    let counts = json!({"in_progress": 2, "completed": 0, "failed": 0, "cancelled": 0, "total": 2});
    assert_eq!(
        batch,
        json!({"id": batch_id, "object": "vector_store.file_batch",
        "created_at": batch["created_at"], "vector_store_id": id, "status": "in_progress",
        "file_counts": counts})
    );
    let cancelled = door
        .post(&format!("{path}/{batch_id}/cancel"), Value::Null)
        .await;
    let counts = json!({"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 2, "total": 2});
    assert_eq!(
        (&cancelled["status"], &cancelled["file_counts"]),
        (&json!("cancelled"), &counts)
    );
    let work = door.work();
    let body = json!({"files": [{"file_id": one, "attributes": {"b": 2}},
        {"file_id": two, "chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}}}]});
    let second = door.post(&path, body).await;
    let second_id = second["id"].as_str().expect("an id");
    door.settled(&id).await;
    let done = door.get(&format!("{path}/{second_id}")).await;
    assert_eq!(
        (&done["status"], &done["file_counts"]["completed"]),
        (&json!("completed"), &json!(2))
    );
    let files = door
        .get(&format!("{path}/{second_id}/files?order=asc"))
        .await;
    assert_eq!(files["data"][0]["attributes"], json!({"b": 2}));
    assert_eq!(
        files["data"][1]["chunking_strategy"]["static"]["chunk_overlap_tokens"],
        10
    );
    // The files are those of the second batch now.
    let files = door.get(&format!("{path}/{batch_id}/files")).await;
    assert_eq!(files["data"], json!([]));
    assert_eq!(door.found(&id, json!({"query": "cat"})).await[0], "one.txt");
    work.abort();
    let other = door.vector_store(&[]).await;
    let elsewhere = format!("/v1/vector_stores/{other}/file_batches/{second_id}");
    assert_eq!(
        door.send("a", Method::GET, &elsewhere, Value::Null).await.0,
        404
    );
}

#[tokio::test]
async fn every_key_sees_only_its_own() {
    let door = VectorDoor::new();
    let file = door.file("a.txt", "mine").await;
    let id = door.vector_store(&[&file]).await;
    let batch = json!({"file_ids": [file]});
    let batch = door
        .post(&format!("/v1/vector_stores/{id}/file_batches"), batch)
        .await;
    let batch = batch["id"].as_str().expect("an id");
    let foreign = door.file_of("b", "b.txt", b"theirs").await;
    let path = format!("/v1/vector_stores/{id}");
    for (method, path, body) in [
        (Method::GET, path.clone(), Value::Null),
        (Method::POST, path.clone(), json!({"name": "x"})),
        (Method::DELETE, path.clone(), Value::Null),
        (
            Method::POST,
            format!("{path}/search"),
            json!({"query": "mine"}),
        ),
        (
            Method::POST,
            format!("{path}/files"),
            json!({"file_id": foreign}),
        ),
        (Method::GET, format!("{path}/files"), Value::Null),
        (Method::GET, format!("{path}/files/{file}"), Value::Null),
        (
            Method::POST,
            format!("{path}/files/{file}"),
            json!({"attributes": {}}),
        ),
        (Method::DELETE, format!("{path}/files/{file}"), Value::Null),
        (
            Method::GET,
            format!("{path}/files/{file}/content"),
            Value::Null,
        ),
        (
            Method::POST,
            format!("{path}/file_batches"),
            json!({"file_ids": [foreign]}),
        ),
        (
            Method::GET,
            format!("{path}/file_batches/{batch}"),
            Value::Null,
        ),
        (
            Method::POST,
            format!("{path}/file_batches/{batch}/cancel"),
            Value::Null,
        ),
        (
            Method::GET,
            format!("{path}/file_batches/{batch}/files"),
            Value::Null,
        ),
    ] {
        let (status, error) = door.send("b", method.clone(), &path, body).await;
        assert_eq!(status, 404, "{method} {path}: {error}");
    }
    let (_, list) = door
        .send("b", Method::GET, "/v1/vector_stores", Value::Null)
        .await;
    assert_eq!(list["data"], json!([]));
    let (status, error) = door
        .refused(&format!("{path}/files"), json!({"file_id": foreign}))
        .await;
    assert_eq!((status, &error["param"]), (404, &json!("file_id")));
    let (status, error) = door
        .refused("/v1/vector_stores", json!({"file_ids": [file, foreign]}))
        .await;
    assert_eq!((status, &error["param"]), (404, &json!("file_ids[1]")));
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn what_is_wrong_is_refused_with_its_place() {
    let door = VectorDoor::new();
    let file = door.file("a.txt", "text").await;
    let id = door.vector_store(&[]).await;
    let path = format!("/v1/vector_stores/{id}");
    let strategy = |most: i64, overlap: i64| json!({"type": "static", "static": {"max_chunk_size_tokens": most, "chunk_overlap_tokens": overlap}});
    let many: serde_json::Map<_, _> = (0..17).map(|one| (one.to_string(), json!(1))).collect();
    for (path, body, param) in [
        (
            "",
            json!({"expires_after": {"anchor": "created_at", "days": 1}}),
            "expires_after.anchor",
        ),
        (
            "",
            json!({"expires_after": {"anchor": "last_active_at", "days": 366}}),
            "expires_after.days",
        ),
        ("", json!({"name": "x".repeat(257)}), "name"),
        (
            "",
            json!({"chunking_strategy": strategy(50, 0)}),
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        ("", json!({"metadata": {"a": 1}}), "metadata.a"),
        ("/files", json!({}), "file_id"),
        (
            "/files",
            json!({"file_id": file, "attributes": {"a": [1]}}),
            "attributes.a",
        ),
        (
            "/files",
            json!({"file_id": file, "attributes": {"a": "x".repeat(513)}}),
            "attributes.a",
        ),
        (
            "/files",
            json!({"file_id": file, "attributes": many}),
            "attributes",
        ),
        (
            "/files",
            json!({"file_id": file, "chunking_strategy": strategy(100, 51)}),
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        (
            "/files",
            json!({"file_id": file, "chunking_strategy": {"type": "other"}}),
            "chunking_strategy.type",
        ),
        ("/file_batches", json!({}), "file_ids"),
        (
            "/file_batches",
            json!({"file_ids": [], "files": []}),
            "files",
        ),
        (
            "/file_batches",
            json!({"files": [{"file_id": file, "attributes": {"a": null}}]}),
            "files[0].attributes.a",
        ),
        (
            "/file_batches",
            json!({"file_ids": vec![file.clone(); 2001]}),
            "file_ids",
        ),
        ("/search", json!({}), "query"),
        ("/search", json!({"query": " "}), "query"),
        ("/search", json!({"query": []}), "query"),
        (
            "/search",
            json!({"query": "a", "max_num_results": 51}),
            "max_num_results",
        ),
        (
            "/search",
            json!({"query": "a", "filters": {"type": "like"}}),
            "filters.type",
        ),
        (
            "/search",
            json!({"query": "a", "ranking_options": {"ranker": "best"}}),
            "ranking_options.ranker",
        ),
        (
            "/search",
            json!({"query": "a", "ranking_options": {"score_threshold": 2}}),
            "ranking_options.score_threshold",
        ),
        (
            "/search",
            json!({"query": "a", "ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}}),
            "ranking_options.hybrid_search",
        ),
    ] {
        let path = if path.is_empty() {
            "/v1/vector_stores".to_owned()
        } else {
            [&path_of(&id), path].concat()
        };
        let (status, error) = door.refused(&path, body).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{error}");
    }
    let (status, _) = door
        .send(
            "a",
            Method::GET,
            &format!("{path}/files?filter=done"),
            Value::Null,
        )
        .await;
    assert_eq!(status, 400);
    // Without an embedding model, the error names the setting.
    let without = VectorDoor::with(Policy::default());
    let (status, error) = without.refused("/v1/vector_stores", json!({})).await;
    assert_eq!(
        (status, &error["code"]),
        (400, &json!("embedding_model_missing"))
    );
    assert!(
        error["message"]
            .as_str()
            .expect("a message")
            .contains("`embedding_model`")
    );
}

fn path_of(id: &str) -> String {
    format!("/v1/vector_stores/{id}")
}

#[tokio::test]
async fn a_long_text_is_divided_and_read_in_pieces_if_the_model_cannot_read_a_chunk() {
    let door = VectorDoor::new();
    door.words.context.store(60, Ordering::Relaxed);
    let words: Vec<String> = (0..3000).map(|one| format!("w{one}")).collect();
    let text = words.join(" ") + " the needle is at the end";
    let file = door.file("long.txt", &text).await;
    let id = door.vector_store(&[&file]).await;
    let _work = door.work();
    let ended = door.settled(&id).await;
    assert_eq!(ended["file_counts"]["completed"], 1, "{ended}");
    let page = door.search(&id, json!({"query": "needle"})).await;
    let text = page["data"][0]["content"][0]["text"]
        .as_str()
        .expect("a text");
    assert!(text.ends_with("the needle is at the end"));
    assert!(page["data"].as_array().expect("results").len() > 3);
    let long: Vec<String> = (0..500).map(|one| format!("word{one}")).collect();
    let long = long.join(" ");
    assert_eq!(
        door.search(&id, json!({"query": long})).await["object"],
        "vector_store.search_results.page"
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_vector_store_waits_for_another_one() {
    let door = VectorDoor::new();
    let id = door.vector_store(&[]).await;
    let path = format!("/v1/vector_stores/{id}");
    let owner = Owner::new(Some("a".into()));
    let kind = Kind::VectorStore;
    let hold = |holder: &str| Change::Hold {
        kind,
        id: id.clone(),
        holder: holder.to_owned(),
        time: Duration::from_mins(5),
    };
    let release = || Change::Release {
        kind,
        id: id.clone(),
        holder: None,
    };
    let write = async |change| door.store.write(&owner, vec![change]).await;
    for (method, body) in [
        (Method::POST, json!({"name": "later"})),
        (Method::DELETE, Value::Null),
    ] {
        assert_eq!(write(hold("other")).await, Ok(()));
        let mut waiting = pin!(door.send("a", method.clone(), &path, body.clone()));
        let waited = tokio::time::timeout(Duration::from_secs(2), &mut waiting).await;
        assert!(waited.is_err(), "{method} does not wait");
        assert_eq!(write(release()).await, Ok(()));
        let (status, answer) = waiting.await;
        assert_eq!(status, 200, "{answer}");
        if method == Method::POST {
            // Not for ever.
            assert_eq!(write(hold("other")).await, Ok(()));
            let (status, answer) = door.send("a", method, &path, body).await;
            assert_eq!(status, 409, "{answer}");
            assert_eq!(write(release()).await, Ok(()));
        }
    }
    // Neither a change nor a use brings back what was deleted.
    let (status, _) = door
        .send("a", Method::POST, &path, json!({"name": "x"}))
        .await;
    assert_eq!(status, 404);
    assert_eq!(door.send("a", Method::GET, &path, Value::Null).await.0, 404);
    assert_eq!(
        write(hold("next")).await,
        Ok(()),
        "nothing holds it any more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_a_killed_server_left_is_read_by_the_next() {
    let door = VectorDoor::new();
    let file = door.file("a.txt", "text of a killed server").await;
    let id = door.vector_store(&[&file]).await;
    // A stopped worker leaves a hold and a part of the chunks.
    let claimed = door
        .store
        .claim(Kind::VectorStoreFile, "killed", Duration::from_mins(1))
        .await;
    let claimed = claimed.expect("an answer").expect("a file");
    let part = Change::Chunks {
        id: claimed.object.id,
        store: id.clone(),
        first: 0,
        chunks: Vec::new(),
        is_last: false,
    };
    door.store
        .write(&claimed.owner, vec![part])
        .await
        .expect("stored");
    let _work = door.work();
    let ended = door.settled(&id).await;
    assert_eq!(ended["file_counts"]["completed"], 1);
    assert_eq!(door.found(&id, json!({"query": "killed"})).await, ["a.txt"]);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_away_is_waited_for_but_not_for_ever() {
    let door = VectorDoor::new();
    door.words.is_away.store(true, Ordering::Relaxed);
    let file = door.file("a.txt", "text").await;
    let id = door.vector_store(&[&file]).await;
    // The times at which a file is tried again are those of the wall.
    let again = async || {
        let object = format!("{id}/{file}");
        let due = Change::Schedule {
            kind: Kind::VectorStoreFile,
            id: object,
            due: Some(0),
            content: FileLimits::OVERHEAD,
        };
        door.store
            .write(&Owner::new(Some("a".into())), vec![due])
            .await
    };
    let work = door.work();
    let calls = |least: usize| {
        let words = &door.words;
        async move {
            while words.calls.load(Ordering::Relaxed) < least {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    calls(1).await;
    assert_eq!(door.get(&path_of(&id)).await["status"], "in_progress");
    door.words.is_away.store(false, Ordering::Relaxed);
    again().await.expect("stored");
    assert_eq!(door.settled(&id).await["file_counts"]["completed"], 1);
    work.abort();
    door.words.is_away.store(true, Ordering::Relaxed);
    door.post(&format!("{}/files", path_of(&id)), json!({"file_id": file}))
        .await;
    let _work = door.work();
    for _ in 0..8 {
        let before = door.words.calls.load(Ordering::Relaxed);
        let _ = again().await;
        if door.get(&path_of(&id)).await["status"] != "in_progress" {
            break;
        }
        calls(before + 1).await;
    }
    let failed = door.get(&format!("{}/files/{file}", path_of(&id))).await;
    assert_eq!(
        (&failed["status"], &failed["last_error"]["code"]),
        (&json!("failed"), &json!("server_error"))
    );
}

#[tokio::test]
async fn deleted_vector_stores_leave_with_their_files() {
    let door = VectorDoor::new();
    let file = door.file("a.txt", "text").await;
    let id = door.vector_store(&[&file]).await;
    let work = door.work();
    door.settled(&id).await;
    door.send("a", Method::DELETE, &path_of(&id), Value::Null)
        .await;
    let owner = Owner::new(Some("a".into()));
    let object = format!("{id}/{file}");
    for (kind, id) in [(Kind::VectorStore, &id), (Kind::VectorStoreFile, &object)] {
        let at = ObjectRef {
            owner: &owner,
            kind,
            id,
        };
        while door.store.object(at).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    work.abort();
    // Only the bytes of the file itself are left.
    let bytes = door.store.content_bytes(&owner).await.expect("a number");
    assert_eq!(bytes, FileLimits::OVERHEAD + 4);
}

#[tokio::test]
async fn the_limit_of_a_key_holds_for_chunks_too() {
    let door = VectorDoor::with(Policy {
        embedding_model: Some("words".to_owned()),
        files: FileLimits {
            key_bytes: 14_000,
            ..FileLimits::default()
        },
        ..Policy::default()
    });
    let file = door.file("a.txt", "text").await;
    let id = door.vector_store(&[]).await;
    door.post(&format!("{}/files", path_of(&id)), json!({"file_id": file}))
        .await;
    let _work = door.work();
    let ended = door.settled(&id).await;
    assert_eq!(ended["file_counts"]["failed"], 1);
    let failed = door.get(&format!("{}/files/{file}", path_of(&id))).await;
    assert_eq!(failed["last_error"]["code"], "server_error");
    let message = failed["last_error"]["message"].as_str().expect("a message");
    assert!(message.contains("14000 bytes"), "{message}");
}

/// The events of an answer that searches files.
fn searches(arguments: &str) -> Vec<Event> {
    says(
        &call(0, "call_1", "file_search", &[arguments]),
        FinishReason::ToolCalls,
    )
}

/// The events of an answer with this text, in pieces.
fn writes(pieces: &[&str]) -> Vec<Event> {
    let pieces: Vec<Value> = pieces
        .iter()
        .map(|piece| json!({"content": piece}))
        .collect();
    says(&pieces, FinishReason::Stop)
}

fn says(deltas: &[Value], reason: FinishReason) -> Vec<Event> {
    let end = Event::Chunk(Chunk::of(ChunkChoice::finish(0, reason)));
    deltas.iter().map(delta).chain([end]).collect()
}

impl VectorDoor {
    /// Returns a door with a vector store that has two files.
    async fn with_cats_and_dogs() -> (Self, String, [String; 2]) {
        let door = Self::new();
        let cats = door.file("cats.txt", "Cats purr in the sun.").await;
        let dogs = door.file("dogs.txt", "Dogs bark at night.").await;
        let id = door.vector_store(&[]).await;
        let _work = door.work();
        for (file, legs) in [(&cats, 4), (&dogs, 5)] {
            let body = json!({"file_id": file, "attributes": {"legs": legs}});
            door.post(&format!("{}/files", path_of(&id)), body).await;
        }
        door.settled(&id).await;
        (door, id, [cats, dogs])
    }

    fn answers(&self, answers: Vec<Vec<Event>>) {
        let answers = answers.into_iter().map(Ok).collect();
        *self.words.answers.lock().expect("no panic") = answers;
        self.words.chats.lock().expect("no panic").clear();
    }

    /// Inserts a failure among the answers.
    fn fails_at(&self, index: usize, error: BackendError) {
        let mut answers = self.words.answers.lock().expect("no panic");
        answers.insert(index, Err(error));
    }

    /// The text of the last tool result that the model received.
    fn told(&self) -> String {
        let chats = self.words.chats.lock().expect("no panic");
        let messages = chats.last().expect("a chat")["messages"]
            .as_array()
            .expect("a list");
        let last = messages.last().expect("a message");
        assert_eq!(last["role"], "tool");
        last["content"].as_str().expect("a text").to_owned()
    }

    /// Makes a response, whole and streamed, and returns it with the events of the stream.
    async fn responds(&self, body: &Value) -> (Value, String) {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let mut request = Request::post("/v1/responses")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        request.extensions_mut().insert(Caller {
            name: "a".into(),
            strictness: None,
            models: Some(["chat".parse().expect("a pattern")].into()),
            may_delete_models: false,
            may_have_priority: false,
        });
        let answer = self.door.serve(request).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers().get("x-loggia-ignored"), None);
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("a text");
        (checked(&text), text)
    }
}

#[tokio::test]
async fn file_search_is_run_for_the_model_and_its_citations_become_annotations() {
    let (door, id, [cats, _]) = VectorDoor::with_cats_and_dogs().await;
    let body = json!({"model": "chat", "input": "What do cats do?",
        "include": ["file_search_call.results"],
        "tools": [{"type": "file_search", "vector_store_ids": [id], "max_num_results": 2}]});
    let script = || {
        vec![
            searches(r#"{"queries": ["cats", " what cats do "]}"#),
            writes(&["They purr", ".【", "1】 In the sun【1†x】【9】 [1]", "."]),
        ]
    };
    door.answers(script());
    let (response, events) = door.responds(&body).await;
    door.answers(script());
    let whole = door.post("/v1/responses", body.clone()).await;
    for response in [&response, &whole] {
        let [search, message] = response["output"].as_array().expect("a list").as_slice() else {
            panic!("two items: {response}");
        };
        assert!(search["id"].as_str().expect("an id").starts_with("fs_"));
        assert_eq!(
            (&search["type"], &search["status"], &search["queries"]),
            (
                &json!("file_search_call"),
                &json!("completed"),
                &json!(["cats", "what cats do"])
            )
        );
        let result = &search["results"][0];
        assert_eq!(
            (
                &result["file_id"],
                &result["filename"],
                &result["text"],
                &result["attributes"]
            ),
            (
                &json!(cats),
                &json!("cats.txt"),
                &json!("Cats purr in the sun."),
                &json!({"legs": 4})
            )
        );
        let citation = |index: usize| json!({"type": "file_citation", "file_id": cats, "filename": "cats.txt", "index": index});
        let part = &message["content"][0];
        assert_eq!(part["text"], "They purr. In the sun [1].");
        assert_eq!(part["annotations"], json!([citation(10), citation(21)]));
    }
    for event in [
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_text.annotation.added",
    ] {
        assert!(events.contains(&format!("event: {event}\n")), "{event}");
    }
    assert!(!events.contains('【'));
    let told = door.told();
    assert!(
        told.starts_with("【1】 cats.txt:\nCats purr in the sun.\n\n【2】 dogs.txt:\n"),
        "{told}"
    );
    // Results are shown only if the client asks for them; the next turn does not need them.
    door.answers(vec![searches("{\"query\": \"dogs\"}"), writes(&["Bark."])]);
    let mut quiet = body;
    quiet.as_object_mut().expect("an object").remove("include");
    quiet["input"] = json!([{"role": "user", "content": "Hi"}, response["output"][0],
        response["output"][1], {"role": "user", "content": "And dogs?"}]);
    let (response, _) = door.responds(&quiet).await;
    let search = &response["output"][0];
    assert_eq!(
        (&search["queries"], &search["results"]),
        (&json!(["dogs"]), &Value::Null)
    );
    assert_eq!(
        response["output"][1]["content"][0]["annotations"],
        json!([])
    );
}

#[tokio::test]
async fn file_search_has_filters_and_its_results_are_shortened_for_a_small_context() {
    let (door, id, [_, dogs]) = VectorDoor::with_cats_and_dogs().await;
    let tool = json!({"type": "file_search", "vector_store_ids": [id],
        "filters": {"type": "gt", "key": "legs", "value": 4}});
    let body = json!({"model": "chat", "input": "Hi", "tools": [tool], "tool_choice": {"type": "file_search"},
        "include": ["file_search_call.results"]});
    door.answers(vec![searches(r#"{"queries": ["cats"]}"#), writes(&["Hm."])]);
    let (response, _) = door.responds(&body).await;
    let results = response["output"][0]["results"]
        .as_array()
        .expect("results");
    assert_eq!((results.len(), &results[0]["file_id"]), (1, &json!(dogs)));
    // The choice is for the first answer only.
    let chats = door.words.chats.lock().expect("no panic").clone();
    assert_eq!(chats[0]["tool_choice"]["function"]["name"], "file_search");
    assert_eq!(chats[1].get("tool_choice"), None);
    let too_long = BackendError::ContextLengthExceeded {
        prompt_tokens: None,
        context: None,
    };
    let body = json!({"model": "chat", "input": "Hi",
        "tools": [{"type": "file_search", "vector_store_ids": [id]}]});
    door.answers(vec![
        searches(r#"{"queries": ["cats"]}"#),
        writes(&["One."]),
    ]);
    door.fails_at(1, too_long);
    let (response, _) = door.responds(&body).await;
    assert_eq!(response["output"][1]["content"][0]["text"], "One.");
    let told = door.told();
    assert!(
        told.contains("cats.txt") && !told.contains("dogs.txt"),
        "{told}"
    );
    // A call without a query fails, and the model continues.
    door.answers(vec![searches("{}"), writes(&["Sorry."])]);
    let (response, _) = door.responds(&body).await;
    assert_eq!(response["output"][0]["status"], "failed");
    assert!(door.told().starts_with("The search failed: "));
}

#[tokio::test]
async fn file_search_refuses_what_it_cannot_search() {
    let (door, id, _) = VectorDoor::with_cats_and_dogs().await;
    let tool = |more: Value| {
        let mut tool = json!({"type": "file_search", "vector_store_ids": [id]});
        tool.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("fields").clone());
        json!({"model": "chat", "input": "Hi", "tools": [tool]})
    };
    let (status, error) = door
        .send("b", Method::POST, "/v1/responses", tool(json!({})))
        .await;
    let param = &error["error"]["param"];
    assert_eq!(
        (status, param),
        (404, &json!("tools[0].vector_store_ids[0]"))
    );
    for (more, param) in [
        (json!({"vector_store_ids": null}), "vector_store_ids"),
        (json!({"vector_store_ids": []}), "vector_store_ids"),
        (json!({"vector_store_ids": "vs_1"}), "vector_store_ids"),
        (json!({"max_num_results": 51}), "max_num_results"),
        (json!({"filters": {"type": "like"}}), "filters.type"),
        (
            json!({"ranking_options": {"score_threshold": -1}}),
            "ranking_options.score_threshold",
        ),
    ] {
        let (status, error) = door.refused("/v1/responses", tool(more)).await;
        assert_eq!(
            (status, &error["param"]),
            (400, &json!(format!("tools[0].{param}"))),
            "{error}"
        );
    }
}
