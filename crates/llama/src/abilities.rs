//! The abilities of a chat model, and its card in the list of models.

use loggia_backend::{Abilities, Ability, AbilitySet, OptionNames, SchemaEngine};
use loggia_wire::openai::Model as ModelCard;
use serde_json::json;

use crate::identity::bare_card;
use crate::media;
use crate::model::Model;
use crate::options::LlamaOptions;
use crate::syntax::Syntax;

/// The abilities of a model with a context of `context` tokens and this projector.
pub(crate) fn of(model: &Model, context: usize, projector: media::ProjectorFacts) -> Abilities {
    let mut abilities = by_syntax(context, model.syntax, projector);
    abilities.vocabulary = u64::try_from(model.facts.vocabulary).ok();
    abilities
        .template_variables
        .clone_from(model.template_variables());
    if model.fill_in_the_middle.is_some() {
        abilities.can = abilities.can.with(Ability::FillInTheMiddle);
    }
    abilities
}

/// The card of the model in `GET /v1/models`.
pub(crate) fn card(options: &LlamaOptions, model: &Model, abilities: &Abilities) -> ModelCard {
    let mut card = bare_card(options, &model.facts);
    card.extra
        .insert("context_length".to_owned(), json!(abilities.context_length));
    card.extra.insert(
        "capabilities".to_owned(),
        json!(capabilities(abilities, model.syntax)),
    );
    card
}

/// The abilities that follow from the syntax of the chat template and from the projector.
fn by_syntax(context: usize, syntax: Syntax, projector: media::ProjectorFacts) -> Abilities {
    use Ability::{
        Audio, Continuation, Echo, EngineOptions, Grammar, Images, InputGrammars, JsonObject,
        JsonSchema, LogitBias, Logprobs, NoReasoning, PromptLogprobs, Reasoning, Seed,
        SeveralChoices, SingleToolCall, StrictTools, TokenPrompts, ToolChoice, Tools,
    };
    let sampled = [LogitBias, Logprobs, SeveralChoices, Seed, EngineOptions];
    // A model whose template does not support tools still has these abilities: the prompt describes
    // the tools.
    let held = [
        JsonObject,
        JsonSchema,
        Tools,
        SingleToolCall,
        ToolChoice,
        InputGrammars,
        Grammar,
        Continuation,
    ];
    let of_texts = [TokenPrompts, Echo, PromptLogprobs];
    let mut can = sampled
        .into_iter()
        .chain(held)
        .chain(of_texts)
        .fold(AbilitySet::default(), AbilitySet::with);
    if !syntax.knows_tools() || syntax.watch().is_some() {
        can = can.with(StrictTools);
    }
    if syntax.accepts_effort() {
        can = can.with(Reasoning);
    }
    if syntax.can_disable_reasoning() || !syntax.reasons() {
        can = can.with(NoReasoning);
    }
    if projector.images {
        can = can.with(Images);
    }
    if projector.sample_rate.is_some() {
        can = can.with(Audio);
    }
    let context_length = Some(context as u64);
    Abilities {
        can,
        context_length,
        schemas: SchemaEngine::Llguidance,
        options: OptionNames::Embedded,
        ..Abilities::default()
    }
}

/// The entries of `capabilities` in the model card. They are Ollama's names where Ollama has one.
fn capabilities(abilities: &Abilities, syntax: Syntax) -> Vec<&'static str> {
    let all = [
        ("completion", true),
        ("insert", abilities.has(Ability::FillInTheMiddle)),
        // Listed only if the template supports tools. Tools also work without that, through the
        // prompt.
        ("tools", syntax.knows_tools()),
        ("thinking", syntax.reasons()),
        ("vision", abilities.has(Ability::Images)),
        ("audio", abilities.has(Ability::Audio)),
        ("tool_choice", abilities.has(Ability::ToolChoice)),
        ("json_schema", abilities.has(Ability::JsonSchema)),
        ("grammar", abilities.has(Ability::Grammar)),
    ];
    all.into_iter()
        .filter(|(_, can)| *can)
        .map(|(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_says_in_ollamas_words_what_a_model_can_do() {
        let can = |template: &str| {
            let syntax = Syntax::of(template, |_| false);
            capabilities(
                &by_syntax(4096, syntax, media::ProjectorFacts::default()),
                syntax,
            )
        };
        assert_eq!(
            can("{% if tools %}<tool_call><think>"),
            [
                "completion",
                "tools",
                "thinking",
                "tool_choice",
                "json_schema",
                "grammar"
            ]
        );
        assert_eq!(
            can("{{ message.content }}"),
            ["completion", "tool_choice", "json_schema", "grammar"]
        );
        let syntax = Syntax::of("{{ message.content }}", |_| false);
        let both = media::ProjectorFacts {
            images: true,
            sample_rate: Some(16_000),
            rows_at_once: 0,
        };
        let capabilities = capabilities(&by_syntax(4096, syntax, both), syntax);
        assert_eq!(
            capabilities,
            [
                "completion",
                "vision",
                "audio",
                "tool_choice",
                "json_schema",
                "grammar"
            ]
        );
        let strict = |template: &str, is_token: bool| {
            by_syntax(
                4096,
                Syntax::of(template, |_| is_token),
                media::ProjectorFacts::default(),
            )
            .has(Ability::StrictTools)
        };
        for template in [
            "no place",
            "tools <tool_call>",
            "tools <|python_tag|>",
            "tools <|channel|><|message|>",
        ] {
            assert!(strict(template, true), "{template}");
        }
        assert!(!strict("tools", true) && !strict("tools <|python_tag|>", false));
    }
}
