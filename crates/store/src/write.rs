//! Writing as SQL. Each function runs in a transaction that its caller has begun.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use loggia_api::store::{
    Change, Item, Kind, Metadata, NeededHold, Object, ObjectRef, Owner, Side, StoreError,
};
use serde::Serialize;

use crate::chunks;
use crate::clock::unix_seconds;
use crate::read::{Access, column, finder, is_findable, only, only_item};
use crate::retention::{ITEM_BYTES, OBJECT_BYTES};
use crate::sealing::Place;
use crate::sql::{Row, Sql, Statement, item_number, item_place, number};

/// The maximum number of items that one statement adds.
const AT_ONCE: usize = 32;

/// The columns of a new object.
const COLUMNS: &str =
    "id, kind, owner, created, changed, model, metadata, body, sealed, previous, size";

impl Access<'_> {
    /// Makes changes in their order. After an error, the caller must roll the transaction back.
    pub(crate) async fn write(
        &mut self,
        owner: &Owner,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        for change in changes {
            self.apply(owner, change).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, owner: &Owner, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Create { object, items } => self.create(owner, object, items).await?,
            Change::Replace {
                kind,
                id,
                body,
                items,
                needs,
            } => {
                let at = at(owner, *kind, id);
                self.replace(at, body, items, needs.as_ref()).await?;
            }
            Change::Append { kind, id, items } => {
                self.append(at(owner, *kind, id), items).await?;
            }
            Change::Hold {
                kind,
                id,
                holder,
                time,
            } => self.hold(at(owner, *kind, id), holder, *time).await?,
            Change::Renew {
                kind,
                id,
                holder,
                time,
            } => self.renew(at(owner, *kind, id), holder, *time).await?,
            Change::Release { kind, id, holder } => {
                let at = at(owner, *kind, id);
                self.release(at, holder.as_deref()).await?;
            }
            Change::Label { kind, id, metadata } => {
                let at = at(owner, *kind, id);
                self.relabel(at, metadata).await?;
            }
            Change::Chunks {
                id,
                store,
                first,
                chunks,
                is_last,
            } => {
                let file = at(owner, Kind::VectorStoreFile, id);
                let store = at(owner, Kind::VectorStore, store);
                let added = self.add_chunks([file, store], *first, chunks, *is_last);
                added.await?;
            }
            Change::Clear { kind, id } => self.clear(at(owner, *kind, id)).await?,
            Change::Schedule {
                kind,
                id,
                due,
                content,
            } => self.schedule(at(owner, *kind, id), *due, *content).await?,
            Change::Limit { more, most } => self.limit(owner, *more, *most).await?,
        }
        Ok(())
    }

    async fn create(
        &mut self,
        owner: &Owner,
        object: &Object,
        items: &[Item],
    ) -> Result<(), StoreError> {
        let mut insert = Statement::new("");
        self.insert(&mut insert, owner, object, items);
        insert.push(" ON CONFLICT DO NOTHING RETURNING seq");
        let row = self.sql.row(&insert).await?;
        let row = row.ok_or_else(|| StoreError::Duplicate {
            id: object.id.clone(),
        })?;
        let seq = row.number("seq")?;
        self.label(seq, &object.metadata).await?;
        let at = at(owner, object.kind, &object.id);
        self.add(&mut Places::of_new(seq), at, items).await
    }

    /// Writes the statement that adds the row of an object.
    fn insert<'a>(
        &self,
        insert: &mut Statement<'a>,
        owner: &Owner,
        object: &'a Object,
        items: &[Item],
    ) {
        let (column, place) = match self.sql {
            Sql::Sqlite(_) => ("seq, ", "(SELECT seq FROM next_place), "),
            Sql::Postgres(_) => ("", ""),
        };
        insert.push("INSERT INTO objects (").push(column);
        insert.push(COLUMNS).push(") VALUES (").push(place);
        self.values(insert, owner, object, items);
        insert.push(")");
    }

    /// Writes the values of [`COLUMNS`].
    fn values<'a>(
        &self,
        insert: &mut Statement<'a>,
        owner: &Owner,
        object: &'a Object,
        items: &[Item],
    ) {
        let place = Place::Object(&object.id);
        let (body, sealed) = self.sealing.columns(place, &object.body);
        let created = i64::try_from(object.created).unwrap_or(i64::MAX);
        insert.bind(object.id.as_str()).push(", ");
        insert.bind(object.kind.as_str()).push(", ");
        insert.bind(column(owner)).push(", ");
        insert.bind(created).push(", ");
        insert.bind(unix_seconds()).push(", ");
        insert.bind(object.model.as_deref()).push(", ");
        insert.bind(json(&object.metadata)).push(", ");
        insert.bind(body).push(", ");
        insert.bind(sealed).push(", ");
        insert.bind(object.previous.as_deref()).push(", ");
        insert.bind(size(items));
    }

    /// Writes the statement that stores several objects with their labels and items. It is for
    /// SQLite, whose schema has the view `creations`. If an id is taken, it fails and does nothing.
    pub(crate) fn create_all<'a>(&self, creations: &[Creation<'a>]) -> Statement<'a> {
        let mut insert = Statement::new("INSERT INTO creations (seq, ");
        insert.push(COLUMNS).push(", items, bodies) VALUES ");
        for (index, creation) in creations.iter().enumerate() {
            let Creation {
                owner,
                object,
                items,
            } = *creation;
            let (list, bodies) = self.packed(at(owner, object.kind, &object.id), items);
            // The places of all rows are computed before the first row is stored.
            insert.push(if index == 0 { "(" } else { ", (" });
            insert.push("(SELECT seq + ").push(&index.to_string());
            insert.push(" FROM next_place), ");
            self.values(&mut insert, owner, object, items);
            insert.push(", ").bind(list);
            insert.push(", ").bind(Some(bodies)).push(")");
        }
        insert
    }

    /// Items as the view `creations` takes them: a JSON list with the side, the id and the place of
    /// each body, and all bodies in a row.
    fn packed(&self, at: ObjectRef<'_>, items: &[Item]) -> (String, Vec<u8>) {
        let mut bodies = Vec::with_capacity(items.iter().map(|item| item.body.len()).sum());
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            let (body, sealed) = self.sealing.columns(Place::Item(&item.id), &item.body);
            let body = sealed.as_deref().unwrap_or(body.as_bytes());
            // SQL counts from 1.
            let first = bodies.len() + 1;
            let is_findable = i64::from(is_findable(at.kind, item.side));
            list.push((number(item.side), is_findable, &item.id, first, body.len()));
            bodies.extend_from_slice(body);
        }
        (json(&list), bodies)
    }

    /// Returns the statement that adds items to an object.
    fn insert_items<'a>(
        &self,
        places: &mut Places,
        at: ObjectRef<'_>,
        items: &'a [Item],
    ) -> Result<Statement<'a>, StoreError> {
        let has_places = matches!(self.sql, Sql::Sqlite(_));
        let mut insert = Statement::new("INSERT INTO items (");
        insert.push(if has_places { "seq" } else { "object, side" });
        insert.push(", owner, id, body, sealed) VALUES ");
        for (index, item) in items.iter().enumerate() {
            let (body, sealed) = self.sealing.columns(Place::Item(&item.id), &item.body);
            insert.push(if index == 0 { "(" } else { ", (" });
            if has_places {
                insert.bind(places.next(item.side)?).push(", ");
            } else {
                insert.bind(places.object).push(", ");
                insert.bind(number(item.side)).push(", ");
            }
            insert.bind(finder(at, item.side)).push(", ");
            insert.bind(item.id.as_str()).push(", ");
            insert.bind(body).push(", ");
            insert.bind(sealed).push(")");
        }
        Ok(insert)
    }

    async fn replace(
        &mut self,
        at: ObjectRef<'_>,
        body: &str,
        items: &[Item],
        needs: Option<&NeededHold>,
    ) -> Result<(), StoreError> {
        let (body, sealed) = self.sealing.columns(Place::Object(at.id), body);
        let mut update = Statement::new("UPDATE objects SET body = ");
        update.bind(body).push(", sealed = ").bind(sealed);
        update.push(", changed = ").bind(unix_seconds());
        update.push(", size = size + ").bind(size(items));
        only(&mut update, at);
        match needs {
            None => {}
            Some(NeededHold::Of(holder)) => {
                update.push(" AND holder = ").bind(holder.as_str());
            }
            Some(NeededHold::Any) => {
                update.push(" AND holder IS NOT NULL");
            }
            Some(NeededHold::RunOut) => {
                update.push(" AND holder IS NOT NULL AND held_until <= ");
                self.sql.push_now(&mut update);
            }
        }
        let mut places = self.update_and_place(update, at, items).await?;
        self.add(&mut places, at, items).await
    }

    async fn append(&mut self, at: ObjectRef<'_>, items: &[Item]) -> Result<(), StoreError> {
        let mut update = Statement::new("UPDATE objects SET changed = ");
        update.bind(unix_seconds());
        update.push(", size = size + ").bind(size(items));
        only(&mut update, at);
        let mut places = self.update_and_place(update, at, items).await?;
        self.add(&mut places, at, items).await
    }

    async fn hold(
        &mut self,
        at: ObjectRef<'_>,
        holder: &str,
        time: Duration,
    ) -> Result<(), StoreError> {
        let mut update = Statement::new("UPDATE objects SET holder = ");
        update.bind(holder).push(", held_until = ");
        self.sql.push_now(&mut update);
        update.push(" + ").bind(milliseconds(time));
        only(&mut update, at);
        update
            .push(" AND (holder IS NULL OR holder = ")
            .bind(holder);
        update.push(" OR held_until <= ");
        self.sql.push_now(&mut update);
        update.push(")");
        self.update(update, at).await.map(|_| ())
    }

    async fn renew(
        &mut self,
        at: ObjectRef<'_>,
        holder: &str,
        time: Duration,
    ) -> Result<(), StoreError> {
        let mut update = Statement::new("UPDATE objects SET held_until = ");
        self.sql.push_now(&mut update);
        update.push(" + ").bind(milliseconds(time));
        only(&mut update, at);
        update.push(" AND holder = ").bind(holder);
        self.update(update, at).await.map(|_| ())
    }

    async fn release(&mut self, at: ObjectRef<'_>, holder: Option<&str>) -> Result<(), StoreError> {
        let mut update = Statement::new("UPDATE objects SET holder = NULL, held_until = 0");
        only(&mut update, at);
        if let Some(holder) = holder {
            update.push(" AND holder = ").bind(holder);
        }
        match self.update(update, at).await {
            Err(StoreError::InUse) => Ok(()),
            released => released.map(|_| ()),
        }
    }

    pub(crate) async fn set_metadata(
        &mut self,
        at: ObjectRef<'_>,
        metadata: Metadata,
    ) -> Result<Object, StoreError> {
        self.relabel(at, &metadata).await?;
        Ok(self.find(at).await?.1)
    }

    async fn relabel(&mut self, at: ObjectRef<'_>, metadata: &Metadata) -> Result<(), StoreError> {
        let mut update = Statement::new("UPDATE objects SET metadata = ");
        update.bind(json(metadata));
        update.push(", changed = ").bind(unix_seconds());
        only(&mut update, at);
        let seq = self.update(update, at).await?;
        let mut delete = Statement::new("DELETE FROM labels WHERE object = ");
        delete.bind(seq);
        self.sql.run(&delete).await?;
        self.label(seq, metadata).await
    }

    pub(crate) async fn delete(&mut self, at: ObjectRef<'_>) -> Result<(), StoreError> {
        let mut delete = Statement::new("DELETE FROM objects");
        only(&mut delete, at);
        match self.sql.run(&delete).await? {
            0 => Err(StoreError::NotFound),
            _ => Ok(()),
        }
    }

    pub(crate) async fn delete_item(
        &mut self,
        at: ObjectRef<'_>,
        id: &str,
    ) -> Result<Object, StoreError> {
        let (seq, object) = self.find(at).await?;
        let mut delete = Statement::new("DELETE FROM items WHERE ");
        only_item(&mut delete, (at, seq), Side::Input, id);
        delete.push(" RETURNING body, sealed");
        let row = self.sql.row(&delete).await?;
        let row = row.ok_or(StoreError::ItemNotFound)?;
        let body = self.sealing.body(Place::Item(id), &row)?;
        let mut update = Statement::new("UPDATE objects SET size = size - ");
        update
            .bind(bytes(body.len()))
            .push(" WHERE seq = ")
            .bind(seq);
        self.sql.run(&update).await?;
        Ok(object)
    }

    /// Changes one object. Returns its place. If the object exists and was not changed, a hold
    /// prevented the change.
    pub(crate) async fn update(
        &mut self,
        mut update: Statement<'_>,
        at: ObjectRef<'_>,
    ) -> Result<i64, StoreError> {
        update.push(" RETURNING seq");
        self.updated(&update, at).await?.number("seq")
    }

    /// Changes one object, and returns the numbers for items that are added to it.
    async fn update_and_place(
        &mut self,
        mut update: Statement<'_>,
        at: ObjectRef<'_>,
        items: &[Item],
    ) -> Result<Places, StoreError> {
        update.push(" RETURNING seq");
        let is_used = |side: &Side| items.iter().any(|item| item.side == *side);
        let mut sides = Vec::new();
        if matches!(self.sql, Sql::Sqlite(_)) {
            sides.extend(
                [Side::Input, Side::Output, Side::Stream]
                    .into_iter()
                    .filter(is_used),
            );
        }
        for side in &sides {
            update.push(", (SELECT MAX(items.seq) FROM items WHERE ");
            update.push(&self.sql.items_on("objects.seq", *side));
            update.push(") AS last_").push(&number(*side).to_string());
        }
        let row = self.updated(&update, at).await?;
        let mut places = Places::of_new(row.number("seq")?);
        for side in sides {
            let last = row.optional_number(&format!("last_{}", number(side)))?;
            places.used[side as usize] = last.map_or(0, |last| item_number(last) + 1);
        }
        Ok(places)
    }

    async fn updated(
        &mut self,
        update: &Statement<'_>,
        at: ObjectRef<'_>,
    ) -> Result<Row, StoreError> {
        if let Some(row) = self.sql.row(update).await? {
            return Ok(row);
        }
        self.place(at).await?;
        Err(StoreError::InUse)
    }

    /// Adds the labels that lists are filtered by.
    async fn label(&mut self, seq: i64, metadata: &Metadata) -> Result<(), StoreError> {
        for (name, value) in metadata {
            let insert =
                Statement::new("INSERT INTO labels (object, name, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                    .with(seq)
                    .with(name.as_str())
                    .with(value.as_str());
            self.sql.run(&insert).await?;
        }
        Ok(())
    }

    /// Adds items to an object.
    async fn add(
        &mut self,
        places: &mut Places,
        at: ObjectRef<'_>,
        items: &[Item],
    ) -> Result<(), StoreError> {
        for some in items.chunks(AT_ONCE) {
            let mut insert = self.insert_items(places, at, some)?;
            insert.push(" ON CONFLICT DO NOTHING RETURNING side, id");
            let mut added = HashSet::new();
            let mut rows = self.sql.rows(&insert);
            while let Some(row) = rows.try_next().await? {
                added.insert((row.number("side")?, row.text("id")?));
            }
            if added.len() < some.len() {
                let mut missing = some.iter();
                let twice = missing.find(|item| {
                    let key = (number(item.side), item.id.clone());
                    !added.remove(&key)
                });
                let id = twice.map(|item| item.id.clone()).unwrap_or_default();
                return Err(StoreError::Duplicate { id });
            }
        }
        Ok(())
    }
}

fn at<'a>(owner: &'a Owner, kind: Kind, id: &'a str) -> ObjectRef<'a> {
    ObjectRef { owner, kind, id }
}

/// The place of an object, and in SQLite where its next items are placed.
struct Places {
    object: i64,
    /// The numbers that were given on each side.
    used: [i64; 3],
}

impl Places {
    /// Returns the numbers for an object without items.
    fn of_new(object: i64) -> Self {
        Self {
            object,
            used: [0; 3],
        }
    }

    /// The place of the next item on a side, in SQLite.
    fn next(&mut self, side: Side) -> Result<i64, StoreError> {
        let used = &mut self.used[side as usize];
        let place = item_place(self.object, side, *used).ok_or(StoreError::Full)?;
        *used += 1;
        Ok(place)
    }
}

/// An object to store, and its items.
#[derive(Clone, Copy)]
pub(crate) struct Creation<'a> {
    owner: &'a Owner,
    object: &'a Object,
    items: &'a [Item],
}

/// The changes of one owner as [`create_all`](Access::create_all) takes them. `None` if one of them
/// is not a creation, or has a NUL, which ends a text in the JSON of SQLite.
pub(crate) fn creations<'a>(owner: &'a Owner, changes: &'a [Change]) -> Option<Vec<Creation<'a>>> {
    let creation = |change: &'a Change| {
        let Change::Create { object, items } = change else {
            return None;
        };
        let labels = object.metadata.iter();
        let mut texts = labels
            .flat_map(|(name, value)| [name, value])
            .chain(items.iter().map(|item| &item.id));
        let has_nul = texts.any(|text| text.contains('\0'));
        (!has_nul).then_some(Creation {
            owner,
            object,
            items,
        })
    };
    changes.iter().map(creation).collect()
}

/// Texts and numbers are always JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The bytes of the items that a chain has.
fn size(items: &[Item]) -> i64 {
    let items = items.iter().filter(|item| item.side != Side::Stream);
    bytes(items.map(|item| item.body.len()).sum())
}

/// The length of a hold. A century is long enough, and added to the time of a clock it is a number.
fn milliseconds(time: Duration) -> i64 {
    let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    time.min(100 * 365 * 24 * 3600 * 1000)
}

pub(crate) fn bytes(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The bytes that changes add, with those of rows and indexes.
pub(crate) fn length(changes: &[Change]) -> usize {
    let length = |change: &Change| {
        let (object, items) = match change {
            Change::Create { object, items } => (object.body.len() + overhead(object), items),
            Change::Replace { body, items, .. } => (body.len(), items),
            Change::Append { items, .. } => (0, items),
            Change::Chunks { chunks, .. } => return chunks.iter().map(chunks::bytes).sum(),
            Change::Hold { .. }
            | Change::Renew { .. }
            | Change::Release { .. }
            | Change::Clear { .. }
            | Change::Label { .. }
            | Change::Schedule { .. }
            | Change::Limit { .. } => return 0,
        };
        let items = items.iter().map(|item| item.body.len() + ITEM_BYTES);
        object + items.sum::<usize>()
    };
    changes.iter().map(length).sum()
}

/// The bytes of an object apart from its body. Its labels are in its row, in a table and in an index.
fn overhead(object: &Object) -> usize {
    let labels = object.metadata.iter();
    let labels: usize = labels.map(|(name, value)| name.len() + value.len()).sum();
    OBJECT_BYTES + 3 * labels
}
