//! Nodes that are added, drained and removed while the program runs: by the admin API, by `loggia
//! nodes`, and by the addresses of a DNS name.

#![cfg(unix)]
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::ollama::{MODEL, Ollama};
use crate::support::request::{self, bearer, rest};
use crate::support::served::Served;
use crate::support::{Program, eventually};

const KEY: &str = "0123456789-ops-key";

fn node() -> Ollama {
    let node = Ollama::start();
    node.begin.add_permits(1000);
    node
}

/// A program with a key of the scope admin, in its configuration.
fn program() -> Program {
    let program = Program::new().with("LOGGIA_LOG", "error");
    let key = format!("[[key]]\nname = \"ops\"\nkey = \"{KEY}\"\nscopes = [\"chat\", \"admin\"]\n");
    program.write("loggia.toml", key);
    program
}

fn serve(program: Program, nodes: &[&Ollama]) -> Served {
    let nodes: Vec<String> = nodes
        .iter()
        .map(|node| format!("gpu={}", node.url()))
        .collect();
    let mut arguments = vec!["--config", "loggia.toml"];
    for node in &nodes {
        arguments.extend(["--ollama", node]);
    }
    Served::start(program, &arguments)
}

/// Sends a request with the key.
fn send(address: SocketAddr, line: &str, body: &Value) -> BufReader<TcpStream> {
    request::send(address, line, &bearer(KEY), body)
}

fn chat(stream: bool) -> Value {
    json!({"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
}

fn ask(address: SocketAddr) -> String {
    rest(send(address, "POST /v1/chat/completions", &chat(false)))
}

/// A stream that has begun, and what was read of it.
fn begin(address: SocketAddr) -> (BufReader<TcpStream>, String) {
    let mut stream = send(address, "POST /v1/chat/completions", &chat(true));
    let mut begun = String::new();
    while !begun.contains("Hel") {
        assert_ne!(stream.read_line(&mut begun).unwrap(), 0, "{begun}");
    }
    (stream, begun)
}

/// Streams that have begun: at least one at each node. A node that has the model loaded gets some
/// more than the other one.
fn begin_at_both(address: SocketAddr) -> Vec<(BufReader<TcpStream>, String)> {
    let mut streams: Vec<(BufReader<TcpStream>, String)> = Vec::new();
    let at = |streams: &[(_, String)], node: &str| {
        let mut begun = streams.iter();
        begun.any(|(_, begun): &(_, String)| begun.contains(node))
    };
    while !at(&streams, "gpu@1;") || !at(&streams, "gpu@2;") {
        assert!(streams.len() < 20, "one node gets no requests");
        streams.push(begin(address));
    }
    streams
}

/// The status and the JSON of a request of the admin API.
fn admin(address: SocketAddr, line: &str, body: &Value) -> (u16, Value) {
    let answer = rest(send(address, line, body));
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).expect(&answer))
}

/// The states of the nodes, by their places.
fn states(address: SocketAddr) -> Vec<(String, String)> {
    let (status, list) = admin(address, "GET /admin/nodes", &Value::Null);
    assert_eq!(status, 200, "{list}");
    let nodes = list["data"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    nodes
        .map(|node| (text(&node["place"]), text(&node["state"])))
        .collect()
}

fn state(node: &Ollama, state: &str) -> (String, String) {
    (node.url(), state.to_owned())
}

fn id(address: SocketAddr, node: &Ollama) -> String {
    let (_, list) = admin(address, "GET /admin/nodes", &Value::Null);
    let mut nodes = list["data"].as_array().unwrap().iter();
    let found = nodes.find(|found| found["place"] == node.url()).unwrap();
    found["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_node_that_is_drained_ends_its_streams_and_gets_no_more() {
    let (first, second) = (node(), node());
    let served = serve(program(), &[&first]);
    let address = served.address;
    let url = json!({"backend": "gpu", "url": second.url()});
    let (status, added) = admin(address, "POST /admin/nodes", &url);
    assert_eq!(
        (
            status,
            &added["name"],
            &added["state"],
            &added["configured"]
        ),
        (200, &json!("2"), &json!("active"), &json!(false)),
        "{added}"
    );
    let (status, again) = admin(address, "POST /admin/nodes", &url);
    assert_eq!(
        (status, &again["error"]["code"]),
        (409, &json!("node_exists"))
    );

    let streams = begin_at_both(address);
    let line = format!("POST /admin/nodes/{}/drain", id(address, &second));
    let (status, drained) = admin(address, &line, &Value::Null);
    assert_eq!(
        (status, &drained["state"]),
        (200, &json!("draining")),
        "{drained}"
    );
    first.go_on.add_permits(1000);
    for _ in 0..5 {
        let answer = ask(address);
        assert!(answer.contains("served-by: gpu@1;"), "{answer}");
    }
    assert_eq!(
        states(address),
        [state(&first, "active"), state(&second, "draining")]
    );
    second.go_on.add_permits(1000);
    for (stream, _) in streams {
        let rest = rest(stream);
        assert!(
            rest.contains("[DONE]") && !rest.contains("\"error\""),
            "{rest}"
        );
    }
    eventually("it is gone", || {
        states(address) == [state(&first, "active")]
    });

    // A node of the configuration stays in the list, and is used again when it is added.
    let line = format!("POST /admin/nodes/{}/drain", id(address, &first));
    admin(address, &line, &Value::Null);
    assert_eq!(states(address), [state(&first, "drained")]);
    let refused = ask(address);
    assert!(refused.starts_with("HTTP/1.1 502"), "{refused}");
    let url = json!({"backend": "gpu", "url": first.url()});
    assert_eq!(admin(address, "POST /admin/nodes", &url).0, 200);
    assert!(ask(address).contains("served-by: gpu@1;"));
}

#[test]
fn a_node_that_is_removed_ends_its_streams_with_an_error_and_other_requests_survive() {
    let (first, second) = (node(), node());
    let served = serve(program(), &[&first, &second]);
    let address = served.address;
    let begun = begin_at_both(address);
    for node in [&first, &second] {
        node.begin.forget_permits(2000);
        assert_eq!(node.begin.available_permits(), 0);
    }
    // They wait for their first token, some at each node.
    let chats = |node: &Ollama| node.chats.load(Ordering::SeqCst);
    let before = [chats(&first), chats(&second)];
    let asked: Vec<_> = (0..20)
        .map(|number| send(address, "POST /v1/chat/completions", &chat(number % 2 == 0)))
        .collect();
    let all = before[0] + before[1] + asked.len();
    eventually("all are asked", || chats(&first) + chats(&second) == all);
    let moved = chats(&second) - before[1];
    assert!(moved > 0, "some at each node");
    let total = chats(&first) + moved;
    let line = format!("DELETE /admin/nodes/{}", id(address, &second));
    let (status, deleted) = admin(address, &line, &Value::Null);
    assert_eq!(
        (status, &deleted["deleted"]),
        (200, &json!(true)),
        "{deleted}"
    );
    eventually("they are asked again", || chats(&first) == total);
    first.begin.add_permits(1000);
    first.go_on.add_permits(1000);
    for answer in asked {
        let answer = rest(answer);
        assert!(
            answer.contains("served-by: gpu@1;") && !answer.contains("error"),
            "{answer}"
        );
    }
    for (stream, begun) in begun {
        let rest = rest(stream);
        if begun.contains("gpu@2") {
            assert!(
                rest.contains("the operator removed the node") && !rest.contains("[DONE]"),
                "{rest}"
            );
        } else {
            assert!(rest.contains("[DONE]"), "{rest}");
        }
    }
    assert_eq!(
        states(address),
        [state(&first, "active"), state(&second, "drained")]
    );
}

#[test]
fn changes_by_the_command_are_noticed_within_a_second_and_survive_a_restart() {
    let (first, second) = (node(), node());
    for node in [&first, &second] {
        node.go_on.add_permits(1000);
    }
    let served = serve(program(), &[&first]);
    let (address, second_url) = (served.address, second.url());
    let change = |words: &[&str]| {
        let run = served.program().run(words).succeeded();
        (run.out, Instant::now())
    };
    let (out, since) = change(&["nodes", "add", "gpu", &second_url]);
    assert_eq!(out, format!("added {second_url} to gpu\n"));
    let both = [state(&first, "active"), state(&second, "active")];
    eventually("it is added", || states(address) == both);
    assert!(since.elapsed() < Duration::from_secs(1), "{since:?}");
    let (_, since) = change(&["nodes", "drain", "gpu", &first.url()]);
    let other = [state(&second, "active"), state(&first, "drained")];
    eventually("it is drained", || states(address) == other);
    assert!(since.elapsed() < Duration::from_secs(1), "{since:?}");
    let (listed, _) = change(&["nodes", "list"]);
    let mut lines = [
        format!("gpu  {}  drained\n", first.url()),
        format!("gpu  {second_url}  added\n"),
    ];
    lines.sort();
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    for (listed, line) in listed.lines().zip(lines) {
        assert_eq!(
            listed.split_whitespace().collect::<Vec<_>>().join(" "),
            line
        );
    }

    let again = serve(served.end(), &[&first]);
    assert_eq!(states(again.address), other);
    for _ in 0..3 {
        let answer = ask(again.address);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let chats = |node: &Ollama| node.chats.load(Ordering::SeqCst);
    assert_eq!((chats(&first), chats(&second)), (0, 3));
}

#[test]
fn a_url_with_the_path_of_a_route_adds_the_node_that_the_answer_describes() {
    let (ollama, engine) = (node(), node());
    let arguments = [
        "--config",
        "loggia.toml",
        "--ollama",
        &format!("gpu={}", ollama.url()),
        "--openai",
        &format!("vllm={}/v1", engine.url()),
    ];
    let served = Served::start(program(), &arguments);
    let address = served.address;
    for (at, (backend, path, place)) in [
        ("gpu", "", ""),
        ("gpu", "/", ""),
        ("gpu", "/v1", ""),
        ("gpu", "/v1/", ""),
        ("gpu", "/api", ""),
        ("vllm", "", ""),
        ("vllm", "/", ""),
        ("vllm", "/v1", "/v1"),
        ("vllm", "/v1/", "/v1"),
        ("vllm", "/v1/chat/completions", "/v1"),
    ]
    .into_iter()
    .enumerate()
    {
        // Nothing answers there.
        let base = format!("http://127.0.0.1:{}", at + 1);
        let add = json!({"backend": backend, "url": format!("{base}{path}")});
        let (status, added) = admin(address, "POST /admin/nodes", &add);
        assert_eq!(
            (status, &added["place"], &added["state"]),
            (200, &json!(format!("{base}{place}")), &json!("active")),
            "{add}: {added}"
        );
        let id = added["id"].as_str().unwrap();
        let (status, found) = admin(address, &format!("GET /admin/nodes/{id}"), &Value::Null);
        assert_eq!((status, &found["place"]), (200, &added["place"]), "{found}");
        let line = format!("POST /admin/nodes/{id}/drain");
        let (status, drained) = admin(address, &line, &Value::Null);
        assert_eq!((status, &drained["id"]), (200, &added["id"]), "{drained}");
    }
}

#[test]
fn mistakes_about_nodes_are_named_and_others_may_not_change_them() {
    let first = node();
    let served = serve(program(), &[&first]);
    let address = served.address;
    for (body, status, code) in [
        (
            json!({"backend": "none", "url": "http://a"}),
            400,
            "not_found",
        ),
        (
            json!({"backend": "gpu", "url": "a:1"}),
            400,
            "invalid_value",
        ),
        (
            json!({"backend": "gpu", "url": "dns+http://a"}),
            400,
            "invalid_value",
        ),
    ] {
        let (found, answer) = admin(address, "POST /admin/nodes", &body);
        assert_eq!(
            (found, &answer["error"]["code"]),
            (status, &json!(code)),
            "{answer}"
        );
    }
    for line in [
        "GET /admin/nodes/node_0",
        "DELETE /admin/nodes/node_0",
        "POST /admin/nodes/node_0/drain",
    ] {
        assert_eq!(admin(address, line, &Value::Null).0, 404, "{line}");
    }
    assert_eq!(admin(address, "DELETE /admin/nodes", &Value::Null).0, 405);
    let (status, _) = served.ask("GET", "/admin/nodes", "");
    assert_eq!(status, 401);
}
