//! Separates the text of one choice into reasoning (between tags at the beginning) and content.
//!
//! The result is the same wherever the text is split. A possible beginning of a tag is held back,
//! with the spaces before it.

use loggia_wire::Extra;
use loggia_wire::openai::{ChunkChoice, Delta, Logprobs, TokenLogprob};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// The maximum number of space bytes before the tag, as in the embedded engine.
const LONGEST_SPACE: usize = 64;

/// The maximum number of tokens whose log-probabilities are held until it is known where they
/// belong. A tag and its spaces have fewer.
const MOST_TOKENS: usize = 128;

/// The state of one choice.
#[derive(Debug, Default)]
pub(super) struct Choice {
    state: State,
    /// Text that was received and not sent yet.
    held: String,
    /// The number of bytes of the text that belong to reasoning, with its tags and the spaces
    /// around them.
    reasoning_bytes: usize,
    tokens: Tokens,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the beginning: only spaces have arrived.
    #[default]
    Beginning,
    /// After the opening tag. Spaces here are dropped.
    Opened,
    Thoughts,
    /// After the closing tag. Spaces here are dropped too.
    Closed,
    /// In the content, after the reasoning.
    Text,
}

impl Choice {
    /// Separates a piece from the engine in place. Returns false if there is nothing to send yet.
    pub(super) fn read(&mut self, said: &mut ChunkChoice) -> bool {
        if self.state == State::Text
            || (self.state == State::Beginning
                && self.held.is_empty()
                && self.begins_otherwise(said))
        {
            self.state = State::Text;
            return true;
        }
        let text = said.delta.content.take_if(|text| !text.is_empty());
        if self.state == State::Beginning && self.held.is_empty() && text.is_none() {
            self.tokens.pass(said);
            return true;
        }
        let had_logprobs = said.logprobs.is_some();
        self.tokens.push(
            said.logprobs
                .as_mut()
                .and_then(|logprobs| logprobs.content.take())
                .unwrap_or_default(),
        );
        self.held.push_str(text.as_deref().unwrap_or_default());
        if self.state == State::Beginning
            && (says_otherwise(&said.delta) || self.tokens.held.len() > MOST_TOKENS)
        {
            self.state = State::Text;
        }
        while self.step(&mut said.delta) {}
        if said.finish_reason.is_some() {
            self.finish(&mut said.delta);
        }
        let of_text = self.tokens.take(self.reasoning_bytes, self.state);
        write_logprobs(said, of_text);
        (text.is_none() && !had_logprobs)
            || !said.delta.is_empty()
            || said.logprobs.is_some()
            || said.finish_reason.is_some()
            || !said.extra.is_empty()
    }

    /// Returns the number of reasoning tokens, tags included, as far as the engine sent them one by
    /// one.
    pub(super) fn reasoning_tokens(&self) -> u64 {
        self.tokens.reasoning_bytes
    }

    /// Returns whether the answer begins with something other than reasoning, as most do. Then the
    /// text need not be moved.
    fn begins_otherwise(&self, said: &ChunkChoice) -> bool {
        let text = said
            .delta
            .content
            .as_deref()
            .unwrap_or_default()
            .trim_start();
        let is_text = !text.is_empty() && !text.starts_with(OPEN) && !OPEN.starts_with(text);
        self.tokens.held.is_empty() && (is_text || says_otherwise(&said.delta))
    }

    /// Moves the text that can be sent into the delta. Returns whether there may be more.
    fn step(&mut self, delta: &mut Delta) -> bool {
        match self.state {
            State::Beginning => self.beginning(),
            State::Opened => self.pass_spaces(State::Thoughts),
            State::Thoughts => self.thoughts(delta),
            State::Closed => self.pass_spaces(State::Text),
            State::Text => {
                tell(&mut delta.content, &std::mem::take(&mut self.held));
                false
            }
        }
    }

    fn beginning(&mut self) -> bool {
        let rest = self.held.trim_start();
        let spaces = self.held.len() - rest.len();
        if spaces > LONGEST_SPACE {
            self.state = State::Text;
        } else if rest.starts_with(OPEN) {
            self.pass(spaces + OPEN.len());
            self.state = State::Opened;
        } else if OPEN.starts_with(rest) {
            return false;
        } else {
            self.state = State::Text;
        }
        true
    }

    fn pass_spaces(&mut self, then: State) -> bool {
        self.pass(self.held.len() - self.held.trim_start().len());
        if self.held.is_empty() {
            return false;
        }
        self.state = then;
        true
    }

    fn thoughts(&mut self, delta: &mut Delta) -> bool {
        let end = self.held.find(CLOSE);
        let told =
            end.unwrap_or_else(|| self.held.len() - beginning_of_the_tag_at_the_end(&self.held));
        think(delta, &self.held[..told]);
        self.pass(told + end.map_or(0, |_| CLOSE.len()));
        if end.is_some() {
            self.state = State::Closed;
        }
        end.is_some()
    }

    /// Handles the end of the text. Text after an opening tag without a closing tag is reasoning:
    /// the answer was truncated.
    fn finish(&mut self, delta: &mut Delta) {
        match self.state {
            State::Beginning | State::Text => {
                self.state = State::Text;
                tell(&mut delta.content, &self.held);
            }
            State::Opened | State::Thoughts | State::Closed => {
                think(delta, &self.held);
                self.reasoning_bytes = usize::MAX;
            }
        }
        self.held.clear();
    }

    fn pass(&mut self, bytes: usize) {
        self.held.drain(..bytes);
        self.reasoning_bytes = self.reasoning_bytes.saturating_add(bytes);
    }
}

/// Tokens with log-probabilities. `logprobs.content` must contain only the tokens of the content.
#[derive(Debug, Default)]
struct Tokens {
    held: Vec<TokenLogprob>,
    /// The position of the first token in the text, in bytes.
    start: usize,
    /// The number of reasoning tokens.
    reasoning_bytes: u64,
}

impl Tokens {
    fn push(&mut self, more: Vec<TokenLogprob>) {
        self.held.extend(more);
    }

    /// Passes tokens on that have no text yet.
    fn pass(&mut self, said: &ChunkChoice) {
        let tokens = said
            .logprobs
            .as_ref()
            .and_then(|logprobs| logprobs.content.as_ref());
        self.start += tokens.into_iter().flatten().map(length).sum::<usize>();
    }

    /// Returns the tokens of the content, given the number of bytes that belong to reasoning.
    fn take(&mut self, reasoning_bytes: usize, state: State) -> Vec<TokenLogprob> {
        if state == State::Beginning {
            return Vec::new();
        }
        let mut ends = self.start;
        let of_thoughts = self.held.iter().take_while(|token| {
            let begins = ends;
            ends = begins.saturating_add(length(token));
            ends <= reasoning_bytes && begins < reasoning_bytes
        });
        // If the tokens of an engine do not match its text, the number of held tokens must not
        // grow.
        let surplus = if state == State::Text {
            0
        } else {
            self.held.len().saturating_sub(MOST_TOKENS)
        };
        let gone = of_thoughts.count().max(surplus);
        self.start += self.held[..gone].iter().map(length).sum::<usize>();
        self.reasoning_bytes += gone as u64;
        self.held.drain(..gone);
        if state == State::Text {
            std::mem::take(&mut self.held)
        } else {
            Vec::new()
        }
    }
}

fn length(token: &TokenLogprob) -> usize {
    token.bytes.as_ref().map_or(token.token.len(), Vec::len)
}

/// Returns whether a delta shows that no reasoning in the text follows: it has separate reasoning,
/// a call or a refusal.
fn says_otherwise(delta: &Delta) -> bool {
    let says = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    says(&delta.reasoning_content)
        || says(&delta.reasoning)
        || says(&delta.refusal)
        || delta.tool_calls.is_some()
        || delta.function_call.is_some()
}

fn beginning_of_the_tag_at_the_end(text: &str) -> usize {
    let most = text.len().min(CLOSE.len() - 1);
    (1..=most)
        .rev()
        .find(|&length| text.ends_with(&CLOSE[..length]))
        .unwrap_or(0)
}

fn tell(field: &mut Option<String>, more: &str) {
    if !more.is_empty() {
        field.get_or_insert_default().push_str(more);
    }
}

fn think(delta: &mut Delta, more: &str) {
    tell(&mut delta.reasoning_content, more);
    tell(&mut delta.reasoning, more);
}

fn write_logprobs(said: &mut ChunkChoice, tokens: Vec<TokenLogprob>) {
    if !tokens.is_empty() {
        let logprobs = said.logprobs.get_or_insert_with(|| Logprobs {
            content: None,
            refusal: None,
            extra: Extra::new(),
        });
        logprobs.content = Some(tokens);
    } else if said
        .logprobs
        .as_ref()
        .is_some_and(|logprobs| logprobs.refusal.is_none() && logprobs.extra.is_empty())
    {
        said.logprobs = None;
    }
}
