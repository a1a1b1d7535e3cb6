//! [`Embeddings`]: the answer to an [`EmbeddingCall`](crate::EmbeddingCall). It is not a stream,
//! because there is nothing to send before the vectors are complete.

use loggia_wire::openai::{EmbeddingRequest, OnePrompt};
use serde::{Deserialize, Serialize};

use crate::{BackendError, ServedBy};

/// The vectors of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embeddings {
    /// The backend and model that computed the vectors.
    pub served_by: ServedBy,
    /// The vectors, one per input and in the order of the inputs. All have the same length.
    pub vectors: Vec<Vec<f32>>,
    /// The number of tokens of all inputs.
    pub prompt_tokens: u64,
}

impl Embeddings {
    /// Checks that there is one vector of numbers per input and that all have equal length.
    /// Shortens them to `dimensions` if requested, and scales them to length 1 again. This is the
    /// meaning of `dimensions` for models whose first numbers matter most (Matryoshka).
    ///
    /// # Errors
    /// Returns [`InvalidRequest`](BackendError::InvalidRequest) if `dimensions` exceeds the length
    /// of the vectors, and [`BadAnswer`](BackendError::BadAnswer) if the vectors are invalid.
    pub fn checked(mut self, request: &EmbeddingRequest) -> Result<Self, BackendError> {
        let bad = |what: &str| BackendError::BadAnswer {
            backend: self.served_by.backend.to_string(),
            what: what.to_owned(),
        };
        if self.vectors.len() != request.input.count() {
            return Err(bad(
                "the number of vectors differs from the number of inputs",
            ));
        }
        let length = self.vectors.first().map_or(0, Vec::len);
        if length == 0 || self.vectors.iter().any(|vector| vector.len() != length) {
            return Err(bad("the vectors are empty or differ in length"));
        }
        if self
            .vectors
            .iter()
            .flatten()
            .any(|number| !number.is_finite())
        {
            return Err(bad("a vector contains something other than numbers"));
        }
        let Some(asked) = request
            .dimensions
            .and_then(|asked| usize::try_from(asked).ok())
        else {
            return Ok(self);
        };
        if asked > length {
            return Err(too_many_dimensions(asked, length));
        }
        if asked < length {
            for vector in &mut self.vectors {
                vector.truncate(asked);
                normalise(vector);
            }
        }
        Ok(self)
    }
}

/// The maximum number of inputs to try one by one, the longest first, to find the one that was
/// refused as too long.
const TRIED_ALONE: usize = 8;

/// Finds out which input is too long if the engine does not report it. The longest input is the
/// most likely one. An input that is refused alone is certain; `ask` tries that.
pub(crate) async fn name_the_too_long<F>(
    request: &EmbeddingRequest,
    ask: impl Fn(EmbeddingRequest) -> F,
) -> Option<BackendError>
where
    F: Future<Output = Result<(), BackendError>>,
{
    let length = |one| match one {
        OnePrompt::Text(text) => text.len(),
        OnePrompt::Tokens(tokens) => tokens.len(),
    };
    let mut longest_first: Vec<(usize, OnePrompt<'_>)> = request.input.each().enumerate().collect();
    longest_first.sort_by_key(|&(_, one)| std::cmp::Reverse(length(one)));
    for (index, one) in longest_first.into_iter().take(TRIED_ALONE) {
        // Copies field by field, because a clone would copy all inputs.
        let alone = EmbeddingRequest {
            model: request.model.clone(),
            input: one.into(),
            encoding_format: request.encoding_format,
            dimensions: request.dimensions,
            user: request.user.clone(),
            extra: request.extra.clone(),
        };
        if let Err(BackendError::InputTooLong { tokens, most, .. }) = ask(alone).await {
            return Some(BackendError::InputTooLong {
                index: Some(index),
                tokens,
                most,
            });
        }
    }
    None
}

/// Scales a vector to length 1. A zero vector stays unchanged.
pub fn normalise(vector: &mut [f32]) {
    let squares: f64 = vector
        .iter()
        .map(|&number| f64::from(number) * f64::from(number))
        .sum();
    if squares > 0.0 {
        let length = squares.sqrt();
        for number in vector {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the vector consists of f32"
            )]
            let scaled = (f64::from(*number) / length) as f32;
            *number = scaled;
        }
    }
}

/// Returns the error for `dimensions` above the length of the model's vectors.
fn too_many_dimensions(asked: usize, most: usize) -> BackendError {
    BackendError::InvalidRequest {
        message: format!(
            "Invalid 'dimensions': integer above maximum value. Expected a value <= {most}, but got {asked} instead."
        ),
        param: Some("dimensions".to_owned()),
        code: Some("integer_above_max_value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn checked(vectors: Vec<Vec<f32>>, dimensions: &Value) -> Result<Vec<Vec<f32>>, BackendError> {
        let request = json!({"model": "m", "input": ["a", "b"], "dimensions": dimensions});
        let request = serde_json::from_value(request).expect("a request");
        let served_by = ServedBy {
            backend: "tests".into(),
            model: "m".into(),
            node: None,
            fingerprint: "fp_0".into(),
            changed: Vec::new(),
            ignored: Vec::new(),
        };
        Embeddings {
            served_by,
            vectors,
            prompt_tokens: 2,
        }
        .checked(&request)
        .map(|checked| checked.vectors)
    }

    #[test]
    fn fewer_dimensions_are_the_first_numbers_scaled_to_a_length_of_1() {
        let vectors = vec![vec![3.0, 4.0, 12.0], vec![0.0, 0.0, 1.0]];
        assert_eq!(
            checked(vectors.clone(), &json!(2)).unwrap(),
            [vec![0.6, 0.8], vec![0.0, 0.0]]
        );
        assert_eq!(checked(vectors.clone(), &json!(3)).unwrap(), vectors);
        assert_eq!(checked(vectors.clone(), &Value::Null).unwrap(), vectors);
        assert!(matches!(
            checked(vectors, &json!(4)),
            Err(BackendError::InvalidRequest { .. })
        ));
    }

    #[test]
    fn what_is_no_vector_for_each_input_is_no_answer() {
        for vectors in [
            vec![],
            vec![vec![1.0]],
            vec![vec![1.0], vec![]],
            vec![vec![], vec![]],
            vec![vec![1.0], vec![f32::NAN]],
            vec![vec![1.0], vec![1.0, 2.0]],
        ] {
            assert!(
                matches!(
                    checked(vectors.clone(), &Value::Null),
                    Err(BackendError::BadAnswer { .. })
                ),
                "{vectors:?}"
            );
        }
    }
}
