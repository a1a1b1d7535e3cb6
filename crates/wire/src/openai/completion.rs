//! `POST /v1/completions`, the older endpoint that continues a text: the request and the answer.
//!
//! Types and names only, as in `request.rs`. `loggia-api` checks the ranges of the values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ChatCompletionRequest, CompletionUsage, FinishReason, Prompt, Stop, StreamOptions};
use crate::object::object;

object! {
    /// `CreateCompletionRequest`: the request of `POST /v1/completions`.
    pub struct CompletionRequest {
        /// The name or an alias of the model.
        required model: String = "model",
        /// The text to continue. If absent, the model generates a new text.
        optional prompt: Prompt = "prompt",
        /// The text after the gap that the model fills.
        optional suffix: String = "suffix",
        /// Whether the answer starts with the prompt.
        optional echo: bool = "echo",
        /// The maximum number of tokens to generate. Default: 16.
        optional max_tokens: i64 = "max_tokens",
        /// The temperature of the sampler, 0 to 2.
        optional temperature: f64 = "temperature",
        /// The probability mass for nucleus sampling, 0 to 1.
        optional top_p: f64 = "top_p",
        /// The number of texts per prompt.
        optional n: i64 = "n",
        /// The number of candidates per prompt. The answer contains the best `n` of them.
        optional best_of: i64 = "best_of",
        /// The stop strings: one or several.
        optional stop: Stop = "stop",
        /// The presence penalty, −2 to 2.
        optional presence_penalty: f64 = "presence_penalty",
        /// The frequency penalty, −2 to 2.
        optional frequency_penalty: f64 = "frequency_penalty",
        /// The seed of the sampler. The same seed, model and engine give the same text if the
        /// engine supports it.
        optional seed: i64 = "seed",
        /// A map from token id (as text) to bias, −100 to 100.
        optional logit_bias: BTreeMap<String, f64> = "logit_bias",
        /// Requests log-probabilities, with this number of alternatives per token, 0 to 5.
        optional logprobs: i64 = "logprobs",
        /// Whether to send the text as server-sent events. Default: no.
        optional stream: bool = "stream",
        /// Options of the stream.
        optional stream_options: StreamOptions = "stream_options",
        /// A label of the client for its end user.
        optional user: String = "user",
    }
}

impl CompletionRequest {
    /// Returns whether the client requested a stream.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Returns whether the answer starts with the prompt.
    pub fn echoes(&self) -> bool {
        self.echo.unwrap_or(false)
    }

    /// Returns the suffix. An empty suffix counts as absent.
    pub fn suffix(&self) -> Option<&str> {
        self.suffix.as_deref().filter(|suffix| !suffix.is_empty())
    }

    /// Returns the number of prompts. An absent prompt counts as one.
    pub fn prompts(&self) -> usize {
        self.prompt.as_ref().map_or(1, Prompt::count)
    }

    /// Returns the number of texts per prompt, at least 1.
    pub fn choices(&self) -> usize {
        self.n
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(1)
            .max(1)
    }

    /// Returns the number of candidates per prompt, at least [`choices`](Self::choices).
    pub fn candidates(&self) -> usize {
        self.best_of
            .and_then(|best_of| usize::try_from(best_of).ok())
            .unwrap_or(0)
            .max(self.choices())
    }

    /// Returns a chat request without messages that has the fields both endpoints share, so that
    /// code for chat requests can read them.
    pub fn as_chat(&self) -> ChatCompletionRequest {
        ChatCompletionRequest {
            model: self.model.clone(),
            messages: Vec::new(),
            stream: self.stream,
            stream_options: self.stream_options.clone(),
            max_tokens: self.max_tokens,
            max_completion_tokens: None,
            temperature: self.temperature,
            top_p: self.top_p,
            n: self.n,
            stop: self.stop.clone(),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed,
            logit_bias: self.logit_bias.clone(),
            logprobs: self.logprobs.map(|_| true),
            top_logprobs: self.logprobs,
            response_format: None,
            tools: None,
            tool_choice: None,
            parallel_tool_calls: None,
            functions: None,
            function_call: None,
            reasoning_effort: None,
            metadata: None,
            store: None,
            user: self.user.clone(),
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
            extra: self.extra.clone(),
        }
    }
}

object! {
    /// `CreateCompletionResponse`: a complete answer, or a chunk of a stream. Both have the same
    /// fields.
    pub struct Completion {
        /// The id, `cmpl-…`.
        required id: String = "id",
        /// Always `text_completion`.
        required object: String = "object",
        /// The creation time, as Unix time in seconds.
        required created: u64 = "created",
        /// The model name that the client sent.
        required model: String = "model",
        /// The texts: `n` per prompt, in the order of the prompts.
        required choices: Vec<CompletionChoice> = "choices",
        /// The number of tokens used.
        optional usage: CompletionUsage = "usage",
        /// Changes if the backend, the weights or the version of the engine change.
        optional system_fingerprint: String = "system_fingerprint",
    }
}

object! {
    /// A text, or a piece of it.
    pub struct CompletionChoice {
        /// The text.
        required text: String = "text",
        /// The number of the prompt times `n`, plus the number of the text among those of its
        /// prompt.
        required index: u32 = "index",
        /// The log-probabilities, if the client requested them.
        nullable logprobs: CompletionLogprobs = "logprobs",
        /// The reason why generation stopped.
        nullable finish_reason: FinishReason = "finish_reason",
    }
}

/// Log-probabilities in the older format: four lists of equal length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CompletionLogprobs {
    /// The tokens. A token that is not a complete character is written as `bytes:\x…`.
    pub tokens: Vec<String>,
    /// The natural logarithm of each token's probability. `None` for the first token of an echoed
    /// prompt, because no token precedes it.
    pub token_logprobs: Vec<Option<f64>>,
    /// The most probable tokens at each position, and the token that was chosen.
    pub top_logprobs: Vec<Option<BTreeMap<String, f64>>>,
    /// The position of each token in the text, in characters.
    pub text_offset: Vec<u64>,
}
