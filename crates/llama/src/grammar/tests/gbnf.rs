//! Grammars that the client sends.

use super::*;

fn of_grammar(text: &str) -> Result<AnswerConstraint, CompileError> {
    let grammars = grammars();
    let grammar = compile(&grammars, Source::Gbnf(text.to_owned()))?;
    let beginning = Beginning {
        reasoning: None,
        begins: Begins::Text,
        trigger: None,
    };
    Ok(AnswerConstraint::new(
        grammars.vocabulary(),
        grammar,
        beginning,
    ))
}

fn keeps(grammar: &str, text: &str) -> bool {
    may_be(of_grammar(grammar).unwrap(), text)
}

/// Arithmetic and nested values, in the style of llama.cpp's own examples.
const NESTED: &str = r#"
# a comment
root  ::= value
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;

#[test]
fn a_grammar_lets_through_what_it_describes_and_nothing_else() {
    for right in [
        r#"{"a": [1, -2.5e3, "é\"😀", {"b": null}], "c": true}"#,
        "[]",
        "{\n \"x\":[[[]]]}",
    ] {
        assert!(keeps(NESTED, right), "{right}");
    }
    for wrong in [r#"{"a" 1}"#, "[1,]", "[[]", "tru", "\"a\nb\"", "1 2"] {
        assert!(!keeps(NESTED, wrong), "{wrong}");
    }
}

#[test]
fn each_part_of_the_language_means_what_llama_cpp_says() {
    let cases: [(&str, &[&str], &[&str]); 9] = [
        (
            r#"root ::= "ab"+ [x-z]? "!""#,
            &["ab!", "ababz!"],
            &["!", "abxx!"],
        ),
        (
            r"root ::= [^a-z\n]{2,3}",
            &["AB", "é1😀"],
            &["A", "ABCD", "aB", "A\n"],
        ),
        (r#"root ::= "a"{2} "b"{1,} "c"{,}"#, &[], &[]),
        (
            r#"root ::= "a"{2} "b"{1,} "c"{0,1}"#,
            &["aab", "aabbbc"],
            &["ab", "aabcc"],
        ),
        ("root ::= . .", &["éé", "\n\n"], &["a", "abc"]),
        (
            r#"root ::= "\x41\u00e9\U0001F600\t\"\\" [\[\]\-]"#,
            &["Aé😀\t\"\\[", "Aé😀\t\"\\-"],
            &["A"],
        ),
        (
            "root ::= (\n \"a\" # the first\n | \"b\"\n)\n\nother ::= \"c\"",
            &["a", "b"],
            &["c"],
        ),
        (r#"root ::= "a" "bc" | "ab" "d""#, &["abc", "abd"], &["ab"]),
        (
            r#"root ::= "(" root ")" | """#,
            &["", "((()))"],
            &["(()", ")"],
        ),
    ];
    for (grammar, right, wrong) in cases.into_iter().filter(|case| !case.1.is_empty()) {
        assert!(
            right.iter().all(|text| keeps(grammar, text)),
            "{grammar}: {right:?}"
        );
        assert!(
            !wrong.iter().any(|text| keeps(grammar, text)),
            "{grammar}: {wrong:?}"
        );
    }
}

#[test]
fn a_broken_grammar_is_told_with_its_place() {
    for (grammar, says) in [
        ("", "no rule 'root'"),
        ("root := \"a\"", "expected '::=' at line 1, column 6"),
        ("root ::= \"a\n", "'\"' is not closed at line 1, column 10"),
        ("root ::= [a-z\n", "'[' is not closed at line 1, column 10"),
        (
            "root ::= (\"a\"\nb ::= \"c\"",
            "expected ')' at line 2, column 3",
        ),
        (
            "root ::= a\nb ::= \"x\"",
            "'a' is not written anywhere at line 1, column 10",
        ),
        (
            "root ::= \"a\"\nroot ::= \"b\"",
            "written twice at line 2, column 1",
        ),
        ("root ::= *", "nothing to repeat at line 1, column 10"),
        (
            "root ::= \"a\"{3,2}",
            "no number of times at line 1, column 13",
        ),
        ("root ::= \"a\"{99999999999999999999}", "no number of times"),
        (
            "root ::= \"a\"{9}{9}",
            "nothing to repeat at line 1, column 16",
        ),
        (
            "root ::= \"a\"{100000}{100000}",
            "too large at line 1, column 21",
        ),
        ("root ::= (\"aaaaaaaaaa\"{50000})", "too large"),
        (
            "root ::= \"\\q\"",
            "'\\q' means nothing at line 1, column 13",
        ),
        ("root ::= [z-a]", "ends before it begins"),
        (
            "root ::= <[12]>",
            "tokens ('<…') cannot be named here at line 1, column 10",
        ),
        ("root ::= \"a\" )", "unexpected ')' at line 1, column 14"),
        (
            "root ::= root \"a\" | \"b\"",
            "left recursion at line 1, column 1",
        ),
        (
            "root ::= \"x\" | a\na ::= b? a \"c\"\nb ::= \"\"",
            "'a' begins with itself",
        ),
        ("root ::= (\"a\"*)*", "left recursion at line 1, column 10"),
    ] {
        let refused = of_grammar(grammar).map(|_| ()).unwrap_err();
        assert!(
            refused.param == "grammar" && refused.message.contains(says),
            "{grammar:?}: {refused:?}"
        );
    }
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(1000), ")".repeat(1000));
    assert!(
        of_grammar(&deep)
            .unwrap_err()
            .message
            .contains("too deeply")
    );
}

#[test]
fn an_ambiguous_grammar_is_an_error_and_not_the_end() {
    let twice = "root ::= a a a a a a a a a a a a\na ::= b | b b | \"\"\nb ::= [a-z] a | [a-y]";
    match of_grammar(twice) {
        Err(refused) => assert_eq!(refused.param, "grammar"),
        Ok(mut constraint) => {
            for _ in 0..40 {
                let mut row = vec![0.0; 300];
                if constraint.mask(&mut row).is_err()
                    || constraint.accept(Token::from(b'a')).is_err()
                {
                    return;
                }
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_brings_the_reader_down(text in "[a-c\"\\[\\](){}|*+?.:=\\\\\n #^,0-9<>!-]{0,40}", tail in ".{0,10}") {
        let _ = of_grammar(&format!("root ::= {text}"));
        let _ = of_grammar(&format!("root ::= \"a\"\n{text}{tail}"));
    }
}
