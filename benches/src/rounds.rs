//! The measurements: each kind of work in turns with what it is compared with. `open_streams` has
//! those of many open streams.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    answers::{self, Delivery},
    cost::CpuTime,
    gateway::{self, Gateway},
    load::{self, Api, Load},
    open_streams::{self, Held, Weight},
    stand_in::{Plan, StandIn},
};

/// One kind of work.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// The unit of the cost.
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    /// The API of the requests to Loggia.
    api: Api,
    pub(crate) beside: Beside,
    /// `None` for an unstreamed answer.
    stream: Option<Delivery>,
    connections: usize,
    answers: usize,
    tokens: usize,
}

impl Work {
    /// Returns one part in `share` of the work.
    fn one_part_in(self, share: usize) -> Self {
        let answers = (self.answers / share).max(self.connections);
        Self { answers, ..self }
    }

    /// Returns the same work with streams that the upstream sends in as few writes as possible.
    fn at_once(self) -> Self {
        let stream = self.stream.map(|_| Delivery::AtOnce);
        Self { stream, ..self }
    }
}

/// The reference for the cost of a kind of work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// nginx, which copies the same bytes.
    Nginx,
    /// Loggia, when the client asks for the same answer by another API.
    Loggia(Api),
}

/// The highest cost that is accepted.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// As a multiple of the cost of the other side.
    Ratio(f64),
    /// In microseconds more than the other side.
    More(f64),
}

/// The costs of one kind of work, in microseconds per unit, one entry per pair.
pub(crate) struct Compared {
    pub(crate) work: Work,
    pub(crate) loggia: Vec<f64>,
    pub(crate) other: Vec<f64>,
}

/// All results.
pub(crate) struct Measured {
    pub(crate) compared: Vec<Compared>,
    pub(crate) weights: Vec<Weight>,
    pub(crate) held: Vec<Held>,
}

const TOKEN_EVERY: Duration = Duration::from_millis(20);

/// A stream of this many tokens, in as few writes as possible.
pub(crate) fn quick_stream(tokens: usize) -> Work {
    Work { tokens, ..AT_ONCE }
}

/// Streams of this many tokens, one each second, all at different times.
pub(crate) fn slow_streams(streams: u32, tokens: usize) -> Work {
    Work {
        stream: Some(Delivery::Paced {
            every: Duration::from_secs(1),
            beats: streams,
        }),
        connections: streams as usize,
        tokens,
        ..STREAM
    }
}

/// Streams of chats beside nginx, on which the other kinds of work are based.
const STREAM: Work = Work {
    name: "",
    what: "",
    unit: "streamed token",
    goal: Goal::Ratio(1.5),
    api: Api::Chat,
    beside: Beside::Nginx,
    stream: None,
    connections: 16,
    answers: 1000,
    tokens: 500,
};
const UNPACED: Work = Work {
    name: "unpaced",
    what: "streams of 500 tokens at full speed, one write per token, 16 connections",
    stream: Some(Delivery::OneByOne),
    ..STREAM
};
const AT_ONCE: Work = Work {
    name: "at once",
    what: "the same, but the upstream sends the stream in as few writes as possible",
    stream: Some(Delivery::AtOnce),
    ..STREAM
};
const WHOLE: Work = Work {
    name: "whole",
    what: "JSON answers of 64 tokens, 16 connections",
    unit: "request",
    goal: Goal::Ratio(2.0),
    answers: 20_000,
    tokens: 64,
    ..STREAM
};

/// The kinds of work, in the order of the tables.
fn works() -> Vec<Work> {
    [chats_beside_nginx(), other_apis_beside_chats(), stored()].concat()
}

fn chats_beside_nginx() -> Vec<Work> {
    let paced = |beats| Work {
        stream: Some(Delivery::Paced {
            every: TOKEN_EVERY,
            beats,
        }),
        connections: 200,
        answers: 200,
        tokens: 200,
        ..STREAM
    };
    vec![
        WHOLE,
        UNPACED,
        AT_ONCE,
        Work {
            name: "paced",
            what: "200 streams with 50 tokens/s each, one write per token, at different times",
            ..paced(200)
        },
        Work {
            name: "in step",
            what: "the same, but all streams write at the same time, like an engine with batches",
            ..paced(1)
        },
    ]
}

fn other_apis_beside_chats() -> Vec<Work> {
    let beside_chats = |work, api, goal| Work {
        api,
        beside: Beside::Loggia(Api::Chat),
        goal: Goal::Ratio(goal),
        ..work
    };
    let responses = Api::Responses { stored: false };
    vec![
        Work {
            name: "responses",
            what: "streams as in \"unpaced\", not stored; beside chats",
            ..beside_chats(UNPACED, responses, 1.6)
        },
        Work {
            name: "responses at once",
            what: "streams as in \"at once\", not stored; beside chats",
            ..beside_chats(AT_ONCE, responses, 1.6)
        },
        Work {
            name: "messages",
            what: "streams as in \"unpaced\"; beside chats",
            ..beside_chats(UNPACED, Api::Messages, 1.5)
        },
        Work {
            name: "messages at once",
            what: "streams as in \"at once\"; beside chats",
            ..beside_chats(AT_ONCE, Api::Messages, 1.5)
        },
    ]
}

fn stored() -> Vec<Work> {
    let stored = Work {
        name: "stored",
        what: "JSON responses of 64 tokens stored in SQLite, 16 connections; beside responses that are not stored",
        api: Api::Responses { stored: true },
        beside: Beside::Loggia(Api::Responses { stored: false }),
        goal: Goal::More(150.0),
        answers: 2000,
        ..WHOLE
    };
    vec![
        stored,
        Work {
            name: "stored in turn",
            what: "the same, but one connection, so that no two responses are stored together",
            connections: 1,
            answers: 1000,
            ..stored
        },
    ]
}

/// Measures all kinds of work, or those whose names contain `only`. Of each, it does one part in
/// `share`. `streams` is the number of streams that are open at once.
pub(crate) fn measure(
    loggia: &Path,
    nginx: &Path,
    pairs: usize,
    share: usize,
    streams: u32,
    only: Option<&str>,
) -> Result<Measured> {
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only));
    let stand_in = StandIn::start(plan_for(WHOLE, b""))?;
    let first = gateway::loggia(loggia, stand_in.address)?;
    let second = gateway::nginx(nginx, stand_in.address)?;
    let mut compared = Vec::new();
    for work in works().into_iter().filter(|work| wanted(work.name)) {
        let work = work.one_part_in(share);
        compared.push(compare(&stand_in, [&first, &second], work, pairs)?);
    }
    drop((first, second));
    let weights = if wanted("memory") {
        open_streams::weigh(&stand_in, loggia, nginx)?
    } else {
        Vec::new()
    };
    let held = if wanted("streams") {
        open_streams::hold(&stand_in, loggia, streams)?
    } else {
        Vec::new()
    };
    Ok(Measured {
        compared,
        weights,
        held,
    })
}

/// Lets Loggia do a little of each kind of work in each setup.
pub(crate) fn train(loggia: &Path) -> Result<()> {
    let stand_in = StandIn::start(plan_for(WHOLE, b""))?;
    let in_front_of_ollama = gateway::loggia(loggia, stand_in.address)?;
    for setup in open_streams::SETUPS {
        let gateway = gateway::loggia_as(loggia, stand_in.address, setup)?;
        for work in works() {
            let work = work.one_part_in(10);
            // The bytes of an engine with OpenAI's API are those that Loggia sends in front of an
            // Ollama.
            let chat = Work {
                api: Api::Chat,
                ..work
            };
            rehearse(&stand_in, &in_front_of_ollama, chat.at_once())?;
            let request = load::request(work.api, gateway.address, work.stream.is_some());
            let body = load::ask_once(gateway.address, &request).context("the first answer")?;
            rehearse(&stand_in, &in_front_of_ollama, chat)?;
            let side = Side {
                gateway: &gateway,
                api: work.api,
                body_bytes: body.len(),
            };
            let cost = cost_of(&stand_in, &side, work)
                .with_context(|| format!("{}: {}", setup.name(), work.name))?;
            eprintln!(
                "{}: {}: {cost:.2} µs per {}",
                setup.name(),
                work.name,
                work.unit
            );
        }
    }
    Ok(())
}

/// One of the two sides of a comparison.
struct Side<'g> {
    gateway: &'g Gateway,
    api: Api,
    /// The length of the body of each of its answers.
    body_bytes: usize,
}

/// Measures both sides in turns, `pairs` times, after one uncounted round.
fn compare(
    stand_in: &StandIn,
    [loggia, nginx]: [&Gateway; 2],
    work: Work,
    pairs: usize,
) -> Result<Compared> {
    let side = |gateway, api| -> Result<Side<'_>> {
        Ok(Side {
            gateway,
            api,
            body_bytes: rehearse(stand_in, loggia, Work { api, ..work })?,
        })
    };
    let sides = [
        side(loggia, work.api)?,
        match work.beside {
            Beside::Nginx => side(nginx, work.api)?,
            Beside::Loggia(api) => side(loggia, api)?,
        },
    ];
    let mut compared = Compared {
        work,
        loggia: Vec::new(),
        other: Vec::new(),
    };
    for round in 0..=pairs {
        for (number, side) in sides.iter().enumerate() {
            let cost = cost_of(stand_in, side, work)
                .with_context(|| format!("{} by {}", work.name, side.gateway.name))?;
            eprintln!(
                "{:>17} {round} {:>6}, {:?}: {cost:7.2} µs per {}",
                work.name, side.gateway.name, side.api, work.unit
            );
            match (round, number) {
                (0, _) => {}
                (_, 0) => compared.loggia.push(cost),
                _ => compared.other.push(cost),
            }
        }
    }
    Ok(compared)
}

/// Requests one answer from Loggia, and prepares the stand-in to send nginx exactly the bytes of
/// this answer. Returns their number.
pub(crate) fn rehearse(stand_in: &StandIn, loggia: &Gateway, work: Work) -> Result<usize> {
    stand_in.set(plan_for(work.at_once(), b""));
    let request = load::request(work.api, loggia.address, work.stream.is_some());
    let body = load::ask_once(loggia.address, &request).context("the first answer")?;
    stand_in.set(plan_for(work, &body));
    Ok(body.len())
}

fn plan_for(work: Work, replay: &[u8]) -> Plan {
    match work.stream {
        None => Plan {
            ollama: answers::ollama_whole(work.tokens),
            openai: answers::json(&String::from_utf8_lossy(replay)),
            delivery: Delivery::AtOnce,
        },
        Some(delivery) => Plan {
            ollama: answers::ollama_stream(work.tokens, delivery),
            openai: answers::sse_replay(replay, work.tokens, delivery),
            delivery,
        },
    }
}

/// The CPU time per unit of work, in microseconds.
fn cost_of(stand_in: &StandIn, side: &Side<'_>, work: Work) -> Result<f64> {
    let gateway = side.gateway;
    let load = Load {
        target: gateway.address,
        request: load::request(side.api, gateway.address, work.stream.is_some()),
        connections: work.connections,
        answers: work.answers,
        body_bytes: side.body_bytes,
    };
    stand_in.take_counts();
    let before = CpuTime::of(gateway.pid)?;
    load::run(&load)?;
    let spent = CpuTime::of(gateway.pid)?.since(&before);
    let (chats, _) = stand_in.take_counts();
    ensure!(
        chats == work.answers,
        "{} answers from {chats} chats upstream",
        work.answers
    );
    let units = if work.stream.is_some() {
        work.answers * work.tokens
    } else {
        work.answers
    };
    Ok(spent.as_secs_f64() * 1e6 / as_f64(units))
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}
