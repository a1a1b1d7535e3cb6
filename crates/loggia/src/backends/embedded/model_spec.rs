//! [`ModelSpec`]: how to load a model. It is sent to the engine's process.

use std::path::PathBuf;
use std::time::Duration;

use loggia_llama::{CacheDisk, Draft, Forecast, LlamaOptions, Lora, ModelKind};
use serde::{Deserialize, Serialize};

use super::super::model_files::{self, Adapter, EmbeddedModel};
use super::super::whisper::Files;
use crate::config::{CacheScope, CacheType, Config, Count, Size, Tokens};

/// A model, its files, and its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelSpec {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// The files, if it is a Whisper model.
    pub(crate) whisper: Option<Files>,
    /// The longest recording that a Whisper model transcribes, and how many recordings wait for it.
    pub(crate) longest_recording: Duration,
    pub(crate) recordings_waiting: usize,
    pub(crate) adapter: Option<Adapter>,
    pub(crate) mmproj: Option<PathBuf>,
    pub(crate) draft: Option<model_files::Draft>,
    pub(crate) context: Option<u32>,
    pub(crate) parallel: u32,
    pub(crate) threads: Option<u32>,
    pub(crate) gpu_layers: Option<u32>,
    pub(crate) fast_forward: bool,
    pub(crate) lookup: bool,
    /// The maximum number of bytes of memory for the prompt cache.
    pub(crate) cache_memory: u64,
    /// The folder of the prompt cache on disk, and the maximum number of its bytes.
    pub(crate) cache_disk: Option<(PathBuf, u64)>,
    pub(crate) cache_scope: CacheScope,
    pub(crate) cache_type_k: CacheType,
    pub(crate) cache_type_v: CacheType,
}

impl ModelSpec {
    pub(super) fn of(model: &EmbeddedModel, config: &Config) -> Self {
        let its = config.per_model.0.get(&model.name);
        let type_k = its.and_then(|its| its.cache_type_k);
        let type_v = its.and_then(|its| its.cache_type_v);
        Self {
            name: model.name.clone(),
            file: model.file.clone(),
            whisper: model.whisper.clone(),
            longest_recording: config.recording_length.0,
            recordings_waiting: usize::try_from(config.queue.get()).unwrap_or(usize::MAX),
            adapter: model.adapter.clone(),
            mmproj: model.mmproj.clone(),
            draft: model.draft.clone(),
            context: config.context.map(Tokens::get),
            parallel: config.parallel.get(),
            threads: config.threads.map(Count::get),
            gpu_layers: config.gpu_layers.map(|layers| layers.0),
            fast_forward: config.fast_forward.0,
            lookup: config.lookup.0,
            cache_memory: config.cache_memory.map_or(0, Size::bytes),
            cache_disk: config
                .cache_disk
                .map(Size::bytes)
                .filter(|&bytes| bytes > 0)
                .map(|bytes| (prompt_cache_folder(config), bytes)),
            cache_scope: *config.cache_scope,
            cache_type_k: type_k.unwrap_or(*config.cache_type_k),
            cache_type_v: type_v.unwrap_or(*config.cache_type_v),
        }
    }

    /// Reads the heads of the model's files and estimates its memory.
    ///
    /// # Errors
    ///
    /// If a file is missing or invalid, or does not fit the others.
    pub(super) fn forecast(&self) -> Result<Forecast, String> {
        match &self.whisper {
            Some(_) if self.adapter.is_some() => Err("a Whisper model takes no adapter".to_owned()),
            Some(files) => forecast_of_whisper(files),
            None => Forecast::of(&self.options()).map_err(|error| error.to_string()),
        }
    }

    /// Whether the model continues texts, which can be cached: neither an embedding or reranking model
    /// nor a Whisper model.
    pub(super) fn continues_texts(&self, forecast: &Forecast) -> bool {
        forecast.kind == ModelKind::Text && self.whisper.is_none()
    }

    /// The options for the engine.
    pub(super) fn options(&self) -> LlamaOptions {
        let lora = |adapter: &Adapter| Lora {
            path: adapter.file.clone(),
            scale: adapter.scale,
        };
        let draft = |draft: &model_files::Draft| Draft {
            path: draft.file.clone(),
            tokens: draft.tokens,
            always: draft.always,
        };
        let cache_disk = |(folder, bytes): &(PathBuf, u64)| CacheDisk {
            folder: folder.clone(),
            bytes: *bytes,
        };
        LlamaOptions {
            lora: self.adapter.as_ref().map(lora),
            mmproj: self.mmproj.clone(),
            draft: self.draft.as_ref().map(draft),
            context: self.context,
            parallel: self.parallel,
            threads: self.threads,
            gpu_layers: self.gpu_layers,
            fast_forward: self.fast_forward,
            lookup: self.lookup,
            cache_memory: self.cache_memory,
            cache_disk: self.cache_disk.as_ref().map(cache_disk),
            cache_scope: match self.cache_scope {
                CacheScope::Server => loggia_llama::CacheScope::Server,
                CacheScope::Key => loggia_llama::CacheScope::Key,
            },
            cache_type_k: of_engine(self.cache_type_k),
            cache_type_v: of_engine(self.cache_type_v),
            ..LlamaOptions::new(&self.file, &self.name)
        }
    }
}

/// The folder of the prompt cache on disk.
pub(super) fn prompt_cache_folder(config: &Config) -> PathBuf {
    config.data_dir.join("prompts")
}

fn of_engine(of: CacheType) -> loggia_llama::CacheType {
    match of {
        CacheType::F16 => loggia_llama::CacheType::F16,
        CacheType::Q8_0 => loggia_llama::CacheType::Q8_0,
        CacheType::Q4_0 => loggia_llama::CacheType::Q4_0,
    }
}

/// Estimates the memory of a Whisper model.
///
/// # Errors
///
/// If a file of the model is missing or invalid.
#[cfg(feature = "whisper")]
fn forecast_of_whisper(files: &Files) -> Result<Forecast, String> {
    let memory = files.memory().map_err(|error| error.to_string())?;
    Ok(Forecast {
        weights: memory.weights,
        compute: memory.compute,
        ..Forecast::default()
    })
}

#[cfg(not(feature = "whisper"))]
fn forecast_of_whisper(files: &Files) -> Result<Forecast, String> {
    match *files {}
}
