//! NDJSON: one JSON value per line.

use std::io;

use bytes::BufMut;
use serde::Serialize;

/// Writes `value` as one line into `out`, without an intermediate buffer.
///
/// A raw value may be JSON over several lines. Its line breaks become spaces, which mean the same:
/// JSON allows line breaks only outside of strings.
///
/// # Errors
/// Fails if `value` cannot be written as JSON (for example a map whose keys are not strings); `out`
/// may then contain a part of it.
pub fn write(out: &mut impl BufMut, value: &impl Serialize) -> serde_json::Result<()> {
    serde_json::to_writer(OneLine((&mut *out).writer()), value)?;
    out.put_u8(b'\n');
    Ok(())
}

/// Writes line breaks as spaces.
struct OneLine<W>(W);

impl<W: io::Write> io::Write for OneLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
        match bytes.iter().position(is_break) {
            Some(0) => self.0.write_all(b" ").map(|()| 1),
            Some(before) => self.0.write(&bytes[..before]),
            None => self.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_raw_value_over_several_lines_is_written_as_one() {
        let text = "{\r\n  \"a\": [\n\n1,\r2],\n  \"b\": \"line\\nbreak\"\n}";
        let value: &RawValue = serde_json::from_str(text).unwrap();
        let mut out = Vec::new();
        write(&mut out, &[value, value]).unwrap();
        let line = out.strip_suffix(b"\n").unwrap();
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
        let read: Vec<serde_json::Value> = serde_json::from_slice(line).unwrap();
        let whole: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(read, [whole.clone(), whole]);
    }
}
