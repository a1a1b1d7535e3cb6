//! A loaded model as a process: this program, run as `loggia engine`. Its standard input has the
//! model's options and then the calls, its standard output the answers. It logs where this process
//! logs.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use loggia_backend::Backend;
use loggia_backend::process::{ConnectError, Host, Remote};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::model_spec::ModelSpec;
use super::start::{Start, Started};
use super::whisper;

/// The size from which glibc gives a buffer pages of its own, which go back to the system when it is
/// freed. Without the variable, glibc raises that size up to 32 MiB when large buffers are freed, and
/// later ones leave gaps in the heap. Smaller buffers, such as the candidates of a token, are
/// allocated often and stay in the heap. The conversations of the prompt cache have their own pages
/// anyway.
const MMAP_THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
const MMAP_THRESHOLD_BYTES: &str = "8388608";

/// Starts engines as child processes.
pub(super) struct Processes;

impl Start for Processes {
    fn start(&self, spec: &ModelSpec) -> BoxFuture<'static, Result<Started, String>> {
        let spec = spec.clone();
        Box::pin(async move { start(&spec).await })
    }
}

async fn start(spec: &ModelSpec) -> Result<Started, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find the path of this program: {error}"))?;
    let mut command = Command::new(program);
    // The name is only for lists of processes.
    command
        .arg("engine")
        .arg(&spec.name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    // The options come over standard input. The process must not see the API keys in the
    // environment, nor those of a collector.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| {
            let is_own = name.starts_with("LOGGIA_") && name != crate::logs::LEVELS;
            is_own || name.starts_with("OTEL_")
        }) {
            command.env_remove(name);
        }
    }
    command.envs(crate::logs::for_other_processes());
    command.envs(
        loggia_llama::waiting(|name| std::env::var_os(name).is_some())
            .iter()
            .copied(),
    );
    whisper::set_threads(&mut command, spec);
    if std::env::var_os(MMAP_THRESHOLD).is_none() {
        command.env(MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
    }
    // Ctrl-C must only reach the main process, so that running answers can finish.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start its process: {error}"))?;
    let pipes = (child.stdout.take(), child.stdin.take());
    let (Some(output), Some(input)) = pipes else {
        return Err("its process has no pipes".to_owned());
    };
    match Remote::connect("embedded", spec, output, input).await {
        Ok(remote) => Ok(started(remote, spec, child)),
        Err(ConnectError::Failed(why)) => Err(why),
        Err(ConnectError::Ended) => Err(ended_while_loading(&mut child).await),
    }
}

fn started(remote: Remote, spec: &ModelSpec, mut child: Child) -> Started {
    let kill = Arc::new(Notify::new());
    let asked_to = Arc::clone(&kill);
    let exited = async move {
        let ended = tokio::select! {
            ended = child.wait() => ended,
            () = asked_to.notified() => match child.start_kill() {
                Ok(()) => child.wait().await,
                Err(error) => Err(error),
            },
        };
        ended.map_or_else(|error| error.to_string(), how)
    };
    Started {
        known: remote.known().to_vec(),
        backend: whisper::queued(remote, spec),
        exited: Box::pin(exited),
        kill,
    }
}

/// Why a process ended without a message: most often llama.cpp aborted it.
async fn ended_while_loading(child: &mut Child) -> String {
    let how = child
        .wait()
        .await
        .map_or_else(|error| error.to_string(), how);
    format!(
        "its process ended while it was loading ({how}); the file may be damaged: fetch it again, and compare its \
         checksum with the publisher's. Or there was no memory for it: lower --context or --parallel"
    )
}

fn how(status: ExitStatus) -> String {
    status.to_string()
}

/// `loggia engine`: loads a model and serves it until standard input ends.
pub(crate) async fn run() -> anyhow::Result<()> {
    ignore_signals()?;
    let (input, output) = standard_pipes()?;
    let mut host = Host::new(input, output);
    let spec: Option<ModelSpec> = host.opening().await;
    let Some(spec) = spec else {
        anyhow::bail!("`loggia engine` is only for `loggia serve`, which starts it");
    };
    tracing::info!(model = spec.name, file = %spec.file.display(), "loading a model");
    match tokio::task::spawn_blocking(move || open(&spec)).await? {
        Ok(backend) => Ok(host.serve(backend).await?),
        Err(why) => {
            host.failed(&why).await;
            Ok(())
        }
    }
}

/// Loads the model. The error is the reason.
fn open(spec: &ModelSpec) -> Result<Arc<dyn Backend>, String> {
    if let Some(files) = &spec.whisper {
        whisper::limit(files);
        return whisper::open(files, spec).map_err(|error| error.to_string());
    }
    let llama = loggia_llama::open(&spec.options()).map_err(|error| error.to_string())?;
    Ok(llama)
}

/// Standard input and output, as pipes: each read and write is one system call, without a helper
/// thread.
#[cfg(unix)]
fn standard_pipes() -> anyhow::Result<(
    tokio::net::unix::pipe::Receiver,
    tokio::net::unix::pipe::Sender,
)> {
    use std::os::fd::AsFd as _;
    use tokio::net::unix::pipe;
    let no_pipe = "`loggia engine` is only for `loggia serve`, which starts it with pipes";
    let input = pipe::Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)
        .context(no_pipe)?;
    let output = pipe::Sender::from_owned_fd(std::io::stdout().as_fd().try_clone_to_owned()?)
        .context(no_pipe)?;
    Ok((input, output))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn standard_pipes() -> anyhow::Result<(tokio::io::Stdin, tokio::io::Stdout)> {
    Ok((tokio::io::stdin(), tokio::io::stdout()))
}

/// Ignores signals: a service manager signals every process of a service, but the main process ends
/// its engines itself, after their answers.
#[cfg(unix)]
fn ignore_signals() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move { while signals.recv().await.is_some() {} });
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn ignore_signals() -> anyhow::Result<()> {
    Ok(())
}
