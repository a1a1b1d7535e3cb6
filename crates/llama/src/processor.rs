//! Whether this processor has the instructions that llama.cpp was compiled for. Without this, the first product of two matrices
//! would end the process with an illegal instruction.
//!
//! `llama-cpp-sys-2` turns these on for x86-64, whichever machine compiles; other architectures build for their baseline.

use crate::error::LoadError;

#[cfg(target_arch = "x86_64")]
pub(crate) fn check() -> Result<(), LoadError> {
    let needed = [
        ("SSE4.2", std::arch::is_x86_feature_detected!("sse4.2")),
        ("AVX", std::arch::is_x86_feature_detected!("avx")),
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("FMA", std::arch::is_x86_feature_detected!("fma")),
        ("F16C", std::arch::is_x86_feature_detected!("f16c")),
        ("BMI2", std::arch::is_x86_feature_detected!("bmi2")),
    ];
    let missing: Vec<&str> = needed.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(LoadError::Processor { missing: missing.join(", ") }) }
}

#[cfg(not(target_arch = "x86_64"))]
#[expect(clippy::unnecessary_wraps, reason = "on x86-64 it can fail")]
pub(crate) fn check() -> Result<(), LoadError> {
    Ok(())
}
