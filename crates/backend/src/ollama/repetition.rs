//! Detects whether an answer ends in a repetition. Ollama ends an answer after about 30 equal
//! tokens in a row, without a last line that reports it.

/// The maximum number of bytes kept from the end of an answer.
const KEPT: usize = 4096;

/// The minimum number of repetitions. Ollama allows 31, and its parsers of calls and reasoning may
/// hold some of them back.
const TIMES: usize = 24;

/// The last bytes of an answer.
#[derive(Debug, Default)]
pub(super) struct Tail(String);

impl Tail {
    /// Adds a piece of the answer.
    pub(super) fn push(&mut self, text: &str) {
        let text = &text[text.ceil_char_boundary(text.len().saturating_sub(KEPT))..];
        if self.0.len() + text.len() > 2 * KEPT {
            self.0
                .drain(..self.0.ceil_char_boundary(self.0.len() - KEPT));
        }
        self.0.push_str(text);
    }

    /// Returns whether the answer is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the answer ends with many repetitions of the same text. Spaces are ignored,
    /// because Ollama trims tokens before it compares them.
    pub(super) fn repeats(&self) -> bool {
        let spaces = self
            .0
            .chars()
            .rev()
            .take_while(|c| c.is_whitespace())
            .count();
        let said: Vec<char> = self.0.chars().filter(|c| !c.is_whitespace()).collect();
        let repeats = |period: usize| {
            let last = &said[said.len() - period * TIMES..];
            last.iter()
                .zip(&last[period..])
                .all(|(one, other)| one == other)
        };
        spaces >= TIMES || (1..=said.len() / TIMES).any(repeats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeats(text: &str) -> bool {
        let mut tail = Tail::default();
        for piece in text.split_inclusive(' ') {
            tail.push(piece);
        }
        let mut whole = Tail::default();
        whole.push(text);
        assert_eq!(
            tail.repeats(),
            whole.repeats(),
            "whatever pieces it comes in"
        );
        whole.repeats()
    }

    #[test]
    fn a_text_that_ends_in_the_same_words_many_times_over_repeats() {
        for text in [
            " no".repeat(31),
            "\n".repeat(31),
            "ab".repeat(31),
            " so é".repeat(40),
            " x\n x".repeat(20),
        ] {
            assert!(repeats(&format!("It began well.{text}")), "{text}");
            assert!(
                repeats(&format!("{}{text}", "Long before. ".repeat(2000))),
                "{text}"
            );
        }
    }

    #[test]
    fn any_other_text_does_not() {
        let long = (0..3000)
            .map(|n: u32| n.to_string())
            .collect::<Vec<_>>()
            .join(" is a number. ");
        for text in [
            "",
            " ",
            "no no no",
            &" no".repeat(12),
            &long,
            &format!("{} yes", " no".repeat(31)),
        ] {
            assert!(!repeats(text), "{text}");
        }
    }
}
