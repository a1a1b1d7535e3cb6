//! Lists the server's models and chooses one that fits a client.

use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;
use loggia_backend::http::{BaseUrl, Client as HttpClient, Key, Limits, Upstream, read};
use loggia_wire::openai::{Model, ModelList};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::clients::{Client, Needs, Target};
use crate::commands::serve;

/// How long to wait for a connection, and for the head of an answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The largest list of models, in bytes, and the most models whose descriptions are requested.
const LIST_LIMIT: usize = 8 << 20;
const DESCRIBED: usize = 100;

/// The fields in which engines report the size of a model's context: Loggia, vLLM and others.
const CONTEXTS: [&str; 4] = [
    "context_length",
    "max_model_len",
    "context_window",
    "max_context_length",
];

/// A client of a server's HTTP API.
pub(super) struct Server {
    base: BaseUrl,
    key: Option<Key>,
}

/// The target of a client, and warnings about it.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) target: Target,
    pub(super) warnings: Vec<String>,
}

/// The reason why the models could not be listed.
#[derive(Debug)]
enum ListError {
    Away(String),
    Key,
}

/// A model as the server describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    id: String,
    context: Option<u64>,
    capabilities: Option<Vec<String>>,
}

impl Server {
    pub(super) fn new(base: BaseUrl, key: Option<Key>) -> Self {
        Self { base, key }
    }

    /// Chooses a model: the named one, else the first that fits the client, else the first that can
    /// chat.
    pub(super) async fn choose(
        &self,
        named: Option<&str>,
        client: &Client,
    ) -> anyhow::Result<Choice> {
        let place = self.place();
        let needs_key = matches!(self.list(None).await, Err(ListError::Key));
        let listed = self.list(self.key.clone()).await;
        match (listed, named) {
            (Ok(models), _) => self.choose_from(&models, named, client, needs_key).await,
            (Err(why), Some(name)) => {
                let why = match why {
                    ListError::Away(why) => {
                        format!("the server at {place} cannot be reached ({why})")
                    }
                    ListError::Key => format!("the server at {place} requires a valid API key"),
                };
                let facts = Facts {
                    id: name.to_owned(),
                    ..Facts::default()
                };
                Ok(Choice {
                    target: self.target(facts, needs_key || self.key.is_some()),
                    warnings: vec![format!("{why}: the model `{name}` is not checked")],
                })
            }
            (Err(ListError::Away(why)), None) => anyhow::bail!(
                "the server at {place} cannot be reached ({why}); start it with `loggia serve`, name \
                 another with --url, or name the model with --model"
            ),
            (Err(ListError::Key), None) => anyhow::bail!(
                "the server at {place} requires a valid API key; set LOGGIA_CHAT_KEY, use --key, or \
                 name the model with --model"
            ),
        }
    }

    async fn choose_from(
        &self,
        models: &[Model],
        named: Option<&str>,
        client: &Client,
        needs_key: bool,
    ) -> anyhow::Result<Choice> {
        let place = self.place();
        let chosen = if let Some(name) = named {
            // Lists do not contain every alias.
            let listed = models.iter().find(|model| model.id == name);
            let Some(model) = self.described(name).await.or(listed.cloned()) else {
                let all: Vec<&str> = models.iter().map(|model| &*model.id).collect();
                anyhow::bail!(
                    "the server at {place} has no model `{name}`; it has: {}",
                    all.join(", ")
                );
            };
            Facts {
                id: name.to_owned(),
                ..Facts::of(&model)
            }
        } else {
            let mut all = Vec::new();
            // Another name of a model is not another model.
            let originals = models
                .iter()
                .filter(|model| !model.extra.contains_key("alias_of"));
            for model in originals.take(DESCRIBED) {
                let described = self.described(&model.id).await;
                all.push(described.as_ref().unwrap_or(model).clone());
            }
            match best(&all, &client.needs) {
                Some(facts) => facts,
                None => anyhow::bail!(
                    "the server at {place} has no model that can chat; download one with `loggia pull`"
                ),
            }
        };
        let lacks = chosen.lacks(&client.needs);
        let warnings = if lacks.is_empty() {
            Vec::new()
        } else {
            let whose = match named {
                Some(_) => format!("the model `{}`", chosen.id),
                None => format!("no model of {place} fits {}: `{}`", client.title, chosen.id),
            };
            let remedy = "another model, or a larger context (`loggia serve MODEL --context 64k --parallel 1`), is needed";
            vec![format!("{whose} {}; {remedy}", lacks.join(" and "))]
        };
        Ok(Choice {
            target: self.target(chosen, needs_key),
            warnings,
        })
    }

    fn target(&self, facts: Facts, needs_key: bool) -> Target {
        let has = |name: &str| {
            facts
                .capabilities
                .as_ref()
                .map(|all| all.iter().any(|one| one == name))
        };
        Target {
            base: self.place(),
            sees_images: has("vision") == Some(true),
            model: facts.id,
            context: facts.context,
            needs_key,
        }
    }

    /// The address without `/v1`.
    fn place(&self) -> String {
        let base = self.base.to_string();
        let base = base.trim_end_matches('/');
        base.strip_suffix("/v1").unwrap_or(base).to_owned()
    }

    async fn list(&self, key: Option<Key>) -> Result<Vec<Model>, ListError> {
        let (status, body) = self.get("/models", key).await.map_err(ListError::Away)?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(ListError::Key);
        }
        if !status.is_success() {
            return Err(ListError::Away(format!(
                "GET /v1/models is answered with {status}"
            )));
        }
        let list: Result<ModelList, _> = serde_json::from_slice(&body);
        let list = list.map_err(|_| {
            ListError::Away("the answer to GET /v1/models is not a list of models".to_owned())
        })?;
        Ok(list.data)
    }

    /// The server's description of a model. Servers other than Loggia may not have it.
    async fn described(&self, model: &str) -> Option<Model> {
        let path = format!("/models/{}", utf8_percent_encode(model, NON_ALPHANUMERIC));
        let (status, body) = self.get(&path, self.key.clone()).await.ok()?;
        let found = status.is_success().then(|| serde_json::from_slice(&body));
        found?.ok()
    }

    async fn get(&self, path: &str, key: Option<Key>) -> Result<(StatusCode, Vec<u8>), String> {
        let limits = Limits {
            connect: CONNECT_WITHIN,
            headers: ANSWER_WITHIN,
            idle: ANSWER_WITHIN,
        };
        let upstream = Upstream::new(HttpClient::new(limits), self.base.clone().or_v1(), key);
        let path = PathAndQuery::try_from(path).map_err(|error| error.to_string())?;
        let uri = upstream.base().join(&path);
        let response = upstream
            .get(&uri)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        let body = read(response.into_body(), LIST_LIMIT).await;
        let body = body.map_err(|error| error.to_string())?;
        Ok((status, body.to_vec()))
    }
}

impl Facts {
    fn of(model: &Model) -> Self {
        let number = |name: &&str| model.extra.get(*name).and_then(Value::as_u64);
        let context = CONTEXTS.iter().find_map(number);
        let capabilities = model.extra.get("capabilities").and_then(Value::as_array);
        let names = |all: &Vec<Value>| {
            all.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Self {
            id: model.id.clone(),
            context,
            capabilities: capabilities.map(names),
        }
    }

    /// Returns the abilities that the client needs and the model lacks.
    fn lacks(&self, needs: &Needs) -> Vec<String> {
        let mut lacks = Vec::new();
        let can = self.capabilities.as_deref();
        if needs.tools
            && can.is_some_and(|can| !can.is_empty() && !can.iter().any(|one| one == "tools"))
        {
            lacks.push("does not support tools".to_owned());
        }
        if let Some(context) = self.context.filter(|&context| context < needs.context) {
            lacks.push(format!(
                "has a context of {context} tokens, less than {}",
                needs.context
            ));
        }
        lacks
    }
}

/// The first model that fits; else the first of those that lack least.
fn best(models: &[Model], needs: &Needs) -> Option<Facts> {
    let chats = models
        .iter()
        .filter(|model| serve::can_chat(model.extra.get("capabilities")));
    chats
        .map(Facts::of)
        .min_by_key(|facts| facts.lacks(needs).len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(id: &str, extra: Value) -> Model {
        let mut model = Model::new(id, 0, "o");
        if let Value::Object(extra) = extra {
            model.extra.extend(extra);
        }
        model
    }

    const AGENT: Needs = Needs {
        tools: true,
        context: 32_000,
    };

    #[test]
    fn the_first_model_that_fits_is_chosen_else_the_one_that_lacks_least() {
        let embeds = model(
            "e",
            json!({"capabilities": ["embedding"], "context_length": 512}),
        );
        let small = model(
            "s",
            json!({"capabilities": ["completion"], "context_length": 4096}),
        );
        let short = model(
            "t",
            json!({"capabilities": ["completion", "tools"], "context_length": 4096}),
        );
        let fits = model(
            "f",
            json!({"capabilities": ["completion", "tools"], "max_model_len": 65536}),
        );
        let unknown = model("u", json!({}));
        let chosen = |models: &[&Model]| {
            let models: Vec<Model> = models.iter().map(|&model| model.clone()).collect();
            best(&models, &AGENT).map(|facts| facts.id)
        };
        assert_eq!(
            chosen(&[&embeds, &small, &short, &fits, &unknown]).as_deref(),
            Some("f")
        );
        assert_eq!(chosen(&[&embeds, &small, &short]).as_deref(), Some("t"));
        assert_eq!(chosen(&[&small, &unknown]).as_deref(), Some("u"));
        assert_eq!(chosen(&[&embeds]), None);
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn what_a_model_lacks_is_said_with_both_numbers() {
        let small = Facts::of(&model(
            "s",
            json!({"capabilities": ["completion"], "context_length": 4096}),
        ));
        assert_eq!(
            small.lacks(&AGENT),
            [
                "does not support tools",
                "has a context of 4096 tokens, less than 32000"
            ]
        );
        // An engine that reports nothing may well fit.
        assert!(Facts::default().lacks(&AGENT).is_empty());
    }
}
