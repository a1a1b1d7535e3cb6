//! Ignored keywords are found with their path, and equivalent schemas have the same normal form.

use serde_json::json;

use super::*;

/// Returns the first keyword that an engine ignores, with its path.
fn found(schema: &Value, engine: SchemaEngine) -> Option<(String, String)> {
    let fault = faults(schema, engine).into_iter().next()?;
    assert_eq!(fault.kind, SchemaFaultKind::Unenforced, "{schema}");
    Some((pointer(&fault), fault.keyword))
}

fn pointer(fault: &SchemaFault) -> String {
    fault
        .place
        .iter()
        .flat_map(|part| ["/", part.as_str()])
        .collect()
}

fn first_of_kind(schema: &Value, engine: SchemaEngine, kind: SchemaFaultKind) -> (String, String) {
    let fault = faults(schema, engine)
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("{schema}"));
    assert_eq!(fault.kind, kind, "{schema}");
    (pointer(&fault), fault.keyword)
}

#[test]
fn what_llama_cpp_passes_over_is_found_with_its_place() {
    let at = |place: &str, keyword: &str| Some((place.to_owned(), keyword.to_owned()));
    for (schema, expected) in [
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}, "title": "T"}),
            None,
        ),
        (
            json!({"type": "array", "items": {"type": "integer", "minimum": 1}, "uniqueItems": true}),
            at("", "uniqueItems"),
        ),
        (
            json!({"properties": {"a": {"type": "number", "minimum": 0}}}),
            at("/properties/a", "minimum"),
        ),
        (
            json!({"properties": {"a": {"type": "string", "pattern": "x"}}}),
            at("/properties/a", "pattern"),
        ),
        (
            json!({"properties": {"a": {"type": "string", "pattern": "^x$"}}}),
            None,
        ),
        (
            json!({"anyOf": [{"type": "string"}, {"not": {}}]}),
            at("/anyOf/1", "not"),
        ),
        (
            json!({"allOf": [{"type": "string", "format": "uri"}], "title": "T"}),
            at("/allOf/0", "format"),
        ),
        (
            json!({"$defs": {"a": {"multipleOf": 2}}, "$ref": "#/$defs/a"}),
            at("/$defs/a", "multipleOf"),
        ),
        (json!({"properties": {"not": {"type": "string"}}}), None),
        (json!({"format": "email"}), None),
        (json!({"format": "ipv6"}), at("", "format")),
    ] {
        assert_eq!(found(&schema, SchemaEngine::LlamaCpp), expected, "{schema}");
    }
}

#[test]
fn what_llguidance_passes_over_is_found_with_its_place() {
    let at = |place: &str, keyword: &str| Some((place.to_owned(), keyword.to_owned()));
    for (schema, expected) in [
        (
            json!({"multipleOf": 2, "pattern": "x", "format": "email", "minimum": 0.5, "$id": "urn:x"}),
            None,
        ),
        (json!({"uniqueItems": true}), at("", "uniqueItems")),
        (json!({"items": {"if": {}}}), at("/items", "if")),
        (
            json!({"type": ["integer", "null"], "format": "int32"}),
            None,
        ),
        (json!({"format": "iri"}), at("", "format")),
        (json!({"type": "string", "format": "phone"}), None),
        (
            json!({"type": "string", "pattern": r"^(?!\.)a\d+$"}),
            at("", "pattern"),
        ),
        (
            json!({"type": "string", "pattern": r"\bword\b"}),
            at("", "pattern"),
        ),
        (
            json!({"type": "string", "pattern": r"^[\w.+-]+\/\p{L}{2,}$|^x"}),
            None,
        ),
        (
            json!({"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#"}], "$defs": {"a": {"type": "null"}}}),
            None,
        ),
        (
            json!({"properties": {"a": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": {}}}),
            at("/properties/a", "$ref"),
        ),
        (
            json!({"properties": {"a": {"$id": "urn:x"}}}),
            at("/properties/a", "$id"),
        ),
        (
            json!({"additionalProperties": {"type": "null"}, "minProperties": 1}),
            None,
        ),
        (
            json!({"additionalProperties": {"type": "null"}, "minProperties": 2}),
            at("", "minProperties"),
        ),
        (
            json!({"enum": [1, {"a": 9_007_199_254_740_993_i64}]}),
            at("", "enum"),
        ),
        (json!({"const": "a\u{1}"}), at("", "const")),
        (json!({"const": "a\n\u{e9}"}), None),
        (
            json!({"prefixItems": [{"type": "null"}], "additionalItems": false}),
            at("", "prefixItems"),
        ),
        (json!({"x-guidance": {"lenient": true}}), None),
    ] {
        assert_eq!(
            found(&schema, SchemaEngine::Llguidance),
            expected,
            "{schema}"
        );
    }
}

#[test]
fn a_keyword_whose_value_is_none_it_can_have_is_found_with_its_place() {
    for (schema, place, keyword) in [
        (json!({"type": "objekt"}), "", "type"),
        (json!({"type": []}), "", "type"),
        (json!({"properties": 7}), "", "properties"),
        (json!({"properties": {"a": 7}}), "", "properties"),
        (
            json!({"properties": {"a": {"required": "b"}}}),
            "/properties/a",
            "required",
        ),
        (json!({"items": {"enum": []}}), "/items", "enum"),
        (json!({"anyOf": []}), "", "anyOf"),
        (json!({"anyOf": {"type": "null"}}), "", "anyOf"),
        (json!({"minItems": -1}), "", "minItems"),
        (
            json!({"type": "integer", "exclusiveMinimum": "3"}),
            "",
            "exclusiveMinimum",
        ),
    ] {
        for engine in [SchemaEngine::LlamaCpp, SchemaEngine::Llguidance] {
            let found = first_of_kind(&schema, engine, SchemaFaultKind::Malformed);
            assert_eq!(found, (place.to_owned(), keyword.to_owned()), "{schema}");
        }
    }
    let fine = json!({"type": ["string", "null"], "minLength": 2.0, "items": true, "anyOf": [true, {"type": "null"}]});
    assert!(found(&fine, SchemaEngine::Llguidance).is_none());
}

#[test]
fn what_no_value_can_keep_to_is_found_with_its_place() {
    for (schema, keyword) in [
        (
            json!({"type": "string", "minLength": 3, "maxLength": 2}),
            "maxLength",
        ),
        (
            json!({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2}),
            "maxItems",
        ),
        (
            json!({"type": "integer", "minimum": 3, "maximum": 2}),
            "maximum",
        ),
        (
            json!({"type": "integer", "minimum": 3, "exclusiveMaximum": 3}),
            "exclusiveMaximum",
        ),
    ] {
        let schema = json!({"type": "object", "properties": {"a": schema}});
        for engine in [SchemaEngine::LlamaCpp, SchemaEngine::Llguidance] {
            let found = first_of_kind(&schema, engine, SchemaFaultKind::Impossible);
            assert_eq!(
                found,
                ("/properties/a".to_owned(), keyword.to_owned()),
                "{schema}"
            );
        }
    }
    let just = json!({"type": "integer", "minimum": 3, "maximum": 3});
    assert!(found(&just, SchemaEngine::LlamaCpp).is_none());
}

/// Typical schemas of Pydantic and Zod.
#[test]
fn usual_schemas_pass_llama_cpp() {
    let closed = |properties: Value| json!({"type": "object", "properties": properties, "required": ["a"], "additionalProperties": false});
    let cat = json!({"type": "object", "properties": {"kind": {"const": "cat", "type": "string"}}, "required": ["kind"]});
    let dog = json!({"type": "object", "properties": {"kind": {"const": "dog", "type": "string"}}, "required": ["kind"]});
    for property in [
        json!({"anyOf": [{"type": "string"}, {"type": "null"}], "default": null, "title": "A"}),
        json!({"$ref": "#/$defs/cat", "description": "a cat"}),
        json!({"enum": ["x", "y"], "type": "string"}),
        json!({"const": 1, "type": "integer"}),
        json!({"type": ["string", "null"], "enum": ["x", null]}),
        json!({"type": ["integer", "null"], "minimum": 0, "maximum": 9}),
        json!({"type": ["string", "null"], "minLength": 1, "maxLength": 9}),
        json!({"type": "integer", "exclusiveMinimum": 0, "format": "int32"}),
        json!({"type": "number", "format": "double"}),
        json!({"type": "string", "format": "date-time"}),
        json!({"type": "array", "items": {"$ref": "#/$defs/cat"}, "minItems": 1, "maxItems": 3}),
        json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "additionalProperties": true}),
        json!({"type": "object"}),
        json!({"oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
            "discriminator": {"propertyName": "kind", "mapping": {"cat": "#/$defs/cat"}}}),
        json!({"anyOf": [{"type": "integer"}, {"type": "null"}], "type": ["number", "null"]}),
        json!({"allOf": [{"$ref": "#/$defs/cat"}], "description": "as older versions wrote it"}),
        json!({}),
    ] {
        let mut schema = closed(json!({"a": property}));
        schema["$defs"] = json!({"cat": cat, "dog": dog});
        assert_eq!(found(&schema, SchemaEngine::LlamaCpp), None, "{schema}");
    }
}

#[test]
fn llama_cpp_takes_one_way_and_passes_over_what_stands_beside_it() {
    let object = json!({"type": "object", "properties": {"p": {"type": "null"}}});
    let with = |schema: &Value, more: Value| {
        let mut schema = schema.clone();
        schema
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        schema
    };
    let text = json!({"type": "string"});
    for (schema, keyword) in [
        (json!({"$ref": "#/$defs/s", "minLength": 4}), "minLength"),
        (json!({"$ref": "#"}), "$ref"),
        (
            with(&object, json!({"anyOf": [{"required": ["p"]}]})),
            "type",
        ),
        (with(&object, json!({"allOf": [object]})), "allOf"),
        (with(&object, json!({"minProperties": 1})), "minProperties"),
        (
            json!({"type": "string", "allOf": [{"pattern": "^a$"}]}),
            "type",
        ),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
            "oneOf",
        ),
        (json!({"enum": ["x", "xx"], "minLength": 2}), "minLength"),
        (
            json!({"type": "array", "items": {"type": "null"}, "prefixItems": [{"type": "null"}]}),
            "prefixItems",
        ),
        (
            json!({"type": "array", "prefixItems": [{"type": "null"}], "minItems": 2}),
            "minItems",
        ),
        (
            with(&text, json!({"pattern": "^a+$", "maxLength": 2})),
            "maxLength",
        ),
        (with(&text, json!({"pattern": r"^\d+$"})), "pattern"),
        (
            with(&text, json!({"format": "date", "minLength": 20})),
            "minLength",
        ),
        (with(&text, json!({"format": "uri"})), "format"),
        (with(&text, json!({"maxLength": 2000})), "maxLength"),
        (
            json!({"type": ["integer", "number"], "minimum": 3}),
            "minimum",
        ),
    ] {
        let mut schema = schema;
        schema["$defs"] = json!({"s": {"type": "string", "enum": ["a"]}});
        assert_eq!(
            found(&schema, SchemaEngine::LlamaCpp),
            Some((String::new(), keyword.to_owned())),
            "{schema}"
        );
    }
}

/// Schemas that are written differently and mean the same.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_odd_form_is_the_plain_one() {
    let page =
        json!({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]});
    let typeless = json!({"properties": {"id": {"type": "string"}}, "required": ["id"]});
    let noted = |schema: &Value| {
        let mut noted = schema.clone();
        let annotations = json!({"title": "T", "description": "d", "default": null, "examples": [1], "deprecated": true, "readOnly": true,
            "$comment": "c", "x-order": 3, "markdownDescription": "m", "$schema": "http://json-schema.org/draft-07/schema#", "nullable": false});
        noted
            .as_object_mut()
            .unwrap()
            .extend(annotations.as_object().unwrap().clone());
        noted
    };
    let reference = json!({"$ref": "#/$defs/page"});
    let forms = [
        (typeless.clone(), page.clone()),
        (noted(&page), page.clone()),
        (
            json!({"required": ["id"]}),
            json!({"type": "object", "required": ["id"]}),
        ),
        (
            json!({"additionalProperties": false}),
            json!({"type": "object", "additionalProperties": false}),
        ),
        (
            json!({"items": {"type": "null"}}),
            json!({"type": "array", "items": {"type": "null"}}),
        ),
        (
            json!({"minItems": 1}),
            json!({"type": "array", "minItems": 1}),
        ),
        (
            json!({"minLength": 1}),
            json!({"type": "string", "minLength": 1}),
        ),
        (
            json!({"minimum": 1}),
            json!({"type": "number", "minimum": 1}),
        ),
        (json!({"allOf": [reference]}), reference.clone()),
        (noted(&json!({"allOf": [reference]})), reference.clone()),
        (noted(&json!({"anyOf": [typeless]})), page.clone()),
        (json!({"oneOf": [{"allOf": [page]}]}), page.clone()),
        (noted(&reference), reference.clone()),
        (
            json!({"anyOf": [typeless, {"items": {}}]}),
            json!({"anyOf": [page, {"type": "array", "items": {}}]}),
        ),
        (
            json!({"type": "string", "nullable": true}),
            json!({"type": ["string", "null"]}),
        ),
        (
            json!({"$ref": "#/$defs/page", "nullable": true}),
            json!({"anyOf": [reference, {"type": "null"}]}),
        ),
        (
            json!({"allOf": [reference], "nullable": true}),
            json!({"anyOf": [reference, {"type": "null"}]}),
        ),
        (
            json!({"type": "integer", "minimum": 0, "exclusiveMinimum": true}),
            json!({"type": "integer", "exclusiveMinimum": 0}),
        ),
        (
            json!({"type": "integer", "minimum": 0, "exclusiveMinimum": false}),
            json!({"type": "integer", "minimum": 0}),
        ),
        (
            json!({"type": "object", "propertyNames": {"type": "string"}}),
            json!({"type": "object"}),
        ),
        (
            json!({"type": "array", "items": {}, "uniqueItems": false, "minItems": 0}),
            json!({"type": "array", "items": {}}),
        ),
        (
            json!({"type": "string", "minLength": 0, "format": "password"}),
            json!({"type": "string"}),
        ),
        (
            json!({"type": "string", "items": {}, "minimum": 3}),
            json!({"type": "string"}),
        ),
        (
            json!({"type": "string", "enum": ["a", null]}),
            json!({"type": "string", "enum": ["a"]}),
        ),
        (
            json!({"type": "object", "required": null, "properties": null}),
            json!({"type": "object"}),
        ),
        (
            json!({"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "null"}}),
            json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "additionalProperties": false}),
        ),
    ];
    for engine in [SchemaEngine::LlamaCpp, SchemaEngine::Llguidance] {
        for (odd, plain) in &forms {
            let within = |schema: &Value| json!({"type": "object", "properties": {"a": schema}, "$defs": {"page": page}});
            let (odd, plain) = (within(odd), within(plain));
            assert_eq!(fitted(&odd, engine), fitted(&plain, engine), "{odd}");
            assert_eq!(
                fitted(&fitted(&odd, engine), engine),
                fitted(&odd, engine),
                "{odd}"
            );
        }
        assert_eq!(fitted(&typeless, engine), fitted(&page, engine));
    }
}

#[test]
fn what_keeps_its_meaning_is_left_as_it_is() {
    for schema in [
        json!({"properties": {"a": {"type": "null"}}, "items": {"type": "null"}}),
        json!({"enum": ["a", 1, null]}),
        json!({"const": {"properties": 1}}),
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        json!({}),
    ] {
        assert_eq!(fitted(&schema, SchemaEngine::Llguidance), schema);
    }
}

#[test]
fn what_llama_cpp_reads_in_one_form_alone_is_written_so() {
    for (schema, expected) in [
        (
            json!({"type": "object", "properties": {"a": true}, "required": ["q"]}),
            json!({"type": "object", "properties": {"a": {}, "q": {}}, "required": ["q"]}),
        ),
        (
            json!({"type": "array", "maxItems": 2}),
            json!({"type": "array", "maxItems": 2, "items": {}}),
        ),
        (
            json!({"type": "array", "prefixItems": [{"type": "null"}], "items": false}),
            json!({"type": "array", "prefixItems": [{"type": "null"}]}),
        ),
        (
            json!({"type": "integer", "minimum": 3.5, "exclusiveMaximum": 9.5}),
            json!({"type": "integer", "minimum": 4, "maximum": 9}),
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": 3}),
            json!({"type": "integer", "minimum": 4}),
        ),
        (
            json!({"type": "integer", "minimum": -9_007_199_254_740_991_i64, "maximum": 9_007_199_254_740_991_i64}),
            json!({"type": "integer", "minimum": -999_999_999_999_999_i64, "maximum": 999_999_999_999_999_i64}),
        ),
    ] {
        assert!(
            faults(&schema, SchemaEngine::LlamaCpp).is_empty(),
            "{schema}"
        );
        assert_eq!(fitted(&schema, SchemaEngine::LlamaCpp), expected);
    }
}

#[test]
fn formats_that_llama_cpp_does_not_know_are_patterns_that_it_holds() {
    for format in ["email", "hostname", "ipv4"] {
        let schema = json!({"type": "string", "format": format});
        assert!(
            faults(&schema, SchemaEngine::LlamaCpp).is_empty(),
            "{format}"
        );
        let fitted = fitted(&schema, SchemaEngine::LlamaCpp);
        assert!(
            pattern::is_held(fitted["pattern"].as_str().unwrap()) && fitted.get("format").is_none(),
            "{fitted}"
        );
    }
}

#[test]
fn a_reference_that_leads_nowhere_is_found_with_its_place() {
    let schema = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}});
    for engine in [SchemaEngine::LlamaCpp, SchemaEngine::Llguidance] {
        let found = first_of_kind(&schema, engine, SchemaFaultKind::LeadsNowhere);
        assert_eq!(found, ("/properties/a".to_owned(), "$ref".to_owned()));
    }
}

#[test]
fn what_an_engine_passes_over_is_left_out_and_all_of_it_is_told() {
    let schema = json!({"type": "object", "properties": {
        "page": {"type": "number", "minimum": 1},
        "url": {"type": "string", "format": "uri"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
        "one": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}});
    let told: Vec<String> = faults(&schema, SchemaEngine::LlamaCpp)
        .iter()
        .map(|fault| format!("{}/{}", pointer(fault), fault.keyword))
        .collect();
    let expected = [
        "/properties/page/minimum",
        "/properties/url/format",
        "/properties/tags/uniqueItems",
        "/properties/one/oneOf",
    ];
    assert_eq!(told, expected);
    let fitted = fitted(&schema, SchemaEngine::LlamaCpp);
    assert_eq!(fitted["properties"]["page"], json!({"type": "number"}));
    assert_eq!(
        fitted["properties"]["one"],
        json!({"anyOf": [{"type": "integer"}, {"type": "number"}]})
    );
}

#[test]
fn a_function_without_parameters_is_called_with_none() {
    let closed = |parameters: Value| {
        let function =
            serde_json::from_value(json!({"name": "f", "parameters": parameters})).unwrap();
        arguments(&function)["additionalProperties"] == false
    };
    for none in [
        json!(null),
        json!({}),
        json!({"type": "object", "properties": {}, "required": []}),
    ] {
        assert!(closed(none.clone()), "{none}");
    }
    for some in [
        json!({"type": "object"}),
        json!({"type": "object", "properties": {}, "required": ["a"]}),
        json!({"type": "object", "properties": {"a": {"type": "null"}}}),
        json!({"type": "object", "properties": {}, "additionalProperties": true}),
    ] {
        assert!(!closed(some.clone()), "{some}");
    }
}

#[test]
fn llama_cpp_is_sent_no_boolean_in_place_of_a_schema() {
    let refers =
        |to: Value| json!({"properties": {"a": {"$ref": "#/$defs/X"}}, "$defs": {"X": to}});
    for (boolean, expected) in [(true, json!({})), (false, json!({"not": {}}))] {
        let fitted = fitted(&refers(json!(boolean)), SchemaEngine::LlamaCpp);
        assert_eq!(fitted["$defs"]["X"], expected);
        let alternatives = json!({"anyOf": [{"type": "string"}, boolean]});
        let fitted = super::fitted(&alternatives, SchemaEngine::LlamaCpp);
        assert!(
            !fitted.to_string().contains(&boolean.to_string()),
            "{fitted}"
        );
    }
}
