//! The identity of a database, by which a bucket knows whose files it has.

use loggia_api::store::StoreError;

use crate::SqlStore;
use crate::sql::Statement;

impl SqlStore {
    /// Returns a text that no other database has. It never changes; a copy of the database has it,
    /// too.
    pub async fn identity(&self) -> Result<String, StoreError> {
        let find = Statement::new("SELECT identity FROM loggia_identity");
        let mut reader = self.reader().await?;
        let row = reader.sql().row(&find).await?;
        let missing = || StoreError::Unavailable {
            cause: "the database has no identity".to_owned(),
        };
        row.ok_or_else(missing)?.text("identity")
    }
}
