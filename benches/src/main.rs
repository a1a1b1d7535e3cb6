//! Measures three things, each a part of a page: what a gateway costs, Loggia in front of an
//! instant Ollama stand-in beside nginx passing the same answer's bytes through; what the embedded
//! engine gives, beside llama-server; and what it gives on a busy machine.
//!
//! Of a gateway only the CPU time that its process spends is counted, so the stand-in and the load
//! may share the machine with it. This is no load test: it says nothing of a largest number of
//! requests a second.
//!
//! Read `rounds` for what is measured, `stand_in` and `load` for the two ends, `gateway` for the
//! two in the middle, `cost` for the measure; `engine` for the second part, `busy` for the third.
#![forbid(unsafe_code)]

mod answers;
mod busy;
mod cost;
mod engine;
mod gateway;
mod http;
mod load;
mod machine;
mod pacer;
mod report;
mod rounds;
mod stand_in;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser};

/// What Loggia costs and gives, beside others.
#[derive(Parser)]
enum What {
    /// What a gateway costs, Loggia beside nginx
    Gateway(Arguments),
    /// What the embedded engine gives, beside llama-server
    Engine(engine::Arguments),
    /// What the embedded engine gives beside programs that keep the processors busy
    Busy(busy::Arguments),
}

#[derive(Args)]
struct Arguments {
    /// The program to measure, built with `cargo build --release -p loggia --no-default-features`.
    #[arg(long, default_value = "target/release/loggia")]
    loggia: PathBuf,
    /// The nginx to measure it against.
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// How often Loggia and nginx take turns at each kind of work; the table shows medians.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Only the kinds of work whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// A twentieth of the work: to look at a gateway under a profiler, not for figures.
    #[arg(long)]
    brief: bool,
    /// Where to write the page's first part; nothing is written where only a part was measured.
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
}

fn main() -> Result<()> {
    match What::parse() {
        What::Gateway(arguments) => measure_gateway(&arguments),
        What::Engine(arguments) => engine::run(&arguments),
        What::Busy(arguments) => busy::run(&arguments),
    }
}

fn measure_gateway(arguments: &Arguments) -> Result<()> {
    gateway::allow_many_files()
        .context("could not raise the limit of open files; try `ulimit -n 20000`")?;
    let only = arguments.only.as_deref();
    let share = if arguments.brief { 20 } else { 1 };
    let measured = rounds::measure(
        &arguments.loggia,
        &arguments.nginx,
        arguments.pairs,
        share,
        only,
    )?;
    let machine = machine::describe(&arguments.nginx);
    print!("{}", report::tables(&measured));
    if only.is_none() && !arguments.brief {
        let section = report::section(&measured, &machine, arguments.pairs);
        report::write_section(&arguments.page, report::Part::Gateway, &section)?;
    }
    Ok(())
}
