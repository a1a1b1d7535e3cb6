//! A stored response as a stream of events, for a client that fetches it with `stream=true`.

use loggia_wire::openai::responses::{
    OutputItem, OutputPart, Response, ResponseEvent, ResponseStatus, SummaryPart, write_event,
};

use crate::ApiError;
use crate::responses::live::each;
use crate::stored::damaged;

/// Returns the events that were sent when the response was made, beginning with number `first`.
pub(crate) fn from(stream: &[u8], first: usize) -> Vec<u8> {
    each(stream).skip(first).flatten().copied().collect()
}

/// Returns the events of a response whose stream was not stored. Each text is one delta.
pub(crate) fn events(response: &Response) -> Result<Vec<u8>, ApiError> {
    let mut replay = Replay::default();
    replay.response(response).map_err(|_| damaged())?;
    Ok(replay.out)
}

#[derive(Default)]
struct Replay {
    out: Vec<u8>,
    next: u64,
}

type Written = serde_json::Result<()>;

impl Replay {
    fn write(&mut self, event: &ResponseEvent<'_>) -> Written {
        write_event(&mut self.out, event, self.next, None)?;
        self.next += 1;
        Ok(())
    }

    fn response(&mut self, whole: &Response) -> Written {
        let begun = Response {
            status: ResponseStatus::InProgress,
            completed_at: None,
            error: None,
            incomplete_details: None,
            output: Vec::new(),
            usage: None,
            ..whole.clone()
        };
        self.write(&ResponseEvent::Created { response: &begun })?;
        self.write(&ResponseEvent::InProgress { response: &begun })?;
        for (output_index, item) in whole.output.iter().enumerate() {
            self.item(output_index, item)?;
        }
        let response = whole;
        self.write(&match whole.status {
            ResponseStatus::Completed => ResponseEvent::Completed { response },
            ResponseStatus::Incomplete => ResponseEvent::Incomplete { response },
            _ => ResponseEvent::Failed { response },
        })
    }

    fn item(&mut self, output_index: usize, item: &OutputItem) -> Written {
        let begun = item.begun();
        self.write(&ResponseEvent::OutputItemAdded {
            output_index,
            item: &begun,
        })?;
        let item_id = item.id();
        match item {
            OutputItem::Message(message) => self.parts(output_index, item_id, &message.content)?,
            OutputItem::Reasoning(reasoning) => {
                for (index, part) in reasoning.summary.iter().enumerate() {
                    self.summary(output_index, item_id, index, part)?;
                }
                self.parts(output_index, item_id, &reasoning.content)?;
            }
            OutputItem::FunctionCall(call) => {
                if !call.arguments.is_empty() {
                    self.write(&ResponseEvent::ArgumentsDelta {
                        item_id,
                        output_index,
                        delta: &call.arguments,
                    })?;
                }
                self.write(&ResponseEvent::ArgumentsDone {
                    item_id,
                    output_index,
                    name: &call.name,
                    arguments: &call.arguments,
                })?;
            }
            OutputItem::CustomToolCall(call) => {
                if !call.input.is_empty() {
                    self.write(&ResponseEvent::CustomInputDelta {
                        item_id,
                        output_index,
                        delta: &call.input,
                    })?;
                }
                self.write(&ResponseEvent::CustomInputDone {
                    item_id,
                    output_index,
                    input: &call.input,
                })?;
            }
            _ => {}
        }
        self.write(&ResponseEvent::OutputItemDone { output_index, item })
    }

    fn parts(&mut self, output_index: usize, item_id: &str, parts: &[OutputPart]) -> Written {
        for (content_index, part) in parts.iter().enumerate() {
            let begun = part.begun();
            self.write(&ResponseEvent::ContentPartAdded {
                item_id,
                output_index,
                content_index,
                part: &begun,
            })?;
            let (delta, done) = text_events(part, item_id, output_index, content_index);
            if delta.delta() != Some("") {
                self.write(&delta)?;
            }
            self.write(&done)?;
            self.write(&ResponseEvent::ContentPartDone {
                item_id,
                output_index,
                content_index,
                part,
            })?;
        }
        Ok(())
    }

    fn summary(
        &mut self,
        output_index: usize,
        item_id: &str,
        summary_index: usize,
        part: &SummaryPart,
    ) -> Written {
        let SummaryPart::SummaryText { text } = part;
        let begun = SummaryPart::SummaryText {
            text: String::new(),
        };
        self.write(&ResponseEvent::SummaryPartAdded {
            item_id,
            output_index,
            summary_index,
            part: &begun,
        })?;
        if !text.is_empty() {
            self.write(&ResponseEvent::SummaryTextDelta {
                item_id,
                output_index,
                summary_index,
                delta: text,
            })?;
        }
        self.write(&ResponseEvent::SummaryTextDone {
            item_id,
            output_index,
            summary_index,
            text,
        })?;
        self.write(&ResponseEvent::SummaryPartDone {
            item_id,
            output_index,
            summary_index,
            part,
        })
    }
}

/// Returns the event with the whole text of a part, and the one that ends the text.
fn text_events<'a>(
    part: &'a OutputPart,
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
) -> (ResponseEvent<'a>, ResponseEvent<'a>) {
    match part {
        OutputPart::OutputText(part) => (
            ResponseEvent::OutputTextDelta {
                item_id,
                output_index,
                content_index,
                delta: &part.text,
                logprobs: &part.logprobs,
            },
            ResponseEvent::OutputTextDone {
                item_id,
                output_index,
                content_index,
                text: &part.text,
                logprobs: &part.logprobs,
            },
        ),
        OutputPart::Refusal(part) => (
            ResponseEvent::RefusalDelta {
                item_id,
                output_index,
                content_index,
                delta: &part.refusal,
            },
            ResponseEvent::RefusalDone {
                item_id,
                output_index,
                content_index,
                refusal: &part.refusal,
            },
        ),
        OutputPart::ReasoningText(part) => (
            ResponseEvent::ReasoningTextDelta {
                item_id,
                output_index,
                content_index,
                delta: &part.text,
            },
            ResponseEvent::ReasoningTextDone {
                item_id,
                output_index,
                content_index,
                text: &part.text,
            },
        ),
    }
}
