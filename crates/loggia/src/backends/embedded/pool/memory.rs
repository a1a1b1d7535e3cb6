//! Memory: which models fit together, and which one is unloaded for another.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use bytesize::ByteSize;
use loggia_backend::BackendError;
use loggia_llama::Forecast;

use super::super::model_spec::ModelSpec;
use super::entry::State;
use super::{Entry, Pool};

impl Pool {
    /// Fails if a model needs more than the limit for all models.
    pub(super) fn fits_at_all(&self, at: usize, models: &[Entry]) -> Result<(), BackendError> {
        match (self.memory, models[at].forecast) {
            (Some(memory), Some(forecast)) if forecast.bytes() > memory => {
                let message = too_large(&self.specs[at], &forecast, memory);
                Err(BackendError::Engine { message })
            }
            _ => Ok(()),
        }
    }

    /// Whether a model fits in addition to the loaded ones.
    pub(super) fn has_room(&self, at: usize, models: &[Entry]) -> bool {
        let Some(memory) = self.memory else {
            return true;
        };
        let all = models.iter().zip(&self.specs).enumerate();
        let beside = all.filter(|(other, (entry, _))| *other == at || entry.has_memory());
        let forecasts =
            beside.filter_map(|(_, (entry, spec))| Some((spec.file.as_path(), entry.forecast?)));
        together(forecasts) <= memory
    }

    /// Unloads the model that has been idle for longest, unless one is being unloaded already.
    pub(super) fn make_room(self: &Arc<Self>, models: &mut [Entry]) {
        let is_unloading = |entry: &Entry| matches!(entry.state, State::Unloading);
        if models.iter().any(is_unloading) {
            return;
        }
        let idle = models.iter().enumerate();
        let idle = idle.filter_map(|(at, entry)| Some((entry.idle_since()?, at)));
        if let Some((_, at)) = idle.min() {
            self.unload(at, &mut models[at], "another model needs its memory");
        }
    }
}

/// The message about a model that is too large.
fn too_large(spec: &ModelSpec, forecast: &Forecast, memory: u64) -> String {
    let Forecast {
        weights,
        adapter,
        projector,
        draft,
        cache,
        prompt_cache,
        compute,
        context,
        ..
    } = *forecast;
    let (parallel, name) = (spec.parallel, &spec.name);
    let show = |bytes| ByteSize(bytes).display().iec().to_string();
    if spec.whisper.is_some() {
        return format!(
            "the model `{name}` needs {} of memory ({} of weights as 32-bit numbers, {} to compute) and {} may be used: take \
             a smaller Whisper model, or raise --memory",
            show(forecast.bytes()),
            show(weights),
            show(compute),
            show(memory),
        );
    }
    let of_draft = if draft > 0 {
        format!(", {} for its draft", show(draft))
    } else {
        String::new()
    };
    let of_prompts = if prompt_cache > 0 {
        format!(", {} for cached prompts", show(prompt_cache))
    } else {
        String::new()
    };
    format!(
        "the model `{name}` needs {} of memory ({} of weights, {} for {parallel} × {context} tokens of context, {} to \
         compute in{of_draft}{of_prompts}) and {} may be used: lower --context or --parallel, take a smaller quantisation, or raise --memory",
        show(forecast.bytes()),
        show(weights.saturating_add(adapter).saturating_add(projector)),
        show(cache),
        show(compute),
        show(memory),
    )
}

/// The memory of several models. The part that models from the same file share counts once.
fn together<'a>(models: impl Iterator<Item = (&'a Path, Forecast)>) -> u64 {
    let (mut files, mut bytes) = (HashSet::new(), 0_u64);
    for (file, forecast) in models {
        let shared = if files.insert(file) {
            0
        } else {
            forecast.shared
        };
        bytes = bytes.saturating_add(forecast.bytes().saturating_sub(shared));
    }
    bytes
}

/// The default memory limit: the memory that is available now on the machine or in the container.
/// `None` in GPU builds, because the weights may be in the GPU's memory.
pub(in super::super) fn of_this_machine() -> Option<u64> {
    if cfg!(any(feature = "cuda", feature = "metal", feature = "vulkan")) {
        return None;
    }
    available()
}

/// The memory that is available now on the machine or in the container.
pub(in super::super) fn available() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let of_container = system
        .cgroup_limits()
        .map_or(u64::MAX, |limits| limits.free_memory);
    Some(system.available_memory().min(of_container)).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::forecast;
    use super::*;

    #[test]
    fn models_from_one_file_have_what_they_share_once() {
        let base = forecast(100, 80);
        let adapted = Forecast {
            adapter: 7,
            cache: 20,
            ..base
        };
        let of = |all: &[(&str, Forecast)]| {
            together(
                all.iter()
                    .map(|(file, forecast)| (Path::new(*file), *forecast)),
            )
        };
        assert_eq!(of(&[("a", base)]), 100);
        assert_eq!(of(&[("a", base), ("b", base)]), 200);
        assert_eq!(of(&[("a", base), ("a", adapted)]), 100 + 20 + 7 + 20);
        assert_eq!(
            of(&[("a", adapted), ("b", base), ("a", adapted)]),
            127 + 100 + 47
        );
    }
}
