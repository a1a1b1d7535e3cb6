//! The texts of the tools in a request, for numbers with more digits than a `Value` keeps.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::openai::function::has_long_number;

#[derive(serde::Deserialize)]
struct RequestText<'a> {
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// An item of the input, or a namespace.
#[derive(serde::Deserialize)]
struct HolderText<'a> {
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
}

/// Returns the JSON of each tool by its place in a request (`tools[0]`, `tools[0].tools[2]`,
/// `input[3].tools[0]`). The map is empty if the request has no long number.
pub fn tool_texts(json: &[u8]) -> HashMap<String, &str> {
    let mut texts = HashMap::new();
    if !has_long_number(json) {
        return texts;
    }
    let Ok(RequestText { tools, input }) = serde_json::from_slice(json) else {
        return texts;
    };
    collect("tools", tools, &mut texts);
    for (index, item) in list(input).into_iter().enumerate() {
        if let Ok(HolderText { tools }) = serde_json::from_str(item.get()) {
            collect(&format!("input[{index}].tools"), tools, &mut texts);
        }
    }
    texts
}

/// Adds the tools of a list, and those of the namespaces in it.
fn collect<'a>(place: &str, tools: Option<&'a RawValue>, texts: &mut HashMap<String, &'a str>) {
    for (index, tool) in list(tools).into_iter().enumerate() {
        let place = format!("{place}[{index}]");
        if let Ok(HolderText { tools }) = serde_json::from_str(tool.get()) {
            for (index, inner) in list(tools).into_iter().enumerate() {
                texts.insert(format!("{place}.tools[{index}]"), inner.get());
            }
        }
        texts.insert(place, tool.get());
    }
}

/// The elements of a list. Empty if the value is something else.
fn list(value: Option<&RawValue>) -> Vec<&RawValue> {
    let elements = value.map(|value| serde_json::from_str(value.get()));
    elements.and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_its_text_where_a_number_is_long() {
        let json = r#"{"tools": [{"a": 9007199254740993}, {"tools": [1, {"b": 2}], "x": []}, "odd"],
            "input": ["text", {"type": "message"}, {"tools": [{"c": {}}]}, {"tools": 5}]}"#;
        let texts = tool_texts(json.as_bytes());
        for (place, text) in [
            ("tools[0]", r#"{"a": 9007199254740993}"#),
            ("tools[1].tools[0]", "1"),
            ("tools[1].tools[1]", r#"{"b": 2}"#),
            ("tools[2]", "\"odd\""),
            ("input[2].tools[0]", r#"{"c": {}}"#),
        ] {
            assert_eq!(texts.get(place), Some(&text), "{place}");
        }
        assert_eq!(texts.len(), 6);
        let short = json.replace("9007199254740993", "1");
        assert!(tool_texts(short.as_bytes()).is_empty());
        assert!(tool_texts(br#"{"input": "9007199254740993"}"#).is_empty());
        assert!(tool_texts(b"[9007199254740993]").is_empty());
    }
}
