//! The file with the keys: one key a line, as base64 or hex. Empty lines and lines that begin with
//! `#` are ignored.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::KeysError;

/// A key.
pub(crate) type Secret = [u8; 32];

/// The longest file that is read.
const MOST_BYTES: u64 = 64 << 10;

/// The beginning of a new file.
const HEAD: &str = "\
# The keys of Loggia, one a line. The first seals new texts, all of them open older ones.
# Without its key, a sealed text cannot be read any more: keep a copy of this file.
";

/// Reads the keys of a file. `None` if there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<Secret>>, KeysError> {
    let failed = |source| KeysError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(MOST_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = parse(line).ok_or_else(|| KeysError::Line {
            path: path.to_owned(),
            line: index + 1,
        })?;
        keys.push(key);
    }
    if keys.is_empty() {
        let path = path.to_owned();
        return Err(KeysError::Empty { path });
    }
    Ok(Some(keys))
}

/// Creates a file with one random key, unless another process creates it at the same time. Only the
/// file's owner can read it.
pub(crate) fn create(path: &Path) -> Result<(), KeysError> {
    write(path, &rand::random()).map_err(|source| KeysError::Create {
        path: path.to_owned(),
        source,
    })
}

fn write(path: &Path, key: &Secret) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    // No process sees a file with half a key: the file gets its name when it is complete.
    let mut file = tempfile::Builder::new()
        .prefix(".keys-")
        .tempfile_in(folder)?;
    file.write_all(HEAD.as_bytes())?;
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    writeln!(file, "{key}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
        // The name is on the disk, too.
        Ok(_) => File::open(folder)?.sync_all(),
    }
}

fn parse(line: &str) -> Option<Secret> {
    let bytes = match line.len() {
        64 => hex(line)?,
        _ => base64(line)?,
    };
    bytes.try_into().ok()
}

fn hex(line: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = line.chars().map(|digit| digit.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
    digits?.chunks_exact(2).map(byte).collect()
}

fn base64(line: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decode = |alphabet| GeneralPurpose::new(alphabet, config).decode(line).ok();
    decode(&STANDARD).or_else(|| decode(&URL_SAFE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<Secret>, KeysError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        std::fs::write(&path, text).expect("a file");
        read(&path).map(|keys| keys.expect("a file"))
    }

    #[test]
    fn keys_are_read_as_hex_and_as_base64_of_both_alphabets_with_and_without_padding() {
        let hex = "FB".repeat(32);
        let text = format!(
            "# comment\n\n{hex}\r\n  {}  \n{}=\n{}\n",
            hex.to_lowercase(),
            "+/v7".repeat(10) + "+/s",
            "-_v7".repeat(10) + "-_s"
        );
        let found = keys(&text).expect("keys");
        let expected: Secret = [0xfb; 32];
        assert_eq!(found, [expected; 4]);
    }

    #[test]
    fn a_line_that_is_no_key_is_an_error_with_its_number_and_without_its_text() {
        let good = "00".repeat(32);
        for bad in [
            "secret",
            "g0g0",
            &"00".repeat(31),
            &"0g".repeat(32),
            &"é".repeat(32),
            &"AAAA".repeat(11),
        ] {
            let error = keys(&format!("# one\n{good}\n{bad}\n")).expect_err(bad);
            assert!(matches!(error, KeysError::Line { line: 3, .. }), "{bad}");
            assert!(!error.to_string().contains(bad));
        }
        assert!(matches!(keys("# none\n"), Err(KeysError::Empty { .. })));
        assert!(matches!(keys(""), Err(KeysError::Empty { .. })));
    }

    #[test]
    fn a_created_file_has_one_key_and_is_never_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deeper/keys");
        assert!(matches!(read(&path), Ok(None)));
        create(&path).expect("a file");
        let first = read(&path).expect("keys").expect("a file");
        assert_eq!(first.len(), 1);
        create(&path).expect("the same file");
        assert_eq!(read(&path).expect("keys"), Some(first));
        let files = std::fs::read_dir(path.parent().expect("a folder"));
        assert_eq!(files.expect("a folder").count(), 1, "nothing is left over");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_a_created_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        create(&path).expect("a file");
        let mode = std::fs::metadata(&path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_created_or_read_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "x").expect("a file");
        let below = file.join("keys");
        assert!(matches!(create(&below), Err(KeysError::Create { .. })));
        assert!(matches!(read(&below), Err(KeysError::Read { .. })));
        assert!(matches!(read(folder.path()), Err(KeysError::Read { .. })));
    }
}
