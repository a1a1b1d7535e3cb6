//! Commands of users who have not read the manual: each works, or the error says what to type
//! instead.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use crate::support::ollama::Ollama;
use crate::support::{Program, Run};

/// A backend that is never asked.
const NOBODY: [&str; 2] = ["--ollama", "http://127.0.0.1:9"];

/// Runs `loggia check` with these flags.
fn checked(program: &Program, flags: &[&str]) -> Run {
    program.run(&[&["check"], flags].concat())
}

/// The line of a setting, with single spaces.
fn line(run: &Run, key: &str) -> String {
    let found = run
        .out
        .lines()
        .find(|line| line.starts_with(key))
        .unwrap_or_else(|| panic!("no {key} in {run:?}"));
    found.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_address_may_be_written_in_every_usual_way() {
    let program = Program::new();
    for (flags, listens) in [
        (&["--port", "8080"][..], "127.0.0.1:8080"),
        (&["--host", "0.0.0.0"], "0.0.0.0:11435"),
        (&["--host", "0.0.0.0", "--port", "8080"], "0.0.0.0:8080"),
        (&["--host", "localhost"], "localhost:11435"),
        (&["--listen", "8080"], "127.0.0.1:8080"),
        (&["--listen", ":8080"], "127.0.0.1:8080"),
        (&["--listen", "0.0.0.0"], "0.0.0.0:11435"),
        (&["--listen", "localhost:8080"], "localhost:8080"),
        (&["--listen", "[::1]:8080"], "[::1]:8080"),
        (&["--listen", "http://127.0.0.1:8080"], "127.0.0.1:8080"),
    ] {
        assert_eq!(
            line(&checked(&program, &[flags, &NOBODY].concat()), "listen"),
            format!("listen = \"{listens}\" # flag")
        );
    }
    // The other half comes from the environment.
    let from_elsewhere = program.with("LOGGIA_LISTEN", "0.0.0.0:8080");
    assert_eq!(
        line(&checked(&from_elsewhere, &["--port", "9090"]), "listen"),
        "listen = \"0.0.0.0:9090\" # flag"
    );
}

#[test]
fn what_is_no_address_is_answered_with_examples() {
    let program = Program::new();
    for flags in [
        ["--listen", "99999"],
        ["--listen", "127.0.0.1:http"],
        ["--listen", "[::1"],
    ] {
        let run = checked(&program, &flags);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(
            run.err.contains("127.0.0.1:8080") && run.err.contains("0.0.0.0:8080"),
            "{run:?}"
        );
        assert!(!run.err.contains("--help"), "{run:?}");
    }
    let run = program.run(&[
        "serve",
        "--listen",
        "no-such-host.invalid:80",
        NOBODY[0],
        NOBODY[1],
    ]);
    run.failed_saying(&[
        "cannot listen on no-such-host.invalid:80",
        "--listen 127.0.0.1:8080",
    ]);
}

#[test]
fn a_wrong_value_of_a_flag_is_answered_with_what_the_flag_takes() {
    let program = Program::new();
    for (flags, said) in [
        (
            &["--port", "http"][..],
            "--port: `http` is not a port number (0 to 65535); for example --port 8080",
        ),
        (
            &["--host", "0.0.0.0:80"],
            "--host: `0.0.0.0:80` is not a host; write 127.0.0.1",
        ),
        (
            &["-t", "0"],
            "--threads: `0` is not a whole number from 1; for example --threads 4",
        ),
        (
            &["-np", "many"],
            "--parallel: `many` is not a whole number from 1; for example --parallel 4",
        ),
        (
            &["-ngl", "-1"],
            "--gpu-layers: `-1` is not a whole number; for example --gpu-layers 20",
        ),
        (
            &["--context", "lots"],
            "--context: `lots` is not a number of tokens; write 8192 or 8k; for example --context 8192",
        ),
        (
            &["--sampling-profile", "best"],
            "`best` is neither openai nor original; for example --sampling-profile openai",
        ),
        (
            &["--openai", "http://a"],
            "; for example --openai vllm=http://127.0.0.1:8000/v1",
        ),
        (
            &["--ollama", "a:1"],
            "; for example --ollama http://127.0.0.1:11434",
        ),
        (
            &["--alias", "x"],
            "; for example --alias 'gpt-*=smollm2:135m'",
        ),
        (
            &["--strict=maybe"],
            "`maybe` is neither true nor false; for example --strict=true",
        ),
        (
            &["--per-model", "x"],
            "; for example --per-model 'smollm2:135m={strict=true}'",
        ),
        (
            &["--ceilings", "choises=3"],
            "unknown entry `choises`; did you mean `choices`?; for example --ceilings choices=16",
        ),
        (
            &["--memory", "lots"],
            "`lots` is not a size; write 512KiB, 32MiB or 12GiB; for example --memory 12GiB",
        ),
        (
            &["--prot", "8080"],
            "there is no flag --prot; did you mean --port?",
        ),
        (&["--hf", "x"], "; for example --hf bartowski/"),
        (&["--lora", "x"], "; for example --lora tuned="),
        (&["--port"], "--port needs a value, for example --port 8080"),
        (
            &["--listen", "8080", "--port", "8080"],
            "--listen and --port cannot be used together; leave one out",
        ),
        (
            &["--strict", "--lenient"],
            "--strict and --lenient cannot be used together; leave one out",
        ),
        (
            &["--port", "1", "--port", "2"],
            "--port is given twice; leave one out",
        ),
    ] {
        for command in ["check", "serve"] {
            let run = program.run(&[&[command], flags].concat());
            assert_eq!(run.code, Some(2), "{run:?}");
            assert!(run.err.contains(said), "no `{said}` in {}", run.err);
            assert!(!run.err.contains("--help"), "{run:?}");
            assert_eq!(run.err.lines().count(), 1, "{run:?}");
        }
    }
    let run = program.run(&["chat", "--key", "a secret\nkey"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(!run.err.contains("secret"), "{run:?}");
}

#[test]
fn a_server_listens_where_it_is_told_to_by_name_or_by_port() {
    let free = || {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
            .to_string()
    };
    let port = free();
    for flags in [
        vec!["--port", &port],
        vec!["--host", "localhost", "--port", &port],
        vec!["--listen", &port],
    ] {
        let program = Program::new();
        let mut running = program.start(&[&["serve"], &flags[..], &NOBODY].concat());
        let mut first = String::new();
        BufReader::new(running.0.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        assert_eq!(
            first,
            format!("loggia: listening on http://127.0.0.1:{port}\n"),
            "{flags:?}"
        );
    }
}

#[test]
fn other_programs_words_for_serving_a_model_are_understood() {
    let program = Program::new();
    program.write("folder/README.md", "hello");
    for words in [
        &["serve", "nothing.gguf"][..],
        &["serve", "-m", "nothing.gguf"],
        &["start", "nothing.gguf"],
        &["start", "--model", "nothing.gguf"],
        &["nothing.gguf"],
        &["-m", "nothing.gguf"],
        &["./folder/nothing.gguf"],
    ] {
        let run = program.run(
            &[
                words,
                &[
                    "--port", "0", "-c", "4k", "-t", "1", "-ngl", "0", "-np", "1",
                ],
            ]
            .concat(),
        );
        if cfg!(feature = "embedded") {
            run.failed_saying(&["there is no file", "nothing.gguf"]);
        } else {
            run.failed_saying(&["no embedded engine"]);
        }
    }
    let run = checked(
        &program,
        &[
            "--ctx-size",
            "8k",
            "--n-gpu-layers",
            "0",
            "-np",
            "2",
            "-t",
            "3",
            NOBODY[0],
            NOBODY[1],
        ],
    );
    assert_eq!(line(&run, "context"), "context = 8192 # flag");
    assert_eq!(line(&run, "parallel"), "parallel = 2 # flag");
    assert_eq!(line(&run, "threads"), "threads = 3 # flag");
    assert_eq!(line(&run, "gpu_layers"), "gpu_layers = 0 # flag");
    assert_eq!(
        line(
            &checked(&program, &["--max-model-len", "4096", NOBODY[0], NOBODY[1]]),
            "context"
        ),
        "context = 4096 # flag"
    );
}

#[test]
fn flags_and_commands_that_there_are_not_are_answered_with_those_that_there_are() {
    let program = Program::new();
    for (words, said) in [
        (
            &["serve", "--api-key", "secret-0123456789"][..],
            "LOGGIA_KEY_ALICE",
        ),
        (&["serve", "--served-model-name", "x"], "--alias"),
        (&["serve", "--tensor-parallel-size", "2"], "--gpu-layers"),
        (&["serve", "--flash-attn"], "leave it out"),
        (&["serve", "--base-url", "http://a"], "--openai NAME=URL"),
        (&["serve", "--cors", "*"], "--cors-origins"),
        (&["serve", "--timeout", "10"], "--headers-timeout"),
        (&["serve", "-v"], "LOGGIA_LOG=debug"),
        (&["generate"], "loggia chat"),
        (&["ps"], "GET /v1/models"),
        (&["serv"], "did you mean `loggia serve`?"),
    ] {
        let run = program.run(words);
        assert_eq!(
            (run.code, run.err.contains(said)),
            (Some(2), true),
            "{words:?}: {run:?}"
        );
        assert!(
            !run.err.contains("secret") && !run.err.contains("--help'"),
            "{words:?}: {run:?}"
        );
    }
    let bare = program.run(&[]);
    assert!(
        bare.err.contains("To begin:") && bare.err.contains("loggia serve"),
        "{bare:?}"
    );
    // `list` and `ls` are aliases of `models`.
    program.run(&["list"]).succeeded();
    program.run(&["ls"]).succeeded();
}

#[cfg(feature = "embedded")]
#[test]
fn a_folder_or_a_file_of_any_name_is_looked_into() {
    let program = Program::new();
    let model = crate::support::tiny::gguf();
    program.write("one/model-Q8_0.gguf", &model);
    program.write("one/README.md", "# A model");
    program.write("blobs/sha256-0123456789abcdef", &model);
    program.write("blobs/sha256-fedcba9876543210", "{}");
    let names = |run: &Run| -> Vec<String> {
        run.out
            .lines()
            .filter_map(|line| line.strip_prefix("#   "))
            .map(str::to_owned)
            .collect()
    };
    for (asked, name) in [
        ("one", "model-Q8_0"),
        ("one/", "model-Q8_0"),
        ("blobs", "sha256-0123456789abcdef"),
        ("blobs/sha256-0123456789abcdef", "sha256-0123456789abcdef"),
    ] {
        assert_eq!(
            names(&checked(&program, &["--model", asked]).succeeded()),
            [name],
            "{asked}"
        );
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(
            program.path("blobs/sha256-0123456789abcdef"),
            program.path("link"),
        )
        .unwrap();
        assert_eq!(names(&checked(&program, &["link"]).succeeded()), ["link"]);
    }
    // In a configuration file, relative to its folder.
    program.write("conf/loggia.toml", "models = \"../one\"\n");
    assert_eq!(
        names(&checked(&program, &["--config", "conf/loggia.toml"]).succeeded()),
        ["model-Q8_0"]
    );

    program.write("one/another.gguf", &model);
    program
        .run(&["serve", "one"])
        .failed_saying(&["several models", "one/another.gguf, one/model-Q8_0.gguf"]);
    program.write(
        "none/model.safetensors",
        [&20_u64.to_le_bytes()[..], br#"{"__metadata__":{}}"#].concat(),
    );
    program
        .run(&["serve", "none"])
        .failed_saying(&["no GGUF file in the folder none", "safetensors"]);
    program
        .run(&["serve", "none/model.safetensors"])
        .failed_saying(&["is not a GGUF file", "safetensors", "-GGUF"]);
    program.write("page.gguf", "<!DOCTYPE html>");
    program
        .run(&["serve", "page.gguf"])
        .failed_saying(&["page.gguf is not a GGUF file", "web page"]);
    program.write(
        "pointer.gguf",
        "version https://git-lfs.github.com/spec/v1\n",
    );
    program
        .run(&["serve", "pointer.gguf"])
        .failed_saying(&["git lfs pull"]);
    program
        .run(&["pull", "pointer.gguf"])
        .failed_saying(&["git lfs pull"]);
}

#[test]
fn a_blob_a_link_and_a_folder_can_be_pulled() {
    let program = Program::new();
    program.write("blobs/sha256-0123456789abcdef", "GGUF1");
    program
        .run(&["pull", "blobs/sha256-0123456789abcdef"])
        .succeeded();
    program.write("folder/m-Q8_0.gguf", "GGUF2");
    program.run(&["pull", "folder"]).succeeded();
    assert_eq!(
        program.files(),
        ["m-Q8_0.gguf", "sha256-0123456789abcdef.gguf"]
    );
    program.run(&["pull", "blobs"]).succeeded();
    program.write("blobs/other", "GGUF3");
    program
        .run(&["pull", "blobs"])
        .failed_saying(&["several models", "blobs/other"]);
}

#[cfg(feature = "embedded")]
#[test]
fn a_mistyped_model_is_answered_with_the_one_that_was_meant_and_no_hint_leads_to_an_error() {
    let program = Program::new();
    program.write("data/models/mine-Q8_0.gguf", crate::support::tiny::gguf());
    let said = |model: &str| {
        let run = program.run(&["serve", "--listen", "127.0.0.1:0", "--model", model]);
        assert_eq!(run.code, Some(1), "{run:?}");
        run.err
    };
    assert!(said("llama3").contains(
        "Did you mean `llama3.2:3b`? Download it with `loggia pull llama3.2:3b`. On this machine: mine-Q8_0. Short names: smollm2:135m, "
    ));
    assert!(
        said("smolm2:135m")
            .contains("Did you mean `smollm2:135m`? Download it with `loggia pull smollm2:135m`.")
    );
    let own = said("mine-q8");
    assert!(
        own.contains("Did you mean `mine-Q8_0`?") && !own.contains("loggia pull mine"),
        "{own}"
    );
    let unknown = said("nothing-like-it");
    assert!(
        unknown.contains("smollm2:135m")
            && unknown.contains("mine-Q8_0")
            && !unknown.contains("ownload"),
        "{unknown}"
    );
    assert!(said("qwen3:4b").contains("download it with: loggia pull qwen3:4b"));
    assert!(
        said("bartowski/Some-GGUF:Q8_0")
            .contains("download it with: loggia pull hf:bartowski/Some-GGUF:Q8_0")
    );
    assert!(
        said("data/models/mine-Q4_0.gguf").contains("did you mean data/models/mine-Q8_0.gguf?")
    );
    assert!(said("data/models/none").contains("there is no file data/models/none"));
    program
        .run(&["rm", "mine-q8"])
        .failed_saying(&["did you mean `mine-Q8_0`?"]);
    program
        .run(&["pull", "llama3"])
        .failed_saying(&["Did you mean `llama3.2:3b`?"]);
    program
        .run(&["pull", "ollama:llama3.1:8b"])
        .failed_saying(&["`ollama pull llama3.1:8b`"]);
}

#[cfg(feature = "embedded")]
#[test]
fn a_model_without_a_command_is_answered_with_commands_that_work() {
    let program = Program::new();
    program.write("data/models/mine-Q8_0.gguf", crate::support::tiny::gguf());
    let said = |word: &str| {
        let run = program.run(&[word]);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(
            run.err.contains(&format!("there is no command `{word}`")),
            "{run:?}"
        );
        assert!(
            !run.err.contains(&format!("loggia serve {word}` would")),
            "{run:?}"
        );
        run.err
    };
    // A model on this machine: the suggested command finds it.
    assert!(said("mine-q8_0").contains("`loggia serve mine-q8_0` serves"));
    let served = program.run(&["check", "--model", "mine-q8_0"]).succeeded();
    assert!(served.out.contains("#   mine-Q8_0"), "{served:?}");
    // A model that can be downloaded, a typing mistake, an unknown model.
    assert!(
        said("llama3")
            .contains("Did you mean `llama3.2:3b`? Download it with `loggia pull llama3.2:3b`.")
    );
    assert!(
        said("someone/Small-GGUF:Q8_0")
            .contains("download it with: loggia pull hf:someone/Small-GGUF:Q8_0")
    );
    let unknown = said("nothing-like-it");
    assert!(
        unknown.contains("On this machine: mine-Q8_0.") && unknown.contains("Short names:"),
        "{unknown}"
    );
}

/// A server on a free port that answers every connection with `first`.
fn saying(first: impl Fn(u8) -> &'static [u8] + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut seen = [0; 4096];
            if stream.read(&mut seen).is_ok() {
                let _ = stream.write_all(first(seen[0]));
            }
        }
    });
    address.to_string()
}

#[test]
fn https_for_a_server_without_tls_and_the_reverse_are_said_to_be_that() {
    let plain = saying(|_| b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    // A TLS handshake is refused with a TLS alert, anything else with a text.
    let tls = saying(|first| match first {
        22 => &[21, 3, 3, 0, 2, 2, 112],
        _ => b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
    });
    let program = Program::new();
    for (flag, name) in [("--ollama", "ollama"), ("--openai", "gpu")] {
        let url = |url: String| {
            if flag == "--openai" {
                format!("gpu={url}")
            } else {
                url
            }
        };
        let run = checked(&program, &[flag, &url(format!("https://{plain}"))]);
        let said = format!(
            "the backend `{name}` answers without TLS: change https:// to http:// in its URL"
        );
        assert_eq!(
            (run.code, run.out.contains(&said)),
            (Some(1), true),
            "{run:?}"
        );
        let run = checked(&program, &[flag, &url(format!("http://{tls}"))]);
        let said =
            format!("the backend `{name}` answers with TLS: change http:// to https:// in its URL");
        assert_eq!(
            (run.code, run.out.contains(&said)),
            (Some(1), true),
            "{run:?}"
        );
    }
}

#[test]
fn a_url_that_ends_with_the_path_of_a_route_is_understood_and_said() {
    let ollama = Ollama::start();
    let program = Program::new();
    for path in ["/api/chat", "/v1", "/v1/", "/v1/chat/completions", "/api"] {
        let run = checked(&program, &["--ollama", &format!("{}{path}", ollama.url())]).succeeded();
        assert_eq!(
            line(&run, "ollama ="),
            format!("ollama = [\"{}\"] # flag", ollama.url())
        );
        assert!(
            run.out.contains(&format!(
                "# ollama: the URL ends with the path of a route, {}",
                path.trim_end_matches('/')
            )),
            "{run:?}"
        );
    }
    for (path, base) in [
        ("/v1/chat/completions", "/v1"),
        ("/v1/models/", "/v1"),
        ("/engines/a/v1/embeddings", "/engines/a/v1"),
    ] {
        let run = checked(
            &program,
            &["--openai", &format!("x=http://127.0.0.1:9{path}")],
        );
        assert!(
            run.out
                .contains(&format!("url = \"http://127.0.0.1:9{base}\"")),
            "{run:?}"
        );
        assert!(
            run.out
                .contains("# x: the URL ends with the path of a route"),
            "{run:?}"
        );
    }
    let run = checked(
        &program,
        &[
            "--openai",
            "x=http://127.0.0.1:9/v1",
            "--ollama",
            &ollama.url(),
        ],
    );
    assert!(!run.out.contains("the path of a route"), "{run:?}");
}

/// Checks a file with a mistake; the error must contain all these texts.
#[track_caller]
fn mistaken(program: &Program, file: &str, said: &[&str]) {
    program.write("loggia.toml", file);
    let run = checked(program, &["--config", "loggia.toml"]);
    assert_eq!(run.code, Some(1), "{file}: {run:?}");
    for word in said {
        assert!(run.err.contains(word), "no {word} for {file}: {}", run.err);
    }
}

#[test]
fn a_mistake_in_a_table_of_the_file_shows_what_stands_in_that_table() {
    let program = Program::new();
    for (file, said) in [
        (
            "[ceilings]\nchoices = \"many\"",
            &[
                "line 2",
                "`ceilings.choices` is the text \"many\"; expected a whole number; for example: choices = 16",
            ][..],
        ),
        (
            "[ceilings]\nchoices = many",
            &["line 2", "`choices`", "For example: choices = 16"],
        ),
        (
            "[ceilings]\nmedia_bytes = []",
            &["`ceilings.media_bytes`", "media_bytes = \"24MiB\""],
        ),
        (
            "[ceilings]\nanswer_tokens = 0",
            &["`ceilings.answer_tokens`", "answer_tokens = 4096"],
        ),
        (
            "[ceilings]\nwhole_time = \"soon\"",
            &["`ceilings.whole_time`", "whole_time = \"1h\""],
        ),
        (
            "[images]\ntime = 10s",
            &["line 2", "`time`", "For example: time = \"10s\""],
        ),
        (
            "[images]\nports = \"80\"",
            &["`images.ports`", "a list", "ports = [80, 443]"],
        ),
        (
            "[images]\nnetworks = [\"10\"]",
            &["`images.networks", "networks = [\"10.1.2.0/24\"]"],
        ),
        (
            "[[openai]]\nname = \"v\"\nurl = http://a",
            &["line 3", "`url`", "For example: url = \"a text\""],
        ),
    ] {
        mistaken(&program, file, said);
    }
}

#[test]
fn a_mistake_in_the_file_names_its_key_and_shows_how_it_is_written() {
    let program = Program::new();
    for (file, said) in [
        (
            "listen = 127.0.0.1",
            &["line 1", "`listen`", "listen = \"127.0.0.1:11435\""][..],
        ),
        (
            "# mine\nlisten = localhost:8080",
            &["line 2", "`listen`", "quotes"],
        ),
        (
            "threads = \"four\"",
            &[
                "line 1",
                "`threads` is the text \"four\"",
                "whole number",
                "threads = 4",
            ],
        ),
        ("threads = 0", &["`threads` is the number 0", "threads = 4"]),
        (
            "context = \"many\"",
            &[
                "`context`",
                "`many` is not a number of tokens",
                "context = 8192",
            ],
        ),
        (
            "\nollama = 11434",
            &[
                "line 2",
                "`ollama` is the number 11434",
                "a list",
                "ollama = [\"http://127.0.0.1:11434\"]",
            ],
        ),
        (
            "strict = \"yes\"",
            &[
                "`strict` is the text \"yes\"",
                "true or false",
                "strict = true",
            ],
        ),
        (
            "idle_timeout = 10",
            &["`idle_timeout`", "idle_timeout = \"2m\""],
        ),
        (
            "[[openai]]\nname = \"v\"\nurl = 8000",
            &["line 3", "`openai[0].url`", "openai = [{ name = \"vllm\""],
        ),
        (
            "openai = \"http://127.0.0.1:8000\"",
            &["`openai` is the text", "openai = [{ name = \"vllm\""],
        ),
        (
            "port = 8080",
            &["unknown field `port`", "listen = \"127.0.0.1:11435\""],
        ),
        (
            "model = \"m.gguf\"",
            &["unknown field `model`", "models = [\"smollm2:135m\"]"],
        ),
        (
            "[ceilings]\nchoises = 3",
            &[
                "line 2",
                "unknown field `choises`",
                "did you mean `choices`?",
            ],
        ),
        (
            "data_dir = \"C:\\Users\"",
            &["`\\` begins an escape sequence", "single quotes"],
        ),
        (
            "listen = \"somewhere:else\"",
            &["`listen`", "127.0.0.1:8080"],
        ),
    ] {
        mistaken(&program, file, said);
    }
    // Values that may be secrets are not quoted.
    for file in [
        "key = \"hunter2-hunter2-hunter2\"",
        "[[key]]\nname = \"a\"\nkey = hunter2-hunter2",
        "[[key]]\nname = \"a\"\nkey = 22",
    ] {
        program.write("loggia.toml", file);
        let run = checked(&program, &["--config", "loggia.toml"]);
        assert!(
            run.code == Some(1) && !run.err.contains("hunter2") && !run.err.contains("22"),
            "{run:?}"
        );
    }
}

#[test]
fn one_text_stands_for_a_list_of_it_and_8k_for_a_number() {
    let program = Program::new();
    let file = "ollama = \"http://127.0.0.1:9\"\ncontext = \"8k\"\nlisten = 8080\ncors_origins = \"https://chat.example\"\n";
    program.write("loggia.toml", file);
    let run = checked(&program, &["--config", "loggia.toml"]);
    assert_eq!(
        line(&run, "ollama ="),
        "ollama = [\"http://127.0.0.1:9\"] # file"
    );
    assert_eq!(line(&run, "context"), "context = 8192 # file");
    assert_eq!(line(&run, "listen"), "listen = \"127.0.0.1:8080\" # file");
    assert_eq!(
        line(&run, "cors_origins"),
        "cors_origins = [\"https://chat.example\"] # file"
    );
}

#[test]
fn a_variable_that_is_no_setting_is_an_error_with_the_one_that_was_meant() {
    for (name, value, said) in [
        ("LOGGIA_PORT", "8080", "LOGGIA_LISTEN=127.0.0.1:11435"),
        ("LOGGIA_MODEL", "smollm2", "LOGGIA_MODELS=smollm2:135m"),
        ("LOGGIA_DATADIR", "/tmp/x", "LOGGIA_DATA_DIR="),
        ("LOGGIA_API_KEY", "secret-0123456789", "LOGGIA_KEYS="),
        ("LOGGIA_XYZZY", "1", "docs/configuration.md"),
    ] {
        let program = Program::new().with(name, value);
        for command in ["check", "serve"] {
            let run = program.run(&[command, "--listen", "127.0.0.1:0", NOBODY[0], NOBODY[1]]);
            assert!(!run.err.contains("secret"), "{run:?}");
            run.failed_saying(&[name, said]);
        }
    }
    Program::new()
        .with("LOGGIA_DATADIR", "/tmp/x")
        .run(&["models"])
        .failed_saying(&["LOGGIA_DATADIR", "LOGGIA_DATA_DIR="]);
    for (name, value) in [
        ("LOGGIA_PORT", "tcp://10.0.0.1:80"),
        ("LOGGIA_SERVICE_HOST", "10.0.0.1"),
        ("LOGGIA_TEST_MODEL", "m"),
        ("LOGGIA_MODEL", " "),
    ] {
        Program::new()
            .with(name, value)
            .run(&["models"])
            .succeeded();
    }
    let slip = checked(
        &Program::new().with("LOGGIA_OPENAI_GUP_KEY", "secret-0123456789"),
        &NOBODY,
    );
    assert!(
        slip.out
            .contains("# LOGGIA_OPENAI_GUP_KEY is set, but no engine with that name is configured"),
        "{slip:?}"
    );
    let wrong = Program::new()
        .with("LOGGIA_THREADS", "four")
        .run(&["check"]);
    wrong.failed_saying(&["LOGGIA_THREADS", "for example LOGGIA_THREADS=4"]);
    let strict = Program::new().with("LOGGIA_STRICT", "1");
    assert_eq!(
        line(&checked(&strict, &NOBODY), "strict"),
        "strict = true # environment"
    );
}

#[cfg(feature = "embedded")]
#[test]
fn a_context_that_is_too_small_says_what_would_do() {
    let program = Program::new();
    program.write("m.gguf", crate::support::tiny::gguf());
    let run = program.run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "m.gguf",
        "--context",
        "10",
    ]);
    run.failed_saying(&[
        "a context of 10 tokens is too small",
        "16",
        "--context 4096",
    ]);
}

#[test]
fn the_address_of_a_hubs_page_can_be_pulled() {
    let file = b"GGUF and the rest of it".as_slice();
    let hub = crate::support::hub::Hub::with(&[
        ("someone/Small-GGUF/m-Q8_0.gguf", file),
        ("someone/Small-GGUF/m-Q4_K_M.gguf", file),
    ]);
    let page = "https://huggingface.co/someone/Small-GGUF";
    for (asked, stored) in [
        (page.to_owned(), "m-Q4_K_M"),
        (format!("{page}/blob/main/m-Q8_0.gguf"), "m-Q8_0"),
        ("hf.co/someone/Small-GGUF:Q8_0".to_owned(), "m-Q8_0"),
        ("someone/Small-GGUF:Q8_0".to_owned(), "m-Q8_0"),
    ] {
        let program = Program::new().with("HF_ENDPOINT", &hub.endpoint());
        program.run(&["pull", &asked]).succeeded();
        assert_eq!(
            program.files(),
            [format!("hf/someone/Small-GGUF/{stored}.gguf")],
            "{asked}"
        );
    }
}

#[test]
fn a_running_server_says_what_it_serves_with_what() {
    let ollama = Ollama::start();
    let program = Program::new();
    let mut running = program.start(&["serve", "--port", "0", "--ollama", &ollama.url()]);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let address = line()
        .strip_prefix("loggia: listening on ")
        .unwrap()
        .to_owned();
    assert_eq!(
        line(),
        format!("loggia: serving 2 models on other servers on {address}")
    );
    assert_eq!(line(), "try it:");
    let command = line();
    assert!(
        command.starts_with(&format!("  curl -N {address}/v1/chat/completions ")),
        "{command}"
    );
    assert!(
        command.contains(r#""stream":true,"max_tokens":200"#),
        "{command}"
    );
}

#[cfg(feature = "embedded")]
#[test]
fn a_running_server_says_the_context_and_threads_of_its_model() {
    let program = Program::new();
    program.write("m.gguf", crate::support::tiny::gguf());
    let mut running = program.start(&[
        "serve", "--port", "0", "m.gguf", "-c", "64", "-np", "2", "-t", "1",
    ]);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let address = line()
        .strip_prefix("loggia: listening on ")
        .unwrap()
        .to_owned();
    assert_eq!(
        line(),
        format!("loggia: serving m: context 64 tokens, 2 requests at once, 1 thread on {address}")
    );
}
