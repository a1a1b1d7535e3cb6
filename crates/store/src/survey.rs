//! What is in a file, for people.

use std::path::Path;

use loggia_api::store::Kind;
use sqlx::Row as _;

use crate::error::OpenError;
use crate::file::look;
use crate::retention::used;

/// What is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many stored chat completions.
    pub chat_completions: u64,
    /// How many conversations.
    pub conversations: u64,
    /// How many responses.
    pub responses: u64,
    /// The bytes that they take.
    pub bytes: u64,
}

/// Looks into a file without changing it. `None` where there is no file.
pub async fn survey(path: &Path) -> Result<Option<Survey>, OpenError> {
    if !path.exists() {
        return Ok(None);
    }
    let failed = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    let mut connection = look(path).await?;
    let mut counted = [0_u64; 3];
    let kinds = [Kind::ChatCompletion, Kind::Conversation, Kind::Response];
    for (count, kind) in counted.iter_mut().zip(kinds) {
        let row = sqlx::query("SELECT COUNT(*) FROM objects WHERE kind = $1")
            .bind(kind.as_str())
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        let number: i64 = row.try_get(0).map_err(failed)?;
        *count = u64::try_from(number).unwrap_or(0);
    }
    let [chat_completions, conversations, responses] = counted;
    Ok(Some(Survey {
        chat_completions,
        conversations,
        responses,
        bytes: used(&mut connection).await.map_err(failed)?,
    }))
}
