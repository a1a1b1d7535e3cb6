//! The prompt cache on disk: it survives the end of the program, however that happens, and its
//! scope is kept.

#![cfg(all(unix, feature = "embedded"))]
use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStdout, Command};

use serde_json::{Value, json};

use crate::support::tiny;
use crate::support::{Program, Running, eventually};

/// A program with a prompt cache on disk, and a model.
fn program() -> Program {
    let program = Program::new()
        .with("LOGGIA_THREADS", "1")
        .with("LOGGIA_CACHE_DISK", "64MiB");
    program.write("tiny.gguf", tiny::gguf());
    program
}

struct Served {
    running: Running,
    address: SocketAddr,
    _lines: Lines<BufReader<ChildStdout>>,
}

fn serve(program: &Program) -> Served {
    let mut running = program.start(&["serve", "--listen", "127.0.0.1:0", "-m", "tiny.gguf"]);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.strip_prefix("loggia: listening on http://");
    let address = address.expect(&first).parse().unwrap();
    // The line after it is printed when the model is loaded.
    lines.next().unwrap().unwrap();
    Served {
        running,
        address,
        _lines: lines,
    }
}

impl Served {
    /// Asks a question after a long text, and returns the text and the usage of the answer.
    fn ask(&self, question: &str, key: &str) -> (String, Value) {
        let content = format!("{} {question}", "a quick brown fox ".repeat(12));
        let body = json!({
            "model": "tiny",
            "messages": [{"role": "user", "content": content}],
            "max_tokens": 8,
            "temperature": 0,
        })
        .to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\n\
             authorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).expect(&answer);
        let text = &body["choices"][0]["message"]["content"];
        (text.to_string(), body["usage"].clone())
    }

    fn signal(&self, signal: &str) {
        let process = self.running.0.id().to_string();
        let status = Command::new("kill").args([signal, &process]).status();
        assert!(status.unwrap().success());
    }

    /// Ends the program as a service manager does.
    fn stop(mut self) {
        self.signal("-TERM");
        assert_eq!(self.running.0.wait().unwrap().code(), Some(0));
    }
}

fn cached(usage: &Value) -> u64 {
    let details = &usage["prompt_tokens_details"];
    details["cached_tokens"].as_u64().unwrap()
}

/// The files in the folder of the prompt cache that have this ending.
fn files(program: &Program, ending: &str) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(program.path("data/prompts"));
    let folders = folders.into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten());
    let paths = files.flatten().map(|file| file.path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect()
}

#[test]
fn a_prompt_is_found_again_after_a_restart() {
    let program = program();
    let first = serve(&program);
    let usual = first.ask("who?", "none");
    assert_eq!(cached(&usual.1), 0);
    first.stop();
    let again = serve(&program);
    let (text, usage) = again.ask("who?", "none");
    assert_eq!(text, usual.0);
    // The last token is always read, because the answer begins with its logits.
    assert_eq!(cached(&usage), usage["prompt_tokens"].as_u64().unwrap() - 1);
    assert!(cached(&again.ask("what?", "none").1) > 200);
}

#[test]
fn a_program_that_is_killed_leaves_only_whole_files() {
    let program = program();
    let usual = {
        let served = serve(&program);
        let usual = served.ask("who?", "none");
        eventually("an idle engine writes", || {
            !files(&program, "prompt").is_empty()
        });
        served.signal("-KILL");
        usual
    };
    let path = files(&program, "prompt").remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    // The file that a kill in the middle of writing leaves.
    std::fs::write(path.with_extension("part"), &bytes[..middle]).unwrap();
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    // The killed program's engine has the lock until it has ended, which is soon.
    let served = serve(&program);
    eventually("the folder is in use again", || {
        files(&program, "part").is_empty()
    });
    let (text, usage) = served.ask("who?", "none");
    assert_eq!((text, cached(&usage)), (usual.0, 0));
    served.stop();
    let (_, usage) = serve(&program).ask("who?", "none");
    assert!(cached(&usage) > 200, "{usage}");
}

#[test]
fn each_key_has_its_own_prompts_if_that_is_asked_for() {
    let keys = ["sk-of-alice-5b1f0a2c", "sk-of-bob-5b1f0a2c00"];
    for (scope, shares) in [("server", true), ("key", false)] {
        let program = program()
            .with("LOGGIA_KEYS", "alice,bob")
            .with("LOGGIA_KEY_ALICE", keys[0])
            .with("LOGGIA_KEY_BOB", keys[1])
            .with("LOGGIA_CACHE_SCOPE", scope);
        let served = serve(&program);
        assert_eq!(cached(&served.ask("who?", keys[0]).1), 0);
        assert_eq!(
            cached(&served.ask("who?", keys[1]).1) > 0,
            shares,
            "{scope}"
        );
        served.stop();
        let served = serve(&program);
        assert!(cached(&served.ask("who?", keys[1]).1) > 200, "{scope}");
        assert!(cached(&served.ask("who?", keys[0]).1) > 200, "{scope}");
    }
}

#[test]
fn check_says_how_much_memory_and_which_folder_is_used() {
    let program = program().with("LOGGIA_CACHE_MEMORY", "64MiB");
    let checked = program.run(&["check", "-m", "tiny.gguf"]).succeeded();
    let expected = format!(
        "# prompt cache of tiny: at most 64.0 MiB of memory\n\
         # prompt cache on disk: at {}, at most 64.0 MiB, not encrypted\n",
        program.path("data/prompts").display()
    );
    assert!(checked.out.contains(&expected), "{}", checked.out);
    let encrypted = program.with("LOGGIA_STORE_ENCRYPTED", "true");
    let checked = encrypted.run(&["check", "-m", "tiny.gguf"]);
    let notice = "# store_encrypted does not encrypt cached prompts";
    assert!(checked.out.contains(notice), "{}", checked.out);
}
