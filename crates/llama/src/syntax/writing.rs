//! How a call is written in each family's syntax, for a grammar that lets nothing but calls
//! through; and where reasoning and answer begin, for one that leaves the reasoning alone.
//!
//! What is written so, `reader` reads as a call: `tests/written.rs` holds that for each family.

use super::family::{Family, Syntax, Tags};

/// A call in its family's syntax: text around the function's name and around its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallForm {
    /// Before the first call.
    pub(crate) head: &'static str,
    /// Before the name.
    pub(crate) open: &'static str,
    /// Between the name and the arguments.
    pub(crate) middle: &'static str,
    /// After the arguments.
    pub(crate) close: &'static str,
    /// Between two calls; none where there can only be one.
    pub(crate) between: Option<&'static str>,
    /// After the last call.
    pub(crate) tail: &'static str,
    /// Whether the name stands in a string of JSON.
    pub(crate) quoted: bool,
}

impl CallForm {
    /// An object that is all there is.
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
    /// As a model is told to write it whose template knows nothing of tools:
    /// `loggia_backend::emulate`.
    const TOLD: Self = Self {
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

    /// Calls as text: of each its name, and its arguments as JSON. Where there can only be one,
    /// each further one has a line of its own.
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

    /// The key of the arguments, where a call is an object and all there is.
    pub(crate) fn object_key(&self) -> Option<&'static str> {
        let is_bare = self.head.is_empty() && self.open.starts_with('{');
        self.middle.split('"').nth(2).filter(|_| is_bare)
    }

    /// The form that a template shows.
    pub(super) fn of(family: Family, has: impl Fn(&str) -> bool) -> Self {
        match family {
            Family::Hermes => Self::HERMES,
            Family::Told => Self::TOLD,
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

/// How calls that may be made or left are held to their schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// From the marker on with which a call begins.
    Mark(Trigger),
    /// From the answer's first token on: a header, or how the answer begins, says what is a call.
    Whole,
}

/// The marker at which a call begins, where nothing else begins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// The marker.
    pub(crate) mark: &'static str,
    /// What else the family's readers take for the beginning of a call.
    pub(crate) others: &'static [&'static str],
    /// Whether the answer ends with the calls: a model that was not trained to wait for their
    /// results would make some up.
    pub(crate) ends: bool,
}

impl Syntax {
    /// The same syntax for a model whose template knows nothing of tools, and who is told of some.
    pub(crate) fn told_of_tools(self) -> Self {
        Self {
            calls: Some(Family::Told),
            ..self
        }
    }

    /// Whether the model is told of tools in the system message.
    pub(crate) fn is_told_of_tools(&self) -> bool {
        self.calls == Some(Family::Told)
    }

    /// The same syntax for an answer that is held as [`Watch`] says.
    pub(crate) fn watched(self) -> Self {
        Self {
            name_first: self.calls == Some(Family::Llama) && self.watch() == Some(Watch::Whole),
            ..self
        }
    }

    /// How a call is written: as the model is told to, where its template knows nothing of tools.
    pub(crate) fn form(&self) -> CallForm {
        self.form
    }

    /// The tags around reasoning.
    pub(crate) fn reasoning(&self) -> Option<Tags> {
        const ANALYSIS: Tags = Tags {
            open: "<|channel|>analysis<|message|>",
            close: "<|end|>",
        };
        if self.headers {
            Some(ANALYSIS)
        } else {
            self.thinks
        }
    }

    /// What stands before every message, where it has to be written: Harmony's messages after the
    /// first begin with their author.
    pub(crate) fn author(&self) -> Option<&'static str> {
        self.headers.then_some("<|start|>assistant")
    }

    /// What stands before the answer itself.
    pub(crate) fn answer_head(&self) -> &'static str {
        if self.headers {
            "<|channel|>final<|message|>"
        } else {
            ""
        }
    }

    /// How calls that may be made or left are held. None where nothing tells them from text for
    /// sure.
    pub(crate) fn watch(&self) -> Option<Watch> {
        let at = |mark, others| {
            Some(Watch::Mark(Trigger {
                mark,
                others,
                ends: false,
            }))
        };
        match self.calls? {
            Family::Hermes => at("<tool_call>", &["<function="]),
            Family::Mistral => at("[TOOL_CALLS]", &[]),
            Family::Fence => at("```tool_code", &["```tool_call"]),
            Family::Phi => at("<|tool_call|>", &["functools["]),
            Family::DeepSeek => at("<｜tool▁calls▁begin｜>", &["<｜tool▁call▁begin｜>"]),
            Family::Told => Some(Watch::Mark(Trigger {
                mark: "<tool_call>",
                others: &[],
                ends: true,
            })),
            Family::Llama | Family::Harmony => self.marks_are_tokens.then_some(Watch::Whole),
            Family::Other => None,
        }
    }
}
