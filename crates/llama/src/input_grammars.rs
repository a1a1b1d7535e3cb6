//! The grammars of custom tools in a request: which of them cannot be enforced, and how one is left
//! out.
//!
//! Pure.

use std::borrow::Cow;

use loggia_backend::input_grammar::{GrammarError, rules};
use loggia_wire::openai::{ChatCompletionRequest, ResponseFormat};

use crate::grammar::CompileError;
use crate::syntax::Syntax;

/// The end of the field names of these grammars, as errors have them.
const DEFINITION: &str = ".format.definition";

/// Whether an error is about the grammar of a custom tool.
pub(crate) fn is_param(param: &str) -> bool {
    param.starts_with("tools[") && param.ends_with(DEFINITION)
}

/// Adds the name of the omitted field to the list.
pub(crate) fn name(left_out: &mut Vec<String>) {
    const NAME: &str = "tools[].format";
    if left_out.iter().all(|name| name != NAME) {
        left_out.push(NAME.to_owned());
    }
}

/// Finds a grammar that cannot be a part of a constraint.
pub(crate) fn unwritable(request: &ChatCompletionRequest, syntax: Syntax) -> Option<CompileError> {
    let callable = request.callable_functions();
    let tools = request.tools.iter().flatten().enumerate();
    for (index, tool) in tools {
        let Some(function) = &tool.function else {
            continue;
        };
        let Some(grammar) = &function.input_grammar else {
            continue;
        };
        let refused = |message: String, is_invalid: bool| {
            Some(CompileError {
                param: format!("tools[{index}]{DEFINITION}"),
                message,
                is_invalid,
            })
        };
        match rules(grammar) {
            _ if callable.iter().all(|one| !std::ptr::eq(*one, function)) => {}
            Err(GrammarError::Invalid(message)) => return refused(message, true),
            Err(GrammarError::Unsupported(message)) => return refused(message, false),
            Ok(_) if is_one_schema(request, syntax) => {
                let message = "this model cannot be held to it beside 'response_format'";
                return refused(message.to_owned(), false);
            }
            Ok(_) => {}
        }
    }
    None
}

/// Whether the answer, a JSON value or a call, has to be one schema
/// ([`Part`](crate::grammar::Part)), in which there is no place for a grammar.
fn is_one_schema(request: &ChatCompletionRequest, syntax: Syntax) -> bool {
    let is_json = !matches!(request.response_format, None | Some(ResponseFormat::Text));
    is_json && !request.must_call() && syntax.form().object_key().is_some()
}

/// Removes the grammar that an error is about. Returns `false` if the error is about something
/// else.
pub(crate) fn leave_out(request: &mut Cow<'_, ChatCompletionRequest>, param: &str) -> bool {
    if !is_param(param) {
        return false;
    }
    let index = param["tools[".len()..].split_once(']');
    let index = index.and_then(|(index, _)| index.parse::<usize>().ok());
    let tools = request.to_mut().tools.as_mut();
    let tool = index.and_then(|index| tools?.get_mut(index));
    let function = tool.and_then(|tool| tool.function.as_mut());
    function.is_some_and(|function| function.input_grammar.take().is_some())
}
