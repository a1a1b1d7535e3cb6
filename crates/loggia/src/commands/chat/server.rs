//! The server of a chat: the one given by `--server`, else the one that runs on this machine, else
//! one that the chat starts itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::uri::PathAndQuery;
use loggia_backend::http::{BaseUrl, Client, Key, Limits, Upstream, read};
use loggia_backend::openai::OpenAi;
use loggia_backend::{Backend as _, BackendError, ChatCall, Events};
use loggia_wire::openai::{ChatCompletionRequest, Model};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::backends::{Backends, ModelError};
use crate::cli::ChatArgs;
use crate::commands::serve::{self, OwnServer};
use crate::config::Config;

/// How long to wait for a connection before assuming that no server runs on this machine.
const HERE_WITHIN: Duration = Duration::from_secs(1);

/// The largest description of a model, in bytes.
const CARD_LIMIT: usize = 1 << 20;

/// A client of a server's HTTP API.
pub(super) struct Server {
    place: String,
    api: OpenAi,
    upstream: Upstream,
}

impl Server {
    /// Chooses the server and the first model: the server of `--server`, else the one at the
    /// configured address, else one that it starts itself.
    ///
    /// If the running server does not have the model, the chat starts its own server for it,
    /// provided that the model is on this machine or can be downloaded.
    pub(super) async fn find(
        args: &ChatArgs,
        config: Config,
        runtime: &Handle,
    ) -> anyhow::Result<(Self, String)> {
        let key = args.server_key.as_ref().map(|key| key.0.clone());
        let name = args.name.as_deref();
        if let Some(url) = &args.server {
            let url = url.clone().of_openai();
            let server = Self::at(url.base.clone(), url.to_string(), &config, key);
            return server.with(name).await;
        }
        let is_for_own_engine = config.names_no_backend();
        let own = match name.filter(|_| is_for_own_engine) {
            Some(name) => config.with_model(name),
            None => config,
        };
        if let Some(running) = Self::running(&own, key).await? {
            let Some(name) = name.filter(|_| is_for_own_engine) else {
                return running.with(name).await;
            };
            if !running.lacks(name).await || !can_be_had(&own, runtime) {
                return running.with(Some(name)).await;
            }
            eprintln!(
                "loggia: the server at {} does not have the model `{name}`; running it here for this chat",
                running.place
            );
        }
        let key = serve::random_key();
        let OwnServer { address, embedded } =
            serve::start_own_server(&own, &key, is_for_own_engine, runtime).await?;
        let server = Self::on(address, &own, Some(key.parse()?))?;
        // The model may have been configured by a path, but its name in requests is another.
        let only = embedded.first().filter(|_| is_for_own_engine);
        server.with(only.map(String::as_str).or(name)).await
    }

    /// The server at the configured address, if one runs.
    async fn running(config: &Config, key: Option<Key>) -> anyhow::Result<Option<Self>> {
        // No server runs at a host name that cannot be resolved.
        for address in config.listen.addresses().await.unwrap_or_default() {
            let listens = serve::reachable(address);
            if listens.port() != 0 && answers(listens).await {
                return Self::on(listens, config, key).map(Some);
            }
        }
        Ok(None)
    }

    async fn with(self, name: Option<&str>) -> anyhow::Result<(Self, String)> {
        let model = self.choose(name).await?;
        Ok((self, model))
    }

    /// Whether the server does not have this model. False if it cannot tell.
    async fn lacks(&self, name: &str) -> bool {
        let is_listed = match self.models().await {
            Ok(models) => models.iter().any(|model| model == name),
            Err(_) => return false,
        };
        // Lists do not contain aliases.
        !is_listed && self.card(name).await.is_none()
    }

    fn on(address: SocketAddr, config: &Config, key: Option<Key>) -> anyhow::Result<Self> {
        let place = format!("http://{address}");
        Ok(Self::at(place.parse()?, place, config, key))
    }

    fn at(url: BaseUrl, place: String, config: &Config, key: Option<Key>) -> Self {
        let limits = Limits {
            connect: config.connect_timeout.0,
            headers: config.headers_timeout.0,
            idle: config.idle_timeout.0,
        };
        let client = Client::new(limits);
        let upstream = Upstream::new(client.clone(), url.clone().or_v1(), key.clone());
        Self {
            place,
            api: OpenAi::new("loggia", client, url, key),
            upstream,
        }
    }

    /// Returns the server's address.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Returns the names of the server's models.
    pub(super) async fn models(&self) -> Result<Vec<String>, BackendError> {
        Ok(self
            .api
            .models()
            .await?
            .into_iter()
            .map(|model| model.id)
            .collect())
    }

    /// The model with this name; without a name, the first that can chat.
    pub(super) async fn choose(&self, name: Option<&str>) -> anyhow::Result<String> {
        let models = match self.models().await {
            Err(BackendError::Credentials { .. }) => anyhow::bail!(
                "the server at {} requires a valid API key; set LOGGIA_CHAT_KEY or use --key",
                self.place
            ),
            models => models.with_context(|| format!("the server at {}", self.place))?,
        };
        let Some(name) = name else {
            return self.first_that_chats(models).await;
        };
        if models.iter().any(|model| model == name) || self.card(name).await.is_some() {
            return Ok(name.to_owned());
        }
        anyhow::bail!(
            "the server at {} has no model `{name}`; it has: {}",
            self.place,
            models.join(", ")
        )
    }

    async fn first_that_chats(&self, models: Vec<String>) -> anyhow::Result<String> {
        for model in models {
            if self
                .card(&model)
                .await
                .is_none_or(|card| serve::can_chat(card.extra.get("capabilities")))
            {
                return Ok(model);
            }
        }
        anyhow::bail!(
            "the server at {} has no model that can chat; download one with `loggia pull`",
            self.place
        )
    }

    /// The server's description of a model. Servers other than Loggia may not have it.
    async fn card(&self, model: &str) -> Option<Model> {
        let path = format!("/models/{}", utf8_percent_encode(model, NON_ALPHANUMERIC));
        let uri = self
            .upstream
            .base()
            .join(&PathAndQuery::try_from(path).ok()?);
        let response = self.upstream.get(&uri).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        serde_json::from_slice(&read(response.into_body(), CARD_LIMIT).await.ok()?).ok()
    }

    /// Starts an answer.
    pub(super) async fn ask(
        &self,
        request: Arc<ChatCompletionRequest>,
    ) -> Result<Events, BackendError> {
        let call = ChatCall::new("chat", request);
        Ok(self.api.start(call.into()).await?.events)
    }
}

/// Whether the configured models are on this machine or can be downloaded.
fn can_be_had(config: &Config, runtime: &Handle) -> bool {
    let can = |missing: &ModelError| matches!(missing, ModelError::NotHere(..));
    Backends::of(config, None, runtime).is_ok_and(|all| all.missing.iter().all(|(_, why)| can(why)))
}

async fn answers(address: SocketAddr) -> bool {
    matches!(
        tokio::time::timeout(HERE_WITHIN, TcpStream::connect(address)).await,
        Ok(Ok(_))
    )
}
