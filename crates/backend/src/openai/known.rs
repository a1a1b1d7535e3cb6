//! The known properties of an engine's models: from its list of models, and from further endpoints
//! of some engines.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{Response, Uri};
use loggia_wire::openai::Model;
use serde_json::Value;

use super::llama_server;
use crate::http::{Body, Upstream, read};
use crate::{Abilities, Ability, AbilitySet, KnownFields};

/// How long the answers of the endpoints that describe the engine are cached (not longer, because
/// the engine may restart with another template or version).
const BELIEVED_FOR: Duration = Duration::from_mins(1);
/// The time limit for these requests. A chat waits for them.
const PATIENCE: Duration = Duration::from_secs(2);
/// The maximum size of the answers of these endpoints. vLLM's description of its API has about 300
/// KiB.
const TOLD_LIMIT: usize = 8 << 20;

/// Engines that describe their API in `/openapi.json`, as `FastAPI` generates it, by the `owned_by`
/// of their models.
const SELF_DESCRIBING: [&str; 4] = ["vllm", "sglang", "lmdeploy", "aphrodite"];

/// The path of the tokenizer, of vLLM and of llama-server.
const TOKENIZE: &str = "/tokenize";

/// The known properties of one model.
#[derive(Debug)]
pub(super) struct ModelProperties {
    pub(super) abilities: Arc<Abilities>,
    pub(super) llama_server: Option<llama_server::LlamaServerModel>,
    pub(super) tokenizer: Tokenizer,
}

/// The endpoints of an engine that count tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tokenizer {
    /// No known endpoint.
    None,
    /// vLLM's `/tokenize`, which accepts a chat.
    Chat(Uri),
    /// llama-server's endpoints: one that counts a chat, and for older versions one that renders it
    /// and one that tokenizes text.
    LlamaServer { apply_template: Uri, tokenize: Uri },
}

impl ModelProperties {
    /// Returns all abilities: the engine itself refuses what it cannot do.
    fn all(context_length: Option<u64>) -> Self {
        let abilities = Abilities {
            can: AbilitySet::OPENAI_ENGINE,
            context_length,
            ..Abilities::default()
        };
        Self {
            abilities: Arc::new(abilities),
            llama_server: None,
            tokenizer: Tokenizer::None,
        }
    }

    /// Returns all abilities, except those that these engines are known to lack: they parse the
    /// arguments of earlier calls as JSON.
    fn self_describing(
        context_length: Option<u64>,
        fields: Option<KnownFields>,
        tokenizer: Tokenizer,
    ) -> Self {
        let can = AbilitySet::OPENAI_ENGINE.without(Ability::TextArguments);
        let abilities = Abilities {
            can,
            context_length,
            fields: fields.map(Arc::new),
            ..Abilities::default()
        };
        Self {
            abilities: Arc::new(abilities),
            llama_server: None,
            tokenizer,
        }
    }

    fn of_llama_server(
        facts: llama_server::LlamaServerModel,
        context_length: Option<u64>,
        tokenizer: Tokenizer,
    ) -> Self {
        Self {
            abilities: Arc::new(facts.abilities(context_length)),
            llama_server: Some(facts),
            tokenizer,
        }
    }
}

/// A model of a list, and the answers of further endpoints.
#[derive(Debug)]
pub(super) struct Listed {
    kind: EngineKind,
    context_length: Option<u64>,
    told: Mutex<Option<(Instant, Arc<ModelProperties>)>>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, PartialEq)]
enum EngineKind {
    LlamaServer {
        props: Uri,
        apply_template: Uri,
        tokenize: Uri,
        model: String,
        facts: llama_server::LlamaServerModel,
    },
    SelfDescribing {
        description: Uri,
        tokenize: Uri,
    },
    Other,
}

impl Listed {
    pub(super) fn new(model: &Model, upstream: &Upstream) -> Self {
        // Paths outside of `/v1` belong to the engine only if no proxy adds a prefix.
        let beside = |path: String| -> Option<Uri> {
            let path = PathAndQuery::from_maybe_shared(path).ok()?;
            upstream
                .base()
                .is_v1()
                .then(|| upstream.base().root().join(&path))
        };
        let kind = if llama_server::is_one(model) {
            let props = beside(llama_server::properties_of(&model.id));
            let apply_template = beside(llama_server::APPLY_TEMPLATE.to_owned());
            let tokenize = beside(TOKENIZE.to_owned());
            let endpoints = props.zip(apply_template).zip(tokenize);
            endpoints.map(
                |((props, apply_template), tokenize)| EngineKind::LlamaServer {
                    props,
                    apply_template,
                    tokenize,
                    model: model.id.clone(),
                    facts: llama_server::LlamaServerModel::of(model),
                },
            )
        } else if SELF_DESCRIBING.contains(&model.owned_by.as_str()) {
            let endpoints = beside("/openapi.json".to_owned()).zip(beside(TOKENIZE.to_owned()));
            endpoints.map(|(description, tokenize)| EngineKind::SelfDescribing {
                description,
                tokenize,
            })
        } else {
            None
        };
        Self {
            kind: kind.unwrap_or(EngineKind::Other),
            context_length: model.extra.get("context_length").and_then(Value::as_u64),
            told: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Returns whether both entries of the list are equal.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.kind == other.kind && self.context_length == other.context_length
    }

    /// Returns the last known properties, whatever their age.
    pub(super) fn recall(&self) -> Option<Arc<ModelProperties>> {
        self.last().map(|(_, known)| known)
    }

    /// Returns the properties, and requests them again if they are old. If another task is
    /// requesting them, returns the old ones.
    pub(super) async fn known(&self, upstream: &Upstream) -> Arc<ModelProperties> {
        let asking = match (self.last(), self.asking.try_lock()) {
            (Some((at, known)), _) if at.elapsed() < BELIEVED_FOR => return known,
            (Some((_, known)), Err(_)) => return known,
            (_, Ok(asking)) => asking,
            (None, Err(_)) => self.asking.lock().await,
        };
        // Another task may have requested the properties during the wait.
        if let Some((at, known)) = self.last()
            && at.elapsed() < BELIEVED_FOR
        {
            return known;
        }
        let known = Arc::new(self.ask(upstream).await);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), Arc::clone(&known)));
        drop(asking);
        known
    }

    fn last(&self) -> Option<(Instant, Arc<ModelProperties>)> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn ask(&self, upstream: &Upstream) -> ModelProperties {
        match &self.kind {
            EngineKind::Other => ModelProperties::all(self.context_length),
            EngineKind::SelfDescribing {
                description,
                tokenize,
            } => {
                let description = tell(upstream, description).await;
                let tokenizes = description.as_ref().is_some_and(tokenizes_chats);
                ModelProperties::self_describing(
                    self.context_length,
                    description.as_ref().and_then(described_fields),
                    if tokenizes {
                        Tokenizer::Chat(tokenize.clone())
                    } else {
                        Tokenizer::None
                    },
                )
            }
            EngineKind::LlamaServer {
                props,
                apply_template,
                tokenize,
                model,
                facts,
            } => {
                let (mut facts, mut context_length) = (*facts, self.context_length);
                if let Some(props) = tell(upstream, props).await {
                    facts = facts.with_props(&props);
                    context_length = llama_server::context_of_a_slot(&props).or(context_length);
                    // A model that reports its properties is loaded.
                    if let Some(trial) = llama_server::trial(&props, model)
                        && let Some(rendered) = tell_of(upstream, apply_template, &trial).await
                    {
                        facts = facts.with_trial(&rendered);
                    }
                }
                let tokenizer = Tokenizer::LlamaServer {
                    apply_template: apply_template.clone(),
                    tokenize: tokenize.clone(),
                };
                ModelProperties::of_llama_server(facts, context_length, tokenizer)
            }
        }
    }
}

/// Requests JSON from the engine, with a time limit.
async fn tell(upstream: &Upstream, uri: &Uri) -> Option<Value> {
    told(upstream.get(uri)).await
}

/// Sends JSON to the engine and returns its JSON, with a time limit.
async fn tell_of(upstream: &Upstream, uri: &Uri, question: &Value) -> Option<Value> {
    let question = serde_json::to_vec(question).ok()?;
    told(upstream.post_json(uri, question.into(), "application/json", None)).await
}

async fn told(
    asked: impl Future<Output = Result<Response<Body>, crate::http::Error>>,
) -> Option<Value> {
    let told = async {
        let response = asked.await.ok()?;
        if response.status() != http::StatusCode::OK {
            return None;
        }
        let body = read(response.into_body(), TOLD_LIMIT).await.ok()?;
        serde_json::from_slice(&body).ok()
    };
    tokio::time::timeout(PATIENCE, told).await.ok().flatten()
}

/// Returns whether an engine's description of its API has vLLM's tokenizer of chats.
fn tokenizes_chats(description: &Value) -> bool {
    let has = |path: &str| description.pointer(path).is_some();
    has("/paths/~1tokenize") && has("/components/schemas/TokenizeChatRequest/properties/messages")
}

/// Returns the fields of requests in an engine's description of its API, plus those that Loggia
/// translates to others.
fn described_fields(description: &Value) -> Option<KnownFields> {
    let of = |name: &str, made_here: &[&str]| -> Option<BTreeSet<String>> {
        let fields = description
            .pointer(&format!("/components/schemas/{name}/properties"))?
            .as_object()?;
        Some(
            fields
                .keys()
                .map(String::as_str)
                .chain(made_here.iter().copied())
                .map(str::to_owned)
                .collect(),
        )
    };
    let chat = of("ChatCompletionRequest", &["functions", "function_call"])
        .filter(|fields| fields.contains("messages"));
    let completion = of("CompletionRequest", &[]).filter(|fields| fields.contains("prompt"));
    (chat.is_some() || completion.is_some()).then_some(KnownFields {
        chat,
        completion,
        embedding: None,
    })
}
