//! `loggia`, the program: the OpenAI API for the models you run yourself.
//!
//! Reading order: `cli` (the command line), `commands` (what each command does), `config` (settings
//! from flags, environment and file), `models` (the model files on this machine), `backends` (from
//! the configuration to backends), `state` (the file of stored objects), `logs`. How a request is
//! answered is in the crates below.
#![forbid(unsafe_code)]

mod backends;
mod cli;
mod clock;
mod commands;
mod config;
mod documents;
mod files;
mod logs;
mod models;
mod state;

use std::process::ExitCode;

use cli::Cli;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os(), commands::about_model) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            logs::write_last_error(&error);
            ExitCode::FAILURE
        }
    }
}
