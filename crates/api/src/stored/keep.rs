//! Stores an answer when it has ended: a complete answer before it is sent, a stream before its
//! last event. If that fails, the client gets an error.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::future::BoxFuture;
use loggia_backend::{Event, ServedBy};
use loggia_wire::openai::ChatCompletionRequest;
use loggia_wire::openai::responses::Response;

use super::{chats, damaged, failed, log, metadata};
use crate::answer::collect::Collector;
use crate::answer::id;
use crate::answer::writer::{Head, Writer};
use crate::messages::thread::Thread;
use crate::responses::turn::Turn;
use crate::store::{Change, Item, Kind, Metadata, Object, Owner, StoreError};
use crate::{ApiError, Store, webhooks};

/// The parts of a request that are stored together with its answer.
pub(crate) enum ToStore {
    /// The metadata and the messages of a chat.
    Chat(Metadata, Vec<Item>),
    /// The turn of a response.
    Response(Turn),
    /// The thread of a message of Anthropic's API.
    Message(Thread),
}

impl ToStore {
    /// Takes `store` and `metadata` out of a chat, and copies its messages as the client sent them.
    /// Returns `None` if the chat is not stored.
    pub(crate) fn of_chat(
        request: &mut ChatCompletionRequest,
        id: &str,
    ) -> Result<Option<Self>, ApiError> {
        if request.store != Some(true) {
            return Ok(None);
        }
        request.store = None;
        Ok(Some(Self::Chat(
            metadata::checked(request.metadata.take())?,
            chats::stored(&request.messages, id)?,
        )))
    }
}

/// Stores an answer once it has ended.
pub(crate) struct Keep {
    store: Arc<dyn Store>,
    owner: Owner,
    request_id: Option<Arc<str>>,
    what: ToStore,
}

impl Keep {
    /// Creates the value that stores the answer of this caller.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        owner: Owner,
        request_id: Option<Arc<str>>,
        what: ToStore,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            owner,
            request_id,
            what,
        }
    }

    /// Checks the store before the model starts, so that no finished answer is lost.
    pub(crate) async fn check(&self) -> Result<(), ApiError> {
        let ready = self.store.ready().await;
        ready.map_err(|error| self.refuse(&error))
    }

    /// Stores a complete chat or a message of a thread, as JSON, with the messages of its request.
    pub(crate) async fn store_chat(
        self: Box<Self>,
        head: &Head,
        json: &[u8],
    ) -> Result<(), ApiError> {
        let (metadata, messages) = match &self.what {
            ToStore::Chat(metadata, messages) => (metadata, messages),
            ToStore::Message(thread) => return self.write(vec![thread.end(head, json)?]).await,
            ToStore::Response(_) => return Err(damaged()),
        };
        let object = Object {
            kind: Kind::ChatCompletion,
            id: head.id.to_string(),
            created: id::now(),
            model: Some(head.model.to_string()),
            metadata: metadata.clone(),
            body: String::from_utf8_lossy(json).into_owned(),
            previous: None,
            is_held: false,
        };
        let items = messages.clone();
        self.write(vec![Change::Create { object, items }]).await
    }

    /// Stores a response that has ended, with its input.
    pub(crate) async fn store_response(
        self: Box<Self>,
        response: &mut Response,
    ) -> Result<(), ApiError> {
        let ToStore::Response(turn) = &self.what else {
            return Err(damaged());
        };
        self.write(turn.end(response)?).await?;
        turn.was_stored();
        Ok(())
    }

    /// Returns the turn of a response.
    pub(crate) fn turn(&self) -> Option<&Turn> {
        match &self.what {
            ToStore::Response(turn) => Some(turn),
            ToStore::Chat(..) | ToStore::Message(_) => None,
        }
    }

    pub(crate) async fn write(&self, changes: Vec<Change>) -> Result<(), ApiError> {
        if changes.is_empty() {
            return Ok(());
        }
        let stored = self.store.write(&self.owner, changes).await;
        stored.map_err(|error| self.refuse(&error))
    }

    /// Does the same, and returns the error of the store.
    pub(crate) async fn try_to_write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let stored = self.store.write(&self.owner, changes).await;
        stored.inspect_err(|error| log(error, self.request_id.as_deref()))
    }

    /// Returns the changes that queue the webhook events about a background response that has ended.
    pub(crate) async fn webhooks(&self, response: &Response) -> Result<Vec<Change>, StoreError> {
        let Some(event_type) = webhooks::response_event(response.status) else {
            return Ok(Vec::new());
        };
        webhooks::queued(&*self.store, &self.owner, event_type, &response.id).await
    }

    /// Makes changes that renew a hold. Returns whether the hold was lost.
    pub(crate) async fn has_lost(&self, renewal: Vec<Change>) -> bool {
        let written = self.store.write(&self.owner, renewal).await;
        matches!(written, Err(StoreError::InUse | StoreError::NotFound))
    }

    fn refuse(&self, error: &StoreError) -> ApiError {
        log(error, self.request_id.as_deref());
        self.worded(error)
    }

    /// Returns the error of the store as the client sees it.
    pub(crate) fn worded(&self, error: &StoreError) -> ApiError {
        let turn = self.turn().filter(|_| *error == StoreError::NotFound);
        let deleted = turn.and_then(Turn::without_conversation);
        deleted.unwrap_or_else(|| failed(error))
    }
}

/// A stream that is stored before its last event. For a chat, it collects the events.
pub(crate) struct Keeping {
    head: Head,
    served_by: ServedBy,
    state: State,
}

enum State {
    Collecting(Box<(Keep, Collector)>),
    /// For a response, the writer keeps the whole response.
    Writing(Box<Keep>),
    Storing(BoxFuture<'static, Result<(), ApiError>>),
    Done,
    /// The collected events do not form an answer.
    Broken,
}

impl Keeping {
    pub(crate) fn new(keep: Box<Keep>, head: Head, served_by: ServedBy) -> Self {
        let state = match keep.what {
            ToStore::Response(_) => State::Writing(keep),
            ToStore::Chat(..) | ToStore::Message(_) => {
                let collector = Collector::new(&head);
                State::Collecting(Box::new((*keep, collector)))
            }
        };
        Self {
            head,
            served_by,
            state,
        }
    }

    pub(crate) fn note(&mut self, event: &Event) {
        if let State::Collecting(collecting) = &mut self.state
            && collecting.1.push(event.clone()).is_err()
        {
            self.state = State::Broken;
        }
    }

    /// Whether all events were sent.
    pub(crate) fn is_storing(&self) -> bool {
        matches!(self.state, State::Storing(_) | State::Done)
    }

    /// Stores the answer after the last event. An incomplete answer is not stored; the writer
    /// reports the error.
    pub(crate) fn poll_stored(
        &mut self,
        writer: &mut dyn Writer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ApiError>> {
        if matches!(self.state, State::Collecting(_) | State::Writing(_)) {
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::Collecting(collected) => self.store_chat(*collected),
                State::Writing(keep) => store_response(keep, writer),
                state => state,
            };
        }
        match &mut self.state {
            State::Storing(storing) => {
                let stored = std::task::ready!(storing.as_mut().poll(cx));
                self.state = State::Done;
                Poll::Ready(stored)
            }
            State::Broken => Poll::Ready(Err(damaged())),
            State::Collecting(_) | State::Writing(_) | State::Done => Poll::Ready(Ok(())),
        }
    }

    fn store_chat(&self, (keep, collector): (Keep, Collector)) -> State {
        let mut json = Vec::new();
        if collector
            .write(&self.head, &self.served_by, &mut json)
            .is_err()
        {
            return State::Done;
        }
        let head = self.head.clone();
        let keep = Box::new(keep);
        State::Storing(Box::pin(async move { keep.store_chat(&head, &json).await }))
    }
}

fn store_response(keep: Box<Keep>, writer: &mut dyn Writer) -> State {
    match writer.response() {
        Ok(Some(response)) => {
            let mut response = response.clone();
            State::Storing(Box::pin(
                async move { keep.store_response(&mut response).await },
            ))
        }
        Ok(None) => State::Broken,
        Err(_) => State::Done,
    }
}
