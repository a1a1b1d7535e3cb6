//! `POST /v1/moderations`: the probabilities with which an input belongs to OpenAI's categories of
//! harmful inputs, from the log-probabilities of a model's answers.
//!
//! `categories.rs` has the categories. Models of two families have formats of their own (`format.rs`,
//! `llama_guard.rs`, `shield_gemma.rs`); others are asked one [decision](crate::decisions) for each
//! category.

mod categories;
pub(crate) mod format;
mod llama_guard;
mod shield_gemma;

use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use loggia_backend::{Ability, BackendError, Event, ServedBy};
use loggia_wire::openai::{
    ChatCompletionRequest, CompletionRequest, CompletionUsage, DecisionAnswer, DecisionRequest,
    Moderation, ModerationRequest, ModerationResult, Question, TokenLogprob,
};
use serde_json::{Value, json};

use crate::admit::ParsedRequest;
use crate::admit::ask::Parse;
use crate::admit::checks::{has_1_to, listed_unless_strict, missing};
use crate::admit::parse::{parsed, profile_of};
use crate::answer::ended::{Outcome, Progress};
use crate::answer::headers::{self, name_server};
use crate::answer::id;
use crate::answer::ignored::add_listed;
use crate::answer::refusal::Refusals;
use crate::answer::running::Running;
use crate::decisions::Asking;
use crate::decisions::question::weights;
use crate::door::read;
use crate::generate::{Admitted, admitted, respond, start};
use crate::generated::Generate;
use crate::moderations::categories::{CATEGORIES, Scores};
use crate::moderations::format::ModerationFormat;
use crate::moderations::shield_gemma::GUIDELINES;
use crate::wording::Dialect;
use crate::{ApiError, Body, Door, Policy};

/// How many inputs of a request are moderated at once.
const AT_ONCE: usize = 4;

/// The model of a request that names none, as at OpenAI.
const DEFAULT_MODEL: &str = "omni-moderation-latest";

impl Door {
    /// `POST /v1/moderations`.
    pub(crate) async fn moderations<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = read::json_body(&parts.headers, body, &self.policy).await;
        let read = read.and_then(|bytes| Ok((parsed::<ModerationRequest>(&bytes)?, bytes)));
        let (request, body) = match read {
            Ok(read) => read,
            Err(error) => return self.refuse(error),
        };
        let profile = profile_of(&body, &self.policy);
        let refusals = Refusals::new(&parts, Dialect::Chat);
        let chosen = Chosen::of(request.model.as_deref(), &self.policy);
        let mut ignored = String::new();
        let answered = {
            let answering = pin!(self.moderate(&parts, request, &chosen, &refusals, &mut ignored));
            self.in_time(&refusals, answering).await
        };
        let model = Arc::from(chosen.name);
        respond(answered, profile, &ignored).map(|body| body.about_model(Some(model)))
    }

    async fn moderate(
        &self,
        parts: &Parts,
        request: ModerationRequest,
        chosen: &Chosen,
        refusals: &Refusals,
        ignored: &mut String,
    ) -> Result<Response<Body>, ApiError> {
        let unknown = request.extra.keys().cloned().collect();
        let strictness = self.strictness_for(parts, &chosen.name);
        add_listed(ignored, &listed_unless_strict(unknown, strictness)?);
        let inputs = inputs_of(request.input, self.policy.ceilings.inputs)?;
        let mut progress = Progress::new(&chosen.name).shown_in(Running::of(parts));
        let moderating = Moderating::new(self, parts, chosen, refusals.clone()).await?;

        let all = inputs.iter().map(|input| moderating.one(input));
        // Boxed, because a stream of these futures is not `Send` for every lifetime otherwise.
        let all: BoxStream<'_, _> = stream::iter(all).buffered(AT_ONCE).boxed();
        let all: Vec<Moderated> = all.try_collect().await?;

        let mut usage = (0, 0);
        for used in all.iter().flat_map(|one| &one.usage) {
            usage.0 += used.prompt_tokens;
            usage.1 += used.completion_tokens;
        }
        let served_by = all.first().map(|one| one.served_by.clone());
        let served_by = served_by.ok_or_else(|| moderating.failed("no input was moderated"))?;
        progress.accepted(&served_by);
        progress.has_begun();
        progress.cost(CompletionUsage::new(usage.0, usage.1));
        let answer = Moderation {
            id: id::item("modr-"),
            model: request.model.unwrap_or_else(|| chosen.name.clone()),
            results: all.into_iter().map(|one| one.result).collect(),
        };
        let json = serde_json::to_vec(&answer).map(Bytes::from);
        let json =
            json.map_err(|_| moderating.failed("an answer that cannot be written as JSON"))?;
        let mut response = headers::json(Body::ending(json, progress.end(Outcome::Complete)));
        name_server(&mut response, &served_by);
        Ok(response)
    }
}

/// The model that a request is for.
struct Chosen {
    name: String,
    format: ModerationFormat,
    /// Whether the model is one of OpenAI's, which local engines do not have.
    is_of_openai: bool,
}

impl Chosen {
    /// Returns the model of a request: the configured one, unless the client names a local model.
    fn of(asked: Option<&str>, policy: &Policy) -> Self {
        let asked = asked.unwrap_or(DEFAULT_MODEL);
        let is_of_openai =
            asked.starts_with("omni-moderation") || asked.starts_with("text-moderation");
        let configured = policy.moderation_model.as_deref();
        let (name, is_of_openai) = match configured {
            Some(configured) if is_of_openai => (configured, false),
            _ => (asked, is_of_openai),
        };
        let format = policy
            .moderation_format
            .filter(|_| configured == Some(name));
        Self {
            name: name.to_owned(),
            format: format.unwrap_or_else(|| ModerationFormat::of_name(name)),
            is_of_openai,
        }
    }
}

/// One input of a request.
#[derive(Debug, Default, PartialEq)]
struct Input {
    texts: Vec<String>,
    /// The URLs of the input's images.
    images: Vec<String>,
}

impl Input {
    fn kinds(&self) -> Vec<&'static str> {
        let texts = self.texts.first().map(|_| "text");
        texts
            .into_iter()
            .chain(self.images.first().map(|_| "image"))
            .collect()
    }

    /// Returns the parts as those of a chat's message.
    fn chat_content(&self) -> Value {
        if let ([text], []) = (&self.texts[..], &self.images[..]) {
            return text.as_str().into();
        }
        let texts = self
            .texts
            .iter()
            .map(|text| json!({"type": "text", "text": text}));
        let image = |url| json!({"type": "image_url", "image_url": {"url": url}});
        texts.chain(self.images.iter().map(image)).collect()
    }

    /// Returns the parts as those of a response's input.
    fn response_content(&self) -> Value {
        let texts = self
            .texts
            .iter()
            .map(|text| json!({"type": "input_text", "text": text}));
        let image = |url| json!({"type": "input_image", "image_url": url});
        texts.chain(self.images.iter().map(image)).collect()
    }
}

/// Returns the inputs of a request: one for each text, or one for all parts.
fn inputs_of(input: Option<Value>, most: usize) -> Result<Vec<Input>, ApiError> {
    let wrong = |place: &str, expected: &str| {
        let message = format!("Invalid type for '{place}': expected {expected}.");
        Err(ApiError::invalid(place, "invalid_type", message))
    };
    let of_text = |text: &str| Input {
        texts: vec![text.to_owned()],
        images: Vec::new(),
    };
    let values = match input {
        None | Some(Value::Null) => return Err(missing("input".to_owned())),
        Some(Value::String(text)) => return Ok(vec![of_text(&text)]),
        Some(Value::Array(values)) => values,
        Some(_) => return wrong("input", "a text, an array of texts or an array of parts"),
    };
    has_1_to(most, "input", "elements", values.len())?;
    let has_texts = values.iter().any(Value::is_string);
    let (mut inputs, mut parts) = (Vec::new(), Input::default());
    for (index, value) in values.into_iter().enumerate() {
        let place = format!("input[{index}]");
        match (&value, value["type"].as_str()) {
            (Value::String(text), _) => inputs.push(of_text(text)),
            _ if has_texts => return wrong(&place, "a text, as the others"),
            (_, Some("text")) => match value["text"].as_str() {
                Some(text) => parts.texts.push(text.to_owned()),
                None => return wrong(&format!("{place}.text"), "a text"),
            },
            (_, Some("image_url")) => match value["image_url"]["url"].as_str() {
                Some(url) => parts.images.push(url.to_owned()),
                None => return wrong(&format!("{place}.image_url.url"), "a URL"),
            },
            _ => return wrong(&place, "a part of the type 'text' or 'image_url'"),
        }
    }
    if !has_texts {
        inputs.push(parts);
    }
    Ok(inputs)
}

/// The result for an input, and the usage of its calls.
struct Moderated {
    result: ModerationResult,
    usage: Vec<CompletionUsage>,
    served_by: ServedBy,
}

/// The answer to one prompt.
struct Told {
    tokens: Vec<TokenLogprob>,
    usage: Option<CompletionUsage>,
    served_by: ServedBy,
}

/// A request whose inputs are moderated.
struct Moderating<'a> {
    door: &'a Door,
    parts: &'a Parts,
    chosen: &'a Chosen,
    refusals: Refusals,
}

impl<'a> Moderating<'a> {
    /// Fails if the model is missing, or its engine returns no log-probabilities.
    async fn new(
        door: &'a Door,
        parts: &'a Parts,
        chosen: &'a Chosen,
        refusals: Refusals,
    ) -> Result<Self, ApiError> {
        let can = match door.abilities(&chosen.name).await {
            Err(BackendError::ModelNotFound { .. }) if chosen.is_of_openai => {
                let message = "No model for moderations is configured. The operator of this server can name one, \
                               such as a Llama Guard 3, with the setting `moderation_model`.";
                return Err(ApiError::new(StatusCode::NOT_FOUND, message)
                    .about("model")
                    .coded("model_not_found"));
            }
            can => can.map_err(|error| refusals.refuse(error))?,
        };
        if !can.has(Ability::Logprobs) {
            let message = format!(
                "The model '{}' cannot be used for moderations: its engine does not return log-probabilities.",
                chosen.name
            );
            return Err(ApiError::invalid("model", "unsupported_model", message));
        }
        Ok(Self {
            door,
            parts,
            chosen,
            refusals,
        })
    }

    fn one<'b>(&'b self, input: &'b Input) -> BoxFuture<'b, Result<Moderated, ApiError>> {
        match self.chosen.format {
            ModerationFormat::LlamaGuard => Box::pin(self.by_llama_guard(input)),
            ModerationFormat::ShieldGemma => Box::pin(self.by_shield_gemma(input)),
            ModerationFormat::Questions => Box::pin(self.by_questions(input)),
        }
    }

    async fn by_llama_guard(&self, input: &Input) -> Result<Moderated, ApiError> {
        let told = self.ask::<ChatCompletionRequest>(json!({
            "model": self.chosen.name,
            "messages": [{"role": "user", "content": input.chat_content()}],
            "max_tokens": llama_guard::ANSWER_TOKENS,
            "temperature": 0,
            "logprobs": true,
            "top_logprobs": 20,
        }));
        let told = told.await?;
        let scores = llama_guard::read(&told.tokens).ok_or_else(|| {
            self.failed("the model for moderations answered neither safe nor unsafe")
        })?;
        Ok(Moderated {
            result: scores.result(&input.kinds()),
            usage: told.usage.into_iter().collect(),
            served_by: told.served_by,
        })
    }

    async fn by_shield_gemma(&self, input: &Input) -> Result<Moderated, ApiError> {
        if !input.images.is_empty() {
            let message = format!(
                "The model '{}' moderates texts only, not images.",
                self.chosen.name
            );
            return Err(ApiError::invalid(
                "input",
                "unsupported_content_type",
                message,
            ));
        }
        let text = input.texts.join("\n\n");
        let (mut scores, mut usage, mut served_by) = (Scores::default(), Vec::new(), None);
        let answers = ["Yes", "No"].map(str::to_owned);
        for guideline in GUIDELINES {
            let told = self.ask::<CompletionRequest>(json!({
                "model": self.chosen.name,
                "prompt": guideline.prompt(&text),
                "max_tokens": 1,
                "temperature": 0,
                "logprobs": 5,
            }));
            let told = told.await?;
            let first = told.tokens.first().map(|token| &token.top_logprobs[..]);
            let both = weights(&answers, first.unwrap_or_default());
            let yes = both.and_then(|both| both.first().copied());
            let yes = yes.ok_or_else(|| self.failed(NEITHER))?;
            for category in guideline.categories {
                scores.raise(category, yes);
            }
            usage.extend(told.usage);
            served_by.get_or_insert(told.served_by);
        }
        Ok(Moderated {
            result: scores.result(&input.kinds()),
            usage,
            served_by: served_by.ok_or_else(|| self.failed(NEITHER))?,
        })
    }

    async fn by_questions(&self, input: &Input) -> Result<Moderated, ApiError> {
        let questions = CATEGORIES.map(|(category, content)| {
            json!({
                "type": "predicate",
                "name": category,
                "instructions": format!("The input contains {content}."),
            })
        });
        let request = json!({
            "model": self.chosen.name,
            "input": [{"role": "user", "content": input.response_content()}],
            "questions": questions,
        });
        let request: Result<DecisionRequest, _> = serde_json::from_value(request);
        let mut request = request.map_err(|_| self.failed("questions that cannot be read"))?;
        let questions: Vec<Question> = std::mem::take(&mut request.questions);
        let questions = crate::decisions::question::check(questions)?;
        let asking = Asking::new(self.door, self.parts, request).await?;
        let answered = asking.answers(questions).await.map_err(about_input)?;
        let mut scores = Scores::default();
        for ((category, _), answer) in CATEGORIES.iter().zip(answered.answers) {
            let DecisionAnswer::Predicate { probability, .. } = answer else {
                return Err(self.failed(NEITHER));
            };
            scores.raise(category, probability);
        }
        let served_by = answered.found.first().map(|first| first.served_by.clone());
        Ok(Moderated {
            result: scores.result(&input.kinds()),
            usage: answered
                .found
                .into_iter()
                .filter_map(|one| one.usage)
                .collect(),
            served_by: served_by.ok_or_else(|| self.failed(NEITHER))?,
        })
    }

    /// Asks the model and returns its answer with the log-probabilities.
    async fn ask<R: Generate + Parse>(&self, body: Value) -> Result<Told, ApiError> {
        let body = body.to_string();
        let (request, profile) =
            R::parse(body.as_bytes(), &self.door.policy).map_err(about_input)?;
        let asked = ParsedRequest::new(self.door, self.parts.clone(), request, profile);
        let Admitted {
            call,
            steps,
            mut progress,
            ..
        } = admitted(self.door, asked).await.map_err(about_input)?;
        let failed = |error| about_input(self.refusals.refuse(error));
        let mut reply = start(&self.door.backend, call, steps)
            .await
            .map_err(failed)?;
        progress.accepted(&reply.served_by);
        let (mut tokens, mut usage) = (Vec::new(), None);
        while let Some(event) = reply.events.next().await {
            let event = event.map_err(failed)?;
            progress.note(&event);
            match event {
                Event::Chunk(chunk) => {
                    let logprobs = chunk
                        .choices
                        .into_iter()
                        .filter_map(|choice| choice.logprobs);
                    tokens.extend(logprobs.filter_map(|logprobs| logprobs.content).flatten());
                }
                Event::Usage(used) => usage = Some(used),
                _ => {}
            }
        }
        Ok(Told {
            tokens,
            usage,
            served_by: reply.served_by,
        })
    }

    fn failed(&self, message: &str) -> ApiError {
        let message = message.to_owned();
        self.refusals.refuse(BackendError::Engine { message })
    }
}

const NEITHER: &str = "the model for moderations answered neither Yes nor No";

/// Converts an error about a prompt to one about the input that the prompt was made of.
fn about_input(error: ApiError) -> ApiError {
    match error.error.param.as_deref() {
        None | Some("model") => error,
        Some(_) => error.about("input"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_stands_for_openais_models_only() {
        let policy = Policy {
            moderation_model: Some("guard".to_owned()),
            moderation_format: Some(ModerationFormat::LlamaGuard),
            ..Policy::default()
        };
        for asked in [
            None,
            Some("omni-moderation-latest"),
            Some("text-moderation-stable"),
        ] {
            let chosen = Chosen::of(asked, &policy);
            assert_eq!(
                (&*chosen.name, chosen.format),
                ("guard", ModerationFormat::LlamaGuard)
            );
            assert!(Chosen::of(asked, &Policy::default()).is_of_openai);
        }
        let chosen = Chosen::of(Some("other"), &policy);
        assert_eq!(
            (&*chosen.name, chosen.format),
            ("other", ModerationFormat::Questions)
        );
    }

    #[test]
    fn texts_are_inputs_of_their_own_and_parts_are_one() {
        let inputs = |value| inputs_of(Some(value), 3).map_err(|error| error.error.param);
        let all = inputs(json!(["a", "b"])).expect("inputs");
        assert_eq!(all.len(), 2);
        let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}});
        let all = inputs(json!([{"type": "text", "text": "a"}, image])).expect("inputs");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].kinds(), ["text", "image"]);
        for (value, param) in [
            (json!(3), "input"),
            (json!([]), "input"),
            (json!(["a", "b", "c", "d"]), "input"),
            (json!(["a", {"type": "text", "text": "b"}]), "input[1]"),
            (json!([{"type": "text"}]), "input[0].text"),
            (
                json!([{"type": "image_url", "image_url": "x"}]),
                "input[0].image_url.url",
            ),
            (json!([{"type": "audio"}]), "input[0]"),
        ] {
            assert_eq!(inputs(value), Err(Some(param.to_owned())));
        }
    }
}
