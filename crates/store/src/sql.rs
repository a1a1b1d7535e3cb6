//! SQLite and PostgreSQL as one: a [`Statement`] with its values, a connection that runs it
//! ([`Sql`]), and the rows that come back ([`Row`]). The text of a statement is the same for both.

use std::borrow::Cow;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use loggia_api::store::{Side, StoreError};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Either, Executor as _, Row as _};

use crate::clock::unix_milliseconds;
use crate::error::fact;

/// A statement and its values, which its text refers to as `$1`, `$2` and so on.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    text: String,
    values: Vec<Value<'a>>,
}

/// A value of a statement.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Number(i64),
    Text(Option<Cow<'a, str>>),
    Bytes(Option<Cow<'a, [u8]>>),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text.map(Into::into))
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(Into::into))
    }
}

impl From<Option<Vec<u8>>> for Value<'_> {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        Self::Bytes(bytes.map(Into::into))
    }
}

impl<'a> Statement<'a> {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            values: Vec::new(),
        }
    }

    /// Adds text.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value, and its placeholder to the text.
    pub(crate) fn bind(&mut self, value: impl Into<Value<'a>>) -> &mut Self {
        self.values.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.values.len().to_string());
        self
    }

    /// Binds a value whose placeholder is already in the text.
    pub(crate) fn with(mut self, value: impl Into<Value<'a>>) -> Self {
        self.values.push(value.into());
        self
    }
}

/// A query of sqlx with the values of a statement.
macro_rules! query {
    ($statement:ident, $text:expr) => {{
        let mut query = sqlx::query(&$statement.text);
        for value in &$statement.values {
            query = match value {
                Value::Number(number) => query.bind(*number),
                Value::Text(text) => query.bind(text.as_deref().map($text)),
                Value::Bytes(bytes) => query.bind(bytes.as_deref()),
            };
        }
        query
    }};
}

/// A connection to one of the databases.
pub(crate) enum Sql<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Sql<'_> {
    /// Runs a statement that returns nothing. Returns how many rows it changed.
    pub(crate) async fn run(&mut self, statement: &Statement<'_>) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(connection) => {
                let query = query!(statement, |text| text);
                // `execute` would also wait for the end of the messages from SQLite's thread, which
                // often wakes this thread a second time.
                let mut messages = connection.fetch_many(query);
                while let Some(message) = messages.try_next().await.map_err(failed)? {
                    if let Either::Left(done) = message {
                        return Ok(done.rows_affected());
                    }
                }
                Ok(0)
            }
            Self::Postgres(connection) => {
                let query = query!(statement, without_nul);
                let done = query.execute(&mut **connection).await;
                done.map(|done| done.rows_affected()).map_err(failed)
            }
        }
    }

    /// The first row that a statement returns.
    pub(crate) async fn row(
        &mut self,
        statement: &Statement<'_>,
    ) -> Result<Option<Row>, StoreError> {
        match self {
            Self::Sqlite(connection) => {
                let query = query!(statement, |text| text);
                let row = query.fetch_optional(&mut **connection).await;
                Ok(row.map_err(failed)?.map(Row::Sqlite))
            }
            Self::Postgres(connection) => {
                let query = query!(statement, without_nul);
                let row = query.fetch_optional(&mut **connection).await;
                Ok(row.map_err(failed)?.map(Row::Postgres))
            }
        }
    }

    /// The rows that a statement returns, one by one.
    pub(crate) fn rows<'a>(
        &'a mut self,
        statement: &'a Statement<'_>,
    ) -> BoxStream<'a, Result<Row, StoreError>> {
        match self {
            Self::Sqlite(connection) => {
                let query = query!(statement, |text| text);
                let rows = connection.fetch(query);
                rows.map(|row| row.map(Row::Sqlite).map_err(failed)).boxed()
            }
            Self::Postgres(connection) => {
                let query = query!(statement, without_nul);
                let rows = connection.fetch(query);
                rows.map(|row| row.map(Row::Postgres).map_err(failed))
                    .boxed()
            }
        }
    }

    /// The function of the bytes that a text takes in the database, which may compress it.
    pub(crate) fn stored_length(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "octet_length",
            Self::Postgres(_) => "pg_column_size",
        }
    }

    /// The condition of the items on a side of an object, whose place is an expression.
    pub(crate) fn items_on(&self, object: &str, side: Side) -> String {
        let side = number(side);
        match self {
            Self::Sqlite(_) => places(object, side, side),
            Self::Postgres(_) => format!("items.object = {object} AND items.side = {side}"),
        }
    }

    /// The condition of all items of an object.
    pub(crate) fn items_of(&self, object: &str) -> String {
        match self {
            Self::Sqlite(_) => places(object, 0, SIDES - 1),
            Self::Postgres(_) => format!("items.object = {object}"),
        }
    }

    /// The condition of the items of an object that a chain has.
    pub(crate) fn items_of_chain(&self, object: &str) -> String {
        let [first, last] = [Side::Input, Side::Output].map(number);
        match self {
            Self::Sqlite(_) => places(object, first, last),
            Self::Postgres(_) => {
                format!("items.object = {object} AND items.side IN ({first}, {last})")
            }
        }
    }

    /// The items of a query in one value, for [`PackedItem::all`](crate::packed::PackedItem::all),
    /// in any order. `steps` is how many objects away each is.
    pub(crate) fn packed_items(&self, steps: &str) -> String {
        let head = |is_sealed: &str, id: &str, body: &str| {
            format!(
                "{steps} || ' ' || items.side || ' ' || items.seq || ' ' || {is_sealed} || ' ' || \
                octet_length({id}) || ' ' || octet_length({body}) || '\n'"
            )
        };
        match self {
            Self::Sqlite(_) => {
                let (id, body) = ("items.id", "COALESCE(items.sealed, items.body)");
                let head = head("(items.sealed IS NOT NULL)", id, body);
                format!("CAST(group_concat({head} || {id} || {body}, '') AS BLOB)")
            }
            Self::Postgres(_) => {
                let id = "convert_to(items.id, 'UTF8')";
                let body = "COALESCE(items.sealed, convert_to(items.body, 'UTF8'))";
                let head = head("(items.sealed IS NOT NULL)::int", id, body);
                format!("string_agg(convert_to({head}, 'UTF8') || {id} || {body}, ''::bytea)")
            }
        }
    }

    /// Adds the time, in Unix milliseconds, to a statement: that of the database if several servers
    /// share it, since their clocks differ.
    pub(crate) fn push_now(&self, statement: &mut Statement<'_>) {
        match self {
            Self::Sqlite(_) => statement.bind(unix_milliseconds()),
            Self::Postgres(_) => {
                statement.push("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")
            }
        };
    }
}

/// In SQLite, the place of an item is a number made of that of its object, its side and its number on
/// this side, so that the items of a side are neighbours and in order. PostgreSQL has an index.
const SIDES: i64 = 4;
const NUMBERS: i64 = 1 << 26;

/// The place of the item with this number on a side of an object, in SQLite. `None` if there cannot be
/// as many items.
pub(crate) fn item_place(object: i64, side: Side, number_on_side: i64) -> Option<i64> {
    let is_possible = (0..NUMBERS).contains(&number_on_side);
    let object = object.checked_mul(SIDES * NUMBERS)?;
    is_possible.then(|| object + number(side) * NUMBERS + number_on_side)
}

/// Returns the number of an item in its list, from its place in SQLite.
pub(crate) fn item_number(place: i64) -> i64 {
    place % NUMBERS
}

/// The condition of the items from one side of an object to another.
fn places(object: &str, first: i64, last: i64) -> String {
    let (first, end) = (first * NUMBERS, (last + 1) * NUMBERS - 1);
    let object = format!("{object} * {}", SIDES * NUMBERS);
    format!("items.seq BETWEEN {object} + {first} AND {object} + {end}")
}

/// A side as the column has it.
pub(crate) fn number(side: Side) -> i64 {
    match side {
        Side::Input => 0,
        Side::Output => 1,
        Side::Stream => 2,
    }
}

/// PostgreSQL does not accept NUL in a text. Bodies are JSON and have none. In ids and labels of a
/// client, NUL is replaced by the replacement character.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// A row.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! column {
    ($row:ident, $column:ident) => {
        match $row {
            Row::Sqlite(row) => row.try_get($column),
            Row::Postgres(row) => row.try_get($column),
        }
        .map_err(failed)
    };
}

impl Row {
    pub(crate) fn number(&self, column: &str) -> Result<i64, StoreError> {
        column!(self, column)
    }

    pub(crate) fn optional_number(&self, column: &str) -> Result<Option<i64>, StoreError> {
        column!(self, column)
    }

    pub(crate) fn text(&self, column: &str) -> Result<String, StoreError> {
        column!(self, column)
    }

    pub(crate) fn truth(&self, column: &str) -> Result<bool, StoreError> {
        column!(self, column)
    }

    pub(crate) fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        column!(self, column)
    }

    pub(crate) fn optional_bytes(&self, column: &str) -> Result<Option<&[u8]>, StoreError> {
        column!(self, column)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn failed(error: sqlx::Error) -> StoreError {
    fact(&error)
}
