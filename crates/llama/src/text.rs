//! From the bytes of tokens to text that may leave: whole characters only, and nothing that might
//! turn out to be a stop string.
//!
//! Pure and stepped by hand. Which tokens there are, and when to end for other reasons, is decided
//! elsewhere.

/// What became of the text that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Everything but a possible beginning of a stop string or of a character has been released.
    More,
    /// A stop string was completed; what came before it has been released, and nothing will be any
    /// more.
    Stopped,
}

/// Holds back what may not leave yet. However the bytes are cut into pushes, the text released is
/// the same.
#[derive(Debug)]
pub(crate) struct Text {
    stops: Vec<String>,
    /// Bytes of a character that is not whole yet: three at most.
    bytes: Vec<u8>,
    /// Characters held back because they may begin a stop string: fewer bytes than the longest of
    /// these.
    held: String,
    /// How many bytes of text have been seen, released or not.
    seen: usize,
}

impl Text {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self {
            stops,
            bytes: Vec::new(),
            held: String::new(),
            seen: 0,
        }
    }

    /// Takes the bytes of one token, and appends to `out` what may leave now.
    pub(crate) fn push(&mut self, token: &[u8], out: &mut String) -> Pushed {
        self.bytes.extend_from_slice(token);
        let before = self.held.len();
        take_characters(&mut self.bytes, &mut self.held);
        self.seen += self.held.len() - before;
        self.release(out)
    }

    /// No more tokens will come. A character that was cut short leaves as U+FFFD, as any decoder
    /// shows it.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
        if !self.bytes.is_empty() {
            self.bytes.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }

    /// How many bytes of text have been seen so far, released or held back; whole characters only.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// How many bytes of text have been released or dropped for good.
    pub(crate) fn released(&self) -> usize {
        self.seen - self.held.len()
    }

    fn release(&mut self, out: &mut String) -> Pushed {
        if let Some(start) = first_stop(&self.held, &self.stops) {
            out.push_str(&self.held[..start]);
            // What follows the beginning of the stop string was never text.
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

/// Moves whole characters from `bytes` to `text`; what can never become one is replaced by U+FFFD.
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

/// Where the stop string that is completed first begins. First completed, and not first begun: a
/// reader who sees the text come in character by character can choose by nothing else.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    let found = stops.iter().filter_map(|stop| {
        text.find(stop.as_str())
            .map(|start| (start + stop.len(), start))
    });
    found.min().map(|(_end, start)| start)
}

/// The length of the longest end of `text` that a stop string begins with.
fn possible_stop(text: &str, stops: &[String]) -> usize {
    let longest = |stop: &String| {
        let most = text.len().min(stop.len() - 1);
        (1..=most)
            .rev()
            .find(|&len| text.as_bytes().ends_with(&stop.as_bytes()[..len]))
            .unwrap_or(0)
    };
    let keep = stops.iter().map(longest).max().unwrap_or(0);
    // A stop string's first bytes may end inside a character only where that character is not
    // whole, and `text` has whole ones.
    debug_assert!(
        text.is_char_boundary(text.len() - keep),
        "a stop string begins with a whole character"
    );
    keep
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that leaves when `bytes` arrive cut at every `step` bytes, and whether a stop
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
