//! Parses and checks chat requests, and the fields that completions share with them.

use std::sync::Arc;

use loggia_backend::{Abilities, Ability, Profile, Work, WorkKind};
use loggia_wire::openai::{ChatCompletionRequest, FunctionDefinition, ResponseFormat, ToolChoice};
use loggia_wire::{Extra, Once};
use serde_json::Value;

use crate::admit::ask::{Ask, Parse};
use crate::admit::checks::{
    between, check_model, check_name, drop_empty, is_object, missing, too_long, within,
};
use crate::admit::messages;
use crate::admit::original;
use crate::admit::parse::{parsed_shared, profile_of, tracked, typed};
use crate::admit::{ceilings, combinations, engine_options, fields, images, unpack_files};
use crate::answer::id;
use crate::answer::writer::Shape;
use crate::custom_tools::{self, CustomTools};
use crate::generated::Generate;
use crate::stored::keep::ToStore;
use crate::wording::Dialect;
use crate::{ApiError, Ceilings, Policy, Strictness};

/// The maximum number of stop strings, as in OpenAI's API.
pub const MAX_STOP_STRINGS: usize = 4;

impl Parse for ChatCompletionRequest {
    fn parse(body: &[u8], policy: &Policy) -> Result<(Arc<Self>, Profile), ApiError> {
        parse_chat(body, policy)
    }
}

impl Ask for ChatCompletionRequest {
    const WORK: WorkKind = WorkKind::Chat;
    const DIALECT: Dialect = Dialect::Chat;
    const NEEDS: Ability = Ability::Chat;

    fn id(profile: Profile) -> Arc<str> {
        id::new(id::CHAT, profile)
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn extra(&mut self) -> &mut Extra {
        &mut self.extra
    }

    fn settle_combinations(&mut self, strictness: Strictness) -> Result<Vec<String>, ApiError> {
        combinations::settle(self, strictness)
    }

    fn chat(&mut self) -> Option<&mut ChatCompletionRequest> {
        Some(self)
    }

    fn settle(&mut self, can: &Abilities, strictness: Strictness) -> Result<Vec<String>, ApiError> {
        unpack_files::unpack(self, can)?;
        fields::settle(self, can, strictness)
    }

    fn limit(&mut self, can: &Abilities, ceilings: &Ceilings) {
        if self.token_limit().is_none() && !engine_options::limit_the_answer(&self.extra, can) {
            self.max_completion_tokens = ceilings.answer_tokens.map(i64::from);
        }
    }
}

impl Generate for ChatCompletionRequest {
    fn streams(&self) -> bool {
        self.streams()
    }

    fn shape(&self) -> Shape {
        Shape::Chat(CustomTools::of(self))
    }

    fn choices(&self) -> usize {
        self.choices()
    }

    fn include_usage(&self) -> bool {
        combinations::wants_usage(self.stream_options.as_ref())
    }

    fn work(request: Arc<Self>) -> Work {
        Work::Chat(request)
    }

    fn take_stored(&mut self, id: &str) -> Result<Option<ToStore>, ApiError> {
        ToStore::of_chat(self, id)
    }
}

/// Parses and checks the body of `POST /v1/chat/completions`. Returns the request and the profile
/// of its model.
///
/// # Errors
/// Returns a 400 with the path of the invalid field in `param`.
pub fn parse_chat(
    body: &[u8],
    policy: &Policy,
) -> Result<(Arc<ChatCompletionRequest>, Profile), ApiError> {
    let profile = profile_of(body, policy);
    // A request takes a kilobyte, so it is created in its final place.
    let mut request: Arc<ChatCompletionRequest> = match profile {
        Profile::Openai => parsed_shared(body)?,
        Profile::Original => {
            let Once(mut fields): Once<Value> = match serde_json::from_slice(body) {
                Ok(fields) => fields,
                Err(_) => tracked(body)?,
            };
            if let Some(fields) = fields.as_object_mut() {
                original::as_the_original_read(fields);
            }
            Arc::new(typed(fields)?)
        }
    };
    let chat = Arc::make_mut(&mut request);
    chat.keep_long_numbers(body);
    // The profile `original` ignores tools of other types, as the middleware of 2024 did.
    if profile == Profile::Openai {
        custom_tools::as_functions(chat)?;
    }
    check(&request, MAX_STOP_STRINGS)?;
    // The profile `original` accepts anything in a message, as the middleware of 2024 did.
    if profile == Profile::Openai {
        messages::check(&request.messages)?;
        images::check_all(&request.messages)?;
    }
    ceilings::check(&request, &policy.ceilings)?;
    if let Some(stop) = &mut Arc::make_mut(&mut request).stop {
        drop_empty(stop);
    }
    Ok((request, profile))
}

/// Checks a chat that was made of a request of another dialect.
pub(crate) fn check_whole(
    request: &mut ChatCompletionRequest,
    ceilings: &Ceilings,
) -> Result<(), ApiError> {
    check_whole_with(request, ceilings, MAX_STOP_STRINGS)
}

/// Like `check_whole`, for a dialect with another maximum number of stop strings.
pub(crate) fn check_whole_with(
    request: &mut ChatCompletionRequest,
    ceilings: &Ceilings,
    stops: usize,
) -> Result<(), ApiError> {
    check(request, stops)?;
    messages::check(&request.messages)?;
    ceilings::check(request, ceilings)?;
    if let Some(stop) = &mut request.stop {
        drop_empty(stop);
    }
    Ok(())
}

fn check(request: &ChatCompletionRequest, stops: usize) -> Result<(), ApiError> {
    if request.messages.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "empty_array",
            "[] is too short - 'messages'",
        ));
    }
    check_model(&request.model)?;
    check_numbers(request)?;
    check_stops(request, stops)?;
    // `combinations.rs` handles values below 1, which `--lenient` accepts.
    let most = i64::from(u32::MAX);
    between("max_tokens", request.max_tokens, i64::MIN, most)?;
    between(
        "max_completion_tokens",
        request.max_completion_tokens,
        i64::MIN,
        most,
    )?;
    between("top_logprobs", request.top_logprobs, 0, 20)?;
    check_functions(request)?;
    check_format(request)?;
    check_together(request)
}

/// Checks the fields that completions share with chats.
pub(crate) fn check_sampling(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    check_numbers(request)?;
    check_stops(request, MAX_STOP_STRINGS)
}

fn check_numbers(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    within("temperature", request.temperature, 0.0, 2.0)?;
    within("top_p", request.top_p, 0.0, 1.0)?;
    within("presence_penalty", request.presence_penalty, -2.0, 2.0)?;
    within("frequency_penalty", request.frequency_penalty, -2.0, 2.0)?;
    between("n", request.n, 1, 128)?;
    for (token, &bias) in request.logit_bias.iter().flatten() {
        within(&format!("logit_bias.{token}"), Some(bias), -100.0, 100.0)?;
    }
    Ok(())
}

fn check_stops(request: &ChatCompletionRequest, most: usize) -> Result<(), ApiError> {
    let stops = request.stop.as_ref().map_or(0, |stop| stop.0.len());
    if stops > most {
        return Err(too_long("stop", most, stops));
    }
    Ok(())
}

fn check_functions(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    for (index, tool) in request.tools.iter().flatten().enumerate() {
        let place = format!("tools[{index}].function");
        match &tool.function {
            // The fields of other types of tools are unknown here.
            _ if tool.kind != "function" => {}
            Some(function) => check_function(&place, function)?,
            None => return Err(missing(place)),
        }
    }
    for (index, function) in request.functions.iter().flatten().enumerate() {
        check_function(&format!("functions[{index}]"), function)?;
    }
    Ok(())
}

fn check_function(place: &str, function: &FunctionDefinition) -> Result<(), ApiError> {
    check_name(&format!("{place}.name"), &function.name)?;
    is_object(&format!("{place}.parameters"), function.parameters.as_ref())
}

fn check_format(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    let Some(ResponseFormat::JsonSchema(format)) = &request.response_format else {
        return Ok(());
    };
    check_name("response_format.json_schema.name", &format.name)?;
    is_object("response_format.json_schema.schema", format.schema.as_ref())
}

/// Checks fields that require each other. `combinations.rs` handles other combinations.
fn check_together(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    if request.top_logprobs.is_some() && request.logprobs != Some(true) {
        let message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.";
        return Err(ApiError::invalid("top_logprobs", "invalid_value", message));
    }
    check_choice(request)?;
    check_function_call(request)
}

/// Checks that `tool_choice` refers to an existing tool.
fn check_choice(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    // A choice without any tools is handled later.
    let has_none = request.tools.as_ref().is_none_or(Vec::is_empty);
    let named = match &request.tool_choice {
        _ if has_none => return Ok(()),
        Some(ToolChoice::Function(one)) => std::slice::from_ref(one),
        Some(ToolChoice::Allowed { functions, .. }) => functions.as_slice(),
        _ => return Ok(()),
    };
    let offered = request
        .tools
        .iter()
        .flatten()
        .filter_map(|tool| tool.function.as_ref());
    let offered: Vec<&str> = offered.map(|function| function.name.as_str()).collect();
    match named
        .iter()
        .find(|one| !offered.contains(&one.name.as_str()))
    {
        Some(missing) => {
            let message = format!(
                "Invalid value for 'tool_choice': no function named '{}' was specified in 'tools'.",
                missing.name
            );
            Err(ApiError::invalid("tool_choice", "invalid_value", message))
        }
        None => Ok(()),
    }
}

/// Checks `function_call`: `"none"`, `"auto"`, or one of `functions`.
fn check_function_call(request: &ChatCompletionRequest) -> Result<(), ApiError> {
    let has_none = request.functions.as_ref().is_none_or(Vec::is_empty);
    let name = match &request.function_call {
        None => return Ok(()),
        Some(Value::Object(_)) if has_none => return Ok(()),
        Some(Value::String(word)) if word == "none" || word == "auto" => return Ok(()),
        Some(call) => call.get("name").and_then(Value::as_str),
    };
    if request
        .functions
        .iter()
        .flatten()
        .any(|function| Some(function.name.as_str()) == name)
    {
        let fields = request.function_call.as_ref().and_then(Value::as_object);
        let odd = fields.and_then(|fields| fields.keys().find(|field| *field != "name"));
        return odd.map_or(Ok(()), |field| {
            Err(ApiError::unknown(&format!("function_call.{field}")))
        });
    }
    let message = "Invalid value for 'function_call': expected 'none', 'auto', or an object with the name of one of 'functions'.";
    Err(ApiError::invalid("function_call", "invalid_value", message))
}
