//! The families of syntaxes in which models write calls, and the markers of each family.

use super::region::{Form, Head};

/// A family of models that write calls in the same syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Hermes, Qwen, `SmolLM`: an object between tags. Qwen3-Coder: tags inside tags.
    Hermes,
    /// Llama 3: the object is the whole answer, or follows a tag.
    Llama,
    /// Mistral: a list after a tag; in later versions a name and its arguments.
    Mistral,
    /// Gemma, with templates that others wrote for calls: an object in a code fence.
    Fence,
    /// Phi-4 and Granite: a list after a tag.
    Phi,
    /// `DeepSeek`: names and fenced arguments among many tags.
    DeepSeek,
    /// gpt-oss: a message to the function.
    Harmony,
    /// The template does not support tools. The system message describes the tools and how to call
    /// them.
    Described,
    /// The template mentions tools but has no known marker. The object is between tags, or is the
    /// whole answer.
    Other,
}

const HERMES: Form = Form::new("<tool_call>", Head::ObjectsOrTags, &["}", "</tool_call>"]);
const TAGS: Form = Form::new("<function=", Head::Tags, &["</tool_call>"]);
const DESCRIBED: Form =
    Form::new("<tool_call>", Head::Objects, &["}", "</tool_call>"]).of_offered();
const FENCE: Form = Form::new("```tool_code", Head::Objects, &["```"]);
const FENCE_CALL: Form = Form::new("```tool_call", Head::Objects, &["```"]);
const PYTHON_TAG: Form = Form::new("<|python_tag|>", Head::Objects, &[";", "<|eom_id|>"]);
const MISTRAL: Form = Form::new("[TOOL_CALLS]", Head::ObjectsOrName(mistral_name), &[]);
const PHI: Form = Form::new("<|tool_call|>", Head::Objects, &["<|/tool_call|>"]);
const PHI_FUNCTOOLS: Form = Form::new("functools[", Head::Objects, &[]).in_list();
const DEEPSEEK_TAIL: &[&str] = &["```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"];
const DEEPSEEK: Form = Form::new(
    "<｜tool▁calls▁begin｜>",
    Head::Name(deepseek_name),
    DEEPSEEK_TAIL,
);
const DEEPSEEK_NEXT: Form = Form::new(
    "<｜tool▁call▁begin｜>",
    Head::Name(deepseek_name),
    DEEPSEEK_TAIL,
);
/// An object that is the whole answer. It is a call only if its name is that of an offered
/// function.
pub(super) static BARE: Form = Form::new("", Head::Objects, &[";"]).of_offered();
/// An object that is the whole answer and begins with its name.
pub(super) static BARE_NAME_FIRST: Form = BARE.name_first();
/// The body of a message whose header names a function as its recipient.
pub(super) static MESSAGE: Form = Form::new("", Head::Objects, &[]);

/// The markers that begin a Harmony header, and those that end a message.
pub(super) const HEADERS: [&str; 2] = ["<|start|>", "<|channel|>"];
pub(super) const HEADER_END: &str = "<|message|>";
pub(super) const MESSAGE_ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|call|>"];

impl Family {
    /// Recognizes the family by a chat template that supports tools. `has` reports whether the
    /// template contains a text; `headers` reports whether its messages begin with headers.
    pub(super) fn of(has: impl Fn(&str) -> bool, headers: bool) -> Self {
        let marked = [
            (headers, Self::Harmony),
            (has("<｜tool▁call"), Self::DeepSeek),
            (has("[TOOL_CALLS]"), Self::Mistral),
            (has("<tool_call>") || has("<function="), Self::Hermes),
            (
                has("<|tool_call|>") || has("<|tool|>") || has("functools"),
                Self::Phi,
            ),
            (
                has("<|python_tag|>") || has("<|start_header_id|>"),
                Self::Llama,
            ),
            (
                has("```tool_code") || has("```tool_call") || has("tool_code"),
                Self::Fence,
            ),
        ];
        marked
            .into_iter()
            .find(|(is, _)| *is)
            .map_or(Self::Other, |(_, family)| family)
    }

    pub(super) fn forms(self) -> &'static [Form] {
        match self {
            Self::Hermes | Self::Other => const { &[HERMES, TAGS] },
            Self::Described => const { &[DESCRIBED] },
            Self::Llama => const { &[PYTHON_TAG] },
            Self::Mistral => const { &[MISTRAL] },
            Self::Fence => const { &[FENCE, FENCE_CALL] },
            Self::Phi => const { &[PHI, PHI_FUNCTOOLS] },
            Self::DeepSeek => const { &[DEEPSEEK, DEEPSEEK_NEXT] },
            Self::Harmony => &[],
        }
    }

    /// Whether an object that is the whole answer may be a call.
    pub(super) fn is_bare(self) -> bool {
        matches!(self, Self::Llama | Self::Other)
    }
}

/// Finds the name of the function in Mistral's headers: `NAME`, `NAME[ARGS]`,
/// `NAME[CALL_ID]ID[ARGS]`.
fn mistral_name(header: &str) -> Option<&str> {
    let (name, rest) = header.split_at(header.find('[').unwrap_or(header.len()));
    let known = rest.is_empty()
        || rest == "[ARGS]"
        || rest.starts_with("[CALL_ID]") && rest.ends_with("[ARGS]");
    known.then(|| name.trim())
}

/// Finds the name of the function in `DeepSeek`'s headers: ``function<｜tool▁sep｜>NAME\n```json\n``,
/// and in later versions `NAME<｜tool▁sep｜>`.
fn deepseek_name(header: &str) -> Option<&str> {
    let header = header
        .trim_start()
        .strip_prefix("<｜tool▁call▁begin｜>")
        .unwrap_or(header);
    let (kind, rest) = header.split_once("<｜tool▁sep｜>")?;
    let rest = rest.trim_end();
    let rest = rest
        .strip_suffix("```json")
        .or_else(|| rest.strip_suffix("```"))
        .unwrap_or(rest)
        .trim();
    let name = if rest.is_empty() { kind.trim() } else { rest };
    (rest.is_empty() || kind.trim() == "function").then_some(name)
}
