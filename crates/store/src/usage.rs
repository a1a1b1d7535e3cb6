//! The usage of API keys as SQL: the trait [`UsageStore`].

use futures_core::future::BoxFuture;
use loggia_api::store::{StoreError, Usage, UsageAmount, UsageStore};

use crate::SqlStore;
use crate::sql::{Row, Statement};

/// Adds to the row of a day, key and model.
const ADD: &str = "INSERT INTO key_usage \
    (day, api_key, model, requests, incomplete, prompt_tokens, cached_tokens, completion_tokens) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (day, api_key, model) DO UPDATE SET \
    requests = key_usage.requests + excluded.requests, \
    incomplete = key_usage.incomplete + excluded.incomplete, \
    prompt_tokens = key_usage.prompt_tokens + excluded.prompt_tokens, \
    cached_tokens = key_usage.cached_tokens + excluded.cached_tokens, \
    completion_tokens = key_usage.completion_tokens + excluded.completion_tokens";
const SINCE: &str = "SELECT day, api_key, model, requests, incomplete, prompt_tokens, cached_tokens, \
    completion_tokens FROM key_usage WHERE day >= $1 ORDER BY day, api_key, model";

impl UsageStore for SqlStore {
    fn add_usage(&self, mut usage: Vec<Usage>) -> BoxFuture<'_, Result<(), StoreError>> {
        // Servers that share a database must lock its rows in the same order.
        usage.sort_unstable_by(|a, b| (a.day, &a.key, &a.model).cmp(&(b.day, &b.key, &b.model)));
        Box::pin(async move {
            let mut writer = self.writer().await?;
            let mut done = Ok(());
            for usage in usage {
                let added = writer.sql().run(&add(usage)).await;
                if let Err(error) = added {
                    done = Err(error);
                    break;
                }
            }
            writer.end(done).await
        })
    }

    fn usage_since(&self, day: i64) -> BoxFuture<'_, Result<Vec<Usage>, StoreError>> {
        Box::pin(async move {
            let rows = self.rows(&Statement::new(SINCE).with(day)).await?;
            rows.iter().map(read).collect()
        })
    }
}

fn add(usage: Usage) -> Statement<'static> {
    let Usage {
        day,
        key,
        model,
        amount,
    } = usage;
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    Statement::new(ADD)
        .with(day)
        .with(key)
        .with(model)
        .with(number(amount.requests))
        .with(number(amount.incomplete))
        .with(number(amount.prompt_tokens))
        .with(number(amount.cached_tokens))
        .with(number(amount.completion_tokens))
}

fn read(row: &Row) -> Result<Usage, StoreError> {
    let count = |column| Ok(u64::try_from(row.number(column)?).unwrap_or(0));
    Ok(Usage {
        day: row.number("day")?,
        key: row.text("api_key")?,
        model: row.text("model")?,
        amount: UsageAmount {
            requests: count("requests")?,
            incomplete: count("incomplete")?,
            prompt_tokens: count("prompt_tokens")?,
            cached_tokens: count("cached_tokens")?,
            completion_tokens: count("completion_tokens")?,
        },
    })
}
