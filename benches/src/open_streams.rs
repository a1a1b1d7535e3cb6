//! Many open streams with one token a second each: the memory of one, and whether thousands of them
//! reach their ends.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};

use crate::{
    cost::{self, CpuTime},
    gateway::{self, Gateway, Setup},
    load::{self, Api, Load},
    rounds::{as_f64, quick_stream, rehearse, slow_streams},
    stand_in::StandIn,
};

/// The number of streams whose memory is measured.
pub(crate) const WEIGHED: u32 = 2000;

/// The memory of an open stream: growth of resident memory in bytes per stream.
pub(crate) struct Weight {
    pub(crate) name: &'static str,
    pub(crate) bytes: f64,
}

/// Many streams that were open at the same time.
pub(crate) struct Held {
    pub(crate) name: &'static str,
    pub(crate) streams: u32,
    /// The number of streams that ended without `[DONE]`, or with another length than most.
    pub(crate) broken: usize,
    /// The growth of resident memory in bytes per stream.
    pub(crate) bytes: f64,
    /// The CPU time of the gateway for a streamed token, in microseconds.
    pub(crate) micros: f64,
}

/// The setups of Loggia that are measured.
pub(crate) const SETUPS: [Setup; 4] = [
    Setup::PLAIN,
    Setup {
        is_ollama: true,
        has_keys: true,
    },
    Setup {
        is_ollama: false,
        has_keys: false,
    },
    Setup {
        is_ollama: false,
        has_keys: true,
    },
];

/// How long the CPU time of open streams is measured.
const OBSERVED: Duration = Duration::from_secs(20);

/// The length of a stream in tokens and seconds: twenty thousand streams are open before the first
/// ends.
const TOKENS: usize = 60;

/// The open files of a program that are not those of its streams, at most.
const OTHER_FILES: u64 = 100;

/// Returns how many of these streams the limit of open files allows: each takes two, in Loggia and in
/// this program, which has both ends.
pub(crate) fn allowed(streams: u32, files: u64) -> u32 {
    let most = files.saturating_sub(OTHER_FILES) / 2;
    u32::try_from(most).unwrap_or(u32::MAX).min(streams)
}

/// Measures how much a fresh process grows for each of many open streams: Loggia in all setups, and
/// nginx.
pub(crate) fn weigh(stand_in: &StandIn, loggia: &Path, nginx: &Path) -> Result<Vec<Weight>> {
    let mut weights = Vec::new();
    for setup in SETUPS {
        let gateway = ready(stand_in, loggia, setup, WEIGHED)?;
        weights.push(growth(&gateway, setup.name())?);
    }
    weights.push(growth(&gateway::nginx(nginx, stand_in.address)?, "nginx")?);
    Ok(weights)
}

/// Opens many streams, and reads all to their ends.
pub(crate) fn hold(stand_in: &StandIn, loggia: &Path, streams: u32) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    for setup in SETUPS {
        let gateway = ready(stand_in, loggia, setup, streams)?;
        let many = hold_many(&gateway, setup.name(), streams);
        held.push(many.with_context(|| format!("{streams} streams: {}", setup.name()))?);
    }
    Ok(held)
}

/// Starts Loggia, lets it answer once, and prepares the stand-in for slow streams.
fn ready(stand_in: &StandIn, loggia: &Path, setup: Setup, streams: u32) -> Result<Gateway> {
    // The bytes of an engine with OpenAI's API are those that Loggia sends in front of an Ollama.
    let in_front_of_ollama = gateway::loggia(loggia, stand_in.address)?;
    rehearse(stand_in, &in_front_of_ollama, quick_stream(TOKENS))?;
    let gateway = gateway::loggia_as(loggia, stand_in.address, setup)?;
    let request = load::request(Api::Chat, gateway.address, true);
    load::ask_once(gateway.address, &request).context("the first answer")?;
    rehearse(stand_in, &in_front_of_ollama, slow_streams(streams, TOKENS))?;
    Ok(gateway)
}

fn load(gateway: &Gateway, streams: u32) -> Load {
    Load {
        target: gateway.address,
        request: load::request(Api::Chat, gateway.address, true),
        connections: streams as usize,
        answers: 0,
        body_bytes: 0,
    }
}

fn growth(gateway: &Gateway, name: &'static str) -> Result<Weight> {
    let load = load(gateway, WEIGHED);
    let before = cost::resident(gateway.pid)?;
    let after = load::hold_open(&load, 600, || cost::resident(gateway.pid))
        .with_context(|| format!("{WEIGHED} open streams: {name}"))?;
    let bytes = per_stream(before, after, WEIGHED)?;
    eprintln!(
        "  memory   {:7.2} KiB per open stream: {name}",
        bytes / 1024.0
    );
    Ok(Weight { name, bytes })
}

fn hold_many(gateway: &Gateway, name: &'static str, streams: u32) -> Result<Held> {
    let before = cost::resident(gateway.pid)?;
    let look = || {
        let cpu = CpuTime::of(gateway.pid)?;
        Ok::<_, anyhow::Error>((cpu, cost::resident(gateway.pid)?))
    };
    let ended = load::hold_to_the_end(&load(gateway, streams), 600, OBSERVED, look)?;
    let [(begun, _), (now, after)] = ended.looked;
    let tokens = f64::from(streams) * OBSERVED.as_secs_f64();
    let held = Held {
        name,
        streams,
        broken: ended.broken,
        bytes: per_stream(before, after, streams)?,
        micros: now.since(&begun).as_secs_f64() * 1e6 / tokens,
    };
    eprintln!(
        "  streams  {:7.2} KiB per open stream, {:.2} µs per token, {} of {streams} broken: {name}",
        held.bytes / 1024.0,
        held.micros,
        held.broken
    );
    Ok(held)
}

fn per_stream(before: u64, after: u64, streams: u32) -> Result<f64> {
    let grown = usize::try_from(after.saturating_sub(before))?;
    Ok(as_f64(grown) / f64::from(streams))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_allows_half_as_many_streams() {
        assert_eq!(allowed(10_000, 1_048_576), 10_000);
        assert_eq!(allowed(10_000, 20_100), 10_000);
        assert_eq!(allowed(10_000, 20_000), 9950);
        assert_eq!(allowed(10_000, 10), 0);
    }
}
