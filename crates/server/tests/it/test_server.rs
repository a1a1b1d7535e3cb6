//! Shared by the tests: a server on its own port, a backend that the test controls, and a client
//! that sends and receives bytes.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use futures_core::future::BoxFuture;
use loggia_api::store::KeyStore;
use loggia_api::{Door, Policy};
use loggia_backend::{
    Abilities, AudioCall, AudioPiece, AudioReply, Backend, BackendError, Call, Chunk, Event, Reply,
    ServedBy, Waiting,
};
use loggia_server::{AppState, InFlight, Pages, ServerOptions, app, run};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, Delta, FinishReason, Model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing_subscriber::fmt::MakeWriter;

/// The event that makes a stream panic.
const PANIC: Event = Event::Waiting(Waiting::LoadingModel);

/// The limit of every wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for a future that must resolve.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it should have happened by now")
}

/// Polls a condition until it holds, for conditions without a notification.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The result of `Backend::ready`, which the test sets.
#[derive(Clone, Copy)]
pub(crate) enum Readiness {
    Ready,
    Down,
    Silent,
    Panics,
}

/// The backend, which the test controls.
pub(crate) struct TestBackend {
    readiness: Mutex<Readiness>,
    chats: mpsc::Sender<TestChat>,
    /// The runtime of the first chat. Chats whose model is `elsewhere` do their work there.
    first: OnceLock<Handle>,
    /// Notified when a chat is dropped before it was accepted.
    dropped_early: Arc<Notify>,
}

/// A chat that the test answers. Dropping it before its end simulates an engine that died.
pub(crate) struct TestChat(mpsc::Sender<Event>);

impl TestChat {
    pub(crate) async fn say(&self, text: &str) {
        assert!(self.is_received(text).await, "the reader has left");
    }

    /// Sends a text. Returns false if the reader has left.
    pub(crate) async fn is_received(&self, text: &str) -> bool {
        let choice = ChunkChoice::delta(0, Delta::content(text));
        soon(self.0.send(Event::Chunk(Chunk::of(choice))))
            .await
            .is_ok()
    }

    /// Makes the stream panic.
    pub(crate) async fn panic(self) {
        self.0.send(PANIC).await.expect("the reader is still there");
    }

    pub(crate) async fn finish(self) {
        let choice = ChunkChoice::finish(0, FinishReason::Stop);
        self.0
            .send(Event::Chunk(Chunk::of(choice)))
            .await
            .expect("the reader is still there");
        self.0
            .send(Event::Usage(CompletionUsage::new(3, 2)))
            .await
            .expect("the reader is still there");
    }

    /// Waits until the reader has left.
    pub(crate) async fn dropped(&self) {
        soon(self.0.closed()).await;
    }
}

impl Backend for TestBackend {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move {
            if model == "nobody" {
                Err(BackendError::model_not_found(model))
            } else {
                Ok(Arc::default())
            }
        })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            assert_ne!(
                call.work.model(),
                "clumsy",
                "a panic that quotes: secret words"
            );
            let (events, mut reply) = mpsc::channel(8);
            let first = self.first.get_or_init(Handle::current);
            if call.work.model() == "elsewhere" {
                let (onward, end) = mpsc::channel(1);
                let mut source = std::mem::replace(&mut reply, end);
                first.spawn(async move {
                    while let Some(event) = source.recv().await {
                        onward.send(event).await.expect("the reader is still there");
                    }
                });
            }
            self.chats
                .send(TestChat(events))
                .await
                .expect("the test still runs");
            if call.work.model() == "undecided" {
                let _notify = NotifyOnDrop(self.dropped_early.clone());
                std::future::pending::<()>().await;
            }
            let served_by = ServedBy {
                backend: "backend".into(),
                model: "backend".into(),
                node: None,
                fingerprint: "fp_0000000000".into(),
                changed: Vec::new(),
                ignored: Vec::new(),
            };
            let events = futures_util::stream::unfold(reply, async |mut reply| {
                let event = reply.recv().await;
                assert_ne!(event, Some(PANIC), "a panic that quotes: secret words");
                event.map(|event| (Ok(event), reply))
            });
            Ok(Reply {
                served_by,
                events: Box::pin(events),
            })
        })
    }

    /// Says `RIFF`. The model `hoarse` breaks off after it.
    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        let sound = Ok(AudioPiece::Bytes("RIFF".into()));
        let cut = Err(BackendError::CutShort {
            backend: "backend".to_owned(),
        });
        let is_cut = call.work.model == "hoarse";
        let pieces: Vec<_> = [sound].into_iter().chain(is_cut.then_some(cut)).collect();
        let reply = AudioReply {
            served_by: ServedBy::new("backend", "backend"),
            media_type: "audio/wav".to_owned(),
            length: None,
            pieces: Box::pin(futures_util::stream::iter(pieces)),
        };
        Box::pin(std::future::ready(Ok(Some(reply))))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(vec![Model::new("backend", 0, "test")]) })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        let readiness = *self.readiness.lock().expect("nobody panics with it");
        Box::pin(async move {
            match readiness {
                Readiness::Ready => Ok(()),
                Readiness::Down => Err(BackendError::Unreachable {
                    backend: "backend".to_owned(),
                }),
                Readiness::Silent => std::future::pending().await,
                Readiness::Panics => panic!("a panic that quotes: secret words"),
            }
        })
    }
}

struct NotifyOnDrop(Arc<Notify>);

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A running server.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) in_flight: InFlight,
    pub(crate) door: Door,
    pub(crate) pages: Pages,
    pub(crate) dropped_early: Arc<Notify>,
    backend: Arc<TestBackend>,
    chats: mpsc::Receiver<TestChat>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<std::io::Result<()>>,
}

impl TestServer {
    pub(crate) async fn up() -> Self {
        Self::with(ServerOptions::default(), Policy::default()).await
    }

    pub(crate) async fn with(options: ServerOptions, policy: Policy) -> Self {
        Self::with_state(options, policy, |state| state).await
    }

    /// A server whose keys are kept in a store, too.
    pub(crate) async fn with_keys_in(options: ServerOptions, store: Arc<dyn KeyStore>) -> Self {
        let policy = Policy::default();
        Self::with_state(options, policy, |state| state.with_key_store(store)).await
    }

    /// A server with a changed state.
    pub(crate) async fn with_state(
        options: ServerOptions,
        policy: Policy,
        change: impl FnOnce(AppState) -> AppState,
    ) -> Self {
        let (sender, chats) = mpsc::channel(8);
        let dropped_early = Arc::new(Notify::new());
        let backend = Arc::new(TestBackend {
            readiness: Mutex::new(Readiness::Ready),
            chats: sender,
            dropped_early: dropped_early.clone(),
            first: OnceLock::new(),
        });
        let state = change(AppState::new(backend.clone(), policy, options.clone()));
        let in_flight = state.in_flight().clone();
        let (door, pages) = (state.door().clone(), state.pages().clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.expect("the test says when") };
        let running =
            tokio::spawn(async move { run(listener, app(state), shutdown, &options).await });
        Self {
            address,
            in_flight,
            door,
            pages,
            dropped_early,
            backend,
            chats,
            stop: Some(stop),
            running,
        }
    }

    pub(crate) fn becomes(&self, readiness: Readiness) {
        *self.backend.readiness.lock().unwrap() = readiness;
    }

    /// Waits for the next chat that the server starts.
    pub(crate) async fn chat(&mut self) -> TestChat {
        soon(self.chats.recv()).await.unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends one request on its own connection, and reads the answer.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut client = self.client().await;
        client.send(request).await;
        client.rest().await
    }

    /// Stops the server as SIGTERM does.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn stopped(self) {
        soon(self.running).await.unwrap().unwrap();
    }
}

/// A client that sends and receives raw bytes.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads up to and including `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        String::from_utf8(self.read_bytes_until(end).await).unwrap()
    }

    pub(crate) async fn read_bytes_until(&mut self, end: &str) -> Vec<u8> {
        let mut seen = Vec::new();
        soon(async {
            while !seen.ends_with(end.as_bytes()) {
                match self.0.read_u8().await {
                    Ok(byte) => seen.push(byte),
                    Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&seen)),
                }
            }
        })
        .await;
        seen
    }

    /// Reads until the server closes the connection properly.
    pub(crate) async fn rest(&mut self) -> String {
        let mut seen = String::new();
        soon(self.0.read_to_string(&mut seen))
            .await
            .unwrap_or_else(|error| panic!("{error} after {seen:?}"));
        seen
    }

    /// Reads bytes until the server closes the connection.
    pub(crate) async fn rest_of_bytes(&mut self) -> Vec<u8> {
        let mut seen = Vec::new();
        soon(self.0.read_to_end(&mut seen)).await.unwrap();
        seen
    }

    /// Whether the server closes the connection without sending anything.
    pub(crate) async fn is_cut(&mut self) -> bool {
        let mut seen = Vec::new();
        let _either_way = soon(self.0.read_to_end(&mut seen)).await;
        seen.is_empty()
    }
}

/// A request without a body that closes the connection.
pub(crate) fn last(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\n\r\n")
}

/// A chat request for this model.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    post(
        "/v1/chat/completions",
        &format!(
            r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"secret words"}}]}}"#
        ),
    )
}

/// A request of Anthropic's API for this model.
pub(crate) fn message(model: &str, stream: bool) -> String {
    post(
        "/v1/messages",
        &format!(
            r#"{{"model":"{model}","stream":{stream},"max_tokens":9,"messages":[{{"role":"user","content":"secret words"}}]}}"#
        ),
    )
}

/// A request for a response of this model.
pub(crate) fn response(model: &str, stream: bool) -> String {
    post(
        "/v1/responses",
        &format!(r#"{{"model":"{model}","stream":{stream},"store":false,"input":"secret words"}}"#),
    )
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: loggia\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// The value of a header.
pub(crate) fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The body of an answer.
pub(crate) fn body(answer: &str) -> &str {
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body)
        .expect("a head")
}

/// A subscriber that collects nothing. If there is exactly one subscriber, tracing asks only that of
/// the thread that first reaches a log line whether anybody wants it, and other tests have none.
static SECOND_SUBSCRIBER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));

/// The lines of the log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects everything that this thread logs from now on. The test and the server share the
    /// thread.
    pub(crate) fn everything(&self) -> tracing::subscriber::DefaultGuard {
        LazyLock::force(&SECOND_SUBSCRIBER);
        let level = tracing::Level::TRACE;
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(self.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines of the access log, from the request id on; without the duration.
    pub(crate) fn answered(&self) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter_map(|line| {
            line.split_once("loggia_server::access: answered ")
                .map(|(_, rest)| rest)
        });
        lines.map(without_what_varies).collect()
    }
}

fn without_what_varies(line: &str) -> String {
    let steady = line
        .split(' ')
        .filter(|word| !word.starts_with("ms=") && !word.starts_with("request_id="));
    steady.collect::<Vec<_>>().join(" ")
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
