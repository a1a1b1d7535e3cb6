//! Renders a conversation the way the model's makers do: with the Jinja template in its GGUF file.
//!
//! Reading order: [`Template`], `environment` (what a template can reach), `messages` and `number`
//! (what it is given), `variables` (what the client may set beside it), `traits` (what is found out
//! of it by trial), `attempts` (a conversation that it refuses, made plainer until it takes it),
//! `earlier` (calls that it does not show).
//!
//! A template is untrusted input: it runs with a bound on its steps, and can reach nothing but the
//! values it is given. Turning the text into tokens is `model.rs`'s work.

mod attempts;
mod earlier;
mod environment;
mod json;
mod messages;
mod number;
mod source;
mod traits;
mod variables;

use std::collections::BTreeSet;

use loggia_backend::conversation::Change;
use loggia_wire::Extra;
use loggia_wire::openai::{Message, Tool};
use minijinja::value::merge_maps;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use thiserror::Error as ThisError;

use crate::syntax::{CallForm, Syntax};
use environment::REFUSAL;
use messages::{Arguments, Shape};
use traits::Traits;

/// Steps a rendering may take. The longest templates need some hundred steps a message.
const FUEL: u64 = 10_000_000;

/// Steps that a rendering of a few short messages may take, at the start.
const TRIAL_FUEL: u64 = 1_000_000;

/// What a file without a template gets, as llama.cpp does it: `ChatML`, which most base models have
/// seen.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Why a conversation cannot be rendered.
#[derive(Debug, ThisError, PartialEq, Eq)]
pub enum TemplateError {
    /// The template itself says no: roles out of order, say.
    #[error("This model's chat template does not take these messages: {0}")]
    Refused(String),
    /// The template fails at what is in this conversation, and works for others. The message speaks
    /// of the template only.
    #[error(
        "This model's chat template fails at these messages: {0}. Send them without what is unusual in them."
    )]
    Failed(String),
    /// The template needs too many steps for this conversation.
    #[error(
        "This model's chat template takes too many steps for these messages. Send fewer or shorter ones."
    )]
    TooLong,
    /// The template does not work for any conversation. The message speaks of the template only,
    /// never of what was in the conversation.
    #[error("the model's chat template fails: {0}")]
    Broken(String),
}

/// A model's chat template, compiled.
#[derive(Debug)]
pub(crate) struct Template {
    environment: Environment<'static>,
    special: Special,
    /// Whether there is a template of its own for conversations with tools.
    for_tools: bool,
    /// How the model writes calls.
    form: CallForm,
    traits: Traits,
    /// The variables that a client may set.
    variables: BTreeSet<String>,
}

/// The texts of tokens that templates write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Special {
    pub(crate) bos: String,
    pub(crate) eos: String,
}

/// What a conversation is rendered from.
#[derive(Clone, Copy)]
pub(crate) struct Conversation<'a> {
    pub(crate) messages: &'a [Message],
    pub(crate) tools: &'a [Tool],
    /// How much the model is to think: `none`, or what its template knows. None where that is left
    /// to the template.
    pub(crate) effort: Option<&'a str>,
    /// The variables that the client sets, by [`Template::variables_of`].
    pub(crate) variables: &'a Value,
    /// The time that `strftime_now` tells.
    pub(crate) now: jiff::Timestamp,
}

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The prompt, up to where the assistant begins to speak.
    pub(crate) text: String,
    /// What had to be changed in the conversation so that the template takes it, and shows all of
    /// it.
    pub(crate) changed: Vec<Change>,
}

impl Template {
    /// Compiles the templates of a file, the usual one, and the one for tools where there is one,
    /// and tries them out.
    pub(crate) fn new(
        usual: Option<&str>,
        for_tools: Option<&str>,
        special: Special,
    ) -> Result<Self, TemplateError> {
        let mut environment = environment::environment(TRIAL_FUEL);
        environment
            .add_template_owned("usual", source::prepare(usual.unwrap_or(CHATML)))
            .map_err(|error| broken(&error))?;
        if let Some(source) = for_tools {
            environment
                .add_template_owned("tools", source::prepare(source))
                .map_err(|error| broken(&error))?;
        }
        let syntax = Syntax::of(
            &for_tools.into_iter().chain(usual).collect::<String>(),
            |_| false,
        );
        let (for_tools, form) = (for_tools.is_some(), syntax.form());
        let mut template = Self {
            environment,
            special,
            for_tools,
            form,
            traits: Traits::default(),
            variables: BTreeSet::new(),
        };
        let (traits, looked_up) = Traits::of(&template);
        template.traits = traits;
        let read = variables::read_by(&template.environment, &["usual", "tools"]);
        template.variables =
            variables::settable(&template.environment, read.into_iter().chain(looked_up));
        if !template.traits.shows_tools {
            template.form = syntax.without_tools().form();
        }
        template.environment.set_fuel(Some(FUEL));
        Ok(template)
    }

    /// Whether it shows the tools that it is given.
    pub(crate) fn shows_tools(&self) -> bool {
        self.traits.shows_tools
    }

    /// The variables that a client may set with `chat_template_kwargs`: those that the template reads
    /// and that nothing else sets.
    pub(crate) fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// The values that a request has for them.
    pub(crate) fn variables_of(&self, extra: &Extra) -> Value {
        variables::of_request(extra, &self.variables)
    }

    /// The prompt for a conversation. Where the template refuses it, or would leave something out,
    /// it is made as plain as needed.
    pub(crate) fn render(
        &self,
        conversation: &Conversation<'_>,
    ) -> Result<Rendered, TemplateError> {
        attempts::render(self, conversation).map_err(|error| self.explain(&error))
    }

    /// The same, with the messages as they are, results under this role, and these traits.
    fn render_as(
        &self,
        conversation: &Conversation<'_>,
        result_role: &str,
        traits: &Traits,
    ) -> Result<String, Error> {
        let Conversation {
            messages, tools, ..
        } = *conversation;
        let name = if self.for_tools && !tools.is_empty() {
            "tools"
        } else {
            "usual"
        };
        let render = |arguments| {
            let shape = Shape {
                arguments,
                short_ids: traits.short_ids,
                no_content: traits.no_content,
                result_role,
            };
            let messages = if traits.tools_in_system && !tools.is_empty() {
                messages::values_with_tools(messages, tools, shape)
            } else {
                messages::values(messages, shape)
            };
            self.run(name, &messages, &messages::tools(tools), conversation)
        };
        // Most templates want a call's arguments as an object, a few put a string together with
        // others.
        render(Arguments::Object).or_else(|first| {
            let has_calls = messages.iter().any(|message| message.tool_calls.is_some());
            if has_calls {
                render(Arguments::Text).map_err(|_| first)
            } else {
                Err(first)
            }
        })
    }

    fn run(
        &self,
        name: &str,
        messages: &Value,
        tools: &Value,
        other: &Conversation<'_>,
    ) -> Result<String, Error> {
        self.environment.get_template(name)?.render(context! {
            messages,
            tools,
            // The names that the makers' own tool passes, whether or not there is anything to pass.
            documents => (),
            add_generation_prompt => true,
            bos_token => self.special.bos.as_str(),
            eos_token => self.special.eos.as_str(),
            now_in_seconds => other.now.as_second(),
            ..merge_maps([effort(other.effort), other.variables.clone()])
        })
    }

    fn explain(&self, error: &Error) -> TemplateError {
        match error
            .detail()
            .and_then(|detail| detail.strip_prefix(REFUSAL))
        {
            Some(message) => TemplateError::Refused(message.to_owned()),
            None if !self.traits.works => broken(error),
            None if error.kind() == ErrorKind::OutOfFuel => TemplateError::TooLong,
            None => TemplateError::Failed(place(error)),
        }
    }
}

/// The variables by which templates are told of thinking. None of them where nothing is asked for:
/// each has a default of its own.
fn effort(effort: Option<&str>) -> Value {
    match effort {
        None => context! {},
        Some("none") => context! { enable_thinking => false, thinking => false },
        Some(level) => {
            context! { enable_thinking => true, thinking => true, reasoning_effort => level }
        }
    }
}

fn broken(error: &Error) -> TemplateError {
    TemplateError::Broken(place(error))
}

/// What went wrong, and where. Not the detail: it may quote a value, and a value may be the user's
/// words.
fn place(error: &Error) -> String {
    let line = error
        .line()
        .map(|line| format!(" in line {line}"))
        .unwrap_or_default();
    let what = if error.kind() == ErrorKind::OutOfFuel {
        "it takes too many steps".to_owned()
    } else {
        error.kind().to_string()
    };
    format!("{what}{line}")
}

#[cfg(test)]
mod tests;
