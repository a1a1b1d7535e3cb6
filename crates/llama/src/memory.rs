//! What a model will need of the machine, from its file's header alone: known before anything is
//! allocated.

use crate::embed::{self, Pooling};
use crate::engine::{MOST_ROWS, Sizes};
use crate::error::LoadError;
use crate::gguf::Gguf;
use crate::options::LlamaOptions;
use crate::{adapter, draft};

/// What a model will be like once it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Bytes of weights, as in the file.
    pub weights: u64,
    /// Those of the weights that are used as they lie in the file: models that are loaded from the
    /// same file have them in memory once, together, though each in a process of its own. A lower
    /// bound: some types are arranged anew on some processors only.
    pub shared: u64,
    /// Bytes of the LoRA adapter; 0 where there is none.
    pub adapter: u64,
    /// Bytes of the projector with which the model sees or hears, and what it computes in; 0 where
    /// there is none.
    pub projector: u64,
    /// Bytes of the draft model, all that it needs; 0 where there is none.
    pub draft: u64,
    /// Bytes of the KV cache, for all requests at once. An upper bound: layers with a window, or
    /// without attention, need less.
    pub cache: u64,
    /// Bytes that one step computes in. An estimate, within a fifth for the models that it was
    /// compared with.
    pub compute: u64,
    /// The most tokens that prompt and answer of one request may have together, or one input of
    /// embeddings.
    pub context: u32,
    /// Whether it makes embeddings, and nothing else.
    pub embeds: bool,
}

impl Forecast {
    /// Reads the headers of the files that the options name.
    ///
    /// # Errors
    /// Where a file is no GGUF, or broken, an adapter does not go with its model, or an option
    /// makes no sense.
    pub fn of(options: &LlamaOptions) -> Result<Self, LoadError> {
        let gguf = Gguf::read(&options.path)?;
        // What cannot be served fails when it is loaded, and says why.
        if let Ok(Some(_)) = Pooling::of(&gguf) {
            return Ok(Self::of_embeddings(
                &gguf,
                embed::Sizes::of(options, &gguf)?,
            ));
        }
        let sizes = Sizes::of(options, gguf.trained_context())?;
        let adapter = options
            .lora
            .as_ref()
            .map(|lora| adapter::read(lora, &gguf))
            .transpose()?;
        let adapter = adapter.map_or(0, |adapter| adapter.size());
        let projector = options
            .mmproj
            .as_deref()
            .map(Gguf::read_projector)
            .transpose()?;
        let projector = projector.map_or(0, |projector| of_projector(&projector));
        let draft = options
            .draft
            .as_ref()
            .map(|draft| draft::read(draft, &gguf))
            .transpose()?;
        let draft = draft.map_or(0, |draft| {
            Self::from_header(&draft, sizes.of_draft(draft.trained_context())).bytes()
        });
        let forecast = Self::from_header(&gguf, sizes);
        let compute = forecast.compute.saturating_add(scores(&gguf));
        Ok(Self {
            adapter,
            projector,
            draft,
            compute,
            ..forecast
        })
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        let all = [
            self.weights,
            self.adapter,
            self.projector,
            self.draft,
            self.cache,
            self.compute,
        ];
        all.into_iter().fold(0, u64::saturating_add)
    }

    /// Nothing is kept from one batch to the next; an encoder keeps nothing within one either, and
    /// computes no words.
    fn of_embeddings(gguf: &Gguf, sizes: embed::Sizes) -> Self {
        let batch = u64::from(sizes.batch);
        let cache = if sizes.has_cache {
            cache(gguf, batch)
        } else {
            0
        };
        let compute = compute(gguf, batch, sizes.has_cache);
        Self {
            cache,
            compute,
            context: sizes.context,
            embeds: true,
            ..Self::of_weights(gguf)
        }
    }

    fn from_header(gguf: &Gguf, sizes: Sizes) -> Self {
        let states = states(gguf).saturating_mul(u64::from(sizes.parallel));
        let cache = cache(gguf, sizes.cells()).saturating_add(states);
        let compute = compute(gguf, u64::from(sizes.batch), true);
        Self {
            cache,
            compute,
            context: sizes.context,
            ..Self::of_weights(gguf)
        }
    }

    /// The weights and nothing else.
    fn of_weights(gguf: &Gguf) -> Self {
        let (weights, shared) = (gguf.size(), gguf.shareable());
        Self {
            weights,
            shared,
            adapter: 0,
            projector: 0,
            draft: 0,
            cache: 0,
            compute: 0,
            context: 0,
            embeds: false,
        }
    }
}

/// Bytes that a step over so many tokens computes in, with the likelihood of every word for each of
/// them, or without.
fn compute(gguf: &Gguf, batch: u64, with_words: bool) -> u64 {
    let width = gguf.of_architecture("embedding_length").unwrap_or(0);
    let feed_forward = gguf
        .of_architecture("feed_forward_length")
        .unwrap_or(4 * width);
    let vocabulary = if with_words {
        gguf.array_length("tokenizer.ggml.tokens").unwrap_or(0)
    } else {
        0
    };
    let row = vocabulary
        .saturating_add(8 * width)
        .saturating_add(feed_forward.saturating_mul(2));
    row.saturating_mul(4).saturating_mul(batch)
}

/// Bytes of the logits of prompts that are scored: as many as a step can have.
fn scores(gguf: &Gguf) -> u64 {
    let vocabulary = gguf.array_length("tokenizer.ggml.tokens").unwrap_or(0);
    vocabulary
        .saturating_mul(4)
        .saturating_mul(MOST_ROWS as u64)
}

/// Bytes of the keys and values of so many tokens.
fn cache(gguf: &Gguf, tokens: u64) -> u64 {
    let number = |key: &str, otherwise: u64| gguf.of_architecture(key).unwrap_or(otherwise);
    let (width, layers) = (number("embedding_length", 0), number("block_count", 0));
    let heads = number("attention.head_count", 1);
    if heads == 0 {
        // A recurrent model's header says so: it keeps no tokens.
        return 0;
    }
    let key_heads = number("attention.head_count_kv", heads);
    let a_head = |key: &str| number(key, width / heads);
    let of_a_token =
        key_heads.saturating_mul(a_head("attention.key_length") + a_head("attention.value_length"));
    // Two bytes a number.
    layers
        .saturating_mul(of_a_token)
        .saturating_mul(tokens)
        .saturating_mul(2)
}

/// Bytes of what a sequence of a recurrent or hybrid model is kept in: a state, and the last tokens
/// of its convolution, for each layer (Mamba's; a hybrid's layers of attention are counted too).
fn states(gguf: &Gguf) -> u64 {
    let number = |key: &str| gguf.of_architecture(key).unwrap_or(0);
    let of_layer = number("ssm.inner_size")
        .saturating_mul(number("ssm.state_size").saturating_add(number("ssm.conv_kernel")));
    // Four bytes a number.
    number("block_count")
        .saturating_mul(of_layer)
        .saturating_mul(4)
}

/// A projector's weights, and what it computes in: for each patch of the picture that it was made
/// for, eight times its width, and attention to all others.
fn of_projector(gguf: &Gguf) -> u64 {
    let number = |key: &str| gguf.number(key).unwrap_or(0);
    let side = number("clip.vision.image_size") / number("clip.vision.patch_size").max(1);
    // A sound is 1,500 of them, for 30 seconds.
    let patches = side.saturating_mul(side).max(1500);
    let width = number("clip.vision.embedding_length").max(number("clip.audio.embedding_length"));
    let of_each = width.saturating_mul(8).saturating_add(patches);
    gguf.size()
        .saturating_add(patches.saturating_mul(of_each).saturating_mul(4))
}
