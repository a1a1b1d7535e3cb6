use loggia_wire::openai::ChunkChoice;
use serde_json::{Value, json};

use super::AnswerState;
use super::choice::Choice;
use crate::Chunk;

/// Returns the reasoning and the content of a text that arrives in these pieces, as a client
/// assembles them.
fn read(pieces: &[&str]) -> (String, String) {
    let (mut reasoning, mut content) = (String::new(), String::new());
    for delta in deltas(pieces) {
        assert_eq!(delta["reasoning"], delta["reasoning_content"]);
        reasoning.push_str(delta["reasoning"].as_str().unwrap_or_default());
        content.push_str(delta["content"].as_str().unwrap_or_default());
    }
    (reasoning, content)
}

fn deltas(pieces: &[&str]) -> Vec<Value> {
    let said = pieces
        .iter()
        .map(|piece| json!({"index": 0, "delta": {"content": piece}}));
    let end = json!({"index": 0, "delta": {}, "finish_reason": "stop"});
    choices(said.chain([end]))
        .into_iter()
        .map(|choice| choice["delta"].clone())
        .collect()
}

fn choices(said: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut answer = AnswerState {
        choices: vec![Choice::default()],
        ..AnswerState::default()
    };
    let chunks = said.into_iter().filter_map(|choice| {
        let choice: ChunkChoice = serde_json::from_value(choice).expect("a choice");
        answer.read(Chunk::of(choice))
    });
    chunks.map(|chunk| json!(chunk.choices[0])).collect()
}

/// Texts, with their reasoning and their content.
const TEXTS: [(&str, &str, &str); 12] = [
    (
        "<think>\nHm, né.\n</think>\n\nParis.",
        "Hm, né.\n",
        "Paris.",
    ),
    (" \n<think>Hm</think>Paris.", "Hm", "Paris."),
    ("<think>\n\n</think>\n\nParis.", "", "Paris."),
    (
        "<think>a < b </thin </thinker> </think>c </think> <think>d",
        "a < b </thin </thinker> ",
        "c </think> <think>d",
    ),
    ("<think>never closed </thi", "never closed </thi", ""),
    ("<think>", "", ""),
    ("<thin", "", "<thin"),
    (
        "<thinking>Hm</thinking>Paris.",
        "",
        "<thinking>Hm</thinking>Paris.",
    ),
    ("Paris. <think>Hm</think>", "", "Paris. <think>Hm</think>"),
    ("  Paris.", "", "  Paris."),
    (" \n", "", " \n"),
    ("", "", ""),
];

#[test]
fn reasoning_between_tags_is_told_apart_wherever_the_text_is_cut() {
    for (text, reasoning, content) in TEXTS {
        let told = (reasoning.to_owned(), content.to_owned());
        assert_eq!(read(&[text]), told, "{text:?}");
        for (at, _) in text.char_indices() {
            assert_eq!(
                read(&[&text[..at], &text[at..]]),
                told,
                "{text:?} cut at {at}"
            );
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(read(&letters), told, "{text:?} letter by letter");
    }
}

#[test]
fn text_that_begins_otherwise_is_not_held_back() {
    assert_eq!(
        deltas(&["Par", "is"]),
        [
            json!({"content": "Par"}),
            json!({"content": "is"}),
            json!({})
        ]
    );
    assert_eq!(deltas(&["<", "b>"]), [json!({"content": "<b>"}), json!({})]);
    let spaces = " ".repeat(65);
    assert_eq!(
        deltas(&[&spaces, "<think>"])[0],
        json!({"content": spaces}),
        "so many spaces are text"
    );
}

#[test]
fn reasoning_leaves_as_it_comes() {
    let said = |text: &str| json!({"reasoning_content": text, "reasoning": text});
    assert_eq!(
        deltas(&["<think>", "a", "b</", "i></think>", "c"]),
        [
            said("a"),
            said("b"),
            said("</i>"),
            json!({"content": "c"}),
            json!({})
        ]
    );
}

#[test]
fn where_the_engine_has_told_reasoning_apart_the_text_is_text() {
    let own = json!({"index": 0, "delta": {"reasoning_content": "Hm"}});
    let text = json!({"index": 0, "delta": {"content": "<think>is a tag</think>"}});
    let told = choices([own, text]);
    assert_eq!(
        told[0]["delta"],
        json!({"reasoning_content": "Hm", "reasoning": "Hm"}),
        "under both names"
    );
    assert_eq!(
        told[1]["delta"],
        json!({"content": "<think>is a tag</think>"})
    );
    let call = json!({"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "a"}]}});
    let told = choices([json!({"index": 0, "delta": {"content": " <"}}), call]);
    assert_eq!(
        (told.len(), &told[0]["delta"]["content"]),
        (1, &json!(" <")),
        "what was held back comes first"
    );
}

#[test]
fn log_probabilities_are_of_the_tokens_of_the_content() {
    let tokens = |texts: &[&str]| -> Value {
        texts
            .iter()
            .map(|text| json!({"token": text, "logprob": -1.0, "bytes": text.as_bytes(), "top_logprobs": []}))
            .collect()
    };
    let said = |texts: &[&str]| json!({"index": 0, "delta": {"content": texts.concat()}, "logprobs": {"content": tokens(texts), "refusal": null}});
    let all = ["<th", "ink>", "\n", "Hm", "</think>", "\n\n", "Par", "is"];
    let end = || json!({"index": 0, "delta": {}, "finish_reason": "stop"});
    let kept = |told: &[Value]| -> Vec<String> {
        let kept = told
            .iter()
            .filter_map(|choice| choice["logprobs"]["content"].as_array())
            .flatten();
        kept.map(|token| token["token"].as_str().unwrap_or_default().to_owned())
            .collect()
    };

    let one_by_one = choices(all.iter().map(|text| said(&[text])).chain([end()]));
    assert_eq!(kept(&one_by_one), ["Par", "is"]);
    assert!(
        one_by_one
            .iter()
            .all(|choice| choice["delta"].get("content").is_some() != choice["logprobs"].is_null())
    );
    assert_eq!(
        kept(&choices([said(&all), end()])),
        ["Par", "is"],
        "in one piece too"
    );
    assert_eq!(kept(&choices([said(&["<", "b>"]), end()])), ["<", "b>"]);
    assert_eq!(
        kept(&choices([said(&["<"]), said(&["b>"]), end()])),
        ["<", "b>"],
        "what was held back has its own"
    );
    assert_eq!(kept(&choices([said(&["<think>", "Hm"]), end()])), [""; 0]);
}

#[test]
fn tokens_of_reasoning_are_counted_where_each_has_its_log_probability() {
    use loggia_wire::openai::CompletionUsage;
    let mut answer = AnswerState {
        choices: vec![Choice::default()],
        ..AnswerState::default()
    };
    let reasoning = |answer: &AnswerState| {
        let usage = answer.with_thoughts(CompletionUsage::new(5, 9));
        usage
            .completion_tokens_details
            .map_or(0, |details| details.reasoning_tokens)
    };
    assert_eq!(reasoning(&answer), 0);
    for text in ["<think>", "Hm", "</think>", "So"] {
        let token = json!({"token": text, "logprob": -1.0});
        let said = json!({"index": 0, "delta": {"content": text}, "logprobs": {"content": [token], "refusal": null}});
        answer.read(Chunk::of(serde_json::from_value(said).expect("a choice")));
    }
    assert_eq!(reasoning(&answer), 3, "with the tags");
}

#[test]
fn each_choice_has_its_own_text_and_one_that_nobody_asked_for_passes() {
    let mut answer = AnswerState {
        choices: vec![Choice::default(), Choice::default()],
        ..AnswerState::default()
    };
    let said = |index: u32, text: &str| json!({"index": index, "delta": {"content": text}});
    let mut read = |said: Vec<Value>| {
        let choices = said
            .into_iter()
            .map(|choice| serde_json::from_value(choice).expect("a choice"))
            .collect();
        let chunk = answer.read(Chunk {
            created: Some(7),
            choices,
            ..Chunk::default()
        });
        chunk.map(|chunk| {
            (
                chunk.created,
                chunk
                    .choices
                    .iter()
                    .map(|choice| json!(choice.delta))
                    .collect::<Vec<_>>(),
            )
        })
    };
    assert_eq!(read(vec![said(0, "<think>"), said(1, "<think>")]), None);
    let told = read(vec![said(0, "a"), said(1, "</think>b"), said(9, "<think>")]);
    let expected = vec![
        json!({"reasoning_content": "a", "reasoning": "a"}),
        json!({"content": "b"}),
        json!({"content": "<think>"}),
    ];
    assert_eq!(
        told,
        Some((Some(7), expected)),
        "the time of a chunk that was held back is not lost"
    );
}
