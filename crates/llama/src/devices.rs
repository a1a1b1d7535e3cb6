//! The devices that a model is computed on: GPUs, if the build supports them and the machine has
//! them, and the processor.

use llama_cpp_2::{
    LlamaBackendDevice, LlamaBackendDeviceType as Kind, list_llama_ggml_backend_devices,
};

use crate::error::LoadError;

/// Describes the devices for a model with these `gpu_layers`, for example `Vulkan0 (AMD Radeon RX
/// 7900 XTX), CPU (AMD Ryzen 9 7950X)`. llama.cpp must be initialized.
///
/// # Errors
/// If there is no device at all, or if `gpu_layers` needs a GPU and there is none.
pub(crate) fn for_layers(gpu_layers: Option<u32>) -> Result<String, LoadError> {
    choose(&list_llama_ggml_backend_devices(), gpu_layers)
}

fn choose(devices: &[LlamaBackendDevice], gpu_layers: Option<u32>) -> Result<String, LoadError> {
    if !devices.iter().any(|device| device.device_type == Kind::Cpu) {
        return Err(LoadError::Libraries);
    }
    let is_gpu =
        |device: &LlamaBackendDevice| matches!(device.device_type, Kind::Gpu | Kind::IntegratedGpu);
    if gpu_layers.is_some_and(|layers| layers > 0) && !devices.iter().any(is_gpu) {
        return Err(LoadError::NoGpu);
    }
    let used = devices
        .iter()
        .filter(|device| !is_gpu(device) || gpu_layers != Some(0));
    Ok(used.map(name).collect::<Vec<_>>().join(", "))
}

fn name(device: &LlamaBackendDevice) -> String {
    let LlamaBackendDevice {
        name, description, ..
    } = device;
    if description.is_empty() || description == name {
        name.clone()
    } else {
        format!("{name} ({description})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, description: &str, device_type: Kind) -> LlamaBackendDevice {
        LlamaBackendDevice {
            index: 0,
            name: name.to_owned(),
            description: description.to_owned(),
            backend: name.to_owned(),
            memory_total: 0,
            memory_free: 0,
            device_type,
        }
    }

    #[test]
    fn a_gpu_is_used_unless_no_layer_is_for_it() {
        let devices = [
            device("Vulkan0", "A card", Kind::Gpu),
            device("CPU", "A processor", Kind::Cpu),
        ];
        for layers in [None, Some(1), Some(99)] {
            assert_eq!(
                choose(&devices, layers).unwrap(),
                "Vulkan0 (A card), CPU (A processor)"
            );
        }
        assert_eq!(choose(&devices, Some(0)).unwrap(), "CPU (A processor)");
    }

    #[test]
    fn layers_for_a_gpu_that_is_not_there_are_refused() {
        let processor = [device("CPU", "CPU", Kind::Cpu)];
        assert!(matches!(choose(&processor, Some(1)), Err(LoadError::NoGpu)));
        assert_eq!(choose(&processor, None).unwrap(), "CPU");
        assert_eq!(choose(&processor, Some(0)).unwrap(), "CPU");
    }

    #[test]
    fn a_program_whose_libraries_are_gone_says_so() {
        assert!(matches!(choose(&[], None), Err(LoadError::Libraries)));
    }
}
