//! Each call of the trait as SQL. The statements are those of SQLite and of PostgreSQL alike.

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::TryStreamExt as _;
use loggia_api::Store;
use loggia_api::store::{
    Filter, Item, Kind, Listed, MOST_BYTES_OF_A_PAGE, Metadata, Object, ObjectRef, Order, Owner,
    Page, StoreError,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use crate::SqliteStore;
use crate::error::fact;
use crate::retention::now;

/// What every statement that returns objects selects.
const OBJECT: &str = "SELECT seq, id, created, model, metadata, body FROM objects";

impl Store for SqliteStore {
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { self.database().await.map(|_| ()) })
    }

    fn create<'a>(
        &'a self,
        owner: &'a Owner,
        object: Object,
        items: Vec<Item>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let bytes = object.body.len() + length(&items);
            let database = self.database().await?;
            let mut turn = database.begin().await?;
            let done = create(&mut turn.connection, owner, &object, &items).await;
            turn.end(done).await?;
            self.wrote(bytes, &database).await;
            Ok(())
        })
    }

    fn object<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut reader = database.readers.acquire().await.map_err(failed)?;
            Ok(find(&mut reader, at).await?.1)
        })
    }

    fn objects<'a>(
        &'a self,
        owner: &'a Owner,
        kind: Kind,
        filter: &'a Filter,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Object>, StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut reader = database.readers.acquire().await.map_err(failed)?;
            let after = match &page.after {
                Some(id) => Some(place_after(&mut reader, ObjectRef { owner, kind, id }).await?),
                None => None,
            };
            let mut query = listing(owner, kind, filter);
            order(&mut query, "seq", after, page);
            let rows = query.build().fetch(&mut *reader);
            let read = |row: &SqliteRow| object(row, kind);
            cut(rows, page, read, |object| object.body.len()).await
        })
    }

    fn set_metadata<'a>(
        &'a self,
        at: ObjectRef<'a>,
        metadata: Metadata,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut turn = database.begin().await?;
            let done = set_metadata(&mut turn.connection, at, metadata).await;
            turn.end(done).await
        })
    }

    fn delete<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut turn = database.begin().await?;
            let done = delete(&mut turn.connection, at).await;
            turn.end(done).await
        })
    }

    fn append<'a>(
        &'a self,
        at: ObjectRef<'a>,
        items: Vec<Item>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut turn = database.begin().await?;
            let done = append(&mut turn.connection, at, &items).await;
            turn.end(done).await?;
            self.wrote(length(&items), &database).await;
            Ok(())
        })
    }

    fn items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Item>, StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut reader = database.readers.acquire().await.map_err(failed)?;
            let seq = place(&mut reader, at).await?;
            let after = match &page.after {
                Some(id) => Some(position(&mut reader, seq, id).await?),
                None => None,
            };
            let mut query = QueryBuilder::new("SELECT id, body FROM items WHERE object = ");
            query.push_bind(seq);
            order(&mut query, "position", after, page);
            let rows = query.build().fetch(&mut *reader);
            cut(rows, page, item, |item| item.body.len()).await
        })
    }

    fn item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Item, StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut reader = database.readers.acquire().await.map_err(failed)?;
            let seq = place(&mut reader, at).await?;
            let row = sqlx::query("SELECT id, body FROM items WHERE object = $1 AND id = $2")
                .bind(seq)
                .bind(id)
                .fetch_optional(&mut *reader)
                .await
                .map_err(failed)?;
            item(&row.ok_or(StoreError::ItemNotFound)?)
        })
    }

    fn delete_item<'a>(
        &'a self,
        at: ObjectRef<'a>,
        item: &'a str,
    ) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut turn = database.begin().await?;
            let done = delete_item(&mut turn.connection, at, item).await;
            turn.end(done).await
        })
    }
}

async fn create(
    connection: &mut SqliteConnection,
    owner: &Owner,
    object: &Object,
    items: &[Item],
) -> Result<(), StoreError> {
    let seq = insert(connection, owner, object).await?;
    label(connection, seq, &object.metadata).await?;
    add(connection, seq, 0, items).await
}

async fn set_metadata(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
    metadata: Metadata,
) -> Result<Object, StoreError> {
    let (seq, object) = find(connection, at).await?;
    sqlx::query("UPDATE objects SET metadata = $1, changed = $2 WHERE seq = $3")
        .bind(json(&metadata))
        .bind(now())
        .bind(seq)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    sqlx::query("DELETE FROM labels WHERE object = $1")
        .bind(seq)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    label(connection, seq, &metadata).await?;
    Ok(Object { metadata, ..object })
}

async fn delete(connection: &mut SqliteConnection, at: ObjectRef<'_>) -> Result<(), StoreError> {
    let delete = "DELETE FROM objects WHERE id = $1 AND owner = $2 AND kind = $3";
    let deleted = sqlx::query(delete)
        .bind(at.id)
        .bind(column(at.owner))
        .bind(at.kind.as_str())
        .execute(connection)
        .await
        .map_err(failed)?;
    one(deleted.rows_affected(), StoreError::NotFound)
}

async fn append(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
    items: &[Item],
) -> Result<(), StoreError> {
    let seq = touch(connection, at).await?;
    let next = "SELECT COALESCE(MAX(position) + 1, 0) FROM items WHERE object = $1";
    let row = sqlx::query(next)
        .bind(seq)
        .fetch_one(&mut *connection)
        .await;
    let position = row.and_then(|row| row.try_get(0)).map_err(failed)?;
    add(connection, seq, position, items).await
}

async fn delete_item(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
    item: &str,
) -> Result<Object, StoreError> {
    let (seq, object) = find(connection, at).await?;
    let deleted = sqlx::query("DELETE FROM items WHERE object = $1 AND id = $2")
        .bind(seq)
        .bind(item)
        .execute(connection)
        .await
        .map_err(failed)?;
    one(deleted.rows_affected(), StoreError::ItemNotFound)?;
    Ok(object)
}

/// Adds the row of an object. Returns its place.
async fn insert(
    connection: &mut SqliteConnection,
    owner: &Owner,
    object: &Object,
) -> Result<i64, StoreError> {
    let insert = "INSERT INTO objects (id, kind, owner, created, changed, model, metadata, body) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING seq";
    let row = sqlx::query(insert)
        .bind(&object.id)
        .bind(object.kind.as_str())
        .bind(column(owner))
        .bind(i64::try_from(object.created).unwrap_or(i64::MAX))
        .bind(now())
        .bind(&object.model)
        .bind(json(&object.metadata))
        .bind(&object.body)
        .fetch_one(connection)
        .await
        .map_err(|error| taken(&error, &object.id))?;
    row.try_get(0).map_err(failed)
}

/// Adds the labels that lists are filtered by.
async fn label(
    connection: &mut SqliteConnection,
    seq: i64,
    metadata: &Metadata,
) -> Result<(), StoreError> {
    for (name, value) in metadata {
        sqlx::query("INSERT INTO labels (object, name, value) VALUES ($1, $2, $3)")
            .bind(seq)
            .bind(name)
            .bind(value)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// Adds items from this position on.
async fn add(
    connection: &mut SqliteConnection,
    seq: i64,
    first: i64,
    items: &[Item],
) -> Result<(), StoreError> {
    for (position, item) in (first..).zip(items) {
        sqlx::query("INSERT INTO items (object, position, id, body) VALUES ($1, $2, $3, $4)")
            .bind(seq)
            .bind(position)
            .bind(&item.id)
            .bind(&item.body)
            .execute(&mut *connection)
            .await
            .map_err(|error| taken(&error, &item.id))?;
    }
    Ok(())
}

/// An object and its place.
async fn find(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
) -> Result<(i64, Object), StoreError> {
    let found = sqlx::query(&format!(
        "{OBJECT} WHERE id = $1 AND owner = $2 AND kind = $3"
    ))
    .bind(at.id)
    .bind(column(at.owner))
    .bind(at.kind.as_str())
    .fetch_optional(connection)
    .await
    .map_err(failed)?;
    let row = found.ok_or(StoreError::NotFound)?;
    Ok((row.try_get(0).map_err(failed)?, object(&row, at.kind)?))
}

/// Notes that an object was changed now. Returns its place.
async fn touch(connection: &mut SqliteConnection, at: ObjectRef<'_>) -> Result<i64, StoreError> {
    let touch = "UPDATE objects SET changed = $1 WHERE id = $2 AND owner = $3 AND kind = $4 \
        RETURNING seq";
    let row = sqlx::query(touch)
        .bind(now())
        .bind(at.id)
        .bind(column(at.owner))
        .bind(at.kind.as_str())
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.ok_or(StoreError::NotFound)?.try_get(0).map_err(failed)
}

/// The place of an object, without the object: its body may be large.
async fn place(connection: &mut SqliteConnection, at: ObjectRef<'_>) -> Result<i64, StoreError> {
    let place = "SELECT seq FROM objects WHERE id = $1 AND owner = $2 AND kind = $3";
    let row = sqlx::query(place)
        .bind(at.id)
        .bind(column(at.owner))
        .bind(at.kind.as_str())
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.ok_or(StoreError::NotFound)?.try_get(0).map_err(failed)
}

/// The place of the object that a page begins after.
async fn place_after(
    connection: &mut SqliteConnection,
    after: ObjectRef<'_>,
) -> Result<i64, StoreError> {
    match place(connection, after).await {
        Err(StoreError::NotFound) => Err(StoreError::AfterNotFound),
        found => found,
    }
}

/// The position of the item that a page begins after.
async fn position(
    connection: &mut SqliteConnection,
    seq: i64,
    id: &str,
) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT position FROM items WHERE object = $1 AND id = $2")
        .bind(seq)
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.ok_or(StoreError::AfterNotFound)?
        .try_get(0)
        .map_err(failed)
}

fn listing<'a>(owner: &Owner, kind: Kind, filter: &'a Filter) -> QueryBuilder<'a, Sqlite> {
    let mut query = QueryBuilder::new(OBJECT);
    query.push(" WHERE owner = ").push_bind(column(owner));
    query.push(" AND kind = ").push_bind(kind.as_str());
    if let Some(model) = &filter.model {
        query.push(" AND model = ").push_bind(model);
    }
    for (name, value) in &filter.metadata {
        query.push(" AND seq IN (SELECT object FROM labels WHERE name = ");
        query.push_bind(name).push(" AND value = ").push_bind(value);
        query.push(")");
    }
    query
}

/// The part of a list that a page asks for, and one entry more.
fn order(query: &mut QueryBuilder<'_, Sqlite>, by: &str, after: Option<i64>, page: &Page) {
    let (past, direction) = match page.order {
        Order::Ascending => (" > ", " ASC"),
        Order::Descending => (" < ", " DESC"),
    };
    if let Some(after) = after {
        query.push(" AND ").push(by).push(past).push_bind(after);
    }
    query.push(" ORDER BY ").push(by).push(direction);
    let most = i64::try_from(page.limit).unwrap_or(i64::MAX - 1) + 1;
    query.push(" LIMIT ").push_bind(most);
}

/// Reads rows up to the limits of a page; they are read one by one, since they may be large.
async fn cut<T>(
    mut rows: BoxStream<'_, Result<SqliteRow, sqlx::Error>>,
    page: &Page,
    read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
    length: impl Fn(&T) -> usize,
) -> Result<Listed<T>, StoreError> {
    let (mut data, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        if data.len() == page.limit || bytes >= MOST_BYTES_OF_A_PAGE {
            let has_more = true;
            return Ok(Listed { data, has_more });
        }
        let entry = read(&row)?;
        bytes += length(&entry);
        data.push(entry);
    }
    let has_more = false;
    Ok(Listed { data, has_more })
}

fn object(row: &SqliteRow, kind: Kind) -> Result<Object, StoreError> {
    let created: i64 = row.try_get("created").map_err(failed)?;
    let metadata: String = row.try_get("metadata").map_err(failed)?;
    Ok(Object {
        kind,
        id: row.try_get("id").map_err(failed)?,
        created: u64::try_from(created).unwrap_or(0),
        model: row.try_get("model").map_err(failed)?,
        metadata: serde_json::from_str(&metadata).map_err(|_| StoreError::Unavailable {
            cause: "the metadata of an object are damaged".to_owned(),
        })?,
        body: row.try_get("body").map_err(failed)?,
    })
}

fn item(row: &SqliteRow) -> Result<Item, StoreError> {
    Ok(Item {
        id: row.try_get("id").map_err(failed)?,
        body: row.try_get("body").map_err(failed)?,
    })
}

/// The owner as the column has it: no name of a key is that of nobody.
fn column(owner: &Owner) -> String {
    owner
        .key()
        .map_or_else(String::new, |key| format!("key:{key}"))
}

/// A map of strings is always JSON.
fn json(metadata: &Metadata) -> String {
    serde_json::to_string(metadata).unwrap_or_else(|_| "{}".to_owned())
}

fn length(items: &[Item]) -> usize {
    items.iter().map(|item| item.body.len()).sum()
}

fn one(rows: u64, otherwise: StoreError) -> Result<(), StoreError> {
    if rows == 0 { Err(otherwise) } else { Ok(()) }
}

#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn failed(error: sqlx::Error) -> StoreError {
    fact(&error)
}

/// The fact behind a row that could not be added.
fn taken(error: &sqlx::Error, id: &str) -> StoreError {
    let is_taken = error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if is_taken {
        StoreError::Duplicate { id: id.to_owned() }
    } else {
        fact(error)
    }
}
