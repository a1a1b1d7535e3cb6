//! Files and uploads: forms in, objects and contents out.

mod anthropic;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use loggia_api::store::blobs::in_pages;
use loggia_api::store::{Change, Kind, Owner};
use loggia_api::{
    Blobs as _, Caller, Door, FileLimits, MemoryBlobs, MemoryStore, Policy, Store, Strictness,
};
use loggia_backend::ollama::Ollama;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::support::{Answer, Scripted, plain_model};

const BOUNDARY: &str = "x-loggia-boundary";

/// A door with files, and the store of their contents.
struct FileDoor {
    door: Door,
    store: Arc<MemoryStore>,
    blobs: Arc<MemoryBlobs>,
}

impl FileDoor {
    fn new() -> Self {
        Self::with_policy(Policy::default())
    }

    fn limited(file_bytes: u64, key_bytes: u64) -> Self {
        Self::with_policy(Policy {
            files: FileLimits {
                file_bytes,
                key_bytes,
                part_bytes: 1000,
            },
            ..Policy::default()
        })
    }

    fn with_policy(policy: Policy) -> Self {
        Self::before(Scripted::default(), policy)
    }

    fn before(inner: Scripted, policy: Policy) -> Self {
        let backend = Arc::new(Ollama::new("ollama", inner));
        let (store, blobs) = (
            Arc::new(MemoryStore::new()),
            Arc::new(MemoryBlobs::default()),
        );
        let door = Door::new(backend, policy)
            .with_store(store.clone())
            .with_blobs(blobs.clone());
        Self { door, store, blobs }
    }

    async fn send<B>(&self, key: Option<&str>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let mut request = request;
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

    async fn form(&self, path: &str, fields: &[(&str, Option<&str>, &[u8])]) -> Answer {
        self.send(None, posted(path, form(fields))).await
    }

    async fn file(&self, content: &[u8], purpose: &str) -> Answer {
        let purpose = ("purpose", None, purpose.as_bytes());
        self.form("/v1/files", &[purpose, ("file", Some("a.txt"), content)])
            .await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().expect("a path");
        self.send(None, request).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(None, Method::GET, path, &[]).await
    }

    async fn ask(
        &self,
        key: Option<&str>,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Answer {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("a path");
        for (name, value) in headers {
            let value = value.parse().expect("a header");
            request.headers_mut().insert(*name, value);
        }
        self.send(key, request).await
    }

    async fn upload(&self, bytes: u64) -> String {
        let asked = json!({"bytes": bytes, "filename": "big.txt", "mime_type": "text/plain", "purpose": "user_data"});
        id(&self.post("/v1/uploads", asked).await.json())
    }

    async fn part(&self, upload: &str, content: &[u8]) -> String {
        let path = format!("/v1/uploads/{upload}/parts");
        let answer = self.form(&path, &[("data", Some("blob"), content)]).await;
        let part = answer.json();
        assert_eq!(
            (&part["object"], &part["upload_id"]),
            (&json!("upload.part"), &json!(upload)),
            "{part}"
        );
        id(&part)
    }
}

fn form(fields: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, file, content) in fields {
        form.extend(
            format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"").bytes(),
        );
        if let Some(file) = file {
            form.extend(format!("; filename=\"{file}\"").bytes());
        }
        form.extend(b"\r\n\r\n");
        form.extend(*content);
        form.extend(b"\r\n");
    }
    form.extend(format!("--{BOUNDARY}--\r\n").bytes());
    form
}

fn posted(path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    posted_body(path, Full::new(body.into()))
}

fn posted_body<B>(path: &str, body: B) -> Request<B> {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    Request::post(path)
        .header("content-type", kind)
        .body(body)
        .expect("a request")
}

fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}

fn refused(answer: &Answer, status: u16, param: Option<&str>) {
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status(), error["param"].as_str()),
        (status, param),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_is_stored_listed_read_and_deleted() {
    let door = FileDoor::new();
    let made = door.file(b"some text", "user_data").await;
    let file = made.json();
    let created = file["created_at"].as_u64().expect("a time");
    assert_eq!(made.status(), 200);
    let id = id(&file);
    assert!(id.starts_with("file-"), "{id}");
    assert_eq!(
        file,
        json!({"id": id, "object": "file", "bytes": 9, "created_at": created, "expires_at": null, "filename": "a.txt",
            "purpose": "user_data", "status": "processed", "status_details": null})
    );
    let path = format!("/v1/files/{id}");
    assert_eq!(door.get(&path).await.json(), file);
    let listed = door.get("/v1/files").await.json();
    assert_eq!(
        listed,
        json!({"object": "list", "data": [file], "first_id": id, "last_id": id, "has_more": false})
    );
    let content = door.get(&format!("{path}/content")).await;
    assert_eq!(content.text(), "some text");
    assert_eq!(
        content.header("content-disposition"),
        Some("attachment; filename=\"a.txt\"")
    );
    assert_eq!(content.header("content-length"), Some("9"));
    let deleted = door.ask(None, Method::DELETE, &path, &[]).await;
    assert_eq!(
        deleted.json(),
        json!({"object": "file", "id": id, "deleted": true})
    );
    for path in [path.clone(), format!("{path}/content")] {
        let gone = door.get(&path).await;
        refused(&gone, 404, Some("id"));
        assert_eq!(
            gone.json()["error"]["message"],
            format!("No such File object: {id}")
        );
    }
    assert!(door.blobs.places().is_empty());
}

#[tokio::test]
async fn the_fields_of_a_form_may_come_in_any_order_and_its_content_may_be_anything() {
    let door = FileDoor::new();
    let (most_of_it, _) = BOUNDARY.split_at(BOUNDARY.len() - 1);
    let content = format!("a\r\n--{most_of_it}\r\n\r\r\n-{BOUNDARY}\0é\r");
    // Every way to cut the form into two frames, and every byte alone.
    let whole = form(&[
        ("file", Some("é \\ ../../etc/passwd"), content.as_bytes()),
        ("expires_after[seconds]", None, b"3600"),
        ("expires_after[anchor]", None, b"created_at"),
        ("purpose", None, b"batch"),
    ]);
    let cuts = (0..=whole.len()).map(|cut| vec![whole[..cut].to_vec(), whole[cut..].to_vec()]);
    let single = whole.iter().map(|byte| vec![*byte]).collect();
    for frames in cuts.chain([single]) {
        let frames = Frames::new(frames, Arc::default());
        let answer = door.send(None, posted_body("/v1/files", frames)).await;
        let file = answer.json();
        assert_eq!(
            (&file["filename"], &file["bytes"]),
            (&json!("passwd"), &json!(content.len())),
            "{file}"
        );
        let lasts = file["expires_at"].as_u64().zip(file["created_at"].as_u64());
        assert_eq!(lasts.map(|(until, from)| until - from), Some(3600));
        let path = format!("/v1/files/{}/content", id(&file));
        assert_eq!(door.get(&path).await.body, content.as_bytes());
    }
}

#[tokio::test]
async fn files_for_batches_last_thirty_days_and_others_for_ever() {
    let door = FileDoor::new();
    for (purpose, seconds) in [
        ("batch", Some(30 * 24 * 3600)),
        ("assistants", None),
        ("fine-tune", None),
        ("vision", None),
        ("user_data", None),
        ("evals", None),
    ] {
        let file = door.file(b"x", purpose).await.json();
        let created = file["created_at"].as_u64().expect("a time");
        let lasts = file["expires_at"].as_u64().map(|until| until - created);
        assert_eq!((lasts, &file["purpose"]), (seconds, &json!(purpose)));
    }
}

#[tokio::test]
async fn a_form_that_is_refused_leaves_nothing() {
    let door = FileDoor::new();
    let file: (&str, Option<&str>, &[u8]) = ("file", Some("a"), b"x");
    let purpose: (&str, Option<&str>, &[u8]) = ("purpose", None, b"batch");
    let anchor: (&str, Option<&str>, &[u8]) = ("expires_after[anchor]", None, b"created_at");
    let cases: &[(&[_], &str)] = &[
        (&[file], "purpose"),
        (&[purpose], "file"),
        (&[file, ("purpose", None, b"nothing")], "purpose"),
        (&[file, purpose, purpose], "purpose"),
        (&[file, file, purpose], "file"),
        (&[file, purpose, anchor], "expires_after.seconds"),
        (
            &[file, purpose, ("expires_after[seconds]", None, b"3600")],
            "expires_after.anchor",
        ),
        (
            &[
                file,
                purpose,
                anchor,
                ("expires_after[seconds]", None, b"3599"),
            ],
            "expires_after.seconds",
        ),
        (
            &[
                file,
                purpose,
                anchor,
                ("expires_after[seconds]", None, b"x"),
            ],
            "expires_after.seconds",
        ),
        (&[file, ("purpose", None, &[b'x'; 5000])], "purpose"),
    ];
    for (fields, param) in cases {
        refused(&door.form("/v1/files", fields).await, 400, Some(param));
    }
    let mut cut = form(&[purpose, file]);
    cut.truncate(cut.len() - 10);
    refused(&door.send(None, posted("/v1/files", cut)).await, 400, None);
    let json = door.post("/v1/files", json!({})).await;
    assert_eq!(json.status(), 415);
    assert!(door.blobs.places().is_empty());
    assert_eq!(door.get("/v1/files").await.json()["data"], json!([]));
    assert_eq!(door.store.content_bytes(&Owner::NOBODY).await, Ok(0));
}

#[tokio::test]
async fn an_unknown_field_is_listed_or_refused_in_strict_mode() {
    let fields: &[(&str, Option<&str>, &[u8])] = &[
        ("file", Some("a"), b"x"),
        ("purpose", None, b"batch"),
        ("color", None, b"red"),
    ];
    let answer = FileDoor::new().form("/v1/files", fields).await;
    assert_eq!(
        (answer.status(), answer.header("x-loggia-ignored")),
        (200, Some("color"))
    );
    let strict = FileDoor::with_policy(Policy {
        strictness: Strictness::Strict,
        ..Policy::default()
    });
    refused(&strict.form("/v1/files", fields).await, 400, Some("color"));
    assert!(strict.blobs.places().is_empty());
}

#[tokio::test]
async fn a_file_above_its_limit_gets_a_413_before_it_was_read_whole() {
    let door = FileDoor::limited(100_000, 1 << 30);
    let purpose: (&str, Option<&str>, &[u8]) = ("purpose", None, b"batch");
    let fits = vec![b'x'; 100_000];
    let answer = door
        .form("/v1/files", &[("file", Some("a"), &fits), purpose])
        .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());

    // The head of the request announces a body that is too long.
    let mut request = posted("/v1/files", Vec::new());
    let length = "100000000".parse().expect("a header");
    request.headers_mut().insert("content-length", length);
    refused(&door.send(None, request).await, 413, Some("file"));

    let mut frames = vec![form(&[purpose, ("file", Some("a"), b"")])];
    let head = frames[0].len() - BOUNDARY.len() - 8;
    frames[0].truncate(head);
    frames.extend(std::iter::repeat_n(vec![b'x'; 10_000], 1000));
    let read = Arc::new(AtomicUsize::new(0));
    let body = Frames::new(frames, Arc::clone(&read));
    let answer = door.send(None, posted_body("/v1/files", body)).await;
    refused(&answer, 413, Some("file"));
    assert!(read.load(Ordering::Relaxed) < 20, "{read:?} frames read");
    assert_eq!(door.blobs.places().len(), 1);
}

#[tokio::test]
async fn the_head_of_a_field_is_bounded() {
    let door = FileDoor::new();
    let mut frames = vec![format!("--{BOUNDARY}\r\nx-header: ").into_bytes()];
    frames.extend(std::iter::repeat_n(vec![b'x'; 10_000], 1000));
    let read = Arc::new(AtomicUsize::new(0));
    let body = Frames::new(frames, Arc::clone(&read));
    let answer = door.send(None, posted_body("/v1/files", body)).await;
    refused(&answer, 400, None);
    let message = answer.text();
    assert!(
        message.contains("the head of a field is too long"),
        "{message}"
    );
    assert!(read.load(Ordering::Relaxed) < 10, "{read:?} frames read");

    let many: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    let many: Vec<(&str, Option<&str>, &[u8])> = many
        .iter()
        .map(|name| (name.as_str(), None, &b"x"[..]))
        .collect();
    refused(&door.form("/v1/files", &many).await, 400, None);
}

#[tokio::test]
async fn all_files_of_a_key_together_have_a_limit() {
    let door = FileDoor::limited(50_000, 30_000);
    let content = [b'x'; 10_000];
    assert_eq!(door.file(&content, "user_data").await.status(), 200);
    assert_eq!(door.file(&content, "user_data").await.status(), 200);
    let third = door.file(&content, "user_data").await;
    refused(&third, 413, Some("file"));
    // The announced size of an upload counts from its beginning.
    let asked =
        json!({"bytes": 5000, "filename": "f", "mime_type": "text/plain", "purpose": "batch"});
    refused(&door.post("/v1/uploads", asked).await, 413, Some("file"));
    let other = posted(
        "/v1/files",
        form(&[("file", Some("a"), &content), ("purpose", None, b"batch")]),
    );
    assert_eq!(door.send(Some("b"), other).await.status(), 200);
    let first = id(&door.get("/v1/files").await.json()["data"][0]);
    let deleted = door
        .ask(None, Method::DELETE, &format!("/v1/files/{first}"), &[])
        .await;
    assert_eq!(deleted.status(), 200);
    assert_eq!(door.file(&content, "user_data").await.status(), 200);
}

#[tokio::test]
async fn nobody_sees_the_files_of_another_key() {
    let door = FileDoor::new();
    let form = form(&[("file", Some("a"), b"x"), ("purpose", None, b"batch")]);
    let made = door
        .send(Some("a"), posted("/v1/files", form.clone()))
        .await;
    let path = format!("/v1/files/{}", id(&made.json()));
    let content = format!("{path}/content");
    for key in [Some("b"), None] {
        for (method, path) in [
            (Method::GET, &path),
            (Method::GET, &content),
            (Method::DELETE, &path),
        ] {
            refused(&door.ask(key, method, path, &[]).await, 404, Some("id"));
        }
        let listed = door.ask(key, Method::GET, "/v1/files", &[]).await;
        assert_eq!(listed.json()["data"], json!([]));
    }
    let own = door.ask(Some("a"), Method::GET, &content, &[]).await;
    assert_eq!(own.text(), "x");
}

#[tokio::test]
async fn lists_have_pages_an_order_and_a_purpose() {
    let door = FileDoor::new();
    let mut ids = Vec::new();
    for purpose in ["batch", "user_data", "batch"] {
        ids.push(id(&door.file(b"x", purpose).await.json()));
    }
    let listed = async |query: &str| {
        let page = door.get(&format!("/v1/files{query}")).await.json();
        let data = page["data"].as_array().expect("a list").clone();
        let listed: Vec<String> = data.iter().map(id).collect();
        (listed, page["has_more"].as_bool().expect("has_more"))
    };
    let [a, b, c] = [ids[0].clone(), ids[1].clone(), ids[2].clone()];
    let all = vec![c.clone(), b.clone(), a.clone()];
    assert_eq!(listed("").await, (all, false));
    assert_eq!(
        listed("?order=asc&limit=2").await,
        (vec![a.clone(), b.clone()], true)
    );
    let rest = listed(&format!("?order=asc&after={b}")).await;
    assert_eq!(rest, (vec![c.clone()], false));
    assert_eq!(listed("?purpose=batch").await, (vec![c, a], false));
    assert_eq!(listed("?purpose=other").await, (vec![], false));
    refused(
        &door.get("/v1/files?after=file-0").await,
        404,
        Some("after"),
    );
    for (query, param) in [
        ("limit=10001", "limit"),
        ("limit=-1", "limit"),
        ("order=up", "order"),
    ] {
        let answer = door.get(&format!("/v1/files?{query}")).await;
        refused(&answer, 400, Some(param));
    }
}

#[tokio::test]
async fn a_range_of_a_content_is_sent_alone() {
    let door = FileDoor::new();
    let path = format!(
        "/v1/files/{}/content",
        id(&door.file(b"0123456789", "user_data").await.json())
    );
    let whole = door.get(&path).await;
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let tag = whole.header("etag").expect("a tag").to_owned();
    for (headers, status, range, text) in [
        (
            vec![("range", "bytes=2-4")],
            206,
            Some("bytes 2-4/10"),
            "234",
        ),
        (
            vec![("range", "bytes=-3")],
            206,
            Some("bytes 7-9/10"),
            "789",
        ),
        (
            vec![("range", "bytes=0-0"), ("if-range", &tag)],
            206,
            Some("bytes 0-0/10"),
            "0",
        ),
        (
            vec![("range", "bytes=0-0"), ("if-range", "\"x\"")],
            200,
            None,
            "0123456789",
        ),
    ] {
        let answer = door.ask(None, Method::GET, &path, &headers).await;
        assert_eq!((answer.status(), answer.text()), (status, text));
        assert_eq!(answer.header("content-range"), range);
        let length = text.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
    }
    let outside = [("range", "bytes=10-")];
    let answer = door.ask(None, Method::GET, &path, &outside).await;
    refused(&answer, 416, None);
    assert_eq!(answer.header("content-range"), Some("bytes */10"));
}

#[tokio::test]
async fn an_upload_becomes_the_file_of_its_parts_in_the_order_of_their_ids() {
    let door = FileDoor::new();
    let upload = door.upload(6).await;
    let path = format!("/v1/uploads/{upload}");
    let (first, second, third, unused) = tokio::join!(
        door.part(&upload, b"ab"),
        door.part(&upload, b"cd"),
        door.part(&upload, b"ef"),
        door.part(&upload, b"zz"),
    );
    let complete = format!("{path}/complete");
    for (asked, param) in [
        (json!({"part_ids": [first, second]}), "part_ids"),
        (
            json!({"part_ids": [first, second, "part_0"]}),
            "part_ids[2]",
        ),
        (json!({"part_ids": [first, second, first]}), "part_ids[2]"),
        (
            json!({"part_ids": [first, second, third], "md5": "00"}),
            "md5",
        ),
        (json!({}), "part_ids"),
    ] {
        refused(&door.post(&complete, asked).await, 400, Some(param));
    }
    let asked = json!({"part_ids": [second, first, third]});
    let done = door.post(&complete, asked.clone()).await.json();
    assert_eq!(
        (
            &done["status"],
            &done["file"]["bytes"],
            &done["file"]["filename"]
        ),
        (&json!("completed"), &json!(6), &json!("big.txt")),
        "{done}"
    );
    let file = id(&done["file"]);
    let content = door.get(&format!("/v1/files/{file}/content")).await;
    assert_eq!(content.text(), "cdabef");
    assert_eq!(
        door.get(&format!("/v1/files/{file}")).await.json(),
        done["file"]
    );
    assert_eq!(door.blobs.places(), [format!("files/{file}")], "{unused}");
    for (path, body) in [(complete, asked), (format!("{path}/cancel"), json!({}))] {
        refused(&door.post(&path, body).await, 400, Some("upload_id"));
    }
    let path = format!("{path}/parts");
    let late = door.form(&path, &[("data", Some("blob"), b"x")]).await;
    refused(&late, 400, Some("upload_id"));
    let counted = door.store.content_bytes(&Owner::NOBODY).await;
    assert_eq!(counted, Ok(6 + FileLimits::OVERHEAD));
}

#[tokio::test]
async fn the_checksum_of_an_upload_is_checked() {
    let door = FileDoor::new();
    for (md5, status) in [
        ("900150983cd24fb0d6963f7d28e17f72", 200),
        ("900150983CD24FB0D6963F7D28E17F72", 200),
        ("900150983cd24fb0d6963f7d28e17f73", 400),
        ("", 400),
    ] {
        let upload = door.upload(3).await;
        let part = door.part(&upload, b"abc").await;
        let asked = json!({"part_ids": [part], "md5": md5});
        let path = format!("/v1/uploads/{upload}/complete");
        assert_eq!(door.post(&path, asked).await.status(), status, "{md5}");
    }
}

#[tokio::test]
async fn a_cancelled_upload_gives_its_room_back() {
    let door = FileDoor::new();
    let upload = door.upload(100).await;
    door.part(&upload, b"abc").await;
    let used = door.store.content_bytes(&Owner::NOBODY).await;
    assert_eq!(used, Ok(100 + FileLimits::OVERHEAD));
    let path = format!("/v1/uploads/{upload}/cancel");
    let cancelled = door.post(&path, json!({})).await.json();
    assert_eq!(
        (&cancelled["status"], &cancelled["file"]),
        (&json!("cancelled"), &Value::Null)
    );
    assert!(door.blobs.places().is_empty());
    assert_eq!(door.store.content_bytes(&Owner::NOBODY).await, Ok(0));
    refused(&door.post(&path, json!({})).await, 400, Some("upload_id"));
}

#[tokio::test]
async fn an_upload_is_checked_when_it_begins_and_its_parts_are_bounded() {
    let door = FileDoor::limited(5000, 1 << 30);
    let usual = json!({"bytes": 1, "filename": "f", "mime_type": "m", "purpose": "batch"});
    for (field, value, param) in [
        ("bytes", json!(5001), "bytes"),
        ("bytes", json!(-1), "bytes"),
        ("purpose", json!("x"), "purpose"),
        (
            "expires_after",
            json!({"anchor": "created_at", "seconds": 1}),
            "expires_after.seconds",
        ),
        ("filename", Value::Null, "filename"),
    ] {
        let mut asked = usual.clone();
        asked[field] = value;
        refused(&door.post("/v1/uploads", asked).await, 400, Some(param));
    }
    let upload = door.upload(1000).await;
    let path = format!("/v1/uploads/{upload}/parts");
    let long = vec![b'x'; 1001];
    let answer = door.form(&path, &[("data", Some("blob"), &long)]).await;
    refused(&answer, 413, Some("file"));
    for _ in 0..2 {
        door.part(&upload, &long[..1000]).await;
    }
    let answer = door.form(&path, &[("data", Some("blob"), b"x")]).await;
    refused(&answer, 413, Some("file"));
    let unknown = "/v1/uploads/upload_0/parts";
    let answer = door.form(unknown, &[("data", Some("blob"), b"x")]).await;
    refused(&answer, 404, Some("id"));
    assert_eq!(door.blobs.places().len(), 2);
    // A part cannot be longer than the file, since the limit of a key counts the file.
    let short = door.upload(10).await;
    let path = format!("/v1/uploads/{short}/parts");
    let answer = door
        .form(&path, &[("data", Some("blob"), &long[..11])])
        .await;
    refused(&answer, 413, Some("file"));
    assert_eq!(door.blobs.places().len(), 2);
}

#[tokio::test]
async fn a_part_that_others_have_overtaken_is_bounded_too() {
    let door = FileDoor::limited(5000, 1 << 30);
    let upload = door.upload(1000).await;
    let path = format!("/v1/uploads/{upload}/parts");
    let mut begin = form(&[("data", Some("blob"), &[b'x'; 1000])]);
    let rest = begin.split_off(500);
    let (go_on, wait) = oneshot::channel::<()>();
    let rest = stream::once(async move {
        wait.await.expect("a signal");
        rest
    });
    let body = stream::iter([begin]).chain(rest);
    let body = StreamBody::new(body.map(|bytes| Ok(Frame::data(Bytes::from(bytes)))));
    let overtaken = door.send(None, posted_body(&path, body));
    let others = async {
        for _ in 0..2 {
            door.part(&upload, &[b'y'; 1000]).await;
        }
        go_on.send(()).expect("a reader");
    };
    let (answer, ()) = futures_util::future::join(overtaken, others).await;
    refused(&answer, 413, Some("file"));
    assert_eq!(door.blobs.places().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_gone_with_its_content() {
    let door = FileDoor::new();
    let file = id(&door.file(b"x", "user_data").await.json());
    let kept = id(&door.file(b"y", "user_data").await.json());
    let upload = door.upload(3).await;
    door.part(&upload, b"abc").await;
    let due = |kind, id: &str| Change::Schedule {
        kind,
        id: id.to_owned(),
        due: Some(1),
        content: 0,
    };
    let changes = vec![due(Kind::File, &file), due(Kind::Upload, &upload)];
    let scheduled = door.store.write(&Owner::NOBODY, changes).await;
    assert_eq!(scheduled, Ok(()));
    let cleanup = tokio::spawn(door.door.clone().keep_files(in_pages(Vec::new())));
    while door.blobs.places().len() > 1 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    cleanup.abort();
    assert_eq!(door.blobs.places(), [format!("files/{kept}")]);
    refused(
        &door.get(&format!("/v1/files/{file}")).await,
        404,
        Some("id"),
    );
}

#[tokio::test(start_paused = true)]
async fn contents_without_a_file_are_swept_at_the_start_and_every_hour_and_others_are_not() {
    let door = FileDoor::new();
    let kept = id(&door.file(b"y", "user_data").await.json());
    let upload = door.upload(3).await;
    let part = door.part(&upload, b"abc").await;
    for place in [
        "files/file-gone",
        "parts/upload_gone/part_1",
        "files/file-gone.sealed",
    ] {
        let (_, writer) = door.blobs.create(place).await.expect("a writer");
        writer.finish().await.expect("written");
    }
    let leftovers = in_pages(door.blobs.places());
    let cleanup = tokio::spawn(door.door.clone().keep_files(leftovers));
    while door.blobs.places().len() > 2 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let places = || {
        let mut places = door.blobs.places();
        places.sort();
        places
    };
    assert_eq!(
        places(),
        [format!("files/{kept}"), format!("parts/{upload}/{part}")]
    );
    // Another server was killed meanwhile.
    let (_, writer) = door
        .blobs
        .create("files/file-late")
        .await
        .expect("a writer");
    writer.finish().await.expect("written");
    let begun = tokio::time::Instant::now();
    while places().iter().any(|place| place == "files/file-late") {
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        assert!(begun.elapsed() < std::time::Duration::from_mins(62));
    }
    assert!(places().contains(&format!("files/{kept}")));
    cleanup.abort();
}

/// The ways in which a file is named in the API of chats and in that of responses.
fn by_id(file: &str) -> [(&'static str, Value); 3] {
    let chat = json!({"type": "file", "file": {"file_id": file}});
    let part = json!({"type": "input_file", "file_id": file});
    let image = json!({"type": "input_image", "file_id": file});
    [
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": [{"role": "user", "content": [chat]}]}),
        ),
        (
            "/v1/responses",
            json!({"model": "m", "input": [{"role": "user", "content": [part]}]}),
        ),
        (
            "/v1/responses",
            json!({"model": "m", "input": [{"role": "user", "content": [image]}]}),
        ),
    ]
}

#[tokio::test]
async fn a_model_gets_the_content_of_a_file_that_is_named_by_its_id() {
    let inner = plain_model();
    let door = FileDoor::before(inner.clone(), Policy::default());
    let file = id(&door.file("Hé, Loggia".as_bytes(), "user_data").await.json());
    for (path, asked) in by_id(&file) {
        let answer = door.post(path, asked.clone()).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let sent = inner.last_chat()["messages"][0]["content"].clone();
        assert_eq!(sent, "a.txt:\n\nHé, Loggia\n", "{asked}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_or_is_not_there_is_an_error_at_its_place() {
    let inner = plain_model();
    let door = FileDoor::before(inner.clone(), Policy::default());
    let pdf = id(&door.file(b"%PDF-1.7 and more", "user_data").await.json());
    let binary = id(&door.file(b"\0\x01\xff", "user_data").await.json());
    for (file, status) in [(pdf.as_str(), 400), (&binary, 400), ("file-0", 404)] {
        for (path, asked) in by_id(file) {
            let answer = door.post(path, asked).await;
            let place = if path.ends_with("responses") {
                "input[0].content[0].file_id"
            } else {
                "messages[0].content[0].file.file_id"
            };
            refused(&answer, status, Some(place));
        }
    }
    // The files of another key do not exist for this one.
    let own = id(&door.file(b"text", "user_data").await.json());
    let (path, asked) = by_id(&own)[0].clone();
    let request = Request::post(path).body(Full::new(Bytes::from(asked.to_string())));
    let answer = door.send(Some("b"), request.expect("a request")).await;
    assert_eq!(answer.status(), 404);
    assert!(inner.chats().is_empty());
}

#[tokio::test]
async fn the_files_of_one_request_together_are_bounded() {
    let policy = Policy {
        ceilings: loggia_api::Ceilings {
            media_bytes: 1000,
            ..Policy::default().ceilings
        },
        ..Policy::default()
    };
    let door = FileDoor::before(plain_model(), policy);
    let file = id(&door.file(&[b'x'; 500], "user_data").await.json());
    let part = json!({"type": "file", "file": {"file_id": file}});
    let asked =
        |parts: Value| json!({"model": "m", "messages": [{"role": "user", "content": parts}]});
    let path = "/v1/chat/completions";
    let fits = door.post(path, asked(json!([part]))).await;
    assert_eq!(fits.status(), 200);
    let twice = door.post(path, asked(json!([part, part]))).await;
    refused(&twice, 400, Some("messages[0].content[1].file.file_id"));
}

#[tokio::test]
async fn without_a_place_for_contents_there_are_no_files() {
    let backend = Arc::new(Ollama::new("ollama", Scripted::default()));
    let door = Door::new(backend, Policy::default()).with_store(Arc::new(MemoryStore::new()));
    let request = Request::get("/v1/files").body(Full::<Bytes>::default());
    let answer = door.serve(request.expect("a request")).await;
    assert_eq!(answer.status(), 404);
}

/// A body that comes in these frames, and counts those that were read.
struct Frames {
    frames: VecDeque<Vec<u8>>,
    read: Arc<AtomicUsize>,
}

impl Frames {
    fn new(frames: Vec<Vec<u8>>, read: Arc<AtomicUsize>) -> Self {
        Self {
            frames: frames.into(),
            read,
        }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.frames.pop_front();
        self.read.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(next.map(|frame| Ok(Frame::data(frame.into()))))
    }
}
