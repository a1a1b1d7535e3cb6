//! Ids and times of answers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use loggia_backend::Profile;
use rand::RngExt;
use rand::distr::Alphanumeric;

/// What the ids of chats begin with, and those of completions.
pub(crate) const CHAT: &str = "chatcmpl-";
pub(crate) const COMPLETION: &str = "cmpl-";
/// What the ids of responses begin with: clients tell them from others by it.
pub(crate) const RESPONSE: &str = "resp_";

/// The random characters of an id: 62^29 of them, so that none is ever given twice.
const ID_LENGTH: usize = 29;

/// The id of a new answer, which begins so. The original's were `chatcmpl-0` to `chatcmpl-998`.
pub(crate) fn new(kind: &str, profile: Profile) -> Arc<str> {
    match profile {
        Profile::Openai => random(kind),
        Profile::Original => format!("{kind}{}", rand::rng().random_range(0..999)).into(),
    }
}

/// The id of a new response.
pub(crate) fn response() -> Arc<str> {
    random(RESPONSE)
}

/// The id of a call for embeddings, for logs alone: no answer shows it.
pub(crate) fn embedding() -> Arc<str> {
    random("embd-")
}

/// The id of a new conversation.
pub(crate) fn conversation() -> String {
    random("conv_").to_string()
}

/// The id of a new item of a conversation, which begins so.
pub(crate) fn item(kind: &str) -> String {
    random(kind).to_string()
}

fn random(kind: &str) -> Arc<str> {
    format!("{kind}{}", padding(ID_LENGTH)).into()
}

/// So many random characters.
pub(crate) fn padding(length: usize) -> String {
    let mut random = rand::rng();
    (0..length)
        .map(|_| char::from(random.sample(Alphanumeric)))
        .collect()
}

/// Now, in Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
