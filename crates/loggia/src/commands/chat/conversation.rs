//! A conversation: builds the requests and reads the answers.

use std::sync::Arc;

use futures_util::StreamExt as _;
use loggia_backend::{BackendError, Event, Events};
use loggia_wire::openai::{ChatCompletionRequest, FinishReason};
use serde_json::{Value, json};

use super::screen::Piece;
use super::server::Server;

/// How an answer ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Whole,
    /// The user stopped the answer with Ctrl-C.
    Stopped,
    /// Cut at the token limit.
    Length,
}

/// The model, the system prompt and the turns so far.
#[derive(Debug)]
pub(super) struct Conversation {
    model: String,
    system: Option<String>,
    turns: Vec<Value>,
}

impl Conversation {
    pub(super) fn new(model: String, system: Option<String>) -> Self {
        Self {
            model,
            system,
            turns: Vec::new(),
        }
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(super) fn set_model(&mut self, model: String) {
        self.model = model;
    }

    pub(super) fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    pub(super) fn set_system(&mut self, system: Option<String>) {
        self.system = system;
    }

    pub(super) fn clear(&mut self) {
        self.turns.clear();
    }

    /// Sends a message, and passes each piece of the answer to `show`. If the user stops the
    /// answer, the conversation keeps the part that arrived.
    ///
    /// # Errors
    ///
    /// If the server refuses or fails, or `show` fails. The conversation is then unchanged.
    pub(super) async fn ask(
        &mut self,
        server: &Server,
        text: &str,
        pictures: &[String],
        mut show: impl FnMut(Piece<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ending> {
        let mut answer = String::new();
        let asked = user(text, pictures);
        let ending = tokio::select! {
            ending = answered(server, self.request(&asked)?, &mut answer, &mut show) => ending?,
            _ = tokio::signal::ctrl_c() => Ending::Stopped,
        };
        if !(answer.is_empty() && ending == Ending::Stopped) {
            self.turns
                .extend([asked, json!({"role": "assistant", "content": answer})]);
        }
        Ok(ending)
    }

    fn request(&self, asked: &Value) -> anyhow::Result<Arc<ChatCompletionRequest>> {
        let system = self
            .system
            .as_ref()
            .map(|text| json!({"role": "system", "content": text}));
        let messages: Vec<&Value> = system.iter().chain(&self.turns).chain([asked]).collect();
        let body = json!({"model": self.model, "messages": messages, "stream": true});
        Ok(Arc::new(serde_json::from_value(body)?))
    }
}

fn user(text: &str, pictures: &[String]) -> Value {
    if pictures.is_empty() {
        return json!({"role": "user", "content": text});
    }
    let words = (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
    let pictures = pictures
        .iter()
        .map(|url| json!({"type": "image_url", "image_url": {"url": url}}));
    json!({"role": "user", "content": words.into_iter().chain(pictures).collect::<Vec<_>>()})
}

async fn answered(
    server: &Server,
    request: Arc<ChatCompletionRequest>,
    answer: &mut String,
    show: &mut impl FnMut(Piece<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Ending> {
    let events = server.ask(request).await?;
    Ok(match read(events, answer, show).await? {
        Some(FinishReason::Length) => Ending::Length,
        _ => Ending::Whole,
    })
}

async fn read(
    mut events: Events,
    answer: &mut String,
    show: &mut impl FnMut(Piece<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Option<FinishReason>> {
    let mut reason = None;
    while let Some(event) = events.next().await {
        let Event::Chunk(chunk) = event? else {
            continue;
        };
        for choice in chunk.choices {
            let delta = choice.delta;
            if let Some(thought) = delta.reasoning_content.or(delta.reasoning) {
                show(Piece::Reasoning(&thought))?;
            }
            if let Some(text) = delta.content {
                show(Piece::Text(&text))?;
                answer.push_str(&text);
            }
            reason = choice.finish_reason.or(reason);
        }
    }
    if reason.is_none() {
        return Err(BackendError::Unfinished.into());
    }
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_instructions_first_and_the_pictures_after_the_words() {
        let mut conversation = Conversation::new("m".to_owned(), Some("Be brief.".to_owned()));
        conversation
            .turns
            .push(json!({"role": "user", "content": "Hi"}));
        conversation
            .turns
            .push(json!({"role": "assistant", "content": "Hello."}));
        let request = conversation
            .request(&user(
                "What is it?",
                &["data:image/png;base64,AA==".to_owned()],
            ))
            .unwrap();
        let messages = serde_json::to_value(&request.messages).unwrap();
        assert_eq!(
            messages[0],
            json!({"role": "system", "content": "Be brief."})
        );
        assert_eq!(
            messages[3]["content"][0],
            json!({"type": "text", "text": "What is it?"})
        );
        assert_eq!(
            messages[3]["content"][1]["image_url"]["url"],
            "data:image/png;base64,AA=="
        );
        conversation.clear();
        assert_eq!(
            conversation
                .request(&user("Hi", &[]))
                .unwrap()
                .messages
                .len(),
            2
        );
    }
}
