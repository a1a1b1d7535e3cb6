//! Pictures by path: an image file whose path is in a message is attached to the message.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The largest picture. By default, servers accept this size for all pictures of a request
/// together.
const MOST_BYTES: u64 = 24 << 20;

/// Media types by file extension.
const TYPES: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
];

/// Splits a message into its text and its pictures, as `data:` URLs.
///
/// A word that looks like the path of a picture, but is not a file, remains text.
///
/// # Errors
///
/// If a picture cannot be read or is too large.
pub(super) fn attached(message: &str) -> anyhow::Result<(String, Vec<String>)> {
    let (mut text, mut urls, mut taken) = (String::new(), Vec::new(), 0);
    for word in words(message) {
        let path = home(&word.text);
        let Some(kind) = kind(&word.text).filter(|_| path.is_file()) else {
            continue;
        };
        urls.push(data_url(&path, kind)?);
        text.push_str(&message[taken..word.place.start]);
        taken = word.place.end;
    }
    text.push_str(&message[taken..]);
    let text = if urls.is_empty() {
        text
    } else {
        text.trim().to_owned()
    };
    Ok((text, urls))
}

fn data_url(path: &PathBuf, kind: &str) -> anyhow::Result<String> {
    let shown = path.display();
    let bytes = std::fs::metadata(path)
        .with_context(|| format!("cannot read {shown}"))?
        .len();
    anyhow::ensure!(
        bytes <= MOST_BYTES,
        "{shown} has {bytes} bytes; a picture may have {MOST_BYTES}"
    );
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    Ok(format!("data:{kind};base64,{}", STANDARD.encode(bytes)))
}

fn kind(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    TYPES
        .iter()
        .find(|(known, _)| ending.eq_ignore_ascii_case(known))
        .map(|&(_, kind)| kind)
}

fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => path.into(),
    }
}

/// A word, read as by a shell, and its position.
struct Word {
    text: String,
    place: Range<usize>,
}

/// The words of a line. Terminals write the path of a dropped file in quotes, or with backslashes
/// before spaces.
fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let (mut word, mut start, mut quote) = (String::new(), None, None);
    let mut letters = line.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') if start.is_none() => quote = Some(letter),
            (None, '\\')
                if letters
                    .peek()
                    .is_some_and(|(_, next)| " '\"()[]&\\".contains(*next)) =>
            {
                word.extend(letters.next().map(|(_, next)| next));
            }
            (None, _) if letter.is_whitespace() => {
                if let Some(start) = start.take() {
                    words.push(Word {
                        text: std::mem::take(&mut word),
                        place: start..at,
                    });
                }
                continue;
            }
            _ => word.push(letter),
        }
        start.get_or_insert(at);
    }
    words.extend(start.map(|start| Word {
        text: word,
        place: start..line.len(),
    }));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_message_attaches_the_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my cat.PNG");
        std::fs::write(&path, b"png").unwrap();
        let path = path.to_str().unwrap();
        let escaped = path.replace(' ', "\\ ");
        for written in [format!("'{path}'"), format!("\"{path}\""), escaped] {
            let (text, pictures) = attached(&format!("what is {written} ?")).unwrap();
            assert_eq!(
                (text.as_str(), pictures),
                ("what is  ?", vec!["data:image/png;base64,cG5n".to_owned()])
            );
        }
        let (text, pictures) = attached(&format!("'{path}'")).unwrap();
        assert_eq!((text.as_str(), pictures.len()), ("", 1));
    }

    #[test]
    fn what_names_no_file_stays_text() {
        for line in [
            "look at nothing.png please",
            "it's a \"quote",
            "don't",
            "a\\ b",
            "",
        ] {
            assert_eq!(attached(line).unwrap(), (line.to_owned(), Vec::new()));
        }
    }
}
