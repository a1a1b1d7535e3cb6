//! The item of a compaction: the summary that the model writes, sealed.

use loggia_backend::BackendError;
use loggia_wire::openai::responses::{
    CompactedResponse, CompactionItem, ItemStatus, OutputItem, ResponseEvent,
};
use loggia_wire::openai::{ChunkChoice, FinishReason};

use super::{Open, ResponseWriter, Written};
use crate::answer::chunks::put_json;
use crate::responses::sealed::Sealed;
use crate::responses::summary::{Compacted, Compaction};

impl ResponseWriter {
    /// Collects a summary. The client gets the whole summary at once, because it is sealed.
    pub(super) fn summarize(&mut self, choice: ChunkChoice, out: &mut Vec<u8>) -> Written {
        if matches!(self.open, Open::Nothing) {
            self.open = Open::Compaction;
            self.begin_compaction(out)?;
        }
        self.summary
            .push_str(&choice.delta.content.unwrap_or_default());
        let Some(reason) = choice.finish_reason else {
            return Ok(());
        };
        let summary = self.summary.trim();
        let (Some(keys), false) = (&self.shape.keys, summary.is_empty()) else {
            return Err(BackendError::Engine {
                message: "the model wrote no summary".to_owned(),
            });
        };
        let compacted = Compacted {
            summary: summary.to_owned(),
            messages: match &self.shape.compaction {
                Some(Compaction::Conversation(kept)) => kept.clone(),
                _ => Vec::new(),
            },
            kept: None,
        };
        let mut json = Vec::new();
        put_json(&mut json, &compacted)?;
        let sealed = Sealed::Compaction.seal(keys, &String::from_utf8_lossy(&json));
        if let Some(OutputItem::Compaction(item)) = self.response.output.last_mut() {
            item.encrypted_content = sealed;
        }
        // A summary that reached the token limit is usable, so the response is complete.
        self.finish_reason = Some(match reason {
            FinishReason::Length => FinishReason::Stop,
            reason => reason,
        });
        self.close(ItemStatus::Completed, out)
    }

    /// Writes that the server has compacted the conversation before the answer.
    pub(super) fn compacted(&mut self, encrypted_content: String, out: &mut Vec<u8>) -> Written {
        self.begin_compaction(out)?;
        if let Some(OutputItem::Compaction(item)) = self.response.output.last_mut() {
            item.encrypted_content = encrypted_content;
        }
        self.done(out)
    }

    fn begin_compaction(&mut self, out: &mut Vec<u8>) -> Written {
        let id = self.item_id("cmp_");
        self.add(
            OutputItem::Compaction(CompactionItem {
                id: id.clone(),
                encrypted_content: String::new(),
            }),
            out,
        )?;
        let event = ResponseEvent::Compacting {
            item_id: &id,
            output_index: self.response.output.len() - 1,
        };
        self.events.write(&event, out)
    }

    /// Writes a compacted conversation.
    pub(super) fn write_conversation(&self, out: &mut Vec<u8>) -> Written {
        let output = self.response.output.iter();
        let output = output.filter_map(|item| serde_json::to_value(item).ok());
        let conversation = CompactedResponse {
            id: &self.response.id,
            object: "response.compaction",
            output: output.collect(),
            created_at: self.response.created_at,
            usage: self.response.usage.as_ref(),
        };
        put_json(out, &conversation)
    }
}
