//! The limits of all callers in Valkey or Redis, so that several servers share them.
//!
//! Each decision is one script, which Valkey runs atomically. While Valkey is unreachable, each
//! server allows its share of every limit, and charges the requests that it admitted when Valkey is
//! back. A server also counts the requests that Valkey admits against its share, so that losing
//! Valkey gives no caller a new share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use loggia_api::meter::{Remaining, Window};
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Script};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::bucket::{Rate, Short};
use super::local::{Exceeded, Local, smaller};
use super::{Kind, Limits, Ruled};

/// How long a request waits for Valkey, and how long a server tries to connect.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The pause between two tries to connect.
const TRY_EVERY: Duration = Duration::from_millis(250);

/// How often a server says that it runs, and for how long that holds: the answers of a server that
/// died stop counting then.
const BEAT_EVERY: Duration = Duration::from_secs(1);
const BEAT_HOLDS: Duration = Duration::from_secs(10);

/// A key that shows whether Valkey has lost its data.
const MARK: &str = "loggia:mark";

/// How often a lack of Valkey is logged.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// Limits that several servers share.
pub struct SharedLimits {
    client: Client,
    /// The number of servers, for the share of each.
    servers: u64,
    /// The name of this server.
    replica: String,
    enter: Script,
    settle: Script,
    restore: Script,
    /// The mark in Valkey when this server connected last. Another mark: Valkey has lost its data.
    mark: Mutex<Option<String>>,
    /// The connection. `None` while Valkey is unreachable.
    connection: RwLock<Option<MultiplexedConnection>>,
    /// Notified when a connection fails.
    lost: Notify,
    owed: Mutex<HashMap<Arc<str>, Owed>>,
    /// Told when there is something in `owed`.
    owes: Notify,
    /// The requests that this server has admitted under its share of the limits.
    pub(super) local: Arc<Local>,
}

/// The usage of a name that Valkey does not know yet.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    limits: Limits,
    /// Requests that were admitted while Valkey was unreachable.
    requests: u64,
    reserved: u64,
    used: u64,
    /// Answers that Valkey has admitted and that have ended.
    ended: u64,
}

impl fmt::Debug for SharedLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may have a password.
        let mut shown = f.debug_struct("SharedLimits");
        shown.field("servers", &self.servers);
        shown.finish_non_exhaustive()
    }
}

/// The error for an address of Valkey or Redis that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("this is not the address of a Valkey or Redis; write redis://host:6379")]
pub struct BadLimitsUrl;

impl SharedLimits {
    /// Shares limits by the Valkey or Redis at this address, among this number of servers. It
    /// connects when [`follow`](Self::follow) runs.
    pub fn new(url: &str, servers: u32) -> Result<Self, BadLimitsUrl> {
        Ok(Self {
            client: Client::open(url).map_err(|_| BadLimitsUrl)?,
            servers: u64::from(servers),
            replica: random_name(),
            enter: Script::new(include_str!("enter.lua")),
            settle: Script::new(include_str!("settle.lua")),
            restore: Script::new(include_str!("restore.lua")),
            mark: Mutex::default(),
            connection: RwLock::default(),
            lost: Notify::new(),
            owed: Mutex::default(),
            owes: Notify::new(),
            local: Arc::new(Local::new()),
        })
    }

    /// Whether Valkey can be asked.
    pub fn is_connected(&self) -> bool {
        self.connection().is_some()
    }

    /// Connects, and connects again whenever the connection is lost. It never ends.
    pub async fn follow(self: Arc<Self>) {
        let mut warned: Option<Instant> = None;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    if warned.take().is_some() {
                        tracing::info!("limits are shared again");
                    }
                    self.set(Some(connection.clone()));
                    let error = self.serve(connection).await;
                    self.set(None);
                    tracing::debug!(%error, "the connection to Valkey was lost");
                }
                Err(error) => {
                    if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                        warned = Some(Instant::now());
                        tracing::warn!(%error, "limits cannot be shared; each server allows its share until they can");
                    }
                    sleep(TRY_EVERY).await;
                }
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        if self.has_lost_data(&mut connection).await? {
            self.restore(&mut connection).await?;
        }
        self.beat(&mut connection).await?;
        self.pay(&mut connection).await?;
        Ok(connection)
    }

    /// Whether Valkey has lost its data since this server connected last.
    async fn has_lost_data(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<bool, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("SET")
            .arg(MARK)
            .arg(random_name())
            .arg("NX")
            .ignore();
        pipe.cmd("GET").arg(MARK);
        let (mark,): (String,) = pipe.query_async(connection).await?;
        let mut known = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let has_lost = known.as_ref().is_some_and(|known| *known != mark);
        *known = Some(mark);
        Ok(has_lost)
    }

    /// Charges the requests that this server admitted, so that the limits are kept if Valkey has
    /// lost its data. Requests that were admitted while Valkey was unreachable are included.
    async fn restore(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        self.owed().clear();
        let servers = u32::try_from(self.servers.max(1)).unwrap_or(u32::MAX);
        for (name, short) in self.local.short() {
            let mut restore = self.restore.prepare_invoke();
            restore.key(key(&name));
            for short in short {
                let micros = u64::try_from((short / servers).as_micros());
                restore.arg(micros.unwrap_or(u64::MAX));
            }
            restore.invoke_async::<()>(connection).await?;
        }
        Ok(())
    }

    /// Keeps Valkey up to date until the connection fails.
    async fn serve(&self, mut connection: MultiplexedConnection) -> RedisError {
        let mut beats = interval(BEAT_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = self.lost.notified() => {
                    // One request may have failed alone.
                    self.beat(&mut connection).await
                }
                () = self.owes.notified() => self.pay(&mut connection).await,
                _ = beats.tick() => self.beat(&mut connection).await,
            };
            match done {
                Ok(()) if self.is_connected() => {}
                Ok(()) => self.set(Some(connection.clone())),
                Err(error) => return error,
            }
        }
    }

    /// Reports that this server runs, and how many answers it makes under each name.
    async fn beat(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let mut pipe = redis::pipe();
        let holds = BEAT_HOLDS.as_secs();
        pipe.set_ex(format!("loggia:replica:{}", self.replica), 1, holds)
            .ignore();
        for (name, streams) in self.local.streams() {
            pipe.hset(format!("{}:streams", key(&name)), &self.replica, streams)
                .ignore();
        }
        pipe.query_async(connection).await
    }

    /// Sends the usage to Valkey that it does not know yet.
    async fn pay(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let owed: Vec<_> = self.owed().drain().collect();
        let mut owed = owed.into_iter();
        while let Some((name, one)) = owed.next() {
            let Limits {
                requests_per_minute,
                tokens_per_minute,
                tokens_per_day,
                streams,
            } = one.limits;
            let limits = [
                requests_per_minute,
                tokens_per_minute,
                tokens_per_day,
                streams,
            ];
            let mut settle = self.settle.prepare_invoke();
            settle.key(key(&name)).arg(&self.replica);
            for limit in limits {
                settle.arg(limit.unwrap_or(0));
            }
            settle.arg(&[one.requests, one.reserved, one.used, one.ended]);
            if let Err(error) = settle.invoke_async::<()>(connection).await {
                self.owe(&name, one);
                for (name, one) in owed {
                    self.owe(&name, one);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Admits a request, or refuses it. `None` if Valkey is unreachable.
    pub(super) async fn enter(
        &self,
        ruled: &[Ruled],
        tokens: u64,
    ) -> Option<Result<Remaining, Exceeded>> {
        let mut connection = self.connection()?;
        let mut enter = self.enter.prepare_invoke();
        for ruled in ruled {
            enter.key(key(&ruled.name));
        }
        enter.arg(tokens).arg(&self.replica);
        for Ruled { limits, .. } in ruled {
            enter
                .arg(limits.requests_per_minute.unwrap_or(0))
                .arg(limits.tokens_per_minute.unwrap_or(0))
                .arg(limits.tokens_per_day.unwrap_or(0))
                .arg(limits.streams.unwrap_or(0));
        }
        let asking = enter.invoke_async::<Vec<i64>>(&mut connection);
        if let Ok(Ok(answer)) = timeout(ANSWER_WITHIN, asking).await {
            let (decision, short) = decision(ruled, &answer)?;
            self.local.observe(ruled, &short);
            return Some(decision);
        }
        // Other requests need not wait for the connection.
        self.set(None);
        self.lost.notify_one();
        None
    }

    /// Counts a request that Valkey has admitted, under the share of this server.
    pub(super) fn note(&self, ruled: &[Ruled], tokens: u64) {
        self.local.note(&self.shares(ruled), tokens);
    }

    /// Lets a request in under the share of this server, or refuses it.
    pub(super) fn enter_alone(&self, ruled: &[Ruled], tokens: u64) -> Result<Remaining, Exceeded> {
        let entered = self.local.enter(&self.shares(ruled), tokens);
        if entered.is_ok() {
            for ruled in ruled {
                let requests = Owed {
                    limits: ruled.limits,
                    requests: 1,
                    ..Owed::default()
                };
                self.owe(&ruled.name, requests);
            }
        }
        entered
    }

    /// The rest of the share of this server.
    pub(super) fn remaining(&self, ruled: &[Ruled]) -> Remaining {
        self.local.remaining(&self.shares(ruled))
    }

    /// Settles the reservation of a request that has ended. `was_alone`: this server alone has let
    /// it in.
    pub(super) fn settle(&self, ruled: &[Ruled], reserved: u64, used: u64, was_alone: bool) {
        self.local.settle(&self.shares(ruled), reserved, used);
        for ruled in ruled {
            let ended = Owed {
                limits: ruled.limits,
                requests: 0,
                // Valkey has no reservation of a request that it does not know.
                reserved: if was_alone { 0 } else { reserved },
                used,
                ended: u64::from(!was_alone),
            };
            self.owe(&ruled.name, ended);
        }
        self.owes.notify_one();
    }

    fn shares(&self, ruled: &[Ruled]) -> Vec<Ruled> {
        let share = |ruled: &Ruled| Ruled {
            limits: ruled.limits.share(self.servers),
            ..ruled.clone()
        };
        ruled.iter().map(share).collect()
    }

    fn owe(&self, name: &Arc<str>, more: Owed) {
        let mut owed = self.owed();
        let its = owed.entry(Arc::clone(name)).or_default();
        its.limits = more.limits;
        its.requests += more.requests;
        its.reserved += more.reserved;
        its.used += more.used;
        its.ended += more.ended;
    }

    /// Nothing panics while it holds the lock, so the lock is never poisoned.
    fn owed(&self) -> MutexGuard<'_, HashMap<Arc<str>, Owed>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> Option<MultiplexedConnection> {
        let connection = self.connection.read();
        connection.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, connection: Option<MultiplexedConnection>) {
        let place = self.connection.write();
        *place.unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

fn random_name() -> String {
    let letters = rand::rng().sample_iter(Alphanumeric).take(16);
    letters.map(char::from).collect()
}

fn key(name: &str) -> String {
    format!("loggia:limits:{name}")
}

/// Whether a request is admitted, and how far the buckets of each name are from full.
type Decision = (Result<Remaining, Exceeded>, Vec<[Duration; 3]>);

/// Reads the answer of the script. `None` if it is not one.
fn decision(ruled: &[Ruled], answer: &[i64]) -> Option<Decision> {
    let ([is_in, name, kind, wait], short) = answer.split_first_chunk()?;
    let micros = |short: &i64| Duration::from_micros(u64::try_from(*short).unwrap_or(0));
    let (each, _) = short.as_chunks::<3>();
    let short: Vec<[Duration; 3]> = each
        .iter()
        .map(|short| short.each_ref().map(micros))
        .collect();
    if *is_in == 0 {
        let ruled = ruled.get(usize::try_from(*name).ok()?.checked_sub(1)?)?;
        let limits = &ruled.limits;
        let (kind, limit) = match kind {
            1 => (Kind::Requests, limits.requests_per_minute),
            2 => (Kind::Tokens, limits.tokens_per_minute),
            3 => (Kind::TokensOfDay, limits.tokens_per_day),
            _ => (Kind::Streams, limits.streams),
        };
        let exceeded = Exceeded {
            kind,
            limit: limit?,
            short: match u64::try_from(*wait) {
                Ok(wait) => Short::For(Duration::from_micros(wait)),
                Err(_) => Short::Always,
            },
            model: ruled.model.clone(),
        };
        return Some((Err(exceeded), short));
    }
    let mut remaining = Remaining::default();
    for (ruled, [requests, tokens, day]) in ruled.iter().zip(&short) {
        let limits = &ruled.limits;
        let of = |rate: Option<Rate>, short| rate.map(|rate| window(rate, short));
        let requests = of(limits.requests(), *requests);
        let tokens = of(limits.tokens(), *tokens);
        let day = of(limits.tokens_of_day(), *day);
        remaining.requests = smaller(remaining.requests, requests);
        remaining.tokens = smaller(smaller(remaining.tokens, tokens), day);
    }
    Some((Ok(remaining), short))
}

/// The rest of a bucket that is full again after `reset`.
fn window(rate: Rate, reset: Duration) -> Window {
    let there = rate.period.saturating_sub(reset).as_micros() * u128::from(rate.limit);
    Window {
        limit: rate.limit,
        remaining: u64::try_from(there / rate.period.as_micros().max(1)).unwrap_or(u64::MAX),
        reset,
    }
}

#[cfg(test)]
mod tests;
