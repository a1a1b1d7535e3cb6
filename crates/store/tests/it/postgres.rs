//! PostgreSQL: a server of the tests' own, and behaviour that only PostgreSQL has. The suite runs
//! over it, too.
//!
//! The server belongs to this process: it listens on a Unix socket in a folder of its own, and it
//! is stopped and deleted when the process ends, however it ends. Without PostgreSQL on the machine
//! these tests are skipped, unless `LOGGIA_TEST_POSTGRES=required` is set.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use loggia_api::store::{Change, Kind, Owner, Store, StoreError};
use loggia_store::{OpenError, Retention, SqlStore};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _, Row as _};

use crate::file::{EARLIER, check_earlier};
use crate::retention::{Forest, text};
use crate::suite::key;
use crate::{at, conversation, ids, items, response};

/// Runs the server until the standard input ends, that is, until the process of the tests ends.
const UNTIL_THE_END: &str = r#"
"$1" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c autovacuum=off -c max_connections=200 >"$2/log" 2>&1 &
server=$!
echo $server
read -r _
kill -INT $server
wait $server
[ -z "$3" ] || rm -rf "$2"
"#;

/// A server, and the folder with its data and its socket.
struct Server {
    folder: PathBuf,
    bin: PathBuf,
    process: Option<Child>,
    user: Option<String>,
}

/// The folder of PostgreSQL's programs.
fn bin() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // Debian does not put them on the path.
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut versions: Vec<PathBuf> = debian.flatten().map(|one| one.path().join("bin")).collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders
        .into_iter()
        .find(|folder| folder.join("initdb").exists())
}

/// A user who is not root: PostgreSQL refuses to run as root.
fn user() -> Option<String> {
    let is_root = output(Command::new("id").arg("-u")) == "0";
    let exists = |user: &&str| {
        let id = Command::new("id").arg("-u").arg(user).output();
        id.is_ok_and(|id| id.status.success())
    };
    let user = || ["postgres", "nobody"].into_iter().find(exists);
    is_root.then(|| user().expect("a user").to_owned())
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("a program");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Server {
    /// Creates a server and starts it. With `and_delete`, its folder is deleted when it stops.
    fn new(and_delete: bool) -> Option<Self> {
        let Some(bin) = bin() else {
            let is_required = std::env::var("LOGGIA_TEST_POSTGRES").is_ok();
            assert!(!is_required, "no PostgreSQL: install Debian's `postgresql`");
            eprintln!("no PostgreSQL on this machine: skipped");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("loggia-pg-").tempdir();
        let folder = folder.expect("a folder").keep();
        let user = user();
        if let Some(user) = &user {
            let owned = Command::new("chown").arg(user).arg(&folder).status();
            assert!(owned.is_ok_and(|owned| owned.success()));
        }
        let mut server = Self {
            folder,
            bin,
            process: None,
            user,
        };
        let mut initdb = server.command(server.bin.join("initdb"));
        initdb.arg("-D").arg(server.folder.join("data"));
        initdb.args([
            "-U",
            "loggia",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C",
        ]);
        let made = initdb.output().expect("initdb");
        assert!(made.status.success(), "{made:?}");
        server.start(and_delete);
        Some(server)
    }

    /// A command as the user who may run the server.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid", user, "--clear-groups"])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(&self.folder);
        command
    }

    fn start(&mut self, and_delete: bool) {
        let mut command = self.command("sh");
        command.args(["-c", UNTIL_THE_END, "sh"]);
        command.arg(self.bin.join("postgres")).arg(&self.folder);
        command.arg(if and_delete { "delete" } else { "" });
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("a shell");
        let mut line = String::new();
        let out = process.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        self.process = Some(process);
    }

    /// Stops the server, and keeps its data.
    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().expect("a process");
        }
    }

    fn url(&self, database: &str) -> String {
        let folder = self.folder.display();
        format!("postgres://loggia@localhost/{database}?host={folder}")
    }

    /// Connects, once the server has started.
    async fn connect(&self) -> PgConnection {
        let begun = Instant::now();
        loop {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => return connection,
                Err(error) => assert!(begun.elapsed() < Duration::from_mins(1), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name}");
        let mut connection = self.connect().await;
        connection.execute(&*create).await.expect("a database");
        self.url(&name)
    }
}

/// The address of a new, empty database. `None` if there is no PostgreSQL.
pub(crate) async fn database() -> Option<String> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::new(true)).as_ref()?;
    Some(server.database().await)
}

fn open(url: &str) -> SqlStore {
    SqlStore::in_database(url, Retention::default()).expect("an address")
}

#[tokio::test]
async fn several_servers_share_a_database_and_its_holds() {
    let Some(url) = database().await else { return };
    // Both servers start at the same time, and find an empty database.
    let (one, other) = (open(&url), open(&url));
    let (first, second) = tokio::join!(one.open(), other.open());
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    let owner = key("a");
    let created = one.create(&owner, response("r", None), items(&["i"])).await;
    assert_eq!(created, Ok(()));
    let hold = |holder: &str, time| {
        vec![Change::Hold {
            kind: Kind::Response,
            id: "r".to_owned(),
            holder: holder.to_owned(),
            time,
        }]
    };
    let long = Duration::from_mins(10);
    assert_eq!(one.write(&owner, hold("one", long)).await, Ok(()));
    let there = at(&owner, Kind::Response, "r");
    assert!(other.object(there).await.expect("an object").is_held);
    let refused = other.write(&owner, hold("other", long)).await;
    assert_eq!(refused, Err(StoreError::InUse));
    // The first server is killed, and its hold runs out.
    assert_eq!(one.write(&owner, hold("one", Duration::ZERO)).await, Ok(()));
    assert_eq!(other.write(&owner, hold("other", long)).await, Ok(()));
    assert_eq!(
        one.write(&owner, hold("one", long)).await,
        Err(StoreError::InUse)
    );
}

#[tokio::test]
async fn of_many_servers_that_want_a_hold_at_once_one_gets_it() {
    let Some(url) = database().await else { return };
    let stores: Vec<SqlStore> = (0..4).map(|_| open(&url)).collect();
    let owner = Owner::NOBODY;
    for round in 0..20 {
        let id = format!("r{round}");
        let created = stores[0]
            .create(&owner, response(&id, None), Vec::new())
            .await;
        assert_eq!(created, Ok(()));
        let writes = stores.iter().enumerate().map(|(number, store)| {
            let change = Change::Hold {
                kind: Kind::Response,
                id: id.clone(),
                holder: format!("h{number}"),
                time: Duration::from_mins(10),
            };
            store.write(&owner, vec![change])
        });
        let taken = futures_util::future::join_all(writes).await;
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1);
        let held = taken
            .iter()
            .filter(|taken| **taken == Err(StoreError::InUse));
        assert_eq!(held.count(), 3);
    }
}

/// Two writes that lock the same objects in opposite orders wait for each other.
#[tokio::test]
async fn writes_that_wait_for_each_other_are_both_made() {
    let Some(url) = database().await else { return };
    let store = open(&url);
    let owner = Owner::NOBODY;
    for id in ["a", "b"] {
        let created = store.create(&owner, conversation(id), Vec::new()).await;
        assert_eq!(created, Ok(()));
    }
    let append = |id: &str, item: &str| Change::Append {
        kind: Kind::Conversation,
        id: id.to_owned(),
        items: items(&[item]),
    };
    for round in 0..10 {
        let (one, other) = (format!("one{round}"), format!("other{round}"));
        let (first, second) = tokio::join!(
            store.write(&owner, vec![append("a", &one), append("b", &one)]),
            store.write(&owner, vec![append("b", &other), append("a", &other)])
        );
        assert_eq!((first, second), (Ok(()), Ok(())), "{round}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_and_works_once_it_is_back() {
    let Some(mut server) = Server::new(false) else {
        return;
    };
    server.connect().await;
    let url = server.database().await;
    let (store, owner) = (open(&url), Owner::NOBODY);
    let created = store.create(&owner, conversation("a"), items(&["i"])).await;
    assert_eq!(created, Ok(()));
    for round in 0..2 {
        server.stop();
        let fresh = open(&url);
        for store in [&store, &fresh] {
            let begun = Instant::now();
            let id = format!("away{round}");
            for refused in [
                store.ready().await.err(),
                store
                    .create(&owner, conversation(&id), Vec::new())
                    .await
                    .err(),
                store
                    .object(at(&owner, Kind::Conversation, "a"))
                    .await
                    .err(),
            ] {
                assert!(matches!(refused, Some(StoreError::Unavailable { .. })));
            }
            assert!(begun.elapsed() < Duration::from_secs(30));
        }
        assert!(matches!(fresh.open().await, Err(OpenError::Reach { .. })));
        server.start(false);
        server.connect().await;
        for store in [&store, &fresh] {
            assert_eq!(store.ready().await, Ok(()));
            assert_eq!(ids(store, &owner, Kind::Conversation).await, ["a"]);
        }
    }
    server.stop();
    std::fs::remove_dir_all(&server.folder).expect("a folder");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let Some(url) = database().await else { return };
    let store = open(&url);
    assert!(matches!(store.survey().await, Ok(None)), "no table is made");
    assert!(store.open().await.is_ok());
    let mut connection = PgConnection::connect(&url).await.expect("a database");
    let newer = "UPDATE loggia_schema SET version = version + 7";
    assert!(connection.execute(newer).await.is_ok());
    let store = open(&url);
    for refused in [store.open().await.err(), store.survey().await.err()] {
        let Some(OpenError::NewerDatabase { found, known, .. }) = &refused else {
            panic!("{refused:?}");
        };
        assert_eq!(*found, known + 7);
    }
    let refused = store.ready().await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_database_with_an_earlier_schema_keeps_its_objects() {
    let Some(url) = database().await else { return };
    let mut connection = PgConnection::connect(&url).await.expect("a database");
    for statements in [
        include_str!("../../migrations/postgres/0001.sql"),
        include_str!("../../migrations/postgres/0002.sql"),
        include_str!("../../migrations/postgres/0003.sql"),
        include_str!("../../migrations/postgres/0004.sql"),
        include_str!("../../migrations/postgres/0005.sql"),
        include_str!("../../migrations/postgres/0006.sql"),
        "CREATE TABLE loggia_schema (version BIGINT NOT NULL);
        INSERT INTO loggia_schema VALUES (6);",
        EARLIER,
        // As if their numbers had been given by the database.
        "SELECT setval('objects_seq_seq', 100), setval('items_seq_seq', 100)",
    ] {
        assert!(connection.execute(statements).await.is_ok());
    }
    check_earlier(&open(&url)).await;
}

#[tokio::test]
async fn retention_deletes_the_old_and_the_oldest_of_too_many() {
    let Some(url) = database().await else { return };
    let retention = Retention {
        bytes: 150_000,
        ..Retention::default()
    };
    let store = SqlStore::in_database(&url, retention).expect("an address");
    let owner = Owner::NOBODY;
    let large = |id: &str| {
        let mut its = items(&[id]);
        its[0].body = text("i", 30_000).remove(0).body;
        its
    };
    for id in ["old", "a", "b", "c", "d"] {
        let created = store.create(&owner, conversation(id), large(id)).await;
        assert_eq!(created, Ok(()));
    }
    let mut connection = PgConnection::connect(&url).await.expect("a database");
    let older = "UPDATE objects SET changed = changed - 31 * 86400 WHERE id = 'old'";
    assert!(connection.execute(older).await.is_ok());
    assert_eq!(store.clean().await, Ok(()));
    assert_eq!(
        ids(&store, &owner, Kind::Conversation).await,
        ["b", "c", "d"]
    );
    let found = store.survey().await.expect("a database").expect("tables");
    assert_eq!(found.objects, [(Kind::Conversation, 3)]);
    assert!(found.bytes > 0);
}

#[tokio::test]
async fn a_clean_store_can_be_cleaned_by_another_server_at_once() {
    let Some(url) = database().await else { return };
    let store = SqlStore::in_database(&url, Retention::default()).expect("an address");
    let mut other = PgConnection::connect(&url).await.expect("a database");
    for _ in 0..200 {
        assert_eq!(store.clean().await, Ok(()));
        // The number of `LOCK_OF_ROOM`.
        let free = other.fetch_one("SELECT pg_try_advisory_xact_lock(5500124513)");
        let free: bool = free.await.expect("an answer").get(0);
        assert!(free, "the lock is held when the work is done");
    }
}

/// Without a call of `clean`, and with two servers that write.
#[tokio::test]
async fn servers_that_share_a_database_keep_its_limit_while_they_write() {
    let Some(url) = database().await else { return };
    let retention = Retention {
        age: None,
        bytes: 4 << 20,
    };
    let stores = [(); 2].map(|()| SqlStore::in_database(&url, retention).expect("an address"));
    let owner = Owner::NOBODY;
    let mut connection = PgConnection::connect(&url).await.expect("a database");
    let mut most = 0;
    for number in 0..300 {
        let (store, id) = (&stores[number % 2], format!("c{number:03}"));
        let its = text("i", 40_000);
        assert_eq!(store.create(&owner, conversation(&id), its).await, Ok(()));
        if number % 10 == 9 {
            let sum = "SELECT SUM(pg_column_size(body)) FROM items";
            let sum = sqlx::query_scalar::<_, i64>(sum);
            let bytes = sum.fetch_one(&mut connection).await.expect("a sum");
            most = most.max(bytes.unsigned_abs());
        }
    }
    let limit = retention.bytes;
    assert!((limit * 9 / 10..=limit).contains(&most), "{most} bytes");
    let left = ids(&stores[0], &owner, Kind::Conversation).await;
    let newest: Vec<_> = (300 - left.len()..300)
        .map(|number| format!("c{number:03}"))
        .collect();
    assert_eq!(left, newest);
}

/// The size is about that of the tables after PostgreSQL has cleaned them up, without that of empty
/// tables. Long texts, as here, take up to half more: they are cut into parts of a quarter of a page.
#[tokio::test]
async fn chains_make_room_in_the_order_of_their_youngest_response() {
    let Some(url) = database().await else { return };
    let open = |retention| SqlStore::in_database(&url, retention).expect("an address");
    let store = open(Retention::default());
    assert_eq!(store.ready().await, Ok(()));
    let mut connection = PgConnection::connect(&url).await.expect("a database");
    // While PostgreSQL analyses a table on its own, VACUUM keeps rows that were just deleted.
    for table in ["objects", "items", "labels"] {
        let off = "autovacuum_enabled = false, toast.autovacuum_enabled = false";
        let alter = format!("ALTER TABLE {table} SET ({off})");
        assert!(connection.execute(&*alter).await.is_ok());
    }
    let size = async |connection: &mut PgConnection| {
        let compact = connection.execute("VACUUM FULL objects, items, labels");
        assert!(compact.await.is_ok());
        store
            .survey()
            .await
            .expect("a database")
            .expect("tables")
            .bytes
    };
    let empty = size(&mut connection).await;
    let mut random = 7;
    for bytes in [400_000, 800_000, 1_600_000] {
        let forest = Forest::stored(&store, &mut random).await;
        for statement in forest.ages() {
            assert!(connection.execute(&*statement).await.is_ok());
        }
        let limited = open(Retention { age: None, bytes });
        assert_eq!(limited.clean().await, Ok(()));
        forest.check(&store).await;
        let used = size(&mut connection).await - empty;
        assert!(
            (bytes * 3 / 4..=bytes * 3 / 2).contains(&used),
            "{used} of {bytes}"
        );
        assert!(connection.execute("DELETE FROM objects").await.is_ok());
    }
}

#[tokio::test]
async fn what_is_no_address_is_refused_without_its_text() {
    for url in ["postgres://user:secret@host:port/db", "secret"] {
        let refused = SqlStore::in_database(url, Retention::default());
        let refused = refused.expect_err("no address");
        assert!(matches!(refused, OpenError::Address { .. }));
        assert!(!refused.to_string().contains("secret"));
    }
}
