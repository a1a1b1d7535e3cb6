//! The ledger: how much each API key has used, by day and model. It is collected in memory and
//! written to the store once a second, so that a request never waits for the store.
//!
//! Usage that is not written yet is lost if the process is killed. While the store does not work,
//! the usage stays in memory, in a limited number of rows.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loggia_api::Outcome;
use loggia_api::store::{StoreError, Usage, UsageAmount, UsageStore};
use tokio::time::MissedTickBehavior;

use super::closed::Background;
use super::{Closed, Listener};
use crate::clock;

/// How often the ledger is written.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);

/// The maximum number of rows that wait to be written. Further models of a key then count as
/// `other`.
const MOST_ROWS: usize = 10_000;

/// The model of rows beyond the limit.
const OTHER: &str = "other";

/// Collects how much each API key has used. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Rows>>);

/// The rows that wait to be written, by day, key and model.
type Rows = BTreeMap<(i64, Arc<str>, Arc<str>), UsageAmount>;

impl Ledger {
    /// Writes the ledger to the store every second. Never ends.
    pub async fn keep(self, store: Arc<dyn UsageStore>) {
        let mut seconds = tokio::time::interval(WRITTEN_EVERY);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_failed = false;
        loop {
            seconds.tick().await;
            let written = self.write(&*store).await;
            if let Err(error) = &written
                && !has_failed
            {
                tracing::warn!(%error, "the usage of API keys cannot be stored; it is kept in memory until it can");
            }
            has_failed = written.is_err();
        }
    }

    /// Writes the usage that is not stored yet. Call it before the program ends.
    ///
    /// # Errors
    /// Fails if the store does. The next call then writes the same usage.
    pub async fn write(&self, store: &dyn UsageStore) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut *self.lock());
        if rows.is_empty() {
            return Ok(());
        }
        let usage = rows.iter().map(|((day, key, model), amount)| Usage {
            day: *day,
            key: key.to_string(),
            model: model.to_string(),
            amount: *amount,
        });
        let written = store.add_usage(usage.collect()).await;
        if written.is_err() {
            for ((day, key, model), amount) in rows {
                self.add(day, key, model, amount);
            }
        }
        written
    }

    fn add(&self, day: i64, key: Arc<str>, model: Arc<str>, amount: UsageAmount) {
        let mut rows = self.lock();
        let is_full = rows.len() >= MOST_ROWS;
        match rows.entry((day, key, model)) {
            Entry::Occupied(mut row) => *row.get_mut() += amount,
            Entry::Vacant(place) if !is_full => {
                place.insert(amount);
            }
            Entry::Vacant(place) => {
                let (day, key, _) = place.into_key();
                *rows.entry((day, key, OTHER.into())).or_default() += amount;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Ledger {
    fn closed(&self, closed: &Closed<'_>) {
        let ended = closed.ended;
        let model = match &ended.served_by {
            Some(served_by) => Some(&served_by.model),
            // The best name that is known.
            None if closed.background == Some(Background::EndedServer) => ended.model.as_ref(),
            None => None,
        };
        let (Some(key), Some(model)) = (closed.key, model) else {
            return;
        };
        let amount = amount_of(closed);
        self.add(clock::today(), key.into(), Arc::clone(model), amount);
    }
}

fn amount_of(closed: &Closed<'_>) -> UsageAmount {
    let mut amount = UsageAmount {
        requests: 1,
        incomplete: u64::from(closed.ended.outcome != Outcome::Complete),
        ..UsageAmount::default()
    };
    if let Some(usage) = &closed.ended.usage {
        let details = usage.prompt_tokens_details.as_ref();
        amount.prompt_tokens = usage.prompt_tokens;
        amount.cached_tokens = details.map_or(0, |details| details.cached_tokens);
        amount.completion_tokens = usage.completion_tokens;
    }
    amount
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;

    /// A store that works, or does not.
    #[derive(Default)]
    struct TestStore {
        is_away: Mutex<bool>,
        written: Mutex<Vec<Usage>>,
    }

    impl UsageStore for TestStore {
        fn add_usage(&self, usage: Vec<Usage>) -> BoxFuture<'_, Result<(), StoreError>> {
            Box::pin(async move {
                if *self.is_away.lock().unwrap() {
                    return Err(StoreError::Full);
                }
                self.written.lock().unwrap().extend(usage);
                Ok(())
            })
        }

        fn usage_since(&self, _: i64) -> BoxFuture<'_, Result<Vec<Usage>, StoreError>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    fn one_request() -> UsageAmount {
        UsageAmount {
            requests: 1,
            prompt_tokens: 3,
            ..UsageAmount::default()
        }
    }

    #[tokio::test]
    async fn what_a_store_did_not_take_is_written_when_it_works_again() {
        let (ledger, store) = (Ledger::default(), TestStore::default());
        ledger.add(1, "alice".into(), "m".into(), one_request());
        *store.is_away.lock().unwrap() = true;
        assert!(ledger.write(&store).await.is_err());
        ledger.add(1, "alice".into(), "m".into(), one_request());
        *store.is_away.lock().unwrap() = false;
        ledger.write(&store).await.unwrap();
        ledger.write(&store).await.unwrap();
        let written = store.written.lock().unwrap();
        let [usage] = &written[..] else {
            panic!("one row, and not {written:?}");
        };
        assert_eq!((usage.amount.requests, usage.amount.prompt_tokens), (2, 6));
    }

    #[tokio::test]
    async fn the_rows_that_wait_are_limited_and_no_token_is_lost() {
        let (ledger, store) = (Ledger::default(), TestStore::default());
        let all = MOST_ROWS + 500;
        for number in 0..all {
            let model = format!("model-{number}");
            ledger.add(1, "alice".into(), model.into(), one_request());
        }
        ledger.write(&store).await.unwrap();
        let written = store.written.lock().unwrap();
        assert_eq!(written.len(), MOST_ROWS + 1);
        let requests: u64 = written.iter().map(|usage| usage.amount.requests).sum();
        assert_eq!(requests, all as u64);
    }
}
