//! The calls of tools that the client runs: functions, custom tools, and those that are emulated as
//! functions.

use loggia_wire::openai::ToolCallDelta;
use loggia_wire::openai::responses::{FunctionToolCall, ItemStatus, OutputItem, ResponseEvent};

use super::{Open, ResponseWriter, Written};
use crate::answer::call::Call;
use crate::responses::called;
use crate::responses::tools::ToolKind;

impl ResponseWriter {
    pub(super) fn call(&mut self, more: ToolCallDelta, out: &mut Vec<u8>) -> Written {
        let is_open = matches!(&self.open, Open::Call(call) if call.index == more.index);
        if !is_open {
            let call = Call::begin(more.index, &mut self.next_call)?;
            self.close(ItemStatus::Completed, out)?;
            self.open = Open::Call(call);
        }
        let Open::Call(call) = &mut self.open else {
            return Ok(());
        };
        call.id = call.id.take().or(more.id);
        let (name, arguments) = more
            .function
            .map_or((None, None), |function| (function.name, function.arguments));
        if !call.is_shown {
            call.name.push_str(&name.unwrap_or_default());
        }
        let arguments = arguments.unwrap_or_default();
        call.arguments.push_str(&arguments);
        if call.is_shown {
            return self.arguments(&arguments, out);
        }
        // The name is complete when the arguments begin.
        let is_known = !call.name.is_empty() && !call.arguments.is_empty();
        if is_known && self.shape.kind_of(&call.name) == ToolKind::Function {
            self.show_call(out)?;
        }
        Ok(())
    }

    /// Adds the unfinished function call to the output.
    pub(super) fn show_call(&mut self, out: &mut Vec<u8>) -> Written {
        let id = self.item_id("fc_");
        let Open::Call(call) = &mut self.open else {
            return Ok(());
        };
        call.is_shown = true;
        let arguments = std::mem::take(&mut call.arguments);
        let call_id = call.id.clone();
        let call_id = call_id.unwrap_or_else(|| format!("call_{}{:02}", self.tail, call.index));
        let tool = self.shape.offered.called(&call.name);
        let item = OutputItem::FunctionCall(FunctionToolCall {
            id,
            status: ItemStatus::InProgress,
            call_id,
            name: tool.map_or_else(|| call.name.clone(), |tool| tool.name.clone()),
            namespace: tool.and_then(|tool| tool.namespace.clone()),
            arguments: String::new(),
            is_async: tool.is_some_and(|tool| tool.is_async),
        });
        self.add(item, out)?;
        self.arguments(&arguments, out)
    }

    fn arguments(&mut self, delta: &str, out: &mut Vec<u8>) -> Written {
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::FunctionCall(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        if delta.is_empty() {
            return Ok(());
        }
        item.arguments.push_str(delta);
        let event = ResponseEvent::ArgumentsDelta {
            item_id: &item.id,
            output_index,
            delta,
        };
        self.events.write(&event, out)
    }

    pub(super) fn end_arguments(&mut self, out: &mut Vec<u8>) -> Written {
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::FunctionCall(item)) = self.response.output.last() else {
            return Ok(());
        };
        let event = ResponseEvent::ArgumentsDone {
            item_id: &item.id,
            output_index,
            name: &item.name,
            arguments: &item.arguments,
        };
        self.events.write(&event, out)
    }

    /// Adds a finished call to the output, if the function represents another tool. Its item needs
    /// all arguments.
    pub(super) fn show_whole_call(&mut self, out: &mut Vec<u8>) -> Written {
        let Open::Call(call) = &self.open else {
            return Ok(());
        };
        let call_id = call.id.clone();
        let call_id = call_id.unwrap_or_else(|| format!("call_{}{:02}", self.tail, call.index));
        let Some(tool) = self.shape.offered.called(&call.name) else {
            return Ok(());
        };
        let item_id = |prefix: &str| self.item_id(prefix);
        let item = called::item(tool, call_id, &call.arguments, &item_id);
        let OutputItem::CustomToolCall(mut whole) = item else {
            // The item is complete at once, so there are no deltas.
            let is_function = matches!(item, OutputItem::FunctionCall(_));
            self.add(item, out)?;
            return if is_function {
                self.end_arguments(out)
            } else {
                Ok(())
            };
        };
        let input = std::mem::take(&mut whole.input);
        self.add(OutputItem::CustomToolCall(whole), out)?;
        let output_index = self.response.output.len() - 1;
        let Some(OutputItem::CustomToolCall(item)) = self.response.output.last_mut() else {
            return Ok(());
        };
        item.input = input;
        let (item_id, input) = (item.id.as_str(), item.input.as_str());
        if !input.is_empty() {
            let event = ResponseEvent::CustomInputDelta {
                item_id,
                output_index,
                delta: input,
            };
            self.events.write(&event, out)?;
        }
        let event = ResponseEvent::CustomInputDone {
            item_id,
            output_index,
            input,
        };
        self.events.write(&event, out)
    }
}
