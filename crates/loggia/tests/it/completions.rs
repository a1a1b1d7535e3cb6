//! The older completions API with an embedded model, including filling in the middle.

#![cfg(all(unix, feature = "embedded"))]

use crate::support::Program;
use crate::support::served::Served;
use crate::support::tiny::{self, token};
use serde_json::{Value, json};

const KEYS: [&str; 3] = [
    "tokenizer.ggml.fim_pre_token_id",
    "tokenizer.ggml.fim_suf_token_id",
    "tokenizer.ggml.fim_mid_token_id",
];
const OLDER_KEYS: [&str; 3] = [
    "tokenizer.ggml.prefix_token_id",
    "tokenizer.ggml.suffix_token_id",
    "tokenizer.ggml.middle_token_id",
];

fn serve(gguf: Vec<u8>) -> Served {
    let program = Program::new()
        .with("LOGGIA_THREADS", "1")
        .with("LOGGIA_CONTEXT", "128");
    program.write("tiny.gguf", gguf);
    Served::start(program, &["--model", "tiny.gguf"])
}

fn complete(served: &Served, fields: &Value) -> (u16, Value) {
    let mut body =
        json!({"model": "tiny", "max_tokens": 12, "temperature": 0, "logit_bias": {"2": -100}});
    body.as_object_mut()
        .expect("an object")
        .extend(fields.as_object().expect("an object").clone());
    served.post("/v1/completions", &body)
}

/// The number of tokens of the prompt, and of those that were cached from earlier prompts.
fn counted(served: &Served, fields: &Value) -> (Value, Value) {
    let (status, answer) = complete(served, fields);
    assert_eq!(status, 200, "{answer}");
    let usage = &answer["usage"];
    (
        usage["prompt_tokens"].clone(),
        usage["prompt_tokens_details"]["cached_tokens"].clone(),
    )
}

#[test]
fn a_suffix_is_asked_for_by_the_models_own_tokens_before_after_and_between() {
    for keys in [KEYS, OLDER_KEYS] {
        let served = serve(tiny::inserting(keys));
        assert_eq!(
            counted(
                &served,
                &json!({"prompt": "abcdefghijklmnop", "suffix": "qrst"})
            ),
            (json!(24), json!(0))
        );
        // The BOS token, then what llama.cpp's own server builds from a prefix and a suffix. The
        // next prompt begins with the same tokens, so all of them are cached.
        let [before, after, between] = [1, 2, 3].map(token);
        let prefix: Vec<u32> = (b'a'..=b'p').map(token).collect();
        let suffix: Vec<u32> = (b'q'..=b't').map(token).collect();
        let tokens = [
            &[1, before],
            &prefix[..],
            &[after],
            &suffix[..],
            &[between, token(b'z')],
        ]
        .concat();
        assert_eq!(
            counted(&served, &json!({"prompt": tokens})),
            (json!(25), json!(24))
        );
        // The prefix may be token ids. The last token of a prompt is always computed.
        let ids = json!({"prompt": prefix, "suffix": "qrst"});
        assert_eq!(counted(&served, &ids), (json!(24), json!(23)));
        let (_, card) = served.get("/v1/models/tiny");
        assert!(
            card["capabilities"]
                .as_array()
                .expect("a list")
                .contains(&json!("insert")),
            "{card}"
        );
    }
}

#[test]
fn a_suffix_for_a_model_without_such_tokens_is_a_400_that_names_it() {
    let (status, answer) = complete(
        &serve(tiny::gguf()),
        &json!({"prompt": "ab", "suffix": "c"}),
    );
    let error = &answer["error"];
    assert_eq!(
        (status, &error["param"], &error["code"]),
        (400, &json!("suffix"), &json!("unsupported_parameter"))
    );
}

#[test]
fn several_prompts_of_token_ids_are_answered_each_by_itself_and_counted_together() {
    let served = serve(tiny::gguf());
    let lists = json!([[1, token(b'a')], [1, token(b'b'), token(b'c')]]);
    let (status, answer) = complete(&served, &json!({"prompt": lists, "n": 2}));
    assert_eq!(status, 200, "{answer}");
    let choices = answer["choices"].as_array().expect("choices");
    let indexes: Vec<_> = choices
        .iter()
        .map(|choice| choice["index"].clone())
        .collect();
    assert_eq!(indexes, [0, 1, 2, 3]);
    for (choice, prompt) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        let (_, alone) = complete(&served, &json!({"prompt": lists[prompt]}));
        assert_eq!(choices[choice]["text"], alone["choices"][0]["text"]);
    }
    // The usage counts each prompt once, and all answers.
    let usage = &answer["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        (&json!(5), &json!(48))
    );
}

#[test]
fn many_texts_of_several_prompts_wait_for_each_other_instead_of_filling_the_queue() {
    let served = serve(tiny::gguf());
    let prompts: Vec<_> = (b'a'..b'i').map(|byte| json!([1, token(byte)])).collect();
    let (status, answer) = complete(
        &served,
        &json!({"prompt": prompts, "n": 16, "max_tokens": 2}),
    );
    assert_eq!(
        (status, answer["choices"].as_array().map(Vec::len)),
        (200, Some(128)),
        "{answer}"
    );
}

/// The text and the log-probabilities of the first choice, from a whole answer and from a stream.
fn scored(served: &Served, fields: &Value) -> (String, Value) {
    let (status, answer) = complete(served, fields);
    assert_eq!(status, 200, "{answer}");
    let choice = &answer["choices"][0];
    (
        choice["text"].as_str().expect("a text").to_owned(),
        choice["logprobs"].clone(),
    )
}

#[test]
fn an_echoed_prompt_has_its_log_probabilities_as_openai_shows_them() {
    let served = serve(tiny::inserting(KEYS));
    let ask = json!({"prompt": "abcd", "echo": true, "logprobs": 2, "max_tokens": 3});
    let (text, logprobs) = scored(&served, &ask);
    assert!(text.starts_with("abcd"), "{text}");
    // The BOS token was not sent by the client, and is not returned.
    assert_eq!(
        logprobs["tokens"].as_array().expect("a list")[..4],
        ["a", "b", "c", "d"]
    );
    assert_eq!(
        logprobs["text_offset"].as_array().expect("a list")[..5],
        [0, 1, 2, 3, 4]
    );
    let (own, top) = (&logprobs["token_logprobs"], &logprobs["top_logprobs"]);
    assert_eq!((&own[0], &top[0]), (&Value::Null, &Value::Null));
    for place in 1..7 {
        let own = own[place].as_f64().expect("a probability");
        assert!((-100.0..=0.0).contains(&own), "{logprobs}");
        let of_its = &top[place][logprobs["tokens"][place].as_str().expect("a token")];
        assert_eq!(of_its.as_f64(), Some(own), "{logprobs}");
        assert!(top[place].as_object().expect("a map").len() >= 2);
    }
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[list].as_array().map(Vec::len), Some(7), "{list}");
    }
    // With token ids, every token has a score except the first.
    let ids = json!({"prompt": [1, token(b'a'), token(b'b')], "echo": true, "logprobs": 2, "max_tokens": 0});
    let (text, of_ids) = scored(&served, &ids);
    assert_eq!(
        (text.as_str(), &of_ids["token_logprobs"][0]),
        ("<s>ab", &Value::Null)
    );
    assert_eq!(of_ids["tokens"], json!(["<s>", "a", "b"]));
    assert!(of_ids["token_logprobs"][1].as_f64().is_some());
}

/// The numbers of a list; `None` for null.
fn numbers(list: &Value) -> Vec<Option<f64>> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(Value::as_f64)
        .collect()
}

fn assert_close(one: &Value, other: &Value) {
    let (one, other) = (numbers(one), numbers(other));
    assert_eq!(one.len(), other.len());
    let differ = |(one, other): (&Option<f64>, &Option<f64>)| match (one, other) {
        (Some(one), Some(other)) => (one - other).abs() > 1e-3,
        (one, other) => one.is_some() != other.is_some(),
    };
    assert!(!one.iter().zip(&other).any(differ), "{one:?} {other:?}");
}

#[test]
fn several_prompts_are_scored_as_each_is_alone() {
    let served = serve(tiny::gguf());
    let prompts = [
        json!([1, token(b'a'), token(b'q')]),
        json!([1, token(b'b'), token(b'c'), token(b'd')]),
    ];
    let ask =
        |prompt: &Value| json!({"prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 0});
    let (status, together) = complete(&served, &ask(&json!(prompts)));
    assert_eq!(status, 200, "{together}");
    for (choice, prompt) in together["choices"]
        .as_array()
        .expect("choices")
        .iter()
        .zip(&prompts)
    {
        let (text, logprobs) = scored(&served, &ask(prompt));
        assert_eq!(
            (choice["text"].as_str(), &choice["finish_reason"]),
            (Some(text.as_str()), &json!("length"))
        );
        assert_eq!(choice["logprobs"]["tokens"], logprobs["tokens"]);
        assert_close(
            &choice["logprobs"]["token_logprobs"],
            &logprobs["token_logprobs"],
        );
    }
    assert_eq!(
        (
            &together["usage"]["prompt_tokens"],
            &together["usage"]["completion_tokens"]
        ),
        (&json!(7), &json!(0))
    );
}

#[test]
fn the_best_texts_stand_after_their_prompt_whose_log_probabilities_do_not_decide_which_they_are() {
    let served = serve(tiny::gguf());
    for prompt in [json!("abcdefgh"), json!([1, token(b'a'), token(b'b')])] {
        let own = json!({"prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 0});
        let (echoed, of_prompt) = scored(&served, &own);
        let asked = json!({"prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 6, "n": 2, "best_of": 5,
            "temperature": 1.5, "seed": 3});
        let (status, answer) = complete(&served, &asked);
        assert_eq!(status, 200, "{answer}");
        let length = numbers(&of_prompt["token_logprobs"]).len();
        let mean_of = |choice: usize| {
            let choice = &answer["choices"][choice];
            assert!(
                choice["text"]
                    .as_str()
                    .expect("a text")
                    .starts_with(&echoed),
                "{choice}"
            );
            let all = numbers(&choice["logprobs"]["token_logprobs"]);
            assert_close(&json!(all[..length]), &of_prompt["token_logprobs"]);
            let text: Vec<f64> = all[length..]
                .iter()
                .map(|number| number.expect("a probability"))
                .collect();
            assert_eq!(text.len(), 6);
            text.iter().sum::<f64>()
        };
        assert!(mean_of(0) >= mean_of(1), "the best first: {answer}");
        // The texts are the same without log-probabilities.
        let mut plain = asked.clone();
        plain["logprobs"] = Value::Null;
        let (_, plain) = complete(&served, &plain);
        assert!(
            plain["choices"][0]["text"]
                .as_str()
                .expect("a text")
                .starts_with(&echoed),
            "{plain}"
        );
        assert_eq!(plain["choices"][0]["logprobs"], Value::Null);
        assert_eq!(answer["usage"]["completion_tokens"], json!(30));
    }
}

#[test]
fn of_a_prompt_with_a_suffix_the_prompt_alone_is_scored() {
    let served = serve(tiny::inserting(KEYS));
    let asked =
        json!({"prompt": "abc", "suffix": "xyz", "echo": true, "logprobs": 1, "max_tokens": 2});
    let (text, logprobs) = scored(&served, &asked);
    assert!(text.starts_with("abc"), "{text}");
    assert_eq!(
        logprobs["tokens"].as_array().expect("a list")[..3],
        ["a", "b", "c"]
    );
    assert_eq!(
        numbers(&logprobs["token_logprobs"])
            .iter()
            .filter(|number| number.is_some())
            .count(),
        4
    );
}
