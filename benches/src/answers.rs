//! The bytes that the simulated server answers with: those of Ollama, in the format of the
//! recordings in `fixtures/ollama`, and any other bytes in the same portions, for nginx to pass
//! through.
//!
//! Everything is prepared before the measurement; during it these bytes are only written.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;

pub(crate) const MODEL: &str = "smollm2:135m";

const STAMP: &str = "2026-11-22T16:40:44.650281517Z";
const COUNTS: &str = r#""total_duration":58427827,"load_duration":869710,"prompt_eval_count":42,"prompt_eval_duration":41045000,"eval_count":64,"eval_duration":14084000"#;
const WORDS: [&str; 16] = [
    " the",
    " story",
    " of",
    " a",
    " small",
    " lighthouse",
    " keeper",
    ",",
    " who",
    " had",
    " never",
    " seen",
    " \\\"snow",
    "\\\"",
    ".",
    "\\n\\n",
];

/// One answer on the socket: a head, and then the body in one or many pieces.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) head: Bytes,
    /// The pieces of the body, ready to be written: a token's HTTP chunk, or the whole body.
    pub(crate) pieces: Vec<Bytes>,
}

/// How the pieces of a streamed answer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// All pieces in as few writes as the socket accepts.
    AtOnce,
    /// One write for each piece, the next as soon as the last is done.
    OneByOne,
    /// One write for each piece, at this interval. The streams start at `beats` different times,
    /// evenly distributed over the interval.
    Paced { every: Duration, beats: u32 },
}

/// Returns Ollama's complete answer of `tokens` tokens.
pub(crate) fn ollama_whole(tokens: usize) -> Answer {
    let text: String = words(tokens).collect();
    json(&format!(
        r#"{{"model":"{MODEL}","created_at":"{STAMP}","message":{{"role":"assistant","content":"{text}"}},"done":true,"done_reason":"stop",{COUNTS}}}"#
    ))
}

/// Ollama's streamed answer: a line and an HTTP chunk for each token, and the closing line.
pub(crate) fn ollama_stream(tokens: usize, delivery: Delivery) -> Answer {
    let lines = words(tokens)
        .map(|word| {
            format!(
                "{{\"model\":\"{MODEL}\",\"created_at\":\"{STAMP}\",\"message\":{{\"role\":\"assistant\",\"content\":\"{word}\"}},\"done\":false}}\n"
            )
        })
        .chain([format!(
            "{{\"model\":\"{MODEL}\",\"created_at\":\"{STAMP}\",\"message\":{{\"role\":\"assistant\",\"content\":\"\"}},\"done\":true,\"done_reason\":\"stop\",{COUNTS}}}\n"
        )]);
    chunked(
        "application/x-ndjson",
        lines.map(String::into_bytes),
        delivery,
    )
}

/// Returns the answers to requests of a gateway other than chats: Ollama's, and the models of an
/// engine with OpenAI's API.
pub(crate) fn about(path: &str) -> Answer {
    let details = r#"{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"134.52M","quantization_level":"Q4_1"}"#;
    let named = format!(
        r#""name":"{MODEL}","model":"{MODEL}","size":98362745,"digest":"fd5f44c0b5aff6453726119fc560d73a8a995a55b4a49804bc24b1969ecf1794","details":{details}"#
    );
    match path {
        "/v1/models" => json(&format!(
            r#"{{"object":"list","data":[{{"id":"{MODEL}","object":"model","created":1,"owned_by":"bench"}}]}}"#
        )),
        "/api/version" => json(r#"{"version":"0.33.0"}"#),
        "/api/tags" => json(&format!(
            r#"{{"models":[{{{named},"modified_at":"2026-11-22T16:33:11.516304833Z","capabilities":["completion"]}}]}}"#
        )),
        "/api/ps" => json(&format!(
            r#"{{"models":[{{{named},"expires_at":"2099-01-01T00:00:00Z","size_vram":0,"context_length":4096}}]}}"#
        )),
        "/api/show" => json(&format!(
            r#"{{"parameters":"","template":"","details":{details},"model_info":{{"general.architecture":"llama","general.parameter_count":134515008,"llama.context_length":8192}},"capabilities":["completion"],"modified_at":"2026-11-22T16:33:11.516304833Z"}}"#
        )),
        _ => Answer {
            head: Bytes::from_static(
                b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n404 page not found",
            ),
            pieces: Vec::new(),
        },
    }
}

/// Returns an answer with this JSON, in one piece.
pub(crate) fn json(body: &str) -> Answer {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nDate: Sun, 22 Nov 2026 16:40:44 GMT\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Answer {
        head: head.into(),
        pieces: Vec::new(),
    }
}

/// The SSE body that a gateway sent for a stream of `tokens` tokens, split into as many pieces as
/// Ollama's answer.
pub(crate) fn sse_replay(body: &[u8], tokens: usize, delivery: Delivery) -> Answer {
    let text = String::from_utf8_lossy(body);
    let events: Vec<&str> = text.split_inclusive("\n\n").collect();
    let (single, closing) = events.split_at(tokens.min(events.len()));
    let pieces = single
        .iter()
        .map(|event| event.as_bytes().to_vec())
        .chain([closing.concat().into_bytes()]);
    chunked("text/event-stream", pieces, delivery)
}

fn chunked(
    content_type: &str,
    pieces: impl Iterator<Item = Vec<u8>>,
    delivery: Delivery,
) -> Answer {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nDate: Sun, 22 Nov 2026 16:40:44 GMT\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut pieces: Vec<Vec<u8>> = pieces
        .filter(|piece| !piece.is_empty())
        .map(|piece| http_chunk(&piece))
        .collect();
    if let Some(last) = pieces.last_mut() {
        last.extend_from_slice(b"0\r\n\r\n");
    }
    if delivery == Delivery::AtOnce {
        pieces = vec![pieces.concat()];
    }
    Answer {
        head: head.into(),
        pieces: pieces.into_iter().map(Bytes::from).collect(),
    }
}

fn http_chunk(piece: &[u8]) -> Vec<u8> {
    let mut size = String::new();
    // Writing to a string cannot fail.
    let _ = write!(size, "{:x}\r\n", piece.len());
    [size.as_bytes(), piece, b"\r\n"].concat()
}

fn words(count: usize) -> impl Iterator<Item = &'static str> {
    WORDS.into_iter().cycle().take(count)
}
