//! The process that holds the backend: takes calls from one pipe, and tells their events on the
//! other.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use futures_util::{FutureExt as _, StreamExt as _};
use loggia_wire::frame::ndjson;
use loggia_wire::openai::ChatCompletionRequest;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::WINDOW;
use super::frames::{CallNumber, Frames, FromHost, Hello, Said, ToHost};
use crate::{
    Abilities, Backend, BackendError, Call, CallHead, EmbeddingCall, Event, Reply, Work, WorkKind,
};

/// Frames that may wait for the pipe.
const OUTGOING: usize = 256;

/// Gathered frames of this many bytes are written before more are.
const GATHER: usize = 64 << 10;

/// The serving end.
pub struct Host<R, W> {
    frames: Frames<R>,
    output: W,
}

impl<R, W> Host<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Over these pipes.
    pub fn new(input: R, output: W) -> Self {
        Self {
            frames: Frames::new(input),
            output,
        }
    }

    /// What [`Remote::connect`](super::Remote::connect) was told to open; `None` where nobody is
    /// there to say.
    pub async fn opening<T: DeserializeOwned>(&mut self) -> Option<T> {
        self.frames.next().await
    }

    /// Says that there will be no backend, and why.
    pub async fn failed(mut self, why: &str) {
        let mut line = BytesMut::new();
        if ndjson::write(
            &mut line,
            &FromHost::Failed {
                why: why.to_owned(),
            },
        )
        .is_ok()
        {
            // Nobody may be left to hear it.
            let _ = self.output.write_all(&line).await;
            let _ = self.output.flush().await;
        }
    }

    /// Serves until the other side ends. Call it in a Tokio runtime: each call is a task of its
    /// own.
    ///
    /// # Errors
    /// Where the backend cannot say which models it has.
    pub async fn serve(self, backend: Arc<dyn Backend>) -> Result<(), BackendError> {
        let Self { mut frames, output } = self;
        let mut models = Vec::new();
        for model in backend.models().await? {
            let abilities = backend.abilities(&model.id).await?;
            models.push((model, Abilities::clone(&abilities)));
        }
        let (outgoing, incoming) = mpsc::channel(OUTGOING);
        // The first frame: the channel is empty.
        let _ = outgoing.send(FromHost::Ready(Hello { models })).await;
        let calls = Calls {
            backend,
            outgoing,
            under_way: Arc::default(),
        };
        tokio::select! {
            () = calls.take(&mut frames) => {}
            () = write(incoming, output) => {}
        }
        calls.end_all();
        Ok(())
    }
}

/// A call as it was received.
enum Asked {
    Start(Call),
    Embed(EmbeddingCall),
}

impl Asked {
    fn parse(head: CallHead, work: WorkKind, request: &RawValue) -> serde_json::Result<Self> {
        let request = request.get();
        let work = match work {
            WorkKind::Chat => {
                let mut work: ChatCompletionRequest = serde_json::from_str(request)?;
                work.keep_long_numbers(request.as_bytes());
                Work::Chat(work.into())
            }
            WorkKind::Completions => Work::Completion(serde_json::from_str(request)?),
            WorkKind::Embeddings => {
                let work = serde_json::from_str(request)?;
                return Ok(Self::Embed(EmbeddingCall { head, work }));
            }
        };
        Ok(Self::Start(Call { head, work }))
    }
}

/// A call under way: how it is ended, and how many events it may still send.
struct UnderWay {
    task: AbortHandle,
    room: Arc<Semaphore>,
}

struct Calls {
    backend: Arc<dyn Backend>,
    outgoing: mpsc::Sender<FromHost>,
    under_way: Arc<Mutex<HashMap<CallNumber, UnderWay>>>,
}

impl Calls {
    async fn take<R: AsyncRead + Unpin>(&self, frames: &mut Frames<R>) {
        while let Some(frame) = frames.next().await {
            match frame {
                ToHost::Call {
                    call,
                    id,
                    caller,
                    profile,
                    strict,
                    work,
                    request,
                } => {
                    let head = CallHead {
                        caller,
                        profile,
                        strict,
                        ..CallHead::new(id)
                    };
                    self.begin(call, Asked::parse(head, work, &request));
                }
                ToHost::Taken { call, events } => self.give_room(call, events),
                ToHost::Left { call } => self.end(call),
            }
        }
    }

    fn begin(&self, call: CallNumber, asked: serde_json::Result<Asked>) {
        let room = Arc::new(Semaphore::new(WINDOW as usize));
        let teller = Teller {
            call,
            outgoing: self.outgoing.clone(),
            room: Arc::clone(&room),
        };
        let (backend, under_way) = (Arc::clone(&self.backend), Arc::clone(&self.under_way));
        // The lock is held until the task is in the table, so that it cannot take itself out
        // before.
        let mut table = lock(&self.under_way);
        let task = tokio::spawn(async move {
            let last = match asked {
                Ok(asked) => teller.hold_whatever_happens(&*backend, asked).await,
                Err(_) => {
                    Said::Failed(failed("the request cannot be read by the engine's process"))
                }
            };
            teller.say(last).await;
            lock(&under_way).remove(&call);
        });
        table.insert(
            call,
            UnderWay {
                task: task.abort_handle(),
                room,
            },
        );
    }

    fn give_room(&self, call: CallNumber, events: u32) {
        if let Some(under_way) = lock(&self.under_way).get(&call) {
            // No more than there ever was, whatever the other side says.
            let most = (WINDOW as usize).saturating_sub(under_way.room.available_permits());
            under_way.room.add_permits(most.min(events as usize));
        }
    }

    /// Dropping the task drops the backend's reply, which tells the engine to stop.
    fn end(&self, call: CallNumber) {
        if let Some(under_way) = lock(&self.under_way).remove(&call) {
            under_way.task.abort();
        }
    }

    fn end_all(&self) {
        for (_, under_way) in lock(&self.under_way).drain() {
            under_way.task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(message: &str) -> BackendError {
    BackendError::Engine {
        message: message.to_owned(),
    }
}

/// Tells of one call.
struct Teller {
    call: CallNumber,
    outgoing: mpsc::Sender<FromHost>,
    room: Arc<Semaphore>,
}

impl Teller {
    /// What ends the call; a panic of the backend's ends it too, and nothing else. What it says is
    /// not told: it may quote the client.
    async fn hold_whatever_happens(&self, backend: &dyn Backend, asked: Asked) -> Said {
        let held = AssertUnwindSafe(self.hold(backend, asked))
            .catch_unwind()
            .await;
        held.unwrap_or_else(|_| {
            Said::Failed(failed(
                "the engine failed at this request; its log names the place",
            ))
        })
    }

    async fn hold(&self, backend: &dyn Backend, asked: Asked) -> Said {
        match asked {
            Asked::Start(call) => self.answer(backend.start(call).await).await,
            Asked::Embed(call) => match backend.embed(call).await {
                Ok(embeddings) => Said::Embedded(embeddings.into()),
                Err(error) => Said::Failed(error),
            },
        }
    }

    async fn answer(&self, begun: Result<Reply, BackendError>) -> Said {
        match begun {
            Ok(reply) => {
                self.say(Said::Accepted(reply.served_by)).await;
                self.relay(reply.events).await
            }
            Err(error) => Said::Failed(error),
        }
    }

    async fn relay(&self, mut events: crate::Events) -> Said {
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.event(event).await,
                Err(error) => return Said::Failed(error),
            }
        }
        Said::End
    }

    async fn event(&self, event: Event) {
        if let Ok(room) = self.room.acquire().await {
            room.forget();
        }
        self.say(Said::Event(event)).await;
    }

    async fn say(&self, said: Said) {
        // Where the writer has ended, so has the other side, and this task is about to be.
        let _ = self
            .outgoing
            .send(FromHost::Call {
                call: self.call,
                said,
            })
            .await;
    }
}

/// Writes frames, all that are ready together.
async fn write<W: AsyncWrite + Unpin>(mut frames: mpsc::Receiver<FromHost>, mut output: W) {
    let mut buffer = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        let mut next = Some(frame);
        while let Some(frame) = next.take() {
            if ndjson::write(&mut buffer, &frame).is_err() {
                tracing::error!("a frame cannot be written as JSON");
                return;
            }
            if buffer.len() < GATHER {
                next = frames.try_recv().ok();
            }
        }
        if output.write_all(&buffer).await.is_err() || output.flush().await.is_err() {
            return;
        }
        buffer.clear();
    }
}
