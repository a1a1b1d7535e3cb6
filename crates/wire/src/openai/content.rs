//! The content of a message: a string or an array of parts.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::Extra;
use crate::object::{object, words};

/// The content of a message: `"…"` or `[{"type": "text", …}, …]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A string.
    Text(String),
    /// Parts of one message, in order.
    Parts(Vec<Part>),
}

impl Content {
    /// Returns the text: the string, or the text and refusal parts concatenated.
    pub fn joined_text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Parts(parts) => parts
                .iter()
                .filter_map(Part::as_text)
                .collect::<String>()
                .into(),
        }
    }

    /// Returns the parts, or an empty slice if the content is a string.
    pub fn parts(&self) -> &[Part] {
        match self {
            Self::Text(_) => &[],
            Self::Parts(parts) => parts,
        }
    }
}

/// A part of a message, with its unknown fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The type and value of the part.
    pub kind: PartKind,
    /// Unknown fields, for example `cache_control`.
    pub extra: Extra,
}

/// A part without unknown fields.
impl From<PartKind> for Part {
    fn from(kind: PartKind) -> Self {
        Self {
            kind,
            extra: Extra::new(),
        }
    }
}

/// The type and value of a part.
#[derive(Clone, Debug, PartialEq)]
pub enum PartKind {
    /// `text`: text.
    Text(String),
    /// `refusal`: the text of an earlier refusal by the model.
    Refusal(String),
    /// `image_url`: an image, by `data:` or http(s) URL.
    ImageUrl {
        /// `data:image/png;base64,…` or `https://…`.
        url: String,
        /// The resolution: `auto`, `low`, `high` or `original`.
        detail: Option<String>,
        /// Unknown fields of `image_url`.
        extra: Extra,
    },
    /// `input_audio`: audio in base64.
    InputAudio {
        /// The audio, in base64.
        data: String,
        /// `wav` or `mp3`.
        format: String,
        /// Unknown fields of `input_audio`.
        extra: Extra,
    },
    /// `file`: a file by its data and name, or by the id of a stored file.
    File(File),
}

impl Part {
    /// Returns the text of a text or refusal part.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            PartKind::Text(text) | PartKind::Refusal(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of content parts")
            }
            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = items.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Parts(parts) => parts.serialize(serializer),
        }
    }
}

object! {
    /// A part, before its type is known.
    pub(super) struct AnyPart {
        required kind: Kind = "type",
        optional text: String = "text",
        optional refusal: String = "refusal",
        optional image_url: ImageUrl = "image_url",
        optional input_audio: InputAudio = "input_audio",
        optional file: File = "file",
    }
}

impl AnyPart {
    /// Returns the unknown fields, and the fields that belong to parts of another type.
    fn with_what_is_left(self) -> Result<Extra, serde_json::Error> {
        let mut extra = self.extra;
        let left = [
            ("text", self.text.map(Value::String)),
            ("refusal", self.refusal.map(Value::String)),
            (
                "image_url",
                self.image_url.map(serde_json::to_value).transpose()?,
            ),
            (
                "input_audio",
                self.input_audio.map(serde_json::to_value).transpose()?,
            ),
            ("file", self.file.map(serde_json::to_value).transpose()?),
        ];
        for (name, value) in left {
            extra.extend(value.map(|value| (name.to_owned(), value)));
        }
        Ok(extra)
    }
}

words! {
    pub(super) enum Kind {
        Text = "text",
        Refusal = "refusal",
        ImageUrl = "image_url",
        InputAudio = "input_audio",
        File = "file",
    }
}

object! {
    /// `file` of a part.
    pub struct File {
        /// The content of the file, in base64 or as a `data:` URL.
        optional file_data: String = "file_data",
        /// The name of the file.
        optional filename: String = "filename",
        /// The id of a stored file.
        optional file_id: String = "file_id",
    }
}

object! {
    /// `image_url` of a part.
    pub(super) struct ImageUrl {
        required url: String = "url",
        optional detail: String = "detail",
    }
}

object! {
    /// `input_audio` of a part.
    pub(super) struct InputAudio {
        required data: String = "data",
        required format: String = "format",
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut part = AnyPart::deserialize(deserializer)?;
        let kind = match part.kind {
            Kind::Text => PartKind::Text(
                part.text
                    .take()
                    .ok_or_else(|| D::Error::missing_field("text"))?,
            ),
            Kind::Refusal => PartKind::Refusal(
                part.refusal
                    .take()
                    .ok_or_else(|| D::Error::missing_field("refusal"))?,
            ),
            Kind::ImageUrl => {
                let image = part
                    .image_url
                    .take()
                    .ok_or_else(|| D::Error::missing_field("image_url"))?;
                PartKind::ImageUrl {
                    url: image.url,
                    detail: image.detail,
                    extra: image.extra,
                }
            }
            Kind::InputAudio => {
                let audio = part
                    .input_audio
                    .take()
                    .ok_or_else(|| D::Error::missing_field("input_audio"))?;
                PartKind::InputAudio {
                    data: audio.data,
                    format: audio.format,
                    extra: audio.extra,
                }
            }
            Kind::File => PartKind::File(
                part.file
                    .take()
                    .ok_or_else(|| D::Error::missing_field("file"))?,
            ),
        };
        let extra = part.with_what_is_left().map_err(D::Error::custom)?;
        Ok(Self { kind, extra })
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.kind {
            PartKind::Text(text) => entry(&mut map, "text", text)?,
            PartKind::Refusal(text) => entry(&mut map, "refusal", text)?,
            PartKind::ImageUrl { url, detail, extra } => {
                let image = ImageUrl {
                    url: url.clone(),
                    detail: detail.clone(),
                    extra: extra.clone(),
                };
                entry(&mut map, "image_url", &image)?;
            }
            PartKind::InputAudio {
                data,
                format,
                extra,
            } => {
                let audio = InputAudio {
                    data: data.clone(),
                    format: format.clone(),
                    extra: extra.clone(),
                };
                entry(&mut map, "input_audio", &audio)?;
            }
            PartKind::File(file) => entry(&mut map, "file", file)?,
        }
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Writes the `type` of a part and the field of the same name.
fn entry<M: SerializeMap>(
    map: &mut M,
    kind: &'static str,
    value: &impl Serialize,
) -> Result<(), M::Error> {
    map.serialize_entry("type", kind)?;
    map.serialize_entry(kind, value)
}
