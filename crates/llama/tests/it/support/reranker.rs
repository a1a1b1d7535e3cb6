//! Small reranking models with random weights, whose scores a test can compute itself: encoders
//! with BERT's layers and head, and decoders with Qwen3's. The tests of the program use them too.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "this is code shared by tests, and the tests of the program use some of it"
)]

use super::gguf::{self, BYTES, Entry, Shape, array, float, number, text, value};

/// The length of the vectors. It is a multiple of the blocks of all quantized types.
pub(crate) const WIDTH: usize = 256;
const LENGTH: u64 = WIDTH as u64;

/// The control tokens of the vocabulary; each byte has the token 3 + its value.
pub(crate) const BEGIN: u32 = 1;
pub(crate) const END: u32 = 2;

/// A model, as the parts of its file.
#[derive(Clone)]
pub(crate) struct Reranker {
    pub(crate) metadata: Vec<Entry>,
    pub(crate) tensors: Vec<Shape>,
    /// The weights of the head, by the names of the tensors.
    pub(crate) head: Vec<(&'static str, Vec<f32>)>,
}

impl Reranker {
    /// BERT's layers and head: `output · tanh(cls · v + bias) + bias`, where `v` is the vector of the
    /// first token.
    pub(crate) fn bert() -> Self {
        let mut drawn = gguf::lots(21);
        let mut draw = |count: usize| (0..count).map(|_| 0.2 * drawn()).collect::<Vec<f32>>();
        let head = vec![
            ("cls.weight", draw(WIDTH * WIDTH)),
            ("cls.bias", draw(WIDTH)),
            ("cls.output.weight", draw(WIDTH)),
            ("cls.output.bias", draw(1)),
        ];
        let metadata = [
            ("general.architecture", text("bert")),
            ("bert.context_length", number(64)),
            ("bert.embedding_length", number(256)),
            ("bert.block_count", number(1)),
            ("bert.feed_forward_length", number(256)),
            ("bert.attention.head_count", number(2)),
            ("bert.attention.layer_norm_epsilon", float(1e-12)),
            ("bert.attention.causal", value(7, &[0])),
            ("bert.pooling_type", number(4)),
            ("tokenizer.ggml.token_type_count", number(2)),
            ("tokenizer.ggml.add_space_prefix", value(7, &[0])),
            ("tokenizer.ggml.add_bos_token", value(7, &[1])),
            ("tokenizer.ggml.add_eos_token", value(7, &[1])),
        ];
        let biased = [
            ("attn_q", vec![LENGTH, LENGTH]),
            ("attn_k", vec![LENGTH, LENGTH]),
            ("attn_v", vec![LENGTH, LENGTH]),
            ("attn_output", vec![LENGTH, LENGTH]),
            ("attn_output_norm", vec![LENGTH]),
            ("ffn_up", vec![LENGTH, LENGTH]),
            ("ffn_down", vec![LENGTH, LENGTH]),
            ("layer_output_norm", vec![LENGTH]),
        ];
        let layer = biased.into_iter().flat_map(|(name, shape)| {
            [
                (format!("blk.0.{name}.weight"), shape),
                (format!("blk.0.{name}.bias"), vec![LENGTH]),
            ]
        });
        let around = [
            ("token_embd.weight", vec![LENGTH, BYTES]),
            ("position_embd.weight", vec![LENGTH, 64]),
            ("token_types.weight", vec![LENGTH, 2]),
            ("token_embd_norm.weight", vec![LENGTH]),
            ("token_embd_norm.bias", vec![LENGTH]),
            ("cls.weight", vec![LENGTH, LENGTH]),
            ("cls.bias", vec![LENGTH]),
            ("cls.output.weight", vec![LENGTH, 1]),
            ("cls.output.bias", vec![1]),
        ];
        Self::new(metadata, around, layer, head)
    }

    /// Qwen3's layers and head: the first of two probabilities, from the vector of the last token.
    pub(crate) fn qwen3() -> Self {
        let mut drawn = gguf::lots(22);
        let head = vec![(
            "cls.output.weight",
            (0..2 * WIDTH).map(|_| 0.5 * drawn()).collect(),
        )];
        let mut labels = Vec::new();
        gguf::put_text(&mut labels, "yes");
        gguf::put_text(&mut labels, "no");
        let metadata = [
            ("general.architecture", text("qwen3")),
            ("qwen3.context_length", number(64)),
            ("qwen3.embedding_length", number(256)),
            ("qwen3.block_count", number(1)),
            ("qwen3.feed_forward_length", number(256)),
            ("qwen3.attention.head_count", number(2)),
            ("qwen3.attention.head_count_kv", number(2)),
            ("qwen3.attention.layer_norm_rms_epsilon", float(1e-6)),
            ("qwen3.pooling_type", number(4)),
            ("qwen3.classifier.output_labels", array(8, 2, labels)),
            ("tokenizer.ggml.add_space_prefix", value(7, &[0])),
            ("tokenizer.ggml.add_bos_token", value(7, &[0])),
            (
                "tokenizer.chat_template.rerank",
                text("<s>Q: {query}</s>D: {document}</s>"),
            ),
        ];
        let layer = [
            ("attn_norm", vec![LENGTH]),
            ("attn_q", vec![LENGTH, LENGTH]),
            ("attn_k", vec![LENGTH, LENGTH]),
            ("attn_v", vec![LENGTH, LENGTH]),
            ("attn_output", vec![LENGTH, LENGTH]),
            ("attn_q_norm", vec![LENGTH / 2]),
            ("attn_k_norm", vec![LENGTH / 2]),
            ("ffn_norm", vec![LENGTH]),
            ("ffn_gate", vec![LENGTH, LENGTH]),
            ("ffn_up", vec![LENGTH, LENGTH]),
            ("ffn_down", vec![LENGTH, LENGTH]),
        ];
        let layer = layer
            .into_iter()
            .map(|(name, shape)| (format!("blk.0.{name}.weight"), shape));
        let around = [
            ("token_embd.weight", vec![LENGTH, BYTES]),
            ("output_norm.weight", vec![LENGTH]),
            ("cls.output.weight", vec![LENGTH, 2]),
        ];
        Self::new(metadata, around, layer, head)
    }

    fn new(
        metadata: impl IntoIterator<Item = (&'static str, Vec<u8>)>,
        around: impl IntoIterator<Item = (&'static str, Vec<u64>)>,
        layer: impl Iterator<Item = Shape>,
        head: Vec<(&'static str, Vec<f32>)>,
    ) -> Self {
        let named = metadata.into_iter();
        let named = named.map(|(key, value)| (key.to_owned(), value));
        let around = around.into_iter();
        let around = around.map(|(name, shape)| (name.to_owned(), shape));
        Self {
            metadata: named.chain(gguf::of_bytes()).collect(),
            tensors: around.chain(layer).collect(),
            head,
        }
    }

    /// The bytes of the GGUF file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut drawn = gguf::lots(7);
        let mut heads: Vec<_> = self
            .head
            .iter()
            .map(|(name, weights)| (*name, weights.iter()))
            .collect();
        let weight = |name: &str| {
            if let Some((_, weights)) = heads.iter_mut().find(|(its, _)| *its == name) {
                return weights.next().copied().unwrap_or(0.0);
            }
            match name {
                _ if name.ends_with("norm.weight") => 1.0,
                _ if name.ends_with("norm.bias") => 0.0,
                _ if name == "token_embd.weight" => drawn(),
                _ => 0.2 * drawn(),
            }
        };
        gguf::file(&self.metadata, &self.tensors, weight)
    }

    /// Replaces a value of the metadata.
    pub(crate) fn with(mut self, key: &str, value: Vec<u8>) -> Self {
        self.metadata.retain(|(its, _)| its != key);
        self.metadata.push((key.to_owned(), value));
        self
    }

    /// Removes a value of the metadata, or a tensor.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.metadata.retain(|(its, _)| its != name);
        self.tensors.retain(|(its, _)| its != name);
        self
    }

    /// Changes the shape of a tensor, or adds one.
    pub(crate) fn shaped(mut self, name: &str, shape: &[u64]) -> Self {
        self.tensors.retain(|(its, _)| its != name);
        self.tensors.push((name.to_owned(), shape.to_vec()));
        self
    }

    /// The same model without its head, which makes embeddings by a pooling of this type.
    pub(crate) fn embedder(self, pooling: u32) -> Self {
        let mut keys = self.metadata.iter().map(|(key, _)| key);
        let key = keys.find(|key| key.ends_with("pooling_type"));
        let key = key.unwrap().clone();
        let names: Vec<_> = self.head.iter().map(|(name, _)| *name).collect();
        let embedder = names.iter().fold(self, |model, name| model.without(name));
        embedder.with(&key, number(pooling))
    }

    /// The weights of a tensor of the head.
    pub(crate) fn weights(&self, name: &str) -> &[f32] {
        let found = self.head.iter().find(|(its, _)| *its == name);
        &found.unwrap().1
    }
}

/// Writes another type for a tensor into the file of a model. Its data stays as it is.
pub(crate) fn retyped(file: &mut [u8], tensor: &str, kind: u32) {
    let mut name = Vec::new();
    gguf::put_text(&mut name, tensor);
    let dimensions = gguf::position(file, &name) + name.len();
    let count = u32::from_le_bytes(file[dimensions..dimensions + 4].try_into().unwrap());
    let at = dimensions + 4 + 8 * count as usize;
    file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
}

/// The products of a matrix's rows with a vector.
pub(crate) fn product(matrix: &[f32], vector: &[f64]) -> Vec<f64> {
    let rows = matrix.chunks(vector.len());
    let product = |row: &[f32]| {
        let pairs = row.iter().zip(vector);
        pairs.map(|(a, b)| f64::from(*a) * b).sum()
    };
    rows.map(product).collect()
}

/// The output of BERT's head for a vector.
pub(crate) fn of_bert_head(weights: &dyn Fn(&'static str) -> Vec<f32>, vector: &[f64]) -> f64 {
    let hidden = product(&weights("cls.weight"), vector);
    let hidden = hidden.iter().zip(weights("cls.bias"));
    let hidden: Vec<f64> = hidden.map(|(a, b)| (a + f64::from(b)).tanh()).collect();
    product(&weights("cls.output.weight"), &hidden)[0] + f64::from(weights("cls.output.bias")[0])
}
