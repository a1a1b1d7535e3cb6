//! The result: a table for people, or JSON. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytesize::ByteSize;
use serde_json::{Map, Value, json};

use super::measure::Figures;
use super::plan::Step;
use super::server::Server;

/// A line of the table: what was measured, and with how many requests at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    Prompt(usize),
    Answer(usize),
    FirstToken(usize),
    Structured,
}

impl Line {
    fn title(self) -> &'static str {
        match self {
            Self::Prompt(_) => "prompts, tokens/s",
            Self::Answer(_) => "answers, tokens/s",
            Self::FirstToken(_) => "first token, ms",
            Self::Structured => "JSON of a schema, ms",
        }
    }

    /// The key in the JSON.
    fn key(self) -> &'static str {
        match self {
            Self::Prompt(_) => "prompt_tokens_per_second",
            Self::Answer(_) => "answer_tokens_per_second",
            Self::FirstToken(_) => "first_token_ms",
            Self::Structured => "structured_answer_ms",
        }
    }

    fn at_once(self) -> usize {
        match self {
            Self::Prompt(at_once) | Self::Answer(at_once) | Self::FirstToken(at_once) => at_once,
            Self::Structured => 1,
        }
    }

    fn of(step: Step) -> Self {
        match step {
            Step::Prompt { at_once, .. } => Self::Prompt(at_once),
            Step::Answer { at_once, .. } => Self::Answer(at_once),
            Step::Structured { .. } => Self::Structured,
        }
    }
}

/// The figures of all servers.
#[derive(Debug)]
pub(super) struct Report {
    parallel: u32,
    threads: i32,
    pub(super) context: Option<u64>,
    pub(super) rounds: usize,
    pub(super) columns: Vec<Column>,
}

/// The figures of one server.
#[derive(Debug, Default)]
pub(super) struct Column {
    model: String,
    place: Option<String>,
    /// One figure for each round.
    figures: BTreeMap<Line, Vec<f64>>,
    /// The first error of each step that failed.
    failures: BTreeMap<Line, String>,
    /// The bytes of memory, if they are known.
    pub(super) memory: Option<u64>,
}

impl Column {
    pub(super) fn of(server: &Server) -> Self {
        Self {
            model: server.model().to_owned(),
            place: server.place().map(str::to_owned),
            ..Self::default()
        }
    }

    /// Adds the result of a step.
    pub(super) fn add(&mut self, step: Step, measured: anyhow::Result<Figures>) {
        let line = Line::of(step);
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let mut push = |line, figure| self.figures.entry(line).or_default().push(figure);
        match measured {
            Ok(Figures::Prompt(figure)) => push(line, figure),
            Ok(Figures::Structured(time)) => push(line, ms(time)),
            Ok(Figures::Answer {
                tokens_per_second,
                first_token,
            }) => {
                push(line, tokens_per_second);
                push(Line::FirstToken(line.at_once()), ms(first_token));
            }
            Err(error) => {
                let (title, at_once) = (line.title(), line.at_once());
                let failure = || format!("{title}, {at_once} at once: {error:#}");
                self.failures.entry(line).or_insert_with(failure);
            }
        }
    }

    pub(super) fn has_figures(&self) -> bool {
        !self.figures.is_empty()
    }

    pub(super) fn failures(&self) -> String {
        let all: Vec<&str> = self.failures.values().map(String::as_str).collect();
        all.join("; ")
    }

    /// The median of the rounds.
    fn median(&self, line: Line) -> Option<f64> {
        let mut figures = self.figures.get(&line)?.clone();
        figures.sort_unstable_by(f64::total_cmp);
        let middle = figures.len() / 2;
        Some(if figures.len().is_multiple_of(2) {
            f64::midpoint(figures[middle - 1], figures[middle])
        } else {
            figures[middle]
        })
    }
}

impl Report {
    pub(super) fn new(parallel: u32, threads: i32) -> Self {
        Self {
            parallel,
            threads,
            context: None,
            rounds: 0,
            columns: Vec::new(),
        }
    }

    fn lines(&self) -> BTreeSet<Line> {
        let lines = self.columns.iter().flat_map(|column| column.figures.keys());
        lines.copied().collect()
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let mut text = self.heading();
        let is_compared = self.columns.len() == 2;
        let mut rows = Vec::new();
        let mut head = vec![String::new(), "at once".to_owned()];
        head.extend(self.columns.iter().map(|column| match column.place {
            None => "Loggia".to_owned(),
            Some(_) => "other".to_owned(),
        }));
        if is_compared {
            head.push("ratio".to_owned());
        }
        rows.push(head);
        for line in self.lines() {
            let figures: Vec<_> = self.columns.iter().map(|one| one.median(line)).collect();
            let mut row = vec![line.title().to_owned(), line.at_once().to_string()];
            row.extend(figures.iter().map(|figure| shown(*figure)));
            if let [Some(own), Some(other)] = figures[..] {
                row.push(format!("{:.2}×", own / other));
            }
            rows.push(row);
        }
        if let Some(memory) = self.columns.first().and_then(|own| own.memory) {
            let memory = format!("{:.0}", memory as f64 / ByteSize::mib(1).as_u64() as f64);
            rows.push(vec!["memory, MiB".to_owned(), String::new(), memory]);
        }
        text.push_str(&aligned(&rows));
        for (column, name) in self.columns.iter().zip(["Loggia", "other"]) {
            for failure in column.failures.values() {
                let _ = writeln!(text, "{name}: not measured: {failure}");
            }
        }
        text
    }

    fn heading(&self) -> String {
        let Self {
            parallel, threads, ..
        } = self;
        let mut text = String::new();
        for column in &self.columns {
            let _ = if let Some(place) = &column.place {
                writeln!(text, "other:  {} at {place}", column.model)
            } else {
                let context = self
                    .context
                    .map(|tokens| format!(", context {tokens} tokens"));
                let context = context.unwrap_or_default();
                let plural = if *threads == 1 { "" } else { "s" };
                writeln!(
                    text,
                    "Loggia: {}{context}, {parallel} requests at once, {threads} thread{plural}",
                    column.model
                )
            };
        }
        let plural = if self.rounds == 1 { "" } else { "s" };
        let _ = writeln!(text, "medians of {} round{plural}\n", self.rounds);
        text
    }

    /// Returns the results as JSON, for programs.
    pub(super) fn json(&self) -> String {
        let servers: Vec<Value> = self.columns.iter().map(|one| self.of_column(one)).collect();
        let value = json!({
            "context": self.context,
            "parallel": self.parallel,
            "threads": self.threads,
            "rounds": self.rounds,
            "servers": servers,
        });
        format!("{value:#}\n")
    }

    fn of_column(&self, column: &Column) -> Value {
        let mut value = Map::new();
        value.insert("model".to_owned(), column.model.as_str().into());
        value.insert("url".to_owned(), column.place.clone().into());
        for line in self.lines() {
            let figure = json!(column.median(line).map(rounded));
            if line == Line::Structured {
                value.insert(line.key().to_owned(), figure);
                continue;
            }
            let of_key = value.entry(line.key()).or_insert_with(|| json!({}));
            of_key[line.at_once().to_string()] = figure;
        }
        value.insert("memory_bytes".to_owned(), column.memory.into());
        value.insert(
            "failures".to_owned(),
            json!(column.failures.values().collect::<Vec<_>>()),
        );
        Value::Object(value)
    }
}

fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

fn shown(figure: Option<f64>) -> String {
    match figure {
        None => "–".to_owned(),
        Some(figure) if figure < 100.0 => format!("{figure:.1}"),
        Some(figure) => format!("{figure:.0}"),
    }
}

/// The rows, with columns of equal width: the first one to the left, figures to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if at == 0 {
                write!(line, "{cell:<width$}")
            } else {
                write!(line, "  {cell:>width$}")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report() -> Report {
        let answer = |speed, ms| {
            Ok(Figures::Answer {
                tokens_per_second: speed,
                first_token: Duration::from_millis(ms),
            })
        };
        let step = Step::Answer {
            at_once: 4,
            tokens: 9,
        };
        let prompt = Step::Prompt {
            at_once: 1,
            words: 9,
        };
        let mut own = Column {
            model: "m".to_owned(),
            memory: Some(300 << 20),
            ..Column::default()
        };
        for figure in [500.0, 700.0] {
            own.add(prompt, Ok(Figures::Prompt(figure)));
            own.add(step, answer(figure / 10.0, 80));
        }
        let mut other = Column {
            model: "n".to_owned(),
            place: Some("http://x/v1".to_owned()),
            ..Column::default()
        };
        other.add(step, answer(40.0, 100));
        other.add(prompt, Err(anyhow::anyhow!("it is away")));
        Report {
            context: Some(4096),
            rounds: 2,
            columns: vec![own, other],
            ..Report::new(4, 2)
        }
    }

    #[test]
    fn the_table_has_medians_ratios_and_what_failed() {
        assert_eq!(
            report().table(),
            "\
Loggia: m, context 4096 tokens, 4 requests at once, 2 threads
other:  n at http://x/v1
medians of 2 rounds

                   at once  Loggia  other  ratio
prompts, tokens/s        1     600      –
answers, tokens/s        4    60.0   40.0  1.50×
first token, ms          4    80.0    100  0.80×
memory, MiB                    300
other: not measured: prompts, tokens/s, 1 at once: it is away
"
        );
    }

    #[test]
    fn the_json_has_the_same_figures() {
        let json: Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(json["threads"], 2);
        let [own, other] = [&json["servers"][0], &json["servers"][1]];
        assert_eq!(own["prompt_tokens_per_second"], json!({"1": 600.0}));
        assert_eq!(own["answer_tokens_per_second"], json!({"4": 60.0}));
        assert_eq!(own["memory_bytes"], 300 << 20);
        assert_eq!(own["url"], Value::Null);
        assert_eq!(other["prompt_tokens_per_second"], json!({"1": null}));
        assert_eq!(other["first_token_ms"], json!({"4": 100.0}));
        assert_eq!(other["failures"].as_array().map(Vec::len), Some(1));
    }
}
