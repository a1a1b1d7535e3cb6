//! The command line: what can be typed, and the help a newcomer reads. What a setting means is in
//! `config`; what people type who come from other programs, in `foreign`; how a mistake is
//! explained, in `mistake`.

mod foreign;
mod mistake;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{
    Alias, Engine, Host, Listen, Lora, Mmproj, ModelName, SamplingProfile, Secret, Tokens, Url,
    count, layers, port,
};
use crate::models::{Source, SourceError};

/// The OpenAI API for the models you run yourself.
#[derive(Debug, Parser)]
#[command(name = "loggia", version, subcommand_required = true, arg_required_else_help = true, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line. Where it cannot be read, or asks for help, says so and gives the
    /// exit code.
    ///
    /// `about_model` says what to do about a word that is no command and may be a model.
    pub(crate) fn read(
        arguments: impl IntoIterator<Item = OsString>,
        about_model: impl FnOnce(&str) -> String,
    ) -> Result<Self, ExitCode> {
        let error = match Self::try_parse_from(foreign::in_our_words(arguments)) {
            Ok(cli) => return Ok(cli),
            Err(error) => error,
        };
        match mistake::explained(&error, about_model) {
            Some(explained) => eprintln!("loggia: {explained}"),
            None => drop(error.print()),
        }
        Err(u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

const AFTER: &str = "\
To begin:  loggia pull smollm2:135m   (98 MB)
           loggia serve
then point any OpenAI client at http://127.0.0.1:11435/v1.

Every setting can be a flag, an environment variable (LOGGIA_…) or a line of a file (--config); a flag is stronger than the \
environment, the environment stronger than the file. LOGGIA_LOG sets what is logged: info, debug, loggia=debug, …";

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
  loggia pull hf:OWNER/REPO:file.gguf                one file of it; of a split model, any part
  loggia pull https://huggingface.co/OWNER/REPO      its page, or that of a file of it
  loggia pull ~/Downloads/model.gguf                 a file on this machine, or a folder with one

HF_TOKEN is sent to the hub for gated and private repositories; HF_ENDPOINT names another hub.
What was interrupted goes on where it ended: run the same command again.";

const CHAT_AFTER: &str = "\
Examples:
  loggia chat                                  the first model that can chat
  loggia chat smollm2:135m --system 'Be brief.'
  loggia chat --server http://10.0.0.7:11435 --key $KEY
  loggia chat --model ~/Downloads/model.gguf   a file of yours, without a server
  echo 'Say hello.' | loggia chat              one message a line, answers on standard output

/help in the chat lists its commands.";

const RUN_AFTER: &str = "\
Examples:
  loggia run smollm2:135m                           a chat with this model
  loggia run smollm2:135m 'Why is the sky blue?'    one answer, on standard output
  loggia run ~/Downloads/model.gguf                 a file of yours";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the OpenAI API; without a model, --ollama or --openai, with the default model on the
    /// built-in engine
    #[command(aliases = ["start", "server", "up"], after_help = SERVE_AFTER)]
    Serve(ServeArgs),
    /// Fetch a model: by a short name, from a repository on Hugging Face, or from a file on this
    /// machine
    #[command(aliases = ["download", "get"], after_help = PULL_AFTER)]
    Pull {
        /// What to fetch
        #[arg(value_name = "NAME|hf:OWNER/REPO[:FILE or QUANT]|FILE")]
        source: String,
        #[command(flatten)]
        place: StoreArgs,
    },
    /// List the models on this machine
    #[command(aliases = ["list", "ls"])]
    Models {
        #[command(flatten)]
        place: StoreArgs,
    },
    /// Remove a model from this machine
    #[command(aliases = ["remove", "delete"])]
    Rm {
        /// Its name, as `loggia models` shows it
        name: String,
        #[command(flatten)]
        place: StoreArgs,
    },
    /// Chat in the terminal: with the server that runs on this machine, or, where none runs, with
    /// an engine of its own
    ///
    /// Takes the flags of `serve` too, for the engine of its own.
    #[command(after_help = CHAT_AFTER)]
    Chat(ChatArgs),
    /// Chat with a model, or have it answer one prompt
    ///
    /// Without a prompt it is `loggia chat MODEL`. A model that is not here is fetched first.
    #[command(after_help = RUN_AFTER)]
    Run(RunArgs),
    /// Print the configuration that results from flags, environment and file, and what can be
    /// reached with it
    ///
    /// Takes the same flags as `serve`. Exits with 1 where something that is named cannot be
    /// reached.
    Check(ServeArgs),
    /// What `serve` runs for each model that it loads
    #[cfg(feature = "embedded")]
    #[command(hide = true)]
    Engine {
        /// The model, for those who look at the list of processes
        name: String,
    },
}

/// Where the configuration and the models are.
#[expect(
    clippy::doc_markdown,
    reason = "these are help texts: backticks would be shown"
)]
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StoreArgs {
    /// A TOML file with settings (docs/configuration.md) [env: LOGGIA_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The folder that holds the models [env: LOGGIA_DATA_DIR] [default: the user's data folder, as
    /// ~/.local/share/loggia]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Whom to chat with, and about what.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ChatArgs {
    /// The model to begin with [default: the first that can chat]
    #[arg(value_name = "MODEL")]
    pub(crate) name: Option<String>,
    /// A server to chat with [default: the one that listens where `serve` would, else an engine of
    /// its own]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<Url>,
    /// An API key for that server
    #[arg(long, env = "LOGGIA_CHAT_KEY", hide_env_values = true)]
    pub(crate) key: Option<Secret>,
    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// Which model to chat with, and the one prompt where it is to answer that alone.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) chat: ChatArgs,
    /// The prompt to answer [default: a chat]
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: Vec<String>,
}

/// What `serve` and `check` take: models by their names alone, and flags.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// A model for the built-in engine, as with --model
    #[arg(value_name = "MODEL")]
    named: Vec<ModelName>,
    #[command(flatten)]
    flags: Flags,
}

impl ServeArgs {
    /// The flags, with the models that are named alone as if `--model` stood before each.
    pub(crate) fn into_flags(self) -> Flags {
        let models = self.named.into_iter().chain(self.flags.models).collect();
        Flags {
            models,
            ..self.flags
        }
    }
}

/// Everything that `serve` can be told by flags.
#[expect(
    clippy::doc_markdown,
    reason = "these are help texts: backticks would be shown"
)]
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) place: StoreArgs,
    /// The address and port to listen on, or one of them; 0.0.0.0:11435 for every interface [env:
    /// LOGGIA_LISTEN] [default: 127.0.0.1:11435]
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["host", "port"])]
    pub(crate) listen: Option<Listen>,
    /// The host of --listen alone
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<Host>,
    /// The port of --listen alone
    #[arg(long, value_name = "PORT", allow_negative_numbers = true, value_parser = port)]
    pub(crate) port: Option<u16>,
    /// Refuse what a backend would ignore: hints without effect, unknown fields [env:
    /// LOGGIA_STRICT]
    #[arg(long, conflicts_with = "lenient")]
    pub(crate) strict: bool,
    /// Drop the fields that a backend cannot honour instead of refusing the request, and name them
    /// in x-loggia-ignored [env: LOGGIA_LENIENT]
    #[arg(long)]
    pub(crate) lenient: bool,
    /// How sampling fields are read: as OpenAI defines them, or as Ollama's first OpenAI layer did
    /// [env: LOGGIA_SAMPLING_PROFILE] [default: openai]
    #[arg(long, value_name = "openai|original")]
    pub(crate) sampling_profile: Option<SamplingProfile>,
    /// A model for the built-in engine, by its name, its GGUF file or a folder with one; may be
    /// repeated [env: LOGGIA_MODELS]
    #[arg(short, long = "model", value_name = "NAME|FILE.gguf")]
    pub(crate) models: Vec<ModelName>,
    /// A model that was pulled from Hugging Face, as --model hf:OWNER/REPO names it
    #[arg(long, alias = "hf-repo", value_name = "OWNER/REPO[:QUANT]", value_parser = of_hub)]
    pub(crate) hf: Vec<ModelName>,
    /// A model with a LoRA adapter laid over it, under a name of its own; @0.5 behind it takes half
    /// of it; may be repeated [env: LOGGIA_LORA]
    #[arg(long, value_name = "NAME=BASE+FILE.gguf")]
    pub(crate) lora: Vec<Lora>,
    /// The projector with which such a model sees or hears; NAME may be left out where there is one
    /// model; may be repeated [env: LOGGIA_MMPROJ] [default: the one beside the model, where there
    /// is no doubt]
    #[arg(long, value_name = "NAME=FILE.gguf")]
    pub(crate) mmproj: Vec<Mmproj>,
    /// The context of such a model in tokens, prompt and answer together [env: LOGGIA_CONTEXT]
    /// [default: what it was trained for, at most 4096]
    #[arg(short, long, value_name = "N", aliases = ["ctx-size", "max-model-len", "num-ctx"])]
    pub(crate) context: Option<Tokens>,
    /// How many requests such a model works on at once [env: LOGGIA_PARALLEL] [default: 4]
    #[arg(long, value_name = "N", aliases = ["max-num-seqs", "num-parallel"], allow_negative_numbers = true, value_parser = count)]
    pub(crate) parallel: Option<NonZeroU32>,
    /// The threads such a model computes with [env: LOGGIA_THREADS] [default: the machine's cores]
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = count)]
    pub(crate) threads: Option<NonZeroU32>,
    /// How many layers of such a model a GPU computes; 0 is none [env: LOGGIA_GPU_LAYERS] [default:
    /// all, where there is a GPU that this build can use]
    #[arg(long, value_name = "N", aliases = ["n-gpu-layers", "ngl"], allow_negative_numbers = true, value_parser = layers)]
    pub(crate) gpu_layers: Option<u32>,
    /// An Ollama server to put behind the API, as http://127.0.0.1:11434; may be repeated [env:
    /// LOGGIA_OLLAMA]
    #[arg(long, value_name = "URL")]
    pub(crate) ollama: Vec<Url>,
    /// An engine that speaks OpenAI already (vLLM, llama-server), under a name; its key comes from
    /// LOGGIA_OPENAI_<NAME>_KEY or the file; may be repeated [env: LOGGIA_OPENAI]
    #[arg(long, value_name = "NAME=URL")]
    pub(crate) openai: Vec<Engine>,
    /// Another name for a model; `*` stands for any text, as in gpt-*=smollm2:135m; may be repeated
    /// [env: LOGGIA_ALIASES]
    #[arg(long = "alias", value_name = "FROM=TO")]
    pub(crate) aliases: Vec<Alias>,
}

impl Flags {
    /// Every model that a flag or an argument names, in the order of their kinds.
    pub(crate) fn models(&self) -> Vec<ModelName> {
        [&self.models, &self.hf]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

/// `OWNER/REPO[:QUANT]` as a model's name.
fn of_hub(text: &str) -> Result<ModelName, SourceError> {
    let name = format!("hf:{}", text.strip_prefix("hf:").unwrap_or(text));
    Source::parse(&name).map(|_| ModelName(name))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lists_are_given_by_repeating_a_flag() {
        let line = "loggia serve --ollama http://a:1 --ollama http://b:2 --openai v=http://c:3/v1 --alias gpt-*=m --model m --model f.gguf";
        let Command::Serve(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!()
        };
        let args = args.into_flags();
        assert_eq!(
            (
                args.ollama.len(),
                args.openai.len(),
                args.aliases.len(),
                args.models.len()
            ),
            (2, 1, 1, 2)
        );
    }

    #[test]
    fn flags_of_other_programs_are_understood() {
        let line = "loggia start own.gguf -m m --hf o/r:Q8_0 --host 0.0.0.0 --port 8080 --ctx-size 8k -t 2 --n-gpu-layers 0 --max-num-seqs 3";
        let Command::Serve(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!()
        };
        let args = args.into_flags();
        let models: Vec<String> = args.models().into_iter().map(|model| model.0).collect();
        assert_eq!(models, ["own.gguf", "m", "hf:o/r:Q8_0"]);
        assert_eq!(
            (args.host, args.port),
            (Some(Host("0.0.0.0".to_owned())), Some(8080))
        );
        let number = |number: Option<NonZeroU32>| number.map(NonZeroU32::get);
        assert_eq!(
            (
                args.context.map(|tokens| tokens.0.get()),
                number(args.threads)
            ),
            (Some(8192), Some(2))
        );
        assert_eq!((args.gpu_layers, number(args.parallel)), (Some(0), Some(3)));
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
    fn strict_and_lenient_exclude_each_other() {
        assert!(Cli::try_parse_from(["loggia", "serve", "--strict", "--lenient"]).is_err());
    }
}
