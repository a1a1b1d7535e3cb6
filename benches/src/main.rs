//! Measures four things, each for a part of the page: the cost of a gateway (Loggia in front of an
//! instant Ollama stand-in, compared with nginx, which passes the bytes of the same answers
//! through, and responses and messages compared with chats), the time of calls beside many stored
//! responses, the speed of the embedded engine compared with llama-server, and its speed on a busy
//! machine. It can also let Loggia work while a profile of it is made (`train`).
//!
//! For a gateway, only the CPU time of its process is counted, so the stand-in and the load may
//! share the machine with it. This is not a load test: it does not measure the maximum number of
//! requests per second.
//!
//! Reading order: `rounds` and `open_streams` (the measurements), `stand_in` and `load` (the two
//! ends), `gateway` (the two gateways), `cost` (CPU time and memory); `stored`, `engine` and `busy`
//! for the other parts.
#![forbid(unsafe_code)]

mod answers;
mod busy;
mod cost;
mod engine;
mod gateway;
mod http;
mod load;
mod machine;
mod open_streams;
mod pacer;
mod report;
mod rounds;
mod stand_in;
mod stored;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser};

/// Measures the cost and the speed of Loggia, compared with other programs.
#[derive(Parser)]
enum What {
    /// The cost of a gateway: Loggia compared with nginx
    Gateway(Arguments),
    /// The time of calls with many stored responses, compared with few
    Stored(stored::Arguments),
    /// The speed of the embedded engine, compared with llama-server
    Engine(engine::Arguments),
    /// The speed of the embedded engine beside programs that keep the processors busy
    Busy(busy::Arguments),
    /// Nothing: a gateway does a little of each kind of work, for a profile of the program
    Train(TrainArguments),
}

#[derive(Args)]
struct TrainArguments {
    /// The program, built so that it writes a profile.
    #[arg(long)]
    loggia: PathBuf,
}

#[derive(Args)]
struct Arguments {
    /// The program to measure, built with `cargo build --release -p loggia --no-default-features`.
    #[arg(long, default_value = "target/release/loggia")]
    loggia: PathBuf,
    /// Say on the page that the program was built with profile-guided optimisation.
    #[arg(long)]
    profile_guided: bool,
    /// The nginx to compare it with.
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// The number of rounds in which both sides take turns at each kind of work; the tables show
    /// medians.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Only measure the kinds of work whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// The number of streams that are open at once, of one token a second each. Fewer, if the limit
    /// of open files is too low: in Loggia and in this program, each stream has two.
    #[arg(long, default_value_t = 10_000)]
    streams: u32,
    /// A twentieth of the work: to use a gateway with a profiler, not for published figures.
    #[arg(long)]
    brief: bool,
    /// Where to write the page's first part. Nothing is written if only some kinds of work were
    /// measured.
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
}

fn main() -> Result<()> {
    match What::parse() {
        What::Gateway(arguments) => measure_gateway(&arguments),
        What::Stored(arguments) => stored::run(&arguments),
        What::Engine(arguments) => engine::run(&arguments),
        What::Busy(arguments) => busy::run(&arguments),
        What::Train(arguments) => rounds::train(&arguments.loggia),
    }
}

fn measure_gateway(arguments: &Arguments) -> Result<()> {
    let files = gateway::allow_many_files().context("could not raise the limit of open files")?;
    let only = arguments.only.as_deref();
    let share = if arguments.brief { 20 } else { 1 };
    let streams = open_streams::allowed(arguments.streams, files) / u32::try_from(share)?;
    let measured = rounds::measure(
        &arguments.loggia,
        &arguments.nginx,
        arguments.pairs,
        share,
        streams,
        only,
    )?;
    let machine = machine::describe(&arguments.nginx, arguments.profile_guided);
    print!("{}", report::tables(&measured));
    if only.is_none() && !arguments.brief {
        let section = report::section(&measured, &machine, arguments.pairs);
        report::write_section(&arguments.page, report::Part::Gateway, &section)?;
    }
    Ok(())
}
