//! sha256 of files and of arriving bytes, as 64 hex digits in lower case.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// A sha256 that is being computed.
#[derive(Clone, Default)]
pub(crate) struct Digest(Sha256);

impl Digest {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Hashes the rest of the reader; `seen` is called with the size of each step.
    pub(crate) fn read(
        &mut self,
        mut reader: impl Read,
        mut seen: impl FnMut(u64),
    ) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(()),
                read => {
                    self.update(&buffer[..read]);
                    seen(read as u64);
                }
            }
        }
    }

    pub(crate) fn hex(self) -> String {
        use std::fmt::Write as _;
        self.0
            .finalize()
            .iter()
            .fold(String::with_capacity(64), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
                hex
            })
    }
}

/// Whether a text is a sha256 in this form.
pub(crate) fn is_hex(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_same_in_one_piece_and_in_two() {
        let mut two = Digest::default();
        two.update(b"a");
        two.read(&b"bc"[..], |_| ()).unwrap();
        let hex = two.hex();
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(is_hex(&hex) && !is_hex("BA78"));
    }
}
