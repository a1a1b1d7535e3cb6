//! How a call is written in the syntax of each family, for prompts and for grammars that allow only
//! calls.
//!
//! `reader` parses text in this form as a call; `grammar/tests/calls.rs` verifies that for each
//! family.

use super::family::Family;

/// The form of a call in its family's syntax: the text around the function's name and around its
/// arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallForm {
    /// The text before the first call.
    pub(crate) head: &'static str,
    /// The text before the name.
    pub(crate) open: &'static str,
    /// The text between the name and the arguments.
    pub(crate) middle: &'static str,
    /// The text after the arguments.
    pub(crate) close: &'static str,
    /// The text between two calls; `None` if there can only be one.
    pub(crate) between: Option<&'static str>,
    /// The text after the last call.
    pub(crate) tail: &'static str,
    /// Whether the name is inside a JSON string.
    pub(crate) quoted: bool,
}

impl CallForm {
    /// The form of a call that is a JSON object and the whole answer.
    const BARE: Self = Self {
        head: "",
        open: "{\"name\": \"",
        middle: "\", \"arguments\": ",
        close: "}",
        between: None,
        tail: "",
        quoted: true,
    };

    const HERMES: Self = Self {
        open: "<tool_call>\n{\"name\": \"",
        close: "}\n</tool_call>",
        between: Some("\n"),
        ..Self::BARE
    };
    /// The form for a model whose template does not support tools. The prompt describes this form
    /// (`loggia_backend::tool_calls`).
    const DESCRIBED: Self = Self {
        head: "<tool_call>",
        close: "}</tool_call>",
        between: Some("<tool_call>"),
        ..Self::BARE
    };
    const LLAMA: Self = Self {
        middle: "\", \"parameters\": ",
        ..Self::BARE
    };
    const MISTRAL_LIST: Self = Self {
        head: "[TOOL_CALLS][",
        between: Some(", "),
        tail: "]",
        ..Self::BARE
    };
    const MISTRAL: Self = Self {
        open: "[TOOL_CALLS]",
        middle: "[ARGS]",
        close: "",
        between: Some(""),
        quoted: false,
        ..Self::BARE
    };
    const FENCE: Self = Self {
        open: "```tool_code\n{\"name\": \"",
        close: "}\n```",
        between: Some("\n"),
        ..Self::BARE
    };
    const PHI: Self = Self {
        head: "<|tool_call|>[",
        between: Some(", "),
        tail: "]<|/tool_call|>",
        ..Self::BARE
    };
    const DEEPSEEK: Self = Self {
        head: "<｜tool▁calls▁begin｜>",
        open: "<｜tool▁call▁begin｜>",
        middle: "<｜tool▁sep｜>",
        close: "<｜tool▁call▁end｜>",
        between: Some(""),
        tail: "<｜tool▁calls▁end｜>",
        quoted: false,
    };
    const DEEPSEEK_FENCED: Self = Self {
        open: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        middle: "\n```json\n",
        close: "\n```<｜tool▁call▁end｜>",
        between: Some("\n"),
        ..Self::DEEPSEEK
    };
    const HARMONY: Self = Self {
        open: "<|channel|>commentary to=functions.",
        middle: " <|constrain|>json<|message|>",
        close: "",
        quoted: false,
        ..Self::BARE
    };

    /// Writes calls as text, each with its name and its arguments (JSON). If the form allows only
    /// one call, each further call is on its own line.
    pub(crate) fn write<'a>(&self, calls: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut text = self.head.to_owned();
        for (at, (name, arguments)) in calls.into_iter().enumerate() {
            let between = if at == 0 {
                ""
            } else {
                self.between.unwrap_or("\n")
            };
            let name = if self.quoted {
                serde_json::Value::from(name).to_string()
            } else {
                name.to_owned()
            };
            let name = if self.quoted {
                &name[1..name.len() - 1]
            } else {
                &name
            };
            text.extend([between, self.open, name, self.middle, arguments, self.close]);
        }
        text.push_str(self.tail);
        text
    }

    /// The key under which the object has the arguments, if a call is an object and the whole
    /// answer.
    pub(crate) fn object_key(&self) -> Option<&'static str> {
        let is_bare = self.head.is_empty() && self.open.starts_with('{');
        self.middle.split('"').nth(2).filter(|_| is_bare)
    }

    /// Chooses the form by the family and by texts in the template.
    pub(super) fn of(family: Family, has: impl Fn(&str) -> bool) -> Self {
        match family {
            Family::Hermes => Self::HERMES,
            Family::Described => Self::DESCRIBED,
            Family::Llama => Self::LLAMA,
            Family::Mistral if has("[ARGS]") => Self::MISTRAL,
            Family::Mistral => Self::MISTRAL_LIST,
            Family::Fence => Self::FENCE,
            Family::Phi => Self::PHI,
            Family::DeepSeek if has("```json") => Self::DEEPSEEK_FENCED,
            Family::DeepSeek => Self::DEEPSEEK,
            Family::Harmony => Self::HARMONY,
            Family::Other => Self::BARE,
        }
    }
}
