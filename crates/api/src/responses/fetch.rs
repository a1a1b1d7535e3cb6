//! `/v1/responses/{response_id}/…`: retrieve, delete, cancel, and the items of the input.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use loggia_wire::openai::Deleted;
use loggia_wire::openai::responses::{Response, ResponseStatus};

use crate::ApiError;
use crate::responses::accounts::close_orphan;
use crate::responses::live::{Running, Stop};
use crate::responses::recall::is_open;
use crate::responses::{abandoned, replay, turn};
use crate::store::{Item, Kind, NeededHold, Order, Side, StoreError};
use crate::stored::{Answer, StoredRequest, all_items, chats::listed, check_include, page};

const KIND: Kind = Kind::Response;

/// How often a response is read that changes between the read and the write.
const MOST_READS: usize = 8;

impl StoredRequest<'_> {
    /// `GET /v1/responses/{response_id}`.
    pub(crate) async fn response(&self) -> Result<Answer, ApiError> {
        check_include(&self.query)?;
        let is_streamed = self.flag("stream")?.unwrap_or(false);
        // Without `stream`, `starting_after` has no effect. OpenAI's clients send it anyway.
        let starting_after = self.starting_after()?;
        if is_streamed {
            let first = starting_after.map_or(0, |last| last.saturating_add(1));
            return self.stream(first).await;
        }
        Answer::new(&self.found().await?)
    }

    /// Streams the response, from the task that makes it or from the store.
    async fn stream(&self, first: usize) -> Result<Answer, ApiError> {
        let running = self.live.find(self.route.id(), &self.owner);
        if let Some(running) = running {
            if !running.is_streamed() {
                return Err(not_streamed());
            }
            return Ok(Answer::events(running.follow(first, Some(self.heartbeat))));
        }
        let response = self.found().await?;
        if is_open(response.status) {
            // Another server makes the response.
            return Err(not_streamed());
        }
        let logged = self.items_of(Side::Stream).await?;
        let events = if let Some(log) = logged.first() {
            replay::from(log.body.as_bytes(), first)
        } else {
            replay::from(&replay::events(&response)?, first)
        };
        let events = stream::iter((!events.is_empty()).then(|| events.into()));
        Ok(Answer::events(events.boxed()))
    }

    /// `DELETE /v1/responses/{response_id}`. A response that is being made is stopped.
    pub(crate) async fn delete_response(&self) -> Result<Answer, ApiError> {
        if let Some(running) = self.live.find(self.route.id(), &self.owner) {
            stop(&running).await;
        }
        let deleted = self.store.delete(self.at(KIND)).await;
        deleted.map_err(self.refused(KIND))?;
        Answer::new(&Deleted {
            object: KIND.as_str().to_owned(),
            id: self.route.id().to_owned(),
            deleted: true,
        })
    }

    /// `POST /v1/responses/{response_id}/cancel`.
    pub(crate) async fn cancel_response(&self) -> Result<Answer, ApiError> {
        if let Some(running) = self.live.find(self.route.id(), &self.owner) {
            if !running.is_background() {
                return Err(not_in_background());
            }
            stop(&running).await;
        }
        let mut response = self.found().await?;
        if !response.background {
            return Err(not_in_background());
        }
        if is_open(response.status) {
            // Another server makes the response, and stops when it finds that it has lost its hold.
            response.status = ResponseStatus::Cancelled;
            match self.replace(&mut response, NeededHold::Any).await {
                Ok(()) => {}
                // The response has just ended.
                Err(StoreError::InUse) => response = self.found().await?,
                Err(error) => return Err(self.refused(KIND)(error)),
            }
        }
        Answer::new(&response)
    }

    /// `GET /v1/responses/{response_id}/input_items`.
    pub(crate) async fn input_items(&self) -> Result<Answer, ApiError> {
        check_include(&self.query)?;
        let part = page::of(&self.query, Order::Descending)?;
        let found = self.store.items(self.at(KIND), Side::Input, &part).await;
        let found = found.map_err(self.refused(KIND))?;
        Answer::new(&listed(found.data, found.has_more)?)
    }

    /// Returns the response as it is now. If the server that made it has stopped, the response has
    /// failed.
    async fn found(&self) -> Result<Response, ApiError> {
        for _ in 0..MOST_READS {
            let (mut response, is_held) = self.read().await?;
            if !is_open(response.status) {
                return Ok(response);
            }
            if is_held || self.live.find(&response.id, &self.owner).is_some() {
                response.status = ResponseStatus::InProgress;
                return Ok(response);
            }
            abandoned::fail(&mut response);
            match self.replace(&mut response, NeededHold::RunOut).await {
                Ok(()) => {
                    if let Some(listener) = self.background_listener {
                        close_orphan(listener, self.owner.key(), &response);
                    }
                    return Ok(response);
                }
                // The response has just ended, or its server renewed the hold late: read it again.
                Err(StoreError::InUse) => {}
                Err(error) => return Err(self.refused(KIND)(error)),
            }
        }
        Err(self.refused(KIND)(StoreError::InUse))
    }

    /// Returns the response as it is stored, and whether a server holds it.
    async fn read(&self) -> Result<(Response, bool), ApiError> {
        let at = self.at(KIND);
        let (object, output) = match self.store.object_with_items(at, Side::Output).await {
            Ok(found) => found,
            Err(StoreError::NotFound) if self.live.find(at.id, &self.owner).is_some() => {
                return Err(not_stored_yet(at.id));
            }
            Err(error) => return Err(self.refused(KIND)(error)),
        };
        let is_held = object.is_held;
        Ok((turn::whole(object, &output)?, is_held))
    }

    async fn items_of(&self, side: Side) -> Result<Vec<Item>, ApiError> {
        let items = all_items(self.store, self.at(KIND), side, usize::MAX).await;
        items.map_err(self.refused(KIND))
    }

    /// Stores the end of a response whose task is gone or has to stop. Fails with
    /// [`StoreError::InUse`] if there is no such hold any more.
    async fn replace(&self, response: &mut Response, needs: NeededHold) -> Result<(), StoreError> {
        abandoned::end(self.store, &self.owner, response, needs).await
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.query.get(name) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => {
                let message = format!("Invalid type for '{name}': expected a boolean.");
                Err(ApiError::invalid(name, "invalid_type", message))
            }
        }
    }

    fn starting_after(&self) -> Result<Option<usize>, ApiError> {
        let given = self.query.get("starting_after").map(str::parse);
        given.transpose().map_err(|_| {
            let message = "Invalid type for 'starting_after': expected a sequence number.";
            ApiError::invalid("starting_after", "invalid_type", message)
        })
    }
}

/// Stops a background response, and waits until its end is stored.
async fn stop(running: &Arc<Running>) {
    running.stop(Stop::Cancelled);
    running.ended().await;
}

fn not_streamed() -> ApiError {
    let message = "This response is still being made, and was not created with 'stream=true': fetch it without 'stream'.";
    ApiError::invalid("stream", "invalid_value", message)
}

fn not_in_background() -> ApiError {
    let message = "Cannot cancel a synchronous response: only responses created with 'background=true' can be cancelled.";
    ApiError::new(http::StatusCode::BAD_REQUEST, message)
}

fn not_stored_yet(id: &str) -> ApiError {
    let message = format!(
        "The response with id '{id}' is still in progress, and is stored when it has ended."
    );
    ApiError::new(http::StatusCode::NOT_FOUND, message).coded("response_in_progress")
}
