//! Adds a GGUF file of this machine to the model folder.
//!
//! It is hard-linked if both are on the same file system, and copied otherwise.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::file_format::FileFormat;
use super::filename;
use super::folder::{self, FolderError};
use super::partial_file::{Part, WriteError};
use super::progress::Progress;

/// Why a file could not be added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddFileError {
    #[error("cannot read {path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error("{path} is not a GGUF file: {contents}")]
    NotGguf { path: PathBuf, contents: FileFormat },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("there already is another {0}; remove it first with `loggia rm`")]
    AddedFile(PathBuf),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A file of a model, and its name in the model folder.
#[derive(Debug)]
pub(crate) struct AddedFile {
    pub(crate) file: PathBuf,
    pub(crate) name: String,
}

/// All files of the model that this file belongs to, checked to be GGUF; of a folder, those of its
/// only model.
///
/// A symbolic link keeps its own name, as in Hugging Face's cache. A name without `.gguf`, as in
/// Ollama's, gets the extension.
pub(crate) fn parts(path: &Path) -> Result<Vec<AddedFile>, AddFileError> {
    let read_error = |path: &Path| {
        let path = path.to_owned();
        move |cause| AddFileError::Read { path, cause }
    };
    let path = if path.is_dir() {
        folder::the_model_in(path)?
    } else {
        path.to_owned()
    };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let parts = filename::all_parts(name);
    let taken = parts.into_iter().map(|name| {
        let part = path.with_file_name(&name);
        let contents = FileFormat::of(&part).map_err(read_error(&part))?;
        if contents != FileFormat::Gguf {
            return Err(AddFileError::NotGguf {
                path: part,
                contents,
            });
        }
        let file = fs::canonicalize(&part).map_err(read_error(&part))?;
        let is_named_so = filename::FileName::parse(&name).is_some();
        Ok(AddedFile {
            file,
            name: if is_named_so {
                name
            } else {
                format!("{name}.gguf")
            },
        })
    });
    taken.collect()
}

/// Adds one file as `target`.
pub(crate) fn add(file: &Path, target: &Path, progress: Progress) -> Result<(), AddFileError> {
    let read_error = |cause| AddFileError::Read {
        path: file.to_owned(),
        cause,
    };
    match fs::hard_link(file, target) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let same = same_bytes(file, target).map_err(read_error)?;
            return if same {
                Ok(())
            } else {
                Err(AddFileError::AddedFile(target.to_owned()))
            };
        }
        // The files are on different file systems, or the file system has no hard links.
        Err(_) => {}
    }
    let mut from = File::open(file).map_err(read_error)?;
    let size = from.metadata().map_err(read_error)?.len();
    let mut part = Part::open(target, size, None)?;
    let mut meter = progress.start(
        &target.file_name().unwrap_or_default().to_string_lossy(),
        size,
    );
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer).map_err(read_error)? {
            0 => break,
            read => part.write(&buffer[..read])?,
        }
        meter.at(part.len());
    }
    part.finish(None)?;
    Ok(())
}

fn same_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    let (a, b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let digest = |file: File| {
        let mut digest = super::digest::Digest::default();
        digest.read(file, |_| ()).map(|()| digest.hex())
    };
    Ok(digest(a)? == digest(b)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_in_with_all_its_parts() {
        let dir = tempfile::tempdir().unwrap();
        let part = |number| dir.path().join(format!("m-0000{number}-of-00002.gguf"));
        fs::write(part(2), "GGUF2").unwrap();
        assert!(matches!(parts(&part(2)), Err(AddFileError::Read { .. })));
        fs::write(part(1), "GGUF1").unwrap();
        assert_eq!(parts(&part(2)).unwrap().len(), 2);
        fs::write(part(1), "what").unwrap();
        assert!(matches!(parts(&part(2)), Err(AddFileError::NotGguf { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_keeps_its_name_and_a_name_without_an_ending_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let (blob, link) = (
            dir.path().join("sha256-0123"),
            dir.path().join("m-Q8_0.gguf"),
        );
        fs::write(&blob, "GGUF1").unwrap();
        std::os::unix::fs::symlink(&blob, &link).unwrap();
        let names = |path: &Path| {
            parts(path)
                .unwrap()
                .into_iter()
                .map(|part| part.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&link), ["m-Q8_0.gguf"]);
        assert_eq!(names(&blob), ["sha256-0123.gguf"]);
        assert_eq!(
            parts(&link).unwrap()[0].file,
            fs::canonicalize(&blob).unwrap()
        );
    }

    #[test]
    fn a_file_does_not_take_the_name_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, target) = (
            dir.path().join("a.gguf"),
            dir.path().join("b.gguf"),
            dir.path().join("t.gguf"),
        );
        fs::write(&a, "GGUF1").unwrap();
        fs::write(&b, "GGUF2").unwrap();
        add(&a, &target, Progress::Lines).unwrap();
        add(&a, &target, Progress::Lines).unwrap();
        assert!(matches!(
            add(&b, &target, Progress::Lines),
            Err(AddFileError::AddedFile(_))
        ));
        assert_eq!(fs::read(&target).unwrap(), b"GGUF1");
    }
}
