//! Writes a chat's stream as OpenAI does: the role once, deltas, one finishing chunk per choice,
//! the usage if requested, `[DONE]`.

use loggia_backend::{BackendError, Event, Profile, ServedBy};
use loggia_wire::Extra;
use loggia_wire::openai::{ChunkChoice, Delta, Role};

use crate::ApiError;
use crate::answer::chunks::{Chunks, Progress};
use crate::answer::custom_calls::CustomCalls;
use crate::answer::writer::{Head, Shape, Writer};
use crate::custom_tools::CustomTools;

/// Writes the stream of a chat: `chat.completion.chunk`.
pub(crate) struct ChatWriter {
    chunks: Chunks,
    custom_calls: CustomCalls,
}

impl ChatWriter {
    pub(crate) fn new(head: Head, served_by: &ServedBy) -> Self {
        let custom_tools = match &head.shape {
            Shape::Chat(tools) => tools.clone(),
            _ => CustomTools::default(),
        };
        Self {
            chunks: Chunks::new(head, served_by, "chat.completion.chunk"),
            custom_calls: CustomCalls::new(custom_tools),
        }
    }

    /// Writes a piece of one choice: the role first, the finish reason last.
    fn choice(
        &mut self,
        choice: &mut ChunkChoice,
        extra: &Extra,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        if !self.custom_calls.convert(choice)? {
            return Ok(());
        }
        let Some(before) = self.chunks.progress(choice) else {
            return Ok(());
        };
        if self.chunks.head.profile == Profile::Original {
            as_the_original_shaped(&mut choice.delta);
            return self.write(choice, extra, out);
        }
        choice.delta.role = (before == Progress::Waiting).then_some(Role::Assistant);
        let Some(reason) = choice.finish_reason.take() else {
            return self.write(choice, extra, out);
        };
        if before == Progress::Waiting && choice.delta.is_empty() {
            choice.delta.content = Some(String::new());
        }
        if !choice.delta.is_empty() || choice.logprobs.is_some() {
            let index = choice.index;
            self.write(choice, &Extra::new(), out)?;
            *choice = ChunkChoice::delta(index, Delta::default());
        }
        choice.finish_reason = Some(reason);
        self.write(choice, extra, out)
    }

    /// Writes a piece. Has a fast path for text, because most chunks contain only text.
    fn write(
        &self,
        choice: &ChunkChoice,
        extra: &Extra,
        out: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        match only_text(choice) {
            Some(text) => self.chunks.write_text(choice.index, text, extra, out),
            None => self.chunks.write(choice, extra, out),
        }
    }
}

impl Writer for ChatWriter {
    fn push(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), BackendError> {
        let Some(mut chunk) = self.chunks.chunk_of(event)? else {
            return Ok(());
        };
        let mut extra = chunk.extra;
        for choice in &mut chunk.choices {
            self.choice(choice, &std::mem::take(&mut extra), out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), BackendError> {
        self.chunks.finish(out)
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.chunks.fail(error, out);
    }
}

/// Returns the text if the piece contains nothing else.
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

/// The original had role and content in every delta.
fn as_the_original_shaped(delta: &mut Delta) {
    delta.role = Some(Role::Assistant);
    delta.content.get_or_insert_default();
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
            shape: Shape::Chat(CustomTools::default()),
            choices: 1,
            include_usage: false,
        };
        let served_by = ServedBy {
            backend: "b".into(),
            model: "m".into(),
            node: None,
            fingerprint: "fp_0".into(),
            changed: Vec::new(),
            ignored: Vec::new(),
        };
        let writer = ChatWriter::new(head, &served_by);
        for text in ["", " the", "\"\\\n\u{1}</é😀"] {
            let choice = ChunkChoice::delta(3, Delta::content(text));
            let (mut short, mut full) = (Vec::new(), Vec::new());
            writer
                .write(&choice, &Extra::new(), &mut short)
                .expect("text is JSON");
            writer
                .chunks
                .write(&choice, &Extra::new(), &mut full)
                .expect("text is JSON");
            assert_eq!(String::from_utf8(short), String::from_utf8(full));
        }
    }
}
