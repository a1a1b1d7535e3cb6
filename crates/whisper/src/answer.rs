//! OpenAI's formats of a transcription, and its events.

use bytes::{Bytes, BytesMut};
use loggia_backend::{Transcript, TranscriptSegment};
use loggia_wire::Extra;
use loggia_wire::frame::sse;
use serde_json::{Value, json};

use crate::request::{Format, Request, Task};
use crate::tokens::Tokens;
use crate::transcribe::{Segment, Summary};

/// The media type of an answer that is complete.
pub(crate) fn media_type(format: Format) -> &'static str {
    match format {
        Format::Json | Format::Verbose => "application/json",
        Format::Text | Format::Srt | Format::Vtt => "text/plain; charset=utf-8",
    }
}

/// Returns the complete answer.
pub(crate) fn whole(
    request: &Request,
    segments: &[Segment],
    summary: &Summary,
    tokens: &Tokens,
) -> Bytes {
    let text = text(segments);
    let usage = json!({"type": "duration", "seconds": summary.seconds.ceil()});
    match request.format {
        Format::Json => {
            let mut answer = json!({"text": text});
            if request.logprobs {
                answer["logprobs"] = segments
                    .iter()
                    .flat_map(|segment| logprobs(segment, tokens))
                    .collect();
            }
            answer["usage"] = usage;
            answer.to_string().into()
        }
        Format::Verbose => {
            let mut answer = json!({
                "task": match request.task {
                    Task::Transcribe => "transcribe",
                    Task::Translate => "translate",
                },
                "language": match request.task {
                    Task::Transcribe => summary.language,
                    Task::Translate => "english",
                },
                "duration": rounded(summary.seconds),
                "text": text,
            });
            if request.segments {
                answer["segments"] = segments.iter().enumerate().map(described).collect();
            }
            if request.words {
                answer["words"] = segments.iter().flat_map(words).collect();
            }
            answer["usage"] = usage;
            answer.to_string().into()
        }
        Format::Text => written(text, segments, "text"),
        Format::Srt => written(text, segments, "srt"),
        Format::Vtt => written(text, segments, "vtt"),
    }
}

fn written(text: String, segments: &[Segment], format: &str) -> Bytes {
    let segment = |segment: &Segment| TranscriptSegment {
        start: segment.start,
        end: segment.end,
        text: segment.text.clone(),
        extra: Extra::default(),
    };
    let transcript = Transcript {
        text,
        segments: Some(segments.iter().map(segment).collect()),
        ..Transcript::default()
    };
    transcript.written(format).unwrap_or_default().into()
}

/// Returns the event for a segment. The first one begins without a space.
pub(crate) fn delta(
    segment: &Segment,
    is_first: bool,
    request: &Request,
    tokens: &Tokens,
) -> Bytes {
    let text = if is_first {
        segment.text.trim_start()
    } else {
        &segment.text
    };
    let mut event = json!({"type": "transcript.text.delta", "delta": text});
    if request.logprobs {
        event["logprobs"] = logprobs(segment, tokens).collect();
    }
    event_bytes(&event)
}

/// Returns the last event.
pub(crate) fn done(
    request: &Request,
    segments: &[Segment],
    summary: &Summary,
    tokens: &Tokens,
) -> Bytes {
    let mut event = json!({"type": "transcript.text.done", "text": text(segments)});
    if request.logprobs {
        event["logprobs"] = segments
            .iter()
            .flat_map(|segment| logprobs(segment, tokens))
            .collect();
    }
    event["usage"] = json!({
        "type": "tokens",
        "input_tokens": summary.read,
        "output_tokens": summary.written,
        "total_tokens": summary.read + summary.written,
    });
    event_bytes(&event)
}

fn event_bytes(event: &Value) -> Bytes {
    let mut out = BytesMut::new();
    // Cannot fail: the keys are strings.
    let _ = sse::write(&mut out, event);
    out.freeze()
}

fn text(segments: &[Segment]) -> String {
    let text: String = segments
        .iter()
        .map(|segment| segment.text.as_str())
        .collect();
    text.trim().to_owned()
}

/// Returns a segment with all fields of OpenAI's.
fn described((id, segment): (usize, &Segment)) -> Value {
    json!({
        "id": id,
        "seek": segment.seek,
        "start": rounded(segment.start),
        "end": rounded(segment.end),
        "text": segment.text,
        "tokens": segment.tokens,
        "temperature": segment.temperature,
        "avg_logprob": segment.mean_logprob,
        "compression_ratio": segment.compression,
        "no_speech_prob": segment.no_speech,
    })
}

fn words(segment: &Segment) -> impl Iterator<Item = Value> {
    let words = segment.words.iter();
    words.map(
        |word| json!({"word": word.text, "start": rounded(word.start), "end": rounded(word.end)}),
    )
}

/// Returns the log-probabilities of the text's tokens.
fn logprobs<'a>(segment: &'a Segment, tokens: &'a Tokens) -> impl Iterator<Item = Value> + 'a {
    let all = segment.tokens.iter().zip(&segment.logprobs);
    let of_text = all.filter(|(token, _)| **token < tokens.end_of_text);
    of_text.map(|(token, logprob)| {
        let bytes = tokens.bytes(*token);
        json!({"token": String::from_utf8_lossy(bytes), "logprob": logprob, "bytes": bytes})
    })
}

/// Rounds to milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tests::english;
    use crate::words::Word;

    fn request(format: Format) -> Request {
        Request {
            task: Task::Transcribe,
            format,
            stream: false,
            language: None,
            languages: Vec::new(),
            prompt: String::new(),
            temperature: None,
            segments: true,
            words: true,
            logprobs: true,
            ignored: Vec::new(),
        }
    }

    fn answered(request: &Request) -> String {
        let segment = |text: &str, start: f64, token| Segment {
            seek: 0,
            start,
            end: start + 1.5,
            text: text.to_owned(),
            tokens: vec![50_363, token],
            logprobs: vec![-0.25, -0.5],
            temperature: 0.0,
            mean_logprob: -0.375,
            compression: 1.0,
            no_speech: 0.125,
            words: vec![Word {
                text: text.trim().to_owned(),
                start,
                end: start + 0.5,
            }],
        };
        let segments = [segment(" Hi", 0.0, 256), segment(" there.", 2.0, 257)];
        let summary = Summary {
            language: "english",
            seconds: 3.52,
            read: 2,
            written: 4,
        };
        let tokens = english(&[" Hi", " there."]);
        let whole = if request.stream {
            let deltas = [
                delta(&segments[0], true, request, &tokens),
                delta(&segments[1], false, request, &tokens),
            ];
            [
                &deltas[0][..],
                &deltas[1],
                &done(request, &segments, &summary, &tokens),
            ]
            .concat()
        } else {
            whole(request, &segments, &summary, &tokens).to_vec()
        };
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn every_format_is_openais() {
        assert_eq!(answered(&request(Format::Text)), "Hi there.\n");
        assert!(
            answered(&request(Format::Srt))
                .starts_with("1\n00:00:00,000 --> 00:00:01,500\nHi\n\n2\n")
        );
        assert!(answered(&request(Format::Vtt)).starts_with("WEBVTT\n\n"));
        let json: Value = serde_json::from_str(&answered(&request(Format::Json))).unwrap();
        assert_eq!(
            json,
            json!({
                "text": "Hi there.",
                "logprobs": [
                    {"token": " Hi", "logprob": -0.5, "bytes": [32, 72, 105]},
                    {"token": " there.", "logprob": -0.5, "bytes": b" there."},
                ],
                "usage": {"type": "duration", "seconds": 4.0},
            })
        );
        let verbose: Value = serde_json::from_str(&answered(&request(Format::Verbose))).unwrap();
        assert_eq!(
            verbose["segments"][1],
            json!({
                "id": 1, "seek": 0, "start": 2.0, "end": 3.5, "text": " there.", "tokens": [50363, 257], "temperature": 0.0,
                "avg_logprob": -0.375, "compression_ratio": 1.0, "no_speech_prob": 0.125,
            })
        );
        assert_eq!(
            verbose["words"][0],
            json!({"word": "Hi", "start": 0.0, "end": 0.5})
        );
        assert_eq!(
            (&verbose["language"], &verbose["duration"], &verbose["task"]),
            (&json!("english"), &json!(3.52), &json!("transcribe"))
        );
        let only_words = Request {
            segments: false,
            ..request(Format::Verbose)
        };
        assert!(!answered(&only_words).contains("segments"));
    }

    #[test]
    fn events_add_up_to_the_text() {
        let streamed = answered(&Request {
            stream: true,
            ..request(Format::Json)
        });
        let events = streamed
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "));
        let events: Vec<Value> = events
            .map(|event| serde_json::from_str(event).unwrap())
            .collect();
        assert_eq!(events.len(), 3);
        assert_eq!(
            (&events[0]["delta"], &events[1]["delta"]),
            (&json!("Hi"), &json!(" there."))
        );
        assert_eq!(events[2]["text"], "Hi there.");
        assert_eq!(events[2]["usage"]["total_tokens"], 6);
        assert_eq!(events[2]["logprobs"].as_array().unwrap().len(), 2);
    }
}
