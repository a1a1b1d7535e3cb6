//! Translates the path of a field of the chat request into the path of the field of the Responses
//! request that it was made from. Errors (`param`) and the header `x-loggia-ignored` use it.

use crate::field_names::{in_list, within};

/// The paths in the Responses request that the chat's messages and tools were made from, such as
/// `input[3]` and `tools[0].tools[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) messages: Vec<String>,
    pub(crate) tools: Vec<String>,
}

/// Fields of a chat request, or beginnings of their paths, with the fields of a Responses request.
/// The first match is used.
const FIELDS: &[(&str, &str)] = &[
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
    ("verbosity", "text.verbosity"),
    ("logprobs", "top_logprobs"),
    ("tool_choice.allowed_tools", "tool_choice"),
    ("tool_choice.function", "tool_choice"),
];

/// Parts of a path inside a message or a tool: as the chat request has them, and as the Responses
/// request has them.
const WITHIN: &[(&str, &str)] = &[
    (".function.arguments", ".arguments"),
    (".function", ""),
    (".custom", ""),
    (".image_url.url", ".image_url"),
    (".file.file_data", ".file_data"),
    (".file.file_url", ".file_url"),
    (".file.file_id", ".file_id"),
];

/// The content parts of a message whose names differ.
const PARTS: &[(&str, &str)] = &[
    ("content[].image_url", "content[].input_image"),
    ("content[].input_audio", "content[].input_audio"),
    ("content[].file", "content[].input_file"),
];

/// Returns the path in the Responses request for a path in the chat request.
pub(crate) fn of_response(field: &str, places: &Places) -> String {
    if let Some(rest) = within(field, "messages") {
        return in_list("input", rest, &places.messages, respelled);
    }
    if let Some(rest) = within(field, "tools") {
        return in_list("tools", rest, &places.tools, respelled);
    }
    let found = FIELDS
        .iter()
        .find_map(|(chat, response)| within(field, chat).map(|rest| format!("{response}{rest}")));
    found.unwrap_or_else(|| field.to_owned())
}

fn respelled(rest: &str) -> String {
    let mut rest = rest.to_owned();
    // In a chat, a call is an entry of a message. In a Responses request, it is an item.
    if let Some(after) = rest.strip_prefix(".tool_calls[")
        && let Some((_, after)) = after.split_once(']')
    {
        rest = after.to_owned();
    }
    for (chat, response) in PARTS {
        if let Some(after) = rest
            .strip_prefix('.')
            .and_then(|rest| rest.strip_prefix(chat))
        {
            return format!(".{response}{after}");
        }
    }
    for (chat, response) in WITHIN {
        if let Some(at) = rest.find(chat) {
            rest.replace_range(at..at + chat.len(), response);
            break;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chats_field_has_the_clients_name() {
        let places = Places {
            messages: vec!["instructions".to_owned(), "input[4]".to_owned()],
            tools: vec!["tools[2].tools[0]".to_owned()],
        };
        for (chat, response) in [
            ("messages", "input"),
            ("messages[0]", "instructions"),
            (
                "messages[1].content[0].image_url.url",
                "input[4].content[0].image_url",
            ),
            (
                "messages[1].tool_calls[0].function.arguments",
                "input[4].arguments",
            ),
            ("messages[7].content", "input"),
            (
                "messages[].content[].image_url",
                "input[].content[].input_image",
            ),
            (
                "messages[].content[].image_url.detail",
                "input[].content[].input_image.detail",
            ),
            ("messages[].content[].file", "input[].content[].input_file"),
            ("tools", "tools"),
            (
                "tools[0].function.parameters",
                "tools[2].tools[0].parameters",
            ),
            ("tools[].function.strict", "tools[].strict"),
            ("response_format.json_schema.schema", "text.format.schema"),
            ("response_format", "text.format"),
            ("max_completion_tokens", "max_output_tokens"),
            ("reasoning_effort", "reasoning.effort"),
            ("verbosity", "text.verbosity"),
            ("logprobs", "top_logprobs"),
            ("top_logprobs", "top_logprobs"),
            ("tool_choice.type", "tool_choice.type"),
            ("temperature", "temperature"),
            ("toolshed", "toolshed"),
        ] {
            assert_eq!(of_response(chat, &places), response, "{chat}");
        }
    }
}
