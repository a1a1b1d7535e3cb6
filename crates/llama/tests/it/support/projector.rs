//! A projector of about 500 KiB with random weights. Its output is meaningless, but it differs
//! between images, and llama.cpp loads it.

#![allow(clippy::unwrap_used, reason = "this is code shared by tests")]

use super::gguf::{self, array, number, text, value};

/// The kind of the projector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "not every test uses all of them")]
pub(crate) enum Kind {
    /// Images like `LLaVA`, with 16 rows each, and sounds like Ultravox, with 375 rows for 30
    /// seconds.
    SeesAndHears,
    /// Images like Gemma 3: 16 rows without causal attention.
    SeesAllAtOnce,
    /// Images like `InternVL`: 4 rows for each tile of 56 by 56 pixels, and 4 for the whole image.
    SeesTiles,
    /// Images like Idefics 3: tiles too, with special tokens around them that the model must have.
    SeesAmongMarks,
    /// Images like Qwen2-VL: a row for each 28 by 28 pixels, for models with positions inside an
    /// image.
    SeesPlaces,
    /// Only the header of a `HunyuanVL` projector, which is refused.
    SeesByTurns,
    /// A projector that accepts sounds only.
    Hears,
}

/// The projector's inner embedding length.
const WIDTH: u64 = 32;
const SIDE: u64 = 4;
const PATCH: u64 = 14;
const BANDS: u64 = 80;
/// The number of steps of a sound that are combined to one row.
const STACK: u64 = 4;

/// The bytes of the GGUF file, for a model with this embedding length.
pub(crate) fn gguf(kind: Kind, model_width: u64) -> Vec<u8> {
    let mut drawn = gguf::lots(7);
    gguf::of_types(
        &metadata(kind),
        &tensors(kind, model_width),
        type_of,
        |file, name| put_weight(file, name, drawn()),
    )
}

/// Convolution kernels are 16-bit floats, as llama.cpp requires; everything else has 32 bits.
fn type_of(name: &str) -> u32 {
    if name.contains("conv1d") && name.ends_with("weight") {
        gguf::F16
    } else {
        gguf::F32
    }
}

fn put_weight(file: &mut Vec<u8>, name: &str, drawn: f32) {
    if type_of(name) == gguf::F16 {
        // ±0.25 as 16-bit floats.
        file.extend((if drawn < 0.0 { 0xb400_u16 } else { 0x3400 }).to_le_bytes());
        return;
    }
    let is_norm = ["ln1", "ln2", "norm", "post_ln"]
        .iter()
        .any(|norm| name.contains(norm))
        && name.ends_with("weight");
    file.extend((if is_norm { 1.0 } else { drawn / 2.0 }).to_le_bytes());
}

fn tensors(kind: Kind, model_width: u64) -> Vec<(String, Vec<u64>)> {
    let named = |list: &[(&str, &[u64])]| -> Vec<(String, Vec<u64>)> {
        list.iter()
            .map(|(name, shape)| ((*name).to_owned(), shape.to_vec()))
            .collect()
    };
    let mut all = Vec::new();
    if kind != Kind::Hears {
        all.extend(named(&[
            ("v.patch_embd.weight", &[PATCH, PATCH, 3, WIDTH]),
            ("v.post_ln.weight", &[WIDTH]),
            ("v.post_ln.bias", &[WIDTH]),
        ]));
        all.extend(if kind == Kind::SeesPlaces {
            named(&[("v.patch_embd.weight.1", &[PATCH, PATCH, 3, WIDTH])])
        } else {
            named(&[("v.position_embd.weight", &[WIDTH, patches(kind)])])
        });
        if kind == Kind::SeesTiles {
            all.extend(named(&[("v.class_embd", &[WIDTH])]));
        }
        all.extend(layers("v"));
    }
    match kind {
        Kind::SeesAndHears => all.extend(named(&[
            ("mm.0.weight", &[WIDTH, model_width]),
            ("mm.0.bias", &[model_width]),
            ("mm.2.weight", &[model_width, model_width]),
            ("mm.2.bias", &[model_width]),
        ])),
        Kind::SeesAllAtOnce => all.extend(named(&[
            ("mm.input_projection.weight", &[model_width, WIDTH]),
            ("mm.soft_emb_norm.weight", &[WIDTH]),
        ])),
        Kind::SeesTiles => all.extend(named(&[
            ("mm.model.mlp.0.weight", &[4 * WIDTH]),
            ("mm.model.mlp.0.bias", &[4 * WIDTH]),
            ("mm.model.mlp.1.weight", &[4 * WIDTH, model_width]),
            ("mm.model.mlp.1.bias", &[model_width]),
            ("mm.model.mlp.3.weight", &[model_width, model_width]),
            ("mm.model.mlp.3.bias", &[model_width]),
        ])),
        Kind::SeesAmongMarks => {
            all.extend(named(&[("mm.model.fc.weight", &[4 * WIDTH, model_width])]));
        }
        Kind::SeesPlaces => all.extend(named(&[
            ("mm.0.weight", &[4 * WIDTH, 4 * WIDTH]),
            ("mm.0.bias", &[4 * WIDTH]),
            ("mm.2.weight", &[4 * WIDTH, model_width]),
            ("mm.2.bias", &[model_width]),
        ])),
        Kind::SeesByTurns | Kind::Hears => {}
    }
    if hears(kind) {
        all.extend(named(&[
            ("a.position_embd.weight", &[WIDTH, 1500]),
            ("a.conv1d.1.weight", &[3, BANDS, WIDTH]),
            ("a.conv1d.1.bias", &[1, WIDTH]),
            ("a.conv1d.2.weight", &[3, WIDTH, WIDTH]),
            ("a.conv1d.2.bias", &[1, WIDTH]),
            ("a.post_ln.weight", &[WIDTH]),
            ("a.post_ln.bias", &[WIDTH]),
            ("mm.a.norm_pre.weight", &[STACK * WIDTH]),
            ("mm.a.mlp.1.weight", &[STACK * WIDTH, 2 * WIDTH]),
            ("mm.a.norm_mid.weight", &[WIDTH]),
            ("mm.a.mlp.2.weight", &[WIDTH, model_width]),
        ]));
        all.extend(layers("a"));
    }
    all
}

/// The layers of an encoder: two, because `LLaVA` skips the last one.
fn layers(encoder: &str) -> Vec<(String, Vec<u64>)> {
    let square = vec![WIDTH, WIDTH];
    let of_layer = [
        ("ln1.weight", vec![WIDTH]),
        ("ln1.bias", vec![WIDTH]),
        ("attn_q.weight", square.clone()),
        ("attn_q.bias", vec![WIDTH]),
        ("attn_k.weight", square.clone()),
        ("attn_k.bias", vec![WIDTH]),
        ("attn_v.weight", square.clone()),
        ("attn_v.bias", vec![WIDTH]),
        ("attn_out.weight", square.clone()),
        ("attn_out.bias", vec![WIDTH]),
        ("ln2.weight", vec![WIDTH]),
        ("ln2.bias", vec![WIDTH]),
        ("ffn_up.weight", vec![WIDTH, 2 * WIDTH]),
        ("ffn_up.bias", vec![2 * WIDTH]),
        ("ffn_down.weight", vec![2 * WIDTH, WIDTH]),
        ("ffn_down.bias", vec![WIDTH]),
    ];
    // An encoder of sounds has no bias there.
    let of_layer = of_layer
        .iter()
        .filter(|(name, _)| encoder == "v" || *name != "attn_k.bias");
    (0..2)
        .flat_map(|layer| {
            of_layer
                .clone()
                .map(move |(name, shape)| (layer, name, shape))
        })
        .map(|(layer, name, shape)| (format!("{encoder}.blk.{layer}.{name}"), shape.clone()))
        .collect()
}

fn hears(kind: Kind) -> bool {
    matches!(kind, Kind::SeesAndHears | Kind::Hears)
}

/// The number of patches. An image has 16 rows: in Gemma 3, one for each four by four patches.
/// `InternVL` has one more for the whole image.
fn patches(kind: Kind) -> u64 {
    match kind {
        Kind::SeesAllAtOnce => SIDE * SIDE * 16,
        Kind::SeesTiles => SIDE * SIDE + 1,
        _ => SIDE * SIDE,
    }
}

fn metadata(kind: Kind) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![
        ("general.architecture".to_owned(), text("clip")),
        (
            "clip.has_vision_encoder".to_owned(),
            value(7, &[u8::from(kind != Kind::Hears)]),
        ),
        (
            "clip.has_audio_encoder".to_owned(),
            value(7, &[u8::from(hears(kind))]),
        ),
        ("clip.use_gelu".to_owned(), value(7, &[1])),
    ];
    for encoder in ["vision", "audio"] {
        let sizes = [
            ("embedding_length", 32),
            ("attention.head_count", 2),
            ("feed_forward_length", 64),
            ("block_count", 2),
            ("projection_dim", 32),
        ];
        all.extend(sizes.map(|(key, size)| (format!("clip.{encoder}.{key}"), number(size))));
        let epsilon = value(6, &1e-5_f32.to_le_bytes());
        all.push((
            format!("clip.{encoder}.attention.layer_norm_epsilon"),
            epsilon,
        ));
    }
    let half = array(6, 3, [0.5_f32; 3].map(f32::to_le_bytes).concat());
    let side =
        u32::try_from(PATCH * SIDE).unwrap() * if kind == Kind::SeesAllAtOnce { 4 } else { 1 };
    let sees_as = match kind {
        Kind::SeesAllAtOnce => "gemma3",
        Kind::SeesTiles => "internvl",
        Kind::SeesAmongMarks => "idefics3",
        Kind::SeesPlaces => "qwen2vl_merger",
        Kind::SeesByTurns => "hunyuanvl",
        Kind::SeesAndHears | Kind::Hears => "mlp",
    };
    if matches!(kind, Kind::SeesTiles | Kind::SeesAmongMarks) {
        all.push(("clip.vision.projector.scale_factor".to_owned(), number(2)));
        all.push((
            "clip.vision.preproc_image_size".to_owned(),
            number(2 * side),
        ));
    }
    all.extend([
        ("clip.vision.projector_type".to_owned(), text(sees_as)),
        ("clip.vision.image_size".to_owned(), number(side)),
        ("clip.vision.patch_size".to_owned(), number(14)),
        ("clip.vision.image_mean".to_owned(), half.clone()),
        ("clip.vision.image_std".to_owned(), half),
        ("clip.audio.projector_type".to_owned(), text("ultravox")),
        ("clip.audio.num_mel_bins".to_owned(), number(80)),
        ("clip.audio.projector.stack_factor".to_owned(), number(4)),
    ]);
    all
}
