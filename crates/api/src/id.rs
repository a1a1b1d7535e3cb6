//! Ids and times of answers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use loggia_backend::Profile;
use rand::RngExt;
use rand::distr::Alphanumeric;

/// The random characters of an id: 62^29 of them, so that none is ever given twice.
const ID_LENGTH: usize = 29;

/// The id of a new answer. The original's were `chatcmpl-0` to `chatcmpl-998`.
pub(crate) fn completion(profile: Profile) -> Arc<str> {
    let mut random = rand::rng();
    match profile {
        Profile::Openai => {
            let mut id = String::with_capacity(9 + ID_LENGTH);
            id.push_str("chatcmpl-");
            id.extend((0..ID_LENGTH).map(|_| char::from(random.sample(Alphanumeric))));
            id.into()
        }
        Profile::Original => format!("chatcmpl-{}", random.random_range(0..999)).into(),
    }
}

/// Now, in Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
