//! The libraries of a portable build. They contain ggml's compute code once for each generation of
//! processors; the best one for this processor is loaded at the start. ggml itself chooses it: each
//! library reports how well it fits, before any other code of it runs.
//!
//! Other builds do not use this module: their only library is part of the program.

use std::path::{Path, PathBuf};

/// The file name prefixes of all ggml libraries, and of those that compute on processors.
const ANY: &str = "libggml-";
const FOR_PROCESSORS: &str = "libggml-cpu-";

/// Loads the best library of each kind. It must be called before llama.cpp is initialized. If it
/// finds no library, llama.cpp has no device to compute on.
pub(crate) fn load() {
    let program = std::env::current_exe().ok();
    match program
        .as_deref()
        .and_then(|program| folder(program, holds_libraries))
    {
        // llama.cpp only accepts UTF-8.
        Some(folder) if folder.to_str().is_some() => {
            llama_cpp_2::llama_backend::load_backends_from_path(&folder)
        }
        Some(folder) => {
            tracing::error!(folder = %folder.display(), "the name of the libraries' folder is not valid UTF-8")
        }
        // Cargo puts tests and examples elsewhere; they load the libraries from the build folder.
        None => llama_cpp_2::llama_backend::load_backends(),
    }
}

/// The folder with the libraries. `make dist` puts them into `lib/loggia`, beside `bin`. They may
/// also be in the folder of the program, for users who unpack everything into one folder.
fn folder(program: &Path, holds_libraries: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let bin = program.parent()?;
    let beside_bin = bin.parent().map(|root| root.join("lib/loggia"));
    beside_bin
        .into_iter()
        .chain([bin.to_owned()])
        .find(|folder| holds_libraries(folder))
}

fn holds_libraries(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.into_iter().any(|file| {
        file.file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(ANY))
    })
}

/// The processor generation of the loaded library, as ggml names it: `haswell`, `zen4`. `None` if
/// the operating system does not list the loaded libraries.
pub(crate) fn loaded_for() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(generation).map(str::to_owned)
}

/// The processor generation in a line of `/proc/self/maps`, if the line ends with the path of such
/// a library.
fn generation(line: &str) -> Option<&str> {
    let name = line.rsplit('/').next()?;
    name.strip_prefix(FOR_PROCESSORS)?.split('.').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_lie_beside_bin_or_beside_the_program() {
        let program = Path::new("/opt/loggia-0.1.0/bin/loggia");
        let found = |there: &str| folder(program, |folder| folder == Path::new(there));
        assert_eq!(
            found("/opt/loggia-0.1.0/lib/loggia"),
            Some("/opt/loggia-0.1.0/lib/loggia".into())
        );
        assert_eq!(
            found("/opt/loggia-0.1.0/bin"),
            Some("/opt/loggia-0.1.0/bin".into())
        );
        assert_eq!(found("/usr/lib"), None);
        assert_eq!(folder(Path::new("/"), |_| true), None);
    }

    #[test]
    fn the_loaded_library_says_which_processors_it_is_for() {
        let line = "7f0c-7f0d r-xp 00002000 fe:00 3817 /opt/a folder/lib/loggia/libggml-cpu-zen4.so.0.16.1";
        assert_eq!(generation(line), Some("zen4"));
        assert_eq!(
            generation("7f0c-7f0d r-xp 00002000 fe:00 3817 /lib/libggml-base.so.0"),
            None
        );
        assert_eq!(generation("7f0c-7f0d rw-p 00000000 00:00 0"), None);
    }

    #[test]
    fn this_very_process_has_one_loaded() {
        crate::weights::backend();
        assert!(loaded_for().is_some() || !cfg!(target_os = "linux"));
    }
}
