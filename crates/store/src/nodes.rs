//! The nodes of backends as SQL: the trait [`NodeStore`].

use futures_core::future::BoxFuture;
use loggia_api::store::{NodeStore, NodeWish, StoreError, StoredNode};

use crate::SqlStore;
use crate::clock::unix_time;
use crate::sql::{Row, Statement};

const ALL: &str = "SELECT backend, place, wish, changed FROM backend_nodes ORDER BY backend, place";
const VERSION: &str =
    "SELECT CAST(COALESCE(SUM(stamp), 0) AS BIGINT) AS version FROM backend_nodes";
const PUT: &str = "INSERT INTO backend_nodes (backend, place, wish, changed, stamp) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (backend, place) DO UPDATE \
    SET wish = excluded.wish, changed = excluded.changed, stamp = excluded.stamp";
const FORGET: &str = "DELETE FROM backend_nodes \
    WHERE backend = $1 AND place = $2 AND wish = $3 AND changed = $4";

/// Stamps are below this, so that their sum is a number.
const LARGEST_STAMP: u128 = 1 << 40;

impl NodeStore for SqlStore {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<StoredNode>, StoreError>> {
        Box::pin(async {
            let rows = self.rows(&Statement::new(ALL)).await?;
            // A later version may have other wishes.
            rows.iter()
                .filter_map(|row| node(row).transpose())
                .collect()
        })
    }

    fn node_version(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        Box::pin(self.version(VERSION))
    }

    fn put_node(&self, node: StoredNode) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let put = Statement::new(PUT)
                .with(node.backend)
                .with(node.place)
                .with(node.wish.name())
                .with(node.changed)
                .with(stamp());
            self.change_rows(&put).await.map(|_| ())
        })
    }

    fn forget_node(&self, node: StoredNode) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let forget = Statement::new(FORGET)
                .with(node.backend)
                .with(node.place)
                .with(node.wish.name())
                .with(node.changed);
            self.change_rows(&forget).await.map(|_| ())
        })
    }
}

/// A number that is another one for each change. It is not 0, which is the version without nodes.
fn stamp() -> i64 {
    let stamp = unix_time().as_nanos() % LARGEST_STAMP;
    i64::try_from(stamp.max(1)).unwrap_or(1)
}

fn node(row: &Row) -> Result<Option<StoredNode>, StoreError> {
    let Some(wish) = NodeWish::named(&row.text("wish")?) else {
        return Ok(None);
    };
    Ok(Some(StoredNode {
        backend: row.text("backend")?,
        place: row.text("place")?,
        wish,
        changed: row.number("changed")?,
    }))
}
