//! [`Transcript`]: the text of a recording, and its formats.

use std::fmt::Write as _;

use loggia_wire::Extra;
use loggia_wire::openai::CompletionUsage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The text of a recording, as the fields of `verbose_json`. What is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// The text.
    pub text: String,
    /// The parts of the text, with their times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<Vec<TranscriptSegment>>,
    /// The tokens or seconds that the transcription used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// The other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A part of a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TranscriptSegment {
    /// When the segment begins, in seconds.
    pub start: f64,
    /// When the segment ends, in seconds.
    pub end: f64,
    /// The segment's text.
    pub text: String,
    /// The other fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Transcript {
    /// Returns the tokens that the transcription used, if the engine counts them.
    pub fn tokens(&self) -> Option<CompletionUsage> {
        tokens(self.usage.as_ref()?)
    }

    /// Returns the text in a format that is not JSON: `text`, `srt` or `vtt`. `None` for other
    /// formats, and for subtitles without segments.
    pub fn written(&self, format: &str) -> Option<String> {
        let segments = self.segments.as_deref();
        match format {
            "text" => Some(format!("{}\n", self.text)),
            "srt" => Some(srt(segments?)),
            "vtt" => Some(vtt(segments?)),
            _ => None,
        }
    }
}

/// Returns the tokens of a `usage` in the format of OpenAI's audio endpoints, or of chats.
pub(crate) fn tokens(usage: &Value) -> Option<CompletionUsage> {
    let number = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| usage.get(*name).and_then(Value::as_u64))
    };
    let prompt = number(["input_tokens", "prompt_tokens"])?;
    let answer = number(["output_tokens", "completion_tokens"]).unwrap_or_default();
    Some(CompletionUsage::new(prompt, answer))
}

/// Writes `SubRip` subtitles.
fn srt(segments: &[TranscriptSegment]) -> String {
    let mut out = String::new();
    for (index, segment) in segments.iter().enumerate() {
        let (start, end) = (time(segment.start, ','), time(segment.end, ','));
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{}\n{start} --> {end}\n{}\n\n",
            index + 1,
            line(&segment.text)
        );
    }
    out
}

/// Writes `WebVTT` subtitles.
fn vtt(segments: &[TranscriptSegment]) -> String {
    let mut out = "WEBVTT\n\n".to_owned();
    for segment in segments {
        let (start, end) = (time(segment.start, '.'), time(segment.end, '.'));
        // Writing to a string cannot fail.
        let _ = write!(out, "{start} --> {end}\n{}\n\n", line(&segment.text));
    }
    out
}

/// Returns a text that cannot be taken for another part of the subtitles.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace("-->", "->")
}

/// Returns a time as `00:00:00,000`, with this character before the milliseconds.
fn time(seconds: f64, point: char) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates: a negative time is 0"
    )]
    let milliseconds = (seconds * 1000.0).round() as u64;
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}{point}{rest:03}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subtitles_number_their_parts_and_show_their_times() {
        let transcript: Transcript = serde_json::from_value(json!({
            "text": "Hello there. Bye -->", "language": "english",
            "segments": [
                {"id": 0, "start": 0, "end": 1.5, "text": " Hello\n\nthere."},
                {"id": 1, "start": 3723.0421, "end": 3724, "text": " Bye -->"},
            ],
        }))
        .unwrap();
        let srt = "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n2\n01:02:03,042 --> 01:02:04,000\nBye ->\n\n";
        assert_eq!(transcript.written("srt").as_deref(), Some(srt));
        let vtt = "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n01:02:03.042 --> 01:02:04.000\nBye ->\n\n";
        assert_eq!(transcript.written("vtt").as_deref(), Some(vtt));
        assert_eq!(transcript.written("json"), None);
        let bare = Transcript {
            text: "Hi".to_owned(),
            ..Transcript::default()
        };
        assert_eq!(bare.written("text").as_deref(), Some("Hi\n"));
        assert_eq!((bare.written("srt"), bare.written("vtt")), (None, None));
    }

    #[test]
    fn tokens_are_read_in_both_formats_and_seconds_are_none() {
        let audio = json!({"type": "tokens", "input_tokens": 7, "output_tokens": 3});
        assert_eq!(tokens(&audio), Some(CompletionUsage::new(7, 3)));
        let chat = json!({"prompt_tokens": 7, "completion_tokens": 3});
        assert_eq!(tokens(&chat), Some(CompletionUsage::new(7, 3)));
        assert_eq!(tokens(&json!({"type": "duration", "seconds": 3})), None);
    }
}
