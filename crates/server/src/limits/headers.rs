//! The headers about the limits of a client: OpenAI's `x-ratelimit-…`, or Anthropic's.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use loggia_api::meter::{Remaining, Window};

/// The headers of one limit: the limit, how much is left, and the time until all of it is
/// available.
type Names = [HeaderName; 3];

static OPENAI: [Names; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];
static ANTHROPIC: [Names; 2] = [
    [
        HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    ],
    [
        HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    ],
];

/// All headers, for pages that may read them.
pub(crate) fn names() -> impl Iterator<Item = HeaderName> {
    OPENAI.iter().chain(&ANTHROPIC).flatten().cloned()
}

/// Adds the rest of the limits to the headers of an answer.
pub(crate) fn add(headers: &mut HeaderMap, remaining: &Remaining, is_anthropic: bool) {
    let windows = [remaining.requests, remaining.tokens];
    let names = if is_anthropic { &ANTHROPIC } else { &OPENAI };
    for (names, window) in names.iter().zip(windows) {
        let Some(Window {
            limit,
            remaining,
            reset,
        }) = window
        else {
            continue;
        };
        let reset = if is_anthropic {
            moment(SystemTime::now() + reset)
        } else {
            span(reset)
        };
        let [of_limit, of_remaining, of_reset] = names;
        headers.insert(of_limit, decimal(limit));
        headers.insert(of_remaining, decimal(remaining));
        if let Ok(reset) = HeaderValue::from_str(&reset) {
            headers.insert(of_reset, reset);
        }
    }
}

/// A number as a header. The conversion of `http` allocates twice.
fn decimal(number: u64) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    HeaderValue::from_str(digits.format(number)).unwrap_or_else(|_| number.into())
}

/// A span as OpenAI writes it: `17ms`, `8.64s`, `6m0s`, `1h2m3s`.
fn span(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match seconds {
        0 => format!("{millis}ms"),
        1..60 if millis > 0 => {
            let text = format!("{seconds}.{millis:03}");
            format!("{}s", text.trim_end_matches('0'))
        }
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        _ => format!("{hours}h{minutes}m{}s", seconds % 60),
    }
}

/// A moment as Anthropic writes it, in RFC 3339: `2026-11-30T02:03:04Z`.
fn moment(time: SystemTime) -> String {
    let rounded_up = time + Duration::from_nanos(999_999_999);
    humantime::format_rfc3339_seconds(rounded_up).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_writes_them() {
        for (millis, text) in [
            (0, "0ms"),
            (17, "17ms"),
            (1000, "1s"),
            (8640, "8.64s"),
            (59_001, "59.001s"),
            (360_000, "6m0s"),
            (3_723_000, "1h2m3s"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        assert_eq!(span(Duration::from_nanos(1)), "1ms");
    }

    #[test]
    fn each_api_has_its_own_headers() {
        let window = Window {
            limit: 60,
            remaining: 59,
            reset: Duration::from_secs(1),
        };
        let remaining = Remaining {
            requests: Some(window),
            tokens: None,
        };
        let mut headers = HeaderMap::new();
        add(&mut headers, &remaining, false);
        assert_eq!(headers["x-ratelimit-limit-requests"], "60");
        assert_eq!(headers["x-ratelimit-remaining-requests"], "59");
        assert_eq!(headers["x-ratelimit-reset-requests"], "1s");
        assert_eq!(headers.len(), 3);
        let mut headers = HeaderMap::new();
        add(&mut headers, &remaining, true);
        let reset = headers["anthropic-ratelimit-requests-reset"].to_str();
        assert!(reset.expect("text").ends_with('Z') && headers.len() == 3);
    }
}
