//! Objects that are due, and the bytes of their content, as SQL.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use loggia_api::store::{Claimed, Kind, ObjectRef, Owner, StoreError};

use crate::read::{Access, column, object, only};
use crate::sql::{Sql, Statement};

/// The maximum number of ids that one statement looks for.
const AT_ONCE: usize = 32;

impl Access<'_> {
    pub(crate) async fn schedule(
        &mut self,
        at: ObjectRef<'_>,
        due: Option<u64>,
        content: u64,
    ) -> Result<(), StoreError> {
        let mut update = Statement::new("UPDATE objects SET due = ");
        match due {
            Some(due) => update.bind(number(due.saturating_mul(1000))),
            None => update.push("NULL"),
        };
        update.push(", content = ").bind(number(content));
        only(&mut update, at);
        self.update(update, at).await.map(|_| ())
    }

    pub(crate) async fn clear(&mut self, at: ObjectRef<'_>) -> Result<(), StoreError> {
        let mut update = Statement::new("UPDATE objects SET size = 0");
        only(&mut update, at);
        let seq = self.update(update, at).await?;
        let mut delete = Statement::new("DELETE FROM items WHERE ").with(seq);
        delete.push(&self.sql.items_of("$1"));
        self.sql.run(&delete).await.map(|_| ())
    }

    /// Checks the limit on the content of an owner. In PostgreSQL, writes of the same owner that
    /// check it are serialized, so that two of them cannot exceed it together.
    pub(crate) async fn limit(
        &mut self,
        owner: &Owner,
        more: u64,
        most: u64,
    ) -> Result<(), StoreError> {
        if matches!(self.sql, Sql::Postgres(_)) {
            let lock = Statement::new("SELECT pg_advisory_xact_lock(55001245, hashtext($1))")
                .with(column(owner));
            self.sql.row(&lock).await?;
        }
        let content = self.content_bytes(owner).await?;
        if content.saturating_add(more) > most {
            return Err(StoreError::OverLimit);
        }
        Ok(())
    }

    pub(crate) async fn content_bytes(&mut self, owner: &Owner) -> Result<u64, StoreError> {
        let sum = Statement::new(
            "SELECT CAST(COALESCE(SUM(content), 0) AS BIGINT) AS content FROM objects \
            WHERE owner = $1 AND content > 0",
        )
        .with(column(owner));
        let row = self.sql.row(&sum).await?;
        let content = row.map_or(Ok(0), |row| row.number("content"))?;
        Ok(u64::try_from(content).unwrap_or(0))
    }

    pub(crate) async fn existing(&mut self, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let mut existing = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            let mut find = Statement::new("SELECT id FROM objects WHERE id IN (");
            for (index, id) in some.iter().enumerate() {
                find.push(if index == 0 { "" } else { ", " });
                find.bind(id.as_str());
            }
            find.push(")");
            let mut rows = self.sql.rows(&find);
            while let Some(row) = rows.try_next().await? {
                existing.push(row.text("id")?);
            }
        }
        Ok(existing)
    }

    /// Returns whether `claim` would find an object of this kind.
    pub(crate) async fn is_due(&mut self, kind: Kind) -> Result<bool, StoreError> {
        let mut find = Statement::new("SELECT seq FROM objects");
        self.push_due(&mut find, kind);
        Ok(self.sql.row(&find).await?.is_some())
    }

    pub(crate) async fn claim(
        &mut self,
        kind: Kind,
        holder: &str,
        time: Duration,
    ) -> Result<Option<Claimed>, StoreError> {
        let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX >> 1);
        let mut claim = Statement::new("UPDATE objects SET holder = ");
        claim.bind(holder).push(", held_until = ");
        self.sql.push_now(&mut claim);
        claim.push(" + ").bind(time);
        claim.push(" WHERE seq = (SELECT seq FROM objects");
        self.push_due(&mut claim, kind);
        if matches!(self.sql, Sql::Postgres(_)) {
            // Servers that share the database do not wait for one another.
            claim.push(" FOR UPDATE SKIP LOCKED");
        }
        claim.push(
            ") RETURNING owner, id, created, model, metadata, body, sealed, previous, \
            CAST(1 AS BIGINT) AS is_held",
        );
        let Some(row) = self.sql.row(&claim).await? else {
            return Ok(None);
        };
        let owner = row.text("owner")?;
        Ok(Some(Claimed {
            owner: Owner::new(owner.strip_prefix("key:").map(Into::into)),
            object: object(&row, kind, self.sealing)?,
        }))
    }

    /// Restricts a statement to the object of a kind that has been due for the longest time.
    fn push_due(&self, statement: &mut Statement<'_>, kind: Kind) {
        statement.push(" WHERE kind = ").bind(kind.as_str());
        statement.push(" AND due <= ");
        self.sql.push_now(statement);
        statement.push(" AND held_until <= ");
        self.sql.push_now(statement);
        statement.push(" ORDER BY due, seq LIMIT 1");
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
