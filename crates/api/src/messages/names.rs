//! The name of a chat's field in the request that the chat was made of: one table, for errors and
//! for `x-loggia-ignored`.

use crate::field_names::{in_list, within};

/// The origin of the messages, tools and settings of the chat: `messages[3]`, `tools[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) messages: Vec<String>,
    pub(crate) tools: Vec<String>,
    /// The field that `reasoning_effort` was made of.
    pub(crate) effort: Option<&'static str>,
    /// The field that `response_format` was made of.
    pub(crate) format: Option<&'static str>,
}

/// A field of a chat, or the beginning of its path, and the field of Anthropic's API. The first
/// match counts.
const FIELDS: &[(&str, &str)] = &[
    ("max_completion_tokens", "max_tokens"),
    ("stop", "stop_sequences"),
    (
        "parallel_tool_calls",
        "tool_choice.disable_parallel_tool_use",
    ),
    ("tool_choice.function", "tool_choice"),
];

/// Parts of a path within a message or a tool, and their names here.
const WITHIN: &[(&str, &str)] = &[
    (".function.parameters", ".input_schema"),
    (".function.arguments", ".input"),
    (".function", ""),
    ("content[].image_url", "content[].image"),
    ("content[].file", "content[].document"),
    (".image_url.url", ".source"),
    (".image_url", ".source"),
    (".file.file_data", ".source.data"),
    (".file.file_url", ".source.url"),
    (".file", ".source"),
    (".tool_calls[", ".content["),
    (".reasoning_content", ".content[].thinking"),
];

/// Returns the client's name of a chat's field.
pub(crate) fn of_messages(field: &str, places: &Places) -> String {
    if let Some(rest) = within(field, "messages") {
        return in_list("messages", rest, &places.messages, respelled);
    }
    if let Some(rest) = within(field, "tools") {
        return in_list("tools", rest, &places.tools, respelled);
    }
    if let Some(rest) = within(field, "response_format.json_schema") {
        let format = places.format.unwrap_or("output_config.format");
        return format!("{format}{rest}");
    }
    match field {
        "response_format" => return places.format.unwrap_or("output_config.format").to_owned(),
        "reasoning_effort" => return places.effort.unwrap_or("thinking").to_owned(),
        _ => {}
    }
    let found = FIELDS
        .iter()
        .find_map(|(chat, name)| within(field, chat).map(|rest| format!("{name}{rest}")));
    found.unwrap_or_else(|| field.to_owned())
}

fn respelled(rest: &str) -> String {
    let mut rest = rest.to_owned();
    for (chat, name) in WITHIN {
        if let Some(at) = rest.find(chat) {
            rest.replace_range(at..at + chat.len(), name);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_chat_has_the_name_of_the_client() {
        let places = Places {
            messages: vec!["system".to_owned(), "messages[4]".to_owned()],
            tools: vec!["tools[2]".to_owned()],
            effort: Some("output_config.effort"),
            format: Some("output_format"),
        };
        for (chat, name) in [
            ("messages", "messages"),
            ("messages[0]", "system"),
            ("messages[1].content", "messages[4].content"),
            (
                "messages[1].content[0].image_url.url",
                "messages[4].content[0].source",
            ),
            (
                "messages[1].tool_calls[0].function.arguments",
                "messages[4].content[0].input",
            ),
            ("messages[7].content", "messages"),
            (
                "messages[].content[].image_url",
                "messages[].content[].image",
            ),
            ("messages[].content[].file", "messages[].content[].document"),
            ("tools", "tools"),
            ("tools[0].function.parameters", "tools[2].input_schema"),
            ("tools[].function.strict", "tools[].strict"),
            ("tools[].function.name", "tools[].name"),
            ("response_format", "output_format"),
            ("response_format.json_schema.schema", "output_format.schema"),
            ("max_completion_tokens", "max_tokens"),
            ("max_tokens", "max_tokens"),
            ("reasoning_effort", "output_config.effort"),
            ("stop", "stop_sequences"),
            (
                "parallel_tool_calls",
                "tool_choice.disable_parallel_tool_use",
            ),
            ("tool_choice.type", "tool_choice.type"),
            ("temperature", "temperature"),
            ("toolshed", "toolshed"),
        ] {
            assert_eq!(of_messages(chat, &places), name, "{chat}");
        }
    }
}
