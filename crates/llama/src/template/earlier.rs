//! What a template shows of earlier calls and their results, tried out; the rest is written into the contents (`loggia_backend::emulate`).

use loggia_backend::conversation::arguments;
use loggia_backend::emulate::{self, Shows};
use loggia_wire::openai::{FunctionCall, Message, Role, ToolCall};

use crate::syntax::CallForm;

/// Words that no template has.
const ASKED: &str = "<asked>";
const CALLED: &str = "trial_of_a_call";
const ARGUMENT: &str = "trial_of_an_argument";
const RESULT: &str = "<trial of a result>";
/// Letters, as Mistral's templates want them.
const ID: &str = "trialcall";
/// A role that no template knows.
const NOBODY: &str = "nobody_at_all";

/// Tries a template out. `render` is given messages and the role that results have, and says none where it fails.
pub(super) fn shows(form: CallForm, render: impl Fn(&[Message], &str) -> Option<String>) -> Shows {
    let conversation = [Message::text(Role::User, ASKED), called(), answered()];
    if render(&conversation[..1], "tool").is_none() {
        // It works for nobody, and may take its time over it.
        return Shows { calls: true, results: true };
    }
    let shows_call = |messages: &[Message]| {
        render(messages, "tool").is_some_and(|prompt| prompt.contains(CALLED) || prompt.contains(ARGUMENT))
    };
    // Some templates fail at results, and some at calls without any.
    let calls = shows_call(&conversation) || shows_call(&conversation[..2]);
    let without = Shows { calls, results: true };
    let conversation = spelled_out(&conversation, without, form);
    let prompt = render(&conversation, "tool").filter(|prompt| prompt.contains(RESULT));
    let results = prompt.is_some_and(|prompt| {
        // A template that only writes out the role's name knows nothing of results, unless it does of calls.
        calls || render(&conversation, NOBODY).is_none_or(|other| other.replace(NOBODY, "tool") != prompt)
    });
    Shows { calls, results }
}

/// The messages, with what is not shown written into their contents in this form.
pub(super) fn spelled_out(messages: &[Message], shows: Shows, form: CallForm) -> Vec<Message> {
    emulate::spelled_out(messages, shows, |calls| {
        let calls: Vec<_> =
            calls.iter().map(|call| (&*call.function.name, arguments::as_object(&call.function.arguments))).collect();
        form.write(calls.iter().map(|(name, arguments)| (*name, &**arguments)))
    })
}

fn called() -> Message {
    let function = FunctionCall {
        name: CALLED.to_owned(),
        arguments: format!("{{\"of\": \"{ARGUMENT}\"}}"),
        extra: loggia_wire::Extra::new(),
    };
    let call = ToolCall { id: ID.to_owned(), kind: "function".to_owned(), function, extra: loggia_wire::Extra::new() };
    Message { content: None, tool_calls: Some(vec![call]), ..Message::text(Role::Assistant, "") }
}

fn answered() -> Message {
    Message { tool_call_id: Some(ID.to_owned()), ..Message::text(Role::Tool, RESULT) }
}
