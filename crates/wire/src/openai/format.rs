//! `response_format`: text, any JSON object, or JSON that matches a schema.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::Extra;
use crate::object::{object, words};

/// `response_format`: the format of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseFormat {
    /// `text`: no constraint.
    Text,
    /// `json_object`: any JSON object.
    JsonObject,
    /// `json_schema`: JSON that matches a schema.
    JsonSchema(JsonSchemaFormat),
}

object! {
    /// `json_schema` of a response format.
    pub struct JsonSchemaFormat {
        /// The client's name for the schema.
        required name: String = "name",
        /// A description of the schema, for the model.
        optional description: String = "description",
        /// The schema, an object. If absent, any object matches.
        free schema: Value = "schema",
        /// Whether the answer must match the schema exactly.
        optional strict: bool = "strict",
    }
}

object! {
    /// A response format, before its type is known.
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

/// Fails if there are unknown fields, for types without a place to keep them: they must not be lost
/// silently. `place` is the path of the object within the value that is read, and ends with a dot.
pub(super) fn none_unknown<E: Error>(
    extra: &Extra,
    place: &str,
    known: &'static [&'static str],
) -> Result<(), E> {
    extra.keys().next().map_or(Ok(()), |field| {
        Err(E::unknown_field(&format!("{place}{field}"), known))
    })
}
