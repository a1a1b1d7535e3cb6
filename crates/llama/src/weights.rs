//! Loads the weights of a file with llama.cpp: those of a model, of a draft model and of an
//! embedding model.

use std::path::Path;
use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

use crate::error::LoadError;
use crate::{devices, processor};

/// Whether a model keeps one state for all tokens instead of one for each token. Such a model
/// cannot remove a token again.
pub(crate) fn keeps_one_state(llama: &LlamaModel) -> bool {
    llama.is_recurrent() || llama.is_hybrid()
}

/// Loads a file with llama.cpp. The header must have been checked before. Also returns the
/// description of the devices.
pub(crate) fn load_weights(
    path: &Path,
    gpu_layers: Option<u32>,
) -> Result<(LlamaModel, String), LoadError> {
    processor::check()?;
    let llama_cpp = backend();
    let devices = devices::for_layers(gpu_layers)?;
    let params = LlamaModelParams::default();
    let params = match gpu_layers {
        Some(layers) => params.with_n_gpu_layers(layers),
        None => params,
    };
    let refused = |_| LoadError::Refused {
        path: path.to_owned(),
    };
    let llama = LlamaModel::load_from_file(llama_cpp, path, &params).map_err(refused)?;
    Ok((llama, devices))
}

/// llama.cpp's global state. It is initialized once and kept until the process ends. From then on,
/// llama.cpp's log goes to `tracing`.
pub(crate) fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        send_logs_to_tracing(LogOptions::default());
        #[cfg(feature = "portable")]
        crate::libraries::load();
        // This fails only if llama.cpp was initialized before, and only this line initializes it.
        LlamaBackend::init().unwrap_or(LlamaBackend {})
    })
}
