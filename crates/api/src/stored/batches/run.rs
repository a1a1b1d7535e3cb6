//! Runs one batch: starts its lines, stores those that are done, and stops when other work needs
//! the engine.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use loggia_wire::openai::{BatchError, BatchErrors};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::finished_line::{FinishedLine, GivenUp, Outcome};
use super::input::{InvalidLine, Line, Lines, parse};
use super::worker::Worker;
use super::{ERRORS, KEPT_SECONDS, StoredBatch, is_waiting, messages, schedule};
use crate::answer::id;
use crate::store::{Change, Item, Kind, NeededHold, Side, StoreError};
use crate::stored::damaged;
use crate::stored::files::Files;
use crate::{ApiError, Caller, webhooks};

/// How long a hold lasts, and how often it is renewed. A renewal also looks for a cancellation.
pub(super) const HELD_FOR: Duration = Duration::from_secs(30);
const RENEWED_EVERY: Duration = Duration::from_secs(3);

/// How long a batch is worked on before another one gets a turn.
const TURN: Duration = Duration::from_mins(1);

/// The interval between two checks whether a line may start.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The maximum number of lines between the first that is not done and the last that was started.
const WINDOW: u64 = 1000;

/// The maximum number of lines of an input file, as at OpenAI.
const MOST_LINES: u64 = 50_000;

/// How many lines that will not be made are stored at once.
const GIVEN_UP_AT_ONCE: usize = 500;

/// The maximum number of errors that a batch lists.
const MOST_ERRORS: usize = 100;

/// Why a batch is not worked on any more.
#[derive(Debug)]
pub(super) enum Stop {
    /// The turn is over, or the batch has ended.
    Turn,
    /// Another server runs the batch, or it was deleted.
    Lost,
    /// The store does not work.
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InUse | StoreError::NotFound => Self::Lost,
            error => Self::Failed(error),
        }
    }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Failed(StoreError::Unavailable {
            cause: error.error.message,
        })
    }
}

/// How a batch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    Expired,
    Cancelled(u64),
}

/// A batch that this server holds.
pub(super) struct Run<'w> {
    pub(super) worker: &'w Worker,
    pub(super) files: Files,
    /// The kind of the batch.
    pub(super) kind: Kind,
    pub(super) caller: Option<Caller>,
    /// Whether the API key that created the batch exists. Also true without API keys.
    pub(super) has_key: bool,
    pub(super) holder: &'w str,
    pub(super) stored: StoredBatch,
    pub(super) renewed: Instant,
}

/// The lines that are running.
struct RunningLines<'w> {
    lines: Lines,
    /// Whether all lines were started.
    is_read: bool,
    running: FuturesUnordered<BoxFuture<'w, FinishedLine>>,
    /// The numbers of the running lines, with their offsets in the file.
    open: BTreeMap<u64, u64>,
    /// Whether a line was started although clients wait, because no line had run for a long time.
    /// Such a line is not stopped.
    is_overdue: bool,
}

impl RunningLines<'_> {
    fn new(lines: Lines) -> Self {
        Self {
            lines,
            is_read: false,
            running: FuturesUnordered::new(),
            open: BTreeMap::new(),
            is_overdue: false,
        }
    }

    /// Returns this line and all others that are done.
    fn all_done(&mut self, first: FinishedLine) -> Vec<FinishedLine> {
        let mut done = vec![first];
        while let Some(Some(another)) = self.running.next().now_or_never() {
            done.push(another);
        }
        for one in &done {
            self.open.remove(&one.number);
        }
        done
    }

    /// Returns the number and the place of the first line that is not done.
    fn place(&self) -> (u64, u64) {
        let first = self.open.first_key_value();
        let next = (self.lines.next, self.lines.offset);
        first.map_or(next, |(number, offset)| (*number, *offset))
    }
}

impl<'w> Run<'w> {
    pub(super) fn id(&self) -> &str {
        &self.stored.batch.id
    }

    /// Returns the kind of the batch's input and output.
    pub(super) fn content_kind(&self) -> Kind {
        match self.kind {
            Kind::MessageBatch => Kind::BatchContent,
            _ => Kind::File,
        }
    }

    /// Works on the batch until its turn is over, or it has ended.
    pub(super) async fn turn(&mut self) -> Result<(), Stop> {
        // This also ends a batch whose lines were all given up before the server was killed.
        if is_waiting(&self.stored.batch.status)
            && let Some(end) = self.why_to_end().await?
        {
            return self.end(end).await;
        }
        if self.stored.batch.status == "validating" {
            self.validate().await?;
        }
        match self.stored.batch.status.as_str() {
            "in_progress" => match self.lines().await? {
                Some(end) => self.end(end).await,
                None => Err(Stop::Turn),
            },
            "finalizing" => self.end(End::Completed).await,
            _ => Ok(()),
        }
    }

    /// Reads the whole input file once. A file without a request fails the batch; a line that is no
    /// request becomes a line of the error file.
    async fn validate(&mut self) -> Result<(), Stop> {
        let Some(mut lines) = self.input().await? else {
            let error = (
                "invalid_input_file",
                "The input file does not exist any more.",
            );
            return self.fail(&[], Some(error)).await;
        };
        let endpoint = self.stored.batch.endpoint.clone();
        let mut ids = HashSet::new();
        let (mut wrong, mut total) = (Vec::new(), 0);
        let (mut model, mut has_duplicates) = (None, false);
        while let Some(line) = lines.line().await? {
            total += 1;
            if total > MOST_LINES {
                let error = (
                    "too_many_tasks",
                    "The input file has more than 50000 requests.",
                );
                return self.fail(&[], Some(error)).await;
            }
            match parse(line.text.as_ref(), &endpoint) {
                Ok(request) => {
                    model = model.or(request.model);
                    if !ids.insert(request.custom_id) {
                        has_duplicates = true;
                        wrong.push(InvalidLine::duplicate().listed(line.number));
                    }
                }
                Err(error) => wrong.push(error.listed(line.number)),
            }
            wrong.truncate(MOST_ERRORS);
            self.renew().await?;
            // Parsing takes the thread for itself.
            tokio::task::yield_now().await;
        }
        if total == 0 {
            let message = "The input file has no requests. Write one JSON object per line.";
            return self.fail(&[], Some(("empty_file", message))).await;
        }
        if ids.is_empty() || has_duplicates {
            return self.fail(&wrong, None).await;
        }
        let batch = &mut self.stored.batch;
        batch.status = "in_progress".into();
        batch.in_progress_at = Some(id::now());
        batch.request_counts.total = total;
        batch.model = model;
        self.write(Vec::new()).await
    }

    async fn fail(
        &mut self,
        wrong: &[BatchError],
        whole: Option<(&str, &str)>,
    ) -> Result<(), Stop> {
        let mut data = wrong.to_vec();
        data.extend(whole.map(|(code, message)| BatchError {
            code: code.to_owned(),
            message: message.to_owned(),
            param: Some("input_file_id".to_owned()),
            line: None,
        }));
        let batch = &mut self.stored.batch;
        batch.status = "failed".into();
        batch.failed_at = Some(id::now());
        batch.errors = Some(BatchErrors {
            object: "list".to_owned(),
            data,
        });
        let mut changes = vec![
            self.replaced(Vec::new())?,
            schedule(self.kind, self.id(), id::now() + KEPT_SECONDS),
        ];
        changes.extend(self.webhooks().await?);
        self.commit(changes).await
    }

    /// Makes lines until all are done, the batch has to end, or its turn is over.
    async fn lines(&mut self) -> Result<Option<End>, Stop> {
        let endpoint = self.stored.batch.endpoint.clone();
        // A response may have called tools of MCP servers, so it is not stopped and repeated.
        let can_stop = endpoint != "/v1/responses";
        let Some(lines) = self.input().await? else {
            // The client has deleted the batch.
            return Ok(Some(End::Cancelled(id::now())));
        };
        let mut at_work = RunningLines::new(lines);
        let began = Instant::now();
        let (mut renewals, mut looks) = (interval(RENEWED_EVERY), interval(LOOK_EVERY));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_over = began.elapsed() >= TURN;
            if !is_over {
                self.start(&mut at_work, &endpoint).await?;
            }
            // A line that waits for its engine has not started, so it is made again in the next
            // turn.
            let all_pause = at_work.running.len() == self.worker.pauses.count();
            if is_over && all_pause && !at_work.running.is_empty() {
                return Ok(None);
            }
            if at_work.running.is_empty() && (at_work.is_read || is_over) {
                return Ok(at_work.is_read.then_some(End::Completed));
            }
            tokio::select! {
                Some(done) = at_work.running.next(), if !at_work.running.is_empty() => {
                    let done = at_work.all_done(done);
                    self.store(done, at_work.place()).await?;
                }
                _ = renewals.tick() => {
                    if let Some(end) = self.why_to_end().await? {
                        return Ok(Some(end));
                    }
                    if self.input().await?.is_none() {
                        return Ok(Some(End::Cancelled(id::now())));
                    }
                    self.renew().await?;
                }
                _ = looks.tick() => {
                    let clients_wait = self.worker.clients_wait();
                    at_work.is_overdue &= clients_wait;
                    if can_stop && clients_wait && !at_work.is_overdue && !at_work.running.is_empty() {
                        // The running lines are made again later, beginning with the first that is
                        // not done.
                        let Some(lines) = self.input().await? else { continue };
                        at_work = RunningLines::new(lines);
                    }
                }
            }
        }
    }

    /// Starts lines, as many as may run now.
    async fn start(&self, at_work: &mut RunningLines<'w>, endpoint: &str) -> Result<(), Stop> {
        let progress = &self.stored.progress;
        while !at_work.is_read
            && at_work.running.len() < self.worker.parallel()
            && at_work.lines.next < progress.next + WINDOW
            && self.worker.may_start()
        {
            let Some(line) = at_work.lines.line().await? else {
                at_work.is_read = true;
                break;
            };
            if progress.done.contains(&line.number) {
                continue;
            }
            at_work.is_overdue |= self.worker.clients_wait();
            at_work.open.insert(line.number, line.offset);
            at_work.running.push(self.started(&line, endpoint));
        }
        Ok(())
    }

    /// Starts a line. An invalid line fails at once.
    fn started(&self, line: &Line, endpoint: &str) -> BoxFuture<'w, FinishedLine> {
        let number = line.number;
        let done = match parse(line.text.as_ref(), endpoint) {
            Ok(request) if self.has_key => {
                let (worker, caller) = (self.worker, self.caller.clone());
                return worker
                    .make(number, request, endpoint.to_owned(), caller)
                    .boxed();
            }
            Ok(request) => {
                let message = "The API key that created this batch does not exist any more.";
                FinishedLine {
                    number,
                    custom_id: Some(request.custom_id),
                    outcome: Outcome::not_made("invalid_api_key", message),
                }
            }
            Err(wrong) => wrong.done(number),
        };
        std::future::ready(done).boxed()
    }

    /// Stores lines that are done, together with the number and the place of the first that is not.
    async fn store(
        &mut self,
        done: Vec<FinishedLine>,
        (next, offset): (u64, u64),
    ) -> Result<(), Stop> {
        let mut items = Vec::with_capacity(done.len());
        let StoredBatch {
            batch, progress, ..
        } = &mut self.stored;
        for done in done {
            progress.done.push(done.number);
            done.count(batch, self.kind);
            items.push(item_of(&done, self.kind));
        }
        (progress.next, progress.offset) = (next, offset);
        progress.done.retain(|number| *number >= next);
        self.write(items).await
    }

    /// Ends the batch: gives up the requests that were not made, and writes the files.
    async fn end(&mut self, end: End) -> Result<(), Stop> {
        if self.stored.batch.finalizing_at.is_none() {
            let now = id::now();
            self.stored.batch.finalizing_at = Some(now);
            if end == End::Completed {
                self.stored.batch.status = "finalizing".into();
            }
            self.write(Vec::new()).await?;
        }
        match end {
            End::Completed => {}
            End::Expired => self.give_up(GivenUp::Expired).await?,
            End::Cancelled(_) => self.give_up(GivenUp::Cancelled).await?,
        }
        self.finish(end).await
    }

    /// Stores for each line that is not done that it was given up.
    async fn give_up(&mut self, why: GivenUp) -> Result<(), Stop> {
        if self.stored.batch.in_progress_at.is_none() {
            return Ok(());
        }
        let Some(mut lines) = self.input().await? else {
            return Ok(());
        };
        let endpoint = self.stored.batch.endpoint.clone();
        loop {
            let mut given_up = Vec::new();
            let mut is_read = false;
            while given_up.len() < GIVEN_UP_AT_ONCE {
                let Some(line) = lines.line().await? else {
                    is_read = true;
                    break;
                };
                if self.stored.progress.done.contains(&line.number) {
                    continue;
                }
                let custom_id = match parse(line.text.as_ref(), &endpoint) {
                    Ok(request) => Some(request.custom_id),
                    Err(wrong) => wrong.custom_id,
                };
                given_up.push(FinishedLine {
                    number: line.number,
                    custom_id,
                    outcome: Outcome::GivenUp(why),
                });
            }
            if !given_up.is_empty() {
                let read = (lines.next, lines.offset);
                self.store(given_up, read).await?;
            }
            if is_read {
                return Ok(());
            }
            self.renew().await?;
        }
    }

    /// Returns the lines that may not be done. `None` if the input file does not exist any more.
    async fn input(&self) -> Result<Option<Lines>, Stop> {
        let id = &self.stored.batch.input_file_id;
        let found = match self.files.find_of(self.content_kind(), id).await {
            Ok(found) => found,
            Err(error) if error.status == http::StatusCode::NOT_FOUND => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (next, offset) = (self.stored.progress.next, self.stored.progress.offset);
        let range = offset.min(found.file.bytes)..found.file.bytes;
        let pieces = self.files.blobs.read(&found.place, range).await?;
        let longest = self.worker.longest_line();
        Ok(Some(Lines::new(pieces, next, offset, longest)))
    }

    /// Returns why the batch has to end, if it has.
    async fn why_to_end(&self) -> Result<Option<End>, Stop> {
        if let Some(at) = self.files.cancelled(self.kind, self.id()).await? {
            return Ok(Some(End::Cancelled(at)));
        }
        Ok((self.stored.batch.expires_at <= id::now()).then_some(End::Expired))
    }

    /// Renews the hold, if it is time.
    pub(super) async fn renew(&mut self) -> Result<(), Stop> {
        if self.renewed.elapsed() < RENEWED_EVERY {
            return Ok(());
        }
        self.commit(vec![self.hold()]).await
    }

    fn hold(&self) -> Change {
        Change::Renew {
            kind: self.kind,
            id: self.id().to_owned(),
            holder: self.holder.to_owned(),
            time: HELD_FOR,
        }
    }

    /// Returns the changes that queue the webhook events about the batch, which has ended. There are
    /// none about batches of Anthropic's API.
    pub(super) async fn webhooks(&self) -> Result<Vec<Change>, StoreError> {
        if self.kind != Kind::Batch {
            return Ok(Vec::new());
        }
        let event_type = format!("batch.{}", self.stored.batch.status);
        let Files { store, owner, .. } = &self.files;
        webhooks::queued(&**store, owner, &event_type, self.id()).await
    }

    /// Returns the change that stores the batch with further lines.
    pub(super) fn replaced(&self, items: Vec<Item>) -> Result<Change, ApiError> {
        Ok(Change::Replace {
            kind: self.kind,
            id: self.id().to_owned(),
            body: serde_json::to_string(&self.stored).map_err(|_| damaged())?,
            items,
            needs: Some(NeededHold::Of(self.holder.to_owned())),
        })
    }

    /// Stores the batch with further lines, and renews the hold.
    async fn write(&mut self, items: Vec<Item>) -> Result<(), Stop> {
        let changes = vec![self.replaced(items)?, self.hold()];
        self.commit(changes).await
    }

    /// Makes changes. If the store does not work, it is tried again as long as the hold lasts: the
    /// lines that are done would have to be made again.
    pub(super) async fn commit(&mut self, changes: Vec<Change>) -> Result<(), Stop> {
        loop {
            let written = self
                .files
                .store
                .write(&self.files.owner, changes.clone())
                .await;
            match written {
                Ok(()) => {
                    self.renewed = Instant::now();
                    return Ok(());
                }
                Err(StoreError::Full | StoreError::Unavailable { .. })
                    if self.renewed.elapsed() < HELD_FOR =>
                {
                    sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Returns a finished line as an item of a batch of this kind.
fn item_of(line: &FinishedLine, kind: Kind) -> Item {
    let (side, body) = match kind {
        Kind::MessageBatch => (Side::Output, messages::result(line)),
        _ if line.is_answer() => (Side::Output, line.json()),
        _ => (ERRORS, line.json()),
    };
    Item {
        id: format!("line-{}", line.number),
        body,
        side,
    }
}
