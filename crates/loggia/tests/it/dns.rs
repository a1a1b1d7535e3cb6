//! A backend whose nodes are the addresses of a DNS name, with a DNS server of the test. The program
//! runs with a `/etc/resolv.conf` of its own, for which it needs a mount namespace: without root, the
//! test does nothing.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::ollama::{MODEL, Ollama};
use crate::support::request::{rest, send};
use crate::support::served::Served;
use crate::support::{Program, eventually};

/// The address of the DNS server: the resolver of the system asks port 53.
const DNS: Ipv4Addr = Ipv4Addr::new(127, 53, 17, 3);

/// The code of an answer without an error, and that of a server that fails.
const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;

/// A DNS server with the addresses of one name.
#[derive(Clone)]
struct Dns {
    addresses: Arc<Mutex<Vec<Ipv4Addr>>>,
    code: Arc<AtomicU8>,
}

impl Dns {
    /// `None` if the port cannot be used.
    fn start() -> Option<Self> {
        let socket = UdpSocket::bind((DNS, 53)).ok()?;
        let dns = Self {
            addresses: Arc::default(),
            code: Arc::default(),
        };
        let answering = dns.clone();
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let answer = answering.answer(&question[..length]);
                socket.send_to(&answer, from).unwrap();
            }
        });
        Some(dns)
    }

    /// The answer to a query with one question (RFC 1035, section 4).
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let code = self.code.load(Ordering::SeqCst);
        // The name ends with an empty label; type and class follow.
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let is_ipv4 = query[end - 4..end - 2] == [0, 1];
        let addresses = self.addresses.lock().unwrap();
        let found = addresses.iter().filter(|_| is_ipv4 && code == NO_ERROR);
        let found: Vec<_> = found.collect();
        let mut answer = query[..2].to_vec();
        let number = u8::try_from(found.len()).unwrap();
        answer.extend([0x81, 0x80 | code, 0, 1, 0, number, 0, 0, 0, 0]);
        answer.extend(&query[12..end]);
        for address in found {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(address.octets());
        }
        answer
    }

    fn set(&self, last: &[u8]) {
        let addresses = last.iter().map(|last| Ipv4Addr::new(127, 0, 0, *last));
        *self.addresses.lock().unwrap() = addresses.collect();
    }
}

fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "true"]).status();
    tried.is_ok_and(|status| status.success())
}

fn ask(address: SocketAddr) -> String {
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    rest(send(address, "POST /v1/chat/completions", "", &chat))
}

fn metrics(address: SocketAddr) -> String {
    rest(send(address, "GET /metrics", "", &Value::Null))
}

#[test]
fn the_addresses_of_a_name_are_nodes_that_come_and_go() {
    let (true, Some(dns)) = (may_mount(), Dns::start()) else {
        eprintln!("skipped: it needs root");
        return;
    };
    let first = Ollama::start_at("127.0.0.2:0".parse().unwrap());
    let port = first.address.port();
    let second = Ollama::start_at(SocketAddr::new("127.0.0.3".parse().unwrap(), port));
    for node in [&first, &second] {
        node.go_on.add_permits(1000);
    }
    let chats = |node: &Ollama| node.chats.load(Ordering::SeqCst);
    dns.set(&[2]);
    let program = Program::new();
    program.write(
        "resolv.conf",
        format!("nameserver {DNS}\noptions timeout:1 attempts:1\n"),
    );
    let program = program.in_namespace("mount --bind resolv.conf /etc/resolv.conf");
    let url = format!("gpu=dns+http://ollama.loggia.test:{port}");
    let served = Served::start(program, &["--ollama", &url, "--dns-refresh", "100ms"]);
    let address = served.address;
    let has = |line: &str| metrics(address).contains(line);
    assert!(ask(address).contains("served-by: gpu@1;"));
    assert!(has("loggia_dns_addresses{host=\"ollama.loggia.test\"} 1\n"));

    dns.set(&[2, 3]);
    eventually("the second address is a node", || {
        has("loggia_node_up{backend=\"gpu\",node=\"2\"} 1\n")
    });

    // A failure changes nothing.
    dns.code.store(SERVER_FAILURE, Ordering::SeqCst);
    eventually("the failure is counted", || {
        has("loggia_dns_up{host=\"ollama.loggia.test\"} 0\n")
    });
    for _ in 0..6 {
        assert!(ask(address).starts_with("HTTP/1.1 200"));
    }
    for node in ["1", "2"] {
        assert!(has(&format!(
            "loggia_node_up{{backend=\"gpu\",node=\"{node}\"}} 1\n"
        )));
    }
    dns.code.store(NO_ERROR, Ordering::SeqCst);

    dns.set(&[3]);
    eventually("the first address is gone", || {
        has("loggia_dns_addresses{host=\"ollama.loggia.test\"} 1\n")
            && !has("loggia_node_up{backend=\"gpu\",node=\"1\"}")
    });
    let before = chats(&first);
    assert_eq!(chats(&second), 0);
    for _ in 0..6 {
        assert!(ask(address).contains("served-by: gpu@2;"));
    }
    assert_eq!((chats(&first), chats(&second)), (before, 6));
}
