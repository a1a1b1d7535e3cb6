//! Documents that models cannot read: PDFs, and documents by URL.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::{BodyExt, Full};
use loggia_api::{DocumentError, Documents, Door, MemoryBlobs, MemoryStore, Policy};
use loggia_backend::ollama::Ollama;
use serde_json::{Value, json};

use crate::support::Scripted;

/// Reads every PDF that is not broken, and fetches the documents of the test.
#[derive(Default)]
pub(crate) struct Reader {
    fetched: Mutex<Vec<String>>,
}

impl Documents for Reader {
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Bytes, DocumentError>> {
        self.fetched.lock().expect("a lock").push(url.to_owned());
        let found = match url.rsplit('/').next() {
            Some("a.pdf?x=1") => Ok(Bytes::from_static(b"%PDF-1.7 fetched")),
            Some("a.txt") => Ok(Bytes::from_static(b"a text")),
            Some("a.zip") => Ok(Bytes::from_static(b"PK\0\0")),
            _ => Err(DocumentError::new(
                "`a.example` cannot be fetched: it responded with status 404",
            )),
        };
        Box::pin(std::future::ready(found))
    }

    fn pdf_text(&self, pdf: Bytes) -> BoxFuture<'_, Result<Option<String>, DocumentError>> {
        let text = match pdf.strip_prefix(b"%PDF-1.7 ") {
            Some(text) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
            None if pdf.starts_with(b"%PDF-1.5") => Ok(None),
            None => Err(DocumentError::new("it is damaged")),
        };
        Box::pin(std::future::ready(text))
    }

    fn pdf_pages(&self, _: Bytes, most: usize) -> BoxFuture<'_, Result<Vec<Bytes>, DocumentError>> {
        let pages =
            ["\u{1}", "\u{2}"].map(|page| Bytes::from([b"GIF89a", page.as_bytes()].concat()));
        let pages = match most {
            0 | 1 => Err(DocumentError::new("it has too many pages")),
            _ => Ok(pages.to_vec()),
        };
        Box::pin(std::future::ready(pages))
    }
}

struct Setup {
    door: Door,
    inner: Scripted,
    reader: Arc<Reader>,
}

impl Setup {
    fn new() -> Self {
        let mut setup = Self::without_reader();
        setup.door = setup.door.with_documents(setup.reader.clone());
        setup
    }

    /// A model that sees.
    fn seeing(policy: Policy) -> Self {
        let mut setup = Self::of(&["completion", "vision"], policy);
        setup.door = setup.door.with_documents(setup.reader.clone());
        setup
    }

    fn without_reader() -> Self {
        Self::of(&["completion"], Policy::default())
    }

    fn of(capabilities: &[&str], policy: Policy) -> Self {
        let show = json!({"capabilities": capabilities, "model_info": {}, "details": {}});
        let inner = Scripted::default()
            .on("/api/show", 200, [show.to_string()])
            .recorded("chat/whole");
        let backend = Arc::new(Ollama::new("ollama", inner.clone()));
        let door = Door::new(backend, policy)
            .with_store(Arc::new(MemoryStore::new()))
            .with_blobs(Arc::new(MemoryBlobs::default()));
        Self {
            door,
            inner,
            reader: Arc::default(),
        }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_string())));
        self.answer(request.expect("a request")).await
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> (u16, Value) {
        let answer = self.door.serve(request).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body");
        (
            status,
            serde_json::from_slice(&body.to_bytes()).expect("JSON"),
        )
    }

    async fn upload(&self, content: &str) -> String {
        let form = format!(
            "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nuser_data\r\n\
            --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"up.pdf\"\r\n\r\n{content}\r\n--x--\r\n"
        );
        let request =
            Request::post("/v1/files").header("content-type", "multipart/form-data; boundary=x");
        let request = request.body(Full::new(Bytes::from(form)));
        let (_, file) = self.answer(request.expect("a request")).await;
        file["id"].as_str().expect("an id").to_owned()
    }

    /// The text of the message that the model got.
    fn read(&self) -> String {
        let content = self.inner.last_chat()["messages"][0]["content"].clone();
        content.as_str().expect("a text").trim().to_owned()
    }
}

/// A request with one part, for each API.
fn chat(file: &Value) -> (&'static str, Value) {
    let parts = json!([{"type": "file", "file": file}]);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": parts}]});
    ("/v1/chat/completions", body)
}

fn response(mut part: Value) -> (&'static str, Value) {
    part["type"] = json!("input_file");
    let input = json!([{"role": "user", "content": [part]}]);
    ("/v1/responses", json!({"model": "m", "input": input}))
}

fn message(source: &Value, title: Option<&str>) -> (&'static str, Value) {
    let parts = json!([{"type": "document", "source": source, "title": title}]);
    let messages = json!([{"role": "user", "content": parts}]);
    let body = json!({"model": "m", "max_tokens": 9, "messages": messages});
    ("/v1/messages", body)
}

/// `%PDF-1.7 sent` in base64.
const SENT: &str = "JVBERi0xLjcgc2VudA==";
/// `%PDF-1.3` in base64.
const BROKEN: &str = "JVBERi0xLjM=";
/// `%PDF-1.5` in base64: a scan with two pages.
const SCAN: &str = "JVBERi0xLjU=";

#[tokio::test]
async fn a_model_gets_the_text_of_a_pdf() {
    let setup = Setup::new();
    let url = format!("data:application/pdf;base64,{SENT}");
    let id = setup.upload("%PDF-1.7 stored").await;
    for ((path, asked), text) in [
        (
            chat(&json!({"filename": "a.pdf", "file_data": url})),
            "a.pdf:\n\nsent",
        ),
        (chat(&json!({"file_data": SENT})), "sent"),
        (chat(&json!({"file_id": id})), "up.pdf:\n\nstored"),
        (
            response(json!({"filename": "a.pdf", "file_data": url})),
            "a.pdf:\n\nsent",
        ),
        (response(json!({"file_id": id})), "up.pdf:\n\nstored"),
        (
            message(
                &json!({"type": "base64", "media_type": "application/pdf", "data": SENT}),
                Some("The whale"),
            ),
            "The whale:\n\nsent",
        ),
    ] {
        let (status, answer) = setup.post(path, &asked).await;
        assert_eq!(status, 200, "{asked}: {answer}");
        assert_eq!(setup.read(), text, "{asked}");
    }
}

#[tokio::test]
async fn a_document_by_url_is_fetched() {
    let setup = Setup::new();
    let pdf = "https://a.example/a.pdf?x=1";
    for ((path, asked), text) in [
        (response(json!({"file_url": pdf})), "a.pdf:\n\nfetched"),
        (
            response(json!({"file_url": "HTTP://a.example/a.txt"})),
            "a.txt:\n\na text",
        ),
        (
            message(&json!({"type": "url", "url": pdf}), None),
            "a.pdf:\n\nfetched",
        ),
        (
            message(&json!({"type": "url", "url": pdf}), Some("Whales")),
            "Whales:\n\nfetched",
        ),
        (chat(&json!({"file_data": pdf})), "a.pdf:\n\nfetched"),
    ] {
        let (status, answer) = setup.post(path, &asked).await;
        assert_eq!(status, 200, "{asked}: {answer}");
        assert_eq!(setup.read(), text, "{asked}");
    }
    assert_eq!(setup.reader.fetched.lock().expect("a lock").len(), 5);
}

#[tokio::test]
async fn a_document_that_cannot_be_read_is_an_error_at_its_place() {
    let setup = Setup::new();
    let url = |name: &str| format!("https://a.example/{name}");
    let pdf = |data: &str| json!({"type": "base64", "media_type": "application/pdf", "data": data});
    for ((path, asked), place, reason) in [
        (
            chat(&json!({"file_data": BROKEN})),
            "messages[0].content[0].file.file_data",
            "it is damaged",
        ),
        (
            chat(&json!({"file_data": SCAN})),
            "messages[0].content[0].file.file_data",
            "it has no text, and this model cannot see its pages",
        ),
        (
            message(&pdf(SCAN), None),
            "messages[0].content[0].source.data",
            "it has no text, and this model cannot see its pages",
        ),
        (
            chat(&json!({"file_data": "data:application/pdf;base64,?"})),
            "messages[0].content[0].file.file_data",
            "it is neither base64 nor a data: URL",
        ),
        (
            response(json!({"file_data": BROKEN})),
            "input[0].content[0].file_data",
            "it is damaged",
        ),
        (
            response(json!({"file_url": url("gone")})),
            "input[0].content[0].file_url",
            "status 404",
        ),
        (
            response(json!({"file_url": url("a.zip")})),
            "input[0].content[0].file_url",
            "it is neither text, nor an image, nor a PDF",
        ),
        (
            response(json!({"file_url": "file:///etc/passwd"})),
            "input[0].content[0].file_url",
            "expected an http(s) URL",
        ),
        (
            message(&pdf(BROKEN), None),
            "messages[0].content[0].source.data",
            "it is damaged",
        ),
        (
            message(&json!({"type": "url", "url": url("gone")}), None),
            "messages[0].content[0].source.url",
            "status 404",
        ),
        (
            message(&json!({"type": "url", "url": "ftp://a"}), None),
            "messages[0].content[0].source.url",
            "expected an http(s) URL",
        ),
    ] {
        let (status, answer) = setup.post(path, &asked).await;
        assert_eq!(status, 400, "{asked}: {answer}");
        let text = answer["error"]["message"].as_str().expect("a message");
        assert!(text.contains(reason), "{text}");
        let is_named = text.contains(place) || answer["error"]["param"] == place;
        assert!(is_named, "{asked}: {answer}");
    }
    assert!(setup.inner.chats().is_empty());
}

#[tokio::test]
async fn a_model_that_sees_gets_the_pages_of_a_scan_as_images() {
    let setup = Setup::seeing(Policy::default());
    let id = setup.upload("%PDF-1.5 stored").await;
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": SCAN});
    for ((path, asked), name) in [
        (chat(&json!({"file_data": SCAN})), "the document"),
        (chat(&json!({"file_id": id})), "up.pdf"),
        (
            response(json!({"filename": "a.pdf", "file_data": SCAN})),
            "a.pdf",
        ),
        (message(&pdf, Some("Whales")), "Whales"),
    ] {
        let (status, answer) = setup.post(path, &asked).await;
        assert_eq!(status, 200, "{asked}: {answer}");
        let pages = format!("[Page 1 of {name}]\n\n\n\n[Page 2 of {name}]");
        assert_eq!(setup.read(), pages, "{asked}");
        let images = &setup.inner.last_chat()["messages"][0]["images"];
        assert_eq!(images, &json!(["R0lGODlhAQ==", "R0lGODlhAg=="]));
    }
    // Parts around it stay where they are.
    let text = |text: &str| json!({"type": "text", "text": text});
    let scan = json!({"type": "file", "file": {"file_data": SCAN}});
    let read = json!({"type": "file", "file": {"file_data": SENT}});
    let parts = json!([text("a"), scan, text("b"), read, scan, text("c")]);
    let asked = json!({"model": "m", "messages": [{"role": "user", "content": parts}]});
    assert_eq!(setup.post("/v1/chat/completions", &asked).await.0, 200);
    let pages = "[Page 1 of the document]\n\n\n\n[Page 2 of the document]\n\n";
    let expected = format!("a\n\n{pages}b\n\nsent\n\n{pages}c");
    assert_eq!(setup.read(), expected);
    let images = &setup.inner.last_chat()["messages"][0]["images"];
    assert_eq!(images.as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn the_pages_of_the_scans_of_one_request_are_bounded() {
    let mut policy = Policy::default();
    policy.ceilings.media = 3;
    let setup = Setup::seeing(policy);
    let scan = json!({"type": "file", "file": {"file_data": SCAN}});
    let asked = |number: usize| {
        let parts = vec![scan.clone(); number];
        json!({"model": "m", "messages": [{"role": "user", "content": parts}]})
    };
    assert_eq!(setup.post("/v1/chat/completions", &asked(1)).await.0, 200);
    let (status, answer) = setup.post("/v1/chat/completions", &asked(2)).await;
    assert_eq!(
        (status, &answer["error"]["param"]),
        (400, &json!("messages[0].content[1].file.file_data"))
    );
}

#[tokio::test]
async fn the_documents_of_one_request_are_bounded() {
    let setup = Setup::new();
    let part = json!({"type": "input_file", "file_url": "https://a.example/a.txt"});
    let asked = |number| {
        let input = json!([{"role": "user", "content": vec![part.clone(); number]}]);
        json!({"model": "m", "input": input})
    };
    let (status, _) = setup.post("/v1/responses", &asked(16)).await;
    assert_eq!(status, 200);
    let (status, answer) = setup.post("/v1/responses", &asked(17)).await;
    assert_eq!(
        (status, &answer["error"]["param"]),
        (400, &json!("input[0].content[16].file_url"))
    );
}

#[tokio::test]
async fn without_a_reader_no_document_is_fetched() {
    let setup = Setup::without_reader();
    let url = "https://a.example/a.txt";
    for (path, asked) in [
        response(json!({"file_url": url})),
        message(&json!({"type": "url", "url": url}), None),
    ] {
        let (status, answer) = setup.post(path, &asked).await;
        assert_eq!(status, 400, "{answer}");
        let text = answer["error"]["message"].as_str().expect("a message");
        assert!(text.contains("does not fetch documents"), "{text}");
    }
    // A PDF is a note for the model.
    let (path, asked) = chat(&json!({"filename": "a.pdf", "file_data": SENT}));
    assert_eq!(setup.post(path, &asked).await.0, 200);
    assert!(setup.read().contains("cannot read it"));
}
