//! Replaces parts of messages that the model cannot read by a note to the model. Clients send their
//! complete history in each turn, so an error would end the conversation.

use std::borrow::Cow;

use loggia_wire::openai::{ChatCompletionRequest, Content, PartKind};

/// The maximum length of a file's name in the note, in characters.
const LONGEST_NAME: usize = 128;

/// The note for an earlier audio answer.
const SPOKEN: &str = "[This answer was given as sound, which this model cannot hear.]";

/// Replaces the parts for which `is_one` returns true by notes.
pub(crate) fn replace(request: &mut ChatCompletionRequest, is_one: fn(&PartKind) -> bool) {
    for message in &mut request.messages {
        let Some(Content::Parts(parts)) = &mut message.content else {
            continue;
        };
        let last = parts.len().saturating_sub(1);
        for (index, part) in parts.iter_mut().enumerate() {
            if is_one(&part.kind) {
                // The texts of parts are concatenated without a separator.
                let before = if index > 0 { "\n\n" } else { "" };
                let after = if index < last { "\n\n" } else { "" };
                let text = format!("{before}{}{after}", note(&part.kind));
                *part = PartKind::Text(text).into();
            }
        }
    }
}

/// Drops earlier audio answers. One without text becomes a note, because some engines refuse empty
/// messages.
pub(crate) fn drop_spoken(request: &mut ChatCompletionRequest) {
    for message in &mut request.messages {
        let was_spoken = message.audio.take().is_some();
        let has_calls = message
            .tool_calls
            .as_ref()
            .is_some_and(|calls| !calls.is_empty())
            || message.function_call.is_some();
        if was_spoken && message.content.is_none() && message.refusal.is_none() && !has_calls {
            message.content = Some(Content::Text(SPOKEN.to_owned()));
        }
    }
}

fn note(part: &PartKind) -> Cow<'static, str> {
    match part {
        PartKind::ImageUrl { .. } => {
            "[An image was attached here, but this model cannot see images.]".into()
        }
        PartKind::InputAudio { .. } => {
            "[A sound was attached here, but this model cannot hear sounds.]".into()
        }
        PartKind::File(file) => {
            let name: String = file
                .filename
                .iter()
                .flat_map(|name| name.chars())
                .take(LONGEST_NAME)
                .collect();
            let named = if name.is_empty() {
                String::new()
            } else {
                format!(" \"{name}\"")
            };
            format!("[The file{named} was attached here, but this model cannot read it.]").into()
        }
        PartKind::Text(_) | PartKind::Refusal(_) => "".into(),
    }
}
