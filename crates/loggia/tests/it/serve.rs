//! `loggia serve`, as a process: what it prints, what it answers, and how it ends.

#![cfg(unix)]
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ChildStdout;

use crate::support::ollama::{MODEL, Ollama};
use crate::support::{Program, Running};

/// A running program, its address, and the rest of its output.
struct Served {
    running: Running,
    address: SocketAddr,
    output: BufReader<ChildStdout>,
}

fn serve(program: &Program, arguments: &[&str]) -> Served {
    let arguments: Vec<&str> = ["serve", "--listen", "127.0.0.1:0"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    let mut running = program.start(&arguments);
    let mut output = BufReader::new(running.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let address = line
        .trim()
        .strip_prefix("loggia: listening on http://")
        .expect(&line)
        .parse()
        .unwrap();
    Served {
        running,
        address,
        output,
    }
}

impl Served {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = self.send(request);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\n\r\n"
        ))
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn signal(&self, name: &str) {
        let pid = self.running.0.id().to_string();
        assert!(
            std::process::Command::new("kill")
                .args([&format!("-{name}"), &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// The exit status, and the log.
    fn ended(mut self) -> (Option<i32>, String) {
        let code = self.running.0.wait().unwrap().code();
        let log = self.running.log();
        (code, log)
    }
}

fn post(body: &str) -> String {
    post_to("/v1/chat/completions", body)
}

fn post_to(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn the_printed_line_works_as_it_is() {
    let ollama = Ollama::start();
    ollama.go_on.add_permits(8);
    let program = Program::new();
    let mut served = serve(&program, &["--ollama", &ollama.url()]);
    assert!(
        served
            .line()
            .starts_with("loggia: serving 2 models on other servers on http://127.0.0.1:")
    );
    assert_eq!(served.line(), "try it:\n");
    let line = served.line();
    assert!(
        line.contains(&format!(
            "curl -N http://{}/v1/chat/completions",
            served.address
        )),
        "{line}"
    );
    assert!(
        line.contains(MODEL),
        "a model for embeddings cannot be tried so: {line}"
    );
    let body = line
        .split(" -d '")
        .nth(1)
        .unwrap()
        .trim_end()
        .strip_suffix('\'')
        .unwrap();
    let answer = served.ask(&post(body));
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("data: [DONE]"),
        "{answer}"
    );
    assert!(
        answer.contains(r#""content":"Hel""#) && answer.contains(r#""content":"lo""#),
        "{answer}"
    );
    assert!(served.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(served.get("/v1/models").contains(MODEL));
}

#[test]
fn a_stream_under_way_ends_properly_after_sigterm_and_the_program_with_0() {
    let ollama = Ollama::start();
    let program = Program::new();
    let served = serve(&program, &["--ollama", &ollama.url()]);
    let body = format!(
        r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}],"stream":true}}"#
    );
    let mut stream = BufReader::new(served.send(&post(&body)));
    let mut seen = String::new();
    while !seen.contains("Hel") {
        assert!(stream.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    served.signal("TERM");
    // From then on, no connection is accepted.
    crate::support::eventually("the listener is closed", || {
        TcpStream::connect(served.address).is_err()
    });
    ollama.go_on.add_permits(1);
    stream.read_to_string(&mut seen).unwrap();
    assert!(
        seen.contains("\"lo\"") && seen.contains("data: [DONE]"),
        "{seen}"
    );
    let (code, log) = served.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn what_takes_longer_than_the_shutdown_timeout_ends_with_an_error_event() {
    let ollama = Ollama::start();
    let program = Program::new().with("LOGGIA_SHUTDOWN_TIMEOUT", "1s");
    let chat = r#""messages":[{"role":"user","content":"hi"}],"max_tokens":9"#;
    let formats = [
        ("/v1/chat/completions", chat, "data: {\"error\":"),
        ("/v1/messages", chat, "event: error\ndata: {"),
        (
            "/v1/responses",
            r#""input":"hi""#,
            "event: response.failed\ndata: {",
        ),
    ];
    for signal in ["INT", "TERM"] {
        let served = serve(&program, &["--ollama", &ollama.url()]);
        let streams = formats.map(|(path, rest, last)| {
            let body = format!(r#"{{"model":"{MODEL}","stream":true,{rest}}}"#);
            let mut stream = BufReader::new(served.send(&post_to(path, &body)));
            let mut seen = String::new();
            while !seen.contains("Hel") {
                assert!(stream.read_line(&mut seen).unwrap() > 0, "{seen}");
            }
            (stream, seen, last)
        });
        served.signal(signal);
        for (mut stream, mut seen, last) in streams {
            stream.read_to_string(&mut seen).unwrap();
            let (before, event) = seen.split_once(last).unwrap_or_else(|| panic!("{seen}"));
            assert!(event.contains("The server is shutting down."), "{seen}");
            assert!(
                !before.contains("[DONE]") && !event.contains("data:"),
                "{seen}"
            );
            assert!(seen.ends_with("\n\n\r\n0\r\n\r\n"), "{seen}");
        }
        let (code, log) = served.ended();
        assert_eq!(code, Some(0), "{log}");
    }
}

/// Background responses belong to no connection.
#[test]
fn background_responses_are_finished_or_failed_when_the_program_has_ended() {
    let ollama = Ollama::start();
    let program = Program::new().with("LOGGIA_SHUTDOWN_TIMEOUT", "2s");
    let body = format!(r#"{{"model":"{MODEL}","input":"hi","background":true}}"#);
    for expected in ["failed", "completed"] {
        let served = serve(&program, &["--ollama", &ollama.url()]);
        let begun = served.ask(&post_to("/v1/responses", &body));
        assert!(begun.contains(r#""status":"queued""#), "{begun}");
        let at = begun.find("resp_").unwrap();
        let id = begun[at..].split('"').next().unwrap();
        served.signal("TERM");
        let address = served.address;
        crate::support::eventually("the listener is closed", || {
            TcpStream::connect(address).is_err()
        });
        if expected == "completed" {
            ollama.go_on.add_permits(1);
        }
        let (code, log) = served.ended();
        assert_eq!(code, Some(0), "{log}");
        let again = serve(&program, &["--ollama", &ollama.url()]);
        let fetched = again.get(&format!("/v1/responses/{id}"));
        let status = format!(r#""status":"{expected}""#);
        assert!(fetched.contains(&status), "{fetched}\n{log}");
    }
}

#[test]
fn settings_reach_the_server() {
    let ollama = Ollama::start();
    ollama.go_on.add_permits(8);
    let program = Program::new()
        .with("LOGGIA_BODY_LIMIT", "1KiB")
        .with("LOGGIA_CORS_ORIGINS", "https://chat.example");
    let served = serve(
        &program,
        &[
            "--ollama",
            &ollama.url(),
            "--alias",
            "gpt-*=small",
            "--strict",
        ],
    );
    let ask = |model: &str, more: &str| {
        served.ask(&post(&format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#
        )))
    };
    assert!(ask("gpt-4o", "").starts_with("HTTP/1.1 200"));
    assert!(ask("claude", "").starts_with("HTTP/1.1 404"));
    assert!(
        ask("small", r#","prompt_cache_key":"a""#).starts_with("HTTP/1.1 400"),
        "strict refuses hints"
    );
    assert!(
        ask("small", &format!(r#","user":"{}""#, "x".repeat(2000))).starts_with("HTTP/1.1 413")
    );
    let preflight = "OPTIONS /v1/models HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\norigin: https://chat.example\r\n\
                     access-control-request-method: GET\r\n\r\n";
    assert!(
        served
            .ask(preflight)
            .contains("access-control-allow-origin: https://chat.example")
    );
}

#[test]
fn keys_reach_the_server_and_its_line_to_try_asks_for_one() {
    let ollama = Ollama::start();
    ollama.go_on.add_permits(8);
    let program = Program::new()
        .with("LOGGIA_KEYS", "alice")
        .with("LOGGIA_KEY_ALICE", "a-secret-of-alices");
    let mut served = serve(&program, &["--ollama", &ollama.url()]);
    let bearing = |key: &str| {
        served.ask(&format!(
            "GET /v1/models HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
        ))
    };
    assert!(bearing("a-secret-of-alices").starts_with("HTTP/1.1 200"));
    assert!(bearing("a-secret-of-nobody").starts_with("HTTP/1.1 401"));
    assert!(served.get("/v1/models").starts_with("HTTP/1.1 401"));
    assert!(served.get("/readyz").starts_with("HTTP/1.1 200"));
    served.line();
    served.line();
    assert!(served.line().contains(r#"-H "authorization: Bearer $KEY""#));
    served.signal("TERM");
    let (code, log) = served.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("alice") && !log.contains("a-secret"), "{log}");
}

#[test]
fn whoever_listens_to_others_without_a_key_is_told_so_once() {
    let told = |program: &Program, listen: &str| {
        let mut running = program.start(&[
            "serve",
            "--listen",
            listen,
            "--ollama",
            "http://127.0.0.1:9",
        ]);
        let mut line = String::new();
        let mut output = BufReader::new(running.0.stdout.take().unwrap());
        // The last log line before it waits.
        while !line.contains("loggia check") {
            assert!(output.read_line(&mut line).unwrap() > 0, "{line}");
        }
        assert!(
            std::process::Command::new("kill")
                .arg(running.0.id().to_string())
                .status()
                .unwrap()
                .success()
        );
        running.0.wait().unwrap();
        let log = running.log();
        log.matches("no API key is required").count()
    };
    let open = Program::new().with("LOGGIA_REQUIRE_KEY", "false");
    assert_eq!(told(&open, "0.0.0.0:0"), 1);
    assert_eq!(told(&Program::new(), "127.0.0.1:0"), 0);
    let keyed = Program::new()
        .with("LOGGIA_KEYS", "alice")
        .with("LOGGIA_KEY_ALICE", "a-secret-of-alices");
    assert_eq!(told(&keyed, "0.0.0.0:0"), 0);
}

#[test]
fn without_a_key_the_program_does_not_listen_to_others() {
    let arguments = [
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--ollama",
        "http://127.0.0.1:9",
    ];
    let run = Program::new().run(&arguments);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.err.contains("there is no API key"), "{}", run.err);
}

#[test]
fn a_backend_that_is_down_does_not_keep_the_server_from_starting() {
    let program = Program::new();
    let mut served = serve(&program, &["--ollama", "http://127.0.0.1:9"]);
    assert!(served.line().contains("loggia check"));
    assert!(served.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(served.get("/readyz").starts_with("HTTP/1.1 503"));
    served.signal("TERM");
    assert_eq!(served.ended().0, Some(0));
}

/// The default model, which `make model` downloads.
#[cfg(feature = "embedded")]
fn default_model() -> std::path::PathBuf {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let beside = root.join(".loggia/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let model = std::env::var_os("LOGGIA_TEST_MODEL").map_or(beside, Into::into);
    assert!(
        model.is_file(),
        "there is no model at {}: run `make model`, or name one in LOGGIA_TEST_MODEL",
        model.display()
    );
    model
}

#[cfg(feature = "embedded")]
#[test]
fn with_no_backend_named_the_default_model_answers() {
    let program = Program::new();
    program
        .run(&["pull", default_model().to_str().unwrap()])
        .succeeded();
    let mut served = serve(&program, &["--context", "512", "--threads", "1"]);
    let serving = "loggia: serving smollm2:135m: context 512 tokens, 4 requests at once, 1 thread on http://127.0.0.1:";
    let line = served.line();
    assert!(line.starts_with(serving), "{line}");
    assert_eq!(served.line(), "try it:\n");
    assert!(served.line().contains(r#""model":"smollm2:135m""#));
    assert!(served.get("/readyz").starts_with("HTTP/1.1 200"));
    for name in ["smollm2:135m", "smollm2", "embedded/smollm2:135m"] {
        let body = format!(
            r#"{{"model":"{name}","max_tokens":3,"messages":[{{"role":"user","content":"Say hello."}}]}}"#
        );
        let answer = served.ask(&post(&body));
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(&format!(r#""model":"{name}""#)),
            "{answer}"
        );
    }
    served.signal("TERM");
    let (code, log) = served.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("Say hello"), "{log}");
}

#[cfg(feature = "embedded")]
#[test]
fn a_file_that_cannot_be_loaded_ends_the_program_with_its_name() {
    let program = Program::new();
    program.write("broken.gguf", "GGUF and then nothing of use");
    let run = program.run(&["serve", "--listen", "127.0.0.1:0", "--model", "broken.gguf"]);
    run.failed_saying(&["cannot load broken.gguf"]);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let _held = std::net::TcpListener::bind(taken).unwrap();
    let program = Program::new();
    let run = program.run(&[
        "serve",
        "--listen",
        &taken.to_string(),
        "--ollama",
        "http://127.0.0.1:9",
    ]);
    run.failed_saying(&[&format!("cannot listen on {taken}"), "--listen"]);
}

#[test]
fn an_origin_that_no_browser_sends_is_refused_at_the_start() {
    let program = Program::new().with("LOGGIA_CORS_ORIGINS", "chat.example");
    let run = program.run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--ollama",
        "http://127.0.0.1:9",
    ]);
    run.failed_saying(&["cors_origins", "chat.example"]);
}
