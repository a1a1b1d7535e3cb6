//! Reading as SQL. The statements are those of SQLite and of PostgreSQL alike.

use std::cmp::Reverse;
use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use loggia_api::store::{
    Filter, Item, Kind, Listed, MOST_BYTES_OF_A_CHAIN, MOST_BYTES_OF_A_PAGE,
    MOST_OBJECTS_OF_A_CHAIN, Object, ObjectRef, Order, Owner, Page, Side, StoreError,
};

use crate::packed::PackedItem;
use crate::sealing::{Place, Sealing};
use crate::sql::{Row, Sql, Statement, Value, number};

/// A recursive table of the responses that a response continues, with their distance from it. The
/// lengths of their items are added up, and the table ends where the sum exceeds the limit.
const CHAIN: &str = "\
    WITH RECURSIVE chain (seq, previous, steps, bytes) AS ( \
        SELECT seq, previous, CAST(0 AS BIGINT), size FROM objects \
        WHERE id = $1 AND owner = $2 AND kind = $3 \
        UNION ALL \
        SELECT objects.seq, objects.previous, steps + 1, bytes + size FROM chain \
        JOIN objects ON id = chain.previous AND owner = $2 AND kind = $3 \
        WHERE steps < $4 AND bytes <= $5 \
    ) \
    SELECT previous, steps, bytes, CASE WHEN bytes <= $5 THEN ";
const OLDEST_OF_CHAIN: &str =
    " END AS items FROM chain WHERE steps = (SELECT MAX(steps) FROM chain)";

/// The place of the oldest object in the chain of an object.
const OLDEST: &str = "\
    WITH RECURSIVE chain (seq, previous, steps) AS ( \
        SELECT seq, previous, CAST(0 AS BIGINT) FROM objects \
        WHERE id = $1 AND owner = $2 AND kind = $3 \
        UNION ALL \
        SELECT objects.seq, objects.previous, steps + 1 FROM chain \
        JOIN objects ON objects.id = chain.previous AND owner = $2 AND kind = $3 \
        WHERE steps < $4 \
    ) \
    SELECT seq FROM chain ORDER BY steps DESC LIMIT 1";

/// The place of an object.
const PLACE: &str = "(SELECT seq FROM objects WHERE id = $1 AND owner = $2 AND kind = $3)";

/// The maximum number of steps in a chain.
#[expect(clippy::cast_possible_wrap, reason = "the number is small")]
const MOST_STEPS: i64 = MOST_OBJECTS_OF_A_CHAIN as i64 - 1;

/// The maximum number of ids that one statement looks for.
const AT_ONCE: usize = 32;

/// A connection, and the keys that open and seal bodies.
pub(crate) struct Access<'c> {
    pub(crate) sql: Sql<'c>,
    pub(crate) sealing: &'c Sealing,
}

impl Access<'_> {
    /// Returns an object and its sequence number.
    pub(crate) async fn find(&mut self, at: ObjectRef<'_>) -> Result<(i64, Object), StoreError> {
        let mut find = self.select();
        find.push(" FROM objects");
        only(&mut find, at);
        let row = self.sql.row(&find).await?.ok_or(StoreError::NotFound)?;
        Ok((row.number("seq")?, self.object(&row, at.kind)?))
    }

    /// An object and all its items of one side, in one row: each row of SQLite's thread is a message
    /// of its own, and takes longer than the reading.
    pub(crate) async fn find_with_items(
        &mut self,
        at: ObjectRef<'_>,
        side: Side,
    ) -> Result<(Object, Vec<Item>), StoreError> {
        let mut find = self.select();
        find.push(", (SELECT ").push(&self.sql.packed_items("0"));
        find.push(" FROM items WHERE ");
        find.push(&self.sql.items_on("objects.seq", side));
        find.push(") AS items FROM objects");
        only(&mut find, at);
        let row = self.sql.row(&find).await?.ok_or(StoreError::NotFound)?;
        let object = self.object(&row, at.kind)?;
        Ok((object, unpacked(&row, self.sealing)?))
    }

    /// The place of an object, without the object: its body may be large.
    pub(crate) async fn place(&mut self, at: ObjectRef<'_>) -> Result<i64, StoreError> {
        let mut find = Statement::new("SELECT seq FROM objects");
        only(&mut find, at);
        let row = self.sql.row(&find).await?.ok_or(StoreError::NotFound)?;
        row.number("seq")
    }

    pub(crate) async fn objects(
        &mut self,
        owner: &Owner,
        kind: Kind,
        filter: &Filter,
        page: &Page,
    ) -> Result<Listed<Object>, StoreError> {
        let after = match &page.after {
            Some(id) => Some(self.object_after(ObjectRef { owner, kind, id }).await?),
            None => None,
        };
        let mut list = self.select();
        list.push(" FROM objects WHERE owner = ")
            .bind(column(owner));
        list.push(" AND kind = ").bind(kind.as_str());
        list.push(listed(kind));
        if let Some(model) = &filter.model {
            list.push(" AND model = ").bind(model.as_str());
        }
        for (name, value) in &filter.metadata {
            list.push(" AND seq IN (SELECT object FROM labels WHERE name = ");
            list.bind(name.as_str()).push(" AND value = ");
            list.bind(value.as_str()).push(")");
        }
        part(&mut list, after, page);
        let sealing = self.sealing;
        let read = |row: &Row| {
            let object = object(row, kind, sealing)?;
            let bytes = object.body.len();
            Ok((object, bytes))
        };
        cut(&mut self.sql, &list, page, read).await
    }

    pub(crate) async fn items(
        &mut self,
        at: ObjectRef<'_>,
        side: Side,
        page: &Page,
    ) -> Result<Listed<Item>, StoreError> {
        let after = match &page.after {
            Some(id) => {
                let object = (at, self.place(at).await?);
                let found = self.item_place(object, side, id).await?;
                Some(found.ok_or(StoreError::AfterNotFound)?)
            }
            None => None,
        };
        let mut list = Statement::new("SELECT id, side, body, sealed FROM items WHERE ")
            .with(at.id)
            .with(column(at.owner))
            .with(at.kind.as_str());
        list.push(&self.sql.items_on(PLACE, side));
        part(&mut list, after, page);
        let sealing = self.sealing;
        let read = |row: &Row| {
            let item = item(row, sealing)?;
            let bytes = item.body.len();
            Ok((item, bytes))
        };
        let listed = cut(&mut self.sql, &list, page, read).await?;
        if !listed.data.is_empty() {
            return Ok(listed);
        }
        // The object does not exist, or it has no such items, or they were stored just now.
        self.place(at).await?;
        cut(&mut self.sql, &list, page, read).await
    }

    pub(crate) async fn item(&mut self, at: ObjectRef<'_>, id: &str) -> Result<Item, StoreError> {
        let object = self.place(at).await?;
        let mut find = Statement::new("SELECT id, side, body, sealed FROM items WHERE ");
        only_item(&mut find, (at, object), Side::Input, id);
        let row = self.sql.row(&find).await?;
        item(&row.ok_or(StoreError::ItemNotFound)?, self.sealing)
    }

    pub(crate) async fn chain(&mut self, at: ObjectRef<'_>) -> Result<Vec<Item>, StoreError> {
        let mut chain = Statement::new(CHAIN)
            .with(at.id)
            .with(column(at.owner))
            .with(at.kind.as_str())
            .with(MOST_STEPS)
            .with(i64::try_from(MOST_BYTES_OF_A_CHAIN).unwrap_or(i64::MAX));
        chain.push("(SELECT ");
        chain.push(&self.sql.packed_items("parts.steps"));
        chain.push(" FROM chain AS parts JOIN items ON ");
        chain.push(&self.sql.items_of_chain("parts.seq"));
        chain.push(")").push(OLDEST_OF_CHAIN);
        let row = self.sql.row(&chain).await?.ok_or(StoreError::NotFound)?;
        is_whole(&row)?;
        unpacked(&row, self.sealing)
    }

    pub(crate) async fn oldest(&mut self, at: ObjectRef<'_>) -> Result<Object, StoreError> {
        let mut find = self.select_after([
            at.id.into(),
            column(at.owner).into(),
            at.kind.as_str().into(),
            MOST_STEPS.into(),
        ]);
        find.push(" FROM objects WHERE seq = (")
            .push(OLDEST)
            .push(")");
        let row = self.sql.row(&find).await?.ok_or(StoreError::NotFound)?;
        self.object(&row, at.kind)
    }

    pub(crate) async fn find_items(
        &mut self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Item>, StoreError> {
        let (mut found, mut bytes) = (HashMap::new(), 0);
        for some in ids.chunks(AT_ONCE) {
            let mut find = Statement::new(
                "SELECT id, side, body, sealed FROM items WHERE seq IN \
                (SELECT MAX(seq) FROM items WHERE owner = ",
            );
            find.bind(column(owner)).push(" AND id IN (");
            for (index, id) in some.iter().enumerate() {
                find.push(if index == 0 { "" } else { ", " });
                find.bind(id.as_str());
            }
            find.push(") GROUP BY id)");
            let mut rows = self.sql.rows(&find);
            while let Some(row) = rows.try_next().await? {
                let item = item(&row, self.sealing)?;
                bytes += item.body.len();
                if bytes > MOST_BYTES_OF_A_CHAIN {
                    return Err(StoreError::TooLong);
                }
                found.insert(item.id.clone(), item);
            }
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// The place of the object that a page begins after.
    async fn object_after(&mut self, after: ObjectRef<'_>) -> Result<i64, StoreError> {
        match self.place(after).await {
            Err(StoreError::NotFound) => Err(StoreError::AfterNotFound),
            found => found,
        }
    }

    /// The place of an item.
    async fn item_place(
        &mut self,
        object: (ObjectRef<'_>, i64),
        side: Side,
        id: &str,
    ) -> Result<Option<i64>, StoreError> {
        let mut find = Statement::new("SELECT seq FROM items WHERE ");
        only_item(&mut find, object, side, id);
        let row = self.sql.row(&find).await?;
        row.map(|row| row.number("seq")).transpose()
    }

    /// The beginning of every statement that returns objects: their columns.
    fn select<'a>(&self) -> Statement<'a> {
        self.select_after([])
    }

    /// The same for a statement whose text has placeholders for these values.
    fn select_after<'a>(&self, values: impl IntoIterator<Item = Value<'a>>) -> Statement<'a> {
        let mut select = Statement::new(
            "SELECT seq, id, created, model, metadata, body, sealed, previous, \
            CAST(CASE WHEN held_until > ",
        );
        for value in values {
            select = select.with(value);
        }
        self.sql.push_now(&mut select);
        select.push(" THEN 1 ELSE 0 END AS BIGINT) AS is_held");
        select
    }

    fn object(&self, row: &Row, kind: Kind) -> Result<Object, StoreError> {
        object(row, kind, self.sealing)
    }
}

/// Checks that a chain is whole by the row of its oldest object.
fn is_whole(oldest: &Row) -> Result<(), StoreError> {
    let bytes = oldest.number("bytes")?;
    if usize::try_from(bytes).is_ok_and(|bytes| bytes > MOST_BYTES_OF_A_CHAIN) {
        return Err(StoreError::TooLong);
    }
    match oldest.optional_text("previous")? {
        None => Ok(()),
        Some(_) if oldest.number("steps")? >= MOST_STEPS => Err(StoreError::TooLong),
        Some(id) => Err(StoreError::BrokenChain { id }),
    }
}

/// Restricts a statement to one object.
pub(crate) fn only<'a>(statement: &mut Statement<'a>, at: ObjectRef<'a>) {
    statement.push(" WHERE objects.id = ").bind(at.id);
    statement
        .push(" AND objects.owner = ")
        .bind(column(at.owner));
    statement
        .push(" AND objects.kind = ")
        .bind(at.kind.as_str());
}

/// Restricts a statement to one item of an object, whose place is known.
pub(crate) fn only_item<'a>(
    statement: &mut Statement<'a>,
    (at, object): (ObjectRef<'a>, i64),
    side: Side,
    id: &'a str,
) {
    statement.push("object = ").bind(object);
    statement.push(" AND side = ").bind(number(side));
    statement.push(" AND id = ").bind(id);
    // An item that is found by its id alone has an owner, and is in another index of SQLite.
    match finder(at, side) {
        Some(owner) => statement.push(" AND owner = ").bind(owner),
        None => statement.push(" AND owner IS NULL"),
    };
}

/// Returns whether an item can be found by its id alone.
pub(crate) fn is_findable(kind: Kind, side: Side) -> bool {
    kind.has_findable_items() && side != Side::Stream
}

/// Returns the owner column of an item that can be found by its id alone.
pub(crate) fn finder(at: ObjectRef<'_>, side: Side) -> Option<String> {
    is_findable(at.kind, side).then(|| column(at.owner))
}

/// Returns the condition that makes SQLite use the partial index for lists. The index leaves out
/// responses, conversations and messages, which are not listed; for these, there is no condition.
pub(crate) fn listed(kind: Kind) -> &'static str {
    match kind {
        Kind::Response | Kind::Conversation | Kind::Message => "",
        _ => " AND kind <> 'response' AND kind <> 'conversation' AND kind <> 'message'",
    }
}

/// The part of a list that a page asks for, and one entry more.
fn part(list: &mut Statement<'_>, after: Option<i64>, page: &Page) {
    let (past, direction) = match page.order {
        Order::Ascending => (" AND seq > ", " ORDER BY seq ASC"),
        Order::Descending => (" AND seq < ", " ORDER BY seq DESC"),
    };
    if let Some(after) = after {
        list.push(past).bind(after);
    }
    let most = i64::try_from(page.limit).unwrap_or(i64::MAX - 1) + 1;
    list.push(direction).push(" LIMIT ").bind(most);
}

/// Reads rows up to the limits of a page; they are read one by one, since they may be large. `read`
/// returns an entry and its length.
async fn cut<T>(
    sql: &mut Sql<'_>,
    list: &Statement<'_>,
    page: &Page,
    read: impl Fn(&Row) -> Result<(T, usize), StoreError>,
) -> Result<Listed<T>, StoreError> {
    let (mut data, mut bytes) = (Vec::new(), 0);
    let mut rows = sql.rows(list);
    while let Some(row) = rows.try_next().await? {
        if data.len() == page.limit || bytes >= MOST_BYTES_OF_A_PAGE {
            let has_more = true;
            return Ok(Listed { data, has_more });
        }
        let (entry, length) = read(&row)?;
        bytes += length;
        data.push(entry);
    }
    let has_more = false;
    Ok(Listed { data, has_more })
}

pub(crate) fn object(row: &Row, kind: Kind, sealing: &Sealing) -> Result<Object, StoreError> {
    let id = row.text("id")?;
    let metadata = serde_json::from_str(&row.text("metadata")?);
    Ok(Object {
        kind,
        created: u64::try_from(row.number("created")?).unwrap_or(0),
        model: row.optional_text("model")?,
        metadata: metadata.map_err(|_| StoreError::Unavailable {
            cause: "the metadata of an object are damaged".to_owned(),
        })?,
        body: sealing.body(Place::Object(&id), row)?,
        previous: row.optional_text("previous")?,
        is_held: row.number("is_held")? != 0,
        id,
    })
}

/// Returns the items of a row that has all of them packed in one value, in their order.
fn unpacked(row: &Row, sealing: &Sealing) -> Result<Vec<Item>, StoreError> {
    let packed = row.optional_bytes("items")?.unwrap_or_default();
    let mut parts = PackedItem::all(packed).ok_or_else(damaged)?;
    parts.sort_unstable_by_key(|part| (Reverse(part.steps), part.side, part.seq));
    let item = |part: PackedItem<'_>| {
        let id = str::from_utf8(part.id).map_err(|_| damaged())?;
        let body = if part.is_sealed {
            sealing.opened(Place::Item(id), part.body)?
        } else {
            part.body.to_vec()
        };
        Ok(Item {
            id: id.to_owned(),
            body: String::from_utf8(body).map_err(|_| damaged())?,
            side: side(part.side),
        })
    };
    parts.into_iter().map(item).collect()
}

fn damaged() -> StoreError {
    StoreError::Unavailable {
        cause: "the items of an object are damaged".to_owned(),
    }
}

fn item(row: &Row, sealing: &Sealing) -> Result<Item, StoreError> {
    let id = row.text("id")?;
    Ok(Item {
        body: sealing.body(Place::Item(&id), row)?,
        side: side(row.number("side")?),
        id,
    })
}

/// The owner as the column has it. The prefix makes the name of a key differ from the lack of a
/// key.
pub(crate) fn column(owner: &Owner) -> String {
    owner
        .key()
        .map_or_else(String::new, |key| format!("key:{key}"))
}

fn side(number: i64) -> Side {
    match number {
        0 => Side::Input,
        1 => Side::Output,
        _ => Side::Stream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_restricted_to_the_kinds_that_the_index_of_lists_has() {
        let unlisted = [Kind::Response, Kind::Conversation, Kind::Message];
        let conditions = unlisted.map(|kind| format!("kind <> '{}'", kind.as_str()));
        let condition = conditions.join(" AND ");
        assert_eq!(listed(Kind::File), format!(" AND {condition}"));
        assert!(unlisted.iter().all(|kind| listed(*kind).is_empty()));
        for migration in [
            include_str!("../migrations/sqlite/0010.sql"),
            include_str!("../migrations/postgres/0007.sql"),
        ] {
            assert!(migration.contains(&condition));
        }
    }
}
