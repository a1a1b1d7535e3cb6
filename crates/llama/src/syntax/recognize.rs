//! Recognizes the syntax in which a model writes calls and reasoning, by its chat template and its
//! vocabulary.

use super::call_form::CallForm;
use super::family::{Family, HEADER_END, HEADERS, MESSAGE_ENDS};

/// The syntax in which a model writes calls and reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syntax {
    /// The family. `None` if the template does not mention tools.
    pub(super) calls: Option<Family>,
    pub(super) reasoning_tags: Option<Tags>,
    /// Whether a message begins with a header, as in Harmony.
    pub(super) headers: bool,
    /// The form in which calls are written.
    pub(super) form: CallForm,
    pub(super) effort: Effort,
    /// Whether the markers are special tokens, which no ordinary text can produce.
    pub(super) marks_are_tokens: bool,
    /// Whether an object that is the whole answer is a call only if it begins with its name. A
    /// grammar then allows no other object as a call.
    pub(super) name_first: bool,
}

/// How far a client can control reasoning with this template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Effort {
    /// Whether the template can turn reasoning on and off.
    is_switch: bool,
    /// Whether the template accepts an amount of reasoning.
    is_level: bool,
}

/// The tags before and after reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tags {
    pub(crate) open: &'static str,
    pub(crate) close: &'static str,
}

const THINK: Tags = Tags {
    open: "<think>",
    close: "</think>",
};
const THINK_MISTRAL: Tags = Tags {
    open: "[THINK]",
    close: "[/THINK]",
};

/// The beginning of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    Text,
    /// The answer begins with reasoning, because the prompt has already opened it.
    Reasoning,
}

impl Syntax {
    /// Recognizes the syntax by a chat template. `is_token` reports whether a text is a single
    /// token of the model: some templates do not contain the reasoning tags, but the vocabulary
    /// does.
    pub(crate) fn of(template: &str, is_token: impl Fn(&str) -> bool) -> Self {
        let has = |mark: &str| template.contains(mark);
        let headers = has("<|channel|>") && has("<|message|>");
        let reasoning_tags = if headers {
            None
        } else if has("[THINK]") {
            Some(THINK_MISTRAL)
        } else {
            (has("<think>") || has("</think>") || is_token("<think>")).then_some(THINK)
        };
        // `tools` is the variable with which a template shows tools to the model. `tool_calls` is
        // no evidence: a template may contain it only because it was copied from another.
        let calls = has("tools").then(|| Family::of(has, headers));
        let effort = Effort {
            is_switch: has("enable_thinking") || has("if thinking") || has("thinking is"),
            is_level: has("reasoning_effort"),
        };
        let form = CallForm::of(calls.unwrap_or(Family::Described), has);
        let marks_are_tokens = match calls {
            Some(Family::Harmony) => ["<|start|>", "<|channel|>", "<|message|>", "<|end|>"]
                .into_iter()
                .all(is_token),
            Some(Family::Llama) => is_token("<|python_tag|>"),
            _ => false,
        };
        Self {
            calls,
            reasoning_tags,
            headers,
            form,
            effort,
            marks_are_tokens,
            name_first: false,
        }
    }

    /// The syntax for a model whose template mentions tools but, as a trial shows, prints none.
    pub(crate) fn without_tools(self) -> Self {
        let form = CallForm::of(Family::Described, |_| false);
        Self {
            calls: None,
            form,
            marks_are_tokens: false,
            ..self
        }
    }

    /// The syntax of plain text, in which nothing is reasoning or a call.
    pub(crate) fn of_text() -> Self {
        Self::of("", |_| false)
    }

    /// Whether the template supports tools.
    pub(crate) fn knows_tools(&self) -> bool {
        self.calls.is_some()
    }

    /// Whether reasoning is separated from the answer.
    pub(crate) fn reasons(&self) -> bool {
        self.headers || self.reasoning_tags.is_some()
    }

    /// Whether a client can control reasoning: turn it on and off, or choose its amount.
    pub(crate) fn accepts_effort(&self) -> bool {
        self.effort.is_switch || self.effort.is_level
    }

    /// Whether reasoning can be turned off.
    pub(crate) fn can_disable_reasoning(&self) -> bool {
        self.effort.is_switch
    }

    /// Returns the beginning of an answer to this prompt. Some templates open the reasoning
    /// themselves.
    pub(crate) fn begins_after(&self, prompt: &str) -> Begins {
        match self.reasoning_tags {
            Some(tags) if prompt.trim_end().ends_with(tags.open) => Begins::Reasoning,
            _ => Begins::Text,
        }
    }

    /// All markers of the syntax. If one is a control token of the model, its text must be part of
    /// the output that is parsed.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &'static str> + use<> {
        let reasoning_tags = self
            .reasoning_tags
            .into_iter()
            .flat_map(|tags| [tags.open, tags.close]);
        let forms = self.calls.unwrap_or(Family::Described).forms();
        let calls = forms
            .iter()
            .flat_map(|form| form.tail.iter().copied().chain([form.mark]));
        let inside: &[&str] = match self.calls {
            Some(Family::Mistral) => &["[ARGS]", "[CALL_ID]"],
            Some(Family::DeepSeek) => &["<｜tool▁sep｜>"],
            _ => &[],
        };
        let headers = self.headers.then(|| {
            HEADERS
                .into_iter()
                .chain(MESSAGE_ENDS)
                .chain([HEADER_END, "<|constrain|>"])
        });
        reasoning_tags
            .chain(calls)
            .chain(inside.iter().copied())
            .chain(headers.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(template: &str) -> Syntax {
        Syntax::of(template, |_| false)
    }

    #[test]
    fn a_template_shows_its_family() {
        let families = [
            ("{% if tools %}<tool_call>{% endif %}", Family::Hermes),
            ("{% if tools %}<function=x>{% endif %}", Family::Hermes),
            ("{% if tools %}<|start_header_id|>", Family::Llama),
            (
                "{% if tools %}[AVAILABLE_TOOLS][TOOL_CALLS]",
                Family::Mistral,
            ),
            ("{% if tools %}```tool_code", Family::Fence),
            ("{{ '<|tool|>' + message['tools'] }}", Family::Phi),
            ("{% if tools %}<｜tool▁calls▁begin｜>", Family::DeepSeek),
            (
                "{% if tools %}<|start|><|channel|><|message|>",
                Family::Harmony,
            ),
            ("{{ tools }}", Family::Other),
        ];
        for (template, family) in families {
            assert_eq!(of(template).calls, Some(family), "{template}");
        }
        assert_eq!(of("{{ message.content }}").calls, None);
        assert_eq!(of("{% if 'tool_calls' in message %}").calls, None);
    }

    #[test]
    fn reasoning_shows_in_the_template_or_in_the_vocabulary() {
        assert_eq!(
            of("{{ content.split('</think>')[-1] }}").reasoning_tags,
            Some(THINK)
        );
        assert_eq!(of("[THINK]").reasoning_tags, Some(THINK_MISTRAL));
        assert_eq!(
            Syntax::of("", |token| token == "<think>").reasoning_tags,
            Some(THINK)
        );
        assert!(!of("plain").reasons());
        assert!(of("<|channel|>analysis<|message|>").reasons());
    }

    #[test]
    fn a_prompt_may_open_the_reasoning_itself() {
        let syntax = of("<think>");
        assert_eq!(
            syntax.begins_after("<|im_start|>assistant\n<think>\n"),
            Begins::Reasoning
        );
        assert_eq!(
            syntax.begins_after("<|im_start|>assistant\n<think>\n\n</think>\n\n"),
            Begins::Text
        );
        assert_eq!(syntax.begins_after("<|im_start|>assistant\n"), Begins::Text);
    }

    #[test]
    fn the_markers_are_listed() {
        assert!(
            of("tools [TOOL_CALLS]")
                .marks()
                .any(|mark| mark == "[ARGS]")
        );
        assert_eq!(
            of("<think>").marks().collect::<Vec<_>>(),
            ["<think>", "</think>", "}", "</tool_call>", "<tool_call>"]
        );
    }
}
