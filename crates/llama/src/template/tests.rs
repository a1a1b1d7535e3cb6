//! Templates in the style of well-known families, and what `transformers` would print for them.

use loggia_wire::openai::{ChatCompletionRequest, Content, Message, Role, Tool};
use serde_json::json;

use super::*;

mod families;
mod odd;
mod variables;

const LLAMA_3: &str = r#"{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

const QWEN: &str = r##"{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' + content }}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<tool_call>\n{"name": "' + tool_call.name + '", "arguments": ' }}
                {%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"##;

const MISTRAL: &str = "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}\
{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}";

const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";

const SMOLLM_2: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn render(source: &str, messages: &[Message]) -> Result<String, TemplateError> {
    render_with_tools(source, messages, &[])
}

fn render_with_tools(
    source: &str,
    messages: &[Message],
    tools: &[Tool],
) -> Result<String, TemplateError> {
    let special = Special {
        bos: "<s>".to_owned(),
        eos: "</s>".to_owned(),
    };
    let now = "2026-03-09T12:00:00Z".parse().unwrap();
    let template = Template::new(Some(source), None, special)?;
    template
        .render(&Conversation {
            messages,
            tools,
            effort: None,
            continues: false,
            variables: &Value::default(),
            now,
        })
        .map(|rendered| rendered.text)
}

fn user(text: &str) -> Message {
    Message::text(Role::User, text)
}

fn system(text: &str) -> Message {
    Message::text(Role::System, text)
}

fn assistant(text: &str) -> Message {
    Message::text(Role::Assistant, text)
}

fn called() -> Message {
    serde_json::from_value(json!({
        "role": "assistant", "content": null,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{\"b\":1,\"a\":\"<é>\"}"}}]
    }))
    .unwrap()
}

#[test]
fn smollm2_gets_its_own_system_message_unless_the_client_brings_one() {
    assert_eq!(
        render(SMOLLM_2, &[user("Hi")]).unwrap(),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        render(SMOLLM_2, &[system("Be brief."), user("Hi")]).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn llama_3_gets_the_date_the_trimmed_content_and_calls_as_json() {
    let head = "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 09 Mar 2026\n\n";
    assert_eq!(
        render(LLAMA_3, &[system(" Be brief. "), user("Hi\n")]).unwrap(),
        format!(
            "{head}Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n"
        )
    );
    assert_eq!(
        render(LLAMA_3, &[user("Add."), called()]).unwrap(),
        format!(
            "{head}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAdd.<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n{{\"name\": \"add\", \"parameters\": {{\"b\": 1, \"a\": \"<é>\"}}}}<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n"
        )
    );
}

#[test]
fn qwen_gets_tools_in_pythons_json_and_loses_old_thoughts() {
    let tool: Tool = serde_json::from_value(json!({
        "type": "function", "function": {"name": "add", "description": "a < b & 'c'", "parameters": {"type": "object"}}
    }))
    .unwrap();
    let messages = [
        user("Add."),
        called(),
        Message::text(Role::Tool, "2"),
        assistant("<think>hm</think>\n\nTwo."),
        user("Thanks"),
    ];
    assert_eq!(
        render_with_tools(QWEN, &messages, &[tool]).unwrap(),
        "<|im_start|>system\n# Tools\n<tools>\n\
         {\"type\": \"function\", \"function\": {\"name\": \"add\", \"description\": \"a < b & 'c'\", \"parameters\": {\"type\": \"object\"}}}\n\
         </tools><|im_end|>\n<|im_start|>user\nAdd.<|im_end|>\n\
         <|im_start|>assistant\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 1, \"a\": \"<é>\"}}\n</tool_call><|im_end|>\n\
         <|im_start|>user\n<tool_response>\n2\n</tool_response><|im_end|>\n\
         <|im_start|>assistant\nTwo.<|im_end|>\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn a_template_that_wants_user_and_assistant_by_turns_gets_them_so() {
    assert_eq!(
        render(MISTRAL, &[user("a"), assistant("b"), user("c")]).unwrap(),
        "<s>[INST] a [/INST]b</s>[INST] c [/INST]"
    );
    assert_eq!(
        render(MISTRAL, &[user("a"), user("b")]).unwrap(),
        "<s>[INST] a\n\nb [/INST]"
    );
    assert_eq!(
        render(MISTRAL, &[assistant("a"), user("b")]).unwrap(),
        "<s>[INST]  [/INST]a</s>[INST] b [/INST]"
    );
}

#[test]
fn a_refusal_that_nothing_helps_against_is_told_in_the_templates_words() {
    let source = "{% for m in messages %}{% if 'x' in m.content %}{{ raise_exception('No x, please.') }}{% endif %}{% endfor %}";
    assert_eq!(
        render(source, &[user("x")]).unwrap_err(),
        TemplateError::Refused("No x, please.".to_owned())
    );
}

#[test]
fn a_template_that_fails_at_some_conversations_only_says_so_and_none_of_the_conversation() {
    let source = "{% for m in messages %}{% if 'x' in m.content %}{{ m.content | nosuchfilter }}{% endif %}{% endfor %}";
    let error = render(source, &[user("x secret")]).unwrap_err();
    assert!(
        matches!(&error, TemplateError::Failed(what) if what.contains("line 1") && !what.contains("secret")),
        "{error}"
    );
}

#[test]
fn a_template_without_a_place_for_system_messages_gets_them_with_the_first_user_message() {
    assert_eq!(
        render(GEMMA, &[system("Be brief."), user("Hi")]).unwrap(),
        "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n"
    );
}

#[test]
fn developer_messages_are_system_messages_and_parts_one_text() {
    let messages: Vec<Message> = serde_json::from_value(json!([
        {"role": "developer", "content": "D"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]))
    .unwrap();
    let prompt = render(QWEN, &messages).unwrap();
    assert_eq!(
        prompt,
        "<|im_start|>system\nD<|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn a_template_that_joins_strings_gets_a_calls_arguments_as_one() {
    let source = "{% for m in messages %}{% if m.tool_calls %}{{ 'call ' + m.tool_calls[0].function.arguments + '.' }}{% endif %}{% endfor %}";
    assert_eq!(
        render(source, &[user("Add."), called()]).unwrap(),
        "call {\"b\":1,\"a\":\"<é>\"}."
    );
}

#[test]
fn tojson_indents_as_python_does() {
    let source = "{{ messages[0] | tojson(indent=2) }}";
    assert_eq!(
        render(source, &[user("x")]).unwrap(),
        "{\n  \"role\": \"user\",\n  \"content\": \"x\"\n}"
    );
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let source = "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'x' if false }}{% endfor %}{% endfor %}";
    assert_eq!(
        render(source, &[user("x")]).unwrap_err(),
        TemplateError::Broken("it needs too many steps in line 1".to_owned())
    );
    let source = "{% if messages[0].content == 'long' %}{% for a in range(99999) %}{% for b in range(99999) %}{{ 'x' if false }}{% endfor %}{% endfor %}{% endif %}";
    assert_eq!(render(source, &[user("x")]), Ok(String::new()));
    assert_eq!(render(source, &[user("long")]), Err(TemplateError::TooLong));
}

#[test]
fn a_failure_names_the_place_and_none_of_the_conversation() {
    let error = render(
        "\n{{ messages[0].content | nosuchfilter }}",
        &[user("secret")],
    )
    .unwrap_err();
    assert!(
        matches!(&error, TemplateError::Broken(what) if what.contains("line 2") && !what.contains("secret")),
        "{error}"
    );
}

#[test]
fn a_prompt_ends_with_the_beginning_of_the_answer() {
    let prompt = |source: &str, messages: &[Message]| {
        let special = Special {
            bos: "<s>".to_owned(),
            eos: "</s>".to_owned(),
        };
        let template = Template::new(Some(source), None, special).unwrap();
        let rendered = template.render(&Conversation {
            messages,
            tools: &[],
            effort: None,
            continues: true,
            variables: &Value::default(),
            now: "2026-03-09T12:00:00Z".parse().unwrap(),
        });
        rendered.map(|rendered| rendered.text)
    };
    // The text is also in the question, and in what the templates write after a message.
    for text in ["I am", "I am\n", "<", "e", "{"] {
        for (source, begins) in [
            (SMOLLM_2, "<|im_start|>assistant\n"),
            (QWEN, "<|im_start|>assistant\n"),
            (GEMMA, "<start_of_turn>model\n"),
            (MISTRAL, " [/INST]"),
            (LLAMA_3, ""),
        ] {
            let messages = [user(text), assistant(text)];
            let rendered = prompt(source, &messages).unwrap();
            let ends = format!("{begins}{text}");
            assert!(rendered.ends_with(&ends), "{rendered:?} ends with {ends:?}");
            let whole = render(source, &messages).unwrap();
            assert!(whole.starts_with(rendered.trim_end()), "{whole:?}");
        }
    }
    let for_users = "{% if messages[-1].role != 'user' %}{{ raise_exception('no') }}{% endif %}{{ messages[-1].content }}";
    for source in [for_users, "{{ messages[0].content }}"] {
        let messages = [user("Hi"), assistant("I am")];
        assert_eq!(
            prompt(source, &messages),
            Err(TemplateError::NotContinuable)
        );
    }
}

#[test]
fn a_file_without_a_template_is_chatml() {
    let template = Template::new(None, None, Special::default()).unwrap();
    let prompt = template.render(&Conversation {
        messages: &[user("Hi")],
        tools: &[],
        effort: None,
        continues: false,
        variables: &Value::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
    });
    assert_eq!(
        prompt.unwrap().text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn a_template_is_told_of_thinking_only_where_the_client_asks() {
    let source = "{{ 'on' if enable_thinking is defined and enable_thinking }}{{ 'off' if enable_thinking is defined and not enable_thinking }}{{ reasoning_effort }}";
    let template = Template::new(Some(source), None, Special::default()).unwrap();
    let render = |effort| {
        let now = jiff::Timestamp::UNIX_EPOCH;
        template
            .render(&Conversation {
                messages: &[user("x")],
                tools: &[],
                effort,
                continues: false,
                variables: &Value::default(),
                now,
            })
            .unwrap()
            .text
    };
    assert_eq!(
        [render(None), render(Some("none")), render(Some("low"))],
        ["", "off", "onlow"]
    );
}

#[test]
fn a_result_has_the_name_of_its_function_and_a_call_the_thoughts_before_it() {
    let mut thought = called();
    thought.reasoning = Some("Hm.".to_owned());
    let mut result = Message::text(Role::Tool, "2");
    result.tool_call_id = Some("call_1".to_owned());
    let source = "{% for m in messages %}{{ m.name }}:{{ m.thinking }}{{ m.reasoning_content }}\
        {{ m.tool_calls[0].function.name if m.tool_calls }}{{ m.content }};{% endfor %}";
    assert_eq!(
        render(source, &[user("Add."), thought, result]).unwrap(),
        ":Add.;:Hm.Hm.add;add:2;"
    );
}

#[test]
fn ids_are_made_to_fit_a_template_that_wants_nine_characters() {
    let source = "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}\
        {{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}{{ c.id }}{% if c.function.name != 'add' %}{{ c.function.name }}{% endif %}{% endfor %}\
        {{ m.content if m.tool_call_id and m.content != '2' }}{{ '=' + m.tool_call_id if m.tool_call_id }}{% endfor %}";
    let mut result = Message::text(Role::Tool, "2");
    result.tool_call_id = Some("call_1".to_owned());
    let rendered = render(source, &[user("Add."), called(), result]).unwrap();
    let (call, answer) = rendered.split_once('=').unwrap();
    assert!(
        call == answer && call.len() == 9 && call.chars().all(|c| c.is_ascii_alphanumeric()),
        "{rendered}"
    );
}

#[test]
fn phi_4_mini_finds_its_tools_in_the_system_message() {
    let source = "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\
        {% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}\
        {{ '<|tool|>' + message['tools'] + '<|/tool|>' }}{% endif %}<|end|>{% endfor %}<|assistant|>";
    let template = Template::new(Some(source), None, Special::default()).unwrap();
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    let tools: Vec<Tool> = vec![serde_json::from_value(tool).unwrap()];
    let shown = |messages: &[Message], tools: &[Tool]| {
        let now = jiff::Timestamp::UNIX_EPOCH;
        template
            .render(&Conversation {
                messages,
                tools,
                effort: None,
                continues: false,
                variables: &Value::default(),
                now,
            })
            .unwrap()
            .text
    };
    let (system, user) = (
        Message::text(Role::System, "Be brief."),
        Message::text(Role::User, "Rain?"),
    );
    let listed = r#"<|tool|>[{"name": "weather", "parameters": {"type": "object"}}]<|/tool|>"#;
    let asked = "<|user|>Rain?<|end|><|assistant|>";
    let conversation = [system, user.clone()];
    assert_eq!(
        shown(&conversation, &tools),
        format!("<|system|>Be brief.{listed}<|end|>{asked}")
    );
    assert_eq!(
        shown(&[user], &tools),
        format!("<|system|>{listed}<|end|>{asked}"),
        "without a system message too"
    );
    assert_eq!(
        shown(&conversation, &[]),
        format!("<|system|>Be brief.<|end|>{asked}")
    );
}

fn result(of: &str, text: &str) -> Message {
    Message {
        tool_call_id: Some(of.to_owned()),
        ..Message::text(Role::Tool, text)
    }
}

#[test]
fn a_template_that_shows_no_calls_has_them_in_the_content_and_their_results_from_the_user() {
    let turns = |conversation: &[Message]| render(SMOLLM_2, conversation).unwrap();
    let messages = [
        system("S"),
        user("Add."),
        called(),
        result("call_1", "2"),
        assistant("Two."),
        user("Thanks"),
    ];
    assert_eq!(
        turns(&messages),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nAdd.<|im_end|>\n\
         <|im_start|>assistant\n<tool_call>{\"name\": \"add\", \"arguments\": {\"b\":1,\"a\":\"<é>\"}}</tool_call><|im_end|>\n\
         <|im_start|>user\nResult of add:\n2<|im_end|>\n<|im_start|>assistant\nTwo.<|im_end|>\n\
         <|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n"
    );
    let mut two = called();
    two.content = Some(Content::Text("Let me see.".to_owned()));
    let calls = two.tool_calls.as_mut().unwrap();
    calls.push(calls[0].clone());
    calls[1].id = "call_2".to_owned();
    let shown = turns(&[
        system("S"),
        user("Add."),
        two,
        result("call_2", "3"),
        result("call_1", "2"),
    ]);
    let call = "<tool_call>{\"name\": \"add\", \"arguments\": {\"b\":1,\"a\":\"<é>\"}}</tool_call>";
    assert!(
        shown.contains(&format!("assistant\nLet me see.\n{call}{call}<|im_end|>")),
        "{shown}"
    );
    assert!(
        shown.contains("user\nResult of add:\n3\n\nResult of add:\n2<|im_end|>"),
        "{shown}"
    );
}

#[test]
fn a_template_that_wants_user_and_assistant_by_turns_gets_a_conversation_with_calls_too() {
    assert_eq!(
        render(GEMMA, &[user("Add."), called(), result("call_1", "2")]).unwrap(),
        "<s><start_of_turn>user\nAdd.<end_of_turn>\n<start_of_turn>model\n\
         <tool_call>{\"name\": \"add\", \"arguments\": {\"b\":1,\"a\":\"<é>\"}}</tool_call><end_of_turn>\n\
         <start_of_turn>user\nResult of add:\n2<end_of_turn>\n<start_of_turn>model\n"
    );
}

#[test]
fn phi_4_mini_whose_template_shows_no_calls_sees_them_as_it_writes_them() {
    let source = "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\
        {% if 'tools' in message %}<|tool|>{{ message['tools'] }}<|/tool|>{% endif %}<|end|>{% endfor %}<|assistant|>";
    assert_eq!(
        render(source, &[user("Add."), called(), result("call_1", "2")]).unwrap(),
        "<|user|>Add.<|end|><|assistant|><|tool_call|>[{\"name\": \"add\", \"arguments\": {\"b\":1,\"a\":\"<é>\"}}]\
         <|/tool_call|><|end|><|user|>Result of add:\n2<|end|><|assistant|>"
    );
}

#[test]
fn an_earlier_refusal_is_what_the_assistant_said() {
    let refusal: Message =
        serde_json::from_value(json!({"role": "assistant", "refusal": "I will not."})).unwrap();
    assert!(
        render(SMOLLM_2, &[user("x"), refusal])
            .unwrap()
            .contains("assistant\nI will not.<|im_end|>")
    );
}

#[test]
fn what_can_be_gone_through_is_what_python_can_go_through() {
    let source = "{% for x in [none, nowhere, 'ab', [1], {'a': 1}, 7, true] %}\
        {{ x is iterable }} {{ x is sequence }}, {% endfor %}";
    let expected =
        "False False, True True, True True, True True, True True, False False, False False, ";
    assert_eq!(
        render(source, &[user("Hi")]).unwrap().to_lowercase(),
        expected.to_lowercase()
    );
}

fn called_with(arguments: &str) -> Message {
    let mut called = called();
    called.tool_calls.as_mut().unwrap()[0].function.arguments = arguments.to_owned();
    called
}

#[test]
fn numbers_reach_a_template_with_all_their_digits() {
    let arguments =
        r#"{"id": 25227143063332189585438, "x": [0.1234567890123456789, 1e400], "y": 1.5}"#;
    let messages = [user("Look."), called_with(arguments)];
    let whole = "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}";
    assert_eq!(render(whole, &messages).unwrap(), arguments);
    let each = "{% for m in messages %}{% for c in m.tool_calls or [] %}{% for k, v in c.function.arguments | items %}\
        {{ k }}={{ v }};{{ v | string }};{{ v | tojson }} {% endfor %}{% endfor %}{% endfor %}";
    let id = "25227143063332189585438";
    let expected = format!(
        "id={id};{id};{id} x=[0.1234567890123456789, 1e400];[0.1234567890123456789, 1e400];[0.1234567890123456789, 1e400] y=1.5;1.5;1.5 "
    );
    assert_eq!(render(each, &messages).unwrap(), expected);
}

#[test]
fn a_template_sees_arguments_that_are_no_object_as_one() {
    let source = "{% for m in messages %}{% for c in m.tool_calls or [] %}<{% for k, v in c.function.arguments | items %}{{ k }}={{ v }};{% endfor %}>{% endfor %}{% endfor %}";
    for (arguments, shown) in [
        ("", "<>"),
        ("null", "<>"),
        ("{}", "<>"),
        (
            "{\"path\": \"a.txt\", \"text\": \"Once upon",
            "<path=a.txt;text=Once upon;>",
        ),
        ("Paris", "<arguments=Paris;>"),
        ("[1]", "<arguments=[1];>"),
    ] {
        assert_eq!(
            render(source, &[user("x"), called_with(arguments)]).unwrap(),
            shown,
            "{arguments}"
        );
    }
    let told = render(SMOLLM_2, &[user("x"), called_with("{\"x\": 1")]).unwrap();
    assert!(
        told.contains("<tool_call>{\"name\": \"add\", \"arguments\": {\"x\": 1}}</tool_call>"),
        "{told}"
    );
}

#[test]
fn numbers_in_a_tools_schema_keep_their_digits() {
    let written = r#"{"type": "object", "properties": {"id": {"enum": [25227143063332189585438, 0.1234567890123456789], "default": 1.50, "maximum": 18446744073709551616}}}"#;
    let tool =
        format!(r#"{{"type": "function", "function": {{"name": "f", "parameters": {written}}}}}"#);
    let json = format!(r#"{{"model": "m", "messages": [], "tools": [{tool}]}}"#);
    let mut request: ChatCompletionRequest = serde_json::from_str(&json).unwrap();
    request.keep_long_numbers(json.as_bytes());
    let tools = request.tools.unwrap();
    let source = "{{ tools[0].function.parameters | tojson }}|{{ tools[0].function.parameters.properties.id.enum[0] }}";
    let prompt = render_with_tools(source, &[user("x")], &tools).unwrap();
    let shown = written.replace("1.50", "1.5");
    assert_eq!(prompt, format!("{shown}|25227143063332189585438"));
}
