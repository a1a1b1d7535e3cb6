//! The number and size of the objects in a store, for people.

use std::path::Path;

use futures_util::TryStreamExt as _;
use loggia_api::store::{Kind, StoreError};

use crate::SqlStore;
use crate::error::OpenError;
use crate::file::look;
use crate::retention::used;
use crate::schema;
use crate::sealing::Sealing;
use crate::sql::{Sql, Statement};
use crate::store::Place;

/// The first schema in which texts may be encrypted.
const FIRST_WITH_SEALED: i64 = 3;

/// The number and size of the objects in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The number of objects of each kind that has any, in the order of [`Kind::ALL`].
    pub objects: Vec<(Kind, u64)>,
    /// How many of all these are encrypted.
    pub encrypted: u64,
    /// The number of encrypted objects that cannot be read, because their key is missing.
    pub unreadable: u64,
    /// The bytes that the objects take.
    pub bytes: u64,
}

impl SqlStore {
    /// Counts the objects in the file or the database without changing it. `None` if nothing was
    /// ever stored.
    pub async fn survey(&self) -> Result<Option<Survey>, OpenError> {
        match &self.place {
            Place::File(file) => self.survey_file(&file.path).await,
            Place::Server(server) => {
                let failed = |source| server.failed(source);
                let mut connection = server.unprepared().await?;
                let version = schema::version_of_postgres(&mut connection).await;
                let Some(version) = version.map_err(failed)? else {
                    return Ok(None);
                };
                server.check(version)?;
                let mut sql = Sql::Postgres(&mut connection);
                let found = count(&mut sql, &self.sealing, true).await;
                let mut found = found.map_err(|error| failed(as_source(&error)))?;
                let size = "SELECT CAST(SUM(pg_total_relation_size(name)) AS BIGINT) AS size \
                    FROM unnest(ARRAY['objects', 'items', 'labels', 'chunk_sets', 'chunks']) AS name \
                    WHERE to_regclass(name) IS NOT NULL";
                let size = sql.row(&Statement::new(size)).await;
                let size = size.and_then(|row| row.map_or(Ok(0), |row| row.number("size")));
                let size = size.map_err(|error| failed(as_source(&error)))?;
                found.bytes = u64::try_from(size).unwrap_or(0);
                Ok(Some(found))
            }
        }
    }

    async fn survey_file(&self, path: &Path) -> Result<Option<Survey>, OpenError> {
        if !path.exists() {
            return Ok(None);
        }
        let failed = |source| OpenError::Open {
            path: path.to_owned(),
            source,
        };
        let mut connection = look(path).await?;
        let version = schema::version_of_sqlite(&mut connection).await;
        let Some(version) = version.map_err(failed)? else {
            return Ok(None);
        };
        if version > schema::SQLITE.known() {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                found: version,
                known: schema::SQLITE.known(),
            });
        }
        let mut sql = Sql::Sqlite(&mut connection);
        let has_sealed = version >= FIRST_WITH_SEALED;
        let found = count(&mut sql, &self.sealing, has_sealed).await;
        let found = found.map_err(|error| failed(as_source(&error)))?;
        let bytes = used(&mut connection).await.map_err(failed)?;
        Ok(Some(Survey { bytes, ..found }))
    }
}

async fn count(
    sql: &mut Sql<'_>,
    sealing: &Sealing,
    has_sealed: bool,
) -> Result<Survey, StoreError> {
    let mut survey = Survey::default();
    // One query reads all objects once: no index contains every kind.
    let column = |index: usize| format!("of_kind_{index}");
    let mut query = Statement::new("SELECT ");
    for (index, kind) in Kind::ALL.iter().enumerate() {
        query.push(if index == 0 { "" } else { ", " });
        query.push("COUNT(CASE WHEN kind = ").bind(kind.as_str());
        query.push(" THEN 1 END) AS ").push(&column(index));
    }
    query.push(" FROM objects");
    if let Some(row) = sql.row(&query).await? {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            let count = row.number(&column(index))?.unsigned_abs();
            if count > 0 {
                survey.objects.push((*kind, count));
            }
        }
    }
    if has_sealed {
        // Each begins with the id of its key.
        let heads = Statement::new(
            "SELECT substr(sealed, 1, 5) AS sealed, COUNT(*) AS number FROM objects \
            WHERE sealed IS NOT NULL GROUP BY substr(sealed, 1, 5)",
        );
        let mut rows = sql.rows(&heads);
        while let Some(row) = rows.try_next().await? {
            let number = row.number("number")?.unsigned_abs();
            survey.encrypted += number;
            if !sealing.has_key_of(row.optional_bytes("sealed")?.unwrap_or_default()) {
                survey.unreadable += number;
            }
        }
    }
    Ok(survey)
}

fn as_source(error: &StoreError) -> sqlx::Error {
    sqlx::Error::Protocol(error.to_string())
}
