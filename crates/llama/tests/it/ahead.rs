//! Reading ahead only changes the speed of an answer: text that a grammar forces, and guesses from
//! the text itself.

use crate::support::{Whole, agree, ask, call, call_with, next_text, open, read};
use loggia_backend::{Backend, ChatCall};
use loggia_llama::{Llama, LlamaOptions};
use loggia_wire::openai::FinishReason;
use serde_json::{Value, json};

/// A context in which llama.cpp sums the rows of a step in the same order, however many there are.
const CONTEXT: u32 = 512;

fn engine(fast_forward: bool, lookup: bool) -> Llama {
    open(|options| set(options, fast_forward, lookup))
}

fn set(options: &mut LlamaOptions, fast_forward: bool, lookup: bool) {
    options.context = Some(CONTEXT);
    options.fast_forward = fast_forward;
    options.lookup = lookup;
}

const REPEAT: &str = "Repeat this list exactly, every word: 1. red ship; 2. blue stone; 3. green river; 4. white cloud; 5. black table; 6. old window;";

const NAMES: [&str; 4] = [
    "customer_identification_number",
    "requested_delivery_address_line",
    "estimated_shipping_weight_kilograms",
    "preferred_payment_installments",
];

/// A schema of long names with a digit each.
fn order() -> Value {
    let digit = json!({"type": "integer", "minimum": 0, "maximum": 9});
    let properties: serde_json::Map<String, Value> = NAMES
        .map(|name| (name.to_owned(), digit.clone()))
        .into_iter()
        .collect();
    let schema = json!({"type": "object", "properties": properties, "required": NAMES, "additionalProperties": false});
    json!({"type": "json_schema", "json_schema": {"name": "order", "strict": true, "schema": schema}})
}

fn with(question: &str, mut fields: Value) -> ChatCall {
    let usual = json!({"temperature": 0, "max_tokens": 150, "logprobs": true, "top_logprobs": 2});
    for (name, value) in usual.as_object().expect("an object") {
        if fields.get(name).is_none() {
            fields[name] = value.clone();
        }
    }
    call(question, fields)
}

/// The requests of these tests: formats, calls, grammars, and texts that repeat something.
fn calls() -> Vec<ChatCall> {
    let parameters = json!({"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"], "additionalProperties": false});
    let tools = json!([{"type": "function", "function": {"name": "weather_forecast_of_a_city", "parameters": parameters}}]);
    vec![
        with("Fill in order 3.", json!({"response_format": order()})),
        with(
            "Fill in order 3.",
            json!({"response_format": order(), "temperature": 1, "seed": 4}),
        ),
        with(
            "Is it raining?",
            json!({"tools": tools, "tool_choice": "required"}),
        ),
        with(
            "Yes or no?",
            json!({"grammar": "root ::= \"The answer is: \" (\"yes\" | \"no\") \", and that is certain.\""}),
        ),
        with(
            "An object, please.",
            json!({"response_format": {"type": "json_object"}, "max_tokens": 60}),
        ),
        with(REPEAT, json!({})),
        with("Write the word sea twenty times.", json!({})),
        with("Write one line about the sea.", json!({"stop": ["the"]})),
        with(
            "Count to twenty.",
            json!({"frequency_penalty": 0.4, "temperature": 1, "seed": 9}),
        ),
    ]
}

/// The text of an answer, and its tokens.
fn said(whole: &Whole) -> (Whole, Vec<String>) {
    let tokens = whole.logprobs.iter().map(|one| one.token.clone()).collect();
    let mut whole = whole.clone();
    whole.logprobs.clear();
    (whole, tokens)
}

#[tokio::test]
async fn answers_are_the_same_token_by_token_with_and_without_reading_ahead() {
    let plain = engine(false, false);
    let mut usual = Vec::new();
    for call in calls() {
        usual.push(ask(&plain, call).await);
    }
    assert!(usual.iter().all(|whole| whole.error.is_none()), "{usual:?}");
    for (fast_forward, lookup) in [(true, false), (false, true), (true, true)] {
        let ahead = engine(fast_forward, lookup);
        for (call, usual) in calls().into_iter().zip(&usual) {
            let whole = ask(&ahead, call).await;
            assert_eq!(said(&whole), said(usual));
            for (own, other) in whole.logprobs.iter().zip(&usual.logprobs) {
                assert!(
                    (own.logprob - other.logprob).abs() < 0.01,
                    "{own:?} {other:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn forced_names_have_the_tokens_that_the_model_reads_in_a_prompt() {
    let llama = engine(true, false);
    let whole = ask(
        &llama,
        with("Fill in order 3.", json!({"response_format": order()})),
    )
    .await;
    assert_eq!(whole.usage().completion_tokens, whole.logprobs.len() as u64);
    let tokens: Vec<&str> = whole
        .logprobs
        .iter()
        .map(|one| one.token.as_str())
        .collect();
    let name = ["customer", "_", "ident", "ification", "_", "number"];
    assert!(tokens.windows(6).any(|some| some == name), "{tokens:?}");
    assert_eq!(tokens.concat(), whole.text);
    let value: Value = serde_json::from_str(&whole.text).unwrap();
    assert_eq!(value.as_object().unwrap().len(), NAMES.len());
}

#[tokio::test]
async fn limits_and_stop_strings_cut_within_forced_text() {
    let (plain, ahead) = (engine(false, false), engine(true, true));
    for more in [
        json!({"max_tokens": 9}),
        json!({"max_tokens": 10}),
        json!({"stop": ["_ident"]}),
        json!({"stop": ["number\":"]}),
        json!({"stop": ["delivery"]}),
    ] {
        let call = || {
            let mut fields = json!({"temperature": 0, "response_format": order()});
            fields
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            call("Fill in order 3.", fields)
        };
        let (usual, whole) = (ask(&plain, call()).await, ask(&ahead, call()).await);
        assert_eq!(whole.text, usual.text, "{more}");
        assert_eq!(
            (&whole.finish, whole.usage().completion_tokens),
            (&usual.finish, usual.usage().completion_tokens),
            "{more}"
        );
        // Tokens read beyond the end are not in the cache that the next turn continues from.
        let turn = json!([
            {"role": "user", "content": "Fill in order 3."}, {"role": "assistant", "content": whole.text},
            {"role": "user", "content": "And now order 4."}
        ]);
        let fields = json!({"temperature": 0, "max_tokens": 20});
        let next = ask(&ahead, call_with(turn.clone(), fields.clone())).await;
        assert_eq!(
            next.text,
            ask(&plain, call_with(turn, fields)).await.text,
            "{more}"
        );
    }
}

#[tokio::test]
async fn a_slow_reader_gets_all_of_a_forced_text() {
    let plain = engine(false, false);
    let slow = open(|options| {
        set(options, true, true);
        options.reader_buffer = 3;
    });
    let call = || {
        call(
            "Fill in order 3.",
            json!({"temperature": 0, "response_format": order()}),
        )
    };
    let usual = ask(&plain, call()).await;
    let mut events = slow.start(call().into()).await.unwrap().events;
    let mut text = next_text(&mut events).await;
    // This is long enough for the engine to fill all places of the stream's buffer.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let rest = read(events).await;
    text.push_str(&rest.text);
    assert_eq!((text, rest.finish), (usual.text, Some(FinishReason::Stop)));
}

#[tokio::test]
async fn several_at_once_read_ahead_too() {
    let (plain, ahead) = (engine(false, false), engine(true, true));
    let structured = || with("Fill in order 3.", json!({"response_format": order()}));
    let free = || with(REPEAT, json!({"top_logprobs": 3}));
    let together = [structured(), free(), structured(), free()].map(|call| ask(&ahead, call));
    let together = futures_util::future::join_all(together).await;
    let usual = ask(&plain, free()).await;
    for whole in [&together[1], &together[3]] {
        agree(whole, &usual);
    }
    for whole in [&together[0], &together[2]] {
        let value: Value = serde_json::from_str(&whole.text).unwrap();
        assert_eq!(value.as_object().unwrap().len(), NAMES.len());
        assert_eq!(whole.usage().completion_tokens, whole.logprobs.len() as u64);
    }
}
