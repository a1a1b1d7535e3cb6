//! How a call is written in each family's syntax, for a grammar that lets nothing but calls through; and where reasoning and answer
//! begin, for one that leaves the reasoning alone.
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
    pub(crate) const BARE: Self = Self {
        head: "",
        open: "{\"name\": \"",
        middle: "\", \"arguments\": ",
        close: "}",
        between: None,
        tail: "",
        quoted: true,
    };

    const HERMES: Self =
        Self { open: "<tool_call>\n{\"name\": \"", close: "}\n</tool_call>", between: Some("\n"), ..Self::BARE };
    const LLAMA: Self = Self { middle: "\", \"parameters\": ", ..Self::BARE };
    const MISTRAL_LIST: Self = Self { head: "[TOOL_CALLS][", between: Some(", "), tail: "]", ..Self::BARE };
    const MISTRAL: Self =
        Self { open: "[TOOL_CALLS]", middle: "[ARGS]", close: "", between: Some(""), quoted: false, ..Self::BARE };
    const FENCE: Self =
        Self { open: "```tool_code\n{\"name\": \"", close: "}\n```", between: Some("\n"), ..Self::BARE };
    const PHI: Self = Self { head: "<|tool_call|>[", between: Some(", "), tail: "]<|/tool_call|>", ..Self::BARE };
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

    /// Calls as text: of each its name, and its arguments as JSON. Where there can only be one, each further one has a line of its own.
    pub(crate) fn write<'a>(&self, calls: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut text = self.head.to_owned();
        for (at, (name, arguments)) in calls.into_iter().enumerate() {
            let between = if at == 0 { "" } else { self.between.unwrap_or("\n") };
            let name = if self.quoted { serde_json::Value::from(name).to_string() } else { name.to_owned() };
            let name = if self.quoted { &name[1..name.len() - 1] } else { &name };
            text.extend([between, self.open, name, self.middle, arguments, self.close]);
        }
        text.push_str(self.tail);
        text
    }

    /// The form that a template shows.
    pub(super) fn of(family: Family, has: impl Fn(&str) -> bool) -> Self {
        match family {
            Family::Hermes => Self::HERMES,
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

/// The marker at which a call begins, where nothing else begins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// The marker.
    pub(crate) mark: &'static str,
    /// What else the family's readers take for the beginning of a call.
    pub(crate) others: &'static [&'static str],
}

impl Syntax {
    /// The same syntax for a model whose template knows nothing of tools: a call is an object that is all there is.
    pub(crate) fn with_bare_calls(self) -> Self {
        Self { calls: Some(Family::Other), form: CallForm::BARE, ..self }
    }

    /// How a call is written: bare where the template knows nothing of tools.
    pub(crate) fn form(&self) -> CallForm {
        self.form
    }

    /// The tags around reasoning.
    pub(crate) fn reasoning(&self) -> Option<Tags> {
        const ANALYSIS: Tags = Tags { open: "<|channel|>analysis<|message|>", close: "<|end|>" };
        if self.headers { Some(ANALYSIS) } else { self.thinks }
    }

    /// What stands before every message, where it has to be written: Harmony's messages after the first begin with their author.
    pub(crate) fn author(&self) -> Option<&'static str> {
        self.headers.then_some("<|start|>assistant")
    }

    /// What stands before the answer itself.
    pub(crate) fn answer_head(&self) -> &'static str {
        if self.headers { "<|channel|>final<|message|>" } else { "" }
    }

    /// How the beginning of a call shows. None where an object that is all there is may be one, or a header says it.
    pub(crate) fn trigger(&self) -> Option<Trigger> {
        let trigger = |mark, others| Some(Trigger { mark, others });
        match self.calls? {
            Family::Hermes => trigger("<tool_call>", &["<function="]),
            Family::Mistral => trigger("[TOOL_CALLS]", &[]),
            Family::Fence => trigger("```tool_code", &["```tool_call"]),
            Family::Phi => trigger("<|tool_call|>", &["functools["]),
            Family::DeepSeek => trigger("<｜tool▁calls▁begin｜>", &["<｜tool▁call▁begin｜>"]),
            Family::Llama | Family::Harmony | Family::Other => None,
        }
    }
}
