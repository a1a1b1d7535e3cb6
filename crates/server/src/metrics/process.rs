//! The figures of this process, under the names that Prometheus's client libraries use. Only Linux
//! has all of them.

use super::Reading;

/// The ticks of `/proc/self/stat` in a second. Linux shows 100 to programs on every processor.
const TICKS: f64 = 100.0;

/// Reads the figures.
pub(super) fn readings(started: f64) -> Vec<Reading> {
    let mut readings = vec![
        Reading::new("loggia_build_info", "The version of this program.", 1.0)
            .with("version", env!("CARGO_PKG_VERSION")),
        Reading::new(
            "process_start_time_seconds",
            "When the process started, in Unix seconds.",
            started,
        ),
    ];
    let own = [
        (
            "process_resident_memory_bytes",
            "Resident memory, without that of engine processes.",
            resident_bytes(),
        ),
        (
            "process_cpu_seconds_total",
            "CPU time, user and system, without that of engine processes.",
            cpu_seconds(),
        ),
        ("process_open_fds", "Open file descriptors.", open_files()),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, help, value)| Some(Reading::new(name, help, value?)));
    readings.extend(own);
    readings
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let kibibytes = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = kibibytes.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may have spaces. The fields after it begin with the
    // third one; the CPU times are the fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Some(ticks / TICKS)
}

fn open_files() -> Option<f64> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?;
    u32::try_from(files.count()).ok().map(f64::from)
}
