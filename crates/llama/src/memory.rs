//! Estimates the memory of a model from its file's header, before anything is allocated.

use crate::cache_type::CacheTypes;
use crate::embed;
use crate::engine::{MOST_ROWS, MOST_WAITING, Sizes};
use crate::error::LoadError;
use crate::gguf::{Gguf, Pooling};
use crate::options::LlamaOptions;
use crate::{adapter, draft};

/// The estimated memory and the main properties of a model before it is loaded.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// The bytes of the weights in the file.
    pub weights: u64,
    /// The bytes of the weights that are used directly from the mapped file. Processes that load
    /// models from the same file share this memory. It is a lower bound: some types are rearranged
    /// in memory on some processors only.
    pub shared: u64,
    /// The bytes of the LoRA adapter; 0 without an adapter.
    pub adapter: u64,
    /// The bytes of the projector for images and sounds, including its compute buffers; 0 without a
    /// projector.
    pub projector: u64,
    /// The bytes of the draft model, including its cache and compute buffers; 0 without a draft
    /// model.
    pub draft: u64,
    /// The bytes of the KV cache for all parallel requests. It is an upper bound: layers with a
    /// sliding window, or without attention, need less.
    pub cache: u64,
    /// The maximum number of bytes of the prompt cache: conversations that no slot holds. They are
    /// allocated when they are needed.
    pub prompt_cache: u64,
    /// The bytes of the compute buffers of one step. It is an estimate: for the models that it was
    /// compared with, it was right within a fifth.
    pub compute: u64,
    /// The maximum number of tokens of one request, prompt and answer together; of one input for
    /// embeddings; of a query and a document together.
    pub context: u32,
    /// The number of tokens that the model was trained for, if the file states it.
    pub trained_context: Option<u32>,
    /// The work that the model is for.
    pub kind: ModelKind,
}

/// The work that a model is for, which its header states.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// Chats and completions.
    #[default]
    Text,
    /// Embeddings.
    Embedding,
    /// The comparison of documents with a query.
    Reranking,
}

impl Forecast {
    /// Reads the headers of the files in the options and estimates the memory.
    ///
    /// # Errors
    /// If a file is not a valid GGUF file, its model cannot be served, an adapter does not fit its
    /// model, or an option is invalid.
    pub fn of(options: &LlamaOptions) -> Result<Self, LoadError> {
        let gguf = Gguf::read(&options.path)?;
        let pooling = Pooling::of(&gguf).map_err(LoadError::kind(&options.path))?;
        if let Some(pooling) = pooling {
            let kind = match pooling {
                Pooling::Rank => ModelKind::Reranking,
                Pooling::Mean | Pooling::First | Pooling::Last => ModelKind::Embedding,
            };
            let sizes = embed::Sizes::of(options, &gguf)?;
            return Ok(Self::of_pooled(&gguf, sizes, kind));
        }
        options.cache_types().check(&gguf)?;
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
            prompt_cache: prompt_cache(options, forecast.cache),
            compute,
            ..forecast
        })
    }

    /// The sum of all parts.
    pub fn bytes(&self) -> u64 {
        let all = [
            self.weights,
            self.adapter,
            self.projector,
            self.draft,
            self.cache,
            self.prompt_cache,
            self.compute,
        ];
        all.into_iter().fold(0, u64::saturating_add)
    }

    /// The forecast of an embedding or a reranking model, which keeps nothing between batches. An
    /// encoder has no KV cache, and computes no logits.
    fn of_pooled(gguf: &Gguf, sizes: embed::Sizes, kind: ModelKind) -> Self {
        let batch = u64::from(sizes.batch);
        let cache = if sizes.has_cache {
            cache(gguf, batch, CacheTypes::default())
        } else {
            0
        };
        let compute = compute(gguf, batch, sizes.has_cache);
        Self {
            cache,
            compute,
            context: sizes.context,
            kind,
            ..Self::of_weights(gguf)
        }
    }

    fn from_header(gguf: &Gguf, sizes: Sizes) -> Self {
        let states = states(gguf).saturating_mul(u64::from(sizes.parallel));
        let cache = cache(gguf, sizes.cells(), sizes.cache_types).saturating_add(states);
        let compute = compute(gguf, u64::from(sizes.batch), true);
        Self {
            cache,
            compute,
            context: sizes.context,
            ..Self::of_weights(gguf)
        }
    }

    /// A forecast that has only the weights; everything else is 0.
    fn of_weights(gguf: &Gguf) -> Self {
        let (weights, shared) = (gguf.size(), gguf.shareable());
        Self {
            weights,
            shared,
            adapter: 0,
            projector: 0,
            draft: 0,
            cache: 0,
            prompt_cache: 0,
            compute: 0,
            context: 0,
            trained_context: Some(gguf.trained_context()).filter(|&tokens| tokens < u32::MAX),
            kind: ModelKind::Text,
        }
    }
}

/// The maximum number of bytes of cached prompts, with those that are being written and read.
/// `cache` is the KV cache of all slots.
fn prompt_cache(options: &LlamaOptions, cache: u64) -> u64 {
    let on_their_way = match options.cache_disk {
        Some(_) => (cache / u64::from(options.parallel.max(1))).max(MOST_WAITING as u64),
        None => 0,
    };
    // The data that waits to be written may be as large as the data that is being read.
    options
        .cache_memory
        .saturating_add(on_their_way.saturating_mul(2))
}

/// The bytes of the compute buffers of a step over `batch` tokens, with or without the logits of
/// each token.
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

/// The bytes of the logits for the maximum number of scored prompt tokens in one step.
fn scores(gguf: &Gguf) -> u64 {
    let vocabulary = gguf.array_length("tokenizer.ggml.tokens").unwrap_or(0);
    vocabulary
        .saturating_mul(4)
        .saturating_mul(MOST_ROWS as u64)
}

/// The bytes of the keys and values of `tokens` tokens.
fn cache(gguf: &Gguf, tokens: u64, types: CacheTypes) -> u64 {
    let number = |key: &str, otherwise: u64| gguf.of_architecture(key).unwrap_or(otherwise);
    let (width, layers) = (number("embedding_length", 0), number("block_count", 0));
    let heads = number("attention.head_count", 1);
    if heads == 0 {
        // The header of a recurrent model has 0 heads. Such a model caches no tokens.
        return 0;
    }
    let key_heads = number("attention.head_count_kv", heads);
    let a_head = |key: &str| number(key, width / heads);
    let keys = key_heads.saturating_mul(a_head("attention.key_length"));
    let values = key_heads.saturating_mul(a_head("attention.value_length"));
    let of_a_token = types.keys.bytes(keys) + types.values.bytes(values);
    layers.saturating_mul(of_a_token).saturating_mul(tokens)
}

/// The bytes of one sequence's state in a recurrent or hybrid model: for each layer, a state and
/// the last tokens of its convolution, as in Mamba. The attention layers of a hybrid model are
/// counted too.
fn states(gguf: &Gguf) -> u64 {
    let number = |key: &str| gguf.of_architecture(key).unwrap_or(0);
    let of_layer = number("ssm.inner_size")
        .saturating_mul(number("ssm.state_size").saturating_add(number("ssm.conv_kernel")));
    // Each number takes four bytes.
    number("block_count")
        .saturating_mul(of_layer)
        .saturating_mul(4)
}

/// The bytes of a projector's weights and compute buffers. For each patch of an image of the
/// projector's native size, they are eight times its width, and the attention to all other patches.
fn of_projector(gguf: &Gguf) -> u64 {
    let number = |key: &str| gguf.number(key).unwrap_or(0);
    let side = number("clip.vision.image_size") / number("clip.vision.patch_size").max(1);
    // A sound of 30 seconds has 1,500 patches.
    let patches = side.saturating_mul(side).max(1500);
    let width = number("clip.vision.embedding_length").max(number("clip.audio.embedding_length"));
    let of_each = width.saturating_mul(8).saturating_add(patches);
    gguf.size()
        .saturating_add(patches.saturating_mul(of_each).saturating_mul(4))
}
