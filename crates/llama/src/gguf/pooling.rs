//! Recognizes embedding and reranking models by the headers of their files, and reads their pooling.

use super::{Gguf, head};

/// How the vectors of an input's tokens become one vector, or a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The mean of the vectors of all tokens.
    Mean,
    /// The vector of the first token.
    First,
    /// The vector of the last token.
    Last,
    /// A score, which a head computes from the vector of one token or from the mean.
    Rank,
}

/// The encoder architectures (bidirectional attention, no text generation), by llama.cpp's names.
/// These models have no cache.
pub(super) const ENCODERS: [&str; 9] = [
    "bert",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "neo-bert",
    "jina-bert-v2",
    "jina-bert-v3",
    "eurobert",
    "gemma-embedding",
];

impl Pooling {
    /// The pooling of a file's model. `None` if the model generates text.
    ///
    /// # Errors
    ///
    /// If the header of an encoder does not state the pooling: with a guess, the vectors could differ
    /// from those that the model was trained for. If a reranking model has no valid head.
    pub(crate) fn of(gguf: &Gguf) -> Result<Option<Self>, String> {
        match gguf.of_architecture("pooling_type") {
            Some(1) => Ok(Some(Self::Mean)),
            Some(2) => Ok(Some(Self::First)),
            Some(3) => Ok(Some(Self::Last)),
            Some(4) => head::check(gguf).map(|()| Some(Self::Rank)),
            None | Some(0) if is_encoder(gguf) => {
                Err("it is an encoder, but its header does not state the pooling; use a file with a `pooling_type`"
                    .to_owned())
            }
            None | Some(0) => Ok(None),
            Some(other) => Err(format!("its pooling type {other} is unknown")),
        }
    }

    /// The name of the pooling on llama.cpp's command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::First => "cls",
            Self::Last => "last",
            Self::Rank => "rank",
        }
    }
}

/// Whether a file's model is an encoder.
pub(crate) fn is_encoder(gguf: &Gguf) -> bool {
    gguf.text("general.architecture")
        .is_some_and(|architecture| ENCODERS.contains(&architecture))
}
