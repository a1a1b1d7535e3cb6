//! The app: the server's own routes, OpenAI's behind them, and every layer around both.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::TryFutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Collected};
use loggia_api::store::blobs::Leftovers;
use loggia_api::store::{KeyStore, UsageStore};
use loggia_api::{
    AnswerLine, Background, BatchWork, Blobs, Documents, Door, McpClient, Policy, Store,
};
use loggia_backend::Backend;
use loggia_backend::fetch_images::WebhookSender;
use loggia_seal::Keys;
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, service_fn};

use crate::account::background::BackgroundAccounts;
use crate::account::{AccountLayer, AccountedBody, Accounts, Listener, Listeners, Log};
use crate::cors::{Pages, PagesLayer, PagesService};
use crate::keys::{CallerLayer, WithCaller, admin};
use crate::limits::meter::LimitMeter;
use crate::live::backends::{ListBackends, ReadBackends, ShownBackend, ShownBackends};
use crate::live::routes::Sources;
use crate::nodes::Nodes;
use crate::received::ReceivedBody;
use crate::request_id::{RequestIdLayer, WithRequestId};
use crate::routes::{Routes, Shared, answer_guarded};
use crate::traces::RequestTraces;
use crate::websocket::Sessions;
use crate::{
    InFlight, LastReload, Ledger, Metrics, Reading, ServerOptions, SharedLimits, console, health,
    live, metrics_app, nodes,
};

/// Everything that the app needs: a backend, the policy of the API, and the server's options.
#[derive(Clone)]
pub struct AppState {
    door: Door,
    pages: Pages,
    options: ServerOptions,
    store: Option<Arc<dyn Store>>,
    key_store: Option<Arc<dyn KeyStore>>,
    usage: Option<Arc<dyn UsageStore>>,
    /// Return the backends that the admin API shows, and their metrics.
    list_backends: Option<ListBackends>,
    read_backends: Option<ReadBackends>,
    nodes: Option<Arc<dyn Nodes>>,
    last_reload: Option<LastReload>,
    in_flight: InFlight,
    /// The running requests that an engine works on.
    generating: InFlight,
    ledger: Option<Ledger>,
}

/// Returns the listeners: each gets the account of every request when its answer has ended, lines of
/// batches included. To add one, implement [`Listener`](crate::account::Listener) in a file of
/// `account/`, and add it here.
fn listeners(state: &AppState) -> Listeners {
    let mut listeners: Vec<Box<dyn Listener>> = vec![Box::new(Log)];
    if let Some(ledger) = &state.ledger {
        listeners.push(Box::new(ledger.clone()));
    }
    if let Some(metrics) = &state.options.metrics {
        listeners.push(Box::new(metrics.clone()));
    }
    listeners.into()
}

impl AppState {
    /// Creates an app that serves the API over `backend` under `policy`.
    pub fn new(backend: Arc<dyn Backend>, policy: Policy, options: ServerOptions) -> Self {
        let door = Door::new(backend, policy);
        let door = door.with_meter(Arc::new(LimitMeter::new(options.keys.clone(), None)));
        let in_flight = InFlight::default();
        if let Some(metrics) = &options.metrics {
            metrics.watch_requests(&in_flight);
            if let Some(traces) = options.traces.clone() {
                metrics.read_with(move || traces.readings());
            }
        }
        Self {
            door,
            pages: Pages::new(options.origins.clone()),
            options,
            store: None,
            key_store: None,
            usage: None,
            list_backends: None,
            read_backends: None,
            nodes: None,
            last_reload: None,
            in_flight,
            generating: InFlight::default(),
            ledger: None,
        }
    }

    /// Adds a store, so that the app stores responses, and serves stored objects.
    #[must_use]
    pub fn with_store(self, store: Arc<dyn Store>) -> Self {
        Self {
            door: self.door.with_store(Arc::clone(&store)),
            store: Some(store),
            ..self
        }
    }

    /// Adds a store of API keys, and with it the routes that change keys. Read the keys before with
    /// [`ApiKeys::load`], and follow their changes with [`ApiKeys::follow`].
    #[must_use]
    pub fn with_key_store(self, store: Arc<dyn KeyStore>) -> Self {
        Self {
            key_store: Some(store),
            ..self
        }
    }

    /// Adds the single backends, so that the admin API shows them. `list` returns them, and `read` the
    /// metrics of their nodes, queues and engines; neither may block.
    #[must_use]
    pub fn with_backends(
        self,
        list: impl Fn() -> Vec<ShownBackend> + Send + Sync + 'static,
        read: impl Fn() -> Vec<Reading> + Send + Sync + 'static,
    ) -> Self {
        Self {
            list_backends: Some(Arc::new(list)),
            read_backends: Some(Arc::new(read)),
            ..self
        }
    }

    /// Adds the nodes of the backends, so that the admin API adds and removes them.
    #[must_use]
    pub fn with_nodes(self, nodes: Arc<dyn Nodes>) -> Self {
        Self {
            nodes: Some(nodes),
            ..self
        }
    }

    /// Adds what is known of the last reload of the configuration, so that the admin API and the
    /// metrics show it.
    #[must_use]
    pub fn with_last_reload(self, last: LastReload) -> Self {
        if let Some(metrics) = &self.options.metrics {
            let last = last.clone();
            metrics.read_with(move || last.readings());
        }
        Self {
            last_reload: Some(last),
            ..self
        }
    }

    /// Returns the door. Its settings may change while the app serves ([`Door::change`]).
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Returns the web pages that may use the API. They may change while the app serves.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Adds the store in which the usage of API keys is kept, so that the admin API shows it.
    #[must_use]
    pub fn with_usage(self, usage: Arc<dyn UsageStore>) -> Self {
        Self {
            usage: Some(usage),
            ..self
        }
    }

    /// Adds a ledger, which collects how much each API key uses.
    #[must_use]
    pub fn with_ledger(self, ledger: Ledger) -> Self {
        Self {
            ledger: Some(ledger),
            ..self
        }
    }

    /// Shares the limits of keys with other servers. Run [`SharedLimits::follow`] beside the app.
    #[must_use]
    pub fn with_shared_limits(self, limits: Arc<SharedLimits>) -> Self {
        let meter = LimitMeter::new(self.options.keys.clone(), Some(limits));
        Self {
            door: self.door.with_meter(Arc::new(meter)),
            ..self
        }
    }

    /// Adds a place for the contents of files, so that the app serves files and uploads.
    #[must_use]
    pub fn with_blobs(self, blobs: Arc<dyn Blobs>) -> Self {
        Self {
            door: self.door.with_blobs(blobs),
            ..self
        }
    }

    /// Returns the work that keeps the files in order. It never ends; see [`Door::keep_files`].
    pub fn keep_files(&self, leftovers: Leftovers) -> impl Future<Output = ()> + Send + 'static {
        self.door.clone().keep_files(leftovers)
    }

    /// Returns the work on the files of vector stores. It never ends; see
    /// [`Door::work_on_vector_stores`].
    pub fn work_on_vector_stores(&self) -> impl Future<Output = ()> + Send + 'static {
        self.door.clone().work_on_vector_stores()
    }

    /// Adds a sender of webhooks, so that the app serves webhook endpoints.
    #[must_use]
    pub fn with_webhooks(self, sender: Arc<WebhookSender>) -> Self {
        Self {
            door: self.door.with_webhooks(sender),
            ..self
        }
    }

    /// Returns the work that sends webhooks. It never ends; see [`Door::deliver_webhooks`].
    pub fn deliver_webhooks(&self) -> impl Future<Output = ()> + Send + 'static {
        self.door.clone().deliver_webhooks()
    }

    /// Returns the work that ends background responses whose server was killed. It never ends; see
    /// [`Door::end_abandoned_responses`].
    pub fn end_abandoned_responses(&self) -> impl Future<Output = ()> + Send + 'static {
        let door = self.door.clone();
        door.with_background_listener(self.background_accounts())
            .end_abandoned_responses()
    }

    /// Returns the work on batches, with at most `parallel` requests at once, while fewer
    /// than `clients` requests of clients are running. It never ends; see [`Door::work_on_batches`].
    pub fn work_on_batches(
        &self,
        parallel: usize,
        clients: usize,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (generating, keys) = (self.generating.clone(), self.options.keys.clone());
        self.door.clone().work_on_batches(BatchWork {
            parallel,
            clients,
            running: Arc::new(move || generating.count()),
            caller: Arc::new(move |name| keys.named(name).map(|holder| holder.caller.clone())),
            answer: self.answers_lines(),
        })
    }

    /// Returns a function that answers requests of lines of batches, each with an account.
    fn answers_lines(&self) -> AnswerLine {
        let door = self.door.clone();
        let routes = service_fn(move |request: Request<ReceivedBody>| {
            answer_guarded(Arc::new(door.current()), request).map(Ok::<_, Infallible>)
        });
        let lines = self.accounts().of_batches().layer(routes);
        Arc::new(move |request| {
            let answering = lines
                .clone()
                .oneshot(request.map(|line| Body::from(line).into()));
            Box::pin(async move {
                let answer = match answering.await {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                };
                let (mut head, body) = answer.into_parts();
                let body = body.collect().await.map(Collected::to_bytes);
                let body = body.unwrap_or_else(|_broken| {
                    head.status = StatusCode::INTERNAL_SERVER_ERROR;
                    Bytes::new()
                });
                Response::from_parts(head, body)
            })
        })
    }

    fn background_accounts(&self) -> Arc<BackgroundAccounts> {
        Arc::new(BackgroundAccounts {
            listeners: listeners(self),
            live: self.options.live.clone(),
            traces: self.options.traces.clone(),
        })
    }

    fn request_traces(&self) -> Option<RequestTraces> {
        let traces = self.options.traces.clone()?;
        Some(RequestTraces::new(traces, self.options.tls.is_some()))
    }

    fn accounts(&self) -> AccountLayer {
        let streams = self.options.metrics.as_ref().map(Metrics::streams);
        AccountLayer::new(self.in_flight.clone(), listeners(self))
            .with_generating(self.generating.clone())
            .with_live(self.options.live.clone())
            .with_traces(self.request_traces())
            .with_streams(streams.unwrap_or_default())
    }

    /// Adds the keys that seal data which clients keep for the server.
    #[must_use]
    pub fn with_keys(self, keys: Arc<Keys>) -> Self {
        Self {
            door: self.door.with_keys(keys),
            ..self
        }
    }

    /// Adds a client for MCP servers, so that the app runs tools of the type `mcp`.
    #[must_use]
    pub fn with_mcp(self, mcp: Arc<dyn McpClient>) -> Self {
        Self {
            door: self.door.with_mcp(mcp),
            ..self
        }
    }

    /// Adds a reader of documents, so that the app fetches documents by URL and reads PDFs.
    #[must_use]
    pub fn with_documents(self, documents: Arc<dyn Documents>) -> Self {
        Self {
            door: self.door.with_documents(documents),
            ..self
        }
    }

    /// Sets the runtime that makes background responses. It should outlive the server's threads.
    #[must_use]
    pub fn with_runtime(self, runtime: tokio::runtime::Handle) -> Self {
        Self {
            door: self.door.with_runtime(runtime),
            ..self
        }
    }

    /// Returns the responses that are made in the background, so that they can end before the
    /// program does.
    pub fn background(&self) -> Background {
        self.door.background()
    }

    /// Returns the gauge of running requests.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }
}

/// Builds the app: OpenAI's routes, `/healthz`, `/readyz`, and all layers. It does not listen yet.
pub fn app(state: AppState) -> App {
    let accounts = state.accounts();
    let console = console_routes(&state);
    let background = state.background_accounts();
    let AppState {
        door,
        pages,
        options,
        key_store,
        nodes,
        ..
    } = state;
    let door = door.with_background_listener(background);
    if let Some(metrics) = &options.metrics {
        metrics.watch_background(door.background());
    }
    let keys = options.keys.clone();
    let (ready, ready_within) = (door.clone(), options.ready_timeout);
    let admin = key_store.map(|store| admin::routes(keys.clone(), store));
    let nodes = nodes.map(nodes::routes);
    let metrics = options.metrics.clone().filter(|_| options.metrics_route);
    let has_metrics = metrics.is_some();
    let own = Router::new()
        .route("/healthz", get(health::healthz))
        .route(
            "/readyz",
            get(move || health::readyz(ready.current(), ready_within)),
        )
        .merge(admin.unwrap_or_default())
        .merge(nodes.unwrap_or_default())
        .merge(console.unwrap_or_default())
        .merge(metrics.map(metrics_app).unwrap_or_default())
        .fallback(health::unknown)
        .method_not_allowed_fallback(health::only_get);
    let sessions = Sessions::new(door.clone(), accounts.clone(), pages.clone(), &options);
    let shared = Shared {
        own,
        sessions: Arc::new(sessions),
        keys: keys.clone(),
        has_metrics,
    };
    // Not a handler inside axum's layers: axum builds and boxes those again for each request.
    App(Kind::Api(
        // The outermost layer is first.
        ServiceBuilder::new()
            // Adds `x-request-id` to every answer, including preflights, 404s and the 500 of a
            // panic.
            .layer(RequestIdLayer)
            // Finds the caller by the API key, for the log too. The routes refuse requests without
            // a valid key, because preflights have none.
            .layer(CallerLayer::new(keys.clone()))
            // Counts and logs the request with the status that the client receives, until the body
            // ends.
            .layer(accounts)
            // Answers preflights before a key is required, and lets pages read every error.
            .layer(PagesLayer::new(pages, keys))
            .service(Routes {
                door: Arc::new(door),
                shared: Arc::new(shared),
            }),
    ))
}

/// An HTTP app. [`app`] builds the one that serves the API, and [`run`](crate::run) serves it. It is
/// a tower service too: tests ask it without a connection, and an axum `Router` can hold it
/// (`Router::new().fallback_service(app)`). It is always ready. Cheap to clone.
#[derive(Clone)]
pub struct App(Kind);

#[derive(Clone)]
enum Kind {
    Api(Api),
    Other(Router),
}

/// The routes, inside all layers.
type Api = WithRequestId<WithCaller<Accounts<PagesService<Routes>>>>;

impl From<Router> for App {
    /// Makes an app of any router, without layers.
    fn from(router: Router) -> Self {
        Self(Kind::Other(router))
    }
}

impl App {
    /// Answers a request.
    pub(crate) fn answer(
        &mut self,
        request: Request<ReceivedBody>,
    ) -> impl Future<Output = Result<Response<AccountedBody>, Infallible>> + Send + use<> {
        match &mut self.0 {
            Kind::Api(api) => Either::Left(api.call(request)),
            Kind::Other(router) => {
                let answer = router.call(request.map(Body::new));
                Either::Right(Box::pin(
                    answer.map_ok(|response| response.map(AccountedBody::from)),
                ))
            }
        }
    }
}

impl Service<Request<Body>> for App {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.answer(request.map(ReceivedBody::from));
        Box::pin(answer.map_ok(|response| response.map(Body::new)))
    }
}

/// Returns the routes of the console and those that it reads, unless it is off.
fn console_routes(state: &AppState) -> Option<Router> {
    let live = state.options.live.clone()?;
    let sources = Sources {
        live,
        backends: ShownBackends {
            door: state.door.clone(),
            single: state.list_backends.clone(),
            read: state.read_backends.clone(),
        },
        keys: state.options.keys.clone(),
        usage: state.usage.clone(),
        requests: state.in_flight.clone(),
        has_store: state.store.is_some(),
        has_key_store: state.key_store.is_some(),
        has_nodes: state.nodes.is_some(),
        last_reload: state.last_reload.clone(),
    };
    let responses = state.store.clone().map(console::responses::routes);
    let routes = console::routes(state.options.keys.clone()).merge(live::routes::routes(sources));
    Some(routes.merge(responses.unwrap_or_default()))
}
