//! Creates the ids and times of answers.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loggia_backend::Profile;
use rand::RngExt;

/// The prefixes of ids of chats and of completions.
pub(crate) const CHAT: &str = "chatcmpl-";
pub(crate) const COMPLETION: &str = "cmpl-";
/// The prefix of ids of responses.
pub(crate) const RESPONSE: &str = "resp_";

/// The numbers of hexadecimal digits of the time in an id: the seconds, and the microseconds of the
/// second.
const SECONDS_LENGTH: usize = 8;
const MICROSECONDS_LENGTH: usize = 5;

/// The number of random characters of an id, after the time: 62^16 for each microsecond, so none
/// repeats.
const RANDOM_LENGTH: usize = 16;

/// The letters and digits of an id.
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Creates the id of a new answer with this prefix. The original's were `chatcmpl-0` to
/// `chatcmpl-998`.
pub(crate) fn new(kind: &str, profile: Profile) -> Arc<str> {
    match profile {
        Profile::Openai => random(kind),
        Profile::Original => format!("{kind}{}", rand::rng().random_range(0..999)).into(),
    }
}

/// The prefix of the ids of messages of Anthropic's API.
pub(crate) const MESSAGE: &str = "msg_";

/// Creates the id of a new message of Anthropic's API.
pub(crate) fn message() -> Arc<str> {
    random(MESSAGE)
}

/// Creates the id of a new response.
pub(crate) fn response() -> Arc<str> {
    random(RESPONSE)
}

/// Creates the id of a call for embeddings. It appears only in logs.
pub(crate) fn embedding() -> Arc<str> {
    random("embd-")
}

/// Creates the id of a new conversation.
pub(crate) fn conversation() -> String {
    random("conv_").to_string()
}

/// Creates the id of a new item of a conversation, with this prefix.
pub(crate) fn item(kind: &str) -> String {
    random(kind).to_string()
}

/// Creates the id of a new file.
pub(crate) fn file() -> String {
    random("file-").to_string()
}

/// Creates the id of a new batch.
pub(crate) fn batch() -> String {
    random("batch_").to_string()
}

/// Creates the id of a new batch of Anthropic's API.
pub(crate) fn message_batch() -> String {
    random("msgbatch_").to_string()
}

/// Creates the id of a new upload.
pub(crate) fn upload() -> String {
    random("upload_").to_string()
}

/// Creates the id of a new part of an upload.
pub(crate) fn part() -> String {
    random("part_").to_string()
}

/// Like OpenAI's, an id begins with its time. So new ids are at the end of the index of a database,
/// and those of one answer are neighbours: a new id seldom needs another page.
fn random(kind: &str) -> Arc<str> {
    let time_length = SECONDS_LENGTH + MICROSECONDS_LENGTH;
    let mut id = String::with_capacity(kind.len() + time_length + RANDOM_LENGTH);
    id.push_str(kind);
    let now = since_epoch();
    let (seconds, microseconds) = (now.as_secs(), now.subsec_micros());
    // Writing to a string cannot fail.
    let _ = write!(
        id,
        "{seconds:0SECONDS_LENGTH$x}{microseconds:0MICROSECONDS_LENGTH$x}"
    );
    add_letters(&mut id, RANDOM_LENGTH);
    id.into()
}

/// Creates random padding of this length.
pub(crate) fn padding(length: usize) -> String {
    let mut padding = String::with_capacity(length);
    add_letters(&mut padding, length);
    padding
}

fn add_letters(text: &mut String, length: usize) {
    let mut random = vec![0; length];
    rand::fill(&mut random[..]);
    // 256 is not a multiple of 62, so the first eight letters are more frequent. An id has
    // 95 random bits nevertheless.
    let letter = |byte: u8| char::from(LETTERS[usize::from(byte) % LETTERS.len()]);
    text.extend(random.into_iter().map(letter));
}

/// Returns the current Unix time in seconds.
pub(crate) fn now() -> u64 {
    since_epoch().as_secs()
}

fn since_epoch() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_of_one_length_and_in_the_order_of_their_time() {
        let begun = since_epoch();
        let ids: Vec<Arc<str>> = (0..10_000).map(|_| response()).collect();
        let ended = since_epoch();
        let length = RESPONSE.len() + SECONDS_LENGTH + MICROSECONDS_LENGTH + RANDOM_LENGTH;
        assert!(ids.iter().all(|id| id.len() == length), "{ids:?}");
        let times = ids.iter().map(|id| {
            let (seconds, rest) = id[RESPONSE.len()..].split_at(SECONDS_LENGTH);
            let number = |digits| u64::from_str_radix(digits, 16).expect("a number");
            let microseconds = number(&rest[..MICROSECONDS_LENGTH]);
            Duration::from_secs(number(seconds)) + Duration::from_micros(microseconds)
        });
        let times: Vec<Duration> = times.collect();
        assert!(times.is_sorted());
        assert!(times[0] + Duration::from_micros(1) > begun && times[9_999] <= ended);
        let distinct = ids.iter().collect::<std::collections::HashSet<_>>();
        assert_eq!(distinct.len(), ids.len());
    }
}
