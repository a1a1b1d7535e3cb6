//! Checks the numbers in a projector's header that llama.cpp's loader uses unchecked, so that it
//! neither divides by zero nor aborts on an assertion.

use super::Gguf;

/// Checks a projector's header. The error is a part of an error message.
pub(super) fn check(gguf: &Gguf) -> Result<(), String> {
    match gguf.text("general.architecture") {
        Some("clip") => {}
        other => {
            return Err(format!(
                "it is not a projector: its architecture is {:?}, not \"clip\"",
                other.unwrap_or_default()
            ));
        }
    }
    let has = |what: &str| gguf.number(&format!("clip.has_{what}_encoder")) == Some(1);
    if !has("vision") && !has("audio") {
        return Err("it supports neither images nor sounds".to_owned());
    }
    if has("vision") {
        encoder(gguf, "vision")?;
        within(gguf, "clip.vision.patch_size", 1, 4096)?;
        within(gguf, "clip.vision.image_size", 0, 8192)?;
    }
    if has("audio") {
        encoder(gguf, "audio")?;
        within(gguf, "clip.audio.num_mel_bins", 1, 4096)?;
    }
    by_itself(gguf)?;
    stacked(gguf)?;
    // If these are present, llama.cpp divides by them.
    for key in [
        "clip.vision.projector.scale_factor",
        "clip.vision.spatial_merge_size",
        "clip.audio.projector.stack_factor",
        "clip.audio.subsampling_factor",
        "clip.vision.window_size",
        "clip.vision.n_wa_pattern",
    ] {
        if gguf.number(key).is_some() {
            within(gguf, key, u64::from(!key.ends_with("pattern")), 65_535)?;
        }
    }
    Ok(())
}

/// Refuses two kinds of projectors: they encode an image differently if other images precede it in
/// the prompt, but Loggia encodes each image separately.
fn by_itself(gguf: &Gguf) -> Result<(), String> {
    let kind = gguf
        .text("clip.vision.projector_type")
        .or_else(|| gguf.text("clip.projector_type"));
    match kind {
        Some(kind @ ("hunyuanvl" | "deepseek4v")) => Err(format!(
            "projectors of the type {kind} are not supported: they encode an image differently if other images precede it"
        )),
        _ => Ok(()),
    }
}

/// Checks the number of steps that a projector for sounds combines to one row. A sound has 1,500
/// steps of 20 ms, and this number must divide them without a remainder: llama.cpp rounds up when
/// it computes and down when it counts, and ends the process if the results differ.
fn stacked(gguf: &Gguf) -> Result<(), String> {
    let kind = gguf
        .text("clip.audio.projector_type")
        .or_else(|| gguf.text("clip.projector_type"));
    let key = "clip.audio.projector.stack_factor";
    match gguf.number(key) {
        Some(steps @ 1..)
            if matches!(kind, Some("ultravox" | "voxtral" | "meralion")) && 1500 % steps != 0 =>
        {
            Err(format!(
                "its {key} is {steps}, which this version of llama.cpp does not support"
            ))
        }
        _ => Ok(()),
    }
}

/// Checks the sizes of one of the two encoders.
fn encoder(gguf: &Gguf, which: &str) -> Result<(), String> {
    let named = [
        "clip.projector_type".to_owned(),
        format!("clip.{which}.projector_type"),
    ];
    if named.iter().all(|key| gguf.text(key).is_none()) {
        return Err(format!("its clip.{which}.projector_type is missing"));
    }
    let key = |name: &str| format!("clip.{which}.{name}");
    let width = within(gguf, &key("embedding_length"), 1, 1 << 20)?;
    let heads = within(gguf, &key("attention.head_count"), 1, 65_536)?;
    within(gguf, &key("block_count"), 1, 4096)?;
    within(gguf, &key("feed_forward_length"), 0, 1 << 24)?;
    if gguf.number(&key("attention.head_dim")).is_none() && !width.is_multiple_of(heads) {
        return Err(format!(
            "its {} is {heads}, which does not divide {width}",
            key("attention.head_count")
        ));
    }
    Ok(())
}

fn within(gguf: &Gguf, key: &str, least: u64, most: u64) -> Result<u64, String> {
    match gguf.number(key) {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        Some(number) => Err(format!("its {key} is {number}")),
        None => Err(format!("its {key} is missing")),
    }
}
