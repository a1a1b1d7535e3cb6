//! Parts of messages that the model cannot take: a note in their place tells the model so, since clients send their whole history with each
//! turn, and an error would end the conversation.

use std::borrow::Cow;

use loggia_wire::Extra;
use loggia_wire::openai::{ChatCompletionRequest, Content, Part, PartKind};

/// The most characters of a file's name that the model is told.
const LONGEST_NAME: usize = 128;

/// Replaces the parts for which `is_one` holds by notes.
pub(crate) fn replace(request: &mut ChatCompletionRequest, is_one: fn(&PartKind) -> bool) {
    for message in &mut request.messages {
        let Some(Content::Parts(parts)) = &mut message.content else { continue };
        let last = parts.len().saturating_sub(1);
        for (index, part) in parts.iter_mut().enumerate() {
            if is_one(&part.kind) {
                // The texts of parts are joined without anything between them.
                let before = if index > 0 { "\n\n" } else { "" };
                let after = if index < last { "\n\n" } else { "" };
                let text = format!("{before}{}{after}", note(&part.kind));
                *part = Part { kind: PartKind::Text(text), extra: Extra::new() };
            }
        }
    }
}

fn note(part: &PartKind) -> Cow<'static, str> {
    match part {
        PartKind::ImageUrl { .. } => "[An image was attached here, but this model cannot see images.]".into(),
        PartKind::InputAudio { .. } => "[A sound was attached here, but this model cannot hear sounds.]".into(),
        PartKind::File(file) => {
            let name: String = file.filename.iter().flat_map(|name| name.chars()).take(LONGEST_NAME).collect();
            let named = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
            format!("[The file{named} was attached here, but this model cannot read it.]").into()
        }
        PartKind::Text(_) | PartKind::Refusal(_) => "".into(),
    }
}
