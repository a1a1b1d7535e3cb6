//! A table for each family: calls, several calls, text around them, reasoning, and invalid output.

use super::*;

const ROME: &str = r#"{"city":"Rome"}"#;

#[test]
fn hermes_writes_objects_between_tags() {
    let one =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";
    assert_eq!(said(HERMES, one), calls(&[("weather", ROME)]));
    assert_eq!(
        said(HERMES, &format!("\n{one}\n{one}\n")),
        calls(&[("weather", ROME), ("weather", ROME)])
    );
    let around = said(HERMES, &format!("I look. {one} That is all."));
    assert_eq!(
        around,
        [
            vec![text("I look. ")],
            calls(&[("weather", ROME)]),
            vec![text("That is all.")]
        ]
        .concat()
    );
}

#[test]
fn hermes_may_get_brackets_wrong() {
    for end in ["}", "", "}}}", "}\n", "} </tool_call>"] {
        let written = format!(
            "<tool_call>{{\"name\": \"weather\", \"arguments\": {{\"city\": \"Rome\"}}{end}</tool_call>"
        );
        let read = said(HERMES, &written);
        assert_eq!(read[..2], calls(&[("weather", ROME)]), "{written}");
    }
}

#[test]
fn the_order_of_an_objects_keys_does_not_matter() {
    for object in [
        r#"{"arguments": {"city": "Rome"}, "name": "weather"}"#,
        r#"{"type": "function", "id": "1", "name": "weather", "parameters": {"city": "Rome"}}"#,
        r#"{"type": "function", "function": "weather", "parameters": {"city": "Rome"}}"#,
        r#"{"name": "weather", "arguments": "{\"city\": \"Rome\"}"}"#,
    ] {
        assert_eq!(
            said(HERMES, &format!("<tool_call>{object}</tool_call>")),
            calls(&[("weather", ROME)]),
            "{object}"
        );
    }
    assert_eq!(
        said(HERMES, r#"<tool_call>{"name": "time"}</tool_call>"#),
        calls(&[("time", "{}")])
    );
    assert_eq!(
        said(
            HERMES,
            r#"<tool_call>{"name": "time", "arguments": null}</tool_call>"#
        ),
        calls(&[("time", "{}")])
    );
}

#[test]
fn qwen_coder_writes_tags_inside_tags() {
    let written = "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n\
                   </function>\n</tool_call>";
    let expected = calls(&[("weather", r#"{"city":"Rome","days":3}"#)]);
    assert_eq!(said(HERMES, written), expected);
    assert_eq!(
        said(HERMES, written.strip_prefix("<tool_call>\n").unwrap()),
        expected
    );
    assert_eq!(
        said(HERMES, "<function=time></function>"),
        calls(&[("time", "{}")])
    );
}

#[test]
fn a_tagged_value_is_a_string_where_the_schema_says_so() {
    let with = |key: &str, value: &str| {
        format!("<function=weather><parameter={key}>{value}</parameter></function>")
    };
    let expected = [
        ("city", "12", r#"{"city":"12"}"#),
        (
            "city",
            "\nfor x in y:\n  \"<b>\"\n",
            r#"{"city":"for x in y:\n  \"<b>\""}"#,
        ),
        ("days", "12", r#"{"days":12}"#),
        ("days", "a few", r#"{"days":"a few"}"#),
        ("new", "{\"a\": [True]}", r#"{"new":"{\"a\": [True]}"}"#),
        ("new", "[1, 2]", r#"{"new":[1,2]}"#),
    ];
    for (key, value, arguments) in expected {
        assert_eq!(
            said(HERMES, &with(key, value)),
            calls(&[("weather", arguments)]),
            "{key}: {value}"
        );
    }
}

#[test]
fn llama_writes_an_object_and_nothing_else() {
    let object = r#"{"name": "weather", "parameters": {"city": "Rome"}}"#;
    assert_eq!(said(LLAMA, object), calls(&[("weather", ROME)]));
    assert_eq!(
        said(LLAMA, &format!("<|python_tag|>{object}; {object}")),
        calls(&[("weather", ROME), ("weather", ROME)])
    );
    assert_eq!(
        said(LLAMA, &format!("{object}\n{object}")),
        calls(&[("weather", ROME), ("weather", ROME)])
    );
    for other in [
        r#"{"name": "nobody", "parameters": {}}"#,
        r#"{"answer": 4}"#,
        "{x}",
        &format!("Like {object}"),
    ] {
        assert_eq!(said(LLAMA, other), [text(other)]);
    }
}

#[test]
fn mistral_writes_a_list_or_names() {
    let list = r#"[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}, "id": "abc"}, {"name": "time", "arguments": {}}]"#;
    assert_eq!(
        said(MISTRAL, list),
        calls(&[("weather", ROME), ("time", "{}")])
    );
    for names in [
        r#"[TOOL_CALLS]weather[ARGS]{"city": "Rome"}[TOOL_CALLS]time[ARGS]{}"#,
        r#"[TOOL_CALLS]weather{"city": "Rome"}[TOOL_CALLS]time{}"#,
        r#"[TOOL_CALLS]weather[CALL_ID]x1[ARGS]{"city": "Rome"}[TOOL_CALLS]time[ARGS]{}"#,
    ] {
        assert_eq!(
            said(MISTRAL, names),
            calls(&[("weather", ROME), ("time", "{}")]),
            "{names}"
        );
    }
    assert_eq!(
        said(MISTRAL, "[THINK]Hm.[/THINK]Yes."),
        [reasoning("Hm."), text("Yes.")]
    );
}

#[test]
fn gemma_writes_an_object_in_a_fence() {
    let written = "```tool_code\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n```";
    assert_eq!(said(FENCE, written), calls(&[("weather", ROME)]));
    let python = "```tool_code\nprint(1)\n```";
    assert_eq!(said(FENCE, python), [text(python)]);
}

#[test]
fn phi_writes_a_list_between_tags() {
    let written =
        r#"<|tool_call|>[{"name": "weather", "arguments": {"city": "Rome"}}]<|/tool_call|>"#;
    assert_eq!(said(PHI, written), calls(&[("weather", ROME)]));
    assert_eq!(
        said(
            PHI,
            r#"functools[{"name": "weather", "arguments": {"city": "Rome"}}]"#
        ),
        calls(&[("weather", ROME)])
    );
}

#[test]
fn deepseek_writes_names_among_tags() {
    let old = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Rome\"}\n```<｜tool▁call▁end｜>";
    let new = "<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Rome\"}<｜tool▁call▁end｜>";
    for one in [old, new] {
        let written = format!("Well.<｜tool▁calls▁begin｜>{one}\n{one}<｜tool▁calls▁end｜>");
        let expected = [
            vec![text("Well.")],
            calls(&[("weather", ROME), ("weather", ROME)]),
        ]
        .concat();
        assert_eq!(said(DEEPSEEK, &written), expected, "{one}");
    }
    assert_eq!(
        said(DEEPSEEK, "<think>\nHm.\n</think>\n\nYes."),
        [reasoning("Hm.\n"), text("Yes.")]
    );
}

#[test]
fn harmony_has_a_channel_for_each() {
    let written = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>\
                   <|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Rome\"}<|call|>";
    let expected = [
        vec![reasoning("Hm."), text("I look.")],
        calls(&[("weather", ROME)]),
    ]
    .concat();
    assert_eq!(said(HARMONY, written), expected);
    let first =
        " to=functions.weather<|channel|>commentary json<|message|>{\"city\": \"Rome\"}<|call|>";
    assert_eq!(said(HARMONY, first), calls(&[("weather", ROME)]));
    assert_eq!(
        said(HARMONY, "<|channel|>final<|message|> Yes <|return|>"),
        [text(" Yes ")]
    );
    assert_eq!(
        said(
            HARMONY,
            "<|channel|>analysis<|message|>Hm.<|start|>assistant<|message|>Yes"
        ),
        [reasoning("Hm."), text("Yes")]
    );
    assert_eq!(said(HARMONY, "no header"), [text("no header")]);
    let hosted = "<|channel|>analysis to=python code<|message|>1";
    assert_eq!(said(HARMONY, hosted), [text(hosted)]);
}

#[test]
fn thoughts_come_first_and_the_spaces_after_them_are_nobodys() {
    assert_eq!(
        said(HERMES, "\n<think>\nHm.</think>\n\nYes."),
        [reasoning("Hm."), text("Yes.")]
    );
    assert_eq!(said(HERMES, "<think>\n\n</think>\n\nYes."), [text("Yes.")]);
    assert_eq!(
        said(HERMES, "The tag <think> opens."),
        [text("The tag <think> opens.")]
    );
    let call_after = "<think>Hm.</think>\n\n<tool_call>{\"name\": \"time\"}</tool_call>";
    assert_eq!(
        said(HERMES, call_after),
        [vec![reasoning("Hm.")], calls(&[("time", "{}")])].concat()
    );
}

#[test]
fn a_prompt_that_opened_the_thoughts_is_gone_on_from() {
    let syntax = Syntax::of(HERMES, |_| false);
    for size in 1..=9 {
        let mut reader = Reader::new(
            syntax,
            offered(),
            Begins::Reasoning,
            CallRelease::Incremental,
        );
        let characters: Vec<char> = "\nHm.</think>\nYes.".chars().collect();
        let said = read(
            &mut reader,
            characters.chunks(size).map(|piece| piece.iter().collect()),
        );
        assert_eq!(said, [reasoning("Hm."), text("Yes.")]);
    }
}

#[test]
fn what_is_no_call_is_its_text() {
    for written in [
        "<tool_call>oh</tool_call>",
        "<tool_call>\n[]</tool_call>",
        "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": 4, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"time\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"time\", \"why\": 1}</tool_call>",
        "<tool_call>{\"name\": \"weather\"",
        "<tool_call><fun></tool_call>",
        "<tool_call",
    ] {
        assert_eq!(said(HERMES, written), [text(written)]);
    }
    assert_eq!(
        said(MISTRAL, "[TOOL_CALLS]weather or not"),
        [text("[TOOL_CALLS]weather or not")]
    );
    assert_eq!(
        said(DEEPSEEK, "<｜tool▁calls▁begin｜>{}"),
        [text("<｜tool▁calls▁begin｜>{}")]
    );
}

#[test]
fn arguments_that_break_off_are_closed_and_their_text_follows() {
    let written = r#"<tool_call>{"name": "weather", "arguments": {"days": 3, "city": "Ro"#;
    assert_eq!(
        said(HERMES, written),
        [calls(&[("weather", r#"{"days":3}"#)]), vec![text(written)]].concat()
    );
    let mut reader = reader(HERMES, CallRelease::Incremental);
    read(&mut reader, [written.to_owned()].into_iter());
    assert_eq!(reader.calls_made(), 0);
    assert_eq!(
        cut(HERMES, written, 3, CallRelease::Complete),
        [text(written)]
    );
}

#[test]
fn arguments_leave_value_by_value() {
    let mut reader = reader(HERMES, CallRelease::Incremental);
    let mut push = |more: &str| reader.push(more).collect::<Vec<_>>();
    assert_eq!(push("<tool_call>{\"name\": \"weather\", \"arg"), []);
    assert_eq!(push("uments\": {\"ci"), call(0, "weather", "{"));
    assert_eq!(push("ty\": \"Ro"), []);
    assert_eq!(
        push("me\""),
        [Parsed::CallArguments {
            index: 0,
            more: r#""city":"Rome""#.to_owned()
        }]
    );
    assert_eq!(
        push(", \"days\": 3}"),
        [Parsed::CallArguments {
            index: 0,
            more: r#","days":3}"#.to_owned()
        }]
    );
}

#[test]
fn only_what_may_be_a_marker_is_held_back() {
    let mut reader = reader(HERMES, CallRelease::Incremental);
    let mut push = |more: &str| reader.push(more).collect::<Vec<_>>();
    assert_eq!(push("Hello <too"), [text("Hello ")]);
    assert_eq!(push("ls> <"), [text("<tools> ")]);
    assert_eq!(push(" b"), [text("< b")]);
}

#[test]
fn without_offered_functions_nothing_is_a_call() {
    let written = "<tool_call>{\"name\": \"time\"}</tool_call>";
    let none = Arc::new(Offered::default());
    let mut reader = Reader::new(
        Syntax::of(HERMES, |_| false),
        none,
        Begins::Text,
        CallRelease::Incremental,
    );
    assert_eq!(
        read(&mut reader, [written.to_owned()].into_iter()),
        [text(written)]
    );
}

#[test]
fn a_call_that_is_too_long_is_text() {
    let written = format!(
        "<tool_call>{{\"name\": \"time\", \"arguments\": {{\"a\": \"{}\"}}}}</tool_call>",
        "x".repeat(300 << 10)
    );
    let said = cut(HERMES, &written, 1000, CallRelease::Complete);
    assert_eq!(said, [text(&written)]);
}
