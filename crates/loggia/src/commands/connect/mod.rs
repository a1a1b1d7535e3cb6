//! `loggia connect CLIENT`: prints, or writes, the configuration that points a client at a server.
//!
//! Reading order: this file (from arguments to output), `server` (what the server has, and the model
//! that fits), `clients` (each client's files and settings), `edit` (merging them into files that
//! exist), `write` (files and backups). Nothing here starts a server or a client.

mod clients;
mod edit;
mod server;
mod write;

use anyhow::Context as _;
use loggia_backend::http::BaseUrl;

use crate::cli::ConnectArgs;
use crate::commands::serve;
use crate::config::Config;
use clients::{Client, Places, Setup};
use server::{Choice, Server};

/// The output: text for standard output, and lines for people, on standard error.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) text: String,
    pub(super) notes: Vec<String>,
}

/// Finds a model, and prints or writes the configuration.
pub(super) async fn connect(args: &ConnectArgs, config: &Config) -> anyhow::Result<Output> {
    let client = Client::named(&args.client)?;
    let base = base(args, config).await?;
    let key = args.server_key.as_ref().map(|key| key.0.clone());
    let server = Server::new(base, key);
    let Choice { target, warnings } = server.choose(args.name.as_deref(), client).await?;
    let setup = client.setup(&target, &Places::of_this_process()?);
    let mut output = if args.write {
        written(client, &setup)?
    } else {
        printed(client, &setup)?
    };
    output.notes.splice(0..0, warnings);
    output.notes.extend(setup.notes);
    Ok(output)
}

/// The address of the server: that of `--url`, else the configured one.
async fn base(args: &ConnectArgs, config: &Config) -> anyhow::Result<BaseUrl> {
    if let Some(url) = &args.url {
        return Ok(url.clone().of_openai().base);
    }
    let listen = &*config.listen;
    let addresses = listen.addresses().await.unwrap_or_default();
    let place = match addresses.first() {
        Some(address) if address.port() == 0 => anyhow::bail!(
            "the configured port is 0, which means any free one; name the server's address with --url"
        ),
        Some(address) => format!("http://{}", serve::reachable(*address)),
        None => format!("http://{listen}"),
    };
    place
        .parse()
        .with_context(|| format!("the address {place}"))
}

/// Prints what the files would contain if they were new.
fn printed(client: &Client, setup: &Setup) -> anyhow::Result<Output> {
    let mut output = Output::default();
    let mut texts = Vec::new();
    for file in &setup.files {
        let path = file.path.display();
        output.notes.push(format!("{path} would contain:"));
        texts.push(edit::merged(file.format, "", &file.edits)?);
    }
    if !setup.files.is_empty() {
        output.notes.push(format!(
            "to write it, with a backup of what is there: loggia connect {} --write",
            client.name
        ));
    }
    texts.extend(variables(setup));
    output.text = texts.join("\n");
    Ok(output)
}

/// Merges the settings into the files. Writes nothing if one of them cannot be merged.
fn written(client: &Client, setup: &Setup) -> anyhow::Result<Output> {
    anyhow::ensure!(
        !setup.files.is_empty(),
        "{} has no file of settings; it reads environment variables. Without --write, \
         `loggia connect {}` prints them",
        client.title,
        client.name
    );
    let mut merged = Vec::new();
    for file in &setup.files {
        let path = file.path.display();
        let old = write::read(&file.path)?;
        let text = edit::merged(file.format, old.as_deref().unwrap_or_default(), &file.edits)
            .with_context(|| format!("nothing was written: {path}"))?;
        merged.push((&file.path, old, text));
    }
    let mut output = Output::default();
    for (path, old, text) in merged {
        if old.as_ref() == Some(&text) {
            output
                .notes
                .push(format!("{} is up to date", path.display()));
            continue;
        }
        let backup = write::replace(path, old.is_some(), &text)?;
        output.notes.push(match backup {
            Some(backup) => format!(
                "wrote {}; the old one is {}",
                path.display(),
                backup.display()
            ),
            None => format!("wrote {}", path.display()),
        });
    }
    Ok(output)
}

/// The environment variables as lines for a shell.
fn variables(setup: &Setup) -> Option<String> {
    let line = |(name, value): &(&str, String)| format!("export {name}={}\n", quoted(value));
    let lines: String = setup.variables.iter().map(line).collect();
    (!lines.is_empty()).then_some(lines)
}

/// A word of a shell's command line.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@%+=".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell_are_quoted_if_they_must_be() {
        for (word, written) in [
            ("smollm2:135m", "smollm2:135m"),
            ("http://127.0.0.1:11435/v1", "http://127.0.0.1:11435/v1"),
            ("", "''"),
            ("a b", "'a b'"),
            ("$(date)", "'$(date)'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(word), written);
        }
    }
}
