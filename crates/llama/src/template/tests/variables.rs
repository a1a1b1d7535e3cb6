//! Variables that a client sets (`chat_template_kwargs`): which ones are settable, and that they
//! affect the template only.

use std::fs;

use serde_json::{Value as Json, json};

use super::families::folder;
use super::*;

fn compiled(source: &str) -> Template {
    Template::new(Some(source), None, Special::default()).unwrap()
}

fn names(template: &Template) -> Vec<&str> {
    template.variables().iter().map(String::as_str).collect()
}

/// The prompt of a short conversation with these variables in the request.
fn prompt(template: &Template, variables: &Json) -> Result<String, TemplateError> {
    let extra = Extra::from_iter([("chat_template_kwargs".to_owned(), variables.clone())]);
    let rendered = template.render(&Conversation {
        messages: &[user("Hi")],
        tools: &[],
        effort: None,
        continues: false,
        variables: &template.variables_of(&extra),
        now: jiff::Timestamp::UNIX_EPOCH,
    });
    rendered.map(|rendered| rendered.text)
}

#[test]
fn a_variable_that_the_template_reads_can_be_set_however_it_reads_it() {
    for source in [
        "{{ extra }}",
        "{% if extra is defined %}{{ extra }}{% endif %}",
        "{% set extra = extra | default('none') %}{{ extra }}",
        "{%- if not extra is defined %}{% set extra = 'none' %}{% endif %}{{ extra }}",
        "{% macro show(x) %}{{ extra }}{{ x }}{% endmacro %}{{ show('') }}",
        "{% for message in messages %}{{ extra }}{% endfor %}",
        "{{ '%s' | format(extra) }}",
    ] {
        let template = compiled(source);
        assert_eq!(names(&template), ["extra"], "{source}");
        let text = prompt(&template, &json!({"extra": "set", "other": "x"}));
        assert_eq!(text, Ok("set".to_owned()), "{source}");
    }
}

#[test]
fn values_keep_their_types() {
    let template =
        compiled("{{ a is number }} {{ b is mapping }} {{ c.d[1] }} {{ e is none }} {{ f }}");
    let variables = json!({"a": 1.5, "b": {}, "c": {"d": [1, "two"]}, "e": null, "f": true});
    assert_eq!(
        prompt(&template, &variables),
        Ok("True True two True True".to_owned())
    );
}

/// Variables from other fields of the request or from the model, and the functions of the template
/// environment.
#[test]
fn what_a_template_is_given_cannot_be_replaced() {
    let reserved = [
        "messages",
        "tools",
        "custom_tools",
        "documents",
        "add_generation_prompt",
        "continue_final_message",
        "bos_token",
        "eos_token",
        "now_in_seconds",
        "enable_thinking",
        "thinking",
        "reasoning_effort",
        "raise_exception",
        "strftime_now",
        "namespace",
        "range",
    ];
    let shown = reserved.join(" }}|{{ ");
    let template = compiled(&format!("{{{{ {shown} }}}}|{{{{ own }}}}"));
    assert_eq!(names(&template), ["own"]);
    let mut variables = Json::Object(
        reserved
            .iter()
            .map(|name| ((*name).to_owned(), json!("replaced")))
            .collect(),
    );
    variables["own"] = json!("");
    let without = prompt(&template, &json!({"own": ""}));
    assert!(without.is_ok());
    assert_eq!(prompt(&template, &variables), without);
}

/// The variables of a template are those that `transformers` would pass.
#[test]
fn the_variables_of_well_known_templates_are_found() {
    let of = |name: &str| {
        let source = fs::read_to_string(folder().join(format!("{name}.jinja"))).unwrap();
        compiled(&source)
            .variables()
            .iter()
            .cloned()
            .collect::<Vec<_>>()
    };
    let expected: [(&str, &[&str]); 8] = [
        ("smollm-2", &[]),
        ("smollm-3", &["custom_instructions"]),
        ("qwen-3", &[]),
        ("qwen-3.5", &["add_vision_id"]),
        (
            "seed-oss",
            &["system_message", "thinking_budget", "use_json_tooldef"],
        ),
        ("glm-4.7-flash", &["clear_thinking"]),
        ("gpt-oss", &["builtin_tools", "model_identity"]),
        ("deepseek-v3.1", &[]),
    ];
    for (name, variables) in expected {
        assert_eq!(of(name), variables, "{name}");
    }
}
