//! The result of parsing is the same wherever the text is split.

use futures_util::{FutureExt, StreamExt, stream};
use serde_json::json;

use super::*;
use crate::ServedBy;

#[derive(Debug, Default, PartialEq)]
struct Parsed {
    text: String,
    calls: Vec<(u32, String, String)>,
    finish: Option<FinishReason>,
}

fn asked(fields: &Value) -> ChatCompletionRequest {
    let mut body = json!({"model": "m", "messages": [],
        "tools": [{"type": "function", "function": {"name": "time"}}, {"type": "function", "function": {"name": "rain"}}]});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

fn chunks(
    fields: &Value,
    pieces: impl Iterator<Item = String>,
    finish: FinishReason,
) -> Vec<Chunk> {
    let mut end = ChunkChoice::delta(0, Delta::default());
    end.finish_reason = Some(finish);
    let events = pieces
        .map(|piece| ChunkChoice::delta(0, Delta::content(piece)))
        .chain([end]);
    let events: Vec<_> = events
        .map(|choice| Ok(Event::Chunk(Chunk::of(choice))))
        .collect();
    let served_by = ServedBy {
        backend: "b".into(),
        model: "m".into(),
        node: None,
        fingerprint: "f".into(),
        changed: Vec::new(),
        ignored: Vec::new(),
    };
    let reply = Reply {
        served_by,
        events: stream::iter(events).boxed(),
    };
    let all = back(reply, &asked(fields), &"chatcmpl-x".into())
        .events
        .collect::<Vec<_>>()
        .now_or_never()
        .unwrap();
    all.into_iter()
        .filter_map(|event| {
            if let Event::Chunk(chunk) = event.unwrap() {
                Some(chunk)
            } else {
                None
            }
        })
        .collect()
}

/// Returns the result for a text in pieces of `size` characters.
fn read_in(fields: &Value, text: &str, size: usize, finish: FinishReason) -> Parsed {
    let characters: Vec<char> = text.chars().collect();
    let mut read = Parsed::default();
    for chunk in chunks(
        fields,
        characters.chunks(size).map(|piece| piece.iter().collect()),
        finish,
    ) {
        for choice in chunk.choices {
            read.text
                .push_str(choice.delta.content.as_deref().unwrap_or_default());
            for call in choice.delta.tool_calls.unwrap_or_default() {
                let function = call.function.unwrap();
                assert_eq!(call.id.unwrap(), format!("call_x_{}", call.index));
                read.calls.push((
                    call.index,
                    function.name.unwrap(),
                    function.arguments.unwrap(),
                ));
            }
            read.finish = choice.finish_reason.or(read.finish);
        }
    }
    read
}

/// Returns the result for a text, and checks that it is the same for all piece sizes.
fn read(fields: &Value, text: &str) -> Parsed {
    let whole = read_in(fields, text, usize::MAX, FinishReason::Stop);
    for size in 1..=9 {
        assert_eq!(
            read_in(fields, text, size, FinishReason::Stop),
            whole,
            "{text} in pieces of {size}"
        );
    }
    whole
}

fn time(index: u32) -> (u32, String, String) {
    (
        index,
        "time".to_owned(),
        "{\"in\": \"</tool_call>}\"}".to_owned(),
    )
}

const TIME: &str =
    "<tool_call>\n{\"name\": \"time\", \"arguments\": {\"in\": \"</tool_call>}\"}}\n</tool_call>";

#[test]
fn an_object_between_tags_is_a_call_wherever_it_is_cut() {
    let tool_calls = Some(FinishReason::ToolCalls);
    assert_eq!(
        read(&json!({}), TIME),
        Parsed {
            text: String::new(),
            calls: vec![time(0)],
            finish: tool_calls
        }
    );
    let around = read(&json!({}), &format!("I < you. {TIME}\n{TIME} Done."));
    assert_eq!(
        around,
        Parsed {
            text: "I < you. Done.".to_owned(),
            calls: vec![time(0), time(1)],
            finish: tool_calls
        }
    );
    let open = TIME.trim_end_matches("\n</tool_call>");
    assert_eq!(
        read(&json!({}), open).calls,
        [time(0)],
        "all that is missing is the last tag"
    );
    let twice = read(&json!({}), &format!("<tool_call>\n{TIME}"));
    assert_eq!(
        (twice.text.as_str(), twice.calls),
        ("<tool_call>\n", vec![time(0)])
    );
}

#[test]
fn what_is_no_call_is_its_text() {
    for written in [
        "no tags, a < b",
        "<tool_call>time</tool_call> and on",
        "<tool_call>{\"name\": \"nobody\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"time\", \"arguments\": []}</tool_call>",
        "<tool_call>{\"name\": \"time\", \"arguments\": {\"a\": x}}</tool_call>",
        "<tool_call>{\"name\": \"time\", \"arguments\": {",
        "<tool_cal",
        "<tool_call>]",
    ] {
        let expected = Parsed {
            text: written.to_owned(),
            calls: vec![],
            finish: Some(FinishReason::Stop),
        };
        assert_eq!(read(&json!({}), written), expected);
    }
}

#[test]
fn one_call_at_a_time_is_the_first_and_a_limit_stays_one() {
    let single = read(
        &json!({"parallel_tool_calls": false}),
        &format!("{TIME}{TIME}"),
    );
    assert_eq!((single.calls, single.text.as_str()), (vec![time(0)], ""));
    let cut = read_in(&json!({}), TIME, 4, FinishReason::Length);
    assert_eq!(
        (cut.calls.len(), cut.finish),
        (1, Some(FinishReason::Length))
    );
}

#[test]
fn text_leaves_as_it_comes_and_only_what_may_be_a_tag_waits() {
    let pieces = ["Hello", " wor", "ld <", "b> ", "<tool", " bar>"].map(str::to_owned);
    let said: Vec<String> = chunks(&json!({}), pieces.into_iter(), FinishReason::Stop)
        .into_iter()
        .flat_map(|chunk| chunk.choices)
        .filter_map(|choice| choice.delta.content)
        .collect();
    assert_eq!(said, ["Hello", " wor", "ld <b> ", "<tool bar>"]);
}
