//! The usage of API keys, in a file and in a database.

use std::sync::Arc;

use loggia_api::store::{Usage, UsageAmount, UsageStore};
use loggia_store::{Retention, SqlStore};

use crate::postgres;

fn usage(day: i64, key: &str, model: &str, requests: u64) -> Usage {
    Usage {
        day,
        key: key.to_owned(),
        model: model.to_owned(),
        amount: UsageAmount {
            requests,
            incomplete: 1,
            prompt_tokens: 10 * requests,
            cached_tokens: 5 * requests,
            completion_tokens: 3 * requests,
        },
    }
}

async fn amounts_of_a_day_add_up(store: &dyn UsageStore) {
    let first = vec![usage(20_001, "bob", "m", 1), usage(20_000, "alice", "m", 2)];
    store.add_usage(first).await.expect("added");
    let second = vec![
        usage(20_000, "alice", "m", 3),
        usage(20_000, "alice", "n", 1),
    ];
    store.add_usage(second).await.expect("added");
    let mut sum = usage(20_000, "alice", "m", 5);
    sum.amount.incomplete = 2;
    let all = vec![
        sum,
        usage(20_000, "alice", "n", 1),
        usage(20_001, "bob", "m", 1),
    ];
    assert_eq!(store.usage_since(0).await, Ok(all));
    let later = vec![usage(20_001, "bob", "m", 1)];
    assert_eq!(store.usage_since(20_001).await, Ok(later));
    assert_eq!(store.usage_since(20_002).await, Ok(Vec::new()));
}

/// Several servers add to the same rows, in different orders.
async fn nothing_is_lost_where_servers_add_at_once(store: Arc<SqlStore>) {
    let adding = (0..8).map(|server| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..10 {
                let mut rows = vec![usage(30_000, "alice", "m", 1), usage(30_000, "bob", "m", 1)];
                if server % 2 == 0 {
                    rows.reverse();
                }
                store.add_usage(rows).await.expect("added");
            }
        })
    });
    for added in adding.collect::<Vec<_>>() {
        added.await.expect("no panic");
    }
    let rows = store.usage_since(30_000).await.expect("rows");
    let requests: Vec<_> = rows.iter().map(|row| row.amount.requests).collect();
    assert_eq!(requests, [80, 80]);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_adds_up_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let store = Arc::new(SqlStore::in_file(&path, Retention::default()));
    assert_eq!(store.usage_since(0).await, Ok(Vec::new()));
    assert!(!path.exists(), "looking for usage made the file");
    amounts_of_a_day_add_up(&*store).await;
    nothing_is_lost_where_servers_add_at_once(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_adds_up_in_a_database() {
    let Some(url) = postgres::database().await else {
        return;
    };
    let store = SqlStore::in_database(&url, Retention::default()).expect("an address");
    let store = Arc::new(store);
    amounts_of_a_day_add_up(&*store).await;
    nothing_is_lost_where_servers_add_at_once(store).await;
}
