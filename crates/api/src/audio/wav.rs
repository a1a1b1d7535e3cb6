//! Checks that the head of a WAV file tells the truth about its length. An engine that believes it
//! would reserve memory for sound that is not there.

/// From this length on, the length in a head is not the real one: a program that records to a pipe
/// cannot go back and correct it. ffmpeg writes 0xFFFFFFFF, arecord 0x80000000, `SoX` a little less
/// than 0x7FFFFFFF.
const UNKNOWN: u32 = 0x7FFF_0000;

/// Returns the bytes of sound that a WAV file announces, if that is more than it has. `beginning` is
/// the beginning of the file, `length` its size.
pub(super) fn announces_more(beginning: &[u8], length: u64) -> Option<u32> {
    let chunks = beginning.strip_prefix(b"RIFF")?.get(4..)?;
    let mut rest = chunks.strip_prefix(b"WAVE")?;
    let mut at = 12;
    loop {
        let (head, after) = rest.split_at_checked(8)?;
        let size = u32::from_le_bytes(head[4..].try_into().ok()?);
        at += 8;
        if head.starts_with(b"data") {
            let is_more = u64::from(size) > length.saturating_sub(at);
            return Some(size).filter(|size| is_more && *size < UNKNOWN);
        }
        // A chunk is padded to an even size.
        let padded = u64::from(size) + u64::from(size % 2);
        at += padded;
        rest = after.get(usize::try_from(padded).ok()?..)?;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a file whose head announces so many bytes.
    pub(crate) fn file(announced: u32, sound: &[u8]) -> Vec<u8> {
        let mut file =
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0".to_vec();
        file.extend_from_slice(b"LIST\x03\0\0\0abc\0data");
        file.extend_from_slice(&announced.to_le_bytes());
        file.extend_from_slice(sound);
        file
    }

    #[test]
    fn a_length_that_is_more_than_the_file_has_is_found() {
        let check = |file: &[u8]| announces_more(file, file.len() as u64);
        assert_eq!(check(&file(4, b"abcd")), None);
        assert_eq!(check(&file(5, b"abcd")), Some(5));
        assert_eq!(check(&file(2_000_000_000, b"abcd")), Some(2_000_000_000));
        // A file that is longer than the part of it that was read.
        assert_eq!(announces_more(&file(900, b"abcd"), 4096), None);
        for unknown in [0, 0x7FFF_F000, 0x8000_0000, u32::MAX] {
            assert_eq!(check(&file(unknown, b"abcd")), None, "{unknown:x}");
        }
        let whole = file(4, b"abcd");
        for end in 0..whole.len() - 4 {
            assert_eq!(check(&whole[..end]), None);
        }
        assert_eq!(check(b"ID3 an MP3 file"), None);
    }
}
