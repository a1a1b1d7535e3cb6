//! [`Tokens`]: the vocabulary of a model, and its special tokens.

use std::collections::HashMap;

use crate::languages::LANGUAGES;

/// The number of timestamps: 0.00 s to 30.00 s, each 0.02 s.
const TIMESTAMPS: u32 = 1501;

/// The vocabulary of a model. All special tokens follow from its size, because all models have them in
/// the same order: end of text, start of transcript, the languages, tasks and marks, timestamps.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// The bytes of each token below `end_of_text`.
    bytes: Vec<Vec<u8>>,
    /// The tokens by their bytes. Lower ones are merged first.
    by_bytes: HashMap<Vec<u8>, u32>,
    pub(crate) end_of_text: u32,
    pub(crate) start: u32,
    /// How many languages there are; 0 for a model of English only.
    pub(crate) languages: u32,
    pub(crate) translate: u32,
    pub(crate) transcribe: u32,
    pub(crate) start_of_previous: u32,
    pub(crate) no_speech: u32,
    pub(crate) no_timestamps: u32,
    pub(crate) first_timestamp: u32,
    /// What is never written: marks of speakers and music, and all special tokens.
    pub(crate) suppressed: Vec<u32>,
}

impl Tokens {
    /// Creates the vocabulary of a model with `size` tokens, from the bytes of its ordinary ones.
    ///
    /// # Errors
    /// The message, if this is not a vocabulary of Whisper.
    pub(crate) fn new(size: usize, mut bytes: Vec<Vec<u8>>) -> Result<Self, String> {
        let (is_multilingual, languages) = match size {
            51_864 => (0, 99),
            51_865 => (1, 99),
            51_866 => (1, 100),
            _ => {
                return Err(format!(
                    "a Whisper model has 51,864, 51,865 or 51,866 tokens, and this one has {size}"
                ));
            }
        };
        let end_of_text = 50_256 + is_multilingual;
        bytes.truncate(end_of_text as usize);
        // Whisper's tokens of single bytes are the first ones; without them some text has no token.
        if bytes.len() + 1 < end_of_text as usize {
            let message = format!("its vocabulary has {} tokens only", bytes.len());
            return Err(message);
        }
        let by_bytes = bytes.iter().cloned().zip(0..).collect();
        let start = end_of_text + 1;
        let translate = start + 1 + languages;
        let mut tokens = Self {
            bytes,
            by_bytes,
            end_of_text,
            start,
            languages: languages * is_multilingual,
            translate,
            transcribe: translate + 1,
            start_of_previous: translate + 3,
            no_speech: translate + 4,
            no_timestamps: translate + 5,
            first_timestamp: translate + 6,
            suppressed: Vec::new(),
        };
        debug_assert_eq!((tokens.first_timestamp + TIMESTAMPS) as usize, size);
        tokens.suppressed = tokens.not_speech();
        Ok(tokens)
    }

    pub(crate) fn is_multilingual(&self) -> bool {
        self.languages > 0
    }

    /// Returns the token of a language.
    pub(crate) fn language(&self, index: usize) -> Option<u32> {
        let index = u32::try_from(index).ok()?;
        (index < self.languages).then(|| self.start + 1 + index)
    }

    /// Returns the bytes of a token; none for special ones.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// Returns the text of tokens, without the special ones. Broken characters become `�`.
    pub(crate) fn text(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|token| self.bytes(*token))
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn is_timestamp(&self, token: u32) -> bool {
        token >= self.first_timestamp
    }

    /// Returns the tokens of a text.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        for piece in pieces(text) {
            match self.by_bytes.get(piece.as_bytes()) {
                Some(whole) => tokens.push(*whole),
                None => self.merge(piece.as_bytes(), &mut tokens),
            }
        }
        tokens
    }

    /// Merges the bytes of a piece: always the two neighbours that make the lowest token.
    fn merge(&self, piece: &[u8], tokens: &mut Vec<u32>) {
        // Longer pieces than words take quadratic time.
        for piece in piece.chunks(512) {
            let mut ends: Vec<usize> = (1..=piece.len()).collect();
            loop {
                let begin = |at: usize| if at == 0 { 0 } else { ends[at - 1] };
                let merged = (1..ends.len()).filter_map(|at| {
                    let rank = self.by_bytes.get(&piece[begin(at - 1)..ends[at]])?;
                    Some((*rank, at - 1))
                });
                match merged.min() {
                    Some((_, at)) => drop(ends.remove(at)),
                    None => break,
                }
            }
            let mut begin = 0;
            for end in ends {
                tokens.extend(self.by_bytes.get(&piece[begin..end]));
                begin = end;
            }
        }
    }

    /// The tokens that OpenAI's own decoder never writes.
    fn not_speech(&self) -> Vec<u32> {
        let symbols = "\" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』 << >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪";
        let music = ["♩", "♪", "♫", "♬", "♭", "♮", "♯"];
        let mut found: Vec<u32> = [" -", " '"]
            .into_iter()
            .filter_map(|text| self.encode(text).first().copied())
            .collect();
        let symbols = symbols.split(' ').map(|symbol| (symbol, false));
        for (symbol, is_music) in symbols.chain(music.map(|symbol| (symbol, true))) {
            for text in [symbol.to_owned(), format!(" {symbol}")] {
                match self.encode(&text)[..] {
                    [only] => found.push(only),
                    [first, ..] if is_music => found.push(first),
                    _ => {}
                }
            }
        }
        found.extend(self.start..=self.no_speech);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Returns the language of a token.
    pub(crate) fn name_of_language(index: usize) -> &'static str {
        LANGUAGES.get(index).map_or("english", |(_, name)| name)
    }
}

/// The bytes that tokenizer files write as characters: printable ones stand for themselves, the others
/// for characters from U+0100 on.
pub(crate) fn bytes_of_written(written: &str) -> Option<Vec<u8>> {
    let byte = |character: char| {
        let code = u32::from(character);
        match code {
            0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u8::try_from(code).ok(),
            0x100..=0x120 => u8::try_from(code - 0x100).ok(),
            0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
            0x143 => Some(0xAD),
            _ => None,
        }
    };
    written.chars().map(byte).collect()
}

/// What a character is to the rules of GPT-2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn class(character: char) -> Class {
    if character.is_whitespace() {
        Class::Space
    } else if character.is_alphabetic() {
        Class::Letter
    } else if character.is_numeric() {
        Class::Number
    } else {
        Class::Other
    }
}

/// Divides a text as GPT-2 does: words, numbers and signs with the space before them, endings such as
/// `'s`, and further spaces.
fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(first_piece(rest));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Returns the length of the first piece of a text, which is not empty.
fn first_piece(text: &str) -> usize {
    let endings = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
    if let Some(ending) = endings.iter().find(|ending| text.starts_with(**ending)) {
        return ending.len();
    }
    let after = text.strip_prefix(' ').unwrap_or(text);
    let kind = after.chars().next().map_or(Class::Space, class);
    if kind != Class::Space {
        return text.len() - after.len() + run(after, kind);
    }
    // The last space belongs to the next word.
    let spaces = run(text, Class::Space);
    let last = text[..spaces].chars().next_back().map_or(0, char::len_utf8);
    if spaces == text.len() || spaces == last {
        spaces
    } else {
        spaces - last
    }
}

/// Returns the length of the characters of a class at the beginning.
fn run(text: &str, kind: Class) -> usize {
    text.find(|character| class(character) != kind)
        .unwrap_or(text.len())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A vocabulary of English with the single bytes, some words, and fillers.
    pub(crate) fn english(words: &[&str]) -> Tokens {
        let mut bytes: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        bytes.extend(words.iter().map(|word| word.as_bytes().to_vec()));
        for filler in bytes.len()..50_256 {
            bytes.push(format!("\u{1}{filler}").into_bytes());
        }
        Tokens::new(51_864, bytes).unwrap()
    }

    #[test]
    fn special_tokens_are_where_openai_has_them() {
        let english = english(&[]);
        let special = |of: &Tokens| {
            [
                of.end_of_text,
                of.start,
                of.translate,
                of.transcribe,
                of.start_of_previous,
                of.no_speech,
                of.no_timestamps,
                of.first_timestamp,
            ]
        };
        assert_eq!(
            special(&english),
            [50256, 50257, 50357, 50358, 50360, 50361, 50362, 50363]
        );
        assert_eq!(english.language(0), None);
        let all = |size| Tokens::new(size, vec![vec![b'a']; 50_257]).unwrap();
        let (v2, v3) = (all(51_865), all(51_866));
        assert_eq!(
            special(&v2),
            [50257, 50258, 50358, 50359, 50361, 50362, 50363, 50364]
        );
        assert_eq!(
            (v2.language(0), v2.language(98), v2.language(99)),
            (Some(50259), Some(50357), None)
        );
        assert_eq!(
            special(&v3)[2..],
            [50359, 50360, 50362, 50363, 50364, 50365]
        );
        assert!(Tokens::new(32_000, Vec::new()).is_err());
        assert!(Tokens::new(51_864, Vec::new()).is_err());
    }

    #[test]
    fn a_text_is_divided_as_gpt_2_does() {
        assert_eq!(
            pieces("It's  3 o'clock,  ok?! \n"),
            [
                "It", "'s", " ", " 3", " o", "'", "clock", ",", " ", " ok", "?!", " \n"
            ]
        );
        assert_eq!(pieces(" a"), [" a"]);
        assert_eq!(pieces("été 日本"), ["été", " 日本"]);
        assert!(pieces("").is_empty());
    }

    #[test]
    fn the_lowest_neighbours_are_merged_first_and_every_text_comes_back() {
        let tokens = english(&["he", "ll", "lo", "hell", " w"]);
        assert_eq!(tokens.encode("hello"), [259, u32::from(b'o')]);
        assert_eq!(tokens.encode(" w"), [260]);
        for text in ["hello w 日本 'll \n\n x", "é", "  "] {
            assert_eq!(tokens.text(&tokens.encode(text)), text);
        }
    }

    #[test]
    fn written_bytes_are_read() {
        assert_eq!(bytes_of_written("Ġhi").unwrap(), b" hi");
        assert_eq!(bytes_of_written("ÃĊ").unwrap(), [0xC3, 0x0A]);
        assert_eq!(bytes_of_written("ġłŃ").unwrap(), [0x7F, 0xA0, 0xAD]);
        assert_eq!(bytes_of_written("日"), None);
    }
}
