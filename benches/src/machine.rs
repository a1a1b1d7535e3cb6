//! Describes the machine, for the page of results.

use std::{fs, path::Path, process::Command};

/// The lines for the gateway's part: processor, kernel, programs, date.
pub(crate) fn describe(nginx: &Path, is_profile_guided: bool) -> Vec<(&'static str, String)> {
    let build = if is_profile_guided {
        "with profile-guided optimisation, as releases are"
    } else {
        "without the profile-guided optimisation of releases"
    };
    vec![
        ("Loggia", format!("built {build}")),
        ("processor", processor()),
        ("kernel", said("uname", &["-sr"])),
        (
            "nginx",
            said(&nginx.to_string_lossy(), &["-v"]).replace("nginx version: ", ""),
        ),
        ("rustc", said("rustc", &["--version"])),
        ("date", said("date", &["-u", "+%Y-%m-%d"])),
        ("other work", other_work()),
    ]
}

/// Describes the machine for the comparison of the engine with llama-server.
pub(crate) fn of_engine(llama_server: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("processor", processor()),
        ("kernel", said("uname", &["-sr"])),
        (
            "llama-server",
            said(&llama_server.to_string_lossy(), &["--version"]).replace('\n', ", "),
        ),
        ("date", said("date", &["-u", "+%Y-%m-%d"])),
        ("other work", other_work()),
    ]
}

/// Describes the machine without other programs, for a part that other work makes worse.
pub(crate) fn alone_and_load() -> Vec<(&'static str, String)> {
    let mut lines = alone();
    lines.push(("other work", other_work()));
    lines
}

/// Describes the machine without other programs.
pub(crate) fn alone() -> Vec<(&'static str, String)> {
    vec![
        ("processor", processor()),
        ("kernel", said("uname", &["-sr"])),
        ("date", said("date", &["-u", "+%Y-%m-%d"])),
    ]
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let values = |key: &str| -> Vec<&str> {
        info.lines()
            .filter(|line| line.starts_with(key))
            .filter_map(|line| line.split_once(':'))
            .map(|(_, value)| value.trim())
            .collect()
    };
    let name = values("model name")
        .first()
        .copied()
        .unwrap_or("unknown")
        .to_owned();
    let virtual_machine = if info.contains("hypervisor") {
        ", a virtual machine"
    } else {
        ""
    };
    format!(
        "{name}, {} cores{virtual_machine}",
        values("processor").len()
    )
}

/// The benchmark itself uses about two processors. Other work evicts caches, which costs the larger
/// program more.
fn other_work() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = averages.split(' ').nth(1).unwrap_or("unknown");
    format!("load average {load} over five minutes; above 3, other work has made the figures worse")
}

/// The output of a program, on stdout and stderr.
fn said(program: &str, arguments: &[&str]) -> String {
    Command::new(program).args(arguments).output().map_or_else(
        |_| "unknown".to_owned(),
        |output| {
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
                .trim()
                .to_owned()
        },
    )
}
