//! The time of a call with many stored responses in SQLite beside few, and the memory of a server
//! that stores. `rounds` measures the CPU time of storing.
//!
//! Loggia is in front of the Ollama stand-in, which answers at once with 64 tokens. Times are
//! measured with two servers in turns: one with few stored responses and one with many.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;

use crate::{
    answers::{self, Delivery, MODEL},
    cost::{self, CpuTime},
    gateway::{self, Gateway},
    load::{self, Connection},
    machine,
    report::{self, Part, median},
    stand_in::{Plan, StandIn},
};

const TOKENS: usize = 64;
const FEW: usize = 100;
/// After how many stored responses the memory is read again.
const TURNS: usize = 10_000;
/// The number of calls whose times are compared.
const CALLS: usize = 2000;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The program to measure, built with `cargo build --release -p loggia --no-default-features`.
    #[arg(long, default_value = "target/release/loggia")]
    loggia: PathBuf,
    /// How many stored responses are many; below 100,000 the page is not written.
    #[arg(long, default_value_t = 100_000)]
    many: usize,
    /// Where to write this part of the page.
    #[arg(long, default_value = "docs/benchmarks.md")]
    page: PathBuf,
}

/// The results, in microseconds and bytes.
struct Measured {
    many: usize,
    retrieve: Compared,
    /// The CPU time of the server for one of these calls.
    retrieve_cpu: Compared,
    create: Compared,
    /// The CPU time of the server for storing a response.
    create_cpu: Compared,
    /// Resident memory after the first hundred stored responses, and after ten thousand.
    memory: [u64; 2],
}

/// Medians of the times of one call, with few stored responses and with many.
struct Compared {
    few: f64,
    many: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let measured = measure(&arguments.loggia, arguments.many)?;
    let section = section(&measured);
    print!("{section}");
    if arguments.many >= 100_000 {
        report::write_section(&arguments.page, Part::Stored, &section)?;
    }
    Ok(())
}

fn measure(loggia: &Path, many: usize) -> Result<Measured> {
    let stand_in = StandIn::start(Plan {
        ollama: answers::ollama_whole(TOKENS),
        openai: answers::json(""),
        delivery: Delivery::AtOnce,
    })?;
    let start = || gateway::loggia(loggia, stand_in.address);
    let (few_server, many_server) = (start()?, start()?);
    load::block_on(async {
        let few = store(&few_server, 1, FEW).await?;
        let mut ids = store(&many_server, 1, FEW).await?;
        let first = cost::resident(many_server.pid)?;
        ids.extend(store(&many_server, 1, TURNS.min(many) - FEW).await?);
        let memory = [first, cost::resident(many_server.pid)?];
        ids.extend(store(&many_server, 16, many.saturating_sub(ids.len())).await?);
        eprintln!("{} responses are stored", ids.len());
        let (retrieve, retrieve_cpu) =
            retrieve([(&few_server, &few), (&many_server, &ids)]).await?;
        let (create, create_cpu) = create([&few_server, &many_server]).await?;
        Ok(Measured {
            many,
            retrieve,
            retrieve_cpu,
            create,
            create_cpu,
            memory,
        })
    })
}

/// Stores responses. Returns their ids.
async fn store(server: &Gateway, connections: usize, number: usize) -> Result<Vec<String>> {
    let request = request(server.address, true);
    let mut tasks = tokio::task::JoinSet::new();
    for each in 0..connections {
        let (request, target) = (request.clone(), server.address);
        let number = number / connections + usize::from(each < number % connections);
        tasks.spawn(async move {
            let mut connection = Connection::open(target, usize::MAX).await?;
            let mut ids = Vec::with_capacity(number);
            for _ in 0..number {
                ids.push(id(&connection.ask(&request).await?.tail)?);
            }
            anyhow::Ok(ids)
        });
    }
    let mut ids = Vec::with_capacity(number);
    while let Some(done) = tasks.join_next().await {
        ids.extend(done.context("a connection's task failed")??);
    }
    Ok(ids)
}

/// Retrieves responses from both servers in turns. Returns the times of the calls, and the CPU times
/// of the servers.
async fn retrieve(servers: [(&Gateway, &Vec<String>); 2]) -> Result<(Compared, Compared)> {
    let mut times = [Vec::new(), Vec::new()];
    let mut connections = Vec::new();
    for (server, _) in servers {
        connections.push(Connection::open(server.address, 0).await?);
    }
    let cpu = || -> Result<[CpuTime; 2]> {
        let [(few, _), (many, _)] = servers;
        Ok([CpuTime::of(few.pid)?, CpuTime::of(many.pid)?])
    };
    let before = cpu()?;
    for call in 0..CALLS {
        for (index, (server, ids)) in servers.into_iter().enumerate() {
            // A step that shares no factor with the number reaches all of them in no order.
            let id = &ids[call * 7919 % ids.len()];
            let request = format!(
                "GET /v1/responses/{id} HTTP/1.1\r\nhost: {}\r\n\r\n",
                server.address
            );
            times[index].push(time(&mut connections[index], request.as_bytes()).await?);
        }
    }
    let after = cpu()?;
    let spent = |index: usize| micros(after[index].since(&before[index])) / as_f64(CALLS);
    let cpu = Compared {
        few: spent(0),
        many: spent(1),
    };
    Ok((compared(times), cpu))
}

/// Makes responses on both servers in turns. The part of creating is the time that a stored response
/// takes longer than one that is not stored; the CPU time of the server likewise.
async fn create(servers: [&Gateway; 2]) -> Result<(Compared, Compared)> {
    let mut times = [const { Vec::new() }; 4];
    let mut cpu_times = [const { Vec::new() }; 4];
    let mut connections = Vec::new();
    for server in servers {
        connections.push(Connection::open(server.address, 0).await?);
    }
    for _ in 0..CALLS / 2 {
        for (index, server) in servers.into_iter().enumerate() {
            for (half, stores) in [(0, true), (2, false)] {
                let request = request(server.address, stores);
                let before = CpuTime::of(server.pid)?;
                times[index + half].push(time(&mut connections[index], &request).await?);
                let spent = CpuTime::of(server.pid)?.since(&before);
                cpu_times[index + half].push(micros(spent));
            }
        }
    }
    Ok((more(&times), more(&cpu_times)))
}

/// How much longer stored responses take than others: few stored, many stored, and the others.
fn more(times: &[Vec<f64>; 4]) -> Compared {
    let [few, many, few_other, many_other] = times.each_ref().map(|times| median(times));
    Compared {
        few: few - few_other,
        many: many - many_other,
    }
}

async fn time(connection: &mut Connection, request: &[u8]) -> Result<f64> {
    let begun = Instant::now();
    connection.ask(request).await?;
    Ok(micros(begun.elapsed()))
}

fn compared([few, many]: [Vec<f64>; 2]) -> Compared {
    Compared {
        few: median(&few),
        many: median(&many),
    }
}

fn request(target: SocketAddr, stores: bool) -> Bytes {
    let body = format!(
        r#"{{"model":"{MODEL}","input":"Tell me the story of a lighthouse keeper who had never seen snow.","store":{stores}}}"#
    );
    format!(
        "POST /v1/responses HTTP/1.1\r\nhost: {target}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

/// The id of a response.
fn id(body: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(body);
    let id = text
        .split('"')
        .find(|part| part.starts_with("resp_"))
        .with_context(|| format!("no id in {text}"))?;
    Ok(id.to_owned())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

fn section(measured: &Measured) -> String {
    let Measured {
        many,
        retrieve,
        retrieve_cpu,
        create,
        create_cpu,
        memory: [first, later],
    } = measured;
    let mut page = format!(
        "Calls over HTTP to a server that stores responses in SQLite, in front of an Ollama stand-in that
answers at once with {TOKENS} tokens. Times are medians of {CALLS} calls, one at a time, to two servers in
turns: one with about {FEW} stored responses, one with {many}. *Create* is the time that a stored
response takes longer than one that is not stored, the wait for the disk included. *CPU time* of
creating is a median, too, and that of retrieving a mean.

| call | µs with few stored | µs with many | ratio | goal |
|---|---|---|---|---|
"
    );
    let rows = [
        ("retrieve", retrieve, "≤ 1.2×"),
        ("retrieve, CPU time of the server", retrieve_cpu, ""),
        ("create", create, "≤ 1.2×"),
        ("create, CPU time of the server", create_cpu, "≤ 150 µs"),
    ];
    for (name, Compared { few, many }, goal) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| {name} | {few:.0} | {many:.0} | {:.2}× | {goal} |",
            many / few
        );
    }
    let _ = write!(
        page,
        "\nResident memory: {:.1} MiB after {FEW} stored responses, {:.1} MiB after {TURNS} (goal: at most
2 MiB more).\n\n",
        mebibytes(*first),
        mebibytes(*later)
    );
    for (what, value) in machine::alone_and_load() {
        let _ = writeln!(page, "- {what}: {value}");
    }
    page
}

fn mebibytes(bytes: u64) -> f64 {
    as_f64(usize::try_from(bytes).unwrap_or(usize::MAX)) / f64::from(1 << 20)
}
