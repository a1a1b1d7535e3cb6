//! [`LastReload`]: whether the configuration was reloaded, for metrics and the admin API.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::Reading;
use crate::clock::unix_time;

/// The last reload of the configuration. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LastReload(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// When the configuration was reloaded last, in Unix seconds. The start of the program counts.
    succeeded_at: f64,
    /// When the last attempt was made, and its mistake.
    last: Option<(f64, Option<String>)>,
    /// The settings that take effect after a restart.
    after_restart: Vec<&'static str>,
}

impl LastReload {
    /// Creates the state of a program that starts now.
    pub fn of_start() -> Self {
        let last = Self::default();
        last.state().succeeded_at = unix_time().as_secs_f64();
        last
    }

    /// Notes a reload. `after_restart` are the settings that have changed and take effect after a
    /// restart.
    pub fn succeeded(&self, after_restart: Vec<&'static str>) {
        let mut state = self.state();
        state.succeeded_at = unix_time().as_secs_f64();
        state.last = Some((state.succeeded_at, None));
        state.after_restart = after_restart;
    }

    /// Notes a mistake, because of which nothing has changed.
    pub fn failed(&self, mistake: String) {
        self.state().last = Some((unix_time().as_secs_f64(), Some(mistake)));
    }

    /// Returns the metrics.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let state = self.state();
        let has_failed = state.last.as_ref().is_some_and(|(_, why)| why.is_some());
        vec![
            Reading::new(
                "loggia_config_last_reload_successful",
                "Whether the last reload of the configuration succeeded.",
                f64::from(u8::from(!has_failed)),
            ),
            Reading::new(
                "loggia_config_last_reload_success_timestamp_seconds",
                "When the configuration was read without a mistake last.",
                state.succeeded_at,
            ),
            Reading::new(
                "loggia_config_settings_after_restart",
                "Settings that have changed and take effect after a restart.",
                f64::from(u32::try_from(state.after_restart.len()).unwrap_or(u32::MAX)),
            ),
        ]
    }

    /// Returns the last reload for the admin API, if there was one.
    pub(crate) fn shown(&self) -> Option<Value> {
        let state = self.state();
        let (at, mistake) = state.last.as_ref()?;
        #[expect(clippy::cast_possible_truncation, reason = "Unix seconds")]
        let at = *at as i64;
        Some(json!({
            "at": at,
            "successful": mistake.is_none(),
            "error": mistake,
            "after_restart": state.after_restart,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
