//! A server that is measured: one that this program starts for the model, or one at a URL.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use loggia_backend::http::{BaseUrl, Client, Key, Limits};
use loggia_backend::openai::OpenAi;
use loggia_backend::{Backend as _, ChatCall, Event};
use loggia_wire::openai::{ChatCompletionRequest, Model};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::commands::serve::{self, OwnServer};
use crate::config::{Config, Url};

/// The fields in which servers report the context of a request: Loggia, vLLM.
const CONTEXTS: [&str; 2] = ["context_length", "max_model_len"];

/// Common words, each one token in most vocabularies.
const WORDS: [&str; 24] = [
    "always", "never", "the", "user", "sea", "answer", "short", "long", "tool", "paper", "red",
    "blue", "ship", "stone", "river", "cloud", "green", "chair", "table", "window", "year", "city",
    "water", "house",
];

/// A server and one of its models.
pub(super) struct Server {
    /// The address that the user gave. `None` for the server of this program.
    place: Option<String>,
    model: String,
    context: Option<u64>,
    api: OpenAi,
}

/// An answer, with its times.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) begun: Instant,
    /// When the first token of the answer arrived.
    pub(super) first: Instant,
    pub(super) ended: Instant,
    /// The tokens of the prompt that the server did not have in its cache.
    pub(super) read: u64,
    /// The tokens of the answer.
    pub(super) written: u64,
    pub(super) text: String,
}

impl Server {
    /// Starts a server of this program for the model. Without a name, it is the configured one.
    pub(super) async fn own(
        name: Option<&str>,
        config: Config,
        runtime: &Handle,
    ) -> anyhow::Result<Self> {
        let is_for_own_engine = config.names_no_backend();
        let config = match name.filter(|_| is_for_own_engine) {
            Some(name) => config.with_model(name),
            None => config,
        };
        let key = serve::random_key();
        let OwnServer { address, embedded } =
            serve::start_own_server(&config, &key, is_for_own_engine, runtime).await?;
        let url: BaseUrl = format!("http://{address}").parse()?;
        let api = api("loggia", url, Some(key.parse()?), limits(&config));
        // The model may have been given by a path, but its name in requests is another.
        let only = embedded
            .first()
            .filter(|_| is_for_own_engine || name.is_none());
        let name = only.map(String::as_str).or(name);
        Self::with(api, None, name).await
    }

    /// A server that runs already. Without a model, it is the first in the server's list.
    pub(super) async fn at(
        url: &Url,
        key: Option<Key>,
        model: Option<&str>,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let url = url.clone().of_openai();
        let place = url.to_string();
        let api = api(&place, url.base, key, limits);
        let failed = || format!("the server at {place} cannot be measured");
        Self::with(api, Some(place.clone()), model)
            .await
            .with_context(failed)
    }

    async fn with(api: OpenAi, place: Option<String>, name: Option<&str>) -> anyhow::Result<Self> {
        let models = api.models().await?;
        let listed = match name {
            Some(name) => models.iter().find(|model| model.id == name),
            None => models.first(),
        };
        let name = name.or(listed.map(|model| model.id.as_str()));
        Ok(Self {
            model: name.context("it has no model")?.to_owned(),
            context: listed.and_then(context),
            place,
            api,
        })
    }

    /// The name of the model, and the address of another server.
    pub(super) fn title(&self) -> String {
        match &self.place {
            None => self.model.clone(),
            Some(place) => format!("{} at {place}", self.model),
        }
    }

    pub(super) fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    /// The maximum number of tokens of a request, if the server reports it.
    pub(super) fn context(&self) -> Option<u64> {
        self.context
    }

    /// Gets a first answer, for which the server may have to load the model.
    pub(super) async fn warm_up(&self) -> anyhow::Result<()> {
        self.ask("Hello.", 1, json!({})).await.map(drop)
    }

    /// Sends a prompt, and reads the answer of at most `tokens` tokens. `fields` are further fields
    /// of the request.
    pub(super) async fn ask(
        &self,
        prompt: &str,
        tokens: u64,
        fields: Value,
    ) -> anyhow::Result<Answer> {
        let mut body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0.7,
            "stream": true,
        });
        if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
            body.extend(fields);
        }
        let request: ChatCompletionRequest = serde_json::from_value(body)?;
        let begun = Instant::now();
        let call = ChatCall::new("bench", Arc::new(request));
        let mut events = self.api.start(call.into()).await?.events;
        let (mut first, mut text, mut usage) = (None, String::new(), None);
        while let Some(event) = events.next().await {
            match event? {
                Event::Chunk(chunk) => {
                    for delta in chunk.choices.into_iter().map(|choice| choice.delta) {
                        let reasoning = delta.reasoning_content.or(delta.reasoning);
                        if reasoning.is_some() || delta.content.is_some() {
                            first.get_or_insert_with(Instant::now);
                        }
                        text.push_str(&delta.content.unwrap_or_default());
                    }
                }
                Event::Usage(counted) => usage = Some(counted),
                _ => {}
            }
        }
        let ended = Instant::now();
        let usage = usage.context("the server does not report the tokens that it used")?;
        let details = usage.prompt_tokens_details.as_ref();
        let cached = details.map_or(0, |details| details.cached_tokens);
        Ok(Answer {
            begun,
            first: first.unwrap_or(ended),
            ended,
            read: usage.prompt_tokens.saturating_sub(cached),
            written: usage.completion_tokens,
            text,
        })
    }
}

/// A prompt of this number of words, and a number, that no server has in its cache.
pub(super) fn unseen(words: u64) -> String {
    let mut random = rand::rng();
    let mut text = format!("{:06}", random.random_range(0..1_000_000));
    for _ in 0..words {
        let _ = write!(text, " {}", WORDS[random.random_range(0..WORDS.len())]);
    }
    text
}

fn context(model: &Model) -> Option<u64> {
    CONTEXTS
        .iter()
        .find_map(|name| model.extra.get(*name).and_then(Value::as_u64))
}

/// A client of the server. Its errors call the server by this name.
fn api(name: &str, url: BaseUrl, key: Option<Key>, limits: Limits) -> OpenAi {
    OpenAi::new(name, Client::new(limits), url, key)
}

/// The configured limits for other servers.
pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        connect: config.connect_timeout.0,
        headers: config.headers_timeout.0,
        idle: config.idle_timeout.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_prompts_have_the_same_beginning() {
        let (one, other) = (unseen(50), unseen(50));
        assert_ne!(one[..24], other[..24]);
        assert_eq!(one.split(' ').count(), 51);
    }
}
