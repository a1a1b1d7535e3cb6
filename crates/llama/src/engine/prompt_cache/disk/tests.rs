//! Tests of the snapshots on disk, with states that are no models'.

use std::fs;
use std::path::Path;
use std::sync::mpsc;

use super::super::super::slots::common_prefix;
use super::*;

/// The longest that any of these tests waits.
const LONG: Duration = Duration::from_mins(1);

fn options(folder: &Path, bytes: u64) -> CacheDisk {
    CacheDisk {
        folder: folder.to_owned(),
        bytes,
    }
}

fn open(folder: &Path) -> Disk {
    open_as(folder, 1, 1 << 20)
}

/// Opens the folder of a model.
fn open_as(folder: &Path, model: u8, bytes: u64) -> Disk {
    let disk = Disk::open(&options(folder, bytes), [model; 32]);
    disk.wait_until_read(LONG);
    disk
}

fn snapshot(tokens: &[Token]) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        tokens: tokens.to_vec(),
        scope: None,
        cut_from: 0,
        state: vec![u8::try_from(tokens[0]).unwrap(); 1000].into(),
    })
}

/// Writes snapshots, and waits until the last one is in its file.
fn write(disk: &Disk, all: &[&[Token]]) {
    for tokens in all {
        disk.write_in_turn(snapshot(tokens));
    }
    let state = disk.shared.lock();
    let is_waiting = |state: &mut State| !state.waiting.is_empty();
    let waited = disk
        .shared
        .changed
        .wait_timeout_while(state, LONG, is_waiting);
    assert!(!waited.unwrap().1.timed_out());
}

/// The tokens of the file for a prompt.
fn found(disk: &Disk, prompt: &[Token]) -> Option<Vec<Token>> {
    let found = disk.find(&None, |tokens| common_prefix(tokens, prompt))?;
    Some(found.header.tokens.clone())
}

fn load(disk: &Disk, prompt: &[Token]) -> Option<Snapshot> {
    let found = disk.find(&None, |tokens| common_prefix(tokens, prompt))?;
    let (sender, receiver) = mpsc::channel();
    assert!(disk.load(&found, None, move |snapshot| {
        let _ = sender.send(snapshot);
    }));
    receiver.recv_timeout(LONG).unwrap()
}

/// The paths of the files with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap());
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect()
}

#[test]
fn what_was_written_is_found_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    assert_eq!(found(&disk, &[1, 2]), None);
    write(&disk, &[&[1, 2, 3], &[4, 5]]);
    assert_eq!(found(&disk, &[1, 2, 9]), Some(vec![1, 2, 3]));
    drop(disk);
    let disk = open(folder.path());
    assert_eq!(
        load(&disk, &[1, 2, 9]),
        Arc::into_inner(snapshot(&[1, 2, 3]))
    );
    assert_eq!(load(&disk, &[4]), Arc::into_inner(snapshot(&[4, 5])));
    assert!(disk.holds(&[1, 2], &None) && !disk.holds(&[1, 2, 9], &None));
    assert!(!disk.holds(&[1, 2], &Some("bob".into())));
}

#[test]
fn what_is_waiting_at_the_end_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    for first in 1..20 {
        disk.write(snapshot(&[first, 7]));
    }
    drop(disk);
    let disk = open(folder.path());
    assert!((1..20).all(|first| found(&disk, &[first]).is_some()));
}

#[test]
fn a_longer_conversation_replaces_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    write(&disk, &[&[1, 2], &[1, 2, 3], &[1, 2]]);
    assert_eq!(found(&disk, &[1, 2]), Some(vec![1, 2, 3]));
    assert_eq!(files(folder.path(), "prompt").len(), 1);
}

#[test]
fn a_damaged_file_is_deleted_at_the_start_or_when_it_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path());
    write(&disk, &[&[1, 2, 3]]);
    let path = files(folder.path(), "prompt").remove(0);
    let whole = fs::read(&path).unwrap();
    // In the state, which only loading reads.
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert_eq!(load(&disk, &[1, 2]), None);
    assert!(!path.exists());
    assert_eq!(found(&disk, &[1, 2]), None);
    // The snapshot is not trusted under the name of another one either.
    write(&disk, &[&[4, 5]]);
    let other = files(folder.path(), "prompt").remove(0);
    fs::write(&other, &whole).unwrap();
    assert_eq!(load(&disk, &[4]), None);
    drop(disk);
    for (name, bytes) in [
        ("short", &whole[..whole.len() / 2]),
        ("empty", &[]),
        ("text", b"hello"),
        ("moved", &whole),
    ] {
        fs::write(path.with_file_name(name).with_extension("prompt"), bytes).unwrap();
    }
    fs::write(&path, &whole).unwrap();
    fs::write(path.with_extension("part"), &whole).unwrap();
    let disk = open(folder.path());
    assert_eq!(files(folder.path(), "prompt"), [path]);
    assert!(files(folder.path(), "part").is_empty());
    assert_eq!(load(&disk, &[1]), Arc::into_inner(snapshot(&[1, 2, 3])));
}

#[test]
fn the_files_of_another_model_are_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open_as(folder.path(), 1, 1 << 20);
    write(&disk, &[&[1, 2, 3]]);
    let path = files(folder.path(), "prompt").remove(0);
    let other = open_as(folder.path(), 2, 1 << 20);
    assert_eq!(found(&other, &[1, 2]), None);
    drop(other);
    let folders = fs::read_dir(folder.path()).unwrap();
    let own = path.parent().unwrap();
    let other = folders
        .map(|entry| entry.unwrap().path())
        .find(|folder| folder != own)
        .unwrap();
    let copy = other.join(path.file_name().unwrap());
    fs::copy(&path, &copy).unwrap();
    assert_eq!(found(&open_as(folder.path(), 2, 1 << 20), &[1, 2]), None);
    assert!(!copy.exists() && path.exists());
}

#[test]
fn two_processes_never_use_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    write(&first, &[&[1, 2]]);
    let second = open(folder.path());
    assert!(!second.is_on());
    assert_eq!(found(&second, &[1, 2]), None);
    second.write_in_turn(snapshot(&[3, 4]));
    drop(second);
    drop(first);
    let third = open(folder.path());
    assert_eq!(found(&third, &[1, 2]), Some(vec![1, 2]));
    assert_eq!(found(&third, &[3, 4]), None);
}

#[test]
fn the_least_recently_used_files_make_room_also_those_of_models_that_are_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    // A file has 1,000 bytes of state, and some more.
    let other = open_as(folder.path(), 2, 3500);
    write(&other, &[&[1, 2]]);
    let disk = open_as(folder.path(), 1, 3500);
    for first in 3..6 {
        write(&disk, &[&[first, 2]]);
        // The order is that of the files' times.
        for path in files(folder.path(), "prompt") {
            let file = fs::File::open(&path).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            file.set_modified(time - Duration::from_secs(10)).unwrap();
        }
    }
    assert_eq!(found(&disk, &[3]), None, "the other model's file is in use");
    assert!(found(&disk, &[4]).is_some() && found(&disk, &[5]).is_some());
    drop(other);
    write(&disk, &[&[6, 2]]);
    assert!(
        [4, 5, 6]
            .iter()
            .all(|&first| found(&disk, &[first]).is_some())
    );
    assert_eq!(files(folder.path(), "prompt").len(), 3);
}

#[test]
fn a_folder_that_cannot_be_written_turns_it_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"not a folder").unwrap();
    let disk = open(&path);
    assert!(!disk.is_on());
    disk.write_in_turn(snapshot(&[1, 2]));
    assert_eq!(found(&disk, &[1]), None);
    // One that stops working later.
    let disk = open(&folder.path().join("later"));
    write(&disk, &[&[1, 2]]);
    assert!(disk.is_on());
    fs::remove_dir_all(folder.path().join("later")).unwrap();
    write(&disk, &[&[3, 4]]);
    assert!(!disk.is_on());
    assert_eq!(load(&disk, &[1]), None);
}

#[test]
fn what_other_models_have_not_finished_to_write_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    for model in [1, 2] {
        drop(open_as(folder.path(), model, 1 << 20));
    }
    for at in fs::read_dir(folder.path()).unwrap() {
        fs::write(at.unwrap().path().join("left.part"), "x").unwrap();
    }
    assert_eq!(files(folder.path(), "part").len(), 2);
    let another = open_as(folder.path(), 2, 1 << 20);
    let disk = open_as(folder.path(), 1, 1 << 20);
    assert_eq!(files(folder.path(), "part").len(), 0);
    drop(another);
    // A process ends while it writes, and its model is not loaded again.
    let one = fs::read_dir(folder.path()).unwrap().next().unwrap();
    fs::write(one.unwrap().path().join("left.part"), "x").unwrap();
    drop(disk);
    let disk = open_as(folder.path(), 3, 1 << 20);
    write(&disk, &[&[1, 2]]);
    assert_eq!(files(folder.path(), "part"), [] as [PathBuf; 0]);
}

#[test]
fn a_file_that_has_made_room_since_it_was_found_is_read_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open_as(folder.path(), 1, 1500);
    write(&disk, &[&[1, 2]]);
    let found = disk.find(&None, |tokens| common_prefix(tokens, &[1, 2]));
    write(&disk, &[&[3, 4]]);
    let (sender, receiver) = mpsc::channel();
    assert!(disk.load(&found.unwrap(), None, move |snapshot| {
        let _ = sender.send(snapshot);
    }));
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), None);
    assert!(load(&disk, &[3, 4]).is_some());
}

#[test]
fn a_folder_with_the_name_of_a_file_is_no_reason_to_write_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open_as(folder.path(), 1, 1500);
    write(&disk, &[&[1, 2]]);
    fs::create_dir(files(folder.path(), "prompt")[0].with_file_name("0.prompt")).unwrap();
    for tokens in [&[3, 4], &[5, 6]] {
        write(&disk, &[tokens]);
        assert!(load(&disk, tokens).is_some());
    }
}

#[test]
fn many_files_are_read_at_the_same_time_only_if_they_are_small() {
    let reading = |count: usize, bytes: u64| State {
        reading: count,
        reading_bytes: bytes,
        ..State::default()
    };
    assert!(reading(0, 0).can_read(u64::MAX));
    assert!(reading(3, 300).can_read(100));
    assert!(!reading(4, 400).can_read(100));
    assert!(!reading(1, MOST_READ_BYTES).can_read(1));
    assert!(!reading(1, u64::MAX).can_read(1));
}
