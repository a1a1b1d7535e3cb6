//! `loggia bench`: measures a model on this machine, and compares it with another server.
//!
//! Reading order: this file (the rounds), `plan` (what is measured, with how many tokens), `server`
//! (a server and its answers), `measure` (from answers to figures), `report` (the table and the
//! JSON), `memory`. Both servers are measured over HTTP, in turns, with the same requests.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of tokens and bytes are small and positive"
)]

mod clock;
mod measure;
mod memory;
mod plan;
mod report;
mod server;

use std::time::Instant;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Handle;

use crate::backends::threads;
use crate::cli::BenchArgs;
use crate::config::Config;
use clock::Clock;
use measure::measure;
use plan::Plan;
use report::{Column, Report};
use server::Server;

const STYLE: &str = "{bar:30} {msg}";

/// Measures the model, and the other server if there is one. Returns the text for standard output.
pub(crate) async fn bench(
    args: &BenchArgs,
    config: Config,
    runtime: &Handle,
) -> anyhow::Result<String> {
    let time = args.time.0;
    let mut report = Report::new(config.parallel.get(), threads(&config));
    let limits = server::limits(&config);
    let mut servers = vec![Server::own(args.name.as_deref(), config, runtime).await?];
    if let Some(url) = &args.against {
        let key = args.server_key.as_ref().map(|key| key.0.clone());
        let model = args.against_model.as_deref();
        servers.push(Server::at(url, key, model, limits).await?);
    }
    let bar = ProgressBar::new(time.as_millis().try_into().unwrap_or(u64::MAX));
    // The template is a constant that a test parses.
    if let Ok(style) = ProgressStyle::with_template(STYLE) {
        bar.set_style(style);
    }
    bar.set_message("loading the model");
    for server in &servers {
        server
            .warm_up()
            .await
            .with_context(|| format!("{} cannot answer", server.title()))?;
    }
    let mut clock = Clock::start(time);
    let speed = clock.within(measure::speed(&servers[0])).await?;
    let plan = Plan::of(speed, time, servers.len(), servers[0].context());
    report.context = servers[0].context();
    report.columns = servers.iter().map(Column::of).collect();
    while clock.has_time_for_another_round() {
        let begun = Instant::now();
        for (at, step) in plan.steps().enumerate() {
            bar.set_message(step.to_string());
            // The servers take turns in being first.
            for turn in 0..servers.len() {
                let which = (turn + at + report.rounds) % servers.len();
                let measured = clock.within(measure(&servers[which], step)).await;
                bar.set_position(clock.passed());
                report.columns[which].add(step, measured);
            }
        }
        report.rounds += 1;
        clock.round_took(begun.elapsed());
    }
    bar.finish_and_clear();
    report.columns[0].memory = memory::of_this_program();
    anyhow::ensure!(
        report.columns[0].has_figures(),
        "nothing could be measured: {}",
        report.columns[0].failures()
    );
    Ok(if args.json {
        report.json()
    } else {
        report.table()
    })
}
