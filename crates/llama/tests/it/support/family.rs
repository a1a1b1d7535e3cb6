//! Small models with random weights, from families with different kinds of caches. Their output is
//! meaningless, but it depends on everything that they have read, so a wrong state or window
//! changes it.

use super::gguf::{self, BYTES, Entry, Shape, array, float, number, text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// One state for all tokens: Mamba.
    Recurrent,
    /// States in some layers and tokens in others: LFM2.
    Hybrid,
    /// A sliding window in most layers, and all tokens in the others: Gemma 3.
    SlidingWindow,
}

pub(crate) const ALL: [Family; 3] = [Family::Recurrent, Family::Hybrid, Family::SlidingWindow];

/// The embedding length and the number of layers. Gemma's sixth layer attends to all tokens.
const WIDTH: u64 = 32;
const LAYERS: u64 = 6;
/// The length of the sliding window in tokens.
const WINDOW: u32 = 16;

/// The bytes of the GGUF file.
pub(crate) fn gguf(family: Family) -> Vec<u8> {
    gguf_with(family, &[])
}

/// The bytes of the GGUF file with more metadata.
pub(crate) fn gguf_with(family: Family, more: &[Entry]) -> Vec<u8> {
    let mut drawn = gguf::lots(7);
    let weight = |name: &str| match name {
        // The decay of the state, a negative number: so slow that it remembers some hundred tokens.
        _ if name.ends_with("ssm_a") => -0.01 * (0.6 + drawn()),
        _ if name.contains("norm") => 1.0,
        _ => drawn(),
    };
    let metadata = [&metadata(family), more].concat();
    gguf::file(&metadata, &tensors(family), weight)
}

fn metadata(family: Family) -> Vec<Entry> {
    let architecture = match family {
        Family::Recurrent => "mamba",
        Family::Hybrid => "lfm2",
        Family::SlidingWindow => "gemma3",
    };
    let mut all = vec![("general.architecture".to_owned(), text(architecture))];
    let mut put = |key: &str, value| all.push((format!("{architecture}.{key}"), value));
    put("context_length", number(2048));
    put("embedding_length", number(32));
    put("block_count", number(6));
    put("feed_forward_length", number(64));
    put("attention.layer_norm_rms_epsilon", float(1e-5));
    put(
        "attention.head_count",
        number(if family == Family::Recurrent { 0 } else { 2 }),
    );
    match family {
        Family::Recurrent => {
            put("ssm.conv_kernel", number(4));
            put("ssm.inner_size", number(64));
            put("ssm.state_size", number(8));
            put("ssm.time_step_rank", number(4));
        }
        Family::Hybrid => {
            put("shortconv.l_cache", number(3));
            put("rope.dimension_count", number(16));
            let heads = (0..LAYERS).map(|layer| if is_attention(layer) { 2_u32 } else { 0 });
            put(
                "attention.head_count_kv",
                array(4, 6, heads.flat_map(u32::to_le_bytes).collect()),
            );
        }
        Family::SlidingWindow => {
            put("attention.head_count_kv", number(2));
            put("attention.key_length", number(16));
            put("attention.value_length", number(16));
            put("attention.sliding_window", number(WINDOW));
        }
    }
    all.extend(gguf::of_bytes());
    let template = "{% for message in messages %}{{ message.content }}|{% endfor %}";
    all.push(("tokenizer.chat_template".to_owned(), text(template)));
    all
}

/// In the hybrid model, every other layer has attention.
fn is_attention(layer: u64) -> bool {
    layer % 2 == 1
}

fn tensors(family: Family) -> Vec<Shape> {
    let norm = if family == Family::Hybrid {
        "token_embd_norm.weight"
    } else {
        "output_norm.weight"
    };
    let around = [
        ("token_embd.weight".to_owned(), vec![WIDTH, BYTES]),
        (norm.to_owned(), vec![WIDTH]),
    ];
    let layers = (0..LAYERS).flat_map(|layer| {
        let of_layer = match family {
            Family::Recurrent => recurrent(),
            Family::Hybrid => hybrid(is_attention(layer)),
            Family::SlidingWindow => windowed(),
        };
        of_layer
            .into_iter()
            .map(move |(name, shape)| (format!("blk.{layer}.{name}"), shape))
    });
    around.into_iter().chain(layers).collect()
}

fn recurrent() -> Vec<(&'static str, Vec<u64>)> {
    let (inner, state, rank) = (2 * WIDTH, 8, 4);
    vec![
        ("attn_norm.weight", vec![WIDTH]),
        ("ssm_in.weight", vec![WIDTH, 2 * inner]),
        ("ssm_conv1d.weight", vec![4, inner]),
        ("ssm_conv1d.bias", vec![inner]),
        ("ssm_x.weight", vec![inner, rank + 2 * state]),
        ("ssm_dt.weight", vec![rank, inner]),
        ("ssm_dt.bias", vec![inner]),
        ("ssm_a", vec![state, inner]),
        ("ssm_d", vec![inner]),
        ("ssm_out.weight", vec![inner, WIDTH]),
    ]
}

fn attention() -> Vec<(&'static str, Vec<u64>)> {
    vec![
        ("attn_q.weight", vec![WIDTH, WIDTH]),
        ("attn_k.weight", vec![WIDTH, WIDTH]),
        ("attn_v.weight", vec![WIDTH, WIDTH]),
        ("attn_output.weight", vec![WIDTH, WIDTH]),
        ("attn_q_norm.weight", vec![WIDTH / 2]),
        ("attn_k_norm.weight", vec![WIDTH / 2]),
    ]
}

fn forward() -> Vec<(&'static str, Vec<u64>)> {
    vec![
        ("attn_norm.weight", vec![WIDTH]),
        ("ffn_norm.weight", vec![WIDTH]),
        ("ffn_gate.weight", vec![WIDTH, 2 * WIDTH]),
        ("ffn_up.weight", vec![WIDTH, 2 * WIDTH]),
        ("ffn_down.weight", vec![2 * WIDTH, WIDTH]),
    ]
}

fn hybrid(is_attention: bool) -> Vec<(&'static str, Vec<u64>)> {
    let convolution = vec![
        ("shortconv.conv.weight", vec![3, WIDTH]),
        ("shortconv.in_proj.weight", vec![WIDTH, 3 * WIDTH]),
        ("shortconv.out_proj.weight", vec![WIDTH, WIDTH]),
    ];
    [
        forward(),
        if is_attention {
            attention()
        } else {
            convolution
        },
    ]
    .concat()
}

fn windowed() -> Vec<(&'static str, Vec<u64>)> {
    let after = vec![
        ("post_attention_norm.weight", vec![WIDTH]),
        ("post_ffw_norm.weight", vec![WIDTH]),
    ];
    [forward(), attention(), after].concat()
}
