//! [`BackgroundListener`]: gets the account of every response that is made in the background, when it
//! has ended. The account of the request that asked for it ends with the first answer, long before.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loggia_backend::Trace;
use loggia_wire::openai::responses::Response;

use crate::answer::ended::{Ended, Outcome};
use crate::answer::id;

/// Gets the account of every response that was made in the background: a server adds one, for its
/// log, metrics and ledgers.
pub trait BackgroundListener: Send + Sync {
    /// Called exactly once for each response. It must not block.
    fn ended(&self, response: &EndedResponse<'_>);
}

/// A response that was made in the background and has ended.
#[derive(Clone, Copy, Debug)]
pub struct EndedResponse<'a> {
    /// The id of the request that asked for it.
    pub request_id: Option<&'a Arc<str>>,
    /// The trace that the request is a part of.
    pub trace: Option<&'a Trace>,
    /// The name of the API key, if the request had one.
    pub caller: Option<&'a str>,
    /// Whether its events can be followed.
    pub is_stream: bool,
    /// When the request arrived.
    pub arrived: Instant,
    /// How the response ended, and the tokens that it used.
    pub ended: &'a Ended,
    /// Whether the server that made it has ended before it. Nothing is known of its tokens then, nor
    /// of its engine.
    pub is_orphan: bool,
}

/// The account of a background response. Dropping it closes it. The outcome is `Abandoned` unless
/// [`end`](Self::end) is called before.
pub(crate) struct Account {
    pub(crate) listener: Option<Arc<dyn BackgroundListener>>,
    pub(crate) request_id: Option<Arc<str>>,
    pub(crate) trace: Option<Box<Trace>>,
    pub(crate) caller: Option<Arc<str>>,
    pub(crate) is_stream: bool,
    pub(crate) arrived: Instant,
    pub(crate) ended: Option<Box<Ended>>,
}

impl Account {
    /// Closes the account.
    pub(crate) fn end(mut self, ended: Box<Ended>) {
        self.ended = Some(ended);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        let ended = self.ended.take();
        let ended = ended.unwrap_or_else(|| Box::new(Ended::new(Outcome::Abandoned)));
        listener.ended(&EndedResponse {
            request_id: self.request_id.as_ref(),
            trace: self.trace.as_deref(),
            caller: self.caller.as_deref(),
            is_stream: self.is_stream,
            arrived: self.arrived,
            ended: &ended,
            is_orphan: false,
        });
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").finish_non_exhaustive()
    }
}

/// Closes the account of a response whose server has ended before it.
pub(crate) fn close_orphan(
    listener: &dyn BackgroundListener,
    caller: Option<&str>,
    response: &Response,
) {
    let ended = Ended {
        model: Some(response.model.as_str().into()),
        error: response
            .error
            .as_ref()
            .map(|error| error.code.as_str().into()),
        ..Ended::new(Outcome::Failed)
    };
    let age = id::now().saturating_sub(response.created_at);
    let arrived = Instant::now().checked_sub(Duration::from_secs(age));
    listener.ended(&EndedResponse {
        request_id: None,
        trace: None,
        caller,
        is_stream: false,
        arrived: arrived.unwrap_or_else(Instant::now),
        ended: &ended,
        is_orphan: true,
    });
}
