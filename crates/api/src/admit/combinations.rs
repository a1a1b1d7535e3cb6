//! Fields that exclude each other, and values that only `--lenient` accepts, for all models. They
//! are refused as OpenAI refuses them, or dropped with `--lenient`.

use loggia_wire::openai::{ChatCompletionRequest, StreamOptions};

use crate::admit::checks::between;
use crate::admit::tool_choice;
use crate::{ApiError, Strictness};

/// Handles the fields of a chat that exclude each other. Returns the names of the dropped fields.
///
/// # Errors
/// Returns a 400 about the first of them, unless the server is lenient.
pub(crate) fn settle(
    request: &mut ChatCompletionRequest,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let streams = request.streams();
    let mut dropped = settle_stream_options(streams, &mut request.stream_options, strictness)?;
    for (param, limit) in [
        ("max_tokens", &mut request.max_tokens),
        ("max_completion_tokens", &mut request.max_completion_tokens),
    ] {
        dropped.extend(settle_limit(param, limit, strictness)?);
    }
    if offers_some(request.tools.as_deref()) && offers_some(request.functions.as_deref()) {
        if strictness != Strictness::Lenient {
            let message = "'functions' is not allowed together with 'tools', its newer form; send all functions in 'tools'.";
            return Err(ApiError::invalid("functions", "invalid_value", message));
        }
        request.functions = None;
        dropped.push("functions".to_owned());
        dropped.extend(
            request
                .function_call
                .take()
                .map(|_| "function_call".to_owned()),
        );
    }
    dropped.extend(tool_choice::settle_without_tools(request, strictness)?);
    Ok(dropped)
}

/// Handles `stream_options` of a request without `stream`.
pub(crate) fn settle_stream_options(
    streams: bool,
    options: &mut Option<StreamOptions>,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    if streams || options.is_none() {
        return Ok(Vec::new());
    }
    if strictness != Strictness::Lenient {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(ApiError::invalid(
            "stream_options",
            "invalid_value",
            message,
        ));
    }
    *options = None;
    Ok(vec!["stream_options".to_owned()])
}

fn offers_some<T>(list: Option<&[T]>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

/// Handles a token limit below 1, which allows no answer. Returns its name if it was dropped.
pub(crate) fn settle_limit(
    param: &str,
    limit: &mut Option<i64>,
    strictness: Strictness,
) -> Result<Option<String>, ApiError> {
    match between(param, *limit, 1, i64::MAX) {
        Err(_) if strictness == Strictness::Lenient => {
            *limit = None;
            Ok(Some(param.to_owned()))
        }
        checked => checked.map(|()| None),
    }
}

/// Returns whether the stream ends with a chunk with the usage.
pub(crate) fn wants_usage(options: Option<&StreamOptions>) -> bool {
    options.and_then(|options| options.include_usage) == Some(true)
}
