//! Turns the engine's output for one choice into OpenAI's deltas: separates reasoning and tool
//! calls from the text, gives the calls ids, and counts the tokens of reasoning.
//!
//! `syntax` recognizes reasoning and calls; `backend` decides what is requested from the engine.

use std::sync::Arc;

use loggia_backend::BackendError;
use loggia_backend::tool_calls::keep_first_call;
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletionRequest, ChunkChoice, Delta, FinishReason, FunctionCallDelta, Logprobs,
    ToolCallDelta,
};
use serde_json::Value;

use crate::engine::{Finish, Piece, ScoredPiece};
use crate::request;
use crate::syntax::{Begins, CallRelease, Offered, Parsed, Reader, Syntax};

/// The answer of one choice, piece by piece.
#[derive(Debug)]
pub(crate) struct Deltas {
    /// `None` if everything is text: the model does not reason, and no tool can be called.
    reader: Option<Reader>,
    index: u32,
    /// The text that is sent before the model's first text (`echo`).
    before: String,
    /// The prefix of the ids of calls.
    id: String,
    /// Whether calls after the first are dropped (`parallel_tool_calls: false`).
    single_call: bool,
    /// The number of generated tokens so far, and of reasoning tokens among them.
    tokens: usize,
    reasoning_tokens: usize,
}

/// Creates the parsers for all choices of a request. `begins` is the beginning of the answers that
/// the prompt ends with.
pub(crate) fn of(
    request: &ChatCompletionRequest,
    id: &str,
    syntax: Syntax,
    begins: Begins,
) -> Vec<Deltas> {
    let offered = Arc::new(Offered::of(&request::tools(request)));
    let release = if request.streams() {
        CallRelease::Incremental
    } else {
        CallRelease::Complete
    };
    let all_is_text = !syntax.reasons() && (offered.is_empty() || !syntax.knows_tools());
    let id = id.trim_start_matches("chatcmpl-");
    let of_choice = |choice: usize| Deltas {
        reader: (!all_is_text).then(|| Reader::new(syntax, Arc::clone(&offered), begins, release)),
        index: u32::try_from(choice).unwrap_or(u32::MAX),
        before: String::new(),
        id: if choice == 0 {
            format!("call_{id}")
        } else {
            format!("call_{id}-{choice}")
        },
        single_call: request.parallel_tool_calls == Some(false),
        tokens: 0,
        reasoning_tokens: 0,
    };
    (0..request.choices()).map(of_choice).collect()
}

/// Creates the converters for `count` plain texts, each with `before` in front. Nothing in these
/// texts is parsed as reasoning or as a call.
pub(crate) fn of_texts(count: usize, before: &str) -> Vec<Deltas> {
    let of_text = |choice: usize| Deltas {
        reader: None,
        index: u32::try_from(choice).unwrap_or(u32::MAX),
        before: before.to_owned(),
        id: String::new(),
        single_call: false,
        tokens: 0,
        reasoning_tokens: 0,
    };
    (0..count).map(of_text).collect()
}

impl Deltas {
    /// Converts a piece of the answer, and a piece of the scored prompt before it, to a delta.
    /// Returns `None` if there is nothing to send yet.
    pub(crate) fn read(&mut self, piece: Piece, prompt: ScoredPiece) -> Option<ChunkChoice> {
        let was_text = self.is_text();
        self.before.push_str(&prompt.text);
        let delta = self.delta(&piece);
        // Log-probabilities are only sent for tokens of the content.
        let of_content = was_text && self.is_text();
        let mut choice = ChunkChoice::delta(self.index, delta);
        let mut logprobs = prompt.logprobs;
        logprobs.extend(piece.logprobs.into_iter().filter(|_| of_content));
        if !logprobs.is_empty() {
            choice.logprobs = Some(Logprobs {
                content: Some(logprobs),
                refusal: None,
                extra: Extra::new(),
            });
        }
        choice.finish_reason = piece.end.map(|end| match end.finish {
            Finish::Stop
                if self
                    .reader
                    .as_ref()
                    .is_some_and(|reader| reader.calls_made() > 0) =>
            {
                FinishReason::ToolCalls
            }
            Finish::Stop => FinishReason::Stop,
            Finish::Length | Finish::ContextFull => FinishReason::Length,
        });
        let says_something =
            !choice.delta.is_empty() || choice.logprobs.is_some() || choice.finish_reason.is_some();
        says_something.then_some(choice)
    }

    /// The number of tokens of reasoning so far, including its tags.
    pub(crate) fn reasoning_tokens(&self) -> usize {
        self.reasoning_tokens
    }

    fn is_text(&self) -> bool {
        self.reader.as_ref().is_none_or(Reader::is_text)
    }

    fn delta(&mut self, piece: &Piece) -> Delta {
        let Some(reader) = &mut self.reader else {
            let text = std::mem::take(&mut self.before) + &piece.text;
            return if text.is_empty() {
                Delta::default()
            } else {
                Delta::content(text)
            };
        };
        let was_reasoning = reader.is_reasoning();
        let mut parsed: Vec<Parsed> = reader.push(&piece.text).collect();
        if was_reasoning || reader.is_reasoning() {
            self.reasoning_tokens += piece.tokens.saturating_sub(self.tokens);
        }
        self.tokens = piece.tokens;
        if piece.end.is_some() {
            parsed.extend(reader.finish());
        }
        let mut delta = Delta::default();
        for part in parsed {
            self.append(&mut delta, part);
        }
        if self.single_call {
            keep_first_call(&mut delta);
        }
        delta
    }

    fn append(&self, delta: &mut Delta, part: Parsed) {
        match part {
            Parsed::Text(more) => delta.content.get_or_insert_default().push_str(&more),
            Parsed::Reasoning(more) => {
                delta
                    .reasoning_content
                    .get_or_insert_default()
                    .push_str(&more);
                delta.reasoning.get_or_insert_default().push_str(&more);
            }
            Parsed::CallBegun { index, name } => {
                delta
                    .tool_calls
                    .get_or_insert_default()
                    .push(ToolCallDelta {
                        index,
                        id: Some(format!("{}_{index}", self.id)),
                        kind: Some("function".to_owned()),
                        function: Some(FunctionCallDelta {
                            name: Some(name),
                            arguments: Some(String::new()),
                            extra: Extra::new(),
                        }),
                        extra: Extra::new(),
                    });
            }
            Parsed::CallArguments { index, more } => {
                arguments(delta.tool_calls.get_or_insert_default(), index, more);
            }
        }
    }
}

/// Appends to the arguments of a call, in its existing delta if this chunk has one.
fn arguments(calls: &mut Vec<ToolCallDelta>, index: u32, more: String) {
    if let Some(ToolCallDelta {
        index: last,
        function: Some(function),
        ..
    }) = calls.last_mut()
        && *last == index
    {
        function.arguments.get_or_insert_default().push_str(&more);
        return;
    }
    let function = FunctionCallDelta {
        name: None,
        arguments: Some(more),
        extra: Extra::new(),
    };
    calls.push(ToolCallDelta {
        index,
        id: None,
        kind: None,
        function: Some(function),
        extra: Extra::new(),
    });
}

/// The reasoning effort: `reasoning_effort`, or Ollama's own `think`, which takes precedence.
/// `None` if the request sets neither.
pub(crate) fn effort(
    request: &ChatCompletionRequest,
    syntax: Syntax,
) -> Result<Option<&str>, BackendError> {
    let (asked, param) = match request.extra.get("think") {
        Some(Value::Bool(true)) => ("medium", "think"),
        Some(Value::Bool(false)) => ("none", "think"),
        Some(Value::String(level)) => (level.as_str(), "think"),
        _ => match request.reasoning_effort.as_deref() {
            Some(effort) => (effort, "reasoning_effort"),
            None => return Ok(None),
        },
    };
    let refused = |message: &str| {
        Err(BackendError::InvalidRequest {
            message: message.to_owned(),
            param: Some(param.to_owned()),
            code: Some("unsupported_parameter".to_owned()),
        })
    };
    match asked {
        "none" if syntax.can_disable_reasoning() => Ok(Some(asked)),
        "none" if syntax.reasons() => refused("This model cannot answer without reasoning."),
        "none" => Ok(None),
        _ if !syntax.accepts_effort() => refused("This model does not support a reasoning effort."),
        // Chat templates know `low`, `medium` and `high` only.
        "minimal" => Ok(Some("low")),
        "xhigh" | "max" => Ok(Some("high")),
        _ => Ok(Some(asked)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::{End, Usage};

    fn request(fields: &Value) -> ChatCompletionRequest {
        let mut body = json!({"model": "m", "messages": [], "stream": true, "tools": [
            {"type": "function", "function": {"name": "time"}}, {"type": "function", "function": {"name": "weather"}}]});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        serde_json::from_value(body).unwrap()
    }

    fn syntax() -> Syntax {
        Syntax::of("tools <tool_call> <think> enable_thinking", |_| false)
    }

    /// The deltas of a text, with one token for each word.
    fn deltas(fields: &Value, text: &str, finish: Finish) -> (Vec<Value>, usize) {
        let mut deltas = of(&request(fields), "chatcmpl-abc", syntax(), Begins::Text).remove(0);
        let mut chunks = Vec::new();
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        for (number, word) in words.iter().enumerate() {
            let last = number + 1 == words.len();
            let end = last.then_some(End {
                finish,
                usage: Usage::default(),
            });
            let piece = Piece {
                text: (*word).to_owned(),
                tokens: number + 1,
                end,
                ..Piece::default()
            };
            chunks.extend(
                deltas
                    .read(piece, ScoredPiece::default())
                    .map(|choice| serde_json::to_value(choice).unwrap()),
            );
        }
        (chunks, deltas.reasoning_tokens())
    }

    const CALLS: &str = "<tool_call> {\"name\": \"time\", \"arguments\": {\"a\": 1} } </tool_call> \
        <tool_call> {\"name\": \"weather\", \"arguments\": {} } </tool_call>";

    #[test]
    fn a_call_has_its_id_and_name_once_and_its_arguments_as_they_come() {
        let (chunks, _) = deltas(&json!({}), CALLS, Finish::Stop);
        let calls: Vec<&Value> = chunks
            .iter()
            .filter_map(|chunk| chunk["delta"].get("tool_calls"))
            .collect();
        let begun = |index: u32, name: &str, arguments: &str| {
            json!([{"index": index, "id": format!("call_abc_{index}"), "type": "function",
                "function": {"name": name, "arguments": arguments}}])
        };
        let more = json!([{"index": 0, "function": {"arguments": "\"a\":1}"}}]);
        assert_eq!(
            calls,
            [&begun(0, "time", "{"), &more, &begun(1, "weather", "{}")]
        );
        assert_eq!(chunks.last().unwrap()["finish_reason"], "tool_calls");
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk["delta"].get("content").is_none()),
            "{chunks:?}"
        );
    }

    #[test]
    fn one_call_at_a_time_is_the_first() {
        let (chunks, _) = deltas(&json!({"parallel_tool_calls": false}), CALLS, Finish::Stop);
        assert!(chunks.iter().all(|chunk| {
            chunk["delta"]
                .get("tool_calls")
                .is_none_or(|calls| calls[0]["index"] == 0)
        }));
        assert_eq!(chunks.last().unwrap()["finish_reason"], "tool_calls");
    }

    #[test]
    fn a_call_that_is_cut_in_a_whole_answer_is_text() {
        let written = "<tool_call> {\"name\": \"time\", \"arguments\": {\"a\": ";
        let (chunks, _) = deltas(&json!({"stream": false}), written, Finish::Length);
        let text: String = chunks
            .iter()
            .filter_map(|chunk| chunk["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, written);
        assert_eq!(chunks.last().unwrap()["finish_reason"], "length");
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk["delta"].get("tool_calls").is_none())
        );
    }

    #[test]
    fn reasoning_has_both_its_names_and_its_tokens_are_counted() {
        let (chunks, tokens) = deltas(&json!({}), "<think> one two </think> three", Finish::Stop);
        let said = |key: &str| -> String {
            chunks
                .iter()
                .filter_map(|chunk| chunk["delta"][key].as_str())
                .collect()
        };
        assert_eq!(
            (said("reasoning_content"), said("reasoning")),
            ("one two ".to_owned(), "one two ".to_owned())
        );
        assert_eq!((said("content"), tokens), ("three".to_owned(), 4));
    }

    #[test]
    fn ids_of_calls_differ_from_choice_to_choice() {
        let all = of(
            &request(&json!({"n": 2})),
            "chatcmpl-abc",
            syntax(),
            Begins::Text,
        );
        assert_eq!(
            all.iter()
                .map(|deltas| deltas.id.as_str())
                .collect::<Vec<_>>(),
            ["call_abc", "call_abc-1"]
        );
    }

    #[test]
    fn where_nothing_can_be_called_or_thought_all_is_text() {
        let plain = Syntax::of("{{ messages }}", |_| false);
        assert!(
            of(&request(&json!({})), "x", plain, Begins::Text)[0]
                .reader
                .is_none()
        );
        let none = request(&json!({"tool_choice": "none"}));
        assert!(
            of(&none, "x", Syntax::of("tools", |_| false), Begins::Text)[0]
                .reader
                .is_none()
        );
    }

    #[test]
    fn effort_is_what_templates_know_of_it() {
        let asked = |fields: &Value, template: &str| {
            effort(&request(fields), Syntax::of(template, |_| false))
                .map(|effort| effort.map(str::to_owned))
        };
        let medium = Some("medium".to_owned());
        assert_eq!(
            asked(
                &json!({"reasoning_effort": "medium"}),
                "<think> enable_thinking"
            )
            .unwrap(),
            medium
        );
        assert_eq!(
            asked(
                &json!({"reasoning_effort": "xhigh"}),
                "<think> reasoning_effort"
            )
            .unwrap()
            .unwrap(),
            "high"
        );
        assert_eq!(
            asked(
                &json!({"reasoning_effort": "low", "think": true}),
                "<think> enable_thinking"
            )
            .unwrap(),
            medium
        );
        assert_eq!(
            asked(&json!({"think": false}), "no thoughts").unwrap(),
            None
        );
        let refused = |fields: &Value, template: &str, field: &str| {
            let Err(BackendError::InvalidRequest { param, code, .. }) = asked(fields, template)
            else {
                return false;
            };
            param.as_deref() == Some(field) && code.as_deref() == Some("unsupported_parameter")
        };
        assert!(refused(&json!({"think": true}), "no thoughts", "think"));
        assert!(refused(
            &json!({"reasoning_effort": "none"}),
            "<think> reasoning_effort",
            "reasoning_effort"
        ));
    }
}
