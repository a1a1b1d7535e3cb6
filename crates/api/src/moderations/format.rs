//! [`ModerationFormat`]: the format of a model's prompts and answers, by the name of the model.

/// The format of a model's prompts and answers for moderations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModerationFormat {
    /// Llama Guard 3: the model says `safe`, or `unsafe` with the numbers of hazards.
    LlamaGuard,
    /// `ShieldGemma`: the model says for each of four policies whether a text violates it.
    ShieldGemma,
    /// Any other model. It is asked for each category whether the input belongs to it.
    Questions,
}

impl ModerationFormat {
    /// Returns the format of a model with this name.
    pub(super) fn of_name(model: &str) -> Self {
        let letters: String = model.chars().filter(char::is_ascii_alphanumeric).collect();
        let letters = letters.to_ascii_lowercase();
        if letters.contains("llamaguard") {
            Self::LlamaGuard
        } else if letters.contains("shieldgemma") {
            Self::ShieldGemma
        } else {
            Self::Questions
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_that_of_the_models_name() {
        for (name, format) in [
            ("llama-guard3:1b", ModerationFormat::LlamaGuard),
            ("meta-llama/Llama-Guard-3-8B", ModerationFormat::LlamaGuard),
            ("shieldgemma:2b", ModerationFormat::ShieldGemma),
            ("google/ShieldGemma-9b", ModerationFormat::ShieldGemma),
            ("smollm2:135m", ModerationFormat::Questions),
        ] {
            assert_eq!(ModerationFormat::of_name(name), format, "{name}");
        }
    }
}
