//! `loggia chat`, as a process whose input is a pipe: one message a line.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a panic is the failure we want; clippy only knows functions marked as tests"
)]

mod support;

use std::io::Write as _;
use std::process::{Output, Stdio};

use support::Program;
use support::ollama::{MODEL, Ollama};
use support::served::Served;

/// Types lines, and gives back what was printed and what was complained about.
fn chat(program: &Program, arguments: &[&str], lines: &str) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = ["chat"].iter().chain(arguments).copied().collect();
    let mut command = program.command(&arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends at once does not read it all.
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
