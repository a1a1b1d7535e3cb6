//! A `chat.completion.chunk` of an engine, with only the fields that are used.
//!
//! It is not [`loggia_wire::openai::ChatCompletionChunk`]: the fields that `loggia-api` writes
//! itself (id, object, model) are not read, and no field is required.

use std::fmt;

use loggia_wire::Extra;
use loggia_wire::openai::{ChunkChoice, CompletionUsage};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{older_completions, repair};

/// A frame of a stream.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Frame {
    pub(super) created: Option<u64>,
    pub(super) system_fingerprint: Option<String>,
    /// `None` if the field is absent. The frame is then not a chunk; it may be an error.
    pub(super) choices: Option<Vec<ChunkChoice>>,
    pub(super) usage: Option<CompletionUsage>,
    pub(super) error: Option<Value>,
    pub(super) extra: Extra,
}

/// The kind of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Chat,
    Completion,
}

/// The reason why a frame is invalid, without any of its content.
pub(super) type Unreadable = &'static str;

impl Frame {
    /// Parses a frame. If it does not follow OpenAI's specification, repairs it first.
    pub(super) fn read(json: &[u8], kind: RequestKind) -> Result<Self, Unreadable> {
        if kind == RequestKind::Chat
            && let Ok(frame) = serde_json::from_slice(json)
        {
            return Ok(frame);
        }
        let mut value: Value =
            serde_json::from_slice(json).map_err(|_| "an event of its stream is not JSON")?;
        if kind == RequestKind::Completion {
            older_completions::as_a_chat(&mut value, "delta");
        }
        repair::chunk(&mut value);
        serde_json::from_value(value)
            .map_err(|_| "an event of its stream is not a chat.completion.chunk")
    }
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FrameVisitor;
        impl<'de> Visitor<'de> for FrameVisitor {
            type Value = Frame;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame, A::Error> {
                let mut frame = Frame::default();
                while let Some(key) = map.next_key::<Key>()? {
                    match key {
                        Key::MadeByTheDoor => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        Key::Created => frame.created = map.next_value()?,
                        Key::SystemFingerprint => frame.system_fingerprint = map.next_value()?,
                        Key::Choices => frame.choices = map.next_value()?,
                        Key::Usage => frame.usage = map.next_value()?,
                        Key::Error => frame.error = map.next_value()?,
                        Key::Extra(key) => {
                            frame.extra.insert(key, map.next_value()?);
                        }
                    }
                }
                Ok(frame)
            }
        }
        deserializer.deserialize_map(FrameVisitor)
    }
}

enum Key {
    MadeByTheDoor,
    Created,
    SystemFingerprint,
    Choices,
    Usage,
    Error,
    Extra(String),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "id" | "object" | "model" => Key::MadeByTheDoor,
                    "created" => Key::Created,
                    "system_fingerprint" => Key::SystemFingerprint,
                    "choices" => Key::Choices,
                    "usage" => Key::Usage,
                    "error" => Key::Error,
                    other => Key::Extra(other.to_owned()),
                })
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}
