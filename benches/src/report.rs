//! What was measured, as tables, and the page that explains them.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context, Result};

use crate::rounds::{Compared, Measured};

/// The parts of the page `docs/benchmarks.md`, which is made by the benchmarks and not edited by
/// hand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Gateway,
    Engine,
    Busy,
}

const HEAD: &str = "# Benchmarks\n\nWritten by `make bench`; run it to have your own.\n\n";
/// In the order of the page.
const HEADINGS: [(Part, &str); 3] = [
    (Part::Gateway, "## The gateway\n\n"),
    (Part::Engine, "## The engine\n\n"),
    (Part::Busy, "## The engine on a busy machine\n\n"),
];

/// Writes one part of the page anew, and leaves the others as they are.
pub(crate) fn write_section(page: &Path, part: Part, section: &str) -> Result<()> {
    let old = std::fs::read_to_string(page).unwrap_or_default();
    std::fs::write(page, with_section(&old, part, section))
        .with_context(|| format!("could not write {}", page.display()))?;
    println!("written to {}", page.display());
    Ok(())
}

fn with_section(old: &str, part: Part, section: &str) -> String {
    let parts = HEADINGS.iter().map(|&(each, heading)| {
        let text = if each == part {
            section
        } else {
            section_of(old, heading)
        };
        (heading, text.trim())
    });
    let parts: Vec<String> = parts
        .filter(|(_, text)| !text.is_empty())
        .map(|(heading, text)| format!("{heading}{text}\n"))
        .collect();
    format!("{HEAD}{}", parts.join("\n"))
}

/// What stands under a heading, up to the next one.
fn section_of<'a>(page: &'a str, heading: &str) -> &'a str {
    let after = page.split_once(heading).map_or("", |(_, after)| after);
    after
        .split_once("\n## ")
        .map_or(after, |(section, _)| section)
}

/// The gateway's part.
pub(crate) fn section(
    measured: &Measured,
    machine: &[(&'static str, String)],
    pairs: usize,
) -> String {
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
    let mut text = String::from(
        "| work | µs of CPU per | Loggia | nginx | ratio | reach |\n|---|---|---|---|---|---|\n",
    );
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
    let (lower, upper) = (
        sorted.get(sorted.len().saturating_sub(1) / 2),
        sorted.get(sorted.len() / 2),
    );
    lower
        .zip(upper)
        .map_or(f64::NAN, |(lower, upper)| f64::midpoint(*lower, *upper))
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
        assert!(
            (median(&values[..4]) - 2.5).abs() < f64::EPSILON,
            "between the two in the middle, where they are two"
        );
        assert_eq!(span(&values), "1.00–9.00");
    }

    #[test]
    fn each_part_of_the_page_is_written_anew_without_the_others() {
        let [gateway, engine, busy] = HEADINGS.map(|(_, heading)| heading);
        let page = with_section("", Part::Busy, "half as fast");
        let page = with_section(&page, Part::Engine, "fast");
        let page = with_section(&page, Part::Gateway, "cheap\n\n| a |");
        let expected = |of_engine: &str| {
            format!("{HEAD}{gateway}cheap\n\n| a |\n\n{engine}{of_engine}\n\n{busy}half as fast\n")
        };
        assert_eq!(page, expected("fast"));
        assert_eq!(
            with_section(&page, Part::Engine, "faster\n"),
            expected("faster")
        );
    }
}
