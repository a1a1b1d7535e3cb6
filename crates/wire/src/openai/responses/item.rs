//! An item of the input: a message, a call, the output of one, reasoning.

use serde_json::Value;

use crate::object::object;

object! {
    /// An item of any type, as clients send it. Which fields it has depends on the type; those that
    /// have another shape in another type are JSON here.
    pub struct Item {
        /// `message`, `function_call`, `reasoning`, …; messages come without one too.
        optional kind: String = "type",
        /// The client's or the server's id of it.
        optional id: String = "id",
        /// Who speaks, in a message: `user`, `assistant`, `system` or `developer`.
        optional role: String = "role",
        /// Of a message a text or parts, of reasoning its raw text.
        free content: Value = "content",
        /// Which call this is, or is the output of.
        optional call_id: String = "call_id",
        /// The tool that is called.
        optional name: String = "name",
        /// The namespace of the tool.
        optional namespace: String = "namespace",
        /// What a function is called with: JSON as a text; of a tool search, JSON itself.
        free arguments: Value = "arguments",
        /// What a custom tool is called with.
        free input: Value = "input",
        /// What a call gave: a text, parts, or what its type has.
        free output: Value = "output",
        /// What a shell is to do.
        free action: Value = "action",
        /// What a patch is to do.
        free operation: Value = "operation",
        /// Summaries of reasoning.
        free summary: Value = "summary",
        /// Reasoning that only its author can read.
        optional encrypted_content: String = "encrypted_content",
        /// Tools that a search found, or that are added under way.
        free tools: Value = "tools",
        /// Of a change of the configuration.
        free reasoning: Value = "reasoning",
        /// Of a change of the configuration.
        free text: Value = "text",
        /// `in_progress`, `completed`, `incomplete`, `failed`.
        optional status: String = "status",
        /// Whether the output of a call may come later than in the next request.
        optional is_async: bool = "async",
    }
}

object! {
    /// One part of a message, or of the output of a call.
    pub struct ItemPart {
        /// `input_text`, `output_text`, `input_image`, `input_file`, `input_audio`, `refusal`, …
        required kind: String = "type",
        /// The text.
        optional text: String = "text",
        /// What the assistant refused to say.
        optional refusal: String = "refusal",
        /// A `data:` or http(s) URL.
        optional image_url: String = "image_url",
        /// How closely to look at an image: `auto`, `low`, `high`, `original`.
        optional detail: String = "detail",
        /// The id of a file that is stored.
        optional file_id: String = "file_id",
        /// Where a file is.
        optional file_url: String = "file_url",
        /// Base64, or a `data:` URL.
        optional file_data: String = "file_data",
        /// The name of a file.
        optional filename: String = "filename",
        /// Sound.
        optional input_audio: AudioData = "input_audio",
    }
}

object! {
    /// `input_audio` of a part.
    pub struct AudioData {
        /// Base64.
        required data: String = "data",
        /// `wav` or `mp3`.
        required format: String = "format",
    }
}
