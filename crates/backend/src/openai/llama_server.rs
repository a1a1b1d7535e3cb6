//! llama-server: the fields that it silently ignores, and what Loggia sends instead.
//!
//! It is recognised by the `owned_by` of its models. `GET /props` reports what the model's template
//! supports. The facts come from `tools/server/server-schema.cpp` and `server-common.cpp` and were
//! checked against build 11549.

use std::sync::{Arc, LazyLock};

use loggia_wire::openai::{
    ChatCompletionRequest, Content, JsonSchemaFormat, Message, Model, Part, PartKind,
    ResponseFormat, Tool,
};
use serde_json::{Value, json};

use crate::data_url::{self, DataUrl};
use crate::schema::{fitted, readable};
use crate::tool_calls::calling::{Calling, earlier_as_text};
use crate::{Abilities, Ability, AbilitySet, BackendError, KnownFields, OptionNames, SchemaEngine};

/// The `owned_by` of llama-server's models.
const OWNER: &str = "llamacpp";

/// The fields of a chat that llama-server reads, including its own. `functions` and `function_call`
/// are translated to tools before.
const CHAT_FIELDS: &[&str] = &[
    "add_generation_prompt",
    "chat_template_kwargs",
    "continue_final_message",
    "function_call",
    "functions",
    "json_schema",
    "max_completion_tokens",
    "messages",
    "parallel_tool_calls",
    "reasoning_effort",
    "response_format",
    "tool_choice",
    "tools",
    "top_logprobs",
];

/// The fields of a completion that llama-server reads and that a chat does not have.
const COMPLETION_FIELDS: &[&str] = &["best_of", "echo", "json_schema", "prompt", "suffix"];

/// The fields of an embeddings request that llama-server reads.
const EMBEDDING_FIELDS: &[&str] = &[
    "content",
    "dimensions",
    "embd_normalize",
    "encoding_format",
    "input",
    "model",
];

/// The fields of both chats and completions that llama-server reads.
const FIELDS: &[&str] = &[
    "adaptive_decay",
    "adaptive_target",
    "backend_sampling",
    "cache_prompt",
    "dry_allowed_length",
    "dry_base",
    "dry_multiplier",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "dynatemp_exponent",
    "dynatemp_range",
    "frequency_penalty",
    "grammar",
    "grammar_lazy",
    "grammar_triggers",
    "id_slot",
    "ignore_eos",
    "logit_bias",
    "logprobs",
    "lora",
    "max_tokens",
    "min_keep",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "model",
    "n",
    "n_cache_reuse",
    "n_cmpl",
    "n_discard",
    "n_indent",
    "n_keep",
    "n_predict",
    "n_probs",
    "parse_tool_calls",
    "post_sampling_probs",
    "presence_penalty",
    "preserved_tokens",
    "reasoning_budget_end_tag",
    "reasoning_budget_end_tags",
    "reasoning_budget_message",
    "reasoning_budget_start_tag",
    "reasoning_budget_tokens",
    "reasoning_control",
    "reasoning_format",
    "repeat_last_n",
    "repeat_penalty",
    "response_fields",
    "return_progress",
    "return_tokens",
    "samplers",
    "seed",
    "sse_ping_interval",
    "stop",
    "stream",
    "stream_options",
    "t_max_predict_ms",
    "temperature",
    "timings_per_token",
    "top_k",
    "top_n_sigma",
    "top_p",
    "typical_p",
    "verbose",
    "xtc_probability",
    "xtc_threshold",
];

/// The abilities that llama-server lacks or implements incorrectly. It treats a named function as
/// `auto`, and allows text before a forced call. It counts the tokens of only one choice and one
/// prompt, and has no more choices than slots. Depending on the version, it ignores or refuses
/// `echo`, `best_of` and `suffix`.
const WITHOUT: [Ability; 13] = [
    Ability::HostedFields,
    Ability::UnknownFields,
    Ability::EngineOptions,
    Ability::KeepAlive,
    Ability::Files,
    Ability::ToolChoice,
    Ability::SeveralChoices,
    Ability::SeveralPrompts,
    Ability::BestOf,
    Ability::Echo,
    Ability::PromptLogprobs,
    Ability::FillInTheMiddle,
    Ability::TextArguments,
];

/// Words in a template that show support for `reasoning_effort`. llama.cpp passes the effort to the
/// template, and `none` as a switch.
const EFFORT: [&str; 3] = ["reasoning_effort", "enable_thinking", "thinking"];

/// Returns whether a model in a list belongs to llama-server.
pub(super) fn is_one(model: &Model) -> bool {
    model.owned_by == OWNER
}

/// Returns the path of the properties of this model. A server with several models does not load it
/// for that.
pub(super) fn properties_of(model: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("model", model)
        .append_pair("autoload", "false");
    format!("/props?{}", query.finish())
}

/// The endpoint that renders a conversation without answering it.
pub(super) const APPLY_TEMPLATE: &str = "/apply-template";

/// The endpoint, under `/v1`, that counts the tokens of a chat. Older versions lack it.
pub(super) const INPUT_TOKENS: &str = "/chat/completions/input_tokens";

/// Returns the context size of one slot, from `GET /props`: what a prompt and its answer may have.
/// The list of models has only the size that the model was trained with, or that of all slots.
pub(super) fn context_of_a_slot(props: &Value) -> Option<u64> {
    let size = props.pointer("/default_generation_settings/n_ctx")?;
    size.as_u64().filter(|&size| size > 0)
}

/// The texts of the trial conversation, which do not occur in any template.
const TRIAL_SYSTEM: &str = "<trial of a system message>";
const TRIAL_QUESTION: &str = "<trial of a question>";

/// Returns a trial conversation with a later system message, for the server to render: templates
/// that look for a system message in the first message may silently drop the later one. Returns
/// `None` for other templates.
pub(super) fn trial(props: &Value, model: &str) -> Option<Value> {
    let template = props.get("chat_template")?.as_str()?;
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let messages = [
        message("user", "Hi"),
        message("assistant", "Hi"),
        message("system", TRIAL_SYSTEM),
        message("user", TRIAL_QUESTION),
    ];
    template
        .contains("messages[0]")
        .then(|| json!({"model": model, "messages": messages}))
}

/// The known properties of a model of llama-server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LlamaServerModel {
    /// The size of the model's vocabulary in tokens.
    vocabulary: Option<u64>,
    /// Whether the model's template supports tools.
    knows_tools: bool,
    /// Whether the model's template omits system messages that are not the first message.
    drops_later_system: bool,
    can: AbilitySet,
}

impl LlamaServerModel {
    /// Returns the properties from the list of models, for servers without `/props`. Without
    /// `/props`, it is assumed that the model knows tools.
    pub(super) fn of(model: &Model) -> Self {
        let vocabulary = model
            .extra
            .get("meta")
            .and_then(|meta| meta.get("n_vocab")?.as_u64());
        Self {
            vocabulary,
            knows_tools: true,
            drops_later_system: false,
            can: WITHOUT
                .into_iter()
                .fold(AbilitySet::OPENAI_ENGINE, AbilitySet::without),
        }
    }

    /// Adds the properties from `GET /props`. Older versions report fewer.
    pub(super) fn with_props(self, props: &Value) -> Self {
        let says = |path: &str| props.pointer(path).and_then(Value::as_bool);
        let cap = |name: &str| says(&format!("/chat_template_caps/{name}"));
        let template = props.get("chat_template").and_then(Value::as_str);
        let mentions = |template: &str| EFFORT.iter().any(|word| template.contains(word));
        let knows_tools =
            cap("supports_tools") != Some(false) && cap("supports_tool_calls") != Some(false);
        let lacks = [
            (Ability::StrictTools, !knows_tools),
            (Ability::Images, says("/modalities/vision") == Some(false)),
            (Ability::Audio, says("/modalities/audio") == Some(false)),
            (
                Ability::Reasoning,
                !template.is_none_or(mentions) && cap("supports_reasoning_effort") != Some(true),
            ),
        ];
        let lacks = lacks
            .into_iter()
            .filter(|(_, lacks)| *lacks)
            .map(|(ability, _)| ability);
        Self {
            knows_tools,
            can: lacks.fold(self.can, AbilitySet::without),
            ..self
        }
    }

    /// Adds the property that the server's rendering of [`trial`] shows.
    pub(super) fn with_trial(self, rendered: &Value) -> Self {
        let prompt = rendered.get("prompt").and_then(Value::as_str);
        let drops_later_system = prompt.is_some_and(|prompt| {
            prompt.contains(TRIAL_QUESTION) && !prompt.contains(TRIAL_SYSTEM)
        });
        Self {
            drops_later_system,
            ..self
        }
    }

    /// Returns whether the model would not see system messages that are not the first message.
    pub(super) fn drops_later_system(&self) -> bool {
        self.drops_later_system
    }

    /// Returns the abilities for this model.
    pub(super) fn abilities(&self, context_length: Option<u64>) -> Abilities {
        Abilities {
            can: self.can,
            context_length,
            schemas: SchemaEngine::LlamaCpp,
            options: OptionNames::None,
            vocabulary: self.vocabulary,
            fields: Some(Arc::clone(&KNOWN_FIELDS)),
            ..Abilities::default()
        }
    }

    /// Returns the capabilities of the model, in the words of the embedded engine and Ollama.
    pub(super) fn capabilities(&self) -> Vec<&'static str> {
        let all = [
            ("completion", true),
            ("tools", self.knows_tools),
            ("thinking", self.can.has(Ability::Reasoning)),
            ("vision", self.can.has(Ability::Images)),
            ("audio", self.can.has(Ability::Audio)),
            ("tool_choice", true),
            ("json_schema", true),
            ("grammar", true),
        ];
        all.into_iter()
            .filter(|(_, can)| *can)
            .map(|(name, _)| name)
            .collect()
    }

    /// Returns how to offer tools, if the model does not support them directly.
    pub(super) fn calling(&self, request: &ChatCompletionRequest) -> Option<Calling> {
        Calling::needed(request, self.knows_tools)
    }

    /// Returns the request with fields that the server would ignore rewritten, or `None` if there
    /// are none.
    pub(super) fn kept(&self, request: &ChatCompletionRequest) -> Option<ChatCompletionRequest> {
        let mut messages = if self.knows_tools {
            None
        } else {
            earlier_as_text(&request.messages)
        };
        if request.messages.iter().any(refuses) {
            messages
                .get_or_insert_with(|| request.messages.clone())
                .iter_mut()
                .for_each(refusal_as_content);
        }
        for (index, message) in request.messages.iter().enumerate() {
            let parts = message.content.iter().flat_map(Content::parts).enumerate();
            for (at, kind) in
                parts.filter_map(|(at, part)| Some((at, in_canonical_base64(&part.kind)?)))
            {
                let messages = messages.get_or_insert_with(|| request.messages.clone());
                if let Some(Content::Parts(parts)) = messages
                    .get_mut(index)
                    .and_then(|message| message.content.as_mut())
                    && let Some(part) = parts.get_mut(at)
                {
                    part.kind = kind;
                }
            }
        }
        let tools = request.tools.as_deref().and_then(readable_tools);
        (messages.is_some() || tools.is_some()).then(|| ChatCompletionRequest {
            messages: messages.unwrap_or_else(|| request.messages.clone()),
            tools: tools.or_else(|| request.tools.clone()),
            ..request.clone()
        })
    }

    /// # Errors
    /// Fails for the first token of `logit_bias` that the model does not have. The server would
    /// ignore it.
    pub(super) fn check<'a>(
        &self,
        mut tokens: impl Iterator<Item = &'a String>,
    ) -> Result<(), BackendError> {
        let Some(vocabulary) = self.vocabulary else {
            return Ok(());
        };
        let is_none = |token: &&String| !token.parse::<u64>().is_ok_and(|token| token < vocabulary);
        tokens.find(is_none).map_or(Ok(()), |token| {
            Err(BackendError::no_such_token(token, vocabulary))
        })
    }
}

static KNOWN_FIELDS: LazyLock<Arc<KnownFields>> = LazyLock::new(|| {
    let all = |some: &[&str], more: &[&str]| {
        Some(
            some.iter()
                .chain(more)
                .map(|&name| name.to_owned())
                .collect(),
        )
    };
    Arc::new(KnownFields {
        chat: all(FIELDS, CHAT_FIELDS),
        completion: all(FIELDS, COMPLETION_FIELDS),
        embedding: all(EMBEDDING_FIELDS, &[]),
    })
});

/// Rewrites an image or audio to canonical base64, the only form that the server reads completely:
/// it would stop at a line break. Returns `None` if it is canonical already.
fn in_canonical_base64(part: &PartKind) -> Option<PartKind> {
    match part {
        PartKind::ImageUrl { url, detail, extra } if data_url::is_data_url(url) => {
            let canonical = DataUrl::read(url)?.canonical();
            let (detail, extra) = (detail.clone(), extra.clone());
            (canonical != *url).then_some(PartKind::ImageUrl {
                url: canonical,
                detail,
                extra,
            })
        }
        PartKind::InputAudio {
            data,
            format,
            extra,
        } => {
            let canonical = data_url::canonical(&data_url::base64(data)?);
            let (format, extra) = (format.clone(), extra.clone());
            (canonical != *data).then_some(PartKind::InputAudio {
                data: canonical,
                format,
                extra,
            })
        }
        _ => None,
    }
}

/// Returns the tools with parameters that the server can read, or `None` if it can read all of
/// them.
fn readable_tools(tools: &[Tool]) -> Option<Vec<Tool>> {
    let parameters = |tool: &Tool| readable(tool.function.as_ref()?.parameters.as_ref()?);
    if tools.iter().all(|tool| parameters(tool).is_none()) {
        return None;
    }
    let mut tools = tools.to_vec();
    for tool in &mut tools {
        if let Some(written) = parameters(tool)
            && let Some(function) = &mut tool.function
        {
            function.parameters = Some(written);
        }
    }
    Some(tools)
}

/// Returns the schema in a form that the converter reads correctly, or `None` if it is in that
/// form.
pub(super) fn fitted_format(request: &ChatCompletionRequest) -> Option<ResponseFormat> {
    let Some(ResponseFormat::JsonSchema(format)) = &request.response_format else {
        return None;
    };
    let schema = format.schema.as_ref()?;
    let fitted = fitted(schema, SchemaEngine::LlamaCpp);
    (fitted != *schema).then(|| {
        ResponseFormat::JsonSchema(JsonSchemaFormat {
            schema: Some(fitted),
            ..format.clone()
        })
    })
}

/// Returns whether a message contains a refusal in a form that the server does not know.
fn refuses(message: &Message) -> bool {
    let is_refusal = |part: &Part| matches!(part.kind, PartKind::Refusal(_));
    message.refusal.is_some()
        || message
            .content
            .iter()
            .flat_map(Content::parts)
            .any(is_refusal)
}

/// Moves the refusal into the content of the message.
fn refusal_as_content(message: &mut Message) {
    if let Some(Content::Parts(parts)) = &mut message.content {
        for part in parts {
            if let PartKind::Refusal(text) = &mut part.kind {
                part.kind = PartKind::Text(std::mem::take(text));
            }
        }
    }
    if let Some(refusal) = message.refusal.take()
        && message.content.is_none()
    {
        message.content = Some(Content::Text(refusal));
    }
}
