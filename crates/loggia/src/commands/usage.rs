//! `loggia usage`: how much each API key has used, as tables with bars, or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use loggia_api::store::{Usage, UsageAmount, UsageStore as _};
use serde_json::json;

use super::{print, runtime};
use crate::cli::{UsageArgs, UsageBy};
use crate::config::Config;
use crate::{clock, logs, state};

const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

/// The longest bar, in characters.
const LONGEST_BAR: u64 = 30;

/// The parts of a character, for the end of a bar.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// The headings of the columns of numbers.
const COLUMNS: [&str; 5] = ["requests", "incomplete", "prompt", "cached", "answer"];

pub(super) fn run(args: &UsageArgs) -> anyhow::Result<ExitCode> {
    logs::start("warn");
    let config = Config::of_this_process(&args.place.clone().into())?;
    let store = state::needed_store(&config, "the usage of API keys is")?;
    let since = clock::today().saturating_sub(i64::from(args.days.get()) - 1);
    let used = runtime()?.block_on(store.usage_since(since));
    let used: Vec<Usage> = used.context("the usage cannot be read")?;
    let used: Vec<_> = used
        .into_iter()
        .filter(|usage| args.key.as_ref().is_none_or(|key| *key == usage.key))
        .collect();
    if args.json {
        return print(&as_json(since, &used));
    }
    if used.is_empty() {
        eprintln!("loggia: no API key has used a model since {}", date(since));
        return Ok(ExitCode::SUCCESS);
    }
    let all = [UsageBy::Day, UsageBy::Key, UsageBy::Model];
    let tables = all.into_iter();
    let tables = tables.filter(|by| args.by.is_none_or(|wanted| wanted == *by));
    let tables: Vec<_> = tables.map(|by| table(by, &used)).collect();
    print(&tables.join("\n"))
}

fn as_json(since: i64, used: &[Usage]) -> String {
    let rows = used.iter().map(|usage| {
        json!({
            "day": date(usage.day),
            "key": usage.key,
            "model": usage.model,
            "requests": usage.amount.requests,
            "incomplete": usage.amount.incomplete,
            "prompt_tokens": usage.amount.prompt_tokens,
            "cached_tokens": usage.amount.cached_tokens,
            "completion_tokens": usage.amount.completion_tokens,
        })
    });
    let rows: Vec<_> = rows.collect();
    format!("{:#}\n", json!({"since": date(since), "usage": rows}))
}

/// A table with a row for each day, key or model, and a bar for its tokens.
fn table(by: UsageBy, used: &[Usage]) -> String {
    let mut sums: BTreeMap<String, UsageAmount> = BTreeMap::new();
    let mut total = UsageAmount::default();
    for usage in used {
        let name = match by {
            UsageBy::Day => date(usage.day),
            UsageBy::Key => usage.key.clone(),
            UsageBy::Model => usage.model.clone(),
        };
        *sums.entry(name).or_default() += usage.amount;
        total += usage.amount;
    }
    let heading = match by {
        UsageBy::Day => "day (UTC)",
        UsageBy::Key => "key",
        UsageBy::Model => "model",
    };
    let most = sums.values().map(tokens).max().unwrap_or(0);
    let mut lines = vec![(
        heading.to_owned(),
        COLUMNS.map(str::to_owned),
        String::new(),
    )];
    for (name, amount) in &sums {
        lines.push((name.clone(), numbers(amount), bar(tokens(amount), most)));
    }
    if sums.len() > 1 {
        lines.push(("total".to_owned(), numbers(&total), String::new()));
    }
    aligned(&lines)
}

/// Writes lines with a name, numbers and a bar in columns.
fn aligned(lines: &[(String, [String; 5], String)]) -> String {
    let width = |text: &str| text.chars().count();
    let names = lines
        .iter()
        .map(|(name, ..)| width(name))
        .max()
        .unwrap_or(0);
    let column = |at: usize| lines.iter().map(move |(_, numbers, _)| width(&numbers[at]));
    let widths: Vec<_> = (0..COLUMNS.len())
        .map(|at| column(at).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (name, numbers, bar) in lines {
        let mut line = format!("{name:names$}");
        for (number, width) in numbers.iter().zip(&widths) {
            _ = write!(line, "  {number:>width$}");
        }
        _ = write!(line, "  {bar}");
        _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn tokens(amount: &UsageAmount) -> u64 {
    amount
        .prompt_tokens
        .saturating_add(amount.completion_tokens)
}

fn numbers(amount: &UsageAmount) -> [String; 5] {
    [
        amount.requests,
        amount.incomplete,
        amount.prompt_tokens,
        amount.cached_tokens,
        amount.completion_tokens,
    ]
    .map(grouped)
}

/// Writes a number with a comma between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bar whose length is the part of `most` that `number` is.
fn bar(number: u64, most: u64) -> String {
    if most == 0 {
        return String::new();
    }
    let eighths = u128::from(number) * u128::from(LONGEST_BAR * 8) / u128::from(most);
    let eighths = usize::try_from(eighths).unwrap_or(0);
    // A number above zero has a bar.
    let eighths = eighths.max(usize::from(number > 0));
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// A day as `2026-11-30`.
fn date(day: i64) -> String {
    let seconds = u64::try_from(day)
        .unwrap_or(0)
        .saturating_mul(SECONDS_OF_A_DAY);
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let text = humantime::format_rfc3339_seconds(time.unwrap_or(UNIX_EPOCH)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(day: i64, key: &str, model: &str, prompt_tokens: u64) -> Usage {
        Usage {
            day,
            key: key.to_owned(),
            model: model.to_owned(),
            amount: UsageAmount {
                requests: 1,
                incomplete: 0,
                prompt_tokens,
                cached_tokens: 7,
                completion_tokens: 0,
            },
        }
    }

    #[test]
    fn a_table_sums_up_and_its_longest_bar_is_the_largest_row() {
        let used = [
            usage(20_000, "alice", "m", 1_000_000),
            usage(20_000, "bob", "m", 500_000),
            usage(20_001, "alice", "n", 1),
        ];
        let text = table(UsageBy::Key, &used);
        let longest = "█".repeat(30);
        let half = "█".repeat(14) + "▉";
        assert_eq!(
            text,
            format!(
                "\
key    requests  incomplete     prompt  cached  answer
alice         2           0  1,000,001      14       0  {longest}
bob           1           0    500,000       7       0  {half}
total         3           0  1,500,001      21       0
"
            )
        );
        let days = table(UsageBy::Day, &used);
        assert!(
            days.contains("2024-10-04") && days.contains("2024-10-05"),
            "{days}"
        );
        assert!(days.lines().any(|line| line.ends_with('▏')), "{days}");
        assert_eq!(table(UsageBy::Model, &used[2..]).lines().count(), 2);
    }

    #[test]
    fn json_has_a_row_for_each_day_key_and_model() {
        let text = as_json(20_000, &[usage(20_000, "alice", "m", 5)]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["since"], "2024-10-04");
        assert_eq!(value["usage"][0]["day"], "2024-10-04");
        assert_eq!(value["usage"][0]["prompt_tokens"], 5);
    }
}
