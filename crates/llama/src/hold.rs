//! What an answer is held to: from a request's `response_format`, `tool_choice`, `strict` and `grammar`.
//!
//! Pure but for the compiling, which `grammar` does.

use std::borrow::Cow;

use loggia_backend::BackendError;
use loggia_backend::emulate::describe_calls;
use loggia_wire::openai::{
    ChatCompletionRequest, Content, FunctionDefinition, Message, ResponseFormat, Role, ToolChoice,
};
use serde_json::{Value, json};

use crate::grammar::{Beginning, Calls, Grammars, Held, Part, Refused, Source, Writer};
use crate::syntax::{Begins, Syntax, Tags, Trigger};

/// What a request wants its answer to be.
#[derive(Debug)]
pub(crate) enum Wanted<'a> {
    /// Calls and nothing else.
    Calls(Functions<'a>),
    /// A JSON value, or calls where the model may make some.
    Json { value: Part, calls: Option<Functions<'a>> },
    /// Anything; but calls, once begun, keep to their schemas.
    StrictCalls(Functions<'a>, Trigger),
    /// What a grammar of the client's own allows.
    Gbnf(&'a str),
}

/// The functions that may be called.
#[derive(Debug)]
pub(crate) struct Functions<'a> {
    all: Vec<&'a FunctionDefinition>,
    several: bool,
}

impl Functions<'_> {
    fn calls(&self, all_strict: bool) -> Calls<'_> {
        Calls { functions: &self.all, several: self.several, all_strict }
    }
}

/// The syntax that an answer is read by: a call that must be made is an object where the model's template knows nothing of tools.
pub(crate) fn syntax(request: &ChatCompletionRequest, model: Syntax) -> Syntax {
    if request.must_call() && !model.knows_tools() { model.with_bare_calls() } else { model }
}

/// The messages as the template is to show them: with the calls described, where it cannot show tools itself.
pub(crate) fn messages(request: &ChatCompletionRequest, model: Syntax) -> Cow<'_, [Message]> {
    if !request.must_call() || model.knows_tools() {
        return Cow::Borrowed(&request.messages);
    }
    let description = describe_calls(&request.callable_functions());
    let mut messages = request.messages.clone();
    match messages.first_mut() {
        // One message: many templates know no second one.
        Some(first) if matches!(first.role, Role::System | Role::Developer) => {
            let text = first.content.as_ref().map(|content| content.joined_text().into_owned()).unwrap_or_default();
            first.content = Some(Content::Text(format!("{text}\n\n{description}")));
        }
        _ => messages.insert(0, Message::text(Role::System, description)),
    }
    Cow::Owned(messages)
}

/// What a request wants; none where any answer will do.
pub(crate) fn wanted(request: &ChatCompletionRequest, syntax: Syntax) -> Result<Option<Wanted<'_>>, BackendError> {
    let functions = functions(request)?;
    let gbnf = gbnf(request)?;
    if let Some(text) = gbnf {
        return match (&request.response_format, request.must_call()) {
            (None | Some(ResponseFormat::Text), false) => Ok(Some(Wanted::Gbnf(text))),
            (_, true) => {
                Err(invalid("grammar", "'grammar' and a 'tool_choice' that requires a call exclude each other."))
            }
            _ => Err(invalid("grammar", "'grammar' and 'response_format' exclude each other.")),
        };
    }
    if request.must_call() {
        return Ok(Some(Wanted::Calls(functions)));
    }
    let may_call = !functions.all.is_empty() && syntax.knows_tools();
    if let Some(value) = value(request) {
        return Ok(Some(Wanted::Json { value, calls: may_call.then_some(functions) }));
    }
    let is_strict = functions.all.iter().any(|function| function.strict == Some(true));
    let trigger = syntax.trigger().filter(|_| may_call && is_strict);
    Ok(trigger.map(|trigger| Wanted::StrictCalls(functions, trigger)))
}

/// Compiles what is wanted, for an answer that begins so.
pub(crate) async fn hold(
    wanted: Wanted<'_>,
    grammars: &Grammars,
    syntax: Syntax,
    begins: Begins,
) -> Result<Held, BackendError> {
    let writer = Writer { syntax: &syntax, vocabulary: grammars.vocabulary() };
    let mut beginning = Beginning { reasoning: syntax.reasoning(), begins, trigger: None };
    let source = match wanted {
        Wanted::Calls(functions) => writer.calls(functions.calls(true)),
        Wanted::Json { value, calls } => writer.answer(value, calls.as_ref().map(|calls| calls.calls(false))),
        Wanted::StrictCalls(functions, trigger) => {
            beginning.trigger = Some(trigger);
            writer.rest_of_calls(functions.calls(false), trigger.mark)
        }
        Wanted::Gbnf(text) => {
            if !syntax.answer_head().is_empty() {
                // All that comes before the answer's own message is free.
                let before = Tags { open: syntax.answer_head(), close: syntax.answer_head() };
                beginning = Beginning { reasoning: Some(before), begins: Begins::Reasoning, trigger: None };
            }
            Source::Gbnf(text.to_owned())
        }
    };
    let grammar = grammars.compile(source).await.map_err(refused)?;
    Ok(Held::new(grammars.vocabulary(), grammar, beginning))
}

fn functions(request: &ChatCompletionRequest) -> Result<Functions<'_>, BackendError> {
    let all = request.callable_functions();
    if all.is_empty() && request.must_call() {
        return Err(invalid("tool_choice", "'tool_choice' names a function that is not among 'tools'."));
    }
    let one = matches!(request.tool_choice, Some(ToolChoice::Function(_)));
    Ok(Functions { all, several: !one && request.parallel_tool_calls != Some(false) })
}

fn value(request: &ChatCompletionRequest) -> Option<Part> {
    let any_object = json!({"type": "object"});
    match request.response_format.as_ref()? {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(Part::new("value", "response_format", &any_object)),
        ResponseFormat::JsonSchema(format) => {
            let schema = format.schema.as_ref().unwrap_or(&any_object);
            Some(Part::new("value", "response_format.json_schema.schema", schema))
        }
    }
}

fn gbnf(request: &ChatCompletionRequest) -> Result<Option<&str>, BackendError> {
    match request.extra.get("grammar") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(invalid("grammar", "'grammar' must be a string: a grammar in GBNF.")),
    }
}

fn refused(Refused { param, message }: Refused) -> BackendError {
    if param.is_empty() {
        return BackendError::Engine { message };
    }
    if param == "grammar" {
        return invalid(&param, &format!("Invalid grammar: {message}."));
    }
    let message = format!("Invalid schema for '{param}': {message}.");
    BackendError::InvalidRequest { message, param: Some(param), code: Some("invalid_json_schema".to_owned()) }
}

fn invalid(param: &str, message: &str) -> BackendError {
    BackendError::InvalidRequest {
        message: message.to_owned(),
        param: Some(param.to_owned()),
        code: Some("invalid_value".to_owned()),
    }
}
