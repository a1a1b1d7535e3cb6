//! The commands, a file or folder each; `pull`, `models` and `rm` share one.
//!
//! The arguments and their help texts are in `cli`.

mod batch;
mod bench;
mod chat;
mod check;
mod connect;
mod keys;
mod manual;
mod models;
mod nodes;
mod serve;
mod usage;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{BatchArgs, BatchCommand, BenchArgs, ChatArgs, Command, ConnectArgs, RunArgs};
use crate::config::{Config, Flags};
use crate::logs;

pub(crate) use models::about_model;

/// The open files that connections do not count: databases, logs, pipes to engines.
const OWN_FILES: u64 = 100;

/// Runs a command. Its exit code is that of the program.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Pull { source, place } => models::pull(&source, &place),
        Command::Models { place } => models::list(&place),
        Command::Rm { name, place } => models::remove(&name, &place),
        Command::Serve(args) => serve(&args.into_flags()),
        Command::Chat(args) => chat(&args, None),
        Command::Run(RunArgs { chat: args, prompt }) => {
            let prompt = prompt.join(" ");
            chat(&args, Some(&*prompt).filter(|prompt| !prompt.is_empty()))
        }
        Command::Batch {
            command: BatchCommand::Run(args),
        } => batch(&args),
        Command::Bench(args) => bench(&args),
        Command::Keys { command } => keys::run(&command),
        Command::Nodes { command } => nodes::run(&command),
        Command::Usage(args) => usage::run(&args),
        Command::Connect(args) => connect(&args),
        Command::Check(args) => check(&args.into_flags()),
        Command::Completions { shell } => print(&manual::completions(shell)?),
        Command::Man { folder } => print(&manual::write_pages(&folder)?),
        Command::ReadPdf(limits) => crate::documents::read_pdf(&limits),
        #[cfg(feature = "embedded")]
        Command::Engine { .. } => engine(),
    }
}

fn serve(flags: &Flags) -> anyhow::Result<ExitCode> {
    let config = Config::of_this_process(flags)?;
    logs::start_as(*config.log_format, logs::SERVING);
    loggia_server::log_panics_without_messages();
    allow_many_files(config.max_connections.get().into());
    let runtime = runtime()?;
    runtime.block_on(serve::serve(flags, &config, runtime.handle()))?;
    Ok(ExitCode::SUCCESS)
}

/// Only errors are logged: other log lines would disturb the conversation.
fn chat(args: &ChatArgs, prompt: Option<&str>) -> anyhow::Result<ExitCode> {
    logs::start("error");
    let config = Config::of_this_process(&args.flags)?;
    let runtime = runtime()?;
    runtime.block_on(chat::chat(args, prompt, config, runtime.handle()))?;
    Ok(ExitCode::SUCCESS)
}

/// Only errors are logged: other log lines would disturb the progress bar.
fn batch(args: &BatchArgs) -> anyhow::Result<ExitCode> {
    logs::start("error");
    let config = Config::of_this_process(&args.flags)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(batch::run(args, &config, runtime.handle()))?;
    Ok(match ended {
        batch::Ended::Answered => ExitCode::SUCCESS,
        batch::Ended::WithErrors => ExitCode::FAILURE,
        // The exit status that shells report after Ctrl-C.
        batch::Ended::Interrupted => ExitCode::from(130),
    })
}

/// Only errors are logged: other log lines would disturb the progress bar.
fn bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    logs::start("error");
    let config = Config::of_this_process(&args.flags)?;
    let runtime = runtime()?;
    print(&runtime.block_on(bench::bench(args, config, runtime.handle()))?)
}

fn connect(args: &ConnectArgs) -> anyhow::Result<ExitCode> {
    logs::start("error");
    let config = Config::of_this_process(&args.place.clone().into())?;
    let output = runtime()?.block_on(connect::connect(args, &config))?;
    for note in &output.notes {
        eprintln!("loggia: {note}");
    }
    print(&output.text)
}

/// Runs one model; `serve` starts such a process for each model that it loads.
#[cfg(feature = "embedded")]
fn engine() -> anyhow::Result<ExitCode> {
    logs::start_in_engine();
    loggia_server::log_panics_without_messages();
    runtime()?.block_on(crate::backends::run_engine())?;
    Ok(ExitCode::SUCCESS)
}

fn check(flags: &Flags) -> anyhow::Result<ExitCode> {
    logs::start("error");
    let config = Config::of_this_process(flags)?;
    let runtime = runtime()?;
    let (output, all_well) = runtime.block_on(check::check(&config, runtime.handle()))?;
    print(&output)?;
    Ok(if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Raises the limit of open files as far as possible: every connection to a client or a backend is
/// one, and shells commonly allow 1,024. Warns if it is too low for so many connections of clients.
fn allow_many_files(connections: u64) {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => {
            tracing::debug!(files, "limit of open files");
            if let Some(needed) = lacking_files(files, connections) {
                tracing::warn!(
                    files,
                    needed,
                    "the limit of open files is too low for max_connections = {connections}, because an answer may need two; raise it (`ulimit -n`, or LimitNOFILE in systemd), or lower max_connections"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// Returns the number of open files that so many connections of clients need, if it is above the
/// limit. Each may need another one to a backend.
fn lacking_files(limit: u64, connections: u64) -> Option<u64> {
    let needed = connections.saturating_mul(2).saturating_add(OWN_FILES);
    (limit < needed).then_some(needed)
}

/// The program's runtime, on this thread. Tasks that outlive requests run here; the server has
/// threads of its own for connections.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Writes to standard output. A reader that has left, as `head` does, is not an error.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the result")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_open_files_is_enough_for_two_for_each_connection() {
        assert_eq!(lacking_files(1024, 4096), Some(8292));
        assert_eq!(lacking_files(8291, 4096), Some(8292));
        assert_eq!(lacking_files(8292, 4096), None);
        assert_eq!(lacking_files(1024, 100), None);
        assert_eq!(lacking_files(1024, u64::MAX), Some(u64::MAX));
    }
}
