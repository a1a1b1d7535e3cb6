//! Starts and stops the two gateways and other servers, each with its own port and folder.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
    },
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;

/// The API key of the client.
pub(crate) const KEY: &str = "sk-of-the-benchmark-0123456789";

/// A running gateway, stopped on drop.
pub(crate) struct Gateway {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// The process that does the work: nginx's worker, not its master.
    pub(crate) pid: u32,
    child: Child,
    folder: TempDir,
}

/// Raises the limit of open files to the machine's maximum, for this process and those that it
/// starts. Returns it.
pub(crate) fn allow_many_files() -> Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

/// How Loggia is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Whether the stand-in is an Ollama, and not an engine with OpenAI's API.
    pub(crate) is_ollama: bool,
    /// Whether requests need an API key, and each key has limits.
    pub(crate) has_keys: bool,
}

impl Setup {
    /// An Ollama, and no keys.
    pub(crate) const PLAIN: Self = Self {
        is_ollama: true,
        has_keys: false,
    };

    pub(crate) fn name(self) -> &'static str {
        match (self.is_ollama, self.has_keys) {
            (true, false) => "Loggia, Ollama",
            (true, true) => "Loggia, Ollama, with API keys and limits",
            (false, false) => "Loggia, an engine with OpenAI's API",
            (false, true) => "Loggia, an engine with OpenAI's API, with API keys and limits",
        }
    }
}

/// Starts Loggia in front of the Ollama at `upstream`, with default settings except for the log,
/// because nginx writes none either.
pub(crate) fn loggia(program: &Path, upstream: SocketAddr) -> Result<Gateway> {
    loggia_as(program, upstream, Setup::PLAIN)
}

/// Starts Loggia with this setup. It accepts as many connections as the machine allows.
pub(crate) fn loggia_as(program: &Path, upstream: SocketAddr, setup: Setup) -> Result<Gateway> {
    let (folder, address) = (tempfile::tempdir()?, free_address()?);
    let backend = if setup.is_ollama {
        ["--ollama".to_owned(), format!("http://{upstream}")]
    } else {
        ["--openai".to_owned(), format!("engine=http://{upstream}")]
    };
    let mut command = Command::new(program);
    command
        .args(["serve", "--listen", &address.to_string()])
        .args(backend)
        .args(["--max-connections", "100000", "--data-dir"])
        .arg(folder.path())
        .env("LOGGIA_LOG", "error");
    if setup.has_keys {
        let limits = "requests_per_minute=1000000,tokens_per_minute=1000000000,streams=100000";
        command
            .env("LOGGIA_KEYS", "bench")
            .env("LOGGIA_KEY_BENCH", KEY)
            .args(["--limits", limits]);
    }
    Gateway::start("Loggia", command, folder, address)
}

/// Starts nginx with one worker that passes everything through to `upstream`.
pub(crate) fn nginx(program: &Path, upstream: SocketAddr) -> Result<Gateway> {
    let (folder, address) = (tempfile::tempdir()?, free_address()?);
    fs::write(
        folder.path().join("nginx.conf"),
        nginx_configuration(address, upstream),
    )?;
    let mut command = Command::new(program);
    command
        .arg("-p")
        .arg(folder.path())
        .args(["-e", "stderr", "-c", "nginx.conf"]);
    let mut gateway = Gateway::start("nginx", command, folder, address)?;
    gateway.pid = only_child(gateway.pid)?;
    Ok(gateway)
}

/// Streams are passed on at once (`proxy_buffering off`), connections to the upstream are kept
/// open, and nothing is logged.
fn nginx_configuration(address: SocketAddr, upstream: SocketAddr) -> String {
    // As root, nginx would run its worker as `nobody`, which cannot enter the folder.
    let user = if geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    format!(
        "{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
events {{ worker_connections 9000; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 100000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream engine {{
        server {upstream};
        keepalive 256;
        keepalive_requests 100000000;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering off;
        }}
    }}
}}
"
    )
}

impl Gateway {
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        folder: TempDir,
        address: SocketAddr,
    ) -> Result<Self> {
        let log = File::create(folder.path().join("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("could not start {}", command.get_program().display()))?;
        let mut gateway = Self {
            name,
            address,
            pid: child.id(),
            child,
            folder,
        };
        gateway.wait_until_it_listens()?;
        Ok(gateway)
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if self.child.try_wait()?.is_some() || begun.elapsed() > Duration::from_secs(10) {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                bail!(
                    "{} does not listen on {}; its output: {log}",
                    self.name,
                    self.address
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // SIGTERM and not SIGKILL, so that nginx's master ends its worker too.
        if let Ok(pid) = self.child.id().try_into() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(5) {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A free address. If another program takes it before the gateway does, the start fails with an
/// error.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn only_child(pid: u32) -> Result<u32> {
    let begun = Instant::now();
    loop {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        if let Some(child) = children.split_whitespace().next() {
            return Ok(child.parse()?);
        }
        if begun.elapsed() > Duration::from_secs(5) {
            bail!("nginx started no worker");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
