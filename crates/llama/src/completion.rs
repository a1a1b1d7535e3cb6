//! Builds the prompt of a text completion (`/v1/completions`). No chat template is used: the text
//! is tokenized unchanged. A request with a `suffix` uses the model's fill-in-the-middle tokens.
//!
//! The rest is shared with chats: `request` builds the engine's input, and `backend` returns the
//! answer.

use std::ops::Range;

use loggia_backend::BackendError;
use loggia_wire::openai::{CompletionRequest, OnePrompt, Prompt};

use crate::Token;
use crate::engine::{Generation, Scored};
use crate::model::Model;

/// The prompt of a text completion.
#[derive(Debug)]
pub(crate) struct CompletionPrompt {
    pub(crate) tokens: Vec<Token>,
    /// The text that is sent before the answer (`echo`). It is empty if the request does not set
    /// `echo`.
    pub(crate) echo: String,
    /// The range of the tokens that the client sent, without the token that begins every text and
    /// the tokens around a suffix.
    pub(crate) own: Range<usize>,
}

impl CompletionPrompt {
    /// The part of the prompt whose log-probabilities the request wants. `None` if it wants none.
    fn scored(&self, request: &CompletionRequest) -> Option<Scored> {
        let is_wanted = request.echoes() && request.logprobs.is_some() && !self.own.is_empty();
        is_wanted.then(|| Scored {
            tokens: self.own.clone(),
            text: self.echo.clone(),
        })
    }

    /// Applies the settings that only text completions have: whether the log-probabilities include
    /// the token that ends the text, and the part of the prompt to score. Only the first choice
    /// scores the prompt, because all choices have the same one. Returns whether the prompt is
    /// scored: the echo is then sent with its log-probabilities.
    pub(crate) fn apply_to(
        &self,
        request: &CompletionRequest,
        generations: &mut [Generation],
    ) -> bool {
        for generation in &mut *generations {
            generation.shows_end = true;
        }
        let Some(first) = generations.first_mut() else {
            return false;
        };
        first.scored = self.scored(request);
        first.scored.is_some()
    }
}

/// Tokenizes the prompt of a text completion, for a context of `context` tokens.
pub(crate) fn prompt(
    model: &Model,
    request: &CompletionRequest,
    context: usize,
) -> Result<CompletionPrompt, BackendError> {
    if request.prompts() > 1 {
        return Err(refused(
            "prompt",
            "invalid_value",
            "send one prompt per request",
        ));
    }
    // Without a prompt, the model begins a new text.
    let prompt = request
        .prompt
        .as_ref()
        .and_then(|prompt| prompt.each().next())
        .unwrap_or(OnePrompt::Text(""));
    check(model, prompt, request.suffix().unwrap_or_default(), context)?;
    let (mut tokens, own) = match (request.suffix(), model.fill_in_the_middle) {
        (None, _) => begun(model, prompt),
        (Some(suffix), Some(tokens)) => {
            let before = read(prompt, |text| model.tokenize_plain(text));
            let start = usize::from(model.begin().is_some()) + 1;
            let own = start..start + before.len();
            (
                tokens.around(model.begin(), &before, &model.tokenize_plain(suffix)),
                own,
            )
        }
        (Some(_), None) => {
            let message = "this model was not trained to fill in the middle";
            return Err(refused("suffix", "unsupported_parameter", message));
        }
    };
    if tokens.is_empty() {
        let begin = model.first().ok_or_else(|| {
            refused(
                "prompt",
                "invalid_value",
                "it is empty, and this model has no token that begins a text; send some text",
            )
        })?;
        tokens.push(begin);
    }
    let echo = if request.echoes() {
        shown(model, prompt)
    } else {
        String::new()
    };
    Ok(CompletionPrompt { tokens, echo, own })
}

/// The size of a request's prompts and suffix in bytes of text (a token counts as one byte). A
/// large request is tokenized on a blocking thread.
pub(crate) fn size(request: &CompletionRequest) -> usize {
    let size = |prompt| match prompt {
        OnePrompt::Text(text) => text.len(),
        OnePrompt::Tokens(tokens) => tokens.len(),
    };
    request
        .prompt
        .iter()
        .flat_map(Prompt::each)
        .map(size)
        .sum::<usize>()
        + request.suffix().map_or(0, str::len)
}

/// Tokenizes a prompt without a suffix. Adds the token that begins every text if the model needs it
/// and the text does not have it. Also returns the range of the client's own tokens.
fn begun(model: &Model, prompt: OnePrompt<'_>) -> (Vec<Token>, Range<usize>) {
    let mut tokens = read(prompt, |text| model.tokenize_on(text));
    let is_text = matches!(prompt, OnePrompt::Text(_));
    let begin = model
        .begin()
        .filter(|begin| is_text && tokens.first() != Some(begin));
    tokens.splice(0..0, begin);
    let own = usize::from(begin.is_some())..tokens.len();
    (tokens, own)
}

fn read(prompt: OnePrompt<'_>, tokenize: impl Fn(&str) -> Vec<Token>) -> Vec<Token> {
    match prompt {
        OnePrompt::Text(text) => tokenize(text),
        OnePrompt::Tokens(tokens) => tokens.to_vec(),
    }
}

fn check(
    model: &Model,
    prompt: OnePrompt<'_>,
    suffix: &str,
    context: usize,
) -> Result<(), BackendError> {
    let (text, tokens): (&str, &[Token]) = match prompt {
        OnePrompt::Text(text) => (text, &[]),
        OnePrompt::Tokens(tokens) => ("", tokens),
    };
    let vocabulary = model.facts.vocabulary;
    let is_known = |token: Token| usize::try_from(token).is_ok_and(|token| token < vocabulary);
    if let Some(token) = tokens.iter().find(|&&token| !is_known(token)) {
        let most = vocabulary.saturating_sub(1);
        let message = format!("{token} is not a token of this model; its tokens are 0 to {most}");
        return Err(refused("prompt", "invalid_value", &message));
    }
    if [text, suffix]
        .iter()
        .any(|text| model.is_longer_for_sure(text, context))
    {
        return Err(BackendError::ContextLengthExceeded {
            prompt_tokens: None,
            context: Some(context as u64),
        });
    }
    Ok(())
}

/// Converts the prompt to text. Special tokens are included as text.
fn shown(model: &Model, prompt: OnePrompt<'_>) -> String {
    match prompt {
        OnePrompt::Text(text) => text.to_owned(),
        OnePrompt::Tokens(tokens) => {
            let mut bytes = Vec::new();
            for &token in tokens {
                model.append_written(token, &mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}

fn refused(param: &str, code: &str, what: &str) -> BackendError {
    BackendError::InvalidRequest {
        message: format!("Invalid value for '{param}': {what}."),
        param: Some(param.to_owned()),
        code: Some(code.to_owned()),
    }
}
