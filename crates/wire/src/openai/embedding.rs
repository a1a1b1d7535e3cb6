//! `POST /v1/embeddings`: computes a vector for each text or list of tokens.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use super::Prompt;
use crate::object::{object, words};

object! {
    /// `CreateEmbeddingRequest`: the request of `POST /v1/embeddings`.
    pub struct EmbeddingRequest {
        /// The name or an alias of the model.
        required model: String = "model",
        /// The inputs. Each text, or each list of tokens, gives one vector.
        required input: Prompt = "input",
        /// The format of the vectors. Default: numbers.
        optional encoding_format: EncodingFormat = "encoding_format",
        /// The length of the vectors. Default: the length that the model produces.
        optional dimensions: i64 = "dimensions",
        /// A label of the client for its end user.
        optional user: String = "user",
    }
}

words! {
    /// `encoding_format`: the format of a vector.
    pub enum EncodingFormat {
        /// An array of numbers.
        Float = "float",
        /// The base64 of the numbers, each a little-endian IEEE 754 single.
        Base64 = "base64",
    }
}

/// `CreateEmbeddingResponse`: the answer of `POST /v1/embeddings`.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct EmbeddingList {
    /// Always `list`.
    pub object: String,
    /// One vector per input, in the order of the inputs.
    pub data: Vec<Embedding>,
    /// The name of the model.
    pub model: String,
    /// The number of tokens used.
    pub usage: EmbeddingUsage,
}

/// A vector of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Embedding {
    /// Always `embedding`.
    pub object: String,
    /// The number of the input, from 0.
    pub index: usize,
    /// The vector.
    pub embedding: Vector,
}

/// `usage` of an answer with embeddings. It counts no generated tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct EmbeddingUsage {
    /// The number of tokens of all inputs.
    pub prompt_tokens: u64,
    /// The number of tokens of all inputs, as `prompt_tokens`.
    pub total_tokens: u64,
}

/// A vector and the format in which it is written: numbers or base64. Both formats are read.
#[derive(Clone, Debug, PartialEq)]
pub enum Vector {
    /// Written as an array of numbers.
    Float(Vec<f32>),
    /// A vector that is written as base64.
    Base64(Vec<f32>),
}

impl Vector {
    /// Creates a vector that is written in this format.
    pub fn new(numbers: Vec<f32>, format: EncodingFormat) -> Self {
        match format {
            EncodingFormat::Float => Self::Float(numbers),
            EncodingFormat::Base64 => Self::Base64(numbers),
        }
    }

    /// Returns the numbers of the vector.
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
                    .map_err(|_| E::custom("invalid base64"))?;
                let (numbers, left) = bytes.as_chunks();
                if left.is_empty() {
                    Ok(Vector::Base64(
                        numbers
                            .iter()
                            .map(|number| f32::from_le_bytes(*number))
                            .collect(),
                    ))
                } else {
                    Err(E::custom(
                        "the length of its bytes is not a multiple of four",
                    ))
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
