//! A chat that is stored when its answer has ended: whole answers before they are sent, streams
//! before their last event. What cannot be stored is an error, never a silent loss.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use loggia_backend::{Event, Profile, ServedBy};
use loggia_wire::openai::ChatCompletionRequest;

use super::{chats, damaged, failed, log, metadata};
use crate::admit::Asked;
use crate::answer::collect::Collector;
use crate::answer::id;
use crate::answer::writer::Head;
use crate::generate::Generate;
use crate::store::{Item, Kind, Metadata, Object, Owner, StoreError};
use crate::{ApiError, Door, Store};

/// What of a request is to be stored with its answer.
pub(crate) struct ToStore {
    metadata: Metadata,
    messages: Vec<Item>,
}

impl ToStore {
    /// Takes what the door honours out of a chat: `store`, and the `metadata` of what is stored. The
    /// messages are kept as the client sent them.
    pub(crate) fn take_from(
        request: &mut ChatCompletionRequest,
        id: &str,
    ) -> Result<Option<Self>, ApiError> {
        if request.store != Some(true) {
            return Ok(None);
        }
        request.store = None;
        Ok(Some(Self {
            metadata: metadata::checked(request.metadata.take())?,
            messages: chats::stored(&request.messages, id)?,
        }))
    }
}

/// A chat that is to be stored once its answer has ended.
pub(crate) struct Keep {
    store: Arc<dyn Store>,
    owner: Owner,
    request_id: Option<Arc<str>>,
    what: ToStore,
}

impl Keep {
    /// Takes out of a request what is to be stored with its answer, if anything.
    pub(crate) fn of<R: Generate>(
        door: &Door,
        asked: &mut Asked<R>,
    ) -> Result<Option<Box<Self>>, ApiError> {
        // The ids of the original profile are not unique.
        let Some(store) = door
            .store
            .as_ref()
            .filter(|_| asked.head.profile == Profile::Openai)
        else {
            return Ok(None);
        };
        // Nobody else holds it yet, so nothing is copied.
        let request = Arc::make_mut(&mut asked.request);
        let Some(what) = request.take_stored(&asked.head.id)? else {
            return Ok(None);
        };
        Ok(Some(Box::new(Self {
            store: Arc::clone(store),
            owner: Owner::new(asked.head.caller.clone()),
            request_id: asked.refusals.request_id.clone(),
            what,
        })))
    }

    /// Checks that the store works, before a model does work that would be lost.
    pub(crate) async fn check(&self) -> Result<(), ApiError> {
        let ready = self.store.ready().await;
        ready.map_err(|error| self.refuse(&error))
    }

    /// Stores the answer, which is whole and JSON, with the messages of its request.
    pub(crate) async fn store(self, head: &Head, json: &[u8]) -> Result<(), ApiError> {
        let Self { what, .. } = &self;
        let object = Object {
            kind: Kind::ChatCompletion,
            id: head.id.to_string(),
            created: id::now(),
            model: Some(head.model.to_string()),
            metadata: what.metadata.clone(),
            body: String::from_utf8_lossy(json).into_owned(),
            previous: None,
            is_held: false,
        };
        let stored = self
            .store
            .create(&self.owner, object, what.messages.clone());
        stored.await.map_err(|error| self.refuse(&error))
    }

    fn refuse(&self, error: &StoreError) -> ApiError {
        log(error, self.request_id.as_deref());
        failed(error)
    }
}

/// A stream that is stored before its last event: collects its events as they go by.
pub(crate) struct Keeping {
    head: Head,
    served_by: ServedBy,
    state: State,
}

enum State {
    Collecting(Box<(Keep, Collector)>),
    Storing(BoxFuture<'static, Result<(), ApiError>>),
    Done,
    /// What was collected is no answer.
    Broken,
}

impl Keeping {
    pub(crate) fn new(keep: Keep, head: Head, served_by: ServedBy) -> Self {
        let collector = Collector::new(&head);
        Self {
            head,
            served_by,
            state: State::Collecting(Box::new((keep, collector))),
        }
    }

    pub(crate) fn note(&mut self, event: &Event) {
        if let State::Collecting(collecting) = &mut self.state
            && collecting.1.push(event.clone()).is_err()
        {
            self.state = State::Broken;
        }
    }

    /// Whether all events have gone by.
    pub(crate) fn is_storing(&self) -> bool {
        matches!(self.state, State::Storing(_) | State::Done)
    }

    /// Stores what was collected; called when there are no more events. An answer that was cut
    /// short is not stored: its writer reports it.
    pub(crate) fn poll_stored(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        if let State::Collecting(_) = self.state
            && let State::Collecting(collected) = std::mem::replace(&mut self.state, State::Done)
        {
            let (keep, collector) = *collected;
            let mut json = Vec::new();
            if collector
                .write(&self.head, &self.served_by, &mut json)
                .is_ok()
            {
                let head = self.head.clone();
                let storing = async move { keep.store(&head, &json).await };
                self.state = State::Storing(Box::pin(storing));
            }
        }
        match &mut self.state {
            State::Storing(storing) => {
                let stored = std::task::ready!(storing.as_mut().poll(cx));
                self.state = State::Done;
                Poll::Ready(stored)
            }
            State::Broken => Poll::Ready(Err(damaged())),
            State::Collecting(_) | State::Done => Poll::Ready(Ok(())),
        }
    }
}
