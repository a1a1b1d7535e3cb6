//! Spans for OpenTelemetry: `otlp_endpoint`, and OpenTelemetry's own variables.

use anyhow::{Context as _, bail};
use loggia_server::{Sampler, Traces};
use tokio::runtime::Handle;

use crate::config::{Config, Environment};

/// The collector's path for spans.
const PATH: &str = "/v1/traces";

/// Starts to record spans, if the configuration or OpenTelemetry's variables name a collector.
pub(super) fn start(
    config: &Config,
    env: Environment<'_>,
    runtime: &Handle,
) -> anyhow::Result<Option<Traces>> {
    let configured = config.otlp_endpoint.as_ref().map(ToString::to_string);
    let Some(url) = collector(configured, env)? else {
        return Ok(None);
    };
    let sampler = sampler(env)?;
    let traces = Traces::start(&url, sampler, runtime).map_err(anyhow::Error::msg);
    let traces = traces.context("spans cannot be sent to the OpenTelemetry collector")?;
    tracing::info!("spans are sent to an OpenTelemetry collector");
    Ok(Some(traces))
}

/// The URL that spans are sent to.
fn collector(configured: Option<String>, env: Environment<'_>) -> anyhow::Result<Option<String>> {
    let is_disabled = env("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"));
    let of_base = |base: String| format!("{}{PATH}", base.trim_end_matches('/'));
    let url = configured
        .map(of_base)
        .or_else(|| env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        .or_else(|| env("OTEL_EXPORTER_OTLP_ENDPOINT").map(of_base));
    let Some(url) = url.filter(|_| !is_disabled) else {
        return Ok(None);
    };
    match env("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(other) => bail!("OTEL_TRACES_EXPORTER is `{other}`; it may be otlp or none"),
    }
    let protocol = [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ];
    let protocol = protocol
        .into_iter()
        .find_map(|name| Some((name, env(name)?)));
    if let Some((name, protocol)) = protocol.filter(|(_, protocol)| protocol != "http/protobuf") {
        bail!(
            "{name} is `{protocol}`; spans are sent as http/protobuf, which collectors take at port 4318"
        );
    }
    Ok(Some(url))
}

fn sampler(env: Environment<'_>) -> anyhow::Result<Sampler> {
    let Some(name) = env("OTEL_TRACES_SAMPLER") else {
        return Ok(Sampler::default());
    };
    let argument = env("OTEL_TRACES_SAMPLER_ARG");
    Ok(Sampler::named(name.trim(), argument.as_deref())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The URL under these variables, or the error.
    fn url(configured: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let env = |asked: &str| {
            let found = variables.iter().find(|(name, _)| *name == asked);
            found.map(|(_, value)| (*value).to_owned())
        };
        let url = collector(configured.map(str::to_owned), &env);
        url.map_err(|error| error.to_string())
    }

    #[test]
    fn a_collector_is_named_by_the_setting_or_by_the_variables_of_opentelemetry() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:4318/spans");
        let to = |url: &str| Ok(Some(url.to_owned()));
        assert_eq!(url(None, &[]), Ok(None));
        assert_eq!(url(None, &[base]), to("http://a:4318/v1/traces"));
        assert_eq!(url(None, &[base, own]), to("http://b:4318/spans"));
        let configured = Some("http://c:4318");
        assert_eq!(url(configured, &[base, own]), to("http://c:4318/v1/traces"));
        for off in [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert_eq!(url(configured, &[off]), Ok(None), "{off:?}");
        }
        for wrong in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ] {
            let error = url(configured, &[wrong]).unwrap_err();
            assert!(
                error.contains(wrong.0) && error.contains(wrong.1),
                "{error}"
            );
            // Variables for others do not matter while nothing is sent.
            assert_eq!(url(None, &[wrong]), Ok(None));
        }
    }
}
