//! The process with the backend: reads calls from one pipe and writes their events to the other.

use std::collections::HashMap;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use loggia_wire::frame::ndjson;
use loggia_wire::openai::{ChatCompletionRequest, InputGrammar};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::WINDOW;
use super::frames::{
    AudioHead, CallMessage, CallNumber, Frames, FromHost, Hello, SentRecording, ToHost,
};
use crate::{
    Abilities, Audio, AudioCall, AudioReply, AudioTask, Backend, BackendError, Call, CallHead,
    ChatCall, Content, EmbeddingCall, Recording, Reply, RerankCall, Work, WorkKind,
};

/// The maximum number of messages that wait for the pipe.
const OUTGOING: usize = 256;

/// Messages are collected up to this number of bytes before a write.
const GATHER: usize = 64 << 10;

/// Serves a backend over a pair of pipes.
pub struct Host<R, W> {
    frames: Frames<R>,
    output: W,
}

impl<R, W> Host<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Creates a host over these pipes.
    pub fn new(input: R, output: W) -> Self {
        Self {
            frames: Frames::new(input),
            output,
        }
    }

    /// Returns the value that the caller passed to [`Remote::connect`](super::Remote::connect).
    /// `None` if the caller has ended.
    pub async fn opening<T: DeserializeOwned>(&mut self) -> Option<T> {
        self.frames.next().await
    }

    /// Reports that the backend could not be created, and why.
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
            // The other side may have ended already.
            let _ = self.output.write_all(&line).await;
            let _ = self.output.flush().await;
        }
    }

    /// Serves until the other side ends. Call it in a Tokio runtime: each call becomes a task.
    ///
    /// # Errors
    /// Fails if the backend cannot list its models.
    pub async fn serve(self, backend: Arc<dyn Backend>) -> Result<(), BackendError> {
        let Self { mut frames, output } = self;
        let mut models = Vec::new();
        for model in backend.models().await? {
            let abilities = backend.abilities(&model.id).await?;
            models.push((model, Abilities::clone(&abilities)));
        }
        let (outgoing, incoming) = mpsc::channel(OUTGOING);
        // This is the first message, so the channel is empty.
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

/// A received call.
enum ReceivedCall {
    Start(Call),
    Embed(EmbeddingCall),
    Count(ChatCall),
    Rerank(RerankCall),
    /// A recording, and the pieces of its file.
    Hear(CallHead, SentRecording, mpsc::Receiver<Bytes>),
}

impl ReceivedCall {
    fn parse(
        head: CallHead,
        work: WorkKind,
        counts: bool,
        request: &RawValue,
        input_grammars: Vec<Option<InputGrammar>>,
    ) -> serde_json::Result<Self> {
        let request = request.get();
        let work = match work {
            WorkKind::Chat => {
                let mut work: ChatCompletionRequest = serde_json::from_str(request)?;
                work.keep_long_numbers(request.as_bytes());
                for (tool, grammar) in work.tools.iter_mut().flatten().zip(input_grammars) {
                    if let Some(function) = &mut tool.function {
                        function.input_grammar = grammar;
                    }
                }
                let work = Arc::new(work);
                if counts {
                    return Ok(Self::Count(ChatCall { head, work }));
                }
                Work::Chat(work)
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

/// A running call: the handle with which it is ended, and the number of events that it may still
/// send.
struct UnderWay {
    task: AbortHandle,
    room: Arc<Semaphore>,
    /// Takes the pieces of a recording.
    pieces: Option<mpsc::Sender<Bytes>>,
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
                    head,
                    work,
                    counts,
                    request,
                    input_grammars,
                } => {
                    let received =
                        ReceivedCall::parse(head.into(), work, counts, &request, input_grammars);
                    self.begin(call, received, None);
                }
                ToHost::Recording {
                    call,
                    head,
                    recording,
                } => {
                    // One piece at a time is asked for.
                    let (pieces, file) = mpsc::channel(1);
                    let received = ReceivedCall::Hear(head.into(), recording, file);
                    self.begin(call, Ok(received), Some(pieces));
                }
                ToHost::Rerank { call, head, rerank } => {
                    let received = ReceivedCall::Rerank(RerankCall {
                        head: head.into(),
                        work: rerank,
                    });
                    self.begin(call, Ok(received), None);
                }
                ToHost::Piece { call, piece } => {
                    if let Some(UnderWay {
                        pieces: Some(pieces),
                        ..
                    }) = lock(&self.under_way).get(&call)
                    {
                        // A piece that nobody asked for is dropped.
                        let _ = pieces.try_send(piece.into());
                    }
                }
                ToHost::Taken { call, events } => self.give_room(call, events),
                ToHost::Left { call } => self.end(call),
            }
        }
    }

    fn begin(
        &self,
        call: CallNumber,
        asked: serde_json::Result<ReceivedCall>,
        pieces: Option<mpsc::Sender<Bytes>>,
    ) {
        let room = Arc::new(Semaphore::new(WINDOW as usize));
        let sender = CallSender {
            call,
            outgoing: self.outgoing.clone(),
            room: Arc::clone(&room),
        };
        let (backend, under_way) = (Arc::clone(&self.backend), Arc::clone(&self.under_way));
        // The lock is held until the task is in the table, so that the task cannot remove itself
        // before.
        let mut table = lock(&self.under_way);
        let task = tokio::spawn(async move {
            let last = match asked {
                Ok(asked) => sender.run_catching_panics(&*backend, asked).await,
                Err(_) => {
                    CallMessage::Failed(failed("the engine's process cannot parse the request"))
                }
            };
            sender.say(last).await;
            lock(&under_way).remove(&call);
        });
        table.insert(
            call,
            UnderWay {
                task: task.abort_handle(),
                room,
                pieces,
            },
        );
    }

    fn give_room(&self, call: CallNumber, events: u32) {
        if let Some(under_way) = lock(&self.under_way).get(&call) {
            // The number never exceeds its initial value, whatever the other process sends.
            let most = (WINDOW as usize).saturating_sub(under_way.room.available_permits());
            under_way.room.add_permits(most.min(events as usize));
        }
    }

    /// Ends a call. Dropping the task drops the backend's reply, which tells the engine to stop.
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

/// Sends the messages of one call.
struct CallSender {
    call: CallNumber,
    outgoing: mpsc::Sender<FromHost>,
    room: Arc<Semaphore>,
}

impl CallSender {
    /// Runs a call and returns its last message. A panic of the backend ends only this call. The
    /// message of the panic is not sent, because it may quote the client.
    async fn run_catching_panics(&self, backend: &dyn Backend, asked: ReceivedCall) -> CallMessage {
        let held = AssertUnwindSafe(self.run(backend, asked))
            .catch_unwind()
            .await;
        held.unwrap_or_else(|_| {
            CallMessage::Failed(failed(
                "the engine failed while it processed this request; see its log for the position",
            ))
        })
    }

    async fn run(&self, backend: &dyn Backend, asked: ReceivedCall) -> CallMessage {
        match asked {
            ReceivedCall::Start(call) => self.answer(backend.start(call).await).await,
            ReceivedCall::Embed(call) => match backend.embed(call).await {
                Ok(embeddings) => CallMessage::Embedded(embeddings.into()),
                Err(error) => CallMessage::Failed(error),
            },
            ReceivedCall::Count(call) => match backend.count_tokens(call).await {
                Ok(count) => CallMessage::Counted(count),
                Err(error) => CallMessage::Failed(error),
            },
            ReceivedCall::Rerank(call) => match backend.rerank(call).await {
                Ok(ranked) => CallMessage::Reranked(ranked),
                Err(error) => CallMessage::Failed(error),
            },
            ReceivedCall::Hear(head, recording, pieces) => {
                match self.received(recording, pieces).await {
                    Ok(work) => {
                        self.heard(backend.audio(AudioCall { head, work }).await)
                            .await
                    }
                    Err(error) => CallMessage::Failed(error),
                }
            }
        }
    }

    /// Receives the file of a recording, into a temporary file without a name.
    async fn received(
        &self,
        sent: SentRecording,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> Result<Audio, BackendError> {
        let cannot = |error: std::io::Error| {
            tracing::error!(%error, "a recording cannot be kept");
            failed("the engine's process cannot keep the recording")
        };
        let mut file = tempfile::tempfile().map_err(cannot)?;
        let mut length = 0;
        while length < sent.length {
            self.say(CallMessage::Wants).await;
            let piece = pieces.recv().await.filter(|piece| !piece.is_empty());
            let piece = piece.ok_or_else(|| failed("the recording ended too early"))?;
            length += piece.len() as u64;
            file.write_all(&piece).map_err(cannot)?;
        }
        let recording = Recording {
            name: sent.name,
            media_type: sent.media_type,
            content: Content::in_file(file, length),
            fields: sent.fields,
            stream: sent.stream,
        };
        Ok(Audio {
            model: sent.model,
            task: if sent.translates {
                AudioTask::Translate(recording)
            } else {
                AudioTask::Transcribe(recording)
            },
        })
    }

    async fn heard(&self, begun: Result<Option<AudioReply>, BackendError>) -> CallMessage {
        let reply = match begun {
            Ok(Some(reply)) => reply,
            Ok(None) => return CallMessage::NoAudio,
            Err(error) => return CallMessage::Failed(error),
        };
        self.say(CallMessage::AudioBegun(AudioHead::of(&reply)))
            .await;
        self.relay(reply.pieces).await
    }

    async fn answer(&self, begun: Result<Reply, BackendError>) -> CallMessage {
        match begun {
            Ok(reply) => {
                self.say(CallMessage::Accepted(reply.served_by)).await;
                self.relay(reply.events).await
            }
            Err(error) => CallMessage::Failed(error),
        }
    }

    async fn relay<P: Into<CallMessage>>(
        &self,
        mut pieces: BoxStream<'static, Result<P, BackendError>>,
    ) -> CallMessage {
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => self.say_with_room(piece.into()).await,
                Err(error) => return CallMessage::Failed(error),
            }
        }
        CallMessage::End
    }

    /// Sends a message as soon as the reader has room for it.
    async fn say_with_room(&self, said: CallMessage) {
        if let Ok(room) = self.room.acquire().await {
            room.forget();
        }
        self.say(said).await;
    }

    async fn say(&self, said: CallMessage) {
        // If the writer has ended, the other side has too, and this task is about to end.
        let _ = self
            .outgoing
            .send(FromHost::Call {
                call: self.call,
                said,
            })
            .await;
    }
}

/// Writes messages, all that are ready in one write.
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
