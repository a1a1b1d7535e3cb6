//! One chat, or one completion: parse, find, ask, answer. What only a completion needs is in
//! `completion.rs`.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use loggia_backend::{
    Ability, Backend, BackendError, Call, CallHead, EarlyEnd, Event, Events, Profile, ServedBy,
    Work, WorkKind,
};
use loggia_wire::openai::{
    ChatCompletionRequest, CompletionRequest, CompletionUsage, StreamOptions,
};
use tokio::time::Instant;

use crate::admit::chat;
use crate::admit::combinations::{self, settle_stream_options};
use crate::admit::completion;
use crate::admit::engine_options;
use crate::admit::fields;
use crate::admit::unpack_files;
use crate::answer::collect::Collector;
use crate::answer::encode::{Encoder, Head, Shape};
use crate::answer::headers::{name_early_end, name_ignored, name_server, refused, within};
use crate::answer::id;
use crate::answer::ignored::listed;
use crate::answer::stream::{Beginning, Begun, EventStream, NotBegun, Speech, took_too_long};
use crate::door::read;
use crate::{ApiError, Body, Caller, Door, Ended, Outcome, RequestId, Strictness};

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the buffer of a whole answer holds at first: a short one. It grows for a longer one.
const FIRST_BUFFER: usize = 1000;

/// What is asked.
enum Question {
    Chat(Arc<ChatCompletionRequest>),
    Completion(Arc<CompletionRequest>),
}

impl Question {
    fn model(&self) -> &str {
        match self {
            Self::Chat(request) => &request.model,
            Self::Completion(request) => &request.model,
        }
    }
}

/// A request that was read: everything about it but what its model can do.
struct Asked {
    question: Question,
    given: Given,
    request_id: Option<Arc<str>>,
}

/// What is given with a request.
struct Given {
    profile: Profile,
    strictness: Strictness,
    /// The name of the API key that the client used.
    caller: Option<Arc<str>>,
    /// The head of the client's request, where it goes along. Else it goes at once: what waits for
    /// an engine should hold little.
    forwarded: Option<Arc<Parts>>,
}

/// A request that was let in.
struct Admitted {
    call: Call,
    head: Head,
    /// What has no effect, for `x-loggia-ignored`.
    ignored: String,
}

impl Asked {
    fn new(door: &Door, parts: Parts, question: Question, profile: Profile) -> Self {
        let request_id = RequestId::of(&parts);
        let strictness = door.strictness_for(&parts, question.model());
        let caller = Caller::name_of(&parts);
        let forwarded = door.forwards_head.then(|| Arc::new(parts));
        Self {
            question,
            given: Given {
                profile,
                strictness,
                caller,
                forwarded,
            },
            request_id,
        }
    }

    fn streams(&self) -> bool {
        match &self.question {
            Question::Chat(request) => request.streams(),
            Question::Completion(request) => request.streams(),
        }
    }

    fn log(&self) -> Log {
        let is_chat = matches!(self.question, Question::Chat(_));
        Log {
            request_id: self.request_id.clone(),
            is_chat,
        }
    }
}

impl Door {
    /// `POST /v1/chat/completions`.
    pub(crate) async fn chat<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = read::json_body(&parts.headers, body, &self.policy).await;
        let parsed = read.and_then(|bytes| chat::parse_chat(&bytes, &self.policy));
        let asked = parsed
            .map(|(request, profile)| Asked::new(self, parts, Question::Chat(request), profile));
        self.answer_to(asked).await
    }

    /// `POST /v1/completions`.
    pub(crate) async fn complete<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = read::json_body(&parts.headers, body, &self.policy).await;
        let parsed = read.and_then(|bytes| completion::parse_completion(&bytes, &self.policy));
        let asked = parsed.map(|(request, profile)| {
            Asked::new(self, parts, Question::Completion(request), profile)
        });
        self.answer_to(asked).await
    }

    async fn answer_to(&self, asked: Result<Asked, ApiError>) -> Response<Body> {
        match asked {
            Ok(asked) if asked.streams() => self.stream(asked).await,
            Ok(asked) => self.whole(asked).await,
            // From before the model, and so its profile, was known.
            Err(error) => error.under(self.policy.profile).response(),
        }
    }

    /// Compares what is asked with what the model can do. Waits where the model has to be loaded to
    /// know.
    async fn admit(&self, asked: Asked) -> Result<Admitted, ApiError> {
        let log = asked.log();
        let Asked {
            question,
            given,
            request_id: _,
        } = asked;
        match question {
            Question::Chat(request) => self.admit_chat(request, given, &log).await,
            // Boxed, so that a chat does not carry the room for it.
            Question::Completion(request) => {
                Box::pin(self.admit_completion(request, given, &log)).await
            }
        }
    }

    async fn admit_chat(
        &self,
        mut shared: Arc<ChatCompletionRequest>,
        given: Given,
        log: &Log,
    ) -> Result<Admitted, ApiError> {
        let Given {
            profile,
            strictness,
            caller,
            forwarded,
        } = given;
        // Nobody else holds it yet, so nothing is copied.
        let request = Arc::make_mut(&mut shared);
        let mut ignored = combinations::settle(request, strictness)?;
        let can = self.abilities(&request.model).await;
        let can = can.map_err(|error| log.refused(error))?;
        if !can.has(Ability::Chat) {
            return Err(log.refused(BackendError::Unsupported {
                work: WorkKind::Chat,
            }));
        }
        unpack_files::unpack(request, &can)?;
        ignored.extend(fields::settle(request, &can, strictness)?);
        if let Some(options) = self.policy.options_of(&request.model)
            && can.has(Ability::EngineOptions)
        {
            engine_options::add(&mut request.extra, options);
        }
        if request.token_limit().is_none() {
            request.max_completion_tokens = self.policy.ceilings.answer_tokens.map(i64::from);
        }
        let head = Head {
            id: id::new(id::CHAT, profile),
            model: request.model.as_str().into(),
            profile,
            shape: Shape::Chat,
            choices: request.choices(),
            include_usage: wants_usage(request.stream_options.as_ref()),
        };
        let id = Arc::clone(&head.id);
        let call = Call {
            head: CallHead {
                id,
                caller,
                profile,
                forwarded,
            },
            work: Work::Chat(shared),
        };
        Ok(Admitted {
            call,
            head,
            ignored: listed(&ignored),
        })
    }

    async fn admit_completion(
        &self,
        mut shared: Arc<CompletionRequest>,
        given: Given,
        log: &Log,
    ) -> Result<Admitted, ApiError> {
        let Given {
            profile,
            strictness,
            caller,
            forwarded,
        } = given;
        let request = Arc::make_mut(&mut shared);
        let mut ignored =
            settle_stream_options(request.streams(), &mut request.stream_options, strictness)?;
        let can = self.abilities(&request.model).await;
        let can = can.map_err(|error| log.refused(error))?;
        if !can.has(Ability::Chat) {
            return Err(log.refused(BackendError::Unsupported {
                work: WorkKind::Completions,
            }));
        }
        ignored.extend(completion::settle(request, &can, strictness)?);
        if let Some(options) = self.policy.options_of(&request.model)
            && can.has(Ability::EngineOptions)
        {
            engine_options::add(&mut request.extra, options);
        }
        completion::limit(request);
        let head = Head {
            id: id::new(id::COMPLETION, profile),
            model: request.model.as_str().into(),
            profile,
            shape: Shape::Text {
                echoes: request.echoes(),
            },
            choices: request.prompts() * request.choices(),
            include_usage: wants_usage(request.stream_options.as_ref()),
        };
        let id = Arc::clone(&head.id);
        let call = Call {
            head: CallHead {
                id,
                caller,
                profile,
                forwarded,
            },
            work: Work::Completion(shared),
        };
        Ok(Admitted {
            call,
            head,
            ignored: listed(&ignored),
        })
    }

    async fn whole(&self, asked: Asked) -> Response<Body> {
        let (limit, profile, log) = (
            self.policy.ceilings.whole_time,
            asked.given.profile,
            asked.log(),
        );
        let mut ignored = String::new();
        let answered = {
            let mut answering = pin!(self.answer_whole(asked, &mut ignored));
            let overdue = || Err(log.refused(took_too_long(limit.unwrap_or_default())));
            within(limit, &mut answering).await.unwrap_or_else(overdue)
        };
        let mut response = answered.unwrap_or_else(|error| error.under(profile).response());
        name_ignored(&mut response, &ignored);
        response
    }

    async fn answer_whole(
        &self,
        asked: Asked,
        ignored: &mut String,
    ) -> Result<Response<Body>, ApiError> {
        let log = asked.log();
        let Admitted {
            call,
            head,
            ignored: without_effect,
        } = self.admit(asked).await?;
        *ignored = without_effect;
        let answered = answer_whole(&*self.backend, call, &head).await;
        let Whole {
            served_by,
            json,
            usage,
            ended_early,
        } = answered.map_err(|error| log.refused(error))?;
        let mut response = Response::new(Body::ending(
            json,
            Ended {
                outcome: Outcome::Complete,
                usage,
            },
        ));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        name_server(&mut response, &served_by);
        name_early_end(&mut response, ended_early);
        Ok(response)
    }

    /// A stream is begun when its first event is there: whatever goes wrong by then is a status
    /// code. Past `heartbeat_after` it is begun all the same, so that no client or proxy on the way
    /// gives up.
    async fn stream(&self, asked: Asked) -> Response<Body> {
        let (profile, log) = (asked.given.profile, asked.log());
        let mut beginning: Beginning = Box::pin(self.clone().begin(asked));
        let whole = self.policy.ceilings.whole_time;
        let until = whole.map(|time| (Instant::now() + time, time));
        let beats = self
            .policy
            .heartbeat_after
            .filter(|after| whole.is_none_or(|whole| *after < whole));
        let Some(begun) = within(beats.or(whole), &mut beginning).await else {
            if beats.is_none() {
                let overdue = took_too_long(whole.unwrap_or_default());
                return log.refused(overdue).under(profile).response();
            }
            let events = EventStream::beginning(
                beginning,
                profile,
                self.policy.heartbeat_every,
                log.request_id,
            );
            return event_stream(events.until(until));
        };
        match begun {
            Ok(Begun {
                ignored,
                served_by,
                speech,
            }) => {
                let mut response =
                    event_stream(EventStream::speaking(speech, log.request_id).until(until));
                name_server(&mut response, &served_by);
                name_ignored(&mut response, &ignored);
                response
            }
            Err(NotBegun { error, ignored }) => {
                let mut response = error.under(profile).response();
                name_ignored(&mut response, &ignored);
                response
            }
        }
    }

    /// Asks the engine, and waits for the first event that says something.
    async fn begin(self, asked: Asked) -> Result<Begun, NotBegun> {
        let log = asked.log();
        let admitted = self.admit(asked).await;
        let Admitted {
            call,
            head,
            ignored,
        } = admitted.map_err(|error| NotBegun {
            error,
            ignored: String::new(),
        })?;
        match first_event(&*self.backend, call).await {
            Ok((served_by, first, events)) => {
                let mut encoder = Encoder::new(head);
                encoder.served_by(&served_by);
                Ok(Begun {
                    ignored,
                    served_by,
                    speech: Speech {
                        first,
                        events,
                        encoder,
                    },
                })
            }
            Err(error) => Err(NotBegun {
                error: log.refused(error),
                ignored,
            }),
        }
    }
}

fn wants_usage(options: Option<&StreamOptions>) -> bool {
    options.and_then(|options| options.include_usage) == Some(true)
}

/// An answer that is all there.
struct Whole {
    served_by: ServedBy,
    json: Bytes,
    usage: Option<CompletionUsage>,
    ended_early: Option<EarlyEnd>,
}

async fn answer_whole(
    backend: &dyn Backend,
    call: Call,
    head: &Head,
) -> Result<Whole, BackendError> {
    let mut reply = backend.start(call).await?;
    let mut collector = Collector::new(head.choices);
    while let Some(event) = reply.events.next().await {
        collector.push(event?);
    }
    let ended_early = collector.ended_early();
    let mut json = Vec::with_capacity(FIRST_BUFFER);
    let (written, usage) = match head.shape {
        Shape::Chat => {
            let completion = collector.finish(head, &reply.served_by)?;
            (
                serde_json::to_writer(&mut json, &completion),
                completion.usage,
            )
        }
        Shape::Text { echoes } => {
            let completion = collector.finish_text(head, &reply.served_by, echoes)?;
            (
                serde_json::to_writer(&mut json, &completion),
                completion.usage,
            )
        }
    };
    written.map_err(|_| BackendError::Engine {
        message: "an answer that cannot be written as JSON".to_owned(),
    })?;
    Ok(Whole {
        served_by: reply.served_by,
        json: json.into(),
        usage,
        ended_early,
    })
}

/// Starts the answer, and waits until it has begun.
async fn first_event(
    backend: &dyn Backend,
    call: Call,
) -> Result<(ServedBy, Option<Event>, Events), BackendError> {
    let mut reply = backend.start(call).await?;
    let first = reply.first_word().await?;
    Ok((reply.served_by, first, reply.events))
}

/// What is needed to tell of a refusal.
struct Log {
    request_id: Option<Arc<str>>,
    is_chat: bool,
}

impl Log {
    /// Logs a refusal, once, without a word of the client's.
    fn refused(&self, error: BackendError) -> ApiError {
        let error = refused(error, self.request_id.as_deref());
        if self.is_chat {
            error
        } else {
            error.of_a_prompt()
        }
    }
}

fn event_stream(events: EventStream) -> Response<Body> {
    let mut response = Response::new(Body::stream(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx holds a stream back unless told not to.
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}
