//! API keys as SQL: the trait [`KeyStore`].

use futures_core::future::BoxFuture;
use loggia_api::store::{EarlierSecret, KeyStore, StoreError, StoredKey, StoredSecret};

use crate::SqlStore;
use crate::sql::{Row, Statement};

const ALL: &str = "SELECT id, name, prefix, digest, earlier_prefix, earlier_digest, earlier_until, settings, \
    created, expires, revoked, used FROM api_keys ORDER BY seq";
const VERSION: &str = "SELECT CAST(COALESCE(SUM(version), 0) AS BIGINT) AS version FROM api_keys";
const CREATE: &str = "INSERT INTO api_keys (id, name, prefix, digest, settings, created, expires) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const ROTATE: &str = "UPDATE api_keys SET prefix = $1, digest = $2, earlier_prefix = $3, earlier_digest = $4, \
    earlier_until = $5, version = version + 1 WHERE id = $6 AND revoked = 0";
const CHANGE: &str =
    "UPDATE api_keys SET settings = $1, version = version + 1 WHERE id = $2 AND revoked = 0";
const REVOKE: &str =
    "UPDATE api_keys SET revoked = $1, version = version + 1 WHERE id = $2 AND revoked = 0";
const USE: &str = "UPDATE api_keys SET used = used + $1 WHERE id = $2 RETURNING used";

impl SqlStore {
    /// Runs a statement that changes one key.
    async fn change_key_row(&self, change: Statement<'_>) -> Result<(), StoreError> {
        match self.change_rows(&change).await? {
            0 => Err(StoreError::NotFound),
            _ => Ok(()),
        }
    }
}

impl KeyStore for SqlStore {
    fn keys(&self) -> BoxFuture<'_, Result<Vec<StoredKey>, StoreError>> {
        Box::pin(async {
            let rows = self.rows(&Statement::new(ALL)).await?;
            rows.iter().map(key).collect()
        })
    }

    fn key_version(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        Box::pin(self.version(VERSION))
    }

    fn create_key(&self, key: StoredKey) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let create = Statement::new(CREATE)
                .with(key.id)
                .with(key.name)
                .with(key.secret.prefix)
                .with(key.secret.digest)
                .with(key.settings)
                .with(key.created)
                .with(key.expires.unwrap_or(0));
            self.change_key_row(create).await
        })
    }

    fn rotate_key<'a>(
        &'a self,
        id: &'a str,
        secret: StoredSecret,
        earlier: Option<EarlierSecret>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let until = earlier.as_ref().map_or(0, |earlier| earlier.until);
            let (prefix, digest) = earlier
                .map(|earlier| (earlier.secret.prefix, earlier.secret.digest))
                .unzip();
            let rotate = Statement::new(ROTATE)
                .with(secret.prefix)
                .with(secret.digest)
                .with(prefix)
                .with(digest)
                .with(until)
                .with(id);
            self.change_key_row(rotate).await
        })
    }

    fn change_key<'a>(
        &'a self,
        id: &'a str,
        settings: String,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.change_key_row(Statement::new(CHANGE).with(settings).with(id)))
    }

    fn revoke_key<'a>(&'a self, id: &'a str, at: i64) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.change_key_row(Statement::new(REVOKE).with(at).with(id)))
    }

    fn add_key_use<'a>(
        &'a self,
        id: &'a str,
        tokens: u64,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
            let add = Statement::new(USE).with(tokens).with(id);
            let mut writer = self.writer().await?;
            let done = match writer.sql().row(&add).await {
                Ok(Some(row)) => row.number("used").map(unsigned),
                Ok(None) => Err(StoreError::NotFound),
                Err(error) => Err(error),
            };
            writer.end(done).await
        })
    }
}

fn key(row: &Row) -> Result<StoredKey, StoreError> {
    let time = |column| Ok(Some(row.number(column)?).filter(|time| *time != 0));
    let earlier = row
        .optional_text("earlier_prefix")?
        .zip(row.optional_text("earlier_digest")?);
    let until = row.number("earlier_until")?;
    Ok(StoredKey {
        id: row.text("id")?,
        name: row.text("name")?,
        secret: StoredSecret {
            prefix: row.text("prefix")?,
            digest: row.text("digest")?,
        },
        earlier: earlier.map(|(prefix, digest)| EarlierSecret {
            secret: StoredSecret { prefix, digest },
            until,
        }),
        settings: row.text("settings")?,
        created: row.number("created")?,
        expires: time("expires")?,
        revoked: time("revoked")?,
        used: unsigned(row.number("used")?),
    })
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
