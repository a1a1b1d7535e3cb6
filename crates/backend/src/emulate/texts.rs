//! Emulates completions with several prompts, several choices, `best_of` and `echo`: one call per
//! prompt, a few of them in parallel.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChunkChoice, CompletionRequest, CompletionUsage, Delta, Logprobs, OnePrompt, Prompt,
    TokenLogprob,
};

use super::choices;
use crate::{
    Abilities, Ability, Backend, BackendError, Chunk, CompletionCall, Event, Reply, ServedBy,
};

/// The maximum number of texts generated in parallel, or the texts of one prompt if they are more.
/// An engine processes only a few at a time, and other requests wait for it.
const SIDE_BY_SIDE: usize = 4;

/// Returns whether the backend can do everything in one call.
pub(super) fn fits_one_call(request: &CompletionRequest, can: &Abilities) -> bool {
    (request.prompts() == 1 || can.has(Ability::SeveralPrompts))
        && (request.choices() == 1 || can.has(Ability::SeveralChoices))
        && (request.candidates() == request.choices() || can.has(Ability::BestOf))
        && (!request.echoes() || can.has(Ability::Echo))
}

/// Where the prompt is put before each text (`echo`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    /// The backend adds the prompt, or the client did not request it.
    Backend,
    /// This module adds the prompt, as the client sent it.
    Here,
    /// This module adds the prompt, with log-probabilities from a separate call per prompt, because
    /// they must not influence `best_of`.
    SeparateCall,
}

impl Echo {
    fn of(request: &CompletionRequest, can: &Abilities) -> Result<Self, BackendError> {
        let best = request.candidates() > request.choices();
        let is_more_than_text =
            request.logprobs.is_some() || request.prompt.as_ref().is_some_and(Prompt::is_tokens);
        match (
            request.echoes() && (best || !can.has(Ability::Echo)),
            best && is_more_than_text,
        ) {
            (false, _) => Ok(Self::Backend),
            (true, false) => Ok(Self::Here),
            (true, true) if can.has(Ability::PromptLogprobs) => Ok(Self::SeparateCall),
            (true, true) => Err(BackendError::InvalidRequest {
                message:
                    "'best_of' together with 'echo' is supported for text without 'logprobs' only."
                        .to_owned(),
                param: Some("best_of".to_owned()),
                code: Some("unsupported_parameter".to_owned()),
            }),
        }
    }
}

/// One of the calls that a completion is split into.
struct Part {
    /// The index of the prompt of this call.
    prompt: usize,
    /// The index of the first text of this call among the texts of all prompts.
    first: u32,
    call: CompletionCall,
}

/// Starts the first calls, and the others as these end.
pub(super) async fn start(
    inner: &Arc<dyn Backend>,
    call: &CompletionCall,
    can: &Abilities,
) -> Result<Reply, BackendError> {
    let request = &*call.work;
    let best = request.candidates() > request.choices();
    let echo = Echo::of(request, can)?;
    let mut parts = parts(call, can, echo);
    let at_once = at_once(request, can);
    let later = parts.split_off(parts.len().min(at_once));
    let first = try_join_all(parts.into_iter().map(|part| begin(Arc::clone(inner), part))).await?;
    let Some((_, served_by)) = first.first() else {
        return Err(BackendError::Unfinished);
    };
    let served_by = served_by.clone();
    let inner = Arc::clone(inner);
    let under_way = stream::iter(first.into_iter().map(|(events, _)| events));
    let to_begin = stream::iter(later).map(move |part| {
        let prompt = part.prompt;
        let events = stream::once(begin(Arc::clone(&inner), part)).map(move |begun| match begun {
            Ok((events, _)) => events,
            Err(error) => stream::iter([(prompt, Err(error))]).boxed(),
        });
        events.flatten().boxed()
    });
    let events = under_way.chain(to_begin).flatten_unordered(at_once).boxed();
    Ok(Reply {
        served_by,
        events: Box::pin(Texts::new(events, request, echo, best)),
    })
}

/// Returns the number of parallel calls: fewer if each call generates several texts.
fn at_once(request: &CompletionRequest, can: &Abilities) -> usize {
    let texts = if can.has(Ability::SeveralChoices) {
        request.candidates()
    } else {
        1
    };
    (SIDE_BY_SIDE / texts).max(1)
}

/// The events of a part, each with the number of its prompt.
type OfPrompt = BoxStream<'static, (usize, Result<Event, BackendError>)>;

async fn begin(inner: Arc<dyn Backend>, part: Part) -> Result<(OfPrompt, ServedBy), BackendError> {
    let Part {
        prompt,
        first,
        call,
    } = part;
    let reply = inner.start(call.into()).await?;
    let events = reply
        .events
        .map(move |event| (prompt, event.map(|event| moved(event, first))));
    Ok((events.boxed(), reply.served_by))
}

/// Renumbers the choices of an event for the texts of all prompts.
fn moved(mut event: Event, first: u32) -> Event {
    if let Event::Chunk(chunk) = &mut event {
        chunk
            .choices
            .iter_mut()
            .for_each(|choice| choice.index = choice.index.saturating_add(first));
    }
    event
}

/// Returns one call per prompt, or one call per text if the backend generates one at a time; each
/// text then has its own seed, without which all would be equal. If `echo` needs separate calls,
/// they follow at the end.
fn parts(call: &CompletionCall, can: &Abilities, echo: Echo) -> Vec<Part> {
    let candidates = call.work.candidates();
    let (calls, texts) = if can.has(Ability::SeveralChoices) {
        (1, candidates)
    } else {
        (candidates, 1)
    };
    let empty = Prompt::Text(String::new());
    let prompt = call.work.prompt.as_ref().unwrap_or(&empty);
    let of_prompt = |(prompt, one): (usize, OnePrompt<'_>)| -> Vec<Part> {
        let of_call = |number: usize| {
            let mut request = CompletionRequest {
                prompt: Some(one.into()),
                ..without_prompt(call)
            };
            request.n = (texts > 1).then(|| i64::try_from(texts).unwrap_or(i64::MAX));
            request.best_of = None;
            request.echo = request.echo.filter(|_| echo == Echo::Backend);
            if candidates > call.work.choices() {
                request.logprobs = Some(request.logprobs.unwrap_or(0));
            }
            request.seed = request
                .seed
                .map(|seed| seed.wrapping_add(i64::try_from(number).unwrap_or_default()));
            Part::new(call, prompt, prompt * candidates + number, request)
        };
        (0..calls).map(of_call).collect()
    };
    let scored = |(prompt, one): (usize, OnePrompt<'_>)| {
        let request = CompletionRequest {
            prompt: Some(one.into()),
            max_tokens: Some(0),
            logprobs: Some(call.work.logprobs.unwrap_or(0)),
            n: None,
            best_of: None,
            ..without_prompt(call)
        };
        Part::new(
            call,
            prompt,
            call.work.prompts() * candidates + prompt,
            request,
        )
    };
    let apart = prompt
        .each()
        .enumerate()
        .filter(|_| echo == Echo::SeparateCall)
        .map(scored);
    prompt
        .each()
        .enumerate()
        .flat_map(of_prompt)
        .chain(apart)
        .collect()
}

impl Part {
    /// Creates a call for the prompt with this number. Its texts are numbered from `first` on.
    fn new(call: &CompletionCall, prompt: usize, first: usize, request: CompletionRequest) -> Self {
        let head = call.head.with_id(format!("{}-{first}", call.head.id));
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        Self {
            prompt,
            first,
            call: CompletionCall {
                head,
                work: Arc::new(request),
            },
        }
    }
}

/// Returns the request without its prompts, which may be long.
fn without_prompt(call: &CompletionCall) -> CompletionRequest {
    let all = &*call.work;
    CompletionRequest {
        model: all.model.clone(),
        prompt: None,
        suffix: all.suffix.clone(),
        stop: all.stop.clone(),
        logit_bias: all.logit_bias.clone(),
        stream_options: all.stream_options.clone(),
        user: all.user.clone(),
        extra: all.extra.clone(),
        ..*all
    }
}

/// Merges the texts of all prompts into one answer: adds the prompts, selects the best texts, and
/// sends the total usage at the end.
struct Texts {
    events: OfPrompt,
    /// The prompt that is still to be sent before each text.
    echo: Vec<Option<String>>,
    best: Option<Best>,
    /// The usage, by the number of the prompt.
    usage: Vec<Option<CompletionUsage>>,
    ready: VecDeque<Event>,
    ended: bool,
}

impl Texts {
    fn new(events: OfPrompt, request: &CompletionRequest, echo: Echo, best: bool) -> Self {
        let (prompts, candidates) = (request.prompts(), request.candidates());
        let texts = request
            .prompt
            .iter()
            .filter(|_| echo == Echo::Here)
            .flat_map(Prompt::each);
        let before = texts.flat_map(|prompt| match prompt {
            OnePrompt::Text(text) => vec![Some(text.to_owned()); candidates],
            OnePrompt::Tokens(_) => vec![None; candidates],
        });
        let best = best.then(|| Best {
            made: (0..prompts * candidates)
                .map(|_| Candidate::default())
                .collect(),
            prompts: (0..prompts).map(|_| Candidate::default()).collect(),
            of_prompt: candidates,
            wanted: request.choices(),
            shows_logprobs: request.logprobs.is_some(),
        });
        let (usage, ready) = (vec![None; prompts], VecDeque::new());
        Self {
            events,
            echo: before.collect(),
            best,
            usage,
            ready,
            ended: false,
        }
    }

    fn chunk(&mut self, mut chunk: Chunk) {
        for choice in &mut chunk.choices {
            let echo = self
                .echo
                .get_mut(choice.index as usize)
                .and_then(Option::take);
            if let Some(mut text) = echo {
                text.push_str(choice.delta.content.as_deref().unwrap_or_default());
                choice.delta.content = Some(text);
            }
        }
        match &mut self.best {
            Some(best) => chunk
                .choices
                .into_iter()
                .for_each(|choice| best.add(choice)),
            None => self.ready.push_back(Event::Chunk(chunk)),
        }
    }

    /// Ends the answer: sends the selected texts and the usage.
    fn end(&mut self) {
        self.ended = true;
        if let Some(best) = self.best.take() {
            self.ready
                .extend(best.chosen().map(|choice| Event::Chunk(Chunk::of(choice))));
        }
        let usage = self.usage.drain(..).flatten().reduce(together);
        self.ready.extend(usage.map(Event::Usage));
    }
}

impl Stream for Texts {
    type Item = Result<Event, BackendError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.events.poll_next_unpin(cx)) {
                Some((prompt, Ok(Event::Usage(usage)))) => {
                    if let Some(all) = self.usage.get_mut(prompt) {
                        choices::add(all, usage);
                    }
                }
                Some((_, Ok(Event::Chunk(chunk)))) => self.chunk(chunk),
                Some((_, Ok(waiting))) => return Poll::Ready(Some(Ok(waiting))),
                Some((_, Err(error))) => {
                    self.ended = true;
                    // Dropping the other streams tells their engines to stop.
                    self.events = stream::empty().boxed();
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.end(),
            }
        }
    }
}

/// Adds the usage of two prompts.
fn together(one: CompletionUsage, other: CompletionUsage) -> CompletionUsage {
    let sum = CompletionUsage::new(
        one.prompt_tokens.saturating_add(other.prompt_tokens),
        one.completion_tokens
            .saturating_add(other.completion_tokens),
    );
    let details = match (one.prompt_tokens_details, other.prompt_tokens_details) {
        (Some(mut one), Some(other)) => {
            one.cached_tokens = one.cached_tokens.saturating_add(other.cached_tokens);
            Some(one)
        }
        (one, other) => one.or(other),
    };
    CompletionUsage {
        prompt_tokens_details: details,
        ..sum
    }
}

/// The candidates from which the best texts are selected.
struct Best {
    made: Vec<Candidate>,
    /// The echoed prompts, if the backend returns them.
    prompts: Vec<Candidate>,
    /// The number of candidates per prompt, and how many of them are returned.
    of_prompt: usize,
    wanted: usize,
    shows_logprobs: bool,
}

#[derive(Default)]
struct Candidate {
    /// The text so far.
    choice: Option<ChunkChoice>,
    logprobs: Vec<TokenLogprob>,
}

impl Best {
    fn add(&mut self, more: ChunkChoice) {
        let Some(candidate) = self
            .made
            .iter_mut()
            .chain(&mut self.prompts)
            .nth(more.index as usize)
        else {
            return;
        };
        let ChunkChoice {
            index,
            delta,
            logprobs,
            finish_reason,
            extra,
        } = more;
        candidate.logprobs.extend(
            logprobs
                .and_then(|logprobs| logprobs.content)
                .unwrap_or_default(),
        );
        let all = candidate
            .choice
            .get_or_insert_with(|| ChunkChoice::delta(index, Delta::default()));
        all.delta
            .content
            .get_or_insert_default()
            .push_str(delta.content.as_deref().unwrap_or_default());
        all.finish_reason = all.finish_reason.or(finish_reason);
        all.extra.extend(extra);
    }

    /// Returns the best texts of each prompt, the best first.
    fn chosen(self) -> impl Iterator<Item = ChunkChoice> {
        let Self {
            mut made,
            prompts,
            of_prompt,
            wanted,
            shows_logprobs,
        } = self;
        made.chunks_mut(of_prompt)
            .for_each(|made| made.sort_by(|one, other| other.score().total_cmp(&one.score())));
        let chosen = made
            .into_iter()
            .enumerate()
            .filter(move |(at, _)| at % of_prompt < wanted);
        chosen.zip(0..).filter_map(move |((at, candidate), index)| {
            let Candidate { choice, logprobs } = candidate.after(prompts.get(at / of_prompt)?);
            let logprobs = shows_logprobs.then(|| Logprobs {
                content: Some(logprobs),
                refusal: None,
                extra: Extra::new(),
            });
            Some(ChunkChoice {
                index,
                logprobs,
                ..choice?
            })
        })
    }
}

impl Candidate {
    /// Returns this text with its prompt before it.
    fn after(mut self, prompt: &Self) -> Self {
        self.logprobs.splice(0..0, prompt.logprobs.iter().cloned());
        let text = prompt
            .choice
            .as_ref()
            .and_then(|choice| choice.delta.content.as_deref());
        if let (Some(text), Some(choice)) = (text, &mut self.choice) {
            choice
                .delta
                .content
                .get_or_insert_default()
                .insert_str(0, text);
        }
        self
    }

    /// Returns the mean log-probability of the tokens. A text without log-probabilities ranks last.
    fn score(&self) -> f64 {
        let sum: f64 = self.logprobs.iter().map(|token| token.logprob).sum();
        #[expect(
            clippy::cast_precision_loss,
            reason = "an f64 holds the number of tokens of any answer exactly"
        )]
        let count = self.logprobs.len() as f64;
        if count > 0.0 {
            sum / count
        } else {
            f64::NEG_INFINITY
        }
    }
}
