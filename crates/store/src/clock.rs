//! The time of day, since 1970-01-01, UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the current Unix time.
pub(crate) fn unix_time() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Returns the current Unix time in seconds.
pub(crate) fn unix_seconds() -> i64 {
    i64::try_from(unix_time().as_secs()).unwrap_or(i64::MAX)
}

/// Returns the current Unix time in milliseconds.
pub(crate) fn unix_milliseconds() -> i64 {
    i64::try_from(unix_time().as_millis()).unwrap_or(i64::MAX)
}
