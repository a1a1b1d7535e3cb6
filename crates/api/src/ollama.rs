//! The routes of Ollama's API by which its clients look for a server and its models: the version,
//! the list, and the request to have a model. Chats of these clients use OpenAI's API.

use std::fmt::Display;

use bytes::Buf;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use loggia_backend::fingerprint;
use loggia_wire::openai::Model;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::headers;
use crate::door::read::json_request;
use crate::messages::models::time;
use crate::{ApiError, Body, Door};

/// The oldest version of Ollama that has the routes of OpenAI's API that Loggia has. Clients
/// compare it: Codex requires 0.13.4, the first with `/v1/responses`. A higher number would promise
/// routes of Ollama's own API.
const VERSION: &str = "0.13.4";

/// The capabilities that Ollama knows. Loggia's list has others too.
const CAPABILITIES: [&str; 7] = [
    "completion",
    "tools",
    "insert",
    "vision",
    "embedding",
    "thinking",
    "audio",
];

/// `GET /api/version`. Its field `server` shows people and clients that the server is Loggia.
pub(crate) fn version() -> Response<Body> {
    let server = concat!("loggia ", env!("CARGO_PKG_VERSION"));
    json_answer(&json!({"version": VERSION, "server": server}))
}

impl Door {
    /// `GET /api/tags`: the served models.
    pub(crate) async fn ollama_tags(&self) -> Response<Body> {
        match self.backend.models().await {
            Ok(models) => {
                let models: Vec<Value> = models.iter().map(listed).collect();
                json_answer(&json!({ "models": models }))
            }
            Err(error) => self.refuse(error.into()),
        }
    }

    /// `POST /api/pull`: succeeds for a model that is served. It never downloads one.
    pub(crate) async fn ollama_pull<B>(&self, mut request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        // As in Ollama, the content type is ignored: `curl -d` sends another one.
        request.headers_mut().remove(CONTENT_TYPE);
        let pull = match json_request(request, &self.policy).await {
            Ok((_, body)) => Pull::parse(&body),
            Err(error) => Err(error),
        };
        let Pull { model, stream } = match pull {
            Ok(pull) => pull,
            Err(error) => return self.refuse(error),
        };
        match self.backend.model(&model).await {
            Ok(_) => {
                let success = json!({"status": "success"});
                if stream {
                    lines(Body::whole(format!("{success}\n")))
                } else {
                    json_answer(&success)
                }
            }
            Err(error) => {
                let error = ApiError::from(self.with_nearest(error).await);
                if stream {
                    // As in Ollama. Of other answers, Codex shows only the status.
                    let line = json!({"error": not_pulled(&error)});
                    lines(Body::failed(format!("{line}\n"), &error))
                } else {
                    self.refuse(error)
                }
            }
        }
    }
}

/// Returns the body of an error in Ollama's format.
pub(crate) fn error(error: &ApiError) -> Body {
    Body::failed(json!({"error": error.error.message}).to_string(), error)
}

/// The request of `POST /api/pull`.
struct Pull {
    model: String,
    stream: bool,
}

impl Pull {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        #[serde(expecting = "a JSON object")]
        struct Fields {
            model: Option<String>,
            /// The older name of `model`.
            name: Option<String>,
            stream: Option<bool>,
        }
        let fields: Fields = serde_json::from_slice(body).map_err(|error| {
            let message = format!("The body of the request is not valid: {error}.");
            ApiError::new(StatusCode::BAD_REQUEST, message)
        })?;
        let model = [fields.model, fields.name].into_iter().flatten();
        match model.into_iter().find(|name| !name.is_empty()) {
            Some(model) => Ok(Self {
                model,
                stream: fields.stream.unwrap_or(true),
            }),
            None => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "The body of the request has no `model`.",
            )),
        }
    }
}

/// Returns a model in Ollama's format. A field that a backend does not report is empty, 0 or
/// absent.
fn listed(model: &Model) -> Value {
    let number = |name: &str| model.extra.get(name).and_then(Value::as_u64);
    let text = |name: &str| model.extra.get(name).and_then(Value::as_str);
    let family = text("family").or(text("architecture")).unwrap_or_default();
    let families: Vec<&str> = Some(family)
        .filter(|name| !name.is_empty())
        .into_iter()
        .collect();
    let size = number("size").unwrap_or_default();
    let parameters = match text("parameter_size") {
        Some(written) => written.to_owned(),
        None => number("parameter_count").map_or_else(String::new, parameter_size),
    };
    let mut details = json!({
        "parent_model": "",
        "format": "",
        "family": family,
        "families": families,
        "parameter_size": parameters,
        "quantization_level": text("quantization_level").unwrap_or_default(),
    });
    if let Some(context) = number("context_length") {
        details["context_length"] = context.into();
    }
    let mut listed = json!({
        "name": model.id,
        "model": model.id,
        "modified_at": time(model.created),
        "size": size,
        "digest": digest(model, size),
        "details": details,
    });
    if let Some(Value::Array(all)) = model.extra.get("capabilities") {
        let known = all.iter().filter(|one| {
            one.as_str()
                .is_some_and(|name| CAPABILITIES.contains(&name))
        });
        listed["capabilities"] = known.cloned().collect();
    }
    listed
}

/// Returns a text that changes if the model is replaced. Ollama's own client cuts it to 12 letters,
/// and ends with an error if it is shorter.
fn digest(model: &Model, size: u64) -> String {
    let (created, size) = (model.created.to_string(), size.to_string());
    fingerprint(&["tags", &model.owned_by, &model.id, &created, &size]).to_string()
}

/// Returns a number of parameters as Ollama writes it: `134.52M`, `8.0B`.
fn parameter_size(count: u64) -> String {
    const THOUSAND: u64 = 1_000;
    const MILLION: u64 = 1_000_000;
    const BILLION: u64 = 1_000_000_000;
    // In whole numbers, rounded half up.
    let of = |unit: u64, parts: u64| {
        let rounded = u128::from(count) * u128::from(parts) + u128::from(unit / 2);
        rounded / u128::from(unit)
    };
    if count >= BILLION {
        let tenths = of(BILLION, 10);
        format!("{}.{}B", tenths / 10, tenths % 10)
    } else if count >= MILLION {
        let hundredths = of(MILLION, 100);
        format!("{}.{:02}M", hundredths / 100, hundredths % 100)
    } else if count >= THOUSAND {
        format!("{}K", of(THOUSAND, 1))
    } else {
        count.to_string()
    }
}

/// Returns the message for a model that is not served.
fn not_pulled(error: &ApiError) -> String {
    if error.status == StatusCode::NOT_FOUND {
        format!(
            "this server does not download models for its clients; its operator adds them, for example with `loggia pull`: {}",
            error.error.message
        )
    } else {
        error.error.message.clone()
    }
}

fn json_answer(value: &Value) -> Response<Body> {
    headers::json(Body::whole(value.to_string()))
}

fn lines(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_body_that_is_no_object_says_what_it_must_be() {
        for body in ["null", "[]", "1", "\"m\""] {
            let error = Pull::parse(body.as_bytes()).err().unwrap();
            let message = error.error.message;
            assert!(message.contains("expected a JSON object"), "{message}");
        }
    }

    #[test]
    fn parameters_are_written_as_ollama_writes_them() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (22_570_000, "22.57M"),
            (134_515_008, "134.52M"),
            (8_030_261_312, "8.0B"),
            (u64::MAX, "18446744073.7B"),
        ] {
            assert_eq!(parameter_size(count), text);
        }
    }

    #[test]
    fn a_model_with_all_properties_has_them_in_ollamas_names() {
        let mut model = Model::new("smollm2:135m", 1_795_942_861, "embedded");
        let Value::Object(extra) = json!({"architecture": "llama", "parameter_count": 134_515_008,
            "size": 98_362_432, "context_length": 4096, "capabilities": ["completion", "json_schema", "tools"]})
        else {
            unreachable!("an object")
        };
        model.extra.extend(extra);
        let mut listed = listed(&model);
        assert!(
            listed["digest"]
                .take()
                .as_str()
                .is_some_and(|text| text.len() >= 12)
        );
        assert_eq!(
            listed,
            json!({"name": "smollm2:135m", "model": "smollm2:135m", "modified_at": "2026-11-29T09:01:01Z",
                "size": 98_362_432, "digest": null, "capabilities": ["completion", "tools"],
                "details": {"parent_model": "", "format": "", "family": "llama", "families": ["llama"],
                    "parameter_size": "134.52M", "quantization_level": "", "context_length": 4096}})
        );
    }
}
