//! Calls of custom tools in a chat's stream: the pieces of the function that represents the tool
//! become one piece with the whole input.

use std::collections::BTreeMap;

use loggia_backend::BackendError;
use loggia_wire::Extra;
use loggia_wire::openai::{ChunkChoice, FunctionCallDelta, ToolCallDelta};
use serde_json::json;

use crate::answer::call;
use crate::custom_tools::{CUSTOM, CustomTools, input_of};

/// The calls of a streamed chat that may be those of custom tools.
#[derive(Debug)]
pub(crate) struct CustomCalls {
    tools: CustomTools,
    /// Calls by their choice and index.
    calls: BTreeMap<(u32, u32), Call>,
}

#[derive(Debug)]
enum Call {
    /// The part of a call that has arrived so far. It is kept back, because it is of a custom tool
    /// or its name is not complete.
    Buffered(Box<ToolCallDelta>),
    /// The client has the beginning of a function's call, or all of it.
    Shown,
    /// The client has all of a custom tool's call.
    Ended,
}

impl CustomCalls {
    pub(crate) fn new(tools: CustomTools) -> Self {
        Self {
            tools,
            calls: BTreeMap::new(),
        }
    }

    /// Replaces the calls of a piece by those that the client gets. Returns whether the client gets
    /// the piece: it may have nothing else.
    ///
    /// # Errors
    /// Fails for more of a custom tool's call after the next call had begun: the client already has
    /// the whole input.
    pub(crate) fn convert(&mut self, choice: &mut ChunkChoice) -> Result<bool, BackendError> {
        if self.tools.is_empty() {
            return Ok(true);
        }
        let pieces = choice.delta.tool_calls.take().unwrap_or_default();
        let has_ended = choice.finish_reason.is_some();
        if pieces.is_empty() && !has_ended {
            return Ok(true);
        }
        let mut shown = Vec::new();
        for piece in pieces {
            self.end_calls(choice.index, Some(piece.index), &mut shown);
            self.piece(choice.index, piece, &mut shown)?;
        }
        if has_ended {
            self.end_calls(choice.index, None, &mut shown);
        }
        choice.delta.tool_calls = (!shown.is_empty()).then_some(shown);
        Ok(has_ended || choice.logprobs.is_some() || !choice.delta.is_empty())
    }

    fn piece(
        &mut self,
        choice: u32,
        piece: ToolCallDelta,
        shown: &mut Vec<ToolCallDelta>,
    ) -> Result<(), BackendError> {
        let key = (choice, piece.index);
        let nothing = ToolCallDelta {
            index: piece.index,
            id: None,
            kind: None,
            function: None,
            extra: Extra::new(),
        };
        let call = self
            .calls
            .entry(key)
            .or_insert_with(|| Call::Buffered(Box::new(nothing)));
        let held = match call {
            Call::Buffered(held) => held,
            Call::Shown => {
                shown.push(piece);
                return Ok(());
            }
            Call::Ended => {
                let function = piece.function.as_ref();
                let more = function.and_then(|function| function.arguments.as_deref());
                return match more {
                    None | Some("") => Ok(()),
                    Some(_) => Err(call::more_of_an_earlier_call()),
                };
            }
        };
        add(held, piece);
        let function = held.function.as_ref();
        let name = function.and_then(|function| function.name.as_deref());
        let arguments = function.and_then(|function| function.arguments.as_deref());
        // The name is complete when the arguments begin.
        let is_known = arguments.is_some_and(|arguments| !arguments.is_empty());
        if is_known
            && !name.is_some_and(|name| self.tools.has(name))
            && let Call::Buffered(held) = std::mem::replace(call, Call::Shown)
        {
            shown.push(*held);
        }
        Ok(())
    }

    /// Sends the buffered calls of a choice, except the one with this index.
    fn end_calls(&mut self, choice: u32, except: Option<u32>, shown: &mut Vec<ToolCallDelta>) {
        let of_choice = self.calls.range_mut((choice, 0)..=(choice, u32::MAX));
        for ((_, index), call) in of_choice {
            let is_held = matches!(call, Call::Buffered(_));
            if Some(*index) == except || !is_held {
                continue;
            }
            if let Call::Buffered(held) = std::mem::replace(call, Call::Shown) {
                let held = whole(*held, &self.tools);
                if held.kind.as_deref() == Some(CUSTOM) {
                    *call = Call::Ended;
                }
                shown.push(held);
            }
        }
    }
}

fn add(held: &mut ToolCallDelta, piece: ToolCallDelta) {
    held.id = held.id.take().or(piece.id);
    held.kind = held.kind.take().or(piece.kind);
    held.extra.extend(piece.extra);
    let Some(piece) = piece.function else { return };
    let function = held.function.get_or_insert_with(|| FunctionCallDelta {
        name: None,
        arguments: None,
        extra: Extra::new(),
    });
    for (all, more) in [
        (&mut function.name, piece.name),
        (&mut function.arguments, piece.arguments),
    ] {
        if let Some(more) = more {
            all.get_or_insert_default().push_str(&more);
        }
    }
    function.extra.extend(piece.extra);
}

/// The only piece of a call that has ended.
fn whole(held: ToolCallDelta, tools: &CustomTools) -> ToolCallDelta {
    let function = held.function.as_ref();
    let name = function.and_then(|function| function.name.as_deref());
    let Some(name) = name.filter(|name| tools.has(name)) else {
        return held;
    };
    let arguments = function.and_then(|function| function.arguments.as_deref());
    let custom = json!({"name": name, "input": input_of(arguments.unwrap_or_default())});
    let mut extra = held.extra;
    extra.insert(CUSTOM.to_owned(), custom);
    ToolCallDelta {
        index: held.index,
        id: held.id,
        kind: Some(CUSTOM.to_owned()),
        function: None,
        extra,
    }
}

#[cfg(test)]
mod tests {
    use loggia_wire::openai::{ChatCompletionRequest, FinishReason};
    use serde_json::Value;

    use super::*;
    use crate::custom_tools::as_functions;

    /// The pieces of a stream as the client gets them, of calls of the custom tool `sh` and the
    /// function `add`.
    fn converted(pieces: &[Value], reason: FinishReason) -> Vec<Value> {
        let tools = json!([{"type": "custom", "custom": {"name": "sh"}}, {"type": "function", "function": {"name": "add"}}]);
        let chat = json!({"model": "m", "messages": [], "tools": tools});
        let mut chat: ChatCompletionRequest = serde_json::from_value(chat).expect("a chat");
        as_functions(&mut chat).expect("a custom tool");
        let mut calls = CustomCalls::new(CustomTools::of(&chat));
        let pieces = pieces.iter().map(|piece| {
            let choice =
                json!({"index": 0, "delta": {"tool_calls": [piece]}, "finish_reason": null});
            serde_json::from_value(choice).expect("a choice")
        });
        let mut shown = Vec::new();
        for mut choice in pieces.chain([ChunkChoice::finish(0, reason)]) {
            if calls
                .convert(&mut choice)
                .expect("calls one after the other")
            {
                shown.extend(choice.delta.tool_calls.into_iter().flatten());
            }
        }
        let json = |piece: &ToolCallDelta| serde_json::to_value(piece).expect("JSON");
        shown.iter().map(json).collect()
    }

    fn begins(index: u32, name: &str) -> Value {
        json!({"index": index, "id": format!("call_{index}"), "type": "function", "function": {"name": name, "arguments": ""}})
    }

    fn more(index: u32, arguments: &str) -> Value {
        json!({"index": index, "function": {"arguments": arguments}})
    }

    fn custom(index: u32, input: &str) -> Value {
        json!({"index": index, "id": format!("call_{index}"), "type": "custom", "custom": {"name": "sh", "input": input}})
    }

    #[test]
    fn a_call_of_a_custom_tool_is_one_piece_and_one_of_a_function_stays_in_pieces() {
        let pieces = [
            begins(0, "sh"),
            more(0, "{\"inp"),
            more(0, "ut\":\"ls\"}"),
            begins(1, "add"),
            more(1, "{\"a\":"),
            more(1, "1}"),
            begins(2, "sh"),
            more(2, "{\"input\":\"pwd\"}"),
        ];
        let mut first = begins(1, "add");
        first["function"]["arguments"] = json!("{\"a\":");
        let expected = [custom(0, "ls"), first, more(1, "1}"), custom(2, "pwd")];
        assert_eq!(converted(&pieces, FinishReason::ToolCalls), expected);
    }

    #[test]
    fn a_call_without_arguments_and_one_that_was_cut_are_shown_as_they_are() {
        let pieces = [begins(0, "add"), begins(1, "sh"), more(1, "{\"input\":\"l")];
        let expected = [begins(0, "add"), custom(1, "{\"input\":\"l")];
        assert_eq!(converted(&pieces, FinishReason::Length), expected);
    }

    #[test]
    fn more_of_a_call_of_a_custom_tool_after_the_next_call_is_an_error_and_of_a_function_is_not() {
        for (first, arguments, is_error) in
            [("sh", "{}", true), ("sh", "", false), ("add", "{}", false)]
        {
            let tools = json!([{"type": "custom", "custom": {"name": "sh"}}]);
            let chat = json!({"model": "m", "messages": [], "tools": tools});
            let mut chat: ChatCompletionRequest = serde_json::from_value(chat).expect("a chat");
            as_functions(&mut chat).expect("a custom tool");
            let mut calls = CustomCalls::new(CustomTools::of(&chat));
            let pieces = json!([begins(0, first), begins(1, "sh"), more(0, arguments)]);
            let choice =
                json!({"index": 0, "delta": {"tool_calls": pieces}, "finish_reason": null});
            let mut choice = serde_json::from_value(choice).expect("a choice");
            assert_eq!(calls.convert(&mut choice).is_err(), is_error, "{first}");
        }
    }
}
