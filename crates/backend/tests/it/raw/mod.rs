//! An engine for tests that works with bytes only: it answers each request with prepared bytes, and
//! records the requests.
#![allow(dead_code, reason = "each test program uses only a part of this")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A step of the engine on a connection, after a request has arrived.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits for this time.
    Pause(Duration),
    /// Sends nothing until the peer closes the connection.
    Hang,
    /// Closes the connection.
    Close,
}

/// An engine on loopback.
pub(crate) struct RawEngine {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Mutex<VecDeque<Vec<Step>>>,
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    closed: Notify,
}

impl RawEngine {
    /// Starts an engine that answers the first request with the first of `answers`, and so on. Then
    /// it hangs.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers.into_iter().collect()),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            closed: Notify::new(),
        });
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { url, shared }
    }

    /// Adds an answer for one more request, after the existing ones.
    pub(crate) fn will(&self, steps: Vec<Step>) {
        self.shared.answers.lock().unwrap().push_back(steps);
    }

    /// The requests so far, with head and body as they arrived.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The bodies of the requests so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.requests()
            .iter()
            .map(|request| request.split_once("\r\n\r\n").unwrap().1.to_owned())
            .collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Resolves when a connection has ended, by either side.
    pub(crate) async fn closed(&self) {
        let closed = self.shared.closed.notified();
        tokio::time::timeout(Duration::from_secs(10), closed)
            .await
            .expect("the connection is closed");
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            serve(stream, &shared).await;
            shared.closed.notify_one();
        });
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) {
    stream.set_nodelay(true).unwrap();
    while let Some(request) = read_request(&mut stream).await {
        shared.requests.lock().unwrap().push(request);
        let steps = shared
            .answers
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or_else(|| vec![Step::Hang]);
        for step in steps {
            match step {
                Step::Send(bytes) if stream.write_all(&bytes).await.is_err() => return,
                Step::Send(_) => {}
                Step::Pause(time) => tokio::time::sleep(time).await,
                Step::Hang => {
                    let _ = stream.read(&mut [0; 1]).await;
                    return;
                }
                Step::Close => return,
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        // This is a TLS greeting. The engine does not speak TLS.
        if bytes.first() == Some(&0x16) {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A complete response.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<Step> {
    vec![Step::Send(
        format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )]
}

/// A complete response in JSON.
pub(crate) fn json(status: &str, body: &str) -> Vec<Step> {
    answer(status, "content-type: application/json\r\n", body)
}

/// The head of a stream in chunked encoding.
pub(crate) fn stream_head() -> Step {
    Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec(),
    )
}

/// One piece of a stream in chunked encoding.
pub(crate) fn piece(bytes: impl AsRef<[u8]>) -> Step {
    let bytes = bytes.as_ref();
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    Step::Send(framed)
}

/// The end of a stream in chunked encoding.
pub(crate) fn stream_end() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}
