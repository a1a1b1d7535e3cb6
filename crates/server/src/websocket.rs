//! Responses over a WebSocket: the handshake, and the socket of one session. The meaning of the
//! frames is in `loggia-api`, as a [`Session`].
//!
//! The connection serves the session itself, in its own task, after its HTTP has ended: so it keeps
//! its place among the open connections, and closes with the server.

use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use http::header::{ORIGIN, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use loggia_api::{ApiError, Caller, Create, Door, Route, Session};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tower::{Layer, service_fn};

use crate::account::AccountLayer;
use crate::body::AnswerBody;
use crate::cors::Pages;
use crate::linger::close;
use crate::shutdown::last_words;
use crate::{Keys, ServerOptions, panic};

/// The time between two pings. It keeps the connection open in routers, and finds out that a client
/// is gone.
const PING_EVERY: Duration = Duration::from_secs(20);

/// How long a client may take to close after it was asked to.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The longest time that is waited for.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// The initial buffer of a socket. It grows with a frame.
const READ_BUFFER: usize = 4 << 10;

/// The state that all sessions share.
pub(crate) struct Sessions {
    door: Door,
    accounts: AccountLayer,
    pages: Pages,
    keys: Keys,
    limits: Limits,
}

/// The limits of a session.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The time of a connection.
    total: Duration,
    /// The time without a frame.
    idle: Duration,
    /// The time from the signal to stop until the responses are ended.
    last_words: Duration,
}

impl Sessions {
    pub(crate) fn new(
        door: Door,
        accounts: AccountLayer,
        pages: Pages,
        options: &ServerOptions,
    ) -> Self {
        let shutdown = options.shutdown_timeout;
        Self {
            limits: Limits {
                total: options.websocket_timeout,
                idle: options.websocket_idle_timeout,
                last_words: shutdown.saturating_sub(last_words(shutdown)),
            },
            pages,
            keys: options.keys.clone(),
            door,
            accounts,
        }
    }

    /// Answers a request that asks for a WebSocket on the route that offers it. `None` for others.
    pub(crate) fn answer<B>(
        self: &Arc<Self>,
        request: &Request<B>,
    ) -> Option<Response<AnswerBody>> {
        if !is_asked_for(request) {
            return None;
        }
        if !self.may_open(request) {
            let refused = self.door.refuse(foreign_page());
            return Some(refused.map(AnswerBody::from));
        }
        let Ok(mut response) = create_response_with_body(request, AnswerBody::default) else {
            let mut response = self.door.refuse(no_handshake());
            let version = HeaderValue::from_static("13");
            response
                .headers_mut()
                .insert(SEC_WEBSOCKET_VERSION, version);
            return Some(response.map(AnswerBody::from));
        };
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.uri = request.uri().clone();
        parts.headers = request.headers().clone();
        parts.extensions = request.extensions().clone();
        response.extensions_mut().insert(Upgrade {
            sessions: Arc::clone(self),
            opened_by: Arc::new(parts),
            frame_bytes: self.door.current().body_limit(),
        });
        Some(response)
    }

    /// A web page may open a WebSocket to any server, and CORS does not stop it. Without a key,
    /// only pages that may use the API open one.
    fn may_open<B>(&self, request: &Request<B>) -> bool {
        let origin = request.headers().get(ORIGIN);
        request.extensions().get::<Caller>().is_some()
            || origin.is_none_or(|origin| self.pages.allow(origin))
    }
}

fn is_asked_for<B>(request: &Request<B>) -> bool {
    wants_websocket(request.headers())
        && Route::of(request.method(), request.uri()).is_ok_and(|route| route.opens_session())
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

fn foreign_page() -> ApiError {
    let message = "This web page may not open a WebSocket here. Add its origin to 'cors_origins' in the server's configuration.";
    ApiError::new(StatusCode::FORBIDDEN, message)
        .coded("origin_not_allowed")
        .not_again()
}

fn no_handshake() -> ApiError {
    let message = "Invalid WebSocket handshake: it needs 'Connection: Upgrade', 'Sec-WebSocket-Version: 13' and \
                   'Sec-WebSocket-Key'.";
    ApiError::new(StatusCode::BAD_REQUEST, message).coded("invalid_handshake")
}

/// A connection that becomes a WebSocket: an extension of the response that says so.
#[derive(Clone)]
pub(crate) struct Upgrade {
    sessions: Arc<Sessions>,
    opened_by: Arc<Parts>,
    /// The largest frame, as the rules were when the client was answered.
    frame_bytes: usize,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade")
    }
}

/// The state of a connection: whether it had a request, and the upgrade to a WebSocket, if any.
#[derive(Debug, Default)]
pub(crate) struct Upgraded(Mutex<Option<Upgrade>>);

impl Upgraded {
    /// Keeps the upgrade of a response, if it has one.
    pub(crate) fn note<B>(&self, response: &mut Response<B>) {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = response.extensions_mut().remove();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = upgrade;
        }
    }

    pub(crate) fn take(&self) -> Option<Upgrade> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Upgrade {
    /// Serves the session until either side closes it, or the server stops. `read` is the data that
    /// was received after the handshake.
    pub(crate) async fn serve<C>(self, stream: C, read: Bytes, closed: watch::Receiver<()>)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            sessions,
            opened_by,
            frame_bytes,
        } = self;
        let door = sessions.door.clone();
        let keys = sessions.keys.clone();
        let answering = service_fn(
            move |request: http::Request<Create>| -> BoxFuture<'static, _> {
                let door = door.current();
                let caller = request.extensions().get::<Caller>();
                if caller.is_some_and(|caller| !keys.is_valid(&caller.name)) {
                    // The key was revoked after the connection was opened.
                    let refused = ApiError::wrong_key().response().map(AnswerBody::from);
                    return Box::pin(async move { Ok(refused) });
                }
                Box::pin(async move {
                    let answer = AssertUnwindSafe(door.respond(request)).catch_unwind().await;
                    let answer = answer.unwrap_or_else(panic::answer);
                    Ok::<_, Infallible>(answer.map(AnswerBody::from))
                })
            },
        );
        let door = sessions.door.current();
        let session = Session::new(&door, &opened_by, sessions.accounts.layer(answering));
        let limits = sessions.limits;
        drop((sessions, opened_by));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            // Each frame is sent at once.
            .write_buffer_size(0)
            .max_message_size(Some(frame_bytes))
            .max_frame_size(Some(frame_bytes));
        let socket =
            WebSocketStream::from_partially_read(stream, read.into(), Role::Server, Some(config));
        let socket = Socket {
            stream: socket.await,
            session,
            limits,
            closed,
        };
        socket.serve().await;
    }
}

/// The socket of one session.
struct Socket<C, S, B> {
    stream: WebSocketStream<C>,
    session: Session<S, B>,
    limits: Limits,
    /// Resolves when the server stops.
    closed: watch::Receiver<()>,
}

/// How a session ends.
enum End {
    /// The connection is gone, or the client has closed it.
    Gone,
    /// The server closes the connection.
    Close(CloseCode, &'static str),
}

impl<C, S, B> Socket<C, S, B>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: tower::Service<
            http::Request<Create>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error: fmt::Display> + Unpin + Send + 'static,
{
    async fn serve(mut self) {
        let end = self.run().await;
        // The engines stop working for responses that nobody reads.
        drop(self.session);
        let End::Close(code, reason) = end else {
            return;
        };
        let frame = CloseFrame {
            code,
            reason: Utf8Bytes::from_static(reason),
        };
        let mut stream = self.stream;
        let closing = async {
            if stream.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = stream.next().await {}
            }
        };
        if timeout(CLOSE_WITHIN, closing).await.is_ok() {
            close(stream.into_inner()).await;
        }
    }

    /// Carries frames both ways. A client that does not read gets no more frames, and its responses
    /// wait; the kernel closes the connection of a client that does not read for long.
    async fn run(&mut self) -> End {
        let opened = Instant::now();
        let mut timers = Timers {
            ping: opened + PING_EVERY,
            idle: after(self.limits.idle),
            total: Some(after(self.limits.total)),
            last_words: None,
        };
        let mut why = (CloseCode::Away, "the time of this connection is over");
        let mut is_closing = false;
        loop {
            if is_closing && self.session.is_idle() {
                return End::Close(why.0, why.1);
            }
            let timer = pin!(sleep_until(timers.next(self.session.is_idle())));
            tokio::select! {
                biased;
                _ = self.closed.changed(), if timers.last_words.is_none() => {
                    timers.last_words = Some(after(self.limits.last_words));
                    why = (CloseCode::Restart, "the server stops");
                    is_closing = true;
                    self.session.close(stopping());
                }
                // Nothing more is read from a client that does not read its answers.
                message = self.stream.next(), if self.session.can_receive() => {
                    if let Err(end) = self.received(message, &mut timers).await {
                        return end;
                    }
                }
                frame = self.session.next() => {
                    if let Err(end) = self.send(frame).await {
                        return end;
                    }
                    timers.idle = after(self.limits.idle);
                }
                () = timer => match timers.due(Instant::now(), self.session.is_idle()) {
                    Some(Due::Ping) => {
                        let sent = self.stream.send(Message::Ping(Bytes::new())).await;
                        if sent.is_err() {
                            return End::Gone;
                        }
                    }
                    Some(Due::Idle) => return End::Close(CloseCode::Away, "the connection was idle"),
                    Some(Due::Total) => {
                        is_closing = true;
                        self.session.close(expired(self.limits.total));
                    }
                    Some(Due::LastWords) => self.session.fail(&stopping()),
                    None => {}
                },
            }
        }
    }

    /// Passes a message of the client on to the session, unless it ends the session.
    async fn received(
        &mut self,
        message: Option<Result<Message, Error>>,
        timers: &mut Timers,
    ) -> Result<(), End> {
        match message {
            Some(Ok(Message::Text(text))) => {
                timers.idle = after(self.limits.idle);
                self.session.receive(text.into());
                Ok(())
            }
            Some(Ok(Message::Binary(bytes))) => {
                timers.idle = after(self.limits.idle);
                self.session.receive(bytes);
                Ok(())
            }
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => {
                // Sends the answer.
                let _ = self.stream.flush().await;
                Err(End::Gone)
            }
            Some(Err(error)) => Err(broken(&error)),
            None => Err(End::Gone),
        }
    }

    /// Sends a frame of the session to the client.
    async fn send(&mut self, frame: Bytes) -> Result<(), End> {
        // The door writes JSON.
        let Ok(text) = Utf8Bytes::try_from(frame) else {
            return Err(End::Close(CloseCode::Error, "internal error"));
        };
        let sent = self.stream.send(Message::Text(text)).await;
        sent.map_err(|_| End::Gone)
    }
}

fn after(time: Duration) -> Instant {
    Instant::now() + time.min(LONGEST)
}

/// When something is to be done.
struct Timers {
    ping: Instant,
    idle: Instant,
    total: Option<Instant>,
    last_words: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Due {
    Ping,
    Idle,
    Total,
    LastWords,
}

impl Timers {
    /// The next time at which something is to be done.
    fn next(&self, is_idle: bool) -> Instant {
        let idle = is_idle.then_some(self.idle);
        let others = [idle, self.total, self.last_words];
        others.into_iter().flatten().fold(self.ping, Instant::min)
    }

    /// The next thing to do.
    fn due(&mut self, now: Instant, is_idle: bool) -> Option<Due> {
        if self.last_words.take_if(|time| *time <= now).is_some() {
            // The last words are due only once.
            self.last_words = Some(now + LONGEST);
            return Some(Due::LastWords);
        }
        if self.total.take_if(|time| *time <= now).is_some() {
            return Some(Due::Total);
        }
        if is_idle && self.idle <= now {
            return Some(Due::Idle);
        }
        if self.ping <= now {
            self.ping = now + PING_EVERY;
            return Some(Due::Ping);
        }
        None
    }
}

/// How a session ends whose client broke the rules, or whose connection broke.
fn broken(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::Close(CloseCode::Size, "the frame is too large"),
        Error::Protocol(_) => End::Close(CloseCode::Protocol, "invalid frame"),
        Error::Utf8(_) => End::Close(CloseCode::Invalid, "a text frame must be UTF-8"),
        _ => End::Gone,
    }
}

/// OpenAI's wording of the error: it makes Codex open a new connection.
fn expired(total: Duration) -> ApiError {
    let minutes = total.as_secs().div_ceil(60);
    let message = format!(
        "Responses websocket connection limit reached ({minutes} minutes). Create a new websocket connection to continue."
    );
    ApiError::new(StatusCode::BAD_REQUEST, message).coded("websocket_connection_limit_reached")
}

fn stopping() -> ApiError {
    let message = "The server stops. Create a new WebSocket connection to continue.";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("server_stopping")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_tell_what_is_due_and_when_the_next_is() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut timers = Timers {
            ping: after(20),
            idle: after(10),
            total: Some(after(30)),
            last_words: None,
        };
        assert_eq!(
            (timers.next(true), timers.next(false)),
            (after(10), after(20))
        );
        assert_eq!(timers.due(after(9), true), None);
        assert_eq!(timers.due(after(10), true), Some(Due::Idle));
        assert_eq!(timers.due(after(20), false), Some(Due::Ping));
        assert_eq!(timers.next(false), after(30));
        timers.last_words = Some(after(35));
        assert_eq!(timers.due(after(40), false), Some(Due::LastWords));
        assert_eq!(timers.due(after(40), false), Some(Due::Total));
        assert_eq!(timers.due(after(40), false), Some(Due::Ping));
        assert_eq!(timers.due(after(40), false), None);
    }
}
