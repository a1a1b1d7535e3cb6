//! Measures the embedded engine while other programs use the same processors: each kind of work
//! alone and beside programs that only spin, alternately.
//!
//! The threads of one step wait for each other in every layer, so it matters how they wait. One run
//! can compare several environments.

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

/// The settings of the measurement.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The program to measure, built with `cargo build --release -p loggia`.
    #[arg(long, default_value = "target/release/loggia")]
    loggia: PathBuf,
    /// The model to serve.
    #[arg(long, env = "LOGGIA_TEST_MODEL")]
    model: PathBuf,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The number of spinning programs.
    #[arg(long, default_value_t = 2)]
    programs: usize,
    /// The number of rounds per environment and kind of work.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The time for which streams are counted, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Only measure the kinds of work whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// An environment: `NAME=VALUE NAME=VALUE`, or empty for Loggia's own. The default is that one,
    /// and libgomp's default.
    #[arg(long, default_values_t = [String::new(), "GOMP_SPINCOUNT=300000".to_owned()])]
    environment: Vec<String>,
    /// Where to write the page's third part. Nothing is written if other environments were
    /// measured.
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
}

/// A kind of work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// This number of parallel streams.
    Streams(usize),
    /// A prompt of this number of words.
    Prompt(usize),
}

const WORKS: [(Work, &str, &str); 3] = [
    (Work::Streams(1), "1 stream", "tokens/s"),
    (Work::Streams(4), "4 parallel streams", "tokens/s"),
    (Work::Prompt(304), "a prompt of 300 words", "words/s"),
];

/// The results of one environment for one kind of work.
struct Measured<'a> {
    environment: &'a str,
    work: Work,
    name: &'static str,
    unit: &'static str,
    alone: Vec<f64>,
    beside: Vec<f64>,
}

/// Measures, prints the results, and writes the page.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // All servers run at the same time and sleep while another is measured, so that changes of the
    // machine affect all of them.
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
    /// Measures one round on the idle machine, and one with the spinning programs.
    async fn round(
        &mut self,
        arguments: &Arguments,
        target: SocketAddr,
        round: usize,
    ) -> Result<()> {
        // The first answer of a process is always slower, so it is not measured.
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
            bail!("the server does not answer");
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

/// Returns the pieces per second of this number of streams, counted from when all have begun.
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

/// Spinning programs, killed on drop.
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
        "The embedded engine on an idle machine, and on one where {} programs spin (`while :; do :; done`):\n\
         {} threads, {} seconds of each stream, uncached prompts. Every environment runs in each of the {}\n\
         rounds. Each cell has the median, with the minimum and the maximum in brackets.\n\
         `GOMP_SPINCOUNT=300000` is libgomp's default.\n\n\
         | work | unit | environment | idle machine | busy machine | busy ÷ idle |\n|---|---|---|---|---|---|\n",
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
        // Writing to a string cannot fail.
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
