//! Simplifies a conversation that a template refuses, or of which it would omit a part.
//!
//! Templates are stricter than OpenAI's API: many accept a system message only at the beginning, or
//! require the user and the assistant to alternate.

use std::borrow::Cow;

use loggia_backend::conversation::{Change, arguments, plain, tools};
use loggia_backend::tool_calls::has_calls;
use loggia_wire::openai::{FunctionDefinition, Message, Role, Tool, ToolCall};
use minijinja::{Error, ErrorKind};

use super::{Conversation, Rendered, Template, earlier};

/// The changes that are tried when a template accepts a conversation but omits a part of it.
const SHOWING: [Change; 5] = [
    Change::SystemMoved,
    Change::SystemAsUser,
    Change::UserFirst,
    Change::UserLast,
    Change::SystemIntoUser,
];

/// Renders a conversation with as few changes as the template needs.
pub(super) fn render(
    template: &Template,
    conversation: &Conversation<'_>,
) -> Result<Rendered, Error> {
    let with_tools = usize::from(!conversation.tools.is_empty());
    let mut changed = Vec::new();
    let mut messages = Cow::Borrowed(conversation.messages);
    changed.extend(arguments::any_changed(&messages).then_some(Change::Arguments));
    let shows = template.traits.shows[with_tools];
    if !(shows.calls && shows.results) && has_calls(&messages) {
        messages = earlier::spelled_out(&messages, shows, template.form).into();
        changed.push(Change::CallsAsText);
    }
    let always = &template.traits.changes[with_tools];
    let mut attempts = Attempts {
        template,
        conversation: Conversation {
            messages: &messages,
            ..*conversation
        },
        always,
    };
    let (text, needed) = match attempts.as_few_as_needed() {
        Err(error) if error.kind() != ErrorKind::OutOfFuel && with_tools > 0 => {
            // The tools may be the reason of the failure.
            let rewritten = [
                rewritten(conversation.tools, tools::completed),
                rewritten(conversation.tools, tools::simplified),
            ];
            rewritten
                .iter()
                .flatten()
                .find_map(|tools| {
                    attempts.conversation.tools = tools;
                    attempts.as_few_as_needed().ok()
                })
                .ok_or(error)?
        }
        rendered => rendered?,
    };
    changed.extend(needed);
    Ok(Rendered { text, changed })
}

/// Rewrites the functions of the tools. Returns `None` if nothing changes.
fn rewritten(
    tools: &[Tool],
    rewrite: impl Fn(&FunctionDefinition) -> FunctionDefinition,
) -> Option<Vec<Tool>> {
    let rewrite = |tool: &Tool| Tool {
        function: tool.function.as_ref().map(&rewrite),
        ..tool.clone()
    };
    let rewritten: Vec<Tool> = tools.iter().map(rewrite).collect();
    (rewritten != tools).then_some(rewritten)
}

/// Renders a conversation with more and more changes until the template accepts it.
struct Attempts<'a> {
    template: &'a Template,
    conversation: Conversation<'a>,
    /// The changes that this template always needs.
    always: &'a [Change],
}

/// A rendered conversation, and the changes that had an effect on it.
type Found = (String, Vec<Change>);

impl Attempts<'_> {
    fn as_few_as_needed(&self) -> Result<Found, Error> {
        let (messages, needed) = self.changed(self.always);
        match self.render(&messages) {
            Ok(text) if self.shows_all(&text) => Ok((text, needed)),
            Ok(text) => Ok(self
                .search(&SHOWING, |text| self.shows_all(text))
                .unwrap_or((text, needed))),
            Err(error) if error.kind() == ErrorKind::OutOfFuel => Err(error),
            Err(error) => {
                let found = self.search(&Change::PLAINER, |text| self.shows_all(text));
                found
                    .or_else(|| self.search(&Change::PLAINER, |_| true))
                    .ok_or(error)
            }
        }
    }

    /// Applies changes to the messages. Also returns the changes that had an effect.
    fn changed(&self, changes: &[Change]) -> (Vec<Message>, Vec<Change>) {
        let write = |calls: &[ToolCall]| earlier::written(calls, self.template.form);
        plain::changed(self.conversation.messages, changes, write)
    }

    fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let conversation = Conversation {
            messages,
            ..self.conversation
        };
        self.template
            .render_as(&conversation, "tool", &self.template.traits)
    }

    /// Adds changes until the rendering is acceptable, and then removes those that are not needed.
    fn search(&self, candidates: &[Change], will_do: impl Fn(&str) -> bool) -> Option<Found> {
        let mut changes = self.always.to_vec();
        let mut before = self.changed(&changes).1;
        let mut found = None;
        for &change in candidates
            .iter()
            .filter(|change| !self.always.contains(change))
        {
            changes.push(change);
            let (messages, needed) = self.changed(&changes);
            if needed == before {
                changes.pop();
                continue;
            }
            before.clone_from(&needed);
            match self.render(&messages) {
                Ok(text) if will_do(&text) => {
                    found = Some((text, needed));
                    break;
                }
                Err(error) if error.kind() == ErrorKind::OutOfFuel => return None,
                _ => {}
            }
        }
        let mut found = found?;
        // The last change was necessary, so it is not tried again.
        for change in changes
            .clone()
            .into_iter()
            .rev()
            .skip(1)
            .filter(|change| !self.always.contains(change))
        {
            let fewer: Vec<Change> = changes
                .iter()
                .copied()
                .filter(|other| *other != change)
                .collect();
            let (messages, needed) = self.changed(&fewer);
            if let Some(text) = self.render(&messages).ok().filter(|text| will_do(text)) {
                (found, changes) = ((text, needed), fewer);
            }
        }
        Some(found)
    }

    /// Whether a prompt contains all instructions and tools. Some templates read them from one
    /// place only.
    fn shows_all(&self, prompt: &str) -> bool {
        let is_system = |message: &&Message| matches!(message.role, Role::System | Role::Developer);
        let mut instructions = self.conversation.messages.iter().filter(is_system);
        let mut functions = self
            .conversation
            .tools
            .iter()
            .filter_map(|tool| tool.function.as_ref());
        instructions.all(|message| {
            let text = message
                .content
                .as_ref()
                .map(|content| content.joined_text())
                .unwrap_or_default();
            prompt.contains(longest_line(&text))
        }) && (!self.template.traits.shows_tools
            || functions.all(|function| prompt.contains(&function.name)))
    }
}

/// The longest line of a text. It appears unchanged in a prompt, while some templates remove the
/// words in instructions that turn reasoning on and off.
fn longest_line(text: &str) -> &str {
    let lines = text
        .split('\n')
        .flat_map(|line| line.split("/no_think"))
        .flat_map(|line| line.split("/think"));
    lines
        .map(str::trim)
        .max_by_key(|line| line.len())
        .unwrap_or_default()
}
