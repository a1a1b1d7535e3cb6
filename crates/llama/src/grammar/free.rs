//! Grammars of answers that are text or calls, for syntaxes in which no marker begins a call: rules
//! and regular expressions in llguidance's dialect of Lark.
//!
//! Everything that such a grammar allows as text is parsed as text, and everything that is parsed
//! as a call follows its schema.

use std::fmt::Write;

use loggia_wire::openai::FunctionDefinition;

use super::ends::Scope;
use super::part::Arguments;
use super::source::{Calls, MORE_CALLS, Source, Writer};

/// Space between the parts of a call, enough for an indentation.
const SPACE: &str = r"[ \t\r\n]{0,16}";

/// Space between the parts of a text that only begins like a call.
const SPACES: &str = r"[ \t\r\n]*";

/// The content of a JSON string. `\u` escapes are not allowed, so that every string has only one
/// spelling.
const IN_STRING: &str = r#"([^"\\]|\\["\\\/bfnrt])*"#;

/// The content of a string in Python's single quotes, without `\u` escapes.
const IN_QUOTES: &str = r"([^'\\]|\\['\\\/bfnrt])*";

/// Any text that is not empty.
const ANYTHING: &str = "(?s:.+)";

/// Writes the grammar of an answer that is text or calls, for syntaxes in which no marker begins a
/// call, but the beginning of the answer or a header does.
pub(crate) fn text_or_calls(writer: Writer<'_>, calls: Calls<'_>) -> Source {
    if writer.syntax.answer_head().is_empty() {
        objects(writer, calls)
    } else {
        messages(writer, calls)
    }
}

/// Llama 3: a call is an object that is the whole answer and begins with the name of an offered
/// function.
fn objects(writer: Writer<'_>, calls: Calls<'_>) -> Source {
    let more = if calls.several {
        format!(" (SEMICOLON? call){MORE_CALLS}")
    } else {
        String::new()
    };
    let names: Vec<String> = calls
        .functions
        .iter()
        .map(|function| literal(&function.name))
        .collect();
    let mut rules = format!(
        r#"start: text? | tag? call{more}
tag: {tag}
text: TEXT
TEXT: (SPACES | PLAIN | OTHER | OTHERKEY | QUOTED | OTHERVALUE | OTHERNAME) & ~/(?s:.*)<\|python_tag\|>(?s:.*)/
SPACES: /\s+/
PLAIN: /\s*[^\s{{](?s:.*)/
OTHER: /\s*\{{{SPACES}[^"' \t\r\n](?s:.*)/
OTHERKEY: /\s*\{{{SPACES}"/ KEY /"(?s:.*)/
KEY: /{IN_STRING}/ & ~/name/
QUOTED: /\s*\{{{SPACES}'/ QUOTEDKEY /'(?s:.*)/
QUOTEDKEY: /{IN_QUOTES}/ & ~/name/
OTHERVALUE: /\s*\{{{SPACES}"name"{SPACES}:{SPACES}[^"' \t\r\n](?s:.*)/
OTHERNAME: /\s*\{{{SPACES}"name"{SPACES}:{SPACES}"/ NAME /"(?s:.*)/
NAME: /{IN_STRING}/ & ~/({names})/
SEMICOLON: /{SPACE};/
PARAMETERS: /{SPACE},{SPACE}"(parameters|arguments)"{SPACE}:{SPACE}/
CLOSE: /{SPACE}\}}/
"#,
        tag = writer.text("<|python_tag|>"),
        names = names.join("|"),
    );
    let (mut call, mut values) = ("call: ".to_owned(), Vec::new());
    let mut of_arguments = String::new();
    for (number, function) in calls.functions.iter().enumerate() {
        let arguments = arguments(number, function, calls);
        let name = literal(&function.name);
        let _ = writeln!(
            rules,
            r#"OPEN{number}: /\s{{0,64}}\{{{SPACE}"name"{SPACE}:{SPACE}"{name}"/"#
        );
        let or = if number == 0 { "" } else { " | " };
        let _ = write!(
            call,
            "{or}OPEN{number} PARAMETERS {} CLOSE",
            arguments.symbol
        );
        of_arguments.push_str(&arguments.rules);
        values.push(arguments.part);
    }
    rules.push_str(&call);
    rules.push('\n');
    rules.push_str(&of_arguments);
    Source::Guided {
        rules,
        values,
        scope: Scope::AfterKey,
    }
}

/// Harmony: a call is a message whose header has the function as recipient. The grammar covers all
/// messages of the answer, including reasoning.
fn messages(writer: Writer<'_>, calls: Calls<'_>) -> Source {
    let mut rules = format!(
        r#"start: (words {end} {author})* (words | call)
words: ({channel} CHANNEL)? {message} TEXT?
CHANNEL: /analysis|commentary|final/
TEXT: /{ANYTHING}/ & ~/(?s:.*)<\|(start|channel|constrain|message|end|return|call)\|>(?s:.*)/
json: ({constrain} "json")?
"#,
        end = writer.text("<|end|>"),
        author = writer.text(writer.syntax.author().unwrap_or_default()),
        channel = writer.text("<|channel|>"),
        message = writer.text("<|message|>"),
        constrain = writer.text("<|constrain|>"),
    );
    let (channel, message) = (writer.text("<|channel|>"), writer.text("<|message|>"));
    let (mut call, mut values) = ("call: ".to_owned(), Vec::new());
    let mut of_arguments = String::new();
    for (number, function) in calls.functions.iter().enumerate() {
        let arguments = arguments(number, function, calls);
        let name = literal(&function.name);
        let _ = writeln!(
            rules,
            r"INCHANNEL{number}: /commentary to=functions\.{name}( json| ?)/"
        );
        let _ = writeln!(rules, r"INAUTHOR{number}: / to=functions\.{name}/");
        let or = if number == 0 { "" } else { " | " };
        let _ = write!(
            call,
            "{or}({channel} INCHANNEL{number} | INAUTHOR{number} {channel} INAUTHORCHANNEL) json {message} {}",
            arguments.symbol
        );
        of_arguments.push_str(&arguments.rules);
        values.push(arguments.part);
    }
    rules.push_str("INAUTHORCHANNEL: /commentary( json| ?)/\n");
    rules.push_str(&call);
    rules.push('\n');
    rules.push_str(&of_arguments);
    Source::Guided {
        rules,
        values,
        scope: Scope::AfterHeader,
    }
}

fn arguments(number: usize, function: &FunctionDefinition, calls: Calls<'_>) -> Arguments {
    let keeps = calls.all_strict || function.strict == Some(true);
    Arguments::of(number, function, keeps)
}

/// Converts a name to a regular expression. Characters other than letters, digits, `_` and `-` are
/// escaped.
fn literal(name: &str) -> String {
    let mut written = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            written.push(c);
        } else {
            let _ = write!(written, "\\x{{{:x}}}", u32::from(c));
        }
    }
    written
}
