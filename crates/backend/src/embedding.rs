//! Embeddings: what a backend makes of an [`EmbeddingCall`](crate::EmbeddingCall). One answer and no
//! stream: there is nothing to show before the vectors are there.

use loggia_wire::openai::{EmbeddingRequest, OnePrompt};
use serde::{Deserialize, Serialize};

use crate::{BackendError, ServedBy};

/// The vectors of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embeddings {
    /// Who made them.
    pub served_by: ServedBy,
    /// One for each input, in their order, all of one length.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs together.
    pub prompt_tokens: u64,
}

impl Embeddings {
    /// Checks that there is one vector for each input, all of one length, of numbers, and brings
    /// them to the length that was asked for: cut, and scaled to a length of 1 again. That is what
    /// `dimensions` means for models whose first numbers say the most (Matryoshka).
    ///
    /// # Errors
    /// [`InvalidRequest`](BackendError::InvalidRequest) where more numbers are asked for than the
    /// model makes; [`BadAnswer`](BackendError::BadAnswer) where the vectors are none.
    pub fn checked(mut self, request: &EmbeddingRequest) -> Result<Self, BackendError> {
        let bad = |what: &str| BackendError::BadAnswer {
            backend: self.served_by.backend.to_string(),
            what: what.to_owned(),
        };
        if self.vectors.len() != request.input.count() {
            return Err(bad("not one vector for each input"));
        }
        let length = self.vectors.first().map_or(0, Vec::len);
        if length == 0 || self.vectors.iter().any(|vector| vector.len() != length) {
            return Err(bad("vectors of no length, or not all of the same"));
        }
        if self
            .vectors
            .iter()
            .flatten()
            .any(|number| !number.is_finite())
        {
            return Err(bad("a vector that holds something other than numbers"));
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

/// How many inputs are tried alone, the longest first, to find out which of several was refused as
/// too long.
const TRIED_ALONE: usize = 8;

/// Which of several inputs it is that an engine refuses as too long without saying which: the
/// longest most likely, and for sure one that is refused alone, which `ask` finds out.
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
        // Field by field: a clone would copy all the others too.
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

/// Scales a vector to a length of 1. One of zeros stays as it is.
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
                reason = "the vector is one of singles"
            )]
            let scaled = (f64::from(*number) / length) as f32;
            *number = scaled;
        }
    }
}

/// More numbers are asked for than the model makes.
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
