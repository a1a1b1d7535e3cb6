//! Reads a PDF in a process of its own. A PDF that crashes the library, or makes it loop, ends only
//! that process.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::pdf::{Failure, LONGEST_TEXT};

/// How long a PDF may take.
const TIME: Duration = Duration::from_secs(20);

/// Returns the text of a PDF.
///
/// # Errors
/// Returns what is wrong with the PDF, in words for the client.
pub(super) async fn text(pdf: Bytes) -> Result<String, String> {
    match timeout(TIME, read(pdf)).await {
        Ok(read) => read,
        Err(_) => Err(format!("it took longer than {} s to read", TIME.as_secs())),
    }
}

async fn read(pdf: Bytes) -> Result<String, String> {
    let failed = |error: std::io::Error| {
        tracing::warn!(%error, "the process that reads PDFs failed");
        "this server cannot read PDFs at the moment".to_owned()
    };
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command
        .arg("read-pdf")
        // The process needs nothing of the environment, and must not see the API keys in it.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("this server cannot read PDFs at the moment".to_owned());
    };
    let writing = async move {
        // The process may end before it has read everything.
        let _ = input.write_all(&pdf).await;
        let _ = input.shutdown().await;
    };
    let mut text = String::new();
    let limit = LONGEST_TEXT as u64 + 1;
    let mut output = output.take(limit);
    let ((), received) = tokio::join!(writing, output.read_to_string(&mut text));
    drop(output);
    let status = child.wait().await.map_err(failed)?;
    match status.code() {
        Some(0) if received.is_ok() => Ok(text),
        Some(code) => Err(Failure::of_code(code).to_string()),
        // It was killed by a signal.
        None => Err(Failure::Unreadable.to_string()),
    }
}
