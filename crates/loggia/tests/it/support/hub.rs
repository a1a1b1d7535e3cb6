//! A hub for `loggia pull`: a listing with sha256 and sizes, and files that are redirected to
//! storage on another port.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, LINK, LOCATION, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

/// The files and the behaviour of the hub; can be changed while it runs.
#[derive(Default)]
pub(crate) struct HubState {
    /// The files by `OWNER/REPO/path`.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Wrong properties in the listing.
    pub(crate) claimed_sha256: Option<String>,
    /// Files require this token.
    pub(crate) token: Option<String>,
    /// The storage ignores ranges and always starts at the beginning.
    pub(crate) ignores_ranges: bool,
    /// The next answer of the storage breaks off after this many bytes.
    pub(crate) cut_after: Option<usize>,
    /// Every answer of the storage stalls after this many bytes.
    pub(crate) stalls_after: Option<usize>,
    /// The listing has one entry per page.
    pub(crate) pages: bool,
    /// All requests for files: path, `range`, `authorization`. Those to the storage begin with
    /// `storage:`.
    pub(crate) requests: Vec<(String, Option<String>, Option<String>)>,
    storage: Option<SocketAddr>,
}

/// A hub that runs until it is dropped.
pub(crate) struct Hub {
    address: SocketAddr,
    shelf: Arc<Mutex<HubState>>,
    _runtime: tokio::runtime::Runtime,
}

impl Hub {
    pub(crate) fn with(files: &[(&str, &[u8])]) -> Self {
        let files = files
            .iter()
            .map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()))
            .collect();
        let shelf = Arc::new(Mutex::new(HubState {
            files,
            ..HubState::default()
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let storage = listen(
            &runtime,
            Router::new()
                .fallback(storage)
                .with_state(Arc::clone(&shelf)),
        );
        let address = listen(
            &runtime,
            Router::new().fallback(hub).with_state(Arc::clone(&shelf)),
        );
        shelf.lock().unwrap().storage = Some(storage);
        Hub {
            address,
            shelf,
            _runtime: runtime,
        }
    }

    /// The value for `HF_ENDPOINT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn shelf(&self) -> MutexGuard<'_, HubState> {
        self.shelf.lock().unwrap()
    }

    /// The requested ranges of the storage, in order.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        let requests = &self.shelf().requests;
        requests
            .iter()
            .filter(|(path, ..)| path.starts_with("storage:"))
            .map(|(_, range, _)| range.clone())
            .collect()
    }
}

fn listen(runtime: &tokio::runtime::Runtime, app: Router) -> SocketAddr {
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, app).await });
    address
}

type Shared = State<Arc<Mutex<HubState>>>;

async fn hub(State(shelf): Shared, request: Request) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let path = request.uri().path().to_owned();
    if let Some(repo) = path
        .strip_prefix("/api/models/")
        .and_then(|rest| rest.strip_suffix("/tree/main"))
    {
        assert!(
            request
                .uri()
                .query()
                .unwrap_or_default()
                .contains("recursive=true")
        );
        return listing(&shelf, repo, request.uri().query().unwrap_or_default());
    }
    let file = path[1..].replacen("/resolve/main/", "/", 1);
    note(&mut shelf, &file, request.headers());
    let wanted = shelf.token.as_ref().map(|token| format!("Bearer {token}"));
    let brought = request
        .headers()
        .get(AUTHORIZATION)
        .map(|value| value.to_str().unwrap().to_owned());
    if wanted.is_some() && wanted != brought {
        let status = if brought.is_some() {
            StatusCode::FORBIDDEN
        } else {
            StatusCode::UNAUTHORIZED
        };
        return (status, [("x-error-code", "GatedRepo")], "gated").into_response();
    }
    if !shelf.files.contains_key(&file) {
        return (StatusCode::NOT_FOUND, [("x-error-code", "EntryNotFound")]).into_response();
    }
    (
        StatusCode::FOUND,
        [(
            LOCATION,
            format!("http://{}/{file}", shelf.storage.unwrap()),
        )],
    )
        .into_response()
}

fn listing(shelf: &HubState, repo: &str, query: &str) -> Response {
    let files: Vec<_> = shelf
        .files
        .iter()
        .filter_map(|(path, bytes)| Some((path.strip_prefix(repo)?.strip_prefix('/')?, bytes)))
        .collect();
    if files.is_empty() {
        return (StatusCode::UNAUTHORIZED, [("x-error-code", "RepoNotFound")]).into_response();
    }
    let entry = |(path, bytes): &(&str, &Vec<u8>)| {
        let sha256 = shelf
            .claimed_sha256
            .clone()
            .unwrap_or_else(|| sha256(bytes));
        serde_json::json!({
            "type": "file", "path": path, "size": bytes.len(), "oid": "0123456789012345678901234567890123456789",
            "lfs": { "oid": sha256, "size": bytes.len(), "pointerSize": 134 },
        })
    };
    let folder = serde_json::json!({ "type": "directory", "path": "a", "size": 0, "oid": "01" });
    let mut entries: Vec<_> = [folder]
        .into_iter()
        .chain(files.iter().map(entry))
        .collect();
    let mut headers = HeaderMap::new();
    if shelf.pages {
        let page: usize = query
            .rsplit_once("cursor=")
            .map_or(0, |(_, page)| page.parse().unwrap());
        if page + 1 < entries.len() {
            let next = format!(
                "</api/models/{repo}/tree/main?recursive=true&cursor={}>; rel=\"next\"",
                page + 1
            );
            headers.insert(LINK, next.parse().unwrap());
        }
        entries = vec![entries.swap_remove(page)];
    }
    (headers, serde_json::to_string(&entries).unwrap()).into_response()
}

async fn storage(State(shelf): Shared, request: Request) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let path = request.uri().path()[1..].to_owned();
    note(&mut shelf, &format!("storage:{path}"), request.headers());
    let Some(bytes) = shelf.files.get(&path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = request
        .headers()
        .get(RANGE)
        .filter(|_| !shelf.ignores_ranges)
        .map(|range| range.to_str().unwrap());
    let from = range
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let size = bytes.len();
    let rest = Bytes::from(bytes).slice(from..);
    let mut headers = HeaderMap::from_iter([(CONTENT_LENGTH, rest.len().into())]);
    let status = if range.is_some() {
        headers.insert(
            CONTENT_RANGE,
            format!("bytes {from}-{}/{size}", size - 1).parse().unwrap(),
        );
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    (
        status,
        headers,
        body(rest, shelf.cut_after.take(), shelf.stalls_after),
    )
        .into_response()
}

fn body(rest: Bytes, cut_after: Option<usize>, stalls_after: Option<usize>) -> Body {
    let first = |end: usize| stream::iter([Ok(rest.slice(..end.min(rest.len())))]);
    match (cut_after, stalls_after) {
        (Some(end), _) => {
            // Two frames, so that the bytes are sent before the connection breaks.
            let broken = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("the line breaks here"))
            });
            Body::from_stream(first(end).chain(broken))
        }
        (None, Some(end)) => {
            Body::from_stream(first(end).chain(stream::pending::<Result<Bytes, std::io::Error>>()))
        }
        (None, None) => Body::from(rest),
    }
}

fn note(shelf: &mut HubState, path: &str, headers: &HeaderMap) {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    shelf
        .requests
        .push((path.to_owned(), text(RANGE), text(AUTHORIZATION)));
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
