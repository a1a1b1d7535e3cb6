//! The model's tokens as bytes, in the trie over which token masks are computed.
//!
//! Markers of the model's syntax (`<tool_call>`, `</think>`, …) are special tokens: a grammar can
//! require one, and no string of a JSON value can contain one. Other control tokens have no text,
//! and no grammar allows them.

use std::sync::Arc;

use llguidance::toktrie::{
    INVALID_TOKEN, Recognizer, SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};

use super::token_kinds;
use crate::Token;

/// The maximum length of a token in bytes. Longer tokens are never chosen under a constraint,
/// because the trie cannot hold them.
const LONGEST_TOKEN: usize = 1000;

/// The maximum length of all tokens together, in bytes. The trie holds four million nodes.
const MOST_BYTES: usize = 4_000_000;

/// The tokens from which a vocabulary is built.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// The bytes of each token, as they appear in an answer.
    pub(crate) tokens: Vec<Vec<u8>>,
    /// The tokens that end an answer.
    pub(crate) ends: Vec<Token>,
    /// The markers that are single tokens.
    pub(crate) markers: Vec<(&'static str, Token)>,
}

/// Divides a text into tokens as the model's own tokenizer does.
pub(crate) type Tokenize = Box<dyn Fn(&str) -> Vec<Token> + Send + Sync>;

/// A model's tokens, prepared for masks.
pub(crate) struct Vocabulary {
    env: TokEnv,
    words: Words,
    numeric: Vec<Token>,
    lengthy: Vec<Token>,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary")
            .field("tokens", &self.words.tokens.len())
            .finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// Builds the trie, in some milliseconds. Returns `None` if the vocabulary is too large. Without
    /// `tokenize`, grammars do not force tokens: the model chooses how a text is divided.
    pub(crate) fn new(mut words: Words, tokenize: Option<Tokenize>) -> Option<Self> {
        words.markers.retain(|(text, _)| is_bracketed(text));
        let size = u32::try_from(words.tokens.len())
            .ok()
            .filter(|&size| size > 0 && size < 0x00ff_ffff)?;
        let mut spelled = words.tokens.clone();
        for &end in &words.ends {
            spelled.get_mut(end as usize)?.clear();
        }
        for (text, token) in &words.markers {
            let word = spelled.get_mut(*token as usize)?;
            if !words.ends.contains(token) {
                *word = [&[TokTrie::SPECIAL_TOKEN_MARKER], text.as_bytes()].concat();
            }
        }
        spelled
            .iter_mut()
            .filter(|word| word.len() > LONGEST_TOKEN)
            .for_each(Vec::clear);
        if spelled.iter().map(Vec::len).sum::<usize>() > MOST_BYTES {
            return None;
        }
        let first_end = words.ends.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(size, first_end), &spelled);
        if !words.ends.is_empty() {
            trie = trie.with_eos_tokens(&words.ends);
        }
        let all_that = |test: fn(&[u8]) -> bool| -> Vec<Token> {
            (0..)
                .zip(&words.tokens)
                .filter(|(_, word)| test(word))
                .map(|(token, _)| token)
                .collect()
        };
        let (numeric, lengthy) = (
            all_that(token_kinds::continues_a_number),
            all_that(token_kinds::is_lengthy),
        );
        Some(Self {
            env: Arc::new(Trie { trie, tokenize }),
            words,
            numeric,
            lengthy,
        })
    }

    /// The tokens that may continue a number.
    pub(super) fn numeric(&self) -> &[Token] {
        &self.numeric
    }

    /// The tokens with unusually many digits or brackets.
    pub(super) fn lengthy(&self) -> &[Token] {
        &self.lengthy
    }

    pub(super) fn env(&self) -> &TokEnv {
        &self.env
    }

    pub(super) fn trie(&self) -> &TokTrie {
        self.env.tok_trie()
    }

    /// The trie of some of the tokens.
    pub(super) fn part_of(&self, tokens: &SimpleVob) -> TokEnv {
        Arc::new(Trie {
            trie: self.trie().filter(tokens),
            tokenize: None,
        })
    }

    /// Divides a text that must follow into tokens, as the model's tokenizer does. `last` is the
    /// token before it, and `after` is at the end of the text: tokens at the end that could be
    /// longer with what follows are left out. Returns nothing if the model's tokenizer is unknown.
    pub(super) fn forced(
        &self,
        last: Option<Token>,
        text: &[u8],
        after: &mut impl Recognizer,
    ) -> Vec<Token> {
        if text.is_empty() || !self.env.tokenize_is_canonical() {
            return Vec::new();
        }
        let before = last.map_or(&[][..], |token| self.text(token));
        let together = self.env.tokenize_bytes(&[before, text].concat());
        let mut tokens = match (together.split_first(), last) {
            (Some((first, rest)), Some(last)) if *first == last => rest.to_vec(),
            _ => self.env.tokenize_bytes(text),
        };
        let (unsure, _) = self.trie().chop_tokens(after, &tokens);
        tokens.truncate(tokens.len() - unsure);
        tokens
    }

    pub(super) fn len(&self) -> usize {
        self.words.tokens.len()
    }

    /// The text that a token adds to an answer.
    pub(super) fn text(&self, token: Token) -> &[u8] {
        if self.ends(token) {
            return &[];
        }
        self.words
            .tokens
            .get(token as usize)
            .map_or(&[], Vec::as_slice)
    }

    pub(super) fn ends(&self, token: Token) -> bool {
        self.words.ends.contains(&token)
    }

    pub(super) fn all_ends(&self) -> &[Token] {
        &self.words.ends
    }

    /// Finds the marker at the beginning of a text. Returns its length and its token.
    pub(super) fn marker_at(&self, text: &str) -> Option<(usize, Token)> {
        let found = self
            .words
            .markers
            .iter()
            .filter(|(mark, token)| text.starts_with(mark) && !self.ends(*token));
        found.map(|&(mark, token)| (mark.len(), token)).max()
    }

    /// Returns the tokens with which a text may begin. The text of each is a prefix of the text.
    pub(super) fn beginnings<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Token> + 'a {
        let ordinary =
            (1..=text.len()).filter_map(|end| self.trie().token_id_at_bytes(&text[..end]));
        let is_beginning = |(mark, token): &&(&str, Token)| {
            text.starts_with(mark.as_bytes()) && !self.ends(*token)
        };
        ordinary.chain(
            self.words
                .markers
                .iter()
                .filter(is_beginning)
                .map(|&(_, token)| token),
        )
    }

    /// The tokens whose text satisfies a condition.
    pub(super) fn all_that<'a>(
        &'a self,
        test: impl Fn(&[u8]) -> bool + 'a,
    ) -> impl Iterator<Item = Token> + 'a {
        let numbered = (0..).zip(&self.words.tokens);
        numbered
            .filter(move |(_, word)| test(word))
            .map(|(token, _)| token)
    }
}

/// Whether a marker is delimited by brackets. Other markers of some syntaxes (`}`, `;`, fences) are
/// also ordinary text, whose tokens are needed for JSON.
fn is_bracketed(mark: &str) -> bool {
    mark.starts_with('<') && mark.ends_with('>') || mark.starts_with('[') && mark.ends_with(']')
}

struct Trie {
    trie: TokTrie,
    tokenize: Option<Tokenize>,
}

impl Trie {
    /// The tokens into which the model's tokenizer divides a text, if they have this text.
    fn canonical(&self, tokenize: &Tokenize, text: &str) -> Vec<TokenId> {
        let has_text = |tokens: &[TokenId]| {
            let bytes = tokens.iter().flat_map(|&token| self.trie.token(token));
            bytes.eq(text.as_bytes())
        };
        let tokens = tokenize(text);
        if has_text(&tokens) {
            return tokens;
        }
        // Some tokenizers put a space before every text, but not within one.
        let within = tokenize(&format!("\n{text}"));
        let rest = (1..within.len()).find(|&start| has_text(&within[start..]));
        rest.map_or_else(
            || self.trie.greedy_tokenize(text.as_bytes()),
            |start| within[start..].to_vec(),
        )
    }
}

impl TokenizerEnv for Trie {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        let Some(tokenize) = &self.tokenize else {
            return self.trie.greedy_tokenize(text);
        };
        self.trie
            .tokenize_with_greedy_fallback(text, |text| self.canonical(tokenize, text))
    }

    /// Whether the grammar forces tokens. Without the model's tokenizer it does not: the model
    /// chooses how a text is divided into tokens.
    fn tokenize_is_canonical(&self) -> bool {
        self.tokenize.is_some()
    }
}
