//! Builds the constraint of an answer from a request's `response_format`, `tool_choice`, `strict`
//! and `grammar`.
//!
//! Pure, except for the compiling, which `grammar` does.

use std::borrow::Cow;

use loggia_backend::BackendError;
use loggia_backend::tool_calls::with_described_tools;
use loggia_wire::openai::{
    ChatCompletionRequest, FunctionDefinition, Message, ResponseFormat, Tool, ToolChoice,
};
use serde_json::{Value, json};

use crate::grammar::{
    AnswerConstraint, Beginning, Calls, CompileError, Grammars, Part, Source, Writer, text_or_calls,
};
use crate::input_grammars;
use crate::loosen;
use crate::syntax::{Begins, Syntax, Tags, Watch};

/// The constraint that a request puts on its answer.
#[derive(Debug)]
enum RequestConstraint<'a> {
    /// The answer must consist of calls.
    Calls(Functions<'a>),
    /// The answer must be a JSON value, or calls if the model may make some.
    Json {
        value: Part,
        calls: Option<Functions<'a>>,
    },
    /// The answer may be any text, but a call in it must match its schema.
    FreeCalls(Functions<'a>, Watch),
    /// The answer must match the client's own grammar.
    Gbnf(&'a str),
}

/// The functions that may be called.
#[derive(Debug)]
struct Functions<'a> {
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

/// The syntax that an answer is parsed with. If the prompt describes the tools because the template
/// does not support them, it is the syntax of that description.
pub(crate) fn syntax(request: &ChatCompletionRequest, model: Syntax) -> Syntax {
    let functions = request.callable_functions();
    if !functions.is_empty() && !model.knows_tools() {
        model.with_described_tools()
    } else if is_free(request) && functions.iter().copied().any(is_promised) {
        model.watched()
    } else {
        model
    }
}

/// The messages that the template renders. If the template does not support tools, they include a
/// description of the functions.
pub(crate) fn messages(request: &ChatCompletionRequest, model: Syntax) -> Cow<'_, [Message]> {
    if model.knows_tools() || request.callable_functions().is_empty() {
        Cow::Borrowed(&request.messages)
    } else {
        Cow::Owned(with_described_tools(request))
    }
}

/// Whether nothing but the schemas of calls constrains the answer.
pub(crate) fn is_free(request: &ChatCompletionRequest) -> bool {
    let any_text = matches!(request.response_format, None | Some(ResponseFormat::Text));
    any_text && !request.must_call() && gbnf(request).is_ok_and(|gbnf| gbnf.is_none())
}

/// Whether the arguments of an optional call conform to the schema or the grammar of the function.
fn is_promised(function: &FunctionDefinition) -> bool {
    function.strict == Some(true) || function.input_grammar.is_some()
}

/// Returns the constraint of a request. Returns `None` if any answer is valid.
fn request_constraint(
    request: &ChatCompletionRequest,
    syntax: Syntax,
) -> Result<Option<RequestConstraint<'_>>, BackendError> {
    let functions = functions(request)?;
    let gbnf = gbnf(request)?;
    if let Some(text) = gbnf {
        return match (&request.response_format, request.must_call()) {
            (None | Some(ResponseFormat::Text), false) => Ok(Some(RequestConstraint::Gbnf(text))),
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
        return Ok(Some(RequestConstraint::Calls(functions)));
    }
    let may_call = !functions.all.is_empty() && syntax.knows_tools();
    if let Some(value) = value(request) {
        return Ok(Some(RequestConstraint::Json {
            value,
            calls: may_call.then_some(functions),
        }));
    }
    // If a model was not trained to make calls, its calls are always constrained to the described
    // form.
    let is_constrained = may_call
        && (syntax.has_described_tools() || functions.all.iter().copied().any(is_promised));
    Ok(syntax
        .watch()
        .filter(|_| is_constrained)
        .map(|watch| RequestConstraint::FreeCalls(functions, watch)))
}

/// The request field with the constraint of the answer.
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

/// The compiled constraint of an answer (`None` if any answer is valid), and the names of the parts
/// that were left out of it.
pub(crate) type CompiledConstraint = (Option<AnswerConstraint>, Vec<String>);

/// Compiles the constraint of a request, for an answer that begins with `begins`. With `strict`,
/// nothing may be left out.
pub(crate) async fn constrain<'g>(
    request: &ChatCompletionRequest,
    strict: bool,
    grammars: impl AsyncFnOnce() -> Result<&'g Grammars, BackendError>,
    syntax: Syntax,
    begins: Begins,
) -> Result<CompiledConstraint, BackendError> {
    let mut first = request_constraint(request, syntax)?;
    if first.is_none() {
        return Ok((None, Vec::new()));
    }
    let mut request = Cow::Borrowed(request);
    let mut left_out = Vec::new();
    while let Some(refused) = input_grammars::unwritable(&request, syntax) {
        if strict || refused.is_invalid || !input_grammars::leave_out(&mut request, &refused.param)
        {
            return Err(explain(refused));
        }
        input_grammars::name(&mut left_out);
    }
    let compiler = Compiler {
        grammars: grammars().await?,
        syntax,
        begins,
    };
    loop {
        let wanted = match (&request, first.take()) {
            (Cow::Borrowed(_), Some(first)) => Some(first),
            (request, _) => request_constraint(request, syntax)?,
        };
        let Some(wanted) = wanted else {
            return Ok((None, left_out));
        };
        match compiler.constrain(wanted, &request, strict).await {
            Ok((constraint, more)) => {
                left_out.extend(more);
                return Ok((constraint, left_out));
            }
            Err(refused) if !strict && input_grammars::leave_out(&mut request, &refused.param) => {
                input_grammars::name(&mut left_out);
            }
            Err(refused) => return Err(explain(refused)),
        }
    }
}

/// Which functions are constrained to their schemas, if the prompt describes the tools.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DescribedCalls {
    All,
    Strict,
}

/// The maximum number of schemas that are simplified for one request.
const MOST_LOOSENED: usize = 16;

/// Compiles constraints for one model and one beginning of an answer.
#[derive(Clone, Copy)]
struct Compiler<'a> {
    grammars: &'a Grammars,
    syntax: Syntax,
    begins: Begins,
}

impl Compiler<'_> {
    /// Compiles the constraint of a request, with simpler schemas if it has to be.
    async fn constrain(
        self,
        wanted: RequestConstraint<'_>,
        request: &ChatCompletionRequest,
        strict: bool,
    ) -> Result<CompiledConstraint, CompileError> {
        let refused = match self.compile(wanted, DescribedCalls::All).await {
            Ok(constraint) => return Ok((Some(constraint), Vec::new())),
            Err(refused) => at_its_place(refused, request),
        };
        let is_of_grammar = input_grammars::is_param(&refused.param);
        let loosened = if strict || is_of_grammar {
            Err(refused)
        } else {
            self.loosened(request, refused).await
        };
        match loosened {
            Ok((constraint, names)) => {
                // Calls that are optional carry no guarantee.
                let is_promised = request.must_call() || value(request).is_some();
                Ok((constraint, if is_promised { names } else { Vec::new() }))
            }
            Err(refused)
                if self.syntax.has_described_tools() && !request.must_call() && !is_of_grammar =>
            {
                let Ok(Some(wanted)) = request_constraint(request, self.syntax) else {
                    return Ok((None, Vec::new()));
                };
                let constraint = self.compile(wanted, DescribedCalls::Strict).await;
                constraint
                    .map(|constraint| (Some(constraint), Vec::new()))
                    .map_err(|_| refused)
            }
            Err(refused) => Err(refused),
        }
    }

    /// Compiles a constraint in which schemas that are too complex are replaced by simpler ones.
    /// Also returns the names of the parts that were left out.
    async fn loosened(
        self,
        request: &ChatCompletionRequest,
        mut refused: CompileError,
    ) -> Result<CompiledConstraint, CompileError> {
        let mut request = ChatCompletionRequest {
            messages: Vec::new(),
            ..request.clone()
        };
        let mut names = Vec::new();
        'schemas: for _ in 0..MOST_LOOSENED {
            let param = refused.param.clone();
            let Some((Some(schema), false)) = loosen::schema_of(&mut request, &param)
                .map(|(schema, strict)| (schema.clone(), strict))
            else {
                break;
            };
            for simpler in loosen::simpler(&schema) {
                if let Some((schema, _)) = loosen::schema_of(&mut request, &param) {
                    *schema = Some(simpler.schema);
                }
                let left_out = simpler.without.iter().map(|name| format!("{param}{name}"));
                let Ok(Some(wanted)) = request_constraint(&request, self.syntax) else {
                    return Err(refused);
                };
                match self.compile(wanted, DescribedCalls::All).await {
                    Ok(constraint) => {
                        names.extend(left_out);
                        return Ok((Some(constraint), names));
                    }
                    Err(other) => {
                        let other = at_its_place(other, &request);
                        if other.param != param {
                            // This simplification was enough for this schema; another schema is at
                            // fault now.
                            names.extend(left_out);
                            refused = other;
                            continue 'schemas;
                        }
                    }
                }
            }
            break;
        }
        Err(refused)
    }

    async fn compile(
        self,
        wanted: RequestConstraint<'_>,
        described: DescribedCalls,
    ) -> Result<AnswerConstraint, CompileError> {
        let Self {
            grammars,
            syntax,
            begins,
        } = self;
        let (source, beginning) = source(wanted, grammars, syntax, begins, described);
        let grammar = grammars.compile(source).await?;
        Ok(AnswerConstraint::new(
            grammars.vocabulary(),
            grammar,
            beginning,
        ))
    }
}

/// Returns the source to compile, and how the answer begins.
fn source(
    wanted: RequestConstraint<'_>,
    grammars: &Grammars,
    syntax: Syntax,
    begins: Begins,
    described: DescribedCalls,
) -> (Source, Beginning) {
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
        RequestConstraint::Calls(functions) => writer.calls(functions.calls(true)),
        RequestConstraint::Json { value, calls } => {
            writer.answer(value, calls.as_ref().map(|calls| calls.calls(false)))
        }
        RequestConstraint::FreeCalls(functions, Watch::Mark(trigger)) => {
            beginning.trigger = Some(trigger);
            let all = syntax.has_described_tools() && described == DescribedCalls::All;
            writer.rest_of_calls(functions.calls(all), trigger.mark)
        }
        RequestConstraint::FreeCalls(functions, Watch::Whole) => {
            if !syntax.answer_head().is_empty() {
                // The grammar also covers the reasoning.
                beginning.reasoning = None;
            }
            text_or_calls(writer, functions.calls(false))
        }
        RequestConstraint::Gbnf(text) => {
            if !syntax.answer_head().is_empty() {
                // Everything before the final message is unconstrained.
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
    (source, beginning)
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

/// Translates the name of a field in a grammar error to the client's own: `tools[NAME]…` becomes
/// the index of the tool.
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

fn at_its_place(refused: CompileError, request: &ChatCompletionRequest) -> CompileError {
    CompileError {
        param: place(refused.param, request),
        ..refused
    }
}

fn explain(CompileError { param, message, .. }: CompileError) -> BackendError {
    if param.is_empty() {
        return BackendError::Engine { message };
    }
    if param == "grammar" {
        return invalid(&param, &format!("Invalid grammar: {message}."));
    }
    if input_grammars::is_param(&param) {
        let message = format!("Invalid grammar for '{param}': {message}.");
        return invalid(&param, &message);
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
