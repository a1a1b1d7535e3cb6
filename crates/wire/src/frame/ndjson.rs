//! NDJSON: one JSON value per line.

use bytes::BufMut;
use serde::Serialize;

/// Writes `value` as one line into `out`, without an intermediate buffer.
///
/// # Errors
/// Fails if `value` cannot be written as JSON (for example a map whose keys are not strings); `out`
/// may then contain a part of it.
pub fn write(out: &mut impl BufMut, value: &impl Serialize) -> serde_json::Result<()> {
    serde_json::to_writer((&mut *out).writer(), value)?;
    out.put_u8(b'\n');
    Ok(())
}
