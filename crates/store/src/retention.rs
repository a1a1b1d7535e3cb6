//! How long objects stay: up to an age since their last change, and up to a size of all together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loggia_api::store::StoreError;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use crate::error::fact;
use crate::sql::{Sql, Statement};

/// How many objects are deleted in one transaction, so that nobody waits long for the file.
const AT_ONCE: i64 = 100;

/// Gives the responses of some age that a younger response continues, directly or through others,
/// the age of that response. `CROSS JOIN` makes SQLite look at the old ones first; there are few.
const KEEP_CONTINUED: &str = "\
    WITH RECURSIVE kept (id, previous, changed) AS ( \
        SELECT older.id, older.previous, newer.changed \
        FROM objects AS older CROSS JOIN objects AS newer \
        WHERE older.changed <= $1 AND newer.previous = older.id AND newer.changed > $1 \
        UNION \
        SELECT older.id, older.previous, kept.changed \
        FROM kept CROSS JOIN objects AS older \
        WHERE older.id = kept.previous AND older.changed <= $1 \
    ) \
    UPDATE objects SET changed = newest.changed \
    FROM (SELECT id, MAX(changed) AS changed FROM kept GROUP BY id) AS newest \
    WHERE objects.id = newest.id";

/// The condition of objects that leave when they are old, or make room: those whose kind does not
/// [stay](loggia_api::store::Kind::stays).
macro_rules! leaves {
    () => {
        "kind NOT IN ('file', 'upload', 'batch')"
    };
}
pub(crate) use leaves;

/// The age of the oldest object that leaves, and one that an eighth of them have.
const AGES: &str = concat!(
    "SELECT MIN(changed) AS oldest, (SELECT changed FROM objects WHERE ",
    leaves!(),
    " ORDER BY changed LIMIT 1 OFFSET (SELECT COUNT(*) / 8 FROM objects WHERE ",
    leaves!(),
    ")) AS old FROM objects WHERE ",
    leaves!(),
    " HAVING COUNT(*) > 0"
);

/// Deletes the oldest objects of those that leave.
const DELETE_OLDEST: &str = concat!(
    "DELETE FROM objects WHERE seq IN (SELECT seq FROM objects WHERE changed <= $1 AND ",
    leaves!(),
    " ORDER BY changed, seq LIMIT $2)"
);

/// How long objects stay, and how much room they may take. The oldest go first; the age of an
/// object counts from its last change. A response that a younger one continues is as old as that.
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
        keep_continued(&mut Sql::Sqlite(connection), oldest).await?;
        loop {
            let deleted = sqlx::query(DELETE_OLDEST)
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
        let (mut at_once, mut kept) = (1, i64::MIN);
        while used(connection).await.map_err(|error| fact(&error))? > self.bytes {
            let sql = &mut Sql::Sqlite(connection);
            if let Some((oldest, old)) = ages(sql).await?
                && oldest > kept
            {
                keep_continued(sql, old).await?;
                kept = old;
                continue;
            }
            let deleted = sqlx::query(DELETE_OLDEST)
                .bind(kept)
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

/// Makes the responses that were last changed before this time as young as the youngest response
/// that continues them.
pub(crate) async fn keep_continued(sql: &mut Sql<'_>, before: i64) -> Result<(), StoreError> {
    let keep = Statement::new(KEEP_CONTINUED).with(before);
    sql.run(&keep).await.map(|_| ())
}

/// When the oldest object was last changed, and a time before which about an eighth of the objects
/// were. `None` if there are no objects.
pub(crate) async fn ages(sql: &mut Sql<'_>) -> Result<Option<(i64, i64)>, StoreError> {
    let row = sql.row(&Statement::new(AGES)).await?;
    row.map(|row| Ok((row.number("oldest")?, row.number("old")?)))
        .transpose()
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
