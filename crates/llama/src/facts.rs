//! The facts of a loaded model, for chats and for embeddings.

use llama_cpp_2::model::LlamaModel;

use crate::gguf::Gguf;
use crate::weights::keeps_one_state;

/// The facts that do not change while the model is loaded.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) architecture: String,
    pub(crate) vocabulary: usize,
    pub(crate) trained_context: u32,
    pub(crate) parameters: u64,
    pub(crate) file_bytes: u64,
    /// Identifies the weights in a fingerprint.
    pub(crate) identity: String,
    /// Whether a sequence can be truncated anywhere. Recurrent and hybrid models cannot: they keep
    /// one state, not one for each token.
    pub(crate) can_roll_back: bool,
}

impl Facts {
    /// Collects the facts from a file's header and from the model that llama.cpp loaded.
    pub(crate) fn of(gguf: &Gguf, llama: &LlamaModel) -> Self {
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
            can_roll_back: !keeps_one_state(llama),
        }
    }
}
