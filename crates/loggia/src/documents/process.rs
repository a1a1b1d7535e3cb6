//! Reads a PDF in a process of its own. A PDF that crashes the library, or makes it loop, ends only
//! that process.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::failure::{Failure, LONGEST_TEXT};
use super::pages::{self, LARGEST_OUTPUT};

/// How long a PDF may take.
const TIME: Duration = Duration::from_secs(20);

/// Why there is no output.
#[derive(Debug, PartialEq)]
enum ReadError {
    Pdf(Failure),
    TooSlow(Duration),
    /// The process could not run.
    NotNow,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pdf(failure) => failure.fmt(f),
            Self::TooSlow(time) => write!(f, "it took longer than {} s to read", time.as_secs()),
            Self::NotNow => f.write_str("this server cannot read PDFs at the moment"),
        }
    }
}

/// Returns the text of a PDF. Returns `None` if it has none.
///
/// # Errors
/// Returns what is wrong with the PDF, in words for the client.
pub(super) async fn text(pdf: Bytes) -> Result<Option<String>, String> {
    let text = match program() {
        Ok(command) => text_of(command, pdf, TIME).await,
        Err(error) => Err(error),
    };
    match text {
        Ok(text) => Ok(Some(text)),
        Err(ReadError::Pdf(Failure::WithoutText)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns the pages of a PDF as images, at most `most`.
///
/// # Errors
/// Returns what is wrong with the PDF, in words for the client.
pub(super) async fn pages(pdf: Bytes, most: usize) -> Result<Vec<Bytes>, String> {
    let read = async {
        let mut command = program()?;
        command.args(["--pages", &most.to_string()]);
        let output = output_of(command, pdf, LARGEST_OUTPUT, TIME).await?;
        pages::read(output.into()).ok_or(ReadError::Pdf(Failure::Unreadable))
    };
    read.await.map_err(|error| error.to_string())
}

fn program() -> Result<Command, ReadError> {
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.arg("read-pdf");
    Ok(command)
}

/// Returns the text that a process writes which gets a PDF.
async fn text_of(command: Command, pdf: Bytes, time: Duration) -> Result<String, ReadError> {
    let output = output_of(command, pdf, LONGEST_TEXT, time).await?;
    String::from_utf8(output).map_err(|_| ReadError::Pdf(Failure::Unreadable))
}

/// Returns the output of a process that gets a PDF. It is killed when the time is over.
async fn output_of(
    command: Command,
    pdf: Bytes,
    longest: usize,
    time: Duration,
) -> Result<Vec<u8>, ReadError> {
    match timeout(time, read(command, pdf, longest)).await {
        Ok(read) => read,
        Err(_) => Err(ReadError::TooSlow(time)),
    }
}

async fn read(mut command: Command, pdf: Bytes, longest: usize) -> Result<Vec<u8>, ReadError> {
    command
        // The process needs nothing of the environment, and must not see the API keys in it.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(ReadError::NotNow);
    };
    let writing = async move {
        // The process may end before it has read everything.
        let _ = input.write_all(&pdf).await;
        let _ = input.shutdown().await;
    };
    let mut received = Vec::new();
    let mut output = output.take(longest as u64 + 1);
    let ((), read) = tokio::join!(writing, output.read_to_end(&mut received));
    drop(output);
    let status = child.wait().await.map_err(|error| failed(&error))?;
    match status.code() {
        Some(0) if read.is_ok() => Ok(received),
        Some(code) => Err(ReadError::Pdf(Failure::of_code(code))),
        // The process was killed by a signal.
        None => Err(ReadError::Pdf(Failure::Unreadable)),
    }
}

fn failed(error: &std::io::Error) -> ReadError {
    tracing::warn!(%error, "the process that reads PDFs failed");
    ReadError::NotNow
}

#[cfg(all(test, unix))]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    /// Returns a shell that runs instead of the PDF process.
    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    async fn text_within(script: &str, pdf: &[u8], time: Duration) -> Result<String, ReadError> {
        text_of(shell(script), Bytes::copy_from_slice(pdf), time).await
    }

    #[tokio::test]
    async fn a_process_that_takes_too_long_is_killed() {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        for script in [
            // The process waits, computes forever, or ignores a request to end.
            "exec sleep 600",
            "while :; do :; done",
            "trap '' TERM; while :; do :; done",
        ] {
            let script = format!("echo $$ > {}; {script}", pid.display());
            let begun = Instant::now();
            // The text is longer than the buffer of a pipe, and the process does not read it.
            let read = text_within(&script, &vec![b'x'; 1 << 20], Duration::from_secs(1)).await;
            let error = read.expect_err("no text").to_string();
            assert_eq!(error, "it took longer than 1 s to read");
            assert!(begun.elapsed() < Duration::from_secs(30));
            let pid = std::fs::read_to_string(&pid).expect("a number");
            ends(pid.trim()).await;
        }
    }

    /// Waits until a process has ended.
    async fn ends(pid: &str) {
        let place = Path::new("/proc").join(pid).join("stat");
        let runs = || std::fs::read_to_string(&place).is_ok_and(|stat| !stat.contains(") Z "));
        let waiting = async {
            while runs() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = timeout(Duration::from_secs(30), waiting).await;
        waited.expect("the process was killed");
    }

    #[tokio::test]
    async fn whatever_a_process_does_is_a_text_or_an_error() {
        let damaged = || Err(ReadError::Pdf(Failure::Unreadable));
        for (script, expected) in [
            ("cat", Ok("pdf".to_owned())),
            // The process ends before it has read the PDF.
            ("exit 0", Ok(String::new())),
            ("exit 11", Err(ReadError::Pdf(Failure::Encrypted))),
            ("cat; exit 12", Err(ReadError::Pdf(Failure::TooManyPages))),
            ("exit 101", damaged()),
            ("kill -SEGV $$", damaged()),
            ("kill -KILL $$", damaged()),
            ("printf '\\377'", damaged()),
            // A text without an end is read up to its limit.
            ("yes", damaged()),
        ] {
            let read = text_within(script, b"pdf", Duration::from_mins(1)).await;
            assert_eq!(read, expected, "{script}");
        }
    }

    #[tokio::test]
    async fn a_process_gets_no_environment_and_one_that_cannot_start_is_an_error() {
        let read = text_within("/usr/bin/env", b"", Duration::from_mins(1)).await;
        let read = read.expect("a list");
        // The shell itself sets some.
        let own = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
        let mut others = read
            .lines()
            .filter(|line| !own.iter().any(|own| line.starts_with(own)));
        assert_eq!(others.next(), None);
        let nothing = Command::new("/nowhere/loggia");
        let read = text_of(nothing, Bytes::new(), Duration::from_mins(1)).await;
        assert_eq!(read, Err(ReadError::NotNow));
    }
}
