//! `POST /v1/decisions`: answers questions about an input with the probabilities of a model's first
//! token ([`question`]). Each question is asked like a response that is not stored, so its input is
//! read, checked and refused as that of a response.

pub(crate) mod question;

use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::request::Parts;
use http::{Request, Response};
use loggia_backend::{Ability, BackendError, Chunk, Event, ServedBy};
use loggia_wire::Extra;
use loggia_wire::openai::{
    CompletionUsage, Decision, DecisionAnswer, DecisionRequest, DecisionUsage, TopLogprob,
};
use serde_json::{Map, Value, json};

use crate::admit::checks::listed_unless_strict;
use crate::admit::parse::{parsed, profile_of};
use crate::answer::ended::{Outcome, Progress};
use crate::answer::headers::{self, name_server};
use crate::answer::ignored::add_listed;
use crate::answer::refusal::Refusals;
use crate::answer::running::Running;
use crate::decisions::question::{Checked, Prompt, check, json_as_text, weights};
use crate::door::read;
use crate::generate::{Admitted, admitted, respond, start};
use crate::wording::Dialect;
use crate::{ApiError, Body, Door};

/// How many prompts of a request are asked at once, after the first one has filled the engine's
/// prompt cache.
const AT_ONCE: usize = 4;

impl Door {
    /// `POST /v1/decisions`.
    pub(crate) async fn decisions<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = read::json_body(&parts.headers, body, &self.policy).await;
        let read = read.and_then(|bytes| Ok((parsed::<DecisionRequest>(&bytes)?, bytes)));
        let (request, body) = match read {
            Ok(read) => read,
            Err(error) => return self.refuse(error),
        };
        let profile = profile_of(&body, &self.policy);
        let refusals = Refusals::new(&parts, Dialect::Responses);
        let model = Arc::from(&*request.model);
        let mut ignored = String::new();
        let answered = {
            let answering = pin!(self.decide(&parts, request, &mut ignored));
            self.in_time(&refusals, answering).await
        };
        respond(answered, profile, &ignored).map(|body| body.about_model(Some(model)))
    }

    async fn decide(
        &self,
        parts: &Parts,
        mut request: DecisionRequest,
        ignored: &mut String,
    ) -> Result<Response<Body>, ApiError> {
        let model = request.model.clone();
        let mut progress = Progress::new(&model).shown_in(Running::of(parts));
        let strictness = self.strictness_for(parts, &model);
        let unknown = listed_unless_strict(unknown_fields(&request), strictness)?;
        let questions = check(std::mem::take(&mut request.questions))?;
        let asking = Asking::new(self, parts, request).await?;

        let Answered { answers, found } = asking.answers(questions).await?;
        let usage = usage_of(&found);
        let first = found.into_iter().next();
        let first = first.ok_or_else(|| asking.failed("no question was answered"))?;
        *ignored = first.ignored;
        add_listed(ignored, &unknown);
        progress.accepted(&first.served_by);
        progress.has_begun();
        progress.cost(CompletionUsage::new(
            usage.input_tokens,
            usage.output_tokens,
        ));
        let decision = Decision {
            model,
            answers,
            usage,
        };
        let json = serde_json::to_vec(&decision).map(Bytes::from);
        let json = json.map_err(|_| asking.failed("an answer that cannot be written as JSON"))?;
        let mut response = headers::json(Body::ending(json, progress.end(Outcome::Complete)));
        name_server(&mut response, &first.served_by);
        Ok(response)
    }
}

/// A request whose questions are asked.
pub(crate) struct Asking<'a> {
    door: &'a Door,
    parts: &'a Parts,
    refusals: Refusals,
    /// The fields of the response that each question is asked as, without its input.
    fields: Map<String, Value>,
    input: Vec<Value>,
}

/// The probabilities of a prompt's answers, and the usage of the calls that found them.
pub(crate) struct Found {
    /// The number of the question, from 0.
    question: usize,
    /// The probabilities. `None` if the model's token was none of the answers.
    weights: Option<Vec<f64>>,
    pub(crate) usage: Option<CompletionUsage>,
    pub(crate) served_by: ServedBy,
    pub(crate) ignored: String,
}

/// The answers to the questions, and the results of all prompts.
pub(crate) struct Answered {
    pub(crate) answers: Vec<DecisionAnswer>,
    pub(crate) found: Vec<Found>,
}

impl<'a> Asking<'a> {
    pub(crate) async fn new(
        door: &'a Door,
        parts: &'a Parts,
        request: DecisionRequest,
    ) -> Result<Self, ApiError> {
        let refusals = Refusals::new(parts, Dialect::Responses);
        let can = door.abilities(&request.model).await;
        let can = can.map_err(|error| refusals.refuse(error))?;
        if !can.has(Ability::Logprobs) || !can.has(Ability::NoReasoning) {
            let message = format!(
                "The model '{}' cannot be used for decisions: {}.",
                request.model,
                if can.has(Ability::Logprobs) {
                    "it always reasons before it answers"
                } else {
                    "its engine does not return log-probabilities"
                }
            );
            return Err(ApiError::invalid("model", "unsupported_model", message));
        }
        let input = match request.input {
            Some(Value::Array(items)) if !items.is_empty() => {
                items.into_iter().map(with_texts_only).collect()
            }
            input => vec![json!({"role": "user", "content": question::parts(input, "input")?})],
        };
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        set("model", request.model.into());
        set("store", false.into());
        set("max_output_tokens", 1.into());
        set("top_logprobs", 20.into());
        set("include", json!(["message.output_text.logprobs"]));
        if can.has(Ability::Reasoning) {
            set("reasoning", json!({"effort": "none"}));
        }
        if let Some(key) = request.prompt_cache_key {
            set("prompt_cache_key", key.into());
        }
        if let Some(options) = request.prompt_cache_options {
            set("prompt_cache_options", options);
        }
        if let Some(identifier) = request.safety_identifier {
            set("safety_identifier", identifier.into());
        }
        Ok(Self {
            door,
            parts,
            refusals,
            fields,
            input,
        })
    }

    /// Answers the questions: each has prompts for groups of its options, and, if there are several,
    /// a last one for the winners of the groups.
    pub(crate) async fn answers(&self, questions: Vec<Checked>) -> Result<Answered, ApiError> {
        let mut prompts = Vec::new();
        for (index, question) in questions.iter().enumerate() {
            prompts.extend(question.prompts().into_iter().map(|prompt| (index, prompt)));
        }
        let mut found = self.all(&questions, prompts).await?;
        let mut weights: Vec<Vec<_>> = questions.iter().map(|_| Vec::new()).collect();
        for one in &mut found {
            if let Some(of_question) = weights.get_mut(one.question) {
                of_question.push(one.weights.take());
            }
        }
        let mut lasts = Vec::new();
        for (index, (question, weights)) in questions.iter().zip(&weights).enumerate() {
            lasts.extend(question.last_prompt(weights).map(|prompt| (index, prompt)));
        }
        let lasts = self.all(&questions, lasts).await?;
        let answers = questions.into_iter().zip(weights).enumerate();
        let answers = answers.map(|(index, (question, weights))| {
            let last = lasts.iter().find(|last| last.question == index);
            question.answer(&weights, last.and_then(|last| last.weights.as_deref()))
        });
        let answers = answers.collect();
        found.extend(lasts);
        Ok(Answered { answers, found })
    }

    fn failed(&self, message: &str) -> ApiError {
        let message = message.to_owned();
        self.refusals.refuse(BackendError::Engine { message })
    }

    /// Asks prompts, each with the number of its question, and returns the results in the same
    /// order.
    async fn all(
        &self,
        questions: &[Checked],
        prompts: Vec<(usize, Prompt)>,
    ) -> Result<Vec<Found>, ApiError> {
        // A prompt always has its question.
        let mut prompts = prompts.into_iter().filter_map(|(number, prompt)| {
            let question = questions.get(number)?;
            Some((number, question, prompt))
        });
        let Some((number, question, first)) = prompts.next() else {
            return Ok(Vec::new());
        };
        let first = self.one(number, question, first).await?;
        let rest = prompts.map(|(number, question, prompt)| self.one(number, question, prompt));
        // Boxed, because a stream of these futures is not `Send` for every lifetime otherwise.
        let rest: BoxStream<'_, _> = stream::iter(rest).buffered(AT_ONCE).boxed();
        let mut all = vec![first];
        all.extend(rest.try_collect::<Vec<_>>().await?);
        Ok(all)
    }

    fn one<'b>(
        &'b self,
        number: usize,
        question: &'b Checked,
        prompt: Prompt,
    ) -> BoxFuture<'b, Result<Found, ApiError>> {
        Box::pin(async move {
            let item = self.input.len();
            let found = self.ask(number, question, prompt).await;
            found.map_err(|error| of_question(error, item, number))
        })
    }

    async fn ask(
        &self,
        number: usize,
        question: &Checked,
        prompt: Prompt,
    ) -> Result<Found, ApiError> {
        let parts = question.parts_with(&prompt);
        let mut input = self.input.clone();
        input.push(json!({"role": "user", "content": parts}));
        let mut fields = self.fields.clone();
        fields.insert("input".to_owned(), input.into());
        let body = Value::Object(fields).to_string();
        let (request, _) = self.door.read_response(self.parts, body.as_bytes()).await?;
        let profile = profile_of(body.as_bytes(), &self.door.policy);
        let asked = self
            .door
            .ask_for(self.parts.clone(), request, profile, None);
        let asked = asked.await?;
        let Admitted {
            call,
            ignored,
            steps,
            mut progress,
            ..
        } = admitted(self.door, asked).await?;
        let failed = |error| self.refusals.refuse(error);
        let mut reply = start(&self.door.backend, call, steps)
            .await
            .map_err(failed)?;
        progress.accepted(&reply.served_by);
        let (mut tokens, mut usage) = (None, None);
        while let Some(event) = reply.events.next().await {
            let event = event.map_err(failed)?;
            progress.note(&event);
            match event {
                Event::Chunk(chunk) if tokens.is_none() => tokens = first_token(chunk),
                Event::Usage(used) => usage = Some(used),
                _ => {}
            }
        }
        Ok(Found {
            question: number,
            weights: weights(&prompt.answers, &tokens.unwrap_or_default()),
            usage,
            served_by: reply.served_by,
            ignored,
        })
    }
}

/// Returns the most probable tokens at the first position of an answer, if a chunk has them.
fn first_token(chunk: Chunk) -> Option<Vec<TopLogprob>> {
    let choice = chunk.choices.into_iter().next()?;
    let token = choice.logprobs?.content?.into_iter().next()?;
    Some(token.top_logprobs)
}

/// Turns the parts `input_json` of an item's content into texts.
fn with_texts_only(mut item: Value) -> Value {
    if let Some(Value::Array(parts)) = item.get_mut("content") {
        for part in parts {
            *part = json_as_text(part.take());
        }
    }
    item
}

/// Returns the names of the fields that OpenAI's API does not have. They have no effect. This
/// includes fields of a response: its tools or its format would change the answer's first token.
fn unknown_fields(request: &DecisionRequest) -> Vec<String> {
    let mut unknown: Vec<String> = request.extra.keys().cloned().collect();
    let mut add = |place: &str, extra: &Extra| {
        unknown.extend(extra.keys().map(|name| format!("{place}.{name}")));
    };
    for (index, question) in request.questions.iter().enumerate() {
        let place = format!("questions[{index}]");
        add(&place, &question.extra);
        for (index, choice) in question.choices.iter().flatten().enumerate() {
            add(&format!("{place}.choices[{index}]"), &choice.extra);
        }
        for (index, level) in question.levels.iter().flatten().enumerate() {
            add(&format!("{place}.levels[{index}]"), &level.extra);
        }
    }
    unknown
}

/// Returns an error about the input's last item, which is a question, with the question's place.
fn of_question(error: ApiError, item: usize, question: usize) -> ApiError {
    let before = format!("input[{item}].content");
    let Some(param) = error.error.param.clone() else {
        return error;
    };
    let Some(rest) = param.strip_prefix(&before) else {
        return error;
    };
    let mut error = error.about(format!("questions[{question}].instructions{rest}"));
    let after = format!("questions[{question}].instructions");
    error.error.message = error.error.message.replace(&before, &after);
    error
}

/// Returns the tokens that all prompts used together.
fn usage_of(found: &[Found]) -> DecisionUsage {
    let mut sum = DecisionUsage::default();
    for usage in found.iter().filter_map(|found| found.usage.as_ref()) {
        let (of_prompt, of_answer) = (
            &usage.prompt_tokens_details,
            &usage.completion_tokens_details,
        );
        sum.input_tokens += usage.prompt_tokens;
        sum.output_tokens += usage.completion_tokens;
        sum.total_tokens += usage.prompt_tokens + usage.completion_tokens;
        let cached = of_prompt.as_ref().map(|details| details.cached_tokens);
        sum.input_tokens_details.cached_tokens += cached.unwrap_or(0);
        let reasoned = of_answer.as_ref().map(|details| details.reasoning_tokens);
        sum.output_tokens_details.reasoning_tokens += reasoned.unwrap_or(0);
    }
    sum
}
