//! `retry-after`: which errors tell the client to retry and when. After no other error of Loggia
//! does the SDK retry in vain.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use http::StatusCode;
use loggia_api::ApiError;
use loggia_backend::http::TlsFault;
use loggia_backend::{BackendError, NotDeleted, Phase, WorkKind};

/// One error of each kind, with the status of its answer. The `match` below does not compile if a
/// kind is added.
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_kind() -> Vec<(BackendError, u16)> {
    let backend = || "b".to_owned();
    let text = || "x".to_owned();
    let second = Duration::from_secs(1);
    let after = |seconds| Some(Duration::from_secs(seconds));
    let limited = |code: Option<&str>, retry_after| BackendError::RateLimited {
        message: text(),
        code: code.map(str::to_owned),
        retry_after,
    };
    let refused = |status| BackendError::Refused {
        status,
        message: text(),
        param: None,
        code: None,
    };
    vec![
        (
            BackendError::ModelNotFound {
                model: text(),
                nearest: Some(text()),
            },
            404,
        ),
        (BackendError::NoModels, 503),
        (
            BackendError::InvalidRequest {
                message: text(),
                param: None,
                code: None,
            },
            400,
        ),
        (
            BackendError::ContextLengthExceeded {
                prompt_tokens: None,
                context: None,
            },
            400,
        ),
        (BackendError::EmptyPrompt, 400),
        (
            BackendError::InputTooLong {
                index: None,
                tokens: None,
                most: None,
            },
            400,
        ),
        (
            BackendError::Unsupported {
                work: WorkKind::Chat,
            },
            404,
        ),
        (
            BackendError::Unsupported {
                work: WorkKind::Embeddings,
            },
            403,
        ),
        (
            BackendError::NotDeleted {
                model: text(),
                why: NotDeleted::InUse,
            },
            409,
        ),
        (
            BackendError::NotDeleted {
                model: text(),
                why: NotDeleted::EngineKeepsIt,
            },
            403,
        ),
        (BackendError::Busy { retry_after: None }, 503),
        (
            BackendError::Busy {
                retry_after: after(0),
            },
            503,
        ),
        (
            BackendError::Busy {
                retry_after: after(7),
            },
            503,
        ),
        (
            BackendError::Busy {
                retry_after: after(100_000),
            },
            503,
        ),
        (
            BackendError::Busy {
                retry_after: Some(Duration::from_millis(10)),
            },
            503,
        ),
        (limited(None, None), 429),
        (limited(Some("tokens"), after(9)), 429),
        (limited(None, after(86_400)), 429),
        (refused(408), 408),
        (refused(409), 409),
        (refused(422), 422),
        (refused(429), 429),
        (refused(501), 400),
        (refused(999), 400),
        (
            BackendError::Credentials {
                backend: backend(),
                message: None,
            },
            502,
        ),
        (BackendError::Unreachable { backend: backend() }, 502),
        (
            BackendError::Tls {
                backend: backend(),
                fault: TlsFault::AnswersTls,
            },
            502,
        ),
        (
            BackendError::TimedOut {
                backend: backend(),
                phase: Phase::Connect,
                after: second,
            },
            504,
        ),
        (
            BackendError::TimedOut {
                backend: backend(),
                phase: Phase::Idle,
                after: second,
            },
            504,
        ),
        (
            BackendError::BadAnswer {
                backend: backend(),
                what: text(),
            },
            502,
        ),
        (BackendError::CutShort { backend: backend() }, 502),
        (BackendError::NodeRemoved { backend: backend() }, 502),
        (BackendError::Unfinished, 502),
        (BackendError::Overdue { after: second }, 504),
        (BackendError::Engine { message: text() }, 500),
    ]
}

fn is_in_the_list(error: &BackendError) {
    match error {
        BackendError::ModelNotFound { .. }
        | BackendError::NoModels
        | BackendError::InvalidRequest { .. }
        | BackendError::ContextLengthExceeded { .. }
        | BackendError::EmptyPrompt
        | BackendError::InputTooLong { .. }
        | BackendError::Unsupported { .. }
        | BackendError::NotDeleted { .. }
        | BackendError::Busy { .. }
        | BackendError::RateLimited { .. }
        | BackendError::Refused { .. }
        | BackendError::Credentials { .. }
        | BackendError::Unreachable { .. }
        | BackendError::Tls { .. }
        | BackendError::TimedOut { .. }
        | BackendError::BadAnswer { .. }
        | BackendError::CutShort { .. }
        | BackendError::NodeRemoved { .. }
        | BackendError::Unfinished
        | BackendError::Overdue { .. }
        | BackendError::Engine { .. } => {}
    }
}

fn seconds(error: &ApiError) -> Option<u64> {
    let response = error.response();
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().parse::<u64>().unwrap())
    };
    let (seconds, millis) = (header("retry-after"), header("retry-after-ms"));
    assert_eq!(seconds, millis.map(|millis| millis.div_ceil(1000)));
    seconds
}

#[test]
fn every_429_and_503_says_when_to_come_back_and_nothing_is_a_501() {
    for (error, status) in every_kind() {
        is_in_the_list(&error);
        let told = ApiError::from(error.clone());
        assert_eq!(told.status.as_u16(), status, "{error:?}");
        assert_ne!(status, 501);
        let seconds = seconds(&told);
        if matches!(status, 429 | 503) {
            assert!(
                seconds.is_some_and(|seconds| (1..=120).contains(&seconds)),
                "{error:?}: {seconds:?}"
            );
        } else {
            assert_eq!(seconds, None, "{error:?}");
        }
    }
}

#[test]
fn a_time_that_is_known_is_told_as_it_is() {
    let after = |time| {
        seconds(
            &BackendError::Busy {
                retry_after: Some(time),
            }
            .into(),
        )
    };
    assert_eq!(after(Duration::from_secs(7)), Some(7));
    assert_eq!(after(Duration::from_millis(1500)), Some(2));
    for status in [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::TOO_MANY_REQUESTS,
    ] {
        assert!(seconds(&ApiError::new(status, "of the server's own")).is_some());
    }
}

#[test]
fn an_account_that_has_nothing_left_is_not_to_come_back() {
    let spent = |retry_after| {
        let code = Some(BackendError::NO_QUOTA.to_owned());
        ApiError::from(BackendError::RateLimited {
            message: "spent".to_owned(),
            code,
            retry_after,
        })
    };
    assert_eq!(spent(None).should_retry, Some(false));
    assert_eq!(seconds(&spent(None)), None);
    assert_eq!(
        seconds(&spent(Some(Duration::from_hours(24)))),
        Some(86_400)
    );
}
