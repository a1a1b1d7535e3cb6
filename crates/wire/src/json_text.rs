//! JSON that keeps its original text.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

/// The original text of a JSON value. It is written unchanged, so numbers keep digits that neither
/// `f64` nor `i64` can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(pub String);

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.get().to_owned()))
    }
}

/// A JSON string, as OpenAI's API defines the field. If a client sends another JSON value, the
/// string is the text of that value; `null` gives an empty string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StringOrJson(pub(crate) String);

impl Serialize for StringOrJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StringOrJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        if text.starts_with('"') {
            return serde_json::from_str(text)
                .map(Self)
                .map_err(serde::de::Error::custom);
        }
        Ok(Self(if text == "null" {
            String::new()
        } else {
            text.to_owned()
        }))
    }
}
