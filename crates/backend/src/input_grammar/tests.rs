use super::*;

fn of(syntax: GrammarSyntax, definition: &str) -> InputGrammar {
    InputGrammar {
        syntax,
        definition: definition.to_owned(),
    }
}

fn lark(definition: &str) -> Result<String, GrammarError> {
    rules(&of(GrammarSyntax::Lark, definition))
}

fn regex(definition: &str) -> Result<String, GrammarError> {
    rules(&of(GrammarSyntax::Regex, definition))
}

#[test]
fn only_what_start_uses_is_written_with_names_of_its_own() {
    let written = lark(
        "// A list.\nstart: item (\",\" item)* -> list\n?item: WORD~2..3 | [NUMBER] \"x\"i\n\
        unused: gone\nWORD: /[a-z]+\\//is & ~\"a\"\n%import common.NUMBER\n%ignore \" \"",
    );
    assert_eq!(
        written.unwrap(),
        "%ignore \" \"\nstart: r1 (\",\" r1)*\nr1: T3{2,3} | T4? \"x\"i\n\
        T3: /[a-z]+\\//is & (~\"a\" & /(?s:.*)/)\n\
        T4: /(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?/\n"
    );
    assert_eq!(regex(r"^a/b\/[/]$").unwrap(), "start: /^a\\/b\\/[\\/]$/\n");
    assert_eq!(regex("").unwrap(), "start: \"\"\n");
}

#[test]
fn a_definition_that_is_no_grammar_is_invalid_and_the_place_is_named() {
    for (definition, message) in [
        ("", "there is no rule 'start'"),
        ("a: \"x\"", "there is no rule 'start'"),
        ("start: \"x", "line 1, column 8: the string does not end"),
        (
            "start: /x",
            "line 1, column 8: the regular expression does not end",
        ),
        ("start: \"\\d\"", "unknown escape"),
        ("start: \"a\nb\"", "line break"),
        ("start: a", "line 1, column 8: 'a' is not defined"),
        ("\nstart: (\"a\" | b", "line 2, column 15: expected ')'"),
        (
            "start: A\nA: b\nb: \"x\"",
            "line 2, column 4: a terminal cannot use the rule 'b'",
        ),
        (
            "start: A\nA: B\nB: \"x\" A",
            "the terminal 'A' contains itself",
        ),
        ("start: ~b\nb: \"x\"", "a terminal cannot use the rule 'b'"),
        ("start: \"a\" & \"b\"", "'&' can only be used in terminals"),
        ("start: start", "no text matches the rule 'start'"),
        (
            "start: \"a\" b\nb: \"x\" c\nc: b",
            "no text matches the rule 'start'",
        ),
        (
            "start: \"a\"\nstart: \"b\"",
            "line 2, column 1: 'start' is defined twice",
        ),
        (
            "start: \"a\" ] \"b\"",
            "line 1, column 12: expected the end of the line",
        ),
        (
            "start: \"b\"..\"a\"",
            "a range needs one character on each side, in order",
        ),
        ("start: \"ab\"..\"c\"", "a range needs"),
        (
            "start: \"a\"~3..2",
            "the numbers of a repetition are not a range",
        ),
        (
            "start: \"a\"{0}",
            "the numbers of a repetition are not a range",
        ),
        ("start: \"a\"~99999999999", "the number is too large"),
        ("start: /a(/", "invalid regular expression: unclosed group"),
        ("start: /a(?=b)/", "look-around"),
        ("start: /a\\bc/", "a word boundary nowhere"),
        (
            "start: /a^b/",
            "an anchor is possible at the beginning and at the end only",
        ),
        ("start: /a$/m", "an anchor"),
        ("start: /a/l", "the flag 'l' is not supported"),
        (
            "start: Aa",
            "the name 'Aa' must be in lower case (a rule) or in upper case (a terminal)",
        ),
        ("start: \"a\" -> \"b\"", "expected the name of an alias"),
        ("start.2: \"a\"", "priorities are not supported"),
        ("start{x}: x", "templates are not supported"),
        ("start: a{b}\na: \"x\"", "templates are not supported"),
        ("start: \"a\"\n%declare B", "'%declare' is not supported"),
        ("start: \"a\"\n%nothing B", "unknown directive '%nothing'"),
        (
            "start: A\n%import python.A",
            "only terminals of 'common' can be imported",
        ),
        ("start: A\n%import common.A", "'common' has no terminal 'A'"),
        ("start: \"a\" $", "line 1, column 12: unexpected '$'"),
        ("start[odd]: \"a\"", "unknown attribute 'odd'"),
        (
            "%llguidance 5\nstart: \"a\"",
            "'%llguidance' needs a JSON object",
        ),
        (
            "{\"type\": \"object\"}",
            "line 1, column 1: expected a rule, a terminal or a directive",
        ),
    ] {
        let refused = lark(definition).unwrap_err();
        assert!(
            matches!(&refused, GrammarError::Invalid(it) if it.contains(message)),
            "{definition}: {refused:?}"
        );
        assert_eq!(
            check(&of(GrammarSyntax::Lark, definition)),
            Err(refused.to_string())
        );
    }
    for definition in ["a(", "(?<=a)b", "\\b", "[b-a]", "a{2,1}", "(?-u:\\xff)"] {
        let refused = regex(definition).unwrap_err();
        assert!(matches!(refused, GrammarError::Invalid(_)), "{definition}");
    }
}

#[test]
fn what_only_cannot_be_enforced_here_is_no_error_of_the_client() {
    let deep = |open: &str, close: &str, times: usize| {
        format!("start: {}\"a\"{}", open.repeat(times), close.repeat(times))
    };
    let rule = |number: usize| format!("a{number}: \"x\" a{}\n", number + 1);
    let chain: String = (0..1200).map(rule).collect();
    let all: Vec<String> = (0..2100).map(|number| format!("a{number}")).collect();
    let many = format!("{}: \"x\"\n", all.join(": \"x\"\n"));
    for definition in [
        "start: <tool_call>".to_owned(),
        "start: @other".to_owned(),
        "start: %json {\"type\": \"object\"}".to_owned(),
        "start: %lark { start: \"a\" }".to_owned(),
        "start[max_tokens=5]: /a*/".to_owned(),
        "start: a::0\na::_: \"x\"".to_owned(),
        "start: /(?P<stop>a)/".to_owned(),
        "%llguidance {\"allow_invalid_utf8\": true}\nstart: \"a\"".to_owned(),
        deep("(", ")", 30),
        format!("start: a0\n{chain}a1200: \"y\"\n"),
        format!("start: {}\n{many}", all.join(" ")),
        format!("start: \"{}\"", "a".repeat(LONGEST_DEFINITION)),
        format!("start: /{}/", "a".repeat(20_000)),
        format!("start: /{}/", "\\pL".repeat(2_000)),
        format!("start: /{}/i", "\\pL".repeat(100)),
        format!("start: {}", "/(?i)[[:alpha:]]/ ".repeat(100)),
        "start: \"a\"~3000000000".to_owned(),
    ] {
        let refused = lark(&definition).unwrap_err();
        let shown: String = definition.chars().take(60).collect();
        assert!(
            matches!(refused, GrammarError::Unsupported(_)),
            "{shown}: {refused:?}"
        );
        assert_eq!(check(&of(GrammarSyntax::Lark, &definition)), Ok(()));
    }
    assert!(lark(&deep("(", ")", 20)).is_ok());
}

#[test]
fn no_definition_panics_or_takes_long() {
    let pieces = [
        "start",
        ": ",
        "a",
        "A",
        "\n",
        "\"x\"",
        "\"",
        "/x*/",
        "/",
        "(",
        ")",
        "[",
        "]",
        "|",
        "&",
        "~",
        "*",
        "{2,3}",
        "{",
        "}",
        "~1..2",
        "..",
        "->",
        "%ignore ",
        "%import common.WS",
        "%llguidance {}",
        "[lazy]",
        "[suffix=\"x\"]",
        "é",
        "//c\n",
        "1",
        ".",
        ",",
        "\\",
        "?",
        "!",
        "%",
    ];
    // Every pair and many longer mixtures, by a simple generator.
    let mut state = 7_u64;
    let mut next = |most: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % most
    };
    for _ in 0..20_000 {
        let length = 1 + next(24);
        let text: String = (0..length).map(|_| pieces[next(pieces.len())]).collect();
        for syntax in [GrammarSyntax::Lark, GrammarSyntax::Regex] {
            let _ = rules(&of(syntax, &format!("start: {text}")));
            let _ = rules(&of(syntax, &text));
        }
    }
}
