//! The time of day, since 1970-01-01, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_OF_A_DAY: i64 = 24 * 60 * 60;

/// Returns the current time in Unix seconds.
pub(crate) fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Returns the number of days since 1970-01-01.
pub(crate) fn today() -> i64 {
    unix_seconds() / SECONDS_OF_A_DAY
}
