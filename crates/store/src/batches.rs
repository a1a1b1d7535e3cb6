//! Several writes in one transaction, so that they share one wait for the disk: while one
//! transaction is written, new writes are collected for the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};
use loggia_api::store::{Change, Owner, StoreError};

use crate::file::{Database, Turn};
use crate::read::Access;
use crate::sealing::Sealing;
use crate::sql::Sql;
use crate::write::{Creation, creations, length};

/// The limits of one transaction.
const MOST_WRITES: usize = 64;
const MOST_BYTES: usize = 4 << 20;

/// The results of the writes of a batch, in their order.
type Done = Arc<Vec<Result<(), StoreError>>>;

/// A transaction. Every caller that waits for it polls it, so it goes on if one of them is dropped.
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
    /// A weak reference: the transaction must end when all its callers are gone, because it holds a
    /// place in the queue for the writer.
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
    /// Makes the changes of a write, in one transaction with other writes.
    pub(crate) async fn write(
        &self,
        database: &Arc<Database>,
        sealing: &Sealing,
        owner: &Owner,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let owner = owner.clone();
        let write = Write { owner, changes };
        let (transaction, place) = self.join(write, |gathered| {
            transact(Arc::clone(database), sealing.clone(), gathered).boxed()
        });
        transaction.await[place].clone()
    }

    /// Adds a write to the batch that is being collected, or starts one. Returns the transaction,
    /// and the index of the write in it.
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

/// The result of writes that were tried together.
enum Tried {
    /// All writes ended with this result.
    Together(Result<(), StoreError>),
    /// One of the writes failed, and nothing was written.
    Undone,
}

/// Makes all writes in one transaction. If one fails, each is made in a transaction of its own.
async fn transact(
    database: Arc<Database>,
    sealing: Sealing,
    gathered: Arc<Mutex<Gathered>>,
) -> Done {
    let turn = database.turn().await;
    let writes = lock(&gathered).begin();
    let tried = match turn {
        Err(error) => Tried::Together(Err(error)),
        Ok(turn) => match all_creations(&writes) {
            Some(creations) if rows(creations.len()) == creations.len() => {
                at_once(turn, &sealing, &creations).await
            }
            creations => together(turn, &sealing, &writes, creations).await,
        },
    };
    let mut done = Vec::with_capacity(writes.len());
    for write in &writes {
        done.push(match &tried {
            Tried::Together(done) => done.clone(),
            Tried::Undone => alone(&database, &sealing, write).await,
        });
    }
    Arc::new(done)
}

/// Returns the creations of all writes, if no write does anything but create objects.
fn all_creations(writes: &[Write]) -> Option<Vec<Creation<'_>>> {
    let mut all = Vec::with_capacity(writes.len());
    for Write { owner, changes } in writes {
        all.extend(creations(owner, changes)?);
    }
    (!all.is_empty()).then_some(all)
}

/// How many of `left` creations the next statement makes. There are few such numbers, since the
/// connection keeps each statement that it has parsed.
fn rows(left: usize) -> usize {
    match left {
        16.. => 16,
        4.. => 4,
        _ => left.min(1),
    }
}

/// Makes creations by one statement, which is a transaction by itself: the connection is another
/// thread, and each statement costs the way there and back.
async fn at_once(mut turn: Turn, sealing: &Sealing, creations: &[Creation<'_>]) -> Tried {
    let sql = Sql::Sqlite(&mut turn.connection);
    let mut access = Access { sql, sealing };
    let insert = access.create_all(creations);
    match access.sql.run(&insert).await {
        Ok(_) => {
            turn.release();
            Tried::Together(Ok(()))
        }
        // Single writes show which id is taken.
        Err(StoreError::Duplicate { .. }) => {
            turn.release();
            Tried::Undone
        }
        // The transaction was not committed, so its connection is closed.
        Err(_) if creations.len() > 1 => Tried::Undone,
        Err(error) => Tried::Together(Err(error)),
    }
}

async fn together(
    mut turn: Turn,
    sealing: &Sealing,
    writes: &[Write],
    creations: Option<Vec<Creation<'_>>>,
) -> Tried {
    let done = match turn.run("BEGIN IMMEDIATE").await {
        Ok(()) => {
            let sql = Sql::Sqlite(&mut turn.connection);
            let access = Access { sql, sealing };
            match creations {
                Some(creations) => create(access, &creations).await,
                None => make(access, writes).await,
            }
        }
        Err(error) => return Tried::Together(Err(error)),
    };
    // Single writes show which one fails, and which id is taken.
    let is_undone = match &done {
        Ok(()) => false,
        Err(StoreError::Duplicate { .. }) => true,
        Err(_) => writes.len() > 1,
    };
    let ended = turn.end(done).await;
    if is_undone {
        Tried::Undone
    } else {
        Tried::Together(ended)
    }
}

async fn create(mut access: Access<'_>, creations: &[Creation<'_>]) -> Result<(), StoreError> {
    let mut left = creations;
    while let Some((some, others)) = left.split_at_checked(rows(left.len()))
        && !some.is_empty()
    {
        let insert = access.create_all(some);
        access.sql.run(&insert).await?;
        left = others;
    }
    Ok(())
}

async fn make(mut access: Access<'_>, writes: &[Write]) -> Result<(), StoreError> {
    for Write { owner, changes } in writes {
        access.write(owner, changes).await?;
    }
    Ok(())
}

async fn alone(database: &Database, sealing: &Sealing, write: &Write) -> Result<(), StoreError> {
    let mut turn = database.begin().await?;
    let sql = Sql::Sqlite(&mut turn.connection);
    let mut access = Access { sql, sealing };
    let done = access.write(&write.owner, &write.changes).await;
    turn.end(done).await
}

/// Nothing panics while it holds the lock, so the lock is never poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
