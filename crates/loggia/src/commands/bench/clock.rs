//! The time of a measurement. It never lasts longer than half as long again as the user asked for.

use std::time::{Duration, Instant};

/// Counts the time from its start.
#[derive(Debug)]
pub(super) struct Clock {
    begun: Instant,
    /// The time that the user asked for.
    wanted: Duration,
    last_round: Option<Duration>,
}

impl Clock {
    pub(super) fn start(wanted: Duration) -> Self {
        Self {
            begun: Instant::now(),
            wanted,
            last_round: None,
        }
    }

    /// The milliseconds since the start.
    pub(super) fn passed(&self) -> u64 {
        self.begun
            .elapsed()
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX)
    }

    /// Notes how long a round took.
    pub(super) fn round_took(&mut self, time: Duration) {
        self.last_round = Some(time);
    }

    /// Whether another round like the last one ends in time. The first one is always made.
    pub(super) fn has_time_for_another_round(&self) -> bool {
        self.last_round
            .is_none_or(|last| self.begun.elapsed() + last <= self.wanted)
    }

    /// Awaits something, for as long as there is time.
    pub(super) async fn within<T>(
        &self,
        what: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let end = self.begun + self.wanted.mul_f32(1.5);
        match tokio::time::timeout_at(end.into(), what).await {
            Ok(result) => result,
            Err(_) => anyhow::bail!("there was not enough time; raise --time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_round_is_made_and_others_while_there_is_time() {
        let mut clock = Clock::start(Duration::from_mins(1));
        assert!(clock.has_time_for_another_round());
        clock.round_took(Duration::from_secs(30));
        assert!(clock.has_time_for_another_round());
        clock.round_took(Duration::from_secs(61));
        assert!(!clock.has_time_for_another_round());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_given_up() {
        let clock = Clock::start(Duration::from_secs(2));
        let never = std::future::pending::<anyhow::Result<()>>();
        let error = clock.within(never).await.unwrap_err().to_string();
        assert_eq!(error, "there was not enough time; raise --time");
        assert!(clock.within(async { Ok(()) }).await.is_ok());
    }
}
