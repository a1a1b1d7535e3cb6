//! Truncates a conversation that does not fit the model's context, where the client allows it: the
//! oldest parts are dropped until the prompt and its answer fit. [`Search`] finds their number with
//! few counts.

use std::ops::Range;
use std::sync::Arc;

use loggia_backend::{BackendError, CallHead, ChatCall, Work};
use loggia_wire::Extra;
use loggia_wire::openai::{ChatCompletionRequest, Content, Message, PartKind};
use serde_json::Value;

use crate::admit::ParsedRequest;
use crate::answer::ignored::listed;
use crate::generated::Generate;
use crate::{ApiError, Door, Strictness};

/// The maximum number of tokens kept free for an answer without a limit; in small contexts it is a
/// quarter.
const ANSWER: u64 = 1024;

/// The bytes that are assumed for an image, a sound or a file, to find out which parts are long.
const PER_MEDIUM: u64 = 4096;

/// An upper limit for the tokens that a chat template adds: for each message, and at all.
const PER_MESSAGE: u64 = 32;
const PER_PROMPT: u64 = 1024;

/// The maximum number of counts after the first. Some engines process the prompt for each.
const COUNTS: usize = 6;

/// Drops the oldest parts of a conversation that does not fit. Returns their names, for
/// `x-loggia-truncated`. Adds `truncation` to `ignored` if the size of the context is unknown.
pub(crate) async fn fit<R: Generate>(
    door: &Door,
    asked: &mut ParsedRequest<R>,
    ignored: &mut Vec<String>,
) -> Result<String, ApiError> {
    let Some(parts) = asked.request.droppable() else {
        return Ok(String::new());
    };
    // Boxed, because this is rare: every request would reserve the memory for it.
    Box::pin(fit_parts(door, asked, ignored, &parts)).await
}

async fn fit_parts<R: Generate>(
    door: &Door,
    asked: &mut ParsedRequest<R>,
    ignored: &mut Vec<String>,
    parts: &[Range<usize>],
) -> Result<String, ApiError> {
    let refusals = asked.refusals.clone();
    let whole = chat(R::work(Arc::clone(&asked.request)));
    let whole = whole.map_err(|error| refusals.refuse(error))?;
    let can = door.abilities(&whole.model).await;
    let can = can.map_err(|error| refusals.refuse(error))?;
    let Some(context) = context(can.context_length, &whole.extra) else {
        if asked.strictness == Strictness::Strict {
            return Err(ApiError::unsupported("truncation"));
        }
        ignored.push("truncation".to_owned());
        return Ok(String::new());
    };
    let budget = context.saturating_sub(room(context, whole.token_limit()));
    if parts.is_empty() || most_tokens(&whole).is_some_and(|most| most <= budget) {
        return Ok(String::new());
    }
    let count = |dropped: usize| {
        let shorter = without(&whole, &parts[..dropped]);
        count(door, asked.head.clone(), shorter)
    };
    let tokens = count(0).await.map_err(|error| refusals.refuse(error))?;
    let sizes = parts
        .iter()
        .map(|part| size_of(&whole.messages[part.clone()]));
    let mut search = Search::new(sizes, size_of(&whole.messages), budget, tokens);
    while let Some(dropped) = search.next() {
        let tokens = count(dropped).await;
        search.learn(dropped, tokens.map_err(|error| refusals.refuse(error))?);
    }
    let dropped = &parts[..search.enough()];
    // The chat is no longer shared, so that nothing is copied.
    drop(whole);
    let names = Arc::make_mut(&mut asked.request).drop_messages(dropped);
    Ok(listed(&names))
}

/// Counts the tokens of a prompt. Engines that refuse one that does not fit report its length.
pub(crate) async fn count(
    door: &Door,
    head: CallHead,
    chat: ChatCompletionRequest,
) -> Result<u64, BackendError> {
    let call = ChatCall {
        head,
        work: Arc::new(chat),
    };
    match door.backend.count_tokens(call).await {
        Ok(count) => Ok(count.input_tokens),
        Err(BackendError::ContextLengthExceeded { prompt_tokens, .. }) => {
            Ok(prompt_tokens.unwrap_or(u64::MAX))
        }
        Err(error) => Err(error),
    }
}

/// Returns the size of the context: the model's, or a smaller one that the request sets.
pub(crate) fn context(of_model: Option<u64>, extra: &Extra) -> Option<u64> {
    let options = extra
        .get("options")
        .and_then(|options| options.get("num_ctx"));
    let asked = extra.get("num_ctx").or(options).and_then(Value::as_u64);
    match (of_model, asked) {
        (Some(model), Some(asked)) => Some(model.min(asked)),
        (model, asked) => model.or(asked),
    }
}

/// Returns the number of tokens that are kept free for the answer. Agents send limits that are
/// larger than the context, so at most half of it.
fn room(context: u64, limit: Option<i64>) -> u64 {
    match limit.and_then(|limit| u64::try_from(limit).ok()) {
        Some(limit) => limit.min(context / 2),
        None => ANSWER.min(context / 4),
    }
}

/// Returns an upper bound of the tokens of a prompt, so that most prompts need not be counted: a
/// token has at least one byte. `None` for prompts with images, whose number of tokens does not
/// depend on their bytes.
pub(crate) fn most_tokens(chat: &ChatCompletionRequest) -> Option<u64> {
    most_tokens_of_text(chat).map(|most| most + PER_PROMPT)
}

/// Like [`most_tokens`], without the tokens that a chat template adds to every prompt.
pub(crate) fn most_tokens_of_text(chat: &ChatCompletionRequest) -> Option<u64> {
    let parts = chat.messages.iter().flat_map(|message| &message.content);
    let mut kinds = parts.flat_map(Content::parts).map(|part| &part.kind);
    if kinds.any(|kind| !matches!(kind, PartKind::Text(_) | PartKind::Refusal(_))) {
        return None;
    }
    let bytes = serde_json::to_vec(chat).ok()?.len() as u64;
    Some(bytes + PER_MESSAGE * chat.messages.len() as u64)
}

/// Returns the size of messages in bytes, which is about proportional to their tokens.
fn size_of(messages: &[Message]) -> u64 {
    let of_message = |message: &Message| {
        let content: u64 = match &message.content {
            None => 0,
            Some(Content::Text(text)) => text.len() as u64,
            Some(Content::Parts(parts)) => parts
                .iter()
                .map(|part| part.as_text().map_or(PER_MEDIUM, |text| text.len() as u64))
                .sum(),
        };
        let calls = message.tool_calls.iter().flatten();
        let calls: usize = calls
            .map(|call| call.function.name.len() + call.function.arguments.len())
            .sum();
        PER_MESSAGE / 2 + content + calls as u64
    };
    messages.iter().map(of_message).sum()
}

/// Returns the chat without these messages.
fn without(chat: &ChatCompletionRequest, dropped: &[Range<usize>]) -> ChatCompletionRequest {
    let is_kept = |at: &usize| !dropped.iter().any(|part| part.contains(at));
    ChatCompletionRequest {
        messages: (0..chat.messages.len())
            .filter(is_kept)
            .map(|at| chat.messages[at].clone())
            .collect(),
        ..chat.clone()
    }
}

/// Finds how many of the oldest parts have to be dropped. Pure.
#[derive(Debug)]
struct Search {
    /// The size of the rest after dropping each number of parts.
    left: Vec<u64>,
    budget: u64,
    /// A number of parts without which the prompt is too long, and its tokens then.
    too_few: (usize, u64),
    /// The smallest known number of parts without which the prompt fits.
    enough: usize,
    counts: usize,
    is_done: bool,
}

impl Search {
    /// Begins with the tokens of the whole prompt.
    fn new(sizes: impl IntoIterator<Item = u64>, whole: u64, budget: u64, tokens: u64) -> Self {
        let mut left = vec![whole];
        left.extend(sizes.into_iter().scan(whole, |left, size| {
            *left = left.saturating_sub(size);
            Some(*left)
        }));
        let parts = left.len() - 1;
        let enough = if tokens <= budget { 0 } else { parts };
        Self {
            left,
            budget,
            too_few: (0, tokens),
            enough,
            counts: 0,
            is_done: tokens <= budget,
        }
    }

    /// Returns the number of parts to count the prompt without.
    fn next(&self) -> Option<usize> {
        let (too_few, tokens) = self.too_few;
        if self.is_done || self.counts >= COUNTS || self.enough <= too_few + 1 {
            return None;
        }
        let left = self.left[too_few].max(1);
        let fits = |dropped: &usize| {
            let tokens = u128::from(tokens) * u128::from(self.left[*dropped]) / u128::from(left);
            tokens <= u128::from(self.budget)
        };
        let range = too_few + 1..self.enough;
        let guess = if tokens == u64::MAX {
            usize::midpoint(too_few, self.enough)
        } else {
            range.clone().find(fits).unwrap_or(self.enough - 1)
        };
        Some(guess.clamp(range.start, range.end - 1))
    }

    /// Learns the tokens of the prompt without this number of parts.
    fn learn(&mut self, dropped: usize, tokens: u64) {
        self.counts += 1;
        if tokens > self.budget {
            self.too_few = (dropped, tokens);
            return;
        }
        self.enough = dropped;
        // Close enough: further counts would save little.
        self.is_done = self.budget - tokens <= self.budget / 8;
    }

    /// Returns the number of parts to drop.
    fn enough(&self) -> usize {
        self.enough
    }
}

/// Returns the chat of a work.
pub(crate) fn chat(
    work: Work,
) -> Result<Arc<loggia_wire::openai::ChatCompletionRequest>, BackendError> {
    match work {
        Work::Chat(chat) => Ok(chat),
        other => Err(other.unsupported()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number of dropped parts, and the number of counts, where each part has these tokens for
    /// ten bytes, and `rest` tokens are never dropped.
    fn found(tokens: &[u64], rest: u64, budget: u64) -> (usize, usize) {
        let sizes: Vec<u64> = tokens.iter().map(|tokens| tokens * 4).collect();
        let count = |dropped: usize| rest + tokens[dropped..].iter().sum::<u64>();
        let whole = sizes.iter().sum::<u64>() + 4 * rest;
        let mut search = Search::new(sizes, whole, budget, count(0));
        let mut counts = 1;
        while let Some(dropped) = search.next() {
            search.learn(dropped, count(dropped));
            counts += 1;
        }
        (search.enough(), counts)
    }

    #[test]
    fn the_fewest_parts_are_dropped_with_few_counts() {
        let even = vec![10; 1000];
        assert_eq!(found(&even, 100, 20_000), (0, 1));
        let (dropped, counts) = found(&even, 100, 5_000);
        assert_eq!(dropped, 510);
        assert!(counts <= 3, "{counts}");
        assert_eq!(found(&[500, 10, 10], 100, 200), (1, 2));
        assert_eq!(found(&[10, 10, 500], 100, 200).0, 3);
        assert_eq!(found(&[], 100, 50), (0, 1));
        assert_eq!(
            found(&even, 6_000, 5_000).0,
            1000,
            "all, and it is still too long"
        );
    }

    #[test]
    fn an_engine_that_tells_no_number_is_asked_in_halves() {
        let tokens = [10_u64; 64];
        let count = |dropped: usize| match tokens[dropped..].iter().sum::<u64>() {
            tokens if tokens > 100 => u64::MAX,
            tokens => tokens,
        };
        let mut search = Search::new(tokens.map(|tokens| tokens * 4), 2560, 100, u64::MAX);
        while let Some(dropped) = search.next() {
            search.learn(dropped, count(dropped));
        }
        assert!((54..=60).contains(&search.enough()), "{search:?}");
    }

    #[test]
    fn the_answers_room_is_its_limit_but_at_most_half_of_the_context() {
        for (context, limit, expected) in [
            (8192, None, 1024),
            (2048, None, 512),
            (8192, Some(100), 100),
            (8192, Some(128_000), 4096),
            (8192, Some(-1), 1024),
        ] {
            assert_eq!(room(context, limit), expected, "{context} {limit:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_fits_wherever_it_can(
            tokens in prop::collection::vec(1_u64..5000, 0..60),
            rest in 1_u64..3000,
            budget in 1_u64..20_000,
        ) {
            let (dropped, counts) = found(&tokens, rest, budget);
            let left: u64 = rest + tokens[dropped..].iter().sum::<u64>();
            prop_assert!(left <= budget || dropped == tokens.len());
            prop_assert!(counts <= COUNTS + 1);
        }
    }
}
