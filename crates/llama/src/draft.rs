//! A draft model: a smaller one with the same vocabulary, which guesses what the model itself will
//! say. Its file is checked and loaded here, and its vocabulary compared; the guessing is
//! `engine/draft`'s.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use crate::embed::Pooling;
use crate::error::LoadError;
use crate::gguf::Gguf;
use crate::model::{keeps_one_state, load_weights};
use crate::options::Draft;

/// Vocabularies of one family may differ by what pads them to a round number.
const PADDING: u64 = 128;

/// The most tokens that are guessed in one step.
const MOST: u32 = 16;

/// A draft model that has been loaded.
pub(crate) struct DraftModel {
    pub(crate) llama: LlamaModel,
    /// How it is asked.
    pub(crate) options: Draft,
    /// Tokens that it was trained to read: beyond them it guesses nothing.
    pub(crate) context: u32,
}

impl DraftModel {
    /// Loads a draft whose header has been read, and compares what it and the model take tokens
    /// for.
    pub(crate) fn load(
        options: &Draft,
        header: &Gguf,
        gpu_layers: Option<u32>,
        target: &LlamaModel,
    ) -> Result<Self, LoadError> {
        if keeps_one_state(target) {
            return Err(LoadError::Setting(
                "this model can have no draft: it keeps one state for all tokens, and cannot take a guess back; leave `draft` out"
                    .to_owned(),
            ));
        }
        let (llama, _) = load_weights(&options.path, gpu_layers)?;
        if keeps_one_state(&llama) {
            return Err(unfit(
                options,
                "it keeps one state for all tokens, and cannot take a guess back",
            ));
        }
        if let Some(token) = difference(target, &llama) {
            return Err(unfit(
                options,
                &format!("the token {token} is another in it"),
            ));
        }
        let Draft {
            path,
            tokens,
            always,
        } = options;
        tracing::info!(path = %path.display(), tokens, always, "a draft model guesses ahead");
        Ok(Self {
            llama,
            options: options.clone(),
            context: header.trained_context(),
        })
    }
}

/// The header of a draft for a model, and a look at how it is to be asked.
pub(crate) fn read(options: &Draft, model: &Gguf) -> Result<Gguf, LoadError> {
    if !(1..=MOST).contains(&options.tokens) {
        let tokens = options.tokens;
        return Err(LoadError::Setting(format!(
            "a draft of {tokens} tokens a step; it can be 1 to {MOST}"
        )));
    }
    let draft = Gguf::read(&options.path)?;
    if !matches!(Pooling::of(&draft), Ok(None)) {
        return Err(unfit(options, "it makes embeddings, and writes nothing"));
    }
    let tokens = |gguf: &Gguf| gguf.array_length("tokenizer.ggml.tokens").unwrap_or(0);
    let (own, its) = (tokens(model), tokens(&draft));
    if own.abs_diff(its) > PADDING {
        return Err(unfit(
            options,
            &format!("the model has {own} tokens, and it has {its}"),
        ));
    }
    Ok(draft)
}

fn unfit(options: &Draft, what: &str) -> LoadError {
    LoadError::Setting(format!(
        "{} is no draft for this model: {what}",
        options.path.display()
    ))
}

/// The first token that two vocabularies do not have in common, of those that both have.
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
