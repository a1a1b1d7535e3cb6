//! The fields of a request → those of a chat.

use loggia_backend::conversation::continuation;
use loggia_wire::Extra;
use loggia_wire::anthropic::{self, MessagesRequest, OutputConfig, OutputFormat, Thinking};
use loggia_wire::openai::{
    ChatCompletionRequest, JsonSchemaFormat, Message, ResponseFormat, Stop, Tool, ToolChoice,
};
use serde_json::Value;

use crate::admit::checks::{between, check_model, missing, not_among, too_long};
use crate::messages::blocks::SYSTEM;
use crate::messages::compact_edit::{self, COMPACT};
use crate::messages::compaction;
use crate::messages::edits::{self, Edit};
use crate::messages::names::Places;
use crate::messages::shape::{MessageShape, Purpose};
use crate::messages::signature::Signer;
use crate::messages::tools::{self, Offered, Tools};
use crate::messages::turns::{self, Conversation};
use crate::responses::auto_compaction::AutoCompaction;
use crate::responses::ignored::Ignored;
use crate::{ApiError, Ceilings};

/// Fields of chats that Anthropic's API does not have. Under their name an engine would get
/// something that this request does not mean.
const OF_CHATS: &[&str] = &[
    "max_completion_tokens",
    "n",
    "stop",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "stream_options",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "reasoning_effort",
    "prediction",
    "modalities",
    "audio",
    "web_search_options",
    "store",
    "user",
    "verbosity",
    "moderation",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
];

/// The name of a schema, which chats require and Anthropic's API does not have.
const SCHEMA_NAME: &str = "answer";

/// A request as a chat, and the facts about it that the answer needs.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) chat: ChatCompletionRequest,
    pub(crate) places: Places,
    /// Fields without an effect, by the client's names.
    pub(crate) ignored: Vec<String>,
    /// Whether the client did not mention reasoning.
    pub(crate) leaves_thinking_open: bool,
    /// Whether the answer continues the last message, which is the model's.
    pub(crate) continues: bool,
    /// The edits of the conversation.
    pub(crate) edits: Vec<Edit>,
    /// The compaction before the answer.
    pub(crate) compaction: Option<AutoCompaction>,
    pub(crate) shape: MessageShape,
}

/// Translates a request to a chat. The first `recalled` messages of the request are those of its
/// thread.
///
/// # Errors
///
/// Returns a 400 about the invalid field, by the client's name.
pub(crate) fn translate(
    mut request: MessagesRequest,
    recalled: usize,
    signer: Signer,
    most: &Ceilings,
) -> Result<Translated, ApiError> {
    check(&request, most)?;
    let mut names = Ignored::default();
    let question = compaction::question_of(&mut request, &mut names)?;
    let edits = edits::of(request.context_management.as_ref(), &mut names)?;
    unread(&mut request, &mut names);
    let changes = turns::tool_changes(&request.messages)?;
    let mut offered = Tools::of(&request, &changes, most.tools)?;
    let messages = std::mem::take(&mut request.messages);
    let shown_changes = compaction::tool_changes(&messages);
    let mut conversation = turns::conversation(request.system.take(), messages, recalled, &signer)?;
    if conversation.messages.is_empty() {
        return Err(no_messages());
    }
    let summarizes = question.is_some();
    let compaction = compaction(&request, &conversation, summarizes, &signer, &mut names)?;
    if let Some(question) = question {
        // A summary is made without tools.
        offered.functions.clear();
        conversation.messages.push(question);
        conversation.places.push("compaction".to_owned());
    }
    let mut ignored = names.into_names();
    let manner = manner(&mut request, &conversation, &mut ignored)?;
    ignored.extend(offered.ignored.into_names());
    ignored.extend(conversation.ignored.into_names());
    let beginning = continuation::beginning(&conversation.messages);
    if let Some(beginning) = &beginning {
        check_continuation(beginning, request.thinking.as_ref(), &manner)?;
    }
    let leaves_thinking_open = request.thinking.is_none() && manner.effort.is_none();
    let shape = MessageShape {
        purpose: purpose(&request, summarizes, compaction.as_ref()),
        tool_changes: shown_changes,
        ..shape(&request, signer, offered.offered)
    };
    let places = Places {
        messages: conversation.places,
        tools: offered.places,
        effort: manner.effort.as_ref().map(|(_, place)| *place),
        format: Some(manner.format_place),
    };
    Ok(Translated {
        chat: chat(request, conversation.messages, offered.functions, manner),
        places,
        ignored,
        leaves_thinking_open,
        continues: beginning.is_some(),
        edits,
        compaction,
        shape,
    })
}

/// The compaction before an answer. A summary that is the answer needs none.
fn compaction(
    request: &MessagesRequest,
    conversation: &Conversation,
    summarizes: bool,
    signer: &Signer,
    names: &mut Ignored,
) -> Result<Option<AutoCompaction>, ApiError> {
    let management = request.context_management.as_ref();
    let has_prompt = conversation
        .places
        .first()
        .is_some_and(|place| place == SYSTEM);
    let found = compact_edit::of(management, usize::from(has_prompt), signer)?;
    if summarizes && found.is_some() {
        names.add(format!("context_management.edits[].{COMPACT}"));
        return Ok(None);
    }
    let is_answered = request.max_tokens != Some(0);
    Ok(found.filter(|_| is_answered))
}

fn purpose(
    request: &MessagesRequest,
    summarizes: bool,
    compaction: Option<&AutoCompaction>,
) -> Purpose {
    if request.max_tokens == Some(0) {
        Purpose::Prewarming
    } else if summarizes {
        Purpose::Summary
    } else if compaction.is_some_and(|compaction| compaction.pauses) {
        Purpose::PausedAnswer
    } else {
        Purpose::Answer
    }
}

/// How the model is to answer, in the terms of a chat.
struct Manner {
    tool_choice: Option<ToolChoice>,
    /// The effort, and the field that it comes from.
    effort: Option<(String, &'static str)>,
    response_format: Option<ResponseFormat>,
    /// The field that the format comes from.
    format_place: &'static str,
}

fn manner(
    request: &mut MessagesRequest,
    conversation: &Conversation,
    ignored: &mut Vec<String>,
) -> Result<Manner, ApiError> {
    let choice = request.tool_choice.as_ref();
    let tool_choice = choice.map(tools::choice).transpose()?.flatten();
    let config = request.output_config.take();
    let thinking = request.thinking.as_ref();
    let of_a_message = conversation.effort.as_deref();
    let effort = effort(thinking, of_a_message, config.as_ref(), ignored)?;
    let (format, format_place) = format(config, request.output_format.take());
    let response_format = format
        .map(|format| chat_format(format_place, format, ignored))
        .transpose()?;
    Ok(Manner {
        tool_choice,
        effort,
        response_format,
        format_place,
    })
}

fn shape(request: &MessagesRequest, signer: Signer, offered: Offered) -> MessageShape {
    MessageShape {
        signer,
        stops: request.stop_sequences.clone().unwrap_or_default(),
        omits_thinking: display(request.thinking.as_ref()) == Some("omitted"),
        applied_edits: request.context_management.is_some().then(Vec::new),
        diagnoses: request.diagnostics.is_some(),
        safeguards: request.safeguards.as_ref().map(types_of),
        offered,
        ..MessageShape::default()
    }
}

fn chat(
    request: MessagesRequest,
    messages: Vec<Message>,
    functions: Vec<Tool>,
    manner: Manner,
) -> ChatCompletionRequest {
    let one_call = request.tool_choice.as_ref();
    let one_call = one_call.and_then(|choice| choice.disable_parallel_tool_use) == Some(true);
    let has_tools = !functions.is_empty();
    let choice = manner.tool_choice;
    ChatCompletionRequest {
        model: request.model,
        messages,
        stream: request.stream,
        // Engines generate at least one token. It is not shown.
        max_completion_tokens: request.max_tokens.map(|most| most.max(1)),
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        stop: request.stop_sequences.map(Stop),
        tools: has_tools.then_some(functions),
        tool_choice: choice.filter(|choice| has_tools || *choice != ToolChoice::None),
        parallel_tool_calls: (has_tools && one_call).then_some(false),
        response_format: manner.response_format,
        reasoning_effort: manner.effort.map(|(effort, _)| effort),
        extra: with_top_k(request.extra, request.top_k),
        ..empty_chat()
    }
}

fn with_top_k(mut extra: Extra, top_k: Option<i64>) -> Extra {
    if let Some(top_k) = top_k {
        extra.insert("top_k".to_owned(), Value::from(top_k));
    }
    extra
}

fn no_messages() -> ApiError {
    let message = "messages: at least one message is required";
    ApiError::invalid("messages", "empty_array", message)
}

/// Checks the fields that chats do not check, or check with other limits.
fn check(request: &MessagesRequest, ceilings: &Ceilings) -> Result<(), ApiError> {
    check_model(&request.model)?;
    let Some(most) = request.max_tokens else {
        return Err(missing("max_tokens".to_owned()));
    };
    between("max_tokens", Some(most), 0, i64::from(u32::MAX))?;
    if most == 0 {
        check_prewarming(request)?;
    }
    if let Some(thinking) = &request.thinking {
        check_thinking(thinking, most)?;
    }
    match request.messages.len() {
        0 => Err(no_messages()),
        many if many > ceilings.messages => Err(too_long("messages", ceilings.messages, many)),
        _ => Ok(()),
    }
}

/// Checks a request that only reads the prompt into the engine's cache, as Anthropic's API does.
fn check_prewarming(request: &MessagesRequest) -> Result<(), ApiError> {
    let forces = |choice: &anthropic::ToolChoice| matches!(choice.kind.as_str(), "any" | "tool");
    let has_format = |config: &OutputConfig| config.format.is_some();
    let beside = if request.streams() {
        "'stream'"
    } else if request.tool_choice.as_ref().is_some_and(forces) {
        "'tool_choice' that requires a call"
    } else if request.output_format.is_some()
        || request.output_config.as_ref().is_some_and(has_format)
    {
        "'output_config.format'"
    } else {
        return Ok(());
    };
    let message = format!("'max_tokens' 0 cannot be combined with {beside}: nothing is generated.");
    Err(ApiError::invalid("max_tokens", "invalid_value", message))
}

/// Checks what Anthropic's API allows beside a beginning of the answer.
fn check_continuation(
    beginning: &str,
    thinking: Option<&Thinking>,
    manner: &Manner,
) -> Result<(), ApiError> {
    if beginning.ends_with(char::is_whitespace) {
        // The message is Anthropic's own.
        let message = "messages: final assistant content cannot end with trailing whitespace";
        return Err(ApiError::invalid("messages", "invalid_value", message));
    }
    if manner.response_format.is_some() {
        return Err(not_continued("'output_config.format'"));
    }
    let choice = manner.tool_choice.as_ref();
    if choice.is_some_and(|choice| *choice != ToolChoice::None) {
        return Err(not_continued("'tool_choice' that requires a call"));
    }
    if thinking.is_some_and(|thinking| thinking.kind == "enabled") {
        return Err(not_continued("'thinking' of the type 'enabled'"));
    }
    Ok(())
}

fn not_continued(beside: &str) -> ApiError {
    let message = format!(
        "messages: the last message is the beginning of the answer, which cannot be combined with {beside}. The messages must end with a user message."
    );
    ApiError::invalid("messages", "invalid_value", message)
}

fn check_thinking(thinking: &Thinking, most: i64) -> Result<(), ApiError> {
    const KINDS: &[&str] = &["enabled", "adaptive", "between_tools", "disabled"];
    if !KINDS.contains(&thinking.kind.as_str()) {
        return Err(not_among("thinking.type", &thinking.kind, KINDS));
    }
    let param = "thinking.budget_tokens";
    match thinking.budget_tokens {
        None if thinking.kind == "enabled" => return Err(missing(param.to_owned())),
        // Equal numbers, which Anthropic's API refuses, are what Qwen Code sends.
        Some(budget) if budget > most => {
            let message = format!(
                "'max_tokens' ({most}) must be greater than 'thinking.budget_tokens' ({budget})."
            );
            return Err(ApiError::invalid(param, "invalid_value", message));
        }
        budget => between(param, budget, 1, i64::MAX)?,
    }
    Ok(())
}

/// Removes the fields without an effect, and lists them.
fn unread(request: &mut MessagesRequest, names: &mut Ignored) {
    let hints = [
        ("metadata.user_id", has_user_id(request.metadata.as_ref())),
        ("cache_control", request.cache_control.is_some()),
        ("container", request.container.is_some()),
        ("mcp_servers", has_some(request.mcp_servers.as_ref())),
        ("fallbacks", request.fallbacks.is_some()),
        (
            "fallback_credit_token",
            request.fallback_credit_token.is_some(),
        ),
        ("safeguards", has_some(request.safeguards.as_ref())),
        ("inference_geo", request.inference_geo.is_some()),
        ("billing_policy", request.billing_policy.is_some()),
        ("user_profile_id", request.user_profile_id.is_some()),
        ("workspace_id", request.workspace_id.is_some()),
    ];
    let hints = hints.into_iter().filter(|(_, is_there)| *is_there);
    hints.for_each(|(name, _)| names.add(name.to_owned()));
    if request
        .speed
        .as_deref()
        .is_some_and(|speed| speed != "standard")
    {
        names.add("speed".to_owned());
    }
    let is_usual = |tier: &str| tier == "auto" || tier == "standard_only";
    if request
        .service_tier
        .as_deref()
        .is_some_and(|tier| !is_usual(tier))
    {
        names.add("service_tier".to_owned());
    }
    if let Some(Value::Object(metadata)) = &request.metadata {
        for key in metadata.keys().filter(|key| *key != "user_id") {
            names.add(format!("metadata.{key}"));
        }
    }
    if let Some(thinking) = &request.thinking {
        unread_thinking(thinking, names);
    }
    if let Some(config) = &request.output_config {
        for key in config.extra.keys() {
            names.add(format!("output_config.{key}"));
        }
    }
    for field in OF_CHATS {
        if request.extra.shift_remove(*field).is_some() {
            names.add((*field).to_owned());
        }
    }
}

fn has_user_id(metadata: Option<&Value>) -> bool {
    metadata
        .and_then(|metadata| metadata.get("user_id"))
        .is_some_and(|id| !id.is_null())
}

fn has_some(list: Option<&Value>) -> bool {
    list.is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty()))
}

/// The types of a list of objects.
fn types_of(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|one| one.get("type")?.as_str().map(str::to_owned))
        .collect()
}

fn unread_thinking(thinking: &Thinking, names: &mut Ignored) {
    if thinking.budget_tokens.is_some() {
        names.add("thinking.budget_tokens".to_owned());
    }
    for key in thinking.extra.keys() {
        names.add(format!("thinking.{key}"));
    }
}

fn display(thinking: Option<&Thinking>) -> Option<&str> {
    thinking?.display.as_deref()
}

/// The effort of a chat, and the field that it comes from.
fn effort(
    thinking: Option<&Thinking>,
    of_a_message: Option<&str>,
    config: Option<&OutputConfig>,
    ignored: &mut Vec<String>,
) -> Result<Option<(String, &'static str)>, ApiError> {
    const EFFORTS: &[&str] = &["low", "medium", "high", "xhigh", "max"];
    let place = "output_config.effort";
    let asked = of_a_message.or_else(|| config?.effort.as_deref());
    if let Some(word) = asked.filter(|word| !EFFORTS.contains(word)) {
        return Err(not_among(place, word, EFFORTS));
    }
    let Some(thinking) = thinking else {
        return Ok(asked.map(|effort| (effort.to_owned(), place)));
    };
    Ok(match (thinking.kind.as_str(), asked) {
        // Reasoning is off. Progress updates between tools remain possible, because local models
        // write them as text.
        ("disabled" | "between_tools", asked) => {
            ignored.extend(asked.map(|_| place.to_owned()));
            Some(("none".to_owned(), "thinking"))
        }
        (_, Some(effort)) => Some((effort.to_owned(), place)),
        ("enabled", None) => {
            let level = level_of(thinking.budget_tokens.unwrap_or_default());
            Some((level.to_owned(), "thinking"))
        }
        // The default of the model.
        (_, None) => None,
    })
}

/// The effort that is nearest to a number of tokens. No engine takes the number itself.
fn level_of(budget: i64) -> &'static str {
    match budget {
        ..=4096 => "low",
        4097..=16384 => "medium",
        _ => "high",
    }
}

/// The format of the answer, and the field that it comes from.
fn format(
    config: Option<OutputConfig>,
    older: Option<OutputFormat>,
) -> (Option<OutputFormat>, &'static str) {
    match (config.and_then(|config| config.format), older) {
        (None, Some(older)) => (Some(older), "output_format"),
        (format, _) => (format, "output_config.format"),
    }
}

fn chat_format(
    place: &str,
    format: OutputFormat,
    ignored: &mut Vec<String>,
) -> Result<ResponseFormat, ApiError> {
    if format.kind != "json_schema" {
        return Err(not_among(
            format!("{place}.type"),
            &format.kind,
            &["json_schema"],
        ));
    }
    let schema = format.schema.filter(|schema| !schema.is_null());
    ignored.extend(format.extra.keys().map(|key| format!("{place}.{key}")));
    Ok(ResponseFormat::JsonSchema(JsonSchemaFormat {
        name: SCHEMA_NAME.to_owned(),
        description: None,
        schema: Some(schema.ok_or_else(|| missing(format!("{place}.schema")))?),
        strict: None,
        extra: Extra::new(),
    }))
}

/// A chat without any field.
fn empty_chat() -> ChatCompletionRequest {
    ChatCompletionRequest {
        model: String::new(),
        messages: Vec::new(),
        stream: None,
        stream_options: None,
        max_tokens: None,
        max_completion_tokens: None,
        temperature: None,
        top_p: None,
        n: None,
        stop: None,
        presence_penalty: None,
        frequency_penalty: None,
        seed: None,
        logit_bias: None,
        logprobs: None,
        top_logprobs: None,
        response_format: None,
        tools: None,
        tool_choice: None,
        parallel_tool_calls: None,
        functions: None,
        function_call: None,
        reasoning_effort: None,
        metadata: None,
        store: None,
        user: None,
        safety_identifier: None,
        prompt_cache_key: None,
        prompt_cache_retention: None,
        prompt_cache_options: None,
        service_tier: None,
        verbosity: None,
        prediction: None,
        modalities: None,
        audio: None,
        web_search_options: None,
        moderation: None,
        extra: Extra::new(),
    }
}
