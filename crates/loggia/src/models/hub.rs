//! Hugging Face's HTTP API: lists a repository, and downloads a file from a given byte on.
//!
//! The token is only sent to the hub: downloads are redirected to storage on other hosts, and
//! reqwest removes the `authorization` header if the host or the port changes. Links to further
//! pages of a listing are only followed on the hub.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, HeaderMap, HeaderValue, LINK, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;

use super::digest;
use super::source::Repo;

/// The default hub; `HF_ENDPOINT` overrides it.
const ENDPOINT: &str = "https://huggingface.co";

/// Limits of a listing, larger than any repository's: they bound the memory that a hub can use
/// here.
const MOST_PAGES: usize = 64;
const LARGEST_PAGE: usize = 16 << 20;

/// A hub, with or without a token.
pub(crate) struct Hub {
    client: Client,
    endpoint: Url,
    token: Option<HeaderValue>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubFile {
    /// The path of the file in the repository; every component is a plain name.
    pub(crate) path: String,
    pub(crate) size: u64,
    /// Known for every file in Git LFS, which includes GGUF files.
    pub(crate) sha256: Option<String>,
}

/// A download that has begun.
pub(crate) struct Opened {
    pub(crate) response: Response,
    /// The byte at which it begins: the requested one, or 0 if the server cannot resume.
    pub(crate) at: u64,
}

/// Why the hub did not answer as requested.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    #[error("HF_ENDPOINT is `{0}`, which is not an http(s) URL")]
    Endpoint(String),
    #[error("HF_TOKEN has characters that are not allowed in a token")]
    Token,
    #[error("cannot reach the hub: {}", chain(.0))]
    Http(reqwest::Error),
    #[error(
        "{repo} is gated: accept its licence at {page} with your account, then set HF_TOKEN to a token of that account \
         (made at https://huggingface.co/settings/tokens)"
    )]
    Gated { repo: String, page: String },
    #[error(
        "the account of HF_TOKEN may not read {repo}: accept its licence at {page}, or use another HF_TOKEN"
    )]
    Forbidden { repo: String, page: String },
    #[error(
        "there is no {repo} on this hub, or it is private; set HF_TOKEN for private repositories"
    )]
    NoRepo { repo: String },
    #[error("there is no {path} in {repo}")]
    NoFile { repo: String, path: String },
    #[error("the hub answered {status} for {repo}")]
    Status { repo: String, status: StatusCode },
    #[error("the hub's listing of {repo} cannot be used: {why}")]
    Listing { repo: String, why: String },
}

impl HubError {
    /// Whether a retry may succeed.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            HubError::Http(error) => !error.is_builder() && !error.is_redirect(),
            HubError::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

/// Not an error source: the message already includes it.
impl From<reqwest::Error> for HubError {
    fn from(error: reqwest::Error) -> Self {
        HubError::Http(error)
    }
}

/// reqwest's own message does not include the cause.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Hub {
    /// The hub of `HF_ENDPOINT` and `HF_TOKEN`, which Hugging Face's own tools use, too.
    pub(crate) fn from_environment() -> Result<Self, HubError> {
        let var = |name| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.trim().is_empty())
        };
        Hub::new(
            var("HF_ENDPOINT").as_deref().unwrap_or(ENDPOINT),
            var("HF_TOKEN").as_deref(),
        )
    }

    fn new(endpoint: &str, token: Option<&str>) -> Result<Self, HubError> {
        let url = Url::parse(endpoint.trim())
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        let endpoint = url
            .filter(Url::has_host)
            .ok_or_else(|| HubError::Endpoint(endpoint.to_owned()))?;
        let token = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| HubError::Token)?;
            value.set_sensitive(true);
            Ok::<_, HubError>(value)
        });
        // Fails only if a provider is already installed, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("loggia/", env!("CARGO_PKG_VERSION")))
            // The windows of HTTP/2 would limit the speed of a download over a long distance.
            .http1_only()
            .connect_timeout(Duration::from_secs(10))
            // The limit between two reads, not for the whole download: a large file may take hours.
            .read_timeout(Duration::from_mins(1))
            .build()?;
        Ok(Hub {
            client,
            endpoint,
            token: token.transpose()?,
        })
    }

    /// All files of the repository's main branch.
    pub(crate) async fn files(&self, repo: &Repo) -> Result<Vec<HubFile>, HubError> {
        let mut url = self.url(&["api", "models", &repo.owner, &repo.name, "tree", "main"]);
        url.set_query(Some("recursive=true"));
        let mut files = Vec::new();
        for _ in 0..MOST_PAGES {
            let response = self.ask(url, repo, None, 0).await?;
            let next = self.next_page(response.headers(), repo)?;
            let page = whole(response, repo).await?;
            let entries: Vec<Entry> =
                serde_json::from_slice(&page).map_err(|error| unusable(repo, &error))?;
            files.extend(entries.into_iter().filter_map(Entry::file));
            match next {
                Some(next) => url = next,
                None => return Ok(files),
            }
        }
        Err(unusable(
            repo,
            &format!("it has more than {MOST_PAGES} pages"),
        ))
    }

    /// Downloads a file, from a given byte on if the server can.
    pub(crate) async fn open(
        &self,
        repo: &Repo,
        file: &HubFile,
        from: u64,
    ) -> Result<Opened, HubError> {
        let path: Vec<&str> = [repo.owner.as_str(), &repo.name, "resolve", "main"]
            .into_iter()
            .chain(file.path.split('/'))
            .collect();
        let response = self
            .ask(self.url(&path), repo, Some(&file.path), from)
            .await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if range_fits(response.headers(), from, file.size) => {
                Ok(Opened { response, at: from })
            }
            StatusCode::OK => Ok(Opened { response, at: 0 }),
            // The server sent another range, or none (416): start at the beginning.
            _ => Ok(Opened {
                response: self.ask(self.url(&path), repo, Some(&file.path), 0).await?,
                at: 0,
            }),
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    async fn ask(
        &self,
        url: Url,
        repo: &Repo,
        path: Option<&str>,
        from: u64,
    ) -> Result<Response, HubError> {
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() || (from > 0 && status == StatusCode::RANGE_NOT_SATISFIABLE) {
            return Ok(response);
        }
        Err(self.refusal(&response, repo, path))
    }

    /// The error for a refusal. The hub also answers 401 if the repository or the file does not
    /// exist.
    fn refusal(&self, response: &Response, repo: &Repo, path: Option<&str>) -> HubError {
        let code = response
            .headers()
            .get("x-error-code")
            .and_then(|code| code.to_str().ok())
            .unwrap_or_default();
        let (name, page) = (
            repo.to_string(),
            self.url(&[&repo.owner, &repo.name]).to_string(),
        );
        match (response.status(), code, path) {
            (_, "GatedRepo", _) | (StatusCode::FORBIDDEN, ..) if self.token.is_some() => {
                HubError::Forbidden { repo: name, page }
            }
            (_, "GatedRepo", _) | (StatusCode::FORBIDDEN, ..) => {
                HubError::Gated { repo: name, page }
            }
            (_, "RepoNotFound", _) | (StatusCode::NOT_FOUND, _, None) => {
                HubError::NoRepo { repo: name }
            }
            (StatusCode::NOT_FOUND, _, Some(path)) => HubError::NoFile {
                repo: name,
                path: path.to_owned(),
            },
            (StatusCode::UNAUTHORIZED, ..) if self.token.is_some() => {
                HubError::Forbidden { repo: name, page }
            }
            (StatusCode::UNAUTHORIZED, _, Some(_)) => HubError::Gated { repo: name, page },
            (StatusCode::UNAUTHORIZED, _, None) => HubError::NoRepo { repo: name },
            (status, ..) => HubError::Status { repo: name, status },
        }
    }

    /// The URL of the listing's next page. It must be on the same hub, because the token is sent
    /// with the request.
    fn next_page(&self, headers: &HeaderMap, repo: &Repo) -> Result<Option<Url>, HubError> {
        let Some(link) = headers.get(LINK).and_then(|link| link.to_str().ok()) else {
            return Ok(None);
        };
        let next = link.split(',').find(|link| link.contains("rel=\"next\""));
        let Some(next) = next
            .and_then(|link| link.split_once('<')?.1.split_once('>'))
            .map(|(url, _)| url)
        else {
            return Ok(None);
        };
        let url = self
            .endpoint
            .join(next)
            .map_err(|error| unusable(repo, &error))?;
        if url.origin() == self.endpoint.origin() {
            Ok(Some(url))
        } else {
            Err(unusable(repo, &"its next page is on another host"))
        }
    }
}

fn unusable(repo: &Repo, why: &dyn std::fmt::Display) -> HubError {
    HubError::Listing {
        repo: repo.to_string(),
        why: why.to_string(),
    }
}

async fn whole(mut response: Response, repo: &Repo) -> Result<Vec<u8>, HubError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LARGEST_PAGE {
            return Err(unusable(repo, &"a page of it is larger than 16 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Whether this is `content-range: bytes 5-9/10` for byte 5 of a file of 10.
fn range_fits(headers: &HeaderMap, from: u64, size: u64) -> bool {
    let Some(range) = headers
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok())
    else {
        return false;
    };
    let Some((range, total)) = range
        .strip_prefix("bytes ")
        .and_then(|range| range.split_once('/'))
    else {
        return false;
    };
    let first = range
        .split_once('-')
        .and_then(|(first, _)| first.parse::<u64>().ok());
    first == Some(from) && (total == "*" || total.parse() == Ok(size))
}

/// An entry of the listing, as the hub sends it.
#[derive(Deserialize)]
struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Entry {
    /// Skips folders, and paths that would lead out of the model folder.
    fn file(self) -> Option<HubFile> {
        let plain = |part: &str| {
            !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ':', '\0'])
        };
        if self.r#type != "file" || !self.path.split('/').all(plain) {
            return None;
        }
        let (size, sha256) = self
            .lfs
            .map_or((self.size, None), |lfs| (lfs.size, Some(lfs.oid)));
        Some(HubFile {
            path: self.path,
            size,
            sha256: sha256.filter(|hex| digest::is_hex(hex)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_out_of_the_store_is_no_file() {
        let file = |path: &str| {
            Entry {
                r#type: "file".into(),
                path: path.into(),
                size: 3,
                lfs: None,
            }
            .file()
            .map(|file| file.path)
        };
        assert_eq!(file("a/m.gguf").as_deref(), Some("a/m.gguf"));
        for bad in [
            "../m.gguf",
            "/m.gguf",
            "a//m.gguf",
            "a\\..\\m.gguf",
            ".part",
            "c:/m.gguf",
        ] {
            assert_eq!(file(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_piece_is_taken_only_where_it_continues_the_same_file() {
        let fits = |text: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static(text))]);
            range_fits(&headers, 5, 10)
        };
        assert!(fits("bytes 5-9/10") && fits("bytes 5-9/*"));
        assert!(!fits("bytes 0-9/10") && !fits("bytes 5-9/11") && !fits("5-9/10"));
    }

    #[test]
    fn the_next_page_is_on_the_same_hub_or_nowhere() {
        let hub = Hub::new("http://127.0.0.1:9/base/", Some("t")).unwrap();
        let repo = Repo {
            owner: "o".into(),
            name: "r".into(),
        };
        let next = |link: &str| {
            hub.next_page(
                &HeaderMap::from_iter([(LINK, HeaderValue::from_str(link).unwrap())]),
                &repo,
            )
        };
        assert_eq!(
            next("<http://127.0.0.1:9/x?c=1>; rel=\"next\"")
                .unwrap()
                .unwrap()
                .as_str(),
            "http://127.0.0.1:9/x?c=1"
        );
        assert!(next("<http://127.0.0.1:10/x>; rel=\"next\"").is_err());
        assert!(
            next("<http://127.0.0.1:10/x>; rel=\"prev\"")
                .unwrap()
                .is_none()
        );
        assert_eq!(hub.url(&["o", "r"]).as_str(), "http://127.0.0.1:9/base/o/r");
    }

    #[test]
    fn an_endpoint_that_is_no_address_is_named() {
        assert!(matches!(
            Hub::new("ftp://x", None),
            Err(HubError::Endpoint(_))
        ));
        assert!(matches!(
            Hub::new("huggingface.co", None),
            Err(HubError::Endpoint(_))
        ));
        assert!(matches!(
            Hub::new("http://x", Some("a\nb")),
            Err(HubError::Token)
        ));
    }
}
