//! The message at the start: what is served, and a curl command to try.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use loggia_backend::Backend;
use loggia_wire::openai::Model;
use serde_json::Value;

use crate::backends::{Backends, threads};
use crate::config::Config;

/// Prints what is served, and a curl command to try: with a model that can chat, if there is one.
pub(super) async fn print(
    backend: &dyn Backend,
    settings: &EngineSettings,
    url: &str,
    requires_key: bool,
) {
    let models = async {
        let models = backend.models().await.ok()?;
        let to_try = model_to_try(backend, &models).await?;
        Some((models, to_try))
    };
    let Ok(Some((models, model))) = tokio::time::timeout(Duration::from_secs(5), models).await
    else {
        print_line(
            "loggia: no model is available yet; `loggia check` with the same flags shows why",
        );
        return;
    };
    print_line(&format!(
        "loggia: serving {} on {url}",
        settings.models(&models)
    ));
    print_line(&format!("try it:\n{}", curl(url, &model, requires_key)));
}

/// The embedded models and the settings of their engine, for the start message.
pub(super) struct EngineSettings {
    embedded: Vec<String>,
    parallel: u32,
    threads: i32,
}

impl EngineSettings {
    pub(super) fn of(backends: &Backends, config: &Config) -> Self {
        Self {
            embedded: backends.embedded.clone(),
            parallel: config.parallel.get(),
            threads: threads(config),
        }
    }

    fn models(&self, models: &[Model]) -> String {
        // The embedded models with their contexts; of all other models, only the number.
        let own: Vec<&Model> = models
            .iter()
            .filter(|model| self.embedded.contains(&model.id))
            .collect();
        let is_alias = |model: &Model| model.extra.contains_key("alias_of");
        let others = models
            .iter()
            .filter(|model| !self.embedded.contains(&model.id) && !is_alias(model))
            .count();
        let mut parts: Vec<String> = own.iter().map(|model| with_context(model)).collect();
        if !own.is_empty() {
            let Self {
                parallel, threads, ..
            } = self;
            let last = parts.pop().unwrap_or_default();
            parts.push(format!(
                "{last}, {parallel} requests at once, {threads} thread{}",
                if *threads == 1 { "" } else { "s" }
            ));
        }
        if others > 0 {
            parts.push(format!(
                "{others} model{} on other servers",
                if others == 1 { "" } else { "s" }
            ));
        }
        parts.join("; ")
    }
}

/// An embedded model, with its context.
fn with_context(model: &Model) -> String {
    match model.extra.get("context_length") {
        Some(context) => format!("{}: context {context} tokens", model.id),
        None => model.id.clone(),
    }
}

/// A model for the curl command, by what it can do.
enum ToTry {
    Chat(String),
    Embeddings(String),
    Reranking(String),
    Recording(String),
}

/// Whether a model can chat according to its `capabilities`. A model without them is assumed to.
pub(crate) fn can_chat(capabilities: Option<&Value>) -> bool {
    let capabilities = capabilities.and_then(Value::as_array);
    capabilities.is_none_or(|can| can.is_empty() || can.iter().any(|can| can == "completion"))
}

/// The first model that can chat, else the first that makes embeddings, reranks or transcribes. Ollama
/// lists the first two.
async fn model_to_try(backend: &dyn Backend, models: &[Model]) -> Option<ToTry> {
    let mut otherwise = models.first().map(|model| ToTry::Chat(model.id.clone()));
    for model in models {
        let Ok(card) = backend.model(&model.id).await else {
            continue;
        };
        let capabilities = card.extra.get("capabilities");
        if can_chat(capabilities) {
            return Some(ToTry::Chat(model.id.clone()));
        }
        if !matches!(otherwise, None | Some(ToTry::Chat(_))) {
            continue;
        }
        let capabilities = capabilities.and_then(Value::as_array);
        let can = |what: &str| capabilities.is_some_and(|all| all.iter().any(|can| can == what));
        if can("embedding") {
            otherwise = Some(ToTry::Embeddings(model.id.clone()));
        } else if can("rerank") {
            otherwise = Some(ToTry::Reranking(model.id.clone()));
        } else if can("transcription") {
            otherwise = Some(ToTry::Recording(model.id.clone()));
        }
    }
    otherwise
}

/// Prints to standard output, and ignores a reader that has left.
pub(super) fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn curl(url: &str, model: &ToTry, requires_key: bool) -> String {
    let key = if requires_key {
        r#" -H "authorization: Bearer $KEY""#
    } else {
        ""
    };
    let (path, model, rest) = match model {
        // Streamed and with a limit: without one, a small model may write until its context is
        // full.
        ToTry::Chat(model) => (
            "chat/completions",
            model,
            r#""stream":true,"max_tokens":200,"messages":[{"role":"user","content":"Say hello."}]"#,
        ),
        ToTry::Embeddings(model) => ("embeddings", model, r#""input":"Say hello.""#),
        ToTry::Reranking(model) => (
            "rerank",
            model,
            r#""query":"pets","documents":["a cat","a car"]"#,
        ),
        ToTry::Recording(model) => {
            let model = model.replace('\'', r"'\''");
            return format!(
                "  curl {url}/v1/audio/transcriptions{key} -F 'model={model}' -F file=@recording.wav"
            );
        }
    };
    let body = format!(r#"{{"model":{},{rest}}}"#, Value::from(model.as_str()));
    // A single quote in a model's name must be escaped for the shell.
    let body = body.replace('\'', r"'\''");
    format!("  curl -N {url}/v1/{path} -H 'content-type: application/json'{key} -d '{body}'")
}

/// An address that clients on this machine can connect to, also if the server listens on every
/// interface.
pub(crate) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let local: IpAddr = if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(local);
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_try_survives_a_shell_whatever_the_models_name() {
        let url = "https://127.0.0.1:11435";
        let line = curl(url, &ToTry::Chat("it's:latest".to_owned()), false);
        assert!(
            line.contains(r#"-d '{"model":"it'\''s:latest","stream":true,"max_tokens":200,"#)
                && !line.contains("authorization"),
            "{line}"
        );
        let line = curl(url, &ToTry::Embeddings("m".to_owned()), true);
        assert!(
            line.contains(r#" -H "authorization: Bearer $KEY" -d '{"model":"m","input":"#),
            "{line}"
        );
        assert!(line.contains("/v1/embeddings "), "{line}");
        let line = curl(url, &ToTry::Recording("it's".to_owned()), false);
        assert!(
            line.contains(r"/v1/audio/transcriptions -F 'model=it'\''s' -F file=@"),
            "{line}"
        );
    }

    #[test]
    fn what_listens_everywhere_is_found_on_this_machine() {
        let shown = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(shown("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(shown("[::]:80"), "[::1]:80");
        assert_eq!(shown("10.0.0.7:80"), "10.0.0.7:80");
    }
}
