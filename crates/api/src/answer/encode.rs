//! Events → server-sent events, as OpenAI sends them: the role once, deltas, one finishing chunk a
//! choice, the usage if asked for, `[DONE]`.

use std::sync::Arc;

use bytes::BufMut;
use loggia_backend::{BackendError, Chunk, Event, Profile, ServedBy};
use loggia_wire::Extra;
use loggia_wire::frame::sse;
use loggia_wire::openai::{ChunkChoice, CompletionUsage, Delta, Role};
use serde::Serialize;

use crate::ApiError;
use crate::answer::headers::X_LOGGIA_CUT_SHORT;
use crate::answer::id;
use crate::answer::text::TextChoice;

/// What is the same in every chunk of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// `chatcmpl-…`, `cmpl-…`.
    pub(crate) id: Arc<str>,
    /// The name the client asked for.
    pub(crate) model: Arc<str>,
    /// How the answer's shape is.
    pub(crate) profile: Profile,
    /// What kind of answer it is.
    pub(crate) shape: Shape,
    /// How many choices there will be.
    pub(crate) choices: usize,
    /// Whether a chunk with the usage is wanted.
    pub(crate) include_usage: bool,
}

/// What kind of answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A chat's: `chat.completion`.
    Chat,
    /// A text's: `text_completion`.
    Text {
        /// Whether it begins with the prompt.
        echoes: bool,
    },
}

/// Writes one streamed answer. No clock and no I/O but the time of an answer whose backend does not
/// tell it.
#[derive(Debug)]
pub(crate) struct Encoder {
    head: Head,
    fingerprint: Option<Arc<str>>,
    /// `data: {"id":…,"choices":`, once the first chunk has come.
    prefix: Vec<u8>,
    choices: Vec<Progress>,
    /// Of a text, how far each choice has come in it.
    texts: Vec<TextChoice>,
    usage: Option<CompletionUsage>,
}

/// How far a choice has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Speaking,
    Finished,
}

/// Writes the event that tells a failure.
pub(crate) fn write_failure(error: &ApiError, profile: Profile, out: &mut Vec<u8>) {
    // Four strings are always JSON.
    let _ = sse::write(out, &error.clone().under(profile).body());
}

/// The fields before `choices`.
#[derive(Serialize)]
struct Prefix<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: Option<&'a str>,
}

impl Encoder {
    pub(crate) fn new(head: Head) -> Self {
        let choices = vec![Progress::Waiting; head.choices];
        let texts = match head.shape {
            Shape::Chat => Vec::new(),
            Shape::Text { echoes } => vec![TextChoice::new(echoes); head.choices],
        };
        Self {
            head,
            fingerprint: None,
            prefix: Vec::new(),
            choices,
            texts,
            usage: None,
        }
    }

    /// The engine has accepted: who answers is known.
    pub(crate) fn served_by(&mut self, served_by: &ServedBy) {
        self.fingerprint = Some(match self.head.profile {
            Profile::Openai => Arc::clone(&served_by.fingerprint),
            Profile::Original => "fp_ollama".into(),
        });
    }

    /// What the answer cost, as far as known by now.
    pub(crate) fn usage(&self) -> Option<&CompletionUsage> {
        self.usage.as_ref()
    }

    /// Writes what an event stands for, if anything.
    pub(crate) fn push(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), BackendError> {
        match event {
            Event::Waiting(_) => Ok(()),
            Event::EndedEarly(why) => {
                // The headers are gone.
                sse::write_comment(out, &format!("{X_LOGGIA_CUT_SHORT}: {}", why.as_str()));
                Ok(())
            }
            Event::Usage(usage) => {
                self.usage = Some(usage);
                Ok(())
            }
            Event::Chunk(chunk) => self.chunk(chunk, out),
        }
    }

    /// Writes the end of an answer that went well; an answer without a proper end did not.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), BackendError> {
        if self
            .choices
            .iter()
            .any(|choice| *choice != Progress::Finished)
        {
            return Err(BackendError::Unfinished);
        }
        if self.head.include_usage {
            out.put_slice(&self.prefix);
            out.put_slice(b"[],\"usage\":");
            match &self.usage {
                Some(usage) => put_json(out, usage)?,
                None => out.put_slice(b"null"),
            }
            out.put_slice(b"}\n\n");
        }
        sse::write_done(out);
        Ok(())
    }

    /// Writes the event that tells a failure. Nothing follows, no `[DONE]` either.
    pub(crate) fn fail(&self, error: ApiError, out: &mut Vec<u8>) {
        let error = if self.head.shape == Shape::Chat {
            error
        } else {
            error.of_a_prompt()
        };
        write_failure(&error, self.head.profile, out);
    }

    fn chunk(&mut self, chunk: Chunk, out: &mut Vec<u8>) -> Result<(), BackendError> {
        if self.prefix.is_empty() {
            self.begin(chunk.created)?;
        }
        let mut extra = chunk.extra;
        for choice in chunk.choices {
            self.choice(choice, &std::mem::take(&mut extra), out)?;
        }
        Ok(())
    }

    fn begin(&mut self, created: Option<u64>) -> Result<(), BackendError> {
        let prefix = Prefix {
            id: &self.head.id,
            object: match self.head.shape {
                Shape::Chat => "chat.completion.chunk",
                Shape::Text { .. } => "text_completion",
            },
            created: created.unwrap_or_else(id::now),
            model: &self.head.model,
            system_fingerprint: self.fingerprint.as_deref(),
        };
        self.prefix.put_slice(b"data: ");
        put_json(&mut self.prefix, &prefix)?;
        // The object is left open for `choices`.
        self.prefix.truncate(self.prefix.len() - 1);
        self.prefix.put_slice(b",\"choices\":");
        Ok(())
    }

    /// Writes one choice: the role before anything else, the reason of its end after everything
    /// else.
    fn choice(
        &mut self,
        mut choice: ChunkChoice,
        extra: &Extra,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        let Some(progress) = self.choices.get_mut(choice.index as usize) else {
            return Ok(());
        };
        let before = *progress;
        if before == Progress::Finished {
            return Ok(());
        }
        *progress = if choice.finish_reason.is_some() {
            Progress::Finished
        } else {
            Progress::Speaking
        };
        if self.head.shape != Shape::Chat {
            return self.text(choice, extra, out);
        }
        if self.head.profile == Profile::Original {
            as_the_original_shaped(&mut choice.delta);
            return self.write(&choice, extra, out);
        }
        choice.delta.role = (before == Progress::Waiting).then_some(Role::Assistant);
        let Some(reason) = choice.finish_reason.take() else {
            return self.write(&choice, extra, out);
        };
        if before == Progress::Waiting && choice.delta.is_empty() {
            choice.delta.content = Some(String::new());
        }
        if !choice.delta.is_empty() || choice.logprobs.is_some() {
            let index = choice.index;
            self.write(&choice, &Extra::new(), out)?;
            choice = ChunkChoice::delta(index, Delta::default());
        }
        choice.finish_reason = Some(reason);
        self.write(&choice, extra, out)
    }

    /// Writes more of a text: the reason of its end after everything else, on a chunk of its own.
    fn text(
        &mut self,
        mut choice: ChunkChoice,
        extra: &Extra,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        let reason = choice.finish_reason.take();
        let index = choice.index;
        let Some(text) = self.texts.get_mut(index as usize) else {
            return Ok(());
        };
        let says_nothing = choice
            .delta
            .content
            .as_deref()
            .unwrap_or_default()
            .is_empty()
            && choice.logprobs.is_none();
        if !says_nothing {
            let more = text.of(choice);
            let extra = if reason.is_none() {
                extra
            } else {
                &Extra::new()
            };
            self.write_choice(&more, extra, out)?;
            choice = ChunkChoice::delta(index, Delta::default());
        }
        let Some(reason) = reason else { return Ok(()) };
        choice.finish_reason = Some(reason);
        let Some(text) = self.texts.get_mut(index as usize) else {
            return Ok(());
        };
        let end = text.of(choice);
        self.write_choice(&end, extra, out)
    }

    fn write_choice(
        &self,
        choice: &impl Serialize,
        extra: &Extra,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        out.put_slice(&self.prefix);
        put_json(out, &[choice])?;
        self.write_rest(extra, out)
    }

    fn write(
        &self,
        choice: &ChunkChoice,
        extra: &Extra,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        // Nearly all are only text. What is written is the same, without a look at each field that
        // is not there.
        let Some(text) = only_text(choice) else {
            return self.write_choice(choice, extra, out);
        };
        out.put_slice(&self.prefix);
        out.put_slice(b"[{\"index\":");
        put_json(out, &choice.index)?;
        out.put_slice(b",\"delta\":{\"content\":");
        put_json(out, text)?;
        out.put_slice(b"},\"logprobs\":null,\"finish_reason\":null}]");
        self.write_rest(extra, out)
    }

    /// What stands after the choices.
    fn write_rest(&self, extra: &Extra, out: &mut Vec<u8>) -> Result<(), BackendError> {
        if self.head.include_usage {
            out.put_slice(b",\"usage\":null");
        }
        for (key, value) in extra {
            out.put_u8(b',');
            put_json(out, key)?;
            out.put_u8(b':');
            put_json(out, value)?;
        }
        out.put_slice(b"}\n\n");
        Ok(())
    }
}

/// The text of a choice that has nothing else to say.
fn only_text(choice: &ChunkChoice) -> Option<&str> {
    let ChunkChoice {
        index: _,
        delta,
        logprobs: None,
        finish_reason: None,
        extra,
    } = choice
    else {
        return None;
    };
    let Delta {
        role: None,
        content: Some(content),
        refusal: None,
        reasoning_content: None,
        reasoning: None,
        tool_calls: None,
        function_call: None,
        extra: more,
    } = delta
    else {
        return None;
    };
    (extra.is_empty() && more.is_empty()).then_some(content)
}

/// The original named the role and a content in every delta.
fn as_the_original_shaped(delta: &mut Delta) {
    delta.role = Some(Role::Assistant);
    delta.content.get_or_insert_default();
}

fn put_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), BackendError> {
    serde_json::to_writer(out, value).map_err(|_| BackendError::Engine {
        message: "an answer that cannot be written as JSON".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_alone_is_written_as_any_other_delta_is() {
        let head = Head {
            id: "chatcmpl-1".into(),
            model: "m".into(),
            profile: Profile::Openai,
            shape: Shape::Chat,
            choices: 1,
            include_usage: false,
        };
        let encoder = Encoder::new(head);
        for text in ["", " the", "\"\\\n\u{1}</é😀"] {
            let choice = ChunkChoice::delta(3, Delta::content(text));
            let mut written = Vec::new();
            encoder
                .write(&choice, &Extra::new(), &mut written)
                .expect("text is JSON");
            let otherwise = serde_json::to_string(&[&choice]).expect("text is JSON");
            assert_eq!(
                String::from_utf8(written).expect("text"),
                format!("{otherwise}}}\n\n")
            );
        }
    }
}
