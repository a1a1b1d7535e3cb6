//! Background responses whose server was killed before they ended. They have failed. A client that
//! fetches such a response stores its end, and so does the loop here, which also queues its webhooks.

use std::time::Duration;

use loggia_wire::openai::responses::{Response, ResponseStatus};
use tokio::time::sleep;

use crate::answer::id;
use crate::responses::accounts::{BackgroundListener, close_orphan};
use crate::responses::background::server_stopped;
use crate::responses::recall::is_open;
use crate::responses::turn;
use crate::store::{Change, Claimed, Kind, NeededHold, ObjectRef, Owner, Side, Store, StoreError};
use crate::stored::all_items;
use crate::{Door, webhooks};

/// The interval between two searches for an abandoned response.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long one is held while its end is stored.
const HELD_FOR: Duration = Duration::from_secs(30);

impl Door {
    /// Ends background responses whose server was killed, for ever. It should run on a runtime that
    /// outlives the threads that answer requests. It may be dropped at any time.
    pub async fn end_abandoned_responses(self) {
        let Some(store) = self.store else {
            return;
        };
        let listener = self.background_listener;
        let holder = id::item("abandoned_");
        let mut works = true;
        loop {
            let ended = end_one(&*store, listener.as_deref(), &holder).await;
            if let Err(error) = &ended
                && works
            {
                tracing::warn!(%error, "abandoned responses cannot be looked for");
            }
            works = ended.is_ok();
            if !matches!(ended, Ok(true)) {
                sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Ends one abandoned response. Returns whether there was one.
async fn end_one(
    store: &dyn Store,
    listener: Option<&dyn BackgroundListener>,
    holder: &str,
) -> Result<bool, StoreError> {
    let claimed = store.claim(Kind::Response, holder, HELD_FOR).await?;
    let Some(Claimed { owner, object }) = claimed else {
        return Ok(false);
    };
    let id = object.id.clone();
    let at = ObjectRef {
        owner: &owner,
        kind: Kind::Response,
        id: &id,
    };
    let output = all_items(store, at, Side::Output, usize::MAX).await?;
    let response = turn::whole(object, &output).ok();
    let Some(mut response) = response.filter(|one| is_open(one.status)) else {
        tracing::warn!(
            id,
            "a response has ended or cannot be read, but a server should end it"
        );
        let changes = vec![turn::never_abandoned(&id), release(&id)];
        return store.write(&owner, changes).await.map(|()| true);
    };
    fail(&mut response);
    match end(
        store,
        &owner,
        &mut response,
        NeededHold::Of(holder.to_owned()),
    )
    .await
    {
        Ok(()) => {
            tracing::info!(response = %id, "a background response of a stopped server has failed");
            if let Some(listener) = listener {
                close_orphan(listener, owner.key(), &response);
            }
        }
        // It was deleted or cancelled meanwhile.
        Err(StoreError::InUse | StoreError::NotFound) => {}
        Err(error) => return Err(error),
    }
    Ok(true)
}

/// Makes a response one that failed because its server stopped.
pub(crate) fn fail(response: &mut Response) {
    response.status = ResponseStatus::Failed;
    response.error = Some(server_stopped());
}

/// Stores the end of a response whose task is gone or has to stop, with its webhooks, and ends the
/// hold of the task.
///
/// # Errors
/// Fails with [`StoreError::InUse`] if the response has no such hold.
pub(crate) async fn end(
    store: &dyn Store,
    owner: &Owner,
    response: &mut Response,
    needs: NeededHold,
) -> Result<(), StoreError> {
    let id = response.id.clone();
    let body = turn::body(response).map_err(|_| StoreError::Unavailable {
        cause: "a response that cannot be written as JSON".to_owned(),
    })?;
    let mut changes = vec![
        Change::Replace {
            kind: Kind::Response,
            id: id.clone(),
            body,
            items: Vec::new(),
            needs: Some(needs),
        },
        release(&id),
        turn::never_abandoned(&id),
    ];
    if let Some(event_type) = webhooks::response_event(response.status) {
        changes.extend(webhooks::queued(store, owner, event_type, &id).await?);
    }
    store.write(owner, changes).await
}

fn release(id: &str) -> Change {
    Change::Release {
        kind: Kind::Response,
        id: id.to_owned(),
        holder: None,
    }
}
