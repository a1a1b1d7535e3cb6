//! Measures the embedded engine beside llama-server: the same file, threads, slots and context for
//! both.
//!
//! `work` contains the kinds of work, `client` the client. Both programs are restarted, one after
//! the other, for each number of users.

pub(crate) mod client;
pub(crate) mod work;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    gateway::{Gateway, free_address},
    machine,
    report::{median, span},
};
use work::{Figure, Values};

/// The context size per user in tokens, prompt and answer together.
const CONTEXT: usize = 3072;

/// The settings of the measurement.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The program to measure, built with `cargo build --release -p loggia`.
    #[arg(long, default_value = "target/release/loggia")]
    loggia: PathBuf,
    /// A llama-server, or a program with the same flags.
    #[arg(long, env = "LLAMA_SERVER", default_value = "llama-server")]
    llama_server: PathBuf,
    /// The model that both serve.
    #[arg(long, env = "LOGGIA_TEST_MODEL")]
    model: PathBuf,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The number of rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only measure these numbers of users.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16])]
    users: Vec<usize>,
    /// Only measure turn 50 of a conversation, for which no llama-server is needed.
    #[arg(long)]
    only_turn_50: bool,
    /// Where to write the page's second part. Nothing is written if only some numbers of users were
    /// measured.
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
}

struct Compared {
    figure: Figure,
    loggia: Vec<f64>,
    llama_server: Vec<f64>,
}

/// Measures, prints the results, and writes the page.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.only_turn_50 {
        print!("{}", turns_section(&turns(arguments)?));
        return Ok(());
    }
    let table = compare(arguments)?;
    let text = section(arguments, &table, &turns(arguments)?);
    print!("{text}");
    if arguments.users == [1, 2, 4, 8, 16] {
        crate::report::write_section(&arguments.page, crate::report::Part::Engine, &text)?;
    }
    Ok(())
}

/// Measures all kinds of work with both programs.
fn compare(arguments: &Arguments) -> Result<Vec<Compared>> {
    let mut table: Vec<Compared> = Vec::new();
    for round in 0..arguments.rounds {
        for &users in &arguments.users {
            for is_loggia in [round % 2 == 0, round % 2 != 0] {
                let name = if is_loggia { "Loggia" } else { "llama-server" };
                let values = measure(arguments, is_loggia, users, round)
                    .with_context(|| format!("{name} with {users} users"))?;
                for (figure, value) in values {
                    eprintln!("{name:>12} {value:9.1} {} {}", figure.unit, figure.name);
                    note(&mut table, figure, value, is_loggia);
                }
            }
        }
    }
    Ok(table)
}

/// Measures turn 50 of a conversation in each round.
fn turns(arguments: &Arguments) -> Result<Vec<(f64, f64)>> {
    let mut turns = Vec::new();
    for _ in 0..arguments.rounds {
        let (response, chat) = turn_50(arguments).context("turn 50")?;
        eprintln!("      Loggia {response:9.1} ms turn 50, {chat:.1} ms as a chat");
        turns.push((response, chat));
    }
    Ok(turns)
}

fn measure(arguments: &Arguments, is_loggia: bool, users: usize, round: usize) -> Result<Values> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let server = if is_loggia {
        start_loggia(
            &arguments.loggia,
            &arguments.model,
            users,
            arguments.threads,
            [],
        )?
    } else {
        llama_server(arguments, users)?
    };
    runtime.block_on(async {
        wait_until_it_answers(&server).await?;
        work::measure(server.address, users, round).await
    })
}

/// Measures a turn of a long conversation, as a response and as a chat: the times to the first
/// token.
fn turn_50(arguments: &Arguments) -> Result<(f64, f64)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let Arguments {
        loggia,
        model,
        threads,
        ..
    } = arguments;
    let server = start_loggia(loggia, model, 1, *threads, [])?;
    runtime.block_on(async {
        wait_until_it_answers(&server).await?;
        work::turn_50(server.address).await
    })
}

async fn wait_until_it_answers(server: &Gateway) -> Result<()> {
    let begun = Instant::now();
    let request = client::chat(&client::message("user", "Hi"), 1);
    while client::ask(server.address, &request, None).await.is_err() {
        if begun.elapsed() > Duration::from_mins(1) {
            bail!("the server does not answer");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Starts Loggia with this model, as many slots as users, and additional environment variables.
pub(crate) fn start_loggia<'a>(
    program: &Path,
    model: &Path,
    users: usize,
    threads: usize,
    environment: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Gateway> {
    let (folder, address) = (tempfile::tempdir()?, free_address()?);
    let mut command = Command::new(program);
    command
        .args(["serve", "--listen", &address.to_string(), "--data-dir"])
        .arg(folder.path());
    // The name of a served model is its file name.
    let file = folder.path().join("bench.gguf");
    std::os::unix::fs::symlink(std::path::absolute(model)?, &file)?;
    command
        .arg("--model")
        .arg(&file)
        .args(["--parallel", &users.to_string()])
        .env("LOGGIA_LOG", "warn");
    command
        .args([
            "--context",
            &CONTEXT.to_string(),
            "--threads",
            &threads.to_string(),
        ])
        .envs(environment);
    Gateway::start("Loggia", command, folder, address)
}

fn llama_server(arguments: &Arguments, users: usize) -> Result<Gateway> {
    let (folder, address) = (tempfile::tempdir()?, free_address()?);
    let mut command = Command::new(&arguments.llama_server);
    command.arg("-m").arg(&arguments.model).args([
        "--host",
        "127.0.0.1",
        "--port",
        &address.port().to_string(),
    ]);
    command.args([
        "-np",
        &users.to_string(),
        "-c",
        &(CONTEXT * users).to_string(),
        "-t",
        &arguments.threads.to_string(),
    ]);
    Gateway::start("llama-server", command, folder, address)
}

fn note(table: &mut Vec<Compared>, figure: Figure, value: f64, is_loggia: bool) {
    let row = table
        .iter()
        .position(|row| row.figure == figure)
        .unwrap_or_else(|| {
            table.push(Compared {
                figure,
                loggia: Vec::new(),
                llama_server: Vec::new(),
            });
            table.len() - 1
        });
    let row = &mut table[row];
    if is_loggia {
        row.loggia.push(value);
    } else {
        row.llama_server.push(value);
    }
}

fn section(arguments: &Arguments, table: &[Compared], turns: &[(f64, f64)]) -> String {
    let mut text = format!(
        "The embedded engine compared with llama-server: `{}`, {} threads,\n\
         {CONTEXT} tokens of context for each user, as many slots as users (1, 2, 4, 8 or 16), HTTP included,\n\
         temperature 0.8 and otherwise the defaults of each program, streams of 128 tokens. {} alternating\n\
         rounds, and both programs are restarted for each. Each cell has the median, with the minimum and\n\
         the maximum in brackets. The answers under a schema and those that repeat their prompt have\n\
         temperature 0.\n\n\
         Tokens per second are all tokens divided by the whole time, including the time to read the prompts.\n\
         The rows \"without first tokens\" only count the time in which all streams run.\n\n\
         | work | unit | Loggia | llama-server | ratio | goal |\n|---|---|---|---|---|---|\n",
        file_name(&arguments.model),
        arguments.threads,
        arguments.rounds
    );
    for Compared {
        figure,
        loggia,
        llama_server,
    } in table
    {
        let (ours, theirs) = (median(loggia), median(llama_server));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {ours:.0} ({}) | {theirs:.0} ({}) | {:.2}× | {} |",
            figure.name,
            figure.unit,
            span(loggia),
            span(llama_server),
            ours / theirs,
            figure.goal
        );
    }
    text.push_str(&turns_section(turns));
    text.push('\n');
    for (what, value) in machine::of_engine(&arguments.llama_server) {
        let _ = writeln!(text, "- {what}: {value}");
    }
    text.push_str("- llama-server's flags: `-m FILE -np USERS -c USERS×CONTEXT -t THREADS`\n- Loggia's flags: `--model FILE --parallel USERS --context CONTEXT --threads THREADS`\n");
    text
}

/// The table of turn 50.
fn turns_section(turns: &[(f64, f64)]) -> String {
    let (responses, chats): (Vec<f64>, Vec<f64>) = turns.iter().copied().unzip();
    format!(
        "\nTurn 50 of a conversation whose history the engine has cached: a response that continues stored ones\n\
         by `previous_response_id`, compared with a chat that sends the same history. Both are Loggia's.\n\n\
         | work | unit | response | chat | ratio | goal |\n|---|---|---|---|---|---|\n\
         | turn 50: first token | ms | {:.1} ({}) | {:.1} ({}) | {:.2}× | ≤ 1.05× |\n",
        median(&responses),
        span(&responses),
        median(&chats),
        span(&chats),
        median(&responses) / median(&chats)
    )
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
