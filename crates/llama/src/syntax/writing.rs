//! How a call is written in the syntax of each family, for a grammar that allows only calls; and
//! where reasoning and answer begin, for a grammar that leaves the reasoning unconstrained.
//!
//! `reader` parses text in this form as a call; `grammar/tests/calls.rs` verifies that for each
//! family.

use super::family::{Family, Syntax, Tags};

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
    /// An object that is the whole answer.
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
    /// The form for a model whose template does not support tools, as its prompt describes it:
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

    /// Writes calls as text, each with its name and its arguments as JSON. If the form allows only
    /// one call, each further one is on its own line.
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

    /// The key of the arguments, if a call is an object and the whole answer.
    pub(crate) fn object_key(&self) -> Option<&'static str> {
        let is_bare = self.head.is_empty() && self.open.starts_with('{');
        self.middle.split('"').nth(2).filter(|_| is_bare)
    }

    /// The form of calls in a template.
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

/// How optional calls are constrained to their schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// From the marker that begins a call.
    Mark(Trigger),
    /// From the first token of the answer: a header, or the beginning of the answer, distinguishes
    /// calls from text.
    Whole,
}

/// The marker that begins a call, if nothing else can begin one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// The marker's text.
    pub(crate) mark: &'static str,
    /// Other texts that the family's parser accepts as the beginning of a call.
    pub(crate) others: &'static [&'static str],
    /// Whether the answer ends with the calls: a model that was not trained to wait for their
    /// results would invent some.
    pub(crate) ends: bool,
}

impl Syntax {
    /// The syntax for a model whose template does not support tools, and whose prompt describes
    /// them.
    pub(crate) fn told_of_tools(self) -> Self {
        Self {
            calls: Some(Family::Told),
            ..self
        }
    }

    /// Whether the system message describes the tools.
    pub(crate) fn is_told_of_tools(&self) -> bool {
        self.calls == Some(Family::Told)
    }

    /// The syntax for an answer that is constrained as [`Watch`] says.
    pub(crate) fn watched(self) -> Self {
        Self {
            name_first: self.calls == Some(Family::Llama) && self.watch() == Some(Watch::Whole),
            ..self
        }
    }

    /// How a call is written, or how the prompt tells the model to write it if the template does
    /// not support tools.
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

    /// The text before every message, if it has to be written: in Harmony, messages after the first
    /// begin with their author.
    pub(crate) fn author(&self) -> Option<&'static str> {
        self.headers.then_some("<|start|>assistant")
    }

    /// The text before the final answer.
    pub(crate) fn answer_head(&self) -> &'static str {
        if self.headers {
            "<|channel|>final<|message|>"
        } else {
            ""
        }
    }

    /// How optional calls are constrained. `None` if they cannot be distinguished from text with
    /// certainty.
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
