//! The text of one choice, piece by piece: reasoning between tags at its beginning, and what
//! follows.
//!
//! The same comes out wherever the text is cut. Held back is what may be the beginning of a tag,
//! with the spaces before it.

use loggia_wire::Extra;
use loggia_wire::openai::{ChunkChoice, Delta, Logprobs, TokenLogprob};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// The most bytes of spaces before the tag, as in the embedded engine.
const LONGEST_SPACE: usize = 64;

/// The most tokens whose log-probabilities wait until it is known what they belong to. Those of a
/// tag and its spaces are fewer.
const MOST_TOKENS: usize = 128;

/// One choice's answer.
#[derive(Debug, Default)]
pub(super) struct Choice {
    at: At,
    /// What has come and is not told yet.
    held: String,
    /// How many bytes of the text were reasoning, its tags and the spaces around.
    thought: usize,
    tokens: Tokens,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before anything but spaces.
    #[default]
    Beginning,
    /// Behind the first tag: spaces here are nobody's.
    Opened,
    Thoughts,
    /// Behind the second tag: so are these.
    Closed,
    /// All that follows is the answer itself.
    Text,
}

impl Choice {
    /// Reads what an engine says, and writes what it means in its place. `false` where that is
    /// nothing yet.
    pub(super) fn read(&mut self, said: &mut ChunkChoice) -> bool {
        if self.at == At::Text
            || (self.at == At::Beginning && self.held.is_empty() && self.begins_otherwise(said))
        {
            self.at = At::Text;
            return true;
        }
        let text = said.delta.content.take_if(|text| !text.is_empty());
        if self.at == At::Beginning && self.held.is_empty() && text.is_none() {
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
        if self.at == At::Beginning
            && (says_otherwise(&said.delta) || self.tokens.held.len() > MOST_TOKENS)
        {
            self.at = At::Text;
        }
        while self.step(&mut said.delta) {}
        if said.finish_reason.is_some() {
            self.finish(&mut said.delta);
        }
        let of_text = self.tokens.take(self.thought, self.at);
        write_logprobs(said, of_text);
        (text.is_none() && !had_logprobs)
            || !said.delta.is_empty()
            || said.logprobs.is_some()
            || said.finish_reason.is_some()
            || !said.extra.is_empty()
    }

    /// Tokens of reasoning, tags included, as far as they came one by one.
    pub(super) fn thought_tokens(&self) -> u64 {
        self.tokens.thought
    }

    /// Whether the answer has begun with something else, which most do: then nothing need be moved.
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

    /// Tells what can be told; says whether there may be more to tell.
    fn step(&mut self, delta: &mut Delta) -> bool {
        match self.at {
            At::Beginning => self.beginning(),
            At::Opened => self.pass_spaces(At::Thoughts),
            At::Thoughts => self.thoughts(delta),
            At::Closed => self.pass_spaces(At::Text),
            At::Text => {
                tell(&mut delta.content, &std::mem::take(&mut self.held));
                false
            }
        }
    }

    fn beginning(&mut self) -> bool {
        let rest = self.held.trim_start();
        let spaces = self.held.len() - rest.len();
        if spaces > LONGEST_SPACE {
            self.at = At::Text;
        } else if rest.starts_with(OPEN) {
            self.pass(spaces + OPEN.len());
            self.at = At::Opened;
        } else if OPEN.starts_with(rest) {
            return false;
        } else {
            self.at = At::Text;
        }
        true
    }

    fn pass_spaces(&mut self, then: At) -> bool {
        self.pass(self.held.len() - self.held.trim_start().len());
        if self.held.is_empty() {
            return false;
        }
        self.at = then;
        true
    }

    fn thoughts(&mut self, delta: &mut Delta) -> bool {
        let end = self.held.find(CLOSE);
        let told =
            end.unwrap_or_else(|| self.held.len() - beginning_of_the_tag_at_the_end(&self.held));
        think(delta, &self.held[..told]);
        self.pass(told + end.map_or(0, |_| CLOSE.len()));
        if end.is_some() {
            self.at = At::Closed;
        }
        end.is_some()
    }

    /// The text has ended. What was never closed is reasoning all the same: the answer was cut
    /// within it.
    fn finish(&mut self, delta: &mut Delta) {
        match self.at {
            At::Beginning | At::Text => {
                self.at = At::Text;
                tell(&mut delta.content, &self.held);
            }
            At::Opened | At::Thoughts | At::Closed => {
                think(delta, &self.held);
                self.thought = usize::MAX;
            }
        }
        self.held.clear();
    }

    fn pass(&mut self, bytes: usize) {
        self.held.drain(..bytes);
        self.thought = self.thought.saturating_add(bytes);
    }
}

/// The tokens whose log-probabilities came: `logprobs.content` is of the tokens of the content.
#[derive(Debug, Default)]
struct Tokens {
    held: Vec<TokenLogprob>,
    /// Where in the text the first of them begins, in bytes.
    start: usize,
    /// How many were of reasoning.
    thought: u64,
}

impl Tokens {
    fn push(&mut self, more: Vec<TokenLogprob>) {
        self.held.extend(more);
    }

    /// Tokens that stand for no text yet are nothing to wait for.
    fn pass(&mut self, said: &ChunkChoice) {
        let tokens = said
            .logprobs
            .as_ref()
            .and_then(|logprobs| logprobs.content.as_ref());
        self.start += tokens.into_iter().flatten().map(length).sum::<usize>();
    }

    /// Those of the content, now that so many bytes of the text are known to be reasoning.
    fn take(&mut self, thought: usize, at: At) -> Vec<TokenLogprob> {
        if at == At::Beginning {
            return Vec::new();
        }
        let mut ends = self.start;
        let of_thoughts = self.held.iter().take_while(|token| {
            let begins = ends;
            ends = begins.saturating_add(length(token));
            ends <= thought && begins < thought
        });
        // An engine whose tokens are not those of its text must not make more and more of them
        // wait.
        let surplus = if at == At::Text {
            0
        } else {
            self.held.len().saturating_sub(MOST_TOKENS)
        };
        let gone = of_thoughts.count().max(surplus);
        self.start += self.held[..gone].iter().map(length).sum::<usize>();
        self.thought += gone as u64;
        self.held.drain(..gone);
        if at == At::Text {
            std::mem::take(&mut self.held)
        } else {
            Vec::new()
        }
    }
}

fn length(token: &TokenLogprob) -> usize {
    token.bytes.as_ref().map_or(token.token.len(), Vec::len)
}

/// Whether a delta has what no reasoning in the text comes before: the engine's own, a call, a
/// refusal.
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
