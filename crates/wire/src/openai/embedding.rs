//! `POST /v1/embeddings`: texts, or tokens, in; a vector for each out.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use super::Prompt;
use crate::object::{object, words};

object! {
    /// `CreateEmbeddingRequest`.
    pub struct EmbeddingRequest {
        /// The model's name or an alias of it.
        required model: String = "model",
        /// What to embed: each text, or each list of tokens, becomes one vector.
        required input: Prompt = "input",
        /// How the vectors are written; absent means as numbers.
        optional encoding_format: EncodingFormat = "encoding_format",
        /// How long the vectors are to be, where not as long as the model makes them.
        optional dimensions: i64 = "dimensions",
        /// A label for the end user.
        optional user: String = "user",
    }
}

words! {
    /// `encoding_format`: how a vector is written.
    pub enum EncodingFormat {
        /// As an array of numbers.
        Float = "float",
        /// As the base64 of its numbers, each a little-endian IEEE 754 single.
        Base64 = "base64",
    }
}

/// `CreateEmbeddingResponse`.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct EmbeddingList {
    /// `list`.
    pub object: String,
    /// One for each input, in their order.
    pub data: Vec<Embedding>,
    /// The model.
    pub model: String,
    /// What it cost.
    pub usage: EmbeddingUsage,
}

/// One vector of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Embedding {
    /// `embedding`.
    pub object: String,
    /// Which input it stands for, from 0.
    pub index: usize,
    /// The vector.
    pub embedding: Vector,
}

/// `usage` of an answer with embeddings: there is no completion to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct EmbeddingUsage {
    /// Tokens of all inputs together.
    pub prompt_tokens: u64,
    /// The same.
    pub total_tokens: u64,
}

/// A vector as it is written: an array of numbers, or their base64. Either is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    /// Written as an array of numbers.
    Float(Vec<f32>),
    /// Written as base64.
    Base64(Vec<f32>),
}

impl Vector {
    /// These numbers, to be written so.
    pub fn new(numbers: Vec<f32>, format: EncodingFormat) -> Self {
        match format {
            EncodingFormat::Float => Self::Float(numbers),
            EncodingFormat::Base64 => Self::Base64(numbers),
        }
    }

    /// The numbers.
    pub fn into_numbers(self) -> Vec<f32> {
        let (Self::Float(numbers) | Self::Base64(numbers)) = self;
        numbers
    }
}

impl Serialize for Vector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Float(numbers) => numbers.serialize(serializer),
            Self::Base64(numbers) => {
                let bytes: Vec<u8> = numbers
                    .iter()
                    .flat_map(|number| number.to_le_bytes())
                    .collect();
                serializer.serialize_str(&STANDARD.encode(bytes))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VectorVisitor;
        impl<'de> Visitor<'de> for VectorVisitor {
            type Value = Vector;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers, or their base64")
            }
            fn visit_str<E: Error>(self, encoded: &str) -> Result<Vector, E> {
                let bytes = STANDARD
                    .decode(encoded)
                    .map_err(|_| E::custom("it is not base64"))?;
                let (numbers, left) = bytes.as_chunks();
                if left.is_empty() {
                    Ok(Vector::Base64(
                        numbers
                            .iter()
                            .map(|number| f32::from_le_bytes(*number))
                            .collect(),
                    ))
                } else {
                    Err(E::custom("its length is no multiple of four bytes"))
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vector, A::Error> {
                let mut numbers = Vec::with_capacity(items.size_hint().unwrap_or(0).min(4096));
                while let Some(number) = items.next_element()? {
                    numbers.push(number);
                }
                Ok(Vector::Float(numbers))
            }
        }
        deserializer.deserialize_any(VectorVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn base64_is_of_little_endian_singles_and_is_read_back() {
        let vector = Vector::Base64(vec![1.0, -0.5]);
        let written = serde_json::to_value(&vector).expect("JSON");
        assert_eq!(written, json!("AACAPwAAAL8="));
        assert_eq!(
            serde_json::from_value::<Vector>(written).expect("a vector"),
            vector
        );
        assert!(
            serde_json::from_value::<Vector>(json!("AACA")).is_err(),
            "three bytes"
        );
        assert!(
            serde_json::from_value::<Vector>(json!("=")).is_err(),
            "no base64"
        );
    }

    #[test]
    fn numbers_are_written_as_short_as_they_can_be_read_back() {
        assert_eq!(
            serde_json::to_string(&Vector::Float(vec![0.061_737_943, 1.0])).expect("JSON"),
            "[0.061737943,1.0]"
        );
    }
}
