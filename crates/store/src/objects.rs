//! Each call of the trait as SQL. The statements are those of SQLite and of PostgreSQL alike.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::TryStreamExt as _;
use loggia_api::Store;
use loggia_api::store::{
    Change, Filter, Item, Kind, Listed, MOST_BYTES_OF_A_CHAIN, MOST_BYTES_OF_A_PAGE,
    MOST_OBJECTS_OF_A_CHAIN, Metadata, Object, ObjectRef, Order, Owner, Page, Side, StoreError,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use crate::SqliteStore;
use crate::error::fact;
use crate::retention::{now, now_ms};

/// What every statement that returns objects selects.
const OBJECT: &str =
    "SELECT seq, id, created, model, metadata, body, previous, held_until FROM objects";

/// The responses that a response continues, as a table with their numbers of steps from it. The
/// lengths of their items add up, and the table ends where they pass the limit.
const CHAIN: &str = "\
    WITH RECURSIVE chain (seq, previous, steps, bytes) AS ( \
        SELECT seq, previous, 0, size FROM objects WHERE id = $1 AND owner = $2 AND kind = $3 \
        UNION ALL \
        SELECT objects.seq, objects.previous, steps + 1, bytes + size FROM chain \
        JOIN objects ON id = chain.previous AND owner = $2 AND kind = $3 \
        WHERE steps < $4 AND bytes <= $5 \
    ) \
    SELECT chain.previous, chain.steps, chain.bytes, items.id, items.side, items.body \
    FROM chain LEFT JOIN items ON items.object = chain.seq AND items.side IN (0, 1) \
    ORDER BY chain.steps DESC, items.side, items.seq";

/// The most steps in a chain.
#[expect(clippy::cast_possible_wrap, reason = "the number is small")]
const MOST_STEPS: i64 = MOST_OBJECTS_OF_A_CHAIN as i64 - 1;

/// The most rows of one statement that adds items, and ids of one that looks for them.
const AT_ONCE: usize = 32;

impl Store for SqliteStore {
    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { self.database().await.map(|_| ()) })
    }

    fn write<'a>(
        &'a self,
        owner: &'a Owner,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let bytes = changes.iter().map(length).sum();
            let database = self.database().await?;
            let mut turn = database.begin().await?;
            let done = write(&mut turn.connection, owner, &changes).await;
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

    fn items<'a>(
        &'a self,
        at: ObjectRef<'a>,
        side: Side,
        page: &'a Page,
    ) -> BoxFuture<'a, Result<Listed<Item>, StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut reader = database.readers.acquire().await.map_err(failed)?;
            let seq = place(&mut reader, at).await?;
            let after = match &page.after {
                Some(id) => Some(item_after(&mut reader, seq, side, id).await?),
                None => None,
            };
            let mut query = QueryBuilder::new("SELECT id, side, body FROM items WHERE object = ");
            query.push_bind(seq).push(" AND side = ");
            query.push_bind(number(side));
            order(&mut query, "seq", after, page);
            let rows = query.build().fetch(&mut *reader);
            cut(rows, page, item, |item| item.body.len()).await
        })
    }

    fn chain<'a>(&'a self, at: ObjectRef<'a>) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut reader = database.readers.acquire().await.map_err(failed)?;
            chain(&mut reader, at).await
        })
    }

    fn find_items<'a>(
        &'a self,
        owner: &'a Owner,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<Item>, StoreError>> {
        Box::pin(async move {
            let database = self.database().await?;
            let mut reader = database.readers.acquire().await.map_err(failed)?;
            find_items(&mut reader, owner, ids).await
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
            let one = "SELECT id, side, body FROM items WHERE object = $1 AND side = 0 AND id = $2";
            let row = sqlx::query(one)
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

async fn write(
    connection: &mut SqliteConnection,
    owner: &Owner,
    changes: &[Change],
) -> Result<(), StoreError> {
    for change in changes {
        match change {
            Change::Create { object, items } => create(connection, owner, object, items).await?,
            Change::Replace {
                kind,
                id,
                body,
                items,
                holder,
            } => {
                let at = at(owner, *kind, id);
                replace(connection, at, body, items, holder.as_deref()).await?;
            }
            Change::Append { kind, id, items } => {
                append(connection, at(owner, *kind, id), items).await?;
            }
            Change::Hold {
                kind,
                id,
                holder,
                time,
            } => hold(connection, at(owner, *kind, id), holder, *time).await?,
            Change::Release { kind, id, holder } => {
                release(connection, at(owner, *kind, id), holder.as_deref()).await?;
            }
        }
    }
    Ok(())
}

async fn create(
    connection: &mut SqliteConnection,
    owner: &Owner,
    object: &Object,
    items: &[Item],
) -> Result<(), StoreError> {
    let seq = insert(connection, owner, object, size(items)).await?;
    label(connection, seq, &object.metadata).await?;
    add(connection, seq, at(owner, object.kind, &object.id), items).await
}

async fn replace(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
    body: &str,
    items: &[Item],
    holder: Option<&str>,
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("UPDATE objects SET body = ");
    query.push_bind(body);
    query.push(", changed = ").push_bind(now());
    query.push(", size = size + ").push_bind(size(items));
    only(&mut query, at);
    if let Some(holder) = holder {
        query.push(" AND holder = ").push_bind(holder);
        query.push(" AND held_until > ").push_bind(now_ms());
    }
    query.push(" RETURNING seq");
    let seq = changed(connection, query, at).await?;
    add(connection, seq, at, items).await
}

async fn append(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
    items: &[Item],
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("UPDATE objects SET changed = ");
    query.push_bind(now());
    query.push(", size = size + ").push_bind(size(items));
    only(&mut query, at);
    query.push(" RETURNING seq");
    let seq = changed(connection, query, at).await?;
    add(connection, seq, at, items).await
}

async fn hold(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
    holder: &str,
    time: Duration,
) -> Result<(), StoreError> {
    let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let mut query = QueryBuilder::new("UPDATE objects SET holder = ");
    query.push_bind(holder);
    query.push(", held_until = ");
    query.push_bind(now_ms().saturating_add(time));
    only(&mut query, at);
    query.push(" AND (holder IS NULL OR holder = ");
    query.push_bind(holder);
    query.push(" OR held_until <= ").push_bind(now_ms());
    query.push(") RETURNING seq");
    changed(connection, query, at).await.map(|_| ())
}

async fn release(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
    holder: Option<&str>,
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::new("UPDATE objects SET holder = NULL, held_until = 0");
    only(&mut query, at);
    if let Some(holder) = holder {
        query.push(" AND holder = ").push_bind(holder);
    }
    query.push(" RETURNING seq");
    match changed(connection, query, at).await {
        Err(StoreError::Held) => Ok(()),
        released => released.map(|_| ()),
    }
}

/// Restricts a change to one object.
fn only(query: &mut QueryBuilder<'_, Sqlite>, at: ObjectRef<'_>) {
    query.push(" WHERE id = ").push_bind(at.id.to_owned());
    query.push(" AND owner = ").push_bind(column(at.owner));
    query.push(" AND kind = ").push_bind(at.kind.as_str());
}

/// Makes a change to one object. Returns its place. Where the object is there and was not changed,
/// the hold on it is in the way.
async fn changed(
    connection: &mut SqliteConnection,
    mut query: QueryBuilder<'_, Sqlite>,
    at: ObjectRef<'_>,
) -> Result<i64, StoreError> {
    let changed = query.build().fetch_optional(&mut *connection).await;
    if let Some(row) = changed.map_err(failed)? {
        return row.try_get(0).map_err(failed);
    }
    place(connection, at).await?;
    Err(StoreError::Held)
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

async fn delete_item(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
    item: &str,
) -> Result<Object, StoreError> {
    let (seq, object) = find(connection, at).await?;
    let delete = "DELETE FROM items WHERE object = $1 AND side = 0 AND id = $2 RETURNING body";
    let row = sqlx::query(delete)
        .bind(seq)
        .bind(item)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    let row = row.ok_or(StoreError::ItemNotFound)?;
    let body: &str = row.try_get(0).map_err(failed)?;
    sqlx::query("UPDATE objects SET size = size - $1 WHERE seq = $2")
        .bind(i64::try_from(body.len()).unwrap_or(i64::MAX))
        .bind(seq)
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(object)
}

/// Adds the row of an object. Returns its place.
async fn insert(
    connection: &mut SqliteConnection,
    owner: &Owner,
    object: &Object,
    size: i64,
) -> Result<i64, StoreError> {
    let insert = "INSERT INTO objects \
        (id, kind, owner, created, changed, model, metadata, body, previous, size) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING seq";
    let row = sqlx::query(insert)
        .bind(&object.id)
        .bind(object.kind.as_str())
        .bind(column(owner))
        .bind(i64::try_from(object.created).unwrap_or(i64::MAX))
        .bind(now())
        .bind(&object.model)
        .bind(json(&object.metadata))
        .bind(&object.body)
        .bind(&object.previous)
        .bind(size)
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

/// Adds items to an object.
async fn add(
    connection: &mut SqliteConnection,
    seq: i64,
    at: ObjectRef<'_>,
    items: &[Item],
) -> Result<(), StoreError> {
    for some in items.chunks(AT_ONCE) {
        let mut query = QueryBuilder::new("INSERT INTO items (object, side, owner, id, body) ");
        query.push_values(some, |mut row, item| {
            row.push_bind(seq).push_bind(number(item.side));
            row.push_bind(finder(at, item.side));
            row.push_bind(&item.id).push_bind(&item.body);
        });
        let added = query.build().execute(&mut *connection).await;
        if let Err(error) = added {
            return Err(match taken(&error, "") {
                StoreError::Duplicate { .. } => twice(connection, seq, some).await?,
                other => other,
            });
        }
    }
    Ok(())
}

/// Which of these items, none of which was added, has an id that its side of the object has already.
async fn twice(
    connection: &mut SqliteConnection,
    seq: i64,
    items: &[Item],
) -> Result<StoreError, StoreError> {
    let mut ids = HashSet::new();
    for item in items {
        let is_new = ids.insert((item.side, &item.id));
        let found = find_item(connection, seq, item.side, &item.id).await?;
        if !is_new || found.is_some() {
            let id = item.id.clone();
            return Ok(StoreError::Duplicate { id });
        }
    }
    Ok(StoreError::Unavailable {
        cause: "an item could not be added".to_owned(),
    })
}

async fn chain(
    connection: &mut SqliteConnection,
    at: ObjectRef<'_>,
) -> Result<Vec<Item>, StoreError> {
    let mut rows = sqlx::query(CHAIN)
        .bind(at.id)
        .bind(column(at.owner))
        .bind(at.kind.as_str())
        .bind(MOST_STEPS)
        .bind(i64::try_from(MOST_BYTES_OF_A_CHAIN).unwrap_or(i64::MAX))
        .fetch(connection);
    let first = rows.try_next().await.map_err(failed)?;
    let mut next = Some(first.ok_or(StoreError::NotFound)?);
    if let Some(oldest) = &next {
        ends_well(oldest)?;
    }
    let mut items = Vec::new();
    while let Some(row) = next {
        // An object without items has one row.
        let id: Option<&str> = row.try_get("id").map_err(failed)?;
        if id.is_some() {
            items.push(item(&row)?);
        }
        next = rows.try_next().await.map_err(failed)?;
    }
    Ok(items)
}

/// Checks that a chain is whole; its first row is that of the oldest object that was found.
fn ends_well(oldest: &SqliteRow) -> Result<(), StoreError> {
    let bytes: i64 = oldest.try_get("bytes").map_err(failed)?;
    let steps: i64 = oldest.try_get("steps").map_err(failed)?;
    let missing: Option<String> = oldest.try_get("previous").map_err(failed)?;
    if usize::try_from(bytes).is_ok_and(|bytes| bytes > MOST_BYTES_OF_A_CHAIN) {
        return Err(StoreError::TooLong);
    }
    match missing {
        None => Ok(()),
        Some(_) if steps >= MOST_STEPS => Err(StoreError::TooLong),
        Some(id) => Err(StoreError::BrokenChain { id }),
    }
}

async fn find_items(
    connection: &mut SqliteConnection,
    owner: &Owner,
    ids: &[String],
) -> Result<Vec<Item>, StoreError> {
    let (mut found, mut bytes) = (HashMap::new(), 0);
    for some in ids.chunks(AT_ONCE) {
        let mut query = QueryBuilder::new(
            "SELECT id, side, body FROM items WHERE seq IN \
            (SELECT MAX(seq) FROM items WHERE owner = ",
        );
        query.push_bind(column(owner)).push(" AND id IN (");
        let mut list = query.separated(", ");
        for id in some {
            list.push_bind(id);
        }
        query.push(") GROUP BY id)");
        let mut rows = query.build().fetch(&mut *connection);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let item = item(&row)?;
            bytes += item.body.len();
            if bytes > MOST_BYTES_OF_A_CHAIN {
                return Err(StoreError::TooLong);
            }
            found.insert(item.id.clone(), item);
        }
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
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

/// The place of the item that a page begins after.
async fn item_after(
    connection: &mut SqliteConnection,
    object: i64,
    side: Side,
    id: &str,
) -> Result<i64, StoreError> {
    let found = find_item(connection, object, side, id).await?;
    found.ok_or(StoreError::AfterNotFound)
}

/// The place of an item.
async fn find_item(
    connection: &mut SqliteConnection,
    object: i64,
    side: Side,
    id: &str,
) -> Result<Option<i64>, StoreError> {
    let find = "SELECT seq FROM items WHERE object = $1 AND side = $2 AND id = $3";
    let row = sqlx::query(find)
        .bind(object)
        .bind(number(side))
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.map(|row| row.try_get(0).map_err(failed)).transpose()
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
        previous: row.try_get("previous").map_err(failed)?,
        is_held: row.try_get::<i64, _>("held_until").map_err(failed)? > now_ms(),
    })
}

fn item(row: &SqliteRow) -> Result<Item, StoreError> {
    Ok(Item {
        id: row.try_get("id").map_err(failed)?,
        body: row.try_get("body").map_err(failed)?,
        side: side(row.try_get("side").map_err(failed)?),
    })
}

fn at<'a>(owner: &'a Owner, kind: Kind, id: &'a str) -> ObjectRef<'a> {
    ObjectRef { owner, kind, id }
}

/// A side as the column has it.
fn number(side: Side) -> i64 {
    match side {
        Side::Input => 0,
        Side::Output => 1,
        Side::Stream => 2,
    }
}

fn side(number: i64) -> Side {
    match number {
        0 => Side::Input,
        1 => Side::Output,
        _ => Side::Stream,
    }
}

/// The owner who may look for an item by its id alone, as the column has it.
fn finder(at: ObjectRef<'_>, side: Side) -> Option<String> {
    let is_findable = at.kind != Kind::ChatCompletion && side != Side::Stream;
    is_findable.then(|| column(at.owner))
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

/// The bytes of the items that a chain has.
fn size(items: &[Item]) -> i64 {
    let items = items.iter().filter(|item| item.side != Side::Stream);
    let bytes: usize = items.map(|item| item.body.len()).sum();
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The bytes that a change adds.
fn length(change: &Change) -> usize {
    let (body, items) = match change {
        Change::Create { object, items } => (object.body.len(), items),
        Change::Replace { body, items, .. } => (body.len(), items),
        Change::Append { items, .. } => (0, items),
        Change::Hold { .. } | Change::Release { .. } => return 0,
    };
    body + items.iter().map(|item| item.body.len()).sum::<usize>()
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
