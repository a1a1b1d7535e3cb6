//! The prompt cache of the embedded models: how much memory each gets, and the lines of `loggia check`.

use std::fmt::Write as _;

use bytesize::ByteSize;

use super::model_spec::{ModelSpec, prompt_cache_folder};
use super::pool;
use crate::config::{Config, Size};

/// The part of the memory for all models that their prompt caches get together.
const PART: u64 = 8;

/// The maximum of the default for one model.
const MOST: u64 = 4 << 30;

/// Gives each model the default amount of memory, unless a setting has the amount. `memory` is the
/// limit for all models.
pub(super) fn give_memory(specs: &mut [ModelSpec], config: &Config, memory: Option<u64>) {
    if config.cache_memory.is_some() {
        return;
    }
    let Some(memory) = memory.or_else(pool::available_memory) else {
        return;
    };
    let forecasts: Vec<_> = specs.iter().map(|spec| spec.forecast().ok()).collect();
    let needs = forecasts.iter();
    let needs = needs.map(|forecast| forecast.as_ref().map_or(0, loggia_llama::Forecast::bytes));
    let needs: Vec<u64> = needs.collect();
    for ((spec, forecast), of_model) in specs.iter_mut().zip(forecasts).zip(shares(&needs, memory))
    {
        if forecast.is_some_and(|forecast| spec.continues_texts(&forecast)) {
            spec.cache_memory = of_model;
        }
    }
}

/// The default size of the cache of each model: an equal share of a part of the memory, but no more
/// than the models leave free. `needs` are the bytes of each model without its cache. Models that
/// do not fit together are not loaded together; then each of them has all that it does not need
/// itself.
fn shares(needs: &[u64], memory: u64) -> Vec<u64> {
    let count = needs.len().max(1) as u64;
    let all = needs.iter().copied().fold(0, u64::saturating_add);
    let left = |need: u64| {
        if all <= memory {
            (memory - all) / count
        } else {
            memory.saturating_sub(need)
        }
    };
    needs
        .iter()
        .map(|&need| (memory / PART / count).min(left(need)).min(MOST))
        .collect()
}

/// The lines of `loggia check`.
pub(super) fn report(specs: &[ModelSpec], config: &Config) -> String {
    let show = |bytes| ByteSize(bytes).display().iec().to_string();
    let mut text = String::new();
    let caches = |spec: &&ModelSpec| {
        let forecast = spec.forecast();
        forecast.is_ok_and(|forecast| spec.continues_texts(&forecast))
    };
    for spec in specs.iter().filter(caches) {
        let memory = show(spec.cache_memory);
        let _ = writeln!(
            text,
            "# prompt cache of {}: at most {memory} of memory",
            spec.name
        );
    }
    let on_disk = match config
        .cache_disk
        .map(Size::bytes)
        .filter(|&bytes| bytes > 0)
    {
        None => "off".to_owned(),
        Some(bytes) => format!(
            "at {}, at most {}, not encrypted",
            prompt_cache_folder(config).display(),
            show(bytes)
        ),
    };
    let _ = writeln!(text, "# prompt cache on disk: {on_disk}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn an_eighth_of_the_memory_is_for_prompts_unless_the_models_need_it() {
        assert_eq!(shares(&[GIB], 16 * GIB), [2 * GIB]);
        assert_eq!(shares(&[GIB, 3 * GIB], 16 * GIB), [GIB, GIB]);
        assert_eq!(shares(&[GIB], 64 * GIB), [4 * GIB]);
        assert_eq!(shares(&[7 * GIB], 8 * GIB), [GIB]);
        assert_eq!(shares(&[31 * GIB / 4], 8 * GIB), [GIB / 4]);
        assert_eq!(shares(&[9 * GIB], 8 * GIB), [0]);
        assert_eq!(shares(&[6 * GIB, 6 * GIB], 8 * GIB), [GIB / 2; 2]);
        assert!(shares(&[], GIB).is_empty());
    }
}
