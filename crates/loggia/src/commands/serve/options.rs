//! From the configuration to the settings of the libraries: the policy of the API and the options of
//! the server.

use std::net::SocketAddr;

use anyhow::Context as _;
use loggia_api::{FileLimits, Policy};
use loggia_server::{KeyRules, Keys, Live, Metrics, Origins, ServerOptions, Tls, TrustedHeader};

use crate::config::{self, Config};

pub(in crate::commands) fn policy(config: &Config) -> Policy {
    let models = config
        .per_model
        .0
        .iter()
        .map(|(model, its)| (model.clone(), its.policy()));
    Policy {
        strictness: config.strictness(),
        profile: (*config.sampling_profile).into(),
        models: models.collect(),
        body_limit: config.body_limit.length(),
        body_within: config.body_timeout.0,
        heartbeat_after: Some(config.heartbeat_after.0).filter(|after| !after.is_zero()),
        heartbeat_every: config.heartbeat_every.0,
        ceilings: config.ceilings.limits(),
        files: FileLimits {
            file_bytes: config.file_size.bytes(),
            key_bytes: config.files_size.bytes(),
            ..FileLimits::default()
        },
        recording_bytes: config.recording_size.bytes(),
        embedding_model: (*config.embedding_model).clone(),
        deletes_without_key: false,
        moderation_model: (*config.moderation_model).clone(),
        moderation_format: config.moderation_format.map(Into::into),
        ollama_api: config.ollama_api.iter().map(|path| path.0).collect(),
    }
}

/// The policy of a server that listens on this address. Without API keys, only clients on this machine
/// may delete models.
pub(super) fn policy_at(config: &Config, address: SocketAddr) -> Policy {
    Policy {
        deletes_without_key: address.ip().is_loopback(),
        ..policy(config)
    }
}

pub(super) fn options(config: &Config) -> anyhow::Result<ServerOptions> {
    let of_this_machine = ServerOptions::default().workers;
    Ok(ServerOptions {
        workers: config
            .workers
            .map_or(of_this_machine, |workers| workers.get() as usize),
        head_timeout: config.head_timeout.0,
        stall_timeout: config.stall_timeout.0,
        ready_timeout: config.ready_timeout.0,
        max_connections: config.max_connections.get() as usize,
        shutdown_timeout: config.shutdown_timeout.0,
        websocket_timeout: config.websocket_timeout.0,
        websocket_idle_timeout: config.websocket_idle_timeout.0,
        origins: origins(config)?,
        keys: Keys::of(key_rules(config)?),
        tls: tls(config)?,
        metrics: config.metrics.0.then(Metrics::default),
        metrics_route: config.metrics_listen.value.is_none(),
        live: config.console.0.then(Live::default),
        // Only `serve` records spans.
        traces: None,
    })
}

/// The web pages that may use the API.
pub(super) fn origins(config: &Config) -> anyhow::Result<Origins> {
    match &*config.cors_origins {
        Some(origins) => Origins::parse(origins).context("cors_origins"),
        None => Ok(Origins::default()),
    }
}

/// The API keys and their limits, and the proxies that name users.
pub(super) fn key_rules(config: &Config) -> anyhow::Result<KeyRules> {
    Ok(KeyRules {
        keys: config::keys(&config.key),
        required: config.require_key.as_ref().map(|required| required.0),
        limits: config.limits.value.clone().map(|limits| limits.0),
        trusted: trusted(config)?,
    })
}

/// The certificate, if there is one.
fn tls(config: &Config) -> anyhow::Result<Option<Tls>> {
    match (&config.tls_cert.value, &config.tls_key.value) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Tls::read(certificate, key)?)),
        _ => anyhow::bail!("tls_cert and tls_key are set together; one of them is missing"),
    }
}

/// The header by which a proxy names users.
fn trusted(config: &Config) -> anyhow::Result<Option<TrustedHeader>> {
    let Some(header) = config.trusted_header.value.clone() else {
        return Ok(None);
    };
    let this_machine = || ["127.0.0.1".to_owned(), "::1".to_owned()];
    let peers = match &config.trusted_peers.value[..] {
        [] => &this_machine()[..],
        peers => peers,
    };
    let peers = peers.iter().map(|peer| peer.parse());
    Ok(Some(TrustedHeader {
        header: header.0,
        peers: peers.collect::<Result<_, _>>().context("trusted_peers")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_defaults_are_those_of_its_libraries() {
        let home = |name: &str| (name == "HOME").then(|| "/home/someone".to_owned());
        let config = Config::load(&config::Flags::default(), &home).unwrap();
        assert_eq!(
            format!("{:?}", policy(&config)),
            format!("{:?}", Policy::default())
        );
        assert_eq!(
            format!("{:?}", options(&config).unwrap()),
            format!("{:?}", ServerOptions::default())
        );
        assert_eq!(
            config.images.limits(),
            loggia_backend::fetch_images::Limits::default()
        );
    }
}
