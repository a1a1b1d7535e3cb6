//! The context of models that no setting gives one: as long as they were trained for, as far as the
//! memory allows.

use std::fmt::Write as _;

use bytesize::ByteSize;
use loggia_llama::ModelKind;

use super::model_spec::ModelSpec;
use crate::config::Config;

/// The part of the memory for all models that their contexts get together.
const PART: u64 = 4;

/// The longest default. Its memory is written to when a model is loaded, which takes time, and few
/// requests need more.
const MOST: u32 = 32_768;

/// The figures that a model's default context depends on.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// The bytes of the whole model with the shortest default.
    bytes: u64,
    /// The bytes of that context for all parallel requests.
    cache: u64,
    /// The shortest default context, in tokens.
    shortest: u32,
    /// The longest context that is sensible for the model.
    longest: u32,
}

/// Gives each model a context, unless a setting has it. `memory` is the limit for all models; if it
/// is unknown, as in GPU builds, the engine's own default stays.
pub(super) fn give_contexts(specs: &mut [ModelSpec], config: &Config, memory: Option<u64>) {
    let Some(memory) = memory.filter(|_| config.context.is_none()) else {
        return;
    };
    let needs: Vec<_> = specs.iter().map(need).collect();
    for (spec, context) in specs.iter_mut().zip(contexts(&needs, memory)) {
        spec.context = context;
    }
}

/// `None` for embedding and reranking models, and for files that cannot be read.
fn need(spec: &ModelSpec) -> Option<Need> {
    let forecast = spec.forecast().ok()?;
    // Without the trained context in the file, it is unknown whether the model supports longer
    // contexts.
    let trained = forecast.trained_context?;
    (forecast.kind == ModelKind::Text).then(|| Need {
        bytes: forecast.bytes(),
        // The draft model has a context too.
        cache: forecast.cache.saturating_add(forecast.draft),
        shortest: forecast.context,
        longest: trained.clamp(forecast.context, MOST.max(forecast.context)),
    })
}

/// The default contexts: the longest one for each model, halved until all fit. Because of the
/// halving, they are mostly the same at each start, although the available memory differs, and
/// cached prompts on disk remain valid.
fn contexts(needs: &[Option<Need>], memory: u64) -> Vec<Option<u32>> {
    let count = needs.len().max(1) as u64;
    let all = needs.iter().flatten().map(|need| need.bytes);
    let all = all.fold(0, u64::saturating_add);
    // Models that do not fit together are not loaded together.
    let left = |need: &Need| {
        if all <= memory {
            (memory - all) / count
        } else {
            memory.saturating_sub(need.bytes)
        }
    };
    let context = |need: &Need| {
        let budget = (memory / PART / count).min(need.cache.saturating_add(left(need)));
        let bytes = |context: u32| {
            let all = u128::from(need.cache) * u128::from(context);
            all / u128::from(need.shortest.max(1))
        };
        let mut context = need.longest;
        while context > need.shortest && bytes(context) > u128::from(budget) {
            context = (context / 2).max(need.shortest);
        }
        context
    };
    needs
        .iter()
        .map(|need| need.as_ref().map(context))
        .collect()
}

/// The lines of `loggia check`.
pub(super) fn report(specs: &[ModelSpec]) -> String {
    let mut text = String::new();
    for spec in specs.iter().filter(|spec| spec.whisper.is_none()) {
        let name = &spec.name;
        let forecast = match spec.forecast() {
            Ok(forecast) => forecast,
            Err(why) => {
                let _ = writeln!(text, "# {name} CANNOT BE LOADED: {why}");
                continue;
            }
        };
        let context = forecast.context;
        let of_each = match forecast.kind {
            ModelKind::Text => {
                let memory = ByteSize(forecast.cache).display().iec();
                format!("each of {} requests, {memory}", spec.parallel)
            }
            ModelKind::Embedding => "each text".to_owned(),
            ModelKind::Reranking => "a query and a document together".to_owned(),
        };
        let _ = writeln!(text, "# context of {name}: {context} tokens for {of_each}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn need(weights: u64, of_4096: u64, longest: u32) -> Need {
        Need {
            bytes: (weights + of_4096) * MIB,
            cache: of_4096 * MIB,
            shortest: 4096,
            longest,
        }
    }

    fn chosen(needs: &[Need], memory: u64) -> Vec<u32> {
        let needs: Vec<_> = needs.iter().copied().map(Some).collect();
        let contexts = contexts(&needs, memory * MIB);
        contexts
            .into_iter()
            .map(Option::unwrap_or_default)
            .collect()
    }

    #[test]
    fn a_context_is_as_long_as_a_quarter_of_the_memory_allows() {
        // The default model: 360 MiB for 4 × 4,096 tokens, and trained for twice as many.
        assert_eq!(chosen(&[need(100, 360, 8192)], 16_000), [8192]);
        assert_eq!(chosen(&[need(100, 360, 8192)], 2_000), [4096]);
        // An 8B model: 2 GiB for 4 × 4,096 tokens.
        assert_eq!(chosen(&[need(5_000, 2_048, 32_768)], 128_000), [32_768]);
        assert_eq!(chosen(&[need(5_000, 2_048, 32_768)], 64_000), [16_384]);
        assert_eq!(chosen(&[need(5_000, 2_048, 32_768)], 16_000), [4096]);
    }

    #[test]
    fn models_share_it_and_leave_what_others_need() {
        let small = need(100, 360, 8192);
        assert_eq!(chosen(&[small, small], 6_000), [8192, 8192]);
        assert_eq!(chosen(&[small, small], 5_000), [4096, 4096]);
        // Weights that leave no more than the shortest context.
        assert_eq!(chosen(&[need(7_500, 400, 32_768)], 8_000), [4096]);
        // Embedding models and models of unknown length have no default context.
        assert_eq!(contexts(&[None, Some(small)], 16_000 * MIB)[0], None);
    }

    #[test]
    fn a_model_without_keys_and_values_has_the_longest() {
        assert_eq!(chosen(&[need(100, 0, 32_768)], 1_000), [32_768]);
    }
}
