//! Normalises the calls of one answer: the result is the same however an engine sends them.
//!
//! Engines differ. Some send no `index` or the same one for each call. Some repeat the `id`, `type`
//! or name on each piece, use one `id` for two calls, send empty lists, or end with `finish_reason:
//! "stop"`. [`ToolCalls`] converts each piece to OpenAI's form: indexes in the order of appearance;
//! `id`, `type` and name once, in the first piece of a call; unique ids. Streamed and complete
//! answers of every engine pass through it. It does not parse calls from text: `marked.rs` does.
//!
//! Reading order: [`ToolCalls`], [`Pieces`] (assigns pieces to calls), `json.rs` (detects complete
//! arguments).

mod json;
mod pieces;

use std::collections::HashSet;
use std::sync::Arc;

use loggia_wire::Extra;
use loggia_wire::openai::{ChunkChoice, FinishReason, FunctionCallDelta, ToolCallDelta};

use self::pieces::{Call, Pieces};

/// The `index` of a piece that has none.
pub(crate) const NO_INDEX: u32 = u32::MAX;

/// The maximum number of calls per answer, all choices together. Models make a handful.
const MOST_CALLS: usize = 1024;

/// The maximum size of arguments that wait for the name of their function, in bytes.
const MOST_HELD: usize = 1 << 20;

/// The problem with an engine's calls, without quoting them.
pub(crate) type Malformed = &'static str;

/// Normalises the calls of one answer.
#[derive(Debug)]
pub(crate) struct ToolCalls {
    /// The prefix of generated ids.
    answer: Arc<str>,
    choices: Vec<OfChoice>,
    /// The ids of all calls so far, as the client gets them.
    ids: HashSet<String>,
    count: usize,
}

/// The calls of one choice.
#[derive(Debug, Default)]
struct OfChoice {
    pieces: Pieces,
    /// The number of calls that have been sent.
    sent: u32,
    /// The name of the function in the older form, `function_call`, once it has arrived.
    function: Option<String>,
}

impl ToolCalls {
    /// Creates the state for an answer with this id and number of choices.
    pub(crate) fn new(answer: &str, choices: usize) -> Self {
        let answer = answer.strip_prefix("chatcmpl-").unwrap_or(answer).into();
        let choices = (0..choices).map(|_| OfChoice::default()).collect();
        Self {
            answer,
            choices,
            ids: HashSet::new(),
            count: 0,
        }
    }

    /// Normalises the calls and the finish reason in a piece of a streamed answer.
    ///
    /// # Errors
    /// Fails for invalid calls, and for more calls than the limit.
    pub(crate) fn piece(&mut self, choice: &mut ChunkChoice) -> Result<(), Malformed> {
        // Most pieces contain only text.
        if choice.delta.tool_calls.is_none()
            && choice.delta.function_call.is_none()
            && choice.finish_reason.is_none()
        {
            return Ok(());
        }
        self.regular(choice, false)
    }

    /// Normalises the calls of a complete answer, where each entry is a separate call.
    ///
    /// # Errors
    /// Fails as [`piece`](Self::piece).
    pub(crate) fn whole(&mut self, choice: &mut ChunkChoice) -> Result<(), Malformed> {
        self.regular(choice, true)
    }

    /// Returns the finish reason of a choice: calls if it made some, whatever the engine reports.
    ///
    /// # Errors
    /// Fails if a call never got a name.
    pub(crate) fn end(&self, choice: u32, reason: FinishReason) -> Result<FinishReason, Malformed> {
        let Some(of) = self.of(choice) else {
            return Ok(reason);
        };
        if of.pieces.calls().iter().any(Call::lacks_its_name) {
            return Err("a call has no function name");
        }
        let called = match (of.sent > 0, of.function.is_some()) {
            (true, _) => FinishReason::ToolCalls,
            (false, true) => FinishReason::FunctionCall,
            (false, false) => FinishReason::Stop,
        };
        Ok(match reason {
            FinishReason::Stop | FinishReason::ToolCalls | FinishReason::FunctionCall => called,
            FinishReason::Length | FinishReason::ContentFilter => reason,
        })
    }

    fn regular(&mut self, choice: &mut ChunkChoice, whole: bool) -> Result<(), Malformed> {
        if let Some(pieces) = choice.delta.tool_calls.take() {
            let calls = self.calls(choice.index, pieces, whole)?;
            choice.delta.tool_calls = (!calls.is_empty()).then_some(calls);
        }
        if let Some(piece) = choice.delta.function_call.take() {
            choice.delta.function_call = self.function(choice.index, piece);
        }
        if let Some(reason) = choice.finish_reason {
            choice.finish_reason = Some(self.end(choice.index, reason)?);
        }
        Ok(())
    }

    fn calls(
        &mut self,
        choice: u32,
        pieces: Vec<ToolCallDelta>,
        whole: bool,
    ) -> Result<Vec<ToolCallDelta>, Malformed> {
        let mut regular = Vec::with_capacity(pieces.len());
        if let Some(of) = self.of_mut(choice) {
            of.pieces.begin_list(whole);
        }
        for piece in pieces {
            regular.extend(self.call(choice, piece)?);
        }
        Ok(regular)
    }

    /// Returns the piece to send. `None` if the function is not known yet, or if the piece contains
    /// nothing new.
    fn call(
        &mut self,
        choice: u32,
        mut piece: ToolCallDelta,
    ) -> Result<Option<ToolCallDelta>, Malformed> {
        // `loggia-api` drops a choice that was not requested.
        let Some(of) = usize::try_from(choice)
            .ok()
            .and_then(|choice| self.choices.get_mut(choice))
        else {
            return Ok(None);
        };
        let function = piece.function.take().unwrap_or_else(nothing);
        let name = function.name.filter(|name| !name.is_empty());
        let arguments = function.arguments.unwrap_or_default();
        let id = piece.id.take().filter(|id| !id.is_empty());
        let index = (piece.index != NO_INDEX).then_some(piece.index);
        let Some((call, named)) = of
            .pieces
            .add(index, id.as_deref(), name.as_deref(), &arguments)
        else {
            return Ok(None);
        };
        call.is_custom |= piece.extra.contains_key("custom");
        if let Some(index) = call.sent {
            let function = FunctionCallDelta {
                name: named,
                arguments: Some(arguments),
                extra: function.extra,
            };
            return Ok(later_piece(index, function, piece.extra));
        }
        call.held.push_str(&arguments);
        call.held_extra.extend(function.extra);
        call.extra.extend(piece.extra);
        if call.held.len() > MOST_HELD {
            return Err("a call has no function name");
        }
        if call.name.is_empty() && !call.is_custom {
            return Ok(None);
        }
        if self.count >= MOST_CALLS {
            return Err("the answer has too many calls");
        }
        call.sent = Some(of.sent);
        let first = first_piece(
            call,
            of.sent,
            own_id(&mut self.ids, call.id.as_deref(), &self.answer, self.count),
        );
        of.sent += 1;
        self.count += 1;
        Ok(Some(first))
    }

    /// Normalises the older form, in which a choice makes one call and sends its name once.
    fn function(&mut self, choice: u32, piece: FunctionCallDelta) -> Option<FunctionCallDelta> {
        let of = self.of_mut(choice)?;
        let FunctionCallDelta {
            name,
            arguments,
            extra,
        } = piece;
        let name = name.filter(|name| !name.is_empty());
        let arguments = arguments.unwrap_or_default();
        let first = of.function.is_none();
        match (&of.function, &name) {
            (None, None) => return None,
            (None, Some(name)) => of.function = Some(name.clone()),
            (Some(_), _) if arguments.is_empty() => return None,
            (Some(_), _) => {}
        }
        Some(FunctionCallDelta {
            name: name.filter(|_| first),
            arguments: Some(arguments),
            extra,
        })
    }

    fn of(&self, choice: u32) -> Option<&OfChoice> {
        usize::try_from(choice)
            .ok()
            .and_then(|choice| self.choices.get(choice))
    }

    fn of_mut(&mut self, choice: u32) -> Option<&mut OfChoice> {
        usize::try_from(choice)
            .ok()
            .and_then(|choice| self.choices.get_mut(choice))
    }
}

/// Returns the first piece of a call, with everything that is known of it.
fn first_piece(call: &mut Call, index: u32, id: String) -> ToolCallDelta {
    let kind = if call.is_custom { "custom" } else { "function" };
    let function = FunctionCallDelta {
        name: Some(call.name.clone()),
        arguments: Some(std::mem::take(&mut call.held)),
        extra: std::mem::take(&mut call.held_extra),
    };
    let function = (!call.is_custom).then_some(function);
    let extra = std::mem::take(&mut call.extra);
    ToolCallDelta {
        index,
        id: Some(id),
        kind: Some(kind.to_owned()),
        function,
        extra,
    }
}

/// Returns a later piece of a call. `None` if it adds nothing.
fn later_piece(index: u32, function: FunctionCallDelta, extra: Extra) -> Option<ToolCallDelta> {
    let says_nothing = function.name.is_none()
        && function.arguments.as_ref().is_none_or(String::is_empty)
        && function.extra.is_empty();
    if says_nothing && extra.is_empty() {
        return None;
    }
    Some(ToolCallDelta {
        index,
        id: None,
        kind: None,
        function: (!says_nothing).then_some(function),
        extra,
    })
}

/// Returns the engine's id for a call, or a generated one if it has none or has been used before.
fn own_id(
    ids: &mut HashSet<String>,
    engines_own: Option<&str>,
    answer: &str,
    number: usize,
) -> String {
    let mut id = engines_own.map_or_else(|| format!("call_{answer}_{number}"), str::to_owned);
    let mut attempt = number;
    while !ids.insert(id.clone()) {
        id = format!("call_{answer}_{attempt}");
        attempt += 1;
    }
    id
}

fn nothing() -> FunctionCallDelta {
    FunctionCallDelta {
        name: None,
        arguments: None,
        extra: Extra::new(),
    }
}

#[cfg(test)]
mod tests;
