//! `loggia nodes`: the nodes that are added to backends and taken from them while servers run. A
//! server that uses the same store notices each change within a second.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use loggia_api::store::{NodeStore, NodeWish, StoredNode};

use super::{print, runtime};
use crate::backends::{node_place, nodes_of};
use crate::cli::{NodeArgs, NodesCommand};
use crate::config::{Config, Url};
use crate::{logs, state};

pub(super) fn run(command: &NodesCommand) -> anyhow::Result<ExitCode> {
    logs::start("warn");
    let place = match command {
        NodesCommand::List { place } => place,
        NodesCommand::Add(args) | NodesCommand::Drain(args) | NodesCommand::Remove(args) => {
            &args.place
        }
    };
    let config = Config::of_this_process(&place.clone().into())?;
    let store = state::node_store(&config)?;
    let output = runtime()?.block_on(async {
        match command {
            NodesCommand::List { .. } => list(&store, &config).await,
            NodesCommand::Add(args) => add(&store, &config, args).await,
            NodesCommand::Drain(args) => change(&store, &config, args, NodeWish::Drained).await,
            NodesCommand::Remove(args) => change(&store, &config, args, NodeWish::Removed).await,
        }
    })?;
    print(&output)
}

async fn list(store: &dyn NodeStore, config: &Config) -> anyhow::Result<String> {
    let wishes = stored(store).await?;
    let configured = nodes_of(config);
    let about = |(backend, place): &(String, String)| {
        let mut wishes = wishes.iter();
        wishes.find(|wish| wish.backend == *backend && wish.place == *place)
    };
    let mut lines: Vec<(&str, &str, &str)> = configured
        .iter()
        .map(|node| {
            let wish = about(node).map(|wish| wish.wish);
            let wish = wish.filter(|wish| *wish != NodeWish::Added);
            let state = wish.map_or("configured", NodeWish::name);
            (&*node.0, &*node.1, state)
        })
        .collect();
    let others = wishes.iter().filter(|wish| {
        let mut configured = configured.iter();
        !configured.any(|(backend, place)| wish.backend == *backend && wish.place == *place)
    });
    lines.extend(others.map(|wish| (&*wish.backend, &*wish.place, wish.wish.name())));
    if lines.is_empty() {
        eprintln!(
            "no node was added or drained; --config FILE also lists the nodes of a configuration"
        );
    }
    let width = |text: fn(&(&str, &str, &str)) -> usize| lines.iter().map(text).max().unwrap_or(0);
    let (backends, places) = (width(|line| line.0.len()), width(|line| line.1.len()));
    let lines = lines
        .iter()
        .map(|(backend, place, state)| format!("{backend:backends$}  {place:places$}  {state}\n"));
    Ok(lines.collect())
}

async fn add(store: &dyn NodeStore, config: &Config, args: &NodeArgs) -> anyhow::Result<String> {
    let NodeArgs { backend, url, .. } = args;
    let place = node_place(config, backend, url);
    let is_configured = nodes_of(config).contains(&(backend.clone(), place.clone()));
    let earlier = stored(store).await?.into_iter();
    let mut earlier = earlier.filter(|wish| wish.backend == *backend && wish.place == place);
    let earlier = earlier.next();
    match earlier {
        Some(earlier) if is_configured => store.forget_node(earlier).await,
        None if is_configured => anyhow::bail!("the configuration has this node already"),
        _ => {
            let url: Url = place.parse().context("this is not the URL of a node")?;
            ensure!(
                !url.by_dns,
                "a name whose addresses are nodes belongs into the configuration, which servers reload without a restart"
            );
            store.put_node(wish(backend, place, NodeWish::Added)).await
        }
    }
    .context("the change cannot be stored")?;
    Ok(format!("added {url} to {backend}\n"))
}

async fn change(
    store: &dyn NodeStore,
    config: &Config,
    args: &NodeArgs,
    to: NodeWish,
) -> anyhow::Result<String> {
    let NodeArgs { backend, url, .. } = args;
    let place = node_place(config, backend, url);
    let changed = store.put_node(wish(backend, place, to)).await;
    changed.context("the change cannot be stored")?;
    Ok(format!("{} {url} of {backend}\n", to.name()))
}

async fn stored(store: &dyn NodeStore) -> anyhow::Result<Vec<StoredNode>> {
    store.nodes().await.context("the nodes cannot be read")
}

fn wish(backend: &str, place: String, wish: NodeWish) -> StoredNode {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    StoredNode {
        backend: backend.to_owned(),
        place,
        wish,
        changed: since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0)),
    }
}
