//! The cost of a process so far: CPU time and resident memory, as the kernel counts them.
//!
//! Wall time is not used, because the simulated server and the load share the processors with the
//! measured program.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result};

/// The CPU time of a process's threads at one moment.
pub(crate) struct CpuTime {
    /// From `schedstat`: exact, but it lacks threads that have ended.
    threads: BTreeMap<String, Duration>,
    /// From `stat`: includes threads that have ended, in steps of 10 ms.
    process: Duration,
}

impl CpuTime {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut threads = BTreeMap::new();
        let folder = format!("/proc/{pid}/task");
        for entry in fs::read_dir(&folder)
            .with_context(|| format!("the gateway has ended: {folder} is missing"))?
        {
            let entry = entry?;
            // A thread may end between listing and reading.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let spent = text
                .split(' ')
                .next()
                .and_then(|field| field.parse().ok())
                .context("schedstat has no number")?;
            threads.insert(
                entry.file_name().to_string_lossy().into_owned(),
                Duration::from_nanos(spent),
            );
        }
        Ok(Self {
            threads,
            process: process_time(pid)?,
        })
    }

    /// The CPU time from `before` until now.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let one_ended = before
            .threads
            .keys()
            .any(|thread| !self.threads.contains_key(thread));
        if one_ended {
            return self.process.saturating_sub(before.process);
        }
        let then: Duration = before.threads.values().sum();
        self.threads.values().sum::<Duration>().saturating_sub(then)
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

fn process_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name, in parentheses, may contain spaces; utime and stime are the 12th and 13th
    // field after it.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    // Linux counts here in hundredths of a second on every architecture (USER_HZ).
    Ok(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_done_by_a_thread_that_has_ended_is_counted() {
        let pid = std::process::id();
        let before = CpuTime::of(pid).unwrap();
        let work = std::thread::spawn(|| {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(300) {
                std::hint::black_box(0);
            }
        });
        let during = CpuTime::of(pid).unwrap();
        work.join().unwrap();
        let after = CpuTime::of(pid).unwrap();
        assert!(after.since(&during) + during.since(&before) > Duration::from_millis(20));
    }
}
