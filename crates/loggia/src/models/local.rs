//! A GGUF file that is on this machine already, taken into the store.
//!
//! Linked where both are on one file system, so that it costs no room; copied through a part otherwise.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::filename;
use super::place::{self, Part, PlaceError};
use super::progress::Progress;

/// Why a file could not be taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("cannot read {path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error("{0} is not a GGUF file")]
    NotGguf(PathBuf),
    #[error("there is another {0} already; remove it first with `loggia rm`")]
    Taken(PathBuf),
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Every file of the model this file is one of, checked to be there and to begin as a GGUF file does.
pub(crate) fn parts(file: &Path) -> Result<Vec<PathBuf>, LocalError> {
    let read_error = |path: &Path| {
        let path = path.to_owned();
        move |cause| LocalError::Read { path, cause }
    };
    let file = fs::canonicalize(file).map_err(read_error(file))?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parts: Vec<PathBuf> = filename::all_parts(name).iter().map(|part| file.with_file_name(part)).collect();
    for part in &parts {
        let opened = File::open(part).map_err(read_error(part))?;
        if !place::is_gguf(opened).map_err(read_error(part))? || filename::FileName::parse(name).is_none() {
            return Err(LocalError::NotGguf(part.clone()));
        }
    }
    Ok(parts)
}

/// Brings one file to `target`.
pub(crate) fn take_in(file: &Path, target: &Path, progress: Progress) -> Result<(), LocalError> {
    let read_error = |cause| LocalError::Read { path: file.to_owned(), cause };
    match fs::hard_link(file, target) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let same = same_bytes(file, target).map_err(read_error)?;
            return if same { Ok(()) } else { Err(LocalError::Taken(target.to_owned())) };
        }
        // Another file system, or one that knows no links.
        Err(_) => {}
    }
    let mut from = File::open(file).map_err(read_error)?;
    let size = from.metadata().map_err(read_error)?.len();
    let mut part = Part::open(target, size, None)?;
    let mut meter = progress.start(&target.file_name().unwrap_or_default().to_string_lossy(), size);
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
        assert!(matches!(parts(&part(2)), Err(LocalError::Read { .. })));
        fs::write(part(1), "GGUF1").unwrap();
        assert_eq!(parts(&part(2)).unwrap().len(), 2);
        fs::write(part(1), "what").unwrap();
        assert!(matches!(parts(&part(2)), Err(LocalError::NotGguf(_))));
    }

    #[test]
    fn a_file_does_not_take_the_name_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, target) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"), dir.path().join("t.gguf"));
        fs::write(&a, "GGUF1").unwrap();
        fs::write(&b, "GGUF2").unwrap();
        take_in(&a, &target, Progress::Lines).unwrap();
        take_in(&a, &target, Progress::Lines).unwrap();
        assert!(matches!(take_in(&b, &target, Progress::Lines), Err(LocalError::Taken(_))));
        assert_eq!(fs::read(&target).unwrap(), b"GGUF1");
    }
}
