//! How long objects stay: up to an age since their last change, and up to a size of all together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loggia_api::store::StoreError;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use crate::error::fact;

/// How many objects are deleted in one transaction, so that nobody waits long for the file.
const AT_ONCE: i64 = 100;

/// How long objects stay, and how much room they may take. The oldest go first; the age of an
/// object counts from its last change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long an object stays. `None`: until the size is reached.
    pub age: Option<Duration>,
    /// The bytes that the file may take. An object that would take more than a quarter of that is
    /// refused.
    pub bytes: u64,
}

impl Default for Retention {
    /// 30 days, as OpenAI keeps stored answers, and 4 GiB.
    fn default() -> Self {
        Self {
            age: Some(Duration::from_hours(30 * 24)),
            bytes: 4 << 30,
        }
    }
}

impl Retention {
    /// How many more bytes may be written before the size is looked at again.
    pub(crate) fn step(&self) -> u64 {
        (self.bytes / 64).max(1 << 16)
    }

    /// The bytes past which SQLite itself refuses to grow.
    pub(crate) fn hard_limit(&self) -> u64 {
        self.bytes.saturating_add(self.bytes / 4)
    }

    /// Deletes what is too old.
    pub(crate) async fn expire(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let Some(age) = self.age else { return Ok(()) };
        let oldest = now() - i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let expired = "DELETE FROM objects WHERE seq IN \
            (SELECT seq FROM objects WHERE changed <= $1 ORDER BY changed, seq LIMIT $2)";
        loop {
            let deleted = sqlx::query(expired)
                .bind(oldest)
                .bind(AT_ONCE)
                .execute(&mut *connection)
                .await
                .map_err(|error| fact(&error))?;
            if deleted.rows_affected() == 0 {
                return Ok(());
            }
        }
    }

    /// Deletes the oldest objects until the rest fits.
    pub(crate) async fn shrink(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let oldest = "DELETE FROM objects WHERE seq IN \
            (SELECT seq FROM objects ORDER BY changed, seq LIMIT $1)";
        let mut at_once = 1;
        while used(connection).await.map_err(|error| fact(&error))? > self.bytes {
            let deleted = sqlx::query(oldest)
                .bind(at_once)
                .execute(&mut *connection)
                .await
                .map_err(|error| fact(&error))?;
            if deleted.rows_affected() == 0 {
                return Ok(());
            }
            at_once = AT_ONCE.min(at_once * 2);
        }
        Ok(())
    }
}

/// The bytes of the pages that hold something.
pub(crate) async fn used(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let mut pragma = async |pragma: &'static str| -> Result<i64, sqlx::Error> {
        sqlx::query(pragma)
            .fetch_one(&mut *connection)
            .await?
            .try_get(0)
    };
    let pages = pragma("PRAGMA page_count").await? - pragma("PRAGMA freelist_count").await?;
    let size = pragma("PRAGMA page_size").await?;
    Ok(u64::try_from(pages * size).unwrap_or(0))
}

/// Now, in Unix seconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Now, in Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
