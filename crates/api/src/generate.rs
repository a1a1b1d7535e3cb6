//! Chats, completions and responses: parses the request, finds the model, calls the backend, writes
//! the answer.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_core::future::BoxFuture;
use futures_util::StreamExt;
use futures_util::future::Either;
use http::{Request, Response};
use loggia_backend::{
    Backend, BackendError, Call, CallHead, EarlyEnd, Event, PlaceInQueue, Profile, Reply, ServedBy,
};
use loggia_wire::openai::responses;
use serde_json::Value;
use tokio::time::Instant;

use crate::admit::ask::{Ask, Parse};
use crate::admit::{ParsedRequest, admit};
use crate::answer;
use crate::answer::collect::Collector;
use crate::answer::deadline::took_too_long;
use crate::answer::ended::{Outcome, Progress};
use crate::answer::headers::{
    self, event_stream, name_early_end, name_ignored, name_server, name_truncated, within,
};
use crate::answer::ignored::{add_listed, listed};
use crate::answer::stream::{
    AnswerEvents, EventStream, RefusedAnswer, StartedAnswer, StartingAnswer, WaitingAnswer,
};
use crate::answer::writer::{Head, Shape};
use crate::door::meter::tokens_of;
use crate::door::read;
use crate::fit::fit;
use crate::generated::Generate;
use crate::messages::apply_edits;
use crate::responses::compaction_plan::{Compacting, CompactionPlan, plan_compaction};
use crate::responses::server_tools::{self, ServerTools};
use crate::store::Owner;
use crate::stored::keep::{Keep, Keeping};
use crate::wording::{Dialect, Origins};
use crate::{ApiError, Body, Door, Ended, wording};

/// The initial capacity of the buffer for a complete answer: a short one. It grows if needed.
const FIRST_BUFFER: usize = 1000;

/// An admitted request.
pub(crate) struct Admitted {
    pub(crate) call: Call,
    pub(crate) head: Head,
    pub(crate) progress: Progress,
    /// The ignored fields, for `x-loggia-ignored`.
    pub(crate) ignored: String,
    /// The dropped parts of the input, for `x-loggia-truncated`.
    pub(crate) truncated: String,
    /// The data that is stored with the answer.
    pub(crate) keep: Option<Box<Keep>>,
    pub(crate) steps: Steps,
}

/// The steps of the server itself for an answer, beside calling the engine once.
#[derive(Default)]
pub(crate) struct Steps {
    /// The compaction before the answer.
    compaction: Option<Box<CompactionPlan>>,
    /// The tools that the server runs.
    tools: Option<Arc<ServerTools>>,
    /// The service tier that each piece of a chat reports.
    service_tier: Option<&'static str>,
}

/// Calls the engine. With a compaction, the engine writes a summary first; with tools that the
/// server runs, the reply continues over several calls.
pub(crate) fn start(
    backend: &Arc<dyn Backend>,
    call: Call,
    steps: Steps,
) -> BoxFuture<'_, Result<Reply, BackendError>> {
    let Steps {
        compaction,
        tools,
        service_tier,
    } = steps;
    if let Some(tier) = service_tier {
        let steps = Steps {
            compaction,
            tools,
            service_tier: None,
        };
        return Box::pin(async move {
            let reply = start(backend, call, steps).await?;
            Ok(told_tier(reply, tier))
        });
    }
    match (compaction, tools) {
        (None, None) => backend.start(call),
        (None, Some(tools)) => Box::pin(server_tools::start(Arc::clone(backend), call, tools)),
        (Some(compaction), tools) => Box::pin(async move {
            let (call, made) = match compaction.compact(&**backend, call).await? {
                Compacting::Done(call, made) => (call, made),
                Compacting::Paused(reply) => return Ok(reply),
            };
            let rest = Steps {
                tools,
                ..Steps::default()
            };
            let mut reply = start(backend, call, rest).await?;
            if let Some(made) = made {
                reply.events = made.before(reply.events);
            }
            Ok(reply)
        }),
    }
}

/// Makes each piece of a chat report its service tier, unless the engine reports it.
fn told_tier(mut reply: Reply, tier: &'static str) -> Reply {
    let told = move |event| match event {
        Ok(Event::Chunk(mut chunk)) => {
            let told = chunk.extra.entry("service_tier").or_insert(Value::Null);
            if told.is_null() {
                *told = tier.into();
            }
            Ok(Event::Chunk(chunk))
        }
        other => other,
    };
    reply.events = Box::pin(reply.events.map(told));
    reply
}

/// Takes the parts that are stored with the answer out of a request. Returns `None` if nothing is
/// stored.
fn keep<R: Generate>(
    door: &Door,
    asked: &mut ParsedRequest<R>,
) -> Result<Option<Box<Keep>>, ApiError> {
    // The ids of chats of the original profile are not unique.
    let has_ids = asked.head.profile == Profile::Openai
        || matches!(R::DIALECT, Dialect::Responses | Dialect::Messages);
    let Some(store) = door.store.as_ref().filter(|_| has_ids) else {
        return Ok(None);
    };
    // There is no other reference yet, so this does not copy.
    let request = Arc::make_mut(&mut asked.request);
    let Some(what) = request.take_stored(&asked.head.id)? else {
        return Ok(None);
    };
    let owner = Owner::new(asked.head.caller.clone());
    let request_id = asked.refusals.request_id();
    Ok(Some(Box::new(Keep::new(store, owner, request_id, what))))
}

/// The fields that are the same in every piece of an answer.
fn head_of<R: Generate>(head: &CallHead, request: &R) -> Head {
    Head {
        id: Arc::clone(&head.id),
        model: request.model().into(),
        profile: head.profile,
        shape: request.shape(),
        choices: request.choices(),
        include_usage: request.include_usage(),
    }
}

/// Admits a request and creates the call to the backend.
pub(crate) async fn admitted<R: Generate>(
    door: &Door,
    mut asked: ParsedRequest<R>,
) -> Result<Admitted, ApiError> {
    // Before anything else, because the request is stored as the client sent it.
    let keep = keep(door, &mut asked)?;
    if let Some(keep) = &keep {
        // Boxed, because this is rare: every request would reserve the memory for it.
        Box::pin(keep.check()).await?;
    }
    let mut ignored = admit(door, &mut asked).await?;
    apply_edits::apply(door, &mut asked).await?;
    let compaction = plan_compaction(door, &asked, &mut ignored).await?;
    let truncated = match &compaction {
        Some(_) => String::new(),
        None => fit(door, &mut asked, &mut ignored).await?,
    };
    let ParsedRequest {
        request,
        head,
        mut progress,
        report,
        service_tier,
        ..
    } = asked;
    let answer = head_of(&head, &*request);
    let is_chat = matches!(answer.shape, Shape::Chat(_));
    let tools = request.server_tools();
    let work = R::work(request);
    let tokens = || tokens_of(&work);
    if let Some(entering) = door.enter(&head, &answer.model, &tokens, report.as_ref()) {
        progress.hold(entering.await?);
    }
    Ok(Admitted {
        call: Call { head, work },
        head: answer,
        progress,
        ignored: listed(&ignored),
        truncated,
        keep,
        steps: Steps {
            compaction,
            tools,
            service_tier: service_tier.filter(|_| is_chat),
        },
    })
}

impl Door {
    /// `POST /v1/chat/completions`, `POST /v1/completions`, `POST /v1/messages`.
    ///
    /// This and the functions below are not `async fn`s: their futures would store the arguments
    /// twice, and the server holds one for each request that waits for an engine.
    pub(crate) fn generate<R, B>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Response<Body>> + Send
    where
        R: Generate + Parse,
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        async move {
            let read = read::json_body(&parts.headers, body, &self.policy).await;
            let parsed = read.and_then(|bytes| R::parse(&bytes, &self.policy));
            match parsed.map(|(request, profile)| ParsedRequest::new(self, parts, request, profile))
            {
                Ok(asked) => self.generated(asked).await,
                // The model, and therefore its profile, was not known before.
                Err(error) => self.refuse(error),
            }
        }
    }

    /// Answers a request that was parsed and checked.
    pub(crate) fn generated<R: Generate>(
        &self,
        asked: ParsedRequest<R>,
    ) -> impl Future<Output = Response<Body>> + Send {
        if asked.request.streams() {
            Either::Left(self.stream(asked))
        } else {
            Either::Right(self.whole(asked))
        }
    }

    fn whole<R: Generate>(
        &self,
        asked: ParsedRequest<R>,
    ) -> impl Future<Output = Response<Body>> + Send {
        let profile = asked.head.profile;
        let refusals = asked.refusals.clone();
        let model = asked.progress.model();
        async move {
            let mut ignored = String::new();
            let answered = {
                let answering = pin!(self.answer_whole(asked, &mut ignored));
                self.in_time(&refusals, answering).await
            };
            respond(answered, profile, &ignored).map(|body| body.about_model(model))
        }
    }

    fn answer_whole<R: Generate>(
        &self,
        asked: ParsedRequest<R>,
        ignored: &mut String,
    ) -> impl Future<Output = Result<Response<Body>, ApiError>> + Send {
        let refusals = asked.refusals.clone();
        async move {
            let (collecting, stored, truncated) = {
                let mut admitted = admitted(self, asked).await?;
                ignored.clone_from(&admitted.ignored);
                let truncated = std::mem::take(&mut admitted.truncated);
                let keep = admitted.keep.take();
                let stored = keep.map(|keep| Box::new((keep, admitted.head.clone())));
                (collect(&self.backend, admitted), stored, truncated)
            };
            let Whole {
                served_by,
                json,
                response,
                ended,
                ended_early,
            } = collecting.await.map_err(|error| refusals.refuse(error))?;
            if let Some(stored) = stored {
                let json = &json;
                // Boxed, because this is rare: every request would reserve the memory for it.
                Box::pin(async move {
                    let (keep, head) = *stored;
                    match response {
                        Some(mut response) => keep.store_response(&mut response).await,
                        None => keep.store_chat(&head, json).await,
                    }
                })
                .await?;
            }
            let mut response = headers::json(Body::ending(json, ended));
            add_listed(ignored, &ignored_late::<R>(&served_by));
            name_server(&mut response, &served_by);
            name_truncated(&mut response, &truncated);
            name_early_end(&mut response, ended_early);
            Ok(response)
        }
    }

    /// Streams an answer. The response begins with the first event, so that an error before it is a
    /// status code. After `heartbeat_after` it begins anyway, so that no client or proxy times out.
    async fn stream<R: Generate>(&self, mut asked: ParsedRequest<R>) -> Response<Body> {
        let (profile, refusals) = (asked.head.profile, asked.refusals.clone());
        let head = head_of(&asked.head, &*asked.request);
        let interrupt = asked.request.interrupt();
        let whole = self.policy.ceilings.whole_time;
        let until = whole.map(|time| (Instant::now() + time, time));
        let beats = self
            .policy
            .heartbeat_after
            .filter(|after| whole.is_none_or(|whole| *after < whole));
        let place = beats.map(|_| PlaceInQueue::default());
        asked.head.place.clone_from(&place);
        let mut beginning: StartingAnswer = Box::pin(self.clone().begin(asked));
        let Some(started) = within(beats.or(whole), &mut beginning).await else {
            if beats.is_none() {
                let overdue = took_too_long(whole.unwrap_or_default());
                let refused = refusals.refuse(overdue).under(profile).response();
                return refused.map(|body| body.about_model(Some(head.model)));
            }
            let every = self.policy.heartbeat_every;
            let waiting = WaitingAnswer {
                head,
                place: place.unwrap_or_default(),
            };
            let events = EventStream::beginning(beginning, waiting, every, refusals);
            return event_stream(Body::stream(events.until(until).under(interrupt)));
        };
        match started {
            Ok(StartedAnswer {
                ignored,
                truncated,
                served_by,
                events,
            }) => {
                let events = EventStream::answering(events, refusals);
                let mut response = event_stream(Body::stream(events.until(until).under(interrupt)));
                name_server(&mut response, &served_by);
                name_ignored(&mut response, &ignored);
                name_truncated(&mut response, &truncated);
                response
            }
            Err(RefusedAnswer { error, ignored }) => respond(Err(error), profile, &ignored)
                .map(|body| body.about_model(Some(head.model))),
        }
    }

    /// Calls the engine and waits for the first event with content.
    fn begin<R: Generate>(
        self,
        asked: ParsedRequest<R>,
    ) -> impl Future<Output = Result<StartedAnswer, RefusedAnswer>> + Send {
        let refusals = asked.refusals.clone();
        async move {
            let refused = |error| RefusedAnswer {
                error,
                ignored: String::new(),
            };
            let admitted = admitted(&self, asked).await.map_err(refused)?;
            let Admitted {
                call,
                head,
                mut progress,
                mut ignored,
                truncated,
                keep,
                steps,
            } = admitted;
            let started = async {
                let mut reply = start(&self.backend, call, steps).await?;
                progress.accepted(&reply.served_by);
                let first = reply.first_word().await?;
                Ok((reply, first))
            };
            let started: Result<_, BackendError> = started.await;
            match started {
                Ok((reply, first)) => {
                    add_listed(&mut ignored, &ignored_late::<R>(&reply.served_by));
                    Ok(StartedAnswer {
                        ignored,
                        truncated,
                        events: AnswerEvents {
                            keeping: keep
                                .map(|keep| {
                                    Keeping::new(keep, head.clone(), reply.served_by.clone())
                                })
                                .map(Box::new),
                            first,
                            writer: answer::writer(head, &reply.served_by),
                            events: reply.events,
                            progress,
                        },
                        served_by: reply.served_by,
                    })
                }
                Err(error) => Err(RefusedAnswer {
                    error: refusals.refuse(error),
                    ignored,
                }),
            }
        }
    }
}

/// Returns the fields that turned out to have no effect when the engine accepted the request, by
/// the client's names.
fn ignored_late<R: Ask>(served_by: &ServedBy) -> Vec<String> {
    let names = served_by.ignored.iter().cloned();
    let origins = Origins::default();
    names
        .map(|name| wording::param(R::DIALECT, &origins, name))
        .collect()
}

/// Returns a complete answer or an error, with the names of the ignored fields.
pub(crate) fn respond(
    answered: Result<Response<Body>, ApiError>,
    profile: Profile,
    ignored: &str,
) -> Response<Body> {
    let mut response = answered.unwrap_or_else(|error| error.under(profile).response());
    name_ignored(&mut response, ignored);
    response
}

/// A complete answer.
struct Whole {
    served_by: ServedBy,
    json: Bytes,
    /// The whole response as a value, if the answer is one.
    response: Option<Box<responses::Response>>,
    ended: Box<Ended>,
    ended_early: Option<EarlyEnd>,
}

fn collect(
    backend: &Arc<dyn Backend>,
    admitted: Admitted,
) -> impl Future<Output = Result<Whole, BackendError>> + Send {
    let Admitted {
        call,
        head,
        mut progress,
        ignored: _,
        truncated: _,
        keep: _,
        steps,
    } = admitted;
    let starting = start(backend, call, steps);
    async move {
        let mut reply = starting.await?;
        progress.accepted(&reply.served_by);
        let mut collector = Collector::new(&head);
        while let Some(event) = reply.events.next().await {
            let event = event?;
            progress.note(&event);
            collector.push(event)?;
        }
        let ended_early = collector.ended_early();
        let mut json = Vec::with_capacity(FIRST_BUFFER);
        let response = collector.write(&head, &reply.served_by, &mut json)?;
        Ok(Whole {
            served_by: reply.served_by,
            json: json.into(),
            response,
            ended: progress.end(Outcome::Complete),
            ended_early,
        })
    }
}
