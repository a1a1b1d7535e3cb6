//! Whom `loggia chat` talks to: the server that is named, the one that runs, or one of its own.

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
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::backends::{Backends, LocalError};
use crate::cli::ChatArgs;
use crate::config::Config;
use crate::serve::{self, Beside};

/// How long a server on this machine may take to accept a connection before none is taken to run.
const HERE_WITHIN: Duration = Duration::from_secs(1);

/// Characters of the key of a server of its own: some 190 bits.
const KEY_LENGTH: usize = 32;

/// The most bytes of what is told of one model.
const CARD_LIMIT: usize = 1 << 20;

/// A server, over its HTTP API.
pub(super) struct Server {
    place: String,
    api: OpenAi,
    upstream: Upstream,
}

impl Server {
    /// `--server`, else what listens where the configuration says, else one of its own with the
    /// configuration's backends; and the model to begin with.
    ///
    /// A model that the running server does not have is run by one of its own, where it is here or
    /// can be fetched.
    pub(super) async fn find(
        args: &ChatArgs,
        config: Config,
        runtime: &Handle,
    ) -> anyhow::Result<(Self, String)> {
        let key = args.key.as_ref().map(|key| key.0.clone());
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
                "loggia: the server at {} has no model `{name}`; it runs here for this chat",
                running.place
            );
        }
        // Nobody else on this machine can use it.
        let key: String = rand::rng()
            .sample_iter(Alphanumeric)
            .take(KEY_LENGTH)
            .map(char::from)
            .collect();
        let Beside { address, embedded } =
            serve::serve_beside(&own, &key, is_for_own_engine, runtime).await?;
        let server = Self::on(address, &own, Some(key.parse()?))?;
        // A file is named otherwise than the model in it.
        let only = embedded.first().filter(|_| is_for_own_engine);
        server.with(only.map(String::as_str).or(name)).await
    }

    /// The server that listens where the configuration says.
    async fn running(config: &Config, key: Option<Key>) -> anyhow::Result<Option<Self>> {
        // On a name that means nothing here nobody listens.
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

    /// Whether it lists its models, and not this one.
    async fn lacks(&self, name: &str) -> bool {
        let is_listed = match self.models().await {
            Ok(models) => models.iter().any(|model| model == name),
            Err(_) => return false,
        };
        // An alias is in no list.
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

    /// Its address.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The names of its models.
    pub(super) async fn models(&self) -> Result<Vec<String>, BackendError> {
        Ok(self
            .api
            .models()
            .await?
            .into_iter()
            .map(|model| model.id)
            .collect())
    }

    /// The model of this name, or the first one that can hold a chat.
    pub(super) async fn choose(&self, name: Option<&str>) -> anyhow::Result<String> {
        let models = self
            .models()
            .await
            .with_context(|| format!("the server at {}", self.place))?;
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
                .is_none_or(|card| serve::holds_chats(card.extra.get("capabilities")))
            {
                return Ok(model);
            }
        }
        anyhow::bail!(
            "the server at {} has no model that can chat; `loggia pull` fetches one",
            self.place
        )
    }

    /// What the server tells of one model, where it does. A server that is no Loggia may have a
    /// list alone.
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

/// Whether the embedded engine could run what this configuration names, once it is fetched.
fn can_be_had(config: &Config, runtime: &Handle) -> bool {
    let can = |missing: &LocalError| matches!(missing, LocalError::NotHere(..));
    Backends::of(config, runtime).is_ok_and(|all| all.missing.iter().all(|(_, why)| can(why)))
}

async fn answers(address: SocketAddr) -> bool {
    matches!(
        tokio::time::timeout(HERE_WITHIN, TcpStream::connect(address)).await,
        Ok(Ok(_))
    )
}
