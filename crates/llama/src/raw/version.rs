//! The version of the library.

use std::ffi::CStr;

/// Returns the version of ggml, the part of llama.cpp that computes, such as `0.26.0`. llama.cpp's
/// own version is a number that only builds from its repository have.
pub fn ggml_version() -> String {
    // SAFETY: the function takes nothing, and returns a constant string that ends with a zero.
    let version = unsafe { CStr::from_ptr(llama_cpp_sys_2::ggml_version()) };
    version.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_has_three_numbers() {
        let version = super::ggml_version();
        let numbers: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
        assert!(
            numbers.len() == 3 && numbers.iter().all(Result::is_ok),
            "{version}"
        );
    }
}
