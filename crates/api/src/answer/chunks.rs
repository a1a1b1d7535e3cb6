//! The common parts of the streams of chats and completions: the start of each chunk, the progress
//! of each choice, the usage if requested, `[DONE]`.

use std::sync::Arc;

use bytes::BufMut;
use loggia_backend::{BackendError, Chunk, Event, ServedBy};
use loggia_wire::Extra;
use loggia_wire::frame::sse;
use loggia_wire::openai::{ChunkChoice, CompletionUsage};
use serde::Serialize;

use crate::ApiError;
use crate::answer::id;
use crate::answer::writer::{Head, write_failure};

/// Writes the chunks of one streamed answer.
#[derive(Debug)]
pub(crate) struct Chunks {
    pub(crate) head: Head,
    object: &'static str,
    fingerprint: Arc<str>,
    /// `data: {"id":…,"choices":`, created with the first chunk.
    prefix: Vec<u8>,
    choices: Vec<Progress>,
    usage: Option<CompletionUsage>,
}

/// The progress of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Waiting,
    Speaking,
    Finished,
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

impl Chunks {
    pub(crate) fn new(head: Head, served_by: &ServedBy, object: &'static str) -> Self {
        Self {
            fingerprint: head.fingerprint(served_by),
            object,
            prefix: Vec::new(),
            choices: vec![Progress::Waiting; head.choices],
            usage: None,
            head,
        }
    }

    /// Returns the chunk of an event, if it has one. Creates the prefix on the first call.
    pub(crate) fn chunk_of(&mut self, event: Event) -> Result<Option<Chunk>, BackendError> {
        match event {
            Event::Waiting(_)
            | Event::EndedEarly(_)
            | Event::ServerTool(_)
            | Event::StopString(_) => Ok(None),
            Event::Usage(usage) => {
                self.usage = Some(usage);
                Ok(None)
            }
            Event::Chunk(chunk) => {
                if self.prefix.is_empty() {
                    self.begin(chunk.created)?;
                }
                Ok(Some(chunk))
            }
        }
    }

    fn begin(&mut self, created: Option<u64>) -> Result<(), BackendError> {
        let prefix = Prefix {
            id: &self.head.id,
            object: self.object,
            created: created.unwrap_or_else(id::now),
            model: &self.head.model,
            system_fingerprint: Some(&self.fingerprint),
        };
        self.prefix.put_slice(b"data: ");
        put_json(&mut self.prefix, &prefix)?;
        // The object is left open for `choices`.
        self.prefix.truncate(self.prefix.len() - 1);
        self.prefix.put_slice(b",\"choices\":");
        Ok(())
    }

    /// Returns the progress of the choice before this piece. `None` if the choice does not exist or
    /// has ended.
    pub(crate) fn progress(&mut self, choice: &ChunkChoice) -> Option<Progress> {
        let progress = self.choices.get_mut(choice.index as usize)?;
        let before = *progress;
        if before == Progress::Finished {
            return None;
        }
        *progress = if choice.finish_reason.is_some() {
            Progress::Finished
        } else {
            Progress::Speaking
        };
        Some(before)
    }

    /// Writes a chunk with this choice.
    pub(crate) fn write(
        &self,
        choice: &impl Serialize,
        extra: &Extra,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        out.put_slice(&self.prefix);
        put_json(out, &[choice])?;
        self.write_rest(extra, out)
    }

    /// Writes a chunk that contains only text. The bytes are the same as those of
    /// [`write`](Self::write), but absent fields are not checked.
    pub(crate) fn write_text(
        &self,
        index: u32,
        text: &str,
        extra: &Extra,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        out.put_slice(&self.prefix);
        out.put_slice(b"[{\"index\":");
        put_json(out, &index)?;
        out.put_slice(b",\"delta\":{\"content\":");
        put_json(out, text)?;
        out.put_slice(b"},\"logprobs\":null,\"finish_reason\":null}]");
        self.write_rest(extra, out)
    }

    /// Writes the fields after the choices.
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

    /// Writes the end of a successful answer.
    pub(crate) fn finish(&self, out: &mut Vec<u8>) -> Result<(), BackendError> {
        let has_ended = |choice: &Progress| *choice == Progress::Finished;
        if !self.choices.iter().all(has_ended) {
            return Err(BackendError::Unfinished);
        }
        if self.head.include_usage {
            out.put_slice(&self.prefix);
            out.put_slice(b"[],\"usage\":");
            match &self.usage {
                Some(usage) => put_usage(out, usage)?,
                None => out.put_slice(b"null"),
            }
            out.put_slice(b"}\n\n");
        }
        sse::write_done(out);
        Ok(())
    }

    /// Writes the event that reports an error. No `[DONE]` follows.
    pub(crate) fn fail(&self, error: &ApiError, out: &mut Vec<u8>) {
        write_failure(error, self.head.profile, out);
    }
}

pub(crate) fn put_json<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    value: &T,
) -> Result<(), BackendError> {
    serde_json::to_writer(out, value).map_err(|_| BackendError::Engine {
        message: "an answer that cannot be written as JSON".to_owned(),
    })
}

/// Writes the usage. Has a fast path for usage with every count, as most backends report it.
pub(crate) fn put_usage(out: &mut Vec<u8>, usage: &CompletionUsage) -> Result<(), BackendError> {
    let CompletionUsage {
        prompt_tokens,
        completion_tokens,
        total_tokens,
        prompt_tokens_details: Some(prompt),
        completion_tokens_details: Some(completion),
        extra,
    } = usage
    else {
        return put_json(out, usage);
    };
    if !extra.is_empty() {
        return put_json(out, usage);
    }
    for (before, count) in [
        (&b"{\"prompt_tokens\":"[..], prompt_tokens),
        (b",\"completion_tokens\":", completion_tokens),
        (b",\"total_tokens\":", total_tokens),
        (
            b",\"prompt_tokens_details\":{\"cached_tokens\":",
            &prompt.cached_tokens,
        ),
        (b",\"audio_tokens\":", &prompt.audio_tokens),
        (
            b"},\"completion_tokens_details\":{\"reasoning_tokens\":",
            &completion.reasoning_tokens,
        ),
        (b",\"audio_tokens\":", &completion.audio_tokens),
        (
            b",\"accepted_prediction_tokens\":",
            &completion.accepted_prediction_tokens,
        ),
        (
            b",\"rejected_prediction_tokens\":",
            &completion.rejected_prediction_tokens,
        ),
    ] {
        out.put_slice(before);
        put_json(out, count)?;
    }
    out.put_slice(b"}}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use loggia_wire::openai::{CompletionTokensDetails, PromptTokensDetails};

    use super::*;

    #[test]
    fn usage_is_written_as_any_other_object_is() {
        let all = CompletionUsage {
            prompt_tokens: 1,
            completion_tokens: 2,
            total_tokens: 3,
            prompt_tokens_details: Some(PromptTokensDetails {
                cached_tokens: 4,
                audio_tokens: 5,
            }),
            completion_tokens_details: Some(CompletionTokensDetails {
                reasoning_tokens: 6,
                audio_tokens: 7,
                accepted_prediction_tokens: 8,
                rejected_prediction_tokens: 9,
            }),
            extra: Extra::new(),
        };
        let few = CompletionUsage {
            completion_tokens_details: None,
            ..all.clone()
        };
        let mut more = all.clone();
        more.extra.insert("cost".to_owned(), 10.into());
        for usage in [all, few, more] {
            let mut written = Vec::new();
            put_usage(&mut written, &usage).expect("counts are JSON");
            let json = serde_json::to_string(&usage).expect("counts are JSON");
            assert_eq!(String::from_utf8(written), Ok(json));
        }
    }
}
