//! Calls of custom tools whose input has a grammar, by a model so small that it would not keep to
//! one alone, at temperature 1. Each input is judged without the engine's own grammars.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use loggia_backend::{Ability, Backend, BackendError, ChatCall, Event};
use loggia_wire::openai::{FinishReason, GrammarSyntax, InputGrammar};
use regex::Regex;
use serde_json::{Value, json};

use crate::support::{Whole, ask, call, open};

const NATIVE: &str = "{% for tool in tools or [] %}{{ tool | tojson }} <tool_call>{% endfor %}\
    {% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";

/// A request that must call the custom tool `write`, as the door makes a function of it.
fn custom(temperature: u32, seed: u32, syntax: GrammarSyntax, definition: &str) -> ChatCall {
    let parameters = json!({"type": "object", "properties": {"input": {"type": "string"}},
        "required": ["input"], "additionalProperties": false});
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    let fields = json!({"tools": [tool("other"), tool("write")], "max_tokens": 250,
        "temperature": temperature, "seed": seed,
        "tool_choice": {"type": "function", "function": {"name": "write"}}});
    let mut call = call("Write something.", fields);
    let tools = Arc::make_mut(&mut call.work).tools.iter_mut().flatten();
    for function in tools.filter_map(|tool| tool.function.as_mut()) {
        if function.name == "write" {
            function.input_grammar = Some(InputGrammar {
                syntax,
                definition: definition.to_owned(),
            });
        }
    }
    call
}

/// The input of the only call. `None` if the limit of tokens has cut it.
fn input(whole: &Whole) -> Option<String> {
    let functions = || whole.calls.iter().filter_map(|call| call.function.as_ref());
    let arguments: String = functions()
        .filter_map(|function| function.arguments.as_deref())
        .collect();
    if whole.finish == Some(FinishReason::Length) {
        return None;
    }
    let arguments: Value = serde_json::from_str(&arguments)
        .unwrap_or_else(|_| panic!("no JSON: {arguments}: {whole:?}"));
    let input = arguments["input"].as_str().expect("a text");
    assert_eq!(arguments, json!({ "input": input }));
    Some(input.to_owned())
}

fn is_match(expression: &str, text: &str) -> bool {
    let whole = format!(r"\A(?:{expression})\z");
    let whole = Regex::new(&whole).expect("a regular expression");
    whole.is_match(text)
}

const PATCH: &str = r#"
start: head part~1..2 foot
head: "*** Begin Patch" LF
foot: "*** End Patch" LF?
part: new_file | old_file | changed_file
new_file: "*** Add File: " path LF added~1..3
old_file: "*** Delete File: " path LF
changed_file: "*** Update File: " path LF moved? change~1..3
path: /[^\n]{1,12}/
added: "+" /(.{0,12})/ LF -> line
moved: "*** Move to: " path LF
change: ("+" | "-" | " ") /.{0,12}/ LF
%import common.LF
"#;

fn is_patch(text: &str) -> bool {
    let part = r"\*{3} Add File: .{1,12}\n(?:\+.{0,12}\n){1,3}|\*{3} Delete File: .{1,12}\n|\*{3} Update File: .{1,12}\n(?:\*{3} Move to: .{1,12}\n)?(?:[+ -].{0,12}\n){1,3}";
    let patch = format!(r"\*{{3}} Begin Patch\n(?:{part}){{1,2}}\*{{3}} End Patch\n?");
    is_match(&patch, text)
}

/// Sums and products in brackets, with spaces.
const SUM: &str = "start: sum\nsum: product ((\"+\" | \"-\") product)~0..2\nproduct: atom (\"*\" atom)~0..2\n\
    atom: NUMBER | \"(\" NUMBER \"+\" NUMBER \")\"\nNUMBER: /[0-9]{1,3}/\n%ignore /[ \\n]/";

fn is_sum(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !" \n".contains(*c)).collect();
    let atom = r"(?:[0-9]{1,3}|\([0-9]{1,3}\+[0-9]{1,3}\))";
    let product = format!(r"{atom}(?:\*{atom}){{0,2}}");
    is_match(&format!(r"{product}(?:[+-]{product}){{0,2}}"), &text)
}

const EXPRESSIONS: [&str; 6] = [
    r"(?:[A-Z][a-z]{1,8} ){1,4}[a-z]{1,8}\.",
    r#""(?:[^"\\]|\\["\\nt]){2,20}""#,
    r"(?s)<p>.{3,30}</p>",
    r"(?i:select) \*\n\tfrom [a-z_]{1,10}(?: where \w{1,6} = '[^'\n]{0,8}')?;",
    r"[\\/]{2,6}|\d{4}-\d\d-\d\d\r\n",
    r"[\p{Greek}\p{Cyrillic} ]{2,12}\u{1f600}?",
];

#[tokio::test]
async fn what_a_model_writes_at_temperature_1_matches_the_grammar() {
    let llama = open(|_| ());
    let ask_for = |(syntax, definition, seed): (GrammarSyntax, &'static str, u32)| {
        let llama = &llama;
        async move {
            let whole = ask(llama, custom(1, seed, syntax, definition)).await;
            assert_eq!(whole.error, None);
            (definition, input(&whole))
        }
    };
    let mut asked: Vec<_> = (0..6)
        .flat_map(|seed| {
            let lark = [PATCH, SUM].map(|it| (GrammarSyntax::Lark, it, seed));
            let regex = EXPRESSIONS.map(|it| (GrammarSyntax::Regex, it, seed));
            lark.into_iter().chain(regex)
        })
        .collect();
    let mut judged = 0;
    while !asked.is_empty() {
        let some = asked.split_off(asked.len().saturating_sub(6));
        for (definition, input) in join_all(some.into_iter().map(ask_for)).await {
            let Some(input) = input else { continue };
            let is_good = match definition {
                PATCH => is_patch(&input),
                SUM => is_sum(&input),
                regex => is_match(regex, &input),
            };
            assert!(is_good, "{definition}: {input:?}");
            judged += 1;
        }
    }
    assert!(judged > 30, "only {judged} calls have ended");
}

#[tokio::test]
async fn in_the_models_own_syntax_it_holds_too_and_the_deltas_are_the_arguments() {
    let llama = open(|options| options.chat_template = Some(NATIVE.to_owned()));
    let definition = "start: LINE~3\nLINE: /[a-z]{1,6}\n/";
    let asked = custom(0, 0, GrammarSyntax::Lark, definition);
    let mut events = llama.start(asked.into()).await.unwrap().events;
    let mut pieces = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Chunk(chunk) = event.unwrap() {
            let calls = chunk.choices.into_iter();
            let calls = calls.filter_map(|choice| choice.delta.tool_calls).flatten();
            pieces.extend(calls.filter_map(|call| call.function?.arguments));
        }
    }
    assert!(pieces.len() > 1, "{pieces:?}");
    let arguments: Value = serde_json::from_str(&pieces.concat()).unwrap();
    let input = arguments["input"].as_str().unwrap();
    assert!(is_match(r"(?:[a-z]{1,6}\n){3}", input), "{arguments}");
}

#[tokio::test]
async fn a_grammar_that_only_the_engine_cannot_enforce_is_left_out_and_named_unless_all_is_strict()
{
    let llama = open(|_| ());
    let abilities = llama.abilities("smollm2").await.unwrap();
    assert!(abilities.has(Ability::InputGrammars));
    let unheld = "start[max_tokens=3]: /a*/";
    let class = |number: u32| format!("/[\\w&&[^\\x{{{:x}}}]]{{{number}}}/", 0x100 + number);
    let classes: Vec<String> = (1..250).map(class).collect();
    let complex = format!("start: {}", classes.join(" | "));
    for definition in [unheld, &complex] {
        let asked = || custom(0, 0, GrammarSyntax::Lark, definition);
        let reply = llama.start(asked().into()).await.unwrap();
        assert_eq!(reply.served_by.ignored, ["tools[].format"], "{definition}");
        let whole = crate::support::read(reply.events).await;
        assert_eq!(whole.error, None);
        let mut strict = asked();
        strict.head.strict = true;
        let Some(BackendError::InvalidRequest { param, message, .. }) =
            ask(&llama, strict).await.error
        else {
            panic!("it is refused")
        };
        assert_eq!(
            param.as_deref(),
            Some("tools[1].format.definition"),
            "{message}"
        );
    }
    let broken = custom(0, 0, GrammarSyntax::Lark, "start: nothing");
    let Some(BackendError::InvalidRequest { param, message, .. }) = ask(&llama, broken).await.error
    else {
        panic!("it is refused")
    };
    assert_eq!(param.as_deref(), Some("tools[1].format.definition"));
    assert_eq!(
        message,
        "Invalid grammar for 'tools[1].format.definition': line 1, column 8: 'nothing' is not defined."
    );
}
