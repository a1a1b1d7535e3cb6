//! Tests of recordings and speech with an engine that speaks OpenAI's API.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_core::future::BoxFuture;
use futures_util::StreamExt as _;
use loggia_backend::fleet::Fleet;
use loggia_backend::{
    Abilities, Audio, AudioCall, AudioPiece, AudioReply, AudioTask, Backend, BackendError, Call,
    Content, Recording, Reply, ServedBy,
};
use loggia_wire::openai::{CompletionUsage, Model};
use serde_json::{Value, json};

use super::engine_at;
use crate::raw::{RawEngine, Step, answer, json, piece, stream_end, stream_head};

fn recording(fields: &[(&str, &str)], stream: bool) -> Recording {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Recording {
        name: "speech.wav".to_owned(),
        media_type: Some("audio/wav".to_owned()),
        content: Content::from(Bytes::from_static(b"RIFF")),
        fields: fields.collect(),
        stream,
    }
}

async fn ask(engine: &RawEngine, task: AudioTask) -> Result<Option<AudioReply>, BackendError> {
    let work = Audio {
        model: "whisper".to_owned(),
        task,
    };
    let call = AudioCall::new("audio-7", work);
    engine_at(&engine.url).audio(call).await
}

/// Returns the bytes of a reply and its tokens.
async fn read(reply: AudioReply) -> Result<(String, Option<CompletionUsage>), BackendError> {
    let (mut bytes, mut usage) = (BytesMut::new(), None);
    let mut pieces = reply.pieces;
    while let Some(piece) = pieces.next().await {
        match piece? {
            AudioPiece::Bytes(more) => bytes.extend_from_slice(&more),
            AudioPiece::Usage(tokens) => usage = Some(tokens),
        }
    }
    Ok((String::from_utf8(bytes.to_vec()).unwrap(), usage))
}

fn typed(content_type: &str, body: &str) -> Vec<Step> {
    answer("200 OK", &format!("content-type: {content_type}\r\n"), body)
}

#[tokio::test]
async fn a_recording_is_sent_as_a_form_and_its_text_comes_back_as_it_is() {
    let text = r#"{"text":"Hi","usage":{"type":"tokens","input_tokens":8,"output_tokens":2},"logprobs":[]}"#;
    let engine = RawEngine::start([json("200 OK", text), json("200 OK", text)]).await;
    let fields = [("language", "en"), ("timestamp_granularities[]", "word")];
    for (task, path) in [
        (
            AudioTask::Transcribe(recording(&fields, false)),
            "transcriptions",
        ),
        (
            AudioTask::Translate(recording(&fields, false)),
            "translations",
        ),
    ] {
        let reply = ask(&engine, task).await.unwrap().unwrap();
        assert_eq!(reply.media_type, "application/json");
        assert_eq!(
            (&*reply.served_by.backend, &*reply.served_by.model),
            ("gpu", "whisper")
        );
        let usage = Some(CompletionUsage::new(8, 2));
        assert_eq!(read(reply).await, Ok((text.to_owned(), usage)));
        let sent = engine.requests().pop().unwrap();
        let (head, body) = sent.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("POST /v1/audio/{path} HTTP/1.1\r\n")));
        let expected = "--loggia-audio7\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n\
             --loggia-audio7\r\nContent-Disposition: form-data; name=\"language\"\r\n\r\nen\r\n\
             --loggia-audio7\r\nContent-Disposition: form-data; name=\"timestamp_granularities[]\"\r\n\r\nword\r\n\
             --loggia-audio7\r\nContent-Disposition: form-data; name=\"file\"; filename=\"speech.wav\"\r\n\
             Content-Type: audio/wav\r\n\r\nRIFF\r\n--loggia-audio7--\r\n";
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn formats_that_an_engine_answers_in_json_are_written_from_it() {
    let segments = r#"{"text":"Hi","segments":[{"start":0,"end":1.25,"text":" Hi"}]}"#;
    for (format, told, expected) in [
        ("text", typed("text/plain", "Hi\n"), "Hi\n"),
        ("text", json("200 OK", r#""Hi""#), "Hi\n"),
        ("text", json("200 OK", r#"{"text":"Hi"}"#), "Hi\n"),
        ("vtt", typed("text/vtt", "WEBVTT\n"), "WEBVTT\n"),
        (
            "srt",
            json("200 OK", segments),
            "1\n00:00:00,000 --> 00:00:01,250\nHi\n\n",
        ),
        ("verbose_json", json("200 OK", segments), segments),
    ] {
        let engine = RawEngine::start([told]).await;
        let fields = [("response_format", format)];
        let reply = ask(&engine, AudioTask::Transcribe(recording(&fields, false))).await;
        let (text, _) = read(reply.unwrap().unwrap()).await.unwrap();
        assert_eq!(text, expected, "{format}");
    }
    for (format, told) in [
        ("srt", json("200 OK", r#"{"text":"Hi"}"#)),
        ("json", json("200 OK", "{}")),
        ("json", typed("text/plain", "Hi")),
    ] {
        let engine = RawEngine::start([told]).await;
        let fields = [("response_format", format)];
        let reply = ask(&engine, AudioTask::Transcribe(recording(&fields, false))).await;
        let error = reply.unwrap_err();
        assert!(matches!(error, BackendError::BadAnswer { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_streamed_text_becomes_openais_events_even_if_it_comes_whole() {
    let vllm = [
        stream_head(),
        piece(
            "data: {\"object\":\"transcription.chunk\",\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n",
        ),
        piece("data: [DONE]\n\n"),
        stream_end(),
    ];
    for told in [vllm.to_vec(), json("200 OK", r#"{"text":"Hi"}"#)] {
        let engine = RawEngine::start([told]).await;
        let reply = ask(
            &engine,
            AudioTask::Transcribe(recording(&[("stream", "true")], true)),
        );
        let reply = reply.await.unwrap().unwrap();
        assert!(reply.is_events());
        let (text, _) = read(reply).await.unwrap();
        let events: Vec<Value> = text
            .split_terminator("\n\n")
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        let expected = [
            json!({"type": "transcript.text.delta", "delta": "Hi"}),
            json!({"type": "transcript.text.done", "text": "Hi"}),
        ];
        assert_eq!(events, expected);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_an_error() {
    let broken = vec![
        stream_head(),
        piece("data: {\"type\":\"transcript.text.delta\",\"delta\":\"Hi\"}\n\n"),
        Step::Close,
    ];
    let engine = RawEngine::start([broken]).await;
    let reply = ask(&engine, AudioTask::Transcribe(recording(&[], true))).await;
    let error = read(reply.unwrap().unwrap()).await.unwrap_err();
    let backend = "gpu".to_owned();
    assert_eq!(error, BackendError::CutShort { backend });
}

#[tokio::test]
async fn what_an_engine_does_not_do_is_no_error_and_what_it_refuses_is() {
    for (status, body) in [
        ("404 Not Found", r#"{"detail":"Not Found"}"#),
        ("405 Method Not Allowed", ""),
        ("501 Not Implemented", ""),
        (
            "400 Bad Request",
            r#"{"error":{"message":"The model does not support Transcriptions API","type":"BadRequestError","code":400}}"#,
        ),
        (
            "400 Bad Request",
            r#"{"error":{"code":400,"message":"The current model does not support audio input.","type":"invalid_request_error"}}"#,
        ),
    ] {
        let engine = RawEngine::start([answer(status, "", body)]).await;
        let reply = ask(&engine, AudioTask::Transcribe(recording(&[], false))).await;
        assert!(matches!(reply, Ok(None)), "{body}: {reply:?}");
    }
    let missing = r#"{"error":{"message":"The model `whisper` does not exist.","type":"NotFoundError","param":"model","code":404}}"#;
    let engine = RawEngine::start([answer("404 Not Found", "", missing)]).await;
    let reply = ask(&engine, AudioTask::Transcribe(recording(&[], false))).await;
    assert_eq!(reply.unwrap_err(), BackendError::model_not_found("whisper"));
    let broken = r#"{"error":{"message":"Invalid or unsupported audio file.","type":"BadRequestError","param":"file","code":400}}"#;
    let engine = RawEngine::start([answer("400 Bad Request", "", broken)]).await;
    let error = ask(&engine, AudioTask::Transcribe(recording(&[], false))).await;
    let BackendError::InvalidRequest { message, param, .. } = error.unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(message, "Invalid or unsupported audio file.");
    assert_eq!(param.as_deref(), Some("file"));
    let instead = json("200 OK", r#"{"error":{"message":"no","code":400}}"#);
    let engine = RawEngine::start([instead]).await;
    let error = ask(&engine, AudioTask::Transcribe(recording(&[], false))).await;
    assert!(matches!(error, Err(BackendError::InvalidRequest { .. })));
}

#[tokio::test]
async fn speech_is_passed_on_as_it_arrives_with_the_fields_of_the_request() {
    let head = Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec(),
    );
    let engine = RawEngine::start([vec![head, piece("RI"), piece("FF"), stream_end()]]).await;
    let fields = json!({"input": "Hi", "voice": {"id": "v"}, "speed": 1.5, "extra": [1]});
    let task = AudioTask::Speak(fields.as_object().unwrap().clone());
    let reply = ask(&engine, task).await.unwrap().unwrap();
    assert_eq!((&*reply.media_type, reply.length), ("audio/wav", None));
    assert_eq!(read(reply).await.unwrap().0, "RIFF");
    let sent = engine.requests().remove(0);
    assert!(sent.starts_with("POST /v1/audio/speech HTTP/1.1\r\n"));
    let sent: Value = serde_json::from_str(&engine.bodies()[0]).unwrap();
    let mut expected = fields;
    expected["model"] = json!("whisper");
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn events_of_speech_are_passed_on_and_their_tokens_counted() {
    let done = "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":4,\"output_tokens\":9,\"total_tokens\":13}}\n\n";
    let events = format!("data: {{\"type\":\"speech.audio.delta\",\"audio\":\"AAAA\"}}\n\n{done}");
    let engine = RawEngine::start([typed("text/event-stream", &events)]).await;
    let reply = ask(&engine, AudioTask::Speak(loggia_wire::Extra::default())).await;
    let usage = Some(CompletionUsage::new(4, 9));
    assert_eq!(read(reply.unwrap().unwrap()).await, Ok((events, usage)));
    let failed = "data: {\"error\":{\"message\":\"no\",\"code\":500}}\n\n";
    let engine = RawEngine::start([typed("text/event-stream", failed)]).await;
    let reply = ask(&engine, AudioTask::Speak(loggia_wire::Extra::default())).await;
    let error = read(reply.unwrap().unwrap()).await.unwrap_err();
    assert!(matches!(error, BackendError::Engine { .. }), "{error:?}");
}

#[tokio::test]
async fn speech_that_breaks_off_is_an_error() {
    let cut = Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 9\r\n\r\nID3".to_vec(),
    );
    let engine = RawEngine::start([vec![cut, Step::Close]]).await;
    let reply = ask(&engine, AudioTask::Speak(loggia_wire::Extra::default())).await;
    let reply = reply.unwrap().unwrap();
    assert_eq!(reply.length, Some(9));
    let backend = "gpu".to_owned();
    assert_eq!(read(reply).await, Err(BackendError::CutShort { backend }));
}

/// A node, which may be unreachable. It returns the content of the recording as its text.
struct Node {
    is_away: bool,
}

impl Backend for Node {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(std::future::ready(Ok(Arc::default())))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(std::future::ready(Err(call.work.unsupported())))
    }

    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(async move {
            if self.is_away {
                let backend = "gpu".to_owned();
                return Err(BackendError::Unreachable { backend });
            }
            let AudioTask::Transcribe(recording) = call.work.task else {
                return Ok(None);
            };
            let content = recording.content.whole().await.unwrap();
            Ok(Some(AudioReply {
                served_by: ServedBy::new("gpu", "whisper"),
                media_type: "text/plain".to_owned(),
                length: None,
                pieces: futures_util::stream::iter([Ok(AudioPiece::Bytes(content))]).boxed(),
            }))
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        let models = vec![Model::new("whisper", 0, "tests")];
        Box::pin(std::future::ready(Ok(models)))
    }
}

#[tokio::test]
async fn a_fleet_sends_a_recording_to_the_next_node_if_one_is_away() {
    let fleet = Fleet::new("gpu", tokio::runtime::Handle::current());
    for (place, is_away) in [("one", true), ("two", false)] {
        fleet.add(place, Arc::new(Node { is_away }));
    }
    let work = Audio {
        model: "whisper".to_owned(),
        task: AudioTask::Transcribe(recording(&[], false)),
    };
    let reply = fleet.audio(AudioCall::new("audio-7", work)).await;
    let reply = reply.unwrap().expect("a reply");
    assert_eq!(reply.served_by.node.as_deref(), Some("2"));
    assert_eq!(read(reply).await.unwrap().0, "RIFF");
}
