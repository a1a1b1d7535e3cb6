//! The console: web pages for the operator, at `/console`. The program has their files in itself
//! (`crates/server/console/`), as they are: there is no build step, and the pages load nothing from
//! anywhere else.
//!
//! The files are the same for everybody and hold no secret. What the pages show comes from the admin
//! API and from OpenAI's, with the key that the operator enters.

pub(crate) mod responses;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use loggia_api::ApiError;
use serde_json::json;

use crate::{Keys, json_answer, local};

pub(crate) const PAGE: &str = "/console";
/// Whether the admin API needs a key from this client, for a page that has none yet.
pub(crate) const SESSION: &str = "/console/session";
pub(crate) const FILE: &str = "/console/{file}";

/// Scripts and styles are files of this server only, and text never becomes HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

struct File {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! files {
    ($($name:literal $content_type:ident),* $(,)?) => {
        [$(File {
            name: $name,
            content_type: $content_type,
            content: include_str!(concat!("../../console/", $name)),
        }),*]
    };
}

static FILES: &[File] = &files![
    "index.html" HTML,
    "console.css" CSS,
    "icon.svg" SVG,
    "api.js" SCRIPT,
    "dom.js" SCRIPT,
    "format.js" SCRIPT,
    "keys.js" SCRIPT,
    "live.js" SCRIPT,
    "main.js" SCRIPT,
    "models.js" SCRIPT,
    "playground.js" SCRIPT,
    "plot.js" SCRIPT,
    "snippets.js" SCRIPT,
    "stored.js" SCRIPT,
];

/// The path of a route as the table has it, if the path is one of them.
pub(crate) fn route(path: &str) -> Option<&'static str> {
    match path.strip_prefix(PAGE)? {
        "" => Some(PAGE),
        "/session" => Some(SESSION),
        "/responses" => Some(responses::PATH),
        rest => rest.starts_with('/').then_some(FILE),
    }
}

/// Returns the routes of the files, and the one that says whether a key is needed.
pub(crate) fn routes(keys: Keys) -> Router {
    let session = move |request: Request| {
        let needs_key = !local::is_open_to(&keys, &request);
        std::future::ready(json_answer(&json!({"needs_key": needs_key})))
    };
    Router::new()
        .route(SESSION, get(session))
        .route(PAGE, get(|| async { file("index.html") }))
        .route("/console/", get(to_page))
        .route(
            FILE,
            get(|Path(name): Path<String>| async move { file(&name) }),
        )
}

/// The links of the page are relative, and one level up.
async fn to_page() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let page = HeaderValue::from_static("../console");
    response.headers_mut().insert(LOCATION, page);
    response
}

fn file(name: &str) -> Response<Body> {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        let message = format!("The console has no file '{name}'.");
        let error = ApiError::new(StatusCode::NOT_FOUND, message).coded("not_found");
        return error.response().map(Body::new);
    };
    let mut response = Response::new(Body::from(file.content));
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, file.content_type),
        // The files change with the program only, which a browser cannot know.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/console");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut served: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        served.sort_unstable();
        assert_eq!(names, served);
    }

    #[test]
    fn paths_beside_the_console_are_not_its_own() {
        assert_eq!(route("/console"), Some(PAGE));
        assert_eq!(route("/console/main.js"), Some(FILE));
        assert_eq!(route("/console/responses"), Some(responses::PATH));
        assert_eq!(route("/consoles").or(route("/v1/console")), None);
    }
}
