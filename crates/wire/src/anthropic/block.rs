//! The messages of a request and their blocks.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use crate::JsonText;
use crate::object::object;

object! {
    /// A message of a request.
    pub struct InputMessage {
        /// `user`, `assistant` or `system`.
        required role: String = "role",
        /// A text or a list of blocks.
        optional content: Content = "content",
        /// `next_user_message`: a system message is ignored after the next message of the user.
        optional clear_at: String = "clear_at",
        /// For a system message: the effort from this message on.
        free output_config: Value = "output_config",
    }
}

/// A string, or a list of blocks.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A text.
    Text(String),
    /// A list of blocks.
    Blocks(Vec<Block>),
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of content blocks")
            }
            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = items.next_element()? {
                    blocks.push(block);
                }
                Ok(Content::Blocks(blocks))
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Blocks(blocks) => blocks.serialize(serializer),
        }
    }
}

object! {
    /// A block of a request, of any type.
    pub struct Block {
        /// `text`, `image`, `document`, `tool_use`, `tool_result`, `thinking`, …
        required kind: String = "type",
        /// The text of `text`.
        optional text: String = "text",
        /// The reasoning of `thinking`.
        optional thinking: String = "thinking",
        /// The signature of `thinking`.
        optional signature: String = "signature",
        /// The encrypted reasoning of `redacted_thinking`.
        optional data: String = "data",
        /// For `image` and `document`: an object with the data. For `search_result`: the address.
        free source: Value = "source",
        /// The content of `tool_result`, `search_result` and of the results of server tools.
        free content: Value = "content",
        /// The title of `document` and `search_result`.
        optional title: String = "title",
        /// Further information about a `document`.
        optional context: String = "context",
        /// The id of `tool_use`.
        optional id: String = "id",
        /// The tool of `tool_use`.
        optional name: String = "name",
        /// The input of `tool_use`.
        optional input: JsonText = "input",
        /// The call that a `tool_result` answers.
        optional tool_use_id: String = "tool_use_id",
        /// Whether the call failed.
        optional is_error: bool = "is_error",
        /// The name of the tool of `tool_reference`.
        optional tool_name: String = "tool_name",
        /// The tool of `tool_addition` and `tool_removal`.
        free tool: Value = "tool",
        /// Marks the block for the prompt cache.
        free cache_control: Value = "cache_control",
        /// In an answer: the sources. In a document: whether to cite it.
        free citations: Value = "citations",
    }
}

impl Block {
    /// Creates a block of text.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self {
            kind: "text".to_owned(),
            text: Some(text.into()),
            thinking: None,
            signature: None,
            data: None,
            source: None,
            content: None,
            title: None,
            context: None,
            id: None,
            name: None,
            input: None,
            tool_use_id: None,
            is_error: None,
            tool_name: None,
            tool: None,
            cache_control: None,
            citations: None,
            extra: crate::Extra::new(),
        }
    }
}
