//! What an answer is held to: from a request's `response_format`, `tool_choice`, `strict` and
//! `grammar`.
//!
//! Pure but for the compiling, which `grammar` does.

use std::borrow::Cow;

use loggia_backend::BackendError;
use loggia_backend::tool_calls::told;
use loggia_wire::openai::{
    ChatCompletionRequest, FunctionDefinition, Message, ResponseFormat, Tool, ToolChoice,
};
use serde_json::{Value, json};

use crate::grammar::{Beginning, Calls, Grammars, Held, Part, Refused, Source, Writer};
use crate::syntax::{Begins, Syntax, Tags, Watch};

/// What a request wants its answer to be.
#[derive(Debug)]
pub(crate) enum Wanted<'a> {
    /// Calls and nothing else.
    Calls(Functions<'a>),
    /// A JSON value, or calls where the model may make some.
    Json {
        value: Part,
        calls: Option<Functions<'a>>,
    },
    /// Anything; but calls, once begun, keep to their schemas.
    FreeCalls(Functions<'a>, Watch),
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
        Calls {
            functions: &self.all,
            several: self.several,
            all_strict,
        }
    }
}

/// The syntax that an answer is read by: that of the tools which the model is told of, where its
/// template knows nothing of any.
pub(crate) fn syntax(request: &ChatCompletionRequest, model: Syntax) -> Syntax {
    let functions = request.callable_functions();
    if !functions.is_empty() && !model.knows_tools() {
        model.told_of_tools()
    } else if is_free(request) && functions.iter().copied().any(is_strict) {
        model.watched()
    } else {
        model
    }
}

/// The messages as the template is to show them: with the functions told, where it cannot show
/// tools itself.
pub(crate) fn messages(request: &ChatCompletionRequest, model: Syntax) -> Cow<'_, [Message]> {
    if model.knows_tools() || request.callable_functions().is_empty() {
        Cow::Borrowed(&request.messages)
    } else {
        Cow::Owned(told(request))
    }
}

/// Whether nothing but its calls' schemas is asked of the answer's form.
fn is_free(request: &ChatCompletionRequest) -> bool {
    let any_text = matches!(request.response_format, None | Some(ResponseFormat::Text));
    any_text && !request.must_call() && gbnf(request).is_ok_and(|gbnf| gbnf.is_none())
}

fn is_strict(function: &FunctionDefinition) -> bool {
    function.strict == Some(true)
}

/// What a request wants; none where any answer will do.
pub(crate) fn wanted(
    request: &ChatCompletionRequest,
    syntax: Syntax,
) -> Result<Option<Wanted<'_>>, BackendError> {
    let functions = functions(request)?;
    let gbnf = gbnf(request)?;
    if let Some(text) = gbnf {
        return match (&request.response_format, request.must_call()) {
            (None | Some(ResponseFormat::Text), false) => Ok(Some(Wanted::Gbnf(text))),
            (_, true) => Err(invalid(
                "grammar",
                "'grammar' and a 'tool_choice' that requires a call exclude each other.",
            )),
            _ => Err(invalid(
                "grammar",
                "'grammar' and 'response_format' exclude each other.",
            )),
        };
    }
    if request.must_call() {
        return Ok(Some(Wanted::Calls(functions)));
    }
    let may_call = !functions.all.is_empty() && syntax.knows_tools();
    if let Some(value) = value(request) {
        return Ok(Some(Wanted::Json {
            value,
            calls: may_call.then_some(functions),
        }));
    }
    // A model that was not trained to call is held to the form in any case.
    let held =
        may_call && (syntax.is_told_of_tools() || functions.all.iter().copied().any(is_strict));
    Ok(syntax
        .watch()
        .filter(|_| held)
        .map(|watch| Wanted::FreeCalls(functions, watch)))
}

/// The field of a request that says what its answer is held to.
pub(crate) fn field(request: &ChatCompletionRequest) -> &'static str {
    if gbnf(request).is_ok_and(|gbnf| gbnf.is_some()) {
        "grammar"
    } else if request.must_call()
        || matches!(request.response_format, None | Some(ResponseFormat::Text))
    {
        "tools"
    } else {
        "response_format"
    }
}

/// Compiles what is wanted, for an answer that begins so.
pub(crate) async fn hold(
    request: &ChatCompletionRequest,
    wanted: Wanted<'_>,
    grammars: &Grammars,
    syntax: Syntax,
    begins: Begins,
) -> Result<Held, BackendError> {
    let writer = Writer {
        syntax: &syntax,
        vocabulary: grammars.vocabulary(),
    };
    let mut beginning = Beginning {
        reasoning: syntax.reasoning(),
        begins,
        trigger: None,
    };
    let source = match wanted {
        Wanted::Calls(functions) => writer.calls(functions.calls(true)),
        Wanted::Json { value, calls } => {
            writer.answer(value, calls.as_ref().map(|calls| calls.calls(false)))
        }
        Wanted::FreeCalls(functions, Watch::Mark(trigger)) => {
            beginning.trigger = Some(trigger);
            if syntax.is_told_of_tools() {
                // All are held to their schemas where these can be held to; else those that are
                // `strict`, or there is an error.
                let all = writer.rest_of_calls(functions.calls(true), trigger.mark);
                if let Ok(grammar) = grammars.compile(all).await {
                    return Ok(Held::new(grammars.vocabulary(), grammar, beginning));
                }
            }
            writer.rest_of_calls(functions.calls(false), trigger.mark)
        }
        Wanted::FreeCalls(functions, Watch::Whole) => {
            if !syntax.answer_head().is_empty() {
                // The grammar has the reasoning too.
                beginning.reasoning = None;
            }
            writer.text_or_calls(functions.calls(false))
        }
        Wanted::Gbnf(text) => {
            if !syntax.answer_head().is_empty() {
                // All that comes before the answer's own message is free.
                let before = Tags {
                    open: syntax.answer_head(),
                    close: syntax.answer_head(),
                };
                beginning = Beginning {
                    reasoning: Some(before),
                    begins: Begins::Reasoning,
                    trigger: None,
                };
            }
            Source::Gbnf(text.to_owned())
        }
    };
    let grammar = grammars
        .compile(source)
        .await
        .map_err(|why| refused(why, request))?;
    Ok(Held::new(grammars.vocabulary(), grammar, beginning))
}

fn functions(request: &ChatCompletionRequest) -> Result<Functions<'_>, BackendError> {
    let all = request.callable_functions();
    if all.is_empty() && request.must_call() {
        return Err(invalid(
            "tool_choice",
            "'tool_choice' names a function that is not among 'tools'.",
        ));
    }
    let one = matches!(request.tool_choice, Some(ToolChoice::Function(_)));
    Ok(Functions {
        all,
        several: !one && request.parallel_tool_calls != Some(false),
    })
}

fn value(request: &ChatCompletionRequest) -> Option<Part> {
    let any_object = json!({"type": "object"});
    match request.response_format.as_ref()? {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(Part::new("value", "response_format", &any_object)),
        ResponseFormat::JsonSchema(format) => {
            let schema = format.schema.as_ref().unwrap_or(&any_object);
            Some(Part::new(
                "value",
                "response_format.json_schema.schema",
                schema,
            ))
        }
    }
}

fn gbnf(request: &ChatCompletionRequest) -> Result<Option<&str>, BackendError> {
    match request.extra.get("grammar") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(invalid(
            "grammar",
            "'grammar' must be a string: a grammar in GBNF.",
        )),
    }
}

/// Where the client wrote what a grammar knows by the name of its function: `tools[NAME]…` by its
/// place.
fn place(param: String, request: &ChatCompletionRequest) -> String {
    let named = param
        .strip_prefix("tools[")
        .and_then(|rest| rest.split_once(']'));
    let Some((name, within)) = named else {
        return param;
    };
    let is_it = |tool: &Tool| {
        tool.function
            .as_ref()
            .is_some_and(|function| function.name == name)
    };
    let at = request.tools.iter().flatten().position(is_it);
    at.map_or_else(|| param.clone(), |at| format!("tools[{at}]{within}"))
}

fn refused(Refused { param, message }: Refused, request: &ChatCompletionRequest) -> BackendError {
    let param = place(param, request);
    if param.is_empty() {
        return BackendError::Engine { message };
    }
    if param == "grammar" {
        return invalid(&param, &format!("Invalid grammar: {message}."));
    }
    let message = format!("Invalid schema for '{param}': {message}.");
    BackendError::InvalidRequest {
        message,
        param: Some(param),
        code: Some("invalid_json_schema".to_owned()),
    }
}

fn invalid(param: &str, message: &str) -> BackendError {
    BackendError::InvalidRequest {
        message: message.to_owned(),
        param: Some(param.to_owned()),
        code: Some("invalid_value".to_owned()),
    }
}
