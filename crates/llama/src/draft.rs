//! A draft model: a smaller model with the same vocabulary, for speculative decoding. This file
//! checks and loads it, and compares the vocabularies; `engine/draft` does the drafting.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use crate::error::LoadError;
use crate::gguf::{Gguf, Pooling};
use crate::options::Draft;
use crate::weights::{keeps_one_state, load_weights};

/// The maximum difference between the sizes of the two vocabularies. Models of one family pad their
/// vocabularies to different round numbers.
const PADDING: u64 = 128;

/// The maximum number of draft tokens in one step.
const MOST: u32 = 16;

/// A loaded draft model.
pub(crate) struct DraftModel {
    pub(crate) llama: LlamaModel,
    /// The settings of speculative decoding.
    pub(crate) options: Draft,
    /// The context that the draft model was trained for, in tokens. Nothing is drafted beyond it.
    pub(crate) context: u32,
}

impl DraftModel {
    /// Loads a draft model whose header has been checked, and compares its vocabulary with that of
    /// the target model.
    pub(crate) fn load(
        options: &Draft,
        header: &Gguf,
        gpu_layers: Option<u32>,
        target: &LlamaModel,
    ) -> Result<Self, LoadError> {
        if keeps_one_state(target) {
            return Err(LoadError::Setting(
                "this model does not support a draft model: it keeps one state for all tokens, so rejected draft tokens cannot be removed; leave `draft` out"
                    .to_owned(),
            ));
        }
        let (llama, _) = load_weights(&options.path, gpu_layers)?;
        if keeps_one_state(&llama) {
            return Err(unfit(
                options,
                "it keeps one state for all tokens, so rejected draft tokens cannot be removed",
            ));
        }
        if let Some(token) = difference(target, &llama) {
            return Err(unfit(
                options,
                &format!("token {token} has a different text in it"),
            ));
        }
        let Draft {
            path,
            tokens,
            always,
        } = options;
        tracing::info!(path = %path.display(), tokens, always, "the draft model is loaded");
        Ok(Self {
            llama,
            options: options.clone(),
            context: header.trained_context(),
        })
    }
}

/// Reads the header of a draft model, and checks the header and the settings.
pub(crate) fn read(options: &Draft, model: &Gguf) -> Result<Gguf, LoadError> {
    if !(1..=MOST).contains(&options.tokens) {
        let tokens = options.tokens;
        return Err(LoadError::Setting(format!(
            "the number of draft tokens per step is {tokens}; it must be from 1 to {MOST}"
        )));
    }
    let draft = Gguf::read(&options.path)?;
    if !matches!(Pooling::of(&draft), Ok(None)) {
        return Err(unfit(
            options,
            "it is an embedding model, which generates no text",
        ));
    }
    let tokens = |gguf: &Gguf| gguf.array_length("tokenizer.ggml.tokens").unwrap_or(0);
    let (own, its) = (tokens(model), tokens(&draft));
    if own.abs_diff(its) > PADDING {
        return Err(unfit(
            options,
            &format!("its vocabulary has {its} tokens, and the model's has {own}"),
        ));
    }
    Ok(draft)
}

fn unfit(options: &Draft, what: &str) -> LoadError {
    LoadError::Setting(format!(
        "{} cannot be the draft model of this model: {what}",
        options.path.display()
    ))
}

/// The first token that differs between two vocabularies, up to the length of the shorter one.
fn difference(target: &LlamaModel, draft: &LlamaModel) -> Option<i32> {
    let text = |model: &LlamaModel, token| {
        let mut bytes = Vec::new();
        model
            .vocab()
            .token_to_piece_into(LlamaToken(token), &mut bytes, true, None);
        bytes
    };
    (0..target.n_vocab().min(draft.n_vocab()))
        .find(|&token| text(target, token) != text(draft, token))
}
