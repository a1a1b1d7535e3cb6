//! The routes of the API. Dispatch, 404, 405, logs and CORS use the same table.
//!
//! To add a route, add a row to [`ROUTES`] and a [`Handler`]. The compiler then requires its case
//! in `Door::answer`, or, for a [`StoredHandler`], a [`FilesHandler`] or a
//! [`VectorStoresHandler`], in `stored/`.

use http::{Method, Uri};
use loggia_backend::OllamaRoute;
use percent_encoding::percent_decode_str;

use crate::ApiError;

/// The handler of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handler {
    Chat,
    Completions,
    Responses,
    Session,
    Messages,
    CountTokens,
    InputTokens,
    Embeddings,
    Decisions,
    Moderations,
    Rerank,
    Audio(AudioHandler),
    Models,
    Model,
    DeleteModel,
    Hello,
    OllamaVersion,
    OllamaTags,
    OllamaPull,
    OllamaApi(OllamaRoute),
    Compact,
    Stored(StoredHandler),
    Files(FilesHandler),
    VectorStores(VectorStoresHandler),
}

/// The handler of a route of recordings and speech. `Door::audio` answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AudioHandler {
    Transcriptions,
    Translations,
    Speech,
}

/// The handler of a route of objects in the store. `Door::stored` answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredHandler {
    Chats,
    StoredChat,
    UpdateChat,
    DeleteChat,
    ChatMessages,
    CreateConversation,
    Conversation,
    UpdateConversation,
    DeleteConversation,
    CreateItems,
    Items,
    Item,
    DeleteItem,
    Response,
    DeleteResponse,
    CancelResponse,
    InputItems,
    WebhookEventTypes,
    CreateWebhook,
    Webhooks,
    Webhook,
    UpdateWebhook,
    DeleteWebhook,
    RotateWebhookSecret,
    TestWebhook,
}

/// The handler of a route of files, or of objects that are made of files, such as batches.
/// `Door::files` answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilesHandler {
    CreateFile,
    Files,
    File,
    DeleteFile,
    FileContent,
    CreateUpload,
    AddPart,
    CompleteUpload,
    CancelUpload,
    CreateBatch,
    Batches,
    Batch,
    CancelBatch,
    CreateMessageBatch,
    MessageBatches,
    MessageBatch,
    CancelMessageBatch,
    DeleteMessageBatch,
    MessageBatchResults,
}

/// The handler of a route of vector stores. `VectorStores::answer` answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VectorStoresHandler {
    Create,
    List,
    Retrieve,
    Update,
    Delete,
    Search,
    AddFile,
    Files,
    File,
    UpdateFile,
    DeleteFile,
    FileContent,
    CreateBatch,
    Batch,
    CancelBatch,
    BatchFiles,
}

impl VectorStoresHandler {
    /// Returns whether the route takes no body although its method is POST.
    pub(crate) fn takes_no_body(self) -> bool {
        self == Self::CancelBatch
    }
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    method: Method,
    /// The path. A name in braces matches one segment. A final `{id}` matches the whole rest,
    /// because a model's name may contain slashes, encoded or not.
    path: &'static str,
    handler: Handler,
    /// Words in unknown paths that suggest this route: OpenAI's own, those of its other APIs, and
    /// Ollama's.
    words: &'static [&'static str],
    /// The feature that a door must have for the route to exist.
    needs: Needs,
}

/// A feature that a door must have for a route to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Store,
    Files,
    Webhooks,
    Ollama,
    OllamaApi(OllamaRoute),
}

/// The features of a door, beside the routes that every door has.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a door has each feature or not, in any combination"
)]
pub(crate) struct Offers<'a> {
    /// Objects that are kept between requests.
    pub(crate) store: bool,
    /// Whether files are served. They need a store too.
    pub(crate) files: bool,
    /// Whether webhooks are served. They need a store too.
    pub(crate) webhooks: bool,
    /// The routes of Ollama's API. Not before a service that has them itself.
    pub(crate) ollama: bool,
    /// The routes of Ollama's own API that are passed on.
    pub(crate) ollama_api: &'a [OllamaRoute],
}

impl Offers<'_> {
    const ALL: Offers<'static> = Offers {
        store: true,
        files: true,
        webhooks: true,
        ollama: true,
        ollama_api: &OllamaRoute::ALL,
    };

    fn have(self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing => true,
            Needs::Store => self.store,
            Needs::Files => self.store && self.files,
            Needs::Webhooks => self.store && self.webhooks,
            Needs::Ollama => self.ollama,
            Needs::OllamaApi(route) => self.ollama_api.contains(&route),
        }
    }
}

const fn needing(
    needs: Needs,
    method: Method,
    path: &'static str,
    handler: Handler,
    words: &'static [&'static str],
) -> Row {
    Row {
        method,
        path,
        handler,
        words,
        needs,
    }
}

const fn row(
    method: Method,
    path: &'static str,
    handler: Handler,
    words: &'static [&'static str],
) -> Row {
    needing(Needs::Nothing, method, path, handler, words)
}

const fn stored(
    method: Method,
    path: &'static str,
    handler: StoredHandler,
    words: &'static [&'static str],
) -> Row {
    needing(Needs::Store, method, path, Handler::Stored(handler), words)
}

const fn of_files(
    method: Method,
    path: &'static str,
    handler: FilesHandler,
    words: &'static [&'static str],
) -> Row {
    needing(Needs::Files, method, path, Handler::Files(handler), words)
}

const fn of_vector_stores(
    method: Method,
    path: &'static str,
    handler: VectorStoresHandler,
    words: &'static [&'static str],
) -> Row {
    needing(
        Needs::Files,
        method,
        path,
        Handler::VectorStores(handler),
        words,
    )
}

const fn of_webhooks(
    method: Method,
    path: &'static str,
    handler: StoredHandler,
    words: &'static [&'static str],
) -> Row {
    needing(
        Needs::Webhooks,
        method,
        path,
        Handler::Stored(handler),
        words,
    )
}

const fn of_ollama(method: Method, path: &'static str, handler: Handler) -> Row {
    needing(Needs::Ollama, method, path, handler, &[])
}

const fn of_ollama_api(route: OllamaRoute) -> Row {
    Row {
        method: route.method(),
        path: route.path(),
        handler: Handler::OllamaApi(route),
        words: &[],
        needs: Needs::OllamaApi(route),
    }
}

/// All routes. The first row whose path matches is used. If the words of several rows occur in an
/// unknown path, the first is suggested.
static ROUTES: &[Row] = &[
    row(
        Method::POST,
        "/v1/chat/completions",
        Handler::Chat,
        &["chat"],
    ),
    row(
        Method::POST,
        "/v1/completions",
        Handler::Completions,
        &["completions", "completion", "generate"],
    ),
    row(
        Method::POST,
        "/v1/responses/input_tokens",
        Handler::InputTokens,
        &["input_tokens"],
    ),
    row(
        Method::POST,
        "/v1/responses",
        Handler::Responses,
        &["responses", "response"],
    ),
    row(Method::GET, "/v1/responses", Handler::Session, &[]),
    row(
        Method::POST,
        MESSAGES,
        Handler::Messages,
        &["messages", "message"],
    ),
    row(
        Method::POST,
        "/v1/messages/count_tokens",
        Handler::CountTokens,
        &["count_tokens"],
    ),
    row(Method::POST, "/v1/responses/compact", Handler::Compact, &[]),
    row(
        Method::POST,
        "/v1/embeddings",
        Handler::Embeddings,
        &["embeddings", "embedding", "embed"],
    ),
    row(
        Method::POST,
        "/v1/decisions",
        Handler::Decisions,
        &["decisions", "decision"],
    ),
    row(
        Method::POST,
        "/v1/moderations",
        Handler::Moderations,
        &["moderations", "moderation"],
    ),
    row(
        Method::POST,
        "/v1/rerank",
        Handler::Rerank,
        &["rerank", "reranking"],
    ),
    row(
        Method::POST,
        "/v1/audio/transcriptions",
        Handler::Audio(AudioHandler::Transcriptions),
        &["transcriptions", "transcription", "transcribe"],
    ),
    row(
        Method::POST,
        "/v1/audio/translations",
        Handler::Audio(AudioHandler::Translations),
        &["translations", "translation"],
    ),
    row(
        Method::POST,
        "/v1/audio/speech",
        Handler::Audio(AudioHandler::Speech),
        &["speech", "tts"],
    ),
    // Clients of Jina's and Cohere's API have base URLs without `/v1`.
    row(Method::POST, "/rerank", Handler::Rerank, &[]),
    row(
        Method::GET,
        "/v1/models",
        Handler::Models,
        &["models", "model", "tags", "show"],
    ),
    row(Method::GET, "/v1/models/{id}", Handler::Model, &[]),
    row(Method::DELETE, "/v1/models/{id}", Handler::DeleteModel, &[]),
    row(Method::GET, HELLO, Handler::Hello, &[]),
    row(Method::HEAD, HELLO, Handler::Hello, &[]),
    of_ollama(Method::GET, "/api/version", Handler::OllamaVersion),
    of_ollama(Method::GET, "/api/tags", Handler::OllamaTags),
    of_ollama(Method::POST, "/api/pull", Handler::OllamaPull),
    of_ollama_api(OllamaRoute::Chat),
    of_ollama_api(OllamaRoute::Generate),
    of_ollama_api(OllamaRoute::Embed),
    of_ollama_api(OllamaRoute::Embeddings),
    of_ollama_api(OllamaRoute::Show),
    of_ollama_api(OllamaRoute::Ps),
    of_ollama_api(OllamaRoute::Copy),
    of_ollama_api(OllamaRoute::Create),
    of_ollama_api(OllamaRoute::Push),
    of_ollama_api(OllamaRoute::Delete),
    stored(
        Method::GET,
        "/v1/chat/completions",
        StoredHandler::Chats,
        &[],
    ),
    stored(Method::GET, CHAT, StoredHandler::StoredChat, &[]),
    stored(Method::POST, CHAT, StoredHandler::UpdateChat, &[]),
    stored(Method::DELETE, CHAT, StoredHandler::DeleteChat, &[]),
    stored(
        Method::GET,
        "/v1/chat/completions/{completion_id}/messages",
        StoredHandler::ChatMessages,
        &[],
    ),
    stored(
        Method::POST,
        "/v1/conversations",
        StoredHandler::CreateConversation,
        &["conversations", "conversation"],
    ),
    stored(Method::GET, CONVERSATION, StoredHandler::Conversation, &[]),
    stored(
        Method::POST,
        CONVERSATION,
        StoredHandler::UpdateConversation,
        &[],
    ),
    stored(
        Method::DELETE,
        CONVERSATION,
        StoredHandler::DeleteConversation,
        &[],
    ),
    stored(Method::POST, ITEMS, StoredHandler::CreateItems, &[]),
    stored(Method::GET, ITEMS, StoredHandler::Items, &[]),
    stored(Method::GET, ITEM, StoredHandler::Item, &[]),
    stored(Method::DELETE, ITEM, StoredHandler::DeleteItem, &[]),
    stored(Method::GET, RESPONSE, StoredHandler::Response, &[]),
    stored(Method::DELETE, RESPONSE, StoredHandler::DeleteResponse, &[]),
    stored(
        Method::POST,
        "/v1/responses/{response_id}/cancel",
        StoredHandler::CancelResponse,
        &[],
    ),
    stored(
        Method::GET,
        "/v1/responses/{response_id}/input_items",
        StoredHandler::InputItems,
        &[],
    ),
    of_files(
        Method::POST,
        "/v1/files",
        FilesHandler::CreateFile,
        &["files", "file"],
    ),
    of_files(Method::GET, "/v1/files", FilesHandler::Files, &[]),
    of_files(Method::GET, FILE, FilesHandler::File, &[]),
    of_files(Method::DELETE, FILE, FilesHandler::DeleteFile, &[]),
    of_files(
        Method::GET,
        "/v1/files/{file_id}/content",
        FilesHandler::FileContent,
        &[],
    ),
    of_files(
        Method::POST,
        "/v1/uploads",
        FilesHandler::CreateUpload,
        &["uploads", "upload"],
    ),
    of_files(
        Method::POST,
        "/v1/uploads/{upload_id}/parts",
        FilesHandler::AddPart,
        &[],
    ),
    of_files(
        Method::POST,
        "/v1/uploads/{upload_id}/complete",
        FilesHandler::CompleteUpload,
        &[],
    ),
    of_files(
        Method::POST,
        "/v1/uploads/{upload_id}/cancel",
        FilesHandler::CancelUpload,
        &[],
    ),
    of_files(
        Method::POST,
        "/v1/batches",
        FilesHandler::CreateBatch,
        &["batches", "batch"],
    ),
    of_files(Method::GET, "/v1/batches", FilesHandler::Batches, &[]),
    of_files(
        Method::GET,
        "/v1/batches/{batch_id}",
        FilesHandler::Batch,
        &[],
    ),
    of_files(
        Method::POST,
        "/v1/batches/{batch_id}/cancel",
        FilesHandler::CancelBatch,
        &[],
    ),
    of_files(
        Method::POST,
        MESSAGE_BATCHES,
        FilesHandler::CreateMessageBatch,
        &[],
    ),
    of_files(
        Method::GET,
        MESSAGE_BATCHES,
        FilesHandler::MessageBatches,
        &[],
    ),
    of_files(Method::GET, MESSAGE_BATCH, FilesHandler::MessageBatch, &[]),
    of_files(
        Method::DELETE,
        MESSAGE_BATCH,
        FilesHandler::DeleteMessageBatch,
        &[],
    ),
    of_files(
        Method::POST,
        "/v1/messages/batches/{message_batch_id}/cancel",
        FilesHandler::CancelMessageBatch,
        &[],
    ),
    of_files(
        Method::GET,
        "/v1/messages/batches/{message_batch_id}/results",
        FilesHandler::MessageBatchResults,
        &[],
    ),
    of_vector_stores(
        Method::POST,
        "/v1/vector_stores",
        VectorStoresHandler::Create,
        &["vector_stores", "vector_store"],
    ),
    of_vector_stores(
        Method::GET,
        "/v1/vector_stores",
        VectorStoresHandler::List,
        &[],
    ),
    of_vector_stores(
        Method::GET,
        VECTOR_STORE,
        VectorStoresHandler::Retrieve,
        &[],
    ),
    of_vector_stores(Method::POST, VECTOR_STORE, VectorStoresHandler::Update, &[]),
    of_vector_stores(
        Method::DELETE,
        VECTOR_STORE,
        VectorStoresHandler::Delete,
        &[],
    ),
    of_vector_stores(
        Method::POST,
        "/v1/vector_stores/{vector_store_id}/search",
        VectorStoresHandler::Search,
        &[],
    ),
    of_vector_stores(Method::POST, STORE_FILES, VectorStoresHandler::AddFile, &[]),
    of_vector_stores(Method::GET, STORE_FILES, VectorStoresHandler::Files, &[]),
    of_vector_stores(Method::GET, STORE_FILE, VectorStoresHandler::File, &[]),
    of_vector_stores(
        Method::POST,
        STORE_FILE,
        VectorStoresHandler::UpdateFile,
        &[],
    ),
    of_vector_stores(
        Method::DELETE,
        STORE_FILE,
        VectorStoresHandler::DeleteFile,
        &[],
    ),
    of_vector_stores(
        Method::GET,
        "/v1/vector_stores/{vector_store_id}/files/{file_id}/content",
        VectorStoresHandler::FileContent,
        &[],
    ),
    of_vector_stores(
        Method::POST,
        "/v1/vector_stores/{vector_store_id}/file_batches",
        VectorStoresHandler::CreateBatch,
        &[],
    ),
    of_vector_stores(
        Method::GET,
        "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}",
        VectorStoresHandler::Batch,
        &[],
    ),
    of_vector_stores(
        Method::POST,
        "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel",
        VectorStoresHandler::CancelBatch,
        &[],
    ),
    of_vector_stores(
        Method::GET,
        "/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files",
        VectorStoresHandler::BatchFiles,
        &[],
    ),
    of_webhooks(
        Method::GET,
        "/v1/webhook_event_types",
        StoredHandler::WebhookEventTypes,
        &[],
    ),
    of_webhooks(
        Method::POST,
        WEBHOOKS,
        StoredHandler::CreateWebhook,
        &["webhook_endpoints", "webhook_endpoint", "webhooks"],
    ),
    of_webhooks(Method::GET, WEBHOOKS, StoredHandler::Webhooks, &[]),
    of_webhooks(Method::GET, WEBHOOK, StoredHandler::Webhook, &[]),
    of_webhooks(Method::POST, WEBHOOK, StoredHandler::UpdateWebhook, &[]),
    of_webhooks(Method::DELETE, WEBHOOK, StoredHandler::DeleteWebhook, &[]),
    of_webhooks(
        Method::POST,
        "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret",
        StoredHandler::RotateWebhookSecret,
        &[],
    ),
    of_webhooks(
        Method::POST,
        "/v1/webhook_endpoints/{webhook_endpoint_id}/test",
        StoredHandler::TestWebhook,
        &[],
    ),
];

const WEBHOOKS: &str = "/v1/webhook_endpoints";
const WEBHOOK: &str = "/v1/webhook_endpoints/{webhook_endpoint_id}";

const FILE: &str = "/v1/files/{file_id}";
const VECTOR_STORE: &str = "/v1/vector_stores/{vector_store_id}";
const STORE_FILES: &str = "/v1/vector_stores/{vector_store_id}/files";
const STORE_FILE: &str = "/v1/vector_stores/{vector_store_id}/files/{file_id}";

const MESSAGES: &str = "/v1/messages";
const MESSAGE_BATCHES: &str = "/v1/messages/batches";
const MESSAGE_BATCH: &str = "/v1/messages/batches/{message_batch_id}";
const HELLO: &str = "/api/hello";
const RESPONSE: &str = "/v1/responses/{response_id}";

const CHAT: &str = "/v1/chat/completions/{completion_id}";
const CONVERSATION: &str = "/v1/conversations/{conversation_id}";
const ITEMS: &str = "/v1/conversations/{conversation_id}/items";
const ITEM: &str = "/v1/conversations/{conversation_id}/items/{item_id}";

/// The route of a request.
#[derive(Clone, Debug)]
pub struct Route {
    row: &'static Row,
    /// The decoded values of the parts in braces.
    ids: Vec<String>,
}

impl Route {
    /// Returns the route of a request. Fails with 404 for an unknown path, and with 405 for another
    /// method.
    pub fn of(method: &Method, uri: &Uri) -> Result<Self, ApiError> {
        Self::among(method, uri, Offers::ALL)
    }

    /// Returns the route of a request, for a door that offers this.
    pub(crate) fn among(method: &Method, uri: &Uri, offers: Offers<'_>) -> Result<Self, ApiError> {
        let path = uri.path();
        let mut rows = rows(offers)
            .filter_map(|row| Some((row, row.ids_in(path)?)))
            .peekable();
        let Some((first, _)) = rows.peek() else {
            return Err(ApiError::unknown_route(method, path, meant(path, offers)));
        };
        // `/v1/responses/input_tokens` is no response with that id.
        let its_own = first.path;
        let mut allowed = Vec::new();
        for (row, ids) in rows.filter(|(row, _)| row.path == its_own) {
            if row.method == *method {
                let decoded = |id: &str| percent_decode_str(id).decode_utf8_lossy().into_owned();
                let ids = ids.into_iter().map(decoded).collect();
                return Ok(Self { row, ids });
            }
            allowed.push(row.method.clone());
        }
        Err(ApiError::wrong_method(method, path, allowed))
    }

    /// Returns whether a path needs no API key: by it, clients find out whether the server is there.
    pub fn is_open(path: &str) -> bool {
        path == HELLO
    }

    /// Returns whether a path belongs to OpenAI's API alone.
    pub(crate) fn is_of_openai(path: &str) -> bool {
        let shared = [
            Handler::Models,
            Handler::Model,
            Handler::DeleteModel,
            Handler::Files(FilesHandler::CreateFile),
            Handler::Files(FilesHandler::Files),
            Handler::Files(FilesHandler::File),
            Handler::Files(FilesHandler::DeleteFile),
            Handler::Files(FilesHandler::FileContent),
        ];
        let mut rows = rows(Offers::ALL).filter(|row| row.ids_in(path).is_some());
        rows.any(|row| !shared.contains(&row.handler))
    }

    /// Returns whether a path belongs to Ollama's API.
    pub(crate) fn is_of_ollama(path: &str) -> bool {
        let mut rows = ROUTES.iter().filter(|row| row.needs == Needs::Ollama);
        rows.any(|row| row.ids_in(path).is_some())
    }

    /// Returns the path as the table has it, for example `/v1/models/{id}`. Logs may contain it,
    /// because it contains nothing that a client sent.
    pub fn path(&self) -> &'static str {
        self.row.path
    }

    /// Returns whether an engine works on the answers of this route.
    pub fn generates(&self) -> bool {
        if let Handler::OllamaApi(route) = self.row.handler {
            return route.generates();
        }
        matches!(
            self.row.handler,
            Handler::Chat
                | Handler::Completions
                | Handler::Responses
                | Handler::Session
                | Handler::Compact
                | Handler::Messages
                | Handler::Embeddings
                | Handler::Moderations
                | Handler::Rerank
                | Handler::Audio(_)
        )
    }

    /// Returns whether a client opens a WebSocket by this route.
    pub fn opens_session(&self) -> bool {
        self.row.handler == Handler::Session
    }

    /// Returns the methods of all routes, without duplicates.
    pub fn methods() -> Vec<Method> {
        [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ]
        .into_iter()
        .filter(|method| ROUTES.iter().any(|row| row.method == *method))
        .collect()
    }

    pub(crate) fn handler(&self) -> Handler {
        self.row.handler
    }

    /// Returns the decoded value of the first part in braces. Empty if the path has none.
    pub(crate) fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }

    /// Returns the decoded value of the second part in braces. Empty if the path has less than two.
    pub(crate) fn item(&self) -> &str {
        self.ids.get(1).map_or("", String::as_str)
    }
}

/// Returns the rows that exist for a door that offers this.
fn rows(offers: Offers<'_>) -> impl Iterator<Item = &'static Row> {
    ROUTES.iter().filter(move |row| offers.have(row.needs))
}

impl Row {
    /// Returns the parts of `path` that stand for the names in braces, still encoded. `None` if the
    /// path does not match this row.
    fn ids_in<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        // The common case: paths without parameters are compared as a whole.
        if path == self.path && !path.contains('{') {
            return Some(Vec::new());
        }
        let mut rest = Some(path.trim_end_matches('/').strip_prefix('/')?);
        let mut ids = Vec::new();
        let mut word = "";
        for part in self.path.split('/').skip(1) {
            let all = rest?;
            let (one, after) = match all.split_once('/') {
                Some((one, after)) if part != "{id}" => (one, Some(after)),
                _ => (all, None),
            };
            if !part.starts_with('{') {
                if one != part {
                    return None;
                }
                word = one;
            } else if one.is_empty() || one == word && part != "{id}" {
                // `/v1/responses/responses` is a base URL that was written twice.
                return None;
            } else {
                ids.push(one);
            }
            rest = after;
        }
        rest.is_none().then_some(ids)
    }
}

/// The maximum length of a misspelled word in a path, and the maximum number of wrong letters.
const LONGEST_WORD: usize = 16;
const MISTYPED: usize = 2;

/// Returns the route that an unknown path resembles: without `/v1`, with a repeated prefix, with an
/// extra slash, or misspelled.
fn meant(path: &str, offers: Offers<'_>) -> Option<&'static str> {
    let parts = || {
        path.split('/')
            .filter(|part| !part.is_empty() && part.len() <= LONGEST_WORD)
    };
    let has =
        |word: &str, wrong| parts().any(|part| is_like(&part.to_ascii_lowercase(), word, wrong));
    if has("chat", MISTYPED) && has("completions", MISTYPED) {
        return Some("/v1/chat/completions");
    }
    let find = |wrong| rows(offers).find(|row| row.words.iter().any(|word| has(word, wrong)));
    find(0).or_else(|| find(MISTYPED)).map(|row| row.path)
}

/// Returns whether a part of a path is this word with at most `wrong` wrong letters, fewer for
/// short words.
fn is_like(part: &str, word: &str, wrong: usize) -> bool {
    part == word || wrong > 0 && strsim::osa_distance(part, word) <= wrong.min(word.len() / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_path_is_told_the_route_that_it_looks_like() {
        let of = |method: &Method, path: &str| {
            let offers = Offers {
                ollama_api: &[],
                ..Offers::ALL
            };
            Route::among(method, &path.parse().expect("a path"), offers)
        };
        for (path, route) in [
            ("/chat/completions", "/v1/chat/completions"),
            ("//v1/chat/completions", "/v1/chat/completions"),
            ("/v1//chat/completions", "/v1/chat/completions"),
            ("/v1/v1/chat/completions", "/v1/chat/completions"),
            (
                "/v1/chat/completions/chat/completions",
                "/v1/chat/completions",
            ),
            (
                "/openai/deployments/m/chat/completions",
                "/v1/chat/completions",
            ),
            ("/api/chat", "/v1/chat/completions"),
            ("/responses", "/v1/responses"),
            ("/responses/input_tokens", "/v1/responses/input_tokens"),
            ("/v1/input_tokens", "/v1/responses/input_tokens"),
            ("/v1/responses/responses", "/v1/responses"),
            ("/v1/chat", "/v1/chat/completions"),
            ("/v1/caht/completions", "/v1/chat/completions"),
            ("/v1/chat/completion", "/v1/chat/completions"),
            ("/V1/Chat/Completions", "/v1/chat/completions"),
            ("/completions", "/v1/completions"),
            ("/v1/engines/davinci/completions", "/v1/completions"),
            ("/completion", "/v1/completions"),
            ("/v1/complettions", "/v1/completions"),
            ("/api/generate", "/v1/completions"),
            ("/embeddings", "/v1/embeddings"),
            ("/v1/v1/embeddings", "/v1/embeddings"),
            ("/api/embed", "/v1/embeddings"),
            ("/models", "/v1/models"),
            ("/v1/v1/models/m", "/v1/models"),
            ("/v1/model", "/v1/models"),
            ("/api/show", "/v1/models"),
        ] {
            let error = of(&Method::POST, path).expect_err(path);
            let message = format!(
                "Invalid URL (POST {path}). Did you mean {route}? The base URL of a client ends in '/v1'."
            );
            assert_eq!((error.status.as_u16(), error.error.message), (404, message));
            assert_eq!(error.error.code.as_deref(), Some("unknown_url"));
        }
        for path in ["/", "/v1", "/v1/", "/favicon.ico", "/v1/images/generations"] {
            let error = of(&Method::GET, path).expect_err(path);
            assert_eq!(error.error.message, format!("Invalid URL (GET {path})"));
        }
    }

    #[test]
    fn a_models_id_may_hold_slashes_and_colons_encoded_or_not() {
        for path in ["/v1/models/a/b:1", "/v1/models/a%2Fb%3A1"] {
            let route = Route::of(&Method::GET, &path.parse().expect("a path")).expect("a route");
            assert_eq!((route.handler(), route.id()), (Handler::Model, "a/b:1"));
            let route =
                Route::of(&Method::DELETE, &path.parse().expect("a path")).expect("a route");
            assert_eq!(
                (route.handler(), route.id()),
                (Handler::DeleteModel, "a/b:1")
            );
        }
    }

    /// Each row is found by its own path and method. Any other method gives a 405 that lists all
    /// methods of the path.
    #[test]
    fn every_row_is_found_and_another_method_is_told_those_there_are() {
        for row in ROUTES {
            let path = row.path.replace("{id}", "a%2Fb");
            let uri: Uri = path.parse().expect("a path");
            let route = Route::of(&row.method, &uri).expect("a route");
            assert_eq!((route.path(), route.handler()), (row.path, row.handler));
            let error = Route::of(&Method::TRACE, &uri).expect_err("no route has it");
            assert_eq!(error.status, http::StatusCode::METHOD_NOT_ALLOWED);
            let methods: Vec<Method> = ROUTES
                .iter()
                .filter(|other| other.path == row.path)
                .map(|other| other.method.clone())
                .collect();
            assert_eq!(error.allow, methods);
        }
    }
}
