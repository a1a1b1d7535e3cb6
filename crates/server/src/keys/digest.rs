//! [`KeyDigest`]: the SHA-256 digest of an API key, the only trace of it that the server keeps.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The SHA-256 digest of an API key. A key must be long and random: the digest has no salt and is
/// fast to compute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Hashes a key.
    pub fn of(key: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Compares two digests in constant time.
    pub(crate) fn same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    /// Returns 64 hex digits.
    pub fn hex(&self) -> String {
        let digits =
            |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)]));
        self.0.iter().flat_map(digits).collect()
    }

    /// Parses 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| {
                char::from(pair[at])
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            };
            *byte = digit(0)? << 4 | digit(1)?;
        }
        Some(Self(digest))
    }
}

/// Does not show the digest: a short key can be guessed from it.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_sha256sum_prints_of_the_key() {
        let printed = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert_eq!(KeyDigest::from_hex(printed), Some(KeyDigest::of("secret")));
        assert_eq!(
            KeyDigest::from_hex(&printed.to_uppercase()),
            Some(KeyDigest::of("secret"))
        );
        assert_eq!(KeyDigest::of("secret").hex(), printed);
        for wrong in [
            "",
            "2bb8",
            &format!("{printed}0"),
            &printed.replace('b', "g"),
            &printed.replace("2b", "é"),
        ] {
            assert_eq!(KeyDigest::from_hex(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{:?}", KeyDigest::of("secret")), "KeyDigest(…)");
    }
}
