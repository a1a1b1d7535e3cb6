//! `loggia connect`: what it prints and writes, for servers with and without a model that fits.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::support::{Program, Run};

/// The list of a server with a model that fits agents, and one that does not.
fn models() -> Value {
    json!({"object": "list", "data": [
        {"id": "tiny", "object": "model", "created": 0, "owned_by": "e",
            "context_length": 4096, "capabilities": ["completion"]},
        {"id": "large", "object": "model", "created": 0, "owned_by": "e",
            "context_length": 131_072, "capabilities": ["completion", "tools", "vision"]},
    ]})
}

/// A server that lists these models, until it is dropped.
struct Server {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(models: Value, key: Option<&'static str>) -> Self {
        let answer = move |headers: HeaderMap| async move { answer(&models, key, &headers) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/v1/models", get(answer));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            _runtime: runtime,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn answer(models: &Value, key: Option<&str>, headers: &HeaderMap) -> Response {
    let wanted = key.map(|key| format!("Bearer {key}"));
    let brought = headers.get(header::AUTHORIZATION);
    let brought = brought.map(|value| value.to_str().unwrap().to_owned());
    if wanted.is_some() && wanted != brought {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    models.to_string().into_response()
}

fn program() -> Program {
    let program = Program::new();
    let home = program.path("home").display().to_string();
    program.with("HOME", &home)
}

fn connect(program: &Program, url: &str, arguments: &[&str]) -> Run {
    program.run(&[&["connect"], arguments, &["--url", url]].concat())
}

/// The paths of all files in the home folder.
fn files(program: &Program) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&program.path("home"), &mut found);
    found
}

#[test]
fn the_model_that_fits_is_written_and_what_was_there_remains() {
    let (server, program) = (Server::start(models(), None), program());
    let old = "# mine\nmodel = \"gpt\"\n\n[projects.\"/a\"]\ntrust_level = \"trusted\"\n";
    let path = program.write("home/.codex/config.toml", old);
    let run = connect(&program, &server.url(), &["codex", "--write"]).succeeded();
    assert_eq!(run.out, "");
    assert!(!run.err.contains("fits"), "{run:?}");
    let new = fs::read_to_string(&path).unwrap();
    for line in [
        "# mine",
        "model = \"large\"",
        "model_context_window = 131072",
        "trust_level = \"trusted\"",
        &format!("base_url = \"{}/v1\"", server.url()),
    ] {
        assert!(new.contains(line), "no {line} in {new}");
    }
    let backup = program.path("home/.codex/config.toml.loggia-backup-1");
    assert_eq!(fs::read_to_string(&backup).unwrap(), old);
    // The second time nothing is left to do.
    let run = connect(&program, &server.url(), &["codex", "--write"]).succeeded();
    assert!(run.err.contains("up to date"), "{run:?}");
    assert_eq!(files(&program).len(), 2);
}

#[test]
fn without_write_the_configuration_is_printed_and_nothing_is_written() {
    let (server, program) = (Server::start(models(), None), program());
    for client in [
        "claude",
        "codex",
        "opencode",
        "crush",
        "cline",
        "continue",
        "qwen-code",
        "aider",
        "llm",
        "open-webui",
        "zed",
    ] {
        let run = connect(&program, &server.url(), &[client]).succeeded();
        assert!(run.out.contains(&server.url()), "{run:?}");
        // A chat client takes the first model.
        let model = match client {
            "llm" => "tiny",
            _ => "large",
        };
        assert!(run.out.contains(model), "{run:?}");
    }
    assert!(files(&program).is_empty());
}

#[test]
fn a_model_that_does_not_fit_is_printed_with_a_warning() {
    let (server, program) = (Server::start(models(), None), program());
    let run = connect(&program, &server.url(), &["codex", "--model", "tiny"]).succeeded();
    for words in ["`tiny`", "does not support tools", "4096", "32768"] {
        assert!(run.err.contains(words), "no {words} in {run:?}");
    }
    assert!(run.out.contains("model = \"tiny\""), "{run:?}");
    let mut only_tiny = models();
    only_tiny["data"].as_array_mut().unwrap().truncate(1);
    let server = Server::start(only_tiny, None);
    let run = connect(&program, &server.url(), &["claude"]).succeeded();
    assert!(run.err.contains("fits Claude Code"), "{run:?}");
}

#[test]
fn a_key_is_left_to_a_variable() {
    let (server, program) = (Server::start(models(), Some("secret")), program());
    connect(&program, &server.url(), &["codex"]).failed_saying(&["API key", "LOGGIA_CHAT_KEY"]);
    let program = program.with("LOGGIA_CHAT_KEY", "secret");
    for (client, variable) in [
        ("codex", "env_key = \"LOGGIA_CHAT_KEY\""),
        ("opencode", "{env:LOGGIA_CHAT_KEY}"),
        ("continue", "secrets.LOGGIA_CHAT_KEY"),
        ("qwen-code", "\"envKey\": \"LOGGIA_CHAT_KEY\""),
    ] {
        let run = connect(&program, &server.url(), &[client]).succeeded();
        assert!(run.out.contains(variable), "{run:?}");
        assert!(
            !run.out.contains("secret\"") && !run.err.contains("secret\""),
            "{run:?}"
        );
        assert!(run.err.contains("LOGGIA_CHAT_KEY"), "{run:?}");
    }
}

#[test]
fn a_server_that_is_away_is_said_and_a_named_model_is_printed() {
    let program = program();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{port}");
    connect(&program, &url, &["codex", "--write"]).failed_saying(&["cannot be reached", "--model"]);
    let run = connect(&program, &url, &["codex", "--model", "m"]).succeeded();
    assert!(
        run.err.contains("cannot be reached") && run.err.contains("not checked"),
        "{run:?}"
    );
    assert!(run.out.contains("model = \"m\""), "{run:?}");
    assert!(files(&program).is_empty());
    // Without `--url`, the configured address is used.
    let program = program.with("LOGGIA_LISTEN", "127.0.0.1:1");
    let run = program
        .run(&["connect", "codex", "--model", "m"])
        .succeeded();
    assert!(run.out.contains("http://127.0.0.1:1/v1"), "{run:?}");
}

#[test]
fn bad_input_is_an_error_and_nothing_is_written() {
    let (server, program) = (Server::start(models(), None), program());
    connect(&program, &server.url(), &["emacs"]).failed_saying(&["emacs", "claude", "zed"]);
    connect(&program, &server.url(), &["codex", "--model", "no"])
        .failed_saying(&["`no`", "tiny, large"]);
    connect(&program, &server.url(), &["open-webui", "--write"])
        .failed_saying(&["environment variables"]);
    for (client, file, text) in [
        ("claude", "home/.claude/settings.json", "{\"env\": "),
        ("claude", "home/.claude/settings.json", "{\"env\": []}"),
        ("codex", "home/.codex/config.toml", "model = "),
        (
            "continue",
            "home/.continue/config.yaml",
            "models: [{name: x}]\n",
        ),
    ] {
        let path = program.write(file, text);
        let run = connect(&program, &server.url(), &[client, "--write"]);
        run.failed_saying(&["nothing was written", file.rsplit('/').next().unwrap()]);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(files(&program).len(), 1, "{:?}", files(&program));
        fs::remove_file(path).unwrap();
    }
    let none = Server::start(json!({"object": "list", "data": []}), None);
    connect(&program, &none.url(), &["codex"]).failed_saying(&["no model that can chat"]);
}
