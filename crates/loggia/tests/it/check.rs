//! `loggia check`: the resulting configuration, what can be reached, and that keys are never shown.

use crate::support::Program;
use crate::support::ollama::Ollama;
#[cfg(feature = "embedded")]
use crate::support::reranker::Reranker;

/// An address without a server.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn what_results_is_printed_with_who_set_it_and_what_is_there() {
    let ollama = Ollama::start();
    let program = Program::new()
        .with("LOGGIA_PARALLEL", "7")
        .with("LOGGIA_CONFIG", "loggia.toml");
    program.write(
        "loggia.toml",
        "idle_timeout = \"3min\"\nparallel = 2\n[aliases]\n\"gpt-*\" = \"small\"\n",
    );
    let checked = program
        .run(&[
            "check",
            "--ollama",
            &ollama.url(),
            "--listen",
            "127.0.0.1:0",
        ])
        .succeeded();
    let line = |start: &str| {
        let found = checked.out.lines().find(|line| line.starts_with(start));
        found
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("listen"), "listen = \"127.0.0.1:0\" # flag");
    assert_eq!(line("parallel"), "parallel = 7 # environment");
    assert_eq!(line("idle_timeout"), "idle_timeout = \"3m\" # file");
    assert_eq!(
        line("connect_timeout"),
        "connect_timeout = \"5s\" # default"
    );
    assert_eq!(
        line("# ollama"),
        format!("# ollama at {}: 2 models", ollama.url())
    );
    assert_eq!(
        line("# alias"),
        "# alias gpt-* means small, that is ollama/small:latest"
    );
    // The output is a configuration file with the same meaning.
    program.write("again.toml", &checked.out);
    let again = program
        .run(&["check", "--config", "again.toml"])
        .succeeded();
    assert!(
        again
            .out
            .contains(&format!("ollama = [\"{}\"]", ollama.url())),
        "{again:?}"
    );
}

#[test]
fn what_cannot_be_reached_is_said_and_the_exit_code_says_it_too() {
    let ollama = Ollama::start();
    let down = nobody();
    let program = Program::new();
    let checked = program.run(&[
        "check",
        "--ollama",
        &ollama.url(),
        "--openai",
        &format!("down={down}"),
    ]);
    assert_eq!(checked.code, Some(1));
    assert!(
        checked
            .out
            .contains(&format!("# down at {down}: NOT REACHED")),
        "{checked:?}"
    );
    assert!(checked.out.contains("#   small:latest"), "{checked:?}");
    let dangling = program.run(&["check", "--ollama", &ollama.url(), "--alias", "a=b"]);
    assert_eq!(dangling.code, Some(1));
    assert!(
        dangling.out.contains("# alias a means b: NOT REACHED"),
        "{dangling:?}"
    );
}

#[test]
fn a_key_is_never_shown() {
    let program = Program::new()
        .with("LOGGIA_OPENAI_GPU_1_KEY", "sk-very-secret")
        .with("LOGGIA_LOG", "trace");
    program.write(
        "loggia.toml",
        "[[openai]]\nname = \"other\"\nurl = \"http://127.0.0.1:9\"\nkey = \"sk-also-secret\"\n",
    );
    for arguments in [
        &["check", "--openai", "gpu-1=http://127.0.0.1:9/v1"][..],
        &["check", "--config", "loggia.toml"],
    ] {
        let checked = program.run(arguments);
        assert!(
            !checked.out.contains("secret") && !checked.err.contains("secret"),
            "{checked:?}"
        );
    }
    let checked = program.run(&["check", "--config", "loggia.toml"]);
    assert!(
        checked.out.contains("# key: set") && !checked.err.contains("secret"),
        "{checked:?}"
    );
}

#[test]
fn the_keys_of_the_api_are_shown_by_name_alone() {
    let ollama = Ollama::start();
    let program = Program::new()
        .with("LOGGIA_KEY_BOB", "a-secret-of-bobs")
        .with("LOGGIA_LOG", "trace");
    program.write(
        "loggia.toml",
        "[[key]]\nname = \"alice\"\nkey = \"a-secret-of-alices\"\nmodels = [\"gpt-*\"]\n[[key]]\nname = \"bob\"\nstrict = true\n",
    );
    let checked = program
        .run(&[
            "check",
            "--config",
            "loggia.toml",
            "--ollama",
            &ollama.url(),
        ])
        .succeeded();
    assert!(
        !checked.out.contains("secret") && !checked.err.contains("secret"),
        "{checked:?}"
    );
    for shown in [
        "name = \"alice\"",
        "models = [\"gpt-*\"]",
        "name = \"bob\"",
        "strict = true",
    ] {
        assert!(checked.out.contains(shown), "no {shown} in {checked:?}");
    }
    let forgotten = program.with("LOGGIA_KEY_MALLORY", "a-secret-of-mallorys");
    let said = forgotten.run(&[
        "check",
        "--config",
        "loggia.toml",
        "--ollama",
        &ollama.url(),
    ]);
    assert!(!said.err.contains("secret"), "{said:?}");
    said.failed_saying(&["LOGGIA_KEY_MALLORY is set, but no API key with that name is configured"]);
}

#[test]
#[cfg(feature = "embedded")]
fn what_an_embedded_model_cannot_honour_is_a_mistake_in_the_configuration() {
    let program = Program::new();
    let file = program.write("tiny.gguf", crate::support::tiny::gguf());
    let head = format!(
        "models = [{:?}]\ncontext = 64\n[aliases]\nagent = \"tiny\"\n",
        file.to_str().unwrap()
    );
    let with = |entry: &str| {
        program.write("loggia.toml", format!("{head}{entry}\n"));
        program.run(&["check", "--config", "loggia.toml"])
    };
    let saying =
        "per_model.agent: 'options.num_ctx' is more than this server's context of 64 tokens";
    with("[per_model.agent]\noptions = { num_ctx = 65 }").failed_saying(&[saying]);
    program
        .run(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--config",
            "loggia.toml",
        ])
        .failed_saying(&[saying]);
    with("[per_model.tiny]\noptions = { mirostat = 1 }")
        .failed_saying(&["per_model.tiny: ", "'mirostat'"]);
    with("[per_model.agent]\noptions = { num_ctx = 64, temperature = 0.5 }").succeeded();
    with("[per_model.another]\noptions = { mirostat = 1 }").succeeded();
    program.write("tiny.gguf", crate::support::tiny::embedding());
    let saying = "per_model.agent: options: embedding, reranking and Whisper models on the embedded engine have no options";
    with("[per_model.agent]\noptions = { num_ctx = 64 }").failed_saying(&[saying]);
    program.write("tiny.gguf", Reranker::bert().file());
    with("[per_model.agent]\noptions = { num_ctx = 64 }").failed_saying(&[saying]);
}

#[test]
#[cfg(feature = "embedded")]
fn the_context_of_each_kind_of_model_is_shown_and_why_a_model_cannot_be_loaded() {
    let program = Program::new()
        .with("LOGGIA_CONTEXT", "64")
        .with("LOGGIA_CACHE_MEMORY", "1MiB");
    let headless = Reranker::bert().without("cls.output.weight");
    for (name, file) in [
        ("text.gguf", crate::support::tiny::gguf()),
        ("embeds.gguf", crate::support::tiny::embedding()),
        ("ranks.gguf", Reranker::bert().file()),
        ("headless.gguf", headless.file()),
    ] {
        program.write(name, file);
    }
    let models = ["text.gguf", "embeds.gguf", "ranks.gguf", "headless.gguf"];
    let models = models.map(|name| ["-m", name]).concat();
    let checked = program.run(&[&["check"][..], &models].concat());
    let shown = |line: &str| checked.out.lines().any(|its| its.starts_with(line));
    for line in [
        "# context of text: 64 tokens for each of ",
        "# context of embeds: 64 tokens for each text",
        "# context of ranks: 64 tokens for a query and a document together",
        "# headless CANNOT BE LOADED: ",
        "# prompt cache of text: ",
    ] {
        assert!(shown(line), "{line}: {checked:?}");
    }
    assert!(checked.out.contains("\"cls.output.weight\" is missing"));
    assert!(!shown("# prompt cache of embeds") && !shown("# prompt cache of ranks"));
}

#[test]
fn a_mistake_in_the_file_is_named_with_file_and_line() {
    let program = Program::new();
    program.write("loggia.toml", "parallel = 2\nparalel = 3\n");
    let said = program.run(&["check", "--config", "loggia.toml"]);
    said.failed_saying(&["loggia.toml, line 2: unknown field `paralel`"]);
    program
        .run(&["models", "--config", "nothing.toml"])
        .failed_saying(&["nothing.toml"]);
    let twice = [
        "check",
        "--openai",
        "a=http://127.0.0.1:9",
        "--openai",
        "a=http://127.0.0.1:9",
    ];
    program
        .run(&twice)
        .failed_saying(&["the backend `a` has the node http://127.0.0.1:9 twice"]);
    program
        .run(&[
            "check",
            "--alias",
            "a=b",
            "--alias",
            "b=a",
            "--ollama",
            "http://127.0.0.1:9",
        ])
        .failed_saying(&["alias"]);
}

#[test]
fn every_example_of_the_documentation_is_a_configuration_file() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let examples: Vec<&str> = docs
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() > 3);
    let program = Program::new();
    for example in examples {
        program.write("loggia.toml", example);
        // Reads the file and does not connect to anything.
        let run = program.run(&["models", "--config", "loggia.toml"]);
        assert_eq!(run.code, Some(0), "{example}\n{run:?}");
    }
}

#[test]
fn a_wrong_flag_ends_with_2_and_help_with_0() {
    let program = Program::new();
    assert_eq!(
        program.run(&["serve", "--listen", "some where"]).code,
        Some(2)
    );
    assert_eq!(
        program.run(&["serve", "--strict", "--lenient"]).code,
        Some(2)
    );
    assert_eq!(program.run(&[]).code, Some(2));
    let help = program.run(&["serve", "--help"]).succeeded().out;
    for flag in [
        "--config",
        "--listen",
        "--data-dir",
        "--strict",
        "--lenient",
        "--sampling-profile",
        "--model",
        "--context",
        "--parallel",
        "--threads",
        "--gpu-layers",
        "--ollama",
        "--openai",
        "--alias",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    let version = program.run(&["--version"]).succeeded().out;
    let own = concat!("loggia ", env!("CARGO_PKG_VERSION"));
    let engine = if cfg!(feature = "embedded") {
        " (llama.cpp with ggml "
    } else {
        "\n"
    };
    assert!(version.starts_with(&format!("{own}{engine}")), "{version}");
}

#[cfg(feature = "embedded")]
#[test]
fn a_named_model_that_is_not_here_names_the_pull_that_fetches_it() {
    let program = Program::new();
    let checked = program.run(&["check", "--model", "qwen3:4b"]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.out.contains("loggia pull qwen3:4b"), "{checked:?}");
    program
        .run(&["serve", "--model", "qwen3:4b", "--listen", "127.0.0.1:0"])
        .failed_saying(&["loggia pull qwen3:4b"]);
    program
        .run(&[
            "serve",
            "--model",
            "no/file.gguf",
            "--listen",
            "127.0.0.1:0",
        ])
        .failed_saying(&["there is no file no/file.gguf"]);
    // The default model was not configured; `serve` downloads it.
    assert!(
        program
            .run(&["check"])
            .succeeded()
            .out
            .contains("`loggia serve` downloads it")
    );
}

#[cfg(not(feature = "embedded"))]
#[test]
fn a_build_without_the_engine_says_what_to_name_instead() {
    let program = Program::new();
    program
        .run(&["serve", "--listen", "127.0.0.1:0"])
        .failed_saying(&["no embedded engine", "--ollama"]);
    assert_eq!(program.run(&["check"]).code, Some(1));
}
