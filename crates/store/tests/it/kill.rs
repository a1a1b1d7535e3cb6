//! `kill -9` at any moment: everything reported as stored is in the file, and every object is
//! complete.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use loggia_api::store::{Item, Kind, Order, Owner, Side, Store};
use loggia_store::{Retention, SqlStore};

use crate::{at, conversation, ids, labels, page};

/// The variable with the path of the file, for the process that is killed.
const FILE: &str = "LOGGIA_STORE_TEST_FILE";

const ROUNDS: u64 = 30;
const KIND: Kind = Kind::Conversation;

/// Runs in the process that is killed: stores, appends and deletes, and prints what is done.
#[tokio::test]
#[ignore = "the process that another test kills"]
async fn writes_until_it_is_killed() {
    let Ok(path) = std::env::var(FILE) else {
        return;
    };
    let store = SqlStore::in_file(path, Retention::default());
    let owner = Owner::NOBODY;
    let begun = std::process::id();
    let tell = |what: &str, id: &str| {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "\n{what} {id}");
        let _ = out.flush();
    };
    for number in 0.. {
        let id = format!("conv_{begun}_{number}");
        // The metadata says how many items the object has: those of this write or of the next.
        let mut object = conversation(&id);
        object.metadata = labels(&[("a", "1"), ("b", "2")]);
        store
            .create(&owner, object, some_items(number, 0))
            .await
            .expect("stored");
        tell("created", &id);
        store
            .append(at(&owner, KIND, &id), some_items(number, 5))
            .await
            .expect("stored");
        tell("appended", &id);
        if number % 3 == 0 {
            store.delete(at(&owner, KIND, &id)).await.expect("deleted");
            tell("deleted", &id);
        }
    }
}

/// Creates five items, of a few bytes to several pages.
fn some_items(number: u64, first: u64) -> Vec<Item> {
    let item = |index| {
        let size = usize::try_from(number * 37 % 11 * 1500 + index).unwrap_or(0);
        Item {
            id: format!("msg_{index}"),
            body: "x".repeat(size),
            side: Side::Input,
        }
    };
    (first..first + 5).map(item).collect()
}

#[tokio::test]
async fn every_object_is_whole_after_the_process_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let mut told = 0;
    for round in 0..ROUNDS {
        let lines = killed(&path, Duration::from_millis(40 + round * 7 % 90));
        told += lines.len();
        let store = SqlStore::in_file(&path, Retention::default());
        let there = ids(&store, &Owner::NOBODY, KIND).await;
        for (what, id) in &lines {
            let deleted = lines.contains(&("deleted".to_owned(), id.clone()));
            match what.as_str() {
                "deleted" => assert!(!there.contains(id), "{id} was deleted"),
                // The deletion may be done, but not printed yet.
                _ if deleted => {}
                _ => assert!(there.contains(id) || is_last(&lines, id), "{id} was {what}"),
            }
        }
        for id in &there {
            whole(
                &store,
                id,
                lines.contains(&("appended".to_owned(), id.clone())),
            )
            .await;
        }
    }
    assert!(
        told > 100,
        "only {told} writes in {ROUNDS} rounds: the test shows nothing"
    );
}

/// Returns whether the process was working on this object when it was killed.
fn is_last(lines: &[(String, String)], id: &str) -> bool {
    lines
        .last()
        .is_some_and(|(what, last)| what == "appended" && last == id)
}

async fn whole(store: &SqlStore, id: &str, appended: bool) {
    let owner = Owner::NOBODY;
    let there = at(&owner, KIND, id);
    let object = store.object(there).await.expect("an object");
    assert_eq!(object.metadata, labels(&[("a", "1"), ("b", "2")]));
    let number = id
        .rsplit_once('_')
        .and_then(|(_, number)| number.parse().ok());
    let number: u64 = number.expect("a number");
    let all = page(99, Order::Ascending, None);
    let found = store
        .items(there, Side::Input, &all)
        .await
        .expect("items")
        .data;
    let (mut half, rest) = (some_items(number, 0), some_items(number, 5));
    if found.len() > 5 || appended {
        half.extend(rest);
    }
    assert!(found == half, "{id} has {} items", found.len());
}

/// Starts the writing process, kills it after a while, and returns the lines that it printed.
fn killed(path: &Path, after: Duration) -> Vec<(String, String)> {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args([
            "--exact",
            "kill::writes_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut lines = Vec::new();
    let mut first = None;
    while let Some(Ok(line)) = out.next() {
        let words = line.split_once(' ');
        let told = words.filter(|(what, _)| ["created", "appended", "deleted"].contains(what));
        let Some((what, id)) = told else { continue };
        lines.push((what.to_owned(), id.to_owned()));
        // The time starts with the first write, so that a slow start does not matter.
        if first.get_or_insert_with(Instant::now).elapsed() > after {
            child.kill().expect("a process");
            break;
        }
    }
    // The lines that it printed before it was killed.
    lines.extend(out.map_while(Result::ok).filter_map(|line| {
        let (what, id) = line.split_once(' ')?;
        let known = ["created", "appended", "deleted"].contains(&what);
        known.then(|| (what.to_owned(), id.to_owned()))
    }));
    child.wait().expect("a process");
    lines
}
