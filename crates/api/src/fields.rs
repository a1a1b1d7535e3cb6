//! What becomes of each field that a model's backend may not be able to honour: one table (`docs/dialects.md`, part 3).

use std::collections::BTreeSet;

use loggia_backend::{Abilities, Ability};
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletionRequest as Request, Content, Message, PartKind, ResponseFormat, Role, StreamOptions, Tool, ToolChoice,
};
use serde_json::Value;

use crate::{ApiError, Strictness, conversation, engine_options, misplaced, schema, words};

/// One thing that a request can ask for.
pub(crate) struct Field<R> {
    /// Its path, as `param` and `x-loggia-ignored` name it.
    pub(crate) name: &'static str,
    /// Whether this request asks for it. A field that is there but asks for nothing (`n: 1`, `modalities: ["text"]`) does not.
    asks: fn(&R) -> bool,
    /// What the backend must be able to do.
    needs: Needs,
    /// Takes it out of the request.
    drop: fn(&mut R),
}

/// What a field needs in order to be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The ability; without it the answer would be another, so the field is refused.
    Ability(Ability),
    /// A hosted service's ability; without it the field is a hint or a label that has no effect.
    Hint(Ability),
    /// The same, for what asks for nothing as it stands: it is named, and no ground for a refusal.
    Idle(Ability),
}

pub(crate) const fn refused<R>(name: &'static str, needs: Ability, asks: fn(&R) -> bool, drop: fn(&mut R)) -> Field<R> {
    Field { name, asks, needs: Needs::Ability(needs), drop }
}

pub(crate) const fn hint<R>(name: &'static str, needs: Ability, asks: fn(&R) -> bool, drop: fn(&mut R)) -> Field<R> {
    Field { name, asks, needs: Needs::Hint(needs), drop }
}

pub(crate) const fn idle<R>(name: &'static str, needs: Ability, asks: fn(&R) -> bool, drop: fn(&mut R)) -> Field<R> {
    Field { name, asks, needs: Needs::Idle(needs), drop }
}

/// Every field that some backend cannot honour. Those that all can (`messages`, `temperature`, `stop`, …) are not here.
pub(crate) static FIELDS: &[Field<Request>] = &[
    refused("tools", Ability::Tools, offers_tools, |r| r.tools = None),
    refused("functions", Ability::Tools, offers_functions, |r| r.functions = None),
    refused("tools[].type", Ability::HostedFields, |r| r.tools.iter().flatten().any(is_other), drop_other_tools),
    refused("tool_choice", Ability::ToolChoice, |r| r.tool_choice.is_some() && r.must_call(), |r| r.tool_choice = None),
    refused("function_call", Ability::ToolChoice, must_call_function, |r| r.function_call = None),
    refused("parallel_tool_calls", Ability::SingleToolCall, wants_single_call, |r| r.parallel_tool_calls = None),
    refused("response_format", Ability::JsonObject, |r| wants_format(r, false), |r| r.response_format = None),
    refused(
        "response_format.json_schema",
        Ability::JsonSchema,
        |r| wants_format(r, true),
        |r| r.response_format = None,
    ),
    refused(
        "logit_bias",
        Ability::LogitBias,
        |r| r.logit_bias.as_ref().is_some_and(|all| !all.is_empty()),
        |r| r.logit_bias = None,
    ),
    refused("logprobs", Ability::Logprobs, |r| r.logprobs == Some(true), drop_logprobs),
    refused("n", Ability::SeveralChoices, |r| r.choices() > 1, |r| r.n = None),
    refused("seed", Ability::Seed, |r| r.seed.is_some(), |r| r.seed = None),
    refused("reasoning_effort", Ability::Reasoning, wants_reasoning, |r| r.reasoning_effort = None),
    refused("messages[].content[].image_url", Ability::Images, |r| has_part(r, is_image), |r| drop_parts(r, is_image)),
    refused("messages[].content[].input_audio", Ability::Audio, |r| has_part(r, is_audio), |r| drop_parts(r, is_audio)),
    refused("messages[].content[].file", Ability::Files, |r| has_part(r, is_file), |r| drop_parts(r, is_file)),
    refused(
        "messages[].audio",
        Ability::HostedFields,
        |r| any(r, |m| m.audio.is_some()),
        |r| each(r, |m| m.audio = None),
    ),
    refused("audio", Ability::HostedFields, |r| wants_sound(r) && r.audio.is_some(), |r| r.audio = None),
    refused("modalities", Ability::HostedFields, wants_sound, |r| r.modalities = None),
    refused(
        "web_search_options",
        Ability::HostedFields,
        |r| r.web_search_options.is_some(),
        |r| r.web_search_options = None,
    ),
    refused("moderation", Ability::HostedFields, |r| r.moderation.is_some(), |r| r.moderation = None),
    refused("grammar", Ability::Grammar, wants_grammar, |r| {
        r.extra.remove("grammar");
    }),
    idle("audio", Ability::HostedFields, |r| r.audio.is_some() && !wants_sound(r), |_| ()),
    hint("max_tokens", Ability::HostedFields, has_an_outdone_limit, |r| r.max_tokens = None),
    hint("messages[].name", Ability::HostedFields, |r| any(r, has_idle_name), |_| ()),
    hint("messages[].content[].image_url.detail", Ability::HostedFields, |r| has_part(r, has_detail), |_| ()),
    hint("messages[].content[].prompt_cache_breakpoint", Ability::HostedFields, has_breakpoint, |_| ()),
    hint("tools[].function.strict", Ability::StrictTools, may_call_strict_tools, |_| ()),
    hint("functions[].strict", Ability::StrictTools, may_call_strict_functions, |_| ()),
    hint("response_format.json_schema.description", Ability::HostedFields, has_schema_description, |_| ()),
    hint("stream_options.include_obfuscation", Ability::HostedFields, wants_obfuscation, |_| ()),
    hint("metadata", Ability::HostedFields, |r| r.metadata.as_ref().is_some_and(|all| !all.is_empty()), |_| ()),
    hint("store", Ability::HostedFields, |r| r.store == Some(true), |_| ()),
    hint("user", Ability::HostedFields, |r| r.user.is_some(), |_| ()),
    hint("safety_identifier", Ability::HostedFields, |r| r.safety_identifier.is_some(), |_| ()),
    hint("prompt_cache_key", Ability::HostedFields, |r| r.prompt_cache_key.is_some(), |_| ()),
    hint("prompt_cache_retention", Ability::HostedFields, |r| r.prompt_cache_retention.is_some(), |_| ()),
    hint("prompt_cache_options", Ability::HostedFields, |r| r.prompt_cache_options.is_some(), |_| ()),
    hint("service_tier", Ability::HostedFields, wants_a_tier, |_| ()),
    hint("verbosity", Ability::HostedFields, |r| r.verbosity.as_deref().is_some_and(|v| v != "medium"), |_| ()),
    hint("prediction", Ability::HostedFields, |r| r.prediction.is_some(), |_| ()),
];

/// The most keywords of schemas that are left out of one request under `--lenient`.
const MOST_KEYWORDS_DROPPED: usize = 100;

/// Settles every field of a request: refuses, drops, or names it. Gives back the names of those without effect.
///
/// # Errors
/// `unsupported_parameter` for the first field that is refused.
pub(crate) fn settle(request: &mut Request, can: &Abilities, strictness: Strictness) -> Result<Vec<String>, ApiError> {
    if !can.has(Ability::UnknownFields) {
        words::check(request)?;
    }
    let known = can.chat_fields();
    if strictness == Strictness::Strict && !can.has(Ability::TextArguments) {
        conversation::check_arguments(&request.messages)?;
    }
    let mut ignored = settle_each(FIELDS, request, can, known, strictness)?;
    let mut dropped = 0;
    while let Some(unenforced) = schema::unenforced(request, can) {
        dropped += 1;
        // Each is looked for from the beginning: not without end.
        if strictness != Strictness::Lenient || dropped > MOST_KEYWORDS_DROPPED || !unenforced.drop_from(request) {
            return Err(unenforced.refusal());
        }
        ignored.push(unenforced.name());
    }
    if can.has(Ability::UnknownFields) {
        ignored.extend(settle_unread(&request.extra, known, strictness)?);
        return Ok(ignored);
    }
    engine_options::drop_unsaid(&mut request.extra);
    ignored.extend(engine_options::settle_outdone(request, can, strictness)?);
    let mut names = unknown(request);
    names.extend(request.messages.iter_mut().flat_map(misplaced::drop_from));
    request.messages.iter_mut().for_each(misplaced::say_refusal);
    ignored.extend(settle_unknown(names, &mut request.extra, can, known, strictness)?);
    Ok(ignored)
}

/// Settles the fields of a table: refuses, drops, or names each that is asked for in vain. `known` are the fields that the engine reads,
/// where that is known.
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
            Needs::Ability(ability) | Needs::Hint(ability) | Needs::Idle(ability)
                if can.has(ability) && is_read(field.name, known) =>
            {
                continue;
            }
            Needs::Ability(_) if strictness != Strictness::Lenient => return Err(ApiError::unsupported(field.name)),
            Needs::Hint(_) if strictness == Strictness::Strict => return Err(ApiError::unsupported(field.name)),
            _ => {}
        }
        (field.drop)(request);
        ignored.push(field.name.to_owned());
    }
    Ok(ignored)
}

/// Whether the engine reads the field that this path begins with. Where nobody knows, it may.
fn is_read(path: &str, known: Option<&BTreeSet<String>>) -> bool {
    let field = path.split(['.', '[']).next().unwrap_or(path);
    known.is_none_or(|known| known.contains(field))
}

/// Names, or refuses, the fields beside OpenAI's own that an engine does not read, where all that it reads is known.
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

/// Names, or refuses, the fields that OpenAI's API does not have and nobody here knows; `extra` are those beside OpenAI's own.
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
        // A grammar that asks for something was settled before.
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

/// The paths of the fields that OpenAI's API does not have, each once.
fn unknown(request: &Request) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = request.extra.keys().cloned().collect();
    let mut add = |place: &str, extra: &Extra| names.extend(extra.keys().map(|key| format!("{place}.{key}")));
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
                PartKind::InputAudio { extra, .. } => add("messages[].content[].input_audio", extra),
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
    // OpenAI's own, and settled before.
    names.remove("messages[].content[].prompt_cache_breakpoint");
    names
}

fn offers_tools(request: &Request) -> bool {
    let offered = request.tools.as_ref().is_some_and(|tools| !tools.is_empty());
    // A call that must be made needs no model that knows of tools: its answer is held to the call's schema.
    offered && request.tool_choice != Some(ToolChoice::None) && !request.must_call()
}

fn offers_functions(request: &Request) -> bool {
    let offered = request.functions.as_ref().is_some_and(|functions| !functions.is_empty());
    let choice = request.function_call.as_ref();
    offered && choice.and_then(Value::as_str) != Some("none") && !must_call_function(request)
}

fn must_call_function(request: &Request) -> bool {
    request.function_call.as_ref().is_some_and(Value::is_object)
}

/// A tool that is no function.
fn is_other(tool: &Tool) -> bool {
    tool.kind != "function" || tool.function.is_none()
}

fn drop_other_tools(request: &mut Request) {
    if let Some(tools) = &mut request.tools {
        tools.retain(|tool| !is_other(tool));
    }
}

/// Where both are there the newer wins.
fn has_an_outdone_limit(request: &Request) -> bool {
    request.max_tokens.is_some() && request.max_completion_tokens.is_some_and(|limit| request.max_tokens != Some(limit))
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

/// A model that cannot reason does not: `none` asks nothing of it.
fn wants_reasoning(request: &Request) -> bool {
    request.reasoning_effort.as_deref().is_some_and(|effort| effort != "none")
}

fn wants_sound(request: &Request) -> bool {
    request.modalities.iter().flatten().any(|modality| modality != "text")
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

/// Whether these fields beside OpenAI's own have a grammar that asks for something.
pub(crate) fn has_grammar(extra: &Extra) -> bool {
    extra.get("grammar").is_some_and(|grammar| !grammar.is_null() && grammar != "")
}

fn wants_a_tier(request: &Request) -> bool {
    request.service_tier.as_deref().is_some_and(|tier| tier != "auto" && tier != "default")
}

/// Where a call must be made, its arguments keep to the schema in any case.
fn may_call_strict_tools(request: &Request) -> bool {
    let mut functions = request.tools.iter().flatten().filter_map(|tool| tool.function.as_ref());
    offers_tools(request) && functions.any(|function| function.strict == Some(true))
}

/// OpenAI's API does not have it in the older form, where it means the same.
fn may_call_strict_functions(request: &Request) -> bool {
    offers_functions(request) && request.functions.iter().flatten().any(|function| function.strict == Some(true))
}

/// A name that no template shows: those of functions are how their results are told apart.
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

fn has_detail(part: &PartKind) -> bool {
    matches!(part, PartKind::ImageUrl { detail: Some(detail), .. } if detail != "auto")
}

fn has_breakpoint(request: &Request) -> bool {
    let contents = request.messages.iter().filter_map(|message| message.content.as_ref());
    contents.flat_map(Content::parts).any(|part| part.extra.get(words::BREAKPOINT).is_some_and(|mark| !mark.is_null()))
}

fn any(request: &Request, test: fn(&Message) -> bool) -> bool {
    request.messages.iter().any(test)
}

fn each(request: &mut Request, change: fn(&mut Message)) {
    request.messages.iter_mut().for_each(change);
}

fn has_part(request: &Request, test: fn(&PartKind) -> bool) -> bool {
    let contents = request.messages.iter().filter_map(|message| message.content.as_ref());
    contents.flat_map(Content::parts).any(|part| test(&part.kind))
}

fn drop_parts(request: &mut Request, test: fn(&PartKind) -> bool) {
    for message in &mut request.messages {
        if let Some(Content::Parts(parts)) = &mut message.content {
            parts.retain(|part| !test(&part.kind));
        }
    }
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
        let asked = json!({"model": "m", "messages": [], "tools": tools, "response_format": format});
        let abilities = [Ability::Tools, Ability::StrictTools, Ability::JsonSchema];
        let can =
            Abilities { can: AbilitySet::of(&abilities), schemas: SchemaEngine::Llguidance, ..Abilities::default() };
        let refused = settle(&mut serde_json::from_value(asked).unwrap(), &can, Strictness::Plain).unwrap_err();
        assert_eq!(refused.body().error.param.as_deref(), Some("tools[0].function.parameters"), "{refused:?}");
    }

    #[test]
    fn an_engine_that_may_know_other_words_gets_them_as_they_are() {
        let asked = json!({"model": "m", "messages": [], "verbosity": "chatty", "service_tier": "gold",
            "metadata": {"tags": ["a"]}, "prediction": {"type": "other"}});
        let mut request = serde_json::from_value(asked.clone()).unwrap();
        let can = Abilities { can: AbilitySet::ALL, ..Abilities::default() };
        assert!(settle(&mut request, &can, Strictness::Strict).unwrap().is_empty());
        assert_eq!(serde_json::to_value(&request).unwrap(), asked);
        let refused = settle(&mut request, &Abilities::default(), Strictness::Lenient).unwrap_err();
        assert_eq!(refused.body().error.code.as_deref(), Some("invalid_value"), "{refused:?}");
    }

    #[test]
    fn a_field_that_the_engine_does_not_read_is_named_or_refused_by_what_it_would_change() {
        let fields = KnownFields {
            chat: Some(["model", "messages", "top_k"].map(str::to_owned).into()),
            ..KnownFields::default()
        };
        let can = Abilities { can: AbilitySet::ALL, fields: Some(Arc::new(fields)), ..Abilities::default() };
        let settled = |strictness, more: Value| {
            let mut asked = json!({"model": "m", "messages": [], "top_k": 1});
            asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            settle(&mut serde_json::from_value(asked).unwrap(), &can, strictness)
        };
        let param = |refused: ApiError| refused.body().error.param;
        assert_eq!(settled(Strictness::Strict, json!({})).unwrap(), Vec::<String>::new());
        let named = settled(Strictness::Plain, json!({"user": "u", "mistyped": 1, "options": {"top_k": 1}})).unwrap();
        assert_eq!(named, ["user", "mistyped", "options"]);
        let refused = settled(Strictness::Plain, json!({"web_search_options": {}})).unwrap_err();
        assert_eq!(param(refused).as_deref(), Some("web_search_options"));
        let refused = settled(Strictness::Strict, json!({"mistyped": 1})).unwrap_err();
        assert_eq!(param(refused).as_deref(), Some("mistyped"));
    }
}
