//! The identity of a state on disk. It depends on the model, the adapter, the projector, the
//! engine, and its sizes.

use sha2::{Digest, Sha256};

use crate::engine::sizes::Sizes;
use crate::gguf::Gguf;
use crate::identity::LLAMA_CPP;
use crate::model::Model;
use crate::options::LlamaOptions;

/// A digest of everything that a state depends on. The number of slots is part of the state's
/// format, and some models place their tokens differently in a longer context.
pub(in crate::engine) fn identity(model: &Model, options: &LlamaOptions, sizes: Sizes) -> [u8; 32] {
    let projector = options.mmproj.as_ref().and_then(|path| {
        let gguf = Gguf::read_projector(path).ok()?;
        Some(format!("{} {}", gguf.identity(), gguf.changed(path)))
    });
    let types = sizes.cache_types;
    let parts = [
        &model.facts.identity,
        &model.facts.changed,
        &projector.unwrap_or_default(),
        &format!("{} {}", types.keys, types.values),
        LLAMA_CPP,
        env!("CARGO_PKG_VERSION"),
        &format!("{} {}", sizes.context, sizes.parallel),
    ];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}
