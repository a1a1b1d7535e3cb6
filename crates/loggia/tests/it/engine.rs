//! Engine processes: what happens if one ends, and that the others go on.

#![cfg(all(unix, feature = "embedded"))]
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::reranker::Reranker;
use crate::support::served;
use crate::support::tiny::{self, Chance};
use crate::support::{Program, Running, eventually};

/// A running program that serves the tiny model.
struct Served {
    running: Running,
    address: SocketAddr,
    _program: Program,
}

fn serve(program: Program) -> Served {
    let file = program.write("tiny.gguf", tiny::gguf());
    let program = program.with("LOGGIA_THREADS", "1");
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--model",
        file.to_str().unwrap(),
    ];
    let mut running = program.start(&arguments);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first
        .strip_prefix("loggia: listening on http://")
        .expect(&first)
        .parse()
        .unwrap();
    assert!(
        lines
            .next()
            .expect("the model is loaded")
            .unwrap()
            .starts_with("loggia: serving tiny: context 512 ")
    );
    assert_eq!(lines.next().unwrap().unwrap(), "try it:");
    Served {
        running,
        address,
        _program: program,
    }
}

/// The first child of a process, once there is one.
fn child_of(parent: u32) -> u32 {
    let mut found = None;
    eventually("an engine runs", || {
        let children = Command::new("ps")
            .args(["-o", "pid=", "--ppid", &parent.to_string()])
            .output()
            .unwrap();
        found = String::from_utf8(children.stdout)
            .unwrap()
            .split_whitespace()
            .next()
            .map(|pid| pid.parse().unwrap());
        found.is_some()
    });
    found.unwrap()
}

impl Served {
    /// The process of the model, once it runs.
    fn engine(&self) -> u32 {
        child_of(self.running.0.id())
    }

    fn begin(&self, fields: &str) -> BufReader<TcpStream> {
        let body =
            format!(r#"{{"model":"tiny","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#);
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    fn ask(&self, fields: &str) -> String {
        rest(self.begin(fields))
    }
}

/// A line of a log in JSON.
fn entry(line: &str) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

#[test]
fn each_line_of_a_log_in_json_is_an_object_also_those_of_an_engine() {
    let program = Program::new()
        .with("LOGGIA_LOG", "info")
        .with("LOGGIA_LOG_FORMAT", "json");
    let mut served = serve(program);
    served.ask(r#""max_tokens":1"#);
    let pid = served.running.0.id().to_string();
    let stopped = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(stopped.unwrap().success());
    assert!(served.running.0.wait().unwrap().success());
    let log = served.running.log();
    let entries: Vec<_> = log.lines().map(entry).collect();
    for entry in &entries {
        for key in ["timestamp", "level", "message", "target"] {
            assert!(entry[key].is_string(), "{key} of {entry:?}");
        }
    }
    let is_of = |target: &str| {
        let target = target.to_owned();
        move |entry: &&serde_json::Map<_, _>| entry["target"] == *target
    };
    assert!(entries.iter().any(|entry| is_of("llama-cpp-2")(&entry)));
    let answered = entries.iter().find(is_of("loggia_server::access")).unwrap();
    assert_eq!(answered["route"], "/v1/chat/completions");
    assert_eq!(answered["status"], 200);
    assert_eq!(answered["completion_tokens"], 1);
    assert!(answered["ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_error_that_ends_a_program_is_a_line_of_its_log() {
    let program = Program::new();
    let missing = ["serve", "--model", "./missing.gguf"];
    let text = program.run(&missing).failed_saying(&["missing.gguf"]).err;
    assert!(text.starts_with("loggia: "), "{text}");
    let json = program.run(&[&missing[..], &["--log-format", "json"]].concat());
    let line = entry(json.failed_saying(&[]).err.trim());
    let message = line["message"].as_str().unwrap();
    assert!(text.contains(message) && line["level"] == "ERROR");
}

fn rest(mut stream: BufReader<TcpStream>) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The environment variables of the engine's process, sorted.
#[cfg(target_os = "linux")]
fn environment(served: &Served) -> Vec<String> {
    let all = std::fs::read(format!("/proc/{}/environ", served.engine())).unwrap();
    let mut all: Vec<_> = String::from_utf8(all)
        .unwrap()
        .split_terminator('\0')
        .map(str::to_owned)
        .collect();
    all.sort();
    all
}

#[cfg(target_os = "linux")]
#[test]
fn an_engines_process_has_none_of_the_programs_keys() {
    let program = Program::new()
        .with("LOGGIA_LOG", "warn")
        .with("LOGGIA_OPENAI_GPU_KEY", "a-key-of-another-engine")
        .with("OTEL_EXPORTER_OTLP_HEADERS", "api-key=of-a-collector");
    let environment = environment(&serve(program));
    assert!(
        environment.contains(&"LOGGIA_LOG=warn".to_owned()),
        "{environment:?}"
    );
    assert!(
        environment
            .iter()
            .all(|variable| !variable.to_lowercase().contains("key")),
        "{environment:?}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn threads_of_an_engines_process_spin_for_a_moment_only_unless_the_user_has_chosen_otherwise() {
    let variables = |program: Program| {
        let mut all = environment(&serve(program));
        all.retain(|variable| !variable.starts_with("LOGGIA_") && !variable.starts_with("MALLOC_"));
        all
    };
    let chosen = variables(Program::new());
    assert!(
        chosen
            .iter()
            .any(|variable| variable.starts_with("GOMP_SPINCOUNT=")),
        "{chosen:?}"
    );
    for (name, value) in [
        ("GOMP_SPINCOUNT", "7"),
        ("OMP_WAIT_POLICY", "ACTIVE"),
        ("KMP_BLOCKTIME", "200"),
    ] {
        assert_eq!(
            variables(Program::new().with(name, value)),
            [format!("{name}={value}")]
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_engines_process_gives_large_buffers_back_unless_the_user_has_chosen_otherwise() {
    const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
    let threshold = |program: Program| {
        let mut all = environment(&serve(program));
        all.retain(|variable| variable.starts_with(THRESHOLD));
        all
    };
    assert_eq!(threshold(Program::new()), [format!("{THRESHOLD}=8388608")]);
    assert_eq!(
        threshold(Program::new().with(THRESHOLD, "4096")),
        [format!("{THRESHOLD}=4096")]
    );
}

/// A long stream, read up to its first chunk.
fn under_way(served: &Served) -> BufReader<TcpStream> {
    // Random bytes are rarely UTF-8, and the end token is as likely as any: it is suppressed for a
    // long answer.
    let mut stream = served.begin(r#""stream":true,"max_tokens":450,"logit_bias":{"2":-100}"#);
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(
            stream.read_line(&mut line).unwrap() > 0,
            "the answer begins"
        );
    }
    stream
}

fn kill(signal: &str, process: u32) {
    assert!(
        Command::new("kill")
            .args([signal, &process.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

fn is_gone(process: u32) -> bool {
    // An ended process that was not waited for is a zombie, which counts as ended.
    let state = Command::new("ps")
        .args(["-o", "stat=", "-p", &process.to_string()])
        .output()
        .unwrap();
    matches!(state.stdout.first(), None | Some(b'Z'))
}

#[test]
fn a_stream_whose_engine_is_killed_ends_with_an_error_and_the_next_request_is_answered() {
    let served = serve(Program::new());
    let mut cut_short = 0;
    for _ in 0..3 {
        let engine = served.engine();
        let stream = under_way(&served);
        kill("-KILL", engine);
        let end = rest(stream);
        // The stream may have finished just before.
        if !end.contains("[DONE]") {
            assert!(
                end.contains(
                    r#"data: {"error":{"message":"the backend `embedded` closed the connection"#
                ),
                "{end}"
            );
            cut_short += 1;
        }
        eventually("another engine runs", || served.engine() != engine);
        // The engine may be in its backoff of one second.
        eventually("the next request is answered", || {
            served.ask(r#""max_tokens":2"#).starts_with("HTTP/1.1 200")
        });
    }
    assert!(cut_short > 0);
}

#[test]
fn a_request_that_had_not_begun_is_tried_again() {
    let served = serve(Program::new());
    let engine = served.engine();
    kill("-STOP", engine);
    let waiting = served.begin(r#""max_tokens":3"#);
    // The request has reached the engine, or is about to. Its answer has not begun.
    kill("-KILL", engine);
    let answer = rest(waiting);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(r#""completion_tokens":3"#),
        "{answer}"
    );
}

#[test]
fn the_engine_ends_with_its_program_however_that_ends() {
    let served = serve(Program::new());
    let engine = served.engine();
    kill("-KILL", served.running.0.id());
    eventually("the engine is gone", || is_gone(engine));
}

#[test]
fn a_signal_to_all_processes_lets_the_answer_under_way_end() {
    let mut served = serve(Program::new());
    let engine = served.engine();
    let stream = under_way(&served);
    kill("-TERM", engine);
    kill("-TERM", served.running.0.id());
    assert!(rest(stream).contains("data: [DONE]"));
    assert_eq!(served.running.0.wait().unwrap().code(), Some(0));
    eventually("the engine is gone", || is_gone(engine));
}

#[test]
fn a_model_that_is_not_to_be_kept_gives_its_memory_back_and_is_loaded_again() {
    let served = serve(Program::new());
    let engine = served.engine();
    assert!(
        served
            .ask(r#""max_tokens":1,"keep_alive":0"#)
            .starts_with("HTTP/1.1 200")
    );
    eventually("its process is gone", || is_gone(engine));
    assert!(served.ask(r#""max_tokens":1"#).starts_with("HTTP/1.1 200"));
    let refused = served.ask(r#""max_tokens":1,"keep_alive":"soon""#);
    assert!(
        refused.starts_with("HTTP/1.1 400") && refused.contains(r#""param":"keep_alive""#),
        "{refused}"
    );
}

#[test]
fn a_model_that_makes_embeddings_is_shown_how_to_try_and_survives_its_engine() {
    let program = Program::new()
        .with("LOGGIA_THREADS", "1")
        .with("LOGGIA_CONTEXT", "64");
    let file = program.write("tiny.gguf", tiny::embedding());
    let mut running = program.start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--model",
        file.to_str().unwrap(),
    ]);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let first = lines.next().unwrap();
    let address = first
        .strip_prefix("loggia: listening on http://")
        .expect(&first)
        .parse()
        .unwrap();
    let shown: Vec<String> = lines.by_ref().take(3).collect();
    assert!(
        shown[1] == "try it:" && shown[2].contains("/v1/embeddings "),
        "{shown:?}"
    );
    let served = Served {
        running,
        address,
        _program: program,
    };
    let embed = |input: &str| {
        let body = format!(r#"{{"model":"tiny","input":{input},"dimensions":2}}"#);
        let request = format!(
            "POST /v1/embeddings HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(served.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        rest(BufReader::new(stream))
    };
    let first = embed(r#"["hi", "you"]"#);
    assert!(
        first.starts_with("HTTP/1.1 200") && first.contains(r#""index":1,"#),
        "{first}"
    );
    let engine = served.engine();
    kill("-KILL", engine);
    eventually("it is answered again", || {
        embed(r#""hi""#).starts_with("HTTP/1.1 200")
    });
    let refused = served.ask(r#""max_tokens":1"#);
    assert!(
        refused.starts_with("HTTP/1.1 404") && refused.contains("v1/embeddings"),
        "{refused}"
    );
}

#[test]
fn a_reranking_model_reranks_refuses_other_work_and_survives_its_engine() {
    let program = Program::new().with("LOGGIA_THREADS", "1");
    let ranks = program.write("ranks.gguf", Reranker::bert().file());
    let served = served::Served::start(program, &["--model", ranks.to_str().unwrap()]);
    let rerank = |query: &str, documents: Value| {
        let body = json!({"model": "ranks", "query": query, "documents": documents, "return_documents": true});
        served.post("/v1/rerank", &body)
    };
    let documents = json!(["a cat", {"text": "a dog sleeps"}, "a cat"]);
    let (status, answer) = rerank("cat?", documents.clone());
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let score = |at: usize| results[at]["relevance_score"].as_f64().unwrap();
    assert!(score(0) >= score(1) && score(1) >= score(2), "{answer}");
    let of = |index: usize| results.iter().find(|result| result["index"] == index);
    assert_eq!(
        of(0).unwrap()["relevance_score"],
        of(2).unwrap()["relevance_score"]
    );
    assert_eq!(of(1).unwrap()["document"]["text"], "a dog sleeps");
    // Each document is read with the query and three tokens around them. A space has three tokens.
    let tokens = 3 * (4 + 3) + 2 * (4 + 3) + (10 + 2 * 3);
    assert_eq!(answer["usage"]["prompt_tokens"], tokens);
    let long = "x".repeat(100);
    for (query, documents, param) in [
        ("cat?", json!(["a", long]), "documents[1]"),
        (&*long, json!(["a"]), "query"),
    ] {
        let (status, answer) = rerank(query, documents);
        let error = &answer["error"];
        let expected = (400, &json!(param), &json!("context_length_exceeded"));
        assert_eq!((status, &error["param"], &error["code"]), expected);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("64 tokens"), "{message}");
    }
    let chat = json!({"model": "ranks", "messages": [{"role": "user", "content": "hi"}]});
    let (status, answer) = served.post("/v1/chat/completions", &chat);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("not a chat model"), "{status}: {message}");
    let embedding = json!({"model": "ranks", "input": "hi"});
    let (status, answer) = served.post("/v1/embeddings", &embedding);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("not an embedding model"),
        "{status}: {message}"
    );
    let (_, card) = served.get("/v1/models/ranks");
    assert_eq!(card["capabilities"], json!(["rerank"]));
    kill("-KILL", child_of(served.running.0.id()));
    let again = rerank("cat?", documents);
    assert_eq!((again.0, &again.1["results"]), (200, &json!(results)));
}

#[test]
fn a_reranking_model_without_a_head_is_refused_by_the_name_of_the_tensor() {
    let program = Program::new();
    let file = Reranker::bert().without("cls.output.weight").file();
    let file = program.write("headless.gguf", file);
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--model"];
    let arguments = [&arguments[..], &[file.to_str().unwrap()]].concat();
    program.run(&arguments).failed_saying(&[
        "headless.gguf",
        "without a head: the tensor \"cls.output.weight\" is missing",
    ]);
}

#[test]
fn a_model_larger_than_the_memory_it_may_have_is_refused_with_its_needs() {
    let program = Program::new().with("LOGGIA_MEMORY", "64KiB");
    let file = program.write("tiny.gguf", tiny::gguf());
    let run = program.run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--model",
        file.to_str().unwrap(),
    ]);
    run.failed_saying(&[
        "the model `tiny` needs",
        "64.0 KiB may be used",
        "lower --context or --parallel",
    ]);
}

#[test]
fn two_hundred_damaged_files_are_served_or_refused_and_end_nothing_else() {
    let program = Program::new()
        .with("LOGGIA_THREADS", "1")
        .with("LOGGIA_CONTEXT", "64")
        .with("LOGGIA_LOG", "error");
    let whole = tiny::gguf();
    let mut chance = Chance(0x5eed);
    let (mut loaded, mut refused) = (0, 0);
    for number in 0..200 {
        let mut file = whole.clone();
        // Most errors are possible in the header.
        let header = file.len() / 6;
        chance.damage(&mut file, header);
        let file = program.write("damaged.gguf", file);
        let mut running = program.start(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--model",
            file.to_str().unwrap(),
        ]);
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        let is_loaded = lines.any(|line| line.unwrap() == "try it:");
        if is_loaded {
            loaded += 1;
            continue;
        }
        refused += 1;
        let code = running.0.wait().unwrap().code();
        let log = running.log();
        assert_eq!(code, Some(1), "file {number}: {log}");
        assert!(
            log.contains("cannot load") && log.contains("damaged.gguf"),
            "file {number}: {log}"
        );
    }
    assert!(
        loaded > 20 && refused > 20,
        "{loaded} loaded, {refused} refused: the damage is too great or too small"
    );
}
