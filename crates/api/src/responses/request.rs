//! Turns the fields of a request for a response into those of a chat.

use std::sync::Arc;

use loggia_seal::Keys;
use loggia_wire::Extra;
use loggia_wire::openai::responses::{
    ConversationRef, Input, Item, Reasoning, Response, ResponseRequest, ResponseStatus, TextConfig,
    TextFormat,
};
use loggia_wire::openai::{
    ChatCompletionRequest, JsonSchemaFormat, Message, ResponseFormat, Role, Tool, ToolChoice,
};
use serde_json::{Value, json};

use crate::admit::checks::{between, check_model, missing, one_of, too_long};
use crate::responses::auto_compaction::AutoCompaction;
use crate::responses::file_search;
use crate::responses::items::{self, Conversation, Origin};
use crate::responses::mcp::{ApprovedCall, Servers};
use crate::responses::names::Places;
use crate::responses::recall::Recalled;
use crate::responses::server_tools::ServerTools;
use crate::responses::shape::ResponseShape;
use crate::responses::summary::{self, Compaction};
use crate::responses::tools::{self, Offered, Tools};
use crate::responses::turn::HeldConversation;
use crate::{ApiError, Ceilings};

/// The value of `include` that asks for log-probabilities of the text.
const LOGPROBS: &str = "message.output_text.logprobs";

/// The value of `include` that asks for sealed reasoning.
const ENCRYPTED: &str = "reasoning.encrypted_content";

/// Fields that chats have and responses lack. They are removed and named as ignored.
const OF_CHATS: &[&str] = &[
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "logit_bias",
    "logprobs",
    "response_format",
    "functions",
    "function_call",
    "reasoning_effort",
    "prediction",
    "modalities",
    "audio",
    "web_search_options",
];

/// A request for a response as a chat, and the parts of the response that are known already.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) chat: ChatCompletionRequest,
    pub(crate) places: Places,
    /// Fields that have no effect, by their names in the client's request.
    pub(crate) ignored: Vec<String>,
    pub(crate) shape: ResponseShape,
    /// The tools that the server runs, if there are any.
    pub(crate) server_tools: Option<ServerTools>,
    /// How the conversation is compacted before the answer, if the client asks for it.
    pub(crate) compaction: Option<AutoCompaction>,
}

/// Turns a request into a chat.
///
/// # Errors
/// A 400 about the invalid field, by its name in the client's request.
pub(crate) fn translate(
    mut request: ResponseRequest,
    recalled: Recalled,
    servers: Servers,
    keys: Option<&Arc<Keys>>,
    most: &Ceilings,
) -> Result<Translated, ApiError> {
    check(&request)?;
    let prewarms = takes_prewarm(&mut request);
    let compaction = AutoCompaction::of(&request, keys)?;
    let mut ignored = unread(&mut request, &recalled, keys.is_some(), &servers);

    let origin = Origin {
        recalled: recalled.history.len(),
        named_by: recalled.named_by,
    };
    let items = input_items(request.input.take(), recalled.history)?;
    let ReadInput {
        mut conversation,
        tools,
        tool_choice,
        approved,
        compacts,
    } = read_input(&request, items, origin, &servers, keys, most)?;
    ignored.extend(tools.ignored.into_names());
    ignored.extend(std::mem::take(&mut conversation.ignored).into_names());

    set_effort(&mut request, conversation.effort.take());
    let (format, response_format) = formats(&mut conversation, &request)?;
    let mut template = template(&request, format.as_ref());
    template.store = recalled.is_stored;
    template.conversation = conversation_of(recalled.conversation.as_deref());
    template.input_transformations = std::mem::take(&mut conversation.removed);
    let server_tools = server_tools(&request, servers, &tools.offered, approved);
    let seals = request.includes(ENCRYPTED) || compacts;
    let shape = ResponseShape {
        template,
        keys: keys.filter(|_| seals).map(Arc::clone),
        compaction: compacts.then_some(Compaction::Response),
        offered: tools.offered,
        summarizes: summary(request.reasoning.as_ref()).is_some(),
        obfuscates: obfuscates(&request),
        prewarms,
    };
    let places = conversation.places(tools.places);
    let mut chat = chat(request, conversation);
    chat.response_format = response_format;
    set_tools(&mut chat, tools.functions, tool_choice, compacts);
    set_prewarm(&mut chat, prewarms);
    Ok(Translated {
        chat,
        places,
        ignored,
        shape,
        server_tools,
        // A summary needs no other one, and a warm-up generates nothing.
        compaction: compaction.filter(|_| !compacts && !prewarms),
    })
}

/// Returns the tools that the server runs, if it runs any.
fn server_tools(
    request: &ResponseRequest,
    servers: Servers,
    offered: &Offered,
    approved: Vec<ApprovedCall>,
) -> Option<ServerTools> {
    servers.run_tools().then(|| ServerTools {
        servers,
        offered: offered.clone(),
        approved,
        most_calls: request.max_tool_calls.and_then(|most| most.try_into().ok()),
    })
}

/// Returns the items that the model reads: those from the store, and those of the request.
fn input_items(input: Option<Input>, history: Vec<Item>) -> Result<Vec<Item>, ApiError> {
    let input = match input {
        Some(Input::Text(text)) => vec![user(&text)],
        Some(Input::Items(items)) => items,
        None if !history.is_empty() => Vec::new(),
        None => return Err(missing("input".to_owned())),
    };
    let mut items = history;
    items.extend(input);
    Ok(items)
}

/// The items of a request as messages, and the tools that the model is offered.
struct ReadInput {
    conversation: Conversation,
    tools: Tools,
    tool_choice: Option<ToolChoice>,
    /// The calls that the client has allowed.
    approved: Vec<ApprovedCall>,
    /// Whether the request is for a summary, which is made without tools.
    compacts: bool,
}

fn read_input(
    request: &ResponseRequest,
    mut items: Vec<Item>,
    origin: Origin,
    servers: &Servers,
    keys: Option<&Arc<Keys>>,
    most: &Ceilings,
) -> Result<ReadInput, ApiError> {
    let compacts = summary::is_asked(&items);
    if compacts {
        if keys.is_none() {
            return Err(no_keys());
        }
        items.pop();
    }
    // Checked first, since later checks compare each item with all others.
    if items.len() > most.messages {
        return Err(too_long("input", most.messages, items.len()));
    }
    let mut tools = Tools::at_most(most.tools, servers);
    tools.leaves_out_mcp = compacts;
    let tool_choice = request.tool_choice.as_ref().filter(|_| !compacts);
    let tool_choice = offer(&mut tools, request, tool_choice, &items, origin)?;
    let approved = approved(&items, origin, servers, compacts)?;
    let mut conversation =
        items::conversation(items, origin, &tools.offered, keys.map(|keys| &**keys))?;
    if let Some(instructions) = &request.instructions {
        let message = Message::text(Role::System, instructions.as_str());
        conversation.begin_with("instructions", message);
    }
    if conversation.messages.is_empty() {
        return Err(nothing_to_read());
    }
    if compacts {
        conversation.end_with("input", summary::question());
    }
    Ok(ReadInput {
        conversation,
        tools,
        tool_choice,
        approved,
        compacts,
    })
}

/// Returns the format of the answer: the last one that the conversation sets, else that of the
/// request. The response repeats it as it was sent, and the chat has it as chats do.
fn formats(
    conversation: &mut Conversation,
    request: &ResponseRequest,
) -> Result<(Option<TextFormat>, Option<ResponseFormat>), ApiError> {
    let (place, format) = match conversation.format.take() {
        Some(format) => ("input", Some(format)),
        None => (
            "text.format",
            request.text.as_ref().and_then(|text| text.format.clone()),
        ),
    };
    let of_chat = format.as_ref().map(|format| chat_format(place, format));
    let of_chat = of_chat.transpose()?;
    Ok((format, of_chat))
}

/// Sets the tools of a chat, and the choice among them.
fn set_tools(
    chat: &mut ChatCompletionRequest,
    functions: Vec<Tool>,
    choice: Option<ToolChoice>,
    compacts: bool,
) {
    if functions.is_empty() {
        // OpenAI's chats refuse this field without tools.
        chat.parallel_tool_calls = None;
    } else {
        chat.tools = Some(functions);
    }
    chat.tool_choice = choice;
    if compacts {
        summary::only_text(chat);
    }
    if chat.tool_choice == Some(ToolChoice::None) && chat.tools.is_none() {
        chat.tool_choice = None;
    }
}

/// Offers the tools of a request and those among its items. Returns `tool_choice` as a chat has it.
fn offer(
    tools: &mut Tools,
    request: &ResponseRequest,
    choice: Option<&Value>,
    items: &[Item],
    origin: Origin,
) -> Result<Option<ToolChoice>, ApiError> {
    tools.add_all("tools", request.tools.as_deref().unwrap_or_default())?;
    items::add_tools(items, origin, tools)?;
    let choice = choice.map(|choice| tools.choice(choice)).transpose()?;
    Ok(choice.flatten())
}

/// Returns the calls that the client has allowed, if this request can make them.
fn approved(
    items: &[Item],
    origin: Origin,
    servers: &Servers,
    compacts: bool,
) -> Result<Vec<ApprovedCall>, ApiError> {
    items::check_approvals(items, origin)?;
    let approved = items::approved(items, origin);
    if compacts {
        makes_no_calls(&approved)?;
    }
    servers.check_approved(&approved)?;
    Ok(approved)
}

/// Refuses requests that no model could serve, except those that the checks of chats refuse too.
pub(crate) fn check(request: &ResponseRequest) -> Result<(), ApiError> {
    check_model(&request.model)?;
    between(
        "max_output_tokens",
        request.max_output_tokens,
        i64::MIN,
        i64::from(u32::MAX),
    )?;
    between("top_logprobs", request.top_logprobs, 0, 20)?;
    between("max_tool_calls", request.max_tool_calls, 0, i64::MAX)?;
    if request.prompt.is_some() {
        let message = "This server has no prompt templates; send the prompt itself in 'instructions' and 'input'.";
        return Err(ApiError::invalid(
            "prompt",
            "unsupported_parameter",
            message,
        ));
    }
    one_of(
        "truncation",
        request.truncation.as_deref(),
        &["auto", "disabled"],
    )
}

/// Refuses a request for a summary that also allows calls.
fn makes_no_calls(approved: &[ApprovedCall]) -> Result<(), ApiError> {
    let Some(ApprovedCall { place, .. }) = approved.first() else {
        return Ok(());
    };
    let message = format!(
        "A compaction makes no calls, so '{place}' has no effect. Continue the response with it first."
    );
    Err(ApiError::invalid(place.clone(), "invalid_value", message))
}

fn no_keys() -> ApiError {
    let message =
        "This server cannot compact a conversation: it has no keys that seal the summary.";
    ApiError::invalid("input", "unsupported_parameter", message)
}

/// Returns the conversation of the request as the response repeats it.
fn conversation_of(held: Option<&HeldConversation>) -> Option<ConversationRef> {
    let id = held?.id().to_owned();
    Some(ConversationRef { id })
}

/// Takes out whether the request only fills the engine's cache.
fn takes_prewarm(request: &mut ResponseRequest) -> bool {
    let Some(Value::Object(options)) = &mut request.prompt_cache_options else {
        return false;
    };
    let Some(prewarms) = options.get("prewarm").and_then(Value::as_bool) else {
        return false;
    };
    options.shift_remove("prewarm");
    if options.is_empty() {
        request.prompt_cache_options = None;
    }
    prewarms
}

/// Makes a chat end once its prompt is read. No engine can read a prompt without generating: one
/// token is the minimum, and the response leaves it out.
fn set_prewarm(chat: &mut ChatCompletionRequest, prewarms: bool) {
    if !prewarms {
        return;
    }
    chat.max_completion_tokens = Some(1);
    if chat.tool_choice != Some(ToolChoice::None) {
        chat.tool_choice = None;
    }
}

fn nothing_to_read() -> ApiError {
    let message = "The input is empty: there is nothing to answer.";
    ApiError::invalid("input", "empty_array", message)
}

/// Removes the fields that have no effect here, and returns their names.
fn unread(
    request: &mut ResponseRequest,
    recalled: &Recalled,
    seals: bool,
    servers: &Servers,
) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if request.store == Some(true) && !recalled.is_stored {
        names.push("store".to_owned());
    }
    if request.max_tool_calls.is_some() && !servers.run_tools() {
        names.push("max_tool_calls".to_owned());
    }
    let labels = [
        ("background_options", request.background_options.is_some()),
        (
            "context_management",
            request.context_management.is_some() && !seals,
        ),
        ("client_metadata", request.client_metadata.is_some()),
        ("access_programs", request.access_programs.is_some()),
        ("image", request.image.is_some()),
    ];
    let labels = labels.into_iter().filter(|(_, is_there)| *is_there);
    names.extend(labels.map(|(name, _)| name.to_owned()));
    let more = request.include.iter().flatten();
    let searches = servers.file_search().is_some();
    let more = more.filter(|what| {
        *what != LOGPROBS
            && !(seals && *what == ENCRYPTED)
            && !(searches && *what == file_search::RESULTS)
    });
    names.extend(more.map(|what| format!("include.{what}")));
    if let Some(reasoning) = &request.reasoning {
        let unread = [("context", &reasoning.context), ("mode", &reasoning.mode)];
        let unread = unread.iter().filter(|(_, value)| value.is_some());
        names.extend(unread.map(|(name, _)| format!("reasoning.{name}")));
        names.extend(reasoning.extra.keys().map(|key| format!("reasoning.{key}")));
    }
    if let Some(text) = &request.text {
        names.extend(text.extra.keys().map(|key| format!("text.{key}")));
    }
    if let Some(options) = &request.stream_options {
        let extra = options.extra.keys();
        names.extend(extra.map(|key| format!("stream_options.{key}")));
    }
    // A field of `/v1/responses/input_tokens` alone.
    let personality = request.extra.remove("personality");
    names.extend(personality.map(|_| "personality".to_owned()));
    for field in OF_CHATS {
        names.extend(request.extra.remove(*field).map(|_| (*field).to_owned()));
    }
    names
}

pub(crate) fn user(text: &str) -> Item {
    let item = json!({"type": "message", "role": "user", "content": text});
    // An object of three strings is always a valid item.
    serde_json::from_value(item).unwrap_or_else(|_| unreachable!("an item of three texts"))
}

/// Sets the effort of the last `configuration_update`. It replaces the effort of the request.
fn set_effort(request: &mut ResponseRequest, effort: Option<String>) {
    let Some(effort) = effort else { return };
    let reasoning = request.reasoning.get_or_insert_with(|| Reasoning {
        effort: None,
        summary: None,
        generate_summary: None,
        context: None,
        mode: None,
        extra: Extra::new(),
    });
    reasoning.effort = Some(effort);
}

/// Returns whether deltas are padded.
fn obfuscates(request: &ResponseRequest) -> bool {
    let options = request.stream_options.as_ref();
    options.and_then(|options| options.include_obfuscation) == Some(true)
}

/// Returns the kind of summary of the reasoning that the client asks for.
fn summary(reasoning: Option<&Reasoning>) -> Option<&str> {
    let reasoning = reasoning?;
    let asked = reasoning.summary.as_ref();
    asked
        .or(reasoning.generate_summary.as_ref())
        .map(String::as_str)
}

fn chat_format(place: &str, format: &TextFormat) -> Result<ResponseFormat, ApiError> {
    match format.kind.as_str() {
        "text" => Ok(ResponseFormat::Text),
        "json_object" => Ok(ResponseFormat::JsonObject),
        "json_schema" => {
            let name = format.name.clone();
            let schema = format.schema.clone();
            Ok(ResponseFormat::JsonSchema(JsonSchemaFormat {
                name: name.ok_or_else(|| missing(format!("{place}.name")))?,
                description: format.description.clone(),
                schema: Some(schema.ok_or_else(|| missing(format!("{place}.schema")))?),
                strict: format.strict,
                extra: format.extra.clone(),
            }))
        }
        other => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'text', 'json_object', and 'json_schema'."
            );
            let param = format!("{place}.type");
            Err(ApiError::invalid(param, "invalid_value", message))
        }
    }
}

/// Returns the chat without its tools and its response format.
fn chat(request: ResponseRequest, conversation: Conversation) -> ChatCompletionRequest {
    let wants_logprobs =
        request.includes(LOGPROBS) || request.top_logprobs.is_some_and(|top| top > 0);
    let verbosity = request.text.and_then(|text: TextConfig| text.verbosity);
    ChatCompletionRequest {
        model: request.model,
        messages: conversation.messages,
        stream: request.stream,
        // Events of the response are padded, not those of the chat.
        stream_options: None,
        max_tokens: None,
        max_completion_tokens: request.max_output_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        n: None,
        stop: request.stop,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        seed: request.seed,
        logit_bias: None,
        logprobs: wants_logprobs.then_some(true),
        top_logprobs: request.top_logprobs.filter(|_| wants_logprobs),
        response_format: None,
        tools: None,
        tool_choice: None,
        parallel_tool_calls: request.parallel_tool_calls,
        functions: None,
        function_call: None,
        reasoning_effort: request.reasoning.and_then(|reasoning| reasoning.effort),
        // The response has it instead.
        metadata: None,
        store: None,
        user: request.user,
        safety_identifier: request.safety_identifier,
        prompt_cache_key: request.prompt_cache_key,
        prompt_cache_retention: request.prompt_cache_retention,
        prompt_cache_options: request.prompt_cache_options,
        service_tier: request.service_tier,
        verbosity: verbosity.or(request.verbosity),
        prediction: None,
        modalities: None,
        audio: None,
        web_search_options: None,
        moderation: request.moderation,
        extra: request.extra,
    }
}

/// Returns the response without output, with the fields that it repeats from the request.
fn template(request: &ResponseRequest, format: Option<&TextFormat>) -> Response {
    let format = format.and_then(|format| serde_json::to_value(format).ok());
    let mut text = json!({"format": format.unwrap_or_else(|| json!({"type": "text"}))});
    let verbosity = request
        .text
        .as_ref()
        .and_then(|text| text.verbosity.as_ref());
    if let Some(verbosity) = verbosity.or(request.verbosity.as_ref()) {
        text["verbosity"] = json!(verbosity);
    }
    let reasoning = request.reasoning.as_ref();
    let effort = reasoning.and_then(|reasoning| reasoning.effort.as_ref());
    let reasoning = json!({"effort": effort, "summary": summary(reasoning)});
    let tools = request.tools.iter().flatten();
    Response {
        id: String::new(),
        object: "response".to_owned(),
        created_at: 0,
        status: ResponseStatus::InProgress,
        background: request.background.unwrap_or(false),
        conversation: None,
        completed_at: None,
        error: None,
        incomplete_details: None,
        frequency_penalty: request.frequency_penalty.unwrap_or(0.0),
        instructions: request.instructions.clone(),
        max_output_tokens: request.max_output_tokens,
        max_tool_calls: request.max_tool_calls,
        model: request.model.clone(),
        output: Vec::new(),
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        presence_penalty: request.presence_penalty.unwrap_or(0.0),
        previous_response_id: request.previous_response_id.clone(),
        prompt_cache_key: request.prompt_cache_key.clone(),
        reasoning,
        safety_identifier: request.safety_identifier.clone(),
        service_tier: "default".to_owned(),
        store: false,
        temperature: request.temperature.unwrap_or(1.0),
        text,
        tool_choice: request.tool_choice.clone().unwrap_or_else(|| json!("auto")),
        tools: tools.map(tools::echoed).collect::<Vec<Value>>(),
        top_logprobs: request.top_logprobs.unwrap_or(0),
        top_p: request.top_p.unwrap_or(1.0),
        truncation: request
            .truncation
            .clone()
            .unwrap_or_else(|| "disabled".to_owned()),
        usage: None,
        user: request.user.clone(),
        input_transformations: Vec::new(),
        metadata: request.metadata.clone().unwrap_or_default(),
    }
}
