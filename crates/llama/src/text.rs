//! Converts the bytes of tokens to text that may be sent: whole characters only, and nothing that
//! may be the beginning of a stop string.
//!
//! Pure code, without I/O. Other modules choose the tokens, and know the other reasons to end an
//! answer.

/// The result of pushing a token's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// All text was released, except a possible beginning of a stop string or of a character.
    More,
    /// A stop string is complete. The text before it was released; no more text will be.
    Stopped,
}

/// Collects the text of an answer, and holds it back until it may be sent. The released text does
/// not depend on how the bytes are divided into pushes.
#[derive(Debug)]
pub(crate) struct Text {
    stops: Vec<String>,
    /// The bytes of an incomplete character. There are at most three.
    bytes: Vec<u8>,
    /// Text that is held back because it may begin a stop string. It is shorter than the longest
    /// stop string.
    held: String,
    /// The number of text bytes so far, released or not.
    seen: usize,
    /// The stop string that ended the text.
    stopped_by: Option<String>,
}

impl Text {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self {
            stops,
            bytes: Vec::new(),
            held: String::new(),
            seen: 0,
            stopped_by: None,
        }
    }

    /// Takes the bytes of one token, and appends to `out` the text that may be sent now.
    pub(crate) fn push(&mut self, token: &[u8], out: &mut String) -> Pushed {
        self.bytes.extend_from_slice(token);
        let before = self.held.len();
        take_characters(&mut self.bytes, &mut self.held);
        self.seen += self.held.len() - before;
        self.release(out)
    }

    /// Ends the text. An incomplete character becomes U+FFFD, as in any decoder.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
        if !self.bytes.is_empty() {
            self.bytes.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// Takes the stop string that ended the text.
    pub(crate) fn take_stopped_by(&mut self) -> Option<String> {
        self.stopped_by.take()
    }

    /// The number of text bytes so far, released or held back, in whole characters only.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// The number of text bytes that were released or dropped.
    pub(crate) fn released(&self) -> usize {
        self.seen - self.held.len()
    }

    fn release(&mut self, out: &mut String) -> Pushed {
        if let Some((start, stop)) = first_stop(&self.held, &self.stops) {
            self.stopped_by = Some(stop.to_owned());
            out.push_str(&self.held[..start]);
            // The stop string and everything after it do not count as text.
            self.seen -= self.held.len() - start;
            self.held.clear();
            self.bytes.clear();
            return Pushed::Stopped;
        }
        let keep = possible_stop(&self.held, &self.stops);
        let leave = self.held.len() - keep;
        out.push_str(&self.held[..leave]);
        self.held.drain(..leave);
        Pushed::More
    }
}

/// Moves whole characters from `bytes` to `text`. Invalid bytes are replaced by U+FFFD.
fn take_characters(bytes: &mut Vec<u8>, text: &mut String) {
    let mut taken = 0;
    while taken < bytes.len() {
        match std::str::from_utf8(&bytes[taken..]) {
            Ok(rest) => {
                text.push_str(rest);
                taken = bytes.len();
            }
            Err(error) => {
                let valid = taken + error.valid_up_to();
                text.push_str(std::str::from_utf8(&bytes[taken..valid]).unwrap_or_default());
                taken = valid;
                let Some(bad) = error.error_len() else { break };
                text.push(char::REPLACEMENT_CHARACTER);
                taken += bad;
            }
        }
    }
    bytes.drain(..taken);
}

/// The start of the stop string that is completed first, and the string. It need not be the one that begins first:
/// a client that reads the stream character by character could not know that one yet.
fn first_stop<'a>(text: &str, stops: &'a [String]) -> Option<(usize, &'a str)> {
    let found = stops.iter().filter_map(|stop| {
        text.find(stop.as_str())
            .map(|start| (start + stop.len(), start, stop.as_str()))
    });
    found.min().map(|(_end, start, stop)| (start, stop))
}

/// The length of the longest suffix of `text` that is the beginning of a stop string.
fn possible_stop(text: &str, stops: &[String]) -> usize {
    let longest = |stop: &String| {
        let most = text.len().min(stop.len() - 1);
        (1..=most)
            .rev()
            .find(|&len| text.as_bytes().ends_with(&stop.as_bytes()[..len]))
            .unwrap_or(0)
    };
    let keep = stops.iter().map(longest).max().unwrap_or(0);
    // The first bytes of a stop string can end inside a character only if that character is
    // incomplete, and `text` has only whole ones.
    debug_assert!(
        text.is_char_boundary(text.len() - keep),
        "a stop string begins with a whole character"
    );
    keep
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes `bytes` in pieces of `step` bytes. Returns all released text, and whether a stop
    /// string ended it.
    fn run(bytes: &[u8], step: usize, stops: &[&str]) -> (String, bool) {
        let mut text = Text::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut out = String::new();
        for token in bytes.chunks(step) {
            if text.push(token, &mut out) == Pushed::Stopped {
                return (out, true);
            }
        }
        text.finish(&mut out);
        (out, false)
    }

    #[test]
    fn characters_that_straddle_tokens_leave_whole() {
        let text = "né — 🦀 ok";
        for step in 1..=text.len() {
            assert_eq!(run(text.as_bytes(), step, &[]), (text.to_owned(), false));
        }
    }

    #[test]
    fn half_a_character_waits_for_its_other_half() {
        let mut text = Text::new(vec![]);
        let mut out = String::new();
        text.push(&"🦀".as_bytes()[..3], &mut out);
        assert_eq!(out, "");
        text.push(&"🦀".as_bytes()[3..], &mut out);
        assert_eq!(out, "🦀");
    }

    #[test]
    fn bytes_that_are_no_character_become_the_replacement_character() {
        for step in 1..=4 {
            assert_eq!(
                run(b"a\xffb\xc3", step, &[]),
                ("a\u{fffd}b\u{fffd}".to_owned(), false)
            );
        }
    }

    #[test]
    fn a_stop_string_is_found_however_the_text_is_cut() {
        let text = "one two STOP three";
        for step in 1..=text.len() {
            assert_eq!(
                run(text.as_bytes(), step, &["STOP"]),
                ("one two ".to_owned(), true)
            );
        }
    }

    #[test]
    fn what_only_began_like_a_stop_string_leaves_in_the_end() {
        for step in 1..=6 {
            assert_eq!(
                run("a STO".as_bytes(), step, &["STOP"]),
                ("a STO".to_owned(), false)
            );
            assert_eq!(
                run("STSTO!".as_bytes(), step, &["STOP"]),
                ("STSTO!".to_owned(), false)
            );
        }
    }

    #[test]
    fn of_two_stop_strings_the_one_completed_first_counts_however_the_text_is_cut() {
        for step in 1..=5 {
            assert_eq!(run(b"xabcy", step, &["abc", "b"]), ("xa".to_owned(), true));
        }
        let mut text = Text::new(vec!["abc".to_owned(), "b".to_owned()]);
        text.push(b"xabcy", &mut String::new());
        assert_eq!(text.take_stopped_by().as_deref(), Some("b"));
    }

    #[test]
    fn a_stop_string_of_many_bytes_a_character_is_found() {
        for step in 1..=20 {
            assert_eq!(
                run("ja — 終わり mehr".as_bytes(), step, &["終わ"]),
                ("ja — ".to_owned(), true)
            );
        }
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let mut text = Text::new(vec!["\n\nUser:".to_owned()]);
        let mut out = String::new();
        text.push(b"hello\n", &mut out);
        assert_eq!(out, "hello");
        text.push(b"\nUs", &mut out);
        assert_eq!(out, "hello");
        text.push(b"eful", &mut out);
        assert_eq!(out, "hello\n\nUseful");
    }
}
