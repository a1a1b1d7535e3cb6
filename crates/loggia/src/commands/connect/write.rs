//! Reads and replaces files of settings. A file is replaced in one step, and the old one is kept.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The maximum number of backups of one file.
const BACKUPS: u32 = 1000;

/// Reads a file. `None` if it does not exist.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error)
            .with_context(|| format!("nothing was written: cannot read {}", path.display())),
    }
}

/// Writes a file; keeps the old one, if it exists, under another name, and returns that name.
pub(super) fn replace(path: &Path, exists: bool, text: &str) -> anyhow::Result<Option<PathBuf>> {
    // Dotfiles are often links into a folder under version control: the link stays.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let write = || -> io::Result<Option<PathBuf>> {
        if let Some(folder) = real.parent() {
            fs::create_dir_all(folder)?;
        }
        let backup = if exists {
            Some(backed_up(&real)?)
        } else {
            None
        };
        let new = beside(&real, ".loggia-new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if exists {
            fs::set_permissions(&new, fs::metadata(&real)?.permissions())?;
        }
        fs::rename(&new, &real)?;
        Ok(backup)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Copies a file to the first free name `NAME.loggia-backup-N`.
fn backed_up(path: &Path) -> io::Result<PathBuf> {
    for number in 1..=BACKUPS {
        let backup = beside(path, &format!(".loggia-backup-{number}"));
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&backup)
        {
            Ok(_) => {
                fs::copy(path, &backup)?;
                return Ok(backup);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("there are too many backups of it"))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_every_old_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(replace(&path, false, "1").unwrap(), None);
        let first = replace(&path, true, "2").unwrap().unwrap();
        let second = replace(&path, true, "3").unwrap().unwrap();
        let texts = [&path, &first, &second].map(|file| read(file).unwrap().unwrap());
        assert_eq!(texts, ["3", "1", "2"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_one_and_permissions_stay_as_they_are() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "1").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&real, &link).unwrap();
        let backup = replace(&link, true, "2").unwrap().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        for file in [&real, &backup] {
            assert_eq!(
                fs::metadata(file).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        assert_eq!(read(&real).unwrap().unwrap(), "2");
    }
}
