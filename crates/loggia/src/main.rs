//! `loggia`, the program: the OpenAI API for the models you run yourself.
//!
//! Reading order: `cli` (the command line), `config` (settings from flags, environment and file),
//! `models` (the model files on this machine), `backends` (from the configuration to backends),
//! `serve` (starting the server), `chat` (a client in the terminal), `check` (testing the
//! configuration). How a request is answered is in the crates below.
#![forbid(unsafe_code)]

mod backends;
mod chat;
mod check;
mod cli;
mod config;
mod logs;
mod models;
mod serve;
mod state;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use bytesize::ByteSize;

use cli::{ChatArgs, Cli, Command, RunArgs};
use config::{Config, Flags, StoreFlags};
use models::{Model, Progress, Source, Store};

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os(), about_model) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loggia: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Pull { source, place } => pull(&source, &place),
        Command::Models { place } => list(&place),
        Command::Rm { name, place } => remove(&name, &place),
        Command::Serve(args) => serve(&args.into_flags()),
        Command::Chat(args) => chat(&args, None),
        Command::Run(RunArgs { chat: args, prompt }) => {
            let prompt = prompt.join(" ");
            chat(&args, Some(&*prompt).filter(|prompt| !prompt.is_empty()))
        }
        Command::Check(args) => check(&args.into_flags()),
        #[cfg(feature = "embedded")]
        Command::Engine { .. } => engine(),
    }
}

fn serve(flags: &Flags) -> anyhow::Result<ExitCode> {
    logs::start(logs::SERVING);
    loggia_server::log_panics_without_their_words();
    let config = Config::of_this_process(flags)?;
    allow_many_files();
    let runtime = runtime()?;
    runtime.block_on(serve::serve(&config, runtime.handle()))?;
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

/// Runs one model; `serve` starts such a process for each model that it loads.
#[cfg(feature = "embedded")]
fn engine() -> anyhow::Result<ExitCode> {
    logs::start(logs::SERVING);
    loggia_server::log_panics_without_their_words();
    runtime()?.block_on(backends::run_engine())?;
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

/// The advice for a word on the command line that is not a command, but may be a model.
fn about_model(name: &str) -> String {
    match store(&StoreFlags::default()) {
        Ok(store) => backends::about_model(name, &store),
        Err(error) => format!("{error:#}"),
    }
}

fn pull(source: &str, place: &StoreFlags) -> anyhow::Result<ExitCode> {
    logs::start("warn");
    let source = Source::parse(source)?;
    let store = store(place)?;
    let model = runtime()?.block_on(models::pull(&source, &store, Progress::on_stderr()))?;
    print(&format!(
        "{}  {}  {}\n",
        model.name,
        ByteSize(model.bytes),
        model.file.display()
    ))
}

fn list(place: &StoreFlags) -> anyhow::Result<ExitCode> {
    let store = store(place)?;
    let models = store.models()?;
    if models.is_empty() {
        eprintln!(
            "there is no model in {} yet; to download one: loggia pull {}",
            store.root().display(),
            models::DEFAULT
        );
    }
    print(&table(&models))
}

fn remove(name: &str, place: &StoreFlags) -> anyhow::Result<ExitCode> {
    let store = store(place)?;
    let model = store.find(name)?;
    store.remove(&model)?;
    print(&format!(
        "removed {}, {} freed\n",
        model.name,
        ByteSize(model.bytes)
    ))
}

fn store(place: &StoreFlags) -> anyhow::Result<Store> {
    let data_dir = Config::data_dir_of_this_process(&place.clone().into())?;
    Ok(Store::new(&data_dir))
}

fn table(models: &[Model]) -> String {
    let width = models
        .iter()
        .map(|model| model.name.len())
        .max()
        .unwrap_or_default();
    let row = |model: &Model| {
        let size = ByteSize(model.bytes).to_string();
        let rest = if model.complete {
            String::new()
        } else {
            "  (incomplete: pull it again)".to_owned()
        };
        format!(
            "{:width$}  {size:>10}  {}{rest}\n",
            model.name,
            model.file.display()
        )
    };
    models.iter().map(row).collect()
}

/// Raises the limit of open files as far as possible: every connection to a client or a backend is
/// one, and shells commonly allow 1,024.
fn allow_many_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => tracing::debug!(files, "limit of open files"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// The program's runtime, on this thread. Tasks that outlive requests run here; the server has
/// threads of its own for connections.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Writes to standard output. It is no error if the reader has left, as `head` does.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the result")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
