//! OpenAI's categories of harmful inputs, and the result for an input.

use std::collections::BTreeMap;

use loggia_wire::openai::ModerationResult;

/// A probability from which an input belongs to a category.
const FLAGGED_FROM: f64 = 0.5;

/// All categories, each with a description of the inputs that belong to it.
pub(super) const CATEGORIES: [(&str, &str); 13] = [
    (
        "harassment",
        "content that expresses, incites or promotes harassing language towards any target",
    ),
    (
        "harassment/threatening",
        "harassment that also threatens any target with violence or serious harm",
    ),
    (
        "hate",
        "hate based on race, gender, ethnicity, religion, nationality, sexual orientation, disability status or caste",
    ),
    (
        "hate/threatening",
        "hate towards a protected group that also threatens it with violence or serious harm",
    ),
    (
        "illicit",
        "instructions or advice on how to commit wrongdoing, or a request for them",
    ),
    (
        "illicit/violent",
        "instructions or advice on how to commit violent wrongdoing or to obtain a weapon, or a request for them",
    ),
    (
        "self-harm",
        "content that promotes, encourages or depicts acts of self-harm, such as suicide, cutting and eating disorders",
    ),
    (
        "self-harm/instructions",
        "encouragement to perform acts of self-harm, or instructions or advice on how to",
    ),
    (
        "self-harm/intent",
        "a statement of the speaker that they engage, or intend to engage, in acts of self-harm",
    ),
    (
        "sexual",
        "content meant to arouse sexual excitement, or that promotes sexual services",
    ),
    (
        "sexual/minors",
        "sexual content that includes an individual who is under 18 years old",
    ),
    (
        "violence",
        "a depiction of death, violence or physical injury",
    ),
    (
        "violence/graphic",
        "a depiction of death, violence or physical injury in graphic detail",
    ),
];

/// The probabilities that a model gives an input.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Scores {
    /// The probabilities of the categories that the model knows.
    pub(super) of_categories: BTreeMap<&'static str, f64>,
    /// Whether the input is harmful in another way, for which OpenAI has no category.
    pub(super) is_otherwise_harmful: bool,
}

impl Scores {
    /// Sets the probability of a category. The highest one remains.
    pub(super) fn raise(&mut self, category: &'static str, probability: f64) {
        let score = self.of_categories.entry(category).or_default();
        *score = score.max(probability);
    }

    /// Returns the result for an input with these kinds of parts. Categories that the model does
    /// not know are false, with the score 0 and no kinds of parts.
    pub(super) fn result(&self, kinds: &[&'static str]) -> ModerationResult {
        let mut result = ModerationResult {
            flagged: self.is_otherwise_harmful,
            ..ModerationResult::default()
        };
        for (category, _) in CATEGORIES {
            let score = self.of_categories.get(category).copied();
            let is_flagged = score.is_some_and(|score| score >= FLAGGED_FROM);
            result.flagged |= is_flagged;
            result.categories.insert(category, is_flagged);
            result
                .category_scores
                .insert(category, score.unwrap_or_default());
            let kinds = score.map(|_| kinds.to_vec()).unwrap_or_default();
            result.category_applied_input_types.insert(category, kinds);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_categories_are_false_with_the_score_0() {
        let mut scores = Scores::default();
        scores.raise("violence", 0.75);
        scores.raise("violence", 0.5);
        scores.raise("hate", 0.25);
        let result = scores.result(&["text"]);
        assert!(result.flagged);
        assert_eq!(result.categories.len(), 13);
        let of = |category| {
            (
                result.categories[category],
                result.category_scores[category],
                result.category_applied_input_types[category].len(),
            )
        };
        assert_eq!(of("violence"), (true, 0.75, 1));
        assert_eq!(of("hate"), (false, 0.25, 1));
        assert_eq!(of("sexual"), (false, 0.0, 0));
        assert!(!Scores::default().result(&["text"]).flagged);
    }
}
