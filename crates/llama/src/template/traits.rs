//! Properties of a template, found by trial renderings: which parts of a conversation it shows, and
//! in which form it expects them. Its source is less reliable: a name in the source may be in a
//! comment, or have another meaning.

use std::collections::BTreeSet;
use std::sync::Arc;

use loggia_backend::conversation::Change;
use loggia_backend::tool_calls::Shows;
use loggia_wire::Extra;
use loggia_wire::openai::{FunctionCall, FunctionDefinition, Message, Role, Tool, ToolCall};
use minijinja::Value;
use serde_json::json;

use super::variables::Lookups;
use super::{Conversation, Template, earlier};

/// The properties of a template.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent property of a template"
)]
pub(super) struct Traits {
    /// Whether the template renders the simplest conversation.
    pub(super) works: bool,
    /// Whether the template shows tools.
    pub(super) shows_tools: bool,
    /// Whether the template only reads the tools from the system message.
    pub(super) tools_in_system: bool,
    /// Whether the template only accepts call ids of nine letters and digits.
    pub(super) short_ids: bool,
    /// Whether a message with calls and no text needs `content: null`. Other templates need an
    /// empty string.
    pub(super) no_content: bool,
    /// The parts of earlier calls that it shows, without tools and with tools.
    pub(super) shows: [Shows; 2],
    /// The changes that make the template show all of a conversation, without tools and with tools.
    pub(super) changes: [Vec<Change>; 2],
}

impl Default for Traits {
    /// The properties of a template for which no trial was made.
    fn default() -> Self {
        Self {
            works: false,
            shows_tools: true,
            tools_in_system: false,
            short_ids: false,
            no_content: false,
            changes: [const { Vec::new() }; 2],
            shows: [Shows {
                calls: true,
                results: true,
            }; 2],
        }
    }
}

/// Words that do not occur in any template. A trial conversation consists of them.
const ASKED: &str = "<asked>";
const SYSTEM: &str = "<trial of a system message>";
const ANSWER: &str = "<trial of an answer>";
const FUNCTION: &str = "trial_of_a_function";
const CALLED: [&str; 2] = ["trial_of_a_call", "trial_of_another_call"];
const ARGUMENTS: [&str; 2] = ["trial_of_an_argument", "trial_of_another_argument"];
const RESULTS: [&str; 2] = ["<trial of a result>", "<trial of another result>"];
/// Ids of calls: nine letters, as Mistral's templates require.
const IDS: [&str; 2] = ["trialcall", "trialsecd"];
/// An id in the form of OpenAI's API.
const LONG_ID: &str = "call_Tr1alTr1alTr1alTr1al";
/// A role that no template knows.
const NOBODY: &str = "nobody_at_all";

impl Traits {
    /// Finds the properties of a template by trial renderings. Also returns the variables that it
    /// looked up.
    pub(super) fn of(template: &Template) -> (Self, BTreeSet<String>) {
        let lookups = Arc::new(Lookups::default());
        let mut trial = Trial {
            template,
            traits: Self::default(),
            variables: Value::from_dyn_object(Arc::clone(&lookups)),
        };
        trial.traits.works = trial.render(&asked(), false).is_some();
        if !trial.traits.works {
            // This template fails for every conversation, so further trials would only take time.
            return (trial.traits, BTreeSet::new());
        }
        trial.tools();
        trial.ids();
        trial.content();
        trial.traits.shows = [false, true].map(|tools| trial.earlier(tools));
        trial.traits.changes = [false, true].map(|tools| trial.changes(tools));
        (trial.traits, lookups.names())
    }
}

/// The state of the trials: the template, and its properties so far.
struct Trial<'a> {
    template: &'a Template,
    traits: Traits,
    /// The variables of the trial renderings. They have no values, and record the names that are
    /// looked up.
    variables: Value,
}

impl Trial<'_> {
    fn render(&self, messages: &[Message], with_tools: bool) -> Option<String> {
        self.render_as(messages, with_tools, "tool")
    }

    fn render_as(
        &self,
        messages: &[Message],
        with_tools: bool,
        result_role: &str,
    ) -> Option<String> {
        let tools: &[Tool] = if with_tools { &[tool()] } else { &[] };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let conversation = Conversation {
            messages,
            tools,
            effort: None,
            continues: false,
            variables: &self.variables,
            now,
        };
        self.template
            .render_as(&conversation, result_role, &self.traits)
            .ok()
    }

    /// Finds whether tools are shown, and where they must be passed for that.
    fn tools(&mut self) {
        let shown = |trial: &Self| {
            trial
                .render(&asked(), true)
                .is_some_and(|prompt| prompt.contains(FUNCTION))
        };
        if shown(self) {
            return;
        }
        self.traits.tools_in_system = true;
        self.traits.tools_in_system = shown(self);
        self.traits.shows_tools = self.traits.tools_in_system;
    }

    /// Finds whether the template refuses long ids and accepts short ones.
    fn ids(&mut self) {
        let with = |id: &str| [&asked()[..], &[calls(&[(id, 0)])], &[result(id, 0)]].concat();
        let takes = |trial: &Self, id: &str| {
            trial
                .render(&with(id), true)
                .or_else(|| trial.render(&with(id), false))
                .is_some()
        };
        self.traits.short_ids = !takes(self, LONG_ID) && takes(self, IDS[0]);
    }

    /// Finds whether a call without a text needs the content `null`: it is then rendered
    /// differently, and the word for `null` is not printed.
    fn content(&mut self) {
        let conversation = [&asked()[..], &[calls(&[(IDS[0], 0)])], &[result(IDS[0], 0)]].concat();
        let nulls = |prompt: &str| prompt.to_lowercase().matches("none").count();
        let empty = self.render(&conversation, true);
        self.traits.no_content = true;
        let none = self.render(&conversation, true);
        self.traits.no_content = match (empty, none) {
            (Some(empty), Some(none)) => none != empty && nulls(&none) <= nulls(&empty),
            (None, none) => none.is_some(),
            (Some(_), None) => false,
        };
    }

    /// Finds which parts of earlier calls are shown. Templates without support for calls omit them.
    fn earlier(&self, with_tools: bool) -> Shows {
        let conversation = [&asked()[..], &[calls(&[(IDS[0], 0)])], &[result(IDS[0], 0)]].concat();
        let shows_call = |messages: &[Message]| {
            let prompt = self.render(messages, with_tools);
            prompt.is_some_and(|prompt| has_call(&prompt, 0))
        };
        // Some templates fail for results, and some for calls without results, so both are tried.
        let calls = shows_call(&conversation) || shows_call(&conversation[..2]);
        let without = Shows {
            calls,
            results: true,
        };
        let conversation = earlier::spelled_out(&conversation, without, self.template.form);
        let prompt = self
            .render(&conversation, with_tools)
            .filter(|prompt| prompt.contains(RESULTS[0]));
        let results = prompt.is_some_and(|prompt| {
            // A template that prints any role's name and content does not support results, unless
            // it supports calls.
            let by_nobody = || self.render_as(&conversation, with_tools, NOBODY);
            calls || by_nobody().is_none_or(|other| other.replace(NOBODY, "tool") != prompt)
        });
        Shows { calls, results }
    }

    /// Finds the changes that are needed so that nothing is omitted or repeated.
    fn changes(&self, with_tools: bool) -> Vec<Change> {
        let shows = self.traits.shows[usize::from(with_tools)];
        let trials = [
            (Change::SystemIntoUser, !self.shows_system(with_tools)),
            (Change::SystemMoved, self.repeats_tools(with_tools)),
            (
                Change::CallsSplit,
                shows.calls && shows.results && !self.shows_two_calls(with_tools),
            ),
            (
                Change::CallApart,
                shows.calls && self.loses_call_beside_text(with_tools),
            ),
            (
                Change::UserFirst,
                shows.calls && self.loses_call_at_the_beginning(with_tools),
            ),
            (
                Change::ResultsAsText,
                shows.results && self.loses_result_without_a_call(with_tools),
            ),
        ];
        trials
            .into_iter()
            .filter(|(_, needed)| *needed)
            .map(|(change, _)| change)
            .collect()
    }

    /// Whether a system message is shown. Templates without support for one refuse it, or omit it.
    fn shows_system(&self, with_tools: bool) -> bool {
        let prompt = self.render(&[&[system()], &asked()[..]].concat(), with_tools);
        prompt.is_some_and(|prompt| prompt.contains(SYSTEM))
    }

    /// Whether the tools are repeated with each system message.
    fn repeats_tools(&self, with_tools: bool) -> bool {
        let count = |messages: &[Message]| {
            let prompt = self.render(messages, with_tools);
            prompt.map(|prompt| prompt.matches(FUNCTION).count())
        };
        let once = [&[system()], &asked()[..]].concat();
        let twice = [&once[..], &[answer(), system()], &asked()].concat();
        with_tools && count(&twice) > count(&once)
    }

    /// Whether both of two calls are shown, if a single one is.
    fn shows_two_calls(&self, with_tools: bool) -> bool {
        let both = [(IDS[0], 0), (IDS[1], 1)];
        let conversation = [
            &asked()[..],
            &[calls(&both)],
            &both.map(|(id, at)| result(id, at)),
        ]
        .concat();
        let prompt = self.render(&conversation, with_tools);
        prompt.is_some_and(|prompt| [0, 1].into_iter().all(|at| has_call(&prompt, at)))
    }

    /// Whether a call is omitted if its message also has a text.
    fn loses_call_beside_text(&self, with_tools: bool) -> bool {
        let mut call = calls(&[(IDS[0], 0)]);
        call.content = answer().content;
        let prompt = self.render(
            &[&asked()[..], &[call], &[result(IDS[0], 0)]].concat(),
            with_tools,
        );
        prompt.is_some_and(|prompt| !has_call(&prompt, 0))
    }

    /// Whether a call is omitted if no user message comes before it.
    fn loses_call_at_the_beginning(&self, with_tools: bool) -> bool {
        let prompt = self.render(
            &[&[calls(&[(IDS[0], 0)]), result(IDS[0], 0)], &asked()[..]].concat(),
            with_tools,
        );
        prompt.is_some_and(|prompt| !has_call(&prompt, 0))
    }

    /// Whether a result is omitted if no call comes before it.
    fn loses_result_without_a_call(&self, with_tools: bool) -> bool {
        let prompt = self.render(&[&asked()[..], &[result(IDS[0], 0)]].concat(), with_tools);
        prompt.is_some_and(|prompt| !prompt.contains(RESULTS[0]))
    }
}

fn has_call(prompt: &str, at: usize) -> bool {
    prompt.contains(CALLED[at]) || prompt.contains(ARGUMENTS[at])
}

fn system() -> Message {
    Message::text(Role::System, SYSTEM)
}

fn answer() -> Message {
    Message::text(Role::Assistant, ANSWER)
}

fn asked() -> [Message; 1] {
    [Message::text(Role::User, ASKED)]
}

/// A function that is never called.
fn tool() -> Tool {
    let function = FunctionDefinition {
        name: FUNCTION.to_owned(),
        description: Some("A trial.".to_owned()),
        parameters: Some(
            json!({"type": "object", "properties": {"of": {"type": "string", "description": "What."}}}),
        ),
        exact_parameters: None,
        input_grammar: None,
        stands_for_custom: false,
        strict: None,
        extra: Extra::new(),
    };
    Tool {
        kind: "function".to_owned(),
        function: Some(function),
        extra: Extra::new(),
    }
}

/// A message with calls, each given by its id and the index of its word.
fn calls(calls: &[(&str, usize)]) -> Message {
    let call = |&(id, at): &(&str, usize)| {
        let arguments = format!("{{\"of\": \"{}\"}}", ARGUMENTS[at]);
        let function = FunctionCall {
            name: CALLED[at].to_owned(),
            arguments,
            extra: Extra::new(),
        };
        ToolCall {
            id: id.to_owned(),
            kind: "function".to_owned(),
            function,
            extra: Extra::new(),
        }
    };
    let tool_calls = Some(calls.iter().map(call).collect());
    Message {
        content: None,
        tool_calls,
        ..Message::text(Role::Assistant, "")
    }
}

fn result(id: &str, at: usize) -> Message {
    Message {
        tool_call_id: Some(id.to_owned()),
        ..Message::text(Role::Tool, RESULTS[at])
    }
}
