//! Tests with recorded answers of llama-server, byte by byte (`fixtures/openai/llama-server`).

use std::sync::Arc;
use std::time::Duration;

use crate::raw::{RawEngine, Step};
use futures_util::StreamExt;
use loggia_backend::http::Client;
use loggia_backend::openai::OpenAi;
use loggia_backend::{Backend, BackendError, ChatCall, Event};
use loggia_wire::openai::FinishReason;
use proptest::prelude::*;

const STREAM: &[u8] = include_bytes!("../../../../../fixtures/openai/llama-server/stream.http");
const STREAM_REQUEST: &str =
    include_str!("../../../../../fixtures/openai/llama-server/stream.request.json");
const WHOLE: &[u8] = include_bytes!("../../../../../fixtures/openai/llama-server/whole.http");
const TOO_LONG: &[u8] = include_bytes!("../../../../../fixtures/openai/llama-server/too-long.http");
const BAD_GRAMMAR: &[u8] =
    include_bytes!("../../../../../fixtures/openai/llama-server/bad-grammar.http");
const IMAGE: &[u8] = include_bytes!("../../../../../fixtures/openai/llama-server/image.http");
const MODELS: &[u8] = include_bytes!("../../../../../fixtures/openai/llama-server/models.http");
const NO_SUCH_PATH: &[u8] =
    include_bytes!("../../../../../fixtures/openai/llama-server/no-such-path.http");

async fn engine(steps: Vec<Step>) -> (RawEngine, OpenAi) {
    let engine = RawEngine::start([steps]).await;
    let backend = OpenAi::new("gpu", Client::default(), engine.url.parse().unwrap(), None);
    (engine, backend)
}

fn call() -> ChatCall {
    let request = Arc::new(serde_json::from_str(STREAM_REQUEST).unwrap());
    ChatCall::new("chatcmpl-1", request)
}

async fn events(steps: Vec<Step>) -> Result<Vec<Event>, BackendError> {
    let (_engine, backend) = engine(steps).await;
    let events: Vec<_> = backend.start(call().into()).await?.events.collect().await;
    events.into_iter().collect()
}

async fn refused(bytes: &[u8]) -> BackendError {
    events(vec![Step::Send(bytes.to_vec())]).await.unwrap_err()
}

fn said(events: &[Event]) -> String {
    let chunks = events.iter().filter_map(|event| {
        if let Event::Chunk(chunk) = event {
            Some(chunk)
        } else {
            None
        }
    });
    chunks
        .flat_map(|chunk| &chunk.choices)
        .filter_map(|choice| choice.delta.content.as_deref())
        .collect()
}

#[tokio::test]
async fn a_stream_is_said_counted_and_ended() {
    let events = events(vec![Step::Send(STREAM.to_vec())]).await.unwrap();
    assert_eq!(said(&events), "I'm glad you");
    let [
        ..,
        Event::Chunk(finish),
        Event::Chunk(timings),
        Event::Usage(usage),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(finish.choices[0].finish_reason, Some(FinishReason::Length));
    assert!(timings.choices.is_empty() && timings.extra.contains_key("timings"));
    assert_eq!(
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens
        ),
        (32, 4, 36)
    );
    let Event::Chunk(second) = &events[1] else {
        panic!("{events:?}")
    };
    let logprobs = second.choices[0]
        .logprobs
        .as_ref()
        .unwrap()
        .content
        .as_ref()
        .unwrap();
    assert_eq!(
        (logprobs[0].token.as_str(), logprobs[0].top_logprobs.len()),
        ("I", 1)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn a_stream_is_the_same_wherever_the_bytes_are_cut(cuts in prop::collection::vec(0..STREAM.len(), 0..10)) {
        let mut cuts = cuts;
        cuts.extend([0, STREAM.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let pause = Step::Pause(Duration::from_micros(300));
        let cut = cuts.windows(2).flat_map(|pair| [Step::Send(STREAM[pair[0]..pair[1]].to_vec()), pause.clone()]).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (cut, whole) = runtime.block_on(async { (events(cut).await, events(vec![Step::Send(STREAM.to_vec())]).await) });
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn a_stream_that_breaks_off_before_its_finish_is_cut_short(at in 0..2_000_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = runtime.block_on(events(vec![Step::Send(STREAM[..at].to_vec()), Step::Close]));
        prop_assert_eq!(told, Err(BackendError::CutShort { backend: "gpu".to_owned() }));
    }
}

#[tokio::test]
async fn a_whole_answer_says_the_same() {
    let events = events(vec![Step::Send(WHOLE.to_vec())]).await.unwrap();
    assert_eq!(said(&events), "I'm glad you're here! I");
    let [Event::Chunk(chunk), Event::Usage(usage)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(chunk.choices[0].finish_reason, Some(FinishReason::Length));
    assert_eq!(
        chunk.choices[0]
            .logprobs
            .as_ref()
            .unwrap()
            .content
            .as_ref()
            .unwrap()
            .len(),
        8
    );
    assert!(chunk.extra.contains_key("timings"));
    assert_eq!(usage.completion_tokens, 8);
}

#[tokio::test]
async fn its_refusals_are_the_clients_fault_where_they_are() {
    let overflow = BackendError::ContextLengthExceeded {
        prompt_tokens: Some(3031),
        context: Some(2048),
    };
    assert_eq!(refused(TOO_LONG).await, overflow);
    let BackendError::InvalidRequest { message, .. } = refused(BAD_GRAMMAR).await else {
        panic!("a 400")
    };
    assert!(
        message.ends_with("JSON schema error at #: unrecognized type nonsense"),
        "{message}"
    );
    let BackendError::InvalidRequest { param, .. } = refused(IMAGE).await else {
        panic!("no fault of the engine's")
    };
    assert_eq!(param.as_deref(), Some("messages"));
    assert!(matches!(
        refused(NO_SUCH_PATH).await,
        BackendError::BadAnswer { .. }
    ));
}

#[tokio::test]
async fn its_models_tell_the_context_it_was_started_with() {
    let (_engine, backend) = engine(vec![Step::Send(MODELS.to_vec())]).await;
    let models = backend.models().await.unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!(
        (models[0].id.as_str(), models[0].owned_by.as_str()),
        ("smollm2", "llamacpp")
    );
    assert_eq!(models[0].extra["meta"]["n_ctx_train"], 8192);
    assert_eq!(
        backend.abilities("smollm2").await.unwrap().context_length,
        Some(2048)
    );
}
