//! The items of searches in files, and the citations in the text.

use loggia_wire::openai::responses::{
    FileSearchCall, FileSearchStatus, ItemStatus, OutputItem, OutputPart, OutputText, ResponseEvent,
};
use serde_json::{Value, json};

use super::{Open, ResponseWriter, Written};

impl ResponseWriter {
    /// Writes that a search begins; see `ServerTool::SearchBegun`.
    pub(super) fn search_begun(&mut self, queries: Vec<String>, out: &mut Vec<u8>) -> Written {
        self.close(ItemStatus::Completed, out)?;
        let item = OutputItem::FileSearchCall(FileSearchCall {
            id: self.item_id("fs_"),
            status: FileSearchStatus::InProgress,
            queries,
            results: None,
        });
        self.add(item, out)?;
        self.open = Open::McpCall;
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::FileSearchCall(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        item.status = FileSearchStatus::Searching;
        let item_id = item.id.as_str();
        let begun = ResponseEvent::FileSearchBegun {
            item_id,
            output_index,
        };
        self.events.write(&begun, out)?;
        let searching = ResponseEvent::FileSearching {
            item_id,
            output_index,
        };
        self.events.write(&searching, out)
    }

    /// Writes that a search has ended; see `ServerTool::SearchEnded`.
    pub(super) fn search_ended(
        &mut self,
        results: Result<Option<Vec<Value>>, String>,
        out: &mut Vec<u8>,
    ) -> Written {
        let output_index = self.response.output.len().saturating_sub(1);
        let Some(OutputItem::FileSearchCall(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        match results {
            Ok(results) => {
                item.results = results;
                item.status = FileSearchStatus::Completed;
                let event = ResponseEvent::FileSearched {
                    item_id: &item.id,
                    output_index,
                };
                self.events.write(&event, out)?;
            }
            // OpenAI has no event for a failed search; the item's status reports it.
            Err(_) => item.status = FileSearchStatus::Failed,
        }
        self.open = Open::Nothing;
        self.done(out)
    }

    /// Writes that the text so far cites a file; see `ServerTool::Cited`.
    pub(super) fn cited(&mut self, file_id: &str, filename: &str, out: &mut Vec<u8>) -> Written {
        self.in_message(out)?;
        if !matches!(self.last_part(), Some(OutputPart::OutputText(_))) {
            self.end_part(out)?;
            self.begin_part(OutputPart::OutputText(OutputText::default()), out)?;
        }
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::Message(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        let content_index = item.content.len() - 1;
        let Some(OutputPart::OutputText(part)) = item.content.last_mut() else {
            return Ok(());
        };
        let index = part.text.chars().count();
        let annotation = json!({"type": "file_citation", "file_id": file_id,
            "filename": filename, "index": index});
        // A sentence that cites two passages of a file cites the file once.
        if part.annotations.contains(&annotation) {
            return Ok(());
        }
        part.annotations.push(annotation);
        let annotation_index = part.annotations.len() - 1;
        let event = ResponseEvent::AnnotationAdded {
            item_id: &item.id,
            output_index,
            content_index,
            annotation_index,
            annotation: &part.annotations[annotation_index],
        };
        self.events.write(&event, out)
    }
}
