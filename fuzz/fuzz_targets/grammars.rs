//! Any JSON schema and any GBNF grammar as the constraint of an answer. Each is compiled or
//! refused, an answer can always continue or end, and what was generated under a schema is JSON
//! when the answer may end.
//!
//! The modules are included from the engine's crate file by file, because the crate itself compiles
//! llama.cpp.
#![no_main]

#[path = "../../crates/llama/src/grammar/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "what the engine's crate uses of it and this target does not"
)]
mod grammar;
#[path = "../../crates/llama/src/sample/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the same")]
mod sample;
#[path = "../../crates/llama/src/syntax/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the same")]
mod syntax;

use std::sync::LazyLock;

use grammar::{AnswerConstraint, Beginning, Grammars, Part, Source, Vocabulary, Words, Writer};
use libfuzzer_sys::arbitrary::{self, Unstructured};
use libfuzzer_sys::fuzz_target;
use sample::Constraint;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use syntax::{Begins, Syntax};

type Token = u32;

/// The token that ends an answer. The tokens below it are single bytes; those above it are longer.
const END: Token = 256;
const LONGER: [&str; 12] = [
    "{\"", "\": ", "true", "null", "12", "ab", "}}", "\n  ", "\",", "[[", "é", "1e9",
];

/// The maximum number of tokens of one answer, because a schema may allow endless ones.
const MOST_TOKENS: usize = 48;

/// The maximum depth of a generated schema.
const DEEPEST: u8 = 5;

static GRAMMARS: LazyLock<Grammars> = LazyLock::new(|| {
    let bytes = (0..=255).map(|byte: u8| vec![byte]);
    let longer = LONGER.iter().map(|word| word.as_bytes().to_vec());
    let tokens = bytes.chain([b"<end>".to_vec()]).chain(longer).collect();
    let words = Words {
        tokens,
        ends: vec![END],
        markers: Vec::new(),
    };
    Grammars::new(Vocabulary::new(words, None).expect("a vocabulary")).expect("its grammars")
});

fuzz_target!(|input: &[u8]| {
    // Fails if the input has too few bytes.
    if let Ok(Some((source, mut choices))) = drawn(input) {
        let _ = hold(source, &mut choices);
    }
});

/// Splits the input into a constraint and the bytes that choose its tokens. If the input begins
/// like a schema or a GBNF grammar, the text up to a NUL is the constraint, and it also chooses the
/// tokens if nothing follows. Otherwise a schema is generated from the bytes.
fn drawn(input: &[u8]) -> arbitrary::Result<Option<(Source, Unstructured<'_>)>> {
    let mut parts = input.splitn(2, |&byte| byte == 0);
    let text = parts.next().unwrap_or_default();
    let choices = Unstructured::new(parts.next().filter(|rest| !rest.is_empty()).unwrap_or(text));
    let source = match (input.first(), str::from_utf8(text)) {
        (Some(b'{'), Ok(text)) => serde_json::from_str(text)
            .ok()
            .map(|schema| held_to(&schema)),
        (Some(b'r'), Ok(text)) => Some(Source::Gbnf(text.to_owned())),
        _ => {
            let mut bytes = Unstructured::new(input);
            let is_gbnf: bool = bytes.arbitrary()?;
            let source = if is_gbnf {
                Source::Gbnf(gbnf(&mut bytes)?)
            } else {
                held_to(&with_definitions(&mut bytes)?)
            };
            return Ok(Some((source, bytes)));
        }
    };
    Ok(source.map(|source| (source, choices)))
}

/// Generates an answer under the constraint.
fn hold(source: Source, choices: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let is_json = matches!(source, Source::Guided { .. });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let compiled = runtime.block_on(GRAMMARS.compile(source));
    let Ok(grammar) = compiled.inspect_err(|refused| assert!(!refused.message.is_empty())) else {
        return Ok(());
    };
    let beginning = Beginning {
        reasoning: None,
        begins: Begins::Text,
        trigger: None,
    };
    let mut constraint = AnswerConstraint::new(GRAMMARS.vocabulary(), grammar, beginning);
    let mut written = Vec::new();
    for _ in 0..MOST_TOKENS {
        if constraint.is_over() {
            return ended(&written, is_json);
        }
        let mut row = vec![0.0; 257 + LONGER.len()];
        // A grammar that has grown too large ends its answer with an error.
        if constraint.mask(&mut row).is_err() {
            return Ok(());
        }
        let allowed: Vec<Token> = (0..)
            .zip(&row)
            .filter(|(_, logit)| logit.is_finite())
            .map(|(token, _)| token)
            .collect();
        let token = *choices.choose(&allowed)?;
        if token == END {
            return ended(&written, is_json);
        }
        constraint.accept(token).expect("what is allowed is taken");
        match token.checked_sub(END + 1) {
            Some(longer) => written.extend_from_slice(LONGER[longer as usize].as_bytes()),
            None => written.push(u8::try_from(token).expect("a byte")),
        }
    }
    Ok(())
}

fn ended(written: &[u8], is_json: bool) -> arbitrary::Result<()> {
    if is_json {
        // Checks the syntax only: JSON allows numbers that no type can hold.
        let read = serde_json::from_slice::<&RawValue>(written);
        assert!(
            read.is_ok(),
            "{read:?}: {}",
            String::from_utf8_lossy(written)
        );
    }
    Ok(())
}

fn held_to(schema: &Value) -> Source {
    let syntax = Syntax::of("{{ messages }}", |_| false);
    Writer {
        syntax: &syntax,
        vocabulary: GRAMMARS.vocabulary(),
    }
    .answer(Part::new("value", "the.schema", schema), None)
}

/// Generates a schema with definitions, which may refer to each other.
fn with_definitions(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
    let mut all = schema(bytes, 0)?;
    if let Value::Object(fields) = &mut all
        && bytes.arbitrary()?
    {
        fields.insert(
            "$defs".to_owned(),
            json!({"a": schema(bytes, 1)?, "b": schema(bytes, 1)?}),
        );
    }
    Ok(all)
}

fn schema(bytes: &mut Unstructured<'_>, depth: u8) -> arbitrary::Result<Value> {
    if depth > DEEPEST || bytes.is_empty() {
        return Ok(json!({"type": "null"}));
    }
    let mut fields = Map::new();
    for _ in 0..bytes.int_in_range(0..=3)? {
        let (keyword, value) = keyword(bytes, depth)?;
        fields.insert(keyword.to_owned(), value);
    }
    Ok(Value::Object(fields))
}

const KEYWORDS: [&str; 26] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "items",
    "prefixItems",
    "anyOf",
    "oneOf",
    "allOf",
    "enum",
    "const",
    "pattern",
    "format",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "multipleOf",
    "minProperties",
    "maxProperties",
    "$ref",
    "not",
];

const FORMATS: [&str; 11] = [
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uuid",
    "x",
];

fn keyword(bytes: &mut Unstructured<'_>, depth: u8) -> arbitrary::Result<(&'static str, Value)> {
    let keyword = *bytes.choose(&KEYWORDS)?;
    let value = match keyword {
        "type" => types(bytes)?,
        "properties" | "patternProperties" => properties(bytes, depth)?,
        "required" => json!([
            bytes.choose(&["a", "b", "zz", ""])?,
            bytes.choose(&["a", "ab"])?
        ]),
        "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
            json!([schema(bytes, depth + 1)?, schema(bytes, depth + 1)?])
        }
        "additionalProperties" | "items" if bytes.arbitrary()? => Value::Bool(bytes.arbitrary()?),
        "additionalProperties" | "items" | "not" => schema(bytes, depth + 1)?,
        "enum" => json!([literal(bytes)?, literal(bytes)?]),
        "const" => literal(bytes)?,
        "pattern" => json!(pattern(bytes)?),
        "format" => json!(bytes.choose(&FORMATS)?),
        "$ref" => {
            json!(bytes.choose(&["#", "#/$defs/a", "#/$defs/b", "#/nowhere", "http://x/y", ""])?)
        }
        _ => number(bytes)?,
    };
    Ok((keyword, value))
}

fn properties(bytes: &mut Unstructured<'_>, depth: u8) -> arbitrary::Result<Value> {
    let mut all = Map::new();
    for _ in 0..bytes.int_in_range(0..=3)? {
        let name = bytes.choose(&["a", "b", "ab", "^a", "\"", "é", ""])?;
        all.insert((*name).to_owned(), schema(bytes, depth + 1)?);
    }
    Ok(Value::Object(all))
}

fn types(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
    const TYPES: [&str; 8] = [
        "object", "array", "string", "integer", "number", "boolean", "null", "what",
    ];
    if bytes.arbitrary()? {
        Ok(json!(bytes.choose(&TYPES)?))
    } else {
        Ok(json!([bytes.choose(&TYPES)?, bytes.choose(&TYPES)?]))
    }
}

fn number(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
    Ok(match bytes.int_in_range(0..=5)? {
        0 => json!(bytes.arbitrary::<i64>()?),
        1 => json!(bytes.arbitrary::<f64>()?),
        2 => json!(1_000_000_000),
        3 => json!(-1),
        4 => json!(0.1),
        _ => json!(bytes.int_in_range(0..=9)?),
    })
}

fn literal(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Value> {
    Ok(match bytes.int_in_range(0..=4)? {
        0 => json!(
            bytes
                .arbitrary::<&str>()?
                .chars()
                .take(16)
                .collect::<String>()
        ),
        1 => number(bytes)?,
        2 => json!({"a": [1, null]}),
        3 => json!([]),
        _ => Value::Null,
    })
}

fn pattern(bytes: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    let mut pattern = String::new();
    for _ in 0..bytes.int_in_range(0..=8)? {
        let pieces = [
            "a", "b", "^", "$", "(", ")", "[^a-c]", "*", "+", "?", "{2,300}", "|", ".", "\\d",
            "\\p{L}", "é", "(?=a)", "\\b", "\\", "\"",
        ];
        pattern.push_str(bytes.choose(&pieces)?);
    }
    Ok(pattern)
}

fn gbnf(bytes: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    let mut text = "root ::= ".to_owned();
    for _ in 0..bytes.int_in_range(0..=24)? {
        let pieces = [
            "root ",
            "a ",
            "b ",
            "\na ::= ",
            "\nb ::= ",
            "\"x\" ",
            "\"é\\n\" ",
            "\"\" ",
            "[a-z] ",
            "[^\\\"] ",
            ". ",
            "( ",
            ") ",
            "| ",
            "* ",
            "+ ",
            "? ",
            "{2} ",
            "{1,40} ",
            "{,3} ",
            "{999999999} ",
            "# c\n",
            "\n",
            "[",
        ];
        text.push_str(bytes.choose(&pieces)?);
    }
    Ok(text)
}
