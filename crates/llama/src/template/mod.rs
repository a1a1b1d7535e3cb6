//! Renders a conversation with the model's own Jinja template from its GGUF file.
//!
//! Reading order: [`Template`], `environment` (the functions for a template), `messages` and
//! `number` (its input), `variables` (the variables that a client may set), `traits` (the
//! properties of a template, found by trial renderings), `attempts` (simplifies a conversation that
//! the template refuses), `earlier` (calls that it does not show).
//!
//! A template is untrusted input: it runs with a limit on its steps, and can only access the values
//! that it is given. `model.rs` converts the text to tokens.

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
use loggia_wire::openai::{Content, Message, Tool};
use minijinja::value::merge_maps;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use thiserror::Error as ThisError;

use crate::syntax::{CallForm, Syntax};
use environment::REFUSAL;
use messages::{Arguments, Shape};
use traits::Traits;

/// The maximum number of steps of a rendering. The longest templates take some hundred steps for
/// each message.
const FUEL: u64 = 10_000_000;

/// The maximum number of steps of a trial rendering: a few short messages, when the model is
/// loaded.
const TRIAL_FUEL: u64 = 1_000_000;

/// The template for a file without one, as in llama.cpp. It is `ChatML`, which most base models
/// have seen in training.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Why a conversation cannot be rendered.
#[derive(Debug, ThisError, PartialEq, Eq)]
pub enum TemplateError {
    /// The template refuses the conversation, for example because of the order of roles.
    #[error("This model's chat template refuses these messages: {0}")]
    Refused(String),
    /// The template fails for this conversation, but works for others. The message only describes
    /// the template.
    #[error("This model's chat template fails for these messages: {0}. Simplify the messages.")]
    Failed(String),
    /// The template cannot end with a message of the assistant.
    #[error(
        "This model's chat template does not support an answer that continues the last message. The messages must end with a user message."
    )]
    NotContinuable,
    /// The template needs too many steps for this conversation.
    #[error(
        "This model's chat template needs too many steps for these messages. Send fewer or shorter ones."
    )]
    TooLong,
    /// The template does not work for any conversation. The message only describes the template,
    /// never the contents of the conversation.
    #[error("the model's chat template fails: {0}")]
    Broken(String),
}

/// A model's compiled chat template.
#[derive(Debug)]
pub(crate) struct Template {
    environment: Environment<'static>,
    special: Special,
    /// Whether the file has a separate template for conversations with tools.
    for_tools: bool,
    /// The form in which the model writes calls.
    form: CallForm,
    traits: Traits,
    /// The variables that a client may set.
    variables: BTreeSet<String>,
}

/// The texts of special tokens that templates write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Special {
    pub(crate) bos: String,
    pub(crate) eos: String,
}

/// The input of a rendering.
#[derive(Clone, Copy)]
pub(crate) struct Conversation<'a> {
    pub(crate) messages: &'a [Message],
    pub(crate) tools: &'a [Tool],
    /// The reasoning effort: `none`, or a value that the template knows. `None` leaves it to the
    /// template.
    pub(crate) effort: Option<&'a str>,
    /// Whether the answer continues the last message, which is text of the assistant.
    pub(crate) continues: bool,
    /// The variables that the client sets, from [`Template::variables_of`].
    pub(crate) variables: &'a Value,
    /// The time for `strftime_now`.
    pub(crate) now: jiff::Timestamp,
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The prompt, up to where the assistant's answer begins.
    pub(crate) text: String,
    /// The changes to the conversation that the template needed to accept it and to show all of it.
    pub(crate) changed: Vec<Change>,
}

/// Marks the end of the text that an answer continues. Templates write the end of the turn after it.
const MARK: &str = "\u{e000}the answer continues here\u{e000}";

/// Adds the mark to the last message. A search for its own text could find another place: a short
/// text may be a part of what the template writes.
fn marked(messages: &[Message]) -> Vec<Message> {
    let mut messages = messages.to_vec();
    if let Some(last) = messages.last_mut() {
        let text = last.content.take();
        let text = text.map_or_else(String::new, |text| text.joined_text().into_owned());
        last.content = Some(Content::Text(text + MARK));
    }
    messages
}

/// Cuts a prompt at the mark.
fn cut(rendered: &mut Rendered) -> Result<(), TemplateError> {
    let is_last = !rendered.changed.contains(&Change::UserLast);
    let place = rendered.text.rfind(MARK).filter(|_| is_last);
    let place = place.ok_or(TemplateError::NotContinuable)?;
    rendered.text.truncate(place);
    Ok(())
}

impl Template {
    /// Compiles the templates of a file (the default one, and the one for tools, if present) and
    /// tries them out.
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

    /// Whether the template shows the tools that it is given.
    pub(crate) fn shows_tools(&self) -> bool {
        self.traits.shows_tools
    }

    /// The variables that a client may set with `chat_template_kwargs`: the template reads them,
    /// and nothing else sets them.
    pub(crate) fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// The values that a request sets for these variables.
    pub(crate) fn variables_of(&self, extra: &Extra) -> Value {
        variables::of_request(extra, &self.variables)
    }

    /// The prompt for a conversation. If the template refuses the conversation or would omit a part
    /// of it, the conversation is simplified as far as necessary.
    pub(crate) fn render(
        &self,
        conversation: &Conversation<'_>,
    ) -> Result<Rendered, TemplateError> {
        let render = |conversation: &Conversation<'_>| {
            attempts::render(self, conversation).map_err(|error| self.explain(&error))
        };
        if !conversation.continues {
            return render(conversation);
        }
        let messages = marked(conversation.messages);
        let mut rendered = render(&Conversation {
            messages: &messages,
            ..*conversation
        })?;
        cut(&mut rendered)?;
        Ok(rendered)
    }

    /// Renders the messages unchanged. `result_role` is the role of results.
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
        // Most templates expect a call's arguments as an object; a few concatenate them with
        // strings, so the string of JSON is tried second.
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
            // `transformers` always passes these names, even without a value.
            documents => (),
            add_generation_prompt => !other.continues,
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

/// The variables with which templates control reasoning. If the request sets no effort, none is
/// set, because each template has its own default.
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

/// Describes an error by its kind and position. Its detail is left out, because it may quote a
/// value from the user's messages.
fn place(error: &Error) -> String {
    let line = error
        .line()
        .map(|line| format!(" in line {line}"))
        .unwrap_or_default();
    let what = if error.kind() == ErrorKind::OutOfFuel {
        "it needs too many steps".to_owned()
    } else {
        error.kind().to_string()
    };
    format!("{what}{line}")
}

#[cfg(test)]
mod tests;
