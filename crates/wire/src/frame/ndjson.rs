//! NDJSON: one JSON value a line.

use bytes::BufMut;
use serde::Serialize;

/// Writes `value` as one line, straight into `out`.
///
/// # Errors
/// Where `value` cannot be written as JSON (a map whose keys are no strings); `out` may then hold a
/// part of it.
pub fn write(out: &mut impl BufMut, value: &impl Serialize) -> serde_json::Result<()> {
    serde_json::to_writer((&mut *out).writer(), value)?;
    out.put_u8(b'\n');
    Ok(())
}
