//! The input of custom tools: the text within the argument's string matches the client's grammar.

use loggia_wire::openai::{FunctionDefinition, GrammarSyntax, InputGrammar};
use serde_json::{Value, json};

use super::calls::FAMILIES;
use super::*;
use crate::grammar::Calls;
use crate::syntax::Watch;

/// The constraint of an answer that must be a call of `patch`, whose input has this grammar.
pub(super) fn call_of(
    syntax: GrammarSyntax,
    definition: &str,
) -> Result<AnswerConstraint, CompileError> {
    call_in("tools <tool_call>", syntax, definition)
}

fn call_in(
    template: &str,
    syntax: GrammarSyntax,
    definition: &str,
) -> Result<AnswerConstraint, CompileError> {
    let grammars = grammars();
    let function = function(syntax, definition);
    let family = Syntax::of(template, |_| false);
    let writer = Writer {
        syntax: &family,
        vocabulary: grammars.vocabulary(),
    };
    let source = writer.calls(Calls {
        functions: &[&function],
        several: false,
        all_strict: false,
    });
    let beginning = Beginning {
        reasoning: None,
        begins: Begins::Text,
        trigger: None,
    };
    Ok(AnswerConstraint::new(
        grammars.vocabulary(),
        compile(&grammars, source)?,
        beginning,
    ))
}

fn function(syntax: GrammarSyntax, definition: &str) -> FunctionDefinition {
    let mut function: FunctionDefinition = serde_json::from_value(json!({"name": "patch",
        "parameters": {"type": "object", "properties": {"input": {"type": "string"}}}}))
    .unwrap();
    function.input_grammar = Some(InputGrammar {
        syntax,
        definition: definition.to_owned(),
    });
    function
}

/// The call with this input, as a model writes it.
fn call(input: &str) -> String {
    let arguments = json!({"input": input});
    format!("<tool_call>\n{{\"name\": \"patch\", \"arguments\": {arguments}}}\n</tool_call>")
}

/// Whether the input of a call may be this text.
fn may_be_input(constraint: &AnswerConstraint, input: &str) -> bool {
    may_be(constraint.clone(), &call(input))
}

/// A patch as agents write it, with every construct of the real grammar.
const PATCH: &str = r#"
start: head part+ foot
head: "*** Begin Patch" LF
foot: "*** End Patch" LF?

part: new_file | old_file | changed_file
new_file: "*** Add File: " path LF added+
old_file: "*** Delete File: " path LF
changed_file: "*** Update File: " path LF moved? changes?

path: /(.+)/
added: "+" /(.*)/ LF -> line
moved: "*** Move to: " path LF
changes: (place | change)+ ending?
place: ("@@" | "@@ " /(.+)/) LF
change: ("+" | "-" | " ") /(.*)/ LF
ending: "*** End of File" LF

%import common.LF
"#;

#[test]
fn a_patch_is_taken_token_by_token_and_what_is_none_is_not() {
    let constraint = call_of(GrammarSyntax::Lark, PATCH).unwrap();
    for patch in [
        "*** Begin Patch\n*** Delete File: a.txt\n*** End Patch",
        "*** Begin Patch\n*** Add File: é \"q\".txt\n+one\n+\n+\tback\\slash\n*** End Patch\n",
        "*** Begin Patch\n*** Update File: src/a.rs\n*** Move to: b.rs\n@@ fn a() {\n-old\n+new\n same\n*** End of File\n*** Delete File: c\n*** End Patch",
        "*** Begin Patch\n*** Update File: a\n@@\n \n*** End Patch",
    ] {
        assert!(
            may_be_input(&constraint, patch),
            "{patch}: {:?}",
            goes_along(&mut constraint.clone(), &call(patch))
        );
    }
    for (patch, good) in [
        ("", 0),
        ("*** Begin Patch\n*** End Patch", 20),
        ("*** Begin Patch\n*** Delete File: \n*** End Patch", 33),
        ("*** Begin Patch\n*** Add File: a\nx", 32),
        ("*** Begin Patch\n*** Delete File: a\n*** End Patch\n\n", 49),
        ("*** Begin Patch\r\n", 15),
    ] {
        assert!(!may_be_input(&constraint, patch), "{patch}");
        let spelled = |text: &str| {
            let spelled = Value::from(text).to_string();
            spelled[1..spelled.len() - 1].len()
        };
        let begun = call("").find("\"\"").unwrap() + 1;
        let at = goes_along(&mut constraint.clone(), &call(patch)).unwrap_err();
        let markers = "<tool_call>".len() - 1;
        assert!(
            at + markers >= begun + spelled(&patch[..good]),
            "{patch}: {at} {begun}"
        );
    }
}

/// A grammar, texts that match it, and others.
type Case = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const LARK: &[Case] = &[
    (r#"start: "a\nb""#, &["a\nb"], &["a\\nb", "anb", "a"]),
    (r"start: /\\n/", &["\\n"], &["\n", "n", ""]),
    (
        r#"start: /"[^"]*"/"#,
        &["\"\"", "\"a\n\\\""],
        &["\"", "\"\"\"", "a"],
    ),
    (
        r"start: /[\x00-\x1f]/",
        &["\0", "\u{1b}", "\n", "\u{1f}"],
        &[" ", "", "\\"],
    ),
    (
        r#"start: "\u001b[0m""#,
        &["\u{1b}[0m"],
        &["[0m", "\u{1c}[0m"],
    ),
    (
        r"start: /\x7f./",
        &["\u{7f}\u{7f}", "\u{7f}/"],
        &["\u{7f}\n"],
    ),
    (
        r"start: /./",
        &["a", "é", "𝄞", "\\", "\"", "\t", "/"],
        &["\n", "ab", ""],
    ),
    (r"start: /./s", &["\n"], &["\n\n"]),
    (r"start: /\w+/", &["aé_9"], &["a b", "-", ""]),
    (r"start: /\W+/", &[" \n\"\\-"], &["a", "é", ""]),
    (r"start: /\S\s\D\d/", &["a\n\\5", "\\\u{2003}x0"], &["  x1"]),
    (r#"start: "ä\\"i"#, &["Ä\\", "ä\\"], &["a\\"]),
    (r"start: /ab+/i", &["ABb", "abb"], &["a"]),
    (
        r#"start: ("a".."f")~2..3"#,
        &["af", "bcd"],
        &["a", "abcd", "ag"],
    ),
    (
        r#"start: "a"{2,} ["b"]"#,
        &["aa", "aaaab"],
        &["a", "ab", "aabb"],
    ),
    (
        r#"start: [","] "x" ("," "x")*"#,
        &["x", ",x,x"],
        &["", "x,"],
    ),
    ("start: A\nA: ~\"ab\"", &["a", "abc", "", "\n"], &["ab"]),
    (
        "start: \"<\" (~/.*[x>].*/s) \">\"",
        &["<ab>", "<\\\"\n>", "<>"],
        &["<axb>", "<>>", ""],
    ),
    (
        "start: A\nA: /[a-z]+/ & /.{3}/ & ~/.*b.*/",
        &["acd"],
        &["abc", "ac", "ac\n"],
    ),
    (
        "start: A\nA: B C | \"\"\nB: \"b\"\nC: \"\\n\"",
        &["b\n", ""],
        &["b", "bc"],
    ),
    ("start: (|\"a\") \"b\"", &["b", "ab"], &["a", ""]),
    (
        "?start: _x\n!_x: \"(\" _x \")\"\n   | \"x\" -> leaf",
        &["x", "((x))"],
        &["(x", ""],
    ),
    (
        "// a comment\nstart: a // one\n  # another\n\n  | b\na: \"a\"\nb: \"b\"",
        &["a", "b"],
        &["ab"],
    ),
    (
        "start: \"a\" bad | \"b\" | bad?\nbad: \"x\" bad",
        &["b", ""],
        &["a", "ax", "x"],
    ),
    (
        "%llguidance {}\nstart[capture]: a\na[lazy]: /x*!/",
        &["x!", "!"],
        &["x", "!!"],
    ),
    (
        "start: a \"c\"\na[suffix=\"\\n\"]: /[^c]*/",
        &["ab\nc", "\nc"],
        &["a\n\nc", "c"],
    ),
    (
        "start: INT (\",\" INT)*\n%import common.INT\n%ignore / |\\n/",
        &["1,2", "1 ,\n2"],
        &["1 2", "a"],
    ),
    (
        "%import common (WORD, NUMBER)\nstart: WORD NUMBER",
        &["a1.5e3", "ab.5"],
        &["a", "1"],
    ),
    (
        "%import common.ESCAPED_STRING -> TEXT\nstart: TEXT",
        &["\"a\\\"b\""],
        &["\"a\"b\"", "\""],
    ),
];

#[test]
fn the_text_itself_matches_and_not_its_spelling_as_json() {
    for (definition, good, bad) in LARK {
        let constraint = call_of(GrammarSyntax::Lark, definition)
            .unwrap_or_else(|refused| panic!("{definition}: {refused:?}"));
        for text in *good {
            assert!(
                may_be_input(&constraint, text),
                "{definition} should take {text:?}: {:?}",
                goes_along(&mut constraint.clone(), &call(text))
            );
        }
        for text in *bad {
            assert!(
                !may_be_input(&constraint, text),
                "{definition} should not take {text:?}"
            );
        }
    }
}

const REGEX: &[Case] = &[
    (
        r"^(?P<year>\d{4})-\d\d$",
        &["2026-11"],
        &["2026-11 ", "x2026-11", "2026-1"],
    ),
    (r"a|b", &["a", "b"], &["ab", ""]),
    (r"^a$|^b$", &["a", "b"], &["ab", "^a$"]),
    (
        r"(?i)select .+?;",
        &["SELECT a;", "select ;;"],
        &["select ;", "select a"],
    ),
    (r"", &[""], &["a"]),
    (r"/\*.*\*/", &["/* \"a\" */"], &["/*/", "/* \n */"]),
    (r"(?s).*", &["", "a\n\"\\"], &[]),
    (r"(?x) a  b # comment", &["ab"], &["a b"]),
    (r"\p{Greek}+[^\p{L}]", &["αβ1", "Ω\n"], &["α", "a1"]),
    (r"(?-u:[a-c]+)", &["abc"], &["d"]),
];

#[test]
fn a_regular_expression_is_for_the_whole_text() {
    for (definition, good, bad) in REGEX {
        let constraint = call_of(GrammarSyntax::Regex, definition)
            .unwrap_or_else(|refused| panic!("{definition}: {refused:?}"));
        for text in *good {
            assert!(
                may_be_input(&constraint, text),
                "{definition} should take {text:?}"
            );
        }
        for text in *bad {
            assert!(
                !may_be_input(&constraint, text),
                "{definition} should not take {text:?}"
            );
        }
    }
}

/// The call of `patch` with this input, in the syntax of each family.
fn call_as(template: &str, input: &str) -> String {
    let arguments = json!({"input": input}).to_string();
    let (_, call) = FAMILIES.iter().find(|(it, _)| *it == template).unwrap();
    call.replace("time", "patch")
        .replace("{\"zone\":\"CET\"}", &arguments)
}

#[test]
fn each_family_keeps_to_the_grammar_in_a_call_that_must_be_made() {
    let definition = "start: (\"a\" LF)+ /[\"{}]*/\n%import common.LF";
    for (template, _) in FAMILIES {
        let constraint = call_in(template, GrammarSyntax::Lark, definition).unwrap();
        for (input, is_good) in [
            ("a\n", true),
            ("a\na\n\"}{\"", true),
            ("a", false),
            ("a\nb", false),
            ("", false),
        ] {
            let call = call_as(template, input);
            assert_eq!(
                may_be(constraint.clone(), &call),
                is_good,
                "{template}: {call}: {:?}",
                goes_along(&mut constraint.clone(), &call)
            );
        }
    }
}

/// The constraint of an answer that may be text, or calls of `patch` and of `other`.
fn optional(syntax: Syntax) -> AnswerConstraint {
    let grammars = grammars();
    let patch = function(GrammarSyntax::Lark, "start: \"a\" LF\n%import common.LF");
    let other: FunctionDefinition = serde_json::from_value(json!({"name": "other"})).unwrap();
    let calls = Calls {
        functions: &[&other, &patch],
        several: true,
        all_strict: false,
    };
    let writer = Writer {
        syntax: &syntax,
        vocabulary: grammars.vocabulary(),
    };
    let mut beginning = Beginning {
        reasoning: syntax.reasoning(),
        begins: Begins::Text,
        trigger: None,
    };
    let source = match syntax.watch().unwrap() {
        Watch::Mark(trigger) => {
            beginning.trigger = Some(trigger);
            writer.rest_of_calls(calls, trigger.mark)
        }
        Watch::Whole => {
            beginning.reasoning = beginning
                .reasoning
                .filter(|_| syntax.answer_head().is_empty());
            text_or_calls(writer, calls)
        }
    };
    AnswerConstraint::new(
        grammars.vocabulary(),
        compile(&grammars, source).unwrap(),
        beginning,
    )
}

#[test]
fn an_optional_call_keeps_to_the_grammar_and_text_stays_free() {
    for (template, call) in FAMILIES {
        let syntax = Syntax::of(template, |_| true);
        if syntax.watch().is_none() {
            continue;
        }
        let constraint = optional(syntax);
        for (input, is_good) in [("a\n", true), ("a", false), ("b\n", false)] {
            let call = call_as(template, input);
            assert_eq!(
                may_be(constraint.clone(), &call),
                is_good,
                "{template}: {call}: {:?}",
                goes_along(&mut constraint.clone(), &call)
            );
        }
        let other = call
            .replace("time", "other")
            .replace("{\"zone\":\"CET\"}", r#"{"input": "b\n", "x": ["\"", {}]}"#);
        assert!(
            may_be(constraint.clone(), &other),
            "{template}: {other}: {:?}",
            goes_along(&mut constraint.clone(), &other)
        );
        let text = if syntax.answer_head().is_empty() {
            "A \"text\" \\ with {\"input\": \"b\"}\n"
        } else {
            "<|channel|>final<|message|>A \"text\" \\ with {\"input\": \"b\"}\n"
        };
        assert!(
            goes_along(&mut constraint.clone(), text).is_ok(),
            "{template}"
        );
    }
}

#[test]
fn every_spelling_of_a_character_is_its_own() {
    let constraint = call_of(GrammarSyntax::Lark, r"start: /[\/\x00-\x20a]*/").unwrap();
    let begun = "<tool_call>\n{\"name\": \"patch\", \"arguments\": {\"input\":\"";
    let goes = |text: &str| goes_along(&mut constraint.clone(), &format!("{begun}{text}")).is_ok();
    for good in [
        "\\n\\t\\r\\b\\f",
        "\\/",
        "/",
        "\\u0000\\u001F\\u001f",
        " a",
        "\\u00",
    ] {
        assert!(goes(good), "{good}");
    }
    for bad in [
        "\\u0061", "\\u000a", "\\u002", "\\u01", "\\\"", "\\\\", "\\x", "\n", "\u{1}", "b",
    ] {
        assert!(!goes(bad), "{bad}");
    }
    // No escape is begun that has no end.
    let plain = call_of(GrammarSyntax::Regex, "[a-z]*").unwrap();
    let mut constraint = plain.clone();
    goes_along(&mut constraint, begun).unwrap();
    assert!(!allowed(&mut constraint).contains(&Token::from(b'\\')));
    let escape = call_of(GrammarSyntax::Regex, "\u{1b}").unwrap();
    let mut constraint = escape.clone();
    for (before, next) in [
        (begun, "\\"),
        ("\\", "u"),
        ("u", "0"),
        ("0", "0"),
        ("0", "1"),
        ("1", "Bb"),
    ] {
        goes_along(&mut constraint, before).unwrap();
        let expected: Vec<Token> = next.bytes().map(Token::from).collect();
        let allowed = allowed(&mut constraint);
        assert_eq!(allowed, expected, "{before}");
    }
}

#[test]
fn a_token_may_be_a_part_of_the_call_of_the_input_and_of_what_follows() {
    // The quote that begins the input and more, an escape and more, the quote that ends it and more.
    let definition = "start: \"ab\" /[ab} ]*/ LF \"}\" \n%import common.LF";
    let mut constraint = call_of(GrammarSyntax::Lark, definition).unwrap();
    let begun = "<tool_call>\n{\"name\": \"patch\", \"arguments\": {\"input\"";
    goes_along(&mut constraint, begun).unwrap();
    let longer = |text: &str| {
        FIRST_LONGER + Token::try_from(LONGER.iter().position(|it| *it == text).unwrap()).unwrap()
    };
    for token in [
        Token::from(b':'),
        Token::from(b'"'),
        longer("ab"),
        longer("ab"),
        longer("}}"),
        longer("  "),
        Token::from(b'\\'),
        Token::from(b'n'),
        Token::from(b'}'),
    ] {
        assert!(allowed(&mut constraint).contains(&token), "{token}");
        constraint.accept(token).unwrap();
    }
    assert!(!allowed(&mut constraint).contains(&Token::from(b'}')));
    for token in tokens("\"}") {
        constraint.accept(token).unwrap();
    }
    assert!(allowed(&mut constraint).contains(&longer("}\n")));
}

#[test]
fn a_grammar_that_nothing_satisfies_is_refused() {
    for definition in ["start: A\nA: \"a\" & \"b\"", "start: /[^\\s\\S]/ \"a\""] {
        let refused = call_of(GrammarSyntax::Lark, definition).unwrap_err();
        assert_eq!(
            (refused.param.as_str(), refused.message.as_str()),
            ("tools[patch].format.definition", "nothing satisfies it")
        );
    }
}

#[test]
fn grammars_at_the_limits_compile_or_are_refused_with_their_field() {
    let chained = |times: usize, name: &str| {
        let one = |number: usize| format!("{name}{number}: \"x\" {name}{}\n", number + 1);
        let all: String = (0..times).map(one).collect();
        format!("start: {name}0\n{all}{name}{times}: \"y\"\n")
    };
    for definition in [
        chained(480, "a"),
        chained(480, "A"),
        format!("start: {}\"a\"{}", "(".repeat(20), ")".repeat(20)),
        format!("start: {}\"a\"{}", "~(".repeat(20), ")".repeat(20)),
        "start: /(?:(?:[a-z]{1,60}){1,60}b){1,60}/".to_owned(),
        "start: a{100000}\na: b{100000}\nb: \"x\"{100000}".to_owned(),
        format!("start: /{}/", "[a-z]{1,9}".repeat(200)),
        "start: a a a a a a\na: b | b b | \"\"\nb: /[a-z]/ a | /[a-y]/".to_owned(),
        "start: A\nA: \"a\" & \"b\"".to_owned(),
        format!("start: {}", "/[a-z]+x/ | ".repeat(2000) + "\"a\""),
    ] {
        let shown: String = definition.chars().take(50).collect();
        match call_of(GrammarSyntax::Lark, &definition) {
            // A grammar that turns out too complex ends its answer with an error.
            Ok(mut constraint) => {
                let begun = "<tool_call>\n{\"name\": \"patch\", \"arguments\": {\"input\":\"x";
                for token in tokens(begun) {
                    let mut row = vec![0.0; 256 + 2 + MARKERS.len() + LONGER.len()];
                    if constraint.mask(&mut row).is_err() || !row[token as usize].is_finite() {
                        break;
                    }
                    constraint.accept(token).unwrap();
                }
            }
            Err(refused) => {
                assert_eq!(
                    refused.param, "tools[patch].format.definition",
                    "{shown}: {refused:?}"
                );
                assert!(!refused.message.is_empty());
            }
        }
    }
}
