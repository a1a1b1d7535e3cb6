//! JSON that stays the text it is.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

/// The text of a JSON value. It is written as it stands, so that numbers keep digits that no `f64`
/// or `i64` has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(pub String);

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// A string of JSON, as OpenAI's API has it. A value that a client did not write as a string is
/// taken as its text, and `null` as an empty one.
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
