//! Finds the markers by which a model cites passages in the text that it writes, such as `【1】`.

/// The signs around a marker.
const BEGIN: char = '【';
const END: char = '】';

/// The longest marker, in characters. OpenAI's own models write `【4:0†source】`.
const LONGEST: usize = 32;

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cited {
    /// A piece of text for the client.
    Text(String),
    /// A passage is cited here, by its number.
    Passage(usize),
}

/// Takes the markers out of a text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Citations {
    /// A text that may be the beginning of a marker, held back until that is known.
    held: String,
}

impl Citations {
    /// Takes a piece of the text. Returns the text and the citations that are certain.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Cited> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        for one in text.chars() {
            if one == BEGIN {
                // The text held back is not a marker.
                plain.push_str(&std::mem::take(&mut self.held));
                self.held.push(one);
            } else if self.held.is_empty() {
                plain.push(one);
            } else {
                self.held.push(one);
                if one == END {
                    let marker = std::mem::take(&mut self.held);
                    match number(&marker) {
                        Some(number) => {
                            push_text(&mut pieces, &mut plain);
                            pieces.push(Cited::Passage(number));
                        }
                        None => plain.push_str(&marker),
                    }
                } else if one == '\n' || self.held.chars().count() > LONGEST {
                    plain.push_str(&std::mem::take(&mut self.held));
                }
            }
        }
        push_text(&mut pieces, &mut plain);
        pieces
    }

    /// Ends the text. Returns the text that was held back.
    pub(crate) fn end(&mut self) -> Option<String> {
        Some(std::mem::take(&mut self.held)).filter(|held| !held.is_empty())
    }
}

fn push_text(pieces: &mut Vec<Cited>, plain: &mut String) {
    if !plain.is_empty() {
        pieces.push(Cited::Text(std::mem::take(plain)));
    }
}

/// Returns the number at the beginning of a marker.
fn number(marker: &str) -> Option<usize> {
    let inner = marker.trim_start_matches(BEGIN).trim_start();
    let digits = inner.find(|one: char| !one.is_ascii_digit())?;
    inner[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cited {
        Cited::Text(text.to_owned())
    }

    /// Passes a text in pieces of `at_once` characters, and joins the results.
    fn taken(whole: &str, at_once: usize) -> Vec<Cited> {
        let letters: Vec<char> = whole.chars().collect();
        let mut citations = Citations::default();
        let mut pieces: Vec<Cited> = Vec::new();
        let mut add = |piece: Cited| match (pieces.last_mut(), piece) {
            (Some(Cited::Text(last)), Cited::Text(more)) => last.push_str(&more),
            (_, piece) => pieces.push(piece),
        };
        for some in letters.chunks(at_once) {
            let some: String = some.iter().collect();
            citations.push(&some).into_iter().for_each(&mut add);
        }
        citations.end().map(Cited::Text).into_iter().for_each(add);
        pieces
    }

    #[test]
    fn markers_are_found_wherever_the_text_is_cut() {
        for at_once in 1..12 {
            let found = taken("Cats purr.【1】 Dogs bark【2†source】【10】!", at_once);
            let expected = [
                text("Cats purr."),
                Cited::Passage(1),
                text(" Dogs bark"),
                Cited::Passage(2),
                Cited::Passage(10),
                text("!"),
            ];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_no_marker_stays_in_the_text() {
        let long = format!("【1{}】", "x".repeat(40));
        for whole in [
            "a 【note】 b",
            "【】",
            "【1",
            "【【x】",
            "【1\n】",
            "[1] a[2]",
            &long,
            "】",
        ] {
            for at_once in 1..8 {
                assert_eq!(taken(whole, at_once), [text(whole)], "{whole}");
            }
        }
    }
}
