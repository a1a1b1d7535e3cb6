//! A model of some 70 KiB with weights drawn by lot: it says nothing, but llama.cpp loads it, and 200 of it take seconds.

const WIDTH: u64 = 32;
const VOCABULARY: u64 = 3 + 256;

/// The bytes of the GGUF file.
pub(crate) fn gguf() -> Vec<u8> {
    file(&metadata(), &tensors(), 7)
}

/// The same with tokens to fill in the middle with, those of the bytes 1, 2 and 3, under these keys; and with nothing added before a text.
pub(crate) fn inserting(keys: [&'static str; 3]) -> Vec<u8> {
    let mut metadata = metadata();
    metadata.push(("tokenizer.ggml.add_space_prefix", value(7, &[0])));
    metadata.extend(keys.into_iter().zip(1..).map(|(key, byte)| (key, number(token(byte)))));
    file(&metadata, &tensors(), 7)
}

/// The same as a model that makes embeddings: it pools by the last token.
pub(crate) fn embedding() -> Vec<u8> {
    let mut metadata = metadata();
    metadata.push(("llama.pooling_type", number(3)));
    file(&metadata, &tensors(), 7)
}

/// The same as a model that knows places in a picture (M-RoPE).
pub(crate) fn of_places() -> Vec<u8> {
    let mut metadata: Vec<(String, Vec<u8>)> =
        metadata().into_iter().map(|(key, value)| (key.replace("llama.", "qwen2vl."), value)).collect();
    metadata[0].1 = text("qwen2vl");
    let sections = [4_u32, 2, 2, 0].map(u32::to_le_bytes).concat();
    metadata.push(("qwen2vl.rope.dimension_sections".to_owned(), array(4, 4, sections)));
    file(&metadata, &tensors(), 7)
}

/// The token that is this byte.
pub(crate) fn token(byte: u8) -> u32 {
    3 + u32::from(byte)
}

/// A LoRA adapter for it, of rank 2, with weights drawn by another lot.
pub(crate) fn adapter() -> Vec<u8> {
    let metadata = [
        ("general.type", text("adapter")),
        ("general.architecture", text("llama")),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", value(6, &2_f32.to_le_bytes())),
    ];
    let changed = [("blk.0.attn_q", WIDTH, WIDTH), ("blk.0.ffn_down", 2 * WIDTH, WIDTH), ("output", WIDTH, VOCABULARY)];
    let halves = |(name, from, to)| {
        [(format!("{name}.weight.lora_a"), vec![from, 2]), (format!("{name}.weight.lora_b"), vec![2, to])]
    };
    file(&metadata, &changed.into_iter().flat_map(halves).collect::<Vec<_>>(), 11)
}

fn file(metadata: &[(impl AsRef<str>, Vec<u8>)], tensors: &[(String, Vec<u64>)], lot: u64) -> Vec<u8> {
    let mut file = Vec::from(*b"GGUF");
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut file, key.as_ref());
        file.extend(value);
    }
    let mut offset = 0;
    for (name, shape) in tensors {
        put_text(&mut file, name);
        file.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        for side in shape {
            file.extend(side.to_le_bytes());
        }
        // Type 0: 32-bit floats.
        file.extend(0_u32.to_le_bytes());
        file.extend(u64::to_le_bytes(offset));
        offset += bytes(shape).next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    let mut chance = Chance(lot);
    for (name, shape) in tensors {
        for _ in 0..bytes(shape) / 4 {
            let weight = if name.contains("norm") { 1.0 } else { f32::from(chance.byte()) / 2560.0 - 0.05 };
            file.extend(weight.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32), 0);
    }
    file
}

fn bytes(shape: &[u64]) -> u64 {
    shape.iter().product::<u64>() * 4
}

fn tensors() -> Vec<(String, Vec<u64>)> {
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
    let layer = of_layer.into_iter().map(|(name, shape)| (format!("blk.0.{name}.weight"), shape));
    around.into_iter().chain(layer).collect()
}

fn metadata() -> Vec<(&'static str, Vec<u8>)> {
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let tokens: Vec<String> = special.into_iter().chain((0..256).map(|byte| format!("<0x{byte:02X}>"))).collect();
    let mut texts = Vec::new();
    for token in &tokens {
        put_text(&mut texts, token);
    }
    let scores = vec![0; 4 * tokens.len()];
    // Unknown, control, control, then bytes.
    let types = [2_i32, 3, 3].into_iter().chain([6; 256]).flat_map(i32::to_le_bytes).collect();
    let count = tokens.len();
    vec![
        ("general.architecture", text("llama")),
        ("llama.context_length", number(512)),
        ("llama.embedding_length", number(32)),
        ("llama.block_count", number(1)),
        ("llama.feed_forward_length", number(64)),
        ("llama.attention.head_count", number(2)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.attention.layer_norm_rms_epsilon", value(6, &1e-5_f32.to_le_bytes())),
        ("llama.rope.dimension_count", number(16)),
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.tokens", array(8, count, texts)),
        ("tokenizer.ggml.scores", array(6, count, scores)),
        ("tokenizer.ggml.token_type", array(5, count, types)),
        ("tokenizer.ggml.bos_token_id", number(1)),
        ("tokenizer.ggml.eos_token_id", number(2)),
    ]
}

fn value(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], bytes].concat()
}

fn number(number: u32) -> Vec<u8> {
    value(4, &number.to_le_bytes())
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_text(&mut bytes, text);
    value(8, &bytes)
}

fn array(kind: u32, count: usize, elements: Vec<u8>) -> Vec<u8> {
    let head = [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes()].concat();
    value(9, &[head, elements].concat())
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Numbers that look drawn by lot and are the same each time.
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

    /// A number below this one.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound as u64).unwrap()
    }
}
