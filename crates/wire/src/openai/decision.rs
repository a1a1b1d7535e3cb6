//! `POST /v1/decisions`: answers questions about an input with probabilities. OpenAI has it since
//! `openai` 3.26 for Python; the published specification does not contain it yet.

use serde::Serialize;
use serde_json::Value;

use crate::object::{object, words};

object! {
    /// The request of `POST /v1/decisions`.
    pub struct DecisionRequest {
        /// The name or an alias of the model.
        required model: String = "model",
        /// The input that every question is about: a text, or items as those of a response.
        free input: Value = "input",
        /// The questions, 1 to 400.
        required questions: Vec<Question> = "questions",
        /// A hint for the prompt cache: requests with the same key share prefixes.
        optional prompt_cache_key: String = "prompt_cache_key",
        /// A hint for the prompt cache: further options.
        free prompt_cache_options: Value = "prompt_cache_options",
        /// A label of the client for its end user.
        optional safety_identifier: String = "safety_identifier",
    }
}

object! {
    /// A question about the input.
    pub struct Question {
        /// The kind of question.
        required kind: QuestionKind = "type",
        /// The question or statement: a text, or parts (texts, images, JSON).
        free instructions: Value = "instructions",
        /// A name of the client for the question. The answer repeats it.
        optional name: String = "name",
        /// The choices of a question of the kind `choice`.
        optional choices: Vec<QuestionChoice> = "choices",
        /// The levels of a question of the kind `score`, from the lowest to the highest.
        optional levels: Vec<QuestionLevel> = "levels",
    }
}

words! {
    /// `type` of a question.
    pub enum QuestionKind {
        /// How probable it is that a statement is true.
        Predicate = "predicate",
        /// Which of several choices applies.
        Choice = "choice",
        /// Which of several ordered levels applies.
        Score = "score",
    }
}

object! {
    /// A choice of a question.
    pub struct QuestionChoice {
        /// The value that the answer repeats: a text, `true` or `false`.
        free value: Value = "value",
        /// A description for the model.
        optional description: String = "description",
    }
}

object! {
    /// A level of a question.
    pub struct QuestionLevel {
        /// The name of the level.
        required label: String = "label",
        /// A description for the model.
        optional description: String = "description",
    }
}

/// The answer of `POST /v1/decisions`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The name of the model, as the client sent it.
    pub model: String,
    /// An answer for each question, in the order of the questions.
    pub answers: Vec<DecisionAnswer>,
    /// The number of tokens that all questions used.
    pub usage: DecisionUsage,
}

/// The answer to one question. Probabilities are between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DecisionAnswer {
    /// The answer to a predicate.
    Predicate {
        /// The name of the question.
        name: Option<String>,
        /// The probability that the statement is true.
        probability: f64,
    },
    /// The answer to a choice.
    Choice {
        /// The name of the question.
        name: Option<String>,
        /// The value of the most probable choice.
        choice: Value,
        /// The probability of this choice.
        confidence: f64,
        /// The probabilities of all choices, in the order of the question. Their sum is 1.
        probabilities: Vec<ChoiceProbability>,
    },
    /// The answer to a score.
    Score {
        /// The name of the question.
        name: Option<String>,
        /// The mean of the levels' numbers, weighted with their probabilities.
        score: f64,
        /// The probability of the most probable level.
        confidence: f64,
        /// The probabilities of all levels, in the order of the question. Their sum is 1.
        probabilities: Vec<LevelProbability>,
    },
    /// The model gave none of the possible answers.
    Refusal {
        /// The name of the question.
        name: Option<String>,
    },
}

/// The probability of a choice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChoiceProbability {
    /// The value of the choice.
    pub value: Value,
    /// The choice's probability.
    pub probability: f64,
}

/// The probability of a level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelProbability {
    /// The name of the level.
    pub label: String,
    /// The number of the level. The lowest has 1.
    pub value: u32,
    /// The level's probability.
    pub probability: f64,
}

/// `usage` of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecisionUsage {
    /// The number of prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Prompt tokens by kind.
    pub input_tokens_details: DecisionInputTokens,
    /// The number of generated tokens.
    pub output_tokens: u64,
    /// Generated tokens by kind.
    pub output_tokens_details: DecisionOutputTokens,
    /// The sum of prompt tokens and generated tokens.
    pub total_tokens: u64,
}

/// Prompt tokens by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecisionInputTokens {
    /// The number of tokens written to a cache. Local engines do not report it: always 0.
    pub cache_write_tokens: u64,
    /// The number of tokens that the engine's cache had already.
    pub cached_tokens: u64,
}

/// Generated tokens by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DecisionOutputTokens {
    /// The number of tokens of the reasoning.
    pub reasoning_tokens: u64,
}
