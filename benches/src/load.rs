//! The client: keep-alive connections that send the same bytes again and again and read each answer
//! to its end.
//!
//! It only checks that each answer has the same length and the same end as the first, to leave the
//! CPU to the gateway.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::http::{AnswerReader, Body};

/// The request to send, its target, and how often to send it.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) target: SocketAddr,
    pub(crate) request: Bytes,
    pub(crate) connections: usize,
    /// The number of answers on all connections together.
    pub(crate) answers: usize,
    /// The required length of each body.
    pub(crate) body_bytes: usize,
}

/// The API by which the client asks for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    /// Responses, which Loggia stores unless the client forbids it.
    Responses {
        stored: bool,
    },
    /// Anthropic's Messages.
    Messages,
}

const SYSTEM: &str = "You are a helpful assistant who answers in a few short sentences.";
const USER: &str = "Tell me the story of a lighthouse keeper who had never seen snow, and what happened on the day it came.";

/// The bytes of a request, as a client of this API sends them. All ask for the same answer.
pub(crate) fn request(api: Api, target: SocketAddr, stream: bool) -> Bytes {
    let (model, key) = (crate::answers::MODEL, crate::gateway::KEY);
    let user = format!(r#"{{"role":"user","content":"{USER}"}}"#);
    let (path, body) = match api {
        Api::Chat => (
            "/v1/chat/completions",
            format!(
                r#"{{"model":"{model}","messages":[{{"role":"system","content":"{SYSTEM}"}},{user}],"max_tokens":2000,"temperature":0.7,"stream":{stream}}}"#
            ),
        ),
        Api::Responses { stored } => (
            "/v1/responses",
            format!(
                r#"{{"model":"{model}","instructions":"{SYSTEM}","input":[{user}],"max_output_tokens":2000,"temperature":0.7,"store":{stored},"stream":{stream}}}"#
            ),
        ),
        Api::Messages => (
            "/v1/messages",
            format!(
                r#"{{"model":"{model}","system":"{SYSTEM}","messages":[{user}],"max_tokens":2000,"temperature":0.7,"stream":{stream}}}"#
            ),
        ),
    };
    format!(
        "POST {path} HTTP/1.1\r\nhost: {target}\r\naccept: application/json\r\ncontent-type: application/json\r\nuser-agent: OpenAI/Python 2.0\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

/// Sends one request and returns the whole body.
pub(crate) fn ask_once(target: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    block_on(async {
        let mut connection = Connection::open(target, usize::MAX).await?;
        Ok(connection.ask(request).await?.tail)
    })
}

/// Sends requests until `load.answers` answers have arrived. Each connection sends its next request
/// after its last answer.
pub(crate) fn run(load: &Load) -> Result<()> {
    block_on(async {
        let left = Arc::new(AtomicUsize::new(load.answers));
        let mut tasks = JoinSet::new();
        for _ in 0..load.connections {
            let (load, left) = (load.clone(), Arc::clone(&left));
            tasks.spawn(async move {
                let mut connection = Connection::open(load.target, 14).await?;
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok()
                {
                    let body = connection.ask(&load.request).await?;
                    ensure!(
                        body.bytes == load.body_bytes,
                        "an answer of {} bytes, expected {}",
                        body.bytes,
                        load.body_bytes
                    );
                }
                Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.context("a connection's task failed")??;
        }
        Ok(())
    })
}

/// Opens `load.connections` streams, waits until each has received at least `seen` bytes, and a
/// while longer, so that all are well under way, and closes them. Returns the result of `look`,
/// which is called just before.
pub(crate) fn hold_open<T>(
    load: &Load,
    seen: usize,
    look: impl FnOnce() -> Result<T>,
) -> Result<T> {
    block_on(async {
        let started = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..load.connections {
            let (load, started) = (load.clone(), Arc::clone(&started));
            tasks.spawn(async move {
                let mut connection = Connection::open(load.target, 14).await?;
                connection.begin(&load.request, seen).await?;
                started.fetch_add(1, Ordering::Relaxed);
                connection.finish().await
            });
            if number % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        while started.load(Ordering::Relaxed) < load.connections {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
                Some(done) = tasks.join_next() => {
                    done.context("a connection's task failed")??;
                    anyhow::bail!("a stream ended before all were open");
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        let result = look();
        ensure!(tasks.len() == load.connections, "a stream was lost");
        tasks.shutdown().await;
        result
    })
}

/// Streams that have ended.
pub(crate) struct Ended<T> {
    /// What was seen when all streams were open, and a while later.
    pub(crate) looked: [T; 2],
    /// The number of streams without a proper end, or with another length than the others.
    pub(crate) broken: usize,
}

/// Opens `load.connections` streams and reads each to its end. Calls `look` when each has received
/// at least `seen` bytes, and again after `during`, while all are still open.
pub(crate) fn hold_to_the_end<T>(
    load: &Load,
    seen: usize,
    during: Duration,
    mut look: impl FnMut() -> Result<T>,
) -> Result<Ended<T>> {
    block_on(async {
        let started = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..load.connections {
            let (load, started) = (load.clone(), Arc::clone(&started));
            tasks.spawn(async move {
                let begun = async {
                    let mut connection = Connection::open(load.target, 14).await?;
                    connection.begin(&load.request, seen).await?;
                    Ok::<_, anyhow::Error>(connection)
                };
                let begun = begun.await;
                started.fetch_add(1, Ordering::Relaxed);
                begun?.finish().await
            });
            if number % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        while started.load(Ordering::Relaxed) < load.connections {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let first = look()?;
        tokio::time::sleep(during).await;
        let looked = [first, look()?];
        ensure!(
            tasks.len() == load.connections,
            "the first stream ended before the last was measured; try fewer streams"
        );
        let (mut lengths, mut broken) = (BTreeMap::<usize, usize>::new(), 0);
        while let Some(done) = tasks.join_next().await {
            match done.context("a connection's task failed")? {
                Ok(body) if body.tail.ends_with(b"data: [DONE]\n\n") => {
                    *lengths.entry(body.bytes).or_default() += 1;
                }
                Ok(_) => broken += 1,
                Err(error) => {
                    if broken == 0 {
                        eprintln!("the first broken stream: {error:#}");
                    }
                    broken += 1;
                }
            }
        }
        let most = lengths.values().max().copied().unwrap_or(0);
        broken += lengths.values().sum::<usize>() - most;
        Ok(Ended { looked, broken })
    })
}

pub(crate) struct Connection {
    socket: TcpStream,
    reader: AnswerReader,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(target: SocketAddr, keep: usize) -> Result<Self> {
        let socket = TcpStream::connect(target)
            .await
            .with_context(|| format!("could not connect to {target}"))?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            reader: AnswerReader::keeping(keep),
            received: Vec::with_capacity(64 << 10),
        })
    }

    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Body> {
        self.socket.write_all(request).await?;
        self.finish().await
    }

    /// Sends a request and reads the first `seen` bytes of the body.
    async fn begin(&mut self, request: &[u8], seen: usize) -> Result<()> {
        self.received.shrink_to(4 << 10);
        self.socket.write_all(request).await?;
        while self.reader.body_bytes() < seen {
            ensure!(self.read().await?.is_none(), "the answer ended early");
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<Body> {
        loop {
            if let Some(body) = self.read().await? {
                return Ok(body);
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Body>> {
        self.received.clear();
        let read = self.socket.read_buf(&mut self.received).await?;
        ensure!(read > 0, "the gateway closed in the middle of an answer");
        self.reader.push(&self.received)
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}
