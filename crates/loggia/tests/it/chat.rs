//! `loggia chat` and `loggia run` as processes with a pipe as input, one message per line.

#![cfg(unix)]
use std::io::Write as _;
use std::process::{Output, Stdio};

use crate::support::Program;
use crate::support::ollama::{MODEL, Ollama};
use crate::support::served::Served;

/// Runs a chat with these lines as input. Returns the exit code, the output and the errors.
fn chat(program: &Program, arguments: &[&str], lines: &str) -> (Option<i32>, String, String) {
    typed(program, &[&["chat"], arguments].concat(), lines)
}

fn typed(program: &Program, arguments: &[&str], lines: &str) -> (Option<i32>, String, String) {
    let mut command = program.command(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

fn ollama() -> Ollama {
    let ollama = Ollama::start();
    ollama.go_on.add_permits(1000);
    ollama
}

/// Nothing listens on port 9 of this address.
const NOBODY: &[&str] = &["--listen", "127.0.0.1:9"];

#[test]
fn each_line_is_answered_by_a_server_of_its_own_where_none_runs() {
    let ollama = ollama();
    let url = ollama.url();
    let arguments = [NOBODY, &["--ollama", &url]].concat();
    let (code, out, err) = chat(&Program::new(), &arguments, "Say hello.\n\nAgain.\n");
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (Some(0), "Hello\nHello\n", "")
    );
}

#[test]
fn commands_change_the_model_and_the_instructions() {
    let ollama = ollama();
    let url = ollama.url();
    let arguments = [NOBODY, &["--ollama", &url, "--system", "Be brief."]].concat();
    let lines =
        "/model\n/model none\n/model small\n/system\n/system -\n/system\n/sing\n/bye\nnever sent\n";
    let (code, out, err) = chat(&Program::new(), &arguments, lines);
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        format!("  embed:latest\n* {MODEL}\nnow small\nBe brief.\nno instructions\n")
    );
    assert!(
        err.contains("has no model `none`; it has: embed:latest, small:latest"),
        "{err}"
    );
    assert!(err.contains("there is no command /sing"), "{err}");
}

#[test]
fn what_the_server_refuses_leaves_the_conversation_going() {
    let ollama = ollama();
    let url = ollama.url();
    let arguments = [NOBODY, &["--ollama", &url]].concat();
    let program = Program::new().with("LOGGIA_BODY_LIMIT", "1kB");
    let (code, out, err) = chat(
        &program,
        &arguments,
        &format!("{}\nHi\n", "long ".repeat(400)),
    );
    assert_eq!((code, out.as_str()), (Some(0), "\nHello\n"));
    assert!(err.starts_with("loggia: "), "{err}");
}

#[test]
fn a_server_that_cannot_be_reached_and_a_model_that_is_not_there_are_said() {
    let (code, _, err) = chat(&Program::new(), &["--server", "http://127.0.0.1:9"], "Hi\n");
    assert_eq!(code, Some(1));
    assert!(err.contains("http://127.0.0.1:9"), "{err}");
    let ollama = ollama();
    let url = ollama.url();
    let arguments = [NOBODY, &["--ollama", &url, "smal"]].concat();
    let (code, _, err) = chat(&Program::new(), &arguments, "Hi\n");
    assert_eq!(code, Some(1));
    assert!(
        err.contains("has no model `smal`; it has: embed:latest, small:latest"),
        "{err}"
    );
}

#[test]
fn a_chat_finds_the_server_that_runs() {
    let ollama = ollama();
    let served = Served::start(Program::new(), &["--ollama", &ollama.url()]);
    let address = served.address.to_string();
    let (code, out, err) = chat(&Program::new(), &["--listen", &address], "Hi\n");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "Hello\n", ""));
}

#[test]
fn run_with_a_prompt_prints_one_answer_and_ends() {
    let ollama = ollama();
    let url = ollama.url();
    let program = Program::new();
    let run = |words: &[&str]| {
        let arguments = [&["run"], words, NOBODY, &["--ollama", &url]].concat();
        typed(&program, &arguments, "never read\n")
    };
    assert_eq!(
        run(&[MODEL, "Why is it so?"]),
        (Some(0), "Hello\n".to_owned(), String::new())
    );
    assert_eq!(
        run(&[MODEL, "why", "so?"]),
        (Some(0), "Hello\n".to_owned(), String::new())
    );
    // An error ends the chat.
    let (code, out, err) = run(&["none", "Hi"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("has no model `none`"), "{err}");
    let (code, _, err) = run(&[MODEL, "Look at /nowhere.png"]);
    assert_eq!(code, Some(0), "no picture of that name is a text: {err}");
}

#[test]
fn run_without_a_prompt_is_a_chat_with_that_model() {
    let ollama = ollama();
    let url = ollama.url();
    let arguments = [&["run", MODEL], NOBODY, &["--ollama", &url]].concat();
    let (code, out, err) = typed(&Program::new(), &arguments, "Hi\n/model\n");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, format!("Hello\n  embed:latest\n* {MODEL}\n"));
}

#[cfg(feature = "embedded")]
#[test]
fn a_model_that_the_running_server_does_not_have_is_run_for_the_chat() {
    let ollama = ollama();
    let served = Served::start(Program::new(), &["--ollama", &ollama.url()]);
    let address = served.address.to_string();
    let program = Program::new();
    program.write("m.gguf", crate::support::tiny::gguf());
    let listen = ["--listen", &address, "--context", "64", "--threads", "1"];
    let ask = |words: &[&str]| typed(&program, &[words, &listen].concat(), "/model\n");
    // The name of a model is the name in its file, not its path.
    for words in [&["run", "./m.gguf"], &["chat", "m.gguf"]] {
        let (code, out, err) = ask(words);
        assert_eq!((code, out.as_str()), (Some(0), "* m\n"), "{err}");
        assert!(err.contains("running it here for this chat"), "{err}");
    }
    // A model that does not exist is refused by the server; a model that it has is used there.
    let (code, _, err) = ask(&["run", "none"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("has no model `none`; it has: embed:latest"),
        "{err}"
    );
    let (code, out, err) = ask(&["run", MODEL, "Hi"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "Hello\n", ""));
}

#[cfg(feature = "embedded")]
#[test]
fn a_model_that_is_not_here_is_fetched_for_run() {
    let model = crate::support::tiny::gguf();
    let hub =
        crate::support::hub::Hub::with(&[("someone/Small-GGUF/m-Q8_0.gguf", model.as_slice())]);
    let program = Program::new().with("HF_ENDPOINT", &hub.endpoint());
    let flags = [NOBODY, &["--context", "64", "--threads", "1"]].concat();
    let arguments = [&["run", "someone/Small-GGUF"], &flags[..]].concat();
    let (code, out, err) = typed(&program, &arguments, "/model\n");
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "* someone/Small-GGUF:Q8_0\n"),
        "{err}"
    );
    assert!(
        err.contains("loggia: downloading someone/Small-GGUF"),
        "{err}"
    );
    assert_eq!(program.files(), ["hf/someone/Small-GGUF/m-Q8_0.gguf"]);
}

#[test]
fn a_server_that_requires_a_key_is_said_to_and_the_key_is_used() {
    let ollama = ollama();
    let keyed = Program::new()
        .with("LOGGIA_KEYS", "alice")
        .with("LOGGIA_KEY_ALICE", "sk-of-alice-0123456789");
    let served = Served::start(keyed, &["--ollama", &ollama.url()]);
    let address = served.address.to_string();
    let arguments = ["run", MODEL, "Hi", "--listen", &address];
    let (code, out, err) = typed(&Program::new(), &arguments, "");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.contains("requires a valid API key; set LOGGIA_CHAT_KEY or use --key"),
        "{err}"
    );
    let with_key = Program::new().with("LOGGIA_CHAT_KEY", "sk-of-alice-0123456789");
    let (code, out, err) = typed(&with_key, &arguments, "");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "Hello\n", ""));
}
