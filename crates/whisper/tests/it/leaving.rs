//! Clients that leave, and several at once.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use loggia_backend::{AudioPiece, Backend as _, BackendError};

use super::{WHISPER, call, samples, silence, speech, text, wav};

#[tokio::test]
async fn nothing_more_is_computed_for_a_client_that_has_left() {
    let long: Vec<i16> = samples().into_iter().cycle().take(16_000 * 110).collect();
    let file = wav(16_000, 1, &long);
    // Alone, the whole recording takes many times as long as one word more.
    let begun = Instant::now();
    text(speech()).await.unwrap();
    let short = begun.elapsed();
    let fields = [("stream", "true")];
    for _ in 0..4 {
        let mut reply = WHISPER
            .audio(call(file.clone(), &fields))
            .await
            .unwrap()
            .unwrap();
        let first = reply.pieces.next().await.unwrap().unwrap();
        assert!(matches!(first, AudioPiece::Bytes(_)));
    }
    let begun = Instant::now();
    text(speech()).await.unwrap();
    assert!(
        begun.elapsed() < 4 * short + Duration::from_secs(5),
        "{:?} after {short:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn several_recordings_are_answered_one_after_the_other_and_too_many_are_refused() {
    let calls = (0..30).map(|_| text(silence(32_000)));
    let answers = futures_util::future::join_all(calls).await;
    let busy = answers
        .iter()
        .filter(|answer| matches!(answer, Err(BackendError::Busy { .. })));
    let (busy, answered) = (
        busy.count(),
        answers.iter().filter(|answer| answer.is_ok()).count(),
    );
    assert!(
        busy > 0 && answered >= 8 && busy + answered == 30,
        "{busy} busy, {answered} answered"
    );
}
