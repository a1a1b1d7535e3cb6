//! The command line: commands, their arguments and their help texts. Settings are in `config`;
//! words and flags of other programs, in `other_programs`; messages about mistakes, in `errors`.

mod errors;
mod other_programs;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use loggia_server::Scope;

use crate::config::{
    self, DatabaseFlags, Flags, LimitsTable, ModelName, Secret, Span, StoreFlags, Url,
};
use crate::documents::PdfLimits;

/// The OpenAI API for the models you run yourself.
#[derive(Debug, Parser)]
#[command(name = "loggia", version = VERSION.as_str(), subcommand_required = true, arg_required_else_help = true, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Parses the command line. After `--help` or a mistake, prints the text and returns the exit
    /// code.
    ///
    /// `about_model` gives the advice for a word that is not a command, but may be a model.
    pub(crate) fn read(
        arguments: impl IntoIterator<Item = OsString>,
        about_model: impl FnOnce(&str) -> String,
    ) -> Result<Self, ExitCode> {
        let read = Self::with_sources()
            .try_get_matches_from(other_programs::in_our_words(arguments))
            .and_then(|matches| Self::from_arg_matches(&matches));
        let error = match read {
            Ok(cli) => return Ok(cli),
            Err(error) => error,
        };
        match errors::explained(&error, about_model) {
            Some(explained) => eprintln!("loggia: {explained}"),
            None => drop(error.print()),
        }
        Err(u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// The command line, with each setting's variable and default in its flag's help.
    pub(crate) fn with_sources() -> clap::Command {
        Self::command().mut_subcommands(|command| command.mut_args(with_source))
    }
}

fn with_source(flag: Arg) -> Arg {
    let Some(setting) = config::find(flag.get_id().as_str()) else {
        return flag;
    };
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let help = format!("{help} [env: {}]", setting.variable());
    flag.help(match setting.shown_default() {
        Some(default) => format!("{help} [default: {default}]"),
        None => help,
    })
}

/// The version of the program, and of llama.cpp if it is built in.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let own = env!("CARGO_PKG_VERSION");
    #[cfg(feature = "embedded")]
    return format!(
        "{own} (llama.cpp with ggml {})",
        loggia_llama::ggml_version()
    );
    #[cfg(not(feature = "embedded"))]
    return own.to_owned();
});

const AFTER: &str = "\
To begin:  loggia pull smollm2:135m   (98 MB)
           loggia serve
then point any OpenAI client at http://127.0.0.1:11435/v1.

Every setting can be a flag (`loggia serve --help` lists them), an environment variable (LOGGIA_…) or a line of a file (--config), except API \
keys, which are never flags. A flag overrides the environment, the environment overrides the file. LOGGIA_LOG sets the log level: info, debug, \
loggia=debug, …";

const SERVE_AFTER: &str = "\
Examples:
  loggia serve                                       the default model, smollm2:135m
  loggia serve my-model.gguf --context 8192          a file of yours
  loggia serve qwen3:4b --port 8080                  a model that was pulled
  loggia serve --ollama http://127.0.0.1:11434       an Ollama server
  loggia serve --openai gpu=http://127.0.0.1:8000    vLLM, llama-server";

const PULL_AFTER: &str = "\
Examples:
  loggia pull smollm2:135m                           a short name (smollm2 alone means the same)
  loggia pull hf:bartowski/Qwen2.5-7B-Instruct-GGUF  a repository on Hugging Face: its Q4_K_M, or its only file
  loggia pull hf:bartowski/Qwen2.5-7B-Instruct-GGUF:Q8_0
  loggia pull hf:OWNER/REPO:file.gguf                one file of it; any part of a split model
  loggia pull https://huggingface.co/OWNER/REPO      its page, or that of a file of it
  loggia pull ~/Downloads/model.gguf                 a file on this machine, or a folder with one

HF_TOKEN is the token for gated and private repositories; HF_ENDPOINT is the URL of another hub.
An interrupted download continues where it ended: run the same command again.";

const CHAT_AFTER: &str = "\
Examples:
  loggia chat                                  the first model that can chat
  loggia chat smollm2:135m --system 'Be brief.'
  loggia chat --server http://10.0.0.7:11435 --key $KEY
  loggia chat --model ~/Downloads/model.gguf   a file of yours, without a server
  echo 'Say hello.' | loggia chat              one message a line, answers on standard output

/help lists the commands of the chat.";

const CONNECT_AFTER: &str = "\
Examples:
  loggia connect codex                         prints the configuration for Codex
  loggia connect claude --write                writes it, for Claude Code
  loggia connect opencode --model qwen3:8b --url http://10.0.0.7:11435

The configuration is on standard output, everything else on standard error. docs/clients/ has a page for each client.";

const RUN_AFTER: &str = "\
Examples:
  loggia run smollm2:135m                           a chat with this model
  loggia run smollm2:135m 'Why is the sky blue?'    one answer, on standard output
  loggia run ~/Downloads/model.gguf                 a file of yours";

const BATCH_AFTER: &str = "\
Examples:
  loggia batch run night.jsonl --model qwen3:4b     answers in night.output.jsonl, errors in night.errors.jsonl
  loggia batch run night.jsonl --batch-parallel 8 --parallel 8

After Ctrl-C, the same command goes on where it ended.";

const BENCH_AFTER: &str = "\
Examples:
  loggia bench                                      the default model
  loggia bench qwen3:4b --threads 8 --parallel 8    with other settings
  loggia bench my.gguf --against http://127.0.0.1:8080 --json

docs/measure.md says what each figure means.";

const COMPLETIONS_AFTER: &str = "\
Examples:
  loggia completions bash > ~/.local/share/bash-completion/completions/loggia
  loggia completions zsh > ~/.zfunc/_loggia
  loggia completions fish > ~/.config/fish/completions/loggia.fish";

const MAN_AFTER: &str = "\
Examples:
  loggia man ~/.local/share/man/man1           then: man loggia-serve";

const KEYS_AFTER: &str = "\
Examples:
  loggia keys create alice                           prints the key, once
  loggia keys create ci --model 'qwen3:*' --expires 30days --limits requests_per_minute=60,tokens_per_day=1000000
  loggia keys create ops --scope admin               for /admin/keys
  loggia keys rotate alice --overlap 1h              a new key; the old one is valid for an hour more
  loggia keys revoke alice";

const NODES_AFTER: &str = "\
Examples:
  loggia nodes list --config loggia.toml             the nodes of the file, and the changes
  loggia nodes add gpu http://gpu-3:11434            another node for the backend gpu
  loggia nodes drain gpu http://gpu-1:11434          it ends its requests and gets no more
  loggia nodes remove gpu http://gpu-1:11434         its requests end with an error
  loggia nodes add gpu http://gpu-1:11434            it gets requests again";

const USAGE_AFTER: &str = "\
Examples:
  loggia usage                                       the last 30 days, by day, by key and by model
  loggia usage --days 1 --by key                     today
  loggia usage --key alice --json                    a row for each day and model";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the OpenAI API; without a model, --ollama or --openai, the default model runs on the
    /// built-in engine
    #[command(aliases = ["start", "server", "up"], after_help = SERVE_AFTER)]
    Serve(ServeArgs),
    /// Download a model: by a short name or from a repository on Hugging Face; or copy a file of
    /// this machine
    #[command(aliases = ["download", "get"], after_help = PULL_AFTER)]
    Pull {
        /// The model to download
        #[arg(value_name = "NAME|hf:OWNER/REPO[:FILE or QUANT]|FILE")]
        source: String,
        #[command(flatten)]
        place: StoreFlags,
    },
    /// List the models on this machine
    #[command(aliases = ["list", "ls"])]
    Models {
        #[command(flatten)]
        place: StoreFlags,
    },
    /// Remove a model from this machine
    #[command(aliases = ["remove", "delete"])]
    Rm {
        /// The name of the model, as `loggia models` shows it
        name: String,
        #[command(flatten)]
        place: StoreFlags,
    },
    /// Chat in the terminal, with the server that runs on this machine or, if none runs, with an
    /// engine of its own
    ///
    /// Accepts the flags of `serve` too, for its own engine.
    #[command(after_help = CHAT_AFTER)]
    Chat(ChatArgs),
    /// Chat with a model, or print its answer to one prompt
    ///
    /// Without a prompt it is the same as `loggia chat MODEL`. A missing model is downloaded first.
    #[command(after_help = RUN_AFTER)]
    Run(RunArgs),
    /// Work with files of requests, as OpenAI's batches have them
    Batch {
        #[command(subcommand)]
        command: BatchCommand,
    },
    /// Measure how fast a model reads, writes and begins on this machine, with 1, 4 and 8 requests
    /// at once
    ///
    /// Starts a server of its own for the model, with the flags of `serve`. Other work on the
    /// machine makes the figures worse.
    #[command(aliases = ["benchmark"], after_help = BENCH_AFTER)]
    Bench(BenchArgs),
    /// Create, list, rotate and revoke API keys; a running server notices within a second
    #[command(after_help = KEYS_AFTER)]
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Add, list, drain and remove the nodes of backends; running servers notice within a second
    #[command(after_help = NODES_AFTER)]
    Nodes {
        #[command(subcommand)]
        command: NodesCommand,
    },
    /// Print how much each API key has used: requests and tokens, by day, key and model
    #[command(after_help = USAGE_AFTER)]
    Usage(UsageArgs),
    /// Point a client, such as a coding agent, at a server: print its configuration, or write it
    ///
    /// CLIENT is claude, codex, opencode, crush, cline, continue, qwen-code, aider, llm, open-webui
    /// or zed.
    #[command(after_help = CONNECT_AFTER)]
    Connect(ConnectArgs),
    /// Print the resulting configuration, and test what can be reached
    ///
    /// Accepts the same flags as `serve`. The exit code is 1 if something that is configured cannot
    /// be reached.
    Check(ServeArgs),
    /// Print the completions of a shell, for its folder of completions
    #[command(after_help = COMPLETIONS_AFTER)]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Write the manual as pages for `man`, one for each command
    #[command(after_help = MAN_AFTER)]
    Man {
        /// The folder for the pages; it is made if it is missing
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// The process that `serve` starts for each PDF
    #[command(hide = true)]
    ReadPdf(PdfLimits),
    /// The process that `serve` starts for each model that it loads
    #[cfg(feature = "embedded")]
    #[command(hide = true)]
    Engine {
        /// The model's name, for lists of processes
        name: String,
    },
}

/// The arguments of `bench`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// The model to measure [default: the first configured one]
    #[arg(value_name = "MODEL")]
    pub(crate) name: Option<String>,
    /// Another server with OpenAI's API, measured in turns with the same requests
    #[arg(long, value_name = "URL")]
    pub(crate) against: Option<Url>,
    /// The model of the other server [default: the first that it lists]
    #[arg(long, value_name = "MODEL", requires = "against")]
    pub(crate) against_model: Option<String>,
    /// An API key for the other server
    #[arg(
        long = "key",
        value_name = "KEY",
        env = "LOGGIA_CHAT_KEY",
        hide_env_values = true
    )]
    pub(crate) server_key: Option<Secret>,
    /// About how long to measure; longer is more exact
    #[arg(long, value_name = "DURATION", default_value = "1min")]
    pub(crate) time: Span,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// The commands of `keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key, and print it
    #[command(alias = "add")]
    Create(CreateKeyArgs),
    /// List the keys, without their secret part
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        place: DatabaseFlags,
    },
    /// Replace a key, and print the new one
    Rotate {
        /// The name of the key
        name: String,
        /// How long the old key stays valid
        #[arg(long, value_name = "DURATION")]
        overlap: Option<Span>,
        #[command(flatten)]
        place: DatabaseFlags,
    },
    /// Revoke a key, for good
    #[command(aliases = ["rm", "remove", "delete"])]
    Revoke {
        /// The name of the key
        name: String,
        #[command(flatten)]
        place: DatabaseFlags,
    },
}

/// The commands of `nodes`.
#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// List the nodes of the configuration, and those that were added, drained and removed
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        place: DatabaseFlags,
    },
    /// Add a node to a backend, or use one again that was drained or removed
    Add(NodeArgs),
    /// Let a node end its requests, and give it no more
    Drain(NodeArgs),
    /// Take a node from a backend at once: its requests end with an error
    #[command(aliases = ["rm", "delete"])]
    Remove(NodeArgs),
}

/// A node of a backend.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// The name of the backend
    pub(crate) backend: String,
    /// The URL of the node, as the configuration has it
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) place: DatabaseFlags,
}

/// The arguments of `keys create`.
#[expect(
    clippy::doc_markdown,
    reason = "these are help texts: backticks would be shown"
)]
#[derive(Debug, Clone, Args)]
pub(crate) struct CreateKeyArgs {
    /// The name of the key; stored objects belong to the name
    pub(crate) name: String,
    /// A scope of the key; may be repeated [default: chat and files]
    #[arg(long = "scope", value_name = "chat|files|admin|metrics|priority", value_parser = ["chat", "files", "admin", "metrics", "priority"])]
    scopes: Vec<String>,
    /// A model that the key may use, as clients name it; * stands for any text; may be repeated
    /// [default: all]
    #[arg(id = "key_models", long = "model", short = 'm', value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Allow the key to delete those models
    #[arg(long)]
    pub(crate) may_delete_models: bool,
    /// How much the key may use, as requests_per_minute=60,tokens_per_day=1000000
    #[arg(id = "key_limits", long = "limits", value_name = "ENTRY=VALUE,…")]
    pub(crate) limits: Option<LimitsTable>,
    /// How many tokens the key may use in all [default: no limit]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) budget: Option<u64>,
    /// How long the key is valid [default: until it is revoked]
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires: Option<Span>,
    #[command(flatten)]
    pub(crate) place: DatabaseFlags,
}

impl CreateKeyArgs {
    /// The scopes.
    pub(crate) fn scopes(&self) -> Vec<Scope> {
        let scope = |word: &String| match word.as_str() {
            "admin" => Scope::Admin,
            "metrics" => Scope::Metrics,
            "priority" => Scope::Priority,
            "files" => Scope::Files,
            _ => Scope::Chat,
        };
        self.scopes.iter().map(scope).collect()
    }
}

/// The arguments of `usage`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UsageArgs {
    /// How many days, today included
    #[arg(long, value_name = "N", default_value = "30")]
    pub(crate) days: NonZeroU32,
    /// Only this table [default: all three]
    #[arg(long, value_name = "day|key|model")]
    pub(crate) by: Option<UsageBy>,
    /// Only what this API key has used
    #[arg(id = "usage_key", long = "key", value_name = "NAME")]
    pub(crate) key: Option<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: StoreFlags,
}

/// The rows of a table of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageBy {
    Day,
    Key,
    Model,
}

/// The arguments of `connect`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectArgs {
    /// The client
    #[arg(value_name = "CLIENT")]
    pub(crate) client: String,
    /// The server's address [default: the one of the setting `listen`]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<Url>,
    /// The model [default: the first of the server that fits the client]
    #[arg(long = "model", short = 'm', value_name = "MODEL")]
    pub(crate) name: Option<String>,
    /// An API key for the server, to ask for its models; it is not written
    #[arg(
        long = "key",
        value_name = "KEY",
        env = "LOGGIA_CHAT_KEY",
        hide_env_values = true
    )]
    pub(crate) server_key: Option<Secret>,
    /// Write the configuration into the client's files; keeps what is in them, and a backup
    #[arg(long)]
    pub(crate) write: bool,
    #[command(flatten)]
    pub(crate) place: StoreFlags,
}

/// The arguments of `chat`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ChatArgs {
    /// The model to begin with [default: the first that can chat]
    #[arg(value_name = "MODEL")]
    pub(crate) name: Option<String>,
    /// A server to chat with [default: the one at the address of --listen, else an engine of its
    /// own]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<Url>,
    /// An API key for that server
    #[arg(
        long = "key",
        value_name = "KEY",
        env = "LOGGIA_CHAT_KEY",
        hide_env_values = true
    )]
    pub(crate) server_key: Option<Secret>,
    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// The commands of `batch`.
#[derive(Debug, Subcommand)]
pub(crate) enum BatchCommand {
    /// Make the requests of a file, without a server
    ///
    /// Accepts the flags of `serve` too. The exit code is 1 if a request failed.
    #[command(after_help = BATCH_AFTER)]
    Run(BatchArgs),
}

/// The arguments of `batch run`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BatchArgs {
    /// The file with one request a line, as for `POST /v1/batches`
    #[arg(value_name = "FILE.jsonl")]
    pub(crate) file: PathBuf,
    /// The file for the answers [default: FILE.output.jsonl]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The file for the errors [default: FILE.errors.jsonl]
    #[arg(long, value_name = "FILE")]
    pub(crate) errors: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// The arguments of `run`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) chat: ChatArgs,
    /// The prompt to answer [default: a chat]
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: Vec<String>,
}

/// The arguments of `serve` and `check`: models, and flags.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// A model for the built-in engine, as with --model
    #[arg(value_name = "MODEL")]
    named: Vec<ModelName>,
    #[command(flatten)]
    flags: Flags,
}

impl ServeArgs {
    /// The flags, with the positional models added to `--model`.
    pub(crate) fn into_flags(self) -> Flags {
        self.flags.with_models(self.named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::with_sources().debug_assert();
    }

    #[test]
    fn what_follows_the_model_of_run_is_its_prompt() {
        let read = |line: &[&str]| match Cli::try_parse_from(line).unwrap().command {
            Command::Run(RunArgs { chat, prompt }) => (chat.name.unwrap_or_default(), prompt),
            other => panic!("{other:?}"),
        };
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(
            read(&["loggia", "run", "m", "Why is it so?"]),
            ("m".to_owned(), words(&["Why is it so?"]))
        );
        assert_eq!(
            read(&["loggia", "run", "m", "-c", "4k", "why", "so?"]),
            ("m".to_owned(), words(&["why", "so?"]))
        );
        assert_eq!(read(&["loggia", "run", "m"]), ("m".to_owned(), Vec::new()));
    }

    #[test]
    fn flags_of_other_programs_are_settings_of_ours() {
        let line = "loggia start own.gguf -m m --host 0.0.0.0 --port 8080 --ctx-size 8k -t 2 --n-gpu-layers 0 --max-num-seqs 3";
        let Command::Serve(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!()
        };
        let home = |name: &str| (name == "HOME").then(|| "/home/someone".to_owned());
        let config = config::Config::load(&args.into_flags(), &home).unwrap();
        let models: Vec<&str> = config.models.iter().map(|model| &*model.0).collect();
        assert_eq!(models, ["own.gguf", "m"]);
        assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
        assert_eq!(config.context.map(|tokens| tokens.0.get()), Some(8192));
        assert_eq!(
            config.threads.as_ref().map(ToString::to_string),
            Some("2".to_owned())
        );
        assert_eq!(config.gpu_layers.map(|layers| layers.0), Some(0));
        assert_eq!(config.parallel.get(), 3);
    }

    #[test]
    fn the_help_of_every_setting_names_its_variable_and_its_default() {
        let mut command = Cli::with_sources();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let help = serve.render_long_help().to_string();
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for (flag, said) in [
            (
                "--memory <SIZE>",
                "[env: LOGGIA_MEMORY] [default: the memory available at the start; no limit in a GPU build]",
            ),
            ("--parallel <N>", "[env: LOGGIA_PARALLEL] [default: 4]"),
            (
                "--idle-timeout <DURATION>",
                "[env: LOGGIA_IDLE_TIMEOUT] [default: 2m]",
            ),
            (
                "--ollama <URL|NAME=URL>",
                "may be repeated [env: LOGGIA_OLLAMA] --openai",
            ),
        ] {
            assert!(words.contains(flag), "no {flag} in {help}");
            assert!(words.contains(said), "no {said} in {help}");
        }
        // A flag `--key` of another command is not the setting of that name.
        for command in command.get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(!help.contains("LOGGIA_KEYS"), "{help}");
        }
    }
}
