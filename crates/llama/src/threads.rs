//! The default number of compute threads, which is one for each core that this process may use, and
//! how these threads wait for each other.
//!
//! The threads of a step wait for each other in every layer, so the slowest one sets the pace. Two
//! threads on one core (hyperthreads) share its arithmetic units and gain nothing. A thread on a
//! slow core of a hybrid processor slows down all others. llama.cpp's own programs count in the
//! same way.

/// The number of physical cores that the affinity and the container quota of this process allow. If
/// the machine has fast and slow cores, only the fast ones count.
pub(crate) fn of_this_machine() -> usize {
    // This number respects the affinity and the quota of the control group. It counts hyperthreads
    // as processors.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores_of_this_process().map_or(processors, |cores| cores.clamp(1, processors))
}

/// Environment variables with which a user chooses how threads wait. The OpenMP runtimes of GCC,
/// LLVM, Intel and Microsoft read them.
const CHOSEN_BY_USERS: [&str; 4] = [
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    "KMP_LIBRARY",
];

/// The setting for GCC's runtime. Its value was measured (`docs/engine.md`): some 40 microseconds,
/// a few times the cost of sleeping and waking up. Other runtimes keep their defaults: the values
/// that make their threads sleep immediately cost half of the speed or more on a quiet machine.
const CHOSEN: &[(&str, &str)] = &[("GOMP_SPINCOUNT", SPINS)];

/// The number of turns of GCC's waiting loop. On x86, a turn includes a `pause` instruction.
/// Elsewhere a turn takes less time, so more turns are needed.
const SPINS: &str = if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
    "2000"
} else {
    "40000"
};

/// Environment variables for a process that runs an engine. They set how long the threads of a step
/// spin before they sleep while they wait for each other.
///
/// Without them, OpenMP runtimes spin for milliseconds in every layer. On a machine whose
/// processors are all busy, a spinning thread keeps the processor from the thread that it waits
/// for, and an engine generates a tenth of its tokens or less. The list is empty if `is_set`
/// reports that one of the variables is already set, because then the user has chosen.
///
/// The runtimes read their variables when they are loaded, so a process cannot set them for itself.
/// Set them where the process is started:
///
/// ```
/// let mut command = std::process::Command::new("my-engine");
/// command.envs(loggia_llama::waiting(|name| std::env::var_os(name).is_some()).iter().copied());
/// ```
pub fn waiting(is_set: impl Fn(&str) -> bool) -> &'static [(&'static str, &'static str)] {
    if CHOSEN_BY_USERS.into_iter().any(is_set) {
        &[]
    } else {
        CHOSEN
    }
}

#[cfg(target_os = "linux")]
fn cores_of_this_process() -> Option<usize> {
    use std::fs::read_to_string;
    let status = read_to_string("/proc/self/status").ok()?;
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    // This file exists on Intel processors with two kinds of cores, and lists the fast ones.
    let fast = read_to_string("/sys/devices/cpu_core/cpus").ok();
    let siblings = |processor: u32| {
        let folder = format!("/sys/devices/system/cpu/cpu{processor}/topology");
        let list = read_to_string(format!("{folder}/core_cpus_list"));
        // Before Linux 5, the file had this name.
        list.or_else(|_| read_to_string(format!("{folder}/thread_siblings_list")))
            .ok()
    };
    linux::cores(allowed, fast.as_deref(), siblings)
}

/// Other systems have no such files, so every processor counts as a core.
#[cfg(not(target_os = "linux"))]
fn cores_of_this_process() -> Option<usize> {
    None
}

/// Parses Linux's lists of processors. Pure functions.
#[cfg(any(target_os = "linux", test))]
mod linux {
    use std::collections::BTreeSet;

    /// The maximum number of processors that Linux can be built for.
    const MOST: u32 = 8192;

    /// The number of distinct cores among the allowed processors. If some of the allowed ones are
    /// fast, only those count. The lists have Linux's format: `0-3,8`.
    pub(super) fn cores(
        allowed: &str,
        fast: Option<&str>,
        siblings: impl Fn(u32) -> Option<String>,
    ) -> Option<usize> {
        let allowed = processors(allowed)?;
        let fast = fast
            .and_then(processors)
            .map(|fast| allowed.intersection(&fast).copied().collect());
        let counted: BTreeSet<u32> = fast
            .filter(|fast: &BTreeSet<u32>| !fast.is_empty())
            .unwrap_or(allowed);
        // A core is identified by its first processor.
        let core = |&processor: &u32| {
            siblings(processor)
                .as_deref()
                .and_then(processors)
                .and_then(|all| all.first().copied())
                .unwrap_or(processor)
        };
        Some(counted.iter().map(core).collect::<BTreeSet<u32>>().len()).filter(|&cores| cores > 0)
    }

    fn processors(text: &str) -> Option<BTreeSet<u32>> {
        let mut all = BTreeSet::new();
        for range in text.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if last >= MOST {
                return None;
            }
            all.extend(first..=last);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::linux::cores;

    /// Pairs of processors: 0 and 4, 1 and 5, …
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the caller requires this signature"
    )]
    fn paired(processor: u32) -> Option<String> {
        Some(format!("{},{}\n", processor % 4, processor % 4 + 4))
    }

    #[test]
    fn hyperthreads_of_one_core_are_one_thread() {
        assert_eq!(cores("0-7\n", None, paired), Some(4));
        assert_eq!(cores("\t0-1,4-5", None, paired), Some(2));
        assert_eq!(cores("2,6", None, paired), Some(1));
    }

    #[test]
    fn a_process_that_may_use_one_hyperthread_of_each_core_has_all_cores() {
        assert_eq!(cores("4-7", None, paired), Some(4));
    }

    #[test]
    fn slow_cores_are_left_out_where_a_fast_one_is_allowed() {
        // Four fast cores with two hyperthreads each, and four slow ones.
        let siblings = |processor: u32| {
            if processor < 8 {
                paired(processor)
            } else {
                Some(processor.to_string())
            }
        };
        assert_eq!(cores("0-11", Some("0-7\n"), siblings), Some(4));
        assert_eq!(cores("3,8-11", Some("0-7\n"), siblings), Some(1));
        assert_eq!(cores("8-11", Some("0-7\n"), siblings), Some(4));
    }

    #[test]
    fn where_the_kernel_tells_nothing_every_processor_is_a_core() {
        assert_eq!(cores("0-3", None, |_| None), Some(4));
        assert_eq!(cores("0-3", Some(""), |_| Some("?".to_owned())), Some(4));
    }

    #[test]
    fn a_list_that_is_none_counts_nothing() {
        for list in ["", "x", "0-", "3-1", "0-4000000000"] {
            assert_eq!(cores(list, None, paired), None, "{list}");
        }
    }

    #[test]
    fn how_threads_wait_is_chosen_unless_the_user_has_chosen() {
        assert_ne!(super::waiting(|_| false), []);
        for own in super::CHOSEN_BY_USERS {
            assert_eq!(super::waiting(|name| name == own), [], "{own}");
        }
        assert_ne!(super::waiting(|name| name == "OMP_NUM_THREADS"), []);
    }

    #[test]
    fn there_is_a_thread_and_no_more_than_processors() {
        let threads = super::of_this_machine();
        assert!((1..=std::thread::available_parallelism().unwrap().get()).contains(&threads));
    }
}
