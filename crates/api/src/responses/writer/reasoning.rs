//! The item of the model's reasoning: its text, as a summary if the client asked for one, and sealed.

use loggia_wire::openai::responses::{
    ItemStatus, OutputItem, OutputPart, ReasoningItem, ReasoningText, ResponseEvent, SummaryPart,
};

use super::{Open, ResponseWriter, Written};
use crate::responses::sealed::Sealed;

impl ResponseWriter {
    pub(super) fn reasoning(&mut self, text: &str, out: &mut Vec<u8>) -> Written {
        if !matches!(self.open, Open::Reasoning) {
            self.close(ItemStatus::Completed, out)?;
            let item = OutputItem::Reasoning(ReasoningItem {
                id: self.item_id("rs_"),
                summary: Vec::new(),
                content: Vec::new(),
                status: Some(ItemStatus::InProgress),
                encrypted_content: None,
            });
            self.add(item, out)?;
            self.open = Open::Reasoning;
            if self.shape.summarizes {
                self.begin_summary(out)?;
            } else {
                self.begin_part(OutputPart::ReasoningText(ReasoningText::default()), out)?;
            }
        }
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::Reasoning(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        let (item_id, delta) = (item.id.as_str(), text);
        if let Some(SummaryPart::SummaryText { text: all }) = item.summary.last_mut() {
            all.push_str(text);
            let summary_index = 0;
            let event = ResponseEvent::SummaryTextDelta {
                item_id,
                output_index,
                summary_index,
                delta,
            };
            return self.events.write(&event, out);
        }
        if let Some(OutputPart::ReasoningText(part)) = item.content.last_mut() {
            part.text.push_str(text);
        }
        let event = ResponseEvent::ReasoningTextDelta {
            item_id,
            output_index,
            content_index: 0,
            delta,
        };
        self.events.write(&event, out)
    }

    fn begin_summary(&mut self, out: &mut Vec<u8>) -> Written {
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::Reasoning(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        item.summary.push(SummaryPart::SummaryText {
            text: String::new(),
        });
        let event = ResponseEvent::SummaryPartAdded {
            item_id: &item.id,
            output_index,
            summary_index: 0,
            part: &item.summary[0],
        };
        self.events.write(&event, out)
    }

    /// Adds the sealed reasoning, which the client sends back with the next request.
    pub(super) fn seal_reasoning(&mut self) {
        let Some(keys) = &self.shape.keys else { return };
        let Some(OutputItem::Reasoning(item)) = self.response.output.last_mut() else {
            return;
        };
        let raw = item.content.iter().filter_map(|part| match part {
            OutputPart::ReasoningText(part) => Some(part.text.as_str()),
            _ => None,
        });
        let shown = item.summary.iter().map(|part| {
            let SummaryPart::SummaryText { text } = part;
            text.as_str()
        });
        let text: String = raw.chain(shown).collect();
        item.encrypted_content = Some(Sealed::Reasoning.seal(keys, &text));
    }
}
