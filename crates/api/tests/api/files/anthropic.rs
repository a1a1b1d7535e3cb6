//! The same files in Anthropic's form.

use super::*;

const VERSION: (&str, &str) = ("anthropic-version", "2026-10-21");

/// A form as Anthropic's SDKs send it, with the media type of the file.
fn upload(
    name: &str,
    media_type: &str,
    content: &[u8],
    more: &[(&str, &str)],
) -> Request<Full<Bytes>> {
    let mut body = Vec::new();
    for (name, value) in more {
        body.extend(
            format!(
                "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
            .bytes(),
        );
    }
    body.extend(
        format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\ncontent-type: {media_type}\r\n\r\n").bytes(),
    );
    body.extend(content);
    body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
    let mut request = posted("/v1/files", body);
    request
        .headers_mut()
        .insert(VERSION.0, VERSION.1.parse().expect("a header"));
    request
}

impl FileDoor {
    async fn anthropic(&self, method: Method, path: &str) -> Answer {
        self.ask(None, method, path, &[VERSION]).await
    }

    async fn uploaded(&self, name: &str, media_type: &str, content: &[u8]) -> Value {
        let answer = self
            .send(None, upload(name, media_type, content, &[]))
            .await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()
    }

    async fn message(&self, content: Value) -> Answer {
        let messages = json!([{"role": "user", "content": [content]}]);
        let asked = json!({"model": "m", "max_tokens": 9, "messages": messages});
        self.post("/v1/messages", asked).await
    }
}

/// Returns the type and the message of an error in Anthropic's form.
fn error_of(answer: &Answer) -> (String, String) {
    let error = answer.json();
    assert_eq!(error["type"], "error", "{error}");
    let text = |name: &str| error["error"][name].as_str().expect("a text").to_owned();
    (text("type"), text("message"))
}

#[tokio::test]
async fn a_file_has_the_form_of_the_api_that_the_client_speaks() {
    let door = FileDoor::new();
    let file = door.uploaded("dir/b.bin", "image/png", b"some text").await;
    let id = id(&file);
    let created = file["created_at"].as_str().expect("a time").to_owned();
    assert!(created.ends_with('Z'), "{created}");
    assert_eq!(
        file,
        json!({"id": id, "type": "file", "filename": "b.bin", "mime_type": "image/png", "size_bytes": 9,
            "created_at": created, "expires_at": null, "downloadable": true})
    );
    let path = format!("/v1/files/{id}");
    assert_eq!(door.anthropic(Method::GET, &path).await.json(), file);
    // OpenAI's clients see the file too.
    let other = door.get(&path).await.json();
    assert_eq!(
        (&other["object"], &other["filename"], &other["purpose"]),
        (&json!("file"), &json!("b.bin"), &json!("user_data"))
    );
    let content = door
        .anthropic(Method::GET, &format!("{path}/content"))
        .await;
    assert_eq!(content.text(), "some text");
    let deleted = door.anthropic(Method::DELETE, &path).await;
    assert_eq!(deleted.json(), json!({"id": id, "type": "file_deleted"}));
    let gone = door.anthropic(Method::GET, &path).await;
    assert_eq!(gone.status(), 404);
    let expected = format!("id: No such File object: {id}");
    assert_eq!(error_of(&gone), ("not_found_error".to_owned(), expected));
    assert!(door.blobs.places().is_empty());
}

#[tokio::test]
async fn a_media_type_and_a_name_are_completed() {
    let door = FileDoor::new();
    for (name, media_type, shown_name, shown_type) in [
        ("", "text/plain", "unnamed.txt", "text/plain"),
        (
            "",
            "application/octet-stream",
            "unnamed",
            "application/octet-stream",
        ),
        (
            "c.pdf",
            "application/octet-stream",
            "c.pdf",
            "application/pdf",
        ),
        (
            "d.md",
            "text/markdown; charset=utf-8",
            "d.md",
            "text/markdown",
        ),
    ] {
        let file = door.uploaded(name, media_type, b"x").await;
        assert_eq!(file["filename"], shown_name);
        assert_eq!(file["mime_type"], shown_type);
    }
    // One of OpenAI's clients, without a type.
    let made = door.file(b"x", "assistants").await.json();
    let path = format!("/v1/files/{}", id(&made));
    let shown = door.anthropic(Method::GET, &path).await.json();
    assert_eq!(shown["mime_type"], "text/plain");
}

#[tokio::test]
async fn a_file_expires_after_the_seconds_that_the_client_sends() {
    let door = FileDoor::new();
    let asked = |seconds: &str| upload("a", "text/plain", b"x", &[("expires_in_seconds", seconds)]);
    let kept = door.send(None, asked("7776000")).await.json();
    let path = format!("/v1/files/{}", id(&kept));
    let (shown, own) = (door.get(&path).await.json(), &kept["expires_at"]);
    let lasts = |name: &str| shown[name].as_u64().expect("a time");
    assert_eq!(lasts("expires_at") - lasts("created_at"), 7_776_000);
    assert!(
        own.as_str().is_some_and(|time| time.ends_with('Z')),
        "{own}"
    );
    for seconds in ["3599", "7776001", "soon"] {
        let refused = door.send(None, asked(seconds)).await;
        assert_eq!(refused.status(), 400);
        let (kind, message) = error_of(&refused);
        assert_eq!(kind, "invalid_request_error");
        assert!(message.contains("expires_in_seconds"), "{message}");
    }
    assert_eq!(
        door.blobs.places().len(),
        1,
        "what is refused leaves nothing"
    );
}

#[tokio::test]
async fn lists_go_on_by_page_by_id_and_backwards() {
    let door = FileDoor::new();
    let mut ids = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        ids.push(id(&door.uploaded(name, "text/plain", b"x").await));
    }
    ids.reverse();
    let listed = async |query: &str| {
        let answer = door
            .anthropic(Method::GET, &format!("/v1/files{query}"))
            .await;
        assert_eq!(answer.status(), 200, "{query}: {}", answer.text());
        let page = answer.json();
        let data = page["data"].as_array().expect("a list").iter();
        let found: Vec<String> = data.map(id).collect();
        assert_eq!(page["first_id"], json!(found.first()), "{query}");
        assert_eq!(page["last_id"], json!(found.last()), "{query}");
        (found, page["has_more"] == true, page["next_page"].clone())
    };
    assert_eq!(listed("").await, (ids.clone(), false, Value::Null));
    let (first, has_more, next) = listed("?limit=2").await;
    assert_eq!((first.as_slice(), has_more), (&ids[..2], true));
    let next = next.as_str().expect("a cursor").to_owned();
    let (second, has_more, next) = listed(&format!("?limit=2&page={next}")).await;
    assert_eq!((second.as_slice(), has_more), (&ids[2..4], true));
    let next = next.as_str().expect("a cursor");
    let third = listed(&format!("?limit=2&page={next}")).await;
    assert_eq!(third, (ids[4..].to_vec(), false, Value::Null));

    let after = listed(&format!("?limit=2&after_id={}", ids[1])).await;
    assert_eq!((after.0.as_slice(), after.1), (&ids[2..4], true));
    let before = listed(&format!("?limit=2&before_id={}", ids[3])).await;
    assert_eq!((before.0.as_slice(), before.1), (&ids[1..3], true));
    let before = listed(&format!("?before_id={}", ids[1])).await;
    assert_eq!((before.0.as_slice(), before.1), (&ids[..1], false));
    assert_eq!(
        listed("?page=page_file-0").await,
        (vec![], false, Value::Null)
    );

    let (found, ..) = listed(&format!("?ids[]={}&ids[]=file-0&ids[]={}", ids[0], ids[0])).await;
    assert_eq!(found, ids[..1]);
    let many: Vec<String> = (0..101).map(|n| format!("ids[]=file-{n}")).collect();
    let many = many.join("&");
    for query in ["limit=0", "limit=1001", &many] {
        let refused = door
            .anthropic(Method::GET, &format!("/v1/files?{query}"))
            .await;
        assert_eq!(refused.status(), 400, "{query}");
    }
}

#[tokio::test]
async fn a_message_names_a_stored_file_as_a_document_or_an_image() {
    let inner = plain_model();
    let door = FileDoor::before(inner.clone(), Policy::default());
    let file = id(&door
        .uploaded("a.txt", "text/plain", "Hé, Loggia".as_bytes())
        .await);
    for (kind, more, sent) in [
        ("document", json!({}), "a.txt:\n\nHé, Loggia\n"),
        (
            "document",
            json!({"title": "T", "context": "C"}),
            "C\n\nT:\n\nHé, Loggia\n",
        ),
        // The file's type decides how its content is read, not the type of the block.
        ("image", json!({}), "a.txt:\n\nHé, Loggia\n"),
    ] {
        let mut block = json!({"type": kind, "source": {"type": "file", "file_id": file}});
        let fields = block.as_object_mut().expect("an object");
        fields.extend(more.as_object().cloned().unwrap_or_default());
        let answer = door.message(block).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(inner.last_chat()["messages"][0]["content"], sent);
    }
    let before = inner.chats().len();
    for kind in ["document", "image"] {
        let source = json!({"type": "file", "file_id": "file-0"});
        let missing = door.message(json!({"type": kind, "source": source})).await;
        assert_eq!(missing.status(), 404);
        let (kind, message) = error_of(&missing);
        assert_eq!(kind, "not_found_error");
        assert!(message.contains("file-0"), "{message}");
    }
    assert_eq!(inner.chats().len(), before);
}
