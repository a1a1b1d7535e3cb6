//! Several writes in one transaction, so that they share a wait for the disk: while one transaction
//! is written, the writes that come gather in the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};
use loggia_api::store::{Change, Owner, StoreError};

use crate::file::Database;
use crate::read::Access;
use crate::sealing::Sealing;
use crate::sql::Sql;
use crate::write::length;

/// The limits of one transaction.
const MOST_WRITES: usize = 64;
const MOST_BYTES: usize = 4 << 20;

/// What becomes of the writes of a batch, in their order.
type Done = Arc<Vec<Result<(), StoreError>>>;

/// A transaction. Each of its callers polls it, so that it goes on when one of them is dropped.
type Transaction = BoxFuture<'static, Done>;

/// A write of one caller.
struct Write {
    owner: Owner,
    changes: Vec<Change>,
}

/// The writes of a transaction that has not begun.
#[derive(Default)]
struct Gathered {
    writes: Vec<Write>,
    bytes: usize,
    has_begun: bool,
}

/// The batch that new writes join.
struct Next {
    gathered: Arc<Mutex<Gathered>>,
    /// Not more than a look at it: it must end when all its callers are gone, since it has a place
    /// among those who wait for their turn.
    transaction: WeakShared<Transaction>,
}

/// The batches of a file.
#[derive(Default)]
pub(crate) struct Batches {
    next: Mutex<Option<Next>>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").finish_non_exhaustive()
    }
}

impl Batches {
    /// Makes the changes of a write, in one transaction with those of others.
    pub(crate) async fn write(
        database: &Arc<Database>,
        sealing: &Sealing,
        owner: &Owner,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let owner = owner.clone();
        let write = Write { owner, changes };
        let (transaction, place) = database.batches.join(write, |gathered| {
            transact(Arc::clone(database), sealing.clone(), gathered).boxed()
        });
        transaction.await[place].clone()
    }

    /// Joins the batch that gathers, or makes one. Returns its transaction, and which of its writes
    /// this is.
    fn join(
        &self,
        write: Write,
        begin: impl FnOnce(Arc<Mutex<Gathered>>) -> Transaction,
    ) -> (Shared<Transaction>, usize) {
        let mut next = lock(&self.next);
        if let Some(next) = &*next
            && let Some(transaction) = next.transaction.upgrade()
        {
            let mut gathered = lock(&next.gathered);
            if gathered.has_room_for(&write) {
                return (transaction, gathered.add(write));
            }
        }
        let mut gathered = Gathered::default();
        let place = gathered.add(write);
        let gathered = Arc::new(Mutex::new(gathered));
        let transaction = begin(Arc::clone(&gathered)).shared();
        *next = transaction.downgrade().map(|transaction| Next {
            gathered,
            transaction,
        });
        (transaction, place)
    }
}

impl Gathered {
    fn has_room_for(&self, write: &Write) -> bool {
        !self.has_begun
            && self.writes.len() < MOST_WRITES
            && self.bytes + length(&write.changes) <= MOST_BYTES
    }

    fn add(&mut self, write: Write) -> usize {
        self.bytes += length(&write.changes);
        self.writes.push(write);
        self.writes.len() - 1
    }

    fn begin(&mut self) -> Vec<Write> {
        self.has_begun = true;
        std::mem::take(&mut self.writes)
    }
}

/// Makes all writes in one transaction. If one fails, each is made in a transaction of its own.
async fn transact(
    database: Arc<Database>,
    sealing: Sealing,
    gathered: Arc<Mutex<Gathered>>,
) -> Done {
    let turn = database.begin().await;
    let writes = lock(&gathered).begin();
    let together = match turn {
        Ok(mut turn) => {
            let done = make(&mut turn.connection, &sealing, &writes).await;
            let is_made = done.is_ok();
            let ended = turn.end(done).await;
            if writes.len() > 1 && !is_made {
                None
            } else {
                Some(ended)
            }
        }
        Err(error) => Some(Err(error)),
    };
    let mut done = Vec::with_capacity(writes.len());
    for write in &writes {
        done.push(match &together {
            Some(done) => done.clone(),
            None => alone(&database, &sealing, write).await,
        });
    }
    Arc::new(done)
}

async fn alone(database: &Database, sealing: &Sealing, write: &Write) -> Result<(), StoreError> {
    let mut turn = database.begin().await?;
    let one = std::slice::from_ref(write);
    let done = make(&mut turn.connection, sealing, one).await;
    turn.end(done).await
}

async fn make(
    connection: &mut sqlx::SqliteConnection,
    sealing: &Sealing,
    writes: &[Write],
) -> Result<(), StoreError> {
    let sql = Sql::Sqlite(connection);
    let mut access = Access { sql, sealing };
    for write in writes {
        access.write(&write.owner, &write.changes).await?;
    }
    Ok(())
}

/// Nothing panics while it has a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
