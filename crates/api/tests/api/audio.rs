//! `POST /v1/audio/transcriptions`, `/v1/audio/translations` and `/v1/audio/speech`.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use loggia_api::{Caller, Door, Outcome, Policy, Strictness};
use loggia_backend::{
    Abilities, Ability, AbilitySet, Audio, AudioCall, AudioPiece, AudioReply, AudioTask, Backend,
    BackendError, Call, Chunk, Event, Recording, Reply, ServedBy, Work,
};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, Model};
use serde_json::{Value, json};

/// A backend with a model of an engine (`whisper`), a chat model that accepts audio (`hears`) and
/// one that does not (`deaf`). It records its calls.
#[derive(Default)]
struct Models {
    asked: Mutex<Vec<Audio>>,
    chats: Mutex<Vec<Value>>,
    /// The answer of the engine, in pieces.
    pieces: Vec<Result<AudioPiece, BackendError>>,
    media_type: &'static str,
    length: Option<u64>,
    /// The fields without effect, as the engine names them.
    ignored: Vec<String>,
}

impl Backend for Models {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let can = match model {
            "whisper" | "text-only" => AbilitySet::OPENAI_ENGINE,
            "hears" => AbilitySet::of(&[Ability::Audio]),
            "deaf" => AbilitySet::of(&[]),
            _ => {
                let error = BackendError::model_not_found(model);
                return Box::pin(std::future::ready(Err(error)));
            }
        };
        let abilities = Abilities {
            can,
            ..Abilities::default()
        };
        Box::pin(std::future::ready(Ok(Arc::new(abilities))))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let Work::Chat(chat) = &call.work else {
            let error = call.work.unsupported();
            return Box::pin(std::future::ready(Err(error)));
        };
        let asked = serde_json::to_value(chat).expect("a chat");
        if asked["model"] == "text-only" {
            let refused = BackendError::InvalidRequest {
                message: "This model has no ears.".to_owned(),
                param: Some("messages".to_owned()),
                code: None,
            };
            return Box::pin(std::future::ready(Err(refused)));
        }
        self.chats.lock().expect("chats").push(asked);
        let chunk = |text: &str| {
            let choice: ChunkChoice =
                serde_json::from_value(json!({"index": 0, "delta": {"content": text}}))
                    .expect("a choice");
            Ok(Event::Chunk(Chunk {
                choices: vec![choice],
                ..Chunk::default()
            }))
        };
        let usage = Ok(Event::Usage(CompletionUsage::new(30, 2)));
        let events = [chunk(" Hello"), chunk(" there."), usage];
        let reply = Reply {
            served_by: ServedBy::new("embedded", "hears"),
            events: Box::pin(stream::iter(events)),
        };
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        let is_engine = call.work.model == "whisper";
        self.asked.lock().expect("asked").push(call.work);
        let reply = is_engine.then(|| AudioReply {
            served_by: ServedBy {
                ignored: self.ignored.clone(),
                ..ServedBy::new("gpu", "whisper")
            },
            media_type: self.media_type.to_owned(),
            length: self.length,
            pieces: stream::iter(self.pieces.clone()).boxed(),
        });
        Box::pin(std::future::ready(Ok(reply)))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        let listed = [
            ("whisper", json!({})),
            ("tts", json!({"task": "text-to-speech"})),
            ("hears", json!({"capabilities": ["completion", "audio"]})),
            ("deaf", json!({"capabilities": ["completion"]})),
        ];
        let models = listed.map(|(name, extra)| {
            let mut model = Model::new(name, 0, "tests");
            model
                .extra
                .clone_from(extra.as_object().expect("an object"));
            model
        });
        Box::pin(async move { Ok(models.to_vec()) })
    }
}

fn bytes(text: &'static str) -> AudioPiece {
    AudioPiece::Bytes(text.into())
}

/// Returns an engine that answers with this text.
fn telling(media_type: &'static str, text: &'static str) -> Arc<Models> {
    Arc::new(Models {
        media_type,
        pieces: vec![
            Ok(AudioPiece::Usage(CompletionUsage::new(9, 3))),
            Ok(bytes(text)),
        ],
        ..Models::default()
    })
}

/// The WAV file of a tenth of a second of silence.
fn wav() -> Vec<u8> {
    let mut file = b"RIFF\xa4\x0c\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0data\x80\x0c\0\0".to_vec();
    file.resize(44 + 3200, 0);
    file
}

/// Returns a form with these fields, and then the file, if there is one.
fn form(fields: &[(&str, &str)], file: Option<&[u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend_from_slice(
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .as_bytes(),
        );
    }
    if let Some(file) = file {
        body.extend_from_slice(
            b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n",
        );
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--x--\r\n");
    body
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
    outcome: Option<Outcome>,
    usage: Option<CompletionUsage>,
    is_cut_short: bool,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    fn param(&self) -> String {
        let json = self.json();
        json["error"]["param"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn events(&self) -> Vec<Value> {
        let events = self.body.split_terminator("\n\n");
        events
            .map(|event| {
                serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("JSON")
            })
            .collect()
    }
}

async fn send(backend: &Arc<Models>, policy: Policy, request: Request<Full<Bytes>>) -> Answer {
    let door = Door::new(Arc::clone(backend) as Arc<dyn Backend>, policy);
    let (head, mut body) = door.serve(request).await.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.expect("a frame").into_data() else {
            continue;
        };
        bytes.extend_from_slice(&data);
    }
    let ended = body.ended();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(bytes.to_vec()).expect("text"),
        outcome: ended.map(|ended| ended.outcome),
        usage: ended.and_then(|ended| ended.usage.clone()),
        is_cut_short: body.is_cut_short(),
    }
}

fn posted(path: &str, form: Vec<u8>) -> Request<Full<Bytes>> {
    let request = Request::post(format!("/v1/audio/{path}"));
    let request = request.header("content-type", "multipart/form-data; boundary=x");
    request.body(Full::new(form.into())).expect("a request")
}

async fn transcribe(backend: &Arc<Models>, fields: &[(&str, &str)]) -> Answer {
    let request = posted("transcriptions", form(fields, Some(&wav())));
    send(backend, Policy::default(), request).await
}

fn heard(backend: &Models) -> Recording {
    match backend
        .asked
        .lock()
        .expect("asked")
        .pop()
        .expect("a call")
        .task
    {
        AudioTask::Transcribe(recording) | AudioTask::Translate(recording) => recording,
        AudioTask::Speak(_) => panic!("no recording"),
    }
}

#[tokio::test]
async fn every_field_of_a_transcription_reaches_the_engine() {
    let text = r#"{"text":"Hi"}"#;
    let backend = telling("application/json", text);
    let fields = [
        ("language", "en"),
        ("prompt", "Loggia"),
        ("response_format", "verbose_json"),
        ("temperature", "0.2"),
        ("chunking_strategy", "auto"),
        ("languages[]", "en"),
        ("keywords[]", "arcade"),
        ("include[]", "logprobs"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
        ("known_speaker_names[]", "Ann"),
        ("known_speaker_references[]", "data:audio/wav;base64,AAAA"),
        ("hotwords", "a field of vLLM"),
    ];
    // The file comes first, and the model last.
    let mut sent = form(&[], Some(&wav()));
    sent.truncate(sent.len() - b"--x--\r\n".len());
    sent.extend(form(&[&[("model", "whisper")], &fields[..]].concat(), None));
    let answer = send(&backend, Policy::default(), posted("transcriptions", sent)).await;
    assert_eq!(
        (answer.status, &*answer.body),
        (200, text),
        "{}",
        answer.body
    );
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-loggia-served-by"], "gpu; model=whisper");
    assert_eq!(answer.outcome, Some(Outcome::Complete));
    assert_eq!(answer.usage, Some(CompletionUsage::new(9, 3)));
    let recording = heard(&backend);
    let expected = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(recording.fields, expected);
    assert_eq!((&*recording.name, recording.stream), ("a.wav", false));
    assert_eq!(recording.media_type.as_deref(), Some("audio/wav"));
    assert_eq!(recording.content.whole().await.expect("a content"), wav());
}

#[tokio::test]
async fn the_fields_that_a_model_ignored_are_listed() {
    let backend = Arc::new(Models {
        ignored: vec!["chunking_strategy".to_owned(), "vad".to_owned()],
        media_type: "text/plain",
        ..Models::default()
    });
    let answer = transcribe(&backend, &[("model", "whisper"), ("vad", "1")]).await;
    assert_eq!(answer.headers["x-loggia-ignored"], "chunking_strategy, vad");
}

#[tokio::test]
async fn lists_are_sent_with_brackets_however_the_client_wrote_them() {
    let backend = telling("text/plain", "Hi\n");
    let fields = [
        ("model", "whisper"),
        ("response_format", "text"),
        ("include", "logprobs"),
        ("keywords[0]", "a"),
        ("chunking_strategy[type]", "server_vad"),
    ];
    let answer = transcribe(&backend, &fields).await;
    assert_eq!((answer.status, &*answer.body), (200, "Hi\n"));
    assert_eq!(answer.headers["content-type"], "text/plain");
    let names = heard(&backend).fields.into_iter().map(|(name, _)| name);
    let names: Vec<_> = names.collect();
    assert_eq!(
        names,
        [
            "response_format",
            "include[]",
            "keywords[]",
            "chunking_strategy[type]"
        ]
    );
}

#[tokio::test]
async fn a_translation_goes_to_its_own_endpoint() {
    let backend = telling("application/json", r#"{"text":"Hi"}"#);
    let sent = form(&[("model", "whisper"), ("prompt", "p")], Some(&wav()));
    let answer = send(&backend, Policy::default(), posted("translations", sent)).await;
    assert_eq!(answer.status, 200);
    let asked = backend.asked.lock().expect("asked").remove(0);
    assert_eq!(asked.path(), "/audio/translations");
}

#[tokio::test]
async fn a_stream_is_passed_on_and_its_error_is_an_event() {
    let delta = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"Hi\"}\n\n";
    let backend = telling("text/event-stream", delta);
    let fields = [("model", "whisper"), ("stream", "True")];
    let answer = transcribe(&backend, &fields).await;
    assert_eq!((answer.status, &*answer.body), (200, delta));
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert_eq!(answer.usage, Some(CompletionUsage::new(9, 3)));
    assert!(heard(&backend).stream);
    let cut = Err(BackendError::CutShort {
        backend: "gpu".to_owned(),
    });
    let backend = Arc::new(Models {
        media_type: "text/event-stream",
        pieces: vec![Ok(bytes(delta)), cut.clone()],
        ..Models::default()
    });
    let answer = transcribe(&backend, &fields).await;
    let events = answer.events();
    assert_eq!(events[1]["error"]["code"], "backend_cut_short");
    assert_eq!(
        (answer.outcome, answer.is_cut_short),
        (Some(Outcome::Failed), false)
    );
    // An error before the first event is a status.
    let backend = Arc::new(Models {
        media_type: "text/event-stream",
        pieces: vec![cut],
        ..Models::default()
    });
    assert_eq!(transcribe(&backend, &fields).await.status, 502);
}

#[tokio::test]
async fn invalid_forms_are_refused_with_their_field() {
    let model = ("model", "whisper");
    let backend = telling("application/json", r#"{"text":"Hi"}"#);
    for (fields, param) in [
        (vec![], "model"),
        (vec![("model", "")], "model"),
        (vec![model, model], "model"),
        (vec![model, ("response_format", "xml")], "response_format"),
        (vec![model, ("temperature", "warm")], "temperature"),
        (vec![model, ("temperature", "1.5")], "temperature"),
        (vec![model, ("stream", "perhaps")], "stream"),
        (vec![model, ("include[]", "words")], "include"),
        (
            vec![model, ("timestamp_granularities", "letter")],
            "timestamp_granularities",
        ),
        (
            vec![model, ("chunking_strategy", "[1]")],
            "chunking_strategy",
        ),
        (
            vec![
                model,
                ("known_speaker_names[]", "a"),
                ("known_speaker_names[]", "b"),
                ("known_speaker_names[]", "c"),
                ("known_speaker_names[]", "d"),
                ("known_speaker_names[]", "e"),
            ],
            "known_speaker_names",
        ),
        (vec![model, ("file", "text")], "file"),
    ] {
        let answer = transcribe(&backend, &fields).await;
        assert_eq!(
            (answer.status, &*answer.param()),
            (400, param),
            "{fields:?}"
        );
    }
    let without_file = posted("transcriptions", form(&[model], None));
    let answer = send(&backend, Policy::default(), without_file).await;
    assert_eq!((answer.status, &*answer.param()), (400, "file"));
    let empty = posted("transcriptions", form(&[model], Some(b"")));
    let answer = send(&backend, Policy::default(), empty).await;
    assert_eq!((answer.status, &*answer.param()), (400, "file"));
    let diarized = form(&[model, ("response_format", "diarized_json")], Some(&wav()));
    let answer = send(
        &backend,
        Policy::default(),
        posted("translations", diarized),
    )
    .await;
    assert_eq!((answer.status, &*answer.param()), (400, "response_format"));
    let json = Request::post("/v1/audio/transcriptions").header("content-type", "application/json");
    let json = json.body(Full::new(Bytes::from("{}"))).expect("a request");
    assert_eq!(send(&backend, Policy::default(), json).await.status, 415);
    assert!(backend.asked.lock().expect("asked").is_empty());
}

#[tokio::test]
async fn a_recording_above_the_limit_and_a_wav_file_that_lies_are_refused() {
    let backend = telling("application/json", r#"{"text":"Hi"}"#);
    let policy = Policy {
        recording_bytes: 1 << 20,
        ..Policy::default()
    };
    let mut long = wav();
    long.resize(1 << 20, 0);
    let fields = [("model", "whisper")];
    let request = posted("transcriptions", form(&fields, Some(&long)));
    assert_eq!(send(&backend, policy.clone(), request).await.status, 200);
    assert_eq!(
        heard(&backend).content.whole().await.expect("a content"),
        long
    );
    long.push(0);
    let request = posted("transcriptions", form(&fields, Some(&long)));
    let answer = send(&backend, policy.clone(), request).await;
    assert_eq!((answer.status, &*answer.param()), (413, "file"));
    let mut lies = wav();
    lies[40..44].copy_from_slice(&1_000_000_000_u32.to_le_bytes());
    let request = posted("transcriptions", form(&fields, Some(&lies)));
    let answer = send(&backend, policy, request).await;
    assert_eq!((answer.status, &*answer.param()), (400, "file"));
    assert!(answer.body.contains("1000000000"), "{}", answer.body);
}

#[tokio::test]
async fn a_chat_model_that_hears_transcribes_and_translates() {
    let backend = Arc::new(Models::default());
    let fields = [
        ("model", "hears"),
        ("language", "de"),
        ("prompt", "Loggia"),
        ("temperature", "0.5"),
        ("keywords[]", "a"),
        ("keywords[]", "b"),
        ("include[]", "logprobs"),
    ];
    let answer = transcribe(&backend, &fields).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let usage =
        json!({"type": "tokens", "input_tokens": 30, "output_tokens": 2, "total_tokens": 32});
    assert_eq!(
        answer.json(),
        json!({"text": "Hello there.", "usage": usage})
    );
    assert_eq!(answer.headers["x-loggia-ignored"], "keywords, include");
    assert_eq!(answer.usage, Some(CompletionUsage::new(30, 2)));
    let chat = backend.chats.lock().expect("chats").remove(0);
    assert_eq!(chat["temperature"], 0.5);
    let parts = &chat["messages"][0]["content"];
    assert_eq!(parts[0]["input_audio"]["format"], "wav");
    let told = parts[1]["text"].as_str().expect("a text");
    assert!(
        told.starts_with("Transcribe") && told.contains("de.") && told.ends_with("Loggia"),
        "{told}"
    );

    let text = form(
        &[("model", "hears"), ("response_format", "text")],
        Some(&wav()),
    );
    let answer = send(&backend, Policy::default(), posted("translations", text)).await;
    assert_eq!((answer.status, &*answer.body), (200, "Hello there.\n"));
    let chat = backend.chats.lock().expect("chats").remove(0);
    let told = chat["messages"][0]["content"][1]["text"].to_string();
    assert!(told.contains("into English"), "{told}");

    let answer = transcribe(&backend, &[("model", "hears"), ("stream", "true")]).await;
    let expected = [
        json!({"type": "transcript.text.delta", "delta": " Hello"}),
        json!({"type": "transcript.text.delta", "delta": " there."}),
        json!({"type": "transcript.text.done", "text": "Hello there.", "usage": usage}),
    ];
    assert_eq!(answer.events(), expected);
}

#[tokio::test]
async fn what_a_chat_cannot_give_is_refused() {
    let backend = Arc::new(Models::default());
    for format in ["srt", "vtt", "verbose_json", "diarized_json"] {
        let answer = transcribe(&backend, &[("model", "hears"), ("response_format", format)]).await;
        assert_eq!((answer.status, &*answer.param()), (400, "response_format"));
    }
    let ogg = posted("transcriptions", form(&[("model", "hears")], Some(b"OggS")));
    let answer = send(&backend, Policy::default(), ogg).await;
    assert_eq!((answer.status, &*answer.param()), (400, "file"));
    let strict = Policy {
        strictness: Strictness::Strict,
        ..Policy::default()
    };
    let fields = [("model", "hears"), ("keywords[]", "a")];
    let request = posted("transcriptions", form(&fields, Some(&wav())));
    let answer = send(&backend, strict, request).await;
    assert_eq!((answer.status, &*answer.param()), (400, "keywords"));
}

#[tokio::test]
async fn a_model_that_cannot_is_refused_with_those_that_may() {
    let backend = Arc::new(Models::default());
    let message = |answer: &Answer| answer.json()["error"]["message"].to_string();
    let answer = transcribe(&backend, &[("model", "deaf")]).await;
    assert_eq!((answer.status, &*answer.param()), (400, "model"));
    let told = message(&answer);
    assert!(told.contains("cannot transcribe recordings"), "{told}");
    assert!(
        told.contains("Models that may: 'whisper', 'hears'."),
        "{told}"
    );
    let answer = transcribe(&backend, &[("model", "text-only")]).await;
    let told = message(&answer);
    assert_eq!((answer.status, &*answer.param()), (400, "model"));
    assert!(
        told.contains("the engine refused the recording: This model has no ears."),
        "{told}"
    );
    let speech = json!({"model": "hears", "input": "Hi", "voice": "alloy"});
    let answer = speak(&backend, Policy::default(), &speech).await;
    let told = message(&answer);
    assert_eq!((answer.status, &*answer.param()), (400, "model"));
    assert!(
        told.contains("cannot speak") && told.contains("'whisper', 'tts'."),
        "{told}"
    );
    let answer = transcribe(&backend, &[("model", "wisper")]).await;
    assert_eq!(answer.status, 404);
    assert!(message(&answer).contains("Did you mean `whisper`?"));
    let mut request = posted(
        "transcriptions",
        form(&[("model", "whisper")], Some(&wav())),
    );
    request.extensions_mut().insert(Caller {
        name: "ann".into(),
        strictness: None,
        models: Some(vec!["hears".parse().expect("a pattern")].into()),
        may_delete_models: false,
        may_have_priority: false,
    });
    assert_eq!(send(&backend, Policy::default(), request).await.status, 404);
}

async fn speak(backend: &Arc<Models>, policy: Policy, body: &Value) -> Answer {
    let request = Request::post("/v1/audio/speech").header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(body.to_string())));
    send(backend, policy, request.expect("a request")).await
}

#[tokio::test]
async fn every_field_of_speech_reaches_the_engine() {
    let backend = Arc::new(Models {
        media_type: "audio/mpeg",
        length: Some(6),
        pieces: vec![Ok(bytes("ID3")), Ok(bytes("abc"))],
        ..Models::default()
    });
    let body = json!({
        "model": "whisper", "input": "Hi", "voice": {"id": "v"}, "instructions": "slowly",
        "response_format": "mp3", "speed": 1.25, "stream_format": "audio", "sample_rate": 16000,
    });
    let answer = speak(&backend, Policy::default(), &body).await;
    assert_eq!((answer.status, &*answer.body), (200, "ID3abc"));
    assert_eq!(answer.headers["content-type"], "audio/mpeg");
    assert_eq!(answer.outcome, Some(Outcome::Complete));
    let AudioTask::Speak(fields) = backend.asked.lock().expect("asked").remove(0).task else {
        panic!("no speech");
    };
    let mut expected = body;
    expected.as_object_mut().expect("an object").remove("model");
    assert_eq!(Value::Object(fields), expected);
}

#[tokio::test]
async fn speech_that_breaks_off_is_not_taken_for_complete() {
    let cut = Err(BackendError::CutShort {
        backend: "gpu".to_owned(),
    });
    let backend = Arc::new(Models {
        media_type: "audio/mpeg",
        pieces: vec![Ok(bytes("ID3")), cut],
        ..Models::default()
    });
    let body = json!({"model": "whisper", "input": "Hi", "voice": "alloy"});
    let answer = speak(&backend, Policy::default(), &body).await;
    assert_eq!((answer.status, &*answer.body), (200, "ID3"));
    assert_eq!(
        (answer.outcome, answer.is_cut_short),
        (Some(Outcome::Failed), true)
    );
}

#[tokio::test]
async fn invalid_speech_is_refused_with_its_field() {
    let backend = telling("audio/mpeg", "ID3");
    let valid = json!({"model": "whisper", "input": "Hi", "voice": "alloy"});
    for (field, value) in [
        ("model", json!("")),
        ("model", json!(null)),
        ("input", json!("")),
        ("input", json!(3)),
        ("voice", json!(3)),
        ("voice", json!({"name": "v"})),
        ("instructions", json!(3)),
        ("response_format", json!("midi")),
        ("speed", json!(0.1)),
        ("speed", json!(4.5)),
        ("stream_format", json!("json")),
    ] {
        let mut body = valid.clone();
        body[field] = value;
        let answer = speak(&backend, Policy::default(), &body).await;
        assert_eq!(
            (answer.status, &*answer.param()),
            (400, field),
            "{}",
            answer.body
        );
    }
    let mut without_voice = valid.clone();
    without_voice
        .as_object_mut()
        .expect("an object")
        .remove("voice");
    let answer = speak(&backend, Policy::default(), &without_voice).await;
    assert_eq!((answer.status, &*answer.param()), (400, "voice"));
    let mut long = valid;
    long["input"] = json!("a".repeat(4097));
    assert_eq!(speak(&backend, Policy::default(), &long).await.status, 200);
    let strict = Policy {
        strictness: Strictness::Strict,
        ..Policy::default()
    };
    let answer = speak(&backend, strict, &long).await;
    assert_eq!((answer.status, &*answer.param()), (400, "input"));
}
