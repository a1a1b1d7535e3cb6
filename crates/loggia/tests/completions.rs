//! The older completions of an embedded model, through the whole program: what is filled in between two texts.

#![cfg(all(unix, feature = "embedded"))]

mod support;

use serde_json::{Value, json};
use support::Program;
use support::served::Served;
use support::tiny::{self, token};

const KEYS: [&str; 3] =
    ["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.fim_mid_token_id"];
const OLDER_KEYS: [&str; 3] =
    ["tokenizer.ggml.prefix_token_id", "tokenizer.ggml.suffix_token_id", "tokenizer.ggml.middle_token_id"];

fn serve(gguf: Vec<u8>) -> Served {
    let program = Program::new().with("LOGGIA_THREADS", "1").with("LOGGIA_CONTEXT", "128");
    program.write("tiny.gguf", gguf);
    Served::start(program, &["--model", "tiny.gguf"])
}

fn complete(served: &Served, fields: &Value) -> (u16, Value) {
    let mut body = json!({"model": "tiny", "max_tokens": 12, "temperature": 0, "logit_bias": {"2": -100}});
    body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    served.post("/v1/completions", &body)
}

/// How many tokens the prompt had, and how many of them were those of prompts before it.
fn counted(served: &Served, fields: &Value) -> (Value, Value) {
    let (status, answer) = complete(served, fields);
    assert_eq!(status, 200, "{answer}");
    let usage = &answer["usage"];
    (usage["prompt_tokens"].clone(), usage["prompt_tokens_details"]["cached_tokens"].clone())
}

#[test]
fn a_suffix_is_asked_for_by_the_models_own_tokens_before_after_and_between() {
    for keys in [KEYS, OLDER_KEYS] {
        let served = serve(tiny::inserting(keys));
        assert_eq!(counted(&served, &json!({"prompt": "abcdefghijklmnop", "suffix": "qrst"})), (json!(24), json!(0)));
        // The token that begins a text, then what llama.cpp's own server makes of a prefix and a suffix. What is asked for next begins
        // with the very same tokens, and so none of them has to be computed.
        let [before, after, between] = [1, 2, 3].map(token);
        let prefix: Vec<u32> = (b'a'..=b'p').map(token).collect();
        let suffix: Vec<u32> = (b'q'..=b't').map(token).collect();
        let tokens = [&[1, before], &prefix[..], &[after], &suffix[..], &[between, token(b'z')]].concat();
        assert_eq!(counted(&served, &json!({"prompt": tokens})), (json!(25), json!(24)));
        // What comes before may be token ids; the last token of a prompt is always computed.
        let ids = json!({"prompt": prefix, "suffix": "qrst"});
        assert_eq!(counted(&served, &ids), (json!(24), json!(23)));
        let (_, card) = served.get("/v1/models/tiny");
        assert!(card["capabilities"].as_array().expect("a list").contains(&json!("insert")), "{card}");
    }
}

#[test]
fn a_suffix_for_a_model_without_such_tokens_is_a_400_that_names_it() {
    let (status, answer) = complete(&serve(tiny::gguf()), &json!({"prompt": "ab", "suffix": "c"}));
    let error = &answer["error"];
    assert_eq!((status, &error["param"], &error["code"]), (400, &json!("suffix"), &json!("unsupported_parameter")));
}

#[test]
fn several_prompts_of_token_ids_are_answered_each_by_itself_and_counted_together() {
    let served = serve(tiny::gguf());
    let lists = json!([[1, token(b'a')], [1, token(b'b'), token(b'c')]]);
    let (status, answer) = complete(&served, &json!({"prompt": lists, "n": 2}));
    assert_eq!(status, 200, "{answer}");
    let choices = answer["choices"].as_array().expect("choices");
    let indexes: Vec<_> = choices.iter().map(|choice| choice["index"].clone()).collect();
    assert_eq!(indexes, [0, 1, 2, 3]);
    for (choice, prompt) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        let (_, alone) = complete(&served, &json!({"prompt": lists[prompt]}));
        assert_eq!(choices[choice]["text"], alone["choices"][0]["text"]);
    }
    // The prompts once each, the texts all.
    let usage = &answer["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(5), &json!(48)));
}

#[test]
fn many_texts_of_several_prompts_wait_for_each_other_instead_of_filling_the_queue() {
    let served = serve(tiny::gguf());
    let prompts: Vec<_> = (b'a'..b'i').map(|byte| json!([1, token(byte)])).collect();
    let (status, answer) = complete(&served, &json!({"prompt": prompts, "n": 16, "max_tokens": 2}));
    assert_eq!((status, answer["choices"].as_array().map(Vec::len)), (200, Some(128)), "{answer}");
}
