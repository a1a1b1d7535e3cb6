//! Translates sampling fields to Ollama's `options`, for both profiles.

use loggia_wire::ollama::Options;
use loggia_wire::openai::ChatCompletionRequest;
use serde_json::Value;

use crate::Profile;

/// Ollama's options that clients send beside OpenAI's fields.
const TOP_LEVEL: [&str; 4] = ["top_k", "min_p", "repeat_penalty", "num_ctx"];

/// All options that Ollama supports. Ollama silently accepts any other option
/// (`fixtures/ollama/chat/option-unknown`).
pub(crate) const OPTIONS: &[&str] = &[
    "num_ctx",
    "num_predict",
    "seed",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_last_n",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
];

/// Translates OpenAI's sampling fields to Ollama's options. They take precedence over the same
/// settings in `options`.
pub(super) fn options(request: &ChatCompletionRequest, profile: Profile) -> Options {
    let mut options = match profile {
        Profile::Openai => as_openai_defines(request),
        Profile::Original => as_the_original_did(request),
    };
    options.num_predict = request.token_limit();
    options.seed = request.seed;
    options.stop = request
        .stop
        .as_ref()
        .map(|stop| stop.0.clone())
        .unwrap_or_default();
    add_others(&mut options, request);
    options
}

fn as_openai_defines(request: &ChatCompletionRequest) -> Options {
    Options {
        temperature: request.temperature,
        top_p: request.top_p,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        ..Options::default()
    }
}

/// Translates as the middleware of 2024 did: it halved OpenAI's scale from 0 to 2, sent OpenAI's
/// defaults, and took a seed as a request for identical answers.
fn as_the_original_did(request: &ChatCompletionRequest) -> Options {
    let temperature = match (request.seed, request.temperature) {
        (Some(_), _) => 0.0,
        (None, Some(temperature)) => temperature * 2.0,
        (None, None) => 1.0,
    };
    Options {
        temperature: Some(temperature),
        top_p: Some(request.top_p.unwrap_or(1.0)),
        presence_penalty: request.presence_penalty.map(|penalty| penalty * 2.0),
        frequency_penalty: request.frequency_penalty.map(|penalty| penalty * 2.0),
        ..Options::default()
    }
}

fn add_others(options: &mut Options, request: &ChatCompletionRequest) {
    if let Some(Value::Object(others)) = request.extra.get("options") {
        options.others.clone_from(others);
    }
    for name in TOP_LEVEL {
        if let Some(value) = request.extra.get(name).filter(|value| !value.is_null()) {
            options.others.insert(name.to_owned(), value.clone());
        }
    }
    options.others.retain(|_, value| !value.is_null());
    if options.others.is_empty() {
        return;
    }
    let named = Options {
        others: serde_json::Map::new(),
        ..options.clone()
    };
    if let Ok(Value::Object(named)) = serde_json::to_value(named) {
        options.others.retain(|name, _| !named.contains_key(name));
    }
}
