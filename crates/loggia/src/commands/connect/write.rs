//! Reads and replaces files of settings. A file is replaced in one step, and the old one is kept.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
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
    let real = destination(path);
    let write = || -> io::Result<Option<PathBuf>> {
        if let Some(folder) = real.parent() {
            fs::create_dir_all(folder)?;
        }
        let backup = if exists {
            Some(backed_up(&real)?)
        } else {
            None
        };
        let old = exists.then(|| fs::metadata(&real)).transpose()?;
        let permissions = old.as_ref().map(fs::Metadata::permissions);
        let new = beside(&real, ".loggia-new");
        let written = write_new(&new, permissions, text).and_then(|()| fs::rename(&new, &real));
        if written.is_err() {
            // If this fails too, the message has nothing more to report.
            let _ = fs::remove_file(&new);
        }
        written.map(|()| backup)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The file to replace. Dotfiles are often links into a folder under version control: the link
/// stays, also if there is no file yet where it leads.
fn destination(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    match (fs::read_link(path), path.parent()) {
        (Ok(target), Some(folder)) => folder.join(target),
        _ => path.to_owned(),
    }
}

/// Writes a new file. Its permissions are set before its text is written, because the text may
/// contain keys.
fn write_new(path: &Path, permissions: Option<Permissions>, text: &str) -> io::Result<()> {
    // A file that an earlier run left behind may have other permissions.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if let Some(permissions) = &permissions {
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        options.mode(permissions.mode() & 0o777);
    }
    let mut file = options.open(path)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
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

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_file_that_does_not_exist_stays_one() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("dotfiles/real", &link).unwrap();
        assert_eq!(read(&link).unwrap(), None);
        assert_eq!(replace(&link, false, "1").unwrap(), None);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            read(&folder.path().join("dotfiles/real")).unwrap().unwrap(),
            "1"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_text_is_never_in_a_file_that_others_may_read_if_the_old_one_was_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("new");
        fs::write(&new, "left behind, for all to read").unwrap();
        // The new file cannot be written into: only users who may read the old file could open it
        // before.
        let mut open = fs::File::open(&new).unwrap();
        write_new(&new, Some(Permissions::from_mode(0o600)), "secret").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut open, &mut text).unwrap();
        assert_eq!(text, "left behind, for all to read");
        assert_eq!(
            fs::metadata(&new).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
