//! A simulated Ollama that answers at once with prepared bytes. It uses one thread, and parses only
//! as much of a request as it needs to find the end.
//!
//! It also has OpenAI's routes, for nginx, which passes through the bytes that Loggia would have
//! sent. The answer to chats is set between two measurements.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    answers::{self, Answer, Delivery},
    http,
    pacer::{self, PacedStream},
};

/// The answers to chats.
#[derive(Clone)]
pub(crate) struct Plan {
    /// The answer on `/api/chat`.
    pub(crate) ollama: Answer,
    /// The answer on `/v1/chat/completions`.
    pub(crate) openai: Answer,
    pub(crate) delivery: Delivery,
}

/// A stand-in that runs until the program ends.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    plan: Mutex<Arc<Plan>>,
    chats: AtomicUsize,
    asked_besides: AtomicUsize,
    paced: mpsc::Sender<PacedStream>,
}

impl StandIn {
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        let listener =
            std::net::TcpListener::bind("127.0.0.1:0").context("could not listen on loopback")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (paced, streams) = mpsc::channel();
        let shared = Arc::new(Shared {
            plan: Mutex::new(Arc::new(plan)),
            chats: 0.into(),
            asked_besides: 0.into(),
            paced,
        });
        let (for_pacer, back) = (Arc::clone(&shared), runtime.handle().clone());
        thread::spawn(move || {
            pacer::run(&streams, |socket| {
                back.spawn(resume(socket, Arc::clone(&for_pacer)));
            });
        });
        let for_server = Arc::clone(&shared);
        thread::spawn(move || runtime.block_on(accept(listener, for_server)));
        Ok(Self { address, shared })
    }

    pub(crate) fn set(&self, plan: Plan) {
        *self
            .shared
            .plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }

    /// The numbers of chats and of other requests since the last call.
    pub(crate) fn take_counts(&self) -> (usize, usize) {
        (
            self.shared.chats.swap(0, Ordering::Relaxed),
            self.shared.asked_besides.swap(0, Ordering::Relaxed),
        )
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((socket, _)) = listener.accept().await {
        // Without this option the socket still works, but the pace would be uneven.
        let _ = socket.set_nodelay(true);
        tokio::spawn(serve(socket, Arc::clone(&shared)));
    }
}

async fn resume(socket: std::net::TcpStream, shared: Arc<Shared>) {
    if let Ok(socket) = TcpStream::from_std(socket) {
        serve(socket, shared).await;
    }
}

/// Answers one request after the other until the client disconnects, which is reported as an error.
async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut received = Vec::with_capacity(4096);
    while let Ok(Some(request)) = read_request(&mut socket, &mut received).await {
        let chat = match request.as_str() {
            "/api/chat" | "/v1/chat/completions" => {
                shared.chats.fetch_add(1, Ordering::Relaxed);
                Some(Arc::clone(
                    &shared.plan.lock().unwrap_or_else(PoisonError::into_inner),
                ))
            }
            _ => None,
        };
        let Some(plan) = chat else {
            shared.asked_besides.fetch_add(1, Ordering::Relaxed);
            if socket
                .write_all(&answers::about(&request).head)
                .await
                .is_err()
            {
                return;
            }
            continue;
        };
        let answer = if request == "/api/chat" {
            plan.ollama.clone()
        } else {
            plan.openai.clone()
        };
        if let Delivery::Paced { every, beats } = plan.delivery {
            if socket.write_all(&answer.head).await.is_ok()
                && let Ok(socket) = socket.into_std()
            {
                // The pacer lives as long as the program.
                let _ = shared
                    .paced
                    .send(PacedStream::new(socket, answer.pieces, every, beats));
            }
            return;
        }
        if write(&mut socket, &answer).await.is_err() {
            return;
        }
    }
}

async fn write(socket: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    socket.write_all(&answer.head).await?;
    for piece in &answer.pieces {
        socket.write_all(piece).await?;
    }
    Ok(())
}

/// The path of the next request, once all of its body has arrived; `None` when the client closed
/// the connection.
async fn read_request(
    socket: &mut TcpStream,
    received: &mut Vec<u8>,
) -> std::io::Result<Option<String>> {
    loop {
        if let Some((path, end)) = http::request(received) {
            received.drain(..end);
            return Ok(Some(path));
        }
        if socket.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}
