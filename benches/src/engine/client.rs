//! A client of a streamed chat or response that records when each piece of text arrives.
//!
//! Only for the servers measured here: it expects each event as one line in one chunk.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

/// A received answer.
pub(crate) struct ReceivedAnswer {
    pub(crate) asked: Instant,
    /// The time of arrival of each piece of text.
    pub(crate) pieces: Vec<Instant>,
    /// The text, with its JSON escapes.
    pub(crate) text: String,
    /// `usage.completion_tokens`, or `usage.output_tokens` of a response.
    pub(crate) tokens: f64,
    /// The id of a response. Empty for a chat.
    pub(crate) id: String,
}

impl ReceivedAnswer {
    /// The time from the request to the first piece of text.
    pub(crate) fn first(&self) -> Result<Duration> {
        Ok(*self.pieces.first().context("an answer without text")? - self.asked)
    }

    /// Returns the longest pause of the answer between these two moments.
    pub(crate) fn longest_pause(&self, from: Instant, to: Instant) -> Duration {
        let pairs = self
            .pieces
            .windows(2)
            .filter(|pair| pair[1] > from && pair[0] < to);
        pairs
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default()
    }
}

/// The body of a chat request with these messages (as JSON), and an answer of exactly `tokens`
/// tokens.
pub(crate) fn chat(messages: &str, tokens: usize) -> String {
    // The two tokens that end an answer of the default model are banned, so that all answers have
    // the same length.
    format!(
        r#"{{"model":"bench","messages":[{messages}],"max_tokens":{tokens},"temperature":0.8,"stream":true,"stream_options":{{"include_usage":true}},"logit_bias":{{"0":-100,"2":-100}}}}"#
    )
}

/// The body of a chat request at temperature 0, with an answer of at most `tokens` tokens. `more`
/// are further fields as JSON, each after a comma.
pub(crate) fn greedy(messages: &str, tokens: usize, more: &str) -> String {
    format!(
        r#"{{"model":"bench","messages":[{messages}],"max_tokens":{tokens},"temperature":0,"stream":true,"stream_options":{{"include_usage":true}}{more}}}"#
    )
}

/// The body of a request for a response of at most `tokens` tokens, which continues an earlier
/// response unless `previous` is empty.
pub(crate) fn response(previous: &str, input: &str, tokens: usize) -> String {
    let previous = if previous.is_empty() {
        String::new()
    } else {
        format!(r#""previous_response_id":"{previous}","#)
    };
    format!(
        r#"{{"model":"bench",{previous}"input":"{input}","max_output_tokens":{tokens},"temperature":0.8,"stream":true}}"#
    )
}

/// A message as JSON. The content must not need escapes, or must already have them.
pub(crate) fn message(role: &str, content: &str) -> String {
    format!(r#"{{"role":"{role}","content":"{content}"}}"#)
}

/// Sends a chat request, and reads the answer to its end. The number of pieces so far is sent to
/// `so_far`.
pub(crate) async fn ask(
    target: SocketAddr,
    body: &str,
    so_far: Option<&watch::Sender<usize>>,
) -> Result<ReceivedAnswer> {
    ask_at("/v1/chat/completions", target, body, so_far).await
}

/// Sends a request to a path, and reads the answer to its end.
pub(crate) async fn ask_at(
    path: &str,
    target: SocketAddr,
    body: &str,
    so_far: Option<&watch::Sender<usize>>,
) -> Result<ReceivedAnswer> {
    let mut socket = TcpStream::connect(target).await?;
    socket.set_nodelay(true)?;
    let start = format!(
        "POST {path} HTTP/1.1\r\nhost: {target}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let asked = Instant::now();
    socket.write_all((start + body).as_bytes()).await?;
    let mut heard = ReceivedAnswer {
        asked,
        pieces: Vec::new(),
        text: String::new(),
        tokens: 0.0,
        id: String::new(),
    };
    let mut received = Vec::with_capacity(64 << 10);
    let mut whole = String::new();
    loop {
        let end = socket.read_buf(&mut received).await? == 0;
        let now = Instant::now();
        while let Some(end) = received.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(event) = line.strip_prefix("data: ") {
                heard.take(event, now);
            } else if heard.pieces.is_empty() {
                whole.push_str(&line);
            }
        }
        if let Some(so_far) = so_far {
            so_far.send_replace(heard.pieces.len());
        }
        if end {
            ensure!(
                heard.tokens > 0.0,
                "no answer: {whole}{}",
                String::from_utf8_lossy(&received)
            );
            return Ok(heard);
        }
    }
}

impl ReceivedAnswer {
    fn take(&mut self, event: &str, now: Instant) {
        let text = if event.contains(r#""type":"response.output_text.delta""#) {
            string_after(event, r#""delta":""#)
        } else if event.contains(r#""type":"response."#) {
            None
        } else {
            string_after(event, r#""content":""#)
        };
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.text.push_str(text);
            self.pieces.push(now);
        }
        if let Some(id) = string_after(event, r#""response":{"id":""#) {
            id.clone_into(&mut self.id);
        }
        let counted = [r#""completion_tokens":"#, r#""output_tokens":"#];
        for rest in counted
            .iter()
            .filter_map(|key| Some(event.split_once(key)?.1))
        {
            let digits = rest
                .split(|c: char| !c.is_ascii_digit())
                .next()
                .unwrap_or_default();
            self.tokens = digits.parse().unwrap_or_default();
        }
    }
}

/// The JSON string that begins after `key`, with its escapes.
fn string_after<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let rest = text.split_once(key)?.1;
    let mut escaped = false;
    let end = rest.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_event_is_found_with_its_escapes() {
        assert_eq!(
            string_after(
                r#"{"delta":{"content":"a\"b\\"},"x":"y"}"#,
                r#""content":""#
            ),
            Some(r#"a\"b\\"#)
        );
        assert_eq!(
            string_after(r#"{"delta":{"content":null}}"#, r#""content":""#),
            None
        );
    }
}
