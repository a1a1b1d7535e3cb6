//! The processor instructions that the build needs, and the check that this processor has them.
//! Without the check, an illegal instruction in the first matrix product would end the process.
//!
//! On x86-64, `llama-cpp-sys-2` enables the instructions below, whichever machine compiles. For
//! other architectures, it compiles for their baseline. A portable build includes the compute code
//! once for each generation of processors (`libraries`), and runs on every processor.

use crate::error::LoadError;

/// Returns an error if this processor cannot run the build.
pub(crate) fn check() -> Result<(), LoadError> {
    let missing: Vec<&str> = needed()
        .into_iter()
        .filter(|(_, there)| !there)
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(LoadError::Processor {
            missing: missing.join(", "),
        })
    }
}

/// The instructions that the engine computes with, for the log: their names, or a generation of
/// processors that has them.
#[cfg(not(feature = "portable"))]
pub(crate) fn instructions() -> String {
    let mut names: Vec<&str> = needed().into_iter().map(|(name, _)| name).collect();
    names.extend(of_this_very_machine());
    if names.is_empty() {
        format!("{}'s baseline", std::env::consts::ARCH)
    } else {
        names.join(" ")
    }
}

#[cfg(feature = "portable")]
pub(crate) fn instructions() -> String {
    crate::libraries::loaded_for().unwrap_or_else(|| "chosen by ggml".to_owned())
}

/// The instructions that the build needs, and whether this processor has each.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
fn needed() -> Vec<(&'static str, bool)> {
    vec![
        ("SSE4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("AVX", std::arch::is_x86_feature_detected!("avx")),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("FMA", std::arch::is_x86_feature_detected!("fma")),
        ("F16C", std::arch::is_x86_feature_detected!("f16c")),
        ("BMI2", std::arch::is_x86_feature_detected!("bmi2")),
    ]
}

#[cfg(any(not(target_arch = "x86_64"), feature = "portable"))]
fn needed() -> Vec<(&'static str, bool)> {
    Vec::new()
}

/// The instructions that `-C target-cpu=native` enables. They are not checked: with that option,
/// Rust's own code needs them too, so a check here would come too late.
#[cfg(not(feature = "portable"))]
fn of_this_very_machine() -> impl Iterator<Item = &'static str> {
    let built_for = [
        ("AVX512", cfg!(target_feature = "avx512f")),
        ("AVX512_VBMI", cfg!(target_feature = "avx512vbmi")),
        ("AVX512_VNNI", cfg!(target_feature = "avx512vnni")),
        ("AVX512_BF16", cfg!(target_feature = "avx512bf16")),
    ];
    built_for
        .into_iter()
        .filter(|(_, built_for)| *built_for)
        .map(|(name, _)| name)
}
