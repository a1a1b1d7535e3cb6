//! Which source wins, and what an error names.

use std::time::Duration;

use loggia_server::KeyDigest;

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
options = { num_ctx = 32768, top_k = 20 }
"#;

fn args(config: Option<&std::path::Path>, flags: &[&str]) -> Flags {
    use clap::Parser as _;
    let line = ["loggia", "serve"].into_iter().chain(flags.iter().copied());
    let crate::cli::Command::Serve(args) = crate::cli::Cli::parse_from(line).command else {
        panic!()
    };
    let mut args = args.into_flags();
    args.place.config = config.map(Into::into);
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
        (config.context.map(NonZeroU32::get), config.context.from),
        (Some(2), Origin::Environment)
    );
    assert_eq!(
        (*config.body_limit, config.body_limit.from),
        (ByteSize::mib(3), Origin::File)
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
        *load(Some(FILE), &[], &[]).unwrap().strictness,
        Strictness::Strict
    );
    assert_eq!(
        *load(Some(FILE), &[("LOGGIA_STRICT", "false")], &[])
            .unwrap()
            .strictness,
        Strictness::Plain
    );
    assert_eq!(
        *load(Some(FILE), &[], &["--lenient"]).unwrap().strictness,
        Strictness::Lenient
    );
    let both = load(
        None,
        &[("LOGGIA_STRICT", "true"), ("LOGGIA_LENIENT", "true")],
        &[],
    )
    .unwrap_err();
    assert_eq!(
        both.to_string(),
        "strict and lenient exclude each other; the environment sets both"
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
    // The same name on the command line is another engine: the file's key is not for it.
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
        "the environment variable LOGGIA_IDLE_TIMEOUT: `120` is no duration, as 500ms, 10s, 2min and 1h are; for example \
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
fn two_engines_do_not_share_a_name() {
    let error = load(
        None,
        &[],
        &["--openai", "v=http://a", "--openai", "v=http://b"],
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "two engines are called `v`; each needs a name of its own"
    );
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
        (again.idle_timeout.value, again.body_limit.value),
        (Duration::from_mins(3), ByteSize::mib(3))
    );
    assert_eq!(again.per_model.value, config.per_model.value);
    assert_eq!(
        (&again.ceilings.value, &again.images.value),
        (&config.ceilings.value, &config.images.value)
    );
    assert_eq!(
        (
            again.ceilings.choices,
            again.ceilings.messages,
            again.ceilings.whole_time
        ),
        (3, 4096, None)
    );
    assert_eq!(
        (again.images.total_bytes, again.images.networks.len()),
        (1536 << 10, 1)
    );
    assert_eq!(again.aliases.value, config.aliases.value);
    assert_eq!(again.lora.value, config.lora.value);
    assert_eq!(again.lora[0].scale.to_string(), "0.7");
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
    let policy = config.per_model["agent"].policy();
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
    // Without a file, a list of names; it replaces the file's, as every list does, but never by
    // nothing.
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
    assert!(said(nameless, &[]).contains("the key `bob` has no text; set LOGGIA_KEY_BOB"));
    for (field, why) in [
        ("key = \"hunter2\"", "at least 16 characters"),
        ("key = \"hunter2 hunter2 hunter2\"", "visible ASCII"),
        ("key = 1234567890123456789", "in quotes"),
        ("sha256 = \"hunter2\"", "64 hex digits"),
        (
            "key = \"hunter2-hunter2-hunter2\"\nsha256 = \"hunter2\"",
            "keep one",
        ),
        (
            "key = \"hunter2-hunter2-hunter2\"\nmodels = [\"a*b*\"]",
            "`a*b*` names no model",
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
        short.contains("LOGGIA_KEY_BOB: a key has at least 16") && !short.contains("hunter2"),
        "{short}"
    );
    assert!(said("[[key]]\nname = \"b/b\"\n", &[]).contains("cannot name a key"));
    let same = |one: &str, other: &str| {
        let key = |name: &str, key: &str| format!("[[key]]\nname = \"{name}\"\nkey = \"{key}\"\n");
        said(
            &(key("a.b", "hunter2-hunter2-hunter2") + &key(one, other)),
            &[],
        )
    };
    assert!(same("a-b", "another-0123456789").contains("the keys `a.b` and `a-b`"));
    assert!(same("c", "hunter2-hunter2-hunter2").contains("the keys `a.b` and `c`"));
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
        said.contains("LOGGIA_KEY_MALLORY holds a key of nobody"),
        "{said}"
    );
}
