//! [`BackgroundAccounts`]: the accounts of responses that are made in the background. They have the
//! same listeners as requests.

use http::{Method, StatusCode};
use loggia_api::{BackgroundListener, EndedResponse, RequestId};

use super::closed::Background;
use super::{Closed, Listeners};
use crate::live::Live;
use crate::traces::Traces;

/// The route on which background responses are asked for.
const ROUTE: &str = "/v1/responses";

/// Passes the ends of background responses on to the listeners.
pub(crate) struct BackgroundAccounts {
    pub(crate) listeners: Listeners,
    /// Where requests that have ended are shown.
    pub(crate) live: Option<Live>,
    /// Records spans.
    pub(crate) traces: Option<Traces>,
}

impl BackgroundListener for BackgroundAccounts {
    fn ended(&self, response: &EndedResponse<'_>) {
        let id = response.request_id.cloned().map(RequestId);
        let closed = Closed {
            id: id.as_ref(),
            trace: response.trace,
            key: response.caller,
            method: &Method::POST,
            route: Some(ROUTE),
            status: Some(StatusCode::OK),
            ended: response.ended,
            opened: response.arrived,
            took: response.arrived.elapsed(),
            is_stream: response.is_stream,
            is_http2: false,
            is_of_batch: false,
            background: Some(if response.is_orphan {
                Background::EndedServer
            } else {
                Background::ThisServer
            }),
        };
        for listener in &*self.listeners {
            listener.closed(&closed);
        }
        if let Some(traces) = &self.traces {
            traces.add_background(&closed);
        }
        if let Some(live) = &self.live {
            live.closed(&closed, ROUTE);
        }
    }
}
