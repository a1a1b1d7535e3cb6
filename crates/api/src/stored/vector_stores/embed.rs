//! Computes the vectors of texts by the embedding model that the configuration names.

use std::sync::Arc;
use std::time::Duration;

use loggia_backend::{Backend, BackendError, CallHead, EmbeddingCall};
use loggia_wire::Extra;
use loggia_wire::openai::{EmbeddingRequest, Prompt};

use super::no_model;
use crate::ApiError;
use crate::answer::id;

/// How many texts one call to the backend has.
pub(super) const AT_ONCE: usize = 16;

/// How long one call may take. The model may have to be loaded first.
const WITHIN: Duration = Duration::from_mins(10);

/// The shortest piece that a text is divided into for a model that cannot read it at once.
const SHORTEST_PIECE: usize = 64;

/// The usual length of a token in bytes, if a model does not say.
const TOKEN_BYTES: f64 = 4.0;

/// The samples by which the length of the tokens of a text is found: their number and bytes.
const SAMPLES: usize = 4;
const SAMPLE_BYTES: usize = 600;

/// The reason why a file cannot be read, now or ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The file has failed, with OpenAI's code.
    Final { code: &'static str, message: String },
    /// The failure may pass.
    Passing { message: String },
}

impl Failure {
    pub(super) fn unsupported(message: String) -> Self {
        let code = "unsupported_file";
        Self::Final { code, message }
    }

    pub(super) fn invalid(message: String) -> Self {
        let code = "invalid_file";
        Self::Final { code, message }
    }

    pub(super) fn server(message: String) -> Self {
        let code = "server_error";
        Self::Final { code, message }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Final { code, .. } => code,
            Self::Passing { .. } => "none",
        }
    }

    /// Returns the failure of a call to the model.
    fn of(model: &str, error: &BackendError) -> Self {
        let message = format!("The embedding model '{model}' of this server failed: {error}");
        match error {
            BackendError::ModelNotFound { .. }
            | BackendError::NoModels
            | BackendError::InvalidRequest { .. }
            | BackendError::InputTooLong { .. }
            | BackendError::Unsupported { .. } => Self::server(message),
            _ => Self::Passing { message },
        }
    }
}

/// A backend, and the name of the embedding model for new vector stores.
#[derive(Clone)]
pub(crate) struct Embedder {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) model: Option<String>,
}

/// A text, or a piece of one that the model cannot read at once.
struct Piece<'a> {
    /// The number of the text.
    of: usize,
    text: &'a str,
}

/// The pieces of texts whose vectors are still to be computed.
struct PieceQueue<'a> {
    /// The last one is the next.
    waiting: Vec<Piece<'a>>,
    /// The maximum number of bytes of a piece. Longer pieces are divided.
    longest: usize,
}

impl<'a> PieceQueue<'a> {
    fn new(texts: &[&'a str]) -> Self {
        let pieces = texts.iter().enumerate().rev();
        Self {
            waiting: pieces.map(|(of, text)| Piece { of, text }).collect(),
            longest: usize::MAX,
        }
    }

    /// Returns the pieces for the next call to the model. `None` if there are no more.
    fn take(&mut self) -> Option<Vec<Piece<'a>>> {
        let mut pieces = Vec::with_capacity(AT_ONCE);
        while pieces.len() < AT_ONCE
            && let Some(piece) = self.waiting.pop()
        {
            if piece.text.len() > self.longest {
                self.waiting.extend(halves(&piece));
            } else {
                pieces.push(piece);
            }
        }
        (!pieces.is_empty()).then_some(pieces)
    }

    /// Puts pieces back that the model could not read. From now on, pieces have at most `longest`
    /// bytes.
    fn put_back(&mut self, pieces: Vec<Piece<'a>>, longest: usize) {
        self.longest = longest;
        self.waiting.extend(pieces.into_iter().rev());
    }
}

impl Embedder {
    /// Returns the name of the model for new vector stores.
    pub(super) fn model(&self) -> Result<String, ApiError> {
        self.model.clone().ok_or_else(no_model)
    }

    /// Computes the vectors of texts, each of length 1. A text that the model cannot read at once
    /// has the mean of the vectors of its pieces.
    pub(super) async fn vectors(
        &self,
        model: &str,
        texts: &[&str],
    ) -> Result<Vec<Vec<f32>>, BackendError> {
        let mut sums: Vec<Vec<f32>> = vec![Vec::new(); texts.len()];
        let mut queue = PieceQueue::new(texts);
        while let Some(pieces) = queue.take() {
            let inputs: Vec<String> = pieces.iter().map(|piece| piece.text.to_owned()).collect();
            match self.call(model, inputs).await {
                Ok((vectors, _)) => {
                    for (piece, vector) in pieces.iter().zip(vectors) {
                        add(&mut sums[piece.of], &vector, piece.text.len());
                    }
                }
                Err(error) => {
                    let length = shorter_length(&error, &pieces);
                    match length.filter(|length| *length < queue.longest) {
                        Some(length) => queue.put_back(pieces, length),
                        None => return Err(error),
                    }
                }
            }
        }
        for vector in &mut sums {
            normalize(vector);
        }
        Ok(sums)
    }

    /// Returns the vectors of a file's chunks, for the worker.
    pub(super) async fn vectors_of_file(
        &self,
        model: &str,
        texts: &[&str],
    ) -> Result<Vec<Vec<f32>>, Failure> {
        let vectors = self.vectors(model, texts).await;
        vectors.map_err(|error| Failure::of(model, &error))
    }

    /// Returns the mean length of the tokens of a text in bytes, as the model divides it.
    pub(super) async fn token_bytes(&self, model: &str, text: &str) -> Result<f64, Failure> {
        let samples: Vec<String> = (0..SAMPLES)
            .map(|number| {
                let start = text.floor_char_boundary(text.len() * number / SAMPLES);
                let end = text.floor_char_boundary((start + SAMPLE_BYTES).min(text.len()));
                text[start..end].to_owned()
            })
            .filter(|sample| !sample.trim().is_empty())
            .collect();
        let bytes: usize = samples.iter().map(String::len).sum();
        match self.call(model, samples).await {
            Ok((_, tokens)) if tokens > 0 => {
                #[expect(clippy::cast_precision_loss, reason = "a few hundred tokens")]
                let mean = bytes as f64 / tokens as f64;
                Ok(mean.clamp(1.0, 16.0))
            }
            // The engine does not count tokens, or has a very small context: then the pieces of a
            // chunk are shorter.
            Ok(_) | Err(BackendError::InputTooLong { .. }) => Ok(TOKEN_BYTES),
            Err(error) => Err(Failure::of(model, &error)),
        }
    }

    async fn call(
        &self,
        model: &str,
        inputs: Vec<String>,
    ) -> Result<(Vec<Vec<f32>>, u64), BackendError> {
        let count = inputs.len();
        if count == 0 {
            return Ok((Vec::new(), 0));
        }
        let call = EmbeddingCall {
            head: CallHead::new(id::embedding()),
            work: Arc::new(EmbeddingRequest {
                model: model.to_owned(),
                input: Prompt::Texts(inputs),
                encoding_format: None,
                dimensions: None,
                user: None,
                extra: Extra::new(),
            }),
        };
        let made = tokio::time::timeout(WITHIN, self.backend.embed(call)).await;
        let made = made.map_err(|_| BackendError::Engine {
            message: "it took too long".to_owned(),
        })??;
        if made.vectors.len() != count || made.vectors.iter().any(Vec::is_empty) {
            return Err(BackendError::Engine {
                message: "it returned too few vectors".to_owned(),
            });
        }
        Ok((made.vectors, made.prompt_tokens))
    }
}

/// Returns the length that pieces may have after the model could not read one of these pieces.
/// `None` for other errors, and if the pieces would be too short.
fn shorter_length(error: &BackendError, pieces: &[Piece<'_>]) -> Option<usize> {
    let BackendError::InputTooLong {
        index,
        tokens,
        most,
    } = error
    else {
        return None;
    };
    let lengths = || pieces.iter().map(|piece| piece.text.len());
    let reported = index.and_then(|index| lengths().nth(index));
    let too_long = reported.or_else(|| lengths().max())?;
    Some(shorter(too_long, *tokens, *most)).filter(|length| *length >= SHORTEST_PIECE)
}

/// Returns the length that pieces may have, if one of this length was too long.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "lengths of texts"
)]
fn shorter(length: usize, tokens: Option<u64>, most: Option<u64>) -> usize {
    match (tokens, most) {
        (Some(tokens), Some(most)) if tokens > most => {
            // A little less, since some parts of a text have more tokens than others.
            (length as f64 * most as f64 / tokens as f64 * 0.9) as usize
        }
        _ => length / 2,
    }
}

/// Divides a piece in two, the second first.
fn halves<'a>(piece: &Piece<'a>) -> [Piece<'a>; 2] {
    let middle = piece.text.floor_char_boundary(piece.text.len() / 2);
    let space = piece.text[..middle].rfind(char::is_whitespace);
    // Not in the middle of a word, if there is a space in the second quarter.
    let middle = space.filter(|at| *at > middle / 2).unwrap_or(middle);
    let (first, second) = piece.text.split_at(middle);
    let of = piece.of;
    [Piece { of, text: second }, Piece { of, text: first }]
}

/// Adds a vector, made to length 1, as often as the text behind it is long.
#[expect(clippy::cast_precision_loss, reason = "lengths of texts")]
fn add(sum: &mut Vec<f32>, vector: &[f32], length: usize) {
    let mut vector = vector.to_vec();
    normalize(&mut vector);
    if sum.is_empty() {
        sum.resize(vector.len(), 0.0);
    }
    for (sum, number) in sum.iter_mut().zip(vector) {
        *sum += number * length.max(1) as f32;
    }
}

/// Scales a vector to the length 1. A value that is not a number becomes 0.
fn normalize(vector: &mut [f32]) {
    for number in vector.iter_mut() {
        if !number.is_finite() {
            *number = 0.0;
        }
    }
    let length = vector
        .iter()
        .map(|one| f64::from(*one).powi(2))
        .sum::<f64>()
        .sqrt();
    if length > 0.0 {
        for number in vector {
            #[expect(clippy::cast_possible_truncation, reason = "it is at most 1")]
            let shorter = (f64::from(*number) / length) as f32;
            *number = shorter;
        }
    }
}
