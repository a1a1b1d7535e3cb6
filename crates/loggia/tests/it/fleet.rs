//! A backend of several servers, of which one stops and is started again.

#![cfg(unix)]
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::ollama::{MODEL, Ollama};
use crate::support::request::{self, bearer, rest};
use crate::support::served::Served;
use crate::support::{Program, eventually};

/// Two servers, and the program with both as nodes 1 and 2 of the backend `gpu`.
fn fleet() -> (Ollama, Ollama, Served) {
    let (first, second) = (Ollama::start(), Ollama::start());
    for node in [&first, &second] {
        node.go_on.add_permits(1000);
    }
    let nodes = [&first, &second].map(|node| format!("gpu={}", node.url()));
    let arguments = ["--ollama", &nodes[0], "--ollama", &nodes[1]];
    // Nobody reads the log, and a full pipe would stop the program.
    let program = Program::new().with("LOGGIA_LOG", "error");
    let served = Served::start(program, &arguments);
    (first, second, served)
}

fn send(address: SocketAddr, stream: bool) -> BufReader<TcpStream> {
    send_as(address, "none", &json!({"stream": stream}))
}

/// Sends a chat with an API key and further fields.
fn send_as(address: SocketAddr, key: &str, more: &Value) -> BufReader<TcpStream> {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    request::send(address, "POST /v1/chat/completions", &bearer(key), &body)
}

#[test]
fn requests_that_have_not_begun_survive_the_end_of_their_node() {
    let (first, second, served) = fleet();
    for node in [&first, &second] {
        node.begin.forget_permits(1);
    }
    let asked: Vec<_> = (0..16)
        .map(|number| send(served.address, number % 2 == 0))
        .collect();
    let chats = |node: &Ollama| node.chats.load(Ordering::SeqCst);
    eventually("all are asked", || chats(&first) + chats(&second) == 16);
    assert_eq!((chats(&first), chats(&second)), (8, 8));
    drop(first);
    second.begin.add_permits(1);
    for connection in asked {
        let answer = rest(connection);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer.contains("x-loggia-served-by: gpu@2; model=small:latest"),
            "{answer}"
        );
        assert!(!answer.contains("error"), "{answer}");
    }
    assert_eq!(chats(&second), 16);
}

#[test]
fn a_begun_stream_ends_with_an_error_and_the_node_is_used_again_when_it_is_back() {
    let (first, second, served) = fleet();
    let mut nodes = [Some(first), Some(second)];
    for node in nodes.iter().flatten() {
        node.go_on.forget_permits(1000);
    }
    let mut stream = send(served.address, true);
    let mut begun = String::new();
    while !begun.contains("Hel") {
        assert_ne!(stream.read_line(&mut begun).unwrap(), 0, "{begun}");
    }
    let at = usize::from(begun.contains("gpu@2"));
    let address = nodes[at].take().unwrap().address;
    let ended = rest(stream);
    assert!(
        ended.contains("\"error\"") && !ended.contains("[DONE]"),
        "{ended}"
    );

    let other = nodes[1 - at].as_ref().unwrap();
    other.go_on.add_permits(1000);
    for _ in 0..4 {
        let answer = rest(send(served.address, false));
        assert!(answer.contains(&format!("gpu@{}", 2 - at)), "{answer}");
    }
    let back = Ollama::start_at(address);
    back.go_on.add_permits(1000);
    let since = Instant::now();
    eventually("the node is used again", || {
        rest(send(served.address, false)).contains(&format!("gpu@{}", at + 1))
    });
    assert!(since.elapsed() < Duration::from_secs(2), "{since:?}");
}

#[test]
fn when_all_nodes_are_away_the_error_says_so_until_one_is_back() {
    let (first, second, served) = fleet();
    assert!(rest(send(served.address, false)).starts_with("HTTP/1.1 200"));
    let address = first.address;
    drop((first, second));
    let refused = rest(send(served.address, false));
    assert!(refused.starts_with("HTTP/1.1 502"), "{refused}");
    assert!(
        refused.contains("the backend `gpu` cannot be reached"),
        "{refused}"
    );
    let back = Ollama::start_at(address);
    back.go_on.add_permits(1000);
    let since = Instant::now();
    eventually("it answers again", || {
        rest(send(served.address, false)).starts_with("HTTP/1.1 200")
    });
    assert!(since.elapsed() < Duration::from_secs(2), "{since:?}");
}

#[test]
fn requests_wait_for_their_turn_and_are_refused_when_the_queue_is_full() {
    let ollama = Ollama::start();
    let url = ollama.url();
    let arguments = ["--ollama", &url, "--at-once", "1", "--queue", "1"];
    let served = Served::start(Program::new(), &arguments);
    // The answer has begun and goes on: the request keeps its place in the queue until the whole
    // body has ended.
    let mut running = send(served.address, true);
    let mut begun = String::new();
    while !begun.contains("Hel") {
        assert_ne!(running.read_line(&mut begun).unwrap(), 0, "{begun}");
    }
    let others = [(); 2].map(|()| send(served.address, true));
    let mut answers = others.map(|connection| std::thread::spawn(|| rest(connection)));
    // One of the two requests waits; the other is refused at once.
    eventually("one is answered", || {
        answers.iter().any(std::thread::JoinHandle::is_finished)
    });
    answers.sort_by_key(|answer| !answer.is_finished());
    let [refused, waits] = answers;
    let refused = refused.join().unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 5"),
        "{refused}"
    );
    assert_eq!(ollama.chats.load(Ordering::SeqCst), 1);
    ollama.go_on.add_permits(1000);
    let answered = waits.join().unwrap();
    assert!(answered.contains("[DONE]"), "{answered}");
}

#[test]
fn a_key_with_the_scope_has_priority_and_streams_tell_their_place() {
    let ollama = Ollama::start();
    let program = Program::new()
        .with("LOGGIA_AT_ONCE", "1")
        .with("LOGGIA_HEARTBEAT_AFTER", "10ms")
        .with("LOGGIA_HEARTBEAT_EVERY", "10ms");
    let (vip, plain) = ("0123456789-vip-key", "0123456789-plain-key");
    let keys = format!(
        "[[key]]\nname = \"vip\"\nkey = \"{vip}\"\nscopes = [\"chat\", \"priority\"]\n\
         [[key]]\nname = \"plain\"\nkey = \"{plain}\"\n"
    );
    program.write("keys.toml", keys);
    let url = ollama.url();
    let served = Served::start(program, &["--config", "keys.toml", "--ollama", &url]);
    let wait_for = |stream: &mut BufReader<TcpStream>, text: &str| {
        let mut read = String::new();
        while !read.contains(text) {
            assert_ne!(stream.read_line(&mut read).unwrap(), 0, "{read}");
        }
    };
    let begin = |key, tier| {
        let asked = json!({"stream": true, "service_tier": tier});
        send_as(served.address, key, &asked)
    };
    let mut running = begin(plain, "default");
    wait_for(&mut running, "Hel");
    let mut flex = begin(vip, "flex");
    wait_for(&mut flex, ": queued 1\n");
    // The key may not use priority.
    let mut default = begin(plain, "priority");
    wait_for(&mut default, ": queued 1\n");
    let mut first = begin(vip, "priority");
    wait_for(&mut first, ": queued 1\n");
    wait_for(&mut default, ": queued 2\n");
    wait_for(&mut flex, ": queued 3\n");
    for (stream, tier) in [
        (running, "default"),
        (first, "priority"),
        (default, "default"),
        (flex, "flex"),
    ] {
        ollama.go_on.add_permits(1);
        let ended = rest(stream);
        assert!(ended.contains("[DONE]"), "{ended}");
        let tier = format!("\"service_tier\":\"{tier}\"");
        assert!(ended.contains(&tier), "{tier}: {ended}");
        ollama.go_on.forget_permits(1);
    }
}

#[test]
fn an_alias_falls_back_across_kinds_of_backends_and_comes_back() {
    let (gpu, spare) = (Ollama::start(), Ollama::start());
    for node in [&gpu, &spare] {
        node.go_on.add_permits(1000);
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("vllm=http://{}", closed.local_addr().unwrap());
    drop(closed);
    let (first, second) = (
        format!("gpu={}", gpu.url()),
        format!("spare={}", spare.url()),
    );
    let alias = format!("chat=vllm/big|gpu/{MODEL}|spare/{MODEL}");
    let arguments = [
        "--openai", &away, "--ollama", &first, "--ollama", &second, "--alias", &alias,
    ];
    let served = Served::start(Program::new(), &arguments);
    let ask = || rest(send_as(served.address, "none", &json!({"model": "chat"})));
    let by = |node: &str| format!("x-loggia-served-by: {node}; model={MODEL}");
    let answered = ask();
    assert!(answered.contains(&by("gpu")), "{answered}");
    assert!(answered.contains("\"model\":\"chat\""), "{answered}");
    let address = gpu.address;
    drop(gpu);
    let answered = ask();
    assert!(answered.contains(&by("spare")), "{answered}");
    let back = Ollama::start_at(address);
    back.go_on.add_permits(1000);
    eventually("the first target answers again", || {
        ask().contains(&by("gpu"))
    });
}

/// The text of `/metrics`.
fn metrics(address: SocketAddr) -> String {
    rest(request::send(address, "GET /metrics", "", &Value::Null))
}

#[test]
fn under_load_no_request_is_lost_when_a_node_ends_again_and_again() {
    let (first, second, served) = fleet();
    let address = served.address;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (stop, stream) = (Arc::clone(&stop), number % 2 == 0);
            std::thread::spawn(move || {
                let mut answers = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    answers.push(rest(send(address, stream)));
                }
                (stream, answers)
            })
        })
        .collect();
    let chats = |node: &Ollama| node.chats.load(Ordering::SeqCst);
    let is_up = |up: u8| {
        let up = format!("loggia_node_up{{backend=\"gpu\",node=\"1\"}} {up}\n");
        metrics(address).contains(&up)
    };
    let mut node = first;
    for _ in 0..3 {
        eventually("the node is used", || chats(&node) >= 20);
        let at = node.address;
        drop(node);
        let before = chats(&second);
        eventually("the other one is used", || {
            chats(&second) >= before + 20 && is_up(0)
        });
        node = Ollama::start_at(at);
        node.go_on.add_permits(1000);
        let since = Instant::now();
        eventually("the node is used again", || chats(&node) > 0);
        assert!(since.elapsed() < Duration::from_secs(2), "{since:?}");
        eventually("it is up", || is_up(1));
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        let (stream, answers) = client.join().unwrap();
        for answer in answers {
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let (is_whole, has_failed) = (answer.contains("[DONE]"), answer.contains("\"error\""));
            assert_eq!(is_whole != has_failed, stream, "{answer}");
            assert!(stream || answer.contains("Hello"), "{answer}");
        }
    }
}

#[test]
fn with_hedging_a_second_node_is_asked_when_the_first_is_slow() {
    let (first, second) = (Ollama::start(), Ollama::start());
    for node in [&first, &second] {
        node.go_on.add_permits(1000);
        node.begin.forget_permits(1);
    }
    let nodes = [&first, &second].map(|node| format!("gpu={}", node.url()));
    let arguments = [
        "--ollama",
        &nodes[0],
        "--ollama",
        &nodes[1],
        "--hedge-after",
        "20ms",
    ];
    let served = Served::start(Program::new(), &arguments);
    let chats = |node: &Ollama| node.chats.load(Ordering::SeqCst);
    for stream in [true, false] {
        let before = (chats(&first), chats(&second));
        let asked = send(served.address, stream);
        eventually("both are asked", || {
            chats(&first) > before.0 && chats(&second) > before.1
        });
        // The node that begins to answer first wins, whichever was asked first.
        let (fast, name) = if stream {
            (&second, "gpu@2;")
        } else {
            (&first, "gpu@1;")
        };
        fast.begin.add_permits(1);
        let answer = rest(asked);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(name), "{answer}");
        fast.begin.forget_permits(1);
        assert_eq!(
            (chats(&first), chats(&second)),
            (before.0 + 1, before.1 + 1)
        );
        let none = "loggia_node_requests_in_flight{backend=\"gpu\",node=\"1\"} 0\n";
        let neither = none.replace("\"1\"", "\"2\"");
        eventually("the other call has left", || {
            let metrics = metrics(served.address);
            metrics.contains(none) && metrics.contains(&neither)
        });
    }
}
