//! A folder as a model: its only GGUF file is used.

use std::fs;
use std::path::{Path, PathBuf};

use super::file_format::FileFormat;
use super::filename::FileName;

/// The largest number of files of a folder that are read.
const MOST: usize = 1_000;

/// The largest number of files that an error lists.
const LISTED: usize = 10;

/// Why a folder cannot be used as a model.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("there is no GGUF file in the folder {folder}{}", .instead.map(|what| format!("; one of its files: {what}")).unwrap_or_default())]
    None {
        folder: PathBuf,
        instead: Option<FileFormat>,
    },
    #[error("the folder {folder} has several models; use one of these files: {}", listed(.files))]
    Several {
        folder: PathBuf,
        files: Vec<PathBuf>,
    },
    #[error("cannot read the folder {folder}: {why}")]
    Read { folder: PathBuf, why: String },
}

fn listed(files: &[PathBuf]) -> String {
    let shown = files
        .iter()
        .take(LISTED)
        .map(|file| file.display().to_string())
        .collect::<Vec<_>>()
        .join(", ");
    match files.len().checked_sub(LISTED) {
        Some(more @ 1..) => format!("{shown}, and {more} more"),
        _ => shown,
    }
}

/// The only model in a folder; of a split one, its first part. Projectors are not models.
pub(crate) fn the_model_in(folder: &Path) -> Result<PathBuf, FolderError> {
    let read_error = |error: std::io::Error| FolderError::Read {
        folder: folder.to_owned(),
        why: error.to_string(),
    };
    let entries = fs::read_dir(folder).map_err(read_error)?;
    let mut paths: Vec<PathBuf> = entries
        .take(MOST)
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    let (mut found, mut instead) = (Vec::new(), None);
    for path in paths {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with('.') || !path.is_file() {
            continue;
        }
        // A GGUF file is recognized by its content; its name does not matter.
        match FileFormat::of(&path) {
            Ok(FileFormat::Gguf) if is_a_model(name) => found.push(path),
            Ok(other @ (FileFormat::Safetensors | FileFormat::Zip | FileFormat::LfsPointer)) => {
                instead = instead.or(Some(other));
            }
            _ => {}
        }
    }
    match found.len() {
        0 => Err(FolderError::None {
            folder: folder.to_owned(),
            instead,
        }),
        1 => Ok(found.swap_remove(0)),
        _ => Err(FolderError::Several {
            folder: folder.to_owned(),
            files: found,
        }),
    }
}

/// Whether a file may be a model by its name. Files without `.gguf` may be models.
fn is_a_model(name: &str) -> bool {
    FileName::parse(name)
        .is_none_or(|name| name.is_model() && name.part.is_none_or(|part| part.number == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let found = the_model_in(folder.path());
        let plain = |text: String| {
            text.replace(&format!("{}/", folder.path().display()), "")
                .replace(&folder.path().display().to_string(), "FOLDER")
        };
        found
            .map(|file| plain(file.display().to_string()))
            .map_err(|error| plain(error.to_string()))
    }

    #[test]
    fn the_one_gguf_file_in_a_folder_is_taken_whatever_its_name() {
        let model = ("m.gguf", "GGUF");
        assert_eq!(
            found(&[model, ("README.md", "# hello"), ("mmproj-F16.gguf", "GGUF")]),
            Ok("m.gguf".to_owned())
        );
        assert_eq!(
            found(&[("sha256-0123", "GGUF"), ("sha256-4567", "{}")]),
            Ok("sha256-0123".to_owned())
        );
        let parts = [
            ("m-00001-of-00002.gguf", "GGUF"),
            ("m-00002-of-00002.gguf", "GGUF"),
        ];
        assert_eq!(found(&parts), Ok("m-00001-of-00002.gguf".to_owned()));
    }

    #[test]
    fn several_are_listed_and_none_is_said() {
        let several = found(&[("a.gguf", "GGUF"), ("b.gguf", "GGUF")]).unwrap_err();
        assert_eq!(
            several,
            "the folder FOLDER has several models; use one of these files: a.gguf, b.gguf"
        );
        assert_eq!(
            found(&[("a.txt", "hello")]).unwrap_err(),
            "there is no GGUF file in the folder FOLDER"
        );
        let zip = found(&[("model.bin", "PK\x03\x04")]).unwrap_err();
        assert!(
            zip.starts_with(
                "there is no GGUF file in the folder FOLDER; one of its files: it looks like a zip"
            ),
            "{zip}"
        );
    }
}
