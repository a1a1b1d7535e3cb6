//! A loaded model that pools, and the conversion of inputs to tokens.

use llama_cpp_2::model::LlamaModel;
use loggia_backend::{BackendError, Rerank};
use loggia_wire::openai::OnePrompt;

use super::pair::PairForm;
use super::sizes::Sizes;
use crate::error::LoadError;
use crate::facts::ModelFacts;
use crate::gguf::{Gguf, Pooling};
use crate::options::LlamaOptions;
use crate::weights::load_weights;
use crate::{Token, numbers};

/// The model that llama.cpp loaded, and the facts from its header.
pub(super) struct PooledModel {
    pub(super) llama: LlamaModel,
    pub(super) facts: ModelFacts,
    pub(super) pooling: Pooling,
    pub(super) sizes: Sizes,
    /// The description of the devices that compute the model, for the log.
    pub(super) devices: String,
}

impl PooledModel {
    /// Loads an embedding or a reranking model. It blocks for seconds; do not call it on an async
    /// thread.
    pub(super) fn load(
        options: &LlamaOptions,
        gguf: &Gguf,
        pooling: Pooling,
    ) -> Result<Self, LoadError> {
        let unsupported = |what: &str| LoadError::Kind {
            path: options.path.clone(),
            what: format!("{what} are not supported for embedding and reranking models"),
        };
        if options.lora.is_some() {
            return Err(unsupported("LoRA adapters"));
        }
        if options.draft.is_some() {
            return Err(unsupported("draft models"));
        }
        let sizes = Sizes::of(options, gguf)?;
        let (llama, devices) = load_weights(&options.path, options.gpu_layers)?;
        let facts = ModelFacts::of(gguf, &options.path, &llama);
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
                numbers(self.llama.vocab().tokenize(text.as_bytes(), true, false))
            }
            OnePrompt::Tokens(tokens) => self.checked(index, tokens)?.to_vec(),
        };
        if tokens.is_empty() {
            return Err(invalid(index, "invalid_value", "the input has no tokens"));
        }
        self.fitting(index, tokens)
    }

    /// Tokenizes the documents with the query, from the document with this index on. In errors, the
    /// query is the first input, and the documents follow.
    pub(super) fn pairs<'a>(
        &'a self,
        form: &'a PairForm,
        asked: &'a Rerank,
        from: usize,
    ) -> Result<impl Iterator<Item = Result<Vec<Token>, BackendError>> + 'a, BackendError> {
        let tokens_with = form.with_query(&self.llama, &asked.query);
        // A query that is too long is refused before it is combined with every document.
        self.fitting(0, tokens_with(""))?;
        let documents = asked.documents.iter().zip(1..).skip(from);
        Ok(documents.map(move |(document, index)| self.fitting(index, tokens_with(document))))
    }

    /// Returns the tokens of the input with this index if a batch has room for them.
    fn fitting(&self, index: usize, tokens: Vec<Token>) -> Result<Vec<Token>, BackendError> {
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
