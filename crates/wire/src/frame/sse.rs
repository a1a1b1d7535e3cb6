//! Reads and writes server-sent events, as OpenAI's streams use them.
//!
//! Lines end with `\n` or `\r\n`. The standard also allows a lone `\r`; it does not end a line
//! here, because no engine sends it.

use bytes::{Buf, BufMut, Bytes};
use serde::Serialize;

use super::{LineTooLong, Lines};

/// A server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The `event` field, if present.
    pub name: Option<String>,
    /// The `data` lines, joined with `\n`.
    pub data: Bytes,
}

/// Splits a stream of bytes into server-sent events.
///
/// ```
/// use bytes::Bytes;
/// use loggia_wire::frame::sse::Events;
///
/// let mut events = Events::new(1024);
/// events.push(Bytes::from_static(b": a comment\ndata: {\"id\": 1}\n\ndata: [DONE]\n\n"));
/// let mut data = Vec::new();
/// while let Some(event) = events.next_event()? {
///     data.push(event.data);
/// }
/// assert_eq!(data, ["{\"id\": 1}", "[DONE]"]);
/// # Ok::<(), loggia_wire::frame::LineTooLong>(())
/// ```
#[derive(Debug)]
pub struct Events {
    lines: Lines,
    started: bool,
    name: Option<String>,
    data: Option<Bytes>,
    limit: usize,
}

impl Events {
    /// Creates a reader that accepts lines and events of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            lines: Lines::new(limit),
            started: false,
            name: None,
            data: None,
            limit,
        }
    }

    /// Adds the next bytes. Read all events with [`Events::next_event`] before you add more.
    pub fn push(&mut self, bytes: Bytes) {
        self.lines.push(bytes);
    }

    /// Returns the next complete event.
    pub fn next_event(&mut self) -> Result<Option<Event>, LineTooLong> {
        while let Some(line) = self.lines.next_line()? {
            if let Some(event) = self.line(line)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Returns the last event if the stream ended without the blank line after it.
    pub fn finish(&mut self) -> Result<Option<Event>, LineTooLong> {
        if let Some(line) = self.lines.finish() {
            self.line(line)?;
        }
        Ok(self.dispatch())
    }

    fn line(&mut self, mut line: Bytes) -> Result<Option<Event>, LineTooLong> {
        if !self.started {
            self.started = true;
            if line.starts_with(b"\xEF\xBB\xBF") {
                line.advance(3);
            }
        }
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let colon = memchr::memchr(b':', &line).unwrap_or(line.len());
        let mut value = line.split_off(colon);
        if !value.is_empty() {
            value.advance(1);
        }
        if value.first() == Some(&b' ') {
            value.advance(1);
        }
        match &line[..] {
            b"data" => self.add_data(value)?,
            b"event" => self.name = Some(String::from_utf8_lossy(&value).into_owned()),
            // The standard has no such field. llama-server (until 2025) writes an error as `error:
            // {…}`.
            b"error" => {
                self.name = Some("error".to_owned());
                self.add_data(value)?;
            }
            // A comment has an empty field name. `id` and `retry` have no effect on a reader that
            // never reconnects.
            _ => {}
        }
        Ok(None)
    }

    fn add_data(&mut self, more: Bytes) -> Result<(), LineTooLong> {
        self.data = Some(match self.data.take() {
            None => more,
            Some(data) if data.len() + more.len() >= self.limit => {
                return Err(LineTooLong { limit: self.limit });
            }
            Some(data) => [&data[..], &more[..]].join(&b'\n').into(),
        });
        Ok(())
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = self.name.take();
        self.data.take().map(|data| Event { name, data })
    }
}

/// Writes `value` as the data of one event into `out`, without an intermediate buffer.
///
/// # Errors
/// Fails if `value` cannot be written as JSON (for example a map whose keys are not strings); `out`
/// may then contain a part of it.
pub fn write(out: &mut impl BufMut, value: &impl Serialize) -> serde_json::Result<()> {
    out.put_slice(b"data: ");
    serde_json::to_writer((&mut *out).writer(), value)?;
    out.put_slice(b"\n\n");
    Ok(())
}

/// Writes a comment, which keeps the connection alive and which clients ignore. `text` must be one
/// line.
pub fn write_comment(out: &mut impl BufMut, text: &str) {
    out.put_slice(b": ");
    out.put_slice(text.as_bytes());
    out.put_slice(b"\n\n");
}

/// Writes `data: [DONE]`, the end of a successful stream. No other function writes it.
pub fn write_done(out: &mut impl BufMut) {
    out.put_slice(b"data: [DONE]\n\n");
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: impl IntoIterator<Item = Bytes>) -> Vec<Event> {
        let mut events = Events::new(1000);
        let mut read = Vec::new();
        for piece in pieces {
            events.push(piece);
            while let Some(event) = events.next_event().expect("short lines") {
                read.push(event);
            }
        }
        read.extend(events.finish().expect("short lines"));
        read
    }

    fn event(data: &'static str) -> Event {
        Event {
            name: None,
            data: Bytes::from(data),
        }
    }

    proptest! {
        #[test]
        fn events_are_the_same_wherever_the_bytes_are_cut(
            text in "((data|event|id|): ?[a-zé:]{0,5}\r?\n|\r?\n){0,12}", cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let whole = Bytes::from(text);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| whole.slice(pair[0]..pair[1]));
            prop_assert_eq!(read(pieces), read([whole.clone()]));
        }

        #[test]
        fn what_is_written_is_read_back(texts in prop::collection::vec(".{0,20}", 0..6)) {
            let mut out = BytesMut::new();
            for text in &texts {
                write(&mut out, text).expect("a string is JSON");
                write_comment(&mut out, "still here");
            }
            let back: Vec<String> =
                read([out.freeze()]).iter().map(|event| serde_json::from_slice(&event.data).expect("JSON")).collect();
            prop_assert_eq!(back, texts);
        }
    }

    #[test]
    fn several_data_lines_are_one_event_and_comments_none() {
        let text =
            "\u{feff}: hello\n\ndata: a\ndata:b\n\nevent: error\r\ndata: {}\r\n\r\ndata: last";
        let named = Event {
            name: Some("error".to_owned()),
            data: Bytes::from("{}"),
        };
        assert_eq!(
            read([Bytes::from(text)]),
            [event("a\nb"), named, event("last")]
        );
    }

    #[test]
    fn an_error_line_is_an_event_named_error() {
        let error = Event {
            name: Some("error".to_owned()),
            data: Bytes::from("{}"),
        };
        assert_eq!(
            read([Bytes::from("data: 1\n\nerror: {}\n\n")]),
            [event("1"), error]
        );
    }

    #[test]
    fn done_ends_a_stream_as_openai_spells_it() {
        let mut out = BytesMut::new();
        write_done(&mut out);
        assert_eq!(&out[..], b"data: [DONE]\n\n");
    }
}
