//! `keep_alive`: how long a model stays loaded after its last request, as a setting and as Ollama's
//! field in requests.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::value::ValueError;

/// The duration; `None` means forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct KeepAlive(pub(crate) Option<Duration>);

impl FromStr for KeepAlive {
    type Err = ValueError;

    /// Parses a duration, as `5m`; `forever` and negative numbers mean forever, as in Ollama.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text == "forever" || text.starts_with('-') {
            return Ok(Self(None));
        }
        let seconds = text.parse().ok().map(Duration::from_secs);
        let span = seconds.map_or_else(|| humantime::parse_duration(text), Ok);
        span.map(|span| Self(Some(span)))
            .map_err(|_| ValueError::KeepAlive(text.to_owned()))
    }
}

impl TryFrom<String> for KeepAlive {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl KeepAlive {
    /// Reads the field of a request: a duration or a number of seconds. `None` if it is invalid.
    #[cfg(any(feature = "embedded", test))]
    pub(crate) fn of(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::String(text) => text.parse().ok(),
            serde_json::Value::Number(number) => {
                let seconds = number.as_f64()?;
                let span = (seconds >= 0.0)
                    .then(|| Duration::try_from_secs_f64(seconds))
                    .transpose();
                Some(Self(span.ok()?))
            }
            _ => None,
        }
    }
}

impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(span) => humantime::format_duration(span).fmt(f),
            None => f.write_str("forever"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_read_as_ollama_reads_it() {
        let read = |value| KeepAlive::of(&value).map(|keep| keep.0);
        assert_eq!(read(json!("5m")), Some(Some(Duration::from_mins(5))));
        assert_eq!(read(json!("90")), Some(Some(Duration::from_secs(90))));
        assert_eq!(read(json!(0)), Some(Some(Duration::ZERO)));
        assert_eq!(read(json!(1.5)), Some(Some(Duration::from_millis(1500))));
        assert_eq!(
            (read(json!(-1)), read(json!("-1m")), read(json!("forever"))),
            (Some(None), Some(None), Some(None))
        );
        assert_eq!(
            (read(json!("soon")), read(json!([])), read(json!(1e300))),
            (None, None, None)
        );
    }
}
