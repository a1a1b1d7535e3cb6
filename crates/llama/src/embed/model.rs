//! A loaded embedding model, and the conversion of inputs to tokens.

use llama_cpp_2::model::LlamaModel;
use loggia_backend::BackendError;
use loggia_wire::openai::OnePrompt;

use super::sizes::Sizes;
use crate::Token;
use crate::error::LoadError;
use crate::facts::ModelFacts;
use crate::gguf::{Gguf, Pooling};
use crate::options::LlamaOptions;
use crate::weights::load_weights;

/// The model that llama.cpp loaded, and the facts from its header.
pub(super) struct EmbeddingModel {
    pub(super) llama: LlamaModel,
    pub(super) facts: ModelFacts,
    pub(super) pooling: Pooling,
    pub(super) sizes: Sizes,
    /// The description of the devices that compute the model, for the log.
    pub(super) devices: String,
}

impl EmbeddingModel {
    /// Loads a model. It blocks for seconds; do not call it on an async thread.
    pub(super) fn load(options: &LlamaOptions) -> Result<Self, LoadError> {
        let gguf = Gguf::read(&options.path)?;
        let no_embeddings = |what: String| LoadError::Kind {
            path: options.path.clone(),
            what,
        };
        let pooling = Pooling::of(&gguf).map_err(no_embeddings)?;
        let pooling =
            pooling.ok_or_else(|| no_embeddings("it is not an embedding model".to_owned()))?;
        if options.lora.is_some() {
            return Err(no_embeddings(
                "LoRA adapters are not supported for embedding models".to_owned(),
            ));
        }
        if options.draft.is_some() {
            return Err(no_embeddings(
                "draft models are not supported for embedding models".to_owned(),
            ));
        }
        let sizes = Sizes::of(options, &gguf)?;
        let (llama, devices) = load_weights(&options.path, options.gpu_layers)?;
        let facts = ModelFacts::of(&gguf, &options.path, &llama);
        Ok(Self {
            llama,
            facts,
            pooling,
            sizes,
            devices,
        })
    }

    /// The length of a vector.
    pub(super) fn dimensions(&self) -> usize {
        usize::try_from(self.llama.n_embd_out()).unwrap_or(0)
    }

    /// Tokenizes the input with this index. A text gets the special tokens that the model needs
    /// around it; special tokens that are written in the text count as plain text. An input of
    /// tokens is returned unchanged.
    pub(super) fn tokens(
        &self,
        index: usize,
        one: OnePrompt<'_>,
    ) -> Result<Vec<Token>, BackendError> {
        let tokens = match one {
            OnePrompt::Text(text) => {
                let tokens = self.llama.vocab().tokenize(text.as_bytes(), true, false);
                tokens
                    .into_iter()
                    .map(|token| token.0.cast_unsigned())
                    .collect()
            }
            OnePrompt::Tokens(tokens) => self.checked(index, tokens)?.to_vec(),
        };
        if tokens.is_empty() {
            return Err(invalid(index, "invalid_value", "the input has no tokens"));
        }
        let (count, most) = (tokens.len() as u64, u64::from(self.sizes.context));
        if count > most {
            return Err(BackendError::InputTooLong {
                index: Some(index),
                tokens: Some(count),
                most: Some(most),
            });
        }
        Ok(tokens)
    }

    /// Checks that all tokens are in the vocabulary: llama.cpp uses any number as a table index,
    /// without a check.
    fn checked<'a>(&self, index: usize, tokens: &'a [Token]) -> Result<&'a [Token], BackendError> {
        let vocabulary = self.facts.vocabulary;
        match tokens.iter().find(|&&token| token as usize >= vocabulary) {
            Some(unknown) => {
                let what = format!(
                    "token {unknown} is not in this model's vocabulary of {vocabulary} tokens"
                );
                Err(invalid(index, "invalid_value", &what))
            }
            None => Ok(tokens),
        }
    }
}

fn invalid(index: usize, code: &str, what: &str) -> BackendError {
    BackendError::InvalidRequest {
        message: format!("Invalid 'input[{index}]': {what}."),
        param: Some(format!("input[{index}]")),
        code: Some(code.to_owned()),
    }
}
