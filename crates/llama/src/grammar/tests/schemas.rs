//! JSON schemas: valid values are allowed, token by token, and nothing else is.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn keeps(schema: &Value, text: &str) -> bool {
    may_be(of_schema(&grammars(), schema).unwrap(), text)
}

#[test]
fn properties_come_in_the_order_of_the_schema() {
    let schema = json!({"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "boolean"}},
        "required": ["b", "a"], "additionalProperties": false});
    assert!(keeps(&schema, r#"{"b":1,"a":true}"#));
    assert!(keeps(&schema, "{\n  \"b\": -20,\n  \"a\": false\n}"));
    for wrong in [
        r#"{"a":true,"b":1}"#,
        r#"{"b":1}"#,
        r#"{"b":1,"a":true,"c":1}"#,
        r#"{"b":"1","a":true}"#,
        " {}",
        "[]",
    ] {
        assert!(!keeps(&schema, wrong), "{wrong}");
    }
}

#[test]
fn an_object_that_names_its_properties_and_says_nothing_of_others_gets_no_others() {
    let city =
        json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    let cities = json!({"$defs": {"city": city}, "type": "object", "properties": {"all": {"type": "array", "items": {"$ref": "#/$defs/city"}}}});
    assert!(keeps(&city, r#"{"name":"a"}"#) && !keeps(&city, r#"{"name":"a","b":1}"#));
    assert!(keeps(&cities, r#"{"all":[{"name":"a"}]}"#) && !keeps(&cities, r#"{"x":1}"#));
    assert!(!keeps(&cities, r#"{"all":[{"name":"a","b":1}]}"#));
    // If the schema mentions other properties, or requires names that it does not describe, they
    // are allowed.
    let mut open = city.clone();
    open["additionalProperties"] = json!(true);
    assert!(keeps(&open, r#"{"name":"a","b":1}"#));
    assert!(keeps(
        &json!({"properties": {"a": {"type": "null"}}, "required": ["b"], "type": "object"}),
        r#"{"b":1}"#
    ));
    assert!(keeps(
        &json!({"type": "object", "properties": {}}),
        r#"{"b":1}"#
    ));
}

#[test]
fn a_format_of_numbers_is_a_note() {
    let schema = json!({"type": "object", "properties": {"a": {"type": ["integer", "null"], "format": "int32"}}, "required": ["a"]});
    assert!(
        keeps(&schema, r#"{"a":12}"#)
            && keeps(&schema, r#"{"a":null}"#)
            && !keeps(&schema, r#"{"a":"x"}"#)
    );
}

#[test]
fn schemas_that_hold_for_one_value_together_close_nothing_for_each_other() {
    let a = json!({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]});
    let b = json!({"type": "object", "properties": {"b": {"type": "null"}}, "required": ["b"]});
    assert!(keeps(&json!({"allOf": [a, b]}), r#"{"a":null,"b":null}"#));
    let mut both = a.clone();
    both["anyOf"] = json!([b]);
    assert!(keeps(&both, r#"{"a":null,"b":null}"#));
}

#[test]
fn objects_are_closed_one_by_one() {
    let point = json!({"type": "object", "properties": {"x": {"type": "null"}}, "required": ["x"]});
    let schema = json!({"$defs": {"point": point}, "type": "object", "properties": {
        "a": {"allOf": [{"$ref": "#/$defs/point"}], "description": "Where."},
        "b": {"allOf": [point, {"type": "object", "properties": {"y": {"type": "null"}}, "required": ["y"]}]}}, "required": ["a", "b"]});
    let b = r#""b":{"x":null,"y":null}"#;
    assert!(keeps(&schema, &format!(r#"{{"a":{{"x":null}},{b}}}"#)));
    assert!(!keeps(
        &schema,
        &format!(r#"{{"a":{{"x":null,"z":1}},{b}}}"#)
    ));
    assert!(!keeps(
        &schema,
        &format!(r#"{{"a":{{"x":null}},{b},"z":1}}"#)
    ));
    // An object that another schema describes too stays open, in its own place and where it is
    // referenced.
    let shared = json!({"$defs": {"point": point}, "allOf": [{"$ref": "#/$defs/point"}, {"properties": {"y": {"type": "null"}}, "required": ["y"]}]});
    assert!(keeps(&shared, r#"{"x":null,"y":null}"#));
}

#[test]
fn an_object_is_meant_where_properties_are_named_without_a_type() {
    let page = |name: &str| json!({"properties": {name: {"type": "string", "maxLength": 3}}, "required": [name]});
    let union = json!({"type": "object", "properties": {"parent": {"anyOf": [page("p"), page("q")]}}, "required": ["parent"]});
    assert!(
        keeps(&union, r#"{"parent":{"q":"a"}}"#)
            && !keeps(&union, r#"{"parent":"a"}"#)
            && !keeps(&union, r#"{"parent":1}"#)
    );
    assert!(keeps(&page("p"), r#"{"p":"a"}"#) && !keeps(&page("p"), r#""a""#));
}

#[test]
fn an_answer_ends_where_its_value_does() {
    let grammars = grammars();
    let mut object = of_schema(&grammars, &json!({"type": "object"})).unwrap();
    goes_along(&mut object, r#"{"a": [1, {"b": null}]"#).unwrap();
    assert!(!object.is_over() && !allowed(&mut object).contains(&END));
    object.accept(Token::from(b'}')).unwrap();
    assert!(object.is_over(), "nothing may follow the last bracket");
    // A number could continue; the model ends it with any of its end tokens.
    let mut number = of_schema(&grammars, &json!({"type": "integer"})).unwrap();
    assert!(!allowed(&mut number).contains(&END));
    goes_along(&mut number, "12").unwrap();
    assert!(
        !number.is_over()
            && [END, OTHER_END]
                .iter()
                .all(|end| allowed(&mut number).contains(end))
    );
}

#[test]
fn spaces_between_parts_do_not_go_on_for_ever() {
    let schema = json!({"type": "object"});
    assert!(keeps(&schema, "{ }") && keeps(&schema, "{\n        \"a\": 1\n}"));
    assert!(!keeps(&schema, "{  \"a\": 1}") && !keeps(&schema, "{\n\n\"a\": 1}"));
}

#[test]
fn no_string_holds_a_marker_or_half_a_character() {
    let mut constraint = of_schema(&grammars(), &json!({"type": "string"})).unwrap();
    constraint.mask(&mut vec![0.0; 300]).unwrap();
    constraint.accept(Token::from(b'"')).unwrap();
    let next = allowed(&mut constraint);
    assert!((FIRST_MARKER..FIRST_MARKER + 12).all(|marker| !next.contains(&marker)));
    constraint.accept(0xc3).unwrap();
    assert!(!allowed(&mut constraint).contains(&Token::from(b'"')));
    assert!(allowed(&mut constraint).contains(&0xa9));
}

#[test]
fn a_name_that_is_taken_cannot_come_again_in_other_letters() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}});
    assert!(keeps(&schema, r#"{"a":1,"b":"x"}"#));
    assert!(!keeps(&schema, r#"{"a":1,"\u0061":"x"}"#) && !keeps(&schema, r#"{"a":1,"a":"x"}"#));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn keywords_hold() {
    let cases = [
        (
            json!({"enum": ["a", 2, null, {"x": [1]}]}),
            vec!["\"a\"", "2", "null", r#"{"x":[1]}"#],
            vec!["\"b\"", "3"],
        ),
        (json!({"const": "é"}), vec!["\"é\""], vec!["\"e\"", "\"é"]),
        (
            json!({"type": ["string", "null"], "maxLength": 2}),
            vec!["null", "\"ab\""],
            vec!["\"abc\"", "1"],
        ),
        (
            json!({"type": "string", "minLength": 2}),
            vec!["\"ab\"", "\"éé\""],
            vec!["\"é\""],
        ),
        (
            json!({"type": "string", "pattern": "^[A-Z]{2}\\d+$"}),
            vec!["\"AB12\""],
            vec!["\"A1\"", "\"AB12 \""],
        ),
        (
            json!({"type": "string", "pattern": "b"}),
            vec!["\"abc\""],
            vec!["\"ac\""],
        ),
        (
            json!({"type": "string", "format": "date"}),
            vec!["\"2024-02-29\""],
            vec!["\"2024-02-30\"", "\"24-1-1\""],
        ),
        (
            json!({"type": "integer", "minimum": 3, "maximum": 12}),
            vec!["3", "12"],
            vec!["2", "13", "3.0"],
        ),
        (
            json!({"type": "number", "exclusiveMinimum": 0.5}),
            vec!["0.51", "7"],
            vec!["0.5", "-1"],
        ),
        (
            json!({"type": "integer", "multipleOf": 7}),
            vec!["49", "-7", "0"],
            vec!["48"],
        ),
        (
            json!({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}),
            vec!["[true]", "[true,false]"],
            vec!["[]", "[true,true,true]", "[1]"],
        ),
        (
            json!({"type": "array", "prefixItems": [{"const": 1}], "items": false}),
            vec!["[1]", "[]"],
            vec!["[1,1]", "[2]"],
        ),
        (
            json!({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}),
            vec!["1", "[1]"],
            vec!["\"1\""],
        ),
        (
            json!({"oneOf": [{"type": "integer"}, {"type": "string"}]}),
            vec!["1", "\"a\""],
            vec!["null"],
        ),
        (
            json!({"allOf": [{"type": "integer"}, {"minimum": 5}]}),
            vec!["5"],
            vec!["4", "\"a\""],
        ),
        (
            json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"next": {"$ref": "#/$defs/tree"}},
            "additionalProperties": false}}}),
            vec!["{}", r#"{"next":{"next":{}}}"#],
            vec![r#"{"next":1}"#],
        ),
        (
            json!({"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": false}),
            vec![r#"{"x_a":1}"#, "{}"],
            vec![r#"{"y":1}"#, r#"{"x_a":"1"}"#],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 1}),
            vec!["{}", r#"{"a":1}"#],
            vec![r#"{"a":1,"b":2}"#],
        ),
        (json!(true), vec!["1", "[]"], vec!["x"]),
        (json!({}), vec!["1", r#"{"a":null}"#], vec!["x"]),
    ];
    for (schema, right, wrong) in cases {
        assert!(
            right.iter().all(|text| keeps(&schema, text)),
            "{schema}: {right:?}"
        );
        assert!(
            !wrong.iter().any(|text| keeps(&schema, text)),
            "{schema}: {wrong:?}"
        );
    }
}

#[test]
fn what_cannot_be_enforced_or_satisfied_is_refused_with_its_field() {
    let refusal = |schema: Value| of_schema(&grammars(), &schema).map(|_| ()).unwrap_err();
    for (schema, says) in [
        (
            json!({"type": "string", "format": "uri", "minLength": 2500}),
            "is empty",
        ),
        (
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}),
            "nothing satisfies it",
        ),
        (json!(false), "false"),
    ] {
        let refused = refusal(schema.clone());
        assert!(
            refused.param == "the.schema" && refused.message.contains(says),
            "{schema}: {refused:?}"
        );
    }
}

/// A randomly generated schema.
#[derive(Debug, Clone)]
enum Kind {
    Integer(i64, i64),
    Text(usize),
    Bool,
    OneOf(Vec<String>),
    List(Box<Kind>, usize),
    Object(Vec<(String, Kind, bool)>),
}

fn kinds() -> impl Strategy<Value = Kind> {
    let leaf = prop_oneof![
        (-50..50_i64, 0..100_i64).prop_map(|(least, more)| Kind::Integer(least, least + more)),
        (0..6_usize).prop_map(Kind::Text),
        Just(Kind::Bool),
        prop::collection::vec("[a-c\"é]{1,2}", 1..4).prop_map(Kind::OneOf),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let property = ("[a-d]{1,2}", inner.clone(), any::<bool>());
        prop_oneof![
            (inner, 0..3_usize).prop_map(|(kind, most)| Kind::List(Box::new(kind), most)),
            prop::collection::vec(property, 0..4).prop_map(|mut all| {
                all.sort_by(|a, b| b.0.cmp(&a.0));
                all.dedup_by(|a, b| a.0 == b.0);
                Kind::Object(all)
            }),
        ]
    })
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (-60..160_i64).prop_map(Value::from),
        "[a-c\"\\\\\n é]{0,6}".prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a-d]{1,2}", inner), 0..3)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

impl Kind {
    fn schema(&self) -> Value {
        match self {
            Self::Integer(least, most) => {
                json!({"type": "integer", "minimum": least, "maximum": most})
            }
            Self::Text(most) => json!({"type": "string", "maxLength": most}),
            Self::Bool => json!({"type": "boolean"}),
            Self::OneOf(all) => json!({"enum": all}),
            Self::List(kind, most) => {
                json!({"type": "array", "items": kind.schema(), "maxItems": most})
            }
            Self::Object(all) => {
                let properties: Map<String, Value> = all
                    .iter()
                    .map(|(name, kind, _)| (name.clone(), kind.schema()))
                    .collect();
                let required: Vec<&str> = all
                    .iter()
                    .filter(|one| one.2)
                    .map(|one| one.0.as_str())
                    .collect();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }
        }
    }

    /// A valid value, selected by a number.
    fn value(&self, by: usize) -> Value {
        match self {
            Self::Integer(least, most) => {
                Value::from(least + i64::try_from(by).unwrap() % (most - least + 1))
            }
            Self::Text(most) => Value::from(
                "aé\"\\\n "[..]
                    .chars()
                    .cycle()
                    .skip(by)
                    .take(by % (most + 1))
                    .collect::<String>(),
            ),
            Self::Bool => Value::from(by.is_multiple_of(2)),
            Self::OneOf(all) => Value::from(all[by % all.len()].as_str()),
            Self::List(kind, most) => (0..by % (most + 1))
                .map(|i| kind.value(by / 2 + i))
                .collect(),
            Self::Object(all) => {
                let there = all
                    .iter()
                    .enumerate()
                    .filter(|(i, (_, _, required))| *required || (by >> i).is_multiple_of(2));
                Value::Object(
                    there
                        .map(|(i, (name, kind, _))| (name.clone(), kind.value(by / 3 + i)))
                        .collect(),
                )
            }
        }
    }

    /// Whether a value is valid and has its properties in the schema's order.
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Integer(least, most), Value::Number(number)) => number
                .as_i64()
                .is_some_and(|n| (*least..=*most).contains(&n)),
            (Self::Text(most), Value::String(text)) => text.chars().count() <= *most,
            (Self::Bool, Value::Bool(_)) => true,
            (Self::OneOf(all), Value::String(text)) => all.contains(text),
            (Self::List(kind, most), Value::Array(items)) => {
                items.len() <= *most && items.iter().all(|item| kind.holds(item))
            }
            (Self::Object(all), Value::Object(fields)) => {
                let place = |name: &str| all.iter().position(|one| one.0 == name);
                let places: Option<Vec<usize>> = fields.keys().map(|name| place(name)).collect();
                places.is_some_and(|places| places.is_sorted())
                    && all
                        .iter()
                        .all(|(name, _, required)| !required || fields.contains_key(name))
                    && fields.iter().all(|(name, value)| {
                        place(name).is_some_and(|place| all[place].1.holds(value))
                    })
            }
            _ => false,
        }
    }
}

/// Changes one value somewhere.
fn spoil(value: &mut Value, by: usize, with: &Value) {
    match value {
        Value::Array(items) if !items.is_empty() && !by.is_multiple_of(3) => {
            let place = by % items.len();
            spoil(&mut items[place], by / 3, with);
        }
        Value::Object(fields) if !fields.is_empty() && by % 4 > 1 => {
            let name = fields.keys().nth(by % fields.len()).unwrap().clone();
            spoil(&mut fields[&name], by / 4, with);
        }
        Value::Object(fields) if !fields.is_empty() && by % 4 == 1 => {
            let name = fields.keys().nth(by % fields.len()).unwrap().clone();
            fields.shift_remove(&name);
        }
        other => *other = with.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_grammar_lets_through_what_conforms_and_nothing_else(
        kind in kinds(), by in 0..10_000_usize, other in values(), spoiled in any::<bool>()
    ) {
        let mut value = kind.value(by);
        prop_assert!(kind.holds(&value));
        if spoiled {
            spoil(&mut value, by, &other);
        }
        let constraint = of_schema(&grammars(), &kind.schema()).unwrap();
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            prop_assert_eq!(may_be(constraint.clone(), &text), kind.holds(&value), "{} by {}", text, kind.schema());
        }
    }
}
