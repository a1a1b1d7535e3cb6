//! The parameters that are sent to Ollama, and the keywords that are reported as lost.

use serde_json::json;

use super::*;

/// Returns the property as it is sent, and its lost keywords.
fn sent(schema: &Value) -> (Value, Vec<String>) {
    let (mut shown, lost) = shown(
        &json!({"type": "object", "properties": {"x": schema}, "$defs": {
            "Guest": {"type": "object", "title": "Guest", "properties": {"name": {"type": "string", "minLength": 1}}},
            "Kind": {"enum": ["single", "double"], "type": "string"}
        }}),
    );
    let lost = lost
        .iter()
        .map(|place| {
            place
                .strip_prefix("/properties/x")
                .unwrap_or(place)
                .to_owned()
        })
        .collect();
    (shown["properties"]["x"].take(), lost)
}

#[test]
fn what_can_be_said_in_ollamas_words_is_said_in_them() {
    for (schema, expected) in [
        (
            json!({"$ref": "#/$defs/Kind"}),
            json!({"enum": ["single", "double"], "type": "string"}),
        ),
        (json!({"const": "double"}), json!({"enum": ["double"]})),
        (
            json!({"type": "string", "const": "double"}),
            json!({"type": "string", "enum": ["double"]}),
        ),
        (
            json!({"oneOf": [{"type": "string"}, {"const": 1}]}),
            json!({"anyOf": [{"type": "string"}, {"enum": [1]}]}),
        ),
        (
            json!({"allOf": [{"$ref": "#/$defs/Kind"}], "description": "which", "default": "single"}),
            json!({"description": "which", "enum": ["single", "double"], "type": "string"}),
        ),
        (
            json!({"allOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"type": "object", "properties": {"b": {"type": "number"}, "a": {"description": "one"}}, "required": ["b"]}
            ]}),
            json!({"type": "object", "properties": {"a": {"type": "string", "description": "one"}, "b": {"type": "number"}},
                "required": ["a", "b"]}),
        ),
        (
            json!({"properties": {"a": true}}),
            json!({"properties": {"a": {}}, "type": "object"}),
        ),
        (
            json!({"items": {"const": 1}}),
            json!({"items": {"const": 1}, "type": "array"}),
        ),
        (json!(true), json!({})),
        (
            json!({"type": ["string", "null"], "enum": ["a", null]}),
            json!({"type": ["string", "null"], "enum": ["a", null]}),
        ),
    ] {
        assert_eq!(sent(&schema), (expected, Vec::new()), "{schema}");
    }
    let (schema, lost) = sent(&json!({"$ref": "#/$defs/Guest", "description": "Who comes."}));
    let expected = json!({"type": "object", "properties": {"name": {"type": "string"}}, "description": "Who comes."});
    assert_eq!(
        (schema, lost),
        (expected, vec!["/properties/name/minLength".to_owned()])
    );
}

#[test]
fn what_is_left_over_is_named_with_its_place_and_what_says_nothing_is_not() {
    for (schema, expected) in [
        (
            json!({"type": "string", "pattern": "^a$", "format": "email"}),
            vec!["/pattern", "/format"],
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 9_007_199_254_740_991_u64}),
            vec!["/minimum"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            vec!["/additionalProperties"],
        ),
        (
            json!({"anyOf": [{"type": "string", "maxLength": 3}, {"not": {}}]}),
            vec!["/anyOf/0/maxLength", "/anyOf/1/not"],
        ),
        (
            json!({"type": "object", "properties": {"a/b": {"multipleOf": 2}}}),
            vec!["/properties/a~1b/multipleOf"],
        ),
        (json!({"anyOf": [{}], "oneOf": [{}]}), vec!["/oneOf"]),
        (
            json!({"allOf": [{"type": "string"}, {"type": "object"}]}),
            vec!["/allOf"],
        ),
        (
            json!({"$ref": "https://example.com/a"}),
            vec!["/$ref", "/$ref"],
        ),
        (
            json!({"type": 7, "required": [1], "enum": "a"}),
            vec!["/type", "/required", "/enum"],
        ),
        (json!(false), vec![""]),
        // Ollama keeps everything in `items`.
        (
            json!({"type": "array", "items": {"type": "string", "pattern": "^a$"}}),
            vec![],
        ),
        (
            json!({"type": "string", "title": "X", "default": "a", "examples": ["a"], "example": "a", "nullable": true}),
            vec![],
        ),
        (
            json!({"$comment": "c", "deprecated": true, "readOnly": true, "x-order": 1, "enumNames": ["a"]}),
            vec![],
        ),
        (
            json!({"type": "object", "additionalProperties": false, "unevaluatedProperties": true}),
            vec![],
        ),
        (
            json!({"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {}}),
            vec![],
        ),
        (
            json!({"type": "array", "minItems": 0, "uniqueItems": false}),
            vec![],
        ),
        (
            json!({"type": "integer", "minimum": -9_007_199_254_740_991_i64}),
            vec![],
        ),
    ] {
        let mut lost = sent(&schema).1;
        lost.dedup();
        let mut expected = expected;
        expected.dedup();
        assert_eq!(lost, expected, "{schema}");
    }
}

#[test]
fn the_parameters_as_a_whole_are_an_object_with_properties() {
    for (parameters, expected, lost) in [
        (
            json!({}),
            json!({"type": "object", "properties": {}}),
            vec![],
        ),
        (
            json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": ["object"], "additionalProperties": false}),
            json!({"type": "object", "properties": {}}),
            vec![],
        ),
        (
            json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
            vec![],
        ),
        (
            json!({"anyOf": [
                {"type": "object", "properties": {"kind": {"const": "a"}, "n": {"type": "number"}}, "required": ["kind", "n"]},
                {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]}
            ]}),
            json!({"type": "object", "properties": {"kind": {"anyOf": [{"enum": ["a"]}, {"enum": ["b"]}]}, "n": {"type": "number"}},
                "required": ["kind"]}),
            vec!["/anyOf"],
        ),
        (
            json!({"type": "object", "properties": {}, "minProperties": 1}),
            json!({"type": "object", "properties": {}}),
            vec!["/minProperties"],
        ),
        (
            json!(true),
            json!({"type": "object", "properties": {}}),
            vec![],
        ),
    ] {
        let (mut shown, mut places) = shown(&parameters);
        if shown["required"] == json!([]) {
            shown.as_object_mut().unwrap().remove("required");
        }
        places.sort();
        assert_eq!(
            (shown, places),
            (expected, lost.into_iter().map(str::to_owned).collect()),
            "{parameters}"
        );
    }
}

#[test]
fn a_tree_is_written_out_once_and_named_and_keeps_its_definitions() {
    let node = json!({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}});
    let parameters = json!({"type": "object", "properties": {"root": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": node}});
    let (shown, lost) = shown(&parameters);
    assert_eq!(lost, ["/properties/root/properties/children/items/$ref"]);
    assert_eq!(
        shown["properties"]["root"]["properties"]["children"]["items"],
        json!({"type": "object", "$ref": "#/$defs/Node"})
    );
    assert_eq!(shown["$defs"]["Node"], node);
}

#[test]
fn only_tools_that_are_sent_as_tools_lose_anything() {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "parameters":
        {"type": "object", "properties": {"x": {"type": "string", "pattern": "^a$"}}}}})
    };
    let asked = |more: Value| -> Vec<String> {
        let mut request = json!({"model": "m", "messages": [], "tools": [tool("f"), tool("g")]});
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        lost_of_tools(&serde_json::from_value(request).unwrap())
    };
    let of = |index: u32| format!("tools[{index}].function.parameters#/properties/x/pattern");
    assert_eq!(asked(json!({})), [of(0), of(1)]);
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]}});
    assert_eq!(asked(json!({"tool_choice": allowed})), [of(1)]);
    for more in [
        json!({"tool_choice": "none"}),
        json!({"tool_choice": "required"}),
        json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        json!({"response_format": {"type": "json_object"}}),
    ] {
        assert_eq!(asked(more.clone()), Vec::<String>::new(), "{more}");
    }
    let functions = json!([{"name": "f", "parameters": {"properties": {"x": {"pattern": "^a$"}}}}]);
    assert_eq!(
        asked(json!({"tools": [], "functions": functions})),
        ["functions[0].parameters#/properties/x/pattern"]
    );
}
