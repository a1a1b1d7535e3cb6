//! One `chat.completion.chunk` of an engine, as far as it matters here.
//!
//! Not [`loggia_wire::openai::ChatCompletionChunk`]: what the door writes anew for every answer
//! (id, object, model) is not even read, and nothing is required.

use std::fmt;

use loggia_wire::Extra;
use loggia_wire::openai::{ChunkChoice, CompletionUsage};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{mend, older};

/// One frame of a stream.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Frame {
    pub(super) created: Option<u64>,
    pub(super) system_fingerprint: Option<String>,
    /// `None` where there is no such field: then it is no chunk, and may be an error.
    pub(super) choices: Option<Vec<ChunkChoice>>,
    pub(super) usage: Option<CompletionUsage>,
    pub(super) error: Option<Value>,
    pub(super) extra: Extra,
}

/// What an engine was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
}

/// What cannot be read as a frame; never its content.
pub(super) type Unreadable = &'static str;

impl Frame {
    /// Reads a frame: at once where it is as OpenAI's specification has it, else after mending.
    pub(super) fn read(json: &[u8], kind: Kind) -> Result<Self, Unreadable> {
        if kind == Kind::Chat
            && let Ok(frame) = serde_json::from_slice(json)
        {
            return Ok(frame);
        }
        let mut value: Value =
            serde_json::from_slice(json).map_err(|_| "a frame of its stream is not JSON")?;
        if kind == Kind::Completion {
            older::as_a_chat(&mut value, "delta");
        }
        mend::chunk(&mut value);
        serde_json::from_value(value)
            .map_err(|_| "a frame of its stream is no chat.completion.chunk")
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
