//! The properties of a syntax that a grammar needs: how calls are written, and where reasoning,
//! calls and the answer begin.

use super::call_form::CallForm;
use super::family::Family;
use super::recognize::{Syntax, Tags};

/// The point from which a grammar constrains calls to their schemas, if the model may also answer
/// with text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// From the marker that begins a call.
    Mark(Trigger),
    /// From the first token of the answer, if a header or the beginning of the answer distinguishes
    /// calls from text.
    Whole,
}

/// The marker that begins every call of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// The marker's text.
    pub(crate) mark: &'static str,
    /// Other texts that the parser accepts as the beginning of a call.
    pub(crate) others: &'static [&'static str],
    /// Whether the answer ends with the calls. A model that was not trained to wait for the results
    /// of its calls would invent some.
    pub(crate) ends: bool,
}

impl Syntax {
    /// The syntax for a model whose template does not support tools, so that the prompt describes
    /// them.
    pub(crate) fn with_described_tools(self) -> Self {
        Self {
            calls: Some(Family::Described),
            ..self
        }
    }

    /// Whether the system message describes the tools.
    pub(crate) fn has_described_tools(&self) -> bool {
        self.calls == Some(Family::Described)
    }

    /// The syntax for an answer whose calls are constrained from the point that [`Watch`] states.
    pub(crate) fn watched(self) -> Self {
        Self {
            name_first: self.calls == Some(Family::Llama) && self.watch() == Some(Watch::Whole),
            ..self
        }
    }

    /// The form in which the model writes a call. If the template does not support tools, the
    /// prompt describes this form.
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
            self.reasoning_tags
        }
    }

    /// The text before every message after the first, if the syntax needs one: in Harmony, these
    /// messages begin with their author.
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

    /// The point from which calls are constrained. `None` if calls cannot be distinguished from
    /// text with certainty.
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
            Family::Described => Some(Watch::Mark(Trigger {
                mark: "<tool_call>",
                others: &[],
                ends: true,
            })),
            Family::Llama | Family::Harmony => self.marks_are_tokens.then_some(Watch::Whole),
            Family::Other => None,
        }
    }
}
