//! The time of day, since 1970-01-01, UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_OF_A_DAY: i64 = 24 * 60 * 60;

/// Returns the current Unix time.
pub(crate) fn unix_time() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Returns the current Unix time in seconds.
pub(crate) fn unix_seconds() -> i64 {
    i64::try_from(unix_time().as_secs()).unwrap_or(i64::MAX)
}

/// Returns the number of days since 1970-01-01.
pub(crate) fn today() -> i64 {
    unix_seconds() / SECONDS_OF_A_DAY
}
