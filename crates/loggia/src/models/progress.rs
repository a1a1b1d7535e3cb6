//! Progress of long steps: a bar on a terminal, else a line now and then.

use std::io::IsTerminal as _;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

/// The output of progress messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Bar,
    Lines,
}

impl Progress {
    /// On standard error: a bar if that is a terminal.
    pub(crate) fn on_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Progress::Bar
        } else {
            Progress::Lines
        }
    }

    /// Starts to show a step of `total` bytes.
    pub(crate) fn start(self, what: &str, total: u64) -> Meter {
        match self {
            Progress::Bar => {
                let style = ProgressStyle::with_template(
                    "{msg} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
                );
                // The template is the constant above; the default bar would be fine, too.
                let style = style
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> ");
                Meter::Bar(
                    ProgressBar::new(total)
                        .with_style(style)
                        .with_message(what.to_owned()),
                )
            }
            Progress::Lines => Meter::Lines(Lines {
                what: what.to_owned(),
                total,
                tenth: 0,
            }),
        }
    }
}

/// The progress of one step.
pub(crate) enum Meter {
    Bar(ProgressBar),
    Lines(Lines),
}

pub(crate) struct Lines {
    what: String,
    total: u64,
    tenth: u64,
}

impl Meter {
    /// Sets the number of finished bytes. It may decrease if a download starts again.
    pub(crate) fn at(&mut self, done: u64) {
        match self {
            Meter::Bar(bar) => bar.set_position(done),
            Meter::Lines(lines) => {
                if let Some(line) = lines.next(done) {
                    eprintln!("{line}");
                }
            }
        }
    }

    /// Prints a line without disturbing the bar.
    pub(crate) fn say(&self, line: &str) {
        match self {
            Meter::Bar(bar) => bar.suspend(|| eprintln!("{line}")),
            Meter::Lines(_) => eprintln!("{line}"),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Meter::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    /// The line to print, once per tenth.
    fn next(&mut self, done: u64) -> Option<String> {
        let tenth = done.saturating_mul(10).checked_div(self.total)?;
        if tenth <= self.tenth {
            return None;
        }
        self.tenth = tenth;
        Some(format!(
            "{} {}%: {} of {}",
            self.what,
            tenth * 10,
            ByteSize(done),
            ByteSize(self.total)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_one_line_for_each_tenth() {
        let mut lines = Lines {
            what: "m.gguf".to_owned(),
            total: 200 << 20,
            tenth: 0,
        };
        assert_eq!(lines.next(1), None);
        assert_eq!(
            lines.next(50 << 20).as_deref(),
            Some("m.gguf 20%: 50.0 MiB of 200.0 MiB")
        );
        assert_eq!(lines.next(51 << 20), None);
        assert_eq!(
            lines.next(200 << 20).as_deref(),
            Some("m.gguf 100%: 200.0 MiB of 200.0 MiB")
        );
        assert_eq!(
            Lines {
                what: String::new(),
                total: 0,
                tenth: 0
            }
            .next(0),
            None
        );
    }
}
