//! Unknown names of keys, variables and flags, and the most similar known names.

use loggia_backend::nearest;

use super::environment::variables;
use super::error::ConfigError;
use super::settings::{SETTINGS, find};

/// Variables that are not settings: the path of the file, the log level, the key of `loggia chat`.
const OTHER_VARIABLES: [&str; 3] = ["CONFIG", "LOG", "CHAT_KEY"];

/// Names of other programs for Loggia's settings.
const SYNONYMS: &[(&str, &str)] = &[
    ("port", "listen"),
    ("host", "listen"),
    ("bind", "listen"),
    ("address", "listen"),
    ("addr", "listen"),
    ("model", "models"),
    ("model_path", "models"),
    ("hf", "models"),
    ("ctx", "context"),
    ("ctx_size", "context"),
    ("num_ctx", "context"),
    ("n_ctx", "context"),
    ("context_length", "context"),
    ("max_model_len", "context"),
    ("np", "parallel"),
    ("num_parallel", "parallel"),
    ("max_num_seqs", "parallel"),
    ("num_thread", "threads"),
    ("n_threads", "threads"),
    ("ngl", "gpu_layers"),
    ("n_gpu_layers", "gpu_layers"),
    ("num_gpu", "gpu_layers"),
    ("data", "data_dir"),
    ("home", "data_dir"),
    ("models_dir", "data_dir"),
    ("model_dir", "data_dir"),
    ("ollama_url", "ollama"),
    ("ollama_host", "ollama"),
    ("ollama_base_url", "ollama"),
    ("base_url", "openai"),
    ("openai_url", "openai"),
    ("openai_base_url", "openai"),
    ("upstream", "openai"),
    ("backend", "openai"),
    ("backends", "openai"),
    ("api_key", "keys"),
    ("api_keys", "keys"),
    ("key", "keys"),
    ("token", "keys"),
    ("origins", "cors_origins"),
    ("cors", "cors_origins"),
    ("allowed_origins", "cors_origins"),
    ("log_level", "log"),
    ("loglevel", "log"),
    ("debug", "log"),
    ("verbose", "log"),
    ("config_file", "config"),
    ("timeout", "headers_timeout"),
    ("request_timeout", "headers_timeout"),
];

/// Fails at an unknown `LOGGIA_…` variable of this process: it would have no effect.
pub(super) fn check_variables() -> Result<(), ConfigError> {
    let wrong = |(name, value): (String, String)| {
        let why = what_is_wrong_with(&name, &value)?;
        Some(ConfigError::Variable { name, why })
    };
    variables().find_map(wrong).map_or(Ok(()), Err)
}

/// The key among these that was probably meant.
pub(super) fn meant<'a>(key: &str, among: &[&'a str]) -> Option<&'a str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let synonym = SYNONYMS
        .iter()
        .find(|(other, _)| *other == key)
        .map(|(_, meant)| *meant);
    // The file has one table per key.
    let synonym = synonym.map(|meant| {
        if meant == "keys" && among.contains(&"key") {
            "key"
        } else {
            meant
        }
    });
    let named =
        synonym.and_then(|meant| among.iter().find(|candidate| **candidate == meant).copied());
    named.or_else(|| nearest(&key, among.iter().copied()))
}

/// The message about a variable that is set, if Loggia does not have it.
pub(super) fn what_is_wrong_with(name: &str, value: &str) -> Option<String> {
    let its = name.strip_prefix("LOGGIA_")?;
    let key = its.to_ascii_lowercase();
    if OTHER_VARIABLES.contains(&its)
        || is_of_a_key(its)
        || is_of_the_tests(its)
        || is_of_kubernetes(name, value)
    {
        return None;
    }
    if SETTINGS.iter().any(|setting| setting.variable == key) {
        return None;
    }
    let with_variables = SETTINGS.iter().map(|setting| setting.variable);
    let all: Vec<&str> = with_variables.chain(["config", "log"]).collect();
    let Some(meant) = meant(&key, &all) else {
        return Some(
            "there is no such setting; docs/configuration.md and `loggia serve --help` list them"
                .to_owned(),
        );
    };
    Some(format!(
        "there is no such setting; did you mean {}?",
        example_of_variable(meant)
    ))
}

/// An example, as `LOGGIA_LISTEN=127.0.0.1:11435`, by the name of the variable in lower case.
fn example_of_variable(name: &str) -> String {
    let value = match name {
        "config" => "loggia.toml".to_owned(),
        "log" => "debug".to_owned(),
        "keys" => "alice, and the key in LOGGIA_KEY_ALICE".to_owned(),
        name => SETTINGS
            .iter()
            .find(|setting| setting.variable == name)
            .map(|setting| (setting.example)())
            .unwrap_or_default(),
    };
    format!("LOGGIA_{}={value}", name.to_ascii_uppercase())
}

/// An example of a flag, as it is typed in a shell.
pub(crate) fn example_of_flag(flag: &str) -> Option<String> {
    let example = match flag {
        "--host" => "0.0.0.0".to_owned(),
        "--port" => "8080".to_owned(),
        "--hf" => "bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M".to_owned(),
        "--model" => (find("models")?.example)(),
        "--alias" => (find("aliases")?.example)(),
        _ => (find(&flag.strip_prefix("--")?.replace('-', "_"))?.example)(),
    };
    Some(match flag {
        // The value of these flags is optional, so a separate word after them would not be their
        // value.
        "--strict" | "--lenient" => format!("{flag}={example}"),
        _ if example.contains(['*', '{']) => format!("{flag} '{example}'"),
        _ => format!("{flag} {example}"),
    })
}

/// Whether the variable has the key of an API key or of an engine. Where the keys are known, their
/// names are checked.
fn is_of_a_key(its: &str) -> bool {
    its.starts_with("KEY_") || (its.starts_with("OPENAI_") && its.ends_with("_KEY"))
}

/// Variables of the project's own scripts and tests.
fn is_of_the_tests(its: &str) -> bool {
    its.starts_with("TEST_")
        || matches!(
            its,
            "PROGRAM" | "PYTHON" | "NODE" | "ASYNC_OPENAI" | "TEMPLATES"
        )
}

/// Variables that Kubernetes and Docker's links set for a service called `loggia` or `loggia-…`:
/// `LOGGIA_PORT=tcp://10.0.0.1:80`, `LOGGIA_SERVICE_HOST`, `LOGGIA_PORT_80_TCP_ADDR`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let of_port = |protocol: &str| name.contains("_PORT_") && name.contains(protocol);
    ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme))
        || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || ["_TCP", "_UDP", "_SCTP"]
            .iter()
            .any(|protocol| of_port(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_no_setting_is_answered_with_the_one_that_was_meant() {
        let said = |name: &str| what_is_wrong_with(name, "1").unwrap_or_default();
        for (name, meant) in [
            ("LOGGIA_PORT", "LOGGIA_LISTEN=127.0.0.1:11435"),
            ("LOGGIA_HOST", "LOGGIA_LISTEN=127.0.0.1:11435"),
            ("LOGGIA_MODEL", "LOGGIA_MODELS=smollm2:135m"),
            ("LOGGIA_DATADIR", "LOGGIA_DATA_DIR=/var/lib/loggia"),
            ("LOGGIA_KEEPALIVE", "LOGGIA_KEEP_ALIVE=1h"),
            ("LOGGIA_API_KEY", "LOGGIA_KEYS=alice"),
            ("LOGGIA_KEY", "LOGGIA_KEYS=alice"),
            ("LOGGIA_LOG_LEVEL", "LOGGIA_LOG=debug"),
            ("LOGGIA_OLLAMA_URL", "LOGGIA_OLLAMA=http://127.0.0.1:11434"),
            ("LOGGIA_CEILING", "LOGGIA_CEILINGS=choices=16"),
        ] {
            assert!(said(name).contains(meant), "{name}: {}", said(name));
        }
        assert!(said("LOGGIA_XYZZY").contains("docs/configuration.md"));
    }

    #[test]
    fn variables_that_are_settings_or_nobodys_mistake_are_let_be() {
        let names = SETTINGS.iter().map(super::super::table::Setting::variable);
        let others = [
            "LOGGIA_CONFIG",
            "LOGGIA_LOG",
            "LOGGIA_KEYS",
            "LOGGIA_KEY_ALICE",
            "LOGGIA_OPENAI_VLLM_KEY",
            "LOGGIA_CHAT_KEY",
            "HOME",
        ];
        let of_tests = ["LOGGIA_TEST_MODEL", "LOGGIA_PROGRAM"];
        for name in names.chain(others.into_iter().chain(of_tests).map(str::to_owned)) {
            assert_eq!(what_is_wrong_with(&name, "1"), None, "{name}");
        }
        for (name, value) in [
            ("LOGGIA_PORT", "tcp://10.0.0.1:80"),
            ("LOGGIA_SERVICE_HOST", "10.0.0.1"),
            ("LOGGIA_SERVICE_PORT_HTTP", "80"),
            ("LOGGIA_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("LOGGIA_GPU_PORT", "tcp://10.0.0.1:80"),
        ] {
            assert_eq!(what_is_wrong_with(name, value), None, "{name}");
        }
    }
}
