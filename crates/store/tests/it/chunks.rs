//! Chunks of vector stores: what a search finds, for which owner, and when chunks are deleted.

use std::time::Instant;

use loggia_api::store::{
    Change, Chunk, ChunkSearch, Count, Filter, FoundChunk, Kind, Metadata, Object, Owner, Store,
    StoreError,
};
use loggia_store::{Retention, SqlStore};

use crate::suite::{each, key};
use crate::{at, conversation, labels};

fn of_kind(kind: Kind, id: &str, metadata: &[(&str, &str)]) -> Change {
    Change::Create {
        object: Object {
            kind,
            metadata: labels(metadata),
            ..conversation(id)
        },
        items: Vec::new(),
    }
}

fn vector_store(id: &str) -> Change {
    of_kind(Kind::VectorStore, id, &[])
}

fn file(id: &str) -> Change {
    of_kind(Kind::VectorStoreFile, id, &[])
}

/// A chunk whose vector has this angle in degrees.
fn chunk(text: &str, angle: f32) -> Chunk {
    let (sin, cos) = angle.to_radians().sin_cos();
    Chunk {
        text: text.to_owned(),
        vector: vec![cos, sin, 0.0],
    }
}

fn chunks(id: &str, store: &str, first: u64, chunks: Vec<Chunk>, is_last: bool) -> Change {
    Change::Chunks {
        id: id.to_owned(),
        store: store.to_owned(),
        first,
        chunks,
        is_last,
    }
}

/// A search for the angle 0 and some words.
fn search(words: &[&str]) -> ChunkSearch {
    ChunkSearch {
        vector: vec![1.0, 0.0, 0.0],
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        files: None,
        limit: 10,
    }
}

async fn write(store: &dyn Store, owner: &Owner, changes: Vec<Change>) {
    assert_eq!(store.write(owner, changes).await, Ok(()));
}

async fn found(
    store: &dyn Store,
    owner: &Owner,
    id: &str,
    search: &ChunkSearch,
) -> Result<Vec<FoundChunk>, StoreError> {
    store.search(at(owner, Kind::VectorStore, id), search).await
}

/// The texts that are found by the vector, in their order.
async fn nearest(store: &dyn Store, owner: &Owner, id: &str, search: &ChunkSearch) -> Vec<String> {
    let mut found = found(store, owner, id, search).await.expect("chunks");
    found.retain(|chunk| chunk.vector_rank.is_some());
    found.sort_by_key(|chunk| chunk.vector_rank);
    found.into_iter().map(|chunk| chunk.text).collect()
}

/// The texts that are found by words, in their order.
async fn worded(store: &dyn Store, owner: &Owner, id: &str, search: &ChunkSearch) -> Vec<String> {
    let mut found = found(store, owner, id, search).await.expect("chunks");
    found.retain(|chunk| chunk.word_rank.is_some());
    found.sort_by_key(|chunk| chunk.word_rank);
    found.into_iter().map(|chunk| chunk.text).collect()
}

#[tokio::test]
async fn the_nearest_chunks_of_all_files_of_the_store_are_found_in_their_order() {
    each(async |store| {
        let owner = key("a");
        let added = vec![
            vector_store("vs_1"),
            vector_store("vs_2"),
            file("vs_1/file-1"),
            file("vs_1/file-2"),
            file("vs_2/file-1"),
            chunks(
                "vs_1/file-1",
                "vs_1",
                0,
                vec![chunk("é far", 90.0), chunk("near", 1.0)],
                true,
            ),
            chunks("vs_1/file-2", "vs_1", 0, vec![chunk("nearer", 0.5)], true),
            chunks(
                "vs_2/file-1",
                "vs_2",
                0,
                vec![chunk("elsewhere", 0.0)],
                true,
            ),
        ];
        write(store, &owner, added).await;
        let all = search(&[]);
        assert_eq!(
            nearest(store, &owner, "vs_1", &all).await,
            ["nearer", "near", "é far"]
        );
        assert_eq!(nearest(store, &owner, "vs_2", &all).await, ["elsewhere"]);
        let two = ChunkSearch {
            limit: 2,
            ..search(&[])
        };
        assert_eq!(
            nearest(store, &owner, "vs_1", &two).await,
            ["nearer", "near"]
        );
        let first = ChunkSearch {
            files: Some(vec!["vs_1/file-1".to_owned()]),
            ..search(&[])
        };
        assert_eq!(
            nearest(store, &owner, "vs_1", &first).await,
            ["near", "é far"]
        );
        let nothing = ChunkSearch {
            files: Some(Vec::new()),
            ..search(&["near"])
        };
        assert_eq!(found(store, &owner, "vs_1", &nothing).await, Ok(Vec::new()));
        let other_model = ChunkSearch {
            vector: vec![1.0, 0.0],
            ..search(&[])
        };
        assert_eq!(nearest(store, &owner, "vs_1", &other_model).await, [""; 0]);
        let found = found(store, &owner, "vs_1", &two).await.expect("chunks");
        assert_eq!(
            (found[0].file.as_str(), found[0].number),
            ("vs_1/file-2", 0)
        );
        assert_eq!(
            (found[1].file.as_str(), found[1].number),
            ("vs_1/file-1", 1)
        );
        assert!((found[1].similarity - 1_f32.to_radians().cos()).abs() < 1e-6);
    })
    .await;
}

#[tokio::test]
async fn another_key_and_another_kind_find_nothing() {
    each(async |store| {
        let added = vec![
            vector_store("vs_1"),
            file("vs_1/file-1"),
            chunks("vs_1/file-1", "vs_1", 0, vec![chunk("mine", 0.0)], true),
        ];
        write(store, &key("a"), added).await;
        let other = found(store, &key("b"), "vs_1", &search(&["mine"])).await;
        assert_eq!(other, Err(StoreError::NotFound));
        let owner = key("a");
        let other = at(&owner, Kind::File, "vs_1");
        assert_eq!(
            store.search(other, &search(&[])).await,
            Err(StoreError::NotFound)
        );
        // Nor can chunks be added to objects of another key.
        let own = vec![vector_store("vs_2"), file("vs_2/file-1")];
        write(store, &key("b"), own).await;
        for (file, into) in [("vs_2/file-1", "vs_1"), ("vs_1/file-1", "vs_2")] {
            let added = vec![chunks(file, into, 0, vec![chunk("theirs", 0.0)], true)];
            assert_eq!(
                store.write(&key("b"), added).await,
                Err(StoreError::NotFound)
            );
        }
        assert_eq!(
            nearest(store, &key("a"), "vs_1", &search(&[])).await,
            ["mine"]
        );
    })
    .await;
}

#[tokio::test]
async fn chunks_are_found_once_the_last_of_the_file_is_there_and_replaced_as_a_whole() {
    each(async |store| {
        let owner = key("a");
        let begun = vec![
            vector_store("vs_1"),
            file("vs_1/file-1"),
            chunks("vs_1/file-1", "vs_1", 0, vec![chunk("one", 0.0)], false),
        ];
        write(store, &owner, begun).await;
        assert_eq!(
            nearest(store, &owner, "vs_1", &search(&["one"])).await,
            [""; 0]
        );
        assert_eq!(
            worded(store, &owner, "vs_1", &search(&["one"])).await,
            [""; 0]
        );
        let ended = vec![chunks(
            "vs_1/file-1",
            "vs_1",
            1,
            vec![chunk("two", 1.0)],
            true,
        )];
        write(store, &owner, ended).await;
        assert_eq!(
            nearest(store, &owner, "vs_1", &search(&[])).await,
            ["one", "two"]
        );
        let again = vec![chunks(
            "vs_1/file-1",
            "vs_1",
            0,
            vec![chunk("three", 0.0)],
            true,
        )];
        write(store, &owner, again).await;
        assert_eq!(
            nearest(store, &owner, "vs_1", &search(&[])).await,
            ["three"]
        );
        assert_eq!(
            worded(store, &owner, "vs_1", &search(&["one", "two"])).await,
            [""; 0]
        );
        // A change that fails leaves the chunks unchanged.
        let failing = vec![
            chunks("vs_1/file-1", "vs_1", 0, vec![chunk("four", 0.0)], true),
            Change::Clear {
                kind: Kind::Batch,
                id: "batch_missing".to_owned(),
            },
        ];
        assert_eq!(
            store.write(&owner, failing).await,
            Err(StoreError::NotFound)
        );
        assert_eq!(
            nearest(store, &owner, "vs_1", &search(&[])).await,
            ["three"]
        );
    })
    .await;
}

#[tokio::test]
async fn chunks_go_with_their_file_and_with_their_vector_store() {
    each(async |store| {
        let owner = key("a");
        let added = vec![
            vector_store("vs_1"),
            file("vs_1/file-1"),
            file("vs_1/file-2"),
            chunks("vs_1/file-1", "vs_1", 0, vec![chunk("first", 0.0)], true),
            chunks("vs_1/file-2", "vs_1", 0, vec![chunk("second", 0.0)], true),
        ];
        write(store, &owner, added).await;
        let all = search(&["first", "second"]);
        assert_eq!(nearest(store, &owner, "vs_1", &all).await.len(), 2);
        let deleted = store
            .delete(at(&owner, Kind::VectorStoreFile, "vs_1/file-1"))
            .await;
        assert_eq!(deleted, Ok(()));
        assert_eq!(nearest(store, &owner, "vs_1", &all).await, ["second"]);
        assert_eq!(
            store.delete(at(&owner, Kind::VectorStore, "vs_1")).await,
            Ok(())
        );
        write(store, &owner, vec![vector_store("vs_1")]).await;
        assert_eq!(found(store, &owner, "vs_1", &all).await, Ok(Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn words_find_chunks_whose_vectors_are_far_away() {
    // The encrypted store is not tested: its index of words would contain the text.
    let folder = tempfile::tempdir().expect("a folder");
    let file_store = SqlStore::in_file(folder.path().join("state.db"), Retention::default());
    let mut stores: Vec<Box<dyn Store>> = vec![
        Box::new(loggia_api::MemoryStore::new()),
        Box::new(file_store),
    ];
    if let Some(url) = crate::postgres::database().await {
        let store = SqlStore::in_database(&url, Retention::default()).expect("an address");
        stores.push(Box::new(store));
    }
    for store in &stores {
        let (store, owner) = (&**store, key("a"));
        let texts = vec![
            chunk("the part XK-4711 of the 'pump', \"sealed\" OR not", 90.0),
            chunk("Überprüfung der Pumpe: xk 4711", 80.0),
            chunk("nothing of the kind", 0.0),
        ];
        let added = vec![
            vector_store("vs_1"),
            file("vs_1/file-1"),
            chunks("vs_1/file-1", "vs_1", 0, texts, true),
            vector_store("vs_2"),
            file("vs_2/file-1"),
            chunks(
                "vs_2/file-1",
                "vs_2",
                0,
                vec![chunk("4711 elsewhere", 0.0)],
                true,
            ),
        ];
        write(store, &owner, added).await;
        let one = ChunkSearch {
            limit: 1,
            ..search(&["4711", "part"])
        };
        let found = worded(store, &owner, "vs_1", &one).await;
        assert_eq!(found, ["the part XK-4711 of the 'pump', \"sealed\" OR not"]);
        let both = worded(store, &owner, "vs_1", &search(&["4711"])).await;
        assert_eq!(both.len(), 2);
        let umlaut = worded(store, &owner, "vs_1", &search(&["überprüfung"])).await;
        assert_eq!(umlaut, ["Überprüfung der Pumpe: xk 4711"]);
        // A text that looks like a query of the database is an ordinary word.
        for odd in [
            "or", "near", "and", "not", "'", "\"", "a'b", ":*", "!", "\\", "\0", "store",
        ] {
            let found = found_by(store, &owner, odd).await;
            assert!(found.is_ok(), "{odd:?}: {found:?}");
        }
        // A search for the number of a vector store does not find its texts.
        assert_eq!(
            worded(store, &owner, "vs_1", &search(&["1"])).await,
            [""; 0]
        );
    }
}

async fn found_by(
    store: &dyn Store,
    owner: &Owner,
    word: &str,
) -> Result<Vec<FoundChunk>, StoreError> {
    found(store, owner, "vs_1", &search(&[word])).await
}

#[tokio::test]
async fn objects_are_counted_by_a_label_that_a_write_can_replace() {
    each(async |store| {
        let kind = Kind::VectorStoreFile;
        let one =
            |id: &str, of: &str, status: &str| of_kind(kind, id, &[("of", of), ("status", status)]);
        let content = |id: &str, content: u64| Change::Schedule {
            kind,
            id: id.to_owned(),
            due: None,
            content,
        };
        let added = vec![
            one("vs_1/a", "vs_1", "done"),
            one("vs_1/b", "vs_1", "waits"),
            one("vs_1/c", "vs_1", "waits"),
            one("vs_2/a", "vs_2", "done"),
            content("vs_1/b", 5),
            content("vs_1/c", 7),
        ];
        write(store, &key("a"), added).await;
        write(store, &key("b"), vec![one("vs_1/x", "vs_1", "done")]).await;
        let filter = Filter {
            model: None,
            metadata: labels(&[("of", "vs_1")]),
        };
        let counts = async || store.counts(&key("a"), kind, &filter, "status").await;
        let count = |value: &str, objects, content| Count {
            value: value.to_owned(),
            objects,
            content,
        };
        let expected = vec![count("done", 1, 0), count("waits", 2, 12)];
        assert_eq!(counts().await, Ok(expected));
        let done: Metadata = labels(&[("of", "vs_1"), ("status", "done")]);
        let label = Change::Label {
            kind,
            id: "vs_1/b".to_owned(),
            metadata: done.clone(),
        };
        write(store, &key("a"), vec![label]).await;
        let expected = vec![count("done", 2, 5), count("waits", 1, 7)];
        assert_eq!(counts().await, Ok(expected));
        let object = store.object(at(&key("a"), kind, "vs_1/b")).await;
        assert_eq!(object.map(|object| object.metadata), Ok(done));
    })
    .await;
}

#[tokio::test]
async fn encrypted_chunks_are_nowhere_in_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let keys = std::sync::Arc::new(loggia_seal::Keys::random());
    let store = SqlStore::in_file(&path, Retention::default()).with_keys(keys, true);
    let secret = Chunk {
        text: "a secretword".to_owned(),
        vector: vec![0.25, 0.125, 0.5],
    };
    let added = vec![
        vector_store("vs_1"),
        file("vs_1/file-1"),
        chunks("vs_1/file-1", "vs_1", 0, vec![secret.clone()], true),
    ];
    write(&store, &key("a"), added).await;
    let found = found(&store, &key("a"), "vs_1", &search(&["secretword"])).await;
    let found = found.expect("chunks");
    assert_eq!(
        (found[0].text.as_str(), found[0].word_rank),
        ("a secretword", None)
    );
    assert!((found[0].similarity - 0.25).abs() < 1e-6);
    store.clean().await.expect("a checkpoint");
    let bytes = std::fs::read(&path).expect("the file");
    let vector: Vec<u8> = secret
        .vector
        .iter()
        .flat_map(|one| one.to_le_bytes())
        .collect();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"vs_1/file-1") && !has(b"secretword") && !has(&vector));
}

#[tokio::test]
async fn chunks_do_not_push_out_chats_nor_stop_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let retention = Retention {
        age: None,
        bytes: 2 << 20,
    };
    let store = SqlStore::in_file(folder.path().join("state.db"), retention);
    let owner = key("a");
    write(
        &store,
        &owner,
        vec![of_kind(Kind::ChatCompletion, "chatcmpl-1", &[])],
    )
    .await;
    write(
        &store,
        &owner,
        vec![vector_store("vs_1"), file("vs_1/file-1")],
    )
    .await;
    let text = "many words of a long text ".repeat(400);
    for number in 0..600 {
        let more = chunks(
            "vs_1/file-1",
            "vs_1",
            number,
            vec![chunk(&text, 0.0)],
            number == 599,
        );
        write(&store, &owner, vec![more]).await;
    }
    assert_eq!(store.clean().await, Ok(()));
    let chat = store
        .object(at(&owner, Kind::ChatCompletion, "chatcmpl-1"))
        .await;
    assert!(chat.is_ok());
    write(
        &store,
        &owner,
        vec![of_kind(Kind::ChatCompletion, "chatcmpl-2", &[])],
    )
    .await;
}

/// Prints the times of searches among 100,000 chunks of 384 dimensions in an SQLite file.
/// `cargo test --release -p loggia-store -- --ignored --nocapture a_search_among`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a minute, and its times mean something in a release build only"]
async fn a_search_among_100_000_chunks_is_exact_and_takes_little_time() {
    const CHUNKS: usize = 100_000;
    const DIMENSIONS: usize = 384;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut random = move || {
        let vector = (0..DIMENSIONS).map(|_| {
            let bits = u16::try_from(next() >> 48).expect("16 bits");
            f32::from(bits) / 32_768.0 - 1.0
        });
        let vector: Vec<f32> = vector.collect();
        let length = vector.iter().map(|one| one * one).sum::<f32>().sqrt();
        let vector: Vec<f32> = vector.into_iter().map(|one| one / length).collect();
        (vector, next())
    };
    let owner = key("a");
    let store = SqlStore::in_file(&path, Retention::default());
    write(&store, &owner, vec![vector_store("vs_1")]).await;
    let mut all = Vec::new();
    let began = Instant::now();
    for number in 0..100 {
        let id = format!("vs_1/file-{number}");
        let mut changes = vec![file(&id)];
        let added = (0..CHUNKS / 100).map(|_| {
            let (vector, word) = random();
            // Frequent and rare words, about as in a text of 800 tokens.
            let words = (0..300).map(|at| format!("w{}", (word >> (at % 48)) % (1 << (at % 14))));
            let text = words.collect::<Vec<String>>().join(" ");
            all.push(vector.clone());
            Chunk { text, vector }
        });
        changes.push(chunks(&id, "vs_1", 0, added.collect(), true));
        write(&store, &owner, changes).await;
    }
    println!("added in {:?}", began.elapsed());
    let store = SqlStore::in_file(&path, Retention::default());
    let (mut times, mut wrong) = (Vec::new(), 0);
    for number in 0..101 {
        let (vector, word) = random();
        let words = (0..8)
            .map(|at| format!("w{}", (word >> at) % (1 << (at + 6))))
            .collect();
        let search = ChunkSearch {
            vector,
            words,
            files: None,
            limit: 10,
        };
        let began = Instant::now();
        let found = found(&store, &owner, "vs_1", &search)
            .await
            .expect("chunks");
        if number == 0 {
            println!(
                "the first search, which reads the vectors: {:?}",
                began.elapsed()
            );
            continue;
        }
        times.push(began.elapsed());
        if number % 5 != 0 {
            continue;
        }
        let similarity = |one: &Vec<f32>| loggia_api::store::similarity(one, &search.vector);
        let mut exact: Vec<f32> = all.iter().map(similarity).collect();
        exact.sort_by(|a, b| b.total_cmp(a));
        let mut nearest: Vec<&FoundChunk> = found.iter().collect();
        nearest.retain(|chunk| chunk.vector_rank.is_some());
        nearest.sort_by_key(|chunk| chunk.vector_rank);
        assert_eq!(nearest.len(), 10);
        let same = nearest.iter().zip(&exact);
        wrong += same
            .filter(|(one, exact)| (one.similarity - **exact).abs() > 1e-6)
            .count();
    }
    times.sort();
    println!("p50 {:?}, p95 {:?}", times[50], times[95]);
    assert_eq!(wrong, 0, "recall@10 is 1.0");
}
