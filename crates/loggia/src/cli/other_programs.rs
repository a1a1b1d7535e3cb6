//! Words and flags of other programs (llama-server, Ollama, vLLM): translated to Loggia's, or
//! answered with advice.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::models;

/// The names and aliases of all commands.
const COMMANDS: [&str; 28] = [
    "chat",
    "serve",
    "run",
    "start",
    "server",
    "up",
    "pull",
    "download",
    "get",
    "models",
    "list",
    "ls",
    "rm",
    "remove",
    "check",
    "help",
    "engine",
    "delete",
    "connect",
    "batch",
    "bench",
    "usage",
    "benchmark",
    "completions",
    "man",
    "keys",
    "nodes",
    "read-pdf",
];

/// Flags with several letters after one dash, which clap would read as several flags.
const ONE_DASH: [(&str, &str); 8] = [
    ("-hf", "--hf"),
    ("-hfr", "--hf"),
    ("-ngl", "--gpu-layers"),
    ("-np", "--parallel"),
    ("-ctx", "--context"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-port", "--port"),
];

/// Flags whose value is optional.
const SWITCHES: [&str; 2] = ["--strict", "--lenient"];

/// Flags of other programs that Loggia does not have, and what to do instead.
const FLAGS: &[(&[&str], &str)] = &[
    (
        &[
            "--api-key",
            "--api-keys",
            "--api-key-file",
            "--key",
            "--token",
        ],
        "an API key is never a flag, where every user of this machine could read it. Set LOGGIA_KEYS=alice and \
         LOGGIA_KEY_ALICE=<the key>, or write a [[key]] table into the --config file (docs/configuration.md, Keys)",
    ),
    (
        &["--served-model-name", "--model-alias", "-a"],
        "use --alias NAME=MODEL for another name of a model, for example --alias gpt-4o=smollm2:135m",
    ),
    (
        &[
            "--url",
            "--base-url",
            "--upstream",
            "--backend",
            "--api-base",
            "--openai-api-base",
        ],
        "use --openai NAME=URL or --ollama URL for the server behind Loggia",
    ),
    (
        &[
            "-n",
            "--n-predict",
            "--predict",
            "--max-tokens",
            "--num-predict",
        ],
        "set `max_tokens` in the request, or --ceilings answer_tokens=N for all requests without it",
    ),
    (
        &[
            "--temp",
            "--temperature",
            "--top-p",
            "--top-k",
            "--min-p",
            "--repeat-penalty",
            "--seed",
            "-s",
        ],
        "set sampling fields in the request, or --per-model NAME={options={temperature=0.5}} for requests without them",
    ),
    (
        &[
            "--chat-template",
            "--chat-template-file",
            "--jinja",
            "--no-jinja",
        ],
        "leave it out: the model's own chat template is used",
    ),
    (
        &[
            "-fa",
            "--flash-attn",
            "-b",
            "--batch-size",
            "-ub",
            "--ubatch-size",
            "-cb",
            "--cont-batching",
            "--mlock",
            "--no-mmap",
            "--embedding",
            "--embeddings",
            "--pooling",
            "--rerank",
            "--reranking",
            "--dtype",
            "--kv-unified",
            "--enable-auto-tool-choice",
            "--tool-call-parser",
            "--enable-prefix-caching",
            "--trust-remote-code",
            "--no-webui",
        ],
        "leave it out: the built-in engine chooses this itself",
    ),
    (
        &[
            "-tp",
            "--tensor-parallel-size",
            "--gpu-memory-utilization",
            "--tensor-split",
            "-ts",
            "--main-gpu",
            "-mg",
        ],
        "the built-in engine does not have this setting; `loggia serve --help` lists its settings (--gpu-layers, --memory)",
    ),
    (
        &["-md", "--model-draft", "--draft", "--speculative-config"],
        "use --per-model NAME={draft=\"OTHER\"}, or `draft` under [per_model.NAME] in the --config file, for a draft model",
    ),
    (
        &[
            "--ssl-key-file",
            "--ssl-cert-file",
            "--ssl-keyfile",
            "--ssl-certfile",
            "--tls",
        ],
        "Loggia serves plain HTTP; use a reverse proxy for HTTPS",
    ),
    (
        &["--cors", "--allowed-origins", "--allow-origins"],
        "use --cors-origins ORIGIN for each web page that may use the API",
    ),
    (
        &[
            "-v",
            "--verbose",
            "--debug",
            "--log-level",
            "--log-verbosity",
            "-lv",
            "--uvicorn-log-level",
        ],
        "LOGGIA_LOG sets the log level, for example LOGGIA_LOG=debug",
    ),
    (
        &["--timeout", "-to"],
        "the time limits are --headers-timeout, --idle-timeout and others (`loggia serve --help`)",
    ),
    (
        &["-p", "--prompt", "-i", "--interactive"],
        "`loggia run MODEL PROMPT` answers one prompt, `loggia chat` is a chat in the terminal",
    ),
    (
        &["-d", "--detach", "--daemon"],
        "Loggia runs in the foreground; use a service manager or `&` to run it in the background",
    ),
];

/// Commands of other programs that Loggia does not have.
const OTHER_COMMANDS: &[(&[&str], &str)] = &[
    (
        &["cli", "generate", "complete"],
        "`loggia chat` chats in the terminal, `loggia run MODEL PROMPT` answers one prompt, `loggia serve` starts the API",
    ),
    (
        &["ps", "status", "top"],
        "GET /v1/models of a running server lists its models; `loggia check` tests what can be reached",
    ),
    (
        &["stop", "kill"],
        "Ctrl-C, or SIGTERM, stops a running server",
    ),
    (
        &["show", "info"],
        "GET /v1/models/NAME of a running server describes a model; `loggia models` lists those on this machine",
    ),
    (
        &["create", "cp", "push", "convert", "quantize"],
        "Loggia takes GGUF files as they are: `loggia pull FILE.gguf`, or `loggia serve FILE.gguf`",
    ),
    (
        &["search"],
        "search https://huggingface.co for a model whose name ends with -GGUF, and download it with: loggia pull hf:OWNER/REPO",
    ),
    (
        &["config", "doctor", "test"],
        "`loggia check` prints the resulting configuration and tests what can be reached",
    ),
    (&["version"], "`loggia --version` prints it"),
];

/// Translates flags with one dash, and adds `serve` if the first argument is a model or a flag.
pub(super) fn in_our_words(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = switches_joined(arguments.into_iter().map(with_two_dashes));
    if arguments.get(1).is_some_and(|first| means_serving(first)) {
        arguments.insert(1, "serve".into());
    }
    arguments
}

/// Joins a switch and its value: `--strict true` means `--strict=true`.
fn switches_joined(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for argument in arguments {
        let is_value = argument == "true" || argument == "false";
        match joined.last_mut() {
            Some(switch) if is_value && SWITCHES.iter().any(|name| switch == name) => {
                switch.push("=");
                switch.push(argument);
            }
            _ => joined.push(argument),
        }
    }
    joined
}

fn with_two_dashes(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else {
        return argument;
    };
    let (flag, value) = text
        .split_once('=')
        .map_or((text, None), |(flag, value)| (flag, Some(value)));
    match ONE_DASH.iter().find(|(one, _)| *one == flag) {
        Some((_, two)) => {
            value.map_or_else(|| (*two).into(), |value| format!("{two}={value}").into())
        }
        None => argument,
    }
}

/// Whether the first argument means `serve`: `loggia model.gguf`, `loggia --port 8080`.
fn means_serving(first: &OsStr) -> bool {
    let Some(text) = first.to_str() else {
        return Path::new(first).exists();
    };
    if COMMANDS.contains(&text) {
        return false;
    }
    if text.starts_with('-') {
        return !matches!(text, "-h" | "--help" | "-V" | "--version");
    }
    let path = Path::new(text);
    let is_named_like_a_file = path
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    is_named_like_a_file || text.starts_with("hf:") || models::is_short_name(text) || path.exists()
}

/// The advice for an unknown flag.
pub(super) fn about_flag(flag: &str) -> Option<String> {
    let name = flag.split('=').next().unwrap_or_default();
    FLAGS
        .iter()
        .find(|(flags, _)| flags.contains(&name))
        .map(|(_, advice)| format!("{name}: {advice}"))
}

/// The advice for an unknown command.
pub(super) fn about_command(command: &str) -> Option<&'static str> {
    OTHER_COMMANDS
        .iter()
        .find(|(commands, _)| commands.contains(&command))
        .map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> String {
        let words = in_our_words(line.split(' ').map(OsString::from));
        words
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn flags_with_one_dash_and_a_lacking_serve_are_put_into_our_words() {
        for (line, ours) in [
            (
                "loggia serve -hf o/r:Q8_0 -ngl 99 -np=2",
                "loggia serve --hf o/r:Q8_0 --gpu-layers 99 --parallel=2",
            ),
            (
                "loggia model.gguf --port 8080",
                "loggia serve model.gguf --port 8080",
            ),
            ("loggia smollm2", "loggia serve smollm2"),
            ("loggia --port 8080", "loggia serve --port 8080"),
            ("loggia -m model.gguf", "loggia serve -m model.gguf"),
            (
                "loggia serve --strict false true --lenient m",
                "loggia serve --strict=false true --lenient m",
            ),
            ("loggia --version", "loggia --version"),
            ("loggia", "loggia"),
            ("loggia pull smollm2", "loggia pull smollm2"),
            ("loggia chat", "loggia chat"),
        ] {
            assert_eq!(read(line), ours, "{line}");
        }
    }

    #[test]
    fn every_command_that_clap_knows_is_known_here() {
        use clap::CommandFactory as _;
        for command in super::super::Cli::command().get_subcommands() {
            for name in std::iter::once(command.get_name()).chain(command.get_all_aliases()) {
                assert!(COMMANDS.contains(&name), "{name}");
                assert_eq!(about_command(name), None);
            }
        }
    }

    #[test]
    fn what_is_a_flag_here_is_not_said_to_be_none() {
        use clap::CommandFactory as _;
        let command = super::super::Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for flag in serve.get_arguments() {
            let long = flag
                .get_long_and_visible_aliases()
                .into_iter()
                .flatten()
                .map(|long| format!("--{long}"));
            let hidden = flag
                .get_all_aliases()
                .into_iter()
                .flatten()
                .map(|long| format!("--{long}"));
            let short = flag.get_short().map(|short| format!("-{short}"));
            for name in long.chain(hidden).chain(short) {
                assert!(
                    !FLAGS
                        .iter()
                        .any(|(flags, _)| flags.contains(&name.as_str())),
                    "{name}"
                );
            }
        }
        assert!(about_flag("--api-key=secret").is_some_and(|said| !said.contains("secret")));
        assert_eq!(about_flag("--nothing-of-the-kind"), None);
    }
}
