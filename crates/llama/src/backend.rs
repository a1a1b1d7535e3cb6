//! The engine as a [`Backend`]: one model under one name, in the caller's process.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use loggia_backend::conversation::{Change, continuation};
use loggia_backend::{
    Abilities, Backend, BackendError, Call, CallHead, ChatCall, CompletionCall, Reply, ServedBy,
    TokenCount, Work,
};
use loggia_wire::openai::{ChatCompletionRequest, Model as ModelCard};
use tokio::sync::{OnceCell, Semaphore};

use crate::abilities;
use crate::blocking::run_by_size;
use crate::completion::{self, CompletionPrompt};
use crate::constrain::{self, CompiledConstraint};
use crate::deltas;
use crate::embed::{LlamaEmbedder, LlamaReranker};
use crate::engine::{Engine, Passage, Scope};
use crate::engine_options::EngineOptions;
use crate::error::{EngineError, LoadError};
use crate::events::Events;
use crate::gguf::{Gguf, Pooling};
use crate::grammar::{Grammars, Vocabulary};
use crate::identity;
use crate::media::{self, ProjectorThread};
use crate::model::Model;
use crate::options::{CacheScope, LlamaOptions};
use crate::processor;
use crate::request::{self, RequestSettings};
use crate::syntax::{Begins, Syntax};
use crate::template::{Conversation, Rendered, TemplateError};

/// The maximum number of prompts that are counted at the same time. Counting does not wait for the
/// engine, whose queue limits the chats, and a prompt may have megabytes.
const COUNTED_AT_ONCE: usize = 4;

/// Loads a model and starts the engine for its purpose: chats or embeddings. It blocks for seconds;
/// call it on a thread that may block.
///
/// # Errors
/// If the file cannot be loaded, or the model is for neither chats, embeddings nor reranking.
pub fn open(options: &LlamaOptions) -> Result<Arc<dyn Backend>, LoadError> {
    let kind = Pooling::of(&Gguf::read(&options.path)?);
    match kind.map_err(LoadError::kind(&options.path))? {
        Some(Pooling::Rank) => Ok(Arc::new(LlamaReranker::open(options)?)),
        Some(_) => Ok(Arc::new(LlamaEmbedder::open(options)?)),
        None => Ok(Arc::new(Llama::open(options)?)),
    }
}

/// The embedded backend of a chat model.
pub struct Llama {
    model: Arc<Model>,
    engine: Engine,
    /// The projector for images and sounds, if one is configured.
    media: Option<ProjectorThread>,
    served_by: ServedBy,
    abilities: Arc<Abilities>,
    card: ModelCard,
    /// The compiler of grammars. It is created for the first constrained answer.
    grammars: OnceCell<Grammars>,
    counting: Semaphore,
    cache_scope: CacheScope,
}

impl std::fmt::Debug for Llama {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Llama")
            .field("served_by", &self.served_by)
            .finish_non_exhaustive()
    }
}

/// A request, translated for the engine.
struct ChatPrompt {
    /// The input that the engine reads before it answers.
    passage: Passage,
    /// Whether the answer begins with text or with reasoning.
    begins: Begins,
    /// The changes that were made to the conversation because the model's template would not accept
    /// it unchanged.
    changed: Vec<Change>,
}

impl Llama {
    /// Loads a model and starts an engine for it. It blocks for seconds; call it on a thread that
    /// may block.
    pub fn open(options: &LlamaOptions) -> Result<Self, LoadError> {
        // The header is checked first, so that an invalid file does not cost the loading of
        // gigabytes.
        let projector = options
            .mmproj
            .as_deref()
            .map(Gguf::read_projector)
            .transpose()?;
        let model = Arc::new(Model::load(options)?);
        let media = ProjectorThread::of(options, &model)?;
        let can = media
            .as_ref()
            .map(ProjectorThread::facts)
            .unwrap_or_default();
        let batch = options.batch.max(can.rows_at_once);
        let engine = Engine::start(
            Arc::clone(&model),
            &LlamaOptions {
                batch,
                ..options.clone()
            },
        )?;
        let seen_with = projector
            .map(|projector| projector.identity())
            .unwrap_or_default();
        let served_by = identity::served_by(options, &[&model.facts.identity, &seen_with]);
        tracing::info!(
            model = options.name,
            context = engine.context(),
            parallel = options.parallel,
            threads = options.threads(),
            piece = options.piece,
            batch,
            devices = model.devices,
            instructions = processor::instructions(),
            images = can.images,
            audio = can.sample_rate.is_some(),
            "the embedded engine is ready"
        );
        let abilities = Arc::new(abilities::of(&model, engine.context(), can));
        let card = abilities::card(options, &model, &abilities);
        Ok(Self {
            model,
            engine,
            media,
            served_by,
            abilities,
            card,
            grammars: OnceCell::new(),
            counting: Semaphore::new(COUNTED_AT_ONCE),
            cache_scope: options.cache_scope,
        })
    }

    /// Whose cached prompts a call uses.
    fn scope(&self, head: &CallHead) -> Scope {
        match self.cache_scope {
            CacheScope::Server => None,
            CacheScope::Key => head.caller.clone(),
        }
    }

    fn check_name(&self, name: &str) -> Result<(), BackendError> {
        if *name == *self.served_by.model {
            Ok(())
        } else {
            Err(BackendError::model_not_found(name))
        }
    }

    async fn chat(&self, call: ChatCall) -> Result<Reply, BackendError> {
        self.check_name(&call.work.model)?;
        let syntax = constrain::syntax(&call.work, self.model.syntax);
        let options = EngineOptions::of(&call.work, self.engine.context())?;
        let ChatPrompt {
            passage,
            begins,
            changed,
        } = self.chat_prompt(&call, options.context).await?;
        let (constraint, ignored) = self
            .constrain(&call.head, &call.work, syntax, begins)
            .await?;
        let deltas = deltas::of(&call.work, &call.head.id, syntax, begins);
        let settings = RequestSettings {
            profile: call.head.profile,
            vocabulary: self.model.facts.vocabulary,
            options: &options,
            scope: self.scope(&call.head),
        };
        let generations = request::generations(&call.work, &settings, &passage, constraint)?;
        let answers = self
            .engine
            .generate(generations)
            .map_err(|error| error.to_backend_error())?;
        let served_by = ServedBy {
            changed,
            ignored,
            ..self.served_by.clone()
        };
        Ok(Reply {
            served_by,
            events: Box::pin(Events::new(
                answers,
                deltas,
                false,
                constrain::field(&call.work),
            )),
        })
    }

    /// Counts the prompt of a chat, which may be longer than the context. Computes nothing.
    async fn count(&self, call: ChatCall) -> Result<TokenCount, BackendError> {
        self.check_name(&call.work.model)?;
        // The semaphore is never closed, so this cannot fail.
        let _place = self.counting.acquire().await;
        let (count, changed) = match media::marked(&call.work).await? {
            None => {
                let count = |model: &Model, text: String| model.tokenize(&text).len();
                self.render_and(&call.work, usize::MAX, count).await?
            }
            Some(marked) => {
                let Some(media) = &self.media else {
                    return Err(marked.no_projector_error());
                };
                let whole = |_: &Model, text| text;
                let (text, changed) = self.render_and(&marked.request, usize::MAX, whole).await?;
                let scope = self.scope(&call.head);
                let count = media::count(media, &self.model, &marked, &text, &scope).await?;
                (count, changed)
            }
        };
        let served_by = ServedBy {
            changed,
            ..self.served_by.clone()
        };
        Ok(TokenCount::exact(count as u64, served_by))
    }

    async fn complete(&self, call: CompletionCall) -> Result<Reply, BackendError> {
        let request = call.work.as_chat();
        self.check_name(&request.model)?;
        let options = EngineOptions::of(&request, self.engine.context())?;
        let mut completion = self.completion_prompt(&call, options.context).await?;
        let prompt = std::mem::take(&mut completion.tokens).into();
        let text = Syntax::of_text();
        let (constraint, _) = self
            .constrain(&call.head, &request, text, Begins::Text)
            .await?;
        let settings = RequestSettings {
            profile: call.head.profile,
            vocabulary: self.model.facts.vocabulary,
            options: &options,
            scope: self.scope(&call.head),
        };
        let mut generations = request::generations(&request, &settings, &prompt, constraint)?;
        let is_scored = completion.apply_to(&call.work, &mut generations);
        let answers = self
            .engine
            .generate(generations)
            .map_err(|error| error.to_backend_error())?;
        let deltas = deltas::of_texts(
            request.choices(),
            if is_scored { "" } else { &completion.echo },
        );
        let events = Events::new(answers, deltas, is_scored, constrain::field(&request));
        Ok(Reply {
            served_by: self.served_by.clone(),
            events: Box::pin(events),
        })
    }

    /// Builds the prompt of a chat for a context of `context` tokens.
    async fn chat_prompt(
        &self,
        call: &ChatCall,
        context: usize,
    ) -> Result<ChatPrompt, BackendError> {
        let marked = media::marked(&call.work).await?;
        let Some(marked) = marked else {
            let (prompt, changed) = self
                .render_and(&call.work, context, |model, text| model.prompt(&text))
                .await?;
            return Ok(ChatPrompt {
                passage: prompt.tokens.into(),
                begins: prompt.begins,
                changed,
            });
        };
        let Some(media) = &self.media else {
            return Err(marked.no_projector_error());
        };
        let (text, changed) = self
            .render_and(&marked.request, context, |_, text| text)
            .await?;
        let scope = self.scope(&call.head);
        let passage = media::passage(media, &self.model, &marked, &text, &scope, context).await?;
        Ok(ChatPrompt {
            passage,
            begins: self.model.syntax.begins_after(&text),
            changed,
        })
    }

    /// Renders the conversation with the model's chat template, and passes the rendered text to
    /// `then`. Also returns the changes that the template needed.
    async fn render_and<T: Send + 'static>(
        &self,
        request: &Arc<ChatCompletionRequest>,
        context: usize,
        then: impl FnOnce(&Model, String) -> T + Send + 'static,
    ) -> Result<(T, Vec<Change>), BackendError> {
        let size: usize = request
            .messages
            .iter()
            .filter_map(|message| message.content.as_ref())
            .map(|content| content.joined_text().len())
            .sum();
        let (model, request) = (Arc::clone(&self.model), Arc::clone(request));
        let effort = deltas::effort(&request, model.syntax)?.map(str::to_owned);
        let render = move || {
            let (tools, effort) = (request::tools(&request), effort.as_deref());
            let messages = constrain::messages(&request, model.syntax);
            let tools = if model.syntax.knows_tools() {
                tools
            } else {
                Vec::new()
            };
            let now = jiff::Timestamp::now();
            let continues = continues(&request)?;
            let text = model.render(&Conversation {
                messages: &messages,
                tools: &tools,
                effort,
                continues,
                variables: &model.template_variables_of(&request.extra),
                now,
            });
            let Rendered { text, changed } = text.map_err(|error| explain_template(&error))?;
            if model.is_longer_for_sure(&text, context) {
                let context = Some(context as u64);
                return Err(BackendError::ContextLengthExceeded {
                    prompt_tokens: None,
                    context,
                });
            }
            Ok((then(&model, text), changed))
        };
        run_by_size(size, "the prompt", render).await
    }

    /// Tokenizes the text that a completion continues.
    async fn completion_prompt(
        &self,
        call: &CompletionCall,
        context: usize,
    ) -> Result<CompletionPrompt, BackendError> {
        let (model, request) = (Arc::clone(&self.model), Arc::clone(&call.work));
        run_by_size(completion::size(&request), "the prompt", move || {
            completion::prompt(&model, &request, context)
        })
        .await
    }

    /// Compiles the constraint of the answer. Also returns the names of the parts that were too
    /// complex to compile and are left out.
    async fn constrain(
        &self,
        head: &CallHead,
        request: &ChatCompletionRequest,
        syntax: Syntax,
        begins: Begins,
    ) -> Result<CompiledConstraint, BackendError> {
        let grammars = async || {
            let make = || grammars(Arc::clone(&self.model));
            self.grammars.get_or_try_init(make).await
        };
        constrain::constrain(request, head.strict, grammars, syntax, begins).await
    }
}

/// Builds the compiler of grammars for a model: scans the whole vocabulary, and builds a trie of
/// it.
async fn grammars(model: Arc<Model>) -> Result<Grammars, BackendError> {
    let make = move || {
        let words = model.words();
        let tokenize = Box::new(move |text: &str| model.tokenize_plain(text));
        let vocabulary =
            Vocabulary::new(words, Some(tokenize)).ok_or("its vocabulary is too large")?;
        Grammars::new(vocabulary)
    };
    let grammars = tokio::task::spawn_blocking(make).await;
    let grammars = grammars.unwrap_or_else(|_| Err("its vocabulary cannot be read".to_owned()));
    grammars.map_err(|what| BackendError::Engine {
        message: format!("this model does not support constrained answers: {what}"),
    })
}

impl Backend for Llama {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move { self.check_name(model).map(|()| Arc::clone(&self.abilities)) })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let Call { head, work } = call;
        match work {
            Work::Chat(work) => Box::pin(self.chat(ChatCall { head, work })),
            Work::Completion(work) => Box::pin(self.complete(CompletionCall { head, work })),
            other => Box::pin(std::future::ready(Err(other.unsupported()))),
        }
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        Box::pin(self.count(call))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, BackendError>> {
        Box::pin(async move { Ok(vec![self.card.clone()]) })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(async move {
            if self.engine.is_running() {
                Ok(())
            } else {
                Err(EngineError::Stopped.to_backend_error())
            }
        })
    }
}

/// Returns whether the answer continues the last message.
fn continues(request: &ChatCompletionRequest) -> Result<bool, BackendError> {
    if !continuation::is_requested(&request.extra) {
        return Ok(false);
    }
    let refused = |message: &str| BackendError::InvalidRequest {
        message: format!("Invalid '{}': {message}", continuation::CONTINUE),
        param: Some(continuation::CONTINUE.to_owned()),
        code: Some("invalid_value".to_owned()),
    };
    if !constrain::is_free(request) {
        return Err(refused(
            "an answer in a format, or of a required tool call, cannot continue a text.",
        ));
    }
    if continuation::beginning(&request.messages).is_none() {
        return Err(refused(
            "the last message must be text of the assistant, without tool calls.",
        ));
    }
    Ok(true)
}

fn explain_template(error: &TemplateError) -> BackendError {
    // The status is never 500: clients retry a 500, and the template would fail again.
    match error {
        TemplateError::Broken(what) => BackendError::InvalidRequest {
            message: format!(
                "This model's chat template cannot render any conversation: {what}. Use another model, or /v1/completions; the server's operator can load a file with a working template."
            ),
            param: Some("model".to_owned()),
            code: Some("chat_template_failed".to_owned()),
        },
        _ => BackendError::InvalidRequest {
            message: error.to_string(),
            param: Some("messages".to_owned()),
            code: None,
        },
    }
}
