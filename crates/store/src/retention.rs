//! How long objects stay: up to an age since their last change, and up to a size of all together.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use loggia_api::store::{Kind, StoreError};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use crate::clock::unix_seconds;
use crate::sql::{Sql, Statement};

/// The number of objects without a successor that one step of an eviction looks at, and the maximum
/// number that it deletes, so that writers do not wait long for the file.
const AT_ONCE: i64 = 100;

/// The number of objects, the oldest first, that an eviction sorts in one step.
const ORDERED_AT_ONCE: i64 = 1000;

/// Gives the responses of some age that a younger response continues, directly or through others,
/// the age of that response. `CROSS JOIN` makes SQLite read the old ones first, because there are
/// few.
macro_rules! keep_continued {
    ($younger:literal) => {
        concat!(
            "WITH RECURSIVE kept (id, previous, changed) AS ( \
                SELECT older.id, older.previous, newer.changed \
                FROM objects AS older CROSS JOIN objects AS newer \
                WHERE older.changed <= $1 AND newer.previous = older.id AND ",
            $younger,
            " UNION \
                SELECT older.id, older.previous, kept.changed \
                FROM kept CROSS JOIN objects AS older \
                WHERE older.id = kept.previous AND older.changed <= $1 \
            ) \
            UPDATE objects SET changed = newest.changed \
            FROM (SELECT id, MAX(changed) AS changed FROM kept GROUP BY id) AS newest \
            WHERE objects.id = newest.id AND objects.changed < newest.changed"
        )
    };
}

/// For objects that are too old: those that a response which is not too old continues are kept.
const KEEP_CONTINUED: &str = keep_continued!("newer.changed > $1");

/// For sorting: every response gets the age of the last response of its chain.
const AGE_OF_CHAINS: &str = keep_continued!(
    "(newer.changed > $1 OR NOT EXISTS \
        (SELECT 1 FROM objects AS last WHERE last.previous = newer.id))"
);

/// The condition of objects that are deleted when they are old, or to make room: those whose kind
/// does not [stay](Kind::stays).
static LEAVES: LazyLock<String> = LazyLock::new(|| {
    let stay = Kind::ALL.iter().filter(|kind| kind.stays());
    let names: Vec<String> = stay.map(|kind| format!("'{}'", kind.as_str())).collect();
    format!("kind NOT IN ({})", names.join(", "))
});

/// Deletes objects that are too old.
static DELETE_OLD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "DELETE FROM objects WHERE seq IN (SELECT seq FROM objects WHERE changed <= $1 AND {} \
        ORDER BY changed, seq LIMIT $2)",
        *LEAVES
    )
});

/// The time of the n-th oldest object that can be deleted and is newer than a given time.
static NEXT_AGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT MAX(changed) AS age FROM (SELECT changed FROM objects WHERE changed > $1 AND {} \
        ORDER BY changed LIMIT $2) AS oldest HAVING COUNT(*) > 0",
        *LEAVES
    )
});

/// Deletes an object that no other continues.
const DELETE_LAST: &str = "DELETE FROM objects WHERE seq = $1 AND NOT EXISTS \
    (SELECT 1 FROM objects AS newer WHERE newer.previous = objects.id)";

/// The bytes that rows and their places in the indexes take, apart from their texts: of an object,
/// and of an item.
pub(crate) const OBJECT_BYTES: usize = 450;
pub(crate) const ITEM_BYTES: usize = 350;

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
        (self.bytes / 64).clamp(16 << 10, 1 << 20)
    }

    /// The bytes past which SQLite itself refuses to grow.
    pub(crate) fn hard_limit(&self) -> u64 {
        self.bytes.saturating_add(self.bytes / 4)
    }

    /// Returns the step for each server that shares a PostgreSQL database. There, a check takes
    /// longer, because every row is read.
    pub(crate) fn shared_step(&self) -> u64 {
        (self.bytes / 64).max(16 << 10)
    }

    /// Returns how many bytes must be freed if `used` bytes are used. Two steps are reserved for
    /// the writes until the next check, so that the limit is kept.
    pub(crate) fn excess(&self, used: u64, step: u64) -> u64 {
        used.saturating_sub(self.bytes.saturating_sub(2 * step))
    }

    /// Deletes objects that are too old.
    pub(crate) async fn expire(&self, sql: &mut Sql<'_>) -> Result<(), StoreError> {
        let Some(age) = self.age else { return Ok(()) };
        let oldest =
            unix_seconds().saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        sql.run(&Statement::new(KEEP_CONTINUED).with(oldest))
            .await?;
        let delete = Statement::new(&DELETE_OLD).with(oldest).with(AT_ONCE);
        while sql.run(&delete).await? > 0 {}
        Ok(())
    }
}

/// Deletes the oldest objects. A response is as old as the youngest one that continues it, and it is
/// deleted after that.
#[derive(Debug)]
pub(crate) struct Eviction {
    /// The objects up to this age are in order.
    ordered: i64,
}

impl Eviction {
    pub(crate) fn new() -> Self {
        Self { ordered: i64::MIN }
    }

    /// Deletes some of the oldest objects: at most `bytes` and one object. Returns the number of
    /// deleted bytes; 0 if there is nothing more to delete. It must run in a transaction.
    pub(crate) async fn step(&mut self, sql: &mut Sql<'_>, bytes: u64) -> Result<u64, StoreError> {
        loop {
            let oldest = self.oldest(sql).await?;
            if !oldest.is_empty() {
                return delete(sql, &oldest, bytes).await;
            }
            let next = Statement::new(&NEXT_AGE)
                .with(self.ordered)
                .with(ORDERED_AT_ONCE);
            let Some(age) = sql.row(&next).await? else {
                return Ok(0);
            };
            self.ordered = age.number("age")?;
            let order = Statement::new(AGE_OF_CHAINS).with(self.ordered);
            sql.run(&order).await?;
        }
    }

    /// The places and bytes of the oldest objects that are in order, each after those that continue
    /// it. An object that is held is in use.
    async fn oldest(&self, sql: &mut Sql<'_>) -> Result<Vec<(i64, u64)>, StoreError> {
        let (length, items) = (sql.stored_length(), sql.items_of("objects.seq"));
        let mut find = Statement::new(
            "WITH RECURSIVE oldest AS ( \
                SELECT seq, previous, changed FROM objects WHERE changed <= ",
        );
        find.bind(self.ordered).push(" AND ").push(&LEAVES).push(
            " AND NOT EXISTS (SELECT 1 FROM objects AS newer WHERE newer.previous = objects.id) \
            AND held_until <= ",
        );
        sql.push_now(&mut find);
        find.push(" ORDER BY changed, seq LIMIT ").bind(AT_ONCE);
        find.push(
            "), leaving (seq, previous, age, last, steps) AS ( \
                SELECT seq, previous, changed, seq, 0 FROM oldest \
                UNION ALL \
                SELECT objects.seq, objects.previous, \
                    CASE WHEN changed > age THEN changed ELSE age END, last, steps + 1 \
                FROM leaving JOIN objects ON objects.id = leaving.previous \
                WHERE changed <= ",
        );
        find.bind(self.ordered).push(" AND steps < ");
        find.bind(AT_ONCE).push(
            "), ordered AS ( \
                SELECT seq, MAX(age) AS age, MAX(last) AS last, MAX(steps) AS steps FROM leaving \
                GROUP BY seq ORDER BY age, last, steps LIMIT ",
        );
        find.bind(AT_ONCE);
        find.push(&format!(
            ") SELECT ordered.seq, CAST({length}(body) + COALESCE({length}(sealed), 0) + {OBJECT_BYTES} + \
                COALESCE((SELECT SUM({length}(items.body) + COALESCE({length}(items.sealed), 0) + {ITEM_BYTES}) \
                    FROM items WHERE {items}), 0) AS BIGINT) AS bytes \
            FROM ordered JOIN objects ON objects.seq = ordered.seq ORDER BY age, last, steps"
        ));
        let mut rows = sql.rows(&find);
        let mut oldest = Vec::new();
        while let Some(row) = rows.try_next().await? {
            oldest.push((row.number("seq")?, row.number("bytes")?.unsigned_abs()));
        }
        Ok(oldest)
    }
}

/// Deletes objects in the given order until `bytes` are deleted. Returns the number of deleted
/// bytes.
async fn delete(sql: &mut Sql<'_>, objects: &[(i64, u64)], bytes: u64) -> Result<u64, StoreError> {
    let mut deleted = 0;
    for (seq, size) in objects {
        if deleted >= bytes {
            break;
        }
        let done = sql.run(&Statement::new(DELETE_LAST).with(*seq)).await?;
        deleted += done * size;
    }
    Ok(deleted)
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

/// The bytes of the pages in use, without those of the chunks of vector stores: chunks count
/// against the files of their owner, and no chats are deleted for them.
pub(crate) async fn used_by_objects(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let used = used(connection).await?;
    Ok(used.saturating_sub(chunk_bytes(connection).await?))
}

/// About how many bytes of the file the chunks of vector stores take.
pub(crate) async fn chunk_bytes(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let sum = "SELECT COALESCE(SUM(bytes), 0) FROM chunk_sets";
    let bytes: i64 = sqlx::query(sum)
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
