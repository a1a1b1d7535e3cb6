//! Renders a conversation the way the model's makers do: with the Jinja template in its GGUF file.
//!
//! A template is untrusted input: it runs with a bound on its steps, and can reach nothing but the values it is given. Turning
//! the text into tokens is `model.rs`'s work.

mod earlier;
mod json;
mod messages;
mod number;
mod source;

use std::borrow::Cow;

use loggia_backend::emulate::{Shows, has_calls};
use loggia_wire::openai::{Message, Tool};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use thiserror::Error as ThisError;

use crate::syntax::{CallForm, Syntax};
use messages::{Arguments, Shape};

/// Steps a rendering may take. The longest templates need some hundred steps a message.
const FUEL: u64 = 10_000_000;

/// What a file without a template gets, as llama.cpp does it: `ChatML`, which most base models have seen.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Why a conversation cannot be rendered.
#[derive(Debug, ThisError, PartialEq, Eq)]
pub enum TemplateError {
    /// The template itself says no: roles out of order, say.
    #[error("the model's chat template refuses these messages: {0}")]
    Refused(String),
    /// The template does not work. The message speaks of the template only, never of what was in the conversation.
    #[error("the model's chat template fails: {0}")]
    Broken(String),
}

/// A model's chat template, compiled.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a trait that a template has or has not, whatever the others"
)]
pub(crate) struct Template {
    environment: Environment<'static>,
    special: Special,
    /// Whether there is a template of its own for conversations with tools.
    for_tools: bool,
    /// Whether the template itself has a place for system messages.
    takes_system: bool,
    /// Whether it refuses the ids of calls that are not nine characters long.
    short_ids: bool,
    /// Whether calls without a text have no content at all for it, where others want an empty one.
    no_content: bool,
    /// Whether it looks for the tools in the system message, and nowhere else.
    tools_in_system: bool,
    /// How the model writes calls.
    form: CallForm,
    /// What it shows of earlier calls, where no tools are given and where some are.
    shows: [Shows; 2],
}

/// The texts of tokens that templates write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Special {
    pub(crate) bos: String,
    pub(crate) eos: String,
}

/// What a conversation is rendered from.
pub(crate) struct Conversation<'a> {
    pub(crate) messages: &'a [Message],
    pub(crate) tools: &'a [Tool],
    /// How much the model is to think: `none`, or what its template knows. None where that is left to the template.
    pub(crate) effort: Option<&'a str>,
    /// The time that `strftime_now` tells.
    pub(crate) now: jiff::Timestamp,
}

impl Template {
    /// Compiles the templates of a file: the usual one, and the one for tools where there is one.
    pub(crate) fn new(usual: Option<&str>, for_tools: Option<&str>, special: Special) -> Result<Self, TemplateError> {
        let mut environment = environment();
        environment.add_template_owned("usual", source::prepare(usual.unwrap_or(CHATML))).map_err(broken)?;
        if let Some(source) = for_tools {
            environment.add_template_owned("tools", source::prepare(source)).map_err(broken)?;
        }
        let short_ids = usual.into_iter().chain(for_tools).any(|source| source.contains("length != 9"));
        let no_content =
            usual.into_iter().chain(for_tools).any(|source| source.contains("message['content'] is not none"));
        let in_system = |source: &str| source.contains("message['tools']") || source.contains("message.tools");
        let mut template = Self {
            environment,
            special,
            for_tools: for_tools.is_some(),
            takes_system: true,
            short_ids,
            no_content,
            tools_in_system: for_tools.is_none() && usual.is_some_and(in_system),
            form: Syntax::of(&for_tools.into_iter().chain(usual).collect::<String>(), |_| false).form(),
            shows: [Shows::default(); 2],
        };
        template.takes_system = template.shows_system_messages();
        template.shows = [template.shows(&[]), template.shows(&[trial_tool()])];
        Ok(template)
    }

    /// The prompt for a conversation, up to where the assistant begins to speak.
    pub(crate) fn render(&self, conversation: &Conversation<'_>) -> Result<String, TemplateError> {
        let mut messages = Cow::Borrowed(conversation.messages);
        if !self.takes_system {
            messages = messages::system_into_user(&messages).into();
        }
        let shows = self.shows[usize::from(!conversation.tools.is_empty())];
        if !(shows.calls && shows.results) && has_calls(&messages) {
            messages = earlier::spelled_out(&messages, shows, self.form).into();
        }
        self.render_as(&messages, "tool", conversation).map_err(explain)
    }

    /// The same, with these messages as they are, and results under this role.
    fn render_as(
        &self,
        messages: &[Message],
        result_role: &str,
        conversation: &Conversation<'_>,
    ) -> Result<String, Error> {
        let name = if self.for_tools && !conversation.tools.is_empty() { "tools" } else { "usual" };
        let render = |arguments| {
            let shape = Shape { arguments, short_ids: self.short_ids, no_content: self.no_content, result_role };
            let messages = if self.tools_in_system && !conversation.tools.is_empty() {
                messages::values_with_tools(messages, conversation.tools, shape)
            } else {
                messages::values(messages, shape)
            };
            let tools = messages::tools(conversation.tools);
            self.run(name, &messages, &tools, conversation)
        };
        // Most templates want a call's arguments as an object, a few put a string together with others.
        render(Arguments::Object).or_else(|first| match first {
            Error { .. } if calls(messages) => render(Arguments::Text).map_err(|_| first),
            _ => Err(first),
        })
    }

    fn run(&self, name: &str, messages: &Value, tools: &Value, other: &Conversation<'_>) -> Result<String, Error> {
        self.environment.get_template(name)?.render(context! {
            messages,
            tools,
            // The names that the makers' own tool passes, whether or not there is anything to pass.
            documents => (),
            add_generation_prompt => true,
            bos_token => self.special.bos.as_str(),
            eos_token => self.special.eos.as_str(),
            now_in_seconds => other.now.as_second(),
            ..effort(other.effort)
        })
    }

    /// Tries it out: templates without a place for system messages refuse them (Gemma), or leave them out.
    fn shows_system_messages(&self) -> bool {
        use loggia_wire::openai::Role;
        let trial = [Message::text(Role::System, "<system>"), Message::text(Role::User, "<user>")];
        let conversation =
            Conversation { messages: &trial, tools: &[], effort: None, now: jiff::Timestamp::UNIX_EPOCH };
        let rendered = self.render_as(&trial, "tool", &conversation);
        rendered.is_ok_and(|prompt| prompt.contains("<system>"))
    }

    /// Tries out what it shows of earlier calls: templates that know nothing of calls leave them out.
    fn shows(&self, tools: &[Tool]) -> Shows {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let conversation = Conversation { messages: &[], tools, effort: None, now };
        earlier::shows(self.form, |messages, result_role| self.render_as(messages, result_role, &conversation).ok())
    }
}

/// The variables by which templates are told of thinking. None of them where nothing is asked for: each has a default of its own.
fn effort(effort: Option<&str>) -> Value {
    match effort {
        None => context! {},
        Some("none") => context! { enable_thinking => false, thinking => false },
        Some(level) => context! { enable_thinking => true, thinking => true, reasoning_effort => level },
    }
}

/// A function that nobody calls.
fn trial_tool() -> Tool {
    use loggia_wire::openai::FunctionDefinition;
    let function = FunctionDefinition {
        name: "trial".to_owned(),
        description: Some("A trial.".to_owned()),
        parameters: Some(serde_json::json!({"type": "object", "properties": {}})),
        strict: None,
        extra: loggia_wire::Extra::new(),
    };
    Tool { kind: "function".to_owned(), function: Some(function), extra: loggia_wire::Extra::new() }
}

fn calls(messages: &[Message]) -> bool {
    messages.iter().any(|message| message.tool_calls.is_some())
}

/// The environment that templates are written for: the one of Hugging Face's `transformers`.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_syntax(syntax());
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", json::to_json);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

/// Block tags leave no empty lines behind. The delimiters are Jinja's own, so building this cannot fail.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default()
}

/// Whether Python can go through it: minijinja could go through nothing at all, too.
fn is_iterable(value: &Value) -> bool {
    use minijinja::value::ValueKind::{Iterable, Undefined};
    is_sequence(value) || matches!(value.kind(), Iterable | Undefined)
}

/// Whether Python has places in it: in texts and maps as well.
fn is_sequence(value: &Value) -> bool {
    use minijinja::value::ValueKind::{Bytes, Map, Seq, String, Undefined};
    matches!(value.kind(), String | Bytes | Seq | Map | Undefined)
}

/// How a refusal is told from a failure: what follows it is the template's own message.
const REFUSAL: &str = "raise_exception: ";

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{REFUSAL}{message}")))
}

/// The time in a format of Python's `strftime`, in UTC: a server has no place of its own.
fn strftime_now(state: &minijinja::State<'_, '_>, format: &str) -> Result<String, Error> {
    let seconds = state.lookup("now_in_seconds").and_then(|value| i64::try_from(value).ok()).unwrap_or(0);
    let now = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::fmt::strtime::format(format, &now.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}

fn explain(error: Error) -> TemplateError {
    match error.detail().and_then(|detail| detail.strip_prefix(REFUSAL)) {
        Some(message) => TemplateError::Refused(message.to_owned()),
        None => broken(error),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn broken(error: Error) -> TemplateError {
    let line = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    // Not the detail: it may quote a value, and a value may be the user's words.
    let what = if error.kind() == ErrorKind::OutOfFuel {
        "it takes too many steps".to_owned()
    } else {
        error.kind().to_string()
    };
    TemplateError::Broken(format!("{what}{line}"))
}

#[cfg(test)]
mod tests;
