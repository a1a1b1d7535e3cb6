//! Routes of Ollama's own API that are passed on to the Ollama server that has the model: those of
//! [`Policy::ollama_api`](crate::Policy::ollama_api). The server gets the fields of the request and
//! no header of it; its answer is passed on as it arrives (`body.rs`).

pub(crate) mod body;

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use loggia_backend::{CallHead, OllamaCall, OllamaRequest, OllamaRoute, Trace};
use loggia_wire::Extra;
use serde_json::Value;

use crate::answer::ended::Progress;
use crate::answer::headers::{self, name_server};
use crate::answer::id;
use crate::answer::refusal::Refusals;
use crate::door::meter::{LimitReport, Tokens};
use crate::door::read::json_body;
use crate::ollama_api::body::OllamaBody;
use crate::wording::Dialect;
use crate::{ApiError, Body, Caller, Door, Running};

impl Door {
    /// Answers a route of Ollama's own API.
    pub(crate) async fn ollama_api<B>(
        &self,
        route: OllamaRoute,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: Display> + Send,
    {
        let (mut parts, body) = request.into_parts();
        // As in Ollama, the content type is ignored: `curl -d` sends another one.
        parts.headers.remove(CONTENT_TYPE);
        let read = if route.method() == Method::GET {
            Ok(Bytes::from_static(b"{}"))
        } else {
            json_body(&parts.headers, body, &self.policy).await
        };
        let asked = match read.and_then(|body| parse(route, &body)) {
            Ok(asked) => asked,
            Err(error) => return self.refuse(error),
        };
        let refusals = Refusals::new(&parts, dialect(route));
        let model: Option<Arc<str>> = asked.model.as_deref().map(Into::into);
        let progress = Progress::of(model.clone()).shown_in(Running::of(&parts));
        let answered = {
            let answering = pin!(self.answer_ollama_api(&parts, asked, progress, &refusals));
            self.in_time(&refusals, answering).await
        };
        let response = answered.unwrap_or_else(|error| self.refuse(error));
        response.map(|body| body.about_model(model))
    }

    async fn answer_ollama_api(
        &self,
        parts: &Parts,
        asked: OllamaRequest,
        mut progress: Progress,
        refusals: &Refusals,
    ) -> Result<Response<Body>, ApiError> {
        let caller = parts.extensions.get::<Caller>();
        if asked.model.is_none() && caller.is_some_and(|caller| caller.models.is_some()) {
            return Err(needs_all_models(asked.route));
        }
        let head = CallHead {
            caller: Caller::name_of(parts),
            trace: Trace::of(&parts.headers),
            ..CallHead::new(id::item("ollama-"))
        };
        if let Some(model) = asked.model.as_deref().filter(|_| asked.route.generates()) {
            let report = parts.extensions.get::<Arc<LimitReport>>();
            let tokens = || tokens_of(&asked);
            if let Some(entering) = self.enter(&head, model, &tokens, report) {
                progress.hold(entering.await?);
            }
        }
        let has_model = asked.model.is_some();
        let call = OllamaCall { head, work: asked };
        let model = call.work.model.clone();
        let reply = match self.backend.ollama_api(call).await {
            Ok(Some(reply)) => reply,
            Ok(None) => return Err(no_ollama(model.as_deref())),
            Err(error) => return Err(refusals.refuse(self.with_nearest(error).await)),
        };
        let (served_by, media_type) = (reply.served_by.clone(), reply.media_type.clone());
        if has_model {
            progress.accepted(&served_by);
        }
        let until = self.policy.ceilings.whole_time;
        let body = OllamaBody::new(reply, progress, refusals.clone(), until);
        let mut response = headers::json(Body::ollama(body));
        if let Ok(media_type) = HeaderValue::try_from(media_type) {
            response.headers_mut().insert(CONTENT_TYPE, media_type);
        }
        if has_model {
            name_server(&mut response, &served_by);
        }
        Ok(response)
    }
}

/// Reads a request. The name of the model is removed from the fields under every spelling that
/// Ollama reads, so that Ollama reads no other name than the one that was checked.
fn parse(route: OllamaRoute, body: &[u8]) -> Result<OllamaRequest, ApiError> {
    let mut fields: Extra = serde_json::from_slice(body).map_err(|error| {
        let message = format!("The body of the request is not valid: {error}.");
        ApiError::new(StatusCode::BAD_REQUEST, message)
    })?;
    let Some(field) = route.model_field() else {
        return Ok(OllamaRequest {
            route,
            model: None,
            fields,
        });
    };
    // `name` is the older name of `model`.
    let spellings = [field, if field == "model" { "name" } else { field }];
    let mut model = None;
    for spelling in spellings {
        let spelled = |key: &String| are_same_to_go(key, spelling);
        let keys: Vec<String> = fields.keys().filter(|key| spelled(key)).cloned().collect();
        for key in keys {
            let value = fields.shift_remove(&key);
            let text = value.as_ref().and_then(Value::as_str).unwrap_or_default();
            if model.is_none() && !text.is_empty() {
                model = Some(text.to_owned());
            }
        }
    }
    if model.is_none() {
        let message = format!("The body of the request has no `{field}`.");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, message));
    }
    Ok(OllamaRequest {
        route,
        model,
        fields,
    })
}

/// Returns whether Go reads a key of an object as this field: it ignores case, also that of `ſ`,
/// whose upper case is `S`.
fn are_same_to_go(key: &str, field: &str) -> bool {
    let folded = |text: &str| -> String {
        let lower = text.chars().flat_map(char::to_lowercase);
        lower.flat_map(char::to_uppercase).collect()
    };
    folded(key) == folded(field)
}

/// Returns the terms in which errors of a route are worded.
fn dialect(route: OllamaRoute) -> Dialect {
    match route {
        OllamaRoute::Generate => Dialect::Completions,
        OllamaRoute::Embed | OllamaRoute::Embeddings => Dialect::Embeddings,
        _ => Dialect::Chat,
    }
}

/// Returns the tokens that a request may use: about four bytes of its texts are a token.
fn tokens_of(asked: &OllamaRequest) -> Tokens {
    let bytes: u64 = asked.fields.values().map(bytes_of_texts).sum();
    let answer = match asked.route {
        OllamaRoute::Embed | OllamaRoute::Embeddings => Some(0),
        _ => {
            let options = asked.fields.get("options");
            options.and_then(|options| options["num_predict"].as_u64())
        }
    };
    Tokens {
        prompt: bytes / 4 + 1,
        answer,
    }
}

/// Returns the length of all texts in a value, images excluded. Does not recurse deeper than the
/// parser of the value did.
fn bytes_of_texts(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(all) => all.iter().map(bytes_of_texts).sum(),
        Value::Object(fields) => {
            let texts = fields.iter().filter(|(name, _)| *name != "images");
            texts.map(|(_, value)| bytes_of_texts(value)).sum()
        }
        // The tokens of an earlier answer (`context`), and settings.
        Value::Number(_) => 4,
        Value::Null | Value::Bool(_) => 0,
    }
}

/// The error for a key that may use some models only, at a route that shows or changes all of them.
fn needs_all_models(route: OllamaRoute) -> ApiError {
    let message = format!(
        "This API key may use some models only, and {route} is about all models. Ask the operator of this server for a key without a list of models."
    );
    ApiError::new(StatusCode::FORBIDDEN, message)
        .coded("insufficient_permissions")
        .not_again()
}

/// The error if no Ollama server has the model, or if there is no Ollama server.
fn no_ollama(model: Option<&str>) -> ApiError {
    let message = match model {
        Some(model) => format!(
            "The model '{model}' is not served by an Ollama server, so Ollama's own API does not reach it. Use the API under /v1."
        ),
        None => "No backend of this server is an Ollama server.".to_owned(),
    };
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_spelling_of_the_models_name_is_passed_on() {
        for (route, body) in [
            (
                OllamaRoute::Chat,
                json!({"model": "m", "Model": "other", "MODEL": "x", "a": 1}),
            ),
            (
                OllamaRoute::Show,
                json!({"NAME": "other", "model": "m", "name": "x", "a": 1}),
            ),
            (
                OllamaRoute::Delete,
                json!({"name": "m", "model": "", "a": 1}),
            ),
            (
                OllamaRoute::Copy,
                json!({"source": "m", "\u{17f}ource": "other", "a": 1}),
            ),
        ] {
            let asked = parse(route, body.to_string().as_bytes()).unwrap();
            assert_eq!(asked.model.as_deref(), Some("m"), "{body}");
            assert_eq!(Value::Object(asked.fields), json!({"a": 1}), "{body}");
        }
    }

    #[test]
    fn tokens_are_estimated_from_texts_and_not_from_images() {
        let body = json!({"model": "m", "options": {"num_predict": 5},
            "messages": [{"content": "12345678", "images": ["1".repeat(4000)]}]});
        let asked = parse(OllamaRoute::Chat, body.to_string().as_bytes()).unwrap();
        let tokens = tokens_of(&asked);
        assert_eq!((tokens.prompt, tokens.answer), (4, Some(5)));
    }
}
