//! Snapshots on disk, so that conversations survive a restart and more of them are kept than fit
//! into memory. One thread writes; each file is read on a thread of its own. The engine's thread
//! never waits for the disk.
//!
//! A failure of the disk is never an error for a client. A file that cannot be used is deleted, and
//! its prompt is computed again. If a file cannot be written, no more are written until the next
//! start.
//!
//! Reading order: this file (the index and the threads), `folder` (names, the lock, the limit),
//! `file` (the format).

mod file;
mod folder;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Snapshot;
use crate::Token;
use crate::engine::generation::Scope;
use crate::options::CacheDisk;
use file::{Digest, Header, scope_digest};
use folder::Folder;

/// The maximum number of bytes that wait to be written, unless a single snapshot is larger.
pub(crate) const MOST_WAITING: usize = 256 << 20;

/// The maximum number of files that are read at the same time, and of their bytes, unless a single
/// file is larger.
const MOST_READ: usize = 4;
const MOST_READ_BYTES: u64 = MOST_WAITING as u64;

/// How often the lock of the folder is tried while another process has it.
const TRY_LOCK_EVERY: Duration = Duration::from_secs(5);

/// The snapshots on disk. Dropping this writes the waiting ones.
pub(in crate::engine) struct Disk {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// A file that has the beginning of a prompt.
pub(in crate::engine) struct FoundFile {
    header: Arc<Header>,
    /// The number of the snapshot's tokens that the prompt can use.
    pub(in crate::engine) usable: usize,
}

struct Shared {
    root: PathBuf,
    identity: Digest,
    most: u64,
    state: Mutex<State>,
    /// Notified when a snapshot is waiting, when one was written, when the folder has been read,
    /// and when the writer has to stop.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The folder, once its lock is taken.
    folder: Option<Arc<Folder>>,
    /// The headers of all files.
    headers: Vec<Arc<Header>>,
    waiting: VecDeque<Arc<Snapshot>>,
    /// The number of files that are being read, and their bytes.
    reading: usize,
    reading_bytes: u64,
    /// Whether the writer has tried to take the lock.
    has_tried: bool,
    /// Whether no more files are written.
    is_off: bool,
    is_stopping: bool,
}

impl State {
    fn waiting_bytes(&self) -> usize {
        self.waiting.iter().map(|snapshot| snapshot.bytes()).sum()
    }

    fn takes_files(&self) -> bool {
        self.folder.is_some() && !self.is_off
    }

    fn can_read(&self, bytes: u64) -> bool {
        self.reading == 0
            || (self.reading < MOST_READ
                && self.reading_bytes.saturating_add(bytes) <= MOST_READ_BYTES)
    }

    fn has_room_for(&self, snapshot: &Snapshot) -> bool {
        self.waiting.is_empty() || self.waiting_bytes() + snapshot.bytes() <= MOST_WAITING
    }
}

impl Disk {
    /// Starts the thread that reads the folder and then writes to it. `identity` is a digest of
    /// everything that a state depends on.
    pub(in crate::engine) fn open(options: &CacheDisk, identity: [u8; 32]) -> Self {
        let shared = Arc::new(Shared {
            root: options.folder.clone(),
            identity,
            most: options.bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("loggia-prompts".to_owned())
            .spawn(move || for_thread.run())
            .inspect_err(|error| tracing::warn!(%error, "the prompt cache on disk is off"))
            .ok();
        Self { shared, writer }
    }

    /// The maximum number of bytes of all files.
    pub(in crate::engine) fn most(&self) -> usize {
        usize::try_from(self.shared.most).unwrap_or(usize::MAX)
    }

    /// Waits until the folder has been read, but not for longer than this.
    pub(in crate::engine) fn wait_until_read(&self, most: Duration) {
        let state = self.shared.lock();
        if self.writer.is_some() {
            let changed = &self.shared.changed;
            drop(changed.wait_timeout_while(state, most, |state| !state.has_tried));
        }
    }

    /// Finds the file of this scope with the longest usable beginning. `usable` returns how many of
    /// a file's tokens the prompt can use.
    pub(in crate::engine) fn find(
        &self,
        scope: &Scope,
        usable: impl Fn(&[Token]) -> usize,
    ) -> Option<FoundFile> {
        let scope = scope_digest(scope);
        let state = self.shared.lock();
        let of_scope = state.headers.iter().filter(|header| header.scope == scope);
        let with_beginning = of_scope.map(|header| (usable(&header.tokens), header));
        let (usable, header) = with_beginning
            .filter(|&(usable, header)| usable > 0 && usable >= header.cut_from)
            .max_by_key(|&(usable, header)| (usable, usize::MAX - header.tokens.len()))?;
        Some(FoundFile {
            header: Arc::clone(header),
            usable,
        })
    }

    /// Reads a file on another thread, and calls `deliver` with its snapshot, or with `None` if it
    /// cannot be used. Returns `false`, and does not call it, if too much is being read.
    pub(in crate::engine) fn load(
        &self,
        found: &FoundFile,
        scope: Scope,
        deliver: impl FnOnce(Option<Snapshot>) + Send + 'static,
    ) -> bool {
        let bytes = found.header.file_bytes();
        let mut state = self.shared.lock();
        let Some(folder) = state.folder.clone().filter(|_| state.can_read(bytes)) else {
            return false;
        };
        state.reading += 1;
        state.reading_bytes += bytes;
        drop(state);
        let header = Arc::clone(&found.header);
        let reading = Reading {
            shared: Arc::clone(&self.shared),
            folder: Some(folder),
            bytes,
            deliver: Some(Box::new(deliver)),
        };
        // If no thread can be started, dropping the closure delivers nothing.
        let _ = thread::Builder::new()
            .name("loggia-prompt".to_owned())
            .spawn(move || reading.run(&header, scope));
        true
    }

    /// Whether a sequence with these tokens can be restored from a file, or from one that is about
    /// to be written.
    pub(in crate::engine) fn holds(&self, tokens: &[Token], scope: &Scope) -> bool {
        let digest = scope_digest(scope);
        let state = self.shared.lock();
        let is_waiting = |snapshot: &Arc<Snapshot>| {
            snapshot.scope == *scope
                && snapshot.cut_from <= tokens.len()
                && snapshot.tokens.starts_with(tokens)
        };
        let is_written = |header: &Arc<Header>| {
            header.scope == digest
                && header.cut_from <= tokens.len()
                && header.tokens.starts_with(tokens)
        };
        state.waiting.iter().any(is_waiting) || state.headers.iter().any(is_written)
    }

    /// Writes a snapshot soon. If the disk is too slow, the snapshots that have waited longest are
    /// not written.
    pub(in crate::engine) fn write(&self, snapshot: Arc<Snapshot>) {
        let mut state = self.shared.lock();
        while state.takes_files() && !state.has_room_for(&snapshot) {
            state.waiting.pop_front();
        }
        self.push(state, snapshot);
    }

    /// Writes a snapshot, after those that are waiting.
    pub(in crate::engine) fn write_in_turn(&self, snapshot: Arc<Snapshot>) {
        let state = self.shared.lock();
        let is_full = |state: &mut State| state.takes_files() && !state.has_room_for(&snapshot);
        let state = self.shared.changed.wait_while(state, is_full);
        self.push(state.unwrap_or_else(PoisonError::into_inner), snapshot);
    }

    /// Whether snapshots are written.
    pub(in crate::engine) fn is_on(&self) -> bool {
        self.writer.is_some() && self.shared.lock().takes_files()
    }

    fn push(&self, mut state: MutexGuard<'_, State>, snapshot: Arc<Snapshot>) {
        if !state.takes_files() || snapshot.bytes() as u64 > self.shared.most {
            return;
        }
        state.waiting.retain(|other| !other.is_part_of(&snapshot));
        state.waiting.push_back(snapshot);
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.lock().is_stopping = true;
        self.shared.changed.notify_all();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes cached prompts panicked");
        }
        self.shared.lock().folder = None;
    }
}

type Deliver = Box<dyn FnOnce(Option<Snapshot>) + Send>;

/// A file that is being read. If this is dropped, even by a panic, nothing is delivered.
struct Reading {
    shared: Arc<Shared>,
    /// Dropped before the delivery, so that the folder's lock is released when no request waits for
    /// a file any more.
    folder: Option<Arc<Folder>>,
    bytes: u64,
    deliver: Option<Deliver>,
}

impl Reading {
    fn run(mut self, header: &Arc<Header>, scope: Scope) {
        let state = self.folder.as_ref().and_then(|folder| folder.load(header));
        if state.is_none() {
            self.shared.forget(header);
        }
        let snapshot = |state| Snapshot {
            tokens: header.tokens.clone(),
            scope,
            cut_from: header.cut_from,
            state,
        };
        self.deliver(state.map(snapshot));
    }

    fn deliver(&mut self, snapshot: Option<Snapshot>) {
        self.folder = None;
        if let Some(deliver) = self.deliver.take() {
            let mut state = self.shared.lock();
            state.reading -= 1;
            state.reading_bytes -= self.bytes;
            drop(state);
            deliver(snapshot);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.deliver(None);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic halfway through a change, so a poisoned lock is
        // still valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's thread.
    fn run(&self) {
        let Some(folder) = self.take_folder() else {
            return;
        };
        while let Some(snapshot) = self.next() {
            self.write(&folder, &snapshot);
        }
    }

    /// Takes the lock of the folder and reads its headers. While another process has the lock, it
    /// tries again. `None` if the writer has to stop, or the folder cannot be used.
    fn take_folder(&self) -> Option<Arc<Folder>> {
        loop {
            let taken = Folder::open(&self.root, self.identity, self.most).and_then(|folder| {
                let headers = folder.as_ref().map_or(Ok(Vec::new()), Folder::headers)?;
                Ok((folder.map(Arc::new), headers))
            });
            let mut state = self.lock();
            let is_first = !std::mem::replace(&mut state.has_tried, true);
            match taken {
                Ok((Some(folder), headers)) => {
                    tracing::info!(folder = %self.root.display(), prompts = headers.len(), "the prompt cache on disk is ready");
                    state.folder = Some(Arc::clone(&folder));
                    state.headers = headers.into_iter().map(Arc::new).collect();
                    self.changed.notify_all();
                    return Some(folder);
                }
                Ok((None, _)) if is_first => tracing::warn!(
                    folder = %self.root.display(),
                    "another process uses the prompt cache of this model on disk; this one uses it when the other ends"
                ),
                Ok((None, _)) => {}
                Err(error) => {
                    self.turn_off(state, &error);
                    return None;
                }
            }
            self.changed.notify_all();
            let waited = self
                .changed
                .wait_timeout_while(state, TRY_LOCK_EVERY, |state| !state.is_stopping);
            if waited.map_or(true, |(state, _)| state.is_stopping) {
                return None;
            }
        }
    }

    /// The next snapshot to write. It stays in the queue while it is written, so that searches find
    /// it. `None` if there are no more and the writer has to stop.
    fn next(&self) -> Option<Arc<Snapshot>> {
        let has_nothing = |state: &mut State| state.waiting.is_empty() && !state.is_stopping;
        let state = self.changed.wait_while(self.lock(), has_nothing);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        state.waiting.front().cloned()
    }

    fn write(&self, folder: &Folder, snapshot: &Arc<Snapshot>) {
        let header = Header::of(snapshot, folder.identity());
        let is_written = |state: &State| state.headers.iter().any(|other| other.replaces(&header));
        let written = if is_written(&self.lock()) {
            Ok(false)
        } else {
            folder.make_room(header.file_bytes()).and_then(|has_room| {
                if has_room {
                    folder.save(&header, snapshot)?;
                }
                Ok(has_room)
            })
        };
        // The engine's thread takes this lock too, so the lock is not held during disk operations.
        let known = match written {
            Ok(true) => self.lock().headers.clone(),
            _ => Vec::new(),
        };
        let (replaced, others): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|other| header.replaces(other));
        let gone: Vec<_> = others
            .into_iter()
            .filter(|other| !folder.has(other))
            .collect();
        let mut state = self.lock();
        state.waiting.retain(|other| !Arc::ptr_eq(other, snapshot));
        match written {
            Ok(is_new) => {
                if is_new {
                    let is_in = |all: &[Arc<Header>], header: &Arc<Header>| {
                        all.iter().any(|other| Arc::ptr_eq(other, header))
                    };
                    state
                        .headers
                        .retain(|other| !is_in(&replaced, other) && !is_in(&gone, other));
                    state.headers.push(Arc::new(header.clone()));
                }
                drop(state);
                let name = header.name();
                for other in replaced.iter().filter(|other| other.name() != name) {
                    folder.remove(other);
                }
                self.changed.notify_all();
            }
            Err(error) => self.turn_off(state, &error),
        }
    }

    fn turn_off(&self, mut state: MutexGuard<'_, State>, error: &std::io::Error) {
        tracing::warn!(
            folder = %self.root.display(),
            %error,
            "the prompt cache on disk is turned off until the next start, because its folder cannot be written"
        );
        state.is_off = true;
        state.waiting.clear();
        drop(state);
        self.changed.notify_all();
    }

    fn forget(&self, header: &Arc<Header>) {
        self.lock()
            .headers
            .retain(|other| !Arc::ptr_eq(other, header));
    }
}

#[cfg(test)]
mod tests;
