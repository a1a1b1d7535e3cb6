//! A minimal Ollama: an embedding model, then one that chats. Tests can delay its answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;

pub(crate) const MODEL: &str = "small:latest";

/// A server that runs until it is dropped.
pub(crate) struct Ollama {
    pub(crate) address: SocketAddr,
    /// Each answer waits for a permit before it begins; there is one.
    pub(crate) begin: Arc<Semaphore>,
    /// The number of chats that were asked for.
    pub(crate) chats: Arc<AtomicUsize>,
    /// The second half of each answer waits for a permit.
    pub(crate) go_on: Arc<Semaphore>,
    _runtime: tokio::runtime::Runtime,
}

impl Ollama {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let begin = Arc::new(Semaphore::new(1));
        let chats = Arc::new(AtomicUsize::new(0));
        let go_on = Arc::new(Semaphore::new(0));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(address))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let gates = (Arc::clone(&begin), Arc::clone(&chats), Arc::clone(&go_on));
        let app = Router::new()
            .route("/api/tags", get(|| async { TAGS }))
            .route("/api/version", get(|| async { r#"{"version":"0.30.0"}"# }))
            .route("/api/ps", get(|| async { r#"{"models":[]}"# }))
            .route(
                "/api/show",
                post(|asked: String| std::future::ready(show(&asked))),
            )
            .route(
                "/api/chat",
                post(move || {
                    let (begin, chats, go_on) = gates.clone();
                    async move {
                        chats.fetch_add(1, Ordering::SeqCst);
                        drop(begin.acquire().await);
                        chat(go_on)
                    }
                }),
            );
        runtime.spawn(async move { axum::serve(listener, app).await });
        Ollama {
            address,
            begin,
            chats,
            go_on,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn show(asked: &str) -> String {
    let can = if asked.contains("embed") {
        "embedding"
    } else {
        r#"completion","vision"#
    };
    format!(r#"{{"capabilities":["{can}"],"model_info":{{}},"details":{{}}}}"#)
}

const TAGS: &str = r#"{"models":[{"name":"embed:latest","model":"embed:latest","modified_at":"2026-01-02T03:04:05Z","size":7,"digest":"def","details":{"family":"bert"}},{"name":"small:latest","model":"small:latest","modified_at":"2026-01-02T03:04:05Z","size":7,"digest":"abc","details":{"family":"llama"}}]}"#;

fn chat(go_on: Arc<Semaphore>) -> Body {
    let first = r#"{"model":"small:latest","created_at":"2026-01-02T03:04:05Z","message":{"role":"assistant","content":"Hel"},"done":false}"#;
    let rest = r#"{"model":"small:latest","created_at":"2026-01-02T03:04:05Z","message":{"role":"assistant","content":"lo"},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}"#;
    let line = |text: &'static str| Ok::<_, std::io::Error>(Bytes::from(format!("{text}\n")));
    let held = stream::once(async move {
        let _permit = go_on.acquire().await;
        line(rest)
    });
    Body::from_stream(stream::iter([line(first)]).chain(held))
}
