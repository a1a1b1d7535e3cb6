//! Llama Guard 3: answers `safe`, or `unsafe` and a line with hazards such as `S1,S10`. Its chat
//! template contains the hazards, so it is asked with the input alone.

use loggia_wire::openai::{TokenLogprob, TopLogprob};

use super::categories::Scores;
use crate::decisions::question::weights;

/// The maximum number of tokens of an answer: all hazards.
pub(super) const ANSWER_TOKENS: u32 = 64;

/// OpenAI's categories for the hazards `S1` to `S14`. Some have none.
const HAZARDS: [&[&str]; 14] = [
    // Violent crimes, non-violent crimes, sex-related crimes, sexual exploitation of children.
    &["violence", "illicit/violent"],
    &["illicit"],
    &["sexual"],
    &["sexual", "sexual/minors"],
    // Defamation, specialized advice, privacy, indiscriminate weapons.
    &["harassment"],
    &[],
    &[],
    &["illicit", "illicit/violent"],
    // Intellectual property, hate, suicide and self-harm, sexual content.
    &[],
    &["hate"],
    &["self-harm"],
    &["sexual"],
    // Elections and code interpreter abuse: OpenAI has no such category.
    &[],
    &[],
];

/// Reads an answer, from its tokens. `None` if it is neither `safe` nor `unsafe`.
///
/// Each hazard in the answer gets the probability of `unsafe`; the other hazards get what the token
/// of the first hazard leaves for them. If the answer is `safe`, each hazard gets the probability
/// of `unsafe`, which is its upper bound.
pub(super) fn read(tokens: &[TokenLogprob]) -> Option<Scores> {
    let verdict = tokens
        .iter()
        .position(|token| !token.token.trim().is_empty())?;
    let alternatives = &tokens.get(verdict)?.top_logprobs;
    let answers = ["safe", "unsafe", "un"].map(str::to_owned);
    let unsafe_probability = match weights(&answers, alternatives)?.as_slice() {
        [safe, ..] => 1.0 - safe,
        [] => return None,
    };
    let texts = tokens.iter().skip(verdict);
    let text: String = texts.map(|token| token.token.as_str()).collect();
    let mut lines = text.trim().lines();
    let is_unsafe = match lines.next()?.trim() {
        "safe" => false,
        "unsafe" => true,
        _ => return None,
    };
    let mut scores = Scores::default();
    let mut raise_all = |number: u32, probability: f64| {
        let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
        let categories = index.and_then(|index| HAZARDS.get(index)).copied();
        for category in categories.unwrap_or_default() {
            scores.raise(category, probability);
        }
        categories.is_some_and(|categories| !categories.is_empty())
    };
    if !is_unsafe {
        (1..=14).for_each(|number| _ = raise_all(number, unsafe_probability));
        return Some(scores);
    }
    (1..=14).for_each(|number| _ = raise_all(number, 0.0));
    let named: Vec<u32> = lines
        .flat_map(|line| line.split(','))
        .filter_map(hazard)
        .collect();
    if let Some(first) = named.first() {
        let tokens = tokens.iter().skip(verdict + 1);
        for other in alternatives_of(*first, tokens) {
            if let Some(number) = hazard(&other.token) {
                raise_all(number, unsafe_probability * other.logprob.min(0.0).exp());
            }
        }
    }
    let mut has_category = false;
    for number in named {
        has_category |= raise_all(number, unsafe_probability);
    }
    scores.is_otherwise_harmful = !has_category;
    Some(scores)
}

/// Returns the number of a hazard, from `S1` or `1`.
fn hazard(text: &str) -> Option<u32> {
    let text = text.trim();
    text.strip_prefix('S').unwrap_or(text).parse().ok()
}

/// Returns the alternatives to the token that is the number of the first hazard.
fn alternatives_of<'a>(
    first: u32,
    mut tokens: impl Iterator<Item = &'a TokenLogprob>,
) -> &'a [TopLogprob] {
    let token = tokens.find(|token| hazard(&token.token).is_some());
    token
        .filter(|token| hazard(&token.token) == Some(first))
        .map_or(&[], |token| &token.top_logprobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(alternatives: &[(&str, f64)]) -> TokenLogprob {
        let top = |(token, probability): &(&str, f64)| TopLogprob {
            token: (*token).to_owned(),
            logprob: probability.ln(),
            bytes: None,
        };
        TokenLogprob {
            token: alternatives[0].0.to_owned(),
            logprob: alternatives[0].1.ln(),
            bytes: None,
            top_logprobs: alternatives.iter().map(top).collect(),
        }
    }

    fn score(scores: &Scores, category: &str) -> String {
        let score = scores.of_categories.get(category);
        score.map_or("unknown".to_owned(), |score| format!("{score:.3}"))
    }

    #[test]
    fn a_safe_answer_bounds_every_known_category() {
        let tokens = [
            token(&[("\n\n", 1.0)]),
            token(&[("safe", 0.9), ("unsafe", 0.1)]),
        ];
        let scores = read(&tokens).expect("an answer");
        assert_eq!(score(&scores, "hate"), "0.100");
        assert_eq!(score(&scores, "violence/graphic"), "unknown");
        assert!(!scores.is_otherwise_harmful);
    }

    #[test]
    fn an_unsafe_answer_scores_its_hazards_and_their_alternatives() {
        let tokens = [
            token(&[("\n\n", 1.0)]),
            token(&[("unsafe", 0.8), ("safe", 0.2)]),
            token(&[("\n", 1.0)]),
            token(&[("S", 1.0)]),
            token(&[("10", 0.5), ("1", 0.25), ("11", 0.25)]),
            token(&[(",", 1.0)]),
            token(&[("S", 1.0)]),
            token(&[("12", 1.0)]),
        ];
        let scores = read(&tokens).expect("an answer");
        assert_eq!(score(&scores, "hate"), "0.800");
        assert_eq!(score(&scores, "sexual"), "0.800");
        assert_eq!(score(&scores, "violence"), "0.200");
        assert_eq!(score(&scores, "self-harm"), "0.200");
        assert_eq!(score(&scores, "illicit"), "0.000");
    }

    #[test]
    fn a_hazard_without_a_category_flags_the_input() {
        for hazards in ["S7", "S99", ""] {
            let text = format!("\n{hazards}");
            let tokens = [token(&[("unsafe", 1.0)]), token(&[(text.as_str(), 1.0)])];
            assert!(
                read(&tokens).expect("an answer").is_otherwise_harmful,
                "{hazards}"
            );
        }
    }

    #[test]
    fn another_answer_is_no_moderation() {
        for text in ["Sure", "unsafely", "safest", " "] {
            let tokens = [token(&[(text, 0.9), ("safe", 0.1)])];
            assert_eq!(read(&tokens), None, "{text}");
        }
        assert_eq!(read(&[]), None);
    }
}
