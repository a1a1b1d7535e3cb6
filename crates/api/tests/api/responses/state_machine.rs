//! The rules of a streamed response: sequence numbers, indices, ids, nesting, and exactly one end.

use serde_json::{Value, json};

/// Returns the response in the last event.
///
/// # Panics
///
/// If the stream breaks a rule.
pub(crate) fn checked(stream: &str) -> Value {
    checked_events(&events(stream))
}

/// Returns the response in the last of these events, as [`checked`] does.
pub(crate) fn checked_events(events: &[Value]) -> Value {
    let mut seen = StreamChecker::default();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
        assert_eq!(seen.end, Value::Null, "after the end: {event}");
        seen.event(number, event);
    }
    assert_ne!(seen.end, Value::Null, "no end: {events:?}");
    seen.end
}

/// Returns the events of a stream. Checks that each `event:` line has the type of its data. Skips
/// comments.
pub(crate) fn events(stream: &str) -> Vec<Value> {
    assert!(
        stream.ends_with("\n\n"),
        "the last event has no end: {stream:?}"
    );
    let blocks = stream.split_terminator("\n\n");
    let blocks = blocks.filter(|block| !block.starts_with(": "));
    blocks
        .map(|block| {
            let (name, data) = block.split_once('\n').expect("two lines");
            let name = name.strip_prefix("event: ").expect("a name");
            let data = data.strip_prefix("data: ").expect("data");
            let event: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(event["type"], name);
            event
        })
        .collect()
}

#[derive(Default)]
struct StreamChecker {
    id: Value,
    /// The complete items.
    done: Vec<Value>,
    /// The open item, with the text that its deltas added.
    open: Option<Value>,
    /// The part that has begun: its list, its index, and whether its text is complete.
    part: Option<(&'static str, usize, bool)>,
    /// Whether the arguments or the input of the open call are complete.
    call_done: bool,
    end: Value,
}

impl StreamChecker {
    fn event(&mut self, number: usize, event: &Value) {
        let kind = event["type"].as_str().expect("a type");
        match kind {
            "response.created" => self.begin(number == 0, event),
            "response.in_progress" => self.begin(number == 1, event),
            "response.output_item.added" => self.added(event),
            "response.output_item.done" => self.item_done(event),
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.end(kind, event);
            }
            "response.content_part.added" => self.part_added("content", event),
            "response.content_part.done" => self.part_done("content", event),
            "response.reasoning_summary_part.added" => self.part_added("summary", event),
            "response.reasoning_summary_part.done" => self.part_done("summary", event),
            "response.output_text.delta" => self.delta("content", "output_text", "text", event),
            "response.output_text.done" | "response.reasoning_text.done" => {
                self.text_done("content", "text", event);
            }
            "response.refusal.delta" => self.delta("content", "refusal", "refusal", event),
            "response.refusal.done" => self.text_done("content", "refusal", event),
            "response.reasoning_text.delta" => {
                self.delta("content", "reasoning_text", "text", event);
            }
            "response.reasoning_summary_text.delta" => {
                self.delta("summary", "summary_text", "text", event);
            }
            "response.reasoning_summary_text.done" => self.text_done("summary", "text", event),
            "response.function_call_arguments.delta" => {
                self.call_delta("function_call", "arguments", event);
            }
            "response.function_call_arguments.done" => {
                self.whole_call("function_call", "arguments", event);
                let item = self.open.as_ref().expect("an item");
                assert_eq!(event["name"], item["name"]);
            }
            "response.custom_tool_call_input.delta" => {
                self.call_delta("custom_tool_call", "input", event);
            }
            "response.custom_tool_call_input.done" => {
                self.whole_call("custom_tool_call", "input", event);
            }
            "response.mcp_list_tools.in_progress" | "response.mcp_list_tools.completed" => {
                assert_eq!(self.item(event)["type"], "mcp_list_tools", "{event}");
            }
            "response.mcp_call.in_progress" => {
                assert_eq!(self.item(event)["type"], "mcp_call", "{event}");
            }
            "response.mcp_call_arguments.delta" => self.call_delta("mcp_call", "arguments", event),
            "response.mcp_call_arguments.done" => self.whole_call("mcp_call", "arguments", event),
            "response.mcp_call.completed" | "response.mcp_call.failed" => {
                assert!(self.call_done, "before its arguments are: {event}");
                assert_eq!(self.item(event)["type"], "mcp_call", "{event}");
            }
            "response.file_search_call.in_progress"
            | "response.file_search_call.searching"
            | "response.file_search_call.completed" => {
                assert_eq!(self.item(event)["type"], "file_search_call", "{event}");
            }
            "response.output_text.annotation.added" => {
                let part = self.part("content", event);
                let all = part["annotations"].as_array_mut().expect("a list");
                assert_eq!(event["annotation_index"], all.len(), "{event}");
                all.push(event["annotation"].clone());
            }
            "response.compaction.compacting" => {
                assert_eq!(self.item(event)["type"], "compaction", "{event}");
            }
            "response.steer.accepted" => {
                assert_eq!(event["steer"]["previous_response_id"], self.id, "{event}");
                assert!(event["steer"]["id"].is_string(), "{event}");
            }
            _ => panic!("an unknown event: {event}"),
        }
    }

    fn begin(&mut self, is_in_place: bool, event: &Value) {
        assert!(is_in_place, "{event}");
        let response = &event["response"];
        assert!(response["id"].as_str().expect("an id").starts_with("resp_"));
        if self.id != Value::Null {
            assert_eq!(self.id, response["id"]);
        }
        self.id = response["id"].clone();
        assert_eq!(response["status"], "in_progress");
        assert_eq!(response["output"], json!([]));
    }

    fn added(&mut self, event: &Value) {
        assert!(self.open.is_none(), "before the last item is done: {event}");
        assert_eq!(event["output_index"], self.done.len(), "{event}");
        let item = event["item"].clone();
        let is_new = self.done.iter().all(|done| done["id"] != item["id"]);
        assert!(is_new && item["id"].is_string(), "{event}");
        let without = [
            "reasoning",
            "compaction",
            "mcp_list_tools",
            "mcp_approval_request",
        ];
        let may_lack_status = without.iter().any(|kind| item["type"] == *kind);
        if !may_lack_status || item["status"] != Value::Null {
            assert_eq!(item["status"], "in_progress", "{event}");
        }
        for empty in ["content", "summary"] {
            assert!(item[empty].as_array().is_none_or(Vec::is_empty), "{event}");
        }
        self.call_done = false;
        self.open = Some(item);
    }

    /// Returns the open item, after checking that the event refers to it.
    fn item(&mut self, event: &Value) -> &mut Value {
        assert_eq!(event["output_index"], self.done.len(), "{event}");
        let item = self.open.as_mut().expect("an item under way");
        assert_eq!(event["item_id"], item["id"], "{event}");
        item
    }

    fn part_added(&mut self, list: &'static str, event: &Value) {
        assert!(self.part.is_none(), "before the last part is done: {event}");
        let index_name = index_of(list);
        let item = self.item(event);
        if item[list].is_null() {
            item[list] = json!([]);
        }
        let parts = item[list].as_array_mut().expect("a list");
        let index = parts.len();
        assert_eq!(event[index_name], index, "{event}");
        for text in ["text", "refusal"] {
            assert!(event["part"][text].as_str().unwrap_or_default().is_empty());
        }
        parts.push(event["part"].clone());
        self.part = Some((list, index, false));
    }

    /// Returns the open part, after checking that the event refers to it.
    fn part(&mut self, list: &'static str, event: &Value) -> &mut Value {
        let (open, index, _) = self.part.expect("a part under way");
        assert_eq!((open, &event[index_of(list)]), (list, &json!(index)));
        &mut self.item(event)[list][index]
    }

    fn delta(&mut self, list: &'static str, kind: &str, field: &str, event: &Value) {
        assert!(!self.part.expect("a part").2, "after its end: {event}");
        let delta = event["delta"].as_str().expect("a text");
        assert!(!delta.is_empty(), "{event}");
        let part = self.part(list, event);
        assert_eq!(part["type"], kind, "{event}");
        let all = part[field].as_str().expect("a text").to_owned() + delta;
        part[field] = json!(all);
        if kind == "output_text" {
            let logprobs = event["logprobs"].as_array().expect("a list");
            let all = part["logprobs"].as_array_mut().expect("a list");
            all.extend(logprobs.iter().cloned());
        }
    }

    fn text_done(&mut self, list: &'static str, field: &str, event: &Value) {
        let part = self.part(list, event);
        assert_eq!(event[field], part[field], "{event}");
        if let Some(logprobs) = event.get("logprobs") {
            part["logprobs"] = logprobs.clone();
        }
        let (list, index, was_done) = self.part.expect("a part");
        assert!(!was_done, "{event}");
        self.part = Some((list, index, true));
    }

    fn part_done(&mut self, list: &'static str, event: &Value) {
        assert!(self.part.expect("a part").2, "before its text is: {event}");
        assert_eq!(event["part"], *self.part(list, event));
        self.part = None;
    }

    fn call_delta(&mut self, kind: &str, field: &str, event: &Value) {
        assert!(!self.call_done, "{event}");
        let item = self.item(event);
        assert_eq!(item["type"], kind, "{event}");
        let all = item[field].as_str().expect("a text").to_owned();
        item[field] = json!(all + event["delta"].as_str().expect("a text"));
    }

    fn whole_call(&mut self, kind: &str, field: &str, event: &Value) {
        assert!(!self.call_done, "{event}");
        let item = self.item(event);
        assert_eq!((&item["type"], &item[field]), (&json!(kind), &event[field]));
        self.call_done = true;
    }

    fn item_done(&mut self, event: &Value) {
        assert!(self.part.is_none(), "before its part is: {event}");
        assert_eq!(event["output_index"], self.done.len(), "{event}");
        let mut open = self.open.take().expect("an item under way");
        let has_deltas = ["function_call", "custom_tool_call"];
        if has_deltas.iter().any(|kind| open["type"] == *kind) {
            assert!(self.call_done, "before its arguments are: {event}");
        }
        if open["type"] == "mcp_list_tools" {
            open["tools"] = event["item"]["tools"].clone();
        }
        if open["type"] == "mcp_call" {
            for result in ["output", "error", "status"] {
                open[result] = event["item"][result].clone();
            }
            assert_ne!(open["output"].is_null(), open["error"].is_null(), "{event}");
        }
        if open["type"] == "file_search_call" {
            for result in ["results", "status"] {
                open[result] = event["item"][result].clone();
            }
        }
        let is_of_server = |kind: &str| kind.starts_with("mcp_") || kind == "file_search_call";
        if open["type"].as_str().is_some_and(is_of_server) {
            assert_eq!(event["item"], open);
            self.done.push(open);
            return;
        }
        if open["type"] == "compaction" {
            open["encrypted_content"] = event["item"]["encrypted_content"].clone();
            assert_ne!(open["encrypted_content"], "", "{event}");
            assert_eq!(event["item"], open);
            self.done.push(open);
            return;
        }
        if let Some(sealed) = event["item"].get("encrypted_content") {
            open["encrypted_content"] = sealed.clone();
        }
        let status = &event["item"]["status"];
        open["status"] = status.clone();
        assert_eq!(event["item"], open);
        assert!(*status == "completed" || *status == "incomplete", "{event}");
        self.done.push(open);
    }

    fn end(&mut self, kind: &str, event: &Value) {
        let response = &event["response"];
        assert_eq!(response["id"], self.id, "{event}");
        // There is no event for a cancelled response.
        let is_cancelled = kind == "response.failed" && response["status"] == "cancelled";
        let status = kind.strip_prefix("response.");
        let status = status.filter(|_| !is_cancelled).unwrap_or("cancelled");
        assert_eq!(response["status"], status, "{event}");
        let mut output = std::mem::take(&mut self.done);
        if kind == "response.failed" {
            let has_error = !is_cancelled;
            let error = &response["error"];
            assert_eq!(error["code"].is_string(), has_error, "{event}");
            assert_eq!(error["message"].is_string(), has_error, "{event}");
            // The open item stays in the output, as far as it has arrived.
            output.extend(self.open.take().map(|mut open| {
                open["status"] = json!("incomplete");
                open
            }));
        } else {
            assert!(self.open.is_none(), "an item that is never done: {event}");
            assert_eq!(response["error"], Value::Null);
        }
        let why = &response["incomplete_details"]["reason"];
        assert_eq!(why.is_string(), kind == "response.incomplete", "{event}");
        assert_eq!(response["output"], json!(output), "{event}");
        self.end = response.clone();
    }
}

fn index_of(list: &str) -> &'static str {
    if list == "summary" {
        "summary_index"
    } else {
        "content_index"
    }
}
