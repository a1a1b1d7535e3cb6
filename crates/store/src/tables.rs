//! What the small tables share whose rows are no objects: API keys, their usage, and nodes.

use std::path::Path;

use futures_util::TryStreamExt as _;
use loggia_api::store::StoreError;

use crate::SqlStore;
use crate::sql::{Row, Statement};

impl SqlStore {
    /// Whether there can be rows. Looking for them must not make the file.
    pub(crate) fn may_have_rows(&self) -> bool {
        self.path().is_none_or(Path::exists)
    }

    /// Reads rows.
    pub(crate) async fn rows(&self, select: &Statement<'_>) -> Result<Vec<Row>, StoreError> {
        if !self.may_have_rows() {
            return Ok(Vec::new());
        }
        let mut reader = self.reader().await?;
        reader.sql().rows(select).try_collect().await
    }

    /// Reads the number `version`, which is 0 if there is no file yet.
    pub(crate) async fn version(&self, select: &'static str) -> Result<i64, StoreError> {
        let rows = self.rows(&Statement::new(select)).await?;
        rows.first().map_or(Ok(0), |row| row.number("version"))
    }

    /// Runs a statement in a transaction of its own. Returns how many rows it changed.
    pub(crate) async fn change_rows(&self, change: &Statement<'_>) -> Result<u64, StoreError> {
        let mut writer = self.writer().await?;
        let done = writer.sql().run(change).await;
        writer.end(done).await
    }
}
