//! `loggia nodes`: the nodes that are added to backends and taken from them while servers run. A
//! server that uses the same store notices each change within a second.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use loggia_api::store::{NodeStore, NodeWish, StoredNode};
use loggia_server::NodeChangeError;

use super::{print, runtime};
use crate::backends::{StoreChange, node_place, nodes_of};
use crate::cli::{NodeArgs, NodesCommand};
use crate::config::Config;
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
    let store = state::needed_store(&config, "changes of nodes are")?;
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
    let wishes = stored(store).await?;
    let mut wishes = wishes.iter();
    let earlier = wishes.find(|wish| wish.backend == *backend && wish.place == place);
    let change = StoreChange::add(backend, &place, is_configured, earlier);
    let change = change.map_err(|error| match error {
        NodeChangeError::Twice { .. } => anyhow!("the configuration has this node already"),
        NodeChangeError::Url(why) => anyhow!("this is not the URL of a node: {why}"),
        other => other.into(),
    })?;
    let changed = change.store_in(store).await;
    changed.context("the change cannot be stored")?;
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
    let changed = StoreChange::put(backend, &place, to).store_in(store).await;
    changed.context("the change cannot be stored")?;
    Ok(format!("{} {url} of {backend}\n", to.name()))
}

async fn stored(store: &dyn NodeStore) -> anyhow::Result<Vec<StoredNode>> {
    store.nodes().await.context("the nodes cannot be read")
}
