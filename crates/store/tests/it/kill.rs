//! `kill -9` at any moment: everything reported as stored is there afterwards, and every object is
//! complete. `LOGGIA_KILL_ROUNDS=200` makes it longer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loggia_api::store::{
    Change, Filter, Item, Kind, NeededHold, Object, ObjectRef, Order, Owner, Side, Store,
    StoreError,
};
use loggia_store::{Retention, SqlStore};

use crate::postgres::database;
use crate::{at, chat, conversation, labels, on, page, response};

/// Gives the process that is to be killed the place of its store.
const PLACE: &str = "LOGGIA_STORE_TEST_PLACE";

/// How long the killed process had a hold on its objects.
const HOLD: Duration = Duration::from_millis(300);

const OWNER: Owner = Owner::NOBODY;
/// Every second chat is deleted.
const ODD: [char; 5] = ['1', '3', '5', '7', '9'];

const BEGUN: &str = r#"{"status":"in_progress"}"#;
const COMPLETED: &str = r#"{"status":"completed"}"#;

fn open(place: &str) -> SqlStore {
    if place.starts_with("postgres:") {
        SqlStore::in_database(place, Retention::default()).expect("an address")
    } else {
        SqlStore::in_file(place, Retention::default())
    }
}

/// The process that is killed: four tasks write until then, and report what is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test kills"]
async fn writes_until_it_is_killed() {
    let Ok(place) = std::env::var(PLACE) else {
        return;
    };
    let store = Arc::new(open(&place));
    let tasks = (0..4).map(|task| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in 0.. {
                let id = format!("{}_{task}_{number}", std::process::id());
                match (task + number) % 3 {
                    0 => write_chat(&*store, &id).await,
                    1 => write_background(&*store, &id).await,
                    _ => write_turns(&*store, &id).await,
                }
            }
        })
    });
    futures_util::future::join_all(tasks).await;
}

/// Reports to the test that an object is stored.
fn tell(what: &str, id: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n{what} {id}");
    let _ = out.flush();
}

async fn write(store: &dyn Store, changes: Vec<Change>) {
    store.write(&OWNER, changes).await.expect("stored");
}

/// Five items, of sizes from a few bytes to several pages.
fn five(side: Side, first: usize) -> Vec<Item> {
    let item = |index: usize| Item {
        id: format!("msg_{index}"),
        body: "x".repeat(index * 37 % 11 * 700 + index),
        side,
    };
    (first..first + 5).map(item).collect()
}

/// A chat, of which every second is deleted.
async fn write_chat(store: &dyn Store, id: &str) {
    let id = format!("chat_{id}");
    let object = chat(&id, "m", &[("a", "1"), ("b", "2")]);
    let items = five(Side::Input, 0);
    write(store, vec![Change::Create { object, items }]).await;
    tell("stored", &id);
    if id.ends_with(ODD) {
        let deleted = store.delete(at(&OWNER, Kind::ChatCompletion, &id)).await;
        deleted.expect("deleted");
        tell("deleted", &id);
    }
}

/// Writes a background response: it is created, its stream grows, and it is replaced when it has
/// ended.
async fn write_background(store: &dyn Store, id: &str) {
    let id = format!("resp_{id}");
    let holder = Some("killed".to_owned());
    let object = Object {
        body: BEGUN.to_owned(),
        ..response(&id, None)
    };
    let items = five(Side::Input, 0);
    let begin = Change::Create { object, items };
    write(store, vec![begin, hold(&id, "killed", HOLD)]).await;
    tell("stored", &id);
    for first in [0, 5] {
        let events = Change::Append {
            kind: Kind::Response,
            id: id.clone(),
            items: five(Side::Stream, first),
        };
        write(store, vec![hold(&id, "killed", HOLD), events]).await;
    }
    let completed = Change::Replace {
        kind: Kind::Response,
        id: id.clone(),
        body: COMPLETED.to_owned(),
        items: five(Side::Output, 0),
        needs: holder.clone().map(NeededHold::Of),
    };
    let release = Change::Release {
        kind: Kind::Response,
        id: id.clone(),
        holder,
    };
    write(store, vec![completed, release]).await;
    tell("completed", &id);
}

/// A conversation with three turns: each adds items to it and stores a response.
async fn write_turns(store: &dyn Store, id: &str) {
    let conversation_id = format!("conv_{id}");
    let object = conversation(&conversation_id);
    let items = five(Side::Input, 0);
    write(store, vec![Change::Create { object, items }]).await;
    for turn in 1..=3 {
        let items = Change::Append {
            kind: Kind::Conversation,
            id: conversation_id.clone(),
            items: five(Side::Input, turn * 5),
        };
        let object = Object {
            body: COMPLETED.to_owned(),
            ..response(&format!("turn_{id}_{turn}"), None)
        };
        let items_of_turn = on(Side::Output, &["out"]);
        let create = Change::Create {
            object,
            items: items_of_turn,
        };
        write(store, vec![items, create]).await;
    }
    tell("completed", &conversation_id);
}

fn hold(id: &str, holder: &str, time: Duration) -> Change {
    Change::Hold {
        kind: Kind::Response,
        id: id.to_owned(),
        holder: holder.to_owned(),
        time,
    }
}

#[tokio::test]
async fn every_object_is_complete_after_the_process_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    kill_and_check(&path.display().to_string(), 20).await;
}

#[tokio::test]
async fn every_object_in_a_database_is_complete_after_the_process_was_killed() {
    let Some(url) = database().await else { return };
    kill_and_check(&url, 5).await;
}

async fn kill_and_check(place: &str, rounds: u64) {
    let longer = std::env::var("LOGGIA_KILL_ROUNDS").ok();
    let longer = longer.and_then(|rounds| rounds.parse().ok());
    let rounds: u64 = longer.unwrap_or(rounds);
    let (mut told, mut taken_over) = (0_u64, 0);
    for round in 0..rounds {
        let lines = killed(place, Duration::from_millis(30 + round * 7 % 90));
        told += lines.len() as u64;
        // Opened again, as after a restart.
        let store = open(place);
        let all = all(&store).await;
        for (what, id) in &lines {
            let is_deleted = lines.contains(&("deleted".to_owned(), id.clone()));
            let found = all.iter().find(|object| object.id == *id);
            match what.as_str() {
                "deleted" => assert_eq!(found, None),
                // A deletion may be done that was not yet told.
                _ if is_deleted || (id.starts_with("chat_") && id.ends_with(ODD)) => {}
                "completed" if id.starts_with("resp_") => {
                    assert_eq!(found.expect(id).body, COMPLETED);
                }
                _ => assert!(found.is_some(), "{id} was {what}"),
            }
        }
        for object in &all {
            check(&store, object, &all).await;
        }
        taken_over += take_over(&store, &all).await;
        for object in &all {
            let there = at(&OWNER, object.kind, &object.id);
            assert_eq!(store.delete(there).await, Ok(()));
        }
    }
    assert!(
        told > rounds && taken_over > 0,
        "{told} writes in {rounds} rounds, {taken_over} unfinished: the test shows nothing"
    );
}

async fn all(store: &SqlStore) -> Vec<Object> {
    let every = page(usize::MAX, Order::Ascending, None);
    let mut all = Vec::new();
    for kind in [Kind::ChatCompletion, Kind::Conversation, Kind::Response] {
        let any = Filter::default();
        let listed = store.objects(&OWNER, kind, &any, &every).await;
        all.extend(listed.expect("a list").data);
    }
    all
}

async fn items(store: &SqlStore, at: ObjectRef<'_>, side: Side) -> Vec<Item> {
    let every = page(usize::MAX, Order::Ascending, None);
    store.items(at, side, &every).await.expect("items").data
}

/// Checks that an object has all that was written with it, and nothing that was not.
async fn check(store: &SqlStore, object: &Object, all: &[Object]) {
    let there = at(&OWNER, object.kind, &object.id);
    let (input, output, stream) = (
        items(store, there, Side::Input).await,
        items(store, there, Side::Output).await,
        items(store, there, Side::Stream).await,
    );
    let id = &object.id;
    match id.split('_').next() {
        Some("chat") => {
            assert_eq!(object.metadata, labels(&[("a", "1"), ("b", "2")]));
            assert_eq!(input, five(Side::Input, 0), "{id}");
        }
        Some("conv") => {
            let turns = id.replace("conv_", "turn_") + "_";
            let turns = all.iter().filter(|turn| turn.id.starts_with(&turns));
            let expected = (0..=turns.count()).flat_map(|turn| five(Side::Input, turn * 5));
            assert_eq!(input, expected.collect::<Vec<_>>(), "{id}");
        }
        Some("turn") => assert_eq!(output, on(Side::Output, &["out"])),
        _ => {
            assert_eq!(input, five(Side::Input, 0), "{id}");
            let events: Vec<_> = [0, 5]
                .into_iter()
                .flat_map(|n| five(Side::Stream, n))
                .collect();
            assert!(
                stream.len() % 5 == 0 && stream == events[..stream.len()],
                "{id}"
            );
            if object.body == COMPLETED {
                assert_eq!((output, stream), (five(Side::Output, 0), events));
                assert!(!object.is_held);
            } else {
                assert_eq!((&*object.body, output.len()), (BEGUN, 0));
            }
        }
    }
}

/// Takes over the objects that the killed process held, once the holds have expired: nothing stays
/// in progress forever. Returns their number.
async fn take_over(store: &SqlStore, all: &[Object]) -> usize {
    let unfinished = all.iter().filter(|object| object.body == BEGUN);
    let mut number = 0;
    for object in unfinished {
        let begun = Instant::now();
        let take = || vec![hold(&object.id, "next", Duration::from_mins(1))];
        while store.write(&OWNER, take()).await == Err(StoreError::InUse) {
            assert!(
                begun.elapsed() < HOLD * 10,
                "{} is held for ever",
                object.id
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let failed = Change::Replace {
            kind: Kind::Response,
            id: object.id.clone(),
            body: r#"{"status":"failed"}"#.to_owned(),
            items: Vec::new(),
            needs: Some(NeededHold::Of("next".to_owned())),
        };
        assert_eq!(store.write(&OWNER, vec![failed]).await, Ok(()));
        number += 1;
    }
    number
}

/// Runs the process that writes, kills it after `after`, and returns what it reported.
fn killed(place: &str, after: Duration) -> Vec<(String, String)> {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args([
            "--exact",
            "kill::writes_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(PLACE, place)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let told = |line: String| {
        let (what, id) = line.split_once(' ')?;
        let is_known = ["stored", "completed", "deleted"].contains(&what);
        is_known.then(|| (what.to_owned(), id.to_owned()))
    };
    let mut lines = Vec::new();
    let mut first = None;
    while let Some(Ok(line)) = out.next() {
        lines.extend(told(line));
        // The time is counted from the first write, so that a slow start does not end the process
        // before it.
        if !lines.is_empty() && first.get_or_insert_with(Instant::now).elapsed() > after {
            child.kill().expect("a process");
            break;
        }
    }
    // The lines that the process wrote before it was killed.
    lines.extend(out.map_while(Result::ok).filter_map(told));
    child.wait().expect("a process");
    lines
}
