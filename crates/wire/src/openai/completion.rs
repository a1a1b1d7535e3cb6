//! `POST /v1/completions`, the older way to ask: text to be continued, and what comes back.
//!
//! Types and names only, as in `request.rs`. Ranges are checked once, at the door (`loggia-api`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ChatCompletionRequest, CompletionUsage, FinishReason, Prompt, Stop, StreamOptions};
use crate::object::object;

object! {
    /// `CreateCompletionRequest`.
    pub struct CompletionRequest {
        /// The model's name or an alias of it.
        required model: String = "model",
        /// What is to be continued; where it is absent, a text from its beginning.
        optional prompt: Prompt = "prompt",
        /// What comes after the text that is asked for.
        optional suffix: String = "suffix",
        /// Whether the prompt is to stand before the text.
        optional echo: bool = "echo",
        /// The most tokens to generate; absent means 16.
        optional max_tokens: i64 = "max_tokens",
        /// 0 to 2.
        optional temperature: f64 = "temperature",
        /// 0 to 1.
        optional top_p: f64 = "top_p",
        /// How many texts to give for each prompt.
        optional n: i64 = "n",
        /// How many to make of which the best `n` are given.
        optional best_of: i64 = "best_of",
        /// Where to stop: one string or several.
        optional stop: Stop = "stop",
        /// −2 to 2.
        optional presence_penalty: f64 = "presence_penalty",
        /// −2 to 2.
        optional frequency_penalty: f64 = "frequency_penalty",
        /// The same seed, model and engine give the same text where the engine can.
        optional seed: i64 = "seed",
        /// Token id (as text) to a bias from −100 to 100.
        optional logit_bias: BTreeMap<String, f64> = "logit_bias",
        /// Asks for log-probabilities, and says of how many alternatives for each token: 0 to 5.
        optional logprobs: i64 = "logprobs",
        /// Whether to send the text as server-sent events; absent means no.
        optional stream: bool = "stream",
        /// What a stream carries besides the text.
        optional stream_options: StreamOptions = "stream_options",
        /// A label for the end user.
        optional user: String = "user",
    }
}

impl CompletionRequest {
    /// Whether the text is to be streamed.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether the prompt is to stand before the text.
    pub fn echoes(&self) -> bool {
        self.echo.unwrap_or(false)
    }

    /// What comes after the text, where something does: an empty suffix asks for nothing.
    pub fn suffix(&self) -> Option<&str> {
        self.suffix.as_deref().filter(|suffix| !suffix.is_empty())
    }

    /// How many prompts there are; one that is absent is one.
    pub fn prompts(&self) -> usize {
        self.prompt.as_ref().map_or(1, Prompt::count)
    }

    /// How many texts are wanted for each prompt; at least one.
    pub fn choices(&self) -> usize {
        self.n
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(1)
            .max(1)
    }

    /// How many texts are to be made for each prompt, the best of which are given; at least as many
    /// as are given.
    pub fn candidates(&self) -> usize {
        self.best_of
            .and_then(|best_of| usize::try_from(best_of).ok())
            .unwrap_or(0)
            .max(self.choices())
    }

    /// The fields that a chat request has too, as one without messages: what reads those reads
    /// these.
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
    /// `CreateCompletionResponse`: a whole one, or a chunk of a stream; they have one shape.
    pub struct Completion {
        /// `cmpl-…`.
        required id: String = "id",
        /// `text_completion`.
        required object: String = "object",
        /// Unix time in seconds.
        required created: u64 = "created",
        /// The name the client asked for.
        required model: String = "model",
        /// One text for each of `n` for each prompt, in the order of the prompts.
        required choices: Vec<CompletionChoice> = "choices",
        /// What it cost.
        optional usage: CompletionUsage = "usage",
        /// Changes when backend, weights or engine version change.
        optional system_fingerprint: String = "system_fingerprint",
    }
}

object! {
    /// One text, or more of it.
    pub struct CompletionChoice {
        /// The text.
        required text: String = "text",
        /// The prompt's number times `n`, plus the number among its texts.
        required index: u32 = "index",
        /// Log-probabilities, where asked for.
        nullable logprobs: CompletionLogprobs = "logprobs",
        /// Why it ended.
        nullable finish_reason: FinishReason = "finish_reason",
    }
}

/// Log-probabilities in the older shape: four lists of one length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CompletionLogprobs {
    /// The tokens; one that is no whole character is `bytes:\x…`.
    pub tokens: Vec<String>,
    /// The natural logarithm of each one's probability; none of the first token of an echoed
    /// prompt, which nothing comes before.
    pub token_logprobs: Vec<Option<f64>>,
    /// The likeliest tokens in the place of each, and the one that stands there.
    pub top_logprobs: Vec<Option<BTreeMap<String, f64>>>,
    /// Where each begins in the text, in characters.
    pub text_offset: Vec<u64>,
}
