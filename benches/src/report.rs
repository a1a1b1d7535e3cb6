//! What was measured, as tables, and the page that explains them.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context, Result};

use crate::rounds::{Compared, Measured};

/// The halves of the page `docs/benchmarks.md`, which is made by the benchmarks and not edited by hand.
#[derive(Clone, Copy)]
pub(crate) enum Half {
    Gateway,
    Engine,
}

const HEAD: &str = "# Benchmarks\n\nWritten by `make bench`; run it to have your own.\n\n";
const GATEWAY: &str = "## The gateway\n\n";
const ENGINE: &str = "## The engine\n\n";

/// Writes one half of the page anew, and leaves the other as it is.
pub(crate) fn write_section(page: &Path, half: Half, section: &str) -> Result<()> {
    let old = std::fs::read_to_string(page).unwrap_or_default();
    std::fs::write(page, with_section(&old, half, section))
        .with_context(|| format!("could not write {}", page.display()))?;
    println!("written to {}", page.display());
    Ok(())
}

fn with_section(old: &str, half: Half, section: &str) -> String {
    let (before, engine) = old.split_once(ENGINE).unwrap_or((old, ""));
    let gateway = before.split_once(GATEWAY).map_or("", |(_, gateway)| gateway);
    let (gateway, engine) = match half {
        Half::Gateway => (section, engine),
        Half::Engine => (gateway, section),
    };
    let halves = [(GATEWAY, gateway), (ENGINE, engine)].into_iter().filter(|(_, text)| !text.trim().is_empty());
    let halves: Vec<String> = halves.map(|(heading, text)| format!("{heading}{}\n", text.trim_end())).collect();
    format!("{HEAD}{}", halves.join("\n"))
}

/// The gateway's half.
pub(crate) fn section(measured: &Measured, machine: &[(&'static str, String)], pairs: usize) -> String {
    let mut page = format!(
        "What a gateway costs, in CPU time of its process: Loggia in front of an Ollama stand-in that answers at once, beside nginx (one worker,
connections to the upstream kept, `proxy_buffering off`) that passes the same answer's bytes through. Loggia parses each line of Ollama's
and writes an OpenAI event for it; nginx is given the events that Loggia wrote, from the same stand-in, in the same portions, and only copies
them. Both serve the same client, which asks for nothing but the chat. {pairs} alternating pairs after one uncounted round; medians, and in
brackets the least and the most. Neither writes a log.

CPU time is read from `/proc/<pid>/task/*/schedstat` before and after. Wall time is left out: stand-in, client and gateway share the machine.

{}
",
        tables(measured)
    );
    for (what, value) in machine {
        // Writing into a string cannot fail.
        let _ = writeln!(page, "- {what}: {value}");
    }
    page.push_str(
        "\nNot measured are the network, TLS, and how many requests a second are possible. \
         [0007](decisions/0007-runtime.md) tells how Loggia is arranged to cost what it does, and what the other arrangements cost.\n",
    );
    page
}

/// The figures alone.
pub(crate) fn tables(measured: &Measured) -> String {
    let mut text =
        String::from("| work | µs of CPU per | Loggia | nginx | ratio | reach |\n|---|---|---|---|---|---|\n");
    for compared in &measured.compared {
        text.push_str(&row(compared));
    }
    if let Some(weight) = &measured.weight {
        let _ = write!(
            text,
            "\n| resident memory | Loggia | nginx | reach |\n|---|---|---|---|\n| per open stream, at {} | {:.1} KiB | {:.1} KiB | < 30 KiB |\n",
            weight.streams,
            weight.loggia / 1024.0,
            weight.nginx / 1024.0
        );
    }
    text
}

fn row(compared: &Compared) -> String {
    let work = &compared.work;
    let (loggia, nginx) = (median(&compared.loggia), median(&compared.nginx));
    format!(
        "| {}: {} | {} | {loggia:.2} ({}) | {nginx:.2} ({}) | {:.2}× | ≤ {}× |\n",
        work.name,
        work.what,
        work.unit,
        span(&compared.loggia),
        span(&compared.nginx),
        loggia / nginx,
        work.reach
    )
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2));
    lower.zip(upper).map_or(f64::NAN, |(lower, upper)| f64::midpoint(*lower, *upper))
}

pub(crate) fn span(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{least:.2}–{most:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_and_the_span_holds_all() {
        let values = [3.0, 1.0, 9.0, 2.0, 4.0];
        assert!((median(&values) - 3.0).abs() < f64::EPSILON);
        assert!((median(&values[..4]) - 2.5).abs() < f64::EPSILON, "between the two in the middle, where they are two");
        assert_eq!(span(&values), "1.00–9.00");
    }

    #[test]
    fn each_half_of_the_page_is_written_anew_without_the_other() {
        let both = with_section(&with_section("", Half::Engine, "fast"), Half::Gateway, "cheap");
        assert_eq!(both, format!("{HEAD}{GATEWAY}cheap\n\n{ENGINE}fast\n"));
        assert_eq!(with_section(&both, Half::Engine, "faster\n"), format!("{HEAD}{GATEWAY}cheap\n\n{ENGINE}faster\n"));
    }
}
