//! Translates OpenAI's requests to Ollama's.

use loggia_wire::Extra;
use loggia_wire::ollama::{self, Think};
use loggia_wire::openai::{
    ChatCompletionRequest, CompletionRequest, FunctionDefinition, Message, OnePrompt,
    ResponseFormat, Role, Tool,
};
use serde_json::{Value, json};

use super::message::chat_messages;
use super::sampling::options;
use super::tools::shown;
use crate::conversation::tools::completed;
use crate::schema::fitted;
use crate::{BackendError, Profile, SchemaEngine};

/// Translates a checked request. Fields without a counterpart in Ollama must have been refused or
/// emulated before.
///
/// `truncate: false` and `shift: false` are always sent. Without them Ollama silently truncates a
/// prompt that is too long, and silently drops the beginning of the context when an answer is too
/// long (`fixtures/ollama/chat/overflow-default`).
pub fn chat_request(
    request: &ChatCompletionRequest,
    profile: Profile,
) -> Result<ollama::ChatRequest, BackendError> {
    let mut messages = chat_messages(&request.messages)?;
    if asks_the_system(request, profile)
        && let Some(last) = messages.last_mut()
    {
        last.role = "user";
    }
    Ok(ollama::ChatRequest {
        model: request.model.clone(),
        messages,
        stream: request.streams(),
        format: request.response_format.as_ref().and_then(format),
        options: options(request, profile),
        keep_alive: request
            .extra
            .get("keep_alive")
            .filter(|value| !value.is_null())
            .cloned(),
        tools: tools(request),
        think: think(request),
        truncate: Some(false),
        shift: Some(false),
        logprobs: request.logprobs.filter(|&wanted| wanted),
        top_logprobs: request.top_logprobs,
    })
}

/// Returns whether there are only system messages. The last one is then sent as a user message:
/// Ollama's cloud would only load the model, and many templates leave the model nothing to answer.
pub(super) fn asks_the_system(request: &ChatCompletionRequest, profile: Profile) -> bool {
    let is_system = |message: &Message| matches!(message.role, Role::System | Role::Developer);
    profile == Profile::Openai && request.messages.iter().all(is_system)
}

/// Translates a checked request for a completion of one prompt. The text is continued without the
/// model's template, except with a `suffix`, which only the template can express.
///
/// # Errors
/// Fails if the prompt is not text, or is empty. Ollama would only load the model for an empty
/// prompt.
pub fn generate_request(
    request: &CompletionRequest,
    profile: Profile,
) -> Result<ollama::GenerateRequest, BackendError> {
    let prompt = match request
        .prompt
        .as_ref()
        .and_then(|prompt| prompt.each().next())
    {
        Some(OnePrompt::Tokens(_)) => {
            return Err(refused("Ollama does not accept token ids; send text"));
        }
        Some(OnePrompt::Text(text)) if !text.is_empty() || request.suffix().is_some() => {
            text.to_owned()
        }
        _ => {
            return Err(refused(
                "Ollama needs a text to continue; it cannot continue an empty prompt",
            ));
        }
    };
    if request.prompts() > 1 {
        return Err(refused("Ollama accepts one prompt per request"));
    }
    let suffix = request.suffix().map(str::to_owned);
    let shared = request.as_chat();
    Ok(ollama::GenerateRequest {
        model: request.model.clone(),
        prompt,
        raw: suffix.is_none().then_some(true),
        suffix,
        stream: request.streams(),
        options: options(&shared, profile),
        keep_alive: request
            .extra
            .get("keep_alive")
            .filter(|value| !value.is_null())
            .cloned(),
        truncate: Some(false),
        shift: Some(false),
        logprobs: shared.logprobs,
        top_logprobs: shared.top_logprobs,
    })
}

fn refused(what: &str) -> BackendError {
    BackendError::InvalidRequest {
        message: format!("Invalid value for 'prompt': {what}."),
        param: Some("prompt".to_owned()),
        code: Some("invalid_value".to_owned()),
    }
}

fn format(format: &ResponseFormat) -> Option<Value> {
    match format {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => Some(json!("json")),
        ResponseFormat::JsonSchema(format) => Some(format.schema.as_ref().map_or_else(
            || json!({"type": "object"}),
            |schema| fitted(schema, SchemaEngine::LlamaCpp),
        )),
    }
}

/// Returns the functions that the model may call. `loggia-api` has refused tools of other types.
fn tools(request: &ChatCompletionRequest) -> Vec<Tool> {
    let functions = request.callable_functions().into_iter().map(|function| {
        let function = completed(function);
        FunctionDefinition {
            parameters: function.parameters.as_ref().map(|all| shown(all).0),
            ..function
        }
    });
    functions
        .map(|function| Tool {
            kind: "function".to_owned(),
            function: Some(function),
            extra: Extra::new(),
        })
        .collect()
}

/// Returns the value of `think`: Ollama's own field takes precedence over `reasoning_effort`.
fn think(request: &ChatCompletionRequest) -> Option<Think> {
    match request.extra.get("think") {
        Some(Value::Bool(switch)) => return Some(Think::Switch(*switch)),
        Some(Value::String(level)) => return Some(Think::Level(level.clone())),
        _ => {}
    }
    Some(match request.reasoning_effort.as_deref()? {
        "none" => Think::Switch(false),
        "minimal" => Think::Level("low".to_owned()),
        "xhigh" => Think::Level("max".to_owned()),
        level => Think::Level(level.to_owned()),
    })
}
