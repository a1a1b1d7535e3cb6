//! The rules of every stream of a message: order, numbers, nesting, one end.

use serde_json::{Value, json};

use crate::responses::state_machine::events;

/// Returns the message that a stream adds up to, as the official SDKs do.
///
/// # Panics
/// Panics if the stream breaks a rule.
pub(crate) fn checked(stream: &str) -> Value {
    let events = events(stream);
    let mut seen = Seen::default();
    for (number, event) in events.iter().enumerate() {
        assert!(!seen.has_ended, "after the end: {event}");
        seen.event(number, event);
    }
    assert!(seen.has_ended, "no end: {stream}");
    seen.message
}

#[derive(Default)]
struct Seen {
    message: Value,
    /// The number of blocks that have ended.
    done: usize,
    /// The block that has begun and not ended.
    open: Option<Value>,
    /// The received part of the input of a call.
    input: String,
    has_signature: bool,
    has_stopped: bool,
    has_ended: bool,
}

impl Seen {
    fn event(&mut self, number: usize, event: &Value) {
        let kind = event["type"].as_str().expect("a type");
        assert_eq!(number == 0, kind == "message_start", "{event}");
        match kind {
            "message_start" => self.start(&event["message"]),
            "content_block_start" => self.block_start(event),
            "ping" => assert_eq!(event, &json!({"type": "ping"})),
            "content_block_delta" => self.delta(event),
            "content_block_stop" => self.block_stop(event),
            "message_delta" => self.message_delta(event),
            "message_stop" => {
                assert!(self.has_stopped, "before message_delta");
                assert_eq!(event, &json!({"type": "message_stop"}));
                self.has_ended = true;
            }
            _ => panic!("an unknown event: {event}"),
        }
    }

    fn start(&mut self, message: &Value) {
        assert!(message["id"].as_str().expect("an id").starts_with("msg_"));
        assert_eq!(message["type"], "message");
        assert_eq!(message["role"], "assistant");
        assert_eq!(message["content"], json!([]));
        assert_eq!(message["stop_reason"], Value::Null);
        assert_eq!(message["stop_sequence"], Value::Null);
        assert!(message["usage"]["input_tokens"].is_number(), "{message}");
        assert!(message["usage"]["output_tokens"].is_number(), "{message}");
        self.message = message.clone();
    }

    fn block_start(&mut self, event: &Value) {
        assert!(!self.has_stopped, "after message_delta: {event}");
        assert!(self.open.is_none(), "before the last block ended: {event}");
        assert_eq!(event["index"], self.done, "{event}");
        let block = &event["content_block"];
        match block["type"].as_str().expect("a type") {
            "text" => assert_eq!(block, &json!({"type": "text", "text": ""})),
            "thinking" => {
                let empty = json!({"type": "thinking", "thinking": "", "signature": ""});
                assert_eq!(block, &empty);
            }
            "tool_use" => {
                assert!(!block["id"].as_str().expect("an id").is_empty());
                assert!(!block["name"].as_str().expect("a name").is_empty());
                assert_eq!(block["input"], json!({}));
            }
            "compaction" => {
                assert_eq!(block["content"], Value::Null);
                assert!(block["tool_changes"].is_array(), "{event}");
            }
            _ => panic!("an unknown block: {event}"),
        }
        self.input.clear();
        self.has_signature = false;
        self.open = Some(block.clone());
    }

    fn delta(&mut self, event: &Value) {
        assert_eq!(event["index"], self.done, "{event}");
        let delta = &event["delta"];
        let block = self.open.as_mut().expect("an open block");
        let of = |kind: &str| {
            assert_eq!(block["type"], kind, "{event}");
        };
        let add = |block: &mut Value, field: &str| {
            let new = delta[field].as_str().expect("a text");
            assert!(!new.is_empty(), "{event}");
            let all = block[field].as_str().expect("a text").to_owned() + new;
            block[field] = json!(all);
        };
        match delta["type"].as_str().expect("a type") {
            "text_delta" => {
                of("text");
                add(block, "text");
            }
            "thinking_delta" => {
                of("thinking");
                assert!(!self.has_signature, "after its signature: {event}");
                add(block, "thinking");
            }
            "signature_delta" => {
                of("thinking");
                assert!(!self.has_signature, "a second signature: {event}");
                self.has_signature = true;
                block["signature"] = delta["signature"].clone();
            }
            "input_json_delta" => {
                of("tool_use");
                let new = delta["partial_json"].as_str().expect("a text");
                assert!(!new.is_empty(), "{event}");
                self.input.push_str(new);
            }
            "compaction_delta" => {
                of("compaction");
                assert_eq!(block["content"], Value::Null, "a second delta: {event}");
                block["content"] = delta["content"].clone();
                block["encrypted_content"] = delta["encrypted_content"].clone();
            }
            _ => panic!("an unknown delta: {event}"),
        }
    }

    fn block_stop(&mut self, event: &Value) {
        assert_eq!(event["index"], self.done, "{event}");
        let mut block = self.open.take().expect("an open block");
        if block["type"] == "thinking" {
            assert!(self.has_signature, "a thinking block without a signature");
        }
        if block["type"] == "tool_use" && !self.input.is_empty() {
            // A call that was cut ends in the middle of its input. The SDKs complete it.
            let input = loggia_backend::conversation::arguments::as_object(&self.input);
            block["input"] = serde_json::from_str(&input).expect("JSON");
        }
        self.message["content"]
            .as_array_mut()
            .expect("a list")
            .push(block);
        self.done += 1;
    }

    fn message_delta(&mut self, event: &Value) {
        assert!(self.open.is_none(), "before the last block ended: {event}");
        assert!(!self.has_stopped, "a second message_delta: {event}");
        self.has_stopped = true;
        let delta = event["delta"].as_object().expect("an object");
        assert!(delta["stop_reason"].is_string(), "{event}");
        let sequence = &delta["stop_sequence"];
        assert_eq!(
            sequence.is_string(),
            delta["stop_reason"] == "stop_sequence",
            "{event}"
        );
        for (key, value) in delta {
            self.message[key] = value.clone();
        }
        if let Some(edits) = event.get("context_management") {
            self.message["context_management"] = edits.clone();
        }
        assert!(event["usage"]["output_tokens"].is_number(), "{event}");
        for (key, value) in event["usage"].as_object().expect("an object") {
            self.message["usage"][key] = value.clone();
        }
    }
}
