//! The table of fields that a model's backend may not be able to honour (`docs/dialects.md`, part
//! 3).

use std::collections::{BTreeMap, BTreeSet};

use loggia_backend::conversation::continuation;
use loggia_backend::ollama::lost_of_tools;
use loggia_backend::{Abilities, Ability, BackendError, ToolSchemas};
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletionRequest as Request, Content, Message, PartKind, ResponseFormat, Role,
    StreamOptions, Tool, ToolChoice,
};
use serde_json::Value;

use crate::admit::allowed_values;
use crate::admit::engine_options;
use crate::admit::messages;
use crate::admit::misplaced;
use crate::admit::placeholders;
use crate::admit::reasoning;
use crate::admit::schema;
use crate::admit::tool_choice;
use crate::{ApiError, Strictness};

/// A feature that a request can use.
pub(crate) struct Field<R> {
    /// The path of the field in `param` and `x-loggia-ignored`.
    pub(crate) name: &'static str,
    /// Returns whether this request uses the feature. A field with a default value (`n: 1`,
    /// `modalities: ["text"]`) does not.
    asks: fn(&R) -> bool,
    /// The ability that the backend needs.
    needs: Needs,
    /// Removes the field from the request.
    drop: fn(&mut R),
}

/// The ability that a field needs, and what happens without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The field protects the client from a wrong answer. The request is refused; the field is
    /// dropped only with `--lenient`.
    Guarantee(Ability),
    /// The field is dropped and listed as ignored. With `--strict` the request is refused.
    Effect(Ability),
    /// The field has no effect with this value. It is listed as ignored and never refused.
    Idle(Ability),
}

/// Creates a field that protects the client from a wrong answer.
pub(crate) const fn guarantee<R>(
    name: &'static str,
    needs: Ability,
    asks: fn(&R) -> bool,
    drop: fn(&mut R),
) -> Field<R> {
    Field {
        name,
        asks,
        needs: Needs::Guarantee(needs),
        drop,
    }
}

/// Creates a field that can be ignored if the client is informed.
pub(crate) const fn effect<R>(
    name: &'static str,
    needs: Ability,
    asks: fn(&R) -> bool,
    drop: fn(&mut R),
) -> Field<R> {
    Field {
        name,
        asks,
        needs: Needs::Effect(needs),
        drop,
    }
}

/// Creates a field that has no effect with this value.
pub(crate) const fn idle<R>(
    name: &'static str,
    needs: Ability,
    asks: fn(&R) -> bool,
    drop: fn(&mut R),
) -> Field<R> {
    Field {
        name,
        asks,
        needs: Needs::Idle(needs),
        drop,
    }
}

/// All fields that some backend cannot honour. Fields that all can honour (`messages`,
/// `temperature`, `stop`, …) are not here.
pub(crate) static FIELDS: &[Field<Request>] = &[
    effect(
        "tools[].type",
        Ability::HostedFields,
        |r| r.tools.iter().flatten().any(is_other),
        drop_other_tools,
    ),
    effect("tools", Ability::Tools, offers_tools, |r| r.tools = None),
    effect("functions", Ability::Tools, offers_functions, |r| {
        r.functions = None;
    }),
    effect(
        "tool_choice.allowed_tools.tools",
        Ability::HostedFields,
        tool_choice::allows_others,
        tool_choice::drop_others,
    ),
    guarantee(
        "tool_choice",
        Ability::ToolChoice,
        |r| r.tool_choice.is_some() && r.must_call(),
        |r| r.tool_choice = None,
    ),
    guarantee(
        "function_call",
        Ability::ToolChoice,
        must_call_function,
        |r| r.function_call = None,
    ),
    effect(
        "parallel_tool_calls",
        Ability::SingleToolCall,
        wants_single_call,
        |r| r.parallel_tool_calls = None,
    ),
    guarantee(
        "response_format",
        Ability::JsonObject,
        |r| wants_format(r, false),
        |r| r.response_format = None,
    ),
    guarantee(
        "response_format.json_schema",
        Ability::JsonSchema,
        |r| wants_format(r, true),
        |r| r.response_format = None,
    ),
    effect(
        "logit_bias",
        Ability::LogitBias,
        |r| r.logit_bias.as_ref().is_some_and(|all| !all.is_empty()),
        |r| r.logit_bias = None,
    ),
    effect(
        "logprobs",
        Ability::Logprobs,
        |r| r.logprobs == Some(true),
        drop_logprobs,
    ),
    effect(
        "n",
        Ability::SeveralChoices,
        |r| r.choices() > 1,
        |r| r.n = None,
    ),
    effect(
        "seed",
        Ability::Seed,
        |r| r.seed.is_some(),
        |r| r.seed = None,
    ),
    // `reasoning.rs` has handled reasoning for Ollama and the embedded engine before.
    effect(
        "reasoning_effort",
        Ability::Reasoning,
        wants_reasoning,
        |r| r.reasoning_effort = None,
    ),
    effect(
        "messages[].content[].image_url",
        Ability::Images,
        |r| has_part(r, is_image),
        |r| placeholders::replace(r, is_image),
    ),
    effect(
        "messages[].content[].input_audio",
        Ability::Audio,
        |r| has_part(r, is_audio),
        |r| placeholders::replace(r, is_audio),
    ),
    effect(
        "messages[].content[].file",
        Ability::Files,
        |r| has_part(r, is_file),
        |r| placeholders::replace(r, is_file),
    ),
    effect(
        "messages[].audio",
        Ability::HostedFields,
        |r| any(r, |m| m.audio.is_some()),
        placeholders::drop_spoken,
    ),
    effect(
        "audio",
        Ability::HostedFields,
        |r| wants_sound(r) && r.audio.is_some(),
        |r| r.audio = None,
    ),
    effect("modalities", Ability::HostedFields, wants_sound, |r| {
        r.modalities = None;
    }),
    effect(
        "web_search_options",
        Ability::HostedFields,
        |r| r.web_search_options.is_some(),
        |r| r.web_search_options = None,
    ),
    effect(
        "moderation",
        Ability::HostedFields,
        |r| r.moderation.is_some(),
        |r| r.moderation = None,
    ),
    guarantee("grammar", Ability::Grammar, wants_grammar, |r| {
        r.extra.remove("grammar");
    }),
    idle(
        "audio",
        Ability::HostedFields,
        |r| r.audio.is_some() && !wants_sound(r),
        |_| (),
    ),
    effect(
        "max_tokens",
        Ability::HostedFields,
        has_overridden_limit,
        |r| r.max_tokens = None,
    ),
    effect(
        "messages[].name",
        Ability::HostedFields,
        |r| any(r, has_idle_name),
        |_| (),
    ),
    effect(
        "messages[].content[].image_url.detail",
        Ability::HostedFields,
        |r| has_part(r, has_detail),
        |_| (),
    ),
    effect(
        "messages[].content[].input_audio.format",
        Ability::HostedFields,
        |r| has_part(r, is_odd_sound),
        |_| (),
    ),
    effect(
        "messages[].content[].prompt_cache_breakpoint",
        Ability::HostedFields,
        has_breakpoint,
        |_| (),
    ),
    effect(
        "tools[].function.strict",
        Ability::StrictTools,
        may_call_strict_tools,
        |_| (),
    ),
    effect(
        "tools[].custom.format",
        Ability::InputGrammars,
        has_input_grammar,
        drop_input_grammars,
    ),
    // A call that the model may omit follows its grammar only where strict schemas are enforced too.
    effect(
        "tools[].custom.format",
        Ability::StrictTools,
        |r| offers_tools(r) && has_input_grammar(r),
        drop_input_grammars,
    ),
    effect(
        "functions[].strict",
        Ability::StrictTools,
        may_call_strict_functions,
        |_| (),
    ),
    effect(
        "response_format.json_schema.description",
        Ability::HostedFields,
        has_schema_description,
        |_| (),
    ),
    effect(
        "stream_options.include_obfuscation",
        Ability::HostedFields,
        wants_obfuscation,
        |_| (),
    ),
    // A door with a store honours these two itself: it removes them from a chat that is to be
    // stored before it checks this table (`stored/keep.rs`).
    effect(
        "metadata",
        Ability::HostedFields,
        |r| r.metadata.as_ref().is_some_and(|all| !all.is_empty()),
        |_| (),
    ),
    effect(
        "store",
        Ability::HostedFields,
        |r| r.store == Some(true),
        |_| (),
    ),
    effect("user", Ability::HostedFields, |r| r.user.is_some(), |_| ()),
    effect(
        "safety_identifier",
        Ability::HostedFields,
        |r| r.safety_identifier.is_some(),
        |_| (),
    ),
    effect(
        "prompt_cache_key",
        Ability::HostedFields,
        |r| r.prompt_cache_key.is_some(),
        |_| (),
    ),
    effect(
        "prompt_cache_retention",
        Ability::HostedFields,
        |r| r.prompt_cache_retention.is_some(),
        |_| (),
    ),
    effect(
        "prompt_cache_options",
        Ability::HostedFields,
        |r| r.prompt_cache_options.is_some(),
        |_| (),
    ),
    effect("service_tier", Ability::HostedFields, wants_a_tier, |_| ()),
    effect(
        "verbosity",
        Ability::HostedFields,
        |r| r.verbosity.as_deref().is_some_and(|v| v != "medium"),
        |_| (),
    ),
    effect(
        "prediction",
        Ability::HostedFields,
        |r| r.prediction.is_some(),
        |_| (),
    ),
];

/// Handles every field that the model's backend cannot honour: drops it, or refuses the request.
/// Returns the names of the dropped fields.
///
/// # Errors
/// Returns `unsupported_parameter` for the first refused field.
pub(crate) fn settle(
    request: &mut Request,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    if strictness == Strictness::Strict && !can.has(Ability::UnknownFields) {
        allowed_values::check(request)?;
    }
    let known = can.chat_fields();
    if strictness == Strictness::Strict && !can.has(Ability::TextArguments) {
        messages::check_arguments(&request.messages)?;
    }
    // Before tools are dropped, because the paths refer to the client's own list.
    let of_schemas = schema::settle(request, can, strictness)?;
    let mut ignored = reasoning::settle(request, can, strictness)?;
    ignored.extend(settle_each(FIELDS, request, can, known, strictness)?);
    ignored.extend(tool_choice::settle_rest(request, can, strictness)?);
    if let Some(biases) = &mut request.logit_bias {
        ignored.extend(settle_biases(biases, can, strictness)?);
    }
    if can.tool_schemas == ToolSchemas::Ollama {
        // The model sees less of the tools, but makes the same calls: no reason to refuse the
        // request.
        ignored.extend(lost_of_tools(request));
    }
    ignored.extend(of_schemas);
    if can.has(Ability::UnknownFields) {
        ignored.extend(settle_unread(&request.extra, known, strictness)?);
        return Ok(ignored);
    }
    engine_options::drop_nulls(&mut request.extra);
    ignored.extend(engine_options::settle_context(
        &mut request.extra,
        can,
        strictness,
    )?);
    ignored.extend(engine_options::settle_overridden(request, can, strictness)?);
    let mut names = unknown(request);
    if can.has(Ability::Continuation) && continuation::is_requested(&request.extra) {
        names.remove(continuation::CONTINUE);
        names.remove(continuation::ADD_PROMPT);
    }
    // The remaining variables are those that the template reads.
    names.remove(reasoning::TEMPLATE);
    names.extend(request.messages.iter_mut().flat_map(misplaced::drop_from));
    request.messages.iter_mut().for_each(misplaced::say_refusal);
    request
        .messages
        .iter_mut()
        .for_each(misplaced::as_functions);
    ignored.extend(settle_unknown(
        names,
        &mut request.extra,
        can,
        known,
        strictness,
    )?);
    Ok(ignored)
}

/// Refuses a bias for a token that the model does not have, or drops it with `--lenient`.
pub(crate) fn settle_biases(
    biases: &mut BTreeMap<String, f64>,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let Some(vocabulary) = can.vocabulary else {
        return Ok(Vec::new());
    };
    let is_none = |token: &&String| !token.parse::<u64>().is_ok_and(|token| token < vocabulary);
    let missing: Vec<String> = biases.keys().filter(is_none).cloned().collect();
    if let Some(first) = missing
        .first()
        .filter(|_| strictness != Strictness::Lenient)
    {
        return Err(BackendError::no_such_token(first, vocabulary).into());
    }
    biases.retain(|token, _| !missing.contains(token));
    Ok(missing
        .into_iter()
        .map(|token| format!("logit_bias.{token}"))
        .collect())
}

/// Handles the fields of a table that the backend cannot honour: refuses the request, drops the
/// field or lists it as ignored. `known` are the fields that the engine reads, if known.
pub(crate) fn settle_each<R>(
    fields: &[Field<R>],
    request: &mut R,
    can: &Abilities,
    known: Option<&BTreeSet<String>>,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let mut ignored = Vec::new();
    for field in fields {
        if !(field.asks)(request) {
            continue;
        }
        match field.needs {
            Needs::Guarantee(ability) | Needs::Effect(ability) | Needs::Idle(ability)
                if can.has(ability) && is_read(field.name, known) =>
            {
                continue;
            }
            Needs::Guarantee(_) if strictness != Strictness::Lenient => {
                return Err(ApiError::unsupported(field.name));
            }
            Needs::Effect(_) if strictness == Strictness::Strict => {
                return Err(ApiError::unsupported(field.name));
            }
            _ => {}
        }
        (field.drop)(request);
        ignored.push(field.name.to_owned());
    }
    Ok(ignored)
}

/// Returns whether the engine may read the field that this path begins with. True if its fields are
/// not known.
pub(crate) fn is_read(path: &str, known: Option<&BTreeSet<String>>) -> bool {
    let field = path.split(['.', '[']).next().unwrap_or(path);
    known.is_none_or(|known| known.contains(field))
}

/// Lists or refuses additional fields that the engine does not read, if its fields are known.
pub(crate) fn settle_unread(
    extra: &Extra,
    known: Option<&BTreeSet<String>>,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let mut unread = extra.keys().filter(|name| !is_read(name, known)).peekable();
    match unread.peek() {
        Some(first) if strictness == Strictness::Strict => Err(ApiError::unknown(first)),
        _ => Ok(unread.cloned().collect()),
    }
}

/// Lists or refuses fields that neither OpenAI's API nor Loggia knows. `extra` contains the
/// additional fields.
pub(crate) fn settle_unknown(
    mut names: BTreeSet<String>,
    extra: &mut Extra,
    can: &Abilities,
    known: Option<&BTreeSet<String>>,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let mut ignored = engine_options::settle_refused(extra, can, strictness)?;
    names.extend(engine_options::unknown(extra, can));
    for name in names {
        let is_read = || known.is_some_and(|known| known.contains(&name));
        // A grammar with an effect was handled before.
        if name == "grammar" || engine_options::is_one(&name, extra, can)? || is_read() {
            continue;
        }
        if strictness == Strictness::Strict {
            return Err(ApiError::unknown(&name));
        }
        ignored.push(name);
    }
    Ok(ignored)
}

/// Returns the paths of the fields that OpenAI's API does not have, without duplicates.
fn unknown(request: &Request) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = request.extra.keys().cloned().collect();
    let mut add =
        |place: &str, extra: &Extra| names.extend(extra.keys().map(|key| format!("{place}.{key}")));
    if let Some(options) = &request.stream_options {
        add("stream_options", &options.extra);
    }
    if let Some(ResponseFormat::JsonSchema(schema)) = &request.response_format {
        add("response_format.json_schema", &schema.extra);
    }
    for tool in request.tools.iter().flatten() {
        if let Some(function) = &tool.function {
            add("tools[]", &tool.extra);
            add("tools[].function", &function.extra);
        }
    }
    for message in &request.messages {
        add("messages[]", &message.extra);
        for part in message.content.iter().flat_map(Content::parts) {
            add("messages[].content[]", &part.extra);
            match &part.kind {
                PartKind::ImageUrl { extra, .. } => add("messages[].content[].image_url", extra),
                PartKind::InputAudio { extra, .. } => {
                    add("messages[].content[].input_audio", extra);
                }
                _ => {}
            }
        }
        for call in message.tool_calls.iter().flatten() {
            add("messages[].tool_calls[]", &call.extra);
            add("messages[].tool_calls[].function", &call.function.extra);
        }
        if let Some(call) = &message.function_call {
            add("messages[].function_call", &call.extra);
        }
    }
    for function in request.functions.iter().flatten() {
        add("functions[]", &function.extra);
    }
    // A field of OpenAI, handled before.
    names.remove("messages[].content[].prompt_cache_breakpoint");
    names
}

fn offers_tools(request: &Request) -> bool {
    let offered = request
        .tools
        .as_ref()
        .is_some_and(|tools| !tools.is_empty());
    // A forced call needs no tool support of the model, because the answer must match the schema of
    // the call.
    offered && request.tool_choice != Some(ToolChoice::None) && !request.must_call()
}

fn offers_functions(request: &Request) -> bool {
    let offered = request
        .functions
        .as_ref()
        .is_some_and(|functions| !functions.is_empty());
    let choice = request.function_call.as_ref();
    offered && choice.and_then(Value::as_str) != Some("none") && !must_call_function(request)
}

fn must_call_function(request: &Request) -> bool {
    request.function_call.as_ref().is_some_and(Value::is_object)
}

/// Returns whether a tool is not a function.
fn is_other(tool: &Tool) -> bool {
    tool.kind != "function" || tool.function.is_none()
}

fn drop_other_tools(request: &mut Request) {
    if let Some(tools) = &mut request.tools {
        tools.retain(|tool| !is_other(tool));
    }
    request.tools.take_if(|tools| tools.is_empty());
}

/// If both limits are present, the newer takes precedence.
fn has_overridden_limit(request: &Request) -> bool {
    request.max_tokens.is_some()
        && request
            .max_completion_tokens
            .is_some_and(|limit| request.max_tokens != Some(limit))
}

fn wants_single_call(request: &Request) -> bool {
    request.parallel_tool_calls == Some(false) && offers_tools(request)
}

fn wants_format(request: &Request, schema: bool) -> bool {
    match request.response_format {
        None | Some(ResponseFormat::Text) => false,
        Some(ResponseFormat::JsonObject) => !schema,
        Some(ResponseFormat::JsonSchema(_)) => schema,
    }
}

fn has_schema_description(request: &Request) -> bool {
    matches!(&request.response_format, Some(ResponseFormat::JsonSchema(schema)) if schema.description.is_some())
}

fn drop_logprobs(request: &mut Request) {
    request.logprobs = None;
    request.top_logprobs = None;
}

fn wants_reasoning(request: &Request) -> bool {
    request
        .reasoning_effort
        .as_deref()
        .is_some_and(|effort| effort != "none")
}

fn wants_sound(request: &Request) -> bool {
    request
        .modalities
        .iter()
        .flatten()
        .any(|modality| modality != "text")
}

fn wants_obfuscation(request: &Request) -> bool {
    asks_for_obfuscation(request.stream_options.as_ref())
}

pub(crate) fn asks_for_obfuscation(options: Option<&StreamOptions>) -> bool {
    options.and_then(|options| options.include_obfuscation) == Some(true)
}

fn wants_grammar(request: &Request) -> bool {
    has_grammar(&request.extra)
}

/// Returns whether these additional fields contain a grammar that has an effect.
pub(crate) fn has_grammar(extra: &Extra) -> bool {
    extra
        .get("grammar")
        .is_some_and(|grammar| !grammar.is_null() && grammar != "")
}

fn wants_a_tier(request: &Request) -> bool {
    request
        .service_tier
        .as_deref()
        .is_some_and(|tier| tier != "auto" && tier != "default")
}

/// The arguments of a forced call match the schema in any case.
fn may_call_strict_tools(request: &Request) -> bool {
    let mut functions = request
        .tools
        .iter()
        .flatten()
        .filter_map(|tool| tool.function.as_ref());
    offers_tools(request) && functions.any(|function| function.strict == Some(true))
}

/// Returns whether a tool that may be called stands for a custom tool with a grammar.
fn has_input_grammar(request: &Request) -> bool {
    let callable = request.callable_functions();
    callable.iter().any(|one| one.input_grammar.is_some())
}

fn drop_input_grammars(request: &mut Request) {
    for tool in request.tools.iter_mut().flatten() {
        if let Some(function) = &mut tool.function {
            function.input_grammar = None;
        }
    }
}

/// OpenAI's API does not have `strict` in the older form, where it has the same meaning.
fn may_call_strict_functions(request: &Request) -> bool {
    offers_functions(request)
        && request
            .functions
            .iter()
            .flatten()
            .any(|function| function.strict == Some(true))
}

/// Returns whether the message has a name that no template shows. Names of functions identify their
/// results.
fn has_idle_name(message: &Message) -> bool {
    message.name.is_some() && message.role != Role::Function
}

fn is_image(part: &PartKind) -> bool {
    matches!(part, PartKind::ImageUrl { .. })
}

fn is_audio(part: &PartKind) -> bool {
    matches!(part, PartKind::InputAudio { .. })
}

fn is_file(part: &PartKind) -> bool {
    matches!(part, PartKind::File(_))
}

/// An engine that does not receive the format detects it from the bytes.
fn is_odd_sound(part: &PartKind) -> bool {
    matches!(part, PartKind::InputAudio { format, .. } if format != "wav" && format != "mp3")
}

fn has_detail(part: &PartKind) -> bool {
    matches!(part, PartKind::ImageUrl { detail: Some(detail), .. } if detail != "auto")
}

fn has_breakpoint(request: &Request) -> bool {
    let contents = request
        .messages
        .iter()
        .filter_map(|message| message.content.as_ref());
    contents.flat_map(Content::parts).any(|part| {
        part.extra
            .get(allowed_values::BREAKPOINT)
            .is_some_and(|mark| !mark.is_null())
    })
}

fn any(request: &Request, test: fn(&Message) -> bool) -> bool {
    request.messages.iter().any(test)
}

fn has_part(request: &Request, test: fn(&PartKind) -> bool) -> bool {
    let contents = request
        .messages
        .iter()
        .filter_map(|message| message.content.as_ref());
    contents
        .flat_map(Content::parts)
        .any(|part| test(&part.kind))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loggia_backend::{AbilitySet, KnownFields, SchemaEngine};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_schema_of_a_function_that_is_held_to_it_is_walked_beside_that_of_the_answer() {
        let parameters = json!({"type": "object", "properties": {"a": {"not": {}}}});
        let schema = json!({"type": "object"});
        let tools = json!([{"type": "function", "function": {"name": "f", "strict": true, "parameters": parameters}}]);
        let format = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
        let asked =
            json!({"model": "m", "messages": [], "tools": tools, "response_format": format});
        let abilities = [Ability::Tools, Ability::StrictTools, Ability::JsonSchema];
        let can = Abilities {
            can: AbilitySet::of(&abilities),
            schemas: SchemaEngine::Llguidance,
            ..Abilities::default()
        };
        let refused = settle(
            &mut serde_json::from_value(asked).unwrap(),
            &can,
            Strictness::Plain,
        )
        .unwrap_err();
        assert_eq!(
            refused.body().error.param.as_deref(),
            Some("tools[0].function.parameters"),
            "{refused:?}"
        );
    }

    #[test]
    fn a_bias_for_a_token_that_is_not_there_is_refused_and_lenient_drops_it() {
        let asked =
            json!({"model": "m", "messages": [], "logit_bias": {"5": 1, "1000": 1, "x": 1}});
        let can = Abilities {
            can: AbilitySet::of(&[Ability::LogitBias]),
            vocabulary: Some(1000),
            ..Abilities::default()
        };
        let mut request = serde_json::from_value::<Request>(asked).unwrap();
        let refused = settle(&mut request.clone(), &can, Strictness::Plain).unwrap_err();
        assert_eq!(
            refused.body().error.param.as_deref(),
            Some("logit_bias.1000")
        );
        let named = settle(&mut request, &can, Strictness::Lenient).unwrap();
        assert_eq!(named, ["logit_bias.1000", "logit_bias.x"]);
        assert_eq!(
            request.logit_bias.unwrap().into_keys().collect::<Vec<_>>(),
            ["5"]
        );
    }

    #[test]
    fn an_engine_that_may_know_other_words_gets_them_as_they_are() {
        let asked = json!({"model": "m", "messages": [], "verbosity": "chatty", "service_tier": "gold",
            "metadata": {"tags": ["a"]}, "prediction": {"type": "other"}});
        let mut request = serde_json::from_value(asked.clone()).unwrap();
        let can = Abilities {
            can: AbilitySet::OPENAI_ENGINE,
            ..Abilities::default()
        };
        assert!(
            settle(&mut request, &can, Strictness::Strict)
                .unwrap()
                .is_empty()
        );
        assert_eq!(serde_json::to_value(&request).unwrap(), asked);
        let refused = settle(&mut request, &Abilities::default(), Strictness::Strict).unwrap_err();
        assert_eq!(
            refused.body().error.code.as_deref(),
            Some("invalid_value"),
            "{refused:?}"
        );
    }

    #[test]
    fn a_field_that_the_engine_does_not_read_is_dropped_and_named_unless_the_client_asked_for_a_guarantee()
     {
        let fields = KnownFields {
            chat: Some(["model", "messages", "top_k"].map(str::to_owned).into()),
            ..KnownFields::default()
        };
        let can = Abilities {
            can: AbilitySet::OPENAI_ENGINE,
            fields: Some(Arc::new(fields)),
            ..Abilities::default()
        };
        let settled = |strictness, more: Value| {
            let mut asked = json!({"model": "m", "messages": [], "top_k": 1});
            asked
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            settle(
                &mut serde_json::from_value(asked).unwrap(),
                &can,
                strictness,
            )
        };
        let param = |refused: ApiError| refused.body().error.param;
        assert_eq!(
            settled(Strictness::Strict, json!({})).unwrap(),
            Vec::<String>::new()
        );
        let named = settled(
            Strictness::Plain,
            json!({"user": "u", "mistyped": 1, "options": {"top_k": 1}}),
        )
        .unwrap();
        assert_eq!(named, ["user", "mistyped", "options"]);
        let dropped = json!({"web_search_options": {}, "seed": 5, "reasoning_effort": "low"});
        let named = settled(Strictness::Plain, dropped).unwrap();
        assert_eq!(named, ["seed", "reasoning_effort", "web_search_options"]);
        let promised = json!({"response_format": {"type": "json_object"}});
        let refused = settled(Strictness::Plain, promised).unwrap_err();
        assert_eq!(param(refused).as_deref(), Some("response_format"));
        for (name, field) in [
            ("mistyped", json!({"mistyped": 1})),
            ("seed", json!({"seed": 1})),
        ] {
            assert_eq!(
                param(settled(Strictness::Strict, field).unwrap_err()).as_deref(),
                Some(name)
            );
        }
    }
}
