//! A LoRA adapter: a small file with changes to a model's weights. It is checked against the
//! model's header, loaded together with the model, and applied to each context that computes with
//! the model.

use std::fs::File;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use sha2::{Digest, Sha256};

use crate::error::LoadError;
use crate::gguf::{Gguf, GgufError};
use crate::options::Lora;

/// An adapter that llama.cpp has loaded. The model owns its memory and frees it.
pub(crate) struct Adapter {
    /// The adapter is behind a mutex, because llama.cpp needs mutable access to apply it to a
    /// context.
    loaded: Mutex<LlamaLoraAdapter>,
    scale: f32,
    /// Identifies the adapter and its scale in a fingerprint.
    pub(crate) identity: String,
}

impl Adapter {
    /// Loads an adapter whose header has been checked.
    pub(crate) fn load(
        lora: &Lora,
        header: &Gguf,
        llama: &mut LlamaModel,
    ) -> Result<Self, LoadError> {
        let path = &lora.path;
        if header.has_norms() {
            tracing::warn!(path = %path.display(), "this adapter also changes norms; llama.cpp ignores these changes");
        }
        let identity = identity(lora).map_err(|source| GgufError::Io {
            path: path.clone(),
            source,
        })?;
        let loaded = llama
            .lora_adapter_init(path)
            .map_err(|_| LoadError::Refused { path: path.clone() })?;
        tracing::info!(path = %path.display(), scale = lora.scale, "the LoRA adapter is loaded");
        Ok(Self {
            loaded: Mutex::new(loaded),
            scale: lora.scale,
            identity,
        })
    }

    /// Applies the adapter to a context. Returns `false` if llama.cpp refuses it.
    pub(crate) fn lay_over(&self, context: &mut LlamaContext<'_>) -> bool {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        context.lora_adapter_set(&mut loaded, self.scale).is_ok()
    }
}

/// Reads the header of an adapter and checks that the adapter fits the model.
pub(crate) fn read(lora: &Lora, base: &Gguf) -> Result<Gguf, LoadError> {
    if !lora.scale.is_finite() {
        return Err(LoadError::Setting(format!(
            "the scale of a LoRA adapter is {}; it must be a finite number",
            lora.scale
        )));
    }
    Ok(Gguf::read_adapter(&lora.path, base)?)
}

/// A hash of the whole file, because adapters from one training differ only in their numbers.
fn identity(lora: &Lora) -> std::io::Result<String> {
    let mut file = File::open(&lora.path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 18];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => hash.update(&chunk[..read]),
        }
    }
    let start = hash
        .finalize()
        .iter()
        .take(16)
        .fold(0_u128, |number, &byte| number << 8 | u128::from(byte));
    Ok(format!("{start:032x} at {}", lora.scale))
}
