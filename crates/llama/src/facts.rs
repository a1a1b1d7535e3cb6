//! The properties of a loaded model, whether it is for chats or for embeddings.

use std::path::Path;

use llama_cpp_2::model::LlamaModel;

use crate::gguf::Gguf;
use crate::raw::numbers;
use crate::weights::keeps_one_state;

/// The properties of a model, which do not change while it is loaded.
#[derive(Debug, Clone)]
pub(crate) struct ModelFacts {
    pub(crate) architecture: String,
    pub(crate) vocabulary: usize,
    pub(crate) trained_context: u32,
    pub(crate) parameters: u64,
    pub(crate) file_bytes: u64,
    /// Identifies the weights in a fingerprint.
    pub(crate) identity: String,
    /// The times at which the files of the weights were changed. Two models may differ in nothing
    /// but their weights.
    pub(crate) changed: String,
    /// Whether a sequence can be truncated at any token. Recurrent and hybrid models cannot do
    /// that: they keep one state, not one for each token.
    pub(crate) can_roll_back: bool,
    /// The number of tokens in the sliding windows of some layers; 0 for a model without them.
    pub(crate) window: usize,
}

impl ModelFacts {
    /// Collects the properties from a file's header and from the model that llama.cpp loaded.
    pub(crate) fn of(gguf: &Gguf, path: &Path, llama: &LlamaModel) -> Self {
        Self {
            architecture: gguf
                .text("general.architecture")
                .unwrap_or_default()
                .to_owned(),
            vocabulary: usize::try_from(llama.n_vocab()).unwrap_or(0),
            trained_context: gguf.trained_context(),
            parameters: llama.n_params(),
            file_bytes: gguf.size(),
            identity: gguf.identity(),
            changed: gguf.changed(path),
            can_roll_back: !keeps_one_state(llama),
            window: numbers::window(llama),
        }
    }
}
