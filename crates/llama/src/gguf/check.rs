//! Checks the numbers in a model's header that llama.cpp's loader uses unchecked, so that it
//! neither divides by zero nor aborts on an assertion.

use super::{Gguf, architectures};

/// Whether a file's header says that it is an adapter.
pub(super) fn is_adapter(gguf: &Gguf) -> bool {
    gguf.text("general.type") == Some("adapter")
}

/// Checks a model's header. The error is a part of an error message.
pub(super) fn model(gguf: &Gguf) -> Result<(), String> {
    if is_adapter(gguf) {
        return Err("it is an adapter and not a model".to_owned());
    }
    let architecture = gguf
        .text("general.architecture")
        .ok_or("its general.architecture is missing")?;
    architectures::check(architecture)?;
    if gguf.tensors.is_empty() {
        return Err(format!(
            "it is not a language model; its architecture is {architecture:?}"
        ));
    }
    for (key, most) in [
        ("block_count", 4096),
        ("embedding_length", 1 << 20),
        ("context_length", 1 << 30),
    ] {
        let value = gguf
            .of_architecture(key)
            .ok_or_else(|| format!("its {architecture}.{key} is missing"))?;
        if value == 0 || value > most {
            return Err(format!("its {architecture}.{key} is {value}"));
        }
    }
    heads(gguf, architecture)?;
    vocabulary(gguf)
}

/// Checks the attention heads: their number must divide the embedding length, and the number of
/// groups must divide the number of heads. Some architectures have a list with a number for each
/// layer; that list is not checked.
fn heads(gguf: &Gguf, architecture: &str) -> Result<(), String> {
    let embedding = gguf.of_architecture("embedding_length").unwrap_or(0);
    if let Some(heads) = gguf.of_architecture("attention.head_count") {
        // Models without attention (Mamba) have 0.
        if heads > embedding {
            return Err(format!(
                "its {architecture}.attention.head_count is {heads}"
            ));
        }
        if let Some(groups) = gguf.of_architecture("attention.head_count_kv")
            && groups > 0
            && (groups > heads || !heads.is_multiple_of(groups))
        {
            return Err(format!(
                "its {architecture}.attention.head_count_kv is {groups}, which does not divide its {heads} heads"
            ));
        }
    }
    for key in [
        "attention.key_length",
        "attention.value_length",
        "rope.dimension_count",
    ] {
        if let Some(length) = gguf.of_architecture(key)
            && length > embedding.max(65_536)
        {
            return Err(format!("its {architecture}.{key} is {length}"));
        }
    }
    Ok(())
}

/// Checks the vocabulary: lists about tokens must be as long as the list of tokens, and special
/// tokens must be in that list.
fn vocabulary(gguf: &Gguf) -> Result<(), String> {
    let tokens = gguf
        .arrays
        .get("tokenizer.ggml.tokens")
        .ok_or("it has no vocabulary")?;
    if tokens.length == 0 || tokens.length > 1 << 24 {
        return Err(format!("its vocabulary has {} tokens", tokens.length));
    }
    if tokens.repeats {
        return Err("two tokens of its vocabulary are equal".to_owned());
    }
    for list in ["tokenizer.ggml.scores", "tokenizer.ggml.token_type"] {
        if let Some(length) = gguf.array_length(list)
            && length != tokens.length
        {
            return Err(format!(
                "its {list} has {length} entries for {} tokens",
                tokens.length
            ));
        }
    }
    let named = gguf
        .values
        .keys()
        .filter(|key| key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id"));
    for key in named {
        // In some files, all bits set means that there is no such token.
        if let Some(token) = gguf.number(key)
            && token >= tokens.length
            && token != u64::from(u32::MAX)
        {
            return Err(format!(
                "its {key} is {token}, but its vocabulary has {} tokens",
                tokens.length
            ));
        }
    }
    Ok(())
}
