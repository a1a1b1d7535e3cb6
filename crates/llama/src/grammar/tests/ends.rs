//! Every type and every format ends, even if a model writes one token wherever it is allowed, as
//! with a `logit_bias` of 100.

use loggia_wire::openai::FunctionDefinition;
use serde_json::json;

use super::calls::FAMILIES;
use super::*;

/// The tokens with which a model continues without end.
const FAVOURITES: [&[u8]; 22] = [
    b"0", b"1", b"9", b"12", b".", b"-", b"+", b"e", b"E", b"a", b":", b"/", b"Z", b"%", b" ",
    b"\n", b"[", b"{", b"\"", b"\\", b",", b"\n  ",
];

fn text_of(token: Token) -> Vec<u8> {
    match token {
        0..256 => vec![u8::try_from(token).unwrap()],
        FIRST_LONGER.. => LONGER[(token - FIRST_LONGER) as usize].as_bytes().to_vec(),
        FIRST_MARKER.. => MARKERS[(token - FIRST_MARKER) as usize].as_bytes().to_vec(),
        _ => Vec::new(),
    }
}

fn token_of(text: &[u8]) -> Token {
    match text {
        [byte] => Token::from(*byte),
        longer => {
            FIRST_LONGER
                + Token::try_from(
                    LONGER
                        .iter()
                        .position(|word| word.as_bytes() == longer)
                        .unwrap(),
                )
                .unwrap()
        }
    }
}

/// The answer of a model that prefers one token wherever it is allowed, and otherwise closes open
/// values. `None` if the answer does not end within `most` tokens.
fn written(mut constraint: AnswerConstraint, favourite: Token, most: usize) -> Option<String> {
    let mut text = Vec::new();
    for step in 0..most {
        let next = if constraint.is_over() {
            vec![END]
        } else {
            allowed(&mut constraint)
        };
        let ends = [
            favourite,
            END,
            Token::from(b'}'),
            Token::from(b']'),
            Token::from(b'"'),
        ];
        let chosen = ends
            .into_iter()
            .find(|end| next.contains(end))
            .unwrap_or_else(|| next[step * 7 % next.len()]);
        if chosen == END {
            return Some(String::from_utf8(text).unwrap());
        }
        text.extend_from_slice(&text_of(chosen));
        constraint.accept(chosen).unwrap();
    }
    println!(
        "{}",
        String::from_utf8_lossy(&text)
            .chars()
            .take(300)
            .collect::<String>()
    );
    None
}

/// The longest answer with any of the favourites.
fn longest(constraint: &AnswerConstraint, most: usize) -> String {
    let answers = FAVOURITES.into_iter().map(|favourite| {
        written(constraint.clone(), token_of(favourite), most)
            .unwrap_or_else(|| panic!("no end of {favourite:?}"))
    });
    answers
        .inspect(|text| {
            drop(serde_json::from_str::<Value>(text).unwrap_or_else(|why| panic!("{why}: {text}")));
        })
        .max_by_key(String::len)
        .unwrap()
}

#[test]
fn numbers_end_with_a_favourite_digit_too() {
    for (schema, most) in [
        (json!({"type": "integer"}), 20),
        (json!({"type": "integer", "minimum": 0}), 19),
        (json!({"type": "integer", "exclusiveMinimum": 0}), 19),
        (json!({"type": "integer", "minimum": -5}), 19),
        (json!({"type": "integer", "maximum": 10}), 20),
        (json!({"type": "integer", "multipleOf": 10}), 20),
        (
            json!({"type": "integer", "multipleOf": 7, "minimum": 3}),
            19,
        ),
        (
            json!({"type": "integer", "minimum": 10_000_000_000_000_000_i64}),
            19,
        ),
        (json!({"type": ["integer", "null"]}), 20),
        (json!({"allOf": [{"type": "integer"}, {"minimum": 5}]}), 19),
        (
            json!({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]}),
            20,
        ),
        (json!({"enum": [1, 12, 121_212]}), 6),
        (json!({"type": "number"}), 44),
        (json!({"type": "number", "minimum": 0}), 39),
        (json!({"type": "number", "minimum": 1e17}), 38),
        (json!({"type": "number", "exclusiveMinimum": 0}), 39),
        (json!({"type": "number", "exclusiveMaximum": 0}), 40),
        (
            json!({"type": "number", "exclusiveMinimum": 0.5, "maximum": 1}),
            21,
        ),
        (json!({"type": "number", "minimum": 0, "maximum": 1}), 21),
        (json!({"type": "number", "multipleOf": 0.01}), 23),
        (json!({"type": "number", "multipleOf": 100}), 20),
        (json!({"type": ["number", "null"]}), 44),
    ] {
        let text = longest(&of_schema(&grammars(), &schema).unwrap(), 100);
        assert!(text.len() <= most, "{schema}: {text}");
        assert!(
            serde_json::from_str::<f64>(&text).is_ok_and(f64::is_finite),
            "{schema}: {text}"
        );
    }
}

#[test]
fn numbers_that_people_write_have_room() {
    let grammars = grammars();
    let may = |schema: Value, text: &str| {
        assert!(
            may_be(of_schema(&grammars, &schema).unwrap(), text),
            "{schema}: {text}"
        );
    };
    // The id of a message at a chat service, and the largest integer that is exact in JavaScript.
    may(json!({"type": "integer"}), "1403721284563271693");
    may(json!({"type": "integer", "minimum": 0}), "9007199254740991");
    may(
        json!({"type": "integer", "minimum": -9_007_199_254_740_991_i64, "maximum": 9_007_199_254_740_991_i64}),
        "-9007199254740991",
    );
    may(json!({"type": "number"}), "6.62607015e-34");
    may(json!({"type": "number"}), "-1.7e280");
    may(json!({"type": "number"}), "0.000000000000000001");
    may(
        json!({"type": "number", "minimum": 0}),
        "3.14159265358979323",
    );
    may(
        json!({"type": "array", "items": {"type": "number"}}),
        "[1,2.50,3e4,-0]",
    );
}

#[test]
fn each_format_and_each_pattern_of_codes_ends_with_a_favourite_character_too() {
    let within = |most: usize, schema: Value| {
        let text: String =
            serde_json::from_str(&longest(&of_schema(&grammars(), &schema).unwrap(), 6000))
                .unwrap();
        assert!(text.chars().count() <= most, "{schema}: {text}");
    };
    for (format, most) in [
        ("date-time", 35),
        ("time", 24),
        ("date", 10),
        ("duration", 40),
        ("email", 254),
        ("hostname", 253),
        ("ipv4", 15),
        ("ipv6", 45),
        ("uuid", 36),
        ("uri", 2048),
    ] {
        within(most, json!({"type": "string", "format": format}));
        within(most, json!({"type": ["string", "null"], "format": format}));
    }
    for pattern in [
        "^[0-9]+$",
        "^([a-z]+-)*[a-z]+$",
        r"^\S+$",
        r"^\w+([\.-]?\w+)*@\w+([\.-]?\w+)*(\.\w{2,})+$",
    ] {
        within(1024, json!({"type": "string", "pattern": pattern}));
    }
    // The client's own bounds are unchanged.
    within(
        10,
        json!({"type": "string", "pattern": "^[0-9]+$", "maxLength": 10}),
    );
    within(
        3000,
        json!({"type": "string", "format": "uri", "maxLength": 3000}),
    );
    within(
        1028,
        json!({"type": "string", "pattern": "^[0-9]+$", "minLength": 4}),
    );
}

#[test]
fn texts_and_lists_end_too_though_late_and_brackets_within_brackets_do() {
    let tree = json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
        "next": {"$ref": "#/$defs/tree"}, "all": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "additionalProperties": false}}});
    for schema in [
        json!({"type": "string"}),
        json!({"type": "string", "pattern": r"\S"}),
        json!({"type": "string", "minLength": 1}),
        json!({"type": "array"}),
        json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
        json!({"type": "object"}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "patternProperties": {"^x_": {"type": "string"}}, "additionalProperties": false}),
        json!({}),
        json!(true),
        tree,
    ] {
        let text = longest(
            &of_schema(&grammars(), &schema)
                .unwrap()
                .ending_sooner(30, 200),
            20_000,
        );
        let mut depth = 0_usize;
        let deepest = text.bytes().map(|byte| {
            depth = match byte {
                b'[' | b'{' => depth + 1,
                b']' | b'}' => depth - 1,
                _ => depth,
            };
            depth
        });
        assert!(
            text.contains('"') || deepest.max() <= Some(64),
            "{schema}: {text}"
        );
    }
}

#[test]
fn the_arguments_of_a_call_end_in_each_familys_syntax_and_so_do_calls_after_it() {
    let functions: Vec<FunctionDefinition> = serde_json::from_value(json!([
        {"name": "f", "parameters": {"type": "object", "properties": {"id": {"type": "integer"}, "x": {"type": "number"},
            "at": {"type": "string", "format": "date-time"}}, "required": ["id", "x", "at"]}},
        {"name": "g", "parameters": {"type": "object", "additionalProperties": {"type": "number"}}},
        {"name": "h"}
    ]))
    .unwrap();
    let grammars = grammars();
    for (template, _) in FAMILIES {
        for several in [false, true] {
            for function in &functions {
                let syntax = Syntax::of(template, |_| false);
                let writer = Writer {
                    syntax: &syntax,
                    vocabulary: grammars.vocabulary(),
                };
                let calls = Calls {
                    functions: &[function],
                    several,
                    all_strict: true,
                };
                let grammar = compile(&grammars, writer.calls(calls)).unwrap();
                let beginning = Beginning {
                    reasoning: None,
                    begins: Begins::Text,
                    trigger: None,
                };
                let constraint = AnswerConstraint::new(grammars.vocabulary(), grammar, beginning)
                    .ending_sooner(4, 10);
                let favourites = [&b"0"[..], b".", b"e", b"{", b",", b"\n"]
                    .map(token_of)
                    .into_iter();
                for favourite in favourites.chain(FIRST_MARKER..FIRST_LONGER) {
                    let text = written(constraint.clone(), favourite, 20_000);
                    assert!(text.is_some(), "{template} {} {favourite}", function.name);
                }
            }
        }
    }
}

#[test]
fn a_number_in_free_text_is_as_long_as_it_is() {
    let functions: Vec<FunctionDefinition> = serde_json::from_value(
        json!([{"name": "f", "strict": true, "parameters": {"type": "object", "properties": {}}}, {"name": "g"}]),
    )
    .unwrap();
    let functions: Vec<&FunctionDefinition> = functions.iter().collect();
    let long = "3.14159265358979323846264338327950288419716939937510";
    for (template, before, call) in [
        (
            "tools <|python_tag|>",
            "",
            "{\"name\": \"g\", \"parameters\": ",
        ),
        (
            "tools <|channel|> <|message|>",
            "<|channel|>final<|message|>",
            "<|channel|>commentary to=functions.g<|message|>",
        ),
    ] {
        let grammars = grammars();
        let syntax = Syntax::of(template, |_| true).watched();
        let writer = Writer {
            syntax: &syntax,
            vocabulary: grammars.vocabulary(),
        };
        let source = text_or_calls(
            writer,
            Calls {
                functions: &functions,
                several: true,
                all_strict: false,
            },
        );
        let beginning = Beginning {
            reasoning: None,
            begins: Begins::Text,
            trigger: None,
        };
        let constraint = AnswerConstraint::new(
            grammars.vocabulary(),
            compile(&grammars, source).unwrap(),
            beginning,
        );
        assert!(
            may_be(
                constraint.clone(),
                &format!("{before}It is \"{long}\": {long}, [{long}].")
            ),
            "{template}"
        );
        assert!(
            goes_along(
                &mut constraint.clone(),
                &format!("{call}{{\"x\": 3.14159265}}")
            )
            .is_ok(),
            "{template}"
        );
        assert!(
            goes_along(&mut constraint.clone(), &format!("{call}{{\"x\": {long}}}")).is_err(),
            "{template}"
        );
    }
}
