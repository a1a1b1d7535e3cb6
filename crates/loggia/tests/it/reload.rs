//! The configuration file is read again while the program runs: what takes effect at once, what does
//! not, and what a mistake does.

#![cfg(unix)]
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ollama::{MODEL, Ollama};
use crate::support::request::{bearer, rest, send};
use crate::support::served::Served;
use crate::support::{Program, eventually, tiny};

const KEY: &str = "0123456789-first-key";
const OTHER: &str = "0123456789-other-key";

struct Reloaded {
    served: Served,
}

impl Reloaded {
    fn start(config: &str) -> Self {
        let program = Program::new().with("LOGGIA_LOG", "info");
        program.write("loggia.toml", config);
        Self {
            served: Served::start(program, &["--config", "loggia.toml"]),
        }
    }

    fn write(&self, config: &str) {
        self.served.program().write("loggia.toml", config);
    }

    fn hang_up(&self) {
        let id = self.served.running.0.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Sends a chat with a key, and reads until the text.
    fn begin(&self, key: &str, model: &str, until: &str) -> (BufReader<TcpStream>, String) {
        let chat = json!({"model": model, "stream": true, "nonsense": true,
            "messages": [{"role": "user", "content": "Hi"}]});
        let line = "POST /v1/chat/completions";
        let mut stream = send(self.served.address, line, &bearer(key), &chat);
        let mut begun = String::new();
        while !begun.contains(until) && stream.read_line(&mut begun).unwrap() > 0 {}
        (stream, begun)
    }

    fn chat(&self, key: &str, model: &str) -> String {
        let (stream, begun) = self.begin(key, model, "\r\n");
        begun + &rest(stream)
    }

    /// The whole answer to a request without a body, with one more header.
    fn get(&self, path: &str, header: &str) -> String {
        let line = format!("GET {path}");
        rest(send(self.served.address, &line, header, &Value::Null))
    }

    /// The status and the text of the list of models.
    fn models(&self, key: &str) -> String {
        self.get("/v1/models", &bearer(key))
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics", &bearer(KEY));
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect(&text).parse().unwrap()
    }
}

fn config(ollama: &Ollama, more: &str, key: &str) -> String {
    format!(
        "ollama = [\"gpu={}\"]\n{more}\n[[key]]\nname = \"ops\"\nkey = \"{key}\"\n\
         scopes = [\"chat\", \"admin\", \"metrics\"]\n",
        ollama.url()
    )
}

#[test]
fn settings_change_for_new_requests_and_no_stream_ends() {
    let (first, second) = (Ollama::start(), Ollama::start());
    let reloaded = Reloaded::start(&config(&first, "", KEY));
    let started = reloaded.metric("loggia_config_last_reload_success_timestamp_seconds");
    let (stream, begun) = reloaded.begin(KEY, MODEL, "Hel");
    assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
    assert!(reloaded.chat(OTHER, MODEL).starts_with("HTTP/1.1 401"));
    assert!(reloaded.chat(KEY, "other").starts_with("HTTP/1.1 404"));

    // Another server, another key, an alias and strictness.
    let more = format!("strict = true\nworkers = 3\naliases = {{ other = \"{MODEL}\" }}");
    reloaded.write(&config(&second, &more, OTHER));
    reloaded.hang_up();
    eventually("the key is another one", || {
        reloaded.models(KEY).starts_with("HTTP/1.1 401")
    });
    let has_alias = |key: &str| reloaded.models(key).contains("\"other\"");
    eventually("there is an alias", || has_alias(OTHER));
    let refused = reloaded.chat(OTHER, MODEL);
    assert!(
        refused.starts_with("HTTP/1.1 400") && refused.contains("nonsense"),
        "{refused}"
    );
    first.go_on.add_permits(1000);
    let rest = rest(stream);
    assert!(
        rest.contains("[DONE]") && !rest.contains("\"error\""),
        "{rest}"
    );

    // Without a signal: an editor writes another file and renames it.
    let program = reloaded.served.program();
    let more = format!("aliases = {{ other = \"{MODEL}\" }}");
    let new = program.write("loggia.toml.new", config(&second, &more, KEY));
    std::fs::rename(new, program.path("loggia.toml")).unwrap();
    second.go_on.add_permits(1000);
    eventually("the key is valid again", || has_alias(KEY));
    eventually("the reload has ended", || {
        reloaded.metric("loggia_config_settings_after_restart") < 0.5
    });
    assert_eq!(second.chats.load(Ordering::SeqCst), 0);
    let answer = reloaded.chat(KEY, "other");
    assert!(answer.contains("[DONE]"), "{answer}");
    assert_eq!(second.chats.load(Ordering::SeqCst), 1);
    assert!(reloaded.metric("loggia_config_last_reload_success_timestamp_seconds") > started);
    assert!((reloaded.metric("loggia_config_settings_after_restart") - 0.0).abs() < 0.5);

    let Reloaded { mut served } = reloaded;
    served.running.0.kill().unwrap();
    let log = served.running.log();
    assert!(
        log.contains("`workers` has changed, and takes effect after a restart"),
        "{log}"
    );
    assert!(!log.contains(KEY) && !log.contains(OTHER), "{log}");
}

#[test]
fn pages_proxies_and_settings_of_models_change() {
    let ollama = Ollama::start();
    ollama.go_on.add_permits(1000);
    let servers = format!("ollama = [\"gpu={}\"]\n", ollama.url());
    let reloaded = Reloaded::start(&servers);
    let page = "origin: https://chat.example\r\n";
    let is_allowed = || {
        let answer = reloaded.get("/healthz", page);
        answer.contains("access-control-allow-origin: https://chat.example\r\n")
    };
    let of_user = || reloaded.get("/v1/models", "x-user: alice\r\n");
    assert!(!is_allowed() && of_user().starts_with("HTTP/1.1 200"));
    assert!(reloaded.chat(KEY, MODEL).contains("[DONE]"));

    reloaded.write(&format!(
        "{servers}cors_origins = [\"https://chat.example\"]\n"
    ));
    reloaded.hang_up();
    eventually("the page is allowed", is_allowed);

    reloaded.write(&format!(
        "{servers}per_model.\"{MODEL}\" = {{ strict = true }}\n"
    ));
    reloaded.hang_up();
    eventually("the page is no longer allowed", || !is_allowed());
    eventually("the model is strict", || {
        let answer = reloaded.chat(KEY, MODEL);
        answer.starts_with("HTTP/1.1 400") && answer.contains("nonsense")
    });

    // Other proxies are trusted, and then those of this machine.
    let trusted = format!("{servers}trusted_header = \"x-user\"\n");
    reloaded.write(&format!("{trusted}trusted_peers = [\"10.0.0.0/8\"]\n"));
    reloaded.hang_up();
    eventually("a key is required", || {
        of_user().starts_with("HTTP/1.1 401")
    });
    reloaded.write(&trusted);
    reloaded.hang_up();
    eventually("the proxy is trusted", || {
        of_user().starts_with("HTTP/1.1 200")
    });
    assert!(reloaded.models(KEY).starts_with("HTTP/1.1 401"));
}

#[test]
fn what_the_server_may_fetch_and_call_changes() {
    let ollama = Ollama::start();
    let servers = format!("ollama = [\"gpu={}\"]\n", ollama.url());
    let reloaded = Reloaded::start(&servers);
    let url = format!("{}/nothing", ollama.url());
    let image = json!({"type": "image_url", "image_url": {"url": url}});
    let message = |part: Value| json!([{"role": "user", "content": [part]}]);
    let file = json!({"type": "input_file", "file_url": url});
    let tool = json!({"type": "mcp", "server_label": "notes", "server_url": url});
    let events = json!(["response.completed"]);
    let requests = [
        (
            "/v1/chat/completions",
            json!({"model": MODEL, "messages": message(image)}),
        ),
        (
            "/v1/responses",
            json!({"model": MODEL, "input": message(file)}),
        ),
        (
            "/v1/responses",
            json!({"model": MODEL, "input": "Hi", "tools": [tool]}),
        ),
        (
            "/v1/webhook_endpoints",
            json!({"name": "hook", "url": url, "event_types": events}),
        ),
    ];
    let refused = || {
        let refused = requests.iter().map(|(path, body)| {
            let (_, answer) = reloaded.served.post(path, body);
            let text = answer.to_string();
            let is_refused = text.contains("not allowed") || text.contains("not public");
            (is_refused, text)
        });
        refused.collect::<Vec<_>>()
    };
    let before = refused();
    assert!(before.iter().all(|(refused, _)| *refused), "{before:?}");
    let port = ollama.address.port();
    reloaded.write(&format!(
        "{servers}[images]\nports = [{port}]\nnetworks = [\"127.0.0.0/8\"]\n"
    ));
    reloaded.hang_up();
    eventually("all of them are allowed", || {
        refused().iter().all(|(refused, _)| !refused)
    });
    // The server was asked, and has no such thing.
    let after = refused();
    assert!(after[0].1.contains("status 404"), "{after:?}");
    reloaded.write(&servers);
    reloaded.hang_up();
    eventually("none is allowed", || {
        refused().iter().all(|(refused, _)| *refused)
    });
}

#[test]
fn the_settings_of_an_embedded_model_are_checked_before_anything_changes() {
    let program = Program::new().with("LOGGIA_LOG", "info");
    program.write("tiny.gguf", tiny::gguf());
    let config = |of_model: &str| {
        format!(
            "models = [\"tiny.gguf\"]\n[per_model.tiny]\n{of_model}\n\
             [[key]]\nname = \"ops\"\nkey = \"{KEY}\"\nscopes = [\"admin\"]\n"
        )
    };
    program.write("loggia.toml", config("options = { top_k = 20 }"));
    let reloaded = Reloaded {
        served: Served::start(program, &["--config", "loggia.toml"]),
    };
    let last_reload = || {
        let key = bearer(KEY);
        let (_, mut server) = reloaded.served.ask("GET", "/admin/server", &key);
        server["last_reload"].take()
    };
    reloaded.write(&config("options = { mirostat_tau = 3 }"));
    reloaded.hang_up();
    eventually("the option is refused", || {
        last_reload()["successful"] == json!(false)
    });
    let error = last_reload()["error"].to_string();
    assert!(
        error.contains("per_model.tiny") && error.contains("mirostat_tau"),
        "{error}"
    );
    reloaded.write(&config("options = { top_k = 5 }\ndraft_tokens = 3"));
    reloaded.hang_up();
    eventually("the options are valid", || {
        last_reload()["successful"] == json!(true)
    });
    let pending = &last_reload()["after_restart"];
    assert_eq!(*pending, json!(["per_model.draft_tokens"]));
}

#[test]
fn a_mistake_changes_nothing_and_is_named() {
    let ollama = Ollama::start();
    ollama.go_on.add_permits(1000);
    let good = config(&ollama, "", KEY);
    let reloaded = Reloaded::start(&good);
    let successful = || reloaded.metric("loggia_config_last_reload_successful") > 0.5;
    assert!(successful());
    for (mistake, named) in [
        ("strict = maybe", "strict"),
        ("unknown_setting = 1", "unknown_setting"),
        ("aliases = { a = \"b\", b = \"a\" }", "forms a loop"),
        (
            "openai = [{ name = \"gpu\", url = \"http://127.0.0.1:9\" }]",
            "two backends have the name",
        ),
        ("cors_origins = [\"chat.example\"]", "is not an origin"),
        (
            "trusted_peers = [\"here\"]\ntrusted_header = \"x-user\"",
            "trusted_peers",
        ),
        ("images = { networks = [\"here\"] }", "images.networks"),
        (
            "per_model.m = { sampling_profile = \"none\" }",
            "sampling_profile",
        ),
    ] {
        // Beside the mistake there is a change that is none.
        let more = format!("body_limit = \"1B\"\n{mistake}");
        reloaded.write(&config(&ollama, &more, OTHER));
        reloaded.hang_up();
        eventually(mistake, || !successful());
        let answer = reloaded.chat(KEY, MODEL);
        assert!(answer.contains("[DONE]"), "{mistake}: {answer}");
        let key = bearer(KEY);
        let (status, server) = reloaded.served.ask("GET", "/admin/server", &key);
        let last = &server["last_reload"];
        assert_eq!((status, &last["successful"]), (200, &json!(false)));
        assert!(last["error"].as_str().unwrap().contains(named), "{last}");
        reloaded.write(&good);
        reloaded.hang_up();
        eventually("it is good again", successful);
    }
}

#[test]
fn a_backend_that_is_gone_ends_its_streams_in_peace_and_timeouts_change() {
    let (first, second) = (Ollama::start(), Ollama::start());
    let both = |more: &str| {
        format!(
            "ollama = [\"gpu={}\", \"spare={}\"]\n{more}\n[[key]]\nname = \"ops\"\nkey = \"{KEY}\"\n\
             scopes = [\"chat\", \"admin\", \"metrics\"]\n",
            first.url(),
            second.url()
        )
    };
    let reloaded = Reloaded::start(&both(""));
    let (stream, begun) = reloaded.begin(KEY, &format!("spare/{MODEL}"), "Hel");
    assert!(begun.contains("served-by: spare;"), "{begun}");
    assert!(reloaded.models(KEY).contains("spare/"));
    reloaded.write(&config(&first, "idle_timeout = \"100ms\"", KEY));
    reloaded.hang_up();
    eventually("it is gone", || !reloaded.models(KEY).contains("spare/"));
    let gone = reloaded.chat(KEY, &format!("spare/{MODEL}"));
    assert!(gone.starts_with("HTTP/1.1 404"), "{gone}");
    // A request that begins now has the new time limit; the one before has its own.
    let late = reloaded.chat(KEY, MODEL);
    assert!(late.contains("backend_timeout"), "{late}");
    std::thread::sleep(Duration::from_millis(200));
    second.go_on.add_permits(1);
    let rest = rest(stream);
    assert!(rest.contains("[DONE]"), "{rest}");
}
