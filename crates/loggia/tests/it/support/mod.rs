//! Shared by the tests of the program: running it with its own environment, and servers on
//! loopback.

#![allow(
    dead_code,
    reason = "without the embedded engine, some of it is not used"
)]

#[path = "../../../../llama/tests/it/support/gguf.rs"]
pub(crate) mod gguf;
pub(crate) mod hub;
pub(crate) mod ollama;
pub(crate) mod request;
#[path = "../../../../llama/tests/it/support/reranker.rs"]
pub(crate) mod reranker;
pub(crate) mod served;
pub(crate) mod tiny;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The program, with its own data folder and environment.
pub(crate) struct Program {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    /// A shell command that runs before the program, in a mount namespace of their own.
    prepare: Option<String>,
}

impl Program {
    pub(crate) fn new() -> Self {
        Program {
            folder: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
            prepare: None,
        }
    }

    /// Runs the program in a mount namespace of its own, after this shell command. Needs root.
    #[must_use]
    pub(crate) fn in_namespace(mut self, prepare: &str) -> Self {
        self.prepare = Some(prepare.to_owned());
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns a path in the program's working directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a path in the program's model folder.
    pub(crate) fn model(&self, name: &str) -> PathBuf {
        self.path("data/models").join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Returns all files in the program's model folder, also hidden ones, as relative paths.
    pub(crate) fn files(&self) -> Vec<String> {
        fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(root, &path, found);
                } else {
                    found.push(
                        path.strip_prefix(root)
                            .unwrap()
                            .to_str()
                            .unwrap()
                            .replace('\\', "/"),
                    );
                }
            }
        }
        let root = self.path("data/models");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        found
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_loggia");
        let mut command = match &self.prepare {
            None => Command::new(program),
            Some(prepare) => {
                let mut command = Command::new("unshare");
                let script = format!("{prepare} && exec \"$0\" \"$@\"");
                command.args(["-m", "sh", "-c", &script, program]);
                command
            }
        };
        let paths = std::env::var_os("PATH").filter(|_| self.prepare.is_some());
        command
            .args(arguments)
            .env_clear()
            .envs(paths.map(|paths| ("PATH", paths)))
            .current_dir(self.folder.path())
            .env("LOGGIA_DATA_DIR", self.path("data"));
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run {
            code: status.code(),
            out: text(stdout),
            err: text(stderr),
        }
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            log
        });
        Running(child, Some(log))
    }
}

/// The result of a run of the program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Asserts that the run failed with an error that contains all these texts.
    #[track_caller]
    pub(crate) fn failed_saying(self, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in {self:?}");
        }
        self
    }
}

/// A running program; killed when dropped. Its log is read all the time, because a program whose
/// pipe is full waits.
pub(crate) struct Running(pub(crate) Child, Option<JoinHandle<String>>);

impl Running {
    /// The log of a program that has ended or is about to.
    pub(crate) fn log(&mut self) -> String {
        self.1.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a condition holds; fails after a long time.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
