//! The kinds of work of the engine's measurement. Each begins with a server that has just started.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::client::{ReceivedAnswer, ask, ask_at, chat, greedy, message, response};
use crate::report::median;

/// The text that is repeated to build a prompt of any length.
const SENTENCE: &str = "The keeper of the lighthouse wrote down the weather, the ships that passed, and what the sea had brought. ";
const WORDS_OF_SENTENCE: usize = 19;

/// A result: its name, its unit, and the goal in comparison with llama-server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goal: &'static str,
}

const fn figure(name: &'static str, unit: &'static str, goal: &'static str) -> Figure {
    Figure { name, unit, goal }
}

pub(crate) type Values = Vec<(Figure, f64)>;

/// Measures a server with this number of slots.
pub(crate) async fn measure(target: SocketAddr, users: usize, round: usize) -> Result<Values> {
    // The first answer of a process is always slower, so it is not measured.
    ask(target, &chat(&message("user", "Hello."), 8), None).await?;
    match users {
        1 => Ok([
            rates(target, 1).await?,
            second_turn(target, round).await?,
            under_schema(target, round).await?,
            repeating(target, round).await?,
        ]
        .concat()),
        2 => Ok([pause(target, round).await?, leaving(target, round).await?].concat()),
        8 => Ok([rates(target, 8).await?, shared_prompt(target, round).await?].concat()),
        users => rates(target, users).await,
    }
}

/// Streams of 128 tokens, for short prompts that all arrive at the same time.
async fn rates(target: SocketAddr, users: usize) -> Result<Values> {
    let (name, decoding) = match users {
        1 => ("1 stream", "1 stream, without first tokens"),
        4 => (
            "4 parallel streams",
            "4 parallel streams, without first tokens",
        ),
        8 => (
            "8 parallel streams",
            "8 parallel streams, without first tokens",
        ),
        _ => (
            "16 parallel streams",
            "16 parallel streams, without first tokens",
        ),
    };
    let began = Instant::now();
    let heard = together(
        target,
        (0..users).map(|user| {
            chat(
                &message("user", &format!("Tell me story number {user}.")),
                128,
            )
        }),
    )
    .await?;
    let wall = began.elapsed().as_secs_f64();
    let tokens: f64 = heard.iter().map(|heard| heard.tokens).sum();
    let mut values = vec![(figure(name, "tokens/s", "≥ 1.0×"), tokens / wall)];
    values.push((
        figure(decoding, "tokens/s", "≥ 1.0×"),
        while_all_run(&heard).context("the streams never ran at the same time")?,
    ));
    if users == 8 {
        values.push((
            figure(
                "8 parallel short prompts: first token of the last one",
                "ms",
                "≤ 1.0×",
            ),
            last_first(&heard)?,
        ));
    }
    Ok(values)
}

/// The number of pieces per second between the beginning of the last stream and the end of the
/// first.
fn while_all_run(heard: &[ReceivedAnswer]) -> Option<f64> {
    let from = heard
        .iter()
        .filter_map(|heard| heard.pieces.first())
        .max()?;
    let to = heard.iter().filter_map(|heard| heard.pieces.last()).min()?;
    let count = heard
        .iter()
        .flat_map(|heard| &heard.pieces)
        .filter(|piece| *piece > from && *piece <= to)
        .count();
    let seconds = to.checked_duration_since(*from)?.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "some thousand pieces")]
    (seconds > 0.0).then(|| count as f64 / seconds)
}

/// The next turn of a chat after about 1,500 tokens.
async fn second_turn(target: SocketAddr, round: usize) -> Result<Values> {
    let first = message("user", &words(1300, &format!("Chat {round}.")));
    let answer = ask(target, &chat(&first, 16), None).await?;
    let history = [
        first,
        message("assistant", &answer.text),
        message("user", "And what came after that?"),
    ]
    .join(",");
    let second = ask(target, &chat(&history, 8), None).await?;
    Ok(vec![(
        figure("second turn of a long chat: first token", "ms", "≤ 1.0×"),
        ms(second.first()?),
    )])
}

/// The names of the properties of a schema, each longer than its value.
const PROPERTIES: [&str; 8] = [
    "customer_identification_number",
    "requested_delivery_address_line",
    "estimated_shipping_weight_kilograms",
    "preferred_payment_installments",
    "warehouse_location_identifier",
    "international_customs_declaration",
    "insurance_coverage_percentage",
    "package_handling_instructions",
];

/// An answer under a schema of long names with a digit each.
async fn under_schema(target: SocketAddr, round: usize) -> Result<Values> {
    let of_name = |name: &&str| format!(r#""{name}":{{"type":"integer","minimum":0,"maximum":9}}"#);
    let properties: Vec<String> = PROPERTIES.iter().map(of_name).collect();
    let required = PROPERTIES.map(|name| format!(r#""{name}""#)).join(",");
    let format = format!(
        r#","response_format":{{"type":"json_schema","json_schema":{{"name":"order","strict":true,"schema":{{"type":"object","properties":{{{}}},"required":[{required}],"additionalProperties":false}}}}}}"#,
        properties.join(",")
    );
    let question = |number: usize| message("user", &format!("Fill in order {number}."));
    // The grammar is compiled with the first answer.
    ask(target, &greedy(&question(1000), 400, &format), None).await?;
    let began = Instant::now();
    ask(target, &greedy(&question(round), 400, &format), None).await?;
    Ok(vec![(
        figure(
            "answer under a schema of eight long names with a digit each",
            "ms",
            "≤ 0.4×",
        ),
        ms(began.elapsed()),
    )])
}

/// An answer that repeats its prompt.
async fn repeating(target: SocketAddr, round: usize) -> Result<Values> {
    const WORDS: [&str; 11] = [
        "sea", "stone", "answer", "paper", "river", "blue", "chair", "long", "window", "ship",
        "red",
    ];
    let item = |item: usize| {
        let words =
            (0..6).map(|word| WORDS[(item * (word + 2) + word * word + round) % WORDS.len()]);
        format!("{}. {};", item + 1, words.collect::<Vec<_>>().join(" "))
    };
    let items = (0..14).map(item).collect::<Vec<_>>().join(" ");
    let question = format!("Repeat this list exactly, every word: {items}");
    let heard = ask(target, &greedy(&message("user", &question), 160, ""), None).await?;
    let (first, last) = heard
        .pieces
        .first()
        .zip(heard.pieces.last())
        .context("an answer without text")?;
    Ok(vec![(
        figure(
            "answer that repeats its prompt, without the first token",
            "tokens/s",
            "≥ 2.0×",
        ),
        (heard.tokens - 1.0) / (*last - *first).as_secs_f64(),
    )])
}

/// The last turns of a conversation of 50 turns: the times to the first token of responses that
/// continue it by `previous_response_id`, and of chats with the same history. Each asks another last
/// question, so that the engine has cached the history for all of them, and no question.
pub(crate) async fn turn_50(target: SocketAddr) -> Result<(f64, f64)> {
    let respond = async |previous: &str, input: &str, tokens| {
        let body = response(previous, input, tokens);
        ask_at("/v1/responses", target, &body, None).await
    };
    let (mut previous, mut history) = (String::new(), Vec::new());
    for day in 1..50 {
        let input = format!("Day {day}: what did the keeper write down?");
        let answer = respond(&previous, &input, 16).await?;
        history.push(message("user", &input));
        history.push(message("assistant", &answer.text));
        previous = answer.id;
    }
    let (mut responses, mut chats) = (Vec::new(), Vec::new());
    for round in 0..10 {
        // They take turns to be first.
        for is_response in [round % 2 == 0, round % 2 != 0] {
            if is_response {
                let input = format!("Day 50, page {round}: what did he write down?");
                let answer = respond(&previous, &input, 2).await?;
                responses.push(ms(answer.first()?));
            } else {
                let input = format!("Day 50, line {round}: what did he write down?");
                let all = [history.join(","), message("user", &input)].join(",");
                chats.push(ms(ask(target, &chat(&all, 2), None).await?.first()?));
            }
        }
    }
    // The first of each may find less in the cache.
    Ok((median(&responses[1..]), median(&chats[1..])))
}

/// The pauses of a stream while the long prompt of another request is read.
async fn pause(target: SocketAddr, round: usize) -> Result<Values> {
    let long = |name: &str| {
        chat(
            &message("user", &words(1500, &format!("{name} {round}."))),
            1,
        )
    };
    let alone = ask(target, &long("Alone"), None).await?.first()?;
    let (said, mut so_far) = watch::channel(0);
    let running = tokio::spawn(async move {
        ask(
            target,
            &chat(&message("user", "Tell me a very long story."), 900),
            Some(&said),
        )
        .await
    });
    so_far
        .wait_for(|pieces| *pieces >= 20)
        .await
        .context("the running stream ended early")?;
    let newcomer = ask(target, &long("Beside"), None).await?;
    let read = newcomer.first()?;
    let running = running.await??;
    let pause = running.longest_pause(newcomer.asked, newcomer.asked + read);
    Ok(vec![
        (
            figure(
                "longest pause of a stream while a prompt of 1,500 words is read",
                "ms",
                "≤ 0.06×",
            ),
            ms(pause),
        ),
        (
            figure(
                "first token of that prompt, beside the stream",
                "ms",
                "≤ 1.3× of alone",
            ),
            ms(read),
        ),
        (
            figure("first token of that prompt, alone", "ms", ""),
            ms(alone),
        ),
    ])
}

/// The waiting time of a short prompt that arrives just after a client has cancelled a long one.
async fn leaving(target: SocketAddr, round: usize) -> Result<Values> {
    let long = chat(
        &message("user", &words(1500, &format!("Leaving {round}."))),
        1,
    );
    let _ = timeout(Duration::from_millis(400), ask(target, &long, None)).await;
    let next = ask(target, &chat(&message("user", "Hello again."), 1), None).await?;
    sleep(Duration::from_secs(2)).await;
    Ok(vec![(
        figure(
            "first token of a short prompt, just after a client cancelled a long one",
            "ms",
            "≤ 1.0×",
        ),
        ms(next.first()?),
    )])
}

/// Eight users with the same system prompt of 1,000 tokens.
async fn shared_prompt(target: SocketAddr, round: usize) -> Result<Values> {
    let system = |name: &str| message("system", &words(850, &format!("{name} {round}.")));
    let user = |i: usize| message("user", &format!("What does the keeper think of day {i}?"));
    let cold = system("Cold");
    let all = together(
        target,
        (0..8).map(|i| chat(&[cold.clone(), user(i)].join(","), 16)),
    )
    .await?;
    let cold = last_first(&all)?;
    let warm = system("Warm");
    ask(
        target,
        &chat(
            &[warm.clone(), message("user", "Who are you?")].join(","),
            4,
        ),
        None,
    )
    .await?;
    let all = together(
        target,
        (0..8).map(|i| chat(&[warm.clone(), user(i)].join(","), 16)),
    )
    .await?;
    Ok(vec![
        (
            figure(
                "8 users with the same 1,000 tokens, not cached: first token of the last one",
                "ms",
                "≤ 0.2×",
            ),
            cold,
        ),
        (
            figure("the same, with those tokens cached", "ms", "≤ 0.07×"),
            last_first(&all)?,
        ),
    ])
}

async fn together(
    target: SocketAddr,
    bodies: impl Iterator<Item = String>,
) -> Result<Vec<ReceivedAnswer>> {
    let mut tasks = JoinSet::new();
    for body in bodies {
        tasks.spawn(async move { ask(target, &body, None).await });
    }
    let mut heard = Vec::new();
    while let Some(done) = tasks.join_next().await {
        heard.push(done??);
    }
    Ok(heard)
}

fn last_first(heard: &[ReceivedAnswer]) -> Result<f64> {
    let firsts: Vec<Duration> = heard
        .iter()
        .map(ReceivedAnswer::first)
        .collect::<Result<_>>()?;
    firsts
        .into_iter()
        .max()
        .map(ms)
        .context("no request was sent")
}

/// A text of about `count` words.
pub(crate) fn words(count: usize, beginning: &str) -> String {
    format!("{beginning} {}", SENTENCE.repeat(count / WORDS_OF_SENTENCE))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
