//! The caller's side: writes calls to one pipe and reads their events from the other.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use loggia_wire::frame::ndjson;
use loggia_wire::openai::{ChatCompletionRequest, InputGrammar, Model};
use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};

use super::WINDOW;
use super::frames::{
    AudioHead, CallMessage, CallNumber, Frames, FromHost, Hello, SentRecording, ToHost,
};
use crate::{
    Abilities, AudioCall, AudioPiece, AudioReply, AudioTask, Backend, BackendError, Call, CallHead,
    ChatCall, Content, EmbeddingCall, Embeddings, Event, Reply, RerankCall, Reranked, TokenCount,
    Work, WorkKind,
};

/// The reason why there is no backend at the other end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The other process could not create the backend.
    #[error("{0}")]
    Failed(String),
    /// The other process ended before it sent a message.
    #[error("the process ended before it was ready")]
    Ended,
}

/// A backend in another process. Dropping it and all of its replies closes the pipe to that
/// process, which then ends.
pub struct Remote {
    shared: Arc<Shared>,
}

struct Shared {
    /// The name of the backend in errors.
    name: Arc<str>,
    models: Vec<(Model, Arc<Abilities>)>,
    /// Unbounded, but never holds more than a few messages per running call.
    outgoing: mpsc::UnboundedSender<ToHost>,
    readers: Mutex<Readers>,
    next_call: AtomicU64,
    over: watch::Receiver<bool>,
}

#[derive(Default)]
struct Readers {
    of_calls: HashMap<CallNumber, mpsc::Sender<CallMessage>>,
    /// Whether the other process has ended, so that no new readers are accepted.
    over: bool,
}

impl Remote {
    /// Sends `opening`, the description of the model, to the other process, and waits until it has
    /// opened the model. Call it in the Tokio runtime that will exchange the messages.
    ///
    /// # Errors
    /// Fails if the other process reports an error or ends.
    pub async fn connect<R, W>(
        name: impl Into<Arc<str>>,
        opening: &(impl Serialize + Sync),
        input: R,
        mut output: W,
    ) -> Result<Self, ConnectError>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let mut line = BytesMut::new();
        ndjson::write(&mut line, opening)
            .map_err(|error| ConnectError::Failed(error.to_string()))?;
        let written = output.write_all(&line).await.is_ok() && output.flush().await.is_ok();
        let mut frames = Frames::new(input);
        let models = match frames.next().await {
            Some(FromHost::Ready(Hello { models })) if written => models,
            Some(FromHost::Failed { why }) => return Err(ConnectError::Failed(why)),
            _ => return Err(ConnectError::Ended),
        };
        let (outgoing, calls) = mpsc::unbounded_channel();
        let (ending, over) = watch::channel(false);
        let shared = Arc::new(Shared {
            name: name.into(),
            models: models
                .into_iter()
                .map(|(model, abilities)| (model, Arc::new(abilities)))
                .collect(),
            outgoing,
            readers: Mutex::default(),
            next_call: AtomicU64::default(),
            over,
        });
        tokio::spawn(write(calls, output));
        // The task holds no `Shared` while it waits, so the pipe closes when the last reply and the
        // `Remote` are dropped.
        tokio::spawn(read(frames, Arc::downgrade(&shared), ending));
        Ok(Self { shared })
    }

    /// Resolves when the other process has ended.
    pub async fn ended(&self) {
        let mut over = self.shared.over.clone();
        // An error means that the reading task has ended, which is the same.
        let _ = over.wait_for(|over| *over).await;
    }

    /// Returns the models and their abilities.
    pub fn known(&self) -> &[(Model, Arc<Abilities>)] {
        &self.shared.models
    }
}

impl Shared {
    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut_short(&self) -> BackendError {
        BackendError::CutShort {
            backend: self.name.to_string(),
        }
    }

    /// Sends a call and returns the receiver of its answer.
    fn call(
        self: &Arc<Self>,
        head: CallHead,
        work: WorkKind,
        request: &impl Serialize,
    ) -> Result<Answer, BackendError> {
        self.send(head, work, false, request, Vec::new())
    }

    /// Sends a chat, to be answered or only to count its tokens.
    fn chat(
        self: &Arc<Self>,
        head: CallHead,
        counts: bool,
        request: &ChatCompletionRequest,
    ) -> Result<Answer, BackendError> {
        let grammars = input_grammars(request);
        self.send(head, WorkKind::Chat, counts, request, grammars)
    }

    fn send(
        self: &Arc<Self>,
        head: CallHead,
        work: WorkKind,
        counts: bool,
        request: &impl Serialize,
        input_grammars: Vec<Option<InputGrammar>>,
    ) -> Result<Answer, BackendError> {
        let answer = self.expect_answer()?;
        let request = to_raw_value(request);
        let request = request.map_err(|error| BackendError::Engine {
            message: error.to_string(),
        })?;
        let frame = ToHost::Call {
            call: answer.number,
            head: head.into(),
            work,
            counts,
            request,
            input_grammars,
        };
        self.outgoing.send(frame).map_err(|_| self.cut_short())?;
        Ok(answer)
    }

    fn rerank(self: &Arc<Self>, call: RerankCall) -> Result<Answer, BackendError> {
        let answer = self.expect_answer()?;
        let frame = ToHost::Rerank {
            call: answer.number,
            head: call.head.into(),
            rerank: call.work,
        };
        self.outgoing.send(frame).map_err(|_| self.cut_short())?;
        Ok(answer)
    }

    /// Creates the receiver of the answer to a call that is about to be sent. The call is cancelled
    /// when it is dropped, whatever happens.
    fn expect_answer(self: &Arc<Self>) -> Result<Answer, BackendError> {
        let number = self.next_call.fetch_add(1, Ordering::Relaxed);
        // The window, plus `Accepted` and the last message.
        let (sender, said) = mpsc::channel(WINDOW as usize + 2);
        {
            let mut readers = self.readers();
            if readers.over {
                return Err(self.cut_short());
            }
            readers.of_calls.insert(number, sender);
        }
        Ok(Answer {
            shared: Arc::clone(self),
            number,
            said,
            taken: 0,
            over: false,
        })
    }

    /// Sends a recording, piece by piece as the other side asks for it, and waits until the answer
    /// begins.
    async fn hear(self: &Arc<Self>, call: AudioCall) -> Result<Option<AudioReply>, BackendError> {
        let translates = matches!(call.work.task, AudioTask::Translate(_));
        let (AudioTask::Transcribe(recording) | AudioTask::Translate(recording)) = call.work.task
        else {
            return Ok(None);
        };
        let mut answer = self.expect_answer()?;
        let frame = ToHost::Recording {
            call: answer.number,
            head: call.head.into(),
            recording: SentRecording {
                model: call.work.model,
                translates,
                name: recording.name,
                media_type: recording.media_type,
                length: recording.content.length(),
                fields: recording.fields,
                stream: recording.stream,
            },
        };
        self.outgoing.send(frame).map_err(|_| self.cut_short())?;
        let AudioHead {
            served_by,
            media_type,
            length,
        } = match answer.send_file(&recording.content).await? {
            CallMessage::AudioBegun(head) => head,
            CallMessage::NoAudio => {
                answer.over = true;
                return Ok(None);
            }
            _ => return Err(self.cut_short()),
        };
        Ok(Some(AudioReply {
            served_by,
            media_type,
            length,
            pieces: Box::pin(AudioAnswer(answer)),
        }))
    }

    fn tell(&self, call: CallNumber, said: CallMessage) {
        let mut readers = self.readers();
        // A reader that has left gets nothing. A correct peer never sends more than the channel
        // holds.
        if let Some(reader) = readers.of_calls.get(&call)
            && reader.try_send(said).is_err()
        {
            readers.of_calls.remove(&call);
        }
    }

    /// Ends all readers by dropping their senders.
    fn end(&self) {
        let mut readers = self.readers();
        readers.over = true;
        readers.of_calls.clear();
    }
}

impl Backend for Remote {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let known = self.shared.models.iter().find(|(its, _)| its.id == model);
        let abilities = known.map(|(_, abilities)| Arc::clone(abilities));
        Box::pin(std::future::ready(
            abilities.ok_or_else(|| BackendError::model_not_found(model)),
        ))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            let Call { head, work } = call;
            let answer = match &work {
                Work::Chat(request) => self.shared.chat(head, false, request),
                Work::Completion(request) => self.shared.call(head, work.kind(), &**request),
            };
            answer?.begun().await
        })
    }

    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            let EmbeddingCall { head, work } = call;
            let mut answer = self.shared.call(head, WorkKind::Embeddings, &*work)?;
            match answer.first().await? {
                CallMessage::Embedded(packed) => {
                    answer.over = true;
                    Ok(packed.into())
                }
                _ => Err(self.shared.cut_short()),
            }
        })
    }

    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(async move {
            let mut answer = self.shared.rerank(call)?;
            match answer.first().await? {
                CallMessage::Reranked(ranked) => {
                    answer.over = true;
                    Ok(ranked)
                }
                _ => Err(self.shared.cut_short()),
            }
        })
    }

    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(self.shared.hear(call))
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(async move {
            let ChatCall { head, work } = call;
            let mut answer = self.shared.chat(head, true, &work)?;
            match answer.first().await? {
                CallMessage::Counted(count) => {
                    answer.over = true;
                    Ok(count)
                }
                _ => Err(self.shared.cut_short()),
            }
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        let models = self
            .shared
            .models
            .iter()
            .map(|(model, _)| model.clone())
            .collect();
        Box::pin(std::future::ready(Ok(models)))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        let ready = if *self.shared.over.borrow() {
            Err(self.shared.cut_short())
        } else {
            Ok(())
        };
        Box::pin(std::future::ready(ready))
    }
}

/// The answer to one call.
struct Answer {
    shared: Arc<Shared>,
    number: CallNumber,
    said: mpsc::Receiver<CallMessage>,
    /// The number of consumed events that the other side has not been told about.
    taken: u32,
    over: bool,
}

impl Answer {
    /// Returns the first message, or the error of the call.
    async fn first(&mut self) -> Result<CallMessage, BackendError> {
        match self.said.recv().await {
            Some(CallMessage::Failed(error)) => {
                self.over = true;
                Err(error)
            }
            said => said.ok_or_else(|| self.shared.cut_short()),
        }
    }

    /// Sends the pieces of a file that the other side wants. Returns the first message that is
    /// about something else.
    async fn send_file(&mut self, content: &Content) -> Result<CallMessage, BackendError> {
        let mut pieces = content.pieces();
        loop {
            match self.first().await? {
                CallMessage::Wants => {}
                other => return Ok(other),
            }
            // Nothing, at the end or after an error, tells the other side that the file is broken.
            let piece = pieces.next().await.transpose().unwrap_or_default();
            let frame = ToHost::Piece {
                call: self.number,
                piece: piece.as_deref().unwrap_or_default().into(),
            };
            let sent = self.shared.outgoing.send(frame);
            sent.map_err(|_| self.shared.cut_short())?;
        }
    }

    /// Returns the reply, after the other side has accepted the call.
    async fn begun(mut self) -> Result<Reply, BackendError> {
        match self.first().await? {
            CallMessage::Accepted(served_by) => Ok(Reply {
                served_by,
                events: Box::pin(self),
            }),
            _ => Err(self.shared.cut_short()),
        }
    }

    /// Returns the next piece, or the end. `take` returns the piece of a message, or the message if it
    /// is another one.
    fn poll_piece<P>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(CallMessage) -> Result<P, CallMessage>,
    ) -> Poll<Option<Result<P, BackendError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let last = match ready!(self.said.poll_recv(cx)).map(take) {
            Some(Ok(piece)) => {
                self.take_note();
                return Poll::Ready(Some(Ok(piece)));
            }
            Some(Err(last)) => Some(last),
            None => None,
        };
        self.over = true;
        Poll::Ready(match last {
            Some(CallMessage::End) => None,
            Some(CallMessage::Failed(error)) => Some(Err(error)),
            _ => Some(Err(self.shared.cut_short())),
        })
    }

    /// Reports consumed events in steps of half a window, so that the other side never waits for a
    /// fast reader.
    fn take_note(&mut self) {
        self.taken += 1;
        if self.taken >= WINDOW / 2 {
            let events = std::mem::take(&mut self.taken);
            let _ = self.shared.outgoing.send(ToHost::Taken {
                call: self.number,
                events,
            });
        }
    }
}

impl Stream for Answer {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_piece(cx, |said| match said {
            CallMessage::Event(event) => Ok(event),
            other => Err(other),
        })
    }
}

/// The rest of the answer to a call about a recording.
struct AudioAnswer(Answer);

impl Stream for AudioAnswer {
    type Item = Result<AudioPiece, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_piece(cx, |said| match said {
            CallMessage::AudioBytes(bytes) => Ok(AudioPiece::Bytes(bytes.into())),
            CallMessage::AudioUsage(usage) => Ok(AudioPiece::Usage(usage)),
            other => Err(other),
        })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let known = self
            .shared
            .readers()
            .of_calls
            .remove(&self.number)
            .is_some();
        if known && !self.over {
            let _ = self
                .shared
                .outgoing
                .send(ToHost::Left { call: self.number });
        }
    }
}

/// The grammars of a chat's tools, one entry for each; empty if no tool has one.
fn input_grammars(request: &ChatCompletionRequest) -> Vec<Option<InputGrammar>> {
    let of_tools = request.tools.iter().flatten();
    let grammars: Vec<Option<InputGrammar>> = of_tools
        .map(|tool| tool.function.as_ref()?.input_grammar.clone())
        .collect();
    if grammars.iter().all(Option::is_none) {
        Vec::new()
    } else {
        grammars
    }
}

async fn write<W: AsyncWrite + Unpin>(mut frames: mpsc::UnboundedReceiver<ToHost>, mut output: W) {
    let mut buffer = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        buffer.clear();
        if ndjson::write(&mut buffer, &frame).is_err() {
            tracing::error!("a frame cannot be written as JSON");
            return;
        }
        if output.write_all(&buffer).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}

async fn read<R: AsyncRead + Unpin>(
    mut frames: Frames<R>,
    shared: std::sync::Weak<Shared>,
    over: watch::Sender<bool>,
) {
    while let Some(frame) = frames.next().await {
        let (FromHost::Call { call, said }, Some(shared)) = (frame, shared.upgrade()) else {
            break;
        };
        shared.tell(call, said);
    }
    if let Some(shared) = shared.upgrade() {
        shared.end();
    }
    let _ = over.send(true);
}
