//! The clients: the place of each client's settings, and the settings that point it at a server.
//!
//! `docs/clients/` has a page for each; the tests in `tests/clients/test_connect.py` run the
//! clients with the files that this module writes.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::edit::{Edit, Format};
use super::quoted;

/// The variable that holds the API key, for clients that read it from one; the same as that of
/// `loggia chat`. Not `LOGGIA_API_KEY`: `loggia serve` refuses to start with it, because it looks
/// like the setting of a key that the server requires.
const KEY: &str = "LOGGIA_CHAT_KEY";

/// The variable that Zed makes from the name of the provider.
const KEY_OF_ZED: &str = "LOGGIA_API_KEY";

/// The key that a client sends if the server requires none.
const NO_KEY: &str = "unused";

/// A client.
pub(super) struct Client {
    /// The word on the command line.
    pub(super) name: &'static str,
    /// The client's usual name.
    pub(super) title: &'static str,
    pub(super) needs: Needs,
    make: fn(&Target, &Places) -> Setup,
}

/// The abilities that a client needs of a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) tools: bool,
    /// The context in tokens: the client's first prompt, and room to work. The pages in
    /// `docs/clients/` have the measured sizes of the prompts.
    pub(super) context: u64,
}

/// The server and the model that a client is pointed at.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The server's address, without `/v1`.
    pub(super) base: String,
    pub(super) model: String,
    pub(super) context: Option<u64>,
    pub(super) sees_images: bool,
    pub(super) needs_key: bool,
}

/// The settings of a client.
#[derive(Debug, Default)]
pub(super) struct Setup {
    pub(super) files: Vec<File>,
    /// Environment variables, for a client without a file.
    pub(super) variables: Vec<(&'static str, String)>,
    /// The steps that are left for the user.
    pub(super) notes: Vec<String>,
}

/// A file of a client, and the edits of it.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) edits: Vec<Edit>,
}

/// The folders of this user.
pub(super) struct Places {
    home: PathBuf,
    variables: fn(&str) -> Option<String>,
}

const fn agent(context: u64) -> Needs {
    Needs {
        tools: true,
        context,
    }
}

const fn chat(context: u64) -> Needs {
    Needs {
        tools: false,
        context,
    }
}

/// All clients.
static CLIENTS: &[Client] = &[
    Client {
        name: "claude",
        title: "Claude Code",
        needs: agent(32_768),
        make: claude,
    },
    Client {
        name: "codex",
        title: "Codex",
        needs: agent(32_768),
        make: codex,
    },
    Client {
        name: "opencode",
        title: "opencode",
        needs: agent(32_768),
        make: opencode,
    },
    Client {
        name: "crush",
        title: "Crush",
        needs: agent(32_768),
        make: crush,
    },
    Client {
        name: "cline",
        title: "Cline",
        needs: agent(32_768),
        make: cline,
    },
    Client {
        name: "continue",
        title: "Continue",
        needs: agent(16_384),
        make: continue_cli,
    },
    Client {
        name: "qwen-code",
        title: "Qwen Code",
        needs: agent(32_768),
        make: qwen_code,
    },
    Client {
        name: "aider",
        title: "aider",
        needs: chat(8_192),
        make: aider,
    },
    Client {
        name: "llm",
        title: "llm",
        needs: chat(0),
        make: llm,
    },
    Client {
        name: "open-webui",
        title: "Open WebUI",
        needs: chat(8_192),
        make: open_webui,
    },
    Client {
        name: "zed",
        title: "Zed",
        needs: agent(32_768),
        make: zed,
    },
];

impl Client {
    /// The client with this name.
    pub(super) fn named(name: &str) -> anyhow::Result<&'static Self> {
        let found = CLIENTS.iter().find(|client| client.name == name);
        found.ok_or_else(|| {
            let all: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
            anyhow::anyhow!(
                "there is no client `{name}`; the clients are {}. For another one, set its base URL \
                 for OpenAI's API to this server's address followed by /v1",
                all.join(", ")
            )
        })
    }

    pub(super) fn setup(&self, target: &Target, places: &Places) -> Setup {
        (self.make)(target, places)
    }
}

impl Target {
    fn v1(&self) -> String {
        format!("{}/v1", self.base)
    }

    /// The key in the file, for a client that can read a variable.
    fn key(&self, by_variable: &str) -> String {
        let key = if self.needs_key { by_variable } else { NO_KEY };
        key.to_owned()
    }

    /// A limit for answers that leaves most of the context to the prompt. Agents assume their
    /// vendor's limits otherwise.
    fn answer(&self) -> Option<u64> {
        self.context.map(|context| (context / 4).clamp(1, 32_000))
    }

    fn notes(&self, variable: &str) -> Vec<String> {
        if self.needs_key {
            vec![format!(
                "the key is not in the file: set it before you start the client: export {variable}=…"
            )]
        } else {
            Vec::new()
        }
    }
}

impl Places {
    pub(super) fn of_this_process() -> anyhow::Result<Self> {
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        let home = home.ok_or_else(|| anyhow::anyhow!("there is no home folder; set HOME"))?;
        Ok(Self {
            home,
            variables: |name| std::env::var(name).ok(),
        })
    }

    fn home(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }

    /// The folder that a variable names, else one in the home folder.
    fn folder(&self, variable: &str, in_home: &str) -> PathBuf {
        let named = (self.variables)(variable).filter(|path| !path.is_empty());
        named.map_or_else(|| self.home(in_home), PathBuf::from)
    }

    /// The folder of settings on Linux, and of programs that use it on macOS too.
    fn config(&self, path: &str) -> PathBuf {
        self.folder("XDG_CONFIG_HOME", ".config").join(path)
    }
}

fn set<const N: usize>(path: [&str; N], value: Value) -> Edit {
    Edit::Set(path.map(str::to_owned).to_vec(), value)
}

/// Removes the placeholder key that an earlier run wrote for a server without keys.
fn without_no_key<const N: usize>(path: [&str; N]) -> Edit {
    Edit::Remove(path.map(str::to_owned).to_vec(), json!(NO_KEY))
}

fn default(key: &str, value: Value) -> Edit {
    Edit::Default(vec![key.to_owned()], value)
}

/// The fields of an object; those that are null are left out.
fn fields<const N: usize>(all: [(&str, Value); N]) -> Map<String, Value> {
    let some = all.into_iter().filter(|(_, value)| !value.is_null());
    some.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn object<const N: usize>(all: [(&str, Value); N]) -> Value {
    Value::Object(fields(all))
}

fn claude(target: &Target, places: &Places) -> Setup {
    let number = |number: Option<u64>| json!(number.map(|number| number.to_string()));
    let model = json!(target.model);
    let token = if target.needs_key {
        Value::Null
    } else {
        json!(NO_KEY)
    };
    let env = object([
        ("ANTHROPIC_BASE_URL", json!(target.base)),
        ("ANTHROPIC_AUTH_TOKEN", token),
        ("ANTHROPIC_MODEL", model.clone()),
        // Subagents and small tasks name other models.
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", model.clone()),
        ("ANTHROPIC_DEFAULT_SONNET_MODEL", model.clone()),
        ("ANTHROPIC_DEFAULT_OPUS_MODEL", model),
        ("CLAUDE_CODE_MAX_CONTEXT_TOKENS", number(target.context)),
        ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", number(target.answer())),
    ]);
    let path = places
        .folder("CLAUDE_CONFIG_DIR", ".claude")
        .join("settings.json");
    let mut edits = vec![set(["env"], env)];
    if target.needs_key {
        edits.push(without_no_key(["env", "ANTHROPIC_AUTH_TOKEN"]));
    }
    Setup {
        files: vec![json_file(path, edits)],
        notes: target.notes("ANTHROPIC_AUTH_TOKEN"),
        ..Setup::default()
    }
}

fn codex(target: &Target, places: &Places) -> Setup {
    let mut edits = vec![
        set(["model"], json!(target.model)),
        set(["model_provider"], json!("loggia")),
    ];
    if let Some(context) = target.context {
        edits.push(set(["model_context_window"], json!(context)));
    }
    let key = if target.needs_key {
        json!(KEY)
    } else {
        Value::Null
    };
    let provider = object([
        ("name", json!("Loggia")),
        ("base_url", json!(target.v1())),
        ("wire_api", json!("responses")),
        ("env_key", key),
    ]);
    edits.push(set(["model_providers", "loggia"], provider));
    if !target.needs_key {
        // Codex refuses to start if the variable is not set.
        let path = ["model_providers", "loggia", "env_key"];
        edits.push(Edit::Remove(path.map(str::to_owned).to_vec(), json!(KEY)));
    }
    let path = places.folder("CODEX_HOME", ".codex").join("config.toml");
    Setup {
        files: vec![File {
            path,
            format: Format::Toml,
            edits,
        }],
        notes: target.notes(KEY),
        ..Setup::default()
    }
}

fn opencode(target: &Target, places: &Places) -> Setup {
    let limit = match (target.context, target.answer()) {
        (Some(context), Some(answer)) => json!({"context": context, "output": answer}),
        _ => Value::Null,
    };
    let input = if target.sees_images {
        json!(["text", "image"])
    } else {
        json!(["text"])
    };
    let model = object([
        ("name", json!(target.model)),
        ("tool_call", json!(true)),
        ("attachment", json!(target.sees_images)),
        ("modalities", json!({"input": input, "output": ["text"]})),
        ("limit", limit),
    ]);
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "name": "Loggia",
        "options": {"baseURL": target.v1(), "apiKey": target.key("{env:LOGGIA_CHAT_KEY}")},
        "models": object([(&*target.model, model)]),
    });
    let name = format!("loggia/{}", target.model);
    let edits = vec![
        default("$schema", json!("https://opencode.ai/config.json")),
        set(["provider", "loggia"], provider),
        set(["model"], json!(name)),
        // Titles; otherwise by a model of another provider.
        set(["small_model"], json!(name)),
    ];
    let folder = places.config("opencode");
    // Both are read; the second is the one that people write comments into.
    let path = existing(&folder, "opencode.jsonc").unwrap_or_else(|| folder.join("opencode.json"));
    Setup {
        files: vec![json_file(path, edits)],
        notes: target.notes(KEY),
        ..Setup::default()
    }
}

fn crush(target: &Target, places: &Places) -> Setup {
    let model = fields([
        ("id", json!(target.model)),
        ("name", json!(target.model)),
        ("context_window", json!(target.context)),
        ("default_max_tokens", json!(target.answer())),
        ("supports_attachments", json!(target.sees_images)),
    ]);
    let provider = json!({
        "name": "Loggia",
        "type": "openai-compat",
        "base_url": target.v1(),
        "api_key": target.key("$LOGGIA_CHAT_KEY"),
    });
    let chosen = json!({"provider": "loggia", "model": target.model});
    let list = ["providers", "loggia", "models"]
        .map(str::to_owned)
        .to_vec();
    let edits = vec![
        default("$schema", json!("https://charm.land/crush.json")),
        set(["providers", "loggia"], provider),
        Edit::Put {
            list,
            by: "id",
            item: model,
        },
        set(["models", "large"], chosen.clone()),
        set(["models", "small"], chosen),
    ];
    Setup {
        files: vec![json_file(places.config("crush/crush.json"), edits)],
        notes: target.notes(KEY),
        ..Setup::default()
    }
}

fn cline(target: &Target, places: &Places) -> Setup {
    let settings = object([
        ("provider", json!("openai-compatible")),
        (
            "apiKey",
            if target.needs_key {
                Value::Null
            } else {
                json!(NO_KEY)
            },
        ),
        ("model", json!(target.model)),
        ("baseUrl", json!(target.v1())),
    ]);
    let provider = json!({"settings": settings, "tokenSource": "manual"});
    let mut edits = vec![
        default("version", json!(1)),
        default("modes", json!({})),
        set(["lastUsedProvider"], json!("openai-compatible")),
        set(["providers", "openai-compatible"], provider),
        // Without this date Cline ignores the provider, and calls its own service
        // (findings/cline_ignores_a_provider_without_a_date.sh).
        Edit::Default(
            ["providers", "openai-compatible", "updatedAt"]
                .map(str::to_owned)
                .to_vec(),
            json!("1970-01-01T00:00:00.000Z"),
        ),
    ];
    let path = places.home(".cline/data/settings/providers.json");
    let mut notes = Vec::new();
    if target.needs_key {
        let settings = ["providers", "openai-compatible", "settings", "apiKey"];
        edits.push(without_no_key(settings));
        notes.push(
            "the key is not in the file: start Cline with it: cline --key \"$LOGGIA_CHAT_KEY\""
                .to_owned(),
        );
    }
    Setup {
        files: vec![json_file(path, edits)],
        notes,
        ..Setup::default()
    }
}

fn continue_cli(target: &Target, places: &Places) -> Setup {
    let options = match (target.context, target.answer()) {
        (Some(context), Some(answer)) => json!({"contextLength": context, "maxTokens": answer}),
        _ => Value::Null,
    };
    let mut can = vec!["tool_use"];
    if target.sees_images {
        can.push("image_input");
    }
    let item = fields([
        ("name", json!(format!("{} (Loggia)", target.model))),
        ("provider", json!("openai")),
        ("model", json!(target.model)),
        ("apiBase", json!(target.v1())),
        (
            "apiKey",
            json!(target.key("${{ secrets.LOGGIA_CHAT_KEY }}")),
        ),
        ("roles", json!(["chat", "edit", "apply"])),
        ("capabilities", json!(can)),
        ("defaultCompletionOptions", options),
    ]);
    let edits = vec![
        default("name", json!("Local")),
        default("version", json!("1.0.0")),
        default("schema", json!("v1")),
        Edit::Put {
            list: vec!["models".to_owned()],
            by: "name",
            item,
        },
    ];
    let path = places
        .folder("CONTINUE_GLOBAL_DIR", ".continue")
        .join("config.yaml");
    Setup {
        files: vec![File {
            path,
            format: Format::Yaml,
            edits,
        }],
        notes: target.notes(KEY),
        ..Setup::default()
    }
}

fn qwen_code(target: &Target, places: &Places) -> Setup {
    let generation = match target.context {
        // Qwen Code limits its answers by this size.
        Some(context) => json!({ "contextWindowSize": context }),
        None => Value::Null,
    };
    let item = fields([
        ("id", json!(target.model)),
        ("name", json!(format!("{} (Loggia)", target.model))),
        ("baseUrl", json!(target.v1())),
        ("envKey", json!(KEY)),
        ("generationConfig", generation),
    ]);
    let list = ["modelProviders", "openai"].map(str::to_owned).to_vec();
    let mut edits = vec![
        Edit::Put {
            list,
            by: "id",
            item,
        },
        set(["security", "auth", "selectedType"], json!("openai")),
        set(["model", "name"], json!(target.model)),
    ];
    edits.push(if target.needs_key {
        without_no_key(["env", KEY])
    } else {
        set(["env", KEY], json!(NO_KEY))
    });
    Setup {
        files: vec![json_file(places.home(".qwen/settings.json"), edits)],
        notes: target.notes(KEY),
        ..Setup::default()
    }
}

fn aider(target: &Target, places: &Places) -> Setup {
    let name = format!("openai/{}", target.model);
    let mut edits = vec![
        set(["model"], json!(name)),
        set(["openai-api-base"], json!(target.v1())),
    ];
    edits.push(if target.needs_key {
        without_no_key(["openai-api-key"])
    } else {
        set(["openai-api-key"], json!(NO_KEY))
    });
    let mut files = vec![File {
        path: places.home(".aider.conf.yml"),
        format: Format::Yaml,
        edits,
    }];
    if let (Some(context), Some(answer)) = (target.context, target.answer()) {
        let about = json!({
            "max_input_tokens": context,
            "max_output_tokens": answer,
            "max_tokens": answer,
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
            "litellm_provider": "openai",
            "mode": "chat",
        });
        let path = places.home(".aider.model.metadata.json");
        files.push(json_file(path, vec![set([&*name], about)]));
    }
    Setup {
        files,
        notes: target.notes("OPENAI_API_KEY"),
        ..Setup::default()
    }
}

fn llm(target: &Target, places: &Places) -> Setup {
    let key = if target.needs_key {
        json!("loggia")
    } else {
        Value::Null
    };
    let image = if target.sees_images {
        json!(true)
    } else {
        Value::Null
    };
    let item = fields([
        ("model_id", json!(target.model)),
        ("model_name", json!(target.model)),
        ("api_base", json!(target.v1())),
        ("api_key_name", key),
        ("supports_tools", json!(true)),
        ("supports_schema", json!(true)),
        ("vision", image),
    ]);
    let in_home = if cfg!(target_os = "macos") {
        places.home("Library/Application Support/io.datasette.llm")
    } else if cfg!(windows) {
        places
            .folder("APPDATA", "AppData/Roaming")
            .join("io.datasette.llm")
    } else {
        places.config("io.datasette.llm")
    };
    let named = (places.variables)("LLM_USER_PATH").filter(|path| !path.is_empty());
    let folder = named.map_or(in_home, PathBuf::from);
    let mut notes = vec![format!(
        "to try it: llm -m {} 'Say hello.'",
        quoted(&target.model)
    )];
    if target.needs_key {
        notes.insert(
            0,
            "the key is not in the file: store it with: llm keys set loggia".to_owned(),
        );
    }
    Setup {
        files: vec![File {
            path: folder.join("extra-openai-models.yaml"),
            format: Format::Yaml,
            edits: vec![Edit::Put {
                list: Vec::new(),
                by: "model_id",
                item,
            }],
        }],
        notes,
        ..Setup::default()
    }
}

fn open_webui(target: &Target, _: &Places) -> Setup {
    let key = target.key("$LOGGIA_CHAT_KEY");
    let mut notes = vec![
        "Open WebUI reads these variables at its first start only; later, change Admin Settings → Connections".to_owned(),
    ];
    let mut variables = vec![
        ("OPENAI_API_BASE_URL", target.v1()),
        ("DEFAULT_MODELS", target.model.clone()),
        ("ENABLE_OLLAMA_API", "false".to_owned()),
    ];
    if target.needs_key {
        notes.push("set OPENAI_API_KEY to your API key too".to_owned());
    } else {
        variables.push(("OPENAI_API_KEY", key));
    }
    Setup {
        variables,
        notes,
        ..Setup::default()
    }
}

fn zed(target: &Target, places: &Places) -> Setup {
    let item = fields([
        ("name", json!(target.model)),
        ("display_name", json!(target.model)),
        ("max_tokens", json!(target.context.unwrap_or(32_768))),
        ("max_output_tokens", json!(target.answer())),
        (
            "capabilities",
            json!({"tools": true, "images": target.sees_images, "parallel_tool_calls": true, "prompt_cache_key": true}),
        ),
    ]);
    let place = ["language_models", "openai_compatible", "Loggia"];
    let list = [&place[..], &["available_models"]].concat();
    let list = list.into_iter().map(str::to_owned).collect();
    let edits = vec![
        set(place, json!({"api_url": target.v1()})),
        Edit::Put {
            list,
            by: "name",
            item,
        },
        set(
            ["agent", "default_model"],
            json!({"provider": "Loggia", "model": target.model}),
        ),
    ];
    // Zed makes the variable's name from that of the provider, and requires a key.
    let mut notes = target.notes(KEY_OF_ZED);
    if !target.needs_key {
        notes.push(format!(
            "Zed wants a key; before you start it: export {KEY_OF_ZED}={NO_KEY}"
        ));
    }
    Setup {
        files: vec![json_file(places.config("zed/settings.json"), edits)],
        notes,
        ..Setup::default()
    }
}

fn json_file(path: PathBuf, edits: Vec<Edit>) -> File {
    File {
        path,
        format: Format::Json,
        edits,
    }
}

fn existing(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = folder.join(name);
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::connect::edit;

    fn places() -> Places {
        Places {
            home: PathBuf::from("/home/alice"),
            variables: |_| None,
        }
    }

    fn target(needs_key: bool) -> Target {
        Target {
            base: "http://127.0.0.1:11435".to_owned(),
            model: "qwen3:8b".to_owned(),
            context: Some(65_536),
            sees_images: true,
            needs_key,
        }
    }

    #[test]
    fn every_client_is_pointed_at_the_server_and_the_model() {
        for client in CLIENTS {
            for needs_key in [false, true] {
                let setup = client.setup(&target(needs_key), &places());
                let texts: Vec<String> = setup
                    .files
                    .iter()
                    .map(|file| edit::merged(file.format, "", &file.edits).unwrap())
                    .collect();
                let all = format!("{}{:?}", texts.join(""), setup.variables);
                assert!(all.contains("http://127.0.0.1:11435"), "{all}");
                assert!(all.contains("qwen3:8b"), "{all}");
                // No key is written into a file, and no client is left without one.
                assert_eq!(
                    all.contains(NO_KEY),
                    !needs_key
                        && client.name != "codex"
                        && client.name != "llm"
                        && client.name != "zed",
                    "{all}"
                );
                assert!(!needs_key || !setup.notes.is_empty(), "{}", client.name);
                for file in &setup.files {
                    assert!(
                        file.path.starts_with("/home/alice"),
                        "{}",
                        file.path.display()
                    );
                    // Writing twice changes nothing.
                    let once = edit::merged(file.format, "", &file.edits).unwrap();
                    assert_eq!(edit::merged(file.format, &once, &file.edits).unwrap(), once);
                }
            }
        }
    }

    #[test]
    fn what_was_written_for_a_server_without_keys_does_not_hide_a_key() {
        for client in CLIENTS {
            let [open, keyed] =
                [false, true].map(|key| client.setup(&target(key), &places()).files);
            for (open, keyed) in open.iter().zip(&keyed) {
                let first = edit::merged(open.format, "", &open.edits).unwrap();
                let second = edit::merged(keyed.format, &first, &keyed.edits).unwrap();
                assert!(!second.contains(NO_KEY), "{second}");
                // Codex asks for the variable that its file names.
                let third = edit::merged(open.format, &second, &open.edits).unwrap();
                assert!(!third.contains("env_key"), "{third}");
            }
        }
    }

    #[test]
    fn an_unknown_client_is_answered_with_those_there_are() {
        let error = Client::named("emacs")
            .err()
            .map(|error| error.to_string())
            .unwrap();
        for client in CLIENTS {
            assert!(error.contains(client.name), "{error}");
        }
    }

    #[test]
    fn settings_are_where_variables_say() {
        let places = Places {
            home: PathBuf::from("/home/alice"),
            variables: |name| Some(format!("/{name}")),
        };
        for (client, path) in [
            ("claude", "/CLAUDE_CONFIG_DIR/settings.json"),
            ("codex", "/CODEX_HOME/config.toml"),
            ("opencode", "/XDG_CONFIG_HOME/opencode/opencode.json"),
            ("llm", "/LLM_USER_PATH/extra-openai-models.yaml"),
        ] {
            let setup = Client::named(client)
                .unwrap()
                .setup(&target(false), &places);
            assert_eq!(setup.files[0].path, Path::new(path));
        }
    }
}
