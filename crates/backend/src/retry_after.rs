//! Parses the time after which an engine wants a retry.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// The more exact header, which OpenAI's clients read first.
const MILLISECONDS: &str = "retry-after-ms";

/// Parses milliseconds or seconds. The third form, a date, would need a clock and is ignored.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number(MILLISECONDS)
        .map(|ms| ms / 1000.0)
        .or_else(|| number(RETRY_AFTER.as_str()))?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_come_before_seconds_and_anything_else_says_nothing() {
        let told = |headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            retry_after(&headers.collect())
        };
        assert_eq!(told(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(
            told(&[("retry-after", "7"), ("retry-after-ms", "6250")]),
            Some(Duration::from_millis(6250))
        );
        for odd in [
            "Wed, 21 Oct 2026 07:28:00 GMT",
            "-1",
            "NaN",
            "inf",
            "1e300",
            "",
        ] {
            assert_eq!(told(&[("retry-after", odd)]), None, "{odd}");
        }
    }
}
