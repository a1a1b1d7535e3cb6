//! Heartbeats: every line of a stream is data or a comment, whatever happens in between. Some
//! clients treat another line (`id:`, `retry:`, `event:`) as an event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use loggia_api::{Door, Policy};
use loggia_backend::conversation::Change;
use loggia_backend::{
    Abilities, AbilitySet, Backend, BackendError, Call, Chunk, EarlyEnd, Event, Reply, ServedBy,
    Waiting, WorkKind,
};
use loggia_wire::openai::{ChunkChoice, CompletionUsage, Delta, FinishReason, Model};
use serde_json::{Value, json};

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Well,
    /// The engine refuses before the answer begins.
    Refused,
    Broken,
}

/// A backend that takes half a minute for every step: to accept, between events, and to end.
#[derive(Clone, Copy)]
struct SlowBackend(End);

const SLOW: Duration = Duration::from_secs(30);

fn events(end: End) -> Vec<Result<Event, BackendError>> {
    let said = Event::Chunk(Chunk::of(ChunkChoice::delta(
        0,
        Delta::content("a\n\nid: 1\nretry: 2\r\n"),
    )));
    let last = Event::Chunk(Chunk::of(ChunkChoice::finish(0, FinishReason::Length)));
    let mut events = vec![
        Ok(Event::Waiting(Waiting::Queued)),
        Ok(Event::Waiting(Waiting::ReadingPrompt)),
        Ok(said),
        Ok(Event::EndedEarly(EarlyEnd::Context)),
    ];
    events.push(match end {
        End::Broken => Err(BackendError::Engine {
            message: "it broke\nid: 7".to_owned(),
        }),
        _ => Ok(last),
    });
    events.push(Ok(Event::Usage(CompletionUsage::new(1, 1))));
    events
}

impl Backend for SlowBackend {
    fn abilities<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let abilities = Abilities {
            can: AbilitySet::default(),
            ..Abilities::default()
        };
        Box::pin(async move { Ok(Arc::new(abilities)) })
    }

    fn start(&self, _: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let end = self.0;
        Box::pin(async move {
            tokio::time::sleep(SLOW).await;
            if end == End::Refused {
                return Err(BackendError::Busy { retry_after: None });
            }
            let events = futures_util::stream::iter(events(end)).then(|event| async {
                tokio::time::sleep(SLOW).await;
                event
            });
            let served_by = ServedBy {
                backend: "slow".into(),
                model: "m".into(),
                node: None,
                fingerprint: "fp_0".into(),
                changed: vec![Change::Merged],
                ignored: vec!["response_format#/a\nid: 9".to_owned()],
            };
            Ok(Reply {
                served_by,
                events: Box::pin(events),
            })
        })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Returns the status and the body of a stream.
async fn streamed(
    kind: WorkKind,
    end: End,
    policy: Policy,
) -> (StatusCode, http::HeaderMap, String) {
    let (path, asked) = match kind {
        WorkKind::Completions => ("/v1/completions", json!({"prompt": "x"})),
        _ => (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "content": "x"}]}),
        ),
    };
    let mut body = json!({"model": "m", "stream": true, "user": "u", "stream_options": {"include_usage": true}});
    if let (Value::Object(body), Value::Object(asked)) = (&mut body, asked) {
        body.extend(asked);
    }
    let request = Request::post(path)
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a request");
    let response = Door::new(Arc::new(SlowBackend(end)), policy)
        .serve(request)
        .await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("no error").to_bytes();
    (
        head.status,
        head.headers,
        String::from_utf8(body.to_vec()).expect("UTF-8"),
    )
}

#[tokio::test(start_paused = true)]
async fn every_line_of_a_stream_is_data_or_a_comment() {
    let beats = |after: u64, every: u64| Policy {
        heartbeat_after: Some(Duration::from_secs(after)),
        heartbeat_every: Duration::from_secs(every),
        ..Policy::default()
    };
    let mut heartbeats = 0;
    for kind in [WorkKind::Chat, WorkKind::Completions] {
        for end in [End::Well, End::Refused, End::Broken] {
            for policy in [beats(0, 1), beats(10, 10), beats(45, 7), beats(600, 10)] {
                let (status, _, text) = streamed(kind, end, policy).await;
                if status != StatusCode::OK {
                    assert_eq!(end, End::Refused, "{text}");
                    continue;
                }
                assert!(text.ends_with("\n\n"), "{text:?}");
                for line in text.lines() {
                    let is_usual =
                        line.is_empty() || line.starts_with("data: ") || line.starts_with(": ");
                    assert!(is_usual, "{kind:?} {end:?}: {line:?}");
                }
                for block in text.split_terminator("\n\n") {
                    assert_eq!(block.lines().count(), 1, "{kind:?} {end:?}: {block:?}");
                }
                heartbeats += text.matches("\n\n: still working").count();
            }
        }
    }
    assert!(heartbeats > 50, "{heartbeats}");
}

#[tokio::test(start_paused = true)]
async fn what_a_backend_left_out_is_named_beside_what_the_door_left_out() {
    let named = "user, response_format#/a%0Aid:%209";
    for kind in [WorkKind::Chat, WorkKind::Completions] {
        let patient = Policy {
            heartbeat_after: None,
            ..Policy::default()
        };
        let (_, headers, _) = streamed(kind, End::Well, patient).await;
        assert_eq!(headers["x-loggia-ignored"], named);
        let (_, _, text) = streamed(kind, End::Well, Policy::default()).await;
        assert!(
            text.contains(&format!(": x-loggia-ignored: {named}\n\n")),
            "{text}"
        );
    }
}
