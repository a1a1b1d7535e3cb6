//! Checks the limits of one request: each has a setting ([`Ceilings`]) and a 400 with the field and
//! the limit.

use std::collections::BTreeMap;

use loggia_wire::openai::{
    ChatCompletionRequest, CompletionRequest, Content, EmbeddingRequest, FunctionDefinition,
    PartKind, ResponseFormat,
};
use serde_json::Value;

use crate::admit::checks::too_long;
use crate::{ApiError, Ceilings};

pub(crate) fn check(request: &ChatCompletionRequest, most: &Ceilings) -> Result<(), ApiError> {
    check_sampling(request, most)?;
    at_most("messages", most.messages, request.messages.len())?;
    at_most(
        "tools",
        most.tools,
        request.tools.as_ref().map_or(0, Vec::len),
    )?;
    at_most(
        "functions",
        most.tools,
        request.functions.as_ref().map_or(0, Vec::len),
    )?;
    check_media(request, most)?;
    check_schemas(request, most)
}

/// Checks a completion. `shared` contains the fields that a chat has too.
pub(crate) fn check_completion(
    request: &CompletionRequest,
    shared: &ChatCompletionRequest,
    most: &Ceilings,
) -> Result<(), ApiError> {
    check_sampling(shared, most)?;
    if request.candidates() > most.choices {
        return Err(too_large("best_of", most.choices, request.candidates(), ""));
    }
    at_most("prompt", most.prompts, request.prompts())
}

/// Checks the fields that completions share with chats.
fn check_sampling(request: &ChatCompletionRequest, most: &Ceilings) -> Result<(), ApiError> {
    if request.choices() > most.choices {
        return Err(too_large("n", most.choices, request.choices(), ""));
    }
    at_most(
        "logit_bias",
        most.logit_bias,
        request.logit_bias.as_ref().map_or(0, BTreeMap::len),
    )?;
    for stop in request.stop.iter().flat_map(|stop| &stop.0) {
        if stop.len() > most.stop_bytes {
            return Err(too_large(
                "stop",
                most.stop_bytes,
                stop.len(),
                " bytes in one string",
            ));
        }
    }
    Ok(())
}

pub(crate) fn check_embedding(request: &EmbeddingRequest, most: &Ceilings) -> Result<(), ApiError> {
    at_most("input", most.inputs, request.input.count())
}

fn at_most(param: &str, most: usize, length: usize) -> Result<(), ApiError> {
    if length > most {
        Err(too_long(param, most, length))
    } else {
        Ok(())
    }
}

fn check_media(request: &ChatCompletionRequest, most: &Ceilings) -> Result<(), ApiError> {
    let contents = request
        .messages
        .iter()
        .filter_map(|message| message.content.as_ref());
    let sizes: Vec<usize> = contents
        .flat_map(Content::parts)
        .filter_map(|part| media_bytes(&part.kind))
        .collect();
    if sizes.len() > most.media {
        return Err(too_large(
            "messages",
            most.media,
            sizes.len(),
            " images, sounds and files",
        ));
    }
    let bytes = sizes.iter().sum();
    if bytes > most.media_bytes {
        return Err(too_large(
            "messages",
            most.media_bytes,
            bytes,
            " bytes of images, sounds and files",
        ));
    }
    Ok(())
}

fn media_bytes(part: &PartKind) -> Option<usize> {
    match part {
        PartKind::Text(_) | PartKind::Refusal(_) => None,
        PartKind::ImageUrl { url, .. } => Some(url.len()),
        PartKind::InputAudio { data, .. } => Some(data.len()),
        PartKind::File(file) => Some(file.file_data.as_ref().map_or(0, String::len)),
    }
}

fn check_schemas(request: &ChatCompletionRequest, most: &Ceilings) -> Result<(), ApiError> {
    if let Some(ResponseFormat::JsonSchema(format)) = &request.response_format
        && let Some(schema) = &format.schema
    {
        check_schema("response_format.json_schema.schema", schema, None, most)?;
    }
    let tools = request
        .tools
        .iter()
        .flatten()
        .filter_map(|tool| tool.function.as_ref());
    let parameters = |function: &FunctionDefinition, param: &str| match &function.parameters {
        Some(schema) => {
            let text = function.exact_parameters.as_deref();
            check_schema(param, schema, text, most)
        }
        None => Ok(()),
    };
    for (index, function) in tools.enumerate() {
        parameters(function, &format!("tools[{index}].function.parameters"))?;
    }
    for (index, function) in request.functions.iter().flatten().enumerate() {
        parameters(function, &format!("functions[{index}].parameters"))?;
    }
    Ok(())
}

/// `text` is sent in place of the schema, if it is not the schema itself.
fn check_schema(
    param: &str,
    schema: &Value,
    text: Option<&str>,
    most: &Ceilings,
) -> Result<(), ApiError> {
    let depth = depth(schema);
    if depth > most.schema_depth {
        return Err(too_large(
            param,
            most.schema_depth,
            depth,
            " levels of nesting",
        ));
    }
    let bytes = schema.to_string().len().max(text.map_or(0, str::len));
    if bytes > most.schema_bytes {
        return Err(too_large(param, most.schema_bytes, bytes, " bytes"));
    }
    Ok(())
}

/// Returns the nesting depth of a value. The parser has limited it, so recursion is safe.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn too_large(param: &str, most: usize, asked: usize, of_what: &str) -> ApiError {
    let message = format!(
        "Invalid '{param}': too large. This server accepts at most {most}{of_what}, but the request has {asked}."
    );
    ApiError::invalid(param, "above_server_limit", message)
}
