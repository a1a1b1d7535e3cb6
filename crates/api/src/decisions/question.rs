//! Questions → prompts with lettered options, and log-probabilities → probabilities.
//!
//! A question becomes a message that ends with the possible answers, each with a letter (a
//! predicate: Yes and No). The model generates one token. The answer's probabilities are those of
//! the letters as this token, divided by their sum.

use std::fmt::Write as _;
use std::ops::Range;

use loggia_wire::openai::{
    ChoiceProbability, DecisionAnswer, LevelProbability, Question, QuestionChoice, QuestionKind,
    TopLogprob,
};
use serde_json::{Value, json};

use crate::ApiError;
use crate::admit::checks::{has_1_to, missing};

/// The maximum number of questions of a request, as at OpenAI.
const MOST_QUESTIONS: usize = 400;
/// The maximum number of choices of a question, as at OpenAI. Levels have the same limit.
const MOST_OPTIONS: usize = 255;
/// The maximum number of options of one prompt: engines return the log-probabilities of at most 20
/// tokens.
const MOST_LETTERS: usize = 20;

const YES: &str = "Yes";
const NO: &str = "No";

/// A question that was checked.
#[derive(Debug)]
pub(crate) struct Checked {
    kind: QuestionKind,
    name: Option<String>,
    /// The parts of the question's message, as those of a response's input.
    parts: Vec<Value>,
    options: Vec<Choosable>,
}

/// A possible answer.
#[derive(Debug)]
struct Choosable {
    value: Value,
    description: Option<String>,
}

/// One prompt about a question: the text after its instructions, and the answers whose
/// probabilities are read.
#[derive(Debug, PartialEq)]
pub(crate) struct Prompt {
    asked: String,
    pub(crate) answers: Vec<String>,
}

/// Checks all questions of a request.
pub(crate) fn check(questions: Vec<Question>) -> Result<Vec<Checked>, ApiError> {
    has_1_to(MOST_QUESTIONS, "questions", "questions", questions.len())?;
    let numbered = questions.into_iter().enumerate();
    numbered
        .map(|(index, question)| Checked::new(question, &format!("questions[{index}]")))
        .collect()
}

impl Checked {
    fn new(question: Question, place: &str) -> Result<Self, ApiError> {
        let parts = parts(question.instructions, &format!("{place}.instructions"))?;
        let options = match question.kind {
            QuestionKind::Predicate => Vec::new(),
            QuestionKind::Choice => {
                let place = format!("{place}.choices");
                let choices = question.choices.ok_or_else(|| missing(place.clone()))?;
                counted(choices_of(choices, &place)?, &place)?
            }
            QuestionKind::Score => {
                let place = format!("{place}.levels");
                let levels = question.levels.ok_or_else(|| missing(place.clone()))?;
                let options = levels.into_iter().map(|level| Choosable {
                    value: level.label.into(),
                    description: level.description,
                });
                counted(options.collect(), &place)?
            }
        };
        Ok(Self {
            kind: question.kind,
            name: question.name,
            parts,
            options,
        })
    }

    /// Returns the first prompts about the question. More options than a prompt can hold are split
    /// into groups of nearly the same size, and each group has a prompt.
    pub(crate) fn prompts(&self) -> Vec<Prompt> {
        if self.kind == QuestionKind::Predicate {
            let asked = "Is this true of the input above? Answer with Yes or No only, without any other text.";
            return vec![Prompt {
                asked: asked.to_owned(),
                answers: vec![YES.to_owned(), NO.to_owned()],
            }];
        }
        let groups = self.groups();
        let prompts = groups.into_iter().map(|group| {
            let group: Vec<usize> = group.collect();
            self.options_prompt(&group)
        });
        prompts.collect()
    }

    /// Returns the prompt that compares the winners of all groups. `None` if there is one group.
    pub(crate) fn last_prompt(&self, weights: &[Option<Vec<f64>>]) -> Option<Prompt> {
        let winners = self.winners(weights)?;
        (winners.len() > 1).then(|| self.options_prompt(&winners))
    }

    /// Returns the answer, from the probabilities of each prompt's answers. `None` stands for a
    /// prompt that the model did not answer.
    pub(crate) fn answer(
        self,
        weights: &[Option<Vec<f64>>],
        last: Option<&[f64]>,
    ) -> DecisionAnswer {
        let answer = match self.kind {
            QuestionKind::Predicate => predicate(self.name.clone(), weights),
            QuestionKind::Choice => self.choice(weights, last),
            QuestionKind::Score => self.score(weights, last),
        };
        answer.unwrap_or(DecisionAnswer::Refusal { name: self.name })
    }

    fn choice(&self, weights: &[Option<Vec<f64>>], last: Option<&[f64]>) -> Option<DecisionAnswer> {
        let all = of_options(weights, last)?;
        let best = largest(&all)?;
        let confidence = all.get(best).copied().unwrap_or_default();
        let options = self.options.iter().zip(all);
        let probabilities: Vec<ChoiceProbability> = options
            .map(|(option, probability)| ChoiceProbability {
                value: option.value.clone(),
                probability,
            })
            .collect();
        let choice = probabilities.get(best).map(|best| best.value.clone());
        Some(DecisionAnswer::Choice {
            name: self.name.clone(),
            choice: choice.unwrap_or_default(),
            confidence,
            probabilities,
        })
    }

    fn score(&self, weights: &[Option<Vec<f64>>], last: Option<&[f64]>) -> Option<DecisionAnswer> {
        let all = of_options(weights, last)?;
        let confidence = all.get(largest(&all)?).copied().unwrap_or_default();
        let options = self.options.iter().zip(all);
        let probabilities: Vec<LevelProbability> = (1..)
            .zip(options)
            .map(|(value, (option, probability))| LevelProbability {
                label: option.value.as_str().unwrap_or_default().to_owned(),
                value,
                probability,
            })
            .collect();
        let levels = probabilities.iter();
        let score = levels.map(|level| f64::from(level.value) * level.probability);
        Some(DecisionAnswer::Score {
            name: self.name.clone(),
            score: score.sum(),
            confidence,
            probabilities,
        })
    }

    fn groups(&self) -> Vec<Range<usize>> {
        let options = self.options.len();
        let groups = options.div_ceil(MOST_LETTERS).max(1);
        let begin = |group: usize| group * options / groups;
        (0..groups)
            .map(|group| begin(group)..begin(group + 1))
            .collect()
    }

    /// Returns the most probable option of each group, by its number. `None` if the model left a
    /// group without an answer.
    fn winners(&self, weights: &[Option<Vec<f64>>]) -> Option<Vec<usize>> {
        let groups = self.groups().into_iter().zip(weights);
        groups
            .map(|(group, weights)| Some(group.start + largest(weights.as_ref()?)?))
            .collect()
    }

    /// Returns the prompt for these options, by their numbers.
    fn options_prompt(&self, numbers: &[usize]) -> Prompt {
        let options = numbers
            .iter()
            .filter_map(|number| self.options.get(*number));
        let mut asked = match self.kind {
            QuestionKind::Score => "The levels, from the lowest to the highest:".to_owned(),
            _ => "The choices:".to_owned(),
        };
        let mut answers = Vec::with_capacity(numbers.len());
        for (letter, option) in ('A'..='Z').zip(options) {
            let value = option.value.as_str().map(str::to_owned);
            let value = value.unwrap_or_else(|| option.value.to_string());
            let _ = write!(asked, "\n{letter}. {value}");
            if let Some(description) = &option.description {
                let _ = write!(asked, ": {description}");
            }
            answers.push(letter.to_string());
        }
        asked.push_str("\nAnswer with the letter of exactly one of them, without any other text.");
        Prompt { asked, answers }
    }

    /// Returns the parts of the message that asks a prompt about this question. A question can have
    /// many prompts, so they are made when they are needed.
    pub(crate) fn parts_with(&self, prompt: &Prompt) -> Vec<Value> {
        let mut parts = self.parts.clone();
        // Some engines join the texts of a message without anything between them.
        let asked = format!("\n\n{}", prompt.asked);
        parts.push(json!({"type": "input_text", "text": asked}));
        parts
    }
}

/// Returns the choices of a question as options.
fn choices_of(choices: Vec<QuestionChoice>, place: &str) -> Result<Vec<Choosable>, ApiError> {
    let numbered = choices.into_iter().enumerate();
    let options = numbered.map(|(index, choice)| {
        let value = choice.value.unwrap_or_default();
        if value.is_string() || value.is_boolean() {
            let description = choice.description;
            return Ok(Choosable { value, description });
        }
        let place = format!("{place}[{index}].value");
        let message = format!("Invalid type for '{place}': expected a string or a boolean.");
        Err(ApiError::invalid(place, "invalid_type", message))
    });
    options.collect()
}

/// Returns the answer to a predicate. `None` if the model gave none.
fn predicate(name: Option<String>, weights: &[Option<Vec<f64>>]) -> Option<DecisionAnswer> {
    let both = weights.first()?.as_ref()?;
    Some(DecisionAnswer::Predicate {
        name,
        probability: *both.first()?,
    })
}

/// Returns the probability of each option, from the probabilities in each group and those of the
/// groups' winners. `None` if the model did not answer a prompt.
fn of_options(weights: &[Option<Vec<f64>>], last: Option<&[f64]>) -> Option<Vec<f64>> {
    let groups: Vec<&[f64]> = weights
        .iter()
        .map(Option::as_deref)
        .collect::<Option<_>>()?;
    if groups.len() != 1 && last.is_none() {
        return None;
    }
    let of_groups = last.unwrap_or(&[1.0]);
    let groups = groups.iter().zip(of_groups);
    let options = groups
        .flat_map(|(group, of_group)| group.iter().map(move |of_option| of_option * of_group));
    Some(options.collect())
}

/// Returns the probabilities of these answers, from the most probable first tokens. `None` if none
/// of the tokens is one of the answers.
///
/// A tokenizer has several tokens for the same answer: with a space before it, or in lower case.
pub(crate) fn weights(answers: &[String], tokens: &[TopLogprob]) -> Option<Vec<f64>> {
    let mut weights = vec![0.0; answers.len()];
    for token in tokens {
        let text = token.token.trim_matches([' ', '\n', '▁', 'Ġ']);
        let same = answers.iter().position(|answer| answer == text);
        let found = same.or_else(|| {
            let mut answers = answers.iter();
            answers.position(|answer| answer.len() > 1 && answer.eq_ignore_ascii_case(text))
        });
        if let Some(weight) = found.and_then(|index| weights.get_mut(index)) {
            // No probability exceeds 1. The sum of infinite ones would be no number.
            *weight += token.logprob.min(0.0).exp();
        }
    }
    let sum: f64 = weights.iter().sum();
    (sum > 0.0).then(|| weights.iter().map(|weight| weight / sum).collect())
}

/// Returns the parts of a text, or of an array of parts, as parts of a response's input.
pub(crate) fn parts(content: Option<Value>, place: &str) -> Result<Vec<Value>, ApiError> {
    match content {
        Some(Value::String(text)) if !text.is_empty() => {
            Ok(vec![json!({"type": "input_text", "text": text})])
        }
        Some(Value::Array(parts)) if !parts.is_empty() => {
            Ok(parts.into_iter().map(json_as_text).collect())
        }
        None | Some(Value::Null) => Err(missing(place.to_owned())),
        Some(Value::String(_) | Value::Array(_)) => {
            let message = format!("Invalid '{place}': it is empty.");
            Err(ApiError::invalid(place, "invalid_value", message))
        }
        Some(_) => {
            let message =
                format!("Invalid type for '{place}': expected a string or an array of parts.");
            Err(ApiError::invalid(place, "invalid_type", message))
        }
    }
}

/// Turns a part `input_json`, which responses do not have, into a text. Other parts stay as they are.
pub(crate) fn json_as_text(part: Value) -> Value {
    match (part.get("type").and_then(Value::as_str), part.get("data")) {
        (Some("input_json"), Some(data)) => {
            json!({"type": "input_text", "text": data.to_string()})
        }
        _ => part,
    }
}

/// Returns the options. Fails if their number is not allowed, or two are equal.
fn counted(options: Vec<Choosable>, place: &str) -> Result<Vec<Choosable>, ApiError> {
    if !(2..=MOST_OPTIONS).contains(&options.len()) {
        let message = format!(
            "Invalid '{place}': expected 2 to {MOST_OPTIONS}, but got {}.",
            options.len()
        );
        return Err(ApiError::invalid(place, "invalid_value", message));
    }
    let repeated = options.iter().enumerate().find(|(index, option)| {
        let earlier = options.iter().take(*index);
        earlier.into_iter().any(|other| other.value == option.value)
    });
    if let Some((index, _)) = repeated {
        let message = format!("Invalid '{place}[{index}]': it occurs twice.");
        return Err(ApiError::invalid(place, "invalid_value", message));
    }
    Ok(options)
}

/// Returns the index of the largest number, the first of equal ones.
fn largest(numbers: &[f64]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, number) in numbers.iter().enumerate() {
        if best.is_none_or(|(_, most)| *number > most) {
            best = Some((index, *number));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(token: &str, probability: f64) -> TopLogprob {
        TopLogprob {
            token: token.to_owned(),
            logprob: probability.ln(),
            bytes: None,
        }
    }

    fn question(value: Value) -> Result<Checked, ApiError> {
        let question = serde_json::from_value(value).expect("a question");
        check(vec![question]).map(|mut all| all.remove(0))
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn every_spelling_of_an_answer_counts_and_other_tokens_do_not() {
        let answers = [YES.to_owned(), NO.to_owned()];
        let tokens = [
            token("Yes", 0.3),
            token(" yes", 0.1),
            token("No", 0.1),
            token("Maybe", 0.5),
        ];
        let found = weights(&answers, &tokens).expect("an answer");
        assert!(near(found[0], 0.8) && near(found[1], 0.2), "{found:?}");
        assert_eq!(weights(&answers, &[token("Maybe", 0.9)]), None);
        // `a` may be the word, not the letter.
        let letters = ["A".to_owned(), "B".to_owned()];
        let found = weights(&letters, &[token("a", 0.9), token("B", 0.1)]);
        assert_eq!(found, Some(vec![0.0, 1.0]));
        // An engine's log-probability can be too large for a probability.
        let large = [("A", 1000.0), ("B", f64::MAX)].map(|(token, logprob)| TopLogprob {
            token: token.to_owned(),
            logprob,
            bytes: None,
        });
        assert_eq!(weights(&letters, &large), Some(vec![0.5, 0.5]));
    }

    #[test]
    fn a_score_is_the_mean_of_its_levels() {
        let levels = json!([{"label": "bad"}, {"label": "fair"}, {"label": "good"}]);
        let asked = json!({"type": "score", "instructions": "How good?", "levels": levels});
        let checked = question(asked).expect("valid");
        let [prompt] = &checked.prompts()[..] else {
            panic!("not one prompt")
        };
        assert_eq!(prompt.answers, ["A", "B", "C"]);
        let answer = checked.answer(&[Some(vec![0.25, 0.25, 0.5])], None);
        let DecisionAnswer::Score {
            score, confidence, ..
        } = answer
        else {
            panic!("no score: {answer:?}")
        };
        assert!(near(score, 2.25) && near(confidence, 0.5));
    }

    #[test]
    fn many_choices_are_compared_in_groups_and_their_probabilities_sum_to_1() {
        let choices: Vec<Value> = (0..255)
            .map(|number| json!({"value": format!("choice {number}")}))
            .collect();
        let asked = json!({"type": "choice", "instructions": "Which?", "choices": choices});
        let checked = question(asked).expect("valid");
        let prompts = checked.prompts();
        assert_eq!(prompts.len(), 13);
        assert!(
            prompts
                .iter()
                .all(|prompt| prompt.answers.len() <= MOST_LETTERS)
        );
        let of_group = |prompt: &Prompt| {
            let mut weights = vec![0.0; prompt.answers.len()];
            weights[1] = 1.0;
            Some(weights)
        };
        let weights: Vec<_> = prompts.iter().map(of_group).collect();
        let last = checked.last_prompt(&weights).expect("several groups");
        assert_eq!(last.answers.len(), 13);
        let mut of_groups = vec![0.25 / 12.0; 13];
        of_groups[3] = 0.75;
        let answer = checked.answer(&weights, Some(&of_groups));
        let DecisionAnswer::Choice {
            choice,
            confidence,
            probabilities,
            ..
        } = answer
        else {
            panic!("no choice: {answer:?}")
        };
        assert_eq!(choice, json!("choice 59"));
        assert!(near(confidence, 0.75));
        let sum: f64 = probabilities.iter().map(|one| one.probability).sum();
        assert!(near(sum, 1.0) && probabilities.len() == 255);
    }

    #[test]
    fn a_group_without_an_answer_makes_a_refusal() {
        let choices: Vec<Value> = (0..30).map(|n| json!({"value": n.to_string()})).collect();
        let asked =
            json!({"type": "choice", "name": "q", "instructions": "Which?", "choices": choices});
        let checked = question(asked).expect("valid");
        let weights = [Some(vec![1.0; 15]), None];
        assert_eq!(checked.last_prompt(&weights), None);
        let name = Some("q".to_owned());
        let refusal = DecisionAnswer::Refusal { name };
        assert_eq!(checked.answer(&weights, None), refusal);
    }

    #[test]
    fn questions_that_cannot_be_asked_are_refused_with_their_place() {
        let choice =
            |choices: Value| json!({"type": "choice", "instructions": "?", "choices": choices});
        for (asked, param) in [
            (json!({"type": "predicate"}), "questions[0].instructions"),
            (
                json!({"type": "predicate", "instructions": 3}),
                "questions[0].instructions",
            ),
            (
                json!({"type": "choice", "instructions": "?"}),
                "questions[0].choices",
            ),
            (choice(json!([{"value": "a"}])), "questions[0].choices"),
            (
                choice(json!([{"value": "a"}, {"value": 3}])),
                "questions[0].choices[1].value",
            ),
            (
                choice(json!([{"value": "a"}, {"value": "a"}])),
                "questions[0].choices",
            ),
            (
                json!({"type": "score", "instructions": "?"}),
                "questions[0].levels",
            ),
        ] {
            let error = question(asked.clone()).expect_err("invalid");
            assert_eq!(error.error.param.as_deref(), Some(param), "{asked}");
        }
        // A text and a boolean are different choices.
        question(choice(json!([{"value": "true"}, {"value": true}]))).expect("valid");
    }
}
