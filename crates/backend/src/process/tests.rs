//! Tests with both ends connected by pipes within one process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use loggia_wire::openai::{
    ChatCompletionRequest, ChunkChoice, CompletionUsage, GrammarSyntax, InputGrammar, Model,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::{
    Abilities, Ability, AbilitySet, Audio, AudioCall, AudioPiece, AudioReply, AudioTask, Backend,
    BackendError, Call, CallHead, ChatCall, Chunk, Content, EmbeddingCall, Embeddings, Event,
    Recording, Reply, Rerank, RerankCall, Reranked, ServedBy, TokenCount, Waiting, Work,
};

/// A backend that counts up to the requested number, and counts its running calls.
#[derive(Default)]
struct Counting {
    under_way: Arc<AtomicUsize>,
    /// The number of events that all calls have sent.
    given: Arc<AtomicUsize>,
    /// The chats that the backend received.
    asked: Mutex<Vec<Arc<ChatCompletionRequest>>>,
}

/// Counts the running calls.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn chunk(number: usize) -> Event {
    let choice: ChunkChoice = serde_json::from_value(
        json!({"index": 0, "delta": {"content": number.to_string()}, "of_its_own": [number]}),
    )
    .unwrap();
    Event::Chunk(Chunk {
        created: Some(7),
        ..Chunk::of(choice)
    })
}

fn served_by() -> ServedBy {
    ServedBy {
        backend: "counting".into(),
        model: "m".into(),
        node: None,
        fingerprint: "fp_0".into(),
        changed: Vec::new(),
        ignored: vec!["response_format".to_owned()],
    }
}

impl Backend for Counting {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let abilities = Abilities {
            can: AbilitySet::of(&[Ability::Seed]),
            context_length: Some(9),
            ..Abilities::default()
        };
        Box::pin(async { Ok(Arc::new(abilities)) })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(async move {
            let Work::Chat(request) = call.work else {
                return Err(call.work.unsupported());
            };
            self.asked.lock().unwrap().push(Arc::clone(&request));
            let count = request.max_tokens.unwrap_or(0);
            assert!(count != -2, "a panic, as the test wants it");
            if count < 0 {
                return Err(BackendError::Busy {
                    retry_after: Some(Duration::from_millis(1500)),
                });
            }
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let (guard, given) = (
                UnderWay(Arc::clone(&self.under_way)),
                Arc::clone(&self.given),
            );
            let numbers = futures_util::stream::iter(0..usize::try_from(count).unwrap());
            let events = numbers.map(move |number| {
                let _ = &guard;
                given.fetch_add(1, Ordering::SeqCst);
                Ok(chunk(number))
            });
            let usage = CompletionUsage::new(3, 4);
            let end = [
                Ok(Event::Waiting(Waiting::ReadingPrompt)),
                Ok(Event::Usage(usage)),
            ];
            Ok(Reply {
                served_by: served_by(),
                events: events.chain(futures_util::stream::iter(end)).boxed(),
            })
        })
    }

    /// Returns one vector per input, and an error for tokens.
    fn embed(&self, call: EmbeddingCall) -> BoxFuture<'_, Result<Embeddings, BackendError>> {
        Box::pin(async move {
            let _guard = UnderWay(Arc::clone(&self.under_way));
            self.under_way.fetch_add(1, Ordering::SeqCst);
            if call.work.input.is_tokens() {
                std::future::pending::<()>().await;
            }
            if call.work.dimensions == Some(0) {
                return Err(BackendError::InputTooLong {
                    index: Some(1),
                    tokens: Some(9),
                    most: Some(8),
                });
            }
            let vectors = (0_u8..)
                .zip(call.work.input.each())
                .map(|(at, _)| vec![f32::from(at), 0.1])
                .collect();
            Ok(Embeddings {
                served_by: served_by(),
                vectors,
                prompt_tokens: 5,
            })
        })
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(async move {
            let most = call.work.max_tokens.unwrap_or(0);
            assert!(most != -2, "a panic, as the test wants it");
            if most < 0 {
                return Err(BackendError::Busy { retry_after: None });
            }
            Ok(TokenCount::exact(7, served_by()))
        })
    }

    /// Gives each document a score with many digits, and `wrong` ones an error. Waits for ever if there
    /// are no documents.
    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(async move {
            let _guard = UnderWay(Arc::clone(&self.under_way));
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let Rerank {
                model,
                query,
                documents,
            } = call.work;
            if documents.is_empty() {
                std::future::pending::<()>().await;
            }
            match &*model {
                "embeds" => return Ok(None),
                "wrong" => {
                    return Err(BackendError::InputTooLong {
                        index: Some(1),
                        tokens: Some(9),
                        most: Some(8),
                    });
                }
                _ => {}
            }
            let score = |document: &String| {
                let length = u16::try_from(document.len()).unwrap();
                f64::from((f32::from(length) - 2.5) / 7.0)
            };
            Ok(Some(Reranked {
                served_by: served_by(),
                scores: documents.iter().map(score).collect(),
                prompt_tokens: query.len() as u64,
            }))
        })
    }

    /// Tells what it received of a recording, once or, by the model `endless`, for ever.
    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(async move {
            let is_endless = match &*call.work.model {
                "deaf" => return Ok(None),
                "wrong" => return Err(BackendError::NoModels),
                model => model == "endless",
            };
            let translates = matches!(call.work.task, AudioTask::Translate(_));
            let (AudioTask::Transcribe(recording) | AudioTask::Translate(recording)) =
                call.work.task
            else {
                return Ok(None);
            };
            let bytes = recording.content.whole().await.unwrap();
            let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
            let told = format!(
                "{} {} {sum} {} {translates} {}",
                recording.name,
                bytes.len(),
                recording.field("language").unwrap_or_default(),
                call.head.strict && recording.stream
            );
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let guard = UnderWay(Arc::clone(&self.under_way));
            let pieces = [
                AudioPiece::Bytes(told.into()),
                AudioPiece::Usage(CompletionUsage::new(0, 7)),
            ];
            let pieces = futures_util::stream::iter(pieces.into_iter().cycle());
            let pieces = pieces.take(if is_endless { usize::MAX } else { 2 });
            let pieces = pieces.map(move |piece| {
                let _ = &guard;
                Ok(piece)
            });
            Ok(Some(AudioReply {
                served_by: served_by(),
                media_type: "text/plain".to_owned(),
                length: None,
                pieces: pieces.boxed(),
            }))
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(vec![Model::new("m", 5, "tests")]) })
    }
}

fn call(count: i64) -> ChatCall {
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "count", "own": 1}], "max_tokens": count});
    let request: ChatCompletionRequest = serde_json::from_value(request).unwrap();
    ChatCall::new("chatcmpl-1", Arc::new(request))
}

/// A client's line breaks within a tool's parameters, which are sent on as they were written, must
/// not break the frame: the process would end, and every other answer with it.
#[tokio::test]
async fn parameters_over_several_lines_reach_the_process_whole() {
    let remote = connected(Arc::new(Counting::default())).await;
    let mut other = remote.start(call(1).into()).await.unwrap();
    let json = "{\"model\": \"m\", \"max_tokens\": 2, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}],\n\
        \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\",\n\"parameters\": {\r\n\
        \"maximum\": 9007199254740993,\n\n\"description\": \"a\\nb\"\n}}}]}";
    let mut request: ChatCompletionRequest = serde_json::from_str(json).unwrap();
    request.keep_long_numbers(json.as_bytes());
    let reply = remote
        .start(ChatCall::new("chatcmpl-2", Arc::new(request)).into())
        .await
        .expect("the process reads it");
    assert!(reply.events.count().await >= 2);
    assert!(other.events.next().await.is_some_and(|event| event.is_ok()));
}

/// The JSON of a function has no place for the grammar of its input.
#[tokio::test]
async fn the_grammars_of_tools_reach_the_process() {
    let backend = Arc::new(Counting::default());
    let remote = connected(Arc::clone(&backend) as Arc<dyn Backend>).await;
    let tools = json!([{"type": "function", "function": {"name": "f"}}, {"type": "web_search"},
        {"type": "function", "function": {"name": "g"}}]);
    let request = json!({"model": "m", "messages": [], "max_tokens": 1, "tools": tools});
    let mut request: ChatCompletionRequest = serde_json::from_value(request).unwrap();
    let function = request.tools.as_mut().unwrap()[2].function.as_mut();
    function.unwrap().input_grammar = Some(InputGrammar {
        syntax: GrammarSyntax::Lark,
        definition: "start: \"a\"+\n".to_owned(),
    });
    let reply = remote
        .start(ChatCall::new("chatcmpl-1", Arc::new(request.clone())).into())
        .await
        .unwrap();
    assert!(reply.events.count().await >= 1);
    assert_eq!(*backend.asked.lock().unwrap()[0], request);
}

fn embedding(fields: &Value) -> EmbeddingCall {
    let mut request = json!({"model": "m"});
    request
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    EmbeddingCall::new("embd-1", Arc::new(serde_json::from_value(request).unwrap()))
}

/// Returns a backend in "another process", as far as its pipes show.
async fn connected(backend: Arc<dyn Backend>) -> Remote {
    let (ours, theirs) = pipes();
    tokio::spawn(host(theirs, backend));
    connect(ours).await.expect("it serves")
}

/// One end of two pipes: reader and writer.
type Pipes = (DuplexStream, DuplexStream);

fn pipes() -> (Pipes, Pipes) {
    let ((there, read), (write, back)) = (duplex(256), duplex(256));
    ((back, there), (read, write))
}

async fn host(pipes: Pipes, backend: Arc<dyn Backend>) {
    let (input, output) = pipes;
    let mut host = Host::new(input, output);
    let opening: Value = host.opening().await.expect("an opening");
    match opening.get("refuse") {
        Some(why) => host.failed(why.as_str().unwrap()).await,
        None => host.serve(backend).await.expect("models"),
    }
}

async fn connect(pipes: Pipes) -> Result<Remote, ConnectError> {
    let (input, output) = pipes;
    Remote::connect("engine", &json!({}), input, output).await
}

/// Runs tasks until none is ready.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_arrives_as_it_was_given() {
    let remote = connected(Arc::new(Counting::default())).await;
    let reply = remote.start(call(200).into()).await.expect("accepted");
    assert_eq!(reply.served_by, served_by());
    let events: Vec<Event> = reply
        .events
        .map(|event| event.expect("no error"))
        .collect()
        .await;
    let numbers = (0..200).map(chunk);
    let end = [
        Event::Waiting(Waiting::ReadingPrompt),
        Event::Usage(CompletionUsage::new(3, 4)),
    ];
    assert_eq!(events, numbers.chain(end).collect::<Vec<_>>());
    assert_eq!(remote.models().await.expect("known")[0].id, "m");
    let abilities = remote.abilities("m").await.expect("known");
    assert!(abilities.has(Ability::Seed) && abilities.context_length == Some(9));
    assert_eq!(
        remote.abilities("other").await,
        Err(BackendError::model_not_found("other"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_count_arrives_without_an_answer_and_its_refusal_too() {
    let backend = Arc::new(Counting::default());
    let given = Arc::clone(&backend.given);
    let remote = connected(backend).await;
    let count = remote.count_tokens(call(200)).await;
    assert_eq!(count, Ok(TokenCount::exact(7, served_by())));
    assert_eq!(given.load(Ordering::SeqCst), 0);
    let busy = remote.count_tokens(call(-1)).await.expect_err("refused");
    assert_eq!(busy.kind(), "busy");
    // A panic ends only the call in which it occurs.
    assert!(remote.count_tokens(call(-2)).await.is_err());
    assert!(remote.count_tokens(call(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn embeddings_arrive_to_the_last_bit_and_their_refusal_too() {
    let remote = connected(Arc::new(Counting::default())).await;
    let made = remote
        .embed(embedding(&json!({"input": ["a", "b"]})))
        .await
        .expect("vectors");
    assert_eq!(
        (made.vectors, made.prompt_tokens),
        (vec![vec![0.0, 0.1], vec![1.0, 0.1]], 5)
    );
    assert_eq!(made.served_by, served_by());
    let refused = remote
        .embed(embedding(&json!({"input": "a", "dimensions": 0})))
        .await
        .err();
    assert_eq!(
        refused,
        Some(BackendError::InputTooLong {
            index: Some(1),
            tokens: Some(9),
            most: Some(8)
        })
    );
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_his_embeddings_are_there_ends_the_call_at_the_other_end() {
    let backend = Arc::new(Counting::default());
    let remote = connected(backend.clone()).await;
    let waiting = remote.embed(embedding(&json!({"input": [1]})));
    assert!(
        tokio::time::timeout(Duration::from_millis(1), waiting)
            .await
            .is_err()
    );
    settle().await;
    assert_eq!(backend.under_way.load(Ordering::SeqCst), 0);
}

fn reranking(model: &str, documents: &[&str]) -> RerankCall {
    let work = Rerank {
        model: model.to_owned(),
        query: "q\n".to_owned(),
        documents: documents.iter().map(|&text| text.to_owned()).collect(),
    };
    RerankCall::new("rerank-1", work)
}

#[tokio::test(start_paused = true)]
async fn scores_arrive_as_they_were_given_and_so_do_none_and_an_error() {
    let remote = connected(Arc::new(Counting::default())).await;
    let ranked = remote
        .rerank(reranking("m", &["", "a\nb", "c"]))
        .await
        .expect("no error")
        .expect("scores");
    let scores = ranked
        .scores
        .iter()
        .map(|score| (score * 7.0 + 2.5).round());
    assert_eq!(scores.collect::<Vec<_>>(), [0.0, 3.0, 1.0]);
    #[expect(clippy::cast_possible_truncation, reason = "the scores were f32")]
    let first = ranked.scores[0] as f32;
    assert_eq!(first.to_bits(), (-2.5_f32 / 7.0).to_bits());
    assert_eq!((ranked.served_by, ranked.prompt_tokens), (served_by(), 2));
    assert_eq!(remote.rerank(reranking("embeds", &["a"])).await, Ok(None));
    assert_eq!(
        remote.rerank(reranking("wrong", &["a"])).await,
        Err(BackendError::InputTooLong {
            index: Some(1),
            tokens: Some(9),
            most: Some(8)
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_before_the_scores_ends_the_call_at_the_other_end() {
    let backend = Arc::new(Counting::default());
    let remote = connected(backend.clone()).await;
    let waiting = remote.rerank(reranking("m", &[]));
    assert!(
        tokio::time::timeout(Duration::from_millis(1), waiting)
            .await
            .is_err()
    );
    settle().await;
    assert_eq!(backend.under_way.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_the_same_error() {
    let remote = connected(Arc::new(Counting::default())).await;
    let refused = remote.start(call(-1).into()).await.err();
    assert_eq!(
        refused,
        Some(BackendError::Busy {
            retry_after: Some(Duration::from_millis(1500))
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_a_request_that_cannot_be_read_ends_its_own_answer_only() {
    let remote = connected(Arc::new(Counting::default())).await;
    let other = remote.start(call(1000).into()).await.expect("accepted");
    assert!(matches!(
        remote.start(call(-2).into()).await.err(),
        Some(BackendError::Engine { .. })
    ));
    let mut deep = call(1);
    let at_the_door = format!(
        r#"{{"model":"m","messages":[],"max_tokens":1,"x":{}{}}}"#,
        "[".repeat(126),
        "]".repeat(126)
    );
    deep.work = Arc::new(serde_json::from_str(&at_the_door).expect("the door takes it"));
    assert_eq!(
        remote
            .start(deep.into())
            .await
            .expect("accepted")
            .events
            .count()
            .await,
        3
    );
    assert_eq!(other.events.count().await, 1002, "it has gone on");
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_takes_nothing_holds_up_nobody_else() {
    let backend = Arc::new(Counting::default());
    let remote = connected(backend.clone()).await;
    let stalled = remote.start(call(100_000).into()).await.expect("accepted");
    settle().await;
    let given = backend.given.load(Ordering::SeqCst);
    assert!(
        given <= WINDOW as usize + 1,
        "{given} events for a reader who takes none"
    );
    let other = remote.start(call(1000).into()).await.expect("accepted");
    assert_eq!(other.events.count().await, 1002);
    let rest = stalled.events.take(1000).count().await;
    assert_eq!(rest, 1000, "and it goes on where it stood");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_ends_the_call_at_the_other_end() {
    let backend = Arc::new(Counting::default());
    let remote = connected(backend.clone()).await;
    let mut reply = remote.start(call(100_000).into()).await.expect("accepted");
    assert!(reply.events.next().await.is_some());
    assert_eq!(backend.under_way.load(Ordering::SeqCst), 1);
    drop(reply);
    settle().await;
    assert_eq!(backend.under_way.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn when_the_process_ends_its_answers_are_cut_short_and_new_ones_refused() {
    let (ours, theirs) = pipes();
    let process = tokio::spawn(host(theirs, Arc::new(Counting::default())));
    let remote = connect(ours).await.expect("it serves");
    let mut reply = remote.start(call(100_000).into()).await.expect("accepted");
    assert!(remote.ended().now_or_never().is_none());
    process.abort();
    remote.ended().await;
    let last = loop {
        match reply.events.next().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    let cut_short = BackendError::CutShort {
        backend: "engine".to_owned(),
    };
    assert_eq!(last, Some(Err(cut_short.clone())));
    assert_eq!(reply.events.next().await, None);
    assert_eq!(
        remote.start(call(1).into()).await.err(),
        Some(cut_short.clone())
    );
    assert_eq!(remote.ready().await, Err(cut_short));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_cannot_open_says_why() {
    let (ours, theirs) = pipes();
    tokio::spawn(host(theirs, Arc::new(Counting::default())));
    let (input, output) = ours;
    let refused = Remote::connect("engine", &json!({"refuse": "no such file"}), input, output)
        .await
        .err();
    assert_eq!(
        refused,
        Some(ConnectError::Failed("no such file".to_owned()))
    );
    let (ours, theirs) = pipes();
    drop(theirs);
    assert_eq!(connect(ours).await.err(), Some(ConnectError::Ended));
}

#[tokio::test(start_paused = true)]
async fn without_its_user_the_process_sees_the_end_of_its_input() {
    let (ours, theirs) = pipes();
    let process = tokio::spawn(host(theirs, Arc::new(Counting::default())));
    let remote = connect(ours).await.expect("it serves");
    let reply = remote.start(call(100_000).into()).await.expect("accepted");
    drop(remote);
    settle().await;
    assert!(!process.is_finished(), "an answer is still read");
    drop(reply);
    process.await.expect("it ended by itself");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_frame_ends_the_connection() {
    let (ours, theirs) = pipes();
    tokio::spawn(async move {
        let (mut input, mut output) = theirs;
        let mut line = [0; 3];
        input.read_exact(&mut line).await.expect("an opening");
        let hello = b"{\"ready\":{\"models\":[]}}\nsome library prints to standard output\n";
        output.write_all(hello).await.expect("room");
        std::future::pending::<()>().await;
    });
    connect(ours).await.expect("it serves").ended().await;
}

/// A recording of this length in a temporary file, with bytes that differ.
fn recording(length: u32) -> AudioCall {
    use std::io::Write as _;
    let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let recording = Recording {
        name: "a.wav".to_owned(),
        media_type: Some("audio/wav".to_owned()),
        content: Content::in_file(file, u64::from(length)),
        fields: vec![("language".to_owned(), "en".to_owned())],
        stream: true,
    };
    AudioCall {
        head: CallHead {
            strict: true,
            ..CallHead::new("audio-1")
        },
        work: Audio {
            model: "m".to_owned(),
            task: AudioTask::Translate(recording),
        },
    }
}

/// Returns the texts and the tokens of an answer.
async fn pieces_of(reply: AudioReply) -> Vec<Result<AudioPiece, BackendError>> {
    reply.pieces.collect().await
}

#[tokio::test]
async fn a_recording_reaches_the_other_process_whole_and_its_answer_comes_back() {
    let backend = Arc::new(Counting::default());
    let remote = connected(Arc::clone(&backend) as Arc<dyn Backend>).await;
    for length in [1, 65_536, 1_000_000] {
        let reply = remote.audio(recording(length)).await.unwrap().unwrap();
        assert_eq!((&*reply.media_type, reply.length), ("text/plain", None));
        assert_eq!(reply.served_by, served_by());
        let sum: u64 = (0..length).map(|at| u64::from(at % 251)).sum();
        let told = format!("a.wav {length} {sum} en true true");
        let expected = [
            Ok(AudioPiece::Bytes(told.into())),
            Ok(AudioPiece::Usage(CompletionUsage::new(0, 7))),
        ];
        assert_eq!(pieces_of(reply).await, expected);
    }
    let mut spoken = recording(1);
    spoken.work.task = AudioTask::Speak(loggia_wire::Extra::default());
    assert!(remote.audio(spoken).await.unwrap().is_none());
    let mut deaf = recording(1);
    deaf.work.model = "deaf".to_owned();
    assert!(remote.audio(deaf).await.unwrap().is_none());
    let mut wrong = recording(1);
    wrong.work.model = "wrong".to_owned();
    assert_eq!(
        remote.audio(wrong).await.unwrap_err(),
        BackendError::NoModels
    );
}

#[tokio::test]
async fn a_recording_that_cannot_be_read_is_an_error_and_a_client_that_leaves_ends_its_call() {
    let backend = Arc::new(Counting::default());
    let remote = connected(Arc::clone(&backend) as Arc<dyn Backend>).await;
    let mut broken = recording(100);
    let (AudioTask::Translate(sent) | AudioTask::Transcribe(sent)) = &mut broken.work.task else {
        unreachable!()
    };
    sent.content = Content::in_file(tempfile::tempfile().unwrap(), 100);
    let error = remote.audio(broken).await.unwrap_err();
    assert!(matches!(error, BackendError::Engine { .. }), "{error:?}");
    let mut endless = recording(1);
    endless.work.model = "endless".to_owned();
    let mut reply = remote.audio(endless).await.unwrap().unwrap();
    reply.pieces.next().await.unwrap().unwrap();
    assert_eq!(backend.under_way.load(Ordering::SeqCst), 1);
    drop(reply);
    while backend.under_way.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}
