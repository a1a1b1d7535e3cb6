//! Tests of precedence (which source wins) and of error messages.

use std::time::Duration;

use clap::{Args as _, FromArgMatches as _};
use loggia_api::Strictness;
use loggia_server::KeyDigest;

use super::error::ConfigError;
use super::origin::Origin;
use super::settings::SETTINGS;
use super::table::Written;
use super::*;

const FILE: &str = r#"
listen = "127.0.0.1:3"
context = 3
body_limit = "3MiB"
idle_timeout = "3min"
strict = true
models = ["smollm2:135m", "beside.gguf"]
ollama = ["http://file:1", "http://file:2"]

[[openai]]
name = "vllm"
url = "http://file:8000/v1"
key = "from-the-file"

[[openai]]
name = "llama"
url = "http://file:8080/v1"
key = "also-from-the-file"

[lora."my-tuned"]
base = "smollm2:135m"
file = "/adapters/my.gguf"
scale = 0.7

[[key]]
name = "alice"
key = "sk-of-alice-from-the-file"
lenient = true
models = ["gpt-*", "smollm2:135m"]
may_delete_models = true

[[key]]
name = "my-phone"
sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"

[aliases]
"gpt-*" = "smollm2:135m"

[ceilings]
choices = 3
whole_time = "0s"

[images]
networks = ["10.0.0.0/8"]
total_bytes = "1536KiB"

[per_model."old:latest"]
sampling_profile = "original"

[per_model.agent]
strict = true
draft = "smollm2:135m"
draft_tokens = 6
draft_always = true
cache_type_k = "q8_0"
cache_type_v = "q4_0"
options = { num_ctx = 32768, top_k = 20 }
"#;

fn command() -> clap::Command {
    Flags::augment_args(clap::Command::new("loggia").no_binary_name(true))
}

fn args(config: Option<&std::path::Path>, flags: &[&str]) -> Flags {
    let matches = command().get_matches_from(flags);
    let mut args = Flags::from_arg_matches(&matches).unwrap();
    args.config = config.map(Into::into);
    args
}

fn load(file: Option<&str>, env: &[(&str, &str)], flags: &[&str]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loggia.toml");
    std::fs::write(&path, file.unwrap_or_default()).unwrap();
    let env = |name: &str| {
        let home = ("HOME", "/home/someone");
        env.iter()
            .chain([&home])
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    };
    Config::load(&args(file.map(|_| path.as_path()), flags), &env)
}

#[test]
fn a_flag_is_stronger_than_the_environment_and_that_than_the_file() {
    let env = [("LOGGIA_LISTEN", "127.0.0.1:2"), ("LOGGIA_CONTEXT", "2")];
    let config = load(Some(FILE), &env, &["--listen", "127.0.0.1:1"]).unwrap();
    assert_eq!((config.listen.port, config.listen.from), (1, Origin::Flag));
    assert_eq!(
        (config.context.map(tokens::Tokens::get), config.context.from),
        (Some(2), Origin::Environment)
    );
    assert_eq!(
        (config.body_limit.bytes(), config.body_limit.from),
        (3 << 20, Origin::File)
    );
    assert_eq!(
        (config.parallel.get(), config.parallel.from),
        (4, Origin::Default)
    );
}

#[test]
fn a_list_is_replaced_by_a_stronger_one_not_added_to() {
    let config = load(
        Some(FILE),
        &[("LOGGIA_OLLAMA", "http://env:1, http://env:2,")],
        &["--alias", "a=b"],
    )
    .unwrap();
    assert_eq!(
        config
            .ollama
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["http://env:1", "http://env:2"]
    );
    assert_eq!(*config.aliases, ["a=b".parse().unwrap()]);
    assert_eq!(config.openai.len(), 2);
}

#[test]
fn a_weaker_source_can_be_strict_and_a_stronger_one_not() {
    assert_eq!(
        load(Some(FILE), &[], &[]).unwrap().strictness(),
        Strictness::Strict
    );
    assert_eq!(
        load(Some(FILE), &[("LOGGIA_STRICT", "false")], &[])
            .unwrap()
            .strictness(),
        Strictness::Plain
    );
    assert_eq!(
        load(Some(FILE), &[], &["--lenient"]).unwrap().strictness(),
        Strictness::Lenient
    );
    assert_eq!(
        load(Some(FILE), &[], &["--strict=false"])
            .unwrap()
            .strictness(),
        Strictness::Plain
    );
    let both = load(
        None,
        &[("LOGGIA_STRICT", "true"), ("LOGGIA_LENIENT", "true")],
        &[],
    )
    .unwrap_err();
    assert_eq!(
        both.to_string(),
        "strict and lenient cannot be used together; the environment sets both"
    );
}

#[test]
fn keys_come_from_the_environment_first_and_then_from_the_file() {
    let config = load(
        Some(FILE),
        &[("LOGGIA_OPENAI_VLLM_KEY", " from-the-environment\n")],
        &[],
    )
    .unwrap();
    let keys: Vec<_> = config
        .openai
        .iter()
        .map(|engine| engine.key.clone().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "from-the-environment".parse().unwrap(),
            "also-from-the-file".parse().unwrap()
        ]
    );
    // An engine on the command line is another engine, even if it has the same name: it does not
    // get the key from the file.
    let config = load(Some(FILE), &[], &["--openai", "vllm=http://elsewhere:8000"]).unwrap();
    assert_eq!(config.openai[0].key, None);
}

#[test]
fn a_key_that_means_nothing_is_named_with_its_file_and_line() {
    let error = load(Some("listen = \"127.0.0.1:1\"\nlissten = 1\n"), &[], &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("loggia.toml, line 2: unknown field `lissten`"),
        "{error}"
    );
    let error = load(
        Some("[[openai]]\nname = \"v\"\nurl = \"http://v\"\nkeyy = \"hunter2\"\n"),
        &[],
        &[],
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("`keyy`") && !format!("{error} {error:?}").contains("hunter2"),
        "{error}"
    );
}

#[test]
fn a_wrong_variable_is_named() {
    let error = load(None, &[("LOGGIA_IDLE_TIMEOUT", "120")], &[])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the environment variable LOGGIA_IDLE_TIMEOUT: `120` is not a duration; write 500ms, 10s, 2min or 1h; for example \
         LOGGIA_IDLE_TIMEOUT=2m"
    );
    assert!(load(None, &[("LOGGIA_CONTEXT", "0")], &[]).is_err());
}

#[test]
fn what_the_file_names_by_a_relative_path_lies_beside_it() {
    let config = load(
        Some("models = [\"m.gguf\", \"smollm2\"]\ndata_dir = \"data\"\n"),
        &[],
        &[],
    )
    .unwrap();
    assert!(config.models[0].file().unwrap().is_absolute() && config.data_dir.is_absolute());
    assert_eq!(config.models[1].0, "smollm2");
    let lora = "[lora.tuned]\nbase = \"m.gguf\"\nfile = \"a.gguf\"\n";
    let lora = load(Some(lora), &[], &[]).unwrap().lora.value.remove(0);
    assert!(lora.base.file().unwrap().is_absolute() && lora.file.file().unwrap().is_absolute());
}

#[test]
fn every_setting_that_is_a_path_is_relative_to_the_file() {
    let paths = SETTINGS
        .iter()
        .filter(|setting| (setting.in_file)().starts_with("\"/"));
    let keys: Vec<_> = paths.map(|setting| setting.key).collect();
    assert!(keys.contains(&"tls_cert") && keys.contains(&"files_dir"));
    for key in keys {
        let config = load(Some(&format!("{key} = \"relative\"\n")), &[], &[]).unwrap();
        let mut written = config.written().into_iter();
        let (_, written, _) = written.find(|(one, ..)| *one == key).unwrap();
        let Written::Line(path) = written else {
            panic!("{key} is not written");
        };
        assert!(
            path.starts_with("\"/") && path.ends_with("/relative\""),
            "{key}: {path}"
        );
    }
}

#[test]
fn servers_with_one_name_are_nodes_unless_they_are_the_same() {
    let nodes = load(
        None,
        &[("LOGGIA_OPENAI_V_KEY", "secret")],
        &["--openai", "v=http://a", "--openai", "v=http://b"],
    )
    .unwrap();
    assert!(nodes.openai.iter().all(|engine| engine.key.is_some()));
    for twice in [
        ["--openai", "v=http://a", "--openai", "v=http://a/"],
        ["--ollama", "v=http://a", "--ollama", "v=http://a/api"],
    ] {
        let error = load(None, &[], &twice).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the backend `v` has the node http://a twice; remove one"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn models_are_kept_in_the_users_data_folder() {
    assert_eq!(
        load(None, &[], &[]).unwrap().data_dir.to_str(),
        Some("/home/someone/.local/share/loggia")
    );
    let named = load(None, &[("XDG_DATA_HOME", "/data")], &[]).unwrap();
    assert_eq!(named.data_dir.to_str(), Some("/data/loggia"));
    let relative = load(None, &[("XDG_DATA_HOME", "data")], &[]).unwrap();
    assert_eq!(
        relative.data_dir.to_str(),
        Some("/home/someone/.local/share/loggia")
    );
}

#[test]
fn the_variable_names_the_file_where_the_flag_does_not() {
    let missing = load(None, &[("LOGGIA_CONFIG", "/nowhere/loggia.toml")], &[])
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("cannot read the configuration file /nowhere/loggia.toml"),
        "{missing}"
    );
}

#[test]
fn what_is_shown_is_a_file_that_means_the_same_without_its_keys() {
    let config = load(Some(FILE), &[], &["--threads", "2"]).unwrap();
    let shown = Shown(&config).to_string();
    assert!(!shown.contains("from-the-file"), "{shown}");
    let line = |key: &str| {
        shown
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        line("threads").ends_with("# flag")
            && line("strict").ends_with("# file")
            && line("parallel").ends_with("# default")
    );
    let secrets = [
        ("LOGGIA_KEY_ALICE", "sk-of-alice-from-the-file"),
        ("LOGGIA_KEY_MY_PHONE", "sk-of-my-new-phone"),
    ];
    let again = load(Some(&shown), &secrets, &[]).unwrap();
    assert_eq!(again.key[0], config.key[0]);
    assert!(config.key[0].may_delete_models && !config.key[1].may_delete_models);
    let mut keyless = config.openai.value.clone();
    for engine in &mut keyless {
        engine.key = None;
    }
    assert_eq!(again.openai.value, keyless);
    assert_eq!(
        (again.idle_timeout.0, again.body_limit.bytes()),
        (Duration::from_mins(3), 3 << 20)
    );
    assert_eq!(again.per_model.value, config.per_model.value);
    let (ceilings, images) = (again.ceilings.limits(), again.images.limits());
    assert_eq!(
        (&ceilings, &images),
        (&config.ceilings.limits(), &config.images.limits())
    );
    assert_eq!(
        (ceilings.choices, ceilings.messages, ceilings.whole_time),
        (3, 4096, None)
    );
    assert_eq!((images.total_bytes, images.networks.len()), (1536 << 10, 1));
    assert_eq!(again.aliases.value, config.aliases.value);
    assert_eq!(again.lora.value, config.lora.value);
    assert_eq!(again.lora[0].scale.to_string(), "0.7");
}

#[test]
fn a_setting_has_changed_if_its_value_differs_secrets_included() {
    const BEFORE: &str = r#"
        store_url = "postgres://loggia:first-word@db.example/loggia"
        limits_url = "redis://:first-word@valkey.example"
        openai = [{ name = "vllm", url = "http://file:8000", key = "first-key-of-the-engine" }]
        key = [{ name = "alice", key = "sk-of-alice-in-the-file", limits = { streams = 1 } }]
        ceilings = { choices = 3 }
        strict = true
    "#;
    let before = load(Some(BEFORE), &[], &[]).unwrap();
    for (old, new, changed) in [
        ("first-word@db", "other-word@db", &["store_url"][..]),
        ("first-word@valkey", "other-word@valkey", &["limits_url"]),
        ("first-key", "other-key", &["openai"]),
        ("sk-of-alice", "sk-of-bob-in", &["key"]),
        ("streams = 1", "streams = 2", &["key"]),
        ("choices = 3", "choices = 4", &["ceilings"]),
        ("strict = true", "lenient = true", &["strict", "lenient"]),
        ("strict = true", "", &["strict"]),
        // The same values, written in another way.
        ("strict = true", "strict = true\nparallel = 4", &[]),
        ("choices = 3", "choices = 3, messages = 4096", &[]),
        ("first-word@db", "first-word@db", &[]),
    ] {
        assert!(BEFORE.contains(old), "{old}");
        let after = load(Some(&BEFORE.replacen(old, new, 1)), &[], &[]).unwrap();
        assert_eq!(after.changed_since(&before), changed, "{old} -> {new}");
    }
    let moved = BEFORE.replace("strict = true", "");
    let moved = load(Some(&moved), &[("LOGGIA_STRICT", "true")], &[]).unwrap();
    assert_eq!(moved.changed_since(&before), [""; 0]);
}

#[test]
fn a_restart_is_needed_for_settings_that_a_reload_does_not_change() {
    const STARTED: &str = r#"
        workers = 2
        strict = true
        [per_model.m]
        strict = true
        draft = "small"
        options = { top_k = 20 }
    "#;
    let started = load(Some(STARTED), &[], &[]).unwrap();
    for (old, new, pending) in [
        ("workers = 2", "workers = 3", &["workers"][..]),
        ("strict = true", "strict = false", &[]),
        ("top_k = 20", "top_k = 40", &[]),
        (
            "draft = \"small\"",
            "draft = \"tiny\"",
            &["per_model.draft"],
        ),
        (
            "draft = \"small\"",
            "draft_tokens = 3",
            &["per_model.draft", "per_model.draft_tokens"],
        ),
        ("[per_model.m]", "[per_model.n]", &["per_model.draft"]),
        (
            "draft = \"small\"",
            "draft = \"small\"\ncache_type_v = \"q8_0\"",
            &["per_model.cache_type_v"],
        ),
    ] {
        assert!(STARTED.contains(old), "{old}");
        let now = load(Some(&STARTED.replacen(old, new, 1)), &[], &[]).unwrap();
        assert_eq!(now.pending_since(&started), pending, "{old} -> {new}");
    }
}

#[test]
fn nothing_named_means_the_default_model() {
    assert!(load(None, &[], &[]).unwrap().names_no_backend());
    assert!(
        !load(None, &[], &["--ollama", "http://127.0.0.1:11434"])
            .unwrap()
            .names_no_backend()
    );
    assert!(
        !load(None, &[("LOGGIA_LORA", "tuned=m+a.gguf")], &[])
            .unwrap()
            .names_no_backend()
    );
}

#[test]
fn a_model_or_an_alias_has_settings_of_its_own() {
    let config = load(Some(FILE), &[], &[]).unwrap();
    let policy = config.per_model.0["agent"].policy();
    assert_eq!(
        (policy.strictness, policy.profile),
        (Some(Strictness::Strict), None)
    );
    assert_eq!(
        serde_json::Value::from(policy.options),
        serde_json::json!({"num_ctx": 32768, "top_k": 20})
    );
    let both = "[per_model.m]\nstrict = true\nlenient = true\n";
    assert!(
        load(Some(both), &[], &[])
            .unwrap_err()
            .to_string()
            .contains("for the model `m`")
    );
}

#[test]
fn api_keys_come_from_the_environment_first_and_then_from_the_file() {
    let digests = |config: &Config| {
        config
            .key
            .iter()
            .map(|key| key.digest.unwrap())
            .collect::<Vec<_>>()
    };
    let config = load(Some(FILE), &[], &[]).unwrap();
    assert_eq!(
        digests(&config),
        [
            KeyDigest::of("sk-of-alice-from-the-file"),
            KeyDigest::of("secret")
        ]
    );
    let config = load(
        Some(FILE),
        &[("LOGGIA_KEY_ALICE", "sk-of-alice-from-elsewhere\n")],
        &[],
    )
    .unwrap();
    assert_eq!(
        digests(&config)[0],
        KeyDigest::of("sk-of-alice-from-elsewhere")
    );
    // Without a file, the variable has a list of names. A list replaces the list of the file, but
    // an empty variable does not.
    let env = [
        ("LOGGIA_KEYS", "bob"),
        ("LOGGIA_KEY_BOB", "sk-of-bob-0123456789"),
    ];
    assert_eq!(
        load(None, &env, &[]).unwrap().key.value,
        load(Some(FILE), &env, &[]).unwrap().key.value
    );
    assert_eq!(
        load(Some(FILE), &[("LOGGIA_KEYS", " , ")], &[])
            .unwrap()
            .key
            .len(),
        2
    );
}

#[test]
fn an_api_key_that_opens_nothing_or_to_anybody_is_a_mistake() {
    let said =
        |file: &str, env: &[(&str, &str)]| load(Some(file), env, &[]).unwrap_err().to_string();
    let nameless = "[[key]]\nname = \"bob\"\n";
    assert!(
        said(nameless, &[])
            .contains("the API key `bob` has no value; set the variable LOGGIA_KEY_BOB")
    );
    for (field, why) in [
        ("key = \"hunter2\"", "at least 16 characters"),
        ("key = \"hunter2 hunter2 hunter2\"", "visible ASCII"),
        ("key = 1234567890123456789", "in quotes"),
        ("sha256 = \"hunter2\"", "64 hex digits"),
        (
            "key = \"hunter2-hunter2-hunter2\"\nsha256 = \"hunter2\"",
            "remove one",
        ),
        (
            "key = \"hunter2-hunter2-hunter2\"\nmodels = [\"a*b*\"]",
            "`a*b*` is not a valid model pattern",
        ),
        (
            "key = \"hunter2-hunter2-hunter2\"\nstrict = true\nlenient = true",
            "for the key `bob`",
        ),
    ] {
        let said = said(&format!("{nameless}{field}\n"), &[]);
        assert!(
            said.contains(why) && !said.contains("hunter2") && !said.contains("1234"),
            "{said}"
        );
    }
    let short = said(nameless, &[("LOGGIA_KEY_BOB", "hunter2")]);
    assert!(
        short.contains("LOGGIA_KEY_BOB: an API key needs at least 16")
            && !short.contains("hunter2"),
        "{short}"
    );
    assert!(said("[[key]]\nname = \"b/b\"\n", &[]).contains("not a valid name for an API key"));
    let same = |one: &str, other: &str| {
        let key = |name: &str, key: &str| format!("[[key]]\nname = \"{name}\"\nkey = \"{key}\"\n");
        said(
            &(key("a.b", "hunter2-hunter2-hunter2") + &key(one, other)),
            &[],
        )
    };
    assert!(same("a-b", "another-0123456789").contains("the API keys `a.b` and `a-b`"));
    assert!(same("c", "hunter2-hunter2-hunter2").contains("the API keys `a.b` and `c`"));
}

#[test]
fn a_variable_with_a_key_of_nobody_is_named() {
    let config = load(Some(FILE), &[], &[]).unwrap();
    let of =
        |names: &[&str]| keys::of_nobody(&config.key, names.iter().map(|name| (*name).to_owned()));
    of(&[
        "LOGGIA_KEY_ALICE",
        "LOGGIA_KEY_MY_PHONE",
        "LOGGIA_KEEP_ALIVE",
        "LOGGIA_KEYS",
        "HOME",
    ])
    .unwrap();
    let said = of(&["HOME", "LOGGIA_KEY_MALLORY"]).unwrap_err().to_string();
    assert!(
        said.contains("LOGGIA_KEY_MALLORY is set, but no API key with that name"),
        "{said}"
    );
}

/// The flag of a setting. The setting `key` has none.
fn flag(key: &str) -> Option<String> {
    let command = command();
    let flag = command.get_arguments().find(|flag| flag.get_id() == key)?;
    flag.get_long().map(|long| format!("--{long}"))
}

#[test]
fn every_setting_but_keys_is_a_flag_a_variable_a_key_of_the_file_and_a_part_of_check() {
    for setting in SETTINGS {
        let (key, example) = (setting.key, (setting.example)());
        let source = |config: Config| {
            let written = config.written();
            let found = written.into_iter().find(|(name, ..)| *name == key);
            found.map(|(_, written, from)| (written, from)).unwrap()
        };
        let file = format!("{}\n", setting.line());
        let alice = ("LOGGIA_KEY_ALICE", "sk-of-alice-0123456789");
        let in_file = load(Some(&file), &[alice], &[]);
        let (written, from) = source(in_file.unwrap_or_else(|why| panic!("{file}: {why}")));
        assert_eq!(from, Origin::File, "{key}");
        assert!(!matches!(written, Written::Unset(_)), "{key}");
        let variable = setting.variable();
        let env = load(None, &[(&variable, &example), alice], &[]);
        let (_, from) = source(env.unwrap_or_else(|why| panic!("{variable}: {why}")));
        assert_eq!(from, Origin::Environment, "{key}");
        let Some(flag) = flag(key) else {
            assert_eq!(key, "key", "no flag");
            continue;
        };
        let flags = load(None, &[], &[&format!("{flag}={example}")]);
        let (_, from) = source(flags.unwrap_or_else(|why| panic!("{flag}: {why}")));
        assert_eq!(from, Origin::Flag, "{key}");
    }
}

/// A cell of a table in Markdown, as plain text.
fn plain(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell.trim();
    while let Some((before, link)) = rest.split_once("](") {
        text.push_str(&before.replacen('[', "", 1));
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.replace('`', "")
}

#[test]
fn the_table_in_the_documentation_is_the_table_of_settings() {
    let page = include_str!("../../../../docs/configuration.md");
    let rows: Vec<Vec<String>> = page
        .lines()
        .skip_while(|line| !line.starts_with("| key in the file |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(plain).collect())
        .collect();
    let keys: Vec<&str> = rows
        .iter()
        .map(|row| row[0].split(' ').next().unwrap_or_default())
        .collect();
    let settings: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    assert_eq!(keys, settings);
    for (row, setting) in rows.iter().zip(SETTINGS) {
        let (key, default) = (setting.key, (setting.default)());
        assert_eq!(row[1].is_empty(), flag(key).is_none(), "{row:?}");
        assert!(
            row[1].starts_with(&flag(key).unwrap_or_default()),
            "{row:?}"
        );
        assert!(row[2].starts_with(&setting.variable()), "{row:?}");
        assert!(row[3].starts_with(&default), "{row:?}: {default}");
    }
}

/// The settings in backticks.
fn settings_in(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|key| find(key).is_some()).collect()
}

#[test]
fn the_documentation_says_for_each_setting_whether_a_reload_changes_it() {
    let page = include_str!("../../../../docs/operations.md");
    let (_, page) = page.split_once("\n## Reloading\n").unwrap();
    let (_, live) = page
        .split_once("**These settings take effect at once**")
        .unwrap();
    let (live, _) = live.split_once("\n- **").unwrap();
    let (_, others) = page
        .split_once("### Settings that need a restart\n")
        .unwrap();
    let (others, _) = others.split_once("\n## ").unwrap();
    let first_cells = others.lines().filter_map(|line| line.split_once(" | "));
    let others = first_cells.flat_map(|(settings, _)| settings_in(settings));
    for (mut documented, is_live) in [(settings_in(live), true), (others.collect(), false)] {
        documented.sort_unstable();
        let settings = SETTINGS.iter().filter(|setting| setting.is_live == is_live);
        let mut settings: Vec<&str> = settings.map(|setting| setting.key).collect();
        settings.sort_unstable();
        assert_eq!(documented, settings, "live: {is_live}");
    }
}

#[test]
fn the_limits_in_the_documentation_are_the_defaults() {
    let page = include_str!("../../../../docs/configuration.md");
    let (_, limits) = page.split_once("```toml\n[ceilings]").unwrap();
    let (limits, _) = limits.split_once("```").unwrap();
    let documented = load(Some(&format!("[ceilings]{limits}")), &[], &[]).unwrap();
    let default = load(None, &[], &[]).unwrap();
    let text = |config: &Config, key: &str| {
        let mut written = config.written().into_iter();
        match written.find(|(name, ..)| *name == key) {
            Some((_, Written::Tables(text), _)) => text.replace("# file", "# default"),
            _ => panic!("{key} is no table"),
        }
    };
    for key in ["ceilings", "images"] {
        let defaults = text(&default, key);
        assert_eq!(text(&documented, key), defaults);
        let entries = defaults.lines().skip(2);
        for entry in
            entries.filter_map(|line| line.trim_start_matches("# ").split([' ', ':']).next())
        {
            assert!(
                limits.contains(&format!("\n{entry} = "))
                    || limits.contains(&format!("# {entry} = ")),
                "{entry}"
            );
        }
    }
}

#[test]
fn each_source_sets_single_entries_of_the_limits_for_one_request() {
    let file = "[ceilings]\nchoices = 3\ntools = 7\nmessages = 9\n";
    let env = [("LOGGIA_CEILINGS", "choices=4, tools=8")];
    let flags = ["--ceilings", "choices=5,whole_time=10m,media_bytes=1MiB"];
    let config = load(Some(file), &env, &flags).unwrap();
    let limits = config.ceilings.limits();
    assert_eq!(
        (limits.choices, limits.tools, limits.messages, limits.inputs),
        (5, 8, 9, 2048)
    );
    assert_eq!(
        (limits.whole_time, limits.media_bytes),
        (Some(Duration::from_mins(10)), 1 << 20)
    );
    assert_eq!(config.ceilings.from, Origin::Flag);
    let images = ["--images", r#"ports=[80, 8080],networks=["10.0.0.0/8"]"#];
    let images = load(None, &[], &images).unwrap().images.limits();
    assert_eq!((images.ports, images.networks.len()), (vec![80, 8080], 1));
    let models = "m:1b={strict=true, options={top_k=3}}";
    let models = load(None, &[("LOGGIA_PER_MODEL", models)], &[]).unwrap();
    assert_eq!(models.per_model.0["m:1b"].strict, Some(true));
    let said = |text: &str| load(None, &[("LOGGIA_CEILINGS", text)], &[]).unwrap_err();
    for (text, why) in [
        (
            "choises=3",
            "unknown entry `choises`; did you mean `choices`?",
        ),
        ("xyzzy=3", "the entries are choices, messages, "),
        (
            "choices=many",
            "`choices` is the text \"many\"; expected a whole number",
        ),
        ("choices", "`choices` is not ENTRY=VALUE"),
    ] {
        assert!(said(text).to_string().contains(why), "{}", said(text));
    }
    assert!(
        said("x")
            .to_string()
            .ends_with("LOGGIA_CEILINGS=choices=16")
    );
}

#[test]
fn a_flag_with_an_empty_text_empties_the_list_of_pages() {
    let none = load(None, &[], &["--cors-origins", ""]).unwrap();
    assert_eq!(none.cors_origins.value, Some(Vec::new()));
    let none = load(None, &[("LOGGIA_CORS_ORIGINS", ",")], &[]).unwrap();
    assert_eq!(none.cors_origins.value, Some(Vec::new()));
    let open = load(None, &[], &[]).unwrap();
    assert_eq!(open.cors_origins.value, None);
}

#[test]
fn lists_are_given_by_repeating_a_flag() {
    let line = "--ollama http://a:1 --ollama http://b:2 --openai v=http://c:3/v1 --alias gpt-*=m --model m --model f.gguf --hf o/r";
    let config = load(None, &[], &line.split(' ').collect::<Vec<_>>()).unwrap();
    let models: Vec<&str> = config.models.iter().map(|model| &*model.0).collect();
    assert_eq!(models, ["m", "f.gguf", "hf:o/r"]);
    assert_eq!(
        (
            config.ollama.len(),
            config.openai.len(),
            config.aliases.len()
        ),
        (2, 1, 1)
    );
}

#[test]
fn a_batch_uses_as_many_slots_as_a_model_has() {
    let at_once = |flags: &[&str]| load(None, &[], flags).unwrap().lines_at_once();
    assert_eq!(at_once(&[]), 4);
    assert_eq!(at_once(&["--parallel", "8"]), 8);
    assert_eq!(at_once(&["--parallel", "8", "--batch-parallel", "2"]), 2);
}
