//! Properties for any model output: no panic, nothing is lost, and the result does not depend on
//! where the text is split.

use proptest::prelude::*;

use super::*;

/// Pieces of text: some of every family's syntax, some of JSON, and some of neither.
const PIECES: [&str; 58] = [
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "weather",
    "time",
    ">",
    "<parameter=",
    "city",
    "</parameter>",
    "</function>",
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[",
    "]",
    "<|python_tag|>",
    ";",
    "```tool_code\n",
    "```",
    "<|tool_call|>",
    "<|/tool_call|>",
    "functools[",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "function",
    "<｜tool▁sep｜>",
    "\n```json\n",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "<|channel|>",
    "analysis",
    "final",
    "commentary",
    "<|message|>",
    "<|end|>",
    "<|start|>assistant",
    " to=functions.",
    "<|call|>",
    "{",
    "}",
    "\"name\": ",
    "\"weather\"",
    "\"arguments\": ",
    "\"parameters\": ",
    ", ",
    ": ",
    "\"",
    "'",
    "\\",
    "1.5",
    "True",
    "\n",
    " ",
    "é🦀",
    "{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}",
];

/// A text of such pieces; `{}` is replaced by a unique word.
fn written() -> impl Strategy<Value = String> {
    let piece = prop_oneof![4 => prop::sample::select(PIECES.to_vec()), 1 => Just("\u{1}")];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| {
        let mut text = String::new();
        for (number, piece) in pieces.iter().enumerate() {
            if *piece == "\u{1}" {
                text.extend(["w", &number.to_string(), "w"]);
            } else {
                text.push_str(piece);
            }
        }
        text
    })
}

fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.starts_with('w') && word.ends_with('w'))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn the_same_comes_out_wherever_a_text_is_cut(
        written in written(), family in 0..FAMILIES.len(), sizes in prop::collection::vec(1_usize..9, 1..6), whole in any::<bool>(),
    ) {
        let release = if whole { CallRelease::Complete } else { CallRelease::Incremental };
        let characters: Vec<char> = written.chars().collect();
        let mut rest = characters.as_slice();
        let pieces = sizes.iter().cycle().map_while(|&size| {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            (!piece.is_empty()).then(|| piece.iter().collect::<String>())
        });
        let in_pieces = read(&mut reader(FAMILIES[family], release), pieces);
        prop_assert_eq!(in_pieces, cut(FAMILIES[family], &written, usize::MAX, release));
    }

    #[test]
    fn every_word_comes_out_somewhere(written in written(), family in 0..FAMILIES.len(), whole in any::<bool>()) {
        let release = if whole { CallRelease::Complete } else { CallRelease::Incremental };
        let said = cut(FAMILIES[family], &written, 5, release);
        let all: String = said.iter().map(|said| match said {
            Parsed::Text(text) | Parsed::Reasoning(text) | Parsed::CallBegun { name: text, .. } => text.as_str(),
            Parsed::CallArguments { more, .. } => more.as_str(),
        }).collect();
        for word in words(&written) {
            prop_assert!(all.contains(word), "{} of {} in {:?}", word, written, said);
        }
    }

    #[test]
    fn arguments_are_always_a_json_object(written in written(), family in 0..FAMILIES.len(), whole in any::<bool>()) {
        let release = if whole { CallRelease::Complete } else { CallRelease::Incremental };
        let mut arguments: Vec<String> = Vec::new();
        for said in cut(FAMILIES[family], &written, 3, release) {
            match said {
                Parsed::CallBegun { index, .. } => {
                    prop_assert_eq!(index as usize, arguments.len());
                    arguments.push(String::new());
                }
                Parsed::CallArguments { index, more } => {
                    prop_assert_eq!(index as usize + 1, arguments.len());
                    arguments[index as usize].push_str(&more);
                }
                Parsed::Text(_) | Parsed::Reasoning(_) => {}
            }
        }
        for arguments in arguments {
            let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&arguments);
            prop_assert!(object.is_ok(), "{} of {}", arguments, written);
        }
    }

    #[test]
    fn text_without_markers_is_that_text(written in "[a-z .,\n]{0,80}", family in 0..FAMILIES.len()) {
        let said = cut(FAMILIES[family], &written, 4, CallRelease::Incremental);
        let expected = if written.is_empty() { vec![] } else { vec![text(&written)] };
        prop_assert_eq!(said, expected);
    }

    #[test]
    fn anything_at_all_is_read(written in any::<String>(), family in 0..FAMILIES.len()) {
        cut(FAMILIES[family], &written, 2, CallRelease::Incremental);
    }
}
