//! The memory of this program, with the processes of its engine.

/// The resident bytes of this process and of the processes that it started. `None` if the system
/// does not report them.
#[cfg(feature = "embedded")]
pub(super) fn of_this_program() -> Option<u64> {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

    let own = sysinfo::get_current_pid().ok()?;
    let mut system = System::new();
    let kind = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    let all = system.processes().iter();
    let ours = all.filter(|(id, process)| **id == own || process.parent() == Some(own));
    Some(ours.map(|(_, process)| process.memory()).sum()).filter(|&bytes| bytes > 0)
}

/// Without the embedded engine, the model is not in the memory of this program.
#[cfg(not(feature = "embedded"))]
pub(super) fn of_this_program() -> Option<u64> {
    None
}
