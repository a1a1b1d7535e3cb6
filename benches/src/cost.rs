//! The cost of a process so far: CPU time and resident memory, as the kernel counts them.
//!
//! Wall time is not used, because the simulated server and the load share the processors with the
//! measured program.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// The CPU time of a process from its start until one moment, in user and kernel mode.
pub(crate) struct CpuTime(Duration);

impl CpuTime {
    /// Reads the process's own CPU clock. It counts in nanoseconds and includes threads that have
    /// ended.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let process = Pid::from_raw(pid.try_into()?);
        let time = clock_getcpuclockid(process)
            .and_then(clock_gettime)
            .with_context(|| format!("the gateway has ended: process {pid} has no CPU clock"))?;
        Ok(Self(time.into()))
    }

    /// The CPU time from `before` until now.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        self.0.saturating_sub(before.0)
    }
}

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS in the status of the gateway")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use nix::time::ClockId;

    use super::*;

    #[test]
    fn work_done_by_a_thread_that_has_ended_is_counted() {
        let pid = std::process::id();
        let before = CpuTime::of(pid).unwrap();
        let counted_by_the_thread = std::thread::spawn(|| {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(50) {
                std::hint::black_box(0);
            }
            let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
            Duration::from(spent)
        })
        .join()
        .unwrap();
        let spent = CpuTime::of(pid).unwrap().since(&before);
        assert!(spent >= counted_by_the_thread);
        assert!(counted_by_the_thread > Duration::ZERO);
    }
}
