//! What the embedded engine gives while other programs want the same processors: each kind of work
//! alone, and beside programs that do nothing but spin, in turns.
//!
//! Threads of one step wait for each other in every layer, so it matters how they wait. Several
//! environments can be compared in one run.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{
    engine::{
        client::{ask, chat, message},
        start_loggia,
        work::words,
    },
    gateway::Gateway,
    machine,
    report::{self, median, span},
};

/// What the engine is measured with.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The program to measure, built with `cargo build --release -p loggia`.
    #[arg(long, default_value = "target/release/loggia")]
    loggia: PathBuf,
    /// The model that it serves.
    #[arg(long, env = "LOGGIA_TEST_MODEL")]
    model: PathBuf,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How many programs spin beside it.
    #[arg(long, default_value_t = 2)]
    programs: usize,
    /// How often each environment has its turn at each kind of work.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long streams are counted, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Only the kinds of work whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// An environment: `NAME=VALUE NAME=VALUE`, or nothing for what Loggia chooses. By default
    /// that, and libgomp's own choice.
    #[arg(long, default_values_t = [String::new(), "GOMP_SPINCOUNT=300000".to_owned()])]
    environment: Vec<String>,
    /// Where to write the page's third part; nothing is written where other environments were
    /// measured.
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
}

/// A kind of work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// So many streams at once.
    Streams(usize),
    /// A prompt of so many words.
    Prompt(usize),
}

const WORKS: [(Work, &str, &str); 3] = [
    (Work::Streams(1), "1 at once", "tokens/s"),
    (Work::Streams(4), "4 at once", "tokens/s"),
    (Work::Prompt(304), "a prompt of 300 words", "words/s"),
];

/// What one environment gave at one kind of work.
struct Measured<'a> {
    environment: &'a str,
    work: Work,
    name: &'static str,
    unit: &'static str,
    alone: Vec<f64>,
    beside: Vec<f64>,
}

/// Measures, prints, and writes the page.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // All run at the same time, and wait asleep while it is another's turn: what changes on the
    // machine changes for all of them.
    let servers: Vec<(&str, Gateway)> = arguments
        .environment
        .iter()
        .map(|environment| Ok((&**environment, start(arguments, environment)?)))
        .collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut all = Vec::new();
    for (work, name, unit) in WORKS.into_iter().filter(|(_, name, _)| {
        arguments
            .only
            .as_ref()
            .is_none_or(|only| name.contains(only))
    }) {
        let mut measured: Vec<_> = servers
            .iter()
            .map(|&(environment, _)| Measured {
                environment,
                work,
                name,
                unit,
                alone: Vec::new(),
                beside: Vec::new(),
            })
            .collect();
        for round in 0..arguments.rounds {
            for (measured, (_, server)) in measured.iter_mut().zip(&servers) {
                runtime
                    .block_on(measured.round(arguments, server.address, round))
                    .with_context(|| format!("{name} with `{}`", measured.environment))?;
            }
        }
        all.extend(measured);
    }
    let text = section(arguments, &all);
    print!("{text}");
    if arguments.only.is_none()
        && arguments.environment.len() == 2
        && arguments.environment[0].is_empty()
    {
        report::write_section(&arguments.page, report::Part::Busy, &text)?;
    }
    Ok(())
}

fn start(arguments: &Arguments, environment: &str) -> Result<Gateway> {
    let pairs = environment
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    start_loggia(
        &arguments.loggia,
        &arguments.model,
        4,
        arguments.threads,
        pairs,
    )
}

impl Measured<'_> {
    /// Once alone, once beside the others.
    async fn round(
        &mut self,
        arguments: &Arguments,
        target: SocketAddr,
        round: usize,
    ) -> Result<()> {
        // The first answer of a process is slow for reasons of its own.
        answer_at_last(target).await?;
        let counted = Duration::from_secs_f64(arguments.seconds);
        let alone = measure(target, self.work, counted, round * 2).await?;
        let spinning = Spinning::start(arguments.programs)?;
        let beside = measure(target, self.work, counted, round * 2 + 1).await?;
        drop(spinning);
        eprintln!(
            "{:>40} {}: {alone:.1} alone, {beside:.1} beside, {}",
            self.environment, self.name, self.unit
        );
        self.alone.push(alone);
        self.beside.push(beside);
        Ok(())
    }
}

async fn answer_at_last(target: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while ask(target, &chat(&message("user", "Hello."), 8), None)
        .await
        .is_err()
    {
        if begun.elapsed() > Duration::from_mins(1) {
            bail!("it does not answer");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn measure(target: SocketAddr, work: Work, counted: Duration, turn: usize) -> Result<f64> {
    match work {
        Work::Streams(count) => streams(target, count, counted).await,
        Work::Prompt(count) => {
            let prompt = chat(&message("user", &words(count, &format!("Turn {turn}."))), 1);
            let first = ask(target, &prompt, None).await?.first()?;
            #[expect(clippy::cast_precision_loss, reason = "some hundred words")]
            Ok(count as f64 / first.as_secs_f64())
        }
    }
}

/// Pieces a second of so many streams, from when all have begun.
async fn streams(target: SocketAddr, count: usize, counted: Duration) -> Result<f64> {
    let mut tasks = JoinSet::new();
    let mut so_far = Vec::new();
    for number in 0..count {
        let (said, heard) = watch::channel(0);
        so_far.push(heard);
        let body = chat(
            &message(
                "user",
                &format!("Tell me the very long story number {number}."),
            ),
            2000,
        );
        tasks.spawn(async move { ask(target, &body, Some(&said)).await });
    }
    for heard in &mut so_far {
        heard
            .wait_for(|pieces| *pieces > 0)
            .await
            .context("a stream ended early")?;
    }
    let pieces = || so_far.iter().map(|heard| *heard.borrow()).sum::<usize>();
    let (before, began) = (pieces(), Instant::now());
    sleep(counted).await;
    let (after, seconds) = (pieces(), began.elapsed().as_secs_f64());
    if tasks.try_join_next().is_some() {
        bail!("a stream ended while it was counted");
    }
    // Dropping the streams closes their connections, and the engine stops.
    tasks.shutdown().await;
    #[expect(clippy::cast_precision_loss, reason = "some thousand pieces")]
    Ok((after - before) as f64 / seconds)
}

/// Programs that spin; ended when dropped.
struct Spinning(Vec<Child>);

impl Spinning {
    fn start(count: usize) -> Result<Self> {
        let mut spinning = Self(Vec::new());
        for _ in 0..count {
            let mut command = Command::new("sh");
            command
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null());
            spinning
                .0
                .push(command.spawn().context("could not start `sh`")?);
        }
        Ok(spinning)
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn section(arguments: &Arguments, all: &[Measured<'_>]) -> String {
    let mut text = format!(
        "The program with the embedded engine, alone and beside {} programs that spin (`while :; do :; done`): {} threads, {} seconds of each \
         stream, prompts that are not cached. {} rounds, in each of which every environment had its turn; medians, and in brackets the least and \
         the most. `GOMP_SPINCOUNT=300000` is what libgomp chooses by itself.\n\n\
         | work | unit | environment | alone | beside them | beside ÷ alone |\n|---|---|---|---|---|---|\n",
        arguments.programs, arguments.threads, arguments.seconds, arguments.rounds
    );
    for Measured {
        environment,
        name,
        unit,
        alone,
        beside,
        ..
    } in all
    {
        let environment = if environment.is_empty() {
            "Loggia's own".to_owned()
        } else {
            format!("`{environment}`")
        };
        let (quiet, busy) = (median(alone), median(beside));
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {unit} | {environment} | {quiet:.0} ({}) | {busy:.0} ({}) | {:.2} |",
            span(alone),
            span(beside),
            busy / quiet
        );
    }
    text.push('\n');
    for (what, value) in machine::alone() {
        let _ = writeln!(text, "- {what}: {value}");
    }
    text
}
