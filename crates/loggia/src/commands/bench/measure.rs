//! From requests to figures.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::plan::{Speed, Step};
use super::server::{Answer, Server, unseen};

/// The words and the tokens with which the speed is estimated.
const FIRST_PROMPT: u64 = 48;
const FIRST_ANSWER: u64 = 16;

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Figures {
    /// Tokens per second.
    Prompt(f64),
    Answer {
        /// Tokens per second of all answers together, from the first token on.
        tokens_per_second: f64,
        /// The median of the times to the first tokens.
        first_token: Duration,
    },
    /// The time of the whole answer.
    Structured(Duration),
}

/// Estimates the speed of the model, with one short request.
pub(super) async fn speed(server: &Server) -> anyhow::Result<Speed> {
    let answer = server
        .ask(&unseen(FIRST_PROMPT), FIRST_ANSWER, json!({}))
        .await?;
    let seconds = |from: Instant, to: Instant| (to - from).as_secs_f64().max(0.001);
    let written = answer.written.saturating_sub(1).max(1);
    Ok(Speed {
        prompt: answer.read as f64 / seconds(answer.begun, answer.first),
        answer: written as f64 / seconds(answer.first, answer.ended),
        tokens_per_word: answer.read as f64 / FIRST_PROMPT as f64,
    })
}

/// Makes the requests of a step.
pub(super) async fn measure(server: &Server, step: Step) -> anyhow::Result<Figures> {
    match step {
        Step::Prompt { at_once, words } => {
            let prompts: Vec<String> = (0..at_once).map(|_| unseen(words)).collect();
            let asked = prompts
                .iter()
                .map(|prompt| server.ask(prompt, 1, json!({})));
            let answers = try_join_all(asked).await?;
            of_prompts(&answers).context("the server had all prompts in its cache")
        }
        Step::Answer { at_once, tokens } => {
            let prompts: Vec<String> = (0..at_once).map(|_| to_write_about()).collect();
            let asked = prompts
                .iter()
                .map(|prompt| server.ask(prompt, tokens, json!({})));
            let answers = try_join_all(asked).await?;
            of_answers(&answers).context("the answers are too short")
        }
        Step::Structured { tokens } => {
            let prompt = format!("Describe an animal. ({})", unseen(1));
            let answer = server.ask(&prompt, tokens, schema()).await?;
            serde_json::from_str::<Value>(&answer.text)
                .context("the structured answer is not JSON")?;
            Ok(Figures::Structured(answer.ended - answer.begun))
        }
    }
}

fn to_write_about() -> String {
    format!("Write a long story about these words: {}.", unseen(3))
}

/// Fields of a request for JSON with long names and short values, as in an extraction.
fn schema() -> Value {
    let kinds = ["mammal", "bird", "fish", "reptile", "insect"];
    let number = json!({"type": "integer", "minimum": 0, "maximum": 99});
    let schema = json!({
        "type": "object",
        "properties": {
            "kind_of_animal": {"type": "string", "enum": kinds},
            "number_of_legs": number,
            "lives_in_the_water": {"type": "boolean"},
            "weight_in_kilograms": number,
            "usual_age_in_years": number,
        },
        "required": [
            "kind_of_animal", "number_of_legs", "lives_in_the_water", "weight_in_kilograms",
            "usual_age_in_years",
        ],
        "additionalProperties": false,
    });
    let format = json!({"name": "animal", "strict": true, "schema": schema});
    json!({"response_format": {"type": "json_schema", "json_schema": format}})
}

/// All tokens that were read, in the time until the last prompt was read.
fn of_prompts(answers: &[Answer]) -> Option<Figures> {
    let begun = answers.iter().map(|answer| answer.begun).min()?;
    let ended = answers.iter().map(|answer| answer.first).max()?;
    let read: u64 = answers.iter().map(|answer| answer.read).sum();
    let seconds = (ended - begun).as_secs_f64();
    (read > 0 && seconds > 0.0).then(|| Figures::Prompt(read as f64 / seconds))
}

/// All tokens but the first of each answer, in the time from the first of all.
fn of_answers(answers: &[Answer]) -> Option<Figures> {
    let begun = answers.iter().map(|answer| answer.first).min()?;
    let ended = answers.iter().map(|answer| answer.ended).max()?;
    let written: u64 = answers
        .iter()
        .map(|answer| answer.written.saturating_sub(1))
        .sum();
    let mut first_tokens: Vec<_> = answers
        .iter()
        .map(|answer| answer.first - answer.begun)
        .collect();
    first_tokens.sort_unstable();
    let seconds = (ended - begun).as_secs_f64();
    (written > 0 && seconds > 0.0).then(|| Figures::Answer {
        tokens_per_second: written as f64 / seconds,
        first_token: first_tokens[first_tokens.len() / 2],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(at: Instant, [begun, first, ended]: [u64; 3], read: u64, written: u64) -> Answer {
        let after = |ms| at + Duration::from_millis(ms);
        Answer {
            begun: after(begun),
            first: after(first),
            ended: after(ended),
            read,
            written,
            text: String::new(),
        }
    }

    #[test]
    fn tokens_of_all_requests_are_divided_by_the_time_of_all() {
        let at = Instant::now();
        let answers = [
            answer(at, [0, 500, 2500], 100, 11),
            answer(at, [0, 1000, 2000], 100, 31),
            answer(at, [10, 2000, 2500], 200, 1),
        ];
        assert_eq!(of_prompts(&answers), Some(Figures::Prompt(200.0)));
        let expected = Figures::Answer {
            tokens_per_second: 20.0,
            first_token: Duration::from_secs(1),
        };
        assert_eq!(of_answers(&answers), Some(expected));
    }

    #[test]
    fn answers_without_tokens_are_no_figure() {
        let at = Instant::now();
        assert_eq!(of_answers(&[answer(at, [0, 5, 5], 9, 1)]), None);
        assert_eq!(of_prompts(&[answer(at, [0, 5, 5], 0, 1)]), None);
        assert_eq!(of_answers(&[]), None);
    }
}
