//! The answer to a request: text, endings, token counts, log-probabilities, errors. Each test uses
//! the default model.

use crate::support::{ask, call, call_with, long_text, open};
use futures_util::StreamExt;
use loggia_backend::{Backend, BackendError, EarlyEnd, Event};
use loggia_wire::openai::FinishReason;
use serde_json::json;

#[tokio::test]
async fn a_greeting_is_answered_and_counted() {
    let llama = open(|_| ());
    let whole = ask(&llama, call("Hi", json!({"temperature": 0}))).await;
    assert_eq!(whole.text, "Hello! How can I assist you today?");
    assert_eq!(whole.finish, Some(FinishReason::Stop));
    // The same number as in llama.cpp's own server: it includes the template's system message, but
    // not the token that ends the answer.
    let usage = whole.usage();
    assert_eq!(
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens
        ),
        (31, 9, 40)
    );
    assert_eq!(whole.cached(), 0);
}

#[tokio::test]
async fn max_tokens_is_kept_to_the_token() {
    let llama = open(|_| ());
    for most in [1, 7] {
        let endless = json!({"max_tokens": most, "logit_bias": {"0": -100, "2": -100}});
        let whole = ask(&llama, call("Tell me a long story.", endless)).await;
        assert_eq!(
            (whole.finish, whole.usage().completion_tokens),
            (Some(FinishReason::Length), most)
        );
        assert_eq!(whole.ended_early, None);
    }
}

#[tokio::test]
async fn an_answer_ends_where_the_context_does() {
    let llama = open(|options| options.context = Some(96));
    let story = "Tell me a very long story about the sea.";
    let mut fields = json!({"temperature": 0, "logit_bias": {"0": -100, "2": -100}});
    let whole = ask(&llama, call(story, fields.clone())).await;
    let usage = whole.usage().clone();
    assert_eq!(
        (whole.finish, usage.total_tokens, whole.ended_early),
        (Some(FinishReason::Length), 96, Some(EarlyEnd::Context))
    );
    // The first limit ends the answer before the context is full; with the second, the context is
    // full first.
    for (more, ended_early) in [(0, None), (1, Some(EarlyEnd::Context))] {
        fields["max_tokens"] = json!(usage.completion_tokens + more);
        let whole = ask(&llama, call(story, fields.clone())).await;
        assert_eq!(
            (whole.finish, whole.usage().total_tokens, whole.ended_early),
            (Some(FinishReason::Length), 96, ended_early),
            "{more}"
        );
    }
}

#[tokio::test]
async fn a_request_may_have_a_smaller_context_of_its_own() {
    let llama = open(|options| options.context = Some(512));
    let endless = json!({"temperature": 0, "logit_bias": {"2": -100}, "options": {"num_ctx": 64}});
    let whole = ask(&llama, call("Count.", endless)).await;
    assert_eq!(
        (whole.finish, whole.usage().total_tokens),
        (Some(FinishReason::Length), 64)
    );
    let refused = ask(
        &llama,
        call(&long_text("Read:", 100), json!({"num_ctx": 64})),
    )
    .await
    .error;
    assert!(
        matches!(
            refused,
            Some(BackendError::ContextLengthExceeded {
                prompt_tokens: Some(_),
                context: Some(64)
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_refused_with_both_numbers() {
    let llama = open(|options| options.context = Some(256));
    let whole = ask(&llama, call(&long_text("Read:", 400), json!({}))).await;
    let Some(BackendError::ContextLengthExceeded {
        prompt_tokens: Some(prompt),
        context: Some(256),
    }) = whole.error
    else {
        panic!("{:?}", whole.error);
    };
    assert!((400..500).contains(&prompt), "{prompt}");
}

#[tokio::test]
async fn a_prompt_that_is_too_long_for_sure_is_refused_without_being_counted() {
    let llama = open(|options| options.context = Some(256));
    let refused = llama
        .start(call(&long_text("Count this.", 200_000), json!({})).into())
        .await
        .err();
    assert_eq!(
        refused,
        Some(BackendError::ContextLengthExceeded {
            prompt_tokens: None,
            context: Some(256)
        })
    );
}

#[tokio::test]
async fn a_stop_string_that_straddles_tokens_ends_the_answer_before_it() {
    let llama = open(|_| ());
    let count = |stop| {
        call(
            "Count from one to ten in words.",
            json!({"temperature": 0, "stop": stop, "max_tokens": 60}),
        )
    };
    let whole = ask(&llama, count(json!([]))).await;
    // A part from the middle of the answer, so that it begins and ends inside tokens.
    let middle: String = whole.text.chars().skip(9).take(7).collect();
    let stopped = ask(&llama, count(json!(["nowhere to be found", middle]))).await;
    assert_eq!(
        stopped.text,
        whole.text[..whole.text.find(&middle).unwrap()]
    );
    assert_eq!(stopped.finish, Some(FinishReason::Stop));
}

#[tokio::test]
async fn characters_of_several_tokens_leave_whole() {
    let llama = open(|_| ());
    let repeat = "Repeat exactly: 🦀🦀🦀 née 東京 🦀";
    let reply = llama
        .start(call(repeat, json!({"temperature": 0, "max_tokens": 60})).into())
        .await
        .unwrap();
    let mut events = reply.events;
    let mut text = String::new();
    while let Some(event) = events.next().await {
        if let Event::Chunk(chunk) = event.unwrap() {
            text.extend(
                chunk
                    .choices
                    .into_iter()
                    .filter_map(|choice| choice.delta.content),
            );
        }
    }
    assert!(text.contains('🦀') && !text.contains('\u{fffd}'), "{text}");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    let llama = open(|_| ());
    let with = |seed| {
        call(
            "Tell me a story about a lighthouse.",
            json!({"seed": seed, "temperature": 1.2, "max_tokens": 60}),
        )
    };
    let first = ask(&llama, with(42)).await.text;
    ask(
        &llama,
        call("Something else in between.", json!({"max_tokens": 20})),
    )
    .await;
    assert_eq!(ask(&llama, with(42)).await.text, first);
    assert_ne!(ask(&llama, with(43)).await.text, first);
}

#[tokio::test]
async fn without_a_seed_each_answer_is_another() {
    let llama = open(|_| ());
    let story = || {
        call(
            "Tell me a story about a lighthouse.",
            json!({"temperature": 1.5, "max_tokens": 40}),
        )
    };
    assert_ne!(
        ask(&llama, story()).await.text,
        ask(&llama, story()).await.text
    );
}

#[tokio::test]
async fn log_probabilities_cover_the_text_and_name_the_likeliest() {
    let llama = open(|_| ());
    let fields = json!({"temperature": 0, "max_tokens": 8, "logprobs": true, "top_logprobs": 3});
    let whole = ask(&llama, call("What is the capital of France?", fields)).await;
    assert_eq!(
        whole
            .logprobs
            .iter()
            .map(|logprob| logprob.token.as_str())
            .collect::<String>(),
        whole.text
    );
    for logprob in &whole.logprobs {
        assert!(logprob.logprob <= 0.0);
        assert_eq!(logprob.top_logprobs.len(), 3);
        assert_eq!(
            logprob.top_logprobs[0].token, logprob.token,
            "greedy takes the likeliest"
        );
        assert_eq!(logprob.bytes.as_deref(), Some(logprob.token.as_bytes()));
    }
}

#[tokio::test]
async fn a_stop_string_takes_the_log_probabilities_of_its_tokens_along() {
    let llama = open(|_| ());
    let fields = json!({"temperature": 0, "max_tokens": 30, "logprobs": true, "stop": " France"});
    let whole = ask(&llama, call("What is the capital of France?", fields)).await;
    assert_eq!(
        whole
            .logprobs
            .iter()
            .map(|logprob| logprob.token.as_str())
            .collect::<String>(),
        whole.text
    );
    assert!(!whole.text.contains("France"));
}

#[tokio::test]
async fn several_choices_come_side_by_side_and_are_counted_together() {
    let llama = open(|_| ());
    let reply = llama
        .start(
            call(
                "Name a colour.",
                json!({"n": 3, "seed": 1, "max_tokens": 5}),
            )
            .into(),
        )
        .await
        .unwrap();
    let events: Vec<Event> = reply.events.map(Result::unwrap).collect().await;
    let mut ended = [0; 3];
    for event in &events {
        if let Event::Chunk(chunk) = event {
            chunk
                .choices
                .iter()
                .filter(|choice| choice.finish_reason.is_some())
                .for_each(|choice| ended[choice.index as usize] += 1);
        }
    }
    assert_eq!(ended, [1, 1, 1]);
    let Some(Event::Usage(usage)) = events.last() else {
        panic!("the usage comes last")
    };
    assert!((3..=15).contains(&usage.completion_tokens), "{usage:?}");
    assert!(
        usage.prompt_tokens < 40,
        "the prompt is counted once: {usage:?}"
    );
}

#[tokio::test]
async fn the_next_turn_of_a_chat_reads_only_what_is_new() {
    let llama = open(|_| ());
    let question = long_text("Summarise this in five words:", 300);
    let first = ask(
        &llama,
        call(&question, json!({"temperature": 0, "max_tokens": 20})),
    )
    .await;
    let turns = json!([
        {"role": "user", "content": question}, {"role": "assistant", "content": first.text}, {"role": "user", "content": "Shorter."}
    ]);
    let second = ask(&llama, call_with(turns, json!({"max_tokens": 5}))).await;
    let known = first.usage().prompt_tokens + first.usage().completion_tokens;
    assert!(
        second.cached() + 8 >= known,
        "{} of {known} tokens were in the cache",
        second.cached()
    );
    assert!(second.cached() < second.usage().prompt_tokens);
}

#[tokio::test]
async fn a_prompt_read_from_the_cache_is_answered_like_one_read_anew() {
    let llama = open(|_| ());
    let ask_it = || {
        call(
            &long_text("Which animal jumps here?", 200),
            json!({"temperature": 0, "max_tokens": 12}),
        )
    };
    let (first, second) = (ask(&llama, ask_it()).await, ask(&llama, ask_it()).await);
    assert_eq!(
        (first.cached(), second.cached()),
        (0, first.usage().prompt_tokens - 1)
    );
    assert_eq!(first.text, second.text);
}

#[tokio::test]
async fn another_models_name_is_not_found() {
    let llama = open(|_| ());
    let whole = ask(&llama, call("x", json!({"model": "gpt-4o"}))).await;
    assert_eq!(whole.error, Some(BackendError::model_not_found("gpt-4o")));
}

#[tokio::test]
async fn a_bias_for_an_unknown_token_is_refused_by_name() {
    let llama = open(|_| ());
    let whole = ask(&llama, call("x", json!({"logit_bias": {"999999": 5}}))).await;
    assert!(
        matches!(whole.error, Some(BackendError::InvalidRequest { param: Some(param), .. }) if param == "logit_bias.999999")
    );
}

#[tokio::test]
async fn variables_for_the_chat_template_reach_it_where_it_reads_them() {
    let template = "{{ extra }}{% for message in messages %}{{ message.content }}{% endfor %}";
    let llama = open(|options| options.chat_template = Some(template.to_owned()));
    let can = llama.abilities("smollm2").await.unwrap();
    assert!(can.template_variables.iter().eq(["extra"]));
    let tokens = async |variables| {
        let fields = json!({"max_tokens": 1, "chat_template_kwargs": variables});
        ask(&llama, call("Hi", fields)).await.usage().prompt_tokens
    };
    let plain = tokens(json!({})).await;
    assert_eq!(tokens(json!({"extra": " one two three"})).await, plain + 3);
    let others = json!({"messages": [], "unread": " one two three"});
    assert_eq!(tokens(others).await, plain);
}

/// Clients retry a 500 (3 to 30 times), and the template would fail each time.
#[tokio::test]
async fn a_template_that_fails_is_a_400_without_a_word_of_the_conversation() {
    let always = ("model", Some("chat_template_failed"));
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'x' if false }}{% endfor %}{% endfor %}";
    let at_secrets = |does: &str| {
        format!(
            "{{% if 'secret' in messages[0].content %}}{does}{{% endif %}}{{{{ messages[0].content }}}}"
        )
    };
    for (template, (field, expected)) in [
        (
            "{{ messages[0].content | nosuchfilter }}".to_owned(),
            always,
        ),
        ("{{ nothing.at.all }}".to_owned(), always),
        (endless.to_owned(), always),
        (
            at_secrets("{{ messages | nosuchfilter }}"),
            ("messages", None),
        ),
        (at_secrets(endless), ("messages", None)),
        (
            "{{ raise_exception('No.') }}".to_owned(),
            ("messages", None),
        ),
    ] {
        let llama = open(|options| options.chat_template = Some(template.clone()));
        match ask(&llama, call("my secret", json!({"max_tokens": 1})))
            .await
            .error
        {
            Some(BackendError::InvalidRequest {
                message,
                param,
                code,
            }) => {
                assert_eq!(
                    (param.as_deref(), code.as_deref()),
                    (Some(field), expected),
                    "{template}"
                );
                assert!(
                    message.contains("chat template") && !message.contains("secret"),
                    "{message}"
                );
            }
            other => panic!("{template}: {other:?}"),
        }
        // A text completion needs no template.
        let text = crate::support::completion(&json!({"max_tokens": 1}), &json!({"prompt": "Hi"}));
        assert_eq!(crate::support::complete(&llama, text).await.error, None);
    }
}

#[tokio::test]
async fn an_answer_continues_the_text_that_the_client_wrote_as_its_own() {
    let llama = open(|_| ());
    let said = ask(&llama, call("Hi", json!({"temperature": 0})))
        .await
        .text;
    for beginning in ["Hello! How", "Hello! How can I assist"] {
        let messages =
            json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": beginning}]);
        let fields = json!({"temperature": 0, "continue_final_message": true, "add_generation_prompt": false});
        let whole = ask(&llama, call_with(messages, fields)).await;
        assert_eq!(format!("{beginning}{}", whole.text), said);
        assert_eq!(whole.finish, Some(FinishReason::Stop));
    }
    let user = json!({"role": "user", "content": "Hi"});
    let assistant = json!({"role": "assistant", "content": "Hello"});
    for (messages, format) in [
        (json!([user]), "text"),
        (json!([user, assistant]), "json_object"),
    ] {
        let fields = json!({"continue_final_message": true, "response_format": {"type": format}});
        let whole = ask(&llama, call_with(messages, fields)).await;
        let Some(BackendError::InvalidRequest { param, .. }) = whole.error else {
            panic!("{whole:?}");
        };
        assert_eq!(param.as_deref(), Some("continue_final_message"));
    }
}

#[tokio::test]
async fn the_first_chunk_reports_the_tokens_of_the_prompt() {
    let llama = open(|_| ());
    for cached in [0, 30] {
        let whole = ask(&llama, call("Hi", json!({"max_tokens": 3}))).await;
        let [prompt] = whole.prompts[..] else {
            panic!("{:?}", whole.prompts);
        };
        assert_eq!((prompt.tokens, prompt.cached), (31, cached));
        assert_eq!(prompt.tokens, whole.usage().prompt_tokens);
        assert_eq!(prompt.cached, whole.cached());
    }
}

#[tokio::test]
async fn a_prompt_can_be_read_without_an_answer() {
    let llama = open(|_| ());
    let whole = ask(&llama, call("Hi", json!({"max_completion_tokens": 0}))).await;
    assert_eq!(
        (whole.text.as_str(), whole.usage().completion_tokens),
        ("", 0)
    );
    let whole = ask(&llama, call("Hi", json!({"max_tokens": 3}))).await;
    assert_eq!(whole.cached(), 30);
}
