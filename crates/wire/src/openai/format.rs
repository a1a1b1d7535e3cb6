//! `response_format`: text, any JSON, or JSON of a schema.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::Extra;
use crate::object::{object, words};

/// What form the answer has.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseFormat {
    /// `text`: any.
    Text,
    /// `json_object`: any JSON object.
    JsonObject,
    /// `json_schema`: JSON that keeps to a schema.
    JsonSchema(JsonSchemaFormat),
}

object! {
    /// `json_schema` of a response format.
    pub struct JsonSchemaFormat {
        /// The client's name for it.
        required name: String = "name",
        /// What it is for, for the model.
        optional description: String = "description",
        /// The schema, an object; absent means any object.
        free schema: Value = "schema",
        /// Whether the answer must keep to it to the letter.
        optional strict: bool = "strict",
    }
}

object! {
    /// A response format before its type is known.
    pub(super) struct AnyFormat {
        required kind: Kind = "type",
        optional json_schema: JsonSchemaFormat = "json_schema",
    }
}

words! {
    pub(super) enum Kind {
        Text = "text",
        JsonObject = "json_object",
        JsonSchema = "json_schema",
    }
}

impl<'de> Deserialize<'de> for ResponseFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let format = AnyFormat::deserialize(deserializer)?;
        none_unknown(&format.extra, "", &["type", "json_schema"])?;
        if format.kind != Kind::JsonSchema && format.json_schema.is_some() {
            return Err(D::Error::unknown_field("json_schema", &["type"]));
        }
        match format.kind {
            Kind::Text => Ok(Self::Text),
            Kind::JsonObject => Ok(Self::JsonObject),
            Kind::JsonSchema => format
                .json_schema
                .map(Self::JsonSchema)
                .ok_or_else(|| D::Error::missing_field("json_schema")),
        }
    }
}

impl Serialize for ResponseFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Text => map.serialize_entry("type", "text")?,
            Self::JsonObject => map.serialize_entry("type", "json_object")?,
            Self::JsonSchema(schema) => {
                map.serialize_entry("type", "json_schema")?;
                map.serialize_entry("json_schema", schema)?;
            }
        }
        map.end()
    }
}

/// Where there is no room to keep unknown fields, they are refused: they must not be lost unseen.
/// `place` is where the object is within what is being read, with a dot after it.
pub(super) fn none_unknown<E: Error>(
    extra: &Extra,
    place: &str,
    known: &'static [&'static str],
) -> Result<(), E> {
    extra.keys().next().map_or(Ok(()), |field| {
        Err(E::unknown_field(&format!("{place}{field}"), known))
    })
}
