//! [`Whisper`]: a model as a backend. One thread computes one recording after the other, with all
//! cores.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use loggia_backend::{
    Abilities, Ability, AbilitySet, AudioCall, AudioPiece, AudioReply, AudioTask, Backend,
    BackendError, Call, Content, Reply, ServedBy,
};
use loggia_wire::openai::{CompletionUsage, Model as Card};
use tokio::sync::mpsc;

use crate::answer;
use crate::engine::Engine;
use crate::error::{LoadError, Stopped};
use crate::load::{Files, Loaded, describe};
use crate::model::Model;
use crate::request::{Request, invalid};
use crate::sound::{self, Spectrum};
use crate::words::alignment_heads;

/// The most recordings that wait for the thread. A queue before this backend lets others wait.
const PLACES: usize = 8;
/// When a client that found no place may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct WhisperOptions {
    /// The name of the model.
    pub name: String,
    /// Its files.
    pub files: Files,
    /// The longest recording.
    pub longest: Duration,
}

/// A Whisper model that has been loaded. Dropping it ends its thread.
pub struct Whisper {
    jobs: mpsc::Sender<Job>,
    engine: Arc<Engine>,
    served_by: ServedBy,
    card: Card,
    abilities: Arc<Abilities>,
}

impl fmt::Debug for Whisper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Whisper")
            .field("served_by", &self.served_by)
            .finish_non_exhaustive()
    }
}

/// A recording, for the thread.
struct Job {
    request: Request,
    content: Content,
    to: mpsc::UnboundedSender<Result<Said, BackendError>>,
}

/// What the thread says about a recording.
enum Said {
    /// The answer has begun.
    Begun,
    Piece(AudioPiece),
}

impl Whisper {
    /// Loads a model. It blocks for seconds.
    ///
    /// # Errors
    /// If a file of the model is missing or invalid.
    pub fn open(options: &WhisperOptions) -> Result<Self, LoadError> {
        let WhisperOptions {
            name,
            files,
            longest,
        } = options;
        let Loaded {
            sizes,
            tokens,
            mut weights,
            alignment_heads: known,
        } = files.load()?;
        let model = Model::new(sizes, &mut weights)?;
        drop(weights);
        let is_head = |(layer, head): &(usize, usize)| {
            *layer < sizes.decoder_layers && *head < sizes.decoder_heads
        };
        let known = known.filter(|heads| !heads.is_empty() && heads.iter().all(is_head));
        let heads = known.unwrap_or_else(|| alignment_heads(&sizes, tokens.is_multilingual()));
        let spectrum = Spectrum::new(sizes.bands).map_err(|why| files.invalid(why.to_string()))?;
        let is_multilingual = tokens.is_multilingual();
        tracing::info!(
            model = name,
            ?sizes,
            is_multilingual,
            "a Whisper model is ready"
        );
        let engine = Arc::new(Engine {
            model,
            tokens,
            spectrum,
            alignment_heads: heads,
        });
        let (jobs, waiting) = mpsc::channel(PLACES);
        let (working, longest) = (Arc::clone(&engine), *longest);
        let thread = std::thread::Builder::new().name("whisper".to_owned());
        let thread = thread.spawn(move || work(&working, waiting, longest));
        thread.map_err(|why| files.invalid(format!("no thread can be started: {why}")))?;
        Ok(Self {
            jobs,
            engine,
            served_by: ServedBy::new("embedded", name),
            card: card(name, files, is_multilingual),
            abilities: Arc::new(Abilities {
                can: AbilitySet::default().without(Ability::Chat),
                ..Abilities::default()
            }),
        })
    }

    fn check_name(&self, name: &str) -> Result<(), BackendError> {
        if *name == *self.served_by.model {
            Ok(())
        } else {
            Err(BackendError::model_not_found(name))
        }
    }

    async fn answer(&self, call: AudioCall) -> Result<Option<AudioReply>, BackendError> {
        self.check_name(&call.work.model)?;
        let Some(request) = Request::of(&call.work.task, &self.engine.tokens) else {
            return Ok(None);
        };
        let (AudioTask::Transcribe(recording) | AudioTask::Translate(recording)) = call.work.task
        else {
            return Ok(None);
        };
        let request = request?;
        if let Some(name) = request.ignored.first().filter(|_| call.head.strict) {
            let message = format!("Unsupported parameter: '{name}' has no effect with this model.");
            return Err(invalid(name, "unsupported_parameter", message));
        }
        let served_by = ServedBy {
            ignored: request.ignored.clone(),
            ..self.served_by.clone()
        };
        let media_type = if request.stream {
            "text/event-stream"
        } else {
            answer::media_type(request.format)
        };
        let (to, mut said) = mpsc::unbounded_channel();
        let job = Job {
            request,
            content: recording.content,
            to,
        };
        self.jobs.try_send(job).map_err(|_| BackendError::Busy {
            retry_after: Some(RETRY_AFTER),
        })?;
        match said.recv().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(failed()),
        }
        let pieces = stream::poll_fn(move |cx| said.poll_recv(cx)).filter_map(|said| {
            std::future::ready(match said {
                Ok(Said::Piece(piece)) => Some(Ok(piece)),
                Ok(Said::Begun) => None,
                Err(error) => Some(Err(error)),
            })
        });
        Ok(Some(AudioReply {
            served_by,
            media_type: media_type.to_owned(),
            length: None,
            pieces: pieces.boxed(),
        }))
    }
}

impl Backend for Whisper {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let abilities = self.check_name(model).map(|()| Arc::clone(&self.abilities));
        Box::pin(std::future::ready(abilities))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(std::future::ready(Err(call.work.unsupported())))
    }

    fn audio(&self, call: AudioCall) -> BoxFuture<'_, Result<Option<AudioReply>, BackendError>> {
        Box::pin(self.answer(call))
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<Card>, BackendError>> {
        Box::pin(std::future::ready(Ok(vec![self.card.clone()])))
    }
}

/// The description of a model.
fn card(name: &str, files: &Files, is_multilingual: bool) -> Card {
    let mut card = Card::new(name, files.changed(), "embedded");
    describe(&mut card);
    let languages = if is_multilingual {
        "multilingual"
    } else {
        "english"
    };
    card.extra.insert("languages".to_owned(), languages.into());
    card
}

/// The thread: computes one recording after the other.
fn work(engine: &Engine, mut waiting: mpsc::Receiver<Job>, longest: Duration) {
    while let Some(job) = waiting.blocking_recv() {
        let to = job.to.clone();
        // A panic ends only this answer. Its message may quote the recording.
        let done = catch_unwind(AssertUnwindSafe(|| compute(engine, job, longest)));
        if done.is_err() {
            let _ = to.send(Err(failed()));
        }
    }
}

fn compute(engine: &Engine, job: Job, longest: Duration) {
    let Job {
        request,
        content,
        to,
    } = job;
    let goes_on = || !to.is_closed();
    if let Err(stopped) = transcribed(engine, &request, &content, longest, &goes_on, &to)
        && let Some(error) = error_of(&stopped)
    {
        let _ = to.send(Err(error));
    }
}

fn transcribed(
    engine: &Engine,
    request: &Request,
    content: &Content,
    longest: Duration,
    goes_on: &dyn Fn() -> bool,
    to: &mpsc::UnboundedSender<Result<Said, BackendError>>,
) -> Result<(), Stopped> {
    // Fails only if the client has left, which is noticed soon.
    let say = |said| drop(to.send(Ok(said)));
    let say_bytes = |bytes| say(Said::Piece(AudioPiece::Bytes(bytes)));
    let mut samples = sound::decode(content.reader(), longest, goes_on)?;
    if request.stream {
        say(Said::Begun);
    }
    let mut segments = Vec::new();
    let mut take = |segment| {
        if request.stream {
            say_bytes(answer::delta(
                &segment,
                segments.is_empty(),
                request,
                &engine.tokens,
            ));
        }
        segments.push(segment);
    };
    let summary = engine.transcribe(&mut samples, request, goes_on, &mut take)?;
    let usage = CompletionUsage::new(summary.read, summary.written);
    if request.stream {
        say(Said::Piece(AudioPiece::Usage(usage)));
        say_bytes(answer::done(request, &segments, &summary, &engine.tokens));
    } else {
        say(Said::Begun);
        say(Said::Piece(AudioPiece::Usage(usage)));
        say_bytes(answer::whole(request, &segments, &summary, &engine.tokens));
    }
    Ok(())
}

/// Returns the error for the client; none if it has left.
fn error_of(stopped: &Stopped) -> Option<BackendError> {
    match stopped {
        Stopped::Left => None,
        Stopped::Recording(why) => Some(invalid(
            "file",
            "invalid_file",
            format!("Invalid 'file': {why}."),
        )),
        Stopped::Format(why) => Some(invalid(
            "file",
            "unsupported_format",
            format!("Invalid 'file': {why}."),
        )),
        Stopped::Compute(_) | Stopped::Samples(_) => {
            tracing::error!(error = %stopped, "a recording was not transcribed");
            Some(failed())
        }
    }
}

fn failed() -> BackendError {
    BackendError::Engine {
        message: "the engine failed while it transcribed this recording; the server's log says why"
            .to_owned(),
    }
}
