//! Detects the format of a file by its first bytes: GGUF, or formats that people mistake for it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileFormat {
    Gguf,
    Empty,
    /// Weights for the Python package `transformers`.
    Safetensors,
    /// A current `PyTorch` checkpoint.
    Zip,
    /// An old `PyTorch` checkpoint.
    Pickle,
    /// llama.cpp's format before GGUF.
    OldGgml,
    Html,
    /// A placeholder that git leaves in a clone without git-lfs.
    LfsPointer,
    Gzip,
    Json,
    Other,
}

/// The number of bytes that are read.
const FIRST: u64 = 256;

impl FileFormat {
    /// Detects the format of a file.
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        let mut first = Vec::new();
        File::open(file)?.take(FIRST).read_to_end(&mut first)?;
        Ok(Self::of_first(&first))
    }

    fn of_first(first: &[u8]) -> Self {
        let text = String::from_utf8_lossy(first)
            .trim_start()
            .to_ascii_lowercase();
        // Safetensors files begin with the length of a JSON object, and the object.
        let length = first
            .first_chunk::<8>()
            .map(|length| u64::from_le_bytes(*length));
        match first {
            [] => Self::Empty,
            [b'G', b'G', b'U', b'F', ..] => Self::Gguf,
            [b'P', b'K', 3, 4, ..] => Self::Zip,
            [0x80, 2..=5, ..] => Self::Pickle,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [
                b'l' | b't' | b'f' | b'a',
                b'm' | b'j' | b'l',
                b'g',
                b'g',
                ..,
            ] => Self::OldGgml,
            _ if text.starts_with("version https://git-lfs") => Self::LfsPointer,
            _ if text.starts_with("<!doctype") || text.starts_with("<html") => Self::Html,
            _ if length.is_some_and(|length| length < 1 << 32) && first.get(8) == Some(&b'{') => {
                Self::Safetensors
            }
            _ if text.starts_with('{') => Self::Json,
            _ => Self::Other,
        }
    }
}

/// The format as the end of a sentence about a file that should be GGUF.
impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gguf => "it is a GGUF file",
            Self::Empty => "it is empty",
            Self::Safetensors => {
                "it looks like safetensors, which the built-in engine does not load; download the model as GGUF, from a repository whose name \
                 ends in -GGUF"
            }
            Self::Zip => "it looks like a zip archive, as PyTorch's checkpoints are; download the model as GGUF, or unpack the archive",
            Self::Pickle => "it looks like an old PyTorch checkpoint; download the model as GGUF",
            Self::OldGgml => "it looks like GGML, the format before GGUF, which llama.cpp no longer loads; download the model as GGUF",
            Self::Html => "it looks like a web page (HTML); probably the page was saved instead of the file",
            Self::LfsPointer => "it is a git-lfs pointer, not the file itself; run `git lfs pull` in its folder to download the file",
            Self::Gzip => "it looks like a gzip archive; unpack it first",
            Self::Json => "it looks like JSON; the weights are in another file",
            Self::Other => "it does not begin like a GGUF file",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_take_for_a_model_is_recognised() {
        let mut safetensors = 120_u64.to_le_bytes().to_vec();
        safetensors.extend(br#"{"__metadata__":{}}"#);
        for (first, contents) in [
            (&b""[..], FileFormat::Empty),
            (b"GGUF\x03\0\0\0", FileFormat::Gguf),
            (&safetensors, FileFormat::Safetensors),
            (b"PK\x03\x04rest", FileFormat::Zip),
            (b"\x80\x02}q", FileFormat::Pickle),
            (b"lmgg\x01", FileFormat::OldGgml),
            (b"tjgg\x01", FileFormat::OldGgml),
            (b"\n<!DOCTYPE html><html>", FileFormat::Html),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:",
                FileFormat::LfsPointer,
            ),
            (b"\x1f\x8b\x08", FileFormat::Gzip),
            (b"{\"architectures\": []}", FileFormat::Json),
            (b"GGU", FileFormat::Other),
            (b"hello", FileFormat::Other),
        ] {
            assert_eq!(FileFormat::of_first(first), contents, "{first:?}");
        }
    }
}
