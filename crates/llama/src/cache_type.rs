//! [`CacheType`]: the number format of keys and values in the KV cache, and which models cannot use
//! it.

use std::fmt;

use llama_cpp_2::context::params::KvCacheType;

use crate::error::LoadError;
use crate::gguf::Gguf;

/// The numbers of a block, in formats that quantise blocks.
const BLOCK: u64 = 32;

/// The number format of keys or values in the KV cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheType {
    /// 16 bits, without a noticeable loss.
    #[default]
    F16,
    /// 8.5 bits: nearly half the memory.
    Q8_0,
    /// 4.5 bits: little more than a quarter of the memory. Answers can get worse.
    Q4_0,
}

impl CacheType {
    /// The bytes that this number of values takes. The number must be a multiple of the block.
    pub(crate) fn bytes(self, numbers: u64) -> u64 {
        let of_block = match self {
            Self::F16 => 2 * BLOCK,
            Self::Q8_0 => 2 + BLOCK,
            Self::Q4_0 => 2 + BLOCK / 2,
        };
        numbers.saturating_mul(of_block) / BLOCK
    }

    fn is_quantised(self) -> bool {
        self != Self::F16
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        })
    }
}

impl From<CacheType> for KvCacheType {
    fn from(of: CacheType) -> Self {
        match of {
            CacheType::F16 => Self::F16,
            CacheType::Q8_0 => Self::Q8_0,
            CacheType::Q4_0 => Self::Q4_0,
        }
    }
}

/// The types of keys and of values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CacheTypes {
    pub(crate) keys: CacheType,
    pub(crate) values: CacheType,
}

impl CacheTypes {
    /// Checks that the model can have its keys and values in these types. llama.cpp refuses the same
    /// models, but its reason is in the log only.
    pub(crate) fn check(self, gguf: &Gguf) -> Result<(), LoadError> {
        let CacheTypes { keys, values } = self;
        let refused = |setting: &str, of: CacheType, why: &str| {
            Err(LoadError::Setting(format!(
                "{setting} = {of} cannot be used with this model: {why}; use f16"
            )))
        };
        let heads = gguf.of_architecture("attention.head_count").unwrap_or(1);
        let width = gguf.of_architecture("embedding_length").unwrap_or(0);
        for (setting, of, of_a_head) in [
            ("cache_type_k", keys, "attention.key_length"),
            ("cache_type_v", values, "attention.value_length"),
        ] {
            // The header of a recurrent model has 0 heads. Such a model has no keys and values.
            if !of.is_quantised() || heads == 0 {
                continue;
            }
            let usual = gguf.of_architecture(of_a_head).unwrap_or(width / heads);
            // The layers with a sliding window can have other heads.
            let with_window = gguf.of_architecture(&format!("{of_a_head}_swa"));
            for length in [Some(usual), with_window].into_iter().flatten() {
                if !length.is_multiple_of(BLOCK) {
                    let why = format!(
                        "its heads have {length} numbers, which cannot be divided into blocks of {BLOCK}"
                    );
                    return refused(setting, of, &why);
                }
            }
        }
        let architecture = gguf.text("general.architecture");
        if values.is_quantised() && architecture == Some("grok") {
            let why = "quantised values need flash attention, which it does not support";
            return refused("cache_type_v", values, why);
        }
        let keeps_both_as_one = architecture == Some("deepseek4")
            || gguf
                .of_architecture("attention.key_length_mla")
                .is_some_and(|length| length > 0);
        if keys != values && keeps_both_as_one {
            let why = format!(
                "it keeps keys and values as one (MLA), so cache_type_k ({keys}) and cache_type_v ({values}) must be the same"
            );
            return refused("cache_type_v", values, &why);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_the_bytes_of_ggmls_blocks() {
        let bytes = [CacheType::F16, CacheType::Q8_0, CacheType::Q4_0].map(|of| of.bytes(64));
        assert_eq!(bytes, [128, 68, 36]);
    }
}
