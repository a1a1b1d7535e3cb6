//! An item of the input: a message, a tool call, the output of a tool call, or reasoning.

use serde_json::Value;

use crate::object::object;

object! {
    /// An item of any type, as clients send it. Its type decides which fields it has. A field whose
    /// shape differs between types is unparsed JSON here.
    pub struct Item {
        /// `message`, `function_call`, `reasoning`, … Clients may leave it out of a message.
        optional kind: String = "type",
        /// The id of the item.
        optional id: String = "id",
        /// The author of a message: `user`, `assistant`, `system` or `developer`.
        optional role: String = "role",
        /// The content of a message (a string or parts), or the raw text of reasoning.
        free content: Value = "content",
        /// The id that a tool call and its output share.
        optional call_id: String = "call_id",
        /// The name of the called tool.
        optional name: String = "name",
        /// The namespace of the called tool.
        optional namespace: String = "namespace",
        /// The arguments of a function (JSON in a string) or of a tool search (JSON).
        free arguments: Value = "arguments",
        /// The input of a custom tool.
        free input: Value = "input",
        /// The output of a tool call: a string, parts, or an object of its type.
        free output: Value = "output",
        /// The commands for a shell.
        free action: Value = "action",
        /// The operation of a patch.
        free operation: Value = "operation",
        /// The summaries of reasoning.
        free summary: Value = "summary",
        /// Reasoning that only the server that wrote it can read.
        optional encrypted_content: String = "encrypted_content",
        /// The tools that a tool search found, or that are added during the conversation.
        free tools: Value = "tools",
        /// `reasoning` of an item that changes the configuration.
        free reasoning: Value = "reasoning",
        /// `text` of an item that changes the configuration.
        free text: Value = "text",
        /// `in_progress`, `completed`, `incomplete` or `failed`.
        optional status: String = "status",
        /// Whether the output of the call may come later than in the next request.
        optional is_async: bool = "async",
    }
}

object! {
    /// A part of a message or of the output of a tool call.
    pub struct ItemPart {
        /// `input_text`, `output_text`, `input_image`, `input_file`, `input_audio`, `refusal`, …
        required kind: String = "type",
        /// The text.
        optional text: String = "text",
        /// The text of an earlier refusal by the model.
        optional refusal: String = "refusal",
        /// An image, as a `data:` or http(s) URL.
        optional image_url: String = "image_url",
        /// The resolution of an image: `auto`, `low`, `high` or `original`.
        optional detail: String = "detail",
        /// The id of a stored file.
        optional file_id: String = "file_id",
        /// The URL of a file.
        optional file_url: String = "file_url",
        /// The content of a file, in base64 or as a `data:` URL.
        optional file_data: String = "file_data",
        /// The name of a file.
        optional filename: String = "filename",
        /// Audio.
        optional input_audio: AudioData = "input_audio",
    }
}

object! {
    /// `input_audio` of a part.
    pub struct AudioData {
        /// The audio, in base64.
        required data: String = "data",
        /// `wav` or `mp3`.
        required format: String = "format",
    }
}
