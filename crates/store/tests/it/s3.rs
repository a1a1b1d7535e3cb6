//! `SeaweedFS`, an S3-compatible server: one of the tests' own, and what is particular to a bucket. The
//! tests of contents run over it, too.
//!
//! The server belongs to this process, listens on this machine only, and is deleted when the process
//! ends, whatever ends it. Where `SeaweedFS` (`weed`) is not installed, these tests are skipped, unless
//! `LOGGIA_TEST_S3=required` is set. `scripts/setup test` installs it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use loggia_api::store::{Blobs as _, StoreError};
use loggia_store::{BucketError, Retention, S3Blobs, S3Options, SqlStore};
use serde_json::Value;

use crate::blobs::{content, read, write};

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "id-of-the-tests"),
    ("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-tests"),
];

/// The identities of the server: one may do everything, one may only read.
const IDENTITIES: &str = r#"{"identities": [
    {"name": "loggia", "credentials": [{"accessKey": "id-of-the-tests", "secretKey": "a-secret-of-the-tests"}],
        "actions": ["Admin", "Read", "Write", "List"]},
    {"name": "reader", "credentials": [{"accessKey": "id-of-a-reader", "secretKey": "a-secret-of-the-tests"}],
        "actions": ["Read", "List"]}
]}"#;

/// Runs the server until the standard input ends, that is, until the process of the tests ends.
const UNTIL_THE_END: &str = r#"
folder=$1
shift
"$@" >"$folder/log" 2>&1 &
server=$!
echo $server
read -r keep
kill -KILL $server
wait $server
[ -n "$keep" ] || rm -rf "$folder"
"#;

/// A server, and the folder with its data.
pub(crate) struct Server {
    program: PathBuf,
    folder: PathBuf,
    ports: Ports,
    process: Option<Child>,
}

#[derive(Clone, Copy)]
struct Ports {
    s3: u16,
    filer: u16,
    others: [u16; 6],
}

impl Ports {
    /// Ports that nobody uses.
    fn free() -> Self {
        let listeners = [(); 8].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = listeners.map(|one| one.local_addr().expect("an address").port());
        let [s3, filer, others @ ..] = ports;
        Self { s3, filer, others }
    }
}

impl Server {
    /// Starts a server. `None` where `SeaweedFS` is not installed.
    pub(crate) fn new() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let programs = std::env::split_paths(&path).map(|folder| folder.join("weed"));
        let Some(program) = programs.into_iter().find(|program| program.exists()) else {
            let is_required = std::env::var("LOGGIA_TEST_S3").is_ok();
            assert!(!is_required, "no SeaweedFS: run scripts/setup test");
            eprintln!("no SeaweedFS on this machine: skipped");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("loggia-s3-").tempdir();
        let folder = folder.expect("a folder").keep();
        std::fs::create_dir(folder.join("data")).expect("a folder");
        std::fs::write(folder.join("identities.json"), IDENTITIES).expect("a file");
        let mut server = Self {
            program,
            folder,
            ports: Ports::free(),
            process: None,
        };
        server.start();
        Some(server)
    }

    /// Starts the server, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_THE_END, "sh"]).arg(&self.folder);
        command.arg(&self.program).arg("server");
        let Ports { s3, filer, others } = self.ports;
        let [
            master,
            master_grpc,
            volume,
            volume_grpc,
            filer_grpc,
            s3_grpc,
        ] = others;
        for (name, port) in [
            ("s3.port", s3),
            ("s3.port.grpc", s3_grpc),
            ("s3.port.iceberg", 0),
            ("s3.port.lance", 0),
            ("filer.port", filer),
            ("filer.port.grpc", filer_grpc),
            ("master.port", master),
            ("master.port.grpc", master_grpc),
            ("volume.port", volume),
            ("volume.port.grpc", volume_grpc),
        ] {
            command.arg(format!("-{name}={port}"));
        }
        let folder = self.folder.display();
        command.args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            // Without it, a restart waits 10 s for other masters.
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=0",
            &format!("-dir={folder}/data"),
            &format!("-s3.config={folder}/identities.json"),
            &format!("-s3.localSocket={folder}/s3.sock"),
            &format!("-filer.localSocket={folder}/filer.sock"),
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("a shell");
        let mut line = String::new();
        let out = process.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        self.process = Some(process);
        let begun = Instant::now();
        while http("GET", s3, "/healthz").is_none_or(|(status, _)| status != 200) {
            let log = || std::fs::read_to_string(self.folder.join("log"));
            assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the server, and keeps its data.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let stdin = process.stdin.take().expect("a pipe");
            writeln!(&stdin, "keep").expect("a line");
            drop(stdin);
            process.wait().expect("a process");
        }
    }

    /// A new, empty bucket.
    pub(crate) fn bucket(&self) -> Bucket {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("bucket-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = format!("/buckets/{name}/");
        let made = http("POST", self.ports.filer, &path).expect("an answer");
        assert_eq!(made.0, 201, "{}", made.1);
        Bucket {
            name,
            ports: self.ports,
        }
    }
}

/// A bucket.
#[derive(Clone)]
pub(crate) struct Bucket {
    name: String,
    ports: Ports,
}

impl Bucket {
    pub(crate) fn options(&self) -> S3Options {
        let address = format!("s3://{}/loggia", self.name).parse();
        let endpoint = format!("http://127.0.0.1:{}", self.ports.s3).parse();
        S3Options {
            endpoint: Some(endpoint.expect("a URL")),
            ..S3Options::new(address.expect("an address"))
        }
    }

    pub(crate) fn blobs(&self) -> S3Blobs {
        made(&self.options(), KEYS)
    }

    /// What is in the bucket, as the server's own file system shows it: the paths of objects, and one
    /// for each object that was not finished.
    pub(crate) fn names(&self) -> Vec<String> {
        let root = format!("/buckets/{}/", self.name);
        let mut names = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let path = format!("{folder}?limit=10000");
            let (status, text) = http("GET", self.ports.filer, &path).expect("an answer");
            assert!(matches!(status, 200 | 404), "{text}");
            let found: Value = serde_json::from_str(&text).unwrap_or_default();
            for entry in found["Entries"].as_array().into_iter().flatten() {
                let path = entry["FullPath"].as_str().expect("a path");
                let is_folder = entry["Mode"].as_u64().is_some_and(|mode| mode >> 31 == 1);
                if is_folder && !folder.ends_with("/.uploads/") {
                    folders.push(format!("{path}/"));
                } else {
                    names.push(path.trim_start_matches(&*root).to_owned());
                }
            }
        }
        names
    }
}

fn made(options: &S3Options, keys: [(&str, &str); 2]) -> S3Blobs {
    let find = |name: &str| {
        let found = keys.iter().find(|(one, _)| *one == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    S3Blobs::new(options, &find).expect("a client")
}

/// Sends a request to a port of this machine. `None` if it has no answer.
fn http(method: &str, port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nhost: 127.0.0.1\r\naccept: application/json\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
}

/// A new, empty bucket. `None` where `SeaweedFS` is not installed.
pub(crate) fn bucket() -> Option<Bucket> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(Server::new).as_ref()?;
    Some(server.bucket())
}

fn database(folder: &std::path::Path, name: &str) -> Arc<SqlStore> {
    Arc::new(SqlStore::in_file(folder.join(name), Retention::default()))
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_says_why_and_shows_no_secret() {
    let Some(bucket) = bucket() else { return };
    assert!(bucket.blobs().check().await.is_ok());
    assert!(bucket.names().is_empty(), "{:?}", bucket.names());
    let missing = S3Options {
        address: "s3://missing/loggia".parse().expect("an address"),
        ..bucket.options()
    };
    let found = made(&missing, KEYS).check().await;
    assert!(
        matches!(&found, Err(BucketError::NoBucket(name)) if name == "missing"),
        "{found:?}"
    );
    for (id, secret) in [
        ("id-of-the-tests", "another-secret"),
        ("id-of-nobody", "a-secret-of-the-tests"),
        ("id-of-a-reader", "a-secret-of-the-tests"),
    ] {
        let keys = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
        let blobs = made(&bucket.options(), keys);
        let found = blobs.check().await.expect_err("refused");
        assert!(matches!(found, BucketError::Refused(_)), "{id}: {found:?}");
        let (_, mut writer) = blobs.create("files/file-1").await.expect("a writer");
        assert_eq!(writer.write(Bytes::from_static(b"text")).await, Ok(()));
        let refused = writer.finish().await.expect_err("refused");
        for text in [
            format!("{found} {found:?}"),
            format!("{refused:?} {blobs:?} {blobs}"),
        ] {
            assert!(!text.contains("secret") && !text.contains(id), "{text}");
            assert!(!text.contains("Signature="), "{text}");
        }
    }
    // Nothing listens at this port.
    let away = S3Options {
        endpoint: Some("http://127.0.0.1:9".parse().expect("a URL")),
        ..bucket.options()
    };
    let found = made(&away, KEYS).check().await;
    assert!(matches!(&found, Err(BucketError::Away(_))), "{found:?}");
}

#[tokio::test]
async fn a_large_content_is_sent_in_parts_and_read_in_ranges() {
    const PART: usize = 5 << 20;
    let Some(bucket) = bucket() else { return };
    let blobs = bucket.blobs();
    for length in [PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 7] {
        let whole = content(length);
        let place = write(&blobs, &format!("files/file-{length}"), &whole).await;
        assert_eq!(place, format!("files/file-{length}"));
        assert!(read(&blobs, &place, 0, length).await == whole, "{length}");
        let (from, to) = (length - 1_000_000, length - 3);
        let part = read(&blobs, &place, from, to).await;
        assert!(part == whole[from..to], "{length}: the end");
    }
    let names = bucket.names();
    assert!(
        names.len() == 5 && names.iter().all(|name| !name.contains(".uploads")),
        "{names:?}"
    );
}

#[tokio::test]
async fn leftovers_are_old_and_of_the_own_database_only() {
    let Some(bucket) = bucket() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (own, other) = (
        database(folder.path(), "own.db"),
        database(folder.path(), "other.db"),
    );
    let young = bucket.blobs().with_database(Arc::clone(&own));
    let old = || bucket.blobs().with_ages(Duration::ZERO, Duration::ZERO);
    let all = async |blobs: S3Blobs| {
        use futures_util::TryStreamExt as _;
        let pages: Vec<Vec<String>> = blobs.leftovers().await?.try_collect().await?;
        let mut places = pages.concat();
        places.sort();
        Ok::<_, StoreError>(places)
    };
    let file = write(&young, "files/file-1", b"text").await;
    let part = write(&young, "parts/upload_1/part_1", b"text").await;
    // Two databases come at once: one of them gets the bucket.
    let first = old().with_database(Arc::clone(&own)).check_database().await;
    assert!(first.is_ok(), "{first:?}");
    let theirs = old().with_database(other);
    let refused = theirs.check_database().await;
    assert!(
        matches!(refused, Err(BucketError::OtherDatabase)),
        "{refused:?}"
    );
    assert!(all(theirs).await.is_err());
    // A server that stores the object soon may have written what is young.
    assert_eq!(all(young).await, Ok(Vec::new()));
    let own = old().with_database(own);
    let whole = write(&own, "files/file-2", &content(6 << 20)).await;
    let (_, mut writer) = own.create("files/file-3").await.expect("a writer");
    assert_eq!(writer.write(content(6 << 20).into()).await, Ok(()));
    // As if the process had been killed.
    std::mem::forget(writer);
    let unfinished = || {
        bucket
            .names()
            .iter()
            .filter(|name| name.contains(".uploads"))
            .count()
    };
    assert_eq!(unfinished(), 1);
    // Both times have full seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(all(own).await, Ok(vec![file, whole, part]));
    assert_eq!(unfinished(), 0, "{:?}", bucket.names());
}

#[tokio::test]
async fn a_server_that_was_away_works_again() {
    let Some(mut server) = Server::new() else {
        return;
    };
    let blobs = server.bucket().blobs();
    let place = write(&blobs, "files/file-1", &content(100_000)).await;
    let (_, mut writer) = blobs.create("files/file-2").await.expect("a writer");
    assert_eq!(writer.write(content(6 << 20).into()).await, Ok(()));
    server.kill();
    let away =
        |found: &Result<(), StoreError>| matches!(found, Err(StoreError::Unavailable { .. }));
    let begun = Instant::now();
    let found = blobs.read(&place, 0..10).await.map(|_| ());
    assert!(away(&found), "{found:?}");
    let found = writer.finish().await;
    assert!(away(&found), "{found:?}");
    let found = blobs.delete(&place).await;
    assert!(away(&found), "{found:?}");
    // Clients wait meanwhile.
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    server.start();
    // It answers before it finds its contents again.
    let begun = Instant::now();
    while blobs.read(&place, 0..10).await.is_err() {
        assert!(begun.elapsed() < Duration::from_mins(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(read(&blobs, &place, 0, 100_000).await == content(100_000));
    write(&blobs, "files/file-3", &content(6 << 20)).await;
    assert_eq!(blobs.delete(&place).await, Ok(()));
    // The folder goes with the server.
    drop(server.process.take());
}
