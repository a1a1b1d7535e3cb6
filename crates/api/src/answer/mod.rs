//! Answers: converts the events of a backend to JSON or server-sent events.
//!
//! Reading order: `writer.rs` (the trait for writers of streams), `chunks.rs`, `chat.rs` and
//! `text.rs` (the two writers), `collect.rs` (complete answers), `stream.rs` (pulls events and
//! passes them to a writer), `interrupt.rs` (ends a stream from outside), `body.rs` and `ended.rs`
//! (the body of an answer and its outcome), `headers.rs`, `refusal.rs`, `running.rs`.

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod chat;
pub(crate) mod chunks;
pub(crate) mod collect;
mod custom_calls;
pub(crate) mod deadline;
pub(crate) mod ended;
pub(crate) mod headers;
pub(crate) mod id;
pub(crate) mod ignored;
pub(crate) mod interrupt;
pub(crate) mod refusal;
pub(crate) mod running;
pub(crate) mod stream;
pub(crate) mod text;
pub(crate) mod writer;

use std::sync::Arc;

use loggia_backend::ServedBy;
use loggia_wire::frame::sse;

use chat::ChatWriter;
use stream::WaitingAnswer;
use text::TextWriter;
use writer::{Head, Shape, Writer};

use crate::ApiError;
use crate::messages;
use crate::messages::writer::MessageWriter;
use crate::responses::writer::ResponseWriter;

/// Creates the writer of a stream, after an engine has accepted.
pub(crate) fn writer(head: Head, served_by: &ServedBy) -> Box<dyn Writer> {
    match &head.shape {
        Shape::Chat(_) => Box::new(ChatWriter::new(head, served_by)),
        Shape::Text { echoes } => {
            let echoes = *echoes;
            Box::new(TextWriter::new(head, served_by, echoes))
        }
        Shape::Response(shape) => Box::new(ResponseWriter::streaming(&head, Arc::clone(shape))),
        Shape::Message(shape) => Box::new(MessageWriter::streaming(&head, Arc::clone(shape))),
    }
}

/// Writes an event that keeps the connection alive into a stream that has not begun, with its place
/// if it waits in a queue.
pub(crate) fn write_heartbeat(waiting: &WaitingAnswer, out: &mut Vec<u8>) {
    let place = waiting.place.get();
    if let Some(place) = place {
        sse::write_comment(out, &format!("queued {place}"));
    }
    match &waiting.head.shape {
        Shape::Message(_) => messages::writer::write_ping(out),
        Shape::Chat(_) | Shape::Text { .. } | Shape::Response(_) => {
            if place.is_none() {
                sse::write_comment(out, "still working");
            }
        }
    }
}

/// Writes the failure of a stream that has no content yet.
pub(crate) fn write_failure(head: &Head, error: &ApiError, out: &mut Vec<u8>) {
    match &head.shape {
        Shape::Chat(_) | Shape::Text { .. } => writer::write_failure(error, head.profile, out),
        Shape::Response(shape) => {
            ResponseWriter::streaming(head, Arc::clone(shape)).fail(error, out);
        }
        Shape::Message(_) => messages::writer::write_failure(error, out),
    }
}
