//! A model of about 70 KiB with random weights. Its answers are meaningless, but llama.cpp loads
//! it, and 200 of them load in seconds.

use super::gguf::{self, BYTES as VOCABULARY, Entry, Shape, array, float, number, text, value};

const WIDTH: u64 = 32;

/// The bytes of the GGUF file.
pub(crate) fn gguf() -> Vec<u8> {
    file(&metadata(), &tensors(), 7)
}

/// The model with fill-in-the-middle tokens (the bytes 1, 2 and 3) under these keys, and without a
/// BOS token.
pub(crate) fn inserting(keys: [&'static str; 3]) -> Vec<u8> {
    let mut metadata = metadata();
    metadata.push(("tokenizer.ggml.add_space_prefix".to_owned(), value(7, &[0])));
    metadata.extend(
        keys.into_iter()
            .zip(1..)
            .map(|(key, byte)| (key.to_owned(), number(token(byte)))),
    );
    file(&metadata, &tensors(), 7)
}

/// The model as an embedding model with last-token pooling.
pub(crate) fn embedding() -> Vec<u8> {
    let mut metadata = metadata();
    metadata.push(("llama.pooling_type".to_owned(), number(3)));
    file(&metadata, &tensors(), 7)
}

/// The model with positions in pictures (M-RoPE).
pub(crate) fn of_places() -> Vec<u8> {
    let mut metadata: Vec<Entry> = metadata()
        .into_iter()
        .map(|(key, value)| (key.replace("llama.", "qwen2vl."), value))
        .collect();
    metadata[0].1 = text("qwen2vl");
    let sections = [4_u32, 2, 2, 0].map(u32::to_le_bytes).concat();
    metadata.push((
        "qwen2vl.rope.dimension_sections".to_owned(),
        array(4, 4, sections),
    ));
    file(&metadata, &tensors(), 7)
}

/// The token of a byte.
pub(crate) fn token(byte: u8) -> u32 {
    3 + u32::from(byte)
}

/// A LoRA adapter of rank 2 for it, with other random weights.
pub(crate) fn adapter() -> Vec<u8> {
    let metadata = [
        ("general.type", text("adapter")),
        ("general.architecture", text("llama")),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", float(2.0)),
    ];
    let changed = [
        ("blk.0.attn_q", WIDTH, WIDTH),
        ("blk.0.ffn_down", 2 * WIDTH, WIDTH),
        ("output", WIDTH, VOCABULARY),
    ];
    let halves = |(name, from, to)| {
        [
            (format!("{name}.weight.lora_a"), vec![from, 2]),
            (format!("{name}.weight.lora_b"), vec![2, to]),
        ]
    };
    file(
        &metadata,
        &changed.into_iter().flat_map(halves).collect::<Vec<_>>(),
        11,
    )
}

fn file(metadata: &[(impl AsRef<str>, Vec<u8>)], tensors: &[Shape], lot: u64) -> Vec<u8> {
    let mut chance = Chance(lot);
    let weight = |name: &str| {
        if name.contains("norm") {
            1.0
        } else {
            f32::from(chance.byte()) / 2560.0 - 0.05
        }
    };
    gguf::file(metadata, tensors, weight)
}

fn tensors() -> Vec<Shape> {
    let of_layer = [
        ("attn_norm", vec![WIDTH]),
        ("attn_q", vec![WIDTH, WIDTH]),
        ("attn_k", vec![WIDTH, WIDTH]),
        ("attn_v", vec![WIDTH, WIDTH]),
        ("attn_output", vec![WIDTH, WIDTH]),
        ("ffn_norm", vec![WIDTH]),
        ("ffn_gate", vec![WIDTH, 2 * WIDTH]),
        ("ffn_up", vec![WIDTH, 2 * WIDTH]),
        ("ffn_down", vec![2 * WIDTH, WIDTH]),
    ];
    let around = [
        ("token_embd.weight".to_owned(), vec![WIDTH, VOCABULARY]),
        ("output_norm.weight".to_owned(), vec![WIDTH]),
        ("output.weight".to_owned(), vec![WIDTH, VOCABULARY]),
    ];
    let layer = of_layer
        .into_iter()
        .map(|(name, shape)| (format!("blk.0.{name}.weight"), shape));
    around.into_iter().chain(layer).collect()
}

fn metadata() -> Vec<Entry> {
    let of_its = [
        ("general.architecture", text("llama")),
        ("llama.context_length", number(512)),
        ("llama.embedding_length", number(32)),
        ("llama.block_count", number(1)),
        ("llama.feed_forward_length", number(64)),
        ("llama.attention.head_count", number(2)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.attention.layer_norm_rms_epsilon", float(1e-5)),
        ("llama.rope.dimension_count", number(16)),
    ];
    of_its
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .chain(gguf::of_bytes())
        .collect()
}

/// Pseudo-random numbers with a fixed seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[3]
    }

    /// A number below this limit.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound as u64).unwrap()
    }

    /// Damages a file in one of several ways; two of them affect this many bytes at its beginning.
    pub(crate) fn damage(&mut self, file: &mut Vec<u8>, header: usize) {
        match self.below(5) {
            0 => {
                let at = self.below(header);
                file[at] ^= 1 << self.below(8);
            }
            1 => {
                let at = self.below(file.len());
                file[at] = self.byte();
            }
            2 => file.truncate(self.below(file.len())),
            3 => {
                let at = self.below(header);
                file[at..at + 8].fill(0xff);
            }
            _ => {
                let (at, length) = (self.below(file.len() - 64), self.below(64));
                file[at..at + length].fill(0);
            }
        }
    }
}
