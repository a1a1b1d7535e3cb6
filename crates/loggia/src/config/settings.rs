//! The settings by name, with an example of each: what error messages show, and what a mistyped
//! name is compared with.

use loggia_backend::nearest;

/// One setting.
pub(super) struct Setting {
    /// Its key in the file.
    pub(super) key: &'static str,
    /// A value for it in the file, as TOML.
    pub(super) value: &'static str,
    /// A value for its variable, `LOGGIA_` and the key in capitals. Without one it is for the file
    /// alone.
    pub(super) variable: Option<&'static str>,
}

const fn of(key: &'static str, value: &'static str, variable: &'static str) -> Setting {
    Setting {
        key,
        value,
        variable: Some(variable),
    }
}

const fn of_file(key: &'static str, value: &'static str) -> Setting {
    Setting {
        key,
        value,
        variable: None,
    }
}

/// Every setting, in the order of the documentation.
pub(super) const SETTINGS: &[Setting] = &[
    of("listen", r#""127.0.0.1:11435""#, "127.0.0.1:11435"),
    of("data_dir", r#""/var/lib/loggia""#, "/var/lib/loggia"),
    of("strict", "true", "true"),
    of("lenient", "true", "true"),
    of("sampling_profile", r#""openai""#, "openai"),
    of("models", r#"["smollm2:135m"]"#, "smollm2:135m"),
    of(
        "lora",
        r#"{ tuned = { base = "smollm2:135m", file = "adapter.gguf" } }"#,
        "tuned=smollm2:135m+adapter.gguf",
    ),
    of(
        "mmproj",
        r#"{ smolvlm = "mmproj.gguf" }"#,
        "smolvlm=mmproj.gguf",
    ),
    of("context", "8192", "8192"),
    of("parallel", "4", "4"),
    of("threads", "4", "4"),
    of("gpu_layers", "20", "20"),
    of("memory", r#""12GiB""#, "12GiB"),
    of("keep_alive", r#""1h""#, "1h"),
    of(
        "ollama",
        r#"["http://127.0.0.1:11434"]"#,
        "http://127.0.0.1:11434",
    ),
    of(
        "openai",
        r#"[{ name = "vllm", url = "http://127.0.0.1:8000/v1" }]"#,
        "vllm=http://127.0.0.1:8000/v1",
    ),
    of(
        "aliases",
        r#"{ "gpt-*" = "smollm2:135m" }"#,
        "gpt-*=smollm2:135m",
    ),
    of_file("key", r#"[{ name = "alice" }]"#),
    of(
        "cors_origins",
        r#"["https://chat.example"]"#,
        "https://chat.example",
    ),
    of("workers", "2", "2"),
    of("body_limit", r#""32MiB""#, "32MiB"),
    of("max_connections", "4096", "4096"),
    of("head_timeout", r#""75s""#, "75s"),
    of("body_timeout", r#""2m""#, "2m"),
    of("connect_timeout", r#""5s""#, "5s"),
    of("headers_timeout", r#""10m""#, "10m"),
    of("idle_timeout", r#""2m""#, "2m"),
    of("heartbeat_after", r#""10s""#, "10s"),
    of("heartbeat_every", r#""10s""#, "10s"),
    of("stall_timeout", r#""1m""#, "1m"),
    of("ready_timeout", r#""5s""#, "5s"),
    of("shutdown_timeout", r#""30s""#, "30s"),
    of_file("ceilings", "{ choices = 16 }"),
    of_file("images", r#"{ bytes = "10MiB" }"#),
    of_file("per_model", r#"{ "smollm2:135m" = { strict = true } }"#),
];

/// Variables that are no settings: where the file is, what is logged, whose keys there are, which
/// key `loggia chat` has.
const OTHER_VARIABLES: [&str; 4] = ["CONFIG", "LOG", "KEYS", "CHAT_KEY"];

/// What other programs call a setting, and what it is called here.
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

/// A setting by its key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The key that somebody means who writes this one, among those that may stand there.
pub(super) fn meant<'a>(key: &str, among: &[&'a str]) -> Option<&'a str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let synonym = SYNONYMS
        .iter()
        .find(|(other, _)| *other == key)
        .map(|(_, meant)| *meant);
    // The file has a table for each key.
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

/// What is wrong with a variable of this name, where Loggia has no such one. It is set to
/// something.
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
    match find(&key) {
        Some(Setting {
            variable: Some(_), ..
        }) => return None,
        Some(Setting {
            key,
            value,
            variable: None,
        }) if *key != "key" => {
            return Some(format!(
                "`{key}` is a setting of the file alone: {key} = {value}"
            ));
        }
        _ => {}
    }
    let with_variables = SETTINGS
        .iter()
        .filter(|setting| setting.variable.is_some())
        .map(|setting| setting.key);
    let all: Vec<&str> = with_variables.chain(["config", "log", "keys"]).collect();
    let Some(meant) = meant(&key, &all) else {
        return Some(
            "there is no such setting; docs/configuration.md lists them, and `loggia serve --help` most".to_owned(),
        );
    };
    Some(format!(
        "there is no such setting; did you mean {}?",
        example_of_variable(meant)
    ))
}

/// `LOGGIA_LISTEN=127.0.0.1:11435`.
pub(super) fn example_of_variable(key: &str) -> String {
    let value = match key {
        "config" => "loggia.toml",
        "log" => "debug",
        "keys" => "alice, with her key in LOGGIA_KEY_ALICE",
        key => find(key)
            .and_then(|setting| setting.variable)
            .unwrap_or_default(),
    };
    format!("LOGGIA_{}={value}", key.to_ascii_uppercase())
}

/// Those are looked at where it is known whose keys there are.
fn is_of_a_key(its: &str) -> bool {
    its.starts_with("KEY_") || (its.starts_with("OPENAI_") && its.ends_with("_KEY"))
}

/// What the project's own scripts and tests are told by, where they start the program.
fn is_of_the_tests(its: &str) -> bool {
    its.starts_with("TEST_")
        || matches!(
            its,
            "PROGRAM" | "PYTHON" | "NODE" | "ASYNC_OPENAI" | "TEMPLATES"
        )
}

/// What Kubernetes, and Docker's links, set in every container beside a service that is called
/// `loggia`, or `loggia-…`: `LOGGIA_PORT=tcp://10.0.0.1:80`, `LOGGIA_SERVICE_HOST`,
/// `LOGGIA_PORT_80_TCP_ADDR`.
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
    fn every_setting_that_a_file_may_have_is_here_with_an_example_that_is_one() {
        let error = toml::from_str::<super::super::layer::Layer>("nothing = 1").unwrap_err();
        let known: Vec<&str> = error
            .message()
            .split('`')
            .skip(1)
            .step_by(2)
            .skip(1)
            .collect();
        assert!(known.len() > 30);
        for key in known {
            let Setting { value, .. } = find(key).unwrap_or_else(|| panic!("{key} has no example"));
            toml::from_str::<super::super::layer::Layer>(&format!("{key} = {value}")).unwrap();
        }
    }

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
            ("LOGGIA_CEILINGS", "of the file alone"),
        ] {
            assert!(said(name).contains(meant), "{name}: {}", said(name));
        }
        assert!(said("LOGGIA_XYZZY").contains("docs/configuration.md"));
    }

    #[test]
    fn variables_that_are_settings_or_nobodys_mistake_are_let_be() {
        let of_settings = SETTINGS.iter().filter(|setting| setting.variable.is_some());
        let names =
            of_settings.map(|setting| format!("LOGGIA_{}", setting.key.to_ascii_uppercase()));
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
